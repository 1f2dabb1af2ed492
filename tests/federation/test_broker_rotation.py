"""A whole broker renews its certificates while people watch: nothing they see grows stale."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from federation_parts import EXCHANGE, OPERATORS, Federation
from session_parts import until

from domain_twin.errors import CredentialError
from domain_twin.model import Event, EventKind
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation import renewal

SHORT = timedelta(seconds=4)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation.make(tmp_path)


def renew(federation: Federation) -> None:
    """New certificates for everybody, as short-lived as those before."""
    federation.pki.identity(EXCHANGE, Role.BROKER, "main", dns=["localhost", "127.0.0.1"], life=SHORT)
    for domain, operator in OPERATORS.items():
        federation.pki.identity(operator, Role.AGENT, domain, life=SHORT)


async def test_watchers_see_no_staleness_while_everybody_renews(federation: Federation) -> None:
    seen: list[Event] = []
    async with (
        federation.broker() as broker,
        federation.agent("ran", broker) as ran,
        federation.agent("transport", broker),
        federation.agent("edge", broker),
        federation.client(broker) as twin,
    ):
        while not (status := (await twin.services()).statuses[0]).met:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert status.path
        renew(federation)  # from those of a day to short-lived ones
        stream = twin.watch()
        await stream.started()

        async def watch() -> None:
            async for event in stream:
                seen.append(event)

        watching = asyncio.create_task(watch())
        started, turn = datetime.now(UTC), 0
        while datetime.now(UTC) - started < 2 * SHORT:
            turn += 1
            ran.set_delay("ran/cell-1", "ran/b1", 2.0 + turn / 100)
            if turn % 10 == 0:
                renew(federation)
            await asyncio.sleep(0.1)
            path = await twin.path("ran/cell-1", "edge/app")
            assert not any(hop.stale for hop in path.paths[0].hops)
        await stream.aclose()
        await watching
        assert len(ran.resumed) > 2, "sessions were opened anew"
        assert ran.resumed[1:].count(None) == 0, "and none needed a snapshot"
        codes = {finding.code for finding in await twin.findings()}
        assert codes <= {"domain.certificate-ends", "identity.ends-soon"}, "as these live for seconds"

    statuses = [event.service_status for event in seen if event.service_status]
    assert len(statuses) > 5
    assert not any(hop.stale for status in statuses if status.path for hop in status.path.hops)
    assert [event.text for event in seen if event.kind is EventKind.DOMAIN] == []


async def test_wrong_files_of_the_broker_are_a_finding_until_they_are_mended(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        federation.agent("ran", broker),
        federation.client(broker) as twin,
    ):
        key = federation.folder / "pki" / f"{EXCHANGE}-broker-main" / "broker-main.key"
        content = key.read_bytes()
        key.write_text("no key")
        root = federation.pki.roots[OPERATORS["edge"]]
        roots = root.read_bytes()
        root.write_text("-----BEGIN CERTIFICATE-----\nno root")
        while len(found := [f for f in await twin.findings() if "not-renewed" in f.code]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert {f.code for f in found} == {"identity.not-renewed", "trust.not-renewed"}

        key.write_bytes(content)
        root.write_bytes(roots)
        while [f for f in await twin.findings() if "not-renewed" in f.code]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        async with federation.client(broker) as another:
            assert await another.domains()


async def test_an_agent_whose_root_was_taken_out_loses_its_session(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal.Renewal.__init__, "__kwdefaults__", {"roots_grace_s": 1.0})
    async with (
        federation.broker() as broker,
        federation.agent("ran", broker) as ran,
        federation.agent("edge", broker),
        federation.client(broker) as twin,
    ):
        assert ran.session
        await until(lambda: len(broker.sessions) == 2)
        edge = broker.sessions["edge"]

        other = OperatorCA.create(OPERATORS["ran"], federation.folder / "other")
        federation.pki.roots[OPERATORS["ran"]].write_bytes(other.root.read_bytes())

        await until(lambda: ran.session and isinstance(ran.session.error, CredentialError))
        await until(lambda: "ran" not in broker.sessions)
        await until(lambda: broker.sessions["edge"] is not edge)
        lost = [event.text for event in (await twin.service_history("uplink", 1))[1] if "lost" in event.text]
        assert any(text.startswith("ran lost: spiffe") for text in lost)
        assert not any(text.startswith("edge") for text in lost)
