"""The published recipe, run again: FedAvg of an LSTM with 128 units, 30 rounds of 3 epochs, Adam 1e-3, MSE.

Training data floored and capped at the 10th and 90th percentile (PobleSec 5/95), min-max over the sites.

    python -m benchmarks._lstm_recipe IN.npz OUT.npz ROUNDS SEED
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks._barcelona_data import LAGS, PICKS, SITES

UNITS, BATCH, EPOCHS = 128, 128, 3
CAPS = {"PobleSec": (5, 95)}
_ADAM = optax.adam(1e-3)


def initial(key: Any) -> dict[str, Any]:
    keys, bound = jax.random.split(key, 5), UNITS**-0.5
    shapes = {"read": (11, 4 * UNITS), "keep": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    shapes |= {"dense": (UNITS, UNITS), "out": (UNITS, 5)}
    made = {
        n: jax.random.uniform(k, s, minval=-bound, maxval=bound)
        for k, (n, s) in zip(keys, shapes.items(), strict=False)
    }
    return made | {"dense_bias": jnp.zeros(UNITS), "out_bias": jnp.zeros(5)}


@jax.jit
def foretell(p: dict[str, Any], x: Any) -> Any:
    def cell(state: tuple[Any, Any], now: Any) -> tuple[tuple[Any, Any], None]:
        hidden, memory = state
        i, f, g, o = jnp.split(now @ p["read"] + hidden @ p["keep"] + p["bias"], 4, axis=-1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

    zero = jnp.zeros((x.shape[0], UNITS))
    (hidden, _), _ = jax.lax.scan(cell, (zero, zero), jnp.swapaxes(x, 0, 1))
    return jax.nn.relu(hidden @ p["dense"] + p["dense_bias"]) @ p["out"] + p["out_bias"]


@partial(jax.jit, donate_argnums=1)
def epoch(p: dict[str, Any], state: Any, x: Any, y: Any) -> tuple[dict[str, Any], Any]:
    def step(carry: tuple[Any, Any], batch: tuple[Any, Any]) -> tuple[tuple[Any, Any], None]:
        p, state = carry
        slope = jax.grad(lambda p: ((foretell(p, batch[0]) - batch[1]) ** 2).mean())(p)
        update, state = _ADAM.update(slope, state)
        return (optax.apply_updates(p, update), state), None

    (p, state), _ = jax.lax.scan(step, (p, state), (x, y))
    return p, state


def main() -> None:
    source, target, rounds, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    data, capped = np.load(source), {}
    for name in SITES:
        train = np.nan_to_num(data[f"{name}_train"])
        low, high = np.percentile(train, CAPS.get(name, (10, 90)), axis=0)
        capped[name] = np.clip(train, low, high)
    low = np.min([train.min(axis=0) for train in capped.values()], axis=0)
    span = np.max([train.max(axis=0) for train in capped.values()], axis=0) - low
    windows = {}
    for name, train in capped.items():
        scaled = ((train - low) / span).astype(np.float32)
        x = np.swapaxes(sliding_window_view(scaled, LAGS, axis=0)[:-1], 1, 2)
        windows[name] = (x, scaled[LAGS:, PICKS])
    model, rng = initial(jax.random.PRNGKey(seed)), np.random.default_rng(seed)
    shares = np.array([len(x) for x, _ in windows.values()]) / sum(len(x) for x, _ in windows.values())
    for round_ in range(rounds):
        made = []
        for x, y in windows.values():
            local, state = jax.tree.map(jnp.array, model), _ADAM.init(model)
            for _ in range(EPOCHS):
                order = rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
                local, state = epoch(local, state, x[order], y[order])
            made.append(local)
        model = jax.tree.map(lambda *arrays: sum(s * a for s, a in zip(shares, arrays, strict=True)), *made)
        sys.stderr.write(f"published recipe: round {round_ + 1} of {rounds}\n")
    out = {}
    for name in SITES:
        rows, values = data[f"{name}_rows"], (np.nan_to_num(data[f"{name}_values"]) - low) / span
        x = values.astype(np.float32)[rows[:, None] - LAGS + np.arange(LAGS)]
        out[name] = np.asarray(foretell(model, x)) * span[PICKS] + low[PICKS]
    np.savez(target, **out)


if __name__ == "__main__":
    main()
