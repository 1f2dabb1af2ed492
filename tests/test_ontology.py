"""The shipped ontology: it parses, every term is documented, and its names are those of the model."""

from __future__ import annotations

import pytest
from rdflib import DCTERMS, OWL, RDF, RDFS, Graph, Namespace

from domain_twin import model
from domain_twin.resources import data_folder

NDT = Namespace("https://fedtwin.example/ns/ndt#")


@pytest.fixture(scope="module")
def ontology() -> Graph:
    return Graph().parse(data_folder("ontology") / "ndt.ttl")


def test_every_term_has_label_definition_and_source(ontology: Graph) -> None:
    terms = {t for t in ontology.subjects(RDF.type) if str(t).startswith(str(NDT))}

    bare = {
        (t, p) for t in terms for p in (RDFS.label, RDFS.comment, DCTERMS.source) if not ontology.value(t, p)
    }

    assert terms
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
