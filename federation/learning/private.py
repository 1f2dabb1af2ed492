"""A training under `private`: rounds of sums, and what becomes of the models that they make.

Owns which model is the best so far. One that domains call worse on their own holdouts is dropped, and
training goes on from the last good one. How a sum comes about is `sums`'.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from domain_twin.learning import contribution
from domain_twin.learning.dpsgd import private
from domain_twin.learning.flower import Grid
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.secagg import LEAST_DOMAINS
from domain_twin.learning.task import Privacy, Task
from federation.learning.reports import DomainRound, Outcome, RoundReport
from federation.learning.rounds import OnRound, Plan
from federation.learning.sums import RoundRefused, Summed, sum_round
from federation.learning.under_way import await_domains, traffic_of

__all__ = ["train_private"]

_AGAIN: Final = -1  # the round of a model that was judged before

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Made:
    """A model that waits for the domains' judgement, and what is known of the round that made it."""

    round: int
    arrays: Arrays
    domains: Mapping[str, DomainRound]
    started_at: int = 0
    took_s: float = 0.0
    traffic: tuple[int, int] = (0, 0)
    """Bytes out and in."""


def train_private(
    task: Task,
    grid: Grid,
    *,
    plan: Plan | None = None,
    initial: Arrays | None = None,
    on_round: OnRound | None = None,
    stop: threading.Event | None = None,
    name_of: Callable[[int], str] | None = None,
) -> Outcome:
    """Train `task`, of the profile `private`, as `federation.learning.rounds.train` does the others. Blocks.

    What a round made is judged at the beginning of the next one, in the same sum, and after the last by a
    round that trains nothing. Raises RoundRefused where not even the first model could be judged,
    ConfigError.
    """
    if task.tells_noised:
        from federation.learning.noised import train_noised

        return train_noised(
            task,
            grid,
            plan=plan or Plan(),
            on_round=on_round,
            stop=stop or threading.Event(),
            name_of=name_of,
        )
    model = private(task, learner(task))
    start = initial if initial is not None else model.initial(np.random.default_rng(task.seed))
    contribution.check(start, model.initial(np.random.default_rng(task.seed)))
    named = name_of if name_of is not None else cast("Callable[[int], str]", getattr(grid, "name", str))
    run = _Training(task, grid, plan or Plan(), on_round, named)
    run.go(start, stop or threading.Event())
    return run.outcome()


class _Training:
    """Which model is the best so far, and what the next round begins with."""

    def __init__(
        self, task: Task, grid: Grid, plan: Plan, on_round: OnRound | None, name_of: Callable[[int], str]
    ) -> None:
        self._task = task
        self._grid = grid
        self._plan = plan
        self._on_round = on_round
        self._name = name_of
        self._reports: list[RoundReport] = []
        self._contributors: set[str] = set()
        self._notes: dict[str, None] = {}
        self._problem = ""
        self._loss = self._first = math.inf
        self._naive = math.nan
        self._epsilon: dict[str, float] = {}

    def go(self, start: Arrays, stop: threading.Event) -> None:
        """All rounds, and the judgement of what the last one made."""
        self._best = start
        self._stop = stop
        made: _Made | None = _Made(0, start, {}, time.time_ns())
        failed = 0
        number = 0
        for number in range(1, self._task.rounds + 1):
            if stop.is_set():
                self._problem = f"stopped before round {number}"
                break
            try:
                summed, made = self._round(number, made)
            except RoundRefused as error:
                failed += 1
                self._void(number, str(error))
                if error.spent or failed >= self._plan.patience:
                    self._problem = f"round {number}: {error}"
                    break
                continue
            failed = 0 if summed else failed + 1
            if failed >= self._plan.patience:
                self._problem = f"{failed} rounds in a row made the model worse"
                break
        if made is not None and not stop.is_set():
            self._last(number + 1, made)

    def _round(self, number: int, base: _Made | None) -> tuple[bool, _Made | None]:
        """Train on from `base`, or from the best where the last was dropped; whether something came of it."""
        base = base or _Made(_AGAIN, self._best, {})
        await_domains(self._grid, LEAST_DOMAINS, within_s=self._plan.deadline_s, stop=self._stop)
        started_at, began_s, traffic = time.time_ns(), time.monotonic(), traffic_of(self._grid)
        summed = self._sum(base.arrays, number)
        for node, epsilon in summed.epsilon.items():
            self._epsilon[self._name(node)] = epsilon
        if not self._judged(base, summed):
            self._void(number, f"it began with what round {base.round} made, which was dropped")
            return False, None
        out, in_ = traffic_of(self._grid)
        domains = {self._name(node): DomainRound("took-part") for node in summed.contributors}
        domains |= {
            self._name(node): DomainRound(absence.value)
            for node, (_, absence) in summed.absent.items()
            if node not in summed.contributors
        }
        arrays = {
            key: (array + summed.changes[key]).astype(array.dtype) for key, array in base.arrays.items()
        }
        took_s = time.monotonic() - began_s
        return True, _Made(number, arrays, domains, started_at, took_s, (out - traffic[0], in_ - traffic[1]))

    def _sum(self, base: Arrays, number: int, *, judge_only: bool = False) -> Summed:
        def whose(node: int) -> str:
            name = self._name(node)
            return self._plan.operators.get(name, name)

        return sum_round(
            self._task,
            self._grid,
            base,
            number=number,
            timeout_s=self._plan.deadline_s,
            judge_only=judge_only,
            whose=whose,
        )

    def _last(self, number: int, made: _Made) -> None:
        try:
            summed = self._sum(made.arrays, number, judge_only=True)
        except RoundRefused as error:
            if made.round > 0:
                self._report(made, None, accepted=False, reason=f"nobody judged it: {error}")
            return
        self._judged(made, summed)

    def _judged(self, made: _Made, summed: Summed) -> bool:
        """Whether the domains may keep `made`: no, where it is worse on the holdouts of most records."""
        loss, worse = summed.measures["loss"], summed.measures["worse"]
        self._naive = summed.measures["naive"]
        if made.round == 0:
            self._first = loss
        accepted = worse <= 0.5
        reason = "" if accepted else f"worse on the domains' own holdouts, for {worse:.0%} of the records"
        change = (loss - self._loss) / max(abs(self._loss), 1e-12) if math.isfinite(self._loss) else None
        if accepted and loss < self._loss:
            self._best, self._loss = made.arrays, loss
        if accepted:
            self._contributors.update(
                name for name, domain in made.domains.items() if domain.state == "took-part"
            )
        if made.round >= 0:
            self._report(made, loss, accepted=accepted, reason=reason, change=change)
        return accepted

    def _void(self, number: int, why: str) -> None:
        log.warning("a private round came to no sum", extra={"round": number, "problem": why})
        self._notes[f"round {number}: {why}"] = None
        self._report(_Made(number, {}, {}, time.time_ns()), None, accepted=False, reason=why)

    def _report(
        self, made: _Made, loss: float | None, *, accepted: bool, reason: str, change: float | None = None
    ) -> None:
        report = RoundReport(
            round=made.round,
            accepted=accepted,
            reason=reason,
            loss=loss,
            change=change,
            strategy="secure aggregation, DP-SGD",
            domains=made.domains,
            digest=contribution.fingerprint(made.arrays) if made.arrays else "",
            started_at=made.started_at,
            took_s=made.took_s,
            bytes_out=made.traffic[0],
            bytes_in=made.traffic[1],
        )
        self._reports.append(report)
        if self._on_round is not None:
            self._on_round(report)

    def outcome(self) -> Outcome:
        """What came of it. Raises RoundRefused where no model was ever judged."""
        if not math.isfinite(self._loss):
            raise RoundRefused(f"model {self._task.model!r}: no round came to a sum; {self._problem}")
        privacy = self._task.privacy or Privacy()
        note = (
            "each record of a domain that was trained on is protected with that domain's epsilon at delta"
            f" {privacy.delta:g}; losses are means over domains, weighted by their records, and bear no noise"
        )
        return Outcome(
            arrays=self._best,
            rounds=tuple(self._reports),
            contributors=tuple(sorted(self._contributors)),
            scores={
                "model": {"loss": self._loss},
                "first": {"loss": self._first},
                "naive:best": {"loss": self._naive},
            },
            notes=(note, *self._notes),
            problem=self._problem,
            privacy_spent=self._epsilon,
        )
