"""Times to come as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from domain_twin.errors import ConfigError
from domain_twin.model.moments import moment
from domain_twin.simulation.questions.scenario_file import make_scenario

NOW = datetime(2026, 3, 28, 12, 30, 5, tzinfo=UTC)
WARSAW = ZoneInfo("Europe/Warsaw")


def meant(text: str) -> str:
    at = moment(text, round(NOW.timestamp()) * 10**9, WARSAW)
    return datetime.fromtimestamp(at / 1e9, UTC).strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("+15m", "03-28 12:45:05"),
        ("+1h30m", "03-28 14:00:05"),
        ("+2d", "03-30 12:30:05"),
        ("today 18:00", "03-28 17:00:00"),
        ("18:00", "03-28 17:00:00"),
        ("13:30", "03-29 11:30:00"),  # it is 13:30:05 there: the next one
        ("tomorrow 18:00", "03-29 16:00:00"),  # clocks change in that night
        ("Tomorrow  8:05", "03-29 06:05:00"),
        ("2026-04-01T18:00:00+02:00", "04-01 16:00:00"),
        ("2026-04-01T18:00:00Z", "04-01 18:00:00"),
    ],
)
def test_times_are_meant_as_written(text: str, utc: str) -> None:
    assert meant(text) == utc


@pytest.mark.parametrize("text", ["soon", "+", "+15", "15m", "tomorrow", "25:00", "18:60", "+99999999m"])
def test_what_is_no_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"when: .* is no time to come; write \+15m, tomorrow 18:00"):
        make_scenario({"when": text})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"when": "2026-04-01T18:00:00"}, "names no time zone"),
        ({"at": "2026-03-01T08:00:00Z"}, "when is a time to come and at one of the past"),
        (
            {"window": {"start": "2026-03-01T08:00:00Z", "end": "2026-03-01T09:00:00Z"}},
            "when is a time to come and window one of the past",
        ),
        ({"sweep": {"kind": "failures"}}, "a sweep has the demand of one time"),
    ],
)
def test_what_contradicts_a_time_to_come_is_refused(more: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_scenario({"when": "+15m", **more})


def test_a_time_to_come_alone_is_a_question() -> None:
    assert not make_scenario({"when": "+15m"}).empty
    with pytest.raises(ConfigError, match="add at least one entry under `changes:`, a `sweep:`, or `when:`"):
        make_scenario({})
