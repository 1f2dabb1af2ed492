"""One graph out of the views of many domains. Owns what joins them: inter-domain links and their findings.

Built from views alone, one domain at a time: replacing a view costs as much as what changed in it. A link
is used only when exactly two domains claim it and each names the other; whatever else is claimed is a
finding, not a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from domain_twin.model import (
    ANY_POINT,
    Finding,
    Level,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Severity,
    View,
)

__all__ = ["ComposedGraph", "Crossing", "Leaving", "Member", "Way"]


@dataclass(frozen=True, slots=True)
class Member:
    """A domain of the federation: its view, if there is one, and whether it is connected now."""

    domain: str
    view: View | None = None
    connected: bool = False
    reason: str = ""


class Way(NamedTuple):
    """A segment that leads from one point to another; a node view's one segment leads to many."""

    target: str
    segment: Segment


class Leaving(NamedTuple):
    """Where the segments from one point lead."""

    borders: tuple[Way, ...]
    nodes: tuple[Way, ...]
    end_points: Mapping[str, Way]


class Crossing(NamedTuple):
    """An inter-domain link in one direction, out of `source`."""

    link_id: str
    source: str
    target: str
    kpis: PathKpis
    stale: bool


_NOWHERE = Leaving((), (), {})


class ComposedGraph:
    """Points, segments and inter-domain links of all domains. Point ids are `domain/name`.

    Views are taken as they are, with options in order of delay: check them first (`federation.acceptance`).
    """

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self.crossings: dict[str, Crossing] = {}
        """Usable inter-domain links by the border point they leave from."""
        self._joined: dict[str, list[str]] = {}  # sources of the crossings of a link
        self._members: dict[str, Member] = {}
        self._points: dict[str, Point] = {}
        self._segments: dict[str, dict[str, Segment]] = {}
        self._leaving: dict[str, Leaving] = {}
        self._claims: dict[str, dict[str, Point]] = {}
        self._findings: dict[str, tuple[Finding, ...]] = {}
        self._incomplete: dict[str, dict[tuple[str, str], bool]] = {}
        for member in members:
            self.put(member)

    @property
    def members(self) -> Mapping[str, Member]:
        """All domains by name."""
        return self._members

    @property
    def points(self) -> Mapping[str, Point]:
        """All points by id."""
        return self._points

    def put(self, member: Member) -> None:
        """Take over a domain's view, or that it was connected or lost, or that it is only expected."""
        old = self._members.get(member.domain)
        self._members[member.domain] = member
        before = old.view if old else None
        after = member.view
        touched: set[str] = set()
        if before is not after:
            whole = before is None or after is None or before.level is not after.level
            touched = self._put_points(before, after)
            self._put_segments(before, after, whole=whole)
        if old is None or (old.view is None) != (after is None) or old.connected != member.connected:
            # What others claim about links to this domain depends on whether it is here.
            touched.update(
                link_id
                for link_id, claims in self._claims.items()
                if any(member.domain in (claim.domain, claim.peer_domain) for claim in claims.values())
            )
        for link_id in touched:
            self._join(link_id)

    def frozen(self) -> ComposedGraph:
        """The graph as it is now, for a search in another thread: shares what never changes."""
        copy = ComposedGraph()
        copy.crossings = dict(self.crossings)
        copy._members = dict(self._members)
        copy._points = dict(self._points)
        copy._segments = {source: dict(targets) for source, targets in self._segments.items()}
        copy._leaving = dict(self._leaving)
        copy._findings = dict(self._findings)
        copy._incomplete = {domain: dict(cut) for domain, cut in self._incomplete.items()}
        return copy

    def remove(self, domain: str) -> None:
        """Forget a domain."""
        if domain in self._members:
            self.put(Member(domain))
            del self._members[domain]

    def leaving(self, point: str) -> Leaving:
        """The segments from a point, by what they lead to. Points that are down are left out."""
        found = self._leaving.get(point)
        if found is None:
            found = self._leaving[point] = self._ways(point)
        return found

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong between the domains, in order of link; `since` is for who keeps them to fill in."""
        return tuple(finding for link_id in sorted(self._findings) for finding in self._findings[link_id])

    def end_points(self) -> list[str]:
        """Names of all published end points."""
        return sorted(name for name, point in self._points.items() if point.kind is PointKind.ENDPOINT)

    def incomplete(self, domain: str, *, by_loss: bool) -> bool:
        """Whether some list of options of a domain was cut so that an answer may be missed.

        Lists are cut last where bandwidth tells options apart: one that still holds options better in loss
        alone is complete in delay and bandwidth.
        """
        cut = self._incomplete.get(domain, {})
        return bool(cut) and (by_loss or any(cut.values()))

    def _put_points(self, before: View | None, after: View | None) -> set[str]:
        """Replace a domain's points; the inter-domain links whose claims changed."""
        old: Mapping[str, Point] = before.points if before else {}
        new: Mapping[str, Point] = after.points if after else {}
        touched: set[str] = set()
        shape_changed = old.keys() != new.keys()
        for name in old.keys() - new.keys():
            del self._points[name]
            touched |= self._claim(name, old[name], None)
        for name, point in new.items():
            was = old.get(name)
            if was is point:
                continue
            self._points[name] = point
            shape_changed |= was is None or was.up != point.up or was.kind is not point.kind
            touched |= self._claim(name, was, point)
        if shape_changed:
            domain = after.domain if after else before.domain if before else ""
            for name in [name for name in self._leaving if name.partition("/")[0] == domain]:
                del self._leaving[name]
        return touched

    def _claim(self, name: str, old: Point | None, new: Point | None) -> set[str]:
        touched = {point.link_id for point in (old, new) if point is not None and point.link_id}
        if old is not None and old.link_id:
            self._claims[old.link_id].pop(name, None)
        if new is not None and new.link_id:
            self._claims.setdefault(new.link_id, {})[name] = new
        return touched

    def _put_segments(self, before: View | None, after: View | None, *, whole: bool) -> None:
        old: Mapping[tuple[str, str], Segment] = before.segments if before else {}
        new: Mapping[tuple[str, str], Segment] = after.segments if after else {}
        domain = after.domain if after else before.domain if before else ""
        incomplete = self._incomplete.setdefault(domain, {})
        sources: set[str] = set()
        for key in old.keys() - new.keys():
            self._segments[_source_key(domain, key[0])].pop(key[1], None)
            incomplete.pop(key, None)
            sources.add(key[0])
        for key, segment in new.items():
            if old.get(key) is segment:
                continue
            sources.add(key[0])
            self._segments.setdefault(_source_key(domain, key[0]), {})[key[1]] = segment
            if segment.truncated:
                widths = [option.bandwidth_mbps for option in segment.options]
                incomplete[key] = all(a < b for a, b in pairwise(widths))
            else:
                incomplete.pop(key, None)
        if whole or ANY_POINT in sources:
            sources.update(name for name in self._leaving if name.partition("/")[0] == domain)
        for name in sources:
            self._leaving.pop(name, None)

    def _ways(self, name: str) -> Leaving:
        point = self._points.get(name)
        if point is None or not point.up:
            return _NOWHERE
        member = self._members[point.domain]
        assert member.view is not None
        segments: Mapping[str, Segment] = self._segments.get(name, {})
        if member.view.level is Level.NODE:
            whole = self._segments.get(_source_key(point.domain, ANY_POINT), {}).get(ANY_POINT)
            segments = {other: whole for other in member.view.points if other != name} if whole else {}
        ways: dict[PointKind, list[Way]] = {kind: [] for kind in PointKind}
        for target in sorted(segments):
            there = self._points.get(target)
            if there is not None and there.up:
                ways[there.kind].append(Way(target, segments[target]))
        return Leaving(
            tuple(ways[PointKind.BORDER]),
            tuple(ways[PointKind.NODE]),
            {way.target: way for way in ways[PointKind.ENDPOINT]},
        )

    def _join(self, link_id: str) -> None:
        """Decide again whether an inter-domain link is used, and what is wrong with it."""
        claims = [claim for _, claim in sorted(self._claims.get(link_id, {}).items())]
        for source in self._joined.pop(link_id, ()):
            # A point may have left this link for another one, which was joined before this one is told.
            if source in self.crossings and self.crossings[source].link_id == link_id:
                del self.crossings[source]
        if not claims:
            self._claims.pop(link_id, None)
            self._findings.pop(link_id, None)
            return
        findings = tuple(_objections(link_id, claims, self._members))
        if findings:
            self._findings[link_id] = findings
        else:
            self._findings.pop(link_id, None)
        if len(claims) != 2 or any(finding.severity is Severity.ERROR for finding in findings):
            return
        one, other = claims
        if not (one.up and other.up):
            return
        stale = not (self._members[one.domain].connected and self._members[other.domain].connected)
        capacity = min(one.capacity_mbps, other.capacity_mbps)
        for near, far in ((one, other), (other, one)):
            if near.outbound is not None:
                # Free capacity was reckoned from what this side believes to be there.
                free = max(0.0, near.outbound.bandwidth_mbps - (near.capacity_mbps - capacity))
                kpis = replace(
                    near.outbound, bandwidth_mbps=free, metric=near.metric, shared_risks=frozenset({link_id})
                )
                self._joined.setdefault(link_id, []).append(near.id)
                self.crossings[near.id] = Crossing(
                    link_id, near.id, far.id, kpis, stale or near.stale or far.stale
                )


def _source_key(domain: str, source: str) -> str:
    return f"{domain}/{ANY_POINT}" if source == ANY_POINT else source


def _objections(link_id: str, claims: list[Point], members: Mapping[str, Member]) -> Iterable[Finding]:
    by_domain: dict[str, list[Point]] = {}
    for claim in claims:
        by_domain.setdefault(claim.domain, []).append(claim)
    named = " and ".join(sorted(by_domain))
    for domain, own in by_domain.items():
        if len(own) > 1:
            yield Finding(
                "inter-domain-link.claimed-twice",
                Severity.ERROR,
                domain,
                link_id,
                f"{domain} claims the inter-domain link {link_id} at {len(own)} of its own points",
                f"{domain} leaves inter-domain-link-id on one termination point",
            )
    if len(by_domain) > 2:
        yield Finding(
            "inter-domain-link.too-many-claims",
            Severity.ERROR,
            "",
            link_id,
            f"{len(by_domain)} domains claim the inter-domain link {link_id}: {', '.join(sorted(by_domain))};"
            " it joins none of them until two are left",
            "give each inter-domain link an id of its own",
        )
        return
    for domain, own in by_domain.items():
        for claim in own:
            yield from _peer_objections(claim, domain, by_domain, members)
    if len(claims) != 2 or len(by_domain) != 2:
        return
    one, other = claims
    if one.capacity_mbps != other.capacity_mbps:
        yield Finding(
            "inter-domain-link.capacity-mismatch",
            Severity.WARNING,
            "",
            link_id,
            f"{one.domain} says that the inter-domain link {link_id} has {one.capacity_mbps:g} Mbit/s,"
            f" {other.domain} says {other.capacity_mbps:g}; the smaller one is used",
            f"{named} agree on one capacity",
        )
    if one.up != other.up:
        up, down = (one, other) if one.up else (other, one)
        yield Finding(
            "inter-domain-link.state-disagreement",
            Severity.INFO,
            "",
            link_id,
            f"the inter-domain link {link_id} is up at {up.domain} and down at {down.domain}; it is not used",
            f"{down.domain} enables its end, or {up.domain} waits until it does",
        )


def _peer_objections(
    claim: Point, domain: str, by_domain: Mapping[str, list[Point]], members: Mapping[str, Member]
) -> Iterable[Finding]:
    link_id, peer = claim.link_id, claim.peer_domain
    others = [other for other in by_domain if other != domain]
    if others and peer != others[0]:
        yield Finding(
            "inter-domain-link.peer-mismatch",
            Severity.ERROR,
            domain,
            link_id,
            f"{domain} says that the inter-domain link {link_id} leads to {peer};"
            f" the one who claims its other end is {others[0]}",
            f"{domain} corrects peer-domain, or {others[0]} the link's id",
        )
    if others:
        return
    member = members.get(peer)
    if peer == domain:
        yield Finding(
            "inter-domain-link.peer-mismatch",
            Severity.ERROR,
            domain,
            link_id,
            f"{domain} says that the inter-domain link {link_id} leads to itself",
            f"{domain} corrects peer-domain, or makes it a link of its own",
        )
    elif member is None or member.view is None:
        yield Finding(
            "inter-domain-link.peer-absent",
            Severity.INFO,
            domain,
            link_id,
            f"{domain} declares the inter-domain link {link_id} to {peer}, which has not joined",
            f"{peer} joins, or {domain} corrects peer-domain",
        )
    else:
        yield Finding(
            "inter-domain-link.one-sided",
            Severity.WARNING,
            domain,
            link_id,
            f"{domain} declares the inter-domain link {link_id} to {peer}, which does not declare it",
            f"{peer} declares {link_id} on its termination point, or {domain} removes it",
        )
