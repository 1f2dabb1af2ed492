"""Shortest-path DAGs: the kernels against the oracle and NetworkX, mended against made anew."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from graphs import both_ways, network, networks
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.simulation import oracle, routing
from domain_twin.simulation.graph import SimGraph
from domain_twin.simulation.routing import Topology, Trees


def hops(topo: Topology, trees: Trees, d: int, *, ecmp: bool) -> dict[int, tuple[list[int], int]]:
    """By node: the edges it forwards over towards d, and the ways it is said to have."""
    found: dict[int, tuple[list[int], int]] = {}
    for j in range(trees.count[d]):
        edge = int(trees.edge[d, j])
        onward = found.setdefault(int(topo.tail[edge]), ([], int(trees.ways[d, j]) if ecmp else 1))[0]
        onward.append(edge)
    return found


def check_order(topo: Topology, trees: Trees, d: int) -> None:
    """Heads are the destination or complete before; edges of one tail are side by side."""
    seen: set[int] = {d}
    tails = [int(topo.tail[e]) for e in trees.edge[d, : trees.count[d]]]
    for j, edge in enumerate(trees.edge[d, : trees.count[d]]):
        assert int(topo.head[edge]) in seen
        if j + 1 == len(tails) or tails[j + 1] != tails[j]:
            assert tails[j] not in seen
            seen.add(tails[j])


def same(topo: Topology, one: Trees, other: Trees, *, ecmp: bool) -> None:
    for d in range(len(topo.transit)):
        assert hops(topo, one, d, ecmp=ecmp) == hops(topo, other, d, ecmp=ecmp)
        check_order(topo, one, d)


@settings(deadline=None, max_examples=150)
@given(networks(), st.booleans())
def test_kernels_route_as_the_oracle_does(graph: SimGraph, ecmp: bool) -> None:
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=ecmp)
    expected = oracle.all_trees(topo, graph.metric, graph.up, ecmp=ecmp)
    same(topo, trees, expected, ecmp=ecmp)
    np.testing.assert_array_equal(trees.distance, expected.distance)
    np.testing.assert_array_equal(trees.steps, expected.steps)


@settings(deadline=None, max_examples=100)
@given(networks(zero=False))
def test_distances_are_those_of_networkx(graph: SimGraph) -> None:
    graph = replace(graph, transit=np.ones(len(graph.nodes), np.bool_))
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=False)
    rival: Any = nx.MultiDiGraph()
    rival.add_nodes_from(range(len(graph.nodes)))
    for e in np.flatnonzero(graph.up):
        rival.add_edge(int(graph.tail[e]), int(graph.head[e]), weight=graph.metric[e])
    for source, lengths in nx.all_pairs_dijkstra_path_length(rival):
        for d in range(len(graph.nodes)):
            assert trees.distance[d, source] == lengths.get(d, np.inf)


@settings(deadline=None, max_examples=300)
@given(networks(), st.booleans(), st.data())
def test_mended_dags_are_those_made_anew(graph: SimGraph, ecmp: bool, data: Any) -> None:
    topo = routing.topology(graph)
    base = routing.all_trees(topo, graph.metric, graph.up, ecmp=ecmp)
    edges = st.lists(st.integers(0, len(graph.edges) - 1), max_size=5, unique=True)
    metric, up = graph.metric.copy(), graph.up.copy()
    for edge in data.draw(edges):
        metric[edge] = data.draw(st.integers(0, 4))
    for edge in data.draw(edges):
        up[edge] = not up[edge]
    old = (graph.metric, graph.up)
    mended = routing.changed_trees(topo, base, old, (metric, up), ecmp=ecmp)
    same(topo, mended, routing.all_trees(topo, metric, up, ecmp=ecmp), ecmp=ecmp)


@settings(deadline=None, max_examples=60)
@given(networks(zero=False), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_nodes_and_edges_does_not_matter(graph: SimGraph, random: Any, ecmp: bool) -> None:
    nodes, edges = list(range(len(graph.nodes))), list(range(len(graph.edges)))
    random.shuffle(nodes)
    random.shuffle(edges)
    place = np.argsort(nodes)  # old node -> new index
    shuffled = replace(
        graph,
        edges=tuple(graph.edges[e] for e in edges),
        tail=place[graph.tail[edges]].astype(np.int32),
        head=place[graph.head[edges]].astype(np.int32),
        metric=graph.metric[edges],
        up=graph.up[edges],
        transit=graph.transit[nodes],
    )
    one, other = routing.topology(graph), routing.topology(shuffled)
    here = routing.all_trees(one, graph.metric, graph.up, ecmp=ecmp)
    there = routing.all_trees(other, shuffled.metric, shuffled.up, ecmp=ecmp)
    for d in range(len(nodes)):
        expected = {
            int(place[t]): {graph.edges[e] for e in onward}
            for t, (onward, _) in hops(one, here, d, ecmp=ecmp).items()
        }
        found = {
            t: {shuffled.edges[e] for e in onward}
            for t, (onward, _) in hops(other, there, int(place[d]), ecmp=ecmp).items()
        }
        assert found == expected


def test_among_equal_ways_the_edge_whose_id_is_first_is_taken() -> None:
    graph = network(4, both_ways([(0, 1, 1.0), (1, 3, 1.0), (0, 2, 1.0), (2, 3, 1.0), (0, 1, 1.0)]))
    graph = replace(graph, edges=("z", "a", "b", "c", "m", "e", "f", "g", "n", "i"))
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=False)
    assert [graph.edges[e] for e in routing.path(topo, trees, 0, 3, ecmp=False)] == ["m", "f"]
    assert [graph.edges[e] for e in routing.path(topo, trees, 0, 1, ecmp=False)] == ["n"]


def test_the_heaviest_of_equal_cost_ways_is_the_path() -> None:
    # 0 has three next hops; two of them meet again at 3: two thirds go through 3.
    graph = network(6, [(0, 1, 1), (0, 2, 1), (0, 4, 2), (1, 3, 1), (2, 3, 1), (3, 5, 1), (4, 5, 1)])
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=True)
    assert routing.path(topo, trees, 0, 5, ecmp=True) in ((0, 3, 5), (1, 4, 5), (2, 6))
    assert hops(topo, trees, 5, ecmp=True)[0] == ([0, 1, 2], 3)
    assert routing.path(topo, trees, 5, 0, ecmp=True) == ()
    assert routing.path(topo, trees, 5, 5, ecmp=True) == ()


def test_a_node_without_transit_ends_paths_and_is_not_crossed() -> None:
    graph = network(3, both_ways([(0, 1, 1.0), (1, 2, 1.0)]))
    graph = replace(graph, transit=np.array([True, False, True]))
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=False)
    assert trees.distance[2, 0] == np.inf
    assert trees.distance[1, 0] == trees.distance[2, 1] == 1.0


@pytest.mark.parametrize("ecmp", [False, True])
def test_edges_of_metric_zero_make_no_cycle(ecmp: bool) -> None:
    # A cell and a function behind a node: both directions cost nothing.
    graph = network(4, both_ways([(0, 1, 0.0), (1, 2, 5.0), (2, 3, 0.0), (0, 3, 0.0)][:3]))
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=ecmp)
    assert routing.path(topo, trees, 0, 3, ecmp=ecmp) == (0, 2, 4)
    assert trees.steps[3, 2] == 1
    for d in range(4):
        check_order(topo, trees, d)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9).map(lambda n: n / 10.0), min_size=4, max_size=4))
def test_fractional_metrics_tie_as_their_sums_do(metrics: list[float]) -> None:
    first, second, third, fourth = metrics
    links = [(0, 1, first), (1, 2, second), (0, 3, second), (3, 2, first), (2, 4, third), (4, 5, fourth)]
    graph = network(6, [(a, b, float(m)) for a, b, m in links])
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, graph.metric, graph.up, ecmp=True)
    assert hops(topo, trees, 5, ecmp=True)[0] == ([0, 2], 2)


FAR_APART = st.sampled_from([0.0, 0.0, 1e-9, 1.0, 1e9, 1e16, 1e20])


@settings(deadline=None, max_examples=150)
@given(networks(), st.booleans(), st.data())
def test_metrics_far_apart_are_routed_as_the_oracle_does(graph: SimGraph, ecmp: bool, data: Any) -> None:
    topo = routing.topology(graph)
    count = len(graph.edges)
    old, new = (np.array(data.draw(st.lists(FAR_APART, min_size=count, max_size=count))) for _ in range(2))
    base = routing.all_trees(topo, old, graph.up, ecmp=ecmp)
    mended = routing.changed_trees(topo, base, (old, graph.up), (new, graph.up), ecmp=ecmp)
    for trees, metric in ((base, old), (mended, new)):
        expected = oracle.all_trees(topo, metric, graph.up, ecmp=ecmp)
        same(topo, trees, expected, ecmp=ecmp)
        np.testing.assert_array_equal(trees.distance, expected.distance)
        np.testing.assert_array_equal(trees.steps, expected.steps)


def test_kernels_stay_inside_their_arrays() -> None:
    """Without the compiler: compiled code does not look whether an index is in its array."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("routing_bounds.py")],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["many-offers", "far-apart"]
