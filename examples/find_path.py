"""Print the path between two points, current and best, with what each domain adds to it.

Start a demo that stays, then run this in another terminal:

    ./dev demo --keep
    .venv/bin/python examples/find_path.py ran/CELL edge/APPLICATION

Without arguments it lists the end points that there are.
"""

import asyncio
import sys

from domain_twin.errors import NoPath, TwinError
from domain_twin.model import PathMode, PointKind
from federation.client import TwinClient


async def main(arguments: list[str]) -> None:
    """Ask the twin that runs here."""
    async with TwinClient.connect() as twin:
        if len(arguments) != 2:
            points = [point for view in await twin.views() for point in view.points.values()]
            print("Name two of:", *(point.id for point in points if point.kind is PointKind.ENDPOINT))
            return
        source, target = arguments
        for mode in PathMode:
            try:
                answer = await twin.path(source, target, mode=mode)
            except NoPath as error:
                print(f"{mode}: {error}")
                continue
            path = answer.paths[0]
            print(f"{mode}: {path.total.delay_ms:.3f} ms, {path.total.bandwidth_mbps:.0f} Mbit/s free")
            for hop in path.hops:
                old = "  (stale)" if hop.stale else ""
                print(f"  {hop.domain or hop.link_id:24} {hop.kpis.delay_ms:8.3f} ms{old}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except TwinError as problem:
        sys.exit(f"error: {problem}")
