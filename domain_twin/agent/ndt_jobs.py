"""Answers the NDT jobs of one domain from its twin (3GPP TS 28.561 NDTFunction). Keeps no job's state.

Reading the twin happens on the event loop, all computing on threads of its own. What is asked of a capability
is checked before a job is taken in; a capability that no part of this twin serves is refused in words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from domain_twin.datastore.candidate import Candidate, make_candidate
from domain_twin.datastore.snapshot import Snapshot
from domain_twin.errors import ConfigError, NotFound, StaleVersion
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Nanoseconds, Network, ServiceRecords, StateKind, Version
from domain_twin.model.job import Capability, Job, Report
from domain_twin.model.moments import moment
from domain_twin.model.scenario import ConfigChange, Scenario
from domain_twin.simulation.jobs.desk import AT_ONCE, Ticket
from domain_twin.trust.files import Stamp, stamp
from domain_twin.yang.schema import SchemaSet

if TYPE_CHECKING:
    from domain_twin.agent.corrections import InService
    from domain_twin.simulation.graph import SimGraph
    from domain_twin.simulation.learned.residual import Residual
    from domain_twin.simulation.questions.forecast import Intervals, Promise
    from domain_twin.simulation.solve import Correction, Engine
    from domain_twin.simulation.twin.calibration import Calibration
    from domain_twin.simulation.twin.compile import Compiled
    from domain_twin.simulation.twin.traffic import Loads

__all__ = ["CalibrationFile", "NdtJobs", "Twin", "map_candidate"]

T = TypeVar("T")
_EVENTS = ("element-down", "element-up", "demand", "cell-load")
_ISSUES = ("element-down", "capacity", "workers")
_CONFIGURATIONS = ("config", "metric", "capacity", "buffer", "scheduler", "workers", "service")
_NOT_SERVED: Mapping[Capability, str] = {
    Capability.AUTOMATION_CONFIGURATION_VERIFICATION: "no automation is configured in this twin that could be"
    " verified; ask for the change that it would make, as NETWORK_CONFIGURATIONS_VERIFICATION",
    Capability.ML_TRAINING_DATA_GENERATION: "reports hold judged variants, not the samples that training"
    " needs; a sweep as RISKY_ACTIONS_PREDICTION lists one row a variant",
    Capability.USER_EXPERIENCE_DATA_GENERATION: "what users experience is not modelled, only what their"
    " packets meet; ask for their flows as RISKY_ACTIONS_PREDICTION",
}


class Twin(Protocol):
    """What jobs are answered from: the agent's running twin."""

    domain: str
    published: Mapping[str, str]
    records: ServiceRecords

    def network(self) -> Network:
        """The domain's network now."""

    def snapshot(self) -> Snapshot:
        """The devices' state now."""

    async def snapshot_at(self, at: Nanoseconds) -> Snapshot:
        """The devices' state as it was. Raises NotFound."""

    def schema_of(self, device: str) -> SchemaSet:
        """The YANG modules of a device."""

    async def loads(self, start: Nanoseconds, end: Nanoseconds) -> Loads:
        """What elements carried between two times, on the mean. Raises NotFound."""

    async def expected_loads(self, at: Nanoseconds, loads: Loads) -> Loads:
        """What elements will carry at a time to come, where they carry `loads` now. Raises NotFound."""

    def recent_loads(self, network: Network) -> Loads | None:
        """What elements carried lately, up to this network; None: as it says."""

    def calibration(self) -> Calibration | None:
        """What was fitted from history; None: nothing was."""

    def residual(self) -> Residual | None:
        """The correction for the rung residual; None: none is configured. Raises ConfigError."""

    def learned_residual(self) -> InService | None:
        """The residual of links that domains learned together; None: none is in service here. Blocks."""


@dataclass(frozen=True, slots=True)
class _State:
    """The state a scenario changes."""

    network: Network
    snapshot: Snapshot | None  # None: nothing of it is edited
    loads: Loads | None = None  # None: as the network reports them
    assumptions: tuple[str, ...] = ()
    windowed: bool = False  # the loads are those of a time that was asked for
    expected: Loads | None = None  # those of the candidate, where it is of a time to come


@dataclass(frozen=True, slots=True)
class _Solvable:
    """A network ready to be asked, and what is known of its errors."""

    compiled: Compiled
    engine: Engine
    intervals: Intervals | None


class NdtJobs:
    """The domain's answers to jobs, for its JobDesk."""

    def __init__(self, twin: Twin, *, clock: Callable[[], Nanoseconds] = time.time_ns) -> None:
        self._twin = twin
        self._clock = clock
        self._threads = ThreadPoolExecutor(AT_ONCE, "ndt-job")
        self._warm: tuple[Network, Calibration | None, InService | None, _Solvable] | None = None

    def check(self, job: Job) -> None:
        """Refuse what cannot be answered here. Raises ConfigError, NotFound, StaleVersion."""
        _check_capability(job.capability, job.scenario)
        others = [
            domain for domain in (*job.scope, *job.requirements.at_versions) if domain != self._twin.domain
        ]
        if others:
            raise NotFound(
                f"this agent is the twin of {self._twin.domain}; ask the broker about {others[0]!r}"
            )
        self._check_version(job, self._twin.network().version)

    async def answer(self, ticket: Ticket) -> Report:
        """What would happen. Raises TwinError."""
        job = ticket.job
        ticket.progress(0.0, "reading the twin")
        state = await self._state(job)
        self._check_version(job, state.network.version)
        return await self._off_the_loop(partial(self._answered, ticket, state))

    def _answered(self, ticket: Ticket, state: _State) -> Report:
        """The report; blocks."""
        from domain_twin.simulation.questions.whatif import Question, answer

        scenario = ticket.job.scenario
        ticket.progress(0.0, "compiling the network")
        learned = self._twin.learned_residual() if _corrected(scenario) else None
        base = self._solvable(state, learned)
        before = after = base.compiled
        assumed = state.assumptions
        edits = [
            (f"changes[{place}]", change)
            for place, change in enumerate(scenario.changes)
            if isinstance(change, ConfigChange)
        ]
        if edits and state.snapshot is not None:
            ticket.progress(0.0, "mapping the edited configuration")
            candidate = make_candidate(state.snapshot, edits, self._twin.schema_of)
            after = self._compile(map_candidate(candidate, state.network), state.loads)
            assumed = (*assumed, *candidate.assumed)
        later = self._compile(state.network, state.expected) if state.expected else None
        if later is not None:
            assumed = (*assumed, *later.assumptions)
        correction, said = self._correction(learned, before.graph)
        assumed = (*assumed, *said)
        question = Question(
            scenario,
            self._twin.domain,
            state.network.version,
            requirements=ticket.job.requirements,
            promises=self._promises(),
            aliases=self._aliases(),
            assumptions=tuple(dict.fromkeys((*assumed, *before.assumptions, *after.assumptions))),
            intervals=base.intervals,
            residual=self._twin.residual() if scenario.rung == "residual" else None,
            correction=correction,
            borders=any(point.inter_domain for point in state.network.termination_points.values()),
        )
        return answer(
            before,
            question,
            after=after,
            later=later,
            engine=base.engine,
            now=self._clock(),
            progress=ticket.progress,
            keep=ticket.keep,
        )

    async def _state(self, job: Job) -> _State:
        scenario = job.scenario
        state = await self._at(scenario)
        if (window := scenario.window) is not None:
            loads = await self._twin.loads(_nanoseconds(window.start), _nanoseconds(window.end))
            said = f"demand is that of the mean loads of {window.start} to {window.end}"
            state = replace(state, loads=loads, assumptions=(*state.assumptions, said), windowed=True)
        if scenario.when is not None:
            from domain_twin.simulation.twin.traffic import loads_of

            now = state.loads or loads_of(state.network)
            wanted = moment(scenario.when, job.created_at)
            state = replace(state, expected=await self._twin.expected_loads(wanted, now))
        return state

    async def _at(self, scenario: Scenario) -> _State:
        if scenario.at == "live" or _version_of(scenario.at):
            network = self._twin.network()
            if (wanted := _version_of(scenario.at)) and not _same(wanted, network.version):
                raise StaleVersion(
                    f"at: the twin is at {_spelled(network.version)}, not at {scenario.at}; ask for a time to"
                    " change a state of the past"
                )
            edited = any(isinstance(change, ConfigChange) for change in scenario.changes)
            loads = self._twin.recent_loads(network)
            return _State(network, self._twin.snapshot() if edited else None, loads)
        snapshot = await self._twin.snapshot_at(_nanoseconds(scenario.at))
        network = await self._off_the_loop(partial(_mapped, self._twin.domain, snapshot))
        said = (
            (f"figures of {scenario.at} are means of {snapshot.resolution_ns / 1e9:g} s; no finer are kept",)
            if snapshot.resolution_ns
            else ()
        )
        return _State(replace(network, kind=StateKind.SNAPSHOT), snapshot, assumptions=said)

    def _solvable(self, state: _State, learned: InService | None) -> _Solvable:
        """The network as arrays, and its engine: those of the last question where nothing has changed."""
        from domain_twin.simulation.solve import Engine
        from domain_twin.simulation.twin.uncertainty import flow_intervals

        calibration, warm = self._twin.calibration(), self._warm
        live = not state.windowed and state.network.kind is StateKind.LIVE
        if live and warm and warm[0] is state.network and warm[1] is calibration and warm[2] is learned:
            return warm[3]
        compiled = self._compile(state.network, state.loads)
        correction, _ = self._correction(learned, compiled.graph)
        engine = Engine(
            compiled.graph,
            compiled.demand,
            correction=correction(compiled.graph) if correction is not None else None,
        )
        intervals = flow_intervals(engine.solve(), calibration) if calibration else None
        made = _Solvable(compiled, engine, intervals)
        if live:
            self._warm = (state.network, calibration, learned, made)
        return made

    def _correction(
        self, learned: InService | None, graph: SimGraph
    ) -> tuple[Callable[[SimGraph], Correction] | None, tuple[str, ...]]:
        """What makes the correction of a graph, and what is said of it on `graph`."""
        if learned is None:
            return None, ()
        calibration = self._twin.calibration()
        _, said = learned.on(graph, calibration)
        return lambda asked: learned.on(asked, calibration)[0], (said,)

    def _compile(self, network: Network, loads: Loads | None) -> Compiled:
        from domain_twin.simulation.twin.compile import compile_network

        return compile_network(
            network, loads=loads, calibration=self._twin.calibration(), published=self._twin.published
        )

    def _promises(self) -> list[Promise]:
        from domain_twin.simulation.questions.forecast import Promise

        return [
            Promise(
                service.id, service.source, service.target, service.objective.delay_ms, service.objective.loss
            )
            for service in self._twin.records.services.values()
        ]

    def _aliases(self) -> dict[str, str]:
        return {f"{self._twin.domain}/{alias}": element for alias, element in self._twin.published.items()}

    def _check_version(self, job: Job, now: Version) -> None:
        wanted = job.requirements.at_versions.get(self._twin.domain)
        if wanted is not None and not _same(wanted, now):
            raise StaleVersion(
                f"{self._twin.domain} is at {_spelled(now)}, not at {_spelled(wanted)}; look"
                " again and ask anew"
            )

    async def _off_the_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class CalibrationFile:
    """The calibration in an agent's state folder, read again when the file changes."""

    def __init__(self, state: Path) -> None:
        self._path = state / "calibration.json"
        self._stamp: Stamp = ()
        self._read: Calibration | None = None

    def __call__(self) -> Calibration | None:
        """The calibration; None where none was made. Raises ConfigError for a broken file."""
        from domain_twin.simulation.twin.calibration import load

        if (now := stamp(self._path)) != self._stamp:
            self._read = load(self._path)
            self._stamp = now
        return self._read


def map_candidate(candidate: Candidate, before: Network) -> Network:
    """The network that a candidate's leaves map to; devices that were stale before are stale. Blocks."""
    network = _mapped(before.domain, candidate.base, candidate, _stale_devices(before))
    return replace(network, kind=StateKind.CANDIDATE)


def _mapped(
    domain: str, base: Snapshot, candidate: Candidate | None = None, stale: frozenset[str] = frozenset()
) -> Network:
    mapper = Mapper(domain)
    mapper.apply(base.as_delta())
    for device in sorted(stale):
        mapper.set_stale(device, True)
    if candidate is not None:
        mapper.apply(candidate.delta())
    return mapper.network()


def _stale_devices(network: Network) -> frozenset[str]:
    collections = (network.nodes, network.termination_points, network.cells, network.functions, network.hosts)
    return frozenset(item.device for each in collections for item in each.values() if item.stale)


def _corrected(scenario: Scenario) -> bool:
    """Whether what was learned of links is wanted: at the rung of plain tables, unless it is left out."""
    return scenario.rung == "tables" and scenario.residual is not False


def _check_capability(capability: Capability, scenario: Scenario) -> None:
    """Refuse a scenario that is not what its capability is for. Raises NotFound, ConfigError."""
    if why := _NOT_SERVED.get(capability):
        raise NotFound(f"{capability.value} is not served: {why}")
    kinds = {change.kind for change in scenario.changes}
    sweep = scenario.sweep.kind if scenario.sweep else ""
    past = scenario.window is not None or not (scenario.at == "live" or _version_of(scenario.at))
    if capability is Capability.EVENTS_IMPACTS_VERIFICATION and not (
        sweep or scenario.when or kinds & set(_EVENTS)
    ):
        raise ConfigError(f"{capability.value} asks what an event does: add a change of {_any(_EVENTS)}")
    if capability is Capability.NETWORK_ISSUE_INDUCEMENT and not (
        sweep in ("failures", "monte-carlo") or kinds & set(_ISSUES)
    ):
        raise ConfigError(
            f"{capability.value} makes something fail: add a change of {_any(_ISSUES)}, or a sweep of"
            " failures"
        )
    if capability is Capability.NETWORK_EVENTS_VERIFICATION and not past:
        raise ConfigError(
            f"{capability.value} is about an event of the past: give its time under at or window"
        )
    if capability is Capability.NETWORK_CONFIGURATIONS_VERIFICATION and not kinds & set(_CONFIGURATIONS):
        raise ConfigError(
            f"{capability.value} tries a configuration: add a change of {_any(_CONFIGURATIONS)}"
        )


def _nanoseconds(time_text: str) -> Nanoseconds:
    return int(datetime.fromisoformat(time_text).timestamp() * 1e9)


def _any(words: tuple[str, ...]) -> str:
    return f"kind {', '.join(words[:-1])} or {words[-1]}"


def _version_of(at: str) -> Version | None:
    """The version that epoch:sequence names; None for live and for times."""
    epoch, colon, sequence = at.rpartition(":")
    return Version(epoch, int(sequence)) if colon and "T" not in at and sequence.isdecimal() else None


def _same(wanted: Version, now: Version) -> bool:
    return (wanted.epoch, wanted.sequence) == (now.epoch, now.sequence)


def _spelled(version: Version) -> str:
    return f"{version.epoch}:{version.sequence}"
