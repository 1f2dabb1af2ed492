"""All transfers of a session are bounded together; a window knows for how long it starves."""

from __future__ import annotations

import asyncio

import pytest

from domain_twin.errors import ContractError
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.framing import (
    MAX_VIEW_BYTES,
    Inbox,
    Limits,
    Window,
)


def test_all_transfers_together_are_bounded() -> None:
    inbox = Inbox(Limits(), lambda _: MAX_VIEW_BYTES, max_held=1_000_000)
    chunk = b"x" * 200_000

    kept = [inbox.add(pb.Chunk(transfer_id=n, data=chunk)) for n in range(1, 8)]

    assert kept == [True] * 5 + [False] * 2
    assert inbox.bytes_held == 1_000_000
    for n in range(1, 8):
        inbox.drop(n)
    assert inbox.bytes_held == 0


def test_more_transfers_than_can_be_asked_for_are_refused() -> None:
    inbox = Inbox(Limits(), lambda _: 100)

    for n in range(1, 34):
        inbox.add(pb.Chunk(transfer_id=n, data=b"x"))
    with pytest.raises(ContractError, match="more than 32 transfers were begun at once"):
        inbox.add(pb.Chunk(transfer_id=40, data=b"x"))


async def test_a_window_says_for_how_long_it_starves() -> None:
    window = Window(10)
    await window.take(10)
    assert window.starved_s == 0.0
    waiting = asyncio.create_task(window.take(1))
    await asyncio.sleep(0.05)

    assert window.starved_s >= 0.05
    window.give(10)
    await waiting
    assert window.starved_s == 0.0
