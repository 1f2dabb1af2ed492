"""Views of domains with a few points, written down segment by segment."""

from __future__ import annotations

from collections.abc import Iterable

from domain_twin.model import Level, PathKpis, Point, PointKind, Segment, Version, View
from federation.compose import ComposedGraph, Member


def kpis(delay: float = 1.0, bandwidth: float = 1000.0, **more) -> PathKpis:
    return PathKpis(delay_ms=delay, bandwidth_mbps=bandwidth, **more)


def border(domain: str, link: str, peer: str, *, capacity: float = 1000.0, metric: int = 1, **more) -> Point:
    outbound = more.pop("outbound", kpis(0.5, capacity))
    return Point(
        f"{domain}/{link}",
        domain,
        PointKind.BORDER,
        link_id=link,
        peer_domain=peer,
        capacity_mbps=capacity,
        metric=metric,
        outbound=outbound,
        **more,
    )


def end(domain: str, name: str, **more) -> Point:
    return Point(f"{domain}/{name}", domain, PointKind.ENDPOINT, **more)


def segment(
    source: str, target: str, current: PathKpis | None = None, options: Iterable[PathKpis] = (), **more
) -> Segment:
    current = current or kpis(metric=1)
    return Segment(source, target, current, tuple(options) or (current,), **more)


def view(
    domain: str,
    points: Iterable[Point],
    segments: Iterable[Segment] = (),
    *,
    level: Level = Level.MESH,
    sequence: int = 1,
) -> View:
    return View(
        domain,
        "agreement",
        level,
        Version("e", sequence),
        {point.id: point for point in points},
        {(item.source, item.target): item for item in segments},
    )


def graph_of(*views: View, connected: bool = True) -> ComposedGraph:
    return ComposedGraph(Member(item.domain, item, connected=connected) for item in views)


def chain() -> list[View]:
    """a/ue, by the link ab to b, by bc or bc2 to c, c/srv. bc2 is slower and wider, and costs more."""
    a = view(
        "a",
        [end("a", "ue"), border("a", "ab", "b", capacity=10_000.0)],
        both("a/ue", "a/ab", kpis(2.0, 10_000.0, metric=1)),
    )
    b = view(
        "b",
        [
            border("b", "ab", "a", capacity=10_000.0),
            border("b", "bc", "c"),
            border("b", "bc2", "c", capacity=10_000.0),
        ],
        [
            *both("b/ab", "b/bc", kpis(1.0, metric=1, shared_risks=frozenset({"r1"}))),
            *both("b/ab", "b/bc2", kpis(4.0, 8_000.0, metric=9, shared_risks=frozenset({"r2"}))),
            *both("b/bc", "b/bc2", kpis(1.0, metric=1, shared_risks=frozenset({"r3"}))),
        ],
    )
    c = view(
        "c",
        [end("c", "srv"), border("c", "bc", "b"), border("c", "bc2", "b", capacity=10_000.0)],
        [
            *both("c/srv", "c/bc", kpis(1.0, 10_000.0, metric=1)),
            *both("c/srv", "c/bc2", kpis(1.5, 10_000.0, metric=1)),
            *both("c/bc", "c/bc2", kpis(0.5, 10_000.0, metric=1)),
        ],
    )
    return [a, b, c]


def both(one: str, other: str, figures: PathKpis) -> list[Segment]:
    return [segment(one, other, figures), segment(other, one, figures)]
