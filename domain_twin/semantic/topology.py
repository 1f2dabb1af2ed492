"""A domain's network as triples of the upper ontology. Owns which triples an element makes; no I/O.

The network model is normalised already (`mapping`), so the graph says what it says, in other words. What one
element makes depends on that element alone: a change is the difference of what it made and what it makes.
Figures go to a graph of their own, the rest to the
domain's topology graph. Names of published points
are `disclosure`'s, and are not made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyoxigraph as ox

from domain_twin.model import (
    Cell,
    Host,
    Kpi,
    Link,
    Nanoseconds,
    Network,
    NetworkFunction,
    Node,
    TerminationPoint,
)
from domain_twin.semantic.names import (
    NDT,
    domain_node,
    element,
    figures_graph,
    inter_domain_link,
    topology_graph,
)

__all__ = ["WORDS", "Topology", "date_time", "double", "figure_quads", "ndt", "network_quads"]

_DATE_TIME = ox.NamedNode("http://www.w3.org/2001/XMLSchema#dateTime")
_TRUE, _FALSE = ox.Literal(True), ox.Literal(False)
_TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")

Pair = tuple[ox.NamedNode, ox.NamedNode | ox.Literal]
"""A property and its value."""


@lru_cache(maxsize=512)
def ndt(name: str) -> ox.NamedNode:
    """A term of the upper ontology."""
    return ox.NamedNode(NDT + name)


class Topology:
    """What changes in the graphs of a domain when its network does."""

    def __init__(self, domain: str, *, operator: str = "") -> None:
        self.domain = domain
        self._operator = operator
        self._network: Network | None = None
        self._figures: Network | None = None
        self._makers: Counter[ox.Quad] = Counter()  # of what several elements make

    def update(self, network: Network) -> tuple[list[ox.Quad], list[ox.Quad]]:
        """What to take out of the topology graph, and what to put in, since the last call."""
        gone: list[ox.Quad] = []
        new: list[ox.Quad] = []
        if self._network is None:
            new += _domain_quads(self.domain, self._operator)
        for kind, before, after in _changed(self._network, network):
            make = _MAKERS[kind]
            old = set(make(self.domain, before)) if before is not None else set()
            now = dict.fromkeys(make(self.domain, after)) if after is not None else {}
            gone += [quad for quad in old if quad not in now]
            new += [quad for quad in now if quad not in old]
            if share := _SHARED.get(kind):
                self._count(share(self.domain, after), 1, new)
                self._count(share(self.domain, before), -1, gone)
        self._network = network
        return gone, new

    def update_figures(self, network: Network) -> tuple[list[ox.Quad], list[ox.Quad]]:
        """The same for the graphs of latest values: what the elements' figures are now."""
        gone: list[ox.Quad] = []
        new: list[ox.Quad] = []
        for kind, before, after in _changed(self._figures, network):
            was = getattr(before, "kpis", None) or {}
            now = getattr(after, "kpis", None) or {}
            if was == now:
                continue
            old = set(figure_quads(self.domain, kind, before))
            made = dict.fromkeys(figure_quads(self.domain, kind, after))
            gone += [quad for quad in old if quad not in made]
            new += [quad for quad in made if quad not in old]
        self._figures = network
        return gone, new

    def _count(self, quads: Iterable[ox.Quad], step: int, changed: list[ox.Quad]) -> None:
        """Note that one element more, or fewer, makes these; collect those that come or go by it."""
        for quad in quads:
            before = self._makers[quad]
            self._makers[quad] = before + step
            if (before + step == 0) or (before == 0):
                changed.append(quad)
            if before + step == 0:
                del self._makers[quad]

    def forget(self) -> None:
        """Start from nothing again: the next updates say everything."""
        self._network = self._figures = None
        self._makers.clear()

    def forget_figures(self) -> None:
        """The same for the figures alone."""
        self._figures = None


def network_quads(network: Network, *, operator: str = "") -> list[ox.Quad]:
    """The whole topology graph of a network."""
    return Topology(network.domain, operator=operator).update(network)[1]


def figure_quads(domain: str, kind: str, item: Any) -> Iterator[ox.Quad]:
    """The figures of one element, in the domain's graph of latest figures."""
    kpis: Mapping[str, Kpi] = getattr(item, "kpis", None) or {}
    if not kpis:
        return
    graph = ox.NamedNode(figures_graph(domain))
    subject = _element(domain, kind, item.id)
    for kpi in kpis.values():
        figure = ox.NamedNode(f"{subject.value}/kpi/{kpi.name}")
        yield ox.Quad(subject, ndt("hasKpi"), figure, graph)
        for predicate, value in _kpi(kpi):
            yield ox.Quad(figure, predicate, value, graph)


def _kpi(kpi: Kpi) -> Iterator[Pair]:
    yield _TYPE, ndt("Kpi")
    yield ndt("name"), ox.Literal(kpi.name)
    yield ndt("value"), double(kpi.value)
    yield ndt("unit"), ox.Literal(kpi.unit)
    yield ndt("origin"), ox.Literal(kpi.origin.value)
    if kpi.std_error:
        yield ndt("stdError"), double(kpi.std_error)
    if kpi.observed_at:
        yield ndt("observedAt"), date_time(kpi.observed_at)


def double(value: float) -> ox.Literal:
    """A figure; infinity and not-a-number as XSD writes them."""
    return ox.Literal(float(value))


def date_time(at: Nanoseconds) -> ox.Literal:
    """A moment, to the millisecond, in UTC."""
    moment = datetime.fromtimestamp(at // 1_000_000 / 1e3, UTC).isoformat(timespec="milliseconds")
    text = moment.removesuffix("+00:00").rstrip("0").rstrip(".")  # as the engine writes it
    return ox.Literal(text + "Z", datatype=_DATE_TIME)


def _changed(before: Network | None, after: Network) -> Iterator[tuple[str, Any, Any]]:
    """Elements that are not the same objects any more: collection, as it was, as it is."""
    for kind in _MAKERS:
        new: Mapping[str, Any] = getattr(after, kind)
        old: Mapping[str, Any] = getattr(before, kind) if before is not None else {}
        if old is new:
            continue
        for identity, item in new.items():
            was = old.get(identity)
            if was is not item:
                yield kind, was, item
        for identity, was in old.items():
            if identity not in new:
                yield kind, was, None


def _domain_quads(domain: str, operator: str) -> Iterator[ox.Quad]:
    graph, subject = ox.NamedNode(topology_graph(domain)), ox.NamedNode(domain_node(domain))
    yield ox.Quad(subject, _TYPE, ndt("Domain"), graph)
    yield ox.Quad(subject, ndt("name"), ox.Literal(domain), graph)
    if operator:
        runs = ox.NamedNode(element(domain, "organisation", operator))
        yield ox.Quad(subject, ndt("operatedBy"), runs, graph)
        yield ox.Quad(runs, _TYPE, ndt("Organisation"), graph)
        yield ox.Quad(runs, ndt("name"), ox.Literal(operator), graph)


WORDS = {
    "nodes": "node",
    "termination_points": "termination-point",
    "links": "link",
    "functions": "network-function",
    "cells": "cell",
    "hosts": "host",
}
"""Collections of a Network and the word for what they hold, as in names of elements."""


def _element(domain: str, kind: str, identity: str) -> ox.NamedNode:
    return ox.NamedNode(element(domain, WORDS.get(kind, kind), identity))


def _quads(domain: str, subject: ox.NamedNode, pairs: Iterable[Pair]) -> Iterator[ox.Quad]:
    graph = ox.NamedNode(topology_graph(domain))
    for predicate, value in pairs:
        yield ox.Quad(subject, predicate, value, graph)


def _about(domain: str, item: Any, kind: str) -> Iterator[Pair]:
    """What is said of every element."""
    yield _TYPE, ndt(kind)
    yield ndt("identifier"), ox.Literal(item.id)
    yield ndt("name"), ox.Literal(getattr(item, "name", "") or item.id.removeprefix(f"urn:ndt:{domain}:"))
    yield ndt("inDomain"), ox.NamedNode(domain_node(domain))
    yield ndt("device"), ox.Literal(item.device)
    yield ndt("stale"), _truth(item.stale)


def _node(domain: str, node: Node) -> Iterator[ox.Quad]:
    subject = _element(domain, "nodes", node.id)
    yield from _quads(domain, subject, _about(domain, node, "Node"))
    known = (("vendor", node.vendor), ("softwareVersion", node.software))
    yield from _quads(domain, subject, ((ndt(name), ox.Literal(text)) for name, text in known if text))


def _point(domain: str, point: TerminationPoint) -> Iterator[ox.Quad]:
    subject, node = _element(domain, "termination_points", point.id), _element(domain, "nodes", point.node)

    def pairs() -> Iterator[Pair]:
        yield from _about(domain, point, "TerminationPoint")
        if point.node:
            yield ndt("onNode"), node
        yield from _states(point.enabled, point.oper_up)
        yield ndt("up"), _truth(point.up)
        if point.speed_mbps:
            yield ndt("capacityMbps"), double(point.speed_mbps)
        if point.inter_domain is not None:
            yield ndt("linkId"), ox.Literal(point.inter_domain.link_id)

    yield from _quads(domain, subject, pairs())
    if point.node:
        yield from _quads(domain, node, [(ndt("hasTerminationPoint"), subject)])


def _joined(domain: str, point: TerminationPoint | None) -> Iterator[ox.Quad]:
    """The inter-domain link, which two points may claim by mistake."""
    if point is not None and point.inter_domain is not None:
        link_id = point.inter_domain.link_id
        said: list[Pair] = [(_TYPE, ndt("InterDomainLink")), (ndt("linkId"), ox.Literal(link_id))]
        yield from _quads(domain, ox.NamedNode(inter_domain_link(link_id)), said)


def _link(domain: str, link: Link) -> Iterator[ox.Quad]:
    def pairs() -> Iterator[Pair]:
        yield from _about(domain, link, "Link")
        for name, end in (("hasSource", link.source_tp), ("hasDestination", link.dest_tp)):
            if end:
                yield ndt(name), _element(domain, "termination_points", end)
        yield ndt("metric"), ox.Literal(link.metric)
        if link.capacity_mbps:
            yield ndt("capacityMbps"), double(link.capacity_mbps)
        yield ndt("up"), _truth(link.up)

    yield from _quads(domain, _element(domain, "links", link.id), pairs())


def _function(domain: str, function: NetworkFunction) -> Iterator[ox.Quad]:
    def pairs() -> Iterator[Pair]:
        yield from _about(domain, function, "NetworkFunction")
        if function.type:
            yield ndt("role"), ox.Literal(function.type.lower())
        yield from _serving(domain, function)

    yield from _quads(domain, _element(domain, "functions", function.id), pairs())


def _cell(domain: str, cell: Cell) -> Iterator[ox.Quad]:
    def pairs() -> Iterator[Pair]:
        yield from _about(domain, cell, "Cell")
        yield ndt("role"), ox.Literal("cell")
        yield from _serving(domain, cell)

    yield from _quads(domain, _element(domain, "cells", cell.id), pairs())


def _host(domain: str, host: Host) -> Iterator[ox.Quad]:
    subject = _element(domain, "hosts", host.id)

    def pairs() -> Iterator[Pair]:
        yield from _about(domain, host, "Host")
        yield ndt("role"), ox.Literal("host")
        yield from _serving(domain, host)
        if host.site:
            yield ndt("atSite"), _element(domain, "site", host.site)

    yield from _quads(domain, subject, pairs())
    for name in host.applications:
        runs = _element(domain, "application", f"{host.id}/{name}")
        yield from _quads(
            domain,
            runs,
            [
                (_TYPE, ndt("Application")),
                (ndt("name"), ox.Literal(name)),
                (ndt("hostedOn"), subject),
                (ndt("inDomain"), ox.NamedNode(domain_node(domain))),
            ],
        )


def _site(domain: str, host: Host | None) -> Iterator[ox.Quad]:
    """The site, where several hosts stand."""
    if host is not None and host.site:
        said: list[Pair] = [
            (_TYPE, ndt("EdgeSite")),
            (ndt("name"), ox.Literal(host.site)),
            (ndt("inDomain"), ox.NamedNode(domain_node(domain))),
        ]
        yield from _quads(domain, _element(domain, "site", host.site), said)


def _serving(domain: str, item: Cell | NetworkFunction | Host) -> Iterator[Pair]:
    if item.node:
        yield ndt("onNode"), _element(domain, "nodes", item.node)
    yield from _states(item.unlocked, item.operational)
    yield ndt("up"), _truth(item.up)
    for snssai in getattr(item, "snssais", ()):
        yield ndt("snssai"), ox.Literal(snssai)


def _states(permitted: bool, able: bool) -> Iterator[Pair]:
    # 3GPP TS 28.622 and ITU-T X.731 name the values.
    yield ndt("administrativeState"), ox.Literal("UNLOCKED" if permitted else "LOCKED")
    yield ndt("operationalState"), ox.Literal("ENABLED" if able else "DISABLED")


def _truth(value: bool) -> ox.Literal:
    return _TRUE if value else _FALSE


_MAKERS: Mapping[str, Callable[[str, Any], Iterator[ox.Quad]]] = {
    "nodes": _node,
    "termination_points": _point,
    "links": _link,
    "functions": _function,
    "cells": _cell,
    "hosts": _host,
}

_SHARED: Mapping[str, Callable[[str, Any], Iterator[ox.Quad]]] = {
    "termination_points": _joined,
    "hosts": _site,
}
"""What several elements may make: it stays as long as one of them does."""
