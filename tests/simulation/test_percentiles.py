"""High percentiles: against closed forms and against packets pushed through two queues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import TrafficClass
from domain_twin.simulation.percentiles import percentiles

TWO_SIZES = TrafficClass("two", (300.0, 1700.0), (0.5, 0.5))


def test_an_exponential_delay_has_the_percentiles_of_the_textbook() -> None:
    found = percentiles(1.5, 1.0, 0.5, (0.9, 0.95, 0.99))
    np.testing.assert_allclose(found, 0.5 - np.log([0.1, 0.05, 0.01]), rtol=1e-9)


def test_without_load_a_packet_takes_what_its_size_takes() -> None:
    size = 0.010
    found = percentiles(
        0.002 + size, TWO_SIZES.size_scv * size**2, 0.002, (0.75, 0.99), size_s=size, traffic_class=TWO_SIZES
    )
    np.testing.assert_allclose(found, 0.002 + size * 1.7, rtol=1e-9)


def test_a_pair_without_a_path_has_none() -> None:
    found = percentiles([np.nan, 2.0], [np.nan, 1.0], [np.nan, 0.0], (0.9,))
    assert np.isnan(found[0, 0])
    assert found[0, 1] > 2.0


@pytest.mark.parametrize("level", [0.5, 0.0, 1.0, float("nan"), -1.0])
def test_a_level_that_two_moments_do_not_tell_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="cannot be said"):
        percentiles(1.0, 1.0, 0.0, (level,))


@settings(deadline=None, max_examples=100)
@given(st.floats(1e-6, 10.0), st.floats(0.0, 10.0), st.floats(0.0, 1.0), st.floats(1e-6, 1.0), st.booleans())
def test_percentiles_rise_with_their_level_and_lie_above_the_floor(
    wait: float, variation: float, fixed: float, size: float, exponential: bool
) -> None:
    kind = TrafficClass("any", (100.0, 500.0, 1500.0), (0.2, 0.5, 0.3), exponential=exponential)
    variance = (variation * wait) ** 2 + kind.size_scv * size**2
    found = percentiles(
        fixed + size + wait, variance, fixed, (0.75, 0.9, 0.99), size_s=size, traffic_class=kind
    )
    assert np.isfinite(found).all()
    assert (np.diff(found) >= -1e-12 * found[1:]).all()
    assert found[0] >= fixed


def lindley(arrival: np.ndarray, service: np.ndarray) -> np.ndarray:
    """Departures of a single server without bound, packets in the order of their arrival."""
    work = np.concatenate([[0.0], np.cumsum(service)[:-1]])
    return np.maximum.accumulate(arrival - work) + work + service


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_percentiles_over_two_queues_are_those_of_packets(load: float) -> None:
    rng = np.random.default_rng(7)
    count = 400_000
    size = rng.choice(np.array(TWO_SIZES.sizes) / 1000.0, count)
    delay = np.zeros(count)
    arrival = np.cumsum(rng.exponential(1.0 / load, count))
    for _ in range(2):  # the second with fresh arrivals: waits are independent, sizes are not
        delay += lindley(arrival, size) - arrival
        arrival = np.cumsum(rng.exponential(1.0 / load, count))
        order = rng.permutation(count)  # another packet's neighbours
        size, delay = size[order], delay[order]

    found = percentiles(
        delay.mean(), delay.var(), 0.0, (0.9, 0.95, 0.99), size_s=2.0, traffic_class=TWO_SIZES
    )

    np.testing.assert_allclose(found, np.quantile(delay, (0.9, 0.95, 0.99)), rtol=0.06)
