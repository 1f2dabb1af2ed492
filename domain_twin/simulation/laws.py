"""What an edge does to packets at a given load: one answer for links, cells, stations and fixed delays.

`compile_laws` turns a SimGraph into arrays that numba kernels can read; `evaluate` answers for one edge,
`evaluate_all` for all of them in plain NumPy (the oracle of the first). Solves no network: `solve` does.

Rates are packets/s offered to the edge by class, `square` is the sum of rate^2 over independent flows of the
class, from which bursty classes have the variance of their aggregate rate. The delay is the whole sojourn of
accepted packets (wait, service, fixed part), seconds. The variance (s^2) leaves out what a packet's own size
does on links (`size_s`): the same packet is as long on every link, so the solver adds it once per path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from domain_twin.errors import ConfigError
from domain_twin.simulation import queues, stations
from domain_twin.simulation.graph import FloatArray, Law, SimGraph

__all__ = ["Laws", "compile_laws", "evaluate", "evaluate_all", "overloaded", "with_values"]

# Columns of Laws.edge.
LAW, SCHEDULER, CAPACITY, FIXED, ROOM, SERVERS, SERVICE, SCV, LOSS, TABLE, MIX = range(11)
_COLUMNS = 11
# Columns of Laws.traffic.
BITS, SIZE_SCV, SIZE_THIRD, SHAPE, PRIORITY, WEIGHT, ARRIVALS, ON, OFF = range(9)
_TRAITS = 9
# Values of column MIX: how the tables of an edge are spread over mixtures of sizes.
ONE, PAIR, MATCHED = 0.0, 1.0, 2.0

_SHARES = 17  # of load, from all of the first of two shapes to all of the second
_SCVS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4, 2.0, 3.0, 4.5, 7.0, 10.0)


class Laws(NamedTuple):
    """A graph's edges as numba reads them. E edges, C classes, T tables."""

    edge: FloatArray  # [E, columns]
    traffic: FloatArray  # [C, traits]
    service_s: FloatArray  # [E, C] mean service time of a packet (per server)
    size_s: FloatArray  # [E, C] the part of it that the packet's own size decides: links only
    servers: FloatArray  # [E] 0 where nothing is served (FIXED)
    tables: FloatArray  # [T, POINTS, 3] wait, variance, loss: queues.table_of
    scvs: FloatArray  # the squared c.v. of the tables of a MATCHED edge


_FIELDS = {
    "capacity_bps": CAPACITY,
    "fixed_s": FIXED,
    "buffer": ROOM,
    "servers": SERVERS,
    "service_s": SERVICE,
    "service_scv": SCV,
    "loss": LOSS,
    "scheduler": SCHEDULER,
}


def compile_laws(graph: SimGraph) -> Laws:
    """The laws of a graph's edges, with the tables that they need.

    Raises ConfigError for a value that no law can take: an edge is named, and what would do.
    """
    traffic, shapes = _traffic(graph)
    edge = np.zeros((len(graph.edges), _COLUMNS))
    edge[:, LAW] = graph.law
    for name, column in _FIELDS.items():
        edge[:, column] = getattr(graph, name)
    edge[:, ROOM] += np.where(graph.law == Law.LINK, 1.0, 0.0)  # the packet being sent has a place as well
    every = np.arange(len(graph.edges))
    _check(graph, edge, every)
    service = np.zeros((len(graph.edges), len(graph.classes)))
    _services(edge, traffic, service, every)
    pool: list[FloatArray] = []
    placed: dict[Any, int] = {}
    for index in range(len(edge)):
        _place(edge[index], shapes, pool, placed)
    return _assemble(edge, traffic, service, pool)


def with_values(laws: Laws, graph: SimGraph, values: Mapping[str, Mapping[int, float]]) -> Laws:
    """The laws after a Variant's `values`; what it does not touch is shared. Fields of no law are left alone."""
    touched = sorted({index for name, new in values.items() if name in _FIELDS for index in new})
    if not touched:
        return laws
    edge, service = laws.edge.copy(), laws.service_s.copy()
    for name, new in values.items():
        column = _FIELDS.get(name)
        if column is None:
            continue
        for index, value in new.items():
            room = column == ROOM and edge[index, LAW] == Law.LINK
            edge[index, column] = value + (1.0 if room else 0.0)
    every = np.array(touched)
    _check(graph, edge, every)
    _services(edge, laws.traffic, service, every)
    _, shapes = _traffic(graph)
    pool: list[FloatArray] = list(laws.tables)
    before = len(pool)
    placed: dict[Any, int] = {}
    for index in touched:
        _place(edge[index], shapes, pool, placed)
    tables = laws.tables if len(pool) == before else np.stack(pool)
    fresh = _assemble(edge, laws.traffic, service, [])
    return fresh._replace(tables=tables)


def overloaded(laws: Laws, rate: FloatArray) -> Any:
    """Whether each edge is offered more than it can ever serve, [E] of bool; rate [E, C]."""
    return np.asarray((rate * laws.service_s).sum(1) > np.maximum(laws.servers, 1e-300))


def _traffic(graph: SimGraph) -> tuple[FloatArray, tuple[queues.SizeMix, ...]]:
    shapes: list[queues.SizeMix] = []
    traffic = np.zeros((len(graph.classes), _TRAITS))
    for index, each in enumerate(graph.classes):
        shape = queues.sizes_of(each)
        if shape not in shapes:
            shapes.append(shape)
        kind = list(type(each.arrivals)).index(each.arrivals)
        traffic[index] = (
            each.mean_octets * 8.0, shape.second - 1.0, shape.third, shapes.index(shape), each.priority,
            each.weight, kind, each.on_s, each.off_s,
        )  # fmt: skip
    # Two shapes on one link are mixed exactly only where each has one mean size.
    return traffic, tuple(shapes)


def _check(graph: SimGraph, edge: FloatArray, indices: Any) -> None:
    for index in indices:
        row, name = edge[index], graph.edges[index]
        if np.isnan(row).any() or (row[[CAPACITY, FIXED, ROOM, SERVERS, SERVICE, SCV, LOSS]] < 0).any():
            message = f"edge {name} has a value that is negative or no number: {row.tolist()}"
            raise ConfigError(message)
        if row[LAW] in (Law.LINK, Law.CELL) and not 0 < row[CAPACITY] < math.inf:
            message = f"edge {name} has capacity {row[CAPACITY]:g} bit/s; a positive one is needed (or take it down)"
            raise ConfigError(message)
        if row[LAW] == Law.STATION and not 0 < row[SERVICE] < math.inf:
            message = f"station {name} has service time {row[SERVICE]:g} s; a positive one is needed"
            raise ConfigError(message)
        if row[LOSS] > 1 or math.isinf(row[FIXED]):
            message = (
                f"edge {name} has loss {row[LOSS]:g} and delay {row[FIXED]:g} s; accepted are 0..1 and finite"
            )
            raise ConfigError(message)


def _services(edge: FloatArray, traffic: FloatArray, service: FloatArray, indices: Any) -> None:
    for index in indices:
        law = edge[index, LAW]
        if law in (Law.LINK, Law.CELL):
            service[index] = traffic[:, BITS] / edge[index, CAPACITY]
        elif law == Law.STATION:
            service[index] = edge[index, SERVICE]


def _place(row: FloatArray, shapes: tuple[queues.SizeMix, ...], pool: list[FloatArray], placed: Any) -> None:
    """Give an edge's row its tables, adding to the pool those that it lacks."""
    if row[LAW] != Law.LINK or math.isinf(row[ROOM]):
        return
    room = round(row[ROOM])
    row[MIX] = ONE if len(shapes) == 1 else MATCHED
    key = (room, row[MIX])
    if key not in placed:
        placed[key] = len(pool)
        wanted = shapes if row[MIX] == ONE else tuple(queues.gamma_sizes(scv) for scv in _SCVS)
        pool.extend(queues.table_of(room, shape) for shape in wanted)
    row[TABLE] = placed[key]


def _assemble(edge: FloatArray, traffic: FloatArray, service: FloatArray, pool: list[FloatArray]) -> Laws:
    return Laws(
        edge=edge,
        traffic=traffic,
        service_s=service,
        size_s=np.where((edge[:, LAW] == Law.LINK)[:, None], service, 0.0),
        servers=np.select(
            [edge[:, LAW] == Law.FIXED, edge[:, LAW] == Law.STATION], [0.0, edge[:, SERVERS]], 1.0
        ),
        tables=np.stack(pool) if pool else np.zeros((1, queues.POINTS, 3)),
        scvs=np.array(_SCVS),
    )


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _endless(second: float, third: float, load: float) -> Any:
    """(wait, variance, loss) of a queue without bound: Pollaczek & Khinchine (Kleinrock 1975, 5.6-5.7)."""
    kept = min(load, stations.LIMIT)
    wait = kept * second / (2.0 * (1.0 - kept))
    return wait, wait * wait + kept * third / (3.0 * (1.0 - kept)), max(0.0, 1.0 - 1.0 / max(load, 1e-300))


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _fifo(laws: Any, row: Any, scv: float, third: float, load: float) -> Any:
    """(wait, variance, loss) of a link that serves in order of arrival, in its mean service times."""
    room = row[ROOM]
    if math.isinf(room):
        return _endless(1.0 + scv, third, load)
    first = int(row[TABLE])
    if row[MIX] == ONE:
        return queues.look_up(laws.tables[first], room, scv, load)
    level = 0
    last = laws.scvs.shape[0] - 1
    while level < last - 1 and laws.scvs[level + 1] < scv:
        level += 1
    low, high = laws.scvs[level], laws.scvs[level + 1]
    part = min((scv - low) / (high - low), 1.0)
    wait0, variance0, loss0 = queues.look_up(laws.tables[first + level], room, low, load)
    wait1, variance1, loss1 = queues.look_up(laws.tables[first + level + 1], room, high, load)
    return (
        wait0 + (wait1 - wait0) * part,
        variance0 + (variance1 - variance0) * part,
        loss0 + (loss1 - loss0) * part,
    )


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def evaluate(
    laws: Any, edge: int, rate: Any, square: Any, delay_out: Any, variance_out: Any, loss_out: Any
) -> None:
    """Fill delay_out (s), variance_out (s^2), loss_out, [C] each, for one edge; rate, square [C]."""
    row = laws.edge[edge]
    classes = rate.shape[0]
    law = int(row[LAW])
    fixed, lost = row[FIXED], row[LOSS]
    if law == 3:
        for c in range(classes):
            delay_out[c], variance_out[c], loss_out[c] = fixed, 0.0, lost
        return
    total, work, second, third = 0.0, 0.0, 0.0, 0.0
    for c in range(classes):
        service = laws.service_s[edge, c]
        total += rate[c]
        work += rate[c] * service
        second += rate[c] * service * service * (1.0 + laws.traffic[c, SIZE_SCV])
        third += rate[c] * service**3 * laws.traffic[c, SIZE_THIRD]
    if total <= 0.0:
        mean, scv, third = laws.service_s[edge, 0], laws.traffic[0, SIZE_SCV], laws.traffic[0, SIZE_THIRD]
    else:
        mean = work / total
        scv = max(second / total / mean**2 - 1.0, 0.0)
        third = third / total / mean**3
    if law == 2:
        servers = int(row[SERVERS])
        wait, variance, loss = stations.many_servers(servers, row[ROOM], row[SCV], work / max(servers, 1))
        mean = row[SERVICE]
        for c in range(classes):
            delay_out[c] = fixed + (wait + 1.0) * mean
            variance_out[c] = (variance + row[SCV]) * mean * mean
            loss_out[c] = 1.0 - (1.0 - loss) * (1.0 - lost)
        return
    if law == 1:
        sojourn, variance, loss = stations.shared(row[ROOM], scv, work)
        for c in range(classes):
            service = laws.service_s[edge, c]
            delay_out[c] = fixed + sojourn * service
            variance_out[c] = variance * service * service
            loss_out[c] = 1.0 - (1.0 - loss) * (1.0 - lost)
        return
    wait, variance, loss = _fifo(laws, row, scv, third, work)
    for c in range(classes):
        delay_out[c] = fixed + wait * mean + laws.service_s[edge, c]
        variance_out[c] = variance * mean * mean
        loss_out[c] = 1.0 - (1.0 - loss) * (1.0 - lost)


def evaluate_all(
    laws: Laws, rate: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Delay (s), variance (s^2) and loss of every edge, [E, C] each; rate, square [E, C]."""
    delay, variance, loss = np.empty_like(rate), np.empty_like(rate), np.empty_like(rate)
    for edge in range(len(rate)):
        evaluate(laws, edge, rate[edge], square[edge], delay[edge], variance[edge], loss[edge])
    return delay, variance, loss
