"""The ontology's shapes, compiled for live data: they find what pySHACL finds, no more and no less."""

from __future__ import annotations

import random

import pyoxigraph as ox
import pyshacl
import pytest
from rdflib import RDF, RDFS, XSD, Graph, Literal, Namespace, URIRef
from rdflib.namespace import SH
from rdflib.term import Node

from domain_twin.resources import data_folder
from domain_twin.semantic.shapes import check, load_shapes
from domain_twin.semantic.store import SemanticStore

FOLDER = data_folder("ontology")
NDT = Namespace("https://fedtwin.example/ns/ndt#")
GRAPH = ox.NamedNode("https://fedtwin.example/g/test")
Violations = set[tuple[str, str]]


def parsed(*patterns: str) -> Graph:
    graph = Graph()
    for path in (path for pattern in patterns for path in sorted(FOLDER.glob(pattern))):
        graph.parse(path)
    return graph


def refereed(data: Graph) -> Violations:
    hierarchy = Graph()
    hierarchy += parsed("ndt.ttl").triples((None, RDFS.subClassOf, None))
    _, report, _ = pyshacl.validate(data, shacl_graph=parsed("shapes/*.ttl"), ont_graph=hierarchy)
    assert isinstance(report, Graph)
    return {
        (str(report.value(result, SH.focusNode)), str(report.value(result, SH.sourceShape)))
        for result in report.subjects(RDF.type, SH.ValidationResult)
    }


def compiled(data: Graph) -> Violations:
    store = SemanticStore(None)
    try:
        text = data.serialize(format="nt", encoding="utf-8")
        quads = [
            ox.Quad(q.subject, q.predicate, q.object, GRAPH)
            for q in ox.parse(text, format=ox.RdfFormat.N_TRIPLES)
        ]
        store.replace(GRAPH.value, quads)
        return {(result.focus, result.check.shape) for result in check(store, load_shapes())}
    finally:
        store.close()


@pytest.mark.parametrize("case", ["four-domains", "operations", "contradiction", "violations"])
def test_examples_are_judged_alike(case: str) -> None:
    data = parsed(f"examples/{case}/*.ttl")

    assert compiled(data) == refereed(data)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_damaged_data_are_judged_alike(seed: int) -> None:
    data = parsed("examples/four-domains/*.ttl", "examples/operations/*.ttl")
    damage(data, random.Random(seed), 150)

    found = compiled(data)

    assert len(found) > 20
    assert found == refereed(data)


def damage(data: Graph, chance: random.Random, times: int) -> None:
    """Take statements out, add second ones, and put other values in their places."""
    triples = sorted(data)
    others: list[Node] = [
        Literal("x"), Literal(-1.0), Literal("2.5", datatype=XSD.double), Literal(True), Literal(7),
        Literal("LOCKED"), Literal("1-00000A"), Literal("2026-11-21T08:00:00Z", datatype=XSD.dateTime),
        URIRef(NDT.nothing),
    ]  # fmt: skip
    others += [s for s in chance.sample(triples, 20) for s in s[::2]]
    for subject, predicate, value in chance.sample(triples, times):
        if chance.random() < 0.6:
            data.remove((subject, predicate, value))
        if chance.random() < 0.7:
            data.add((subject, predicate, chance.choice(others)))
