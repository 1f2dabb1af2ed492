"""The history on disk: a DuckDB file for the open hour, Parquet files for the hours before. For one thread.

    history/
      history.duckdb                                    rows of the open hour, the list of files
      changes/day=2026-11-21/14-000000123456.parquet    rows 123456 … of the hour from 14:00 UTC
      state/day=2026-11-21/14-000000123456.parquet      every leaf as those rows left it

Rows are numbered in the order in which they were received, for ever; a file holds a range of numbers. So the
state at any time is one state file plus the rows that follow it, and no query depends on clocks being right.
Files are written aside and renamed; the list of files changes in one transaction with the rows' removal. A
second process is refused by a lock file, with the name of the holder.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from domain_twin.datastore.columns import Row, changes_table, row_of
from domain_twin.datastore.durable import put_in_place, set_aside
from domain_twin.datastore.encoding import ValueKind
from domain_twin.datastore.lock import hold
from domain_twin.errors import ConfigError, NotFound
from domain_twin.model import Nanoseconds

log = logging.getLogger(__name__)

HOUR: Nanoseconds = 3_600_000_000_000
PAGE_ROWS = 10_000
_COLUMNS = "n, received_at, observed_at, device, path, kind, number, text, origin, deleted, epoch, sequence"
_EXTENT = "min(n), max(n), min(received_at), max(received_at)"
_TABLES = """
    CREATE TABLE IF NOT EXISTS changes (
        n BIGINT, received_at BIGINT, observed_at BIGINT, device VARCHAR, path VARCHAR, kind UTINYINT,
        number DOUBLE, text VARCHAR, origin UTINYINT, deleted BOOLEAN, epoch VARCHAR, sequence BIGINT);
    CREATE TABLE IF NOT EXISTS files (
        name VARCHAR, first_n BIGINT, last_n BIGINT, min_received BIGINT, max_received BIGINT);
    CREATE TABLE IF NOT EXISTS alive (heard_at BIGINT);
"""


@dataclass(frozen=True, slots=True)
class RolledFile:
    """One file of changes, with its state file of the same name."""

    name: str  # "day=2026-11-21/14-000000123456.parquet"
    first_n: int
    last_n: int
    min_received: Nanoseconds
    max_received: Nanoseconds


class HistoryDatabase:
    """Rows in, rows out. Every method blocks and may raise duckdb.Error or OSError."""

    def __init__(self, folder: Path, *, memory_limit: str = "512MB") -> None:
        """Open or create. Raises ConfigError: somebody else has it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = hold(folder, "history")
        try:
            self._memory_limit = memory_limit
            self._connection = self._open()
            self.files = self._known_files()
            self.next_n = self._next_n()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Write the log into the database and let go of it."""
        self._connection.close()
        self._lock.close()

    def reconnect(self) -> None:
        """Open the database again after an error that ended the connection."""
        with suppress(duckdb.Error):
            self._connection.close()
        self._connection = self._open()
        self.files = self._known_files()
        self.next_n = self._next_n()

    def alive_at(self) -> Nanoseconds | None:
        """When rows were last written, as far as is known."""
        return self._scalar("SELECT max(heard_at) FROM alive")

    def note_alive(self, now: Nanoseconds) -> None:
        """Record that the agent runs."""
        with self._transaction():
            self._connection.execute("DELETE FROM alive")
            self._connection.execute("INSERT INTO alive VALUES (?)", [now])

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows in one transaction, forced to disk."""
        batch = changes_table(rows, self.next_n)
        self._connection.register("batch", batch)
        try:
            self._connection.execute("INSERT INTO changes SELECT * FROM batch")
        finally:
            self._connection.unregister("batch")
        self.next_n += len(rows)

    def open_hour(self) -> int | None:
        """The hour (since the epoch) of the newest row not rolled yet; None when all is rolled."""
        newest = self._scalar("SELECT max(received_at) FROM changes")
        return None if newest is None else newest // HOUR

    def roll(self) -> RolledFile | None:
        """Move the rows of the open hour to a file of their own."""
        first, last, oldest, newest = self._fetch(f"SELECT {_EXTENT} FROM changes")[0]
        if first is None:
            return None
        at = datetime.fromtimestamp(oldest // 1_000_000_000, UTC)
        file = RolledFile(f"day={at:%Y-%m-%d}/{at:%H}-{first:012d}.parquet", first, last, oldest, newest)
        self._copy(f"SELECT {_COLUMNS} FROM changes ORDER BY n", "changes", file)
        self._write_state(file, self.files)
        with self._transaction():
            self._connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", _listed(file))
            self._connection.execute("DELETE FROM changes")
        self._connection.execute("CHECKPOINT")
        self.files.append(file)
        log.info("history rolled", extra={"file": file.name, "rows": last - first + 1})
        return file

    def expire(self, before: Nanoseconds) -> int:
        """Delete the files whose rows are all older than `before`; the state that they left stays."""
        old = 0
        while old < len(self.files) and self.files[old].max_received < before:
            old += 1
        expired = [file for file in self.files[:old] if self._path("changes", file).exists()]
        for file in self.files[: max(old - 1, 0)]:
            self._path("state", file).unlink(missing_ok=True)
        for file in expired:
            self._path("changes", file).unlink(missing_ok=True)
        if expired:
            self._list(self.files[old - 1 :])
            log.info("history expired", extra={"files": len(expired)})
        return len(expired)

    def state_at(self, at: Nanoseconds, device: str = "", path: str = "") -> list[Row]:
        """The last change of each leaf until `at`, without deleted ones. Raises NotFound: too early."""
        base, after = self._since(at)
        files = [self._path("changes", file) for file in after if file.min_received <= at]
        where, values = _only(device, path)
        rows = self._union(files, f"received_at <= {int(at)} AND {where}", table=True)
        if base is not None:
            rows = f"{self._union([self._path('state', base)], where)} UNION ALL {rows}"
        return [row_of(cells) for cells in self._fetch(_last_of_each_leaf(rows) + " ORDER BY n", values)]

    def page(
        self,
        cursor: int,
        start: Nanoseconds,
        end: Nanoseconds,
        *,
        device: str = "",
        path: str = "",
        regex: str = "",
        gaps: bool = False,
    ) -> tuple[list[Row], int | None]:
        """Rows after number `cursor` received in (start, end], in order, and where to go on; None: end."""
        where, values = _only(device, path)
        if gaps:
            where = f"kind = {ValueKind.GAP:d}" + (" AND device IN ('', $device)" if device else "")
        if regex:
            where += " AND regexp_matches(path, $regex)"
            values["regex"] = regex
        where += f" AND received_at > {int(start)} AND received_at <= {int(end)}"
        for file in [*self._available(), None]:
            if file is None:
                rows = self._union([], f"n > {cursor} AND {where}", table=True)
            elif file.last_n > cursor and file.max_received > start and file.min_received <= end:
                rows = self._union([self._path("changes", file)], f"n > {cursor} AND {where}")
            else:
                continue
            cells = self._fetch(f"{rows} ORDER BY n LIMIT {PAGE_ROWS}", values)
            if cells:
                return [row_of(record) for record in cells], cells[-1][0]
        return [], None

    def last_row(self, at: Nanoseconds = sys.maxsize) -> Row | None:
        """The newest row until `at` that stands for a change."""
        where = f"kind < {ValueKind.GAP:d} AND received_at <= {int(at)}"
        for file in [None, *reversed(self._available())]:
            if file is not None and file.min_received > at:
                continue
            rows = self._union([self._path("changes", file)] if file else [], where, table=file is None)
            cells = self._fetch(f"{rows} ORDER BY n DESC LIMIT 1")
            if cells:
                return row_of(cells[0])
        return None

    def _since(self, at: Nanoseconds) -> tuple[RolledFile | None, list[RolledFile]]:
        """The newest state file with nothing in it that came after `at`, and the files after it."""
        base: RolledFile | None = None
        after = 0
        for i, file in enumerate(self.files):
            if file.max_received > at:  # a clock that was set back can put older rows behind this one
                break
            base, after = file, i + 1
        available = self._available()
        beginning = self._beginning(available)
        if base is None and beginning is not None and at < beginning:
            raise NotFound(
                f"history begins at {_text(beginning)}: nothing is known of {_text(at)}; ask for a later time"
            )
        return base, [file for file in self.files[after:] if file in available]

    def _beginning(self, available: Sequence[RolledFile]) -> Nanoseconds | None:
        return (
            available[0].min_received if available else self._scalar("SELECT min(received_at) FROM changes")
        )

    def _available(self) -> list[RolledFile]:
        """The files whose changes are not expired."""
        return [file for file in self.files if self._path("changes", file).exists()]

    def _union(self, files: Sequence[Path], where: str, *, table: bool = False) -> str:
        parts = []
        if files:
            names = ", ".join(map(_quoted, files))
            parts.append(
                f"SELECT {_COLUMNS} FROM read_parquet([{names}], hive_partitioning=false) WHERE {where}"
            )
        if table:
            parts.append(f"SELECT {_COLUMNS} FROM changes WHERE {where}")
        return " UNION ALL ".join(parts)

    def _fetch(self, query: str, values: Mapping[str, str] | None = None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.execute(query, dict(values or {})).fetchall()
        return rows

    def _scalar(self, query: str) -> int | None:
        value: int | None = self._connection.execute(query).fetchall()[0][0]
        return value

    def _copy(self, query: str, kind: str, file: RolledFile) -> None:
        written = self.folder / f"{kind}.tmp"
        self._connection.execute(f"COPY ({query}) TO {_quoted(written)} (FORMAT parquet, COMPRESSION zstd)")
        put_in_place(written, self._path(kind, file))

    def _path(self, kind: str, file: RolledFile) -> Path:
        return self.folder / kind / file.name

    def _write_state(self, file: RolledFile, before: Sequence[RolledFile]) -> None:
        """Write what `file` left: the state before it, and its rows."""
        files = [self._path("state", before[-1])] if before else []
        rows = self._union([*files, self._path("changes", file)], "TRUE")
        self._copy(_last_of_each_leaf(rows) + " ORDER BY device, path", "state", file)

    def _open(self) -> duckdb.DuckDBPyConnection:
        path = self.folder / "history.duckdb"
        for kind in ("changes", "state"):
            (self.folder / f"{kind}.tmp").unlink(missing_ok=True)
        try:
            connection = _connect(path, self._memory_limit)
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            if not _is_damage(error):
                raise ConfigError(
                    f"history {path} cannot be opened ({reason}): check space and permissions of its folder"
                ) from error
            stamp = time.time_ns()
            aside = set_aside(path, stamp)
            log_file = path.with_name(path.name + ".wal")
            if log_file.exists():
                set_aside(log_file, stamp)
            log.warning(
                "history database is damaged and was set aside: the rows of its open hour are lost",
                extra={"file": str(path), "aside": aside.name, "problem": reason},
            )
            connection = _connect(path, self._memory_limit)
        connection.execute(_TABLES)
        return connection

    def _known_files(self) -> list[RolledFile]:
        """The list of files, mended: what a crash left half-way is dropped, a lost list is rebuilt."""
        listed = [RolledFile(*cells) for cells in self._fetch("SELECT * FROM files ORDER BY first_n")]
        names = {file.name for file in listed}
        open_from = self._scalar("SELECT min(n) FROM changes")
        known = [file for file in listed if self._path("state", file).exists()]
        for path in sorted((self.folder / "changes").glob("day=*/*.parquet")):
            name = f"{path.parent.name}/{path.name}"
            if name in names:
                continue
            extent = self._fetch(f"SELECT {_EXTENT} FROM read_parquet({_quoted(path)})")[0]
            file = RolledFile(name, *extent)
            if (
                open_from is not None and file.last_n >= open_from
            ):  # still in the table: it will be written again
                path.unlink()
                self._path("state", file).unlink(missing_ok=True)
                continue
            if not self._path("state", file).exists():
                self._write_state(file, known)
            known.append(file)
        known.sort(key=lambda file: file.first_n)
        if known != listed:
            self._list(known)
        return known

    def _list(self, files: Sequence[RolledFile]) -> None:
        with self._transaction():
            self._connection.execute("DELETE FROM files")
            for file in files:
                self._connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", _listed(file))
        self.files = list(files)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _next_n(self) -> int:
        newest = self._scalar("SELECT max(n) FROM changes")
        rolled = self.files[-1].last_n if self.files else 0
        return max(newest or 0, rolled) + 1


def _connect(path: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), config={"memory_limit": memory_limit, "threads": 2})


def _is_damage(error: duckdb.Error) -> bool:
    """Whether the content of the file is to blame, rather than the disk or the account."""
    if isinstance(error, (duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)):
        return True
    signs = ("not a valid duckdb database", "corrupt", "checksum", "wal file", "storage version")
    return any(sign in str(error).lower() for sign in signs)


def _last_of_each_leaf(rows: str) -> str:
    # Numbers first, contents by number: a window over whole rows would hold an hour in memory.
    return (
        f"WITH everything AS NOT MATERIALIZED ({rows}), newest AS (SELECT max(n) AS n FROM everything"
        f" WHERE kind < {ValueKind.GAP:d} GROUP BY device, path)"
        f" SELECT {_COLUMNS} FROM everything SEMI JOIN newest USING (n) WHERE NOT deleted"
    )


def _only(device: str, path: str) -> tuple[str, dict[str, str]]:
    wanted = {name: value for name, value in (("device", device), ("path", path)) if value}
    return " AND ".join([f"kind < {ValueKind.GAP:d}", *(f"{name} = ${name}" for name in wanted)]), wanted


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _listed(file: RolledFile) -> list[str | int]:
    return [file.name, file.first_n, file.last_n, file.min_received, file.max_received]


def _text(at: Nanoseconds) -> str:
    try:
        return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return str(at)
