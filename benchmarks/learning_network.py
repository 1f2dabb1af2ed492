"""Demand on the links of the emulated four-operator network, foretold from hours of accelerated history.

The network runs unpaced; what the four twins show every minute is their history. Demand follows the time of
day, and every few minutes a place becomes busy for a while. Each operator's links are foretold 1, 5 and 15
minutes ahead by: a forecaster that the four train over real rounds (profile `mistrustful`, the default, and
`trusted`), one that sees all data, one of its own, and naive rivals. Then once more with one operator that
has only half an hour to train on. Errors are of the last quarter: `loss` is the pinball loss in spreads,
`nmae` the median's error beside the mean.

    python -m benchmarks.learning_network [--hours 8] [--seeds 3] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks._emulated import START_NS, EmulatedNetwork
from domain_twin.emulator.network import DOMAINS, NetworkSpec, TrafficSpec
from domain_twin.learning.client import client_app
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Profile, Task
from domain_twin.model import Network
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.rounds import Plan, train

FEATURES = (Feature("ndt:utilisation", "1"), Feature("ndt:one_way_delay", "ms"))
TASK = Task("demand", features=FEATURES, lags=12, horizons=(1, 5, 15), rounds=10, epochs=2)
HOLDOUT = 0.25
LITTLE = 30
"""Steps of one minute that the operator with little data has."""
HOURLY = (0.35, 0.3, 0.28, 0.28, 0.3, 0.4, 0.55, 0.75, 0.95, 1.05, 1.1, 1.12)
HOURLY += (1.1, 1.08, 1.05, 1.05, 1.1, 1.2, 1.3, 1.3, 1.2, 1.0, 0.75, 0.5)


def history(hours: float, seed: int) -> dict[str, Panel]:
    """What every operator's twin showed of its links, minute by minute."""
    traffic = TrafficSpec(probe_pps=0.1, hourly=HOURLY, start_hour=6.0)
    network = EmulatedNetwork(NetworkSpec(scale=0.0005, interval_ms=60_000, traffic=traffic, seed=seed + 1))
    rng = np.random.default_rng(seed)
    places = [device.name for device in network.topology.devices if device.kind in {"gnb", "host", "router"}]
    busy: list[tuple[int, list[str], float]] = []
    seen: list[Network] = []
    for minute in range(round(hours * 60)):
        for ends, flows, factor in [row for row in busy if row[0] == minute]:
            busy.remove((ends, flows, factor))
            for flow in flows:
                network.scale_flow(flow, 1 / factor)
        if rng.random() < 0.2:
            place, factor = str(rng.choice(places)), float(rng.uniform(1.5, 4))
            flows = [name for name in network.flows if place in name]
            busy.append((minute + int(rng.integers(4, 25)), flows, factor))
            for flow in flows:
                network.scale_flow(flow, factor)
        network.advance((minute + 1) * 60.0, each=seen.append)
        if minute % 60 == 59:
            progress(f"{minute // 60 + 1} h of the network's time")
    return {domain: _panel(domain, seen) for domain in DOMAINS}


def _panel(domain: str, seen: Sequence[Network]) -> Panel:
    links = sorted(link for link in seen[-1].links if f":{domain}:" in link)
    values = np.full((len(links), len(seen), len(FEATURES)), np.nan)
    for step, network in enumerate(seen):
        for row, link in enumerate(links):
            kpis = network.links[link].kpis if link in network.links else {}
            for column, feature in enumerate(FEATURES):
                if kpi := kpis.get(feature.kpi.removeprefix("ndt:")):
                    values[row, step, column] = kpi.value
    holdout = round(len(seen) * (1 - HOLDOUT))
    return Panel(tuple(links), tuple(f.kpi for f in FEATURES), values, START_NS, TASK.step_s, holdout)


def federated(task: Task, panels: Mapping[str, Panel]) -> Arrays:
    """Real rounds, with a Flower ClientApp for each operator, in this process."""
    apps = {name: client_app(lambda _, p=panel: p, domain=name) for name, panel in panels.items()}
    with InProcess(apps) as carrier:
        grid = CarriedGrid(carrier, f"demand-{task.seed}-{task.profile.value}")
        return train(task, grid, plan=Plan(deadline_s=300, explain=False)).arrays


def alone(task: Task, panel: Panel) -> Arrays:
    """As many rounds of one learner on `panel`."""
    made = learner(task)
    arrays = made.initial(np.random.default_rng(task.seed))
    for round_ in range(task.rounds):
        arrays = made.train(arrays, panel, np.random.default_rng([task.seed, round_])).arrays
    return arrays


def judged(panels: Mapping[str, Panel], seeds: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """By row and operator: mean measures over the seeds."""
    everything = next(iter(panels.values()))
    everything = replace(
        everything,
        elements=tuple(element for panel in panels.values() for element in panel.elements),
        values=np.concatenate([panel.values for panel in panels.values()]),
    )
    said: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in seeds:
        task = replace(TASK, seed=seed)
        models = {"pooled": alone(task, everything)}
        for profile in (Profile.MISTRUSTFUL, Profile.TRUSTED):
            models[f"federated_{profile.value}"] = federated(replace(task, profile=profile), panels)
        for domain, panel in panels.items():
            for name, arrays in {**models, "local": alone(task, panel)}.items():
                said.setdefault((name, domain), []).append(learner(task).evaluate(arrays, panel))
        progress(f"seed {seed} is trained")
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for (name, domain), made in said.items():
        own = {
            measure: _mean(made, measure) for measure in ("loss", "nmae", "coverage", "raw", "raw_coverage")
        }
        rows.setdefault(name, {})[domain] = own
        for measure in made[0]:
            kind, _, rival = measure.partition(":")
            if kind == "naive":
                both = {"loss": _mean(made, measure), "nmae": _mean(made, f"nmae:{rival}")}
                rows.setdefault(measure, {})[domain] = both
    return rows


def _mean(made: Sequence[Mapping[str, float]], measure: str) -> float:
    return round(float(np.mean([row[measure] for row in made])), 4)


def with_little(panel: Panel) -> Panel:
    """`panel` as an operator has it whose records began half an hour before the holdout."""
    values = panel.values.copy()
    values[:, : panel.holdout_from - LITTLE] = np.nan
    return replace(panel, values=values)


def progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3 hours, one seed")
    given = parser.parse_args()
    hours, seeds = (3.0, 1) if given.quick else (given.hours, given.seeds)
    began = time.monotonic()
    panels = history(hours, seed=0)
    recorded = time.monotonic() - began
    little = {**panels, "edge": with_little(panels["edge"])}
    full_rows, little_rows = judged(panels, range(seeds)), judged(little, range(seeds))
    found = {
        "hours": hours,
        "links": {domain: len(panel.elements) for domain, panel in panels.items()},
        "full_data": full_rows,
        "edge_has_half_an_hour": {name: row["edge"] for name, row in little_rows.items()},
        "seeds": seeds,
        "recorded_in_s": round(recorded),
        "took_s": round(time.monotonic() - began),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
