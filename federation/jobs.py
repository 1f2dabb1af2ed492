"""The broker's answers to jobs: what-ifs across domains. Owns who is asked; a desk owns queue and store.

A job of the broker has private child jobs in the domains, under the same id, which end with it. Each domain
decides by its own agreements, and is told for whom it is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container
from functools import partial
from typing import TYPE_CHECKING, Any

from domain_twin.errors import ConfigError, NotFound, NotShared, TwinError, Unreachable
from domain_twin.model import Nanoseconds, ServiceRecords
from domain_twin.model.job import Capability, Job, Report
from domain_twin.model.scenario import Scenario
from federation.compose import ComposedGraph
from federation.whatif_changes import cases, check, sight
from federation.whatif_flows import Known

if TYPE_CHECKING:
    from domain_twin.simulation.jobs.desk import Ticket
    from federation.registry import Registry
    from federation.session import Session
    from federation.whatif import Part
    from federation.wire.simulate import Figures, Prepare, Prepared, Round

__all__ = ["BrokerJobs", "SessionPart"]

_SPARE = 0.05  # share of the time until the deadline that is kept for composing the answer
_NOT_SERVED = (
    Capability.AUTOMATION_CONFIGURATION_VERIFICATION,
    Capability.ML_TRAINING_DATA_GENERATION,
    Capability.USER_EXPERIENCE_DATA_GENERATION,
)


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

    def check(self, job: Job) -> None:
        """Refuse what cannot be answered across domains. Raises ConfigError, NotFound, NotShared."""
        _check(job, self._registry.graph.members)
        check(job.scenario, sight(self._registry.graph))

    async def answer(self, ticket: Ticket) -> Report:
        """What would happen. Raises TwinError."""
        from federation.whatif import Question, predict
        from federation.whatif_report import report_of

        job = ticket.job
        graph = self._registry.graph
        _check(job, graph.members)
        seen = sight(graph)
        known = _known(job.scenario, self._records, graph)
        seed = job.scenario.seed or 0
        asked = await asyncio.to_thread(cases, job.scenario, seen, seed=seed, pairs=len(known))
        deadline = self._deadline(job)
        parts, missing = self._parts(job, graph, deadline)
        views = {name: member.view for name, member in graph.members.items() if member.view}
        question = Question(asked, known, seen, job.scenario.name, job.requirements.at_versions)
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
                services=self._records.services,
                requirements=job.requirements,
                now=self._clock(),
            )
        )

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
    strangers = [domain for domain in job.requirements.at_versions if domain not in members]
    if strangers:
        raise NotFound(f"no domain {strangers[0]!r} in this federation, so it is at no version")
    if scenario.rung != "tables":
        raise ConfigError(f"rung: {scenario.rung} is not composed across domains; ask at tables")


def _known(scenario: Scenario, records: ServiceRecords, graph: ComposedGraph) -> list[Known]:
    """The pairs that are followed: services, and those that are asked for. Raises NotShared."""
    found = [Known(service.source, service.target, key) for key, service in sorted(records.services.items())]
    have = {(pair.source, pair.target) for pair in found}
    for source, target in scenario.flows:
        for name in (source, target):
            if name not in graph.points:
                raise NotShared(f"{name} is not shared with you")
        if (source, target) not in have:
            found.append(Known(source, target))
    return found
