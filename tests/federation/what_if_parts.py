"""Three operators with real twins of a few nodes, real agents' jobs, sessions and a broker, for what-ifs.

ran/cell-1 -- r1 -- r2 ==a1== t1 -- t2 ==b== e1 -- e2 (edge/app)
                \\-- r3 ==a2== t3 --/
The way over a1 has the smaller metric. Every inner name carries "secret".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from federation_parts import EXCHANGE, Federation, Pki

from domain_twin.agent.auditor import Auditor
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import Asked, BrokerSession
from domain_twin.agent.what_if_jobs import WhatIfJobs
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import TwinError
from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Cell,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    Node,
    Objective,
    Service,
    ServiceRecords,
    TerminationPoint,
    Version,
)
from domain_twin.simulation.twin.calibration import Calibration
from federation.v1 import fedtwin_pb2 as pb

A1, A2, B = "urn:ndt:idl:a1", "urn:ndt:idl:a2", "urn:ndt:idl:b"
UPLINK = Service("urn:s:1", "uplink", "ran/cell-1", "edge/app", Objective(delay_ms=50.0))
RECORDS = ServiceRecords(services={UPLINK.id: UPLINK})
BROKER = f"spiffe://{EXCHANGE}/broker/main"
ACTIONS = frozenset({Action.VIEW, Action.DESCRIBE, Action.EVALUATE, Action.WHAT_IF})


def kpis(delay: float = 1.0, carried: float = 0.0, rate: float | None = None) -> dict[str, Kpi]:
    found = {
        DELAY: Kpi(DELAY, delay, "ms"),
        DELAY_VARIANCE: Kpi(DELAY_VARIANCE, 0.01, "ms2"),
        LOSS: Kpi(LOSS, 0.0, "1"),
        CARRIED_RATE: Kpi(CARRIED_RATE, carried, "Mbit/s"),
    }
    if rate is not None:
        found[CELL_RATE] = Kpi(CELL_RATE, rate, "Mbit/s")
    return found


def inner(domain: str, name: str) -> str:
    return f"urn:ndt:{domain}:secret-{name}"


@dataclass
class Line:
    """One direction of a link."""

    source: str
    target: str
    carried: float = 0.0
    metric: int = 1
    capacity: float = 10.0


def network(
    domain: str,
    lines: Iterable[Line],
    borders: Iterable[tuple[str, str, str, float]],
    *,
    cell: str = "",
    host: str = "",
) -> Network:
    """Lines with their way back; borders are (node, link, peer, carried)."""
    nodes: dict[str, Node] = {}
    points: dict[str, TerminationPoint] = {}
    links: dict[str, Link] = {}
    every = [*lines]
    every += [Line(line.target, line.source, 0.0, line.metric, line.capacity) for line in every]
    for line in every:
        source, target = inner(domain, line.source), inner(domain, line.target)
        for name in (line.source, line.target):
            nodes[inner(domain, name)] = Node(inner(domain, name), f"secret-{name}", f"secret-{name}")
        out, back = f"{source}:to-{line.target}", f"{target}:to-{line.source}"
        points[out] = TerminationPoint(out, source, f"secret-{line.source}", f"secret-if-{line.target}")
        links[f"{out}:out"] = Link(
            f"{out}:out", f"secret-{line.source}", source, out, target, back, line.metric, line.capacity,
            True, kpis(1.0, line.carried),
        )  # fmt: skip
    for node, link, peer, carried in borders:
        tp = inner(domain, f"{node}:{link.rpartition(':')[2]}")
        points[tp] = TerminationPoint(
            tp, inner(domain, node), f"secret-{node}", f"secret-if-{link.rpartition(':')[2]}",
            inter_domain=InterDomainEnd(link, peer, 10.0, 1 if link != A2 else 5), kpis=kpis(0.5, carried),
        )  # fmt: skip
    cells = {}
    if cell:
        identity = inner(domain, "cell-one")
        cells[identity] = Cell(
            identity, inner(domain, cell), f"secret-{cell}", kpis=kpis(2.0, 4.0, rate=20.0)
        )
    hosts = {}
    if host:
        identity = inner(domain, "host-one")
        hosts[identity] = Host(identity, inner(domain, host), f"secret-{host}", kpis=kpis(0.4))
    return Network(domain, Version("e", 7, 1000), nodes, points, links, {}, cells, hosts)


def networks() -> dict[str, Network]:
    return {
        "ran": network(
            "ran",
            [Line("r1", "r2", 4.0), Line("r1", "r3", 0.5, metric=3)],
            [("r2", A1, "transport", 4.0), ("r3", A2, "transport", 0.5)],
            cell="r1",
        ),
        "transport": network(
            "transport",
            [Line("t1", "t2", 5.0), Line("t3", "t2", 2.0)],
            [("t1", A1, "ran", 0.0), ("t3", A2, "ran", 0.0), ("t2", B, "edge", 4.0)],
        ),
        "edge": network("edge", [Line("e1", "e2", 4.0)], [("e1", B, "transport", 0.0)], host="e2"),
    }


PUBLISHED = {"ran": {"cell-1": inner("ran", "cell-one")}, "edge": {"app": inner("edge", "host-one")}}


async def _nothing(_: pb.SimulateAsk) -> None: ...


class RealDomain:
    """The handler of one agent: real jobs and views over a network that tests change."""

    def __init__(self, network: Network, folder: Path, **terms: Any) -> None:
        self.network = network
        published = PUBLISHED.get(network.domain, {})
        self.publisher = Publisher(
            network=lambda: self.network,
            published=published,
            interval_s=0.0,
            figures_interval_s=0.0,
            send=lambda delta: self._session.publish(delta) if self._session else None,
        )
        options = {key: terms.pop(key) for key in ("idle_s", "most_parts") if key in terms}
        self.calibration: Calibration | None = None
        self.jobs = Jobs(
            domain=network.domain,
            agreements=[Agreement("exchange", BROKER, **{"actions": ACTIONS, **terms})],
            published=published,
            publisher=self.publisher,
            auditor=Auditor(),
        )
        self.private = folder / f"private-{network.domain}"
        self.what_ifs = self.jobs.what_ifs = WhatIfJobs(
            network=lambda: self.network,
            published=published,
            calibration=lambda: self.calibration,
            private=self.private,
            **options,
        )
        self._session: BrokerSession | None = None
        self.messages: list[bytes] = []
        self.steps: list[str] = []
        self.before: Callable[[pb.SimulateAsk], Awaitable[None]] = _nothing

    @property
    def session(self) -> BrokerSession | None:
        return self._session

    @session.setter
    def session(self, session: BrokerSession | None) -> None:
        self._session = session
        if session is not None:
            session.on_lost = self.jobs.session_lost

    async def simulate(self, ask: Asked, body: pb.SimulateAsk) -> pb.SimulateAnswer:
        """As the jobs do, with a copy of all that crosses the border; `before` may hold it up or fail it."""
        self.messages.append(body.SerializeToString())
        self.steps.append(body.WhichOneof("step"))
        try:
            await self.before(body)
            answer = await self.jobs.simulate(ask, body)
        except TwinError as error:
            self.messages.append(str(error).encode())
            raise
        self.messages.append(answer.SerializeToString())
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jobs, name)


def federation(folder: Path, terms: dict[str, dict[str, Any]] | None = None, **more: Any) -> Federation:
    """A federation whose agents have twins; `terms` are those of each domain's agreement."""
    (folder / "pki").mkdir(parents=True, exist_ok=True)
    domains = {
        name: RealDomain(each, folder, **(terms or {}).get(name, {})) for name, each in networks().items()
    }
    return Federation(folder, Pki(folder / "pki"), domains, more)  # type: ignore[arg-type]


__all__ = ["A1", "A2", "RECORDS", "UPLINK", "B", "RealDomain", "federation", "inner", "replace"]
