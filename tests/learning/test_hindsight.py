"""Forecasts looked back on: nothing of what came later is read, and measures are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_parts import TASK, panel

from domain_twin.agent.learning_face import element_hindsights
from domain_twin.errors import ContractError
from domain_twin.learning import hindsight as module
from domain_twin.learning.hindsight import hindsight
from domain_twin.learning.learner import Arrays
from domain_twin.learning.models.forecaster import forecast, make
from domain_twin.learning.panel import Panel
from federation.cli.learn.hindsight import judged
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.learning import ElementForecast, decode_forecast, encode_forecast

LOOKING = replace(TASK, horizons=(4, 2))
HELD = panel(3, elements=2)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    made = make(LOOKING)
    rng = np.random.default_rng(0)
    return made.train(made.initial(rng), HELD, rng).arrays


@pytest.mark.parametrize("back", [2, 9, 20])
def test_it_says_what_was_foretold_then_of_the_first_horizon(arrays: Arrays, back: int) -> None:
    looked = hindsight(arrays, LOOKING, HELD)
    then = replace_values(HELD, HELD.values[:, : HELD.steps - back])

    told = forecast(arrays, LOOKING, then)

    place = looked.times.index(told.at + round(looked.horizon_s * 1e9))
    np.testing.assert_allclose(looked.quantiles[:, :, place], told.quantiles[:, :, 1])
    assert looked.horizon_s == 2 * TASK.step_s
    # The value of the step that ends two steps after the last known one.
    np.testing.assert_array_equal(looked.truth[:, 0, place], HELD.values[:, HELD.steps - back + 1, 0])


def test_it_looks_back_over_the_holdout_and_no_further(arrays: Arrays) -> None:
    looked = hindsight(arrays, LOOKING, HELD)

    # The first forecast is made of the training part alone; the last comes true in the last step.
    assert len(looked.times) == HELD.steps - HELD.holdout_from - 1
    assert looked.times[0] == round((HELD.holdout_from + 2) * TASK.step_s * 1e9)
    assert looked.times[-1] == round(HELD.steps * TASK.step_s * 1e9)


def test_only_what_is_asked_for_and_what_fits_an_answer(
    arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 14)
    all_ = hindsight(arrays, LOOKING, HELD)
    one = hindsight(arrays, LOOKING, HELD, (HELD.elements[1],))

    assert (all_.truth.shape, one.truth.shape) == ((2, 1, 7), (1, 1, 14))
    assert one.elements == (HELD.elements[1],)
    np.testing.assert_array_equal(one.quantiles[0, :, -7:], all_.quantiles[1])


def test_a_holdout_of_no_length_is_said(arrays: Arrays) -> None:
    bare = Panel(HELD.elements, HELD.features, HELD.values, 0, HELD.step_s, HELD.steps)

    with pytest.raises(ContractError, match=r"nothing to look back on: the holdout has 0 steps of 60 s"):
        hindsight(arrays, LOOKING, bare)


def test_what_was_not_known_is_left_out(arrays: Arrays) -> None:
    values = HELD.values.copy()
    values[0, -1] = np.nan  # did not come true
    values[1, HELD.holdout_from : HELD.holdout_from + 12] = np.nan  # longer than the lags: nothing to go by
    found = {
        each.element: each
        for each in element_hindsights(hindsight(arrays, LOOKING, replace_values(HELD, values)))
    }

    first, second = (found[name] for name in HELD.elements)
    assert (len(first.times), len(first.values), len(first.truth)) == (30, 30, 30)
    assert first.times[0] - first.at == round(2 * TASK.step_s * 1e9)
    gap = [at for at in first.times if at not in second.times]
    # Twelve that did not come true, then those made of nothing: the window is of six steps.
    assert gap == [round((HELD.holdout_from + step) * 60e9) for step in range(2, 15)]


def test_measures_are_of_the_band_and_beside_the_last_value() -> None:
    at = 1_000
    told = ElementForecast(
        "l", "ndt:carried_rate", "Mbit/s", at, (1_001, 1_002, 1_003), (0.05, 0.5, 0.95),
        ((0.0, 1.0, 2.0), (0.0, 1.0, 2.0), (2.0, 3.0, 4.0)), (1.5, 3.0, 3.5),
    )  # fmt: skip

    found = judged(told)

    assert (found.times, found.inside, found.expected) == (3, 2 / 3, pytest.approx(0.9))
    assert (found.error, found.naive) == (pytest.approx((2.0 + 0.5) / 2), pytest.approx((1.5 + 0.5) / 2))
    assert decode_forecast(encode_forecast(told)) == told


def test_truths_that_fit_no_times_are_no_message() -> None:
    message = pb.Forecast(times=[1, 2], quantiles=[0.5], values=[1.0, 2.0], truth=[1.0])

    with pytest.raises(ContractError, match="1 truths for 2 times"):
        decode_forecast(message)


def replace_values(held: Panel, values: np.ndarray) -> Panel:
    return Panel(held.elements, held.features, values, held.start, held.step_s, held.holdout_from)
