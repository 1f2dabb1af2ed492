"""Windows over a panel: what a model of a task reads at a step, on each element's own scale.

Owns that scale (it is local, computed from the panel's training part and never sent), the levels and the
daily shape beside the lags, and which steps may be trained or judged on. Holds no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from domain_twin.errors import ContractError
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Role, Task

__all__ = ["Scale", "Windows", "check_panel", "ewma", "local_scale", "targets_of"]

DAY_S: Final = 86_400.0
HALF_LIVES: Final = (2.0, 6.0, 20.0, 60.0)
"""Of the levels, in steps."""
_DAYS: Final = 7
_KNOWN_SHARE: Final = 0.5
_FLOOR: Final = 1e-9

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """One domain's own scale, each [E, F]: z = (asinh(x / unit) - centre) / spread."""

    unit: Floats
    centre: Floats
    spread: Floats

    def to_z(self, values: Floats) -> Floats:
        """`values` [E, T, F] in units of the features as z."""
        z: Floats = np.arcsinh(values / self.unit[:, None])
        return (z - self.centre[:, None]) / self.spread[:, None]


def targets_of(task: Task) -> Indices:
    """Columns of the task's features that it foretells."""
    return np.array([i for i, feature in enumerate(task.features) if feature.role is Role.TARGET], np.intp)


def check_panel(task: Task, panel: Panel) -> None:
    """Raises ContractError where `panel` is not of the task's features or step."""
    wanted = tuple(feature.kpi for feature in task.features)
    if panel.features != wanted:
        raise ContractError(
            f"model {task.model!r} reads {', '.join(wanted)}; the panel has {', '.join(panel.features)}"
        )
    if not np.isclose(panel.step_s, task.step_s):
        raise ContractError(
            f"model {task.model!r} has steps of {task.step_s:g} s,"
            f" the panel of {panel.step_s:g} s: resample it"
        )


def local_scale(values: Floats) -> Scale:
    """The scale that fits `values` [E, T, F]; of what was never known, or never changed, a neutral one."""
    known = np.isfinite(values)
    sizes = np.where(known & (values != 0), np.abs(values), np.nan)
    unit = _nan_median(sizes, fallback=1.0)
    z = np.where(known, np.arcsinh(np.where(known, values, 0) / unit[:, None]), 0.0)
    counts = known.sum(axis=1)
    centre = z.sum(axis=1) / np.maximum(counts, 1)
    squares = np.where(known, (z - centre[:, None]) ** 2, 0).sum(axis=1) / np.maximum(counts, 1)
    spread = np.sqrt(squares)
    return Scale(unit, centre, np.where(spread > 1e-6, spread, 1.0))


def ewma(values: Floats, half_life: float) -> Floats:
    """Exponentially weighted means along axis 1 of what is known; NaN until something is."""
    keep = 0.5 ** (1 / half_life)
    known = np.isfinite(values)
    sums = lfilter([1.0], [1.0, -keep], np.where(known, values, 0.0), axis=1)
    weights = lfilter([1.0], [1.0, -keep], known.astype(np.float64), axis=1)
    level: Floats = np.where(weights > _FLOOR, sums / np.maximum(weights, _FLOOR), np.nan)
    return level


class Windows:
    """What a forecaster of `task` reads of `panel`: all that it needs at any step, on the local scale."""

    def __init__(self, task: Task, panel: Panel, scale: Scale | None = None) -> None:
        check_panel(task, panel)
        self.task, self.panel = task, panel
        self.targets = targets_of(task)
        self.horizons = np.array(task.horizons, np.intp)
        self.scale = scale or local_scale(panel.training())
        z = self.scale.to_z(panel.values)
        self._known = np.isfinite(z)
        self.truth = z[:, :, self.targets]
        # One span's extreme value must not decide a window: six spreads are enough to be seen as extreme.
        z = np.clip(z, -6, 6)
        self.levels = np.stack([np.nan_to_num(ewma(z, half)) for half in HALF_LIVES], axis=-1)
        self._z = np.where(self._known, z, self.levels[..., 1]).astype(np.float32)
        self.base = self.levels[:, :, self.targets, 1]
        self._static = self._context()

    @property
    def width(self) -> int:
        """Length of what is read at one step."""
        return width(self.task)

    def steps(self, *, holdout: bool) -> tuple[Indices, Indices]:
        """(elements, steps) whose window is known well enough and whose horizons end in the part asked."""
        reach, first = int(self.horizons.max()), self.task.lags - 1
        begin, end = (
            (max(first, self.panel.holdout_from - 1), self.panel.steps - reach)
            if holdout
            else (first, self.panel.holdout_from - reach)
        )
        if end <= begin:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.arange(begin, end)
        seen = np.cumsum(self._known[:, :, self.targets].mean(axis=2), axis=1)
        seen = np.concatenate([np.zeros((seen.shape[0], 1)), seen], axis=1)
        share = (seen[:, at + 1] - seen[:, at + 1 - self.task.lags]) / self.task.lags
        ahead = np.isfinite(self.truth[:, at[:, None] + self.horizons]).any(axis=(2, 3))
        elements, offsets = np.nonzero((share >= _KNOWN_SHARE) & ahead)
        return elements, at[offsets]

    def inputs(self, elements: Indices, steps: Indices) -> NDArray[np.float32]:
        """[n, width]: lags and levels relative to the target's level, the level, the daily shape."""
        lags = self._z[elements[:, None], steps[:, None] - np.arange(self.task.lags)]
        level = self.levels[elements, steps, :, 1].astype(np.float32)
        parts = [(lags - level[:, None]).reshape(len(steps), -1), self._static[elements, steps]]
        return np.concatenate(parts, axis=1)

    def ahead(self, elements: Indices, steps: Indices) -> Floats:
        """[n, J, H]: targets at the horizons, as z relative to the level at the step; NaN where unknown."""
        later = self.truth[elements[:, None], steps[:, None] + self.horizons]
        relative: Floats = np.swapaxes(later, 1, 2) - self.base[elements, steps][:, :, None]
        return relative

    def to_units(self, relative: Floats, elements: Indices, steps: Indices) -> Floats:
        """`relative` [n, J, H, ...] of `ahead` in units of the targets."""
        extra = (slice(None), slice(None), *(None,) * (relative.ndim - 2))
        scale, pick = self.scale, (elements[:, None], self.targets)
        z = relative + self.base[elements, steps][extra]
        x: Floats = np.sinh(z * scale.spread[pick][extra] + scale.centre[pick][extra])
        return x * scale.unit[pick][extra]

    def _context(self) -> NDArray[np.float32]:
        """[E, T, .]: levels beside each other, the level, time of day where two days are known, the shape."""
        count, steps = len(self.panel.elements), self.panel.steps
        level = self.levels[..., 1]
        spans = [self.levels[..., i] - level for i in (0, 2, 3)]
        at = self.panel.start / 1e9 + np.arange(steps) * self.panel.step_s
        angle = 2 * np.pi * at / DAY_S
        clock = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
        clock *= float(self.panel.holdout_from * self.panel.step_s >= 2 * DAY_S)
        shape = self._daily()
        parts = [*spans, level, np.broadcast_to(clock, (count, steps, 4)), shape]
        return np.concatenate([part.reshape(count, steps, -1) for part in parts], axis=2).astype(np.float32)

    def _daily(self) -> Floats:
        """[E, T, J * (H + 1) + 1]: past days at this time and at each horizon, above the level; if known."""
        steps, period = self.panel.steps, round(DAY_S / self.panel.step_s)
        shape = np.zeros((*self.base.shape[:2], len(self.targets), len(self.horizons) + 1))
        known = np.zeros((*self.base.shape[:2], 1))
        if not 4 <= period < steps:
            return np.concatenate([shape.reshape(*known.shape[:2], -1), known], axis=2)
        half = max(period // 96, 0)
        smooth = _centred_mean(np.clip(self.truth, -6, 6), half)
        for i, ahead in enumerate([0, *self.horizons]):
            sums, counts = np.zeros_like(self.base), np.zeros_like(self.base)
            for day in range(1, _DAYS + 1):
                back = day * period - int(ahead) - 0
                # The centred mean reaches `half` steps past its middle: never past what is known now.
                if back <= half or back >= steps:
                    continue
                past = smooth[:, : steps - back]
                fine = np.isfinite(past)
                sums[:, back:] += np.where(fine, past, 0)
                counts[:, back:] += fine
            shape[..., i] = np.where(counts > 0, sums / np.maximum(counts, 1) - self.base, 0)
            known[..., 0] = np.maximum(known[..., 0], (counts > 0).any(axis=2))
        return np.concatenate([shape.reshape(*known.shape[:2], -1), known], axis=2)


def width(task: Task) -> int:
    """Length of what a forecaster of `task` reads at one step."""
    features, targets = len(task.features), len(targets_of(task))
    return task.lags * features + 4 * features + 4 + targets * (len(task.horizons) + 1) + 1


def _nan_median(values: Floats, fallback: float) -> Floats:
    """Median along axis 1 of what is known; `fallback` where nothing is."""
    ordered = np.sort(values, axis=1)
    counts = np.isfinite(ordered).sum(axis=1)
    middle = np.clip((counts - 1) // 2, 0, None)
    median = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0] if values.shape[1] else counts * 1.0
    found: Floats = np.where(counts > 0, median, fallback)
    return found


def _centred_mean(values: Floats, half: int) -> Floats:
    """Mean of what is known from `half` steps before to `half` steps after, along axis 1."""
    known = np.isfinite(values)
    pad = np.zeros((values.shape[0], 1, values.shape[2]))
    sums = np.concatenate([pad, np.cumsum(np.where(known, values, 0), axis=1)], axis=1)
    counts = np.concatenate([pad, np.cumsum(known, axis=1)], axis=1)
    at = np.arange(values.shape[1])
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, values.shape[1])
    total, number = sums[:, high] - sums[:, low], counts[:, high] - counts[:, low]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
