"""A consistent copy of a running agent's state, for a backup or an export. Owns the folder of copies.

Only the agent's process can read its history's database, so it makes the copy: Parquet files by link, the
rest by content. Who asked for a copy deletes it; one that was forgotten is deleted after an hour.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from domain_twin.datastore.checkpoint import Checkpoint
from domain_twin.datastore.history import History
from domain_twin.datastore.snapshot import Snapshot
from domain_twin.errors import ConfigError, NotFound

FOLDER = "copies"
_FORGOTTEN_NS = 3_600_000_000_000


async def copy_state(
    state: Path, history: History | None, snapshot: Snapshot, *, history_only: bool = False
) -> str:
    """Make the copy; returns its folder's name below `state`. Raises NotFound, ConfigError."""
    if history is None and history_only:
        raise NotFound("this agent keeps no history: set enabled = true under [history]")
    now = time.time_ns()
    name = f"{FOLDER}/{now}"
    target = state / name
    try:
        await asyncio.to_thread(_sweep, state / FOLDER, now - _FORGOTTEN_NS)
        await asyncio.to_thread(target.mkdir, mode=0o700, parents=True)
        if history:
            await history.copy_to(target / "history")
        if not history_only:
            await asyncio.to_thread(Checkpoint(target).save, snapshot)
    except OSError as error:
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        raise ConfigError(f"{target}: the state cannot be copied ({error})") from error
    return name


def _sweep(folder: Path, before: int) -> None:
    for path in folder.glob("*"):
        if path.name.isdigit() and int(path.name) < before:
            shutil.rmtree(path, ignore_errors=True)
