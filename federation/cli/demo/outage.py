"""A process dies in the middle of everything: kill, notice, restart, and what was the same afterwards."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.model.network import Counters
from federation.cli.demo.files import SERVICE
from federation.cli.demo.phase import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from domain_twin.model import Alarm, Element, Event, Outcome
    from federation.cli.demo.supervisor import Process
    from federation.cli.demo.watcher import Watcher
    from federation.client import TwinClient

NEWS_S = 30.0
DOMAIN = "transport"
_COUNTED = frozenset(name.replace("_", "-") for name in Counters.__slots__)


@dataclass(frozen=True, slots=True)
class Outage:
    """One process killed and started again, and when a watcher of the composed twin knew what."""

    process: str
    killed_at: int
    lost_at: int  # the domain counts as lost
    stale_at: int  # the service's answer says so
    started_at: int
    back_at: int  # the domain is connected
    whole_at: int  # the service is answered from current figures again
    values: int  # leaves that the agent holds afterwards
    same: bool  # its network is what it was before
    alarm: Alarm  # the broker's, raised and cleared


async def suffer(
    twin: TwinClient,
    watcher: Watcher,
    process: Process,
    socket: Path,
    restart: Callable[[], Awaitable[None]],
) -> Outage:
    """Kill the transport agent, start it again, and wait until everything is as it was. Raises TwinError."""
    from federation.client import TwinClient as Client

    async with Client.connect(socket) as own:
        before = structure(await own.elements())
    killed = time.time_ns()
    process.kill(signal.SIGKILL)

    async def news(wanted: Callable[[Event], bool], since: int, what: str) -> int:
        return (await watcher.first(wanted, since=since, timeout_s=NEWS_S, what=what)).at

    lost_at = await news(lambda event: connected(event) is False, killed, f"the loss of {DOMAIN}")
    stale_at = await news(lambda event: outcome(event) == "stale", killed, "the stale answer")
    started = time.time_ns()
    await restart()
    back_at = await news(lambda event: connected(event) is True, started, f"the return of {DOMAIN}")
    whole_at = await news(lambda event: outcome(event) == "ok" and met(event), back_at, "the service")
    async with Client.connect(socket) as own:

        async def same() -> bool | None:
            return structure(await own.elements()) == before or None

        is_same = await until(same, NEWS_S, "the same network as before")
        values = sum(device.leaves for device in await own.devices())
    return Outage(
        process.name,
        killed,
        lost_at,
        stale_at,
        started,
        back_at,
        whole_at,
        values,
        is_same,
        await _alarm(twin, killed),
    )


async def _alarm(twin: TwinClient, since: int) -> Alarm:
    """The broker's alarm of the loss, once it is over."""

    async def over() -> Alarm | None:
        for alarm in await twin.alarms(DOMAIN, everything=True):
            if alarm.key.qualifier == "domain.lost" and alarm.is_cleared and alarm.raised_at >= since:
                return alarm
        return None

    return await until(over, NEWS_S, "the end of the alarm")


def structure(elements: list[Element]) -> dict[str, tuple[object, ...]]:
    """What a network is made of, without the figures that change all the time."""
    return {
        each.id: (
            each.kind,
            each.up,
            each.stale,
            tuple(sorted(item for item in each.attributes.items() if item[0] not in _COUNTED)),
        )
        for each in elements
    }


def connected(event: Event) -> bool | None:
    """What an event says of the domain's session; None: nothing."""
    status = event.domain_status
    return status.connected if status and status.domain == DOMAIN else None


def outcome(event: Event) -> Outcome | None:
    """How the domain answered for the service; None: the event is about something else."""
    status = event.service_status
    if status is None or status.service.id != SERVICE:
        return None
    return next((each.outcome for each in status.domains if each.domain == DOMAIN), None)


def met(event: Event) -> bool:
    """Whether the service's delay is known."""
    return bool(event.service_status and event.service_status.met is not None)
