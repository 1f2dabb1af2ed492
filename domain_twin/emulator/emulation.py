"""The whole emulated network at run time: packets, devices, servers, faults. Owns start and stop.

One asyncio thread for all devices and their servers, one thread for the packets.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from domain_twin.emulator.assemble import assemble, check_pace, dimension
from domain_twin.emulator.binding import Binding
from domain_twin.emulator.commands import Command, SetCell, SetLink, SetNode
from domain_twin.emulator.control import SOCKET, ControlServer
from domain_twin.emulator.engine import Measurement, PacketNetwork
from domain_twin.emulator.faults import DeviceReboot, describe_kinds, fault_from_json, fault_to_json
from domain_twin.emulator.keys import DomainKeys, write_inventory
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.pacer import Pacer
from domain_twin.emulator.packet_log import truth_of
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.servers import DeviceServers
from domain_twin.emulator.topology import build_topology
from domain_twin.emulator.traffic import plan_flows
from domain_twin.emulator.warm import warm
from domain_twin.errors import ConfigError

__all__ = ["SERVICE_FLOW", "Emulation"]

log = logging.getLogger(__name__)

SERVICE_FLOW = "gnb-1.cell-1:host-1"
_UNDER_WAY_S = 0.05  # packets younger than this may not have arrived yet


class Emulation:
    """A running emulated network; `start`, then answer operations until `ended` is set, then `stop`."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.ended = asyncio.Event()
        self.topology = build_topology(spec)
        flows = plan_flows(spec, self.topology)
        check_pace(spec, self.topology, flows)
        dimension(spec, self.topology, flows)
        self.pacer = Pacer(assemble(spec, self.topology, flows), self._measured)
        self.plant = Plant(spec, self.topology, self.pacer.send)
        self.binding = Binding(spec, self.topology, self.plant)
        self.servers: dict[str, DeviceServers] = {}
        self._control = ControlServer(self.socket, self._operations())
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving = asyncio.Lock()
        self._meter: tuple[float, float, int] = (time.monotonic(), time.process_time(), 0)
        self._rates: dict[str, float] = {"hops_per_s": 0.0, "cpu": 0.0}

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.spec.state / SOCKET

    async def start(self) -> list[Path]:
        """Open everything, start the clock, give the inventories. Raises ConfigError, nothing stays open."""
        try:
            self.spec.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"state: cannot make {self.spec.state}: {error.strerror}") from error
        await asyncio.to_thread(warm)
        try:
            await self._control.start()
            inventories = await self._open_servers()
        except BaseException:
            await self.stop()
            raise
        self.pacer.start(self.ended.set)
        return inventories

    async def _open_servers(self) -> list[Path]:
        inventories = []
        for domain in self.spec.domains:
            keys = await asyncio.to_thread(DomainKeys, self.spec.state, domain, self.spec.servers)
            group = []
            for device in self.topology.devices:
                if device.domain != domain:
                    continue
                servers = DeviceServers(
                    self.binding.stores[device.name],
                    domain,
                    keys=keys.device(device.name),
                    client_roots=keys.root,
                    password=keys.password,
                    servers=self.spec.servers,
                    number=device.index,
                )
                self.servers[device.name] = servers
                await servers.open()
                group.append(servers.served)
            inventories.append(write_inventory(keys, self.spec.servers, group))
        return inventories

    async def stop(self) -> None:
        """Close everything; safe at any stage."""
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._control.close()
        await asyncio.gather(*(servers.close() for servers in self.servers.values()))
        await self.pacer.stop()

    def _measured(self, measurement: Measurement) -> None:
        self.binding.report(measurement)
        wall, cpu, hops = self._meter
        self._meter = (time.monotonic(), time.process_time(), measurement.hops)
        span = max(1e-3, self._meter[0] - wall)
        self._rates = {"hops_per_s": (measurement.hops - hops) / span, "cpu": (self._meter[1] - cpu) / span}

    # ---- operations ----------------------------------------------------------------------------------------

    def _operations(self) -> dict[str, Any]:
        return {
            "kinds": self._kinds, "inject": self._inject, "clear": self._clear, "faults": self._faults,
            "truth": self._truth, "flows": self._flows, "devices": self._devices, "changes": self._changes,
            "stats": self._stats, "shutdown": self._shutdown,
        }  # fmt: skip

    async def _kinds(self, _request: Mapping[str, Any]) -> Any:
        return describe_kinds()

    async def _inject(self, request: Mapping[str, Any]) -> Any:
        fault = fault_from_json(request.get("fault"))
        name = self.plant.inject(fault)
        log.info("fault injected", extra={"fault": name})
        if fault.duration_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(fault.duration_s, self._expire, name)
        await self._move_servers()
        return {"id": name, "at_ns": await self._now_ns()}

    async def _clear(self, request: Mapping[str, Any]) -> Any:
        wanted = request.get("id")
        if not isinstance(wanted, str):
            raise ConfigError("clear: id is missing; give that of an active fault, or all")
        names = list(self.plant.faults) if wanted == "all" else [wanted]
        for name in names:
            await self._end_fault(name)
        return {"cleared": names, "at_ns": await self._now_ns()}

    def _expire(self, name: str) -> None:
        self._timers.pop(name, None)
        if name in self.plant.faults:
            task = asyncio.get_running_loop().create_task(self._end_fault(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end_fault(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        fault = self.plant.clear(name)
        log.info("fault ended", extra={"fault": name})
        if isinstance(fault, DeviceReboot):
            self.binding.restarted(self.plant.device(fault.device))
        await self._move_servers()

    async def _move_servers(self) -> None:
        """Open or close servers so that they match the faults."""
        async with self._moving:
            for device in self.topology.devices:
                servers = self.servers.get(device.name)
                if servers is None or servers.up != self.plant.unmanaged(device):
                    continue
                if servers.up:
                    await servers.close()
                else:
                    await servers.open()

    async def _faults(self, _request: Mapping[str, Any]) -> Any:
        return [{"id": name, **fault_to_json(fault)} for name, fault in self.plant.faults.items()]

    async def _truth(self, request: Mapping[str, Any]) -> Any:
        flow = str(request.get("flow", SERVICE_FLOW))
        pacer = self.pacer

        def look(network: PacketNetwork) -> Any:
            until_ns, since_ns = request.get("until_ns"), request.get("since_ns")
            until = network.now - _UNDER_WAY_S if until_ns is None else pacer.simulated(int(until_ns))
            since = pacer.simulated(int(since_ns)) if since_ns is not None else None
            if since is None:
                since = until - float(request.get("seconds", 10.0))
            return truth_of(network, flow, since=since, until=until)

        truth = asdict(await pacer.ask(look))
        for name in ("since", "until", "first_born", "first_delivered"):
            at = truth.pop(name)
            truth[f"{name}_ns"] = None if at is None else pacer.unix_ns(at)
        return truth

    async def _flows(self, _request: Mapping[str, Any]) -> Any:
        def look(network: PacketNetwork) -> Any:
            result = []
            for name, index in network.flows.items():
                flow = network.state.flows[index]
                delivered = int(flow["delivered"])
                mean = float(flow["delay"]) / delivered * 1e3 if delivered else None
                counts = {k: int(flow[k]) for k in ("sent", "delivered", "lost")}
                result.append({"name": name, "watched": name in network.watches, **counts, "mean_ms": mean})
            return result

        return await self.pacer.ask(look)

    async def _devices(self, _request: Mapping[str, Any]) -> Any:
        return [
            {
                "name": name, "domain": servers.domain, "host": self.spec.servers.host, "up": servers.up,
                "netconf": servers.served.netconf_port, "gnmi": servers.served.gnmi_port,
            }
            for name, servers in self.servers.items()
        ]  # fmt: skip

    async def _changes(self, request: Mapping[str, Any]) -> Any:
        since = self.pacer.simulated(int(request.get("since_ns", 0)))
        journal = await self.pacer.ask(lambda network: list(network.journal))
        return [
            {"at_ns": self.pacer.unix_ns(at), **self._describe(command)}
            for at, command in journal
            if at >= since
        ]

    def _describe(self, command: Command) -> dict[str, Any]:
        fields = {name: value for name, value in asdict(command).items() if value is not None}
        fields["command"] = type(command).__name__
        match command:
            case SetLink():
                link = self.topology.links[command.link]
                fields["link"] = f"{link.source.device.name}-{link.target.device.name}"
            case SetCell():
                fields["cell"] = self.topology.cells[command.cell].name
            case SetNode():
                fields["node"] = self.topology.devices[command.node].name
        return fields

    async def _stats(self, _request: Mapping[str, Any]) -> Any:
        import psutil

        overflow = await self.pacer.ask(lambda network: int(network.state.head[0]["overflow"]))
        return {
            **self._rates,
            "rss_mb": psutil.Process(os.getpid()).memory_info().rss / 1e6,
            "overflow": overflow,
            "now_ns": await self._now_ns(),
            "devices": len(self.servers),
            "flows": len(self.pacer.network.flows),
            "scale": self.spec.scale,
            "seed": self.spec.seed,
        }

    async def _shutdown(self, _request: Mapping[str, Any]) -> Any:
        asyncio.get_running_loop().call_soon(self.ended.set)

    async def _now_ns(self) -> int:
        return self.pacer.unix_ns(await self.pacer.ask(lambda network: network.now))
