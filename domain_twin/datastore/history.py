"""What devices reported, and when: written behind the live state, read by time. Owns the questions.

`append` never waits. A thread of its own (`writer`) owns the database: it writes every `flush_s` or
`batch_rows`, rolls full hours to Parquet and deletes what is older than the retention. Every answer includes
all that was appended before the question. All times are the agent's (`received_at`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from domain_twin.datastore.encoding import encode, same
from domain_twin.datastore.patterns import PathPattern
from domain_twin.datastore.snapshot import Leaf, Snapshot, snapshot_of
from domain_twin.errors import NotFound
from domain_twin.model import Change, Delta, Nanoseconds, Origin, Sample, Version

if TYPE_CHECKING:
    from domain_twin.datastore.columns import Gap, Row
    from domain_twin.datastore.database import HistoryDatabase
    from domain_twin.datastore.writer import HistoryWriter

T = TypeVar("T")

DAY: Nanoseconds = 86_400_000_000_000
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
        retention_days: float = 365.0,
        flush_s: float = 1.0,
        batch_rows: int = 10_000,
        max_rows: int = 200_000,
        memory_limit: str = "512MB",
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> History:
        """Open or create the history in `folder`. Raises ConfigError: another process holds it.

        The time since it was last written is recorded as a gap of all devices.
        """
        from domain_twin.datastore.writer import HistoryWriter, WriterSettings

        retention_ns = int(retention_days * DAY)
        settings = WriterSettings(retention_ns, flush_s, batch_rows, max_rows, memory_limit, clock)
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

        rows, last = await self._ask(lambda db: (db.state_at(at), db.last_row(at)))
        version = version_of(last) if last else Version("", 0)
        return snapshot_of(version, [leaf for row in rows if (leaf := leaf_of(row))])

    async def deltas(
        self, start: Nanoseconds, end: Nanoseconds, pattern: str = "/", device: str = ""
    ) -> AsyncIterator[Delta]:
        """The recorded deltas received in (start, end], in order, of the leaves that `pattern` names.

        `state_at(start)` followed by these is `state_at(end)`.
        """
        changes: list[Change] = []
        version = Version("", 0)
        async for row in self._rows(start, end, pattern, device):
            if (row.epoch, row.sequence) != (version.epoch, version.sequence):
                if changes:
                    yield _delta(version, changes)
                version, changes = Version(row.epoch, row.sequence), []
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

    async def series(
        self,
        device: str,
        path: str,
        start: Nanoseconds,
        end: Nanoseconds,
        step_ns: Nanoseconds | None = None,
    ) -> list[Sample]:
        """A numeric leaf over [start, end]; empty where nothing is known of it.

        Without a step: the value in force at `start`, then every change. With one: the mean of the value in
        force over each step, at its beginning, without the steps in which it was not known. Raises NotFound:
        the path is a pattern, or the leaf holds no numbers.
        """
        from domain_twin.datastore.series import changes_between, step_means

        if not PathPattern.parse(path).exact:
            raise NotFound(
                f"{path!r} is a pattern: a series is of one leaf, with its module and all its keys"
            )
        if step_ns is not None and step_ns <= 0:
            raise ValueError(f"a step of {step_ns} ns: give one of at least 1 ns")
        points: list[tuple[Nanoseconds, float | None, Origin]] = []
        for change in await self._before(start, device, path):
            points.append(_point(change))
        async for change in self.changes(start, end, path, device):
            points.append(_point(change))
        if step_ns is None:
            return changes_between(points, start, end)
        holes = [(gap.start, gap.end) for gap in await self.gaps(start, end, device)]
        return step_means(points, holes, start, end, step_ns)

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

    async def _before(self, at: Nanoseconds, device: str, path: str) -> list[Change]:
        try:
            rows = await self._ask(lambda db: db.state_at(at, device, path))
        except NotFound:
            return []  # the leaf's series begins later
        return [row.content for row in rows if isinstance(row.content, Change)]

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


def _point(change: Change) -> tuple[Nanoseconds, float | None, Origin]:
    if change.deleted:
        return change.received_at, None, change.origin
    _, number, _ = encode(change.value)
    if number is None:
        raise NotFound(
            f"{change.device} {change.path} holds {change.value!r}, which is no number: ask for its changes"
        )
    return change.received_at, number, change.origin


def _delta(version: Version, changes: list[Change]) -> Delta:
    observed_at = max(change.observed_at for change in changes)
    return Delta(
        Version(version.epoch, version.sequence - 1),
        Version(version.epoch, version.sequence, observed_at),
        tuple(changes),
    )
