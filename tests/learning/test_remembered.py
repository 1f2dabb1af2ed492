"""What a domain remembers of trainings: across restarts, bounded, by a clock that nobody sets back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.learning.remembered import Remembered
from domain_twin.learning.task import Feature, Task

TASK = Task("demand", features=(Feature("ndt:utilisation", "1"),))
PEER = "spiffe://exchange.example/broker/main"
SECOND = 1_000_000_000


def test_what_was_answered_and_ended_is_known_after_a_restart(tmp_path: Path) -> None:
    before = Remembered(tmp_path / "runs.sqlite")
    before.begin("one", PEER, TASK, 7)
    before.begin("two", PEER, TASK, 8)
    before.answer("one", b"message", most=2)
    before.end("two")
    before.end("never asked for")
    before.close()
    after = Remembered(tmp_path / "runs.sqlite")
    # Act
    one, two = after.get("one"), after.get("two")
    # Assert
    assert one
    assert two
    assert (one.asked_at, one.ended, two.ended) == (7, False, True)
    assert one.same(PEER, TASK)
    assert not one.same("spiffe://exchange.example/broker/other", TASK)
    assert not one.same(PEER, replace(TASK, rounds=9))
    assert after.begin("one", "another", TASK, 9) == one
    assert after.get("never asked for") is None
    with pytest.raises(ContractError, match="run one: this message came before"):
        after.answer("one", b"message", most=2)
    after.answer("one", b"another", most=2)
    with pytest.raises(OverCapacity, match="2 messages were answered"):
        after.answer("one", b"a third", most=2)
    after.close()


def test_the_oldest_are_forgotten_and_too_many_at_once_end(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path / "runs.sqlite", kept=80)
    for number in range(100):
        remembered.begin(f"run-{number}", PEER, replace(TASK, model=f"model-{number}"), number)
        remembered.answer(f"run-{number}", b"message", most=1)

    known = {number: remembered.get(f"run-{number}") for number in range(100)}

    assert [number for number, one in known.items() if one is None] == list(range(20))
    assert [number for number, one in known.items() if one and one.ended] == list(range(20, 36))
    with remembered._database() as database:
        assert database.execute("SELECT count(*) FROM answered").fetchone() == (64,)
        assert database.execute("SELECT count(*) FROM run").fetchone() == (80,)
    remembered.close()


def test_an_interval_outlives_a_restart_and_a_clock_that_was_set_back(tmp_path: Path) -> None:
    now = [1_000 * SECOND]
    before = Remembered(tmp_path / "runs.sqlite", clock=lambda: now[0])
    assert before.since_s("demand") is None
    before.begin("one", PEER, TASK, 0)
    now[0] += 60 * SECOND
    assert before.since_s("demand") == 60
    before.close()
    now[0] -= 900 * SECOND
    after = Remembered(tmp_path / "runs.sqlite", clock=lambda: now[0])

    assert after.since_s("demand") == 0
    now[0] += 30 * SECOND
    assert after.since_s("demand") == 30
    after.close()


def test_nothing_is_answered_where_it_cannot_be_remembered(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.mkdir()
    remembered = Remembered(path)

    with pytest.raises(OverCapacity, match="cannot be remembered here now, so that nothing is"):
        remembered.answer("one", b"message", most=2)

    assert str(path) in remembered.problem
    path.rmdir()
    assert remembered.get("one") is None
    assert not remembered.problem
    remembered.close()


def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"no database at all" * 100)
    remembered = Remembered(path)

    remembered.begin("one", PEER, TASK, 0)

    assert remembered.get("one")
    assert remembered.problem.startswith("what was remembered of trainings was damaged and set aside")
    assert [kept.read_bytes()[:2] for kept in tmp_path.glob("runs.sqlite.damaged-*")] == [b"no"]
    remembered.close()
