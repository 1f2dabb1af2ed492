"""What a broker remembers, and that a bad disk costs it nothing but that."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from file_limits import full_disk

from domain_twin.model import (
    DomainStatus,
    Event,
    EventKind,
    Finding,
    Level,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Service,
    ServiceStatus,
    Severity,
    Version,
    View,
)
from federation import storage as storage_module
from federation.events import event_log
from federation.storage import FILE_NAME, Restored, Storage

VIEW = View(
    domain="ran",
    agreement="a",
    level=Level.MESH,
    version=Version("e1", 7, 123),
    points={
        "ran/cell-1": Point("ran/cell-1", "ran", PointKind.ENDPOINT, role="cell"),
        "ran/b1": Point("ran/b1", "ran", PointKind.BORDER, link_id="urn:ndt:idl:ab12", peer_domain="core"),
    },
    segments={("ran/cell-1", "ran/b1"): Segment("ran/cell-1", "ran/b1", PathKpis(1.5), (PathKpis(1.5),))},
    hidden_nodes=6,
)
DOMAIN = DomainStatus("ran", "northcell.example", True, Level.MESH, VIEW.version, 456, 2, 1)
FINDING = Finding("view.refused", Severity.ERROR, "ran", "ran/b1", "no", "mend it", since=99)


@pytest.fixture(autouse=True)
def keep_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of these tests are in 1970."""
    monkeypatch.setattr(storage_module, "RETENTION_S", 2**32)


def status(at: int, service: str = "urn:s:1") -> ServiceStatus:
    return ServiceStatus(Service(service, "s", "ran/a", "edge/b"), None, (), (), None, at)


def event(number: int) -> Event:
    return Event(number, number * 10, EventKind.DOMAIN, "ran", f"event {number}")


async def test_a_restarted_broker_says_since_when_it_recorded_nothing(tmp_path: Path) -> None:
    first, empty = await Storage.open(tmp_path / "state")
    event_log(first, empty)  # at the very first start nothing is missing
    first.add_event(event(2))
    first.add_status(status(21))
    await first.close()

    second, restored = await Storage.open(tmp_path / "state")
    event_log(second, restored)
    await second.close()
    third, _ = await Storage.open(tmp_path / "state")
    told = [e for e in await third.events(0, 2**62, limit=10) if e.kind is EventKind.GAP]
    await third.close()

    assert len(told) == 1
    assert "1970-01-01T00:00:00.000" in told[0].text


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    # Arrange
    first, empty = await Storage.open(tmp_path / "state")
    first.save_domain(DOMAIN)
    first.save_view(VIEW, 456, 789)
    first.save_finding(FINDING)
    for number in range(1, 4):
        first.add_event(event(number))
        first.add_status(status(number))
    # Act
    await first.close()
    second, restored = await Storage.open(tmp_path / "state")
    # Assert
    assert empty == Restored()
    assert restored == Restored((DOMAIN,), ((VIEW, 456, 789),), (FINDING,), (status(3),), 3, 30)
    assert await second.events(10, 30, limit=10) == [event(1), event(2)]
    assert await second.service_history("urn:s:1", 2, 9, limit=10) == [status(2), status(3)]
    assert await second.service_history("urn:s:1", 0, 9, limit=1) == [status(1)]
    assert await second.service_history("urn:s:2", 0, 9, limit=10) == []
    await second.close()


async def test_only_the_latest_of_a_view_a_domain_and_a_finding_is_kept(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    for sequence in range(5):
        store.save_view(View("ran", "a", Level.NODE, Version("e", sequence), {}, {}), sequence)
        await store.flush()
    store.save_finding(FINDING)
    await store.flush()
    store.clear_finding(FINDING)
    store.save_domain(DOMAIN)
    await store.close()
    second, restored = await Storage.open(tmp_path)
    assert [view.version.sequence for view, _, _ in restored.views] == [4]
    assert restored.findings == ()
    second.forget_view("ran")
    await second.close()
    third, restored = await Storage.open(tmp_path)
    await third.close()
    assert restored.views == ()


async def test_what_is_handed_over_is_written_without_asking(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    running = asyncio.create_task(store.run())
    store.add_event(event(1))
    async with asyncio.timeout(20):
        while not sqlite3_rows(tmp_path / FILE_NAME):  # noqa: ASYNC110  # a thread writes
            await asyncio.sleep(0.05)
    running.cancel()
    await store.close()


async def test_history_includes_what_is_not_written_yet(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    store.add_status(status(1))
    await store.flush()
    store.add_status(status(2))
    assert await store.service_history("urn:s:1", 0, 9, limit=10) == [status(1), status(2)]
    await store.close()


async def test_the_file_is_for_the_broker_alone_and_in_wal_mode(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path / "state")
    await store.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / FILE_NAME).stat().st_mode) == 0o600
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_folder_that_cannot_be_made_is_a_problem_and_not_an_end(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    store, restored = await Storage.open(tmp_path / "taken" / "state")
    problems = [store.problem]
    store.on_problem = problems.append
    store.add_status(status(1))
    assert restored == Restored()
    assert "taken/state" in store.problem
    assert "goes on in memory" in store.problem
    assert await store.service_history("urn:s:1", 0, 9, limit=10) == [status(1)]
    await store.close()
    assert len(set(problems)) == 1


async def test_a_read_only_database_is_a_problem_and_not_an_end(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    store.save_domain(DOMAIN)
    await store.close()
    url = f"sqlite:///file:{tmp_path / FILE_NAME}?mode=ro&uri=true"
    store, _ = await Storage.open(tmp_path, url)
    store.add_status(status(1))
    await store.flush()
    assert await store.events(0, 9, limit=1) == []
    assert "readonly" in store.problem  # and that reading works does not make it good
    await store.close()


async def test_a_full_disk_is_a_problem_until_there_is_room(tmp_path: Path) -> None:
    # Arrange
    store, _ = await Storage.open(tmp_path)
    for number in range(1, 4000):
        store.add_event(event(number))
    # Act
    with full_disk(64 << 10):
        await store.flush()
    full = store.problem
    store.add_status(status(1))
    await store.flush()
    # Assert
    assert "disk" in full
    assert store.problem == ""
    assert len(await store.events(0, 2**62, limit=10_000)) == 3999
    await store.close()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is not SQLite" * 100)
    store, _ = await Storage.open(tmp_path)
    assert "move the file away" in store.problem
    await store.close()


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    await store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    store, _ = await Storage.open(tmp_path)
    assert "version 99" in store.problem
    await store.close()


async def test_one_bad_row_does_not_cost_the_others(tmp_path: Path) -> None:
    store, _ = await Storage.open(tmp_path)
    store.save_domain(DOMAIN)
    await store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("INSERT INTO domain VALUES ('core', 1, x'ffff')")
    connection.close()
    store, restored = await Storage.open(tmp_path)
    assert restored.domains == (DOMAIN,)
    await store.close()


async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    store, _ = await Storage.open(tmp_path / "taken" / "state")
    for number in range(storage_module.MAX_WAITING + 100):
        store.add_event(event(number))
    await store.flush()
    kept = await store.events(0, 2**62, limit=10**9)
    assert len(kept) == storage_module.MAX_WAITING
    assert kept[0] == event(100)
    await store.close()


async def test_old_rows_go_and_new_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "MAX_ROWS", 2)
    monkeypatch.setattr(storage_module, "PRUNE_S", -1.0)
    store, _ = await Storage.open(tmp_path)
    for number in range(1, 6):
        store.add_event(event(number))
    await store.flush()
    assert await store.events(0, 2**62, limit=10) == [event(4), event(5)]
    await store.close()


async def test_what_is_older_than_the_retention_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "RETENTION_S", 3600)
    store, _ = await Storage.open(tmp_path)
    now = time.time_ns()
    store.add_status(status(now - 3_601_000_000_000))
    store.add_status(status(now))
    assert await store.service_history("urn:s:1", 0, now + 1, limit=10) == [status(now)]
    await store.close()


def sqlite3_rows(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        connection.close()


async def test_a_connection_under_a_statement_cannot_be_closed_by_another_thread(tmp_path: Path) -> None:
    """SQLite would end the process with a segmentation fault, sometimes."""
    storage, _ = await Storage.open(tmp_path)
    assert storage._engine
    held = await asyncio.get_running_loop().run_in_executor(storage._thread, storage._engine.raw_connection)
    driver: Any = held.dbapi_connection
    with pytest.raises(sqlite3.ProgrammingError, match="thread"):
        driver.close()
    await asyncio.get_running_loop().run_in_executor(storage._thread, held.close)
    await storage.close()
