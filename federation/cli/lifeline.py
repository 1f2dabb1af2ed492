"""The thread between a process and the one who started it. Owns readiness, and that no orphan stays.

The supervisor holds one end of a socket pair, the process the other, named by an environment variable. The
process says `ready` once; the supervisor says `keep` when the process may outlive it. If the supervisor's end
closes without that word, however it died, the process ends itself: first as if asked to by SIGTERM, after a
grace by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

VARIABLE = "FEDTWIN_LIFELINE"
READY = b"ready\n"
KEEP = b"keep\n"
GRACE_S = 6.0


class Lifeline:
    """This process's end. Without a supervisor it does nothing."""

    def __init__(self, end: socket.socket | None) -> None:
        self._end = end

    def ready(self) -> None:
        """Tell the supervisor that this process serves."""
        if self._end is not None:
            try:
                self._end.sendall(READY)
            except OSError:  # nobody listens any more; the watching thread deals with that
                return


def take() -> Lifeline:
    """Take hold of the lifeline that the environment names, and watch it from now on. Call it first."""
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return Lifeline(None)
    end = socket.socket(fileno=int(number))
    end.set_inheritable(False)
    threading.Thread(target=_watch, args=(end,), name="lifeline", daemon=True).start()
    return Lifeline(end)


def _watch(end: socket.socket) -> None:
    said = b""
    while True:
        try:
            data = end.recv(64)
        except OSError:
            data = b""
        if not data:
            break
        said += data
        if KEEP in said:
            return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
