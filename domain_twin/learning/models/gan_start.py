"""Where the generator begins: noise mixed so that covariances over time lags are those of the data. Pure.

What is fitted lies midway between covariances of normal scores and those that give values in units
their correlations. The covariance of mixed noise is a sum of one matrix a time scale times that scale's
known autocorrelation. Those matrices, positive semidefinite, are a convex fit; their symmetric roots are
unique, so that means over domains make sense. Training then bends what is Gaussian here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.learner import Arrays
from domain_twin.learning.marginals import Marginals
from domain_twin.learning.panel import Panel
from domain_twin.learning.synthetic import clock_inputs

__all__ = ["mixing", "own"]

Floats = NDArray[np.float64]

_LAGS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_ITERATIONS: Final = 600


def own(arrays: Arrays, panel: Panel, clock: int, rng: np.random.Generator) -> tuple[Arrays, Floats]:
    """`arrays` with what `panel`'s training part says of itself, and that part as normal scores [E, T, F].

    What a domain says of itself are marginals and the mixing of noise. Raises ContractError for too little.
    """
    values = panel.training()
    marginals = Marginals.fit(values)
    scores = marginals.scores(values, rng)
    hours = clock_inputs(panel.start, np.arange(values.shape[1]), panel.step_s, clock)
    scales = (len(arrays["generator.direct"]) - clock) // values.shape[2]
    direct = mixing(scores, marginals, hours, scales).astype(np.float32)
    return {**arrays, **marginals.packed(), "generator.direct": direct}, scores


def mixing(scores: Floats, marginals: Marginals, clock: Floats, scales: int) -> Floats:
    """[scales * F + clock, F]: weights of noise and clock for `scores` [E, T, F], `clock` [T, clock]."""
    elements, steps, features = scores.shape
    flat, hours = scores.reshape(-1, features), np.tile(clock, (elements, 1))
    known: NDArray[np.bool_] = np.asarray(np.isfinite(flat).all(axis=1))
    by_hour: NDArray[np.floating[Any]] = np.zeros((clock.shape[1], features))
    if clock.shape[1]:
        by_hour = np.linalg.lstsq(hours[known], flat[known], rcond=None)[0]
    there = known.reshape(elements, steps)
    ranked = np.where(known[:, None], flat, 0.0).reshape(elements, steps, features)
    orders, powers = marginals.hermite()
    units = np.polynomial.polynomial.polyval(
        np.clip(ranked, -3.2, 3.2), powers[:, None, None, :], tensor=False
    )
    daily = np.broadcast_to(clock @ by_hour, ranked.shape)
    lags = [lag for lag in _LAGS if lag < steps // 4]
    wanted = np.stack(
        [
            (_cover(ranked, there, lag) + _scores_of(_cover(units, there, lag), orders)) / 2
            - _cover(daily, there, lag)
            for lag in lags
        ]
    )
    shares = np.array([[_autocorrelation(1 << scale, lag) for scale in range(scales)] for lag in lags])
    matrices = _fit(wanted, shares)
    values, vectors = np.linalg.eigh(matrices)
    roots = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.transpose(0, 2, 1)
    return np.concatenate([roots.reshape(-1, features), by_hour])


def _cover(rest: Floats, there: NDArray[np.bool_], lag: int) -> Floats:
    """Symmetric covariance [F, F] at `lag`, over pairs that are both known."""
    stop = rest.shape[1] - lag
    count = max(int((there[:, :stop] & there[:, lag:]).sum()), 1)
    product = np.einsum("etf,etg->fg", rest[:, :stop], rest[:, lag:]) / count
    symmetric: Floats = (product + product.T) / 2
    return symmetric


def _scores_of(products: Floats, orders: Floats) -> Floats:
    """Correlations of scores that give values the correlations `products` (Cario & Nelson 1997)."""
    grid = np.linspace(-1, 1, 201)
    reached = np.einsum(
        "of,og,or->fgr", orders[1:], orders[1:], grid[None] ** np.arange(1, len(orders))[:, None]
    )
    out = np.empty(products.shape)
    for row, column in np.ndindex(out.shape):
        curve = np.maximum.accumulate(reached[row, column])
        out[row, column] = np.interp(products[row, column], curve, grid)
    return out


def _fit(wanted: Floats, shares: Floats) -> Floats:
    """Positive semidefinite [S, F, F] whose sums by `shares` [K, S] are nearest to `wanted` [K, F, F].

    Accelerated projected gradient (Beck & Teboulle 2009). Lag 0 counts more: it is the correlation itself.
    """
    weight = np.ones(len(shares))
    weight[0] = 5.0
    gram = shares.T @ (weight[:, None] * shares)
    linear = np.einsum("ks,k,kfg->sfg", shares, weight, wanted)
    size = 1 / np.linalg.eigvalsh(gram)[-1]
    found = ahead = np.repeat(wanted[:1] / shares.shape[1], shares.shape[1], axis=0)
    momentum = 1.0
    for _ in range(_ITERATIONS):
        values, vectors = np.linalg.eigh(ahead - size * (np.einsum("st,tfg->sfg", gram, ahead) - linear))
        after = (vectors * np.maximum(values, 0)[:, None]) @ vectors.transpose(0, 2, 1)
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / grown * (after - found)
        found, momentum = after, grown
    return found


def _autocorrelation(apart: int, lag: int) -> float:
    """Of noise that is linear between knots `apart` steps from each other, scaled to unit variance."""
    if apart == 1:
        return float(lag == 0)
    at = (np.arange(64) + 0.5) / 64
    later = at + lag / apart
    knots = np.arange(int(lag / apart) + 3)
    weights = [np.maximum(1 - np.abs(time[:, None] - knots), 0) for time in (at, later)]
    one, other = (each / np.sqrt((each**2).sum(1, keepdims=True)) for each in weights)
    return float((one * other).sum(1).mean())
