"""Watch elements with a model in service: what deviates, since when, by which KPIs, suddenly or creeping.

Owns thresholds, hysteresis and evidence. The threshold is set on the domain's own training part, by a trial:
the model is fitted to its first half and watches the second; it is as high as the wanted number of false
alarms a day asks for. An alarm needs two steps above it and ends after three well below it. Knows nothing of
alarms' life, which is the alarm desk's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ContractError
from domain_twin.learning.detection import Detection, ElementStanding, Evidence, Onset, Standing
from domain_twin.learning.learner import Arrays
from domain_twin.learning.missing import from_z
from domain_twin.learning.models import detector
from domain_twin.learning.models.vae import unlikely
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Kind, Task
from domain_twin.learning.windows import Scale, check_panel, local_scale
from domain_twin.model import Nanoseconds

__all__ = ["Detection", "Evidence", "Onset", "Watch", "threshold"]

Floats = NDArray[np.float64]

CONFIRM_STEPS: Final = 2
"""Steps in a row above the threshold that make a detection."""
CLEAR_STEPS: Final = 3
CLEAR_BELOW: Final = 0.7
"""Of the threshold: a detection ends after CLEAR_STEPS in a row below this."""
_SHOWN: Final = 3
_TAIL: Final = 0.05
_DAY_S: Final = 86_400.0
_MARGIN: Final = 1.02


@dataclass(slots=True)
class _Element:
    """How one element stands."""

    above: int = 0
    below: int = 0
    alarmed: bool = False
    standing: Detection | None = None

    def takes(self, score: float) -> bool | None:
        """Take the next score, in thresholds: True: it raises, False: it clears, None: all stays.

        NaN, which is not known, neither raises nor clears.
        """
        if math.isnan(score):
            return None
        self.above = self.above + 1 if score >= 1 else 0
        self.below = self.below + 1 if score < CLEAR_BELOW else 0
        if not self.alarmed and self.above >= CONFIRM_STEPS:
            self.alarmed = True
            return True
        if self.alarmed and self.below >= CLEAR_STEPS:
            self.alarmed = False
            return False
        return None


@dataclass(slots=True)
class Watch:
    """A detector, or a VAE, in service in one domain. Made by `Watch.of`; keeps what stands between calls."""

    task: Task
    arrays: Arrays
    scale: Scale
    elements: tuple[str, ...]
    limit: float
    """The score from which an element deviates."""
    _seen: Nanoseconds = 0
    _states: list[_Element] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task, arrays: Arrays, panel: Panel, *, false_alarms_per_day: float = 1.0) -> Watch:
        """Fit to the training part of `panel`. Raises ContractError: too short, or no model that watches."""
        check_panel(task, panel)
        if task.kind not in (Kind.DETECTOR, Kind.VAE):
            raise ContractError(f"model {task.model!r} is a {task.kind.value} and watches nothing")
        training = panel.training()
        half = training.shape[1] // 2
        if half < detector.LEAST_STEPS // 2:
            raise ContractError(
                f"model {task.model!r}: {training.shape[1]} steps to learn what is usual from; at least"
                f" {detector.LEAST_STEPS} are needed"
            )
        if task.kind is Kind.DETECTOR:
            arrays = detector.personal(task, arrays, panel)
        scale_of = local_scale if task.kind is Kind.VAE else detector.reference
        trial = scale_of(training[:, :half]).to_z(training)
        usual = _scores(task, arrays, trial)[:, half:]
        limit = threshold(usual, panel.step_s, false_alarms_per_day)
        states = [_Element() for _ in panel.elements]
        return cls(task, arrays, scale_of(training), panel.elements, limit, 0, states)

    @property
    def standing(self) -> list[Detection]:
        """What deviates now."""
        return [state.standing for state in self._states if state.standing]

    def state(self) -> Standing:
        """How all elements stand."""
        told = {
            element: ElementStanding(state.above, state.below, state.standing)
            for element, state in zip(self.elements, self._states, strict=True)
            if state.above or state.below or state.standing
        }
        return Standing(self._seen, told)

    def following(self, stood: Standing) -> Watch:
        """This watch, going on from how an earlier fit `stood`, to the same elements or others."""
        for element, state in zip(self.elements, self._states, strict=True):
            before = stood.elements.get(element, ElementStanding())
            state.above, state.below, state.standing = before.above, before.below, before.detection
            state.alarmed = before.detection is not None
        self._seen = stood.seen
        return self

    def scores(self, panel: Panel) -> Floats:
        """[E, T]: scores in thresholds. Raises ContractError: other elements than this was fitted to."""
        self._check(panel)
        return _scores(self.task, self.arrays, self.scale.to_z(panel.values)) / self.limit

    def alarmed(self, panel: Panel) -> NDArray[np.bool_]:
        """[E, T]: when each element would have been alarmed, from the first step on; keeps nothing."""
        scores = self.scores(panel)
        found = np.zeros(scores.shape, bool)
        for row, own in zip(found, scores, strict=True):
            state = _Element()
            for at, score in enumerate(own):
                state.takes(float(score))
                row[at] = state.alarmed
        return found

    def observe(self, panel: Panel) -> tuple[list[Detection], list[Detection]]:
        """Take the steps of `panel` that are new: what began and what ended in them.

        Earlier steps are only looked at for what is smoothed over them; 50 are enough.
        """
        self._check(panel)
        step = round(panel.step_s * 1e9)
        ends = panel.start + step * (np.arange(panel.steps) + 1)
        fresh = np.flatnonzero(ends > self._seen)
        if not len(fresh):
            return [], []
        z = self.scale.to_z(panel.values)
        scores = _scores(self.task, self.arrays, z) / self.limit
        began: list[Detection] = []
        ended: list[Detection] = []
        for number, state in enumerate(self._states):
            for at in fresh:
                turned = state.takes(float(scores[number, at]))
                if turned is True:
                    state.standing = self._detection(panel, (number, int(at)), scores[number], z)
                    began.append(state.standing)
                elif turned is False and state.standing is not None:
                    ended.append(state.standing)
                    state.standing = None
        self._seen = int(ends[-1])
        return began, ended

    def _check(self, panel: Panel) -> None:
        check_panel(self.task, panel)
        if panel.elements != self.elements:
            raise ContractError(
                f"model {self.task.model!r}: it was fitted to {len(self.elements)} elements, and these are"
                f" {len(panel.elements)} others; fit it to these"
            )

    def _detection(self, panel: Panel, where: tuple[int, int], scores: Floats, z: Floats) -> Detection:
        element, at = where
        step = round(panel.step_s * 1e9)
        low = np.flatnonzero(scores[: at + 1] < 0.5)
        usual = int(low[-1]) if len(low) else -1  # the last step at which nothing was to be seen
        high = np.flatnonzero(scores[: at + 1] < 1)
        first = int(high[-1]) + 1 if len(high) else 0
        onset = Onset.JUMP if first - usual <= CONFIRM_STEPS else Onset.DRIFT
        began = first if onset is Onset.JUMP else usual + 1
        return Detection(
            element=self.elements[element],
            started_at=panel.start + began * step,
            detected_at=panel.start + (at + 1) * step,
            score=float(np.nanmax(scores[first : at + 1])),
            onset=onset,
            evidence=self._evidence(panel, element, at, z),
        )

    def _evidence(self, panel: Panel, element: int, at: int, z: Floats) -> tuple[Evidence, ...]:
        part = z[element : element + 1, : at + 1]
        if self.task.kind is Kind.VAE:
            distance, usual = unlikely(self.task, self.arrays, part)[0, -1], np.zeros(part.shape[2])
        else:
            distance = detector.residuals(self.arrays, part, detector.make(self.task).smooth)[0, -1]
            usual = detector.expected(self.arrays, part[0, -1])
        distance = np.nan_to_num(distance)
        values = panel.values[element, at]
        expected = from_z(self.scale, usual, element)
        order = np.argsort(-np.abs(distance))[:_SHOWN]
        return tuple(
            Evidence(panel.features[i], float(values[i]), float(expected[i]), float(distance[i]))
            for i in order
            if math.isfinite(values[i]) and abs(distance[i]) >= 1
        )


def threshold(usual: Floats, step_s: float, per_day: float) -> float:
    """The score that is reached by chance so many times a day, by usual scores [E, T] of a trial.

    The tail above the 95th percentile is taken for exponential (Pickands 1975), so that a short trial can
    say what is rare, with two standard errors of its mean for how short the trial was; never less than the
    worst that was seen, where the trial was shorter than what is rare.
    """
    twice = np.fmin(usual[:, 1:], usual[:, :-1])  # CONFIRM_STEPS in a row
    known = np.sort(twice[np.isfinite(twice)])
    if not len(known):
        raise ContractError("nothing is known of what is usual: no score in the trial")
    at = float(np.quantile(known, 1 - _TAIL))
    beyond = known[known > at] - at
    days = usual.shape[1] * step_s / _DAY_S
    worst = float(known[-1]) if days * per_day <= 1 else 0.0
    if not len(beyond):
        return max(at, worst, 1e-6) * _MARGIN
    wanted = max(_episodes(twice, at) / days / per_day, 1.0)
    excess = float(beyond.mean()) * (1 + 2 / math.sqrt(len(beyond)))
    return max(at + excess * math.log(wanted), worst * _MARGIN)


def _episodes(twice: Floats, limit: float) -> int:
    """How often scores [E, T] rise above `limit`."""
    above = np.nan_to_num(twice, nan=-np.inf) > limit
    return int(above[:, 0].sum() + (above[:, 1:] & ~above[:, :-1]).sum()) if above.shape[1] else 0


def _scores(task: Task, arrays: Arrays, z: Floats) -> Floats:
    if task.kind is Kind.VAE:
        return np.asarray(np.sqrt(np.nanmean(np.square(_filled(unlikely(task, arrays, z))), axis=2)))
    return detector.scores(arrays, z, detector.make(task).smooth)


def _filled(away: Floats) -> Floats:
    """With zeros where a step says nothing at all of one KPI, so that means are over all KPIs."""
    return np.where(np.isfinite(away).any(axis=2, keepdims=True), np.nan_to_num(away), 0.0)
