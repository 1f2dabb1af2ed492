"""Dotted paths into a resource: which there are, and how the values at their ends compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twin_api.index import Key
from twin_api.tmf.shapes import ANY, Attribute, Basic, Shape, instant
from twin_api.tmf.table import Resource

__all__ = ["MAX_STEPS", "Path", "find", "number", "operands"]

MAX_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Path:
    """A path, and what stands at its end."""

    steps: tuple[str, ...]
    attribute: Attribute

    @property
    def comparable(self) -> bool:
        """Whether single values stand there, and no objects."""
        return self.attribute.basic is not None

    def read(self, value: Any) -> Key | None:
        """The key of a value at the end; None where it cannot be compared."""
        match value:
            case bool():
                return "true" if value else "false"
            case str():
                return instant(value) if self.attribute.basic is Basic.DATE else value
            case int() | float():
                return value
            case _:
                return None


def find(resource: Resource, shapes: Mapping[str, Shape], dotted: str) -> Path | None:
    """The path of a resource that is written so; None: it has no such attribute."""
    steps = tuple(dotted.split("."))
    if not all(steps) or len(steps) > MAX_STEPS:
        return None
    attribute: Attribute | None = resource.attribute(steps[0])
    for step in steps[1:]:
        if attribute is None:
            return None
        if attribute.basic is Basic.ANY:
            attribute = ANY
        elif attribute.basic is not None:
            return None
        else:
            attribute = shapes[attribute.shape].attributes.get(step)
    return None if attribute is None else Path(steps, attribute)


def number(text: str) -> int | float | None:
    """A number that is written so; None: it is none."""
    if len(text) > 40:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None


def operands(path: Path, text: str) -> tuple[Key, ...]:
    """What a text of a query may mean at a path. Raises ValueError, in words, where it means nothing."""
    match path.attribute.basic:
        case Basic.DATE:
            when = instant(text)
            if when is None and " " in text:
                when = instant(text.replace(" ", "+"))  # a plus that nobody percent-encoded
            if when is None:
                raise ValueError("is compared with a date and time such as 2026-03-01T12:00:00Z")
            return (when,)
        case Basic.INT | Basic.NUMBER:
            value = number(text)
            if value is None:
                raise ValueError("is compared with a number")
            return (value,)
        case Basic.BOOL:
            if text not in ("true", "false"):
                raise ValueError("is compared with true or false")
            return (text,)
        case Basic.ANY:
            value = number(text)
            return (text,) if value is None else (text, value)
        case _:
            return (text,)
