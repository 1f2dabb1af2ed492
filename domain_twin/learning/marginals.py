"""How the values of each KPI are spread, and the way between units and normal scores. Owns no model.

A normal score is the point of the standard normal distribution with the same rank (van der Waerden). The
spread is kept as means over bins of ranks, never as single values, so that no sample is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from domain_twin.errors import ContractError

__all__ = ["LEAST_VALUES", "Marginals"]

LEAST_VALUES: Final = 200
"""Known values that each KPI needs: the outermost bins are means over one in two hundred."""
_LEAST: Final = 5
"""Values that a mean of a bin is over, at least."""

_EDGES: Final = np.concatenate(
    ([0.0, 0.005, 0.01, 0.02, 0.035], np.linspace(0.05, 0.95, 55), [0.965, 0.98, 0.99, 0.995, 1.0])
)
_SCORES: Final[NDArray[np.float64]] = ndtri((_EDGES[1:] + _EDGES[:-1]) / 2)
_UNIT: Final = 1e-9  # values below this are told apart no more
_SPAN: Final = 50.0  # asinh(1e12 / _UNIT) is 49: packed values lie within -1 and 1
_FARTHEST: Final = 4.0  # normal scores beyond are cut


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """`levels` is [F, 64]: mean value of each bin of ranks, in units; `resolution` [F]: the step that values
    are multiples of, 0 where they are continuous."""

    levels: NDArray[np.float64]
    resolution: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> Marginals:
        """Of `values` [..., F], NaN where unknown. Raises ContractError where a KPI has too few."""
        flat = values.reshape(-1, values.shape[-1])
        levels = np.empty((flat.shape[1], len(_SCORES)))
        resolution = np.zeros(flat.shape[1])
        for column in range(flat.shape[1]):
            known = np.sort(flat[np.isfinite(flat[:, column]), column])
            if len(known) < LEAST_VALUES:
                raise ContractError(
                    f"feature {column} has {len(known)} known values and {LEAST_VALUES} are needed:"
                    " a longer window, or another KPI"
                )
            cuts = np.round(_EDGES * len(known)).astype(int)
            levels[column] = [_mean(known, first, last) for first, last in pairwise(cuts)]
            resolution[column] = _resolution(known)
        return cls(levels, resolution)

    @classmethod
    def none(cls, features: int) -> Marginals:
        """What a model begins with: nothing is known."""
        return cls(np.zeros((features, len(_SCORES))), np.zeros(features))

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]]) -> Marginals:
        """From the arrays of a model. Means over domains may have lost their order: it is restored."""
        levels = np.sinh(arrays["marginals.levels"].astype(np.float64) * _SPAN) * _UNIT
        steps = np.sinh(arrays["marginals.resolution"].astype(np.float64) * _SPAN) * _UNIT
        return cls(np.maximum.accumulate(levels, axis=1), np.where(steps > 0, _rounded(steps), 0.0))

    def packed(self) -> dict[str, NDArray[np.float32]]:
        """As arrays of a model, all within -1 and 1."""
        return {
            "marginals.levels": (np.arcsinh(self.levels / _UNIT) / _SPAN).astype(np.float32),
            "marginals.resolution": (np.arcsinh(self.resolution / _UNIT) / _SPAN).astype(np.float32),
        }

    def hermite(self, degree: int = 5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Polynomials that make standardised values of normal scores, both [degree + 1, F].

        First their coefficients by orthonormal Hermite polynomials, whose products over two scores with
        correlation r are r ** order; then by powers, constant first.
        """
        scores = ndtri((np.arange(4_000) + 0.5) / 4_000)
        values = self.values(np.repeat(scores[:, None], len(self.levels), axis=1))
        scaled = (values - values.mean(0)) / (values.std(0) + 1e-12)
        powers = np.polynomial.polynomial.polyfit(scores, scaled, degree)
        orders = np.array([np.polynomial.hermite_e.poly2herme(column) for column in powers.T]).T
        factorials = np.array([math.factorial(order) for order in range(len(orders))], dtype=float)
        return orders * np.sqrt(factorials)[:, None], powers

    def scores(self, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal scores of `values` [..., F]; NaN stays. Values on a grid are spread over their step."""
        out = np.empty(values.shape)
        for column, levels in enumerate(self.levels):
            series = values[..., column]
            step = self.resolution[column]
            if step:
                series = series + rng.uniform(-step / 2, step / 2, series.shape)
            rising = _rising(levels)
            out[..., column] = np.interp(series, rising, _SCORES)
            low, high = _slopes(rising)
            out[..., column] += np.clip(series - rising[-1], 0, None) / high
            out[..., column] += np.clip(series - rising[0], None, 0) / low
        return np.clip(out, -_FARTHEST, _FARTHEST)

    def values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in units of normal `scores` [..., F]."""
        out = np.empty(scores.shape)
        scores = np.clip(scores, -_FARTHEST, _FARTHEST)
        for column, levels in enumerate(self.levels):
            series = scores[..., column]
            rising = _rising(levels)
            low, high = _slopes(rising)
            result = np.interp(series, _SCORES, rising)
            result += np.clip(series - _SCORES[-1], 0, None) * high
            result += np.clip(series - _SCORES[0], None, 0) * low
            if levels[0] >= 0:
                result = np.maximum(result, 0.0)
            step = self.resolution[column]
            out[..., column] = np.round(result / step) * step if step else result
        return out


def _mean(known: NDArray[np.float64], first: int, last: int) -> float:
    """Mean of a bin of ordered values; where it holds fewer than `_LEAST`, of those around it, too."""
    first = max(0, min(first, len(known) - _LEAST))
    return float(known[first : max(last, first + _LEAST)].mean())


def _rising(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """`levels` made strictly rising, so that they can be inverted."""
    least = max(float(levels[-1] - levels[0]), abs(float(levels[-1])), _UNIT) * 1e-7
    return levels + least * np.arange(len(levels))


def _slopes(rising: NDArray[np.float64]) -> tuple[float, float]:
    """Units per normal score at both ends: of the outermost two bins."""
    return (
        float((rising[1] - rising[0]) / (_SCORES[1] - _SCORES[0])),
        float((rising[-1] - rising[-2]) / (_SCORES[-1] - _SCORES[-2])),
    )


def _resolution(known: NDArray[np.float64]) -> float:
    """The step of values on a grid, 0 where they are continuous: fewer distinct ones than half of all."""
    distinct = np.unique(known)
    if len(distinct) < 2 or len(distinct) > len(known) / 4:
        return 0.0
    step = float(np.diff(distinct).min())
    multiples = (distinct - distinct[0]) / step
    return step if np.abs(multiples - np.round(multiples)).max() < 1e-3 else 0.0


def _rounded(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps to five figures: what packing lost."""
    with np.errstate(divide="ignore"):
        scale = 10.0 ** (np.floor(np.log10(np.where(steps > 0, steps, 1.0))) - 4)
    return np.round(steps / scale) * scale
