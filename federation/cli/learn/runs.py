"""`fedtwin learn start|status|history|stop`: trainings. Owns how a task is put together and followed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.learning.run import Run
    from domain_twin.learning.task import Task
    from federation.learning_client import LearningClient

SECTION = "Learn together"
Identity = Annotated[
    str, typer.Argument(metavar="[RUN]", help="Id of the training, or its beginning; default: the newest.")
]


def add_to(group: typer.Typer) -> None:
    """Add the commands of this file."""
    for name, function, example in (
        ("start", start, ("fedtwin learn start demand", "fedtwin learn start task.yaml --profile private")),
        ("status", status, ("fedtwin learn status", "fedtwin learn status 4f1c --follow")),
        ("history", history, ("fedtwin learn history",)),
        ("stop", stop, ("fedtwin learn stop 4f1c",)),
    ):
        command(group, name, section=SECTION, group="learn", example=example)(function)


def start(
    *,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="demand (forecaster), gaps (VAE), watch (detector), residual (what-ifs), telemetry (GAN), or"
            " a task's file (.yaml, .json).",
        ),
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Name of the model.")] = "",
    domains: Annotated[
        str, typer.Option("--domains", metavar="A,B", help="Only these; default: all that take part.")
    ] = "",
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="mistrustful: rivals, a bad contribution does not matter; private: the broker sees"
            " sums only, with differential privacy (telemetry: statistics, no nets); trusted: one operator.",
        ),
    ] = "",
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="Rounds; 0: as the task says.")] = 0,
    step: Annotated[str, typer.Option("--step", metavar="DURATION", help="Step of time, such as 1m.")] = "",
    last: Annotated[
        str, typer.Option("--last", metavar="DURATION", help="How much history is learned from, such as 1d.")
    ] = "",
    element_kind: Annotated[
        str,
        typer.Option("--of", metavar="KIND", help="link, border, cell, network-function or host."),
    ] = "",
    gains: Annotated[
        bool,
        typer.Option(
            "--gains/--no-gains", help="Find out who gained what: takes as long as all rounds once more."
        ),
    ] = True,
    seed: Annotated[
        int,
        typer.Option("--seed", min=-1, help="The same seed trains the same model; -1: as the task says."),
    ] = -1,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    show: Annotated[bool, typer.Option("--show-task", help="Print the task and stop.")] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Train a model across the domains, and follow its rounds.

    Each domain decides by its own policy whether it takes part, trains on its own history, and sends changes
    of the model only. Ctrl-C stops the training; the model in service stays.
    """
    from federation.cli.console import out

    wanted = _task(
        task,
        model=model,
        profile=profile,
        rounds=rounds,
        step=step,
        last=last,
        element_kind=element_kind,
        seed=seed,
        gains=gains,
    )
    if show:
        import json

        # As a file of a task reads it: `emit` would make ISO 8601 of its times.
        typer.echo(json.dumps(json.loads(wanted.to_json()), indent=2, sort_keys=True))
        return
    names = tuple(name.strip() for name in domains.split(",") if name.strip())
    if domains and not names:
        raise typer.BadParameter(f"--domains: {domains!r} names none; write them as ran,core")

    async def begin() -> Run:
        from federation.learning_client import LearningClient

        async with LearningClient.connect(at) as learning:
            run = await learning.start(wanted, names)
            return run if detach else await _followed(learning, run, stops=True)

    run = asyncio.run(begin())
    _tell(run, as_json=as_json, detached=detach)
    if not detach and not as_json and run.version:
        out().print(f"Its card: fedtwin learn card {run.task.model} {run.version}", style="note")


def status(
    *,
    identity: Identity = "",
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show one training: its rounds, what each domain did, and what came of it."""

    async def found() -> Run:
        from federation.learning_client import LearningClient

        async with LearningClient.connect(at) as learning:
            run = await learning.run(identity or await _newest(learning))
            return await _followed(learning, run, stops=False) if follow else run

    _tell(asyncio.run(found()), as_json=as_json)


def history(*, at: At = "", as_json: Json = False) -> None:
    """List trainings, newest first."""
    from federation.cli.console import emit, out
    from federation.cli.learn.asking import ask
    from federation.cli.learn.screens import document, runs_table

    found = ask(at, lambda learning: learning.runs(), "asking for trainings")
    if as_json:
        emit({"runs": [document(run) for run in found]})
        return
    if not found:
        out().print("Nothing was trained yet: `fedtwin learn start demand`")
        return
    out().print(runs_table(found))


def stop(
    *,
    identity: Annotated[
        str, typer.Argument(metavar="RUN", help="Id of the training, or its beginning.", show_default=False)
    ],
    at: At = "",
    as_json: Json = False,
) -> None:
    """End a training without a model; the version in service stays."""
    from federation.cli.learn.asking import ask, stopped

    _tell(ask(at, lambda learning: stopped(learning, identity), "stopping"), as_json=as_json)


def _task(
    name: str,
    *,
    model: str,
    profile: str,
    rounds: int,
    step: str,
    last: str,
    element_kind: str,
    seed: int,
    gains: bool,
) -> Task:
    from dataclasses import replace

    from domain_twin.learning.presets import preset, read_task
    from domain_twin.learning.task import Privacy, Profile, Task, Window
    from federation.cli.duration import nanoseconds
    from federation.cli.learn.asking import one_of

    path = Path(name)
    task = read_task(path) if path.suffix in {".yaml", ".yml", ".json"} else preset(name)
    if model:
        task = replace(task, model=model)
    if profile:
        task = replace(task, profile=Profile(one_of(profile, Profile, "--profile")))
    if task.tells_noised:
        task = _noised(task, rounds)
    elif task.profile is Profile.PRIVATE and task.privacy is None:
        task = replace(task, privacy=Privacy())
    if rounds:
        task = replace(task, rounds=rounds)
    if step:
        task = replace(task, step_s=nanoseconds(step, "--step") / 1e9)
    if last:
        task = replace(task, window=Window(nanoseconds(last, "--last") / 1e9))
    if element_kind:
        from domain_twin.learning.history import ELEMENT_KINDS

        if element_kind not in ELEMENT_KINDS:
            raise typer.BadParameter(f"--of: {element_kind!r} is none of {', '.join(ELEMENT_KINDS)}")
        task = replace(task, element_kind=element_kind)
    if not gains:
        task = replace(task, explain=False)
    if seed >= 0:
        task = replace(task, seed=seed)
    return Task.from_json(task.to_json())  # options are held to the same bounds as files


def _noised(task: Task, rounds: int) -> Task:
    """A generator under `private`: one round of statistics, with noise for it."""
    from dataclasses import replace

    from domain_twin.learning.presets import GENERATOR_NOISE
    from domain_twin.learning.task import Privacy

    if rounds > 1:
        raise typer.BadParameter(
            "--rounds: a generator under private has one: statistics that are told again cost epsilon again"
        )
    privacy = task.privacy or Privacy(noise_multiplier=GENERATOR_NOISE)
    return replace(task, rounds=1, epochs=1, explain=False, privacy=privacy)


async def _newest(learning: LearningClient) -> str:
    from domain_twin.errors import NotFound

    runs = await learning.runs()
    if not runs:
        raise NotFound("nothing was trained yet: `fedtwin learn start demand`")
    return runs[0].id


async def _followed(learning: LearningClient, run: Run, *, stops: bool) -> Run:
    """The run at its end, its rounds shown meanwhile; when this is cancelled and `stops`, so is the run."""
    from federation.cli.learn.live import rounds_live

    if run.state.ended:
        return run
    try:
        with rounds_live() as show:
            async for now in learning.watch(run.id):
                show(now)
                run = now
    except asyncio.CancelledError:
        if stops:
            from federation.cli.learn.asking import stop_quietly

            await stop_quietly(learning, run.id)
        raise
    return run


def _tell(run: Run, *, as_json: bool, detached: bool = False) -> None:
    from federation.cli.console import emit, out
    from federation.cli.learn.screens import document, run_screen

    if as_json:
        emit(document(run))
    elif detached:
        out().print(f"Training {run.id} is {run.state.value}: fedtwin learn status {run.id[:8]} --follow")
    else:
        out().print(run_screen(run))
    if run.state.value == "failed":
        raise typer.Exit(1)
