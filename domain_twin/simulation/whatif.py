"""One domain's answer to a scenario: both states solved, compared, and told as a report. Blocks; no I/O.

Deterministic: equal networks, scenario and seed give equal reports, byte for byte but for `job` and
`answered_at`, in every process of a platform. `progress` may raise to have it stop; what is known of a sweep
by then is handed to `keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.answer import DomainOutcome, Outcome
from domain_twin.model.job import Report, Requirements
from domain_twin.model.job_json import sealed
from domain_twin.model.network import Finding, Severity
from domain_twin.model.scenario import NewService, Scenario
from domain_twin.model.values import Nanoseconds, StateKind, Version
from domain_twin.simulation.changes import Arrays, Elements, Plan, plan, same_demand, with_services
from domain_twin.simulation.forecast import (
    Flow,
    Intervals,
    Promise,
    changed_most,
    element_forecasts,
    findings_of,
    flow_forecast,
    flow_key,
)
from domain_twin.simulation.graph import Demand, FloatArray, Rung, SimGraph
from domain_twin.simulation.solve import Engine, Solution
from domain_twin.simulation.sweep_rows import Judge, Watch, swept

__all__ = ["Question", "answer"]

_UNCALIBRATED = (
    "figures have no intervals: nothing was measured to calibrate them on; `fedtwin calibrate` does"
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a domain, and what is known of it beside its arrays.

    `aliases` are further names of elements; `promises` what services inside the domain were promised, with
    `source` and `target` as scenarios name elements.
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


def answer(
    before: Arrays,
    question: Question,
    *,
    after: Arrays | None = None,
    engine: Engine | None = None,
    now: Nanoseconds = 0,
    progress: Callable[[float, str], None] = lambda *_: None,
    keep: Callable[[Report], None] = lambda _: None,
) -> Report:
    """What would happen. `after` is the candidate's network where configuration was edited; its demand is
    that of `before`, as what people send does not follow from configuration.

    `engine` is one of `before`, if there is one. Raises NotFound, ConfigError, OverCapacity.
    """
    scenario = question.scenario
    rung = _rung(scenario)
    changed: Arrays = before
    carried: tuple[str, ...] = ()
    if after is not None and after is not before:
        demand, carried = same_demand(before, after.graph)
        changed = _With(after, after.graph, demand)
    elements = Elements(changed, domain=question.domain, aliases=question.aliases)
    graph, demand = with_services(changed, scenario, elements)
    elements = Elements(_With(changed, graph, demand), domain=question.domain, aliases=question.aliases)
    plans = plan(elements, scenario)
    promises = _promises(question, elements)
    asked = _asked(scenario, elements)
    progress(0.0, "solving the state before")
    base = engine or Engine(before.graph, before.demand, rung=rung)
    solved_before = base.solve()
    progress(0.1, "solving the state after")
    same = graph is before.graph and demand is before.demand
    candidate = base if same else Engine(graph, demand, rung=rung)
    solved_after = candidate.solve(plans.variant)
    named = _named(solved_after, promises, asked)
    flows = dict(named)
    if not asked:
        flows |= {flow: "" for flow in changed_most(solved_before, solved_after) if flow not in flows}
    forecasts = tuple(
        flow_forecast(
            flow,
            solved_before,
            solved_after,
            domain=question.domain,
            service=service,
            intervals=question.intervals,
        )
        for flow, service in flows.items()
    )
    found = findings_of(
        solved_before,
        solved_after,
        forecasts,
        promises,
        domain=question.domain,
        requirements=question.requirements,
    )
    notes = tuple(
        Finding("what-if.no-effect", Severity.INFO, question.domain, "", note, "leave the change out")
        for note in plans.notes
    )
    report = Report(
        job="",
        scenario=scenario,
        kind=StateKind.CANDIDATE,
        versions={question.domain: question.version},
        rung=rung.value,
        flows=forecasts,
        elements=element_forecasts(
            solved_before, solved_after, _edges_touched(changed, plans), domain=question.domain
        ),
        findings=(*question.findings, *notes, *found),
        domains=(DomainOutcome(question.domain, Outcome.OK, question.version),),
        assumptions=(*carried, *_assumptions(question)),
        answered_at=now,
    )
    if plans.count:
        judge = Judge(graph, named, promises, question.requirements)
        digests = candidate.sweep(plans.sweep(), pairs=judge.pairs)
        return swept(report, digests, judge, count=plans.count, watch=Watch(progress, keep))
    progress(1.0, "done")
    return sealed(report)


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


def _rung(scenario: Scenario) -> Rung:
    rung = Rung(scenario.rung)
    if rung is not Rung.TABLES:
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


def _named(after: Solution, promises: Sequence[Promise], asked: Sequence[tuple[int, int]]) -> dict[Flow, str]:
    """The flows of services, then those that were asked for, each with the service that it carries."""
    graph, rate = after.graph, after.state.rate
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
    said = list(question.assumptions)
    if question.intervals is None:
        said.append(_UNCALIBRATED)
    said.append(
        "queues are computed for traffic that does not react: TCP slows down where losses or delays grow,"
        " and only elastic classes are computed so"
    )
    return tuple(said)
