"""A domain's Flower ClientApp: it trains and judges where the data is, by code that the domain installed.

Owns what is answered to which message, and that nothing leaves unchecked: arrays go through
`contribution.check`, measures are numbers only, and of an error only one of a few words leaves. Owns neither
the data (a callable of the domain makes the Panel) nor the model (`learner`).
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from domain_twin.errors import ContractError, NotFound, NotShared
from domain_twin.learning import contribution
from domain_twin.learning.contribution import WORDS, Absence, Replays
from domain_twin.learning.flower import (
    MAX_MESSAGE_BYTES,
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    context,
    decode,
    encode,
    record_of,
    run_number,
)
from domain_twin.learning.learner import Arrays, Learner, learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Profile, Task

__all__ = [
    "ALONE", "STATISTICS", "SUMS", "Endpoint", "Source", "Standardised", "Summed", "client_app", "generator",
]  # fmt: skip

Source = Callable[[Task], Panel]
"""Makes the panel of a task from the domain's history. NotFound: no data; NotShared: policy forbids it."""

STATISTICS: Final = "query.statistics"
"""Asks for what scalers are made of."""
SUMS: Final = "query.sums"
"""Asks for the sums that a model is fitted from in one round (`Summed`)."""
ALONE: Final = "query.alone"
"""Asks how good a model becomes that the domain trains from the same beginning, as long, on its own data."""

_KEPT: Final = 4  # runs whose panel and context are kept
_CODES: Final = {absence: 100 + index for index, absence in enumerate(Absence)}

log = logging.getLogger(__name__)


@runtime_checkable
class Standardised(Protocol):
    """A Learner whose arrays hold a scaler, which statistics of all domains make before the first round.

    Statistics are few numbers over many samples (counts, means, variances, quantiles), never single samples:
    a minimum is one.
    """

    def statistics(self, panel: Panel) -> Arrays:
        """What this domain says of its training part. Raises ContractError where samples are too few."""

    def standardised(self, arrays: Arrays, statistics: Sequence[Arrays]) -> Arrays:
        """`arrays` with the scaler of all domains' `statistics`, in whatever order; one of them may lie."""


@runtime_checkable
class Summed(Protocol):
    """A Learner that is fitted in one round, from sums over every domain's rows instead of updates.

    Sums add up: the fit of all is that of all rows in one place. They are over so many rows that none of them
    can be told from them, and hold no extreme.
    """

    def sums(self, panel: Panel) -> Arrays:
        """What leaves a domain of its training part. Raises ContractError where rows are too few."""

    def check_sums(self, told: Arrays) -> int:
        """How many rows sums are over. Raises ContractError for what no rows can add up to."""

    def summed(self, told: Sequence[Arrays], *, robust: bool) -> tuple[Arrays, tuple[int, ...]]:
        """The model of checked sums, and which are in it. `robust`: some of them may be lies."""


def generator(task: Task, round_: int, domain: str) -> np.random.Generator:
    """The randomness of one domain's round: the same wherever the round runs."""
    return np.random.default_rng([task.seed, round_, zlib.crc32(domain.encode())])


class _Held(Exception):
    """Not an error of the program: it carries the word that leaves."""

    def __init__(self, absence: Absence) -> None:
        super().__init__(WORDS[absence])
        self.absence = absence


class Endpoint:
    """One domain's ClientApp behind bytes: decodes a message, answers it, and encodes the reply."""

    def __init__(self, app: ClientApp, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._app = app
        self._limit = limit_bytes
        self._contexts: OrderedDict[tuple[int, int], Context] = OrderedDict()

    def answer(self, data: bytes) -> bytes:
        """The reply to the message that `data` is. Raises ContractError where `data` is none; blocks."""
        message = decode(data, limit_bytes=self._limit)
        key = (message.metadata.run_id, message.metadata.dst_node_id)
        held = self._contexts.setdefault(key, context(key[1], key[0]))
        self._contexts.move_to_end(key)
        if len(self._contexts) > _KEPT:
            self._contexts.popitem(last=False)
        try:
            reply = self._app(message, held)
        except Exception as error:  # of Flower itself: no such handler, ...
            log.warning("a message could not be answered", extra={"problem": type(error).__name__})
            reply = refusal(message, Absence.MALFORMED)
        return encode(reply)


def refusal(message: Message, absence: Absence) -> Message:
    """The reply of a domain that does not contribute."""
    return Message(Error(_CODES[absence], absence.value), reply_to=message)


def client_app(
    source: Source,
    *,
    domain: str,
    task: Task | None = None,
    run: str = "",
    norm_limit: float | None = None,
) -> ClientApp:
    """The ClientApp of `domain`, fed by `source`.

    With `task` and `run` (what the domain agreed to), messages of others are refused. `norm_limit`: no update
    longer than this leaves, whatever the server allows.
    """
    domain_side = _Domain(source, domain, task, run_number(run) if run else 0, norm_limit)

    def held_back(message: Message, held: Context, call: Callable[[Message, Context], Message]) -> Message:
        return domain_side.guarded(message, held, call)

    app = ClientApp(mods=[])

    @app.train(mods=[held_back])
    def train(message: Message, _: Context) -> Message:
        return domain_side.train(message)

    @app.evaluate(mods=[held_back])
    def evaluate(message: Message, _: Context) -> Message:
        return domain_side.evaluate(message)

    @app.query(STATISTICS.partition(".")[2], mods=[held_back])
    def statistics(message: Message, _: Context) -> Message:
        return domain_side.statistics(message)

    @app.query(SUMS.partition(".")[2], mods=[held_back])
    def sums(message: Message, _: Context) -> Message:
        return domain_side.sums(message)

    @app.query(ALONE.partition(".")[2], mods=[held_back])
    def alone(message: Message, _: Context) -> Message:
        return domain_side.alone(message)

    return app


class _Domain:
    """What the handlers of one ClientApp share."""

    def __init__(
        self, source: Source, domain: str, task: Task | None, run: int, norm_limit: float | None
    ) -> None:
        self._source = source
        self._domain = domain
        self._task = task
        self._run = run
        self._norm_limit = norm_limit
        self._replays = Replays()
        self._panels: OrderedDict[tuple[int, bytes], Panel] = OrderedDict()
        self._forms: OrderedDict[bytes, Arrays] = OrderedDict()

    def guarded(
        self, message: Message, held: Context, call: Callable[[Message, Context], Message]
    ) -> Message:
        """The handler's reply, or a refusal that carries one word and nothing of the error."""
        try:
            return call(message, held)
        except _Held as error:
            return self._withheld(message, error.absence, error.__cause__)
        except NotShared as error:
            return self._withheld(message, Absence.NOT_SHARED, error)
        except Exception as error:  # a domain's failure is data to the others, and its text stays here
            return self._withheld(message, Absence.FAILED, error)

    def _withheld(self, message: Message, absence: Absence, error: BaseException | None) -> Message:
        log.warning(
            "no contribution to a round of learning",
            extra={"domain": self._domain, "why": absence.value, "problem": repr(error) if error else ""},
        )
        return refusal(message, absence)

    def train(self, message: Message) -> Message:
        task, config = self._admitted(message)
        model = learner(task)
        base = self._base(model, task, message)
        panel = self._panel(task, message)
        try:
            trained = model.train(base, panel, generator(task, _round(config), self._domain))
        except ContractError as error:
            raise _Held(Absence.TOO_LITTLE) from error
        arrays = self._ready(trained.arrays, base, config)
        said = contribution.measures(trained.metrics)
        metrics = {"num-examples": int(trained.samples), "loss": said.get("loss", 0.0)}
        return _reply(message, metrics, record_of(arrays))

    def evaluate(self, message: Message) -> Message:
        task, _ = self._admitted(message)
        model = learner(task)
        base = self._base(model, task, message)
        panel = self._panel(task, message)
        return _reply(message, self._judged(model, base, panel))

    def alone(self, message: Message) -> Message:
        task, _ = self._admitted(message)
        model = learner(task)
        arrays = self._base(model, task, message)
        panel = self._panel(task, message)
        best: dict[str, Any] = {}
        for round_ in range(1, task.rounds + 1):
            try:
                trained = model.train(arrays, panel, generator(task, round_, self._domain))
            except ContractError as error:
                raise _Held(Absence.TOO_LITTLE) from error
            arrays = trained.arrays
            said = self._judged(model, arrays, panel)
            # Of what is trained together the best round is kept, too: a gain must not come of that.
            if not best or said["loss"] < best["loss"]:
                best = said
        return _reply(message, best)

    def statistics(self, message: Message) -> Message:
        task, _ = self._admitted(message)
        model = learner(task)
        if not isinstance(model, Standardised):
            raise _Held(Absence.MALFORMED)
        panel = self._panel(task, message)
        try:
            said = model.statistics(panel)
            contribution.check(said, said)
        except ContractError as error:
            raise _Held(Absence.TOO_LITTLE) from error
        return _reply(message, {"num-examples": _known(panel.training())}, record_of(said))

    def sums(self, message: Message) -> Message:
        task, _ = self._admitted(message)
        model = learner(task)
        if not isinstance(model, Summed):
            raise _Held(Absence.MALFORMED)
        panel = self._panel(task, message)
        try:
            told = model.sums(panel)
            rows = model.check_sums(told)
        except ContractError as error:
            raise _Held(Absence.TOO_LITTLE) from error
        return _reply(message, {"num-examples": rows}, record_of(told))

    def _admitted(self, message: Message) -> tuple[Task, ConfigRecord]:
        """The task of `message` and its settings, once: not of another task, and not a second time."""
        try:
            config = next(iter(message.content.config_records.values()))
            task = Task.from_json(_bytes(config["task"]))
            round_ = _round(config)
        except (KeyError, StopIteration, TypeError, ValueError, ContractError) as error:
            raise _Held(Absence.MALFORMED) from error
        if task.profile is Profile.PRIVATE:  # its only way in is `private_app`, which sends sums
            raise _Held(Absence.NOT_SHARED)
        if self._task is not None and task != self._task:
            raise _Held(Absence.MALFORMED) from ContractError("the task is not the one that was agreed to")
        if self._run and message.metadata.run_id != self._run:
            raise _Held(Absence.REPLAYED) from ContractError("the message is of another run")
        try:
            self._replays.admit(message.metadata.run_id, round_, message.metadata.message_id)
        except ContractError as error:
            raise _Held(Absence.REPLAYED) from error
        return task, config

    def _base(self, model: Learner, task: Task, message: Message) -> Arrays:
        try:
            (record,) = message.content.array_records.values()
            arrays = arrays_in(record)
            contribution.check(arrays, self._form(model, task))
        except (ValueError, ContractError) as error:
            raise _Held(Absence.MALFORMED) from error
        return arrays

    def _form(self, model: Learner, task: Task) -> Arrays:
        """Names, shapes and dtypes of the model's arrays; no values of them."""
        key = task.to_json()
        if key not in self._forms:
            made = model.initial(np.random.default_rng(task.seed))
            self._forms[key] = {
                name: np.broadcast_to(np.zeros((), array.dtype), array.shape) for name, array in made.items()
            }
            if len(self._forms) > _KEPT:
                self._forms.popitem(last=False)
        return self._forms[key]

    def _panel(self, task: Task, message: Message) -> Panel:
        """The panel of this run: the same in all its rounds, so that their losses can be compared."""
        key = (message.metadata.run_id, task.to_json())
        if key not in self._panels:
            try:
                panel = self._source(task)
            except NotFound as error:
                raise _Held(Absence.NO_DATA) from error
            if not _known(panel.training()):
                raise _Held(Absence.NO_DATA)
            self._panels[key] = panel
            if len(self._panels) > _KEPT:
                self._panels.popitem(last=False)
        return self._panels[key]

    def _ready(self, arrays: Arrays, base: Arrays, config: ConfigRecord) -> Arrays:
        """`arrays` as they may leave: checked, and no further from `base` than both sides allow."""
        try:
            contribution.check(arrays, base)
        except ContractError as error:
            raise _Held(Absence.BROKEN) from error
        limits = [limit for limit in (self._norm_limit, config.get("clip-norm")) if limit]
        if not limits:
            return arrays
        changes = contribution.update(arrays, base)
        short = contribution.clipped(changes, min(float(limit) for limit in limits))  # type: ignore[arg-type]
        if short is changes:
            return arrays
        return {name: (base[name] + short[name]).astype(base[name].dtype) for name in base}

    def _judged(self, model: Learner, arrays: Arrays, panel: Panel) -> dict[str, Any]:
        try:
            said = contribution.measures(model.evaluate(arrays, panel))
        except ContractError as error:
            raise _Held(Absence.TOO_LITTLE) from error
        if "loss" not in said:
            raise _Held(Absence.BROKEN)
        return {"num-examples": _known(panel.values[:, panel.holdout_from :]), **said}


def _reply(message: Message, metrics: dict[str, Any], arrays: ArrayRecord | None = None) -> Message:
    content = RecordDict({"metrics": MetricRecord(metrics)})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)


def _known(values: np.ndarray[Any, Any]) -> int:
    return int(np.isfinite(values).sum())


def _round(config: ConfigRecord) -> int:
    round_ = config.get("server-round", 0)
    if not isinstance(round_, int) or not 0 <= round_ <= 1_000_000:
        raise ContractError("server-round is no count")
    return round_


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ContractError("a task is JSON in UTF-8")
