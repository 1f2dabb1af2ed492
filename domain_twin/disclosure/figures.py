"""What every link and processing step does to packets, as columns. Owns what a missing measurement means.

A row is one link, one cell's air interface, one function's or one host's processing. Unknown is the worst
case, so that nothing is ever claimed that was not measured: an unmeasured delay is infinite, an unmeasured
loss is 1, an unmeasured load leaves no free capacity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Cell,
    Host,
    Kpi,
    Link,
    Network,
    NetworkFunction,
    Origin,
    PathKpis,
    TerminationPoint,
)

__all__ = ["NOTHING", "ORIGINS", "Columns", "Figures", "outbound_kpis"]

ORIGINS = (Origin.MEASURED, Origin.MODELLED, Origin.IMPUTED, Origin.SYNTHETIC)
"""Origins from the best known to the least: a path's origin is the least of its parts'."""
NOTHING = 0
"""Row of the part that does nothing to packets: every path starts with it."""
_RANK = {origin: rank for rank, origin in enumerate(ORIGINS)}
_UNKNOWN = Kpi("", math.inf, "")
_CERTAIN_LOSS = Kpi("", 1.0, "")

Element = Link | Cell | NetworkFunction | Host


class Columns(NamedTuple):
    """Figures of paths, one row each: sums (n, 4) of ms, ms2, -ln(1 - loss), ms2; bandwidth (n) in Mbit/s."""

    sums: NDArray[np.float64]
    bandwidth_mbps: NDArray[np.float64]
    origin: NDArray[np.int8]
    stale: NDArray[np.bool_]


class Figures:
    """The rows of one network, updated in place as elements change."""

    def __init__(self, network: Network) -> None:
        self.index: dict[str, int] = {}
        self._elements: list[Element | None] = [None]
        elements: Iterable[Mapping[str, Element]] = (
            network.links,
            network.cells,
            network.functions,
            network.hosts,
        )
        for mapping in elements:
            for identity in mapping:
                self.index[identity] = len(self._elements)
                self._elements.append(None)
        count = len(self._elements)
        self.sums = np.zeros((count, 4))
        self.bandwidth_mbps = np.full(count, np.inf)
        self.origin = np.zeros(count, np.int8)
        self.stale = np.zeros(count, np.bool_)
        self.update(network)

    def update(self, network: Network) -> bool:
        """Take over the elements that changed; whether any figure did. The set of elements stays the same."""
        changed = False
        mappings: Iterable[Mapping[str, Element]] = (
            network.links,
            network.cells,
            network.functions,
            network.hosts,
        )
        for mapping in mappings:
            for identity, element in mapping.items():
                row = self.index[identity]
                if self._elements[row] is element:
                    continue
                self._elements[row] = element
                changed |= self._write(row, element, _capacity_mbps(element))
        return changed

    def of_paths(self, rows: NDArray[np.int64], offsets: NDArray[np.int64]) -> Columns:
        """Figures of paths: path i is made of `rows[offsets[i]:offsets[i + 1]]`, never empty."""
        if not len(offsets):
            return Columns(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int8), np.zeros(0, np.bool_))
        return Columns(
            np.add.reduceat(self.sums[rows], offsets, axis=0),
            np.minimum.reduceat(self.bandwidth_mbps[rows], offsets),
            np.maximum.reduceat(self.origin[rows], offsets),
            np.logical_or.reduceat(self.stale[rows], offsets),
        )

    def _write(self, row: int, element: Element, capacity_mbps: float | None) -> bool:
        figures = _figures(element.kpis, capacity_mbps)
        origin = max((_RANK[kpi.origin] for kpi in element.kpis.values()), default=0)
        same = (
            (*self.sums[row].tolist(), float(self.bandwidth_mbps[row])) == figures
            and self.origin[row] == origin
            and self.stale[row] == element.stale
        )
        if same:
            return False
        self.sums[row] = figures[:4]
        self.bandwidth_mbps[row] = figures[4]
        self.origin[row] = origin
        self.stale[row] = element.stale
        return True


def outbound_kpis(point: TerminationPoint) -> PathKpis:
    """What the inter-domain link of a border termination point does to packets that leave by it."""
    assert point.inter_domain is not None
    delay, variance, loss, squared_error, bandwidth = _figures(point.kpis, point.inter_domain.capacity_mbps)
    return PathKpis(
        delay_ms=delay,
        delay_variance_ms2=variance,
        loss=-math.expm1(-loss),
        bandwidth_mbps=bandwidth,
        metric=point.inter_domain.metric,
        delay_std_error_ms=math.sqrt(squared_error),
        origin=ORIGINS[max((_RANK[kpi.origin] for kpi in point.kpis.values()), default=0)],
    )


def _capacity_mbps(element: Element) -> float | None:
    if isinstance(element, Link):
        return element.capacity_mbps
    if isinstance(element, Cell):
        rate = element.kpis.get(CELL_RATE)
        return rate.value if rate else 0.0
    return None


def _figures(
    kpis: Mapping[str, Kpi], capacity_mbps: float | None
) -> tuple[float, float, float, float, float]:
    delay = kpis.get(DELAY, _UNKNOWN)
    loss = kpis.get(LOSS, _CERTAIN_LOSS).value
    free = math.inf
    if capacity_mbps is not None:
        free = max(0.0, capacity_mbps - kpis.get(CARRIED_RATE, _UNKNOWN).value)
    return (
        delay.value,
        kpis.get(DELAY_VARIANCE, _UNKNOWN).value,
        -math.log1p(-loss) if loss < 1.0 else math.inf,
        delay.std_error**2,
        free,
    )
