"""Paths inside one domain: what its devices forward, and what could be provisioned. Owns both algorithms."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeAlias

__all__ = ["Arc", "Graph", "Routes", "Trail", "pareto_trails", "routes_to"]

Trail: TypeAlias = tuple[str, ...]
"""The links of a path, in order."""


class Arc(NamedTuple):
    """A link that is up. Its figures include the processing that entering its far node costs."""

    link: str
    source: str
    target: str
    metric: int
    delay_ms: float
    bandwidth_mbps: float
    loss: float  # -ln(1 - loss ratio): adds

    @property
    def known(self) -> bool:
        """Whether its delay was measured."""
        return self.delay_ms < math.inf


class Graph:
    """The usable links of a domain by node. `opaque` nodes may start and end paths, never lie between."""

    def __init__(self, arcs: Iterable[Arc], opaque: Set[str] = frozenset()) -> None:
        self.opaque = opaque
        self.leaving: dict[str, list[Arc]] = {}
        self.entering: dict[str, list[Arc]] = {}
        for arc in sorted(arcs):  # in order of link ids: this is the tie-break
            self.leaving.setdefault(arc.source, []).append(arc)
            self.entering.setdefault(arc.target, []).append(arc)


class Routes:
    """Next hops of every node towards one target node."""

    def __init__(self, target: str, next_hop: Mapping[str, Arc]) -> None:
        self._target = target
        self._next_hop = next_hop

    def trail(self, source: str) -> Trail | None:
        """The links from `source`; None where nothing leads to the target."""
        links: list[str] = []
        node = source
        while node != self._target:
            arc = self._next_hop.get(node)
            if arc is None:
                return None
            links.append(arc.link)
            node = arc.target
        return tuple(links)


def routes_to(graph: Graph, target: str) -> Routes:
    """Shortest paths by IGP metric, hop by hop as routers do it (Dijkstra, towards the target).

    Tie-break: of the links with equal total metric a node takes the one with the least link-id. Links of
    metric 0 are followed only where they also bring the packet fewer hops from the target, so no loop can
    arise.
    """
    distance: dict[str, tuple[int, int]] = {}
    heap: list[tuple[int, int, str]] = [(0, 0, target)]
    while heap:
        metric, hops, node = heapq.heappop(heap)
        if node in distance:
            continue
        distance[node] = (metric, hops)
        if node in graph.opaque and node != target:
            continue
        for arc in graph.entering.get(node, ()):
            if arc.source not in distance:
                heapq.heappush(heap, (metric + arc.metric, hops + 1, arc.source))
    next_hop: dict[str, Arc] = {}
    for node, (metric, hops) in distance.items():
        if node == target:
            continue
        for arc in graph.leaving[node]:
            beyond = distance.get(arc.target)
            if beyond is None or (arc.target in graph.opaque and arc.target != target):
                continue
            if beyond[0] + arc.metric == metric and (arc.metric or beyond[1] < hops):
                next_hop[node] = arc
                break
    return Routes(target, next_hop)


def pareto_trails(
    graph: Graph, source: str, targets: Set[str], *, by_loss: bool, label_cap: int
) -> tuple[dict[str, list[Trail]], bool]:
    """Non-dominated paths from `source` to each target over (delay, bandwidth) and, `by_loss`, loss.

    Label setting in order of delay (Martins 1984): when a label is settled, a later one at the same node
    can only be worse in delay, so it has to be better in bandwidth or loss. A node that has `label_cap`
    labels takes no more that are better in loss alone: delay and bandwidth stay exact. The second result
    says whether that happened; the lists are an inner approximation then.
    """
    nodes: list[str] = [source]
    parents: list[int] = [-1]
    links: list[str] = [""]
    fronts: dict[str, list[tuple[float, float]]] = {}
    widest: dict[str, float] = {}
    found: dict[str, list[int]] = {}
    cut = False
    heap: list[tuple[float, float, float, int]] = [(0.0, -math.inf, 0.0, 0)]
    pop, push = heapq.heappop, heapq.heappush
    leaving, opaque = graph.leaving, graph.opaque
    while heap:
        delay, width, loss, label = pop(heap)  # width: bandwidth, negated
        node = nodes[label]
        front = fronts.get(node)
        if front is None:
            front = fronts[node] = []
            widest[node] = width
        elif width < widest[node]:
            widest[node] = width
        elif not by_loss or _dominated(front, width, loss):
            continue
        elif len(front) >= label_cap:
            cut = True
            continue
        front.append((width, loss))
        if node in targets:
            found.setdefault(node, []).append(label)
        if node in opaque and node != source:
            continue
        for link, _, far, _, arc_delay, arc_bandwidth, arc_loss in leaving.get(node, ()):
            if arc_delay == math.inf:
                continue
            far_width = width if width > -arc_bandwidth else -arc_bandwidth
            far_loss = loss + arc_loss if by_loss else 0.0
            far_front = fronts.get(far)
            # What would be refused when it is settled need not wait in the heap until then.
            if far_front is not None and far_width >= widest[far]:
                if not by_loss or _dominated(far_front, far_width, far_loss):
                    continue
                if len(far_front) >= label_cap:
                    cut = True
                    continue
            push(heap, (delay + arc_delay, far_width, far_loss, len(nodes)))
            nodes.append(far)
            parents.append(label)
            links.append(link)
    return {node: [_trail(label, parents, links) for label in labels] for node, labels in found.items()}, cut


def _dominated(front: Sequence[tuple[float, float]], width: float, loss: float) -> bool:
    for other_width, other_loss in front:  # noqa: SIM110 (a generator is twice as slow here)
        if other_width <= width and other_loss <= loss:
            return True
    return False


def _trail(label: int, parents: Sequence[int], links: Sequence[str]) -> Trail:
    trail: list[str] = []
    while parents[label] >= 0:
        trail.append(links[label])
        label = parents[label]
    return tuple(reversed(trail))
