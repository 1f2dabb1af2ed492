"""A domain's ClientApp under `private`: it trains with noise, and what leaves it is masked.

Owns what of a round is summed, and in which order: the clipped update of every array, then `MEASURES`.
Nothing else leaves but the epsilon that the domain has spent. A domain judges the model that it is given on
its own holdout before it trains on from it; that judgement goes into the sum too. Plain messages of training,
judging or statistics are refused: under `private` there is no other way to ask.

A generator trains nothing: what it tells are noised statistics (`gan_noised`), with the same weight for every
domain and no judgement, since counts and losses bear no noise.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from domain_twin.errors import ConfigError, ContractError, NotFound, NotShared
from domain_twin.learning import contribution
from domain_twin.learning.client import ALONE, STATISTICS, Source, refusal
from domain_twin.learning.contribution import Absence, Replays
from domain_twin.learning.dpsgd import plan_of, private, train_private
from domain_twin.learning.flower import ClientApp, ConfigRecord, Context, Message, arrays_in
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.ledger import BudgetSpent, Ledger
from domain_twin.learning.models.gan_noised import PLAN, NoisedGenerator
from domain_twin.learning.panel import Panel
from domain_twin.learning.secagg import (
    MAX_WEIGHT,
    RANGE,
    Code,
    FitRes,
    Guard,
    Stage,
    Status,
    fitres_to_recorddict,
    ndarrays_to_parameters,
    secaggplus_mod,
    stage_of,
)
from domain_twin.learning.task import Privacy, Profile, Task
from domain_twin.learning.vouching import Vouching

__all__ = ["CONFIG", "LOSS_LIMIT", "MEASURES", "UPDATE_NORM", "private_app"]

CONFIG: Final = "config"
"""The record with the task and the round, in every message."""
MEASURES: Final = ("loss", "naive", "worse")
"""Of the model that a round begins with: its loss, the best naive rival's, whether it is worse (0, 1)."""
LOSS_LIMIT: Final = 64.0
"""Losses above it count as it."""
UPDATE_NORM: Final = 1.0
"""Euclidean norm that an update has at most when it is summed."""
_TOLERANCE: Final = 0.02
_KEPT: Final = 4
_RECORD: Final = "fedtwin"

log = logging.getLogger(__name__)

Call = Callable[[Message, Context], Message]


def private_app(
    source: Source,
    *,
    domain: str,
    ledger: Ledger,
    task: Task | None = None,
    vouching: Vouching | None = None,
) -> ClientApp:
    """The ClientApp of `domain` under `private`; `ledger` is asked before every training.

    With `task` (what the domain agreed to), messages of other tasks are refused. With `vouching`, only rounds
    whose members are known and have signed their keys: without it, a broker that lies can unmask.
    """
    side = _Domain(source, domain, ledger, task)
    app = ClientApp()

    @app.train(mods=[side.guarded, Guard(vouching), secaggplus_mod])
    def train(message: Message, held: Context) -> Message:
        return side.train(message, held)

    @app.evaluate()
    def evaluate(message: Message, _: Context) -> Message:
        return refusal(message, Absence.NOT_SHARED)

    for kind in (STATISTICS, ALONE):

        @app.query(kind.partition(".")[2])
        def query(message: Message, _: Context) -> Message:
            return refusal(message, Absence.NOT_SHARED)

    return app


@dataclass(frozen=True, slots=True)
class _Asked:
    task: Task
    round: int
    judge_only: bool


class _Domain:
    def __init__(self, source: Source, domain: str, ledger: Ledger, task: Task | None) -> None:
        self._source = source
        self._domain = domain
        self._ledger = ledger
        self._task = task
        self._replays = Replays()
        self._panels: OrderedDict[tuple[int, bytes], Panel] = OrderedDict()

    def guarded(self, message: Message, held: Context, call: Call) -> Message:
        """The reply, or a refusal that carries one word and nothing of the error."""
        try:
            asked = self._admitted(message)
            if stage_of(message) == Stage.SETUP and not asked.judge_only:
                self._affordable(message, asked)
            return _blank(call(message, held))
        except BudgetSpent as error:
            return self._withheld(message, Absence.SPENT, error)
        except NotShared as error:
            return self._withheld(message, Absence.NOT_SHARED, error)
        except NotFound as error:
            return self._withheld(message, Absence.NO_DATA, error)
        except _TooLittle as error:
            return self._withheld(message, Absence.TOO_LITTLE, error)
        except _Replayed as error:
            return self._withheld(message, Absence.REPLAYED, error)
        except (ContractError, ConfigError) as error:
            return self._withheld(message, Absence.MALFORMED, error)
        except Exception as error:  # a domain's failure is data to the others, and its text stays here
            return self._withheld(message, Absence.FAILED, error)

    def _withheld(self, message: Message, absence: Absence, error: BaseException) -> Message:
        log.warning(
            "no contribution to a private round of learning",
            extra={"domain": self._domain, "why": absence.value, "problem": repr(error)},
        )
        return refusal(message, absence)

    def _admitted(self, message: Message) -> _Asked:
        record = message.content.config_records.get(CONFIG, ConfigRecord())
        text, round_ = record.get("task"), record.get("server-round")
        if not isinstance(text, str) or type(round_) is not int or round_ < 0:
            raise ContractError("a message of a private round says neither task nor round")
        task = Task.from_json(text.encode())
        if task.profile is not Profile.PRIVATE or (self._task is not None and task != self._task):
            raise ContractError("the task is not the one that was agreed to, or not under `private`")
        try:
            self._replays.admit(message.metadata.run_id, round_, message.metadata.message_id)
        except ContractError as error:
            raise _Replayed(str(error)) from None
        asked = _Asked(task, round_, record.get("judge") is True)
        if task.tells_noised and asked.judge_only:
            raise NotShared("a judgement was asked for, and a generator's bears no noise")
        return asked

    def _affordable(self, message: Message, asked: _Asked) -> None:
        """Refuse at the first stage what could not be trained at the third."""
        if asked.task.tells_noised:
            _noised(asked.task, self._panel(message, asked.task))
            self._ledger.check(asked.task.model, asked.task.privacy or Privacy(), PLAN)
            return
        model = private(asked.task, learner(asked.task))
        plan = plan_of(asked.task, _records(model.records, self._panel(message, asked.task)))
        self._ledger.check(asked.task.model, asked.task.privacy or Privacy(), plan)

    def _panel(self, message: Message, task: Task) -> Panel:
        key = (message.metadata.run_id, task.to_json())
        if key not in self._panels:
            self._panels[key] = self._source(task)
            if len(self._panels) > _KEPT:
                self._panels.popitem(last=False)
        return self._panels[key]

    def train(self, message: Message, held: Context) -> Message:
        """The domain's part of the sum, before it is masked."""
        asked = self._admitted_already(message)
        task = asked.task
        if _RECORD not in held.state.config_records:
            held.state.config_records[_RECORD] = ConfigRecord()
        memory = held.state.config_records[_RECORD]
        if memory.get("round", -1) >= asked.round:  # type: ignore[operator]
            raise _Replayed(f"round {asked.round} was trained before")
        if task.tells_noised:
            return self._told(message, asked, memory)
        model = private(task, learner(task))
        base = _base(message, model.initial(np.random.default_rng(task.seed)))
        panel = self._panel(message, task)
        judged = self._judge(model.evaluate(base, panel), memory)
        if asked.judge_only:
            changes: Arrays = {name: np.zeros_like(array) for name, array in base.items()}
            samples, epsilon = len(next(iter(_records(model.records, panel).values()))), self._spent(task)
        else:
            memory["round"] = asked.round
            trained, epsilon = train_private(
                task,
                model,
                base,
                panel,
                self._ledger,
                run=str(message.metadata.run_id),
                round_number=asked.round,
            )
            contribution.check(trained.arrays, base)
            changes = contribution.clipped(contribution.update(trained.arrays, base), UPDATE_NORM)
            samples = trained.samples
        parts = [np.asarray(changes[name], dtype=np.float64) for name in sorted(base)]
        result = FitRes(
            Status(Code.OK, ""),
            ndarrays_to_parameters([*parts, judged * RANGE]),
            samples,
            {"epsilon": epsilon},
        )
        return Message(fitres_to_recorddict(result, True), reply_to=message)

    def _told(self, message: Message, asked: _Asked, memory: ConfigRecord) -> Message:
        """Noised statistics as a part of the sum: entered in the ledger before they are made."""
        task, panel = asked.task, self._panel(message, asked.task)
        model = _noised(task, panel)
        memory["round"] = asked.round
        epsilon = self._ledger.spend(
            task.model,
            task.privacy or Privacy(),
            PLAN,
            run=str(message.metadata.run_id),
            round_number=asked.round,
        )
        told = _bounded(model.told(panel, np.random.default_rng()), model.nothing())
        vectors = [told[name] * RANGE for name in sorted(told)]
        result = FitRes(
            Status(Code.OK, ""),
            ndarrays_to_parameters([*vectors, np.zeros(len(MEASURES))]),
            int(MAX_WEIGHT),
            {"epsilon": epsilon},
        )
        return Message(fitres_to_recorddict(result, True), reply_to=message)

    def _admitted_already(self, message: Message) -> _Asked:
        record = message.content.config_records[CONFIG]
        return _Asked(
            Task.from_json(str(record["task"]).encode()),
            int(record["server-round"]),  # type: ignore[arg-type]
            record.get("judge") is True,
        )

    def _spent(self, task: Task) -> float:
        return self._ledger.spent(task.model, delta=(task.privacy or Privacy()).delta)

    def _judge(self, scores: dict[str, float], memory: ConfigRecord) -> np.ndarray[Any, Any]:
        """MEASURES, each in 0 to 1."""
        loss = scores["loss"]
        own = scores.get("raw", loss)  # what a domain's adaptation cannot make up for
        best = memory.get("best", math.inf)
        worse = not own <= float(best) * (1 + _TOLERANCE)  # type: ignore[arg-type]
        if not worse:
            memory["best"] = min(own, float(best))  # type: ignore[arg-type]
        naive = min(
            (value for name, value in scores.items() if name.startswith("naive:")), default=LOSS_LIMIT
        )
        limited = [min(value / LOSS_LIMIT, 1.0) if value >= 0 else 1.0 for value in (loss, naive)]
        return np.array([*limited, float(worse)])


class _TooLittle(Exception):
    pass


class _Replayed(Exception):
    pass


def _records(make: Callable[[Panel], Any], panel: Panel) -> Any:
    try:
        return make(panel)
    except ContractError as error:
        raise _TooLittle(str(error)) from error


def _noised(task: Task, panel: Panel) -> NoisedGenerator:
    model = cast(NoisedGenerator, learner(task))
    try:
        model.enough(panel)
    except ContractError as error:
        raise _TooLittle(str(error)) from error
    return model


def _bounded(told: Arrays, like: Arrays) -> Arrays:
    """`told` as it may leave. Raises ContractError: of another form, not finite, not within -1 and 1."""
    contribution.check(told, like)
    for name, array in told.items():
        if np.abs(array).max(initial=0.0) > 1:
            raise ContractError(f"array {name!r}: a statistic beyond -1 and 1")
    return told


def _base(message: Message, like: Arrays) -> Arrays:
    """The model of `message`: its arrays in the order of their names, of the forms of `like`."""
    (record,) = message.content.array_records.values()
    arrays = [array for _, array in sorted(arrays_in(record).items(), key=lambda item: int(item[0]))]
    if len(arrays) != len(like):
        raise ContractError(f"{len(arrays)} arrays, this model has {len(like)}")
    base = dict(zip(sorted(like), arrays, strict=True))
    contribution.check(base, like)
    return {name: base[name] for name in like}


def _blank(reply: Message) -> Message:
    """Of a reply, masked vectors, keys, shares and epsilon only: Flower leaves counts and measures in it."""
    if reply.has_error():
        return reply
    content = reply.content
    for record in content.metric_records.values():
        for name in record:
            record[name] = 1
    return reply
