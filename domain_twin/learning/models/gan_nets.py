"""The generator and the critic as functions of arrays, and one epoch of training. Pure; owns no data.

The generator turns noise on several time scales into normal scores, step by step: what it makes has no seams
and may have any length. The critic sees windows. Beside it, moments of the data hold the generator: laws of
values and of their changes, and products over time lags. An error of moments is the product of the errors of
two independent halves of a batch, which is unbiased: a plain square would punish slow variation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

__all__ = ["Shape", "epoch", "initial", "moments"]

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the nets are like; hashable, since compiled code depends on it."""

    features: int
    regimes: int = 3
    window: int = 80
    scales: int = 9
    hidden: int = 48
    critic: int = 48
    clock: int = 4
    batch: int = 64
    steps: int = 100
    learning_rate: float = 1e-3
    adversarial: float = 0.1
    lag_weight: float = 1.0
    judged_windows: int = 1024

    @property
    def inputs(self) -> int:
        """Noise and clock, per step."""
        return self.scales * self.features + self.clock

    @property
    def lags(self) -> tuple[int, ...]:
        """Time lags whose products are held, in steps."""
        return tuple(k for k in (0, 1, 2, 4, 8, 16, 32, 48, 60) if k <= self.window * 3 // 4)


def initial(shape: Shape, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Both nets before training."""

    def dense(inputs: int, outputs: int, gain: float = 1.0) -> NDArray[np.float32]:
        drawn: NDArray[np.float64] = rng.standard_normal((inputs, outputs)) * gain / np.sqrt(inputs)
        return drawn.astype(np.float32)

    def zeros(size: int) -> NDArray[np.float32]:
        return np.zeros(size, np.float32)

    h, c, f = shape.hidden, shape.critic, shape.features
    return {
        # every domain finds its own of these
        "generator.direct": np.zeros((shape.regimes, shape.inputs, f), np.float32),
        "regimes.centres": np.zeros((shape.regimes, f), np.float32),
        "regimes.transitions": np.zeros((shape.regimes, shape.regimes), np.float32),
        "holding": np.zeros(f, np.float32),
        "generator.in": dense(shape.inputs + shape.regimes, h),
        "generator.in_bias": zeros(h),
        "generator.mid": dense(h, h, 1.4),
        "generator.mid_bias": zeros(h),
        "generator.out": dense(h, f, 0.1),
        "generator.out_bias": zeros(f),
        "critic.first": dense(_FOLD * 2 * f, c, 1.4),
        "critic.first_bias": zeros(c),
        "critic.second": dense(_FOLD * c, c, 1.4),
        "critic.second_bias": zeros(c),
        "critic.third": dense(shape.window // _FOLD**2 * c + shape.clock, c, 1.4),
        "critic.third_bias": zeros(c),
        "critic.out": dense(c, 1),
    }


_FOLD = 4  # steps that a layer of the critic joins


def noise(shape: Shape, key: jax.Array, batch: int) -> jax.Array:
    """[batch, window, scales * F]: unit variance; group j of channels is linear between knots 2^j apart."""
    apart = [1 << scale for scale in range(shape.scales)]
    counts = [shape.window // each + 3 for each in apart]
    for_knots, for_phases = jax.random.split(key)
    drawn = jax.random.normal(for_knots, (batch, sum(counts), shape.features))  # one draw compiles fast
    phases = jax.random.uniform(for_phases, (batch, shape.scales))
    time = jnp.arange(shape.window, dtype=jnp.float32)
    parts = [drawn[:, : shape.window]]
    begin = counts[0]
    for scale in range(1, shape.scales):
        knots = drawn[:, begin : begin + counts[scale]]
        begin += counts[scale]
        at = time[None] / apart[scale] + phases[:, scale, None]
        weights = jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(counts[scale])), 0)
        weights = weights / jnp.sqrt((weights**2).sum(-1, keepdims=True))
        parts.append(weights @ knots)
    return jnp.concatenate(parts, axis=-1)


def generated(params: Params, inputs: jax.Array, regimes: jax.Array) -> jax.Array:
    """Normal scores [..., F] of noise and clock [..., inputs] in `regimes` [...]."""
    chosen = jax.nn.one_hot(regimes, params["generator.direct"].shape[0])
    known = jnp.concatenate([inputs, chosen], -1)
    hidden = jax.nn.leaky_relu(known @ params["generator.in"] + params["generator.in_bias"], 0.2)
    hidden = jax.nn.leaky_relu(hidden @ params["generator.mid"] + params["generator.mid_bias"], 0.2)
    each = jnp.einsum("...i,kif->...kf", inputs, params["generator.direct"])
    direct, more = (each * chosen[..., None]).sum(-2), hidden @ params["generator.out"]
    scores: jax.Array = direct + more + params["generator.out_bias"]
    return scores


def _spectral(weight: jax.Array) -> jax.Array:
    """`weight` over its largest singular value, found by four power iterations (Miyato et al. 2018)."""
    frozen = jax.lax.stop_gradient(weight)
    vector = jnp.ones(weight.shape[1]) / jnp.sqrt(weight.shape[1])
    for _ in range(4):
        left = frozen @ vector
        left = left / (jnp.linalg.norm(left) + 1e-9)
        vector = left @ frozen
        vector = vector / (jnp.linalg.norm(vector) + 1e-9)
    return weight / (left @ weight @ vector + 1e-6)


def judged(params: Params, windows: jax.Array, clock: jax.Array) -> jax.Array:
    """[batch]: high where the critic holds windows [batch, window, F] for real."""
    batch = windows.shape[0]
    changes = jnp.diff(windows, axis=1, prepend=windows[:, :1])
    folded = jnp.concatenate([windows, changes], -1).reshape(batch, windows.shape[1] // _FOLD, -1)
    hidden = jax.nn.leaky_relu(folded @ _spectral(params["critic.first"]) + params["critic.first_bias"], 0.2)
    hidden = hidden.reshape(batch, hidden.shape[1] // _FOLD, -1)
    hidden = jax.nn.leaky_relu(
        hidden @ _spectral(params["critic.second"]) + params["critic.second_bias"], 0.2
    )
    hidden = jnp.concatenate([hidden.reshape(batch, -1), clock], -1)
    hidden = jax.nn.leaky_relu(hidden @ _spectral(params["critic.third"]) + params["critic.third_bias"], 0.2)
    out: jax.Array = (hidden @ _spectral(params["critic.out"]))[:, 0] * 4
    return out


def moments(
    shape: Shape, windows: jax.Array, clock: jax.Array, units: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is held of windows [batch, window, F]: laws of values and changes; products over lags.

    `units` [6, F] are coefficients of the polynomials that make standardised units of normal scores.
    """
    batch, length, features = windows.shape
    points = jnp.linspace(-2.4, 2.4, 9)

    def law(values: jax.Array) -> jax.Array:
        return jnp.clip((values[..., None] - points) * 1.5, -0.5, 0.5).mean((0, 1)).ravel()

    laws = [law(windows[:, ::2])]
    laws += [law((windows[:, apart:] - windows[:, :-apart])[:, ::2]) for apart in (1, 4)]
    if shape.clock:
        laws.append(jnp.einsum("btf,btc->fc", windows, clock).ravel() / (batch * length))
    # beside the scores, standardised units: heavy tails weigh there as in the data
    cut, spread = jnp.clip(windows, -3.2, 3.2), jnp.zeros_like(windows)
    for coefficient in units[::-1]:
        spread = spread * cut + coefficient
    rows = jnp.concatenate([windows, spread], -1).reshape(batch * length, 2 * features)
    rows = jnp.concatenate([rows, jnp.zeros((shape.lags[-1], 2 * features))])
    step = jnp.arange(batch * length)[:, None] % length

    def product(_: None, lag: jax.Array) -> tuple[None, jax.Array]:
        earlier = jnp.where(step < length - lag, rows[: batch * length], 0.0)
        later = jax.lax.dynamic_slice_in_dim(rows, lag, batch * length)
        return None, 0.7 * earlier.T @ later / (batch * (length - lag))

    # one loop, and not a product after the other in the code: that took minutes to compile
    products = jax.lax.scan(product, None, jnp.asarray(shape.lags))[1]
    return jnp.concatenate(laws), products.ravel()


def _clocked(shape: Shape, turns: jax.Array) -> jax.Array:
    """Sine and cosine of the time of day, `turns` in days: [..., clock]."""
    parts = [
        wave(2 * jnp.pi * (order + 1) * turns)
        for order in range(shape.clock // 2)
        for wave in (jnp.sin, jnp.cos)
    ]
    return jnp.stack(parts, -1) if parts else jnp.zeros((*turns.shape, 0))


@partial(jax.jit, static_argnums=0)
def epoch(  # noqa: PLR0917 (jax counts static arguments by place)
    shape: Shape,
    params: Params,
    series: jax.Array,
    regimes: jax.Array,
    starts: jax.Array,
    count: int,
    turns: jax.Array,
    units: jax.Array,
    step: float,
    seed: int,
) -> tuple[Params, dict[str, jax.Array]]:
    """`shape.steps` steps of both nets on `series` [T, F], normal scores in `regimes` [T].

    Windows begin at the first `count` of `starts`. `turns` is the time of day of every step of
    `series`, in days; `step` the length of one. Gives the generator's running mean, which is steadier than
    its last state.
    """
    direct = {  # the domain's own: not trained
        name: params[name] for name in ("generator.direct", "regimes.centres", "regimes.transitions")
    }
    generator = {
        name: value for name, value in params.items() if name.startswith("generator.") and name not in direct
    }
    critic = {name: value for name, value in params.items() if name.startswith("critic.")}
    optimiser = optax.adam(optax.cosine_decay_schedule(shape.learning_rate, shape.steps, 0.3), b1=0.5, b2=0.9)
    span = jnp.arange(shape.window)

    def real(key: jax.Array, wanted: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        chosen = starts[jax.random.randint(key, (wanted,), 0, count)]
        at = chosen[:, None] + span
        return series[at], regimes[at], _clocked(shape, turns[chosen][:, None] + span * step)

    def critic_loss(critic: Params, true: jax.Array, false: jax.Array, first: jax.Array) -> jax.Array:
        found = judged(critic, jnp.concatenate([true, false]), jnp.concatenate([first, first]))
        return jax.nn.relu(1 - found[: shape.batch]).mean() + jax.nn.relu(1 + found[shape.batch :]).mean()

    def generator_loss(
        generator: Params, critic: Params, key: jax.Array, within: jax.Array, clock: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        drawn = noise(shape, key, shape.batch)
        made = generated({**generator, **direct}, jnp.concatenate([drawn, clock], -1), within)
        halves = jax.vmap(lambda each, when: moments(shape, each, when, units))(
            *(each.reshape(2, shape.batch // 2, *each.shape[1:]) for each in (made, clock))
        )
        laws, lags = ((pair[0] - t) @ (pair[1] - t) for pair, t in zip(halves, targets, strict=True))
        held = (4 * laws + shape.lag_weight * lags) / shape.features
        return held - shape.adversarial * judged(critic, made, clock[:, 0]).mean(), (held, made)

    spaced = starts[jnp.arange(shape.judged_windows) * count // shape.judged_windows]
    targets = moments(
        shape,
        series[spaced[:, None] + span],
        _clocked(shape, turns[spaced][:, None] + span * step),
        units,
    )

    def step_of(carry: Any, key: jax.Array) -> Any:
        generator, critic, of_generator, of_critic, mean = carry
        for_real, for_generator = jax.random.split(key)
        true, within, clock = real(for_real, shape.batch)
        (_, (held, made)), change = jax.value_and_grad(generator_loss, has_aux=True)(
            generator, critic, for_generator, within, clock
        )
        update, of_generator = optimiser.update(change, of_generator)
        generator = optax.apply_updates(generator, update)
        loss, change = jax.value_and_grad(critic_loss)(critic, true, jax.lax.stop_gradient(made), clock[:, 0])
        update, of_critic = optimiser.update(change, of_critic)
        critic = optax.apply_updates(critic, update)
        mean = jax.tree.map(lambda m, p: 0.95 * m + 0.05 * p, mean, generator)
        return (generator, critic, of_generator, of_critic, mean), (loss, held)

    carry = (generator, critic, optimiser.init(generator), optimiser.init(critic), generator)
    carry, (losses, held) = jax.lax.scan(
        step_of, carry, jax.random.split(jax.random.key(seed, impl="unsafe_rbg"), shape.steps)
    )
    return {**carry[4], **carry[1], **direct}, {"critic_loss": losses.mean(), "loss": held[-20:].mean()}
