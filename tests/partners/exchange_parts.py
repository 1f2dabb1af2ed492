"""An exchange to order twins from: real store, desks, TLS sessions and agents; the gRPC face is left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from order_parts import ACME, DOMAINS, EXCHANGE, FAST, XR, TwinDomain, agreements

from domain_twin.agent.session import BrokerSession
from domain_twin.config import (
    AgentConfig,
    BrokerAddress,
    BrokerConfig,
    IdentityConfig,
    MemberConfig,
    PartnerConfig,
    QuotaConfig,
)
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.guard import Guard
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.tls import server_credentials
from federation.attach import FederationService
from federation.partners.asking import Asking
from federation.partners.catalogue import publish
from federation.partners.orders import Cancels, Orders
from federation.partners.partners import Partners
from federation.partners.quotas import Quotas
from federation.partners.record import PUBLIC, Body, Kind, Record
from federation.partners.repository import TenantRecords
from federation.partners.store import RecordStore
from federation.partners.twins import Timing, Twins
from federation.session import AgentHello, Session
from federation.v1.fedtwin_pb2_grpc import add_FederationServicer_to_server
from federation.wire.framing import STREAM_OPTIONS

__all__ = ["ACME", "XR", "Exchange", "add", "exchange", "order_of"]

QUICK = Timing(
    ask_s=5.0,
    join_within_s=60.0,
    late_s=0.2,
    retry_s=0.02,
    look_s=0.05,
    refused_again_s=0.2,
    told_every_s=0.1,
)
PARTNERS = (
    PartnerConfig(id="acme", quota=QuotaConfig(twins=3)),
    PartnerConfig(id="xr", quota=QuotaConfig(twins=3)),
    PartnerConfig(id="poor", quota=QuotaConfig(twins=0)),
    PartnerConfig(id="bound", specifications=("something-else",)),
)


class Host:
    """Keeps sessions as a registry does, and asks for no views."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    def admit(self, peer: SpiffeId, domain: str, hello: AgentHello) -> None: ...

    def attached(self, session: Session) -> None:
        self.sessions[session.domain] = session

    def lost(self, session: Session, reason: str) -> None:
        if self.sessions.get(session.domain) is session:
            del self.sessions[session.domain]

    def view_update(self, session: Session, delta: Any, received_at: int) -> None: ...


class Desks:
    """What a broker's start makes anew."""

    def __init__(self, store: RecordStore, host: Host, timing: Timing, clock: Callable[[], int]) -> None:
        self.store = store
        self.twins = Twins(
            Asking(EXCHANGE, host.sessions.get),
            members=DOMAINS,
            quotas=Quotas(PARTNERS),
            timing=timing,
            clock=clock,
        )
        self.orders = Orders(self.twins)
        self.partners = Partners(
            store,
            {
                Kind.SERVICE: self.twins,
                Kind.SERVICE_ORDER: self.orders,
                Kind.CANCEL_SERVICE_ORDER: Cancels(self.orders),
            },
        )
        self.partners.begin()
        self.task = asyncio.create_task(self.partners.run())

    async def die(self) -> None:
        """End at once, whatever is being done."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Exchange:
    """A broker's partner side that is at work, and the domains' agents."""

    folder: Path
    host: Host
    address: str
    pki: Pki | None
    domains: dict[str, TwinDomain]
    desks: Desks
    timing: Timing = QUICK
    clock: Callable[[], int] = time.time_ns
    sessions: dict[str, tuple[BrokerSession, asyncio.Task[None]]] = field(default_factory=dict)

    @property
    def store(self) -> RecordStore:
        return self.desks.store

    @property
    def twins(self) -> Twins:
        return self.desks.twins

    def records(self, tenant: str = "acme") -> TenantRecords:
        return self.store.of(tenant)

    def get(self, kind: Kind, identity: str, tenant: str = "acme") -> Mapping[str, Any]:
        return self.records(tenant).get(kind, identity).body

    def service(self, identity: str, tenant: str = "acme") -> Mapping[str, Any]:
        return self.get(Kind.SERVICE, identity, tenant)

    async def send(self, kind: Kind, body: Body, *, tenant: str = "acme", key: str = "") -> Mapping[str, Any]:
        return (await self.desks.partners.create(tenant, kind, body, key=key)).record.body

    async def patch(self, kind: Kind, identity: str, patch: Body, tenant: str = "acme") -> Record:
        return await self.desks.partners.change(tenant, kind, identity, patch)

    async def order(self, *items: Body, tenant: str = "acme", **more: Any) -> Mapping[str, Any]:
        """An order of these items, as it is taken in."""
        numbered = [{"id": str(number), **item} for number, item in enumerate(items, start=1)]
        return await self.send(Kind.SERVICE_ORDER, {"serviceOrderItem": numbered, **more}, tenant=tenant)

    async def ended(self, order: Mapping[str, Any], tenant: str = "acme") -> Mapping[str, Any]:
        """The order once it is over."""
        over = ("completed", "failed", "partial", "rejected", "cancelled")
        ended: Mapping[str, Any] = await self.until(
            lambda: (now := self.get(Kind.SERVICE_ORDER, order["id"], tenant))["state"] in over and now
        )
        return ended

    async def active(self, *items: Body, tenant: str = "acme") -> str:
        """The id of a twin that was ordered and is active."""
        ended = await self.ended(await self.order(*(items or (add(),)), tenant=tenant), tenant)
        assert ended["state"] == "completed", ended.get("errorMessage")
        return str(ended["serviceOrderItem"][0]["service"]["id"])

    async def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """What `condition` gives when it is true; fails the test when it never is."""
        async with asyncio.timeout(timeout_s):
            while not (result := condition()):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.005)
        return result

    def operating(self, service: str, tenant: str = "acme") -> str:
        body = self.service(service, tenant)
        return f"{body['state']} {body['operatingStatus']}"

    async def attach(self, *domains: str) -> None:
        assert self.pki
        for domain in domains:
            session = BrokerSession(
                self.pki.agent_config(domain, self.address, self.folder / f"agent-{domain}"),
                self.domains[domain].jobs,
                retry=FAST,
            )
            self.domains[domain].session = session
            self.sessions[domain] = (session, asyncio.create_task(session.run()))
        await self.until(lambda: all(domain in self.host.sessions for domain in domains))

    async def detach(self, *domains: str) -> None:
        for domain in domains:
            session, task = self.sessions.pop(domain)
            await session.close("the test says so")
            await task
        await self.until(lambda: not any(domain in self.host.sessions for domain in domains))

    async def restart(self) -> None:
        """Another start of the broker over what is on disk; domains stay attached."""
        await self.desks.die()
        await self.store.close()
        store = await open_store(self.folder)
        self.desks = Desks(store, self.host, self.timing, self.clock)

    async def crash(self) -> None:
        """A broker that was killed, and the next start of it."""
        await self.desks.die()
        store = self.store
        store._closed = True  # nothing that waits is written any more
        if store._writer:
            store._writer.cancel()
            await asyncio.gather(store._writer, return_exceptions=True)
        store._changes.close()
        await store._database.close()
        self.desks = Desks(await open_store(self.folder), self.host, self.timing, self.clock)


async def open_store(folder: Path) -> RecordStore:
    store = await RecordStore.open(folder / "broker", "", [partner.id for partner in PARTNERS])
    await publish(store.of(PUBLIC), DOMAINS)
    return store


@asynccontextmanager
async def counter(folder: Path) -> AsyncIterator[Exchange]:
    """An exchange that nobody is attached to, for what is refused at once."""
    host, store = Host(), await open_store(folder)
    desks = Desks(store, host, QUICK, time.time_ns)
    try:
        yield Exchange(folder, host, "", None, {}, desks)
    finally:
        await desks.die()
        await store.close()


class Pki:
    """One operator's CA for everybody: who belongs to whom is not what these tests are about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = OperatorCA.create(EXCHANGE, folder / "ca")
        self._issued: dict[str, IdentityConfig] = {}

    def identity(self, role: Role, name: str, **more: Any) -> IdentityConfig:
        if name not in self._issued:
            issued = self.ca.issue(role, name, self.folder / name, **more)
            self._issued[name] = IdentityConfig(
                certificate=issued.certificate,
                key=issued.key,
                signing_certificate=issued.signing_certificate,
                signing_key=issued.signing_key,
            )
        return self._issued[name]

    def agent_config(self, domain: str, address: str, state: Path) -> AgentConfig:
        return AgentConfig(
            domain=domain,
            operator=EXCHANGE,
            state=state,
            identity=self.identity(Role.AGENT, domain),
            broker=BrokerAddress(
                address=address, root=self.ca.root, identity=f"spiffe://{EXCHANGE}/broker/main"
            ),
        )


@asynccontextmanager
async def exchange(
    folder: Path,
    pki: Pki,
    *,
    attached: tuple[str, ...] = DOMAINS,
    timing: Timing = QUICK,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Exchange]:
    """An exchange whose domains allow acme and xr to have twins."""
    trust = {EXCHANGE: pki.ca.root}
    config = BrokerConfig(
        operator=EXCHANGE,
        listen="127.0.0.1:0",
        state=folder / "broker",
        trust=trust,
        identity=pki.identity(Role.BROKER, "main", dns=["localhost", "127.0.0.1"]),
        member=tuple(MemberConfig(domain=domain, operator=EXCHANGE) for domain in DOMAINS),
        heartbeat_s=0.5,
        dead_after_s=5.0,
    )
    identity = load_identity(config.identity, operator=EXCHANGE, role=Role.BROKER, name="main")
    bundle = TrustBundle.load(trust)
    host = Host()
    server = grpc.aio.server(interceptors=[Guard(bundle)], options=STREAM_OPTIONS)
    service = FederationService(host, config, identity, bundle)
    add_FederationServicer_to_server(service, server)
    credentials = server_credentials(config.identity.certificate, config.identity.key, bundle)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    domains = {name: TwinDomain(name, folder, agreed=agreements(ACME, XR), clock=clock) for name in DOMAINS}
    store = await open_store(folder)
    running = Exchange(
        folder,
        host,
        f"localhost:{port}",
        pki,
        domains,
        Desks(store, host, timing, clock),
        timing=timing,
        clock=clock,
    )
    try:
        await running.attach(*attached)
        yield running
    finally:
        await running.desks.die()
        await running.detach(*running.sessions)
        await service.close("the test is over")
        await server.stop(0.2)
        await running.store.close()


def add(*end_points: str, specification: str = "ndt-twin", name: str = "", **values: Any) -> dict[str, Any]:
    """An item that adds a twin."""
    if end_points:
        values["endPoints"] = list(end_points)
    service: dict[str, Any] = {
        "serviceSpecification": {"id": specification},
        "serviceCharacteristic": [{"name": key, "value": value} for key, value in values.items()],
    }
    return {"action": "add", "service": service | ({"name": name} if name else {})}


def modify(service: str, state: str = "", **values: Any) -> dict[str, Any]:
    """An item that changes a twin."""
    told: dict[str, Any] = {"id": service}
    if values:
        told["serviceCharacteristic"] = [{"name": key, "value": value} for key, value in values.items()]
    return {"action": "modify", "service": told | ({"state": state} if state else {})}


def retire(service: str) -> dict[str, Any]:
    """An item that ends a twin."""
    return {"action": "delete", "service": {"id": service}}


def order_of(exchanged: Exchange, identity: str) -> Mapping[str, Any]:
    """An order as it is now."""
    return exchanged.get(Kind.SERVICE_ORDER, identity)


def parts(service: Mapping[str, Any]) -> dict[str, str]:
    """State and operating status by domain."""
    return {
        part["name"]: f"{part['state']} {part['operatingStatus']}" for part in service["supportingService"]
    }


def value(service: Mapping[str, Any], name: str) -> Any:
    """The value of a characteristic."""
    return next(item["value"] for item in service["serviceCharacteristic"] if item["name"] == name)
