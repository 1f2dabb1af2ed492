"""From a scenario's changes to variants of a compiled network. Owns what a change means to edges and demand.

A link is two edges, one each way, that fail together; a node takes all its edges with it. Factors of all
demand and of a class apply first, then those of pairs and cells; a rate in Mbit/s stands as it is written.
Refuses elements that the network does not have, and says which are close.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model import scenario as language
from domain_twin.model.scenario import Change, Scenario
from domain_twin.simulation.graph import (
    Arrivals,
    Demand,
    Law,
    Scheduler,
    SimGraph,
    TrafficClass,
    Variant,
)
from domain_twin.simulation.grouping import packets_together

__all__ = ["Arrays", "Elements", "changed", "same_demand", "with_services"]

_SCHEDULERS = {
    "fifo": Scheduler.FIFO,
    "strict-priority": Scheduler.STRICT_PRIORITY,
    "wfq": Scheduler.WFQ,
    "drr": Scheduler.DRR,
}
_LAW_WORDS = {Law.LINK: "link", Law.CELL: "cell", Law.STATION: "network function or host", Law.FIXED: "delay"}


class Arrays(Protocol):
    """A compiled network: the part that changes need."""

    @property
    def graph(self) -> SimGraph:
        """The network as arrays."""

    @property
    def demand(self) -> Demand:
        """What is offered to it."""

    @property
    def edges_of(self) -> Mapping[str, Sequence[int]]:
        """Edge indices by element id."""

    @property
    def node_of(self) -> Mapping[str, int]:
        """Node index by element id."""


class Elements:
    """Looks up what scenarios name. `aliases` are further names of elements, such as `ran/cell-1`."""

    def __init__(self, base: Arrays, *, domain: str = "", aliases: Mapping[str, str] | None = None) -> None:
        self.graph = base.graph
        self.demand = base.demand
        self._edges_of = base.edges_of
        self._node_of = base.node_of
        self._prefix = f"urn:ndt:{domain}:"
        self._aliases = aliases or {}
        self._twins = _reverse_edges(base.graph) | _twins_of(base)

    def known(self, name: str) -> str:
        """The id behind a name: an id, an alias, or an id without its `urn:ndt:DOMAIN:`. Raises NotFound."""
        for candidate in (self._aliases.get(name, ""), name, f"{self._prefix}{name}"):
            if candidate and self._is(candidate):
                return candidate
        everything = {*self._edges_of, *self._node_of, *self.graph.groups, *self._aliases}
        short = {key.removeprefix(self._prefix): key for key in everything}
        close = difflib.get_close_matches(name.removeprefix(self._prefix), short, 3, 0.5)
        hint = f"; close to it: {', '.join(short[key] for key in close)}" if close else ""
        raise NotFound(f"no element {name!r} in this network{hint}; `fedtwin elements` lists them")

    def node(self, name: str) -> int:
        """The node index of an element where traffic may begin and end. Raises NotFound, ConfigError."""
        identity = self.known(name)
        if identity not in self._node_of:
            raise ConfigError(
                f"{name!r} is no place where traffic begins or ends; name a node, cell, function or host"
            )
        return self._node_of[identity]

    def edges(self, name: str, laws: Iterable[Law], what: str) -> tuple[int, ...]:
        """The edges of an element that obey one of `laws`; `what` is asked of them. Raises ConfigError."""
        identity = self.known(name)
        wanted = set(laws)
        obeyed = {e: Law(int(self.graph.law[e])) for e in self._edges_of.get(identity, ())}
        found = tuple(e for e, law in obeyed.items() if law in wanted)
        if not found:
            words = " or ".join(_LAW_WORDS[law] for law in sorted(wanted))
            why = f"it is no {words}"
            if Law.STATION in wanted and Law.FIXED in obeyed.values():
                why = "its service time is not known; run `fedtwin calibrate`"
            raise ConfigError(f"{name!r} has no {what} that could change: {why}")
        if len(found) > 1:
            names = ", ".join(self.graph.edges[e] for e in found)
            raise ConfigError(f"{name!r} is the end of several links; name one of {names}")
        return found

    def failing(self, name: str) -> tuple[frozenset[int], frozenset[int]]:
        """The edges and nodes that fail with an element."""
        identity = self.known(name)
        edges = self.graph.groups.get(identity) or self._edges_of.get(identity, ())
        if not edges:
            return frozenset(), frozenset({self._node_of[identity]})
        return frozenset(e for edge in edges for e in self.both_ways(edge)), frozenset()

    def both_ways(self, edge: int) -> tuple[int, ...]:
        """An edge, and the one that leads back along the same link."""
        back = self._twins.get(edge)
        return (edge,) if back is None else (edge, back)

    def links(self) -> Iterator[tuple[str, frozenset[int]]]:
        """Every link as its two edges, named by the first of them."""
        seen: set[int] = set()
        for edge in np.flatnonzero(self.graph.law == Law.LINK).tolist():
            if edge not in seen:
                pair = self.both_ways(edge)
                seen.update(pair)
                yield self.graph.edges[edge], frozenset(pair)

    def traffic_class(self, name: str) -> int:
        """The index of a traffic class. Raises NotFound."""
        names = [item.name for item in self.graph.classes]
        if name not in names:
            raise NotFound(f"no traffic class {name!r}; there are {', '.join(names)}")
        return names.index(name)

    def _is(self, name: str) -> bool:
        return name in self._edges_of or name in self._node_of or name in self.graph.groups


def with_services(base: Arrays, scenario: Scenario, elements: Elements) -> tuple[SimGraph, Demand]:
    """The network with the scenario's new services: a traffic class each, and its demand.

    Raises NotFound, ConfigError.
    """
    services = [change for change in scenario.changes if isinstance(change, language.NewService)]
    if not services:
        return base.graph, base.demand
    graph, rate = base.graph, base.demand.rate
    names = {item.name for item in graph.classes}
    classes, planes = list(graph.classes), [rate]
    together = packets_together(graph.classes)
    for service in services:
        if service.name in names:
            raise ConfigError(f"a traffic class is called {service.name!r} already; rename the new service")
        source, target = elements.node(service.source), elements.node(service.target)
        if source == target:
            raise ConfigError(f"service {service.name!r} begins and ends at one place; name two elements")
        plane = np.zeros((1, *rate.shape[1:]))
        plane[0, target, source] = _packets(service.mbps, service.packet_octets * together)
        planes.append(plane)
        classes.append(
            TrafficClass(
                service.name,
                sizes=(service.packet_octets * together,),
                arrivals=Arrivals(service.arrivals),
                on_s=service.on_s if "on-off" in service.arrivals else 0.0,
                off_s=service.off_s if "on-off" in service.arrivals else 0.0,
                priority=service.priority,
                packets=together,
            )
        )
    return replace(graph, classes=tuple(classes)), Demand(np.concatenate(planes))


def same_demand(before: Arrays, graph: SimGraph) -> tuple[Demand, tuple[str, ...]]:
    """A network's demand on another graph, by names of nodes and classes; and what has no place there."""
    old = before.graph
    if old.nodes == graph.nodes and old.classes == graph.classes:
        return before.demand, ()
    rate = np.zeros((len(graph.classes), len(graph.nodes), len(graph.nodes)))
    nodes = {name: index for index, name in enumerate(graph.nodes)}
    kept = [index for index, name in enumerate(old.nodes) if name in nodes]
    moved = [nodes[old.nodes[index]] for index in kept]
    classes = {item.name: index for index, item in enumerate(graph.classes)}
    for c, item in enumerate(old.classes):
        if item.name in classes:
            rate[classes[item.name]][np.ix_(moved, moved)] = before.demand.rate[c][np.ix_(kept, kept)]
    lost = float(before.demand.rate.sum() - rate.sum())
    if lost <= 1e-9 * float(before.demand.rate.sum()):
        return Demand(rate), ()
    gone = sorted(set(old.nodes) - set(nodes))
    return Demand(rate), (
        f"{lost:.4g} packets/s begin or end where nothing is any more and are left out:"
        f" {', '.join(gone[:5])}",
    )


def changed(
    elements: Elements, changes: Iterable[Change], *, name: str
) -> tuple[Variant, tuple[str, ...], tuple[str, ...]]:
    """One variant with all of `changes` made, the ids they touch, and what could not be done.

    `config` and `service` changes are others' to make. Raises NotFound, ConfigError.
    """
    made = _Making(elements)
    for change in changes:
        made.make(change)
    return made.variant(name), tuple(made.touched), tuple(made.notes)


class _Making:
    """Changes as they add up to a variant."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._graph = elements.graph
        self._down: set[int] = set()
        self._nodes: set[int] = set()
        self._restored: dict[int, str] = {}
        self._values: dict[str, dict[int, float]] = {}
        self._scale = 1.0
        self._class_scale: dict[int, float] = {}
        self._pair_factors: list[tuple[int | None, int | None, int | None, float]] = []
        self._pair_rates: list[tuple[language.DemandChange, int, int]] = []
        self.touched: dict[str, None] = {}
        self.notes: list[str] = []

    def make(self, change: Change) -> None:
        """Add one change."""
        element = getattr(change, "element", None)
        if element is not None:
            self.touched[self._elements.known(element)] = None
        match change:
            case language.ElementDown():
                self._take_down(change.element)
            case language.ElementUp():
                self._bring_up(change.element)
            case language.CapacityChange():
                for edge in self._elements.edges(change.element, (Law.LINK, Law.CELL), "capacity"):
                    bps = self._graph.capacity_bps[edge] * (change.factor or 1.0)
                    self._set("capacity_bps", edge, bps if change.mbps is None else change.mbps * 1e6)
            case language.MetricChange():
                for edge in self._elements.edges(change.element, (Law.LINK,), "metric"):
                    self._set("metric", edge, change.value)
            case language.BufferChange():
                for edge in self._elements.edges(change.element, (Law.LINK,), "buffer"):
                    self._set("buffer", edge, change.packets)
            case language.SchedulerChange():
                for edge in self._elements.edges(change.element, (Law.LINK,), "scheduler"):
                    self._set("scheduler", edge, _SCHEDULERS[change.discipline])
            case language.WorkersChange():
                self._staff(change)
            case language.CellLoadChange():
                self._elements.edges(change.element, (Law.CELL,), "load")
                cell = self._elements.node(change.element)
                self._pair_factors.append((None, cell, None, change.factor))
            case language.DemandChange():
                self._demand(change)
            case language.NewService() | language.ConfigChange():
                pass

    def variant(self, name: str) -> Variant:
        """What all changes come to. Raises ConfigError where one undoes another."""
        for edge, element in self._restored.items():
            ends = {int(self._graph.tail[edge]), int(self._graph.head[edge])}
            if lost := ends & self._nodes:
                node = self._graph.nodes[min(lost)]
                raise ConfigError(
                    f"{element!r} is brought up while {node!r}, where it ends, goes down; keep one of the two"
                )
        return Variant(
            name=name,
            down=frozenset(self._down),
            restored=frozenset(self._restored) - self._down,
            nodes_down=frozenset(self._nodes),
            values=self._values,
            demand_scale=self._scale,
            class_scale=self._class_scale,
            pairs=self._pairs(),
        )

    def _take_down(self, element: str) -> None:
        edges, nodes = self._elements.failing(element)
        at = np.isin(self._graph.tail, list(nodes)) | np.isin(self._graph.head, list(nodes))
        concerned = sorted(edges) if edges else np.flatnonzero(at).tolist()
        if concerned and not self._graph.up[concerned].any():
            self.notes.append(f"{element} is down already: taking it down changes nothing")
        self._down |= edges
        self._nodes |= nodes

    def _bring_up(self, element: str) -> None:
        edges, nodes = self._elements.failing(element)
        at = np.isin(self._graph.tail, list(nodes)) | np.isin(self._graph.head, list(nodes))
        concerned = edges | set(np.flatnonzero(at).tolist())
        if concerned and self._graph.up[sorted(concerned)].all():
            self.notes.append(f"{element} is up already: bringing it up changes nothing")
        self._restored |= dict.fromkeys(concerned, element)

    def _staff(self, change: language.WorkersChange) -> None:
        for edge in self._elements.edges(change.element, (Law.STATION,), "workers"):
            has = int(self._graph.servers[edge])
            count = change.count if change.count is not None else has + (change.delta or 0)
            if count < 0:
                raise ConfigError(
                    f"{change.element!r} has {has} workers; delta {change.delta} takes more away"
                )
            if count == 0:
                self._down |= set(self._elements.both_ways(edge))
            else:
                self._set("servers", edge, count)

    def _demand(self, change: language.DemandChange) -> None:
        c = None if change.traffic_class is None else self._elements.traffic_class(change.traffic_class)
        if change.source is None or change.target is None:
            assert change.factor is not None  # the language says so
            if c is None:
                self._scale *= change.factor
            else:
                self._class_scale[c] = self._class_scale.get(c, 1.0) * change.factor
            return
        source, target = self._elements.node(change.source), self._elements.node(change.target)
        if source == target:
            raise ConfigError(f"{change.source!r} and {change.target!r} are one place; name two elements")
        if change.factor is not None:
            self._pair_factors.append((c, source, target, change.factor))
        else:
            self._pair_rates.append((change, source, target))

    def _pairs(self) -> tuple[tuple[int, int, int, float], ...]:
        if not self._pair_factors and not self._pair_rates:
            return ()
        scales = np.array([self._class_scale.get(c, 1.0) for c in range(len(self._graph.classes))])
        scaled = self._elements.demand.rate * (self._scale * scales)[:, None, None]
        rates: dict[tuple[int, int, int], float] = {}
        for c, s, d, factor in self._pair_factors:
            chosen = np.zeros(scaled.shape, bool)
            chosen[_all_or(c), _all_or(d), _all_or(s)] = True
            for place in np.argwhere(chosen & (scaled > 0.0)).tolist():
                key = (place[0], place[2], place[1])
                rates[key] = rates.get(key, float(scaled[tuple(place)])) * factor
        for change, s, d in self._pair_rates:
            rates |= self._rated(change, s, d, scaled[:, d, s])
        return tuple((c, s, d, rate) for (c, s, d), rate in sorted(rates.items()))

    def _rated(
        self, change: language.DemandChange, s: int, d: int, offered: np.ndarray
    ) -> dict[tuple[int, int, int], float]:
        """Rates of a pair's classes that come to so many Mbit/s, in the shares that they have now."""
        octets = np.array([item.mean_octets for item in self._graph.classes])
        if change.traffic_class is not None:
            chosen = [self._elements.traffic_class(change.traffic_class)]
        else:
            chosen = np.flatnonzero(offered > 0).tolist() or [0]
            if not offered.any():
                self.notes.append(
                    f"nothing is measured from {change.source} to {change.target}: its new traffic is taken"
                    f" to be of class {self._graph.classes[0].name}"
                )
        bits = offered[chosen] * octets[chosen]
        shares = bits / bits.sum() if bits.sum() > 0 else np.full(len(chosen), 1.0 / len(chosen))
        return {
            (c, s, d): _packets(float(share) * (change.mbps or 0.0), float(octets[c]))
            for c, share in zip(chosen, shares, strict=True)
        }

    def _set(self, name: str, edge: int, value: float) -> None:
        self._values.setdefault(name, {})[edge] = float(value)


def _all_or(index: int | None) -> slice:
    return slice(None) if index is None else slice(index, index + 1)


def _packets(mbps: float, octets: float) -> float:
    """Packets/s of so many Mbit/s."""
    return mbps * 1e6 / (8.0 * octets)


def _twins_of(base: Arrays) -> dict[int, int]:
    """For each link's edge the one back, where both are all that an interface or inter-domain link has."""
    twins: dict[int, int] = {}
    for edges in base.edges_of.values():
        if len(edges) == 2 and any(base.graph.law[edge] == Law.LINK for edge in edges):
            twins |= {edges[0]: edges[1], edges[1]: edges[0]}
    return twins


def _reverse_edges(graph: SimGraph) -> dict[int, int]:
    """For each link's edge the one that leads back; of parallel links, those of equal place in the graph."""
    between: dict[tuple[int, int], list[int]] = {}
    for edge in np.flatnonzero(graph.law == Law.LINK):
        between.setdefault((int(graph.tail[edge]), int(graph.head[edge])), []).append(int(edge))
    twins: dict[int, int] = {}
    for (tail, head), edges in between.items():
        twins |= dict(zip(edges, between.get((head, tail), ()), strict=False))
    return twins
