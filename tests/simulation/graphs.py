"""Networks for tests of the engine: hypothesis strategies, and one by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from domain_twin.simulation.graph import Arrivals, Demand, Law, Scheduler, SimGraph, TrafficClass

PLAIN = (TrafficClass("data", (300.0, 1500.0), (0.5, 0.5)),)


def network(
    nodes: int,
    links: Sequence[tuple[int, int, float]],
    *,
    classes: tuple[TrafficClass, ...] = PLAIN,
    capacity_bps: float = 10e6,
    buffer: float = 31.0,
) -> SimGraph:
    """Directed links (tail, head, metric) of one capacity and buffer, 1 ms each."""
    count = len(links)
    return SimGraph(
        nodes=tuple(f"n{i}" for i in range(nodes)),
        edges=tuple(f"l{i:03d}" for i in range(count)),
        classes=classes,
        tail=np.array([link[0] for link in links], np.int32),
        head=np.array([link[1] for link in links], np.int32),
        law=np.array([Law.LINK if link[2] else Law.FIXED for link in links], np.int8),
        scheduler=np.zeros(count, np.int8),
        up=np.ones(count, np.bool_),
        metric=np.array([link[2] for link in links], np.float64),
        capacity_bps=np.full(count, capacity_bps),
        fixed_s=np.full(count, 1e-3),
        buffer=np.full(count, buffer),
        servers=np.ones(count, np.int32),
        service_s=np.zeros(count),
        service_scv=np.ones(count),
        loss=np.zeros(count),
        transit=np.ones(nodes, np.bool_),
    )


def both_ways(links: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Every link in both directions, side by side."""
    return [edge for a, b, metric in links for edge in ((a, b, metric), (b, a, metric))]


def uniform(graph: SimGraph, rate: float) -> Demand:
    """The same rate, packets/s, of every class between all pairs."""
    size = len(graph.nodes)
    return Demand(
        np.ascontiguousarray(np.broadcast_to(rate * (1 - np.eye(size)), (len(graph.classes), size, size)))
    )


@st.composite
def networks(
    draw: Any, *, most: int = 7, links: int = 28, zero: bool = True, classes: tuple[TrafficClass, ...] = PLAIN
) -> SimGraph:
    """Directed multigraphs with ties, parallel edges, edges down, metric 0, nodes without transit."""
    nodes = draw(st.integers(2, most))
    ends = st.integers(0, nodes - 1)
    metrics = st.integers(0 if zero else 1, 3).map(float)
    edge = st.tuples(ends, ends, metrics).filter(lambda link: link[0] != link[1])
    links = draw(st.lists(edge, min_size=1, max_size=min(links, 4 * nodes)))
    graph = network(nodes, links, classes=classes)
    flags = st.lists(st.sampled_from([True, True, True, False]), min_size=len(links), max_size=len(links))
    transit = st.lists(st.sampled_from([True, True, True, False]), min_size=nodes, max_size=nodes)
    names = draw(st.permutations([f"l{i:03d}" for i in range(len(links))]))
    return replace(
        graph,
        edges=tuple(names),
        up=np.array(draw(flags), np.bool_),
        transit=np.array(draw(transit), np.bool_),
        capacity_bps=np.array(
            draw(st.lists(st.sampled_from([1e6, 5e6, 2e7]), min_size=len(links), max_size=len(links)))
        ),
    )


MIXED = (
    TrafficClass("voice", (200.0,), (1.0,), priority=0, weight=3.0),
    TrafficClass("video", (1300.0,), (1.0,), arrivals=Arrivals.ON_OFF, on_s=0.3, off_s=0.6, priority=1),
    TrafficClass("bulk", (1000.0,), (1.0,), exponential=True, priority=2),
)


# The oracle of the laws takes milliseconds for each bursty class on each edge.
STEADY = (replace(MIXED[0]), replace(MIXED[1], arrivals=Arrivals.POISSON), replace(MIXED[2]))


@st.composite
def lawful(draw: Any, *, links: int = 24, classes: tuple[TrafficClass, ...] = MIXED) -> SimGraph:
    """Networks with edges of every law, scheduler, room and loss; none that is down or has no transit."""
    graph = draw(networks(most=6, links=links, classes=classes))
    count = len(graph.edges)

    def each(*values: float) -> Any:
        return np.array(draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)))

    law = each(Law.LINK, Law.LINK, Law.LINK, Law.CELL, Law.STATION, Law.FIXED)
    metric = np.where((law == Law.LINK) & (graph.metric == 0.0), 1.0, graph.metric)
    return replace(
        graph,
        law=law.astype(np.int8),
        metric=metric,
        scheduler=each(*Scheduler).astype(np.int8),
        buffer=each(0.0, 7.0, 31.0, np.inf),
        servers=each(1, 2, 5).astype(np.int32),
        service_s=each(1e-4, 1e-3),
        service_scv=each(0.0, 1.0, 2.5),
        loss=each(0.0, 0.0, 0.0, 0.05),
    )


def random_demand(graph: SimGraph, seed: int, rate: float, *, share: float = 0.7) -> Demand:
    """Up to `rate` packets/s of every class between a `share` of all pairs."""
    rng = np.random.default_rng(seed)
    shape = (len(graph.classes), len(graph.nodes), len(graph.nodes))
    rates = rng.uniform(0.0, rate, shape) * (rng.random(shape) < share)
    rates[:, range(shape[1]), range(shape[1])] = 0.0
    return Demand(rates)
