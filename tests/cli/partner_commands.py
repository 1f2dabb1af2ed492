"""A partner at a kept demo: the commands, the examples, and what is not the partner's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import http_collection
import pytest

from domain_twin.config import load_api_client
from federation.cli.app import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "partner"
SOURCE, TARGET = "ran/cell-1", "edge/host-1"
POINTS = ("--point", SOURCE, "--point", TARGET)
FLOW = ("--flow", f"{SOURCE}>{TARGET}")
UNKNOWN = "6a1f0b7e-0000-4000-8000-000000000000"
Say = Callable[..., str]
"""A command and its words; `status` is what it ends with."""


def use_as_partner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, in the demo in `folder`; commands run in this process, as a start of one takes a second."""

    def say(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        found = run(list(words))
        told = capsys.readouterr()
        assert found == status, told.out + told.err
        return told.out or told.err

    mine = a_twin_is_ordered_and_used(say)
    another_partner_sees_nothing_of_it(folder, mine, say)
    refusals_are_one_sentence(say)
    it_is_rescoped_rests_and_is_retired(say)
    the_python_story_is_told(folder)
    the_collection_is_answered(folder)


def a_twin_is_ordered_and_used(say: Say) -> str:
    ordered = ("order", "create", "our lines", *POINTS, "--freshness", "2s", "--for", "8h")
    order = json.loads(say(*ordered, "--json"))
    assert order["state"] == "completed"
    mine = str(order["serviceOrderItem"][0]["service"]["id"])
    (listed,) = json.loads(say("twin", "list", "--json"))["twins"]
    assert listed["id"] == mine
    shown = say("twin", "show", "our lines")
    for domain in ("ran", "transport", "core", "edge"):
        assert re.search(rf"{domain} +active +running +mesh", shown), shown
    named = inside("our lines", say)
    assert {SOURCE, TARGET} <= named
    assert "ran/cell-2" not in named
    assert SOURCE in say("twin", "inside", mine[:8], "--kind", "endPoint")
    say("scenario", "define", "busy", "--demand", "x1.2", *FLOW, "--delay", "500")
    assert "verdict: passed" in say("scenario", "run", "busy", "--twin", "our lines")
    say("scenario", "define", "strict", "--demand", "x1.2", *FLOW, "--delay", "0.1")
    strict = json.loads(say("scenario", "run", "strict", "--twin", "our lines", "--json", status=1))
    assert strict["testMeasure"][0]["ruleViolation"]
    runs = json.loads(say("scenario", "runs", "--twin", "our lines", "--json"))["runs"]
    assert [each["name"] for each in runs] == ["strict", "busy"]
    assert "at most 0.1 ms" in say("scenario", "list")
    assert "not kept" in say("scenario", "show", strict["id"][:8])
    assert "completed" in say("order", "watch", order["id"][:8])
    return mine


def another_partner_sees_nothing_of_it(folder: Path, mine: str, say: Say) -> None:
    other = ("--api", str(folder / "partner-brightline.toml"))
    say("order", "create", "brightline's", *POINTS, *other)

    foreign = say("twin", "show", mine, *other, status=1)

    assert foreign == say("twin", "show", UNKNOWN, *other, status=1)
    (seen,) = json.loads(say("twin", "list", "--json", *other))["twins"]
    told = {each["name"]: each["value"] for each in seen["serviceCharacteristic"]}
    assert seen["name"] == "brightline's"
    assert told["fidelity"] == {"core": "mesh", "edge": "mesh", "ran": "mesh", "transport": "node"}
    say("twin", "retire", "brightline's", *other)


def refusals_are_one_sentence(say: Say) -> None:
    for words, named in (
        (("twin", "show", "nothing"), "no service"),
        (("scenario", "define", "x", "--down", "urn:ndt:idl:zzzz", "--keep", "speed<=3"), "speed"),
        (("scenario", "run", "nothing", "--twin", "our lines"), "no service"),
    ):
        said = say(*words, status=1)
        assert said.startswith("error: "), said
        assert named in said
        assert len(said.strip().splitlines()) == 1
    rejected = json.loads(say("order", "create", "x", "--point", "nowhere/x", "--json", status=1))
    assert rejected["state"] == "rejected"
    assert "nowhere/x" in json.dumps(rejected["serviceOrderItem"][0]["errorMessage"])


def it_is_rescoped_rests_and_is_retired(say: Say) -> None:
    say("twin", "rescope", "our lines", "--point", "ran/cell-2", "--point", TARGET)
    named = inside("our lines", say)
    assert "ran/cell-2" in named
    assert SOURCE not in named
    assert "suspended" in say("twin", "suspend", "our lines")
    assert "active" in say("scenario", "run", "busy", "--twin", "our lines", status=1)
    say("twin", "resume", "our lines")
    assert "completed" in say("twin", "retire", "our lines")
    assert json.loads(say("twin", "list", "--json"))["twins"] == []


def inside(twin: str, say: Say) -> set[str]:
    found: list[dict[str, Any]] = json.loads(say("twin", "inside", twin, "--json"))["resources"]
    return {each["name"] for each in found}


def the_python_story_is_told(folder: Path) -> None:
    told = subprocess.run(
        [sys.executable, EXAMPLES / "story.py", "--profile", folder / "partner.toml"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search("verdict: (pass|fail)", told.stdout), told.stdout
    assert "The promise would" in told.stdout.splitlines()[-1]


def the_collection_is_answered(folder: Path) -> None:
    profile = load_api_client(folder / "partner.toml")
    variables, wanted = http_collection.read(EXAMPLES / "story.http")
    variables["api"] = profile.url
    variables["token"] = (folder / "partners" / "acme.token").read_text().strip()
    session = http_collection.Session(variables)
    statuses = []
    for each in wanted:
        answer = session.send(each)
        deadline = time.monotonic() + 60
        while "again until" in each.title and answer.json()["state"] != "completed":
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
            answer = session.send(each)
        statuses.append(answer.status_code)
        assert answer.status_code < 300 or "404" in each.title, answer.text
        if each.name == "inside":
            assert {item["category"] for item in answer.json()} == {"borderPoint"}

    assert statuses == [200, 201, 200, 200, 200, 201, 201, 200, 404, 201]
