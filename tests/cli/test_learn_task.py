"""What `fedtwin learn start` takes: presets, tasks' files and options; nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from domain_twin.learning.presets import PRESETS
from federation.cli.app import command as fedtwin


def command(*words: str) -> tuple[int, str]:
    """A command in this process: it connects to nobody."""
    ran = CliRunner().invoke(fedtwin(), ["learn", *words])
    return ran.exit_code, ran.output if ran.exception is None or ran.exit_code != 1 else str(ran.exception)


def test_a_task_is_shown_as_its_file_reads_it(tmp_path: Path) -> None:
    options = "--step 1s --last 4m --rounds 30 --of cell --profile private --seed 3 --no-gains --model mine"
    status, shown = command("start", "demand", "--show-task", *options.split())
    path = tmp_path / "task.json"
    path.write_text(shown)
    again = command("start", str(path), "--show-task")

    task = json.loads(shown)
    assert (status, again) == (0, (0, shown))
    assert (task["step_s"], task["window"]["length_s"], task["rounds"]) == (1.0, 240.0, 30)
    assert (task["element_kind"], task["profile"], task["seed"]) == ("cell", "private", 3)
    assert (task["explain"], task["model"], task["privacy"]["epsilon"]) == (False, "mine", 8.0)


def test_a_private_generator_has_one_round_and_noise_for_it() -> None:
    status, shown = command("start", "telemetry", "--profile", "private", "--show-task")
    refused, said = command("start", "telemetry", "--profile", "private", "--rounds", "3", "--show-task")

    task = json.loads(shown)
    assert (status, task["rounds"], task["explain"]) == (0, 1, False)
    assert (task["privacy"]["noise_multiplier"], task["privacy"]["epsilon"]) == (4.3, 8.0)
    assert (refused, "statistics that are told again cost epsilon" in " ".join(said.split())) == (2, True)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_task(name: str) -> None:
    assert json.loads(command("start", name, "--show-task")[1])["model"] == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [", "while parsing"),
        ("model: demand\nhorizons: [0]\n", "horizons.0: "),
        ("model: demand\nlag: 3\n", "lag: "),
        ("- 1\n", "the document"),
        ("model: 2026-01-01\n", "not JSON serializable"),
    ],
)
def test_a_file_that_is_no_task_is_named_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)

    status, said = command("start", str(path))

    assert status == 1
    assert said.startswith(f"{path}: ")
    assert words in said


def test_what_cannot_be_asked_for_is_said_with_the_choices(tmp_path: Path) -> None:
    unknown = command("start", "traffic")
    missing = command("start", str(tmp_path / "no.yaml"))
    profile = command("start", "demand", "--profile", "friendly")
    step = command("start", "demand", "--step", "soon")
    bounds = command("start", "demand", "--rounds", "20000")
    kind = command("start", "demand", "--of", "banana", "--show-task")
    seed = command("start", "demand", "--seed", "-2", "--show-task")
    nobody = command("start", "demand", "--domains", " , ")

    assert unknown[1].startswith("no preset 'traffic'; there are demand, gaps, watch, residual, telemetry")
    assert missing[1].endswith("cannot be read (No such file or directory); check the path")
    assert (profile[0], "'friendly' is none of mistrustful, private, trusted" in profile[1]) == (2, True)
    assert (step[0], "--step" in step[1]) == (2, True)
    assert (bounds[0], "rounds" in bounds[1]) == (1, True)
    assert (kind[0], "'banana' is none of link, border, cell" in kind[1]) == (2, True)
    assert (seed[0], "--seed" in seed[1]) == (2, True)
    assert (nobody[0], "' , ' names none" in nobody[1]) == (2, True)
