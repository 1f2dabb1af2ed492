"""A twin that has a graph and nothing else, served as an agent serves its operator: for benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

from domain_twin.agent.local import serve_local
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import PoolLimits, QueryPool
from federation.client import TwinClient
from federation.wire.event_log import EventLog


@contextlib.asynccontextmanager
async def serving(store: SemanticStore, limits: PoolLimits | None = None) -> AsyncIterator[TwinClient]:
    """A client of an agent's face over `store`."""
    with tempfile.TemporaryDirectory() as folder:
        async with QueryPool(store, limits) as pool:
            graph = SimpleNamespace(live=SimpleNamespace(store=store), queries=pool, status=lambda: None)
            twin = SimpleNamespace(domain="ran", semantics=graph, events=EventLog())
            path = Path(folder) / "agent.sock"
            async with serve_local(twin, path), TwinClient.connect(path) as client:  # type: ignore[arg-type]
                yield client


@contextlib.asynccontextmanager
async def serving_http(twin: TwinClient) -> AsyncIterator[int]:
    """The port of `fedtwin api` in front of a twin."""
    import uvicorn

    from twin_api.app import create_app

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(
        uvicorn.Config(create_app(twin), log_config=None, access_log=False, ws="none", lifespan="off")
    )
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        serving = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
