"""Events as they happen, to whoever listens: server-sent events (HTML Living Standard 9.2) of one tenant.

Made of the broker's stream of records, with no subscription and nothing on disk: a listener who was away for
less than what is kept here misses nothing, any other is told that there is a gap and reads again. Numbers
count within a tenant, so that they tell nothing about others.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from domain_twin.errors import ContractError, Unreachable
from federation.partners.notices import PLACES, Condition, matches, notice, read_query
from federation.partners.outbox import OutboxRow, event_type
from federation.partners.record import PUBLIC, Body, Kind, News
from twin_api.events_document import events_document
from twin_api.read_model import ReadModel
from twin_api.shelf import encode
from twin_api.tmf import APIS
from twin_api.tmf.errors import error_response

__all__ = ["DOCUMENT", "EventFeed", "routes"]

DOCUMENT: Final = "/openapi/events.json"
"""Path of the OpenAPI document of what is here."""
KEPT: Final = 1000
KEPT_OCTETS: Final = 4 << 20
LISTENERS: Final = 5
HEARTBEAT_S: Final = 15.0
_RECONNECT_MS: Final = 2000
_ID: Final = re.compile(r"([0-9a-f]{16})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class _Event:
    number: int
    type: str
    document: Mapping[str, object]
    octets: bytes


@dataclass(slots=True)
class _Tenant:
    """The latest events of one tenant: those after `floor`."""

    floor: int = 0
    last: int = 0
    octets: int = 0
    events: deque[_Event] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class TooMany(Exception):
    """A tenant listens as often as it may already."""


class EventFeed:
    """Makes events of the stream of records. For one event loop."""

    def __init__(
        self,
        public_address: str,
        *,
        kept: int = KEPT,
        listeners: int = LISTENERS,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`kept` events of each tenant are at hand for whoever comes back; `listeners` of one at a time."""
        self.public_address = public_address.rstrip("/")
        self._bases = {api.name: f"{self.public_address}{api.base}" for api in APIS}
        self._kept = kept
        self._most = listeners
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._instance = secrets.token_hex(8)
        self._tenants: dict[str, _Tenant] = {}
        self._known: dict[tuple[str, Kind, str], tuple[int, Body]] = {}
        self._listening: Counter[str] = Counter()
        self._begins = True
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return self._listening.total()

    def take(self, news: News) -> None:
        """What the broker sent: the state at first, which is no event, then changes."""
        if news.begins_anew:
            self._begins = True
            self._known = {}
        for record in news.records:
            name = (record.tenant, record.kind, record.id)
            sequence, before = self._known.get(name, (0, {}))
            if record.sequence <= sequence or not (before or record.body):
                continue
            if record.body:
                self._known[name] = (record.sequence, record.body)
            else:
                del self._known[name]
            told = event_type(record.kind, before, record.body)
            if told and not self._begins and record.kind in PLACES:
                body = record.body or before
                self._tell(OutboxRow(0, record.tenant, record.kind, record.id, told, record.changed_at, body))
        if news.complete and self._begins:
            self._begins = False
            for tenant in self._tenants.values():  # what happened meanwhile nobody knows
                tenant.last += 1
                _clear(tenant)

    def close(self) -> None:
        """End all listening: the process is about to stop."""
        self._closed = True
        for tenant in self._tenants.values():
            tenant.tell()

    async def follow(
        self, tenant: str, after: str = "", *, until: float, conditions: tuple[Condition, ...] = ()
    ) -> AsyncGenerator[bytes, None]:
        """Frames for a listener, from `after` (an id sent before; empty: from now) until a moment.

        Raises TooMany, before the first frame.
        """
        if self._listening[tenant] >= self._most:
            raise TooMany
        self._listening[tenant] += 1
        try:
            held = self._tenants.setdefault(tenant, _Tenant())
            number = self._number(after) if after else held.last
            yield f"retry: {_RECONNECT_MS}\nid: {self._instance}-{held.last}\n: listening\n\n".encode()
            while not self._closed and (left_s := until - self._clock()) > 0:
                changed = held.changed
                if not held.floor <= number <= held.last:
                    number = held.last
                    yield self._gap(number)
                    continue
                if number < held.last:
                    for event in [each for each in held.events if each.number > number]:
                        number = event.number
                        if matches(conditions, event.document):
                            yield event.octets
                        if number < held.floor:  # too slow: it goes on after the gap
                            break
                    continue
                try:
                    async with asyncio.timeout(min(self._heartbeat_s, left_s)):
                        await changed.wait()
                except TimeoutError:
                    yield f"id: {self._instance}-{number}\n: still here\n\n".encode()
            yield b": the end\n\n"
        finally:
            self._listening[tenant] -= 1

    def _number(self, after: str) -> int:
        found = _ID.fullmatch(after)
        return int(found[2]) if found and found[1] == self._instance else -1

    def _gap(self, number: int) -> bytes:
        told = encode(
            {"reason": "events were missed: they are not at hand any more; read again what matters to you"}
        )
        return b"id: %s-%d\nevent: gap\ndata: %s\n\n" % (self._instance.encode(), number, told)

    def _tell(self, row: OutboxRow) -> None:
        held = [self._tenants.get(row.tenant)]
        if row.tenant == PUBLIC:
            held = list(self._tenants.values())
        elif held == [None]:  # it may come with an id of a moment ago
            held = [self._tenants.setdefault(row.tenant, _Tenant())]
        for tenant in held:
            if tenant is None:
                continue
            tenant.last += 1
            identity = f"{self._instance}-{tenant.last}"
            document = notice(row, identity, self._bases[PLACES[row.kind][0]])
            octets = b"id: %s\nevent: %s\ndata: %s\n\n" % (
                identity.encode(),
                row.event_type.encode(),
                # In ASCII: many clients take U+2028 and U+0085 for the end of a line.
                json.dumps(document, separators=(",", ":")).encode(),
            )
            tenant.events.append(_Event(tenant.last, row.event_type, document, octets))
            tenant.octets += len(octets)
            while len(tenant.events) > self._kept or tenant.octets > KEPT_OCTETS:
                gone = tenant.events.popleft()
                tenant.octets -= len(gone.octets)
                tenant.floor = gone.number
            tenant.tell()


def routes(feed: EventFeed, model: ReadModel) -> list[Route]:
    """`GET /events`, with the filters of subscriptions as its query; and the keys that sign for hubs."""

    async def listen(request: Request) -> Response:
        try:
            conditions = read_query(request.scope["query_string"].decode("latin-1"))
        except ContractError as error:
            return error_response(400, str(error), code="invalidQuery")
        after = request.headers.get("last-event-id", "")
        frames = feed.follow(
            request.state.caller.tenant, after, until=request.state.token_ends, conditions=conditions
        )
        try:
            first = await anext(frames)
        except TooMany:
            return error_response(
                429,
                "you listen as often as you may at once; end one of the others first",
                headers={"retry-after": "10"},
            )
        return StreamingResponse(
            _all(first, frames),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},  # frames are not held back
        )

    async def keys(_: Request) -> Response:
        try:
            held = model.shelf(PUBLIC, Kind.SIGNING_KEY).entries().values()
        except Unreachable as error:
            return error_response(503, str(error), headers={"retry-after": "5"})
        document = {"keys": [entry.record.body["jwk"] for entry in held]}
        headers = {"content-type": "application/jwk-set+json", "cache-control": "public, max-age=300"}
        return Response(encode(document), headers=headers)

    described = encode(events_document(feed.public_address))

    async def openapi(_: Request) -> Response:
        return Response(described, headers={"content-type": "application/json"})

    return [
        Route(DOCUMENT, openapi, methods=["GET"]),
        Route("/events", listen, methods=["GET"]),
        Route("/.well-known/jwks.json", keys, methods=["GET"]),
    ]


async def _all(first: bytes, frames: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(frames):
        yield first
        async for frame in frames:
            yield frame


def _clear(tenant: _Tenant) -> None:
    tenant.events.clear()
    tenant.octets = 0
    tenant.floor = tenant.last
    tenant.tell()
