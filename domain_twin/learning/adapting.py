"""Forecasts that follow drift: simple ones and a model's, weighed and given bands by their recent errors.

Owns the maths, on arrays over elements, steps, targets and horizons; nothing of it is trained or leaves a
domain. An error counts from the step on at which its truth is known, so that what is said of a step is what
could have been said then. Knows no model and no panel.

- Bands (`around`): quantiles of recent errors beside their recent size, as in filtered historical simulation
  (Barone-Adesi et al. 1999); shares of errors are pooled over elements, sizes are each element's own. It is
  split conformal prediction with weights that fade (Barber et al. 2023).
- Weights (`shares`): exponentially weighted forecasters with fading losses (Cesa-Bianchi and Lugosi 2006,
  2.11), which beside the best of them lose little, whatever the series does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

__all__ = ["Known", "around", "known_at", "pinball", "shares"]

Floats = NDArray[np.float64]

SIZE_HALF_LIFE: Final = 40.0
"""Of the size of errors, in steps."""
SHAPE_HALF_LIFE: Final = 60.0
"""Of their distribution beside their size, in steps."""
LOSS_HALF_LIFE: Final = 60.0
"""Of the losses that weights come of, in steps."""
POWER: Final = 4.0
"""Of the mean loss, by which a weight falls."""
_POOLED_SIZE: Final = 2.0
"""Errors of its own from which on an element's size counts more than that of all."""
_POOLED_LOSS: Final = 4.0
"""Losses of its own from which on an element's count more than those of all."""
_PRIOR: Final = 20.0
"""Errors from which on their distribution counts more than the one that is assumed before any is known."""
_LEAST_SIZE: Final = 1e-3
_LEAST_LOSS: Final = 1e-4
_GRID: Final = 25 * np.sinh(np.linspace(-4.2, 4.2, 61)) / np.sinh(4.2)
"""Errors beside their size between which their distribution is counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What came true of forecasts at S steps in a row, on the local scale.

    `truth` is [E, S, J, H]: elements, steps, targets, horizons; NaN where it is not known. `counted_from` is
    the first step whose own truth decides about weights: what a model was trained on must not.
    """

    truth: Floats
    horizons: NDArray[np.intp]
    levels: Floats
    counted_from: int


def known_at(made: Floats, horizons: NDArray[np.intp]) -> Floats:
    """`made` [E, S, J, H, ...] of forecasts by the step at which their truth is known; NaN before."""
    late = np.full_like(made, np.nan)
    for place, horizon in enumerate(horizons):
        late[:, horizon:, :, place] = made[:, : made.shape[1] - horizon, :, place]
    return late


def pinball(quantiles: Floats, truth: Floats, levels: Floats) -> Floats:
    """Mean pinball loss [...] of `quantiles` [..., K]; NaN where the truth is not known."""
    total = np.zeros_like(truth)
    for place, level in enumerate(levels):
        error = truth - quantiles[..., place]
        total += np.maximum(level * error, (level - 1) * error)
    return total / len(levels)


def around(centre: Floats, known: Known, width: Floats | None = None) -> Floats:
    """Quantiles [E, S, J, H, K] around forecasts `centre` by their recent errors; its median stays.

    With `width`, errors are seen beside it: a forecast that says itself how sure it is.
    """
    errors = known.truth - centre
    if width is not None:
        errors = errors / width
    sizes = _sizes(known_at(np.abs(errors), known.horizons))
    shape = _shape(known_at(errors / sizes, known.horizons), known.levels)
    if width is not None:
        sizes = sizes * width
    return centre[..., None] + sizes[..., None] * shape


def shares(losses: Sequence[Floats], prior: Sequence[float], known: Known) -> Floats:
    """[N, E, S, J, H]: weights of N forecasts by their `losses`, each [E, S, J, H]; they sum to 1."""
    late = np.stack([known_at(loss, known.horizons) for loss in losses])
    fine: NDArray[np.bool_] = np.asarray(np.isfinite(late).all(axis=0))
    fine[:, : known.counted_from] = False
    sums = _faded(np.where(fine, late, 0.0), LOSS_HALF_LIFE, axis=2)
    counts = _faded(fine.astype(np.float64), LOSS_HALF_LIFE, axis=1)
    many = counts.sum(axis=0)
    pooled = np.where(many > 1e-9, sums.sum(axis=1) / np.maximum(many, 1e-9), np.nan)
    # What is said far ahead comes true late: until then, what was said less far ahead tells of it.
    nearer = np.ones_like(pooled[..., 0])
    for place in np.argsort(known.horizons):
        pooled[..., place] = np.where(np.isfinite(pooled[..., place]), pooled[..., place], nearer)
        nearer = pooled[..., place]
    means = (sums + _POOLED_LOSS * pooled[:, None]) / (counts + _POOLED_LOSS)
    power = np.log(np.array(prior)).reshape(-1, 1, 1, 1, 1) - POWER * np.log(np.maximum(means, _LEAST_LOSS))
    weights = np.exp(power - power.max(axis=0))
    result: Floats = weights / weights.sum(axis=0)
    return result


def _faded(values: Floats, half_life: float, axis: int) -> Floats:
    """Sums along `axis` in which what is `half_life` steps old counts half."""
    sums: Floats = lfilter([1.0], [1.0, -(0.5 ** (1 / half_life))], values, axis=axis)
    return sums


def _sizes(errors: Floats) -> Floats:
    """Mean size of an element's recent errors [E, S, J, H]; of all elements' where it has few."""
    fine = np.isfinite(errors)
    sums = _faded(np.where(fine, errors, 0.0), SIZE_HALF_LIFE, axis=1)
    counts = _faded(fine.astype(np.float64), SIZE_HALF_LIFE, axis=1)
    many = counts.sum(axis=0)
    pooled = np.where(many > 1e-9, sums.sum(axis=0) / np.maximum(many, 1e-9), 1.0)
    return np.maximum((sums + _POOLED_SIZE * pooled) / (counts + _POOLED_SIZE), _LEAST_SIZE)


def _shape(scores: Floats, levels: Floats) -> Floats:
    """[S, J, H, K]: quantiles of recent `scores` [E, S, J, H] of all elements, above their median."""
    steps, (targets, horizons), cells = scores.shape[1], scores.shape[2:], len(_GRID) + 1
    fine = np.isfinite(scores)
    cell = np.searchsorted(_GRID, np.where(fine, scores, 0.0))
    row = np.arange(steps * targets * horizons).reshape(1, steps, targets, horizons)
    counts = np.bincount((row * cells + cell)[fine], minlength=row.size * cells).astype(np.float64)
    counts = _faded(counts.reshape(steps, targets, horizons, cells), SHAPE_HALF_LIFE, axis=0)
    below = np.cumsum(counts, axis=-1)
    # Before any is known: of a Laplace distribution, whose mean size is 1.
    assumed = np.where(_GRID < 0, 0.5 * np.exp(-np.abs(_GRID)), 1 - 0.5 * np.exp(-np.abs(_GRID)))
    share = (below[..., :-1] + _PRIOR * assumed) / (below[..., -1:] + _PRIOR)
    wanted = [*levels, 0.5]
    found = np.empty((*share.shape[:-1], len(wanted)))
    for place, level in enumerate(wanted):
        above = np.clip((share < level).sum(axis=-1, keepdims=True), 1, len(_GRID) - 1)
        low, high = (np.take_along_axis(share, above - back, axis=-1)[..., 0] for back in (1, 0))
        part = np.clip((level - low) / np.maximum(high - low, 1e-12), 0, 1)
        at = above[..., 0]
        found[..., place] = _GRID[at - 1] + part * (_GRID[at] - _GRID[at - 1])
    return found[..., :-1] - found[..., -1:]
