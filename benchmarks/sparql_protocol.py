"""The W3C's SPARQL 1.1 protocol tests against our endpoint: what passes, and every deviation with its reason.

    python -m benchmarks.sparql_protocol --manifest rdf-tests/sparql/sparql11/protocol/manifest.ttl

The manifest is read from disk (vocabularies mf:, ht:, cnt:); each request is sent as it says. Deviations that
we mean (no updates, no dataset of the asker's choice, no DESCRIBE) are named; a test with a dataset in its
parameters is sent once more without them. Whatever deviates without a reason counts as unexplained. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyoxigraph as ox

sys.path.insert(0, str(Path(__file__).parent))

from _graph_twin import serving, serving_http

from domain_twin.semantic.store import SemanticStore

HT, CNT = "http://www.w3.org/2011/http#", "http://www.w3.org/2011/content#"
MF = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
FORMATS = {
    "boolean": ("application/sparql-results+json", "application/sparql-results+xml"),
    "tabular": (
        "application/sparql-results+json",
        "application/sparql-results+xml",
        "text/csv",
        "text/tab-separated-values",
    ),
    "RDF": ("text/turtle", "application/n-triples", "application/ld+json", "application/rdf+xml"),
}
DATASET = ("default-graph-uri", "named-graph-uri")
REASONS = (
    (
        lambda r: "update" in r.kind or r.parameter("update"),
        "updates are not accepted: the twin follows its devices",
    ),
    (lambda r: any(r.parameter(name) for name in DATASET), "which graphs are asked is decided by who asks"),
    (lambda r: "FROM" in r.body, "which graphs are asked is decided by who asks"),
    (lambda r: "DESCRIBE" in r.body, "DESCRIBE is refused: its answer is not defined"),
)


@dataclass(frozen=True)
class Request:
    """One request of a test, and what it expects."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    encoding: str = "UTF-8"
    statuses: tuple[str, ...] = ()
    format: str = ""
    boolean: str = ""

    @property
    def kind(self) -> str:
        return dict(self.headers).get("content-type", "")

    def parameter(self, name: str) -> bool:
        """Whether the address or the form has this parameter."""
        pairs = parse_qsl(urlsplit(self.path).query)
        pairs += parse_qsl(self.body) if "urlencoded" in self.kind else []
        return any(key == name or f"{name}=" in value for key, value in pairs)

    def without_dataset(self) -> Request:
        """The same without a dataset of its choice."""
        parts = urlsplit(self.path)
        kept = [pair for pair in parse_qsl(parts.query) if pair[0] not in DATASET]
        return replace(self, path=parts._replace(query=urlencode(kept)).geturl())


@dataclass
class Test:
    """One test of the manifest."""

    name: str
    requests: list[Request] = field(default_factory=list)


class Manifest:
    """A manifest, as triples."""

    def __init__(self, path: Path) -> None:
        self._store = ox.Store()
        self._store.load(path=str(path), format=ox.RdfFormat.TURTLE, base_iri=path.resolve().as_uri())

    def tests(self) -> list[Test]:
        """Its tests with their requests, in its order."""
        found = []
        for quad in self._store.quads_for_pattern(None, ox.NamedNode(MF + "entries"), None, None):
            for entry in self._list(quad.object):
                test = Test(str(entry).strip("<>").rpartition("#")[2])
                for action in self._objects(entry, MF + "action"):
                    for requests in self._objects(action, HT + "requests"):
                        test.requests += (self._request(node) for node in self._list(requests))
                found.append(test)
        return found

    def _request(self, node: ox.NamedNode) -> Request:
        headers = tuple(
            (self._value(header, HT + "fieldName").lower(), self._value(header, HT + "fieldValue"))
            for headers in self._objects(node, HT + "headers")
            for header in self._list(headers)
        )
        bodies = list(self._objects(node, HT + "body"))
        answers = list(self._objects(node, HT + "resp"))
        return Request(
            method=self._value(node, HT + "methodName"),
            path=self._value(node, HT + "absolutePath"),
            headers=headers,
            body=self._value(bodies[0], CNT + "chars") if bodies else "",
            encoding=(self._value(bodies[0], CNT + "characterEncoding") if bodies else "") or "UTF-8",
            statuses=tuple(
                each.value.rpartition("StatusCode")[2]
                for answer in answers
                for each in self._objects(answer, MF + "expectedStatus")
            ),
            format="".join(self._value(answer, MF + "expectedFormat") for answer in answers),
            boolean="".join(self._value(answer, MF + "expectedBoolean") for answer in answers),
        )

    def _objects(self, subject: ox.NamedNode, predicate: str) -> Iterator[ox.NamedNode]:
        for quad in self._store.quads_for_pattern(subject, ox.NamedNode(predicate), None, None):
            yield quad.object  # type: ignore[misc]

    def _value(self, subject: ox.NamedNode, predicate: str) -> str:
        return next((each.value for each in self._objects(subject, predicate)), "")

    def _list(self, node: ox.NamedNode) -> Iterator[ox.NamedNode]:
        while node != ox.NamedNode(RDF + "nil"):
            yield from self._objects(node, RDF + "first")
            node = next(self._objects(node, RDF + "rest"), ox.NamedNode(RDF + "nil"))


def send(port: int, request: Request) -> tuple[int, str, bytes]:
    """Status, media type and body of the answer, to exactly this request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    path = request.path.replace("/sparql/", "/sparql", 1)
    body = request.body.encode(request.encoding)
    try:
        connection.putrequest(request.method, path)
        for name, value in request.headers:
            connection.putheader(name, value)
        if body or request.method != "GET":
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return (
            answer.status,
            (answer.headers.get_content_type() if answer.status < 300 else ""),
            answer.read(),
        )
    finally:
        connection.close()


def wrong(request: Request, status: int, media_type: str, body: bytes) -> str:
    """What about the answer is not as expected; empty: nothing."""
    if not any(str(status)[0] == expected[0] for expected in request.statuses):
        said = body[:200].decode(errors="replace").strip()
        return f"status {status}, expected {' or '.join(sorted(request.statuses))}: {said}"
    if request.format and media_type not in FORMATS[request.format]:
        return f"media type {media_type}, expected one of {', '.join(FORMATS[request.format])}"
    if request.boolean and boolean(media_type, body) != request.boolean:
        return f"expected {request.boolean}, found {boolean(media_type, body)}"
    return ""


def boolean(media_type: str, body: bytes) -> str:
    if media_type.endswith("json"):
        return str(json.loads(body)["boolean"]).lower()
    return ET.fromstring(body).findtext("{http://www.w3.org/2005/sparql-results#}boolean") or ""


async def measure(manifest: Path) -> dict[str, object]:
    """Run the tests of a manifest."""
    tests = Manifest(manifest).tests()
    passed: list[str] = []
    deviations: list[dict[str, object]] = []
    async with serving(SemanticStore()) as twin, serving_http(twin) as port:
        for test in tests:
            problem, of = await outcome(port, test.requests)
            if not problem:
                passed.append(test.name)
                continue
            reason = next((text for fits, text in REASONS if fits(of)), "")
            deviation: dict[str, object] = {
                "test": test.name,
                "found": problem,
                "reason": reason or "NOT EXPLAINED",
            }
            if any(of.parameter(name) for name in DATASET):
                again, _ = await outcome(port, [each.without_dataset() for each in test.requests])
                deviation["passes_without_its_dataset"] = not again
            deviations.append(deviation)
    unexplained = sum(each["reason"] == "NOT EXPLAINED" for each in deviations)
    return {
        "tests": len(tests),
        "passed": len(passed),
        "passed_without_their_dataset": sum(bool(d.get("passes_without_its_dataset")) for d in deviations),
        "deviations": deviations,
        "unexplained": unexplained,
        "aims": {"unexplained": 0},
    }


async def outcome(port: int, requests: Sequence[Request]) -> tuple[str, Request]:
    """What is wrong with the answers (empty: nothing), and to which request."""
    for request in requests:
        problem = wrong(request, *await asyncio.to_thread(send, port, request))
        if problem:
            return problem, request
    return "", requests[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, help="manifest.ttl of the protocol tests")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    arguments = parser.parse_args()
    if arguments.manifest is None:
        print(json.dumps({"benchmark": "sparql_protocol", "skipped": "no --manifest FILE is given"}))
        return
    if not arguments.manifest.is_file():
        parser.error(
            f"{arguments.manifest}: no such file; it is in the W3C's rdf-tests, sparql/sparql11/protocol"
        )
    print(json.dumps({"benchmark": "sparql_protocol", **asyncio.run(measure(arguments.manifest))}, indent=2))


if __name__ == "__main__":
    main()
