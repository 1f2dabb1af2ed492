"""The network under test: emulator, four agents, broker as processes, every connection through a proxy.

Owns processes and proxies: how they are started, killed and started again. The configuration is that of
`fedtwin demo`, with fewer devices and shorter heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

import psutil
from fault_proxy import Proxy

from domain_twin.config import DeviceConfig, load_agent
from domain_twin.emulator.control import EmulatorControl
from domain_twin.errors import TwinError
from federation.cli.demo import files as demo
from federation.cli.demo.files import DemoFiles, free_port
from federation.cli.demo.supervisor import Process, Supervisor, last_words
from federation.client import TwinClient

T = TypeVar("T")

DOMAINS = tuple(operator.domain for operator in demo.OPERATORS)
HEARTBEAT_S = 1.0  # of sessions to devices: a silent one is lost after two
BROKER_HEARTBEAT_S, BROKER_DEAD_S = 0.6, 2.0
START_S = 90.0
_ONE_QUESTION_S = 30.0
NETWORK = """\
seed = {seed}
state = "emulator"
gnbs = 2
cells_per_gnb = 1
hosts = 2
topology = "topozoo/Arpanet196912"
convergence_ms = 100
interval_ms = 1000

[traffic]
cell_mbps = 20
downlink_mbps = 4
background_mbps = 200
probe_pps = 10
"""
_CLOCK = """\
# A clock that can be set: a process started with FILE.toml reads its offset in seconds from FILE.toml.clock.
import mmap, os, struct, sys, time

for name in sys.orig_argv:
    if name.endswith(".toml") and os.path.exists(name + ".clock"):
        with open(name + ".clock", "r+b") as file:
            _held = mmap.mmap(file.fileno(), 8)
        _time, _time_ns = time.time, time.time_ns
        time.time = lambda: _time() + struct.unpack("d", _held)[0]
        time.time_ns = lambda: _time_ns() + int(struct.unpack("d", _held)[0] * 1e9)
"""
PUBLISHED = {
    "ran": {"cell-1": "urn:ndt:ran:gnb-1:cell-1", "cell-2": "urn:ndt:ran:gnb-2:cell-1"},
    "transport": {},
    "core": {"upf-1": "urn:ndt:core:upf-1", "upf-2": "urn:ndt:core:upf-2"},
    "edge": {"host-1": "urn:ndt:edge:host-1", "host-2": "urn:ndt:edge:host-2"},
}
DEVICES = {
    "ran": ("gnb-1", "gnb-2"),
    "transport": ("sri", "ucla", "uscb", "utah"),
    "core": ("amf-1", "smf-1", "upf-1", "upf-2"),
    "edge": ("host-1", "host-2"),
}
PAIRS = (("ran/cell-1", "edge/host-1"), ("ran/cell-2", "edge/host-2"), ("ran/cell-1", "core/upf-2"))


class FaultNetwork:
    """The processes and what joins them. Used as `async with FaultNetwork(folder, seed) as network`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = Random(seed)
        self.files = DemoFiles(folder, "")
        self.supervisor = Supervisor(folder / "logs")
        self.processes: dict[str, Process] = {}
        self.to_broker: dict[str, Proxy] = {}
        self.to_devices: dict[tuple[str, str, str], Proxy] = {}  # domain, device, protocol
        self._seed = seed
        self._python_path = os.environ.get("PYTHONPATH", "")
        self._starts: dict[str, int] = {}

    async def __aenter__(self) -> FaultNetwork:
        await asyncio.to_thread(self._write)
        for domain in DOMAINS:
            proxy = self.to_broker[domain] = Proxy(f"{domain}>broker", self.rng)
            await proxy.start()
        self.aim(self.files.broker_address)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.start("broker"))
                tasks.create_task(self._start_domains())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.supervisor.processes:
            with suppress(ProcessLookupError):
                process.child.returncode is None and psutil.Process(process.child.pid).resume()
        await self.supervisor.stop()
        os.environ["PYTHONPATH"] = self._python_path
        for proxy in [*self.to_broker.values(), *self.to_devices.values()]:
            await proxy.close()

    # --- processes

    async def start(self, name: str, *, config: Path | None = None) -> None:
        """Start a process and wait until it serves."""
        count = self._starts[name] = self._starts.get(name, 0) + 1
        kind = name.partition("-")[0]
        arguments = {
            "emulator": ["emulate", str(config or self.files.network)],
            "broker": ["broker", str(config or self.files.broker)],
            "agent": ["agent", str(config or self.files.agent(name.removeprefix("agent-")))],
        }[kind]
        process = await self.supervisor.start(f"{name}.{count}", arguments)
        self.processes[name] = process
        await self.supervisor.ready(process, START_S)
        if kind == "emulator":
            self.retarget()

    async def end(self, name: str, number: int) -> None:
        """Signal a process alone (not its group) and wait for its end."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            psutil.Process(process.child.pid).send_signal(number)
        async with asyncio.timeout(START_S):
            await process.child.wait()
        process.line.close()
        self.supervisor.processes.remove(process)

    def signal(self, name: str, number: int) -> None:
        """Send a signal."""
        self.ps(name).send_signal(number)

    def ps(self, name: str) -> psutil.Process:
        """A process as the operating system sees it."""
        return psutil.Process(self.processes[name].child.pid)

    def words(self, name: str) -> str:
        """The end of a process's newest log."""
        log = self.folder / "logs" / f"{name}.{self._starts.get(name, 0)}.log"
        return last_words(log, 12)

    async def _start_domains(self) -> None:
        await self.start("emulator")
        await self._write_inventories()
        async with asyncio.TaskGroup() as tasks:
            for domain in DOMAINS:
                tasks.create_task(self.start(f"agent-{domain}"))

    def set_clock(self, domain: str, seconds: float) -> None:
        """Set the clock of an agent so far ahead of the true time, at once and until it is set again."""
        with (self.folder / domain / "agent.toml.clock").open("r+b") as file:
            file.write(struct.pack("d", seconds))

    # --- reaching them

    def broker(self, timeout_s: float = 5.0) -> TwinClient:
        """A client of the broker, past all proxies."""
        return TwinClient.connect(self.files.client, timeout_s=timeout_s)

    def agent(self, domain: str, timeout_s: float = 5.0) -> TwinClient:
        """A client of an agent's own face."""
        return TwinClient.connect(self.files.socket(domain), timeout_s=timeout_s)

    def control(self) -> EmulatorControl:
        """The emulated network's control socket."""
        return EmulatorControl(self.files.emulator / "control.sock")

    def devices(self, domain: str) -> dict[str, DeviceConfig]:
        """The devices of a domain at their true addresses, past all proxies."""
        return {
            device.name: device for device in load_agent(self.folder / "direct" / f"{domain}.toml").device
        }

    def proxies_of(self, domain: str, device: str = "") -> list[Proxy]:
        """The proxies between an agent and its devices, or one of them."""
        return [
            proxy for (of, name, _), proxy in self.to_devices.items() if of == domain and device in ("", name)
        ]

    # --- files

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        clock = self.folder / "clock"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(_CLOCK, encoding="utf-8")
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(clock), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        )
        self.files = demo.write_all(self.folder, seed=self._seed)
        self.files.network.write_text(NETWORK.format(seed=self._seed), encoding="utf-8")
        records = demo.service_records()
        held = records["fedtwin-service:service-records"]
        assert isinstance(held, dict)
        held["service"] = held["service"][:1]
        held["service"][0]["objective"]["one-way-delay"] = "500.0"  # these lines cross a continent
        self.files.services.write_text(json.dumps(records), encoding="utf-8")
        self.files.broker.write_text(self.broker_toml(self.files.broker_address, "state"), encoding="utf-8")
        (self.folder / "direct").mkdir()
        for domain in DOMAINS:
            (self.folder / "direct" / f"{domain}.toml").write_text(
                f'domain = "{domain}"\noperator = "o.example"\nstate = "s"\n'
                f'inventory = ["../emulator/devices.{domain}.toml"]\n',
                encoding="utf-8",
            )

    def broker_toml(self, listen: str, state: str) -> str:
        """A broker's configuration with short heartbeats."""
        quick = f"heartbeat_s = {BROKER_HEARTBEAT_S}\ndead_after_s = {BROKER_DEAD_S}\n"
        text = demo.broker_toml(listen).replace('state = "state"\n', f'state = "{state}"\n{quick}')
        assert quick in text
        return text

    def agent_toml(self, domain: str, state: str = "state", *, alone: bool = False) -> str:
        """An agent's configuration; `alone`: without a broker, past the proxies."""
        operator = next(each for each in demo.OPERATORS if each.domain == domain)
        text = demo.agent_toml(operator, "127.0.0.1:0" if alone else self.to_broker[domain].address)
        text = text.partition("# What peers may name")[0]
        inventory = f"../emulator/devices.{domain}.toml" if alone else "devices.toml"
        text = text.replace(f"../emulator/devices.{domain}.toml", inventory)
        text = text.replace('state = "state"', f'state = "{state}"')
        exact = "precision = { delay_ms = 0, bandwidth_mbps = 0, loss = 0 }\n"
        text = text.replace('level = "mesh"\n', f'level = "mesh"\n{exact}', 1)  # partners' have their own
        assert exact in text
        if alone:
            head, _, rest = text.partition("[broker]")
            text = head + "[identity]" + rest.partition("[identity]")[2]
        for alias, element in PUBLISHED[domain].items():
            text += f'[[publish]]\nelement = "{element}"\nalias = "{alias}"\n'
        return text

    async def _write_inventories(self) -> None:
        """Each agent's inventory, with every address that of a proxy."""
        for domain in DOMAINS:
            assert tuple(sorted(self.devices(domain))) == DEVICES[domain]
            tables, hosts = [], []
            for name, device in self.devices(domain).items():
                lines = ["[[device]]", f'name = "{name}"']
                if device.gnmi:
                    proxy = await self._device_proxy(domain, name, "gnmi")
                    lines += ["[device.gnmi]", f'address = "{proxy.address}"', f"heartbeat_s = {HEARTBEAT_S}"]
                    lines += [
                        f'root = "{device.gnmi.root}"',
                        f'certificate = "{device.gnmi.certificate}"',
                        f'key = "{device.gnmi.key}"',
                    ]
                if device.netconf:
                    proxy = await self._device_proxy(domain, name, "netconf")
                    key = _host_key(device.netconf.known_hosts, device.netconf.address)
                    hosts.append(f"[127.0.0.1]:{proxy.port} {key}\n")
                    lines += [
                        "[device.netconf]",
                        f'address = "{proxy.address}"',
                        f"heartbeat_s = {HEARTBEAT_S}",
                        'known_hosts = "known_hosts"',
                        f'username = "{device.netconf.username}"',
                        f'password = "{device.netconf.password}"',
                    ]
                tables.append("\n".join(lines) + "\n")
            own = self.folder / domain
            (own / "devices.toml").write_text("\n".join(tables), encoding="utf-8")
            (own / "known_hosts").write_text("".join(hosts), encoding="utf-8")
            (own / "agent.toml.clock").write_bytes(struct.pack("d", 0.0))
            (own / "agent.toml").write_text(self.agent_toml(domain), encoding="utf-8")
        self.retarget()

    async def _device_proxy(self, domain: str, device: str, protocol: str) -> Proxy:
        proxy = self.to_devices[domain, device, protocol] = Proxy(f"{device}.{protocol}", self.rng)
        await proxy.start()
        return proxy

    def retarget(self) -> None:
        """Aim the proxies at the ports that the emulator has now."""
        for domain in DOMAINS:
            for name, device in self.devices(domain).items():
                for protocol, access in (("gnmi", device.gnmi), ("netconf", device.netconf)):
                    if access and (proxy := self.to_devices.get((domain, name, protocol))):
                        host, _, port = access.address.rpartition(":")
                        proxy.target = (host, int(port))

    def aim(self, broker: str) -> None:
        """Lead all agents to the broker at this address; sessions with another one are cut."""
        host, _, port = broker.rpartition(":")
        for proxy in self.to_broker.values():
            proxy.target = (host, int(port))
            proxy.cut()

    async def other_broker(self) -> tuple[str, Path]:
        """Write the configuration of a second broker with an empty state; its address and file."""
        address = f"127.0.0.1:{free_port()}"
        number = self._starts.get("broker2", 0)
        config = self.folder / "exchange" / "fresh.toml"
        config.write_text(self.broker_toml(address, f"fresh-{number}-{time.time_ns()}"), encoding="utf-8")
        return address, config


def _host_key(known_hosts: Path, address: str) -> str:
    host, _, port = address.rpartition(":")
    for line in known_hosts.read_text(encoding="utf-8").splitlines():
        names, kind, key = line.split()[:3]
        if f"[{host}]:{port}" in names.split(","):
            return f"{kind} {key}"
    raise AssertionError(f"{known_hosts} has no key of {address}")


async def eventually(question: Callable[[], Awaitable[T | None]], *, within_s: float, what: str) -> T:
    """The first answer that is not None. Raises AssertionError naming `what` and the last trouble."""
    trouble, deadline = "", time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout(_ONE_QUESTION_S):
                if (answer := await question()) is not None:
                    return answer
        except (TwinError, OSError, LookupError, TimeoutError) as error:
            trouble = f" ({type(error).__name__}: {error})"
        await asyncio.sleep(0.15)
    raise AssertionError(f"within {within_s:g} s there was no {what}{trouble}")


SIGKILL, SIGTERM, SIGSTOP, SIGCONT = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT
