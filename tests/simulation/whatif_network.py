"""A small compiled network: four routers in a ring, a cell on one of them, a host on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain_twin.simulation.graph import Demand, Law, SimGraph, TrafficClass

DOMAIN = "ran"
CLASSES = (TrafficClass("best-effort", (1000.0,)), TrafficClass("voice", (200.0,), priority=0))
ROUTERS = ("r1", "r2", "r3", "r4")
LINKS = (("r1", "r2", 1), ("r2", "r3", 1), ("r3", "r4", 1), ("r4", "r1", 3))


def name(short: str) -> str:
    """An element's id, as twins write them."""
    return f"urn:ndt:{DOMAIN}:{short}"


def link(source: str, target: str) -> str:
    """The id of a link, in one direction."""
    return name(f"{source}:to-{target}:out")


@dataclass(frozen=True)
class Network:
    """What a compiled network offers to whoever changes it."""

    graph: SimGraph
    demand: Demand
    edges_of: Mapping[str, Sequence[int]]
    node_of: Mapping[str, int]


def ring(load_mbps: float = 3.0, links: Sequence[tuple[str, str, int]] = LINKS) -> Network:
    """Links of 10 Mbit/s; the cell cell-1 hangs on r1, the host host-1 on r3."""
    nodes = [name(each) for each in (*ROUTERS, "cell-1", "host-1")]
    at = {each: index for index, each in enumerate(nodes)}
    edges: list[tuple[str, int, int, Law, float]] = []
    for source, target, metric in links:
        for tail, head in ((source, target), (target, source)):
            edges.append((link(tail, head), at[name(tail)], at[name(head)], Law.LINK, metric))
    host, back = name("host-1"), f"{name('host-1')}#return"
    edges.append((name("cell-1"), at[name("cell-1")], at[name("r1")], Law.CELL, 0.0))
    edges.append((host, at[name("r3")], at[host], Law.STATION, 0.0))
    edges.append((back, at[host], at[name("r3")], Law.FIXED, 0.0))
    count = len(edges)
    laws = np.array([edge[3] for edge in edges], np.int8)
    graph = SimGraph(
        nodes=tuple(nodes),
        edges=tuple(edge[0] for edge in edges),
        classes=CLASSES,
        tail=np.array([edge[1] for edge in edges], np.int32),
        head=np.array([edge[2] for edge in edges], np.int32),
        law=laws,
        scheduler=np.zeros(count, np.int8),
        up=np.ones(count, np.bool_),
        metric=np.array([edge[4] for edge in edges]),
        capacity_bps=np.where(laws == Law.CELL, 50e6, 10e6),
        fixed_s=np.full(count, 1e-3),
        buffer=np.full(count, 50.0),
        servers=np.where(laws == Law.STATION, 2, 1).astype(np.int32),
        service_s=np.full(count, 2e-4),
        service_scv=np.ones(count),
        loss=np.zeros(count),
        transit=np.array([True] * len(ROUTERS) + [False, False]),
        groups={"conduit": (0, 1, 2, 3)}
        | {
            name(router): tuple(i for i, edge in enumerate(edges) if at[name(router)] in edge[1:3])
            for router in ROUTERS
        },
    )
    rate = np.zeros((len(CLASSES), len(nodes), len(nodes)))
    pps = load_mbps * 1e6 / 8000.0
    rate[0, at[host], at[name("cell-1")]] = pps
    rate[0, at[name("r2")], at[name("r4")]] = pps / 2
    rate[1, at[name("r4")], at[name("r1")]] = 50.0
    edges_of = {edge: (index,) for index, edge in enumerate(graph.edges)}
    edges_of[host] = (*edges_of[host], *edges_of.pop(back))
    for source, target, _ in links:
        pair = graph.edges.index(link(source, target)), graph.edges.index(link(target, source))
        edges_of[name(f"{source}:to-{target}")] = pair
        edges_of[name(f"{target}:to-{source}")] = pair
    return Network(graph, Demand(rate), edges_of, at)
