"""Fill the gaps of a panel: by the model where it was seen to be better here, else by straight lines.

Owns the gate, the intervals and what is too long to be filled. Everything is chosen on the calibration part
of the domain's own training part, which no training saw: for each pattern and KPI how far to follow the model
rather than the line (0: not at all), and how wide an interval has to be (split conformal; Vovk et al. 2005).
What was measured is never changed, and what was filled is always marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ContractError
from domain_twin.learning.learner import Arrays
from domain_twin.learning.missing import (
    Pattern,
    draw_known,
    from_z,
    linear_fill,
    patterns_of,
    windows_of,
)
from domain_twin.learning.models.vae import completed, learnt_from, own_moments
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task
from domain_twin.learning.windows import Scale, check_panel, local_scale

__all__ = ["Filled", "Filler"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the model may be followed."""
CLEARLY: Final = 0.02
"""The model is followed where it has this much less error than the line, or more."""
MIXTURES: Final = (0.0, 0.5, 1.0)
"""Shares of the domain's own moments, which never leave it, beside those of all domains."""
_LEAST: Final = 100
"""Hidden values of one pattern and KPI that a choice needs; with fewer, all KPIs choose together."""
_JUDGED: Final = 1024
_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """A panel with its gaps filled. Arrays are [E, T, F], in the panel's units.

    Where `imputed` is True, `values` is no measurement: it lies in [low, high] nine times of ten (or as often
    as was asked). NaN is left where a gap is too long, or nothing is known.
    """

    panel: Panel
    values: Floats
    low: Floats
    high: Floats
    imputed: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Filler:
    """A model in service, with what a domain chose for its own data. Made by `Filler.of`."""

    task: Task
    arrays: Arrays
    share: Floats
    """[patterns, F]: how far to follow the model; 0: the line."""
    reach: Floats
    """[patterns, F]: half an interval, in scales that the model states."""
    scale: Scale
    elements: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, arrays: Arrays, panel: Panel, *, confidence: float = 0.9) -> Filler:
        """Choose by the calibration part of `panel`. Raises ContractError: it is too short."""
        check_panel(task, panel)
        scale = local_scale(learnt_from(panel))
        begin = learnt_from(panel).shape[1]
        z = scale.to_z(panel.values[:, begin : panel.holdout_from])
        windows = windows_of(z, task.lags)
        windows = windows[np.isfinite(windows).mean((1, 2)) >= 0.5] if len(windows) else windows
        if not len(windows):
            raise ContractError(
                f"model {task.model!r}: {panel.holdout_from - begin} steps to choose by; a window has"
                f" {task.lags}: a longer history, or fewer lags"
            )
        rng = np.random.default_rng(task.seed)
        windows = windows[rng.permutation(len(windows))[:_JUDGED]]
        there = np.isfinite(windows)
        truth = np.where(there, windows, 0.0)
        drawn = draw_known(windows.shape, rng)
        known, judged = drawn & there, there & ~drawn
        arrays = _personal(task, arrays, panel, truth, known)
        line, model, spread = _both(arrays, truth, known)
        kinds = patterns_of(known)
        count = (len(Pattern), len(task.features))
        share, reach = np.zeros(count), np.full(count, np.nan)
        for pattern in Pattern:
            of_pattern = judged & (kinds == pattern)
            for feature in range(count[1]):
                cells = of_pattern.copy()
                if cells[..., feature].sum() >= _LEAST:
                    cells[..., np.arange(count[1]) != feature] = False
                if not cells.any():
                    continue
                step, error = model[cells] - line[cells], truth[cells] - line[cells]
                share[pattern, feature] = chosen = _chosen(step, error)
                sizes = np.abs(error - chosen * step) / spread[cells]
                level = min(1.0, confidence * (1 + 1 / len(sizes)))
                reach[pattern, feature] = np.quantile(sizes, level)
        widest = np.nanmax(reach) if np.isfinite(reach).any() else 10.0
        return cls(task, arrays, share, np.where(np.isfinite(reach), reach, widest), scale, panel.elements)

    def fill(self, panel: Panel) -> Filled:
        """Fill what is missing of `panel`, whose elements this was made with. Raises ContractError.

        A gap longer than half a window stays, and so does a series without any value near.
        """
        check_panel(self.task, panel)
        if panel.elements != self.elements:
            raise ContractError(
                f"model {self.task.model!r}: gaps of {len(panel.elements)} elements are to be filled, and it"
                f" was fitted here to {len(self.elements)} others; fit it to these"
            )
        z = self.scale.to_z(panel.values)
        known = np.isfinite(z)
        values, low, high = panel.values.copy(), panel.values.copy(), panel.values.copy()
        for element in range(len(panel.elements)):
            found, half = self._completed(z[element], known[element])
            for target, at in ((values, found), (low, found - half), (high, found + half)):
                target[element] = np.where(
                    known[element], panel.values[element], from_z(self.scale, at, element)
                )
        return Filled(panel, values, low, high, np.isfinite(values) & ~known)

    def _completed(self, z: Floats, known: Bools) -> tuple[Floats, Floats]:
        """Values and half intervals of one element's series [T, F]; NaN where nothing is said."""
        width, (steps, features) = self.task.lags, z.shape
        found, half = np.full(z.shape, np.nan), np.full(z.shape, np.nan)
        if steps < width or known.all():
            return found, half
        inner = np.full(z.shape, -1)  # how far from its window's edges each value was filled
        wanted = ~known & ~_too_long(known, width // 2)
        begins = np.unique(np.append(np.arange(0, steps - width, max(1, width // 6)), steps - width))
        begins = begins[[bool(wanted[first : first + width].any()) for first in begins]]
        edge = np.minimum(np.arange(width), np.arange(width)[::-1])
        for part in np.array_split(begins, max(1, -(-len(begins) // _AT_ONCE))):
            if not len(part):
                continue
            rows = part[:, None] + np.arange(width)
            there = known[rows]
            line, model, spread = _both(self.arrays, np.where(there, z[rows], 0.0), there)
            kinds = np.maximum(patterns_of(there), 0)
            column = np.arange(features)
            value = line + self.share[kinds, column] * (model - line)
            size = self.reach[kinds, column] * spread
            near: Bools = np.any(there, axis=1, keepdims=True)
            for number, first in enumerate(part):
                # The ends of a series are as far inside as it gets.
                inside = edge + width * ((first == 0) & (np.arange(width) < width // 2))
                inside = inside + width * ((first == steps - width) & (np.arange(width) >= width // 2))
                span = slice(first, first + width)
                better = wanted[span] & (inside[:, None] > inner[span]) & near[number]
                found[span] = np.where(better, value[number], found[span])
                half[span] = np.where(better, size[number], half[span])
                inner[span] = np.where(better, inside[:, None], inner[span])
        return found, half


def _personal(task: Task, arrays: Arrays, panel: Panel, truth: Floats, known: Bools) -> Arrays:
    """The model with the mixture of everybody's moments and the domain's own that fills best here."""
    try:
        own = own_moments(task, panel)
    except ContractError:  # too little data for moments of one's own
        return arrays
    best, least = arrays, np.inf
    for share in MIXTURES:
        mixed = arrays | {
            name: (share * own[name] + (1 - share) * arrays[name]).astype(arrays[name].dtype) for name in own
        }
        _, model, _ = _both(mixed, truth, known)
        error = float(np.abs(model - truth)[~known].mean())
        if error < least:
            best, least = mixed, error
    return best


def _both(arrays: Arrays, truth: Floats, known: Bools) -> tuple[Floats, Floats, Floats]:
    """What the line and the model say of windows, and the model's scales."""
    parts = []
    for first in range(0, len(truth), _AT_ONCE):
        part, there = truth[first : first + _AT_ONCE], known[first : first + _AT_ONCE]
        parts.append((linear_fill(part, there), *completed(arrays, part, there)))
    line, model, spread = (np.concatenate(column) for column in zip(*parts, strict=True))
    return line, model, spread


def _chosen(step: Floats, error: Floats) -> float:
    """The share of `step` that leaves the least of `error`, where that is clearly less than all of it."""
    left = [float(np.abs(error - share * step).mean()) for share in SHARES]
    best = int(np.argmin(left))
    return SHARES[best] if left[best] <= (1 - CLEARLY) * left[0] else 0.0


def _too_long(known: Bools, longest: int) -> Bools:
    """[T, F]: what lies in a run of missing steps that is longer than `longest`."""
    steps = np.arange(len(known))[:, None]
    before = np.maximum.accumulate(np.where(known, steps, -1), axis=0)
    after = np.flip(
        np.minimum.accumulate(np.flip(np.where(known, steps, len(known)), axis=0), axis=0), axis=0
    )
    found: Bools = ~known & (after - before - 1 > longest)
    return found
