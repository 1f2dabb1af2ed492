"""What an agreement shows, as triples: redacted when it is made, so that no query can reach behind it.

Owns which triples a view makes. Only what the view itself holds is said: its aliases, its figures as rounded
for this peer and only those granted, never a name, count or order of what is inside. A figure that was not
granted or is not known is left out, where a view tells the worst case. No blank nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import pyoxigraph as ox

from domain_twin.disclosure.policy import Grant
from domain_twin.disclosure.precision import BANDWIDTH
from domain_twin.model import ANY_POINT, Level, PathKpis, Point, PointKind, Segment, View
from domain_twin.model.values import DELAY, DELAY_VARIANCE, LOSS
from domain_twin.semantic import names
from domain_twin.semantic.live import Sink
from domain_twin.semantic.topology import date_time, double, ndt

__all__ = ["ViewGraph", "ViewSource", "view_quads"]

_TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_CLASSES = {PointKind.BORDER: "BorderPoint", PointKind.ENDPOINT: "EndPoint", PointKind.NODE: "Node"}
_VIEWS = names.view_graph("")
_FINEST = (Level.NATIVE, Level.MESH, Level.NODE)

Pair = tuple[ox.NamedNode, ox.NamedNode | ox.Literal]
Diff = tuple[list[ox.Quad], list[ox.Quad]]


class ViewGraph:
    """The graph of one agreement, in step with its view."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.name = names.view_graph(grant.agreement)
        self._graph = ox.NamedNode(self.name)
        self._view: View | None = None

    def update(self, view: View) -> Diff:
        """What to take out of the graph, and what to put in, to make it that of `view`."""
        before = self._view
        old: set[ox.Quad] = set()
        new: dict[ox.Quad, None] = {}
        if before is not None:
            old.update(self._about(before))
            for name, point in before.points.items():
                if view.points.get(name) is not point:
                    old.update(self._point(before, point))
            for key, segment in before.segments.items():
                if view.segments.get(key) is not segment:
                    old.update(self._segment(before, segment))
        new.update(dict.fromkeys(self._about(view)))
        for name, point in view.points.items():
            if before is None or before.points.get(name) is not point:
                new.update(dict.fromkeys(self._point(view, point)))
        for key, segment in view.segments.items():
            if before is None or before.segments.get(key) is not segment:
                new.update(dict.fromkeys(self._segment(view, segment)))
        for point in view.points.values():
            old.difference_update(self._joined(point))
        self._view = view
        return [quad for quad in old if quad not in new], [quad for quad in new if quad not in old]

    def _quads(self, subject: str, pairs: Iterator[Pair]) -> Iterator[ox.Quad]:
        node = ox.NamedNode(subject)
        for predicate, value in pairs:
            yield ox.Quad(node, predicate, value, self._graph)

    def _about(self, view: View) -> Iterator[ox.Quad]:
        """The domain, the agreement and the view themselves."""
        domain = ox.NamedNode(names.domain_node(view.domain))
        # By domain: two operators may give their agreements one name, and a broker reads both.
        agreement = names.record("agreement", f"{view.domain}/{self.grant.agreement}")
        shown = ox.NamedNode(f"{agreement}/view")
        level = ox.Literal(view.level.value)

        def of_agreement() -> Iterator[Pair]:
            yield _TYPE, ndt("Agreement")
            yield ndt("givenBy"), domain
            yield ndt("grants"), shown
            yield ndt("level"), level
            if self.grant.expires_at is not None:
                yield ndt("expiresAt"), date_time(self.grant.expires_at)

        yield ox.Quad(domain, _TYPE, ndt("Domain"), self._graph)
        yield ox.Quad(domain, ndt("name"), ox.Literal(view.domain), self._graph)
        yield from self._quads(agreement, of_agreement())
        yield ox.Quad(shown, _TYPE, ndt("DataView"), self._graph)
        yield ox.Quad(shown, ndt("level"), level, self._graph)
        version = f"{view.version.epoch}/{view.version.sequence}"
        yield ox.Quad(shown, ndt("version"), ox.Literal(version), self._graph)

    def _point(self, view: View, point: Point) -> Iterator[ox.Quad]:
        name = names.point(point.id)

        def pairs() -> Iterator[Pair]:
            yield _TYPE, ndt(_CLASSES[point.kind])
            yield ndt("alias"), ox.Literal(point.id)
            yield ndt("inDomain"), ox.NamedNode(names.domain_node(view.domain))
            if point.role:
                yield ndt("role"), ox.Literal(point.role)
            yield ndt("up"), ox.Literal(point.up)
            yield ndt("stale"), ox.Literal(point.stale)
            if point.kind is not PointKind.BORDER:
                return
            yield ndt("linkId"), ox.Literal(point.link_id)
            if point.peer_domain:
                yield ndt("peerDomain"), ox.NamedNode(names.domain_node(point.peer_domain))
            if BANDWIDTH in self.grant.figures:
                yield ndt("capacityMbps"), double(point.capacity_mbps)
            yield ndt("metric"), ox.Literal(point.metric)
            if point.outbound is not None:
                yield from self._figures(point.outbound)

        yield from self._quads(name, pairs())
        yield from self._joined(point)

    def _joined(self, point: Point) -> Iterator[ox.Quad]:
        """The inter-domain link of a border point, which a second point may claim by mistake."""
        if point.kind is PointKind.BORDER:
            joined = ox.NamedNode(names.inter_domain_link(point.link_id))
            yield ox.Quad(joined, _TYPE, ndt("InterDomainLink"), self._graph)
            yield ox.Quad(joined, ndt("linkId"), ox.Literal(point.link_id), self._graph)
            yield ox.Quad(joined, ndt("endsAt"), ox.NamedNode(names.point(point.id)), self._graph)

    def _segment(self, view: View, segment: Segment) -> Iterator[ox.Quad]:
        everywhere = f"{view.domain}/{ANY_POINT}"
        source, target = (everywhere if end == ANY_POINT else end for end in (segment.source, segment.target))

        def pairs() -> Iterator[Pair]:
            yield _TYPE, ndt("Segment")
            yield ndt("inDomain"), ox.NamedNode(names.domain_node(view.domain))
            if segment.source != ANY_POINT:
                yield ndt("hasSource"), ox.NamedNode(names.point(source))
                yield ndt("hasDestination"), ox.NamedNode(names.point(target))
            yield ndt("stale"), ox.Literal(segment.stale)
            yield ndt("up"), ox.Literal(segment.current is not None)
            if segment.current is not None:
                yield ndt("metric"), ox.Literal(segment.current.metric)
                yield from self._figures(segment.current)
                for token in sorted(segment.current.shared_risks):
                    yield (
                        ndt("inRiskGroup"),
                        ox.NamedNode(names.element(view.domain, "risk", f"{self.grant.agreement}/{token}")),
                    )

        yield from self._quads(names.segment(source, target), pairs())

    def _figures(self, kpis: PathKpis) -> Iterator[Pair]:
        told: Mapping[str, tuple[str, float]] = {
            DELAY: ("delayMs", kpis.delay_ms),
            DELAY_VARIANCE: ("delayVarianceMs2", kpis.delay_variance_ms2),
            LOSS: ("lossRatio", kpis.loss),
            BANDWIDTH: ("bandwidthMbps", kpis.bandwidth_mbps),
        }
        for figure, (name, value) in told.items():
            if figure in self.grant.figures and math.isfinite(value):
                yield ndt(name), double(value)


def view_quads(grant: Grant, view: View) -> list[ox.Quad]:
    """The whole graph of a view."""
    return ViewGraph(grant).update(view)[1]


class ViewSource:
    """All views that are open, for the live graph. A view that is closed takes its graph with it."""

    name = "views"
    interval_s = 0.0

    def __init__(self, held: Callable[[], Mapping[tuple[str, Level], tuple[Grant, View]]]) -> None:
        """`held` gives the views that are open, by agreement and level."""
        self._held = held
        self._taken: dict[str, tuple[Grant, View]] = {}
        self._graphs: dict[str, ViewGraph] = {}

    def take(self, *, whole: bool) -> None:
        """Note the views of now: of each agreement the finest one that is open."""
        held = self._held()
        self._taken = {}
        for finest in _FINEST:
            for (agreement, level), view in held.items():
                if level is finest:
                    self._taken.setdefault(agreement, view)

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write what changed, or all of it. Raises StoreUnwritable."""
        held = [graph.name for graph in self._graphs.values()]
        kept = {names.view_graph(agreement) for agreement in self._taken}
        for name in sink.graphs() if whole else held:
            if name.startswith(_VIEWS) and name not in kept:
                sink.replace(name, ())
        self._graphs = {key: graph for key, graph in self._graphs.items() if key in self._taken}
        for agreement, (grant, view) in self._taken.items():
            graph = self._graphs.get(agreement)
            if whole or graph is None or graph.grant != grant:
                graph = self._graphs[agreement] = ViewGraph(grant)
                _, quads = graph.update(view)
                sink.replace(graph.name, quads)
            else:
                sink.apply(*graph.update(view))
