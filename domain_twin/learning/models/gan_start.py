"""Where the generator begins: noise mixed so that covariances over time lags are those of the data. Pure.

All of it is by regime: marginals, the noise's mixing, and how regimes follow each other. What is fitted
lies midway between covariances of normal scores and those that give values in units their correlations. The
covariance of mixed noise is a sum of one matrix a time scale times that scale's
known autocorrelation. Those matrices, positive semidefinite, are a convex fit; their symmetric roots are
unique, so that means over domains make sense. Training then bends what is Gaussian here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.holding import LEAST_SHARE, shares, unchanged
from domain_twin.learning.learner import Arrays
from domain_twin.learning.marginals import Marginals, packed
from domain_twin.learning.panel import Panel
from domain_twin.learning.regimes import found, transitions
from domain_twin.learning.synthetic import clock_inputs, series

__all__ = ["Begun", "autocorrelation", "mixing", "own", "roots"]

Floats = NDArray[np.float64]

_LAGS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_ITERATIONS: Final = 600
_TRIED_ROWS: Final = 6_000
_RIDGE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Begun:
    """What a domain trains on: `arrays` with what it says of itself; its training part as normal `scores`
    [E, T, F] by the marginals of each step's regime, NaN where unknown; `regimes` [E, T], -1 at none."""

    arrays: Arrays
    scores: Floats
    regimes: NDArray[np.intp]


def own(arrays: Arrays, panel: Panel, clock: int, rng: np.random.Generator) -> Begun:
    """`arrays` with regimes, marginals and mixing of noise of `panel`'s training part.

    A regime that is not there has the arrays of the nearest that is. Raises ContractError for too little.
    """
    values = panel.training()
    whole = Marginals.fit(values)
    labels, centres = found(whole.scores(values, rng), arrays["regimes.centres"])
    hours = clock_inputs(panel.start, np.arange(values.shape[1]), panel.step_s, clock)
    _, inputs, features = arrays["generator.direct"].shape
    scores = np.full(values.shape, np.nan)
    marginals: dict[int, Marginals] = {}
    direct: dict[int, Floats] = {}
    for regime in np.unique(labels[labels >= 0]).tolist():
        held = labels == regime
        part = np.where(held[..., None], values, np.nan)
        marginals[regime] = Marginals.fit(part, whole.resolution)
        mine = marginals[regime].scores(part, rng)
        direct[regime] = mixing(mine, marginals[regime], hours, (inputs - clock) // features)
        scores[held] = mine[held]
    there = list(direct)
    stand_in = [there[int(((centres[there] - place) ** 2).sum(1).argmin())] for place in centres]
    told = {
        **packed([marginals[regime] for regime in stand_in]),
        "generator.direct": np.stack([direct[regime] for regime in stand_in]).astype(np.float32),
        "regimes.centres": centres.astype(np.float32),
        "regimes.transitions": transitions(labels, arrays["regimes.transitions"]).astype(np.float32),
    }
    told["holding"] = np.zeros(features, np.float32)
    repeated = unchanged(values)
    if repeated.max() >= LEAST_SHARE:
        plain = series(
            {**arrays, **told}, clock, _TRIED_ROWS, np.random.default_rng(0),
            start=panel.start, step_s=panel.step_s,
        )  # fmt: skip
        told["holding"] = shares(repeated, plain).astype(np.float32)
    return Begun({**arrays, **told}, scores, labels)


def mixing(scores: Floats, marginals: Marginals, clock: Floats, scales: int) -> Floats:
    """[scales * F + clock, F]: weights of noise and clock for `scores` [E, T, F], `clock` [T, clock]."""
    elements, steps, features = scores.shape
    flat, hours = scores.reshape(-1, features), np.tile(clock, (elements, 1))
    known: NDArray[np.bool_] = np.asarray(np.isfinite(flat).all(axis=1))
    by_hour: NDArray[np.floating[Any]] = np.zeros((clock.shape[1], features))
    if clock.shape[1]:
        # a regime may be known of few hours only: a ridge, so that nothing is foretold of the others
        ridge = _RIDGE * max(int(known.sum()), 1) * np.eye(clock.shape[1])
        by_hour = np.linalg.solve(hours[known].T @ hours[known] + ridge, hours[known].T @ flat[known])
    there = known.reshape(elements, steps)
    ranked = np.where(known[:, None], flat, 0.0).reshape(elements, steps, features)
    orders, powers = marginals.hermite()
    units = np.polynomial.polynomial.polyval(
        np.clip(ranked, -3.2, 3.2), powers[:, None, None, :], tensor=False
    )
    daily = np.broadcast_to(clock @ by_hour, ranked.shape)
    lags = [lag for lag in _LAGS if lag < steps // 4]
    pairs = np.array([(there[:, : steps - lag] & there[:, lag:]).sum() for lag in lags], dtype=float)
    wanted = np.stack(
        [
            (_cover(ranked, there, lag) + _scores_of(_cover(units, there, lag), orders)) / 2
            - _cover(daily, there, lag)
            for lag in lags
        ]
    )
    known_of = np.array([[autocorrelation(1 << scale, lag) for scale in range(scales)] for lag in lags])
    return np.concatenate([roots(wanted, known_of, pairs).reshape(-1, features), by_hour])


def roots(wanted: Floats, shares: Floats, pairs: Floats) -> Floats:
    """[S, F, F]: how noise of each time scale is mixed, for covariances `wanted` [K, F, F] of `pairs` [K]."""
    values, vectors = np.linalg.eigh(_fit(wanted, shares, pairs / max(float(pairs.max()), 1.0)))
    out: Floats = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.transpose(0, 2, 1)
    return out


def _cover(rest: Floats, there: NDArray[np.bool_], lag: int) -> Floats:
    """Symmetric covariance [F, F] at `lag`, over pairs that are both known."""
    stop = rest.shape[1] - lag
    both = (there[:, :stop] & there[:, lag:])[..., None]
    product = np.einsum("etf,etg->fg", rest[:, :stop] * both, rest[:, lag:]) / max(int(both.sum()), 1)
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


def _fit(wanted: Floats, shares: Floats, weight: Floats) -> Floats:
    """Positive semidefinite [S, F, F] whose sums by `shares` [K, S] are nearest to `wanted` [K, F, F].

    `weight` [K] says how well each is known. Accelerated projected gradient (Beck & Teboulle 2009). Lag 0
    counts more: it is the correlation itself.
    """
    weight = np.concatenate([[5.0], np.ones(len(shares) - 1)]) * weight
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


def autocorrelation(apart: int, lag: int) -> float:
    """Of noise that is linear between knots `apart` steps from each other, scaled to unit variance."""
    if apart == 1:
        return float(lag == 0)
    at = (np.arange(64) + 0.5) / 64
    later = at + lag / apart
    knots = np.arange(int(lag / apart) + 3)
    weights = [np.maximum(1 - np.abs(time[:, None] - knots), 0) for time in (at, later)]
    one, other = (each / np.sqrt((each**2).sum(1, keepdims=True)) for each in weights)
    return float((one * other).sum(1).mean())
