"""Which Parquet files a history consists of, and whether each is still what was written. For one thread.

    changes/  every row of a range of numbers, in order
    kept/     the same after roll-up: all but the figures, whose values are in the next two
    state/    every leaf as the range left it
    minutes/  for each leaf and minute in which it changed: min, max, mean, last, count, seconds known
    hours/    the same by the hour; a file may hold a month

A file's name ends in the CRC-32 of its content, and what it covers is in its footer: the list can be made
anew from the files alone. A file is checked before it is read for the first time. One that is missing, cut
off, changed or foreign is renamed and never read again; the caller learns which time it covered.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb

from domain_twin.datastore.durable import put_in_place, set_aside
from domain_twin.model import Nanoseconds

log = logging.getLogger(__name__)

MINUTE: Nanoseconds = 60_000_000_000
HOUR: Nanoseconds = 60 * MINUTE
DAY: Nanoseconds = 24 * HOUR
_KEY = "fedtwin"
_NAME = re.compile(r".*-(?P<first>[0-9]{12})(?:-(?P<crc>[0-9a-f]{8}))?\.parquet$")
_CHUNK = 1 << 20


class FileKind(StrEnum):
    """What a file holds; its folder has the same name."""

    CHANGES = "changes"
    KEPT = "kept"
    STATE = "state"
    MINUTES = "minutes"
    HOURS = "hours"


EVENTS = (FileKind.CHANGES, FileKind.KEPT)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file, the range of row numbers that it covers, and the times between which they were received."""

    kind: FileKind
    name: str  # "day=2026-11-21/14-000000123456-9f3c21aa.parquet"
    first_n: int
    last_n: int
    min_received: Nanoseconds
    max_received: Nanoseconds

    @property
    def day(self) -> str:
        """The day of its newest row."""
        return f"{_when(self.max_received):%Y-%m-%d}"


class DamagedFile(Exception):
    """A file was found damaged and is out of the catalogue: plan the question anew."""


class Catalog:
    """The files of one history. `on_damage` is told of each file that is given up."""

    def __init__(
        self,
        folder: Path,
        connection: duckdb.DuckDBPyConnection,
        on_damage: Callable[[StoredFile, str], None],
    ) -> None:
        self._folder = folder
        self._connection = connection
        self._on_damage = on_damage
        self._sound: set[tuple[FileKind, str]] = set()
        self._made: list[StoredFile] = []
        self._committing = False
        self._files: dict[FileKind, list[StoredFile]] = {kind: [] for kind in FileKind}

    def of(self, *kinds: FileKind) -> list[StoredFile]:
        """The files of some kinds, by their rows' numbers."""
        found = [file for kind in kinds for file in self._files[kind]]
        return sorted(found, key=lambda file: file.first_n)

    def covering(self, kind: FileKind, file: StoredFile) -> StoredFile | None:
        """The file of another kind that covers the rows of `file`."""
        for other in reversed(self._files[kind]):
            if other.first_n <= file.first_n and other.last_n >= file.last_n:
                return other
        return None

    def path(self, file: StoredFile) -> Path:
        """Where a file lies."""
        return self._folder / file.kind / file.name

    def sound(self, files: Iterable[StoredFile]) -> list[Path]:
        """The paths of files, each checked once. Raises DamagedFile after giving up the unsound ones."""
        paths = []
        damaged = False
        for file in files:
            path = self.path(file)
            if (file.kind, file.name) not in self._sound:
                if reason := fault(path, self._connection):
                    self.give_up(file, reason)
                    damaged = True
                    continue
                self._sound.add((file.kind, file.name))
            paths.append(path)
        if damaged:
            raise DamagedFile
        return paths

    def distrust(self) -> bool:
        """Check every file again after an unexpected error in reading; True when one was given up."""
        self._sound.clear()
        found = self.of(*FileKind)
        for file in found:
            with suppress(DamagedFile):
                self.sound([file])
        return len(self.of(*FileKind)) < len(found)

    def give_up(self, file: StoredFile, reason: str) -> None:
        """Never read a file again: out of the list, and renamed where that is possible."""
        path = self.path(file)
        kept = "it is gone"
        with suppress(OSError):
            kept = f"it was set aside as {set_aside(path, file.first_n).name}"
        with suppress(duckdb.Error):
            self.replace([file], [])
        self._files[file.kind] = [other for other in self._files[file.kind] if other != file]
        log.error("history file given up", extra={"file": str(path), "why": reason, "kept": kept})
        self._on_damage(file, f"{file.kind}/{file.name} {reason}; {kept}")

    def create(
        self, kind: FileKind, query: str, extent: tuple[int, int, Nanoseconds, Nanoseconds], *, part: str = ""
    ) -> StoredFile:
        """Write the rows of `query` to a new file, in place but not listed yet."""
        first, last, oldest, newest = extent
        at = _when(newest)
        folder = f"month={at:%Y-%m}" if part == "month" else f"day={at:%Y-%m-%d}"
        written = self._folder / f"{kind}.tmp"
        covers = json.dumps([kind.value, *extent])
        self._connection.execute(
            f"COPY ({query}) TO {quoted(written)} (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2,"
            f" KV_METADATA {{{_KEY}: '{covers}'}})"
        )
        name = f"{folder}/{part or f'{at:%H}'}-{first:012d}-{checksum(written):08x}.parquet"
        file = StoredFile(kind, name, first, last, oldest, newest)
        put_in_place(written, self.path(file))
        self._sound.add((kind, name))
        self._made.append(file)
        return file

    @contextmanager
    def making(self) -> Iterator[list[StoredFile]]:
        """Collect what `create` makes; where the block fails, none of it stays."""
        self._made = []
        self._committing = False
        try:
            yield self._made
        except BaseException:
            if self._committing:  # nobody knows whether it was: the next start does
                raise
            for file in self._made:
                with suppress(OSError):
                    self.path(file).unlink(missing_ok=True)
            for kind in FileKind:
                with suppress(OSError):
                    (self._folder / f"{kind}.tmp").unlink(missing_ok=True)
            raise

    def replace(self, old: Sequence[StoredFile], new: Sequence[StoredFile], *, within: bool = False) -> None:
        """Change the list; `within` a transaction of the caller, who calls `take_over` after it."""
        if not within:
            self._connection.execute("BEGIN")
        try:
            for file in old:
                self._connection.execute(
                    "DELETE FROM catalog WHERE kind = ? AND name = ?", [file.kind.value, file.name]
                )
            for file in new:
                kind, *rest = astuple(file)
                self._connection.execute("INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?)", [kind.value, *rest])
            self._committing = True
            if not within:
                self._connection.execute("COMMIT")
        except BaseException:
            if not within:
                with suppress(duckdb.Error):
                    self._connection.execute("ROLLBACK")
            raise
        if not within:
            self.take_over(old, new)

    def take_over(self, old: Sequence[StoredFile], new: Sequence[StoredFile]) -> None:
        """After the commit: the list in memory, and the end of the old files."""
        for file in old:
            self._files[file.kind].remove(file)
            self._sound.discard((file.kind, file.name))
        for file in new:
            self._files[file.kind].append(file)
            self._files[file.kind].sort(key=lambda item: item.first_n)
        remaining = {self.path(file) for file in new}
        for file in old:
            if self.path(file) not in remaining:
                with suppress(OSError):  # swept at the next start
                    self.path(file).unlink(missing_ok=True)

    def load(self, open_from: int | None) -> None:
        """Read the list and mend it: what a crash left half-way is dropped, a lost list is made anew.

        `open_from`: the first row that is still in the database.
        """
        for kind in FileKind:
            (self._folder / f"{kind}.tmp").unlink(missing_ok=True)
        listed = [
            StoredFile(FileKind(kind), *rest)
            for kind, *rest in self._connection.execute("SELECT * FROM catalog ORDER BY first_n").fetchall()
        ]
        for file in listed:
            self._files[file.kind].append(file)
        had_list = bool(listed)
        found = self._unlisted({(file.kind, file.name) for file in listed})
        fresh: list[StoredFile] = []
        for file in found:
            if open_from is not None and file.last_n >= open_from:
                self.path(file).unlink()  # still in the table: it will be written again
            elif had_list and any(_overlap(file, other) for other in listed if _same_role(file, other)):
                self.path(file).unlink()  # made or left over by a step that was cut off
            elif had_list and file.first_n <= max(other.last_n for other in listed):
                self.path(file).unlink()  # expired, or given up
            else:
                fresh.append(file)
        if fresh:
            self.replace([], _consistent(fresh, self.path))

    def _unlisted(self, known: set[tuple[FileKind, str]]) -> list[StoredFile]:
        found = []
        for kind in FileKind:
            for path in sorted((self._folder / kind).glob("*=*/*.parquet")):
                name = f"{path.parent.name}/{path.name}"
                if (kind, name) in known:
                    continue
                reason = fault(path, self._connection)
                extent = None if reason else _extent(kind, path, self._connection)
                if extent is None:
                    gone = StoredFile(kind, name, 0, 0, 0, 0)
                    self.give_up(gone, reason or "is no file of this history")
                    continue
                found.append(StoredFile(kind, name, *extent))
        return found


def checksum(path: Path) -> int:
    """CRC-32 of a file's content. Raises OSError."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def fault(path: Path, connection: duckdb.DuckDBPyConnection) -> str:
    """What is wrong with a file, in words; empty: nothing."""
    name = _NAME.match(path.name)
    if name is None:
        return "is no file of this history"
    try:
        if name["crc"] is not None:
            return "" if f"{checksum(path):08x}" == name["crc"] else "is damaged (its checksum is wrong)"
        # Files of the first release have no checksum in their name: decode all of it instead.
        connection.execute(
            f"SELECT bit_xor(hash(r)) FROM read_parquet({quoted(path)}, hive_partitioning=false) r"
        ).fetchall()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except duckdb.Error as error:
        return f"is damaged ({str(error).partition(chr(10))[0][:200]})"
    return ""


def quoted(path: Path) -> str:
    """A path as SQL text."""
    return "'" + str(path).replace("'", "''") + "'"


def _extent(
    kind: FileKind, path: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[int, int, Nanoseconds, Nanoseconds] | None:
    """What a file covers: from its footer, or (files of the first release) from its rows."""
    try:
        held: list[Any] = connection.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata({quoted(path)}) WHERE decode(key) = '{_KEY}'"
        ).fetchall()
        if held:
            told, first, last, oldest, newest = json.loads(held[0][0])
            return (int(first), int(last), int(oldest), int(newest)) if told == kind.value else None
        if kind is not FileKind.CHANGES:
            return None
        row = connection.execute(
            f"SELECT min(n), max(n), min(received_at), max(received_at) FROM read_parquet({quoted(path)})"
        ).fetchall()[0]
    except (duckdb.Error, ValueError, TypeError):
        return None
    return None if row[0] is None else row


def _consistent(files: Sequence[StoredFile], path: Callable[[StoredFile], Path]) -> list[StoredFile]:
    """Of files whose list was lost: those that belong together. Others, from steps cut off, are deleted."""
    chosen: list[StoredFile] = []
    for kind in FileKind:
        mine = [file for file in files if file.kind is kind]
        if kind is FileKind.STATE:
            chosen += mine
            continue
        # Short files first: a longer one that they make up together may lack its companions.
        for file in sorted(mine, key=lambda item: item.last_n - item.first_n):
            parts = [other for other in chosen if other.kind is kind and _overlap(file, other)]
            whole = (
                bool(parts) and sum(p.last_n - p.first_n + 1 for p in parts) == file.last_n - file.first_n + 1
            )
            if whole:
                path(file).unlink(missing_ok=True)
                continue
            for part in parts:
                chosen.remove(part)
                path(part).unlink(missing_ok=True)
            chosen.append(file)
    raw = [file for file in chosen if file.kind is FileKind.CHANGES]
    for file in [file for file in chosen if file.kind is FileKind.KEPT]:
        if any(_overlap(file, other) for other in raw):  # the raw rows were not deleted yet
            chosen.remove(file)
            path(file).unlink(missing_ok=True)
    return chosen


def _overlap(a: StoredFile, b: StoredFile) -> bool:
    return a.first_n <= b.last_n and b.first_n <= a.last_n


def _same_role(a: StoredFile, b: StoredFile) -> bool:
    return a.kind is b.kind or (a.kind in EVENTS and b.kind in EVENTS)


def _when(at: Nanoseconds) -> datetime:
    return datetime.fromtimestamp(at // 1_000_000_000, UTC)
