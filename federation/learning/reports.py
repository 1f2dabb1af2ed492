"""What is known of a training and of each of its rounds, as data that a log, a card and a person can read."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from domain_twin.learning.learner import Arrays

__all__ = ["DomainRound", "Outcome", "RoundReport", "scores"]


@dataclass(frozen=True, slots=True)
class DomainRound:
    """What one domain did in a round. Losses are None where it did not say."""

    state: str
    """`took-part`, `clipped`, `not-chosen`, or why it did not contribute (a word of `Absence`)."""
    samples: int = 0
    train_loss: float | None = None
    loss: float | None = None
    """On its own holdout, of the round's aggregate."""
    norm: float | None = None
    """Of its update."""


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What is known of one round. Round 0 is the model that training begins with."""

    round: int
    accepted: bool
    reason: str
    """Why it was not accepted; empty where it was."""
    loss: float | None
    """Median over the domains."""
    change: float | None
    """Of the loss, relative to the best model before it, median over the domains."""
    strategy: str
    domains: Mapping[str, DomainRound]
    digest: str
    """`contribution.fingerprint` of the aggregate, accepted or not; empty where none came about."""
    started_at: int
    took_s: float
    bytes_out: int
    bytes_in: int
    notes: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become null."""
        record: dict[str, Any] = _finite(asdict(self))
        return record


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a training. `arrays` is the best accepted model; where none was, the first one."""

    arrays: Arrays
    rounds: tuple[RoundReport, ...]
    contributors: tuple[str, ...]
    """Domains of which a contribution is in an accepted aggregate."""
    scores: Mapping[str, Mapping[str, float]]
    """As a Card has them: rows `model`, `first`, `naive:NAME`, `operator:NAME`; medians over the domains."""
    gains: Mapping[str, float] = field(default_factory=dict)
    brought: Mapping[str, float] = field(default_factory=dict)
    """By domain, how much more the others would lose without its contributions; an estimate."""
    notes: tuple[str, ...] = ()
    privacy_spent: Mapping[str, float] = field(default_factory=dict)
    """Under `private`: epsilon by domain, at the task's delta."""
    problem: str = ""
    """Why the training ended before its time; empty where it did not."""
    last: Arrays = field(default_factory=dict)
    """The last accepted model, which need not be the best one."""

    @property
    def accepted(self) -> int:
        """How many rounds were accepted; 0: `arrays` is no better than what training began with."""
        return sum(report.accepted for report in self.rounds if report.round)


Said = Mapping[str, Mapping[str, float]]
"""By domain, what it said of a model on its own holdout."""


def scores(said: Said, first: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Rows of a Card from what domains `said` of the best model, and lost with the `first` one."""
    if not said:
        return {}
    rows: dict[str, dict[str, float]] = {"model": _medians(said)}
    if first:
        rows["first"] = {"loss": statistics.median(first.values())}
    counts = Counter(name for one in said.values() for name in one if name.startswith("naive:"))
    # A rival that only few name may be one that nobody else could beat, or check.
    for name in sorted(name for name, count in counts.items() if 2 * count >= len(said)):
        rows[name] = {"loss": statistics.median(one[name] for one in said.values() if name in one)}
    for domain, one in sorted(said.items()):
        rows[f"operator:{domain}"] = {key: value for key, value in one.items() if key != "num-examples"}
    return {
        row: {key: value for key, value in cells.items() if math.isfinite(value)}
        for row, cells in rows.items()
    }


def _medians(said: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    names = {name for one in said.values() for name in one} - {"num-examples"}
    return {
        name: statistics.median(one[name] for one in said.values() if name in one)
        for name in sorted(names)
        if not name.startswith("naive:")
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
