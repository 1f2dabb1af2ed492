"""Hundreds of devices on one agent: CPU, memory, threads and time to be in step, and how they grow.

A farm process of light devices (`domain_twin.emulator.farm`: real SSH and gNMI servers, no packets) and a
real `fedtwin agent` that mirrors them, for several numbers of devices and mixes of protocols. Every device
reports 16 counters a second, so that the load grows with the devices; before that nothing at all, for what
idle sessions cost. The rival in the same run is the same agent with ncclient, the thread-bound session that
ours replaces. Prints JSON.

    python benchmarks/many_devices.py [--quick] [--sizes 50,200,500] [--mixes mixed,netconf,gnmi]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from domain_twin.errors import TwinError
from domain_twin.model import Connection, DeviceStatus
from federation.client import TwinClient

COUNTERS = 16  # of each farm device
WITHIN_S = 300.0
AIMS = {"threads_grow_with_devices": False, "all_in_step": True}


@dataclass(frozen=True, slots=True)
class Run:
    """What one agent with so many devices needed."""

    mix: str
    client: str
    devices: int
    in_step_s: float  # from the start of the agent's process until every device is synchronised
    threads: int
    rss_mb: float  # the agent's process
    validator_rss_mb: float  # its child, which validates trees
    idle_cpu: float  # share of a core while nothing changes
    updates_per_s: float  # that arrived
    cpu: float  # share of a core under that load
    cpu_s_per_1000_updates: float
    farm_cpu: float


class Farm:
    """The devices' process, spoken to by lines of JSON."""

    def __init__(self, folder: Path, *, netconf: int, gnmi: int) -> None:
        arguments = ["--netconf", str(netconf), "--gnmi", str(gnmi)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "domain_twin.emulator.farm", str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.inventory = Path(self._answer()["inventory"])

    def pace(self, updates_per_s: float) -> dict[str, Any]:
        """Set how many updates a second all devices make together."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"updates_per_s": updates_per_s}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the farm ended; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def farm_of(folder: Path, *, netconf: int, gnmi: int) -> Iterator[Farm]:
    """A farm for as long as the block lasts."""
    farm = Farm(folder, netconf=netconf, gnmi=gnmi)
    try:
        yield farm
    finally:
        farm.stop()


@contextmanager
def agent_of(folder: Path, inventory: Path) -> Iterator[tuple[psutil.Process, Path]]:
    """A real agent of that inventory; its process and its socket."""
    config = folder / "agent.toml"
    config.write_text(
        'domain = "transport"\noperator = "longhaul.example"\nstate = "agent"\n'
        f'inventory = ["{inventory}"]\n',
        encoding="utf-8",
    )
    log = (folder / "agent.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "federation.cli", "agent", str(config)], stdout=log, stderr=log
    )
    try:
        yield psutil.Process(process.pid), folder / "agent" / "agent.sock"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


async def statuses(socket: Path) -> list[DeviceStatus]:
    """How the agent mirrors its devices; none before it serves."""
    try:
        async with TwinClient.connect(socket, timeout_s=60) as twin:
            return await twin.devices()
    except (TwinError, OSError):
        return []


async def received(socket: Path) -> int:
    """How many updates the agent has had. Raises where it does not say: no figure beats a wrong one."""
    async with TwinClient.connect(socket, timeout_s=60) as twin:
        return sum(status.updates for status in await twin.devices())


async def in_step(agent: psutil.Process, socket: Path, count: int) -> None:
    """Return when every device is synchronised. Raises RuntimeError where the agent has ended."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if agent.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError((socket.parents[1] / "agent.log").read_text(encoding="utf-8"))
            held = await statuses(socket)
            if sum(status.connection is Connection.SYNCHRONISED for status in held) == count:
                return
            await asyncio.sleep(0.25)


def cpu_s(process: psutil.Process) -> float:
    """CPU time of a process so far, seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rss_mb(process: psutil.Process) -> float:
    """Resident memory of a process, MB."""
    return float(round(process.memory_info().rss / 1e6, 1))


async def measure(folder: Path, *, mix: str, client: str, devices: int, seconds: float) -> Run:
    """One farm, one agent."""
    netconf = {"netconf": devices, "gnmi": 0, "mixed": devices // 2}[mix]
    with farm_of(folder, netconf=netconf, gnmi=devices - netconf) as farm:
        text = farm.inventory.read_text(encoding="utf-8")
        farm.inventory.write_text(
            text.replace("[device.netconf]\n", f'[device.netconf]\nclient = "{client}"\n'), encoding="utf-8"
        )
        started = time.monotonic()
        with agent_of(folder, farm.inventory) as (agent, socket):
            await in_step(agent, socket, devices)
            took = time.monotonic() - started
            await settle(agent)
            idle_from, then = cpu_s(agent), time.monotonic()
            await asyncio.sleep(seconds / 2)
            idle = (cpu_s(agent) - idle_from) / (time.monotonic() - then)
            farm.pace(devices * COUNTERS)
            await asyncio.sleep(3)
            figures = farm.pace(devices * COUNTERS)
            arrived = await received(socket)
            busy_from, then = cpu_s(agent), time.monotonic()
            await asyncio.sleep(seconds)
            busy, span = cpu_s(agent) - busy_from, time.monotonic() - then
            more = await received(socket) - arrived
            farm_s = farm.pace(0)["cpu_s"] - figures["cpu_s"]
            children = agent.children(recursive=True)
            run = Run(
                mix=mix,
                client=client,
                devices=devices,
                in_step_s=round(took, 2),
                threads=agent.num_threads(),
                rss_mb=rss_mb(agent),
                validator_rss_mb=sum(rss_mb(child) for child in children),
                idle_cpu=round(idle, 4),
                updates_per_s=round(more / span),
                cpu=round(busy / span, 3),
                cpu_s_per_1000_updates=round(busy / max(more, 1) * 1000, 4),
                farm_cpu=round(farm_s / span, 3),
            )
            await asyncio.sleep(0)
    sys.stderr.write(json.dumps(asdict(run)) + "\n")
    return run


async def settle(agent: psutil.Process) -> None:
    """Wait until what a start brings (validation, history) is over."""
    for _ in range(60):
        before = cpu_s(agent) + sum(cpu_s(child) for child in agent.children(recursive=True))
        await asyncio.sleep(2)
        after = cpu_s(agent) + sum(cpu_s(child) for child in agent.children(recursive=True))
        if after - before < 0.8:
            return


def growth(runs: list[Run]) -> dict[str, Any]:
    """Per device, from the smallest to the largest run of each mix."""
    out: dict[str, Any] = {}
    for mix in dict.fromkeys(run.mix for run in runs):
        some = sorted((run for run in runs if run.mix == mix), key=lambda run: run.devices)
        if len(some) < 2:
            continue
        first, last = some[0], some[-1]
        more = last.devices - first.devices
        out[mix] = {
            "rss_kb_per_device": round((last.rss_mb - first.rss_mb) * 1000 / more, 1),
            "threads_per_device": round((last.threads - first.threads) / more, 3),
            "in_step_ms_per_device": round((last.in_step_s - first.in_step_s) * 1000 / more, 1),
            "idle_cpu_per_1000_devices": round((last.idle_cpu - first.idle_cpu) * 1000 / more, 3),
        }
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 and 40 devices, half and half, 5 s")
    parser.add_argument("--sizes", default="50,200,500", help="numbers of devices")
    parser.add_argument("--mixes", default="mixed,netconf,gnmi", help="mixed: half NETCONF, half gNMI")
    parser.add_argument("--rival", type=int, default=50, help="devices for ncclient; 0: leave it out")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.sizes, chosen.mixes, chosen.rival, chosen.seconds = "10,40", "mixed", 10, 5.0
    sizes = [int(text) for text in chosen.sizes.split(",")]
    plan = [(mix, "asyncssh", size) for mix in chosen.mixes.split(",") for size in sizes]
    if chosen.rival:
        plan += [("netconf", client, chosen.rival) for client in ("asyncssh", "ncclient")]
    runs: list[Run] = []
    for mix, client, size in plan:
        if (mix, client, size) in [(run.mix, run.client, run.devices) for run in runs]:
            continue
        with tempfile.TemporaryDirectory(prefix="fedtwin-") as name:
            run = measure(Path(name), mix=mix, client=client, devices=size, seconds=chosen.seconds)
            runs.append(asyncio.run(run))
    ours = [run for run in runs if run.client == "asyncssh"]
    result = {
        "benchmark": "many_devices",
        "cores": os.cpu_count(),
        "runs": [asdict(run) for run in runs],
        "growth": growth([run for run in ours if run.devices in sizes]),
        "rival": compare(runs, chosen.rival),
        "aims": AIMS,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def compare(runs: list[Run], devices: int) -> dict[str, Any]:
    """ncclient's figures over ours at the same number of NETCONF devices."""
    found = {run.client: run for run in runs if (run.mix, run.devices) == ("netconf", devices)}
    if len(found) < 2:
        return {}
    ours, theirs = found["asyncssh"], found["ncclient"]
    return {
        "devices": devices,
        "threads": [ours.threads, theirs.threads],
        "rss_mb": [ours.rss_mb, theirs.rss_mb],
        "in_step_s": [ours.in_step_s, theirs.in_step_s],
        "idle_cpu": [ours.idle_cpu, theirs.idle_cpu],
        "cpu_s_per_1000_updates": [ours.cpu_s_per_1000_updates, theirs.cpu_s_per_1000_updates],
    }


if __name__ == "__main__":
    main()
