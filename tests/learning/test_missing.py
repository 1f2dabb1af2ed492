"""Patterns of what is missing, lines over gaps, relaxation and medians that bear liars."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from domain_twin.learning.missing import (
    Pattern,
    draw_known,
    geometric_median,
    linear_fill,
    moments,
    patterns_of,
    relax,
)


@given(arrays(np.bool_, (2, 9, 3)), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_linear_fill_keeps_what_is_known_and_is_the_line_of_numpy(known: np.ndarray, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=known.shape)

    filled = linear_fill(values, known)

    steps = np.arange(9)
    for window in range(2):
        for feature in range(3):
            there = known[window, :, feature]
            wanted = (
                np.interp(steps, steps[there], values[window, there, feature]) if there.any() else np.zeros(9)
            )
            np.testing.assert_allclose(filled[window, :, feature], wanted, atol=1e-12)


def test_patterns_say_how_a_value_is_missing() -> None:
    known = np.ones((1, 12, 2), bool)
    known[0, 1, 0] = False
    known[0, 3:7, 0] = False
    known[0, 8:, 1] = False

    kinds = patterns_of(known)[0]

    assert kinds[1, 0] == Pattern.POINT
    assert (kinds[3:7, 0] == Pattern.PARTIAL).all()
    assert (kinds[8:, 1] == Pattern.OPEN_PARTIAL).all()
    assert (kinds[known[0]] == -1).all()
    outage = np.ones((1, 12, 2), bool)
    outage[0, 3:7] = False
    assert (patterns_of(outage)[0, 3:7] == Pattern.OUTAGE).all()


def test_drawn_masks_hide_something_and_have_open_gaps() -> None:
    known = draw_known((400, 12, 3), np.random.default_rng(0))

    assert 0.03 < (~known).mean() < 0.5
    assert set(patterns_of(known)[~known].tolist()) >= {Pattern.POINT, Pattern.OPEN_PARTIAL, Pattern.OUTAGE}


def test_relaxation_finds_a_kpi_from_another_that_moves_with_it() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 20, 1))
    windows = np.concatenate([common, 0.8 * common, rng.normal(size=common.shape)], axis=2)
    known = np.ones(windows.shape, bool)
    known[:, 6:14, 1] = False

    found = relax(windows, known, *moments(windows))

    relaxed, line = (np.abs(x - windows)[~known].mean() for x in (found, linear_fill(windows, known)))
    assert relaxed < 0.2 * line
    np.testing.assert_array_equal(found[known], windows[known])


def test_relaxation_stays_finite_with_moments_that_cannot_be() -> None:
    windows = np.random.default_rng(0).normal(size=(4, 10, 2))
    known = np.ones(windows.shape, bool)
    known[:, 3:6] = False
    second = np.full((10, 10), -50.0)

    assert np.isfinite(relax(windows, known, np.full(10, 9.0), second)).all()


def test_geometric_median_bears_one_liar_of_three() -> None:
    honest = np.random.default_rng(0).normal(1.0, 0.01, (2, 30))

    middle = geometric_median(np.vstack([honest, np.full((1, 30), -1000.0)]))

    assert np.abs(middle - 1.0).max() < 0.1
