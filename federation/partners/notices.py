"""What an event looks like to a partner, and which events a subscription asks for. Pure.

A subscription's query is written as a list's filter (TMF630): `eventType=A,B&serviceOrder.state=completed`.
Different attributes are AND, values of one are OR. An attribute is one of the event, or of what lies in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from domain_twin.errors import ContractError
from domain_twin.model import Nanoseconds
from federation.partners.outbox import OutboxRow
from federation.partners.record import Kind

__all__ = ["PLACES", "Condition", "date_of", "listener_of", "matches", "notice", "read_query"]

MAX_QUERY: Final = 2000
MAX_CONDITIONS: Final = 32
MAX_VALUES: Final = 100
_NAME: Final = re.compile(r"[A-Za-z@][\w@.]{0,199}", re.ASCII)
_OPERATORS: Final = ("ne", "gt", "gte", "lt", "lte")

_CATALOGUE: Final = "serviceCatalogManagement"
_ORDERING: Final = "serviceOrdering"
_TESTS: Final = "serviceTestManagement"
_ALARMS: Final = "alarmManagement"
PLACES: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.SERVICE_CATALOG: (_CATALOGUE, "serviceCatalog"),
    Kind.SERVICE_CATEGORY: (_CATALOGUE, "serviceCategory"),
    Kind.SERVICE_CANDIDATE: (_CATALOGUE, "serviceCandidate"),
    Kind.SERVICE_SPECIFICATION: (_CATALOGUE, "serviceSpecification"),
    Kind.SERVICE_ORDER: (_ORDERING, "serviceOrder"),
    Kind.CANCEL_SERVICE_ORDER: (_ORDERING, "cancelServiceOrder"),
    Kind.SERVICE: ("serviceInventory", "service"),
    Kind.RESOURCE: ("resourceInventoryManagement", "resource"),
    Kind.SERVICE_TEST_SPECIFICATION: (_TESTS, "serviceTestSpecification"),
    Kind.SERVICE_TEST: (_TESTS, "serviceTest"),
    Kind.ALARM: (_ALARMS, "alarm"),
    Kind.ACK_ALARM: (_ALARMS, "ackAlarms"),
    Kind.UN_ACK_ALARM: (_ALARMS, "unAckAlarms"),
    Kind.CLEAR_ALARM: (_ALARMS, "clearAlarms"),
    Kind.COMMENT_ALARM: (_ALARMS, "commentAlarms"),
    Kind.GROUP_ALARM: (_ALARMS, "groupAlarms"),
    Kind.UN_GROUP_ALARM: (_ALARMS, "unGroupAlarms"),
}
"""Kinds that have events: the API whose hubs are told, and what the resource is called there."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One attribute of an event, and what it may be."""

    path: tuple[str, ...]
    operator: str  # empty: is one of the values
    values: tuple[str, ...]


def notice(row: OutboxRow, event_id: str, address: str) -> dict[str, Any]:
    """The document of an event (TMF630); `address`: of the API that the resource belongs to."""
    api, name = PLACES[row.kind]
    resource: dict[str, Any] = {"id": row.id}
    if address:
        resource["href"] = f"{address}/{name}/{quote(row.id, safe='')}"
    resource["@type"] = f"{name[0].upper()}{name[1:]}"
    resource.update((key, value) for key, value in row.body.items() if key not in ("id", "href"))
    return {
        "eventId": event_id,
        "eventTime": date_of(row.at),
        "eventType": row.event_type,
        "domain": api,
        "title": row.event_type,
        "event": {name: resource},
    }


def listener_of(event_type: str) -> str:
    """The last part of the path at which a partner takes events of a type."""
    return f"{event_type[0].lower()}{event_type[1:]}"


def date_of(at: Nanoseconds) -> str:
    """A moment as TM Forum writes it: RFC 3339, milliseconds, UTC."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_query(query: str) -> tuple[Condition, ...]:
    """The conditions of a subscription; empty: all events. Raises ContractError."""
    if len(query) > MAX_QUERY:
        raise ContractError(f"query: {len(query)} characters, {MAX_QUERY} at most")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=MAX_CONDITIONS
        )
    except ValueError:
        raise ContractError(
            f"query: at most {MAX_CONDITIONS} of attribute=value, joined by &, such as"
            " eventType=ServiceOrderStateChangeEvent&serviceOrder.state=completed"
        ) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if _NAME.fullmatch(name) is None or any(not part for part in name.split(".")):
            raise ContractError(f"query: {name[:100]!r} is not an attribute of an event")
        found.setdefault(name, []).extend(each.strip(" \"'") for each in re.split("[,;]", value))
    return tuple(_condition(name, values) for name, values in found.items())


def matches(conditions: Sequence[Condition], document: Mapping[str, Any]) -> bool:
    """Whether an event is one that a subscription asks for."""
    return all(_holds(condition, document) for condition in conditions)


def _condition(name: str, values: list[str]) -> Condition:
    if len(values) > MAX_VALUES:
        raise ContractError(f"query: {name} has {len(values)} values, {MAX_VALUES} at most")
    path = tuple(name.split("."))
    operator = path[-1] if len(path) > 1 and path[-1] in (*_OPERATORS, "eq", "regex") else ""
    if operator == "regex":
        raise ContractError(f"query: {name}: patterns are not matched here; {', '.join(_OPERATORS)} are")
    if operator:
        path = path[:-1]
    if path[0] in ("fields", "offset", "limit", "sort"):
        raise ContractError(f"query: {path[0]} is not for subscriptions; events are sent whole")
    return Condition(path, "" if operator == "eq" else operator, tuple(values))


def _holds(condition: Condition, document: Mapping[str, Any]) -> bool:
    path = condition.path
    root = document if path[0] in document else document.get("event", {})
    held = [_text(value) for value in _found(root, path)]
    if condition.operator == "ne":
        return not any(value in condition.values for value in held)
    if not condition.operator:
        return any(value in condition.values for value in held)
    return any(_compared(condition.operator, value, than) for value in held for than in condition.values)


def _found(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What lies at a path; of a list, in each of its elements."""
    if isinstance(value, list):
        for element in value:
            yield from _found(element, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _found(value[path[0]], path[1:])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _compared(operator: str, value: str, than: str) -> bool:
    left: float | str
    right: float | str
    try:
        left, right = float(value), float(than)
    except ValueError:
        left, right = value, than  # dates of one zone sort as text
    if operator == "gt":
        return left > right  # type: ignore[operator]  # both are of one type
    if operator == "gte":
        return left >= right  # type: ignore[operator]
    if operator == "lt":
        return left < right  # type: ignore[operator]
    return left <= right  # type: ignore[operator]
