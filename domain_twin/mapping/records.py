"""Changed leaves folded into records, one per list entry or container that a table knows. Owns no joins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain_twin.mapping.table import Kind, Row, Table
from domain_twin.model import UNITS, Change, Kpi
from domain_twin.yang.paths import parse_path, strip_keys


class RecordKey(NamedTuple):
    """Which record: its kind, the device that reports it, and its list keys."""

    kind: Kind
    device: str
    keys: tuple[str, ...]


@dataclass(slots=True)
class Record:
    """What a device said about one thing: attributes, and KPIs without their standard error."""

    attributes: dict[str, Any] = field(default_factory=dict)
    kpis: dict[str, Kpi] = field(default_factory=dict)


class Records:
    """All records of a domain. `unmapped` counts the values that a conversion refused."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._rows: dict[str, Row] = {row.path: row for table in tables for row in table}
        self._resolved: dict[str, tuple[Row, tuple[str, ...]] | None] = {}
        self.by_kind: dict[Kind, dict[RecordKey, Record]] = {kind: {} for kind in Kind}
        self.unmapped = 0

    def apply(self, changes: Iterable[Change]) -> tuple[set[RecordKey], bool]:
        """Fold changes in; the records whose KPIs changed, and whether anything but KPIs did."""
        touched: set[RecordKey] = set()
        structural = False
        for change in changes:
            try:
                resolved = self._resolved[change.path]
            except KeyError:
                resolved = self._resolved[change.path] = self._resolve(change.path)
            if resolved is None:
                continue
            row, keys = resolved
            key = RecordKey(row.kind, change.device, keys)
            records = self.by_kind[row.kind]
            record = records.get(key)
            if change.deleted:
                if record is not None:
                    structural |= self._forget(records, key, record, row)
                    touched.add(key)
                continue
            try:
                value = row.convert(change.value)
            except (ValueError, TypeError, ArithmeticError):
                self.unmapped += 1
                continue
            if record is None:
                record = records[key] = Record()
                structural = True
            if row.kpi:
                structural |= row.attribute not in record.kpis
                record.kpis[row.attribute] = Kpi(
                    row.attribute,
                    value,
                    UNITS[row.attribute],
                    0.0,
                    change.origin,
                    change.observed_at,
                    change.received_at,
                )
                touched.add(key)
            elif record.attributes.get(row.attribute, record) != value:
                record.attributes[row.attribute] = value
                touched.add(key)
                structural |= row.attribute != "samples"
        return touched, structural

    @staticmethod
    def _forget(records: dict[RecordKey, Record], key: RecordKey, record: Record, row: Row) -> bool:
        (record.kpis if row.kpi else record.attributes).pop(row.attribute, None)
        if not record.kpis and not record.attributes:
            del records[key]
        return True

    def _resolve(self, path: str) -> tuple[Row, tuple[str, ...]] | None:
        row = self._rows.get(strip_keys(path))
        if row is None:
            return None
        keys = tuple(value for step in parse_path(path) for _, value in step.keys)
        return row, keys
