"""The shipped ontology: documented, aligned without claims, its generated files current."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyoxigraph as ox
import pyshacl
import pytest
from rdflib import DCTERMS, OWL, RDF, RDFS, SKOS, Graph, Literal, Namespace, URIRef
from rdflib.compare import isomorphic
from rdflib.namespace import SH

from domain_twin import model
from domain_twin.resources import data_folder
from domain_twin.semantic import terms

NDT = Namespace("https://fedtwin.example/ns/ndt#")
FOLDER = data_folder("ontology")


@pytest.fixture(scope="module")
def ontology() -> Graph:
    return Graph().parse(FOLDER / "ndt.ttl")


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """ontology/build.py, which is a script beside its data."""
    sys.path.insert(0, str(FOLDER))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield importlib.import_module("build")
    finally:
        sys.path.remove(str(FOLDER))
        sys.dont_write_bytecode = written
        for name in ("build", "checking", "sample"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def sources(build: ModuleType) -> Any:
    return build.Sources.of()


# ------------------------------------------------------------------------------------------------ the terms


def test_every_term_has_label_definition_and_source(ontology: Graph) -> None:
    named = {t for t in ontology.subjects(RDF.type) if str(t).startswith(str(NDT))}

    bare = {
        (t, p) for t in named for p in (RDFS.label, RDFS.comment, DCTERMS.source) if not ontology.value(t, p)
    }

    assert named
    assert bare == set()


def test_relations_join_declared_classes(ontology: Graph) -> None:
    classes = set(ontology.subjects(RDF.type, OWL.Class))

    for relation in ontology.subjects(RDF.type, OWL.ObjectProperty):
        assert {*ontology.objects(relation, RDFS.domain), *ontology.objects(relation, RDFS.range)} <= classes


@pytest.mark.parametrize(
    "name", ["Network", "Node", "TerminationPoint", "Link", "NetworkFunction", "Cell", "Host"]
)
def test_the_models_elements_are_classes(ontology: Graph, name: str) -> None:
    assert hasattr(model, name)
    assert (NDT[name], RDF.type, OWL.Class) in ontology


def test_it_stays_small_enough_to_learn(ontology: Graph) -> None:
    counts = [
        len([s for s in ontology.subjects(RDF.type, kind) if isinstance(s, URIRef)])
        for kind in (OWL.Class, OWL.ObjectProperty, OWL.DatatypeProperty)
    ]

    assert counts[0] <= 60
    assert counts[1] + counts[2] <= 80


def test_nothing_is_wrong_and_generated_files_are_current(
    build: ModuleType, sources: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build.Sources, "of", lambda: sources)

    status = build.main(["--check"])

    assert (status, capsys.readouterr().err) == (0, "")


def test_a_generated_file_that_is_out_of_date_is_told(
    build: ModuleType, sources: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build.Sources, "of", lambda: sources)
    monkeypatch.setattr(build, "problems", lambda _: [])
    monkeypatch.setattr(build, "page", lambda _: "# Another page")

    status = build.main(["--check"])

    assert status == 1
    assert capsys.readouterr().err == "docs/ontology.md: is out of date; run python ontology/build.py\n"


def test_code_and_queries_use_terms_that_exist(ontology: Graph) -> None:
    root = Path(__file__).resolve().parent.parent
    files = [
        path for folder in ("domain_twin", "federation", "api") for path in (root / folder).rglob("*.py")
    ]
    files += [*(root / "examples").rglob("*.rq"), root / "docs" / "queries.md"]
    known = {str(term).removeprefix(str(NDT)) for term in ontology.subjects(RDF.type) if term in NDT}

    used = {
        (path.name, name)
        for path in files
        for name in re.findall(
            r"""(?:\bndt\("|(?<!urn:)\bndt:(?=[A-Za-z]))(\w+)""", path.read_text(encoding="utf-8")
        )
    }

    assert used
    assert {(path, name) for path, name in used if name not in known} == set()


def test_constants_know_what_is_above_what(ontology: Graph) -> None:
    assert str(NDT.hasSource) == terms.HAS_SOURCE
    assert terms.ABOVE[terms.CELL] == {terms.MANAGED_FUNCTION, terms.ELEMENT}
    below = ontology.subjects(RDFS.subPropertyOf, NDT.dependsOn)
    assert set(terms.DEPENDENCES) == {str(term) for term in below}


def test_the_rule_of_dependence_lists_every_relation_that_is_one() -> None:
    rule = (FOLDER / "rules" / "direct-dependence.rq").read_text(encoding="utf-8")
    listed = rule.split("VALUES ?relation {")[1].split("}")[0].split()

    assert [str(NDT[name.removeprefix("ndt:")]) for name in listed] == list(terms.DEPENDENCES)


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("ndt.ttl", 'rdfs:label "Cell"@en ;\n', "", "ndt:Cell: has 0 values of label"),
        ("ndt.ttl", 'rdfs:comment "An NR cell."@en ;', "", "ndt:Cell: has 0 values of definition"),
        ("ndt.ttl", "An NR cell.", "an NR cell", "it does not end with a full stop"),
        ("ndt.ttl", 'rdfs:label "Cell"@en', 'rdfs:label "Sector"@en', "its label is another word"),
        ("ndt.ttl", "ndt:mirrors a owl:", "ndt:hasKPI a owl:", "would be the constant HAS_KPI"),
        ("ndt.ttl", "ndt:Cell a owl:Class", "ndt:cell a owl:Class", "classes begin with a capital"),
        ("ndt.ttl", "ndt:Cell a owl:Class", "ndt:Cell a owl:Thing", "ndt:Cell: is nothing"),
        ("ndt.ttl", "rdfs:range ndt:Node ;", "rdfs:range ndt:Nod ;", "ndt.ttl: ndt:Nod is not declared"),
        ("ndt.ttl", "rdfs:range ndt:Node ;", "rdfs:range ndt:Node, ndt:Link ;", "mean both at once"),
        (
            "ndt.ttl",
            "ndt:Element a owl:Class",
            "ndt:Element rdfs:subClassOf ndt:Cell ; a owl:Class",
            "ndt:Cell: is below itself",
        ),
        ("rules/peers.rq", "ndt:peersWith", "ndt:peersWit", "rules/peers.rq: ndt:peersWit is not declared"),
        ("rules/peers.rq", "# reads: topo", "# reads: topology", "rules/peers.rq: reads 'topology'"),
        ("rules/peers.rq", "# derives:", "# about:", "rules/peers.rq: has no line `# derives: ...`"),
        ("rules/peers.rq", "CONSTRUCT {", "CONSTRUKT {", "rules/peers.rq: not SPARQL"),
        (
            "rules/peers.rq",
            "CONSTRUCT { ?one ndt:peersWith ?other }",
            "SELECT ?one",
            "rules/peers.rq: is no CONSTRUCT",
        ),
        ("shapes/network.ttl", "sh:datatype xsd:string", "sh:minLength 1", "is not in the part of SHACL"),
        (
            "shapes/network.ttl",
            'ndt:remedy "name the domain in agent.toml"',
            "sh:minCount 1",
            "has no ndt:remedy",
        ),
        (
            "shapes/network.ttl",
            "sh:property shape:Domain-name .",
            "sh:property [ sh:path ndt:name ] .",
            "has no name; findings name the shape",
        ),
        ("alignments/prov.ttl", "rdfs:subClassOf", "owl:sameAs", "an alignment only says"),
        ("alignments/prov.ttl", "rdfs:subClassOf", "owl:equivalentClass", "an alignment only says"),
        ("alignments/prov.ttl", "prov:Organization", "ndt:Domain", "from a term of ours to one of theirs"),
        (
            "deprecations.ttl",
            "ndt:deprecatedInVersion",
            "rdfs:seeAlso",
            "ndt:deprecatedInVersion is not declared",
        ),
        ("deprecations.ttl", "dcterms:isReplacedBy", "rdfs:seeAlso", "ndt:from has no replacement"),
        ("deprecations.ttl", "INSERT {", "INSRT {", "is no SPARQL update"),
        ("deprecations.ttl", "ndt:to a owl", "ndt:Cell a owl", "ndt:Cell: is deprecated and still declared"),
        (
            "rules/slice-elements.rq",
            "ndt:supportedBy",
            "ndt:builtOn",
            "slice-elements.rq: ndt:builtOn is deprecated",
        ),
    ],
)
def test_the_check_finds(build: ModuleType, sources: Any, path: str, old: str, new: str, said: str) -> None:
    text = (FOLDER / path).read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1)

    changed = with_text(sources, path, text)

    assert [problem for problem in build.problems(changed) if said in problem]


def with_text(sources: Any, path: str, text: str) -> Any:
    """The sources with one file changed; other rules are left out, since reading SPARQL takes its time."""
    kind, name = path.split("/", maxsplit=1)[0], Path(path).stem
    if kind == "rules":
        return dataclasses.replace(sources, rules={name: text}, folder=FOLDER / "nothing")
    graph = Graph().parse(data=text)
    part = {"ndt.ttl": {"terms": graph}, "deprecations.ttl": {"deprecations": graph}}
    changed = part.get(kind, {"parts": {**sources.parts, path: graph}})
    return dataclasses.replace(sources, rules={}, folder=FOLDER / "nothing", **changed)


def test_the_check_finds_too_many_terms(
    build: ModuleType, sources: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["checking"], "MOST_CLASSES", 10)
    monkeypatch.setattr(sys.modules["checking"], "MOST_PROPERTIES", 10)

    found = build.problems(dataclasses.replace(sources, rules={}))

    assert [problem for problem in found if "classes; people can learn 10" in problem]
    assert [problem for problem in found if "properties; people can learn 10" in problem]


def test_a_file_that_is_no_turtle_is_named(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "ndt.ttl").write_text("ndt:Cell a", encoding="utf-8")

    with pytest.raises(SystemExit, match=r"ndt\.ttl: not Turtle"):
        build.Sources.of(tmp_path)


def test_the_script_compares_versions(tmp_path: Path) -> None:
    old = tmp_path / "old.ttl"
    text = (FOLDER / "ndt.ttl").read_text(encoding="utf-8")
    text = text.replace("ndt:Cell a owl:Class", "ndt:Sector a owl:Class").replace(
        "A node of a network.", "A box."
    )
    old.write_text(text, encoding="utf-8")

    command = [sys.executable, "-B", str(FOLDER / "build.py"), "--diff", str(old)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)

    assert "added Cell" in done.stdout
    assert "removed Sector" in done.stdout
    assert "changed Node: comment" in done.stdout


# -------------------------------------------------------------------------------------- what goes with them


def test_alignments_claim_no_equality() -> None:
    files = sorted((FOLDER / "alignments").glob("*.ttl"))
    allowed = {RDFS.subClassOf, RDFS.subPropertyOf, *(SKOS[name] for name in MATCHES)}

    for path in files:
        graph = Graph().parse(path)
        statements = [(s, p, o) for s, p, o in graph if (s, RDF.type, OWL.Ontology) not in graph]
        assert statements
        assert {p for _, p, _ in statements} <= allowed
        assert all(s in NDT and o not in NDT for s, _, o in statements if isinstance(s, URIRef))
    assert {path.stem for path in files} == {
        "saref4syst",
        "sosa",
        "qudt",
        "prov",
        "odrl",
        "noria",
        "tmf-intent",
    }


MATCHES = ("closeMatch", "relatedMatch", "broadMatch", "narrowMatch")


def test_alignments_name_terms_that_exist(ontology: Graph) -> None:
    known = set(ontology.subjects(RDF.type))

    for path in (FOLDER / "alignments").glob("*.ttl"):
        graph = Graph().parse(path)
        assert {s for s in graph.subjects() if isinstance(s, URIRef) and s in NDT} <= known


def test_json_with_the_context_says_what_turtle_says() -> None:
    context = json.loads((FOLDER / "context" / "ndt.jsonld").read_text(encoding="utf-8"))["@context"]
    document = {
        "@context": context,
        "id": "https://fedtwin.example/id/x/link/a",
        "type": "Link",
        "hasSource": "https://fedtwin.example/id/x/termination-point/a",
        "metric": 10,
        "up": True,
        "delayMs": "1.5",
        "name": "a",
        "observedAt": "2026-11-21T08:00:00Z",
    }

    said = Graph()
    for quad in ox.parse(json.dumps(document), format=ox.RdfFormat.JSON_LD):
        said.parse(data=f"{quad.triple} .", format="nt")

    turtle = """@prefix ndt: <https://fedtwin.example/ns/ndt#> .
        @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
        <https://fedtwin.example/id/x/link/a> a ndt:Link ; ndt:metric 10 ; ndt:up true ; ndt:name "a" ;
        ndt:hasSource <https://fedtwin.example/id/x/termination-point/a> ; ndt:delayMs "1.5"^^xsd:double ;
        ndt:observedAt "2026-11-21T08:00:00Z"^^xsd:dateTime ."""
    assert isomorphic(said, Graph().parse(data=turtle))


def test_deprecated_data_are_migrated() -> None:
    gone = Graph().parse(FOLDER / "deprecations.ttl")
    migrations = [str(rule) for rule in gone.objects(None, NDT.migration)]
    store = ox.Store()
    store.load((FOLDER / "examples" / "deprecated" / "old.ttl").read_bytes(), format=ox.RdfFormat.TURTLE)
    old = Graph().parse(FOLDER / "examples" / "deprecated" / "old.ttl")

    for migration in migrations:
        old.update(migration)
        store.update(migration)

    present = Graph().parse(FOLDER / "examples" / "deprecated" / "present.ttl")
    dumped = store.dump(format=ox.RdfFormat.N_TRIPLES, from_graph=ox.DefaultGraph())
    assert dumped is not None
    assert isomorphic(old, present)
    assert isomorphic(Graph().parse(data=dumped, format="nt"), present)
    used = {term for triple in old for term in triple}
    assert len(migrations) == len(set(gone.subjects(OWL.deprecated)))
    assert not used & set(gone.subjects(OWL.deprecated))


# ------------------------------------------------------------------------------------------------ the shapes


@pytest.fixture(scope="module")
def shapes() -> Graph:
    graph = Graph()
    for path in sorted((FOLDER / "shapes").glob("*.ttl")):
        graph.parse(path)
    return graph


def _violations(data: Graph, shapes: Graph, ontology: Graph) -> set[tuple[str, str]]:
    """Each violation's node and shape, as pySHACL says; a class holds for what is below it."""
    hierarchy = Graph()
    hierarchy += ontology.triples((None, RDFS.subClassOf, None))
    _, report, _ = pyshacl.validate(data, shacl_graph=shapes, ont_graph=hierarchy)
    assert isinstance(report, Graph)
    return {
        (
            str(report.value(result, SH.focusNode)),
            str(report.value(result, SH.sourceShape)).rsplit("/", 1)[-1],
        )
        for result in report.subjects(RDF.type, SH.ValidationResult)
    }


def test_examples_keep_the_shapes(shapes: Graph, ontology: Graph) -> None:
    data = Graph()
    for case in ("four-domains", "operations", "contradiction"):
        for path in sorted((FOLDER / "examples" / case).glob("*.ttl")):
            data.parse(path)

    assert _violations(data, shapes, ontology) == set()


def test_each_kind_of_violation_is_found(shapes: Graph, ontology: Graph) -> None:
    data = Graph().parse(FOLDER / "examples" / "violations" / "one-of-each.ttl")
    here = "https://fedtwin.example/id/x/"

    assert _violations(data, shapes, ontology) == {
        (f"{here}link/a", "Link-hasSource"),
        (f"{here}link/a", "Link-hasDestination"),
        (f"{here}node/a", "Node-identifier"),
        (f"{here}node/a", "Node-stale"),
        (f"{here}cell/a", "Cell-administrativeState"),
        (f"{here}cell/a", "Cell-snssai"),
        (f"{here}node/b", "Node-inDomain"),
        (f"{here}segment/a/b", "Segment-delayMs"),
        (f"{here}segment/a/b", "Segment-lossRatio"),
    }


def test_every_shape_has_its_words(shapes: Graph) -> None:
    owned = list(shapes.objects(None, SH.property))

    assert len(owned) == len(set(owned)) >= 100
    for shape in owned:
        for predicate in (SH.message, NDT.remedy):
            assert isinstance(shapes.value(shape, predicate), Literal)


def test_every_figure_of_the_twin_is_defined_with_its_unit(ontology: Graph) -> None:
    from domain_twin.model import UNITS

    defined = {
        str(term).removeprefix(str(NDT)): str(ontology.value(term, NDT.unit))
        for term in ontology.subjects(RDF.type, NDT.KpiDefinition)
    }
    assert defined == dict(UNITS)
