"""What is exported reads back, with DuckDB and with pandas, as what the history says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from domain_twin.datastore.history import DAY, HOUR, MINUTE, History
from domain_twin.datastore.live import LiveStore
from domain_twin.errors import ConfigError
from domain_twin.model import Update, UpdateBatch
from federation.cli.app import run
from federation.cli.exporting import export_history

SECOND = 1_000_000_000
BEGIN = 1_800_000_000 * SECOND // DAY * DAY
LEAF, NAME = "/m:box/level", "/m:box/name"


async def recorded(folder: Path) -> None:
    now = [BEGIN]
    history = await History.open(folder, clock=lambda: now[0], raw_days=2)
    store = LiveStore(epoch="e")
    for part in range(20):
        now[0] = BEGIN + part * 6 * HOUR + SECOND
        updates = (Update("warsaw", LEAF, part, now[0]), Update("warsaw", NAME, f"n{part}", now[0]))
        delta = store.apply(UpdateBatch("warsaw", now[0], updates))
        assert delta
        history.append(delta)
    history.gap("warsaw", BEGIN + HOUR, BEGIN + 2 * HOUR, "the session was lost")
    await history.flush()
    await history.maintain()
    await history.close()


async def test_export_reads_back_as_the_series(tmp_path: Path) -> None:
    await recorded(tmp_path / "state" / "history")
    out = tmp_path / "out"
    arguments = ["history", "export", str(out), "--at", str(tmp_path / "state"), "--from", "2027-01-01"]
    assert await asyncio.to_thread(run, [*arguments, "--to", "2027-02-01"]) == 0

    history = await History.open(tmp_path / "state" / "history", read_only=True)
    before, _ = await history.resolution(BEGIN + HOUR)
    series = [s for s in await history.series("warsaw", LEAF, 0, 2**62) if s.at > before]
    names = [(c.received_at, c.value) async for c in history.changes(0, 2**62, NAME)]
    await history.close()

    read = f"read_parquet('{out}/**/*.parquet', hive_partitioning = true)"
    rows = duckdb.sql(
        f"SELECT epoch_ns(time), number, resolution_s FROM {read} WHERE path = '{LEAF}' ORDER BY time"
    ).fetchall()
    assert [(at, number) for at, number, resolution in rows if not resolution] == [
        (s.at, s.value) for s in series
    ]
    assert [(at, number) for at, number, resolution in rows if resolution] == [
        (BEGIN + part * 6 * HOUR + MINUTE, float(part)) for part in range(20 - len(series))
    ]
    assert {resolution for *_, resolution in rows} == {0, 60}
    frame = pd.read_parquet(out)
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"
    told = frame[frame["path"] == NAME].sort_values("time")
    assert list(zip(told["time"].astype("int64"), told["text"], strict=True)) == names
    assert set(frame["kind"]) == {"integer", "text", "gap"}
    assert len(list(out.glob("day=*/part-0000.parquet"))) == 5
    with pytest.raises(ConfigError, match="name a new folder"):
        await asyncio.to_thread(
            export_history,
            str(tmp_path / "state"),
            str(out),
            start=0,
            end=1,
            pattern="/",
            device="",
            as_csv=False,
            as_json=False,
        )
