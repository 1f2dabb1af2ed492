"""This version and the one before it work together on a real wire, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from federation_parts import OPERATORS, Federation, local, until
from google.protobuf import descriptor_pb2
from older_contract import BASE, OlderAgent, OlderBroker, method, old
from session_parts import EXCHANGE, Pki, agent
from session_parts import until as until_now

from domain_twin.config import ClientConfig
from domain_twin.errors import ContractError
from domain_twin.model.delta import snapshot
from domain_twin.trust.credentials import load_identity, load_tls
from domain_twin.trust.identity import Role
from domain_twin.trust.tls import channel_credentials, server_credentials
from federation.client import TwinClient
from federation.v1 import fedtwin_pb2 as today
from federation.wire.convert import encode_view_delta
from federation.wire.framing import CONTRACT_VERSIONS


def fields(
    message: descriptor_pb2.DescriptorProto, prefix: str = ""
) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Every field by message and number, with all that the wire and readers rely on."""
    name = f"{prefix}{message.name}"
    found: dict[tuple[str, int], tuple[Any, ...]] = {}
    for field in message.field:
        group = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        found[name, field.number] = (field.name, field.type, field.label, field.type_name, group)
    for inner in message.nested_type:
        found |= fields(inner, f"{name}.")
    return found


def test_the_contract_keeps_whatever_the_version_before_has() -> None:
    now = descriptor_pb2.FileDescriptorProto()
    today.DESCRIPTOR.CopyToProto(now)
    kept = {key: value for message in now.message_type for key, value in fields(message).items()}
    methods = {(s.name, m.name): m for s in now.service for m in s.method}

    for message in BASE.message_type:
        for key, value in fields(message).items():
            assert kept[key] == value, key
    for service in BASE.service:
        for rpc in service.method:
            assert methods[service.name, rpc.name] == rpc
    assert CONTRACT_VERSIONS == (1,), "a second version needs a base of its own, and these tests for both"


@asynccontextmanager
async def older_agent(federation: Federation, broker: Any, domain: str) -> AsyncIterator[OlderAgent]:
    operator = OPERATORS[domain]
    files = federation.pki.identity(operator, Role.AGENT, domain)
    identity = load_identity(files, operator=operator, role=Role.AGENT, name=domain)
    view = encode_view_delta(snapshot(federation.domains[domain].view_now)).SerializeToString()
    credentials = channel_credentials(federation.pki.roots[EXCHANGE], identity.tls)
    async with grpc.aio.secure_channel(local(broker), credentials) as channel:
        older = OlderAgent(channel, identity, domain, view)
        with closing(older):
            running = asyncio.create_task(older.run())
            yield older
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_older_agent_takes_part_at_this_broker(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    async with (
        federation.broker() as broker,
        older_agent(federation, broker, "ran") as older,
        federation.agent("transport", broker),
        federation.agent("edge", broker),
        federation.client(broker) as twin,
    ):

        async def whole() -> bool:
            status = (await twin.services()).statuses[0]
            return status.met is True and {str(share.outcome) for share in status.budget if share.domain} == {
                "ok"
            }

        await until(whole)
        path = await twin.path("ran/cell-1", "edge/app")
        domains = {status.domain: status for status in await twin.domains()}

        assert path.paths[0].hops[0].domain == "ran"
        assert not any(hop.stale for hop in path.paths[0].hops)
        assert domains["ran"].connected
        assert domains["ran"].problem == ""
        assert {"view", "describe", "budget"} <= set(older.asked)
        assert older.terms.contract_version == 1


async def test_an_older_client_reads_this_broker(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    issued = federation.pki.identity(EXCHANGE, Role.USER, "ann")
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:

        async def joined() -> bool:
            return all([status.connected and status.version for status in await twin.domains()])

        await until(joined)
        credentials = channel_credentials(
            federation.pki.roots[EXCHANGE], load_tls(issued.certificate, issued.key)
        )
        async with grpc.aio.secure_channel(local(broker), credentials) as channel:
            domains = await method(channel, "ListDomains")(old("ListDomainsRequest")())
            views = await method(channel, "GetView")(old("GetViewRequest")())
            path = await method(channel, "FindPath")(
                old("FindPathRequest")(source="ran/cell-1", target="edge/app", mode="current")
            )
            services = await method(channel, "ListServices")(old("ListServicesRequest")())
            findings = await method(channel, "ListFindings")(old("ListFindingsRequest")())
            elements = await method(channel, "ListElements")(old("ListElementsRequest")())
            history = [
                page
                async for page in method(channel, "GetHistory")(
                    old("GetHistoryRequest")(service="uplink", start=1)
                )
            ]
            watching = method(channel, "Watch")(old("WatchRequest")())
            await watching.initial_metadata()
            federation.domains["ran"].set_delay("ran/cell-1", "ran/b1", 2.5)
            event = await watching.read()
            watching.cancel()

    assert {item.domain for item in domains.domains} == {"ran", "transport", "edge"}
    assert {view.domain for view in views.views} == {"ran", "transport", "edge"}
    assert path.answer.paths[0].hops
    assert services.services[0].service.name == "uplink"
    assert len(findings.findings) >= 0
    assert elements.elements
    assert any(page.statuses for page in history)
    assert event.event.id


@asynccontextmanager
async def older_server(pki: Pki, handlers: Any) -> AsyncIterator[str]:
    files = pki.broker()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers,))
    credentials = server_credentials(files.certificate, files.key, pki.trust)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def older_broker(pki: Pki) -> AsyncIterator[tuple[OlderBroker, str]]:
    identity = load_identity(pki.broker(), operator=EXCHANGE, role=Role.BROKER, name="main")
    older = OlderBroker(identity)
    async with older_server(pki, older.handler()) as address:
        yield older, address


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


async def test_this_agent_serves_an_older_broker(pki: Pki, tmp_path: Path) -> None:
    files = pki.agent("ran", folder="a")
    async with older_broker(pki) as (older, address):
        config = pki.agent_config("ran", address, tmp_path / "s", identity=files)
        async with agent(pki, address, tmp_path / "s", config=config) as a:
            await until_now(lambda: a.session.connected)
            asks = (
                old("Ask")(id=1, view=old("ViewAsk")(level="mesh")),
                old("Ask")(id=2, describe=old("DescribeAsk")()),
                old("Ask")(id=3, budget=old("BudgetAsk")(service_id="s", share_ms=4.0)),
                old("Ask")(id=4),  # a body that this agent does not know
            )
            for ask in asks:
                older.say.put_nowait(old("BrokerMessage")(ask=ask))
            await until_now(lambda: len(older.answers) == 3)
            a.domain.change()
            await until_now(lambda: len(older.views) == 2)
            budget = old("BudgetAnswer").FromString(older.answers[3].signed.payload.inline)

            assert older.hellos[0].contract_versions == [1]
            assert older.views[0].domain == "ran"
            assert older.views[1].source.sequence == older.views[0].target.sequence
            assert budget.least_ms == 2.0
            assert older.answers[4].refusal.reason

            pki.agent("ran", folder="a")  # an older broker would cut the old session short ...
            await asyncio.sleep(1.2)
            assert older.sessions == 1
            older.say.put_nowait(old("BrokerMessage")(reattach=old("Reattach")(reason="ends")))
            await until_now(lambda: older.sessions == 2)  # ... so the agent waits until it is told to
            assert older.hellos[1].signing_certificate != older.hellos[0].signing_certificate


async def test_what_an_older_twin_does_not_know_is_said_in_words(pki: Pki, tmp_path: Path) -> None:
    issued = pki.cas[EXCHANGE].issue(Role.USER, "ann", tmp_path)

    async def list_domains(_request: Any, _context: Any) -> Any:
        return old("ListDomainsResponse")(domains=[old("DomainStatus")(domain="ran", operator="o")])

    handler = grpc.unary_unary_rpc_method_handler(
        list_domains, old("ListDomainsRequest").FromString, old("ListDomainsResponse").SerializeToString
    )
    handlers = grpc.method_handlers_generic_handler("fedtwin.v1.Twin", {"ListDomains": handler})
    async with older_server(pki, handlers) as address:
        profile = ClientConfig(
            address=address,
            identity=f"spiffe://{EXCHANGE}/broker/main",
            root=pki.roots[EXCHANGE],
            certificate=issued.certificate,
            key=issued.key,
        )
        async with TwinClient(profile) as twin:
            assert [status.domain for status in await twin.domains()] == ["ran"]
            with pytest.raises(ContractError, match="of an earlier version"):
                await twin.alarms()
