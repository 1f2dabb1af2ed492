"""What partners ask for, taken in: keys first, then the desk's word, then the disk, then what follows.

Knows no kind by name: a kind with a desk is decided there, the others are stored as they come. A desk is
asked again where a record changed under a patch that named no version, so its word has to have no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from domain_twin.errors import Conflict, ContractError, NotShared, StaleVersion
from domain_twin.model import Nanoseconds
from federation.partners.documents import merge
from federation.partners.draft import digest
from federation.partners.record import PUBLIC, Body, Desk, Kind, Made, Record, Reserving
from federation.partners.repository import TenantRecords
from federation.partners.store import RecordStore

__all__ = ["Partners"]

log = logging.getLogger(__name__)

_TRIES = 32
_AGAIN_S = 1.0
_KEPT_BY_THE_BROKER = frozenset({Kind.USE, Kind.SIGNING_KEY})
_DATED = frozenset(
    {
        Kind.SERVICE_CATALOG,
        Kind.SERVICE_CATEGORY,
        Kind.SERVICE_CANDIDATE,
        Kind.SERVICE_SPECIFICATION,
        Kind.SERVICE_TEST_SPECIFICATION,
    }
)  # TMF633 and TMF653 date them with `lastUpdate`

_STAMPED = frozenset({"lastUpdate", "creationDate"})
"""Set by the api when it sends a body: two sends of one ask differ in them."""


@dataclass(frozen=True, slots=True)
class Partners:
    """Takes in what partners ask for. `begin` once, then `run` for good."""

    store: RecordStore
    desks: Mapping[Kind, Desk]
    clock: Callable[[], Nanoseconds] = time.time_ns

    def begin(self) -> None:
        """Show every desk what is kept for it; nobody may ask before."""
        for kind, desk in self.desks.items():
            for tenant in (PUBLIC, *sorted(self.store.tenants)):
                repository = self.store.of(tenant)
                for record in reversed(repository.list(kind)):
                    if record.tenant == tenant:
                        _tell(desk, repository, record)

    async def run(self) -> None:
        """Keep the store in order and the desks at work, until cancelled. A desk that fails begins again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.store.run())
            for desk in {id(desk): desk for desk in self.desks.values()}.values():
                group.create_task(_forever(desk))

    async def create(self, tenant: str, kind: Kind, body: Body, *, key: str = "") -> Made:
        """Keep what a partner sent, once for each of its keys. Raises TwinError."""
        repository = self._repository(tenant, kind)
        sent = digest({name: value for name, value in body.items() if name not in _STAMPED})
        if made := repository.made(kind, body, key=key, digest=sent):
            return made
        desk = self.desks.get(kind)
        kept = await desk.create(repository, body) if desk else self._dated(kind, body)
        told = partial(_tell, desk, repository) if desk else None
        held = True
        try:
            made = await repository.create_once(kind, kept, key=key, digest=sent, told=told)
            held = made.repeated
            return made
        except asyncio.CancelledError:
            held = False  # it may be kept yet
            raise
        finally:
            if held and isinstance(desk, Reserving):
                desk.not_kept(repository, kept)

    async def change(
        self, tenant: str, kind: Kind, identity: str, patch: Body, *, if_version: int = 0
    ) -> Record:
        """Merge a patch (RFC 7396) into a record. Raises TwinError; StaleVersion at another `if_version`."""
        repository = self._repository(tenant, kind)
        desk = self.desks.get(kind)
        for _ in range(_TRIES):
            record = self._read(repository, kind, identity, if_version)
            body: Body = merge(record.body, patch)
            if body.get("id") != record.id:
                raise ContractError(f"{kind} {record.id!r}: its id cannot change")
            if body == record.body and not repository.is_shown(record):
                return record
            if desk:
                body = await desk.change(repository, record, body)
            elif repository.is_shown(record):
                raise Conflict(f"{kind} {record.id!r} shows the network as it is and cannot be changed here")
            else:
                body = self._dated(kind, body)
            if repository.is_shown(record):  # the desk has done what there is to do
                return repository.get(kind, identity)
            try:
                told = partial(_tell, desk, repository) if desk else None
                return await repository.update(record, body, told=told)
            except StaleVersion:
                continue  # where a version was named, reading it again says so
        raise Conflict(f"{kind} {identity!r} changes faster than it can be patched; try again")

    async def remove(self, tenant: str, kind: Kind, identity: str, *, if_version: int = 0) -> int:
        """Forget a record; the sequence of that. Raises TwinError."""
        repository = self._repository(tenant, kind)
        for _ in range(_TRIES):
            record = self._read(repository, kind, identity, if_version)
            if desk := self.desks.get(kind):
                await desk.remove(repository, record)
            with contextlib.suppress(StaleVersion):
                return await repository.remove(record)
        raise Conflict(f"{kind} {identity!r} changes faster than it can be deleted; try again")

    def _repository(self, tenant: str, kind: Kind) -> TenantRecords:
        if tenant == PUBLIC:
            raise NotShared("public records are the broker's own; name the partner that this is for")
        if kind in _KEPT_BY_THE_BROKER:
            raise NotShared(f"{kind} is kept by the broker alone")
        return self.store.of(tenant)

    @staticmethod
    def _read(repository: TenantRecords, kind: Kind, identity: str, if_version: int) -> Record:
        record = repository.get(kind, identity)
        repository.check_own(record)
        if if_version not in (0, record.version):
            raise StaleVersion(
                f"{kind} {identity!r} has version {record.version} and not {if_version}: it changed"
                " meanwhile; read it again"
            )
        return record

    def _dated(self, kind: Kind, body: Body) -> Body:
        if kind not in _DATED:
            return body
        now = datetime.fromtimestamp(self.clock() / 1e9, UTC)
        return {**body, "lastUpdate": now.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _tell(desk: Desk, repository: TenantRecords, record: Record) -> None:
    """It is on disk whatever the desk makes of it."""
    try:
        desk.kept(repository, record)
    except Exception:
        log.exception("a desk failed on what was kept", extra={"kind": record.kind, "id": record.id})


async def _forever(desk: Desk) -> None:
    while True:
        try:
            await desk.run()
        except Exception:
            log.exception("a desk failed", extra={"desk": type(desk).__name__})
        await asyncio.sleep(_AGAIN_S)
