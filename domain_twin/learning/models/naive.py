"""Naive rivals of the forecaster: persistence, moving averages, the day before. Owns no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.windows import DAY_S, ewma

__all__ = ["MOVING", "moving_average", "naive_forecasts", "persistence", "seasonal"]

Floats = NDArray[np.float64]
MOVING: Final = (3, 5, 10)
"""Steps of the moving averages."""


def persistence(values: Floats) -> Floats:
    """[E, T, J]: the last known value at every step."""
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, np.arange(values.shape[1])[None, :, None], -1), axis=1)
    held = np.take_along_axis(values, np.maximum(last, 0), axis=1)
    result: Floats = np.where(last >= 0, held, np.nan)
    return result


def moving_average(values: Floats, steps: int) -> Floats:
    """[E, T, J]: mean of what is known of the last `steps` steps."""
    known = np.isfinite(values)
    pad = np.zeros((values.shape[0], steps, values.shape[2]))
    sums = np.cumsum(np.concatenate([pad, np.where(known, values, 0)], axis=1), axis=1)
    counts = np.cumsum(np.concatenate([pad, known], axis=1), axis=1)
    total, number = sums[:, steps:] - sums[:, :-steps], counts[:, steps:] - counts[:, :-steps]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def seasonal(values: Floats, horizon: int, step_s: float) -> Floats:
    """[E, T, J]: what was known a day before the time that is foretold; NaN in the first day."""
    back = round(DAY_S / step_s) - horizon
    day = np.full_like(values, np.nan)
    if 0 <= back < values.shape[1]:
        day[:, back:] = values[:, : values.shape[1] - back]
    return day


def naive_forecasts(values: Floats, horizon: int, step_s: float) -> Mapping[str, Floats]:
    """Every rival's forecast [E, T, J] of `values` at each step, `horizon` steps ahead."""
    rivals: dict[str, Callable[[], Floats]] = {
        "persistence": lambda: persistence(values),
        **{f"mean-{n}": lambda n=n: moving_average(values, n) for n in MOVING},  # type: ignore[misc]
        "ewma-6": lambda: ewma(values, 6.0),
        "day-before": lambda: seasonal(values, horizon, step_s),
    }
    return {name: forecast() for name, forecast in rivals.items()}
