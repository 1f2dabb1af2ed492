import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_graphs import answer, graph_of, one_class

from domain_twin.errors import ConfigError, NotFound
from domain_twin.simulation.graph import Arrivals, FloatArray, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.laws.edges import compile_laws, evaluate, evaluate_all, overloaded, with_values

THREE = (
    TrafficClass("voice", (200.0,), priority=0, weight=4.0, arrivals=Arrivals.CBR),
    TrafficClass("video", (250.0, 1416.0), (0.5, 0.5), priority=1, weight=2.0, arrivals=Arrivals.ON_OFF,
                 on_s=0.05, off_s=0.1),
    TrafficClass("data", (800.0,), exponential=True, priority=2, arrivals=Arrivals.CBR_ON_OFF, on_s=0.3,
                 off_s=0.3),
)  # fmt: skip
POISSON = (TrafficClass("small", (100.0,)), TrafficClass("large", (1400.0,), priority=1))


def many_edges(
    classes: tuple[TrafficClass, ...], seed: int, edges: int = 60
) -> tuple[SimGraph, np.random.Generator]:
    rng = np.random.default_rng(seed)
    law = rng.integers(0, 4, edges)
    room = rng.choice([0.0, 1.0, 5.0, 32.0, 100.0, 700.0, math.inf], edges)
    return graph_of(
        classes, edges, law=law, buffer=room, scheduler=rng.integers(0, 4, edges) * (law == Law.LINK),
        capacity_bps=rng.uniform(1e6, 1e8, edges), fixed_s=rng.uniform(0, 1e-2, edges),
        servers=rng.choice([1, 2, 7, 150], edges), service_s=rng.uniform(1e-5, 1e-2, edges),
        service_scv=rng.choice([0.0, 0.4, 1.0, 3.0], edges), loss=rng.choice([0.0, 0.01, 1.0], edges),
    ), rng  # fmt: skip


def compiled(laws: object, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    out = tuple(np.zeros(rate.shape) for _ in range(3))
    for edge in range(len(rate)):
        evaluate(laws, edge, rate[edge], square[edge], out[0][edge], out[1][edge], out[2][edge])
    return out


@pytest.mark.parametrize("classes", [one_class(), POISSON, THREE], ids=["one", "two", "three"])
@pytest.mark.parametrize("seed", range(4))
def test_kernels_and_oracle_agree_at_any_load(classes: tuple[TrafficClass, ...], seed: int) -> None:
    graph, rng = many_edges(classes, seed)
    laws = compile_laws(graph)
    work = rng.choice([0.0, 1e-9, 1e-3, 0.2, 0.6, 0.95, 1.0, 1.3, 2.9, 8.0, 1e4], (60, len(classes)))
    work *= rng.uniform(0.5, 1.0, work.shape)
    per_packet = np.where(laws.service_s > 0, laws.service_s, 1e-3) / np.maximum(laws.servers, 1)[:, None]
    rate = work / per_packet
    square = rate**2 / rng.integers(1, 50, rate.shape)

    fast, plain = compiled(laws, rate, square), evaluate_all(laws, rate, square)

    for one, other in zip(fast, plain, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert (fast[0] >= laws.service_s * (1 - 1e-12)).all()
    assert (fast[1] >= 0).all()
    assert ((fast[2] >= 0) & (fast[2] <= 1)).all()


@settings(max_examples=40, deadline=None)
@given(
    law=st.sampled_from([Law.LINK, Law.CELL, Law.STATION]),
    room=st.sampled_from([0.0, 1.0, 7.0, 32.0, 300.0, math.inf]),
    scv=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    servers=st.sampled_from([1, 3, 40]),
    loads=st.lists(st.floats(0, 12), min_size=2, max_size=8),
)
def test_more_load_is_never_faster_and_never_loses_less(
    law: Law, room: float, scv: float, servers: int, loads: list[float]
) -> None:
    laws = compile_laws(
        graph_of(one_class(), law=law, buffer=room, servers=servers, service_scv=scv)
    )  # fmt: skip
    capacity = 1000.0 * (servers if law == Law.STATION else 1)
    found = [compiled(laws, *(np.array([[load * capacity]]),) * 2) for load in sorted(loads)]
    for before, after in pairwise(found):
        assert after[0][0, 0] >= before[0][0, 0] * (1 - 1e-9)
        assert after[2][0, 0] >= before[2][0, 0] - 1e-12


@pytest.mark.parametrize("law", [Law.LINK, Law.CELL, Law.STATION])
@pytest.mark.parametrize("room", [4.0, 64.0, math.inf])
def test_no_more_is_carried_than_can_be_served(law: Law, room: float) -> None:
    for load in (0.5, 0.99, 1.0, 1.01, 1.7, 2.999, 3.001, 50.0):
        _, _, loss = answer(one_class(), [load * 4000 if law == Law.STATION else load * 1000], law=law,
                            buffer=room, servers=4)  # fmt: skip
        assert load * (1 - loss[0]) <= 1 + 1e-9


def test_idle_edges_answer_their_service_and_fixed_delay() -> None:
    for law, expected in ((Law.LINK, 3e-3), (Law.CELL, 3e-3), (Law.STATION, 3e-3), (Law.FIXED, 2e-3)):
        delay, _, loss = answer(one_class(), [0.0], law=law, fixed_s=2e-3, loss=0.25)
        assert delay[0] == pytest.approx(expected)
        assert loss[0] == 0.25


def test_overload_is_marked() -> None:
    graph = graph_of(one_class(), 4, law=[Law.LINK, Law.CELL, Law.STATION, Law.FIXED], servers=4)
    laws = compile_laws(graph)
    assert overloaded(laws, np.array([[900.0], [900.0], [3900.0], [9e9]])).tolist() == [False] * 4
    assert overloaded(laws, np.array([[1100.0], [1100.0], [4100.0], [0.0]])).tolist() == [True] * 3 + [False]


def test_new_values_answer_as_if_compiled_with_them() -> None:
    graph, rng = many_edges(THREE, 11, edges=12)
    laws = compile_laws(graph)
    rate = rng.uniform(0, 800, (12, 3))
    link = int(np.flatnonzero(graph.law == Law.LINK)[0])
    station = int(np.flatnonzero(graph.law == Law.STATION)[0])
    values = {
        "buffer": {link: 47.0, station: 3.0}, "capacity_bps": {link: 5e6}, "scheduler": {link: Scheduler.WFQ},
        "servers": {station: 3}, "service_s": {station: 2e-3}, "loss": {station: 0.1}, "fixed_s": {link: 0.5},
    }  # fmt: skip
    arrays = {
        name: np.array(getattr(graph, name))
        for name in ("law", "scheduler", "buffer", "capacity_bps", "servers", "service_s", "service_scv",
                     "loss",                     "fixed_s")
    }  # fmt: skip
    for name, new in values.items():
        for index, value in new.items():
            arrays[name][index] = value

    changed = with_values(laws, graph, values)

    fresh = compile_laws(graph_of(THREE, 12, **arrays))
    for one, other in zip(
        evaluate_all(changed, rate, rate**2), evaluate_all(fresh, rate, rate**2), strict=True
    ):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(changed.service_s, fresh.service_s)
    np.testing.assert_array_equal(changed.size_s, fresh.size_s)


def test_new_values_share_the_tables_that_exist() -> None:
    graph = graph_of(THREE, 5, buffer=[32.0, 32.0, 8.0, 8.0, math.inf])
    laws = compile_laws(graph)
    changed = with_values(laws, graph, {"buffer": {0: 8.0}})
    assert changed.tables is laws.tables
    assert changed.bursty is laws.bursty
    assert with_values(laws, graph, {"metric": {0: 8.0}}) is laws


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capacity_bps", 0.0),
        ("capacity_bps", math.nan),
        ("buffer", -1.0),
        ("loss", 1.5),
        ("fixed_s", math.inf),
    ],
)
def test_values_that_no_law_takes_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        compile_laws(graph_of(one_class(), **{field: value}))
    graph = graph_of(one_class())
    with pytest.raises(ConfigError, match=field):
        with_values(compile_laws(graph), graph, {field: {0: value}})


def test_a_value_for_an_edge_that_is_not_there_is_refused() -> None:
    graph = graph_of(one_class())
    with pytest.raises(NotFound):
        with_values(compile_laws(graph), graph, {"buffer": {7: 1.0}})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sizes": (0.0,)}, "distribution"),
        ({"sizes": (100.0, 200.0), "probabilities": (0.5, 0.6)}, "distribution"),
        ({"sizes": (math.nan,)}, "distribution"),
        ({"arrivals": Arrivals.ON_OFF}, "on periods"),
        ({"arrivals": Arrivals.CBR_ON_OFF, "on_s": 1.0, "off_s": -1.0}, "on periods"),
        ({"weight": 0.0}, "weight"),
    ],
)
def test_classes_that_no_law_takes_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compile_laws(graph_of(one_class(**fields)))


def test_classes_of_one_distribution_share_one_table() -> None:
    alike = (TrafficClass("a"), TrafficClass("b", priority=3))
    delay, _, loss = answer(alike, [300.0, 500.0])
    single, _, lost = answer(one_class(), [800.0])
    assert delay == pytest.approx([single[0]] * 2)
    assert loss == pytest.approx([lost[0]] * 2)
