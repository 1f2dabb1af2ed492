"""Three operators with real twins, agents' jobs and sessions and a broker, for queries across domains."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pyoxigraph as ox
from federation_parts import Federation, Pki, all_connected
from what_if_parts import PUBLISHED, UPLINK, RealDomain, networks

from domain_twin.agent.jobs import Jobs
from domain_twin.agent.queries import PeerQueries
from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import TwinError
from domain_twin.model import Customer, ServiceRecords, Slice
from domain_twin.semantic.workers import PoolLimits
from federation.broker import Broker
from federation.client import TwinClient
from federation.v1 import fedtwin_pb2 as pb

ACTIONS = frozenset({Action.VIEW, Action.DESCRIBE, Action.EVALUATE, Action.QUERY})
RECORDS = ServiceRecords(
    services={
        UPLINK.id: type(UPLINK)(
            UPLINK.id, UPLINK.name, UPLINK.source, UPLINK.target, UPLINK.objective, "urn:c:1", "urn:sl:1"
        )
    },
    slices={"urn:sl:1": Slice("urn:sl:1", "gold", "1-000001", "urn:c:1", ("ran/cell-1",))},
    customers={"urn:c:1": Customer("urn:c:1", "Harbour")},
)
PREFIX = "PREFIX ndt: <https://fedtwin.example/ns/ndt#> "
POINTS = PREFIX + "SELECT ?p ?a { ?p a ndt:BorderPoint ; ndt:alias ?a } ORDER BY ?a"


class QueryDomain(RealDomain):
    """A domain that answers queries; `log` holds whatever was asked of it and said by it."""

    def __init__(
        self,
        network: Any,
        folder: Path,
        *,
        agreements: Sequence[Agreement] = (),
        limits: PoolLimits | None = None,
        **terms: Any,
    ) -> None:
        super().__init__(network, folder, **{"actions": ACTIONS, **terms})
        if agreements:
            published = PUBLISHED.get(network.domain, {})
            self.jobs = Jobs(
                domain=network.domain,
                agreements=agreements,
                published=published,
                publisher=self.publisher,
            )
        self.jobs.queries = PeerQueries(
            network=lambda: self.network,
            published=PUBLISHED.get(network.domain, {}),
            open_views=self.publisher.open_views,
            limits=limits or PoolLimits(workers=1),
        )
        self.queries: list[pb.QueryAsk] = []
        self.cards = 0
        self.askers: set[str] = set()
        self.said: list[bytes] = []

    async def query(self, ask: Asked, body: pb.QueryAsk) -> pb.QueryAnswer:
        self.queries.append(body)
        self.askers.add(ask.on_behalf_of)
        return await self._said(self.jobs.query(ask, body))

    async def card(self, ask: Asked, body: pb.CardAsk) -> pb.CardAnswer:
        self.cards += 1
        self.askers.add(ask.on_behalf_of)
        return await self._said(self.jobs.card(ask, body))

    async def _said(self, answer: Any) -> Any:
        try:
            message = await answer
        except TwinError as error:
            self.said.append(str(error).encode())
            raise
        self.said.append(message.SerializeToString())
        return message


def federation(folder: Path, terms: dict[str, dict[str, Any]] | None = None, **more: Any) -> Federation:
    """A federation whose agents answer queries; `terms` are those of each domain's agreement."""
    (folder / "pki").mkdir(parents=True, exist_ok=True)
    domains = {
        name: QueryDomain(each, folder, **(terms or {}).get(name, {})) for name, each in networks().items()
    }
    return Federation(folder, Pki(folder / "pki"), domains, more)  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    fed: Federation, domains: Sequence[str] = ("ran", "transport", "edge"), **person: Any
) -> AsyncIterator[tuple[TwinClient, Broker]]:
    """The federation with these agents attached, seen by a client."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(fed.broker(RECORDS))
        for name in domains:
            await stack.enter_async_context(fed.agent(name, broker))
            stack.push_async_callback(fed.domains[name].jobs.queries.close)  # type: ignore[attr-defined]
        twin = await stack.enter_async_context(fed.client(broker, **person))
        if len(domains) == len(fed.domains):
            await all_connected(twin)
        yield twin, broker


def rows(results: bytes) -> list[dict[str, str]]:
    """Solutions of a JSON document, values alone."""
    document = json.loads(results)
    return [{name: term["value"] for name, term in row.items()} for row in document["results"]["bindings"]]


def same(one: bytes, other: bytes) -> bool:
    """Whether two JSON documents hold the same solutions, each as often."""

    def bag(results: bytes) -> Any:
        read = ox.parse_query_results(results, ox.QueryResultsFormat.JSON)
        if isinstance(read, ox.QueryBoolean):
            return bool(read)
        names = [name.value for name in read.variables]
        return sorted(
            sorted((name, str(term)) for name, term in zip(names, row, strict=True) if term is not None)
            for row in read
        )

    return bool(bag(one) == bag(other))
