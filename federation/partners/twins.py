"""Partners' twins: the desk of `service` (TMF638), and who has every twin kept up to date.

What a twin is to be stands in its record: `designed` parts are asked for, joined ones are refreshed, those
of a terminated twin are closed, also at domains that were away. So a broker that starts anew at any point
goes on from what is on disk; only views are asked for again.

What scenarios need: `twins.sandbox(tenant, service_id) -> Sandbox | None`, with `.graph` (a ComposedGraph of
what the domains show to this partner and of nothing else; it changes as the twin is refreshed: freeze it for
another thread), `.points` (the end points in it), `.domains`, `.versions` (by domain) and `.away` (domains
that left: their parts are shown as they were last, or not at all). None unless the twin is active.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from domain_twin.errors import Conflict, ContractError, NotFound, StaleVersion, TwinError, Unreachable
from domain_twin.model import Nanoseconds, Version
from federation.compose import ComposedGraph
from federation.partners.asking import Asking
from federation.partners.catalogue import NDT_TWIN, twin_specification
from federation.partners.keeping import Keeper, Timing
from federation.partners.quotas import Quotas
from federation.partners.record import Body, Kind, Record, Repository
from federation.partners.scope import Scope, read_scope
from federation.partners.twin_record import TwinRecord, check_told, new_twin

__all__ = ["Sandbox", "Timing", "Twins"]

log = logging.getLogger(__name__)

_RESERVED_S = 60.0
_TRIES = 50
_FREE = frozenset({"name", "description", "category", "note", "place"})
"""What a partner may write on a service as it likes."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """An active twin, for what is asked of it."""

    graph: ComposedGraph
    domains: tuple[str, ...]
    points: tuple[str, ...]
    versions: Mapping[str, Version]
    away: frozenset[str]


class Twins:
    """The desk of services."""

    def __init__(
        self,
        asking: Asking,
        *,
        members: Collection[str],
        quotas: Quotas,
        timing: Timing | None = None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`members` are the domains of the federation."""
        self.members = frozenset(members)
        self.quotas = quotas
        self.timing = timing or Timing()
        self.clock = clock
        self._asking = asking
        self._keepers: dict[tuple[str, str], Keeper] = {}
        self._watchers: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._reserved: dict[str, dict[str, float]] = {}
        self._resources: dict[str, dict[str, Mapping[str, Body]]] = {}
        self._begin: asyncio.Queue[Keeper] = asyncio.Queue()

    # ------------------------------------------------------------ what others ask

    def sandbox(self, tenant: str, service: str) -> Sandbox | None:
        """The twin of a tenant that is active and was composed; None where there is none."""
        keeper = self._keepers.get((tenant, service))
        if keeper is None or not keeper.held:
            return None
        try:
            state = keeper.repository.get(Kind.SERVICE, service).body["state"]
        except NotFound:
            return None
        if state != "active":
            return None
        return Sandbox(
            keeper.graph,
            tuple(sorted(keeper.held)),
            tuple(keeper.graph.end_points()),
            {domain: part.view.version for domain, part in sorted(keeper.held.items())},
            frozenset(name for name, member in keeper.graph.members.items() if not member.connected),
        )

    def held_by(self, repository: Repository) -> int:
        """How many twins a tenant has that are not over, also those that are about to be kept."""
        now = time.monotonic()
        reserved = {name for name, until in self._reserved.get(repository.tenant, {}).items() if until > now}
        there = {r.id for r in repository.list(Kind.SERVICE) if r.body.get("state") != "terminated"}
        return len(there | reserved)

    @asynccontextmanager
    async def watching(self, tenant: str, services: Collection[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of these twins' records changes."""
        event = asyncio.Event()
        for service in services:
            self._watchers.setdefault((tenant, service), set()).add(event)
        try:
            yield event
        finally:
            for service in services:
                watchers = self._watchers.get((tenant, service), set())
                watchers.discard(event)
                if not watchers:
                    self._watchers.pop((tenant, service), None)

    # ------------------------------------------------------------ for orders

    async def open(
        self,
        repository: Repository,
        identity: str,
        scope: Scope,
        *,
        asked: Mapping[str, Any],
        order: str,
        item: str,
    ) -> Record:
        """Begin a twin for an item of an order, once. Raises OverCapacity, NotFound."""
        try:
            return repository.get(Kind.SERVICE, identity)
        except NotFound:
            body = self._design(repository, identity, scope, asked)
        reference = {"serviceOrderId": order, "itemId": item, "itemAction": "add", "role": "add"}
        try:
            record = await repository.create(Kind.SERVICE, {**body, "serviceOrderItem": [reference]})
        finally:
            self._reserved[repository.tenant].pop(identity, None)
        self.kept(repository, record)
        return record

    async def edit(
        self, repository: Repository, identity: str, change: Callable[[TwinRecord], bool]
    ) -> Record:
        """Change a twin's record; `change` says whether there is anything to keep, and may be called again.

        Raises NotFound, and what `change` raises.
        """
        before = repository.get(Kind.SERVICE, identity)
        record = await self.write(repository, identity, change)
        if record.version != before.version:  # else whoever waits for news would never rest
            self.kept(repository, record)
        return record

    def move(self, twin: TwinRecord, wanted: str) -> None:
        """Take a twin to another state on its partner's behalf. Raises Conflict."""
        now = self.clock()
        rests = wanted in ("inactive", "suspended")  # v4 of TMF638 has one word for both
        if wanted == "terminated" and not twin.terminated:
            twin.terminate("retired by its owner", now)
        elif rests and twin.state == "active":
            twin.suspend(now)
        elif wanted == "active" and twin.suspended:
            twin.resume(now)
        elif not (wanted == twin.state or (rests and twin.suspended)):
            raise Conflict(
                f"service {twin.id} is {twin.state} and cannot become {wanted[:40]!r}; an active twin can be"
                " suspended (inactive) or terminated, and a suspended one made active again"
            )

    # ------------------------------------------------------------ Desk

    async def create(self, repository: Repository, body: Body) -> Body:
        """A twin without an order. Raises ContractError, NotShared, OverCapacity."""
        specification = body.get("serviceSpecification")
        named = specification.get("id") if isinstance(specification, Mapping) else None
        if named != NDT_TWIN:
            raise ContractError(
                f"serviceSpecification.id: {str(named)[:80]!r} cannot be ordered; {NDT_TWIN!r} can"
            )
        self.quotas.check_entitled(repository.tenant, NDT_TWIN, "NdtTwin")
        asked = body.get("serviceCharacteristic")
        scope, problems = read_scope(asked, members=self.members, now=self.clock())
        if problems := [*check_told(body), *problems]:
            raise ContractError("; ".join(problems))
        return self._design(repository, str(uuid4()), scope, body)

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """A partner's patch: another name, or `state` active, inactive or terminated.

        Raises ContractError for what is not the partner's to write, Conflict for a state that cannot follow.
        """
        before = record.body
        for name in sorted(body.keys() | before.keys()):
            if body.get(name) != before.get(name) and name not in _FREE | {"state"}:
                raise ContractError(
                    f"{name}: cannot be changed on a service; send a serviceOrder with action modify"
                )
        if problems := check_told(body):
            raise ContractError("; ".join(problems))
        twin = TwinRecord(record)
        twin.body = {name: value for name, value in twin.body.items() if name not in _FREE}
        twin.body |= {name: body[name] for name in sorted(_FREE) if name in body}
        if body.get("state") != before.get("state"):
            self.move(twin, str(body.get("state")))
        return twin.body

    async def remove(self, repository: Repository, record: Record) -> None:
        """Only what is over, and known to be everywhere, is forgotten. Raises Conflict."""
        twin = TwinRecord(record)
        if not twin.terminated:
            raise Conflict(
                f"service {twin.id} is {twin.state}; retire it first: a serviceOrder with action delete, or"
                " state terminated"
            )
        if twin.leaving:
            raise Conflict(
                f"service {twin.id}: {', '.join(twin.leaving)} were not told yet that it is over; try later"
            )

    def kept(self, repository: Repository, record: Record) -> None:
        """Begin or go on with what a twin needs."""
        key = (repository.tenant, record.id)
        self._reserved.get(repository.tenant, {}).pop(record.id, None)
        keeper = self._keepers.get(key)
        if "supportingService" not in record.body:
            return  # no twin: nothing of it can be kept up to date
        if keeper is not None:
            keeper.poke.set()
        elif (twin := TwinRecord(record)).leaving or not twin.terminated:
            keeper = self._keepers[key] = Keeper(repository, record.id, asking=self._asking, owner=self)
            self._begin.put_nowait(keeper)
        self._tell(key)

    def not_kept(self, repository: Repository, body: Body) -> None:
        """Its place in the quota is free."""
        self._reserved.get(repository.tenant, {}).pop(str(body.get("id", "")), None)

    async def run(self) -> None:
        """Keep all twins until cancelled."""
        while not self._begin.empty():
            self._begin.get_nowait()
        async with asyncio.TaskGroup() as tasks:
            for keeper in list(self._keepers.values()):
                tasks.create_task(self._keep(keeper))
            while True:
                tasks.create_task(self._keep(await self._begin.get()))

    async def _keep(self, keeper: Keeper) -> None:
        tenant = keeper.repository.tenant
        while True:
            try:
                await keeper.run()
            except TwinError as error:  # the disk, for one
                log.warning("a twin waits", extra={"service": keeper.id, "reason": str(error)})
            except Exception:
                log.exception("a twin failed", extra={"tenant": tenant, "service": keeper.id})
            else:
                break
            await asyncio.sleep(self.timing.retry_s)
        self._keepers.pop((tenant, keeper.id), None)

    # ------------------------------------------------------------ Owner

    async def write(
        self, repository: Repository, identity: str, change: Callable[[TwinRecord], bool]
    ) -> Record:
        """Change a record however often others do so at the same time. Raises NotFound, Unreachable."""
        for _ in range(_TRIES):
            record = repository.get(Kind.SERVICE, identity)
            twin = TwinRecord(record)
            if not change(twin):
                return record
            try:
                record = await repository.update(record, twin.body)
            except StaleVersion:
                continue
            self._tell((repository.tenant, identity))
            return record
        raise Unreachable(f"service {identity} changes faster than it can be written; it is tried again")

    def show(self, repository: Repository, service: str, found: Mapping[str, Body]) -> None:
        """What is inside a twin now."""
        shown = self._resources.setdefault(repository.tenant, {})
        if found:
            shown[service] = found
        else:
            shown.pop(service, None)
        repository.show(Kind.RESOURCE, {name: body for one in shown.values() for name, body in one.items()})

    def _tell(self, key: tuple[str, str]) -> None:
        for event in self._watchers.get(key, ()):
            event.set()

    def _design(
        self, repository: Repository, identity: str, scope: Scope, asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A new twin's record, with a place in the quota until it is kept. Raises OverCapacity, NotFound."""
        tenant = repository.tenant
        self.quotas.check_twins(tenant, self.held_by(repository))
        now = time.monotonic()
        reserved = {name: until for name, until in self._reserved.get(tenant, {}).items() if until > now}
        self._reserved[tenant] = {**reserved, identity: now + _RESERVED_S}
        return new_twin(
            identity,
            scope,
            tenant=tenant,
            specification=twin_specification(repository),
            asked=asked,
            quota=self.quotas.of(tenant).twins,
            now=self.clock(),
        )
