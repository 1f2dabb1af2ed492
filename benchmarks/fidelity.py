"""Whether predictions come true: seeded changes of the emulated four-operator network, predicted, then made.

Each world runs for a while; the twin calibrates on what its devices reported in that time and on nothing
else. Then one change after another is predicted, made, given time to converge, measured in the packet log and
taken back. Traffic is Poisson, CBR, on-off and elastic, and follows the hour of the day together. Prints one
JSON object. `--seed` moves to other worlds; `--quick`: one world with ten changes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._emulated import EmulatedNetwork
from domain_twin.emulator.faults import LinkCut, LinkDegradation
from domain_twin.emulator.network import NetworkSpec
from domain_twin.model import scenario as language
from domain_twin.model.scenario import Change
from domain_twin.simulation.graph import Law, Variant
from domain_twin.simulation.questions.changes import Elements, changed
from domain_twin.simulation.questions.whatif import moved_between
from domain_twin.simulation.solve import Engine, Solution
from domain_twin.simulation.twin.calibrate import fit
from domain_twin.simulation.twin.compile import compile_network
from domain_twin.simulation.twin.observed import Recorder
from domain_twin.simulation.twin.traffic import loads_over
from domain_twin.simulation.twin.uncertainty import flow_intervals

AIMS = {"delay_mape": 5.0, "path_share": 1.0, "coverage": [0.85, 0.95]}
WARM_S, CALIBRATE_S, SETTLE_S = 10.0, 300.0, 3.0
LEAST_PACKETS = 200
AFFECTED = 0.03
KINDS = ("link-cut", "metric", "degradation", "cell-load", "workers", "cell-share", "demand", "two")


@dataclass(frozen=True, slots=True)
class Trial:
    """A change as the scenario says it, how to make it in the network, and how to take it back."""

    kind: str
    what: str
    changes: tuple[Change, ...]
    make: Callable[[], None]
    undo: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One flow after one change. Delays in ms."""

    world: int
    kind: str
    what: str
    flow: str
    before: float
    predicted: float
    measured: float
    noise: float  # standard error of `measured`
    low: float
    high: float
    path_right: bool
    moved: bool  # its path is another than before
    busiest: float

    @property
    def error(self) -> float:
        """Relative, percent."""
        return (self.predicted / self.measured - 1) * 100

    @property
    def affected(self) -> bool:
        """Whether the change is predicted to do something to the flow: another path, or 3 % of its delay."""
        return self.moved or abs(self.predicted / self.before - 1) > AFFECTED


class World:
    """One seed: its network, its twin, its changes."""

    def __init__(self, seed: int, measure_s: float) -> None:
        self.seed, self.measure_s = seed, measure_s
        self.rng = np.random.default_rng([seed, 17])
        traffic = {
            "cell_mbps": float(self.rng.uniform(160, 220)),
            "background_mbps": float(self.rng.uniform(2200, 3000)),
            "start_hour": float(self.rng.uniform(5.2, 5.8)),  # demand grows through all of it
        }
        self.network = EmulatedNetwork(NetworkSpec.model_validate({"seed": seed, "traffic": traffic}))
        self.at = 0.0

    def run(self, count: int) -> Iterator[Outcome]:
        """Calibrate, then try `count` changes."""
        recorder = Recorder("emulated")
        self._advance(WARM_S)
        self.network.advance(self.at + CALIBRATE_S, recorder.record)
        self.at += CALIBRATE_S
        observations = recorder.observations()
        self.calibration = fit(observations)
        self.compiled = compile_network(
            self.network.network(), loads=loads_over(observations), calibration=self.calibration
        )
        self.engine = Engine(self.compiled.graph, self.compiled.demand)
        base = self.engine.solve()
        intervals = flow_intervals(base, self.calibration)
        assert intervals is not None
        self.intervals = intervals
        elements = Elements(self.compiled, domain="emulated")
        for number in range(count):
            trial = self._trial(KINDS[number % len(KINDS)])
            variant, _, _ = changed(elements, trial.changes, name=trial.what)
            yield from self._try(trial, variant, base)

    def _try(self, trial: Trial, variant: Variant, base: Solution) -> Iterator[Outcome]:
        after = self.engine.solve(variant)
        moved_s = moved_between(base, after, self.engine, borders=False)
        trial.make()
        self._advance(SETTLE_S)
        since = self.at
        paths = {flow: self.network.path(flow) for flow in self.network.packets.watches}
        self._advance(self.measure_s)
        for flow, taken in paths.items():
            truth = self.network.truth(flow, since, self.at - 0.2)
            if truth.count < LEAST_PACKETS or truth.mean_ms is None or not truth.complete:
                continue
            source, target = self._ends(flow)
            path = after.path(source, target)
            graph = after.graph
            links = tuple(graph.edges[edge] for edge in path if graph.law[edge] == Law.LINK)
            predicted = float(after.delay_s[0, target, source]) * 1e3
            busiest = float(after.utilisation[list(path)].max())
            variance, rate = after.variance_s2[0, target, source], after.throughput_pps[0, target, source]
            noise = float(np.sqrt(variance / rate)) * 1e3 if rate > 0 else 0.0
            moved = float(np.linalg.norm(moved_s[list(path), 0])) * 1e3
            low, high = self.intervals.around("delay_ms", predicted, busiest, noise=noise, moved=moved)
            yield Outcome(
                self.seed, trial.kind, trial.what, flow, float(base.delay_s[0, target, source]) * 1e3,
                predicted, truth.mean_ms, truth.std_error_ms or 0.0, low, high, links == taken,
                path != base.path(source, target),
                busiest,
            )  # fmt: skip
        trial.undo()
        self._advance(SETTLE_S)

    def _ends(self, flow: str) -> tuple[int, int]:
        plan = self.network.flows[flow]
        topology = self.network.topology
        source, target = topology.cells[plan.cell].cell_id, topology.devices[plan.target].node_id
        return self.compiled.node_of[source], self.compiled.node_of[target]

    def _advance(self, seconds: float) -> None:
        self.at += seconds
        self.network.advance(self.at)

    # ---- changes -------------------------------------------------------------------------------------------

    def _trial(self, kind: str) -> Trial:
        makers: dict[str, Callable[[], Trial]] = {
            "link-cut": self._cut, "metric": self._metric, "degradation": self._degradation,
            "cell-load": self._cell_load, "workers": self._workers, "cell-share": self._cell_share,
            "demand": self._demand, "two": self._two,
        }  # fmt: skip
        return makers[kind]()

    def _some_line(self) -> Any:
        """A line between routers; every other time one that a watched flow crosses."""
        lines = [
            x for x in self.network.topology.adjacencies if not x.crossing and x.a.device.kind == "router"
        ]
        if self.rng.random() < 0.5:
            used = {link for flow in self.network.packets.watches for link in self.network.path(flow)}
            lines = [x for x in lines if x.a.link_id in used or x.b.link_id in used]
        return lines[self.rng.integers(len(lines))]

    def _fault(self, kind: str, what: str, changes: tuple[Change, ...], fault: Any) -> Trial:
        plant = self.network.plant
        named: list[str] = []

        def make() -> None:
            named.append(plant.inject(fault))

        def undo() -> None:
            plant.clear(named.pop())

        return Trial(
            kind, what, changes,
            make, undo,
        )  # fmt: skip

    def _asked(self, kind: str, what: str, changes: tuple[Change, ...], table: str, values: Any) -> Trial:
        """A change of configuration: `values` of one table of what devices are configured to do."""
        held = getattr(self.network.plant.configured, table)
        old = {key: held[key] for key in values}

        def put(new: Any) -> None:
            held.update(new)
            self.network.plant.settle()

        return Trial(kind, what, changes, lambda: put(values), lambda: put(old))

    def _cut(self) -> Trial:
        line = self._some_line()
        change = language.ElementDown(kind="element-down", element=line.a.link_id)
        return self._fault("link-cut", f"cut {line.a.tp_id}", (change,), LinkCut(link=line.a.tp_id))

    def _metric(self) -> Trial:
        line = self._some_line()
        value = round(line.a.metric * float(self.rng.choice([0.5, 2.0, 3.0])))
        changes = tuple(
            language.MetricChange(kind="metric", element=end.link_id, value=value) for end in (line.a, line.b)
        )
        values = {line.a.tp_id: value, line.b.tp_id: value}
        return self._asked("metric", f"metric of {line.a.tp_id} {value}", changes, "metric", values)

    def _degradation(self) -> Trial:
        line = self._some_line()
        factor = float(self.rng.uniform(0.5, 0.8))
        changes = tuple(
            language.CapacityChange(kind="capacity", element=end.link_id, factor=factor)
            for end in (line.a, line.b)
        )
        fault = LinkDegradation(link=line.a.tp_id, rate_factor=factor)
        return self._fault("degradation", f"{line.a.tp_id} at {factor:.2f}", changes, fault)

    def _cell_load(self) -> Trial:
        cells = [cell for cell in self.network.topology.cells if cell.local_id < 3]
        cell = cells[self.rng.integers(len(cells))]
        factor = float(self.rng.uniform(0.5, 1.8))
        flows = [name for name, flow in self.network.flows.items() if flow.cell == cell.index]
        change = language.CellLoadChange(kind="cell-load", element=cell.cell_id, factor=factor)
        return self._scaled("cell-load", f"{cell.name} times {factor:.2f}", (change,), flows, factor)

    def _scaled(
        self, kind: str, what: str, changes: tuple[Change, ...], flows: list[str], factor: float
    ) -> Trial:
        def scale(by: float) -> None:
            for flow in flows:
                self.network.scale_flow(flow, by)

        return Trial(kind, what, changes, lambda: scale(factor), lambda: scale(1 / factor))

    def _workers(self) -> Trial:
        name, counts = [("host-1", (2, 4)), ("host-3", (1, 2)), ("upf-1", (3, 4)), ("upf-2", (3, 4))][
            self.rng.integers(4)
        ]
        device, count = self.network.topology.device(name), int(self.rng.choice(counts))
        change = language.WorkersChange(kind="workers", element=device.node_id, count=count)
        values = {device.node_id: count}
        return self._asked("workers", f"{name} with {count} workers", (change,), "workers", values)

    def _cell_share(self) -> Trial:
        cells = [cell for cell in self.network.topology.cells if cell.local_id < 3]
        cell = cells[self.rng.integers(len(cells))]
        share = round(float(self.rng.uniform(0.6, 0.9)), 2)
        change = language.CapacityChange(kind="capacity", element=cell.cell_id, factor=share)
        values = {cell.cell_id: share}
        return self._asked("cell-share", f"{cell.name} at {share:.2f}", (change,), "prb_share", values)

    def _demand(self) -> Trial:
        factor = float(self.rng.uniform(0.7, 1.3))
        change = language.DemandChange(kind="demand", factor=factor)
        flows = [name for name, flow in self.network.flows.items() if flow.kind not in ("elastic", "probe")]
        return self._scaled("demand", f"all demand times {factor:.2f}", (change,), flows, factor)

    def _two(self) -> Trial:
        first = self._trial(str(self.rng.choice(["link-cut", "metric"])))
        second = self._trial(str(self.rng.choice(["cell-load", "workers", "cell-share", "demand"])))

        def make() -> None:
            first.make()
            second.make()

        def undo() -> None:
            second.undo()
            first.undo()

        return Trial(
            "two", f"{first.what}, and {second.what}", (*first.changes, *second.changes),
            make, undo,
        )  # fmt: skip


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of some outcomes."""
    if not outcomes:
        return {"flows": 0}
    errors = np.array([item.error for item in outcomes])
    stale = np.array([(item.before / item.measured - 1) * 100 for item in outcomes])
    inside = [item.low <= item.measured <= item.high for item in outcomes]
    return {
        "flows": len(outcomes),
        "delay_mape": round(float(np.abs(errors).mean()), 3),
        "delay_bias": round(float(errors.mean()), 3),
        "delay_p95_error": round(float(np.quantile(np.abs(errors), 0.95)), 3),
        "noise_percent": round(100 * float(np.mean([0.8 * x.noise / x.measured for x in outcomes])), 3),
        "no_change_mape": round(float(np.abs(stale).mean()), 3),
        "path_share": round(sum(item.path_right for item in outcomes) / len(outcomes), 4),
        "coverage": round(sum(inside) / len(outcomes), 4),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one world with ten changes")
    parser.add_argument("--seed", type=int, default=1001, help="first world; the next ones count up")
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--changes", type=int, default=12, help="in each world")
    parser.add_argument("--measure", type=float, default=30.0, help="simulated seconds after each change")
    arguments = parser.parse_args()
    worlds, count = (1, 10) if arguments.quick else (arguments.worlds, arguments.changes)
    outcomes: list[Outcome] = []
    started = time.monotonic()
    fits = []
    for seed in range(arguments.seed, arguments.seed + worlds):
        world = World(seed, arguments.measure)
        outcomes += world.run(count)
        fits.append(
            {
                "seed": seed,
                "held_out_mape": round(world.calibration.mape, 3),
                "packets_per_train": round(world.calibration.traffic.packets_per_train, 2),
                "load_mape": round(world.compiled.fit.load_mape, 3),
            }
        )
        print(f"world {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    changes = {(item.world, item.what) for item in outcomes}
    worst = sorted(outcomes, key=lambda item: -abs(item.error))[:10]
    result = {
        "benchmark": "fidelity",
        "changes": len(changes),
        **summary(outcomes),
        "affected": summary([o for o in outcomes if o.affected]),
        "by_kind": {kind: summary(own) for kind in KINDS if (own := [o for o in outcomes if o.kind == kind])},
        "calibration": fits,
        "worst": [
            {"world": o.world, "change": o.what, "flow": o.flow, "before_ms": round(o.before, 3),
             "predicted_ms": round(o.predicted, 3), "measured_ms": round(o.measured, 3),
             "path_right": o.path_right, "busiest": round(o.busiest, 3)}
            for o in worst
        ],
        "simulated_s": worlds * (WARM_S + CALIBRATE_S + count * (arguments.measure + 2 * SETTLE_S)),
        "wall_s": round(time.monotonic() - started, 1),
        "aims": AIMS,
    }  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
