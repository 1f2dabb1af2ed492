"""Which patterns are asked together, of whom, and what that would cost. Plain arithmetic over cards.

Patterns go into one unit where a join between them cannot leave a domain: one domain alone has them (an
exclusive group), or both sides of the shared variable are always names of the answering domain's own. A unit
is asked of every domain that has all of its patterns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from pyoxigraph import Literal, NamedNode, Variable

from federation.query.filters import Filter
from federation.query.needs import Pattern, Scope, Walk, variables_of
from federation.query.sources import RDF_TYPE, Sources

__all__ = ["Unit", "expected_rows", "units_of"]

Values = Collection[NamedNode | Literal]


@dataclass(slots=True, eq=False)
class Unit:
    """Patterns that are asked together (or one walk), and the domains that are asked."""

    scope: Scope
    patterns: tuple[Pattern, ...]
    domains: tuple[str, ...]
    walk: Walk | None = None
    held: bool = False
    """The broker itself has matches."""
    done: bool = False
    variables: frozenset[Variable] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        parts: Iterable[Pattern | Walk] = self.patterns if self.walk is None else (self.walk,)
        self.variables = frozenset().union(*(variables_of(part) for part in parts))

    @property
    def bindable(self) -> frozenset[Variable]:
        """Variables that a block of values may restrict."""
        graphs = {p.graph for p in self.patterns} | ({self.walk.graph} if self.walk else set())
        return self.variables - {g for g in graphs if isinstance(g, Variable)}

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Filters of its scope that it can tell by itself, and so the domain that is asked."""
        if self.walk is not None or not self.scope.filters:
            return ()
        own = self.bindable
        return tuple(dict.fromkeys(each for each in self.scope.filters if each.variables <= own))


def units_of(scope: Scope, sources: Sources) -> list[Unit]:
    """The units of one scope, without those inside it."""
    found = [
        _Found(
            asked := sources.of(pattern),
            sources.held_here(pattern),
            all(sources.at_hand(domain, pattern) for domain in asked),
        )
        for pattern in scope.patterns
    ]
    together = list(range(len(scope.patterns)))

    def root(index: int) -> int:
        while together[index] != index:
            index = together[index]
        return index

    for one, other in combinations(range(len(scope.patterns)), 2):
        if _one_place(scope.patterns, found, one, other, sources):
            together[root(other)] = root(one)
    groups: dict[int, list[int]] = {}
    for index in range(len(scope.patterns)):
        groups.setdefault(root(index), []).append(index)
    units = []
    for members in groups.values():
        domains = set(found[members[0]].domains)
        domains.intersection_update(*(found[index].domains for index in members[1:]))
        units.append(
            Unit(
                scope,
                tuple(scope.patterns[index] for index in members),
                tuple(sorted(domains)),
                held=len(members) == 1 and found[members[0]].held,
            )
        )
    for walk in scope.walks:
        units.append(Unit(scope, (), sources.of_walk(walk), walk, held=walk.graph is None))
    return units


@dataclass(frozen=True, slots=True)
class _Found:
    """Who has matches of a pattern: domains, the broker itself; whether it has copies of all of them."""

    domains: tuple[str, ...]
    held: bool
    at_hand: bool


def _one_place(patterns: list[Pattern], found: list[_Found], one: int, other: int, sources: Sources) -> bool:
    """Whether a join of two patterns always stays inside one domain, and is worth asking for."""
    a, b = patterns[one], patterns[other]
    in_a, in_b = found[one], found[other]
    if a.graph != b.graph:
        return False
    if isinstance(a.graph, Variable):
        return True
    if in_a.at_hand or in_b.at_hand:
        return False  # what is at hand is rather looked up first: it may tell that nobody need be asked
    common = variables_of(a) & variables_of(b)
    if not (in_a.held or in_b.held) and len(in_a.domains) == 1 and in_a.domains == in_b.domains:
        return bool(common)
    return any(
        sources.local(in_a.domains, a, shared)
        and sources.local(in_b.domains, b, shared)
        and sources.held_apart(a, shared)
        and sources.held_apart(b, shared)
        for shared in common
    )


def expected_rows(
    unit: Unit, domain: str, sources: Sources, bound: Mapping[Variable, int] | None = None
) -> float:
    """How many rows a domain would answer with, by its card; `bound`: how many values a variable has left."""
    if unit.walk is not None:
        return _expected_walk(unit.walk, domain, sources, bound or {})
    least = math.inf
    for pattern in unit.patterns:
        count = sources.count(domain, pattern)
        rows = float(count.triples)
        per_subject = count.triples / max(1, count.subjects)
        per_object = count.triples / max(1, count.objects)
        if isinstance(pattern.subject, NamedNode):
            rows = min(rows, per_subject)
        elif bound and isinstance(pattern.subject, Variable) and pattern.subject in bound:
            rows = min(rows, bound[pattern.subject] * per_subject)
        if isinstance(pattern.object, NamedNode | Literal):
            if pattern.predicate != RDF_TYPE:
                rows = min(rows, per_object)
        elif bound and pattern.object in bound:
            rows = min(rows, bound[pattern.object] * per_object)
        least = min(least, rows)
    return least


def _expected_walk(walk: Walk, domain: str, sources: Sources, bound: Mapping[Variable, int]) -> float:
    card = sources.cards[domain] if domain else sources.held
    names = walk.steps.forward | walk.steps.backward
    whole = float(
        card.triples
        if walk.steps.anything
        else sum(card.properties[n.value].triples for n in names if n.value in card.properties)
    )
    starts = [
        1.0 if not isinstance(end, Variable) else float(bound[end])
        for end in (walk.start, walk.end)
        if not isinstance(end, Variable) or end in bound
    ]
    return min(whole, min(starts) * _REACHED) if starts else whole


_REACHED = 50.0
"""Steps that a walk is taken to make from each of its starts: cards do not say."""
