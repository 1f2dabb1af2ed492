"""Questions about a network in a file: which rung answers, and what is told. Computes nothing itself.

A network with routing (JSON, MATLAB) may be asked anything, one with given paths (BNN-UPC) what flows get.
With a scenario the answer is a report, by packets as well as by queueing.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.job import Figure, FlowFigures, FlowForecast, Report
from domain_twin.model.job_json import sealed
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import Version
from domain_twin.simulation.applied import applied
from domain_twin.simulation.flows import Flows
from domain_twin.simulation.graph import Demand, Rung, SimGraph
from domain_twin.simulation.outside.bnn_upc import Sample, read_samples
from domain_twin.simulation.outside.files import FileNetwork, read_network, write_network
from domain_twin.simulation.outside.flow_rows import (
    EdgeRow,
    FlowRow,
    of_packets,
    of_paths,
    of_solution,
    packet_edges,
    solution_edges,
)

__all__ = ["Answer", "Input", "Options", "answered", "load"]

Progress = Callable[[float, str], None]

_NORMAL_90 = 1.6449  # half-width of a normal distribution's 90 % interval, in standard errors
_TABLES_ONLY = "figures have no intervals"


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """What a file holds: a network with demand, or one with flows on given paths."""

    name: str
    network: FileNetwork | None = None
    sample: Sample | None = None
    file: str = "file"  # its name, where a report wants a domain's

    @property
    def graph(self) -> SimGraph:
        """The network as arrays."""
        return self.network.graph if self.network else _sampled(self).graph

    @property
    def traffic(self) -> Demand | Flows:
        """What is offered to it."""
        return self.network.demand if self.network else _sampled(self).flows

    def as_network(self) -> FileNetwork:
        """The network with its demand; given paths are lost."""
        if self.network is not None:
            return self.network
        sample = _sampled(self)
        graph, flows = sample.graph, sample.flows
        rate = np.zeros((len(graph.classes), len(graph.nodes), len(graph.nodes)))
        np.add.at(rate, (flows.traffic_class, flows.target, flows.source), flows.rate_pps)
        return FileNetwork(
            self.name,
            graph,
            Demand(rate),
            {edge: (e,) for e, edge in enumerate(graph.edges)},
            {node: n for n, node in enumerate(graph.nodes)},
            ("the paths of the flows are not in this file",),
        )

    def export(self, path: Path) -> tuple[Path, ...]:
        """Write it in the form that the name ends in; the files written. Raises ConfigError, NoPath."""
        if path.suffix == ".ned":
            from domain_twin.simulation.outside.omnet import export

            return export(self.graph, self.traffic, path)
        if path.suffix == ".mat":
            from domain_twin.simulation.outside.matlab import write_mat

            write_mat(path, self.as_network())
            return (path,)
        try:
            path.write_text(write_network(self.as_network()), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
        return (path,)


def _sampled(given: Input) -> Sample:
    if given.sample is None:
        raise ValueError(f"{given.name}: neither a network nor a sample")
    return given.sample


@dataclass(frozen=True, slots=True)
class Options:
    """How to answer."""

    rung: str = Rung.TABLES.value
    flows: tuple[tuple[str, str], ...] = ()  # source, target; empty: all
    seed: int | None = None
    packets: float = 1e6
    limit_s: float = 600.0
    residual: Path | None = None
    beside: tuple[Path, ...] = ()  # OMNeT++ results


@dataclass(frozen=True, slots=True)
class Answer:
    """What flows get, worst delay first; with a scenario, `report` instead."""

    name: str
    rung: str
    flows: tuple[FlowRow, ...] = ()
    edges: tuple[EdgeRow, ...] = ()
    notes: tuple[str, ...] = ()
    beside: tuple[FlowRow, ...] = ()  # what another simulator measured
    seed: int | None = None
    report: Report | None = None


def load(path: Path, *, sample: int = 1) -> Input:
    """Read a network file, a MATLAB file, or one sample of a BNN-UPC folder. Raises ConfigError, NotFound."""
    if path.is_dir():
        found = next(islice(read_samples(path), sample - 1, None), None)
        if found is None:
            raise NotFound(f"{path}: no sample {sample} in this folder; they are counted from 1")
        return Input(found.name, sample=found, file=_word(path.name))
    if path.suffix == ".mat":
        from domain_twin.simulation.outside.matlab import read_mat

        network = read_mat(path)
    elif path.suffix == ".json":
        network = read_network(path)
    else:
        raise ConfigError(
            f"{path}: a network file (.json), a MATLAB file (.mat) or a BNN-UPC folder is expected"
        )
    return Input(network.name or path.stem, network=network, file=_word(path.stem))


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "file"


async def answered(
    given: Input, options: Options, *, scenario: Scenario | None = None, progress: Progress = lambda *_: None
) -> Answer:
    """Answer at the rung that is asked for. Raises ConfigError, NotFound, NoPath, OverCapacity."""
    rung = _rung(options.rung)
    if scenario is not None:
        return await _report(given, rung, options, scenario, progress)
    if rung is Rung.CAPACITY:
        return _by_capacity(given)
    if rung is Rung.PACKETS:
        found = await _by_packets(given, options, progress)
    else:
        found = await asyncio.to_thread(_by_queueing, given, rung, options)
    flows = sorted(_chosen(given, found.flows, options), key=_worst)
    seen = await asyncio.to_thread(_beside, given, options)
    return replace(found, flows=tuple(flows), beside=tuple(seen))


def _rung(word: str) -> Rung:
    try:
        return Rung(word)
    except ValueError:
        known = ", ".join(rung.value for rung in Rung)
        raise ConfigError(f"no such rung {word!r}; there are {known}") from None


def _worst(row: FlowRow) -> tuple[float, str, str, str]:
    delay = row.delay_ms if math.isfinite(row.delay_ms) else math.inf
    return -delay, row.source, row.target, row.traffic_class


def _chosen(given: Input, rows: Sequence[FlowRow], options: Options) -> list[FlowRow]:
    if not options.flows:
        return list(rows)
    for name in {end for pair in options.flows for end in pair}:
        if name not in given.graph.nodes:
            raise NotFound(f"{given.name}: no node {name!r} to report a flow of")
    kept = [row for row in rows if (row.source, row.target) in options.flows]
    for source, target in options.flows:
        if not any((row.source, row.target) == (source, target) for row in kept):
            raise NotFound(f"{given.name}: nothing is sent from {source!r} to {target!r}")
    return kept


def _by_capacity(given: Input) -> Answer:
    from domain_twin.simulation.capacity import assess

    network = _routed_network(given, "rung capacity")
    graph = network.graph
    found = assess(graph, network.demand)
    used = [e for e in np.argsort(-found.intensity, kind="stable").tolist() if found.intensity[e] > 0]
    notes = [f"all demand could be {found.headroom:.3g} times as much on the paths that are used"]
    if found.best_headroom is not None:
        notes.append(f"and {found.best_headroom:.3g} times as much if it were routed at best")
    notes += [
        f"no path from {graph.nodes[s]} to {graph.nodes[d]}, class {graph.classes[c].name}"
        for c, d, s in np.argwhere(found.unreachable).tolist()
    ]
    edges = tuple(EdgeRow(graph.edges[e], float(found.intensity[e]), 0.0) for e in used)
    return Answer(given.name, Rung.CAPACITY.value, edges=edges, notes=tuple(notes))


def _by_queueing(given: Input, rung: Rung, options: Options) -> Answer:
    if given.network is not None and rung is Rung.TABLES:
        from domain_twin.simulation.solve import Engine

        solution = Engine(given.graph, given.network.demand).solve()
        notes = () if solution.converged else ("losses did not settle: read the figures with care",)
        rows = of_solution(solution, given.network.demand)
        return Answer(given.name, rung.value, tuple(rows), tuple(solution_edges(solution)), notes)
    return _on_paths(given, rung, options)


def _on_paths(given: Input, rung: Rung, options: Options) -> Answer:
    from domain_twin.simulation.flows import solve_flows
    from domain_twin.simulation.laws.edges import compile_laws
    from domain_twin.simulation.routed import routed

    graph = given.graph
    flows = given.traffic if isinstance(given.traffic, Flows) else routed(graph, given.traffic)
    solution = solve_flows(graph, flows, compile_laws(graph))
    notes = [] if solution.converged else ["losses did not settle: read the figures with care"]
    rows = of_paths(graph, flows, solution)
    if rung is Rung.RESIDUAL:
        from domain_twin.simulation.learned.residual import Residual, correct

        if options.residual is None:
            raise ConfigError("rung residual needs a fitted correction: name its file with --residual")
        fixed = correct(Residual.load(options.residual), graph, flows, solution)
        rows = [
            replace(
                row,
                delay_ms=float(fixed.delay_s[i]) * 1e3,
                delay_variance_ms2=float(fixed.variance_s2[i]) * 1e6,
                p90_ms=math.nan,
                p95_ms=math.nan,
                p99_ms=math.nan,
            )
            for i, row in enumerate(rows)
        ]
        notes.append("percentiles are those of the tables, which the correction does not touch: left out")
        if fixed.outside:
            notes.append(f"{fixed.outside} queues are unlike those of the fit: not corrected")
    carried = solution.load_pps.sum(axis=1)
    lost = (solution.load_pps * solution.edge_loss).sum(axis=1) / np.maximum(carried, 1e-300)
    busy = solution.utilisation * (1 - lost)
    used = [e for e in np.argsort(-busy, kind="stable").tolist() if carried[e] > 0]
    edges = tuple(EdgeRow(graph.edges[e], float(busy[e]), float(lost[e])) for e in used)
    return Answer(given.name, rung.value, tuple(rows), edges, tuple(notes))


async def _by_packets(given: Input, options: Options, progress: Progress) -> Answer:
    from domain_twin.simulation.outside.ns3 import simulate

    seed = _seed(options)
    run = await simulate(
        given.graph,
        given.traffic,
        seed=seed,
        packets=options.packets,
        limit_s=options.limit_s,
        progress=lambda share: progress(share, "packets"),
    )
    offered = given.traffic.rate_pps if isinstance(given.traffic, Flows) else _rates(given.traffic, run)
    rows = of_packets(given.graph, run, offered)
    edges = tuple(packet_edges(given.graph, run))
    return Answer(given.name, Rung.PACKETS.value, tuple(rows), edges, run.assumptions, seed=seed)


def _rates(demand: Demand, run: Any) -> Any:
    return demand.rate[run.traffic_class, run.target, run.source]


def _seed(options: Options) -> int:
    return secrets.randbelow(2**31) if options.seed is None else options.seed


def _beside(given: Input, options: Options) -> Sequence[FlowRow]:
    """What another simulator measured: the sample's own results, or files of OMNeT++."""
    if options.beside:
        from domain_twin.simulation.outside.omnet_results import flow_figures, read_results
        from domain_twin.simulation.routed import routed

        graph = given.graph
        flows = given.traffic if isinstance(given.traffic, Flows) else routed(graph, given.traffic)
        names = [
            (graph.nodes[s], graph.nodes[d], graph.classes[c].name)
            for s, d, c in zip(flows.source, flows.target, flows.traffic_class, strict=True)
        ]
        return flow_figures(read_results(options.beside), names)
    if given.sample is None:
        return ()
    measured, flows, graph = given.sample.measured, given.sample.flows, given.graph
    return [
        FlowRow(
            graph.nodes[flows.source[i]],
            graph.nodes[flows.target[i]],
            graph.classes[flows.traffic_class[i]].name,
            math.nan,
            float(measured.delay_s[i]) * 1e3,
            float(measured.variance_s2[i]) * 1e6,
            float(measured.loss[i]),
            math.nan,
        )
        for i in range(flows.count)
    ]


def _routed_network(given: Input, what: str) -> FileNetwork:
    if given.network is None:
        raise ConfigError(
            f"{given.name}: its paths are given, and {what} needs one that routes; export it as .json first"
        )
    return given.network


async def _report(
    given: Input, rung: Rung, options: Options, scenario: Scenario, progress: Progress
) -> Answer:
    from domain_twin.simulation.questions.whatif import Question, answer

    network = _routed_network(given, "a scenario")
    if rung in (Rung.CAPACITY, Rung.RESIDUAL):
        raise ConfigError(f"a scenario is answered at tables or packets, not {rung.value}; ask without one")
    if rung is Rung.PACKETS and scenario.sweep is not None:
        raise ConfigError("a sweep at rung packets would take hours; sweep at tables, then ask for the worst")
    if options.flows:
        scenario = scenario.model_copy(update={"flows": options.flows})
    seed = scenario.seed if scenario.seed is not None else _seed(options)
    scenario = scenario.model_copy(update={"rung": Rung.TABLES.value, "seed": seed})
    question = Question(scenario, given.file, Version("file", 0), assumptions=network.assumptions)
    found = await asyncio.to_thread(answer, network, question, progress=progress)
    if rung is Rung.PACKETS:
        found = await _measured(found, network, scenario, options, progress)
    return Answer(given.name, rung.value, report=found, seed=seed)


async def _measured(
    report: Report, network: FileNetwork, scenario: Scenario, options: Options, progress: Progress
) -> Report:
    """The report with figures of packets, before and after, in the place of computed ones."""
    from domain_twin.simulation.outside.ns3 import simulate
    from domain_twin.simulation.questions.changes import Elements, with_services
    from domain_twin.simulation.questions.sweeps import plan

    elements = Elements(network)
    graph, demand = with_services(network, scenario, elements)
    changed = replace(network, graph=graph, demand=demand)
    after_graph, after_demand = applied(graph, demand, plan(Elements(changed), scenario).variant)
    sides = []
    for share, (one, offered) in enumerate(
        ((network.graph, network.demand), (after_graph, _reachable(after_graph, after_demand)))
    ):
        run = await simulate(
            one,
            offered,
            seed=scenario.seed or 0,
            packets=options.packets,
            limit_s=options.limit_s / 2,
            progress=_half(progress, share),
        )
        rows = of_packets(one, run, _rates(offered, run))
        used = {row.edge: row for row in packet_edges(one, run)}
        sides.append(({(r.traffic_class, r.source, r.target): r for r in rows}, used, run.assumptions))
    (before, before_edges, _), (after, after_edges, said) = sides
    flows = tuple(_of_packets(flow, before, after) for flow in report.flows)
    elements_told = tuple(
        replace(
            each,
            utilisation_before=before_edges[each.element].utilisation,
            utilisation_after=after_edges[each.element].utilisation,
            loss_before=before_edges[each.element].loss,
            loss_after=after_edges[each.element].loss,
        )
        if each.element in before_edges and each.element in after_edges
        else each
        for each in report.elements
    )
    kept = (said_before for said_before in report.assumptions if not said_before.startswith(_TABLES_ONLY))
    return sealed(
        replace(
            report,
            scenario=scenario.model_copy(update={"rung": Rung.PACKETS.value}),
            rung=Rung.PACKETS.value,
            flows=flows,
            elements=elements_told,
            assumptions=(*kept, *said, "intervals are of the simulation's own randomness: nothing else"),
        )
    )


def _half(progress: Progress, done: int) -> Callable[[float], None]:
    return lambda share: progress((done + share) / 2, "packets")


def _reachable(graph: SimGraph, demand: Demand) -> Demand:
    """The demand that has a path."""
    from domain_twin.simulation.routing import all_trees, topology

    trees = all_trees(topology(graph), graph.metric.astype(np.float64), graph.up.astype(np.bool_), ecmp=False)
    return Demand(np.where(np.isinf(trees.distance)[None], 0.0, demand.rate))


def _of_packets(
    flow: FlowForecast,
    before: Mapping[tuple[str, str, str], FlowRow],
    after: Mapping[tuple[str, str, str], FlowRow],
) -> FlowForecast:
    key = (flow.traffic_class, flow.source, flow.target)
    return replace(flow, before=_figures(before.get(key)), after=_figures(after.get(key)))


def _figures(row: FlowRow | None) -> FlowFigures | None:
    if row is None:
        return None

    def plain(value: float) -> Figure:
        return Figure(value, math.nan, math.nan)

    def around(value: float, error: float) -> Figure:
        return Figure(value, max(0.0, value - _NORMAL_90 * error), value + _NORMAL_90 * error)

    return FlowFigures(
        around(row.delay_ms, row.delay_error_ms),
        plain(row.delay_variance_ms2),
        plain(row.p90_ms),
        plain(row.p95_ms),
        plain(row.p99_ms),
        around(row.loss, row.loss_error),
        plain(row.throughput_mbps),
    )
