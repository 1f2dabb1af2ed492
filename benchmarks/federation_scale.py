"""One broker and 5, 10, 20 agents: CPU, memory, barriers, and a change's way to a watcher; how they grow.

The agents' end is the real session code with synthetic domains (a mesh of 10 points, 90 segments, as 50 nodes
show it), ten agents a process; the broker is the real one, in a fresh process for each number of agents, with
a service across every three neighbours. Each agent changes a figure ten times a second. The rival of every
number is the same number with five agents, per agent. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from domain_twin.trust.tls import enforce_tls13_floor

if __name__ == "__main__":
    enforce_tls13_floor()

from domain_twin.agent.session import Asked, BrokerSession
from domain_twin.config import (
    AccessConfig,
    AgentConfig,
    BrokerAddress,
    BrokerConfig,
    ClientConfig,
    IdentityConfig,
    MemberConfig,
)
from domain_twin.model import (
    EventKind,
    Level,
    Objective,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Service,
    ServiceRecords,
    Version,
    View,
    ViewDelta,
)
from domain_twin.model.delta import apply, snapshot
from domain_twin.trust.ca import IssuedIdentity, OperatorCA
from domain_twin.trust.identity import Role
from federation.broker import Broker, serve
from federation.client import TwinClient
from federation.v1 import fedtwin_pb2 as pb

OPERATOR = "bench.example"
END_POINTS = 8
CHANGES_PER_S = 10.0
AGENTS_A_PROCESS = 10
ROUNDS, ANSWER_BYTES = 8, 70_000
SPAN = 3  # domains that a service crosses


def name_of(number: int) -> str:
    return f"d{number:02}"


def view_of(number: int, agents: int) -> View:
    """A domain of a chain: one border to each neighbour, and end points; all pairs joined."""
    domain = name_of(number)
    points = [Point(f"{domain}/e{n}", domain, PointKind.ENDPOINT, role="host") for n in range(END_POINTS)]
    for side, other in (("w", number - 1), ("x", number + 1)):
        if 0 <= other < agents:
            points.append(
                Point(
                    f"{domain}/{side}",
                    domain,
                    PointKind.BORDER,
                    link_id=f"idl-{min(number, other):02}",
                    peer_domain=name_of(other),
                    capacity_mbps=1000.0,
                    metric=10,
                    outbound=PathKpis(0.1, bandwidth_mbps=900.0),
                )
            )
    kpis = PathKpis(1.0, bandwidth_mbps=500.0, metric=10)
    segments = {
        (a.id, b.id): Segment(a.id, b.id, kpis, (kpis,)) for a in points for b in points if a is not b
    }
    return View(domain, "a", Level.MESH, Version("e", 1, 1), {p.id: p for p in points}, segments)


class Domain:
    """Shows its view and changes a figure of it again and again."""

    def __init__(self, view: View) -> None:
        self.view_now = view
        self.keys = list(view.segments)
        self.changes = 0

    def change(self) -> ViewDelta:
        self.changes += 1
        key = self.keys[self.changes % len(self.keys)]
        kpis = PathKpis(1.0 + self.changes % 97 / 1000, bandwidth_mbps=500.0, metric=10)
        version = self.view_now.version
        delta = ViewDelta(
            domain=self.view_now.domain,
            agreement="a",
            level=Level.MESH,
            source=version,
            target=Version(version.epoch, version.sequence + 1, time.time_ns()),
            segments=(Segment(*key, kpis, (kpis,)),),
        )
        self.view_now = apply(self.view_now, delta)
        return delta

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        return [snapshot(self.view_now)]

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        return pb.EvaluateAnswer(segments=[pb.SegmentAnswer(source="a" * int(body.segments[0].mode))])

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        return pb.DescribeAnswer(agreement="a", level="mesh")

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        return pb.BudgetAnswer(accepted=True)

    def job_end(self, job_id: str) -> None: ...


async def agents(files: list[Path], count: int) -> None:
    """Several agents in this process. A line on stdin starts their changes, the next one ends them."""
    running, domains = [], []
    for file in files:
        config = AgentConfig.model_validate_json(await asyncio.to_thread(file.read_text, encoding="utf-8"))
        domain = Domain(view_of(int(config.domain[1:]), count))
        session = BrokerSession(config, domain)
        running.append(asyncio.create_task(session.run()))
        domains.append((domain, session))
    lines = await stdin()

    async def change(domain: Domain, session: BrokerSession, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            session.publish(domain.change())
            await asyncio.sleep(1 / CHANGES_PER_S)

    while await lines.readline():
        changing = [
            asyncio.create_task(change(domain, session, n / len(domains) / CHANGES_PER_S))
            for n, (domain, session) in enumerate(domains)
        ]
        await lines.readline()
        for task in changing:
            task.cancel()


async def watcher(file: Path) -> None:
    """Watches views. A line on stdin: forget what was seen; the next one: print the delays in ms as JSON."""
    profile = ClientConfig.model_validate_json(await asyncio.to_thread(file.read_text, encoding="utf-8"))
    delays: list[float] = []
    async with TwinClient(profile) as twin:
        stream = twin.watch(kinds=[EventKind.VIEW])
        await stream.started()

        async def watch() -> None:
            async for event in stream:
                delays.append((time.time_ns() - event.observed_at) / 1e6)

        watching = asyncio.create_task(watch())
        lines = await stdin()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while await lines.readline():
            delays.clear()
            await lines.readline()
            sys.stdout.write(json.dumps(delays) + "\n")
            sys.stdout.flush()
        watching.cancel()


async def stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def config_of(issued: IssuedIdentity) -> IdentityConfig:
    return IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )


def records_of(count: int) -> ServiceRecords:
    services = {}
    for first in range(count - SPAN + 1):
        source, target = f"{name_of(first)}/e0", f"{name_of(first + SPAN - 1)}/e1"
        services[f"s{first}"] = Service(f"s{first}", f"s{first}", source, target, Objective(delay_ms=50.0))
    return ServiceRecords(services=services)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


async def barrier(ask: Callable[[str], Awaitable[Any]], domains: list[str], runs: int) -> float:
    """Rounds that each wait for an answer of every agent; the median in ms."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        for _ in range(ROUNDS):
            await asyncio.gather(*(ask(domain) for domain in domains))
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def start(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )


def say(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")


async def joined(broker: Broker, profile: ClientConfig, count: int) -> None:
    async with asyncio.timeout(120), TwinClient(profile) as twin:
        while True:
            domains, services = await twin.domains(), (await twin.services()).statuses
            here = len(broker.sessions) == count and all(s.connected and s.points for s in domains)
            if here and all(status.met for status in services):
                return
            await asyncio.sleep(0.2)


async def measure(folder: Path, count: int, seconds: float) -> dict[str, float]:
    ca = OperatorCA.create(OPERATOR, folder)
    config = BrokerConfig(
        operator=OPERATOR,
        listen="127.0.0.1:0",
        state=folder / "broker",
        identity=config_of(ca.issue(Role.BROKER, "main", folder, dns=["localhost"])),
        trust={OPERATOR: ca.root},
        member=tuple(MemberConfig(domain=name_of(n), operator=OPERATOR) for n in range(count)),
        access=(AccessConfig(subject=f"spiffe://{OPERATOR}/user/*"),),
    )
    person = ca.issue(Role.USER, "ann", folder)
    processes: list[asyncio.subprocess.Process] = []
    async with serve(config, records_of(count)) as broker:
        gc.collect()
        empty_mb = resident_mb()
        address = f"localhost:{broker.address.rpartition(':')[2]}"
        identity = f"spiffe://{OPERATOR}/broker/main"
        profile = ClientConfig(
            address=address,
            identity=identity,
            root=ca.root,
            certificate=person.certificate,
            key=person.key,
        )
        (folder / "client.json").write_text(profile.model_dump_json(), encoding="utf-8")
        files = []
        for n in range(count):
            agent = AgentConfig(
                domain=name_of(n),
                operator=OPERATOR,
                state=folder / name_of(n),
                broker=BrokerAddress(address=address, root=ca.root, identity=identity),
                identity=config_of(ca.issue(Role.AGENT, name_of(n), folder)),
            )
            files.append(folder / f"{name_of(n)}.json")
            files[-1].write_text(agent.model_dump_json(), encoding="utf-8")
        try:
            for first in range(0, count, AGENTS_A_PROCESS):
                some = files[first : first + AGENTS_A_PROCESS]
                processes.append(await start("--agents", count, *some))
            await joined(broker, profile, count)
            watching = await start("--watcher", folder / "client.json")
            processes.append(watching)
            assert watching.stdout
            await watching.stdout.readline()
            await asyncio.sleep(1.0)

            started, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            idle = (time.process_time() - cpu) / (time.perf_counter() - started)

            say(*processes)
            await asyncio.sleep(1.0)
            started, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
            say(*processes)
            delays = json.loads(await watching.stdout.readline())
            await asyncio.sleep(1.0)

            body = pb.EvaluateAsk(segments=[pb.SegmentAsk(mode=str(ANSWER_BYTES))])
            together_ms = await barrier(
                lambda domain: broker.sessions[domain].ask(body, timeout_s=60),
                list(broker.sessions),
                5,
            )
            cuts = statistics.quantiles(delays, n=20)
            return {
                "agents": count,
                "idle_cpu_percent": round(100 * idle, 2),
                "changes_per_s": round(count * CHANGES_PER_S),
                "changes_cpu_percent": round(100 * cpu / wall, 1),
                "cpu_us_per_change": round((cpu / wall - idle) / (count * CHANGES_PER_S) * 1e6),
                "events_seen": len(delays),
                "change_to_watcher_p50_ms": round(cuts[9], 1),
                "change_to_watcher_p95_ms": round(cuts[18], 1),
                f"barrier_{ROUNDS}x70kB_p50_ms": round(together_ms, 1),
                "memory_growth_MB": round(resident_mb() - empty_mb, 1),
            }
        finally:
            for process in processes:
                process.kill()
                await process.wait()


PER_AGENT = ("idle_cpu_percent", f"barrier_{ROUNDS}x70kB_p50_ms", "memory_growth_MB")
PER_CHANGE = ("cpu_us_per_change", "change_to_watcher_p50_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, up to 10 agents")
    parser.add_argument("--run", nargs=2, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--agents", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--watcher", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.agents:
        count, *files = arguments.agents
        asyncio.run(agents([Path(file) for file in files], int(count)))
        return
    if arguments.watcher:
        asyncio.run(watcher(arguments.watcher))
        return
    if arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(measure(Path(folder), int(arguments.run[0]), arguments.run[1]))))
        return
    found = []
    for count in (5, 10) if arguments.quick else (5, 10, 20):
        seconds = "3" if arguments.quick else "10"  # each in a process of its own, or memory says nothing
        one = [sys.executable, __file__, "--run", str(count), seconds]
        found.append(json.loads(subprocess.run(one, check=True, stdout=subprocess.PIPE).stdout))
    first, last = found[0], found[-1]
    agents_more = last["agents"] / first["agents"]
    growth = {name: round(last[name] / max(first[name], 0.01) / agents_more, 2) for name in PER_AGENT}
    growth |= {name: round(last[name] / max(first[name], 0.01), 2) for name in PER_CHANGE}
    report = {
        "benchmark": "federation_scale",
        "quick": arguments.quick,
        "runs": found,
        f"growth from {first['agents']} to {last['agents']} agents (1: in step with them)": growth,
        "aims": {"cpu_us_per_change": "<= 1.5", "change_to_watcher_p95_ms": 100},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
