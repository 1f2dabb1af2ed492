"""The report of a what-if across domains: flows from end to end, each domain's share, what rests on what.

Owns the words and the units of the report; computes nothing that the domains did not say. A figure that rests
on a domain that said nothing is NaN; a flow for which no way was found while a domain was silent is not
called unreachable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from domain_twin.model import DomainOutcome, Finding, Nanoseconds, Outcome, Service, Severity, StateKind
from domain_twin.model.job import (
    ElementForecast,
    Figure,
    FlowFigures,
    FlowForecast,
    PathPart,
    Report,
    Requirements,
    SweepRow,
)
from domain_twin.model.job_json import sealed
from domain_twin.model.scenario import NewService, Scenario
from federation.whatif import Forecast
from federation.whatif_changes import Case

if TYPE_CHECKING:
    from domain_twin.simulation.graph import FloatArray

__all__ = ["report_of"]

LOSSY = 1e-3
_LEVELS = (0.90, 0.95, 0.99)
_OPEN_LOOP = "queues are computed for traffic that does not react: TCP slows down where losses or delays grow"
_INDEPENDENT = (
    "delays in different domains are taken as independent of each other, but for packets' own sizes"
)
_NO_INTERVALS = "figures have no intervals: not every domain on their way has calibrated its own"
_NOTHING = Figure(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Promise:
    delay_ms: float | None
    loss: float | None


def report_of(
    scenario: Scenario,
    cases: Sequence[Case],
    forecast: Forecast,
    *,
    services: Mapping[str, Service],
    requirements: Requirements,
    now: Nanoseconds,
) -> Report:
    """What the asker gets. Blocks for large sweeps."""
    figures = _Figures(forecast)
    after = 1 if scenario.changes else 0
    promises = _promises(scenario, services)
    flows = tuple(_flow(forecast, figures, index, after) for index in range(len(forecast.flows.pairs)))
    said = list(forecast.assumptions)
    if any(math.isnan(flow.after.delay_ms.low) for flow in flows if flow.after):
        said.append(_NO_INTERVALS)
    rows = tuple(
        _row(figures, variant, case.name, promises, requirements)
        for variant, case in enumerate(cases)
        if variant > after
    )
    findings = (
        *_on_domains(forecast.outcomes),
        *_on_flows(flows, promises, requirements),
        *_on_settling(forecast),
    )
    return sealed(
        Report(
            job="",
            scenario=scenario,
            kind=StateKind.CANDIDATE,
            versions={item.domain: item.version for item in forecast.outcomes if item.version},
            rung=scenario.rung,
            flows=flows,
            elements=tuple(_links(forecast, after)),
            rows=rows,
            findings=tuple(findings),
            domains=forecast.outcomes,
            assumptions=(*dict.fromkeys(said), _INDEPENDENT, _OPEN_LOOP),
            answered_at=now,
        )
    )


class _Figures:
    """The forecast in the report's units, and its percentiles; [V, F]."""

    def __init__(self, forecast: Forecast) -> None:
        from domain_twin.simulation.percentiles import percentiles

        self.forecast = forecast
        way, flows = forecast.way, forecast.flows
        self.delay_ms = way.delay_s * 1e3
        self.variance_ms2 = way.variance_s2 * 1e6
        self.loss = way.loss
        self.interval_ms = way.interval_s * 1e3
        octets = np.array([kind.mean_octets for kind in flows.classes])
        kinds = np.array(flows.kinds, dtype=np.int64)
        self.throughput_mbps = flows.rate * (1.0 - way.loss) * octets[kinds] * 8e-6
        self.high_ms = np.full((len(_LEVELS), *way.delay_s.shape), np.nan)
        for kind, packets in enumerate(flows.classes):
            of = kinds == kind
            self.high_ms[:, :, of] = 1e3 * percentiles(
                way.delay_s[:, of],
                way.variance_s2[:, of],
                way.fixed_s[:, of],
                _LEVELS,
                size_s=way.size_s[:, of],
                traffic_class=packets,
            )

    def of(self, variant: int, flow: int) -> FlowFigures:
        """One flow's figures in one variant."""
        at = (variant, flow)
        half = float(self.interval_ms[at])
        delay = float(self.delay_ms[at])
        return FlowFigures(
            delay_ms=Figure(delay, max(delay - half, 0.0), delay + half),  # in this order NaN stays NaN
            delay_variance_ms2=_alone(self.variance_ms2[at]),
            p90_ms=_alone(self.high_ms[(0, *at)]),
            p95_ms=_alone(self.high_ms[(1, *at)]),
            p99_ms=_alone(self.high_ms[(2, *at)]),
            loss=_alone(self.loss[at]),
            throughput_mbps=_alone(self.throughput_mbps[at]),
        )


def _alone(value: float) -> Figure:
    return Figure(float(value), math.nan, math.nan)


_UNKNOWN = FlowFigures(*(_NOTHING for _ in range(7)))


def _flow(forecast: Forecast, figures: _Figures, index: int, after: int) -> FlowForecast:
    flows = forecast.flows
    source, target = flows.pairs[index]
    return FlowForecast(
        source=source,
        target=target,
        traffic_class=flows.classes[flows.kinds[index]].name,
        before=_side(forecast, figures, 0, index),
        after=_side(forecast, figures, after, index),
        path_before=tuple(_path(forecast, 0, index)),
        path_after=tuple(_path(forecast, after, index)),
        service=flows.services[index],
    )


def _side(forecast: Forecast, figures: _Figures, variant: int, flow: int) -> FlowFigures | None:
    """What a flow gets in a variant; None: it has no way, or does not exist."""
    if not forecast.flows.exists[variant, flow]:
        return None
    if forecast.legs[variant][flow] is None:
        return _UNKNOWN if forecast.unsure[variant, flow] else None
    return figures.of(variant, flow)


def _path(forecast: Forecast, variant: int, flow: int) -> Iterator[PathPart]:
    """Each domain's share; that of a domain which packets leave has the inter-domain link in it."""
    if not forecast.flows.exists[variant, flow]:
        return
    kind = forecast.flows.kinds[flow]
    for leg in forecast.legs[variant][flow] or ():
        delays = forecast.leg_delay_s.get(leg.domain, {})
        delay_s = delays.get((variant, leg.source, leg.target, kind), math.nan)
        yield PathPart(leg.domain, "", leg.source, leg.target, delay_s * 1e3)


def _promises(scenario: Scenario, services: Mapping[str, Service]) -> dict[str, _Promise]:
    found = {key: _Promise(item.objective.delay_ms, item.objective.loss) for key, item in services.items()}
    for change in scenario.changes:
        if isinstance(change, NewService):
            found[change.name] = _Promise(change.delay_ms, change.loss)
    return found


def _missed(delay_ms: float, loss: float, bound: _Promise | Requirements) -> str:
    """What is missed, in words; what is not known is not missed."""
    said = []
    if bound.delay_ms is not None and delay_ms > bound.delay_ms:
        said.append(f"{delay_ms:.3f} ms instead of {bound.delay_ms:g} ms")
    if bound.loss is not None and loss > bound.loss:
        said.append(f"loss {loss:.2g} instead of {bound.loss:g}")
    return " and ".join(said)


def _on_flows(
    flows: Sequence[FlowForecast], promises: Mapping[str, _Promise], requirements: Requirements
) -> Iterator[Finding]:
    for flow in flows:
        name = f"{flow.source} to {flow.target} ({flow.traffic_class})"
        if flow.after is None:
            if flow.before is not None or not flow.path_before:
                yield Finding(
                    "what-if.unreachable",
                    Severity.ERROR,
                    "",
                    flow.target,
                    f"{name} has no way across the domains",
                    "give the two a way around, or take the change back",
                )
            continue
        delay_ms, loss = flow.after.delay_ms.value, flow.after.loss.value
        if loss > LOSSY:
            yield Finding(
                "what-if.loss",
                Severity.WARNING,
                "",
                flow.target,
                f"{name} loses {loss:.2%} of its packets",
                "ask the domains on its way which of their links are hot",
            )
        promise = promises.get(flow.service)
        if promise and (what := _missed(delay_ms, loss, promise)):
            yield Finding(
                "what-if.objective",
                Severity.ERROR,
                "",
                flow.service,
                f"{flow.service} misses its objective: {what}",
                "take the change back, or move the service",
            )
        if what := _missed(delay_ms, loss, requirements):
            yield Finding(
                "what-if.requirement",
                Severity.ERROR,
                "",
                flow.target,
                f"{name}: {what}",
                "it is more than you allowed",
            )


def _links(forecast: Forecast, after: int) -> Iterator[ElementForecast]:
    """The inter-domain links on the ways of flows, each way by the border point that it leaves from."""
    use = forecast.link_use
    for point in sorted({point for variant, point in use if variant in (0, after)}):
        yield ElementForecast(
            element=point,
            kind="inter-domain-link",
            domain=point.partition("/")[0],
            utilisation_before=use.get((0, point), math.nan),
            utilisation_after=use.get((after, point), math.nan),
            loss_before=math.nan,
            loss_after=math.nan,
        )


def _on_domains(outcomes: Sequence[DomainOutcome]) -> Iterator[Finding]:
    for item in outcomes:
        if item.outcome is not Outcome.OK:
            yield Finding(
                "what-if.domain-missing",
                Severity.WARNING,
                item.domain,
                item.domain,
                f"{item.domain} is not part of this answer: {item.reason}; figures of flows that cross it are"
                " left out, and what it loses is not taken from others' load",
                "ask again when it answers",
            )


def _on_settling(forecast: Forecast) -> Iterator[Finding]:
    if not forecast.converged:
        yield Finding(
            "what-if.not-settled",
            Severity.ERROR,
            "",
            "",
            f"the losses of the domains did not settle in {forecast.rounds} rounds: figures are not to be"
            " relied on",
            "lower the demand, or give the job a later deadline",
        )


def _row(
    figures: _Figures,
    variant: int,
    name: str,
    promises: Mapping[str, _Promise],
    requirements: Requirements,
) -> SweepRow:
    """One variant, judged by all flows that are followed."""
    forecast = figures.forecast
    flows = forecast.flows
    there = flows.exists[variant]
    delay, loss = _there(figures.delay_ms[variant], there), _there(figures.loss[variant], there)
    missed: dict[str, None] = {}
    for flow in np.flatnonzero(there).tolist():
        service = flows.services[flow]
        source, target = flows.pairs[flow]
        no_way = forecast.legs[variant][flow] is None and not forecast.unsure[variant, flow]
        bounds: list[_Promise | Requirements] = [requirements]
        if service in promises:
            bounds.append(promises[service])
        for bound in bounds:
            asked = bound.delay_ms is not None or bound.loss is not None
            if (no_way and asked) or _missed(float(delay[flow]), float(loss[flow]), bound):
                missed[service or f"{source} > {target}"] = None
    worst = int(np.nanargmax(delay)) if not np.isnan(delay).all() else -1
    unreachable = [
        flow
        for flow in np.flatnonzero(there).tolist()
        if forecast.legs[variant][flow] is None and not forecast.unsure[variant, flow]
    ]
    busy = [(use, point) for (number, point), use in forecast.link_use.items() if number == variant]
    busiest = max(busy, default=None)
    return SweepRow(
        name=name,
        worst_delay_ms=float(delay[worst]) if worst >= 0 else math.nan,
        worst_flow=" > ".join(flows.pairs[worst]) if worst >= 0 else "",
        worst_loss=float(np.nanmax(loss)) if not np.isnan(loss).all() else math.nan,
        unreachable=len(unreachable),
        missed=tuple(missed),
        highest_utilisation=busiest[0] if busiest else math.nan,
        busiest=busiest[1] if busiest else "",
    )


def _there(values: FloatArray, there: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FloatArray:
    return np.where(there, values, np.nan)
