"""A process that writes records as fast as it can and says what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from federation.partners.record import Kind
from federation.partners.store import RecordStore


async def main(url: str, run: str) -> None:
    store = await RecordStore.open(Path("/nonexistent"), url, ["acme"])
    acme = store.of("acme")
    print("open", flush=True)

    async def write(worker: int) -> None:
        for number in range(1_000_000):
            key = f"{run}.{worker}.{number}"
            order = await acme.create(Kind.SERVICE_ORDER, {"key": key, "state": "acknowledged"}, key=key)
            print("made", order.id, order.sequence, flush=True)
            order = await acme.update(order, {**order.body, "state": "completed"})
            print("changed", order.id, order.sequence, flush=True)
            if number % 3 == 0:
                print("removing", order.id, flush=True)
                gone = await acme.remove(order)
                print("removed", order.id, gone, flush=True)

    async with asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(write(worker))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
