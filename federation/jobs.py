"""The broker's answers to jobs: what-ifs across domains. Owns who is asked; a desk owns queue and store.

A job of the broker has private child jobs in the domains, under the same id, which end with it. Each domain
decides by its own agreements, and is told for whom it is asked.

A partner's job is answered over its own sandbox, which the label `twin` names: over what the domains show to
that partner, between its own end points, with nobody else's services. What lies outside is refused in the
words for what does not exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, Protocol

from domain_twin.errors import (
    ConfigError,
    CredentialError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
    TwinError,
    Unreachable,
)
from domain_twin.model import DomainOutcome, Nanoseconds, Outcome, Service, ServiceRecords
from domain_twin.model.job import Capability, Job, Report
from domain_twin.model.job_json import sealed
from domain_twin.model.scenario import Scenario
from domain_twin.trust.identity import Role, SpiffeId
from federation.compose import ComposedGraph
from federation.whatif_changes import cases, check, sight
from federation.whatif_flows import Known
from federation.wire.refusals import outcome_of

if TYPE_CHECKING:
    from domain_twin.simulation.jobs.desk import Ticket
    from federation.registry import Registry
    from federation.session import Session
    from federation.whatif import Part
    from federation.wire.simulate import Figures, Prepare, Prepared, Round

__all__ = ["MOST_PAIRS", "TWIN_LABEL", "BrokerJobs", "Sandbox", "SessionPart", "Tenants", "tenant_of"]

TWIN_LABEL = "twin"
"""Label of a partner's job: the id of the twin that it is about."""
MOST_PAIRS = 200
"""Pairs of a sandbox that are followed where a scenario names none."""

_SPARE = 0.05  # share of the time until the deadline that is kept for composing the answer
_NOT_SERVED = (
    Capability.AUTOMATION_CONFIGURATION_VERIFICATION,
    Capability.ML_TRAINING_DATA_GENERATION,
    Capability.USER_EXPERIENCE_DATA_GENERATION,
)


class Sandbox(Protocol):
    """A partner's twin, as far as a job needs it."""

    @property
    def graph(self) -> ComposedGraph:
        """Composed of what the domains show to this partner, and nothing else."""

    @property
    def points(self) -> Sequence[str]:
        """The end points that the partner ordered, `domain/name`."""


class Tenants(Protocol):
    """What jobs of partners need to know of partners."""

    def sandbox(self, tenant: str, service: str) -> Sandbox | None:
        """The twin of a tenant that is active; None where there is none, or it is another tenant's."""

    def admit(self, tenant: str, job: Job) -> None:
        """Count a job against the tenant's quota. Raises OverCapacity."""

    async def took(self, tenant: str, seconds: float) -> None:
        """Note how long a job of the tenant was answered."""


def tenant_of(owner: str) -> str:
    """The tenant whose job it is; empty: it is nobody's of the partners."""
    try:
        identity = SpiffeId.parse(owner)
    except CredentialError:
        return ""  # the local operator
    return identity.name if identity.role is Role.PARTNER else ""


@dataclass(frozen=True, slots=True)
class _Ground:
    """What one job is answered over. `points`: those between which flows may run; None: all of the graph."""

    graph: ComposedGraph
    services: Mapping[str, Service]
    points: Collection[str] | None = None


class SessionPart:
    """A domain's part of a job, over whatever session the domain has at the time."""

    def __init__(
        self,
        domain: str,
        session_of: Callable[[str], Session | None],
        *,
        job: str,
        on_behalf_of: str,
        deadline: float,
    ) -> None:
        """`deadline` is on the loop's clock: the domain is told to give up then."""
        self._domain = domain
        self._session_of = session_of
        self._job = job
        self._on_behalf_of = on_behalf_of
        self._deadline = deadline
        self._round = 0

    @property
    def domain(self) -> str:
        """Whose part it is."""
        return self._domain

    async def prepare(self, ask: Prepare) -> Prepared:
        """Round 0. Raises what a refusal stands for."""
        from domain_twin.errors import ContractError
        from federation.wire.simulate import Prepared

        answer = await self._ask(ask)
        if not isinstance(answer, Prepared):
            raise ContractError(f"{self._domain}: figures came where it was asked to prepare")
        return answer

    async def round(self, ask: Round) -> Figures:
        """One round. Raises what a refusal stands for."""
        from domain_twin.errors import ContractError
        from federation.wire.simulate import Figures

        self._round += 1
        answer = await self._ask(ask)
        if not isinstance(answer, Figures):
            raise ContractError(f"{self._domain}: no figures came in round {self._round}")
        return answer

    def end(self) -> None:
        """Let the domain forget the job."""
        session = self._session_of(self._domain)
        if session is not None and session.open:
            session.end_job(self._job)

    async def _ask(self, step: Prepare | Round) -> Prepared | Figures:
        from federation.wire.simulate import decode_answer, encode_ask

        session = self._session_of(self._domain)
        if session is None:
            raise Unreachable(f"{self._domain}: it is not connected now")
        body = await asyncio.to_thread(encode_ask, step)
        answer: Any = await session.ask(
            body,
            timeout_s=max(0.001, self._deadline - asyncio.get_running_loop().time()),
            job_id=self._job,
            round=self._round,
            on_behalf_of=self._on_behalf_of or None,
        )
        return await asyncio.to_thread(decode_answer, answer)


class BrokerJobs:
    """Answers jobs for the broker's JobDesk."""

    def __init__(
        self,
        registry: Registry,
        records: ServiceRecords,
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._registry = registry
        self._records = records
        self._clock = clock
        self.tenants: Tenants | None = None
        """Who knows the partners' twins; None: this broker has no partners."""

    def check(self, job: Job) -> None:
        """Refuse what cannot be answered across domains.

        Raises ConfigError, NotFound, NotShared; of a partner's job also OverCapacity.
        """
        ground = self._ground(job)
        _check(job, ground.graph.members)
        try:
            check(job.scenario, sight(ground.graph))
            _known(job.scenario, ground)
        except NotShared:
            if silent := _silent(ground):
                raise Unreachable(
                    f"the twin is not whole: {', '.join(silent)} did not answer since the broker began; ask"
                    " again in a moment"
                ) from None
            raise
        if self.tenants is not None and (tenant := tenant_of(job.owner)):
            self.tenants.admit(tenant, job)

    async def answer(self, ticket: Ticket) -> Report:
        """What would happen. Raises TwinError."""
        job = ticket.job
        tenant = tenant_of(job.owner)
        if not tenant or self.tenants is None:
            return await self._answer(ticket, self._ground(job))
        began = time.monotonic()
        try:
            ground = self._ground(job)
            ground = replace(ground, graph=ground.graph.frozen())  # a refresh may come in between
            return _for_partner(await self._answer(ticket, ground), ground)
        except (NotShared, OverCapacity, StaleVersion, Unreachable) as error:  # of a domain: none answered
            told = _TOLD[outcome_of(error)]
            raise type(error)(
                f"no domain of the twin takes part; of the first it is known that {told}"
            ) from None
        finally:
            await asyncio.shield(self.tenants.took(tenant, time.monotonic() - began))

    async def _answer(self, ticket: Ticket, ground: _Ground) -> Report:
        from federation.whatif import Question, predict
        from federation.whatif_report import report_of

        job, graph = ticket.job, ground.graph
        _check(job, graph.members)
        seen = sight(graph)
        known = _known(job.scenario, ground)
        seed = job.scenario.seed or 0
        asked = await asyncio.to_thread(cases, job.scenario, seen, seed=seed, pairs=len(known))
        deadline = self._deadline(job)
        parts, missing = self._parts(job, graph, deadline)
        views = {name: member.view for name, member in graph.members.items() if member.view}
        question = Question(
            asked,
            known,
            seen,
            job.scenario.name,
            job.requirements.at_versions,
            corrected=job.scenario.residual is not False,
        )
        forecast = await predict(
            question,
            parts,
            missing=missing,
            views=views,
            progress=ticket.progress,
            deadline=deadline,
        )
        return await asyncio.to_thread(
            partial(
                report_of,
                job.scenario,
                asked,
                forecast,
                services=ground.services,
                requirements=job.requirements,
                now=self._clock(),
            )
        )

    def _ground(self, job: Job) -> _Ground:
        """What the job is answered over. Raises NotFound: its owner has no such active twin."""
        tenant = tenant_of(job.owner)
        if not tenant:
            return _Ground(self._registry.graph, self._records.services)
        twin = job.labels.get(TWIN_LABEL, "")
        sandbox = self.tenants.sandbox(tenant, twin) if self.tenants is not None and twin else None
        if sandbox is None:
            raise NotFound(
                f"no active twin {twin!r} of yours is here; order one, or wait until it is active"
                if twin
                else "twin: which of your twins is asked about is not said"
            )
        for domain in job.scope:
            if domain not in sandbox.graph.members:
                raise NotFound(f"no domain {domain!r} in this twin")
        return _Ground(sandbox.graph, {}, frozenset(sandbox.points))

    def _parts(
        self, job: Job, graph: ComposedGraph, deadline: float
    ) -> tuple[list[Part], dict[str, TwinError]]:
        """Whom to ask, and who cannot be asked with the reason."""
        parts: list[Part] = []
        missing: dict[str, TwinError] = {}
        for domain, member in graph.members.items():
            if job.scope and domain not in job.scope:
                missing[domain] = NotShared(f"{domain} is not in the scope of the job")
            elif self._registry.session(domain) is None:
                reason = member.reason or "it is not connected now"
                missing[domain] = Unreachable(f"{domain}: {reason}")
            else:
                part = SessionPart(
                    domain, self._registry.session, job=job.id, on_behalf_of=job.owner, deadline=deadline
                )
                parts.append(part)
        return parts, missing

    def _deadline(self, job: Job) -> float:
        """When domains are no longer waited for, on the loop's clock."""
        left_s = job.requirements.deadline_s - (self._clock() - job.created_at) / 1e9
        return asyncio.get_running_loop().time() + max(0.0, left_s * (1.0 - _SPARE))


def _check(job: Job, members: Container[str]) -> None:
    """Refuse what the broker has nothing to answer from. Raises ConfigError, NotFound."""
    scenario = job.scenario
    if job.capability in _NOT_SERVED:
        raise NotFound(f"{job.capability.value} is not served across domains; ask a domain's own agent")
    if scenario.at != "live":
        raise ConfigError(
            f"at: {scenario.at} is not a state that the broker has; across domains ask about live, and give"
            " the versions that you mean as requirements"
        )
    if scenario.window is not None:
        raise ConfigError(
            "window: histories stay inside the domains; leave it out, or ask a domain's own agent"
        )
    if scenario.when is not None:
        raise ConfigError(
            "when: what is expected is known inside the domains; leave it out, or ask a domain's own agent"
        )
    strangers = [domain for domain in job.requirements.at_versions if domain not in members]
    if strangers:
        raise NotFound(f"no domain {strangers[0]!r} in this federation, so it is at no version")
    if scenario.rung != "tables":
        raise ConfigError(f"rung: {scenario.rung} is not composed across domains; ask at tables")


def _known(scenario: Scenario, ground: _Ground) -> list[Known]:
    """The pairs that are followed: services, and those that are asked for. Raises NotShared, ConfigError.

    In a sandbox, where neither names any: all pairs of its end points.
    """
    found = [Known(service.source, service.target, key) for key, service in sorted(ground.services.items())]
    have = {(pair.source, pair.target) for pair in found}
    points: Container[str] = ground.graph.points if ground.points is None else ground.points
    for source, target in scenario.flows:
        for name in (source, target):
            if name not in points or name not in ground.graph.points:
                raise NotShared(f"{name} is not shared with you")
        if (source, target) not in have:
            found.append(Known(source, target))
    if ground.points is not None and not scenario.flows:
        here = sorted(name for name in ground.points if name in ground.graph.points)
        if len(here) * (len(here) - 1) > MOST_PAIRS:
            raise ConfigError(
                f"flows: this twin has {len(here)} end points, and at most {MOST_PAIRS} pairs are followed"
                " unless you name them; name those that matter"
            )
        found += [Known(source, target) for source, target in permutations(here, 2)]
    return found


def _silent(ground: _Ground) -> list[str]:
    """Domains of a partner's twin that showed nothing yet: what is theirs cannot be told from what is not."""
    if ground.points is None:
        return []
    return sorted(name for name, member in ground.graph.members.items() if member.view is None)


_TOLD = {
    Outcome.NOT_SHARED: "it does not share what was asked for with you",
    Outcome.UNREACHABLE: "it is not connected now, or did not answer in time",
    Outcome.OVER_CAPACITY: "it works on as much as it accepts at once",
    Outcome.STALE_VERSION: "it is at another version by now",
    Outcome.NO_DATA: "it cannot compute what was asked for",
}


def _for_partner(report: Report, ground: _Ground) -> Report:
    """The report without what is between the exchange and the domains.

    Reasons of domains name agreements of the exchange; sentences on what they assumed may name end points
    that this partner does not see.
    """
    visible = ground.graph.points
    domains = tuple(replace(item, reason=_TOLD.get(item.outcome, item.reason)) for item in report.domains)
    said = tuple(text for text in report.assumptions if _all_visible(text, visible, ground.graph.members))
    told = {item.domain: item for item in domains}
    findings = tuple(
        replace(finding, message=_missing(told[finding.domain]))
        if finding.code == "what-if.domain-missing" and finding.domain in told
        else finding
        for finding in report.findings
    )
    elements = tuple(item for item in report.elements if item.element in visible)
    return sealed(
        replace(report, domains=domains, assumptions=said, findings=findings, elements=elements, digest="")
    )


def _missing(outcome: DomainOutcome) -> str:
    return (
        f"{outcome.domain} is not part of this answer: {outcome.reason}; figures of flows that cross it are"
        " left out, and what it loses is not taken from others' load"
    )


def _all_visible(text: str, visible: Container[str], domains: Container[str]) -> bool:
    """Whether a sentence names no point that is not visible."""
    words = (word.strip(".,;:()'\"") for word in text.split())
    return all(word in visible or word.partition("/")[0] not in domains for word in words if "/" in word)
