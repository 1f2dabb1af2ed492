"""Demand from what is measured: who sends how much to whom, inferred from the loads of elements.

Devices report how much crosses an element, not between which ends. Tomogravity (Zhang, Roughan, Duffield,
Greenberg 2003): of all demands that explain the loads over the current routes, the one that is closest (in
relative entropy) to a gravity model. Owns the inference; says which flows the loads determine, and how well
the inferred ones reproduce the loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from domain_twin.errors import NotFound
from domain_twin.model import (
    CARRIED_RATE,
    HANDLED_RATE,
    UTILISATION,
    Host,
    Kpi,
    Nanoseconds,
    Network,
    NetworkFunction,
)
from domain_twin.simulation.graph import Demand, FloatArray, IntArray, Law, SimGraph
from domain_twin.simulation.twin.observed import Observations, observe

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = ["UNLIKELY", "DemandFit", "Ends", "Loads", "estimate", "loads_between", "loads_of", "loads_over"]

_ROUNDS = 4  # gravity from the marginals, fit, marginals again
_STEPS = 300  # of the fit
_DETERMINED = 0.999  # diagonal of the resolution matrix from where the loads alone say how large a flow is
UNLIKELY = 1e-3  # of the gravity weight, for pairs whose ends do not talk to each other
_LOAD_FIT_WARNS = 5.0  # percent


@dataclass(frozen=True, slots=True)
class Loads:
    """How much crossed each element: Mbit/s of links, borders and cells, packets/s of functions and hosts.

    `start` and `end` say over which time the rates are means; both 0: the last measuring interval.
    """

    mbps: Mapping[str, float]
    handled_pps: Mapping[str, float]
    start: Nanoseconds = 0
    end: Nanoseconds = 0
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Where traffic may start and end, as graph nodes; `weight`: how likely two ends talk."""

    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    weight: FloatArray  # [len(sources), len(destinations)]


@dataclass(frozen=True, slots=True, eq=False)
class DemandFit:
    """Demand, and how it is known. Errors are percent of the measured load, over elements that carry any."""

    demand: Demand
    determined: frozenset[tuple[int, int]]  # (source, destination) that the loads alone determine
    inferred: int  # other pairs with demand
    load_mape: float
    worst_error: float
    worst_element: str
    error_of: Mapping[str, float] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()


def loads_of(network: Network) -> Loads:
    """The loads of the last measuring interval, as devices report them; elements without any are left out."""
    said: list[str] = []
    mbps: dict[str, float] = {}
    lines = [(link.id, link.kpis, link.capacity_mbps) for link in network.links.values()]
    lines += [
        (point.inter_domain.link_id, point.kpis, point.inter_domain.capacity_mbps)
        for point in network.termination_points.values()
        if point.inter_domain is not None
    ]
    for element, kpis, capacity in lines:
        rate = _value(kpis, CARRIED_RATE)
        if math.isnan(rate) and capacity > 0:
            rate = _value(kpis, UTILISATION) * capacity
            if not math.isnan(rate):
                said.append(f"the load of {element} is its utilisation times its capacity")
        if not math.isnan(rate):
            mbps[element] = rate
    for cell in network.cells.values():
        if not math.isnan(rate := _value(cell.kpis, CARRIED_RATE)):
            mbps[cell.id] = rate
    stations: list[NetworkFunction | Host] = [*network.functions.values(), *network.hosts.values()]
    handled = {item.id: rate for item in stations if not math.isnan(rate := _value(item.kpis, HANDLED_RATE))}
    return Loads(mbps, handled, assumptions=tuple(said))


def loads_over(observations: Observations) -> Loads:
    """Mean loads over recorded time: the window of a scenario."""
    mbps: dict[str, float] = {}
    handled: dict[str, float] = {}
    for element, series in observations.series.items():
        rate = series.rate[np.isfinite(series.rate)]
        if len(rate):
            table = handled if series.kind in ("function", "host") else mbps
            table[element] = float(rate.mean())
    return Loads(mbps, handled, observations.start, observations.end)


async def loads_between(history: History, domain: str, start: Nanoseconds, end: Nanoseconds) -> Loads:
    """Mean loads over a time window of the recorded history. Raises NotFound: nothing is recorded then.

    A window is widened to the intervals of what was rolled up. A load that was the same all the time is
    recorded once, before: it counts where its device was heard.
    """
    if step := (await history.resolution(end))[1]:
        start, end = start // step * step - 1, -(-end // step) * step
    found = loads_over(await observe(history, domain, start, end))
    if found.mbps or found.handled_pps:
        found = await _with_constant(history, domain, found, start, end)
    else:
        raise NotFound(
            f"no load of {domain} is recorded between {start} and {end} ns; choose a window in which its"
            " devices were heard (`fedtwin history`)"
        )
    return found


async def _with_constant(
    history: History, domain: str, found: Loads, start: Nanoseconds, end: Nanoseconds
) -> Loads:
    """`found`, and the loads of elements that had one at `start` and told no other until `end`."""
    from domain_twin.mapping.mapper import Mapper

    mapper = Mapper(domain)
    mapper.apply((await history.state_at(start)).as_delta())
    network = mapper.network()
    device_of = {link.id: link.device for link in network.links.values()}
    device_of |= {cell.id: cell.device for cell in network.cells.values()}
    device_of |= {function.id: function.device for function in network.functions.values()}
    device_of |= {host.id: host.device for host in network.hosts.values()}
    device_of |= {
        point.inter_domain.link_id: point.device
        for point in network.termination_points.values()
        if point.inter_domain is not None
    }
    unheard = {gap.device for gap in await history.gaps(start, end)}
    heard = {name for name, device in device_of.items() if device not in unheard and "" not in unheard}
    first = loads_of(network)
    return replace(
        found,
        mbps={name: rate for name, rate in first.mbps.items() if name in heard} | dict(found.mbps),
        handled_pps={name: rate for name, rate in first.handled_pps.items() if name in heard}
        | dict(found.handled_pps),
    )


def _value(kpis: Mapping[str, Kpi], name: str) -> float:
    kpi = kpis.get(name)
    return kpi.value if kpi is not None and math.isfinite(kpi.value) and kpi.value >= 0 else math.nan


def estimate(
    graph: SimGraph,
    loads: Loads,
    edges_of: Mapping[str, Sequence[int]],
    ends: Ends,
    *,
    packet_octets: float,
    shares: Sequence[float],
) -> DemandFit:
    """Infer demand over the routes of `graph` as it is, in trains/s of its classes by their `shares`."""
    said = list(loads.assumptions)
    rows, rate = _measured(graph, loads, edges_of, packet_octets)
    pairs, crossing, reached = _crossings(graph, ends)
    size = len(graph.nodes)
    if not len(pairs) or not rows:
        said.append("no element reports its load: no demand is known, all of it counts as 0")
        empty = Demand(np.zeros((len(graph.classes), size, size)))
        return DemandFit(empty, frozenset(), 0, math.nan, math.nan, "", assumptions=tuple(said))
    matrix = crossing[rows]
    seen = np.asarray(matrix.sum(axis=1)).ravel() > 0
    for edge in np.asarray(rows)[~seen & (rate > 0)]:
        said.append(f"{graph.edges[edge]} carries traffic that no route of this version explains")
    matrix, used, rate = matrix[seen], np.asarray(rows)[seen], rate[seen]
    weight = ends.weight.ravel()[reached]
    mbps = _tomogravity(matrix, rate, pairs, weight, size)
    explained = np.asarray(matrix @ mbps)
    busy = rate > 1e-3 * rate.max(initial=0.0)
    errors = np.abs(explained - rate)[busy] / rate[busy] * 100
    names = [graph.edges[edge] for edge in used[busy]]
    known = _determined(matrix)
    fitted, worst = (float(errors.mean()), int(errors.argmax())) if len(errors) else (math.nan, -1)
    if fitted > _LOAD_FIT_WARNS:
        said.append(
            f"the inferred demand misses the measured loads by {fitted:.1f} % on average: loads of different"
            " times, or routes that differ from those computed"
        )
    carrying = mbps > 1e-6 * mbps.sum()
    count = int((carrying & ~known).sum())
    said.append(
        f"{int((carrying & known).sum())} flows are determined by measured loads; {count} are inferred from"
        f" them (tomogravity), and reproduce the loads within {fitted:.2g} %"
    )
    return DemandFit(
        Demand(_by_class(graph, pairs, mbps, shares)),
        frozenset((int(s), int(d)) for s, d in pairs[known & carrying]),
        count,
        fitted,
        float(errors[worst]) if worst >= 0 else math.nan,
        names[worst] if worst >= 0 else "",
        dict(zip(names, map(float, errors), strict=True)),
        tuple(said),
    )


def _measured(
    graph: SimGraph, loads: Loads, edges_of: Mapping[str, Sequence[int]], packet_octets: float
) -> tuple[list[int], FloatArray]:
    """Edges whose load is measured, and the loads in Mbit/s."""
    rows: list[int] = []
    rate: list[float] = []
    scale = packet_octets * 8 / 1e6
    wanted = (
        (loads.mbps, (Law.LINK, Law.CELL), 1.0),
        (loads.handled_pps, (Law.STATION,), scale),
    )
    for table, laws, factor in wanted:
        for element, value in table.items():
            for edge in edges_of.get(element, ()):
                if graph.law[edge] in laws and graph.edges[edge] == element and graph.up[edge]:
                    rows.append(edge)
                    rate.append(value * factor)
    return rows, np.array(rate)


def _crossings(graph: SimGraph, ends: Ends) -> tuple[IntArray, Any, npt.NDArray[np.bool_]]:
    """Pairs (source, destination) that have a way, the pairs by edge, and which of all pairs they are."""
    from scipy.sparse import csc_array

    from domain_twin.simulation.routing import all_trees, topology

    trees = all_trees(
        topology(graph), np.ascontiguousarray(graph.metric), np.ascontiguousarray(graph.up), ecmp=False
    )
    place = {node: row for row, node in enumerate(ends.sources)}
    width = len(ends.destinations)
    found: list[tuple[int, int, list[int]]] = []
    for column, target in enumerate(ends.destinations):
        ways: dict[int, list[int]] = {target: []}
        for j in range(int(trees.count[target])):
            edge = int(trees.edge[target, j])
            tail = int(graph.tail[edge])
            ways[tail] = [edge, *ways[int(graph.head[edge])]]
            if tail in place:
                found.append((place[tail] * width + column, tail, ways[tail]))
    found.sort(key=lambda item: item[0])
    indices = np.array([edge for _, _, way in found for edge in way], np.int32)
    starts = np.cumsum([0, *(len(way) for _, _, way in found)])
    shape = (len(graph.edges), len(found))
    crossing = csc_array((np.ones(len(indices)), indices, starts), shape=shape).tocsr()
    pairs = np.array([(tail, ends.destinations[key % width]) for key, tail, _ in found], np.int32)
    reached = np.zeros(len(ends.sources) * width, np.bool_)
    reached[[key for key, _, _ in found]] = True
    return pairs.reshape(-1, 2), crossing, reached


def _tomogravity(matrix: Any, rate: FloatArray, pairs: IntArray, weight: FloatArray, size: int) -> FloatArray:
    """Demand by pair: the fit that is nearest to gravity, whose marginals are those of the fit before."""
    marginal = np.ones((2, size))
    demand = np.zeros(len(pairs))
    for _ in range(_ROUNDS):
        prior = weight * marginal[0, pairs[:, 0]] * marginal[1, pairs[:, 1]]
        prior *= rate.sum() / max(1e-300, float((matrix @ prior).sum()))
        demand = _nearest(matrix, rate, prior)
        for side in (0, 1):
            marginal[side] = np.bincount(pairs[:, side], weights=demand, minlength=size)
        marginal = np.maximum(marginal, 1e-9 * marginal.max(initial=1e-300))
    return demand


def _nearest(matrix: Any, rate: FloatArray, prior: FloatArray) -> FloatArray:
    """The x >= 0 of least relative entropy to `prior` with matrix @ x = rate, by SMART.

    Simultaneous multiplicative algebraic reconstruction (Byrne 1993): x_j <- x_j prod_i (y_i / (Ax)_i)^(a_ij
    / sum_i a_ij); it converges to that point where the loads agree, else to the nearest fit.
    """
    transposed = matrix.T.tocsr()
    norm = np.asarray(matrix.sum(axis=0)).ravel()
    step = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    floor = 1e-9 * max(float(rate.max(initial=0.0)), 1e-300)
    target = np.log(np.maximum(rate, floor))
    demand = prior.copy()
    demand[norm == 0] = 0.0
    for _ in range(_STEPS):
        ratio = target - np.log(np.maximum(np.asarray(matrix @ demand), floor))
        demand *= np.exp(np.clip(step * np.asarray(transposed @ ratio), -5.0, 5.0))
    return demand


def _determined(matrix: Any) -> npt.NDArray[np.bool_]:
    """The pairs of which the loads alone say the rate: diagonal of the resolution matrix A+ A equal to 1."""
    gram = (matrix @ matrix.T).toarray()
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-9 * max(1.0, float(values.max(initial=0.0)))
    projected = matrix.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return np.asarray((projected**2).sum(axis=1) > _DETERMINED)


def _by_class(graph: SimGraph, pairs: IntArray, mbps: FloatArray, shares: Sequence[float]) -> FloatArray:
    """Rates [class, destination, source] in trains/s: measured traffic split among the graph's classes."""
    size = len(graph.nodes)
    rate = np.zeros((len(graph.classes), size, size))
    for number, (kind, share) in enumerate(zip(graph.classes, shares, strict=True)):
        sent = rate[number]
        sent[pairs[:, 1], pairs[:, 0]] = mbps * share * 1e6 / 8 / kind.mean_octets
    return rate
