"""What may enter the engine: graphs, demands and variants are refused here, never computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.errors import ConfigError, NotFound
from domain_twin.simulation.graph import Demand, Law, Scheduler, SimGraph, Variant

__all__ = ["VALUES", "check_demand", "check_graph", "check_value", "check_variant"]

VALUES: dict[str, tuple[frozenset[Law], str]] = {
    "metric": (frozenset(Law), "finite and >= 0, > 0 on a link"),
    "capacity_bps": (frozenset({Law.LINK, Law.CELL}), "finite and > 0 bit/s"),
    "fixed_s": (frozenset(Law), "finite and >= 0 s"),
    "buffer": (frozenset({Law.LINK, Law.CELL, Law.STATION}), ">= 0 packets, or inf"),
    "servers": (frozenset({Law.STATION}), ">= 1, whole"),
    "service_s": (frozenset({Law.STATION}), "finite and > 0 s"),
    "service_scv": (frozenset({Law.STATION}), "finite and >= 0"),
    "loss": (frozenset(Law), "a probability, 0 to 1"),
    "scheduler": (frozenset({Law.LINK}), f"one of {', '.join(str(int(s)) for s in Scheduler)}"),
}
"""The fields of an edge: the laws that read it, and what is accepted."""


def check_graph(graph: SimGraph) -> None:
    """Refuse a graph that cannot be computed with; raises ConfigError with the edge and what is accepted."""
    nodes, edges = len(graph.nodes), len(graph.edges)
    if not nodes or not graph.classes:
        raise ConfigError("a network without nodes or without a traffic class cannot be simulated; add one")
    for kind, names in (("node", graph.nodes), ("edge", graph.edges)):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{kind} {twice!r} is there twice; give every {kind} an id of its own")
    for name in ("tail", "head", "law", "scheduler", "up", *VALUES):
        if getattr(graph, name).shape != (edges,):
            raise ConfigError(
                f"{name} has shape {getattr(graph, name).shape}; {edges} edges need one value each"
            )
    if graph.transit.shape != (nodes,):
        raise ConfigError(
            f"transit has shape {graph.transit.shape}; {nodes} nodes need one value each, transit or not"
        )
    for name in ("tail", "head"):
        ends = getattr(graph, name)
        _refuse(graph, (ends < 0) | (ends >= nodes), name, ends, f"a node index below {nodes}")
    _refuse(graph, graph.tail == graph.head, "head", graph.head, "another node than its tail")
    _refuse(graph, ~np.isin(graph.law, [int(law) for law in Law]), "law", graph.law, "a Law")
    for name, (laws, accepted) in VALUES.items():
        values = np.asarray(getattr(graph, name))
        read = np.isin(graph.law, [int(law) for law in laws])
        _refuse(graph, read & ~_accepted(name, values, graph.law), name, values, accepted)


def check_demand(graph: SimGraph, demand: Demand) -> None:
    """Refuse demand of another shape, negative, not finite, or of a node to itself; raises ConfigError."""
    rate = demand.rate
    expected = (len(graph.classes), len(graph.nodes), len(graph.nodes))
    if rate.shape != expected:
        raise ConfigError(f"demand has shape {rate.shape}; class, destination, source need {expected}")
    bad = ~(np.isfinite(rate) & (rate >= 0.0))
    bad |= np.eye(expected[1], dtype=bool) & (rate != 0.0)
    if bad.any():
        c, d, s = (int(i[0]) for i in np.nonzero(bad))
        raise ConfigError(
            f"demand of class {graph.classes[c].name} from {graph.nodes[s]} to {graph.nodes[d]} is"
            f" {rate[c, d, s]} packets/s; it must be finite, >= 0, and 0 from a node to itself"
        )


def check_variant(graph: SimGraph, variant: Variant) -> None:
    """Refuse a variant that names what is not there, or contradicts itself; NotFound or ConfigError."""
    name = variant.name or "the variant"
    for what, indices, size in (
        ("edge", variant.down | variant.restored, len(graph.edges)),
        ("node", variant.nodes_down, len(graph.nodes)),
        ("class", frozenset(variant.class_scale), len(graph.classes)),
    ):
        for index in indices:
            if not 0 <= index < size:
                raise NotFound(f"{name} changes {what} {index}; there are {size}, numbered from 0")
    if both := variant.down & variant.restored:
        edge = graph.edges[min(both)]
        raise ConfigError(f"{name} takes edge {edge} down and restores it; leave one of the two out")
    for field, values in variant.values.items():
        if field not in VALUES:
            raise ConfigError(f"{name} changes {field!r}; a variant changes {', '.join(VALUES)}")
        for edge_index, value in values.items():
            check_value(graph, field, edge_index, value)
    scales = [("all demand", variant.demand_scale)]
    scales += [(f"class {c}", factor) for c, factor in variant.class_scale.items()]
    for what, scale in scales:
        if not (np.isfinite(scale) and scale >= 0.0):
            raise ConfigError(f"{name} scales {what} by {scale}; a factor is finite and >= 0")
    for c, s, d, rate in variant.pairs:
        if not (0 <= c < len(graph.classes) and 0 <= s < len(graph.nodes) and 0 <= d < len(graph.nodes)):
            raise NotFound(
                f"{name} sets the demand of class {c} from node {s} to node {d}; there are"
                f" {len(graph.classes)} classes and {len(graph.nodes)} nodes, numbered from 0"
            )
        if s == d or not (np.isfinite(rate) and rate >= 0.0):
            raise ConfigError(
                f"{name} sets the demand from {graph.nodes[s]} to {graph.nodes[d]} to {rate} packets/s; it"
                " must be finite, >= 0, and between two nodes"
            )


def check_value(graph: SimGraph, field: str, edge: int, value: float) -> None:
    """Refuse one new value of one edge: NotFound, or ConfigError with what is accepted."""
    if not 0 <= edge < len(graph.edges):
        raise NotFound(f"there is no edge {edge} to change the {field} of; there are {len(graph.edges)}")
    laws, accepted = VALUES[field]
    law = Law(int(graph.law[edge]))
    if law not in laws:
        raise ConfigError(f"edge {graph.edges[edge]} is a {law.name}, which has no {field} to change")
    if not _accepted(field, np.array([value], float), np.array([law]))[0]:
        raise ConfigError(f"edge {graph.edges[edge]}: {field} {value} is refused; accepted is {accepted}")


def _accepted(field: str, values: npt.NDArray[Any], law: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if field == "buffer":
        good = (values >= 0.0) & ~np.isnan(values)
    elif field in ("capacity_bps", "service_s"):
        good = finite & (values > 0.0)
    elif field == "servers":
        good = finite & (values >= 1.0) & (values == np.floor(values))
    elif field == "loss":
        good = (values >= 0.0) & (values <= 1.0)
    elif field == "scheduler":
        good = np.isin(values, [int(s) for s in Scheduler])
    elif field == "metric":
        good = finite & ((values > 0.0) | ((values == 0.0) & (law != Law.LINK)))
    else:
        good = finite & (values >= 0.0)
    return np.asarray(good, np.bool_)


def _refuse(
    graph: SimGraph, bad: npt.NDArray[np.bool_], name: str, values: npt.NDArray[Any], accepted: str
) -> None:
    if bad.any():
        edge = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"edge {graph.edges[edge]}: {name} {values[edge]} is refused; accepted is {accepted}"
        )
