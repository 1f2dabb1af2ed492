"""The application for partners on a real socket, with routes of a test's own behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain_twin.config import ApiConfig
from domain_twin.operations.health import Check
from federation.wire.questions import QueryReply
from twin_api.access_log import AccessLog
from twin_api.api_metrics import Counts
from twin_api.front import Front
from twin_api.listening import listener, server_for
from twin_api.partners_app import create_partners_app
from twin_api.tokens import Tokens

ORDERS = "/tmf-api/serviceOrdering/v4/serviceOrder"


class NoTwin:
    """A twin that nobody asks."""

    def for_partner(self, tenant: str) -> NoTwin:
        """Itself."""
        return self

    async def query(self, text: str, **_: Any) -> QueryReply:
        """Never."""
        raise AssertionError(text)


async def who(request: Request) -> Response:
    """Who the route is told that asks; reads the body."""
    caller = request.state.caller
    size = len(await request.body())
    return JSONResponse({"tenant": caller.tenant, "scopes": sorted(caller.scopes), "body": size})


async def broken(_: Request) -> Response:
    """A route with a mistake."""
    raise ZeroDivisionError("marker-of-the-inside")


ROUTES = (
    Route(ORDERS, who, methods=["GET", "POST"]),
    Route(f"{ORDERS}/{{id}}", who, methods=["GET"]),
    Route("/tmf-api/serviceInventory/v4/service", broken, methods=["GET"]),
)


@dataclass(slots=True)
class Running:
    """The application, and what it counted."""

    address: str
    front: Front
    counts: Counts
    tokens: Tokens

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])


@contextlib.asynccontextmanager
async def running(
    config: ApiConfig,
    *,
    routes: Sequence[Route] = ROUTES,
    twin: Any = None,
    tls: ssl.SSLContext | None = None,
    access_log: AccessLog | None = None,
    checks: Sequence[Check] = (),
) -> AsyncIterator[Running]:
    """The application on a free port."""
    counts, tokens = Counts(), Tokens(config)
    app = create_partners_app(
        config,
        tokens,
        twin or NoTwin(),
        routes=routes,
        collections=[ORDERS],
        counts=counts,
        access_log=access_log,
        checks=lambda: checks,
    )
    sock = listener(config.listen, config.limits.connections)
    serving = asyncio.Event()
    server = server_for(app, config, serving.set, tls)
    task = asyncio.create_task(server.serve([sock]))
    try:
        async with asyncio.timeout(20):
            await serving.wait()
        scheme = "https" if tls else "http"
        yield Running(f"{scheme}://127.0.0.1:{sock.getsockname()[1]}", app, counts, tokens)
    finally:
        server.should_exit = True
        await task
        sock.close()


def client(at: Running, token: str = "", **given: Any) -> httpx.AsyncClient:
    """A client of the running application, with a token or without."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=at.address, headers=headers, timeout=30, trust_env=False, **given)


async def raw(at: Running, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What comes back for octets that no client would send, until the server closes or is silent for 3 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    answer = bytearray()

    async def listen() -> None:  # at once: a reset takes away what was not read before it
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                answer.extend(piece)

    listening = asyncio.create_task(listen())
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        await asyncio.wait([listening], timeout=3)
    finally:
        listening.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return bytes(answer)
