"""Peers that die, fall silent, or stop reading: noticed, and never paid for with memory."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from session_parts import EXCHANGE, OPERATORS, Broker, Domain, Host, Pki, agent, broker, same_view, until

from domain_twin.config import AgentConfig
from domain_twin.errors import SessionLost, Unreachable
from domain_twin.model import Level
from domain_twin.trust.credentials import Identity, load_identity
from domain_twin.trust.identity import Role
from domain_twin.trust.tls import channel_credentials, server_credentials
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire import statements

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def write_config(config: AgentConfig, state: Path) -> Path:
    state.mkdir()
    file = state / "config.json"
    file.write_text(config.model_dump_json(), encoding="utf-8")
    return file


@asynccontextmanager
async def agent_process(pki: Pki, address: str, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    config = pki.agent_config("ran", address, state)
    file = write_config(config, state)
    process = await asyncio.create_subprocess_exec(sys.executable, str(HERE / "agent_process.py"), str(file))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


async def test_a_killed_agent_is_noticed_by_the_connection(pki: Pki, tmp_path: Path) -> None:
    async with (
        broker(pki, tmp_path, heartbeat_s=50, dead_after_s=100) as b,
        agent_process(pki, b.address, tmp_path / "a") as process,
    ):
        session = await b.session("ran")
        ask = asyncio.create_task(session.ping(50))

        process.kill()

        await until(lambda: b.host.lost_because)
        assert b.host.lost_because[0][1].startswith("connection lost")
        with pytest.raises((SessionLost, Unreachable)):
            await ask
        with pytest.raises(SessionLost):
            await session.ping(1)


async def test_a_black_hole_is_noticed_by_silence_and_forgiven(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with (
        broker(pki, tmp_path, host=host, heartbeat_s=0.2, dead_after_s=1.5) as b,
        agent_process(pki, b.address, tmp_path / "a") as process,
    ):
        session = await b.session("ran")
        await until(lambda: "ran" in host.views)

        process.send_signal(signal.SIGSTOP)
        await until(lambda: host.lost_because)

        assert host.lost_because == [("ran", "nothing was heard for 1.5 s")]
        assert not session.open
        process.send_signal(signal.SIGCONT)
        again = await b.session("ran")
        assert (again.instance, again.hello.incarnation) == (session.instance, session.hello.incarnation)
        assert await again.ask(pb.DescribeAsk(), timeout_s=10)


async def test_a_second_installation_gets_in_when_the_first_is_silent(pki: Pki, tmp_path: Path) -> None:
    async with (
        broker(pki, tmp_path, heartbeat_s=0.3, dead_after_s=60) as b,
        agent_process(pki, b.address, tmp_path / "a") as process,
    ):
        first = await b.session("ran")
        process.send_signal(signal.SIGSTOP)

        async with agent(pki, b.address, tmp_path / "b"):
            await until(lambda: len(b.host.attachments) == 2)

            assert b.host.sessions["ran"] is not first
            assert await b.host.sessions["ran"].ask(pb.DescribeAsk(), timeout_s=10)


class SilentBroker(rpc.FederationServicer):  # type: ignore[misc]
    """Welcomes, asks for a view, and then neither reads nor writes."""

    def __init__(self, identity: Identity, dead_after_ms: int) -> None:
        self.identity = identity
        self.dead_after_ms = dead_after_ms
        self.attached = 0

    async def Attach(self, _requests: Any, context: Any) -> None:
        hello = (await context.read()).hello
        terms = pb.WelcomeTerms(
            session_id="s",
            broker=str(self.identity.id),
            contract_version=1,
            nonce=hello.nonce,
            heartbeat_ms=100,
            dead_after_ms=self.dead_after_ms,
            chunk_bytes=256 << 10,
            window_bytes=1 << 20,
            max_in_flight=16,
            max_message_bytes=1 << 20,
        ).SerializeToString()
        jws = self.identity.signer.sign(terms, kind=statements.WELCOME)
        welcome = pb.Welcome(
            terms=pb.Signed(payload=pb.Body(inline=terms), jws=jws),
            signing_certificate=self.identity.signing_chain,
        )
        await context.write(pb.BrokerMessage(welcome=welcome))
        await context.write(pb.BrokerMessage(ask=pb.Ask(id=1, view=pb.ViewAsk(level="mesh"))))
        self.attached += 1
        await asyncio.sleep(100)


@asynccontextmanager
async def silent_broker(pki: Pki, dead_after_ms: int) -> AsyncIterator[tuple[SilentBroker, str]]:
    files = pki.broker()
    identity = load_identity(files, operator=EXCHANGE, role=Role.BROKER, name="main")
    servicer = SilentBroker(identity, dead_after_ms)
    server = grpc.aio.server()
    rpc.add_FederationServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, pki.trust))
    await server.start()
    try:
        yield servicer, f"localhost:{port}"
    finally:
        await server.stop(0)


async def test_a_silent_broker_is_left_and_dialled_again(pki: Pki, tmp_path: Path) -> None:
    async with silent_broker(pki, 600) as (servicer, address), agent(pki, address, tmp_path / "a") as a:
        await until(lambda: servicer.attached == 2)

    assert any("nothing was heard for 0.6 s; next try in" in status for status in a.statuses)


async def test_a_broker_that_does_not_read_costs_the_agent_no_memory(pki: Pki, tmp_path: Path) -> None:
    async with silent_broker(pki, 60_000) as (servicer, address), agent(pki, address, tmp_path / "a") as a:
        await until(lambda: servicer.attached == 1)
        attachment = await until(lambda: a.session._current)
        view = await until(lambda: attachment._view)
        blob = tuple(f"{n:0100}" for n in range(5_000))  # 500 kB a delta; 1 MiB and more blocks the stream

        for _ in range(200):
            a.domain.change()
            if view._unsent:
                view._unsent = type(view._unsent)(
                    **{f: getattr(view._unsent, f) for f in view._unsent.__slots__} | {"gone_points": blob}
                )
            await asyncio.sleep(0.01)

        assert attachment._framing.waiting <= 8
        assert len(view._unsent.points) <= 7
        assert view.sent.sequence < a.domain.view_now.version.sequence


@asynccontextmanager
async def reading_nothing(pki: Pki, b: Broker) -> AsyncIterator[Any]:
    """An agent that says Hello and never reads."""
    identity = load_identity(pki.agent("ran"), operator=OPERATORS["ran"], role=Role.AGENT, name="ran")
    credentials = channel_credentials(pki.roots[EXCHANGE], identity.tls)
    async with grpc.aio.secure_channel(b.address, credentials) as channel:
        call = rpc.FederationStub(channel).Attach()
        hello = pb.Hello(
            domain="ran",
            instance="i",
            incarnation=1,
            contract_versions=[99, 1],  # of a later version, which still speaks this one
            signing_certificate=identity.signing_chain,
            nonce=b"n" * 32,
        )
        await call.write(pb.AgentMessage(hello=hello))
        yield call
        call.cancel()


async def test_an_agent_that_does_not_read_costs_the_broker_no_memory(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, reading_nothing(pki, b):
        session = await b.session("ran")

        for n in range(20_000):
            session.end_job("j" * 10_000)
            if n % 100 == 0:
                await asyncio.sleep(0)
        large = pb.EvaluateAsk(segments=[pb.SegmentAsk(source="x" * 1000) for _ in range(10_000)])
        with pytest.raises(Unreachable):
            await session.ask(large, timeout_s=1)

        assert session.framing.waiting <= 520
        assert session.open
        assert session.hello.contract_version == 1


async def test_an_ask_that_waits_for_credit_fails_when_the_session_ends(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, reading_nothing(pki, b) as call:
        session = await b.session("ran")
        large = pb.EvaluateAsk(segments=[pb.SegmentAsk(source="x" * 1000) for _ in range(10_000)])
        asks = [asyncio.create_task(session.ask(large, timeout_s=100)) for _ in range(4)]
        await until(lambda: session.framing.waiting)
        await asyncio.sleep(0.1)

        call.cancel()

        results = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(result) for result in results] == [SessionLost] * 4


async def test_four_views_keep_up_while_one_agent_is_stopped(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with (
        broker(pki, tmp_path, host=host, heartbeat_s=0.2, dead_after_s=2) as b,
        agent_process(pki, b.address, tmp_path / "a") as process,
        agent(pki, b.address, tmp_path / "t", domain=Domain("transport")) as t,
    ):
        await until(lambda: len(host.views) == 2)
        process.send_signal(signal.SIGSTOP)

        for _ in range(100):
            t.domain.change()
            await asyncio.sleep(0)

        await until(lambda: same_view(host.views["transport"], t.domain.view_now))
        await until(lambda: host.lost_because)
        assert [domain for domain, _ in host.lost_because] == ["ran"]
