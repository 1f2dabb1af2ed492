"""The network as arrays: nodes, directed edges, traffic classes, demand. Shapes and units; no computing.

Everything that delays packets is an edge. A link joins two nodes. What waits inside a node is an edge of its
own: a cell is a node whose only edge (law CELL) leads to its gNB, a network function or host is a node behind
the node that it runs on, joined by an edge of law STATION. N nodes, E edges, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "BASE",
    "Arrivals",
    "Demand",
    "FloatArray",
    "IntArray",
    "Law",
    "PairRate",
    "Rung",
    "Scheduler",
    "SimGraph",
    "TrafficClass",
    "Variant",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int32]


class Law(IntEnum):
    """What an edge does to packets."""

    LINK = 0  # one server of a rate, a finite queue, in the order of its scheduler
    CELL = 1  # one server of a rate, shared by all packets present (processor sharing)
    STATION = 2  # `servers` equal servers of a service time, one queue
    FIXED = 3  # a delay, and nothing else


class Scheduler(IntEnum):
    """The order in which a link serves classes."""

    FIFO = 0
    STRICT_PRIORITY = 1  # non-preemptive; lower `priority` first
    WFQ = 2
    DRR = 3


class Arrivals(StrEnum):
    """How packets of one flow are told apart in time."""

    POISSON = "poisson"
    ON_OFF = "on-off"  # Poisson within exponential on periods
    CBR_ON_OFF = "cbr-on-off"  # equally spaced within exponential on periods
    CBR = "cbr"  # equally spaced
    ELASTIC = "elastic"  # as much as its path carries (max-min fair), at most the rate asked for


class Rung(StrEnum):
    """The fidelity of an answer, cheapest first; every answer says its own."""

    CAPACITY = "capacity"  # L0: reachability and a linear program
    TABLES = "tables"  # L1: queueing tables
    RESIDUAL = "residual"  # L2: tables with the learned correction
    PACKETS = "packets"  # L3: an outside packet-level simulator


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """Packets that look alike. Sizes in octets with their probabilities; on and off periods in seconds."""

    name: str
    sizes: tuple[float, ...] = (1000.0,)
    probabilities: tuple[float, ...] = (1.0,)
    exponential: bool = False  # sizes are exponential with the mean of `sizes`
    arrivals: Arrivals = Arrivals.POISSON
    on_s: float = 0.0
    off_s: float = 0.0
    priority: int = 0
    weight: float = 1.0
    packets: float = 1.0
    """Packets that travel together and count as one everywhere: `sizes` are of all of them."""
    measured: bool = False
    """It stands for what devices count of all traffic, as its domain's history describes that."""

    @property
    def mean_octets(self) -> float:
        """Mean packet size, octets."""
        return float(np.dot(self.sizes, self.probabilities))

    @property
    def size_scv(self) -> float:
        """Squared coefficient of variation of the packet size."""
        if self.exponential:
            return 1.0
        square = float(np.dot(np.square(self.sizes), self.probabilities))
        return square / self.mean_octets**2 - 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SimGraph:
    """A network ready to be solved. Arrays are never written to: what differs is a `Variant`."""

    nodes: tuple[str, ...]  # N ids
    edges: tuple[str, ...]  # E ids
    classes: tuple[TrafficClass, ...]  # C
    tail: IntArray  # [E] node index
    head: IntArray  # [E] node index
    law: npt.NDArray[np.int8]  # [E] Law
    scheduler: npt.NDArray[np.int8]  # [E] Scheduler
    up: npt.NDArray[np.bool_]  # [E]
    metric: FloatArray  # [E] > 0 on links; 0 on edges inside a node
    capacity_bps: FloatArray  # [E] LINK, CELL: bit/s
    fixed_s: FloatArray  # [E] propagation, or the constant part of a delay
    buffer: FloatArray  # [E] packets that may wait beside those in service; inf: no bound
    servers: IntArray  # [E] STATION
    service_s: FloatArray  # [E] STATION: mean service time of what counts as one packet
    service_scv: FloatArray  # [E] STATION: its squared coefficient of variation
    loss: FloatArray  # [E] probability that a packet is lost whatever the queue
    transit: npt.NDArray[np.bool_]  # [N] whether paths may cross the node
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Edges that fail together: shared-risk groups (RFC 4202) and nodes, by id."""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Offered packets per second, rate[class, destination, source], shape [C, N, N], diagonal 0."""

    rate: FloatArray


PairRate: TypeAlias = tuple[int, int, int, float]
"""Class, source, destination, packets/s."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a what-if changes, as indices into a SimGraph; never a copy of it.

    `values` maps a field of SimGraph (metric, capacity_bps, fixed_s, buffer, servers, service_s, loss,
    scheduler) to new values by edge. `pairs` replace the rate of single pairs, after `demand_scale` (all
    classes) and `class_scale` (by class index) were applied.
    """

    name: str = ""
    down: frozenset[int] = frozenset()  # edges
    restored: frozenset[int] = frozenset()  # edges that the graph has as down
    nodes_down: frozenset[int] = frozenset()
    values: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    demand_scale: float = 1.0
    class_scale: Mapping[int, float] = field(default_factory=dict)
    pairs: tuple[PairRate, ...] = ()
    note: Any = None


BASE = Variant("base")
