"""What is missing of a series, and how it is missing. Owns patterns, lines over gaps, and relaxation.

Arrays are [N, W, F] on the models' scale: windows, steps, features; `known` is False where a value is
missing. Knows no model and no units.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.windows import Scale

__all__ = [
    "REACH",
    "Pattern",
    "around",
    "draw_known",
    "from_z",
    "geometric_median",
    "linear_fill",
    "moments",
    "patterns_of",
    "relax",
    "windows_of",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

POINT_STEPS: Final = 2
"""Steps in a row that still count as points."""
REACH: Final = 2
"""Steps before and after a step that its values are completed from at once."""
_SWEEPS: Final = 15
_DAMPING: Final = 0.5
_RIDGE: Final = 0.01
_FARTHEST: Final = 12.0


class Pattern(IntEnum):
    """How a value is missing. The last three: nothing of the series is known after it (a live gap)."""

    POINT = 0
    PARTIAL = 1
    OUTAGE = 2
    OPEN_POINT = 3
    OPEN_PARTIAL = 4
    OPEN_OUTAGE = 5


def from_z(scale: Scale, z: Floats, element: int) -> Floats:
    """Values in units of the features of one element's z [..., F]: the inverse of `Scale.to_z`."""
    level = np.clip(z * scale.spread[element] + scale.centre[element], -40.0, 40.0)
    found: Floats = np.sinh(level) * scale.unit[element]
    return found


def windows_of(values: Floats, width: int, *, every: int = 1) -> Floats:
    """[N, width, F]: the windows of series [E, T, F] that begin every so many steps, element by element."""
    if values.shape[1] < width:
        return np.empty((0, width, values.shape[2]))
    view = np.lib.stride_tricks.sliding_window_view(values, width, axis=1)[:, ::every]
    return view.transpose(0, 1, 3, 2).reshape(-1, width, values.shape[2])


def linear_fill(values: Floats, known: Bools) -> Floats:
    """Straight lines over what is missing, and the nearest value beyond the ends.

    A series without any value becomes 0: the mean on the models' scale.
    """
    width = values.shape[1]
    steps = np.arange(width)[None, :, None]
    before, after = _neighbours(known)
    has_before, has_after = before >= 0, after < width
    low = np.take_along_axis(values, np.maximum(before, 0), axis=1)
    high = np.take_along_axis(values, np.minimum(after, width - 1), axis=1)
    low = np.where(has_before, low, np.where(has_after, high, 0.0))
    high = np.where(has_after, high, low)
    share = np.where(has_before & has_after, (steps - before) / np.maximum(after - before, 1), 0.0)
    found: Floats = np.where(known, values, low + (high - low) * share)
    return found


def patterns_of(known: Bools) -> NDArray[np.int8]:
    """How each value is missing, as `Pattern`; -1 where it is known."""
    before, after = _neighbours(known)
    others = np.any(known, axis=2, keepdims=True)
    kind = np.where(
        after - before - 1 <= POINT_STEPS,
        Pattern.POINT,
        np.where(others, Pattern.PARTIAL, Pattern.OUTAGE),
    )
    kind = np.where(after == known.shape[1], kind + 3, kind)
    return np.where(known, -1, kind).astype(np.int8)


def draw_known(shape: tuple[int, int, int], rng: np.random.Generator) -> Bools:
    """Masks to learn and to be judged by: each window loses values in one of several ways, at random.

    Points; a stretch of all features or of some; a quarter of the stretches last up to the end.
    """
    count, width, features = shape
    scattered = rng.random(shape) > rng.uniform(0.05, 0.4, (count, 1, 1))
    stretch = rng.integers(max(1, width // 10), max(2, width // 2) + 1, count)
    start = rng.integers(0, np.maximum(1, width - stretch))
    start = np.where(rng.random(count) < 0.25, width - stretch, start)
    steps = np.arange(width)
    within = (steps >= start[:, None]) & (steps < (start + stretch)[:, None])
    lost = rng.random((count, features)) < rng.uniform(0.1, 0.6, (count, 1))
    lost[np.arange(count), rng.integers(0, features, count)] = True
    lost |= (rng.random(count) < 0.25)[:, None]
    blocks = ~(within[:, :, None] & lost[:, None, :])
    return np.where((rng.random(count) < 0.25)[:, None, None], scattered, blocks)


def around(values: Any, xp: Any = np) -> Any:
    """[N, W, (2 REACH + 1) F]: each step with those beside it; the ends are repeated. Also for jax (`xp`)."""
    padded = xp.concatenate([values[:, :1]] * REACH + [values] + [values[:, -1:]] * REACH, 1)
    return xp.concatenate([padded[:, i : i + values.shape[1]] for i in range(2 * REACH + 1)], -1)


def moments(windows: Floats) -> tuple[Floats, Floats]:
    """Mean and mean product of each step with those beside it, over what is known: pooled by averaging.

    [D] and [D, D] with D = (2 REACH + 1) F. What is not known counts as the mean, 0.
    """
    seen = np.nan_to_num(around(windows)[:, REACH : windows.shape[1] - REACH])
    flat = seen.reshape(-1, seen.shape[-1])
    return flat.mean(0), flat.T @ flat / max(1, len(flat))


def geometric_median(rows: Floats) -> Floats:
    """The point with the least sum of distances to `rows` [N, D] (Weiszfeld 1937): bears liars below half."""
    middle = np.median(rows, axis=0)
    for _ in range(100):
        weight = 1.0 / np.maximum(np.linalg.norm(rows - middle, axis=1), 1e-6)
        moved = weight @ rows / weight.sum()
        if np.linalg.norm(moved - middle) <= 1e-9:
            return np.asarray(moved)
        middle = moved
    return np.asarray(middle)


def relax(values: Floats, known: Bools, mean: Floats, second: Floats) -> Floats:
    """Fill gaps with what a Gaussian of these moments expects of each value, given all those around it.

    Begins with lines; each sweep moves every missing value half-way to its expectation (damped Jacobi).
    """
    features = values.shape[2]
    centre = slice(REACH * features, (REACH + 1) * features)
    share, vectors = np.linalg.eigh((second + second.T) / 2 - np.outer(mean, mean))
    precision = (vectors / (np.maximum(share, 0.0) + _RIDGE)) @ vectors.T
    rows = precision[centre]
    expects = -rows / np.diagonal(rows[:, centre])[:, None]
    expects[np.arange(features), centre.start + np.arange(features)] = 0.0
    offset = mean[centre] - expects @ mean
    found = linear_fill(values, known)
    for _ in range(_SWEEPS):
        expected = around(found) @ expects.T + offset
        moved = found + _DAMPING * (np.clip(expected, -_FARTHEST, _FARTHEST) - found)
        found = np.where(known, values, moved)
    return found


def _neighbours(known: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The last known step up to each, and the next; -1 and W where there is none."""
    width = known.shape[1]
    steps = np.arange(width)[None, :, None]
    before = np.maximum.accumulate(np.where(known, steps, -1), axis=1)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(known, steps, width), axis=1), axis=1), axis=1)
    return before, after
