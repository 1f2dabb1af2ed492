"""`fedtwin deploy`: files that run the processes, under systemd or in containers, and watch them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command

SECTION = "Operate"
_PLACE = "/opt/fedtwin/bin/fedtwin"
_MEANING = {
    "fedtwin-agent@.service": "systemd unit of an agent, one instance a domain",
    "fedtwin-broker.service": "systemd unit of a broker",
    "fedtwin-api.service": "systemd unit of the APIs for partners",
    "Containerfile": "container image from the wheel",
    "compose.yaml": "a broker and an agent in containers",
    "prometheus.yml": "what Prometheus scrapes",
    "alerts.yml": "Prometheus alert rules",
    "dashboard.json": "Grafana dashboard",
}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "deploy",
        section=SECTION,
        example=("fedtwin deploy", "fedtwin deploy fedtwin-agent@.service"),
    )(deploy)


def deploy(
    *,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Which file; without it they are listed.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print a file that runs or watches the processes.

    For systemd, containers, Prometheus and Grafana. Where a unit starts fedtwin, it is the one that
    printed it.
    """
    from domain_twin.errors import NotFound
    from domain_twin.resources import data_folder
    from federation.cli.console import emit

    if not name:
        if as_json:
            emit([{"name": key, "meaning": text} for key, text in _MEANING.items()])
            return
        width = max(map(len, _MEANING))
        for key, text in _MEANING.items():
            typer.echo(f"{key.ljust(width)}  {text}")
        return
    if name not in _MEANING:
        raise NotFound(f"no file {name!r}; there are {', '.join(_MEANING)}")
    text = (data_folder("examples") / "deploy" / name).read_text(encoding="utf-8")
    text = text.replace(_PLACE, str(Path(sys.prefix) / "bin" / "fedtwin"))
    if as_json:
        emit({"name": name, "text": text})
    else:
        typer.echo(text, nl=False)
