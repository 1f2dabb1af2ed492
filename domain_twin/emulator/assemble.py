"""From topology and flows to the packet network: capacities off a ladder, then everything scaled.

Capacities are the smallest step of the ladder that keeps a link below 45 % in normal operation and below 85 %
when any single line of the network is cut.
"""

import math
from collections.abc import Sequence

import numpy as np

from domain_twin.emulator.commands import FlowPlan
from domain_twin.emulator.engine import CellPlan, LinkPlan, NodePlan, PacketNetwork
from domain_twin.emulator.network import DOMAINS, NetworkSpec
from domain_twin.emulator.radio import cell_rate_mbps
from domain_twin.emulator.spf import next_hops
from domain_twin.emulator.state import make_state
from domain_twin.emulator.topology import Adjacency, Topology
from domain_twin.emulator.traffic import demand_of_day
from domain_twin.errors import ConfigError

__all__ = ["assemble", "check_pace", "dimension", "octets_per_second"]

_LADDER_MBPS = (2_500, 5_000, 10_000, 20_000, 40_000, 100_000, 200_000, 400_000)
_NORMAL, _FAILURE = 0.45, 0.85  # highest utilisation
_BUFFER_S = 0.02  # a link's buffer, as time at its rate
_HOPS_PER_S = 1_500_000
_AIR_DELAY_S = 0.0003  # scheduling grant and radio processing


def octets_per_second(spec: NetworkSpec, mbps: float) -> float:
    """The simulated rate of a nominal one."""
    return mbps * 1e6 / 8 * spec.scale


def dimension(spec: NetworkSpec, topology: Topology, flows: Sequence[FlowPlan]) -> None:
    """Give every adjacency its capacity."""
    rates = [_octets_per_second(flow) for flow in flows]
    paths = _paths(topology, flows, None)
    normal = np.zeros(len(topology.links))
    users: dict[int, list[int]] = {}  # flows by the adjacency they cross
    for number, path in enumerate(paths):
        normal[path] += rates[number]
        for adjacency in {id(topology.links[link].adjacency) for link in path}:
            users.setdefault(adjacency, []).append(number)
    worst = normal.copy()
    for cut in topology.adjacencies:
        moved = users.get(id(cut), [])
        loads = normal.copy()
        for number, path in zip(moved, _paths(topology, [flows[i] for i in moved], cut), strict=True):
            loads[paths[number]] -= rates[number]
            loads[path] += rates[number]
        worst = np.maximum(worst, loads)
    needed = np.maximum(normal / _NORMAL, worst / _FAILURE) * 8 / 1e6 / spec.scale
    for link in topology.links:
        step = next((s for s in _LADDER_MBPS if s >= needed[link.index]), _LADDER_MBPS[-1])
        link.adjacency.capacity_mbps = max(link.adjacency.capacity_mbps, float(step))


def check_pace(spec: NetworkSpec, topology: Topology, flows: Sequence[FlowPlan]) -> None:
    """Raise ConfigError where one core could not move the packets in real time with room to spare."""
    pairs = zip(flows, _paths(topology, flows, None), strict=True)
    hops = sum(_octets_per_second(flow) / flow.size * (len(path) + 2) for flow, path in pairs)
    if hops > _HOPS_PER_S:
        fitting = 1 / math.ceil(hops / _HOPS_PER_S / spec.scale)
        raise ConfigError(
            f"scale: at {spec.scale:g} this network makes {hops:,.0f} packet-hops a second, more than the "
            f"{_HOPS_PER_S:,} that run in real time; choose {fitting:.3g} or less, or less traffic"
        )


def _octets_per_second(flow: FlowPlan) -> float:
    """Mean rate of a flow; an elastic one is counted at its planned rate."""
    return flow.rate * flow.size * (flow.on / (flow.on + flow.off) if flow.kind == "on-off" else 1.0)


def _paths(topology: Topology, flows: Sequence[FlowPlan], cut: Adjacency | None) -> list[list[int]]:
    """Links that each flow crosses on its shortest path, with one adjacency missing."""
    nodes, links = len(topology.devices), topology.links
    records = make_state(nodes=1, links=len(links), cells=0, flows=1, watches=0, packets=1, log=1).links
    for link in links:
        record = records[link.index]
        record["source"], record["target"] = link.source.device.index, link.target.device.index
        record["metric"], record["up"] = link.source.metric, link.adjacency is not cut
    table = np.full((nodes, nodes), -1, np.int64)
    next_hops(records, np.ones(nodes, np.bool_), table)
    paths = []
    for flow in flows:
        path = [flow.link] if flow.link >= 0 else []
        at = topology.cells[flow.cell].device.index if flow.cell >= 0 else flow.node
        while flow.link < 0 and at != flow.target and table[at, flow.target] >= 0:
            path.append(int(table[at, flow.target]))
            at = links[path[-1]].target.device.index
        paths.append(path)
    return paths


def assemble(spec: NetworkSpec, topology: Topology, flows: Sequence[FlowPlan]) -> PacketNetwork:
    """Make the packet network of a dimensioned topology."""
    links = []
    for link in topology.links:
        rate = octets_per_second(spec, link.adjacency.capacity_mbps)
        domain = len(DOMAINS) if link.adjacency.crossing else DOMAINS.index(link.source.device.domain)
        buffer = max(rate * _BUFFER_S, 16.0 * spec.traffic.packet_octets)
        near, far = link.source.device.index, link.target.device.index
        propagation = link.adjacency.propagation_ms / 1e3
        links.append(LinkPlan(near, far, rate, propagation, buffer, link.source.metric, domain))
    nodes = [
        NodePlan(
            domain=DOMAINS.index(d.domain),
            workers=d.workers,
            service=d.service_ms / 1e3,
            exponential=d.kind == "host",
            on_transit=d.kind == "upf",
        )
        for d in topology.devices
    ]
    cells = []
    for cell in topology.cells:
        rate = cell_rate_mbps(bandwidth_mhz=cell.bandwidth_mhz, mcs=cell.mcs, prb_share=1.0)
        cells.append(CellPlan(cell.device.index, octets_per_second(spec, rate), _AIR_DELAY_S))
    return PacketNetwork(
        nodes=nodes,
        links=links,
        cells=cells,
        flows=flows,
        seed=spec.seed,
        convergence=spec.convergence_ms / 1e3,
        interval=spec.interval_ms / 1e3,
        demand=demand_of_day(spec),
    )
