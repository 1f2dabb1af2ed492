"""Models in service, put to use on what devices say now: what deviates becomes alarms, what is missing is
filled.

Owns the rhythm, the alarms of detectors and which leaves are imputed; never changes a model. Others made the
models: fitting and scoring happen in the process that uses models, within its limits, and here is kept only
how elements stand, so that a fresh process goes on from there. What was imputed is marked as such in the live
state, stands in only for leaves whose session is lost, and is never learned from. A model that cannot be used
here is said so once, as a finding.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from domain_twin.alarms import desk
from domain_twin.config import LearningConfig
from domain_twin.errors import TwinError, Unreachable
from domain_twin.learning.detection import Detection, Standing
from domain_twin.learning.task import Card, Kind, Task, Window
from domain_twin.model import (
    AlarmKey,
    Condition,
    Finding,
    Nanoseconds,
    Network,
    Origin,
    PerceivedSeverity,
    Severity,
    Update,
)

if TYPE_CHECKING:
    from domain_twin.agent.learning import Learning
    from domain_twin.learning.panel import Panel

Floats = NDArray[np.float64]

__all__ = ["Pipe", "Watching", "condition_of"]

log = logging.getLogger(__name__)

ALARM_TYPE: Final = "fedtwin-alarms:twin-alarm"
SOURCE: Final = "learning"
_BACK_STEPS: Final = 60
"""Steps that are read to score the newest ones."""
_REST: Final = 4.0
"""A model rests so many times as long as a look at it took: none has more than a fifth of a processor."""
_MAJOR: Final = 3.0
"""Thresholds from which a deviation is major."""


class Pipe(Protocol):
    """What imputed values go into: the agent's pipeline."""

    def impute(self, updates: Sequence[Update], now: Nanoseconds) -> int:
        """Let values stand in; how many leaves changed."""

    def lost_since(self, device: str, path: str) -> Nanoseconds:
        """When a leaf was last heard whose session is lost; 0: it is fresh."""


@dataclass(slots=True)
class _Used:
    """A model as it is fitted to this domain, in the process; and how what it watches stands."""

    card: Card
    at: float
    elements: tuple[str, ...]
    standing: Standing = field(default_factory=Standing)


@dataclass(slots=True)
class Watching:
    """Runs beside the twin: `await run()` until cancelled."""

    config: LearningConfig
    domain: str
    learning: Learning
    network: Callable[[], Network]
    pipe: Pipe
    alarms: desk.AlarmDesk
    clock: Callable[[], Nanoseconds] = time.time_ns
    _used: dict[str, _Used] = field(default_factory=dict)
    _due: dict[str, tuple[Card, float]] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Look at what is new, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self.config.watch_every_s)
            await self.look_all()

    async def look_all(self) -> None:
        """Use all models in service whose next step is due, and forget those that are no more."""
        cards = [
            kept.card
            for kept in self.learning.models()
            if kept.in_service and kept.card.task.kind in (Kind.DETECTOR, Kind.VAE)
        ]
        for gone in (self._used.keys() | self._due.keys()) - {card.model for card in cards}:
            self._used.pop(gone, None)
            self._due.pop(gone, None)
            self._problems.pop(gone, None)
            self.learning.serving.forget(gone)
        steps = [min(card.task.step_s, self.config.refit_s) for card in cards]
        self.learning.serving.stay_s = 2 * max(steps, default=0.0)  # a fresh one has to fit all models anew
        for card in cards:
            await self.look(card)
        self._report()

    async def look(self, card: Card) -> None:
        """Use one model now, where its next step is due. What goes wrong becomes a finding."""
        began = time.monotonic()
        before, due = self._due.get(card.model, (card, 0.0))
        if before == card and began < due:
            return
        try:
            await self._look(card, began)
        except TwinError as error:
            self._note(card.model, str(error))
        except Exception as error:  # a model must never end the watching of the others
            log.exception("a model failed", extra={"model": card.model})
            self._note(card.model, f"it failed ({type(error).__name__}); the agent's log says more")
        else:
            self._problems.pop(card.model, None)
        now = time.monotonic()
        self._due[card.model] = (
            card,
            max(began + min(card.task.step_s, self.config.refit_s), now + _REST * (now - began)),
        )

    def _note(self, model: str, problem: str) -> None:
        if self._problems.get(model) != problem:
            log.warning("a model cannot be used", extra={"model": model, "reason": problem})
        self._problems[model] = problem

    def findings(self) -> list[Finding]:
        """Models in service that cannot be used now."""
        return [
            Finding(
                "learning.unused",
                Severity.WARNING,
                self.domain,
                "learning",
                f"model {model!r} is in service and cannot be used: {why}",
                "let more history gather, or put another version into service",
            )
            for model, why in sorted(self._problems.items())
        ]

    async def _look(self, card: Card, now: float) -> None:
        if card.task.kind is Kind.VAE and not self.config.impute:
            return
        used = self._used.get(card.model)
        if used is None or used.card != card or now - used.at > self.config.refit_s:
            used = await self._fitted(card, now)
        if not await self._use(used):  # the process ended meanwhile, and with it the fit
            used = await self._fitted(card, now)
            if not await self._use(used):
                raise Unreachable("the process that uses models ended again and again")

    async def _fitted(self, card: Card, now: float) -> _Used:
        """Have the process fit the model, by what this domain's own history says of thresholds and gates."""
        _, arrays = await asyncio.to_thread(self.learning.store.whole, card.model, card.version)
        panel = await self.learning.newest(card.task)
        question = (card.model, (card.task.to_json(), arrays), panel)
        before = self._used.get(card.model)
        used = _Used(card, now, panel.elements, before.standing if before else Standing())
        if card.task.kind is Kind.DETECTOR:
            per_day = self.config.false_alarms_per_day
            await self.learning.serving.ask("watch_fit", *question, per_day, used.standing)
        else:
            await self.learning.serving.ask("fill_fit", *question)
        self._used[card.model] = used
        return used

    async def _use(self, used: _Used) -> bool:
        """Put the model to use; False: the process does not have its fit."""
        model, task = used.card.model, used.card.task
        panel = await self._recent(task, used.elements)
        if task.kind is Kind.DETECTOR:
            found = await self.learning.serving.ask("watch", model, panel)
            if found is not None:
                began, used.standing = found
                self.learning.detections += len(began)
        else:
            found = await self.learning.serving.ask("fill", model, panel)
            if found is not None:
                self._impute(task, panel, *found)
        return found is not None

    async def _recent(self, task: Task, elements: tuple[str, ...]) -> Panel:
        """The newest steps of these elements; NaN from where a leaf's session was lost."""
        from domain_twin.learning.history import leaves_of
        from domain_twin.learning.panel import Panel

        steps = max(_BACK_STEPS, task.lags + max(task.horizons) + 2)
        short = dataclasses.replace(task, window=Window(length_s=steps * task.step_s))
        found = await self.learning.newest(short)
        step = round(task.step_s * 1e9)
        end = self.clock() // step * step
        start = end - steps * step
        values = np.full((len(elements), steps, len(task.features)), np.nan)
        place_of = {element: place for place, element in enumerate(elements)}
        shift = (found.start - start) // step
        for row, element in enumerate(found.elements):
            if element in place_of:
                first, last = max(0, shift), min(steps, shift + found.steps)
                values[place_of[element], first:last] = found.values[row, first - shift : last - shift]
        for (element, feature), leaves in leaves_of(self.network(), task).items():
            lost = max((self.pipe.lost_since(leaf.device, leaf.path) for leaf in leaves), default=0)
            if lost and element in place_of:
                # A value is in force until the next one: of a lost session that says nothing.
                values[place_of[element], max(0, -(-(lost - start) // step)) :, feature] = np.nan
        return Panel(elements, found.features, values, start, task.step_s, steps)

    def _impute(self, task: Task, panel: Panel, newest: Floats, imputed: NDArray[np.bool_]) -> None:
        """Put the newest values [E, F] in for leaves whose sessions are lost."""
        from domain_twin.learning.history import leaves_of

        now = self.clock()
        place_of = {element: place for place, element in enumerate(panel.elements)}
        updates = []
        for (element, feature), leaves in leaves_of(self.network(), task).items():
            place = place_of.get(element)
            if place is None or not imputed[place, feature]:
                continue
            for leaf in leaves:
                if self.pipe.lost_since(leaf.device, leaf.path):
                    value = max(0.0, float(newest[place, feature]) / leaf.scale)  # no figure is below 0
                    updates.append(Update(leaf.device, leaf.path, value, now, Origin.IMPUTED))
        if updates:
            self.learning.imputed += self.pipe.impute(updates, now)

    def _report(self) -> None:
        standing = [
            condition_of(self.domain, one, used.card.task)
            for used in self._used.values()
            for one in used.standing.detections
        ]
        self.alarms.report(SOURCE, [*standing, *map(desk.condition_of, self.findings())])


def condition_of(domain: str, detection: Detection, task: Task) -> Condition:
    """A detection as what is wrong now, with its evidence in words."""
    units = {feature.kpi: feature.unit for feature in task.features}
    began = datetime.fromtimestamp(detection.started_at / 1e9, UTC)
    how = "suddenly" if detection.onset.value == "jump" else "creepingly"
    told = "; ".join(
        f"{one.kpi} is {one.value:.4g} where {one.expected:.4g} {units.get(one.kpi, '')} would be usual"
        f" ({one.deviations:+.1f} deviations)"
        for one in detection.evidence
    )
    text = (
        f"{detection.element} deviates {how} since {began:%H:%M:%S} UTC, {detection.score:.1f} times the"
        f" threshold of {task.model}: {told or 'several KPIs together, none by itself'}"
    )
    return Condition(
        AlarmKey(domain, "", detection.element, ALARM_TYPE, f"learning.deviates:{task.model}"),
        PerceivedSeverity.MAJOR if detection.score >= _MAJOR else PerceivedSeverity.MINOR,
        text,
        element=detection.element,
        raised_at=detection.started_at,
        remedy="look at the KPIs named; where this is usual now, it will be learned with the next training",
    )
