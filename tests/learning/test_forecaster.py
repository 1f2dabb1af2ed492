"""The forecaster: the same for a seed, right slopes, better than naive rivals, and calm about poor data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models.forecaster import Forecaster, forecast, make, mean_of, predict
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Role, Task

TASK = Task(
    "load",
    features=(Feature("ndt:utilisation", "1"), Feature("ndt:one_way_delay", "ms", Role.INPUT)),
    lags=6,
    horizons=(1, 4),
    quantiles=(0.95, 0.05, 0.5),
    learning_rate=3e-3,
    settings={"hidden": 12},
)


def panel(seed: int = 0, steps: int = 400, elements: int = 2) -> Panel:
    """Waves of 40 steps with noise, each element of its own size."""
    rng = np.random.default_rng(seed)
    at = np.arange(steps)[None, :, None]
    wave = 10 + 6 * np.sin(2 * np.pi * at / 40 + np.arange(elements)[:, None, None])
    values = 10.0 ** np.arange(elements)[:, None, None] * (wave + rng.normal(0, 0.5, (elements, steps, 2)))
    names = tuple(f"link-{index}" for index in range(elements))
    kpis = tuple(feature.kpi for feature in TASK.features)
    return Panel(names, kpis, values, 0, TASK.step_s, round(steps * 0.8))


def trained(held: Panel, rounds: int, task: Task = TASK) -> Arrays:
    made = make(task)
    arrays = made.initial(np.random.default_rng(0))
    for round_ in range(rounds):
        arrays = made.train(arrays, held, np.random.default_rng(round_)).arrays
    return arrays


@pytest.fixture(scope="module")
def model() -> tuple[Panel, Arrays]:
    held = panel()
    return held, trained(held, 12)


def test_it_errs_less_than_naive_rivals(model: tuple[Panel, Arrays]) -> None:
    held, arrays = model

    scores = make(TASK).evaluate(arrays, held)

    rivals = [value for name, value in scores.items() if name.startswith("naive:")]
    assert len(rivals) >= 5
    assert scores["loss"] < 0.8 * min(rivals)
    assert scores["nmae"] < 0.8 * min(v for name, v in scores.items() if name.startswith("nmae:"))
    assert 0.75 < scores["coverage"] <= 1.0


def test_a_model_serves_a_domain_that_it_never_saw(model: tuple[Panel, Arrays]) -> None:
    other = panel(seed=5, elements=3)

    scores = make(TASK).evaluate(model[1], other)

    assert scores["loss"] < min(value for name, value in scores.items() if name.startswith("naive:"))


def test_a_seed_gives_the_same_arrays() -> None:
    held = panel(steps=120)

    first, second = trained(held, 2), trained(replace(held), 2)

    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert array.dtype == np.float32


def test_a_forecast_is_in_units_and_in_order(model: tuple[Panel, Arrays]) -> None:
    held, arrays = model

    made = forecast(arrays, TASK, held)

    assert made.elements == held.elements
    assert made.targets == ("ndt:utilisation",)
    assert made.units == ("1",)
    assert made.horizons_s == (60.0, 240.0)
    assert made.levels == (0.05, 0.5, 0.95)
    assert made.at == held.steps * 60 * 10**9
    assert made.quantiles.shape == (2, 1, 2, 3)
    assert (np.diff(made.quantiles, axis=-1) >= 0).all()
    assert 2 < made.quantiles[0, 0, 0, 1] < 18
    assert 20 < made.quantiles[1, 0, 0, 1] < 180
    assert ((made.mean > made.quantiles[..., 0]) & (made.mean < made.quantiles[..., -1])).all()


def test_a_forecast_of_the_past_is_what_it_was_then(model: tuple[Panel, Arrays]) -> None:
    held, arrays = model
    earlier = replace(held, values=held.values[:, :350].copy())

    then = forecast(arrays, TASK, earlier)
    quantiles, mean = predict(arrays, TASK, held, np.arange(2), np.array([349, 349]))

    levels = [make(TASK).levels.index(level) for level in then.levels]
    np.testing.assert_allclose(quantiles[..., levels], then.quantiles, rtol=1e-6)
    np.testing.assert_allclose(mean, then.mean, rtol=1e-6)


def test_of_an_element_that_fell_silent_nothing_is_foretold(model: tuple[Panel, Arrays]) -> None:
    held, arrays = model
    values = held.values.copy()
    values[0, -TASK.lags :, 0] = np.nan

    made = forecast(arrays, TASK, replace(held, values=values))

    assert np.isnan(made.quantiles[0]).all()
    assert np.isnan(made.mean[0]).all()
    assert np.isfinite(made.quantiles[1]).all()


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_a_constant_series_is_foretold_as_itself(level: float) -> None:
    held = panel(steps=200)
    held = replace(held, values=np.full_like(held.values, level))

    arrays = trained(held, 4)
    made = forecast(arrays, TASK, held)

    assert all(np.isfinite(array).all() for array in arrays.values())
    np.testing.assert_allclose(made.quantiles[..., 1], level, atol=0.5)
    assert all(np.isfinite(value) for value in make(TASK).evaluate(arrays, held).values())


def test_gaps_do_not_stop_training() -> None:
    held = panel(steps=200)
    held.values[np.random.default_rng(1).random(held.values.shape) < 0.3] = np.nan

    made = make(TASK).train(trained(panel(steps=60), 1), held, np.random.default_rng(0))

    assert np.isfinite(made.metrics["loss"])
    assert all(np.isfinite(array).all() for array in made.arrays.values())


@pytest.mark.parametrize("values", [np.full((2, 200, 2), np.nan), np.ones((2, 20, 2))])
def test_too_little_to_train_on_is_said(values: np.ndarray) -> None:
    held = replace(panel(), values=values, holdout_from=round(values.shape[1] * 0.8))

    with pytest.raises(ContractError, match="windows of 6 steps to train on, 20 at least"):
        make(TASK).train(make(TASK).initial(np.random.default_rng(0)), held, np.random.default_rng(0))


def test_a_holdout_without_a_window_is_said() -> None:
    held = replace(panel(steps=100), holdout_from=98)

    with pytest.raises(ContractError, match="0 windows of 6 steps in the holdout of 2 steps"):
        make(TASK).evaluate(make(TASK).initial(np.random.default_rng(0)), held)


def test_a_history_shorter_than_the_lags_is_said(model: tuple[Panel, Arrays]) -> None:
    held = replace(panel(steps=400), values=panel().values[:, :5], holdout_from=5)

    with pytest.raises(ContractError, match=r"reads 6 steps of 60 s; 5 are known"):
        forecast(model[1], TASK, held)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"layers": 3.0}, "does not know layers; it knows hidden, decay"),
        ({"hidden": 0.0}, "setting 'hidden' is 0.0; a number from 1 to 1024"),
        ({"hidden": "many"}, "setting 'hidden' is 'many'"),
        ({"hidden": 1e9}, "setting 'hidden' is 1000000000.0"),
        ({"decay": -1.0}, "setting 'decay' is -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float | str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        learner(replace(TASK, settings=settings))


def test_a_task_without_target_is_refused() -> None:
    features = tuple(replace(feature, role=Role.INPUT) for feature in TASK.features)

    with pytest.raises(ConfigError, match="none of its features has the role `target`"):
        make(replace(TASK, features=features))


def test_slopes_are_those_of_the_loss_record_by_record() -> None:
    made = make(replace(TASK, settings={"hidden": 3}))
    rng = np.random.default_rng(0)
    records = {name: array[:7].astype(float) for name, array in made.records(panel(steps=80)).items()}
    # Far from the quantiles, where the loss has a kink that training rounds off.
    records["truth"] = rng.choice([-6.0, 6.0], records["truth"].shape)
    records["truth"][2, 0] = np.nan
    arrays = {
        name: array.astype(float) + rng.normal(0, 0.1, array.shape)
        for name, array in made.initial(rng).items()
    }

    _, slopes = made.gradients(arrays, records)

    for name, array in arrays.items():
        along = rng.normal(0, 1, array.shape)
        expected = _slope_along(made, arrays, records, name, along)
        found = (slopes[name].reshape(7, -1) * along.ravel()).sum(axis=1)
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def _slope_along(
    made: Forecaster, arrays: Arrays, records: dict[str, np.ndarray], name: str, along: np.ndarray
) -> np.ndarray:
    """Finite differences of every record's loss, times the outputs known of it."""
    step = 2e-2  # losses are single precision
    losses = [
        made.gradients({**arrays, name: arrays[name] + sign * step * along}, records)[0] for sign in (1, -1)
    ]
    known = np.isfinite(records["truth"]).sum(axis=1) * len(made.levels)
    slope: np.ndarray = (losses[0] - losses[1]) / (2 * step) * known
    return slope


def test_the_mean_weighs_quantiles_by_what_they_stand_for() -> None:
    levels = tuple(np.arange(1, 100) / 100)
    quantiles = -np.log(1 - np.array(levels))  # of an exponential distribution with the mean 1

    assert mean_of(quantiles, levels) == pytest.approx(1, abs=0.03)
    assert mean_of(np.array([1.0, 2.0, 3.0]), (0.05, 0.5, 0.95)) == pytest.approx(2)
