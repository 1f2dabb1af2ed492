"""The same training in three ways: in process, over agents' sessions, over a SuperLink with SuperNodes.

Real processes in the second and third way, all on this machine. Flower starts an interpreter for every
message, which is what its rounds consist of; the loss of every round must be the same in all three ways, to
the last digit. While the third way runs, every socket of all its processes is sampled: none may reach or
listen beyond loopback, and none of the processes may be left at the end.

    python -m benchmarks.learning_superlink [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from domain_twin.trust.tls import enforce_tls13_floor

if __name__ == "__main__":
    enforce_tls13_floor()
    # Before numpy reads them: sums in another order would be other sums.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import psutil

from benchmarks import learning_rounds
from benchmarks.learning_rounds import in_process, panel_of, task_of
from domain_twin.learning.task import Profile, Task
from federation.learning.deploy import Layout
from federation.learning.flower_app import save_panel
from federation.learning.grid import CarriedGrid, Carrier
from federation.learning.reports import Outcome
from federation.learning.rounds import Plan, train
from federation.learning.superlink import Trial

SAMPLED_EVERY_S = 0.2


def keeping(kept: list[Outcome], plan: Plan) -> Callable[[Task, Carrier, str], Any]:
    """As `learning_rounds.by_grid`, and the outcome is kept."""

    def by_grid(task: Task, carrier: Carrier, run: str, *_: Any) -> dict[str, Any]:
        outcome = train(task, CarriedGrid(carrier, run), plan=plan)
        kept.append(outcome)
        rounds = outcome.rounds[1:]
        return learning_rounds.figures([one.took_s for one in rounds], 0.0) | {"loss": rounds[-1].loss}

    return by_grid


class Watched:
    """Samples the sockets of processes that descend from `pids()`, in a thread."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self.outside: set[str] = set()
        self.seen: dict[int, str] = {}
        self.samples = 0
        self.most_mb = 0.0
        self._pids = pids
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SAMPLED_EVERY_S):
            self.samples += 1
            memory = 0
            for pid in self._pids():
                with suppress(psutil.Error):
                    supervisor = psutil.Process(pid)
                    for process in (supervisor, *supervisor.children(recursive=True)):
                        memory += self._look(process)
            self.most_mb = max(self.most_mb, memory / 2**20)

    def _look(self, process: psutil.Process) -> int:
        with suppress(psutil.Error):
            name = " ".join(process.cmdline()[1:3])
            self.seen[process.pid] = name
            for socket in process.net_connections(kind="inet"):
                for end in (socket.laddr, socket.raddr):
                    if end and not ipaddress.ip_address(end.ip).is_loopback:
                        self.outside.add(f"{name}: {end.ip}:{end.port}")
            return int(process.memory_info().rss)
        return 0


def free_ports(count: int) -> list[int]:
    import socket

    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def by_superlink(folder: Path, task: Task, domains: Sequence[str], deadline_s: float) -> dict[str, Any]:
    """Figures of the third way."""
    data: dict[str, Mapping[str, str]] = {}
    for domain in domains:
        save_panel(panel_of(domain), folder / f"{domain}.npz")
        data[domain] = {"panel": str(folder / f"{domain}.npz")}
    port = free_ports(1)[0]
    node_port = (
        20_000 + os.getpid() % 20_000
    )  # a row of ports: one that is taken ends the trial with its name
    layout = Layout(task, domains, port=port, node_port=node_port, data=data)
    started = time.monotonic()
    trial = Trial(folder / "flower", layout)
    with Watched(lambda: trial.pids) as watched, trial:
        up_s = time.monotonic() - started
        result = trial.run(deadline_s=deadline_s, timeout_s=1500.0)
        whole_s = time.monotonic() - started
    left = sorted(name for pid, name in watched.seen.items() if psutil.pid_exists(pid))
    rounds = result.rounds[1:]
    return {
        "round_s": round(statistics.median(one["took_s"] for one in rounds), 2),
        "worst_round_s": round(max(one["took_s"] for one in rounds), 2),
        "superlink_up_s": round(up_s, 1),
        "whole_s": round(whole_s, 1),
        "losses": [one["loss"] for one in result.rounds],
        "processes": len(watched.seen),
        "most_memory_MB": round(watched.most_mb),
        "socket_samples": watched.samples,
        "beyond_loopback": sorted(watched.outside),
        "left_behind": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two domains and two rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deadline-s", type=float, default=400.0, help="of a round over the SuperLink")
    options = parser.parse_args()
    domains = learning_rounds.DOMAINS[:2] if options.quick else learning_rounds.DOMAINS
    learning_rounds.DOMAINS = domains
    rounds = 2 if options.quick else options.rounds
    task = replace(task_of(learning_rounds.SIZES["10 kB"], rounds), profile=Profile.TRUSTED)
    kept: list[Outcome] = []
    plan = Plan(deadline_s=120.0, explain=False, min_domains=len(domains))
    learning_rounds.by_grid = keeping(kept, plan)
    found: dict[str, Any] = {"in process": in_process(task)}
    with tempfile.TemporaryDirectory() as folder:
        found["session"] = asyncio.run(learning_rounds.by_session(Path(folder), {"10 kB": task}))["10 kB"]
        for way, outcome in zip(found.values(), kept, strict=True):
            way["losses"] = [report.loss for report in outcome.rounds]
    with tempfile.TemporaryDirectory() as folder:
        found["superlink"] = by_superlink(Path(folder), task, domains, options.deadline_s)
    losses = [way["losses"] for way in found.values()]
    result = {
        "benchmark": "learning_superlink",
        "quick": options.quick,
        "domains": len(domains),
        "rounds": rounds,
        **found,
        "same losses": all(one == losses[0] for one in losses),
        "superlink over session": round(found["superlink"]["round_s"] / found["session"]["round_s"]),
        "aims": {"same losses": True, "beyond_loopback": [], "left_behind": []},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
