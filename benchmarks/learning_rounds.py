"""What a round of learning costs beyond the learning: within a process, and over the agents' sessions.

Four domains, a small model (10 kB) and one of a megabyte, of which fewer rounds are run. `rival: a loop of
our own` calls the same learner for the same domains one after another, averages in NumPy, and judges: what a
round takes longer than it does is the overhead. A round is what passes from one report to the next. Over the
session, four agents' processes hold mTLS sessions with signed statements, and each trains in a process of its
own; policy, audit of steps and the broker's grid are the product's, only the history is a panel made here.
Every process does its arithmetic in one thread, as the product's that train do. On few cores the ways share
the machine differently, and other jobs share it too (those that train give way to them): beside the median
round stands the best one, and the CPU of this process and of the agents'.

    python -m benchmarks.learning_rounds [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from domain_twin.trust.tls import enforce_tls13_floor

if __name__ == "__main__":
    enforce_tls13_floor()
    # Before numpy reads them.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import grpc
import numpy as np
import psutil

from benchmarks.session import OPERATOR, Answers, Host, config_of
from domain_twin.agent.learning import Learning, Step
from domain_twin.agent.session import Asked, BrokerSession
from domain_twin.config import AgentConfig, BrokerAddress, BrokerConfig, LearningConfig
from domain_twin.learning.client import client_app, generator
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Task
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.guard import Guard
from domain_twin.trust.identity import Role
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.tls import server_credentials
from federation.attach import FederationService
from federation.learning.grid import CarriedGrid, Carrier, InProcess
from federation.learning.rounds import Plan, train
from federation.learning.session_grid import SessionCarrier
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire.framing import STREAM_OPTIONS

DOMAINS = ("core", "edge", "ran", "transport")
SIZES = {"10 kB": 24, "1 MB": 480}  # hidden units
AIMS = {"in process": 0.1, "session": 0.5}
PLAN = Plan(deadline_s=60.0, tolerance=1e9)
FEWER = 2  # of the large model's rounds


def task_of(hidden: int, rounds: int) -> Task:
    return Task(
        "rounds",
        features=(Feature("ndt:utilisation", "1"),),
        lags=10,
        rounds=rounds,
        batch=64,
        settings={"hidden": hidden},
    )


def panel_of(domain: str) -> Panel:
    """A small one: what is measured is all else."""
    rng = np.random.default_rng(DOMAINS.index(domain))
    values = 5 + np.sin(np.arange(200) / 8) + rng.normal(0, 0.2, 200)
    return Panel(("link",), ("ndt:utilisation",), values[None, :, None], 0, 60.0, 160)


def by_loop(task: Task) -> dict[str, Any]:
    """Figures of the rival."""
    model, panels = learner(task), {domain: panel_of(domain) for domain in DOMAINS}
    arrays = model.initial(np.random.default_rng(task.seed))
    took, cpu = [], time.process_time()
    for round_ in range(1, task.rounds + 1):
        started = time.perf_counter()
        made = [model.train(arrays, held, generator(task, round_, name)) for name, held in panels.items()]
        total = sum(one.samples for one in made)
        arrays = averaged([one.arrays for one in made], [one.samples / total for one in made])
        for held in panels.values():
            model.evaluate(arrays, held)
        took.append(time.perf_counter() - started)
    return figures(took, (time.process_time() - cpu) / task.rounds)


def averaged(made: Sequence[Arrays], shares: Sequence[float]) -> Arrays:
    return {
        name: np.asarray(sum(share * one[name] for one, share in zip(made, shares, strict=True)), np.float32)
        for name in made[0]
    }


def by_grid(
    task: Task, carrier: Carrier, run: str, others_cpu_s: Callable[[], float] = lambda: 0.0
) -> dict[str, Any]:
    """Figures of rounds over `carrier`; the final loss; bytes of a round out and in."""
    seen: list[tuple[float, float, float]] = []
    outcome = train(
        task,
        CarriedGrid(carrier, run),
        plan=PLAN,
        on_round=lambda _: seen.append((time.perf_counter(), time.process_time(), others_cpu_s())),
    )
    at, cpu, others = zip(*seen, strict=True)
    rounds = outcome.rounds[1:]
    for report in rounds:
        if len(report.domains) != len(DOMAINS) or not report.accepted:
            raise SystemExit(f"round {report.round}: {report.reason} {dict(report.domains)}")
    last = rounds[-1]
    took = [later - earlier for earlier, later in pairwise(at)]
    return figures(took, (cpu[-1] - cpu[0]) / task.rounds) | {
        "others_cpu_s_per_round": round((others[-1] - others[0]) / task.rounds, 4),
        "loss": last.loss,
        "bytes_out_in": [last.bytes_out, last.bytes_in],
    }


def in_process(task: Task) -> dict[str, Any]:
    apps = {domain: client_app(_holding(panel_of(domain)), domain=domain) for domain in DOMAINS}
    with InProcess(apps) as carrier:
        return by_grid(task, carrier, "in-process")


def _holding(held: Panel) -> Any:
    return lambda _: held


def figures(took: Sequence[float], cpu_s: float) -> dict[str, Any]:
    """Of rounds: median, best, worst, and CPU of this process in each."""
    return {
        "round_s": round(statistics.median(took), 4),
        "best_round_s": round(min(took), 4),
        "worst_round_s": round(max(took), 4),
        "cpu_s_per_round": round(cpu_s, 4),
    }


class HeldLearning(Learning):
    """The agent's learning, where the panel does not come from a history."""

    async def _panel(self, task: Task, *_: Any) -> Panel:
        return panel_of(self._domain)


class Trains(Answers):
    """An agent that trains and nothing else."""

    def __init__(self, domain: str, folder: Path) -> None:
        self.learning = HeldLearning(
            LearningConfig(),
            folder,
            domain=domain,
            network=lambda: (_ for _ in ()).throw(RuntimeError("no network here")),
            history=None,
        )

    async def learn(self, ask: Asked, body: pb.LearnAsk) -> pb.LearnAnswer:
        step = Step(body.run, body.step, body.task, body.message, body.card, body.arrays)
        learned = await self.learning.take(step, str(ask.peer))
        return pb.LearnAnswer(message=learned.message, facts=learned.facts_json)


async def agent(file: Path) -> None:
    """One agent's process."""
    config = AgentConfig.model_validate_json(await asyncio.to_thread(file.read_text, encoding="utf-8"))
    handler = Trains(config.domain, config.state / "learning")
    try:
        await BrokerSession(config, handler).run()
    finally:
        await handler.learning.aclose()


async def by_session(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Figures by size of model, over sessions of four agents' processes."""
    ca = OperatorCA.create(OPERATOR, folder)
    trust = TrustBundle.load({OPERATOR: ca.root})
    files = config_of(ca.issue(Role.BROKER, "main", folder, dns=["localhost"]))
    config = BrokerConfig(
        operator=OPERATOR, listen="-", state=folder, identity=files, trust={OPERATOR: ca.root}
    )
    host = Host()
    server = grpc.aio.server(interceptors=[Guard(trust)], options=STREAM_OPTIONS)
    identity = load_identity(files, operator=OPERATOR, role=Role.BROKER, name="main")
    service = FederationService(host, config, identity, trust)
    rpc.add_FederationServicer_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, trust))
    await server.start()
    processes = []
    found: dict[str, Any] = {}
    try:
        for domain in DOMAINS:
            agent_config = AgentConfig(
                domain=domain,
                operator=OPERATOR,
                state=folder / domain,
                broker=BrokerAddress(
                    address=f"localhost:{port}", root=ca.root, identity=f"spiffe://{OPERATOR}/broker/main"
                ),
                identity=config_of(ca.issue(Role.AGENT, domain, folder)),
            )
            file = folder / f"{domain}.json"
            file.write_text(agent_config.model_dump_json(), encoding="utf-8")
            processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "benchmarks.learning_rounds", "--agent", str(file)
                )
            )
        async with asyncio.timeout(120):
            while len(host.sessions) < len(DOMAINS):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.01)
        for name, task in tasks.items():
            carrier = SessionCarrier(host.sessions.get, f"run-{len(found)}", task, max_bytes=15_000_000)
            refused = await carrier.offer(DOMAINS)
            assert not refused, refused
            others = partial(cpu_s_of, [process.pid for process in processes])
            found[name] = await asyncio.to_thread(by_grid, task, carrier, f"run-{len(found)}", others)
            carrier.end()
    finally:
        await service.close("the benchmark is over")
        await server.stop(1)
        for process in processes:
            process.terminate()
        for process in processes:
            await process.wait()
    return found


def cpu_s_of(pids: Sequence[int]) -> float:
    """CPU that these processes have used so far, and those that train for them."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            agent = psutil.Process(pid)
            for process in (agent, *agent.children(recursive=True)):
                used = process.cpu_times()
                total += used.user + used.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="six rounds, the small model only")
    parser.add_argument(
        "--rounds", type=int, default=10, help="of the small model; half as many of the large"
    )
    parser.add_argument("--agent", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agent:
        asyncio.run(agent(options.agent))
        return
    rounds = 6 if options.quick else options.rounds
    sizes = {"10 kB": SIZES["10 kB"]} if options.quick else SIZES
    tasks = {
        name: task_of(hidden, rounds if name == "10 kB" else max(2, rounds // FEWER))
        for name, hidden in sizes.items()
    }
    by_loop(replace(tasks["10 kB"], rounds=2))  # warm
    loops = {name: by_loop(task) for name, task in tasks.items()}
    local = {name: in_process(task) for name, task in tasks.items()}
    with tempfile.TemporaryDirectory() as folder:
        session = asyncio.run(by_session(Path(folder), tasks))
    for name, loop in loops.items():
        for way in (local, session):
            way[name]["overhead_s"] = round(way[name]["round_s"] - loop["round_s"], 4)
            way[name]["best_overhead_s"] = round(way[name]["best_round_s"] - loop["best_round_s"], 4)
            cpu_s = way[name]["cpu_s_per_round"] + way[name]["others_cpu_s_per_round"]
            way[name]["overhead_cpu_s"] = round(cpu_s - loop["cpu_s_per_round"], 4)
    result = {
        "benchmark": "learning_rounds",
        "quick": options.quick,
        "domains": len(DOMAINS),
        "rounds": {name: task.rounds for name, task in tasks.items()},
        "rival: a loop of our own": loops,
        "in process": local,
        "session": session,
        "same losses": {name: local[name]["loss"] == session[name]["loss"] for name in tasks},
        "aims": {"overhead_s": AIMS},
        "peak_memory_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
