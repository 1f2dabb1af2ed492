import numpy as np
import pytest
from law_graphs import MS, answer, one_class
from packet_queue import Flow, fifo

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import TrafficClass
from domain_twin.simulation.laws.queues import (
    LARGEST_EXACT_ROOM,
    LARGEST_LOAD,
    LOSS,
    POINTS,
    VARIANCE,
    WAIT,
    SizeMix,
    exact,
    gamma_sizes,
    look_up,
    mixed,
    sizes_of,
    table_of,
)  # fmt: skip

BIMODAL = SizeMix((0.5, 0.5), (0.3, 1.7), (0.0, 0.0))
SHAPES = [gamma_sizes(0.0), BIMODAL, gamma_sizes(1.0), gamma_sizes(4.0)]


def exponential_queue(load: float, room: int) -> tuple[float, float, float]:
    """M/M/1/K from its geometric distribution: n in the system are n exponential services to wait."""
    present = load ** np.arange(room + 1.0)
    present /= present.sum()
    n, found = np.arange(room), present[:-1] / (1 - present[-1])
    wait = float((found * n).sum())
    return wait, float((found * (n + n * n)).sum()) - wait**2, float(present[-1])


@pytest.mark.parametrize("room", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("load", [0.02, 0.5, 0.97, 1.0001, 1.6, 2.9])
def test_exponential_sizes_give_the_known_queue(load: float, room: int) -> None:
    assert exact(load, room, gamma_sizes(1.0)) == pytest.approx(
        exponential_queue(load, room), rel=1e-7, abs=1e-12
    )


def test_one_place_is_the_loss_formula_of_erlang() -> None:
    for shape in SHAPES:
        assert exact(2.0, 1, shape) == pytest.approx((0.0, 0.0, 2 / 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_queue_below_capacity_is_pollaczek_khinchine(shape: SizeMix) -> None:
    load = 0.8
    wait = load * shape.second / (2 * (1 - load))
    assert exact(load, 1500, shape) == pytest.approx(
        (wait, wait**2 + load * shape.third / (3 * (1 - load)), 0.0), rel=1e-6, abs=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("room", [2, 33, 1025, LARGEST_EXACT_ROOM + 1, 10**6])
def test_tables_are_finite_and_grow_with_load(shape: SizeMix, room: int) -> None:
    table = table_of(room, shape)
    assert table.shape == (POINTS, 3)
    assert np.isfinite(table).all()
    assert (np.diff(table[:, WAIT]) >= -1e-9 * room).all()
    assert (np.diff(table[:, LOSS]) >= -1e-12).all()
    assert (table[:, VARIANCE] >= 0).all()
    assert table_of(room, shape) is table


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[3]])
@pytest.mark.parametrize("room", [4, 33, 400])
def test_interpolation_is_as_good_as_the_queue_itself(shape: SizeMix, room: int) -> None:
    table = table_of(room, shape)
    for load in np.random.default_rng(room).uniform(0.01, LARGEST_LOAD, 40):
        truth = exact(float(load), room, shape)
        found = look_up(table, float(room), shape.second - 1, float(load))
        assert found[WAIT] + 1 == pytest.approx(truth[WAIT] + 1, rel=2e-4)
        assert found[LOSS] == pytest.approx(truth[LOSS], rel=5e-2, abs=2e-6)


def test_the_diffusion_takes_over_without_a_step() -> None:
    for shape in SHAPES[:2]:
        last, first = table_of(LARGEST_EXACT_ROOM, shape), table_of(LARGEST_EXACT_ROOM + 1, shape)
        np.testing.assert_allclose(first[:, WAIT], last[:, WAIT], rtol=2e-3, atol=2.0)
        np.testing.assert_allclose(first[:, LOSS], last[:, LOSS], rtol=5e-3, atol=1e-5)


def test_beyond_the_table_there_is_no_step_and_the_queue_fills() -> None:
    table = table_of(33, BIMODAL)
    for column in (WAIT, VARIANCE, LOSS):
        below = look_up(table, 33.0, 0.49, LARGEST_LOAD * (1 - 1e-9))[column]
        above = look_up(table, 33.0, 0.49, LARGEST_LOAD * (1 + 1e-9))[column]
        assert above == pytest.approx(below, rel=1e-6)
    wait, _, loss = look_up(table, 33.0, 0.49, 1e9)
    assert wait == pytest.approx(32.0)
    assert loss == pytest.approx(1.0)


def test_no_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="room 0"):
        table_of(0, BIMODAL)


def test_mixtures_keep_their_moments() -> None:
    small, large = TrafficClass("s", (100.0,)), TrafficClass("l", (1000.0,), exponential=True)
    both = mixed(((3.0, 100.0, sizes_of(small)), (1.0, 1000.0, sizes_of(large))))
    mean = (3 * 100 + 1000) / 4
    assert sum(w * m for w, m in zip(both.weights, both.means, strict=True)) == pytest.approx(1.0)
    assert both.second == pytest.approx((3 * 100**2 + 2 * 1000**2) / 4 / mean**2)
    assert both.third == pytest.approx((3 * 100**3 + 6 * 1000**3) / 4 / mean**3)


@pytest.mark.parametrize("load", [0.5, 0.9, 1.3])
@pytest.mark.parametrize(
    ("sizes", "exponential"), [((1000.0,), False), ((300.0, 1700.0), False), ((1000.0,), True)]
)
def test_one_class_agrees_with_a_simulated_queue(
    load: float, sizes: tuple[float, ...], exponential: bool
) -> None:
    shares = tuple(1 / len(sizes) for _ in sizes)
    classes = one_class(sizes=sizes, probabilities=shares, exponential=exponential)
    delay, variance, loss = answer(classes, [1000 * load], buffer=20.0)
    flow = Flow(1000 * load, services=tuple(size / 1000 * MS for size in sizes), exponential=exponential)
    seen = fifo([flow], places=21, until=500.0, seed=7)
    assert delay[0] - MS == pytest.approx(seen.wait[0], abs=4 * seen.error[0])
    assert variance[0] == pytest.approx(seen.variance[0], rel=0.05)
    assert loss[0] == pytest.approx(seen.loss[0], rel=0.12, abs=2e-4)


@pytest.mark.parametrize("three", [False, True], ids=["two", "three"])
@pytest.mark.parametrize("load", [0.6, 0.9, 1.4])
def test_classes_on_one_link_agree_with_a_simulated_queue(three: bool, load: float) -> None:
    classes = (
        TrafficClass("a", (200.0,)),
        TrafficClass("b", (1400.0,)),
        TrafficClass("c", (800.0,), exponential=True),
    )[: 3 if three else 2]
    share = np.array([0.3, 0.5, 0.2])[: len(classes)]
    rate = load * share / share.sum() / np.array([each.mean_octets / 1000 * MS for each in classes])
    delay, variance, loss = answer(classes, list(rate), buffer=24.0)
    flows = [
        Flow(r, services=(each.mean_octets / 1000 * MS,), exponential=each.exponential, kind=kind)
        for kind, (r, each) in enumerate(zip(rate, classes, strict=True))
    ]
    seen = fifo(flows, places=25, until=400.0, seed=5)
    for kind, each in enumerate(classes):
        wait = delay[kind] - each.mean_octets / 1000 * MS
        assert wait == pytest.approx(seen.wait[kind], abs=4 * seen.error[kind] + 0.01 * seen.wait[kind])
        assert variance[kind] == pytest.approx(seen.variance[kind], rel=0.08)
        assert loss[kind] == pytest.approx(seen.loss[kind], rel=0.15, abs=5e-4)
