"""A generative adversarial network over windows of all KPIs: synthetic telemetry (needs the extra `ai`).

Owns the learner, its settings and what a domain trains on: normal scores, by marginals of its own. Regimes,
marginals and the mixing of noise are statistics that every domain takes anew of its own data; their means
over domains are in the model for whoever has none. The nets are what is learned together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.fidelity import quick
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.marginals import Marginals, packed
from domain_twin.learning.models.gan_nets import Shape, epoch, initial
from domain_twin.learning.models.gan_start import own
from domain_twin.learning.panel import Panel
from domain_twin.learning.rivals import block_bootstrap, copula
from domain_twin.learning.synthetic import CLOCKS, DAY_NS, MAX_REGIMES, series
from domain_twin.learning.task import Task

__all__ = ["LEAST_WINDOWS", "GanLearner", "make"]

LEAST_WINDOWS: Final = 64
JUDGED_ROWS: Final = 4_000
_BATCH: Final = 64
_INTEGERS: Final = {"regimes", "window", "scales", "hidden", "critic", "steps"}


def make(task: Task) -> GanLearner:
    """The learner of `task`. Settings: regimes, window, scales, hidden, critic, steps, adversarial,
    lag_weight (see `Shape`), and clock: `day` or `none`. Raises ConfigError for others.
    """
    settings = dict(task.settings)
    clock = str(settings.pop("clock", "day"))
    known = _INTEGERS | {"adversarial", "lag_weight"}
    if unknown := set(settings) - known:
        raise ConfigError(
            f"model {task.model!r}: setting {sorted(unknown)[0]!r} is unknown to a GAN;"
            f" it knows {', '.join(sorted(known | {'clock'}))}"
        )
    if clock not in CLOCKS:
        raise ConfigError(f"model {task.model!r}: clock is {clock!r}; it may be {' or '.join(CLOCKS)}")
    shape = Shape(
        len(task.features),
        clock=CLOCKS[clock],
        learning_rate=task.learning_rate,
        batch=min(task.batch, _BATCH) // 2 * 2,
    )
    limits = {
        "regimes": MAX_REGIMES,
        "window": 512,
        "scales": 14,
        "hidden": 512,
        "critic": 512,
        "steps": 10_000,
    }
    for name, value in settings.items():
        number = _number(task, name, value)
        if name in limits and not 1 <= number <= limits[name]:
            raise ConfigError(
                f"model {task.model!r}: {name} is {number:g}; whole numbers up to {limits[name]}"
            )
        changed: dict[str, Any] = {name: int(number) if name in limits else number}
        shape = replace(shape, **changed)
    if shape.window % 16 or shape.batch < 2:
        raise ConfigError(f"model {task.model!r}: window is a multiple of 16 and batch 2 at least")
    return GanLearner(task, shape)


class GanLearner:
    """See `Learner`."""

    def __init__(self, task: Task, shape: Shape) -> None:
        self.task = task
        self.shape = shape

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Both nets at random; marginals that know nothing."""
        nothing = Marginals.none(self.shape.features)
        return {**initial(self.shape, rng), **packed([nothing] * self.shape.regimes)}

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """`task.epochs` epochs of `steps` steps. Raises ContractError below 64 whole windows."""
        self._check(arrays)
        values = panel.training()
        begun = own(arrays, panel, self.shape.clock, rng)
        arrays, scores = begun.arrays, begun.scores
        starts = _starts(scores, self.shape.window)
        if len(starts) < LEAST_WINDOWS:
            raise ContractError(
                f"model {self.task.model!r}: the training part has {len(starts)} windows of"
                f" {self.shape.window} steps without gaps, {LEAST_WINDOWS} are needed: a longer"
                " window of history"
            )
        step = panel.step_s / 86_400
        turns = panel.start % DAY_NS / DAY_NS + np.arange(values.shape[1]) * step
        held = np.bincount(begun.regimes[begun.regimes >= 0], minlength=self.shape.regimes)
        powers = [marginals.hermite()[1] for marginals in Marginals.unpacked(arrays)]
        params = {
            name: jnp.asarray(held) for name, held in arrays.items() if not name.startswith("marginals.")
        }
        metrics: dict[str, float] = {}
        # one size for many lengths: code is compiled once, and not for every domain
        data = jnp.asarray(_padded(np.nan_to_num(scores.reshape(-1, scores.shape[-1]))), jnp.float32)
        regimes = jnp.asarray(_padded(np.maximum(begun.regimes, 0).ravel().astype(np.int32)))
        when = jnp.asarray(_padded(np.tile(turns % 1.0, values.shape[0])), jnp.float32)
        units = jnp.asarray(np.average(powers, axis=0, weights=held), jnp.float32)
        begins = jnp.asarray(_padded(starts))
        for _ in range(self.task.epochs):
            params, found = epoch(
                self.shape, params, data, regimes, begins, len(starts), when, units, step,
                int(rng.integers(2**31)),
            )  # fmt: skip
            metrics = {name: float(value) for name, value in found.items()}
        trained = {name: np.asarray(value, np.float32) for name, value in params.items()}
        return Trained({**arrays, **trained}, len(starts), metrics)

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """How far synthetic series in this domain's units are from the holdout, beside both rivals."""
        self._check(arrays)
        rng = np.random.default_rng(self.task.seed)
        training, holdout = panel.training(), panel.values[:, panel.holdout_from :]
        if holdout.shape[1] < self.shape.window:
            raise ContractError(
                f"model {self.task.model!r}: the holdout has {holdout.shape[1]} steps, a window has"
                f" {self.shape.window}: a longer window of history, or a larger holdout"
            )
        mine = own(arrays, panel, self.shape.clock, rng).arrays
        rows = min(JUDGED_ROWS, max(holdout.shape[1], 4 * self.shape.window))
        start = panel.start + round(panel.holdout_from * panel.step_s * 1e9)
        made = series(mine, self.shape.clock, rows, rng, start=start, step_s=panel.step_s)
        found = quick(made, holdout)
        out = {"loss": float(sum(found.values())), **found}
        out["naive:bootstrap"] = sum(quick(block_bootstrap(training, rows, rng), holdout).values())
        out["naive:copula"] = sum(quick(copula(training, rows, rng), holdout).values())
        return out

    def _check(self, arrays: Arrays) -> None:
        for name, wanted in self.initial(np.random.default_rng(0)).items():
            if name not in arrays or arrays[name].shape != wanted.shape:
                found = list(arrays[name].shape) if name in arrays else "missing"
                raise ContractError(
                    f"model {self.task.model!r}: array {name!r} is {found},"
                    f" this task's is {list(wanted.shape)}"
                )


def _starts(scores: NDArray[np.float64], window: int) -> NDArray[np.int32]:
    """Where windows without gaps begin in the elements' series laid end to end, of scores [E, T, F]."""
    elements, steps, _ = scores.shape
    gaps = np.isnan(scores).any(-1)
    since = np.concatenate([np.zeros((elements, 1)), gaps.cumsum(1)], axis=1)
    if steps < window:
        return np.empty(0, np.int32)
    element, begin = np.nonzero(since[:, window:] - since[:, :-window] == 0)
    found: NDArray[np.int32] = (element * steps + begin).astype(np.int32)
    return found


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """With zeros below, up to 16,384 rows or the next power of two."""
    rows = max(16_384, 1 << (len(values) - 1).bit_length())
    return np.concatenate([values, np.zeros((rows - len(values), *values.shape[1:]), values.dtype)])


def _number(task: Task, name: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"model {task.model!r}: {name} is {value!r}, not a number") from None
