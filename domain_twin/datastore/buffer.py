"""Changes on their way to disk: bounded, and honest about what it had to leave out. Owns no I/O.

While the writer keeps up, every change goes through. When more rows wait than the bound, the newest change of
each leaf replaces the one before it, so that the state after the jam is right; each device that lost changes
gets a gap that says from when to when, and how many.
"""

from __future__ import annotations

import threading
from collections import deque

from domain_twin.datastore.columns import Gap, Row
from domain_twin.model import Change, Delta, Nanoseconds

OVERLOAD = "more changes than could be written"


class ChangeBuffer:
    """Rows between the event loop and the writer. Thread-safe; never blocks for longer than a list copy."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._ready: deque[Row] = deque()
        self._latest: dict[tuple[str, str], Row] = {}  # newer than all of `_ready`
        self._lost: dict[str, tuple[Nanoseconds, Nanoseconds, int]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._latest)

    def append(self, delta: Delta) -> None:
        """Take the changes of one delta."""
        epoch, sequence = delta.target.epoch, delta.target.sequence
        with self._lock:
            if not self._latest and len(self._ready) + len(delta.changes) <= self._max_rows:
                self._ready.extend([Row(epoch, sequence, change) for change in delta.changes])
                return
            for change in delta.changes:
                key = change[:2]
                before = self._latest.pop(key, None)
                self._latest[change[0], change[1]] = Row(epoch, sequence, change)
                if before is not None:
                    self._lose(change.device, before.received_at, change.received_at)

    def add(self, row: Row) -> None:
        """Take a row that is never left out (a gap, a correction)."""
        with self._lock:
            self._settle()
            self._ready.append(row)

    def take(self) -> list[Row]:
        """All that waits, in order."""
        with self._lock:
            self._settle()
            rows = list(self._ready)
            self._ready.clear()
            return rows

    def put_back(self, rows: list[Row]) -> None:
        """Return rows that could not be written; they stay the oldest.

        However often that happens, no more wait than the bound, or one of each leaf where that is more.
        """
        if not rows:
            return
        with self._lock:
            self._ready.extendleft(reversed(rows))
            if len(self._ready) > self._max_rows:
                self._thin_out()

    def _settle(self) -> None:
        """Move what was replaced beyond the bound to its place behind the older rows, with its gaps."""
        if not self._latest:
            return
        last = next(reversed(self._latest.values()))
        self._ready.extend(self._latest.values())
        self._latest = {}
        for device, (start, end, count) in sorted(self._lost.items()):
            gap = Gap(device, start, end, OVERLOAD, count)
            self._ready.append(Row(last.epoch, last.sequence, gap))
        self._lost = {}

    def _thin_out(self) -> None:
        """Keep the newest row of each leaf, and one gap for each device and reason."""
        newest: dict[tuple[str, str], Row] = {}
        gaps: dict[tuple[str, str], Row] = {}
        for row in self._ready:
            content = row.content
            if isinstance(content, Gap):
                gaps[content.device, content.reason] = _joined(
                    gaps.get((content.device, content.reason)), row
                )
                continue
            before = newest.pop(row.key, None)
            newest[row.key] = row
            if before is not None:
                self._lose(
                    content.device if isinstance(content, Change) else "", before.received_at, row.received_at
                )
        self._ready = deque(newest.values())
        last = self._ready[-1] if self._ready else Row("", 0, Gap("", 0, 0, ""))
        for device, (start, end, count) in sorted(self._lost.items()):
            row = Row(last.epoch, last.sequence, Gap(device, start, end, OVERLOAD, count))
            gaps[device, OVERLOAD] = _joined(gaps.get((device, OVERLOAD)), row)
        self._lost = {}
        self._ready.extend(gaps.values())

    def _lose(self, device: str, start: Nanoseconds, end: Nanoseconds) -> None:
        self.dropped += 1
        first, last, count = self._lost.get(device, (start, end, 0))
        self._lost[device] = (min(first, start), max(last, end), count + 1)


def _joined(before: Row | None, row: Row) -> Row:
    """One gap for two of the same device and reason."""
    if before is None or not isinstance(before.content, Gap) or not isinstance(row.content, Gap):
        return row
    old, new = before.content, row.content
    gap = Gap(new.device, min(old.start, new.start), max(old.end, new.end), new.reason, old.lost + new.lost)
    return Row(row.epoch, row.sequence, gap)
