"""What the broker can say itself, as triples: points, segments, inter-domain links, services and their paths.

Made from the views at hand, a domain at a time when it changed; always there, so that what joins the
domains costs no request. It holds structure and no figures: those are asked of the domains, whose they are.
What one asker sees of it is decided by the domains' cards: of a domain whose card is of another agreement
than the view that the broker has, nothing, and nothing that names its elements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeGuard

from pyoxigraph import Literal, NamedNode, Variable

from domain_twin.model import ANY_POINT, Point, PointKind, ServiceRecords, ServiceStatus, View
from domain_twin.semantic import names, terms
from domain_twin.semantic.names import NDT
from federation.query.cards import Card, Count
from federation.query.gathered import Solution, Triple, Value
from federation.query.needs import Pattern, Steps
from federation.query.sources import RDF_TYPE

__all__ = ["Boundary", "Facts", "SeenBoundary", "record_triples", "view_triples"]

_CLASSES = {PointKind.BORDER: "BorderPoint", PointKind.ENDPOINT: "EndPoint", PointKind.NODE: "Node"}
_FEW = 1000
"""With so few values known for a variable, they are looked up one by one."""
_SIGHTS = 16
"""So many sets of domains that askers see are kept joined."""
DEPENDS_ON = NamedNode(f"{NDT}dependsOn")
_DEPENDENCE = frozenset(
    NamedNode(iri)
    for iri in (
        terms.AT_SITE,
        terms.CARRIED_BY,
        terms.ENDS_AT,
        terms.FOLLOWS,
        terms.HAS_DESTINATION,
        terms.HAS_SOURCE,
        terms.HAS_SUBNET,
        terms.HOSTED_ON,
        terms.IN_RISK_GROUP,
        terms.ON_NODE,
        terms.PART_OF,
        terms.SERVED_BY,
        terms.SUPPORTED_BY,
        terms.USES_LINK,
        terms.USES_SEGMENT,
    )
)
"""By which a failure travels (ontology/rules/direct-dependence.rq)."""


def _ndt(name: str) -> NamedNode:
    return NamedNode(NDT + name)


def _truth(value: bool) -> Literal:
    return Literal(value)


def view_triples(view: View) -> Iterator[Triple]:
    """The structure of a view, in the words that its domain's own graph of it has."""
    domain = NamedNode(names.domain_node(view.domain))
    yield domain, RDF_TYPE, _ndt("Domain")
    yield domain, _ndt("name"), Literal(view.domain)
    for point in view.points.values():
        yield from _point(point, domain)
    for segment in view.segments.values():
        anywhere = f"{view.domain}/{ANY_POINT}"
        source, target = (anywhere if end == ANY_POINT else end for end in (segment.source, segment.target))
        node = NamedNode(names.segment(source, target))
        yield node, RDF_TYPE, _ndt("Segment")
        yield node, _ndt("inDomain"), domain
        yield node, _ndt("up"), _truth(segment.current is not None)
        if segment.source != ANY_POINT:
            yield node, _ndt("hasSource"), NamedNode(names.point(source))
            yield node, _ndt("hasDestination"), NamedNode(names.point(target))


def _point(point: Point, domain: NamedNode) -> Iterator[Triple]:
    node = NamedNode(names.point(point.id))
    yield node, RDF_TYPE, _ndt(_CLASSES[point.kind])
    yield node, _ndt("alias"), Literal(point.id)
    yield node, _ndt("inDomain"), domain
    if point.role:
        yield node, _ndt("role"), Literal(point.role)
    yield node, _ndt("up"), _truth(point.up)
    if point.kind is PointKind.BORDER:
        yield node, _ndt("linkId"), Literal(point.link_id)
        if point.peer_domain:
            yield node, _ndt("peerDomain"), NamedNode(names.domain_node(point.peer_domain))
        joined = NamedNode(names.inter_domain_link(point.link_id))
        yield joined, RDF_TYPE, _ndt("InterDomainLink")
        yield joined, _ndt("linkId"), Literal(point.link_id)
        yield joined, _ndt("endsAt"), node


def record_triples(records: ServiceRecords, statuses: Iterable[ServiceStatus]) -> Iterator[Triple]:
    """Services with what was promised and the path that they take now, slices, customers."""
    for customer in records.customers.values():
        node = NamedNode(names.record("customer", customer.id))
        yield from _named(node, "Customer", customer.id, customer.name)
    for item in records.slices.values():
        node = NamedNode(names.record("slice", item.id))
        yield from _named(node, "Slice", item.id, item.name)
        if item.snssai:
            yield node, _ndt("snssai"), Literal(item.snssai)
        if item.customer:
            yield node, _ndt("forCustomer"), NamedNode(names.record("customer", item.customer))
        for element in item.elements:
            if "/" in element and not element.startswith("urn:"):
                yield node, _ndt("supportedBy"), NamedNode(names.point(element))
    for status in statuses:
        yield from _service(status)


def _named(node: NamedNode, kind: str, identifier: str, name: str) -> Iterator[Triple]:
    yield node, RDF_TYPE, _ndt(kind)
    yield node, _ndt("identifier"), Literal(identifier)
    if name:
        yield node, _ndt("name"), Literal(name)


def _service(status: ServiceStatus) -> Iterator[Triple]:
    service = status.service
    node = NamedNode(names.record("service", service.id))
    yield from _named(node, "Service", service.id, service.name)
    yield node, _ndt("hasSource"), NamedNode(names.point(service.source))
    yield node, _ndt("hasDestination"), NamedNode(names.point(service.target))
    if service.customer:
        yield node, _ndt("forCustomer"), NamedNode(names.record("customer", service.customer))
    if service.slice:
        yield node, _ndt("carriedBy"), NamedNode(names.record("slice", service.slice))
    promised = {
        "delayMs": service.objective.delay_ms,
        "lossRatio": service.objective.loss,
        "availability": service.objective.availability,
        "bandwidthMbps": service.objective.bandwidth_mbps,
    }
    if any(value is not None for value in promised.values()):
        objective = NamedNode(f"{node.value}/objective")
        yield node, _ndt("promises"), objective
        yield objective, RDF_TYPE, _ndt("Objective")
        for name, value in promised.items():
            if value is not None:
                yield objective, _ndt(name), Literal(float(value))
    if status.path is None:
        return
    path = NamedNode(f"{node.value}/path")
    yield node, _ndt("follows"), path
    yield path, RDF_TYPE, _ndt("Path")
    for hop in status.path.hops:
        if hop.link_id:
            yield path, _ndt("usesLink"), NamedNode(names.inter_domain_link(hop.link_id))
        elif hop.source != hop.target:
            yield path, _ndt("usesSegment"), NamedNode(names.segment(hop.source, hop.target))


class Facts:
    """Triples with indexes by each of their parts. Never changed once made."""

    def __init__(self, triples: Iterable[Triple], domain: str = "") -> None:
        self.triples: tuple[Triple, ...] = tuple(dict.fromkeys(triples))
        self.by_predicate: dict[NamedNode, list[Triple]] = {}
        self.by_subject: dict[NamedNode, list[Triple]] = {}
        self.by_object: dict[Value, list[Triple]] = {}
        for triple in self.triples:
            self.by_subject.setdefault(triple[0], []).append(triple)
            self.by_predicate.setdefault(triple[1], []).append(triple)
            self.by_object.setdefault(triple[2], []).append(triple)
        self.card = self._counts(domain)

    def match(self, pattern: Pattern, known: Mapping[Variable, frozenset[Value]]) -> Iterator[Solution]:
        """What matches a pattern, of the values that are known to be left for its variables."""
        wanted = (pattern.subject, pattern.predicate, pattern.object)
        for triple in self._among(pattern, known):
            row: dict[Variable, Value] = {}
            for term, value in zip(wanted, triple, strict=True):
                if isinstance(term, Variable):
                    if row.setdefault(term, value) != value or value not in known.get(term, (value,)):
                        break
                elif term != value:
                    break
            else:
                yield row

    def _among(self, pattern: Pattern, known: Mapping[Variable, frozenset[Value]]) -> Iterable[Triple]:
        """The triples that are worth looking at."""
        subject, obj = pattern.subject, pattern.object
        if isinstance(subject, NamedNode):
            return self.by_subject.get(subject, ())
        if isinstance(obj, NamedNode | Literal) and pattern.predicate != RDF_TYPE:
            return self.by_object.get(obj, ())
        if isinstance(subject, Variable) and _few(values := known.get(subject)):
            return chain.from_iterable(
                self.by_subject.get(value, ()) for value in values if isinstance(value, NamedNode)
            )
        if isinstance(obj, Variable) and _few(others := known.get(obj)):
            return chain.from_iterable(self.by_object.get(value, ()) for value in others)
        if isinstance(obj, NamedNode):
            return self.by_object.get(obj, ())
        if isinstance(pattern.predicate, NamedNode):
            return self.by_predicate.get(pattern.predicate, ())
        return self.triples

    def edges(self, node: NamedNode, steps: Steps) -> Iterator[Triple]:
        """The triples that may be stepped over from a node."""
        for triple in self.by_subject.get(node, ()):
            if steps.anything or triple[1] in steps.forward:
                yield triple
        for triple in self.by_object.get(node, ()):
            if steps.anything or triple[1] in steps.backward:
                yield triple

    def _counts(self, domain: str) -> Card:
        """How often each class and property is there."""
        classes = {
            value.value: _count(typed)
            for value, triples in self.by_object.items()
            if isinstance(value, NamedNode)
            and (typed := [triple for triple in triples if triple[1] == RDF_TYPE])
        }
        properties = {name.value: _count(triples) for name, triples in self.by_predicate.items()}
        return Card(domain, triples=len(self.triples), classes=classes, properties=properties)


def _few(values: frozenset[Value] | None) -> TypeGuard[frozenset[Value]]:
    return values is not None and len(values) <= _FEW


def _count(triples: Sequence[Triple]) -> Count:
    subjects = {triple[0] for triple in triples}
    objects = {triple[2] for triple in triples}
    return Count(len(triples), len(subjects), len(objects), _of_domains(subjects), _of_domains(objects))


def _of_domains(terms: Iterable[Value]) -> int:
    """How many of these are names of domains' elements."""
    return sum(isinstance(term, NamedNode) and bool(names.owner(term.value)) for term in terms)


class Boundary:
    """The triples of all domains and of the records, as they are now."""

    def __init__(
        self,
        view_of: Callable[[str], View | None],
        records: ServiceRecords,
        statuses: Callable[[], Sequence[ServiceStatus]],
    ) -> None:
        """`view_of` is a domain's last good view, `statuses` the services as they stand."""
        self._view_of = view_of
        self._records = records
        self._statuses = statuses
        self._parts: dict[str, tuple[View, Facts]] = {}
        self._old: set[str] = set()
        self._paths: tuple[object, ...] | None = None
        self._own: tuple[Triple, ...] = ()
        self._joined: dict[tuple[str, ...], tuple[tuple[object, ...], Facts]] = {}
        self._lock = threading.Lock()

    def changed(self, domain: str) -> None:
        """The structure of a domain's view changed: its part is made anew when it is needed."""
        self._old.add(domain)

    def seen(self, cards: Mapping[str, Card], domains: Iterable[str]) -> SeenBoundary:
        """What one asker sees, by the cards that the domains gave for it. Blocks.

        `domains` are all members: names of those without a usable part are in no triple.
        """
        with self._lock:
            parts = {domain: facts for domain in cards if (facts := self._part(domain, cards[domain]))}
            own = self._of_records()
            key = tuple(sorted(parts))
            made_of = (own, *(parts[domain] for domain in key))
            kept = self._joined.get(key)
            if kept is None or any(a is not b for a, b in zip(kept[0], made_of, strict=True)):
                hidden = tuple(names.domain_node(domain) for domain in domains if domain not in parts)
                kept = self._joined[key] = made_of, _joined(own, parts, hidden)
                while len(self._joined) > _SIGHTS:
                    del self._joined[next(iter(self._joined))]
        return SeenBoundary(kept[1], parts, cards)

    def _part(self, domain: str, card: Card) -> Facts | None:
        """The domain's part, where the broker has it under the very agreement of the card."""
        view = self._view_of(domain)
        if view is None:
            self._parts.pop(domain, None)
            return None
        held = self._parts.get(domain)
        if held is None or domain in self._old or held[0].version.epoch != view.version.epoch:
            self._old.discard(domain)
            triples = tuple(dict.fromkeys(view_triples(view)))
            facts = held[1] if held is not None and held[1].triples == triples else Facts(triples, domain)
            held = self._parts[domain] = view, facts
        same = (view.agreement, view.level.value) == (card.agreement, card.level)
        return held[1] if same else None

    def _of_records(self) -> tuple[Triple, ...]:
        statuses = self._statuses()
        paths = tuple((status.service, status.path and _route(status)) for status in statuses)
        if paths != self._paths:
            self._paths = paths
            self._own = tuple(dict.fromkeys(record_triples(self._records, statuses)))
        return self._own


def _joined(own: Iterable[Triple], parts: Mapping[str, Facts], hidden: Sequence[str]) -> Facts:
    """The broker's own facts: the records, and what follows from them and the domains' parts together."""
    told = [triple for triple in own if not _names_any(triple, hidden)]
    shown = [triple for facts in parts.values() for triple in facts.triples]
    derived = chain(_depending(chain(told, shown)), _peers(shown))
    return Facts([*told, *(triple for triple in derived if not _names_any(triple, hidden))])


def _route(status: ServiceStatus) -> tuple[tuple[str, str, str], ...]:
    assert status.path
    return tuple((hop.source, hop.target, hop.link_id) for hop in status.path.hops)


def _depending(triples: Iterable[Triple]) -> Iterator[Triple]:
    """What depends directly on what (ontology/rules/direct-dependence.rq)."""
    for subject, predicate, obj in triples:
        if predicate in _DEPENDENCE:
            yield subject, DEPENDS_ON, obj


def _peers(triples: Iterable[Triple]) -> Iterator[Triple]:
    """Which border points face each other: both claim the link, and nobody else does."""
    ends: dict[NamedNode, list[Value]] = {}
    ends_at = _ndt("endsAt")
    for subject, predicate, obj in triples:
        if predicate == ends_at:
            ends.setdefault(subject, []).append(obj)
    for claims in ends.values():
        one, *others = claims
        if len(others) == 1 and isinstance(one, NamedNode) and isinstance(others[0], NamedNode):
            yield one, _ndt("peersWith"), others[0]
            yield others[0], _ndt("peersWith"), one


def _names_any(triple: Triple, hidden: Sequence[str]) -> bool:
    return any(
        isinstance(term, NamedNode) and (term.value == node or term.value.startswith(f"{node}/"))
        for node in hidden
        for term in (triple[0], triple[2])
    )


@dataclass(slots=True)
class SeenBoundary:
    """The part of it that one asker sees; what `execute` calls `Held`."""

    own: Facts
    parts: Mapping[str, Facts]
    cards: Mapping[str, Card]

    @property
    def card(self) -> Card:
        """Counts of the broker's own."""
        return self.own.card

    def covers(self, domain: str, predicates: Iterable[NamedNode], classes: Iterable[NamedNode]) -> bool:
        """Whether all that the domain's card counts of these is here.

        Triples here are a part of what the domain's view holds, so equal counts mean the same triples.
        """
        if domain not in self.parts:
            return False
        card, here = self.cards[domain], self.parts[domain].card
        return all(
            _triples(card.properties, name) == _triples(here.properties, name) for name in predicates
        ) and all(_triples(card.classes, name) == _triples(here.classes, name) for name in classes)

    def match(
        self, domain: str, pattern: Pattern, known: Mapping[Variable, frozenset[Value]]
    ) -> list[Solution]:
        """What matches, of one domain's triples (of the broker's own under the empty name)."""
        facts = self._facts(domain)
        return list(facts.match(pattern, known)) if facts else []

    def edges(self, domain: str, node: NamedNode, steps: Steps) -> list[Triple]:
        """The triples that a walk may step over from a node."""
        facts = self._facts(domain)
        return list(facts.edges(node, steps)) if facts else []

    def all_triples(self) -> Iterator[tuple[str, Triple]]:
        """Everything, with whose it is."""
        for triple in self.own.triples:
            yield "", triple
        for domain, facts in self.parts.items():
            for triple in facts.triples:
                yield domain, triple

    def _facts(self, domain: str) -> Facts | None:
        return self.parts.get(domain) if domain else self.own


def _triples(counts: Mapping[str, Count], name: NamedNode) -> int:
    count = counts.get(name.value)
    return count.triples if count else 0
