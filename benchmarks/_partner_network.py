"""Four operators' processes, a broker and its service APIs, for benchmarks of what partners do.

The configuration is the demo's with a small emulated network: real agents over real NETCONF and gNMI, the
broker over mTLS, the api over HTTP. Owns starting, killing and starting again; asks nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from federation.cli.demo import files as demo
from federation.cli.demo.supervisor import Process, Supervisor, last_words
from federation.client import TwinClient
from twin_api.client import PartnerClient
from twin_api.client.errors import ApiError

__all__ = ["DOMAINS", "PartnerNetwork", "partner_network"]

DOMAINS = tuple(operator.domain for operator in demo.OPERATORS)
START_S = 240.0
NETWORK = """\
seed = 1
state = "emulator"
gnbs = 2
cells_per_gnb = 2
hosts = 2
topology = "topozoo/Arpanet196912"
interval_ms = 1000

[metrics]
listen = "127.0.0.1:0"

[traffic]
cell_mbps = 20
downlink_mbps = 4
background_mbps = 200
probe_pps = 10
"""
PUBLISHED: Mapping[str, Mapping[str, str]] = {
    "ran": {f"cell-{n + 1}": f"urn:ndt:ran:gnb-{n // 2 + 1}:cell-{n % 2 + 1}" for n in range(4)},
    "transport": {},
    "core": {f"upf-{n}": f"urn:ndt:core:upf-{n}" for n in (1, 2)},
    "edge": {f"host-{n}": f"urn:ndt:edge:host-{n}" for n in (1, 2)},
}
POINTS = ("ran/cell-1", "ran/cell-3", "edge/host-1")


class PartnerNetwork:
    """The processes. Everything lies in `files`."""

    def __init__(self, folder: Path, quota: str, domains: Sequence[str] = DOMAINS) -> None:
        """`domains` are those whose agents are started."""
        self.folder = folder
        self.domains = tuple(domains)
        self.supervisor = Supervisor(folder / "logs")
        self.processes: dict[str, Process] = {}
        self.files = demo.write_all(folder, seed=1)
        self._reduce(quota)

    def _reduce(self, quota: str) -> None:
        """Fewer devices than the demo has, and quotas that a benchmark needs."""
        self.files.network.write_text(NETWORK, encoding="utf-8")
        for domain in DOMAINS:
            path = self.files.agent(domain)
            text = path.read_text(encoding="utf-8").partition("# What peers may name")[0]
            text += "\n".join(
                f'[[publish]]\nelement = "{element}"\nalias = "{alias}"\n'
                for alias, element in PUBLISHED[domain].items()
            )
            path.write_text(text, encoding="utf-8")
        self.files.services.write_text('{"fedtwin-service:service-records": {}}\n', encoding="utf-8")
        broker = self.files.broker.read_text(encoding="utf-8")
        head, mark, partners = broker.partition("[[partner]]")
        quoted = "".join(
            f"{mark}{part.rstrip()}\n\n[partner.quota]\n{quota}\n\n" for part in _parts(partners)
        )
        events = '[events]\nallow_networks = ["127.0.0.0/8"]\n'  # no callback leads out of this machine
        self.files.broker.write_text(head + quoted + events, encoding="utf-8")

    async def start(self, name: str) -> None:
        """Start a process and wait until it serves."""
        kind = name.partition("-")[0]
        arguments = {
            "emulator": ["emulate", str(self.files.network)],
            "broker": ["broker", str(self.files.broker)],
            "api": ["api", str(self.files.api)],
            "agent": ["agent", str(self.files.agent(name.removeprefix("agent-")))],
        }[kind]
        process = await self.supervisor.start(name, arguments)
        self.processes[name] = process
        await self.supervisor.ready(process, START_S)

    async def start_all(self) -> None:
        """Start everything, and wait until all domains have joined and the APIs answer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._start_exchange())
            tasks.create_task(self._start_domains())
        async with asyncio.timeout(START_S), TwinClient.connect(self.files.client) as twin:
            while True:
                with suppress(ConnectionError):
                    joined = [each for each in await twin.domains() if each.connected and each.points]
                    if len(joined) == len(self.domains):
                        break
                await asyncio.sleep(0.2)
        await self.answering()

    async def _start_exchange(self) -> None:
        await self.start("broker")
        await self.start("api")

    async def _start_domains(self) -> None:
        await self.start("emulator")
        async with asyncio.TaskGroup() as tasks:
            for domain in self.domains:
                tasks.create_task(self.start(f"agent-{domain}"))

    async def kill(self, name: str) -> None:
        """SIGKILL, without a warning, and wait for the end."""
        process = self.processes.pop(name)
        process.excused = True
        with suppress(ProcessLookupError):
            os.killpg(process.child.pid, signal.SIGKILL)
        await process.child.wait()
        process.line.close()
        self.supervisor.processes.remove(process)

    async def answering(self, partner: str = "acme") -> None:
        """Wait until the APIs show the catalogue. Raises TimeoutError."""
        async with asyncio.timeout(START_S), self.client(partner) as client:
            while True:
                with suppress(ApiError, LookupError):
                    await client.specification("NdtTwin")
                    return
                await asyncio.sleep(0.1)

    def client(self, partner: str = "acme", *, timeout_s: float = 30.0) -> PartnerClient:
        """A partner's client."""
        return PartnerClient.connect(self.files.partner(partner), timeout_s=timeout_s)

    def cpu_s(self, name: str) -> float:
        """CPU seconds that a process has taken."""
        times = psutil.Process(self.processes[name].child.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mb(self, name: str) -> float:
        """Resident memory of a process, MB."""
        return float(psutil.Process(self.processes[name].child.pid).memory_info().rss / 1e6)

    def words(self, name: str) -> str:
        """The end of a process's log."""
        return last_words(self.files.logs / f"{name}.log", 12)


def _parts(partners: str) -> list[str]:
    return [part for part in partners.split("[[partner]]") if part.strip()]


@asynccontextmanager
async def partner_network(
    *,
    quota: str = "twins = 500\nruns = 100\ncpu_s_per_day = 1e6\nrecords = 100000",
    domains: Sequence[str] = DOMAINS,
) -> AsyncIterator[PartnerNetwork]:
    """All of it, in a folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="ft-", ignore_cleanup_errors=True) as place:
        network = PartnerNetwork(Path(place), quota, domains)
        try:
            await network.start_all()
            yield network
        finally:
            await network.supervisor.stop()
