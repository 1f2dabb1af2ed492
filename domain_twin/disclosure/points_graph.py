"""What a domain's points and segments rest on inside, as triples of the owner's own graph; no I/O.

This is where the chain of dependency comes out of a domain: from links, nodes and functions to the points and
segments that peers know. It never becomes part of a view: `view_graph` makes those, from views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyoxigraph as ox

from domain_twin.disclosure.figures import Figures
from domain_twin.disclosure.plan import Entry, Ground, Risks, mesh_entries, topology_differs, usable
from domain_twin.disclosure.terminals import Terminal, terminals
from domain_twin.model import Network
from domain_twin.semantic.live import Sink
from domain_twin.semantic.names import (
    NDT,
    domain_node,
    element,
    inter_domain_link,
    point,
    points_graph,
    segment,
)

__all__ = ["PointsGraph", "PointsSource", "points_quads"]

_TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_Pair = tuple[ox.NamedNode, ox.NamedNode | ox.Literal]


class PointsGraph:
    """What changes in the graph of points and segments when the network does."""

    def __init__(self, published: Mapping[str, str]) -> None:
        """`published` maps aliases to element ids, of all agreements."""
        self._published = published
        self._network: Network | None = None
        self._quads: dict[ox.Quad, None] = {}

    def update(self, network: Network) -> tuple[list[ox.Quad], list[ox.Quad]]:
        """What to take out of the graph, and what to put in, since the last call."""
        before, self._network = self._network, network
        if before is not None and not topology_differs(before, network):
            return [], []
        old, self._quads = self._quads, dict.fromkeys(points_quads(network, self._published))
        return [quad for quad in old if quad not in self._quads], [
            quad for quad in self._quads if quad not in old
        ]


class PointsSource:
    """Keeps that graph in the live one."""

    name = "points"
    interval_s = 0.0

    def __init__(self, network: Callable[[], Network], published: Mapping[str, str]) -> None:
        self._network = network
        self._published = published
        self._taken: Network | None = None
        self._graph: PointsGraph | None = None

    def take(self, *, whole: bool) -> None:
        """Note the network of now."""
        self._taken = self._network()

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write what changed, or the whole graph. Raises StoreUnwritable."""
        assert self._taken is not None
        if whole or self._graph is None:
            self._graph = PointsGraph(self._published)
            _, quads = self._graph.update(self._taken)
            sink.replace(points_graph(self._taken.domain), quads)
        else:
            sink.apply(*self._graph.update(self._taken))


def points_quads(network: Network, published: Mapping[str, str]) -> Iterator[ox.Quad]:
    """The whole graph: points, and what devices forward between them now."""
    figures = Figures(network)
    found, _ = terminals(network, published)
    ground = Ground(network, figures, usable(network, figures), found, Risks(b""))
    graph = ox.NamedNode(points_graph(network.domain))
    for terminal in found:
        subject = ox.NamedNode(point(terminal.id))
        for predicate, value in _point(network, terminal, published):
            yield ox.Quad(subject, predicate, value, graph)
        if terminal.border is not None and terminal.border.inter_domain is not None:
            link = ox.NamedNode(inter_domain_link(terminal.border.inter_domain.link_id))
            yield ox.Quad(link, _ndt("endsAt"), subject, graph)
    rows = {row: identity for identity, row in figures.index.items()}
    for entry in mesh_entries(ground, {}):
        subject = ox.NamedNode(segment(*entry.key))
        for predicate, value in _segment(network, entry, rows):
            yield ox.Quad(subject, predicate, value, graph)


def _point(network: Network, terminal: Terminal, published: Mapping[str, str]) -> Iterator[_Pair]:
    yield _ndt("alias"), ox.Literal(terminal.id)
    yield _ndt("inDomain"), ox.NamedNode(domain_node(network.domain))
    yield _ndt("up"), ox.Literal(terminal.up)
    if terminal.border is not None:
        yield _TYPE, _ndt("BorderPoint")
        assert terminal.border.inter_domain is not None
        end = terminal.border.inter_domain
        yield _ndt("linkId"), ox.Literal(end.link_id)
        if end.peer_domain:
            yield _ndt("peerDomain"), ox.NamedNode(domain_node(end.peer_domain))
        yield _ndt("supportedBy"), _element(network, terminal.border.id)
        return
    yield _TYPE, _ndt("EndPoint")
    yield _ndt("role"), ox.Literal(terminal.role)
    yield _ndt("supportedBy"), _element(network, published[terminal.id.partition("/")[2]])


def _segment(network: Network, entry: Entry, rows: Mapping[int, str]) -> Iterator[_Pair]:
    current = entry.candidates[0]
    yield _TYPE, _ndt("Segment")
    yield _ndt("inDomain"), ox.NamedNode(domain_node(network.domain))
    yield _ndt("hasSource"), ox.NamedNode(point(entry.key[0]))
    yield _ndt("hasDestination"), ox.NamedNode(point(entry.key[1]))
    yield _ndt("metric"), ox.Literal(current.metric)
    for row in current.rows:
        identity = rows.get(row, "")  # the first of each path is a row that stands for nothing
        if identity in network.links:
            yield _ndt("usesLink"), _element(network, identity)
        elif identity in network.functions:  # packets cross the user plane functions on the way
            yield _ndt("servedBy"), _element(network, identity)


def _element(network: Network, identity: str) -> ox.NamedNode:
    for kind, place in (
        ("link", network.links),
        ("cell", network.cells),
        ("network-function", network.functions),
        ("host", network.hosts),
    ):
        if identity in place:
            return ox.NamedNode(element(network.domain, kind, identity))
    return ox.NamedNode(element(network.domain, "termination-point", identity))


def _ndt(name: str) -> ox.NamedNode:
    return ox.NamedNode(NDT + name)
