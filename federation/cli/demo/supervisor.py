"""The demo's processes: started, awaited, ended. Owns that none of them outlives the demo unless it is kept.

Each process leads its own group and holds one end of a lifeline (see `federation.cli.lifeline`): when the
demo ends, even by SIGKILL, that closes and the process ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from domain_twin.errors import Unreachable
from federation.cli import lifeline
from federation.cli.demo.folder import Running, started_at

GRACE_S = 8.0
_LAST_LINES = 6
_POLL_S = 0.05


class Child:
    """A child process that outlives the event loop: asyncio kills its own with it, and ours may be kept."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Return the exit status once there is one."""
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110  portable, and six of them at most
            await asyncio.sleep(_POLL_S)
        return status


@dataclass(slots=True)
class Process:
    """One supervised process."""

    name: str
    log: Path
    child: Child
    line: socket.socket
    began: float
    ready_s: float | None = None
    excused: bool = False

    @property
    def running(self) -> Running:
        """What another process needs to find it again."""
        return Running(self.name, self.child.pid, self._started)

    def kill(self, number: int) -> None:
        """Signal it on purpose: its end is no surprise to `Supervisor.watch`."""
        self.excused = True
        _kill_group(self, number)

    _started: float = 0.0


class Supervisor:
    """Starts processes and ends them all, whatever happens in between."""

    def __init__(self, logs: Path, *, inherited: Sequence[int] = ()) -> None:
        self._logs = logs
        self._inherited = tuple(inherited)
        self.processes: list[Process] = []

    async def start(self, name: str, arguments: Sequence[str], *, log_level: str = "info") -> Process:
        """Start `fedtwin ARGUMENTS`; its output goes to NAME.log."""
        command = [sys.executable, "-m", "federation.cli", *arguments, "--log-level", log_level]
        return await self.start_command(name, command)

    async def start_command(self, name: str, command: Sequence[str]) -> Process:
        """Start any command that knows the lifeline."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        environment = {**os.environ, lifeline.VARIABLE: str(theirs.fileno()), "PYTHONUNBUFFERED": "1"}
        again = any(each.name == name for each in self.processes)
        with log.open("ab" if again else "wb") as output, theirs:
            popen = await asyncio.to_thread(
                subprocess.Popen,
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(theirs.fileno(), *self._inherited),
                start_new_session=True,
            )
        self.processes = [each for each in self.processes if each.name != name or not each.excused]
        process = Process(name, log, Child(popen), ours, time.monotonic(), _started=started_at(popen.pid))
        self.processes.append(process)
        return process

    async def ready(self, process: Process, timeout_s: float) -> None:
        """Wait until the process says it serves. Raises Unreachable with its last words when it does not."""
        loop = asyncio.get_running_loop()
        said = b""
        try:
            async with asyncio.timeout(timeout_s):
                while lifeline.READY not in said:
                    try:
                        data = await loop.sock_recv(process.line, 64)
                    except ConnectionError:
                        data = b""
                    if not data:
                        await process.child.wait()
                        raise Unreachable(self._obituary(process))
                    said += data
        except TimeoutError as error:
            raise Unreachable(
                f"{process.name} was not ready within {timeout_s:.0f} s; its log {process.log} ends with:\n"
                f"{last_words(process.log)}"
            ) from error
        process.ready_s = time.monotonic() - process.began

    async def watch(self) -> None:
        """Run until a process ends that should not. Raises Unreachable with its last words."""
        while True:
            for process in self.processes:
                if process.child.returncode is not None and not process.excused:
                    raise Unreachable(self._obituary(process))
            await asyncio.sleep(_POLL_S)

    def keep(self) -> None:
        """Let the processes outlive this one."""
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.line.send(lifeline.KEEP)

    async def stop(self, told: Callable[[str], None] = lambda _: None) -> None:
        """End all processes: ask, wait, and after a grace kill the group of each that is left."""
        living = [p for p in self.processes if p.child.returncode is None]
        for process in reversed(living):
            _kill_group(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE_S):
                for process in living:
                    await process.child.wait()
                    told(process.name)
        except TimeoutError:
            pass
        finally:
            self.kill()
        for process in self.processes:
            await process.child.wait()
            process.line.close()

    def kill(self) -> None:
        """Kill the group of each process at once."""
        for process in self.processes:
            if process.child.returncode is None:
                _kill_group(process, signal.SIGKILL)

    @staticmethod
    def _obituary(process: Process) -> str:
        status = process.child.returncode
        how = f"exit status {status}" if status is None or status >= 0 else signal.Signals(-status).name
        words = last_words(process.log)
        return f"{process.name} ended by itself ({how}); its log {process.log} ends with:\n{words}"


def last_words(log: Path, lines: int = _LAST_LINES) -> str:
    """The end of a log file, indented; remarks without content are left out."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "  (no log)"
    said = [line for line in text if line.strip()]
    return "\n".join(f"  {line}" for line in said[-lines:]) or "  (nothing)"


def _kill_group(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.child.pid, number)
