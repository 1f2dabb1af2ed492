"""`fedtwin record` and `fedtwin replay`: what devices said, kept and played back. Owns the screens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain_twin.config import DeviceConfig
    from domain_twin.model import UpdateBatch
    from domain_twin.southbound.replay import Recorder
    from domain_twin.yang.schema import SchemaSet
    from federation.cli.playback import Playback

SECTION = "Go back in time"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "record",
        section=SECTION,
        example=(
            "fedtwin record agent.toml -o monday.jsonl.gz --for 60s",
            "fedtwin record agent.toml -o warsaw.jsonl --for 10m --device warsaw",
        ),
    )(record)
    command(
        app,
        "replay",
        section=SECTION,
        example=("fedtwin replay monday.jsonl.gz --speed 10", "fedtwin replay monday.jsonl.gz --state"),
    )(replay)


def record(
    *,
    config: Annotated[
        Path, typer.Argument(metavar="AGENT_TOML", help="The agent whose devices are recorded.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Recording; .gz compresses, a file grows.")
    ],
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long: 60s, 10m, 1h.")] = "60s",
    device: Annotated[
        list[str] | None, typer.Option("--device", help="Only this device; repeatable. Default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Record what devices say, as it comes.

    Opens sessions of its own, with the credentials and paths of the agent's configuration; the agent need
    not run. A recording stands in for devices later: `[device.replay] file = "..."`.
    """
    import asyncio

    from domain_twin.config import load_agent
    from domain_twin.errors import NotFound
    from federation.cli.console import count, emit, out, short_path
    from federation.cli.duration import nanoseconds

    seconds = nanoseconds(length, "--for") / 1e9
    agent = load_agent(config)
    names = {item.name for item in agent.device}
    for name in device or []:
        if name not in names:
            raise NotFound(f"{config}: has no device {name!r}; there are {', '.join(sorted(names))}")
    chosen = [item for item in agent.device if not device or item.name in device]

    async def run() -> dict[str, object]:
        from domain_twin.agent.schema import load_schema

        return await _record(chosen, await load_schema(agent), output, seconds)

    done = asyncio.run(run())
    if as_json:
        emit(done)
        return
    size = output.stat().st_size
    out().print(
        f"{short_path(output)}: {done['batches']:,} batches with {done['updates']:,} values of"
        f" {count(len(chosen), 'device')}, {size:,} octets"
    )
    for name, problem in done["problems"].items():  # type: ignore[attr-defined]
        out().print(f"{name}: {problem}", style="warn")


async def _record(
    devices: Sequence[DeviceConfig], schema: SchemaSet, output: Path, seconds: float
) -> dict[str, object]:
    import asyncio
    import time

    from rich.progress import BarColumn, Progress, TextColumn

    from domain_twin.southbound.replay import Recorder
    from federation.cli.console import err

    tally = {"batches": 0, "updates": 0}
    problems: dict[str, str] = {}
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[values]:,} values"))
    with Recorder(output) as recorder, Progress(*columns, console=err(), transient=True) as progress:
        task = progress.add_task("recording", total=seconds, values=0)
        tasks = [asyncio.create_task(_follow(d, schema, recorder, tally, problems)) for d in devices]
        try:
            while (spent := time.monotonic() - began) < seconds and not all(t.done() for t in tasks):
                progress.update(task, completed=spent, values=tally["updates"])
                await asyncio.sleep(min(0.2, seconds - spent))
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return {"file": output, "seconds": round(time.monotonic() - began, 3), **tally, "problems": problems}


async def _follow(
    device: DeviceConfig,
    schema: SchemaSet,
    recorder: Recorder,
    tally: dict[str, int],
    problems: dict[str, str],
) -> None:
    from domain_twin.mapping.tables import mirrored_paths
    from domain_twin.model import UpdateBatch
    from domain_twin.southbound.devices import mirror_choice
    from domain_twin.southbound.supervise import supervise

    choice = mirror_choice(device, schema)
    paths = device.paths or mirrored_paths()
    news = supervise(device.name, choice.open, paths, protocol=choice.protocol, address=choice.address)
    async for item in news:
        if isinstance(item, UpdateBatch):
            recorder.append(item)
            tally["batches"] += 1
            tally["updates"] += len(item.updates)
            problems.pop(device.name, None)
        elif item.problem:
            problems[device.name] = item.problem


def replay(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recording made by `fedtwin record`.")],
    speed: Annotated[float, typer.Option("--speed", help="1 is the recorded pace; 0 is at once.", min=0)] = 0,
    device: Annotated[str, typer.Option("--device", help="Only this device.")] = "",
    path: Annotated[str, typer.Option("--path", help="Only paths that contain these letters.")] = "",
    state: Annotated[
        bool, typer.Option("--state", help="What held at the end instead of the changes on the way.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a recording holds: its changes, or its last state."""
    import time

    from domain_twin.southbound.replay import read_recording
    from federation.cli.playback import Playback

    playback = Playback(device, path)
    first: tuple[float, int] | None = None
    for batch in read_recording(file):
        if speed and not state:
            first = first or (time.monotonic(), batch.received_at)
            due = first[0] + (batch.received_at - first[1]) / 1e9 / speed
            time.sleep(max(0.0, due - time.monotonic()))
        changes = playback.take(batch)
        if not state:
            _show_changes(changes, batch, as_json)
    if state:
        _show_state(playback, as_json)
    if not as_json:
        _show_sum(playback)


def _show_changes(changes: list[tuple[str, str, str | None]], batch: UpdateBatch, as_json: bool) -> None:
    from federation.cli.console import clock, emit_line, out

    for device, path, value in changes:
        if as_json:
            emit_line({"at": batch.received_at, "device": device, "path": path, "value": value})
        else:
            shown = "is gone" if value is None else f"= {value}"
            out().print(f"{clock(batch.received_at)}  {device}  {path} {shown}", markup=False, soft_wrap=True)


def _show_state(playback: Playback, as_json: bool) -> None:
    from federation.cli.console import emit, out

    rows = [
        {"device": device, "path": path, "value": value}
        for (device, path), value in sorted(playback.state.items())
    ]
    if as_json:
        emit({"at": playback.last, "leaves": rows})
        return
    for row in rows:
        out().print(f"{row['device']}  {row['path']} = {row['value']}", markup=False, soft_wrap=True)


def _show_sum(playback: Playback) -> None:
    from federation.cli.console import count, err, span

    if not playback.batches:
        err().print("The recording is empty.")
        return
    err().print(
        f"{count(len(playback.sources), 'source')}, {count(playback.batches, 'batch')} in"
        f" {span(playback.last - playback.first)}, {count(playback.changed, 'change')},"
        f" {len(playback.state):,} leaves at the end",
        style="note",
    )
