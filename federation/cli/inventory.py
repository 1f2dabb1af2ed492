"""The command that lists what a twin holds, now or as it was: elements. Owns its options."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "elements",
        section="Ask the twin",
        example=(
            "fedtwin elements cell --at .fedtwin/demo/ran/state/agent.sock",
            "fedtwin elements link --ago 90s --at .fedtwin/demo/transport/state/agent.sock",
        ),
    )(elements)


def elements(
    *,
    kind: Annotated[
        str,
        typer.Argument(
            help="node, termination-point, link, network-function, cell or host at an agent; point or segment"
            " at a broker; default: all.",
            show_default=False,
        ),
    ] = "",
    prefix: Annotated[
        str, typer.Option("--prefix", help="Only elements whose ids begin so.", metavar="ID")
    ] = "",
    ago: Annotated[
        str,
        typer.Option("--ago", metavar="DURATION", help="As it was so long ago (90s, 10m, 2h); agents only."),
    ] = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what a twin holds, with its figures.

    An agent shows its own operator everything, also as it was; a broker what the domains disclose now.
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, iso, out
    from federation.cli.duration import nanoseconds

    moment = time.time_ns() - nanoseconds(ago, "--ago") if ago else 0
    found = ask(at, lambda twin: twin.elements("", kind, prefix, moment), "asking for the elements")
    if as_json:
        emit({"at": moment or time.time_ns(), "elements": found})
        return
    from federation.cli.tables import elements_table

    if moment:
        out().print(f"As it was at {iso(moment)}:")
    out().print(elements_table(found) if found else "There are no such elements.")
