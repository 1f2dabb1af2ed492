"""`fedtwin learn deploy|superlink`: the same training for operators who run Flower already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.learning.task import Task

SECTION = "Learn together"


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group `learn`."""
    for name, function, example in (
        (
            "deploy",
            deploy,
            ("fedtwin learn deploy flower --task task.json --domains ran,core,transport",),
        ),
        (
            "superlink",
            superlink,
            (
                "fedtwin learn superlink flower/superlink --admit",
                "fedtwin learn superlink flower/superlink --run",
            ),
        ),
    ):
        command(group, name, section=SECTION, group="learn", example=example)(function)


def deploy(
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.", show_default=False)],
    task: Annotated[
        str,
        typer.Option("--task", metavar="TASK", help="As `fedtwin learn start` takes it: a name, or a file."),
    ],
    domains: Annotated[str, typer.Option("--domains", metavar="A,B", help="The domains, each with a node.")],
    host: Annotated[
        str,
        typer.Option("--host", metavar="NAME", help="Name or address at which nodes reach the SuperLink."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the SuperLink.")] = 9443,
    node_port: Annotated[
        int,
        typer.Option(
            "--node-port",
            min=1024,
            max=65000,
            help="Of the first node's own API, on loopback; the next ones follow.",
        ),
    ] = 9101,
    as_json: Json = False,
) -> None:
    """Write a Flower app, keys, TLS and start files for a SuperLink and a SuperNode a domain.

    For operators who run Flower already; without it, trainings go over the agents' sessions. One folder is
    for whoever runs the SuperLink, and one for each operator. Nothing is started.
    """
    from federation.cli.console import emit
    from federation.learning.deploy import Layout, write

    names = [name.strip() for name in domains.split(",") if name.strip()]
    layout = Layout(_task(task), names, host=host, port=port, node_port=node_port)
    write(out, layout)
    if as_json:
        nodes = {name: str(out / "nodes" / name) for name in names}
        emit({"superlink": str(out / "superlink"), "nodes": nodes, "address": f"{host}:{port}"})
        return
    typer.echo(f"{out / 'superlink'}: for whoever runs the SuperLink at {host}:{port}")
    for name in names:
        typer.echo(f"{out / 'nodes' / name}: for the operator of {name}, and nobody else")
    typer.echo(f"{out / 'README.md'} says what is started in which order.")


def superlink(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The folder `superlink` that `deploy` wrote.", show_default=False
        ),
    ],
    admit: Annotated[
        bool, typer.Option("--admit", help="Store the signed app, and admit the nodes.")
    ] = False,
    run: Annotated[bool, typer.Option("--run", help="Do that, wait for the nodes, and train.")] = False,
    deadline_s: Annotated[
        float, typer.Option("--deadline-s", min=1, help="Time that a round's training may take.")
    ] = 600.0,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1, help="Time that all of it may take.")
    ] = 3600.0,
    as_json: Json = False,
) -> None:
    """Put the app of `fedtwin learn deploy` in place at a SuperLink that runs, and train over it."""
    from domain_twin.errors import ConfigError
    from federation.cli.console import emit
    from federation.learning import superlink as owner

    if admit == run:
        raise ConfigError("name one of --admit and --run")
    if admit:
        nodes = owner.admit(folder)
        if as_json:
            emit({"nodes": {str(node): name for node, name in nodes.items()}})
        else:
            typer.echo(f"Admitted: {', '.join(sorted(nodes.values()))}")
        return

    def told(report: Mapping[str, Any]) -> None:
        if not as_json:
            loss = f"loss {report['loss']:.5g}" if report["loss"] is not None else "no loss"
            typer.echo(
                f"round {report['round']}: {loss}{', ' + report['reason'] if report['reason'] else ''}"
            )

    result = owner.run(folder, deadline_s=deadline_s, timeout_s=timeout_s, on_round=told)
    if as_json:
        emit({"folder": str(result.folder), "rounds": list(result.rounds), **result.outcome})
    else:
        typer.echo(f"The model: {result.folder / 'model.npz'}")


def _task(name: str) -> Task:
    from domain_twin.learning.presets import preset, read_task

    path = Path(name)
    return read_task(path) if path.suffix in {".yaml", ".yml", ".json"} else preset(name)
