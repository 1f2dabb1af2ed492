"""What the engine answers: all of one variant, or a digest of it; and the steps in between, as arrays.

N nodes, E edges, C classes, P pairs that were asked for, L levels of percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domain_twin.errors import NotFound
from domain_twin.simulation import routing
from domain_twin.simulation.graph import FloatArray, IntArray, Rung, SimGraph, Variant
from domain_twin.simulation.laws.edges import Laws
from domain_twin.simulation.percentiles import LEVELS, percentiles
from domain_twin.simulation.routing import Topology, Trees

__all__ = ["Digest", "EdgeFigures", "Pair", "Solution", "State", "known"]

Pair: TypeAlias = tuple[int, int]
"""Source and destination, node indices."""


@dataclass(frozen=True, slots=True)
class State:
    """The network under one variant, before any traffic was put on it."""

    metric: FloatArray  # [E]
    up: npt.NDArray[np.bool_]  # [E]
    laws: Laws
    fixed_s: FloatArray  # [E]
    rate: FloatArray  # [C, destination, source] packets/s offered
    square: FloatArray  # [C, destination, source] sum over independent flows of their rate^2


@dataclass(frozen=True, slots=True, eq=False)
class EdgeFigures:
    """What edges carry and do, [E, C]. Delays and variances are of accepted packets, s and s^2."""

    offered: (
        FloatArray  # [C, destination, source] packets/s; elastic flows: what they send, not what they ask
    )
    load: FloatArray  # packets/s offered
    load_square: FloatArray  # sum over flows of rate^2; 0 for Poisson classes, whose laws do not ask
    delay: FloatArray  # waiting, service and the constant part
    variance: FloatArray  # without the part of a packet's own size on links
    loss: FloatArray  # probability
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Solution:
    """All pairs and classes of one variant: [class, destination, source]; NaN: there is no path.

    The diagonal is a delay and a loss of 0.
    """

    graph: SimGraph
    variant: Variant
    rung: Rung
    state: State
    topology: Topology
    trees: Trees
    ecmp: bool
    edges: EdgeFigures
    delay_s: FloatArray  # mean one-way delay of delivered packets
    variance_s2: FloatArray  # of the one-way delay of a flow's packets
    arrival: FloatArray  # probability that a packet is delivered
    fixed_s: FloatArray  # part of the delay that never changes (with ECMP: of the shortest path)
    size_s: FloatArray  # mean sum of service times on links: the part that goes with a packet's size

    @property
    def loss(self) -> FloatArray:
        """Probability that a packet is lost, [C, N, N]."""
        return 1.0 - self.arrival

    @property
    def throughput_pps(self) -> FloatArray:
        """Packets/s delivered, [C, N, N]."""
        return self.edges.offered * self.arrival

    @property
    def load_pps(self) -> FloatArray:
        """Packets/s offered to every edge, [C, E]."""
        return np.ascontiguousarray(self.edges.load.T)

    @cached_property
    def intensity(self) -> FloatArray:
        """Offered load of every edge in erlangs per server, [E]; more than 1: more than it can carry."""
        return _intensity(self.state, self.edges.load)

    @cached_property
    def utilisation(self) -> FloatArray:
        """Share of the time that an edge (a server of it) is busy with what it carries, [E]."""
        return _intensity(self.state, self.edges.load * (1.0 - self.edges.loss))

    @property
    def iterations(self) -> int:
        """Passes over the network until losses settled."""
        return self.edges.iterations

    @property
    def converged(self) -> bool:
        """Whether losses settled; figures that did not are not to be relied on."""
        return self.edges.converged

    def reachable(self, source: int, destination: int) -> bool:
        """Whether packets find a way."""
        return not np.isnan(self.arrival[0, destination, source])

    def percentiles(self, pairs: Sequence[Pair], levels: Sequence[float] = LEVELS) -> FloatArray:
        """High percentiles of the one-way delay of pairs, seconds, [L, C, P]."""
        for pair in pairs:
            known(self.graph, pair)
        at = [d for _, d in pairs], [s for s, _ in pairs]
        parts = (self.delay_s, self.variance_s2, self.fixed_s, self.size_s)
        return _percentiles(self.graph, tuple(part[:, at[0], at[1]] for part in parts), levels)

    def path(self, source: int, destination: int) -> tuple[int, ...]:
        """Edges that packets take, in order (with ECMP the way that carries most); empty: there is none."""
        known(self.graph, (source, destination))
        return routing.path(self.topology, self.trees, source, destination, ecmp=self.ecmp)


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """One variant of a sweep: the asked pairs [C, P] in full, the rest in sums. NaN: there is no path."""

    variant: Variant
    pairs: tuple[Pair, ...]
    figures: FloatArray  # [6, C, P] as the properties below name them
    busy: FloatArray  # [2, E]
    sums: FloatArray  # [C, 6] as `passes.digest` says
    worst: npt.NDArray[np.int64]  # [C, 4]
    iterations: int
    converged: bool

    @property
    def delay_s(self) -> FloatArray:
        """Mean one-way delay of delivered packets, [C, P]."""
        return _column(self.figures, 0)

    @property
    def variance_s2(self) -> FloatArray:
        """Its variance, [C, P]."""
        return _column(self.figures, 1)

    @property
    def loss(self) -> FloatArray:
        """Probability that a packet is lost, [C, P]."""
        return _column(self.figures, 2)

    @property
    def throughput_pps(self) -> FloatArray:
        """Packets/s delivered, [C, P]."""
        return _column(self.figures, 3)

    @property
    def fixed_s(self) -> FloatArray:
        """Part of the delay that never changes, [C, P]."""
        return _column(self.figures, 4)

    @property
    def size_s(self) -> FloatArray:
        """Mean sum of service times on links, [C, P]."""
        return _column(self.figures, 5)

    @property
    def intensity(self) -> FloatArray:
        """Offered load of every edge in erlangs per server, [E]."""
        return _column(self.busy, 0)

    @property
    def utilisation(self) -> FloatArray:
        """Share of the time that every edge is busy, [E]."""
        return _column(self.busy, 1)

    @property
    def offered_pps(self) -> FloatArray:
        """Packets/s of all pairs, [C]."""
        return _column(self.sums.T, 0)

    @property
    def delivered_pps(self) -> FloatArray:
        """Packets/s of all pairs that arrive, [C]."""
        return _column(self.sums.T, 1)

    @property
    def mean_delay_s(self) -> FloatArray:
        """Mean delay of all delivered packets, [C]; NaN: there are none."""
        none = np.full(len(self.sums), np.nan)
        mean: FloatArray = np.divide(self.sums[:, 2], self.sums[:, 1], out=none, where=self.sums[:, 1] > 0.0)
        return mean

    @property
    def worst_delay_s(self) -> FloatArray:
        """The longest mean delay of all pairs with demand, [C]."""
        return _column(self.sums.T, 3)

    @property
    def worst_delay(self) -> tuple[Pair | None, ...]:
        """The pair that has it, [C]; None: no pair with demand has a path."""
        return tuple(_pair(row[0], row[1]) for row in self.worst)

    @property
    def worst_loss(self) -> FloatArray:
        """The largest loss of all pairs with demand, [C]."""
        return _column(self.sums.T, 4)

    @property
    def worst_lossy(self) -> tuple[Pair | None, ...]:
        """The pair that has it, [C]."""
        return tuple(_pair(row[2], row[3]) for row in self.worst)

    @property
    def unreachable(self) -> IntArray:
        """Pairs with demand and without a path, [C]."""
        return self.sums[:, 5].astype(np.int32)

    def percentiles(self, graph: SimGraph, levels: Sequence[float] = LEVELS) -> FloatArray:
        """High percentiles of the one-way delay of the pairs, seconds, [L, C, P]."""
        return _percentiles(graph, (self.delay_s, self.variance_s2, self.fixed_s, self.size_s), levels)


def _column(array: FloatArray, index: int) -> FloatArray:
    column: FloatArray = array[index]
    return column


def known(graph: SimGraph, pair: Pair) -> None:
    """Refuse a pair of nodes that are not there: NotFound."""
    for node in pair:
        if not 0 <= node < len(graph.nodes):
            raise NotFound(f"there is no node {node}; there are {len(graph.nodes)}, numbered from 0")


def _intensity(state: State, load: FloatArray) -> FloatArray:
    laws = state.laws
    result: FloatArray = (load * laws.service_s).sum(axis=1) / np.where(laws.servers > 0.0, laws.servers, 1.0)
    return result


def _percentiles(graph: SimGraph, parts: tuple[FloatArray, ...], levels: Sequence[float]) -> FloatArray:
    delay, variance, fixed, size = parts
    found = np.empty((len(levels), *delay.shape))
    for c, kind in enumerate(graph.classes):
        found[:, c] = percentiles(delay[c], variance[c], fixed[c], levels, size_s=size[c], traffic_class=kind)
    return found


def _pair(source: Any, destination: Any) -> Pair | None:
    return None if source < 0 else (int(source), int(destination))
