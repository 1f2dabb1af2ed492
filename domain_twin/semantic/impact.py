"""What depends on something: followed step by step through a graph, with the chain that shows it.

Owns by which relations a failure travels, and in which direction. Asks whoever answers SPARQL; the queries
are its own, and nothing of what people type is pasted into them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyoxigraph as ox

from domain_twin.errors import NotFound, OverCapacity
from domain_twin.model.query import Affected, Dependency
from domain_twin.semantic.names import AUTHORITY, NDT, owner, plain_name

__all__ = ["MAX_AFFECTED", "Ask", "dependents", "find", "find_known"]

Ask = Callable[[str], Any]
"""Answers a SELECT with solutions, each by the names of its variables (`pyoxigraph.QuerySolutions`)."""

MAX_AFFECTED = 20_000
"""Beyond, a name of something smaller is asked for."""
_BLOCK = 500

_DEPENDS = (
    "atSite",
    "carriedBy",
    "dependsOn",
    "endsAt",
    "follows",
    "hasDestination",
    "hasSource",
    "hasSubnet",
    "hostedOn",
    "inRiskGroup",
    "onNode",
    "partOf",
    "servedBy",
    "supportedBy",
    "usesLink",
    "usesSegment",
)
"""The subject fails with the object (ontology/rules/direct-dependence.rq)."""
_CONCERNS = ("carriedBy", "forCustomer")
"""From what fails to whom that concerns, and no further: a service's slice works on for other services."""
_NAMES = ("identifier", "alias", "linkId", "name")
"""By which properties people name things, the most certain first."""


def find(ask: Ask, name: str, *, domain: str = "") -> str:
    """The IRI of what people call `name`: an identifier, point, segment, inter-domain link, service or IRI.

    `domain` is the one whose graph this is, by which names may begin. Raises NotFound, with what is near.
    """
    spellings = list(dict.fromkeys((name, name.removeprefix(f"{domain}/") if domain else name)))
    iris = [_node(spelling) for spelling in (*spellings, *_segments(name))]
    known = {node.value for node in iris if node is not None}
    if known:
        some = " ".join(f"<{iri}>" for iri in sorted(known))
        for row in ask(f"SELECT DISTINCT ?e {{ VALUES ?e {{ {some} }} ?e ?p ?o }}"):
            return str(row["e"].value)
    for word in _NAMES:
        texts = " ".join(str(ox.Literal(spelling)) for spelling in spellings)
        rows = ask(
            f"SELECT DISTINCT ?e {{ VALUES ?n {{ {texts} }} ?e <{NDT}{word}> ?n }} ORDER BY ?e LIMIT 6"
        )
        found = [row["e"].value for row in rows]
        if len(found) == 1:
            return str(found[0])
        if found:
            several = ", ".join(plain_name(iri) or iri for iri in found[:5])
            raise NotFound(f"{name!r} may be any of {several}; name one of these")
    raise NotFound(f"no element {name!r} is known here{_near(ask, name)}")


def find_known(ask: Ask, names: Sequence[str]) -> list[str]:
    """The IRIs of those of `names` that are known: not everything that an owner names is shown to everybody.

    Raises NotFound where none is, about the first.
    """
    found: list[str] = []
    trouble: NotFound | None = None
    for name in names:
        try:
            found.append(find(ask, name))
        except NotFound as error:
            trouble = trouble or error
    if trouble is not None and not found:
        raise trouble
    return found


def _node(text: str) -> ox.NamedNode | None:
    """`text` as an IRI, where it is one and could be in the graph."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return None
    try:
        return ox.NamedNode(text)
    except ValueError:
        return None


def _segments(name: str) -> list[str]:
    from domain_twin.semantic import names

    source, sign, target = name.partition(">")
    if sign and "/" in source and "/" in target:
        return [names.segment(source, target)]
    return [
        names.inter_domain_link(name),
        *(names.record(kind, name) for kind in ("service", "slice", "customer")),
    ]


def _near(ask: Ask, name: str) -> str:
    properties = " ".join(f"<{NDT}{word}>" for word in _NAMES)
    rows = ask(f"SELECT DISTINCT ?n {{ VALUES ?p {{ {properties} }} ?e ?p ?n }} LIMIT 20000")
    known = sorted({str(row["n"].value) for row in rows})
    close = difflib.get_close_matches(name, known, 3, 0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known are {', '.join(known[:3])}, for example" if known else ""


def dependents(ask: Ask, elements: Sequence[str], *, most: int = MAX_AFFECTED) -> tuple[Affected, ...]:
    """All that depends on any of `elements` (IRIs), nearest first, each with its shortest chain.

    What is only concerned has after its chain the other services and slices that it is concerned by.
    Raises OverCapacity where that is more than `most` things.
    """
    chains: dict[str, tuple[Dependency, ...]] = {iri: () for iri in elements}
    _follow(ask, chains, _DEPENDS, most, forwards=False)
    failing = frozenset(chains)
    others: dict[str, list[Dependency]] = {}
    _follow(ask, chains, _CONCERNS, most, forwards=True, others=others)
    found = sorted((iri for iri, chain in chains.items() if chain), key=lambda iri: len(chains[iri]))
    named = _described(ask, found)
    return tuple(
        Affected(
            named[iri][0],
            _said(iri),
            named[iri][1],
            owner(iri),
            chains[iri] + tuple(() if iri in failing else others.get(iri, ())),
        )
        for iri in found
    )


def _follow(
    ask: Ask,
    chains: dict[str, tuple[Dependency, ...]],
    relations: Sequence[str],
    most: int,
    *,
    forwards: bool,
    others: dict[str, list[Dependency]] | None = None,
) -> None:
    """Add to `chains` what is reached from what they hold, step by step; to `others` the ways not taken."""
    border = list(chains)
    while border:
        reached: dict[str, tuple[Dependency, ...]] = {}
        steps: dict[str, list[Dependency]] = {}
        for near, relation, far in _steps(ask, border, relations, forwards=forwards):
            subject, other = (near, far) if forwards else (far, near)
            step = Dependency(_said(subject), relation, _said(other), owner(subject))
            steps.setdefault(far, []).append(step)
            if far in chains:
                continue
            chain = (*chains[near], step)
            old = reached.get(far)
            if old is None or _rank(chain) < _rank(old):
                reached[far] = chain
        chains |= reached
        if others is not None:
            for far, some in steps.items():
                more = sorted(set(some) - {*chains[far][-1:]}, key=lambda step: (step.subject, step.relation))
                others.setdefault(far, []).extend(more)
        if len(chains) > most:
            names = ", ".join(_said(iri) for iri in list(chains)[:3])
            raise OverCapacity(f"more than {most} things depend on {names}; ask about a smaller part of it")
        border = list(reached)


def _rank(chain: Sequence[Dependency]) -> tuple[int, bool, str, str, str]:
    """The shortest first; then a relation of its own, which says more than that something depends."""
    last = chain[-1]
    return len(chain), last.relation == "dependsOn", last.relation, last.object, last.subject


def _steps(
    ask: Ask, border: Sequence[str], relations: Sequence[str], *, forwards: bool
) -> Iterator[tuple[str, str, str]]:
    """From what is affected to what is affected by that: near, relation, far."""
    words = " ".join(f"<{NDT}{word}>" for word in relations)
    pattern = "?near ?r ?far" if forwards else "?far ?r ?near"
    for some in _blocks(border):
        for row in ask(
            f"SELECT ?near ?r ?far {{ VALUES ?near {{ {some} }} VALUES ?r {{ {words} }} {pattern} }}"
        ):
            yield row["near"].value, row["r"].value.removeprefix(NDT), row["far"].value


def _described(ask: Ask, iris: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Kind and name of each."""
    kinds: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for some in _blocks(iris):
        near = f"VALUES ?e {{ {some} }}"
        for row in ask(f"SELECT ?e ?t {{ {near} ?e a ?t }}"):
            kinds.setdefault(row["e"].value, []).append(str(row["t"].value))
        for row in ask(f"SELECT ?e ?n {{ {near} ?e <{NDT}name> ?n }}"):
            names.setdefault(row["e"].value, str(row["n"].value))
    return {iri: (_kind(kinds.get(iri, ())), names.get(iri, "")) for iri in iris}


_LESS = {"Element", "SinglePointOfFailure", "CriticalLink"}
"""What says less than the other classes of the same thing."""
_KINDS = {"BorderPoint": "point", "EndPoint": "point", "EdgeSite": "site"}


def _kind(classes: Iterable[str]) -> str:
    """`inter-domain-link` for ndt:InterDomainLink, as the model's elements are called."""
    own = sorted(iri.removeprefix(NDT) for iri in classes if iri.startswith(NDT))
    name = next((each for each in own if each not in _LESS), own[0] if own else "element")
    return _KINDS.get(name) or re.sub("(?<!^)(?=[A-Z])", "-", name).lower()


def _blocks(iris: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(iris), _BLOCK):
        yield " ".join(f"<{iri}>" for iri in iris[start : start + _BLOCK])


def _said(iri: str) -> str:
    return plain_name(iri) or iri.removeprefix(f"{AUTHORITY}/")
