"""One domain's answer to a scenario: both states solved, compared, and told as a report. Blocks; no I/O.

Deterministic: equal networks, scenario and seed give equal reports, byte for byte but for `job` and
`answered_at`, in every process of a platform. `progress` may raise to have it stop; what is known of a sweep
by then is handed to `keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.answer import DomainOutcome, Outcome
from domain_twin.model.job import Report, Requirements
from domain_twin.model.job_json import sealed
from domain_twin.model.network import Finding, Severity
from domain_twin.model.scenario import NewService, Scenario
from domain_twin.model.values import Nanoseconds, StateKind, Version
from domain_twin.simulation.applied import applied
from domain_twin.simulation.graph import Demand, FloatArray, Rung, SimGraph
from domain_twin.simulation.learned.moved import moved_error_s
from domain_twin.simulation.learned.residual import Residual
from domain_twin.simulation.questions.changes import Arrays, Elements, same_demand, with_services
from domain_twin.simulation.questions.corrected import ASSUMED, corrected, outside
from domain_twin.simulation.questions.forecast import (
    Flow,
    Intervals,
    Promise,
    changed_most,
    element_forecasts,
    findings_of,
    flow_forecast,
    flow_key,
)
from domain_twin.simulation.questions.sweep_rows import Judge, Watch, swept
from domain_twin.simulation.questions.sweeps import Plan, plan
from domain_twin.simulation.questions.whatif_capacity import Side, capacity_report
from domain_twin.simulation.solve import Correction, Engine, Solution

__all__ = ["Question", "answer", "moved_between"]

_UNCALIBRATED = (
    "figures have no intervals: nothing was measured to calibrate them on; `fedtwin calibrate` does"
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a domain, and what is known of it beside its arrays.

    `aliases` are further names of elements; `promises` what services inside the domain were promised, with
    `source` and `target` as scenarios name elements. `borders`: traffic of other domains crosses it.
    `residual`: the correction for the rung of this name, if there is one. `correction` makes that of links'
    delays, for a graph, where one was learned.
    """

    scenario: Scenario
    domain: str
    version: Version
    requirements: Requirements = field(default_factory=Requirements)
    promises: Sequence[Promise] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    intervals: Intervals | None = None
    borders: bool = True
    residual: Residual | None = None
    correction: Callable[[SimGraph], Correction] | None = None


def answer(
    before: Arrays,
    question: Question,
    *,
    after: Arrays | None = None,
    later: Arrays | None = None,
    engine: Engine | None = None,
    now: Nanoseconds = 0,
    progress: Callable[[float, str], None] = lambda *_: None,
    keep: Callable[[Report], None] = lambda _: None,
) -> Report:
    """What would happen. `after` is the candidate's network where configuration was edited; its demand is
    that of `before`, as what people send does not follow from configuration, or that of `later`: the network
    of `before` with the demand of another time.

    `engine` is one of `before`, if there is one. Raises NotFound, ConfigError, OverCapacity.
    """
    scenario = question.scenario
    rung = _rung(scenario, question.residual)
    changed: Arrays = later or before
    carried: tuple[str, ...] = ()
    if after is not None and after is not before:
        demand, carried = same_demand(changed, after.graph)
        changed = _With(after, after.graph, demand)
    elements = Elements(changed, domain=question.domain, aliases=question.aliases)
    graph, demand = with_services(changed, scenario, elements)
    elements = Elements(_With(changed, graph, demand), domain=question.domain, aliases=question.aliases)
    plans = plan(elements, scenario)
    promises = _promises(question, elements)
    asked = _asked(scenario, elements)
    notes = tuple(
        Finding("what-if.no-effect", Severity.INFO, question.domain, "", note, "leave the change out")
        for note in plans.notes
    )
    head = Report(
        job="",
        scenario=scenario,
        kind=StateKind.CANDIDATE,
        versions={question.domain: question.version},
        rung=rung.value,
        findings=(*question.findings, *notes),
        domains=(DomainOutcome(question.domain, Outcome.OK, question.version),),
        assumptions=(*carried, *question.assumptions),
        answered_at=now,
    )
    touched = tuple(_edges_touched(changed, plans))
    asking = _Asking(head, question, plans, promises, asked, touched, Watch(progress, keep))
    if rung is Rung.CAPACITY:
        progress(0.0, "routing both states")
        return asking.by_capacity(before, graph, demand)
    progress(0.0, "solving the state before")
    rung = Rung.TABLES if rung is Rung.RESIDUAL else rung  # corrected afterwards
    base = engine or _engine(question, before.graph, before.demand, rung)
    same = graph is before.graph and demand is before.demand
    return asking.by_queues(base, base if same else _engine(question, graph, demand, rung))


def _engine(question: Question, graph: SimGraph, demand: Demand, rung: Rung) -> Engine:
    correction = question.correction(graph) if question.correction is not None else None
    return Engine(graph, demand, rung=rung, correction=correction)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A question as it stands to one network: what was made of its words."""

    head: Report
    question: Question
    plans: Plan
    promises: Sequence[Promise]
    asked: Sequence[tuple[int, int]]
    touched: Sequence[str]
    watch: Watch

    def by_capacity(self, before: Arrays, graph: SimGraph, demand: Demand) -> Report:
        """The report at the rung capacity."""
        offered = applied(graph, demand, self.plans.variant)[1].rate
        return capacity_report(
            self.head,
            (Side(before.graph, before.demand), Side(graph, demand, self.plans.variant)),
            named=_named(graph, offered, self.promises, self.asked),
            touched=self.touched,
            sweep=(self.plans.sweep(), self.plans.count),
            watch=self.watch,
        )

    def by_queues(self, base: Engine, candidate: Engine) -> Report:
        """The report at the rung that the engines have."""
        domain, head, plans = self.question.domain, self.head, self.plans
        before = base.solve()
        self.watch.progress(0.1, "solving the state after")
        after = candidate.solve(plans.variant)
        named = _named(candidate.graph, after.state.rate, self.promises, self.asked)
        flows = dict(named)
        if not self.asked:
            flows |= {flow: "" for flow in changed_most(before, after) if flow not in flows}
        intervals, residual = self.question.intervals, self.question.residual
        if head.rung == Rung.RESIDUAL.value and residual is not None:
            before, silent = corrected(before, residual)
            after, more = corrected(after, residual)
            marked = outside(tuple(dict.fromkeys((*silent, *more))), residual, domain)
            head = replace(head, findings=(*head.findings, *marked), assumptions=(*head.assumptions, ASSUMED))
            intervals = None
        moved = None
        if intervals is not None:
            moved = moved_between(before, after, candidate, borders=self.question.borders)
        forecasts = tuple(
            flow_forecast(
                flow, before, after, domain=domain, service=service, intervals=intervals, moved_s=moved
            )
            for flow, service in flows.items()
        )
        found = findings_of(
            before, after, forecasts, self.promises, domain=domain, requirements=self.question.requirements
        )
        report = replace(
            head,
            flows=forecasts,
            elements=element_forecasts(before, after, self.touched, domain=domain),
            findings=(*head.findings, *found),
            assumptions=(*head.assumptions, *_assumptions(self.question)),
        )
        if plans.count:
            judge = Judge(candidate.graph, named, self.promises, self.question.requirements)
            digests = candidate.sweep(plans.sweep(), pairs=judge.pairs)
            return swept(report, digests, judge, count=plans.count, watch=self.watch)
        self.watch.progress(1.0, "done")
        return sealed(report)


def moved_between(before: Solution, after: Solution, engine: Engine, *, borders: bool) -> FloatArray:
    """Standard error of every edge's delay after the change, [E, C]: which flows it moves is inferred.

    `engine` is that of `after`; `borders`: whether the network has any. What the same demand would load over
    the routes of `before` is known.
    """
    edges, graph = after.edges, after.graph
    if before.graph.nodes == graph.nodes and before.graph.edges == graph.edges:
        reference = engine.settle(engine.state(), before.trees, after.state.rate, after.state.square).load
    else:  # configuration was edited: what people send is as it was
        place = {name: number for number, name in enumerate(before.graph.edges)}
        reference = np.zeros_like(edges.load)
        kept = [(number, place[name]) for number, name in enumerate(graph.edges) if name in place]
        here, there = np.array(kept, dtype=np.int64).reshape(-1, 2).T
        width = before.edges.load.shape[1]
        reference[here, :width] = before.edges.load[there]
    return moved_error_s(after.state.laws, edges.load, edges.load_square, reference, borders=borders)


@dataclass(frozen=True, slots=True)
class _With:
    """A compiled network with other classes and demand."""

    base: Arrays
    graph: SimGraph
    demand: Demand

    @property
    def edges_of(self) -> Mapping[str, Sequence[int]]:
        """Edge indices by element id."""
        return self.base.edges_of

    @property
    def node_of(self) -> Mapping[str, int]:
        """Node index by element id."""
        return self.base.node_of


def _rung(scenario: Scenario, residual: Residual | None) -> Rung:
    rung = Rung(scenario.rung)
    if rung is Rung.RESIDUAL:
        if residual is None:
            raise ConfigError(
                "rung: residual is not answered by this twin: it has no fitted correction; ask at tables, or"
                " name one as residual under [what_if] of the agent (fedtwin residual makes it)"
            )
        if scenario.sweep is not None:
            raise ConfigError("rung: a sweep is not corrected; sweep at tables, then ask for its worst")
    elif rung not in (Rung.CAPACITY, Rung.TABLES):
        raise ConfigError(
            f"rung: {rung.value} is not answered by this twin; ask at tables, or simulate the network from a"
            " file with `fedtwin simulate`"
        )
    return rung


def _promises(question: Question, elements: Elements) -> list[Promise]:
    """Promises by node names: of services known here, and of those that the scenario adds."""
    graph = elements.graph
    found = []
    for promise in question.promises:
        try:
            source, target = elements.node(promise.source), elements.node(promise.target)
        except (NotFound, ConfigError):
            continue  # it begins or ends in another domain
        found.append(replace(promise, source=graph.nodes[source], target=graph.nodes[target]))
    for change in question.scenario.changes:
        if isinstance(change, NewService):
            source, target = elements.node(change.source), elements.node(change.target)
            ends = graph.nodes[source], graph.nodes[target]
            found.append(Promise(change.name, *ends, change.delay_ms, change.loss, traffic_class=change.name))
    return found


def _asked(scenario: Scenario, elements: Elements) -> list[tuple[int, int]]:
    """The pairs that the asker wants reported. Raises NotFound, ConfigError."""
    pairs = []
    for source, target in scenario.flows:
        s, d = elements.node(source), elements.node(target)
        if s == d:
            raise ConfigError(f"flows: {source!r} and {target!r} are one place; name two elements")
        pairs.append((s, d))
    return pairs


def _named(
    graph: SimGraph, rate: FloatArray, promises: Sequence[Promise], asked: Sequence[tuple[int, int]]
) -> dict[Flow, str]:
    """The flows of services, then those that were asked for, each with the service that it carries."""
    flows: dict[Flow, str] = {}
    for promise in promises:
        s, d = graph.nodes.index(promise.source), graph.nodes.index(promise.target)
        for c in _classes(rate, s, d):
            if promise.traffic_class in ("", graph.classes[c].name):
                flows.setdefault(flow_key(graph, c, s, d), promise.service)
    for s, d in asked:
        for c in _classes(rate, s, d):
            flows.setdefault(flow_key(graph, c, s, d), "")
    return flows


def _classes(rate: FloatArray, s: int, d: int) -> list[int]:
    """The classes that a pair has traffic of; where it has none, the first."""
    return [c for c in range(rate.shape[0]) if rate[c, d, s] > 0.0] or [0]


def _edges_touched(changed: Arrays, plans: Plan) -> Iterator[str]:
    for element in plans.touched:
        for edge in changed.edges_of.get(element, ()):
            yield changed.graph.edges[edge]


def _assumptions(question: Question) -> tuple[str, ...]:
    said = []
    if question.intervals is None:
        said.append(_UNCALIBRATED)
    said.append(
        "queues are computed for traffic that does not react: TCP slows down where losses or delays grow,"
        " and only elastic classes are computed so"
    )
    return tuple(said)
