"""What an edge does to packets at a given load: one answer for links, cells, stations and fixed delays.

`compile_laws` turns a SimGraph into arrays that numba kernels can read; `evaluate` answers for one edge,
`evaluate_all` for all of them in plain NumPy (the oracle of the first). Solves no network: `solve` does.

Rates are packets/s offered to the edge by class, `square` is the sum of rate^2 over independent flows of the
class, from which classes that are not Poisson have the variance of their aggregate rate. The delay is the
whole sojourn of accepted packets (wait, service, fixed part), seconds. The variance (s^2) leaves out what a
packet's own size does on links (`size_s`): the same packet is as long on every link, so the solver adds it
once per path. Behind a scheduler each class has a queue of the link's buffer; in order of arrival all share
it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.checks import check_graph, check_value
from domain_twin.simulation.graph import Arrivals, FloatArray, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.laws import modulated, queues
from domain_twin.simulation.laws.arrays import (
    ARRIVALS,
    BITS,
    BURST,
    CAPACITY,
    COLUMNS,
    FIXED,
    LAW,
    LOSS,
    MATCH,
    MATCHED,
    MIX,
    OFF_OVER_ON,
    ON_SHARE,
    ONE,
    PAIR,
    PRIORITY,
    RELAXATION,
    ROOM,
    SCHEDULER,
    SCV,
    SERVERS,
    SERVICE,
    SHAPE,
    SHARES,
    SIZE_SCV,
    SIZE_THIRD,
    TABLE,
    TRAITS,
    WEIGHT,
    Laws,
)  # fmt: skip
from domain_twin.simulation.laws.kernels import evaluate
from domain_twin.simulation.laws.plain import evaluate_all

__all__ = ["Laws", "compile_laws", "evaluate", "evaluate_all", "overloaded", "with_values"]

_SCVS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4, 2.0, 3.0, 4.5, 7.0, 10.0)

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

    Raises ConfigError for a value that no law can take: the edge or class is named, and what would do.
    """
    check_graph(graph)
    traffic = _traffic(graph.classes)
    edge = np.zeros((len(graph.edges), COLUMNS))
    edge[:, LAW] = graph.law
    for name, column in _FIELDS.items():
        edge[:, column] = getattr(graph, name)
    edge[:, ROOM] = np.round(edge[:, ROOM])
    edge[:, ROOM] += np.where(graph.law == Law.LINK, 1.0, 0.0)  # the packet being sent has a place as well
    service = np.zeros((len(graph.edges), len(graph.classes)))
    tables = _Tables(graph.classes)
    for row, times in zip(edge, service, strict=True):
        tables.place(row)
        _serve(row, traffic, times)
    return _assembled(edge, traffic, service, tables)


def with_values(laws: Laws, graph: SimGraph, values: Mapping[str, Mapping[int, float]]) -> Laws:
    """The laws after a Variant's `values`; what it does not touch is shared. Other fields are left alone.

    Raises NotFound or ConfigError for a value that no law can take.
    """
    touched = {index for name, new in values.items() if name in _FIELDS for index in new}
    if not touched:
        return laws
    edge, service = laws.edge.copy(), laws.service_s.copy()
    for name, new in values.items():
        column = _FIELDS.get(name)
        if column is None:
            continue
        for index, value in new.items():
            check_value(graph, name, index, value)
            if column == ROOM:
                value = round(value) if math.isfinite(value) else value  # noqa: PLW2901
                edge[index, ROOM] = value + (1.0 if edge[index, LAW] == Law.LINK else 0.0)
            else:
                edge[index, column] = value
    tables = _Tables(graph.classes, laws)
    for index in touched:
        tables.place(edge[index])
        _serve(edge[index], laws.traffic, service[index])
    return _assembled(edge, laws.traffic, service, tables, laws)


def overloaded(laws: Laws, rate: FloatArray) -> Any:
    """Whether each edge is offered more work than it can ever do, [E] of bool; rate [E, C].

    With a bound on its queue it then loses the rest; without one its delay is that of stations.LIMIT, a mark
    and no forecast.
    """
    return np.asarray((rate * laws.service_s).sum(1) > np.maximum(laws.servers, 1e-300))


class _Tables:
    """The tables that edges need, each kept once; taken over from earlier laws where those have them."""

    def __init__(self, classes: tuple[TrafficClass, ...], laws: Laws | None = None) -> None:
        self.laws = laws
        self.shapes = _shapes(classes)
        self.bursts = any(each.arrivals not in (Arrivals.POISSON, Arrivals.ELASTIC) for each in classes)
        self.new: list[FloatArray] = []
        self.new_keys: list[tuple[float, float]] = []
        self.new_bursty: list[Any] = []
        self.new_rooms: list[float] = []
        self._size = 0 if laws is None else len(laws.tables)
        self._known: dict[tuple[float, float], int] = {}
        self._rooms: dict[float, int] = {}
        if laws is not None:
            self._known = {(room, mix): at for at, (room, mix) in enumerate(laws.keys.tolist()) if room >= 0}
            self._rooms = {room: at for at, room in enumerate(laws.burst_rooms.tolist())}

    def place(self, row: FloatArray) -> None:
        """Write into an edge's row where its tables are."""
        row[BURST] = -1.0
        if row[LAW] == Law.FIXED:
            return
        link = row[LAW] == Law.LINK
        if self.bursts:
            room = min(row[ROOM] + (0.0 if link else 1.0), float(modulated.LARGEST_ROOM))
            if room not in self._rooms:
                self._rooms[room] = len(self._rooms)
                self.new_bursty.append(modulated.table_of(int(room)))
                self.new_rooms.append(room)
            row[BURST] = self._rooms[room]
        if not link or math.isinf(row[ROOM]):
            return
        row[MIX] = (ONE, PAIR, MATCHED)[min(len(self.shapes), 3) - 1]
        row[TABLE] = self._family(row[ROOM], row[MIX])
        if row[SCHEDULER] != Scheduler.FIFO:
            row[MATCH] = self._family(row[ROOM], MATCHED)

    def _family(self, room: float, mix: float) -> float:
        key = (float(room), float(mix))
        if key not in self._known:
            if mix == ONE:
                wanted = [self.shapes[0][1]]
            elif mix == PAIR:
                wanted = [_mixture(self.shapes, share) for share in np.linspace(0.0, 1.0, SHARES)]
            else:
                wanted = [queues.gamma_sizes(scv) for scv in _SCVS]
            self._known[key] = self._size + len(self.new)
            self.new += [queues.table_of(int(room), sizes) for sizes in wanted]
            self.new_keys += [key] + [(-1.0, -1.0)] * (len(wanted) - 1)
        return self._known[key]


def _mixture(shapes: tuple[tuple[float, queues.SizeMix], ...], share: float) -> queues.SizeMix:
    """Two distributions on one link, by the first one's share of the load."""
    (mean_a, sizes_a), (mean_b, sizes_b) = shapes
    return queues.mixed(((share / mean_a, mean_a, sizes_a), ((1.0 - share) / mean_b, mean_b, sizes_b)))


@lru_cache(maxsize=64)
def _shapes(classes: tuple[TrafficClass, ...]) -> tuple[tuple[float, queues.SizeMix], ...]:
    """The distributions of packet sizes that there are: mean in octets, and shape."""
    found = dict.fromkeys((each.mean_octets, queues.sizes_of(each)) for each in classes)
    return tuple(found)


def _traffic(classes: tuple[TrafficClass, ...]) -> FloatArray:
    shapes = _shapes_of_checked(classes)
    traffic = np.zeros((len(classes), TRAITS))
    for index, each in enumerate(classes):
        sizes = queues.sizes_of(each)
        bursty = each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
        on, off = (each.on_s, each.off_s) if bursty else (1.0, 0.0)
        row = traffic[index]
        row[BITS], row[PRIORITY], row[WEIGHT] = each.mean_octets * 8.0, each.priority, each.weight
        row[SIZE_SCV], row[SIZE_THIRD] = sizes.second - 1.0, sizes.third
        row[SHAPE] = shapes.index((each.mean_octets, sizes))
        row[ARRIVALS] = list(Arrivals).index(each.arrivals)
        row[OFF_OVER_ON], row[ON_SHARE], row[RELAXATION] = off / on, on / (on + off), on * off / (on + off)
    return traffic


def _shapes_of_checked(classes: tuple[TrafficClass, ...]) -> tuple[tuple[float, queues.SizeMix], ...]:
    for each in classes:
        sizes, shares = np.array(each.sizes, float), np.array(each.probabilities, float)
        if (
            len(sizes) != len(shares)
            or not len(sizes)
            or not (np.isfinite(sizes).all() and (sizes > 0).all() and (shares >= 0).all())
            or not abs(shares.sum() - 1.0) < 1e-6
        ):
            raise ConfigError(
                f"class {each.name}: sizes {each.sizes} with probabilities {each.probabilities} are no"
                " distribution; accepted are positive octets with probabilities that add up to 1"
            )
        bursty = each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
        if bursty and not (0.0 < each.on_s < math.inf and 0.0 <= each.off_s < math.inf):
            raise ConfigError(
                f"class {each.name}: {each.arrivals} with on periods of {each.on_s} s and off periods of"
                f" {each.off_s} s; the first must be above 0, the second 0 or more"
            )
        if not 0.0 < each.weight < math.inf:
            raise ConfigError(f"class {each.name}: weight {each.weight}; accepted is a number above 0")
    return _shapes(classes)


def _serve(row: FloatArray, traffic: FloatArray, times: FloatArray) -> None:
    if row[LAW] in (Law.LINK, Law.CELL):
        times[:] = traffic[:, BITS] / row[CAPACITY]
    elif row[LAW] == Law.STATION:
        times[:] = row[SERVICE]


def _assembled(
    edge: FloatArray, traffic: FloatArray, service: FloatArray, tables: _Tables, before: Laws | None = None
) -> Laws:
    law = edge[:, LAW]
    size = np.where((law == Law.LINK)[:, None], service, 0.0)
    servers = np.where(law == Law.FIXED, 0.0, np.where(law == Law.STATION, edge[:, SERVERS], 1.0))
    if before is not None and not tables.new and not tables.new_bursty:
        return before._replace(edge=edge, service_s=service, size_s=size, servers=servers)
    axes = modulated.axes() if tables.bursts else modulated.NO_AXES
    shape = tuple(len(axis) for axis in axes)
    return Laws(
        edge=edge,
        traffic=traffic,
        service_s=service,
        size_s=size,
        servers=servers,
        tables=_grown(before and before.tables, tables.new, (queues.POINTS, 3)),
        keys=_grown(before and before.keys, tables.new_keys, (2,)),
        scvs=np.array(_SCVS),
        bursty=_grown(before and before.bursty, tables.new_bursty, (*shape, 5), np.float32),
        burst_rooms=_grown(before and before.burst_rooms, tables.new_rooms, ()),
        axes=axes,
    )


def _grown(old: Any, new: list[Any], shape: tuple[int, ...], kind: Any = np.float64) -> Any:
    if old is None:
        old = np.zeros((0, *shape), kind)
    return np.concatenate([old, np.array(new, kind)]) if new else old
