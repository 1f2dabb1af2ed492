"""The records of one tenant, as `Repository` promises them: bound when it is made, with no way across.

Own records come first; the public ones are seen by everybody and written only through the public repository.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from domain_twin.errors import NotShared
from federation.partners.draft import (
    EXTERNAL_ID,
    IDEMPOTENCY_KEY,
    Create,
    Kept,
    Remove,
    Told,
    Update,
    missing,
    repeated,
)
from federation.partners.record import PUBLIC, Body, Kind, Made, Record

if TYPE_CHECKING:
    from federation.partners.store import RecordStore

__all__ = ["TenantRecords"]

_DEDUPLICATED = frozenset({Kind.SERVICE_ORDER})


class TenantRecords:
    """A `Repository`, and what the service needs beside it. Made by `RecordStore.of`."""

    def __init__(self, store: RecordStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    @property
    def tenant(self) -> str:
        """Whose records these are."""
        return self._tenant

    def get(self, kind: Kind, identity: str) -> Record:
        """Raises NotFound: a foreign record answers exactly as one that does not exist."""
        for tenant in (self._tenant, PUBLIC):
            kept = self._store.kept.get((tenant, kind), {}).get(identity)
            if kept is not None:
                return kept.record
        raise missing(kind, identity)

    def list(self, kind: Kind) -> Sequence[Record]:
        """All of a kind, newest first."""
        own = self._newest_first(self._tenant, kind)
        public = self._newest_first(PUBLIC, kind) if self._tenant != PUBLIC else ()
        if not public:
            return [kept.record for kept in own]
        merged = heapq.merge(own, public, key=lambda kept: -kept.created)
        return [kept.record for kept in merged]

    async def create(self, kind: Kind, body: Body, *, key: str = "") -> Record:
        """Keep a new record; an `id` is made where the body has none. Raises Conflict, OverCapacity.

        With a `key` that was used before, what was made then is returned and nothing is kept.
        """
        return (await self.create_once(kind, body, key=key)).record

    async def create_once(
        self, kind: Kind, body: Body, *, key: str = "", digest: str = "", told: Told | None = None
    ) -> Made:
        """As `create`, and says whether the key was known; `digest` is of what the partner sent.

        `told` is called when it is on disk, whatever has become of the caller by then.
        """
        write = Create(self._tenant, kind, body, keys=_keys(kind, body, key), digest=digest, told=told)
        await self._store.write(write)
        return write.done.result()

    def made(self, kind: Kind, body: Body, *, key: str, digest: str) -> Made | None:
        """What was made for the same ask before. Raises Conflict where the key stands for another one."""
        for scheme, word in _keys(kind, body, key).items():
            return repeated(self._store.draft(), (self._tenant, kind, scheme, word), digest)
        return None

    async def update(self, record: Record, body: Body, *, told: Told | None = None) -> Record:
        """Replace a record's body. Raises StaleVersion where it changed since `record` was read, NotFound.

        A body that is as before changes nothing, not even the version. `told`: as in `create_once`.
        """
        self.check_own(record)
        write = Update(record, body, told=told)
        await self._store.write(write)
        return write.done.result().record

    async def remove(self, record: Record) -> int:
        """Forget a record; the sequence of that change. Raises StaleVersion, NotFound."""
        self.check_own(record)
        write = Remove(record)
        await self._store.write(write)
        return write.done.result().record.sequence

    def show(self, kind: Kind, bodies: Mapping[str, Body]) -> None:
        """Replace all of a kind that is made from something else (resources): by id, never on disk."""
        self._store.show(self._tenant, kind, bodies)

    def is_shown(self, record: Record) -> bool:
        """Whether a record is made from something else, in memory only."""
        kept = self._store.kept.get((record.tenant, record.kind), {}).get(record.id)
        return kept is not None and kept.shown

    def check_own(self, record: Record) -> None:
        """Raises NotShared for a public record, NotFound for a foreign one."""
        if record.tenant == self._tenant:
            return
        if record.tenant == PUBLIC:
            raise NotShared(
                f"{record.kind} {record.id!r} is published by the operator: you may read it and not change it"
            )
        raise missing(record.kind, record.id)

    def _newest_first(self, tenant: str, kind: Kind) -> Sequence[Kept]:
        return list(reversed(self._store.kept.get((tenant, kind), {}).values()))


def _keys(kind: Kind, body: Body, key: str) -> dict[str, str]:
    """What a partner calls what it asks for, by scheme; the first decides whether it asked before."""
    keys = {IDEMPOTENCY_KEY: key} if key else {}
    external = body.get(EXTERNAL_ID)
    if kind in _DEDUPLICATED and isinstance(external, str) and external:
        keys[EXTERNAL_ID] = external
    return keys
