"""A broker that is killed at any point loses no event; what it repeats has the same id."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest
from event_parts import Pki, receiver, until

HERE = Path(__file__).parent


@pytest.mark.slow
async def test_a_broker_that_is_killed_loses_no_event(tmp_path: Path) -> None:
    pki = Pki.make(tmp_path)
    url = f"sqlite:///{tmp_path / 'store' / 'partners.sqlite3'}"
    kept: list[str] = []
    rng = random.Random(6)
    async with receiver(pki) as hook:

        async def run(name: str, orders: int, *, kill_after: int | None) -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                HERE / "event_broker.py",
                *(str(tmp_path), url, hook.url, str(pki.root), name, str(orders)),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout
            try:
                async with asyncio.timeout(60):
                    mine = 0
                    while mine < (orders if kill_after is None else kill_after):
                        word, _, number = (await process.stdout.readline()).decode().strip().partition(" ")
                        if word == "kept":
                            kept.append(number)
                            mine += 1
                if kill_after is None:
                    await until(lambda: set(kept) <= set(hook.numbers), 60)
                else:
                    await asyncio.sleep(rng.uniform(0, 0.05))
            finally:
                process.send_signal(signal.SIGKILL)
                rest = await process.stdout.read()
                kept.extend(line.split()[1] for line in rest.decode().splitlines() if line[:4] == "kept")
                await process.wait()

        for number in range(3):
            await run(f"killed-{number}", 1000, kill_after=rng.randrange(5, 60))
        await hook.down()
        await run("unheard", 1000, kill_after=20)
        await hook.up()
        await run("last", 3, kill_after=None)

    ids = {}
    for got in hook.got:
        number = got.document["event"]["serviceOrder"]["description"]
        assert ids.setdefault(number, got.event_id) == got.event_id
    assert set(kept) <= ids.keys()
    first = list(dict.fromkeys(hook.numbers))
    for name in {number.rpartition(".")[0] for number in first}:
        numbers = [int(each.rpartition(".")[2]) for each in first if each.rpartition(".")[0] == name]
        assert numbers == list(range(len(numbers)))  # in their order, however often it was killed
