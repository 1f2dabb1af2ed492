"""A federation in miniature: three operators, a real broker, agents' real sessions, domains of a few points.

ran/cell-1 -- ran/b1 ==idl:a== transport/b1 -- transport/b2 ==idl:b== edge/b1 -- edge/app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from domain_twin.agent.session import Asked, BrokerSession, Retry
from domain_twin.config import (
    AccessConfig,
    AgentConfig,
    BrokerAddress,
    BrokerConfig,
    ClientConfig,
    IdentityConfig,
    MemberConfig,
)
from domain_twin.errors import NotShared
from domain_twin.model import (
    Level,
    Objective,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Service,
    ServiceRecords,
    Version,
    View,
    ViewDelta,
)
from domain_twin.model.delta import apply, snapshot
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.broker import Broker, serve
from federation.client import TwinClient
from federation.v1 import fedtwin_pb2 as pb

OPERATORS = {"ran": "northcell.example", "transport": "longhaul.example", "edge": "edgeworks.example"}
EXCHANGE = "exchange.example"
FAST = Retry(first_s=0.02, most_s=0.1, slow_s=0.1)
SERVICE = Service("urn:s:1", "uplink", "ran/cell-1", "edge/app", Objective(delay_ms=10.0))
RECORDS = ServiceRecords(services={SERVICE.id: SERVICE})
LINK_A, LINK_B = "urn:ndt:idl:aaaa", "urn:ndt:idl:bbbb"


class Pki:
    """CAs of all operators, with what they issue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        operators = (EXCHANGE, *OPERATORS.values())
        self.cas = {operator: OperatorCA.create(operator, folder / operator) for operator in operators}
        self.roots = {operator: ca.root for operator, ca in self.cas.items()}

    def identity(self, operator: str, role: Role, name: str, **more: Any) -> IdentityConfig:
        issued = self.cas[operator].issue(role, name, self.folder / f"{operator}-{role}-{name}", **more)
        return IdentityConfig(
            certificate=issued.certificate,
            key=issued.key,
            signing_certificate=issued.signing_certificate,
            signing_key=issued.signing_key,
        )


class FakeDomain:
    """A handler with a view that tests change; everything between it and the broker is real."""

    def __init__(self, view: View) -> None:
        self.view_now = view
        self.deltas: list[ViewDelta] = []
        self.resumed: list[Version | None] = []
        self.budgets: list[pb.BudgetAsk] = []
        self.granted: Level | None = view.level
        self.least_ms = 0.0
        self.expires_at = 0
        self.refuse_budget: Exception | None = None
        self.session: BrokerSession | None = None
        self.full: list[Exception] = []  # what the next asks for a view are refused with

    @property
    def domain(self) -> str:
        return self.view_now.domain

    def change(
        self,
        *,
        points: Iterable[Point] = (),
        segments: Iterable[Segment] = (),
        gone_points: Iterable[str] = (),
        observed_at: int = 0,
        publish: bool = True,
    ) -> ViewDelta:
        version = self.view_now.version
        delta = ViewDelta(
            domain=self.domain,
            agreement="a",
            level=self.view_now.level,
            source=version,
            target=Version(version.epoch, version.sequence + 1, observed_at),
            points=tuple(points),
            segments=tuple(segments),
            gone_points=tuple(gone_points),
        )
        self.view_now = apply(self.view_now, delta)
        self.deltas.append(delta)
        if publish and self.session:
            self.session.publish(delta)
        return delta

    def set_delay(self, source: str, target: str, delay_ms: float, **more: Any) -> ViewDelta:
        segment = self.view_now.segments[source, target]
        assert segment.current
        kpis = replace(segment.current, delay_ms=delay_ms)
        return self.change(segments=[replace(segment, current=kpis, options=(kpis,))], **more)

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        if self.granted is None:
            raise NotShared("no agreement speaks of you")
        if level is not self.granted:
            raise NotShared(f"you may see the level {self.granted.value!r} and asked for {level.value!r}")
        self.resumed.append(resume_from)
        if self.full:
            raise self.full.pop()
        if resume_from is not None and resume_from.epoch == self.view_now.version.epoch:
            missing = [d for d in self.deltas if d.target.sequence > resume_from.sequence]
            if resume_from.sequence == self.view_now.version.sequence:
                return []
            if missing and missing[0].source and missing[0].source.sequence == resume_from.sequence:
                return missing
        return [snapshot(self.view_now)]

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        return pb.EvaluateAnswer()

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        return pb.DescribeAnswer(agreement="a", level=self.granted or "", expires_at=self.expires_at)

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        self.budgets.append(body)
        if self.refuse_budget:
            raise self.refuse_budget
        if body.share_ms < self.least_ms:
            return pb.BudgetAnswer(accepted=False, least_ms=self.least_ms, reason=f"{self.domain} needs more")
        return pb.BudgetAnswer(accepted=True, least_ms=self.least_ms)

    def job_end(self, job_id: str) -> None: ...


def border(domain: str, name: str, link: str, peer: str, **more: Any) -> Point:
    return Point(
        f"{domain}/{name}",
        domain,
        PointKind.BORDER,
        link_id=link,
        peer_domain=peer,
        capacity_mbps=1000.0,
        metric=10,
        outbound=PathKpis(0.1, bandwidth_mbps=900.0),
        **more,
    )


def end_point(domain: str, name: str, role: str) -> Point:
    return Point(f"{domain}/{name}", domain, PointKind.ENDPOINT, role=role)


def view_of(domain: str, points: Iterable[Point], delay_ms: float, *, epoch: str = "e1") -> View:
    """A mesh view in which every pair of points is joined by the same figures."""
    listed = {point.id: point for point in points}
    kpis = PathKpis(delay_ms, bandwidth_mbps=500.0, metric=10, delay_variance_ms2=0.01)
    segments = {(a, b): Segment(a, b, kpis, (kpis,)) for a in listed for b in listed if a != b}
    return View(domain, "a", Level.MESH, Version(epoch, 1, 1000), listed, segments, hidden_nodes=5)


def three_domains() -> dict[str, FakeDomain]:
    views = (
        view_of("ran", [end_point("ran", "cell-1", "cell"), border("ran", "b1", LINK_A, "transport")], 2.0),
        view_of(
            "transport",
            [border("transport", "b1", LINK_A, "ran"), border("transport", "b2", LINK_B, "edge")],
            3.0,
        ),
        view_of("edge", [border("edge", "b1", LINK_B, "transport"), end_point("edge", "app", "host")], 1.0),
    )
    return {view.domain: FakeDomain(view) for view in views}


@dataclass
class Federation:
    """A folder with everything that a federation needs, to start and stop its parts in."""

    folder: Path
    pki: Pki
    domains: dict[str, FakeDomain] = field(default_factory=three_domains)
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, **more: Any) -> Federation:
        return cls(folder, Pki(folder / "pki"), more=more)

    def broker_config(self, port: int = 0) -> BrokerConfig:
        identity = self.pki.identity(EXCHANGE, Role.BROKER, "main", dns=["localhost", "127.0.0.1"])
        return BrokerConfig(
            **{
                "operator": EXCHANGE,
                "listen": f"127.0.0.1:{port}",
                "state": self.folder / "broker",
                "identity": identity,
                "trust": self.pki.roots,
                "member": tuple(MemberConfig(domain=d, operator=OPERATORS[d]) for d in self.domains),
                "access": (AccessConfig(subject=f"spiffe://{EXCHANGE}/user/*"),),
                "sample_interval_s": 0.2,
                "heartbeat_s": 0.5,
                "dead_after_s": 2.0,
                **self.more,
            }
        )

    @asynccontextmanager
    async def broker(self, records: ServiceRecords = RECORDS, port: int = 0) -> AsyncIterator[Broker]:
        async with serve(self.broker_config(port), records) as broker:
            yield broker

    @asynccontextmanager
    async def agent(self, domain: str, broker: Broker) -> AsyncIterator[FakeDomain]:
        """The agent's end of a session, attached or trying to be."""
        handler = self.domains[domain]
        config = AgentConfig(
            domain=domain,
            operator=OPERATORS[domain],
            state=self.folder / f"agent-{domain}",
            identity=self.pki.identity(OPERATORS[domain], Role.AGENT, domain),
            broker=BrokerAddress(
                address=local(broker),
                root=self.pki.roots[EXCHANGE],
                identity=f"spiffe://{EXCHANGE}/broker/main",
            ),
        )
        handler.session = session = BrokerSession(config, handler, retry=FAST)
        running = asyncio.create_task(session.run())
        try:
            yield handler
        finally:
            await session.close("the test is over")
            await running
            handler.session = None

    @asynccontextmanager
    async def agents(self, broker: Broker) -> AsyncIterator[None]:
        """All three."""
        async with self.agent("ran", broker), self.agent("transport", broker), self.agent("edge", broker):
            yield

    @asynccontextmanager
    async def client(
        self,
        broker: Broker,
        *,
        operator: str = EXCHANGE,
        role: Role = Role.USER,
        name: str = "ann",
        **more: Any,
    ) -> AsyncIterator[TwinClient]:
        issued = self.pki.identity(operator, role, name, **more)
        profile = ClientConfig(
            address=local(broker),
            identity=f"spiffe://{EXCHANGE}/broker/main",
            root=self.pki.roots[EXCHANGE],
            certificate=issued.certificate,
            key=issued.key,
        )
        async with TwinClient(profile, timeout_s=20.0) as twin:
            yield twin


def local(broker: Broker) -> str:
    return f"localhost:{broker.address.rpartition(':')[2]}"


async def until(question: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Ask (a coroutine function) until the answer is true; fails the test when it never is."""
    async with asyncio.timeout(timeout_s):
        while not (answer := await question()):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.01)
    return answer


async def all_connected(twin: TwinClient) -> Any:
    async def question() -> Any:
        statuses = await twin.domains()
        return all(status.connected and status.version for status in statuses) and statuses

    return await until(question)
