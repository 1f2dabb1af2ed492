"""What is wrong with a domain's devices: their own alarms (RFC 8632), and states that are alarms by nature.

A device that keeps an alarm list is believed. For one that does not, an interface, cell, function or host
that is permitted to work and does not is an alarm (`fedtwin-alarms`); where the device reports an alarm of
the same element, that one stands alone. Owns the table and the joins; the life cycle is `alarms.book`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from domain_twin.mapping import core, edge, ietf, ran
from domain_twin.mapping.records import Record, RecordKey, Records
from domain_twin.mapping.table import Kind, Table, attributes, flag, text
from domain_twin.model import AlarmKey, Change, Condition, Nanoseconds, PerceivedSeverity, Value
from domain_twin.yang.paths import quote

__all__ = ["TABLE", "DeviceAlarms"]


def nanoseconds(value: Value) -> Nanoseconds:
    """A date-and-time (RFC 6991)."""
    at = datetime.fromisoformat(str(value))
    if at.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000


def severity(value: Value) -> PerceivedSeverity:
    """A severity of RFC 8632."""
    return PerceivedSeverity(str(value))


TABLE: Table = attributes(
    "/ietf-alarms:alarms/alarm-list/alarm[resource][alarm-type-id][alarm-type-qualifier]",
    Kind.ALARM,
    [
        ("is-cleared", "is_cleared", flag),
        ("last-raised", "raised_at", nanoseconds),
        ("perceived-severity", "severity", severity),
        ("alarm-text", "text", text),
    ],
)

_NAMES: dict[Kind, str] = {
    Kind.CELL: "cell-out-of-service",
    Kind.FUNCTION: "function-out-of-service",
    Kind.HOST: "host-out-of-service",
}
_CELL_PATH = "/fedtwin-ran:gnb/NRCellDU[cellLocalId={}]"
_PATHS: dict[Kind, str] = {
    Kind.FUNCTION: "/fedtwin-core:network-function",
    Kind.HOST: "/fedtwin-edge:edge-host",
}
_STATES = {"id", "interface", "enabled", "oper_up", "unlocked", "operational"}


class DeviceAlarms:
    """What is wrong with each device of a domain, kept up with the datastore."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        states = (row for table in (ietf.TABLE, ran.TABLE, core.TABLE, edge.TABLE) for row in table)
        kept = tuple(row for row in states if not row.kpi and row.attribute in _STATES)
        self._records = Records([TABLE, kept])
        self._by_device: dict[str, dict[Kind, set[RecordKey]]] = {}

    def apply(self, changes: Iterable[Change]) -> set[str]:
        """Fold changes in; the devices of which something may have gone wrong or right."""
        touched, _ = self._records.apply(changes)
        for key in touched:
            kinds = self._by_device.setdefault(key.device, {})
            if self._records.get(key) is None:
                kinds.get(key.kind, set()).discard(key)
            else:
                kinds.setdefault(key.kind, set()).add(key)
        return {key.device for key in touched}

    def conditions(self, device: str) -> list[Condition]:
        """All that is wrong with a device now."""
        elements = dict(self._elements(device))
        own = [
            self._own(key, record, elements)
            for key, record in self._of(device, Kind.ALARM)
            if record.attributes.get("is_cleared") is False
        ]
        said = {condition.element for condition in own if condition.element}
        return own + [item for item in self._derived(device, elements) if item.element not in said]

    def _of(self, device: str, kind: Kind) -> Iterator[tuple[RecordKey, Record]]:
        for key in sorted(self._by_device.get(device, {}).get(kind, ())):
            record = self._records.get(key)
            if record is not None:
                yield key, record

    def _elements(self, device: str) -> Iterator[tuple[str, str]]:
        """Ids of elements of the network model by the path of the resource behind them."""
        for key, record in self._of(device, Kind.TERMINATION_POINT):
            if name := record.attributes.get("interface"):
                yield _interface(name), key.keys[-1]
        for key, record in self._of(device, Kind.CELL):
            yield _CELL_PATH.format(quote(key.keys[-1])), record.attributes.get("id", "")
        for kind, path in _PATHS.items():
            for _, record in self._of(device, kind):
                yield path, record.attributes.get("id", "")

    def _own(self, key: RecordKey, record: Record, elements: dict[str, str]) -> Condition:
        resource, alarm_type, qualifier = key.keys
        said = record.attributes
        return Condition(
            AlarmKey(self._domain, key.device, resource, alarm_type, qualifier),
            said.get("severity", PerceivedSeverity.INDETERMINATE),
            said.get("text", ""),
            element=elements.get(resource, ""),
            raised_at=said.get("raised_at", 0),
        )

    def _derived(self, device: str, elements: dict[str, str]) -> Iterator[Condition]:
        for resource, name, level, words in self._broken(device):
            key = AlarmKey(self._domain, device, resource, f"fedtwin-alarms:{name}")
            yield Condition(key, level, words, element=elements.get(resource, ""))

    def _broken(self, device: str) -> Iterator[tuple[str, str, PerceivedSeverity, str]]:
        """Resources that are permitted to work and do not: path, alarm type, severity, words."""
        for key, record in self._of(device, Kind.INTERFACE):
            said = record.attributes
            if said.get("enabled", True) and said.get("oper_up") is False:
                words = f"interface {key.keys[0]} is enabled and down"
                yield _interface(key.keys[0]), "interface-down", PerceivedSeverity.MAJOR, words
        for kind, name in _NAMES.items():
            for key, record in self._of(device, kind):
                said = record.attributes
                if said.get("unlocked", True) and said.get("operational") is False:
                    path = _CELL_PATH.format(quote(key.keys[-1])) if kind is Kind.CELL else _PATHS[kind]
                    words = f"{kind.value} {said.get('id', path)} is unlocked and does not operate"
                    yield path, name, PerceivedSeverity.CRITICAL, words


def _interface(name: str) -> str:
    return f"/ietf-interfaces:interfaces/interface[name={quote(name)}]"
