"""The database under the partners' records: one thread, one connection, one process at a time.

Owns the lock that keeps a second broker away, and what is said when the database cannot be used. A
transaction is all or nothing; one whose end is not known says so by `Unreachable`, and the next call opens a
new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from domain_twin.errors import ConfigError, ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.operations.lock import hold
from federation.partners import schema

__all__ = ["FILE_NAME", "Database"]

FILE_NAME = "partners.sqlite3"
LOCK_WAIT_S = 5.0
_LOCK_AGAIN_S = 0.1
_CONNECT_S = 5
_LOCK = 0x6665_6474_7769_6E01  # any number, the same for every broker
_DISK_FULL = "53100"  # SQLSTATE, PostgreSQL appendix A

T = TypeVar("T")


class Database:
    """Runs work in transactions, in a thread of its own. Made by `open`."""

    def __init__(self, state: Path, url: str) -> None:
        self._url = sa.make_url(url) if url else sa.URL.create("sqlite", database=str(state / FILE_NAME))
        self._file: Path | None = None
        if self._url.get_backend_name() == "sqlite" and self._url.database not in (None, "", ":memory:"):
            self._file = Path(str(self._url.database))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="partners")
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._lock: IO[str] | None = None
        self._closed = False
        self.on_connected: Callable[[sa.Connection], None] = lambda _: None
        """Called in the thread with every new connection but the first, in a transaction."""

    @property
    def place(self) -> str:
        """Where it is, for people; without the password."""
        return str(self._file or self._url.render_as_string(hide_password=True))

    @classmethod
    async def open(cls, state: Path, url: str) -> Database:
        """The database at `url` (empty: SQLite in `state`), of this version's schema.

        Raises ConfigError where another broker uses it, its schema is newer or the URL says nothing usable,
        Unreachable and OverCapacity where it does not answer or cannot be written.
        """
        try:
            database = cls(state, url)
        except sa.exc.ArgumentError as error:
            raise ConfigError(f"database = {url!r}: not a URL of SQLAlchemy ({error})") from None
        try:
            await database._run(database._begin)
        except BaseException:
            await database.close()
            raise
        return database

    async def call(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in one transaction; durable when this returns. Raises Unreachable, OverCapacity."""

        def transact() -> T:
            connection = self._connected()
            with connection.begin():
                return work(connection)

        return await self._run(transact)

    async def close(self) -> None:
        """Let go of the database and its lock. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed and work != self._begin:
            raise Unreachable(f"{self.place}: closed, the broker is stopping")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    # ------------------------------------------------------------ in the thread

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (SQLAlchemyError, OSError) as error:
            if isinstance(error, TwinError):
                raise
            self._drop()
            raise self._explain(error) from error

    def _begin(self) -> None:
        self._take_file_lock()
        with self._connected(first=True).begin():
            pass

    def _connected(self, *, first: bool = False) -> sa.Connection:
        if self._connection is not None:
            return self._connection
        if self._engine is None:
            self._engine = self._create()
        connection = self._engine.connect()
        try:
            self._take_database_lock(connection)
            with connection.begin():
                self._check_encoding(connection)
                if first:
                    schema.upgrade(connection)
                else:
                    self.on_connected(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _create(self) -> sa.Engine:
        if self._file:
            self._file.touch(mode=0o600)  # it holds what partners ordered
        try:
            # Closing a connection of SQLite under another thread's statement ends the process: let it raise.
            is_sqlite = self._url.get_backend_name() == "sqlite"
            options = {"check_same_thread": True} if is_sqlite else {"connect_timeout": _CONNECT_S}
            engine = sa.create_engine(self._url, poolclass=sa.NullPool, connect_args=options)
        except (ImportError, sa.exc.ArgumentError) as error:
            raise ConfigError(
                f"database = {self.place!r}: no driver for it ({error}); PostgreSQL needs"
                " `pip install fedtwin[postgres]` and a URL that begins with postgresql+psycopg://"
            ) from None
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _tune)
            sa.event.listen(engine, "begin", _begin)
        elif engine.dialect.name != "postgresql":
            raise ConfigError(
                f"database = {self.place!r}: partners' records are kept in SQLite or PostgreSQL"
            )
        return engine

    def _take_file_lock(self) -> None:
        if self._file:
            folder = self._file.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _patiently(lambda: hold(folder, "partners"))

    def _take_database_lock(self, connection: sa.Connection) -> None:
        """PostgreSQL holds the lock as long as this connection lives: who has it can write, nobody else."""
        if connection.dialect.name != "postgresql":
            return

        def take() -> None:
            with connection.begin():
                if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
                    raise ConfigError(
                        f"{self.place}: another broker process keeps its partners' records there; stop it"
                        " first, or give this one a database of its own"
                    )

        _patiently(take)

    def _check_encoding(self, connection: sa.Connection) -> None:
        if connection.dialect.name != "postgresql":
            return
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise ConfigError(
                f"{self.place}: its encoding is {encoding}, which cannot hold all that partners write; make a"
                " database with ENCODING 'UTF8'"
            )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.invalidate()
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _end(self) -> None:
        self._drop()
        if self._engine:
            self._engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _explain(self, error: Exception) -> TwinError:
        origin = getattr(error, "orig", None) or error
        cause = " ".join(str(origin).split())
        if isinstance(error, sa.exc.DataError | sa.exc.IntegrityError):
            return ContractError(f"{self.place}: does not take this ({cause})")
        if getattr(origin, "sqlstate", "") == _DISK_FULL or "disk is full" in cause:
            return OverCapacity(f"{self.place}: the disk is full; what was asked is not kept, make room")
        if "readonly" in cause or "read-only" in cause:
            return Unreachable(f"{self.place}: cannot be written ({cause}); make it writable by the broker")
        if "not a database" in cause or "malformed" in cause:
            return ConfigError(f"{self.place}: damaged ({cause}); restore it from a backup")
        return Unreachable(f"{self.place}: does not answer ({cause}); see that the database runs")


def _patiently(take: Callable[[], T]) -> T:
    """What `take` takes; a broker that was killed is let go of after a moment only. Raises ConfigError."""
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return take()
        except ConfigError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOCK_AGAIN_S)


def _tune(connection: Any, _record: Any) -> None:
    # Else Python's driver begins transactions where it likes, and tables are made outside of them.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
