"""Log lines: typed fields, one line a record, bounded, and silent about keys."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import click
import pytest

from federation.cli.logs import BoundedHandler, Formatter, JsonFormatter, close, to_journal, to_stderr

KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGwVsbtH\n-----END PRIVATE KEY-----\n"


class Colour(Enum):
    RED = "red"


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO, BoundedHandler]]:
    stream = io.StringIO()
    handler = BoundedHandler(stream, burst=5, interval_s=60.0, kinds=50)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("test.operations.logs")
    log.propagate, log.handlers[:] = False, [handler]
    log.setLevel(logging.DEBUG)
    yield log, stream, handler
    handler.close()
    log.handlers.clear()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def one(form: logging.Formatter, message: str, **fields: object) -> str:
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "levelno": 20, "msg": message, **fields}
    )
    return form.format(record)


def test_fields_keep_their_types(written: tuple[logging.Logger, io.StringIO, BoundedHandler]) -> None:
    log, stream, _ = written
    at = datetime(2026, 1, 2, tzinfo=UTC)

    log.info(
        "told",
        extra={
            "ask": 7, "wait_s": 0.5, "good": True, "nothing": None, "never": float("inf"), "at": at,
            "where": Path("/a"), "many": [1, Colour.RED], "level": "mesh",
        },
    )  # fmt: skip

    (record,) = lines(stream)
    assert record["message"] == "told"
    assert record["level"] == "info"
    expected = {
        "ask": 7, "wait_s": 0.5, "good": True, "nothing": None, "never": "inf", "where": "/a",
        "many": [1, "red"],
    }  # fmt: skip
    assert {name: record[name] for name in expected} == expected
    assert record["level_"] == "mesh"
    assert record["at_"] == at.isoformat()


def test_an_exception_is_a_field(written: tuple[logging.Logger, io.StringIO, BoundedHandler]) -> None:
    log, stream, _ = written
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("it failed")

    (record,) = lines(stream)
    assert "ValueError: boom" in str(record["exception"])


@pytest.mark.parametrize("form", [Formatter(), JsonFormatter()])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nfake 2026 info: b", "\x1b[2J\x07", "a\u2028b", "\x9b31m", "\ud800", "x" * 100_000]
)
def test_a_peer_cannot_write_lines_or_move_the_cursor(form: logging.Formatter, text: str) -> None:
    line = one(form, text, reason=text)

    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert len(line) < 10_000


@pytest.mark.parametrize("form", [Formatter(), JsonFormatter()])
@pytest.mark.parametrize("text", [KEY, KEY[:60], KEY.replace(" PRIVATE", " EC PRIVATE"), f"x {KEY} y"])
def test_a_private_key_does_not_pass(form: logging.Formatter, text: str) -> None:
    line = one(form, text, reason=text, many=[text])

    assert "MC4CAQAwBQ" not in line
    assert "(a private key)" in line


def test_a_flood_is_held_back_and_counted(
    written: tuple[logging.Logger, io.StringIO, BoundedHandler],
) -> None:
    log, stream, handler = written

    for _ in range(1000):
        log.warning("leaf quarantined", extra={"device": "loud"})
    log.warning("leaf quarantined", extra={"device": "quiet"})
    log.warning("another thing", extra={"device": "loud"})
    handler.close()

    told = lines(stream)
    assert [r["device"] for r in told[:7]] == ["loud"] * 5 + ["quiet", "loud"]
    (last,) = told[7:]
    assert (last["message"], last["held_back"], last["about"]) == ("the same came too often", 995, "loud")
    assert last["repeated"] == "leaf quarantined"
    assert handler.suppressed == 995
    assert handler.counts == {"warning": 1002}


def test_subjects_by_the_thousand_share_one_allowance(
    written: tuple[logging.Logger, io.StringIO, BoundedHandler],
) -> None:
    log, stream, handler = written

    for number in range(5000):
        log.warning("call refused", extra={"peer": f"peer-{number}"})
    handler.close()

    assert len(lines(stream)) <= 50 + 5 + 1
    assert len(handler._seen) <= 50


def test_after_the_interval_the_count_is_told_by_itself() -> None:
    stream = io.StringIO()
    handler = BoundedHandler(stream, burst=1, interval_s=0.2)
    handler.setFormatter(JsonFormatter())
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "levelno": 20, "msg": "again"})
    for _ in range(10):
        handler.handle(record)
    timer = handler._timer
    assert timer

    timer.join(30)

    assert [r.get("held_back") for r in lines(stream)] == [None, 9]
    handler.close()


def test_the_journal_gets_priorities_in_the_place_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    line = one(Formatter(journal=True), "lost", device="gnb-1")

    assert line == "<6>x: lost device=gnb-1"
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        status = os.fstat(write)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert to_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", "1:1")
        assert not to_journal(stream)
    os.close(read)


def test_text_lines_are_as_they_were() -> None:
    line = one(Formatter(), "lost a device", device="gnb-1", reason="no answer")

    assert line.endswith(' info x: lost a device device=gnb-1 reason="no answer"')


@pytest.mark.parametrize(("level", "form"), [("loud", "text"), ("info", "xml")])
def test_unknown_levels_and_forms_are_refused(level: str, form: str) -> None:
    with pytest.raises(click.BadParameter, match="choose"):
        to_stderr(level, form)


def test_closing_says_what_was_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        to_stderr("info", "json")
        for _ in range(30):
            logging.getLogger("test.again").info("again")
        close()
    finally:
        root.handlers[:] = before
        root.setLevel(level)

    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert told[-1]["held_back"] == 10
