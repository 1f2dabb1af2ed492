"""How a view changes: what a delta does to it, and what several deltas do together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from domain_twin.errors import StaleVersion
from domain_twin.model.values import Version
from domain_twin.model.view import View, ViewDelta

__all__ = ["apply", "fold", "snapshot"]

K = TypeVar("K")
V = TypeVar("V")


def snapshot(view: View) -> ViewDelta:
    """The delta that says all of a view."""
    return ViewDelta(
        domain=view.domain,
        agreement=view.agreement,
        level=view.level,
        source=None,
        target=view.version,
        points=tuple(view.points.values()),
        segments=tuple(view.segments.values()),
        hidden_nodes=view.hidden_nodes,
        hidden_links=view.hidden_links,
        expires_at=view.expires_at,
    )


def apply(view: View | None, delta: ViewDelta) -> View:
    """The view after a delta. Raises StaleVersion on a gap: ask for a snapshot then."""
    if delta.source is None:
        points = {point.id: point for point in delta.points}
        segments = {(segment.source, segment.target): segment for segment in delta.segments}
    else:
        if view is None or _place(view.version) != _place(delta.source):
            at = f"{view.version.epoch}/{view.version.sequence}" if view else "nothing"
            raise StaleVersion(
                f"the view of {delta.domain} is at {at}, and its delta starts from"
                f" {delta.source.epoch}/{delta.source.sequence}; ask for a snapshot"
            )
        points = {**view.points, **{point.id: point for point in delta.points}}
        segments = {**view.segments, **{(s.source, s.target): s for s in delta.segments}}
        for name in delta.gone_points:
            points.pop(name, None)
        for key in delta.gone_segments:
            segments.pop(key, None)
    return View(
        domain=delta.domain,
        agreement=delta.agreement,
        level=delta.level,
        version=delta.target,
        points=points,
        segments=segments,
        hidden_nodes=delta.hidden_nodes,
        hidden_links=delta.hidden_links,
        expires_at=delta.expires_at,
    )


def fold(deltas: Iterable[ViewDelta]) -> ViewDelta:
    """One delta that does what several in a row do. Raises StaleVersion where one does not follow the other.

    At least one is needed.
    """
    first, *rest = deltas
    if not rest:
        return first
    points = {point.id: point for point in first.points}
    segments = {(segment.source, segment.target): segment for segment in first.segments}
    gone_points, gone_segments = dict.fromkeys(first.gone_points), dict.fromkeys(first.gone_segments)
    source, last = first.source, first
    for delta in rest:
        if delta.source is None:
            source, points, segments, gone_points, gone_segments = None, {}, {}, {}, {}
        elif _place(delta.source) != _place(last.target):
            raise StaleVersion(
                f"the deltas of {delta.domain} do not follow each other:"
                f" {last.target.sequence}, then one from {delta.source.sequence}"
            )
        _overlay(points, gone_points, {point.id: point for point in delta.points}, delta.gone_points)
        _overlay(
            segments, gone_segments, {(s.source, s.target): s for s in delta.segments}, delta.gone_segments
        )
        last = delta
    complete = source is None
    return ViewDelta(
        domain=last.domain,
        agreement=last.agreement,
        level=last.level,
        source=source,
        target=last.target,
        points=tuple(points.values()),
        segments=tuple(segments.values()),
        gone_points=() if complete else tuple(gone_points),
        gone_segments=() if complete else tuple(gone_segments),
        hidden_nodes=last.hidden_nodes,
        hidden_links=last.hidden_links,
        expires_at=last.expires_at,
    )


def _overlay(present: dict[K, V], gone: dict[K, None], added: Mapping[K, V], removed: Sequence[K]) -> None:
    for key, value in added.items():
        present[key] = value
        gone.pop(key, None)
    for key in removed:
        present.pop(key, None)
        gone[key] = None


def _place(version: Version) -> tuple[str, int]:
    return version.epoch, version.sequence
