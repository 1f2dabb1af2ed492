"""Demand some steps ahead, as quantiles and a mean: a small network beside a linear map, over levels.

Owns the model, its training by pinball loss (Koenker and Bassett 1978) on the local scale of `windows.py`,
and its judgement beside naive rivals. The arrays hold nothing of any domain's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.models.naive import naive_forecasts
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task
from domain_twin.learning.windows import Floats, Indices, Windows, targets_of, width
from domain_twin.model import Nanoseconds

__all__ = ["Forecast", "Forecaster", "forecast", "make", "predict"]

LEAST_WINDOWS: Final = 20
"""Windows below which a domain cannot train."""
MOST_WINDOWS: Final = 200_000
"""Windows of one epoch; of more, a random part is taken."""
_SETTINGS: Final = {"hidden": 48.0, "decay": 1e-4}
_CHUNK: Final = 8_192


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is to be expected of each element, in units of the targets.

    `quantiles` is [E, J, H, K] and `mean` [E, J, H]: elements, targets, horizons, quantiles of the task in
    their order; NaN for elements of which too little is known. `at` is when the last known step ended.
    """

    elements: tuple[str, ...]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    quantiles: Floats
    mean: Floats
    at: Nanoseconds


def make(task: Task) -> Forecaster:
    """The forecaster of `task`. Raises ConfigError for settings that it does not know, or no target."""
    unknown = sorted(set(task.settings) - set(_SETTINGS))
    if unknown:
        raise ConfigError(
            f"model {task.model!r}: a forecaster does not know {', '.join(unknown)};"
            f" it knows {', '.join(_SETTINGS)}"
        )
    if not len(targets_of(task)):
        raise ConfigError(f"model {task.model!r}: none of its features has the role `target`")
    return Forecaster(task)


class Forecaster:
    """Learner of one task; keeps nothing between calls."""

    def __init__(self, task: Task) -> None:
        self.task = task
        settings = {**_SETTINGS, **{name: float(value) for name, value in task.settings.items()}}
        self._hidden, self._decay = int(settings["hidden"]), settings["decay"]
        self._levels = np.array(sorted(task.quantiles))
        self._outputs = len(targets_of(task)) * len(task.horizons) * len(self._levels)

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Arrays that foretell the level and the quantiles of noise of half a spread around it."""
        reads, hidden = width(self.task), self._hidden
        first = rng.normal(0, 1 / np.sqrt(reads), (reads, hidden))
        second = rng.normal(0, 1 / np.sqrt(hidden), (hidden, hidden))
        heads = self._outputs // len(self._levels)
        noise = np.tile(0.5 * np.log(self._levels / (1 - self._levels)) / 1.6, heads)
        arrays = {
            "first": first,
            "first_bias": np.zeros(hidden),
            "second": second,
            "second_bias": np.zeros(hidden),
            "out": np.zeros((hidden, self._outputs)),
            "out_bias": noise,
            "linear": np.zeros((reads, self._outputs)),
        }
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """Train on windows of the panel's training part. Raises ContractError where they are too few."""
        windows = Windows(self.task, panel)
        elements, steps = windows.steps(holdout=False)
        if len(steps) < LEAST_WINDOWS:
            raise ContractError(
                f"model {self.task.model!r}: {len(steps)} windows of {self.task.lags} steps to train on,"
                f" {LEAST_WINDOWS} at least: wait for more history or ask for a longer one"
            )
        arrays = {name: array.copy() for name, array in arrays.items()}
        adam, losses = _Adam(arrays, self.task.learning_rate, self._decay), []
        for _ in range(self.task.epochs):
            order = rng.permutation(len(steps))[:MOST_WINDOWS]
            for begin in range(0, len(order), self.task.batch):
                batch = order[begin : begin + self.task.batch]
                read = windows.inputs(elements[batch], steps[batch])
                loss, gradients = self._step(arrays, read, windows.ahead(elements[batch], steps[batch]))
                adam.step(arrays, gradients)
                losses.append(loss)
        last = losses[-max(1, len(losses) // self.task.epochs) :]
        return Trained(arrays, len(steps), {"loss": float(np.mean(last))})

    def records(self, panel: Panel) -> dict[str, NDArray[Any]]:
        """Windows to train on, for training with noise: the last ones where there are very many."""
        windows = Windows(self.task, panel)
        elements, steps = (indices[-MOST_WINDOWS:] for indices in windows.steps(holdout=False))
        return {"read": windows.inputs(elements, steps), "ahead": windows.ahead(elements, steps)}

    def gradients(
        self, arrays: Arrays, records: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float64], Arrays]:
        """Each window's loss [n] and the gradient of it [n, *shape]."""
        read, truth = records["read"], records["ahead"]
        first, second, out = self._forward(arrays, read)
        errors, slope = self._slopes(truth, out)
        counts = np.maximum(np.isfinite(truth).reshape(len(truth), -1).sum(axis=1), 1) * len(self._levels)
        losses = np.maximum(self._levels * errors, (self._levels - 1) * errors)
        down = slope.reshape(len(truth), self._outputs).astype(np.float32)
        back = (down @ arrays["out"].T) * (1 - second**2)
        begin = (back @ arrays["second"].T) * (1 - first**2)
        return losses.reshape(len(truth), self._outputs).sum(axis=1) / counts, {
            "out": second[:, :, None] * down[:, None],
            "out_bias": down,
            "linear": read[:, :, None] * down[:, None],
            "second": first[:, :, None] * back[:, None],
            "second_bias": back,
            "first": read[:, :, None] * begin[:, None],
            "first_bias": begin,
        }

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """`loss` (pinball, in spreads), `coverage` of the outer quantiles, `nmae` of the middle; rivals'."""
        windows = Windows(self.task, panel)
        elements, steps = windows.steps(holdout=True)
        if not len(steps):
            raise ContractError(
                f"model {self.task.model!r}: no window of {self.task.lags} steps in the holdout of"
                f" {panel.steps - panel.holdout_from} steps"
            )
        truth = windows.ahead(elements, steps)
        relative = self._relative(arrays, windows, elements, steps)
        fine = np.isfinite(truth)
        inside = (truth >= relative[..., 0]) & (truth <= relative[..., -1])
        scores = {
            "loss": _pinball(relative, truth, self._levels),
            "coverage": float(inside[fine].mean()),
            "windows": float(len(steps)),
        }
        units = windows.to_units(truth, elements, steps)
        middle = windows.to_units(relative, elements, steps)[..., len(self._levels) // 2]
        scores["nmae"] = _nmae(middle, units)
        return scores | self._rivals(windows, elements, steps)

    def relative(self, arrays: Arrays, windows: Windows, elements: Indices, steps: Indices) -> Floats:
        """[n, J, H, K]: quantiles above the level, in spreads."""
        return self._relative(arrays, windows, elements, steps)

    def _rivals(self, windows: Windows, elements: Indices, steps: Indices) -> dict[str, float]:
        """Naive forecasts with quantiles of their own errors in training: `naive:` loss, `nmae:` error."""
        task, past = self.task, windows.steps(holdout=False)
        truth, known = windows.ahead(elements, steps), windows.ahead(*past)
        x = windows.panel.values[:, :, windows.targets]
        scores: dict[str, float] = {}
        sums: dict[str, list[Floats]] = {}
        for horizon in task.horizons:
            for name, values in naive_forecasts(x, int(horizon), task.step_s).items():
                sums.setdefault(name, []).append(values)
        units = windows.to_units(truth, elements, steps)
        scale, targets = windows.scale, windows.targets
        for name, by_horizon in sums.items():
            values = np.stack(by_horizon, axis=3)
            z = np.arcsinh(values / scale.unit[:, None, targets, None]) - scale.centre[:, None, targets, None]
            z = z / scale.spread[:, None, targets, None] - windows.base[..., None]
            z = np.where(np.isfinite(z), z, 0.0)
            errors = known - z[past]
            spread = np.nanquantile(errors, self._levels, axis=0) if len(past[0]) else np.zeros(1)
            relative = z[elements, steps][..., None] + np.moveaxis(spread, 0, -1)
            scores[f"naive:{name}"] = _pinball(relative, truth, self._levels)
            point = windows.to_units(z[elements, steps], elements, steps)
            scores[f"nmae:{name}"] = _nmae(point, units)
        return scores

    def _relative(self, arrays: Arrays, windows: Windows, elements: Indices, steps: Indices) -> Floats:
        made = []
        for begin in range(0, len(steps), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            made.append(self._forward(arrays, windows.inputs(elements[part], steps[part]))[-1])
        targets, horizons = len(windows.targets), len(self.task.horizons)
        flat = np.concatenate(made) if made else np.empty((0, self._outputs))
        relative = flat.reshape(-1, targets, horizons, len(self._levels)).astype(np.float64)
        # Quantiles that cross are put in order, which never makes them worse (Chernozhukov et al. 2010).
        return np.sort(relative, axis=-1)

    def _forward(self, arrays: Arrays, read: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        first = np.tanh(read @ arrays["first"] + arrays["first_bias"])
        second = np.tanh(first @ arrays["second"] + arrays["second_bias"])
        return first, second, second @ arrays["out"] + arrays["out_bias"] + read @ arrays["linear"]

    def _step(self, arrays: Arrays, read: NDArray[np.float32], truth: Floats) -> tuple[float, Arrays]:
        """Loss of one batch and its gradients."""
        first, second, out = self._forward(arrays, read)
        errors, ahead = self._slopes(truth, out)
        count = max(int(np.isfinite(truth).sum()), 1) * len(self._levels)
        loss = float(np.maximum(self._levels * errors, (self._levels - 1) * errors).sum() / count)
        down = (ahead.reshape(len(truth), -1) / max(len(truth), 1)).astype(np.float32)
        back = (down @ arrays["out"].T) * (1 - second**2)
        begin = (back @ arrays["second"].T) * (1 - first**2)
        return loss, {
            "out": second.T @ down,
            "out_bias": down.sum(axis=0),
            "linear": read.T @ down,
            "second": first.T @ back,
            "second_bias": back.sum(axis=0),
            "first": read.T @ begin,
            "first_bias": begin.sum(axis=0),
        }

    def _slopes(self, truth: Floats, out: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Errors [n, J, H, K], 0 where nothing is known, and the slopes of the loss above the outputs."""
        fine = np.isfinite(truth)[..., None]
        errors = np.where(fine, truth[..., None] - out.reshape(*truth.shape, len(self._levels)), 0.0)
        # The kink is rounded off within a hundredth of a spread: Adam rests there instead of trembling.
        slope = np.clip(errors / 0.02 + 0.5, 0, 1)
        return errors, np.where(fine, (1 - self._levels) - slope, 0.0)


def predict(arrays: Arrays, task: Task, panel: Panel, elements: Indices, steps: Indices) -> Floats:
    """[n, J, H, K]: quantiles in units, of `elements` as known at the end of `steps`."""
    windows = Windows(task, panel)
    relative = make(task).relative(arrays, windows, elements, steps)
    return windows.to_units(relative, elements, steps)


def forecast(arrays: Arrays, task: Task, panel: Panel) -> Forecast:
    """What follows the end of `panel`. Raises ContractError where it is shorter than the task's lags."""
    if panel.steps < task.lags:
        raise ContractError(
            f"model {task.model!r} reads {task.lags} steps of {task.step_s:g} s; {panel.steps} are known"
        )
    elements = np.arange(len(panel.elements))
    last = np.full(len(elements), panel.steps - 1)
    quantiles = predict(arrays, task, panel, elements, last)
    recent = panel.values[:, -task.lags :][:, :, targets_of(task)]
    unknown = ~np.isfinite(recent).any(axis=1)
    quantiles[unknown] = np.nan
    features = [task.features[i] for i in targets_of(task)]
    levels = tuple(sorted(task.quantiles))
    return Forecast(
        panel.elements,
        tuple(feature.kpi for feature in features),
        tuple(feature.unit for feature in features),
        tuple(horizon * task.step_s for horizon in task.horizons),
        levels,
        quantiles,
        _mean(quantiles, np.array(levels)),
        panel.start + round(panel.steps * panel.step_s * 1e9),
    )


def _mean(quantiles: Floats, levels: Floats) -> Floats:
    """Mean of the distribution that runs straight from quantile to quantile."""
    edges = np.concatenate([[0], (levels[1:] + levels[:-1]) / 2, [1]])
    mean: Floats = quantiles @ np.diff(edges)
    return mean


def _pinball(relative: Floats, truth: Floats, levels: Floats) -> float:
    errors = truth[..., None] - relative
    return float(np.nanmean(np.maximum(levels * errors, (levels - 1) * errors)))


def _nmae(made: Floats, truth: Floats) -> float:
    """Mean absolute error beside the mean size of what was to be foretold, mean over targets and horizons."""
    size = np.nanmean(np.abs(truth), axis=0)
    return float(np.mean(np.nanmean(np.abs(made - truth), axis=0) / np.maximum(size, 1e-12)))


class _Adam:
    """Adam (Kingma and Ba 2015) with decoupled decay of the weights."""

    def __init__(self, arrays: Arrays, rate: float, decay: float) -> None:
        self._rate, self._decay, self._count = rate, decay, 0
        self._mean = {name: np.zeros_like(array) for name, array in arrays.items()}
        self._square = {name: np.zeros_like(array) for name, array in arrays.items()}

    def step(self, arrays: Arrays, gradients: Arrays) -> None:
        """Move `arrays` in place."""
        self._count += 1
        rate = self._rate * np.sqrt(1 - 0.999**self._count) / (1 - 0.9**self._count)
        for name, gradient in gradients.items():
            mean, square = self._mean[name], self._square[name]
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            if arrays[name].ndim > 1:
                arrays[name] *= 1 - self._rate * self._decay
            arrays[name] -= rate * mean / (np.sqrt(square) + 1e-8)
