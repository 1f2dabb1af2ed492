"""A federation in miniature for the tests of the session: operators with their CAs, a broker, agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from domain_twin.agent.session import Asked, BrokerSession, Retry
from domain_twin.config import AgentConfig, BrokerAddress, BrokerConfig, IdentityConfig
from domain_twin.errors import NotShared, StaleVersion, TwinError
from domain_twin.model import Level, PathKpis, Point, PointKind, Segment, Version, View, ViewDelta
from domain_twin.model.delta import apply
from domain_twin.trust.ca import IssuedIdentity, OperatorCA
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.guard import Guard
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.tls import server_credentials
from federation.attach import FederationService
from federation.session import AgentHello, Session
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire.framing import STREAM_OPTIONS, Limits

OPERATORS = {"ran": "northcell.example", "transport": "longhaul.example", "core": "corenova.example"}
EXCHANGE = "exchange.example"
FAST = Retry(first_s=0.05, most_s=0.2, slow_s=0.2)


def config_of(issued: IssuedIdentity) -> IdentityConfig:
    return IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )


class Pki:
    """CAs of all operators, and identities issued on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cas = {
            operator: OperatorCA.create(
                operator, folder / operator, intermediate=operator == OPERATORS["core"]
            )
            for operator in (EXCHANGE, *OPERATORS.values())
        }
        self.roots = {operator: ca.root for operator, ca in self.cas.items()}
        self.trust = TrustBundle.load(self.roots)

    def broker(self, name: str = "main", **more: Any) -> IdentityConfig:
        more = {"dns": ["localhost", "127.0.0.1"], **more}
        return config_of(self.cas[EXCHANGE].issue(Role.BROKER, name, self.folder, **more))

    def agent(self, domain: str, folder: str = "", **more: Any) -> IdentityConfig:
        ca = self.cas[OPERATORS[domain]]
        return config_of(ca.issue(Role.AGENT, domain, self.folder / (folder or "agents"), **more))

    def agent_config(self, domain: str, address: str, state: Path, **more: Any) -> AgentConfig:
        if "identity" not in more:
            more["identity"] = self.agent(domain, folder=str(state.name))
        return AgentConfig(
            domain=domain,
            operator=OPERATORS[domain],
            state=state,
            broker=BrokerAddress(
                address=address, root=self.roots[EXCHANGE], identity=f"spiffe://{EXCHANGE}/broker/main"
            ),
            **more,
        )

    def broker_config(self, state: Path, **more: Any) -> BrokerConfig:
        return BrokerConfig(
            **{
                "operator": EXCHANGE,
                "listen": "127.0.0.1:0",
                "state": state,
                "trust": self.roots,
                "identity": self.broker() if "identity" not in more else more["identity"],
                **more,
            }
        )


@dataclass
class Host:
    """Keeps sessions and views as a registry does."""

    sessions: dict[str, Session] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    lost_because: list[tuple[str, str]] = field(default_factory=list)
    attachments: list[Session] = field(default_factory=list)
    deltas: list[ViewDelta] = field(default_factory=list)
    refusals: list[TwinError] = field(default_factory=list)
    watch: Level | None = None
    refuse_admission: TwinError | None = None
    refuse_view: TwinError | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def admit(self, peer: SpiffeId, domain: str, hello: AgentHello) -> None:
        if self.refuse_admission:
            raise self.refuse_admission

    def attached(self, session: Session) -> None:
        self.sessions[session.domain] = session
        self.attachments.append(session)
        if self.watch:
            view = self.views.get(session.domain)
            session.watch_view(self.watch, view.version if view else None, refused=self.refusals.append)

    def lost(self, session: Session, reason: str) -> None:
        del self.sessions[session.domain]
        self.lost_because.append((session.domain, reason))

    def view_update(self, session: Session, delta: ViewDelta, received_at: int) -> None:
        if self.refuse_view:
            raise self.refuse_view
        self.views[session.domain] = apply(self.views.get(session.domain), delta)
        self.deltas.append(delta)


async def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until `condition` holds; fails the test when it never does."""
    async with asyncio.timeout(timeout_s):
        while not (result := condition()):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.005)
    return result


@dataclass
class Broker:
    """A broker that is listening."""

    host: Host
    service: FederationService
    guard: Guard
    address: str

    async def session(self, domain: str) -> Session:
        return await until(lambda: self.host.sessions.get(domain))  # type: ignore[no-any-return]


@asynccontextmanager
async def broker(
    pki: Pki,
    state: Path,
    *,
    host: Host | None = None,
    limits: Limits | None = None,
    port: int = 0,
    **more: Any,
) -> AsyncIterator[Broker]:
    service_options = {k: more.pop(k) for k in ("reattach_margin_s", "hello_within_s") if k in more}
    config = pki.broker_config(state, **more)
    identity = load_identity(config.identity, operator=EXCHANGE, role=Role.BROKER, name="main")
    host = host or Host()
    guard = Guard(pki.trust)
    server = grpc.aio.server(interceptors=[guard], options=STREAM_OPTIONS)
    service = FederationService(
        host, config, identity, pki.trust, limits=limits or Limits(), **service_options
    )
    rpc.add_FederationServicer_to_server(service, server)
    credentials = server_credentials(config.identity.certificate, config.identity.key, pki.trust)
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield Broker(host, service, guard, f"localhost:{bound}")
    finally:
        await service.close("the broker is shutting down")
        await server.stop(0.5)


def view_delta(
    sequence: int, *, source: int | None, domain: str = "ran", epoch: str = "e", **more: Any
) -> ViewDelta:
    """The delta that sets point `p` to what its sequence number says."""
    kpis = PathKpis(delay_ms=float(sequence))
    return ViewDelta(
        domain=domain,
        agreement="a",
        level=Level.MESH,
        source=None if source is None else Version(epoch, source),
        target=Version(epoch, sequence),
        points=(Point(f"{domain}/p{sequence % 7}", domain, PointKind.BORDER, metric=sequence),),
        segments=(Segment(f"{domain}/a", f"{domain}/b", kpis),),
        **more,
    )


class Domain:
    """A handler with a view of its own, whose answers echo the ask."""

    def __init__(self, domain: str = "ran", ring: int = 4) -> None:
        self.domain = domain
        self.ring = ring
        self.view_now = apply(None, view_delta(0, source=None, domain=domain))
        self.deltas: list[ViewDelta] = []
        self.asked: list[Asked] = []
        self.ended_jobs: list[str] = []
        self.cancelled: list[int] = []
        self.snapshots = 0
        self.resumed = 0
        self.not_shared = False
        self.answer_bytes = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.session: BrokerSession | None = None

    def change(self, *, publish: bool = True) -> ViewDelta:
        sequence = self.view_now.version.sequence
        delta = view_delta(sequence + 1, source=sequence, domain=self.domain)
        if sequence % 5 == 4:
            delta = replace(delta, gone_points=(f"{self.domain}/p{(sequence - 2) % 7}",))
        self.view_now = apply(self.view_now, delta)
        self.deltas = [*self.deltas, delta][-self.ring :]
        if publish and self.session:
            self.session.publish(delta)
        return delta

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        if self.not_shared:
            raise NotShared("no agreement grants a view; ask the domain's operator for one")
        if resume_from and resume_from.epoch == "e":
            missing = [d for d in self.deltas if d.target.sequence > resume_from.sequence]
            if not missing and resume_from.sequence == self.view_now.version.sequence:
                return []
            if missing and missing[0].source and missing[0].source.sequence == resume_from.sequence:
                self.resumed += 1
                return missing
        self.snapshots += 1
        v = self.view_now
        return [
            ViewDelta(
                self.domain,
                "a",
                Level.MESH,
                None,
                v.version,
                tuple(v.points.values()),
                tuple(v.segments.values()),
            )
        ]

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        self.asked.append(ask)
        try:
            if self.gate:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(ask.id)
            raise
        if self.error:
            raise self.error
        segments = [pb.SegmentAnswer(source=s.source, target=s.target) for s in body.segments]
        if self.answer_bytes:
            segments.append(pb.SegmentAnswer(source="x" * self.answer_bytes))
        return pb.EvaluateAnswer(segments=segments)

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        self.asked.append(ask)
        return pb.DescribeAnswer(agreement="a", level="mesh", software="test")

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        self.asked.append(ask)
        return pb.BudgetAnswer(accepted=True, least_ms=body.share_ms / 2)

    def job_end(self, job_id: str) -> None:
        self.ended_jobs.append(job_id)


@dataclass
class Agent:
    """An agent that is running."""

    domain: Domain
    session: BrokerSession
    statuses: list[str]


@asynccontextmanager
async def agent(
    pki: Pki,
    address: str,
    state: Path,
    *,
    domain: Domain | None = None,
    config: AgentConfig | None = None,
    retry: Retry = FAST,
) -> AsyncIterator[Agent]:
    domain = domain or Domain()
    config = config or pki.agent_config(domain.domain, address, state)
    statuses: list[str] = []
    session = BrokerSession(config, domain, statuses.append, retry=retry)
    domain.session = session
    task = asyncio.create_task(session.run())
    try:
        yield Agent(domain, session, statuses)
    finally:
        await session.close("the test is over")
        async with asyncio.timeout(10):
            await task


def same_view(one: View, other: View) -> bool:
    return (one.version, dict(one.points), dict(one.segments)) == (
        other.version,
        dict(other.points),
        dict(other.segments),
    )


__all__ = ["FAST", "StaleVersion"]
