"""`fedtwin check`: what the shapes find wrong in a twin's graph. Owns words and the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from domain_twin.model import Finding
    from domain_twin.model.query import GraphCheck

SECTION = "Ask the graph"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "check",
        section=SECTION,
        example=(
            "fedtwin check",
            "fedtwin check --shape Link --at .fedtwin/demo/transport/state/agent.sock",
            "fedtwin check --timeout 10m --json",
        ),
    )(check)


def check(
    *,
    shape: Annotated[str, typer.Option("--shape", metavar="NAME", help="Check only this shape.")] = "",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="Give up after so long: 30s, 5m.")
    ] = "2m",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Check what the twin knows of the network for flaws.

    Against the ontology's shapes: is it whole, does it agree with itself? At an agent its own graph, at a
    broker what lies between the domains; each finding names element, shape and remedy. Files are checked by
    `fedtwin config check`, an installation by `fedtwin doctor`. Exit status 1 where there is an error;
    warnings alone leave it 0.
    """
    from federation.cli.asking import ask
    from federation.cli.duration import nanoseconds

    limit_s = nanoseconds(timeout, "--timeout") / 1e9
    found = ask(at, lambda twin: twin.check_graph(shape, timeout_s=limit_s), "checking the graph")
    if as_json:
        from federation.cli.console import emit

        emit(
            {
                "ok": not _errors(found),
                "findings": found.findings,
                "shapes": found.shapes,
                "parts": found.parts,
            }
        )
    else:
        from federation.cli.console import out
        from federation.cli.query import show_parts

        out().print(block(found))
        show_parts(found.parts)
    if _errors(found):
        raise typer.Exit(1)


def _errors(found: GraphCheck) -> int:
    return sum(finding.severity.value == "error" for finding in found.findings)


def block(found: GraphCheck) -> RenderableType:
    """Findings, worst first, and how many shapes were checked."""
    from rich.console import Group
    from rich.text import Text

    from federation.cli.console import count

    checked = Text(f"{count(found.shapes, 'shape')} checked", "dim")
    if not found.findings:
        return Text.assemble(("Nothing is wrong", "good"), ", ", checked)
    order = {"error": 0, "warning": 1, "info": 2}
    ordered = sorted(
        found.findings, key=lambda each: (order.get(each.severity.value, 1), each.code, each.element)
    )
    numbers = [
        count(number, word)
        for word in ("error", "warning")
        if (number := sum(each.severity.value == word for each in ordered))
    ]
    others = len(ordered) - sum(each.severity.value in ("error", "warning") for each in ordered)
    if others:
        numbers.append(count(others, "remark"))
    return Group(_table(ordered), Text(), Text.assemble((", ".join(numbers), "bold"), ", ", checked))


def _table(findings: list[Finding]) -> RenderableType:
    from rich.text import Text

    from federation.cli.bindings import short
    from federation.cli.tables import grid

    styles = {"error": "bad", "warning": "warn", "info": "note"}
    table = grid("severity", "shape", "finding", wraps="finding")
    for each in findings:
        text = Text(short(each.element) if "://" in each.element else each.element, "bold")
        text.append(f"\n{each.message}", "not bold")
        if each.remedy:
            text.append(f"\nRemedy: {each.remedy}", "not bold dim")
        table.add_row(
            Text(each.severity.value, styles.get(each.severity.value, "")),
            each.code.removeprefix("shape."),
            text,
        )
    return table
