"""The graph of a domain's points: segments rest on what devices forward by; it follows the network."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import pyoxigraph as ox
import small_domains as small
from hypothesis import given, settings

from domain_twin.disclosure.abstraction import abstract
from domain_twin.disclosure.points_graph import PointsGraph, points_quads
from domain_twin.model import Level, Network
from domain_twin.semantic.impact import dependents, find
from domain_twin.semantic.names import NDT, plain_name, points_graph
from domain_twin.semantic.topology import network_quads


def of_segments(quads: list[ox.Quad], relation: str) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for quad in quads:
        name = plain_name(quad.subject.value)
        if ">" in name:
            found.setdefault(name, set())
            if quad.predicate.value == NDT + relation:
                found[name].add(plain_name(quad.object.value))
    return found


def cheapest(network: Network, source: str, target: str, allowed: set[str]) -> int | None:
    """Dijkstra over the links that are up, or over `allowed` ones."""
    best, heap = {source: 0}, [(0, source)]
    while heap:
        cost, node = heapq.heappop(heap)
        if node == target:
            return cost
        for link in network.links.values():
            if link.up and link.source_node == node and link.id in allowed:
                new = cost + link.metric
                if new < best.get(link.dest_node, 1 << 30):
                    best[link.dest_node] = new
                    heapq.heappush(heap, (new, link.dest_node))
    return None


@settings(max_examples=60)
@given(small.networks())
def test_segments_rest_on_the_links_of_the_cheapest_way(network: Network) -> None:
    published = small.published_of(network)
    quads = list(points_quads(network, published))
    view = abstract(
        network, level=Level.MESH, published=published, agreement="", precision=None, risk_salt=b""
    )
    links, functions = of_segments(quads, "usesLink"), of_segments(quads, "servedBy")
    nodes = {point.id: point.id for point in view.points.values()}
    of_point = {
        plain_name(quad.subject.value): plain_name(quad.object.value)
        for quad in quads
        if quad.predicate.value == NDT + "supportedBy"
    }
    assert links.keys() == {f"{source}>{target}" for source, target in view.segments}
    assert of_point.keys() == nodes.keys()
    where = {
        item.id: item.node
        for kind in (network.cells, network.functions, network.hosts, network.termination_points)
        for item in kind.values()
    }
    blocked = {f.node for f in network.functions.values() if f.type == "UPF" and not f.up}
    for (source, target), segment in view.segments.items():
        used = links[f"{source}>{target}"]
        assert segment.current is not None
        ends = where[of_point[source]], where[of_point[target]]
        assert len(used) == len({network.links[name].dest_node for name in used})  # crosses nothing twice
        assert cheapest(network, *ends, allowed=used) == segment.current.metric
        free = {
            link.id
            for link in network.links.values()
            if not ({link.source_node, link.dest_node} - set(ends)) & blocked
        }
        assert cheapest(network, *ends, allowed=free) == segment.current.metric
        for name in functions[f"{source}>{target}"]:
            assert network.functions[name].type == "UPF" or name == of_point[target]


@settings(max_examples=30)
@given(small.networks(), small.networks())
def test_changes_make_of_the_old_graph_the_new_one(before: Network, after: Network) -> None:
    published = small.published_of(before)
    graph = PointsGraph(published)
    held = set(graph.update(before)[1])

    gone, new = graph.update(after)

    assert set(gone) <= held
    assert held - set(gone) | set(new) == set(points_quads(after, published))
    assert graph.update(after) == ([], [])


def test_figures_alone_change_nothing() -> None:
    network = small.network(
        small.both_ways("a", "b"), borders=[small.border("b", "urn:ndt:idl:b001", "core")]
    )
    graph = PointsGraph({})
    graph.update(network)

    assert graph.update(small.with_link(network, small.link_id("a", "b"), kpis=small.kpis(9.0))) == ([], [])


def test_from_a_link_a_node_and_a_function_to_the_segments_that_fail_with_it() -> None:
    network = small.network(
        [*small.both_ways("a", "b"), *small.both_ways("b", "c"), *small.both_ways("a", "c", metric=5)],
        borders=[small.border("c", "urn:ndt:idl:b001", "core")],
        cells=[small.cell("a")],
        functions=[small.function("b", "UPF")],
    )
    published = {"cell-1": next(iter(network.cells))}
    store = ox.Store()
    store.extend([*network_quads(network), *points_quads(network, published)])

    def ask(text: str) -> object:
        return store.query(text, use_default_graph_as_union=True)

    def affected(name: str) -> set[tuple[str, str]]:
        return {(each.kind, each.id) for each in dependents(ask, [find(ask, name, domain="transport")])}

    out, back = "transport/cell-1>transport/idl-b001", "transport/idl-b001>transport/cell-1"
    assert affected(small.link_id("a", "b")) == {("segment", out)}
    assert affected(f"transport/{small.link_id('b', 'a')}") == {("segment", back)}
    assert affected(small.link_id("a", "c")) == set()
    assert {("segment", out), ("segment", back)} <= affected(small.node_id("b"))
    assert affected(next(iter(network.functions))) == {("segment", out), ("segment", back)}
    assert {("point", "transport/cell-1"), ("segment", out)} <= affected(next(iter(network.cells)))
    assert ("inter-domain-link", "urn:ndt:idl:b001") in affected("transport/idl-b001")
    assert {quad.graph_name.value for quad in points_quads(network, published)} == {points_graph("transport")}
