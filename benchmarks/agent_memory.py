"""What the demo's processes hold in memory, stage by stage: agents, their children, broker, emulated network.

Starts the demo's networks, agents and broker, and looks at every process when all serve, when the composed
view stands, after --minutes of history, after a what-if, after a training, and a minute later. PSS counts a
page that several processes map by its share, and adds up over processes; USS is what would be free without
the process; RSS counts shared libraries in full, each time anew. Beside it, from the same run, what Python
and the agent's libraries hold before they mirror anything: the floor. No other mirror of four operators'
networks with history, graph and what-if is known to compare with. Prints JSON.

    python benchmarks/agent_memory.py [--minutes 2] [--no-learning] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from domain_twin.errors import Unreachable
from domain_twin.model.job import Capability, Requirements
from domain_twin.model.scenario import DemandChange, Scenario
from federation.cli.demo import files as demo
from federation.cli.demo.files import OPERATORS, SERVICE, DemoFiles
from federation.cli.demo.learning import task
from federation.cli.demo.prediction import compile_engine
from federation.cli.demo.supervisor import Process, Supervisor
from federation.client import TwinClient
from federation.learning_client import LearningClient

READY_S, JOINED_S, ANSWER_S = 180.0, 120.0, 240.0
IDLE_S = 75.0  # longer than a process that validates stays without work
AIMS = {"agent_pss_mb_after_history": 250.0}
AGENTS = {f"agent-{operator.domain}" for operator in OPERATORS}
FLOORS = {"python": "pass", "agent's libraries": "import federation.cli.app, domain_twin.agent.main"}
_WAIT = "; import sys; print(flush=True); sys.stdin.read()"


@dataclass(slots=True)
class Held:
    """MB that a process holds, or several together."""

    processes: int = 0
    threads: int = 0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    uss_mb: float = 0.0

    def add(self, process: psutil.Process) -> None:
        """Add a process; one that has ended meanwhile adds nothing."""
        try:
            memory, threads = process.memory_full_info(), process.num_threads()
        except psutil.Error:
            return
        self.processes += 1
        self.threads += threads
        self.rss_mb = round(self.rss_mb + memory.rss / 1e6, 1)
        self.pss_mb = round(self.pss_mb + memory.pss / 1e6, 1)
        self.uss_mb = round(self.uss_mb + memory.uss / 1e6, 1)


def look(processes: list[Process]) -> dict[str, dict[str, Any]]:
    """What each process holds, and all of its children together."""
    held: defaultdict[str, Held] = defaultdict(Held)
    for process in processes:
        main = psutil.Process(process.child.pid)
        held[process.name].add(main)
        for child in main.children(recursive=True):
            held[f"{process.name}'s children"].add(child)
    return {name: asdict(figures) for name, figures in held.items()}


def worst(held: dict[str, dict[str, Any]]) -> float:
    """The most that an agent's own process holds, PSS in MB."""
    agents = [figures["pss_mb"] for name, figures in held.items() if name in AGENTS]
    return float(max(agents, default=0.0))


def floor(code: str) -> dict[str, Any]:
    """What a process holds that only imports."""
    held = Held()
    with subprocess.Popen(
        [sys.executable, "-c", code + _WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        held.add(psutil.Process(process.pid))
        process.stdin.close()
    return asdict(held)


async def start(supervisor: Supervisor, files: DemoFiles) -> None:
    """Start every process, and wait until all serve."""

    async def one(name: str, *arguments: str) -> None:
        await supervisor.ready(await supervisor.start(name, arguments), READY_S)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one("broker", "broker", str(files.broker)))
        await one("emulator", "emulate", str(files.network))
        for operator in OPERATORS:
            path = str(files.agent(operator.domain))
            tasks.create_task(one(f"agent-{operator.domain}", "agent", path))


async def joined(twin: TwinClient) -> None:
    """Return when the broker has a path across all domains."""
    async with asyncio.timeout(JOINED_S):
        while True:
            domains = await twin.domains()
            if len(domains) == len(OPERATORS) and all(each.connected and each.points for each in domains):
                status = (await twin.services(SERVICE)).statuses
                if status and status[0].path:
                    return
            await asyncio.sleep(0.2)


async def what_if(twin: TwinClient) -> None:
    """Ask what a fifth more demand would do, which every agent computes a part of."""
    job = await twin.start_job(
        Scenario(name="more-demand", seed=1, changes=(DemandChange(factor=1.2),)),
        capability=Capability.EVENTS_IMPACTS_VERIFICATION,
        requirements=Requirements(deadline_s=ANSWER_S),
    )
    async for now in twin.watch_job(job.id):
        job = now
    if job.problem:
        raise Unreachable(f"the what-if failed: {job.problem}")


async def measure(folder: Path, *, history_s: float, learning: bool) -> dict[str, Any]:
    """Run the stages; what every process holds after each."""
    await compile_engine()  # else the first what-if holds a compiler as well
    files = await asyncio.to_thread(demo.write_all, folder, seed=1)
    supervisor = Supervisor(folder / "logs")
    stages: dict[str, Any] = {}

    def stage(name: str) -> None:
        stages[name] = look(supervisor.processes)

    try:
        await start(supervisor, files)
        stage("serving")
        async with TwinClient.connect(files.client, timeout_s=ANSWER_S) as twin:
            await joined(twin)
            stage("joined")
            await asyncio.sleep(history_s)
            stage("history")
            await what_if(twin)
            stage("what-if")
        if learning:
            async with LearningClient.connect(files.client) as trainer:
                run = await trainer.start(task())
                async for now in trainer.watch(run.id):
                    run = now
                if run.problem:
                    raise Unreachable(f"the training failed: {run.problem}")
            stage("training")
            await asyncio.sleep(IDLE_S)
            stage("idle again")
    finally:
        await supervisor.stop()
    return stages


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="of history")
    parser.add_argument("--no-learning", action="store_true", help="without a training")
    parser.add_argument("--quick", action="store_true", help="ten seconds of history, no training")
    chosen = parser.parse_args()
    history_s = 10.0 if chosen.quick else 60 * chosen.minutes
    learning = not (chosen.quick or chosen.no_learning)
    with tempfile.TemporaryDirectory(prefix="fedtwin-") as name:
        stages = asyncio.run(measure(Path(name), history_s=history_s, learning=learning))
    result = {
        "benchmark": "agent_memory",
        "history_s": history_s,
        "floor": {name: floor(code) for name, code in FLOORS.items()},
        "stages": stages,
        "worst_agent_pss_mb": {stage: worst(found) for stage, found in stages.items()},
        "aims": AIMS,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
