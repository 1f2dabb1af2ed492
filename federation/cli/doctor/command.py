"""The command `fedtwin doctor`. Owns words; `examine` looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command

SECTION = "Operate"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "doctor",
        section=SECTION,
        example=(
            "fedtwin doctor",
            "fedtwin doctor agent.toml",
            "fedtwin doctor agent.toml --device core-router-1",
        ),
    )(doctor)


def doctor(
    *,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="agent, broker, client or other configuration files."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Of an agent's devices look at this one only.")
    ] = "",
    free_mb: Annotated[
        float, typer.Option("--free-mb", metavar="MB", min=0, help="Space that state should have left.")
    ] = 1024.0,
    problems: Annotated[
        bool, typer.Option("--problems", help="Show only what is not as it should be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong here, and how to mend it.

    Looks at the installation, then at all that the files name: keys, certificates, kept state, the
    broker, every device. It reads and dials, and changes nothing. Exit status 1 when something is wrong.
    """
    import logging

    from federation.cli.checks import Verdict
    from federation.cli.doctor.examine import examine
    from federation.cli.report import show

    logging.getLogger().setLevel(logging.CRITICAL)  # what is wrong becomes a row
    reports = examine(files or [], device_name=device, free_mb=free_mb)
    bad = any(row.verdict is Verdict.WRONG for report in reports for row in report.rows)
    show(reports, as_json=as_json, only_problems=problems)
    if bad:
        raise typer.Exit(1)
