"""Routes what needs most room in the kernels, uncompiled: an index beyond an array raises. Run as a file."""

from __future__ import annotations

import random

import numpy as np
from graphs import network

from domain_twin.simulation import jit, routing

WIDE = 12
FAR_APART = (0.0, 0.0, 1e-9, 1e-3, 1.0, 1e9, 1e16, 1e20)


def many_offers() -> None:
    """WIDE nodes lose their way and have WIDE others, all of which become nearer at the same time.

    Every edge between them is offered twice, each time for a shorter distance, before one is settled.
    """
    gate, lost = 1, 2
    middle, outer = range(3, 3 + WIDE), range(3 + WIDE, 3 + 2 * WIDE)
    links = [(gate, 0, 1000.0), (lost, 0, 1.0)]
    links += [(node, lost, 1.0) for node in outer]
    links += [(node, gate, 1.0 + i / 100.0) for i, node in enumerate(middle)]
    links += [(a, b, 500.0 - 10.0 * i) for a in outer for i, b in enumerate(middle)]
    graph = network(3 + 2 * WIDE, links)
    topo = routing.topology(graph)
    metric, up = graph.metric.copy(), graph.up.copy()
    metric[0], up[1] = 1.0, False
    base = routing.all_trees(topo, graph.metric, graph.up, ecmp=False)
    routing.changed_trees(topo, base, (graph.metric, graph.up), (metric, up), ecmp=False)


def far_apart(seed: int) -> None:
    """A network whose small metrics vanish in its large ones."""
    draw = random.Random(seed)
    nodes = draw.randint(3, 7)
    ends = [draw.sample(range(nodes), 2) for _ in range(draw.randint(8, 18))]
    links = [(tail, head, draw.choice(FAR_APART)) for tail, head in ends]
    graph = network(nodes, links)
    topo = routing.topology(graph)
    metric = np.array([draw.choice(FAR_APART) for _ in links])
    for ecmp in (False, True):
        base = routing.all_trees(topo, graph.metric, graph.up, ecmp=ecmp)
        routing.changed_trees(topo, base, (graph.metric, graph.up), (metric, graph.up), ecmp=ecmp)


if __name__ == "__main__":
    assert not jit.COMPILED
    many_offers()
    print("many-offers")
    for seed in range(300):
        far_apart(seed)
    print("far-apart")
