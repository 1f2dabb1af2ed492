"""How the rows of `config check` and `doctor` look. Owns the words OK, WARN and FAIL."""

from __future__ import annotations

from collections.abc import Sequence

from federation.cli.checks import Report, Verdict

__all__ = ["show"]

_LOOK = {Verdict.FINE: ("OK", "good"), Verdict.DOUBTFUL: ("WARN", "warn"), Verdict.WRONG: ("FAIL", "bad")}


def show(reports: Sequence[Report], *, as_json: bool, only_problems: bool = False) -> None:
    """Print reports: a heading each, then verdict, subject and text, and below it what mends it."""
    from rich.table import Table
    from rich.text import Text

    from federation.cli.console import emit, out, short_path

    if as_json:
        good = all(row.verdict is not Verdict.WRONG for report in reports for row in report.rows)
        emit({"ok": good, "files": reports})
        return
    for report in reports:
        rows = [row for row in report.rows if not only_problems or row.verdict is not Verdict.FINE]
        if not rows and only_problems:
            continue
        out().print(Text.assemble((short_path(report.file), "bold"), f"  {report.kind}"))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for row in rows:
            word, style = _LOOK[row.verdict]
            table.add_row(Text(f"  {word:<4}", style), row.subject, Text(row.text))
            if row.remedy:
                table.add_row("", "", Text(f"$ {row.remedy}", "note"))
        out().print(table)
    if only_problems and all(row.verdict is Verdict.FINE for report in reports for row in report.rows):
        out().print("Nothing is wrong.")
