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
    window: int = 96
    scales: int = 10
    channels: int = 6
    hidden: int = 64
    critic: int = 64
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
        return self.scales * self.channels + self.clock

    @property
    def lags(self) -> tuple[int, ...]:
        """Time lags whose products are held, in steps."""
        return tuple(k for k in (0, 1, 2, 3, 5, 8, 12, 18, 26, 36, 48, 60, 72) if k <= self.window * 3 // 4)


def initial(shape: Shape, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Both nets before training."""

    def dense(inputs: int, outputs: int, gain: float = 1.0) -> NDArray[np.float32]:
        return (rng.standard_normal((inputs, outputs)) * gain / np.sqrt(inputs)).astype(np.float32)

    def zeros(size: int) -> NDArray[np.float32]:
        return np.zeros(size, np.float32)

    h, c, f = shape.hidden, shape.critic, shape.features
    return {
        "generator.direct": dense(shape.inputs, f),
        "generator.in": dense(shape.inputs, h),
        "generator.in_bias": zeros(h),
        "generator.mid": dense(h, h, 1.4),
        "generator.mid_bias": zeros(h),
        "generator.out": dense(h, f, 0.3),
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
    """[batch, window, scales * channels]: unit variance; channel group j is linear between knots 2^j apart."""
    parts = []
    time = jnp.arange(shape.window, dtype=jnp.float32)
    for scale in range(shape.scales):
        key, knots, phases = jax.random.split(key, 3)
        apart = 1 << scale
        if apart == 1:
            parts.append(jax.random.normal(knots, (batch, shape.window, shape.channels)))
            continue
        drawn = jax.random.normal(knots, (batch, shape.window // apart + 3, shape.channels))
        at = time[None] / apart + jax.random.uniform(phases, (batch, 1))
        low = jnp.floor(at)
        share = (at - low)[..., None]
        index = low.astype(jnp.int32)[..., None]
        left = jnp.take_along_axis(drawn, index, axis=1)
        right = jnp.take_along_axis(drawn, index + 1, axis=1)
        parts.append(((1 - share) * left + share * right) / jnp.sqrt((1 - share) ** 2 + share**2))
    return jnp.concatenate(parts, axis=-1)


def generated(params: Params, inputs: jax.Array) -> jax.Array:
    """Normal scores [..., F] of noise and clock [..., inputs]."""
    hidden = jax.nn.leaky_relu(inputs @ params["generator.in"] + params["generator.in_bias"], 0.2)
    hidden = jax.nn.leaky_relu(hidden @ params["generator.mid"] + params["generator.mid_bias"], 0.2)
    return (
        inputs @ params["generator.direct"] + hidden @ params["generator.out"] + params["generator.out_bias"]
    )


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


def moments(shape: Shape, windows: jax.Array, clock: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is held of windows [batch, window, F]: laws of values and changes; products over lags."""
    points = jnp.linspace(-2.5, 2.5, 13)
    laws = [jax.nn.sigmoid((windows[..., None] - points) * 4).mean((0, 1)).ravel()]
    for apart in (1, 4):
        change = windows[:, apart:] - windows[:, :-apart]
        laws.append(jax.nn.sigmoid((change[..., None] - points) * 4).mean((0, 1)).ravel())
    if shape.clock:
        by_hour = jnp.einsum("btf,btc->fc", windows, clock) / (windows.shape[0] * windows.shape[1])
        laws.append(by_hour.ravel())
    spread = jnp.exp(jnp.clip(windows, -3.5, 3.5) * 0.7) - 1.28  # heavy upper tails, as rates have them
    products = []
    for lag in shape.lags:
        count = windows.shape[0] * (shape.window - lag)
        for kind in (windows, spread * 0.7):
            earlier, later = kind[:, : shape.window - lag], kind[:, lag:]
            products.append((jnp.einsum("btf,btg->fg", earlier, later) / count).ravel())
    return jnp.concatenate(laws), jnp.concatenate(products)


def _clocked(shape: Shape, turns: jax.Array) -> jax.Array:
    """Sine and cosine of the time of day, `turns` in days: [..., clock]."""
    parts = [
        wave(2 * jnp.pi * (order + 1) * turns)
        for order in range(shape.clock // 2)
        for wave in (jnp.sin, jnp.cos)
    ]
    return jnp.stack(parts, -1) if parts else jnp.zeros((*turns.shape, 0))


@partial(jax.jit, static_argnums=0)
def epoch(
    shape: Shape,
    params: Params,
    series: jax.Array,
    starts: jax.Array,
    turns: jax.Array,
    step: float,
    seed: int,
) -> tuple[Params, dict[str, jax.Array]]:
    """`shape.steps` steps of both nets on `series` [T, F], normal scores, at windows that begin at `starts`.

    `turns` is the time of day of every step of `series`, in days; `step` the length of one. Gives the
    generator's running mean, which is steadier than its last state.
    """
    generator = {name: value for name, value in params.items() if name.startswith("generator.")}
    critic = {name: value for name, value in params.items() if name.startswith("critic.")}
    optimiser = optax.adam(optax.cosine_decay_schedule(shape.learning_rate, shape.steps, 0.3), b1=0.5, b2=0.9)
    span = jnp.arange(shape.window)

    def real(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        chosen = starts[jax.random.randint(key, (count,), 0, len(starts))]
        return series[chosen[:, None] + span], _clocked(shape, turns[chosen][:, None] + span * step)

    def fake(generator: Params, key: jax.Array, clock: jax.Array) -> jax.Array:
        drawn = noise(shape, key, clock.shape[0])
        return generated(generator, jnp.concatenate([drawn, clock], -1))

    def critic_loss(critic: Params, true: jax.Array, false: jax.Array, clock: jax.Array) -> jax.Array:
        first = clock[:, 0]
        return (
            jax.nn.relu(1 - judged(critic, true, first)).mean()
            + jax.nn.relu(1 + judged(critic, false, first)).mean()
        )

    def generator_loss(
        generator: Params, critic: Params, key: jax.Array, clock: jax.Array, targets: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, jax.Array]:
        made = fake(generator, key, clock)
        half = shape.batch // 2
        one, other = moments(shape, made[:half], clock[:half]), moments(shape, made[half:], clock[half:])
        laws, lags = ((a - t) @ (b - t) for a, b, t in zip(one, other, targets, strict=True))
        held = laws / shape.features * 4 + shape.lag_weight * lags / shape.features
        return held - shape.adversarial * judged(critic, made, clock[:, 0]).mean(), held

    spaced = starts[jnp.linspace(0, len(starts) - 1, shape.judged_windows).astype(jnp.int32)]
    at = spaced[:, None] + span
    targets = moments(shape, series[at], _clocked(shape, turns[spaced][:, None] + span * step))

    def step_of(carry: Any, key: jax.Array) -> Any:
        generator, critic, of_generator, of_critic, mean = carry
        for_real, for_false, for_generator = jax.random.split(key, 3)
        true, clock = real(for_real, shape.batch)
        false = fake(generator, for_false, clock)
        loss, change = jax.value_and_grad(critic_loss)(critic, true, false, clock)
        update, of_critic = optimiser.update(change, of_critic)
        critic = optax.apply_updates(critic, update)
        (_, held), change = jax.value_and_grad(generator_loss, has_aux=True)(
            generator, critic, for_generator, clock, targets
        )
        update, of_generator = optimiser.update(change, of_generator)
        generator = optax.apply_updates(generator, update)
        mean = jax.tree.map(lambda m, p: 0.95 * m + 0.05 * p, mean, generator)
        return (generator, critic, of_generator, of_critic, mean), (loss, held)

    carry = (generator, critic, optimiser.init(generator), optimiser.init(critic), generator)
    carry, (losses, held) = jax.lax.scan(step_of, carry, jax.random.split(jax.random.key(seed), shape.steps))
    return {**carry[4], **carry[1]}, {"critic_loss": losses.mean(), "loss": held[-20:].mean()}
