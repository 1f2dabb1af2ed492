"""Services, slices and customers as triples. Owns which triples a record makes; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyoxigraph as ox

from domain_twin.model import ServiceRecords
from domain_twin.model.service import Objective, Service, Slice
from domain_twin.semantic.names import point, record, records_graph
from domain_twin.semantic.topology import double, ndt

__all__ = ["record_quads"]

_TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
Pair = tuple[ox.NamedNode, ox.NamedNode | ox.Literal]


def _point_of(name: str) -> str | None:
    return point(name) if "/" in name else None


def record_quads(
    records: ServiceRecords,
    *,
    graph: str = "",
    resolve: Callable[[str], str | None] = _point_of,
) -> Iterator[ox.Quad]:
    """The graph of the records (by default the one of that name).

    `resolve` gives the IRI of what a slice is made of: an element id, or a published point DOMAIN/ALIAS.
    """
    name = ox.NamedNode(graph or records_graph())

    def quads(subject: str, pairs: Iterator[Pair]) -> Iterator[ox.Quad]:
        node = ox.NamedNode(subject)
        for predicate, value in pairs:
            yield ox.Quad(node, predicate, value, name)

    for customer in records.customers.values():
        yield from quads(record("customer", customer.id), _named("Customer", customer.id, customer.name))
    for item in records.slices.values():
        yield from quads(record("slice", item.id), _slice(item, resolve))
    for service in records.services.values():
        subject = record("service", service.id)
        yield from quads(subject, _service(service, subject))
        if _promised(service.objective):
            yield from quads(f"{subject}/objective", _objective(service.objective))


def _named(kind: str, identity: str, called: str) -> Iterator[Pair]:
    yield _TYPE, ndt(kind)
    yield ndt("identifier"), ox.Literal(identity)
    yield ndt("name"), ox.Literal(called or identity)


def _slice(item: Slice, resolve: Callable[[str], str | None]) -> Iterator[Pair]:
    yield from _named("Slice", item.id, item.name)
    if item.snssai:
        yield ndt("snssai"), ox.Literal(item.snssai)
    if item.customer:
        yield ndt("forCustomer"), ox.NamedNode(record("customer", item.customer))
    for element in item.elements:
        if found := resolve(element):
            yield ndt("supportedBy"), ox.NamedNode(found)


def _service(service: Service, subject: str) -> Iterator[Pair]:
    yield from _named("Service", service.id, service.name)
    yield ndt("hasSource"), ox.NamedNode(point(service.source))
    yield ndt("hasDestination"), ox.NamedNode(point(service.target))
    if service.customer:
        yield ndt("forCustomer"), ox.NamedNode(record("customer", service.customer))
    if service.slice:
        yield ndt("carriedBy"), ox.NamedNode(record("slice", service.slice))
    if _promised(service.objective):
        yield ndt("promises"), ox.NamedNode(f"{subject}/objective")


def _promised(objective: Objective) -> bool:
    return objective != Objective()


def _objective(objective: Objective) -> Iterator[Pair]:
    yield _TYPE, ndt("Objective")
    promised = {
        "delayMs": objective.delay_ms,
        "lossRatio": objective.loss,
        "availability": objective.availability,
        "bandwidthMbps": objective.bandwidth_mbps,
    }
    for name, value in promised.items():
        if value is not None:
            yield ndt(name), double(value)
