"""Run a network packet by packet in ns-3: another process, with a time limit. Owns no queueing maths.

The process is killed when the limit is reached or the asker gives up (the task is cancelled).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domain_twin.errors import OperationRejected, OverCapacity
from domain_twin.simulation.checks import check_demand, check_graph
from domain_twin.simulation.flows import Flows, check_flows
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, Law, SimGraph
from domain_twin.simulation.outside.ns3.build import runner
from domain_twin.simulation.outside.ns3.result import PacketRun, parse
from domain_twin.simulation.outside.ns3.scenario import Window, flows_of, refuse_overload, write

if TYPE_CHECKING:
    from domain_twin.simulation.routing import Trees

__all__ = ["simulate"]

Progress = Callable[[float], None]

_ON_OFF = (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
_FEW = 100


async def simulate(
    graph: SimGraph,
    traffic: Demand | Flows,
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

    Without a `window` as long as it takes for `packets` packets of all flows together. `Flows` take their
    paths, a `Demand` the shortest ones as `routing` finds them (`ecmp`: each packet one of the equal next
    hops, by chance). The same seed and run give the same figures, and a flow sends the same packets whatever
    else is changed. `progress` hears shares from 0 to 1. Raises ConfigError (no ns-3, no compiler, bad
    arrays), NoPath, OperationRejected, OverCapacity (an unbounded queue overflows; `limit_s` is over).
    """
    check_graph(graph)
    if isinstance(traffic, Demand):
        check_demand(graph, traffic)
        flows, trees = flows_of(traffic), _trees(graph, ecmp=ecmp)
    else:
        check_flows(graph, traffic)
        flows, trees = traffic, None
    window = window or _window(graph, flows, packets)
    text = write(graph, flows, trees=trees, window=window, seed=seed, run=run)
    refuse_overload(graph, *_offered(graph, flows, trees))
    chosen = program if program is not None else await asyncio.to_thread(runner)
    began = time.monotonic()
    table = await _run(chosen, text, limit_s=limit_s, progress=progress)
    result = parse(
        table,
        traffic_class=flows.traffic_class,
        source=flows.source,
        target=flows.target,
        edges=len(graph.edges),
    )
    return replace(
        result,
        seed=seed,
        run=run,
        wall_s=time.monotonic() - began,
        assumptions=_assumptions(graph, result),
    )


def _window(graph: SimGraph, flows: Flows, packets: float) -> Window:
    """Long enough for that many packets; the warm-up covers 20 cycles of the slowest on-off class."""
    duration = packets / max(float(flows.rate_pps.sum()), 1e-9)
    cycles = [
        20 * (each.on_s + each.off_s)
        for c, each in enumerate(graph.classes)
        if each.arrivals in _ON_OFF and c in flows.traffic_class
    ]
    return Window(max([0.1 * duration, *cycles]), duration)


def _trees(graph: SimGraph, *, ecmp: bool) -> Trees:
    from domain_twin.simulation.routing import all_trees, topology

    metric = np.ascontiguousarray(graph.metric, np.float64)
    up = np.ascontiguousarray(graph.up, np.bool_)
    return all_trees(topology(graph), metric, up, ecmp=ecmp)


def _offered(graph: SimGraph, flows: Flows, trees: Trees | None) -> tuple[FloatArray, FloatArray]:
    """Packets/s offered to each edge were none lost [E], and the mean time each spends on one [E]."""
    octets = np.array([each.mean_octets for each in graph.classes])
    each_flow = np.stack([flows.rate_pps, flows.rate_pps * octets[flows.traffic_class] * 8])
    packets, bits = offered = np.zeros((2, len(graph.edges)))
    if trees is None:
        owner = np.repeat(np.arange(flows.count), np.diff(flows.offsets))
        for sums, share in zip(offered, each_flow, strict=True):
            np.add.at(sums, flows.edges, share[owner])
    else:
        for d in np.unique(flows.target):
            mine = flows.target == d
            at = np.zeros((2, len(graph.nodes)))
            for sums, share in zip(at, each_flow, strict=True):
                np.add.at(sums, flows.source[mine], share[mine])
            edges = trees.edge[d, : trees.count[d]]
            ways = np.bincount(graph.tail[edges], minlength=len(graph.nodes))
            for e in edges[::-1]:  # farthest first
                moved = at[:, graph.tail[e]] / ways[graph.tail[e]]
                offered[:, e] += moved
                at[:, graph.head[e]] += moved
    capacity = np.where(graph.capacity_bps > 0, graph.capacity_bps, np.inf)
    by_rate = np.divide(bits, packets, out=np.zeros_like(bits), where=packets > 0) / capacity
    return packets, np.where(graph.law == Law.STATION, graph.service_s, by_rate)


def _assumptions(graph: SimGraph, result: PacketRun) -> tuple[str, ...]:
    said = []
    laws = set(graph.law[result.edge_offered > 0].tolist())
    if Law.CELL in laws:
        said.append("Cells are processor sharing servers on ns-3's scheduler, not its radio models.")
    if Law.STATION in laws:
        said.append("Functions and hosts are queues with gamma service times on ns-3's scheduler.")
    if result.late:
        said.append(f"{result.late} packets were still under way at the end and count as lost.")
    few = int((result.received < _FEW).sum())
    if few:
        whole = len(result.received)
        said.append(f"{few} of {whole} flows have fewer than {_FEW} packets: mind their standard errors.")
    return tuple(said)


async def _run(program: Path, text: str, *, limit_s: float, progress: Progress | None) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, stdin=pipe, stdout=pipe, stderr=pipe)
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
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended early: stderr says why
        pipe.write(text.encode())
        await pipe.drain()
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
