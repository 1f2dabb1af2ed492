"""Desks of what is done to alarms (TMF642 tasks): acknowledge, comment, clear, group, and the reverse.

A task is done when it is answered, and says for which alarms. Patterns match as the document says: by all
attributes they name, any pattern is enough. One that names neither `id` nor `@type` means live alarms, so
that predicted ones are never swept along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from domain_twin.errors import Conflict, ContractError, NotFound, OverCapacity, StaleVersion
from domain_twin.model import Nanoseconds
from federation.partners.alarm_records import PREDICTED, clear_alarm, is_partners
from federation.partners.measures import time_text
from federation.partners.record import Body, Desk, Kind, Record, Repository

__all__ = ["AlarmTasks", "GroupTasks", "task_desks"]

DONE = "done"
_MOST_PATTERNS = 100
_MOST_COMMENTS = 100
_TRIES = 20
_SLICE_S = 0.005
"""So long looks at alarms without a break."""
_LISTS = {
    Kind.ACK_ALARM: "ackedAlarm",
    Kind.UN_ACK_ALARM: "unAckedAlarm",
    Kind.CLEAR_ALARM: "clearedAlarm",
    Kind.COMMENT_ALARM: "commentedAlarm",
}
_NEEDED: Mapping[Kind, tuple[str, ...]] = {
    Kind.ACK_ALARM: ("ackSystemId", "ackUserId"),
    Kind.UN_ACK_ALARM: ("ackSystemId", "ackUserId"),
    Kind.CLEAR_ALARM: ("clearSystemId", "clearUserId", "alarmClearedTime"),
    Kind.COMMENT_ALARM: ("comment",),
}
_TYPES = {
    Kind.ACK_ALARM: "AckAlarms",
    Kind.UN_ACK_ALARM: "UnAckAlarms",
    Kind.CLEAR_ALARM: "ClearAlarms",
    Kind.COMMENT_ALARM: "CommentAlarms",
    Kind.GROUP_ALARM: "GroupAlarms",
    Kind.UN_GROUP_ALARM: "UnGroupAlarms",
}

Change = Callable[[Body], Body | None]
"""An alarm as it is then; None: it stays as it is."""


def task_desks(clock: Callable[[], Nanoseconds] = time.time_ns) -> dict[Kind, Desk]:
    """A desk for each task."""
    desks: dict[Kind, Desk] = {kind: AlarmTasks(kind, clock) for kind in _LISTS}
    return desks | {kind: GroupTasks(kind, clock) for kind in (Kind.GROUP_ALARM, Kind.UN_GROUP_ALARM)}


class _Tasks:
    """What tasks have in common: none is ever open, and none changes."""

    def __init__(self, kind: Kind, clock: Callable[[], Nanoseconds] = time.time_ns) -> None:
        self._kind = kind
        self._clock = clock
        self._turns: dict[str, asyncio.Lock] = {}  # by tenant

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Raises Conflict."""
        raise Conflict(f"{self._kind} {record.id!r}: the task is done and does not change")

    async def remove(self, repository: Repository, record: Record) -> None:
        """Agree."""

    def kept(self, repository: Repository, record: Record) -> None:
        """Nothing follows."""

    async def run(self) -> None:
        """Nothing is ever open."""

    def _done(self, body: Body, **found: Any) -> Body:
        return {"@type": _TYPES[self._kind], **body, "state": DONE, **found}


class AlarmTasks(_Tasks):
    """Decides for one of: ackAlarm, unAckAlarm, clearAlarm, commentAlarm."""

    async def create(self, repository: Repository, body: Body) -> Body:
        """Do it. Raises ContractError, OverCapacity."""
        for name in _NEEDED[self._kind]:
            if not body.get(name):
                raise ContractError(f"{name}: is missing")
        patterns = _patterns(body)
        matching = await self._matching(repository, patterns)
        at = time_text(self._clock())
        if self._kind is Kind.CLEAR_ALARM:
            done = [record.id for record in matching if await self._clear(repository, record, body)]
            return self._done(body, clearedAlarm=[_ref(identity) for identity in done])
        change = self._change_of(body, at)
        done = [record.id for record in matching if await _changed(repository, record.id, change)]
        more = {} if self._kind is Kind.COMMENT_ALARM else {"ackTime": body.get("ackTime") or at}
        return self._done(body, **more, **{_LISTS[self._kind]: [_ref(identity) for identity in done]})

    async def _matching(self, repository: Repository, patterns: Sequence[Body]) -> list[Record]:
        """The alarms that a pattern means; a thousand alarms and a hundred patterns keep nobody waiting."""
        found: list[Record] = []
        async with self._turns.setdefault(repository.tenant, asyncio.Lock()):
            began = time.monotonic()
            for record in repository.list(Kind.ALARM):
                if any(_matches(record.body, pattern) for pattern in patterns):
                    found.append(record)
                if time.monotonic() - began > _SLICE_S:
                    await asyncio.sleep(0)
                    began = time.monotonic()
        return found

    async def _clear(self, repository: Repository, record: Record, body: Body) -> bool:
        """What the twin sees for itself only the twin clears."""
        if not is_partners(repository.tenant, record.body) and record.body.get("@type") != PREDICTED:
            return False
        who = {name: body[name] for name in ("clearSystemId", "clearUserId")}
        return await clear_alarm(repository, record.id, self._clock(), who)

    def _change_of(self, body: Body, at: str) -> Change:
        if self._kind is Kind.COMMENT_ALARM:
            comment = body["comment"]
            if not isinstance(comment, Mapping) or not comment.get("comment"):
                raise ContractError("comment.comment: is missing")

            def commented(alarm: Body) -> Body:
                before = alarm.get("comment") or []
                if len(before) >= _MOST_COMMENTS:
                    raise OverCapacity(
                        f"alarm {alarm.get('id')!r} has {len(before)} comments, as many as are kept"
                    )
                return {
                    **alarm,
                    "comment": [*before, {"time": at, **comment}],
                    "alarmChangedTime": at,
                }

            return commented
        state = "acknowledged" if self._kind is Kind.ACK_ALARM else "unacknowledged"

        def acknowledged(alarm: Body) -> Body:
            if alarm.get("ackState") == state:
                return alarm
            who = {name: body[name] for name in ("ackSystemId", "ackUserId")}
            return {**alarm, **who, "ackState": state, "alarmChangedTime": at}

        return acknowledged


class GroupTasks(_Tasks):
    """Decides for one of: groupAlarm, unGroupAlarm."""

    async def create(self, repository: Repository, body: Body) -> Body:
        """Do it. Raises ContractError."""
        for name in ("sourceSystemId", "alarmChangedTime"):
            if not body.get(name):
                raise ContractError(f"{name}: is missing")
        parent = _identity(body.get("parentAlarm"), "parentAlarm")
        items = body.get("correlatedAlarm")
        if not isinstance(items, list) or not 0 < len(items) <= _MOST_PATTERNS:
            raise ContractError(f"correlatedAlarm: must be a list of 1 to {_MOST_PATTERNS} alarms")
        children = [_identity(item, f"correlatedAlarm[{place}]") for place, item in enumerate(items)]
        for name, identity in [("parentAlarm", parent), *(("correlatedAlarm", child) for child in children)]:
            try:
                repository.get(Kind.ALARM, identity)
            except NotFound:
                raise ContractError(f"{name}: no alarm {identity[:80]!r} of yours is here") from None
        if parent in children:
            raise ContractError("correlatedAlarm: names the parent itself")
        joining = self._kind is Kind.GROUP_ALARM
        at = time_text(self._clock())
        done = []
        for child in children:
            if await _changed(repository, child, _linked("parentAlarm", parent, joining, at)):
                done.append(child)
            await _changed(repository, parent, _linked("correlatedAlarm", child, joining, at))
        name = "groupedAlarm" if joining else "unGroupedAlarm"
        return self._done(body, **{name: [_ref(identity) for identity in done]})


def _linked(name: str, identity: str, joining: bool, at: str) -> Change:
    def change(alarm: Body) -> Body | None:
        before = alarm.get(name) or []
        others = [item for item in before if str(item.get("id")) != identity]
        after = [*others, _ref(identity)] if joining else others
        if len(before) == len(after):
            return None
        return {**alarm, name: after, "alarmChangedTime": at}

    return change


async def _changed(repository: Repository, identity: str, change: Change) -> bool:
    """Change an alarm; whether there was anything to change."""
    for _ in range(_TRIES):
        try:
            record = repository.get(Kind.ALARM, identity)
            body = change(record.body)
            if body is None:
                return False
            await repository.update(record, body)
        except StaleVersion:
            continue
        except NotFound:
            return False
        return True
    return False


def _patterns(body: Body) -> Sequence[Body]:
    found = body.get("alarmPattern")
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_PATTERNS:
        raise ContractError(f"alarmPattern: must be a list of 1 to {_MOST_PATTERNS} patterns")
    for place, item in enumerate(found):
        if not isinstance(item, Mapping) or not set(item) - {"href"}:
            raise ContractError(
                f"alarmPattern[{place}]: names no attribute and would match every alarm; name some"
            )
    return found


def _matches(alarm: Body, pattern: Body) -> bool:
    if "id" not in pattern and "@type" not in pattern and alarm.get("@type") == PREDICTED:
        return False
    return all(_equal(alarm.get(name), value) for name, value in pattern.items() if name != "href")


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            _equal(found.get(key), item) for key, item in wanted.items() if key != "href"
        )
    if isinstance(found, str) and isinstance(wanted, int) and not isinstance(wanted, bool):
        return found == str(wanted)  # ids are integers in the document
    return bool(found == wanted)


def _ref(identity: str) -> Body:
    return {"id": identity, "@referredType": "Alarm"}


def _identity(found: Any, where: str) -> str:
    if isinstance(found, Mapping) and isinstance(found.get("id"), str | int) and found["id"]:
        return str(found["id"])
    raise ContractError(f"{where}: must be an object with an id")
