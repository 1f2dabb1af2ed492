"""Where the generator begins, with differential privacy: every statistic is a noised sum. Owns the noise.

A record is one step of one element: all its KPIs. Two data sets are neighbours where a step of the one is
unknown in the other. Four sums are told, each by the Gaussian mechanism (Dwork and Roth 2014, A.1) with the
same ratio of noise to sensitivity; what is made of them costs nothing more. The nets are not trained, there
is one regime, and values are taken for continuous: which grid they lie on would have to be told, too. A
release is spent whole each time: whoever asks twice adds the two up. `rng` is of the operating system's
entropy where anything is handed over: whoever knows its seed knows the noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays
from domain_twin.learning.marginals import LEAST_VALUES, Marginals, packed
from domain_twin.learning.models.gan_start import autocorrelation, roots
from domain_twin.learning.panel import Panel
from domain_twin.learning.synthetic import clock_inputs

__all__ = [
    "DELTA", "RELEASES", "enough", "noise_multiplier", "private_own", "products", "shortened", "statistics",
]  # fmt: skip

Floats = NDArray[np.float64]

DELTA: Final = 1e-5
RELEASES: Final = 4
"""Noised sums that are told of a panel."""
_UNIT: Final = 1e-9  # values are laid out by asinh(value / _UNIT): about by their logarithm
_SPAN: Final = 50.0
_COARSE: Final = 400
"""Bins of values, the same for every KPI and known beforehand."""
_FINE: Final = 16
"""Parts of each."""
_SURE: Final = 4.5
"""Standard deviations of noise that a coarse bin must hold to count."""
_LAGS: Final = (0, 1, 3, 8, 24, 64)
_LONGEST: Final = 1.5
"""What a step's scores are cut to, over the root of the count of KPIs."""
_POINTS: Final = 20_000


def private_own(
    arrays: Arrays, panel: Panel, clock: int, epsilon: float, rng: np.random.Generator, *,
    delta: float = DELTA,
) -> Arrays:  # fmt: skip
    """`arrays` of one regime with marginals and mixing of `panel`'s training part, (epsilon, delta)-private.

    Raises ContractError where the model has several regimes or the panel fewer than 200 steps.
    """
    count, inputs, features = arrays["generator.direct"].shape
    if count != 1:
        raise ContractError(f"with an epsilon a generator has one regime, not {count}: set regimes to 1")
    ratio = noise_multiplier(epsilon, delta)
    marginals, direct = statistics(panel, clock, (inputs - clock) // features, ratio, rng)
    return {
        **arrays,
        **packed([marginals]),
        "generator.direct": direct[None].astype(np.float32),
        "generator.out": np.zeros_like(arrays["generator.out"]),
        "generator.out_bias": np.zeros_like(arrays["generator.out_bias"]),
        "regimes.transitions": np.ones((1, 1), np.float32),
    }


def enough(panel: Panel) -> None:
    """Raise ContractError where the training part has fewer than 200 steps, known or not."""
    values = panel.training()
    if values.shape[0] * values.shape[1] < LEAST_VALUES:
        raise ContractError(
            f"the training part has {values.shape[0] * values.shape[1]} steps and {LEAST_VALUES} are needed"
        )


def statistics(
    panel: Panel, clock: int, scales: int, ratio: float, rng: np.random.Generator
) -> tuple[Marginals, Floats]:
    """Marginals, and the mixing [scales * F + clock, F], of `RELEASES` sums of `panel`'s training part.

    Each bears noise of `ratio` times its sensitivity. Raises ContractError below 200 steps.
    """
    enough(panel)
    values = panel.training()
    features = values.shape[-1]
    marginals = _marginals(values, ratio, rng)
    scores, longest = shortened(marginals.scores(values, rng))
    hours = clock_inputs(panel.start, np.arange(values.shape[1]), panel.step_s, clock)
    lags = [lag for lag in _LAGS if lag < values.shape[1] // 4]
    covers, most = products(scores, lags, longest)
    drawn = rng.normal(0, ratio * most, covers.shape)
    # of both halves together: the same law as of one entry each, in the norm that `most` is in
    covers += (drawn + drawn.transpose(0, 2, 1)) / 2
    spread = np.sqrt(np.maximum(np.diagonal(covers[0]), 1e-3 * scores.shape[1]))
    by_hour: Floats = np.zeros((clock, features))
    if clock:
        length = np.sqrt(clock / 2) * longest  # of sines and cosines of each step times its scores
        sums = np.einsum("tc,etf->cf", hours, scores) + rng.normal(0, ratio * length, by_hour.shape)
        by_hour = 2 * sums / (np.sqrt(values.shape[0] * values.shape[1]) * spread)
    daily = by_hour.T @ by_hour / 2
    later = np.array([values.shape[1] / (values.shape[1] - lag) for lag in lags])
    wanted = np.clip(covers / np.outer(spread, spread) * later[:, None, None], -1, 1) - daily
    known = np.array([[autocorrelation(1 << scale, lag) for scale in range(scales)] for lag in lags])
    return marginals, np.concatenate([roots(wanted, known, 1 / later).reshape(-1, features), by_hour])


def shortened(scores: Floats) -> tuple[Floats, float]:
    """Scores [E, T, F] of which no step is longer than what is told with them; 0 where one is unknown."""
    longest = float(_LONGEST * np.sqrt(scores.shape[-1]))
    known = np.where(np.isfinite(scores).all(-1, keepdims=True), scores, 0.0)
    length = np.linalg.norm(known, axis=-1, keepdims=True)
    return known * np.minimum(1, longest / np.maximum(length, 1e-12)), longest


def products(scores: Floats, lags: list[int], longest: float) -> tuple[Floats, float]:
    """[K, F, F]: symmetric sums of products of `scores` [E, T, F] over `lags`, of which the first is 0.

    With them the most that one step more or less changes all of them together (Frobenius): it is in one
    product with itself and in two at every other lag.
    """
    steps = scores.shape[1]
    found = np.stack([np.einsum("etf,etg->fg", scores[:, : steps - lag], scores[:, lag:]) for lag in lags])
    most = longest**2 * np.sqrt(1 + 4 * (len(lags) - 1))
    return (found + found.transpose(0, 2, 1)) / 2, float(most)


def noise_multiplier(epsilon: float, delta: float = DELTA) -> float:
    """The least ratio of noise to sensitivity at which all releases together are (epsilon, delta)-private.

    By RDP (Mironov 2017), found by halving. Raises ConfigError for an epsilon beyond .05 to 100.
    """
    import dp_accounting
    from dp_accounting import rdp

    if not 0.05 <= epsilon <= 100:
        raise ConfigError(f"epsilon is {epsilon:g}; 0.05 to 100 are accepted")

    def spent(ratio: float) -> float:
        accountant = rdp.RdpAccountant()
        accountant.compose(dp_accounting.GaussianDpEvent(ratio), RELEASES)
        return float(accountant.get_epsilon(delta))

    low, high = 0.05, 2000.0
    for _ in range(20):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if spent(middle) > epsilon else (low, middle)
    return float(high)


def _marginals(values: Floats, ratio: float, rng: np.random.Generator) -> Marginals:
    """Of noised counts, first of wide bins of values and then of parts of those that hold enough."""
    features = values.shape[-1]
    noise = ratio * np.sqrt(features)  # a step is one more in one bin of each KPI
    laid = np.arcsinh(values.reshape(-1, features) / _UNIT) / _SPAN
    places = np.clip((laid + 1) / 2 * _COARSE * _FINE, 0, _COARSE * _FINE - 1)
    points = np.empty((_POINTS, features))
    ranks = (np.arange(_POINTS) + 0.5) / _POINTS
    edges = np.sinh(np.linspace(-1, 1, _COARSE * _FINE + 1) * _SPAN) * _UNIT
    for column in range(features):
        known = places[np.isfinite(places[:, column]), column].astype(int)
        fine = np.bincount(known, minlength=_COARSE * _FINE).reshape(_COARSE, _FINE).astype(float)
        coarse = fine.sum(1) + rng.normal(0, noise, _COARSE)
        fine += rng.normal(0, noise, fine.shape)
        largest = coarse.argmax()  # one there is, however small an epsilon makes it
        coarse[largest] = max(coarse[largest], _SURE * noise)
        coarse[coarse < _SURE * noise] = 0
        fine = np.maximum(fine, 1e-9)
        fine *= (coarse / np.maximum(fine.sum(1), 1e-12))[:, None]
        shares = np.concatenate([[0.0], fine.ravel().cumsum()])
        points[:, column] = np.interp(ranks, shares / shares[-1], edges)
    return Marginals.fit(points, np.zeros(features))
