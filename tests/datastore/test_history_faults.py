"""History on its worst day: damage, foreign files, a full or read-only disk, clocks that jump, kill -9."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from domain_twin.datastore.buffer import ChangeBuffer
from domain_twin.datastore.checkpoint import Checkpoint
from domain_twin.datastore.history import DAY, HOUR, MINUTE, History
from domain_twin.datastore.live import LiveStore
from domain_twin.errors import ConfigError
from domain_twin.model import Update, UpdateBatch, Value

SECOND = 1_000_000_000
NOBODY = 65534
BEGIN = 1_800_000_000 * SECOND // DAY * DAY
LEAF = "/m:box/level"


@dataclass
class Clock:
    now: int = BEGIN

    def __call__(self) -> int:
        return self.now


def told(value: Value, at: int, path: str = LEAF) -> UpdateBatch:
    return UpdateBatch("warsaw", at, (Update("warsaw", path, value, at),))


def record(history: History, store: LiveStore, batch: UpdateBatch) -> None:
    delta = store.apply(batch)
    assert delta is not None
    history.append(delta)


async def hours(folder: Path, clock: Clock, count: int, **options: float) -> LiveStore:
    """A history of so many hours, one change each, closed."""
    history, store = await History.open(folder, clock=clock, **options), LiveStore(epoch="e")
    for hour in range(count):
        clock.now = BEGIN + hour * HOUR + SECOND
        record(history, store, told(hour, clock.now))
        await history.flush()
    await history.close()
    return store


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 3
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "rubbish":
        path.write_bytes(random.Random(1).randbytes(5000))
    elif how == "foreign":
        duckdb.sql(f"COPY (SELECT 42 AS answer) TO '{path}' (FORMAT parquet)")
    else:
        path.unlink()


def set_aside_in(folder: Path) -> list[Path]:
    return list(folder.glob("history.duckdb.damaged-*"))


@pytest.mark.parametrize("how", ["cut off", "flipped", "rubbish", "foreign", "gone"])
@pytest.mark.parametrize("kind", ["changes", "state", "minutes"])
async def test_damaged_file_is_set_aside_and_the_rest_serves(tmp_path: Path, how: str, kind: str) -> None:
    clock = Clock()
    store = await hours(tmp_path, clock, 5)
    victim = sorted((tmp_path / kind).rglob("*.parquet"))[1]
    damage(victim, how)

    history = await History.open(tmp_path, clock=clock)
    samples = await history.series("warsaw", LEAF, BEGIN, clock.now)
    means = await history.series("warsaw", LEAF, BEGIN, BEGIN + 4 * HOUR, 30 * MINUTE)
    end = await history.state_at(clock.now)
    middle = await history.state_at(BEGIN + HOUR + MINUTE)
    found = [s async for s in history.changes(0, clock.now)]
    await history.maintain()
    await history.flush()

    lost = kind == "changes"
    assert end.state_hash() == store.state_hash()
    assert [s.value for s in samples][-3:] == [2.0, 3.0, 4.0]
    assert [change.value for change in found] == ([0, 2, 3, 4] if lost else [0, 1, 2, 3, 4])
    assert [round(s.value) for s in means][-4:] == [2, 2, 3, 3]
    assert len(middle) == 1
    (finding,) = [f for f in history.findings("transport") if f.code == "history.given-up"]
    assert victim.name in finding.message
    gaps = [gap for gap in await history.gaps(0, clock.now) if victim.name in gap.reason]
    assert bool(gaps) is lost
    if how != "gone":
        assert list(victim.parent.glob(f"{victim.name}.damaged-*"))
    if kind == "minutes":  # made anew from the changes
        assert len(list((tmp_path / "minutes").rglob("*.parquet"))) == 4
    await history.close()


@pytest.mark.parametrize("how", ["rubbish", "other tables", "other format"])
async def test_foreign_database_is_set_aside(tmp_path: Path, how: str) -> None:
    clock = Clock()
    await hours(tmp_path, clock, 3)
    database = tmp_path / "history.duckdb"
    if how == "rubbish":
        database.write_bytes(b"rubbish" * 999)
    else:
        if how == "other tables":
            database.unlink()
        with duckdb.connect(str(database)) as connection:
            connection.execute(
                "CREATE TABLE changes (mine INTEGER)"
                if how == "other tables"
                else "UPDATE about SET format = 77"
            )
    clock.now += MINUTE
    history = await History.open(tmp_path, clock=clock)
    await history.flush()
    assert [s.value for s in await history.series("warsaw", LEAF, BEGIN, clock.now)] == [0.0, 1.0]
    assert "history.duckdb.damaged-" in history.findings("transport")[0].message
    assert [g for g in await history.gaps(0, clock.now) if "history.duckdb was set aside" in g.reason]
    await history.close()
    assert set_aside_in(tmp_path)


class Disk:
    """A file system of 4 MiB; where none can be mounted, limits and rights of this process that act alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.mounted = _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))

    def close(self) -> None:
        """Take it away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self, leaving: int = 0) -> None:
        """Use up all but so many octets (without a mount: no file grows beyond them)."""
        if self.mounted:
            free = os.statvfs(self.folder)
            rest = max(free.f_bavail * free.f_bsize - leaving, 0)
            with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as filler:
                filler.write(b"x" * rest)  # history writes too, so less may be left than there was
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (leaving, self._hard()))

    def free(self) -> None:
        """Give the space back."""
        if self.mounted:
            (self.folder / "filler").unlink(missing_ok=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._hard(), self._hard()))

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be made, renamed or deleted here; what is open for writing stays so."""
        if self.mounted:
            bound = _mount("--bind", str(self.folder), str(self.folder))
            assert bound
            assert _mount("-o", "remount,bind,ro", str(self.folder))
            try:
                yield
            finally:
                subprocess.run(["umount", "-l", str(self.folder)], check=True)
            return
        everything = [self.folder, *self.folder.rglob("*")]
        modes = {path: path.stat().st_mode for path in everything}
        for path, mode in modes.items():
            path.chmod((mode & ~0o222) | (mode & 0o500) >> 6)
        is_root = os.geteuid() == 0
        if is_root:  # whom modes do not bind
            for parent in self.folder.parents[:3]:
                parent.chmod(parent.stat().st_mode | 0o011)
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)
            for path, mode in modes.items():
                path.chmod(mode)

    @staticmethod
    def _hard() -> int:
        return resource.getrlimit(resource.RLIMIT_FSIZE)[1]


def _mount(*words: str) -> bool:
    done = subprocess.run(["mount", *words], check=False, capture_output=True)
    return os.geteuid() == 0 and done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.free()
    disk.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("leaving", "octets"),
    [pytest.param(60_000, 400, id="in a roll"), pytest.param(300_000, 2000, id="in a checkpoint")],
)
async def test_full_disk_drops_the_oldest_with_a_gap_and_recovers(
    small_disk: Disk, leaving: int, octets: int
) -> None:
    clock = Clock()
    folder = small_disk.folder / "history"
    history = await History.open(folder, clock=clock, flush_s=0.05, max_rows=500)
    store = LiveStore(epoch="e", ring_changes=10)
    text = random.Random(1)
    number = 0
    for _ in range(60):  # ENOSPC comes in the middle of writes, rolls and compaction
        for _ in range(50):
            number += 1
            clock.now += 40 * SECOND
            record(
                history, store, told(text.randbytes(octets).hex(), clock.now, f"/m:list[k='{number % 20}']/v")
            )
        await asyncio.sleep(0.01)
        if number == 600:
            small_disk.fill(leaving)
    async with asyncio.timeout(30):
        while not history.status().problem:  # noqa: ASYNC110 - the thread says it nowhere else
            await asyncio.sleep(0.02)
    status = history.status()
    (finding,) = [f for f in history.findings("transport") if f.code == "history.not-written"]
    assert status.dropped > 0
    assert status.waiting <= 500 + 2 * 20 + 10
    assert status.problem in finding.message

    small_disk.free()
    await history.flush()

    assert history.status().problem == ""
    assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
    lost = sum(gap.lost for gap in await history.gaps(0, clock.now))
    rows = len([c async for c in history.changes(0, clock.now)])
    assert rows + lost == number
    await history.close()
    again = await History.open(folder, clock=clock)
    assert (await again.state_at(clock.now)).state_hash() == store.state_hash()
    await again.close()


def test_rows_that_wait_again_and_again_stay_bounded() -> None:
    buffer, store = ChangeBuffer(20), LiveStore(epoch="e")
    for number in range(1000):
        delta = store.apply(told(number, BEGIN + number, f"/m:l{number % 5}"))
        assert delta is not None
        buffer.append(delta)
        if number % 7 == 0:
            buffer.put_back(buffer.take())
        assert len(buffer) <= 20 + 5 + 2
    rows = [row for row in buffer.take()]
    changes = [row.content for row in rows if hasattr(row.content, "value")]
    assert {c.path: c.value for c in changes} == {p: leaf.value for _, p, leaf in store.snapshot().items()}
    assert len(changes) + sum(getattr(row.content, "lost", 0) for row in rows) == 1000


async def test_read_only_state_folder_is_one_clear_message(small_disk: Disk) -> None:
    clock = Clock()
    store = await hours(small_disk.folder / "history", clock, 2)
    Checkpoint(small_disk.folder).save(store.snapshot(), clean=True)
    reason = r"\((Read-only file system|Permission denied)\)"
    with small_disk.read_only():
        with pytest.raises(ConfigError, match=rf"history .*history cannot be written {reason}: let the"):
            await History.open(small_disk.folder / "history", clock=clock)
        with pytest.raises(ConfigError, match=rf"state folder .* cannot be written {reason}: let the"):
            Checkpoint(small_disk.folder).restore()


async def test_folder_that_becomes_read_only_keeps_rows_until_it_can_be_written(small_disk: Disk) -> None:
    clock, store = Clock(), LiveStore(epoch="e")
    folder = small_disk.folder / "history"
    history = await History.open(folder, clock=clock, flush_s=0.05)
    record(history, store, told(1, BEGIN))
    await history.flush()
    with small_disk.read_only():
        clock.now += HOUR
        record(history, store, told(2, clock.now))  # the hour before it needs a file of its own
        with pytest.raises((OSError, duckdb.Error), match=r"Read-only|Permission denied|No such file"):
            await history.flush()
        (finding,) = history.findings("transport")
        assert (finding.code, history.status().waiting) == ("history.not-written", 1)
        assert [s.value for s in await history.series("warsaw", LEAF, BEGIN, clock.now)] == [1.0]
    await history.flush()
    assert not history.findings("transport")
    assert [s.value for s in await history.series("warsaw", LEAF, BEGIN, clock.now)] == [1.0, 2.0]
    assert await history.gaps(0, clock.now) == []
    await history.close()


async def test_clock_that_jumps_leaves_gaps_and_never_disorder(tmp_path: Path) -> None:
    clock, true = Clock(), Clock(0)
    history, store = await History.open(tmp_path, clock=clock, monotonic=true), LiveStore(epoch="e")
    values = 0
    rows: list[tuple[int, str, int]] = []
    for jump in (0, 90 * MINUTE, -3 * HOUR, 400 * DAY, -400 * DAY, 0):
        for _ in range(3):
            clock.now += 10 * SECOND
            true.now += 10 * SECOND
            values += 1
            own = f"/m:list[k='{values}']/v"
            for path in (LEAF, own):
                record(history, store, told(values, clock.now, path))
                rows.append((clock.now, path, values))
            await history.flush()
        clock.now += jump
    reasons = [gap.reason for gap in await history.gaps(0, 2**62)]
    assert len(reasons) == 4
    assert sum("jumped ahead" in reason for reason in reasons) == 2
    assert sum("was set back" in reason for reason in reasons) == 2
    found = [c.value async for c in history.changes(0, 2**62, LEAF)]
    sequences = [d.target.sequence async for d in history.deltas(0, 2**62)]
    assert found == list(range(1, values + 1))
    assert sequences == sorted(sequences)
    assert (await history.state_at(2**62)).state_hash() == store.state_hash()
    clock.now += HOUR
    true.now += HOUR
    await history.flush()  # the hour of the year to come does not stay open for ever
    assert len(list((tmp_path / "changes").rglob("*.parquet"))) >= 3
    # What came from a later time is in no earlier state.
    for at in {received_at for received_at, _, _ in rows if received_at > BEGIN}:
        then = {path: value for received_at, path, value in rows if received_at <= at}
        assert {path: leaf.value for _, path, leaf in (await history.state_at(at)).items()} == then
    await history.close()


async def test_clock_set_back_between_two_runs_is_a_gap(tmp_path: Path) -> None:
    clock = Clock()
    await hours(tmp_path, clock, 2)
    clock.now -= 30 * MINUTE
    history = await History.open(tmp_path, clock=clock)
    (gap,) = await history.gaps(0, 2**62)
    assert (gap.start, gap.end) == (clock.now, clock.now + 30 * MINUTE)
    assert "set back by 1800 s while it did not run" in gap.reason
    await history.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_history_faults import BEGIN, DAY, HOUR, SECOND, Clock, record, told
from domain_twin.datastore import catalog, durable
from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore

left = int(sys.argv[2])
def deadly(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call
catalog.put_in_place = deadly(catalog.put_in_place)
catalog.Catalog.replace = deadly(catalog.Catalog.replace)
catalog.Catalog.take_over = deadly(catalog.Catalog.take_over)
Path.unlink = deadly(Path.unlink)

async def main():
    clock, store = Clock(), LiveStore(epoch="e")
    history = await History.open(Path(sys.argv[1]), clock=clock, raw_days=2, minute_days=4)
    for part in range(18):
        clock.now = BEGIN + part * 8 * HOUR + SECOND
        record(history, store, told(part, clock.now))
        record(history, store, told(f"n{part}", clock.now + 1, "/m:box/name"))
        await history.flush()
        print(part, flush=True)
        await history.maintain()
    clock.now = BEGIN + 45 * DAY
    await history.flush()
    await history.maintain()
    print("ended", left, flush=True)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
async def test_killed_at_any_step_history_is_the_old_or_the_new(tmp_path: Path, seed: int) -> None:
    points = random.Random(seed).sample(range(1, 330), 2)
    for point in points:
        folder = tmp_path / str(point)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            KILLED,
            str(folder),
            str(point),
            str(Path(__file__).parent),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(child.communicate(), 120)
        lines = out.decode().split()
        assert child.returncode == -9 or "ended" in lines, errors.decode()
        flushed = max([int(line) for line in lines if line.isdigit()][:18], default=-1)

        clock = Clock(BEGIN + 45 * DAY)
        history = await History.open(folder, clock=clock, raw_days=2, minute_days=4)
        for _ in range(2):
            assert not history.findings("transport")
            names = [c.value async for c in history.changes(0, 2**62, "/m:box/name")]
            levels = [c.value async for c in history.changes(0, 2**62, LEAF)]
            assert names == [f"n{i}" for i in range(len(names))]
            assert levels == list(range(len(levels)))
            assert min(len(names), len(levels)) >= flushed + 1
            for part in range(flushed + 1):
                then = await history.state_at(BEGIN + part * 8 * HOUR + HOUR)
                assert sorted(str(leaf.value) for _, _, leaf in then.items()) == sorted(
                    [str(part), f"n{part}"]
                )
            await history.maintain()
        on_disk = {
            p
            for kind in ("changes", "kept", "state", "minutes", "hours")
            for p in (folder / kind).rglob("*.parquet")
        }
        catalogued = {
            history._writer.database.catalog.path(f) for f in history._writer.database.catalog.of(*_kinds())
        }
        assert on_disk == catalogued
        await history.close()


def _kinds() -> list[object]:
    from domain_twin.datastore.catalog import FileKind

    return list(FileKind)
