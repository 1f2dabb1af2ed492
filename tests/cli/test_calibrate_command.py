"""`fedtwin calibrate`: what it shows of a fit, and what it says where there is nothing to fit to."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Update, UpdateBatch
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic
from federation.cli.app import run
from federation.cli.calibrate import calibration_block, document
from federation.cli.console import _theme, emit

SECOND = 10**9
NAME = "/ietf-system:system/hostname"
FITS = {
    fit.element: fit
    for fit in (
        ElementFit("urn:ndt:core:upf-1", "function", 0.0, 4e-4, points=24, mape=2.5, r2=0.91),
        ElementFit("urn:ndt:core:upf-1:eth0:out", "link", 2e-4, points=24, mape=21.0, r2=-0.3),
        ElementFit("urn:ndt:idl:4k2m", "border", points=2, note="2 points of 10 intervals are too few"),
    )
}
FOUND = Calibration(
    "core",
    start=100 * SECOND,
    end=700 * SECOND,
    samples=7462,
    traffic=Traffic(packets_per_train=96.0),
    elements=FITS,
    assumptions=("no interface counts packets; a mean packet of 1,000 octets is assumed",),
)


@pytest.mark.parametrize("width", [80, 100])
def test_a_fit_is_shown_with_the_worst_first(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, theme=_theme(), highlight=False, color_system=None)
    console.print(calibration_block(FOUND, top=3))
    text = stream.getvalue()

    assert "…" not in text
    for words in (
        "96.0 packets together", "11.8 % of the mean delay, held out", "0.400 ms",
        "21.0 %", "default: 2 points of 10 intervals are too few", "a mean packet of 1,000 octets",
    ):  # fmt: skip
        assert words in " ".join(text.split())
    assert text.index("idl-4k2m border") < text.index("eth0:out link") < text.index("upf-1 function")


def test_what_is_not_shown_is_counted() -> None:
    stream = io.StringIO()
    Console(file=stream, width=100, theme=_theme()).print(calibration_block(FOUND, top=1))

    assert "2 elements more: --top or --json" in stream.getvalue()


def test_the_document_holds_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit(document(FOUND))

    told = json.loads(capsys.readouterr().out)
    assert told["traffic"]["packets_per_train"] == 96.0
    assert told["start"] == "1970-01-01T00:01:40.000000Z"
    assert [fit["element"] for fit in told["elements"]] == sorted(FITS)
    assert told["elements"][2]["mape"] is None


def test_a_place_without_an_agent_is_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate"]) == 1
    assert run(["calibrate", "--at", str(tmp_path / "none")]) == 1

    shown = capsys.readouterr().err
    assert shown.count("name an agent with --at: its socket, agent.toml or state folder") == 2


async def recorded(folder: Path, now: int) -> None:
    """A history that knows a name, and no delay of anything."""
    history = await History.open(folder, clock=lambda: now)
    store = LiveStore(epoch="e")
    delta = store.apply(UpdateBatch("warsaw", now, (Update("warsaw", NAME, "warsaw", now),)))
    assert delta
    history.append(delta)
    await history.flush()
    await history.close()


async def test_a_history_without_delays_is_refused_and_nothing_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    await recorded(state / "history", time.time_ns() - 60 * SECOND)

    status = await asyncio.to_thread(run, ["calibrate", "--window", "10m", "--at", str(state)])

    assert status == 1
    assert "has no delay of any element" in capsys.readouterr().err
    assert not (state / "calibration.json").exists()


async def test_a_history_that_begins_after_the_window_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    await recorded(state / "history", time.time_ns() + 3600 * SECOND)

    status = await asyncio.to_thread(run, ["calibrate", "--window", "10m", "--at", str(state)])

    assert status == 1
    assert "history begins at" in capsys.readouterr().err
