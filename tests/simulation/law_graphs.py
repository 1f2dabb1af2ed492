"""Graphs of unconnected edges for judging the laws one by one: 1000 octets take one millisecond."""

from __future__ import annotations

import numpy as np

from domain_twin.simulation.graph import FloatArray, Law, SimGraph, TrafficClass
from domain_twin.simulation.laws.edges import compile_laws, evaluate

CAPACITY = 8e6
MS = 1e-3


def one_class(**fields: object) -> tuple[TrafficClass, ...]:
    return (TrafficClass("only", **fields),)  # type: ignore[arg-type]


def graph_of(classes: tuple[TrafficClass, ...], edges: int = 1, **fields: object) -> SimGraph:
    """`edges` edges; `fields` are values (one for all, or one each) by the names of SimGraph."""
    values: dict[str, object] = {
        "law": Law.LINK, "scheduler": 0, "up": True, "metric": 1.0, "capacity_bps": CAPACITY, "fixed_s": 0.0,
        "buffer": 32.0, "servers": 1, "service_s": MS, "service_scv": 1.0, "loss": 0.0,
    }  # fmt: skip
    values |= fields
    kinds = {"law": np.int8, "scheduler": np.int8, "up": np.bool_, "servers": np.int32}
    arrays = {
        name: np.ascontiguousarray(np.broadcast_to(np.asarray(value, kinds.get(name, np.float64)), (edges,)))
        for name, value in values.items()
    }
    return SimGraph(
        nodes=tuple(f"n{i}" for i in range(edges + 1)),
        edges=tuple(f"e{i}" for i in range(edges)),
        classes=classes,
        tail=np.arange(edges, dtype=np.int32),
        head=np.arange(1, edges + 1, dtype=np.int32),
        transit=np.ones(edges + 1, np.bool_),
        **arrays,  # type: ignore[arg-type]
    )


def answer(
    classes: tuple[TrafficClass, ...], rate: list[float], square: list[float] | None = None, **fields: object
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Delay (s), variance (s^2), loss by class, on one edge."""
    laws = compile_laws(graph_of(classes, **fields))
    rates = np.array(rate, float)
    squares = rates**2 if square is None else np.array(square, float)
    out = np.zeros((3, len(rate)))
    evaluate(laws, 0, rates, squares, out[0], out[1], out[2])
    return out[0], out[1], out[2]
