"""Figures of flows and elements before and after, and what a person should see in them. Computes no network.

A flow is (traffic class, source, target), by name: the two networks that are compared may differ in their
nodes and classes. Owns thresholds and which flows and elements are worth showing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from domain_twin.model.job import (
    ElementForecast,
    Figure,
    FlowFigures,
    FlowForecast,
    PathPart,
    Requirements,
)
from domain_twin.model.network import Finding, Severity
from domain_twin.simulation.graph import FloatArray, Law, SimGraph
from domain_twin.simulation.learned.flow_error import noise_s
from domain_twin.simulation.percentiles import percentiles
from domain_twin.simulation.solve import Solution

__all__ = [
    "HOT", "MOST_FLOWS", "Flow", "Intervals", "Promise", "changed_most", "element_forecasts", "findings_of",
    "flow_forecast", "flow_key", "kind_of_edge", "missed",
]  # fmt: skip

HOT = 0.8
"""Utilisation from which an element is worth a word: queues grow fast above it."""
LOSSY = 1e-3
"""Loss ratio of a flow that is worth a word."""
MOST_FLOWS = 20
_MOST_ELEMENTS = 40
_MOST_OF_A_KIND = 25
_KINDS = {Law.LINK: "link", Law.CELL: "cell", Law.STATION: "station", Law.FIXED: "delay"}

Flow: TypeAlias = tuple[str, str, str]
"""Traffic class, source node and target node, by name."""


class Intervals(Protocol):
    """Says how far off figures may be; for a figure without calibration NaN on both sides."""

    def around(
        self, figure: str, value: float, utilisation: float, *, noise: float = 0.0, moved: float = 0.0
    ) -> tuple[float, float]:
        """The 90 % interval of a figure (a field of FlowFigures) of a flow.

        `utilisation` is that of the busiest element on its path; `noise` the standard error of the figure's
        mean over the packets of one second, `moved` that by which flows that were moved may be others, both
        in its unit.
        """


@dataclass(frozen=True, slots=True)
class Promise:
    """What a flow was promised; None: nothing. `service` is an id, `source` and `target` node names."""

    service: str
    source: str
    target: str
    delay_ms: float | None = None
    loss: float | None = None
    traffic_class: str = ""  # empty: each class of the pair


@dataclass(frozen=True, slots=True)
class _Place:
    """A flow's indices in one graph."""

    c: int
    s: int
    d: int


def flow_key(graph: SimGraph, c: int, s: int, d: int) -> Flow:
    """The names of a flow."""
    return graph.classes[c].name, graph.nodes[s], graph.nodes[d]


def kind_of_edge(graph: SimGraph, edge: int) -> str:
    """What sort of element an edge is."""
    return _KINDS[Law(int(graph.law[edge]))]


def _place(graph: SimGraph, flow: Flow) -> _Place | None:
    name, source, target = flow
    classes = [item.name for item in graph.classes]
    if name not in classes or source not in graph.nodes or target not in graph.nodes:
        return None
    return _Place(classes.index(name), graph.nodes.index(source), graph.nodes.index(target))


def changed_most(before: Solution, after: Solution, limit: int = MOST_FLOWS) -> list[Flow]:
    """Flows with demand that lose or gain their path, then those whose delay changes most."""
    old, new = before.graph, after.graph
    where = {name: index for index, name in enumerate(new.nodes)}
    common = [index for index, name in enumerate(old.nodes) if name in where]
    moved = [where[old.nodes[index]] for index in common]
    classes = [item.name for item in new.classes]
    scored: list[tuple[float, float, int, int, int]] = []
    for c, item in enumerate(old.classes):
        if item.name not in classes:
            continue
        other = classes.index(item.name)
        one, two = np.ix_(common, common), np.ix_(moved, moved)
        offered = (before.state.rate[c][one] > 0.0) | (after.state.rate[other][two] > 0.0)
        was, will = before.delay_s[c][one], after.delay_s[other][two]
        cut = np.isnan(was) != np.isnan(will)
        step = np.where(np.isnan(was) | np.isnan(will), 0.0, np.abs(will - was))
        lost = np.abs(np.nan_to_num(after.loss[other][two]) - np.nan_to_num(before.loss[c][one]))
        worth = offered & (cut | (step > 1e-9) | (lost > 1e-9))
        for d, s in np.argwhere(worth).tolist():
            scored.append((-float(cut[d, s]), -float(step[d, s]), c, common[s], common[d]))
    scored.sort()
    return [flow_key(old, c, s, d) for _, _, c, s, d in scored[:limit]]


def flow_forecast(
    flow: Flow,
    before: Solution,
    after: Solution,
    *,
    domain: str,
    service: str = "",
    intervals: Intervals | None = None,
    moved_s: FloatArray | None = None,
    label: Callable[[str], str] = str,
) -> FlowForecast:
    """One flow's figures and paths on both sides; `label` is how ids are shown.

    `moved_s`: standard error of every edge's delay after the change, from demand that is inferred; [E, C].
    """
    name, source, target = flow
    old, new = _place(before.graph, flow), _place(after.graph, flow)
    return FlowForecast(
        source=label(source),
        target=label(target),
        traffic_class=name,
        before=_figures(before, old, intervals, None),
        after=_figures(after, new, intervals, moved_s),
        path_before=_path(before, old, domain, label),
        path_after=_path(after, new, domain, label),
        service=service,
    )


def _figures(
    solution: Solution, at: _Place | None, intervals: Intervals | None, moved_s: FloatArray | None
) -> FlowFigures | None:
    if at is None or not solution.reachable(at.s, at.d):
        return None
    delay_s = float(solution.delay_s[at.c, at.d, at.s])
    variance_s2 = float(solution.variance_s2[at.c, at.d, at.s])
    fixed_s = float(solution.fixed_s[at.c, at.d, at.s])
    size_s = float(solution.size_s[at.c, at.d, at.s])
    traffic_class = solution.graph.classes[at.c]
    path = list(solution.path(at.s, at.d))
    busiest = float(solution.utilisation[path].max(initial=0.0))
    p90, p95, p99 = percentiles(
        delay_s, variance_s2, fixed_s, (0.90, 0.95, 0.99), size_s=size_s, traffic_class=traffic_class
    )
    values = {
        "delay_ms": delay_s * 1e3,
        "delay_variance_ms2": variance_s2 * 1e6,
        "p90_ms": float(p90) * 1e3,
        "p95_ms": float(p95) * 1e3,
        "p99_ms": float(p99) * 1e3,
        "loss": max(0.0, float(solution.loss[at.c, at.d, at.s])),
        "throughput_mbps": float(solution.throughput_pps[at.c, at.d, at.s])
        * traffic_class.mean_octets
        * 8e-6,
    }
    figures = {key: Figure(value, math.nan, math.nan) for key, value in values.items()}
    if intervals is not None:
        noise = float(noise_s(variance_s2, float(solution.throughput_pps[at.c, at.d, at.s]))) * 1e3
        moved = float(np.linalg.norm(moved_s[path, at.c])) * 1e3 if moved_s is not None else 0.0
        for key, value in values.items():
            own = {"noise": noise, "moved": moved} if key == "delay_ms" else {}
            figures[key] = Figure(value, *intervals.around(key, value, busiest, **own))
    return FlowFigures(**figures)


def _path(
    solution: Solution, at: _Place | None, domain: str, label: Callable[[str], str]
) -> tuple[PathPart, ...]:
    if at is None:
        return ()
    graph = solution.graph
    return tuple(
        PathPart(
            domain=domain,
            element=label(graph.edges[edge]),
            source=label(graph.nodes[graph.tail[edge]]),
            target=label(graph.nodes[graph.head[edge]]),
            delay_ms=float(solution.edges.delay[edge, at.c]) * 1e3,
        )
        for edge in solution.path(at.s, at.d)
    )


def element_forecasts(
    before: Solution,
    after: Solution,
    touched: Iterable[str],
    *,
    domain: str,
    label: Callable[[str], str] = str,
) -> tuple[ElementForecast, ...]:
    """The elements that were changed, that are hot, or whose utilisation changes most; in order of ids."""
    old = {name: index for index, name in enumerate(before.graph.edges)}
    new = {name: index for index, name in enumerate(after.graph.edges)}
    names = sorted({*old, *new})
    wanted = set(touched)

    def use(solution: Solution, where: dict[str, int], name: str) -> float:
        return float(solution.utilisation[where[name]]) if name in where else math.nan

    scored = []
    for name in names:
        was, will = use(before, old, name), use(after, new, name)
        step = abs(will - was) if not math.isnan(will - was) else 1.0
        hot = max(was, will) >= HOT
        scored.append((name not in wanted, not hot, -step, name))
    scored.sort()
    chosen = [name for other, cool, step, name in scored if not other or not cool or step < -1e-9]
    return tuple(
        ElementForecast(
            element=label(name),
            kind=kind_of_edge(after.graph, new[name])
            if name in new
            else kind_of_edge(before.graph, old[name]),
            domain=domain,
            utilisation_before=use(before, old, name),
            utilisation_after=use(after, new, name),
            loss_before=_loss(before, old.get(name)),
            loss_after=_loss(after, new.get(name)),
        )
        for name in sorted(chosen[:_MOST_ELEMENTS])
    )


def _loss(solution: Solution, edge: int | None) -> float:
    """Share of the packets offered to an edge that it loses, over all classes."""
    if edge is None:
        return math.nan
    load = solution.edges.load[edge]
    total = float(load.sum())
    return float((load * solution.edges.loss[edge]).sum()) / total if total > 0.0 else 0.0


def missed(figures: FlowFigures | None, delay_ms: float | None, loss: float | None) -> str:
    """What a flow misses of its promise, in words; empty: nothing."""
    if figures is None:
        return "it has no path" if delay_ms is not None or loss is not None else ""
    said = []
    if delay_ms is not None and figures.delay_ms.value > delay_ms:
        said.append(f"{figures.delay_ms.value:.3f} ms instead of {delay_ms:g} ms")
    if loss is not None and figures.loss.value > loss:
        said.append(f"loss {figures.loss.value:.2g} instead of {loss:g}")
    return " and ".join(said)


def findings_of(
    before: Solution,
    after: Solution,
    forecasts: Sequence[FlowForecast],
    promises: Sequence[Promise],
    *,
    domain: str,
    requirements: Requirements,
    label: Callable[[str], str] = str,
) -> tuple[Finding, ...]:
    """What a person should see in the state after; a number beyond what is told of a kind is said."""

    def finding(code: str, severity: Severity, element: str, message: str, remedy: str) -> Finding:
        return Finding(f"what-if.{code}", severity, domain, element, message, remedy)

    found: list[Finding] = []
    graph = after.graph
    if not (after.converged and before.converged):
        which = "after" if before.converged else "before"
        found.append(
            finding(
                "not-settled",
                Severity.ERROR,
                "",
                f"the losses of the state {which} did not settle: its figures are not to be relied on",
                "lower the demand, or ask at the rung capacity",
            )
        )
    overloaded = np.flatnonzero(after.intensity > 1.0).tolist()
    hot = [e for e in np.flatnonzero(after.utilisation >= HOT).tolist() if e not in set(overloaded)]
    groups: list[list[Finding]] = [
        [
            finding(
                "overload",
                Severity.ERROR,
                label(graph.edges[e]),
                f"{label(graph.edges[e])} is offered {after.intensity[e]:.0%} of what it can carry",
                "give it more capacity, or lead traffic elsewhere",
            )
            for e in sorted(overloaded, key=lambda e: (-after.intensity[e], e))
        ],
        [
            finding(
                "hot",
                Severity.WARNING,
                label(graph.edges[e]),
                f"{label(graph.edges[e])} is used at {after.utilisation[e]:.0%}",
                "queues grow fast from here: watch it, or give it more capacity",
            )
            for e in sorted(hot, key=lambda e: (-after.utilisation[e], e))
        ],
        [
            finding(
                "unreachable",
                Severity.ERROR,
                target,
                f"{source} has no path to {target}: {rate:.4g} packets/s of {name} are lost",
                "give the two a way around, or take the change back",
            )
            for name, source, target, rate in _cut(after, label)
        ],
        [
            finding(
                "loss",
                Severity.WARNING,
                item.target,
                f"{item.source} to {item.target} ({item.traffic_class}) loses {item.after.loss.value:.2%}"
                f" of its packets",
                "look at the elements of its path that are hot",
            )
            for item in forecasts
            if item.after is not None and item.after.loss.value > LOSSY
        ],
        list(_broken(forecasts, promises, requirements, finding)),
    ]
    for group in groups:
        found += group[:_MOST_OF_A_KIND]
        if (more := len(group) - _MOST_OF_A_KIND) > 0:
            first = group[0]
            found.append(
                finding(
                    first.code.removeprefix("what-if."),
                    first.severity,
                    "",
                    f"and {more} more of this kind",
                    first.remedy,
                )
            )
    return tuple(found)


def _broken(
    forecasts: Sequence[FlowForecast],
    promises: Sequence[Promise],
    requirements: Requirements,
    finding: Callable[[str, Severity, str, str, str], Finding],
) -> Iterator[Finding]:
    promised = {promise.service: promise for promise in promises}
    for item in forecasts:
        promise = promised.get(item.service)
        flow = f"{item.source} to {item.target} ({item.traffic_class})"
        if promise and (what := missed(item.after, promise.delay_ms, promise.loss)):
            was = missed(item.before, promise.delay_ms, promise.loss) if item.before else ""
            yield finding(
                "objective",
                Severity.ERROR,
                item.service,
                f"{item.service} misses its objective: {what}{' (as it did before)' if was else ''}",
                "take the change back, or move the service",
            )
        if what := missed(item.after, requirements.delay_ms, requirements.loss):
            yield finding(
                "requirement", Severity.ERROR, item.target, f"{flow}: {what}", "it is more than you allowed"
            )


def _cut(solution: Solution, label: Callable[[str], str]) -> list[tuple[str, str, str, float]]:
    """Flows with demand and without a path: class, source, target, packets/s; the largest first."""
    rate: FloatArray = solution.state.rate
    places = np.argwhere((rate > 0.0) & np.isnan(solution.delay_s)).tolist()
    graph = solution.graph
    found = [
        (graph.classes[c].name, label(graph.nodes[s]), label(graph.nodes[d]), float(rate[c, d, s]))
        for c, d, s in places
    ]
    return sorted(found, key=lambda item: (-item[3], item))
