"""Small networks as arrays, for tests of what runs or writes them."""

from __future__ import annotations

import numpy as np

from domain_twin.simulation.graph import Demand, Law, SimGraph, TrafficClass

EXPONENTIAL = TrafficClass("bulk", exponential=True)


def network(
    count: int,
    edges: list[tuple[int, int]],
    *,
    classes: tuple[TrafficClass, ...] = (EXPONENTIAL,),
    capacity_bps: float = 8e6,
    fixed_s: float = 0.001,
    buffer: float = np.inf,
    loss: float = 0.0,
    scheduler: int = 0,
    laws: dict[int, Law] | None = None,
    servers: int = 2,
    service_s: float = 0.001,
    service_scv: float = 1.0,
) -> SimGraph:
    """Directed edges between `count` nodes, all alike but for their laws."""
    size = len(edges)
    law = np.array([(laws or {}).get(e, Law.LINK) for e in range(size)], np.int8)
    station = law == Law.STATION
    return SimGraph(
        tuple(f"n{i}" for i in range(count)),
        tuple(f"n{a}>n{b}" + "'" * edges[:e].count((a, b)) for e, (a, b) in enumerate(edges)),
        classes,
        np.array([a for a, _ in edges], np.int32),
        np.array([b for _, b in edges], np.int32),
        law,
        np.full(size, scheduler, np.int8),
        np.ones(size, np.bool_),
        np.ones(size),
        np.where(np.isin(law, (Law.LINK, Law.CELL)), capacity_bps, 0.0),
        np.full(size, fixed_s),
        np.full(size, buffer),
        np.where(station, servers, 0).astype(np.int32),
        np.where(station, service_s, 0.0),
        np.where(station, service_scv, 0.0),
        np.full(size, loss),
        np.ones(count, np.bool_),
    )


def both_ways(links: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The directed edges of undirected links."""
    return [*links, *((b, a) for a, b in links)]


def demand(graph: SimGraph, *rates: tuple[int, int, int, float]) -> Demand:
    """Packets/s by (class, source, destination)."""
    rate = np.zeros((len(graph.classes), len(graph.nodes), len(graph.nodes)))
    for traffic_class, source, destination, value in rates:
        rate[traffic_class, destination, source] = value
    return Demand(rate)
