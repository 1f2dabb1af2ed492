"""A whole domain as one node: worst-case figures that hold between any two of its points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from domain_twin.model import ANY_POINT, PathKpis, Point, PointKind, Segment

__all__ = ["worst_case"]


def worst_case(
    points: Mapping[str, Point], segments: Mapping[tuple[str, str], Segment]
) -> tuple[dict[str, Point], Segment]:
    """The points, and one segment that promises no more than what holds for every pair of those that are up.

    A point that is not joined both ways with the largest group of points is shown as down: one segment for
    all pairs cannot say that some are not joined. Where a pair has no measured path, nothing is promised
    for any.
    """
    group = _largest_group(points, segments)
    shown = {
        name: point
        if name in group or not point.up
        else replace(point, up=False, outbound=None if point.kind is PointKind.BORDER else point.outbound)
        for name, point in points.items()
    }
    pairs = [segments[a, b] for a in group for b in group if a != b]
    stale = any(pair.stale for pair in pairs)
    current = [pair.current for pair in pairs if pair.current]
    # One point per pair, its fastest: a list for all pairs would need one that every pair can do at once.
    fastest = [pair.options[0] for pair in pairs if pair.options]
    return shown, Segment(
        ANY_POINT,
        ANY_POINT,
        current=_worst(current) if current else None,
        options=(_worst(fastest),) if fastest and len(fastest) == len(pairs) else (),
        truncated=True,
        stale=stale,
    )


def _largest_group(
    points: Mapping[str, Point], segments: Mapping[tuple[str, str], Segment]
) -> frozenset[str]:
    """The largest set of points that are joined with the same others both ways; the least names win a tie."""
    joined: dict[str, set[str]] = {name: {name} for name, point in points.items() if point.up}
    for source, target in segments:
        if (target, source) in segments:
            joined[source].add(target)
    groups: dict[frozenset[str], list[str]] = {}
    for name in sorted(joined):
        groups.setdefault(frozenset(joined[name]), []).append(name)
    # Being joined is transitive but for nodes that cannot be crossed, so the largest group is a set of this
    # kind.
    complete = [members for members, names in groups.items() if len(members) == len(names)]
    return max(complete, key=len, default=frozenset())


def _worst(parts: list[PathKpis]) -> PathKpis:
    return PathKpis(
        delay_ms=max(part.delay_ms for part in parts),
        delay_variance_ms2=max(part.delay_variance_ms2 for part in parts),
        loss=max(part.loss for part in parts),
        bandwidth_mbps=min(part.bandwidth_mbps for part in parts),
        metric=max(part.metric for part in parts),
        availability=min(part.availability for part in parts),
        delay_std_error_ms=max(part.delay_std_error_ms for part in parts),
        origin=max((part.origin for part in parts), key=list(type(parts[0].origin)).index),
        shared_risks=frozenset({ANY_POINT}),
    )
