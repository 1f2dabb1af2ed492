"""What a forecaster reads: never what comes later, on the element's own scale, and back in units."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.learning.panel import Panel
from domain_twin.learning.scaling import local_scale
from domain_twin.learning.task import Feature, Role, Task
from domain_twin.learning.windows import Windows, ewma, width, windows_of

TASK = Task(
    "load",
    features=(Feature("ndt:utilisation", "1"), Feature("ndt:one_way_delay", "ms", Role.INPUT)),
    step_s=3600.0,
    lags=4,
    horizons=(1, 3),
)


def panel(steps: int = 120, elements: int = 2, seed: int = 0, holdout: float = 0.2) -> Panel:
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, 1, (elements, steps, 2)))
    values[rng.random(values.shape) < 0.1] = np.nan
    names = tuple(f"link-{index}" for index in range(elements))
    kpis = tuple(feature.kpi for feature in TASK.features)
    return Panel(names, kpis, values, 0, TASK.step_s, round(steps * (1 - holdout)))


@settings(max_examples=25)
@given(at=st.integers(3, 116), seed=st.integers(0, 5))
def test_nothing_that_comes_later_is_read(at: int, seed: int) -> None:
    before = panel(seed=seed)
    changed = before.values.copy()
    changed[:, at + 1 :] = 1e6
    after = replace(before, values=changed)
    scale = local_scale(before.training())
    elements, steps = np.array([0, 1]), np.array([at, at])

    first, second = Windows(TASK, before, scale), Windows(TASK, after, scale)

    np.testing.assert_array_equal(first.inputs(elements, steps), second.inputs(elements, steps))
    np.testing.assert_array_equal(first.candidates(elements, steps), second.candidates(elements, steps))
    np.testing.assert_array_equal(first.base[:, at], second.base[:, at])


def test_a_horizon_of_more_than_a_day_reads_older_days() -> None:
    task = replace(TASK, horizons=(1, 30))
    before = panel()
    changed = before.values.copy()
    changed[:, 81:] = 1e6
    scale = local_scale(before.training())
    elements, steps = np.array([0, 1]), np.array([80, 80])

    first = Windows(task, before, scale).candidates(elements, steps)
    second = Windows(task, replace(before, values=changed), scale).candidates(elements, steps)

    np.testing.assert_array_equal(first, second)
    assert (first[..., 1, -2] != 0).all()


def test_a_window_is_as_long_as_is_said_and_finite() -> None:
    windows = Windows(TASK, panel())

    read = windows.inputs(*windows.steps(holdout=False))

    assert read.shape[1] == width(TASK)
    assert np.isfinite(read).all()
    assert np.abs(read).max() <= 3


def test_what_is_foretold_comes_back_in_units() -> None:
    held = panel()
    windows = Windows(TASK, held)
    elements, steps = windows.steps(holdout=False)

    units = windows.to_units(windows.ahead(elements, steps), elements, steps)

    truth = held.values[elements[:, None], steps[:, None] + np.array(TASK.horizons), 0]
    np.testing.assert_allclose(units[:, 0], truth)
    np.testing.assert_allclose(windows.to_relative(units, elements, steps), windows.ahead(elements, steps))


def test_no_horizon_of_training_reaches_into_the_holdout() -> None:
    held = panel()
    windows = Windows(TASK, held)

    _, training = windows.steps(holdout=False)
    _, judged = windows.steps(holdout=True)

    assert training.max() + max(TASK.horizons) == held.holdout_from - 1
    assert judged.min() + min(TASK.horizons) == held.holdout_from
    assert judged.max() + max(TASK.horizons) == held.steps - 1


def test_windows_of_which_too_little_is_known_are_left_out() -> None:
    held = panel()
    held.values[0, 20:30] = np.nan

    elements, steps = Windows(TASK, held).steps(holdout=False)

    assert not set(range(24, 30)) & set(steps[elements == 0].tolist())
    assert set(range(24, 27)) & set(steps[elements == 1].tolist())


def test_the_daily_shape_is_known_from_the_second_day_on() -> None:
    held = panel()
    wave = 5 + np.sin(2 * np.pi * np.arange(held.steps) / 24)
    held.values[:] = wave[None, :, None]
    windows = Windows(TASK, held)

    first = windows.candidates(np.array([0]), np.array([12]))[0, 0, :, -2:]
    later = windows.candidates(np.array([0]), np.array([60]))[0, 0, :, -2]

    np.testing.assert_array_equal(first, 0)
    np.testing.assert_allclose(later, windows.ahead(np.array([0]), np.array([60]))[0, 0], atol=1e-5)


def test_scales_of_nothing_and_of_one_value_are_neutral() -> None:
    values = np.full((1, 50, 2), np.nan)
    values[0, :, 1] = 7.0

    scale = local_scale(values)

    assert np.isfinite(scale.to_z(values)[0, :, 1]).all()
    np.testing.assert_array_equal(scale.spread, 1.0)
    np.testing.assert_array_equal(scale.unit, [[1.0, 7.0]])


def test_a_level_forgets_by_half_and_skips_what_is_missing() -> None:
    values = np.array([8.0, np.nan, 2.0])[None, :, None]

    level = ewma(values, 1.0)[0, :, 0]

    np.testing.assert_allclose(level, [8.0, 8.0, (8 / 4 + 2) / (1 / 4 + 1)])


@pytest.mark.parametrize("change", [{"features": ("ndt:utilisation", "ndt:loss_ratio")}, {"step_s": 60.0}])
def test_a_panel_of_another_form_is_refused(change: dict[str, object]) -> None:
    other = replace(panel(), **change)  # type: ignore[arg-type]

    with pytest.raises(ContractError, match="'load'"):
        Windows(TASK, other)


def test_windows_are_made_once_and_go_with_their_panel() -> None:
    held = panel()
    windows = windows_of(TASK, held)

    assert windows_of(TASK, held) is windows
    assert windows_of(replace(TASK, lags=5), held) is not windows

    from domain_twin.learning.windows import _KEPT

    kept = len(_KEPT)
    del held, windows
    gc.collect()
    assert len(_KEPT) < kept


def test_one_spike_is_cut_and_a_move_far_away_is_followed() -> None:
    held = panel(steps=200)
    held.values[:] = 10 + np.random.default_rng(1).normal(0, 0.01, held.values.shape)
    held.values[0, 170:] = 11.0  # a hundred spreads
    held.values[1, 170] = 11.0
    windows = Windows(TASK, held)

    level = windows.base[:, [169, 170, 199], 0]

    assert (np.abs(level[:, 0]) < 1).all()
    assert (np.abs(level[:, 1]) < 2).all()
    assert level[0, 2] > 50
    assert abs(level[1, 2]) < 1
