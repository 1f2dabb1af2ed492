"""The events that changes of records are: their names as the TM Forum documents have them, and their rows."""

from __future__ import annotations

from dataclasses import dataclass

from domain_twin.model import Nanoseconds
from federation.partners.record import Body, Kind

__all__ = ["OutboxRow", "event_type"]

_SILENT = frozenset({Kind.HUB, Kind.USE, Kind.SIGNING_KEY, Kind.IMPORT_JOB, Kind.EXPORT_JOB})
_CATALOGUE = frozenset(
    {
        Kind.SERVICE_CATALOG,
        Kind.SERVICE_CATEGORY,
        Kind.SERVICE_CANDIDATE,
        Kind.SERVICE_SPECIFICATION,
    }
)  # TMF633 knows one event for every change
_STATELESS = frozenset({Kind.SERVICE_TEST_SPECIFICATION})
_ALARM_TASKS = frozenset(
    {
        Kind.ACK_ALARM,
        Kind.UN_ACK_ALARM,
        Kind.CLEAR_ALARM,
        Kind.COMMENT_ALARM,
        Kind.GROUP_ALARM,
        Kind.UN_GROUP_ALARM,
    }
)  # TMF642 names their events in the plural
_STATES = {Kind.RESOURCE: ("resourceStatus", "operationalState", "administrativeState", "usageState")}


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event, as its change wrote it. `body` is the record at that time, the last one where it is gone."""

    sequence: int
    tenant: str
    kind: Kind
    id: str
    event_type: str
    at: Nanoseconds
    body: Body


def event_type(kind: Kind, before: Body, after: Body) -> str:
    """The event of a change; `before` is empty where there was none, `after` where it is gone. "": none."""
    if kind in _SILENT:
        return ""
    name = kind[0].upper() + kind[1:] + ("s" if kind in _ALARM_TASKS else "")
    if not before:
        return f"{name}CreateEvent"
    if not after:
        return f"{name}DeleteEvent"
    if kind in _CATALOGUE:
        return f"{name}ChangeEvent"
    words = _STATES.get(kind, ("state",))
    if kind not in _STATELESS and any(before.get(word) != after.get(word) for word in words):
        return f"{name}StateChangeEvent"
    return f"{name}AttributeValueChangeEvent"
