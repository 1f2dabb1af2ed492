"""An alarm's life: raised, changed, cleared, raised again; and what people say of it in between."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.alarms.book import KEPT_CHANGES, AlarmBook
from domain_twin.alarms.desk import AlarmDesk
from domain_twin.alarms.store import AlarmStore
from domain_twin.errors import NotFound
from domain_twin.model import (
    Alarm,
    AlarmKey,
    Condition,
    Finding,
    OperatorState,
    PerceivedSeverity,
    Severity,
    StatusChange,
)

MAJOR, MINOR = PerceivedSeverity.MAJOR, PerceivedSeverity.MINOR


def condition(
    resource: str = "eth0", severity: PerceivedSeverity = MAJOR, text: str = "down", at: int = 0
) -> Condition:
    return Condition(AlarmKey("ran", "gnb-1", resource, "x:down"), severity, text, raised_at=at)


def one(book: AlarmBook) -> Alarm:
    (alarm,) = book.alarms()
    return alarm


def test_an_alarm_is_raised_changed_cleared_and_raised_again() -> None:
    book = AlarmBook()

    book.report("gnb-1", [condition(at=5)], now=10)
    book.report("gnb-1", [condition(severity=MINOR, at=5)], now=20)
    book.report("gnb-1", [], now=30)
    book.report("gnb-1", [condition(at=40)], now=41)

    alarm = one(book)
    assert alarm.changes == (
        StatusChange(5, MAJOR, "down"),
        StatusChange(20, MINOR, "down"),
        StatusChange(30, None, "down"),
        StatusChange(40, MAJOR, "down"),
    )
    assert (alarm.created_at, alarm.raised_at, alarm.cleared_at) == (5, 40, 0)
    assert (alarm.occurrences, alarm.is_cleared, alarm.active) == (2, False, True)


def test_a_condition_that_is_said_again_is_no_news() -> None:
    book = AlarmBook()
    assert len(book.report("gnb-1", [condition()], now=10)) == 1

    assert book.report("gnb-1", [condition()], now=20) == []


def test_each_source_clears_only_what_it_said() -> None:
    book = AlarmBook()
    book.report("gnb-1", [condition("eth0")], now=10)

    book.report("twin", [], now=20)

    assert not one(book).is_cleared


def test_a_lost_source_clears_nothing_and_its_alarms_are_stale() -> None:
    book = AlarmBook()
    book.report("gnb-1", [condition()], now=10)

    (changed,) = book.set_stale("gnb-1", True)
    assert changed.stale
    assert not changed.is_cleared

    book.report("gnb-1", [condition()], now=30)
    assert not one(book).stale


def test_what_was_closed_comes_back_and_what_was_shelved_stays_away() -> None:
    book = AlarmBook()
    both = [condition("eth0"), condition("eth1")]
    book.report("gnb-1", both, now=10)
    for alarm, state in zip(book.alarms(), (OperatorState.CLOSED, OperatorState.SHELVED), strict=True):
        book.set_operator_state(alarm.id, state, operator="ann", note="known", now=20)

    book.report("gnb-1", [], now=30)
    book.report("gnb-1", both, now=40)

    assert sorted(alarm.operator_state for alarm in book.alarms()) == [
        OperatorState.NONE,
        OperatorState.SHELVED,
    ]
    assert sum(alarm.active for alarm in book.alarms()) == 1


def test_an_alarm_is_named_by_the_beginning_of_its_id() -> None:
    book = AlarmBook()
    book.report("gnb-1", [condition("eth0"), condition("eth1")], now=10)
    wanted = book.alarms()[0]

    assert book.find(wanted.id[:6]) is wanted
    with pytest.raises(NotFound, match="no alarm has an id that begins with 'zz'"):
        book.find("zz")
    with pytest.raises(NotFound):
        book.find("")


def test_a_restart_goes_on_where_the_run_before_ended(tmp_path: Path) -> None:
    # Arrange: of two alarms one is over by the time the twin runs again
    book = AlarmBook()
    book.report("gnb-1", [condition("eth0"), condition("eth1")], now=10)
    book.set_operator_state(book.alarms()[0].id, OperatorState.ACK, operator="ann", note="", now=20)
    AlarmStore(tmp_path / "alarms.sqlite").save(book.alarms())

    # Act
    again = AlarmBook(AlarmStore(tmp_path / "alarms.sqlite").load())
    assert all(alarm.stale for alarm in again.alarms())
    again.report("gnb-1", [condition("eth0"), condition("eth2")], now=50)

    # Assert
    said = {alarm.key.resource: alarm for alarm in again.alarms()}
    assert [said[name].is_cleared for name in ("eth0", "eth1", "eth2")] == [False, True, False]
    assert said["eth0"].occurrences == 1
    assert OperatorState.ACK in {alarm.operator_state for alarm in again.alarms()}
    assert not any(alarm.stale for alarm in again.alarms())


def test_a_flapping_device_keeps_the_book_bounded() -> None:
    book = AlarmBook(capacity=50)
    for turn in range(200):
        book.report("gnb-1", [condition(f"eth{turn}"), condition("eth-flap")] if turn % 2 else [], now=turn)

    assert len(book) <= 51
    assert all(len(alarm.changes) <= KEPT_CHANGES for alarm in book.alarms())


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sets(st.integers(0, 4)), st.booleans()), max_size=20
    )
)
def test_what_stands_is_what_the_sources_said_last(steps: list[tuple[str, set[int], bool]]) -> None:
    # Arrange: each source has resources of its own
    book, last = AlarmBook(), {"a": set[str](), "b": set[str]()}

    # Act: some steps also restart the twin in between
    for now, (source, wrong, restart) in enumerate(steps, start=1):
        last[source] = {f"{source}{number}" for number in wrong}
        book.report(source, [condition(name) for name in sorted(last[source])], now=now)
        if restart:
            book = AlarmBook(book.alarms())

    # Assert
    standing = {alarm.key.resource for alarm in book.alarms() if not alarm.is_cleared}
    assert standing == last["a"] | last["b"]


async def test_findings_are_alarms_but_for_mere_information(tmp_path: Path) -> None:
    told: list[str] = []
    desk = AlarmDesk(AlarmStore(tmp_path / "a.sqlite"), [], lambda _, text: told.append(text))

    desk.report_findings(
        "twin",
        [
            Finding("device.stale", Severity.ERROR, "ran", "gnb-1", "gnb-1 does not answer", "look", 7),
            Finding("note", Severity.INFO, "ran", "gnb-1", "by the way"),
        ],
    )
    await desk.flush()

    (alarm,) = AlarmStore(tmp_path / "a.sqlite").load()
    assert (alarm.severity, alarm.key.qualifier, alarm.raised_at) == (MAJOR, "device.stale", 7)
    assert told == ["alarm major: gnb-1 does not answer"]


async def test_a_file_that_cannot_be_written_is_said_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    desk = AlarmDesk(AlarmStore(folder / "alarms.sqlite"), [], lambda *_: None)
    desk.report("gnb-1", [condition()])

    await desk.flush()
    assert str(folder) in desk.problem

    folder.mkdir()
    await desk.flush()
    assert not desk.problem
    assert len(AlarmStore(folder / "alarms.sqlite").load()) == 1


@pytest.mark.parametrize("damage", ["rubbish", "foreign"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "alarms.sqlite"
    if damage == "rubbish":
        path.write_bytes(b"no database " * 1000)
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE alarm (something INTEGER)")
        database.close()

    assert AlarmStore(path).load() == []

    assert [item.name for item in tmp_path.glob("alarms.sqlite.damaged-*")]
    assert "alarms not readable" in caplog.text
    store = AlarmStore(path)
    store.save([])
    assert not store.problem
