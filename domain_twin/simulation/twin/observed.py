"""What a domain's elements were measured at over a span of time, as columns: what calibration fits on.

Owns the form, and how it is read: from networks one after another, or from the recorded history by folding it
through the mapping again. Fits nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    HANDLED_RATE,
    LOSS,
    QUEUE,
    UTILISATION,
    Kpi,
    Nanoseconds,
    Network,
    Origin,
)
from domain_twin.simulation.graph import FloatArray

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = ["Observations", "Recorder", "Series", "observe"]

Kind = Literal["link", "border", "cell", "function", "host"]
_NAMES = (DELAY, DELAY_VARIANCE, LOSS, UTILISATION, QUEUE, CARRIED_RATE, HANDLED_RATE, CELL_RATE)
_STEP_NS = 100_000_000  # a step as long as a measuring interval would miss every second figure
_THIN_NS = 500_000_000
_MOST_SAMPLES = 7_200


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One element, interval by interval; NaN where it said nothing. All arrays have the same length."""

    element: str
    kind: Kind
    at: FloatArray  # s since the first observation
    delay_s: FloatArray
    variance_s2: FloatArray
    loss: FloatArray
    utilisation: FloatArray
    queue_octets: FloatArray
    rate: FloatArray  # Mbit/s; functions and hosts: packets/s
    capacity_mbps: FloatArray  # links: nominal; cells: rate of the air interface
    servers: FloatArray  # functions and hosts

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: slice | npt.NDArray[np.bool_]) -> Series:
        """A part of it."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Series(self.element, self.kind, **columns)


_COLUMNS = tuple(name for name in Series.__slots__ if name not in ("element", "kind"))


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """All elements of a domain between two times."""

    domain: str
    start: Nanoseconds
    end: Nanoseconds
    series: Mapping[str, Series]
    thinned: bool = False  # not every measuring interval is there


@dataclass(slots=True)
class Recorder:
    """Collects networks of one domain into columns; a figure is taken once, when it was reported anew."""

    domain: str
    _rows: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    _kinds: dict[str, Kind] = field(default_factory=dict)
    _seen: dict[str, Nanoseconds] = field(default_factory=dict)
    _span: list[Nanoseconds] = field(default_factory=list)

    def record(self, network: Network) -> None:
        """Take what is new since the last call; elements that are down or stale are left out."""
        for element, kind, figures, capacity, servers in _elements(network):
            # What was imputed was never measured: nothing is fitted to it.
            kpis = {name: kpi for name, kpi in figures.items() if kpi.origin is not Origin.IMPUTED}
            at = max((kpi.observed_at for kpi in kpis.values()), default=0)
            if not kpis or at <= self._seen.get(element, -1):
                continue
            self._seen[element] = at
            values = [_value(kpis, name) for name in _NAMES]
            values[0] /= 1e3
            values[1] /= 1e6
            rate = values[6] if kind in ("function", "host") else values[5]
            self._kinds[element] = kind
            speed = values[7] if kind == "cell" else capacity
            row = (at / 1e9, *values[:5], rate, speed, servers)
            self._rows.setdefault(element, []).append(row)
            if not self._span:
                self._span = [at, at]
            self._span = [min(self._span[0], at), max(self._span[1], at)]

    def skip(self, network: Network) -> None:
        """Take what is known already as seen: it is of the time before."""
        for element, _, kpis, _, _ in _elements(network):
            self._seen[element] = max((kpi.observed_at for kpi in kpis.values()), default=0)

    def observations(self) -> Observations:
        """What was collected."""
        start, end = self._span or (0, 0)
        series = {}
        for element, rows in self._rows.items():
            table = np.array(rows, np.float64)
            table[:, 0] -= start / 1e9
            columns = dict(zip(_COLUMNS, table.T.copy(), strict=True))
            series[element] = Series(element, self._kinds[element], **columns)
        return Observations(self.domain, start, end, series)


async def observe(
    history: History,
    domain: str,
    start: Nanoseconds,
    end: Nanoseconds,
    *,
    step_ns: Nanoseconds | None = None,
) -> Observations:
    """What was recorded in (start, end], sampled every `step_ns`. Raises NotFound: before the beginning.

    Without a step: ten times a second, in long spans less often, so that there are 7,200 samples at most.
    Of what was reported more than once between two samples the last is taken: `thinned` says that there may
    be such.
    """
    from domain_twin.mapping.mapper import Mapper

    step = step_ns or max(_STEP_NS, (end - start) // _MOST_SAMPLES)
    mapper = Mapper(domain)
    recorder = Recorder(domain)
    mapper.apply((await history.state_at(start)).as_delta())
    recorder.skip(mapper.network())
    due = start + step
    async for delta in history.deltas(start, end):
        if delta.changes[0].received_at >= due:
            recorder.record(mapper.network())
            due = delta.changes[0].received_at + step
        mapper.apply(delta)
    recorder.record(mapper.network())
    return replace(recorder.observations(), thinned=step > _THIN_NS)


def _elements(
    network: Network,
) -> Iterable[tuple[str, Kind, Mapping[str, Kpi], float, float]]:
    """Every element that has figures and works: id, kind, figures, capacity, servers."""
    for link in network.links.values():
        if link.up and not link.stale and link.kpis:
            yield link.id, "link", link.kpis, link.capacity_mbps, 1
    for point in network.termination_points.values():
        if point.inter_domain is not None and point.up and not point.stale and point.kpis:
            border = point.inter_domain
            yield border.link_id, "border", point.kpis, border.capacity_mbps or point.speed_mbps, 1
    for cell in network.cells.values():
        if cell.up and not cell.stale and cell.kpis:
            yield cell.id, "cell", cell.kpis, math.nan, 1
    for function in network.functions.values():
        if function.up and not function.stale and function.kpis:
            yield function.id, "function", function.kpis, math.nan, function.workers
    for host in network.hosts.values():
        if host.up and not host.stale and host.kpis:
            yield host.id, "host", host.kpis, math.nan, host.workers


def _value(kpis: Mapping[str, Kpi], name: str) -> float:
    kpi = kpis.get(name)
    return kpi.value if kpi is not None else math.nan
