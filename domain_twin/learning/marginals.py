"""How the values of each KPI are spread, and the way between units and normal scores. Owns no model.

A normal score is the point of the standard normal distribution with the same rank (van der Waerden). The
spread is kept as means over bins of ranks, never as single values, so that no sample is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from domain_twin.errors import ContractError

__all__ = ["LEAST_VALUES", "Marginals", "packed"]

LEAST_VALUES: Final = 200
"""Known values that each KPI needs: the outermost bins are means over one in two hundred."""
_LEAST: Final = 20
"""Values that a mean of a bin is over, at least."""

_EDGES: Final = np.concatenate(
    ([0.0, 0.005, 0.01, 0.02, 0.035], np.linspace(0.05, 0.95, 55), [0.965, 0.98, 0.99, 0.995, 1.0])
)
_SCORES: Final[NDArray[np.float64]] = ndtri((_EDGES[1:] + _EDGES[:-1]) / 2)
_UNIT: Final = 1e-9  # values below this are told apart no more
_SPAN: Final = 50.0  # asinh(1e12 / _UNIT) is 49: packed values lie within -1 and 1
_FARTHEST: Final = 4.0  # normal scores beyond are cut
_DECADES: Final = 6  # below the largest value: finer grids are as good as none
_OFF_GRID: Final = 1e-4  # of a step


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """`levels` is [F, 64]: mean value of each bin of ranks, in units; `resolution` [F]: the step that values
    are multiples of, 1, 2 or 5 times a power of ten, 0 where they are continuous."""

    levels: NDArray[np.float64]
    resolution: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], resolution: NDArray[np.float64] | None = None) -> Marginals:
        """Of `values` [..., F], NaN where unknown. Raises ContractError where a KPI has too few.

        `resolution` [F] is found from them unless it is given.
        """
        flat = values.reshape(-1, values.shape[-1])
        levels = np.empty((flat.shape[1], len(_SCORES)))
        steps = np.zeros(flat.shape[1]) if resolution is None else resolution
        for column in range(flat.shape[1]):
            known = np.sort(flat[np.isfinite(flat[:, column]), column])
            if len(known) < LEAST_VALUES:
                raise ContractError(
                    f"feature {column} has {len(known)} known values and {LEAST_VALUES} are needed:"
                    " a longer window, or another KPI"
                )
            cuts = np.round(_EDGES * len(known)).astype(int)
            levels[column] = [_mean(known, first, last) for first, last in pairwise(cuts)]
            if resolution is None:
                steps[column] = _resolution(known)
        return cls(levels, steps)

    @classmethod
    def none(cls, features: int) -> Marginals:
        """What a model begins with: nothing is known."""
        return cls(np.zeros((features, len(_SCORES))), np.zeros(features))

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]]) -> tuple[Marginals, ...]:
        """Of each regime, from a model's arrays. Means over domains may have lost order: it is restored."""
        levels = np.sinh(arrays["marginals.levels"].astype(np.float64) * _SPAN) * _UNIT
        steps = np.sinh(arrays["marginals.resolution"].astype(np.float64) * _SPAN) * _UNIT
        return tuple(
            cls(np.maximum.accumulate(each, axis=1), _rounded(step))
            for each, step in zip(levels, steps, strict=True)
        )

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


def packed(regimes: Sequence[Marginals]) -> dict[str, NDArray[np.float32]]:
    """Of each regime, as arrays [K, F, 64] and [K, F] of a model, all within -1 and 1."""
    levels = np.stack([each.levels for each in regimes])
    steps = np.stack([each.resolution for each in regimes])
    return {
        "marginals.levels": (np.arcsinh(levels / _UNIT) / _SPAN).astype(np.float32),
        "marginals.resolution": (np.arcsinh(steps / _UNIT) / _SPAN).astype(np.float32),
    }


def _mean(known: NDArray[np.float64], first: int, last: int) -> float:
    """Mean of a bin of ordered values; where it holds fewer than `_LEAST`, of those around it, too."""
    first = max(0, min((first + last - _LEAST) // 2, first, len(known) - _LEAST))
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
    """The step of values on a grid, 0 where they are continuous: as many distinct ones as a quarter of all.

    Only steps of 1, 2 or 5 times a power of ten are tried: what is told of the values is which of a few
    grids holds them all, and no difference of two.
    """
    distinct = np.unique(known)
    if len(distinct) < 2 or len(distinct) > len(known) / 4:
        return 0.0
    coarsest = math.floor(math.log10(max(abs(distinct[0]), abs(distinct[-1]))))
    for power in range(coarsest, coarsest - _DECADES, -1):
        for factor in (5, 2, 1):
            step = factor * 10.0**power
            multiples = distinct / step
            if np.abs(multiples - np.round(multiples)).max() < _OFF_GRID:
                return step
    return 0.0


def _rounded(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps [F] to the nearest grid: what packing, or a mean over domains, lost. Below `_UNIT` is none."""
    there = np.maximum(steps, _UNIT)
    power = 10.0 ** np.floor(np.log10(there) + 1e-6)
    factors = np.array([1.0, 2.0, 5.0, 10.0])
    nearest = factors[np.abs(np.log(there / power)[:, None] - np.log(factors)).argmin(1)]
    return np.where(steps > _UNIT, nearest * power, 0.0)
