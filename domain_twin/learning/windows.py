"""Windows over a panel: what a model of a task reads at a step, on each element's own scale.

Owns the levels and the daily shape beside the lags, and which steps may be trained or judged on. Holds no
model.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from domain_twin.errors import ContractError
from domain_twin.learning.panel import Panel
from domain_twin.learning.scaling import Scale, local_scale
from domain_twin.learning.task import Role, Task

__all__ = [
    "CANDIDATES",
    "Scale",
    "Windows",
    "check_panel",
    "ewma",
    "local_scale",
    "targets_of",
    "width",
    "windows_of",
]

DAY_S: Final = 86_400.0
HALF_LIVES: Final = (2.0, 6.0, 20.0, 60.0)
"""Of the levels, in steps: exponentially weighted means on the local scale, so nearly geometric ones."""
MEAN_HALF_LIVES: Final = (2.0, 6.0, 20.0)
"""Of the levels in units: arithmetic means, which bursts lift."""
CANDIDATES: Final = 1 + len(HALF_LIVES) + len(MEAN_HALF_LIVES) + 2
"""Last value, levels, levels in units, the past days at the horizon, and the level with their change."""
_BASE: Final = 1
_DAYS: Final = 7
_KNOWN_SHARE: Final = 0.5
_FLOOR: Final = 1e-9
_EXTREME: Final = 8.0
_SQUASH: Final = 3.0

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Indices = NDArray[np.intp]


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


def ewma(values: Floats, half_life: float) -> Floats:
    """Exponentially weighted means along axis 1 of what is known; NaN until something is."""
    keep = 0.5 ** (1 / half_life)
    known = np.isfinite(values)
    sums = lfilter([1.0], [1.0, -keep], np.where(known, values, 0.0), axis=1)
    weights = lfilter([1.0], [1.0, -keep], known.astype(np.float64), axis=1)
    level: Floats = np.where(weights > _FLOOR, sums / np.maximum(weights, _FLOOR), np.nan)
    return level


def width(task: Task) -> int:
    """Length of what a forecaster of `task` reads at one step."""
    features, targets = len(task.features), len(targets_of(task))
    levels = (len(HALF_LIVES) + len(MEAN_HALF_LIVES)) * features
    return task.lags * features + levels + 4 + targets * (len(task.horizons) + 1) + 1


class Windows:
    """What a forecaster of `task` reads of `panel`: all that it needs at any step, on the local scale."""

    def __init__(self, task: Task, panel: Panel, scale: Scale | None = None) -> None:
        check_panel(task, panel)
        # Not the panel itself: `windows_of` keeps windows for as long as their panel lives.
        self.task, self.values = task, panel.values
        self.holdout_from, self.length = panel.holdout_from, panel.steps
        self.targets = targets_of(task)
        self.horizons = np.array(task.horizons, np.intp)
        self.scale = scale or local_scale(panel.training())
        z = self.scale.to_z(panel.values)
        self.truth: Floats = z[:, :, self.targets]
        self._known: Floats = np.mean(np.isfinite(self.truth), axis=2)
        low, high = _bounds(z)
        z = np.clip(z, low, high)
        levels = np.stack([np.nan_to_num(ewma(z, half)) for half in HALF_LIVES], axis=-1)
        self.base = levels[:, :, self.targets, _BASE]
        self._z = np.where(np.isfinite(z), z, levels[..., _BASE]).astype(np.float32)
        means = [self.scale.to_z(ewma(panel.values, half)) for half in MEAN_HALF_LIVES]
        means = [np.clip(np.nan_to_num(mean), low, high) for mean in means]
        self._levels = np.concatenate([levels, np.stack(means, axis=-1)], axis=-1).astype(np.float32)
        at = panel.start / 1e9 + np.arange(self.length) * panel.step_s
        angle = 2 * np.pi * at / DAY_S
        clock = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
        # Within less than two days, time of day cannot be told from what else changed.
        two_days = self.holdout_from * panel.step_s >= 2 * DAY_S
        self._clock = (clock * two_days).astype(np.float32)
        self._shape, self._shape_known = self._daily(z[:, :, self.targets], round(DAY_S / panel.step_s))

    def steps(self, *, holdout: bool) -> tuple[Indices, Indices]:
        """(elements, steps) whose window is known well enough and whose horizons end in the part asked."""
        reach, first = int(self.horizons.max()), self.task.lags - 1
        begin, end = (
            (max(first, self.holdout_from - 1), self.length - reach)
            if holdout
            else (first, self.holdout_from - reach)
        )
        if end <= begin:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.arange(begin, end)
        seen = np.cumsum(self._known, axis=1)
        seen = np.concatenate([np.zeros((seen.shape[0], 1)), seen], axis=1)
        share = (seen[:, at + 1] - seen[:, at + 1 - self.task.lags]) / self.task.lags
        later: Floats = self.truth[:, at[:, None] + self.horizons]
        ahead = np.isfinite(later).any(axis=(2, 3))
        elements, offsets = np.nonzero((share >= _KNOWN_SHARE) & ahead)
        return elements, at[offsets]

    def inputs(self, elements: Indices, steps: Indices) -> Singles:
        """[n, width]: lags and levels relative to the level, the level, time of day, the daily shape."""
        lags = self._z[elements[:, None], steps[:, None] - np.arange(self.task.lags)]
        levels = self._levels[elements, steps]
        level = levels[..., _BASE]
        others = np.delete(levels, _BASE, axis=-1) - level[..., None]
        shape, known = self._daily_at(elements, steps)
        count = len(steps)
        parts = [
            (lags - level[:, None]).reshape(count, -1),
            others.reshape(count, -1),
            level,
            self._clock[steps],
            (shape * known[..., None]).reshape(count, -1),
            np.any(known, axis=1, keepdims=True),
        ]
        # Bounded, so that what was never seen in training is not carried on without end.
        read: Singles = (_SQUASH * np.tanh(np.concatenate(parts, axis=1) / _SQUASH)).astype(np.float32)
        return read

    def candidates(self, elements: Indices, steps: Indices) -> Singles:
        """[n, J, H, CANDIDATES]: simple forecasts, as z relative to the level."""
        base = self.base[elements, steps]
        last = self._z[elements, steps][:, self.targets]
        levels = self._levels[elements, steps][:, self.targets]
        now = np.concatenate([last[..., None], levels], axis=-1) - base[..., None]
        shape, known = self._daily_at(elements, steps)
        ahead = np.where(known[..., None], shape[..., 1:], 0)
        change = np.where(known[..., None], shape[..., 1:] - shape[..., :1], 0)
        horizons = ahead.shape[2]
        spread = np.broadcast_to(now[:, :, None], (*now.shape[:2], horizons, now.shape[2]))
        made: Singles = np.concatenate([spread, ahead[..., None], change[..., None]], axis=-1)
        return made.astype(np.float32)

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

    def to_z(self, values: Floats, elements: Indices) -> Floats:
        """`values` [E, T, J, H] of the targets of `elements` in units, on the local scale."""
        at = np.ix_(elements, self.targets)
        unit, centre, spread = (
            part[at][:, None, :, None] for part in (self.scale.unit, self.scale.centre, self.scale.spread)
        )
        z: Floats = (np.arcsinh(values / unit) - centre) / spread
        return z

    def to_relative(self, values: Floats, elements: Indices, steps: Indices) -> Floats:
        """`values` [n, J, H] in units of the targets, as `ahead` has them."""
        scale, pick = self.scale, (elements[:, None], self.targets)
        z = np.arcsinh(values / scale.unit[pick][..., None]) - scale.centre[pick][..., None]
        relative: Floats = z / scale.spread[pick][..., None] - self.base[elements, steps][..., None]
        return relative

    def _daily_at(self, elements: Indices, steps: Indices) -> tuple[Singles, NDArray[np.bool_]]:
        """[n, J, H + 1] past days at the time now and at the horizons, above the level; [n, J] if known."""
        if self._shape is None or self._shape_known is None:
            count = (len(steps), len(self.targets))
            return np.zeros((*count, len(self.horizons) + 1), np.float32), np.zeros(count, np.bool_)
        base = self.base[elements, steps][..., None].astype(np.float32)
        return self._shape[elements, steps] - base, self._shape_known[elements, steps]

    def _daily(self, z: Floats, period: int) -> tuple[Singles | None, NDArray[np.bool_] | None]:
        """[E, T, J, H + 1] mean of up to seven past days at each step and horizon; None in the first day."""
        if not 4 <= period < self.length:
            return None, None
        half = period // 96
        smooth = _centred_mean(z, half)
        size = (*self.base.shape, len(self.horizons) + 1)
        shape, known = np.zeros(size, np.float32), np.ones(self.base.shape, np.bool_)
        for i, ahead in enumerate([0, *self.horizons]):
            sums, counts = np.zeros_like(self.base), np.zeros_like(self.base)
            for day in range(1, _DAYS + 1):
                back = day * period - int(ahead)
                # The centred mean reaches `half` steps past its middle: never past what is known now.
                if half <= back < self.length:
                    past = smooth[:, : self.length - back]
                    fine = np.isfinite(past)
                    sums[:, back:] += np.where(fine, past, 0)
                    counts[:, back:] += fine
            known &= counts > 0
            shape[..., i] = sums / np.maximum(counts, 1)
        return shape, known


_KEPT: WeakKeyDictionary[Panel, dict[bytes, Windows]] = WeakKeyDictionary()


def windows_of(task: Task, panel: Panel) -> Windows:
    """The windows of `panel`, made once for all rounds of a task and kept while the panel lives."""
    kept = _KEPT.setdefault(panel, {})
    key = task.to_json()
    if key not in kept:
        kept.clear()
        kept[key] = Windows(task, panel)
    return kept[key]


def _bounds(z: Floats) -> tuple[Floats, Floats]:
    """Between which values `z` [E, T, F] is read: one extreme value must not decide a window.

    So many spreads from zero, or from the value before: what moves far beyond all that was trained on is
    followed within some steps.
    """
    low, high = np.full_like(z, -_EXTREME), np.full_like(z, _EXTREME)
    far = np.flatnonzero((np.abs(z) > _EXTREME).any(axis=(0, 2)))
    last = np.zeros((z.shape[0], z.shape[2]))
    for step in range(max(0, int(far[0]) - 1) if len(far) else z.shape[1], z.shape[1]):
        low[:, step], high[:, step] = np.minimum(last, 0) - _EXTREME, np.maximum(last, 0) + _EXTREME
        read = np.clip(z[:, step], low[:, step], high[:, step])
        last = np.where(np.isfinite(read), read, last)
    return low, high


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
