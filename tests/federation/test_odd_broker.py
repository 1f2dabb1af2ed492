"""A broker that breaks the contract costs its agents a session, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from rubbish_peer import FUTURE
from session_parts import (
    EXCHANGE,
    Domain,
    Host,
    Pki,
    agent,
    broker,
    until,
)

from domain_twin.model import Level
from domain_twin.trust.credentials import Identity, load_identity
from domain_twin.trust.identity import Role
from domain_twin.trust.tls import server_credentials
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire import statements


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class OddBroker(rpc.FederationServicer):  # type: ignore[misc]
    """Welcomes properly, then does what a test says; `said` is what came from the agent."""

    def __init__(self, identity: Identity, then: Callable[[Any, OddBroker], Any], dead_after_ms: int) -> None:
        self.identity = identity
        self.then = then
        self.dead_after_ms = dead_after_ms
        self.said: list[pb.AgentMessage] = []

    async def Attach(self, _requests: Any, context: Any) -> None:
        hello = (await context.read()).hello
        terms = pb.WelcomeTerms(
            session_id="s",
            broker=str(self.identity.id),
            contract_version=1,
            nonce=hello.nonce,
            heartbeat_ms=200,
            dead_after_ms=self.dead_after_ms,
            chunk_bytes=256 << 10,
            window_bytes=1 << 20,
            max_in_flight=16,
            max_message_bytes=1 << 20,
        ).SerializeToString()
        jws = self.identity.signer.sign(terms, kind=statements.WELCOME)
        signed = pb.Signed(payload=pb.Body(inline=terms), jws=jws)
        welcome = pb.Welcome(terms=signed, signing_certificate=self.identity.signing_chain)
        await context.write(pb.BrokerMessage(welcome=welcome).SerializeToString())

        async def hear() -> None:
            while (message := await context.read()) is not grpc.aio.EOF:
                self.said.append(message)

        hearing = asyncio.create_task(hear())
        try:
            await self.then(context, self)
            await hearing
        finally:
            hearing.cancel()

    def answers(self) -> list[pb.Answer]:
        return [message.answer for message in self.said if message.HasField("answer")]


@asynccontextmanager
async def odd_broker(
    pki: Pki, then: Callable[[Any, OddBroker], Any], dead_after_ms: int = 10_000
) -> AsyncIterator[tuple[OddBroker, str]]:
    files = pki.broker()
    identity = load_identity(files, operator=EXCHANGE, role=Role.BROKER, name="main")
    odd = OddBroker(identity, then, dead_after_ms)
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        odd.Attach, request_deserializer=pb.AgentMessage.FromString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("fedtwin.v1.Federation", {"Attach": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, pki.trust))
    await server.start()
    try:
        yield odd, f"localhost:{port}"
    finally:
        await server.stop(0)


def from_broker(**body: Any) -> bytes:
    return pb.BrokerMessage(**body).SerializeToString()


ODD: dict[str, tuple[list[bytes], str]] = {
    "an ask twice": (
        [from_broker(ask=pb.Ask(id=7, evaluate=pb.EvaluateAsk()))] * 2,
        "ask 7 came a second time",
    ),
    "credit out of nothing": ([from_broker(credit=pb.Credit(bytes=1))], "credit for 1 bytes came"),
    "an oversize chunk": (
        [from_broker(chunk=pb.Chunk(transfer_id=9, data=b"x" * 300_000))],
        "a chunk of 300000 bytes came",
    ),
    "a transfer of nothing": (
        [from_broker(ask=pb.Ask(id=7, transfer=pb.Transfer(transfer_id=7, bytes=5)))],
        "5 bytes were announced and 0 came",
    ),
    "chunks without end": (
        [from_broker(chunk=pb.Chunk(transfer_id=9, data=b"x" * 262_144))] * 70,
        "an ask of more than 16777216 bytes came",
    ),
    "a second welcome": ([from_broker(welcome=pb.Welcome())], "a second Welcome came"),
    "garbage": ([b"\xff\xff\xff\xff rubbish"], "no message of the contract"),
}


@pytest.mark.parametrize("name", ODD)
async def test_a_broken_broker_costs_the_agent_its_session_only(name: str, pki: Pki, tmp_path: Path) -> None:
    messages, sentence = ODD[name]

    async def then(context: Any, _: OddBroker) -> None:
        for message in messages:
            await context.write(message)

    domain = Domain()
    domain.gate = asyncio.Event()
    async with (
        odd_broker(pki, then) as (_, address),
        agent(pki, address, tmp_path / "a", domain=domain) as a,
    ):
        await until(lambda: any(sentence in status for status in a.statuses))
        await until(lambda: sum("attached to" in status for status in a.statuses) > 1)  # it dials again


async def test_the_agent_ignores_messages_of_a_later_contract(pki: Pki, tmp_path: Path) -> None:
    async def then(context: Any, _: OddBroker) -> None:
        for _ in range(3):
            await context.write(FUTURE)
        await context.write(from_broker(ask=pb.Ask(id=7)) + FUTURE)  # an ask of a later contract
        await context.write(from_broker(ask=pb.Ask(id=8, describe=pb.DescribeAsk())))

    async with odd_broker(pki, then) as (odd, address), agent(pki, address, tmp_path / "a") as a:
        await until(lambda: len(odd.answers()) == 2)
        answers = {answer.ask_id: answer for answer in odd.answers()}

        assert "does not know such a question; update it" in answers[7].refusal.reason
        assert answers[8].HasField("signed")
        assert a.session._current
        assert a.session._current.unknown_messages == 3
        assert a.session.connected


async def test_a_broker_that_grants_no_credit_is_left(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.answer_bytes = 5_000_000

    async def then(context: Any, _: OddBroker) -> None:
        await context.write(from_broker(ask=pb.Ask(id=7, evaluate=pb.EvaluateAsk())))
        while True:
            await context.write(from_broker(ping=pb.Ping(ping_id=1)))
            await asyncio.sleep(0.1)

    async with (
        odd_broker(pki, then, dead_after_ms=500) as (_, address),
        agent(pki, address, tmp_path / "a", domain=domain) as a,
    ):
        await until(lambda: any("takes nothing of what is said to it for 1 s" in s for s in a.statuses))


async def test_pings_are_answered_while_the_agent_makes_a_view(pki: Pki, tmp_path: Path) -> None:
    """A cold search that takes longer than the session would live in silence."""
    import time

    class Slow(Domain):
        async def view(self, *arguments: Any) -> Any:
            await asyncio.to_thread(time.sleep, 3.0)
            return await super().view(*arguments)

    host = Host(watch=Level.MESH)
    async with (
        broker(pki, tmp_path, host=host, heartbeat_s=0.2, dead_after_s=1) as b,
        agent(pki, b.address, tmp_path / "a", domain=Slow()),
    ):
        session = await b.session("ran")
        described = await session.ask(pb.DescribeAsk(), timeout_s=20)

        assert "ran" in host.views, "an answer never tells of what the view does not show yet"
        assert described.software == "test"
        assert host.lost_because == []
        assert session.open
