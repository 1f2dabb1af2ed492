"""The emulated four-operator network in this process, unpaced, with the twin's mapping behind its devices.

What the twin gets is what the devices' datastores report, leaf by leaf; the packet log is the judge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from domain_twin.emulator.assemble import assemble, dimension
from domain_twin.emulator.binding import Binding
from domain_twin.emulator.commands import FlowPlan
from domain_twin.emulator.device import pattern_of
from domain_twin.emulator.device_leaf import Leaf
from domain_twin.emulator.network import DOMAINS, NetworkSpec
from domain_twin.emulator.packet_log import Truth, truth_of
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.topology import Topology, build_topology
from domain_twin.emulator.traffic import plan_flows
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Change, Delta, Network, Origin, Version
from domain_twin.simulation.joined import join

START_NS = 1_800_000_000_000_000_000
_ALL_AT_ONCE = 1 << 30


class EmulatedNetwork:
    """Packets, devices and one mapping for each domain, moved on by `advance`."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.topology = build_topology(spec)
        flows = [*_watched(plan_flows(spec, self.topology)), *_more_flows(spec, self.topology)]
        dimension(spec, self.topology, flows)
        self.flows = {flow.name: flow for flow in flows}
        self.packets = assemble(spec, self.topology, flows)
        self.plant = Plant(spec, self.topology, self.packets.apply)
        self._binding = Binding(spec, self.topology, self.plant)
        stores = self._binding.stores
        self._domain_of = {device.name: device.domain for device in self.topology.devices}
        self._queues = {name: store.watch([pattern_of(store.schema, "/")]) for name, store in stores.items()}
        self._mappers = {domain: Mapper(domain) for domain in DOMAINS}
        self._sequence = 0
        self._report({name: list(store.all_leaves()) for name, store in stores.items()})

    def advance(self, until: float, each: Callable[[Network], None] | None = None) -> None:
        """Move packets on to `until` (simulated s); with `each`, devices report and the twins follow."""
        while self.packets.now < until - 1e-9:
            step = min(until, int(self.packets.now + 1e-9) + 1.0) if each else until
            for measurement in self.packets.advance(step):
                if each is None:
                    continue
                self._binding.report(measurement)
                self._report({name: queue.drain(_ALL_AT_ONCE) for name, queue in self._queues.items()})
                each(self.network())

    def network(self) -> Network:
        """What the four twins show, as one network."""
        return join(mapper.network() for mapper in self._mappers.values())

    def truth(self, flow: str, since: float, until: float) -> Truth:
        """The packet log's word on a watched flow."""
        return truth_of(self.packets, flow, since=since, until=until)

    def path(self, flow: str) -> tuple[str, ...]:
        """Ids of the links that a flow's packets take now, by the forwarding tables."""
        return tuple(self._hops(self.flows[flow]))

    def scale_flow(self, flow: str, factor: float) -> None:
        """Let a source send more or less."""
        self.packets.state.flows[self.packets.flows[flow]]["rate"] *= factor

    def _hops(self, flow: FlowPlan) -> Iterator[str]:
        at = self.topology.cells[flow.cell].device.index if flow.cell >= 0 else flow.node
        while at != flow.target:
            link = self.topology.links[int(self.packets.state.table[at, flow.target])]
            yield link.source.link_id
            at = link.target.device.index

    def _report(self, leaves: dict[str, list[Leaf]]) -> None:
        at = START_NS + round(self.packets.now * 1e9)
        changes: dict[str, list[Change]] = {domain: [] for domain in DOMAINS}
        for device, changed in leaves.items():
            changes[self._domain_of[device]] += [
                Change(device, leaf.path, leaf.value, at, at, Origin.MEASURED, leaf.deleted)
                for leaf in changed
            ]
        self._sequence += 1
        versions = Version("benchmark", self._sequence - 1, at), Version("benchmark", self._sequence, at)
        for domain, mapper in self._mappers.items():
            mapper.apply(Delta(*versions, tuple(changes[domain])))


def _watched(flows: list[FlowPlan]) -> Iterator[FlowPlan]:
    """Besides the service's flows, some of exponential sizes to the host behind the other UPF."""
    wanted = {f"gnb-{n}.cell-2:host-3" for n in range(1, 7)}
    for flow in flows:
        yield replace(flow, watched=True) if flow.name in wanted else flow


def _more_flows(spec: NetworkSpec, topology: Topology) -> Iterator[FlowPlan]:
    """Voice-like CBR from cells, and downlink in bursts, beside the emulator's own mix."""
    hosts = topology.of_kind("host")
    pps = spec.scale * 1e6 / 8 / spec.traffic.packet_octets  # of 1 Mbit/s
    size = float(spec.traffic.packet_octets)
    for cell in topology.cells:
        if cell.local_id == 2:
            name = f"voice:{cell.name}:{hosts[1].name}"
            yield FlowPlan(name, hosts[1].index, "cbr", 12 * pps, size=size, cell=cell.index)
    for gnb in topology.of_kind("gnb"):
        name = f"video:{hosts[2].name}:{gnb.name}"
        yield FlowPlan(
            name, gnb.index, "on-off", 60 * pps, size=size, node=hosts[2].index, on=0.4, off=0.4,
            exponential=True,
        )  # fmt: skip
