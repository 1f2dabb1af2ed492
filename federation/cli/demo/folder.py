"""The folder a demo runs in: whose it is, which processes live in it. Owns lock and stop.

The lock is held by the demo and, through an inherited file descriptor, by each of its processes: the folder
is busy exactly as long as one of them lives, however the others ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from domain_twin.errors import ConfigError, NotFound
from federation.cli.checks import SOCKET_PATH_LIMIT

MARKER = "this-folder-belongs-to-fedtwin-demo"
_LOCK = "lock"
_PROCESSES = "processes.json"
_LONGEST_SOCKET = "transport/state/agent.sock"
STOP_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """A process of a demo; `started` (seconds since the epoch) tells it from a later one with its number."""

    name: str
    pid: int
    started: float


class DemoFolder:
    """A folder that belongs to one demo at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock = -1

    @property
    def lock_descriptor(self) -> int:
        """The open lock file, to be inherited by the demo's processes."""
        return self._lock

    def claim(self, *, patience_s: float = STOP_GRACE_S) -> None:
        """Take the folder and empty it. Raises ConfigError when a demo runs here, or it is not a demo's.

        A demo that was killed takes its processes along within seconds: that long is waited for.
        """
        longest = len(str(self.path / _LONGEST_SOCKET).encode())
        if longest > SOCKET_PATH_LIMIT:
            raise ConfigError(
                f"{self.path}: too long a path for Unix sockets in it ({longest} octets of at most"
                f" {SOCKET_PATH_LIMIT}); choose another place with --folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path}: is a file, not a folder; choose another place with --folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / MARKER).exists():
            raise ConfigError(
                f"{self.path}: has files that are not a demo's; choose an empty or new folder with --folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience_s
        while not _try_lock(self._lock):
            kept = self.kept()
            if kept or time.monotonic() > deadline:
                os.close(self._lock)
                self._lock = -1
                raise ConfigError(self._busy(kept))
            time.sleep(0.1)
        for entry in self.path.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        (self.path / MARKER).touch()

    def note(self, processes: list[Running], *, kept: bool) -> None:
        """Write down what runs here, for `--stop` and for the message to a second demo."""
        document = {"demo": os.getpid(), "kept": kept, "processes": [asdict(item) for item in processes]}
        temporary = self.path / f".{_PROCESSES}"
        temporary.write_text(json.dumps(document, indent=2), encoding="utf-8")
        temporary.replace(self.path / _PROCESSES)

    def release(self) -> None:
        """Let go of the folder; processes that were kept hold it on."""
        (self.path / _PROCESSES).unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Close our hold on the lock, and nothing else."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def kept(self) -> bool:
        """Whether a demo was left running here on purpose."""
        return bool(self._read().get("kept")) and bool(self.running())

    def running(self) -> list[Running]:
        """The demo's processes that live now."""
        listed = self._read().get("processes", [])
        known = [Running(**item) for item in listed] if isinstance(listed, list) else []
        return [item for item in known if alive(item)]

    def stop(self, told: Callable[[str], None] = lambda _: None) -> int:
        """End the processes of a kept demo, gently and then surely; returns how many. Raises NotFound."""
        if not self._read():
            raise NotFound(f"{self.path}: no demo runs here; start one with `fedtwin demo --keep`")
        running = self.running()
        for item in running:
            _signal(item, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        left = running
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            still = [item for item in left if alive(item)]
            for item in left:
                if item not in still:
                    told(item.name)
            left = still
        for item in left:
            _signal(item, signal.SIGKILL)
            told(item.name)
        (self.path / _PROCESSES).unlink(missing_ok=True)
        return len(running)

    def _read(self) -> Mapping[str, object]:
        try:
            document = json.loads((self.path / _PROCESSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _busy(self, kept: bool) -> str:
        if kept:
            return (
                f"{self.path}: a demo was kept running here; ask it with `fedtwin services`, stop it with"
                f" `fedtwin demo --stop --folder {self.path}`, or choose another place with --folder"
            )
        owner = self._read().get("demo")
        return (
            f"{self.path}: a demo runs here{f' (process {owner})' if owner else ''};"
            " wait for its end, or choose another place with --folder"
        )


def alive(item: Running) -> bool:
    """Whether this very process lives (a zombie does not)."""
    import psutil

    try:
        process = psutil.Process(item.pid)
        same = abs(process.create_time() - item.started) < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def started_at(pid: int) -> float:
    """When the process began, in seconds since the epoch; now, where it has ended already."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return time.time()


def _signal(item: Running, number: int) -> None:
    if alive(item):
        try:
            os.killpg(item.pid, number)  # each process leads a group of its own
        except ProcessLookupError:
            return


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
