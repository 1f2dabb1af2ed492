"""For the tests of the TM Forum APIs: records in memory in the broker's place, and clients with scopes."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from tmf_contract import conforming

from domain_twin.errors import NotFound, StaleVersion
from federation.partners.documents import merge
from federation.partners.record import PUBLIC, Body, Kind, Made, News, Record
from twin_api import caller
from twin_api.read_model import ReadModel
from twin_api.tmf import APIS, Engine, presenter, routes

PUBLIC_ADDRESS = "https://twins.example"
DOCUMENTS = [conforming] if os.environ.get("FEDTWIN_SPECS") else []
"""Every answer is held against TM Forum's documents, where they are here."""
SCOPES = frozenset(caller.Scope)
BASES = {api.number: api.base for api in APIS}
SPECIFICATIONS = f"{BASES['TMF633']}/serviceSpecification"
ORDERS = f"{BASES['TMF641']}/serviceOrder"
SERVICES = f"{BASES['TMF638']}/service"
RESOURCES = f"{BASES['TMF639']}/resource"
TESTS = f"{BASES['TMF653']}/serviceTest"
ALARMS = f"{BASES['TMF642']}/alarm"
ORDER = {
    "description": "a twin of the slice",
    "serviceOrderItem": [
        {"id": "1", "action": "add", "service": {"serviceSpecification": {"id": "NdtTwin"}}},
    ],
}
SERVICE = {"name": "twin", "state": "active", "serviceSpecification": {"id": "NdtTwin"}}


@dataclass
class Kept:
    """Commands, and records to follow, without a decision of its own but for an order's first state."""

    records: dict[tuple[str, Kind, str], Record] = field(default_factory=dict)
    keys: dict[tuple[str, Kind, str], Record] = field(default_factory=dict)
    followers: list[asyncio.Queue[Record]] = field(default_factory=list)
    sequence: int = 0
    refuse: Exception | None = None
    interfere: Callable[[], Awaitable[None]] | None = None
    calls: list[tuple[str, str, Kind]] = field(default_factory=list)

    async def create(self, tenant: str, kind: Kind, body: Body, *, key: str = "") -> Made:
        self._called("create", tenant, kind)
        if key and (tenant, kind, key) in self.keys:
            return Made(self.keys[tenant, kind, key], repeated=True)
        made = dict(body)
        if kind is Kind.SERVICE_ORDER:
            made |= {"state": "acknowledged", "orderDate": "2026-01-01T00:00:00.000Z"}
        if kind is Kind.SERVICE_TEST:
            made |= {"state": "acknowledged"}
        record = self.keep(tenant, kind, made)
        if key:
            self.keys[tenant, kind, key] = record
        return Made(record)

    async def change(
        self, tenant: str, kind: Kind, identity: str, patch: Body, *, if_version: int = 0
    ) -> Record:
        self._called("change", tenant, kind)
        if self.interfere is not None:
            await self.interfere()
        held = self._held(tenant, kind, identity, if_version)
        return self._put(Record(tenant, kind, identity, held.version + 1, 0, merge(held.body, patch), 0))

    async def remove(self, tenant: str, kind: Kind, identity: str, *, if_version: int = 0) -> int:
        self._called("remove", tenant, kind)
        held = self._held(tenant, kind, identity, if_version)
        del self.records[tenant, kind, identity]
        self.sequence += 1
        gone = Record(tenant, kind, identity, held.version + 1, self.sequence, {}, 0)
        for follower in self.followers:
            follower.put_nowait(gone)
        return self.sequence

    async def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        follower: asyncio.Queue[Record] = asyncio.Queue()
        self.followers.append(follower)
        try:
            state = tuple(self.records.values())
            yield News(state, "epoch", self.sequence, complete=True, begins_anew=True)
            while True:
                record = await follower.get()
                yield News((record,), "epoch", record.sequence, complete=True)
        finally:
            self.followers.remove(follower)

    def keep(self, tenant: str, kind: Kind, body: Body) -> Record:
        """Keep a record as somebody else would have made it."""
        identity = str(body.get("id") or uuid.uuid4())
        version = (
            self.records[tenant, kind, identity].version + 1
            if (tenant, kind, identity) in self.records
            else 1
        )
        return self._put(Record(tenant, kind, identity, version, 0, {**body, "id": identity}, 0))

    def _put(self, record: Record) -> Record:
        self.sequence += 1
        kept = Record(
            record.tenant, record.kind, record.id, record.version, self.sequence, record.body, self.sequence
        )
        self.records[record.tenant, record.kind, record.id] = kept
        for follower in self.followers:
            follower.put_nowait(kept)
        return kept

    def _held(self, tenant: str, kind: Kind, identity: str, if_version: int) -> Record:
        held = self.records.get((tenant, kind, identity))
        if held is None:
            raise NotFound(f"no {kind} {identity}")
        if if_version and held.version != if_version:
            raise StaleVersion(f"{kind} {identity} is at version {held.version}")
        return held

    def _called(self, what: str, tenant: str, kind: Kind) -> None:
        self.calls.append((what, tenant, kind))
        if self.refuse is not None:
            raise self.refuse


class Identified:
    """Says who asks, by headers of the tests' own: in the place of verified tokens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            tenant = headers.get(b"x-tenant", b"").decode()
            if tenant:
                scopes = headers.get(b"x-scopes")
                who = caller.Caller(
                    "" if tenant == "PUBLIC" else tenant,
                    tenant,
                    SCOPES if scopes is None else frozenset(scopes.decode().split()),
                )
                scope.setdefault("state", {})["caller"] = who
        await self._app(scope, receive, send)


@dataclass
class Served:
    """An engine over records kept in memory, and a client of it."""

    kept: Kept
    model: ReadModel
    app: ASGIApp
    http: httpx.AsyncClient

    def client(self, tenant: str, scopes: str | None = None) -> httpx.AsyncClient:
        """A client of a tenant; without `scopes` it has all."""
        headers = {"x-tenant": tenant} | ({} if scopes is None else {"x-scopes": scopes})
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url=PUBLIC_ADDRESS,
            headers=headers,
            event_hooks={"response": list(DOCUMENTS)},
        )

    def keep(self, kind: Kind, body: Body, tenant: str = "acme") -> Record:
        """A record that is there already."""
        record = self.kept.keep(tenant, kind, body)
        self.model.apply(record)
        return record


@asynccontextmanager
async def served(
    *, dialects: Sequence[str] = (), complete: bool = True, hooks: Sequence[Any] = DOCUMENTS
) -> AsyncIterator[Served]:
    """The engine in front of records in memory; `http` asks as the tenant `acme`, which has all scopes."""
    kept = Kept()
    model = ReadModel(presenter(PUBLIC_ADDRESS, APIS))
    if complete:
        model.take(News((), "epoch", 0, complete=True, begins_anew=True))
    engine = Engine(model, kept, PUBLIC_ADDRESS, dialects=dialects)
    app = Identified(Starlette(routes=routes(engine)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url=PUBLIC_ADDRESS,
        headers={"x-tenant": "acme"},
        event_hooks={"response": list(hooks)},
    ) as http:
        yield Served(kept, model, app, http)


def is_error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is an error of the one shape; its body."""
    assert answer.status_code == status, answer.text
    body = json.loads(answer.content)
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    assert set(body) == {"@type", "code", "reason", "message", "status", "referenceError"}
    assert body["@type"] == "Error"
    assert body["status"] == str(status)
    assert all(isinstance(value, str) and value for value in body.values())
    return dict(body)


__all__ = [
    "ALARMS",
    "BASES",
    "ORDER",
    "ORDERS",
    "PUBLIC",
    "PUBLIC_ADDRESS",
    "RESOURCES",
    "SERVICE",
    "SERVICES",
    "SPECIFICATIONS",
    "TESTS",
    "Identified",
    "Kept",
    "Served",
    "is_error",
    "served",
]
