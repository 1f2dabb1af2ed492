"""A forecaster's forecasts as they are used: weighed with naive ones, and given bands, by recent errors.

Owns what is compared with what, and the rivals' own measures; the maths is in `adapting.py`. Everything
happens where the data is, and what is said of a step rests on nothing that was known later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from domain_twin.learning.adapting import Known, around, pinball, shares
from domain_twin.learning.models.naive import naive_forecasts
from domain_twin.learning.windows import Floats, Indices, Windows

__all__ = ["Followed", "naive_mix", "naive_scores", "nmae"]

WARM: Final = 60
"""Steps before the holdout whose errors count for the bands."""
_MODEL: Final = 0.5
"""Weight of the model before any error is known: half as it says, half with bands of recent errors."""
_LAST: Final = 0.75
"""Share of persistence in the weight of all rivals then; the others have the rest."""
_NUMBERS: Final = 4_000_000
"""Of one forecast's quantiles that are in memory at once: elements are taken in blocks."""
_LEAST_WIDTH: Final = 0.015
"""Standard deviation that a model's outermost quantiles are taken for at least, in spreads."""

Made = Callable[[Indices, Indices], Floats]
"""Quantiles [n, J, H, K] that a model says of elements at steps, above the level, in spreads."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What rivals say of some elements at all steps from `Followed.begin`, on the local scale."""

    elements: Indices
    known: Known
    centres: dict[str, Floats]
    quantiles: dict[str, Floats]
    losses: dict[str, Floats]

    def mixed(self, prior: float = 0.0, *models: Floats) -> tuple[Floats, Floats]:
        """Quantiles of the rivals' mix and of `models`, which share `prior`; its losses."""
        others = max(1, len(self.quantiles) - 1)
        rest = [_LAST if name == "persistence" else (1 - _LAST) / others for name in self.quantiles]
        weight = (1 - prior) / sum(rest)
        losses = [pinball(model, self.known.truth, self.known.levels) for model in models]
        weights = shares(
            [*losses, *self.losses.values()],
            [*(prior / max(1, len(models)) for _ in models), *(weight * one for one in rest)],
            self.known,
        )
        made = np.zeros((*self.known.truth.shape, len(self.known.levels)))
        for share, quantiles in zip(weights, [*models, *self.quantiles.values()], strict=True):
            made += share[..., None] * quantiles
        return made, pinball(made, self.known.truth, self.known.levels)


class Followed:
    """Forecasts of all elements of `windows`; those of a step read what was known then."""

    def __init__(self, windows: Windows, levels: tuple[float, ...], made: Made) -> None:
        self._windows, self._levels, self._made = windows, levels, made
        self.begin = _begin(windows)
        self._blocks: dict[int, tuple[Floats, Floats]] = {}

    def at(self, elements: Indices, steps: Indices) -> tuple[Floats, Floats]:
        """[n, J, H, K]: quantiles as they are used, and as the model alone says; above the level.

        Before `begin`, where all is what the model was trained on, they are the same.
        """
        raw = np.empty((len(steps), *_heads(self._windows), len(self._levels)))
        early = steps < self.begin
        if early.any():
            raw[early] = self._made(elements[early], steps[early])
        used = raw.copy()
        size = _block_size(self._windows, self._levels)
        for number in np.unique(elements[~early] // size):
            here = ~early & (elements // size == number)
            place = elements[here] - number * size, steps[here] - self.begin
            mixed, alone = self._block(int(number))
            base = self._windows.base[elements[here], steps[here]][:, :, None, None]
            used[here], raw[here] = mixed[place] - base, alone[place] - base
        return used, raw

    def _block(self, number: int) -> tuple[Floats, Floats]:
        if number not in self._blocks:
            self._blocks.clear()
            block = _rivals(self._windows, self._levels, number)
            steps = np.arange(self.begin, self._windows.length)
            grid = [one.ravel() for one in np.meshgrid(block.elements, steps, indexing="ij")]
            shape = (len(block.elements), len(steps), *_heads(self._windows), len(self._levels))
            base = self._windows.base[block.elements, self.begin :][..., None, None]
            alone = self._made(*grid).reshape(shape) + base
            low, middle, high = (
                np.argmin(np.abs(np.array(self._levels) - wanted)) for wanted in (0.05, 0.5, 0.95)
            )
            # Of a normal distribution, these two lie 3.29 standard deviations apart.
            width = np.maximum((alone[..., high] - alone[..., low]) / 3.29, _LEAST_WIDTH)
            sure = around(alone[..., middle], block.known, width)
            self._blocks[number] = block.mixed(_MODEL, alone, sure)[0], alone
        return self._blocks[number]


_KEPT: WeakKeyDictionary[Windows, _Block] = WeakKeyDictionary()
_SCORES: WeakKeyDictionary[Windows, dict[str, float]] = WeakKeyDictionary()


def naive_scores(windows: Windows, levels: tuple[float, ...]) -> dict[str, float]:
    """The rivals' measures on the holdout: `naive:NAME` loss in spreads, `nmae:NAME` error of the median.

    Each once with quantiles of its errors in training, once (`NAME-adaptive`) with those of recent errors;
    `mix` weighs them as they are weighed beside a model, without one.
    """
    if windows not in _SCORES:
        _SCORES[windows] = _static(windows, levels) | _adaptive(windows, levels)
    return dict(_SCORES[windows])


def naive_mix(windows: Windows, levels: tuple[float, ...], elements: Indices, steps: Indices) -> Floats:
    """[n, J, H, K]: quantiles of all rivals together, above the level; of steps that `Followed` adapts at."""
    made = np.empty((len(steps), *_heads(windows), len(levels)))
    size = _block_size(windows, levels)
    for number in np.unique(elements // size):
        here = elements // size == number
        place = elements[here] - number * size, steps[here] - _begin(windows)
        made[here] = _rivals(windows, levels, int(number)).mixed()[0][place]
    return made - windows.base[elements, steps][:, :, None, None]


def nmae(made: Floats, truth: Floats) -> float:
    """Mean absolute error beside the mean size of what was to be foretold, mean over targets and horizons."""
    size = np.nanmean(np.abs(truth), axis=0)
    return float(np.mean(np.nanmean(np.abs(made - truth), axis=0) / np.maximum(size, 1e-12)))


def _static(windows: Windows, levels: tuple[float, ...]) -> dict[str, float]:
    past, taus = windows.steps(holdout=False), np.array(levels)
    elements, steps = windows.steps(holdout=True)
    truth, known = windows.ahead(elements, steps), windows.ahead(*past)
    units = windows.to_units(truth, elements, steps)
    scores: dict[str, float] = {}
    for name, points in _points(windows, np.arange(len(windows.values))).items():
        if not np.isfinite(points[elements, steps]).all():
            continue
        errors = known - windows.to_relative(points[past], *past)
        spread = np.zeros((*truth.shape[1:], len(levels)))
        if np.isfinite(errors).any(axis=0).all():
            spread = np.moveaxis(np.nanquantile(errors, taus, axis=0), 0, -1)
        at = points[elements, steps]
        relative = windows.to_relative(at, elements, steps)[..., None] + spread
        scores[f"naive:{name}"] = float(np.nanmean(pinball(relative, truth, taus)))
        scores[f"nmae:{name}"] = nmae(at, units)
    return scores


def _adaptive(windows: Windows, levels: tuple[float, ...]) -> dict[str, float]:
    elements, steps = windows.steps(holdout=True)
    size, begin = _block_size(windows, levels), _begin(windows)
    middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
    found: dict[str, list[tuple[Floats, Floats]]] = {}
    for number in range(-(-len(windows.values) // size)):
        here = elements // size == number
        place = elements[here] - number * size, steps[here] - begin
        block = _rivals(windows, levels, number)
        mixed, loss = block.mixed()
        rows = {f"{name}-adaptive": (centre, block.losses[name]) for name, centre in block.centres.items()}
        for name, (centre, lost) in {**rows, "mix": (mixed[..., middle], loss)}.items():
            found.setdefault(name, []).append((centre[place], lost[place]))
    # As they stand in `found`, from block to block.
    order = np.argsort(elements // size, kind="stable")
    at = elements[order], steps[order]
    base, units = windows.base[at][:, :, None], windows.to_units(windows.ahead(*at), *at)
    scores: dict[str, float] = {}
    for name, parts in found.items():
        made, losses = (np.concatenate(each) for each in zip(*parts, strict=True))
        if len(losses) == len(steps):
            scores[f"naive:{name}"] = float(np.nanmean(losses))
            scores[f"nmae:{name}"] = nmae(windows.to_units(made - base, *at), units)
    return scores


def _rivals(windows: Windows, levels: tuple[float, ...], number: int) -> _Block:
    """Of one block of elements; of all, where they are one block, kept for as long as `windows`."""
    if windows in _KEPT:
        return _KEPT[windows]
    size, begin = _block_size(windows, levels), _begin(windows)
    elements = np.arange(number * size, min((number + 1) * size, len(windows.values)))
    shape = (len(elements), windows.length - begin, *_heads(windows))
    truth = np.full(shape, np.nan)
    for place, horizon in enumerate(windows.horizons):
        later = windows.truth[elements, begin + horizon :]
        truth[:, : later.shape[1], :, place] = later
    known = Known(truth, windows.horizons, np.array(levels), max(0, windows.holdout_from - begin))
    level = windows.base[elements, begin:][..., None]
    centres = {
        name: np.where(np.isfinite(points[:, begin:]), windows.to_z(points, elements)[:, begin:], level)
        for name, points in _points(windows, elements).items()
        if np.isfinite(points[:, begin:]).any()
    }
    quantiles = {name: around(centre, known) for name, centre in centres.items()}
    losses = {name: pinball(made, truth, known.levels) for name, made in quantiles.items()}
    block = _Block(elements, known, centres, quantiles, losses)
    if size >= len(windows.values):
        _KEPT[windows] = block
    return block


def _points(windows: Windows, elements: Indices) -> dict[str, Floats]:
    """Every rival's forecasts [E, T, J, H] in units, of all steps."""
    values = windows.values[elements][:, :, windows.targets]
    step_s = windows.task.step_s
    by_horizon = [naive_forecasts(values, int(horizon), step_s) for horizon in windows.horizons]
    return {name: np.stack([rivals[name] for rivals in by_horizon], axis=-1) for name in by_horizon[0]}


def _begin(windows: Windows) -> int:
    return min(windows.length - 1, max(windows.task.lags - 1, windows.holdout_from - 1 - WARM))


def _heads(windows: Windows) -> tuple[int, int]:
    return len(windows.targets), len(windows.horizons)


def _block_size(windows: Windows, levels: tuple[float, ...]) -> int:
    targets, horizons = _heads(windows)
    each = (windows.length - _begin(windows)) * targets * horizons * len(levels)
    return max(1, _NUMBERS // each)
