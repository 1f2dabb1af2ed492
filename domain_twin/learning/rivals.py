"""Synthetic series without a model that is learned: what a generator must beat. Owns no judgement.

Both read the data itself, so both can run in its domain only. The bootstrap copies blocks: it is nearly
perfect in every likeness, and it gives the data away.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from domain_twin.errors import ContractError

__all__ = ["block_bootstrap", "copula"]

_BURN_IN: Final = 500
_RIDGE: Final = 1e-6


def block_bootstrap(
    values: NDArray[np.float64], rows: int, rng: np.random.Generator, *, block: int = 120
) -> NDArray[np.float64]:
    """[rows, F]: blocks of `values` [E, T, F] or [T, F], of geometric length with mean `block`, end to end.

    Politis & Romano 1994. Blocks begin anywhere and end at a gap.
    """
    series = _laid(values)
    known = np.flatnonzero(np.isfinite(series).all(1))
    if not len(known):
        raise ContractError("a bootstrap needs steps at which every feature is known; there is none")
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(series).all(axis=1))
    out = np.empty((rows, series.shape[1]))
    filled = 0
    while filled < rows:
        begin = int(rng.choice(known))
        length = min(int(rng.geometric(1 / block)), rows - filled, len(series) - begin)
        stop = np.flatnonzero(~whole[begin : begin + length])
        length = int(stop[0]) if len(stop) else length
        out[filled : filled + length] = series[begin : begin + length]
        filled += length
    return out


def copula(
    values: NDArray[np.float64], rows: int, rng: np.random.Generator, *, most: int = 12
) -> NDArray[np.float64]:
    """[rows, F]: a Gaussian copula. Normal scores of every feature follow an AR(p), p by AIC up to `most`.

    Innovations are correlated as the residuals are; values are read off the empirical distribution.
    """
    series = _laid(values)
    scores = np.full(series.shape, np.nan)
    known = [np.sort(column[np.isfinite(column)]) for column in series.T]
    for index, column in enumerate(series.T):
        finite = np.isfinite(column)
        jittered = column[finite] + rng.uniform(-1e-9, 1e-9, int(finite.sum())) * (
            np.ptp(known[index]) + 1e-30
        )
        ranks = np.argsort(np.argsort(jittered))
        scores[finite, index] = ndtri((ranks + 0.5) / finite.sum())
    coefficients, residuals = zip(*(_ar(column, most) for column in scores.T), strict=True)
    common = np.isfinite(np.column_stack(residuals)).all(1)
    cover = np.cov(np.column_stack(residuals)[common], rowvar=False).reshape(series.shape[1], -1)
    root = np.linalg.cholesky(cover + _RIDGE * np.eye(len(cover)))
    shocks = rng.standard_normal((rows + _BURN_IN, series.shape[1])) @ root.T
    out = np.empty((rows, series.shape[1]))
    for index, (weights, values_of) in enumerate(zip(coefficients, known, strict=True)):
        made = np.asarray(_filtered(shocks[:, index], weights))[_BURN_IN:]
        # the scores' spread is 1 by construction; AR's is not exactly, and a copula's margins must be
        shares = ndtr(made / max(float(_spread(weights, cover[index, index])), 1e-9))
        out[:, index] = np.quantile(values_of, shares)
    return out


def _filtered(shocks: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.signal import lfilter

    made: NDArray[np.float64] = lfilter([1.0], np.concatenate([[1.0], -weights]), shocks)
    return made


def _spread(weights: NDArray[np.float64], variance: float) -> float:
    """Standard deviation of the AR process, of its impulse response."""
    impulse = np.zeros(20_000)
    impulse[0] = 1.0
    return float(np.sqrt(variance * (_filtered(impulse, weights) ** 2).sum()))


def _ar(scores: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Yule-Walker coefficients of the order with the least AIC, and residuals (NaN at gaps)."""
    finite = np.isfinite(scores)
    filled = np.where(finite, scores, 0.0)
    count = np.array([(finite[k:] & finite[: len(finite) - k]).sum() for k in range(most + 1)])
    covers = np.array([(filled[k:] * filled[: len(filled) - k]).sum() for k in range(most + 1)])
    covers = covers / np.maximum(count, 1)
    covers[0] += _RIDGE
    best: tuple[float, NDArray[np.float64]] = (np.inf, np.zeros(0))
    for order in range(1, most + 1):
        matrix = covers[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
        weights = np.linalg.solve(matrix + _RIDGE * np.eye(order), covers[1 : order + 1])
        variance = max(float(covers[0] - weights @ covers[1 : order + 1]), 1e-12)
        score = finite.sum() * np.log(variance) + 2 * order
        if score < best[0]:
            best = (score, weights)
    weights = best[1]
    residuals = scores.copy()
    for lag, weight in enumerate(weights, 1):
        residuals[lag:] -= weight * scores[:-lag]
    residuals[: len(weights)] = np.nan
    return weights, residuals


def _laid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Elements' series end to end [T, F], a gap between them."""
    if values.ndim == 2:
        return values
    gap = np.full((values.shape[0], 1, values.shape[2]), np.nan)
    return np.concatenate([values, gap], axis=1).reshape(-1, values.shape[2])
