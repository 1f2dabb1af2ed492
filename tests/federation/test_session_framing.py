"""Lanes, chunks and credit, without a network: one framing's messages handed to another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError, OverCapacity
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.framing import Framing, Inbox, Limits

SMALL = Limits(chunk_bytes=1024, window_bytes=4096, max_message_bytes=4096)


class Pair:
    """An agent's framing whose messages reach a broker's, and the other way round."""

    def __init__(self, limits: Limits) -> None:
        self.agent = Framing(pb.AgentMessage, limits, lambda _: 0)
        self.broker = Framing(pb.BrokerMessage, limits, lambda _: 1 << 20)
        self.seen: list[str] = []
        self.payloads: dict[int, bytes] = {}
        self.under_way = self.most_under_way = 0

    async def to_broker(self, message: pb.AgentMessage) -> None:
        kind = message.WhichOneof("body")
        self.seen.append(f"{kind}")
        if kind == "chunk":
            self.under_way += len(message.chunk.data)
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.broker.on_chunk(message.chunk)
        elif kind == "answer":
            self.payloads[message.answer.ask_id] = self.broker.payload(message.answer.signed.payload)
        await asyncio.sleep(0)

    async def to_agent(self, message: pb.BrokerMessage) -> None:
        self.under_way -= message.credit.bytes
        self.agent.on_credit(message.credit)
        await asyncio.sleep(0)


def answer(ask_id: int) -> Any:
    return lambda signed: {"answer": pb.Answer(ask_id=ask_id, signed=signed)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=9000), max_size=6), st.integers(0, 5))
def test_whatever_is_sent_arrives_within_the_window(payloads: list[bytes], pings: int) -> None:
    async def run() -> Pair:
        pair = Pair(SMALL)
        lines = [
            asyncio.ensure_future(pair.agent.write_to(pair.to_broker)),
            asyncio.ensure_future(pair.broker.write_to(pair.to_agent)),
        ]
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for ask_id, payload in enumerate(payloads):
                tasks.create_task(pair.agent.send_signed(ask_id, payload, "j", answer(ask_id)))
            for _ in range(pings):
                pair.agent.post(heartbeat=pb.Heartbeat())
        while pair.agent.waiting or len(pair.payloads) < len(payloads):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0)
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        return pair

    pair = asyncio.run(run())

    assert pair.payloads == dict(enumerate(payloads))
    assert pair.most_under_way <= SMALL.window_bytes
    assert pair.seen.count("heartbeat") == pings


async def test_control_passes_bulk_and_bulk_keeps_its_order() -> None:
    framing = Framing(pb.AgentMessage, SMALL, lambda _: 0)
    sending = asyncio.create_task(framing.send_signed(1, b"x" * 3000, "j", answer(1)))
    await asyncio.sleep(0)
    for n in range(3):
        framing.post(heartbeat=pb.Heartbeat(ping_id=n))
    written: list[Any] = []

    async def write(message: Any) -> None:
        written.append(message)
        await asyncio.sleep(0)

    writer = asyncio.create_task(framing.write_to(write))
    async with asyncio.timeout(5):
        await sending
        while len(written) < 7:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0)
    writer.cancel()

    assert [m.WhichOneof("body") for m in written] == ["heartbeat"] * 3 + ["chunk"] * 3 + ["answer"]
    assert [m.heartbeat.ping_id for m in written[:3]] == [0, 1, 2]


async def test_without_credit_no_more_than_the_window_leaves() -> None:
    framing = Framing(pb.AgentMessage, SMALL, lambda _: 0)
    written: list[Any] = []

    async def write(message: Any) -> None:
        written.append(message)

    writer = asyncio.create_task(framing.write_to(write))
    sending = asyncio.create_task(framing.send_signed(1, b"x" * 100_000, "j", answer(1)))
    for _ in range(100):
        await asyncio.sleep(0)
    sending.cancel()
    writer.cancel()

    assert sum(len(m.chunk.data) for m in written) == SMALL.window_bytes


async def test_grants_add_up_and_do_not_starve_control() -> None:
    framing = Framing(pb.BrokerMessage, SMALL, lambda _: 1 << 20)
    written: list[Any] = []

    async def write(message: Any) -> None:
        written.append(message)
        framing.on_chunk(pb.Chunk(transfer_id=1, data=b"x" * 10))  # there is always something to grant
        await asyncio.sleep(0)

    framing.on_chunk(pb.Chunk(transfer_id=1, data=b"x" * 10))
    framing.on_chunk(pb.Chunk(transfer_id=1, data=b"x" * 20))
    framing.post(ping=pb.Ping(ping_id=1))
    writer = asyncio.create_task(framing.write_to(write))
    while len(written) < 4:  # noqa: ASYNC110 - seen from outside only
        await asyncio.sleep(0)
    writer.cancel()

    assert written[0].credit.bytes == 30
    assert written[1].ping.ping_id == 1


async def test_a_message_over_the_cap_is_refused_before_it_is_written() -> None:
    framing = Framing(pb.AgentMessage, SMALL, lambda _: 0)

    with pytest.raises(OverCapacity, match="does not fit: 4096"):
        framing.post(goodbye=pb.Goodbye(reason="x" * 5000))
    with pytest.raises(OverCapacity, match="does not fit: 4096"):
        await framing.send(goodbye=pb.Goodbye(reason="x" * 5000))


async def test_a_peer_that_does_not_read_is_over_capacity() -> None:
    framing = Framing(pb.AgentMessage, SMALL, lambda _: 0)

    for _ in range(512):
        framing.post(heartbeat=pb.Heartbeat())

    with pytest.raises(OverCapacity, match="a peer that does not read"):
        framing.post(heartbeat=pb.Heartbeat())


def test_a_transfer_that_outgrows_its_limit_is_dropped() -> None:
    inbox = Inbox(SMALL, lambda _: 1500)

    assert inbox.add(pb.Chunk(transfer_id=1, data=b"x" * 1000))
    assert not inbox.add(pb.Chunk(transfer_id=1, data=b"x" * 1000))
    with pytest.raises(ContractError, match="2000 bytes were announced and 0 came"):
        inbox.take(pb.Transfer(transfer_id=1, bytes=2000))


@pytest.mark.parametrize(
    "limits",
    [
        {"chunk_bytes": 0},
        {"window_bytes": 1},
        {"max_message_bytes": 1000},
        {"max_message_bytes": 1 << 30},
        {"max_in_flight": 0},
    ],
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ContractError, match="cannot work"):
        Limits(**limits)
