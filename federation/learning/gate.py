"""The gate: an aggregate that the domains' own holdouts call worse than the best one so far is refused.

Owns the comparison. Each domain's loss is compared with that domain's own loss of the best model, and the
median of the changes decides: fewer than half of the operators can neither push a bad aggregate through nor
keep a good one out. With two there is no such majority, and one that lies can do both. Compared is with the
best, not with the last: else a model could decay in small steps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from federation.learning.strategies import voices

__all__ = ["Gate", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the domains say of an aggregate. `change`: relative to the best so far, below 0 is better."""

    accepted: bool
    best: bool
    change: float
    reason: str


class Gate:
    """Remembers what each domain lost with the best model so far."""

    def __init__(self, *, tolerance: float, judges: int, operators: Mapping[str, str] | None = None) -> None:
        """`operators`: whose each domain is; all of an operator's have one voice, their median."""
        self._operators = operators or {}
        self._tolerance = tolerance
        self._judges = judges
        self._best: dict[str, float] = {}

    def begin(self, losses: Mapping[str, float]) -> None:
        """Take `losses` by domain as those of the model that training begins with."""
        self._best = dict(losses)

    def judge(self, losses: Mapping[str, float]) -> Verdict:
        """Whether a model with `losses` by domain may follow; where it is the best, it is the one to beat."""
        both = sorted(losses.keys() & self._best.keys())
        if len(both) < self._judges:
            return Verdict(False, False, math.inf, f"{len(both)} domains judged it, {self._judges} must")
        change = statistics.median(
            statistics.median(_change(losses[domain], self._best[domain]) for domain in domains)
            for domains in voices(both, self._operators).values()
        )
        if not change <= self._tolerance:
            said = "worse" if math.isinf(change) else f"{change:.1%} worse"
            return Verdict(
                False, False, change, f"{said} than the best so far, by the median over {len(both)} domains"
            )
        if change >= 0:
            return Verdict(True, False, change, "")
        self._best |= losses  # who was absent is compared with the last of theirs that is known
        return Verdict(True, True, change, "")


def _change(loss: float, best: float) -> float:
    if not math.isfinite(loss):
        return math.inf
    if not math.isfinite(best):
        return -1.0
    return (loss - best) / max(abs(best), 1e-12)
