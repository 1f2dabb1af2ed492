"""Which way each flow takes across the domains in each variant, from the ways that the domains have.

Between domains as between operators: the least sum of metrics over the border points; inside a domain its own
routing decides, and is not seen here. The same rule and tie-breaks as `route.current_route`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

__all__ = ["Leg", "RouteFinder", "Ways"]

Ways: TypeAlias = Mapping[str, Mapping[str, float]]
"""Of one domain in one variant: metric by source and target point."""


class Leg(NamedTuple):
    """One domain's part of a flow's way: in at `source`, out at `target`, both points of it."""

    domain: str
    source: str
    target: str


class RouteFinder:
    """Ways of all domains in one variant, searched from one source point at a time.

    `crossings` leads from the border point where packets leave a domain to the one where they enter the next.
    """

    def __init__(self, ways: Mapping[str, Ways], crossings: Mapping[str, str]) -> None:
        self._ways = ways
        self._crossings = crossings
        self._trees: dict[str, dict[str, tuple[str, str]]] = {}

    def legs(self, source: str, target: str) -> tuple[Leg, ...] | None:
        """The way from one published point to another; None where nothing joins them."""
        tree = self._trees.get(source)
        if tree is None:
            tree = self._trees[source] = self._search(source)
        legs: list[Leg] = []
        at = target
        while at != source:
            step = tree.get(at)
            if step is None:
                return None
            entered, left = step
            legs.append(Leg(_domain(entered), entered, left))
            at = entered
        return tuple(reversed(legs))

    def _search(self, source: str) -> dict[str, tuple[str, str]]:
        """Dijkstra over the points where paths enter domains; ties: fewest steps, then the least name."""
        found: dict[str, tuple[str, str]] = {}  # point: (where its domain was entered, left by)
        heap: list[tuple[float, int, str, str, str]] = [(0.0, 0, source, "", "")]
        settled: set[str] = set()
        while heap:
            metric, steps, point, entered, left = heapq.heappop(heap)
            if point in settled:
                continue
            settled.add(point)
            if entered:
                found[point] = (entered, left)
            if point != source and self._crossings.get(left) != point:
                continue  # an end: nothing goes on from here
            for target, further in self._ways.get(_domain(point), {}).get(point, {}).items():
                reached = self._crossings.get(target, target)
                if reached not in settled:
                    heapq.heappush(heap, (metric + further, steps + 1, reached, point, target))
        return found


def _domain(point: str) -> str:
    return point.partition("/")[0]
