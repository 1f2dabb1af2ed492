"""What every service gets, kept up to date: evaluates after each change, tells watchers, keeps the history.

Nothing here polls or waits on purpose: a change wakes the evaluation, changes that came together are
evaluated together. A service that cannot be evaluated is a finding; the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain_twin.errors import NotFound
from domain_twin.model import (
    BudgetShare,
    EventKind,
    Finding,
    Nanoseconds,
    Outcome,
    Service,
    ServiceRecords,
    ServiceStatus,
    Severity,
)
from federation.budget import resplit
from federation.events import EventLog, FindingBoard
from federation.negotiation import Negotiator, Verdict
from federation.registry import Change, Registry, Spawn
from federation.services import evaluate
from federation.storage import Storage

__all__ = ["Assurance"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Service:
    """One service as it stands."""

    record: Service
    status: ServiceStatus | None = None  # of the last evaluation, as it is shown
    raw: ServiceStatus | None = None  # the same, before what domains said to it was laid over it
    told: ServiceStatus | None = None  # the last raw one that was told
    shown: ServiceStatus | None = None  # the last one that was told
    told_at: float = -math.inf  # monotonic seconds
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    problem: str = ""  # why it was not evaluated
    infeasible: str = ""  # why its budget cannot be kept


class Assurance:
    """Keeps a status for every service record. `notify` wakes `run`, which evaluates until cancelled."""

    def __init__(
        self,
        records: ServiceRecords,
        registry: Registry,
        *,
        events: EventLog,
        findings: FindingBoard,
        storage: Storage,
        spawn: Spawn,
        restored: Iterable[ServiceStatus] = (),
        sample_interval_s: float = 1.0,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self.records = records
        self._registry = registry
        self._events = events
        self._findings = findings
        self._storage = storage
        self._sample_interval_s = sample_interval_s
        self._clock = clock
        self._services = {key: _Service(record) for key, record in records.services.items()}
        for status in restored:
            held = self._services.get(status.service.id)
            if held and held.record == status.service:
                held.raw = held.told = held.shown = held.status = status
        self._changes: list[Change] = []
        self._wake = asyncio.Event()
        self._negotiator = Negotiator(registry.session, spawn=spawn, on_verdicts=self._on_verdicts)

    def notify(self, change: Change) -> None:
        """Evaluate what this change may concern, soon."""
        self._changes.append(change)
        self._wake.set()

    def statuses(self, name: str = "") -> tuple[ServiceStatus, ...]:
        """Services (by id or name; empty: all) as they stand. Raises NotFound."""
        found = [held for held in self._services.values() if name in ("", held.record.id, held.record.name)]
        if name and not found:
            known = ", ".join(sorted(held.record.name or held.record.id for held in self._services.values()))
            raise NotFound(f"no service {name!r}; there are {known or 'none: the broker has no [services]'}")
        now = self._clock()
        return tuple(held.status or ServiceStatus(held.record, None, (), (), None, now) for held in found)

    async def run(self) -> None:
        """Evaluate after every change, and at least once in `sample_interval_s`."""
        await self._evaluate_all((), whole=True)
        while True:
            try:
                async with asyncio.timeout(self._sample_interval_s):
                    await self._wake.wait()
                whole = False
            except TimeoutError:
                whole = True
            self._wake.clear()
            changes, self._changes = self._changes, []
            await self._evaluate_all(changes, whole=whole)

    async def _evaluate_all(self, changes: Iterable[Change], *, whole: bool) -> None:
        changes = tuple(changes)
        whole = whole or any(change.structural for change in changes)
        domains = {change.domain for change in changes}
        observed_at = max((change.observed_at for change in changes), default=0)
        for held in self._services.values():
            if whole or _crosses(held.status, domains):
                self._evaluate(held, observed_at)
                await asyncio.sleep(0)  # sessions go on between two services
        if self._services:
            self._report()

    def _evaluate(self, held: _Service, observed_at: Nanoseconds) -> None:
        try:
            status = evaluate(held.record, self._registry.graph, held.told, now=self._clock())
            held.problem = ""
        except Exception as error:  # one service must not cost the others, nor the broker
            if not held.problem:
                log.exception("service not evaluated", extra={"service": held.record.id})
            held.problem = str(error) or type(error).__name__
            return
        self._take(held, status, observed_at)

    def _take(self, held: _Service, status: ServiceStatus, observed_at: Nanoseconds) -> None:
        """Show a status, and tell it where it is news."""
        held.raw = status
        if status.path is None:
            held.infeasible = ""
        held.status = replace(status, budget=tuple(_judged(status.budget, held.verdicts)))
        if self._is_news(held, held.status):
            held.told, held.shown, held.told_at = status, held.status, time.monotonic()
            self._storage.add_status(held.status)
            self._events.publish(
                EventKind.SERVICE,
                f"{held.record.name or held.record.id}: {status.cause or _figures(status)}",
                service_status=held.status,
                observed_at=observed_at,
            )
        self._negotiator.consider(status)

    def _is_news(self, held: _Service, status: ServiceStatus) -> bool:
        """A change of path, verdict, budget or outcome at once; figures alone once in an interval."""
        shown = held.shown
        if shown is None or status.cause or _essence(shown) != _essence(status):
            return True
        due = time.monotonic() - held.told_at >= self._sample_interval_s
        return due and _figures_of(shown) != _figures_of(status)

    def _on_verdicts(self, service: str, verdicts: Mapping[str, Verdict]) -> None:
        held = self._services[service]
        held.verdicts.update(verdicts)
        status = held.raw
        if status is None or status.path is None:
            return
        on_path = {share.domain: share.share_ms for share in status.budget}
        missed = {
            domain: verdict
            for domain, verdict in held.verdicts.items()
            if verdict.outcome is Outcome.OVER_CAPACITY
            and domain in on_path
            and math.isclose(verdict.share_ms, on_path[domain])
        }
        before, held.infeasible = held.infeasible, ""
        cause = "budget can be kept again" if before else ""
        if missed:
            new = resplit(status.budget, {domain: verdict.least_ms for domain, verdict in missed.items()})
            said = "; ".join(verdict.reason or f"{domain} declined" for domain, verdict in missed.items())
            if new.feasible and new.shares != status.budget:
                status = replace(status, budget=new.shares)
                cause = f"budget split anew: {said}"
            else:
                held.infeasible = said if new.feasible else new.verdict
                cause = "" if before else f"budget cannot be kept: {said}"
        self._take(held, replace(status, cause=cause, at=self._clock()), 0)
        self._report()

    def _report(self) -> None:
        self._findings.report(
            "services", [finding for held in self._services.values() for finding in _findings(held)]
        )


def _crosses(status: ServiceStatus | None, domains: set[str]) -> bool:
    if status is None:
        return True
    return status.path is not None and any(hop.domain in domains for hop in status.path.hops)


def _judged(shares: Iterable[BudgetShare], verdicts: Mapping[str, Verdict]) -> Iterable[BudgetShare]:
    """The shares with what domains said to them, where they still are what the domains were asked about."""
    for share in shares:
        verdict = verdicts.get(share.domain)
        if verdict and share.outcome is Outcome.OK and math.isclose(verdict.share_ms, share.share_ms):
            yield replace(share, outcome=verdict.outcome)
        else:
            yield share


def _essence(status: ServiceStatus) -> object:
    """What is told at once when it changes."""
    if status.path is None:
        return status.met  # while domains join one by one, each of them would be news of no path
    return (
        status.met,
        tuple((hop.domain, hop.source, hop.target, hop.link_id, hop.stale) for hop in status.path.hops),
        tuple((share.domain, round(share.share_ms, 6), share.outcome) for share in status.budget),
        tuple((outcome.domain, outcome.outcome, outcome.reason) for outcome in status.domains),
    )


def _figures_of(status: ServiceStatus) -> object:
    return tuple(hop.kpis for hop in status.path.hops) if status.path else ()


def _figures(status: ServiceStatus) -> str:
    if status.path is None:
        return "no path"
    delay_ms = status.path.total.delay_ms
    return f"{delay_ms:.3f} ms" if math.isfinite(delay_ms) else "delay not known"


def _findings(held: _Service) -> Iterable[Finding]:
    name, status = held.record.name or held.record.id, held.status
    if held.problem:
        yield Finding(
            "service.not-evaluated",
            Severity.ERROR,
            "",
            held.record.id,
            f"{name} could not be evaluated: {held.problem}; its last status stays",
            "report this with the broker's log: it is an error in the broker",
        )
    elif status and status.path is None:
        yield Finding(
            "service.no-path",
            Severity.ERROR,
            "",
            held.record.id,
            f"{name} has no path from {held.record.source} to {held.record.target}",
            "see `fedtwin path` for the reason, and the findings of the domains on the way",
        )
    elif status and status.met is False:
        yield Finding(
            "service.objective-missed",
            Severity.WARNING,
            "",
            held.record.id,
            f"{name} misses what was promised ({_promise(held.record)})",
            "see its budget for the domain that uses more than its share",
        )
    if held.infeasible:
        yield Finding(
            "service.budget-infeasible",
            Severity.WARNING,
            "",
            held.record.id,
            f"the delay budget of {name} cannot be split so that all domains keep to it: {held.infeasible}",
            "promise a longer delay, or have the domains named find a shorter way",
        )
    asked = {share.domain for share in status.budget} if status else set()
    for domain, verdict in held.verdicts.items():
        if verdict.outcome is Outcome.NOT_SHARED and domain in asked:
            yield Finding(
                "service.share-not-confirmed",
                Severity.INFO,
                domain,
                held.record.id,
                f"{domain} does not say whether it keeps its share of {name}: {verdict.reason}",
                f"{domain} grants this broker the action 'evaluate' in its [[agreement]]",
            )


def _promise(service: Service) -> str:
    promised = service.objective
    texts = (
        (promised.delay_ms, f"{promised.delay_ms} ms"),
        (promised.loss, f"loss {promised.loss}"),
        (promised.bandwidth_mbps, f"{promised.bandwidth_mbps} Mbit/s"),
    )
    return ", ".join(text for value, text in texts if value is not None)
