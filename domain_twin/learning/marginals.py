"""How the values of each KPI are spread, and the way between units and normal scores. Owns no model.

A normal score is the point of the standard normal distribution with the same rank (van der Waerden). The
spread is kept as means over bins of ranks, never as single values, so that no sample is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from domain_twin.errors import ContractError

__all__ = ["LEAST_VALUES", "Marginals"]

LEAST_VALUES: Final = 200
"""Known values that each KPI needs: the outermost bins are means over one in two hundred."""

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
            levels[column] = [known[a:b].mean() for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
            resolution[column] = _resolution(known)
        return cls(levels, resolution)

    @classmethod
    def unpacked(cls, packed: NDArray[np.float32], resolution: NDArray[np.float32]) -> Marginals:
        """From the arrays of a model. Means over domains may have lost their order: it is restored."""
        levels = np.sinh(packed.astype(np.float64) * _SPAN) * _UNIT
        steps = np.sinh(resolution.astype(np.float64) * _SPAN) * _UNIT
        return cls(np.maximum.accumulate(levels, axis=1), np.where(steps > 0, _rounded(steps), 0.0))

    def packed(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`levels` and `resolution` as arrays of a model, all within -1 and 1."""
        return (
            (np.arcsinh(self.levels / _UNIT) / _SPAN).astype(np.float32),
            (np.arcsinh(self.resolution / _UNIT) / _SPAN).astype(np.float32),
        )

    def scores(self, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Normal scores of `values` [..., F]; NaN stays. Values on a grid are spread over their step first."""
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


def uniform(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, 0 to 1, of normal scores."""
    ranks: NDArray[np.float64] = ndtr(scores)
    return ranks


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
