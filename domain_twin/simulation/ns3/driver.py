"""Run a network packet by packet in ns-3: another process, with a time limit. Owns no queueing maths.

The process is killed when the limit is reached or the asker gives up (the task is cancelled).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domain_twin.errors import OperationRejected, OverCapacity
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, Law, SimGraph
from domain_twin.simulation.ns3.build import runner
from domain_twin.simulation.ns3.result import PacketRun, parse
from domain_twin.simulation.ns3.scenario import Flows, Window, flows_of, refuse_overload, write

if TYPE_CHECKING:
    from domain_twin.simulation.routing import Trees

__all__ = ["simulate"]

Progress = Callable[[float], None]


async def simulate(
    graph: SimGraph,
    demand: Demand | Flows,
    *,
    seed: int,
    window: Window | None = None,
    packets: float = 1_000_000,
    run: int = 0,
    ecmp: bool = False,
    program: Path | None = None,
    limit_s: float = 600.0,
    progress: Progress | None = None,
) -> PacketRun:
    """What every flow got, packet by packet.

    Without a `window` as long as it takes for `packets` packets of all flows together. Flows of `Flows` with
    paths take these; others follow shortest paths as `routing` finds them (`ecmp`: each packet takes one of
    the equal next hops by chance). The same seed and run give the same figures, and a flow sends the same packets whatever
    else is changed. `progress` hears shares from 0 to 1. Raises ConfigError (no ns-3, no compiler), NoPath,
    OperationRejected, OverCapacity (an unbounded queue that overflows, or `limit_s` is over).
    """
    flows = demand if isinstance(demand, Flows) else flows_of(demand)
    window = window or _window(graph, flows, packets)
    trees = None if flows.paths is not None else _trees(graph, ecmp=ecmp)
    text = write(graph, flows, trees=trees, window=window, seed=seed, run=run)
    refuse_overload(graph, *_offered(graph, flows, trees))
    program = program or await asyncio.to_thread(runner)
    began = time.monotonic()
    table = await _run(program, text, limit_s=limit_s, progress=progress)
    result = parse(
        table,
        traffic_class=flows.traffic_class,
        source=flows.source,
        destination=flows.destination,
        edges=len(graph.edges),
    )
    return replace(
        result,
        seed=seed,
        run=run,
        wall_s=time.monotonic() - began,
        assumptions=_assumptions(graph, flows, result),
    )


def _window(graph: SimGraph, flows: Flows, packets: float) -> Window:
    """Long enough for that many packets; the warm-up covers 20 cycles of the slowest on-off class."""
    duration = packets / max(float(flows.rate.sum()), 1e-9)
    cycles = [
        each.on_s + each.off_s
        for c, each in enumerate(graph.classes)
        if each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF) and c in flows.traffic_class
    ]
    return Window(max([0.1 * duration, *(20 * cycle for cycle in cycles)]), duration)


def _trees(graph: SimGraph, *, ecmp: bool) -> Trees:
    from domain_twin.simulation.routing import all_trees, topology

    return all_trees(topology(graph), graph.metric, graph.up, ecmp=ecmp)


def _offered(graph: SimGraph, flows: Flows, trees: Trees | None) -> tuple[FloatArray, FloatArray]:
    """Packets/s offered to each edge were none lost [E], and the mean time each spends on one [E]."""
    octets = np.array([each.mean_octets for each in graph.classes])
    packets, bits = np.zeros(len(graph.edges)), np.zeros(len(graph.edges))
    if flows.paths is not None:
        for i, path in enumerate(flows.paths):
            np.add.at(packets, list(path), flows.rate[i])
            np.add.at(bits, list(path), flows.rate[i] * octets[flows.traffic_class[i]] * 8)
    elif trees is not None:
        for d in np.unique(flows.destination):
            mine = flows.destination == d
            at = np.zeros((2, len(graph.nodes)))
            np.add.at(at[0], flows.source[mine], flows.rate[mine])
            np.add.at(at[1], flows.source[mine], flows.rate[mine] * octets[flows.traffic_class[mine]] * 8)
            edges = trees.edge[d, : trees.count[d]]
            ways = np.bincount(graph.tail[edges], minlength=len(graph.nodes))
            for e in edges[::-1]:  # farthest first
                share = at[:, graph.tail[e]] / ways[graph.tail[e]]
                packets[e] += share[0]
                bits[e] += share[1]
                if graph.head[e] != d:
                    at[:, graph.head[e]] += share
    capacity = np.where(graph.capacity_bps > 0, graph.capacity_bps, np.inf)
    by_rate = np.divide(bits, packets, out=np.zeros_like(bits), where=packets > 0) / capacity
    return packets, np.where(graph.law == Law.STATION, graph.service_s, by_rate)


def _assumptions(graph: SimGraph, flows: Flows, result: PacketRun) -> tuple[str, ...]:
    said = []
    laws = set(graph.law[result.edge_offered > 0].tolist())
    if Law.CELL in laws:
        said.append("Cells are processor sharing servers on ns-3's scheduler, not its radio models.")
    if Law.STATION in laws:
        said.append("Functions and hosts are queues with gamma service times on ns-3's scheduler.")
    if result.late:
        said.append(f"{result.late} packets were still under way at the end and count as lost.")
    few = int((result.received < 100).sum())
    if few:
        said.append(
            f"{few} of {len(flows.source)} flows had fewer than 100 packets: read their standard errors."
        )
    return tuple(said)


async def _run(program: Path, text: str, *, limit_s: float, progress: Progress | None) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
            group.create_task(_feed(process.stdin, text))
            table = group.create_task(process.stdout.read())
            group.create_task(_listen(process.stderr, said, progress))
        status = await process.wait()
    except TimeoutError as error:
        raise OverCapacity(
            f"ns-3 did not end within {limit_s:g} s; ask for fewer packets or a shorter time, or allow more"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        why = said[-1] if said else f"signal {-status}" if status < 0 else f"status {status}"
        raise OperationRejected(f"the ns-3 runner ended with: {why}")
    return table.result().decode()


async def _feed(pipe: asyncio.StreamWriter, text: str) -> None:
    try:
        pipe.write(text.encode())
        await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended early, and says why on stderr
    finally:
        pipe.close()


async def _listen(pipe: asyncio.StreamReader, said: list[str], progress: Progress | None) -> None:
    async for line in pipe:
        word, _, rest = line.decode(errors="replace").strip().partition(" ")
        if word == "progress":
            if progress:
                progress(int(rest) / 100)
        else:
            said.append(f"{word} {rest}".strip())
            del said[:-20]
