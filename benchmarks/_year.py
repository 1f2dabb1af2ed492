"""A year of one value a minute: made by the tiers' bulk path, asked through `History`. Part of `history.py`.

What a year of appending leaves behind is written directly: for each day the minutes of every leaf, a KEPT
file with the mark of each minute's version, the state at its end, and its hours; then `maintenance.step`
merges the months' hours, as it does in an agent. Nothing goes through `append`. Of some leaves the first day
is also written as changes, and `rollup.aggregates` must make the same minutes of them. Building and asking
are each a process of their own, so that memory is that of the asking alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from domain_twin.datastore.catalog import DAY, HOUR, MINUTE, FileKind
from domain_twin.datastore.database import HistoryDatabase
from domain_twin.datastore.encoding import ValueKind
from domain_twin.datastore.history import History
from domain_twin.datastore.maintenance import Retention, step
from domain_twin.datastore.rollup import aggregates

START = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000
MINUTES = 1440
LEAVES = 20  # a device
POINTS = 1000
ASKED = 100
CHECKED = 10
RIVAL_SERIES, RIVAL_DAYS = 100, 30
AGAIN = 3
SECOND = 1_000_000_000


class Rows:
    """The values of `series` leaves, a day at a time: half are delays in ms, half octets a second."""

    def __init__(self, series: int) -> None:
        self.series = series
        number = np.arange(series)
        names = [
            (f"device-{i // LEAVES:03}", f"/ietf-interfaces:interfaces/interface[name='eth{i % LEAVES:02}']")
            for i in range(series)
        ]
        self.leaves = [
            (device, f"{at}/statistics/{('one-way-delay', 'octet-rate')[i % 2]}")
            for i, (device, at) in enumerate(names)
        ]
        self._delays = (number % 2 == 0)[:, None]
        self.offset_s = (number * 7919 % 59 + 1)[:, None]  # when in the minute its value comes
        self._random = np.random.default_rng(3)
        self._columns = {
            width: {
                "device": _named([leaf[0] for leaf in self.leaves], count),
                "path": _named([leaf[1] for leaf in self.leaves], count),
            }
            for width, count in ((MINUTE, MINUTES), (HOUR, 24))
        }
        self._before: Any = None
        self.values: Any = None

    def next_day(self) -> None:
        """Draw a day: a daily wave with noise, as figures are that are rounded to what a device tells."""
        wave = np.sin(np.arange(MINUTES) * (2 * np.pi / MINUTES))[None, :]
        wave = wave + self._random.standard_normal((self.series, MINUTES), dtype=np.float32) * 0.2
        self._before = None if self.values is None else self.values[:, -1:]
        self.values = np.where(self._delays, np.round(5 + 2 * wave, 3), np.round(5e6 + 2e6 * wave))

    def intervals(self, day: int, width: int) -> pa.Table:
        """The rows of the minutes or hours of a day, as the roll-up makes them."""
        first = day == 0
        before = self.values[:, :1] if self._before is None else self._before
        led, each = self.offset_s / 60.0, width // MINUTE
        previous = np.concatenate([before, self.values[:, :-1]], axis=1)
        shape = (self.series, MINUTES // each, each)
        means = (self.values * (1 - led) + previous * led).reshape(shape).mean(axis=2)
        low = np.minimum(self.values, previous).reshape(shape).min(axis=2)
        high = np.maximum(self.values, previous).reshape(shape).max(axis=2)
        known = np.full(shape[:2], width / SECOND)
        if first:  # nothing was known before the first value
            known[:, 0] -= self.offset_s[:, 0]
            weight = np.full((self.series, each, 1), 60.0)
            weight[:, 0] -= self.offset_s
            parts = (self.values * (1 - led) + previous * led)[:, :each]
            means[:, 0] = (parts * weight[:, :, 0]).sum(axis=1) / weight.sum(axis=1)[:, 0]
        count, rows = shape[1], self.series * shape[1]
        numbers = self.number_before(day) + (np.arange(1, count + 1) * each - 1) * self.series
        zeros = np.zeros(rows, np.uint8)
        kinds = np.where(self._delays, int(ValueKind.DECIMAL), int(ValueKind.INTEGER)).astype(np.uint8)
        return pa.table(
            {
                **self._columns[width],
                "starts_at": np.tile(START + day * DAY + np.arange(count) * width, self.series),
                "min": low.ravel(),
                "max": high.ravel(),
                "mean": means.ravel(),
                "last": self.values[:, each - 1 :: each].ravel(),
                "count": np.full(rows, each, np.int32),
                "known_s": known.ravel(),
                "origin": zeros,
                "last_origin": zeros,
                "kind": np.repeat(kinds[:, 0], count),
                "text": pa.nulls(rows, pa.string()),
                "last_n": (numbers[None, :] + np.arange(1, self.series + 1)[:, None]).ravel(),
            }
        )

    def changes(self, day: int, series: int, *, last: bool = False) -> pa.Table:
        """The changes of some leaves (`last`: only the last of each), in order of reception."""
        minutes, leaves = np.meshgrid(
            np.arange(MINUTES - 1 if last else 0, MINUTES), np.arange(series), indexing="ij"
        )
        minute, leaf = minutes.ravel(), leaves.ravel()
        at = START + day * DAY + minute * MINUTE + self.offset_s[leaf, 0] * SECOND
        number = self.number_before(day) + minute * self.series + leaf + 1
        kinds = np.where(self._delays, int(ValueKind.DECIMAL), int(ValueKind.INTEGER)).astype(np.uint8)
        return _rows(
            number,
            at,
            [self.leaves[i][0] for i in leaf],
            [self.leaves[i][1] for i in leaf],
            kinds[leaf, 0],
            self.values[leaf, minute],
        )

    def marks(self, day: int) -> pa.Table:
        """What `kept` leaves of a day of figures: a mark a minute."""
        minute = np.arange(MINUTES)
        at = START + day * DAY + minute * MINUTE + int(self.offset_s.max()) * SECOND
        number = self.number_before(day) + (minute + 1) * self.series
        kinds = np.full(MINUTES, int(ValueKind.MARK), np.uint8)
        return _rows(number, at, [""] * MINUTES, [""] * MINUTES, kinds, None)

    def number_before(self, day: int) -> int:
        """The number of the last row before a day."""
        return day * MINUTES * self.series

    def extent(self, day: int) -> tuple[int, int, int, int]:
        """The rows that a day's files cover."""
        first, last = START + day * DAY, START + (day + 1) * DAY
        offsets = self.offset_s * SECOND
        return (
            self.number_before(day) + 1,
            self.number_before(day + 1),
            first + int(offsets.min()),
            last - MINUTE + int(offsets.max()),
        )


def _named(names: list[str], each: int) -> pa.DictionaryArray:
    distinct = sorted(set(names))
    place = {name: i for i, name in enumerate(distinct)}
    codes = np.repeat(np.array([place[name] for name in names], np.int32), each)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(distinct))


def _rows(number: Any, at: Any, devices: Any, paths: Any, kinds: Any, values: Any) -> pa.Table:  # noqa: PLR0917
    count = len(number)
    return pa.table(
        {
            "n": number,
            "received_at": at,
            "observed_at": at,
            "device": devices,
            "path": paths,
            "kind": kinds,
            "number": pa.nulls(count, pa.float64()) if values is None else values,
            "text": pa.nulls(count, pa.string()),
            "origin": np.zeros(count, np.uint8),
            "deleted": np.zeros(count, bool),
            "epoch": ["e"] * count,
            "sequence": number,
        }
    )


def build(folder: Path, days: int, series: int) -> dict[str, Any]:
    """Write the days; what it took."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    rows = Rows(series)
    database = HistoryDatabase(folder)
    connection, catalog = (
        database._connection,
        database.catalog,
    )  # the writer's own, which `maintenance` uses too
    same = False

    def add(kind: FileKind, table: pa.Table, day: int) -> None:
        connection.register("made", table)
        catalog.create(kind, "SELECT * FROM made", rows.extent(day), part="day")
        connection.unregister("made")

    for day in range(days):
        rows.next_day()
        with catalog.making() as made:
            minutes = rows.intervals(day, MINUTE)
            add(FileKind.MINUTES, minutes, day)
            add(FileKind.HOURS, rows.intervals(day, HOUR), day)
            add(FileKind.KEPT, rows.marks(day), day)
            add(FileKind.STATE, rows.changes(day, series, last=True), day)
            catalog.replace([], made)
        if day == 0:
            same = _as_rolled_up(rows, minutes, connection, folder / "checked.parquet")
    retention = Retention(14 * DAY, (days + 60) * DAY, 3 * 365 * DAY)
    steps = 0
    while step(database, retention, START + (days + 40) * DAY):
        steps += 1
    sizes = {
        kind.value: sum(catalog.path(file).stat().st_size for file in catalog.of(kind)) for kind in FileKind
    }
    files = {kind.value: len(catalog.of(kind)) for kind in FileKind}
    database.close()
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    count = days * MINUTES * series
    return {
        "changes_stood_for": count,
        "minutes_equal_the_rollups": same,
        "files": files,
        "size_mb": {
            **{kind: round(size / 1e6, 1) for kind, size in sizes.items()},
            "all": round(total / 1e6, 1),
        },
        "bytes_per_minute_row": round(sizes["minutes"] / count, 2),
        "maintenance_steps": steps,
        "build_wall_s": round(time.perf_counter() - wall_s, 1),
        "build_cpu_s": round(time.process_time() - cpu_s, 1),
    }


def _as_rolled_up(rows: Rows, minutes: pa.Table, connection: Any, file: Path) -> bool:
    """Whether the roll-up makes of the first day's changes what was written."""
    connection.register("made", rows.changes(0, CHECKED))
    connection.execute(f"COPY made TO '{file}' (FORMAT parquet)")
    connection.unregister("made")
    rolled = connection.sql(aggregates(file, None, MINUTE)).to_arrow_table()
    file.unlink()
    mine = minutes.slice(0, rolled.num_rows)
    exact = ("device", "path", "starts_at", "min", "max", "last", "count", "known_s", "kind", "last_n")
    same = all(rolled[name].to_pylist() == mine[name].to_pylist() for name in exact)
    return same and np.allclose(rolled["mean"].to_numpy(), mine["mean"].to_numpy(), rtol=1e-12, atol=0)


def spans(days: int) -> dict[str, tuple[int, int, int]]:
    """The questions: how far back from the end, and the step of about POINTS points."""
    end = START + days * DAY
    found = {"day": (end - DAY, end, DAY // POINTS), "month": (end - 30 * DAY, end, 30 * DAY // POINTS)}
    if days > 60:
        found["year"] = (START, end, days * DAY // POINTS)
        found["year_by_9_hours"] = (START, end, 9 * HOUR)
    return found


def ask(folder: Path, days: int, series: int) -> dict[str, Any]:
    """Time of each question, memory of this process."""
    return asyncio.run(_ask(folder, days, series))


async def _ask(folder: Path, days: int, series: int) -> dict[str, Any]:
    leaves = Rows(series).leaves
    now = START + (days + 5) * DAY
    history = await History.open(folder, minute_days=days + 60, clock=lambda: now, read_only=True)
    before_mb = _memory_mb("VmRSS")
    report: dict[str, Any] = {}
    chosen = leaves[:: max(1, series // ASKED)][:ASKED]
    for name, (start, end, width) in spans(days).items():
        for label, subject in (("1_leaf", [chosen[7]]), (f"{len(chosen)}_leaves", chosen)):

            async def question(
                subject: Any = subject, start: int = start, end: int = end, width: int = width
            ) -> int:
                return sum(len(one) for one in (await history.series_of(subject, start, end, width)).values())

            report[f"{name}_{label}"] = await _timed(question)
    rss_mb = _memory_mb("VmRSS")
    await history.close()
    return {
        "questions": report,
        "rss_mb": {
            "opened": before_mb,
            "after": rss_mb,
            "peak": _memory_mb("VmHWM"),
        },
    }


def _memory_mb(which: str) -> int:
    """A line of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{which}:"))


async def _timed(question: Callable[[], Awaitable[int]]) -> dict[str, Any]:
    took, count, cpu_ms = [], 0, []
    for _ in range(AGAIN + 1):
        before, cpu = time.perf_counter(), time.process_time()
        count = await question()
        took.append((time.perf_counter() - before) * 1e3)
        cpu_ms.append((time.process_time() - cpu) * 1e3)
        if sum(took) > 30_000 and len(took) > 1:
            break
    return {
        "points": count,
        "first_ms": round(took[0], 1),
        "median_ms": round(statistics.median(took[1:]), 1),
        "best_ms": round(min(took[1:]), 1),
        "cpu_ms": round(min(cpu_ms[1:]), 1),
    }


def rival(folder: Path) -> dict[str, Any]:
    """The minutes of a scaled-down share in SQLite and in a plain DuckDB table, and the month's question."""
    rows = Rows(RIVAL_SERIES)
    report: dict[str, Any] = {}
    insert = "INSERT INTO m VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    numbers = "low DOUBLE, high DOUBLE, mean DOUBLE, last DOUBLE, count INTEGER, known DOUBLE"
    columns = f"series INTEGER, t BIGINT, {numbers}"
    took = dict.fromkeys(("sqlite", "duckdb"), 0.0)
    count = RIVAL_SERIES * RIVAL_DAYS * MINUTES
    with (
        closing(sqlite3.connect(folder / "rival.sqlite")) as light,
        closing(
            duckdb.connect(str(folder / "rival.duckdb"), config={"memory_limit": "512MB", "threads": 2})
        ) as duck,
    ):
        light.execute("PRAGMA journal_mode=WAL")
        light.execute(f"CREATE TABLE m ({columns}, PRIMARY KEY (series, t)) WITHOUT ROWID")
        duck.execute(f"CREATE TABLE m ({columns})")
        for day in range(RIVAL_DAYS):
            rows.next_day()
            made = rows.intervals(day, MINUTE)
            series = np.repeat(np.arange(RIVAL_SERIES), MINUTES)
            names = ("starts_at", "min", "max", "mean", "last", "count", "known_s")
            table = pa.table({"series": series, **{name: made[name] for name in names}})
            cells = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
            before = time.process_time()
            light.executemany(insert, cells)
            light.commit()
            took["sqlite"] += time.process_time() - before
            before = time.process_time()
            duck.register("made", table)
            duck.execute("INSERT INTO m SELECT * FROM made")
            took["duckdb"] += time.process_time() - before
        light.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        duck.execute("CHECKPOINT")
        width = RIVAL_DAYS * DAY // POINTS
        for name, store in (("sqlite", light), ("duckdb", duck)):
            size = (folder / f"rival.{name}").stat().st_size
            answers = {}
            for label, where in (
                ("month_1_leaf", "= 7"),
                (f"month_{RIVAL_SERIES}_leaves", f"< {RIVAL_SERIES}"),
            ):
                whole = "//" if name == "duckdb" else "/"
                query = (
                    f"SELECT series, (t - {START}) {whole} {width} AS s, avg(mean) FROM m"
                    f" WHERE series {where} GROUP BY 1, 2"
                )
                times = []
                for _ in range(AGAIN):
                    begun = time.perf_counter()
                    store.execute(query).fetchall()
                    times.append((time.perf_counter() - begun) * 1e3)
                answers[label] = {
                    "median_ms": round(statistics.median(times), 1),
                    "best_ms": round(min(times), 1),
                }
            report[name] = {
                "rows": count,
                "rows_per_cpu_s": round(count / took[name]),
                "bytes_per_row": round(size / count, 2),
                "extrapolated_year_mb": round(size / count * 365 * MINUTES * 1000 / 1e6),
                "questions": answers,
            }
    return report


def measure_year(days: int, series: int, folder: Path) -> dict[str, Any]:
    """Everything, each part in a process of its own."""
    load = os.getloadavg()[0]
    context = get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        built = folder / f"built-{days}-{series}.json"
        if not built.exists():
            built.write_text(json.dumps(pool.apply(build, (folder / "year", days, series))))
        written = json.loads(built.read_text())
        asked = pool.apply(ask, (folder / "year", days, series))
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            beside = pool.apply(rival, (Path(aside),))
    return {
        "days": days,
        "series": series,
        "how_written": "per day: minutes, hours, marks (kept) and state as the roll-up leaves them, straight"
        " to Parquet through Catalog.create; months' hours by maintenance.step; none through append",
        "aim": "none fixed; one leaf downsampled to 1,000 points within 200 ms is taken as good",
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        **written,
        **asked,
        "rivals_share": f"{RIVAL_DAYS} days of {RIVAL_SERIES} series; a year of 1,000: by size per row",
        "rivals": beside,
    }
