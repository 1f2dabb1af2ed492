"""The text that the runner reads: a graph, flows, routes. Refuses what ns-3 cannot run as asked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from domain_twin.errors import NoPath, OperationRejected, OverCapacity
from domain_twin.simulation.flows import Flows
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, Law, SimGraph, TrafficClass

if TYPE_CHECKING:
    from domain_twin.simulation.routing import Trees

__all__ = ["Window", "flows_of", "refuse_overload", "write"]

_ARRIVALS = {Arrivals.POISSON: 0, Arrivals.ON_OFF: 1, Arrivals.CBR_ON_OFF: 2, Arrivals.CBR: 3}
_LEAST_OCTETS = 6  # a PPP header, and the runner's own four octets
_KEPT = 30_000_000
"""Delays that the runner keeps for percentiles, four octets each."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is simulated: a warm-up that is not counted, then what is, in `batches` for standard errors."""

    warmup_s: float
    duration_s: float
    batches: int = 30
    drain_s: float = 30.0  # at most, until the last counted packet is through

    def __post_init__(self) -> None:
        numbers = (self.warmup_s, self.duration_s, self.drain_s)
        if not (all(map(math.isfinite, numbers)) and min(numbers) >= 0 and self.duration_s > 0):
            raise OperationRejected(
                f"warm-up {self.warmup_s} s, {self.duration_s} s that count, a drain of {self.drain_s} s: "
                "give finite times, the second above 0"
            )
        if self.batches < 2:
            raise OperationRejected(f"{self.batches} batches give no standard error; 2 or more do")


def flows_of(demand: Demand) -> Flows:
    """One flow for every class and pair of nodes that has demand, without a path: by the shortest."""
    traffic_class, target, source = np.nonzero(demand.rate)
    return Flows(
        source.astype(np.int32),
        target.astype(np.int32),
        traffic_class.astype(np.int32),
        demand.rate[traffic_class, target, source],
        np.zeros(len(source) + 1, np.int32),
        np.empty(0, np.int32),
    )


def write(graph: SimGraph, flows: Flows, *, trees: Trees | None, window: Window, seed: int, run: int) -> str:
    """The scenario as text; without `trees` by the flows' paths. Raises NoPath, OperationRejected."""
    _check(graph, flows)
    return "\n".join(
        [
            "fedtwin-ns3 1",
            f"window {window.warmup_s!r} {window.duration_s!r} {window.batches} {window.drain_s!r}",
            f"random {seed % 4_294_944_441 + 1} {run}",  # ns-3's MRG32k3a takes 1 to 4294944442
            f"samples {max(100, _KEPT // flows.count)}",
            f"nodes {len(graph.nodes)}",
            f"classes {len(graph.classes)}",
            *(_class(each) for each in graph.classes),
            f"edges {len(graph.edges)}",
            *_edges(graph),
            *(["tables 0"] if trees is None else _tables(graph, flows, trees)),
            *_paths(flows, given=trees is None),
            f"flows {flows.count}",
            *_flows(graph, flows, given=trees is None),
            "end",
            "",
        ]
    )


def refuse_overload(graph: SimGraph, offered_pps: FloatArray, work_s: FloatArray) -> None:
    """Refuse edges that are offered more than they serve and queue without bound; arrays [E].

    `work_s` is the mean time that an edge spends on a packet. Raises OverCapacity.
    """
    servers = np.where(graph.law == Law.STATION, np.maximum(graph.servers, 1), 1)
    load = offered_pps * work_s / servers
    for e in np.flatnonzero((load >= 1) & ~np.isfinite(graph.buffer) & (graph.law != Law.FIXED)):
        raise OverCapacity(
            f"{graph.edges[e]} is offered {load[e]:.0%} of what it serves and its queue has no bound: "
            "it never settles; give it a buffer, more capacity, or less demand"
        )


def _check(graph: SimGraph, flows: Flows) -> None:
    if not flows.count:
        raise OperationRejected("no demand to simulate: give at least one pair of nodes a rate above 0")
    bad = np.flatnonzero(~(np.isfinite(flows.rate_pps) & (flows.rate_pps > 0)))
    if bad.size:
        i = int(bad[0])
        where = f"{graph.nodes[flows.source[i]]} to {graph.nodes[flows.target[i]]}"
        raise OperationRejected(
            f"demand from {where} is {flows.rate_pps[i]} packets/s; give a number above 0"
        )
    for c in sorted({int(c) for c in flows.traffic_class}):
        _check_class(graph.classes[c])


def _check_class(each: TrafficClass) -> None:
    if each.arrivals not in _ARRIVALS:
        raise OperationRejected(
            f"class {each.name} is {each.arrivals.value}: ns-3 runs packets at given rates; "
            "solve it first, and give the class the rates that it gets"
        )
    on_off = each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
    if on_off and not (each.on_s > 0 and each.off_s >= 0):
        raise OperationRejected(
            f"class {each.name} has on periods of {each.on_s} s and off periods of {each.off_s} s; "
            "on periods have to be longer than 0"
        )
    if min(each.sizes) < _LEAST_OCTETS and not each.exponential:
        raise OperationRejected(
            f"class {each.name} has packets of {min(each.sizes):g} octets; "
            f"ns-3's point-to-point links carry {_LEAST_OCTETS} and more"
        )


def _class(each: TrafficClass) -> str:
    sizes = (each.mean_octets,) if each.exponential else each.sizes
    probabilities = (1.0,) if each.exponential else each.probabilities
    pairs = " ".join(f"{float(size)!r} {float(p)!r}" for size, p in zip(sizes, probabilities, strict=True))
    return (
        f"{_ARRIVALS.get(each.arrivals, 0)} {float(each.on_s)!r} {float(each.off_s)!r} {each.priority} "
        f"{float(each.weight)!r} {int(each.exponential)} {len(sizes)} {pairs}"
    )


def _edges(graph: SimGraph) -> Iterator[str]:
    for e in range(len(graph.edges)):
        law = Law(int(graph.law[e]))
        rate = float(graph.capacity_bps[e]) if law in (Law.LINK, Law.CELL) else 0.0
        station = law is Law.STATION
        servers = int(graph.servers[e]) if station else 0
        service, scv = (float(graph.service_s[e]), float(graph.service_scv[e])) if station else (0.0, 0.0)
        places = float(graph.buffer[e])
        buffer = int(places) if math.isfinite(places) and law is not Law.FIXED else -1
        yield (
            f"{int(law)} {int(graph.tail[e])} {int(graph.head[e])} {rate!r} {float(graph.fixed_s[e])!r} "
            f"{buffer} {servers} {service!r} {scv!r} {float(graph.loss[e])!r} {int(graph.scheduler[e])}"
        )


def _tables(graph: SimGraph, flows: Flows, trees: Trees) -> Iterator[str]:
    targets = np.unique(flows.target)
    yield f"tables {len(targets)}"
    for d in targets:
        next_edges: dict[int, list[int]] = {}
        for e in trees.edge[d, : trees.count[d]]:
            next_edges.setdefault(int(graph.tail[e]), []).append(int(e))
        yield f"{int(d)} {len(next_edges)}"
        yield from (f"{node} {len(out)} {' '.join(map(str, out))}" for node, out in next_edges.items())
        for source in flows.source[flows.target == d]:
            if int(source) not in next_edges:
                raise NoPath(f"no path from {graph.nodes[source]} to {graph.nodes[d]}: leave its demand out")


def _paths(flows: Flows, *, given: bool) -> Iterator[str]:
    yield f"paths {flows.count if given else 0}"
    for i in range(flows.count if given else 0):
        path = flows.edges[flows.offsets[i] : flows.offsets[i + 1]]
        yield f"{len(path)} {' '.join(map(str, path))}"


def _flows(graph: SimGraph, flows: Flows, *, given: bool) -> Iterator[str]:
    nodes, classes = len(graph.nodes), len(graph.classes)
    seen: Counter[tuple[int, int, int]] = Counter()
    for i in range(flows.count):
        c, s, d = int(flows.traffic_class[i]), int(flows.source[i]), int(flows.target[i])
        # By who it is, not by its place in the list: before and after a change it sends the same packets.
        stream = ((seen[c, s, d] * classes + c) * nodes + d) * nodes + s
        seen[c, s, d] += 1
        yield f"{c} {s} {d} {float(flows.rate_pps[i])!r} {stream} {i if given else -1}"
