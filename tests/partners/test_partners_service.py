"""The Partners service as the HTTP api meets it: a real broker, real mTLS, and who is kept out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from federation_parts import Federation, until
from partner_broker import federation_with_partners, partners_client, twin_client

from domain_twin.errors import (
    ConfigError,
    Conflict,
    ContractError,
    CredentialError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
    Unreachable,
)
from domain_twin.trust.identity import Role
from federation.partners import database as database_module
from federation.partners import reception as reception_module
from federation.partners.record import Kind, News, Record
from federation.partners.store import RecordStore
from federation.partners_client import PartnersClient
from federation.v1 import fedtwin_pb2 as pb

CATALOG, SPEC = Kind.SERVICE_CATALOG, Kind.SERVICE_TEST_SPECIFICATION


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return federation_with_partners(tmp_path)


async def follow_until(partners: PartnersClient, sequence: int) -> tuple[dict[str, Record], News]:
    held: dict[str, Record] = {}
    async with asyncio.timeout(20):
        following = partners.follow()
        async for news in following:
            held |= {record.id: record for record in news.records}
            if news.complete and news.sequence >= sequence:
                await following.aclose()
                return held, news
    raise AssertionError("following ended")


async def test_creates_changes_removes_and_follows(federation: Federation) -> None:
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        # Act
        made = await partners.create("acme", CATALOG, {"name": "mine", "a": {"b": 1, "c": 2}}, key="k")
        again = await partners.create("acme", CATALOG, {"a": {"c": 2, "b": 1}, "name": "mine"}, key="k")
        changed = await partners.change("acme", CATALOG, made.record.id, {"a": {"b": None}, "x": [1]})
        # Assert
        assert (made.repeated, again.repeated) == (False, True)
        assert again.record == made.record
        assert made.record.tenant == "acme"
        assert changed.version == 2
        assert changed.body["a"] == {"c": 2}
        assert changed.body["lastUpdate"].endswith("Z")
        held, news = await follow_until(partners, changed.sequence)
        assert held[changed.id] == changed
        removed = await partners.remove("acme", CATALOG, changed.id, if_version=2)
        assert removed > changed.sequence
        with pytest.raises(NotFound):
            await partners.remove("acme", CATALOG, changed.id)
    # Act: everything again after a restart.
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        following = partners.follow(news.sequence, news.epoch)
        anew = await anext(following)
        assert anew.begins_anew
        assert changed.id not in {record.id for record in anew.records}
        await following.aclose()
        with pytest.raises(Conflict, match="is deleted"):
            await partners.create("acme", CATALOG, {"name": "mine", "a": {"b": 1, "c": 2}}, key="k")


async def test_names_a_version_and_meets_another(federation: Federation) -> None:
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        record = (await partners.create("acme", CATALOG, {"name": "mine"})).record
        changed = await partners.change("acme", CATALOG, record.id, {"name": "yours"}, if_version=1)
        with pytest.raises(StaleVersion, match="has version 2 and not 1"):
            await partners.change("acme", CATALOG, record.id, {"name": "x"}, if_version=1)
        with pytest.raises(StaleVersion):
            await partners.remove("acme", CATALOG, record.id, if_version=1)
        assert await partners.change("acme", CATALOG, record.id, {"name": "yours"}) == changed
        many = [partners.change("acme", CATALOG, record.id, {f"n{n}": n}) for n in range(20)]
        assert {one.version for one in await asyncio.gather(*many)} == set(range(3, 23))
        with pytest.raises(ContractError, match="its id cannot change"):
            await partners.change("acme", CATALOG, record.id, {"id": "other"})


async def test_a_foreign_id_is_an_unknown_id(federation: Federation) -> None:
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        record = (await partners.create("globex", CATALOG, {"name": "theirs"})).record
        sentences = set()
        for _ in range(2):
            for refused in (
                partners.change("acme", CATALOG, record.id, {"name": "x"}),
                partners.change("acme", CATALOG, record.id, {"name": "x"}, if_version=1),
                partners.remove("acme", CATALOG, record.id),
            ):
                with pytest.raises(NotFound) as sentence:
                    await refused
                sentences.add(str(sentence.value))
            if not _:
                await partners.remove("globex", CATALOG, record.id)
        assert len(sentences) == 1


async def test_refuses_whom_and_what_it_does_not_know(federation: Federation) -> None:
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        for tenant in ("initech", "ACME", "acme/../globex"):
            with pytest.raises(NotFound, match=r"is served here.*\[\[partner\]\]"):
                await partners.create(tenant, CATALOG, {})
        with pytest.raises(NotShared, match="public records are the broker's own"):
            await partners.create("", CATALOG, {})
        with pytest.raises(NotShared, match="kept by the broker alone"):
            await partners.create("acme", Kind.USE, {})
        stub = partners._connected()
        for request, reason in (
            (pb.CreateRecordRequest(tenant="acme", kind="cat", body=b"{}"), "kind: 'cat'; accepted are"),
            (pb.CreateRecordRequest(tenant="acme", kind=CATALOG, body=b"[]"), "a JSON object is needed"),
            (pb.CreateRecordRequest(tenant="acme", kind=CATALOG, body=b'{"a":1,"a":2}'), "comes twice"),
            (pb.CreateRecordRequest(tenant="acme", kind=CATALOG, body=b'{"a":NaN}'), "NaN is not a number"),
            (pb.CreateRecordRequest(tenant="acme", kind=CATALOG, body=b"{}", key="k" * 300), "printable"),
            (pb.CreateRecordRequest(tenant="acme", kind=CATALOG, body=b" " * 1_000_000 + b"{}"), "at most"),
        ):
            with pytest.raises(Exception, match=reason):
                await stub.Create(request)


async def test_who_follows_no_more_keeps_no_connection(
    federation: Federation, connections_to: Callable[[int], int]
) -> None:
    async with federation.broker() as broker:
        port = int(broker.address.rpartition(":")[2])
        async with partners_client(federation, broker) as partners:
            await partners.create("acme", CATALOG, {})
            held, _ = await follow_until(partners, 1)
            assert held
            assert connections_to(port) == 1

        async with asyncio.timeout(10):
            while connections_to(port):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "role", "reason"),
    [("ann", Role.USER, "partners = true"), ("ran", Role.AGENT, "partners = true")],
)
async def test_only_the_named_subject_speaks_for_partners(
    federation: Federation, name: str, role: Role, reason: str
) -> None:
    async with federation.broker() as broker:
        async with partners_client(federation, broker, name, role) as partners:
            for refused in (
                partners.create("acme", CATALOG, {}),
                partners.change("acme", CATALOG, "x", {}),
                partners.remove("acme", CATALOG, "x"),
                anext(partners.follow()),
            ):
                with pytest.raises(NotShared, match=reason):
                    await refused
        if role is Role.USER:
            async with twin_client(federation, broker, name) as twin:
                with pytest.raises(NotShared, match=reason):
                    await twin.for_partner("acme").jobs()
                assert await twin.jobs() == []


async def test_the_caller_of_questions_is_the_partner(federation: Federation) -> None:
    async with federation.broker() as broker, twin_client(federation, broker) as twin:
        acme = twin.for_partner("acme")
        assert await acme.jobs() == []
        with pytest.raises(NotFound):
            await acme.job("anything")
        for refused in (
            acme.domains(),
            acme.views(),
            acme.path("ran/cell-1", "edge/app"),
            acme.services(),
            acme.findings(),
            acme.alarms(),
            acme.impact("ran/cell-1"),
            acme.check_graph(),
            anext(acme.watch()),
        ):
            with pytest.raises(NotShared, match="is not answered for partners"):
                await refused
        for tenant in ("initech", "", "acme/user"):
            with pytest.raises(NotShared, match=r"is served here.*\[\[partner\]\]"):
                await twin.for_partner(tenant).jobs()
        stub = twin._connected()
        twice = (("fedtwin-partner", "acme"), ("fedtwin-partner", "globex"))
        with pytest.raises(Exception, match="is served here"):
            await stub.ListJobs(pb.ListJobsRequest(), metadata=twice)
        assert len(await twin.domains()) == 3  # without the metadata it is itself


async def test_metadata_does_not_open_other_services(federation: Federation) -> None:
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        request = pb.CreateRecordRequest(tenant="globex", kind=CATALOG, body=b"{}")
        with pytest.raises(Exception, match="Create is not answered for partners"):
            await partners._connected().Create(request, metadata=(("fedtwin-partner", "acme"),))


async def test_the_audit_names_the_partner(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        partners_client(federation, broker) as partners,
        twin_client(federation, broker) as twin,
    ):
        await partners.create("acme", CATALOG, {"name": "mine"})
        with pytest.raises(NotFound):
            await partners.remove("globex", CATALOG, "x")
        await twin.for_partner("globex").jobs()
        await twin.domains()
    records = [
        json.loads(line)
        for file in sorted((federation.folder / "broker" / "audit").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    told = {(r["rpc"], r.get("partner", "")) for r in map(_data, records) if "rpc" in r}
    assert {("Create", "acme"), ("Remove", "globex"), ("ListJobs", "globex"), ("ListDomains", "")} <= told


def _data(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, **record.get("data", {})}


async def test_a_partner_has_room_for_so_many(tmp_path: Path) -> None:
    from domain_twin.config import PartnerConfig, QuotaConfig

    partner = PartnerConfig(id="acme", quota=QuotaConfig(records=2))
    federation = federation_with_partners(tmp_path, partner=(partner,))
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        for _ in range(2):
            await partners.create("acme", CATALOG, {})
        with pytest.raises(OverCapacity, match="2 records are kept for you"):
            await partners.create("acme", CATALOG, {})


async def test_a_broker_without_partners_says_so(tmp_path: Path) -> None:
    federation = federation_with_partners(tmp_path, partner=())
    async with federation.broker() as broker, partners_client(federation, broker) as partners:
        with pytest.raises(NotFound, match=r"serves no partners.*\[\[partner\]\]"):
            await partners.create("acme", CATALOG, {})
        with pytest.raises(NotFound, match="serves no partners"):
            await anext(partners.follow())
        assert not (tmp_path / "broker" / "partners.sqlite3").exists()


async def test_following_is_bounded_and_ends_with_the_broker(federation: Federation) -> None:
    async with AsyncExitStack() as stack:
        running = AsyncExitStack()
        broker = await running.enter_async_context(federation.broker())
        partners = await stack.enter_async_context(partners_client(federation, broker))
        many = [partners.follow() for _ in range(16)]
        for following in many:
            assert (await anext(following)).begins_anew
        with pytest.raises(OverCapacity, match="16 follow already"):
            await anext(partners.follow())
        for following in many[1:]:
            await following.aclose()
        ended = asyncio.create_task(_drain(many[0]))
        await running.aclose()
        with pytest.raises(Unreachable, match="the broker is stopping"):
            await ended


async def test_a_database_that_is_away_costs_the_federation_nothing(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Arrange
    monkeypatch.setattr(reception_module, "AGAIN_S", 0.1)
    in_the_way = federation.folder / "broker" / "partners.sqlite3"
    in_the_way.mkdir(parents=True)
    async with (
        federation.broker() as broker,
        partners_client(federation, broker) as partners,
        twin_client(federation, broker) as twin,
    ):
        # Act
        for refused in (partners.create("acme", CATALOG, {}), anext(partners.follow())):
            with pytest.raises(Unreachable, match=r"partners\.sqlite3: does not answer"):
                await refused
        assert len(await twin.domains()) == 3
        assert "broker.partners-unwritable" in {finding.code for finding in await twin.findings()}
        # Assert: it comes by itself.
        in_the_way.rmdir()

        async def mended() -> bool:
            return "broker.partners-unwritable" not in {finding.code for finding in await twin.findings()}

        await until(mended)
        assert (await partners.create("acme", CATALOG, {})).record.version == 1


async def test_a_database_of_another_broker_ends_the_start(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.1)
    store = await RecordStore.open(federation.folder / "broker", "", ["acme"])
    with pytest.raises(ConfigError, match="in use by process"):
        async with federation.broker():
            pass
    await store.close()


async def test_following_ends_with_the_certificate(federation: Federation) -> None:
    brief = {"life": timedelta(seconds=6)}
    async with federation.broker() as broker, partners_client(federation, broker, **brief) as partners:
        following = partners.follow()
        assert (await anext(following)).begins_anew
        with pytest.raises(CredentialError, match="your certificate ended; renew it and follow again"):
            await _drain(following)


async def _drain(following: Any) -> None:
    async for _ in following:
        pass
