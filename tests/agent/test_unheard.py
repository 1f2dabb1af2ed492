"""When a device was not heard: from its last sign of life, over the agent's own end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domain_twin.agent.unheard import Unheard

SECOND = 1_000_000_000


def test_a_loss_begins_with_the_last_sign_of_life(tmp_path: Path) -> None:
    unheard = Unheard(tmp_path, ["a", "b"], now=100 * SECOND)
    assert unheard.back("a") == 100 * SECOND  # nothing was heard before the first state is complete
    assert unheard.back("b") == 100 * SECOND

    unheard.lost("a", heard_at=109 * SECOND, now=110 * SECOND, silence_ns=2 * SECOND)
    unheard.lost("a", heard_at=0, now=120 * SECOND, silence_ns=2 * SECOND)  # one more attempt that failed
    unheard.lost("b", heard_at=50 * SECOND, now=110 * SECOND, silence_ns=2 * SECOND)

    assert list(unheard) == ["a", "b"]
    assert unheard.back("a") == 109 * SECOND
    assert unheard.back("b") == 108 * SECOND  # it had nothing to say for long, and answered until then
    assert unheard.back("a") == 0


def test_what_was_lost_when_the_agent_ended_is_lost_since_then(tmp_path: Path) -> None:
    before = Unheard(tmp_path, ["a", "b"], now=SECOND)
    for device in ("a", "b"):
        before.back(device)
    before.lost("a", heard_at=4 * SECOND, now=5 * SECOND, silence_ns=2 * SECOND)

    after = Unheard(tmp_path, ["a", "b"], now=9 * SECOND)

    assert after.back("a") == 4 * SECOND
    assert after.back("b") == 9 * SECOND


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": "x"}', '{"a": null}', "7"])
def test_a_damaged_list_costs_the_start_of_a_gap_and_no_more(tmp_path: Path, content: str) -> None:
    (tmp_path / "unheard.json").write_text(content)

    unheard = Unheard(tmp_path, ["a"], now=7 * SECOND)

    assert unheard.back("a") == 7 * SECOND
    assert json.loads((tmp_path / "unheard.json").read_text()) == {}


def test_a_clock_set_back_makes_no_gap_that_begins_in_the_future(tmp_path: Path) -> None:
    (tmp_path / "unheard.json").write_text(json.dumps({"a": 90 * SECOND}))

    assert Unheard(tmp_path, ["a"], now=10 * SECOND).back("a") == 10 * SECOND


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    unheard = Unheard(tmp_path / "missing", ["a"], now=SECOND)

    assert unheard.back("a") == SECOND
    unheard.lost("a", heard_at=SECOND, now=2 * SECOND, silence_ns=SECOND)
    assert unheard.back("a") == SECOND
