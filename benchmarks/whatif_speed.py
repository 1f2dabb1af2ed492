"""How fast a what-if is answered: beside ns-3, beside a NetworkX loop, in a sweep, and alone. Prints JSON.

- networkx: a cut of one link in GEANT and in a network of 200 nodes, all pairs: delay, variance, loss. The
  loop takes paths from NetworkX (all_pairs_dijkstra_path) and adds up along them until losses settle; the
  queues are the engine's own. Both say the same figures (checked) for the same cuts, on one thread each.
- sweep: all single links of the 200 nodes cut, all pairs, on all cores; best of three.
- alone: one warm question after the other (cuts, capacities, metrics, demand), all pairs kept; milliseconds.
- ns3: --packets packets pushed through NSFNET beside a variant of a sweep of it, each on one thread;
  `delay_standard_error` is what those packets leave open. Left out, and said, where ns-3 is not installed.

Topologies are topohub's, metrics their lengths; capacities and demand come from --seed. Demand is such that
the busiest link is at 0.8 before anything is cut; cuts overload some.

    python -m benchmarks.whatif_speed [--quick] [--seed 1] [--packets 3000000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import topohub

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import Demand, FloatArray, SimGraph, TrafficClass, Variant
from domain_twin.simulation.laws.edges import evaluate
from domain_twin.simulation.solve import Engine, Solution
from domain_twin.simulation.warm import warm

AIMS = {"networkx_ratio": 100.0, "ns3_ratio": 50_000.0, "sweep_s": 5.0, "alone_p95_ms": 20.0}
KIND = TrafficClass("data", (300.0, 1416.0), (0.5, 0.5))
BUSIEST = 0.8


def network(name: str, rng: np.random.Generator) -> tuple[SimGraph, Demand]:
    """A topology with links of 10, 25 and 40 Mbit/s and queues of 32 packets; all pairs send."""
    found = topohub.get(name)
    place = {node["id"]: index for index, node in enumerate(found["nodes"])}
    lengths = {
        tuple(sorted((place[link["source"]], place[link["target"]]))): link["dist"] for link in found["edges"]
    }
    ends = np.array([edge for a, b in sorted(lengths) for edge in ((a, b), (b, a))], np.int32)
    km = np.repeat([max(lengths[pair], 1.0) for pair in sorted(lengths)], 2)
    count, nodes = len(ends), len(place)
    graph = SimGraph(
        nodes=tuple(f"n{i}" for i in range(nodes)),
        edges=tuple(f"l{i:05d}" for i in range(count)),
        classes=(KIND,),
        tail=np.ascontiguousarray(ends[:, 0]),
        head=np.ascontiguousarray(ends[:, 1]),
        law=np.zeros(count, np.int8),
        scheduler=np.zeros(count, np.int8),
        up=np.ones(count, np.bool_),
        metric=km,
        capacity_bps=np.repeat(rng.choice([10e6, 25e6, 40e6], count // 2), 2),
        fixed_s=km * 5e-6,
        buffer=np.full(count, 32.0),
        servers=np.ones(count, np.int32),
        service_s=np.zeros(count),
        service_scv=np.zeros(count),
        loss=np.zeros(count),
        transit=np.ones(nodes, np.bool_),
    )
    rate = rng.uniform(0.1, 1.0, (1, nodes, nodes)) * (1.0 - np.eye(nodes))
    busiest = Engine(graph, Demand(rate * 1e-3)).solve().intensity.max() * 1e3
    return graph, Demand(rate * BUSIEST / busiest)


def cuts(graph: SimGraph) -> list[Variant]:
    """Every link cut, both directions at once."""
    return [Variant(f"cut {i}", down=frozenset({i, i + 1})) for i in range(0, len(graph.edges), 2)]


def cpu(work: Any) -> tuple[float, Any]:
    """CPU seconds of this process that `work` took, and what it gave."""
    before = time.process_time()
    result = work()
    return time.process_time() - before, result


# ------------------------------------------------------------------------------------------------ networkx


def loop(graph: SimGraph, demand: Demand, engine: Engine, cut: Variant) -> tuple[FloatArray, ...]:
    """Delay, variance and loss of all pairs [destination, source] by a loop over NetworkX's paths."""
    net: Any = nx.DiGraph()
    net.add_nodes_from(range(len(graph.nodes)))
    edge_of = {}
    for edge in range(len(graph.edges)):
        if edge not in cut.down:
            ends = (int(graph.tail[edge]), int(graph.head[edge]))
            net.add_edge(*ends, weight=float(graph.metric[edge]))
            edge_of[ends] = edge
    paths = {}
    for source, ways in nx.all_pairs_dijkstra_path(net):
        for target, way in ways.items():
            if target != source:
                paths[source, target] = [edge_of[ends] for ends in pairwise(way)]
    rate, laws = demand.rate[0], engine.state().laws
    count = len(graph.edges)
    delay, variance, new_loss = np.zeros((count, 1)), np.zeros((count, 1)), np.zeros((count, 1))
    loss = [0.0] * count
    while True:
        load = [0.0] * count
        for (source, target), way in paths.items():
            flow = rate[target, source]
            for edge in way:
                load[edge] += flow
                flow *= 1.0 - loss[edge]
        for edge in range(count):
            offered = np.array([load[edge]])
            evaluate(laws, edge, offered, offered, delay[edge], variance[edge], new_loss[edge])
        before, loss = loss, new_loss[:, 0].tolist()
        if max(abs(a - b) for a, b in zip(before, loss, strict=True)) <= engine.tolerance:
            break
    figures = tuple(np.full(rate.shape, np.nan) for _ in range(3))
    waits, spreads = delay[:, 0].tolist(), variance[:, 0].tolist()
    service = laws.service_s[:, 0].tolist()
    for (source, target), way in paths.items():
        whole, spread, kept, own = 0.0, 0.0, 1.0, 0.0
        for edge in way:
            whole += waits[edge]
            spread += spreads[edge]
            kept *= 1.0 - loss[edge]
            own += service[edge]
        figures[0][target, source] = whole
        figures[1][target, source] = spread + KIND.size_scv * own * own
        figures[2][target, source] = 1.0 - kept
    return figures


def beside_networkx(name: str, rng: np.random.Generator, count: int) -> dict[str, Any]:
    graph, demand = network(name, rng)
    engine = Engine(graph, demand)
    all_cuts = cuts(graph)
    chosen = [all_cuts[i] for i in rng.choice(len(all_cuts), min(count, len(all_cuts)), replace=False)]
    ours_s, ours = cpu(lambda: [engine.solve(cut) for cut in chosen])
    ours_s = min(ours_s, *(cpu(lambda: [engine.solve(cut) for cut in chosen])[0] for _ in range(4)))
    theirs_s, theirs = cpu(lambda: [loop(graph, demand, engine, cut) for cut in chosen])
    return {
        "nodes": len(graph.nodes),
        "links": len(graph.edges) // 2,
        "cuts": len(chosen),
        "engine_ms": ours_s / len(chosen) * 1e3,
        "networkx_ms": theirs_s / len(chosen) * 1e3,
        "ratio": theirs_s / ours_s,
        "largest_difference": max(map(difference, ours, theirs)),
    }


def difference(ours: Solution, theirs: tuple[FloatArray, ...]) -> float:
    """The largest difference of delay and variance, relative, and of loss, absolute; off the diagonal."""
    off = ~np.eye(len(theirs[0]), dtype=bool)
    found = (ours.delay_s[0], ours.variance_s2[0], ours.loss[0])
    if any((np.isnan(a) != np.isnan(b))[off].any() for a, b in zip(found, theirs, strict=True)):
        raise SystemExit("the engine and the loop find ways between different pairs")
    parts = [np.abs(a / b - 1.0)[off] for a, b in zip(found[:2], theirs[:2], strict=True)]
    return float(max(np.nanmax(part) for part in (*parts, np.abs(found[2] - theirs[2])[off])))


# ------------------------------------------------------------------------------------------- sweep and alone


def swept(engine: Engine, variants: list[Variant], workers: int | None) -> dict[str, Any]:
    """Wall seconds of a sweep with one pair in full, and what it found."""
    before = time.perf_counter()
    digests = list(engine.sweep(variants, pairs=[(0, 1)], workers=workers))
    return {
        "wall_s": time.perf_counter() - before,
        "settled": all(digest.converged for digest in digests),
        "passes": statistics.fmean(digest.iterations for digest in digests),
        "lossy": sum(bool(digest.worst_loss.max() > 1e-3) for digest in digests),
    }


def sweep(name: str, rng: np.random.Generator, rounds: int) -> dict[str, Any]:
    graph, demand = network(name, rng)
    engine = Engine(graph, demand)
    variants = cuts(graph)
    runs = [swept(engine, variants, None) for _ in range(rounds)]
    best = min(runs, key=lambda run: float(run["wall_s"]))
    one = swept(engine, variants, 1)
    return {
        "nodes": len(graph.nodes),
        "variants": len(variants),
        "cores": os.cpu_count(),
        **best,
        "one_thread_s": one["wall_s"],
        "load_average": os.getloadavg()[0],
    }


def questions(graph: SimGraph, rng: np.random.Generator) -> Iterator[Variant]:
    """Cuts, capacities, metrics and demand in turn."""
    count, nodes = len(graph.edges), len(graph.nodes)
    while True:
        edge = int(rng.integers(count)) & ~1
        yield Variant(down=frozenset({edge, edge + 1}))
        yield Variant(values={"capacity_bps": {edge: 20e6, edge + 1: 20e6}})
        yield Variant(values={"metric": {edge: 1.0 + 300.0 * float(rng.random())}})
        yield Variant(demand_scale=float(rng.uniform(0.8, 1.2)), pairs=((0, edge % nodes, nodes - 1, 30.0),))


def alone(name: str, rng: np.random.Generator, count: int) -> dict[str, Any]:
    graph, demand = network(name, rng)
    engine = Engine(graph, demand)
    asked = questions(graph, rng)
    for _ in range(8):
        engine.solve(next(asked))
    taken = []
    for _ in range(count):
        variant = next(asked)
        before = time.perf_counter()
        engine.solve(variant)
        taken.append((time.perf_counter() - before) * 1e3)
    return {
        "nodes": len(graph.nodes),
        "questions": count,
        "p50_ms": float(np.quantile(taken, 0.5)),
        "p95_ms": float(np.quantile(taken, 0.95)),
        "load_average": os.getloadavg()[0],
    }


# ----------------------------------------------------------------------------------------------------- ns-3


def beside_ns3(rng: np.random.Generator, packets: float) -> dict[str, Any]:
    from domain_twin.simulation.outside.ns3 import runner, simulate

    graph, demand = network("topozoo/Nsfnet", rng)
    engine = Engine(graph, demand)
    variants = cuts(graph) * 50
    ours = min((swept(engine, variants, 1) for _ in range(3)), key=lambda run: float(run["wall_s"]))
    try:
        program = runner()
    except ConfigError as error:
        return {"measured": False, "reason": str(error)}
    run = asyncio.run(simulate(graph, demand, seed=1, packets=packets, program=program))
    predicted = engine.solve().delay_s[0, run.target, run.source]
    each_s = ours["wall_s"] / len(variants)
    return {
        "measured": True,
        "nodes": len(graph.nodes),
        "packets": packets,
        "packet_hops": run.packet_hops,
        "ns3_s": run.wall_s,
        "engine_ms": each_s * 1e3,
        "ratio": run.wall_s / each_s,
        "delay_mape": float(np.mean(np.abs(predicted / run.delay_s - 1.0)) * 100.0),
        "delay_standard_error": float(np.mean(run.delay_error_s / run.delay_s) * 100.0),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(options.seed)
    warm()
    quick = options.quick
    report: dict[str, Any] = {
        "seed": options.seed,
        "aims": AIMS,
        "networkx": {
            "geant": beside_networkx("sndlib/geant", rng, 5 if quick else 20),
            "gabriel-200": beside_networkx("gabriel/200/0", rng, 1 if quick else 5),
        },
        "sweep": sweep("gabriel/200/0", rng, 1 if quick else 3),
        "alone": alone("gabriel/200/0", rng, 100 if quick else 1000),
        "ns3": beside_ns3(rng, options.packets or (300_000 if quick else 3_000_000)),
    }
    report["met"] = {
        "networkx_ratio": all(row["ratio"] >= AIMS["networkx_ratio"] for row in report["networkx"].values()),
        "sweep_s": report["sweep"]["wall_s"] <= AIMS["sweep_s"] and report["sweep"]["settled"],
        "alone_p95_ms": report["alone"]["p95_ms"] <= AIMS["alone_p95_ms"],
        "ns3_ratio": report["ns3"]["ratio"] >= AIMS["ns3_ratio"] if report["ns3"]["measured"] else None,
    }
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer cuts and questions, a tenth of the packets"
    )
    parser.add_argument("--seed", type=int, default=1, help="of capacities, demand and which links are cut")
    parser.add_argument("--packets", type=float, help="packets for ns-3")
    report = measure(parser.parse_args())
    print(json.dumps(report, indent=2, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
