"""The engine's figures beside fresh ns-3 runs: topologies and seeds that nothing was fitted on. Prints JSON.

Topologies are SNDlib's (by topohub) and a random graph of the seed; links of 5, 10 and 20 Mbit/s, 0.1 ms, a
queue of 32 packets, two packet sizes; all pairs send. Poisson traffic at a busiest link of 0.3 to 0.9, and
on-off traffic (50 ms on, 50 ms off; packets of an on period by chance, or equally spaced). Errors are means
over flows, in percent of what ns-3 says; loss is a mean absolute difference. The residual is fitted (least
absolute misses) on other random graphs, by other runs of ns-3, for Poisson traffic. `noise_mape` is what
a perfect answer would show: the mean error that ns-3's own standard errors make. `second_run_mape` says the
same by two runs of ns-3 of one case: their difference over the root of 2.

A seed is drawn and printed unless --seed is given. --keep FOLDER holds ns-3's results by what was asked, so
that another run of the same seed takes them from there. Exit status 2: ns-3 is not installed.

    python -m benchmarks.ns3 [--quick] [--seed N] [--packets 3000000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import solve_flows
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, SimGraph, TrafficClass
from domain_twin.simulation.outside.ns3 import QUANTILES, PacketRun, runner, simulate
from domain_twin.simulation.routed import routed

TOPOLOGIES = ("sndlib/abilene", "sndlib/nobel-germany", "random-14")
POISSON_LOADS = (0.3, 0.5, 0.7, 0.8, 0.9)
BURST_LOADS = (0.5, 0.7, 0.9)
BURSTS = (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
PERIOD_S = 0.05
SIZES = ((250.0, 1416.0), (0.5, 0.5))
CAPACITIES_BPS = (5e6, 10e6, 20e6)
PROPAGATION_S = 1e-4
BUFFER = 32.0
AIMS = {"poisson_raw": 3.0, "poisson_residual": 2.0, "on_off": 6.0}
BUSY = 0.6  # utilisation of the busiest link on a path, from which `delay_mape_busy` counts
NORMAL = math.sqrt(2 / math.pi)  # mean of |x| of a standard normal x


@dataclass(frozen=True)
class Case:
    """One network at one load."""

    topology: str
    arrivals: Arrivals
    load: float
    seed: int
    graph: SimGraph
    demand: Demand

    @property
    def name(self) -> str:
        return f"{self.topology} {self.arrivals.value} {self.load}"


def links_of(topology: str, rng: np.random.Generator) -> tuple[int, list[tuple[int, int]]]:
    """Nodes and undirected links; `random-N`: a ring with chords, from the seed."""
    if topology.startswith("random-"):
        count = int(topology.removeprefix("random-"))
        order = rng.permutation(count)
        links = {tuple(sorted((int(order[i - 1]), int(order[i])))) for i in range(count)}
        while len(links) < 1.5 * count:
            a, b = sorted(rng.choice(count, 2, replace=False).tolist())
            links.add((a, b))
        return count, sorted(links)
    import topohub

    data = topohub.get(topology)
    place = {node["id"]: i for i, node in enumerate(data["nodes"])}
    ends = {tuple(sorted((place[e["source"]], place[e["target"]]))) for e in data["edges"]}
    return len(place), sorted(ends)


def case_of(topology: str, arrivals: Arrivals, load: float, seed: int) -> Case:
    """A network whose busiest link is offered `load` of its capacity."""
    from domain_twin.simulation.routing import all_trees
    from domain_twin.simulation.routing import topology as indexed

    rng = np.random.default_rng([seed, *topology.encode()])
    count, links = links_of(topology, rng)
    edges = [*links, *((b, a) for a, b in links)]
    size = len(edges)
    capacity = np.tile(rng.choice(CAPACITIES_BPS, len(links)), 2)
    on = PERIOD_S if arrivals in BURSTS else 0.0
    traffic = TrafficClass("all", *SIZES, arrivals=arrivals, on_s=on, off_s=on)
    graph = SimGraph(
        tuple(f"n{i}" for i in range(count)),
        tuple(f"n{a}-n{b}" for a, b in edges),
        (traffic,),
        np.array([a for a, _ in edges], np.int32),
        np.array([b for _, b in edges], np.int32),
        np.zeros(size, np.int8),
        np.zeros(size, np.int8),
        np.ones(size, np.bool_),
        np.tile(1 + rng.random(len(links)), 2),
        capacity,
        np.full(size, PROPAGATION_S),
        np.full(size, BUFFER),
        np.zeros(size, np.int32),
        np.zeros(size),
        np.zeros(size),
        np.zeros(size),
        np.ones(count, np.bool_),
    )  # fmt: skip
    rate = rng.uniform(0.1, 1, (1, count, count))
    rate[0][np.diag_indices(count)] = 0
    trees = all_trees(indexed(graph), graph.metric, graph.up, ecmp=False)
    bits = np.zeros(size)
    for d in range(count):
        at = rate[0, d].copy()
        for e in trees.edge[d, : trees.count[d]][::-1]:
            bits[e] += at[graph.tail[e]] * traffic.mean_octets * 8
            at[graph.head[e]] += at[graph.tail[e]]
    return Case(topology, arrivals, load, seed, graph, Demand(rate * load / (bits / capacity).max()))


def cases(seed: int, *, quick: bool) -> Iterator[Case]:
    """What is measured."""
    for topology in TOPOLOGIES:
        for load in POISSON_LOADS[2::2] if quick else POISSON_LOADS:
            yield case_of(topology, Arrivals.POISSON, load, seed)
        for arrivals in BURSTS:
            for load in BURST_LOADS[1:2] if quick else BURST_LOADS:
                yield case_of(topology, arrivals, load, seed)


def training_cases(seed: int, *, quick: bool) -> Iterator[Case]:
    """What the residual is fitted on: other random graphs, other seeds, Poisson."""
    for i, size in enumerate((11, 16) if quick else (11, 13, 16, 18)):
        for load in (0.6, 0.85) if quick else (0.4, 0.6, 0.75, 0.85, 0.95):
            yield case_of(f"random-{size}", Arrivals.POISSON, load, seed + 1_000_003 * (i + 1))


async def packets_of(case: Case, program: Path, *, packets: float, run: int, keep: Path | None) -> PacketRun:
    """What ns-3 says of a case, or said before."""
    asked = (case.name, case.seed, packets, run, case.demand.rate.tobytes().hex(), program.name)
    file = keep and keep / f"{hashlib.sha256(repr(asked).encode()).hexdigest()[:24]}.npz"
    if file and file.exists():
        with np.load(file) as kept:
            return PacketRun(**{name: _plain(kept[name]) for name in kept.files})
    found = await simulate(
        case.graph, case.demand, seed=case.seed, run=run, packets=packets, program=program, limit_s=3600
    )
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {each.name: np.asarray(getattr(found, each.name)) for each in fields(PacketRun)}
        np.savez(file, **values)
    return found


def _plain(array: np.ndarray) -> Any:
    return array if array.ndim else array.item()


async def all_packets(
    wanted: list[tuple[Case, int]], program: Path, *, packets: float, keep: Path | None
) -> list[PacketRun]:
    """All runs, as many at once as there are cores."""
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(number: int, case: Case, run: int) -> PacketRun:
        async with cores:
            found = await packets_of(case, program, packets=packets, run=run, keep=keep)
        print(f"{number + 1}/{len(wanted)} {case.name}: {found.wall_s:.0f} s", file=sys.stderr, flush=True)
        return found

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(i, case, run)) for i, (case, run) in enumerate(wanted)]
    return [task.result() for task in tasks]


def mape(found: FloatArray, true: FloatArray) -> float:
    """Mean absolute error in percent of what is true."""
    return float(np.mean(np.abs(found - true) / true)) * 100


def learned(training: list[tuple[Case, PacketRun]]) -> Any:
    """The residual of these cases."""
    from domain_twin.simulation.laws.edges import compile_laws
    from domain_twin.simulation.learned.residual import evidence_of, fit_robust

    evidence = []
    for case, seen in training:
        flows = routed(case.graph, case.demand)
        solution = solve_flows(case.graph, flows, compile_laws(case.graph))
        evidence.append(evidence_of(case.graph, flows, solution, seen.delay_s, seen.variance_s2))
    return fit_robust(evidence)


def corrected(case: Case, seen: PacketRun, residual: Any) -> dict[str, float]:
    """What the residual makes of it."""
    from domain_twin.simulation.laws.edges import compile_laws
    from domain_twin.simulation.learned.residual import correct

    flows = routed(case.graph, case.demand)
    solution = solve_flows(case.graph, flows, compile_laws(case.graph))
    found = correct(residual, case.graph, flows, solution)
    return {
        "delay_mape_residual": mape(found.delay_s, seen.delay_s),
        "delay_variance_mape_residual": mape(found.variance_s2, seen.variance_s2),
        "queues_outside": float(found.outside),
    }


def compared(case: Case, seen: PacketRun) -> dict[str, float]:
    """The engine's answer beside ns-3's, for one case."""
    from domain_twin.simulation.percentiles import LEVELS, percentiles
    from domain_twin.simulation.solve import Engine

    engine = Engine(case.graph, case.demand)
    engine.solve()
    began = time.perf_counter()
    solution = engine.solve()
    took = time.perf_counter() - began
    at = (seen.traffic_class, seen.target, seen.source)
    tail = percentiles(
        solution.delay_s[at],
        solution.variance_s2[at],
        solution.fixed_s[at],
        size_s=solution.size_s[at],
        traffic_class=case.graph.classes[0],
    )
    busiest = np.array(
        [
            solution.utilisation[list(solution.path(s, d))].max()
            for s, d in zip(seen.source, seen.target, strict=True)
        ]
    )
    error = np.abs(solution.delay_s[at] - seen.delay_s) / seen.delay_s * 100
    figures = {
        "flows": float(len(seen.source)),
        "delay_mape": mape(solution.delay_s[at], seen.delay_s),
        "busy_flows": float((busiest >= BUSY).sum()),
        "delay_mape_busy": float(error[busiest >= BUSY].mean()) if (busiest >= BUSY).any() else math.nan,
        "delay_variance_mape": mape(solution.variance_s2[at], seen.variance_s2),
        "loss_mae": float(np.mean(np.abs(solution.loss[at] - seen.loss))),
        "loss": float(np.mean(seen.loss)),
        "noise_mape": float(np.mean(NORMAL * seen.delay_error_s / seen.delay_s)) * 100,
        "variance_noise_mape": float(np.mean(NORMAL * seen.variance_error_s2 / seen.variance_s2)) * 100,
        "utilisation_mae": float(np.mean(np.abs(solution.utilisation - seen.edge_utilisation))),
        "ratio_of_time": seen.wall_s / took,
    }
    for level, row in zip(LEVELS, tail, strict=True):
        figures[f"p{level * 100:.0f}_mape"] = mape(row, seen.percentile_s[:, QUANTILES.index(level)])
    return figures


def pooled(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over all flows of several cases."""
    flows, busy = (np.array([row[name] for row in rows]) for name in ("flows", "busy_flows"))
    names = [name for name in rows[0] if "flows" not in name and all(name in row for row in rows)]
    means = {
        name: weighted(np.array([row[name] for row in rows]), busy if name.endswith("_busy") else flows)
        for name in names
    }
    return {"flows": float(flows.sum()), "busy_flows": float(busy.sum()), **means}


def weighted(values: FloatArray, weights: FloatArray) -> float:
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


async def measure(options: argparse.Namespace, program: Path) -> dict[str, Any]:
    """All runs, then all comparisons."""
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    measured = list(cases(seed, quick=options.quick))
    packets = options.packets if options.packets else 300_000 if options.quick else 3_000_000
    training = list(training_cases(seed, quick=options.quick))
    wanted = [(case, 0) for case in measured] + [(measured[0], 1)]
    runs = await all_packets(wanted, program, packets=packets, keep=options.keep)
    taught = await all_packets(
        [(case, 0) for case in training], program, packets=packets / 2, keep=options.keep
    )
    residual = learned(list(zip(training, taught, strict=True)))
    rows = {case.name: compared(case, run) for case, run in zip(measured, runs[:-1], strict=True)}
    for case, run in zip(measured, runs[:-1], strict=True):
        if case.arrivals is Arrivals.POISSON:
            rows[case.name] |= corrected(case, run, residual)
    groups = {
        "poisson": pooled([row for name, row in rows.items() if f" {Arrivals.POISSON.value} " in name]),
        "on_off": pooled([row for name, row in rows.items() if f" {Arrivals.POISSON.value} " not in name]),
    }
    first, second = runs[0], runs[-1]
    return rounded(
        {
            "seed": seed,
            "packets_a_run": packets,
            "aims": AIMS,
            "poisson": groups["poisson"],
            "on_off": groups["on_off"],
            "second_run_mape": mape(second.delay_s, first.delay_s) / math.sqrt(2),
            "residual": {"cases": len(training), "flows": residual.flows, "digest": residual.digest[:16]},
            "cases": rows,
            "met": {
                "poisson_raw": groups["poisson"]["delay_mape"] <= AIMS["poisson_raw"],
                "poisson_residual": groups["poisson"]["delay_mape_residual"] <= AIMS["poisson_residual"],
                "on_off": groups["on_off"]["delay_mape"] <= AIMS["on_off"],
            },
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer loads, a tenth of the packets")
    parser.add_argument("--seed", type=int, help="of topologies, demand and packets; drawn if not given")
    parser.add_argument("--packets", type=float, help="packets a run")
    parser.add_argument("--keep", type=Path, help="folder for what ns-3 said, to take it from there again")
    options = parser.parse_args()
    try:
        program = runner()
    except ConfigError as error:
        print(f"NOT MEASURED: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asyncio.run(measure(options, program)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
