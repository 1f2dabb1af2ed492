"""What elements are expected to carry at a time to come: by the forecaster in service, or as on past days.

Owns which of the two, and the words that say so. The forecast itself is the model's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from domain_twin.errors import ConfigError, ContractError, NotFound
from domain_twin.model import CARRIED_RATE, UTILISATION, Nanoseconds, Network

if TYPE_CHECKING:
    from domain_twin.learning.models.forecaster import Forecast
    from domain_twin.learning.store import Kept
    from domain_twin.learning.task import Card
    from domain_twin.simulation.twin.traffic import Loads

__all__ = ["Forecasts", "expected_loads"]

log = logging.getLogger(__name__)

_DAY: Final = 86_400 * 10**9
_DAYS: Final = 7
_AROUND: Final = 150 * 10**9
"""Before and after the time of day of which past days are asked."""
_KINDS: Final = ("link", "border", "cell")


class Forecasts(Protocol):
    """Models of the domain, and what they foretell (`domain_twin.agent.learning.Learning`)."""

    def models(self, model: str = "") -> list[Kept]:
        """Versions that the domain has."""

    async def forecast(self, model: str) -> tuple[Forecast, Card]:
        """What the model in service foretells. Raises NotFound, ContractError."""


@dataclass(frozen=True, slots=True)
class _Foretold:
    """Mbit/s by element, and of which model; or how far it reaches, if that is not far enough."""

    model: str
    reach: Nanoseconds
    made: Nanoseconds = 0
    mbps: Mapping[str, float] | None = None


async def expected_loads(
    at: Nanoseconds,
    *,
    now: Nanoseconds,
    network: Network,
    loads: Loads,
    learned: Forecasts | None,
    between: Callable[[Nanoseconds, Nanoseconds], Awaitable[Loads]],
) -> Loads:
    """The loads of time `at`; `loads` are those of now, `between` those recorded between two times.

    Raises ConfigError for a time that is not to come, NotFound where neither a forecaster nor a recorded day
    reaches it.
    """
    if at <= now:
        raise ConfigError(f"when: {_spelled(at)} is not to come; for a time of the past use `at` or `window`")
    foretold = await _foretold(at, network, learned)
    if usable := [each for each in foretold if each.mbps]:
        return _with_forecast(at, loads, usable)
    reached = ", ".join(f"{each.model} reaches {_spelled(each.reach)}" for each in foretold)
    why = reached or "no forecaster of carried rates is in service here"
    return await _as_on_past_days(at, now, loads, why, between)


async def _foretold(at: Nanoseconds, network: Network, learned: Forecasts | None) -> Sequence[_Foretold]:
    from domain_twin.learning.task import Kind

    found = []
    versions = learned.models() if learned else []
    for kept in sorted(versions, key=lambda kept: -kept.card.created_at):  # the newest speaks first
        task = kept.card.task
        if not kept.in_service or task.kind is not Kind.FORECASTER or task.element_kind not in _KINDS:
            continue
        try:
            forecast, card = await learned.forecast(kept.card.model)  # type: ignore[union-attr]
        except (NotFound, ContractError) as error:
            log.info("no forecast for a scenario", extra={"model": kept.card.model, "reason": str(error)})
            continue
        name = f"{card.model} {card.version}"
        reach = forecast.at + round(max(forecast.horizons_s) * 1e9)
        if at > reach + round(task.step_s * 5e8):
            found.append(_Foretold(name, reach))
        elif mbps := _rates(at, forecast, card, network):
            found.append(_Foretold(name, reach, forecast.at, mbps))
    return found


def _rates(at: Nanoseconds, forecast: Forecast, card: Card, network: Network) -> dict[str, float]:
    """Mbit/s by element at a time, on a straight line between horizons; of carried rate or utilisation."""
    import numpy as np

    from domain_twin.learning.history import kpi_of, unit_factor
    from domain_twin.learning.task import Role

    targets = [feature for feature in card.task.features if feature.role is Role.TARGET]
    kpis = [kpi_of(feature) for feature in targets]
    capacity = {link.id: link.capacity_mbps for link in network.links.values()}
    order = np.argsort(forecast.horizons_s)
    horizons = np.array(forecast.horizons_s)[order]
    found: dict[str, float] = {}
    for kpi in (UTILISATION, CARRIED_RATE):  # the second one stands where both are known
        if kpi not in kpis:
            continue
        column = kpis.index(kpi)
        for element, mean in zip(forecast.elements, forecast.mean[:, column], strict=True):
            value = float(np.interp((at - forecast.at) / 1e9, horizons, mean[order]))
            scale = capacity.get(element, 0.0) if kpi == UTILISATION else 1.0
            if np.isfinite(value) and scale:
                found[element] = max(0.0, value / unit_factor(targets[column]) * scale)
    return found


def _with_forecast(at: Nanoseconds, loads: Loads, foretold: Sequence[_Foretold]) -> Loads:
    mbps: dict[str, float] = {}
    said = []
    for each in foretold:
        more = {name: rate for name, rate in (each.mbps or {}).items() if name not in mbps}
        mbps |= more
        if more:
            said.append(
                f"demand is what {each.model} expects for {_spelled(at)} of {len(more)} elements, made from"
                f" data up to {_spelled(each.made)}"
            )
    both = [element for element in mbps if element in loads.mbps]
    before, then = sum(loads.mbps[name] for name in both), sum(mbps[name] for name in both)
    factor = then / before if before > 0 else 1.0
    others = {name: value * factor for name, value in loads.mbps.items() if name not in mbps}
    if rest := len(others) + len(loads.handled_pps):
        said.append(
            f"{rest} elements of which it foretells nothing are taken to change as the others do on the"
            f" whole: x{factor:.3g}"
        )
    return replace(
        loads,
        mbps={**others, **mbps},
        handled_pps={name: value * factor for name, value in loads.handled_pps.items()},
        start=at,
        end=at,
        assumptions=(*loads.assumptions, *said),
    )


async def _as_on_past_days(
    at: Nanoseconds,
    now: Nanoseconds,
    loads: Loads,
    why: str,
    between: Callable[[Nanoseconds, Nanoseconds], Awaitable[Loads]],
) -> Loads:
    """The mean of what was carried at that time of day, as far back as a week."""
    days = []
    first = (at + _AROUND - now + _DAY - 1) // _DAY  # whole days back to what is past
    for back in range(first, first + _DAYS):
        with_ = at - back * _DAY
        try:
            days.append(await between(with_ - _AROUND, with_ + _AROUND))
        except NotFound:
            continue
    if not days:
        raise NotFound(
            f"when: {_spelled(at)} cannot be foretold: {why}, and the history holds no day on which that time"
            " of day could be looked up; ask for an earlier time, or train with longer horizons"
        )
    said = (
        f"demand at {_spelled(at)} is the mean of what was carried at that time of day on"
        f" {len(days)} of the last days: {why}"
    )
    return replace(
        loads,
        mbps=_mean([each.mbps for each in days]),
        handled_pps=_mean([each.handled_pps for each in days]),
        start=at,
        end=at,
        assumptions=(*loads.assumptions, said),
    )


def _mean(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for table in tables for name in table)
    known = {name: [table[name] for table in tables if name in table] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}


def _spelled(at: Nanoseconds) -> str:
    return datetime.fromtimestamp(at // 10**9, UTC).isoformat().replace("+00:00", "Z")
