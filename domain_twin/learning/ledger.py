"""What a domain has spent of its privacy: one file in its state, asked before every private training.

Owns the accounting (Renyi differential privacy, Mironov 2017; Poisson-sampled Gaussians, Mironov, Talwar and
Zhang 2019; by Google's dp_accounting) and the refusal. A training is entered, and on disk, before it begins:
what crashes in between counts as spent. A file that is not whole counts as all spent. Time plays no part.

Two limits hold at once: the task's, for its model, and the domain's own, for everything that it ever trained
privately, since the same records stand behind all of its models.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from domain_twin.datastore.durable import put_in_place
from domain_twin.errors import ConfigError, NotShared
from domain_twin.learning.task import Privacy

__all__ = ["BudgetSpent", "Ledger", "Plan", "Spent", "epsilon_of", "noise_for"]

# From 2 on: lower ones matter for budgets above 10 only, and their series do not always converge.
_ORDERS: Final = (*(2 + step / 2 for step in range(17)), *range(11, 65), 80, 96, 128, 256, 512, 1024)
_FORMAT: Final = "fedtwin-privacy-ledger-1"


class BudgetSpent(NotShared):
    """No more is trained privately on these records."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one round trains on `records`: each step takes every record with probability `rate`."""

    records: int
    batch: int
    """Records that a step takes on average."""
    steps: int

    @property
    def rate(self) -> float:
        """Probability that a step takes a given record."""
        return min(1.0, self.batch / self.records)


@dataclass(frozen=True, slots=True)
class Spent:
    """One training as it stands in the ledger."""

    model: str
    run: str
    round: int
    noise_multiplier: float
    rate: float
    steps: int


def _rdp() -> Any:
    try:
        from dp_accounting import rdp
    except ModuleNotFoundError:
        raise ConfigError(
            "the profile private needs the extra `ai`, for its accounting: pip install 'fedtwin[ai]'"
        ) from None
    return rdp


@lru_cache(maxsize=256)
def _step_rdp(noise_multiplier: float, rate: float) -> tuple[float, ...]:
    """Renyi divergence of one step, by order."""
    rdp = _rdp()
    import dp_accounting

    accountant = rdp.RdpAccountant(
        _ORDERS, neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    )
    return tuple(float(value) for value in accountant._rdp)


def epsilon_of(spent: Iterable[Spent], delta: float) -> float:
    """The epsilon, at `delta`, of everything in `spent` together; 0 for nothing."""
    steps: Counter[tuple[float, float]] = Counter()
    for entry in spent:
        steps[entry.noise_multiplier, entry.rate] += entry.steps
    if not steps:
        return 0.0
    rdp = _rdp()
    total = [0.0] * len(_ORDERS)
    for (noise_multiplier, rate), count in steps.items():
        for index, value in enumerate(_step_rdp(noise_multiplier, rate)):
            total[index] += value * count
    epsilon, _ = rdp.compute_epsilon(_ORDERS, total, delta)
    return float(epsilon)


def noise_for(plan: Plan, rounds: int, *, epsilon: float, delta: float) -> float:
    """The least noise multiplier, to 1 %, with which `rounds` rounds of `plan` stay within `epsilon`.

    Raises ConfigError where a multiplier of 100 is not enough.
    """

    def spends(noise_multiplier: float) -> float:
        return epsilon_of([Spent("", "", 0, noise_multiplier, plan.rate, plan.steps * rounds)], delta)

    low, high = 0.2, 100.0
    if spends(high) > epsilon:
        raise ConfigError(
            f"privacy: {rounds} rounds of {plan.steps} steps over {plan.records} records cannot stay within"
            f" epsilon {epsilon:g} at delta {delta:g}; take fewer rounds or epochs, or more records"
        )
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spends(middle) > epsilon else (low, middle)
    return high


class Ledger:
    """The privacy budget of one domain. Every call blocks; several processes may use one file.

    `epsilon` and `delta` are the domain's own limit, over all models together.
    """

    def __init__(self, path: Path, *, epsilon: float = 8.0, delta: float = 1e-5) -> None:
        self._path = path
        self._epsilon = epsilon
        self._delta = delta

    def entries(self) -> tuple[Spent, ...]:
        """Everything that was spent, oldest first. Raises BudgetSpent where the file is not whole."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        try:
            document = json.loads(data)
            entries = document["entries"]
            if document["format"] != _FORMAT or document["digest"] != _digest(entries):
                raise ValueError
            return tuple(Spent(**entry) for entry in entries)
        except (ValueError, KeyError, TypeError):
            raise BudgetSpent(
                f"privacy ledger {self._path}: it is not whole, so everything counts as spent; bring back a"
                " copy,"
                " or remove it, which forgets what was spent on the same records"
            ) from None

    def spent(self, model: str | None = None, *, delta: float | None = None) -> float:
        """Epsilon spent on `model`, or on all models together; infinite where the file is not whole."""
        try:
            entries = self.entries()
        except BudgetSpent:
            return math.inf
        return epsilon_of(
            (entry for entry in entries if model is None or entry.model == model), delta or self._delta
        )

    def check(self, model: str, privacy: Privacy, plan: Plan) -> None:
        """Raise BudgetSpent where one round of `plan` more would exceed a limit. Spends nothing."""
        self._check(
            self.entries(), Spent(model, "", 0, privacy.noise_multiplier, plan.rate, plan.steps), privacy
        )

    def spend(self, model: str, privacy: Privacy, plan: Plan, *, run: str, round_number: int) -> float:
        """Enter one round of `plan`, on disk when this returns; the epsilon of `model` with it.

        Raises BudgetSpent where that would exceed a limit, NotShared for a delta above the domain's; nothing
        is entered then.
        """
        entry = Spent(model, run, round_number, privacy.noise_multiplier, plan.rate, plan.steps)
        with self._locked():
            entries = self.entries()
            epsilon = self._check(entries, entry, privacy)
            self._write([*entries, entry])
        return epsilon

    def _check(self, entries: tuple[Spent, ...], more: Spent, privacy: Privacy) -> float:
        if privacy.delta > self._delta:
            raise NotShared(
                f"model {more.model!r}: its budget is counted at delta {privacy.delta:g}, and this domain"
                " allows"
                f" {self._delta:g} at most"
            )
        of_model = [entry for entry in entries if entry.model == more.model]
        epsilon = epsilon_of([*of_model, more], privacy.delta)
        overall = epsilon_of([*entries, more], self._delta)
        for limit, value, before, delta, whose in (
            (privacy.epsilon, epsilon, of_model, privacy.delta, f"model {more.model!r}"),
            (self._epsilon, overall, entries, self._delta, "all models of this domain"),
        ):
            if value > limit:
                raise BudgetSpent(
                    f"the privacy budget of {whose} is epsilon {limit:g}; {epsilon_of(before, delta):.3f} is"
                    " spent,"
                    f" and one round more would make it {value:.3f}. No more is trained on these records"
                )
        return epsilon

    def _write(self, entries: list[Spent]) -> None:
        plain = [asdict(entry) for entry in entries]
        document = {"format": _FORMAT, "digest": _digest(plain), "entries": plain}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_name(self._path.name + ".new")
        written.write_text(json.dumps(document), encoding="utf-8")
        put_in_place(written, self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(self._path.name + ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _digest(entries: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
