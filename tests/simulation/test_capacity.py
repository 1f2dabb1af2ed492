"""Rung L0: reachability, load on shortest paths, and the linear program against NetworkX and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from graphs import both_ways, network, networks, random_demand, uniform
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError, NotFound, OverCapacity
from domain_twin.simulation import capacity
from domain_twin.simulation.capacity import assess
from domain_twin.simulation.graph import Demand, Law, SimGraph, TrafficClass, Variant
from domain_twin.simulation.solve import Engine

FULL = 10e6 / 8 / 900.0  # packets/s that fill a link of 10 Mbit/s


def one(graph: SimGraph, source: int, destination: int, rate: float) -> Demand:
    rates = np.zeros((len(graph.classes), len(graph.nodes), len(graph.nodes)))
    rates[0, destination, source] = rate
    return Demand(rates)


def test_two_ways_carry_twice_what_the_shortest_does() -> None:
    graph = network(4, both_ways([(0, 1, 1.0), (1, 3, 1.0), (0, 2, 2.0), (2, 3, 2.0)]))
    found = assess(graph, one(graph, 0, 3, 0.5 * FULL))
    assert found.headroom == pytest.approx(2.0)
    assert found.best_headroom == pytest.approx(4.0)
    assert found.intensity[[0, 2, 4]].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert found.busiest in (0, 2)
    assert not found.unreachable.any()
    even = replace(graph, metric=np.ones(8))
    assert assess(even, one(graph, 0, 3, 0.5 * FULL), ecmp=True).headroom == pytest.approx(4.0)


@settings(deadline=None, max_examples=40)
@given(networks(zero=False))
def test_for_one_pair_routing_at_best_is_the_maximum_flow(graph: SimGraph) -> None:
    graph = replace(graph, transit=np.ones(len(graph.nodes), np.bool_))
    demand = one(graph, 0, 1, 100.0)
    found = assess(graph, demand)
    rival: Any = nx.DiGraph()
    rival.add_nodes_from(range(len(graph.nodes)))
    for e in np.flatnonzero(graph.up):
        ends = int(graph.tail[e]), int(graph.head[e])
        before = rival.get_edge_data(*ends, {"capacity": 0.0})["capacity"]
        rival.add_edge(*ends, capacity=before + graph.capacity_bps[e])
    most = nx.maximum_flow_value(rival, 0, 1) / (100.0 * 900.0 * 8)
    if most == 0.0:
        assert found.unreachable[0, 1, 0]
        assert found.best_headroom == np.inf
    else:
        assert found.best_headroom == pytest.approx(most, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(networks(), st.integers(0, 100), st.booleans())
def test_no_routing_carries_more_than_the_best(graph: SimGraph, seed: int, ecmp: bool) -> None:
    demand = random_demand(graph, seed, 50.0)
    found = assess(graph, demand, ecmp=ecmp)
    assume(np.isfinite(found.headroom))
    assert found.best_headroom is not None
    assert found.best_headroom >= found.headroom * (1 - 1e-6)


@settings(deadline=None, max_examples=30)
@given(networks(zero=False), st.integers(0, 100), st.data())
def test_light_load_is_what_the_engine_says(graph: SimGraph, seed: int, data: Any) -> None:
    demand = random_demand(graph, seed, 0.1)
    variant = Variant(
        down=frozenset(data.draw(st.lists(st.integers(0, len(graph.edges) - 1), max_size=2))),
        values={"capacity_bps": {0: 3e6}},
        demand_scale=2.0,
    )
    found, solution = assess(graph, demand, variant, best=False), Engine(graph, demand).solve(variant)
    np.testing.assert_allclose(found.intensity, solution.intensity, rtol=1e-6)
    np.testing.assert_array_equal(found.unreachable[0], (demand.rate[0] > 0) & np.isnan(solution.arrival[0]))
    assert found.best_headroom is None


def test_a_station_counts_packets_and_a_fixed_delay_nothing() -> None:
    kinds = (TrafficClass("small", (100.0,)), TrafficClass("large", (1400.0,)))
    graph = network(3, [(0, 1, 1.0), (1, 2, 0.0)], classes=kinds)
    graph = replace(
        graph,
        law=np.array([Law.FIXED, Law.STATION], np.int8),
        servers=np.array([1, 4], np.int32),
        service_s=np.array([0.0, 1e-3]),
    )
    rate = np.zeros((2, 3, 3))
    rate[:, 2, 0] = 500.0
    found = assess(graph, Demand(rate))
    assert found.intensity.tolist() == pytest.approx([0.0, 0.25])
    assert found.best_headroom == pytest.approx(4.0)


def test_a_node_without_transit_carries_nothing_for_others() -> None:
    graph = network(4, both_ways([(0, 1, 1.0), (1, 3, 1.0), (0, 2, 1.0), (2, 3, 1.0)]))
    graph = replace(graph, transit=np.array([True, False, True, True]))
    assert assess(graph, one(graph, 0, 3, FULL)).best_headroom == pytest.approx(1.0)
    assert assess(graph, one(graph, 0, 1, FULL)).best_headroom == pytest.approx(2.0)


def test_without_demand_or_limits_there_is_no_bound() -> None:
    graph = network(3, both_ways([(0, 1, 1.0), (1, 2, 1.0)]))
    found = assess(graph, uniform(graph, 0.0))
    assert found.headroom == found.best_headroom == np.inf
    free = replace(graph, law=np.full(4, Law.FIXED, np.int8))
    assert assess(free, uniform(graph, 1.0)).best_headroom == np.inf


def test_pairs_without_a_way_are_left_out_of_the_program_and_said() -> None:
    graph = network(4, both_ways([(0, 1, 1.0), (2, 3, 1.0)]))
    found = assess(graph, uniform(graph, 0.5 * FULL))
    assert found.unreachable.sum() == 8
    assert found.best_headroom == pytest.approx(2.0)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(3, both_ways([(0, 1, 1.0), (1, 2, 1.0)]))
    demand = uniform(graph, 1.0)
    with pytest.raises(NotFound, match="edge 9"):
        assess(graph, demand, Variant(down=frozenset({9})))
    with pytest.raises(ConfigError, match="capacity_bps"):
        assess(replace(graph, capacity_bps=np.zeros(4)), demand)
    with pytest.raises(ConfigError, match="packets/s"):
        assess(graph, Demand(demand.rate * -1.0))
    monkeypatch.setattr(capacity, "MOST_VARIABLES", 11)
    with pytest.raises(OverCapacity, match="12 variables"):
        assess(graph, demand)
    assert assess(graph, demand, best=False).best_headroom is None
