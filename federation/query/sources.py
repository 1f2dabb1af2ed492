"""Who may have triples that match a pattern, from cards alone. Asks nobody.

Own names never lie: whatever a domain says of another domain's elements as subjects is dropped when it comes
(`gathered`), so a name tells whom to ask where cards say that a property stays inside its domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyoxigraph import Literal, NamedNode, Variable

from domain_twin.semantic.names import domain_node, owner
from federation.query.cards import Card, Count, is_of
from federation.query.needs import Pattern, Term, Walk

__all__ = ["RDF_TYPE", "Sources"]

RDF_TYPE = NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_NOTHING = Count(0)


@dataclass(frozen=True, slots=True)
class Sources:
    """The domains that can be asked, by their cards.

    `held` are the counts of what the broker says itself; foreign there are the names of domains' elements.
    """

    cards: Mapping[str, Card]
    held: Card
    covers: Callable[[str, Iterable[NamedNode], Iterable[NamedNode]], bool] = lambda *_: False
    """Whether the broker has all of a domain's triples with these predicates, and of these classes."""

    def of(self, pattern: Pattern) -> tuple[str, ...]:
        """The domains that may have matches, in order of their names."""
        return tuple(sorted(domain for domain, card in self._candidates(pattern) if _may(card, pattern)))

    def of_walk(self, walk: Walk) -> tuple[str, ...]:
        """The domains that a walk may go through."""
        names = walk.steps.forward | walk.steps.backward
        return tuple(
            sorted(
                domain
                for domain, card in self._among(walk.graph)
                if (card.triples if walk.steps.anything else any(n.value in card.properties for n in names))
            )
        )

    def held_here(self, pattern: Pattern) -> bool:
        """Whether the broker itself may have matches."""
        return (pattern.graph is None) and _may(self.held, pattern)

    def held_apart(self, pattern: Pattern, variable: Variable) -> bool:
        """Whether what the broker itself says of a pattern never binds `variable` to a domain's element."""
        count = _count(self.held, pattern)
        if not count.triples:
            return True
        if pattern.subject == variable:
            return not count.foreign_subjects
        return pattern.object == variable and not count.foreign_objects

    def at_hand(self, domain: str, needed: Pattern | Walk) -> bool:
        """Whether the broker's copy of a domain's view answers this as the domain would."""
        if isinstance(needed, Walk):
            steps = needed.steps
            return not steps.anything and self.covers(domain, steps.forward | steps.backward, ())
        if isinstance(needed.predicate, Variable):
            return False
        if needed.predicate == RDF_TYPE and isinstance(needed.object, NamedNode):
            return self.covers(domain, (), (needed.object,))
        return self.covers(domain, (needed.predicate,), ())

    def count(self, domain: str, pattern: Pattern) -> Count:
        """How many triples of a domain (empty: the broker's own) are about its predicate or class."""
        return _count(self.cards[domain] if domain else self.held, pattern)

    def local(self, domains: Iterable[str], pattern: Pattern, variable: Variable) -> bool:
        """Whether what `variable` is bound to by this pattern is always the answering domain's own name."""
        return all(_local(self.cards[domain], pattern, variable) for domain in domains)

    def owners_of(self, domain: str, pattern: Pattern, variable: Variable, term: Term) -> bool:
        """Whether the domain may have a match with `variable` bound to `term`."""
        if not isinstance(term, NamedNode):
            return pattern.object == variable
        return not _local(self.cards[domain], pattern, variable) or is_of(domain, term.value)

    def _among(self, graph: NamedNode | Variable | None) -> list[tuple[str, Card]]:
        if isinstance(graph, NamedNode):
            return [(d, c) for d, c in self.cards.items() if domain_node(d) == graph.value]
        return list(self.cards.items())

    def _candidates(self, pattern: Pattern) -> list[tuple[str, Card]]:
        return self._among(pattern.graph)


def _count(card: Card, pattern: Pattern) -> Count:
    if isinstance(pattern.predicate, Variable):
        return Count(card.triples, card.triples, card.triples, 1, 1)
    if pattern.predicate == RDF_TYPE and isinstance(pattern.object, NamedNode):
        return card.classes.get(pattern.object.value, _NOTHING)
    return card.properties.get(pattern.predicate.value, _NOTHING)


def _may(card: Card, pattern: Pattern) -> bool:
    count = _count(card, pattern)
    if not count.triples:
        return False
    subject, obj = pattern.subject, pattern.object
    if isinstance(subject, Literal):
        return False
    if isinstance(subject, NamedNode):
        of = owner(subject.value)
        if card.domain and of != card.domain and (of or not count.foreign_subjects):
            # Somebody else's element, of which it may not speak; or nobody's, and it speaks of its own.
            return False
    if isinstance(obj, NamedNode) and pattern.predicate != RDF_TYPE and card.domain:
        return bool(count.foreign_objects) or is_of(card.domain, obj.value)
    if isinstance(obj, Literal):  # the broker's own counts tell only domains' elements apart, not literals
        return not card.domain or bool(count.foreign_objects)
    return True


def _local(card: Card, pattern: Pattern, variable: Variable) -> bool:
    count = _count(card, pattern)
    if pattern.predicate == variable:
        return False
    if pattern.subject == variable and not count.foreign_subjects:
        return True
    return pattern.object == variable and not count.foreign_objects and not _is_type(pattern)


def _is_type(pattern: Pattern) -> bool:
    return pattern.predicate == RDF_TYPE
