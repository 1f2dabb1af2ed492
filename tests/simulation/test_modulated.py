import numpy as np
import pytest
from law_graphs import MS, answer, one_class
from packet_queue import Flow, fifo

from domain_twin.simulation.graph import Arrivals, TrafficClass
from domain_twin.simulation.laws.modulated import LARGEST_ROOM, axes, bridge, table_of
from domain_twin.simulation.laws.queues import exact, gamma_sizes
from domain_twin.simulation.laws.tables import BURSTS, LOADS, SPREADS, solve_modulated


def bursty(
    arrivals: Arrivals, flows: int, load: float, on_s: float, off_s: float, room: float
) -> tuple[float, ...]:
    """(wait, standard deviation, loss) of `flows` alike, in ms."""
    classes = one_class(arrivals=arrivals, on_s=on_s, off_s=off_s)
    rate = 1000.0 * load
    delay, variance, loss = answer(classes, [rate], [rate**2 / flows], buffer=room)
    return (delay[0] - MS) / MS, variance[0] ** 0.5 / MS, loss[0]


@pytest.mark.parametrize("variability", [1.5, 2.0, 5.0])
@pytest.mark.parametrize("room", [1, 2, 17])
def test_without_spread_the_chain_is_the_plain_queue(variability: float, room: int) -> None:
    found = solve_modulated(np.array([0.3, 0.9, 1.4]), room, 0.0, 1.0, variability)
    if variability == 2.0:  # exponential service: the one whose phases are the queue's own
        for row, load in zip(found, (0.3, 0.9, 1.4), strict=True):
            assert row[:3] == pytest.approx(exact(load, room, gamma_sizes(1.0)), rel=1e-9)
    np.testing.assert_allclose(found[:, 3:], found[:, [0, 2]], rtol=1e-9)  # a Poisson stream sees the same


def test_very_short_bursts_do_not_matter_and_very_long_ones_are_a_mixture() -> None:
    load = np.array([0.7])
    plain = solve_modulated(load, 33, 0.0, 1.0, 2.0)[0]
    short = solve_modulated(load, 33, 1.0, 1e-4, 2.0)[0]
    assert short[:3] == pytest.approx(plain[:3], rel=1e-3)
    long = solve_modulated(load, 33, 1.0, 1e7, 2.0)[0]
    double = exact(1.4, 33, gamma_sizes(1.0))  # one source: twice the rate half of the time, or nothing
    assert long[0] == pytest.approx(double[0], rel=1e-3)
    assert long[2] == pytest.approx(double[2], rel=1e-3)


def test_the_shipped_tables_hold_what_the_chain_gives() -> None:
    place = axes()
    table = table_of(33)
    assert table.shape[:4] == tuple(len(axis) for axis in place)
    v = int(np.argmin(np.abs(np.exp(place.variabilities) - 2.0)))
    b = int(np.argmin(np.abs(np.exp(place.bursts) - BURSTS[3])))
    s = int(np.argmin(np.abs(place.spreads - SPREADS[0])))
    found = solve_modulated(LOADS, 33, 0.0, float(BURSTS[3]), 2.0)
    np.testing.assert_allclose(np.exp(table[v, b, s, :, 0]), found[:, 0], rtol=2e-3)
    # Off the tabulated spreads, between them by monotone cubics.
    s = 14
    found = solve_modulated(LOADS, 33, float(place.spreads[s] ** 2), float(BURSTS[3]), 2.0)
    np.testing.assert_allclose(np.exp(table[v, b, s, :, 0]) + 1, found[:, 0] + 1, rtol=3e-2)


def test_waits_and_losses_grow_with_load_in_the_tables() -> None:
    for room in (2, 20, LARGEST_ROOM):
        table = table_of(room)
        # While bursts overload the link, accepted packets may wait less with more load: those of calm times.
        assert (np.diff(table[:, :, :6, :17, 0], axis=3) >= -2e-2).all()
        assert (np.diff(table[..., 2], axis=3) >= -2e-3).all()


@pytest.mark.parametrize("load", [0.4, 0.7, 0.9, 1.2])
@pytest.mark.parametrize(("flows", "on_s"), [(1, 0.05), (2, 0.5), (10, 0.05), (40, 0.05)])
def test_bursts_agree_with_a_simulated_queue(load: float, flows: int, on_s: float) -> None:
    wait, deviation, loss = bursty(Arrivals.ON_OFF, flows, load, on_s, on_s, 32.0)
    seen = fifo([Flow(1000 * load / flows, "on-off", on_s, on_s, (MS,))] * flows, places=33,
                until=400.0 if on_s < 0.1 else 1500.0, seed=1)  # fmt: skip
    # 4 % of the sojourn beside the simulation's own noise: bursts in it are few.
    assert wait == pytest.approx(seen.wait[0] / MS, abs=4 * seen.error[0] / MS + 0.04 * (1 + wait))
    assert deviation == pytest.approx(seen.variance[0] ** 0.5 / MS, rel=0.15)
    assert loss == pytest.approx(seen.loss[0], rel=0.1, abs=4e-3)


@pytest.mark.parametrize("load", [0.4, 0.7, 0.9, 1.2])
@pytest.mark.parametrize(("flows", "on_s"), [(2, 0.05), (10, 0.5), (40, 0.05)])
def test_equally_spaced_bursts_agree_with_a_simulated_queue(load: float, flows: int, on_s: float) -> None:
    wait, _, loss = bursty(Arrivals.CBR_ON_OFF, flows, load, on_s, on_s, 32.0)
    seen = fifo([Flow(1000 * load / flows, "cbr-on-off", on_s, on_s, (MS,))] * flows, places=33,
                until=400.0 if on_s < 0.1 else 1500.0, seed=1)  # fmt: skip
    assert wait == pytest.approx(seen.wait[0] / MS, abs=4 * seen.error[0] / MS + 0.08 * (1 + wait))
    assert loss == pytest.approx(seen.loss[0], rel=0.1, abs=4e-3)


@pytest.mark.parametrize(("flows", "load"), [(2, 0.5), (10, 0.5), (10, 0.9), (60, 0.8)])
def test_equally_spaced_flows_wait_less_than_poisson(flows: int, load: float) -> None:
    rate = 1000.0 * load
    delay, _, _ = answer(one_class(arrivals=Arrivals.CBR), [rate], [rate**2 / flows])
    poisson, _, _ = answer(one_class(), [rate])
    runs = [
        fifo([Flow(rate / flows, "cbr", services=(MS,))] * flows, places=33, until=20.0, seed=seed).wait[0]
        for seed in range(150)  # one run keeps its phases for ever
    ]
    assert delay[0] < poisson[0]
    assert (delay[0] - MS) / MS == pytest.approx(np.mean(runs) / MS, abs=0.1 * delay[0] / MS)


def test_bridge_is_poisson_for_many_flows_and_nothing_for_one() -> None:
    assert bridge(1e9, 1e9, 0.5) == pytest.approx(1.0, abs=1e-6)
    assert bridge(1.0, 1.0, 0.5) == 0.0
    assert bridge(50.0, 50.0, 1.0) == 0.0
    values = [bridge(n, n, 0.8) for n in (2.0, 10.0, 100.0, 2e4, 2.1e4)]
    assert values == sorted(values)


def test_steady_packets_beside_bursts_wait_less_than_the_bursts() -> None:
    classes = (
        TrafficClass("calm", (200.0,)),
        TrafficClass("wild", arrivals=Arrivals.ON_OFF, on_s=0.05, off_s=0.05),
    )
    rate = np.array([1000.0, 600.0])
    delay, _, loss = answer(classes, list(rate), [1e6, 600.0**2 / 8])
    wait = delay - np.array([0.2, 1.0]) * MS
    flows = [Flow(1000.0, services=(0.2 * MS,))] + [Flow(75.0, "on-off", 0.05, 0.05, (MS,), kind=1)] * 8
    seen = fifo(flows, places=33, until=400.0, seed=2)
    assert wait[0] < wait[1]
    assert loss[0] < loss[1]
    assert wait == pytest.approx(seen.wait, rel=0.15)


@pytest.mark.parametrize("room", [600.0, 3000.0])
def test_long_queues_are_a_fluid(room: float) -> None:
    wait, _, loss = bursty(Arrivals.ON_OFF, 4, 0.8, 0.5, 0.5, room)
    seen = fifo([Flow(200.0, "on-off", 0.5, 0.5, (MS,))] * 4, places=int(room) + 1, until=6000.0, seed=3)
    assert wait == pytest.approx(seen.wait[0] / MS, abs=4 * seen.error[0] / MS + 0.1 * wait)
    assert loss == pytest.approx(seen.loss[0], rel=0.3, abs=3e-3)
