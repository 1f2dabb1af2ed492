"""What the demo's act of learning says when not all took part."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from domain_twin.learning.presets import preset
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Card
from federation.cli.demo.learning import Learned, _told
from federation.cli.demo.learning_screen import show
from federation.cli.demo.screen import Screen
from federation.cli.learn.screens import card_screen, round_line, run_screen

LATE = {
    "transport": "transport: no answer to learn within 60 s; it was cancelled",
    "ran": "ran: see [learning] kinds",
}
ROUNDS = [
    {
        "round": number,
        "accepted": True,
        "reason": "",
        "loss": loss,
        "change": 0.0,
        "took_s": took_s,
        "domains": {"core": {"state": "took-part", "loss": loss}, "edge": {"state": "judged"}},
    }
    for number, loss, took_s in ((0, 0.3, 0.0), (1, 0.2, 1.0))
]


def run(refused: dict[str, str], *, state: RunState = RunState.DONE, problem: str = "") -> Run:
    log = (*([{"refused": refused}] if refused else []), *(ROUNDS if state is RunState.DONE else []))
    return Run("beef", preset("demand"), ("core", "edge"), state, 1, round=1, problem=problem, log=log)


def shown(item: object) -> str:
    text = StringIO()
    Console(file=text, width=100).print(item)
    return text.getvalue()


def test_who_took_no_part_is_told_and_that_a_liar_who_is_not_there_tells_no_lies() -> None:
    text = StringIO()
    away, there = _told(run(LATE)), _told(run({}))

    show(Screen(Console(file=text, width=100), quick=True), Learned(there, away, replace(there)))

    said = " ".join(text.getvalue().split())
    assert "transport lies: 2 domains took no part. transport: no answer to learn within 60 s" in said
    assert "ran: see [learning] kinds" in said
    assert "So transport told no lies this time" in said
    assert "four together:" not in said
    assert "was cut back or left out" not in said


def test_rounds_say_no_more_than_is_known() -> None:
    lines = [str(round_line(entry, 1)) for entry in ROUNDS]
    nothing = str(round_line({**ROUNDS[1], "loss": None, "accepted": False, "reason": "late"}, 1))
    table = shown(run_screen(run(LATE)))

    assert lines[1] == "round 1/1  loss 0.2  core 0.2  edge"
    assert nothing == "round 1/1  no loss  core 0.2  edge  refused: late"
    assert "0.0 ms" not in table
    assert "transport takes no part: no answer to learn within 60 s" in table


@pytest.mark.parametrize("told", [True, False])
def test_a_card_says_what_raw_means_where_it_is_told(told: bool) -> None:
    scores = {"model": {"loss": 0.21, **({"raw": 0.2} if told else {})}}
    card = Card("demand", 1, preset("demand"), (), 1, "beef", 1, ("ran",), scores=scores)

    said = shown(card_screen(Kept(card, in_service=True)))

    assert ("raw: of the model alone" in said) is told


def test_a_training_without_data_says_once_why_and_what_to_do() -> None:
    why = {name: f"{name}: the domain has no data for this task, or too little" for name in ("ran", "core")}
    problem = f"0 domains take part, 2 must: {'; '.join(why.values())}"

    said = " ".join(shown(run_screen(run(why, state=RunState.FAILED, problem=problem))).split())

    assert said.count("no data for this task") == 2
    assert "0 domains take part, 2 must. One look of this task is 27 steps of 1 min long" in said
    assert said.endswith("take shorter steps: --step 1s")
