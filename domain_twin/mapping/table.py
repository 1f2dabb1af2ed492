"""The form of a mapping table: which YANG path feeds which attribute of which element. Data, no behaviour.

A new vendor model is a new table in this form, and a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from domain_twin.model import UNITS, Value


class Kind(StrEnum):
    """What a record of the mapping describes. Joined into the elements of the network model by `mapper`."""

    INTERFACE = "interface"  # keys: name
    NODE = "node"  # keys: network-id, node-id
    TERMINATION_POINT = "termination-point"  # keys: network-id, node-id, tp-id
    LINK = "link"  # keys: network-id, link-id
    LINK_FIGURES = "link figures"  # keys: link-id, or inter-domain-link-id at a border
    GNB = "gnb"  # no keys: the device is one
    CELL = "cell"  # keys: cellLocalId
    FUNCTION = "network-function"  # no keys
    HOST = "host"  # no keys
    APPLICATION = "application"  # keys: name


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf's way into the model. `path` is canonical without list keys; keys come in the list's order.

    `convert` makes the attribute's value, in its unit, of the leaf's; it may raise ValueError or TypeError.
    A `kpi` row feeds the element's KPI of that name, others the attribute.
    """

    path: str
    kind: Kind
    attribute: str
    convert: Callable[[Any], Any]
    kpi: bool = False

    @property
    def unit(self) -> str:
        """Unit of the KPI; empty for an attribute."""
        return UNITS[self.attribute] if self.kpi else ""


Table = tuple[Row, ...]


def attributes(base: str, kind: Kind, rows: Iterable[tuple[str, str, Callable[[Any], Any]]]) -> Table:
    """Rows that feed attributes: (path below `base`, attribute, conversion)."""
    return tuple(Row(f"{base}/{leaf}", kind, name, convert) for leaf, name, convert in rows)


def figures(base: str, kind: Kind, rows: Iterable[tuple[str, str, Callable[[Any], Any]]]) -> Table:
    """Rows that feed KPIs: (path below `base`, KPI, conversion)."""
    return tuple(Row(f"{base}/{leaf}", kind, name, convert, kpi=True) for leaf, name, convert in rows)


# --- conversions ------------------------------------------------------------------------------------


def text(value: Value) -> str:
    """As it is."""
    return str(value)


def number(value: Value) -> int:
    """A whole number."""
    return int(value)  # type: ignore[arg-type]


def real(value: Value) -> float:
    """A number in the unit it comes in."""
    return float(value)  # type: ignore[arg-type]


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
    return lambda value: value == word


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
    return float(value / divisor) if isinstance(value, Decimal) else float(value) / divisor  # type: ignore[arg-type]
