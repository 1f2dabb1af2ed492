"""`fedtwin ontology`: the shipped terms listed, searched, shown, exported; and a folder that is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rdflib import OWL, RDF, Graph
from rdflib.compare import isomorphic

from domain_twin.errors import ConfigError, NotFound
from domain_twin.resources import data_folder
from domain_twin.semantic.names import NDT
from federation.cli.app import run
from federation.cli.terms import Ontology, load

CLASS = (
    "@prefix ndt: <https://fedtwin.example/ns/ndt#> . @prefix owl: <http://www.w3.org/2002/07/owl#> ."
    " @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix dcterms: <http://purl.org/dc/terms/> ."
)


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return load()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["ontology", *words]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def test_every_term_of_the_file_is_listed_with_its_meaning(
    ontology: Ontology, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Graph().parse(data_folder("ontology") / "ndt.ttl")
    file.parse(data_folder("ontology") / "deprecations.ttl")
    kinds = (OWL.Class, OWL.ObjectProperty, OWL.DatatypeProperty)
    names = {str(term).removeprefix(NDT) for kind in kinds for term in file.subjects(RDF.type, kind)}

    document = json.loads(told(capsys, "--json"))
    shown = told(capsys)

    assert {term["name"] for term in document["terms"]} == names
    assert document["version"]
    assert all(t["definition"] and (t["source"] or t["deprecated"]) for t in document["terms"])
    for name in names:
        assert f"\n{name} " in shown
    assert "…" not in shown


@pytest.mark.parametrize("name", ["Link", "ndt:Link", f"{NDT}Link", "link"])
def test_a_term_is_found_by_any_of_its_spellings(ontology: Ontology, name: str) -> None:
    assert ontology.term(name).iri == f"{NDT}Link"


def test_a_term_is_shown_with_all_that_is_known_of_it(
    ontology: Ontology, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = told(capsys, "dependsOn")
    document = json.loads(told(capsys, "InterDomainLink", "--json"))

    assert ontology.term("dependsOn").definition in " ".join(shown.split())
    assert "rules/direct-dependence.rq" in shown
    assert document["kind"] == "class"
    assert "ndt:endsAt" in document["properties"]
    assert document["alignments"] == [
        {"how": how, "term": what} for how, what in ontology.term("InterDomainLink").alignments
    ]


def test_what_is_not_there_is_said_with_what_is_near(ontology: Ontology) -> None:
    with pytest.raises(NotFound, match=r"no term 'Lnik' in the ontology; did you mean Link"):
        ontology.term("Lnik")
    with pytest.raises(NotFound, match="lists all"):
        ontology.term("zzz")


def test_words_are_searched_in_names_and_definitions(
    ontology: Ontology, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [term.name for term in ontology.search("termination POINT")]

    assert found[0] == "TerminationPoint" or found[0] == "BorderPoint"
    assert "hasTerminationPoint" in found
    shown = told(capsys, "--search", "customer", "--kind", "class")
    assert "\nCustomer " in shown
    assert "forCustomer" not in shown
    assert told(capsys, "--search", "no such word") == "No term has all of: no such word.\n"


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph")  # rdflib reads JSON-LD by what it deprecates
@pytest.mark.parametrize("form", ["turtle", "json-ld", "n-triples"])
def test_the_export_is_the_ontology(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"

    told(capsys, "--export", form, "-o", str(file))

    read = Graph().parse(file, format={"n-triples": "nt"}.get(form, form))
    assert isomorphic(read, Graph().parse(data_folder("ontology") / "ndt.ttl"))
    assert told(capsys, "--export", "n-triples").count("\n") >= len(read)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "thing"], "'thing' is none of class, relation"),
        (["--export", "xml"], "'xml' is none of turtle"),
        (["--export", "turtle", "Link"], "--export writes the whole ontology"),
        (["-o", "x"], "-o writes what --export makes"),
        (["Link", "--search", "x"], "name one term, or search; not both"),
    ],
)
def test_options_that_say_nothing_together(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ontology", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_said_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["ontology", "--export", "turtle", "-o", str(tmp_path / "no" / "x.ttl")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_deprecated_terms_and_alignments_are_told(tmp_path: Path) -> None:
    (tmp_path / "alignments").mkdir()
    (tmp_path / "rules").mkdir()
    (tmp_path / "ndt.ttl").write_text(
        CLASS + 'ndt:New a owl:Class ; rdfs:comment "It is. And more." ; dcterms:source "RFC 1" .\n'
        "ndt:to a owl:ObjectProperty ; rdfs:range [ a owl:Class ; owl:unionOf ( ndt:New ndt:Other ) ] .",
        encoding="utf-8",
    )
    (tmp_path / "alignments" / "x.ttl").write_text(
        CLASS + "@prefix skos: <http://www.w3.org/2004/02/skos/core#> . ndt:New skos:closeMatch <urn:x:y> .",
        encoding="utf-8",
    )
    (tmp_path / "deprecations.ttl").write_text(
        CLASS + "ndt:Old a owl:Class ; owl:deprecated true ; dcterms:isReplacedBy ndt:New .", encoding="utf-8"
    )
    (tmp_path / "rules" / "r.rq").write_text("CONSTRUCT { ?a a ndt:New } WHERE { ?a a ndt:Newer }")

    found = load(tmp_path)

    assert found.term("Old").deprecated
    assert found.term("Old").replaced_by == ("ndt:New",)
    assert found.term("New").alignments == (("like", "<urn:x:y>"),)
    assert found.term("New").used_in == ("rules/r.rq",)
    assert found.term("to").range == ("ndt:New", "ndt:Other")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ndt.ttl").write_text("ndt:x a ndt:y .", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"ndt\.ttl: cannot be read as Turtle"):
        load(tmp_path)
