"""Rolled-up history against a plain fold of everything that was ever appended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from store_batches import SECOND, START, batch_sequences

from domain_twin.datastore.encoding import state_hash
from domain_twin.datastore.history import DAY, HOUR, MINUTE, History
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Change, Update, UpdateBatch, Value

BEGIN = START - START % DAY
LEAF = "/m:box/level"
NAME = "/m:box/name"


@dataclass
class Clock:
    now: int = BEGIN

    def __call__(self) -> int:
        return self.now


def told(value: Value, at: int, path: str = LEAF, device: str = "warsaw") -> UpdateBatch:
    return UpdateBatch(device, at, (Update(device, path, value, at),))


def is_figure(change: Change) -> bool:
    value = change.value
    if change.deleted or isinstance(value, bool):
        return False
    return isinstance(value, int | Decimal) or (isinstance(value, float) and abs(value) < float("inf"))


def fold(changes: list[Change], at: int, resolution: int = 0) -> str:
    """The state at `at` from all changes; figures only until their last full interval, as documented."""
    state: dict[tuple[str, str], Change] = {}
    full = at // resolution * resolution if resolution else 0
    for change in changes:
        if resolution and is_figure(change):
            if change.received_at >= full:
                continue
        elif change.received_at > at:
            continue
        state[change.device, change.path] = change
    return state_hash((c.device, c.path, c.value, c.origin) for c in state.values() if not c.deleted)


actions = st.lists(
    st.sampled_from(["nothing", "flush", "restart", "maintain", "a day goes by", "ten days go by"]),
    min_size=12,
    max_size=12,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=6,
    phases=[Phase.generate],
)
@given(
    batches=batch_sequences(max_size=8),
    actions=actions,
    pace=st.sampled_from([1, 60, 1000]),
    rest_days=st.sampled_from([0, 3, 9, 40]),
)
def test_the_past_is_the_fold_of_its_changes_however_it_was_rolled(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[UpdateBatch],
    actions: list[str],
    pace: int,
    rest_days: int,
) -> None:
    options = {"raw_days": 2.0, "minute_days": 8.0, "retention_days": 36500.0}

    async def check() -> None:
        folder, clock, store = tmp_path_factory.mktemp("history"), Clock(), LiveStore()
        history = await History.open(folder, clock=clock, **options)
        told_so_far: list[Change] = []
        times: list[int] = []
        shift = 0
        for batch, action in zip(batches, actions, strict=False):
            at = BEGIN + (batch.received_at - START) * pace + shift
            moved = tuple(update._replace(observed_at=at) for update in batch.updates)
            clock.now = at
            delta = store.apply(UpdateBatch(batch.source, at, moved, batch.deletes, batch.sync))
            if delta:
                history.append(delta)
                told_so_far += delta.changes
                times += [at, at + SECOND, at + MINUTE, at // MINUTE * MINUTE, at + HOUR]
            if action in ("a day goes by", "ten days go by"):
                shift += DAY if action.startswith("a") else 10 * DAY
                clock.now = at + shift
            if action != "nothing":
                await history.flush()
            if action == "maintain":
                await history.maintain()
            if action == "restart":
                await history.close()
                history = await History.open(folder, clock=clock, **options)
        clock.now += rest_days * DAY
        await history.flush()
        await history.maintain()
        for _ in range(2):
            beginning = told_so_far[0].received_at if told_so_far else 0
            for at in (t for t in times if t >= beginning):
                snapshot = await history.state_at(at)
                assert snapshot.resolution_ns in (0, MINUTE, HOUR)
                assert snapshot.state_hash() == fold(told_so_far, at, snapshot.resolution_ns)
            if times:
                assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
                then = await history.state_at(max(beginning, min(times)))
                replayed = LiveStore.restored(then)
                async for delta in history.deltas(max(beginning, min(times)), clock.now):
                    replayed.follow(delta)
                assert replayed.state_hash() == store.state_hash()
                assert (await history.last_version()).sequence == store.version.sequence
            await history.close()
            history = await History.open(folder, clock=clock, **options)
        await history.close()

    asyncio.run(check())


async def filled(folder: Path, clock: Clock, days: int, **options: float) -> tuple[History, LiveStore]:
    """A figure each 4 hours, a name each day."""
    history, store = await History.open(folder, clock=clock, **options), LiveStore(epoch="e")
    for day in range(days):
        for part in range(6):
            clock.now = BEGIN + day * DAY + part * 4 * HOUR + 30 * SECOND
            batch = told(day * 1000 + part, clock.now)
            if part == 4:
                named = Update("warsaw", NAME, f"day {day}", clock.now)
                batch = UpdateBatch("warsaw", clock.now, (*batch.updates, named))
            delta = store.apply(batch)
            assert delta is not None
            history.append(delta)
    await history.flush()
    await history.maintain()
    return history, store


def files(folder: Path) -> dict[str, int]:
    kinds = ("changes", "kept", "state", "minutes", "hours")
    return {kind: len(list((folder / kind).rglob("*.parquet"))) for kind in kinds}


async def test_hours_become_days_and_months_and_old_figures_minutes(tmp_path: Path) -> None:
    clock = Clock()
    history, _ = await filled(tmp_path, clock, 5, raw_days=2)
    assert files(tmp_path)["kept"] == 2
    clock.now = BEGIN + 60 * DAY
    await history.flush()
    await history.maintain()
    assert files(tmp_path) == {"changes": 0, "kept": 5, "state": 5, "minutes": 5, "hours": 1}

    noon = BEGIN + DAY + 12 * HOUR + 45 * SECOND  # in the minute in which the figure changed
    then = await history.state_at(noon)
    assert then.resolution_ns == MINUTE
    assert then.get(LEAF)["warsaw", LEAF].value == 1000 + 2
    assert (await history.state_at(noon + 15 * SECOND)).get(LEAF)["warsaw", LEAF].value == 1000 + 3
    exact = BEGIN + DAY + 4 * 4 * HOUR + 30 * SECOND
    assert (await history.state_at(exact)).get(NAME)["warsaw", NAME].value == "day 1"
    assert (await history.state_at(exact - 1)).get(NAME)["warsaw", NAME].value == "day 0"
    await history.close()


async def test_series_over_every_tier_has_the_same_means(tmp_path: Path) -> None:
    clock = Clock()
    history, _ = await filled(tmp_path, clock, 4, raw_days=36500, minute_days=36500)
    spans = [(BEGIN, BEGIN + 4 * DAY, step) for step in (MINUTE, 10 * MINUTE, HOUR, DAY)]
    spans.append((BEGIN + 7 * HOUR + 5 * SECOND, BEGIN + 3 * DAY, 6 * HOUR))
    raw = [await history.series("warsaw", LEAF, *span) for span in spans]
    await history.close()

    for raw_days, minute_days in ((1.0, 36500.0), (1.0, 1.0)):
        history = await History.open(
            tmp_path, clock=clock, raw_days=raw_days, minute_days=minute_days, retention_days=36500
        )
        clock.now = BEGIN + 40 * DAY
        await history.flush()
        await history.maintain()
        for span, expected in zip(spans, raw, strict=True):
            if minute_days == 1.0 and span[2] < HOUR:
                continue
            found = await history.series("warsaw", LEAF, *span)
            assert [s.at for s in found] == [s.at for s in expected]
            assert [s.value for s in found] == pytest.approx([s.value for s in expected], rel=1e-9, abs=0.2)
        await history.close()


async def test_series_without_a_step_says_minutes_where_changes_are_gone(tmp_path: Path) -> None:
    clock = Clock()
    history, _ = await filled(tmp_path, clock, 4, raw_days=2)
    samples = await history.series("warsaw", LEAF, BEGIN, clock.now)
    before, resolution = await history.resolution(BEGIN + HOUR)
    old = [s for s in samples if s.at <= before]
    new = [s for s in samples if s.at > before]
    assert resolution == MINUTE
    assert {s.at % MINUTE for s in old} == {0}
    assert {s.at % MINUTE for s in new} == {30 * SECOND}
    assert [s.value for s in new][-1] == 3005.0
    assert old[5].value == pytest.approx(4.5)  # half a minute of 4, half a minute of 5
    await history.close()


async def test_many_series_in_one_go_are_those_asked_for_one_by_one(tmp_path: Path) -> None:
    clock = Clock()
    history, store = await History.open(tmp_path, clock=clock), LiveStore()
    leaves = [(f"d{i % 3}", f"/m:list[k='{i}']/v") for i in range(9)]
    for number in range(90):
        clock.now = BEGIN + number * 5 * MINUTE
        device, path = leaves[number % 9]
        delta = store.apply(told(number * 7 % 13, clock.now, path, device))
        if delta:
            history.append(delta)
    for step in (None, MINUTE, HOUR, 7 * HOUR):
        together = await history.series_of(leaves, BEGIN, clock.now, step)
        for leaf in leaves:
            assert together[leaf] == await history.series(*leaf, BEGIN, clock.now, step)
    await history.close()


async def test_gaps_leave_holes_in_rolled_up_series(tmp_path: Path) -> None:
    clock = Clock()
    history, _ = await filled(tmp_path, clock, 4, raw_days=2)
    history.gap("warsaw", BEGIN + 3 * HOUR, BEGIN + 5 * HOUR, "the session was lost")
    found = await history.series("warsaw", LEAF, BEGIN, BEGIN + DAY, HOUR)
    assert [(s.at - BEGIN) // HOUR for s in found] == [0, 1, 2, *range(5, 24)]
    await history.close()


async def test_device_that_was_forgotten_has_no_value_in_any_tier(tmp_path: Path) -> None:
    clock = Clock()
    history, store = await History.open(tmp_path, clock=clock, raw_days=1, minute_days=2), LiveStore()
    delta = store.apply(told(5, BEGIN + 30 * SECOND))
    assert delta
    history.append(delta)
    clock.now = BEGIN + 90 * MINUTE
    gone = store.forget("warsaw", now=clock.now)
    assert gone
    history.append(gone)
    for days in (0, 2, 4):
        clock.now = BEGIN + 4 * HOUR + days * DAY
        await history.flush()
        await history.maintain()
        found = await history.series("warsaw", LEAF, BEGIN, BEGIN + 3 * HOUR, HOUR)
        assert [(s.at, s.value) for s in found] == [(BEGIN, 5.0), (BEGIN + HOUR, 5.0)]
        assert len(await history.state_at(BEGIN + 2 * HOUR)) == 0
    await history.close()


async def test_history_of_the_first_release_goes_on(tmp_path: Path) -> None:
    import duckdb

    clock = Clock()
    history, store = await filled(tmp_path, clock, 3, raw_days=36500)
    hashes = {
        at: (await history.state_at(at)).state_hash() for at in range(BEGIN + HOUR, clock.now, 13 * HOUR)
    }
    await history.close()
    with duckdb.connect(str(tmp_path / "history.duckdb")) as connection:  # as format 1 had it
        connection.execute(
            "CREATE TABLE files (name VARCHAR, first_n BIGINT, last_n BIGINT,"
            " min_received BIGINT, max_received BIGINT)"
        )
        rows = connection.execute("SELECT * FROM catalog ORDER BY first_n").fetchall()
        for kind, name, *extent in rows:
            path = tmp_path / kind / name
            if kind in ("minutes", "hours"):
                path.unlink()
                continue
            plain = name.rpartition("-")[0] + ".parquet"
            path.rename(tmp_path / kind / plain)
            if kind == "changes":
                connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", [plain, *extent])
        connection.execute("DROP TABLE catalog; DROP TABLE about")
    history = await History.open(tmp_path, clock=clock, raw_days=36500)
    assert not history.findings("transport")
    await history.maintain()
    for at, digest in hashes.items():
        assert (await history.state_at(at)).state_hash() == digest
    assert files(tmp_path)["minutes"] == files(tmp_path)["changes"]
    assert (await history.state_at(clock.now)).state_hash() == store.state_hash()
    await history.close()
