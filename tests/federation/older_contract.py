"""The contract of the version before: message types made from `base.binpb`, and peers that know no others.

What they write has no newer field, and newer fields that reach them are unknown to them, as on a real wire.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from domain_twin.trust.credentials import Identity
from federation.v1 import fedtwin_pb2 as today
from federation.wire import statements

BASE = descriptor_pb2.FileDescriptorSet.FromString(
    (Path(today.__file__).parent / "base.binpb").read_bytes()
).file[0]
POOL = descriptor_pool.DescriptorPool()
POOL.Add(BASE)


def old(name: str) -> Any:
    """The message type `name` of the older contract."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"fedtwin.v1.{name}"))


def method(channel: Any, name: str) -> Any:
    """An RPC of the Twin service as an older client calls it."""
    found = next(m for s in BASE.service if s.name == "Twin" for m in s.method if m.name == name)
    make = channel.unary_stream if found.server_streaming else channel.unary_unary
    return make(
        f"/fedtwin.v1.Twin/{name}",
        old(found.input_type.rpartition(".")[2]).SerializeToString,
        old(found.output_type.rpartition(".")[2]).FromString,
    )


def signed(identity: Identity, message: Any, kind: str) -> Any:
    payload = message.SerializeToString()
    return old("Signed")(payload=old("Body")(inline=payload), jws=identity.signer.sign(payload, kind=kind))


class OlderAgent:
    """An agent of the older contract: shows one view, takes every budget, describes itself."""

    def __init__(self, channel: Any, identity: Identity, domain: str, view: bytes) -> None:
        self.asked: list[str] = []
        self.terms: Any = None
        self.unknown: list[Any] = []
        self._identity = identity
        self._domain = domain
        self._view = view
        self._call = channel.stream_stream(
            "/fedtwin.v1.Federation/Attach",
            old("AgentMessage").SerializeToString,
            old("BrokerMessage").FromString,
        )()

    async def run(self) -> None:
        await self._call.write(
            old("AgentMessage")(
                hello=old("Hello")(
                    domain=self._domain,
                    instance="older",
                    incarnation=1,
                    contract_versions=[1],
                    software="fedtwin 0",
                    signing_certificate=self._identity.signing_chain,
                    nonce=b"n" * 32,
                )
            )
        )
        while (message := await self._call.read()) is not grpc.aio.EOF:
            await self._take(message)

    async def _take(self, message: Any) -> None:
        kind = message.WhichOneof("body")
        if kind == "welcome":
            self.terms = old("WelcomeTerms").FromString(message.welcome.terms.payload.inline)
        elif kind == "ping":
            await self._say(heartbeat=old("Heartbeat")(ping_id=message.ping.ping_id))
        elif kind == "ask":
            await self._answer(message.ask)
        elif kind is None:
            self.unknown.append(message)

    async def _answer(self, ask: Any) -> None:
        body = ask.WhichOneof("body")
        self.asked.append(body)
        if body == "view":
            delta = old("ViewDelta").FromString(self._view)
            update = old("ViewUpdate")(
                ask_id=ask.id, delta=signed(self._identity, delta, statements.VIEW_DELTA)
            )
            await self._say(view_update=update)
            return
        answers = {
            "describe": old("DescribeAnswer")(agreement="a", level="mesh"),
            "budget": old("BudgetAnswer")(accepted=True),
            "evaluate": old("EvaluateAnswer")(),
        }
        answer = old("Answer")(ask_id=ask.id, signed=signed(self._identity, answers[body], statements.ANSWER))
        await self._say(answer=answer)

    async def _say(self, **body: Any) -> None:
        await self._call.write(old("AgentMessage")(**body))

    def close(self) -> None:
        self._call.cancel()


class OlderBroker:
    """A broker of the older contract: welcomes, asks each question once, and keeps what it hears."""

    def __init__(self, identity: Identity) -> None:
        self.sessions = 0
        self.hellos: list[Any] = []
        self.views: list[Any] = []
        self.answers: dict[int, Any] = {}
        self.say: asyncio.Queue[Any] = asyncio.Queue()
        self._identity = identity

    def handler(self) -> Any:
        return grpc.method_handlers_generic_handler(
            "fedtwin.v1.Federation",
            {
                "Attach": grpc.stream_stream_rpc_method_handler(
                    self._attach, old("AgentMessage").FromString, old("BrokerMessage").SerializeToString
                )
            },
        )

    async def _attach(self, _requests: Any, context: Any) -> None:
        hello = (await context.read()).hello
        self.hellos.append(hello)
        self.sessions += 1
        terms = old("WelcomeTerms")(
            session_id=f"s{self.sessions}",
            broker=str(self._identity.id),
            contract_version=1,
            nonce=hello.nonce,
            heartbeat_ms=500,
            dead_after_ms=5000,
            chunk_bytes=256 << 10,
            window_bytes=1 << 20,
            max_in_flight=16,
            max_message_bytes=1 << 20,
        )
        welcome = old("Welcome")(
            terms=signed(self._identity, terms, statements.WELCOME),
            signing_certificate=self._identity.signing_chain,
        )
        await context.write(old("BrokerMessage")(welcome=welcome))
        speaking = asyncio.create_task(self._speak(context))
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                if message.HasField("answer"):
                    self.answers[message.answer.ask_id] = message.answer
                if message.HasField("view_update"):
                    body = message.view_update.delta.payload.inline
                    self.views.append(old("ViewDelta").FromString(body))
        finally:
            speaking.cancel()

    async def _speak(self, context: Any) -> None:
        while True:
            await context.write(await self.say.get())
