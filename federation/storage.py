"""What a broker remembers over a restart: domains, last views, service history, events, findings.

Callers hand over and go on: nothing here blocks the event loop, all of the database (SQLAlchemy Core) runs in
one thread. What waits for it is bounded: the latest of each view, status and finding, and a number of events
and service statuses. A database that cannot be written is a `problem` in words, not an exception: the broker
goes on in memory, and writes again when it can. Bodies are `fedtwin.v1` messages, so their rules of
compatibility hold on disk. The schema has a version; steps between versions come with alembic, once there is
a second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from domain_twin.errors import ContractError
from domain_twin.model import DomainStatus, Event, Finding, Nanoseconds, ServiceStatus, View
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import convert

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FILE_NAME = "broker.sqlite3"
FLUSH_S = 0.25
RETRY_S = 10.0
PRUNE_S = 3600.0
MAX_WAITING = 20_000
MAX_ROWS = 1_000_000
RETENTION_S = 30 * 86_400

T = TypeVar("T")

_schema = sa.MetaData()
_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows by INTEGER only
_version = sa.Table("schema_version", _schema, sa.Column("version", sa.Integer, primary_key=True))
_domain = sa.Table(
    "domain",
    _schema,
    sa.Column("domain", sa.String(255), primary_key=True),
    sa.Column("saved_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # DomainStatus
)
_view = sa.Table(
    "view",
    _schema,
    sa.Column("domain", sa.String(255), primary_key=True),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),  # of the agreement behind it; 0: never
    sa.Column("body", sa.LargeBinary, nullable=False),  # ViewDelta, complete
)
_event = sa.Table(
    "event",
    _schema,
    sa.Column("row", _serial, primary_key=True, autoincrement=True),
    sa.Column("id", sa.BigInteger, nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("domain", sa.String(255), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # Event
)
_status = sa.Table(
    "service_status",
    _schema,
    sa.Column("row", _serial, primary_key=True, autoincrement=True),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # ServiceStatus
    sa.Index("service_status_by_time", "service", "at"),
)
_finding = sa.Table(
    "finding",
    _schema,
    sa.Column("code", sa.String(255), primary_key=True),
    sa.Column("domain", sa.String(255), primary_key=True),
    sa.Column("element", sa.String(1024), primary_key=True),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # Finding
)


@dataclass(frozen=True, slots=True)
class Restored:
    """What the broker knew when it last wrote."""

    domains: tuple[DomainStatus, ...] = ()
    views: tuple[tuple[View, Nanoseconds, Nanoseconds], ...] = ()  # with received_at, expires_at
    findings: tuple[Finding, ...] = ()
    statuses: tuple[ServiceStatus, ...] = ()  # the last one of each service
    last_event_id: int = 0
    last_at: Nanoseconds = 0
    """When the newest of all this was recorded; 0: nothing ever was."""


@dataclass(slots=True)
class _Waiting:
    """What was handed over and is not written yet."""

    domains: dict[str, DomainStatus] = field(default_factory=dict)
    views: dict[str, tuple[View, Nanoseconds, Nanoseconds] | None] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], Finding | None] = field(default_factory=dict)  # None: cleared
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    statuses: deque[ServiceStatus] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    forgotten: set[str] = field(default_factory=set)  # domains of which nothing written before may stay

    def __bool__(self) -> bool:
        return bool(
            self.domains or self.views or self.findings or self.events or self.statuses or self.forgotten
        )

    def older(self, batch: _Waiting) -> None:
        """Put back what could not be written; what was handed over since is newer and stays."""
        self.domains = batch.domains | self.domains
        self.views = batch.views | self.views
        self.findings = batch.findings | self.findings
        self.events = deque([*batch.events, *self.events], maxlen=MAX_WAITING)
        self.statuses = deque([*batch.statuses, *self.statuses], maxlen=MAX_WAITING)
        self.forgotten |= batch.forgotten


class Storage:
    """A broker's database. Made by `open`; `run` writes until it is cancelled; `close` writes the rest."""

    def __init__(self, url: str, file: Path | None) -> None:
        self._url = url
        self._file = file
        self.on_problem: Callable[[str], None] = lambda _: None
        """Told when `problem` changes."""
        self._engine: sa.Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._closed = False
        self._pruned_at = -math.inf
        self.problem = ""
        """Why nothing is written at present, in words; empty when all is well."""
        self.dropped = 0
        """Events and service statuses given up unwritten so far, as too many waited."""

    @classmethod
    async def open(cls, state: Path, url: str = "") -> tuple[Storage, Restored]:
        """The database at `url` (empty: SQLite in `state`), made where there is none, and what it holds.

        Where it cannot be used, `problem` says why and nothing was restored.
        """
        file = None if url else state / FILE_NAME
        storage = cls(url or f"sqlite:///{file}", file)
        restored = await storage._call(storage._restore)
        return storage, restored or Restored()

    # ------------------------------------------------------------ handing over

    @property
    def waiting(self) -> int:
        """Events and service statuses that are not written yet."""
        return len(self._waiting.events) + len(self._waiting.statuses)

    def save_domain(self, status: DomainStatus) -> None:
        """Remember how a domain stands."""
        self._waiting.domains[status.domain] = status
        self._wake.set()

    def save_view(self, view: View, received_at: Nanoseconds, expires_at: Nanoseconds = 0) -> None:
        """Remember a view as its domain's last good one, until its agreement ends (0: never)."""
        self._waiting.views[view.domain] = (view, received_at, expires_at)
        self._wake.set()

    def forget_view(self, domain: str) -> None:
        """Delete what a domain showed, as its agreement ended: view, events, its part in service statuses."""
        waiting = self._waiting
        waiting.views[domain] = None
        waiting.forgotten.add(domain)
        waiting.events = deque((e for e in waiting.events if not e.tells_of(domain)), maxlen=MAX_WAITING)
        waiting.statuses = deque((_without(s, domain) for s in waiting.statuses), maxlen=MAX_WAITING)
        self._wake.set()

    def add_event(self, event: Event) -> None:
        """Remember an event."""
        self.dropped += len(self._waiting.events) == MAX_WAITING
        self._waiting.events.append(event)
        self._wake.set()

    def add_status(self, status: ServiceStatus) -> None:
        """Remember what a service got."""
        self.dropped += len(self._waiting.statuses) == MAX_WAITING
        self._waiting.statuses.append(status)
        self._wake.set()

    def save_finding(self, finding: Finding) -> None:
        """Remember a finding until it is cleared."""
        self._waiting.findings[finding.code, finding.domain, finding.element] = finding
        self._wake.set()

    def clear_finding(self, finding: Finding) -> None:
        """Forget a finding."""
        self._waiting.findings[finding.code, finding.domain, finding.element] = None
        self._wake.set()

    # ------------------------------------------------------------ reading

    async def service_history(
        self, service: str, start: Nanoseconds, end: Nanoseconds, *, limit: int
    ) -> list[ServiceStatus]:
        """At most `limit` statuses of a service (by id) with start <= at < end, oldest first."""
        query = (
            sa.select(_status.c.body)
            .where(_status.c.service == service, _status.c.at >= start, _status.c.at < end)
            .order_by(_status.c.at, _status.c.row)
            .limit(limit)
        )
        rows = await self._rows(query)
        found = [convert.decode_service_status(convert.parse(pb.ServiceStatus, row)) for row in rows]
        waiting = [s for s in self._waiting.statuses if s.service.id == service and start <= s.at < end]
        return [*found, *waiting][:limit]

    async def events(self, start: Nanoseconds, end: Nanoseconds, *, limit: int) -> list[Event]:
        """At most `limit` events with start <= at < end, oldest first."""
        query = (
            sa.select(_event.c.body)
            .where(_event.c.at >= start, _event.c.at < end)
            .order_by(_event.c.at, _event.c.row)
            .limit(limit)
        )
        found = [convert.decode_event(convert.parse(pb.Event, row)) for row in await self._rows(query)]
        waiting = [event for event in self._waiting.events if start <= event.at < end]
        return [*found, *waiting][:limit]

    async def _rows(self, query: sa.Select[Any]) -> list[bytes]:
        def read() -> list[bytes]:
            with self._connection() as connection:
                return list(connection.execute(query).scalars())

        await self.flush()
        return await self._call(read) or []

    # ------------------------------------------------------------ writing

    async def run(self) -> None:
        """Write what is handed over, until cancelled."""
        while True:
            await self._wake.wait()
            # What comes within this time is written together: one commit, and only the latest of each view.
            await asyncio.sleep(RETRY_S if self.problem else FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is waiting now."""
        self._wake.clear()
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, _Waiting()
        if await self._call(lambda: self._write(batch)):
            self._note("")
        else:
            self._waiting.older(batch)
            self._wake.set()

    async def close(self) -> None:
        """Write the rest and let go of the database. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        await self.flush()
        if self._waiting:
            log.warning("not everything was stored", extra={"reason": self.problem})
        await self._call(self._dispose)
        self._thread.shutdown()

    async def _call(self, work: Callable[[], T]) -> T | None:
        """Do `work` in the database's thread; None and a `problem` where it fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (SQLAlchemyError, OSError, _NewerSchema) as error:
            self._note(self._explain(error))
            return None

    def _note(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            log.error("database not usable", extra={"reason": problem})
        else:
            log.info("database usable again")
        self.on_problem(problem)

    def _explain(self, error: Exception) -> str:
        place = str(self._file or sa.make_url(self._url).render_as_string(hide_password=True))
        cause = str(getattr(error, "orig", None) or error)
        remedy = "make its folder writable by the broker and see that the disk has room"
        if isinstance(error, _NewerSchema):
            remedy = "start the newer broker, or name another database"
        elif "not a database" in cause or "malformed" in cause:
            remedy = "move the file away (the broker makes a new one) or restore it from a backup"
        return f"{place} cannot be used: {cause}; the broker goes on in memory. To keep its state, {remedy}"

    # ------------------------------------------------------------ in the thread

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        if self._engine is None:
            self._engine = self._create()
        with self._engine.begin() as connection:
            yield connection

    def _create(self) -> sa.Engine:
        if self._file:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.touch(mode=0o600)  # it holds what other operators disclosed
        # Closing a connection of SQLite under another thread's statement ends the process: let it raise.
        is_sqlite = sa.make_url(self._url).get_backend_name() == "sqlite"
        options = {"check_same_thread": True} if is_sqlite else {}
        engine = sa.create_engine(self._url, connect_args=options)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _tune)
        try:
            with engine.begin() as connection:
                _schema.create_all(connection)
                held = connection.execute(sa.select(_version.c.version)).scalar()
                if held is None:
                    connection.execute(sa.insert(_version).values(version=SCHEMA_VERSION))
                elif held != SCHEMA_VERSION:
                    raise _NewerSchema(f"its schema has version {held}, this broker knows {SCHEMA_VERSION}")
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _dispose(self) -> None:
        if self._engine:
            self._engine.dispose()
            self._engine = None

    def _restore(self) -> Restored:
        latest = sa.select(sa.func.max(_status.c.row)).group_by(_status.c.service)
        with self._connection() as connection:

            def bodies(query: sa.Select[Any]) -> Iterable[bytes]:
                return connection.execute(query).scalars()

            return Restored(
                domains=tuple(
                    _readable(
                        bodies(sa.select(_domain.c.body)), pb.DomainStatus, convert.decode_domain_status
                    )
                ),
                views=tuple(
                    (view, received_at, expires_at)
                    for body, received_at, expires_at in connection.execute(
                        sa.select(_view.c.body, _view.c.received_at, _view.c.expires_at)
                    )
                    for view in _readable([body], pb.ViewDelta, convert.decode_view)
                ),
                findings=tuple(
                    _readable(bodies(sa.select(_finding.c.body)), pb.Finding, convert.decode_finding)
                ),
                statuses=tuple(
                    _readable(
                        bodies(sa.select(_status.c.body).where(_status.c.row.in_(latest))),
                        pb.ServiceStatus,
                        convert.decode_service_status,
                    )
                ),
                last_event_id=connection.execute(sa.select(sa.func.max(_event.c.id))).scalar() or 0,
                last_at=max(
                    connection.execute(sa.select(sa.func.max(table.c.at))).scalar() or 0
                    for table in (_event, _status)
                ),
            )

    def _write(self, batch: _Waiting) -> bool:
        try:
            self._insert(batch)
        except (DataError, IntegrityError) as error:  # writing it again would fail again
            log.exception("rows not stored", extra={"reason": str(error.orig)})
        return True

    def _insert(self, batch: _Waiting) -> None:
        with self._connection() as connection:
            for domain in batch.forgotten:
                _forget(connection, domain)
            self._write_latest(connection, batch)
            if batch.events:
                rows = [
                    {
                        "id": event.id,
                        "at": event.at,
                        "kind": event.kind,
                        "domain": event.domain,
                        "body": convert.encode_event(event).SerializeToString(),
                    }
                    for event in batch.events
                ]
                connection.execute(sa.insert(_event), rows)
            if batch.statuses:
                rows = [
                    {
                        "service": status.service.id,
                        "at": status.at,
                        "body": convert.encode_service_status(status).SerializeToString(),
                    }
                    for status in batch.statuses
                ]
                connection.execute(sa.insert(_status), rows)
            if time.monotonic() - self._pruned_at > PRUNE_S:
                _prune(connection)
                self._pruned_at = time.monotonic()
        if batch.forgotten and self._file and self._engine:
            # What was deleted still lies in the write-ahead log until that is emptied.
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @staticmethod
    def _write_latest(connection: sa.Connection, batch: _Waiting) -> None:
        for status in batch.domains.values():
            connection.execute(sa.delete(_domain).where(_domain.c.domain == status.domain))
            body = convert.encode_domain_status(status).SerializeToString()
            row = {"domain": status.domain, "saved_at": time.time_ns(), "body": body}
            connection.execute(sa.insert(_domain), row)
        for domain, held in batch.views.items():
            connection.execute(sa.delete(_view).where(_view.c.domain == domain))
            if held:
                body = convert.encode_view(held[0]).SerializeToString()
                row = {"domain": domain, "received_at": held[1], "expires_at": held[2], "body": body}
                connection.execute(sa.insert(_view), row)
        for (code, domain, element), finding in batch.findings.items():
            connection.execute(
                sa.delete(_finding).where(
                    _finding.c.code == code, _finding.c.domain == domain, _finding.c.element == element
                )
            )
            if finding:
                body = convert.encode_finding(finding).SerializeToString()
                row = {"code": code, "domain": domain, "element": element, "since": finding.since}
                connection.execute(sa.insert(_finding), row | {"body": body})


class _NewerSchema(Exception):
    """The database was made by another version of the product."""


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _forget(connection: sa.Connection, domain: str) -> None:
    """Delete a domain's events, and its figures from what services got."""
    connection.execute(sa.delete(_event).where(_event.c.domain == domain))
    name = domain.encode()
    listed = connection.execute(sa.select(_event.c.row, _event.c.body).where(_event.c.domain == "")).all()
    for row, body in listed:
        if name in body and any(
            e.tells_of(domain) for e in _readable([body], pb.Event, convert.decode_event)
        ):
            connection.execute(sa.delete(_event).where(_event.c.row == row))
    listed = connection.execute(sa.select(_status.c.row, _status.c.body)).all()
    for row, body in listed:
        if name not in body:
            continue
        for status in _readable([body], pb.ServiceStatus, convert.decode_service_status):
            kept = convert.encode_service_status(_without(status, domain)).SerializeToString()
            if kept != body:
                connection.execute(sa.update(_status).where(_status.c.row == row).values(body=kept))


def _without(status: ServiceStatus, domain: str) -> ServiceStatus:
    """A status without the path across a domain, and without its share: the total would tell its figures."""
    if not status.crosses(domain):
        return status
    shares = tuple(share for share in status.budget if share.domain != domain)
    return replace(status, path=None, budget=shares, cause=f"deleted: the agreement with {domain} ended")


def _prune(connection: sa.Connection) -> None:
    oldest = time.time_ns() - RETENTION_S * 1_000_000_000
    for table in (_event, _status):
        connection.execute(sa.delete(table).where(table.c.at < oldest))
        # Where the kept time holds too many, the newest rows stay.
        surplus = (
            sa.select(table.c.row).order_by(table.c.row.desc()).offset(MAX_ROWS).limit(1).scalar_subquery()
        )
        connection.execute(sa.delete(table).where(table.c.row <= surplus))


def _readable(bodies: Iterable[bytes], kind: Any, decode: Callable[[Any], T]) -> Iterator[T]:
    for body in bodies:
        try:
            yield decode(convert.parse(kind, body))
        except ContractError as error:  # one bad row does not cost the others
            log.warning("stored row set aside", extra={"kind": kind.DESCRIPTOR.name, "reason": str(error)})
