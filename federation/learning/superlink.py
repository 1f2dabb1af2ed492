"""What is done with the folders of `deploy.py`: nodes admitted, a run begun and awaited, a trial of them all.

Owns the order of steps and their deadlines. The processes of a trial are each a group of their own behind
`supervise.py`, and none is left when it ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from domain_twin.errors import ConfigError, Unreachable
from domain_twin.learning.arrays import decode_arrays
from domain_twin.learning.learner import Arrays
from domain_twin.learning.task import Task
from federation.learning.deploy import (
    APP_FOLDER,
    Layout,
    environment,
    superlink_command,
    supernode_command,
    write,
)
from federation.learning.flower_control import Control, build_app, store_app

__all__ = ["Result", "Trial", "admit", "run"]

_POLL_S: Final = 0.5
_MAX_MODEL_BYTES: Final = 256 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a run left in its folder. `rounds` are records of RoundReport."""

    folder: Path
    arrays: Arrays
    rounds: tuple[Mapping[str, Any], ...]
    outcome: Mapping[str, Any]


def admit(folder: Path) -> Mapping[int, str]:
    """Store the signed app in the SuperLink of `folder`, register the keys in `nodes/`; domains by node."""
    with _control(folder) as control:
        control.online()  # raises where it does not run: two that make a new database would ruin it
        store_app(build_app(folder / APP_FOLDER), folder / "state" / "superlink.db", [folder / "app.key"])
        return {
            control.admit(path.stem, path): path.stem for path in sorted((folder / "nodes").glob("*.pub"))
        }


def run(
    folder: Path,
    *,
    deadline_s: float = 600.0,
    timeout_s: float = 3600.0,
    explain: bool = False,
    on_round: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Result:
    """Train the task of `folder` and wait for the end. `deadline_s` is one round's.

    Raises Unreachable where nodes do not come or the run does not end in `timeout_s`, ConfigError where it
    fails.
    """
    nodes = admit(folder)
    task = Task.from_json((folder / "task.json").read_bytes())
    deadline = time.monotonic() + timeout_s
    with _control(folder) as control:
        _await_nodes(control, nodes, deadline)
        number = control.start(
            build_app(folder / APP_FOLDER),
            {
                "task": task.to_json().decode(),
                "nodes": json.dumps({str(node): name for node, name in nodes.items()}),
                "deadline-s": deadline_s,
                "explain": explain,
            },
        )
        here = folder / "state" / "runs" / str(number)
        told = 0
        while not (state := control.status(number))[0]:
            for one in (rounds := _rounds(here))[told:]:
                on_round(one)
            told = len(rounds)
            if time.monotonic() > deadline:
                control.stop(number)
                raise Unreachable(f"run {number} did not end in {timeout_s:g} s; it is stopped")
            time.sleep(_POLL_S)
    if not (here / "outcome.json").exists():
        raise ConfigError(f"run {number} ended without a result ({state[1]}); the SuperLink's log says more")
    return Result(
        here,
        decode_arrays((here / "model.npz").read_bytes(), _MAX_MODEL_BYTES),
        _rounds(here),
        json.loads((here / "outcome.json").read_bytes()),
    )


def _control(folder: Path) -> Control:
    os.environ["FLWR_HOME"] = str(folder / "state" / "flwr")  # Flower writes its settings there
    told = json.loads((folder / "superlink.json").read_bytes())
    return Control(f"{told['host']}:{told['port']}", folder / "tls" / "ca.crt")


def _await_nodes(control: Control, nodes: Mapping[int, str], deadline: float) -> None:
    while missing := nodes.keys() - control.online():
        if time.monotonic() > deadline:
            names = ", ".join(sorted(nodes[node] for node in missing))
            raise Unreachable(f"nodes of {names} are not connected; start them, and look at what they say")
        time.sleep(_POLL_S)


def _rounds(folder: Path) -> tuple[Mapping[str, Any], ...]:
    with suppress(FileNotFoundError):
        return tuple(json.loads((folder / "rounds.json").read_bytes()))
    return ()


class Trial:
    """A SuperLink and its nodes on this machine, from the folders that are written into `out`."""

    def __init__(self, out: Path, layout: Layout) -> None:
        self._out = out
        self._layout = layout
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Trial:
        write(self._out, self._layout)
        folder = self._out / "superlink"
        try:
            self._start("superlink", folder, superlink_command(folder, self._layout))
            self._await_superlink(folder)
            for index, domain in enumerate(self._layout.domains):
                node = self._out / "nodes" / domain
                command = supernode_command(node, self._layout, domain, self._layout.node_port + index)
                self._start(domain, node, command)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the supervisors: what they started descends from them."""
        return tuple(process.pid for process in self._processes.values())

    def run(self, **settings: Any) -> Result:
        """As `run` does."""
        return run(self._out / "superlink", **settings)

    def logs(self, name: str) -> str:
        """What `superlink` or a domain's node said."""
        return (self._out / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, folder: Path, command: list[str]) -> None:
        with (self._out / f"{name}.log").open("wb") as said:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "federation.learning.supervise", *command],
                env={**os.environ, **environment(folder, self._layout)},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def _await_superlink(self, folder: Path, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._processes["superlink"].poll() is not None or time.monotonic() > deadline:
                raise Unreachable(f"the SuperLink did not start: {self.logs('superlink')[-2000:]}")
            try:
                admit(folder)
            except Unreachable:
                time.sleep(_POLL_S)
            else:
                return

    def close(self) -> None:
        """End all processes, and wait until none is left."""
        for process in reversed(self._processes.values()):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for name, process in self._processes.items():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                log.warning("a supervisor did not end", extra={"of": name})
                process.kill()
                process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
