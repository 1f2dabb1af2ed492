"""Solve a graph for flows with given paths: delay, delay variance, loss and throughput of every flow.

Owns the fixed point of losses along explicit paths, in plain NumPy; what an edge does is `laws`' to say.
Finds no paths, keeps no state, and gives NaN for a flow that never arrives. It is the reference that other
ways to the same answer are compared with, and the solver for files that come with their own routing.
F flows, H hops of all flows together, E edges, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import FloatArray, IntArray, SimGraph
from domain_twin.simulation.laws.edges import Laws, compile_laws, evaluate_all

__all__ = ["FlowSolution", "Flows", "Hops", "Indices", "check_flows", "solve_flows"]

Indices: TypeAlias = npt.NDArray[np.integer[Any]]

DAMPING = 0.5
MAX_ITERATIONS = 200
TOLERANCE = 1e-10
_ALL_LOST = 1.0 - 1e-12
_STEP = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Flows with their paths: flow f crosses edges[offsets[f]:offsets[f + 1]], in order."""

    source: IntArray  # [F] node index
    target: IntArray  # [F] node index
    traffic_class: IntArray  # [F] class index
    rate_pps: FloatArray  # [F] offered packets/s
    offsets: IntArray  # [F + 1]
    edges: IntArray  # [H] edge index

    @classmethod
    def of(
        cls,
        pairs: Sequence[tuple[int, int]],
        paths: Sequence[Sequence[int]],
        rate_pps: Sequence[float],
        traffic_class: Sequence[int] | None = None,
    ) -> Flows:
        """Build from lists, one entry a flow; all flows are of class 0 unless told."""
        classes = [0] * len(pairs) if traffic_class is None else traffic_class
        ends = np.asarray(pairs, dtype=np.int32).reshape(len(pairs), 2)
        return cls(
            np.ascontiguousarray(ends[:, 0]),
            np.ascontiguousarray(ends[:, 1]),
            np.asarray(classes, dtype=np.int32),
            np.asarray(rate_pps, dtype=np.float64),
            np.concatenate([[0], np.cumsum([len(path) for path in paths])]).astype(np.int32),
            np.asarray([edge for path in paths for edge in path], dtype=np.int32),
        )

    @property
    def count(self) -> int:
        """Number of flows."""
        return len(self.rate_pps)


@dataclass(frozen=True, slots=True, eq=False)
class Hops:
    """One entry for every flow and edge on its path, in the order of `Flows.edges`."""

    flow: IntArray  # [H] flow index
    edge: IntArray  # [H] edge index
    before: IntArray  # [H] edge that the flow came from; -1 on its first
    traffic_class: IntArray  # [H]
    rate_pps: FloatArray  # [H] what is left of the flow when it reaches the edge


@dataclass(frozen=True, slots=True, eq=False)
class FlowSolution:
    """What flows get, and what edges carry for it. NaN: no packet arrives."""

    delay_s: FloatArray  # [F] mean one-way delay of packets that arrive
    variance_s2: FloatArray  # [F] its variance
    loss: FloatArray  # [F]
    throughput_pps: FloatArray  # [F]
    wait_s: FloatArray  # [E, C] mean wait of accepted packets
    wait_variance_s2: FloatArray  # [E, C]
    wait_growth: FloatArray  # [E, C] relative growth of the wait over that of all load, d ln W / d ln load
    edge_loss: FloatArray  # [E, C]
    load_pps: FloatArray  # [E, C] offered
    utilisation: FloatArray  # [E] offered load over capacity; above 1 in overload
    service_s: FloatArray  # [E, C]
    hops: Hops
    iterations: int
    converged: bool


def check_flows(graph: SimGraph, flows: Flows) -> None:
    """Refuse flows that do not fit the graph; says which flow, and why."""
    nodes, edges, classes = len(graph.nodes), len(graph.edges), len(graph.classes)
    lengths = np.diff(flows.offsets)
    shapes = {len(flows.source), len(flows.target), len(flows.traffic_class), flows.count}
    if len(shapes) > 1 or len(flows.offsets) != flows.count + 1 or flows.offsets[0] != 0:
        raise ConfigError("flows: the arrays have different lengths; give one entry for each flow in each")
    if (lengths < 0).any() or flows.offsets[-1] != len(flows.edges):
        raise ConfigError(
            "flows: the offsets do not cover the list of edges in order; build them with Flows.of"
        )
    _refuse(~np.isfinite(flows.rate_pps) | (flows.rate_pps < 0), "its rate must be finite and not negative")
    _refuse((flows.source < 0) | (flows.source >= nodes), f"its source is not one of {nodes} nodes")
    _refuse((flows.target < 0) | (flows.target >= nodes), f"its target is not one of {nodes} nodes")
    _refuse(
        (flows.traffic_class < 0) | (flows.traffic_class >= classes), f"its class is not one of {classes}"
    )
    _refuse(lengths == 0, "its path is empty")
    owner = np.repeat(np.arange(flows.count), lengths)
    _refuse_hops((flows.edges < 0) | (flows.edges >= edges), owner, f"an edge is not one of {edges}")
    joined = graph.head[flows.edges[:-1]] == graph.tail[flows.edges[1:]]
    _refuse_hops(~joined & (owner[:-1] == owner[1:]), owner[:-1], "two edges of its path do not meet")
    _refuse(graph.tail[flows.edges[flows.offsets[:-1]]] != flows.source, "its path begins elsewhere")
    _refuse(graph.head[flows.edges[flows.offsets[1:] - 1]] != flows.target, "its path ends elsewhere")
    _refuse_hops(~graph.up[flows.edges], owner, "an edge of its path is down")


def solve_flows(
    graph: SimGraph,
    flows: Flows,
    laws: Laws | None = None,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> FlowSolution:
    """Find the losses that agree with the loads that they leave, then add up along the paths.

    Losses thin a flow hop by hop, as if independent (reduced-load approximation: F. P. Kelly, "Loss
    networks", Ann. Appl. Probab. 1 (1991)), damped by a half. `converged` is False where the last step
    changed a loss by more than `tolerance`. The delay is the sum of the edges'; the variance is the sum of
    the waits' plus the size's own part: a packet keeps its size, so its service times on links are one
    random size times the sum of seconds per octet, c_s^2 (sum E[S])^2, and not a sum of independent ones.
    """
    check_flows(graph, flows)
    edges, classes = len(graph.edges), len(graph.classes)
    lengths = np.diff(flows.offsets)
    owner = np.repeat(np.arange(flows.count, dtype=np.int32), lengths)
    kind = flows.traffic_class[owner]
    first = np.repeat(flows.offsets[:-1], lengths)
    slot = flows.edges.astype(np.int64) * classes + kind
    known = compile_laws(graph) if laws is None else laws
    service = known.service_s
    loss = np.zeros((edges, classes))
    iterations, converged = 0, False
    while True:
        iterations += 1
        rate_at, kept = _thin(flows, loss, slot, owner, first)
        load = _per_edge(slot, rate_at, edges, classes)
        square = _per_edge(slot, rate_at**2, edges, classes)
        delay, variance, wanted = evaluate_all(known, load, square)
        step = float(np.max(np.abs(wanted - loss), initial=0.0))
        if step <= tolerance:
            converged = True
            break
        if iterations >= max_iterations:
            break
        # The first step is taken whole: from no loss at all, half of it would only cost an iteration.
        loss = wanted if iterations == 1 else loss + DAMPING * (wanted - loss)
    arrives = kept > 0.0
    delay_s = np.bincount(owner, delay.ravel()[slot], flows.count)
    scv = np.array([kind.size_scv for kind in graph.classes])
    own = np.bincount(owner, known.size_s.ravel()[slot], flows.count)
    variance_s2 = np.bincount(owner, variance.ravel()[slot], flows.count) + scv[flows.traffic_class] * own**2
    previous = np.concatenate([[-1], flows.edges[:-1]]).astype(np.int32)
    previous[flows.offsets[:-1]] = -1
    wait = np.maximum(delay - service - graph.fixed_s[:, None], 0.0)
    more = evaluate_all(known, load * (1.0 + _STEP), square * (1.0 + _STEP) ** 2)[0] - delay
    return FlowSolution(
        delay_s=np.where(arrives, delay_s, np.nan),
        variance_s2=np.where(arrives, variance_s2, np.nan),
        loss=1.0 - kept,
        throughput_pps=flows.rate_pps * kept,
        wait_s=wait,
        wait_growth=np.where(wait > 0.0, np.maximum(more, 0.0) / (_STEP * np.maximum(wait, 1e-300)), 1.0),
        wait_variance_s2=variance,
        edge_loss=wanted,
        load_pps=load,
        utilisation=(load * service).sum(axis=1) / np.maximum(known.servers, 1.0),
        service_s=service,
        hops=Hops(owner, flows.edges, previous, kind, rate_at),
        iterations=iterations,
        converged=converged,
    )


def _thin(
    flows: Flows, loss: FloatArray, slot: Indices, owner: Indices, first: Indices
) -> tuple[FloatArray, FloatArray]:
    """Give the rate of a flow at each of its hops [H], and the share of it that arrives [F]."""
    # In logarithms, so that one running sum serves all paths.
    log_kept = np.log1p(-np.minimum(loss.ravel()[slot], _ALL_LOST))
    running = np.concatenate([[0.0], np.cumsum(log_kept)])
    rate_at = flows.rate_pps[owner] * np.exp(running[:-1] - running[first])
    kept = np.exp(running[flows.offsets[1:]] - running[flows.offsets[:-1]])
    return rate_at, np.where(kept <= 10.0 * (1.0 - _ALL_LOST), 0.0, kept)


def _per_edge(slot: Indices, values: FloatArray, edges: int, classes: int) -> FloatArray:
    return np.asarray(np.bincount(slot, values, edges * classes), dtype=np.float64).reshape(edges, classes)


def _refuse(bad: np.ndarray, why: str) -> None:
    if bad.any():
        raise ConfigError(f"flow {int(np.argmax(bad))}: {why}")


def _refuse_hops(bad: np.ndarray, owner: np.ndarray, why: str) -> None:
    if bad.any():
        raise ConfigError(f"flow {int(owner[np.argmax(bad)])}: {why}")
