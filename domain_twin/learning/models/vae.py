"""A denoising variational auto-encoder over windows of all KPIs of an element: completes what is missing.

What a Gaussian makes of a window's gaps (by moments that are part of the model) goes in, with where the gaps
are; out come the missing values as Laplace distributions (Kingma & Welling 2014; Im et al. 2017: the encoder
sees the damaged window). Owns the network, and its training in jax; what is learned runs in numpy
(`completed`), so that an agent needs no jax to fill gaps. Works on each element's own scale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.missing import (
    REACH,
    Pattern,
    around,
    draw_known,
    geometric_median,
    linear_fill,
    moments,
    patterns_of,
    relax,
    windows_of,
)
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Profile, Task
from domain_twin.learning.windows import check_panel, local_scale

__all__ = [
    "CALIBRATION",
    "LEAST_WINDOWS",
    "VaeLearner",
    "completed",
    "learnt_from",
    "make",
    "own_moments",
    "unlikely",
]

CALIBRATION: Final = 0.2
"""Share of the training part, its end, that training leaves out: gates and intervals are chosen on it."""
LEAST_WINDOWS: Final = 16
LEAST_BEHIND: Final = 5
"""Values behind each number of the moments, at least: fewer could be solved for what they are."""
LEAST_JUDGED: Final = 10
"""Windows of the holdout below which an error would tell what is in them."""
_SETTINGS: Final = {"hidden": 64.0, "latent": 8.0, "beta": 0.01}
_EVALUATED: Final = 512
_SCALE_FLOOR: Final = 0.02
_PASSES: Final = 2
_LARGEST: Final = 100.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def make(task: Task) -> VaeLearner:
    """The learner of `task`. Raises ConfigError for settings that cannot be and without the extra `ai`."""
    where = f"model {task.model!r}: a vae"
    if unknown := task.settings.keys() - _SETTINGS.keys():
        raise ConfigError(f"{where} has no setting {sorted(unknown)[0]!r}; it has {', '.join(_SETTINGS)}")
    try:
        chosen = {name: float(task.settings.get(name, value)) for name, value in _SETTINGS.items()}
    except ValueError as error:
        raise ConfigError(f"{where}: settings are numbers ({error})") from None
    if not (1 <= chosen["hidden"] <= 1024 and 1 <= chosen["latent"] <= 256 and 0 <= chosen["beta"] <= 10):
        raise ConfigError(f"{where}: hidden is 1 to 1024, latent 1 to 256, beta 0 to 10")
    if task.lags < 2 * REACH + 1 or not task.features:
        raise ConfigError(f"{where} reads windows of {2 * REACH + 1} lags or more, and at least one feature")
    if task.profile is Profile.PRIVATE:
        raise ConfigError(
            f"{where} carries moments of the data, to which no noise is added: profile 'private' cannot"
            " train it; a forecaster can be"
        )
    if find_spec("jax") is None or find_spec("optax") is None:
        raise ConfigError(f"{where} needs the extra `ai`: pip install 'fedtwin[ai]'")
    return VaeLearner(task, int(chosen["hidden"]), int(chosen["latent"]), chosen["beta"])


@dataclass(frozen=True, slots=True)
class VaeLearner:
    """A `Learner` that is `Standardised`: windows of `task.lags` steps, masks drawn anew for every batch."""

    task: Task
    hidden: int
    latent: int
    beta: float

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Random weights; the last layers begin at zero, and the moments at those of noise."""
        features = len(self.task.features)
        hidden, latent, beside = self.hidden, self.latent, (2 * REACH + 1) * features

        def weights(rows: int, columns: int, size: float = 1.0) -> NDArray[np.float32]:
            drawn = rng.standard_normal((rows, columns)) * (size / np.sqrt(rows))
            return np.asarray(drawn, np.float32)

        def zeros(*shape: int) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

        return {
            _MEAN: zeros(beside),
            _SECOND: np.eye(beside, dtype=np.float32),
            "encoder.in": weights(2 * beside, hidden),
            "encoder.in.b": zeros(hidden),
            "encoder.out": weights(2 * hidden, 2 * latent, 0.1),
            "encoder.out.b": zeros(2 * latent),
            "decoder.seen": weights(2 * beside, hidden),
            "decoder.latent": weights(latent, hidden, 0.1),
            "decoder.b": zeros(hidden),
            "decoder.mix": weights(hidden, hidden),
            "decoder.mix.b": zeros(hidden),
            "decoder.out": zeros(hidden, features),
            "decoder.scale": zeros(hidden, features),
            "decoder.scale.b": zeros(features),
        }

    def statistics(self, panel: Panel) -> Arrays:
        """Moments of the training part on the elements' own scales. Raises ContractError: too few values."""
        _check_behind(self.task, panel)
        return own_moments(self.task, panel)

    def standardised(self, arrays: Arrays, statistics: Sequence[Arrays]) -> Arrays:
        """`arrays` with the geometric median of all domains' moments: less than half of them may lie.

        It is a weighted mean of what domains said, so it is a covariance; medians of numbers make none.
        """
        size = len(arrays[_MEAN])
        said = np.stack([np.concatenate([one[_MEAN], one[_SECOND].ravel()]) for one in statistics])
        middle = geometric_median(np.clip(said.astype(np.float64), -_LARGEST, _LARGEST))
        mean, second = middle[:size], middle[size:].reshape(size, size)
        return dict(arrays) | {
            _MEAN: mean.astype(arrays[_MEAN].dtype),
            _SECOND: second.astype(arrays[_SECOND].dtype),
        }

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """Adam over `task.epochs` passes. Raises ContractError: too few windows."""
        windows = _learnt(self.task, panel)
        base = dict(arrays)
        if _untrained(arrays):  # nobody asked for statistics: the domain goes by its own
            base = self.standardised(arrays, [self.statistics(panel)])
        gaussian = _moments(base)
        start, step = _trainer(self.task.learning_rate, self.beta)
        weights, state = start({name: value for name, value in base.items() if name not in (_MEAN, _SECOND)})
        losses: list[float] = []
        every = max(1, min(self.task.lags // 6, len(windows) // self.task.batch))  # windows overlap
        size = max(1, min(self.task.batch, len(windows) // every))
        for _ in range(self.task.epochs):
            order = np.arange(rng.integers(every), len(windows), every)
            rng.shuffle(order)
            for first in range(0, len(order) - size + 1, size):
                truth, known, judged = _damaged(windows[order[first : first + size]], rng)
                seen = relax(truth, known, *gaussian)
                noise = rng.standard_normal((size, self.latent))
                batch = (np.asarray(part, np.float32) for part in (seen, known, judged, truth, noise))
                weights, state, loss = step(weights, state, *batch)
                losses.append(float(loss))
        made = base | {name: np.asarray(value, arrays[name].dtype) for name, value in weights.items()}
        tail = losses[-max(1, len(losses) // 10) :]
        return Trained(made, len(windows), {"loss": float(np.mean(tail))})

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """`loss` and rivals: mean absolute error of values hidden in the holdout, on each element's scale.

        Masks are the same each time. `point`, `partial`, `outage` are the model's by pattern.
        """
        check_panel(self.task, panel)
        windows = _windows(panel.values[:, panel.holdout_from :], panel, self.task.lags)
        if len(windows) < LEAST_JUDGED:
            raise ContractError(
                f"model {self.task.model!r}: {len(windows)} windows of {self.task.lags} known steps to judge"
                f" on, {LEAST_JUDGED} at least"
            )
        rng = np.random.default_rng(self.task.seed)
        truth, known, judged = _damaged(windows[rng.permutation(len(windows))[:_EVALUATED]], rng)
        if not judged.any():
            raise ContractError(f"model {self.task.model!r}: nothing known to judge on")
        value, _ = completed(arrays, truth, known)
        mean = np.where(known, truth, 0.0).sum(1) / np.maximum(1, known.sum(1))
        rows = {
            "loss": value,
            "naive:linear": linear_fill(truth, known),
            "naive:window-mean": np.broadcast_to(mean[:, None], truth.shape),
        }
        found = {name: float(np.abs(guess - truth)[judged].mean()) for name, guess in rows.items()}
        kinds = patterns_of(known)
        for pattern in (Pattern.POINT, Pattern.PARTIAL, Pattern.OUTAGE):
            if (cells := judged & (kinds == pattern)).any():
                found[pattern.name.lower()] = float(np.abs(value - truth)[cells].mean())
        return found | {"samples": float(len(truth))}


def completed(arrays: Arrays, values: Floats, known: Bools) -> tuple[Floats, Floats]:
    """What the model takes windows for, and how unsure it is: values and Laplace scales, both [N, W, F].

    What `values` hold where they are not `known` is not looked at; known values come back as they are.
    """
    seen = relax(np.where(known, values, 0.0), known, *_moments(arrays))
    weights = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    value, log_scale, _, _ = _network(weights, seen, known.astype(np.float64), None, np, _gelu)
    return np.where(known, values, value), np.exp(log_scale) + _SCALE_FLOOR


def unlikely(task: Task, arrays: Arrays, z: Floats) -> Floats:
    """[E, T, F]: how far each value is from what the model makes of it when it is hidden, in its scales.

    Each KPI is hidden for the last third of the window that ends at the step; NaN before the first window,
    and where nothing is known. An anomaly score, at one run of the network for each step and KPI.
    """
    width, (elements, steps, features) = task.lags, z.shape
    found = np.full(z.shape, np.nan)
    if steps < width:
        return found
    windows = windows_of(np.clip(z, -8.0, 8.0), width)
    there = np.isfinite(windows)
    values = np.where(there, windows, 0.0)
    for feature in range(features):
        known = there.copy()
        known[:, -(width // 3) :, feature] = False
        last = []
        for first in range(0, len(values), _EVALUATED):
            part, seen = values[first : first + _EVALUATED], known[first : first + _EVALUATED]
            value, spread = completed(arrays, part, seen)
            last.append((part[:, -1, feature] - value[:, -1, feature]) / spread[:, -1, feature])
        away = np.where(there[:, -1, feature], np.concatenate(last), np.nan)
        found[:, width - 1 :, feature] = away.reshape(elements, -1)
    return found


def learnt_from(panel: Panel) -> Floats:
    """[E, T, F]: the training part without its calibration."""
    return panel.values[:, : int(panel.holdout_from * (1 - CALIBRATION))]


def own_moments(task: Task, panel: Panel) -> Arrays:
    """The moments of a panel's training part. Raises ContractError: too few windows."""
    mean, second = moments(_learnt(task, panel))
    return {_MEAN: mean.astype(np.float32), _SECOND: second.astype(np.float32)}


_MEAN: Final = "moments.mean"
_SECOND: Final = "moments.second"


def _moments(arrays: Arrays) -> tuple[Floats, Floats]:
    return arrays[_MEAN].astype(np.float64), arrays[_SECOND].astype(np.float64)


def _learnt(task: Task, panel: Panel) -> Floats:
    check_panel(task, panel)
    windows = _windows(learnt_from(panel), panel, task.lags)
    if len(windows) < LEAST_WINDOWS:
        raise ContractError(
            f"model {task.model!r}: {len(windows)} windows of {task.lags} steps with values; training needs"
            f" {LEAST_WINDOWS}: a longer history, or fewer lags"
        )
    return windows


def _check_behind(task: Task, panel: Panel) -> None:
    """Raises ContractError where moments of a panel would rest on so few values that they tell them."""
    features = len(task.features)
    beside = (2 * REACH + 1) * features
    told = beside + beside * (beside + 1) // 2
    needed = -(-LEAST_BEHIND * told // features)
    known = int(np.isfinite(learnt_from(panel)).sum(axis=(0, 1)).min())
    if known < needed:
        raise ContractError(
            f"model {task.model!r}: moments of {features} KPIs are {told} numbers, for which {needed} values"
            f" of each KPI are the least; {known} are known: a longer history, or fewer KPIs"
        )


def _untrained(arrays: Arrays) -> bool:
    return not arrays[_MEAN].any() and np.array_equal(arrays[_SECOND], np.eye(len(arrays[_MEAN])))


def _windows(values: Floats, panel: Panel, width: int) -> Floats:
    """Windows on the elements' own scales of which at least half is known."""
    windows = windows_of(local_scale(learnt_from(panel)).to_z(values), width)
    return windows[np.isfinite(windows).mean((1, 2)) >= 0.5] if len(windows) else windows


def _damaged(windows: Floats, rng: np.random.Generator) -> tuple[Floats, Bools, Bools]:
    """The truth (0 where there is none), what of it the model sees, and what it is judged on."""
    there = np.isfinite(windows)
    drawn = draw_known(windows.shape, rng)
    return np.where(there, np.clip(windows, -8.0, 8.0), 0.0), drawn & there, there & ~drawn


def _network(  # noqa: PLR0917 - arrays, and in which library
    p: Any, seen: Any, known: Any, noise: Any, xp: Any, gelu: Callable[[Any], Any]
) -> tuple[Any, Any, Any, Any]:
    """Value, log of the Laplace scale, mean and log variance of the latent; in numpy or in jax (`xp`).

    The decoder runs _PASSES times: a pass sees what the one before put in the gaps.
    """
    state = gelu(around(xp.concatenate([seen, known], -1), xp) @ p["encoder.in"] + p["encoder.in.b"])
    pooled = xp.concatenate([state.mean(-2), state.max(-2)], -1)
    mean, log_variance = xp.split(pooled @ p["encoder.out"] + p["encoder.out.b"], 2, -1)
    log_variance = xp.clip(log_variance, -8.0, 4.0)
    drawn = mean if noise is None else mean + xp.exp(0.5 * log_variance) * noise
    bias = (drawn @ p["decoder.latent"])[:, None, :] + p["decoder.b"]
    value = seen
    for _ in range(_PASSES):
        hidden = gelu(around(xp.concatenate([value, known], -1), xp) @ p["decoder.seen"] + bias)
        hidden = hidden + gelu(hidden @ p["decoder.mix"] + p["decoder.mix.b"])
        value = value + (1.0 - known) * (hidden @ p["decoder.out"])
    log_scale = xp.clip(hidden @ p["decoder.scale"] + p["decoder.scale.b"] - 1.5, -6.0, 3.0)
    return value, log_scale, mean, log_variance


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@lru_cache(maxsize=8)
def _trainer(rate: float, beta: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How training starts, and a step of Adam; compiled once in a process."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp
    import optax

    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def loss_of(p: Any, *batch: Any) -> Any:
        seen, known, judged, truth, noise = batch
        value, log_scale, mean, log_variance = _network(p, seen, known, noise, jnp, jax.nn.gelu)
        scale = jnp.exp(log_scale) + _SCALE_FLOOR
        missed = jnp.abs(value - truth) / scale + jnp.log(2 * scale)
        told = (missed * judged).sum() / jnp.maximum(1.0, judged.sum())
        divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - 1.0 - log_variance).sum(-1).mean()
        return told + beta * divergence

    @jax.jit
    def step(p: Any, state: Any, *batch: Any) -> tuple[Any, Any, Any]:
        loss, slope = jax.value_and_grad(loss_of)(p, *batch)
        change, state = optimiser.update(slope, state, p)
        return optax.apply_updates(p, change), state, loss

    def start(weights: Arrays) -> tuple[Any, Any]:
        p = {name: jnp.asarray(value, jnp.float32) for name, value in weights.items()}
        return p, optimiser.init(p)

    return start, step
