"""What the twin says of a cut before it is made, and how far off that was. Owns the questions and the sums.

The link is inside transport, and nobody else can name it. So its operator notes the cut in a file of its own
agent, under a name; the broker is asked a question of that name, and every domain computes its part. The
path inside is what the operator's own agent says. Where the broker has no answer, that agent's part remains.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, TwinError
from federation.cli.forecast import reading

Z90 = 1.645

if TYPE_CHECKING:
    from pathlib import Path

    from domain_twin.model import ServiceStatus
    from domain_twin.model.job import FlowForecast, Report
    from domain_twin.model.scenario import Scenario
    from federation.cli.demo.account import Phase
    from federation.client import TwinClient

__all__ = ["Prediction", "Verdict", "compile_engine", "foresee", "judge", "none", "predicted", "warm"]

PATIENCE_S = 40.0
DOMAIN = "transport"
NAME = "maintenance-1"
"""What the question is called: the owner's note and the broker's question meet by it."""


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
    changes_ms: Mapping[str, float] = field(default_factory=dict)
    """By how much each domain's part changes; empty where only the domain itself was asked."""
    remark: str = ""
    """Why the broker has no part in it, where it has none."""
    problem: str = ""
    """Why there is no prediction; then the figures are NaN."""

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


async def foresee(
    socket: Path, broker: TwinClient, status: ServiceStatus, phase: Phase, link: str
) -> Prediction:
    """Calibrate, and ask what the service would get without `link`: its owner's agent, then the broker.

    Raises no TwinError. `socket` is the agent's; the note for the broker's question goes into its state
    folder. All agents of the demo are calibrated, or none: then the prediction says that it is not.
    """
    from federation.cli.demo.calibrating import calibrate_all

    agents = await asyncio.to_thread(lambda: sorted(socket.parents[2].glob("*/state/agent.sock")))
    await calibrate_all(agents)
    return await _foreseen(socket, broker, status, phase, link)


async def _foreseen(
    socket: Path, broker: TwinClient, status: ServiceStatus, phase: Phase, link: str
) -> Prediction:
    """Ask the owner's agent, then the broker."""
    try:
        own = await _inside(socket, status, phase, link)
    except TimeoutError:
        return none(link, f"the agent did not answer within {PATIENCE_S:.0f} s")
    except TwinError as error:
        return none(link, str(error))
    try:
        return await _across(socket.parent / "what-if", broker, status, phase, own)
    except (TwinError, OSError) as error:
        return replace(own, remark=str(error))
    except TimeoutError:
        return replace(own, remark=f"the broker did not answer within {PATIENCE_S:.0f} s")


async def _inside(socket: Path, status: ServiceStatus, phase: Phase, link: str) -> Prediction:
    """The prediction of the domain that owns the link, which sees only its own part."""
    from domain_twin.model.scenario import ElementDown, Scenario
    from federation.client import TwinClient

    scenario = Scenario(
        name="The link that the demo cuts",
        seed=1,
        changes=(ElementDown(element=link),),
        flows=(borders(status),),
    )
    began = time.monotonic()
    async with TwinClient.connect(socket) as own:
        report = await _asked(own, scenario)
    return predicted(report, phase, link=link, took_ms=(time.monotonic() - began) * 1e3)


async def _across(
    notes: Path, broker: TwinClient, status: ServiceStatus, phase: Phase, own: Prediction
) -> Prediction:
    """The prediction of all domains together; the owner's note of the cut is known to its agent alone."""
    from domain_twin.model.scenario import DemandChange, Scenario

    await asyncio.to_thread(_note, notes, own.link)
    service = status.service
    scenario = Scenario(
        name=NAME,
        seed=1,
        changes=(DemandChange(factor=1.0),),  # what the broker sees of it changes nothing
        flows=((service.source, service.target),),
    )
    began = time.monotonic()
    report = await _asked(broker, scenario)
    took_ms = (time.monotonic() - began) * 1e3
    ends = (service.source, service.target)
    flows = [flow for flow in report.flows if (flow.source, flow.target) == ends]
    together = predicted(replace(report, flows=tuple(flows)), phase, link=own.link, took_ms=took_ms)
    if not math.isfinite(together.delay_ms):
        raise NotFound(
            "; ".join(reading.troubles(report)) or "no figures for this service across the domains"
        )
    return replace(together, route=own.route, changes_ms=_changes(flows[0]))


def _note(folder: Path, link: str) -> None:
    """What the owner alone knows."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{NAME}.yaml").write_text(
        "# Known to this operator alone: added to what anybody asks under this name.\n"
        f"changes:\n  - {{kind: element-down, element: '{link}'}}\n",
        encoding="utf-8",
    )


def _changes(flow: FlowForecast) -> dict[str, float]:
    before, after = reading.shares(flow.path_before), reading.shares(flow.path_after)
    names = dict.fromkeys([*before, *after])
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in names if name}


async def compile_engine() -> None:
    """Compile the engine in a process of its own: the agents then read it from the disk."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "domain_twin.simulation.warm",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def warm(socket: Path, broker: TwinClient, status: ServiceStatus, link: str) -> None:
    """Ask once in vain, so that the engines are compiled when it counts."""
    from federation.cli.demo.account import Phase

    await _foreseen(socket, broker, status, Phase("warm", 0.0, 0, None, []), link)


async def _asked(twin: TwinClient, scenario: Scenario) -> Report:
    """The report on a scenario. Raises TimeoutError, and TwinError where there is none."""
    from domain_twin.model.job import Capability, Requirements

    async with asyncio.timeout(PATIENCE_S):
        job = await twin.start_job(
            scenario,
            capability=Capability.EVENTS_IMPACTS_VERIFICATION,
            requirements=Requirements(deadline_s=PATIENCE_S),
        )
        async for now in twin.watch_job(job.id):
            job = now
        if job.problem:
            raise NotFound(job.problem)
        return await twin.report(job.id)


def borders(status: ServiceStatus, domain: str = DOMAIN) -> tuple[str, str]:
    """The inter-domain links by which a service comes into `domain` and leaves it. Raises NotFound."""
    hops = status.path.hops if status.path else ()
    place = next((number for number, hop in enumerate(hops) if hop.domain == domain), None)
    if place is None or not 0 < place < len(hops) - 1:
        raise NotFound(f"{status.service.name} does not cross {domain}; see `fedtwin services`")
    return hops[place - 1].link_id, hops[place + 1].link_id


def predicted(report: Report, phase: Phase, *, link: str, took_ms: float) -> Prediction:
    """From a report to the service's delay end to end, which the twin measured in `phase`.

    The change that the report predicts is added to that: what its figures are off before the cut, they are
    off after it. Its interval is that of a mean over as many packets as `phase` timed, from a figure that
    was as noisy. Raises NotFound where the flow has no figures.
    """
    flows = [flow for flow in report.flows if flow.before]
    if not flows:
        raise NotFound(f"the report of {report.job} has no figures for this service's part")
    if lost := [flow for flow in flows if flow.after is None]:
        raise NotFound(f"without {link} there is no path from {lost[0].source} to {lost[0].target}")
    old, new, half, variance = _mean(flows)
    rest = phase.delay_ms - old
    noise = variance / phase.packets + (phase.packets_std_error_ms or 0.0) ** 2 if phase.packets else 0.0
    half = math.sqrt(half**2 + Z90**2 * noise)
    return Prediction(
        link=link,
        before_ms=phase.delay_ms,
        delay_ms=rest + new,
        low_ms=rest + new - half,
        high_ms=rest + new + half,
        route=routers(flows[0]),
        rung=report.rung,
        took_ms=took_ms,
        digest=report.digest,
        assumptions=report.assumptions,
    )


def _mean(flows: Sequence[FlowForecast]) -> tuple[float, float, float, float]:
    """Mean delay before and after, half its interval, its variance: over classes, by what each carries."""
    sums, total = [0.0] * 4, 0.0
    for flow in flows:
        assert flow.before
        assert flow.after
        after = flow.after.delay_ms
        weight = max(flow.before.throughput_mbps.value, 0.0) or 1e-9
        spread = flow.after.delay_variance_ms2.value
        figures = (flow.before.delay_ms.value, after.value, after.high - after.value, spread)
        sums = [one + weight * other for one, other in zip(sums, figures, strict=True)]
        total += weight
    old, new, half, variance = (value / total for value in sums)
    return old, new, half, variance


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
