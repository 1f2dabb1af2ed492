"""`fedtwin config check`: finds what would go wrong before it does. Owns words; `checks` looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

SECTION = "Operate"


def add_to(app: typer.Typer) -> None:
    """Add `config` with its sub-command."""
    part = subgroup(app, "config", section=SECTION, help_text="Check configuration files.")
    part.callback()(_group)
    command(
        part,
        "check",
        group="config",
        section=SECTION,
        example=("fedtwin config check agent.toml", "fedtwin config check .fedtwin/demo/*.toml"),
    )(check)


def _group() -> None:
    """Check configuration files before a process meets them."""


def check(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="agent, broker, api, client or network TOML, or services JSON."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what is fine in configuration files, and what is not.

    Looks at keys, files they name, certificates, identities, secrets and ports. Which kind
    a file is shows in its keys. Dials nobody: `fedtwin doctor` does. Exit status 1 when something is
    wrong.
    """
    from federation.cli.checks import Verdict, check_file
    from federation.cli.report import show

    reports = [check_file(path) for path in files]
    show(reports, as_json=as_json)
    if any(row.verdict is Verdict.WRONG for report in reports for row in report.rows):
        raise typer.Exit(1)
