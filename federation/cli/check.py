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
        typer.Argument(metavar="FILE...", help="agent, broker, client or network TOML, or services JSON."),
    ],
    as_json: Json = False,
) -> None:
    """Say what is fine in configuration files, and what is not.

    Looks at keys, files they name, certificates, identities, secrets and ports. Which kind
    a file is shows in its keys. Exit status 1 when something is wrong.
    """
    from federation.cli.checks import Verdict, check_file
    from federation.cli.console import emit, out, short_path

    reports = [check_file(path) for path in files]
    bad = any(row.verdict is Verdict.WRONG for report in reports for row in report.rows)
    if as_json:
        emit({"ok": not bad, "files": reports})
    else:
        from rich.table import Table
        from rich.text import Text

        styles = {
            Verdict.FINE: ("ok", "good"),
            Verdict.DOUBTFUL: ("look", "warn"),
            Verdict.WRONG: ("wrong", "bad"),
        }
        for report in reports:
            out().print(Text.assemble((short_path(report.file), "bold"), f"  {report.kind}"))
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(no_wrap=True, style="dim")
            table.add_column(overflow="fold")
            for row in report.rows:
                word, style = styles[row.verdict]
                table.add_row(Text(f"  {word:<5}", style), row.subject, Text(row.text))
            out().print(table)
    if bad:
        raise typer.Exit(1)
