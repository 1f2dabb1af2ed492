"""An agreement that ends, with a session and without one; what stays is the audit of both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federation_parts import (
    EXCHANGE,
    FAST,
    LINK_A,
    LINK_B,
    OPERATORS,
    Federation,
    all_connected,
    local,
    until,
)

from domain_twin.agent.auditor import Auditor
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import BrokerSession
from domain_twin.config import AccessConfig, AgentConfig, AuditConfig, BrokerAddress
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import NotShared, OverCapacity
from domain_twin.model import (
    CARRIED_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    Node,
    TerminationPoint,
    Version,
)
from domain_twin.trust.audit import Head, Record
from domain_twin.trust.audit_files import records, segments
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_verify import verify
from domain_twin.trust.identity import Role
from domain_twin.trust.roots import TrustBundle
from federation.broker import Broker

BROKER = f"spiffe://{EXCHANGE}/broker/main"
POINT = b"transport/idl-aaaa"


def line() -> Network:
    """Two borders with one link between them."""
    figures = {
        DELAY: Kpi(DELAY, 3.0, "ms"),
        DELAY_VARIANCE: Kpi(DELAY_VARIANCE, 0.01, "ms2"),
        LOSS: Kpi(LOSS, 0.0, "1"),
        CARRIED_RATE: Kpi(CARRIED_RATE, 100.0, "Mbit/s"),
    }
    nodes = {name: Node(name, name, name) for name in ("w1", "w2")}
    links = {
        f"{a}-{b}": Link(f"{a}-{b}", a, a, f"{a}:{b}", b, f"{b}:{a}", 10, 1000.0, True, figures)
        for a, b in (("w1", "w2"), ("w2", "w1"))
    }
    points = {
        f"{node}:idl": TerminationPoint(
            f"{node}:idl",
            node,
            node,
            "idl",
            speed_mbps=1000.0,
            inter_domain=InterDomainEnd(link, peer, 1000.0, 10),
            kpis=figures,
        )
        for node, link, peer in (("w1", LINK_A, "ran"), ("w2", LINK_B, "edge"))
    }
    return Network("transport", Version("e", 1), nodes, points, links, {}, {}, {})


class Domain:
    """The agent of `transport` with its real policy, publisher, session and audit."""

    def __init__(self, federation: Federation, broker: Broker, expires_at: int | None) -> None:
        self.folder = federation.folder / "agent-transport"
        self.agreement = Agreement(
            "exchange",
            BROKER,
            actions=frozenset({Action.VIEW, Action.DESCRIBE, Action.EVALUATE}),
            expires_at=expires_at,
        )
        self.publisher = Publisher(
            network=line,
            published={},
            interval_s=0.0,
            figures_interval_s=0.0,
            send=lambda delta: self.session.publish(delta),  # noqa: PLW0108 - made below
        )
        self.trail = AuditLog(
            self.folder / "audit",
            who=f"spiffe://{OPERATORS['transport']}/agent/transport",
            identity=lambda: self.session.signs_with(),  # noqa: PLW0108 - made below
        )
        self.jobs = Jobs(
            domain="transport",
            agreements=[self.agreement],
            published={},
            publisher=self.publisher,
            auditor=Auditor(self.trail),
        )
        config = AgentConfig(
            domain="transport",
            operator=OPERATORS["transport"],
            state=self.folder,
            identity=federation.pki.identity(OPERATORS["transport"], Role.AGENT, "transport"),
            broker=BrokerAddress(address=local(broker), root=federation.pki.roots[EXCHANGE], identity=BROKER),
        )
        self.session = BrokerSession(config, self.jobs, retry=FAST, auditor=self.jobs.auditor)
        self.jobs.on_withdrawn = self.session.withdraw

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Domain]:
        tasks = [asyncio.create_task(self.session.run()), asyncio.create_task(self.publisher.run())]
        try:
            yield self
        finally:
            await self.session.close("the test is over")
            await tasks[0]
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.trail.close()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation.make(tmp_path, audit=AuditConfig(sync_interval_ms=20))


def in_seconds(seconds: float) -> int:
    return time.time_ns() + int(seconds * 1e9)


async def shown(twin: Any, domain: str = "transport") -> Any:
    return next(status for status in await twin.domains() if status.domain == domain)


def found_in(folder: Path, word: bytes) -> list[str]:
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and "audit" not in path.parts and word in path.read_bytes()
    ]


def told(folder: Path, kind: str) -> list[Record]:
    return [record for record in records(folder / "audit") if record.kind == kind]


async def test_an_agreement_that_ends_takes_all_that_was_shown_along(federation: Federation) -> None:
    state = federation.folder / "broker"
    async with (
        federation.broker() as broker,
        federation.agent("ran", broker),
        federation.agent("edge", broker),
        federation.client(broker) as twin,
        Domain(federation, broker, in_seconds(4)).running() as domain,
    ):
        await all_connected(twin)
        assert await twin.path("ran/cell-1", "edge/app")
        await until(lambda: _kept(state, POINT))

        async def withheld() -> Any:
            status = await shown(twin)
            return status if status.version is None else None

        status = await until(withheld)
        gone = await until(lambda: _gone(state, POINT))
        statuses, events = await twin.service_history("uplink", 0)
        views = await twin.views()
        with pytest.raises(Exception, match=r"transport|join|no path|reach"):
            await twin.path("ran/cell-1", "edge/app")
        findings = [item for item in await twin.findings() if item.domain == "transport"]

    assert status.connected
    assert "expired" in status.problem
    assert gone
    assert all(view.domain != "transport" for view in views)
    assert any("expired" in item.message for item in findings)
    assert all("transport" not in {hop.domain for hop in s.path.hops} for s in statuses if s.path)
    assert all("expired" in e.text or "shows no view" in e.text for e in events if e.domain == "transport")
    # Both sides still know what was shown and when it ended.
    assert told(state, "view-received")
    assert told(state, "view-deleted")
    (ended,) = told(domain.folder, "agreement-ended")
    assert ended.at >= (domain.agreement.expires_at or 0)
    assert told(domain.folder, "view")
    assert all(record.at < (domain.agreement.expires_at or 0) for record in told(domain.folder, "view"))


async def _kept(folder: Path, word: bytes) -> bool:
    return bool(found_in(folder, word))


async def _gone(folder: Path, word: bytes) -> bool:
    return not found_in(folder, word)


async def test_a_broker_that_is_cut_off_deletes_by_itself(federation: Federation) -> None:
    state = federation.folder / "broker"
    async with federation.broker() as broker, federation.client(broker) as twin:
        async with Domain(federation, broker, in_seconds(2.5)).running():
            await until(lambda: _sees(twin))
        lost = await shown(twin)
        await until(lambda: _sees(twin, False))
        status = await shown(twin)

    assert not lost.connected
    assert lost.points == 2
    assert "expired" in status.problem
    assert found_in(state, POINT) == []


async def test_a_broker_that_did_not_run_at_the_end_restores_nothing(federation: Federation) -> None:
    state = federation.folder / "broker"
    async with (
        federation.broker() as broker,
        federation.client(broker) as twin,
        Domain(federation, broker, in_seconds(2)).running(),
    ):
        await until(lambda: _sees(twin))
        await until(lambda: _kept(state, POINT))
    await asyncio.sleep(2)
    async with federation.broker() as broker, federation.client(broker) as twin:
        status = await shown(twin)
        await until(lambda: _gone(state, POINT))

    assert status.points == 0


async def _sees(twin: Any, whether: bool = True) -> bool:
    return ((await shown(twin)).points > 0) is whether


async def test_a_withdrawn_agreement_does_the_same_and_a_new_one_brings_the_view_back(
    federation: Federation,
) -> None:
    async with (
        federation.broker() as broker,
        federation.client(broker) as twin,
        Domain(federation, broker, None).running() as domain,
    ):
        await until(lambda: _sees(twin))
        domain.jobs.replace_agreements([])
        await until(lambda: _sees(twin, False))
        problem = (await shown(twin)).problem
        domain.jobs.replace_agreements([replace(domain.agreement, id="renewed")])
        domain.session.reattach("the agreements were changed")
        await until(lambda: _sees(twin))
        (view,) = await twin.views("transport")

    assert "no agreement" in problem or "withdrawn" in problem
    assert view.agreement == "renewed"


async def test_a_changed_agreement_is_asked_for_anew(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        federation.client(broker) as twin,
        Domain(federation, broker, None).running() as domain,
    ):
        await until(lambda: _sees(twin))
        domain.jobs.replace_agreements([replace(domain.agreement, expires_at=in_seconds(1000))])

        async def renewed() -> bool:
            views = await twin.views()
            return any(view.expires_at for view in views)

        assert await until(renewed)


async def _with(question: Any, word: str) -> Any:
    answer = await question()
    return answer if word in answer else None


async def test_while_the_audit_cannot_be_written_nothing_is_shown_and_then_it_is(
    federation: Federation, tmp_path: Path
) -> None:
    async with federation.broker() as broker, federation.client(broker) as twin:
        domain = Domain(federation, broker, None)
        blocked = tmp_path / "blocked"
        blocked.write_text("no folder")
        domain.trail.close()
        domain.trail = AuditLog(blocked / "audit", who="spiffe://longhaul.example/agent/transport")
        domain.jobs.auditor._trail = domain.trail
        async with domain.running():
            problem = await until(lambda: _with(lambda: _problem(twin), "audit"))
            assert (await shown(twin)).points == 0
            assert domain.jobs.auditor.findings("transport")
            blocked.unlink()
            await until(lambda: _sees(twin))

    assert "nothing is disclosed until it can" in problem


async def _problem(twin: Any) -> str:
    return str((await shown(twin)).problem)


async def test_both_audits_say_who_got_what(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        federation.client(broker) as twin,
        Domain(federation, broker, None).running() as domain,
    ):
        await until(lambda: _sees(twin))
        await twin.views("transport")
        async with federation.client(broker, operator=OPERATORS["ran"], name="eve") as eve:
            with pytest.raises(NotShared):
                await eve.domains()
    state = federation.folder / "broker"

    (attached, *_) = told(state, "attached")
    (dialled, *_) = told(domain.folder, "attached")
    reads = told(state, "read")
    refused = [record.data for record in told(state, "refused") if "eve" in record.data["subject"]]
    (view, *_) = told(domain.folder, "view")
    assert attached.data["peer"] == f"spiffe://{OPERATORS['transport']}/agent/transport"
    assert int(attached.data["certificate"], 16)
    assert dialled.data["peer"] == BROKER
    assert {"ListDomains", "GetView"} <= {record.data["rpc"] for record in reads}
    assert all(record.data["subject"] == f"spiffe://{EXCHANGE}/user/ann" for record in reads)
    assert refused
    assert "may not read this twin" in refused[0]["reason"]
    assert (view.data["peer"], view.data["agreement"], view.data["level"]) == (BROKER, "exchange", "mesh")
    assert view.data["bytes"] > 100
    trust = TrustBundle.load(federation.pki.roots)
    for folder in (state, domain.folder):
        report = verify(folder / "audit", trust=trust, signed=True)
        assert report.whole, report.fault
        assert report.unsigned == 1


async def test_a_cut_that_nothing_at_the_agent_shows_is_found_at_the_broker(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        federation.client(broker) as twin,
        Domain(federation, broker, None).running() as domain,
    ):
        await until(lambda: _sees(twin))
        state = federation.folder / "broker"

        async def noted() -> list[Record]:
            return told(state, "peer-head")

        (head, *_) = await until(noted)
        trail = domain.trail.head.trail
        kept = head.data["seq"] - 1
    folder = domain.folder / "audit"
    for path in segments(folder):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    (folder / "head.json").unlink()

    report = verify(folder, heads=[Head(trail, head.data["seq"], head.data["sha256"])])

    assert head.data["trail"] == trail
    assert verify(folder).whole
    assert report.fault
    assert "the other side noted" in report.fault.what


async def test_who_asks_too_often_is_told_when_to_ask_again(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, reads_per_second=5.0)
    async with federation.broker() as broker, federation.client(broker) as twin:
        with pytest.raises(OverCapacity, match=r"asks more often.*ask again in"):
            await asyncio.gather(*(twin.domains() for _ in range(30)))
        async with federation.client(broker, name="bob") as other:
            assert await other.domains()
    refused = [record.data for record in told(tmp_path / "broker", "refused")]

    assert len(refused) == 1


async def test_who_opens_sessions_without_end_is_held_off(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, attaches_per_minute=5.0)
    federation.more["member"] = ()  # so every session is refused, and dialled again at once
    async with federation.broker() as broker, federation.agent("ran", broker) as ran:
        assert ran.session

        async def held_off() -> bool:
            return "opens sessions more often" in str(ran.session and ran.session.error)

        assert await until(held_off)


async def test_a_reader_without_access_is_refused_before_any_count(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, access=(AccessConfig(subject=f"spiffe://{EXCHANGE}/user/ann"),))
    async with federation.broker() as broker, federation.client(broker, name="eve") as eve:
        with pytest.raises(NotShared):
            await eve.domains()

    (refused,) = told(tmp_path / "broker", "refused")
    assert refused.data["rpc"] == "ListDomains"
