"""What the agent tells its own operator of learning: the models it has, and what they foretell.

Trainings are begun and seen at the broker. Nothing here leaves the machine.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

from domain_twin.errors import NotFound
from domain_twin.learning.run import Run
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Task
from federation.wire.learning import ElementForecast, RolledBack

if TYPE_CHECKING:
    from domain_twin.agent.learning import Learning
    from domain_twin.learning.hindsight import Hindsight
    from domain_twin.learning.models.forecaster import Forecast

__all__ = ["LocalLearning", "element_forecasts", "element_hindsights"]


class _Twin(Protocol):
    domain: str
    learning: Learning | None


class LocalLearning:
    """Answers the Learning service's questions from the agent's own models."""

    def __init__(self, twin: _Twin) -> None:
        self._twin = twin

    async def start(self, task: Task, domains: Sequence[str]) -> Run:
        """Refused: raises NotFound."""
        self._at_the_broker()

    async def run(self, identity: str) -> Run:
        """Refused: raises NotFound."""
        self._at_the_broker()

    async def runs(self) -> Sequence[Run]:
        """Refused: raises NotFound."""
        self._at_the_broker()

    async def watch(self, identity: str) -> AsyncIterator[Run]:
        """Refused: raises NotFound."""
        self._at_the_broker()
        yield

    async def stop(self, identity: str) -> Run:
        """Refused: raises NotFound."""
        self._at_the_broker()

    async def models(self, model: str) -> Sequence[Kept]:
        """Versions that were delivered here, newest first."""
        return sorted(self._learning().models(model), key=lambda kept: -kept.card.created_at)

    async def model(self, model: str, version: int, *, arrays: bool, own: bool) -> tuple[Kept, bytes]:
        """One version; with `own` as `Learning.own` has it. Raises NotFound, ContractError."""
        store = self._learning().store
        if own:
            card, data = await self._learning().own(model, version)
            return store.get(model, card.version), data
        if not arrays:
            return store.get(model, version), b""
        card, data = store.whole(model, version)
        return store.get(model, card.version), data

    async def roll_back(self, model: str, version: int) -> RolledBack:
        """Use an earlier version in this domain, whatever others use. Raises NotFound."""
        return RolledBack(await self._learning().put_back(model, version), ())

    async def forecasts(
        self, model: str, elements: Sequence[str], *, hindsight: bool
    ) -> tuple[Sequence[ElementForecast], int]:
        """What the model in service foretells from the newest data. Raises NotFound, ContractError."""
        if hindsight:
            past, card = await self._learning().hindsight(model, elements)
            return element_hindsights(past), card.version
        forecast, card = await self._learning().forecast(model)
        if unknown := sorted(set(elements) - set(forecast.elements)):
            raise NotFound(
                f"{self._twin.domain}: nothing is known of {unknown[0]!r} that {model!r} could use"
            )
        return element_forecasts(forecast, elements), card.version

    def _learning(self) -> Learning:
        if self._twin.learning is None:
            raise NotFound(
                f"the agent of {self._twin.domain} learns nothing with others; it needs a [broker], and"
                " enabled = true under [learning] in its agent.toml"
            )
        return self._twin.learning

    def _at_the_broker(self) -> NoReturn:
        raise NotFound("trainings are begun and seen at the broker; name its client profile with --at")


def element_forecasts(forecast: Forecast, elements: Sequence[str] = ()) -> list[ElementForecast]:
    """A forecast by element and KPI (no `elements`: all); what is not known is left out."""
    times = tuple(forecast.at + round(horizon * 1e9) for horizon in forecast.horizons_s)
    found = []
    for place, element in enumerate(forecast.elements):
        if elements and element not in elements:
            continue
        for target, (kpi, unit) in enumerate(zip(forecast.targets, forecast.units, strict=True)):
            rows = tuple(tuple(map(float, row)) for row in forecast.quantiles[place, target])
            if all(math.isfinite(value) for row in rows for value in row):
                found.append(ElementForecast(element, kpi, unit, forecast.at, times, forecast.levels, rows))
    return found


def element_hindsights(past: Hindsight) -> list[ElementForecast]:
    """A look back by element and KPI: times of which both forecast and truth are known."""
    found = []
    for place, element in enumerate(past.elements):
        for target, (kpi, unit) in enumerate(zip(past.targets, past.units, strict=True)):
            quantiles, truth = past.quantiles[place, target].tolist(), past.truth[place, target].tolist()
            known = [
                step
                for step, row in enumerate(quantiles)
                if math.isfinite(truth[step]) and all(map(math.isfinite, row))
            ]
            if not known:
                continue
            times = tuple(past.times[step] for step in known)
            found.append(
                ElementForecast(
                    element,
                    kpi,
                    unit,
                    times[0] - round(past.horizon_s * 1e9),
                    times,
                    past.levels,
                    tuple(tuple(quantiles[step]) for step in known),
                    tuple(truth[step] for step in known),
                )
            )
    return found
