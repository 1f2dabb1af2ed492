"""History against the live state that it recorded: time travel, rolling, crashes, overload."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_batches import SECOND, START, batch_sequences

from domain_twin.datastore.buffer import ChangeBuffer
from domain_twin.datastore.columns import Gap
from domain_twin.datastore.history import DAY, History
from domain_twin.datastore.live import LiveStore
from domain_twin.datastore.snapshot import snapshot_of
from domain_twin.errors import ConfigError, NotFound
from domain_twin.model import Delta, Origin, Sync, Update, UpdateBatch, Value, Version

HOUR = 3600 * SECOND
BEGIN = START - START % HOUR  # a full hour
LEAF = "/m:box/level"


class Clock:
    """The agent's clock, moved by the test."""

    def __init__(self, now: int = BEGIN) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def told(value: Value, at: int, path: str = LEAF, device: str = "warsaw") -> UpdateBatch:
    return UpdateBatch(device, at, (Update(device, path, value, at),))


def parquet_files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.rglob(f"{kind}/*/*.parquet"))


async def record(history: History, store: LiveStore, *batches: UpdateBatch) -> None:
    for batch in batches:
        delta = store.apply(batch)
        if delta:
            history.append(delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def history(tmp_path: Path, clock: Clock) -> AsyncIterator[History]:
    opened = await History.open(tmp_path / "history", clock=clock)
    yield opened
    await opened.close()


async def travelled(history: History, start: int, end: int) -> str:
    """The state at `end`, by replaying what was recorded since `start`."""
    then = await history.state_at(start)
    store = LiveStore.restored(then)
    async for delta in history.deltas(start, end):
        store.follow(delta)
    return store.state_hash()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
@given(batches=batch_sequences(max_size=10), pace=st.sampled_from([1, 60, 1000]))
def test_every_recorded_state_comes_back_byte_identical(
    tmp_path_factory: pytest.TempPathFactory, batches: list[UpdateBatch], pace: int
) -> None:
    async def check() -> None:
        folder, clock, store = tmp_path_factory.mktemp("history"), Clock(), LiveStore()
        history = await History.open(folder, clock=clock, retention_days=36500)
        states: list[tuple[int, str, Version]] = []
        for batch in batches:  # a slow pace rolls many hours
            at = BEGIN + (batch.received_at - START) * pace
            moved = [update._replace(observed_at=at) for update in batch.updates]
            clock.now = at
            await record(
                history, store, UpdateBatch(batch.source, at, tuple(moved), batch.deletes, batch.sync)
            )
            states.append((at, store.state_hash(), store.version))
            await history.flush()
        recorded = [state for state in states if state[2].sequence > 0]
        for at, digest, version in recorded:
            snapshot = await history.state_at(at)
            assert snapshot.state_hash() == digest
            assert (snapshot.version.epoch, snapshot.version.sequence) == (version.epoch, version.sequence)
        if recorded:
            assert await travelled(history, recorded[0][0], recorded[-1][0]) == recorded[-1][1]
        await history.close()
        again = await History.open(folder, clock=clock, retention_days=36500)
        for at, digest, _ in recorded:
            assert (await again.state_at(at)).state_hash() == digest
        assert await again.align(store.snapshot(), now=clock.now) == 0
        await again.close()

    asyncio.run(check())


async def test_full_hours_roll_to_files_by_day(tmp_path: Path, history: History, clock: Clock) -> None:
    store = LiveStore()
    for hour in range(26):
        clock.now = BEGIN + hour * HOUR
        await record(history, store, told(hour, clock.now))
        await history.flush()
    files = parquet_files(tmp_path, "changes")
    assert len(files) == 25
    assert len({path.parent for path in files}) == 2
    series = await history.series("warsaw", LEAF, BEGIN, clock.now)
    assert [sample.value for sample in series] == [float(hour) for hour in range(26)]
    assert (
        await travelled(history, BEGIN + HOUR, BEGIN + 20 * HOUR)
        == (await history.state_at(BEGIN + 20 * HOUR)).state_hash()
    )


async def test_hour_rolls_when_nothing_more_comes(tmp_path: Path, history: History, clock: Clock) -> None:
    await record(history, LiveStore(), told(1, BEGIN))
    await history.flush()
    clock.now += HOUR
    await history.flush()
    assert len(parquet_files(tmp_path, "changes")) == 1


async def test_retention_deletes_files_and_keeps_what_still_holds(tmp_path: Path, clock: Clock) -> None:
    history = await History.open(tmp_path, clock=clock, retention_days=1)
    store = LiveStore()
    await record(history, store, told("old", BEGIN, "/m:box/name"))
    for hour in range(0, 72, 2):
        clock.now = BEGIN + hour * HOUR
        await record(history, store, told(hour, clock.now))
        await history.flush()
    await history.maintain()
    assert 12 <= len(parquet_files(tmp_path, "changes")) <= 14
    assert len(parquet_files(tmp_path, "state")) <= 15
    assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
    early = await history.state_at(clock.now - 20 * HOUR)
    assert early.get("/m:box/name")["warsaw", "/m:box/name"].value == "old"
    with pytest.raises(NotFound, match="history begins at"):
        await history.state_at(BEGIN)
    await history.close()
    again = await History.open(tmp_path, clock=clock, retention_days=1)
    assert (await again.state_at(clock.now - 20 * HOUR)).state_hash() == early.state_hash()
    await again.close()


async def test_clock_set_back_loses_nothing(tmp_path: Path, history: History, clock: Clock) -> None:
    store = LiveStore()
    for hour in (0, 1, 2):
        await record(history, store, told(hour, BEGIN + hour * HOUR))
    late = told("x", BEGIN + 30 * 60 * SECOND, "/m:box/name")  # the agent's clock went back by 90 minutes
    again = told(4, BEGIN + 2 * HOUR + SECOND, "/m:box/again")
    await record(history, store, late, again, told(3, BEGIN + 3 * HOUR))
    clock.now = BEGIN + 5 * HOUR
    await history.flush()
    assert len(parquet_files(tmp_path, "changes")) == 4  # the open hour stays one, whatever the clock says
    assert (await history.state_at(BEGIN + 3 * HOUR)).state_hash() == store.state_hash()
    then = await history.state_at(BEGIN + 31 * 60 * SECOND)
    assert {leaf.value for _, _, leaf in then.items()} == {0, "x"}


async def test_series_steps_are_time_weighted_and_leave_out_the_unknown(history: History) -> None:
    store = LiveStore()
    await record(
        history, store, told(10, BEGIN), told(20, BEGIN + 15 * SECOND), told(40, BEGIN + 20 * SECOND)
    )
    delta = store.forget("warsaw", now=BEGIN + 50 * SECOND)
    assert delta is not None
    history.append(delta)
    history.gap("warsaw", BEGIN + 30 * SECOND, BEGIN + 40 * SECOND, "session lost")

    plain = await history.series("warsaw", LEAF, BEGIN + 5 * SECOND, BEGIN + 60 * SECOND)
    steps = await history.series("warsaw", LEAF, BEGIN, BEGIN + 60 * SECOND, 10 * SECOND)

    assert [(s.at - BEGIN, s.value) for s in plain] == [
        (5 * SECOND, 10.0),
        (15 * SECOND, 20.0),
        (20 * SECOND, 40.0),
    ]
    assert [((s.at - BEGIN) // SECOND, s.value) for s in steps] == [
        (0, 10.0),
        (10, 15.0),
        (20, 40.0),
        (40, 40.0),
    ]
    assert all(s.origin is Origin.MEASURED for s in steps)


async def test_series_refuses_what_holds_no_numbers(history: History) -> None:
    await record(history, LiveStore(), told("up", BEGIN, "/m:box/state"))
    with pytest.raises(NotFound, match="'up', which is no number"):
        await history.series("warsaw", "/m:box/state", BEGIN, BEGIN + SECOND)
    with pytest.raises(NotFound, match="is a pattern"):
        await history.series("warsaw", "/m:box/*", BEGIN, BEGIN + SECOND)
    with pytest.raises(ValueError, match="step"):
        await history.series("warsaw", LEAF, BEGIN, BEGIN + SECOND, 0)
    assert await history.series("nobody", LEAF, BEGIN, BEGIN + SECOND) == []


async def test_changes_come_in_order_by_pattern_and_device(history: History) -> None:
    store = LiveStore()
    for number in range(25_000):  # more than two pages
        device, path = f"d{number % 2}", f"/m:list[k='{number % 3}']/leaf"
        await record(history, store, told(number, BEGIN + number, path, device))
    found = [
        change.value async for change in history.changes(BEGIN, BEGIN + HOUR, "/m:list[k='1']", device="d1")
    ]
    assert found == [number for number in range(25_000) if number % 2 == 1 and number % 3 == 1]


async def test_restart_aligns_history_with_the_state_that_goes_on(tmp_path: Path, clock: Clock) -> None:
    history = await History.open(tmp_path, clock=clock)
    await record(history, LiveStore(), told(1, BEGIN), told("b", BEGIN, "/m:box/name"))
    await history.close()
    clock.now += 60 * SECOND
    history = await History.open(tmp_path, clock=clock)
    store = LiveStore()
    store.apply(told(2, BEGIN))
    store.apply(told("new", BEGIN, "/m:box/other"))

    corrections = await history.align(store.snapshot(), now=clock.now)

    assert corrections == 3
    assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
    gaps = await history.gaps(BEGIN, clock.now)
    assert gaps == [Gap("", BEGIN, BEGIN + 60 * SECOND, "the agent did not run")]
    await history.close()


async def test_versions_of_the_past(history: History) -> None:
    store = LiveStore(epoch="e")
    assert await history.last_version() is None
    await record(history, store, told(1, BEGIN), told(2, BEGIN + SECOND))
    last = await history.last_version()
    assert last == Version("e", 2, BEGIN + SECOND)
    assert (await history.state_at(BEGIN)).version == Version("e", 1, BEGIN)


async def test_before_the_beginning_is_refused(history: History) -> None:
    assert len(await history.state_at(BEGIN)) == 0  # nothing was ever recorded
    await record(history, LiveStore(), told(1, BEGIN))
    with pytest.raises(NotFound, match="history begins at 2027-01-15T08:00:00"):
        await history.state_at(BEGIN - 1)


async def test_slow_writer_keeps_the_newest_and_says_what_is_missing(tmp_path: Path, clock: Clock) -> None:
    history = await History.open(tmp_path, clock=clock, max_rows=10)
    blocked = asyncio.Event()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(blocked.wait(), loop).result(timeout=60)

    holding = history._writer.submit(hold)  # the disk does not answer
    await started.wait()
    store = LiveStore()
    for number in range(100):
        await record(history, store, told(number, BEGIN + number, f"/m:list[k='{number % 5}']/leaf"))
    waiting = history.status().waiting
    blocked.set()
    await asyncio.wrap_future(holding)
    await history.flush()

    assert waiting <= 15
    assert history.status().dropped == 85
    (gap,) = await history.gaps(BEGIN, BEGIN + HOUR)
    assert (gap.device, gap.lost, gap.reason) == ("warsaw", 85, "more changes than could be written")
    assert (gap.start, gap.end) == (BEGIN + 10, BEGIN + 99)
    assert (await history.state_at(BEGIN + 99)).state_hash() == store.state_hash()
    await history.close()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60), st.integers(1, 12))
def test_buffer_ends_in_the_right_state_whatever_it_leaves_out(
    steps: list[tuple[int, bool]], bound: int
) -> None:
    buffer, store = ChangeBuffer(bound), LiveStore(epoch="e")
    rows = []
    appended = 0
    for number, (leaf, take) in enumerate(steps):
        delta = store.apply(told(number, BEGIN + number, f"/m:l{leaf}"))
        assert delta is not None
        buffer.append(delta)
        appended += 1
        assert len(buffer) <= bound + 5
        if take:
            rows += buffer.take()
    rows += buffer.take()
    changes = [row.content for row in rows if not isinstance(row.content, Gap)]
    lost = sum(row.content.lost for row in rows if isinstance(row.content, Gap))
    assert len(changes) + lost == appended
    assert lost == buffer.dropped
    end = {change.path: change.value for change in changes}
    assert end == {path: leaf.value for _, path, leaf in store.snapshot().items()}
    assert [row.sequence for row in rows] == sorted(row.sequence for row in rows)


async def test_value_that_no_column_holds_is_left_out_with_a_gap(history: History) -> None:
    store = LiveStore()
    await record(
        history,
        store,
        *(told(number, BEGIN + number, f"/m:l{number}") for number in range(5)),
        told("\ud800", BEGIN + 5, "/m:rubbish"),
        *(told(number, BEGIN + 6 + number, f"/m:k{number}") for number in range(5)),
    )
    snapshot = await history.state_at(BEGIN + HOUR)
    assert len(snapshot) == 10
    (gap,) = await history.gaps(BEGIN, BEGIN + HOUR)
    assert (gap.device, gap.lost) == ("warsaw", 1)
    assert history.status().dropped == 1


async def test_second_opener_is_told_who_holds_it(tmp_path: Path, history: History) -> None:
    with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()} \(.+\); stop that process"):
        await History.open(tmp_path / "history")
    script = (
        "import asyncio, pathlib, sys; from domain_twin.datastore.history import History;"
        "asyncio.run(History.open(pathlib.Path(sys.argv[1])))"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "history"), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(other.communicate(), 60)
    assert other.returncode == 1
    assert f"is in use by process {os.getpid()}".encode() in errors


WRITER = """
import asyncio, pathlib, sys
from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Update, UpdateBatch

async def main():
    history, store, at = await History.open(pathlib.Path(sys.argv[1])), LiveStore(epoch="e"), int(sys.argv[2])
    while True:
        for _ in range(50):
            at += 1
            update = Update("warsaw", f"/m:list[k='{at % 7}']/leaf", at, at)
            history.append(store.apply(UpdateBatch("warsaw", at, (update,))))
        await history.flush()
        print(store.version.sequence, flush=True)

asyncio.run(main())
"""


async def test_killed_writer_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), str(BEGIN), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    flushed = 0
    async with asyncio.timeout(60):
        while flushed < 500:
            flushed = int(await child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        flushed = max([flushed, *(int(line) for line in (await child.stdout.read()).split(b"\n")[:-1])])
        await child.wait()

    history = await History.open(tmp_path, retention_days=36500)

    last = await history.last_version()
    assert last is not None
    assert last.sequence >= flushed
    found = [change.value async for change in history.changes(0, BEGIN + HOUR)]
    assert found == list(range(BEGIN + 1, BEGIN + last.sequence + 1))
    await history.close()


async def test_damaged_database_is_set_aside_and_files_stay(tmp_path: Path, clock: Clock) -> None:
    history = await History.open(tmp_path, clock=clock)
    store = LiveStore()
    await record(history, store, told(1, BEGIN))
    clock.now += HOUR
    await history.flush()
    await history.close()
    (tmp_path / "history.duckdb").write_bytes(b"rubbish" * 1000)

    history = await History.open(tmp_path, clock=clock)

    assert (await history.state_at(BEGIN)).state_hash() == store.state_hash()
    assert [name for name in os.listdir(tmp_path) if name.startswith("history.duckdb.damaged-")]  # noqa: PTH208
    await record(history, store, told(2, clock.now))
    assert [s.value for s in await history.series("warsaw", LEAF, BEGIN, clock.now)] == [1.0, 2.0]
    await history.close()


@pytest.mark.parametrize("lost", ["neither", "state"])
async def test_crash_while_rolling_is_mended(tmp_path: Path, clock: Clock, lost: str) -> None:
    history = await History.open(tmp_path, clock=clock)
    store = LiveStore()
    await record(history, store, told(1, BEGIN))
    await history.flush()
    database = history._writer.database
    await asyncio.wrap_future(history._writer.submit(database.roll))
    # Back to before the commit: the files lie there, the rows are still in the table.
    await asyncio.wrap_future(
        history._writer.submit(
            lambda: database._connection.execute(
                "INSERT INTO changes SELECT n, received_at, observed_at, device, path, kind, number, text,"
                f" origin, deleted, epoch, sequence FROM read_parquet('{tmp_path}/changes/*/*.parquet',"
                " hive_partitioning=false); DELETE FROM catalog"
            )
        )
    )
    await history.close()
    if lost == "state":
        for path in parquet_files(tmp_path, "state"):
            path.unlink()

    clock.now += HOUR
    history = await History.open(tmp_path, clock=clock)

    found = [change.value async for change in history.changes(0, clock.now)]
    assert found == [1]
    assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
    await history.close()


async def test_full_disk_keeps_rows_waiting_and_is_said(tmp_path: Path, clock: Clock) -> None:
    history = await History.open(tmp_path, clock=clock, flush_s=0.01)
    store = LiveStore()
    await record(history, store, told(1, BEGIN))
    await history.flush()
    (tmp_path / "changes").write_text("in the way")  # the next roll cannot make its folder
    clock.now += HOUR
    with pytest.raises(OSError, match="changes"):
        await history.flush()
    await record(history, store, told(2, clock.now))
    async with asyncio.timeout(20):
        while not history.status().problem:  # noqa: ASYNC110 - the thread says it nowhere else
            await asyncio.sleep(0.01)
    (tmp_path / "changes").unlink()
    await history.flush()
    assert history.status().problem == ""
    assert [s.value for s in await history.series("warsaw", LEAF, BEGIN, clock.now)] == [1.0, 2.0]
    await history.close()


async def test_closed_history_says_so(tmp_path: Path) -> None:
    history = await History.open(tmp_path)
    await history.close()
    await history.close()
    with pytest.raises(NotFound, match="is closed"):
        await history.state_at(BEGIN)


async def test_state_of_the_past_feeds_the_mapping_like_the_present(history: History) -> None:
    store = LiveStore(epoch="e")
    await record(history, store, told(1, BEGIN), UpdateBatch("warsaw", BEGIN, sync=Sync.BEGIN))
    snapshot = await history.state_at(BEGIN + DAY)
    delta = snapshot.as_delta()
    assert isinstance(delta, Delta)
    assert snapshot_of(snapshot.version, snapshot.items()).state_hash() == store.state_hash()
    assert [(change.path, change.value) for change in delta.changes] == [(LEAF, 1)]
