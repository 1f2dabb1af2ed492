"""A command and everything that it starts, as one: `python -m federation.learning.supervise COMMAND ...`.

Flower starts executors in sessions of their own and a process for every message; after a SIGTERM some of them
stay. This process adopts what loses its parent (PR_SET_CHILD_SUBREAPER, Linux), hands SIGTERM and SIGINT on,
and when the command ends, ends all that is left. systemd and containers do that by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

import psutil

__all__ = ["main", "supervise"]

_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
_GRACE_S: Final = 10.0


def supervise(command: Sequence[str]) -> int:
    """Run `command` until it ends or this process is told to; its exit status. Nothing of it is left then."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: this process cannot adopt what its command leaves behind")
    child = subprocess.Popen(command)

    def hand_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        signal.signal(signal.SIGALRM, end_now)
        signal.alarm(int(_GRACE_S))

    def end_now(_: int, __: FrameType | None) -> None:
        child.kill()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    try:
        status = child.wait()
    finally:
        signal.alarm(0)
        _end_rest()
    return status if status >= 0 else 128 - status


def _end_rest() -> None:
    """End every process that descends from this one; those that start others meanwhile, too."""
    deadline = time.monotonic() + _GRACE_S
    ask = True
    while rest := psutil.Process().children(recursive=True):
        for process in rest:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if ask:
                    process.terminate()
                else:
                    process.kill()
        ask = ask and time.monotonic() < deadline - 0.7 * _GRACE_S
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(0.1)


def main() -> None:
    """Run the command of the command line."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m federation.learning.supervise COMMAND [ARGUMENT ...]")
    sys.exit(supervise(sys.argv[1:]))


if __name__ == "__main__":
    main()
