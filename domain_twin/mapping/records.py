"""Changed leaves folded into records, one per list entry or container that a table knows. Owns no joins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain_twin.mapping.table import Kind, Row, Table
from domain_twin.model import UNITS, Change, Kpi
from domain_twin.yang.paths import parse_path, strip_keys

_CACHED_PATHS = 1_000_000  # beyond this a device is inventing paths, and the cache starts anew


class RecordKey(NamedTuple):
    """Which record: its kind, the device that reports it, and the keys it is known by."""

    kind: Kind
    device: str
    keys: tuple[str, ...]


@dataclass(slots=True)
class Record:
    """What a device said about one thing: attributes, and KPIs without their standard error."""

    attributes: dict[str, Any] = field(default_factory=dict)
    kpis: dict[str, Kpi] = field(default_factory=dict)
    said_by: dict[str, int] = field(default_factory=dict)
    """The rank of the row behind an attribute that several rows feed, while only one does."""
    rivals: dict[str, dict[int, Any]] = field(default_factory=dict)
    """What each row said of an attribute that several rows do feed, by the row's rank."""


class _Bound(NamedTuple):
    """A row in its place among all rows."""

    row: Row
    rank: int
    contested: bool  # other rows feed the same attribute
    positions: tuple[int, ...]  # of the record's keys among the path's


class Records:
    """All records of a domain."""

    def __init__(self, tables: Iterable[Table]) -> None:
        rows = [row for table in tables for row in table]
        feeds = [(row.kind, row.attribute) for row in rows]
        self._rows: dict[str, _Bound] = {}
        for rank, row in enumerate(rows):
            names = row.key_names
            positions = tuple(names.index(name) for name in (names if row.key is None else row.key))
            contested = feeds.count((row.kind, row.attribute)) > 1
            self._rows.setdefault(row.schema_path, _Bound(row, rank, contested, positions))
        self._resolved: dict[str, tuple[_Bound, tuple[str, ...]] | None] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._by_kind: dict[Kind, dict[RecordKey, Record]] = {kind: {} for kind in Kind}

    def get(self, key: RecordKey) -> Record | None:
        """The record of that key; None: there is none (any more)."""
        return self._by_kind[key.kind].get(key)

    def of(self, kind: Kind) -> Mapping[RecordKey, Record]:
        """All records of a kind."""
        return self._by_kind[kind]

    @property
    def refused(self) -> Mapping[tuple[str, str], str]:
        """Why a conversion refused the value of (device, path); the attribute counts as not reported."""
        return self._refused

    def apply(self, changes: Iterable[Change]) -> tuple[set[RecordKey], set[RecordKey]]:
        """Fold changes in; the records that came, went or changed, and those of which only KPIs changed."""
        touched: set[RecordKey] = set()
        figures: set[RecordKey] = set()
        for change in changes:
            try:
                resolved = self._resolved[change.path]
            except KeyError:
                resolved = self._resolve(change.path)
            if resolved is None:
                continue
            bound, keys = resolved
            row = bound.row
            key = RecordKey(row.kind, change.device, keys)
            value: Any = None
            gone = change.deleted
            if not gone:
                try:
                    value = row.convert(change.value)
                except (ValueError, TypeError, ArithmeticError) as error:
                    self._refused[change.device, change.path] = str(error)
                    touched.add(key)
                    gone = True
                else:
                    if row.kpi:
                        value = _kpi(row, value, change)
            if (
                self._refused
                and (change.deleted or not gone)
                and self._refused.pop((change.device, change.path), "")
            ):
                touched.add(key)
            records = self._by_kind[row.kind]
            existed = key in records
            if self._put(key, bound, value, gone):
                figure = row.kpi or row.attribute == "samples" or row.kind is Kind.COUNTERS
                (figures if figure and existed and key in records else touched).add(key)
        return touched, figures - touched

    def _put(self, key: RecordKey, bound: _Bound, value: Any, gone: bool) -> bool:
        """Set or remove what one row says of a record; whether that changed the record."""
        records = self._by_kind[key.kind]
        record = records.get(key)
        if record is None:
            if gone:
                return False
            record = records[key] = Record()
        name = bound.row.attribute
        said: dict[str, Any] = record.kpis if bound.row.kpi else record.attributes
        if bound.contested:
            value, gone = _weighed(record, said, bound, value, gone)
        if gone:
            changed = said.pop(name, None) is not None
            if not record.attributes and not record.kpis:
                del records[key]
            return changed
        if name in said and said[name] == value:
            return False
        said[name] = value
        return True

    def _resolve(self, path: str) -> tuple[_Bound, tuple[str, ...]] | None:
        if len(self._resolved) >= _CACHED_PATHS:
            self._resolved.clear()
        bound = self._rows.get(strip_keys(path))
        found: tuple[_Bound, tuple[str, ...]] | None = None
        if bound is not None:
            values = [value for step in parse_path(path) for _, value in step.keys]
            if len(values) == len(bound.row.key_names):
                found = bound, tuple(values[position] for position in bound.positions)
        self._resolved[path] = found
        return found


def _weighed(record: Record, said: dict[str, Any], bound: _Bound, value: Any, gone: bool) -> tuple[Any, bool]:
    """What holds of an attribute that several rows may feed: the word of the first row that has one."""
    name, rank = bound.row.attribute, bound.rank
    slots = record.rivals.get(name)
    if slots is None:
        first = record.said_by.get(name, rank)
        if first == rank:  # the only one so far, or still
            if gone:
                record.said_by.pop(name, None)
            else:
                record.said_by[name] = rank
            return value, gone
        if gone:
            return said[name], False  # took back what it never said
        slots = record.rivals[name] = {first: said[name]}
        del record.said_by[name]
    if gone:
        slots.pop(rank, None)
    else:
        slots[rank] = value
    if not slots:
        del record.rivals[name]
        return value, True
    return slots[min(slots)], False


def _kpi(row: Row, value: float, change: Change) -> Kpi:
    name = row.attribute
    times = (change.observed_at, change.received_at)
    return Kpi(name, value, UNITS[name], 0.0, change.origin, *times)
