"""Rounding to the safe side: what leaves a domain is never better than what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from domain_twin.model import PathKpis

__all__ = ["BANDWIDTH", "EXACT", "FIGURES", "Precision", "disclose", "disclose_one", "round_down", "round_up"]

BANDWIDTH = "bandwidth"
"""Name of the free capacity in an agreement's list of KPIs; the others have their names of the model."""
FIGURES = frozenset({"one_way_delay", "delay_variance", "loss_ratio", BANDWIDTH})
"""Every KPI that an agreement can disclose."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Steps to round to; 0 is exact. Variances use the square of the delay's step."""

    delay_ms: float = 0.0
    bandwidth_mbps: float = 0.0
    loss: float = 0.0


EXACT = Precision()


def disclose(
    kpis: NDArray[np.float64], *, precision: Precision = EXACT, figures: frozenset[str] = FIGURES
) -> NDArray[np.float64]:
    """Round rows of (delay ms, variance ms2, loss, bandwidth Mbit/s, std error ms), and withhold figures.

    Delay, variance, loss and standard error go up, bandwidth goes down. What is withheld becomes the worst
    case: no delay, variance or error below infinity, no loss below 1 and no bandwidth above 0 is claimed.
    """
    out = kpis.copy()
    out[:, 0] = round_up(kpis[:, 0], precision.delay_ms)
    out[:, 1] = round_up(kpis[:, 1], precision.delay_ms**2)
    out[:, 2] = np.minimum(1.0, round_up(kpis[:, 2], precision.loss))
    out[:, 3] = round_down(kpis[:, 3], precision.bandwidth_mbps)
    out[:, 4] = round_up(kpis[:, 4], precision.delay_ms)
    if "one_way_delay" not in figures:
        out[:, (0, 4)] = np.inf
    if "delay_variance" not in figures:
        out[:, 1] = np.inf
    if "loss_ratio" not in figures:
        out[:, 2] = 1.0
    if BANDWIDTH not in figures:
        out[:, 3] = 0.0
    return out


def disclose_one(kpis: PathKpis, *, precision: Precision, figures: frozenset[str]) -> PathKpis:
    """The same for a single path."""
    row = np.array(
        [
            [
                kpis.delay_ms,
                kpis.delay_variance_ms2,
                kpis.loss,
                kpis.bandwidth_mbps,
                kpis.delay_std_error_ms,
            ]
        ]
    )
    delay, variance, loss, bandwidth, error = disclose(row, precision=precision, figures=figures)[0].tolist()
    return replace(
        kpis,
        delay_ms=delay,
        delay_variance_ms2=variance,
        loss=loss,
        bandwidth_mbps=bandwidth,
        delay_std_error_ms=error,
    )


def round_up(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The least multiples of `step` that are not below the values; `step` 0: as they are."""
    if step <= 0:
        return values
    count = np.ceil(values / step)
    rounded = _times(count, step)
    # The division may have rounded down to a whole number: never below what was measured.
    return np.where(rounded < values, _times(count + 1, step), rounded)


def round_down(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The greatest multiples of `step` that are not above the values; `step` 0: as they are."""
    if step <= 0:
        return values
    count = np.floor(values / step)
    rounded = _times(count, step)
    return np.where(rounded > values, _times(np.maximum(count - 1, 0), step), rounded)


def _times(count: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    inverse = round(1 / step)
    # 57 / 100 is the double nearest to 0.57; 57 * 0.01 is not.
    return count / inverse if step < 1 and abs(inverse * step - 1) < 1e-9 else count * step
