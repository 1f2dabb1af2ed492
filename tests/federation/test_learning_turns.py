"""Whose training is taken in, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from learning_session_parts import TASK

from domain_twin.config import BrokerLearningConfig
from domain_twin.errors import OverCapacity
from domain_twin.learning.run import Run, RunState
from federation.learning.turns import check_share, next_of

CONFIG = BrokerLearningConfig(runs=1, waiting=3, each_operator=2)


def run(owner: str, number: int, state: RunState = RunState.WAITING) -> Run:
    return Run(f"{owner}-{number}", TASK, (), state, number, owner=f"spiffe://{owner}.example/user/u{number}")


def test_users_of_one_operator_share_what_it_may_have() -> None:
    theirs = [run("edge", 1, RunState.RUNNING), run("edge", 2)]
    check_share(CONFIG, theirs[:1], theirs[0].owner)
    check_share(CONFIG, theirs, run("ran", 1).owner)
    with pytest.raises(
        OverCapacity, match=r"2 trainings of edge\.example run or wait.*\[learning\] each_operator"
    ):
        check_share(CONFIG, theirs, "spiffe://edge.example/user/another")


def test_the_queue_is_as_long_as_the_configuration_says() -> None:
    taken = [run(owner, 1) for owner in ("a", "b", "c")]
    check_share(CONFIG, taken, "spiffe://e.example/user/u")
    taken.append(run("d", 1, RunState.RUNNING))
    with pytest.raises(OverCapacity, match=r"4 trainings run or wait.*\[learning\] runs and waiting"):
        check_share(CONFIG, taken, "spiffe://e.example/user/u")


def test_who_has_many_that_wait_holds_up_nobody() -> None:
    running = run("edge", 0, RunState.RUNNING)
    waiting = [run("edge", 1), run("edge", 2), run("ran", 3), run("ran", 4)]

    assert next_of(waiting, [running, *waiting]).id == "ran-3"
    assert next_of(waiting, waiting).id == "edge-1"
    nobodys = [replace(running, owner="somebody")]
    assert next_of(waiting, [*nobodys, *waiting]).id == "edge-1"
