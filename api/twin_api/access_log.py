"""One line of JSON for every request, on a stream. Owns that it never holds up an answer.

Lines wait in memory and are written by a thread; where the stream does not take them, they are counted and
given up. No token, no body and no address of a resource is in them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Final, TextIO

__all__ = ["AccessLog"]

MAX_WAITING: Final = 20_000
EVERY_S: Final = 0.2


class AccessLog:
    """Writes to `stream` from `start` until `close`."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        """Lines that were given up."""
        self._stream = stream
        self._waiting: deque[dict[str, object]] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, for a second at most, and stop."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def tell(self, **fields: object) -> None:
        """Note a request; `at` is seconds since 1970."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(fields)

    def _write(self) -> None:
        while True:
            last = self._ending.wait(EVERY_S)
            lines = []
            while self._waiting:
                lines.append(_line(self._waiting.popleft()))
            if lines:
                with contextlib.suppress(OSError, ValueError):  # a stream that is gone
                    self._stream.write("".join(lines))
                    self._stream.flush()
            if last:
                return


def _line(fields: dict[str, object]) -> str:
    at = datetime.fromtimestamp(float(str(fields["at"])), UTC).isoformat(timespec="milliseconds")
    return json.dumps({**fields, "at": at}) + "\n"
