"""The application behind `fedtwin api`: the routes, and who may reach them.

There is no login: every request is asked as the client whose profile the process was started with. So only
this machine is served, and no web page: a request with another host's name or from another origin is refused.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from domain_twin.errors import TwinError
from domain_twin.model import DomainStatus
from twin_api import sparql

__all__ = ["Twin", "create_app"]

_SENT_ALWAYS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Twin(sparql.Asked, Protocol):
    """What is asked: a `TwinClient`."""

    async def domains(self) -> list[DomainStatus]:
        """How each domain stands. Raises TwinError."""


def create_app(twin: Twin) -> FastAPI:
    """The application in front of `twin`."""
    app = FastAPI(title="FedTwin", docs_url=None, redoc_url=None)  # their pages load scripts from afar
    app.include_router(sparql.router(twin))
    began = time.monotonic()

    @app.middleware("http")
    async def only_here(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuse what a web page of somebody else has a visitor's browser ask."""
        if not _local(request.headers.get("host", "")):
            response: Response = PlainTextResponse("ask by a loopback address or localhost\n", 403)
        elif not _local_origin(request.headers.get("origin")):
            response = PlainTextResponse("web pages of other hosts may not ask here\n", 403)
        else:
            response = await proceed(request)
        response.headers.update(_SENT_ALWAYS)
        return response

    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, object]:
        return {"status": "alive", "process": "api", "up_s": round(time.monotonic() - began, 1)}

    @app.get("/readyz", summary="Whether the twin answers")
    async def readyz() -> JSONResponse:
        try:
            domains: Sequence[DomainStatus] = await twin.domains()
        except TwinError as error:
            return JSONResponse({"ready": False, "problem": str(error)}, 503)
        here = [status.domain for status in domains if status.connected]
        return JSONResponse({"ready": True, "domains": here})

    return app


def _local(host: str) -> bool:
    """Whether a Host header names this machine: a page may point its own name at 127.0.0.1."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _local_origin(origin: str | None) -> bool:
    return origin is None or _local(urlsplit(origin).netloc)
