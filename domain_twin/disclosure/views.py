"""Views over time: one builder per agreement, the deltas it sends, and how a receiver applies them.

Owns a view's own version: a sequence of its own within an epoch, not that of the network, so that a peer
cannot count what it does not see. Does no I/O; time comes in as an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from domain_twin.disclosure.abstraction import DEFAULT_CAP, Abstraction
from domain_twin.disclosure.plan import agreement_salt
from domain_twin.disclosure.policy import Grant
from domain_twin.errors import StaleVersion
from domain_twin.model import Finding, Nanoseconds, Network, Version, View, ViewDelta

__all__ = ["ViewBuilder", "apply", "fold", "snapshot"]

K = TypeVar("K")
V = TypeVar("V")
_SMALL_SEARCH = 4_000
"""Links times sources below which a search takes a few milliseconds, and is never put off."""


class ViewBuilder:
    """The view of one agreement as it changes: what to send first, next, and after a break.

    The lists of options are searched anew at most once in `search_interval_ns` where that costs more than a
    few milliseconds; in between they hold known paths at today's figures. `due_at` says when to call
    `update` again even if nothing changes.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        published: Mapping[str, str],
        risk_salt: bytes,
        epoch: str,
        cap: int = DEFAULT_CAP,
        ring: int = 256,
        search_interval_ns: Nanoseconds = 1_000_000_000,
    ) -> None:
        self.agreement = grant.agreement
        self.level = grant.level
        self.view: View | None = None
        """The view last built: what a peer has that got every delta."""
        self._abstraction = Abstraction(
            level=grant.level,
            published=published,
            precision=grant.precision,
            risk_salt=agreement_salt(risk_salt, grant.agreement),
            cap=cap,
            figures=grant.figures,
        )
        self._epoch = epoch
        self._ring: deque[ViewDelta] = deque(maxlen=ring)
        self._search_interval_ns = search_interval_ns
        self._searched_at: Nanoseconds | None = None

    @property
    def due_at(self) -> Nanoseconds | None:
        """When a search that was put off may be made up for; None when none was."""
        if not self._abstraction.search_pending or self._searched_at is None:
            return None
        return self._searched_at + self._search_interval_ns

    def findings(self) -> tuple[Finding, ...]:
        """What the owner should see about this view; never leaves the domain."""
        return self._abstraction.findings()

    def update(self, network: Network, *, now: Nanoseconds) -> ViewDelta | None:
        """Take over a network; the delta from the last view, None when nothing visible changed.

        The first delta is a snapshot.
        """
        abstraction = self._abstraction
        search_now = (
            self._searched_at is None
            or now - self._searched_at >= self._search_interval_ns
            or abstraction.search_work <= _SMALL_SEARCH
        )
        abstraction.update(network, search_now=search_now)
        if search_now:
            self._searched_at = now
        old = self.view
        sequence = old.version.sequence + 1 if old else 1
        new = View(
            domain=network.domain,
            agreement=self.agreement,
            level=self.level,
            version=Version(self._epoch, sequence, network.version.observed_at),
            points=abstraction.points,
            segments=abstraction.segments,
            hidden_nodes=abstraction.hidden_nodes,
            hidden_links=abstraction.hidden_links,
            kind=network.kind,
        )
        if old is None:
            self.view = new
            return snapshot(new)
        delta = _difference(old, new)
        if delta is None:
            return None
        self.view = new
        self._ring.append(delta)
        return delta

    def resume(self, since: Version | None) -> list[ViewDelta]:
        """What a peer at version `since` lacks: deltas in order, one snapshot, or nothing."""
        if self.view is None:
            return []
        if since is not None and since.epoch == self._epoch:
            if since.sequence == self.view.version.sequence:
                return []
            missing = [delta for delta in self._ring if delta.target.sequence > since.sequence]
            if missing and missing[0].source and missing[0].source.sequence == since.sequence:
                return missing
        return [snapshot(self.view)]


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
    )


def _overlay(present: dict[K, V], gone: dict[K, None], added: Mapping[K, V], removed: Sequence[K]) -> None:
    for key, value in added.items():
        present[key] = value
        gone.pop(key, None)
    for key in removed:
        present.pop(key, None)
        gone[key] = None


def _difference(old: View, new: View) -> ViewDelta | None:
    points = tuple(p for name, p in new.points.items() if old.points.get(name) is not p)
    segments = tuple(s for key, s in new.segments.items() if old.segments.get(key) is not s)
    gone_points = tuple(name for name in old.points if name not in new.points)
    gone_segments = tuple(key for key in old.segments if key not in new.segments)
    hidden = (new.hidden_nodes, new.hidden_links)
    if not (points or segments or gone_points or gone_segments) and hidden == (
        old.hidden_nodes,
        old.hidden_links,
    ):
        return None
    return ViewDelta(
        domain=new.domain,
        agreement=new.agreement,
        level=new.level,
        source=old.version,
        target=new.version,
        points=points,
        segments=segments,
        gone_points=gone_points,
        gone_segments=gone_segments,
        hidden_nodes=new.hidden_nodes,
        hidden_links=new.hidden_links,
    )


def _place(version: Version) -> tuple[str, int]:
    return version.epoch, version.sequence
