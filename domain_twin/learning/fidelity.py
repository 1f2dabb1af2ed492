"""How like the real thing synthetic series are, and how little they give away. Owns the measures.

Fidelity is judged on data that no generator saw. Privacy is judged by how well an attacker who holds the
synthetic series can tell windows that were trained on (members) from others of the same time. Judges that
are nets need the extra `ai`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from domain_twin.errors import ContractError

__all__ = ["DRAWS", "MEASURES", "Fidelity", "Membership", "measure", "membership", "quick"]

Series = NDArray[np.float64]

ACF_LAGS: Final = 60
_LEAST_ATTACKED: Final = 20
_ATTACKED: Final = 1000
DRAWS: Final = 100
"""Of chance."""
MEASURES: Final = ("w1", "acf_mse", "correlation_error", "tstr_ratio", "discriminative", "membership_auc")
"""Lower is better in each; `membership_auc` counts from .5, which is a coin."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Measures of one synthetic data set.

    `w1` is the mean over KPIs of the Wasserstein-1 distance over the holdout's standard deviation; `acf_mse`
    that of autocorrelations at lags 1 to 60; `correlation_error` the mean absolute difference of KPI
    correlations; `tstr_ratio` the NRMSE on the holdout of a forecaster trained on synthetic data over that of
    one trained on real data; `discriminative` |accuracy - .5| of a judge of windows; `membership_auc` the
    best of the attacks; `neighbour_ratio` the median distance of a training window to its nearest synthetic
    one, over that of a window nobody trained on: copies are near 0, 1 gives nothing away.
    """

    w1: float
    acf_mse: float
    correlation_error: float
    tstr_ratio: float
    discriminative: float
    membership_auc: float
    neighbour_ratio: float
    by_feature: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def better(self, other: Fidelity) -> tuple[str, ...]:
        """The measures of the six in which this is better than `other`."""
        return tuple(name for name in MEASURES if self._cost(name) < other._cost(name))

    def _cost(self, name: str) -> float:
        value = float(getattr(self, name))
        return max(value, 0.5) if name == "membership_auc" else value


def quick(synthetic: Series, holdout: Series) -> dict[str, float]:
    """`w1`, `acf_mse`, `correlation_error` of `synthetic` [.., F] beside `holdout` [.., F], or [E, T, F].

    Autocorrelations are taken over pieces of the holdout's length, each about its own mean: a longer series
    knows slow variation that a short one takes for its mean.
    """
    made, real = _elements(synthetic), _elements(holdout)
    flat_made, flat_real = made.reshape(-1, made.shape[-1]), real.reshape(-1, real.shape[-1])
    return {
        "w1": float(np.mean(_w1(flat_made, flat_real))),
        "acf_mse": float(np.mean((_acf(made, real.shape[1]) - _acf(real, real.shape[1])) ** 2)),
        "correlation_error": float(np.mean(np.abs(_correlation(flat_made) - _correlation(flat_real)))),
    }


def measure(
    synthetic: Series, training: Series, holdout: Series, outsiders: Series, *,
    targets: tuple[int, ...], lags: int = 10, window: int = 24, seed: int = 0,
    features: tuple[str, ...] = (), real_error: float | None = None, attacked: Membership | None = None,
) -> Fidelity:  # fmt: skip
    """All measures of `synthetic` [.., F]. `training` made it; `holdout` follows it in time; `outsiders` were
    left out of training in its midst. All [T, F] or [E, T, F], NaN at gaps. `targets` are forecast.

    `real_error`, of the forecaster trained on `training`, and `attacked` are found here unless given.
    """
    from domain_twin.learning.judges import discriminative, forecast_error

    made, trained, real = _elements(synthetic), _elements(training), _elements(holdout)
    found = quick(made, real)
    if real_error is None:
        real_error = forecast_error(trained, real, targets=targets, lags=lags, seed=seed)
    synthetic_error = forecast_error(made, real, targets=targets, lags=lags, seed=seed)
    attacked = attacked or membership(made, trained, _elements(outsiders), window=window, seed=seed)
    by_feature = _w1(made.reshape(-1, made.shape[-1]), real.reshape(-1, real.shape[-1]))
    autocorrelation = ((_acf(made, real.shape[1]) - _acf(real, real.shape[1])) ** 2).mean(0)
    return Fidelity(
        **found,
        tstr_ratio=synthetic_error / real_error,
        discriminative=discriminative(made, real, window=window, seed=seed),
        membership_auc=attacked.best,
        neighbour_ratio=attacked.ratio,
        by_feature={
            name: {"w1": float(w1), "acf_mse": float(mse)}
            for name, w1, mse in zip(features, by_feature, autocorrelation, strict=False)
        },
    )


@dataclass(frozen=True, slots=True)
class Membership:
    """What attackers who hold a synthetic set find out about who was in its training data.

    `auc` is by attack; `chance` [DRAWS, attacks] is the same where blocks are called members at random, as
    many as there are: what an attack reaches that knows nothing. `ratio` is Fidelity's `neighbour_ratio`.
    """

    auc: Mapping[str, float]
    chance: Series
    ratio: float

    @property
    def best(self) -> float:
        """Of the attacks; .5 at least."""
        return max(0.5, *self.auc.values())


def membership(
    synthetic: Series, members: Series, outsiders: Series, *, window: int = 24, block: int = 72, seed: int = 0
) -> Membership:
    """What four attacks find; all series [E, T, F].

    An attack scores a window by its distance to the nearest synthetic one: plainly, and over its distance to
    the nearest of half of all windows that are asked about, which takes away how common it is; at the full
    length and at a quarter. Chance is told by giving the labels of whole stretches of `block` steps anew:
    windows that follow each other are alike. It is exact where outsiders' blocks lie at random places. Raises
    ContractError below 20 windows of either kind.
    """
    rng = np.random.default_rng(seed)
    scale = np.nanstd(members.reshape(-1, members.shape[-1]), axis=0) + 1e-12
    found: dict[str, float] = {}
    chance, ratio = [], 1.0
    for length in (window, max(window // 4, 2)):
        pool = windows_of(synthetic, length, 1)
        inside, outside = windows_of(members, length, length), windows_of(outsiders, length, length)
        if min(len(inside), len(outside)) < _LEAST_ATTACKED:
            raise ContractError(
                f"membership needs {_LEAST_ATTACKED} windows of {length} steps on either side; there are"
                f" {len(inside)} that were trained on and {len(outside)} others"
            )
        stretches = [np.arange(len(each)) * length // block for each in (inside, outside)]
        picked = [_some_stretches(each, _ATTACKED, rng) for each in stretches]
        inside, outside = inside[picked[0]], outside[picked[1]]
        groups = np.concatenate([stretches[0][picked[0]], stretches[1][picked[1]] + len(stretches[0])])
        asked = np.concatenate([inside, outside])
        member = np.arange(len(asked)) < len(inside)
        near = _nearest(asked, pool, scale)
        half = rng.random(len(asked)) < 0.5
        own = _nearest(asked[~half], asked[half], scale)
        drawn = _relabelled(member, groups, rng)
        found[f"nearest of {length}"] = _auc(-near, member)
        chance.append([_auc(-near, labels) for labels in drawn])
        calibrated = -near[~half] / (own + 1e-9)
        found[f"calibrated, of {length}"] = _auc(calibrated, member[~half])
        chance.append([_auc(calibrated, labels[~half]) for labels in drawn])
        if length == window:
            ratio = float(np.median(near[member]) / (np.median(near[~member]) + 1e-12))
    return Membership(found, np.array(chance).T, ratio)


def _some_stretches(stretches: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Places of windows, at most `most` or so: of whole stretches, so that neighbours stay together."""
    count = int(stretches.max()) + 1
    kept = rng.permutation(count)[: max(1, round(count * most / max(len(stretches), most)))]
    return np.flatnonzero(np.isin(stretches, kept))


def _relabelled(
    member: NDArray[np.bool_], groups: NDArray[np.intp], rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """`member` as it may have been: as many stretches are members, others each time."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    of_group = member[first]
    return [rng.permutation(of_group)[place] for _ in range(DRAWS)]


def windows_of(series: Series, length: int, stride: int) -> Series:
    """[N, length, F]: windows of [E, T, F] without gaps."""
    made = []
    for element in series:
        if len(element) < length:
            continue
        view = np.lib.stride_tricks.sliding_window_view(element, length, axis=0)[::stride]
        view = np.moveaxis(view, -1, 1)
        made.append(view[np.isfinite(view).all((1, 2))])
    return np.concatenate(made) if made else np.empty((0, length, series.shape[-1]))


def _nearest(asked: Series, pool: Series, scale: Series) -> Series:
    """Distance of each window to the nearest of `pool`, per step and feature, in standard deviations."""
    flat = np.clip((asked / scale), -1e3, 1e3).reshape(len(asked), -1)
    held = np.clip((pool / scale), -1e3, 1e3).reshape(len(pool), -1)
    best = np.full(len(flat), np.inf)
    squares = (flat**2).sum(1)
    for begin in range(0, len(held), 4096):
        part = held[begin : begin + 4096]
        distance = squares[:, None] + (part**2).sum(1)[None] - 2 * flat @ part.T
        best = np.minimum(best, distance.min(1))
    nearest: NDArray[np.float64] = np.sqrt(np.maximum(best, 0) / flat.shape[1])
    return nearest


def _auc(scores: Series, member: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    count, others = int(member.sum()), int((~member).sum())
    above = rankdata(scores)[member].sum() - count * (count + 1) / 2
    return float(above / max(count * others, 1))


def _elements(series: Series) -> Series:
    return series[None] if series.ndim == 2 else series


def _w1(made: Series, real: Series) -> Series:
    out = []
    for one, other in zip(made.T, real.T, strict=True):
        known = other[np.isfinite(other)]
        out.append(wasserstein_distance(one[np.isfinite(one)], known) / (known.std() + 1e-12))
    return np.array(out)


def _correlation(flat: Series) -> Series:
    known = flat[np.isfinite(flat).all(1)]
    centred = known - known.mean(0)
    scaled = centred / (centred.std(0) + 1e-12)
    correlation: Series = scaled.T @ scaled / len(scaled)
    return correlation


def _acf(series: Series, piece: int) -> Series:
    """[ACF_LAGS, F] of [E, T, F]: mean over pieces of `piece` steps, over pairs that are both known."""
    length = min(piece, series.shape[1])
    count = series.shape[1] // length
    parts = series[:, : count * length].reshape(-1, length, series.shape[-1])
    known = np.isfinite(parts)
    size = np.maximum(known.sum(1), 1)
    centred = np.where(known, parts - (np.where(known, parts, 0.0).sum(1) / size)[:, None], 0.0)
    variance = (centred**2).sum(1) / size
    out = []
    for lag in range(1, ACF_LAGS + 1):
        products = (centred[:, lag:] * centred[:, :-lag]).sum(1)
        pairs = (known[:, lag:] & known[:, :-lag]).sum(1)
        out.append((products / np.maximum(pairs, 1)).mean(0) / (variance.mean(0) + 1e-24))
    return np.array(out)
