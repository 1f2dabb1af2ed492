"""What the twin says of a cut before it is made, and how far off that was. Owns the question and the sums.

Asked of the transport operator's own agent: the link is inside, and nobody else can name it. What the agent
predicts is its own part of the service's delay; the other parts are what the twin measured meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, TwinError

if TYPE_CHECKING:
    from pathlib import Path

    from domain_twin.model import ServiceStatus
    from domain_twin.model.job import FlowForecast, Report
    from federation.cli.demo.account import Phase

__all__ = ["Prediction", "Verdict", "foresee", "judge", "warm"]

PATIENCE_S = 25.0
DOMAIN = "transport"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was said beforehand of the service's mean delay, end to end, once a link is cut.

    `low_ms` and `high_ms`: the 90 % interval, NaN where nothing was calibrated. `route`: the routers of the
    path inside transport.
    """

    link: str
    before_ms: float
    delay_ms: float
    low_ms: float
    high_ms: float
    route: tuple[str, ...]
    rung: str
    took_ms: float
    digest: str
    assumptions: tuple[str, ...] = ()
    problem: str = ""
    """Why there is none; then the figures are NaN."""

    @property
    def made(self) -> bool:
        """Whether there is one."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Verdict:
    """A prediction beside what came: errors are relative to what came, in percent; NaN: nothing came."""

    prediction: Prediction
    twin_ms: float
    packets_ms: float
    route_taken: tuple[str, ...]

    @property
    def of_twin_percent(self) -> float:
        """How far the prediction is from the composed twin's own figure afterwards."""
        return _off(self.prediction.delay_ms, self.twin_ms)

    @property
    def of_packets_percent(self) -> float:
        """How far the prediction is from what the packets met."""
        return _off(self.prediction.delay_ms, self.packets_ms)

    @property
    def same_route(self) -> bool:
        """Whether the traffic takes the path that was predicted."""
        return self.prediction.route == self.route_taken

    @property
    def inside(self) -> bool | None:
        """Whether the packets' figure lies in the interval; None: there is none."""
        low, high = self.prediction.low_ms, self.prediction.high_ms
        known = all(math.isfinite(value) for value in (low, high, self.packets_ms))
        return low <= self.packets_ms <= high if known else None


def _off(said: float, came: float) -> float:
    return 100.0 * (said - came) / came if came > 0 else math.nan


def none(link: str, problem: str) -> Prediction:
    """No prediction, and why."""
    return Prediction(link, *(math.nan,) * 4, (), "", math.nan, "", problem=problem)


async def foresee(socket: Path, status: ServiceStatus, phase: Phase, link: str) -> Prediction:
    """Ask the agent at `socket` what the service would get without `link`. Never raises TwinError."""
    began = time.monotonic()
    try:
        source, target = borders(status)
        report = await _asked(socket, link, source, target)
        return predicted(report, phase, link=link, took_ms=(time.monotonic() - began) * 1e3)
    except TimeoutError:
        return none(link, f"the agent did not answer within {PATIENCE_S:.0f} s")
    except TwinError as error:
        return none(link, str(error))


async def warm(socket: Path, status: ServiceStatus, link: str) -> None:
    """Ask once in vain, so that the engine is compiled when it counts. Raises TwinError, TimeoutError."""
    await _asked(socket, link, *borders(status))


async def _asked(socket: Path, link: str, source: str, target: str) -> Report:
    from domain_twin.model.job import Capability, Requirements
    from domain_twin.model.scenario import ElementDown, Scenario
    from federation.client import TwinClient

    scenario = Scenario(
        name="The link that the demo cuts",
        seed=1,
        changes=(ElementDown(element=link),),
        flows=((source, target),),
    )
    async with asyncio.timeout(PATIENCE_S), TwinClient.connect(socket) as own:
        job = await own.start_job(
            scenario,
            capability=Capability.EVENTS_IMPACTS_VERIFICATION,
            requirements=Requirements(deadline_s=PATIENCE_S),
        )
        async for now in own.watch_job(job.id):
            job = now
        if job.problem:
            raise NotFound(job.problem)
        return await own.report(job.id)


def borders(status: ServiceStatus, domain: str = DOMAIN) -> tuple[str, str]:
    """The inter-domain links by which a service comes into `domain` and leaves it. Raises NotFound."""
    hops = status.path.hops if status.path else ()
    place = next((number for number, hop in enumerate(hops) if hop.domain == domain), None)
    if place is None or not 0 < place < len(hops) - 1:
        raise NotFound(f"{status.service.name} does not cross {domain}; see `fedtwin services`")
    return hops[place - 1].link_id, hops[place + 1].link_id


def predicted(report: Report, phase: Phase, *, link: str, took_ms: float) -> Prediction:
    """From the domain's own report to the service's delay end to end: only that domain's part changes.

    The change of its part is added to what the twin measured in `phase`, so that what was off before is off
    as much afterwards. Raises NotFound where the flow has no figures.
    """
    flows = [flow for flow in report.flows if flow.before]
    if not flows:
        raise NotFound(f"the report of {report.job} has no figures for this service's part")
    if lost := [flow for flow in flows if flow.after is None]:
        raise NotFound(f"without {link} there is no path from {lost[0].source} to {lost[0].target}")
    old, new, low, high = _mean(flows)
    rest = phase.delay_ms - old
    return Prediction(
        link=link,
        before_ms=phase.delay_ms,
        delay_ms=rest + new,
        low_ms=rest + low,
        high_ms=rest + high,
        route=routers(flows[0]),
        rung=report.rung,
        took_ms=took_ms,
        digest=report.digest,
        assumptions=report.assumptions,
    )


def _mean(flows: Sequence[FlowForecast]) -> tuple[float, float, float, float]:
    """Mean delay before, after, and the interval of that: over the classes, by what each carries."""
    sums, total = [0.0] * 4, 0.0
    for flow in flows:
        assert flow.before
        assert flow.after
        after = flow.after.delay_ms
        weight = max(flow.before.throughput_mbps.value, 0.0) or 1e-9
        figures = (flow.before.delay_ms.value, after.value, after.low, after.high)
        sums = [one + weight * other for one, other in zip(sums, figures, strict=True)]
        total += weight
    old, new, low, high = (value / total for value in sums)
    return old, new, low, high


def routers(flow: FlowForecast) -> tuple[str, ...]:
    """The routers on the path after the change, by the names that their operator has for them."""
    inside = f"urn:ndt:{DOMAIN}:"
    met = [
        place for part in flow.path_after for place in (part.source, part.target) if place.startswith(inside)
    ]
    return tuple(dict.fromkeys(place.removeprefix(inside) for place in met))


def judge(prediction: Prediction, phase: Phase, taken: Sequence[str]) -> Verdict:
    """The prediction beside what came."""
    packets = phase.packets_delay_ms
    return Verdict(prediction, phase.delay_ms, math.nan if packets is None else packets, tuple(taken))
