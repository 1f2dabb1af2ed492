"""Print every service's delay and budget as it changes, and why it changed.

Start a demo that stays, then run this in another terminal, and cut a link in a third:

    ./dev demo --keep
    .venv/bin/python examples/watch_services.py
"""

import asyncio
import sys

from domain_twin.errors import TwinError
from domain_twin.model import EventKind, ServiceStatus
from federation.client import TwinClient

VERDICTS = {True: "met", False: "MISSED", None: "not known"}


def show(status: ServiceStatus) -> None:
    """Print one status."""
    delay = f"{status.path.total.delay_ms:.3f} ms" if status.path else "no path"
    print(f"{status.service.name or status.service.id}: {delay}, objective {VERDICTS[status.met]}")
    for share in status.budget:
        name = share.domain or "inter-domain links"
        print(f"  {name:20} {share.used_ms:7.3f} of {share.share_ms:7.3f} ms")
    if status.cause:
        print(f"  because: {status.cause}")


async def main() -> None:
    """Watch the twin that runs here until Ctrl-C."""
    async with TwinClient.connect() as twin:
        for status in (await twin.services()).statuses:
            show(status)
        async for event in twin.watch([EventKind.SERVICE]):
            if event.service_status:
                show(event.service_status)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except TwinError as problem:
        sys.exit(f"error: {problem}")
