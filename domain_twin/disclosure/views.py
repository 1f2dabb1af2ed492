"""Views over time: one builder per agreement, and the deltas it sends.

Owns a view's own version: a sequence of its own within an epoch, not that of the network, so that a peer
cannot count what it does not see. Does no I/O; time comes in as an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from domain_twin.disclosure.abstraction import DEFAULT_CAP, Abstraction
from domain_twin.disclosure.plan import agreement_salt
from domain_twin.disclosure.policy import Grant
from domain_twin.model import Finding, Nanoseconds, Network, Version, View, ViewDelta
from domain_twin.model.delta import snapshot

__all__ = ["ViewBuilder"]

_SMALL_SEARCH = 4_000
"""Links times sources below which a search takes a few milliseconds, and is never put off."""
_RING_ITEMS = 1_000
"""Points and segments that the ring may hold of a view however small."""
_RING_VIEWS = 4
"""The same in sizes of the view: folded, more than that hardly says less than the whole view."""


class ViewBuilder:
    """The view of one agreement as it changes: what to send first, next, and after a break.

    The lists of options are searched anew at most once in `search_interval_ns` where that costs more than a
    few milliseconds; in between they hold known paths at today's figures. `due_at` says when to call
    `update` again even if nothing changes. `ring` deltas at most are kept for `resume`, and no more points
    and segments in them than a few views have.
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
        self.expires_at = grant.expires_at or 0
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
        self._ring: deque[ViewDelta] = deque()
        self._ring_deltas = ring
        self._ring_items = 0
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
            expires_at=self.expires_at,
        )
        if old is None:
            self.view = new
            return snapshot(new)
        delta = _difference(old, new)
        if delta is None:
            return None
        self.view = new
        self._keep(delta, most=max(_RING_ITEMS, _RING_VIEWS * (len(new.points) + len(new.segments))))
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

    def _keep(self, delta: ViewDelta, *, most: int) -> None:
        """Put a delta in the ring; the oldest ones make room. The newest one is kept, however long it is."""
        self._ring.append(delta)
        self._ring_items += _items(delta)
        while len(self._ring) > self._ring_deltas or (self._ring_items > most and len(self._ring) > 1):
            self._ring_items -= _items(self._ring.popleft())


def _items(delta: ViewDelta) -> int:
    return len(delta.points) + len(delta.segments) + len(delta.gone_points) + len(delta.gone_segments)


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
        expires_at=new.expires_at,
    )
