"""A detector of faults: Hotelling's T2 against how far healthy elements drift, which no domain knows alone.

A plain T2 judges by the spread within the training part and takes every slow drift for a fault. This one is
told by all domains, as two statistics, how far each KPI moves away from an earlier reference in normal
operation, and which KPIs move together; what moves otherwise is a fault. Two channels: as measured, and
smoothed. Owns the statistics and the score; thresholds and events are `detect`'s. numpy only; works on each
element's own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.missing import geometric_median
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Profile, Task
from domain_twin.learning.windows import Scale, check_panel, ewma

__all__ = [
    "LEAST_STEPS",
    "DetectorLearner",
    "deviations",
    "expected",
    "make",
    "personal",
    "plain_t2q",
    "reference",
    "residuals",
    "scores",
]

LEAST_STEPS: Final = 40
LEAST_OWN: Final = 1000
"""Steps of all elements together from which a domain's own statistics may be used alone or in part."""
MIXTURES: Final = (0.0, 0.5, 1.0)
"""Shares of a domain's own statistics beside those of all domains."""
_SETTINGS: Final = {"smooth": 5.0}
_RIDGE: Final = 0.002
_FARTHEST: Final = 15.0
_STILL: Final = 1e-6
_SHARES: Final = (0.3, 0.5)
"""Of the training part, what counts as the reference of a trial run; the rest is watched."""
_SCALE: Final = "drift.log"
_CORRELATION: Final = "drift.correlation"
_INJECTED: Final = 24

Floats = NDArray[np.float64]


def make(task: Task) -> DetectorLearner:
    """The learner of `task`. Raises ConfigError for settings that cannot be."""
    where = f"model {task.model!r}: a detector"
    if unknown := task.settings.keys() - _SETTINGS.keys():
        raise ConfigError(f"{where} has no setting {sorted(unknown)[0]!r}; it has {', '.join(_SETTINGS)}")
    try:
        smooth = float(task.settings.get("smooth", _SETTINGS["smooth"]))
    except ValueError as error:
        raise ConfigError(f"{where}: settings are numbers ({error})") from None
    if not 0 < smooth <= 1000:
        raise ConfigError(f"{where}: smooth is a half-life of more than 0 and at most 1000 steps")
    if not task.features:
        raise ConfigError(f"{where} reads at least one feature")
    if task.profile is Profile.PRIVATE:
        raise ConfigError(
            f"{where} is made of statistics of the data, to which no noise is added: profile 'private' cannot"
            " train it; a forecaster can be"
        )
    return DetectorLearner(task, smooth)


@dataclass(frozen=True, slots=True)
class DetectorLearner:
    """A `Learner` that is `Standardised`: the statistics of the first round are the model."""

    task: Task
    smooth: float

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Drifts as large as the spread of the training part, independent of each other."""
        features = len(self.task.features)
        return {
            _SCALE: np.zeros((2, features), np.float32),
            _CORRELATION: np.stack([np.eye(features, dtype=np.float32)] * 2),
        }

    def statistics(self, panel: Panel) -> Arrays:
        """How far this domain's elements drift from earlier references, and what drifts together."""
        check_panel(self.task, panel)
        trials = [trial for share in _SHARES for trial in self._trials(panel.training(), share)]
        if not trials:
            raise ContractError(
                f"model {self.task.model!r}: no element with {LEAST_STEPS} known steps of all features; the"
                " detector needs a longer history"
            )
        features = len(self.task.features)
        scale, correlation = np.zeros((2, features)), np.zeros((2, features, features))
        for channel in range(2):
            runs = [trial[channel] for trial in trials]
            # The median over trials: one in which an element was at fault must not hide faults of others.
            size = np.sqrt(np.median([np.mean(run**2, axis=0) for run in runs], axis=0))
            size = np.where(size > _STILL, size, 1.0)
            scale[channel] = np.log(size)
            parts = []
            for run in runs:
                scaled = run / size
                parts.append(scaled.T @ scaled / len(run) / max(1.0, float((scaled**2).mean())))
            correlation[channel] = _normal(np.mean(parts, axis=0))
        return {_SCALE: scale.astype(np.float32), _CORRELATION: correlation.astype(np.float32)}

    def standardised(self, arrays: Arrays, statistics: Sequence[Arrays]) -> Arrays:
        """The geometric median of what domains said: less than half of them may lie."""
        made = dict(arrays)
        for name, limit in ((_SCALE, 10.0), (_CORRELATION, 1.0)):
            said = np.stack(
                [np.clip(one[name], -limit, limit).astype(np.float64).ravel() for one in statistics]
            )
            made[name] = geometric_median(said).reshape(arrays[name].shape).astype(arrays[name].dtype)
        return made

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """What is known already; where no statistics were asked for, the own. Raises ContractError."""
        own = self.statistics(panel)
        if not arrays[_SCALE].any():
            arrays = dict(arrays) | own
        apart = float(np.abs(own[_SCALE] - arrays[_SCALE]).mean())
        samples = int(np.isfinite(panel.training()).all(axis=2).sum())
        return Trained(dict(arrays), samples, {"loss": apart})

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """`loss`: 1 - area under the ROC of faults injected in the holdout; `naive:t2q`: the plain T2+Q's.

        Faults are shifts of one to three KPIs by 1 to 4 deviations, sudden or creeping, the same each time.
        """
        check_panel(self.task, panel)
        if panel.steps - panel.holdout_from < LEAST_STEPS // 2:
            raise ContractError(f"model {self.task.model!r}: too short a holdout to inject faults in")
        rng = np.random.default_rng(self.task.seed)
        found, rival = [], []
        for _ in range(_INJECTED):
            element = int(rng.integers(len(panel.elements)))
            part = panel.values[element : element + 1]
            scale = reference(part[:, : panel.holdout_from])
            z = scale.to_z(part)
            if not np.isfinite(z[:, panel.holdout_from :]).any():
                continue
            z[0], at_fault = _faulty(z[0], panel.holdout_from, rng)
            held = slice(panel.holdout_from, None)
            found.append(_area(scores(arrays, z, self.smooth)[0, held], at_fault[held]))
            rival.append(_area(plain_t2q(z[0], panel.holdout_from)[held], at_fault[held]))
        if not found:
            raise ContractError(f"model {self.task.model!r}: nothing known in the holdout")
        return {
            "loss": 1.0 - float(np.mean(found)),
            "naive:t2q": 1.0 - float(np.mean(rival)),
            "samples": float(len(found)),
        }

    def _trials(self, training: Floats, share: float) -> list[tuple[Floats, ...]]:
        """What deviates, in normal operation, from a reference that ends so early; by channel, [T, F]."""
        begin = int(training.shape[1] * share)
        trials = []
        for element in range(len(training)):
            part = training[element : element + 1]
            if int(np.isfinite(part).all(axis=2).sum()) < LEAST_STEPS:
                continue
            if not np.isfinite(part[0, :begin]).any(axis=0).all():
                continue
            channels = deviations(reference(part[:, :begin]).to_z(part), self.smooth)
            later = [channel[0, begin:] for channel in channels]
            known = [run[np.isfinite(run).all(axis=1)] for run in later]
            if min(len(run) for run in known) >= LEAST_STEPS // 4:
                trials.append(tuple(known))
        return trials


def personal(task: Task, arrays: Arrays, panel: Panel) -> Arrays:
    """The mixture of everybody's statistics and the domain's own that best finds faults injected here.

    Injected in the last 30 % of the training part. The own statistics never leave; without enough data for
    them it is everybody's alone.
    """
    made = make(task)
    if np.isfinite(panel.training()).all(axis=2).sum() < LEAST_OWN:
        return arrays
    try:
        own = made.statistics(panel)
        trial = replace(panel, holdout_from=int(panel.holdout_from * 0.7))
        trial = replace(trial, values=panel.training())
        mixed = [
            {
                name: (share * own[name] + (1 - share) * arrays[name]).astype(arrays[name].dtype)
                for name in arrays
            }
            for share in MIXTURES
        ]
        return min(mixed, key=lambda one: made.evaluate(one, trial)["loss"])
    except ContractError:
        return arrays


def reference(values: Floats) -> Scale:
    """Each element's own scale of healthy values [E, T, F]: linear, without what lies six deviations off."""
    known = np.isfinite(values)
    held = np.where(known, values, np.nan)
    centre, spread = _moments(held)
    held = np.where(np.abs(held - centre[:, None]) <= 6 * spread[:, None], held, np.nan)
    centre, spread = _moments(held)
    # asinh is the identity where values are small beside the unit.
    unit = 1e6 * (np.abs(centre) + spread + 1e-12)
    return Scale(unit, np.arcsinh(centre / unit), np.maximum(spread / unit, 1e-15))


def deviations(z: Floats, smooth: float) -> tuple[Floats, Floats]:
    """The two channels of z [E, T, F]: as it is, and smoothed; NaN where nothing is known."""
    cut = np.clip(z, -_FARTHEST, _FARTHEST)
    return cut, np.where(np.isfinite(z), ewma(cut, smooth), np.nan)


def scores(arrays: Arrays, z: Floats, smooth: float) -> Floats:
    """[E, T]: the larger of the two channels' root mean T2; 1 is usual. NaN where nothing is known."""
    found = [_distance(arrays, channel, at) for channel, at in enumerate(deviations(z, smooth))]
    return np.fmax(*found)


def residuals(arrays: Arrays, z: Floats, smooth: float) -> Floats:
    """[E, T, F]: how far each KPI is from what the others let expect, smoothed, in its own deviations."""
    at = deviations(z, smooth)[1]
    precision = _precision(arrays, 1)
    found: Floats = np.nan_to_num(at) @ precision / np.sqrt(np.diagonal(precision))
    return np.where(np.isfinite(at), found, np.nan)


def expected(arrays: Arrays, z: Floats) -> Floats:
    """z [..., F] with each KPI as the others of its step let expect it; what is not known counts as usual."""
    precision = _precision(arrays, 0)
    known = np.nan_to_num(z)
    found: Floats = known - (known @ precision) / np.diagonal(precision)
    return found


def plain_t2q(z: Floats, trained: int, share: float = 0.9) -> Floats:
    """[T]: the usual T2 + Q of principal components of the first steps, each by its 99th percentile."""
    seen = np.nan_to_num(z)
    seen = (seen - seen[:trained].mean(0)) / np.maximum(seen[:trained].std(0), 1e-9)
    values, vectors = np.linalg.eigh(np.cov(seen[:trained].T).reshape(seen.shape[1], seen.shape[1]))
    order = np.argsort(-values)
    values, vectors = np.maximum(values[order], 1e-9), vectors[:, order]
    kept = int(np.searchsorted(np.cumsum(values) / values.sum(), share)) + 1
    parts = seen @ vectors[:, :kept]
    t2 = (parts**2 / values[:kept]).sum(1)
    q = ((seen - parts @ vectors[:, :kept].T) ** 2).sum(1)
    found: Floats = np.zeros(len(z))
    for part in (t2, q):
        found += part / max(float(np.quantile(part[:trained], 0.99)), 1e-9)
    return found


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """[E, F] mean and deviation over time of what is known.

    Of what never changed the deviation is that of the other elements, else a hundredth of the mean and a
    little: a loss where there never was one is to be seen.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(1), 1)
    mean = np.where(known, values, 0.0).sum(1) / count
    spread = np.sqrt(np.where(known, (values - mean[:, None]) ** 2, 0.0).sum(1) / count)
    changes = spread > 1e-9 * (np.abs(mean) + 1e-9)
    others = [
        np.median(column[moves]) if moves.any() else 0.0
        for column, moves in zip(spread.T, changes.T, strict=True)
    ]
    usual = np.where(np.array(others) > 0, others, 0.01 * np.abs(mean) + 1e-3)
    return mean, np.where(changes, spread, usual)


def _normal(matrix: Floats) -> Floats:
    size = np.sqrt(np.maximum(np.diagonal(matrix), 1e-9))
    return np.asarray(np.clip(matrix / np.outer(size, size), -1.0, 1.0))


def _covariance(arrays: Arrays, channel: int) -> Floats:
    size = np.exp(np.clip(arrays[_SCALE][channel].astype(np.float64), -10.0, 10.0))
    correlation = arrays[_CORRELATION][channel].astype(np.float64)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    proper = (vectors * np.maximum(values, 0.0)) @ vectors.T + _RIDGE * np.eye(len(size))
    found: Floats = proper * np.outer(size, size)
    return found


def _precision(arrays: Arrays, channel: int) -> Floats:
    return np.asarray(np.linalg.inv(_covariance(arrays, channel)))


def _distance(arrays: Arrays, channel: int, at: Floats) -> Floats:
    """Root mean T2 of [E, T, F] over the KPIs that are known."""
    found = np.full(at.shape[:2], np.nan)
    covariance = _covariance(arrays, channel)
    known = np.isfinite(at)
    kinds, which = np.unique(known.reshape(-1, at.shape[2]), axis=0, return_inverse=True)
    rows, flat = at.reshape(-1, at.shape[2]), found.reshape(-1)
    for number, kind in enumerate(kinds):
        if not kind.any():
            continue
        chosen = which.ravel() == number
        part = rows[chosen][:, kind]
        precision = np.linalg.inv(covariance[np.ix_(kind, kind)])
        flat[chosen] = np.sqrt(np.einsum("ti,ij,tj->t", part, precision, part) / kind.sum())
    return found


def _faulty(z: Floats, begin: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """z [T, F] with a fault somewhere after `begin`, and when it is there."""
    steps, features = z.shape
    length = max(4, (steps - begin) // 3)
    start = begin + int(rng.integers(0, max(1, steps - begin - length)))
    at_fault = np.zeros(steps, bool)
    at_fault[start : start + length] = True
    hit = rng.choice(features, int(rng.integers(1, min(3, features) + 1)), replace=False)
    shift = rng.uniform(1, 4, len(hit)) * rng.choice([-1.0, 1.0], len(hit))
    creeping = rng.random() < 0.5
    shape = np.linspace(0.0, 1.0, length) if creeping else np.ones(length)
    changed = z.copy()
    changed[start : start + length, hit] += shape[:, None] * shift
    return changed, at_fault


def _area(score: Floats, at_fault: NDArray[np.bool_]) -> float:
    """Area under the ROC: how often a step at fault scores higher than one that is not."""
    known = np.isfinite(score)
    score, at_fault = score[known], at_fault[known]
    bad, good = int(at_fault.sum()), int((~at_fault).sum())
    if not bad or not good:
        return 0.5
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score))
    rank[order] = np.arange(1, len(score) + 1)
    return float((rank[at_fault].sum() - bad * (bad + 1) / 2) / (bad * good))
