"""The W3C's test cases of SERVICE, through the broker's planner; each endpoint is mapped to a domain.

`--manifest FILE` is a manifest of the SPARQL 1.1 suite in Turtle or JSON-LD (sparql11/service), with its
files beside it. Every endpoint of a case is a domain of its own with the endpoint's data; the case's default
graph is what the broker has itself. SERVICE is never dereferenced: an endpoint that no domain stands for is
refused, and under SILENT asks for nothing. Prints one JSON object with every deviation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyoxigraph as ox
from rdflib import RDF, Graph, Namespace

from domain_twin.agent.queries import card_of
from domain_twin.errors import TwinError
from domain_twin.semantic.guard import guarded
from domain_twin.semantic.names import domain_node
from federation.query.asking import Answered, Desk, Part
from federation.query.boundary import Facts, SeenBoundary
from federation.query.cards import decode_card
from federation.query.execute import Execution
from federation.query.gathered import Gathered, Value
from federation.query.reading import read
from federation.query.sources import Sources

MF = Namespace("http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#")
QT = Namespace("http://www.w3.org/2001/sw/DataAccess/tests/test-query#")
_FORMATS = {
    ".srx": ox.QueryResultsFormat.XML,
    ".srj": ox.QueryResultsFormat.JSON,
    ".tsv": ox.QueryResultsFormat.TSV,
}


class Endpoints:
    """Domains that answer from the data of a case's endpoints."""

    def __init__(self, data: Mapping[str, Iterable[Path]]) -> None:
        self.stores: dict[str, ox.Store] = {}
        self.requests = 0
        for domain, files in data.items():
            self.stores[domain] = ox.Store()
            for file in files:
                for quad in ox.parse(path=str(file)):
                    self.stores[domain].add(named(quad))

    async def ask(
        self, domain: str, text: str, variable: str, values: Sequence[Value], *, asker: str, timeout_s: float
    ) -> Answered:
        """As agents do: the text is guarded, values are joined with it."""
        self.requests += 1
        bound = guarded(text).bound([variable] if values else [], [(str(value),) for value in values])
        found = self.stores[domain].query(bound)
        return Answered(found.serialize(format=ox.QueryResultsFormat.JSON) or b"")  # type: ignore[arg-type]


def named(quad: ox.Quad) -> Any:
    """A quad without blank nodes: no view holds any."""

    def name(term: Any) -> Any:
        return ox.NamedNode(f"urn:blank:{term.value}") if isinstance(term, ox.BlankNode) else term

    return ox.Quad(name(quad.subject), quad.predicate, name(quad.object))


def path_of(folder: Path, node: Any) -> Path:
    """The file that a manifest names, beside it."""
    return folder / unquote(urlparse(str(node)).path).rpartition("/")[2]


async def answer(query: str, endpoints: dict[str, str], default: list[Path], data: dict[str, Path]) -> Any:
    """The answer through the planner: `endpoints` maps IRIs to domains."""
    for iri, domain in endpoints.items():
        query = query.replace(f"<{iri}>", f"<{domain_node(domain)}>")
    asked = Endpoints({domain: [data[iri]] for iri, domain in endpoints.items()})
    own = [quad for file in default for quad in ox.parse(path=str(file))]
    members = list(endpoints.values())
    cards = {d: decode_card(d, card_of(d, store)) for d, store in asked.stores.items()}
    reading = read(query, members)
    # Data may name endpoints, for SERVICE ?variable: there, too, they are the domains that stand for them.
    nodes = {ox.NamedNode(iri): ox.NamedNode(domain_node(domain)) for iri, domain in endpoints.items()}
    triples = [
        (nodes.get(q.subject, q.subject), q.predicate, nodes.get(q.object, q.object)) for q in map(named, own)
    ]
    seen = SeenBoundary(Facts(triples), {}, cards)
    gathered = Gathered(frozenset())  # a case's data speak of whatever they like
    deadline = asyncio.get_running_loop().time() + 60.0
    parts = {domain: Part(domain) for domain in members}
    desk = Desk(asked, parts, asker="", deadline=deadline)
    # Outside of SERVICE a case asks its default graph, and no endpoint.
    execution = Execution(reading.needs, Sources(cards, seen.card), desk, seen, gathered)
    await execution.run()
    store = ox.Store()
    for domain, said in gathered.triples.items():
        graph = ox.NamedNode(domain_node(domain)) if domain else ox.DefaultGraph()
        store.extend(ox.Quad(*triple, graph) for triple in said)
    return store.query(reading.guarded.text), asked.requests


def solutions(read_: Any, renamed: Mapping[str, str]) -> Any:
    """Solutions to compare: blank nodes alike, domains under the names of their endpoints."""
    if isinstance(read_, ox.QueryBoolean):
        return bool(read_)
    names = [name.value for name in read_.variables]

    def shown(term: Any) -> str:
        blank = isinstance(term, ox.BlankNode) or term.value.startswith("urn:blank:")
        return "_:" if blank else renamed.get(str(term), str(term))

    return sorted(
        sorted((n, shown(term)) for n, term in zip(names, row, strict=True) if term is not None)
        for row in read_
    )


def run(manifest: Path) -> dict[str, Any]:
    """Every case of a manifest."""
    graph = Graph()
    graph.parse(manifest, format="json-ld" if manifest.suffix == ".jsonld" else "turtle")
    cases = []
    for case in sorted(graph.subjects(RDF.type, MF.QueryEvaluationTest), key=str):
        action = graph.value(case, MF.action)
        query = path_of(manifest.parent, graph.value(action, QT.query)).read_text(encoding="utf-8")
        data = {}
        for service in graph.objects(action, QT.serviceData):
            endpoint = str(graph.value(service, QT.endpoint))
            data[endpoint] = path_of(manifest.parent, graph.value(service, QT.data))
        default = [path_of(manifest.parent, node) for node in graph.objects(action, QT.data)]
        result = path_of(manifest.parent, graph.value(case, MF.result))
        cases.append(one(str(graph.value(case, MF.name)), query, data, default, result))
    passed = sum(case["passed"] for case in cases)
    return {
        "benchmark": "sparql_service",
        "cases": len(cases),
        "passed": passed,
        "deviations": [case for case in cases if not case["passed"]],
        "requests": {case["name"]: case["requests"] for case in cases},
    }


def one(name: str, query: str, data: dict[str, Path], default: list[Path], result: Path) -> dict[str, Any]:
    """One case."""
    endpoints = {iri: f"endpoint{number}" for number, iri in enumerate(sorted(data))}
    renamed = {f"<{domain_node(domain)}>": f"<{iri}>" for iri, domain in endpoints.items()}
    try:
        found, requests = asyncio.run(answer(query, endpoints, default, data))
        expected = ox.parse_query_results(path=str(result), format=_FORMATS[result.suffix])
        told, wanted = solutions(found, renamed), solutions(expected, {})
    except TwinError as error:
        return {"name": name, "passed": False, "requests": 0, "reason": str(error)}
    reason = "" if told == wanted else f"found {told}, expected {wanted}"
    return {"name": name, "passed": told == wanted, "requests": requests, "reason": reason}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.ttl or manifest.jsonld")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.manifest), indent=2))


if __name__ == "__main__":
    main()
