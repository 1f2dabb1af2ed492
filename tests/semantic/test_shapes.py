"""Shapes as set-based queries: they find what the referee (pySHACL) finds, and refuse what is not known."""

from __future__ import annotations

import logging
from pathlib import Path

import pyoxigraph as ox
import pyshacl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import Graph, Namespace
from rdflib.term import Node

from domain_twin.errors import ConfigError
from domain_twin.model import Severity
from domain_twin.resources import data_folder
from domain_twin.semantic.names import NDT
from domain_twin.semantic.shapes import Check, check, compile_shapes, load_shapes, subclasses
from domain_twin.semantic.store import SemanticStore

EX = "https://ex.example/"
XSD = "http://www.w3.org/2001/XMLSchema#"
SH = Namespace("http://www.w3.org/ns/shacl#")
GRAPH = ox.NamedNode(EX + "g")
PREFIXES = f"""
@prefix ex: <{EX}> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <{XSD}> .
@prefix ndt: <{NDT}> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
"""
BELOW = {EX + "A": frozenset({EX + "A", EX + "B"})}
HIERARCHY = f"<{EX}B> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <{EX}A> .\n"
EVERYTHING = (
    PREFIXES
    + """
ex:S a sh:NodeShape ; sh:targetClass ex:A ; sh:property
    ex:s-min, ex:s-min2, ex:s-max, ex:s-max0, ex:s-int, ex:s-double, ex:s-string, ex:s-bool,
    ex:s-moment, ex:s-decimal,
    ex:s-iri, ex:s-literal, ex:s-class, ex:s-in, ex:s-has, ex:s-pattern, ex:s-flags, ex:s-short, ex:s-long,
    ex:s-range, ex:s-open, ex:s-equals, ex:s-disjoint, ex:s-less, ex:s-most, ex:s-inverse,
    ex:s-way, ex:s-either, ex:s-plus, ex:s-language .
ex:s-min sh:path ex:p ; sh:minCount 1 .
ex:s-min2 sh:path ex:p ; sh:minCount 2 .
ex:s-max sh:path ex:p ; sh:maxCount 1 .
ex:s-max0 sh:path ex:q ; sh:maxCount 0 .
ex:s-int sh:path ex:p ; sh:datatype xsd:integer .
ex:s-double sh:path ex:p ; sh:datatype xsd:double .
ex:s-string sh:path ex:p ; sh:datatype xsd:string .
ex:s-bool sh:path ex:p ; sh:datatype xsd:boolean .
ex:s-moment sh:path ex:p ; sh:datatype xsd:dateTime .
ex:s-decimal sh:path ex:p ; sh:datatype xsd:decimal .
ex:s-iri sh:path ex:p ; sh:nodeKind sh:IRI .
ex:s-literal sh:path ex:p ; sh:nodeKind sh:Literal .
ex:s-class sh:path ex:p ; sh:class ex:A .
ex:s-in sh:path ex:p ; sh:in ( "a" 1 ex:s1 true ) .
ex:s-has sh:path ex:p ; sh:hasValue "a" .
ex:s-pattern sh:path ex:p ; sh:pattern "^[a-c1]+$" .
ex:s-flags sh:path ex:p ; sh:pattern "^B$" ; sh:flags "i" .
ex:s-short sh:path ex:p ; sh:maxLength 2 .
ex:s-long sh:path ex:p ; sh:minLength 2 .
ex:s-range sh:path ex:q ; sh:minInclusive 0 ; sh:maxInclusive 2 .
ex:s-open sh:path ex:q ; sh:minExclusive 0 ; sh:maxExclusive 2 .
ex:s-equals sh:path ex:p ; sh:equals ex:q .
ex:s-disjoint sh:path ex:p ; sh:disjoint ex:q .
ex:s-less sh:path ex:low ; sh:lessThan ex:high .
ex:s-most sh:path ex:low ; sh:lessThanOrEquals ex:high .
ex:s-inverse sh:path [ sh:inversePath ex:r ] ; sh:maxCount 1 .
ex:s-way sh:path ( ex:r ex:p ) ; sh:maxCount 1 .
ex:s-either sh:path [ sh:alternativePath ( ex:p ex:q ) ] ; sh:maxCount 2 .
ex:s-plus sh:path [ sh:oneOrMorePath ex:r ] ; sh:class ex:B .
ex:s-language sh:path ex:q ; sh:languageIn ( "en" "de" ) .
ex:N a sh:NodeShape ; sh:targetSubjectsOf ex:r ; sh:nodeKind sh:IRI ; sh:class ex:A ; sh:pattern "s[01]$" .
ex:O a sh:NodeShape ; sh:targetObjectsOf ex:r ; sh:in ( ex:s0 ex:s2 ) .
ex:T a sh:NodeShape ; sh:targetNode ex:s3 ; sh:property ex:t-one .
ex:t-one sh:path ex:p ; sh:minCount 1 .
"""
)

Triple = tuple[str, str, str]


def literal(text: str, kind: str) -> str:
    return str(ox.Literal(text, datatype=ox.NamedNode(XSD + kind)))


SUBJECTS = [f"<{EX}s{i}>" for i in range(4)]
VALUES = [
    *SUBJECTS,
    *(str(ox.Literal(text)) for text in ("a", "b", "B", "abc", "", "1")),
    *(literal(text, "integer") for text in ("0", "1", "2", "-3")),
    *(literal(text, "double") for text in ("0.5", "2.5", "1e3")),
    *(literal(text, "decimal") for text in ("1.5", "0.0")),
    literal("2026-01-01T00:00:00Z", "dateTime"),
    literal("2026-01-02T00:00:00Z", "dateTime"),
    '"hello"@en',
    '"hallo"@de-AT',
    '"salut"@fr',
]
ODD = [
    literal("true", "boolean"),
    literal("maybe", "boolean"),
    literal("x", "integer"),
    literal("nonsense", "double"),
    literal("yesterday", "dateTime"),
]
"""Not where values are compared: rdflib takes true for 1, and what is ill-formed for text."""
TRIPLES: st.SearchStrategy[set[Triple]] = st.sets(
    st.one_of(
        st.tuples(
            st.sampled_from(SUBJECTS),
            st.just("<http://www.w3.org/1999/02/22-rdf-syntax-ns#type>"),
            st.sampled_from([f"<{EX}A>", f"<{EX}B>", f"<{EX}C>"]),
        ),
        st.tuples(st.sampled_from(SUBJECTS), st.just(f"<{EX}p>"), st.sampled_from([*VALUES, *ODD])),
        st.tuples(st.sampled_from(SUBJECTS), st.just(f"<{EX}q>"), st.sampled_from(VALUES)),
        st.tuples(st.sampled_from(SUBJECTS), st.just(f"<{EX}r>"), st.sampled_from(SUBJECTS)),
        st.tuples(
            st.sampled_from(SUBJECTS),
            st.sampled_from([f"<{EX}low>", f"<{EX}high>"]),
            st.sampled_from([literal(str(i), "integer") for i in range(3)]),  # the referee fails on others
        ),
    ),
    max_size=14,
)


def store_of(triples: str) -> SemanticStore:
    store = SemanticStore()
    quads = (
        ox.Quad(q.subject, q.predicate, q.object, GRAPH)
        for q in ox.parse(triples, format=ox.RdfFormat.TURTLE)
    )
    store.apply([], quads)
    return store


def ours(store: SemanticStore, checks: list[Check]) -> set[tuple[str, str, str]]:
    return {(r.focus, r.check.shape, r.check.component) for r in check(store, checks)}


def referee(store: SemanticStore, shapes: Graph, more: str = "") -> set[tuple[str, str, str]]:
    _, text = store.copy()
    triples = "".join(
        f"{q.subject} {q.predicate} {q.object} .\n" for q in ox.parse(text, format=ox.RdfFormat.N_QUADS)
    )
    data = Graph().parse(data=triples + more, format="nt")
    _, report, _ = pyshacl.validate(data, shacl_graph=shapes)
    assert isinstance(report, Graph)

    def value(result: Node, name: str) -> str:
        return str(report.value(result, SH[name]))

    return {
        (
            value(result, "focusNode"),
            value(result, "sourceShape"),
            value(result, "sourceConstraintComponent").removeprefix(str(SH)),
        )
        for result in report.objects(None, SH.result)
    }


logging.getLogger("rdflib.term").setLevel(logging.CRITICAL)  # it tells of every ill-formed literal


@pytest.fixture(scope="module")
def shapes() -> Graph:
    return Graph().parse(data=EVERYTHING, format="turtle")


@pytest.mark.filterwarnings("ignore:Parsing weird boolean")
@settings(max_examples=40, deadline=None)
@given(triples=TRIPLES)
def test_the_referee_finds_the_same(shapes: Graph, triples: set[Triple]) -> None:
    store = store_of("".join(f"{s} {p} {o} .\n" for s, p, o in sorted(triples)))

    found = ours(store, compile_shapes(EVERYTHING, "everything", BELOW))

    assert found == referee(store, shapes, HIERARCHY)


@pytest.fixture(scope="module")
def shipped() -> Graph:
    graph = Graph()
    for path in sorted((data_folder("ontology") / "shapes").glob("*.ttl")):
        graph.parse(path)
    return graph


GOOD = """
ex:d a ndt:Domain ; ndt:name "transport" .
ex:n1 a ndt:Node ; ndt:identifier "n1" ; ndt:name "n1" ; ndt:inDomain ex:d .
ex:n2 a ndt:Node ; ndt:identifier "n2" ; ndt:name "n2" ; ndt:inDomain ex:d .
ex:p1 a ndt:TerminationPoint ; ndt:identifier "p1" ; ndt:onNode ex:n1 ; ndt:inDomain ex:d ; ndt:up true .
ex:p2 a ndt:TerminationPoint ; ndt:identifier "p2" ; ndt:onNode ex:n2 ; ndt:inDomain ex:d ; ndt:up true .
ex:l a ndt:Link ; ndt:identifier "l" ; ndt:inDomain ex:d ; ndt:hasSource ex:p1 ; ndt:hasDestination ex:p2 ;
    ndt:metric 1 ; ndt:up true ; ndt:capacityMbps 1000e0 .
ex:k a ndt:Kpi ; ndt:name "one_way_delay" ; ndt:value 1.5e0 ; ndt:unit "ms" ; ndt:origin "measured" .
"""
BAD = [
    "ex:l ndt:metric 2 .",
    "ex:l ndt:capacityMbps -1e0 .",
    "ex:l ndt:hasSource ex:n1 .",
    'ex:l ndt:up "yes" .',
    "ex:n1 ndt:inDomain ex:elsewhere .",
    'ex:k ndt:origin "guessed" .',
    "ex:x a ndt:Segment ; ndt:lossRatio 3e0 .",
    'ex:x a ndt:BorderPoint ; ndt:alias "noslash" .',
    'ex:x a ndt:Agreement ; ndt:level "everything" ; ndt:action "look" .',
    'ex:x a ndt:Alarm ; ndt:severity "loud" .',
    "ex:x a ndt:Cell .",
    'ex:x a ndt:Slice ; ndt:snssai "x" .',
    'ex:x a ndt:Service ; ndt:forCustomer "somebody" .',
]


def test_the_shipped_shapes_find_what_the_referee_finds(shipped: Graph) -> None:
    store = store_of(PREFIXES + GOOD + "\n".join(BAD).replace("ex:x", "ex:y"))
    ontology = "".join(
        f"<{lower}> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <{upper}> .\n"
        for upper, below in subclasses().items()
        for lower in below
    )

    found = ours(store, load_shapes())

    assert found == referee(store, shipped, ontology)
    assert len(found) > len(BAD)


def test_a_good_twin_violates_no_shape() -> None:
    assert ours(store_of(PREFIXES + GOOD), load_shapes()) == set()


@pytest.mark.parametrize("bad", BAD)
def test_each_fault_is_found(bad: str) -> None:
    assert ours(store_of(PREFIXES + GOOD + bad), load_shapes())


def test_every_shipped_shape_says_what_is_wrong_and_what_to_do() -> None:
    checks = load_shapes()

    assert checks
    assert [item.shape for item in checks if not item.message or not item.remedy] == []


def test_a_violation_names_element_shape_and_remedy() -> None:
    store = store_of(PREFIXES + GOOD + "ex:l ndt:metric 2 .")

    (found,) = check(store, load_shapes())

    assert (found.focus, found.check.shape) == (EX + "l", "https://fedtwin.example/shape/Link-metric")
    assert found.check.remedy
    assert found.check.severity is Severity.ERROR


def test_severity_message_and_deactivation_are_those_of_the_shape() -> None:
    text = (
        PREFIXES
        + """
ex:S a sh:NodeShape ; sh:targetClass ex:A ; sh:property ex:one, ex:off .
ex:one sh:path ex:p ; sh:minCount 1 ; sh:severity sh:Warning ; sh:message "no p" ; ndt:remedy "add one" .
ex:off sh:path ex:q ; sh:minCount 1 ; sh:deactivated true .
"""
    )
    (found,) = check(store_of(PREFIXES + "ex:a a ex:A ."), compile_shapes(text, "here"))

    assert (found.check.severity, found.check.message, found.check.remedy) == (
        Severity.WARNING,
        "no p",
        "add one",
    )


def test_shapes_see_the_graphs_they_were_given_alone() -> None:
    text = (
        PREFIXES
        + "ex:S a sh:NodeShape ; sh:targetClass ex:A ; sh:property ex:one ."
        + "ex:one sh:path ex:p ; sh:minCount 1 ."
    )
    store = store_of(PREFIXES + "ex:a a ex:A .")

    assert check(store, compile_shapes(text, "here"), [EX + "other"]) == []
    assert len(check(store, compile_shapes(text, "here"), [EX + "g"])) == 1


REFUSED = {
    "sh:qualifiedValueShape": "ex:one sh:path ex:p ; sh:qualifiedValueShape ex:other .",
    "sh:closed": "ex:S sh:closed true .",
    "sh:or": "ex:one sh:path ex:p ; sh:or ( ex:a ex:b ) .",
    "sh:sparql": 'ex:one sh:path ex:p ; sh:sparql [ sh:select "SELECT $this {}" ] .',
    "sh:uniqueLang": "ex:one sh:path ex:p ; sh:uniqueLang true .",
    "xsd:unsignedInt": "ex:one sh:path ex:p ; sh:datatype xsd:unsignedInt .",
    "no whole number": "ex:one sh:path ex:p ; sh:minCount -1 .",
    "is no list": 'ex:one sh:path ex:p ; sh:in "a" .',
    "is no path": 'ex:one sh:path "p" .',
    "none of SHACL's": "ex:one sh:path [ ex:odd ex:p ] .",
    "has no sh:path": "ex:one sh:minCount 1 .",
    "#Fatal": "ex:one sh:path ex:p ; sh:minCount 1 ; sh:severity sh:Fatal .",
    "needs a sh:path": "ex:one sh:path ex:p . ex:S sh:minCount 1 .",
    "accepted are sh:IRI": "ex:one sh:path ex:p ; sh:nodeKind sh:Thing .",
    "blank node": "ex:one sh:path ex:p ; sh:hasValue [] .",
    "no class": 'ex:one sh:path ex:p ; sh:class "A" .',
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_is_not_known_is_refused_by_name(word: str) -> None:
    text = PREFIXES + "ex:S a sh:NodeShape ; sh:targetClass ex:A ; sh:property ex:one .\n" + REFUSED[word]

    with pytest.raises(ConfigError, match=r"a-file: the shape .*") as refused:
        compile_shapes(text, "a-file")

    assert word in str(refused.value)


def test_a_shape_without_target_and_a_file_that_is_no_turtle_are_refused() -> None:
    with pytest.raises(ConfigError, match="no target"):
        compile_shapes(PREFIXES + "ex:S a sh:NodeShape .", "a-file")
    with pytest.raises(ConfigError, match="a-file"):
        compile_shapes("this is no Turtle", "a-file")


def test_a_list_that_never_ends_is_refused() -> None:
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    ring = f"ex:ring <{rdf}first> 1 ; <{rdf}rest> ex:ring ."
    text = (
        PREFIXES
        + "ex:S a sh:NodeShape ; sh:targetClass ex:A ; sh:property ex:one . "
        + "ex:one sh:path ex:p ; sh:in ex:ring . "
    )

    with pytest.raises(ConfigError, match="does not end"):
        compile_shapes(text + ring, "a-file")


def test_own_shapes_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    text = (
        PREFIXES
        + """
ex:S a sh:NodeShape ; sh:targetClass ndt:Node ; sh:property ex:one .
ex:one sh:path ndt:vendor ; sh:minCount 1 ; sh:message "no vendor" ; ndt:remedy "tell it" .
"""
    )
    (tmp_path / "own.ttl").write_text(text)
    checks = load_shapes(tmp_path)

    assert {r.check.shape for r in check(store_of(PREFIXES + GOOD), checks)} == {EX + "one"}
    with pytest.raises(ConfigError, match="no folder"):
        load_shapes(tmp_path / "nowhere")
