"""What whoever asks should know of the question itself: names that nobody knows, rows that nothing orders.

A note never says more than the answer and the cards that the asker was given; it is no error, since a name
that nobody knows today is a right question tomorrow.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Collection, Iterable, Iterator

from pyoxigraph import NamedNode

from domain_twin.semantic.names import NDT, owner
from federation.query.gathered import Gathered
from federation.query.needs import Scope
from federation.query.reading import Reading
from federation.query.sources import RDF_TYPE, Sources

__all__ = ["notes_of"]

_MOST = 8


def notes_of(
    reading: Reading,
    sources: Sources,
    members: Collection[str],
    *,
    rows: int | None = None,
    asked: Collection[str] = (),
    gathered: Gathered | None = None,
) -> tuple[str, ...]:
    """Notes on a question; `rows` and `gathered`: what came of it, where it was answered by `asked`."""
    scopes = list(reading.needs.walk_scopes())
    found = [*_unknown(reading, scopes, sources, empty=rows == 0), *_strangers(reading, scopes, members)]
    if rows == 0 and gathered is not None:
        found += _silent(reading, scopes, gathered, members)
    if rows is not None and len(asked) > 1 and any(_chosen(scope, rows) for scope in scopes):
        found.append(
            f"LIMIT or OFFSET without ORDER BY: which rows of {len(asked)} domains come is not defined, and"
            " may differ the next time; add ORDER BY"
        )
    return tuple(dict.fromkeys(found))[:_MOST]


def _unknown(reading: Reading, scopes: Iterable[Scope], sources: Sources, *, empty: bool) -> Iterator[str]:
    """Vocabulary that no card and no ontology knows; of an empty answer, also what nobody has."""
    cards = [*sources.cards.values(), sources.held]
    classes = {iri for card in cards for iri in card.classes}
    properties = {iri for card in cards for iri in card.properties}
    for kind, name in dict.fromkeys(_vocabulary(scopes)):
        shown, known = reading.wording.term(name), classes if kind == "class" else properties
        if name.value in known:
            continue
        if name.value in _ontology():
            if empty:
                yield f"{shown}: no domain shows you anything with this {kind} now"
            continue
        hint = _hint(reading, name.value, known | _ontology())
        yield f"{shown}: no domain shows you this {kind}, and the ontology does not have it{hint}"


def _hint(reading: Reading, name: str, known: Iterable[str]) -> str:
    """The name that was meant, perhaps."""
    base = max(name.rfind("#"), name.rfind("/")) + 1
    local = {each[base:]: each for each in known if each.startswith(name[:base])}
    near = difflib.get_close_matches(name[base:], local, 1, 0.75)
    return f"; did you mean {reading.wording.term(NamedNode(local[near[0]]))}?" if near else ""


def _vocabulary(scopes: Iterable[Scope]) -> Iterator[tuple[str, NamedNode]]:
    for scope in scopes:
        for pattern in scope.patterns:
            if pattern.predicate == RDF_TYPE and isinstance(pattern.object, NamedNode):
                yield "class", pattern.object
            elif isinstance(pattern.predicate, NamedNode) and pattern.predicate != RDF_TYPE:
                yield "property", pattern.predicate
        for walk in scope.walks:
            for name in sorted(walk.steps.forward | walk.steps.backward, key=str):
                if name != RDF_TYPE:
                    yield "property", name


@functools.cache
def _ontology() -> frozenset[str]:
    from domain_twin.semantic import terms

    return frozenset(
        value for value in vars(terms).values() if isinstance(value, str) and value.startswith(NDT)
    )


def _strangers(reading: Reading, scopes: Iterable[Scope], members: Collection[str]) -> Iterator[str]:
    """Elements of domains that are not of this federation."""
    for name in _elements(scopes):
        if (of := owner(name.value)) and of not in members:
            yield f"{reading.wording.term(name)}: there is no domain {of!r} in this federation"


def _silent(
    reading: Reading, scopes: Iterable[Scope], gathered: Gathered, members: Collection[str]
) -> Iterator[str]:
    """Elements that nothing which came speaks of."""
    told = {term for triples in gathered.triples.values() for one in triples for term in (one[0], one[2])}
    for name in _elements(scopes):
        if name not in told and owner(name.value) in members:
            yield f"{reading.wording.term(name)}: nothing of what is asked about it is shown to you"


def _elements(scopes: Iterable[Scope]) -> Iterator[NamedNode]:
    for scope in scopes:
        ends = [end for pattern in scope.patterns for end in (pattern.subject, pattern.object)]
        ends += [end for walk in scope.walks for end in (walk.start, walk.end)]
        yield from (end for end in ends if isinstance(end, NamedNode) and owner(end.value))


def _chosen(scope: Scope, rows: int) -> bool:
    """Whether solutions of a scope are cut where nothing orders them, and not all of them came anyway."""
    return scope.cut is not None and (bool(scope.kind) or scope.cut <= rows)
