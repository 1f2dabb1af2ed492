"""Alarms as TMF642 has them, and how one is raised, changed and cleared. Owns ids and the words of X.733.

Two sorts never share a list: live alarms say what is wrong now (`@type` Alarm), predicted ones what a run
says would be (`@type` NdtPredictedAlarm). Ids are digits, as the document has integers, and the same
condition has the same id after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from domain_twin.errors import Conflict, NotFound, StaleVersion
from domain_twin.model import Nanoseconds
from federation.partners.measures import time_text
from federation.partners.record import Body, Kind, Record, Repository

__all__ = [
    "CLEARED", "LIVE", "PREDICTED", "alarm_id", "clear_alarm", "is_partners", "is_standing", "raise_alarm",
]  # fmt: skip

LIVE = "Alarm"
PREDICTED = "NdtPredictedAlarm"
CLEARED = "cleared"
_RAISED, _UPDATED = "raised", "updated"
_TRIES = 20
_TOLD = ("perceivedSeverity", "specificProblem", "proposedRepairedActions", "crossedThresholdInformation")
"""What makes an alarm another one than before."""


def alarm_id(*parts: str) -> str:
    """The id of a condition."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return str(int.from_bytes(digest[:7], "big") >> 3)


def is_standing(body: Body) -> bool:
    """Whether an alarm is not cleared."""
    return body.get("state") != CLEARED


def is_partners(tenant: str, body: Body) -> bool:
    """Whether the partner reported it; what the twin says names the twin as its reporter."""
    return body.get("reportingSystemId") == tenant


async def raise_alarm(repository: Repository, identity: str, condition: Body, now: Nanoseconds) -> None:
    """Have an alarm stand as `condition` says; one that stands so already stays as it is."""
    at = time_text(now)
    for _ in range(_TRIES):
        try:
            record = repository.get(Kind.ALARM, identity)
        except NotFound:
            body = {**_new(condition, at), "id": identity}
            try:
                await repository.create(Kind.ALARM, body)
            except Conflict:
                continue
            return
        if not is_standing(record.body):
            kept = {key: value for key, value in record.body.items() if key not in _OF_CLEARING}
            body = {**kept, **_new(condition, at), "alarmChangedTime": at}
        else:
            news = any(record.body.get(name) != condition.get(name) for name in _TOLD)
            same = {**record.body, **condition}
            body = {**same, "state": _UPDATED, "alarmChangedTime": at} if news else same
        if await _updated(repository, record, body):
            return


async def clear_alarm(
    repository: Repository, identity: str, now: Nanoseconds, more: Mapping[str, Any] | None = None
) -> bool:
    """Have an alarm be over; whether it stood. `more`: who cleared it."""
    at = time_text(now)
    for _ in range(_TRIES):
        try:
            record = repository.get(Kind.ALARM, identity)
        except NotFound:
            return False
        if not is_standing(record.body):
            return False
        body = {
            **record.body,
            "state": CLEARED,
            "perceivedSeverity": CLEARED,
            "alarmClearedTime": at,
            "alarmChangedTime": at,
            **(more or {}),
        }
        if await _updated(repository, record, body):
            return True
    return False


_OF_CLEARING = ("alarmClearedTime", "clearUserId", "clearSystemId", "ackUserId", "ackSystemId")


def _new(condition: Body, at: str) -> dict[str, Any]:
    return {
        "@type": LIVE,
        **condition,
        "state": _RAISED,
        "ackState": "unacknowledged",
        "alarmRaisedTime": at,
        "alarmReportingTime": at,
    }


async def _updated(repository: Repository, record: Record, body: Body) -> bool:
    try:
        await repository.update(record, body)
    except (StaleVersion, NotFound):
        return False
    return True
