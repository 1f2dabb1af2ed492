"""The traffic of the emulated network: one flow plan per source. Owns who talks to whom, and how much.

Users' packets go from every cell to every edge host; those of each gNB's first cell to host-1 are watched.
Beside them run the way back, signalling, gNB-to-gNB and host-to-host traffic, the transport operator's other
customers (a sixth of them in bursts, some elastic) and probes over every single link, so that an idle link
has figures too.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from domain_twin.emulator.commands import FlowPlan
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.topology import Topology

__all__ = ["demand_of_day", "plan_flows"]

_FIRST_HOST_WEIGHT = 2.0  # host-1 is the busiest
_LIGHT_PPS = 20.0  # simulated packets/s of flows that only keep a resource from idling


def plan_flows(spec: NetworkSpec, topology: Topology) -> list[FlowPlan]:
    """Every flow of the network, in simulated packets per second."""
    flows = [*_users(spec, topology), *_control(topology), *_others(spec, topology), *_probes(spec, topology)]
    return [replace(flow, size=float(spec.traffic.packet_octets)) for flow in flows]


def demand_of_day(spec: NetworkSpec) -> Callable[[float], float]:
    """The demand factor as a function of simulated seconds."""
    hours, factors = np.arange(25), np.array([*spec.traffic.hourly, spec.traffic.hourly[0]])

    def factor(at: float) -> float:
        return float(np.interp((spec.traffic.start_hour + at / 3600) % 24, hours, factors))

    return factor


def _pps(spec: NetworkSpec, mbps: float) -> float:
    """Simulated packets/s of a nominal rate."""
    return mbps * 1e6 * spec.scale / 8 / spec.traffic.packet_octets


def _users(spec: NetworkSpec, topology: Topology) -> Iterator[FlowPlan]:
    hosts, gnbs = topology.of_kind("host"), topology.of_kind("gnb")
    weights = [_FIRST_HOST_WEIGHT, *([1.0] * (len(hosts) - 1))]
    for cell, (host, weight) in itertools.product(topology.cells, zip(hosts, weights, strict=True)):
        watched = cell.local_id == 1 and host.name == "host-1"
        yield FlowPlan(
            f"{cell.name}:{host.name}",
            host.index,
            "poisson",
            _pps(spec, spec.traffic.cell_mbps) * weight / sum(weights),
            cell=cell.index,
            exponential=not watched,
            daily=True,
            watched=watched,
        )
    for host, gnb in itertools.product(hosts, gnbs):
        rate = _pps(spec, spec.traffic.downlink_mbps)
        yield FlowPlan(
            f"{host.name}:{gnb.name}",
            gnb.index,
            "poisson",
            rate,
            node=host.index,
            exponential=True,
            daily=True,
        )


def _control(topology: Topology) -> Iterator[FlowPlan]:
    upfs, hosts, gnbs = topology.of_kind("upf"), topology.of_kind("host"), topology.of_kind("gnb")
    amf, smf = topology.device("amf-1"), topology.device("smf-1")
    pairs = [(gnb, amf) for gnb in gnbs] + [(amf, smf), (smf, upfs[0]), (smf, upfs[1]), tuple(upfs)]
    for ring in (gnbs, hosts):
        pairs += [
            pair
            for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
            for pair in ((a, b), (b, a))
            if a != b
        ]
    for source, target in dict.fromkeys((a.index, b.index) for a, b in pairs):
        names = topology.devices[source].name, topology.devices[target].name
        yield FlowPlan(":".join(names), target, "poisson", _LIGHT_PPS, node=source, exponential=True)


def _others(spec: NetworkSpec, topology: Topology) -> Iterator[FlowPlan]:
    place = {device.name: device.index for device in topology.of_kind("router")}
    total = sum(topology.demand.values())
    for n, ((source, target), value) in enumerate(sorted(topology.demand.items())):
        name, rate = f"{source}:{target}", _pps(spec, spec.traffic.background_mbps) * value / total
        if n % 6 == 5:
            yield FlowPlan(
                name, place[target], "on-off", 2 * rate, node=place[source], exponential=True, on=0.3, off=0.3
            )
        elif n % 40 == 20:
            yield FlowPlan(
                name, place[target], "elastic", rate, node=place[source], window=2, acknowledge=0.02
            )
        else:
            yield FlowPlan(
                name, place[target], "poisson", rate, node=place[source], exponential=True, daily=True
            )


def _probes(spec: NetworkSpec, topology: Topology) -> Iterator[FlowPlan]:
    for link in topology.links:
        yield FlowPlan(
            f"probe:{link.source.device.name}:{link.source.name}", link.target.device.index, "probe",
            spec.traffic.probe_pps, link=link.index,
        )  # fmt: skip
