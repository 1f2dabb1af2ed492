"""A broker, all of it: a subscription made over gRPC is served, and the keys and findings are seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from event_parts import ADDRESS, Pki, receiver, settings, until
from partner_broker import federation_with_partners, partners_client, twin_client

from domain_twin.errors import ContractError
from federation.partners.record import PUBLIC, Kind, Record


async def test_a_broker_delivers_and_tells_what_it_cannot_deliver(tmp_path: Path) -> None:
    pki = Pki.make(tmp_path)
    federation = federation_with_partners(tmp_path, events=settings(pki, attempts=2))

    async def dead_letters(there: bool) -> None:
        async with asyncio.timeout(30):
            while any(each.code == "events.dead-letters" for each in await twin.findings()) is not there:  # noqa: ASYNC110 - asked over gRPC
                await asyncio.sleep(0.05)

    async with (
        federation.broker() as broker,
        partners_client(federation, broker) as partners,
        twin_client(federation, broker, "noc") as twin,
        receiver(pki) as hook,
    ):
        hub = {"api": "serviceCatalogManagement", "callback": hook.url, "apiAddress": ADDRESS}
        with pytest.raises(ContractError, match="https"):
            await partners.create("acme", Kind.HUB, {**hub, "callback": "http://127.0.0.1/cb"})
        made = (await partners.create("acme", Kind.HUB, hub)).record
        await partners.create("acme", Kind.SERVICE_CATALOG, {"name": "mine"})
        await until(lambda: hook.got)
        assert hook.got[0].document["event"]["serviceCatalog"]["name"] == "mine"
        hook.answer = 500
        await partners.create("acme", Kind.SERVICE_CATALOG, {"name": "lost"})
        await dead_letters(there=True)
        published: list[Record] = []
        async with asyncio.timeout(30):
            async for news in partners.follow():
                published += [record for record in news.records if record.kind is Kind.SIGNING_KEY]
                if news.complete:
                    break
        assert [record.tenant for record in published] == [PUBLIC]
        hook.answer = 204
        await partners.change("acme", Kind.HUB, made.id, {"state": "active"})
        await until(lambda: hook.got[-1].document["event"]["serviceCatalog"]["name"] == "lost")
        await dead_letters(there=False)
