"""Route searches over a composed graph: least metric, fastest within bounds, alternatives."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from domain_twin.model import PathKpis, Requirement
from federation.compose import ComposedGraph, Crossing, Way

__all__ = ["FREE", "Avoid", "Bounds", "Route", "Step", "alternatives", "best_route", "current_route"]


class Step(NamedTuple):
    """One segment from where a path entered a domain, and the inter-domain link that it left by, if any."""

    source: str
    way: Way
    kpis: PathKpis
    option: int  # index among the segment's options, -1: what is forwarded now
    crossing: Crossing | None

    @property
    def reached(self) -> str:
        """The point where the step ends: in the next domain where it crossed."""
        return self.crossing.target if self.crossing else self.way.target


class Route(NamedTuple):
    """A found path as steps."""

    steps: tuple[Step, ...]
    delay_ms: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the whole path must keep within; loss as -ln(1 - p), so that it adds."""

    delay_ms: float = math.inf
    bandwidth_mbps: float = 0.0
    loss: float = math.inf

    @classmethod
    def of(cls, requirement: Requirement) -> Bounds:
        """The bounds of a requirement."""
        return cls(
            math.inf if requirement.delay_ms is None else requirement.delay_ms,
            requirement.bandwidth_mbps or 0.0,
            math.inf if requirement.loss is None else _additive(requirement.loss),
        )

    @property
    def by_loss(self) -> bool:
        """Whether loss is bounded, so that a slower path may be the better one to go on with."""
        return self.loss < math.inf


FREE = Bounds()


@dataclass(frozen=True, slots=True)
class Avoid:
    """What a route must not use: inter-domain links, risks by domain; for alternatives, ways and points."""

    links: Set[str] = frozenset()
    risks: Mapping[str, Set[str]] = field(default_factory=dict)
    ways: Set[tuple[str, str, int]] = frozenset()  # source, target, option; option -1: all of them
    points: Set[str] = frozenset()

    @classmethod
    def of(cls, route: Route) -> Avoid:
        """Everything that a disjoint route must not share with this one."""
        risks: dict[str, set[str]] = {}
        for step in route.steps:
            risks.setdefault(_domain(step.source), set()).update(step.kpis.shared_risks)
        return cls(frozenset(step.crossing.link_id for step in route.steps if step.crossing), risks)


_NOTHING = Avoid()
_Taken: TypeAlias = tuple[str, Way, int, Crossing | None, int]
"""A step as searches note it: source, way, option (-1: forwarded now), crossing, index of the step before."""


def current_route(graph: ComposedGraph, source: str, target: str) -> Route | None:
    """The path of least total metric, which is what devices forward by (Dijkstra).

    Tie-break: fewest steps, then the least names of the points where it enters domains. Devices break ties by
    link ids that views do not show, so between equals this may name the other one.
    """
    settled: set[str] = set()
    heap: list[tuple[int, int, str, int]] = [(0, 0, source, -1)]
    taken: list[_Taken] = []
    while heap:
        metric, count, point, index = heapq.heappop(heap)
        if point in settled:
            continue
        settled.add(point)
        if point == target:
            return _unroll(taken, index)
        for way, crossing in _onward(graph, point, target):
            current = way.segment.current
            reached = crossing.target if crossing else way.target
            if current is None or reached in settled:
                continue
            further = metric + current.metric + (crossing.kpis.metric if crossing else 0)
            heapq.heappush(heap, (further, count + 1, reached, len(taken)))
            taken.append((point, way, -1, crossing, index))
    return None


def best_route(
    graph: ComposedGraph,
    source: str,
    target: str,
    bounds: Bounds,
    avoid: Avoid = _NOTHING,
    *,
    spent: tuple[float, float] = (0.0, 0.0),
) -> Route | None:
    """The fastest path within bounds, over the options that domains list (label setting in order of delay).

    Without a bound on loss one label a point is enough: links too narrow are left out beforehand. With one, a
    later label stays if it lost less. `spent` is the delay and loss of the steps before `source`.
    """
    taken: list[_Taken] = []
    lowest: dict[str, float] = {}
    by_loss = bounds.by_loss
    heap: list[tuple[float, float, str, int]] = [(spent[0], spent[1], source, -1)]
    while heap:
        delay, loss, point, index = heapq.heappop(heap)
        if point in lowest and not (by_loss and loss < lowest[point]):
            continue
        lowest[point] = loss
        if point == target:
            return _unroll(taken, index)
        for way, crossing in _onward(graph, point, target):
            reached, further, lost = way.target, delay, loss
            if crossing is not None:
                reached, kpis = crossing.target, crossing.kpis
                if kpis.bandwidth_mbps < bounds.bandwidth_mbps or crossing.link_id in avoid.links:
                    continue
                further += kpis.delay_ms
                lost += _additive(kpis.loss) if by_loss else 0.0
            if reached in avoid.points or (reached in lowest and not by_loss):
                continue
            for option, listed in _allowed(way, point, bounds, avoid):
                at = further + listed.delay_ms
                lost_there = lost + _additive(listed.loss) if by_loss else 0.0
                # Compared so that withheld figures, which are infinite, pass where nothing is asked of them.
                if at <= bounds.delay_ms and lost_there <= bounds.loss:
                    heapq.heappush(heap, (at, lost_there, reached, len(taken)))
                    taken.append((point, way, option, crossing, index))
                if not by_loss:
                    break  # the others are slower, and wide enough is wide enough
    return None


def alternatives(
    graph: ComposedGraph, source: str, target: str, bounds: Bounds, *, by_option: bool = False
) -> Iterator[Route]:
    """Loopless routes within bounds, fastest first, each worked out when it is asked for (Yen 1971).

    They differ in the points they cross; `by_option`, those that differ only in a domain's option count as
    well.
    """
    route = best_route(graph, source, target, bounds)
    found: list[Route] = []
    candidates: list[tuple[float, int, Route]] = []
    seen: set[tuple[tuple[str, str, int], ...]] = set()
    while route is not None:
        found.append(route)
        seen.add(_signature(route.steps, by_option))
        yield route
        for place, step in enumerate(route.steps):
            root = route.steps[:place]
            start = _signature(root, by_option)
            taken = frozenset(
                _signature(other.steps[place : place + 1], by_option)[0]
                for other in found
                if len(other.steps) > place and _signature(other.steps[:place], by_option) == start
            )
            avoid = Avoid(ways=taken, points=frozenset(before.source for before in root))
            spent = _spent(root, by_loss=bounds.by_loss)
            spur = best_route(graph, step.source, target, bounds, avoid, spent=spent)
            if spur is None:
                continue
            steps = (*root, *spur.steps)
            signature = _signature(steps, by_option)
            if signature not in seen:
                seen.add(signature)
                delay_ms = _spent(steps, by_loss=False)[0]
                heapq.heappush(candidates, (delay_ms, len(seen), Route(steps, delay_ms)))
        route = heapq.heappop(candidates)[2] if candidates else None


def _onward(graph: ComposedGraph, point: str, target: str) -> Iterator[tuple[Way, Crossing | None]]:
    leaving = graph.leaving(point)
    crossings = graph.crossings
    for way in leaving.borders:
        if way.target == target:
            yield way, None
        crossing = crossings.get(way.target)
        if crossing is not None:
            yield way, crossing
    for way in leaving.nodes:
        yield way, None
    last = leaving.end_points.get(target)
    if last is not None:
        yield last, None


def _allowed(way: Way, point: str, bounds: Bounds, avoid: Avoid) -> Iterator[tuple[int, PathKpis]]:
    """The options that are wide enough and use nothing that is to be avoided, fastest first."""
    risks = avoid.risks.get(_domain(point)) if avoid.risks else None
    if avoid.ways and (point, way.target, -1) in avoid.ways:
        return
    for index, option in enumerate(way.segment.options):
        if option.bandwidth_mbps < bounds.bandwidth_mbps:
            continue
        if avoid.ways and (point, way.target, index) in avoid.ways:
            continue
        if risks and not risks.isdisjoint(option.shared_risks):
            continue
        yield index, option


def _unroll(taken: list[_Taken], index: int) -> Route:
    steps: list[Step] = []
    while index >= 0:
        source, way, option, crossing, index = taken[index]
        kpis = way.segment.current if option < 0 else way.segment.options[option]
        assert kpis is not None
        steps.append(Step(source, way, kpis, option, crossing))
    route = tuple(reversed(steps))
    return Route(route, _spent(route, by_loss=False)[0])


def _spent(steps: tuple[Step, ...], *, by_loss: bool) -> tuple[float, float]:
    delay = loss = 0.0
    for step in steps:
        for kpis in (step.kpis, step.crossing.kpis if step.crossing else None):
            if kpis is not None:
                delay += kpis.delay_ms
                loss += _additive(kpis.loss) if by_loss else 0.0
    return delay, loss


def _signature(steps: tuple[Step, ...], by_option: bool) -> tuple[tuple[str, str, int], ...]:
    return tuple((step.source, step.way.target, step.option if by_option else -1) for step in steps)


def _additive(loss: float) -> float:
    return -math.log1p(-loss) if loss < 1.0 else math.inf


def _domain(point: str) -> str:
    return point.partition("/")[0]
