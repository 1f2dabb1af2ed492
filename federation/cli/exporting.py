"""What `fedtwin history export` does: read the history, show how far it is. Owns no format."""

from __future__ import annotations

import asyncio
from pathlib import Path

from domain_twin.errors import ConfigError
from federation.cli.recorded import Recorded


def export_history(
    at: str, target: str, *, start: int, end: int, pattern: str, device: str, as_csv: bool, as_json: bool
) -> None:
    """Export from the agent at `at`: its socket, its agent.toml or its state folder."""
    from federation.cli.console import emit, out

    if not target:
        raise ConfigError("history export: name the new folder that it goes to")
    recorded = Recorded.at(at, "history export")
    folder = Path(target)
    done = asyncio.run(
        _export(recorded, folder, span=(start, end), pattern=pattern, device=device, as_csv=as_csv)
    )
    if as_json:
        emit({"folder": folder, "rows": done[0], "files": done[1], "start": start, "end": end})
        return
    out().print(f"{folder}: {done[0]:,} rows in {done[1]} files")


async def _export(
    recorded: Recorded, target: Path, *, span: tuple[int, int], pattern: str, device: str, as_csv: bool
) -> tuple[int, int]:
    from rich.progress import BarColumn, Progress, TextColumn

    from domain_twin.datastore.export import export
    from federation.cli.console import err

    columns = (TextColumn("exporting"), BarColumn(), TextColumn("{task.fields[rows]:,} rows"))
    async with recorded.open() as recording:
        with Progress(*columns, console=err(), transient=True) as progress:
            task = progress.add_task("", total=max(span[1] - span[0], 1), rows=0)

            def show(rows: int, reached: int) -> None:
                progress.update(task, completed=reached - span[0], rows=rows)

            done = await export(
                recording.history,
                target,
                domain=recording.domain,
                start=span[0],
                end=span[1],
                pattern=pattern,
                device=device,
                as_csv=as_csv,
                progress=show,
            )
    return done.rows, done.files
