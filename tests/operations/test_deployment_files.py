"""The files that ship for operators: units that systemd accepts, commands and metrics that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from small_federation import ROOT

from domain_twin.agent import metrics as agent
from domain_twin.emulator import metrics as emulator
from domain_twin.operations import process
from domain_twin.operations.instruments import Kind
from federation import metrics as broker
from federation.cli.app import app, run
from federation.cli.deploy import _MEANING

DEPLOY = ROOT / "examples" / "deploy"
UNITS = ("fedtwin-agent@.service", "fedtwin-broker.service", "fedtwin-api.service")
HARDENED = {
    "DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
    "PrivateTmp": "yes", "PrivateDevices": "yes", "CapabilityBoundingSet": "", "Type": "notify",
    "Restart": "on-failure",
}  # fmt: skip
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


class _Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(name: str) -> dict[str, str]:
    parser = _Unit(strict=False, interpolation=None, delimiters=("=",))
    parser.read(DEPLOY / name)
    assert parser.sections() == ["Unit", "Service", "Install"]
    return dict(parser["Service"])


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every fedtwin command line in a file, with the file's name."""
    for name in UNITS:
        for line in (DEPLOY / name).read_text().splitlines():
            if match := re.match(r"Exec\w+=-?/opt/fedtwin/bin/fedtwin (.*)", line):
                yield name, shlex.split(match[1])
    for match in re.finditer(r"command: \[(.*)\]", (DEPLOY / "compose.yaml").read_text()):
        yield "compose.yaml", [word.strip() for word in match[1].split(",")]
    for rule in re.findall(r'remedy: "(fedtwin [^;,"]*)', (DEPLOY / "alerts.yml").read_text()):
        yield "alerts.yml", shlex.split(rule.partition(" on its")[0].partition(":")[0])[1:]


def test_every_file_is_listed_and_shipped() -> None:
    assert {path.name for path in DEPLOY.iterdir()} == set(_MEANING)


@pytest.mark.parametrize("name", UNITS)
def test_units_are_hardened_and_bounded(name: str) -> None:
    service = unit(name)

    assert HARDENED.items() <= service.items()
    assert int(service["TimeoutStopSec"]) > 30  # what the process allows itself
    assert int(service["WatchdogSec"]) >= 10


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_units(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", name]) == 0
    copy = tmp_path / name.replace("@.", "@ran.")
    copy.write_text(capsys.readouterr().out)

    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (checked.returncode, checked.stderr) == (0, "")
    assert judged.returncode == 0, judged.stdout[-500:]


@pytest.mark.parametrize(("name", "words"), list(commands()))
def test_every_command_in_them_exists(name: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    parts, rest = [], list(words)
    while hasattr(command, "commands"):
        parts.append(rest.pop(0))
        command = command.commands[parts[-1]]
    accepted = {option for parameter in command.params for option in parameter.opts}

    assert {word for word in rest if word.startswith("--")} <= accepted, name


def test_compose_is_whole() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load(text)

    assert set(document) == {"x-fedtwin", "services", "volumes", "secrets"}
    for service in document["services"].values():
        assert service["user"] == "65532:65532"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "/readyz" in service["healthcheck"]["test"][-1]
        assert set(service["secrets"]) <= set(document["secrets"])
        assert {volume.split(":")[0] for volume in service["volumes"]} - {
            "./etc/broker",
            "./etc/agent",
        } <= set(document["volumes"])
    assert (ROOT / document["x-fedtwin"]["build"]["dockerfile"]).exists()


def test_images_name_no_registry_host() -> None:
    base = re.findall(r"^FROM (\S+)", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    images = re.findall(r"image: (\S+)", (DEPLOY / "compose.yaml").read_text())

    assert [name for name in (*base, *images) if "." in name.split("/")[0].split(":")[0]] == []
    assert "USER 65532" in (DEPLOY / "Containerfile").read_text()


def samples() -> set[str]:
    names = set(process.LIBRARY_METRICS)
    for item in (*process.INSTRUMENTS, *agent.INSTRUMENTS, *broker.INSTRUMENTS, *emulator.INSTRUMENTS):
        parts = ("_bucket", "_sum", "_count") if item.kind is Kind.HISTOGRAM else ("",)
        names |= {item.name + part for part in parts}
    return names


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_every_metric_they_watch_is_shown(name: str) -> None:
    text = (DEPLOY / name).read_text()
    expressions = (
        re.findall(r"expr: (.*)", text)
        if name.endswith(".yml")
        else [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    )

    watched = {word for line in expressions for word in re.findall(r"\b(?:fedtwin|process|python)_\w+", line)}
    assert watched
    assert watched - samples() == set()


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_every_label_they_use_is_shown(name: str) -> None:
    text = (DEPLOY / name).read_text()
    labels = {
        label
        for item in (*process.INSTRUMENTS, *agent.INSTRUMENTS, *broker.INSTRUMENTS)
        for label in item.labels
    }

    used = set(re.findall(r"[{,]\s*(\w+)!?=\\?\"", text)) | set(re.findall(r"\$labels\.(\w+)", text))
    assert used <= labels | {"job", "instance", "process"}


def test_an_unknown_file_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "nginx.conf"]) == 1
    assert "there are fedtwin-agent@.service" in capsys.readouterr().err


def test_the_list_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("compose.yaml", "dashboard.json"))
    assert run(["deploy", "alerts.yml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "alerts.yml"
