"""A twin that has a graph and nothing else, served as an agent serves its operator; the HTTP face of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pyoxigraph as ox
import uvicorn

from domain_twin.agent.local import serve_local
from domain_twin.semantic.names import NDT, element, topology_graph, view_graph
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import PoolLimits, QueryPool
from federation.client import TwinClient
from federation.wire.event_log import EventLog
from twin_api.app import create_app

CELLS = 5


def small_store() -> SemanticStore:
    """Five cells of the domain, and a view of which one is."""
    store = SemanticStore()

    def quad(number: int, graph: str) -> list[ox.Quad]:
        cell = ox.NamedNode(element("ran", "cell", f"c{number}"))
        kind = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
        return [
            ox.Quad(cell, kind, ox.NamedNode(f"{NDT}Cell"), ox.NamedNode(graph)),
            ox.Quad(cell, ox.NamedNode(f"{NDT}name"), ox.Literal(f'cell "{number}" é'), ox.NamedNode(graph)),
        ]

    store.apply((), [each for number in range(CELLS) for each in quad(number, topology_graph("ran"))])
    store.apply((), quad(0, view_graph("transit")))
    return store


@contextlib.asynccontextmanager
async def serving(folder: Path, limits: PoolLimits | None = None) -> AsyncIterator[TwinClient]:
    """A client of the agent's face."""
    store = small_store()
    async with QueryPool(store, limits) as pool:
        graph = SimpleNamespace(live=SimpleNamespace(store=store), queries=pool, status=lambda: None)
        twin = SimpleNamespace(domain="ran", semantics=graph, events=EventLog())
        async with serve_local(twin, folder / "s"), TwinClient.connect(folder / "s") as client:  # type: ignore[arg-type]
            yield client


@contextlib.asynccontextmanager
async def serving_http(twin: TwinClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP face in front of `twin`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(create_app(twin), log_config=None, ws="none", lifespan="off", http="h11")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        await serving
        listener.close()
