import math

import pytest
from law_graphs import MS, answer, one_class
from packet_queue import Flow, fifo, shared

from domain_twin.simulation.graph import Arrivals, Law
from domain_twin.simulation.laws.stations import LIMIT, many_servers
from domain_twin.simulation.laws.stations import shared as sharing


def erlang_c(servers: int, load: float) -> float:
    offered = servers * load
    below = sum(offered**n / math.factorial(n) for n in range(servers))
    full = offered**servers / math.factorial(servers) / (1 - load)
    return full / (below + full)


@pytest.mark.parametrize("servers", [1, 3, 20])
@pytest.mark.parametrize("load", [0.1, 0.7, 0.95])
def test_exponential_service_is_erlang_c(servers: int, load: float) -> None:
    waits = erlang_c(servers, load)
    mean = waits / (servers * (1 - load))
    wait, variance, loss = many_servers(servers, math.inf, 1.0, load)
    assert wait == pytest.approx(mean)
    assert variance == pytest.approx(2 * waits / (servers * (1 - load)) ** 2 - mean**2)
    assert loss == 0.0


def test_no_room_is_the_loss_formula_of_erlang_whatever_the_service() -> None:
    for scv in (0.0, 1.0, 4.0):
        assert many_servers(3, 0.0, scv, 0.9)[2] == pytest.approx(0.30873841)


def test_one_server_without_bound_is_pollaczek_khinchine() -> None:
    assert many_servers(1, math.inf, 0.4, 0.8)[0] == pytest.approx(0.8 * 1.4 / 0.4)


def test_a_great_room_is_as_none_at_all() -> None:
    for scv in (0.0, 1.0, 2.0):
        assert many_servers(5, 1e5, scv, 0.9) == pytest.approx(many_servers(5, math.inf, scv, 0.9), rel=1e-9)


@pytest.mark.parametrize("servers", [1, 4, 300])
@pytest.mark.parametrize("room", [0.0, 10.0, 5000.0, math.inf])
@pytest.mark.parametrize("scv", [0.0, 0.5, 3.0])
def test_overload_stays_finite_and_carries_no_more_than_there_is(
    servers: int, room: float, scv: float
) -> None:
    for load in (LIMIT, 1.0, 1.5, 10.0, 1e6):
        for wait, variance, loss in (many_servers(servers, room, scv, load), sharing(room, scv, load)):
            assert math.isfinite(wait)
            assert math.isfinite(variance)
            assert load * (1 - loss) <= 1 + 1e-9


@pytest.mark.parametrize(("servers", "load"), [(1, 0.8), (4, 0.6), (4, 0.9), (40, 0.95)])
@pytest.mark.parametrize("exponential", [False, True])
def test_stations_agree_with_a_simulated_one(servers: int, load: float, exponential: bool) -> None:
    rate = 1000.0 * servers * load
    delay, variance, _ = answer(
        one_class(), [rate], law=Law.STATION, servers=servers, buffer=math.inf, service_scv=float(exponential)
    )
    seen = fifo([Flow(rate, services=(MS,), exponential=exponential)], places=4000, servers=servers,
                until=1.5e6 / rate, seed=3)  # fmt: skip
    # Cosmetatos errs by up to 2 % of the wait of fixed service times; of the sojourn by far less.
    assert delay[0] - MS == pytest.approx(seen.wait[0], abs=4 * seen.error[0] + 0.03 * seen.wait[0])
    assert variance[0] - exponential * MS**2 == pytest.approx(seen.variance[0], rel=0.2)


@pytest.mark.parametrize("load", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("exponential", [False, True])
def test_finite_stations_agree_with_a_simulated_one(load: float, exponential: bool) -> None:
    delay, _, loss = answer(
        one_class(), [4000 * load], law=Law.STATION, servers=4, buffer=12.0, service_scv=float(exponential)
    )
    seen = fifo([Flow(4000 * load, services=(MS,), exponential=exponential)], places=16, servers=4,
                until=200.0, seed=4)  # fmt: skip
    assert delay[0] == pytest.approx(seen.wait[0] + MS, rel=0.03)
    assert loss[0] == pytest.approx(seen.loss[0], rel=0.1, abs=1e-3)


@pytest.mark.parametrize("load", [0.4, 0.8, 1.3])
@pytest.mark.parametrize(
    ("sizes", "exponential"), [((1000.0,), False), ((1000.0,), True), ((200.0, 1800.0), False)]
)
def test_cells_agree_with_a_simulated_one(load: float, sizes: tuple[float, ...], exponential: bool) -> None:
    shares = tuple(1 / len(sizes) for _ in sizes)
    classes = one_class(sizes=sizes, probabilities=shares, exponential=exponential)
    delay, variance, loss = answer(classes, [1000 * load], law=Law.CELL, buffer=25.0)
    flow = Flow(1000 * load, services=tuple(s / 1000 * MS for s in sizes), exponential=exponential)
    seen = shared([flow], places=26, until=400.0, seed=6)
    assert delay[0] == pytest.approx(seen.wait[0], abs=4 * seen.error[0])
    assert loss[0] == pytest.approx(seen.loss[0], rel=0.05, abs=5e-4)
    # The variance is exact for exponential sizes without bound only; worst for equal sizes in overload.
    assert variance[0] ** 0.5 == pytest.approx(seen.variance[0] ** 0.5, rel=0.3 if load > 1 else 0.1)


def test_exponential_sharing_has_the_known_variance() -> None:
    sojourn, variance, _ = sharing(math.inf, 1.0, 0.6)
    assert sojourn == pytest.approx(2.5)
    assert variance == pytest.approx(2.5**2 * (2 + 0.6) / (2 - 0.6))


@pytest.mark.parametrize("law", [Law.STATION, Law.CELL])
def test_bursts_lengthen_sojourns_as_simulated(law: Law) -> None:
    servers = 4 if law == Law.STATION else 1
    classes = one_class(arrivals=Arrivals.ON_OFF, on_s=0.05, off_s=0.05, exponential=True)
    rate = 700.0 * servers
    delay, _, _ = answer(classes, [rate], [rate**2 / 10], law=law, servers=servers, buffer=400.0)
    flows = [Flow(rate / 10, "on-off", 0.05, 0.05, (MS,), exponential=True)] * 10
    if law == Law.STATION:
        seen = fifo(flows, places=404, servers=servers, until=400.0, seed=8).wait[0] + MS
    else:
        seen = shared(flows, places=401, until=400.0, seed=8).wait[0]
    calm, _, _ = answer(one_class(exponential=True), [rate], law=law, servers=servers, buffer=400.0)
    assert delay[0] > 1.2 * calm[0]
    assert delay[0] == pytest.approx(seen, rel=0.1)
