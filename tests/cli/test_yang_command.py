"""`fedtwin yang`: what loads, what does not and why, as a person and as a program read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federation.cli.app import run

GOOD = """
module good { yang-version 1.1; namespace "urn:good"; prefix g;
  container things { list thing { key id; leaf id { type string; } leaf size { type uint8; units km; } } } }
"""
LOST = 'module lost { namespace "urn:lost"; prefix l; import nowhere { prefix n; } leaf y { type string; } }'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yang").write_text(GOOD)
    return tmp_path


def test_a_folder_that_is_understood_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["yang", "report", str(folder)]) == 0

    told = capsys.readouterr()
    assert "1 module loaded from here with 4 data nodes" in told.out
    assert "stored only" in told.out
    assert told.err == ""


def test_what_is_missing_is_named_with_its_remedy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "lost.yang").write_text(LOST)

    assert run(["yang", "report", str(folder), "--json"]) == 1

    told = json.loads(capsys.readouterr().out)
    assert [module["name"] for module in told["modules"]] == ["good"]
    assert list(told["failed"]) == ["lost"]
    (problem,) = [each for each in told["problems"] if each["serious"]]
    assert "nowhere" in problem["message"]
    assert "nowhere.yang" in problem["remedy"]


def test_a_tree_says_types_and_what_feeds_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["yang", "tree", "/things/thing", str(folder)]) == 0
    assert "uint8 (km)" in capsys.readouterr().out

    assert run(["yang", "tree", "/interfaces/interface/oper-status", "--json"]) == 0
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert node["feeds"] == "interface oper_up"
    assert node["config"] is False


def test_what_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["yang", "tree", "/nothing", str(folder)]) == 1
    assert "no module that is loaded defines /nothing" in capsys.readouterr().err
    assert run(["yang", "report", str(folder / "no")]) == 1
    assert "no such folder" in capsys.readouterr().err
