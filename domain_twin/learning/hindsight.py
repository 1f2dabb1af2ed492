"""What a forecaster would have said over its holdout, beside what came true. Owns no model and no rivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from domain_twin.errors import ContractError
from domain_twin.learning.learner import Arrays
from domain_twin.learning.models.forecaster import make, predict
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task
from domain_twin.learning.windows import Floats, targets_of
from domain_twin.model import Nanoseconds

__all__ = ["MOST_STEPS", "Hindsight", "hindsight"]

MOST_STEPS: Final = 600
MOST_POINTS: Final = 40_000
"""Of all series together: one answer has to hold them."""


@dataclass(frozen=True, slots=True, eq=False)
class Hindsight:
    """Forecasts of the first horizon at steps of the holdout, in units of the targets.

    `quantiles` is [E, J, N, K] and `truth` [E, J, N]: elements, targets, `times`, `levels`; NaN where the
    window or what came true was not known. Each was made `horizon_s` before its time.
    """

    elements: tuple[str, ...]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    horizon_s: float
    levels: tuple[float, ...]
    times: tuple[Nanoseconds, ...]
    quantiles: Floats
    truth: Floats


def hindsight(arrays: Arrays, task: Task, panel: Panel, only: tuple[str, ...] = ()) -> Hindsight:
    """The last steps of the holdout, `MOST_STEPS` at most; of elements `only`, if any are named.

    Raises ContractError where the holdout is too short.
    """
    horizon = min(task.horizons)
    targets = targets_of(task)
    numbers = [place for place, name in enumerate(panel.elements) if not only or name in only]
    most = min(MOST_STEPS, max(1, MOST_POINTS // max(1, len(numbers) * len(targets))))
    begin, end = max(panel.holdout_from, task.lags) - 1, panel.steps - horizon
    if end <= begin:
        raise ContractError(
            f"model {task.model!r}: nothing to look back on: the holdout has"
            f" {panel.steps - panel.holdout_from} steps of {task.step_s:g} s"
        )
    steps = np.arange(max(begin, end - most), end)
    wanted = make(task)
    shape = (len(numbers), len(targets), len(steps))
    truth = np.full(shape, np.nan)
    first = task.horizons.index(horizon)
    elements, at = np.repeat(numbers, len(steps)), np.tile(steps, len(numbers))
    made = predict(arrays, task, panel, elements, at)[0][:, :, first][..., wanted.asked()]
    quantiles = np.swapaxes(made.reshape(len(numbers), len(steps), *made.shape[1:]), 1, 2)
    for row, element in enumerate(numbers):
        values = panel.values[element][:, targets]
        truth[row] = values[steps + horizon].T
        known = np.isfinite(values).astype(np.intp)
        seen = np.concatenate([np.zeros((1, len(targets)), np.intp), np.cumsum(known, axis=0)])
        unknown = seen[steps + 1] == seen[steps + 1 - task.lags]
        quantiles[row][unknown.T] = np.nan
    features = [task.features[place] for place in targets]
    return Hindsight(
        tuple(panel.elements[place] for place in numbers),
        tuple(feature.kpi for feature in features),
        tuple(feature.unit for feature in features),
        horizon * task.step_s,
        tuple(sorted(task.quantiles)),
        tuple(panel.start + round((int(step) + 1 + horizon) * panel.step_s * 1e9) for step in steps),
        quantiles,
        truth,
    )
