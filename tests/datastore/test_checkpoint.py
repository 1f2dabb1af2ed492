"""The live state across restarts: orderly, by crash, with damage."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from store_batches import SECOND, START, batch_sequences

from domain_twin.datastore.checkpoint import Checkpoint, Restart
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Sync, Update, UpdateBatch, Version


def filled() -> LiveStore:
    store = LiveStore()
    for number in range(50):
        update = Update(f"device-{number % 3}", f"/m:list[k='{number}']/leaf", number * 0.1, START)
        store.apply(UpdateBatch(f"source-{number % 3}", START, (update,)))
    return store


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(batch_sequences())
def test_state_and_versions_survive_an_orderly_restart(tmp_path: Path, batches: list[UpdateBatch]) -> None:
    store = LiveStore()
    for item in batches:
        store.apply(item)
    Checkpoint(tmp_path).save(store.snapshot(), clean=True)

    restored = Checkpoint(tmp_path).restore()

    assert restored.restart is Restart.CLEAN
    assert restored.store.version == store.version
    assert restored.store.state_hash() == store.state_hash()
    assert restored.store.snapshot().devices == store.snapshot().devices
    assert restored.store.stale_devices() == set(store.snapshot().devices)


def test_first_start_has_no_checkpoint(tmp_path: Path) -> None:
    restored = Checkpoint(tmp_path).restore()
    assert (restored.restart, len(restored.store), restored.message) == (Restart.FIRST, 0, "")


def test_crash_starts_a_new_epoch_with_the_old_values(tmp_path: Path) -> None:
    store = filled()
    Checkpoint(tmp_path).save(store.snapshot())

    restored = Checkpoint(tmp_path).restore()

    assert restored.restart is Restart.CRASH
    assert restored.store.version.epoch != store.version.epoch
    assert restored.store.version.sequence == 0
    assert restored.store.state_hash() == store.state_hash()
    assert "did not end in order" in restored.message


def test_crash_after_an_orderly_restart_is_a_crash(tmp_path: Path) -> None:
    Checkpoint(tmp_path).save(filled().snapshot(), clean=True)
    assert Checkpoint(tmp_path).restore().restart is Restart.CLEAN
    assert Checkpoint(tmp_path).restore().restart is Restart.CRASH


def test_older_copy_than_history_starts_a_new_epoch(tmp_path: Path) -> None:
    store = filled()
    Checkpoint(tmp_path).save(store.snapshot(), clean=True)
    last = Version(store.version.epoch, store.version.sequence + 1)
    assert Checkpoint(tmp_path).restore(last=last).restart is Restart.CRASH


def test_restored_store_is_fresh_once_its_source_repeated_it(tmp_path: Path) -> None:
    store = filled()
    Checkpoint(tmp_path).save(store.snapshot(), clean=True)
    restored = Checkpoint(tmp_path).restore().store
    again = tuple(
        Update(device, path, leaf.value, START + SECOND)
        for device, path, leaf in store.snapshot().items()
        if device == "device-1"
    )

    restored.apply(UpdateBatch("source-1", START + SECOND, again, sync=Sync.BEGIN))
    assert restored.apply(UpdateBatch("source-1", START + SECOND, sync=Sync.END)) is None

    assert restored.stale_devices() == {"device-0", "device-2"}
    assert restored.version == store.version


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(where=st.integers(0, 10**9), flip=st.integers(1, 255), cut=st.booleans())
def test_damage_is_noticed_or_harmless(tmp_path: Path, where: int, flip: int, cut: bool) -> None:
    store = filled()
    Checkpoint(tmp_path).save(store.snapshot(), clean=True)
    file = tmp_path / "checkpoint.parquet"
    content = bytearray(file.read_bytes())
    where %= len(content)
    if cut:
        del content[where:]
    else:
        content[where] ^= flip
    file.write_bytes(content)

    restored = Checkpoint(tmp_path).restore()

    if restored.restart is Restart.DAMAGED:
        assert len(restored.store) == 0
        assert restored.store.version.epoch != store.version.epoch
    else:
        assert restored.store.state_hash() == store.state_hash()


def test_damaged_file_is_set_aside_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoint.parquet").write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING):
        restored = Checkpoint(tmp_path).restore(now=7)
    assert restored.restart is Restart.DAMAGED
    assert "set aside as checkpoint.parquet.damaged-7" in restored.message
    assert (tmp_path / "checkpoint.parquet.damaged-7").read_bytes() == b"rubbish"
    assert len(caplog.records) == 1
    assert Checkpoint(tmp_path).restore().restart is Restart.FIRST


async def test_keep_saves_while_the_store_changes(tmp_path: Path) -> None:
    store = filled()
    task = asyncio.create_task(Checkpoint(tmp_path).keep(store, every_s=0.01))
    async with asyncio.timeout(20):
        while not (tmp_path / "checkpoint.parquet").exists():  # noqa: ASYNC110 - the file is all there is
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert Checkpoint(tmp_path).restore().store.state_hash() == store.state_hash()


def test_values_that_somebody_changed_are_not_restored(tmp_path: Path) -> None:
    Checkpoint(tmp_path).save(filled().snapshot(), clean=True)
    file = tmp_path / "checkpoint.parquet"
    table = parquet.read_table(file)
    place = table.column_names.index("path")
    paths = [path.replace("leaf", "loaf") for path in table.column("path").to_pylist()]
    changed = table.set_column(place, table.field("path"), pa.array(paths).cast(table.field("path").type))
    parquet.write_table(changed, file, write_page_checksum=True)  # in itself the file is sound

    restored = Checkpoint(tmp_path).restore(now=7)

    assert (restored.restart, len(restored.store)) == (Restart.DAMAGED, 0)
    assert "not those that were written" in restored.message
