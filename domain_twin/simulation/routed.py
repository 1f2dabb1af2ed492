"""A demand as flows with the paths that the engine's routing gives them, for what takes paths."""

from __future__ import annotations

import numpy as np

from domain_twin.errors import NoPath
from domain_twin.simulation.checks import check_demand, check_graph
from domain_twin.simulation.flows import Flows
from domain_twin.simulation.graph import Demand, SimGraph

__all__ = ["routed"]


def routed(graph: SimGraph, demand: Demand) -> Flows:
    """One flow for every class and pair with demand, on its shortest path. Raises NoPath, ConfigError."""
    from domain_twin.simulation.routing import all_trees, path, topology

    check_graph(graph)
    check_demand(graph, demand)
    topo = topology(graph)
    trees = all_trees(topo, graph.metric.astype(np.float64), graph.up.astype(np.bool_), ecmp=False)
    pairs, paths, rates, classes = [], [], [], []
    for c, d, s in np.argwhere(demand.rate > 0).tolist():
        way = path(topo, trees, s, d, ecmp=False)
        if not way:
            raise NoPath(f"no path from {graph.nodes[s]} to {graph.nodes[d]}: leave its demand out")
        pairs.append((s, d))
        paths.append(way)
        rates.append(float(demand.rate[c, d, s]))
        classes.append(c)
    return Flows.of(pairs, paths, rates, classes)
