"""Trainings that a domain was asked to take part in: whose they are, what was answered, that they ended.

Owns one SQLite file, which outlives restarts. Bounded: the oldest are forgotten. Where it cannot be written
nothing is answered, as what is not remembered would be answered twice. Knows no data and no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain_twin.datastore.durable import set_aside
from domain_twin.errors import ContractError, OverCapacity
from domain_twin.learning.task import Task
from domain_twin.model import Nanoseconds

__all__ = ["Asked", "Remembered", "steady_clock"]

log = logging.getLogger(__name__)

_OPEN: Final = 64
"""Trainings under way; the one that was asked for first is over when there is one more."""
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_MISMATCH")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, peer TEXT NOT NULL, model TEXT NOT NULL,
    task TEXT NOT NULL, asked_at INTEGER NOT NULL, begun_at INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS run_model ON run (model, begun_at);
CREATE TABLE IF NOT EXISTS answered (
    run TEXT NOT NULL, message BLOB NOT NULL, PRIMARY KEY (run, message)
) STRICT, WITHOUT ROWID;
"""


def steady_clock() -> Callable[[], Nanoseconds]:
    """A clock that begins at the time of day and that nobody sets afterwards, nanoseconds since 1970."""
    begin, start = time.time_ns(), time.monotonic_ns()
    return lambda: begin + time.monotonic_ns() - start


@dataclass(frozen=True, slots=True)
class Asked:
    """What is remembered of one training."""

    peer: str
    task: str
    """SHA-256 of the task's JSON, hexadecimal."""
    asked_at: Nanoseconds
    """When the domain was asked first, by its clock: a window without an end ends there."""
    ended: bool

    def same(self, peer: str, task: Task) -> bool:
        """Whether this is the same training of the same peer."""
        return (self.peer, self.task) == (peer, _digest(task))


class Remembered:
    """The file. Its methods are quick, and for one thread; they raise OverCapacity where there is no disk."""

    def __init__(
        self, path: Path, *, kept: int = 4096, clock: Callable[[], Nanoseconds] | None = None
    ) -> None:
        """`clock` tells how long ago a training began; default: `steady_clock`."""
        self.problem = ""
        """Why the last question could not be answered, or what was lost; in words."""
        self._path = path
        self._kept = kept
        self._clock = clock or steady_clock()
        self._open: sqlite3.Connection | None = None

    def get(self, run: str) -> Asked | None:
        """What is remembered of a training."""
        with self._database() as database:
            row = database.execute("SELECT peer, task, asked_at, ended FROM run WHERE id = ?", (run,))
            found = row.fetchone()
        return Asked(found[0], found[1], found[2], bool(found[3])) if found else None

    def begin(self, run: str, peer: str, task: Task, asked_at: Nanoseconds) -> Asked:
        """Remember that a training was asked for, unless it was before; what is remembered of it then."""
        row = (run, peer, task.model, _digest(task), asked_at, self._clock())
        with self._database() as database, database:
            database.execute(
                "INSERT OR IGNORE INTO run (id, peer, model, task, asked_at, begun_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            database.execute(
                "UPDATE run SET ended = 1 WHERE NOT ended AND number <="
                " (SELECT number FROM run WHERE NOT ended ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (_OPEN,),
            )
            database.execute(
                "DELETE FROM run WHERE number <= (SELECT max(number) FROM run) - ?", (self._kept,)
            )
            database.execute("DELETE FROM answered WHERE run NOT IN (SELECT id FROM run WHERE NOT ended)")
        found = self.get(run)
        assert found
        return found

    def answer(self, run: str, message: bytes, *, most: int) -> None:
        """Remember that a message is answered. Raises ContractError for one that was, OverCapacity."""
        digest = hashlib.sha256(message).digest()
        with self._database() as database, database:
            try:
                database.execute("INSERT INTO answered VALUES (?, ?)", (run, digest))
            except sqlite3.IntegrityError:
                raise ContractError(
                    f"run {run}: this message came before; it is not answered twice"
                ) from None
            (count,) = database.execute("SELECT count(*) FROM answered WHERE run = ?", (run,)).fetchone()
            if count > most:
                raise OverCapacity(
                    f"run {run}: {most} messages were answered, which its rounds do not need; no more are"
                )

    def end(self, run: str) -> None:
        """Remember that a training is over, if it was asked for here; its messages are forgotten."""
        with self._database() as database, database:
            database.execute("UPDATE run SET ended = 1 WHERE id = ?", (run,))
            database.execute("DELETE FROM answered WHERE run = ?", (run,))

    def since_s(self, model: str) -> float | None:
        """Seconds since a training of `model` was last begun; None: none is remembered."""
        with self._database() as database:
            (at,) = database.execute("SELECT max(begun_at) FROM run WHERE model = ?", (model,)).fetchone()
        return None if at is None else (self._clock() - at) / 1e9

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._open is None:
                self._open = self._opened()
            yield self._open
        except sqlite3.Error as error:
            self.close()
            self.problem = f"{self._path}: {error}"
            log.error("trainings cannot be remembered", extra={"reason": self.problem})
            raise OverCapacity(
                "what was answered cannot be remembered here now, so that nothing is; its operator sees why"
            ) from error
        else:
            if not self.problem.startswith(_LOST):
                self.problem = ""

    def _opened(self) -> sqlite3.Connection:
        """The open file; a damaged one is set aside. Raises sqlite3.Error."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._made()
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") not in _DAMAGED:
                raise
            self.problem = f"{_LOST} ({error})"
            log.error("trainings are not remembered", extra={"path": str(self._path), "reason": str(error)})
            try:
                set_aside(self._path, time.time_ns())
            except OSError as stays:
                raise sqlite3.OperationalError(str(stays)) from stays
            return self._made()

    def _made(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5.0)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(_SCHEMA)
            # A clock that was set back since must not make an interval longer than it is.
            with database:
                database.execute("UPDATE run SET begun_at = min(begun_at, ?)", (self._clock(),))
        except BaseException:
            database.close()
            raise
        return database


_LOST: Final = "what was remembered of trainings was damaged and set aside"


def _digest(task: Task) -> str:
    return hashlib.sha256(task.to_json()).hexdigest()
