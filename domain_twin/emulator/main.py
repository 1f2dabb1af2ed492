"""The emulator process: settings in, a running network until a signal. Owns the process's life."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from domain_twin.emulator.network import NetworkSpec, load_network

__all__ = ["Running", "emulate", "run_emulator"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """What `ready` is told: where to find everything."""

    spec: NetworkSpec
    socket: Path
    inventories: tuple[Path, ...]
    devices: int


def run_emulator(config: Path, *, ready: Callable[[Running], None] | None = None) -> None:
    """Emulate the network of a file until a signal or `shutdown`. Raises ConfigError before anything runs.

    `ready` is called once, when every server listens and the inventories are written.
    """
    asyncio.run(emulate(load_network(config), ready=ready))


async def emulate(
    spec: NetworkSpec,
    *,
    ready: Callable[[Running], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Emulate a network until SIGINT, SIGTERM or `shutdown`; leaves no socket, server or thread behind."""
    from domain_twin.emulator.control import SOCKET, claim

    await claim(spec.state / SOCKET)  # before seconds of loading and building
    from domain_twin.emulator.emulation import Emulation
    from domain_twin.emulator.metrics import EmulatorMetrics
    from domain_twin.operations.endpoint import serve_metrics

    emulation = Emulation(spec)

    def stop() -> None:
        if stopping is not None:
            stopping()
        emulation.ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        inventories = await emulation.start()
        log.info("emulating", extra={"devices": len(emulation.servers), "socket": str(emulation.socket)})
        async with serve_metrics(spec.metrics, EmulatorMetrics(emulation).face, spec.state):
            if ready is not None:
                ready(Running(spec, emulation.socket, tuple(inventories), len(emulation.servers)))
            await emulation.ended.wait()
    finally:
        await emulation.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if emulation.pacer.failure is not None:
        raise emulation.pacer.failure
