"""What a run measured (TMF653 testMeasure), and its verdict, out of the report of its job. Pure.

A flow without a way has no delay, loses everything and carries nothing: thresholds see it so. A figure that
could not be said, because a domain was missing, is null and makes a verdict inconclusive unless something
else failed already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain_twin.model import Nanoseconds, Outcome
from domain_twin.model.job import ElementForecast, FlowFigures, FlowForecast, Report
from federation.partners.record import Body
from federation.partners.thresholds import ACCURACY, Definition, Rule, shown

__all__ = ["FAIL", "INCONCLUSIVE", "PASS", "Judged", "Violated", "judge", "time_text"]

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_NOT_SETTLED = "what-if.not-settled"
_FIGURES: dict[str, Callable[[FlowFigures], float]] = {
    "delay": lambda figures: figures.delay_ms.value,
    "delayP90": lambda figures: figures.p90_ms.value,
    "delayP95": lambda figures: figures.p95_ms.value,
    "delayP99": lambda figures: figures.p99_ms.value,
    "delayVariation": lambda figures: math.sqrt(max(figures.delay_variance_ms2.value, 0.0)),
    "loss": lambda figures: figures.loss.value,
    "throughput": lambda figures: figures.throughput_mbps.value,
}
_WITHOUT_A_WAY = {"loss": 1.0, "throughput": 0.0, "reachable": 0.0}


@dataclass(frozen=True, slots=True)
class Violated:
    """A rule that was crossed, of which flow (or other subject) and metric."""

    metric: str
    unit: str
    subject: str
    rule: Rule
    direction: str
    value: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run found. `known` are the (metric, subject) of which a value could be said."""

    measures: tuple[Body, ...]
    verdict: str
    violated: tuple[Violated, ...]
    known: frozenset[tuple[str, str]]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    subject: str
    value: float  # NaN: not known; infinite: there is no way
    about: str


def judge(
    report: Report, wanted: Sequence[Definition], *, asked: frozenset[tuple[str, str]] = frozenset()
) -> Judged:
    """Measure and judge. `asked`: pairs that the partner named; others without a way are not reported."""
    measures: list[Body] = []
    violated: list[Violated] = []
    known: set[tuple[str, str]] = set()
    unknown = False
    at = time_text(report.answered_at)
    for definition in wanted:
        for found in _values(definition, report, asked):
            crossed = tuple(_crossed(definition, found))
            violated += crossed
            if math.isnan(found.value):
                unknown = True
            else:
                known.add((definition.metric, found.subject))
            measures.append(_measure(definition, found, crossed, at))
    remarks = [*_remarks(report)]
    if not any(definition.rules for definition in wanted):
        remarks.append("the specification defines no thresholds, so none was violated")
    if not measures:
        remarks.append("nothing could be measured: no pair of end points has a way")
    settled = not any(finding.code == _NOT_SETTLED for finding in report.findings)
    if violated and settled:
        verdict = FAIL
    elif unknown or report.partial or not settled or not measures:
        verdict = INCONCLUSIVE
    else:
        verdict = PASS
    return Judged(tuple(measures), verdict, tuple(violated), frozenset(known), tuple(remarks))


def time_text(at: Nanoseconds) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _values(definition: Definition, report: Report, asked: frozenset[tuple[str, str]]) -> Iterator[_Value]:
    if definition.of_sweep:
        yield from _of_sweep(definition.metric, report)
    elif definition.metric == "linkUtilisation":
        yield from _of_links(report.elements)
    else:
        for flow in report.flows:
            gone = flow.before is None and flow.after is None
            if not gone or (flow.source, flow.target) in asked or flow.service:
                yield _of_flow(definition.metric, flow)


def _of_flow(metric: str, flow: FlowForecast) -> _Value:
    subject = f"{flow.source} > {flow.target} ({flow.traffic_class})"
    about = f"{metric} of {subject}"
    after = flow.after
    if after is None:
        return _Value(subject, _WITHOUT_A_WAY.get(metric, math.inf), f"{about}: it has no way")
    if metric == "reachable":
        return _Value(subject, math.nan if math.isnan(after.delay_ms.value) else 1.0, about)
    if metric == "delayIncrease":
        if flow.before is None:
            return _Value(subject, 0.0, f"{about}: it did not exist before")
        return _Value(subject, after.delay_ms.value - flow.before.delay_ms.value, about)
    figure = _FIGURES[metric]
    if flow.before is not None and (before := shown(figure(flow.before))) is not None:
        about += f"; before: {before:g}"
    if metric == "delay" and math.isfinite(after.delay_ms.low):
        about += f"; 90 % interval {after.delay_ms.low:.4g} to {after.delay_ms.high:.4g}"
    return _Value(subject, figure(after), about)


def _of_links(elements: Sequence[ElementForecast]) -> Iterator[_Value]:
    for item in elements:
        about = f"utilisation of the link between domains that leaves from {item.element}"
        yield _Value(item.element, item.utilisation_after, about)


def _of_sweep(metric: str, report: Report) -> Iterator[_Value]:
    """The worst of all variants, which is named."""
    rows: list[tuple[float, str]] = []
    for row in report.rows:
        match metric:
            case "worstDelay":
                rows.append((row.worst_delay_ms, f"{row.name}: {row.worst_flow}"))
            case "worstLoss":
                rows.append((row.worst_loss, row.name))
            case "unreachableFlows":
                rows.append((float(row.unreachable), row.name))
            case _:
                rows.append((row.highest_utilisation, f"{row.name}: {row.busiest}"))
    said = [(value, name) for value, name in rows if not math.isnan(value)]
    if not said:
        yield _Value("sweep", math.nan, f"{metric} of {len(rows)} variants: no variant has a figure")
        return
    value, name = max(said, key=lambda item: item[0])
    yield _Value("sweep", value, f"{metric} of {len(rows)} variants, in {name}")


def _crossed(definition: Definition, found: _Value) -> Iterator[Violated]:
    if math.isnan(found.value):
        return
    value = shown(found.value)
    judged = found.value if value is None else value
    for rule in definition.rules:
        direction = rule.crossed(judged)
        if direction:
            said = "there is none" if value is None else f"{value:g} {definition.unit}"
            text = f"{definition.metric} of {found.subject}: {said}, against {_bounds(rule)}"
            yield Violated(definition.metric, definition.unit, found.subject, rule, direction, value, text)


def _bounds(rule: Rule) -> str:
    said = []
    if rule.upper is not None:
        said.append(f"{'less than' if rule.upper_inclusive else 'at most'} {rule.upper:g}")
    if rule.lower is not None:
        said.append(f"{'more than' if rule.lower_inclusive else 'at least'} {rule.lower:g}")
    if rule.exact is not None:
        said.append(f"{'exactly' if rule.same else 'anything but'} {rule.exact:g}")
    return " and ".join(said)


def _measure(definition: Definition, found: _Value, crossed: Sequence[Violated], at: str) -> Body:
    value = shown(found.value)
    kept: dict[str, Any] = {
        "@type": "TestMeasure",
        "metricName": definition.metric,
        "metricDescription": found.about,
        "captureDateTime": at,
        "captureMethod": "prediction",
        "unitOfMeasure": definition.unit,
        "accuracy": ACCURACY,
        "value": {"name": found.subject, "valueType": "number", "value": value},
        "ruleViolation": [item.rule.violation(item.text) for item in crossed],
    }
    return kept


def _remarks(report: Report) -> Iterator[str]:
    for outcome in report.domains:
        if outcome.outcome is not Outcome.OK:
            yield f"{outcome.domain} is not part of this answer: {outcome.reason}"
    for finding in report.findings:
        if finding.code == _NOT_SETTLED:
            yield finding.message
