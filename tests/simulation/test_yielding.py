"""Elastic flows in a network: they take what the others leave, in fair parts, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import network
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import Arrivals, Demand, TrafficClass, Variant
from domain_twin.simulation.solve import Engine

CLASSES = (TrafficClass("firm"), TrafficClass("elastic", arrivals=Arrivals.ELASTIC))
PER_S = 10e6 / 8 / 1000.0  # packets/s that fill a link of 10 Mbit/s


def test_elastic_flows_share_what_the_others_leave() -> None:
    # 0 -> 1 -> 2: one long flow, one short flow on each link (Bertsekas & Gallager 6.5); 0 -> 1 is half full.
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=CLASSES)
    rate = np.zeros((2, 3, 3))
    rate[0, 1, 0] = 0.5 * PER_S
    rate[1, 2, 0] = rate[1, 1, 0] = rate[1, 2, 1] = 1e6
    solution = Engine(graph, Demand(rate), elastic_fill=0.9).solve()
    sent = solution.edges.offered[1] / PER_S
    assert sent[2, 0] == pytest.approx(0.2, rel=1e-3)
    assert sent[1, 0] == pytest.approx(0.2, rel=1e-3)
    assert sent[2, 1] == pytest.approx(0.7, rel=1e-3)
    assert solution.intensity.tolist() == pytest.approx([0.9, 0.9], rel=1e-3)
    assert solution.edges.offered[0, 1, 0] == rate[0, 1, 0]


def test_an_elastic_flow_never_sends_more_than_it_wants_and_none_where_nothing_is_left() -> None:
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=CLASSES)
    rate = np.zeros((2, 3, 3))
    rate[1, 2, 1] = 0.1 * PER_S
    rate[0, 1, 0], rate[1, 1, 0] = 2.0 * PER_S, PER_S
    solution = Engine(graph, Demand(rate)).solve()
    assert solution.throughput_pps[1, 2, 1] == pytest.approx(0.1 * PER_S, rel=1e-6)
    assert solution.throughput_pps[1, 1, 0] == 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.booleans())
@example(68, False)  # the others lose packets on an edge that is nearly full
def test_elastic_traffic_takes_no_more_of_an_edge_than_the_others_leave(seed: int, ecmp: bool) -> None:
    rng = np.random.default_rng(seed)
    ends = [(int(a), int(b), 1.0) for a, b in rng.integers(0, 6, (24, 2)) if a != b]
    graph = network(6, ends, classes=CLASSES)
    rate = rng.uniform(0.0, 0.2 * PER_S, (2, 6, 6)) * (rng.random((2, 6, 6)) < 0.5)
    rate[1] *= 20.0
    rate[:, range(6), range(6)] = 0.0
    engine = Engine(graph, Demand(rate), ecmp=ecmp)
    left = np.maximum(0.95 - engine.solve(Variant(class_scale={1: 0.0})).intensity, 0.0)
    both = engine.solve()
    # The others' own load may rise by a hair: what they lose frees an edge behind.
    assert (both.edges.load[:, 1] / PER_S <= left + 1e-6).all()
    assert (both.edges.offered <= rate * (1 + 1e-9)).all()
    np.testing.assert_array_equal(both.edges.offered[0], rate[0])


@pytest.mark.parametrize("fill", [0.0, 1.5, float("nan")])
def test_a_fill_that_is_no_share_is_refused(fill: float) -> None:
    graph = network(2, [(0, 1, 1.0)])
    with pytest.raises(ConfigError, match="elastic_fill"):
        Engine(graph, Demand(np.zeros((1, 2, 2))), elastic_fill=fill)


def test_flows_without_a_way_do_not_keep_others_from_theirs() -> None:
    graph = network(3, [(0, 1, 1.0)], classes=CLASSES)
    graph = replace(graph, up=np.array([True]))
    rate = np.zeros((2, 3, 3))
    rate[1, 2, 0] = rate[1, 1, 0] = 50.0
    solution = Engine(graph, Demand(rate)).solve()
    assert solution.throughput_pps[1, 1, 0] == pytest.approx(50.0, rel=1e-6)
    assert np.isnan(solution.throughput_pps[1, 2, 0])
