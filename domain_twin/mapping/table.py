"""The form of a mapping table: which YANG path feeds which attribute of which element. Data, no behaviour.

A new vendor model is a new table in this form, and a test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from domain_twin.model import UNITS, Value

_KEY = re.compile(r"\[([^\]]*)\]")


class Kind(StrEnum):
    """What a record of the mapping describes. Joined into the elements of the network model by `mapper`."""

    INTERFACE = "interface"  # key: its name
    NODE = "node"  # last key: node-id
    TERMINATION_POINT = "termination-point"  # last keys: node-id, tp-id
    LINK = "link"  # last key: link-id
    LINK_FIGURES = "link figures"  # key: link-id, or inter-domain-link-id at a border
    GNB = "gnb"
    CELL = "cell"  # any keys: told apart by them, named by its attribute `id`
    FUNCTION = "network-function"  # likewise
    HOST = "host"  # likewise
    APPLICATION = "application"  # last key: its name
    COUNTERS = "counters"  # key: the interface's name; read as figures, which come and go without notice
    SYSTEM = "system"  # the device itself
    COMPONENT = "component"  # a part of the device
    NEIGHBOUR = "neighbour"  # keys: interface, an id of the neighbour there
    ALARM = "alarm"  # keys: resource, alarm-type-id, alarm-type-qualifier


KEYS: Mapping[Kind, tuple[int, int]] = MappingProxyType(
    {
        Kind.INTERFACE: (1, 1),
        Kind.NODE: (1, 9),
        Kind.TERMINATION_POINT: (2, 9),
        Kind.LINK: (1, 9),
        Kind.LINK_FIGURES: (1, 1),
        Kind.APPLICATION: (1, 9),
        Kind.COUNTERS: (1, 1),
        Kind.SYSTEM: (0, 0),
        Kind.COMPONENT: (1, 1),
        Kind.NEIGHBOUR: (2, 2),
        Kind.ALARM: (3, 3),
    }
)
"""How many keys a record of each kind needs; kinds left out take any number."""


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf's way into the model. `path` names its lists' keys in their order: `/m:list[key]/leaf`.

    The record that the leaf belongs to is known by the values of `key`, by default all keys of the path.
    `convert` makes the attribute's value, in its unit, of the leaf's; it may raise ValueError, TypeError or
    ArithmeticError. A `kpi` row feeds the element's KPI of that name, others the attribute. Where several
    rows feed one attribute of one record, the first row in the order of the tables wins.
    """

    path: str
    kind: Kind
    attribute: str
    convert: Callable[[Any], Any]
    kpi: bool = False
    key: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        names = self.key_names
        missing = [name for name in self.key or () if name not in names]
        least, most = KEYS.get(self.kind, (0, 9))
        if missing or not least <= len(names if self.key is None else self.key) <= most:
            raise ValueError(
                f"mapping row {self.path}: a {self.kind.value} is known by {least} to {most} keys, and the"
                f" path has {', '.join(names) or 'none'}; write keys as /list[name]/ and choose with key=(…)"
            )

    @property
    def unit(self) -> str:
        """Unit of the KPI; empty for an attribute."""
        return UNITS[self.attribute] if self.kpi else ""

    @property
    def schema_path(self) -> str:
        """The path of the leaf's schema node."""
        return _KEY.sub("", self.path)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the keys that the path holds, in order."""
        return tuple(_KEY.findall(self.path))


Table = tuple[Row, ...]
Feed = tuple[str, str, Callable[[Any], Any]]
"""Path below a base, attribute or KPI, conversion."""


def attributes(base: str, kind: Kind, rows: Iterable[Feed], *, key: tuple[str, ...] | None = None) -> Table:
    """Rows that feed attributes."""
    return tuple(Row(f"{base}/{leaf}", kind, name, convert, key=key) for leaf, name, convert in rows)


def figures(base: str, kind: Kind, rows: Iterable[Feed], *, key: tuple[str, ...] | None = None) -> Table:
    """Rows that feed KPIs."""
    return tuple(Row(f"{base}/{leaf}", kind, name, convert, True, key) for leaf, name, convert in rows)


# --- conversions ------------------------------------------------------------------------------------


def text(value: Value) -> str:
    """As it is."""
    return str(value)


def number(value: Value) -> int:
    """A whole number."""
    if not isinstance(value, int | Decimal) or value != int(value):
        raise TypeError(f"{value!r} is not a whole number")
    return int(value)


def real(value: Value) -> float:
    """A number in the unit it comes in."""
    return _scaled(value, 1)


def flag(value: Value) -> bool:
    """A YANG boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not a boolean")
    return value


def texts(value: Value) -> tuple[str, ...]:
    """A leaf-list of texts."""
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def is_word(word: str) -> Callable[[Value], bool]:
    """Whether an enumeration has this value."""

    def convert(value: Value) -> bool:
        return value == word

    convert.__doc__ = f"Whether it is {word}."
    return convert


def micro_to_milli(value: Value) -> float:
    """Microseconds to milliseconds."""
    return _scaled(value, 1_000)


def micro2_to_milli2(value: Value) -> float:
    """Square microseconds to square milliseconds."""
    return _scaled(value, 1_000_000)


def bits_to_megabits(value: Value) -> float:
    """bit/s to Mbit/s."""
    return _scaled(value, 1_000_000)


def _scaled(value: Value, divisor: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a number")
    return float(value / divisor)
