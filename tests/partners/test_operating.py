"""What a broker's operator sees of events that partners do not get, and how it has them tried again."""

from __future__ import annotations

import asyncio
import json
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from event_parts import ADDRESS, Pki, Receiver, receiver, settings, until
from federation_parts import EXCHANGE, Federation
from partner_broker import API, federation_with_partners, partners_client, profile

from domain_twin.config import AccessConfig, ClientConfig
from domain_twin.errors import NotFound, NotShared
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.deliveries_client import DeliveriesClient
from federation.partners.record import Kind
from federation.partners_client import PartnersClient

with warnings.catch_warnings():  # typer's own use of what click 8.5 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from federation.cli.app import run

ACCESS = (
    AccessConfig(subject=API, partners=True),
    AccessConfig(subject=f"spiffe://{EXCHANGE}/user/noc", operate=True),
    AccessConfig(subject=f"spiffe://{EXCHANGE}/user/reader"),
)
CATALOG = Kind.SERVICE_CATALOG


@dataclass
class Running:
    """A broker with a partner's subscription whose callback fails."""

    federation: Federation
    broker: Broker
    partners: PartnersClient
    hook: Receiver
    hub: str

    def profile(self, name: str, role: Role = Role.USER) -> ClientConfig:
        return profile(self.federation, self.broker, name, role)


@asynccontextmanager
async def failing(folder: Path) -> AsyncIterator[Running]:
    pki = Pki.make(folder)
    federation = federation_with_partners(folder, access=ACCESS, events=settings(pki, attempts=2))
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(federation.broker())
        partners = await stack.enter_async_context(partners_client(federation, broker))
        hook = await stack.enter_async_context(receiver(pki))
        hook.answer = 500
        body = {"api": "serviceCatalogManagement", "callback": hook.url, "apiAddress": ADDRESS}
        hub = (await partners.create("acme", Kind.HUB, body)).record.id
        yield Running(federation, broker, partners, hook, hub)


async def dead(client: DeliveriesClient, number: int) -> Any:
    """The subscription, once it has so many dead letters."""
    async with asyncio.timeout(30):
        while True:
            (found,) = await client.subscriptions()
            if found.dead == number and not found.waiting:
                return found
            await asyncio.sleep(0.02)


async def test_an_operator_sees_dead_letters_and_has_them_tried_again(tmp_path: Path) -> None:
    async with failing(tmp_path) as at, DeliveriesClient(at.profile("noc")) as operator:
        for name in ("one", "two"):
            await at.partners.create("acme", CATALOG, {"name": name})
        troubled = await dead(operator, 2)
        letters = await operator.dead_letters("acme", at.hub)
        newest = await operator.dead_letters("acme", at.hub, limit=1)
        with pytest.raises(NotFound):
            await operator.dead_letters("globex", at.hub)
        with pytest.raises(NotFound, match="no partner 'nobody' is served"):
            await operator.subscriptions("nobody")
        before = len(at.hook.got)
        at.hook.answer = 204
        shown, number = await operator.retry("acme", at.hub)
        well = await dead(operator, 0)
        again = await operator.retry("acme", at.hub)
        others = await operator.subscriptions("globex")

    assert (troubled.tenant, troubled.id, troubled.callback) == ("acme", at.hub, at.hook.url)
    assert troubled.troubled
    assert "500" in troubled.last_error
    assert [(each.event_type, each.attempts) for each in letters] == [("ServiceCatalogCreateEvent", 2)] * 2
    assert letters[0].at > letters[1].at
    assert newest == letters[:1]
    assert (shown.state, number, well.troubled) == ("active", 2, False)
    assert again[1] == 0
    names = [each.document["event"]["serviceCatalog"]["name"] for each in at.hook.got[before:]]
    assert names == ["one", "two"]
    assert {each.document["eventId"] for each in at.hook.got[before:]} == {each.event_id for each in letters}
    assert others == []


@pytest.mark.parametrize(
    ("name", "role", "sentence"),
    [
        ("reader", Role.USER, "not operate it"),
        ("stranger", Role.USER, "may not read this twin"),
        ("api", Role.USER, "not operate it"),
        ("ran", Role.AGENT, "agents show their domain here"),
    ],
)
async def test_only_operators_see_them(tmp_path: Path, name: str, role: Role, sentence: str) -> None:
    async with failing(tmp_path) as at, DeliveriesClient(at.profile(name, role)) as client:
        for refused in (
            client.subscriptions(),
            client.dead_letters("acme", at.hub),
            client.retry("acme", at.hub),
        ):
            with pytest.raises(NotShared, match=sentence):
                await refused


async def test_the_commands_show_them_and_have_them_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with failing(tmp_path) as at, DeliveriesClient(at.profile("noc")) as operator:
        who = at.profile("noc")
        (tmp_path / "noc.toml").write_text(
            "".join(f'{key} = "{value}"\n' for key, value in who.model_dump().items() if value)
        )

        async def fedtwin(*words: str) -> tuple[int, str, str]:
            capsys.readouterr()
            status = await asyncio.to_thread(run, ["deliveries", *words, "--at", str(tmp_path / "noc.toml")])
            told = capsys.readouterr()
            return status, told.out, told.err

        well = await fedtwin("list", "--troubled")
        await at.partners.create("acme", CATALOG, {"name": "one"})
        await dead(operator, 1)
        listed = await fedtwin("list")
        as_json = json.loads((await fedtwin("list", "--json"))[1])
        letters = await fedtwin("letters", at.hub[:6])
        letters_json = json.loads((await fedtwin("letters", at.hub, "--json"))[1])
        unknown = await fedtwin("retry", "zzz")
        unclear = await fedtwin("retry")
        at.hook.answer = 204
        retried = await fedtwin("retry", "--all")
        await until(lambda: at.hook.got[-1].document["event"]["serviceCatalog"]["name"] == "one")
        await dead(operator, 0)
        nothing = await fedtwin("retry", "--all")
        one = json.loads((await fedtwin("retry", at.hub[:6], "--json"))[1])

    assert "Every event gets to its partner" in well[1]
    assert at.hub[:8] in listed[1]
    assert as_json["subscriptions"][0]["dead"] == 1
    assert "ServiceCatalogCreateEvent" in letters[1]
    assert letters_json["letters"][0]["attempts"] == 2
    assert (unknown[0], unclear[0]) == (1, 2)
    assert "fedtwin deliveries list" in unknown[2]
    assert "1 dead letter tried again" in retried[1]
    assert "nothing to try again" in nothing[1]
    assert one["retried"][0]["letters"] == 0


def test_an_agent_has_no_partners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "agent.sock"))
        status = run(["deliveries", "list", "--at", str(tmp_path / "agent.sock")])

    assert status == 1
    assert "ask the broker" in capsys.readouterr().err
