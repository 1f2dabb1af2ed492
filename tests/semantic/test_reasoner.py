"""The ontology has a model: HermiT finds no contradiction in it, and finds those that were put in.

Runs where Java is; HermiT comes with owlready2. Never Pellet: its classes need a Java newer than ours.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import owlready2
import pytest
from rdflib import OWL, RDF, Graph, URIRef

from domain_twin.resources import data_folder

ONTOLOGY = data_folder("ontology")
NS = "https://fedtwin.example/ns/ndt"
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="HermiT needs Java, which this machine has not"),
    pytest.mark.timeout(300),
]


def reasoned(*files: Path) -> Any:
    """The ontology with these files' individuals, after HermiT; raises where they contradict it."""
    graph = Graph().parse(ONTOLOGY / "ndt.ttl")
    for path in files:
        graph.parse(path)
    for subject in set(graph.subjects(RDF.type)):
        # owlready2 takes for an individual only what is declared one.
        if isinstance(subject, URIRef) and not str(subject).startswith(NS):
            graph.add((subject, RDF.type, OWL.NamedIndividual))
    world = owlready2.World()
    loaded = world.get_ontology(NS).load(fileobj=io.BytesIO(graph.serialize(format="nt", encoding="utf-8")))
    with loaded:
        owlready2.sync_reasoner_hermit(world, debug=0)
    return world


def test_a_federation_is_possible_and_so_is_every_class() -> None:
    examples = sorted((ONTOLOGY / "examples" / "four-domains").glob("*.ttl"))
    alignments = sorted((ONTOLOGY / "alignments").glob("*.ttl"))

    world = reasoned(*examples, *(ONTOLOGY / "examples" / "operations").glob("*.ttl"), *alignments)

    assert list(world.inconsistent_classes()) == []
    assert 100 <= len(list(world.individuals())) <= 300


@pytest.mark.parametrize(
    "path", sorted((ONTOLOGY / "examples" / "inconsistent").glob("*.ttl")), ids=lambda path: path.stem
)
def test_what_cannot_be_is_found(path: Path) -> None:
    with pytest.raises(owlready2.OwlReadyInconsistentOntologyError):
        reasoned(path)
