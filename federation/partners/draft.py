"""What the writes of one transaction come to, planned in memory: versions, keys, limits, sequences, events.

A write is planned on what is kept and on what the writes before it in the same transaction do, so that each
is refused or taken as if it were alone. Nothing counts until the transaction is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast
from uuid import uuid4

from domain_twin.errors import Conflict, ContractError, NotFound, OverCapacity, StaleVersion
from domain_twin.model import Nanoseconds
from federation.partners.outbox import OutboxRow, event_type
from federation.partners.record import PUBLIC, Body, Kind, Made, Record

__all__ = [
    "EXTERNAL_ID",
    "IDEMPOTENCY_KEY",
    "UNCOUNTED",
    "Change",
    "Create",
    "Draft",
    "Kept",
    "KeyName",
    "KeyRow",
    "Note",
    "Remove",
    "Told",
    "Update",
    "Write",
    "decode",
    "digest",
    "encode",
    "missing",
]

MAX_BODY_BYTES = 16 << 20
MAX_NAME = 255
IDEMPOTENCY_KEY = "key"
EXTERNAL_ID = "externalId"
UNCOUNTED = frozenset({Kind.USE})
"""Kinds that the operator keeps about a tenant: no part of what the tenant may have."""
_SHORT = 64

Told = Callable[[Record], None]
"""Whom to tell once a record is on disk, also where whoever asked has gone meanwhile. Does not raise."""

KeyName = tuple[str, Kind, str, str]
"""Tenant, kind, scheme and the key itself."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it is kept; `created` is the sequence of its first version."""

    record: Record
    created: int
    shown: bool = False
    """Made from something else: in memory only."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """Which record a partner's key made, and of what."""

    id: str
    digest: str
    at: Nanoseconds


@dataclass(frozen=True, slots=True)
class Change:
    """One record before and after; `told` is what followers get."""

    before: Kept | None
    after: Kept | None
    told: Record


class Write(Protocol):
    """Something that waits to be written."""

    done: asyncio.Future[Made]

    def plan(self, draft: Draft) -> Made:
        """Put what is to happen into the draft. Raises TwinError, and then the draft is as it was."""


@dataclass(slots=True)
class Draft:
    """The changes of one transaction, over what is kept."""

    kept: Mapping[tuple[str, Kind], Mapping[str, Kept]]
    known_keys: Mapping[KeyName, KeyRow]
    counts: Mapping[str, int]
    limits: Mapping[str, int]
    sequence: int
    """The last one that was given away."""
    now: Nanoseconds
    changes: list[Change] = field(default_factory=list)
    events: list[OutboxRow] = field(default_factory=list)
    keys: dict[KeyName, KeyRow | None] = field(default_factory=dict)
    over: dict[tuple[str, Kind, str], Kept | None] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)
    told: list[tuple[Told, Record]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.events or self.keys)

    def next(self) -> int:
        """A sequence that nothing else has."""
        self.sequence += 1
        return self.sequence

    def find(self, tenant: str, kind: Kind, identity: str) -> Kept | None:
        """A record as it is when all before is done."""
        name = (tenant, kind, identity)
        if name in self.over:
            return self.over[name]
        return self.kept.get((tenant, kind), {}).get(identity)

    def key(self, name: KeyName) -> KeyRow | None:
        """What is known of a key when all before is done."""
        return self.keys[name] if name in self.keys else self.known_keys.get(name)

    def put(self, before: Kept | None, record: Record, *, shown: bool = False) -> Record:
        """A record's new version; returns it with its sequence."""
        record = replace(record, sequence=self.next(), changed_at=self.now)
        if shown:
            record = replace(record, version=record.sequence)
        created = before.created if before else record.sequence
        self._change(before, Kept(record, created, shown), record)
        return record

    def drop(self, before: Kept) -> Record:
        """A record is gone; returns how followers are told."""
        told = replace(before.record, sequence=self.next(), changed_at=self.now, body={})
        self._change(before, None, told)
        return told

    def _change(self, before: Kept | None, after: Kept | None, told: Record) -> None:
        self.changes.append(Change(before, after, told))
        self.over[told.tenant, told.kind, told.id] = after
        if not (before or after or _NOTHING).shown and told.kind not in UNCOUNTED:
            more = (after is not None) - (before is not None)
            self.more[told.tenant] = self.more.get(told.tenant, 0) + more

    def event(self, told: Record, before: Body, after: Body, *, sequence: int = 0) -> None:
        """Put the event of a change into the outbox; `sequence` 0: the change's own."""
        name = event_type(told.kind, before, after)
        if name:
            body = after or before
            row = OutboxRow(sequence or told.sequence, told.tenant, told.kind, told.id, name, self.now, body)
            self.events.append(row)

    def check_room(self, tenant: str, kind: Kind) -> None:
        """Raises OverCapacity where a tenant has as many records as it may."""
        limit = self.limits.get(tenant)
        if limit is None or kind in UNCOUNTED:
            return
        if self.counts.get(tenant, 0) + self.more.get(tenant, 0) >= limit:
            raise OverCapacity(
                f"{limit} records are kept for you, which is all you may have: delete some, or ask the"
                " operator for more"
            )

    def show(self, tenant: str, kind: Kind, bodies: Mapping[str, Body]) -> None:
        """Make `bodies` all that is shown of a kind."""
        held = self.kept.get((tenant, kind), {})
        for identity, kept in held.items():
            if kept.shown and identity not in bodies:
                self.drop(kept)
        for identity, body in bodies.items():
            before = held.get(identity)
            if before and (not before.shown or before.record.body == body):
                continue
            named = {**body, "id": identity}
            copied = decode(encode(kind, named))
            if before and before.record.body == copied:
                continue
            self.put(before, Record(tenant, kind, _checked(kind, copied), 0, 0, copied, 0), shown=True)


class _Waiting:
    """The part of a write that waits."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Made] = asyncio.get_running_loop().create_future()


class Create(_Waiting):
    """Keep a new record."""

    def __init__(
        self,
        tenant: str,
        kind: Kind,
        body: Body,
        *,
        keys: Mapping[str, str],
        digest: str,
        told: Told | None = None,
    ) -> None:
        """`keys`: by scheme; the first one decides whether this was asked before. `digest` is of the ask."""
        super().__init__()
        self._told = told
        named = body if "id" in body else {"id": str(uuid4()), **body}
        self._body = decode(encode(kind, named))
        self._id = _checked(kind, self._body)
        self._tenant, self._kind, self._digest = tenant, kind, digest
        self._keys: dict[KeyName, str] = {
            (tenant, kind, scheme, _key(scheme, key)): key for scheme, key in keys.items() if key
        }

    def plan(self, draft: Draft) -> Made:
        """Raises Conflict, OverCapacity."""
        for name in self._keys:
            if made := repeated(draft, name, self._digest):
                return made
            break
        tenant, kind, identity = self._tenant, self._kind, self._id
        if draft.find(tenant, kind, identity) or draft.find(PUBLIC, kind, identity):
            raise Conflict(
                f"{kind} {identity[:_SHORT]!r} exists already; leave the id out, or change that one"
            )
        draft.check_room(tenant, kind)
        record = draft.put(None, Record(tenant, kind, identity, 1, 0, self._body, 0))
        draft.event(record, {}, self._body)
        for name in self._keys:
            if draft.key(name) is None:
                draft.keys[name] = KeyRow(identity, self._digest, draft.now)
        if self._told:
            draft.told.append((self._told, record))
        return Made(record)


class Update(_Waiting):
    """Replace the body of a record, if it is still the version that was read."""

    def __init__(self, record: Record, body: Body, *, told: Told | None = None) -> None:
        super().__init__()
        self._record = record
        self._told = told
        self._body = decode(encode(record.kind, body))
        if self._body.get("id") != record.id:
            raise ContractError(f"{record.kind} {record.id!r}: its id cannot change")

    def plan(self, draft: Draft) -> Made:
        """Raises StaleVersion, NotFound, Conflict."""
        before = current(draft, self._record)
        if before.record.body == self._body:
            return Made(before.record)
        version = before.record.version + 1
        record = draft.put(before, replace(before.record, version=version, body=self._body))
        draft.event(record, before.record.body, self._body)
        if self._told:
            draft.told.append((self._told, record))
        return Made(record)


class Remove(_Waiting):
    """Forget a record, if it is still the version that was read."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record

    def plan(self, draft: Draft) -> Made:
        """Raises StaleVersion, NotFound, Conflict."""
        before = current(draft, self._record)
        told = draft.drop(before)
        draft.event(told, before.record.body, {})
        external = before.record.body.get(EXTERNAL_ID)
        name = (told.tenant, told.kind, EXTERNAL_ID, external)
        row = draft.key(cast(KeyName, name)) if isinstance(external, str) else None
        if row and row.id == told.id:  # the name is free again
            draft.keys[cast(KeyName, name)] = None
        return Made(told)


class Note(_Waiting):
    """Write the event of a shown record's change; the record itself is not written."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self._change = change

    def plan(self, draft: Draft) -> Made:
        """Never refused."""
        told, before, after = self._change.told, self._change.before, self._change.after
        # A sequence of its own: events are read in the order in which they are written.
        draft.event(
            told,
            before.record.body if before else {},
            after.record.body if after else {},
            sequence=draft.next(),
        )
        return Made(told)


def repeated(draft: Draft, name: KeyName, digest: str) -> Made | None:
    """What was made under a key before; None: nothing. Raises Conflict where it stands for something else."""
    row = draft.key(name)
    if row is None:
        return None
    tenant, kind, scheme, key = name
    what = "Idempotency-Key" if scheme == IDEMPOTENCY_KEY else scheme
    if digest and row.digest and digest != row.digest:
        raise Conflict(
            f"{what} {key[:_SHORT]!r} was used for another {kind}; use a new one for what is new, or send"
            " exactly what was sent before"
        )
    kept = draft.find(tenant, kind, row.id)
    if kept is None:
        raise Conflict(f"{what} {key[:_SHORT]!r} was used for a {kind} that is deleted; use a new one")
    return Made(kept.record, repeated=True)


def current(draft: Draft, record: Record) -> Kept:
    """What is kept of a record that was read. Raises NotFound, StaleVersion, Conflict."""
    kept = draft.find(record.tenant, record.kind, record.id)
    if kept is None:
        raise missing(record.kind, record.id)
    if kept.shown:
        raise Conflict(f"{record.kind} {record.id!r} shows the network as it is and cannot be changed here")
    if kept.record.version != record.version:
        raise StaleVersion(
            f"{record.kind} {record.id!r} has version {kept.record.version} and not {record.version}: it"
            " changed meanwhile; read it again"
        )
    return kept


def missing(kind: Kind, identity: str) -> NotFound:
    """One sentence for what does not exist and for what is somebody else's."""
    return NotFound(f"no {kind} {identity[:_SHORT]!r} is kept for you")


def encode(kind: Kind, body: Body) -> str:
    """A body as JSON. Raises ContractError for what JSON or its limits cannot hold."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{kind}: not a JSON object ({error})") from None
    if size > MAX_BODY_BYTES:
        raise ContractError(f"{kind}: {size} bytes, {MAX_BODY_BYTES} at most")
    return text


def decode(text: str) -> dict[str, Any]:
    """A body that `encode` wrote."""
    return cast("dict[str, Any]", json.loads(text))


def digest(body: Body) -> str:
    """Says whether two bodies are equal, whatever the order of their members."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(kind: Kind, body: Body) -> str:
    identity = body.get("id")
    if (
        not isinstance(identity, str)
        or not identity
        or len(identity) > MAX_NAME
        or not identity.isprintable()
    ):
        raise ContractError(f"{kind}: id has to be a printable string of 1 to {MAX_NAME} characters")
    return identity


def _key(scheme: str, key: str) -> str:
    if len(key) > MAX_NAME or not key.isprintable():
        what = "Idempotency-Key" if scheme == IDEMPOTENCY_KEY else scheme
        raise ContractError(f"{what}: a printable string of at most {MAX_NAME} characters")
    return key


_NOTHING = Kept(Record("", Kind.USE, "", 0, 0, {}, 0), 0)
