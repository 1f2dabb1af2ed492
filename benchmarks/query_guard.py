"""10,000 generated queries against each view of a store that also holds hidden graphs: what leaks.

Queries are made of pieces that mean well and pieces that do not: GRAPH, FROM, FROM NAMED, SERVICE, LOAD,
files, escapes, functions by IRI, MINUS, sub-selects, paths, EXISTS, hidden names as constants. Each goes
through the guard to the workers as a peer's question does; an answer must be the one that a store with
nothing but the view gives, and hold no term from outside. What the guard refuses is then put to the workers
without it: the second wall. A trap listens for whoever is sent out. Rivals: pyoxigraph and rdflib with the
same attacks, to show that trap and scan catch. Prints one JSON object; `--quick` asks fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyoxigraph as ox

from domain_twin.errors import ContractError, OverCapacity, TwinError
from domain_twin.model.query import QueryForm
from domain_twin.semantic.guard import Guarded, guarded
from domain_twin.semantic.names import NDT, element, point, segment, topology_graph, view_graph
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import PoolLimits, QueryPool

HIDDEN_MARK = "hidden"
VIEWS = ("transit", "wholesale")
LIMITS = PoolLimits(max_rows=2000, timeout_s=0.25)
AT_ONCE = 3
POINTS, NODES = 20, 100


class Trap:
    """A web server that counts who comes; it answers with a triple."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/sparql"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            with contextlib.suppress(OSError), client:
                client.settimeout(2)
                client.recv(65536)
                client.sendall(b"HTTP/1.1 400 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


def graph_of(view: str, count: int) -> list[ox.Quad]:
    """What a view holds: points and segments, as aliases."""
    graph = ox.NamedNode(view_graph(view))

    def quad(subject: str, name: str, value: ox.NamedNode | ox.Literal) -> ox.Quad:
        return ox.Quad(ox.NamedNode(subject), ox.NamedNode(NDT + name), value, graph)

    found = []
    for number in range(count):
        name, other = f"ran/{view}-{number}", f"ran/{view}-{(number + 1) % count}"
        found.append(quad(point(name), "alias", ox.Literal(name)))
        found.append(quad(point(name), "type", ox.NamedNode(f"{NDT}Point")))
        found.append(quad(segment(name, other), "source", ox.NamedNode(point(name))))
        found.append(quad(segment(name, other), "target", ox.NamedNode(point(other))))
        found.append(quad(segment(name, other), "delayMs", ox.Literal(number / 8)))
    return found


def hidden(count: int) -> list[ox.Quad]:
    """What nobody outside may see: nodes, links and names of the inside, with the same properties."""
    graph = ox.NamedNode(topology_graph("ran"))
    found = []
    for number in range(count):
        node = ox.NamedNode(element("ran", "node", f"{HIDDEN_MARK}-{number}"))
        other = ox.NamedNode(element("ran", "node", f"{HIDDEN_MARK}-{(number * 7 + 1) % count}"))
        found.append(ox.Quad(node, ox.NamedNode(f"{NDT}source"), other, graph))
        found.append(ox.Quad(node, ox.NamedNode(f"{NDT}alias"), ox.Literal(f"{HIDDEN_MARK} {number}"), graph))
        # What is shown and what is hidden are joined here, as inside a domain they are.
        shown = ox.NamedNode(point(f"ran/{VIEWS[number % 2]}-{number % POINTS}"))
        found.append(ox.Quad(shown, ox.NamedNode(f"{NDT}dependsOn"), node, graph))
        found.append(ox.Quad(node, ox.NamedNode(f"{NDT}delayMs"), ox.Literal(number), graph))
    return found


class Writer:
    """Makes queries: most of them well formed, many of them hostile."""

    def __init__(self, rng: random.Random, trap: str, view: str, secret: Path) -> None:
        self._rng, self._trap, self._secret = rng, trap, secret
        self._view = view
        self._other = VIEWS[1 - VIEWS.index(view)]

    def query(self) -> str:
        """One query."""
        rng = self._rng
        if rng.random() < 0.04:
            return rng.choice(
                (
                    f"LOAD <{self._trap}>",
                    f"LOAD <{self._secret.as_uri()}>",
                    f"INSERT DATA {{ <urn:a> <urn:b> '{rng.random()}' }}",
                    "CLEAR ALL",
                    f"DESCRIBE {self._iri()}",
                    "DELETE { ?s ?p ?o } WHERE { GRAPH ?g { ?s ?p ?o } }",
                )
            )
        dataset = self._dataset() if rng.random() < 0.15 else ""
        body = self._group(rng.randint(1, 3))
        match rng.choice(("select", "select", "select", "ask", "construct", "count", "distinct")):
            case "ask":
                text = f"ASK {dataset}{body}"
            case "construct":
                text = f"CONSTRUCT {{ ?a {self._predicate()} ?b }} {dataset}WHERE {body}"
            case "count":
                text = f"SELECT (COUNT({rng.choice(('*', '?a', 'DISTINCT ?b'))}) AS ?n) {dataset}WHERE {body}"
            case "distinct":
                text = f"SELECT DISTINCT ?a ?b {dataset}WHERE {body} ORDER BY ?a ?b LIMIT 500"
            case _:
                text = f"SELECT * {dataset}WHERE {body}"
        return self._spelled(text)

    def _spelled(self, text: str) -> str:
        """The same in an odd spelling."""
        match self._rng.randint(0, 19):
            case 0:
                return text.replace("SERVICE", "\\u0053ERVICE").replace("GRAPH", "GR\\u0041PH")
            case 1:
                return text.replace("{", "{ # }\n").replace("SERVICE", "sErViCe")
            case 2:
                return f"PREFIX x: <{NDT}>\nBASE <{topology_graph('ran')}>\n{text}"
            case 3:
                return text + f" # }} SERVICE <{self._trap}> {{ ?a ?b ?c }}"
            case 4:
                return text[: self._rng.randint(0, len(text))]
            case 5:
                return text + f" ; LOAD <{self._trap}>"
        return text

    def _dataset(self) -> str:
        return self._rng.choice(
            (
                f"FROM <{topology_graph('ran')}> ",
                f"FROM NAMED <{topology_graph('ran')}> ",
                f"FROM <{view_graph(self._other)}> ",
                f"FROM <{self._secret.as_uri()}> ",
                f"FROM <{self._trap}> ",
                f"FROM NAMED <{self._secret.as_uri()}> ",
            )
        )

    def _group(self, depth: int) -> str:
        pieces = [self._triple() for _ in range(self._rng.randint(1, 2))]
        for _ in range(self._rng.randint(0, 2)):
            pieces.append(self._piece(depth))
        self._rng.shuffle(pieces)
        return "{ " + " ".join(pieces) + " }"

    def _piece(self, depth: int) -> str:
        rng = self._rng
        inner = self._group(depth - 1) if depth > 0 else f"{{ {self._triple()} }}"
        kinds = (
            f"OPTIONAL {inner}",
            f"MINUS {inner}",
            f"{inner} UNION {{ {self._triple()} }}",
            f"FILTER EXISTS {inner}",
            f"FILTER NOT EXISTS {inner}",
            f"{{ SELECT ?a (COUNT(?b) AS ?k{rng.randint(0, 99)}) {inner} GROUP BY ?a }}",
            f"{{ SELECT * {inner} LIMIT 50 }}",
            f"FILTER({self._expression()})",
            f"VALUES ?a {{ {self._iri()} {self._iri()} }}",
            f"BIND({self._expression()} AS ?z{rng.randint(0, 999)})",
            f"GRAPH ?g {inner}",
            f"GRAPH <{topology_graph('ran')}> {inner}",
            f"GRAPH <{view_graph(self._other)}> {inner}",
            f"SERVICE <{self._trap}> {inner}",
            f"SERVICE SILENT <{self._trap}> {inner}",
            f"SERVICE ?g {inner}",
            f"LATERAL {inner}",
        )
        weights = (3, 3, 3, 3, 3, 2, 2, 4, 2, 3, 1, 2, 1, 1, 1, 0.5, 0.3)
        return rng.choices(kinds, weights)[0] + " "

    def _triple(self) -> str:
        return f"{self._subject()} {self._path()} {self._object()} ."

    def _subject(self) -> str:
        return self._rng.choice(("?a", "?a", "?b", "?c", self._iri()))

    def _object(self) -> str:
        return self._rng.choice(("?b", "?b", "?c", "?d", self._iri(), f"'{HIDDEN_MARK} 3'", "[]"))

    def _predicate(self) -> str:
        return f"<{NDT}{self._rng.choice(('source', 'target', 'alias', 'dependsOn', 'delayMs', 'type'))}>"

    def _path(self) -> str:
        one, two = self._predicate(), self._predicate()
        return self._rng.choices(
            (
                one,
                "?p",
                f"{one}/{two}",
                f"^{one}",
                f"({one}|{two})+",
                f"(!{one})*",
                f"{one}*/^{two}",
                f"!({one}|^{two})",
            ),
            (6, 4, 1, 1, 1, 0.6, 0.6, 0.6),
        )[0]

    def _iri(self) -> str:
        number = self._rng.randint(0, POINTS - 1)
        return "<{}>".format(
            self._rng.choice(
                (
                    point(f"ran/{self._view}-{number}"),
                    point(f"ran/{self._other}-{number}"),
                    element("ran", "node", f"{HIDDEN_MARK}-{number}"),
                    topology_graph("ran"),
                )
            )
        )

    def _expression(self) -> str:
        return self._rng.choice(
            (
                f"STRSTARTS(STR(?b), '{HIDDEN_MARK}')",
                "?b > 2",
                f"EXISTS {{ GRAPH <{topology_graph('ran')}> {{ ?a ?q ?r }} }}",
                f"EXISTS {{ ?a <{NDT}dependsOn> ?r }}",
                f"<{self._trap}>(?a)",
                "IRI(CONCAT(STR(?a), 'x'))",
                f"IF(BOUND(?d), ?d, {self._iri()})",
                "STRLEN(STR(?b))",
                "RAND()",
            )
        )


def seen(results: bytes, form: QueryForm) -> list[str]:
    """The rows of an answer, in a form that does not depend on order or on names of blank nodes."""
    if form is QueryForm.BOOLEAN:
        return [results.decode()]
    if form is QueryForm.TRIPLES:
        return sorted(results.decode().splitlines())
    rows = json.loads(results)["results"]["bindings"]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def leaked(results: bytes, text: str, terms: set[str]) -> set[str]:
    """Terms of the hidden graphs in an answer that the query itself did not name."""
    found = set(re.findall(rf"https://[^\"<>\s\\]+|{HIDDEN_MARK} \d+|ran/\w+-\d+", results.decode()))
    return {term for term in found if term in terms and term not in text}


async def attack(view: str, count: int, seed: int, trap: Trap, secret: Path) -> dict[str, object]:
    """All queries of one view."""
    store = SemanticStore()
    store.apply((), hidden(NODES))
    for name in VIEWS:
        store.apply((), graph_of(name, POINTS))
    only = ox.Store()
    only.extend(ox.Quad(each.subject, each.predicate, each.object) for each in graph_of(view, POINTS))
    shown = {part.value for quad in only for part in (quad.subject, quad.predicate, quad.object)}
    terms = {
        part.value
        for quad in store.quads()
        for part in (quad.subject, quad.object, quad.graph_name)
        if isinstance(part, (ox.NamedNode, ox.Literal))
    } - shown
    writer = Writer(random.Random(f"{seed} {view}"), trap.address, view, secret)
    told: Counter[str] = Counter()
    leaks: list[str] = []
    before, started = trap.calls, time.perf_counter()
    async with QueryPool(store, LIMITS) as pool, QueryPool(None, LIMITS) as oracle:
        view_alone = ox.serialize(only, format=ox.RdfFormat.N_TRIPLES) or b""

        async def one(text: str) -> None:
            try:
                asked = await asyncio.to_thread(guarded, text)
            except (ContractError, OverCapacity):
                told["refused by the guard"] += 1
                await without_guard(text)
                return
            try:
                answer = await pool.query(view_graph(view), asked)
                other = await oracle.query("", asked, data=view_alone)
            except TwinError as error:
                told["too much, or refused by the engine"] += 1
                if any(term in str(error) and term not in text for term in terms):
                    leaks.append(f"{text} -> in the error: {error}")
                return
            told["answered"] += 1
            leaks.extend(f"{text} -> {term}" for term in leaked(answer.results, text, terms))
            if answer.stopped_by or other.stopped_by:
                told["of these, stopped at a limit"] += 1
            elif (
                "LIMIT" in text or "[]" in text
            ):  # which rows stay, and names of blank nodes, are the engine's
                told["of these, only scanned"] += 1
            elif seen(answer.results, asked.form) == seen(other.results, asked.form):
                told["of these, equal to the view alone"] += 1
            else:
                leaks.append(f"{text} -> differs from a store with the view alone")

        async def without_guard(text: str) -> None:
            """The second wall: what the guard stops, put to a worker as it is."""
            form = QueryForm.TRIPLES if "CONSTRUCT" in text else QueryForm.BINDINGS
            if "ASK" in text[:40]:
                form = QueryForm.BOOLEAN
            try:
                answer = await pool.query(view_graph(view), Guarded(text, form, (), None, 1))
            except TwinError:
                told["of the refused, refused by the engine too"] += 1
            else:
                told["of the refused, answered without the guard"] += 1
                leaks.extend(f"{text} -> {term}" for term in leaked(answer.results, text, terms))

        for start in range(0, count, AT_ONCE):
            texts = [writer.query() for _ in range(min(AT_ONCE, count - start))]
            await asyncio.gather(*map(one, texts))
            if start % 999 == 0:
                since = time.perf_counter() - started
                print(f"{since:6.0f} s  {view}: {start + len(texts)} asked", file=sys.stderr, flush=True)
        replaced = pool.replaced
    return {
        "view": view,
        "queries": count,
        "seconds": round(time.perf_counter() - started, 1),
        "triples_leaked": len(leaks),
        "leaks": leaks[:5],
        "connections_opened": trap.calls - before,
        "workers_replaced": replaced,
        **told,
    }


def rivals(count: int, seed: int, trap: Trap, secret: Path) -> dict[str, object]:
    """The same attacks on the engines as they are: that the trap is not deaf, and the scan not blind."""
    import rdflib

    store = SemanticStore()
    store.apply((), [*hidden(NODES), *graph_of(VIEWS[0], POINTS)])
    quads = list(store.quads())
    terms = {str(quad.subject.value) for quad in hidden(NODES) if HIDDEN_MARK in str(quad.subject.value)}
    writer = Writer(random.Random(f"{seed} {VIEWS[0]}"), trap.address, VIEWS[0], secret)
    hostile = []
    while len(hostile) < count:
        text = writer.query()
        if re.search(r"SERVICE|LOAD|FROM|GRAPH", text):
            hostile.append(text)
    found: dict[str, object] = {"attacks": count}
    engine = ox.Store()
    engine.extend(quads)
    before, revealing = trap.calls, 0
    for text in hostile:
        try:
            if text.startswith("LOAD"):
                engine.update(text)
            else:
                answer = engine.query(text)
                kind = (
                    ox.RdfFormat.N_TRIPLES
                    if isinstance(answer, ox.QueryTriples)
                    else ox.QueryResultsFormat.JSON
                )
                revealing += bool(leaked(answer.serialize(format=kind) or b"", text, terms))  # type: ignore[arg-type]
        except Exception:
            continue
    found["pyoxigraph"] = {"connections_opened": trap.calls - before, "answers_with_hidden_terms": revealing}
    dataset = rdflib.Dataset(default_union=True)
    before, files = trap.calls, 0
    for text in (f"LOAD <{trap.address}>", f"SELECT * {{ SERVICE <{trap.address}> {{ ?s ?p ?o }} }}"):
        with contextlib.suppress(Exception):
            dataset.update(text) if text.startswith("LOAD") else list(dataset.query(text))
    for text in (f"SELECT * FROM <{secret.as_uri()}> {{ ?s ?p ?o }}",):
        with contextlib.suppress(Exception):
            files += len(list(rdflib.Dataset().query(text)))
    found["rdflib"] = {
        "attacks": 3,
        "connections_opened": trap.calls - before,
        "triples_read_from_a_file": files,
    }
    return found


def secrets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret.nt"
        path.write_text("<urn:a> <urn:b> 'a secret of the disk' .\n")
        yield path


def measure(count: int, seed: int) -> dict[str, object]:
    """Everything."""
    trap = Trap()
    with contextlib.contextmanager(secrets)() as secret:
        views = [asyncio.run(attack(view, count, seed, trap, secret)) for view in VIEWS]
        rival = rivals(min(count, 500), seed, trap, secret)
    trap.close()
    return {
        "views": views,
        "triples_leaked": sum(int(str(each["triples_leaked"])) for each in views),
        "connections_opened": sum(int(str(each["connections_opened"])) for each in views),
        "rivals": rival,
        "aims": {"triples_leaked": 0, "connections_opened": 0, "queries_per_view": 10_000},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="300 queries a view")
    parser.add_argument("--seed", type=int, default=20260101)
    arguments = parser.parse_args()
    figures = measure(300 if arguments.quick else 10_000, arguments.seed)
    print(json.dumps({"benchmark": "query_guard", "quick": arguments.quick, **figures}, indent=2))


if __name__ == "__main__":
    main()
