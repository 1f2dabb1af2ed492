"""One round's sum over domains: the server learns it, and nothing of one of them.

Owns the stages of secure aggregation as the server drives them (Flower's SecAggPlusWorkflow), what of a reply
is looked at before Flower sees it, whose domains a sum must be over, and the words in which a round is
refused. Owns no transport, and not what becomes of a sum.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import Conflict, ContractError
from domain_twin.learning import contribution
from domain_twin.learning.contribution import WORDS, Absence
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
from domain_twin.learning.learner import Arrays
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
    exposed,
    parameters_to_ndarrays,
    quantization,
    threshold,
)
from domain_twin.learning.task import Task

__all__ = ["RoundRefused", "Summed", "sum_round"]

_STAGES: Final = {
    Stage.SETUP: "keys",
    Stage.SHARE_KEYS: "shares",
    Stage.COLLECT_MASKED_VECTORS: "masked updates",
    Stage.UNMASK: "unmasking",
}
_HEADER_BYTES: Final = 4096

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

    def __init__(self, domains: int, *, timeout_s: float, whose: Callable[[int], str]) -> None:
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
        self._whose = whose

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
                if why := exposed(map(self._whose, self.contributors), state.threshold):
                    raise RoundRefused(f"of those whose masked updates came, {why}")
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
                " that do not fit; nothing of the round is used"
            ) from error


def sum_round(
    task: Task,
    grid: Grid,
    base: Arrays,
    *,
    number: int,
    timeout_s: float,
    judge_only: bool = False,
    whose: Callable[[int], str] = str,
    longest: float = UPDATE_NORM,
) -> Summed:
    """One round over all of `grid`'s nodes; `whose` is the operator of a node's domain.

    `longest` is the norm that a part has at most, beside `RANGE` for each of its numbers.
    Raises RoundRefused, in words, where it comes to no sum, or to one that would tell an operator's part.
    """
    nodes = sorted(grid.get_node_ids())
    if len(nodes) < LEAST_DOMAINS:
        raise RoundRefused(
            f"{len(nodes)} domains can be asked; `private` needs {LEAST_DOMAINS}, since of a sum over two"
            " each learns the other's part"
        )
    if why := exposed(map(whose, nodes), threshold(len(nodes))):
        raise RoundRefused(why)
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
    workflow = _Workflow(len(nodes), timeout_s=timeout_s, whose=whose)
    try:
        workflow(telling, held)
        if strategy.sum is None:
            raise RoundRefused("no sum came of it")
        changes, measures = _plausible(strategy.sum, base, names, longest)
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
    vectors: Sequence[NDArray[Any]], base: Arrays, names: Sequence[str], longest: float
) -> tuple[Arrays, Mapping[str, float]]:
    """The sum by names. Raises RoundRefused where a mean lies outside of what each part is cut to."""
    slack = 1e-3
    *parts, judged = vectors
    for vector in vectors:
        if not (np.isfinite(vector).all() and np.abs(vector).max(initial=0.0) <= RANGE + slack):
            raise RoundRefused(
                "the masks did not come off: a domain revealed shares that do not fit, or sent a vector that"
                " it did not mask as agreed; nothing of the round is used"
            )
    changes = {name: np.asarray(part, np.float64) for name, part in zip(names, parts, strict=True)}
    if contribution.norm(changes) > longest * (1 + slack):
        raise RoundRefused(
            f"the mean update is longer than {longest:g}, which no domain's may be: one did not clip its own"
        )
    loss, naive, worse = (float(value) / RANGE for value in judged)
    return changes, {"loss": loss * LOSS_LIMIT, "naive": naive * LOSS_LIMIT, "worse": worse}
