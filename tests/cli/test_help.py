"""Every command explains itself, with an example, in its help and in docs/cli.md; and help is quick."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from federation.cli.app import command
from federation.cli.register import examples

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = (
    "rich",
    "grpc",
    "httpx",
    "numba",
    "pydantic",
    "sqlalchemy",
    "duckdb",
    "ncclient",
    "cryptography",
    "plotext",
    "numpy",
    "scipy",
    "matplotlib",
    "jinja2",
    "yaml",
    "rdflib",
    "pyoxigraph",
)


def commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}

    def walk(group: click.Group, prefix: str) -> None:
        for name, item in group.commands.items():
            if isinstance(item, click.Group):
                walk(item, f"{prefix}{name} ")
            else:
                found[f"{prefix}{name}"] = item

    top = command()
    assert isinstance(top, click.Group)
    walk(top, "")
    return found


COMMANDS = commands()
WORDS = {
    "api",
    "token",
    "query",
    "impact",
    "check",
    "ontology",
    "elements",
    "audit",
    "doctor",
    "deploy",
    "alarms",
    "backup",
    "restore",
    "yang",
    "whatif",
    "simulate",
    "residual",
    "sweep",
    "jobs",
    "deliveries",
    "order",
    "scenario",
    "twin",
    "calibrate",
    "learn",
    "demo", "emulate", "agent", "broker", "ca", "domains", "devices", "view", "path", "services", "watch",
    "history", "findings", "fault", "record", "replay", "config", "mapping",
}  # fmt: skip


def test_all_commands_are_there() -> None:
    assert {name.split()[0] for name in COMMANDS} == WORDS
    assert {"config check", "ca init", "ca agent", "ca broker", "ca user", "ca show"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_every_option_a_meaning(name: str) -> None:
    shown = CliRunner().invoke(command(), [*name.split(), "--help"]).output

    assert f"fedtwin {name}" in shown.split("Example", 1)[1]
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
    assert all(len(line) <= 100 for line in shown.splitlines())


@pytest.mark.parametrize("name", examples)
def test_examples_are_accepted_by_the_parser(name: str) -> None:
    lines = " ".join(examples[name]).replace("\\ ", "")
    for text in re.split(r"(?=fedtwin )", lines):
        words = shlex.split(text)
        if words:
            command, rest = COMMANDS[name], words[1 + len(name.split()) :]
            with command.make_context(name, rest, resilient_parsing=False):
                pass


@pytest.mark.parametrize("name", examples)
def test_files_and_shapes_of_examples_are_there(name: str) -> None:
    text = " ".join(examples[name])

    for file in re.findall(r"\bexamples/\S+", text):
        assert (ROOT / file).exists(), f"fedtwin {name}: {file}"
    for shape in re.findall(r"--shape (\S+)", text):
        found = [
            path
            for path in (ROOT / "ontology" / "shapes").glob("*.ttl")
            if f"shape:{shape} a sh:NodeShape" in path.read_text()
        ]
        assert found, f"fedtwin {name}: {shape}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.split(f"### `fedtwin {name}", 1)

    assert len(section) == 2, f"docs/cli.md has no section for fedtwin {name}"
    words = section[1].split("\n### ")[0].split("\n## ")[0]
    shared = page.split("## Options that many commands share", 1)[1].split("\n## ")[0]
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            assert f"`{option}" in words or f"`{option}" in shared, f"{name} {option}"


def test_commands_that_show_something_have_json() -> None:
    without = {
        name for name, item in COMMANDS.items() if "--json" not in {o for p in item.params for o in p.opts}
    }

    assert without == {"agent", "api", "broker", "emulate"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from federation.cli import main; main(['--help']); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert run.stderr.strip() == "[]"
    assert "Ask the twin:" in run.stdout


def test_overview_shows_every_first_sentence_whole() -> None:
    shown = CliRunner().invoke(command(), ["--help"]).output

    assert "..." not in shown.split("Start:", 1)[1]
