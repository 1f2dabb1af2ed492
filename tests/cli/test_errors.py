"""What goes wrong ends in one clear message on stderr, without a traceback, and in an exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from federation.cli.app import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDTWIN_AT", raising=False)
    monkeypatch.delenv("FEDTWIN_EMULATOR", raising=False)


CASES = [
    (["domains"], 1, "start the demo with `fedtwin demo --keep`"),
    (["domains", "--at", "nowhere.sock"], 1, "nowhere.sock: no such file"),
    (["path", "ran/cell-1"], 2, "Missing argument 'TO'; see `fedtwin path --help`"),
    (["fly"], 2, "No such command 'fly'; see `fedtwin --help`"),
    (["history", "x", "--last", "5"], 2, "'5' is not a length of time"),
    (["view", "--level", "x-ray"], 2, "choose node, mesh or native"),
    (["watch", "--kind", "weather"], 2, "'weather' is not a kind of event; there are domain, view"),
    (["agent", "none.toml"], 1, "none.toml: cannot be read"),
    (["emulate", "none.toml"], 1, "none.toml: no such file"),
    (["agent", "none.toml", "--log-level", "loud"], 2, "choose debug, info, warning, error"),
    (["fault", "list"], 1, "no emulator answers"),
    (["fault", "inject", "link-cut", "poznan"], 2, "'poznan' is not NAME=VALUE"),
    (["replay", "none.jsonl"], 1, "none.jsonl: cannot be read as a recording"),
    (["record", "none.toml", "-o", "x.jsonl"], 1, "none.toml: cannot be read"),
    (["ca", "agent", "ran", "--ca", "none"], 1, "make an authority with `fedtwin ca init`"),
    (["ca", "broker", "main"], 2, "name at least one host name"),
    (["ca", "show", "none.pem"], 1, "none.pem: cannot be read"),
    (["ca", "init", "Not A Name"], 1, "cannot name an operator"),
    (["demo", "--stop"], 1, "no demo runs here"),
]


@pytest.mark.parametrize(("words", "status", "message"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_clear_message(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words)

    shown = capsys.readouterr()
    assert code == status
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_the_broker_sets_its_floor_before_anything_else() -> None:
    command = [sys.executable, "-m", "federation.cli", "broker", "none.toml"]

    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert shown.returncode == 1
    assert shown.stderr.startswith("error: none.toml: cannot be read")


def test_debug_shows_where_an_error_arose() -> None:
    command = [sys.executable, "-m", "federation.cli", "--debug", "domains", "--at", "nowhere"]

    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert shown.returncode == 1
    assert "Traceback" in shown.stderr
    assert "nowhere: no such file" in shown.stderr


def test_authorities_and_identities_from_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ca", "init", "longhaul.example", "--ca", "ca", "--intermediate"]) == 0
    assert run(["ca", "agent", "transport", "--ca", "ca", "-o", "pki"]) == 0
    assert run(["ca", "broker", "main", "--dns", "127.0.0.1", "--ca", "ca", "-o", "pki", "--json"]) == 0
    capsys.readouterr()

    assert run(["ca", "show", "pki/agent-transport.pem"]) == 0

    shown = capsys.readouterr().out
    assert "spiffe://longhaul.example/agent/transport" in shown
    assert "longhaul.example intermediate" in shown
    assert run(["ca", "init", "longhaul.example", "--ca", "ca"]) == 1
    assert "there is an authority already" in capsys.readouterr().err
