"""Forecasts that follow drift: what was not known yet changes nothing, bands hold, bad ones lose weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.learning.adapting import Known, around, known_at, pinball, shares
from domain_twin.learning.models import followed as module
from domain_twin.learning.models.followed import Followed, naive_scores
from domain_twin.learning.models.forecaster import make
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Task
from domain_twin.learning.windows import windows_of

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
HORIZONS = np.array([3, 1])
TASK = Task("load", features=(Feature("ndt:utilisation", "1"),), lags=4, horizons=(1, 5))


def known(seed: int, elements: int = 6, steps: int = 300, counted_from: int = 0) -> Known:
    """Noise that is four times as large in the second half; some of it is not known."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1, (elements, steps, 1, len(HORIZONS)))
    truth[:, steps // 2 :] *= 4
    truth[rng.random(truth.shape) < 0.05] = np.nan
    return Known(truth, HORIZONS, LEVELS, counted_from)


def drifting(steps: int = 400) -> Panel:
    """Three elements that wander much further, and four times as fast, in the last quarter."""
    rng = np.random.default_rng(4)
    pace = np.where(np.arange(steps) < 0.75 * steps, 0.2, 0.8)[:, None]
    values = 20 + np.cumsum(rng.normal(0.1, 1, (3, steps, 1)) * pace, axis=1)
    return Panel(("a", "b", "c"), ("ndt:utilisation",), values, 0, TASK.step_s, round(0.75 * steps))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), at=st.integers(1, 298))
def test_what_comes_true_later_changes_nothing(seed: int, at: int) -> None:
    whole = known(seed)
    later = replace(whole, truth=whole.truth.copy())
    for place, horizon in enumerate(HORIZONS):
        later.truth[:, max(0, at + 1 - horizon) :, :, place] += 100.0
    centre = np.zeros_like(whole.truth)
    made, other = (around(centre, one) for one in (whole, later))

    np.testing.assert_array_equal(made[:, : at + 1], other[:, : at + 1])
    assert not np.array_equal(made, other)
    assert (np.diff(made, axis=-1) >= 0).all()
    weights = [
        shares([pinball(each, one.truth, LEVELS) for each in (made, made + 2)], (0.5, 0.5), one)
        for one in (whole, later)
    ]
    np.testing.assert_array_equal(weights[0][:, :, : at + 1], weights[1][:, :, : at + 1])
    np.testing.assert_allclose(weights[0].sum(axis=0), 1.0)


def test_bands_hold_when_errors_grow() -> None:
    one = known(1)
    made = around(np.zeros_like(one.truth), one)

    inside = (one.truth >= made[..., 0]) & (one.truth <= made[..., -1])
    for part in (slice(60, 150), slice(200, 300)):
        assert 0.85 < inside[:, part][np.isfinite(one.truth[:, part])].mean() < 0.95
    assert (made[:, 250, ..., -1] > 2.5 * made[:, 140, ..., -1]).all()


def test_who_errs_more_loses_weight_by_what_counts_only() -> None:
    one = known(2, counted_from=100)
    better, worse = np.full_like(one.truth, 1.0), np.full_like(one.truth, 1.0)
    worse[:, 120:] = 2.0
    better[:, :50], worse[:, :50] = 9.0, 0.1  # of what a model was trained on

    first = shares([better, worse], (0.7, 0.3), one)[0]

    np.testing.assert_allclose(first[:, :121], 0.7)
    assert (first[:, 250] > 0.95).all()


def test_until_a_far_truth_is_known_nearer_ones_tell_of_it() -> None:
    one = replace(known(3), horizons=np.array([200, 1]))
    losses = [np.full_like(one.truth, 1.0), np.full_like(one.truth, 3.0)]

    first = shares(losses, (0.5, 0.5), one)[0]

    assert (first[:, 0] == 0.5).all()
    assert (first[:, 40] > 0.9).all()


def test_errors_are_known_when_they_come_true() -> None:
    made = np.arange(10.0).reshape(1, 5, 1, 2)

    late = known_at(made, HORIZONS)

    np.testing.assert_array_equal(late[0, :, 0, 0], [np.nan, np.nan, np.nan, 0, 2])
    np.testing.assert_array_equal(late[0, :, 0, 1], [np.nan, 1, 3, 5, 7])


def test_a_model_that_is_lost_is_made_up_for_and_seen() -> None:
    held, made = drifting(), make(TASK)
    arrays = made.initial(np.random.default_rng(0))
    arrays["out_bias"] += np.float32(3.0)

    scores = made.evaluate(arrays, held)

    rivals = {name: value for name, value in scores.items() if name.startswith("naive:")}
    assert {"naive:persistence", "naive:persistence-adaptive", "naive:mix"} <= set(rivals)
    assert scores["raw"] > 2 * scores["loss"]
    assert scores["loss"] < 1.2 * min(rivals.values())
    assert scores["raw_coverage"] < 0.5 < 0.8 < scores["coverage"] < 0.97
    assert rivals["naive:persistence-adaptive"] < 1.1 * rivals["naive:persistence"]


def test_blocks_of_elements_are_judged_as_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    held, made = drifting(200), make(TASK)
    arrays = made.initial(np.random.default_rng(0))
    one = Panel(held.elements[2:], held.features, held.values[2:], 0, held.step_s, held.holdout_from)
    alone = made.followed(arrays, windows_of(TASK, one)).at(np.zeros(9, np.intp), np.arange(190, 199))
    monkeypatch.setattr(module, "_NUMBERS", 1)

    windows = windows_of(TASK, held)
    elements, steps = np.repeat([2, 0, 2], 9), np.tile(np.arange(190, 199), 3)
    used, raw = Followed(windows, made.levels, lambda *at: made.relative(arrays, windows, *at)).at(
        elements, steps
    )
    scores = naive_scores(windows, made.levels)

    np.testing.assert_allclose(used[:9], alone[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(raw[18:], alone[1], rtol=1e-5, atol=1e-6)
    assert scores["nmae:mean-3-adaptive"] == pytest.approx(scores["nmae:mean-3"])
