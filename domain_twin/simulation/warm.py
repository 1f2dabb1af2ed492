"""Compiles the engine's kernels at installation: `python -m domain_twin.simulation.warm`."""

from dataclasses import replace

import numpy as np

from domain_twin.simulation.capacity import assess
from domain_twin.simulation.graph import Arrivals, Demand, Law, SimGraph, TrafficClass, Variant
from domain_twin.simulation.solve import Engine

__all__ = ["warm"]


def warm() -> None:
    """Call every kernel once, so that no question waits for a compiler (a minute when cold)."""
    classes = (TrafficClass("firm"), TrafficClass("elastic", arrivals=Arrivals.ELASTIC))
    graph = SimGraph(
        nodes=("a", "b"),
        edges=("a-b", "b-a"),
        classes=classes,
        tail=np.array([0, 1], np.int32),
        head=np.array([1, 0], np.int32),
        law=np.full(2, Law.LINK, np.int8),
        scheduler=np.zeros(2, np.int8),
        up=np.ones(2, np.bool_),
        metric=np.ones(2),
        capacity_bps=np.full(2, 1e7),
        fixed_s=np.zeros(2),
        buffer=np.full(2, 7.0),
        servers=np.ones(2, np.int32),
        service_s=np.zeros(2),
        service_scv=np.zeros(2),
        loss=np.zeros(2),
        transit=np.ones(2, np.bool_),
    )
    rate = np.zeros((2, 2, 2))
    rate[:, 0, 1] = 10.0
    for ecmp in (False, True):
        list(Engine(graph, Demand(rate), ecmp=ecmp).sweep([Variant(down=frozenset({0}))]))
    firm = replace(graph, classes=classes[:1])  # without elastic traffic, one kernel answers a variant whole
    list(Engine(firm, Demand(rate[:1])).sweep([Variant(down=frozenset({0}))]))
    assess(firm, Demand(rate[:1]), best=False)


if __name__ == "__main__":
    warm()
