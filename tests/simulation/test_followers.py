"""Pairs of packets on the same links: the closed form beside packets sent one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import network

from domain_twin.simulation.flows import Flows, solve_flows
from domain_twin.simulation.graph import Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.learned.followers import Followers, follow

MIX = (TrafficClass("mix", (40.0, 200.0), (0.6, 0.4)),)
RATES = np.array([10e3, 25e3, 10e3, 40e3])  # bit/s


def chain(hops: int = 4, classes: tuple[TrafficClass, ...] = MIX) -> SimGraph:
    graph = network(hops + 1, [(i, i + 1, 1.0) for i in range(hops)], classes=classes)
    return replace(graph, capacity_bps=RATES[:hops].copy())


def followed(graph: SimGraph, flows: Flows) -> Followers:
    return follow(graph, flows, solve_flows(graph, flows).hops)


def waits_of_second(first: float, second: float, gap: float, rates: np.ndarray) -> np.ndarray:
    """Two packets (bits) sent `gap` seconds apart over the links, one by one."""
    free, times, waits = 0.0, np.array([0.0, gap]), []
    for rate in rates:
        free = times[0] + first / rate
        start = max(times[1], free)
        waits.append(start - times[1])
        times = np.array([free, start + second / rate])
    return np.array(waits)


def by_hand(rate_pps: float, rates: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same figures by summing over gaps: wait, square, with size, with earlier; minus independent."""
    sizes, chances = (320.0, 1600.0), (0.6, 0.4)
    mean = 0.6 * 320 + 0.4 * 1600
    step = 2e-4
    gaps = np.arange(0.0, 1.2, step) + step / 2
    count = len(rates)
    wait, square, size, earlier = (np.zeros(count) for _ in range(4))
    for first, p in zip(sizes, chances, strict=True):
        for second, q in zip(sizes, chances, strict=True):
            share = rate_pps * p * q * step
            waits = np.array([waits_of_second(first, second, gap, rates) for gap in gaps])
            wait += share * waits.sum(axis=0)
            square += share * (waits**2).sum(axis=0)
            size += share * (second - mean) * waits.sum(axis=0)
            for link in range(1, count):
                earlier[link] += 2 * share * (waits[:, link] * waits[:, :link].sum(axis=1)).sum()
        served = first / rates
        wait -= rate_pps * p * served**2 / 2
        square -= rate_pps * p * served**3 / 3
    return wait, square, size, earlier


def test_the_closed_form_is_what_pairs_of_packets_do() -> None:
    graph = chain()
    flows = Flows.of([(0, 4)], [[0, 1, 2, 3]], [0.5])

    found = followed(graph, flows)

    wait, square, size, earlier = by_hand(0.5, RATES)
    np.testing.assert_allclose(found.wait_s[1:], wait[1:], rtol=5e-3, atol=1e-7)
    np.testing.assert_allclose(found.square_s2[1:], square[1:], rtol=5e-3, atol=1e-8)
    np.testing.assert_allclose(found.with_size_bits_s[1:], size[1:], rtol=5e-3, atol=1e-4)
    np.testing.assert_allclose(found.with_earlier_s2[1:], earlier[1:], rtol=5e-3, atol=1e-8)
    assert (found.with_size_bits_s[1:] < 0).all()  # it is the short ones that wait for the long ones


def test_at_the_first_shared_link_packets_are_independent() -> None:
    found = followed(chain(2), Flows.of([(0, 1), (0, 1), (1, 2)], [[0], [0], [1]], [1.0, 1.0, 1.0]))

    for figures in (found.wait_s, found.square_s2, found.with_size_bits_s, found.with_earlier_s2):
        assert (figures == 0).all()


def test_flows_count_from_the_link_where_they_meet() -> None:
    graph = chain(3)
    # The second flow shares links 1 and 2 with the first, and so is like a chain that begins at link 1.
    both = followed(graph, Flows.of([(0, 3), (1, 3)], [[0, 1, 2], [1, 2]], [1e-9, 0.5]))
    alone = followed(graph, Flows.of([(1, 3)], [[1, 2]], [0.5]))

    assert both.wait_s[2] == pytest.approx(alone.wait_s[1], rel=1e-6)
    assert both.with_earlier_s2[2] == pytest.approx(alone.with_earlier_s2[1], rel=1e-6)
    assert both.wait_s[1] == pytest.approx(0.0, abs=1e-9)


def test_flows_of_one_path_count_as_their_sum() -> None:
    graph = chain(3)
    split = followed(graph, Flows.of([(0, 3), (0, 3)], [[0, 1, 2]] * 2, [0.2, 0.3]))
    whole = followed(graph, Flows.of([(0, 3)], [[0, 1, 2]], [0.5]))

    np.testing.assert_allclose(split.wait_s[:3], whole.wait_s, rtol=1e-12)
    np.testing.assert_allclose(split.with_earlier_s2[3:], whole.with_earlier_s2, rtol=1e-12)


def test_classes_with_the_same_sizes_count_as_one() -> None:
    twice = chain(3, classes=(*MIX, replace(MIX[0], name="again")))
    two = followed(twice, Flows.of([(0, 3), (0, 3)], [[0, 1, 2]] * 2, [0.2, 0.3], [0, 1]))
    one = followed(chain(3), Flows.of([(0, 3), (0, 3)], [[0, 1, 2]] * 2, [0.2, 0.3]))

    np.testing.assert_allclose(two.wait_s, one.wait_s, rtol=1e-12)
    np.testing.assert_allclose(two.with_size_bits_s, one.with_size_bits_s, rtol=1e-12)


def test_equal_sizes_at_equal_speed_wait_for_each_other_only_once() -> None:
    graph = replace(chain(3, classes=(TrafficClass("one", (100.0,)),)), capacity_bps=np.full(3, 1e4))

    found = followed(graph, Flows.of([(0, 3)], [[0, 1, 2]], [0.5]))

    served = 800 / 1e4
    np.testing.assert_allclose(found.wait_s[1:], -0.5 * served**2 / 2)


def test_a_fixed_delay_in_between_changes_nothing() -> None:
    plain = followed(chain(3), Flows.of([(0, 3)], [[0, 1, 2]], [0.5]))
    graph = network(5, [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 0.0), (3, 4, 1.0)], classes=MIX)
    graph = replace(graph, capacity_bps=np.array([RATES[0], RATES[1], 1.0, RATES[2]]))

    split = followed(graph, Flows.of([(0, 4)], [[0, 1, 2, 3]], [0.5]))

    assert split.wait_s[3] == pytest.approx(plain.wait_s[2], rel=1e-12)
    assert split.with_earlier_s2[3] == pytest.approx(plain.with_earlier_s2[2], rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": np.array([0, Scheduler.WFQ, 0], np.int8)},
        {"law": np.array([Law.LINK, Law.CELL, Law.LINK], np.int8)},
    ],
)
def test_what_is_not_served_in_order_ends_a_run(change: dict[str, np.ndarray]) -> None:
    found = followed(replace(chain(3), **change), Flows.of([(0, 3)], [[0, 1, 2]], [0.5]))

    assert (found.wait_s == 0).all()
    assert (found.with_earlier_s2 == 0).all()


def test_exponential_sizes_are_followed_too() -> None:
    graph = chain(3, classes=(TrafficClass("exp", (100.0,), exponential=True),))

    found = followed(graph, Flows.of([(0, 3)], [[0, 1, 2]], [0.5]))

    assert np.isfinite(found.wait_s).all()
    assert (found.with_size_bits_s[1:] < 0).all()
