"""A domain's answer at the rung capacity: who reaches whom, what is offered to each element, how far it goes.

No queue is computed: delays, losses and throughputs are not said (NaN), and a flow without figures has no
path. Owns the words for headroom; `capacity` owns the assessment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from domain_twin.errors import OverCapacity
from domain_twin.model.job import ElementForecast, Figure, FlowFigures, FlowForecast, Report, SweepRow
from domain_twin.model.job_json import sealed
from domain_twin.model.network import Finding, Severity
from domain_twin.simulation.capacity import Capacity, assess
from domain_twin.simulation.graph import BASE, Demand, SimGraph, Variant
from domain_twin.simulation.questions.forecast import HOT, MOST_FLOWS, Flow, flow_key, kind_of_edge
from domain_twin.simulation.questions.sweep_rows import MOST_ROWS, Watch

__all__ = ["Side", "capacity_report"]

_MOST_ELEMENTS = 40
_MOST_OF_A_KIND = 25
_UNSAID = Figure(math.nan, math.nan, math.nan)
_REACHED = FlowFigures(*(_UNSAID,) * 7)


class Side:
    """One side of the comparison: a network, its demand, and what becomes of it under a variant."""

    def __init__(self, graph: SimGraph, demand: Demand, variant: Variant = BASE) -> None:
        """Assess it; where routing at best is too large a program, without. Raises NotFound, ConfigError."""
        self.graph, self.demand = graph, demand
        self.without_best = ""
        try:
            self.found: Capacity = assess(graph, demand, variant)
        except OverCapacity as error:
            self.found = assess(graph, demand, variant, best=False)
            self.without_best = f"routing at best was not computed: {error}"
        self._edges = {name: index for index, name in enumerate(graph.edges)}

    def use(self, edge: str) -> float:
        """Offered load over capacity of an edge; NaN where there is none of this name."""
        return float(self.found.intensity[self._edges[edge]]) if edge in self._edges else math.nan

    def cut(self) -> list[Flow]:
        """Flows with demand and without a path, in order of indices."""
        return [flow_key(self.graph, c, s, d) for c, d, s in np.argwhere(self.found.unreachable).tolist()]


def capacity_report(
    report: Report,
    sides: tuple[Side, Side],
    *,
    named: Mapping[Flow, str],
    touched: Iterable[str],
    sweep: tuple[Iterator[Variant], int],
    watch: Watch,
) -> Report:
    """`report` with what the two sides say; `sweep` is the variants and how many there are."""
    before, after = sides
    domain = next(iter(report.versions))
    cut_before, cut_after = dict.fromkeys(before.cut()), dict.fromkeys(after.cut())
    moved = [flow for flow in (*cut_before, *cut_after) if (flow in cut_before) != (flow in cut_after)]
    flows = {**named} | {flow: "" for flow in moved[:MOST_FLOWS] if flow not in named}
    forecasts = tuple(
        FlowForecast(
            source=source,
            target=target,
            traffic_class=name,
            before=None if (name, source, target) in cut_before else _REACHED,
            after=None if (name, source, target) in cut_after else _REACHED,
            service=service,
        )
        for (name, source, target), service in flows.items()
    )
    said = [side.without_best for side in sides if side.without_best]
    whole = replace(
        report,
        flows=forecasts,
        elements=tuple(_elements(before, after, set(touched), domain)),
        findings=(*report.findings, *_findings(before, after, domain)),
        assumptions=(
            *report.assumptions,
            *dict.fromkeys(said),
            "delays and losses are not said at this rung",
        ),
    )
    variants, count = sweep
    rows: list[SweepRow] = []
    try:
        for variant in variants:
            rows.append(_row(after.graph, after.demand, variant))
            watch.progress(0.2 + 0.8 * len(rows) / count, f"variant {len(rows)} of {count}")
    except BaseException:
        if rows:
            note = f"stopped after {len(rows)} of {count} variants: the others are not judged"
            watch.keep(sealed(replace(whole, rows=tuple(rows), assumptions=(*whole.assumptions, note))))
        raise
    if len(rows) > MOST_ROWS:
        note = f"of {len(rows)} variants the first {MOST_ROWS} are listed"
        whole = replace(whole, assumptions=(*whole.assumptions, note))
    return sealed(replace(whole, rows=tuple(rows[:MOST_ROWS])))


def _row(graph: SimGraph, demand: Demand, variant: Variant) -> SweepRow:
    found = assess(graph, demand, variant, best=False)
    busiest = found.busiest
    return SweepRow(
        name=variant.name,
        worst_delay_ms=math.nan,
        worst_flow="",
        worst_loss=math.nan,
        unreachable=int(found.unreachable.sum()),
        highest_utilisation=math.nan if busiest is None else float(found.intensity[busiest]),
        busiest="" if busiest is None else graph.edges[busiest],
    )


def _elements(before: Side, after: Side, touched: set[str], domain: str) -> Iterator[ElementForecast]:
    names = sorted({*before.graph.edges, *after.graph.edges})
    scored = []
    for name in names:
        was, will = before.use(name), after.use(name)
        step = 1.0 if math.isnan(will - was) else abs(will - was)
        worth = name in touched or max(was, will) >= HOT or step > 1e-9
        if worth:
            scored.append((name not in touched, not max(was, will) >= HOT, -step, name))
    for name in sorted(name for *_, name in sorted(scored)[:_MOST_ELEMENTS]):
        side = after if name in after.graph.edges else before
        kind = kind_of_edge(side.graph, side.graph.edges.index(name))
        was, will = before.use(name), after.use(name)
        yield ElementForecast(name, kind, domain, was, will, math.nan, math.nan)


def _findings(before: Side, after: Side, domain: str) -> Iterator[Finding]:
    graph, found = after.graph, after.found
    heavy = [int(e) for e in np.argsort(-found.intensity, kind="stable") if found.intensity[e] > 1.0]
    for edge in heavy[:_MOST_OF_A_KIND]:
        name = graph.edges[edge]
        message = f"{name} is offered {found.intensity[edge]:.0%} of what it can carry"
        remedy = "give it more capacity, or lead traffic elsewhere"
        yield Finding("what-if.overload", Severity.ERROR, domain, name, message, remedy)
    cut = after.cut()
    for name, source, target in cut[:_MOST_OF_A_KIND]:
        message = f"{source} has no path to {target}: its packets of {name} are lost"
        remedy = "give the two a way around, or take the change back"
        yield Finding("what-if.unreachable", Severity.ERROR, domain, target, message, remedy)
    for code, all_of_them in (("overload", heavy), ("unreachable", cut)):
        if (more := len(all_of_them) - _MOST_OF_A_KIND) > 0:
            yield Finding(f"what-if.{code}", Severity.ERROR, domain, "", f"and {more} more of this kind")
    now, then = _headroom(before.found), _headroom(after.found)
    message = f"all demand could grow to {then} of what it is then (before: {now})"
    yield Finding("what-if.headroom", Severity.INFO, domain, "", message)


def _headroom(found: Capacity) -> str:
    if math.isinf(found.headroom):
        return "any multiple"
    best = "" if found.best_headroom is None else f", routed at best {found.best_headroom:.0%}"
    return f"{found.headroom:.0%} on its paths{best}"
