"""Small nets that judge synthetic series: a forecaster, and one that tells windows apart.

Owns how they are trained, not what their verdict means. Needs the extra `ai`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from domain_twin.errors import ContractError
from domain_twin.learning.fidelity import windows_of

__all__ = ["discriminative", "forecast_error"]

Series = NDArray[np.float64]
_HIDDEN = 48


def forecast_error(
    training: Series, holdout: Series, *, targets: tuple[int, ...], lags: int = 10, seed: int = 0
) -> float:
    """Mean NRMSE over `targets`, one step ahead, on `holdout` [E, T, F] of a net trained on `training`.

    NRMSE is over the holdout's standard deviation. Inputs are squeezed by asinh around the training data's
    median, and scaled: all taken from `training`.
    """
    known, asked = windows_of(training, lags + 1, 1), windows_of(holdout, lags + 1, 1)
    if len(known) < 100 or len(asked) < 20:
        raise ContractError(
            f"a forecast needs 100 and 20 windows of {lags + 1} steps, not {len(known)}, {len(asked)}"
        )
    squeeze = _squeeze(known)
    inputs, wanted = squeeze(known[:, :-1]), known[:, -1, targets]
    spread = wanted.std(0) + 1e-12
    last = known[:, -2, targets]
    parts = []
    for run in range(2):  # two nets: one's luck is not the data's
        fitted = _fit(
            inputs.reshape(len(inputs), -1), (wanted - last) / spread, loss="error", seed=seed + run
        )
        told = fitted(squeeze(asked[:, :-1]).reshape(len(asked), -1)) * spread + asked[:, -2, targets]
        parts.append(told)
    error = np.mean(parts, axis=0) - asked[:, -1, targets]
    return float(np.mean(np.sqrt((error**2).mean(0)) / (asked[:, -1, targets].std(0) + 1e-12)))


def discriminative(made: Series, real: Series, *, window: int = 24, seed: int = 0) -> float:
    """|balanced accuracy - .5| of a net that tells windows of `made` from those of `real`, both [E, T, F].

    Trained on four of five contiguous parts of each, judged on the fifth, in turn: no judged window overlaps
    one that was trained on.
    """
    genuine, fake = windows_of(real, window, 2), windows_of(made, window, 2)
    if min(len(genuine), len(fake)) < 50:
        raise ContractError(f"a judge needs 50 windows of {window} steps of either kind")
    squeeze = _squeeze(genuine)
    genuine, fake = _seen(squeeze(genuine)), _seen(squeeze(fake))
    rates = []
    for fold in range(5):
        (train_g, test_g), (train_f, test_f) = _split(genuine, fold, window), _split(fake, fold, window)
        count = min(len(train_g), len(train_f))
        rng = np.random.default_rng([seed, fold])
        train_g, train_f = (
            train_g[rng.permutation(len(train_g))[:count]],
            train_f[rng.permutation(len(train_f))[:count]],
        )
        labels = np.concatenate([np.ones(count), np.zeros(count)])[:, None]
        fitted = _fit(np.concatenate([train_g, train_f]), labels, loss="label", seed=seed + fold)
        rates.append(((fitted(test_g) > 0).mean() + (fitted(test_f) <= 0).mean()) / 2)
    return float(abs(np.mean(rates) - 0.5))


def _seen(windows: Series) -> Series:
    """What the judge sees: the values and their changes."""
    return np.concatenate([windows, np.diff(windows, axis=1)], axis=1).reshape(len(windows), -1)


def _split(windows: Series, fold: int, window: int) -> tuple[Series, Series]:
    edges = np.linspace(0, len(windows), 6).astype(int)
    low, high = edges[fold], edges[fold + 1]
    apart = window // 2 + 1
    return np.concatenate([windows[: max(low - apart, 0)], windows[high + apart :]]), windows[low:high]


def _squeeze(windows: Series) -> Callable[[Series], Series]:
    flat = windows.reshape(-1, windows.shape[-1])
    middle = np.median(flat, axis=0)
    spread = (
        np.maximum(np.diff(np.quantile(flat, (0.25, 0.75), axis=0), axis=0)[0], flat.std(0) * 0.05) + 1e-12
    )
    return lambda values: np.arcsinh((values - middle) / spread)


@dataclass(frozen=True, slots=True)
class _Net:
    """A fitted net, and how its inputs are scaled."""

    params: list[Any]
    middle: Series
    spread: Series

    def __call__(self, values: Series) -> Series:
        """Without jax: every number of rows would be compiled anew."""
        hidden = ((values - self.middle) / self.spread).astype(np.float32)
        for weight, bias in self.params[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        weight, bias = self.params[-1]
        out: Series = (hidden @ weight + bias).astype(np.float64)
        return out


def _fit(inputs: Series, wanted: Series, *, loss: str, seed: int) -> _Net:
    """An MLP of two hidden layers, trained with weight decay on nine tenths, stopped best on the rest."""
    rng = np.random.default_rng(seed)
    middle, spread = inputs.mean(0), inputs.std(0) + 1e-6
    scaled = ((inputs - middle) / spread).astype(np.float32)
    wanted = wanted.astype(np.float32)
    sizes = (scaled.shape[1], _HIDDEN, _HIDDEN, wanted.shape[1])
    params: list[Any] = [
        ((rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in pairwise(sizes)
    ]
    held = rng.random(len(scaled)) < 0.1
    train, stop = np.flatnonzero(~held), np.flatnonzero(held)
    stop = stop[rng.integers(len(stop), size=_STOPPED_ON)]  # one shape for all: compiled once
    state = _OPTIMISER.init(params)
    best, kept = np.inf, params
    for _ in range(_STOPS):
        chosen = train[rng.integers(len(train), size=(_STEPS // _STOPS, _BATCH))]
        params, state, found = _trained(
            loss, params, state, scaled[chosen], wanted[chosen], scaled[stop], wanted[stop]
        )
        if float(found) < best:
            best, kept = float(found), params
    return _Net([tuple(np.asarray(each) for each in layer) for layer in kept], middle, spread)


_STEPS, _STOPS, _BATCH, _STOPPED_ON = 400, 10, 128, 1024
_OPTIMISER = optax.adamw(optax.cosine_decay_schedule(2e-3, _STEPS), weight_decay=1e-2)
_LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "error": lambda found, true: jnp.abs(found - true).mean() + 0.5 * ((found - true) ** 2).mean(),
    "label": lambda found, true: optax.sigmoid_binary_cross_entropy(found, true).mean(),
}


@partial(jax.jit, static_argnums=0)
def _trained(  # noqa: PLR0917 (jax counts static arguments by place)
    loss: str, params: Any, state: Any, x: jax.Array, y: jax.Array, asked: jax.Array, true: jax.Array
) -> Any:
    """Parameters and the optimiser's state after batches `x`, `y`, and the loss on `asked`."""

    def one(carry: Any, pair: Any) -> Any:
        params, state = carry
        change = jax.grad(lambda p: _LOSSES[loss](_mlp(p, pair[0]), pair[1]))(params)
        update, state = _OPTIMISER.update(change, state, params)
        return (optax.apply_updates(params, update), state), None

    params, state = jax.lax.scan(one, (params, state), (x, y))[0]
    return params, state, _LOSSES[loss](_mlp(params, asked), true)


def _mlp(params: Any, values: Any) -> jax.Array:
    for weight, bias in params[:-1]:
        values = jax.nn.relu(values @ weight + bias)
    weight, bias = params[-1]
    out: jax.Array = values @ weight + bias
    return out
