"""Each operator fits its agent to its own history, as `fedtwin calibrate` does. Owns that all do, or none.

A process of its own: a fit would hold up the demo's watchers. `python -m federation.cli.demo.calibrating
SOCKET…` ends with 0 when all are calibrated; else its last words say why none is.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.errors import TwinError

if TYPE_CHECKING:
    from domain_twin.simulation.twin.calibration import Calibration

__all__ = ["calibrate_all"]

PATIENCE_S = 5.0  # what the act may take longer for it; on a busy machine it predicts uncalibrated
_WINDOW_NS = 3_600_000_000_000


async def calibrate_all(sockets: Sequence[Path]) -> str:
    """Calibrate these agents, in another process; returns why none was, empty: all were."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        *map(str, sockets),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return f"not done within {PATIENCE_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return "" if process.returncode == 0 else said.decode(errors="replace").strip() or "the fit failed"


async def _calibrated(sockets: Sequence[Path]) -> None:
    """Fit all, then write all: a service that crosses all is not foreseen by halves. Raises TwinError."""
    from domain_twin.simulation.twin.calibration import save
    from federation.cli.calibrate import FILE, fitted
    from federation.cli.recorded import Recorded

    end = time.time_ns()
    places = [Recorded.at(str(socket), "calibrate") for socket in sockets]
    found: list[Calibration] = await asyncio.gather(
        *(fitted(place, end - _WINDOW_NS, end) for place in places)
    )
    for place, calibration in zip(places, found, strict=True):
        save(calibration, place.state / FILE)


if __name__ == "__main__":
    try:
        asyncio.run(_calibrated([Path(place) for place in sys.argv[1:]]))
    except (TwinError, OSError) as error:
        sys.stdout.write(str(error))
        sys.exit(1)
