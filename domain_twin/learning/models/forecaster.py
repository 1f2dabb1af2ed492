"""Demand some steps ahead, as quantiles and a mean: a small network weighs simple forecasts and adds to them.

Owns the model, its training by pinball loss (Koenker and Bassett 1978) on the local scale of `windows.py`,
and its judgement beside naive rivals. The arrays hold nothing of any domain's scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.models.followed import Followed, naive_scores, nmae
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task
from domain_twin.learning.windows import (
    CANDIDATES,
    Floats,
    Indices,
    Singles,
    Windows,
    targets_of,
    width,
    windows_of,
)
from domain_twin.model import Nanoseconds

__all__ = ["LEVELS", "Forecast", "Forecaster", "forecast", "make", "mean_of", "predict"]

LEVELS: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Quantiles that are learned beside those of the task: the mean is made of them."""
LEAST_WINDOWS: Final = 20
"""Windows below which a domain cannot train."""
LEAST_JUDGED: Final = 10
"""Windows of the holdout below which a loss would tell what is in them."""
MOST_NUMBERS: Final = 4_000_000
"""Numbers of a model: as many as a message holds. Whoever makes a larger one runs out of memory first."""
LEAST_STEPS: Final = 32
"""Steps of descent in one round, however few the windows are."""
MOST_WINDOWS: Final = 200_000
"""Windows of one epoch; of more, a random part is taken."""
_SETTINGS: Final = {"hidden": 48.0, "decay": 1.0, "proximal_mu": 0.0}
_CHUNK: Final = 8_192
_AT_ONCE: Final = 30_000_000
"""Floats of windows that are held in memory at once."""
_KINK: Final = 0.02
"""Half-width within which the pinball's kink is rounded off, in spreads: Adam rests there."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is to be expected of each element, in units of the targets.

    `quantiles` is [E, J, H, K] and `mean` [E, J, H]: elements, targets, horizons, `levels`; NaN for elements
    of which too little is known. `at` is when the last known step ended.
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
    if unknown := sorted(set(task.settings) - set(_SETTINGS)):
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
        self._hidden = int(_setting(task, "hidden", least=1, most=1024))
        self._decay = _setting(task, "decay", least=0, most=100)
        self._proximal_mu = _setting(task, "proximal_mu", least=0, most=1000)
        self.levels = tuple(sorted({*task.quantiles, *LEVELS}))
        self._taus = np.array(self.levels, np.float32)
        self._heads = len(targets_of(task)) * len(task.horizons)
        layers = width(task) + self._hidden + self._heads * (len(self.levels) + CANDIDATES)
        if (numbers := self._hidden * layers) > MOST_NUMBERS:
            raise ConfigError(
                f"model {task.model!r}: it would have {numbers:,} numbers, {MOST_NUMBERS:,} at most: take"
                " fewer lags, horizons, features or hidden units"
            )

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Arrays that foretell the mean of simple forecasts, with the noise of half a spread around it."""
        reads, hidden = width(self.task), self._hidden
        taus = self._taus.astype(np.float64)
        # Of a logistic distribution with the standard deviation 0.5.
        noise = np.log(taus / (1 - taus)) * 0.5 * np.sqrt(3) / np.pi
        weights = np.zeros(CANDIDATES)
        weights[-2:] = -2.0  # the past days are unknown in the first
        arrays = {
            "first": rng.normal(0, 1 / np.sqrt(reads), (reads, hidden)),
            "first_bias": np.zeros(hidden),
            "second": rng.normal(0, 1 / np.sqrt(hidden), (hidden, hidden)),
            "second_bias": np.zeros(hidden),
            "out": np.zeros((hidden, self._heads * len(taus))),
            "out_bias": np.tile(noise, self._heads),
            "gate": np.zeros((hidden, self._heads * CANDIDATES)),
            "gate_bias": np.tile(weights, self._heads),
        }
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """Train on windows of the panel's training part. Raises ContractError where they are too few."""
        windows = windows_of(self.task, panel)
        picks = self._training(windows)
        base = arrays
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        adam = _Adam(arrays, self.task.learning_rate, self._decay)
        losses: list[float] = []
        sums = {name: np.zeros(array.shape) for name, array in arrays.items()}
        batches = -(-min(len(picks[0]), MOST_WINDOWS) // self.task.batch)
        # A domain with little data takes as many steps as it needs to move at all.
        epochs, counted = max(self.task.epochs, -(-LEAST_STEPS // batches)), 0
        for epoch in range(epochs):
            losses = []
            for read, simple, truth in self._batches(windows, picks, rng):
                out = _Pass(arrays, read, simple, len(self.levels))
                losses.append(out.loss(truth, self._taus))
                gradients = out.gradients(truth, self._taus)
                if mu := np.float32(self._proximal_mu):  # FedProx (Li et al. 2020), eq. 2
                    gradients = {
                        name: one + mu * (arrays[name] - base[name]) for name, one in gradients.items()
                    }
                adam.step(arrays, gradients)
                if epoch == epochs - 1 and 2 * len(losses) > batches:
                    counted += 1
                    for name, array in arrays.items():
                        sums[name] += array
        # The mean of the last steps is steadier than the last of them (Polyak and Juditsky 1992).
        steady = {name: (total / counted).astype(np.float32) for name, total in sums.items()}
        return Trained(steady, len(picks[1]), {"loss": float(np.mean(losses))})

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """Measures on the holdout; Raises ContractError where that has no window.

        `loss` is the pinball loss in spreads of what is used, over all quantiles, and `raw` that of the model
        alone; `coverage` and `raw_coverage` the shares of truths within the outermost quantiles of the task;
        `nmae` the error of the median beside the mean size of the truth.
        """
        windows = windows_of(self.task, panel)
        elements, steps = windows.steps(holdout=True)
        if len(steps) < LEAST_JUDGED:
            raise ContractError(
                f"model {self.task.model!r}: {len(steps)} windows of {self.task.lags} steps in the holdout of"
                f" {panel.steps - panel.holdout_from} steps, {LEAST_JUDGED} at least"
            )
        truth = windows.ahead(elements, steps)
        used, raw = self.followed(arrays, windows).at(elements, steps)
        asked = self.asked()
        fine = np.isfinite(truth)
        scores = {"windows": float(len(steps))}
        for name, coverage, made in (("loss", "coverage", used), ("raw", "raw_coverage", raw)):
            scores[name] = _pinball(made, truth, self._taus)
            inside = (truth >= made[..., asked[0]]) & (truth <= made[..., asked[-1]])
            scores[coverage] = float(inside[fine].mean())
        median = windows.to_units(used[..., self.levels.index(0.5)], elements, steps)
        scores["nmae"] = nmae(median, windows.to_units(truth, elements, steps))
        return scores | naive_scores(windows, self.levels)

    def followed(self, arrays: Arrays, windows: Windows) -> Followed:
        """Forecasts as they are used: weighed and given bands by recent errors."""
        return Followed(windows, self.levels, lambda *at: self.relative(arrays, windows, *at))

    def relative(self, arrays: Arrays, windows: Windows, elements: Indices, steps: Indices) -> Floats:
        """[n, J, H, K]: quantiles of all `levels` above the level, in spreads."""
        shape = (len(windows.targets), len(self.task.horizons), len(self.levels))
        made = [np.empty((0, *shape))]
        for begin in range(0, len(steps), _CHUNK):
            at = elements[begin : begin + _CHUNK], steps[begin : begin + _CHUNK]
            out = _Pass(arrays, windows.inputs(*at), _flat(windows.candidates(*at)), len(self.levels))
            made.append(out.quantiles.reshape(-1, *shape).astype(np.float64))
        # Quantiles that cross are put in order, which never makes them worse (Chernozhukov et al. 2010).
        return np.sort(np.concatenate(made), axis=-1)

    def asked(self) -> list[int]:
        """Where the task's quantiles stand among `levels`."""
        return [self.levels.index(level) for level in sorted(self.task.quantiles)]

    def records(self, panel: Panel) -> Mapping[str, NDArray[Any]]:
        """Training windows one by one, for training under `private`. Raises ContractError: too few."""
        windows = windows_of(self.task, panel)
        picks = self._training(windows)
        read, simple = windows.inputs(*picks), _flat(windows.candidates(*picks))
        return {"read": read, "simple": simple, "truth": windows.ahead(*picks).reshape(len(read), -1)}

    def gradients(self, arrays: Arrays, records: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], Arrays]:
        """Each record's loss [n], and its gradient [n, *shape] of every array."""
        out = _Pass(arrays, records["read"], records["simple"], len(self.levels))
        return out.losses(records["truth"], self._taus), out.each(records["truth"], self._taus)

    def _training(self, windows: Windows) -> tuple[Indices, Indices]:
        elements, steps = windows.steps(holdout=False)
        if len(steps) < LEAST_WINDOWS:
            raise ContractError(
                f"model {self.task.model!r}: {len(steps)} windows of {self.task.lags} steps to train on,"
                f" {LEAST_WINDOWS} at least: wait for more history or ask for a longer one"
            )
        return elements, steps

    def _batches(
        self, windows: Windows, picks: tuple[Indices, Indices], rng: np.random.Generator
    ) -> Iterator[tuple[Singles, Singles, Floats]]:
        """One epoch: what is read, simple forecasts and truths, a batch at a time."""
        order = rng.permutation(len(picks[0]))[:MOST_WINDOWS]
        size = max(self.task.batch, _AT_ONCE // (width(self.task) + self._heads * CANDIDATES))
        size = size // self.task.batch * self.task.batch
        for begin in range(0, len(order), size):
            at = picks[0][order[begin : begin + size]], picks[1][order[begin : begin + size]]
            read, simple = windows.inputs(*at), _flat(windows.candidates(*at))
            truth = windows.ahead(*at).reshape(len(read), -1)
            for first in range(0, len(read), self.task.batch):
                part = slice(first, first + self.task.batch)
                yield read[part], simple[part], truth[part]


def predict(
    arrays: Arrays, task: Task, panel: Panel, elements: Indices, steps: Indices
) -> tuple[Floats, Floats]:
    """Quantiles [n, J, H, K] of the forecaster's `levels` and the mean [n, J, H], in units.

    Of `elements` (their numbers) as known at the end of `steps`. Raises ContractError for another panel.
    """
    made, windows = make(task), windows_of(task, panel)
    used, raw = made.followed(arrays, windows).at(elements, steps)
    quantiles, alone = (windows.to_units(one, elements, steps) for one in (used, raw))
    middle = made.levels.index(0.5)
    # Tails of few errors make no mean: the model's own is moved as its median is.
    mean = mean_of(alone, made.levels) + quantiles[..., middle] - alone[..., middle]
    return quantiles, np.clip(mean, quantiles[..., 0], quantiles[..., -1])


def forecast(arrays: Arrays, task: Task, panel: Panel) -> Forecast:
    """What follows the end of `panel`. Raises ContractError where it is shorter than the task's lags."""
    if panel.steps < task.lags:
        raise ContractError(
            f"model {task.model!r} reads {task.lags} steps of {task.step_s:g} s; {panel.steps} are known"
        )
    elements = np.arange(len(panel.elements))
    last = np.full(len(elements), panel.steps - 1)
    quantiles, mean = predict(arrays, task, panel, elements, last)
    recent = panel.values[:, -task.lags :][:, :, targets_of(task)]
    unknown = ~np.isfinite(recent).any(axis=1)
    quantiles[unknown], mean[unknown] = np.nan, np.nan
    features = [task.features[i] for i in targets_of(task)]
    return Forecast(
        panel.elements,
        tuple(feature.kpi for feature in features),
        tuple(feature.unit for feature in features),
        tuple(horizon * task.step_s for horizon in task.horizons),
        tuple(sorted(task.quantiles)),
        quantiles[..., make(task).asked()],
        mean,
        panel.start + round(panel.steps * panel.step_s * 1e9),
    )


def mean_of(quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """Mean of the distribution that has `quantiles` [..., K] at `levels`: each stands for those around it."""
    taus = np.array(levels)
    edges = np.concatenate([[0], (taus[1:] + taus[:-1]) / 2, [1]])
    mean: Floats = quantiles @ np.diff(edges)
    return mean


class _Pass:
    """One pass of a batch through the network: quantiles [n, heads, K], and gradients back."""

    def __init__(self, arrays: Arrays, read: Singles, simple: Singles, levels: int) -> None:
        self._arrays, self._read, self._simple = arrays, read, simple
        self._first = np.tanh(read @ arrays["first"] + arrays["first_bias"])
        self._second = np.tanh(self._first @ arrays["second"] + arrays["second_bias"])
        weights = (self._second @ arrays["gate"] + arrays["gate_bias"]).reshape(simple.shape)
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        self._weights = weights / weights.sum(axis=-1, keepdims=True)
        self._mixed = (self._weights * simple).sum(axis=-1, keepdims=True)
        added = (self._second @ arrays["out"] + arrays["out_bias"]).reshape(len(read), -1, levels)
        self.quantiles = added + self._mixed

    def losses(self, truth: Floats, taus: Singles) -> Floats:
        """[n]: pinball loss of each window, mean over what is known of it."""
        errors, fine = self._errors(truth)
        sums = np.maximum(taus * errors, (taus - 1) * errors).sum(axis=(1, 2))
        result: Floats = sums / (np.maximum(fine.sum(axis=(1, 2)), 1) * len(taus))
        return result

    def loss(self, truth: Floats, taus: Singles) -> float:
        """Mean of `losses`."""
        return float(self.losses(truth, taus).mean())

    def gradients(self, truth: Floats, taus: Singles) -> Arrays:
        """Of the batch's mean loss, times the number of outputs of a window."""
        out, gate, second, first = self._back(truth, taus)
        scale = np.float32(1 / max(len(self._read), 1))
        return {
            "out": self._second.T @ out * scale,
            "out_bias": out.mean(axis=0),
            "gate": self._second.T @ gate * scale,
            "gate_bias": gate.mean(axis=0),
            "second": self._first.T @ second * scale,
            "second_bias": second.mean(axis=0),
            "first": self._read.T @ first * scale,
            "first_bias": first.mean(axis=0),
        }

    def each(self, truth: Floats, taus: Singles) -> Arrays:
        """[n, *shape]: each window's own gradients; their mean is what `gradients` gives."""
        out, gate, second, first = self._back(truth, taus)
        return {
            "out": self._second[:, :, None] * out[:, None],
            "out_bias": out,
            "gate": self._second[:, :, None] * gate[:, None],
            "gate_bias": gate,
            "second": self._first[:, :, None] * second[:, None],
            "second_bias": second,
            "first": self._read[:, :, None] * first[:, None],
            "first_bias": first,
        }

    def _errors(self, truth: Floats) -> tuple[Singles, NDArray[np.bool_]]:
        fine = np.isfinite(truth)[..., None]
        return np.where(fine, truth[..., None] - self.quantiles, 0).astype(np.float32), fine

    def _back(self, truth: Floats, taus: Singles) -> tuple[Singles, Singles, Singles, Singles]:
        """Slopes of the loss at the outputs, the gate and the two layers, window by window."""
        errors, fine = self._errors(truth)
        above = np.clip(errors / _KINK + np.float32(0.5), 0, 1)
        slope = np.where(fine, (1 - taus) - above, 0).astype(np.float32)
        mixed = slope.sum(axis=-1, keepdims=True)
        gate = (self._weights * (self._simple - self._mixed) * mixed).reshape(len(errors), -1)
        out = slope.reshape(len(errors), -1)
        second = (out @ self._arrays["out"].T + gate @ self._arrays["gate"].T) * (1 - self._second**2)
        first = (second @ self._arrays["second"].T) * (1 - self._first**2)
        return out, gate, second, first


class _Adam:
    """Adam (Kingma and Ba 2015) with decoupled decay of the weights (Loshchilov and Hutter 2019)."""

    def __init__(self, arrays: Arrays, rate: float, decay: float) -> None:
        self._rate, self._decay, self._count = rate, decay, 0
        self._mean = {name: np.zeros_like(array) for name, array in arrays.items()}
        self._square = {name: np.zeros_like(array) for name, array in arrays.items()}

    def step(self, arrays: Arrays, gradients: Arrays) -> None:
        """Move `arrays` in place."""
        self._count += 1
        rate = np.float32(self._rate * np.sqrt(1 - 0.999**self._count) / (1 - 0.9**self._count))
        for name, gradient in gradients.items():
            mean, square = self._mean[name], self._square[name]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient**2 - square)
            if arrays[name].ndim > 1:
                arrays[name] *= np.float32(1 - self._rate * self._decay)
            arrays[name] -= rate * mean / (np.sqrt(square) + np.float32(1e-8))


def _flat(simple: Singles) -> Singles:
    """[n, J * H, CANDIDATES]."""
    return simple.reshape(len(simple), -1, CANDIDATES)


def _setting(task: Task, name: str, *, least: float, most: float) -> float:
    """A setting of the task. Raises ConfigError where it is no number within its limits."""
    given = task.settings.get(name, _SETTINGS[name])
    try:
        value = float(given)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ConfigError(
            f"model {task.model!r}: setting {name!r} is {given!r};"
            f" a number from {least:g} to {most:g} is meant"
        )
    return value


def _pinball(relative: Floats, truth: Floats, taus: NDArray[np.floating[Any]]) -> float:
    errors = truth[..., None] - relative
    return float(np.nanmean(np.maximum(taus * errors, (taus - 1) * errors)))
