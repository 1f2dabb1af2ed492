"""JSON's types, lengths of time, and numbers for people."""

from __future__ import annotations

import json
import math
from datetime import datetime

import cli_samples as samples
import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.cli.console import age, clock, count, emit, iso, mbps, ms, plain, ratio, span
from federation.cli.duration import nanoseconds
from federation.cli.route import sparkline


@given(st.integers(min_value=1, max_value=4_000_000_000 * 10**9))
def test_times_are_iso_8601_to_the_microsecond(at: int) -> None:
    text = iso(at)

    assert text.endswith("Z")
    assert abs(int(datetime.fromisoformat(text).timestamp() * 1e6) - at // 1000) <= 1


def test_documents_hold_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"answer": samples.answer(), "domains": samples.domains(), "service": samples.service()})

    document = json.loads(capsys.readouterr().out)
    assert document["answer"]["mode"] == "best"
    assert document["answer"]["answered_at"] == "2027-01-15T08:00:00.000000Z"
    assert document["domains"][0]["level"] == "mesh"
    assert document["service"]["budget"][0]["share_ms"] == 3.7


def test_unknown_figures_are_null() -> None:
    assert plain({"at": 0, "value": math.inf, "when": math.nan}) == {"at": None, "value": None, "when": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90 * 10**9),
        ("10m", 600 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("1m30s", 90 * 10**9),
        ("500ms", 5 * 10**8),
    ],
)
def test_lengths_of_time_are_read(text: str, expected: int) -> None:
    assert nanoseconds(text, "--last") == expected


@pytest.mark.parametrize("text", ["", "5", "m", "10 minutes", "-3s", "5s x"])
def test_other_texts_are_no_lengths_of_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write 500ms, 90s, 10m, 2h or 1d"):
        nanoseconds(text, "--last")


def test_numbers_are_readable() -> None:
    assert [span(n) for n in (3e5, 42e6, 3.4e9, 300e9, 7200e9, 3e14)] == [
        "0.3 ms", "42 ms", "3.4 s", "5 min", "2 h", "3 d",
    ]  # fmt: skip
    assert ms(5.8504) == "5.850 ms"
    assert mbps(math.inf) == "any"
    assert mbps(9_400) == "9,400 Mbit/s"
    assert ratio(0) == "0"
    assert count(1, "link") == "1 link"
    assert count(2, "switch") == "2 switches"
    assert age(0) == "never"
    assert clock(0) == ""


@given(st.lists(st.floats(allow_infinity=False), max_size=80))
def test_sparklines_never_fail_and_never_grow(values: list[float]) -> None:
    line = sparkline(values, width=32)

    assert len(line) <= 32
    assert set(line) <= set("▁▂▃▄▅▆▇█ ")
