"""The loads of the last half a minute, for questions about a network as it is now.

One measuring interval is a noisy sample of what crosses an element; what an answer predicts is a mean over
half a minute. Owns how far back the means go, and that they never reach back over a change of the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from domain_twin.model import CARRIED_RATE, HANDLED_RATE, Kpi, Nanoseconds, Network
from domain_twin.simulation.twin.traffic import Loads, loads_of

__all__ = ["RecentLoads"]

SPAN_NS = 30_000_000_000


class RecentLoads:
    """Means over what was noted. A figure counts once, however often it is noted."""

    def __init__(self, span_ns: Nanoseconds = SPAN_NS) -> None:
        self._span_ns = span_ns
        self._seen: dict[str, deque[tuple[Nanoseconds, float]]] = {}

    def note(self, network: Network) -> None:
        """Take what was reported anew."""
        newest = 0
        for element, rate in _rates(network):
            seen = self._seen.setdefault(element, deque())
            if not seen or seen[-1][0] < rate.received_at:
                seen.append((rate.received_at, rate.value))
            newest = max(newest, rate.received_at)
        for element in list(self._seen):
            seen = self._seen[element]
            while seen and seen[0][0] <= newest - self._span_ns:
                seen.popleft()
            if not seen:
                del self._seen[element]

    def clear(self) -> None:
        """Begin anew: the network is another one, and so are its loads."""
        self._seen.clear()

    def loads(self, network: Network) -> Loads:
        """The mean loads up to this network's, of the elements that it reports."""
        self.note(network)
        found = loads_of(network)
        times = [seen[0][0] for seen in self._seen.values()] + [seen[-1][0] for seen in self._seen.values()]
        span_s = (max(times) - min(times)) / 1e9 if times else 0.0
        if span_s < 0.5:
            return found
        said = f"demand is that of the mean loads of the last {span_s:.0f} s"
        return replace(
            found,
            mbps={name: self._mean(name, value) for name, value in found.mbps.items()},
            handled_pps={name: self._mean(name, value) for name, value in found.handled_pps.items()},
            assumptions=(*found.assumptions, said),
        )

    def _mean(self, element: str, now: float) -> float:
        seen = self._seen.get(element)
        return sum(value for _, value in seen) / len(seen) if seen else now


def _rates(network: Network) -> Iterator[tuple[str, Kpi]]:
    """The carried or handled rate of every element that reports one."""
    points = network.termination_points.values()
    carried = [(link.id, link.kpis) for link in network.links.values()]
    carried += [(point.inter_domain.link_id, point.kpis) for point in points if point.inter_domain]
    carried += [(cell.id, cell.kpis) for cell in network.cells.values()]
    for element, kpis in carried:
        if CARRIED_RATE in kpis:
            yield element, kpis[CARRIED_RATE]
    handled = [(item.id, item.kpis) for item in network.functions.values()]
    handled += [(item.id, item.kpis) for item in network.hosts.values()]
    for element, kpis in handled:
        if HANDLED_RATE in kpis:
            yield element, kpis[HANDLED_RATE]
