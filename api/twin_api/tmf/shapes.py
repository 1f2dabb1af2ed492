"""Shapes of JSON objects as TM Forum's documents have them, and whether a value has one. Data, no HTTP.

A shape is written as a line of words: `name` is text, `name=date`, `=bool`, `=int`, `=number`, `=any`,
`=url`, `=Shape`, `=Enumeration`; `name!` is mandatory, `name=Shape[]` a list. Every object may also hold what
`EVERYWHERE` names. The shapes themselves are in `shapes_data.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "ANY",
    "EVERYWHERE",
    "TEXT",
    "Attribute",
    "Basic",
    "Shape",
    "Unfit",
    "check",
    "instant",
    "read_shape",
]

EVERYWHERE: Final = ("@type", "@baseType", "@schemaLocation", "@referredType")
MAX_TEXT: Final = 65_536
_DATE = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII)
_WORD = re.compile(r"(@?\w+)(\[\])?(!)?(?:=([\w]+)(\[\])?)?(!)?")


class Basic(StrEnum):
    """What a single value may be."""

    TEXT = "text"
    DATE = "date"  # RFC 3339; a date alone is its midnight in UTC
    BOOL = "bool"
    INT = "int"
    NUMBER = "number"
    URL = "url"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a shape: what it holds, whether it must be there."""

    basic: Basic | None = None
    shape: str = ""  # of an object, when basic is None
    values: tuple[str, ...] = ()  # of an enumeration
    many: bool = False
    mandatory: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The attributes of an object, by name."""

    name: str
    attributes: Mapping[str, Attribute]
    filled: Mapping[str, str]
    """What the server adds where a client leaves it out."""


TEXT: Final = Attribute(Basic.TEXT)
ANY: Final = Attribute(Basic.ANY)


class Unfit(ValueError):
    """A value that does not have its shape: `path` says where, `code` what kind of mistake."""

    def __init__(self, code: str, path: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.path = path


def read_shape(
    name: str, words: str, enumerations: Mapping[str, tuple[str, ...]], filled: Mapping[str, str]
) -> Shape:
    """A shape from its line of words."""
    attributes = dict.fromkeys(EVERYWHERE, TEXT)
    for word in words.split():
        found = _WORD.fullmatch(word)
        if found is None:
            raise ValueError(f"shape {name}: {word!r} is not an attribute")
        attribute, many, must, kind, many_too, must_too = found.groups()
        basic, values, shape = _kind(kind or "text", enumerations)
        attributes[attribute] = Attribute(
            basic, shape, values, bool(many or many_too), bool(must or must_too)
        )
    return Shape(name, attributes, filled)


def _kind(
    word: str, enumerations: Mapping[str, tuple[str, ...]]
) -> tuple[Basic | None, tuple[str, ...], str]:
    if word in enumerations:
        return Basic.TEXT, enumerations[word], ""
    if word in set(Basic):
        return Basic(word), (), ""
    return None, (), word


def instant(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 date, or a date alone; None for anything else."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper().replace(",", "."))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check(shapes: Mapping[str, Shape], attribute: Attribute, value: Any, path: str) -> Any:
    """The value, with what the server fills in. Raises Unfit where it does not have the attribute's shape."""
    if attribute.many:
        if not isinstance(value, list):
            raise Unfit("wrongType", path, f"{path} must be a list")
        single = Attribute(attribute.basic, attribute.shape, attribute.values)
        return [check(shapes, single, each, f"{path}[{at}]") for at, each in enumerate(value)]
    if attribute.basic is None:
        return check_object(shapes, shapes[attribute.shape], value, path)
    _CHECKS[attribute.basic](value, path)
    if attribute.values and value not in attribute.values:
        raise Unfit("wrongValue", path, f"{path} must be one of {', '.join(attribute.values)}")
    return value


def check_object(shapes: Mapping[str, Shape], shape: Shape, value: Any, path: str) -> dict[str, Any]:
    """An object of a shape, with what the server fills in. Raises Unfit."""
    if not isinstance(value, dict):
        raise Unfit("wrongType", path, f"{path} must be an object")
    held: dict[str, Any] = {}
    for name, each in value.items():
        at = f"{path}.{name}" if path else name
        attribute = shape.attributes.get(name)
        if attribute is None:
            raise Unfit("unknownAttribute", at, f"{at[:200]} is not an attribute of {shape.name}")
        held[name] = check(shapes, attribute, each, at)
    for name, attribute in shape.attributes.items():
        if attribute.mandatory and name not in held:
            at = f"{path}.{name}" if path else name
            raise Unfit("missingAttribute", at, f"{at} is missing and mandatory")
    for name, text in shape.filled.items():
        held.setdefault(name, text)
    return held


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise Unfit("wrongType", path, f"{path} must be text")
    if len(value) > MAX_TEXT:
        raise Unfit("tooLong", path, f"{path} has {len(value)} characters; {MAX_TEXT} are accepted")


def _date(value: Any, path: str) -> None:
    if not isinstance(value, str) or instant(value) is None:
        raise Unfit("wrongDate", path, f"{path} must be a date and time such as 2026-03-01T12:00:00Z")


def _bool(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise Unfit("wrongType", path, f"{path} must be true or false")


def _int(value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit("wrongType", path, f"{path} must be a whole number")


def _number(value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unfit("wrongType", path, f"{path} must be a number")


def _url(value: Any, path: str) -> None:
    _text(value, path)
    if not value or len(value) > 2048 or any(c.isspace() or c in '<>"{}|\\^`' for c in value):
        raise Unfit("wrongValue", path, f"{path} must be a URI without spaces, of at most 2048 characters")


def _any(value: Any, path: str) -> None:
    """Whatever JSON can say."""


_CHECKS: Final = {
    Basic.TEXT: _text,
    Basic.DATE: _date,
    Basic.BOOL: _bool,
    Basic.INT: _int,
    Basic.NUMBER: _number,
    Basic.URL: _url,
    Basic.ANY: _any,
}
