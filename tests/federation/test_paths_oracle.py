"""Composed answers against the full graph that no broker ever sees."""

import importlib.util
import json
import math
import random
import sys
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.disclosure import Precision
from domain_twin.errors import NoPath
from domain_twin.model import LOSS, Level, PathMode, Requirement
from federation.paths import find

_FILE = Path(__file__).parents[2] / "benchmarks" / "composed_paths.py"
_SPEC = importlib.util.spec_from_file_location("composed_paths_benchmark", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = bench
_SPEC.loader.exec_module(bench)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from([Level.MESH, Level.NATIVE]))
def test_composed_paths_equal_those_of_the_full_graph(seed, level):
    networks, published = bench.federation(8, links_per_pair=2, end_points=3, seed=seed)
    oracle = bench.FullGraph(networks, published)
    graph = bench.composed(bench.views_of(networks, published, level, cap=64).values())
    for source, target, width in bench.requests(published, 10, random.Random(seed)):
        truth = oracle.best(source, target, width)
        ours = bench.least_delay(graph, source, target, width)
        assert (truth is None) == (ours is None)
        if truth is not None:
            assert ours == pytest.approx(truth)
        metric, delays = oracle.current(source, target)
        now = find(graph, source, target, now=0).paths[0].total
        assert now.metric == metric
        assert any(math.isclose(now.delay_ms, delay) for delay in delays)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from([0.01, 0.5]), st.sampled_from([1.0, 500.0]))
def test_rounded_and_coarse_answers_are_never_optimistic(seed, delay_step, width_step):
    networks, published = bench.federation(8, links_per_pair=2, end_points=3, seed=seed)
    oracle = bench.FullGraph(networks, published)
    precision = Precision(delay_step, width_step, 1e-6)
    graphs = [
        bench.composed(bench.views_of(networks, published, level, precision).values()) for level in Level
    ]
    for source, target, width in bench.requests(published, 8, random.Random(seed)):
        truth = oracle.best(source, target, width)
        for graph in graphs:
            told = bench.least_delay(graph, source, target, width)
            assert told is None or (truth is not None and told >= truth * (1 - 1e-12))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from([1e-5, 5e-5, 2e-4]), st.sampled_from([0.0, 3000.0]))
def test_bounds_on_loss_equal_enumeration(seed, loss, width):
    networks, published = bench.federation(4, links_per_pair=1, end_points=2, seed=seed)
    graph = bench.composed(bench.views_of(networks, published, cap=64).values())
    oracle = bench.FullGraph(networks, published).graph
    losses = {
        (item.source_node, item.dest_node): item.kpis[LOSS].value
        for network in networks.values()
        for item in network.links.values()
    }
    ends: dict[str, list] = {}
    for network in networks.values():
        for point in network.termination_points.values():
            ends.setdefault(point.inter_domain.link_id, []).append(point)
    for one, other in ends.values():
        losses[one.node, f"{one.id}>"] = one.kpis[LOSS].value
        losses[other.node, f"{other.id}>"] = other.kpis[LOSS].value

    source, target = "ran/ep-1", "edge/ep-1"
    feasible = []
    for nodes in nx.all_simple_paths(oracle, f"{source}<", f"{target}>"):
        hops = list(pairwise(nodes))
        if min(oracle.edges[hop]["width"] for hop in hops) < width:
            continue
        if 1 - math.prod(1 - losses.get(hop, 0.0) for hop in hops) <= loss:
            feasible.append(sum(oracle.edges[hop]["delay"] for hop in hops))
    try:
        asked = Requirement(loss=loss, bandwidth_mbps=width or None)
        ours = find(graph, source, target, mode=PathMode.BEST, requirement=asked, now=0).paths[0].total
    except NoPath:
        assert not feasible
        return
    assert ours.delay_ms == pytest.approx(min(feasible))
    assert ours.loss <= loss * (1 + 1e-9)


def all_routes(graph, source, target):
    """Every loopless sequence of points, with the least delay over its options."""
    found = []

    def go(point, seen, delay, points):
        leaving = graph.leaving(point)
        for way in (*leaving.borders, *leaving.nodes, *leaving.end_points.values()):
            if not way.segment.options:
                continue
            so_far = delay + way.segment.options[0].delay_ms
            if way.target == target:
                found.append((so_far, (*points, way.target)))
                continue
            crossing = graph.crossings.get(way.target)
            if way in leaving.borders and crossing and crossing.target not in seen:
                more = so_far + crossing.kpis.delay_ms
                go(crossing.target, seen | {crossing.target}, more, (*points, way.target, crossing.target))

    go(source, {source}, 0.0, (source,))
    return sorted(found)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 10**6))
def test_alternatives_equal_enumeration(seed):
    networks, published = bench.federation(4, links_per_pair=2, end_points=2, seed=seed)
    graph = bench.composed(bench.views_of(networks, published, cap=64).values())
    truth = all_routes(graph, "ran/ep-1", "edge/ep-2")

    answer = find(graph, "ran/ep-1", "edge/ep-2", mode=PathMode.BEST, k=12, now=0)

    assert [path.total.delay_ms for path in answer.paths] == pytest.approx([d for d, _ in truth[:12]])
    routes = [(*(hop.source for hop in path.hops), path.hops[-1].target) for path in answer.paths]
    assert len(set(routes)) == len(routes)
    assert set(routes) <= {points for _, points in truth}


def test_the_benchmark_prints_one_json_object_with_aims_and_rival(capsys, monkeypatch):
    monkeypatch.setattr(bench, "speed", lambda size, rounds, rng: _small(bench, rounds, rng))
    monkeypatch.setattr(
        bench, "correctness", lambda _f, count, _s, step, rng: _correctness(1, 5, 10, step, rng)
    )

    bench.main(["--quick"])

    printed = json.loads(capsys.readouterr().out)
    assert printed["figures"]["correctness"]["wrong"] == 0
    assert printed["aims"]["missed"] == 0
    assert "networkx" in printed["rival"]


_speed, _correctness = bench.speed, bench.correctness


def _small(_module, _rounds, rng):
    return _speed(12, 20, rng)
