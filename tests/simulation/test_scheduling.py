import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_graphs import CAPACITY, MS, answer
from packet_queue import Flow, Observed, scheduled

from domain_twin.simulation.graph import Arrivals, Scheduler, TrafficClass
from domain_twin.simulation.laws.scheduling import sharing_rate, sharing_rates

EQUAL = (TrafficClass("a", priority=0), TrafficClass("b", priority=1))
MIXED = (TrafficClass("a", (200.0,), priority=0, weight=3.0), TrafficClass("b", (1400.0,), priority=1))
THREE = (
    TrafficClass("a", (200.0,), priority=0, weight=4.0),
    TrafficClass("b", (250.0, 1416.0), (0.5, 0.5), priority=1, weight=2.0),
    TrafficClass("c", exponential=True, priority=2),
)
BURSTS = (
    TrafficClass("a", priority=0, weight=2.0, arrivals=Arrivals.ON_OFF, on_s=0.05, off_s=0.05),
    TrafficClass("b", priority=1),
)
NAMES = {Scheduler.STRICT_PRIORITY: "strict-priority", Scheduler.WFQ: "wfq", Scheduler.DRR: "drr"}


def services(classes: tuple[TrafficClass, ...]) -> np.ndarray:
    return np.array([each.mean_octets * 8 / CAPACITY for each in classes])


def both(
    classes: tuple[TrafficClass, ...],
    work: tuple[float, ...],
    scheduler: Scheduler,
    room: float,
    flows: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Observed]:
    """(wait, variance, loss) as computed, and as simulated."""
    service = services(classes)
    rate = np.array(work) / service
    count = [flows if each.arrivals == Arrivals.ON_OFF else 1 for each in classes]
    delay, variance, loss = answer(
        classes, list(rate), list(rate**2 / count), buffer=room, scheduler=scheduler
    )  # fmt: skip
    offered = [
        Flow(rate[c] / count[c], each.arrivals.value, each.on_s, each.off_s,
             tuple(size * 8 / CAPACITY for size in each.sizes), each.exponential, c)
        for c, each in enumerate(classes)
        for _ in range(count[c])
    ]  # fmt: skip
    seen = scheduled(
        offered, discipline=NAMES[scheduler], places=10**6 if math.isinf(room) else int(room), until=60.0,
        seed=3, priorities=tuple(each.priority for each in classes),
        weights=tuple(each.weight for each in classes), quantum=1.5 * MS,
    )  # fmt: skip
    return delay - service, variance, loss, seen


def cobham(classes: tuple[TrafficClass, ...], work: tuple[float, ...]) -> list[float]:
    service = services(classes)
    half = sum(0.5 * w * s * (1 + each.size_scv) for w, s, each in zip(work, service, classes, strict=True))
    sums = np.concatenate([[0.0], np.cumsum(work)])
    return [half / ((1 - sums[k]) * (1 - sums[k + 1])) for k in range(len(classes))]


@pytest.mark.parametrize(
    ("classes", "work"), [(EQUAL, (0.3, 0.5)), (MIXED, (0.6, 0.3)), (THREE, (0.25, 0.3, 0.3))]
)
def test_endless_priority_queues_are_cobhams(
    classes: tuple[TrafficClass, ...], work: tuple[float, ...]
) -> None:
    rate = np.array(work) / services(classes)
    delay, _, loss = answer(classes, list(rate), buffer=math.inf, scheduler=Scheduler.STRICT_PRIORITY)
    assert delay - services(classes) == pytest.approx(cobham(classes, work))
    assert (loss == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    scheduler=st.sampled_from([Scheduler.STRICT_PRIORITY, Scheduler.WFQ, Scheduler.DRR]),
    work=st.tuples(st.floats(0.02, 0.32), st.floats(0.02, 0.32), st.floats(0.02, 0.32)),
    weights=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0.2, 5)),
)
def test_waits_keep_the_conservation_law(
    scheduler: Scheduler, work: tuple[float, ...], weights: tuple[float, ...]
) -> None:
    classes = tuple(
        replace(each, priority=c, weight=weights[c])
        for c, each in enumerate(THREE)
    )  # fmt: skip
    service = services(classes)
    delay, _, _ = answer(classes, list(np.array(work) / service), buffer=math.inf, scheduler=scheduler)
    half = sum(0.5 * w * s * (1 + each.size_scv) for w, s, each in zip(work, service, classes, strict=True))
    kept = float((np.array(work) * (delay - service)).sum())
    assert kept == pytest.approx(sum(work) * half / (1 - sum(work)), rel=1e-6)


@pytest.mark.parametrize(
    ("classes", "work"),
    [(EQUAL, (0.3, 0.5)), (MIXED, (0.2, 0.6)), (MIXED, (0.6, 0.2)), (THREE, (0.25, 0.3, 0.3)),
     (MIXED, (0.5, 0.8))],
)  # fmt: skip
def test_priority_agrees_with_a_simulated_link(
    classes: tuple[TrafficClass, ...], work: tuple[float, ...]
) -> None:
    wait, variance, loss, seen = both(classes, work, Scheduler.STRICT_PRIORITY, 32.0)
    for c in range(len(classes)):
        assert wait[c] == pytest.approx(seen.wait[c], abs=4 * seen.error[c] + 0.06 * seen.wait[c])
        assert variance[c] ** 0.5 == pytest.approx(seen.variance[c] ** 0.5, rel=0.25)
        assert loss[c] == pytest.approx(seen.loss[c], abs=0.01)


@pytest.mark.parametrize("scheduler", [Scheduler.WFQ, Scheduler.DRR])
@pytest.mark.parametrize(
    ("classes", "work"), [(EQUAL, (0.3, 0.5)), (MIXED, (0.2, 0.6)), (MIXED, (0.6, 0.2)), (MIXED, (0.5, 0.8)),
                          (MIXED, (1.2, 0.3))],
)  # fmt: skip
def test_sharing_agrees_with_a_simulated_link(
    scheduler: Scheduler, classes: tuple[TrafficClass, ...], work: tuple[float, ...]
) -> None:
    wait, _, loss, seen = both(classes, work, scheduler, 32.0)
    service = services(classes)
    for c in range(len(classes)):
        # A fluid approximation: within 15 % of the sojourn, where simple priority would be up to 400 % off.
        sojourn = seen.wait[c] + service[c]
        assert wait[c] + service[c] == pytest.approx(sojourn, abs=4 * seen.error[c] + 0.15 * sojourn)
        assert loss[c] == pytest.approx(seen.loss[c], abs=0.015)


def test_a_guaranteed_class_is_safe_from_bursts_and_overload_of_others() -> None:
    for scheduler in NAMES:
        wait, _, loss, seen = both(MIXED, (0.2, 2.0), scheduler, 32.0)
        assert loss[0] < 1e-6
        assert wait[0] < 1.5 * seen.wait[0]


def test_bursts_above_hold_up_those_below() -> None:
    wait, _, _, seen = both(BURSTS, (0.4, 0.4), Scheduler.STRICT_PRIORITY, 32.0, flows=8)
    calm = cobham(EQUAL, (0.4, 0.4))
    assert wait[0] == pytest.approx(seen.wait[0], rel=0.15)
    # A linear view of the higher class's rate: about a fifth short here, half of it without.
    assert 1.15 * calm[1] < wait[1] < 1.2 * seen.wait[1]


def test_equal_priorities_share_a_queue() -> None:
    alike = (TrafficClass("a", priority=2), TrafficClass("b", priority=2))
    ordered, _, _ = answer(alike, [300.0, 400.0], buffer=32.0)
    ranked, _, _ = answer(alike, [300.0, 400.0], buffer=32.0, scheduler=Scheduler.STRICT_PRIORITY)
    assert ranked == pytest.approx(ordered, rel=1e-4)  # tables of a gamma of no spread, or of one size


def test_water_filling_gives_what_is_left_by_weight() -> None:
    work, weight = np.array([0.1, 0.9, 2.0]), np.array([1.0, 1.0, 2.0])
    assert sharing_rate(0, work, weight) == pytest.approx(0.25)
    assert sharing_rate(1, work, weight) == pytest.approx(0.3)
    assert sharing_rate(2, work, weight) == pytest.approx(0.6)
    rate = np.zeros(3)
    sharing_rates(work, weight, rate)
    assert (rate >= [0.25, 0.3, 0.6]).all()
    assert (rate <= 1).all()


def test_a_starved_class_has_a_finite_delay_and_loses_nearly_all() -> None:
    service = services(MIXED)
    wait, _, loss = answer(MIXED, list(np.array([1.2, 0.05]) / service), scheduler=Scheduler.STRICT_PRIORITY)
    assert math.isfinite(wait[1])
    assert loss[1] > 0.9
