"""What became of the service's own packets, asked of the emulated network. The twin has no part in this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_UNDER_WAY_NS = 60_000_000  # packets younger than this may not have arrived yet


@dataclass(frozen=True, slots=True)
class Counted:
    """Packets of one flow that were born in a span of time; delays in ms, `parts_ms` by domain."""

    packets: int
    lost: int
    delay_ms: float | None
    std_error_ms: float | None
    parts_ms: Mapping[str, float]


class PacketTruth:
    """The packet log of one flow, behind the emulator's control socket."""

    def __init__(self, emulator: Path, flow: str) -> None:
        self._socket = emulator / "control.sock"
        self._flow = flow

    async def between(self, start: int, end: int) -> Counted:
        """Packets born between two times; waits until the last of them have arrived. Raises Unreachable."""
        from domain_twin.emulator.control import EmulatorControl

        await asyncio.sleep(max(0.0, (end + _UNDER_WAY_NS - time.time_ns()) / 1e9))
        async with EmulatorControl(self._socket) as control:
            truth = await control.truth(self._flow, since_ns=start, until_ns=end)
        return Counted(
            packets=truth["count"],
            lost=truth["lost"],
            delay_ms=truth["mean_ms"],
            std_error_ms=truth["std_error_ms"],
            parts_ms=truth["parts_ms"],
        )
