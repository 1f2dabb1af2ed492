"""What devices reported, and when: written behind the live state, read by time. Owns the questions.

`append` never waits. A thread of its own (`writer`) owns the database: it writes every `flush_s` or
`batch_rows`, rolls full hours to Parquet, rolls up what is older than `raw_days` and deletes what is older
than the retention. Every answer includes all that was appended before the question. All times are the agent's
(`received_at`).

In the rolled-up past, what is no figure (text, states, deletions) is known to the change, as ever. A figure
is known by the minute, later by the hour: a state has the value that it had when the last full interval
ended.
`Snapshot.resolution_ns` and `resolution` say which.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from domain_twin.datastore.encoding import decode, same
from domain_twin.datastore.patterns import PathPattern
from domain_twin.datastore.snapshot import Leaf, Snapshot, snapshot_of
from domain_twin.errors import NotFound
from domain_twin.model import Change, Delta, Finding, Nanoseconds, Sample, Severity, Version

if TYPE_CHECKING:
    from domain_twin.datastore.columns import Gap, Row
    from domain_twin.datastore.database import HistoryDatabase
    from domain_twin.datastore.writer import HistoryWriter

T = TypeVar("T")

MINUTE: Nanoseconds = 60_000_000_000
HOUR: Nanoseconds = 60 * MINUTE
DAY: Nanoseconds = 24 * HOUR
FINE = 8  # so many intervals make a step that may begin anywhere; so a year in 1,000 steps reads hours
GIVEN_UP_SHOWN = 10
FOREVER: Nanoseconds = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How the writing goes. Counters count since the history was opened."""

    written: int  # rows on disk
    waiting: int  # rows not yet on disk
    dropped: int  # changes left out under overload; each is within a recorded gap
    problem: str = ""  # why rows wait, in words


class History:
    """The recorded past of one domain. Made by `History.open`."""

    def __init__(self, writer: HistoryWriter) -> None:
        self._writer = writer

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        raw_days: float = 14.0,
        minute_days: float = 180.0,
        retention_days: float = 1095.0,
        flush_s: float = 1.0,
        batch_rows: int = 10_000,
        max_rows: int = 200_000,
        memory_limit: str = "512MB",
        clock: Callable[[], Nanoseconds] = time.time_ns,
        monotonic: Callable[[], Nanoseconds] | None = None,
        read_only: bool = False,
    ) -> History:
        """Open or create the history in `folder`. Raises ConfigError: another process holds it.

        The time since it was last written is recorded as a gap of all devices. With a `monotonic` clock,
        jumps of `clock` are recorded as gaps, too. `read_only`: nothing is recorded or rolled.
        """
        from domain_twin.datastore.maintenance import Retention
        from domain_twin.datastore.writer import HistoryWriter, WriterSettings

        retention = Retention(*(int(days * DAY) for days in (raw_days, minute_days, retention_days)))
        settings = WriterSettings(
            retention, flush_s, batch_rows, max_rows, memory_limit, clock, monotonic, read_only
        )
        writer = HistoryWriter(folder, settings)
        try:
            await asyncio.wrap_future(writer.start())
        except BaseException:
            writer.stop()
            raise
        return cls(writer)

    def append(self, delta: Delta) -> None:
        """Take the changes of a delta. Never waits; under overload the newest of each leaf is kept."""
        self._writer.buffer.append(delta)
        self._writer.nudge()

    def gap(self, device: str, start: Nanoseconds, end: Nanoseconds, reason: str) -> None:
        """Record that a device (empty: any) was not heard between two times."""
        from domain_twin.datastore.columns import Gap, Row

        self._writer.buffer.add(Row("", 0, Gap(device, start, end, reason)))

    async def align(self, snapshot: Snapshot, now: Nanoseconds | None = None) -> int:
        """Record how `snapshot`, the state that the agent goes on from, differs from what was recorded last.

        To be called once after a restart, before the first `append`. Returns the number of corrections.
        """
        at = time.time_ns() if now is None else now
        return await self._ask(lambda db: self._align(db, snapshot, at))

    async def flush(self) -> None:
        """Return when all that was appended is on disk. Raises duckdb.Error or OSError: why it is not."""
        await self._ask(lambda _: self._writer.write())

    async def close(self) -> None:
        """Write what waits and let go of the files."""
        if not self._writer.closing:
            await asyncio.to_thread(self._writer.stop)

    def status(self) -> HistoryStatus:
        """How the writing goes."""
        writer = self._writer
        return HistoryStatus(writer.written, len(writer.buffer), writer.buffer.dropped, writer.problem)

    async def state_at(self, at: Nanoseconds) -> Snapshot:
        """What devices had reported until `at`. Raises NotFound: before the beginning."""
        from domain_twin.datastore.columns import leaf_of, version_of

        rows, last, (_, resolution_ns) = await self._ask(
            lambda db: (db.state_at(at), db.last_row(at), db.resolution(at))
        )
        version = version_of(last) if last else Version("", 0)
        snapshot = snapshot_of(version, [leaf for row in rows if (leaf := leaf_of(row))])
        return replace(snapshot, resolution_ns=resolution_ns)

    async def resolution(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """Before when figures are rolled up, and to which interval they are known at `at` (0: the change)."""
        return await self._ask(lambda db: db.resolution(at))

    async def deltas(
        self, start: Nanoseconds, end: Nanoseconds, pattern: str = "/", device: str = ""
    ) -> AsyncIterator[Delta]:
        """The recorded deltas received in (start, end], in order, of the leaves that `pattern` names.

        `state_at(start)` followed by these is `state_at(end)`. In the rolled-up past a figure changes at the
        end of its interval, in a delta of another change's version.
        """
        changes: list[Change] = []
        version = Version("", 0)
        async for row in self._rows(start, end, pattern, device):
            if row.epoch and (row.epoch, row.sequence) != (version.epoch, version.sequence):
                if changes and version.epoch:
                    yield _delta(version, changes)
                    changes = []
                version = Version(row.epoch, row.sequence)
            if isinstance(row.content, Change):
                changes.append(row.content)
        if changes:
            yield _delta(version, changes)

    async def changes(
        self, start: Nanoseconds, end: Nanoseconds, pattern: str = "/", device: str = ""
    ) -> AsyncIterator[Change]:
        """The recorded changes received in (start, end], in order, of the leaves that `pattern` names."""
        async for row in self._rows(start, end, pattern, device):
            if isinstance(row.content, Change):
                yield row.content

    async def pages(
        self, start: Nanoseconds, end: Nanoseconds, pattern: str = "/", device: str = "", *, rows: int
    ) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Changes and gaps received in (start, end] as columns, page by page, without versions' marks."""
        regex = "" if pattern == "/" else PathPattern.parse(pattern).regex
        cursor: int | None = 0
        while cursor is not None:
            at = cursor
            cells, cursor = await self._ask(
                lambda db, at=at: db.page_cells(  # type: ignore[misc]
                    at, start, end, device=device, regex=regex, kinds="all", rows=rows
                )
            )
            if cells:
                yield cells

    async def series(
        self,
        device: str,
        path: str,
        start: Nanoseconds,
        end: Nanoseconds,
        step_ns: Nanoseconds | None = None,
    ) -> list[Sample]:
        """A numeric leaf over [start, end]; empty where nothing is known of it.

        Without a step: the value in force at `start`, then every change; where changes are rolled up, the
        mean of each interval in which there were some. With one: the mean of the value in force over each
        step, at its beginning, without the steps in which it was not known. Raises NotFound: the path is a
        pattern, or the leaf holds no numbers.
        """
        return (await self.series_of([(device, path)], start, end, step_ns))[device, path]

    async def series_of(
        self,
        leaves: Sequence[tuple[str, str]],
        start: Nanoseconds,
        end: Nanoseconds,
        step_ns: Nanoseconds | None = None,
    ) -> dict[tuple[str, str], list[Sample]]:
        """The series of several leaves (device, path), in one go. Raises as `series`."""
        for _, path in leaves:
            _check_exact(path)
        if step_ns is not None and step_ns <= 0:
            raise ValueError(f"a step of {step_ns} ns: give one of at least 1 ns")
        if not leaves:
            return {}
        width = _interval(start, step_ns)
        columns = await self._ask(lambda db: db.points(leaves, start, end, width))
        gaps = await self.gaps(start, end) if step_ns else []
        return await asyncio.to_thread(_series, leaves, columns, gaps, (start, end), step_ns)

    async def copy_to(self, folder: Path) -> None:
        """Put a consistent copy of all that was appended in an empty folder; Parquet files are links."""

        def copy(database: HistoryDatabase) -> None:
            self._writer.write()
            database.copy_to(folder)

        await self._ask(copy)

    async def maintain(self) -> int:
        """Do all that is due of rolling up, compaction and deletion now; returns the number of steps.

        The writer does it by itself, a step at a time. Raises duckdb.Error or OSError.
        """
        steps = 0
        while await self._ask(lambda _: self._writer.maintain()):
            steps += 1
        return steps

    def findings(self, domain: str) -> list[Finding]:
        """What an operator should see of the history: why nothing is written, and what was given up."""
        status = self.status()
        found = []
        if status.problem:
            found.append(
                Finding(
                    "history.not-written",
                    Severity.ERROR,
                    domain,
                    "history",
                    f"history cannot be written ({status.problem}); {status.waiting} rows wait,"
                    f" {status.dropped} changes were left out so far",
                    "make room or give the agent's account the right to write; it goes on by itself",
                )
            )
        for sentence in self._writer.given_up[-GIVEN_UP_SHOWN:]:
            found.append(
                Finding(
                    "history.given-up",
                    Severity.WARNING,
                    domain,
                    f"history/{sentence.partition(' ')[0]}",
                    f"a part of the history was given up: {sentence}",
                    "restore it from a backup, or delete what was set aside; the time is recorded as a gap",
                )
            )
        return found

    async def gaps(self, start: Nanoseconds, end: Nanoseconds, device: str = "") -> list[Gap]:
        """The gaps that touch [start, end], of one device (and those of all devices) or of any."""
        from domain_twin.datastore.columns import Gap

        found: list[Gap] = []
        cursor: int | None = 0
        while cursor is not None:
            rows, cursor = await self._page(cursor, start - 1, FOREVER, device=device, gaps=True)
            found += [row.content for row in rows if isinstance(row.content, Gap)]
        return [gap for gap in found if gap.start <= end]

    async def last_version(self) -> Version | None:
        """The version of the newest recorded change; None: nothing is recorded."""
        from domain_twin.datastore.columns import version_of

        row = await self._ask(lambda db: db.last_row())
        return None if row is None else version_of(row)

    async def _rows(
        self, start: Nanoseconds, end: Nanoseconds, pattern: str, device: str
    ) -> AsyncIterator[Row]:
        regex = "" if pattern == "/" else PathPattern.parse(pattern).regex
        cursor: int | None = 0
        while cursor is not None:
            rows, cursor = await self._page(cursor, start, end, device=device, regex=regex)
            for row in rows:
                yield row

    async def _page(
        self,
        cursor: int,
        start: Nanoseconds,
        end: Nanoseconds,
        *,
        device: str,
        regex: str = "",
        gaps: bool = False,
    ) -> tuple[list[Row], int | None]:
        return await self._ask(lambda db: db.page(cursor, start, end, device=device, regex=regex, gaps=gaps))

    async def _ask(self, question: Callable[[HistoryDatabase], T]) -> T:
        return await asyncio.wrap_future(self._writer.submit(lambda: question(self._writer.database)))

    def _align(self, database: HistoryDatabase, snapshot: Snapshot, now: Nanoseconds) -> int:
        from domain_twin.datastore.columns import Row, leaf_of

        recorded: dict[tuple[str, str], Leaf] = {}
        for row in database.state_at(FOREVER):
            if found := leaf_of(row):
                recorded[found[0], found[1]] = found[2]
        corrections = []
        for device, path, leaf in snapshot.items():
            known = recorded.pop((device, path), None)
            if known is None or known.origin is not leaf.origin or not same(known.value, leaf.value):
                corrections.append(Change(device, path, leaf.value, leaf.observed_at, now, leaf.origin))
        for (device, path), leaf in recorded.items():
            corrections.append(Change(device, path, leaf.value, now, now, leaf.origin, deleted=True))
        for change in corrections:
            self._writer.buffer.add(Row(snapshot.version.epoch, snapshot.version.sequence, change))
        return len(corrections)


def _check_exact(path: str) -> None:
    if not PathPattern.parse(path).exact:
        raise NotFound(f"{path!r} is a pattern: a series is of one leaf, with its module and all its keys")


def _interval(start: Nanoseconds, step_ns: Nanoseconds | None) -> Nanoseconds:
    """The widest interval of rolled-up history that serves a step; 0: only changes do."""
    for width in (HOUR, MINUTE):
        aligned = start % width == 0 and (step_ns or 1) % width == 0
        if step_ns and (aligned or step_ns >= FINE * width):
            return width
    return 0


def _series(
    leaves: Sequence[tuple[str, str]],
    columns: Sequence[tuple[Nanoseconds, Mapping[str, Any]]],
    gaps: Sequence[Gap],
    span: tuple[Nanoseconds, Nanoseconds],
    step_ns: Nanoseconds | None,
) -> dict[tuple[str, str], list[Sample]]:
    from domain_twin.datastore.series import changes_between, points_of, split, step_means

    found: dict[tuple[str, str], list[Sample]] = {}
    for leaf, own in split(columns, leaves):
        _check_numbers(leaf, own[0][1])
        points = points_of(own)
        if step_ns is None:
            found[leaf] = changes_between(points, *span)
            continue
        holes = [(gap.start, gap.end) for gap in gaps if gap.device in ("", leaf[0])]
        found[leaf] = step_means(points, holes, *span, step_ns)
    return found


def _check_numbers(leaf: tuple[str, str], rows: Mapping[str, Any]) -> None:
    import numpy as np

    missing = np.ma.getmaskarray(rows["number"]) & ~np.asarray(rows["deleted"], dtype=bool)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        value = decode(int(rows["kind"][first]), None, str(rows["text"][first]))
        raise NotFound(f"{leaf[0]} {leaf[1]} holds {value!r}, which is no number: ask for its changes")


def _delta(version: Version, changes: list[Change]) -> Delta:
    observed_at = max(change.observed_at for change in changes)
    return Delta(
        Version(version.epoch, version.sequence - 1),
        Version(version.epoch, version.sequence, observed_at),
        tuple(changes),
    )
