"""Models in service, put to use on what devices say now: what deviates becomes alarms, what is missing is
filled.

Owns the rhythm, the alarms of detectors and which leaves are imputed; never changes a model. Fitting and
scoring run in a thread. What was imputed is marked as such in the live state, stands in only for leaves whose
session is lost, and is never learned from. A model that cannot be used here is said so once, as a finding.
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
from domain_twin.errors import TwinError
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
    from domain_twin.learning.detect import Detection, Watch
    from domain_twin.learning.gaps import Filler
    from domain_twin.learning.panel import Panel

Floats = NDArray[np.float64]

__all__ = ["Pipe", "Watching", "condition_of"]

log = logging.getLogger(__name__)

ALARM_TYPE: Final = "fedtwin-alarms:twin-alarm"
SOURCE: Final = "learning"
_BACK_STEPS: Final = 60
"""Steps that are read to score the newest ones."""
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
    """A model as it is fitted to this domain."""

    card: Card
    at: float
    watch: Watch | None = None
    filler: Filler | None = None
    due: float = 0.0


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
    _problems: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Look at what is new, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self.config.watch_every_s)
            for kept in self.learning.models():
                if kept.in_service and kept.card.task.kind in (Kind.DETECTOR, Kind.VAE):
                    await self.look(kept.card)
            self._report()

    async def look(self, card: Card) -> None:
        """Use one model now, where its next step is due. What goes wrong becomes a finding."""
        used = self._used.get(card.model)
        now = time.monotonic()
        if used and used.card == card and now < used.due:
            return
        try:
            if used is None or used.card != card or now - used.at > self.config.refit_s:
                used = await self._fitted(card, now)
            used.due = now + min(card.task.step_s, self.config.refit_s)
            await self._use(used)
        except TwinError as error:
            self._note(card.model, str(error))
        except Exception as error:  # a model must never end the watching of the others
            log.exception("a model failed", extra={"model": card.model})
            self._note(card.model, f"it failed ({type(error).__name__}); the agent's log says more")
        else:
            self._problems.pop(card.model, None)

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

    async def _fitted(self, card: Card, now: float) -> _Used:
        """The model, with what this domain's own history says of thresholds and gates."""
        _, arrays = await asyncio.to_thread(self.learning.store.arrays, card.model, card.version)
        panel = await self.learning.newest(card.task)
        before = self._used.get(card.model)
        used = _Used(card, now)
        if card.task.kind is Kind.DETECTOR:
            from domain_twin.learning.detect import Watch

            made = await asyncio.to_thread(
                Watch.of, card.task, arrays, panel, false_alarms_per_day=self.config.false_alarms_per_day
            )
            used.watch = made.following(before.watch) if before and before.watch else made
        else:
            from domain_twin.learning.gaps import Filler

            used.filler = await asyncio.to_thread(Filler.of, card.task, arrays, panel)
        self._used[card.model] = used
        return used

    async def _use(self, used: _Used) -> None:
        task = used.card.task
        elements = used.watch.elements if used.watch else used.filler.elements if used.filler else ()
        panel = await self._recent(task, elements)
        if used.watch:
            began, _ = await asyncio.to_thread(used.watch.observe, panel)
            self.learning.detections += len(began)
        elif used.filler and self.config.impute:
            filled = await asyncio.to_thread(used.filler.fill, panel)
            self._impute(task, panel, filled.values[:, -1], filled.imputed[:, -1])

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
            if used.watch
            for one in used.watch.standing
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
