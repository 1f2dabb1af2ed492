"""The shipped ontology's terms: what each means, its source, what it is like elsewhere, where it is used.

Reads the files that ship (`ontology/`); owns how they are put together, and no term. Heavy: imports rdflib.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdflib import DCTERMS, OWL, RDF, RDFS, SKOS, Graph, URIRef
from rdflib.term import Node

from domain_twin.errors import ConfigError, NotFound
from domain_twin.resources import data_folder
from domain_twin.semantic.names import NDT

__all__ = ["KINDS", "Ontology", "Term", "document", "load", "serialised"]

KINDS: Mapping[str, URIRef] = {
    "class": OWL.Class,
    "relation": OWL.ObjectProperty,
    "attribute": OWL.DatatypeProperty,
    "annotation": OWL.AnnotationProperty,
}
_LIKE = (
    (RDFS.subClassOf, "is a"),
    (RDFS.subPropertyOf, "is a"),
    (OWL.equivalentClass, "same as"),
    (OWL.equivalentProperty, "same as"),
    (SKOS.exactMatch, "same as"),
    (SKOS.closeMatch, "like"),
    (SKOS.broadMatch, "narrower than"),
    (SKOS.narrowMatch, "wider than"),
    (SKOS.relatedMatch, "related to"),
)
_USES = ("rules/*.rq", "shapes/*.ttl", "cq/*.yaml")


@dataclass(frozen=True, slots=True)
class Term:
    """One term. `alignments`: how it stands to terms elsewhere; `used_in`: the ontology's files."""

    name: str
    iri: str
    kind: str
    definition: str
    source: str
    broader: tuple[str, ...] = ()
    narrower: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    range: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    inverse: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    alignments: tuple[tuple[str, str], ...] = ()
    used_in: tuple[str, ...] = ()
    deprecated: bool = False
    replaced_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ontology:
    """The terms by name, and the version they are of."""

    version: str
    terms: Mapping[str, Term]
    graph: Graph

    def term(self, name: str) -> Term:
        """One term, as `Link`, `ndt:Link` or its IRI; capitals matter where both exist. Raises NotFound."""
        bare = name.removeprefix(NDT).removeprefix("ndt:").strip("<>")
        if found := self.terms.get(bare):
            return found
        same = [term for term in self.terms.values() if term.name.lower() == bare.lower()]
        if len(same) == 1:
            return same[0]
        close = difflib.get_close_matches(bare.lower(), [name.lower() for name in self.terms], 3, 0.6)
        near = [term for term in self.terms if term.lower() in close]
        remedy = f"did you mean {' or '.join(near)}?" if near else "`fedtwin ontology` lists all"
        raise NotFound(f"no term {bare!r} in the ontology; {remedy}")

    def search(self, words: str) -> list[Term]:
        """Terms with all the words in name, definition, source or alignments; names first."""
        wanted = words.lower().split()
        found: list[tuple[bool, int, Term]] = []
        for term in self.terms.values():
            texts = [
                term.name,
                re.sub("(?=[A-Z])", " ", term.name),
                term.definition,
                term.source,
                *(f"{how} {what}" for how, what in term.alignments),
            ]
            whole = " ".join(texts).lower()
            if all(word in whole for word in wanted):
                in_name = any(word in term.name.lower() for word in wanted)
                found.append((not in_name, len(found), term))
        return [term for *_, term in sorted(found)]


def load(folder: Path | None = None) -> Ontology:
    """The ontology that ships, or the one in a folder. Raises ConfigError where a file cannot be read."""
    place = folder or data_folder("ontology")
    graph = Graph()
    _read(graph, place / "ndt.ttl")
    own = set(graph.subjects(RDF.type))
    around = Graph()
    around += graph
    for path in sorted(place.glob("alignments/*.ttl")):
        _read(around, path)
    if (place / "deprecations.ttl").exists():
        _read(around, place / "deprecations.ttl")
    around.bind("ndt", NDT, override=True)
    uses = _uses(place)
    version = next((str(value) for value in graph.objects(None, OWL.versionInfo)), "")
    terms = [
        _term(around, iri, kind, uses)
        for kind, kind_iri in KINDS.items()
        for iri in around.subjects(RDF.type, kind_iri)
        if isinstance(iri, URIRef) and str(iri).startswith(NDT) and (iri in own or _gone(around, iri))
    ]
    order = {kind: number for number, kind in enumerate(KINDS)}
    terms.sort(key=lambda term: (order[term.kind], term.name.lower()))
    return Ontology(version, {term.name: term for term in terms}, graph)


def _read(graph: Graph, path: Path) -> None:
    try:
        graph.parse(path, format="turtle")
    except Exception as error:  # rdflib raises what its parsers do
        raise ConfigError(f"{path}: cannot be read as Turtle ({str(error).splitlines()[0]})") from error


def _gone(graph: Graph, iri: URIRef) -> bool:
    return any(str(value) == "true" for value in graph.objects(iri, OWL.deprecated))


def _term(graph: Graph, iri: URIRef, kind: str, uses: Mapping[str, Sequence[str]]) -> Term:
    def names(subject: Node, predicate: Node) -> tuple[str, ...]:
        return tuple(sorted(_name(graph, item) for item in graph.objects(subject, predicate) if _named(item)))

    def subjects(predicate: Node) -> tuple[str, ...]:
        return tuple(sorted(_name(graph, item) for item in graph.subjects(predicate, iri) if _named(item)))

    def first(*predicates: Node) -> str:
        return next((str(value) for one in predicates for value in graph.objects(iri, one)), "")

    above = RDFS.subClassOf if kind == "class" else RDFS.subPropertyOf
    name = str(iri).removeprefix(NDT)
    alignments = sorted(
        {
            (word, _name(graph, item))
            for predicate, word in _LIKE
            for item in graph.objects(iri, predicate)
            if _named(item) and not str(item).startswith(NDT)
        }
    )
    return Term(
        name=name,
        iri=str(iri),
        kind=kind,
        definition=first(SKOS.definition, RDFS.comment),
        source=first(DCTERMS.source, RDFS.isDefinedBy),
        broader=tuple(each for each in names(iri, above) if each.startswith("ndt:")),
        narrower=subjects(above),
        domain=_members(graph, iri, RDFS.domain),
        range=_members(graph, iri, RDFS.range),
        properties=subjects(RDFS.domain) if kind == "class" else (),
        inverse=names(iri, OWL.inverseOf) + subjects(OWL.inverseOf),
        traits=_traits(graph, iri),
        alignments=tuple(alignments),
        used_in=tuple(uses.get(name, ())),
        deprecated=_gone(graph, iri),
        replaced_by=names(iri, DCTERMS.isReplacedBy),
    )


def _members(graph: Graph, iri: URIRef, predicate: Node) -> tuple[str, ...]:
    """Domain or range: a class, or the members of a union of classes."""
    found: list[str] = []
    for item in graph.objects(iri, predicate):
        if _named(item):
            found.append(_name(graph, item))
        for union in graph.objects(item, OWL.unionOf):
            found += (_name(graph, one) for one in graph.items(union) if _named(one))
    return tuple(found)


def _traits(graph: Graph, iri: URIRef) -> tuple[str, ...]:
    words = {
        OWL.TransitiveProperty: "transitive",
        OWL.SymmetricProperty: "symmetric",
        OWL.FunctionalProperty: "one value",
    }
    return tuple(word for kind, word in words.items() if (iri, RDF.type, kind) in graph)


def _named(item: Node) -> bool:
    return isinstance(item, URIRef)


def _name(graph: Graph, item: Node) -> str:
    """The short form of an IRI where its prefix is known."""
    try:
        return str(graph.namespace_manager.curie(str(item), generate=False))
    except (KeyError, ValueError):
        return f"<{item}>"


def _uses(place: Path) -> dict[str, list[str]]:
    """Files that name each term: rules, shapes and competency questions."""
    found: dict[str, list[str]] = {}
    for pattern in _USES:
        for path in sorted(place.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            for name in set(re.findall(r"\bndt:([A-Za-z_][\w-]*)", text)):
                found.setdefault(name, []).append(path.relative_to(place).as_posix())
    return found


def serialised(ontology: Ontology, form: str) -> str:
    """The upper ontology as `turtle`, `n-triples` or `json-ld`."""
    if form == "turtle":
        return (data_folder("ontology") / "ndt.ttl").read_text(encoding="utf-8")
    text = ontology.graph.serialize(format={"n-triples": "nt"}.get(form, form))
    if form == "json-ld":
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    return text


def document(terms: Iterable[Term]) -> list[dict[str, Any]]:
    """Terms in JSON's types, alignments as objects."""
    from federation.cli.console import plain

    return [
        plain(term) | {"alignments": [{"how": how, "term": what} for how, what in term.alignments]}
        for term in terms
    ]
