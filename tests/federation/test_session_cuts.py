"""Wherever the connection is cut, the broker's view becomes the agent's again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_parts import Domain, Host, Pki, agent, broker, same_view, until

from domain_twin.model import Level, Point, PointKind
from federation.v1 import fedtwin_pb2 as pb


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Proxy:
    """Passes bytes on; each connection is cut after so many bytes as `cuts` says, later ones never."""

    def __init__(self, target: str, cuts: list[int]) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.cuts = list(cuts)
        self.made = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = [self.cuts.pop(0) if self.cuts else 1 << 60]
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self.made += 1
        pair = {writer, far_writer}
        self.open |= pair

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(min(4096, max(1, left[0]))):
                left[0] -= len(data)
                sink.write(data)
                await sink.drain()
                if left[0] <= 0:
                    break

        tasks = [
            asyncio.ensure_future(pass_on(reader, far_writer)),
            asyncio.ensure_future(pass_on(far_reader, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in pair:
                each.transport.abort()
            self.open -= pair


@asynccontextmanager
async def proxy(target: str, cuts: list[int]) -> AsyncIterator[tuple[Proxy, str]]:
    made = Proxy(target, cuts)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    try:
        yield made, f"localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in made.open:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def live_through(pki: Pki, cuts: list[int], steps: list[int], points: int, folder: Path) -> None:
    host, domain = Host(watch=Level.MESH), Domain(ring=8)
    many = {f"q{n}": Point(f"q{n}", "ran", PointKind.NODE) for n in range(points)}
    domain.view_now = replace(domain.view_now, points={**domain.view_now.points, **many})
    async with (
        broker(pki, folder, host=host) as b,
        proxy(b.address, cuts) as (_, address),
        agent(pki, address, folder / "a", domain=domain),
    ):
        for step in steps:
            for _ in range(step):
                domain.change()
            await asyncio.sleep(0.02)
        await until(lambda: "ran" in host.views and same_view(host.views["ran"], domain.view_now))

        session = await b.session("ran")
        assert await session.ask(pb.DescribeAsk(), timeout_s=10)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 24_000) | st.integers(0, 600_000), min_size=1, max_size=3),
    points=st.sampled_from([0, 20_000]),  # the latter's snapshot travels in chunks
    steps=st.lists(st.integers(0, 12), min_size=1, max_size=6),
)
def test_view_is_right_after_any_cut(pki: Pki, cuts: list[int], steps: list[int], points: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(live_through(pki, cuts, steps, points, Path(folder)), 60))
