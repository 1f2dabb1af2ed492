"""Large path questions are searched beside the loop: same answers, few at a time, sessions live on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from federation_parts import EXCHANGE, Federation, three_domains, until

from domain_twin.errors import CredentialError, OverCapacity
from domain_twin.model import PathMode
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.compose import ComposedGraph, Member
from federation.paths import find

ENDS = ("ran/cell-1", "edge/app")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Federation, Broker]]:
    federation = Federation.make(tmp_path, heartbeat_s=0.2, dead_after_s=1.0)
    async with federation.broker() as broker, federation.agents(broker):
        async with federation.client(broker) as twin:

            async def met() -> bool:
                return (await twin.services()).statuses[0].met is True

            await until(met)
        yield federation, broker


async def test_a_search_beside_the_loop_gives_the_same_answer(
    running: tuple[Federation, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, broker = running
    async with federation.client(broker) as twin:
        options = {"mode": PathMode.BEST, "alternatives": 4}
        inline = await twin.path(*ENDS, **options)  # type: ignore[arg-type]
        monkeypatch.setattr("federation.twin._SMALL_SEARCH", 0)
        beside = await twin.path(*ENDS, **options)  # type: ignore[arg-type]

    assert replace(inline, answered_at=0) == replace(beside, answered_at=0)


async def test_large_questions_wait_in_bounded_number(
    running: tuple[Federation, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, broker = running
    monkeypatch.setattr("federation.twin._SMALL_SEARCH", 0)
    monkeypatch.setattr("federation.twin._SEARCHES_WAITING", 0)
    async with federation.client(broker) as twin:
        with pytest.raises(OverCapacity, match="large path questions wait here already"):
            await twin.path(*ENDS)


async def test_sessions_live_through_many_large_questions(
    running: tuple[Federation, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, broker = running
    monkeypatch.setattr("federation.twin._SMALL_SEARCH", 0)
    sessions = dict(broker.sessions)
    async with federation.client(broker) as twin:
        for _ in range(20):
            await asyncio.gather(*(twin.path(*ENDS, mode=PathMode.BEST, alternatives=8) for _ in range(10)))

    assert dict(broker.sessions) == sessions


def test_a_frozen_graph_stays_as_it_was() -> None:
    domains = three_domains()
    graph = ComposedGraph(Member(name, domain.view_now, connected=True) for name, domain in domains.items())
    before = find(graph, *ENDS, now=1)

    frozen = graph.frozen()
    domains["ran"].set_delay("ran/cell-1", "ran/b1", 50.0)
    graph.put(Member("ran", domains["ran"].view_now, connected=True))
    graph.put(Member("edge", None))

    assert find(frozen, *ENDS, now=1) == before
    assert "edge/app" not in graph.points


async def test_a_client_takes_up_its_renewed_certificate(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    life = timedelta(seconds=3)
    async with federation.broker() as broker, federation.client(broker, life=life) as twin:
        watching = twin.watch()
        await watching.started()
        await twin.domains()

        federation.pki.identity(EXCHANGE, Role.USER, "ann")
        with pytest.raises(CredentialError, match="ended while you watched"):
            async for _ in watching:  # that of the old certificate ends with it
                pass

        assert await twin.domains()
        for _ in range(4):
            federation.pki.identity(EXCHANGE, Role.USER, "ann")
            assert await twin.domains()
        assert len(twin._former) <= 2
        again = twin.watch()
        await again.started()
        await again.aclose()
