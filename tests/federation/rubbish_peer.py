"""An agent's end of a stream that sends what a test says, beside an agent that must notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from session_parts import (
    EXCHANGE,
    OPERATORS,
    Broker,
    Domain,
    Pki,
    agent,
    broker,
)

from domain_twin.errors import TwinError
from domain_twin.trust.credentials import Identity, load_identity
from domain_twin.trust.identity import Role
from domain_twin.trust.refusal import error_of
from domain_twin.trust.tls import channel_credentials
from federation.session import Session
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import statements
from federation.wire.framing import (
    STREAM_OPTIONS,
)

WHO = f"spiffe://{OPERATORS['ran']}/agent/ran"
FUTURE = bytes.fromhex("9a0603616263")  # field 99 of a oneof that a later version of the contract has: "abc"


class Peer:
    """An agent's end of a stream that writes bytes as it likes."""

    def __init__(self, call: Any, identity: Identity) -> None:
        self.call = call
        self.identity = identity
        self.asks: list[pb.Ask] = []

    def hello(self, **more: Any) -> bytes:
        fields = {
            "domain": "ran",
            "instance": "i",
            "incarnation": 1,
            "contract_versions": [1],
            "signing_certificate": self.identity.signing_chain,
            "nonce": b"n" * 32,
            **more,
        }
        return pb.AgentMessage(hello=pb.Hello(**fields)).SerializeToString()

    async def write(self, **body: Any) -> None:
        await self.call.write(pb.AgentMessage(**body).SerializeToString())

    async def attach(self, **more: Any) -> None:
        await self.call.write(self.hello(**more))
        assert (await self.read()).HasField("welcome")

    async def read(self) -> pb.BrokerMessage:
        return pb.BrokerMessage.FromString(await self.call.read())

    async def ask(self) -> pb.Ask:
        """The next ask that is none for a view; pings are answered meanwhile."""
        while True:
            message = await self.read()
            if message.HasField("ping"):
                await self.write(heartbeat=pb.Heartbeat(ping_id=message.ping.ping_id))
            if message.HasField("ask") and not message.ask.HasField("view"):
                return message.ask

    def answer(self, ask_id: int, answer: Any = None) -> pb.Answer:
        payload = (answer or pb.DescribeAnswer(software="s")).SerializeToString()
        jws = self.identity.signer.sign(payload, kind=statements.ANSWER)
        return pb.Answer(ask_id=ask_id, signed=pb.Signed(payload=pb.Body(inline=payload), jws=jws))

    async def end(self) -> TwinError:
        """The error that the broker ends the call with, after whatever it says before."""
        async with asyncio.timeout(30):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            metadata = await self.call.trailing_metadata()
            return error_of(
                grpc.aio.AioRpcError(
                    await self.call.code(), grpc.aio.Metadata(), metadata, details=await self.call.details()
                ),
                "broker",
            )


@asynccontextmanager
async def channel_of(pki: Pki, address: str, name: str = "ran") -> AsyncIterator[tuple[Any, Identity]]:
    identity = load_identity(pki.agent(name), operator=OPERATORS[name], role=Role.AGENT, name=name)
    credentials = channel_credentials(pki.roots[EXCHANGE], identity.tls)
    options = [*STREAM_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield channel.stream_stream("/fedtwin.v1.Federation/Attach"), identity


@asynccontextmanager
async def peer_of(pki: Pki, address: str) -> AsyncIterator[Peer]:
    async with channel_of(pki, address) as (attach, identity):
        peer = Peer(attach(), identity)
        yield peer
        peer.call.cancel()


@asynccontextmanager
async def with_bystander(pki: Pki, folder: Path, **more: Any) -> AsyncIterator[tuple[Broker, Session]]:
    """A broker with an agent that nothing of this must concern: its session stands and answers at the end."""
    async with (
        broker(pki, folder, **more) as b,
        agent(pki, b.address, folder / "t", domain=Domain("transport")),
    ):
        bystander = await b.session("transport")
        yield b, bystander
        assert bystander.open
        assert await bystander.ask(pb.DescribeAsk(), timeout_s=10)


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == message]


async def swallow(call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while await call.read() is not grpc.aio.EOF:
            pass
