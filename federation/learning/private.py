"""Rounds under `private`: the server learns sums over domains and nothing of one of them.

Owns the stages of secure aggregation as the server drives them (Flower's SecAggPlusWorkflow), the words in
which a round is refused, and what becomes of a model that domains call worse on their own holdouts: it is
dropped, and training goes on from the last good one. Owns no transport: any Grid carries the messages.
"""

from __future__ import annotations

import io
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import Conflict, ContractError
from domain_twin.learning import contribution
from domain_twin.learning.contribution import WORDS, Absence
from domain_twin.learning.dpsgd import private
from domain_twin.learning.flower import (
    ConfigRecord,
    Error,
    Grid,
    Message,
    RecordDict,
    Run,
    context,
    record_of,
)
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.private import CONFIG, LOSS_LIMIT, MEASURES, UPDATE_NORM
from domain_twin.learning.secagg import (
    LEAST_DOMAINS,
    MAIN_CONFIGS_RECORD,
    MAIN_PARAMS_RECORD,
    MAX_WEIGHT,
    MODULUS,
    RANGE,
    RECORD_KEY_CONFIGS,
    VOUCHED,
    FitIns,
    FitRes,
    GridClientProxy,
    Key,
    LegacyContext,
    LegacyStrategy,
    SecAggPlusWorkflow,
    ServerConfig,
    SimpleClientManager,
    Stage,
    WorkflowKey,
    WorkflowState,
    parameters_to_ndarrays,
    quantization,
    threshold,
)
from domain_twin.learning.task import Privacy, Task
from federation.learning.reports import DomainRound, Outcome, RoundReport
from federation.learning.rounds import OnRound, Plan

__all__ = ["RoundRefused", "Summed", "sum_round", "train_private"]

_STAGES: Final = {
    Stage.SETUP: "keys",
    Stage.SHARE_KEYS: "shares",
    Stage.COLLECT_MASKED_VECTORS: "masked updates",
    Stage.UNMASK: "unmasking",
}
_HEADER_BYTES: Final = 4096
_POLL_S: Final = 0.1
_AGAIN: Final = -1  # the round of a model that was judged before

log = logging.getLogger(__name__)


class RoundRefused(Conflict):
    """A round came to no sum; the model stays as it was. `spent`: for want of privacy budget."""

    spent = False


@dataclass(frozen=True, slots=True)
class Summed:
    """What a round's sum says: means over its domains, weighted by their records."""

    changes: Arrays
    measures: Mapping[str, float]
    contributors: tuple[int, ...]
    """Nodes that are in the sum."""
    epsilon: Mapping[int, float]
    """What each of them says that it has spent on this model."""
    absent: Mapping[int, tuple[str, Absence]]
    """At which stage a node left, and why."""


class _Recorder(LegacyStrategy):
    """Asks every node, and keeps the sum: what to do with it is not a strategy's business here."""

    def __init__(self, proxies: Sequence[GridClientProxy]) -> None:
        self._proxies = proxies
        self.sum: list[NDArray[Any]] | None = None
        self.epsilon: dict[int, float] = {}

    def initialize_parameters(self, client_manager: Any) -> None:
        return None

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        return [(proxy, FitIns(parameters, {})) for proxy in self._proxies]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        for proxy, result in cast("list[tuple[GridClientProxy, FitRes]]", results):
            self.sum = parameters_to_ndarrays(result.parameters)
            said = result.metrics.get("epsilon")
            self.epsilon[proxy.node_id] = float(said) if isinstance(said, int | float) else math.inf
        return None, {}

    def configure_evaluate(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        return []

    def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
        return None, {}

    def evaluate(self, server_round: int, parameters: Any) -> None:
        return None


class _TellingGrid(Grid):
    """Adds task and round to every message; a reply that is not what its stage asks for becomes an error."""

    def __init__(self, inner: Grid, config: ConfigRecord, shapes: Sequence[tuple[int, ...]]) -> None:
        self._inner = inner
        self._config = config
        self._shapes = [(), *shapes]  # Flower puts the weight before the vectors
        self.absent: dict[int, tuple[str, Absence]] = {}
        self._vouched: dict[str, bytes] = {}

    def set_run(self, run: Run) -> None:
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        return self._inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._inner.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        asked = [self._told(message) for message in messages]
        stage = str(asked[0].content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]) if asked else ""
        replies = [
            self._checked(reply, stage) for reply in self._inner.send_and_receive(asked, timeout=timeout)
        ]
        answered = {reply.metadata.src_node_id for reply in replies}
        for message in asked:  # Flower's own grid leaves out who did not answer in time
            if message.metadata.dst_node_id not in answered:
                self.absent.setdefault(message.metadata.dst_node_id, (stage, Absence.LATE))
        return replies

    def _told(self, message: Message) -> Message:
        content = RecordDict({CONFIG: self._config})
        for name, record in message.content.items():
            content[name] = record
        if self._vouched and content.config_records[RECORD_KEY_CONFIGS].get(Key.STAGE) == Stage.SHARE_KEYS:
            content[VOUCHED] = ConfigRecord(dict(self._vouched))
        of = message.metadata
        return Message(content, of.dst_node_id, of.message_type, ttl=of.ttl, group_id=of.group_id)

    def _checked(self, reply: Message, stage: str) -> Message:
        node = reply.metadata.src_node_id
        if not reply.has_error():
            try:
                self._check(reply.content.config_records[RECORD_KEY_CONFIGS], stage)
                stated = reply.content.config_records.get(VOUCHED, ConfigRecord()).get("statement")
                if stage == Stage.SETUP and isinstance(stated, bytes):
                    self._vouched[str(node)] = stated
            except Exception as error:  # whatever a stranger's header makes numpy raise
                reply = Message(Error(0, Absence.MALFORMED.value), reply_to=reply)
                reply.metadata.__dict__["_src_node_id"] = node
                log.warning("a domain's reply is malformed", extra={"stage": stage, "problem": repr(error)})
        if reply.has_error():
            self.absent.setdefault(node, (stage, _word(reply.error.reason)))
        return reply

    def _check(self, said: ConfigRecord, stage: str) -> None:
        """Raises ContractError. Flower takes any array: a header of few bytes can ask for gigabytes."""
        if stage != Stage.COLLECT_MASKED_VECTORS:
            return
        vectors = said[Key.MASKED_PARAMETERS]
        if not isinstance(vectors, list) or len(vectors) != len(self._shapes):
            raise ContractError(f"{len(self._shapes)} masked vectors are asked for")
        for data, shape in zip(vectors, self._shapes, strict=True):
            count = math.prod(shape)
            if not isinstance(data, bytes) or not 8 * count <= len(data) <= 8 * count + _HEADER_BYTES:
                raise ContractError(f"a masked vector of {count} numbers in {len(data)} bytes")  # type: ignore[arg-type]
            _check_header(data, shape)


def _word(reason: str | None) -> Absence:
    try:
        return Absence(reason or "")
    except ValueError:  # a word that only another version knows, or somebody's own text
        return Absence.FAILED


def _check_header(data: bytes, shape: tuple[int, ...]) -> None:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ContractError("a masked vector of another format")
    stated, _, dtype = np.lib.format.read_array_header_1_0(stream)
    # The weight comes as an array of one number.
    if (stated not in (shape, (1,)) if shape == () else stated != shape) or dtype != np.int64:
        raise ContractError(f"a masked vector of shape {stated} and dtype {dtype}, not {shape} and int64")


class _Workflow(SecAggPlusWorkflow):
    """Flower's stages, each with its threshold, without domains that left before they had shared keys."""

    def __init__(self, domains: int, *, timeout_s: float) -> None:
        super().__init__(
            num_shares=1.0,  # a share for every domain
            reconstruction_threshold=threshold(domains),
            max_weight=MAX_WEIGHT,
            clipping_range=RANGE,
            quantization_range=quantization(domains),
            modulus_range=MODULUS,
            timeout=timeout_s,
        )
        self.contributors: tuple[int, ...] = ()

    def __call__(self, grid: Grid, context: Any) -> None:
        """Run one round's stages. Raises RoundRefused."""
        state = WorkflowState()
        stages = (
            (Stage.SETUP, self.setup_stage),
            (Stage.SHARE_KEYS, self.share_keys_stage),
            (Stage.COLLECT_MASKED_VECTORS, self.collect_masked_vectors_stage),
            (Stage.UNMASK, self.unmask_stage),
        )
        for name, stage in stages:
            if name == Stage.UNMASK:
                self.contributors = tuple(sorted(state.active_node_ids))
            if not self._run(name, stage, grid, context, state):
                raise RoundRefused(
                    f"{len(state.active_node_ids)} of {len(state.nid_to_proxies)} domains answered at"
                    f" {_STAGES[name]}, {state.threshold} must: fewer could be told apart"
                )
            if name in (Stage.SETUP, Stage.SHARE_KEYS):
                # Flower asks for shares of these too, which nobody holds, and every round would end there.
                state.sampled_node_ids = set(state.active_node_ids)
                state.nid_to_neighbours = {
                    node: neighbours & state.active_node_ids
                    for node, neighbours in state.nid_to_neighbours.items()
                }

    def _run(
        self, name: str, stage: Callable[..., bool], grid: Grid, context: Any, state: WorkflowState
    ) -> bool:
        try:
            return stage(grid, context, state)
        except Exception as error:  # whatever a stranger's keys and shares make Flower's arithmetic raise
            raise RoundRefused(
                f"{_STAGES[name]} did not come out ({type(error).__name__}): a domain sent keys or shares"
                " that do"
                " not fit; nothing of the round is used"
            ) from error


def sum_round(
    task: Task, grid: Grid, base: Arrays, *, number: int, timeout_s: float, judge_only: bool = False
) -> Summed:
    """One round over all of `grid`'s nodes. Raises RoundRefused, in words, where it comes to no sum."""
    nodes = sorted(grid.get_node_ids())
    if len(nodes) < LEAST_DOMAINS:
        raise RoundRefused(
            f"{len(nodes)} domains can be asked; `private` needs {LEAST_DOMAINS}, since of a sum over two"
            " each"
            " learns the other's part"
        )
    names = sorted(base)
    shapes = [base[name].shape for name in names]
    config = ConfigRecord({"task": task.to_json().decode(), "server-round": number, "judge": judge_only})
    telling = _TellingGrid(grid, config, [*shapes, (len(MEASURES),)])
    run_id = grid.run.run_id
    proxies = [GridClientProxy(node, telling, run_id) for node in nodes]
    strategy = _Recorder(proxies)
    held = LegacyContext(context(0, run_id), ServerConfig(num_rounds=1), strategy, SimpleClientManager())
    held.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: number})
    held.state.array_records[MAIN_PARAMS_RECORD] = record_of(
        {str(index): base[name] for index, name in enumerate(names)}
    )
    workflow = _Workflow(len(nodes), timeout_s=timeout_s)
    try:
        workflow(telling, held)
        if strategy.sum is None:
            raise RoundRefused("no sum came of it")
        changes, measures = _plausible(strategy.sum, base, names)
    except RoundRefused as error:
        said = "; ".join(
            sorted(
                {f"at {_STAGES.get(stage, stage)}: {WORDS[why]}" for stage, why in telling.absent.values()}
            )
        )
        refused = RoundRefused(f"{error}{f' ({said})' if said else ''}")
        refused.spent = any(why is Absence.SPENT for _, why in telling.absent.values())
        raise refused from error
    return Summed(changes, measures, workflow.contributors, strategy.epsilon, telling.absent)


def _plausible(
    vectors: Sequence[NDArray[Any]], base: Arrays, names: Sequence[str]
) -> tuple[Arrays, Mapping[str, float]]:
    """The sum by names. Raises RoundRefused where a mean lies outside of what each part is cut to."""
    slack = 1e-3
    *parts, judged = vectors
    for vector in vectors:
        if not (np.isfinite(vector).all() and np.abs(vector).max(initial=0.0) <= RANGE + slack):
            raise RoundRefused(
                "the masks did not come off: a domain revealed shares that do not fit, or sent a vector that"
                " it"
                " did not mask as agreed; nothing of the round is used"
            )
    changes = {name: np.asarray(part, np.float64) for name, part in zip(names, parts, strict=True)}
    if contribution.norm(changes) > UPDATE_NORM * (1 + slack):
        raise RoundRefused(
            f"the mean update is longer than {UPDATE_NORM:g}, which no domain's may be: one did not clip its"
            " own"
        )
    loss, naive, worse = (float(value) / RANGE for value in judged)
    return changes, {"loss": loss * LOSS_LIMIT, "naive": naive * LOSS_LIMIT, "worse": worse}


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
        self._await_domains()
        self._check_operators()
        started_at, began_s, traffic = time.time_ns(), time.monotonic(), _traffic(self._grid)
        summed = sum_round(
            self._task, self._grid, base.arrays, number=number, timeout_s=self._plan.deadline_s
        )
        for node, epsilon in summed.epsilon.items():
            self._epsilon[self._name(node)] = epsilon
        if not self._judged(base, summed):
            self._void(number, f"it began with what round {base.round} made, which was dropped")
            return False, None
        out, in_ = _traffic(self._grid)
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

    def _check_operators(self) -> None:
        """Raises RoundRefused where an operator could take its own parts off the sum, and have another's."""
        whose = self._plan.operators
        there = {whose.get(name, name) for name in map(self._name, self._grid.get_node_ids())}
        if len(there) == 2:
            raise RoundRefused(
                f"the domains are two operators': {', '.join(sorted(there))}; `private` needs"
                f" {LEAST_DOMAINS}, since of a sum over two each learns the other's part"
            )

    def _await_domains(self) -> None:
        """Wait until enough domains are there, for a round's time at most: some may be on their way back."""
        deadline = time.monotonic() + self._plan.deadline_s
        while len(list(self._grid.get_node_ids())) < LEAST_DOMAINS and time.monotonic() < deadline:
            if self._stop.wait(_POLL_S):
                return

    def _last(self, number: int, made: _Made) -> None:
        try:
            self._check_operators()
            summed = sum_round(
                self._task,
                self._grid,
                made.arrays,
                number=number,
                timeout_s=self._plan.deadline_s,
                judge_only=True,
            )
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


def _traffic(grid: Grid) -> tuple[int, int]:
    out, in_ = getattr(grid, "traffic", (0, 0))
    return int(out), int(in_)
