"""Training with noise: gradients of single records, clipping of every record, noise as accounted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_parts import TASK, panel
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.dpsgd import _clipped_sum, _noisy_mean, plan_of, private, train_private
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.ledger import BudgetSpent, Ledger, Plan
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Kind, Privacy, Profile, Task

TOLD = replace(TASK, profile=Profile.PRIVATE, privacy=Privacy(epsilon=8.0), quantiles=(0.1, 0.5, 0.9))


class Line:
    """y = w x, by squares: gradients that can be written down."""

    def records(self, panel: Panel) -> dict[str, NDArray[Any]]:
        return {"x": panel.values[0, :, 0], "y": panel.values[0, :, 1]}

    def gradients(self, arrays: Arrays, records: Any) -> tuple[NDArray[Any], Arrays]:
        errors = arrays["w"] * records["x"] - records["y"]
        return errors**2, {"w": (2 * errors * records["x"])[:, None]}


def test_forecasters_gradients_are_of_single_records() -> None:
    model = private(TOLD, learner(TOLD))
    records = {name: array[30:60] for name, array in model.records(panel(1)).items()}
    arrays = model.initial(np.random.default_rng(3))

    losses, together = model.gradients(arrays, records)

    assert losses.shape == (30,)
    for at in (0, 17, 29):
        alone = {name: array[at : at + 1] for name, array in records.items()}
        loss, gradients = model.gradients(arrays, alone)
        assert loss[0] == pytest.approx(losses[at])
        for name, gradient in gradients.items():
            assert gradient.shape == (1, *arrays[name].shape)
            np.testing.assert_allclose(gradient[0], together[name][at], rtol=1e-4, atol=1e-6)


def test_forecasters_gradients_lead_downhill() -> None:
    model = private(TOLD, learner(TOLD))
    records = model.records(panel(1))
    arrays = model.initial(np.random.default_rng(3))

    before, gradients = model.gradients(arrays, records)
    after, _ = model.gradients(
        {name: array - 1e-3 * gradients[name].mean(axis=0) for name, array in arrays.items()}, records
    )

    assert after.mean() < before.mean()


@settings(max_examples=40, deadline=None)
@given(
    xs=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=300),
    clip=st.floats(0.01, 10.0),
    other=st.floats(-1e9, 1e9),
)
def test_one_record_changes_the_sum_by_no_more_than_the_clip(
    xs: list[float], clip: float, other: float
) -> None:
    records = {"x": np.array(xs), "y": np.ones(len(xs))}
    without = np.arange(1, len(xs))
    records["x"][0] = other

    all_of_them = _clipped_sum(Line(), {"w": np.array([0.5])}, records, np.arange(len(xs)), clip)  # type: ignore[arg-type]
    the_rest = _clipped_sum(Line(), {"w": np.array([0.5])}, records, without, clip)  # type: ignore[arg-type]

    assert abs(float(all_of_them["w"][0] - the_rest["w"][0])) <= clip * (1 + 1e-6) + 1e-6 * len(xs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_record_without_a_finite_gradient_is_left_out(value: float) -> None:
    records = {"x": np.array([1.0, value, 2.0]), "y": np.ones(3)}

    with np.errstate(invalid="ignore"):
        total = _clipped_sum(Line(), {"w": np.array([0.5])}, records, np.arange(3), 1.0)  # type: ignore[arg-type]

    assert np.isfinite(total["w"]).all()


def test_step_that_takes_nobody_knows_the_shapes() -> None:
    told = replace(TOLD, batch=1, epochs=1)
    model = private(told, learner(told))
    start = model.initial(np.random.default_rng(0))
    records = {name: array[:1].repeat(64, axis=0) for name, array in model.records(panel(1)).items()}

    total = _clipped_sum(model, start, records, np.array([], np.intp), 1.0)

    assert {name: array.shape for name, array in total.items()} == {
        name: array.shape for name, array in start.items()
    }
    assert all((array == 0).all() for array in total.values())


def test_noise_is_as_large_as_it_is_accounted_for() -> None:
    privacy = Privacy(noise_multiplier=3.0, clip_norm=0.5)
    nothing = {"a": np.zeros((100, 100)), "b": np.zeros(10_000)}

    mean = _noisy_mean(nothing, Plan(records=1_000, batch=50, steps=1), privacy, np.random.default_rng(1))

    for array in mean.values():
        assert array.std() == pytest.approx(3.0 * 0.5 / 50, rel=0.05)
        assert abs(array.mean()) < 0.05 * 3.0 * 0.5 / 50


def test_every_step_is_noisy(tmp_path: Path) -> None:
    """Records whose gradients are zero move nothing but by noise."""
    model = private(TOLD, learner(TOLD))
    start = model.initial(np.random.default_rng(0))
    flat = replace(panel(1), values=np.zeros_like(panel(1).values))

    trained, _ = train_private(TOLD, model, start, flat, Ledger(tmp_path / "p.json"), run="r", round_number=1)

    assert all((trained.arrays[name] != start[name]).all() for name in start)


def test_training_is_another_one_every_time_and_says_no_loss(tmp_path: Path) -> None:
    model = private(TOLD, learner(TOLD))
    start = model.initial(np.random.default_rng(0))
    ledger = Ledger(tmp_path / "p.json", epsilon=1e6)
    told = replace(TOLD, privacy=Privacy(epsilon=1e6))

    first, _ = train_private(told, model, start, panel(1), ledger, run="r", round_number=1)
    second, _ = train_private(told, model, start, panel(1), ledger, run="r", round_number=1)

    assert not np.array_equal(first.arrays["out"], second.arrays["out"])
    assert first.metrics == {}


def test_nothing_is_trained_when_the_budget_does_not_allow_for_it(tmp_path: Path) -> None:
    model = private(TOLD, learner(TOLD))
    ledger = Ledger(tmp_path / "p.json", epsilon=0.01)
    touched: list[bool] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def gradients(self, arrays: Arrays, records: Any) -> Any:
            touched.append(True)
            return model.gradients(arrays, records)

    with pytest.raises(BudgetSpent):
        train_private(
            TOLD,
            Watched(),
            model.initial(np.random.default_rng(0)),
            panel(1),
            ledger,
            run="r",
            round_number=1,  # type: ignore[arg-type]
        )
    assert touched == []


def test_too_few_records_are_refused() -> None:
    with pytest.raises(ContractError, match="10 records, 64 at least"):
        plan_of(TOLD, {"x": np.zeros(10)})


def test_learner_without_gradients_of_records_is_refused() -> None:
    class Plain:
        pass

    with pytest.raises(ConfigError, match="no gradients of single records; use the profile mistrustful"):
        private(Task("x", kind=Kind.DETECTOR), Plain())  # type: ignore[arg-type]
