"""The history on disk: a DuckDB file for the open hour, Parquet files for the time before. For one thread.

Rows are numbered in the order in which they were received, for ever; a file covers a range of numbers. So the
state at any time is one state file plus the rows that follow it, and no query depends on clocks being right.
Files are written aside and renamed; the list of files changes in one transaction with the rows' removal.
Which files there are, and whether they are sound, is `catalog`'s part; what older ones hold, `rollup`'s. A
second process is refused by a lock file, with the name of the holder.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb

from domain_twin.datastore.catalog import (
    DAY,
    EVENTS,
    HOUR,
    MINUTE,
    Catalog,
    DamagedFile,
    FileKind,
    StoredFile,
)
from domain_twin.datastore.columns import Row, changes_table, row_of
from domain_twin.datastore.encoding import ValueKind
from domain_twin.datastore.opening import open_database
from domain_twin.datastore.rollup import (
    COLUMNS,
    WIDTHS,
    aggregates,
    changed_points,
    figures_at_ends,
    last_of_each_leaf,
    mean_points,
    read,
)
from domain_twin.errors import ConfigError, NotFound
from domain_twin.model import Nanoseconds
from domain_twin.operations.lock import hold

__all__ = ["DAY", "HOUR", "MINUTE", "HistoryDatabase"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PAGE_ROWS = 10_000
_EXTENT = "min(n), max(n), min(received_at), max(received_at)"


def _mended(
    method: Callable[Concatenate[HistoryDatabase, P], T],
) -> Callable[Concatenate[HistoryDatabase, P], T]:
    """Ask again without the files that turn out to be damaged."""

    @wraps(method)
    def ask(self: HistoryDatabase, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except DamagedFile:
                continue
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                if _is_of_the_disk(error) or not self.catalog.distrust():
                    raise

    return ask  # type: ignore[return-value]  # mypy: the name of `self`


class HistoryDatabase:
    """Rows in, rows out. Every method blocks and may raise duckdb.Error or OSError."""

    def __init__(self, folder: Path, *, memory_limit: str = "512MB") -> None:
        """Open or create. Raises ConfigError: somebody else has it, or the folder cannot be written."""
        self.folder = folder
        self.damage: list[tuple[Nanoseconds, Nanoseconds, str]] = []
        """What was given up since this was last emptied: the time that it covered, and a sentence."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = hold(folder, "history")
        except OSError as error:
            raise ConfigError(
                f"history {folder} cannot be written ({error.strerror}): let the agent's account write its"
                " state folder, or set enabled = false under [history]"
            ) from error
        try:
            self._memory_limit = memory_limit
            self._connection = self._open()
            self._load()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Write the log into the database and let go of it."""
        with suppress(duckdb.Error):  # a full disk: the log is read at the next start
            self._connection.close()
        self._lock.close()

    def reconnect(self) -> None:
        """Open the database again after an error that ended the connection."""
        with suppress(duckdb.Error):
            self._connection.close()
        self._connection = self._open()
        self._load()

    def alive_at(self) -> Nanoseconds | None:
        """When rows were last written, as far as is known."""
        return self._scalar("SELECT max(heard_at) FROM alive")

    def newest(self) -> Nanoseconds | None:
        """When the newest row in a file was received."""
        return max((file.max_received for file in self.catalog.of(*EVENTS)), default=None)

    def note_alive(self, now: Nanoseconds) -> None:
        """Record that the agent runs."""
        with self.transaction():
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

    @_mended
    def roll(self) -> StoredFile | None:
        """Move the rows of the open hour to files of their own: changes, state, minutes and hours."""
        extent = self.fetch(f"SELECT {_EXTENT} FROM changes")[0]
        if extent[0] is None:
            return None
        catalog = self.catalog
        base, after = self._base(None)
        old_state = catalog.sound([base]) if base else []
        rows = [f"SELECT {COLUMNS} FROM {read(old_state)}"] if old_state else []
        rows += self._parts(after, sys.maxsize, "TRUE")
        carried = old_state[0] if old_state and not after else None
        with catalog.making() as made:
            file = catalog.create(FileKind.CHANGES, f"SELECT {COLUMNS} FROM changes ORDER BY n", extent)
            path = catalog.path(file)
            rows.append(f"SELECT {COLUMNS} FROM {read([path])}")
            state = last_of_each_leaf(" UNION ALL ".join(rows)) + " ORDER BY device, path"
            catalog.create(FileKind.STATE, state, extent)
            for kind, width in WIDTHS.items():
                catalog.create(kind, aggregates(path, carried, width), extent)
            with self.transaction():
                catalog.replace([], made, within=True)
                self._connection.execute("DELETE FROM changes")
        catalog.take_over([], made)
        self._connection.execute("CHECKPOINT")
        log.info("history rolled", extra={"file": file.name, "rows": file.last_n - file.first_n + 1})
        return file

    # --- questions

    @_mended
    def state_at(self, at: Nanoseconds, device: str = "", path: str = "") -> list[Row]:
        """The last change of each leaf until `at`, without deleted ones. Raises NotFound: too early."""
        base, after = self._since(at)
        where, values = _only(device, path)
        rows = []
        if base is not None:
            rows.append(f"SELECT {COLUMNS} FROM {read(self.catalog.sound([base]))} WHERE {where}")
        until = f"received_at <= {int(at)} AND {where}"
        rows += self._parts([file for file in after if file.min_received <= at], at, where)
        rows.append(f"SELECT {COLUMNS} FROM changes WHERE {until}")
        query = last_of_each_leaf(" UNION ALL ".join(rows)) + " ORDER BY n"
        return [row_of(cells) for cells in self.fetch(query, values)]

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
        cells, following = self.page_cells(
            cursor, start, end, device=device, path=path, regex=regex, kinds="gaps" if gaps else "changes"
        )
        return [row_of(record) for record in cells], following

    @_mended
    def page_cells(
        self,
        cursor: int,
        start: Nanoseconds,
        end: Nanoseconds,
        *,
        device: str = "",
        path: str = "",
        regex: str = "",
        kinds: str = "changes",
        rows: int = PAGE_ROWS,
    ) -> tuple[list[tuple[Any, ...]], int | None]:
        """As `page`, in columns; `kinds` is "changes", "gaps" or "all" (of both)."""
        where, values = _only(device, path)
        if kinds != "changes":
            mine = " AND device IN ('', $device)" if device else ""
            where = f"(kind = {ValueKind.GAP:d}{mine})" + (f" OR ({where})" if kinds == "all" else "")
        elif not (device or path or regex):
            where = f"kind <> {ValueKind.GAP:d}"  # with the marks, which tell versions
        if regex:
            where = f"({where}) AND (regexp_matches(path, $regex) OR kind = {ValueKind.GAP:d})"
            values["regex"] = regex
        where = f"({where}) AND received_at > {int(start)} AND received_at <= {int(end)} AND n > {cursor}"
        files = [
            file
            for file in self.catalog.of(*EVENTS)
            if file.last_n > cursor and file.max_received > start and file.min_received <= end
        ]
        newest = f"SELECT {COLUMNS} FROM changes WHERE {where}"
        if kinds == "gaps":  # few, and none among the figures: one question for all files of years
            held = [f"SELECT {COLUMNS} FROM {read(self.catalog.sound(files))} WHERE {where}"] if files else []
            questions = [[*held, newest]]
        else:
            questions = [*(self._parts([file], sys.maxsize, where) for file in files), [newest]]
        for parts in questions:
            cells = self.fetch(f"{' UNION ALL '.join(parts)} ORDER BY n LIMIT {rows}", values)
            if len(cells) == rows and cells[0][0] != cells[-1][0]:  # numbers of marks may occur twice
                last = cells[-1][0]
                while cells[-1][0] == last:
                    cells.pop()
            if cells:
                return cells, cells[-1][0]
        return [], None

    @_mended
    def last_row(self, at: Nanoseconds = sys.maxsize) -> Row | None:
        """The newest row until `at` that tells a version."""
        where = f"kind <> {ValueKind.GAP:d} AND received_at <= {int(at)}"
        for file in [None, *reversed(self.catalog.of(*EVENTS))]:
            if file is not None and file.min_received > at:
                continue
            source = read(self.catalog.sound([file])) if file else "changes"
            cells = self.fetch(f"SELECT {COLUMNS} FROM {source} WHERE {where} ORDER BY n DESC LIMIT 1")
            if cells:
                return row_of(cells[0])
        return None

    @_mended
    def points(
        self, leaves: Sequence[tuple[str, str]], start: Nanoseconds, end: Nanoseconds, width: Nanoseconds
    ) -> list[tuple[Nanoseconds, Mapping[str, Any]]]:
        """What is known of leaves over [start, end], in columns, by the width of what each row stands for.

        Width 0: changes, of which the first are what held before. Intervals of at most `width` are taken
        where there are any, else changes; where there are none either, wider intervals.
        """
        import pyarrow as pa

        try:
            base, after = self._since(start)
        except NotFound:
            base, after = None, self.catalog.of(*EVENTS)  # the series begins later
        sources: dict[FileKind, dict[str, StoredFile]] = {kind: {} for kind in FileKind}
        if base is not None:
            sources[FileKind.STATE][base.name] = base
        for file in after:
            if file.min_received <= end:
                for source in self.finest(file, width):
                    sources[source.kind][source.name] = source
                if width < MINUTE:
                    sources[file.kind][file.name] = file
        plain = list((sources[FileKind.STATE] | sources[FileKind.CHANGES] | sources[FileKind.KEPT]).values())
        where, values = _of_leaves(leaves)
        questions = [(0, changed_points(self.catalog.sound(plain), end, where))]
        for kind, size in WIDTHS.items():
            if sources[kind]:
                paths = self.catalog.sound(sources[kind].values())
                questions.append((size, mean_points(paths, (start, end), where, figures_only=width < MINUTE)))
        wanted = pa.table({"device": [leaf[0] for leaf in leaves], "path": [leaf[1] for leaf in leaves]})
        self._connection.register("wanted", wanted)
        try:
            return [(size, self._connection.execute(query, values).fetchnumpy()) for size, query in questions]
        finally:
            self._connection.unregister("wanted")

    def finest(self, file: StoredFile, width: Nanoseconds) -> list[StoredFile]:
        """The files to read for the rows of `file` at intervals of at most `width`, or the next best."""
        hours = self.catalog.covering(FileKind.HOURS, file)
        minutes = self.catalog.covering(FileKind.MINUTES, file)
        if width >= HOUR and hours:
            return [hours]
        if width >= MINUTE and minutes:
            return [minutes]
        if file.kind is FileKind.CHANGES:
            return [file]
        return [minutes] if minutes else [hours] if hours else []

    def resolution(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """Before when figures are rolled up, and to which interval they are known at `at` (0: the change)."""
        rolled = self.catalog.of(FileKind.KEPT)
        before = max((file.max_received for file in rolled), default=0)
        _, after = self._base(at)  # at the end of a file its state tells all
        for file in after:
            if file.kind is FileKind.KEPT and file.min_received <= at:
                return before, MINUTE if self.catalog.covering(FileKind.MINUTES, file) else HOUR
        return before, 0

    def copy_to(self, folder: Path) -> None:
        """Put a consistent copy in an empty folder: Parquet files by link, the database by content."""
        self._connection.execute("CHECKPOINT")
        folder.mkdir(parents=True)
        shutil.copyfile(self.folder / "history.duckdb", folder / "history.duckdb")
        log_file = self.folder / "history.duckdb.wal"
        if log_file.exists():
            shutil.copyfile(log_file, folder / log_file.name)
        for file in self.catalog.of(*FileKind):
            source, target = self.catalog.path(file), folder / file.kind / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # a file system without links
                shutil.copyfile(source, target)

    # --- for the steps of `maintenance`

    def fetch(self, query: str, values: Mapping[str, str] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        rows: list[tuple[Any, ...]] = self._connection.execute(query, dict(values or {})).fetchall()
        return rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block executes, or nothing of it."""
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            raise

    def base_of(self, file: StoredFile) -> StoredFile | None:
        """The state right before the rows of `file`, where it is kept."""
        return next((s for s in self.catalog.of(FileKind.STATE) if s.last_n == file.first_n - 1), None)

    # --- inside

    def _base(self, at: Nanoseconds | None) -> tuple[StoredFile | None, list[StoredFile]]:
        """The newest state with nothing in it from after `at` (None: the newest), the events after it."""
        events = self.catalog.of(*EVENTS)
        base: StoredFile | None = None
        newest = 0  # a clock that was set back can put older rows behind newer ones
        queue = iter(events)
        event = next(queue, None)
        for state in self.catalog.of(FileKind.STATE):
            while event and event.last_n <= state.last_n:
                newest = max(newest, event.max_received)
                event = next(queue, None)
            newest = max(newest, state.max_received)
            if at is not None and newest > at:
                break
            base = state
        return base, [file for file in events if base is None or file.first_n > base.last_n]

    def _since(self, at: Nanoseconds) -> tuple[StoredFile | None, list[StoredFile]]:
        base, after = self._base(at)
        events = self.catalog.of(*EVENTS)
        beginning = events[0].min_received if events else self._scalar("SELECT min(received_at) FROM changes")
        if base is None and beginning is not None and at < beginning:
            raise NotFound(
                f"history begins at {_text(beginning)}: nothing is known of {_text(at)}; ask for a later time"
            )
        return base, after

    def _parts(self, files: Sequence[StoredFile], at: Nanoseconds, where: str) -> list[str]:
        """Queries for the rows of files until `at`, rolled-up figures included."""
        where = f"received_at <= {int(at)} AND ({where})"
        parts = []
        if files:
            parts.append(f"SELECT {COLUMNS} FROM {read(self.catalog.sound(files))} WHERE {where}")
        for file in files:
            if file.kind is FileKind.KEPT:
                for source in self.finest(file, MINUTE):
                    mine = f"n BETWEEN {file.first_n} AND {file.last_n} AND {where}"
                    paths = self.catalog.sound([source])
                    parts.append(figures_at_ends(paths, WIDTHS[source.kind], mine))
        return parts

    def _scalar(self, query: str) -> int | None:
        value: int | None = self._connection.execute(query).fetchall()[0][0]
        return value

    def _load(self) -> None:
        self.catalog = Catalog(self.folder, self._connection, self._note_damage)
        self.catalog.load(self._scalar("SELECT min(n) FROM changes"))
        newest = self._scalar("SELECT max(n) FROM changes")
        self.next_n = max(newest or 0, *(file.last_n for file in self.catalog.of(*FileKind)), 0) + 1

    def _note_damage(self, file: StoredFile, sentence: str) -> None:
        events = file.kind in EVENTS and file.max_received > 0
        self.damage.append((file.min_received if events else 0, file.max_received if events else 0, sentence))

    def _open(self) -> duckdb.DuckDBPyConnection:
        settings: dict[str, str | int] = {"memory_limit": self._memory_limit, "threads": 2}
        connection, given_up = open_database(self.folder, settings)
        if given_up:
            self.damage.append((-1, -1, given_up))
        return connection


def _is_of_the_disk(error: duckdb.Error) -> bool:
    return any(
        sign in str(error) for sign in ("No space", "Could not write", "Read-only", "Permission denied")
    )


def _only(device: str, path: str) -> tuple[str, dict[str, str]]:
    wanted = {name: value for name, value in (("device", device), ("path", path)) if value}
    return " AND ".join([f"kind < {ValueKind.GAP:d}", *(f"{name} = ${name}" for name in wanted)]), wanted


def _of_leaves(leaves: Sequence[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    if len(leaves) == 1:
        return "device = $device AND path = $path", {"device": leaves[0][0], "path": leaves[0][1]}
    return "(device, path) IN (SELECT (device, path) FROM wanted)", {}


def _text(at: Nanoseconds) -> str:
    try:
        return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return str(at)
