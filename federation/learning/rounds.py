"""A training: rounds of Flower's ServerApp over a Grid, until the task's rounds are done or it cannot go on.

Owns the order of a round (train, check, join, judge, accept or refuse), its deadline, and what is reported of
it. A round goes on without the domains that fail; one with too few is void; the best accepted model stays.
Blocks: an event loop calls `train` in a thread.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np

from domain_twin.errors import ContractError, Unreachable
from domain_twin.learning import contribution
from domain_twin.learning.client import ALONE, STATISTICS, SUMS, Standardised, Summed
from domain_twin.learning.flower import (
    ArrayRecord,
    ConfigRecord,
    Grid,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    Strategy,
    context,
    record_of,
)
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.task import Profile, Task
from federation.learning.contributions import Without, brought, gains
from federation.learning.gate import Gate, Verdict
from federation.learning.replies import Absent, alike, arrays_of, contributed, judged
from federation.learning.reports import DomainRound, Outcome, RoundReport, scores
from federation.learning.strategies import Aggregation, Joined, Update, joining, voices
from federation.learning.summing import Summing
from federation.learning.under_way import Round, await_domains, own_losses, traffic_of

__all__ = ["DomainRound", "Outcome", "Plan", "RoundReport", "train"]

_SLACK: Final = 2.0
"""Domains keep to so many times the last median norm: were it the median itself, it could never grow."""

_BETTER: Final = -1e-9

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How rounds are run; the task says what is learned."""

    deadline_s: float = 60.0
    """Of one round's training, and of its judgement; who is later is left out of the round."""
    min_domains: int = 2
    """Contributions below which a round is void."""
    aggregation: Aggregation | None = None
    """None: what the profile says."""
    malicious: int | None = None
    """Bad contributions to withstand; None: a quarter of those that arrive, at least one."""
    tolerance: float = 0.05
    """How much worse than the best so far an aggregate may be, relative, and still be trained on."""
    patience: int = 3
    """Void or refused rounds in a row after which the training ends."""
    explain: bool = True
    """Ask at the end what each domain brought and gained: all rounds once more, in every domain."""
    operators: Mapping[str, str] = field(default_factory=dict)
    """Whose each domain is: between operators, each has one voice. Who is not named has one of its own."""


OnRound = Callable[[RoundReport], None]


def train(
    task: Task,
    grid: Grid,
    *,
    plan: Plan | None = None,
    initial: Arrays | None = None,
    on_round: OnRound | None = None,
    stop: threading.Event | None = None,
    name_of: Callable[[int], str] | None = None,
) -> Outcome:
    """Train `task` in the domains of `grid`, from `initial` or from the beginning. Blocks.

    `on_round` is told of every round, in this thread. `stop` ends the training after the round under way, at
    once where `grid` was given it too. `name_of` is the domain behind a node, where `grid` does not know.
    Raises ConfigError for a task that nobody can train, Unreachable where too few domains ever answered.
    """
    if task.profile is Profile.PRIVATE:
        from federation.learning.private import train_private

        return train_private(
            task, grid, plan=plan, initial=initial, on_round=on_round, stop=stop, name_of=name_of
        )
    plan = plan or Plan()
    named: Callable[[int], str] = name_of or getattr(grid, "name", None) or str
    rounds = _Rounds(task, grid, plan, on_round, stop=stop, name_of=named)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Any) -> None:
        rounds.run(initial)

    app(grid, context(1, 1))
    return rounds.outcome()


class _Ended(Exception):
    """Leaves Flower's loop, which has no other way out."""


class _Rounds(Strategy):
    """The strategy that Flower's own loop drives: joins by `strategies`, judges by `gate`."""

    def __init__(
        self,
        task: Task,
        grid: Grid,
        plan: Plan,
        on_round: OnRound | None,
        *,
        stop: threading.Event | None,
        name_of: Callable[[int], str],
    ) -> None:
        self._task = task
        self._name = name_of
        self._json = task.to_json()
        self._grid = grid
        self._plan = plan
        self._on_round = on_round
        self._stop = stop or threading.Event()
        self._whose = plan.operators if task.profile is Profile.MISTRUSTFUL else {}
        self._joining = joining(task, plan.aggregation, malicious=plan.malicious, operators=self._whose)
        model = learner(task)
        self._summing = (
            Summing(model, robust=task.profile is Profile.MISTRUSTFUL, operators=self._whose)
            if isinstance(model, Summed)
            else None
        )
        judges = max(1, min(plan.min_domains, 2))
        # A fit from sums has no second round to mend it: it helps the median domain, or is refused.
        tolerance = plan.tolerance if self._summing is None else _BETTER
        self._gate = Gate(tolerance=tolerance, judges=judges, operators=self._whose)
        self._round = Round(0)
        self._reports: list[RoundReport] = []
        self._notes: dict[str, None] = {}
        self._contributors: set[str] = set()
        self._failed_in_a_row = 0
        self._problem = ""
        self._said: dict[str, dict[str, float]] = {}
        self._first: dict[str, float] = {}
        self._without: Without | None = None
        self._without_best: dict[str, Arrays] = {}
        self._gains: dict[str, float] = {}
        self._brought: dict[str, float] = {}

    def run(self, initial: Arrays | None) -> None:
        """All rounds, and what is asked before and after them."""
        model = learner(self._task)
        start = initial if initial is not None else model.initial(np.random.default_rng(self._task.seed))
        if initial is not None:
            contribution.check(initial, model.initial(np.random.default_rng(self._task.seed)))
        self._await_domains()
        if initial is None and isinstance(model, Standardised):
            start = self._standardise(model, start)
        self._start = self._current = self._best = start
        self._judge_start()
        with contextlib.suppress(_Ended):
            self.start(
                self._grid,
                record_of(start),
                num_rounds=self._task.rounds,
                timeout=self._plan.deadline_s,
            )
        if self._plan.explain and self._contributors and not self._stop.is_set():
            self._explain()

    def outcome(self) -> Outcome:
        """What came of it."""
        return Outcome(
            arrays=self._best,
            last=self._current,
            rounds=tuple(self._reports),
            contributors=tuple(sorted(self._contributors)),
            scores=scores(self._said, self._first),
            gains=self._gains,
            brought=self._brought,
            notes=tuple(self._notes),
            problem=self._problem,
        )

    # Flower's loop: configure_train, aggregate_train, configure_evaluate, aggregate_evaluate.

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every domain that is there to train the last accepted model, which need not be `arrays`."""
        if self._stop.is_set():
            self._end(f"stopped before round {server_round}")
        self._round = Round(server_round)
        self._round.traffic = traffic_of(grid)
        try:
            self._await_domains()
        except Unreachable as error:
            self._end(f"round {server_round}: {error}")
        settings: dict[str, Any] = {}
        if math.isfinite(self._joining.limit) and self._joining.limit > 0:
            settings["clip-norm"] = _SLACK * self._joining.limit
        return self._messages("train" if self._summing is None else SUMS, self._current, settings)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check what came, and join it."""
        state = self._round
        if self._summing is not None:
            return self._aggregate_sums(self._summing, replies), None
        for reply in replies:
            domain = self._name(reply.metadata.src_node_id)
            try:
                state.updates[domain], state.train_loss[domain] = contributed(reply, self._current)
            except Absent as absent:
                state.absent[domain] = absent.word
        if len(state.updates) < self._plan.min_domains:
            state.reason = f"{len(state.updates)} domains contributed, {self._plan.min_domains} must"
            return None, None
        joined = self._joining.join(state.updates)
        state.joined = joined
        self._notes.update(dict.fromkeys(joined.notes))
        candidate = {
            name: (array.astype(np.float64) + joined.changes[name]).astype(array.dtype)
            for name, array in self._current.items()
        }
        try:
            contribution.check(candidate, self._current)
        except ContractError as error:
            state.reason = f"the aggregate is no model: {error}"
            return None, None
        state.candidate = candidate
        return record_of(candidate), None

    def _aggregate_sums(self, summing: Summing, replies: Iterable[Message]) -> ArrayRecord | None:
        """Check the sums that came, and fit the model to them."""
        state = self._round
        for reply in replies:
            domain = self._name(reply.metadata.src_node_id)
            try:
                told = arrays_of(reply, None)
                state.updates[domain] = Update(told, summing.rows(told), math.nan)
            except Absent as absent:
                state.absent[domain] = absent.word
        if len(state.updates) < self._plan.min_domains:
            state.reason = f"{len(state.updates)} domains told sums, {self._plan.min_domains} must"
            return None
        arrays, state.joined = summing.fitted(state.told())
        self._notes.update(dict.fromkeys(state.joined.notes))
        state.candidate = arrays
        return record_of(arrays)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every domain that is there to judge the aggregate, if there is one."""
        if self._round.candidate is None:
            return []
        return self._messages("evaluate", self._round.candidate, {})

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Accept or refuse the aggregate, report the round, and end where there is no use in going on."""
        state = self._round
        state.said = self._heard(replies)
        verdict = Verdict(False, False, math.inf, state.reason)
        if state.candidate is not None:
            verdict = self._gate.judge(own_losses(state.said))
        if verdict.accepted and state.candidate is not None and state.joined is not None:
            self._accept(verdict, state.candidate, state.joined)
        self._failed_in_a_row = 0 if verdict.accepted else self._failed_in_a_row + 1
        self._report(verdict)
        if self._failed_in_a_row >= self._plan.patience:
            self._end(f"{self._failed_in_a_row} rounds in a row came to nothing, the last: {verdict.reason}")
        return None

    def _end(self, why: str) -> NoReturn:
        self._problem = why
        raise _Ended

    def summary(self) -> None:
        """Nothing: the reports say it."""

    def _accept(self, verdict: Verdict, candidate: Arrays, joined: Joined) -> None:
        self._current = candidate
        self._contributors.update(joined.used)
        if self._summing is not None:
            if self._plan.explain:
                self._without_best = self._summing.without(self._round.told())
        elif self._without is None and self._plan.explain and len(self._round.updates) > 2:
            self._without = Without(self._start, tuple(sorted(self._round.updates)))
        if self._without is not None:
            self._without.follow(self._round.updates, self._joining, best=verdict.best)
        if verdict.best:
            self._best = candidate
            self._said = self._round.said

    def _judge_start(self) -> None:
        self._round = Round(0)
        self._round.traffic = traffic_of(self._grid)
        self._round.candidate = self._start
        replies = self._grid.send_and_receive(
            self._messages("evaluate", self._start, {}), timeout=self._plan.deadline_s
        )
        self._round.said = self._said = self._heard(replies)
        self._first = {domain: said["loss"] for domain, said in self._said.items()}
        self._gate.begin(own_losses(self._said))
        self._report(Verdict(True, True, 0.0, ""))

    def _standardise(self, model: Standardised, start: Arrays) -> Arrays:
        self._round = Round(0)
        replies = self._grid.send_and_receive(
            self._messages(STATISTICS, start, {}), timeout=self._plan.deadline_s
        )
        said: dict[str, Arrays] = {}
        for reply in replies:
            with contextlib.suppress(Absent):
                said[self._name(reply.metadata.src_node_id)] = arrays_of(reply, None)
        said = alike(said)
        if len(said) < self._plan.min_domains:
            raise Unreachable(
                f"model {self._task.model!r}: {len(said)} domains said what its scaler is made of,"
                f" {self._plan.min_domains} must"
            )
        made = model.standardised(
            start,
            [_mean([said[one] for one in domains]) for domains in voices(said, self._whose).values()],
        )
        contribution.check(made, start)
        return made

    def _explain(self) -> None:
        """What each domain gained, by a model that it trains alone, and what it brought to the others."""
        losses = {domain: said["loss"] for domain, said in self._said.items()}
        self._round = Round(self._task.rounds + 1)
        # Alone, a domain trains as long as in all rounds: twice that is time enough for the slowest.
        deadline = self._plan.deadline_s + 2 * sum(report.took_s for report in self._reports)
        asked = self._messages(ALONE, self._start, {})
        alone = self._heard(self._grid.send_and_receive(asked, timeout=deadline))
        self._gains = gains(losses, {domain: said["loss"] for domain, said in alone.items()})
        if self._without is not None:
            self._without_best = self._without.models()
        without: dict[str, dict[str, float]] = {}
        for domain, arrays in self._without_best.items():
            if self._stop.is_set():
                return
            asked = self._messages("evaluate", arrays, {})
            heard = self._heard(self._grid.send_and_receive(asked, timeout=self._plan.deadline_s))
            without[domain] = {other: said["loss"] for other, said in heard.items()}
        self._brought = brought(losses, without)

    def _await_domains(self) -> None:
        """Wait until enough domains are there, for a round's time at most. Raises Unreachable."""
        least = self._plan.min_domains
        there = await_domains(self._grid, least, within_s=self._plan.deadline_s, stop=self._stop)
        if there < least:
            raise Unreachable(f"{there} domains are there, {least} must be")

    def _messages(self, kind: str, arrays: Arrays, settings: Mapping[str, Any]) -> list[Message]:
        config = ConfigRecord({"task": self._json, "server-round": self._round.number, **settings})
        record = RecordDict({"arrays": record_of(arrays), "config": config})
        group = str(self._round.number)
        return [self._grid.create_message(record, kind, node, group) for node in self._grid.get_node_ids()]

    def _heard(self, replies: Iterable[Message]) -> dict[str, dict[str, float]]:
        """By domain, what those that judged said; who said no loss did not judge."""
        heard = {}
        for reply in replies:
            with contextlib.suppress(Absent):
                heard[self._name(reply.metadata.src_node_id)] = judged(reply)
        return heard

    def _report(self, verdict: Verdict) -> None:
        report = self._round.report(verdict, traffic_of(self._grid))
        self._reports.append(report)
        if self._on_round is not None:
            self._on_round(report)


def _mean(said: Sequence[Arrays]) -> Arrays:
    if len(said) == 1:
        return said[0]
    return {name: np.asarray(np.mean([one[name] for one in said], axis=0, dtype=float)) for name in said[0]}
