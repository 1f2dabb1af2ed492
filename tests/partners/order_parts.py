"""A federation of real agents' parts, to order twins from: ran, transport and edge in a row, with agreements.

ran/{cell-1,cell-2} -- ran ==idl:a== transport ==idl:b== edge -- edge/{app,game}; each domain also has a host
that it publishes to nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.sandboxes import Sandboxes
from domain_twin.agent.session import Asked, BrokerSession, Retry
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.model import (
    CARRIED_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    Node,
    TerminationPoint,
    Version,
)
from domain_twin.trust.identity import SpiffeId
from federation.v1 import fedtwin_pb2 as pb

EXCHANGE = "exchange.example"
BROKER = SpiffeId.parse(f"spiffe://{EXCHANGE}/broker/main")
ACME, XR = f"spiffe://{EXCHANGE}/partner/acme", f"spiffe://{EXCHANGE}/partner/xr"
DOMAINS = ("ran", "transport", "edge")
LINKS = {("ran", "transport"): "urn:ndt:idl:a", ("transport", "edge"): "urn:ndt:idl:b"}
PUBLISHED = {"ran": ("cell-1", "cell-2"), "transport": (), "edge": ("app", "game")}
SECOND = 1_000_000_000
FAST = Retry(first_s=0.02, most_s=0.1, slow_s=0.1)


def kpis(delay_ms: float) -> dict[str, Kpi]:
    figures = ((DELAY, delay_ms, "ms"), (DELAY_VARIANCE, 0.01, "ms2"), (LOSS, 0.0, "ratio"))
    return {
        **{name: Kpi(name, value, unit) for name, value, unit in figures},
        CARRIED_RATE: Kpi(CARRIED_RATE, 400.0, "Mbit/s"),
    }


def network(domain: str, delay_ms: float = 2.0) -> Network:
    """West -- middle -- east, borders at the outer ones, hosts in the middle; the middle's name is secret."""
    names = ("west", "middle", "east")
    nodes = {f"n-{n}": Node(f"n-{n}", n, n) for n in names}
    points, links = {}, {}
    for one, other in (("west", "middle"), ("middle", "west"), ("middle", "east"), ("east", "middle")):
        tp = f"n-{one}:{other}"
        points[tp] = TerminationPoint(tp, f"n-{one}", one, other, speed_mbps=1000.0)
        links[f"{tp}:out"] = Link(
            f"{tp}:out", one, f"n-{one}", tp, f"n-{other}", f"n-{other}:{one}", 1, 1000.0, True,
            kpis(delay_ms),
        )  # fmt: skip
    for (one, other), link in LINKS.items():
        if domain in (one, other):
            node, peer = ("east", other) if domain == one else ("west", one)
            tp = f"n-{node}:border"
            points[tp] = TerminationPoint(
                tp, f"n-{node}", node, "border", speed_mbps=1000.0,
                inter_domain=InterDomainEnd(link, peer, 1000.0), kpis=kpis(0.1),
            )  # fmt: skip
    hosts = {
        f"h-{name}": Host(f"h-{name}", "n-middle", "middle", kpis=kpis(0.5))
        for name in (*PUBLISHED[domain], "hidden")
    }
    return Network(domain, Version("e", 1, time.time_ns()), nodes, points, links, {}, {}, hosts)


def agreements(*partners: str, expires_at: int | None = None, **more: Any) -> list[Agreement]:
    """The broker's own and one for each of these partners, which all may have twins."""
    actions = frozenset({Action.VIEW, Action.DESCRIBE, Action.SANDBOX})
    own = Agreement("exchange", str(BROKER), actions=actions, asks_per_second=10_000.0)
    return [
        own,
        *(
            Agreement(
                partner.rpartition("/")[2],
                partner,
                **{"actions": frozenset({Action.SANDBOX}), "asks_per_second": 10_000.0, **more},
                expires_at=expires_at,
            )
            for partner in partners
        ),
    ]


class TwinDomain:
    """One domain's agent but for its devices: policy, views and parts of twins are the real ones."""

    def __init__(
        self,
        domain: str,
        folder: Path,
        *,
        agreed: Iterable[Agreement] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.domain = domain
        self.folder = folder
        self.network = network(domain)
        self.agreed = list(agreed)
        self.clock = clock
        self.asked: list[tuple[str, str]] = []
        self.gate: asyncio.Event | None = None
        """Holds every open back until it is set."""
        self.session: BrokerSession | None = None
        self.falsify: Callable[[pb.SandboxAnswer], pb.SandboxAnswer] = lambda answer: answer
        self.start()

    def start(self) -> None:
        """What a start of the agent makes anew."""
        published = {alias: f"h-{alias}" for alias in PUBLISHED[self.domain]}
        self.publisher = Publisher(
            network=lambda: self.network,
            published=published,
            interval_s=0.0,
            figures_interval_s=0.0,
            send=lambda delta: self.session.publish(delta) if self.session else None,
            clock=self.clock,
        )
        self.jobs = Jobs(
            domain=self.domain,
            agreements=self.agreed,
            published=published,
            publisher=self.publisher,
            clock=self.clock,
        )
        self.jobs.sandboxes = self.sandboxes = Sandboxes(
            self.folder / f"sandboxes-{self.domain}.json",
            domain=self.domain,
            network=lambda: self.network,
            published=published,
            clock=self.clock,
        )
        answer = self.jobs.sandbox

        async def noted(ask: Asked, body: pb.SandboxAsk) -> pb.SandboxAnswer:
            self.asked.append((body.step, body.sandbox))
            if self.gate and body.step == "open":
                await self.gate.wait()
            return self.falsify(await answer(ask, body))

        self.jobs.sandbox = noted  # type: ignore[method-assign]

    def agree(self, agreed: Iterable[Agreement]) -> None:
        """Take up other agreements, as on SIGHUP."""
        self.agreed = list(agreed)
        self.jobs.replace_agreements(self.agreed)

    def set_delay(self, delay_ms: float) -> None:
        """Have the devices measure another delay."""
        sequence = self.network.version.sequence + 1
        self.network = replace(network(self.domain, delay_ms), version=Version("e", sequence, time.time_ns()))
        self.publisher.notify(urgent=False)

    async def ask(
        self, step: str, sandbox: str, *, partner: str = ACME, points: Iterable[str] = (), **more: Any
    ) -> pb.SandboxAnswer:
        """Ask as the broker does, without a broker."""
        asked = Asked(1, "", 0, BROKER, partner, self.clock() + SECOND)
        body = pb.SandboxAsk(step=step, sandbox=sandbox, points=points, **more)
        return await self.jobs.sandbox(asked, body)

    def open_twins(self, partner: str = ACME) -> set[str]:
        """Ids of the twins that this domain has a part in."""
        return {held.id for held in self.sandboxes.open_ones() if held.partner == partner}
