"""How the laws of a graph's edges lie in arrays: which column means what. No computing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.laws.modulated import Axes

__all__ = [
    "ARRIVALS", "BITS", "BURST", "CAPACITY", "COLUMNS", "FIXED", "LAW", "LOSS", "MATCH", "MATCHED", "MIX",
    "OFF_OVER_ON", "ONE", "ON_SHARE", "PAIR", "PRIORITY", "RELAXATION", "ROOM", "SCHEDULER", "SCV", "SERVERS",
    "SERVICE", "SHAPE", "SHARES", "SIZE_SCV", "SIZE_THIRD", "TABLE", "TRAITS", "WEIGHT", "Laws",
]  # fmt: skip

# Columns of Laws.edge. ROOM: packets that may be in a link's queue and on its line; else those that may wait.
# TABLE, MATCH: first table of the edge's own mixtures, and of mixtures matched by their second moment.
LAW, SCHEDULER, CAPACITY, FIXED, ROOM, SERVERS, SERVICE, SCV, LOSS, TABLE, MIX, MATCH, BURST = range(13)
COLUMNS = 13

# Columns of Laws.traffic.
BITS, SIZE_SCV, SIZE_THIRD, SHAPE, PRIORITY, WEIGHT, ARRIVALS, OFF_OVER_ON, ON_SHARE, RELAXATION = range(10)
TRAITS = 10

# Values of MIX: all packets have one distribution; one of two; more than two.
ONE, PAIR, MATCHED = 0.0, 1.0, 2.0

SHARES = 17
"""Tables of a PAIR: from all the load of the second distribution to all of the first."""


class Laws(NamedTuple):
    """A graph's edges as numba reads them. E edges, C classes, T tables, M tables of bursts."""

    edge: FloatArray  # [E, COLUMNS]
    traffic: FloatArray  # [C, TRAITS]
    service_s: FloatArray  # [E, C] mean service time of a packet, on one server
    size_s: FloatArray  # [E, C] the part of it that the packet's own size decides: links only
    servers: FloatArray  # [E] 0 where nothing is served (FIXED)
    tables: FloatArray  # [T, POINTS, 3] wait, variance, loss: queues.table_of
    keys: FloatArray  # [T, 2] room and mixture of a table that starts a family, else -1
    scvs: FloatArray  # the squared c.v. of the tables of a MATCHED family
    bursty: npt.NDArray[np.float32]  # [M, variabilities, bursts, spreads, loads, 5]: modulated.table_of
    burst_rooms: FloatArray  # [M]
    axes: Axes
