"""How long a change takes: device, agent's live state, composed view at a watcher. Over real processes.

Starts the demo's networks, agents and broker (`fedtwin demo --keep --quick`), sets `enabled` of a router's
interface off and on by NETCONF, and takes three times on one machine's clock: the device's own timestamp of
the change, the moment a watcher at the agent's socket has it, and the moment a watcher at the broker has the
view that holds it. Prints one JSON object. `--quick` makes 10 changes instead of 60.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from domain_twin.config import load_agent
from domain_twin.model import Event, EventKind
from federation.cli.demo.change import set_enabled
from federation.client import TwinClient

DEVICE, INTERFACE = "lodz", "eth0"
SUBTREE = f"{DEVICE}: /ietf-interfaces:interfaces/interface[name='{INTERFACE}']/"
SETTLE_S = 1.3  # longer than a measuring interval, and not a multiple of it: changes fall anywhere within
WITHIN_S = 10.0
AIMS = {"agent_p50_ms": 10.0, "agent_p95_ms": 50.0, "watcher_p95_ms": 100.0}


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, and when it was here."""

    event: Event
    at: int


class Arrivals:
    """What one watcher saw, searchable while more comes in."""

    def __init__(self) -> None:
        self.all: list[Arrival] = []
        self._news = asyncio.Condition()

    async def follow(self, twin: TwinClient, kinds: list[EventKind]) -> None:
        """Collect until cancelled."""
        async for event in twin.watch(kinds=kinds):
            async with self._news:
                self.all.append(Arrival(event, time.time_ns()))
                self._news.notify_all()

    async def first(self, start: int, wanted: Callable[[Event], bool]) -> Arrival:
        """The first wanted arrival from index `start` on."""
        async with asyncio.timeout(WITHIN_S), self._news:
            while True:
                for arrival in self.all[start:]:
                    if wanted(arrival.event):
                        return arrival
                await self._news.wait()


def demo(*options: str) -> None:
    """Run `fedtwin demo` with these options; raises when it fails."""
    subprocess.run(
        [sys.executable, "-m", "federation.cli", "demo", *options], check=True, stdout=subprocess.DEVNULL
    )


@asynccontextmanager
async def running(folder: Path, account: Path) -> AsyncIterator[None]:
    """The demo's processes, as long as the block lasts."""
    await asyncio.to_thread(demo, "--keep", "--quick", "--folder", str(folder), "--json", str(account))
    try:
        yield
    finally:
        await asyncio.to_thread(demo, "--stop", "--folder", str(folder))


async def measure(folder: Path, changes: int) -> tuple[list[float], list[float]]:
    """Times in ms from the device's timestamp to the agent's watcher and to the broker's, one per change."""
    config = load_agent(folder / "transport" / "agent.toml")
    device = next(d for d in config.device if d.name == DEVICE)
    agent, broker = Arrivals(), Arrivals()
    to_agent: list[float] = []
    to_watcher: list[float] = []
    async with (
        TwinClient.connect(config.state / "agent.sock") as own,
        TwinClient.connect(folder / "client.toml") as composed,
        asyncio.TaskGroup() as tasks,
    ):
        followers = [
            tasks.create_task(agent.follow(own, [EventKind.CHANGE])),
            tasks.create_task(broker.follow(composed, [EventKind.VIEW])),
        ]
        await asyncio.sleep(SETTLE_S)
        for number in range(changes):
            starts = len(agent.all), len(broker.all)
            await asyncio.to_thread(set_enabled, device, INTERFACE, bool(number % 2))
            change = await agent.first(starts[0], is_about_the_interface)
            view = await broker.first(starts[1], partial(is_view_since, change.event.observed_at))
            to_agent.append((change.at - change.event.observed_at) / 1e6)
            to_watcher.append((view.at - change.event.observed_at) / 1e6)
            await asyncio.sleep(SETTLE_S)
        for follower in followers:
            follower.cancel()
    return to_agent, to_watcher


def is_about_the_interface(event: Event) -> bool:
    """Whether an agent's event says that the interface's state changed, and not only its counters."""
    return event.text.startswith(SUBTREE) and not event.text.startswith(f"{SUBTREE}statistics/")


def is_view_since(observed_at: int, event: Event) -> bool:
    """Whether a broker's event says that a view holds what was observed then."""
    return event.domain == "transport" and event.observed_at >= observed_at


def spread(times: list[float]) -> dict[str, float]:
    """p50, p95 and the longest, in ms."""
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return {"p50_ms": round(cuts[9], 2), "p95_ms": round(cuts[18], 2), "max_ms": round(max(times), 2)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 changes instead of 60")
    changes = 10 if parser.parse_args().quick else 60
    with tempfile.TemporaryDirectory(prefix="fedtwin-") as name:
        folder, account = Path(name) / "run", Path(name) / "account.json"

        async def run() -> tuple[list[float], list[float]]:
            async with running(folder, account):
                return await measure(folder, changes)

        to_agent, to_watcher = asyncio.run(run())
        story = json.loads(account.read_text(encoding="utf-8"))
    print(
        json.dumps(
            {
                "benchmark": "chain",
                "changes": changes,
                "device_to_agent": spread(to_agent),
                "device_to_watcher": spread(to_watcher),
                "start_to_first_view_s": story.get("first_view_s"),
                "aims": AIMS,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
