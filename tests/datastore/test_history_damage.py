"""A database that was cut off, as by a disk that lost its last blocks: the agent starts all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Update, UpdateBatch

START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000


async def recorded(folder: Path) -> bytes:
    history, store = await History.open(folder, clock=lambda: START), LiveStore()
    for second in range(40):
        at = START + second * SECOND
        updates = tuple(Update("d", f"/a:b/c[n='{n}']/v", 40 * second + n, at) for n in range(40))
        delta = store.apply(UpdateBatch("d", at, updates))
        assert delta
        history.append(delta)
    await history.close()
    return (folder / "history.duckdb").read_bytes()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.9, 0.95, 0.99])
async def test_a_database_that_was_cut_off_is_set_aside_or_whole(tmp_path: Path, share: float) -> None:
    content = await recorded(tmp_path / "history")
    (tmp_path / "history" / "history.duckdb").write_bytes(content[: int(len(content) * share)])

    async with asyncio.timeout(60):
        history = await History.open(tmp_path / "history", clock=lambda: START)
        try:
            await history.last_version()
            await history.flush()
        finally:
            await history.close()
