"""The service manager's notifications (sd_notify(3)): ready, stopping, still alive. Owns one datagram socket.

Does nothing where no manager listens. A watchdog beat comes from the event loop, so that a process whose loop
is stuck is found out and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping, MutableMapping

__all__ = ["Notifier"]

log = logging.getLogger(__name__)


class Notifier:
    """Tells the manager named by NOTIFY_SOCKET; without one every method does nothing."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # abstract, unix(7)
        self.watchdog_s = watchdog_s
        """The manager gives the process up when it hears nothing for so long, seconds; 0: it does not."""

    @classmethod
    def take(cls, environment: MutableMapping[str, str] | None = None) -> Notifier:
        """The manager of this very process; taken out of the environment, which children inherit."""
        variables = os.environ if environment is None else environment
        address = variables.pop("NOTIFY_SOCKET", "")
        watchdog_s = _watchdog_s(variables)
        variables.pop("WATCHDOG_USEC", None)
        variables.pop("WATCHDOG_PID", None)
        return cls(address, watchdog_s)

    def ready(self, status: str = "") -> None:
        """The process serves."""
        self._tell("READY=1", f"STATUS={status}" if status else "")

    def stopping(self, status: str = "") -> None:
        """The process is ending, in good order."""
        self._tell("STOPPING=1", f"STATUS={status}" if status else "")

    def alive(self) -> None:
        """The process works."""
        self._tell("WATCHDOG=1")

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Tell the manager twice in each of its intervals that the event loop turns."""
        if not self.watchdog_s or not self._address:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()

    async def _beat(self) -> None:
        while True:
            self.alive()
            await asyncio.sleep(self.watchdog_s / 2)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines if line)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(1.0)
                manager.sendto(message.encode(), self._address)
        except OSError as error:  # an absent manager must not end what it manages
            log.warning("service manager not told", extra={"reason": error.strerror or str(error)})


def _watchdog_s(variables: Mapping[str, str]) -> float:
    own = variables.get("WATCHDOG_PID", "")
    wanted = variables.get("WATCHDOG_USEC", "")
    if not wanted.isdecimal() or (own and own != str(os.getpid())):
        return 0.0
    return int(wanted) / 1e6
