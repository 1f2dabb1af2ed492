"""The engine: kernels against the oracle, and what any queueing network has to obey."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphs import PLAIN, STEADY, both_ways, lawful, network, networks, random_demand, uniform
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError, NotFound, OverCapacity
from domain_twin.simulation.graph import (
    BASE,
    Arrivals,
    Demand,
    Law,
    Rung,
    SimGraph,
    TrafficClass,
    Variant,
)
from domain_twin.simulation.laws import edges as edge_laws
from domain_twin.simulation.solve import Engine, Solution

FIGURES = ("delay_s", "variance_s2", "arrival", "fixed_s", "size_s")


def same(one: Solution, other: Solution, tolerance: float = 1e-6) -> None:
    assert one.converged
    assert other.converged
    for name in FIGURES:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=tolerance, atol=1e-13, err_msg=name
        )


# ------------------------------------------------------------------------------ kernels against the oracle


STEADY_OR_NOT = st.one_of(lawful(classes=STEADY), lawful(links=5))


@settings(deadline=None, max_examples=40)
@given(STEADY_OR_NOT, st.integers(0, 1000), st.sampled_from([1.0, 100.0, 2000.0]), st.booleans())
def test_kernels_compute_what_the_oracle_does(graph: SimGraph, seed: int, rate: float, ecmp: bool) -> None:
    demand = random_demand(graph, seed, rate)
    fast, slow = Engine(graph, demand, ecmp=ecmp), Engine(graph, demand, ecmp=ecmp, plain=True)

    same(fast.solve(), slow.solve())
    np.testing.assert_allclose(fast.solve().intensity, slow.solve().intensity, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(STEADY_OR_NOT, st.integers(0, 1000), st.booleans(), st.data())
def test_variants_are_the_oracle_s_as_well(graph: SimGraph, seed: int, ecmp: bool, data: Any) -> None:
    demand = random_demand(graph, seed, 100.0)
    edges = st.integers(0, len(graph.edges) - 1)
    down = data.draw(st.frozensets(edges, max_size=3))
    changed = data.draw(edges)
    variant = Variant(
        down=down,
        restored=frozenset(np.flatnonzero(~graph.up).tolist()) - down,
        nodes_down=data.draw(st.frozensets(st.integers(0, len(graph.nodes) - 1), max_size=1)),
        values={"metric": {changed: 2.0}, "fixed_s": {changed: 0.02}, "loss": {changed: 0.1}},
        demand_scale=1.5,
        class_scale={0: 0.5},
        pairs=((1, 0, 1, 50.0),),
    )
    fast, slow = Engine(graph, demand, ecmp=ecmp), Engine(graph, demand, ecmp=ecmp, plain=True)

    same(fast.solve(variant), slow.solve(variant))
    (one,), (other,) = fast.sweep([variant], pairs=[(0, 1)]), slow.sweep([variant], pairs=[(0, 1)])
    for name in ("delay_s", "offered_pps", "delivered_pps", "mean_delay_s", "worst_delay_s", "worst_loss"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-13)
    np.testing.assert_array_equal(one.unreachable, other.unreachable)


# ---------------------------------------------------------------------------------------------- the algebra


@settings(deadline=None, max_examples=60)
@given(lawful(), st.integers(0, 1000), st.sampled_from([10.0, 300.0, 3000.0]), st.booleans())
def test_what_is_offered_is_delivered_lost_or_without_a_way(
    graph: SimGraph, seed: int, rate: float, ecmp: bool
) -> None:
    engine = Engine(graph, random_demand(graph, seed, rate), ecmp=ecmp)
    solution = engine.solve()
    offered = solution.state.rate.sum(axis=(1, 2))
    delivered = np.nansum(solution.throughput_pps, axis=(1, 2))
    lost = (solution.edges.load * solution.edges.loss).sum(axis=0)
    stranded = np.where(np.isnan(solution.arrival), solution.state.rate, 0.0).sum(axis=(1, 2))
    np.testing.assert_allclose(delivered + lost + stranded, offered, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(lawful(), st.integers(0, 1000))
def test_the_order_of_nodes_and_edges_changes_nothing(graph: SimGraph, seed: int) -> None:
    demand = random_demand(graph, seed, 200.0)
    rng = np.random.default_rng(seed)
    nodes, edges = rng.permutation(len(graph.nodes)), rng.permutation(len(graph.edges))
    place = np.argsort(nodes).astype(np.int32)
    fields = [
        "law",
        "scheduler",
        "up",
        "metric",
        "capacity_bps",
        "fixed_s",
        "buffer",
        "servers",
        "service_s",
        "service_scv",
        "loss",
    ]
    shuffled = replace(
        graph,
        nodes=tuple(graph.nodes[n] for n in nodes),
        edges=tuple(graph.edges[e] for e in edges),
        tail=place[graph.tail[edges]],
        head=place[graph.head[edges]],
        transit=graph.transit[nodes],
        **{name: getattr(graph, name)[edges] for name in fields},
    )
    one = Engine(graph, demand).solve()
    other = Engine(shuffled, Demand(demand.rate[:, nodes][:, :, nodes])).solve()
    for name in FIGURES:
        expected = getattr(one, name)[:, nodes][:, :, nodes]
        np.testing.assert_allclose(getattr(other, name), expected, rtol=1e-6, atol=1e-13)


@settings(deadline=None, max_examples=30)
@given(networks(zero=False), st.integers(0, 1000), st.data())
def test_an_edge_that_is_down_is_one_that_is_not_there(graph: SimGraph, seed: int, data: Any) -> None:
    demand = random_demand(graph, seed, 300.0)
    edge = data.draw(st.integers(0, len(graph.edges) - 1))
    kept = np.delete(np.arange(len(graph.edges)), edge)
    fields = (
        "tail head law scheduler up metric capacity_bps fixed_s buffer servers service_s service_scv loss"
    )
    without = replace(
        graph,
        edges=tuple(graph.edges[e] for e in kept),
        **{name: getattr(graph, name)[kept] for name in fields.split()},
    )
    down = Engine(graph, demand).solve(Variant(down=frozenset({edge})))
    if len(kept):
        same(down, Engine(without, demand).solve())
    assert down.intensity[edge] == 0.0


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.05, 3.0), st.floats(1.01, 2.0), st.sampled_from([0.0, 7.0, 31.0, np.inf]), st.integers(0, 3)
)
def test_more_load_is_never_better(load: float, factor: float, buffer: float, scheduler: int) -> None:
    # One bottleneck, from 0 to 1; both go on to 2, which is never short of anything.
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], buffer=buffer)
    graph = replace(graph, capacity_bps=np.array([1e6, 1e9]), scheduler=np.full(2, scheduler, np.int8))
    rate = np.zeros((1, 3, 3))
    rate[0, 1, 0] = rate[0, 2, 0] = load * 1e6 / 8 / 900.0 / 2.0
    engine = Engine(graph, Demand(rate))
    light, heavy = engine.solve(), engine.solve(Variant(demand_scale=factor))
    for name in ("delay_s", "loss"):
        assert (getattr(heavy, name)[0, 1:, 0] >= getattr(light, name)[0, 1:, 0] * (1 - 1e-9) - 1e-12).all()


def test_without_demand_there_is_service_and_propagation_only() -> None:
    graph = network(3, both_ways([(0, 1, 1.0), (1, 2, 1.0)]))
    solution = Engine(graph, uniform(graph, 0.0)).solve()
    service = 900.0 * 8 / 10e6
    assert solution.delay_s[0, 2, 0] == pytest.approx(2 * (1e-3 + service), rel=1e-9)
    assert solution.variance_s2[0, 2, 0] == pytest.approx(PLAIN[0].size_scv * (2 * service) ** 2, rel=1e-9)
    assert solution.loss[0, 2, 0] == 0.0
    assert solution.throughput_pps[0, 2, 0] == 0.0
    assert (solution.utilisation == 0.0).all()


def test_overload_stays_finite_and_loses_what_the_link_cannot_carry() -> None:
    graph = network(2, both_ways([(0, 1, 1.0)]))
    rate = np.zeros((1, 2, 2))
    rate[0, 1, 0] = 50.0 * 10e6 / 8 / 900.0
    solution = Engine(graph, Demand(rate)).solve()
    assert solution.converged
    assert solution.intensity[0] == pytest.approx(50.0)
    assert solution.utilisation[0] == pytest.approx(1.0, rel=1e-3)
    assert solution.loss[0, 1, 0] == pytest.approx(1.0 - 1.0 / 50.0, rel=1e-3)
    assert np.isfinite(solution.delay_s[0, 1, 0])


def test_nodes_without_a_way_are_nan_and_counted() -> None:
    graph = network(4, both_ways([(0, 1, 1.0), (2, 3, 1.0)]))
    engine = Engine(graph, uniform(graph, 10.0))
    solution = engine.solve()
    for name in ("delay_s", "variance_s2", "loss", "throughput_pps"):
        assert np.isnan(getattr(solution, name)[0, 2, 0])
        assert np.isfinite(getattr(solution, name)[0, 1, 0])
    assert not solution.reachable(0, 2)
    assert solution.path(0, 2) == ()
    (digest,) = engine.sweep([BASE], pairs=[(0, 2), (0, 1)])
    assert digest.unreachable.tolist() == [8]
    assert np.isnan(digest.delay_s[0, 0])
    assert np.isnan(digest.percentiles(graph)[:, 0, 0]).all()
    assert digest.percentiles(graph)[0, 0, 1] == solution.percentiles([(0, 1)])[0, 0, 0]
    assert digest.delivered_pps[0] < digest.offered_pps[0] == 120.0


def test_a_packet_keeps_its_size_on_every_hop() -> None:
    graph = network(4, [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)])
    rate = np.zeros((1, 4, 4))
    rate[0, 3, 0] = 100.0
    solution = Engine(graph, Demand(rate)).solve()
    service = 900.0 * 8 / 10e6
    own = solution.edges.variance[:, 0].sum()
    assert solution.variance_s2[0, 3, 0] == pytest.approx(own + PLAIN[0].size_scv * (3 * service) ** 2)
    assert solution.size_s[0, 3, 0] == pytest.approx(3 * service)


def test_equal_ways_share_traffic_and_mix_their_delays() -> None:
    graph = network(4, [(0, 1, 1.0), (1, 3, 1.0), (0, 2, 1.0), (2, 3, 1.0)])
    graph = replace(graph, fixed_s=np.array([0.0, 0.010, 0.0, 0.030]))
    rate = np.zeros((1, 4, 4))
    rate[0, 3, 0] = 200.0
    one, split = Engine(graph, Demand(rate)).solve(), Engine(graph, Demand(rate), ecmp=True).solve()
    assert one.load_pps[0].tolist() == [200.0, 200.0, 0.0, 0.0]
    assert split.load_pps[0].tolist() == pytest.approx([100.0] * 4, rel=1e-6)
    fast, slow = (split.edges.delay[list(way), 0].sum() for way in ((0, 1), (2, 3)))
    assert split.delay_s[0, 3, 0] == pytest.approx((fast + slow) / 2, rel=1e-9)
    assert split.variance_s2[0, 3, 0] > ((slow - fast) / 2) ** 2
    assert split.fixed_s[0, 3, 0] == 0.010


def test_what_is_squared_is_thinned_twice() -> None:
    kind = TrafficClass("bursty", arrivals=Arrivals.ON_OFF, on_s=1.0, off_s=1.0)
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=(kind,), capacity_bps=1e9)
    graph = replace(graph, loss=np.array([0.5, 0.0]))
    rate = np.zeros((1, 3, 3))
    rate[0, 2, 0], rate[0, 2, 1] = 100.0, 30.0
    solution = Engine(graph, Demand(rate)).solve()
    assert solution.edges.load[:, 0].tolist() == pytest.approx([100.0, 80.0])
    assert solution.edges.load_square[:, 0].tolist() == pytest.approx([1e4, 50.0**2 + 30.0**2])


# --------------------------------------------------------------------------------------------------- sweeps


def ring(nodes: int = 8) -> tuple[SimGraph, Demand]:
    graph = network(nodes, both_ways([(i, (i + 1) % nodes, 1.0) for i in range(nodes)]))
    return graph, uniform(graph, 20.0)


def test_a_sweep_says_what_single_answers_say_in_order() -> None:
    graph, demand = ring()
    engine = Engine(graph, demand)
    variants = [Variant(f"cut {i}", down=frozenset({2 * i, 2 * i + 1})) for i in range(8)]
    done: list[int] = []

    digests = list(engine.sweep(iter(variants), pairs=[(0, 3), (5, 2)], progress=done.append, workers=3))

    assert [digest.variant for digest in digests] == variants
    assert done == list(range(1, 9))
    for digest in digests:
        solution = engine.solve(digest.variant)
        for name in ("delay_s", "variance_s2", "loss", "throughput_pps", "fixed_s", "size_s"):
            expected = [getattr(solution, name)[0, 3, 0], getattr(solution, name)[0, 2, 5]]
            np.testing.assert_array_equal(getattr(digest, name)[0], expected)
        np.testing.assert_array_equal(digest.utilisation, solution.utilisation)
        worst = digest.worst_delay[0]
        assert worst is not None
        assert digest.worst_delay_s[0] == solution.delay_s[0].max() == solution.delay_s[0, worst[1], worst[0]]
        assert digest.worst_loss[0] == solution.loss[0].max()
        delivered = solution.throughput_pps[0]
        assert digest.mean_delay_s[0] == pytest.approx(
            (delivered * solution.delay_s[0]).sum() / delivered.sum()
        )


def test_a_sweep_ends_when_it_is_cancelled_and_never_holds_all_variants() -> None:
    graph, demand = ring()
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(len(taken))
            yield Variant(f"v{taken[-1]}", demand_scale=1.0 + 1e-3 * taken[-1])

    got = []
    for digest in Engine(graph, demand).sweep(endless(), cancelled=lambda: len(got) >= 5, workers=2):
        got.append(digest)
    assert len(got) == 5
    assert len(taken) <= 5 + 4 * 2


def test_an_empty_sweep_has_no_answers() -> None:
    assert list(Engine(*ring()).sweep([])) == []


def test_a_bad_variant_in_a_sweep_is_said_and_ends_it() -> None:
    with pytest.raises(NotFound, match="edge 99"):
        list(Engine(*ring()).sweep([BASE, Variant("bad", down=frozenset({99}))]))


# ------------------------------------------------------------------------------------- what must be refused


def test_an_answer_that_did_not_settle_says_so() -> None:
    graph, demand = ring()
    variant = Variant(demand_scale=100.0)
    assert not Engine(graph, demand, max_iterations=2).solve(variant).converged
    assert Engine(graph, demand).solve(variant).converged
    (digest,) = Engine(graph, demand, max_iterations=2).sweep([variant])
    assert not digest.converged
    assert not Engine(graph, demand, max_iterations=2, plain=True).solve(variant).converged


BAD_GRAPHS: dict[str, tuple[str, Any]] = {
    "capacity_bps": ("capacity_bps 0.0", np.array([0.0] + [1e6] * 15)),
    "fixed_s": ("fixed_s nan", np.array([np.nan] + [0.0] * 15)),
    "metric": ("metric 0.0", np.array([0.0] + [1.0] * 15)),
    "buffer": ("buffer -1.0", np.array([-1.0] + [1.0] * 15)),
    "loss": ("loss 1.5", np.array([1.5] + [0.0] * 15)),
    "scheduler": ("scheduler 9", np.array([9] + [0] * 15, np.int8)),
    "law": ("a Law", np.full(16, 7, np.int8)),
    "tail": ("node index", np.full(16, 8, np.int32)),
    "head": ("another node", np.array([0] * 16, np.int32)),
    "up": ("has shape", np.ones(3, np.bool_)),
    "transit": ("transit has shape", np.ones(3, np.bool_)),
    "edges": ("is there twice", ("same",) * 16),
    "nodes": ("without nodes", ()),
    "classes": ("without a traffic class", ()),
}


@pytest.mark.parametrize("field", BAD_GRAPHS)
def test_a_graph_that_cannot_be_computed_with_is_refused(field: str) -> None:
    graph, demand = ring()
    message, value = BAD_GRAPHS[field]
    with pytest.raises(ConfigError, match=message):
        Engine(replace(graph, **{field: value}), demand)


@pytest.mark.parametrize("law", [Law.STATION, Law.CELL])
def test_a_station_or_cell_without_a_rate_is_refused(law: Law) -> None:
    graph, demand = ring()
    graph = replace(graph, law=np.full(16, law, np.int8), service_s=np.zeros(16), capacity_bps=np.zeros(16))
    with pytest.raises(ConfigError, match="is refused"):
        Engine(graph, demand)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_demand_that_is_no_rate_is_refused(value: float) -> None:
    graph, demand = ring()
    rate = demand.rate.copy()
    rate[0, 3, 1] = value
    with pytest.raises(ConfigError, match="from n1 to n3"):
        Engine(graph, Demand(rate))


def test_demand_of_another_shape_or_of_a_node_to_itself_is_refused() -> None:
    graph, _ = ring()
    with pytest.raises(ConfigError, match="has shape"):
        Engine(graph, Demand(np.zeros((1, 3, 3))))
    with pytest.raises(ConfigError, match="to itself"):
        Engine(graph, Demand(np.ones((1, 8, 8))))


BAD_VARIANTS: dict[str, tuple[type[Exception], Variant]] = {
    "edge 16": (NotFound, Variant(down=frozenset({16}))),
    "edge -1": (NotFound, Variant(restored=frozenset({-1}))),
    "node 8": (NotFound, Variant(nodes_down=frozenset({8}))),
    "class 1;": (NotFound, Variant(class_scale={1: 2.0})),
    "takes edge l003 down and restores it": (
        ConfigError,
        Variant(down=frozenset({3}), restored=frozenset({3})),
    ),
    "changes 'colour'": (ConfigError, Variant(values={"colour": {0: 1.0}})),
    "no edge 20": (NotFound, Variant(values={"metric": {20: 1.0}})),
    "capacity_bps 0.0": (ConfigError, Variant(values={"capacity_bps": {0: 0.0}})),
    "capacity_bps nan": (ConfigError, Variant(values={"capacity_bps": {0: float("nan")}})),
    "metric 0.0": (ConfigError, Variant(values={"metric": {0: 0.0}})),
    "has no servers": (ConfigError, Variant(values={"servers": {0: 2.0}})),
    "all demand by -1.0": (ConfigError, Variant(demand_scale=-1.0)),
    "scales class 0 by inf": (ConfigError, Variant(class_scale={0: float("inf")})),
    "from node 0 to node 9": (NotFound, Variant(pairs=((0, 0, 9, 1.0),))),
    "from n1 to n1": (ConfigError, Variant(pairs=((0, 1, 1, 1.0),))),
    "to nan packets": (ConfigError, Variant(pairs=((0, 1, 2, float("nan")),))),
}


@pytest.mark.parametrize("message", BAD_VARIANTS)
def test_a_variant_that_cannot_be_is_refused(message: str) -> None:
    error, variant = BAD_VARIANTS[message]
    with pytest.raises(error, match=message):
        Engine(*ring()).solve(variant)


def test_other_refusals() -> None:
    graph, demand = ring()
    for rung in (Rung.CAPACITY, Rung.RESIDUAL, Rung.PACKETS):
        with pytest.raises(ConfigError, match=f"rung {rung.value}"):
            Engine(graph, demand, rung=rung)
    with pytest.raises(ConfigError, match="tolerance"):
        Engine(graph, demand, tolerance=0.0)
    engine = Engine(graph, demand)
    with pytest.raises(NotFound, match="no node 8"):
        list(engine.sweep([BASE], pairs=[(0, 8)]))
    with pytest.raises(NotFound, match="no node -1"):
        engine.solve().path(-1, 0)
    with pytest.raises(NotFound, match="no node 8"):
        engine.solve().percentiles([(8, 0)])


def test_a_network_that_does_not_fit_into_memory_is_refused() -> None:
    graph = network(40_000, [(0, 1, 1.0)])
    rate = np.broadcast_to(np.float64(0.0), (1, 40_000, 40_000))
    with pytest.raises(OverCapacity, match="split the network"):
        Engine(graph, Demand(rate))


# ---------------------------------------------------------------------------------------------- small print


def test_pairs_replace_what_scales_made_of_their_rate() -> None:
    graph, demand = ring()
    state = Engine(graph, demand).state(
        Variant(demand_scale=2.0, class_scale={0: 3.0}, pairs=((0, 1, 2, 7.0),))
    )
    assert state.rate[0, 2, 1] == 7.0
    assert state.rate[0, 1, 2] == 120.0
    assert state.square[0, 2, 1] == 49.0
    assert demand.rate[0, 2, 1] == 20.0


def test_a_node_that_is_down_takes_its_edges_with_it_and_restored_edges_come_back() -> None:
    graph, demand = ring()
    graph = replace(graph, up=np.arange(16) > 1)
    engine = Engine(graph, demand)
    assert engine.solve().path(0, 1) != (0,)
    assert engine.solve(Variant(restored=frozenset({0, 1}))).path(0, 1) == (0,)
    solution = engine.solve(Variant(nodes_down=frozenset({4})))
    assert not solution.reachable(0, 4)
    assert not solution.reachable(1, 5)  # 0-1 is down, and 4 was the way round
    assert solution.reachable(1, 3)


def test_given_laws_are_used_as_they_are() -> None:
    graph, demand = ring()
    slow = edge_laws.compile_laws(replace(graph, fixed_s=np.full(16, 0.5)))
    assert Engine(graph, demand, laws=slow).solve().delay_s[0, 1, 0] > 0.5


def test_traffic_may_be_given_for_one_solution() -> None:
    graph, demand = ring()
    engine = Engine(graph, demand)
    state = engine.state()
    trees = engine.route(state)
    rate = np.zeros_like(demand.rate)
    rate[0, 1, 0] = 5.0
    edges = engine.settle(state, trees, rate, rate**2)
    assert edges.load[:, 0].tolist() == [5.0] + [0.0] * 15


def test_an_edge_whose_load_stays_but_whose_bursts_change_is_computed_again() -> None:
    # Two flows of 100 packets/s or one of 200: the same load, another sum of squares.
    kind = TrafficClass("bursty", (1000.0,), arrivals=Arrivals.ON_OFF, on_s=0.05, off_s=0.05)
    graph = network(4, [(0, 2, 1.0), (1, 2, 1.0), (2, 3, 1.0)], classes=(kind,), capacity_bps=4e6)
    rate = np.zeros((1, 4, 4))
    rate[0, 3, 0] = rate[0, 3, 1] = 100.0
    variant = Variant(pairs=((0, 0, 3, 200.0), (0, 1, 3, 0.0)))
    found = Engine(graph, Demand(rate)).solve(variant)
    rate[0, 3, 0], rate[0, 3, 1] = 200.0, 0.0
    np.testing.assert_allclose(
        found.edges.delay[2], Engine(graph, Demand(rate)).solve().edges.delay[2], rtol=1e-3
    )
    assert found.edges.delay[2, 0] > Engine(graph, Demand(rate / 2)).solve().edges.delay[2, 0]
