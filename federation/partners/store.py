"""All records of all partners: on disk with their events before anybody is told, in memory to be read.

Reading never touches the database. Writes that wait together share one transaction, which holds each change,
its event and its idempotency key. One process writes: versions are checked in memory, in the order in which
the writes came. `repository` binds a tenant; nothing here reads across tenants but `follow`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import sqlalchemy as sa

from domain_twin.errors import ConfigError, ContractError, NotFound, TwinError, Unreachable
from domain_twin.model import Nanoseconds
from federation.partners import schema
from federation.partners.database import Database
from federation.partners.draft import (
    IDEMPOTENCY_KEY,
    UNCOUNTED,
    Draft,
    Kept,
    KeyName,
    KeyRow,
    Note,
    Write,
    decode,
    encode,
)
from federation.partners.following import Changes
from federation.partners.outbox import OutboxRow
from federation.partners.record import PUBLIC, Body, Kind, Made, News, Record
from federation.partners.repository import TenantRecords

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RecordStore"]

log = logging.getLogger(__name__)

MAX_BATCH = 512
KEYS_KEPT_S = 2 * 86_400.0
EVENTS_KEPT_S = 7 * 86_400.0
PRUNE_S = 3600.0
RECOVER_S = 1.0
_RUN_BITS = 36
"""Sequences of a run of the process begin at a multiple of 2^36: no later run repeats one, not even one of a
record that is never written."""

_APIS = {Kind.RESOURCE: "resourceInventoryManagement", Kind.ALARM: "alarmManagement"}

_TOUCH = sa.update(schema.store).values(opened=schema.store.c.opened)

T = TypeVar("T")


class RecordStore:
    """The durable store. Made by `open`; `run` keeps it in order; `close` ends it."""

    def __init__(
        self,
        database: Database,
        tenants: Iterable[str],
        limits: Mapping[str, int],
        clock: Callable[[], Nanoseconds],
    ) -> None:
        self._database = database
        self.tenants = frozenset(tenants)
        """Whose records are kept; the public ones are beside them."""
        self.limits = dict(limits)
        self._clock = clock
        self.kept: dict[tuple[str, Kind], dict[str, Kept]] = {}
        """By tenant and kind, then by id; oldest first."""
        self.keys: dict[KeyName, KeyRow] = {}
        self.counts: dict[str, int] = {}
        """Records of each tenant that count towards its limit."""
        self._shown: set[tuple[str, Kind]] = set()
        self._sequence = 0
        self._opened = 0
        self._written = 0
        self._waiting: list[Write] = []
        self._writer: asyncio.Task[None] | None = None
        self._in_flight = False
        self._held: list[Record] = []  # changes of shown records that came during a transaction
        self._unknown: Draft | None = None  # a transaction whose end is not known
        self._pruned_at = time.monotonic()
        self._closed = False
        self.problem = ""
        """Why nothing can be written at present, in words; empty when all is well."""
        self.on_problem: Callable[[str], None] = lambda _: None
        """Told when `problem` changes."""
        self.on_events: Callable[[], None] = lambda: None
        """Called when new rows are in the outbox."""
        self._changes = Changes("", 0, list)

    @classmethod
    async def open(
        cls,
        state: Path,
        database: str = "",
        tenants: Iterable[str] = (),
        *,
        limits: Mapping[str, int] | None = None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> RecordStore:
        """The store in the database at `database` (empty: SQLite in the folder `state`).

        `limits`: how many records a tenant may have; who is not in it has no limit.
        Raises ConfigError where another process holds it or its schema is newer, Unreachable, OverCapacity.
        """
        opened = await Database.open(state, database)
        store = cls(opened, tenants, limits or {}, clock)
        try:
            await opened.call(store._load)
        except BaseException:
            await opened.close()
            raise
        opened.on_connected = store._check_alone
        # Another one each time, also where a backup was restored and counts what was counted before.
        store._changes = Changes(uuid4().hex, store._sequence, store._all, clock, store.tenants)
        return store

    @property
    def epoch(self) -> str:
        """What sequences count in: this run of the store's process."""
        return self._changes.epoch

    @property
    def sequence(self) -> int:
        """Of the last change that followers were told."""
        return self._changes.sequence

    @property
    def followers(self) -> int:
        """How many follow now."""
        return self._changes.followers

    def of(self, tenant: str) -> TenantRecords:
        """The records of one tenant, or the public ones. Raises NotFound for a tenant that is not served."""
        if tenant != PUBLIC and tenant not in self.tenants:
            raise NotFound(
                f"no partner {tenant!r} is served here; have the broker's operator add [[partner]] with"
                f' id = "{tenant}"'
            )
        return TenantRecords(self, tenant)

    def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        """All records of all tenants, then every change, and a heartbeat each second.

        With `after` and `epoch` as they were sent last, only what came since, as far as that is known. A
        follower that is too slow is told to begin anew.
        """
        return self._changes.follow(after, epoch)

    async def execute(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` on the tables of outbox and deliveries, in one transaction. Raises Unreachable."""
        return await self._database.call(work)

    async def events(self, after: int, *, limit: int) -> list[OutboxRow]:
        """At most `limit` events after a sequence, oldest first. Raises Unreachable."""
        table = schema.outbox
        query = sa.select(table).where(table.c.sequence > after).order_by(table.c.sequence).limit(limit)
        rows = await self._database.call(lambda connection: connection.execute(query).all())
        return [
            OutboxRow(
                row.sequence, row.tenant, Kind(row.kind), row.id, row.event_type, row.at, decode(row.body)
            )
            for row in rows
        ]

    async def run(self) -> None:
        """Find out how a broken transaction ended, and forget what is old, until cancelled."""
        while True:
            await asyncio.sleep(RECOVER_S)
            if self.problem and await self._settle():
                await self._probe()
            if time.monotonic() - self._pruned_at > PRUNE_S:
                self._pruned_at = time.monotonic()
                await self._prune()

    def end_following(self) -> None:
        """End all following: the process is about to stop."""
        self._changes.close()

    async def close(self) -> None:
        """Write what waits and let go of the database. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._writer:
            await self._writer
        self.end_following()
        await self._database.close()

    # ------------------------------------------------------------ for repositories

    async def write(self, write: Write) -> None:
        """Have `write` planned and made durable; raises what it is refused with."""
        if self._closed:
            raise Unreachable("the store of partners' records is closed: the broker is stopping")
        self._submit([write])
        await write.done

    def show(self, tenant: str, kind: Kind, bodies: Mapping[str, Body]) -> None:
        """Replace what is shown of a kind; only real differences are changes.

        Events are written for them where the tenant has a hub of that API, but for the first time in a run
        of the process: what was shown before a restart is not news after it.
        """
        draft = self.draft()
        draft.show(tenant, kind, bodies)
        self._sequence = draft.sequence
        self._apply(draft)
        changes = [change.told for change in draft.changes]
        if self._in_flight:
            self._held += changes
        else:
            self._changes.publish(changes)
        first = (tenant, kind) not in self._shown
        self._shown.add((tenant, kind))
        if not first and not self._closed and self._has_hub(tenant, kind):
            self._submit([Note(change) for change in draft.changes])

    def draft(self) -> Draft:
        """An empty draft over what is kept now."""
        return Draft(
            self.kept,
            self.keys,
            self.counts,
            limits=self.limits,
            sequence=self._sequence,
            now=self._clock(),
        )

    # ------------------------------------------------------------ writing

    def _submit(self, writes: Iterable[Write]) -> None:
        self._waiting += writes
        if self._waiting and (self._writer is None or self._writer.done()):
            self._writer = asyncio.get_running_loop().create_task(self._write_waiting())

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            self._in_flight = True
            try:
                await self._write_batch(batch)
            except Exception as error:  # a defect here must not leave anybody waiting
                log.exception("writing partners' records failed")
                _fail(batch, error)
            finally:
                self._in_flight = False
                held, self._held = self._held, []
                self._changes.publish(held)

    async def _write_batch(self, batch: Sequence[Write]) -> None:
        if self._unknown and not await self._settle():
            _fail(batch, Unreachable(self.problem))
            return
        draft = self.draft()
        planned: list[tuple[Write, Made]] = []
        refused: list[tuple[Write, TwinError]] = []  # by what others in this transaction do, too
        for write in batch:
            if write.done.done():  # who asked has gone
                continue
            try:
                planned.append((write, write.plan(draft)))
            except TwinError as error:
                refused.append((write, error))
        if draft:
            draft.next()  # the mark of this transaction: what is not below it was not written
            self._sequence = draft.sequence
            try:
                await self._commit(draft)
            except ContractError as error:
                if len(batch) == 1:
                    _fail(batch, error)
                else:  # one of them is what the database refuses: the others are not to blame
                    for write in batch:
                        await self._write_batch([write])
                return
            except TwinError as error:
                _fail(batch, error)
                return
        for write, reason in refused:
            _fail([write], reason)
        for write, made in planned:
            if not write.done.done():
                write.done.set_result(made)

    async def _commit(self, draft: Draft) -> None:
        """Have a draft on disk and take it. Raises TwinError where it is not, or that cannot be known."""
        for again in (True, False):
            try:
                await self._database.call(lambda connection: _insert(connection, draft))
            except ContractError:
                raise  # rolled back, and the database is well
            except TwinError as error:
                self._note(str(error))
                self._unknown = draft
                settled = await self._settle()
                if settled and self._written >= draft.sequence:
                    return
                if not (again and settled and isinstance(error, Unreachable)):
                    raise
            else:
                self._take(draft)
                self._note("")
                return

    async def _settle(self) -> bool:
        """Find out whether the last transaction was written; False: that cannot be known yet."""
        table = schema.store
        try:
            written = await self._database.call(lambda c: c.execute(sa.select(table.c.sequence)).scalar_one())
        except TwinError as error:
            self._note(str(error))
            return False
        unknown, self._unknown = self._unknown, None
        if unknown and written >= unknown.sequence:
            self._take(unknown)
            self._note("")
        return True

    def _take(self, draft: Draft) -> None:
        """What is on disk counts from now on."""
        self._written = draft.sequence
        self._apply(draft)
        self._changes.publish([change.told for change in draft.changes])
        if draft.events:
            self.on_events()
        for tell, record in draft.told:
            tell(record)

    def _apply(self, draft: Draft) -> None:
        for change in draft.changes:
            records = self.kept.setdefault((change.told.tenant, change.told.kind), {})
            if change.after:
                records[change.told.id] = change.after
            else:
                records.pop(change.told.id, None)
        for name, row in draft.keys.items():
            if row:
                self.keys[name] = row
            else:
                self.keys.pop(name, None)
        for tenant, more in draft.more.items():
            self.counts[tenant] = self.counts.get(tenant, 0) + more

    def _note(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            log.error("partners' records cannot be written", extra={"reason": problem})
        else:
            log.info("partners' records are written again")
        self.on_problem(problem)

    async def _probe(self) -> None:
        """Whether the database takes anything: the problem ends with the first thing it does."""
        with contextlib.suppress(TwinError):
            await self._database.call(lambda connection: connection.execute(_TOUCH))
            self._note("")

    def _has_hub(self, tenant: str, kind: Kind) -> bool:
        hubs = self.kept.get((tenant, Kind.HUB), {})
        return any(kept.record.body.get("api") == _APIS.get(kind) for kept in hubs.values())

    def _all(self) -> list[Record]:
        return [kept.record for records in self.kept.values() for kept in records.values()]

    async def _prune(self) -> None:
        now = self._clock()
        keys_before = now - int(KEYS_KEPT_S * 1e9)
        events_before = now - int(EVENTS_KEPT_S * 1e9)
        try:
            await self._database.call(lambda connection: _forget(connection, keys_before, events_before))
        except TwinError as error:
            log.warning("old events and keys are not deleted", extra={"reason": str(error)})
            return
        for name in [n for n, row in self.keys.items() if _is_old(n, row, keys_before)]:
            del self.keys[name]

    # ------------------------------------------------------------ in the database's thread

    def _load(self, connection: sa.Connection) -> None:
        table = schema.store
        row = connection.execute(sa.select(table)).one_or_none()
        if row is None:
            opened, written = 1, 0
            connection.execute(sa.insert(table).values(row=1, id=uuid4().hex, opened=1, sequence=0))
        else:
            opened, written = row.opened + 1, row.sequence
            connection.execute(sa.update(table).values(opened=opened))
        self._opened, self._written = opened, written
        self._sequence = max(opened << _RUN_BITS, written)
        served = (*self.tenants, PUBLIC)
        for row in connection.execute(sa.select(schema.record).order_by(schema.record.c.created)):
            if row.tenant not in served:
                continue
            kind = Kind(row.kind)
            body = decode(row.body)
            record = Record(row.tenant, kind, row.id, row.version, row.sequence, body, row.changed_at)
            self.kept.setdefault((row.tenant, kind), {})[row.id] = Kept(record, row.created)
            if kind not in UNCOUNTED:
                self.counts[row.tenant] = self.counts.get(row.tenant, 0) + 1
        for row in connection.execute(sa.select(schema.key)):
            name = (row.tenant, Kind(row.kind), row.scheme, row.key)
            self.keys[name] = KeyRow(row.id, row.digest, row.at)

    def _check_alone(self, connection: sa.Connection) -> None:
        opened = connection.execute(sa.select(schema.store.c.opened)).scalar_one()
        if opened != self._opened:
            raise ConfigError(
                f"{self._database.place}: another broker has used it since; this one must be started anew"
            )


def _insert(connection: sa.Connection, draft: Draft) -> None:
    rows, named = schema.record, sa.bindparam
    new, changed, gone = [], [], []
    for (tenant, kind, identity), kept in draft.over.items():
        name = {"of_tenant": tenant, "of_kind": kind.value, "of_id": identity}
        held = draft.kept.get((tenant, kind), {}).get(identity)
        held = None if held and held.shown else held
        if kept is None:
            gone += [name] if held else []
            continue
        record = kept.record
        values = {
            "version": record.version,
            "sequence": record.sequence,
            "created": kept.created,
            "changed_at": record.changed_at,
            "body": encode(kind, record.body),
        }
        if held:
            changed.append(name | values)
        else:
            new.append({"tenant": tenant, "kind": kind.value, "id": identity, **values})
    this = sa.and_(
        rows.c.tenant == named("of_tenant"), rows.c.kind == named("of_kind"), rows.c.id == named("of_id")
    )
    if gone:
        connection.execute(sa.delete(rows).where(this), gone)
    if changed:
        columns = ("version", "sequence", "created", "changed_at", "body")
        connection.execute(sa.update(rows).where(this).values({c: named(c) for c in columns}), changed)
    if new:
        connection.execute(sa.insert(rows), new)
    _insert_keys(connection, draft)
    if draft.events:
        connection.execute(
            sa.insert(schema.outbox),
            [
                {
                    "sequence": event.sequence,
                    "tenant": event.tenant,
                    "kind": event.kind.value,
                    "id": event.id,
                    "event_type": event.event_type,
                    "at": event.at,
                    "body": encode(event.kind, event.body),
                }
                for event in draft.events
            ],
        )
    connection.execute(sa.update(schema.store).values(sequence=draft.sequence))


def _insert_keys(connection: sa.Connection, draft: Draft) -> None:
    table = schema.key
    for (tenant, kind, scheme, word), row in draft.keys.items():
        connection.execute(
            sa.delete(table).where(
                table.c.tenant == tenant,
                table.c.kind == kind.value,
                table.c.scheme == scheme,
                table.c.key == word,
            )
        )
        if row:
            values = {"tenant": tenant, "kind": kind.value, "scheme": scheme, "key": word}
            connection.execute(sa.insert(table).values(**values, id=row.id, digest=row.digest, at=row.at))


def _forget(connection: sa.Connection, keys_before: Nanoseconds, events_before: Nanoseconds) -> None:
    keys, events, deliveries = schema.key, schema.outbox, schema.delivery
    connection.execute(sa.delete(keys).where(keys.c.scheme == IDEMPOTENCY_KEY, keys.c.at < keys_before))
    open_ones = sa.select(deliveries.c.outbox_sequence)
    connection.execute(
        sa.delete(events).where(events.c.at < events_before, events.c.sequence.not_in(open_ones))
    )


def _is_old(name: KeyName, row: KeyRow, before: Nanoseconds) -> bool:
    return name[2] == IDEMPOTENCY_KEY and row.at < before


def _fail(writes: Iterable[Write], error: Exception) -> None:
    for write in writes:
        if not write.done.done():
            write.done.set_exception(type(error)(str(error)) if isinstance(error, TwinError) else error)
            write.done.exception()  # nobody may wait any more
