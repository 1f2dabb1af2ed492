"""Flows with given paths: conservation, agreement with the engine and with the laws, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import PLAIN, both_ways, network, random_demand
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import Flows, solve_flows
from domain_twin.simulation.graph import SimGraph
from domain_twin.simulation.laws.edges import compile_laws, evaluate_all
from domain_twin.simulation.solve import Engine

CHAIN = network(4, [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)], capacity_bps=1e6)
RING = network(6, both_ways([(i, (i + 1) % 6, 1.0) for i in range(6)] + [(0, 3, 1.5)]), capacity_bps=1e6)


def flows_of_engine(graph: SimGraph, seed: int, rate: float) -> tuple[Engine, Flows]:
    """All pairs with demand, on the engine's own paths."""
    engine = Engine(graph, random_demand(graph, seed, rate))
    solution = engine.solve()
    pairs = [(s, d) for s in range(6) for d in range(6) if engine.demand.rate[0, d, s] > 0]
    return engine, Flows.of(
        pairs, [solution.path(*pair) for pair in pairs], [engine.demand.rate[0, d, s] for s, d in pairs]
    )


def test_one_link_does_what_its_law_says() -> None:
    flows = Flows.of([(0, 1)], [[0]], [90.0])

    found = solve_flows(CHAIN, flows)

    rate = np.array([[90.0], [0.0], [0.0]])
    laws = compile_laws(CHAIN)
    delay, variance, loss = evaluate_all(laws, rate, rate**2)
    own = PLAIN[0].size_scv * laws.service_s[0, 0] ** 2
    assert found.delay_s[0] == pytest.approx(delay[0, 0], rel=1e-12)
    assert found.variance_s2[0] == pytest.approx(variance[0, 0] + own, rel=1e-12)
    assert found.loss[0] == pytest.approx(loss[0, 0], abs=1e-12)
    assert found.wait_s[0, 0] == pytest.approx(delay[0, 0] - laws.service_s[0, 0] - 1e-3)


def test_a_packet_keeps_its_size_along_the_path() -> None:
    # Almost no load: all that varies is the size, on three links at once.
    found = solve_flows(CHAIN, Flows.of([(0, 3)], [[0, 1, 2]], [1e-6]))

    service = PLAIN[0].mean_octets * 8 / 1e6
    assert found.variance_s2[0] == pytest.approx(PLAIN[0].size_scv * (3 * service) ** 2, rel=1e-4)


@pytest.mark.parametrize("rate", [2.0, 20.0, 60.0])
def test_the_engine_says_the_same_of_its_own_paths(rate: float) -> None:
    engine, flows = flows_of_engine(RING, 3, rate)
    solution = engine.solve()

    found = solve_flows(RING, flows)

    at = (0, flows.target, flows.source)
    assert found.converged
    assert solution.converged
    np.testing.assert_allclose(found.delay_s, solution.delay_s[at], rtol=1e-6)
    np.testing.assert_allclose(found.variance_s2, solution.variance_s2[at], rtol=1e-6)
    np.testing.assert_allclose(found.loss, solution.loss[at], atol=1e-7)
    np.testing.assert_allclose(found.throughput_pps, solution.throughput_pps[at], rtol=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(1.0, 120.0))
def test_packets_are_delivered_or_lost_on_a_link(seed: int, rate: float) -> None:
    _, flows = flows_of_engine(RING, seed, rate)

    found = solve_flows(RING, flows)

    lost = (found.load_pps * found.edge_loss).sum()
    assert found.throughput_pps.sum() + lost == pytest.approx(flows.rate_pps.sum(), rel=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(1.0, 25.0), st.floats(1.01, 1.5))
def test_more_load_never_means_less_delay_below_capacity(seed: int, rate: float, factor: float) -> None:
    _, flows = flows_of_engine(RING, seed, rate)

    base = solve_flows(RING, flows)
    more = solve_flows(RING, replace(flows, rate_pps=flows.rate_pps * factor))

    if more.utilisation.max() < 0.95:  # beyond it, losses upstream relieve what follows
        assert (more.delay_s >= base.delay_s - 1e-12).all()
        assert (more.variance_s2 >= base.variance_s2 * (1 - 1e-6)).all()
        assert (more.loss >= base.loss - 1e-9).all()


@settings(max_examples=15)
@given(st.permutations(range(14)), st.integers(0, 100))
def test_the_names_of_edges_and_the_order_of_flows_do_not_matter(order: list[int], seed: int) -> None:
    _, flows = flows_of_engine(RING, seed, 30.0)
    place = np.argsort(order)
    shuffled = replace(
        RING,
        **{
            name: getattr(RING, name)[order]
            for name in ("tail", "head", "law", "scheduler", "up", "metric", "capacity_bps", "fixed_s",
                         "buffer", "servers", "service_s", "service_scv", "loss")
        },
    )  # fmt: skip
    backwards = range(flows.count)[::-1]
    renamed = Flows.of(
        [(int(flows.source[f]), int(flows.target[f])) for f in backwards],
        [place[flows.edges[flows.offsets[f] : flows.offsets[f + 1]]].tolist() for f in backwards],
        [float(flows.rate_pps[f]) for f in backwards],
    )

    one, other = solve_flows(RING, flows), solve_flows(shuffled, renamed)

    np.testing.assert_allclose(one.delay_s, other.delay_s[::-1], rtol=1e-9)
    np.testing.assert_allclose(one.loss, other.loss[::-1], atol=1e-9)


def test_overload_far_beyond_capacity_loses_what_does_not_fit() -> None:
    flows = Flows.of([(0, 3), (1, 3)], [[0, 1, 2], [1, 2]], [5000.0, 5000.0])

    found = solve_flows(CHAIN, flows)

    assert found.converged
    capacity_pps = 1e6 / 8 / PLAIN[0].mean_octets
    # The last link sees a full stream as if it were Poisson, and loses a little of it again.
    assert 0.97 * capacity_pps < found.throughput_pps.sum() <= capacity_pps
    assert np.isfinite(found.delay_s).all()
    assert found.utilisation[0] > 30


def test_a_flow_that_never_arrives_has_no_delay() -> None:
    graph = replace(CHAIN, loss=np.array([0.0, 1.0, 0.0]))

    found = solve_flows(graph, Flows.of([(0, 3), (0, 1)], [[0, 1, 2], [0]], [10.0, 10.0]))

    assert np.isnan(found.delay_s[0])
    assert np.isnan(found.variance_s2[0])
    assert found.loss[0] == 1.0
    assert found.throughput_pps[0] == 0.0
    assert np.isfinite(found.delay_s[1])


def test_losses_that_did_not_settle_are_marked() -> None:
    flows = Flows.of([(0, 3), (1, 3)], [[0, 1, 2], [1, 2]], [400.0, 400.0])

    assert not solve_flows(CHAIN, flows, max_iterations=2).converged
    assert solve_flows(CHAIN, flows).converged


def test_the_growth_of_the_wait_is_its_derivative() -> None:
    _, flows = flows_of_engine(RING, 1, 20.0)
    base = solve_flows(RING, flows)
    more = solve_flows(RING, replace(flows, rate_pps=flows.rate_pps * 1.001))

    carries = base.load_pps > 1.0
    growth = (more.wait_s / np.maximum(base.wait_s, 1e-300) - 1.0)[carries] / 0.001
    np.testing.assert_allclose(base.wait_growth[carries], growth, rtol=0.02)


def test_no_flows_at_all_are_an_empty_answer() -> None:
    found = solve_flows(CHAIN, Flows.of([], [], []))

    assert found.converged
    assert len(found.delay_s) == 0
    assert (found.utilisation == 0).all()


def bad(**fields: object) -> Flows:
    good = Flows.of([(0, 2), (1, 3)], [[0, 1], [1, 2]], [10.0, 10.0])
    return replace(good, **{name: np.array(value) for name, value in fields.items()})


@pytest.mark.parametrize(
    ("flows", "says"),
    [
        (bad(rate_pps=[10.0, np.nan]), "flow 1: its rate must be finite"),
        (bad(rate_pps=[-1.0, 10.0]), "flow 0: its rate must be finite and not negative"),
        (bad(rate_pps=[10.0]), "different lengths"),
        (bad(source=[0, 9]), "flow 1: its source is not one of 4 nodes"),
        (bad(target=[-1, 3]), "flow 0: its target is not one of 4 nodes"),
        (bad(traffic_class=[0, 1]), "flow 1: its class is not one of 1"),
        (bad(edges=[0, 1, 1, 7]), "flow 1: an edge is not one of 3"),
        (bad(edges=[0, 2, 1, 2]), "flow 0: two edges of its path do not meet"),
        (bad(source=[1, 1]), "flow 0: its path begins elsewhere"),
        (bad(target=[2, 2]), "flow 1: its path ends elsewhere"),
        (bad(offsets=[0, 4, 4]), "flow 1: its path is empty"),
        (bad(offsets=[0, 2, 3]), "offsets do not cover"),
        (bad(offsets=[0, 5, 4]), "offsets do not cover"),
    ],
)
def test_flows_that_do_not_fit_the_graph_are_refused(flows: Flows, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        solve_flows(CHAIN, flows)


def test_a_path_over_an_edge_that_is_down_is_refused() -> None:
    graph = replace(CHAIN, up=np.array([True, False, True]))

    with pytest.raises(ConfigError, match="flow 0: an edge of its path is down"):
        solve_flows(graph, Flows.of([(0, 2)], [[0, 1]], [1.0]))


def test_both_directions_of_a_link_are_alike() -> None:
    found = solve_flows(RING, Flows.of([(0, 1), (1, 0)], [[0], [1]], [50.0, 50.0]))

    assert found.delay_s[0] == pytest.approx(found.delay_s[1], rel=1e-12)
