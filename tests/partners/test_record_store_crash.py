"""A store whose process is killed, whose database goes away or fills up: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import databases
import pytest
import sqlalchemy as sa
from store_parts import ORDER, RESOURCE, opened

from domain_twin.errors import ConfigError, OverCapacity, TwinError, Unreachable
from federation.partners import database as database_module
from federation.partners import store as store_module
from federation.partners.store import RecordStore

WRITER = Path(__file__).with_name("record_writer.py")
ROUNDS = 3
TERMINATE = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


async def killed_after(url: str, run: str, lines: int) -> list[list[str]]:
    """What a writer said before it was killed with SIGKILL, some lines after it had opened the store."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), url, run, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    said: list[list[str]] = []
    try:
        async with asyncio.timeout(100):
            while len(said) <= lines:
                line = await process.stdout.readline()
                assert line, "the writer ended by itself"
                said.append(line.decode().split())
    finally:
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
    whole = rest.decode().rpartition("\n")[0]
    return said + [line.split() for line in whole.splitlines()]


async def test_killed_at_any_point_nothing_acknowledged_is_lost(database_url: str) -> None:
    rng = random.Random(6)
    removed: set[str] = set()
    perhaps: set[str] = set()  # its removal was begun and not acknowledged
    alive: dict[str, int] = {}
    for number in range(ROUNDS):
        # Act
        for word, *rest in await killed_after(database_url, f"r{number}", rng.randrange(1, 120)):
            match word:
                case "made" | "changed":
                    alive[rest[0]] = int(rest[1])
                case "removing":
                    perhaps.add(rest[0])
                case "removed":
                    removed.add(rest[0])
                    alive.pop(rest[0])
        # Assert
        store = await RecordStore.open(Path("/nonexistent"), database_url, ["acme"])
        kept = {record.id: record for record in store.of("acme").list(ORDER)}
        events = await store.events(0, limit=1_000_000)
        assert not removed & set(kept)
        assert set(alive) - perhaps <= set(kept)
        assert all(record.sequence >= alive.get(record.id, 0) for record in kept.values())
        assert len({record.body["key"] for record in kept.values()}) == len(kept)
        _events_and_records_agree(kept, events)
        key = next(iter(kept.values())).body["key"]
        assert (await store.of("acme").create_once(ORDER, {}, key=key)).repeated
        await store.close()


def _events_and_records_agree(kept: dict[str, Any], events: list[Any]) -> None:
    """Replayed, the outbox gives what is kept: no change without its event, and no event without it."""
    replayed: dict[str, Any] = {}
    for event in events:
        if event.event_type.endswith("DeleteEvent"):
            del replayed[event.id]
        else:
            assert event.event_type.endswith("CreateEvent") is (event.id not in replayed)
            replayed[event.id] = event
    assert {i: (e.sequence, e.body) for i, e in replayed.items()} == {
        i: (r.sequence, r.body) for i, r in kept.items()
    }


async def test_a_second_process_is_refused_in_words(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.2)
    async with opened(database_url) as store:
        with pytest.raises(ConfigError, match=r"another broker process keeps its|is in use by process"):
            async with opened(database_url):
                pass
        code = "import asyncio, sys; from pathlib import Path; from federation.partners import database as d;"
        code += " from federation.partners.store import RecordStore; d.LOCK_WAIT_S = 0.2;"
        code += " asyncio.run(RecordStore.open(Path('x'), sys.argv[1], ['acme']))"
        other = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, database_url], capture_output=True, text=True
        )
        assert "another broker process" in other.stderr or "in use by process" in other.stderr
        assert await store.of("acme").create(ORDER, {})
    async with opened(database_url) as later:  # it is free again
        assert len(later.of("acme").list(ORDER)) == 1


async def test_waits_a_moment_for_one_that_is_just_ending(database_url: str) -> None:
    first = await RecordStore.open(Path("/nonexistent"), database_url, ["acme"])
    second = asyncio.create_task(RecordStore.open(Path("/nonexistent"), database_url, ["acme"]))
    await asyncio.sleep(0.3)
    await first.of("acme").create(ORDER, {})
    await first.close()
    store = await second
    assert len(store.of("acme").list(ORDER)) == 1
    await store.close()


async def test_a_full_disk_loses_nothing_and_is_told(tmp_path: Path) -> None:
    # Arrange
    async with opened(f"sqlite:///{tmp_path}/p.sqlite3") as store:
        acme, problems = store.of("acme"), list[str]()
        store.on_problem = problems.append
        kept = await acme.create(ORDER, {"x": "y" * 4000})
        full = await under(store, "PRAGMA max_page_count = 1")
        # Act
        with pytest.raises(OverCapacity, match="the disk is full; what was asked is not kept"):
            await acme.create(ORDER, {"x": "y" * 100_000}, key="same")
        # Assert
        assert problems == [store.problem]
        assert acme.list(ORDER) == [kept]
        acme.show(RESOURCE, {"r": {}})  # what is shown goes on
        full.clear()
        await cut(store)
        again = await acme.create(ORDER, {"x": "y" * 100_000}, key="same")
        assert acme.list(ORDER) == [again, kept]
        assert problems[-1] == store.problem == ""
    async with opened(f"sqlite:///{tmp_path}/p.sqlite3") as later:
        assert len(later.of("acme").list(ORDER)) == 2
        assert len(await later.events(0, limit=10)) == 2


async def test_a_database_that_may_not_be_written_is_told_and_mends_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RECOVER_S", 0.05)
    async with opened(database_url) as store:
        acme = store.of("acme")
        kept = await acme.create(ORDER, {})
        sqlite = database_url.startswith("sqlite")
        readonly = "PRAGMA query_only = ON" if sqlite else "SET default_transaction_read_only = on"
        conditions = await under(store, readonly)
        # Act
        with pytest.raises(Unreachable, match=r"cannot be written \(.*make it writable by the broker"):
            await acme.create(ORDER, {}, key="k")
        with pytest.raises(Unreachable):
            await acme.remove(kept)
        # Assert
        assert acme.list(ORDER) == [kept]
        assert store.problem
        conditions.clear()
        await cut(store)
        running = asyncio.create_task(store.run())
        async with asyncio.timeout(30):
            while store.problem:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.02)
        running.cancel()
        made = await acme.create_once(ORDER, {}, key="k")
        assert not made.repeated
        assert len(acme.list(ORDER)) == 2


async def under(store: RecordStore, statement: str) -> list[str]:
    """From now on connections begin with `statement`, until the list that comes back is emptied."""
    statements = [statement]

    def begin(connection: Any, _record: Any) -> None:
        for each in statements:
            connection.cursor().execute(each)
            connection.commit()

    engine = store._database._engine
    assert engine
    sa.event.listen(engine, "connect", begin)
    await cut(store)
    return statements


async def cut(store: RecordStore) -> None:
    """Have the next transaction begin with a new connection."""
    database = store._database
    await asyncio.get_running_loop().run_in_executor(database._thread, database._drop)


async def test_a_connection_that_was_cut_costs_nothing(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        acme = store.of("acme")
        kept = await acme.create(ORDER, {})
        for number in range(3):
            await asyncio.to_thread(databases.query, postgres_url, TERMINATE)
            kept = await acme.update(kept, {**kept.body, "number": number})
        assert len(await store.events(0, limit=9)) == 4
        assert kept.version == 4


async def test_a_broker_that_lost_its_database_to_another_writes_no_more(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        acme = store.of("acme")
        await acme.create(ORDER, {})
        await asyncio.to_thread(databases.query, postgres_url, TERMINATE)
        async with opened(postgres_url) as other:
            await other.of("acme").create(ORDER, {})
        with pytest.raises(TwinError):
            await acme.create(ORDER, {})
        for _ in range(2):
            with pytest.raises(TwinError, match="another broker has used it since"):
                await acme.create(ORDER, {})
    async with opened(postgres_url) as later:
        assert len(later.of("acme").list(ORDER)) == 2


@pytest.mark.parametrize("written", [True, False])
async def test_a_transaction_whose_end_was_not_heard_of_is_looked_up(
    database_url: str, *, written: bool
) -> None:
    async with opened(database_url) as store:
        acme, inner, silent = store.of("acme"), store._database.call, [True, True]
        first = await acme.create(ORDER, {})

        async def deaf(work: Any) -> Any:
            """The database's answer is lost: to the write, and to the question what became of it."""
            if not silent:
                return await inner(work)
            if silent.pop() and written and silent:
                await inner(work)
            raise Unreachable("no answer")

        store._database.call = deaf  # type: ignore[method-assign]
        # Act
        with pytest.raises(Unreachable, match="no answer"):
            await acme.create(ORDER, {"number": 1}, key="k")
        assert acme.list(ORDER) == [first]  # nobody knows
        made = await acme.create_once(ORDER, {"number": 1}, key="k")
        # Assert
        assert made.repeated is written
        assert [record.version for record in acme.list(ORDER)] == [1, 1]
        assert len(await store.events(0, limit=9)) == 2
        changed = await acme.update(made.record, {**made.record.body, "number": 2})
    async with opened(database_url) as later:
        assert later.of("acme").list(ORDER) == [changed, first]


async def test_an_answer_that_is_lost_after_the_commit_costs_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, inner, lost = store.of("acme"), store._database.call, [True]

        async def deaf(work: Any) -> Any:
            answer = await inner(work)
            if lost:
                lost.pop()
                raise Unreachable("no answer")
            return answer

        store._database.call = deaf  # type: ignore[method-assign]
        order = await acme.create(ORDER, {})
        assert acme.list(ORDER) == [order]
        assert len(await store.events(0, limit=9)) == 1


async def test_a_refusal_never_rests_on_what_was_not_written(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, inner, away = store.of("acme"), store._database.call, [True]

        async def closed(work: Any) -> Any:
            if away:
                raise Unreachable("no answer")
            return await inner(work)

        store._database.call = closed  # type: ignore[method-assign]
        both = (acme.create(ORDER, {"id": "x"}), acme.create(ORDER, {"id": "x"}))
        refused = await asyncio.gather(*both, return_exceptions=True)
        assert [type(one) for one in refused] == [Unreachable, Unreachable]  # and no conflict
        away.clear()
        assert await acme.create(ORDER, {"id": "x"})


async def test_closing_writes_what_waits_and_refuses_more(database_url: str) -> None:
    store = await RecordStore.open(Path("/nonexistent"), database_url, ["acme"])
    acme = store.of("acme")
    waiting = [asyncio.create_task(acme.create(ORDER, {})) for _ in range(20)]
    following = store.follow()
    await anext(following)
    await asyncio.sleep(0)
    await store.close()
    assert len({(await task).id for task in waiting}) == 20
    assert [news async for news in following][-1:] != [None]
    for refused in (acme.create(ORDER, {}), store.execute(lambda connection: connection.closed)):
        with pytest.raises(Unreachable, match="the broker is stopping"):
            await refused
    await store.close()
    async with opened(database_url) as later:
        assert len(later.of("acme").list(ORDER)) == 20


async def test_a_connection_under_a_statement_cannot_be_closed_by_another_thread(tmp_path: Path) -> None:
    """SQLite would end the process with a segmentation fault, sometimes."""
    async with opened(f"sqlite:///{tmp_path}/p.sqlite3") as store:
        connection = store._database._connection
        assert connection
        driver: Any = connection.connection.dbapi_connection
        with pytest.raises(sqlite3.ProgrammingError, match="thread"):
            driver.close()
        await store.of("acme").create(ORDER, {})


async def test_its_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = await RecordStore.open(tmp_path / "state", "", ["acme"])
    await store.of("acme").create(ORDER, {})
    files = [path for path in (tmp_path / "state").iterdir() if path.suffix != ".lock"]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        "partners.sqlite3": 0o600,
        "partners.sqlite3-shm": 0o600,
        "partners.sqlite3-wal": 0o600,
    }
    await store.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "not a URL of SQLAlchemy"),
        ("mysql+nothing://x/y", "no driver for it"),
        ("postgresql+psycopg://ann:topsecret@127.0.0.1:1/x", "does not answer"),
    ],
)
async def test_says_why_a_database_cannot_be_used(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(TwinError, match=reason) as refused:
        await RecordStore.open(tmp_path, url, ["acme"])
    assert "topsecret" not in str(refused.value)


async def test_refuses_a_database_that_cannot_hold_all_letters(postgres_url: str) -> None:
    databases.query(postgres_url, "DROP DATABASE IF EXISTS latin")
    databases.query(
        postgres_url, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    with pytest.raises(ConfigError, match="its encoding is LATIN1"):
        async with opened(sa.make_url(postgres_url).set(database="latin").render_as_string()):
            pass
    databases.query(postgres_url, "DROP DATABASE latin")


async def test_says_that_a_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "partners.sqlite3").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ConfigError, match=r"partners\.sqlite3: damaged .*restore it from a backup"):
        await RecordStore.open(tmp_path, "", ["acme"])
