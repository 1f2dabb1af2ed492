"""What `fedtwin history export` does: find the history, read it, show how far it is. Owns no format."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from domain_twin.errors import ConfigError, NotFound, Unreachable


def export_history(
    at: str, target: str, *, start: int, end: int, pattern: str, device: str, as_csv: bool, as_json: bool
) -> None:
    """Export from the agent at `at`: its socket, its agent.toml or its state folder."""
    from federation.cli.console import emit, out

    if not target:
        raise ConfigError("history export: name the new folder that it goes to")
    place = Path(at) if at else Path()
    if not at or not place.exists():
        raise NotFound(
            f"{at or 'history export'}: name an agent with --at: its socket, agent.toml or state folder"
        )
    folder = Path(target)
    state, domain = _state_of(place)
    done = asyncio.run(
        _export(state, domain, folder, span=(start, end), pattern=pattern, device=device, as_csv=as_csv)
    )
    if as_json:
        emit({"folder": folder, "rows": done[0], "files": done[1], "start": start, "end": end})
        return
    out().print(f"{folder}: {done[0]:,} rows in {done[1]} files")


def _state_of(place: Path) -> tuple[Path, str]:
    """The state folder that a place names, and the domain as far as that tells it."""
    from domain_twin.config import load_agent

    if place.is_socket():
        return place.resolve().parent, ""
    if place.is_dir():
        return place.absolute(), ""
    config = load_agent(place)
    return config.state.absolute(), config.domain


async def _export(
    state: Path,
    domain: str,
    target: Path,
    *,
    span: tuple[int, int],
    pattern: str,
    device: str,
    as_csv: bool,
) -> tuple[int, int]:
    from rich.progress import BarColumn, Progress, TextColumn

    from domain_twin.datastore.export import export
    from domain_twin.datastore.history import History
    from federation.cli.console import err
    from federation.client import TwinClient

    socket, copy = state / "agent.sock", None
    if await asyncio.to_thread(socket.is_socket):
        try:
            async with TwinClient(socket, timeout_s=600.0) as twin:
                domain = (await twin.domains())[0].domain
                copy = await twin.copy_state(history_only=True)
        except Unreachable:
            copy = None  # the socket of one that was killed
    columns = (TextColumn("exporting"), BarColumn(), TextColumn("{task.fields[rows]:,} rows"))
    try:
        history = await History.open((copy or state) / "history", read_only=True)
        try:
            with Progress(*columns, console=err(), transient=True) as progress:
                task = progress.add_task("", total=max(span[1] - span[0], 1), rows=0)

                def show(rows: int, reached: int) -> None:
                    progress.update(task, completed=reached - span[0], rows=rows)

                done = await export(
                    history,
                    target,
                    domain=domain or state.parent.name,
                    start=span[0],
                    end=span[1],
                    pattern=pattern,
                    device=device,
                    as_csv=as_csv,
                    progress=show,
                )
        finally:
            await history.close()
    finally:
        if copy:
            shutil.rmtree(copy, ignore_errors=True)
    return done.rows, done.files
