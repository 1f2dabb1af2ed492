"""Training with noise: DP-SGD (Abadi et al. 2016) for every learner that has gradients of single records.

Owns sampling, clipping and noise, so that no learner can get them wrong, and asks the ledger before it
begins. A record is what `PrivateLearner.records` says, a training window as a rule. Which records a step
takes and the noise come from the operating system's entropy, never from the task's seed, which everybody
knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Learner, Trained
from domain_twin.learning.ledger import Ledger, Plan
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Privacy, Task

__all__ = ["PrivateLearner", "Records", "plan_of", "private", "train_private"]

Records = Mapping[str, NDArray[Any]]
"""What a domain trains on, record by record: arrays that all begin with the same axis."""

LEAST_RECORDS = 64
"""Fewer, and a step that takes some of them hides none of them."""
_CHUNK = 128
"""Records whose gradients are held at once: so many times the model's size."""


class PrivateLearner(Learner, Protocol):
    """A learner that can train under `private`."""

    def records(self, panel: Panel) -> Records:
        """What is trained on, of the training part of `panel`. Raises ContractError: too little."""

    def gradients(self, arrays: Arrays, records: Records) -> tuple[NDArray[Any], Arrays]:
        """Each record's loss [n], and its gradient [n, *shape] of every array that is trained."""


def private(task: Task, learner: Learner) -> PrivateLearner:
    """`learner`, known to have gradients of single records. Raises ConfigError where it has none."""
    if not callable(getattr(learner, "records", None)) or not callable(getattr(learner, "gradients", None)):
        raise ConfigError(
            f"model {task.model!r}: a {task.kind.value} cannot be trained under `private`, since it has no"
            " gradients of single records; use the profile mistrustful, or another kind of model"
        )
    return cast(PrivateLearner, learner)


def plan_of(task: Task, records: Records) -> Plan:
    """How one round of `task` trains on `records`. Raises ContractError where they are too few."""
    counts = {len(array) for array in records.values()}
    if len(counts) != 1:
        raise ContractError(f"model {task.model!r}: arrays of records have {sorted(counts)} records")
    count = counts.pop()
    if count < LEAST_RECORDS:
        raise ContractError(
            f"model {task.model!r}: {count} records, {LEAST_RECORDS} at least under `private`: wait for more"
            " history"
        )
    batch = min(task.batch, count)
    return Plan(count, batch, task.epochs * -(-count // batch))


def train_private(
    task: Task,
    learner: PrivateLearner,
    arrays: Arrays,
    panel: Panel,
    ledger: Ledger,
    *,
    run: str,
    round_number: int,
    rng: np.random.Generator | None = None,
) -> tuple[Trained, float]:
    """`arrays` after one round, and the epsilon of this domain and model with it.

    The metrics hold no loss: what is said of the records themselves would need noise of its own. Raises
    BudgetSpent before it touches a record, where the budget does not allow for the round. `rng` is for tests.
    """
    privacy = task.privacy or Privacy()
    records = learner.records(panel)
    plan = plan_of(task, records)
    epsilon = ledger.spend(task.model, privacy, plan, run=run, round_number=round_number)
    rng = rng or np.random.default_rng()
    arrays = {name: array.copy() for name, array in arrays.items()}
    adam = _Adam(task.learning_rate)
    for _ in range(plan.steps):
        taken = np.flatnonzero(
            rng.random(plan.records) < plan.rate
        )  # Poisson sampling, as the accounting has it
        total = _clipped_sum(learner, arrays, records, taken, privacy.clip_norm)
        adam.step(arrays, _noisy_mean(total, plan, privacy, rng))
    return Trained(arrays, plan.records), epsilon


def _clipped_sum(
    learner: PrivateLearner, arrays: Arrays, records: Records, taken: NDArray[np.intp], clip_norm: float
) -> Arrays:
    """The sum of the gradients of the records `taken`, each cut to `clip_norm` over all arrays together."""
    total: Arrays = {}
    for begin in range(0, max(len(taken), 1), _CHUNK):
        chunk = taken[begin : begin + _CHUNK]
        # A step that took nobody still adds noise: one record, that then counts nothing, tells the shapes.
        at = chunk if len(chunk) else np.zeros(1, np.intp)
        _, gradients = learner.gradients(arrays, {name: array[at] for name, array in records.items()})
        count = len(at)
        squares = np.zeros(count)
        for gradient in gradients.values():
            squares += np.square(gradient.reshape(count, -1), dtype=np.float64).sum(axis=1)
        # What is not finite has no direction: it is left out, as a record that was not taken.
        norms = np.sqrt(squares)
        fine = np.isfinite(norms) & (len(chunk) > 0)
        weights = np.where(fine, np.minimum(1.0, clip_norm / np.maximum(norms, 1e-12)), 0.0)
        for name, gradient in gradients.items():
            finite = np.where(fine.reshape(-1, *(1,) * (gradient.ndim - 1)), gradient, 0.0)
            summed = np.tensordot(weights, finite, axes=1)
            total[name] = total[name] + summed if name in total else summed
    return total


def _noisy_mean(total: Arrays, plan: Plan, privacy: Privacy, rng: np.random.Generator) -> Arrays:
    """What a step learns of its records: their sum and the noise, over the batch that is taken on average."""
    scale = privacy.noise_multiplier * privacy.clip_norm
    return {name: (sums + rng.normal(0, scale, sums.shape)) / plan.batch for name, sums in total.items()}


class _Adam:
    """Adam (Kingma and Ba 2015); it sees noisy gradients only, so what it keeps costs nothing more."""

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0
        self._mean: Arrays = {}
        self._square: Arrays = {}

    def step(self, arrays: Arrays, gradients: Arrays) -> None:
        """Move `arrays` in place."""
        self._count += 1
        rate = self._rate * np.sqrt(1 - 0.999**self._count) / (1 - 0.9**self._count)
        for name, gradient in gradients.items():
            mean = self._mean.get(name, np.zeros_like(gradient))
            square = self._square.get(name, np.zeros_like(gradient))
            self._mean[name] = 0.9 * mean + 0.1 * gradient
            self._square[name] = 0.999 * square + 0.001 * gradient**2
            moved = rate * self._mean[name] / (np.sqrt(self._square[name]) + 1e-8)
            arrays[name] = (arrays[name] - moved).astype(arrays[name].dtype)
