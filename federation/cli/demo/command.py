"""The command `fedtwin demo`. Owns its options; the run itself is in `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federation.cli.register import command

DEFAULT_FOLDER = Path(".fedtwin/demo")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "demo",
        section="Start",
        example=(
            "fedtwin demo",
            "fedtwin demo --keep",
            "fedtwin demo --stop",
            "fedtwin demo --json times.json",
        ),
    )(demo)


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end, and say what to try next.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop a demo that was kept, and do nothing else.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what happened, with measured times.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Folder for certificates, configuration, state and logs.")
    ] = DEFAULT_FOLDER,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the emulated packets.", min=0)] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="No pauses for reading, and less time between the acts.")
    ] = False,
) -> None:
    """Watch four operators' networks become one end-to-end twin.

    Starts an emulated network, four agents and a broker as separate processes over mTLS, tells a story
    on the screen and ends by itself. Ctrl-C stops every process at any time.
    """
    from federation.cli.demo.run import run_demo, stop_demo

    status = (
        stop_demo(folder)
        if stop
        else run_demo(folder, seed=seed, keep=keep, quick=quick, json_file=json_file)
    )
    raise typer.Exit(status)
