"""The variants of a sweep as rows of a report: judged, counted, and what is known when it is stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from domain_twin.model.job import Report, Requirements, SweepRow
from domain_twin.model.job_json import sealed
from domain_twin.model.network import Finding, Severity
from domain_twin.simulation.graph import SimGraph
from domain_twin.simulation.questions.forecast import Flow, Promise
from domain_twin.simulation.solve import Digest

__all__ = ["MOST_ROWS", "Judge", "Watch", "swept"]

MOST_ROWS = 20_000
"""Rows of a report; of a larger sweep, the worst."""


class Watch(NamedTuple):
    """Who waits: told how far it is, and handed what is known when it is stopped. `progress` may raise."""

    progress: Callable[[float, str], None]
    keep: Callable[[Report], None]


class Judge:
    """Judges variants by the flows of services and those asked for; where there are none, by all flows."""

    def __init__(
        self,
        graph: SimGraph,
        flows: Mapping[Flow, str],
        promises: Sequence[Promise],
        requirements: Requirements,
    ) -> None:
        self._graph = graph
        self._requirements = requirements
        classes = {item.name: index for index, item in enumerate(graph.classes)}
        nodes = {name: index for index, name in enumerate(graph.nodes)}
        known = [
            (classes[name], nodes[source], nodes[target], service)
            for (name, source, target), service in flows.items()
            if name in classes and source in nodes and target in nodes
        ]
        self.pairs = list(dict.fromkeys((s, d) for _, s, d, _ in known))
        self._flows = [(c, self.pairs.index((s, d)), service) for c, s, d, service in known]
        self._promised = {promise.service: promise for promise in promises}

    def row(self, digest: Digest) -> SweepRow:
        """One variant in a line."""
        delays = [(float(digest.delay_s[c, p]) * 1e3, c, p) for c, p, _ in self._flows]
        worst_delay, worst_flow = math.nan, ""
        for delay, c, p in delays:
            if not math.isnan(delay) and not delay <= worst_delay:
                worst_delay, worst_flow = delay, self._name(c, self.pairs[p])
        losses = [float(digest.loss[c, p]) for c, p, _ in self._flows]
        worst_loss = max((loss for loss in losses if not math.isnan(loss)), default=math.nan)
        unreachable = sum(math.isnan(delay) for delay, _, _ in delays)
        if not self._flows:
            for c, pair in enumerate(digest.worst_delay):
                delay = float(digest.worst_delay_s[c]) * 1e3
                if pair is not None and not delay <= worst_delay:
                    worst_delay, worst_flow = delay, self._name(c, pair)
            known = [
                float(loss) for loss, pair in zip(digest.worst_loss, digest.worst_lossy, strict=True) if pair
            ]
            worst_loss = max(known, default=math.nan)
            unreachable = int(digest.unreachable.sum())
        edge = int(digest.utilisation.argmax()) if digest.utilisation.size else -1
        return SweepRow(
            name=digest.variant.name,
            worst_delay_ms=worst_delay,
            worst_flow=worst_flow,
            worst_loss=max(0.0, worst_loss),
            unreachable=unreachable,
            missed=tuple(self._missed(digest)),
            highest_utilisation=float(digest.utilisation[edge]) if edge >= 0 else math.nan,
            busiest=self._graph.edges[edge] if edge >= 0 else "",
        )

    def _missed(self, digest: Digest) -> Iterator[str]:
        for c, p, service in self._flows:
            promise = self._promised.get(service)
            bounds = [(promise.delay_ms, promise.loss)] if promise else []
            bounds.append((self._requirements.delay_ms, self._requirements.loss))
            delay_ms, loss = float(digest.delay_s[c, p]) * 1e3, float(digest.loss[c, p])
            for most_ms, most_lost in bounds:
                late = most_ms is not None and not delay_ms <= most_ms
                lossy = most_lost is not None and not loss <= most_lost
                if late or lossy:
                    yield service or self._name(c, self.pairs[p])
                    break

    def _name(self, c: int, pair: tuple[int, int]) -> str:
        source, target = (self._graph.nodes[index] for index in pair)
        return f"{source} > {target} ({self._graph.classes[c].name})"


def swept(report: Report, digests: Iterable[Digest], judge: Judge, *, count: int, watch: Watch) -> Report:
    """The report with a row for each variant, in their order."""
    rows: list[SweepRow] = []
    unsettled = 0
    try:
        for digest in digests:
            rows.append(judge.row(digest))
            unsettled += not digest.converged
            watch.progress(0.2 + 0.8 * len(rows) / count, f"variant {len(rows)} of {count}")
    except BaseException:
        if rows:
            note = f"stopped after {len(rows)} of {count} variants: the others are not judged"
            watch.keep(_with_rows(report, rows, unsettled, note))
        raise
    return _with_rows(report, rows, unsettled)


def _with_rows(report: Report, rows: Sequence[SweepRow], unsettled: int, note: str = "") -> Report:
    worst = sorted(range(len(rows)), key=lambda i: (*_badness(rows[i]), i))[:MOST_ROWS]
    kept = tuple(rows[i] for i in sorted(worst))
    said = [note] if note else []
    if len(kept) < len(rows):
        said.append(f"of {len(rows)} variants the {len(kept)} worst are listed")
    found = report.findings
    if unsettled:
        found += (
            Finding(
                "what-if.not-settled",
                Severity.ERROR,
                next(iter(report.versions), ""),
                "",
                f"the losses of {unsettled} variants did not settle: their rows are not to be relied on",
                "lower the demand, or ask at the rung capacity",
            ),
        )
    return sealed(replace(report, rows=kept, findings=found, assumptions=(*report.assumptions, *said)))


def _badness(row: SweepRow) -> tuple[float, ...]:
    delay = row.worst_delay_ms
    return -row.unreachable, -len(row.missed), -(0.0 if math.isnan(delay) else delay)
