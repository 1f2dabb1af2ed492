"""Receivers of events on this machine, and a store with deliveries at work on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain_twin.config import EventsConfig, PartnerConfig, QuotaConfig
from domain_twin.model import Finding
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.partners.callbacks import Callbacks
from federation.partners.deliveries import Deliveries
from federation.partners.hubs import Hubs
from federation.partners.partners import Partners
from federation.partners.quotas import Quotas
from federation.partners.record import Body, Kind, Record
from federation.partners.repository import TenantRecords
from federation.partners.signing import EventKey
from federation.partners.store import RecordStore

LOOPBACK = ("127.0.0.0/8", "::1/128")
ADDRESS = "https://twins.example/tmf-api/serviceOrdering/v4"
TENANTS = ("acme", "globex", "poor")
NAME = "hooks.partner.example"


@dataclass
class Pki:
    """A root, and a server's certificate of it for NAME and the loopback addresses."""

    root: Path
    context: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, *names: str) -> Pki:
        ca = OperatorCA.create("hooks.example", folder / "hooks-ca")
        dns = list(names) or ["localhost", "127.0.0.1", "::1", NAME]
        issued = ca.issue(Role.BROKER, "hook", folder / "hook", dns=dns)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        return cls(ca.root, context)


@dataclass
class Got:
    """One request that came."""

    path: str
    headers: dict[str, str]
    octets: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.octets))

    @property
    def event_id(self) -> str:
        return str(self.document["eventId"])


Answering = Callable[[Got, asyncio.StreamWriter], Any]


@dataclass
class Receiver:
    """Takes events; `answer` is a status, or does it all itself."""

    context: ssl.SSLContext | None
    answer: int | Answering = 204
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}/cb"

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def numbers(self) -> list[str]:
        """The descriptions of the orders that came, in their order."""
        return [str(got.document["event"]["serviceOrder"].get("description")) for got in self.got]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with (
            contextlib.closing(writer),
            contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError),
        ):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            got = Got(first.split()[1], headers, body)
            self.got.append(got)
            if isinstance(self.answer, int):
                writer.write(f"HTTP/1.1 {self.answer} X\r\nContent-Length: 0\r\n\r\n".encode())
            else:
                await self.answer(got, writer)
            await writer.drain()


@asynccontextmanager
async def receiver(pki: Pki | None, answer: int | Answering = 204) -> AsyncIterator[Receiver]:
    made = Receiver(pki.context if pki else None, answer)
    await made.up()
    try:
        yield made
    finally:
        await made.down()


@dataclass
class Running:
    """A store with partners, whose only desk is that of subscriptions."""

    store: RecordStore
    partners: Partners
    desk: Hubs
    key: EventKey
    findings: list[Finding] = field(default_factory=list)

    def of(self, tenant: str = "acme") -> TenantRecords:
        return self.store.of(tenant)

    async def hub(
        self, callback: str, query: str = "", *, tenant: str = "acme", api: str = "serviceOrdering"
    ) -> Record:
        body = {"api": api, "callback": callback, "apiAddress": ADDRESS}
        body |= {"query": query} if query else {}
        return (await self.partners.create(tenant, Kind.HUB, body)).record

    def shown(self, hub: Record) -> Body:
        return self.of(hub.tenant).get(Kind.HUB, hub.id).body

    async def again(self, hub: Record) -> Record:
        return await self.partners.change(hub.tenant, Kind.HUB, hub.id, {"state": "active"})

    async def order(self, number: object = 1, *, tenant: str = "acme", state: str = "acknowledged") -> Record:
        body = {"description": str(number), "state": state}
        return await self.of(tenant).create(Kind.SERVICE_ORDER, body)

    async def orders(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self.order(number)


def settings(pki: Pki | None, **more: Any) -> EventsConfig:
    given: dict[str, Any] = {
        "allow_networks": LOOPBACK,
        "roots": pki.root if pki else None,
        "first_retry_s": 0.02,
        "longest_retry_s": 0.1,
        **more,
    }
    return EventsConfig(**given)


def quotas(hubs: int = 20) -> Quotas:
    quota = QuotaConfig(hubs=hubs)
    return Quotas(
        [
            *(PartnerConfig(id=t, quota=quota) for t in TENANTS[:2]),
            PartnerConfig(id="poor", quota=QuotaConfig(hubs=1)),
        ]
    )


@asynccontextmanager
async def delivering(
    folder: Path, url: str, config: EventsConfig, *, hubs: int = 20
) -> AsyncIterator[Running]:
    """Deliveries at work; left as a process that ends in order."""
    store = await RecordStore.open(folder, url, TENANTS)
    callbacks = Callbacks(config)
    key = EventKey.load(folder)
    deliveries = Deliveries(store, config, key, callbacks)
    desk = Hubs(deliveries, callbacks, quotas(hubs))
    partners = Partners(store, {Kind.HUB: desk})
    running = Running(store, partners, desk, key)

    def on_findings(found: Sequence[Finding]) -> None:
        running.findings[:] = found

    deliveries.on_findings = on_findings
    partners.begin()
    task = asyncio.create_task(partners.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """What `condition` gives when it is true; fails the test when it never is."""
    async with asyncio.timeout(timeout_s):
        while not (result := condition()):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.005)
    return result
