"""Agents that send rubbish, too much, too little, or to the wrong place: bounded, told once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from rubbish_peer import FUTURE, WHO, Peer, channel_of, peer_of, swallow, told, with_bystander
from session_parts import (
    OPERATORS,
    Host,
    Pki,
    agent,
    broker,
    until,
    view_delta,
)

from domain_twin.errors import ContractError, OverCapacity, SessionLost
from domain_twin.model import Level
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.identity import Role
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import statements
from federation.wire.convert import encode_view_delta
from federation.wire.framing import (
    STREAM_OPTIONS,
    VIEW_TRANSFER,
    Framing,
    Limits,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


BYTES = {
    "garbage": b"\xff\xff\xff\xff rubbish",
    "truncated": pb.AgentMessage(goodbye=pb.Goodbye(reason="r" * 50)).SerializeToString()[:-9],
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", BYTES)
async def test_bytes_that_are_no_message_end_one_session_with_one_line(
    name: str, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()
        await b.session("ran")

        await peer.call.write(BYTES[name])

        assert "bytes came that are no message of the contract" in str(await peer.end())
        await until(lambda: b.host.lost_because)
    assert [record.peer for record in told(caplog, "contract broken")] == [WHO]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_first_bytes_that_are_no_hello_are_refused_with_one_line(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.call.write(BYTES["garbage"])

        error = await peer.end()

    assert isinstance(error, ContractError)
    assert "its first bytes are no message of the contract" in str(error)
    assert [record.peer for record in told(caplog, "agent refused")] == [WHO]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_messages_of_a_later_contract_are_counted_and_the_session_goes_on(
    pki: Pki, tmp_path: Path
) -> None:
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")

        for _ in range(5):
            await peer.call.write(FUTURE)
        known_with_more = pb.AgentMessage(heartbeat=pb.Heartbeat()).SerializeToString() + FUTURE
        await peer.call.write(known_with_more)
        asking = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=10))
        await peer.write(answer=peer.answer((await peer.ask()).id))

        assert (await asking).software == "s"
        assert session.late_messages == 5


TRANSFERS = {
    "more bytes than announced": (3, {"bytes": 2}, "2 bytes were announced and 3 came"),
    "fewer bytes than announced": (3, {"bytes": 2**64 - 1}, "18446744073709551615 bytes were announced"),
    "no bytes announced": (3, {"bytes": 0}, "0 bytes were announced and 3 came"),
    "another sha256": (3, {"bytes": 3, "sha256": b"x" * 32}, "do not have the announced SHA-256"),
}


@pytest.mark.parametrize("name", TRANSFERS)
async def test_a_transfer_that_is_not_what_was_announced_ends_the_session(
    name: str, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size, changes, sentence = TRANSFERS[name]
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")
        asking = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=10))
        ask = await peer.ask()

        await peer.write(chunk=pb.Chunk(transfer_id=ask.id, data=b"y" * size))
        transfer = pb.Transfer(transfer_id=ask.id, **changes)
        await peer.write(
            answer=pb.Answer(ask_id=ask.id, signed=pb.Signed(payload=pb.Body(transfer=transfer)))
        )

        with pytest.raises(SessionLost):
            await asking
        assert sentence in str(await peer.end())
        assert session.framing.inbox.bytes_held == 0
    assert [record.peer for record in told(caplog, "contract broken")] == [WHO]


@pytest.mark.parametrize("size", [0, (1 << 20) + 1, 2**64 - 1])
async def test_credit_out_of_nothing_ends_the_session(size: int, pki: Pki, tmp_path: Path) -> None:
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()

        await peer.write(credit=pb.Credit(bytes=size))

        assert f"credit for {size} bytes came" in str(await peer.end())


async def test_what_waits_for_credit_that_never_comes_ends_the_session_at_last(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = pb.EvaluateAsk(segments=[pb.SegmentAsk(source="x" * 1000) for _ in range(3000)])
    async with (
        with_bystander(pki, tmp_path, heartbeat_s=0.2, dead_after_s=1) as (b, _),
        peer_of(pki, b.address) as peer,
    ):
        await peer.attach()
        session = await b.session("ran")

        async def answer_pings() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await peer.ask()

        answering = asyncio.create_task(answer_pings())
        with pytest.raises(SessionLost, match="takes nothing of what is said to it"):
            await session.ask(large, timeout_s=60)
        answering.cancel()
    assert [record.peer for record in told(caplog, "agent does not read")] == [WHO]


async def test_an_agent_that_never_reads_is_left_although_it_sends(pki: Pki, tmp_path: Path) -> None:
    async with (
        with_bystander(pki, tmp_path, heartbeat_s=0.2, dead_after_s=1) as (b, _),
        peer_of(pki, b.address) as peer,
    ):
        await peer.attach()
        session = await b.session("ran")
        most = 0

        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while session.open:
                await peer.write(heartbeat=pb.Heartbeat())
                session.end_job("j" * 10_000)
                most = max(most, session.framing.waiting)
                await asyncio.sleep(0.005)

        await until(lambda: b.host.lost_because)
        assert "takes nothing of what is said to it for 2 s" in b.host.lost_because[0][1]
        assert most <= 520


async def test_answers_that_nobody_waits_for_change_nothing(pki: Pki, tmp_path: Path) -> None:
    async with with_bystander(pki, tmp_path) as (b, bystander), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")
        asking = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=10))
        ask = await peer.ask()

        await peer.write(answer=peer.answer(ask.id + 1000))
        await until(lambda: session.late_messages == 1)
        # Both before the one who asked gets a turn.
        assert session._dispatch(pb.AgentMessage(answer=peer.answer(ask.id)))
        another = peer.answer(ask.id, pb.DescribeAnswer(software="another"))
        assert not session._dispatch(pb.AgentMessage(answer=another))
        assert (await asking).software == "s"
        await peer.write(answer=another)
        await until(lambda: session.late_messages == 3)

        assert session.open
        assert bystander.open


async def test_an_answer_of_an_older_session_fits_no_ask_of_a_newer_one(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b:
        ids = []
        for incarnation in (1, 2):
            async with peer_of(pki, b.address) as peer:
                await peer.attach(incarnation=incarnation)
                session = await until(
                    lambda n=incarnation: (s := b.host.sessions.get("ran")) and s.hello.incarnation == n and s
                )
                asking = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=10))
                ids.append((await peer.ask()).id)
                if incarnation == 2:
                    await peer.write(answer=peer.answer(ids[0], pb.DescribeAnswer(software="old")))
                    await peer.write(answer=peer.answer(ids[1]))
                    assert (await asking).software == "s"
                    assert session.late_messages == 1
                else:
                    asking.cancel()


async def test_an_answer_signed_by_another_domain_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = load_identity(pki.agent("core"), operator=OPERATORS["core"], role=Role.AGENT, name="core")
    async with with_bystander(pki, tmp_path) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")
        asking = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=10))
        ask = await peer.ask()
        peer.identity = other

        await peer.write(answer=peer.answer(ask.id))

        with pytest.raises(ContractError, match="does not hold"):
            await asking
        await until(lambda: not session.open)


async def test_a_second_agent_is_refused_in_words_at_both_ends(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "one"):
        first = await b.session("ran")
        async with agent(pki, b.address, tmp_path / "two") as second:
            await until(lambda: second.session.error)

        assert first.open
    refused = told(caplog, "agent refused")[0]
    assert refused.peer == WHO
    assert (
        f"another agent of this domain is connected and answers (instance {first.instance})" in refused.reason
    )
    statuses = [record for record in told(caplog, "broker session") if record.levelno == logging.WARNING]
    assert "a domain has one agent, stop one of the two" in statuses[0].status


FLOODS: dict[str, Callable[[Peer, int], dict[str, Any]]] = {
    "heartbeats": lambda _, n: {"heartbeat": pb.Heartbeat(ping_id=n)},
    "answers": lambda peer, n: {"answer": pb.Answer(ask_id=n, refusal=pb.Refusal(reason="r"))},
    "views": lambda peer, n: {"view_update": pb.ViewUpdate(ask_id=n, delta=pb.Signed(jws="x"))},
    "chunks": lambda peer, n: {"chunk": pb.Chunk(transfer_id=n, data=b"x" * 100)},
}


@pytest.mark.parametrize("name", FLOODS)
async def test_an_agent_that_floods_is_read_more_slowly(
    name: str, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.session._UNASKED_AT_ONCE", 200.0)
    async with with_bystander(pki, tmp_path) as (b, bystander), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")
        read = 0
        dispatch = session._dispatch

        def counted(message: pb.AgentMessage) -> bool:
            nonlocal read
            read += 1
            return dispatch(message)

        session._dispatch = counted  # type: ignore[method-assign]
        reading = asyncio.create_task(swallow(peer.call))
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def flood() -> None:
            for n in range(100_000, 103_000):
                await peer.write(**FLOODS[name](peer, n))

        flooding = asyncio.create_task(flood())
        while loop.time() - started < 1.5:
            assert await bystander.ask(pb.DescribeAsk(), timeout_s=5)
        assert 200 <= read <= 200 + 500 * (loop.time() - started) + 50
        flooding.cancel()
        reading.cancel()
        await asyncio.gather(flooding, reading, return_exceptions=True)

        assert session.open
    warned = told(caplog, "agent sends more than it was asked for; it is read more slowly")
    assert [record.peer for record in warned] == [WHO]


async def test_a_stream_that_says_nothing_is_ended(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        with_bystander(pki, tmp_path, hello_within_s=0.3) as (b, _),
        peer_of(pki, b.address) as peer,
    ):
        error = await peer.end()

        assert f"{WHO}: no Hello within 0.3 s" in str(error)
        assert b.service._silent.total() == 0
    assert [record.peer for record in told(caplog, "agent refused")] == [WHO]


async def test_streams_that_say_nothing_are_few(pki: Pki, tmp_path: Path) -> None:
    async with (
        with_bystander(pki, tmp_path, hello_within_s=5) as (b, _),
        channel_of(pki, b.address) as (attach, identity),
    ):
        peers = [Peer(attach(), identity) for _ in range(300)]

        refused = [
            error
            for error in await asyncio.gather(*(peer.end() for peer in peers[:50]))
            if isinstance(error, OverCapacity)
        ]

        assert b.service._silent.total() <= 4
        assert len(refused) >= 46
        assert "of its streams have not said Hello yet" in str(refused[0])
        for peer in peers:
            peer.call.cancel()
        await until(lambda: not b.service._silent)
        again = Peer(attach(), identity)
        await again.attach()  # who says Hello is served


async def test_connections_that_never_finish_their_handshake_are_ended(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [("grpc.server_handshake_timeout_ms", 1500), ("grpc.max_allowed_incoming_connections", 400)]
    names = {name for name, _ in short}
    assert names <= {name for name, _ in STREAM_OPTIONS}
    monkeypatch.setattr(
        "session_parts.STREAM_OPTIONS", [o for o in STREAM_OPTIONS if o[0] not in names] + short
    )
    async with with_bystander(pki, tmp_path) as (b, bystander):
        host, _, port = b.address.partition(":")
        made = []
        for _ in range(600):
            with contextlib.suppress(OSError):
                made.append(await asyncio.open_connection(host, int(port)))

        assert await bystander.ask(pb.DescribeAsk(), timeout_s=10)
        ends = await asyncio.gather(*(reader.read() for reader, _ in made), return_exceptions=True)
        for _, writer in made:
            writer.close()

        assert len(ends) == len(made), "the broker ended them all"
        async with agent(pki, b.address, tmp_path / "a") as a:
            await until(lambda: a.session.connected)


async def test_only_one_view_is_kept_while_it_comes_in(pki: Pki, tmp_path: Path) -> None:
    async with (
        with_bystander(pki, tmp_path, host=Host(watch=Level.MESH)) as (b, _),
        peer_of(pki, b.address) as peer,
    ):
        await peer.attach()
        session = await b.session("ran")
        reading = asyncio.create_task(swallow(peer.call))

        for n in range(100):
            await peer.write(chunk=pb.Chunk(transfer_id=VIEW_TRANSFER | n, data=b"x" * 100_000))
        await until(lambda: session.framing.inbox.bytes_received == 100 * 100_000)

        assert session.framing.inbox.bytes_held == 100_000
        reading.cancel()


async def test_a_large_view_is_read_beside_the_loop_and_in_its_order(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with with_bystander(pki, tmp_path, host=host) as (b, _), peer_of(pki, b.address) as peer:
        await peer.attach()
        session = await b.session("ran")
        watched = await until(lambda: session._watch)

        def update(sequence: int, source: int | None, gone: int) -> tuple[bytes, str]:
            delta = view_delta(sequence, source=source, gone_points=tuple(f"{n:0100}" for n in range(gone)))
            payload = encode_view_delta(delta).SerializeToString()
            return payload, peer.identity.signer.sign(payload, kind=statements.VIEW_DELTA)

        large, jws = update(1, None, 30_000)
        framing = Framing(pb.AgentMessage, Limits(), lambda _: 0)
        writing = asyncio.create_task(
            framing.write_to(lambda message: peer.call.write(message.SerializeToString()))
        )

        async def take_credit() -> None:
            while True:
                message = await peer.read()
                if message.HasField("credit"):
                    framing.on_credit(message.credit)

        reading = asyncio.create_task(take_credit())
        await framing.send_signed(
            VIEW_TRANSFER | 1,
            large,
            jws,
            lambda s: {"view_update": pb.ViewUpdate(ask_id=watched.ask_id, delta=s)},
        )
        for sequence in range(2, 20):
            payload, jws = update(sequence, sequence - 1, 0)
            signed = pb.Signed(payload=pb.Body(inline=payload), jws=jws)
            framing.post(view_update=pb.ViewUpdate(ask_id=watched.ask_id, delta=signed))
        await until(lambda: "ran" in host.views and host.views["ran"].version.sequence == 19)
        writing.cancel()
        reading.cancel()

        assert [delta.target.sequence for delta in host.deltas if delta.domain == "ran"] == list(range(1, 20))
