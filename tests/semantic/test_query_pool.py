"""Queries in their own processes: real ones, on a real store, stopped, killed, flooded and followed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pyoxigraph as ox
import pytest

from domain_twin.errors import ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.model.query import QueryAnswer, QueryForm
from domain_twin.semantic.guard import Guarded, guarded
from domain_twin.semantic.names import NDT, element, inferred_graph, run_graph, topology_graph, view_graph
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import OPERATOR, PoolLimits, QueryPool, dataset_of

TOPOLOGY, VIEW, OTHER = topology_graph("ran"), view_graph("transit"), view_graph("other")
LIMITS = PoolLimits(max_rows=1000, max_bytes=1 << 20, timeout_s=20.0, memory_bytes=256 << 20)
ENDLESS = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l }"


def quad(subject: str, predicate: str, value: object, graph: str = TOPOLOGY) -> ox.Quad:
    term = ox.NamedNode(str(value)) if str(value).startswith("https:") else ox.Literal(value)  # type: ignore[arg-type]
    return ox.Quad(ox.NamedNode(subject), ox.NamedNode(NDT + predicate), term, ox.NamedNode(graph))


def node(number: int) -> str:
    return element("ran", "node", f"n{number}")


def nodes(count: int = 200) -> Iterable[ox.Quad]:
    for number in range(count):
        yield quad(node(number), "name", f"node {number}")
        yield quad(node(number), "connectedTo", node((number + 1) % count))


@pytest.fixture
def store() -> SemanticStore:
    store = SemanticStore()
    store.apply((), nodes())
    store.apply((), [quad(node(0), "alias", "seen", VIEW), quad(node(1), "alias", "not for you", OTHER)])
    return store


@pytest.fixture
async def pool(store: SemanticStore) -> AsyncIterator[QueryPool]:
    async with QueryPool(store, LIMITS) as pool:
        yield pool
    assert pool.processes == ()


def rows(answer: QueryAnswer) -> list[dict[str, str]]:
    found = json.loads(answer.results)["results"]["bindings"]
    return [{name: term["value"] for name, term in row.items()} for row in found]


def open_files(pid: int) -> list[str]:
    return [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]


def most_files(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))


def busy(pids: Iterable[int]) -> bool:
    """Whether one of the processes runs."""
    return any(Path(f"/proc/{pid}/stat").read_text().split()[2] == "R" for pid in pids)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def test_each_form_is_answered(pool: QueryPool) -> None:
    selected = await pool.query(OPERATOR, guarded("SELECT ?n { <id/ran/node/n3> ndt:name ?n }"))
    asked = await pool.query(OPERATOR, guarded("ASK { ?s ndt:name 'nobody' }"))
    made = await pool.query(OPERATOR, guarded("CONSTRUCT { ?s ndt:label ?n } WHERE { ?s ndt:name ?n }"))

    assert rows(selected) == [{"n": "node 3"}]
    assert (asked.form, json.loads(asked.results)["boolean"]) == (QueryForm.BOOLEAN, False)
    assert (made.rows, made.results.count(b"\n"), made.stopped_by) == (200, 200, "")


async def test_a_view_holds_nothing_of_what_is_beside_it(pool: QueryPool) -> None:
    everything = guarded("SELECT ?s ?p ?o { ?s ?p ?o }")

    seen = await pool.query(VIEW, everything)
    none = await pool.query(view_graph("nobody"), everything)

    assert [row["o"] for row in rows(seen)] == ["seen"]
    assert none.rows == 0
    operators = await pool.query(
        OPERATOR, guarded("SELECT DISTINCT ?g { GRAPH ?g { ?s ?p ?o } }", named_graphs=True)
    )
    assert [row["g"] for row in rows(operators)] == [TOPOLOGY]


BYPASSES = {
    "GRAPH": "SELECT * { GRAPH ?g { ?s ?p ?o } }",
    "GRAPH by name": f"SELECT * {{ GRAPH <{TOPOLOGY}> {{ ?s ?p ?o }} }}",
    "FROM": f"SELECT * FROM <{TOPOLOGY}> {{ ?s ?p ?o }}",
    "FROM NAMED": f"SELECT * FROM NAMED <{TOPOLOGY}> {{ GRAPH ?g {{ ?s ?p ?o }} }}",
    "sub-select": f"SELECT * {{ {{ SELECT * {{ GRAPH <{TOPOLOGY}> {{ ?s ?p ?o }} }} }} }}",
    "path in GRAPH": f"SELECT * {{ GRAPH <{TOPOLOGY}> {{ ?s (!<urn:x>)* ?o }} FILTER(?s != ?o) }}",
    "path": f"SELECT * {{ <{node(0)}> (<{NDT}alias>|<{NDT}connectedTo>|!<urn:x>)+ ?o }}",
    "MINUS": f"SELECT * {{ ?s ?p ?o MINUS {{ GRAPH <{TOPOLOGY}> {{ ?s <{NDT}connectedTo> ?x }} }} }}",
    "NOT EXISTS": f"SELECT * {{ ?s ?p ?o FILTER NOT EXISTS {{ GRAPH <{TOPOLOGY}> {{ ?s <{NDT}connectedTo> ?x }} }} }}",  # noqa: E501
}


@pytest.mark.parametrize("text", BYPASSES.values(), ids=BYPASSES)
async def test_even_without_the_guard_a_view_is_all_there_is(pool: QueryPool, text: str) -> None:
    unguarded = Guarded(text, QueryForm.BINDINGS, (), None, 1)

    answer = await pool.query(VIEW, unguarded)

    values = {value for row in rows(answer) for value in row.values()}
    assert values <= {"seen", node(0), f"{NDT}alias"}
    if "MINUS" in text or "NOT EXISTS" in text:  # what is hidden would take it away
        assert answer.rows == 1


CALLS = {
    "SERVICE": "SELECT * {{ SERVICE <{}> {{ ?s ?p ?o }} }}",
    "SERVICE SILENT": "SELECT * {{ SERVICE SILENT <{}> {{ ?s ?p ?o }} }}",
    "LOAD": "LOAD <{}>",
    "FROM": "SELECT * FROM <{}> {{}}",
}


@pytest.mark.parametrize("text", CALLS.values(), ids=CALLS)
async def test_even_without_the_guard_a_worker_reaches_nobody(pool: QueryPool, text: str) -> None:
    calls: list[object] = []
    trap = await asyncio.start_server(lambda reader, writer: calls.append(writer), "127.0.0.1", 0)
    port = trap.sockets[0].getsockname()[1]
    unguarded = Guarded(text.format(f"http://127.0.0.1:{port}/"), QueryForm.BINDINGS, (), None, 1)

    async with trap:
        with contextlib.suppress(TwinError):
            answer = await pool.query(OPERATOR, unguarded)
            assert rows(answer) in ([], [{}])

    assert calls == []


FILES = {
    "LOAD file": "LOAD <{}>",
    "FROM file": "SELECT * FROM <{}> {{ ?s ?p ?o }}",
    "FROM NAMED file": "SELECT * FROM NAMED <{}> {{ GRAPH ?g {{ ?s ?p ?o }} }}",
    "GRAPH file": "SELECT * {{ GRAPH <{}> {{ ?s ?p ?o }} }}",
    "SERVICE file": "SELECT * {{ SERVICE SILENT <{}> {{ ?s ?p ?o }} }}",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
async def test_even_without_the_guard_a_worker_reads_no_file(
    pool: QueryPool, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret.ttl"
    file.write_text("<urn:secret> <urn:secret> <urn:secret> .")
    unguarded = Guarded(text.format(file.as_uri()), QueryForm.BINDINGS, (), None, 1)

    for dataset in (VIEW, OPERATOR):
        with contextlib.suppress(TwinError):
            assert b"urn:secret" not in (await pool.query(dataset, unguarded)).results

    everything = await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"))
    assert b"urn:secret" not in everything.results


async def test_a_worker_can_open_nothing(pool: QueryPool) -> None:
    await pool.query(OPERATOR, guarded("ASK {}"))
    _, worker = pool.processes

    files = open_files(worker)

    assert most_files(worker) == len(files)
    assert not any("graph" in name or "quads" in name for name in files)


async def test_changes_are_seen_by_the_next_question(pool: QueryPool, store: SemanticStore) -> None:
    count = guarded("SELECT (COUNT(*) AS ?n) { ?s ndt:name ?o }")
    before = rows(await pool.query(OPERATOR, count))
    for number in range(50):
        store.apply(
            [quad(node(number), "name", f"node {number}")], [quad(node(number), "name", f"new {number}")]
        )
    store.apply([quad(node(199), "name", "node 199")], ())
    store.apply((), [quad(node(5), "alias", "also", VIEW)])

    after = rows(await pool.query(OPERATOR, count))
    renamed = await pool.query(OPERATOR, guarded("ASK { ?s ndt:name 'new 49' }"))
    view = await pool.query(VIEW, guarded("SELECT ?a { ?s ndt:alias ?a }"))

    assert (before, after) == ([{"n": "200"}], [{"n": "199"}])
    assert b"true" in renamed.results
    assert sorted(row["a"] for row in rows(view)) == ["also", "seen"]
    store.drop(VIEW)
    assert (await pool.query(VIEW, guarded("SELECT ?a { ?s ndt:alias ?a }"))).rows == 0


async def test_copies_are_equal_to_the_store_after_changes_and_a_new_start(
    pool: QueryPool, store: SemanticStore
) -> None:
    everything = guarded("CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }")
    await pool.query(OPERATOR, everything)
    for number in range(100):
        store.apply([quad(node(number), "name", f"node {number}")], [quad(node(number), "up", number % 2)])

    followed = await pool.query(OPERATOR, everything)
    await pool.renew()
    anew = await pool.query(OPERATOR, everything)

    truth = {f"{each.subject} {each.predicate} {each.object} ." for each in store.quads(graph=TOPOLOGY)}
    assert set(followed.results.decode().splitlines()) == truth == set(anew.results.decode().splitlines())


@pytest.mark.parametrize(
    "text",
    [
        ENDLESS,
        "SELECT (COUNT(*) AS ?n) { ?a (ndt:connectedTo|!ndt:x)* ?b . ?c (ndt:connectedTo|!ndt:y)* ?d }",
        "SELECT ?a { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i FILTER(STRLEN(CONCAT(STR(?a), STR(?d), STR(?g))) < 0) }",
    ],
    ids=["cartesian product", "endless path", "filter that never holds"],
)
async def test_what_never_ends_is_stopped_and_says_so(pool: QueryPool, text: str) -> None:
    answer = await pool.query(OPERATOR, guarded(text), timeout_s=0.3)

    assert (answer.rows, answer.stopped_by) == (0, "the time limit of 0.3 s")
    assert json.loads(answer.results)["head"]["vars"]
    again = await pool.query(OPERATOR, guarded("ASK { ?s ndt:name 'node 1' }"))
    assert b"true" in again.results


async def test_a_stopped_query_is_over_for_good(pool: QueryPool) -> None:
    await pool.query(OPERATOR, guarded("ASK {}"))
    (_, worker) = pool.processes

    await pool.query(OPERATOR, guarded(ENDLESS), timeout_s=0.2)

    assert gone(worker)
    assert pool.replaced == 1


async def test_rows_found_before_the_time_limit_are_the_answer(store: SemanticStore) -> None:
    limits = replace(LIMITS, max_rows=10_000_000, max_bytes=1 << 30)
    async with QueryPool(store, limits) as pool:
        answer = await pool.query(
            OPERATOR, guarded("SELECT * { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }"), timeout_s=0.5
        )

    found = rows(answer)
    assert answer.stopped_by == "the time limit of 0.5 s"
    assert answer.rows == len(found) > 100
    assert all(len(row) == 9 for row in found)


@pytest.mark.parametrize("limit", [1, 7, 399])
async def test_rows_beyond_the_limit_are_cut_and_the_answer_says_so(pool: QueryPool, limit: int) -> None:
    selected = await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"), max_rows=limit)
    made = await pool.query(OPERATOR, guarded("CONSTRUCT { ?s ?p ?o } { ?s ?p ?o }"), max_rows=limit)
    exact = await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"), max_rows=400)

    assert (selected.rows, len(rows(selected)), selected.stopped_by) == (
        limit,
        limit,
        f"the limit of {limit} rows",
    )
    assert (made.rows, made.results.count(b" .\n"), made.stopped_by) == (
        limit,
        limit,
        f"the limit of {limit} rows",
    )
    assert (exact.rows, exact.stopped_by) == (400, "")


async def test_an_answer_that_is_too_large_is_cut_at_a_row(store: SemanticStore) -> None:
    async with QueryPool(store, replace(LIMITS, max_bytes=20_000)) as pool:
        answer = await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"))

    truth = [
        {"s": each.subject.value, "p": each.predicate.value, "o": each.object.value}  # type: ignore[union-attr]
        for each in store.quads(graph=TOPOLOGY)
    ]
    found = rows(answer)
    assert answer.stopped_by == "the limit of 20000 bytes"
    assert answer.rows == len(found) > 10
    assert [row for row in found if row not in truth] == []
    assert len({json.dumps(row) for row in found}) == len(found)


async def test_a_query_that_takes_too_much_memory_is_refused(store: SemanticStore) -> None:
    async with QueryPool(store, replace(LIMITS, memory_bytes=64 << 20)) as pool:
        with pytest.raises(OverCapacity, match=r"needs more than 64 MB of memory; ask for less"):
            await pool.query(OPERATOR, guarded("SELECT * { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i } ORDER BY ?a"))
        assert (await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"))).rows == 400


async def test_ask_has_no_half_answer(pool: QueryPool) -> None:
    text = "ASK { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i FILTER(STRLEN(CONCAT(STR(?a), STR(?d), STR(?g))) < 0) }"
    with pytest.raises(OverCapacity, match=r"the time limit of 0\.2 s stopped it before ASK had an answer"):
        await pool.query(OPERATOR, guarded(text), timeout_s=0.2)


async def test_a_killed_worker_is_an_error_and_the_pool_mends(pool: QueryPool) -> None:
    await pool.query(OPERATOR, guarded("ASK {}"))
    endless = asyncio.create_task(pool.query(OPERATOR, guarded(ENDLESS)))
    _, worker = pool.processes
    await until(lambda: busy([worker]))

    os.kill(worker, signal.SIGKILL)

    with pytest.raises(TwinError, match=r"the engine failed on it \(exit status -9\) and was started anew"):
        await endless
    assert (await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }"))).rows == 400


async def test_a_killed_keeper_is_made_anew_with_all_that_is_known(
    pool: QueryPool, store: SemanticStore
) -> None:
    await pool.query(OPERATOR, guarded("ASK {}"))
    for pid in pool.processes:
        os.kill(pid, signal.SIGKILL)
    store.apply((), [quad(node(0), "alias", "while it was away")])
    await asyncio.sleep(0.1)

    answer = await pool.query(OPERATOR, guarded("ASK { ?s ndt:alias 'while it was away' }"))

    assert b"true" in answer.results


async def test_one_endless_query_leaves_the_other_worker_to_the_others(pool: QueryPool) -> None:
    endless = asyncio.create_task(
        pool.query(VIEW, guarded(ENDLESS), timeout_s=20, data=b'<urn:a> <urn:b> "c" .\n')
    )
    slow = asyncio.create_task(pool.query(OPERATOR, guarded(ENDLESS), timeout_s=20))

    quick = [await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o }")) for _ in range(5)]

    assert not slow.done()
    assert [answer.rows for answer in quick] == [400] * 5
    await endless
    slow.cancel()
    await asyncio.wait([slow])


async def test_who_gives_up_has_the_query_stopped(pool: QueryPool) -> None:
    asking = asyncio.create_task(pool.query(OPERATOR, guarded(ENDLESS)))
    await until(lambda: busy(pool.processes[1:]))
    _, worker = pool.processes

    asking.cancel()
    await asyncio.wait([asking])

    await until(lambda: gone(worker))


async def test_a_flood_of_questions_is_bounded_and_shared_fairly(store: SemanticStore) -> None:
    limits = replace(LIMITS, workers=1, waiting=10, waiting_each=6)
    order: list[str] = []

    async with QueryPool(store, limits) as pool:
        await pool.query(OPERATOR, guarded("ASK {}"))

        async def ask(dataset: str) -> str:
            try:
                await pool.query(dataset, guarded("SELECT * { ?s ?p ?o }"))
            except OverCapacity as error:
                return str(error)
            order.append(dataset)
            return ""

        flood = [asyncio.create_task(ask(VIEW)) for _ in range(40)]
        polite = [asyncio.create_task(ask(OPERATOR)) for _ in range(2)]
        refused = [text for text in await asyncio.gather(*flood) if text]
        assert await asyncio.gather(*polite) == ["", ""]

    assert len(refused) == 33  # one ran, six waited
    assert "questions wait for the graph already; ask again in a second" in refused[0]
    assert order.index(OPERATOR) <= 2  # it did not wait for all of the flood


async def test_answers_of_two_pools_do_not_mix(store: SemanticStore) -> None:
    other = SemanticStore()
    other.apply((), nodes(3))
    async with QueryPool(store, LIMITS) as one, QueryPool(other, LIMITS) as two:
        text = guarded("SELECT * { ?s ndt:name ?o }")
        counts = await asyncio.gather(*(pool.query(OPERATOR, text) for pool in (one, two) for _ in range(10)))

    assert [answer.rows for answer in counts] == [200] * 10 + [3] * 10


async def test_bindings_are_joined(pool: QueryPool) -> None:
    text = guarded("SELECT ?s ?n { ?s ndt:name ?n }")

    answer = await pool.query(
        OPERATOR, text, variables=["s"], values=[f"<{node(3)}>", f"<{node(7)}>", "<urn:no>"]
    )

    assert sorted(row["n"] for row in rows(answer)) == ["node 3", "node 7"]
    with pytest.raises(ContractError, match=r"3 values do not fill rows of 2"):
        await pool.query(OPERATOR, text, variables=["s", "n"], values=["", "", ""])
    with pytest.raises(ContractError, match=r"is no term of N-Triples"):
        await pool.query(OPERATOR, text, variables=["s"], values=["<urn:a> . <urn:b> <urn:c> <urn:d>"])


async def test_data_of_a_question_is_asked_and_forgotten(pool: QueryPool) -> None:
    everything = guarded("SELECT * { ?s ?p ?o }")
    named = guarded("SELECT * { GRAPH ?g { ?s ?p ?o } }", named_graphs=True)
    data = b"<urn:a> <urn:b> <urn:c> <urn:g> .\n<urn:a> <urn:b> <urn:d> .\n"

    own = await pool.query("", everything, data=data)
    of_graph = await pool.query("", named, data=data)

    assert [row["o"] for row in rows(own)] == ["urn:d"]
    assert [row["o"] for row in rows(of_graph)] == ["urn:c"]
    assert (await pool.query("", everything)).rows == 0
    assert (await pool.query(OPERATOR, everything)).rows == 400


async def test_a_triple_of_two_graphs_counts_once_until_it_is_in_none(
    pool: QueryPool, store: SemanticStore
) -> None:
    count = guarded("SELECT (COUNT(*) AS ?n) { <id/ran/node/n0> ndt:name ?o }")
    inferred = quad(node(0), "name", "node 0", inferred_graph("same"))

    found = []
    for remove, add in (
        ((), (inferred,)),
        ((quad(node(0), "name", "node 0"),), ()),
        ((inferred,), ()),
    ):
        store.apply(remove, add)
        found.append(rows(await pool.query(OPERATOR, count))[0]["n"])

    assert found == ["1", "1", "0"]


async def test_what_only_the_engine_finds_wrong_is_a_clear_error(pool: QueryPool) -> None:
    with pytest.raises(ContractError, match=r"^query: the engine does not take it \("):
        await pool.query(OPERATOR, guarded("SELECT (1 AS ?x) (2 AS ?x) {}"))


async def test_planned_queries_reach_no_engine(pool: QueryPool) -> None:
    text = guarded("SELECT * { SERVICE <id/ran> { ?s ?p ?o } }", services=["https://fedtwin.example/id/ran"])
    with pytest.raises(ContractError, match=r"SERVICE is for the broker"):
        await pool.query(OPERATOR, text)
    assert pool.processes == ()


async def test_idle_processes_end_and_come_back(store: SemanticStore) -> None:
    async with QueryPool(store, replace(LIMITS, idle_s=0.2)) as pool:
        await pool.query(OPERATOR, guarded("ASK {}"))
        first = pool.processes
        await until(lambda: not pool.processes)

        store.apply((), [quad(node(0), "alias", "meanwhile")])
        answer = await pool.query(OPERATOR, guarded("ASK { ?s ndt:alias 'meanwhile' }"))

        assert b"true" in answer.results
        assert not set(first) & set(pool.processes)


async def test_a_pool_that_closes_answers_who_waits(store: SemanticStore) -> None:
    pool = QueryPool(store, replace(LIMITS, workers=1))
    asking = [asyncio.create_task(pool.query(OPERATOR, guarded(ENDLESS))) for _ in range(3)]
    await until(lambda: bool(pool.processes))

    await pool.close()

    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in found] == [Unreachable] * 3
    with pytest.raises(Unreachable, match=r"the twin is ending"):
        await pool.query(OPERATOR, guarded("ASK {}"))


def test_views_and_simulations_are_datasets_of_their_own() -> None:
    assert dataset_of(TOPOLOGY) == OPERATOR
    assert dataset_of(VIEW) == VIEW
    assert dataset_of(run_graph("r1")) == run_graph("r1")


async def test_a_pool_that_was_warmed_has_its_worker_before_the_first_question(store: SemanticStore) -> None:
    pool = QueryPool(store, PoolLimits(workers=1))
    try:
        pool.warm()
        pool.warm()
        await until(lambda: len(pool.processes) == 2)
        before = pool.processes
        answer = await pool.query(OPERATOR, guarded("SELECT * { ?s ?p ?o } LIMIT 1"))
        after = pool.processes
    finally:
        await pool.close()
    pool.warm()

    assert answer.rows == 1
    assert before == after
    assert pool.processes == ()
