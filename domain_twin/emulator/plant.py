"""The physical state of the network: what is configured, what is broken, what follows from both.

Owns the rules (a link works when both ends are enabled, it is not cut and both devices run; no light at one
end means none at the other) and turns every difference into commands for the packet network. Belongs to the
asyncio thread; tells listeners which devices have something new to report. Refuses names that are not in the
network.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from domain_twin.emulator.assemble import octets_per_second
from domain_twin.emulator.commands import AddFlow, Command, FlowPlan, SetCell, SetLink, SetNode, StopFlow
from domain_twin.emulator.faults import (
    Attack,
    DeviceReboot,
    Fault,
    HostOverload,
    LinkCut,
    LinkDegradation,
    LinkLoss,
    ManagementLoss,
    RadioFade,
)  # fmt: skip
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.radio import cell_rate_mbps
from domain_twin.emulator.topology import Cell, Device, Link, Topology
from domain_twin.errors import NotFound

__all__ = ["CellState", "LinkState", "NodeState", "Plant"]


@dataclass(frozen=True, slots=True)
class LinkState:
    """One direction of a link, nominal figures."""

    up: bool
    metric: int
    rate_factor: float = 1.0
    extra_ms: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class CellState:
    """A cell; `rate_mbps` nominal."""

    up: bool
    mcs: float
    rate_mbps: float


@dataclass(frozen=True, slots=True)
class NodeState:
    """A device's packet processing, and whether routes may cross it."""

    serving: bool
    transit: bool
    workers: int
    service_ms: float


@dataclass(slots=True)
class _Configured:
    """What the devices' running configurations ask for."""

    enabled: dict[str, bool] = field(default_factory=dict)  # by tp-id
    metric: dict[str, int] = field(default_factory=dict)  # by tp-id, of the link that leaves there
    unlocked: dict[str, bool] = field(default_factory=dict)  # by cell-id or node-id
    prb_share: dict[str, float] = field(default_factory=dict)  # by cell-id
    bandwidth_mhz: dict[str, int] = field(default_factory=dict)  # by cell-id
    workers: dict[str, int] = field(default_factory=dict)  # by node-id


class Plant:
    """Configuration and faults in, commands and changed devices out."""

    def __init__(self, spec: NetworkSpec, topology: Topology, send: Callable[[Command], None]) -> None:
        self.topology = topology
        self.faults: dict[str, Fault] = {}
        self.configured = _Configured(
            enabled={link.source.tp_id: True for link in topology.links},
            metric={link.source.tp_id: link.source.metric for link in topology.links},
            unlocked={name: True for name in _lockable(topology)},
            prb_share={cell.cell_id: 1.0 for cell in topology.cells},
            bandwidth_mhz={cell.cell_id: cell.bandwidth_mhz for cell in topology.cells},
            workers={d.node_id: d.workers for d in topology.devices if d.workers},
        )
        self.on_change: Callable[[set[Device]], None] | None = None
        self._spec, self._send = spec, send
        self._numbers = itertools.count(1)
        self.links, self.cells, self.nodes = self._derive()

    # ---- changes -------------------------------------------------------------------------------------------

    def inject(self, fault: Fault) -> str:
        """Make a fault happen; gives its id. Raises NotFound for what the network does not have."""
        self._check(fault)
        name = f"{fault.kind}-{next(self._numbers)}"
        self.faults[name] = fault
        if isinstance(fault, Attack):
            self._send(AddFlow(self._flood(name, fault)))
        self.settle()
        return name

    def clear(self, name: str) -> Fault:
        """End a fault. Raises NotFound."""
        if name not in self.faults:
            there = ", ".join(self.faults) or "none"
            raise NotFound(f"no active fault '{name}'; active: {there}")
        fault = self.faults.pop(name)
        if isinstance(fault, Attack):
            self._send(StopFlow(name))
        self.settle()
        return fault

    def settle(self) -> None:
        """Work out what follows from configuration and faults now, and carry out every difference."""
        links, cells, nodes = self._derive()
        changed: set[Device] = set()
        for link, old, new in zip(self.topology.links, self.links, links, strict=True):
            if old != new:
                self._send(self._link_command(link, old, new))
                changed |= {link.source.device, link.target.device}
        for cell, was, now in zip(self.topology.cells, self.cells, cells, strict=True):
            if was != now:
                self._send(SetCell(cell.index, now.up, octets_per_second(self._spec, now.rate_mbps)))
                changed.add(cell.device)
        for device, before, after in zip(self.topology.devices, self.nodes, nodes, strict=True):
            if before != after:
                self._send(
                    SetNode(device.index, after.serving, after.transit, after.workers, after.service_ms / 1e3)
                )
                changed.add(device)
        self.links, self.cells, self.nodes = links, cells, nodes
        if changed and self.on_change is not None:
            self.on_change(changed)

    def _link_command(self, link: Link, old: LinkState, new: LinkState) -> SetLink:
        adjacency = link.adjacency
        rate = octets_per_second(self._spec, adjacency.capacity_mbps * new.rate_factor)
        return SetLink(
            link.index,
            up=new.up,
            metric=new.metric,
            rate=rate if new.rate_factor != old.rate_factor else None,
            propagation=(adjacency.propagation_ms + new.extra_ms) / 1e3
            if new.extra_ms != old.extra_ms
            else None,
            loss=new.loss,
        )

    def _flood(self, name: str, fault: Attack) -> FlowPlan:
        octets = self._spec.traffic.packet_octets
        return FlowPlan(
            name,
            self.device(fault.target).index,
            "on-off",
            octets_per_second(self._spec, fault.mbps) / octets,
            size=float(octets),
            node=self.device(fault.source).index,
            on=fault.on_s,
            off=fault.off_s,
        )

    # ---- what follows --------------------------------------------------------------------------------------

    def down(self, device: Device) -> bool:
        """Whether a device is restarting."""
        return any(
            isinstance(f, DeviceReboot) and self.device(f.device) is device for f in self.faults.values()
        )

    def unmanaged(self, device: Device) -> bool:
        """Whether a device's management servers are away."""
        gone = (DeviceReboot, ManagementLoss)
        return any(isinstance(f, gone) and self.device(f.device) is device for f in self.faults.values())

    def _derive(self) -> tuple[list[LinkState], list[CellState], list[NodeState]]:
        restarting = {self.device(f.device).name for f in self.faults.values() if isinstance(f, DeviceReboot)}
        links = [self._link_state(link, restarting) for link in self.topology.links]
        cells = [self._cell_state(cell, restarting) for cell in self.topology.cells]
        nodes = [self._node_state(device, restarting) for device in self.topology.devices]
        return links, cells, nodes

    def _link_state(self, link: Link, restarting: set[str]) -> LinkState:
        ends = (link.source, link.target)
        state = LinkState(
            up=all(self.configured.enabled[e.tp_id] and e.device.name not in restarting for e in ends),
            metric=self.configured.metric[link.source.tp_id],
        )
        for fault in self.faults.values():
            if not isinstance(fault, LinkCut | LinkLoss | LinkDegradation):
                continue
            if self.link(fault.link).adjacency is not link.adjacency:
                continue
            match fault:
                case LinkCut():
                    state = replace(state, up=False)
                case LinkLoss():
                    state = replace(state, loss=1 - (1 - state.loss) * (1 - fault.ratio))
                case LinkDegradation():
                    state = replace(
                        state,
                        rate_factor=state.rate_factor * fault.rate_factor,
                        extra_ms=state.extra_ms + fault.extra_ms,
                    )
        return state

    def _cell_state(self, cell: Cell, restarting: set[str]) -> CellState:
        fades = (f for f in self.faults.values() if isinstance(f, RadioFade) and self.cell(f.cell) is cell)
        mcs = max(0.0, cell.mcs - sum(f.mcs_drop for f in fades))
        bandwidth = self.configured.bandwidth_mhz[cell.cell_id]
        share = self.configured.prb_share[cell.cell_id]
        rate = cell_rate_mbps(bandwidth_mhz=bandwidth, mcs=mcs, prb_share=share)
        alive = cell.device.name not in restarting
        up = self.configured.unlocked[cell.cell_id] and alive and rate > 0
        return CellState(up, mcs, rate)

    def _node_state(self, device: Device, restarting: set[str]) -> NodeState:
        unlocked = self.configured.unlocked.get(device.node_id, True)
        alive = device.name not in restarting
        workers, service = self.configured.workers.get(device.node_id, 1), device.service_ms
        for fault in self.faults.values():
            if isinstance(fault, HostOverload) and self.device(fault.device) is device:
                workers, service = max(1, workers - fault.workers_taken), service * fault.service_factor
        # A locked UPF has no user plane: routes avoid it. Everything else forwards like a router.
        transit = alive and (unlocked or device.kind != "upf")
        return NodeState(alive and unlocked, transit, workers, service)

    # ---- names ---------------------------------------------------------------------------------------------

    def device(self, name: str) -> Device:
        """The device of this name or node-id. Raises NotFound."""
        for device in self.topology.devices:
            if name in (device.name, device.node_id):
                return device
        raise NotFound(f"no device '{name}'; there are {', '.join(d.name for d in self.topology.devices)}")

    def cell(self, name: str) -> Cell:
        """The cell of this name or cell-id. Raises NotFound."""
        for cell in self.topology.cells:
            if name in (cell.name, cell.cell_id):
                return cell
        raise NotFound(f"no cell '{name}'; cells are called like {self.topology.cells[0].name}")

    def link(self, name: str) -> Link:
        """One direction of the link of this name. Raises NotFound."""
        for link in self.topology.links:
            if name in (link.source.tp_id, link.source.link_id, link.adjacency.crossing):
                return link
            pair = (link.source.device.name, link.target.device.name)
            if name in ("-".join(pair), ":".join(pair), f"{pair[0]}:{link.source.name}"):
                return link
        parts = [name.rpartition("-"), name.partition("-"), name.partition(":")]
        known = sorted({near for part in parts for near in self._neighbours(part[0])})
        hint = f"; links there: {', '.join(known)}" if known else "; a link is called like szczecin-poznan"
        raise NotFound(f"no link '{name}'{hint}")

    def _neighbours(self, name: str) -> Iterator[str]:
        for link in self.topology.links:
            if link.source.device.name == name:
                yield f"{name}-{link.target.device.name}"

    def _check(self, fault: Fault) -> None:
        match fault:
            case LinkCut() | LinkLoss() | LinkDegradation():
                self.link(fault.link)
            case RadioFade():
                self.cell(fault.cell)
            case Attack():
                self.device(fault.source)
                self.device(fault.target)
            case HostOverload():
                device = self.device(fault.device)
                if not device.workers:
                    able = ", ".join(d.name for d in self.topology.devices if d.workers)
                    raise NotFound(f"device '{device.name}' has no workers; {able} have")
            case DeviceReboot() | ManagementLoss():
                self.device(fault.device)


def _lockable(topology: Topology) -> Iterator[str]:
    yield from (cell.cell_id for cell in topology.cells)
    yield from (device.node_id for device in topology.devices if device.workers)
