"""The composed current path against the forwarding tables of the emulated network, unseen by the twin."""

import math
import random

import numpy as np
import pytest

from domain_twin.disclosure import Precision, abstract
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.spf import next_hops
from domain_twin.emulator.state import make_state
from domain_twin.emulator.topology import Link as Line
from domain_twin.emulator.topology import Topology, build_topology
from domain_twin.errors import NoPath
from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Cell,
    Host,
    InterDomainEnd,
    Kpi,
    Level,
    Link,
    Network,
    NetworkFunction,
    Node,
    TerminationPoint,
    Version,
)
from federation.compose import ComposedGraph, Member
from federation.paths import find

DOMAINS = ("ran", "transport", "core", "edge")


def kpis(delay_ms: float) -> dict[str, Kpi]:
    figures = {DELAY: delay_ms, DELAY_VARIANCE: 0.0, LOSS: 0.0, CARRIED_RATE: 0.0, CELL_RATE: 100.0}
    return {name: Kpi(name, value, "") for name, value in figures.items()}


def twin_of(topology: Topology, domain: str, cut: set[int], locked: set[str], delays: np.ndarray) -> Network:
    """What a perfect mapping would make of one domain's devices."""
    devices = [device for device in topology.devices if device.domain == domain]
    links, points = {}, {}
    for line in topology.links:
        end, far = line.source, line.target
        if end.device.domain != domain:
            continue
        if line.adjacency.crossing:
            points[end.tp_id] = TerminationPoint(
                end.tp_id,
                end.device.node_id,
                end.device.name,
                oper_up=line.index not in cut,
                inter_domain=InterDomainEnd(line.adjacency.crossing, far.device.domain, 1000.0, end.metric),
                kpis=kpis(delays[line.index]),
            )
        else:
            links[end.link_id] = Link(
                end.link_id,
                end.device.name,
                end.device.node_id,
                end.tp_id,
                far.device.node_id,
                far.tp_id,
                end.metric,
                1000.0,
                up=line.index not in cut,
                kpis=kpis(delays[line.index]),
            )
    return Network(
        domain,
        Version("e", 1),
        {device.node_id: Node(device.node_id, device.name) for device in devices},
        points,
        links,
        {
            d.node_id + ":nf": NetworkFunction(
                d.node_id + ":nf", d.node_id, d.name, d.kind.upper(), d.name not in locked, kpis=kpis(0.5)
            )
            for d in devices
            if d.kind in ("upf", "amf", "smf")
        },
        {
            cell.cell_id: Cell(cell.cell_id, cell.device.node_id, cell.device.name, kpis=kpis(2.0))
            for cell in topology.cells
            if cell.device.domain == domain
        },
        {
            d.node_id + ":host": Host(d.node_id + ":host", d.node_id, d.name, kpis=kpis(0.25))
            for d in devices
            if d.kind == "host"
        },
    )


def forwarded(topology: Topology, cut: set[int], locked: set[str]) -> np.ndarray:
    count = len(topology.devices)
    records = make_state(
        nodes=1, links=len(topology.links), cells=0, flows=1, watches=0, packets=1, log=1
    ).links
    for line in topology.links:
        record = records[line.index]
        record["source"], record["target"] = line.source.device.index, line.target.device.index
        record["metric"], record["up"] = line.source.metric, line.index not in cut
    transit = np.array([device.name not in locked for device in topology.devices])
    table = np.full((count, count), -1, np.int64)
    next_hops(records, transit, table)
    return table


def walked(topology: Topology, table: np.ndarray, source: int, target: int) -> list[Line] | None:
    lines: list[Line] = []
    while source != target:
        if table[source, target] < 0:
            return None
        lines.append(topology.links[table[source, target]])
        source = lines[-1].target.device.index
    return lines


@pytest.mark.parametrize("level", list(Level)[1:])
@pytest.mark.parametrize("seed", range(6))
def test_the_current_path_is_the_one_that_devices_forward_by(seed, level):
    rng = random.Random(seed)
    topology = build_topology(NetworkSpec())
    delays = np.array([rng.uniform(0.1, 5.0) for _ in topology.links])
    lines = rng.sample(topology.adjacencies, seed)
    cut = {line.index for line in topology.links if line.adjacency in lines}
    locked = {"upf-1"} if seed % 3 == 2 else set()
    networks = {domain: twin_of(topology, domain, cut, locked, delays) for domain in DOMAINS}
    ends = {}
    for domain, network in networks.items():
        for identity in (*network.cells, *network.functions, *network.hosts):
            ends[f"{domain}/{identity.split(':', 3)[3].replace(':', '.')}"] = identity
    views = [
        abstract(
            network,
            level=level,
            published={n.partition("/")[2]: i for n, i in ends.items() if n.startswith(domain + "/")},
            agreement="a",
            precision=Precision(),
            risk_salt=b"s",
        )
        for domain, network in networks.items()
    ]
    graph = ComposedGraph(Member(view.domain, view, connected=True) for view in views)
    table = forwarded(topology, cut, locked)
    upfs = {device.name for device in topology.of_kind("upf")}
    cells = [name for name in ends if name.startswith("ran/")]

    for source in rng.sample(cells, 6):
        for target in (name for name in ends if not name.startswith("ran/")):
            at = next(d for d in topology.devices if d.name == source.split("/")[1].split(".")[0])
            to = next(d for d in topology.devices if d.name == target.split("/")[1].split(".")[0])
            truth = walked(topology, table, at.index, to.index) if to.name not in locked else None
            try:
                path = find(graph, source, target, now=0).paths[0]
            except NoPath:
                assert truth is None
                continue
            assert truth is not None
            met = [line.target.device.name for line in truth]
            delay = 2.0 + sum(delays[line.index] for line in truth) + 0.5 * sum(name in upfs for name in met)
            delay += 0.25 if to.kind == "host" else 0.5 if to.kind in ("amf", "smf") else 0.0
            assert [hop.link_id for hop in path.hops if hop.link_id] == [
                line.adjacency.crossing for line in truth if line.adjacency.crossing
            ]
            assert path.total.metric == sum(line.source.metric for line in truth)
            assert math.isclose(path.total.delay_ms, delay, rel_tol=1e-9)
