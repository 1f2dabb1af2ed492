"""A whole broker: an order over its gRPC face, domains that agree, a restart, and all is there again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exchange_parts import add, retire
from federation_parts import Federation
from order_parts import ACME, DOMAINS, TwinDomain, agreements
from partner_broker import federation_with_partners, partners_client

from federation.broker import Broker
from federation.partners.record import Kind


async def found(
    federation: Federation,
    broker: Broker,
    wanted: Callable[[Mapping[tuple[Kind, str], Mapping[str, Any]]], Any],
) -> Any:
    """What `wanted` makes of all records of acme, by kind and id, as soon as it is true."""
    held: dict[tuple[Kind, str], Mapping[str, Any]] = {}
    async with asyncio.timeout(30), partners_client(federation, broker) as client:
        async for news in client.follow():
            for record in news.records:
                if record.tenant == "acme":
                    held[record.kind, record.id] = record.body
            if result := wanted(held):
                return result
    raise AssertionError("the broker ended the stream")


async def test_an_order_is_carried_out_by_a_whole_broker_and_outlives_it(tmp_path: Path) -> None:
    federation = federation_with_partners(tmp_path)
    domains = {name: TwinDomain(name, tmp_path, agreed=agreements(ACME)) for name in DOMAINS}
    federation.domains = {name: domain.jobs for name, domain in domains.items()}
    order = {"serviceOrderItem": [{"id": "1", **add("ran/cell-1", "edge/app")}]}

    async with federation.broker() as broker, federation.agents(broker):
        async with partners_client(federation, broker) as client:
            taken_in = (await client.create("acme", Kind.SERVICE_ORDER, order)).record
        ended = await found(
            federation,
            broker,
            lambda held: (
                (body := held.get((Kind.SERVICE_ORDER, taken_in.id), {})).get("completionDate") and body
            ),
        )
        assert ended["state"] == "completed", ended
        twin = ended["serviceOrderItem"][0]["service"]["id"]

    async with federation.broker() as broker, federation.agents(broker):
        names = await found(
            federation,
            broker,
            lambda held: (
                held[Kind.SERVICE, twin]["operatingStatus"] == "running"
                and {body["name"] for (kind, _), body in held.items() if kind is Kind.RESOURCE}
            ),
        )
        assert {"ran/cell-1", "edge/app"} <= names
        async with partners_client(federation, broker) as client:
            await client.create(
                "acme", Kind.SERVICE_ORDER, {"serviceOrderItem": [{"id": "1", **retire(twin)}]}
            )
        await found(federation, broker, lambda held: held[Kind.SERVICE, twin]["operatingStatus"] == "stopped")
        assert not any(domain.open_twins() for domain in domains.values())
