"""The domain's part in learning together: whether it takes part, the rounds it works on, the models it uses.

Owns the policy ([learning] of the agent's configuration; that an agreement grants `train` was decided
before) and `state/learning/`. Training happens in a process of its own, and models in service are used in
another, so that neither waits for the other; what leaves was checked there, and is checked here for its size.
Of why there is no data no more than a word leaves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from domain_twin.agent.corrections import Corrections, traffic_known
from domain_twin.agent.learner_child import ChildSettings
from domain_twin.agent.learner_process import LearnerProcess
from domain_twin.agent.learning_policy import check_amount, check_policy
from domain_twin.agent.learning_runs import HeldRun, Runs
from domain_twin.config import LearningConfig
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity, TwinError
from domain_twin.learning.remembered import Asked, Remembered
from domain_twin.learning.store import REFUSED, Kept, ModelStore
from domain_twin.learning.task import Card, Kind, Profile, Task
from domain_twin.model import Finding, Nanoseconds, Network, Severity

if TYPE_CHECKING:
    from domain_twin.datastore.history import History
    from domain_twin.learning.hindsight import Hindsight
    from domain_twin.learning.models.forecaster import Forecast
    from domain_twin.learning.panel import Panel
    from domain_twin.learning.vouching import Vouching
    from domain_twin.simulation.twin.calibration import Calibration

__all__ = ["Learned", "Learning", "Step"]

log = logging.getLogger(__name__)

_DAY_S: Final = 86_400.0
_OFFER_S: Final = 120.0
UNRIVALLED: Final = "nothing here to compare it with"
UNJUDGED: Final = "not judged: a verdict would tell of the data without noise"
NO_DATA: Final = "the domain has no data for this task, or too little"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of learning, as the broker asks it: bytes are as they came."""

    run: str
    step: str
    task: bytes = b""
    message: bytes = b""
    card: bytes = b""
    arrays: bytes = b""


@dataclass(frozen=True, slots=True)
class Learned:
    """What is answered to a step, and what the audit is told of it besides."""

    message: bytes = b""
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts_json(self) -> bytes:
        """The facts as JSON in UTF-8; empty where there are none."""
        return json.dumps(self.facts, sort_keys=True, allow_nan=False).encode() if self.facts else b""


class Learning:
    """What a domain does in trainings. All methods are for the agent's event loop."""

    def __init__(
        self,
        config: LearningConfig,
        folder: Path,
        *,
        domain: str,
        network: Callable[[], Network],
        history: History | None,
        calibration: Callable[[], Calibration | None] = lambda: None,
        vouching: Vouching | None = None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`folder` is the part of the agent's state that is learning's."""
        self.steps: Counter[tuple[str, str]] = Counter()
        """Steps by name and outcome (`ok`, or the class of the error)."""
        self.detections = 0
        """Deviations that detectors in service have noticed."""
        self.imputed = 0
        """Leaves that models in service have filled in."""
        self._config = config
        self._domain = domain
        self._network = network
        self._history = history
        self._calibration = calibration
        self._clock = clock
        self._max_bytes = int(config.max_mb * 1e6)
        self._day = time.monotonic(), 0.0
        """When the day began whose work is bounded, and how much had been done by then, seconds."""
        self.store = ModelStore(folder / "models", owner=domain, max_bytes=self._max_bytes)
        self.corrections = Corrections(self.store)
        settings = ChildSettings(
            domain,
            str(folder),
            config.memory_mb << 20,
            self._max_bytes,
            config.epsilon,
            config.delta,
            vouching,
            str(config.app or ""),
            config.max_update_norm,
        )
        times = {"step_s": config.message_s, "idle_s": config.idle_s}
        self.process = LearnerProcess(settings, **times)
        """What trains and judges, for others."""
        self.serving = LearnerProcess(dataclasses.replace(settings, serves=True), **times)
        """What models in service are used in, for the domain itself."""
        self._remembered = Remembered(folder / "runs.sqlite")
        self._runs = Runs(idle_s=config.run_idle_s, lost_s=config.message_s, on_dropped=self.process.forget)

    async def aclose(self) -> None:
        """End the processes, and forget the runs under way."""
        self._runs.clear()
        await self.process.close()
        await self.serving.close()
        self._remembered.close()

    def findings(self) -> list[Finding]:
        """What the operator should see."""
        found = self.store.findings()
        if problem := self._remembered.problem:
            remedy = (
                "make room on the disk and the folder writable; where it was damaged, nothing is to be done"
            )
            found.append(
                Finding("learning.forgets", Severity.WARNING, self._domain, "learning", problem, remedy)
            )
        return found

    async def take(self, step: Step, peer: str) -> Learned:
        """Work on one step for `peer`, whom an agreement lets train. Raises TwinError to refuse."""
        outcome = "failed"
        try:
            learned = await self._take(step, peer)
            outcome = "ok"
        except TwinError as error:
            outcome = type(error).__name__
            raise
        finally:
            self.steps[step.step if step.step in _STEPS else "unknown", outcome] += 1
        return learned

    async def _take(self, step: Step, peer: str) -> Learned:
        if not self._config.enabled:
            raise NotShared(f"{self._domain} trains nothing with others")
        if not step.run or len(step.run) > 64 or not step.run.isascii() or not step.run.isprintable():
            raise ContractError("LearnAsk.run: an id has 1 to 64 printable characters")
        for name in ("message", "arrays"):
            if len(getattr(step, name)) > self._max_bytes:
                raise OverCapacity(
                    f"LearnAsk.{name}: {len(getattr(step, name))} bytes; {self._domain} takes"
                    f" {self._max_bytes} at most"
                )
        if step.step != "withdraw":
            self._check_work()
        match step.step:
            case "offer":
                return await self._offer(step, peer)
            case "message":
                return await self._message(step, peer)
            case "deliver":
                return await self._deliver(step)
            case "withdraw":
                return await self._withdraw(step)
        raise ContractError(f"LearnAsk.step: {step.step[:32]!r} is none of {', '.join(_STEPS)}")

    def end(self, run: str) -> None:
        """A run is over: its data is forgotten, and it is not taken part in again."""
        self._runs.drop(run)
        try:
            self._remembered.end(run)
        except OverCapacity as error:  # nothing is answered while that is so
            log.warning("the end of a training is not remembered", extra={"run": run, "reason": str(error)})

    def session_lost(self) -> None:
        """The broker is gone: data of its runs goes too, unless it is back soon."""
        self._runs.session_lost()

    # ------------------------------------------------------------ a run

    async def _offer(self, step: Step, peer: str) -> Learned:
        task = Task.from_json(step.task)
        check_policy(self._config, self._domain, task)
        known = self._remembered.get(step.run)
        self._check_run(step.run, known, peer, task)
        if known is None:
            self._check_interval(task)
        await self.process.ask("check", step.task, within_s=_OFFER_S)
        held = self._runs.get(step.run)
        if held is None:
            asked_at = known.asked_at if known else self._clock()
            held = HeldRun(task, peer, await self._panel(task, asked_at))
            self._check_run(step.run, self._remembered.begin(step.run, peer, task, asked_at), peer, task)
            self._runs.add(step.run, held)
        facts: dict[str, Any] = {"takes_part": True, "newest": self.store.highest(task.model)}
        if self._config.tell_amount:
            facts |= {"elements": len(held.panel.elements), "steps": held.panel.steps}
        return Learned(facts=facts, about=_about(step, task))

    async def _message(self, step: Step, peer: str) -> Learned:
        run = self._runs.get(step.run)
        if run is None or run.peer != peer:
            raise NotFound(f"{self._domain}: run {step.run} was not offered here; offer it first")
        self._remembered.answer(step.run, step.message, most=_most_messages(run.task))
        with self._runs.answering(step.run):
            reply: bytes = await self.process.answer_for(
                step.run, run.task.to_json(), run.panel, step.message
            )
        if len(reply) > self._max_bytes:
            raise OverCapacity(f"run {step.run}: the reply has {len(reply)} bytes and does not leave")
        digest = hashlib.sha256(step.message).hexdigest()
        about = _about(step, run.task) | {"message_sha256": digest, "message_bytes": len(step.message)}
        return Learned(message=reply, about=about)

    def _check_run(self, run: str, known: Asked | None, peer: str, task: Task) -> None:
        """Raises ContractError where a run's id stands for another training, or for one that is over."""
        if known is not None and not known.same(peer, task):
            raise ContractError(f"run {run}: it is under way with another task")
        if known is not None and known.ended:
            raise ContractError(f"run {run}: it is over in {self._domain}; begin another one")

    def _check_work(self) -> None:
        """Raises OverCapacity where the day's work is done. No clock that can be set plays a part."""
        now, busy = time.monotonic(), self.process.busy_s
        if now - self._day[0] >= _DAY_S:
            self._day = now, busy
        if busy - self._day[1] >= self._config.work_s_per_day:
            error = OverCapacity(
                f"{self._domain} has trained for {self._config.work_s_per_day:g} s today and does no more;"
                " see [learning] work_s_per_day"
            )
            error.retry_after_s = _DAY_S - (now - self._day[0])
            raise error

    def _check_interval(self, task: Task) -> None:
        """Raises OverCapacity."""
        if not self._config.min_interval_s:
            return
        since_s = self._remembered.since_s(task.model)
        wait_s = self._config.min_interval_s - since_s if since_s is not None else 0.0
        if wait_s > 0:
            error = OverCapacity(
                f"{self._domain} trained {task.model!r} lately and does so again in {wait_s:.0f} s"
            )
            error.retry_after_s = wait_s
            raise error

    async def _panel(self, task: Task, now: Nanoseconds) -> Panel:
        """What is learned from at `now`. Raises NotFound with no more than a word of why, ContractError."""
        from domain_twin.learning.history import check_terms, panel

        check_terms(task)
        if self._history is None:
            raise NotFound(f"{self._domain} keeps no history to learn from")
        try:
            made = await panel(self._history, self._network(), task, now)
            check_amount(self._config, self._domain, made, judges=not task.tells_noised)
            if task.kind is Kind.RESIDUAL:  # it is of the engine as it is in service
                made = dataclasses.replace(made, known=traffic_known(self._calibration()))
        except NotFound as error:
            log.info("no data for a training", extra={"model": task.model, "reason": str(error)})
            raise NotFound(str(error) if self._config.tell_amount else NO_DATA) from None
        return made

    # ------------------------------------------------------------ models

    async def _deliver(self, step: Step) -> Learned:
        card = Card.from_json(step.card)
        check_policy(self._config, self._domain, card.task)
        await asyncio.to_thread(self.store.check, card, step.arrays)
        good, reason, scores, here = await self._judged(card, step)
        try:
            noted = f"{reason}; fitted to its own history, too" if here else reason
            await asyncio.to_thread(self._keep, card, step.arrays, good, noted, here)
        except OSError as error:
            raise OverCapacity(f"{self._domain} cannot keep the model now ({error.strerror})") from error
        facts: dict[str, Any] = {"in_service": good, "reason": reason}
        if card.task.profile is not Profile.PRIVATE and scores:
            facts["scores"] = scores
        about = _about(step, card.task) | {"version": card.version, "in_service": good, "reason": reason}
        return Learned(facts=facts, about=about)

    def _keep(self, card: Card, arrays: bytes, good: bool, reason: str, here: bytes) -> None:
        """In one go: a broker that gives up meanwhile leaves no version without what was judged of it."""
        self.store.put(card, arrays)
        self.store.use_here(card.model, card.version, here)
        if good:
            self.store.serve(card.model, card.version, reason)
        else:
            self.store.note(card.model, card.version, REFUSED + reason)

    async def _judged(self, card: Card, step: Step) -> tuple[bool, str, dict[str, float], bytes]:
        """Whether a version is good here, why, its measures, and its arrays where the domain uses others."""
        if card.task.tells_noised:
            return True, UNJUDGED, {}, b""
        try:
            held = self._runs.get(step.run)
            panel = held.panel if held and held.task == card.task else None
            panel = panel or await self._panel(card.task, self._clock())
        except (NotFound, ContractError) as error:
            return False, f"it cannot be judged here: {error}", {}, b""
        try:
            here = await self._fitted_here(card, step.arrays, panel)
            if here:
                verdict = await self._verdict(card, here, panel)
                if verdict[0]:
                    return *verdict, here
            return *await self._verdict(card, step.arrays, panel), b""
        except ContractError as error:  # which says how much there is
            log.info("a model cannot be judged", extra={"model": card.model, "reason": str(error)})
            why = error if self._config.tell_amount else NO_DATA
            return False, f"it cannot be judged here: {why}", {}, b""

    async def _fitted_here(self, card: Card, arrays: bytes, panel: Panel) -> bytes:
        """A residual as this domain's history would have it; empty: as delivered. Raises ContractError."""
        if card.task.kind is not Kind.RESIDUAL:
            return b""
        made: bytes = await self.process.ask("fitted_here", card.task.to_json(), arrays, panel)
        return made

    async def _verdict(self, card: Card, arrays: bytes, panel: Panel) -> tuple[bool, str, dict[str, float]]:
        """Whether arrays are good enough here, why, and their measures. Raises ContractError: too little."""
        task = card.task.to_json()
        scores: dict[str, float] = await self.process.ask("evaluate", task, arrays, panel)
        scores = {name: value for name, value in scores.items() if math.isfinite(value)}
        if "loss" not in scores:
            return False, "its loss on this domain's holdout is not finite", {}
        # Without a residual the engine answers as well: it is used where it errs less, and nowhere else.
        limit = 1.0 if card.task.kind is Kind.RESIDUAL else 1.0 + self._config.worse_by
        naive = {name: value for name, value in scores.items() if name.startswith("naive:")}
        best = min(naive, key=naive.__getitem__, default="")
        if best and scores["loss"] > naive[best] * limit:
            return False, f"it is worse here than {best.removeprefix('naive:')}", scores
        former = self.store.in_service(card.model)
        last = None if former in (0, card.version) else await self._loss_of(card, former, panel)
        if last is not None:
            scores["last"] = last
            if scores["loss"] > last * limit:
                return False, f"it is worse here than version {former}", scores
        return True, f"better than {best.removeprefix('naive:')} here" if best else UNRIVALLED, scores

    async def _loss_of(self, card: Card, version: int, panel: Panel) -> float | None:
        """The loss of an earlier version on the same data; None where the two cannot be compared."""
        try:
            former = self.store.get(card.model, version).card
            if (former.task.features, former.task.step_s) != (card.task.features, card.task.step_s):
                return None
            data = await asyncio.to_thread(self.store.here, card.model, version)
            scores = await self.process.ask("evaluate", former.task.to_json(), data, panel)
        except (NotFound, ContractError) as error:
            log.warning("the last model cannot be judged", extra={"model": card.model, "reason": str(error)})
            return None
        loss = float(scores.get("loss", math.nan))
        return loss if math.isfinite(loss) else None

    async def _withdraw(self, step: Step) -> Learned:
        card = Card.from_json(step.card)
        kept = self.store.get(card.model, card.version)
        if kept.card != card:
            raise ContractError(f"model {card.model!r}: version {card.version} is another one here")
        check_policy(self._config, self._domain, card.task)
        if kept.reason.startswith(REFUSED) or not (kept.reason or kept.in_service):
            why = kept.reason or "it was never judged"
            raise NotShared(
                f"{self._domain} does not use version {card.version} of {card.model!r} ({why}); only"
                " its own operator can, on the agent's socket"
            )
        await self.put_back(card.model, card.version)
        about = _about(step, card.task) | {"version": card.version}
        return Learned(facts={"in_service": True, "reason": "put back into service"}, about=about)

    async def put_back(self, model: str, version: int) -> Kept:
        """Use an earlier version again. Raises NotFound, OverCapacity where that cannot be written."""
        await asyncio.to_thread(self.store.data, model, version)
        try:
            await asyncio.to_thread(self.store.serve, model, version, "put back into service")
        except OSError as error:
            raise OverCapacity(f"{self._domain} cannot write that now ({error.strerror})") from error
        return self.store.get(model, version)

    # ------------------------------------------------------------ for the domain's own operator

    def models(self, model: str = "") -> list[Kept]:
        """Versions that were delivered here, and which are used."""
        return self.store.models(model)

    async def forecast(self, model: str) -> tuple[Forecast, Card]:
        """What the model in service foretells from the newest data. Raises NotFound, ContractError."""
        card, data = await self._forecaster(model)
        panel = await self.newest(card.task)
        made: Forecast = await self.serving.ask("forecast", card.task.to_json(), data, panel)
        return made, card

    async def hindsight(self, model: str, elements: Sequence[str] = ()) -> tuple[Hindsight, Card]:
        """What the model in service would have foretold over its holdout. Raises NotFound, ContractError."""
        card, data = await self._forecaster(model)
        panel = await self.newest(card.task)
        if unknown := sorted(set(elements) - set(panel.elements)):
            raise NotFound(f"{self._domain}: nothing is known of {unknown[0]!r} that {model!r} could use")
        question = (card.task.to_json(), data, panel, tuple(elements))
        made: Hindsight = await self.serving.ask("hindsight", *question)
        return made, card

    async def own(self, model: str, version: int) -> tuple[Card, bytes]:
        """A generator's arrays, with what domains say of themselves of this one's history.

        Raises NotFound where there is none, ContractError for another kind of model and too little history.
        """
        card, data = await asyncio.to_thread(self.store.whole, model, version)
        if card.task.kind is not Kind.GAN:
            raise ContractError(
                f"model {model!r} is a {card.task.kind.value}: only a gan makes synthetic series"
            )
        if card.task.tells_noised:
            raise ContractError(
                f"model {model!r}: it was made under `private`, and this domain's own statistics would bear"
                " no noise; export it without own, or a generator that was trained under another profile"
            )
        panel = await self.newest(card.task)
        made: bytes = await self.serving.ask("own", card.task.to_json(), data, panel)
        return card, made

    async def _forecaster(self, model: str) -> tuple[Card, bytes]:
        card = self.store.get(model).card
        if card.task.kind is not Kind.FORECASTER:
            raise ContractError(f"model {model!r} is a {card.task.kind.value} and foretells nothing")
        return await asyncio.to_thread(self.store.whole, model)

    async def newest(self, task: Task) -> Panel:
        """The newest data that a model of `task` reads. Raises NotFound."""
        from domain_twin.learning.history import panel
        from domain_twin.learning.task import Window

        if self._history is None:
            raise NotFound(f"{self._domain} keeps no history; set enabled = true under [history]")
        now = self._clock()
        recent = dataclasses.replace(task, window=Window(length_s=task.window.length_s))
        return await panel(self._history, self._network(), recent, now)


_STEPS: Final = ("offer", "message", "deliver", "withdraw")


def _most_messages(task: Task) -> int:
    """More than any broker needs: four a round under `private`, and what is asked before and after."""
    return 4 * task.rounds + 100


def _about(step: Step, task: Task) -> dict[str, Any]:
    """What the audit is told of every step."""
    return {
        "step": step.step,
        "run": step.run,
        "model": task.model,
        "model_kind": task.kind.value,
        "profile": task.profile.value,
    }
