"""The text that the runner reads: a graph, its flows and their routes. Refuses what ns-3 cannot run as asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from domain_twin.errors import NoPath, OperationRejected, OverCapacity
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, IntArray, Law, SimGraph, TrafficClass

if TYPE_CHECKING:
    from domain_twin.simulation.routing import Trees

__all__ = ["Flows", "Window", "flows_of", "write"]

_ARRIVALS = {Arrivals.POISSON: 0, Arrivals.ON_OFF: 1, Arrivals.CBR_ON_OFF: 2, Arrivals.CBR: 3}
_KEPT = 30_000_000
"""Delays that the runner keeps for percentiles, four octets each."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is simulated: a warm-up that is not counted, then what is, in `batches` for standard errors."""

    warmup_s: float
    duration_s: float
    batches: int = 30
    drain_s: float = 30.0  # at most, until the last counted packet is through


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """F flows. `paths`: the edges of each in order; None: by the trees of their destinations."""

    traffic_class: IntArray  # [F]
    source: IntArray  # [F]
    destination: IntArray  # [F]
    rate: FloatArray  # [F] packets/s
    paths: Sequence[Sequence[int]] | None = None


def flows_of(demand: Demand) -> Flows:
    """One flow for every class and pair of nodes that has demand."""
    traffic_class, destination, source = np.nonzero(demand.rate)
    return Flows(
        traffic_class.astype(np.int32),
        source.astype(np.int32),
        destination.astype(np.int32),
        demand.rate[traffic_class, destination, source],
    )


def write(graph: SimGraph, flows: Flows, *, trees: Trees | None, window: Window, seed: int, run: int) -> str:
    """The scenario as text. Raises NoPath, OperationRejected and OverCapacity."""
    _check(graph, flows)
    lines = [
        "fedtwin-ns3 1",
        f"window {window.warmup_s!r} {window.duration_s!r} {window.batches} {window.drain_s!r}",
        f"random {seed % 4_294_944_441 + 1} {run}",  # MRG32k3a takes 1 to m2 - 1
        f"samples {max(100, _KEPT // max(1, len(flows.source)))}",
        f"nodes {len(graph.nodes)}",
        f"classes {len(graph.classes)}",
        *(_class(each) for each in graph.classes),
        f"edges {len(graph.edges)}",
        *_edges(graph),
        *(_tables(graph, flows, trees) if flows.paths is None else ["tables 0"]),
        *(_paths(flows)),
        f"flows {len(flows.source)}",
        *_flows(graph, flows),
        "end",
    ]
    return "\n".join(lines) + "\n"


def _check(graph: SimGraph, flows: Flows) -> None:
    if not len(flows.source):
        raise OperationRejected("no demand to simulate: give at least one pair of nodes a rate above 0")
    bad = np.flatnonzero(~(np.isfinite(flows.rate) & (flows.rate > 0)))
    if bad.size:
        i = int(bad[0])
        where = f"{graph.nodes[flows.source[i]]} to {graph.nodes[flows.destination[i]]}"
        raise OperationRejected(f"demand from {where} is {flows.rate[i]} packets/s; give a number above 0")
    used = {int(c) for c in np.unique(flows.traffic_class)}
    for c in sorted(used):
        each = graph.classes[c]
        if each.arrivals not in _ARRIVALS:
            raise OperationRejected(
                f"class {each.name} is {each.arrivals.value}: ns-3 runs packets at given rates; solve it first, and "
                "give the class the rate that it gets"
            )
        if each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF) and not (
            each.on_s > 0 and each.off_s >= 0
        ):
            raise OperationRejected(
                f"class {each.name} has on periods of {each.on_s} s and off periods of {each.off_s} s; "
                "on periods have to be longer than 0"
            )
        if min(each.sizes) < 6 and not each.exponential:
            raise OperationRejected(
                f"class {each.name} has packets of {min(each.sizes):g} octets; ns-3's point-to-point links carry 6 and more"
            )

    if flows.paths is not None:
        if len(flows.paths) != len(flows.source):
            raise ValueError(f"{len(flows.source)} flows with {len(flows.paths)} paths")
        for i, path in enumerate(flows.paths):
            _check_path(graph, int(flows.source[i]), int(flows.destination[i]), path)


def _check_path(graph: SimGraph, source: int, destination: int, path: Sequence[int]) -> None:
    at = source
    for e in path:
        if int(graph.tail[e]) != at or not graph.up[e]:
            why = "is down" if int(graph.tail[e]) == at else f"does not begin at {graph.nodes[at]}"
            ends = f"{graph.nodes[source]} to {graph.nodes[destination]}"
            raise OperationRejected(f"the path from {ends} takes {graph.edges[e]}, which {why}")
        at = int(graph.head[e])
    if at != destination or not len(path):
        raise OperationRejected(
            f"the path from {graph.nodes[source]} to {graph.nodes[destination]} ends at {graph.nodes[at]}"
        )


def _class(each: TrafficClass) -> str:
    sizes = (each.mean_octets,) if each.exponential else each.sizes
    probabilities = (1.0,) if each.exponential else each.probabilities
    pairs = " ".join(f"{float(size)!r} {float(p)!r}" for size, p in zip(sizes, probabilities, strict=True))
    arrivals = _ARRIVALS.get(each.arrivals, 0)
    return (
        f"{arrivals} {float(each.on_s)!r} {float(each.off_s)!r} {each.priority} {float(each.weight)!r} "
        f"{int(each.exponential)} {len(sizes)} {pairs}"
    )


def _edges(graph: SimGraph) -> Iterator[str]:
    for e in range(len(graph.edges)):
        law = Law(int(graph.law[e]))
        rate = float(graph.capacity_bps[e]) if law in (Law.LINK, Law.CELL) else 0.0
        servers = int(graph.servers[e]) if law is Law.STATION else 0
        service = float(graph.service_s[e]) if law is Law.STATION else 0.0
        scv = float(graph.service_scv[e]) if law is Law.STATION else 0.0
        places = float(graph.buffer[e])
        buffer = int(places) if math.isfinite(places) else -1
        yield (
            f"{int(law)} {int(graph.tail[e])} {int(graph.head[e])} {rate!r} {float(graph.fixed_s[e])!r} {buffer} "
            f"{servers} {service!r} {scv!r} {float(graph.loss[e])!r} {int(graph.scheduler[e])}"
        )


def _tables(graph: SimGraph, flows: Flows, trees: Trees | None) -> Iterator[str]:
    if trees is None:
        raise ValueError("flows without paths need trees")
    destinations = np.unique(flows.destination)
    yield f"tables {len(destinations)}"
    for d in destinations:
        edges = trees.edge[d, : trees.count[d]]
        next_edges: dict[int, list[int]] = {}
        for e in edges:
            next_edges.setdefault(int(graph.tail[e]), []).append(int(e))
        yield f"{int(d)} {len(next_edges)}"
        yield from (f"{node} {len(out)} {' '.join(map(str, out))}" for node, out in next_edges.items())
        for source in flows.source[flows.destination == d]:
            if int(source) not in next_edges:
                raise NoPath(f"no path from {graph.nodes[source]} to {graph.nodes[d]}: leave its demand out")


def _paths(flows: Flows) -> Iterator[str]:
    paths = flows.paths or ()
    yield f"paths {len(paths)}"
    for path in paths:
        yield f"{len(path)} {' '.join(str(int(e)) for e in path)}"


def _flows(graph: SimGraph, flows: Flows) -> Iterator[str]:
    nodes = len(graph.nodes)
    for i in range(len(flows.source)):
        c, s, d = int(flows.traffic_class[i]), int(flows.source[i]), int(flows.destination[i])
        # By who it is, not by its place in the list: before and after a change it sends the same packets.
        stream = (c * nodes + d) * nodes + s
        yield f"{c} {s} {d} {float(flows.rate[i])!r} {stream} {i if flows.paths is not None else -1}"


def refuse_overload(graph: SimGraph, offered_pps: FloatArray, work_s: FloatArray) -> None:
    """Refuse edges that are offered more than they serve and queue without bound; arrays [E].

    `work_s` is the mean time that an edge spends on a packet. Raises OverCapacity.
    """
    servers = np.where(graph.law == Law.STATION, np.maximum(graph.servers, 1), 1)
    load = offered_pps * work_s / servers
    for e in np.flatnonzero((load >= 1) & ~np.isfinite(graph.buffer) & (graph.law != Law.FIXED)):
        raise OverCapacity(
            f"{graph.edges[e]} is offered {load[e]:.0%} of what it serves and its queue has no bound: it never settles; "
            "give it a buffer, more capacity, or less demand"
        )
