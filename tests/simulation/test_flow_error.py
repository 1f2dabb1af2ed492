"""What a flow's interval has in it beside the errors of elements, and how those of parts add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.simulation.learned.flow_error import FLOW_ERROR, LEAST_PPS, OVER_S, Z90, across, noise_s

LENGTHS = st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=6)


def test_few_packets_do_not_widen_an_interval_without_end() -> None:
    assert noise_s(4e-6, 100.0) == pytest.approx(2e-4)
    assert noise_s(4e-6, 1e-3) == noise_s(4e-6, LEAST_PPS) == noise_s(4e-6, 0.0)
    assert noise_s(-1e-12, 5.0) == 0.0


@given(LENGTHS, st.floats(0.0, 0.2), st.floats(0.0, 1e-4), st.floats(0.0, 1e4))
def test_a_way_cut_into_parts_is_as_uncertain_as_in_one_piece(
    delays: list[float], elements: float, variance: float, rate: float
) -> None:
    """Parts as domains say them: the errors of their elements and FLOW_ERROR, in squares."""
    own = [(elements * d) ** 2 for d in delays]
    parts = sum(e + (Z90 * FLOW_ERROR * d) ** 2 for e, d in zip(own, delays, strict=True))
    whole = sum(delays)

    half = across(
        np.array([parts]),
        np.array([whole]),
        np.array([sum(d * d for d in delays)]),
        variance_s2=np.array([variance]),
        arrivals_per_s=np.array([rate]),
    )

    noise = Z90 * float(noise_s(variance, rate)) / math.sqrt(OVER_S)
    assert half[0] == pytest.approx(
        math.hypot(math.sqrt(sum(own)), Z90 * FLOW_ERROR * whole, noise), rel=1e-6
    )


def test_a_part_without_an_interval_leaves_the_way_without_one() -> None:
    one = np.ones(1)

    assert np.isnan(across(one * np.nan, one, one, variance_s2=one, arrivals_per_s=one)).all()
    assert np.isfinite(across(one, one, one, variance_s2=one * np.nan, arrivals_per_s=one)).all()
