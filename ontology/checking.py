"""What an ontology folder keeps: every term documented and meant, rules and shapes of the kinds that run.

Owns the rules; reads, never writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rdflib import DCTERMS, OWL, RDF, RDFS, SKOS, Graph, Namespace, URIRef
from rdflib.namespace import SH
from rdflib.plugins.sparql import prepareQuery, prepareUpdate
from rdflib.term import Node

HERE = Path(__file__).resolve().parent
NDT = Namespace("https://fedtwin.example/ns/ndt#")
MOST_CLASSES = 60
MOST_PROPERTIES = 80
KINDS: Mapping[URIRef, str] = {
    OWL.Class: "class",
    OWL.ObjectProperty: "relation",
    OWL.DatatypeProperty: "attribute",
    OWL.NamedIndividual: "definition",
}
READS = ("topo", "kpi", "records", "config", "state", "counters")
"""The kinds of graphs that a rule can read besides what other rules derive."""
SHAPE_TERMS = {
    SH.targetClass, SH.property, SH.path, SH.minCount, SH.maxCount, SH.datatype, SH["in"], SH["class"],
    SH.nodeKind, SH.pattern, SH.minInclusive, SH.maxInclusive, SH.message, SH.severity, NDT.remedy,
    RDF.type, RDFS.label, RDFS.comment, RDF.first, RDF.rest,
}  # fmt: skip
"""All that a shape may use: what domain_twin.semantic.shapes compiles to SPARQL."""
RELATING = {
    RDFS.subClassOf, RDFS.subPropertyOf, SKOS.closeMatch, SKOS.relatedMatch, SKOS.broadMatch,
    SKOS.narrowMatch,
}  # fmt: skip
"""How a term of ours may stand to one of another vocabulary: never equality, which would claim its axioms."""


@dataclass(frozen=True, slots=True)
class Sources:
    """All files of an ontology folder, read once."""

    folder: Path
    terms: Graph
    deprecations: Graph
    parts: Mapping[str, Graph]  # every other Turtle file, by its path in the folder
    rules: Mapping[str, str]  # text by name

    @classmethod
    def of(cls, folder: Path = HERE) -> Sources:
        """Read a folder. Raises what rdflib's parser raises, with the file's name."""
        parts = {
            str(path.relative_to(folder)): parsed(path)
            for kind in ("shapes", "alignments", "examples")
            for path in sorted((folder / kind).rglob("*.ttl"))
        }
        gone = folder / "deprecations.ttl"
        return cls(
            folder=folder,
            terms=parsed(folder / "ndt.ttl"),
            deprecations=parsed(gone) if gone.exists() else Graph(),
            parts=parts,
            rules={p.stem: p.read_text(encoding="utf-8") for p in sorted((folder / "rules").glob("*.rq"))},
        )

    @property
    def version(self) -> str:
        """The ontology's version."""
        return str(next(self.terms.objects(None, OWL.versionInfo)))

    def declared(self, kind: URIRef) -> list[URIRef]:
        """The terms of one kind, by name."""
        return sorted(s for s in self.terms.subjects(RDF.type, kind) if isinstance(s, URIRef))


def parsed(path: Path) -> Graph:
    """A Turtle file's triples; ends the program where it is none."""
    try:
        return Graph().parse(path, format="turtle")
    except Exception as error:
        raise SystemExit(f"{path}: not Turtle: {error}") from error


def problems(sources: Sources) -> list[str]:
    """What is wrong with the files, in sentences; empty: nothing."""
    return list(
        chain(
            _undocumented(sources),
            _too_many(sources),
            _accidental(sources),
            _circles(sources),
            _bad_alignments(sources),
            _bad_shapes(sources),
            _bad_rules(sources),
            _bad_deprecations(sources),
        )
    )


def _undocumented(sources: Sources) -> Iterator[str]:
    graph = sources.terms
    for term in sorted(s for s in set(graph.subjects()) if isinstance(s, URIRef) and s in NDT):
        name = local(term)
        kinds = [KINDS[k] for k in named(graph.objects(term, RDF.type)) if k in KINDS]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "nothing"
            yield f"ndt:{name}: is {found}; make it class, relation, attribute or definition"
        for what, predicate in (
            ("label", RDFS.label),
            ("definition", RDFS.comment),
            ("source", DCTERMS.source),
        ):
            values = list(graph.objects(term, predicate))
            if len(values) != 1 or not str(values[0]).strip():
                yield f"ndt:{name}: has {len(values)} values of {what}; it needs one ({predicate.n3()})"
        if str(graph.value(term, RDFS.label)) != name:
            yield f"ndt:{name}: its label is another word than its name"
        if not str(graph.value(term, RDFS.comment)).rstrip().endswith("."):
            yield f"ndt:{name}: its definition is no sentence: it does not end with a full stop"
        if name[0].isupper() != (kinds == ["class"]):
            yield f"ndt:{name}: classes begin with a capital, relations and attributes do not"
        for what, predicate in (("domain", RDFS.domain), ("range", RDFS.range)):
            if len(list(graph.objects(term, predicate))) > 1:
                yield f"ndt:{name}: two values of {what} mean both at once (RDFS 3.1); give one or none"


def _too_many(sources: Sources) -> Iterator[str]:
    classes = len(sources.declared(OWL.Class))
    properties = len(sources.declared(OWL.ObjectProperty)) + len(sources.declared(OWL.DatatypeProperty))
    if classes > MOST_CLASSES:
        yield f"ndt.ttl: {classes} classes; people can learn {MOST_CLASSES} of an upper ontology, at most"
    if properties > MOST_PROPERTIES:
        yield f"ndt.ttl: {properties} properties; people can learn {MOST_PROPERTIES}, at most"
    constants = [  # definitions have none
        constant(local(t)) for kind in KINDS if kind != OWL.NamedIndividual for t in sources.declared(kind)
    ]
    for twice in sorted({c for c in constants if constants.count(c) > 1}):
        yield f"ndt.ttl: two terms would be the constant {twice}; rename one"


def _accidental(sources: Sources) -> Iterator[str]:
    """Terms that are used and that nobody declared: mostly slips of the pen."""
    known = {t for kind in KINDS for t in sources.declared(kind)}
    gone = {s for s in sources.deprecations.subjects(OWL.deprecated) if isinstance(s, URIRef)}
    for both in sorted(known & gone):
        yield f"ndt:{local(both)}: is deprecated and still declared in ndt.ttl"
    for place, graph in {"ndt.ttl": sources.terms, **sources.parts}.items():
        for term in sorted(
            _used(graph) - known - (gone if place.startswith("examples/deprecated/") else set())
        ):
            yield f"{place}: ndt:{local(term)} {_fate(term, gone)}"
    notes = set(sources.deprecations.subjects(RDF.type, OWL.AnnotationProperty))
    for term in sorted(_used(sources.deprecations) - known - gone - notes):
        yield f"deprecations.ttl: ndt:{local(term)} is not declared, neither here nor in ndt.ttl"
    texts = {f"rules/{name}.rq": text for name, text in sources.rules.items()}
    texts |= {
        f"cq/{p.name}": p.read_text(encoding="utf-8") for p in sorted((sources.folder / "cq").glob("*.yaml"))
    }
    for place, text in texts.items():
        for name in sorted(set(re.findall(r"\bndt:(\w+)", text))):
            if NDT[name] not in known:
                yield f"{place}: ndt:{name} {_fate(NDT[name], gone)}"


def _fate(term: URIRef, gone: set[URIRef]) -> str:
    return "is deprecated" if term in gone else "is not declared in ndt.ttl"


def _used(graph: Graph) -> set[URIRef]:
    return {t for triple in graph for t in triple if isinstance(t, URIRef) and t in NDT and t != URIRef(NDT)}


def _ours(term: Node) -> bool:
    return isinstance(term, URIRef) and term in NDT


def _circles(sources: Sources) -> Iterator[str]:
    for relation in (RDFS.subClassOf, RDFS.subPropertyOf):
        for term in sorted(t for t in set(sources.terms.subjects(relation)) if isinstance(t, URIRef)):
            above = set(
                chain(
                    *(
                        sources.terms.transitive_objects(p, relation)
                        for p in sources.terms.objects(term, relation)
                    )
                )
            )
            if term in above:
                yield f"ndt:{local(term)}: is below itself ({relation.n3()})"


def _bad_alignments(sources: Sources) -> Iterator[str]:
    for place, graph in sources.parts.items():
        if not place.startswith("alignments/"):
            continue
        ontology = next(iter(graph.subjects(RDF.type, OWL.Ontology)), None)
        for subject, predicate, value in graph:
            if subject == ontology:
                continue
            if predicate not in RELATING:
                allowed = ", ".join(sorted(map(local, RELATING)))
                yield f"{place}: {short(subject)} {predicate.n3()}: an alignment only says {allowed}"
            elif not _ours(subject) or _ours(value):
                said = f"{short(subject)} {local(predicate)} {short(value)}"
                yield f"{place}: {said}: from a term of ours to one of theirs, only"


def _bad_shapes(sources: Sources) -> Iterator[str]:
    for place, graph in sources.parts.items():
        if not place.startswith("shapes/"):
            continue
        for predicate in sorted(set(named(graph.predicates())) - SHAPE_TERMS):
            yield f"{place}: {predicate.n3()} is not in the part of SHACL that is compiled (README.md)"
        for shape in graph.objects(None, SH.property):
            if not isinstance(shape, URIRef):
                of = short(graph.value(shape, SH.path))
                yield f"{place}: a shape of {of} has no name; findings name the shape"
            for what, predicate in (("sh:message", SH.message), ("ndt:remedy", NDT.remedy)):
                if graph.value(shape, predicate) is None:
                    yield f"{place}: {short(shape)} has no {what}"


def _bad_rules(sources: Sources) -> Iterator[str]:
    for name, text in sources.rules.items():
        for word in ("derives", "reads"):
            if not header(text, word):
                yield f"rules/{name}.rq: has no line `# {word}: ...`"
        known = ", ".join(READS)
        for read in header(text, "reads").split(","):
            other = read.strip().removeprefix("inferred/")
            if read.strip() not in READS and other not in sources.rules:
                yield f"rules/{name}.rq: reads {read.strip()!r}, not one of {known}, inferred/RULE"
        try:
            algebra = prepareQuery(text).algebra
        except Exception as error:
            yield f"rules/{name}.rq: not SPARQL: {str(error).splitlines()[0]}"
            continue
        if algebra.name != "ConstructQuery":
            yield f"rules/{name}.rq: is no CONSTRUCT"


def _bad_deprecations(sources: Sources) -> Iterator[str]:
    gone = sources.deprecations
    for term in sorted(named(gone.subjects(OWL.deprecated))):
        needed = {
            "version": NDT.deprecatedInVersion,
            "message": RDFS.comment,
            "replacement": DCTERMS.isReplacedBy,
            "migration": NDT.migration,
        }
        for what, predicate in needed.items():
            if gone.value(term, predicate) is None:
                yield f"deprecations.ttl: {short(term)} has no {what} ({predicate.n3()})"
        try:
            prepareUpdate(str(gone.value(term, NDT.migration)))
        except Exception as error:
            yield f"deprecations.ttl: the migration of {short(term)} is no SPARQL update: {error}"


def header(rule: str, word: str) -> str:
    """What a rule's header says after `# word:`, with the comment lines that go on with it."""
    found = re.search(rf"^# {word}: (.*(?:\n#   .*)*)", rule, re.MULTILINE)
    return " ".join(line.lstrip("# ") for line in found[1].splitlines()) if found else ""


def constant(name: str) -> str:
    """`hasSource` as HAS_SOURCE."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def named(terms: Iterable[Node]) -> Iterator[URIRef]:
    """Those that are no blank nodes or literals."""
    return (term for term in terms if isinstance(term, URIRef))


def local(term: Node | None) -> str:
    """The last part of an IRI."""
    return re.split(r"[#/]", str(term))[-1]


def short(term: Node | None) -> str:
    """A term as people write it."""
    return f"ndt:{local(term)}" if isinstance(term, URIRef) and term in NDT else str(term)
