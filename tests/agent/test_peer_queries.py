"""What an agent does with a peer's question in SPARQL: rate, rows, its audit, and who gives up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domain_twin.agent.auditor import Auditor
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.queries import PeerQueries
from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity
from domain_twin.model import InterDomainEnd, Network, Node, TerminationPoint, Version
from domain_twin.semantic.workers import PoolLimits
from domain_twin.trust.audit_files import segments
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.identity import SpiffeId
from federation.v1 import fedtwin_pb2 as pb

BROKER = SpiffeId.parse("spiffe://exchange.example/broker/main")
STRANGER = SpiffeId.parse("spiffe://stranger.example/broker/main")
ALICE = "spiffe://exchange.example/user/alice"
SECOND = 1_000_000_000
POINTS = "SELECT ?p { ?p a <https://fedtwin.example/ns/ndt#BorderPoint> }"
ENDLESS = "SELECT (COUNT(*) AS ?n) { " + " ".join(f"?a{n} ?b{n} ?c{n} ." for n in range(9)) + " }"


def borders(count: int) -> Network:
    """One node with so many borders."""
    ends = [InterDomainEnd(f"urn:ndt:idl:x{n}", "core", 1000.0) for n in range(count)]
    points = {
        f"secret:{n}": TerminationPoint(f"secret:{n}", "secret", "a", f"eth{n}", inter_domain=end)
        for n, end in enumerate(ends)
    }
    return Network("transport", Version("e", 1), {"secret": Node("secret", "a", "a")}, points, {}, {}, {}, {})


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Agent:
    """The jobs of an agent whose agreement has these terms, with an audit on disk."""

    def __init__(self, folder: Path, *, limits: PoolLimits | None = None, **terms: Any) -> None:
        network = borders(6)
        self.now = 100 * SECOND
        self.audit = AuditLog(folder / "audit", who="spiffe://longhaul.example/agent/transport")
        settings = {"actions": frozenset({Action.VIEW, Action.QUERY}), **terms}
        publisher = Publisher(
            network=lambda: network, published={}, interval_s=0.0, figures_interval_s=0.0,
            send=lambda _: None, clock=lambda: self.now,
        )  # fmt: skip
        self.jobs = Jobs(
            domain="transport",
            agreements=[Agreement(id="exchange", subject=str(BROKER), **settings)],
            published={},
            publisher=publisher,
            clock=lambda: self.now,
            auditor=Auditor(self.audit),
        )
        self.queries = self.jobs.queries = PeerQueries(
            network=lambda: network,
            published={},
            open_views=publisher.open_views,
            limits=limits or PoolLimits(workers=1),
            clock=lambda: self.now,
        )

    async def ask(self, text: str, *, peer: SpiffeId = BROKER, wait_s: float = 30.0) -> pb.QueryAnswer:
        asked = Asked(7, "job-1", 0, peer, ALICE, self.now + round(wait_s * SECOND))
        return await self.jobs.query(asked, pb.QueryAsk(query=text))

    def records(self) -> list[Any]:
        """What the audit says of disclosures."""
        lines = [line for path in segments(self.audit.folder) for line in path.read_text().splitlines()]
        return [
            each for each in (json.loads(line)["data"] for line in lines) if each.get("action") == "query"
        ]

    async def close(self) -> None:
        await self.queries.close()
        self.audit.close()


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Agent] = []

    def make(**terms: Any) -> Agent:
        made.append(Agent(tmp_path / str(len(made)), **terms))
        return made[-1]

    async with asyncio.timeout(120):
        yield SimpleNamespace(of=make)
        for each in made:
            await each.close()


async def test_questions_beyond_the_agreed_rate_are_refused_until_time_has_passed(agents: Any) -> None:
    agent = agents.of(asks_per_second=2.0)

    answers = [await agent.ask(POINTS), await agent.ask(POINTS)]
    with pytest.raises(OverCapacity, match=r"'exchange' allows 2 asks a second; ask again in 0\.5 s"):
        await agent.ask(POINTS)
    agent.now += SECOND
    answers.append(await agent.ask(POINTS))

    assert [answer.rows for answer in answers] == [6, 6, 6]


async def test_a_long_question_counts_as_several(agents: Any) -> None:
    agent = agents.of(asks_per_second=4.0)
    many = pb.QueryAsk(query=POINTS, variables=["p"], values=[f"<urn:{'x' * 90}:{n}>" for n in range(2700)])

    await agent.jobs.query(Asked(7, "", 0, BROKER, ALICE, agent.now + 30 * SECOND), many)  # 280 kB
    await agent.ask(POINTS)
    with pytest.raises(OverCapacity, match="asks a second"):
        await agent.ask(POINTS)


async def test_rows_beyond_the_agents_limit_are_cut_whatever_the_broker_asks_for(agents: Any) -> None:
    agent = agents.of(limits=PoolLimits(workers=1, max_rows=4))
    asked = Asked(7, "", 0, BROKER, ALICE, agent.now + 30 * SECOND)

    more = await agent.jobs.query(asked, pb.QueryAsk(query=POINTS, max_rows=1000))
    fewer = await agent.jobs.query(asked, pb.QueryAsk(query=POINTS, max_rows=2))

    assert (more.rows, more.stopped_by) == (4, "the limit of 4 rows")
    assert (fewer.rows, fewer.stopped_by) == (2, "the limit of 2 rows")


async def test_every_answer_is_in_the_audit_before_it_leaves(agents: Any) -> None:
    agent = agents.of()

    answer = await agent.ask(POINTS)
    (record,) = agent.records()

    about = {key: record[key] for key in ("peer", "on_behalf_of", "action", "agreement", "query", "rows")}
    assert about == {
        "peer": str(BROKER), "on_behalf_of": ALICE, "action": "query", "agreement": "exchange",
        "query": POINTS, "rows": 6,
    }  # fmt: skip
    assert record["query_sha256"] == hashlib.sha256(POINTS.encode()).hexdigest()
    assert record["answer_sha256"] == hashlib.sha256(answer.SerializeToString()).hexdigest()


async def test_what_cannot_be_recorded_is_not_answered(agents: Any, tmp_path: Path) -> None:
    agent = agents.of()
    await agent.ask(POINTS)
    agent.audit.close()

    with pytest.raises(OverCapacity, match="audit"):
        await agent.ask(POINTS)


async def test_who_may_not_ask_is_told_nothing_and_costs_no_process(agents: Any) -> None:
    agent, other = agents.of(), agents.of(actions=frozenset({Action.VIEW}))

    with pytest.raises(NotShared):
        await agent.ask(POINTS, peer=STRANGER)
    with pytest.raises(NotShared):
        await other.ask(POINTS)
    agent.jobs.queries = None
    with pytest.raises(NotFound, match="transport answers no queries"):
        await agent.ask(POINTS)

    assert agent.queries._pool.processes == other.queries._pool.processes == ()
    assert agent.records() == []


@pytest.mark.parametrize("text", ["SELECT * { GRAPH ?g { ?s ?p ?o } }", "LOAD <file:///etc/passwd>"])
async def test_a_text_that_the_guard_refuses_reaches_no_engine(agents: Any, text: str) -> None:
    agent = agents.of()

    with pytest.raises(ContractError, match="refused"):
        await agent.ask(text)

    assert agent.queries._pool.processes == ()
    assert agent.records() == []


async def test_a_question_ends_with_the_patience_of_who_asked(agents: Any) -> None:
    agent = agents.of()
    await agent.ask(POINTS)

    answer = await agent.ask(ENDLESS, wait_s=0.3)

    assert answer.stopped_by == "the time limit of 0.3 s"


async def test_who_gives_up_has_the_question_stopped_and_nothing_recorded(agents: Any) -> None:
    agent = agents.of()
    await agent.ask(POINTS)
    pool = agent.queries._pool
    _, worker = pool.processes

    asking = asyncio.create_task(agent.ask(ENDLESS))
    await asyncio.sleep(0.3)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    while running(worker):  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.02)

    assert (await agent.ask(POINTS)).rows == 6  # the only worker is there again
    assert [record["query"] for record in agent.records()] == [POINTS, POINTS]
