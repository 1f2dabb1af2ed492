"""A process that keeps orders and delivers their events, until it is killed. Says what was kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from event_parts import delivering, settings

from domain_twin.config import EventsConfig


async def main(folder: str, url: str, callback: str, root: str, run: str, orders: str) -> None:
    config = EventsConfig(**{**settings(None).model_dump(), "roots": Path(root)})
    async with delivering(Path(folder), url, config) as at:
        if not at.of().list("hub"):  # type: ignore[arg-type]  # a Kind is its word
            await at.hub(callback)
        print("open", flush=True)
        for number in range(int(orders)):
            await at.order(f"{run}.{number}")
            print("kept", f"{run}.{number}", flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
