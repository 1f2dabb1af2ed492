"""The arrays of the packet loop, one record array per kind of thing. Owns their layout, not their meaning.

Times are seconds of simulated time, sizes octets, rates octets (or packets) per second, all after scaling. A
*resource* is a link, a node's packet processing or a cell; resources are numbered links first, then nodes,
then cells. Records rather than one array per field: the jitted loop pays for every array that it hands from
function to function.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CBR", "CELL_DEPTH", "CONSTANT", "DOMAIN_COUNT", "ELASTIC", "EXPONENTIAL", "LOST_ERROR", "LOST_FULL",
    "LOST_NO_LINK", "ON_OFF", "POISSON", "WORKERS", "Records", "State", "make_state",
]  # fmt: skip

DOMAIN_COUNT = 5  # ran, transport, core, edge, between domains
CELL_DEPTH = 512  # packets that a cell holds at most
WORKERS = 1024  # of a processor at most

POISSON, CBR, ON_OFF, ELASTIC = 0, 1, 2, 3  # kinds of flow
CONSTANT, EXPONENTIAL = 0, 1  # laws of packet size and service time
LOST_FULL, LOST_NO_LINK, LOST_ERROR = 0, 1, 2  # places in Resource.causes

Records = NDArray[np.void]

EVENT = np.dtype([("time", "f8"), ("what", "i8")])
# Directed links: drop-tail FIFO queues with a propagation delay, by virtual finish time. `epoch` grows when
# the link goes down: what was on it is lost.
LINK = np.dtype(
    [("rate", "f8"), ("propagation", "f8"), ("buffer", "f8"), ("loss", "f8"), ("free_at", "f8"),
     ("source", "i8"), ("target", "i8"), ("metric", "i8"), ("epoch", "i8"), ("up", "i8")]
)  # fmt: skip
# Packet processing of nodes: one queue, `workers` equal workers; none where `present` is 0. `on_transit`:
# also for packets that only cross the node.
NODE = np.dtype(
    [("present", "i8"), ("on_transit", "i8"), ("serving", "i8"), ("workers", "i8"), ("law", "i8"),
     ("depth", "i8"), ("held", "i8"), ("epoch", "i8"), ("service", "f8")]
)  # fmt: skip
# Processor-sharing air interfaces, by virtual time: `virtual` octets were served to each packet present since
# the cell was last empty; `delay` is the constant part (scheduling grant, radio processing); `next_at` the
# pending completion.
CELL = np.dtype(
    [("node", "i8"), ("up", "i8"), ("held", "i8"), ("rate", "f8"), ("delay", "f8"), ("virtual", "f8"),
     ("touched", "f8"), ("next_at", "f8")]
)  # fmt: skip
SHARE = np.dtype([("finish", "f8"), ("packet", "i8")])
# Traffic sources. One enters at a cell, at a node, or (probes) at one link where it also ends. `next_at` is
# the pending emission: any other event of the flow is stale. `watch`: row of the journal, or -1; `written`:
# records there so far.
FLOW = np.dtype(
    [("kind", "i8"), ("active", "i8"), ("node", "i8"), ("cell", "i8"), ("link", "i8"), ("target", "i8"),
     ("law", "i8"), ("daily", "i8"), ("watch", "i8"), ("written", "i8"), ("in_flight", "i8"), ("sent", "i8"),
     ("delivered", "i8"), ("lost", "i8"), ("rate", "f8"), ("size", "f8"), ("on", "f8"), ("off", "f8"),
     ("on_until", "f8"), ("next_at", "f8"), ("window", "f8"), ("window_limit", "f8"), ("acknowledge", "f8"),
     ("reduced_at", "f8"), ("delay", "f8")]
)  # fmt: skip
# Packets under way; `following` chains the unused rows.
PACKET = np.dtype(
    [("birth", "f8"), ("entered", "f8"), ("size", "f8"), ("flow", "i8"), ("resource", "i8"), ("epoch", "i8"),
     ("following", "i8"), ("parts", "f8", (DOMAIN_COUNT,))]
)  # fmt: skip
# A finished packet of a watched flow: the truth that predictions are judged by.
FINISHED = np.dtype([("birth", "f8"), ("end", "f8"), ("lost", "i8"), ("parts", "f8", (DOMAIN_COUNT,))])
# What a resource did: `count` to `busy` in this measuring interval, the others since the start.
RESOURCE = np.dtype(
    [("count", "f8"), ("delay", "f8"), ("square", "f8"), ("lost", "f8"), ("octets", "f8"), ("busy", "f8"),
     ("out_packets", "i8"), ("out_octets", "i8"), ("in_packets", "i8"), ("in_octets", "i8"),
     ("causes", "i8", (3,)), ("domain", "i8")]
)  # fmt: skip
# One record: length of the event queue, first unused packet row (-1: none), packet-hops so far, emissions
# that found no row, and the demand factor of the time of day.
HEAD = np.dtype([("events", "i8"), ("unused", "i8"), ("hops", "i8"), ("overflow", "i8"), ("demand", "f8")])


class State(NamedTuple):
    """Everything the packet loop reads and writes."""

    head: Any
    queue: Any
    links: Any
    nodes: Any
    workers: Any  # node x worker: when it is free, s
    cells: Any
    shares: Any  # cell x place: binary heap by virtual finish
    flows: Any
    packets: Any
    finished: Any  # watch x place: ring
    table: Any  # node x destination -> link, -1 where there is no way
    resources: Any


def make_state(
    *,
    nodes: int,
    links: int,
    cells: int,
    flows: int,
    watches: int,
    packets: int = 1 << 15,
    log: int = 1 << 16,
) -> State:  # fmt: skip
    """Allocate zeroed state; `flows`, `watches`, `packets` and `log` (records per watch) are capacities."""
    state = State(
        head=np.zeros(1, HEAD),
        queue=np.zeros(packets + 4 * flows + 4 * cells * CELL_DEPTH, EVENT),
        links=np.zeros(links, LINK),
        nodes=np.zeros(nodes, NODE),
        workers=np.zeros((nodes, WORKERS)),
        cells=np.zeros(cells, CELL),
        shares=np.zeros((cells, CELL_DEPTH), SHARE),
        flows=np.zeros(flows, FLOW),
        packets=np.zeros(packets, PACKET),
        finished=np.zeros((watches, log), FINISHED),
        table=np.full((nodes, nodes), -1, np.int64),
        resources=np.zeros(links + nodes + cells, RESOURCE),
    )
    state.cells["next_at"] = np.inf
    state.flows["watch"] = -1
    state.flows["next_at"] = np.inf
    state.packets["following"] = np.arange(1, packets + 1)
    state.packets["following"][-1] = -1
    state.head["demand"] = 1.0
    return state
