"""The SPARQL 1.1 protocol over HTTP, in front of a real agent's face: forms, refusals, limits, health."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyoxigraph as ox
import pytest
import pytest_asyncio
from graph_twin import CELLS, serving, serving_http

from domain_twin.errors import ConfigError
from domain_twin.semantic.workers import PoolLimits
from twin_api.negotiation import best
from twin_api.server import run_api

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
SELECT = "SELECT ?n { ?c a ndt:Cell ; ndt:name ?n }"
ENDLESS = "SELECT (COUNT(*) AS ?n) { " + " ".join(f"?a{n} ?b{n} ?c{n} ." for n in range(8)) + " }"
FORM = {"content-type": "application/x-www-form-urlencoded"}
DIRECT = {"content-type": "application/sparql-query"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    folder = tmp_path_factory.mktemp("twin")
    async with serving(folder, PoolLimits(timeout_s=5.0)) as twin, serving_http(twin) as client:
        yield client


async def test_a_query_is_answered_each_way_it_may_be_sent(http: httpx.AsyncClient) -> None:
    answers = [
        await http.get("/sparql", params={"query": SELECT}),
        await http.get("/sparql/", params={"query": SELECT}),
        await http.post("/sparql", data={"query": SELECT}),
        await http.post("/sparql", content=SELECT, headers=DIRECT),
        await http.post(
            "/sparql", content=SELECT, headers={"content-type": "application/sparql-query; charset=UTF-8"}
        ),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert {len(answer.json()["results"]["bindings"]) for answer in answers} == {CELLS}
    assert answers[0].headers["content-type"] == "application/sparql-results+json"
    assert answers[0].headers["fedtwin-rows"] == str(CELLS)
    assert "fedtwin-stopped-by" not in answers[0].headers
    assert (await http.head("/sparql", params={"query": SELECT})).content == b""


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        (SELECT, "*/*", "application/sparql-results+json"),
        (SELECT, "application/sparql-results+xml", "application/sparql-results+xml"),
        (SELECT, "text/csv", "text/csv; charset=utf-8"),
        (SELECT, "text/html, text/tab-separated-values;q=0.5", "text/tab-separated-values; charset=utf-8"),
        (SELECT, "application/json", "application/json"),
        (SELECT, "text/csv;q=0.1, application/*;q=0.9", "application/sparql-results+json"),
        ("ASK {}", "text/csv;q=1, application/sparql-results+xml;q=0.1", "application/sparql-results+xml"),
        ("CONSTRUCT WHERE { ?c a ndt:Cell }", "", "text/turtle; charset=utf-8"),
        ("CONSTRUCT WHERE { ?c a ndt:Cell }", "application/n-triples", "application/n-triples"),
        (
            "# ask\nPREFIX select: <urn:> CONSTRUCT WHERE { ?c a ndt:Cell }",
            "application/ld+json",
            "application/ld+json",
        ),
    ],
)
async def test_the_answer_has_the_form_that_was_asked_for(
    http: httpx.AsyncClient, query: str, accept: str, content_type: str
) -> None:
    answer = await http.get("/sparql", params={"query": query}, headers={"accept": accept})

    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    match content_type.partition(";")[0]:
        case "application/sparql-results+xml":
            ET.fromstring(answer.content)
        case kind if kind.endswith("json"):
            json.loads(answer.content)
        case "text/turtle":
            assert len(list(ox.parse(answer.content, format=ox.RdfFormat.TURTLE))) == CELLS
        case "text/csv":
            assert answer.text.splitlines()[0] == "n"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "sentence"),
    [
        (
            "GET",
            "?query=SELECT%20*%20%7B%20%3Fs%20%3Fp%20%7D",
            {},
            "",
            400,
            "line 1, column 18: '}' cannot stand here",
        ),
        (
            "GET",
            "?query=SELECT%20*%20%7B%20SERVICE%20%3Curn:x%3E%20%7B%7D%7D",
            {},
            "",
            400,
            "SERVICE is refused",
        ),
        ("GET", "?query=ASK%20%7B%7D&query=ASK%20%7B%7D", {}, "", 400, "query is given 2 times"),
        ("GET", "?query=ASK%20%7B%7D&default-graph-uri=urn:x", {}, "", 400, "default-graph-uri is refused"),
        ("GET", "?query=ASK%20%7B%7D&named-graph-uri=urn:x", {}, "", 400, "named-graph-uri is refused"),
        (
            "GET",
            "?qeury=ASK%20%7B%7D",
            {},
            "",
            400,
            "parameter 'qeury' is unknown; there are max-rows, query",
        ),
        ("GET", "?require=all", {}, "", 400, "no query is given"),
        ("GET", "?query=ASK%20%7B%7D&max-rows=many", {}, "", 400, "max-rows and timeout-s are numbers"),
        ("GET", "?query=%FF", {}, "", 400, "not percent-encoded UTF-8"),
        ("GET", "?update=CLEAR%20ALL", {}, "", 400, "updates are not accepted"),
        ("POST", "", FORM, "update=CLEAR%20ALL", 400, "updates are not accepted"),
        (
            "POST",
            "",
            {"content-type": "application/sparql-update"},
            "CLEAR ALL",
            415,
            "updates are not accepted",
        ),
        (
            "POST",
            "",
            {"content-type": "text/plain"},
            "ASK {}",
            415,
            "Content-Type text/plain: POST `query` in a form",
        ),
        ("POST", "", {}, "ASK {}", 415, "Content-Type is missing"),
        (
            "POST",
            "",
            {"content-type": "application/sparql-query; charset=utf-16"},
            "ASK {}",
            415,
            "charset utf-16",
        ),
        ("POST", "", DIRECT, b"ASK { ?s ?p '\xff' }", 400, "not UTF-8 (octet 13)"),
        ("POST", "?query=ASK%20%7B%7D", DIRECT, "ASK {}", 400, "one in the body; send one"),
        ("POST", "", FORM, "", 400, "no query is given"),
        ("POST", "", DIRECT, "x" * 300_000, 413, "at most 262144 bytes"),
        (
            "GET",
            "?query=ASK%20%7B%7D&view=nobody",
            {},
            "",
            404,
            "no view of an agreement 'nobody' is open; open are: transit",
        ),
        ("PUT", "?query=ASK%20%7B%7D", {}, "", 405, ""),
        ("GET", "?query=ASK%20%7B%7D", {"accept": "text/csv"}, "", 406, "an answer of this form is there as"),
        ("GET", "", {"accept": "text/csv"}, "", 406, "the service description is there as text/turtle"),
        ("GET", "?query=ASK%20%7B%7D", {"host": "twin.example"}, "", 403, "ask by a loopback address"),
        (
            "GET",
            "?query=ASK%20%7B%7D",
            {"origin": "https://page.example"},
            "",
            403,
            "web pages of other hosts",
        ),
        ("GET", "?query=ASK%20%7B%7D", {"origin": "null"}, "", 403, "web pages of other hosts"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_sentence(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    headers: dict[str, str],
    body: str | bytes,
    status: int,
    sentence: str,
) -> None:
    answer = await http.request(method, f"/sparql{path}", headers=headers, content=body)

    assert answer.status_code == status
    assert sentence in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_limits_are_told_in_headers(http: httpx.AsyncClient) -> None:
    cut = await http.get("/sparql", params={"query": "SELECT * { ?s ?p ?o }", "max-rows": "3"})
    all_ = await http.get("/sparql", params={"query": SELECT, "max-rows": str(1 << 40)})
    assert all_.headers["fedtwin-rows"] == str(CELLS)
    stopped = await http.get("/sparql", params={"query": ENDLESS, "timeout-s": "0.2"})

    assert (len(cut.json()["results"]["bindings"]), cut.headers["fedtwin-stopped-by"]) == (
        3,
        "the limit of 3 rows",
    )
    assert (stopped.status_code, stopped.headers["fedtwin-stopped-by"]) == (200, "the time limit of 0.2 s")


async def test_a_view_is_asked_as_its_peer_sees_it(http: httpx.AsyncClient) -> None:
    answer = await http.get("/sparql", params={"query": SELECT, "view": "transit"})
    graph = await http.get("/sparql", params={"query": "ASK { GRAPH ?g { ?s ?p ?o } }", "view": "transit"})

    assert [row["n"]["value"] for row in answer.json()["results"]["bindings"]] == ['cell "0" é']
    assert (graph.status_code, "a view is one graph" in graph.text) == (400, True)


@pytest.mark.parametrize(
    "accept", ["", "application/n-triples", "application/ld+json", "application/rdf+xml"]
)
async def test_the_service_describes_itself(http: httpx.AsyncClient, accept: str) -> None:
    answer = await http.get("/sparql", headers={"accept": accept})

    kind = {
        "": ox.RdfFormat.TURTLE,
        "application/n-triples": ox.RdfFormat.N_TRIPLES,
        "application/ld+json": ox.RdfFormat.JSON_LD,
        "application/rdf+xml": ox.RdfFormat.RDF_XML,
    }[accept]
    found = {
        (quad.predicate.value.rpartition("#")[2], str(quad.object))
        for quad in ox.parse(answer.content, format=kind)
    }
    assert ("endpoint", f"<{http.base_url}/sparql>".replace("//sparql", "/sparql")) in found
    assert ("supportedLanguage", "<http://www.w3.org/ns/sparql-service-description#SPARQL11Query>") in found
    assert ("resultFormat", "<http://www.w3.org/ns/formats/SPARQL_Results_JSON>") in found


async def test_health_says_whether_the_twin_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as twin, serving_http(twin) as http:
        alive = await http.get("/healthz")
        assert (alive.status_code, alive.json()["status"]) == (200, "alive")
        await twin._channel.close()  # type: ignore[union-attr]
        unready = await http.get("/sparql", params={"query": "ASK {}"})

    assert unready.status_code in (500, 503)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "a/b"),
        ("*/*", "a/b"),
        ("a/c", "a/c"),
        ("a/*;q=0.5, a/c", "a/c"),
        ("a/b;q=0, */*", "a/c"),
        ("a/c;q=0.9, a/b;q=0.9", "a/b"),
        ("A/C ; Q=1", "a/c"),
        ("x/y", None),
        ("a/b;q=nonsense", None),
        (",,;;", None),
    ],
)
async def test_accept_is_read_as_rfc_9110_has_it(accept: str, chosen: str | None) -> None:
    assert best(accept, ["a/b", "a/c"]) == chosen


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"])
async def test_other_machines_are_not_served(address: str) -> None:
    with pytest.raises(ConfigError, match=r"other machines could reach it.*listen on 127\.0\.0\.1"):
        await run_api("", listen=address)


async def test_an_address_that_is_none_or_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'localhost' is not host:port"):
        await run_api("", listen="localhost")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"cannot listen there \(Address already in use\)"):
            await run_api("", listen=address)


async def test_the_command_serves_tells_where_and_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as twin:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "federation.cli", "api", "--at", str(tmp_path / "s"), "--listen", "127.0.0.1:0"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            assert process.stderr
            async for line in process.stderr:
                if told := re.search(
                    r"serving (http://127\.0\.0\.1:\d+)/sparql, asking (\S+);", line.decode()
                ):
                    break
            else:
                raise AssertionError("it ended")
            async with httpx.AsyncClient(base_url=told.group(1), timeout=30) as http:
                answer = await http.get("/sparql", params={"query": SELECT})
        finally:
            process.send_signal(signal.SIGTERM)
        await process.stderr.read()
        assert await process.wait() == 0

    assert told.group(2) == twin.address
    assert len(answer.json()["results"]["bindings"]) == CELLS
