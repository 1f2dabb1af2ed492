"""The application behind `fedtwin api api.toml`: its routes, found by the beginning of their path.

Who may reach them, `front` decides. Every error has the body of TM Forum's APIs, the framework's own too;
only SPARQL's keep their sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from domain_twin.config import ApiConfig
from domain_twin.operations.health import Check, ready
from twin_api import sparql
from twin_api.access_log import AccessLog
from twin_api.api_metrics import Counts
from twin_api.front import Front
from twin_api.pages import pages
from twin_api.tokens import Tokens

__all__ = ["PartnerTwin", "create_partners_app"]

_SEGMENTS = 4  # of a path that tell routes apart: "", tmf-api, serviceInventory, v4


class PartnerTwin(Protocol):
    """The broker: a `TwinClient`."""

    def for_partner(self, tenant: str) -> sparql.Asked:
        """The twin as that partner sees it."""


def create_partners_app(
    config: ApiConfig,
    tokens: Tokens,
    twin: PartnerTwin,
    *,
    routes: Sequence[Route] = (),
    documents: Sequence[str] = (),
    collections: Sequence[str] = (),
    checks: Callable[[], Sequence[Check]] = tuple,
    counts: Counts | None = None,
    access_log: AccessLog | None = None,
    serves: Callable[[str], bool] = lambda _: True,
) -> Front:
    """The application: `routes` are those of the APIs, `documents` the paths of their descriptions.

    `collections` are paths that log and metrics name; of what lies below they say `{id}`. `serves` says
    whether the broker has a partner of that name.
    """
    faces = {"sparql": "/sparql", **{name: path for path in _bases(routes) for name in [path.split("/")[2]]}}
    every = [*_health(checks), *pages(documents, faces, docs=config.docs), *_sparql(config, twin), *routes]
    switch = _Switch(every)
    labels = {**switch.labels, **{path: path for path in collections}}
    return Front(
        switch,
        config,
        tokens,
        counts=counts or Counts(),
        labels=labels,
        access_log=access_log,
        serves=serves,
    )


class _Switch:
    """Finds a route by the first segments of its path, then among the few that share them."""

    def __init__(self, routes: Sequence[Route]) -> None:
        grouped: dict[str, list[Route]] = {}
        for route in routes:
            grouped.setdefault(_beginning(route.path), []).append(route)
        self._routers = {
            beginning: Router(group, redirect_slashes=False, default=_nothing)
            for beginning, group in grouped.items()
        }
        self.labels = {beginning: beginning or "/" for beginning in self._routers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the route answer. Raises HTTPException where there is none."""
        scope["app"] = self  # starlette raises then, where it would answer in words of its own
        parts = scope["path"].split("/", _SEGMENTS)
        router = self._routers.get("/".join(parts[:_SEGMENTS])) or self._routers.get("/".join(parts[:2]))
        await (router or _nothing)(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404, "there is nothing at this address")


def _beginning(path: str) -> str:
    """The first four segments of a route's path, or two where a parameter stands among them."""
    parts = path.split("/")[:_SEGMENTS]
    fixed = next((number for number, part in enumerate(parts) if "{" in part), len(parts))
    return "/".join(parts[:fixed] if fixed >= _SEGMENTS else parts[: min(fixed, 2)])


def _bases(routes: Sequence[Route]) -> list[str]:
    """The base paths of the TM Forum APIs among the routes."""
    found = {"/".join(route.path.split("/")[:4]) for route in routes if route.path.startswith("/tmf-api/")}
    return sorted(found)


def _health(checks: Callable[[], Sequence[Check]]) -> list[Route]:
    began = time.monotonic()

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive", "process": "api", "up_s": round(time.monotonic() - began, 1)})

    async def readyz(_: Request) -> Response:
        found = list(checks())
        good = ready(found)  # what is wrong is told to operators, at the metrics' address
        told = {"ready": good, "checks": [{"name": each.name, "ok": each.ok} for each in found]}
        return JSONResponse(told, 200 if good else 503)

    return [Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]


def _sparql(config: ApiConfig, twin: PartnerTwin) -> list[Route]:
    endpoint = f"{config.public_address.rstrip('/')}/sparql"

    async def answer(request: Request) -> Response:
        return await sparql.respond(
            twin.for_partner(request.state.caller.tenant), request, endpoint, stranger=True
        )

    methods = ["GET", "POST"]
    return [Route("/sparql", answer, methods=methods), Route("/sparql/", answer, methods=methods)]
