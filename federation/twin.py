"""The broker's face: the composed twin, to those whom the broker's configuration lets read it.

Shows what the domains showed the broker, never more: no devices, no series, no past views.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from domain_twin.alarms.desk import AlarmDesk
from domain_twin.config import BrokerConfig
from domain_twin.errors import ContractError, CredentialError, NotFound, NotShared, OverCapacity
from domain_twin.model import (
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    UNITS,
    Alarm,
    DeviceStatus,
    DomainStatus,
    Element,
    Event,
    Finding,
    Kpi,
    Nanoseconds,
    OperatorState,
    PathAnswer,
    PathKpis,
    Point,
    Segment,
    ServiceStatus,
    View,
)
from domain_twin.model.job import Job
from domain_twin.model.query import GraphCheck, Impact, Require
from domain_twin.simulation.jobs.desk import JobDesk
from domain_twin.trust.identity import Role, SpiffeId
from federation.assurance import Assurance
from federation.events import EventLog, FindingBoard, Subscription
from federation.jobs import TWIN_LABEL, tenant_of
from federation.paths import DISJOINT_CANDIDATES, find
from federation.registry import Registry
from federation.storage import Storage
from federation.wire.questions import (
    ElementList,
    ElementQuery,
    HistoryPage,
    HistoryQuery,
    JobQuestion,
    PathQuery,
    QueryQuestion,
    QueryReply,
    ServiceList,
    ViewList,
    ViewQuery,
    WatchQuery,
)

if TYPE_CHECKING:
    from federation.query.desk import FederatedQueries

__all__ = ["BrokerFace", "access_check", "may_train"]

_TWIN = "/fedtwin.v1.Twin/"
_PARTNERS = "/fedtwin.v1.Partners/"
_LEARNING = "/fedtwin.v1.Learning/"
_DELIVERIES = "/fedtwin.v1.Deliveries/"
_CHANGES = (f"{_TWIN}SetAlarmState",)
_TRAININGS = tuple(f"{_LEARNING}{rpc}" for rpc in ("StartRun", "StopRun", "RollBack"))
_KINDS = ("point", "segment")
_PAGE = 200
_SMALL_SEARCH = 20_000  # segments times paths: a few milliseconds
_SEARCHES_WAITING = 16
_LONGEST_TIMER_S = 30 * 86_400.0


def access_check(config: BrokerConfig) -> Callable[[str, SpiffeId], None]:
    """Who may call what at this broker: agents attach, and the subjects of [[access]] read. For `Guard`."""
    subjects = [access.subject for access in config.access]
    operators = [access.subject for access in config.access if access.operate]
    speakers = [access.subject for access in config.access if access.partners]
    trains = may_train(config)

    def check(method: str, caller: SpiffeId) -> None:
        if method.startswith(_PARTNERS) and not any(caller.matches(subject) for subject in speakers):
            raise NotShared(
                f"{caller} may not speak for partners; have the broker's operator set partners = true under"
                " the [[access]] that names this subject"
            )
        if not method.startswith((_TWIN, _LEARNING, _DELIVERIES)):
            return  # the session judges who may attach
        if caller.role is Role.AGENT:
            raise NotShared(
                f"{caller}: agents show their domain here and do not read the composed twin; use a"
                " person's certificate (`fedtwin ca user`) that the broker's [[access]] names"
            )
        if not any(caller.matches(subject) for subject in subjects):
            raise NotShared(
                f"{caller} may not read this twin; have the broker's operator add [[access]] with"
                f' subject = "{caller}"'
            )
        if method.startswith((*_CHANGES, _DELIVERIES)) and not any(map(caller.matches, operators)):
            raise NotShared(
                f"{caller} may read this twin and not operate it; have the broker's operator set"
                " operate = true under the [[access]] that names this subject"
            )

        if method in _TRAININGS and not trains(caller):
            raise NotShared(
                f"{caller} may see trainings and not begin, stop or undo any; have the broker's operator set"
                " learn = true under the [[access]] that names this subject"
            )

    return check


def may_train(config: BrokerConfig) -> Callable[[SpiffeId], bool]:
    """Whether somebody may begin trainings and have their models."""
    subjects = [access.subject for access in config.access if access.learn]
    return lambda caller: caller.role is Role.USER and any(caller.matches(subject) for subject in subjects)


class BrokerFace:
    """Answers the Twin service's questions from the registry, the composed graph and the storage."""

    def __init__(
        self,
        registry: Registry,
        assurance: Assurance,
        *,
        events: EventLog,
        findings: FindingBoard,
        storage: Storage,
        alarms: AlarmDesk,
        caller: Callable[[], str],
        watch_ends_at: Callable[[], datetime],
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`caller` says who asks now, `watch_ends_at` until when that one may watch."""
        self._registry = registry
        self._assurance = assurance
        self._events = events
        self._findings = findings
        self._storage = storage
        self._alarms = alarms
        self._caller = caller
        self._watch_ends_at = watch_ends_at
        self._searchers = ThreadPoolExecutor(2, "path")
        self._searching = 0
        self._clock = clock
        self.desk: JobDesk | None = None
        """Where questions become jobs; None: this broker takes none."""
        self.queries: FederatedQueries | None = None
        """Who answers questions about the graph across domains; None: nobody does."""

    async def domains(self) -> Sequence[DomainStatus]:
        """Every member of the federation, connected or not."""
        return self._registry.statuses()

    async def devices(self) -> Sequence[DeviceStatus]:
        """Refused: raises NotShared."""
        raise NotShared(
            "devices stay inside their domains; ask the domain's own agent, on its socket in its state folder"
        )

    async def elements(self, query: ElementQuery) -> ElementList:
        """Points and segments of the domains' views. Raises NotFound."""
        if query.at:
            raise NotFound("the broker keeps no past views; `at` is for the domain's own agent")
        if query.kind not in ("", *_KINDS):
            raise NotFound(f"no elements are of kind {query.kind!r} here; kinds are {', '.join(_KINDS)}")
        views = self._views(query.domain)
        found = (
            element
            for view in views
            for element in _elements(view, query.kind)
            if element.id.startswith(query.prefix)
        )
        return ElementList(tuple(found), {view.domain: view.version for view in views})

    async def views(self, query: ViewQuery) -> ViewList:
        """The domains' last good views. Raises NotFound, NotShared."""
        views = self._views(query.domain)
        for view in views:
            if query.level not in (None, view.level):
                raise NotShared(
                    f"{view.domain} shows this broker the level {view.level.value!r} and no other one;"
                    " leave the level out"
                )
        statuses = [status for status in self._registry.statuses() if query.domain in ("", status.domain)]
        return ViewList(tuple(views), tuple(statuses))

    async def path(self, query: PathQuery) -> PathAnswer:
        """A path across domains. Raises NotFound, NoPath."""
        graph = self._registry.graph
        segments = sum(len(member.view.segments) for member in graph.members.values() if member.view)
        searches = DISJOINT_CANDIDATES if query.disjoint else query.alternatives
        search = partial(
            find,
            source=query.source,
            target=query.target,
            mode=query.mode,
            requirement=query.requirement,
            k=query.alternatives,
            disjoint=query.disjoint,
            now=self._clock(),
        )
        if segments * searches < _SMALL_SEARCH:
            return search(graph)
        if self._searching >= _SEARCHES_WAITING:
            raise OverCapacity(f"{self._searching} large path questions wait here already; try again later")
        self._searching += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._searchers, search, graph.frozen())
        finally:
            self._searching -= 1

    async def services(self, service: str) -> ServiceList:
        """Services as they stand. Raises NotFound."""
        records = self._assurance.records
        return ServiceList(
            self._assurance.statuses(service),
            tuple(records.slices.values()),
            tuple(records.customers.values()),
        )

    async def findings(self, domain: str) -> Sequence[Finding]:
        """What stands between the domains, and about each of them. Raises NotFound."""
        self._check_domain(domain)
        return self._findings.standing(domain)

    async def alarms(self, domain: str, *, everything: bool) -> Sequence[Alarm]:
        """What is wrong between the domains, and with each as seen from here. Raises NotFound."""
        self._check_domain(domain)
        found = self._alarms.alarms(everything=everything)
        return [alarm for alarm in found if domain in ("", alarm.key.domain)]

    async def copy_state(self, *, history_only: bool) -> str:
        """Raises NotShared: a broker's state is copied on its own machine."""
        raise NotShared(
            "a broker's state is not copied for peers; run `fedtwin backup broker.toml` beside it"
        )

    async def set_alarm_state(self, identity: str, state: OperatorState, note: str) -> Alarm:
        """Note what the caller says of an alarm. Raises NotFound."""
        return self._alarms.set_operator_state(identity, state, operator=self._caller(), note=note)

    async def start_job(self, question: JobQuestion) -> Job:
        """Take the caller's question in. Raises OverCapacity, NotFound, ConfigError."""
        labels = question.labels
        if tenant_of(self._caller()):  # the desk knows what is in a partner's twin, and whose labels count
            labels = {key: label for key, label in labels.items() if key == TWIN_LABEL}
        else:
            for domain in question.scope:
                self._check_domain(domain)
        return await self._open_desk().submit(
            question.capability,
            question.scenario,
            scope=question.scope,
            requirements=question.requirements,
            owner=self._caller(),
            labels=labels,
        )

    async def jobs(self) -> Sequence[Job]:
        """The caller's own jobs, newest first."""
        return [job for job in self._open_desk().jobs() if job.owner == self._caller()]

    async def job(self, identity: str) -> Job:
        """How far one of the caller's jobs is. Raises NotFound."""
        mine = [job for job in await self.jobs() if identity and job.id.startswith(identity)]
        exact = [job for job in mine if job.id == identity]
        if len(exact or mine) > 1:
            raise NotFound(f"{len(mine)} jobs of yours begin with {identity!r}; write more of the id")
        if not mine:  # somebody else's: as if it did not exist
            raise NotFound(f"no job {identity!r} of yours is kept here; `fedtwin jobs` lists those that are")
        return (exact or mine)[0]

    async def watch_job(self, identity: str) -> AsyncIterator[Job]:
        """One of the caller's jobs until it has ended. Raises NotFound."""
        async for job in self._open_desk().watch((await self.job(identity)).id):
            yield job

    async def cancel_job(self, identity: str) -> Job:
        """Have one of the caller's jobs end without an answer. Raises NotFound."""
        return await self._open_desk().cancel((await self.job(identity)).id)

    async def report(self, identity: str) -> bytes:
        """The report of one of the caller's jobs. Raises NotFound."""
        return await self._open_desk().report((await self.job(identity)).id)

    async def query(self, question: QueryQuestion) -> QueryReply:
        """What a question in SPARQL answers, across the domains, for the caller. Raises TwinError."""
        return await self._open_queries().query(question, self._caller())

    async def impact(self, elements: Sequence[str], require: Require) -> Impact:
        """What depends on any of `elements`, as far as the caller sees. Raises TwinError."""
        return await self._open_queries().impact(elements, require, self._caller())

    async def check_graph(self, shape: str) -> GraphCheck:
        """What the shapes find between the domains, as far as the caller sees. Raises NotFound."""
        return await self._open_queries().check(shape, self._caller())

    def _open_queries(self) -> FederatedQueries:
        if self.queries is None:
            raise NotFound("this broker keeps no graph; ask a domain's own agent, on its socket")
        return self.queries

    def _open_desk(self) -> JobDesk:
        if self.desk is None:
            raise NotFound("this broker takes no jobs; ask a domain's own agent, on its socket")
        return self.desk

    async def history(self, query: HistoryQuery) -> AsyncIterator[HistoryPage]:
        """A service's statuses (none without `service`), then the events of that time."""
        if query.device or query.path:
            raise NotShared("series of leaves stay inside their domains; ask the domain's own agent")
        end = query.end or self._clock()
        if query.start >= end:
            raise ContractError(f"GetHistoryRequest: start {query.start} is not before end {end}")
        if query.service:
            status = self._assurance.statuses(query.service)[0]
            async for statuses in self._statuses(status.service.id, query.start, end, query.step):
                yield HistoryPage(statuses=statuses)
        start = query.start
        while page := await self._storage.events(start, end, limit=_PAGE):
            yield HistoryPage(events=tuple(page))
            if len(page) < _PAGE:
                return
            start = page[-1].at + 1

    def watch(self, query: WatchQuery) -> AsyncIterator[Event]:
        """Events, until the watcher's certificate ends. Raises NotFound, CredentialError."""
        self._check_domain(query.domain)
        ends_at = self._watch_ends_at()
        subscription = self._events.subscribe(kinds=query.kinds, domain=query.domain, after=query.after)
        return _Watched(subscription, ends_at)

    async def _statuses(
        self, service: str, start: Nanoseconds, end: Nanoseconds, step: Nanoseconds
    ) -> AsyncIterator[tuple[ServiceStatus, ...]]:
        given = -1  # the step that the last one given lies in
        while page := await self._storage.service_history(service, start, end, limit=_PAGE):
            kept = []
            for status in page:
                if not step or status.at // step != given or status.cause:
                    given = status.at // step if step else -1
                    kept.append(status)
            if kept:
                yield tuple(kept)
            if len(page) < _PAGE:
                return
            start = page[-1].at + 1

    def _views(self, domain: str) -> list[View]:
        self._check_domain(domain)
        names = [domain] if domain else [status.domain for status in self._registry.statuses()]
        return [view for view in map(self._registry.view, names) if view]

    def _check_domain(self, domain: str) -> None:
        if domain and self._registry.status(domain) is None:
            known = ", ".join(status.domain for status in self._registry.statuses())
            raise NotFound(f"no domain {domain!r} in this federation; there are {known or 'none'}")


def _elements(view: View, kind: str) -> Iterable[Element]:
    at = view.version.observed_at
    if kind in ("", "point"):
        yield from (_point(point, at) for point in view.points.values())
    if kind in ("", "segment"):
        yield from (_segment(view.domain, segment, at) for segment in view.segments.values())


def _point(point: Point, at: Nanoseconds) -> Element:
    attributes = {"kind": str(point.kind), "role": point.role}
    if point.link_id:
        attributes |= {
            "inter-domain-link-id": point.link_id,
            "peer-domain": point.peer_domain,
            "capacity-mbps": f"{point.capacity_mbps:g}",
            "metric": str(point.metric),
        }
    return Element(
        id=point.id,
        kind="point",
        domain=point.domain,
        name=point.id.partition("/")[2],
        up=point.up,
        stale=point.stale,
        attributes={key: value for key, value in attributes.items() if value},
        kpis=_kpis(point.outbound, at) if point.outbound else (),
    )


def _segment(domain: str, segment: Segment, at: Nanoseconds) -> Element:
    return Element(
        id=f"{segment.source}>{segment.target}",
        kind="segment",
        domain=domain,
        up=segment.current is not None,
        stale=segment.stale,
        attributes={
            "source": segment.source,
            "target": segment.target,
            "options": str(len(segment.options)),
            "truncated": "true" if segment.truncated else "false",
        },
        kpis=_kpis(segment.current, at) if segment.current else (),
    )


def _kpis(kpis: PathKpis, at: Nanoseconds) -> tuple[Kpi, ...]:
    """The figures that are known: an unmeasured or withheld delay is infinite."""
    listed = (
        Kpi(DELAY, kpis.delay_ms, UNITS[DELAY], kpis.delay_std_error_ms),
        Kpi(DELAY_VARIANCE, kpis.delay_variance_ms2, UNITS[DELAY_VARIANCE]),
        Kpi(LOSS, kpis.loss, UNITS[LOSS]),
        Kpi("bandwidth", kpis.bandwidth_mbps, "Mbit/s"),
    )
    return tuple(
        replace(kpi, origin=kpis.origin, observed_at=at) for kpi in listed if math.isfinite(kpi.value)
    )


class _Watched:
    """A subscription, from when it is made until its watcher's certificate ends."""

    def __init__(self, subscription: Subscription, ends_at: datetime) -> None:
        self._subscription, self._ends_at = subscription, ends_at
        left_s = (ends_at - datetime.now(UTC)).total_seconds() + 0.1
        self._timer = asyncio.get_running_loop().call_later(min(left_s, _LONGEST_TIMER_S), subscription.close)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._subscription)
        except StopAsyncIteration:
            if datetime.now(UTC) >= self._ends_at:
                raise CredentialError(
                    "your certificate ended while you watched; renew it and watch again"
                ) from None
            raise

    async def aclose(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        self._subscription.close()
