"""Old history made smaller, one bounded step at a time. Owns the order of the steps and what each replaces.

Each step writes new files aside, puts them in place, changes the list in one transaction and then deletes
what it replaced: a crash at any point leaves the old files or the new ones in the list, and the rest is swept
at the next start. Between two steps the writer writes what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

from domain_twin.datastore.catalog import DAY, EVENTS, DamagedFile, FileKind, StoredFile
from domain_twin.datastore.database import HistoryDatabase
from domain_twin.datastore.rollup import WIDTHS, aggregates, kept, merged_aggregates, merged_rows
from domain_twin.model import Nanoseconds

log = logging.getLogger(__name__)

_MONTH_RESTS: Nanoseconds = 3 * DAY  # after its end, before its hours become one file


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept."""

    raw_ns: Nanoseconds
    minutes_ns: Nanoseconds
    all_ns: Nanoseconds


def step(database: HistoryDatabase, retention: Retention, now: Nanoseconds) -> bool:
    """Do the next thing that is due; False when nothing is. Raises duckdb.Error or OSError."""
    try:
        return (
            _expire(database, retention, now)
            or _aggregate(database)
            or _thin(database, now - retention.raw_ns)
            or _merge_day(database, now - DAY)
            or _merge_month(database, now - _MONTH_RESTS)
        )
    except DamagedFile:
        return True  # it is out of the list: look again


def _expire(database: HistoryDatabase, retention: Retention, now: Nanoseconds) -> bool:
    """Delete what is older than it is kept; the state that the oldest remaining rows start from stays."""
    catalog = database.catalog
    old: list[StoredFile] = []
    for file in catalog.of(*EVENTS):
        if file.max_received >= now - retention.all_ns:
            break
        old.append(file)
    if old:
        last = old[-1].last_n
        old += [file for file in catalog.of(FileKind.MINUTES, FileKind.HOURS) if file.last_n <= last]
        old += [file for file in catalog.of(FileKind.STATE) if file.last_n < last]
    for file in catalog.of(FileKind.MINUTES):
        outlived = file.max_received < now - retention.minutes_ns
        if outlived and file not in old and catalog.covering(FileKind.HOURS, file):
            raw = [event for event in catalog.of(FileKind.CHANGES) if event.first_n <= file.last_n]
            if not any(event.last_n >= file.first_n for event in raw):
                old.append(file)
    if not old:
        return False
    catalog.replace(old, [])
    log.info("history expired", extra={"files": len(old)})
    return True


def _aggregate(database: HistoryDatabase) -> bool:
    """Make the minutes and hours of changes that have none (made by the first release, or given up)."""
    catalog = database.catalog
    for file in catalog.of(FileKind.CHANGES):
        for kind, width in WIDTHS.items():
            if catalog.covering(kind, file):
                continue
            base = database.base_of(file)
            (path,) = catalog.sound([file])
            before = catalog.sound([base])[0] if base else None
            with catalog.making() as made:
                catalog.create(kind, aggregates(path, before, width), _extent([file]))
                catalog.replace([], made)
            return True
    return False


def _thin(database: HistoryDatabase, before: Nanoseconds) -> bool:
    """Leave of the oldest changes what the minutes do not tell."""
    catalog = database.catalog
    for file in catalog.of(FileKind.CHANGES):
        if (file.max_received // DAY + 1) * DAY > before:  # whole days
            return False
        (path,) = catalog.sound([file])
        with catalog.making() as made:
            catalog.create(FileKind.KEPT, kept(path), _extent([file]), part=_part(file))
            catalog.replace([file], made)
        log.info("history rolled up", extra={"file": file.name})
        return True
    return False


def _merge_day(database: HistoryDatabase, before: Nanoseconds) -> bool:
    """Make one file of each kind of a day's files."""
    catalog = database.catalog
    for (kind, _), group in groupby(catalog.of(*EVENTS), key=lambda file: (file.kind, file.day)):
        events = list(group)
        extent = _extent(events)
        if len(events) < 2 or extent[3] // DAY >= before // DAY:
            continue
        parts = {width: [file for file in catalog.of(width) if _within(file, extent)] for width in WIDTHS}
        if not all(_is_even(events, found) for found in parts.values()):
            continue
        states = [file for file in catalog.of(FileKind.STATE) if _within(file, extent)]
        old = [*events, *states[:-1]]
        with catalog.making() as made:
            catalog.create(kind, merged_rows(catalog.sound(events)), extent, part="day")
            for width, found in parts.items():
                if len(found) > 1:
                    catalog.create(width, merged_aggregates(catalog.sound(found)), extent, part="day")
                    old += found
            catalog.replace(old, made)
        log.info("history compacted", extra={"day": events[0].day, "files": len(old)})
        return True
    return False


def _is_even(events: Sequence[StoredFile], found: Sequence[StoredFile]) -> bool:
    """Whether intervals cover just what the events cover: a merged file must not hide a hole."""
    if not found:
        return True
    ends = (found[0].first_n, found[-1].last_n) == (events[0].first_n, events[-1].last_n)
    return ends and all(a.last_n + 1 == b.first_n for a, b in pairwise(found))


def _merge_month(database: HistoryDatabase, before: Nanoseconds) -> bool:
    """Make one file of a month's hours, whose days are one file each."""
    catalog = database.catalog
    for month, group in groupby(catalog.of(FileKind.HOURS), key=lambda file: file.day[:7]):
        hours = list(group)
        extent = _extent(hours)
        if len(hours) < 2 or month >= _month(before):
            continue
        with catalog.making() as made:
            catalog.create(FileKind.HOURS, merged_aggregates(catalog.sound(hours)), extent, part="month")
            catalog.replace(hours, made)
        log.info("history compacted", extra={"month": month, "files": len(hours)})
        return True
    return False


def _extent(files: Sequence[StoredFile]) -> tuple[int, int, Nanoseconds, Nanoseconds]:
    return (
        files[0].first_n,
        files[-1].last_n,
        min(file.min_received for file in files),
        max(file.max_received for file in files),
    )


def _within(file: StoredFile, extent: tuple[int, int, Nanoseconds, Nanoseconds]) -> bool:
    return extent[0] <= file.first_n and file.last_n <= extent[1]


def _part(file: StoredFile) -> str:
    return "day" if "/day-" in file.name else ""


def _month(at: Nanoseconds) -> str:
    return f"{datetime.fromtimestamp(max(at, 0) // 1_000_000_000, UTC):%Y-%m}"
