"""Desk of alarm (TMF642): live alarms of a tenant's twins, predicted ones of its runs, and its own.

What the twin raised the twin clears; a partner acknowledges and comments it. Alarms that a partner reports
itself are the partner's to change. Live ones are looked for every few seconds in what the sandbox shows: a
domain that is away or whose part is older than agreed, and elements of the view that are down.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from domain_twin.errors import Conflict, ContractError, OverCapacity, TwinError
from domain_twin.model import Nanoseconds, Point, PointKind
from federation.compose import Member
from federation.jobs import Sandbox
from federation.partners.alarm_records import (
    CLEARED,
    LIVE,
    PREDICTED,
    alarm_id,
    clear_alarm,
    is_partners,
    is_standing,
    raise_alarm,
)
from federation.partners.measures import time_text
from federation.partners.record import Body, Kind, Record, Repository

__all__ = ["Alarms", "conditions"]

log = logging.getLogger(__name__)

LOOK_S = 1.0
HOLD_S = 3.0
"""A condition that lasts for less is none: domains attach one after the other when a broker starts."""
KEPT_CLEARED = 1000
"""Cleared alarms of one tenant that are kept; those that changed longest ago go."""
_MOST_OWN = 10_000
_LATE_S = 30.0  # devices that have nothing new to say are not late
_SEVERITIES = ("critical", "major", "minor", "warning", "indeterminate", CLEARED)
_MANDATORY = (
    "alarmType", "perceivedSeverity", "probableCause", "alarmedObject", "sourceSystemId", "state",
    "alarmRaisedTime",
)  # fmt: skip
_THE_PARTNERS = frozenset(
    {"ackState", "ackSystemId", "ackUserId", "alarmEscalation", "comment", "correlatedAlarm", "parentAlarm",
     "plannedOutageIndicator", "alarmChangedTime"}
)  # fmt: skip
"""What a partner says of an alarm that the twin raised."""


class Alarms:
    """Decides for alarms, and keeps the live ones as the twins are."""

    def __init__(
        self,
        repositories: Callable[[], Iterable[Repository]],
        sandbox_of: Callable[[str, str], Sandbox | None],
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
        look_s: float = LOOK_S,
        hold_s: float = HOLD_S,
    ) -> None:
        """`repositories`: of all tenants; `sandbox_of`: by tenant and twin, None where it is not up."""
        self._repositories = repositories
        self._sandbox_of = sandbox_of
        self._clock = clock
        self._look_s = look_s
        self._hold_ns = int(hold_s * 1e9)
        self._since: dict[tuple[str, str], Nanoseconds] = {}  # by tenant and alarm: first seen

    async def create(self, repository: Repository, body: Body) -> Body:
        """An alarm that the partner reports. Raises ContractError, OverCapacity."""
        for name in _MANDATORY:
            if not body.get(name):
                raise ContractError(f"{name}: an alarm needs one")
        if body.get("@type") == PREDICTED:
            raise ContractError(f"@type: {PREDICTED} is raised by runs alone; leave it out")
        if body["perceivedSeverity"] not in _SEVERITIES:
            raise ContractError(f"perceivedSeverity: there are {', '.join(_SEVERITIES)}")
        own = sum(is_partners(repository.tenant, record.body) for record in repository.list(Kind.ALARM))
        if own >= _MOST_OWN:
            raise OverCapacity(f"{own} alarms that you reported are kept; delete some")
        now = time_text(self._clock())
        return {
            "@type": LIVE,
            "ackState": "unacknowledged",
            "alarmReportingTime": now,
            **body,
            "id": alarm_id(repository.tenant, str(uuid4())),
            "alarmChangedTime": now,
            "reportingSystemId": repository.tenant,
        }

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Raises ContractError, Conflict."""
        if body.get("reportingSystemId") != record.body.get("reportingSystemId"):
            raise ContractError("reportingSystemId: says who reported the alarm and cannot be changed")
        if not is_partners(repository.tenant, record.body):
            for name in {**record.body, **body}:
                if record.body.get(name) != body.get(name) and name not in _THE_PARTNERS:
                    raise ContractError(
                        f"{name}: the twin raised this alarm and says so itself; acknowledge or comment it"
                    )
        elif not is_standing(record.body) and body.get("perceivedSeverity") != CLEARED:
            raise Conflict("perceivedSeverity: the alarm is cleared, which is its end")
        return {**body, "alarmChangedTime": time_text(self._clock())}

    async def remove(self, repository: Repository, record: Record) -> None:
        """Raises Conflict for what the twin still says is wrong."""
        if not is_partners(repository.tenant, record.body) and is_standing(record.body):
            raise Conflict(
                f"alarm {record.id!r}: the twin still says so; it can be deleted once it is cleared"
            )

    def kept(self, repository: Repository, record: Record) -> None:
        """Nothing follows."""

    async def run(self) -> None:
        """Look at all twins until cancelled."""
        while True:
            for repository in self._repositories():
                try:
                    await self.look(repository)
                except TwinError as error:  # the disk, or as many records as the tenant may have
                    log.warning("alarms not kept", extra={"tenant": repository.tenant, "reason": str(error)})
            await asyncio.sleep(self._look_s)

    async def look(self, repository: Repository) -> None:
        """Raise, change and clear the live alarms of one tenant, as its twins are now."""
        now, tenant = self._clock(), repository.tenant
        found: dict[str, Body] = {}
        unknown: set[str] = set()
        here: set[str] = set()  # all twins that are not over
        for record in repository.list(Kind.SERVICE):
            if record.tenant != tenant or record.body.get("state") == "terminated":
                continue
            here.add(record.id)
            if record.body.get("state") != "active":
                continue  # nobody looks at it
            sandbox = self._sandbox_of(tenant, record.id)
            if sandbox is None:
                unknown.add(record.id)
                continue
            for name, body in conditions(record, sandbox, now):
                found[alarm_id(tenant, record.id, name)] = body
        standing = [record for record in repository.list(Kind.ALARM) if is_standing(record.body)]
        for record in standing:
            twin = record.body.get("reportingSystemId")
            if is_partners(tenant, record.body):
                continue
            live = record.body.get("@type") != PREDICTED
            over = live and record.id not in found and twin not in unknown
            if over or twin not in here:
                await clear_alarm(repository, record.id, now)
        for identity, body in found.items():
            since = self._since.setdefault((tenant, identity), now)
            if now - since >= self._hold_ns:
                await raise_alarm(repository, identity, body, now)
        for key in [key for key in self._since if key[0] == tenant and key[1] not in found]:
            del self._since[key]
        await self._forget(repository)

    async def _forget(self, repository: Repository) -> None:
        cleared = [
            record
            for record in repository.list(Kind.ALARM)
            if not is_standing(record.body) and not is_partners(repository.tenant, record.body)
        ]
        if len(cleared) > KEPT_CLEARED:
            cleared.sort(key=lambda record: record.changed_at)
            for record in cleared[: len(cleared) - KEPT_CLEARED]:
                await repository.remove(record)


def conditions(twin: Record, sandbox: Sandbox, now: Nanoseconds) -> Iterator[tuple[str, Body]]:
    """What is wrong with a twin now, each with a name that stays the same."""
    freshness_s = _freshness_s(twin.body)
    for domain, member in sandbox.graph.members.items():
        if not member.connected or member.view is None:
            yield f"away:{domain}", _away(twin, member)
        elif freshness_s and (age_s := _late_s(member, freshness_s, now)):
            yield f"stale:{domain}", _stale(twin, domain, age_s, freshness_s)
    for point in sandbox.graph.points.values():
        if not point.up:
            yield f"down:{point.id}", _down(twin, point)


def _away(twin: Record, member: Member) -> Body:
    return {
        **_about(twin, member.domain),
        "alarmType": "Communications Alarm",
        "perceivedSeverity": "major",
        "probableCause": "Communications Subsystem Failure",
        "specificProblem": f"{member.domain} is away; its part of the twin is as it was last",
        "proposedRepairedActions": "wait until it is back: nothing is yours to do",
    }


def _stale(twin: Record, domain: str, age_s: float, freshness_s: float) -> Body:
    log.debug("part is stale", extra={"twin": twin.id, "domain": domain, "age_s": age_s})
    return {
        **_about(twin, domain),
        "alarmType": "Quality of Service Alarm",
        "perceivedSeverity": "minor",
        "probableCause": "Performance Degraded",
        "specificProblem": f"the part of {domain} is older than the {freshness_s:g} s that were agreed",
        "proposedRepairedActions": "none: it is refreshed as soon as the domain answers",
    }


def _down(twin: Record, point: Point) -> Body:
    border = point.kind is PointKind.BORDER
    return {
        **_about(twin, point.domain),
        "alarmType": "Communications Alarm" if border else "Equipment Alarm",
        "perceivedSeverity": "major" if border else "critical",
        "probableCause": "Underlying Resource Unavailable",
        "specificProblem": f"{point.id} is down",
        "proposedRepairedActions": "",
        "alarmedObject": {"id": point.id, "@type": "AlarmedObject"},
        "alarmedObjectType": "resource",
    }


def _about(twin: Record, domain: str) -> dict[str, Any]:
    return {
        "@type": LIVE,
        "sourceSystemId": domain,
        "reportingSystemId": twin.id,
        "alarmedObject": {"id": twin.id, "@type": "AlarmedObject"},
        "alarmedObjectType": "service",
        "affectedService": [{"id": twin.id, "@type": "AffectedService"}],
        "serviceAffecting": True,
    }


def _late_s(member: Member, freshness_s: float, now: Nanoseconds) -> float:
    """How old a part is, where that is more than what was agreed allows; else 0."""
    assert member.view
    age_s = (now - member.view.version.observed_at) / 1e9
    return age_s if age_s > max(2 * freshness_s, _LATE_S) else 0.0


def _freshness_s(twin: Body) -> float:
    for item in twin.get("serviceCharacteristic") or ():
        if item.get("name") == "freshness":
            value: Any = item.get("value")
            value = value.get("value") if isinstance(value, Mapping) else value
            try:
                return float(value)
            except (TypeError, ValueError):
                return 0.0
    return 0.0
