"""Intervals of a twin's predictions: held-out errors of its elements, added up along flows' paths.

For every flow and stretch of history, the errors that its elements had at that time (each fitted on other
times, `calibrate`) add up to what the prediction of its delay would have missed by. Their quantile by load
band is what elements leave open (`intervals`: split conformal). Three more parts add to it in squares: a flow
does not meet the mean of the packets that cross an element (`FLOW_ERROR`), a mean over `HORIZON` stretches of
history has noise of its own, and other flows may have been moved than those that demand was inferred of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.learned.flow_error import FLOW_ERROR, Z90
from domain_twin.simulation.learned.intervals import Intervals, Misses, Quantity, calibrate, misses_of
from domain_twin.simulation.solve import Solution
from domain_twin.simulation.twin.calibration import Calibration

__all__ = ["FlowIntervals", "flow_intervals"]

HORIZON = 3  # stretches that a predicted mean is a mean over
_MOST_FLOWS = 400
_FIGURES = {"delay_ms": Quantity.DELAY}


@dataclass(frozen=True, slots=True)
class FlowIntervals:
    """Intervals around the figures of a flow; NaN for those that history says nothing about."""

    intervals: Intervals
    over_s: float  # a predicted mean is one over so long a time

    def around(
        self, figure: str, value: float, utilisation: float, *, noise: float = 0.0, moved: float = 0.0
    ) -> tuple[float, float]:
        """The 90 % interval of a figure of a flow whose busiest element is this busy.

        `noise`: standard error of the figure's mean over the packets of one second; `moved`: that from other
        flows having been moved than those that demand was inferred of (`learned.moved`).
        """
        quantity = _FIGURES.get(figure)
        if quantity is None or not math.isfinite(value):
            return math.nan, math.nan
        _, high = self.intervals.bounds(quantity, np.array([value]), np.array([utilisation]))
        sampling = Z90 * noise / math.sqrt(self.over_s)
        half = math.hypot(float(high[0]) - value, Z90 * FLOW_ERROR * value, Z90 * moved, sampling)
        return max(0.0, value - half), value + half


def flow_intervals(base: Solution, calibration: Calibration | None) -> FlowIntervals | None:
    """Intervals for a network whose state as it is `base` answers for; None without a calibration."""
    if calibration is None or not calibration.residuals:
        return None
    intervals = calibrate(_misses(base, calibration))
    over_s = _horizon(calibration) * calibration.stretch_s
    return FlowIntervals(intervals, over_s) if intervals.calibrated else None


def _horizon(calibration: Calibration) -> int:
    """Stretches that are averaged: HORIZON, but in a short history one, as errors of all would cancel out."""
    return HORIZON if max(map(len, calibration.residuals.values())) >= 4 * HORIZON else 1


def _misses(base: Solution, calibration: Calibration) -> Misses:
    graph = base.graph
    stretches = max(map(len, calibration.residuals.values()))
    errors = np.zeros((len(graph.edges), stretches))
    for edge, name in enumerate(graph.edges):
        row = calibration.residuals.get(name)
        if row is not None:
            errors[edge, stretches - len(row) :] = row
    offered = base.edges.offered
    kind, target, source = np.nonzero(offered)
    chosen = np.linspace(0, len(kind) - 1, min(len(kind), _MOST_FLOWS)).astype(int)
    predicted: list[FloatArray] = []
    measured: list[FloatArray] = []
    load: list[FloatArray] = []
    windows = max(1, stretches // _horizon(calibration))
    length = stretches // windows
    for flow in chosen:
        c, d, s = int(kind[flow]), int(target[flow]), int(source[flow])
        path = list(base.path(s, d))
        delay = base.edges.delay[path, c]
        missed = (delay[:, None] * errors[path]).sum(axis=0)[-windows * length :]
        mean = np.nanmean(np.where(np.isfinite(missed), missed, np.nan).reshape(windows, length), axis=1)
        predicted.append(np.full(windows, delay.sum()))
        measured.append(delay.sum() + mean)
        load.append(np.full(windows, base.utilisation[path].max(initial=0.0)))
    if not predicted:
        return Misses({})
    return misses_of(
        Quantity.DELAY, np.concatenate(predicted), np.concatenate(measured), np.concatenate(load)
    )
