"""Three operators whose agents answer what-ifs, and a partner with a twin over them, to run scenarios on.

The network is that of the federated what-ifs: ran/cell-1 over a1 or a2 to transport, over b to edge/app. The
broker, the sessions, the agents' jobs and parts, the jobs' desk and the store are real ones.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "federation"))

from federation_parts import EXCHANGE, Federation, until
from what_if_parts import A1, A2, ACTIONS, BROKER, B, RealDomain, federation, inner, networks

from domain_twin.agent.sandboxes import Sandboxes
from domain_twin.config import PartnerConfig, QuotaConfig
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.model import ServiceRecords, View
from domain_twin.simulation.jobs.desk import JobDesk
from domain_twin.simulation.jobs.store import JobStore
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.compile import compile_network
from domain_twin.simulation.warm import warm
from federation.compose import ComposedGraph, Member
from federation.jobs import BrokerJobs
from federation.partners.partners import Partners
from federation.partners.record import Kind, Record
from federation.partners.run_desks import run_desks
from federation.partners.store import RecordStore
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.views import decode_view

__all__ = [
    "A1", "A2", "EXCHANGE", "NO_TWIN", "PAIR", "B", "Desks", "NoDomains", "Twin", "agree", "agreed",
    "connected", "desks", "federation", "hold", "inner", "kernels", "limit", "made",
    "twin_over", "until", "value",
]  # fmt: skip

ACME, GLOBEX = "acme", "globex"
FLOW = "ran/cell-1 > edge/app (any)"
CUT = {"name": "cut a1", "changes": [{"kind": "element-down", "element": A1}]}
CUT_BOTH = {"name": "cut both", "changes": [{"kind": "element-down", "element": link} for link in (A1, A2)]}


PAIR = [["ran/cell-1", "edge/app"]]


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    """Compiled before any session: an agent that compiles while it should answer would be taken for dead."""
    warm()
    network = compile_network(networks()["edge"])
    Engine(network.graph, network.demand).solve()


class NoDomains:
    """A broker to which no domain is attached."""

    def __init__(self) -> None:
        self.sessions: dict[str, Any] = {}


async def connected(broker: Any) -> None:
    """Wait for all three domains."""

    async def all_there() -> bool:
        return len(broker.sessions) == 3

    await until(all_there)


def hold(parts: Federation, domain: str = "edge") -> tuple[asyncio.Event, asyncio.Event]:
    """Have a domain's rounds wait; what is set when one came, and what lets it go on."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(body: Any) -> None:
        if body.WhichOneof("step") == "round":
            begun.set()
            await go.wait()

    parts.domains[domain].before = wait  # type: ignore[attr-defined]
    return begun, go


def agreed(*tenants: str, **more: Any) -> list[Agreement]:
    """The broker's own agreement, and one for each of these partners."""
    actions = frozenset({Action.SANDBOX, Action.WHAT_IF, Action.VIEW})
    return [
        Agreement("exchange", BROKER, actions=ACTIONS | {Action.SANDBOX}, asks_per_second=1000.0),
        *(
            Agreement(
                tenant,
                f"spiffe://{EXCHANGE}/partner/{tenant}",
                **{"actions": actions, "asks_per_second": 1000.0, **more},
            )
            for tenant in tenants
        ),
    ]


def made(folder: Path, *tenants: str) -> Federation:
    """A federation whose domains agree to twins of these tenants."""
    found = federation(folder)
    for domain in found.domains.values():
        agree(domain, folder, agreed(*(tenants or (ACME, GLOBEX))))
    return found


def agree(domain: RealDomain, folder: Path, agreements: Iterable[Agreement]) -> None:
    """Take up agreements, and keep parts of twins."""
    published = domain.publisher._published  # the same that its views have
    domain.jobs.replace_agreements(agreements)
    domain.jobs.sandboxes = Sandboxes(
        folder / f"sandboxes-{domain.network.domain}.json",
        domain=domain.network.domain,
        network=lambda: domain.network,
        published=published,
    )


@dataclass
class Twin:
    """A sandbox: composed of what each domain shows to its partner."""

    points: tuple[str, ...]
    graph: ComposedGraph = field(default_factory=ComposedGraph)

    def put(self, domain: str, view: View | None, *, connected: bool = True) -> None:
        self.graph.put(Member(domain, view, connected=connected))


async def twin_over(
    broker: Any, tenant: str, service: str, points: Iterable[str] = ("ran/cell-1", "edge/app")
) -> Twin:
    """Have every domain open its part of a twin, and compose them."""
    twin = Twin(tuple(points))
    for domain, session in sorted(broker.sessions.items()):
        mine = [point for point in twin.points if point.startswith(f"{domain}/")]
        ask = pb.Ask(sandbox=pb.SandboxAsk(step="open", sandbox=service, points=mine))
        answer = await session.ask(
            ask.sandbox, timeout_s=20.0, on_behalf_of=f"spiffe://{EXCHANGE}/partner/{tenant}"
        )
        twin.put(domain, decode_view(answer.view))
    return twin


@dataclass
class Desks:
    """What a broker does for partners' runs, beside its sessions; started and ended by `desks`."""

    store: RecordStore
    partners: Partners
    jobs: JobDesk
    answers: BrokerJobs
    twins: dict[tuple[str, str], Twin]

    async def add_twin(self, tenant: str, service: str, twin: Twin, state: str = "active") -> Record:
        """An active service, without an order."""
        self.twins[tenant, service] = twin
        body = {"id": service, "name": service, "state": state}
        return await self.store.of(tenant).create(Kind.SERVICE, body)

    async def specification(self, tenant: str = ACME, **more: Any) -> str:
        body = {"name": "limits", "relatedServiceSpecification": [{"id": "NdtTwin"}], **more}
        made = await self.partners.create(tenant, Kind.SERVICE_TEST_SPECIFICATION, body)
        return made.record.id

    async def test(self, specification: str, tenant: str = ACME, twin: str = "t1", **values: Any) -> str:
        """Ask a test; the id of it."""
        body = {
            "name": "a test",
            "relatedService": {"id": twin},
            "testSpecification": {"id": specification},
            "characteristic": [{"name": name, "value": value} for name, value in values.items()],
        }
        return (await self.partners.create(tenant, Kind.SERVICE_TEST, body)).record.id

    def read(self, test: str, tenant: str = ACME, kind: Kind = Kind.SERVICE_TEST) -> Mapping[str, Any]:
        return self.store.of(tenant).get(kind, test).body

    async def ended(self, test: str, tenant: str = ACME) -> Mapping[str, Any]:
        """A test as it ended."""

        async def over() -> bool:
            return self.read(test, tenant)["state"] not in ("acknowledged", "inProgress")

        await until(over, timeout_s=60.0)
        return self.read(test, tenant)

    def alarms(self, tenant: str = ACME) -> list[Mapping[str, Any]]:
        return [record.body for record in self.store.of(tenant).list(Kind.ALARM)]


@asynccontextmanager
async def desks(
    folder: Path,
    broker: Any,
    *,
    quota: QuotaConfig | None = None,
    twins: dict[tuple[str, str], Twin] | None = None,
    alarms: bool = True,
) -> AsyncIterator[Desks]:
    """The desks of a broker in this folder, as they start anew after each end.

    Without `alarms` nobody looks for live ones but the test.
    """
    partners = [PartnerConfig(id=name, quota=quota or QuotaConfig(runs=4)) for name in (ACME, GLOBEX)]
    url = f"sqlite:///{folder / 'partners.sqlite3'}"
    store = await RecordStore.open(folder, url, [partner.id for partner in partners])
    registry: Any = SimpleNamespace(graph=ComposedGraph(), session=broker.sessions.get)
    answers = BrokerJobs(registry, ServiceRecords())
    jobs = JobDesk(JobStore(folder / "jobs"), answers.answer, check=answers.check)
    twins = {} if twins is None else twins
    config: Any = SimpleNamespace(operator=EXCHANGE, partner=partners)
    found = run_desks(config, store, jobs, answers, lambda tenant, service: twins.get((tenant, service)))
    kept = Partners(store, found)
    kept.begin()
    work = [jobs.run, kept.run] if alarms else [jobs.run]
    running = [asyncio.create_task(each()) for each in work]
    try:
        yield Desks(store, kept, jobs, answers, twins)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await store.close()


NO_TWIN = Twin(())


def value(body: Mapping[str, Any], name: str) -> Any:
    """The value of a characteristic."""
    return next((item["value"] for item in body["characteristic"] if item["name"] == name), None)


def limit(metric: str, **rule: Any) -> dict[str, Any]:
    """A measure with one threshold."""
    return {"metricName": metric, "thresholdRule": [{"name": f"{metric} limit", **rule}]}
