"""Paths inside one domain, over its own native view: what its devices forward, and what could be provisioned.

The owner's counterpart of the broker's search across domains; it works with no broker at all.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from domain_twin.disclosure.search import Arc, Graph, pareto_trails, routes_to
from domain_twin.errors import NoPath, NotFound
from domain_twin.model import (
    ComposedPath,
    DomainOutcome,
    Hop,
    Nanoseconds,
    Network,
    Outcome,
    PathAnswer,
    PathKpis,
    PathMode,
    PointKind,
    Requirement,
    View,
)
from domain_twin.model.algebra import serial
from federation.wire.questions import PathQuery

__all__ = ["find_inside"]

_LABEL_CAP = 32
_DISJOINT_CANDIDATES = 16


@dataclass(frozen=True, slots=True)
class _Way:
    """One way over one segment."""

    source: str
    target: str
    kpis: PathKpis
    stale: bool


_Path = tuple[_Way, ...]


def find_inside(network: Network, view: View, query: PathQuery, *, now: Nanoseconds) -> PathAnswer:
    """Answer a path question between two points of the native `view` of `network`.

    Raises NotFound for an unknown end, NoPath with the reason where nothing meets the requirement.
    """
    for name in (query.source, query.target):
        if name not in view.points:
            close = difflib.get_close_matches(name, view.points, 3) or sorted(view.points)[:5]
            raise NotFound(f"no point {name!r} in {view.domain}; there are {', '.join(close)}, for example")
        if not view.points[name].up:
            raise NoPath(f"{name} is down or locked; nothing starts or ends there")
    if query.source == query.target:
        raise NoPath(f"{query.source} is both ends of the path; name two different ones")
    if query.mode is PathMode.CURRENT:
        paths: Sequence[_Path] = _current(network, view, query.source, query.target)
    else:
        ways = _options(view)
        paths = _disjoint(view, ways, query) if query.disjoint else list(_alternatives(view, ways, query))
    if not paths:
        raise NoPath(_why(view, query))
    composed = tuple(_composed(view.domain, path) for path in paths)
    unknown = any(math.isinf(path.total.delay_ms) for path in composed)
    outcome = DomainOutcome(
        view.domain,
        Outcome.NO_DATA if unknown else Outcome.OK,
        view.version,
        "the delay of a part is not measured" if unknown else "",
    )
    return PathAnswer(
        query.source, query.target, query.mode, query.requirement, composed, (outcome,), answered_at=now
    )


def _current(network: Network, view: View, source: str, target: str) -> list[_Path]:
    ids = _link_ids(network)
    ways: dict[str, _Way] = {}
    for (start, end), segment in view.segments.items():
        if segment.current:
            label = ids.get((start, end), f"{start} {end}")
            ways[label] = _Way(start, end, segment.current, segment.stale)
    graph = _graph(view, ways)
    trail = routes_to(graph, target).trail(source)
    return [] if trail is None else [tuple(ways[label] for label in trail)]


def _link_ids(network: Network) -> Mapping[tuple[str, str], str]:
    """Between two nodes by their names: the id of the link that is taken, by which devices break ties."""
    names = {
        identity: f"{network.domain}/{node.device or identity.rpartition(':')[2]}"
        for identity, node in network.nodes.items()
    }
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for link in network.links.values():
        if link.up and link.source_node in names and link.dest_node in names:
            key = (names[link.source_node], names[link.dest_node])
            rank = (link.metric, link.id)
            found[key] = min(found.get(key, rank), rank)
    return {key: link_id for key, (_, link_id) in found.items()}


def _options(view: View) -> dict[str, _Way]:
    return {
        f"{start} {end} {index}": _Way(start, end, kpis, segment.stale)
        for (start, end), segment in view.segments.items()
        for index, kpis in enumerate(segment.options)
    }


def _graph(view: View, ways: Mapping[str, _Way], avoid: Set[str] = frozenset()) -> Graph:
    # A path starts or ends at an end point or a border, and never crosses one.
    ends = {name for name, point in view.points.items() if point.kind is not PointKind.NODE}
    return Graph(
        (
            Arc(
                label,
                way.source,
                way.target,
                way.kpis.metric,
                way.kpis.delay_ms,
                way.kpis.bandwidth_mbps,
                -math.log1p(-way.kpis.loss) if way.kpis.loss < 1.0 else math.inf,
            )
            for label, way in ways.items()
            if not avoid or not (avoid & way.kpis.shared_risks)
        ),
        ends,
    )


def _fitting(
    view: View, ways: Mapping[str, _Way], query: PathQuery, avoid: Set[str] = frozenset()
) -> list[_Path]:
    """Non-dominated paths that meet the requirement and take no `avoid`ed risk, the fastest first."""
    found, _ = pareto_trails(
        _graph(view, ways, avoid),
        query.source,
        {query.target},
        by_loss=query.requirement.loss is not None,
        label_cap=_LABEL_CAP,
    )
    paths = (tuple(ways[label] for label in trail) for trail in found.get(query.target, ()))
    return sorted((path for path in paths if _meets(path, query.requirement)), key=_delay_ms)


def _alternatives(view: View, ways: Mapping[str, _Way], query: PathQuery) -> Iterator[_Path]:
    """At most `query.alternatives` paths by delay, each through other points (after Yen 1971)."""
    given: set[tuple[str, ...]] = set()
    waiting = _fitting(view, ways, query)
    while waiting and len(given) < query.alternatives:
        path = waiting.pop(0)
        nodes = tuple(way.target for way in path)
        if nodes in given:
            continue
        given.add(nodes)
        yield path
        if len(given) < query.alternatives:
            for way in path:
                rest = {
                    label: other
                    for label, other in ways.items()
                    if (other.source, other.target) != (way.source, way.target)
                }
                waiting += _fitting(view, rest, query)[:1]
            waiting.sort(key=_delay_ms)


def _disjoint(view: View, ways: Mapping[str, _Way], query: PathQuery) -> list[_Path]:
    """The pair with the least sum of delays that shares no link."""
    pairs = []
    for first in _fitting(view, ways, query)[:_DISJOINT_CANDIDATES]:
        risks = frozenset().union(*(way.kpis.shared_risks for way in first))
        for second in _fitting(view, ways, query, risks)[:1]:
            pairs.append(sorted((first, second), key=_delay_ms))
    return min(pairs, key=lambda pair: _delay_ms(pair[0]) + _delay_ms(pair[1]), default=[])


def _composed(domain: str, path: _Path) -> ComposedPath:
    hops = tuple(Hop(domain, way.source, way.target, way.kpis, stale=way.stale) for way in path)
    return ComposedPath(hops, serial(way.kpis for way in path))


def _delay_ms(path: _Path) -> float:
    return sum(way.kpis.delay_ms for way in path)


def _meets(path: _Path, required: Requirement) -> bool:
    total = serial(way.kpis for way in path)
    return (
        (required.delay_ms is None or total.delay_ms <= required.delay_ms)
        and (required.bandwidth_mbps is None or total.bandwidth_mbps >= required.bandwidth_mbps)
        and (required.loss is None or total.loss <= required.loss)
    )


def _why(view: View, query: PathQuery) -> str:
    if query.mode is PathMode.CURRENT:
        return f"devices forward nothing from {query.source} to {query.target} now: no chain of links is up"
    if query.disjoint:
        return f"no two paths from {query.source} to {query.target} meet the requirement and share no link"
    free = PathQuery(query.source, query.target, PathMode.BEST)
    best = _fitting(view, _options(view), free)
    if not best:
        return f"no measured links that are up join {query.source} and {query.target}"
    total = serial(way.kpis for way in best[0])
    return (
        f"no path from {query.source} to {query.target} meets the requirement; the fastest has"
        f" {total.delay_ms:.3f} ms, {total.bandwidth_mbps:g} Mbit/s free and loses {total.loss:.2g}"
    )
