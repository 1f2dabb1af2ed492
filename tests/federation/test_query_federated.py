"""Queries, impact and checks across real agents and a real broker: answers, parts, what nobody may see."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federation_parts import EXCHANGE, until
from query_parts import ACTIONS, POINTS, PREFIX, QueryDomain, federation, rows, running
from what_if_parts import A1, BROKER, networks

from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity, Unreachable
from domain_twin.model import Level, Outcome
from domain_twin.model.query import Require
from domain_twin.semantic.workers import PoolLimits
from federation.v1 import fedtwin_pb2 as pb

APP = "https://fedtwin.example/id/edge/point/app"
ANN = f"spiffe://{EXCHANGE}/user/ann"
DELAYS = PREFIX + "SELECT ?s ?d { ?s a ndt:Segment ; ndt:delayMs ?d }"
FROM_CELL = PREFIX + (
    "SELECT ?s ?d { ?s a ndt:Segment ; ndt:hasSource ?p ; ndt:delayMs ?d . ?p ndt:alias 'ran/cell-1' }"
)


def outcomes(parts: Any) -> dict[str, str]:
    return {part.domain: part.outcome.value for part in parts}


async def test_query_is_answered_from_copies_and_from_the_domains_it_concerns(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, _):
        structure = await twin.query(POINTS)
        figures = await twin.query(FROM_CELL)
        plan = await twin.explain(FROM_CELL)
        impact = await twin.impact(A1)
        check = await twin.check_graph()

    assert [row["a"] for row in rows(structure.data)] == [
        "edge/idl-b", "ran/idl-a1", "ran/idl-a2", "transport/idl-a1", "transport/idl-a2", "transport/idl-b",
    ]  # fmt: skip
    assert structure.requests == 0
    assert outcomes(structure.parts) == dict.fromkeys(("edge", "ran", "transport"), "ok")
    assert {row["s"].rpartition("/")[2] for row in rows(figures.data)} == {"idl-a1", "idl-a2"}
    asked = {name: len(domain.queries) for name, domain in fed.domains.items()}  # type: ignore[attr-defined]
    assert asked == {"ran": 2, "transport": 1, "edge": 1}  # one each for the check
    assert all(domain.askers == {ANN} for domain in fed.domains.values())  # type: ignore[attr-defined]
    assert re.search(r"^1\. Asked ran: 1 request, \d+\.\d kB, \d+ ms$", figures.plan, re.MULTILINE)
    assert (
        "     ?s ndt:delayMs ?d\n       bound by 2 values of ?s: 2 rows of ran came; about 4" in figures.plan
    )
    assert "edge and transport: ?s ndt:delayMs ?d" in figures.plan
    assert '?p ndt:alias "ran/cell-1"\n       1 row of ran, by its copy of the view' in figures.plan
    assert "No domain is missing." in figures.plan
    assert "1. Ask edge, ran and transport\n" in plan
    assert [(each.kind, each.id) for each in impact.affected if each.kind != "path"] == [
        ("service", "urn:s:1"), ("slice", "urn:sl:1"), ("customer", "urn:c:1"),
    ]  # fmt: skip
    assert impact.affected[-1].evidence[0].object == A1
    assert check.shapes > 50
    assert not [finding for finding in check.findings if finding.severity.value == "error"]
    for domain in fed.domains.values():
        assert not [said for said in domain.said if b"secret" in said]  # type: ignore[attr-defined]


async def test_names_that_nobody_knows_and_rows_that_nothing_orders_are_noted(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    wrong = (
        "SELECT ?s { ?s a ndt:Segmnt ; ndt:delayms ?d ; ndt:hasSource <https://fedtwin.example/id/far/x> }"
    )
    texts = {
        "unknown": PREFIX + wrong,
        "nobody has": PREFIX + "SELECT ?s { ?s a ndt:Alarm OPTIONAL { ?s ndt:unheardOf ?x } }",
        "no element": PREFIX + "ASK { <https://fedtwin.example/id/ran/point/none> ndt:alias ?a }",
        "cut": DELAYS + " LIMIT 2",
        "cut inside": PREFIX + f"SELECT * {{ {{ {DELAYS.removeprefix(PREFIX)} LIMIT 2 }} }}",
        "ordered": DELAYS + " ORDER BY ?s LIMIT 2",
        "all came": DELAYS + " LIMIT 200",
        "known": FROM_CELL,
    }
    async with running(fed) as (twin, _):
        notes = {name: (await twin.query(text)).notes for name, text in texts.items()}
        plan = await twin.explain(texts["unknown"])

    assert notes["unknown"] == (
        "ndt:Segmnt: no domain shows you this class, and the ontology does not have it; did you mean"
        " ndt:Segment?",
        "ndt:delayms: no domain shows you this property, and the ontology does not have it; did you mean"
        " ndt:delayMs?",
        "<id/far/x>: there is no domain 'far' in this federation",
    )
    assert plan.count("Note: ") == 3
    assert notes["nobody has"] == (
        "ndt:Alarm: no domain shows you anything with this class now",
        "ndt:unheardOf: no domain shows you this property, and the ontology does not have it",
    )
    assert notes["no element"] == ("<id/ran/point/none>: nothing of what is asked about it is shown to you",)
    assert [len(notes[name]) for name in ("cut", "cut inside")] == [1, 1]
    assert "add ORDER BY" in notes["cut"][0]
    assert not any(notes[name] for name in ("ordered", "all came", "known"))


async def test_domain_that_leaves_in_mid_query_is_marked_or_an_error(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, broker):
        await twin.query(POINTS)
        domain: Any = fed.domains["transport"]
        answer = domain.query

        async def leave(ask: Any, body: pb.QueryAsk) -> Any:
            await broker.sessions["transport"].close("it leaves in mid-query")
            await asyncio.sleep(60)

        domain.query = leave
        text = PREFIX + "SELECT ?s ?d { ?s a ndt:Segment OPTIONAL { ?s ndt:delayMs ?d } }"
        partial = await twin.query(text)
        domain.query = answer
        await until(lambda: _connected(twin))
        whole = await twin.query(text)
        domain.query = leave
        with pytest.raises(Unreachable, match="transport"):
            await twin.query(text, require=Require.ALL)

    found = {part.domain: part for part in partial.parts}
    assert found["transport"].outcome is Outcome.UNREACHABLE
    assert "OPTIONAL" in found["transport"].reason
    assert found["ran"].outcome is Outcome.OK
    assert re.search(r"^Missing:\n     transport, unreachable: .*OPTIONAL", partial.plan, re.MULTILINE)
    assert {row["s"] for row in rows(partial.data) if "d" in row} < {row["s"] for row in rows(whole.data)}
    assert outcomes(whole.parts) == dict.fromkeys(("edge", "ran", "transport"), "ok")


async def _gone(twin: Any, domain: str) -> bool:
    return not next(status.connected for status in await twin.domains() if status.domain == domain)


async def _connected(twin: Any) -> bool:
    return all(status.connected for status in await twin.domains())


async def test_domain_that_is_gone_is_shown_as_it_was_and_marked_stale(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, broker):
        before = await twin.query(POINTS)
        gone: Any = fed.domains["edge"]
        await gone.session.close("gone for good")
        await until(lambda: _gone(twin, "edge"))
        stale = await twin.query(POINTS)
        figures = await twin.query(DELAYS)
        impact = await twin.impact(A1)
        with pytest.raises(Unreachable, match="edge"):
            await twin.query(POINTS, require=Require.ALL)
        async with fed.client(broker, name="eve") as other:
            stranger = await other.query(POINTS)

    assert rows(stale.data) == rows(before.data)
    assert outcomes(stale.parts)["edge"] == outcomes(impact.parts)["edge"] == "stale"
    assert outcomes(figures.parts)["edge"] == "unreachable"
    # For whom the domain never gave a card, nothing of it is shown.
    assert outcomes(stranger.parts)["edge"] == "unreachable"
    assert not [row for row in rows(stranger.data) if row["a"].startswith("edge/")]


async def test_nothing_of_a_domain_that_grants_no_queries_is_in_any_answer(tmp_path: Path) -> None:
    fed = federation(tmp_path, {"edge": {"actions": ACTIONS - {Action.QUERY}}})
    everything = "SELECT * { ?s ?p ?o }"
    async with running(fed) as (twin, _):
        replies = [
            await twin.query(everything),
            await twin.query(PREFIX + "SELECT (COUNT(*) AS ?n) { ?p a ndt:BorderPoint }"),
            await twin.query(PREFIX + f"SELECT ?x {{ ?x ndt:dependsOn+ <{APP}> }}"),
        ]  # fmt: skip
        plan = await twin.explain(everything)
        check = await twin.check_graph()
        with pytest.raises(NotShared, match="edge"):
            await twin.query(everything, require=Require.ALL)
        with pytest.raises(NotFound) as hidden:
            await twin.impact("edge/app")
        with pytest.raises(NotFound) as unknown:
            await twin.impact("edge/nothing")

    said = [reply.plan + "".join(reply.notes) for reply in replies]
    shown = b"".join(reply.data for reply in replies) + "".join([*said, plan]).encode()
    shown = shown.replace(b"<id/edge/point/app>", b"")  # the asker's own word
    assert b"id/edge/" not in shown
    assert b"edge/app" not in shown
    assert "edge/" not in str(check)
    assert rows(replies[1].data)[0]["n"] == "5"
    assert rows(replies[2].data) == []
    assert outcomes(replies[0].parts)["edge"] == "not shared"
    assert str(hidden.value).replace("edge/app", "X") == str(unknown.value).replace("edge/nothing", "X")


async def test_asker_with_an_agreement_of_its_own_sees_no_more_than_that_grants(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    ran = networks()["ran"]
    fed.domains["ran"] = QueryDomain(  # type: ignore[assignment]
        ran,
        tmp_path,
        agreements=[
            Agreement("exchange", BROKER, actions=ACTIONS),
            Agreement("coarse", ANN, Level.NODE, ACTIONS, figures=frozenset()),
        ],
    )
    async with running(fed) as (twin, broker):
        reply = await twin.query(DELAYS)
        mine = await twin.query("SELECT * { ?s ?p ?o }")
        async with fed.client(broker, name="bob") as other:
            his = await other.query(DELAYS)

    assert not [row for row in rows(reply.data) if "/ran/" in row["s"]]
    assert [row for row in rows(his.data) if "/ran/" in row["s"]]
    # The broker's own facts name nothing of the finer view either.
    assert "/id/ran/segment/cell-1" not in mine.data.decode()
    assert [row for row in rows(mine.data) if "/id/ran/segment/*" in row["s"] or "%2A" in row["s"]]


async def test_limits_are_said_and_refused_asks_are_data(tmp_path: Path) -> None:
    fed = federation(
        tmp_path, {"ran": {"limits": PoolLimits(workers=1, max_rows=3)}, "edge": {"asks_per_second": 0.5}}
    )
    async with running(fed) as (twin, _):
        cut = await twin.query(DELAYS)
        some = await twin.query(DELAYS, max_rows=2)
        with pytest.raises(OverCapacity, match=r"ran|edge"):
            await twin.query(DELAYS, require=Require.ALL)
        with pytest.raises(NotShared, match=r"\(--as\) is for a domain's own agent"):
            await twin.query(DELAYS, view="exchange")

    assert outcomes(cut.parts)["ran"] == "over capacity"
    assert "stopped at its limit" in next(part.reason for part in cut.parts if part.domain == "ran")
    assert outcomes(cut.parts)["edge"] == "over capacity"
    assert some.rows == 2
    assert "2 rows" in some.stopped_by


async def test_agent_trusts_no_broker_with_what_it_asks(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    inner = "SELECT * { GRAPH ?g { ?s ?p ?o } }"
    async with running(fed) as (_, broker):
        session = broker.sessions["ran"]
        for text in (
            inner,
            "SELECT * { SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
            "SELECT * FROM <https://fedtwin.example/g/ran/topo> { ?s ?p ?o }",
            "LOAD <http://127.0.0.1:9/>",
            "CONSTRUCT { ?s ?p ?o } FROM NAMED <urn:x> { ?s ?p ?o }",
        ):
            with pytest.raises(NotFound, match="refused"):
                await session.ask(pb.QueryAsk(query=text), timeout_s=20.0)
        with pytest.raises(NotFound):  # a term of a block of bindings that is no term
            await session.ask(
                pb.QueryAsk(query="SELECT ?x { ?x ?p ?o }", variables=["x"], values=["<urn:a> } #"]),
                timeout_s=20.0,
            )
        answer = await session.ask(pb.QueryAsk(query="SELECT * { ?s ?p ?o }"), timeout_s=20.0)

    assert b"secret" not in answer.results
    assert answer.rows > 10


async def test_caller_that_goes_away_leaves_nothing_running(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, broker):
        await twin.query(POINTS)
        domain: Any = fed.domains["ran"]
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def wait(ask: Any, body: pb.QueryAsk) -> Any:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        domain.query = wait
        asking = asyncio.create_task(twin.query(DELAYS))
        async with asyncio.timeout(30):
            await begun.wait()
            asking.cancel()
            await cancelled.wait()

    assert broker.sessions == {} or all(session.in_flight == 0 for session in broker.sessions.values())


SEGMENT = "https://fedtwin.example/id/{}/segment/{}"


def row_of(body: pb.QueryAsk, subject: str, value: dict[str, str]) -> bytes:
    """One row as it was asked for: of `?s ndt:delayMs ?d`, whether or not ?s was bound."""
    node = {"type": "uri", "value": subject}
    names = {"b": node, "v0_0": value} if body.variables else {"v0_0": value, "v0_1": node}
    return json.dumps({"head": {"vars": sorted(names)}, "results": {"bindings": [names]}}).encode()


def hostile(kind: str, body: pb.QueryAsk) -> bytes:
    number = {"type": "literal", "value": "999"}
    own = SEGMENT.format("ran", "cell-1/idl-a1")
    match kind:
        case "rubbish":
            return b"\x00not json"
        case "another form":
            return b'{"head":{},"boolean":true}'
        case "blank nodes":
            return row_of(body, own, {"type": "bnode", "value": "x"})
        case "foreign terms":
            return row_of(body, SEGMENT.format("edge", "app/idl-b"), number)
        case _:
            return row_of(body, own, number).replace(b"v0_0", b"zzz")


HOSTILE = {
    "rubbish": "no SPARQL Query Results JSON",
    "another form": "a yes or no",
    "blank nodes": "dropped",
    "foreign terms": "dropped",
    "unknown variables": "dropped",
}


async def test_hostile_agent_costs_its_own_part_alone(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    kept = {}
    async with running(fed) as (twin, _):
        honest = await twin.query(DELAYS)
        domain: Any = fed.domains["ran"]
        for name in HOSTILE:

            async def answer(ask: Any, body: pb.QueryAsk, name: str = name) -> pb.QueryAnswer:
                return pb.QueryAnswer(form="bindings", results=hostile(name, body), rows=1)

            domain.query = answer
            kept[name] = await twin.query(DELAYS)

    others = [row for row in rows(honest.data) if "/id/ran/" not in row["s"]]
    for name, reply in kept.items():
        part = next(part for part in reply.parts if part.domain == "ran")
        assert sorted(map(str, rows(reply.data))) == sorted(map(str, others)), name
        assert outcomes(reply.parts) | {"ran": ""} == {"ran": "", "edge": "ok", "transport": "ok"}, name
        assert HOSTILE[name] in part.reason, name
        assert part.outcome is Outcome.NO_DATA, name


async def test_probing_asker_reaches_nothing_by_service_or_from(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, _):
        for text in (
            "SELECT * { SERVICE <http://127.0.0.1:9/sparql> { ?s ?p ?o } }",
            "SELECT * FROM <https://fedtwin.example/g/ran/topo> { ?s ?p ?o }",
            "INSERT DATA { <urn:a> <urn:b> <urn:c> }",
        ):
            with pytest.raises(ContractError, match="refused"):
                await twin.query(text)
        with pytest.raises(ContractError, match="line 2, column"):
            await twin.query("SELECT * {\n ?s ?p }")
        quiet = await twin.query("SELECT * { SERVICE SILENT <http://127.0.0.1:9/> { ?s ?p ?o } }")
        named = await twin.query(
            PREFIX + "SELECT ?a { SERVICE <https://fedtwin.example/id/edge> { ?p ndt:alias ?a } }"
        )
        hidden = await twin.query("SELECT * { GRAPH <https://fedtwin.example/g/ran/topo> { ?s ?p ?o } }")

    assert rows(quiet.data) == [{}]
    assert {row["a"] for row in rows(named.data)} == {"edge/app", "edge/idl-b"}
    assert outcomes(named.parts) == {"edge": "ok"}
    assert rows(hidden.data) == []


async def test_changed_network_is_answered_as_it_is_now(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, _):
        before = await twin.query(FROM_CELL)
        domain: Any = fed.domains["ran"]
        slower = {
            key: replace(link, kpis={n: replace(k, value=k.value + 40) for n, k in link.kpis.items()})
            for key, link in domain.network.links.items()
        }
        version = replace(domain.network.version, sequence=8)
        domain.network = replace(domain.network, links=slower, version=version)
        building = asyncio.create_task(domain.publisher.run())
        domain.publisher.notify(urgent=True)

        async def changed() -> bool:
            return rows((await twin.query(FROM_CELL)).data) != rows(before.data)

        await until(changed)
        building.cancel()
