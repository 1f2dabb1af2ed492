"""The Twin service's bounds, on a real server: size, time, watchers, and errors that no one foresaw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from domain_twin.errors import OverCapacity, TwinError, Unreachable
from domain_twin.model import DomainStatus, Event, EventKind, Finding, Severity
from domain_twin.model.query import GraphCheck
from federation.client import TwinClient
from federation.v1.fedtwin_pb2_grpc import add_TwinServicer_to_server
from federation.wire.event_log import EventLog
from federation.wire.questions import WatchQuery
from federation.wire.twin_service import TwinService


class Face:
    """Answers a few questions."""

    def __init__(self) -> None:
        self.events = EventLog()

    async def domains(self) -> list[DomainStatus]:
        await asyncio.sleep(3600)
        return []

    async def devices(self) -> list[Any]:
        raise ZeroDivisionError("a secret of the inside")

    async def check_graph(self, shape: str) -> GraphCheck:
        await asyncio.sleep(3600)
        return GraphCheck()

    async def findings(self, domain: str) -> list[Finding]:
        return [Finding("c", Severity.INFO, "ran", str(number), "m" * 100) for number in range(100)]

    async def watch(self, query: WatchQuery) -> AsyncIterator[Event]:
        with self.events.subscribe(kinds=query.kinds, after=query.after, capacity=50) as subscription:
            async for event in subscription:
                yield event


@asynccontextmanager
async def serving(folder: Path, face: Face, **limits: Any) -> AsyncIterator[TwinClient]:
    server = grpc.aio.server()
    add_TwinServicer_to_server(TwinService(face, **limits), server)  # type: ignore[arg-type]
    server.add_insecure_port(f"unix:{folder / 's'}")
    await server.start()
    try:
        async with TwinClient.connect(folder / "s", timeout_s=20.0) as twin:
            yield twin
    finally:
        face.events.close()
        await server.stop(0)


async def test_an_answer_that_is_too_large_is_refused_with_a_remedy(tmp_path: Path) -> None:
    async with serving(tmp_path, Face(), max_answer_bytes=1000) as twin:
        with pytest.raises(
            OverCapacity, match=r"ListFindingsResponse.*1000 is the most that is sent; ask for one"
        ):
            await twin.findings()


async def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, Face(), max_answer_s=0.05) as twin:
        with pytest.raises(Unreachable, match="no answer within 0 s; ask for less"):
            await twin.domains()


async def test_a_check_has_longer_and_says_what_to_do_when_that_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path, Face(), max_answer_s=0.05) as twin:
        with pytest.raises(Unreachable, match=r"within 2 s; check one shape \(--shape Link\), or wait"):
            await twin.check_graph(timeout_s=2.5)


async def test_the_askers_deadline_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, Face()) as twin:
        twin._timeout_s = 0.1
        with pytest.raises(Unreachable, match=r"no answer within"):
            await twin.domains()


async def test_an_error_nobody_foresaw_says_nothing_of_the_inside(tmp_path: Path) -> None:
    async with serving(tmp_path, Face()) as twin:
        with pytest.raises(TwinError, match="the twin failed on this question") as caught:
            await twin.devices()
        assert "secret" not in str(caught.value)
        assert await twin.findings()


async def test_watchers_are_bounded_and_let_in_again(tmp_path: Path) -> None:
    async with serving(tmp_path, Face(), max_watchers=1) as twin:
        first = twin.watch()
        await first.started()
        with pytest.raises(OverCapacity, match="1 watchers are served already"):
            await twin.watch().started()
        await first.aclose()
        async with asyncio.timeout(20):
            while True:
                again = twin.watch()
                try:
                    await again.started()
                    break
                except OverCapacity:
                    await asyncio.sleep(0.02)
        await again.aclose()


async def test_an_unknown_kind_of_event_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, Face()) as twin:
        with pytest.raises(TwinError, match=r"WatchRequest.kinds: 'weather'; accepted are domain"):
            await twin.watch(["weather"]).started()  # type: ignore[list-item]


async def test_a_watcher_that_does_not_read_is_told_of_the_gap(tmp_path: Path) -> None:
    face = Face()
    async with serving(tmp_path, face) as twin:
        stream = twin.watch()
        await stream.started()
        # Act: 40 MB, more than any buffer between here and there holds
        for number in range(4000):
            face.events.publish(EventKind.CHANGE, f"{number} {'x' * 10_000}")
            if number % 20 == 0:
                await asyncio.sleep(0)
        last = face.events.publish(EventKind.DOMAIN, "the end")
        seen: list[Event] = []
        async with asyncio.timeout(60):
            async for event in stream:
                seen.append(event)
                if event.id == last.id:
                    break
        await stream.aclose()
    # Assert: in order, nothing twice, and what is missing is owned up to
    gaps = [event for event in seen if event.kind is EventKind.GAP]
    assert gaps
    assert len(seen) < 4000
    at = seen[0].id - 1
    for event in seen:
        assert event.id == at + 1 if event.kind is not EventKind.GAP else event.id > at
        at = event.id
