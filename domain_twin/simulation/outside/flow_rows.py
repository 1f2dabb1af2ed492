"""What each flow gets, as rows that are the same whoever computed them: queueing, given paths, or packets.

Owns the units that people read. NaN: it cannot be said; a flow without a path has a loss of 1 and no delay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain_twin.simulation.flows import Flows, FlowSolution
from domain_twin.simulation.graph import Demand, FloatArray, SimGraph
from domain_twin.simulation.outside.ns3.result import QUANTILES, PacketRun
from domain_twin.simulation.percentiles import LEVELS, percentiles
from domain_twin.simulation.solve import Solution

__all__ = ["EdgeRow", "FlowRow", "of_packets", "of_paths", "of_solution", "packet_edges", "solution_edges"]


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One flow's figures. Percentiles are of the one-way delay; errors are standard errors, of packets."""

    source: str
    target: str
    traffic_class: str
    offered_mbps: float
    delay_ms: float
    delay_variance_ms2: float
    loss: float
    throughput_mbps: float
    p90_ms: float = math.nan
    p95_ms: float = math.nan
    p99_ms: float = math.nan
    delay_error_ms: float = math.nan
    loss_error: float = math.nan
    jitter_ms: float = math.nan  # mean |d_i - d_(i-1)|; only packets tell it
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """One edge's share of busy time, and of packets that it loses."""

    edge: str
    utilisation: float
    loss: float


def of_solution(solution: Solution, demand: Demand) -> list[FlowRow]:
    """Rows for all pairs with demand."""
    graph = solution.graph
    rows = []
    for c, traffic in enumerate(graph.classes):
        d, s = np.nonzero(demand.rate[c])
        if not len(d):
            continue
        tail = percentiles(
            solution.delay_s[c, d, s],
            solution.variance_s2[c, d, s],
            solution.fixed_s[c, d, s],
            size_s=solution.size_s[c, d, s],
            traffic_class=traffic,
        )
        for i, (target, source) in enumerate(zip(d.tolist(), s.tolist(), strict=True)):
            delay = float(solution.delay_s[c, target, source])
            loss = float(solution.loss[c, target, source]) if math.isfinite(delay) else 1.0
            offered = float(demand.rate[c, target, source]) * traffic.mean_octets * 8e-6
            rows.append(
                FlowRow(
                    graph.nodes[source],
                    graph.nodes[target],
                    traffic.name,
                    offered,
                    delay * 1e3,
                    float(solution.variance_s2[c, target, source]) * 1e6,
                    loss,
                    offered * (1 - loss),
                    p90_ms=float(tail[0, i]) * 1e3,
                    p95_ms=float(tail[1, i]) * 1e3,
                    p99_ms=float(tail[2, i]) * 1e3,
                    path=tuple(graph.edges[e] for e in solution.path(source, target)),
                )
            )
    return rows


def of_paths(graph: SimGraph, flows: Flows, solution: FlowSolution) -> list[FlowRow]:
    """Rows for flows that came with their paths."""
    rows = []
    for i in range(flows.count):
        traffic = graph.classes[flows.traffic_class[i]]
        path = flows.edges[flows.offsets[i] : flows.offsets[i + 1]]
        fixed = float(graph.fixed_s[path].sum())
        size = float(solution.service_s[path, flows.traffic_class[i]].sum())
        delay, variance = float(solution.delay_s[i]), float(solution.variance_s2[i])
        tail = percentiles(delay, variance, fixed, size_s=size, traffic_class=traffic)
        octets = traffic.mean_octets * 8e-6
        rows.append(
            FlowRow(
                graph.nodes[flows.source[i]],
                graph.nodes[flows.target[i]],
                traffic.name,
                float(flows.rate_pps[i]) * octets,
                delay * 1e3,
                variance * 1e6,
                float(solution.loss[i]),
                float(solution.throughput_pps[i]) * octets,
                p90_ms=float(tail[0]) * 1e3,
                p95_ms=float(tail[1]) * 1e3,
                p99_ms=float(tail[2]) * 1e3,
                path=tuple(graph.edges[e] for e in path),
            )
        )
    return rows


def of_packets(graph: SimGraph, run: PacketRun, offered_pps: FloatArray) -> list[FlowRow]:
    """Rows for what was measured packet by packet; `offered_pps` [F] is what was asked for."""
    at = [QUANTILES.index(level) for level in LEVELS]
    rows = []
    for i in range(len(run.source)):
        traffic = graph.classes[run.traffic_class[i]]
        offered = float(offered_pps[i]) * traffic.mean_octets * 8e-6
        tail = run.percentile_s[i, at]
        rows.append(
            FlowRow(
                graph.nodes[run.source[i]],
                graph.nodes[run.target[i]],
                traffic.name,
                offered,
                float(run.delay_s[i]) * 1e3,
                float(run.variance_s2[i]) * 1e6,
                float(run.loss[i]),
                offered * (1 - float(run.loss[i])),
                p90_ms=float(tail[0]) * 1e3,
                p95_ms=float(tail[1]) * 1e3,
                p99_ms=float(tail[2]) * 1e3,
                delay_error_ms=float(run.delay_error_s[i]) * 1e3,
                loss_error=float(run.loss_error[i]),
                jitter_ms=float(run.jitter_s[i]) * 1e3,
            )
        )
    return rows


def solution_edges(solution: Solution) -> list[EdgeRow]:
    """Edges that carry anything, busiest first."""
    load = solution.edges.load
    total = load.sum(axis=1)
    lost = (load * solution.edges.loss).sum(axis=1) / np.maximum(total, 1e-300)
    return _busiest(solution.graph.edges, solution.utilisation, lost, total)


def packet_edges(graph: SimGraph, run: PacketRun) -> list[EdgeRow]:
    """The same, counted."""
    lost = (run.edge_dropped + run.edge_lost) / np.maximum(run.edge_offered, 1)
    return _busiest(graph.edges, run.edge_utilisation, lost, run.edge_offered)


def _busiest(
    names: Sequence[str], utilisation: FloatArray, lost: FloatArray, carried: FloatArray
) -> list[EdgeRow]:
    used = [e for e in np.argsort(-utilisation, kind="stable").tolist() if carried[e] > 0]
    return [EdgeRow(names[e], float(utilisation[e]), float(lost[e])) for e in used]
