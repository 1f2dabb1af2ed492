"""An emulated domain and its agent, as processes: what the agent's tests start, ask, break and stop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from domain_twin.config import load_agent
from domain_twin.errors import Unreachable
from domain_twin.model import Connection, DeviceStatus
from federation.client import TwinClient

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
NETWORK = (
    'state = "devices"\ngnbs = 2\ncells_per_gnb = 1\nhosts = 2\nconvergence_ms = 100\ninterval_ms = 500\n'
)
AGENT = """
domain = "{domain}"
operator = "{domain}.example"
state = "state"
inventory = ["devices/devices.{domain}.toml"]
"""


class Process:
    """A process whose output goes to a file."""

    def __init__(self, log: Path, *command: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; returns the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(30)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError(f"it did not end:\n{self.log.read_text()}") from None
        return self.popen.returncode


class Domain:
    """One emulated domain with its agent."""

    def __init__(self, folder: Path, domain: str, extra: str = "") -> None:
        self.folder, self.domain = folder, domain
        self.agent: Process | None = None
        (folder / "network.toml").write_text(f'{NETWORK}domains = ["{domain}"]\n')
        (folder / "agent.toml").write_text(AGENT.format(domain=domain) + extra)
        self.emulator = Process(folder / "emulator.log", "domain_twin.emulator", str(folder / "network.toml"))

    async def emulated(self) -> None:
        """Wait for the devices."""
        inventory = self.folder / "devices" / f"devices.{self.domain}.toml"
        await eventually(lambda: ready(inventory.exists()), what=str(inventory))

    def start_agent(self) -> None:
        """Start the agent."""
        config = self.folder / "agent.toml"
        self.agent = Process(self.folder / "agent.log", "federation.cli", "agent", str(config))

    def twin(self) -> TwinClient:
        """A client of the agent's own face."""
        return TwinClient.connect(load_agent(self.folder / "agent.toml").state / "agent.sock")

    async def synchronised(self) -> list[DeviceStatus]:
        """Wait until every device is mirrored; their statuses."""

        async def statuses() -> list[DeviceStatus] | None:
            try:
                async with self.twin() as twin:
                    found = await twin.devices()
            except (Unreachable, LookupError):
                return None
            good = found and all(item.connection is Connection.SYNCHRONISED for item in found)
            return found if good else None

        return await eventually(statuses, what=f"devices of {self.domain} in step")

    def end(self) -> None:
        """Stop everything."""
        if self.agent:
            self.agent.end(signal.SIGKILL)
        self.emulator.end(signal.SIGKILL)


async def ready(value: bool) -> bool | None:
    return value or None


async def eventually(question: Callable[[], Awaitable[T | None]], *, what: str, within_s: float = 60) -> T:
    """The first answer that is not None. Fails when none comes in time."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                if (answer := await question()) is not None:
                    return answer
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"within {within_s:g} s there was no {what}") from None
