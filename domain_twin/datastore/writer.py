"""The thread that owns the history's database. Owns when rows are written, rolled and deleted; reads nothing.

Between writes it runs what `submit` hands it, so that a question sees everything appended before it. Nothing
that a device can say, and no full disk, ends the thread: rows that cannot be written now wait, a row that can
never be written is replaced by a gap.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from domain_twin.datastore.buffer import ChangeBuffer
from domain_twin.datastore.catalog import DamagedFile
from domain_twin.datastore.columns import Gap, Row
from domain_twin.datastore.database import HOUR, HistoryDatabase
from domain_twin.datastore.maintenance import Retention, step
from domain_twin.errors import ConfigError, NotFound
from domain_twin.model import Nanoseconds

log = logging.getLogger(__name__)
T = TypeVar("T")

ALIVE_EVERY: Nanoseconds = 60_000_000_000
STEPS_EVERY: Nanoseconds = 60_000_000_000
JUMP: Nanoseconds = 5_000_000_000  # a clock that is slewed moves by less between two writes


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How the history is written."""

    retention: Retention
    flush_s: float
    batch_rows: int
    max_rows: int
    memory_limit: str
    clock: Callable[[], Nanoseconds]
    monotonic: Callable[[], Nanoseconds] | None = None  # None: jumps of the clock are not noticed
    read_only: bool = False


class HistoryWriter:
    """A thread with a buffer in front of it and a database behind it."""

    def __init__(self, folder: Path, settings: WriterSettings) -> None:
        self.buffer = ChangeBuffer(settings.max_rows)
        self.written = 0
        self.problem = ""
        self.closing = False
        self._folder = folder
        self._settings = settings
        self._clock = settings.clock
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._database: HistoryDatabase | None = None
        self._next_alive: Nanoseconds = 0
        self._next_step: Nanoseconds = 0
        self._clocks: tuple[Nanoseconds, Nanoseconds] | None = None
        self.given_up: list[str] = []
        """A sentence for each file that was given up since the start."""
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    @property
    def database(self) -> HistoryDatabase:
        """The database; only for what `submit` runs. Raises NotFound: closed."""
        if self._database is None:
            raise NotFound(f"history {self._folder} is closed")
        return self._database

    def start(self) -> Future[None]:
        """Start the thread; the future holds what went wrong with opening."""
        opened = self.submit(self._open)
        self._thread.start()
        return opened

    def stop(self) -> None:
        """Write what waits, close the database, end the thread."""
        with self._wake:
            self.closing = True
            self._wake.notify()
        self._thread.join()

    def submit(self, question: Callable[[], T]) -> Future[T]:
        """Have the thread run `question` after everything appended so far was written."""
        answer: Future[T] = Future()

        def job() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        with self._wake:
            if self.closing:
                raise NotFound(f"history {self._folder} is closed")
            self._jobs.append(job)
            self._wake.notify()
        return answer

    def nudge(self) -> None:
        """Write soon if a whole batch waits."""
        if len(self.buffer) >= self._settings.batch_rows:
            with self._wake:
                self._wake.notify()

    def write(self) -> None:
        """Write all that waits. Raises duckdb.Error or OSError; what is not on disk then waits on."""
        database = self.database
        if self._settings.read_only:
            return
        now = self._clock()
        self._watch_clock(now)
        self._note_damage(now)
        rows = self.buffer.take()
        done = 0
        try:
            for first, last in _hours(rows, database.open_hour()):
                if last > first:
                    self._write_rows(rows[first:last])
                    done = last
                else:
                    self._roll()
            hour = database.open_hour()
            if hour is not None and hour != now // HOUR:  # also after a clock that had jumped ahead
                self._roll()
            if done or now >= self._next_alive:
                database.note_alive(now)
                self._next_alive = now + ALIVE_EVERY
        finally:
            self.written += done
            self.buffer.put_back(rows[done:])
        self.problem = ""

    def _open(self) -> None:
        database = HistoryDatabase(self._folder, memory_limit=self._settings.memory_limit)
        self._database = database
        heard = database.alive_at() or database.newest()
        now = self._clock()
        self._watch_clock(now)
        if heard is not None and heard < now and not self._settings.read_only:
            self.buffer.add(Row("", 0, Gap("", heard, now, "the agent did not run")))
        elif heard is not None and heard - now > JUMP:
            reason = f"the agent's clock was set back by {(heard - now) / 1e9:.0f} s while it did not run"
            self.buffer.add(Row("", 0, Gap("", now, heard, reason)))
        self._note_damage(now)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._urgent, timeout=self._settings.flush_s)
                jobs = list(self._jobs)
                self._jobs.clear()
                closing = self.closing
            self._try_to_write()
            for job in jobs:
                job()
            if closing:
                break
            if not jobs and not self.problem:
                self._maintain()
        self._try_to_write()
        if self._database is not None:
            if len(self.buffer):
                log.error("history lost rows at its end", extra={"rows": len(self.buffer)})
            self._database.close()
            self._database = None

    def _urgent(self) -> bool:
        full = len(self.buffer) >= self._settings.batch_rows and not self.problem
        return bool(self._jobs) or self.closing or full

    def _try_to_write(self) -> None:
        if self._database is None:
            return
        try:
            self.write()
        except (duckdb.Error, OSError) as error:
            reason = str(error).partition("\n")[0]
            if reason != self.problem:
                log.error("history cannot write", extra={"folder": str(self._folder), "problem": reason})
            self.problem = reason
            if isinstance(error, duckdb.FatalException):
                self._reconnect()
        except DamagedFile:
            self.problem = "a file was given up while it was read"

    def _reconnect(self) -> None:
        assert self._database is not None
        try:
            self._database.reconnect()
        except (ConfigError, duckdb.Error, OSError) as error:  # the disk is still full, or gone: later
            self.problem = str(error).partition("\n")[0]

    def maintain(self) -> bool:
        """Do one step of what makes old history smaller; False: none is due. Only for what `submit` runs."""
        return step(self.database, self._settings.retention, self._clock())

    def _maintain(self) -> None:
        """Do one step of what makes old history smaller, if one is due."""
        now = self._clock()
        if self._database is None or self._settings.read_only or now < self._next_step:
            return
        try:
            if not self.maintain():
                self._next_step = now + STEPS_EVERY
        except (duckdb.Error, OSError, DamagedFile) as error:
            self._next_step = now + STEPS_EVERY
            log.error("history not compacted", extra={"folder": str(self._folder), "problem": str(error)})
            if isinstance(error, duckdb.FatalException):
                self._reconnect()

    def _watch_clock(self, now: Nanoseconds) -> None:
        """Record that the agent's clock was changed: times before and after do not add up."""
        if self._settings.monotonic is None:
            return
        true = self._settings.monotonic()
        before, self._clocks = self._clocks, (now, true)
        if before is None:
            return
        expected = before[0] + true - before[1]
        jump = now - expected
        if abs(jump) > JUMP:
            word = "jumped ahead" if jump > 0 else "was set back"
            reason = f"the agent's clock {word} by {abs(jump) / 1e9:.0f} s"
            log.warning("clock jumped", extra={"by_s": jump / 1e9})
            self._next_alive = self._next_step = 0
            self.buffer.add(Row("", 0, Gap("", min(now, expected), max(now, expected), reason)))

    def _note_damage(self, now: Nanoseconds) -> None:
        """Record the times that are not known any more because a file was given up."""
        assert self._database is not None
        for start, end, sentence in self._database.damage:
            self.given_up.append(sentence)
            span = (start, end) if start >= 0 else (self._database.newest() or now, now)  # else the open hour
            if span[1] > 0:
                self.buffer.add(Row("", 0, Gap("", *span, f"history lost: {sentence}")))
        self._database.damage.clear()

    def _write_rows(self, rows: list[Row]) -> None:
        try:
            self.database.write(rows)
        except (ValueError, TypeError, OverflowError) as error:
            if len(rows) == 1:
                self.database.write([_replacement(rows[0], error)])
                self.buffer.dropped += 1
                return
            half = len(rows) // 2
            self._write_rows(rows[:half])
            self._write_rows(rows[half:])

    def _roll(self) -> None:
        self.database.roll()
        self._next_step = 0


def _hours(rows: list[Row], open_hour: int | None) -> Iterator[tuple[int, int]]:
    """Slices of `rows` of one hour each, an empty one between two: roll there."""
    first, hour = 0, open_hour
    for i, row in enumerate(rows):
        now = row.received_at // HOUR
        if hour is not None and now > hour:  # never back: after a clock was set back the hour stays open
            if i > first:
                yield first, i
            yield i, i
            first = i
        hour = now if hour is None else max(hour, now)
    if len(rows) > first:
        yield first, len(rows)


def _replacement(row: Row, error: Exception) -> Row:
    """What stands for a change that columns cannot hold (a lone surrogate, say)."""
    device, _ = row.key
    reason = f"a change that could not be stored ({type(error).__name__})"
    log.error("history left out a change", extra={"device": device, "problem": str(error)})
    clean = device.encode(errors="replace").decode()
    return Row(row.epoch, row.sequence, Gap(clean, row.received_at, row.received_at, reason, 1))
