"""One look at the service: what the twin says for some seconds, and what its packets met meanwhile."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from domain_twin.errors import TwinError, Unreachable
from federation.cli.demo.account import Phase
from federation.cli.demo.files import SERVICE, SERVICE_FLOW
from federation.cli.demo.truth import PacketTruth

if TYPE_CHECKING:
    from domain_twin.model import ServiceStatus
    from federation.client import TwinClient

T = TypeVar("T")
_POLL_S = 0.05


async def look(twin: TwinClient, emulator: Path, name: str, seconds: float) -> tuple[ServiceStatus, Phase]:
    """Let packets flow for `seconds`; then ask the twin's history and count the packets of that time.

    Raises Unreachable when the service has no measured path.
    """
    start = time.time_ns()
    await asyncio.sleep(seconds)
    end = time.time_ns()
    counted = await PacketTruth(emulator, SERVICE_FLOW).between(start, end)
    statuses, _ = await twin.service_history(SERVICE, start, end)
    now = (await twin.services(SERVICE)).statuses[0]
    told = [each for each in [*statuses, now] if each.path and math.isfinite(each.path.total.delay_ms)]
    if not told or now.path is None:
        raise Unreachable(f"{now.service.name} has no measured path; `fedtwin findings` says what is missing")
    delays = [each.path.total.delay_ms for each in told if each.path]
    return now, Phase(
        name=name,
        delay_ms=sum(delays) / len(delays),
        metric=now.path.total.metric,
        met=now.met,
        budget=mean_budget(told),
        statuses=len(told),
        packets=counted.packets,
        packets_delay_ms=counted.delay_ms,
        packets_std_error_ms=counted.std_error_ms,
        packets_lost=counted.lost,
        packets_parts_ms=dict(counted.parts_ms),
    )


def mean_budget(statuses: Sequence[ServiceStatus]) -> list[dict[str, Any]]:
    """Each domain's latest share, and the mean of what it used over all statuses."""
    used: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, float] = {}
    for status in statuses:
        for share in status.budget:
            shares[share.domain] = share.share_ms
            if math.isfinite(share.used_ms):
                used[share.domain].append(share.used_ms)
    return [
        {"domain": domain, "share_ms": shares[domain], "used_ms": sum(values) / len(values)}
        for domain, values in used.items()
    ]


async def until(ask: Callable[[], Awaitable[T | None]], timeout_s: float, what: str) -> T:
    """Ask again and again until there is an answer. Raises Unreachable naming `what` after `timeout_s`."""
    trouble = ""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    answer = await ask()
                except TwinError as error:
                    answer, trouble = None, f" ({error})"
                if answer is not None:
                    return answer
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise Unreachable(f"no {what} within {timeout_s:.0f} s{trouble}; see the logs of the demo") from error
