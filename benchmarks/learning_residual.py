"""What the what-if engine misses of links' delays, with a residual that four operators fit together or none.

The emulated network runs unpaced through the morning: what the four twins show every minute is their history,
the first three quarters are learned from, the last (busier) quarter is judged. Each row is the mean relative
error of the delay of each link over ten minutes, computed by a calibration on the three quarters: as tables
say, with the residual of the domain's own history, of all (real rounds, `mistrustful` and `trusted`), of all
rows in one place (`pooled`), and as the domain uses it: `mixed`, its own and that of all in a share that its
own history chose, on the three quarters. Then once more with one operator that has only the first quiet
minutes besides what is judged: 40 are too few points to tell or to fit for the smallest (others' residual or
none), 80 are some. Worlds are other ones than those that the terms (seeds 0 and 1) and how shares are chosen
(0 to 3) were chosen on.

    python -m benchmarks.learning_residual [--hours 4] [--seeds 11 12 13 14 15 16 17 18] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks._emulated import START_NS, EmulatedNetwork
from benchmarks.learning_network import HOURLY
from domain_twin.emulator.network import DOMAINS, NetworkSpec, TrafficSpec
from domain_twin.errors import ContractError
from domain_twin.learning.client import client_app
from domain_twin.learning.learner import Arrays
from domain_twin.learning.models.residual import LEAST_IN_BIN, curve_of, make, share_of
from domain_twin.learning.panel import Panel
from domain_twin.learning.presets import preset
from domain_twin.learning.task import Profile, Task
from domain_twin.model import Network
from domain_twin.simulation.learned.load_curve import Rows, solved, sums
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.rounds import Plan, train

TASK = preset("residual")
HOLDOUT = 0.25
LITTLE = (40, 80)
"""Steps of a minute, from the beginning, that the operator with little data learned from."""


def history(hours: float, seed: int) -> dict[str, Panel]:
    """What every operator's twin showed of its links, minute by minute."""
    traffic = TrafficSpec(probe_pps=0.1, hourly=HOURLY, start_hour=6.0)
    network = EmulatedNetwork(NetworkSpec(scale=0.0005, interval_ms=60_000, traffic=traffic, seed=seed + 1))
    seen: list[Network] = []
    network.advance(hours * 3600.0, each=seen.append)
    return {domain: _panel(domain, seen) for domain in DOMAINS}


def _panel(domain: str, seen: Sequence[Network]) -> Panel:
    links = sorted(link for link in seen[-1].links if f":{domain}:" in link)
    values = np.full((len(links), len(seen), len(TASK.features)), np.nan)
    for step, network in enumerate(seen):
        for row, link in enumerate(links):
            kpis = network.links[link].kpis if link in network.links else {}
            for column, feature in enumerate(TASK.features):
                if kpi := kpis.get(feature.kpi.removeprefix("ndt:")):
                    values[row, step, column] = kpi.value
    kpis_told = tuple(feature.kpi for feature in TASK.features)
    return Panel(tuple(links), kpis_told, values, START_NS, TASK.step_s, round(len(seen) * (1 - HOLDOUT)))


def with_little(panel: Panel, steps: int) -> Panel:
    """`panel` as an operator has it that recorded the first quiet minutes only, before what is judged."""
    values = panel.values.copy()
    values[:, steps : panel.holdout_from] = np.nan
    return replace(panel, values=values)


def together(task: Task, panels: Mapping[str, Panel]) -> tuple[Arrays, tuple[str, ...]]:
    """A real round, with a Flower ClientApp for each operator, in this process; and whose sums are in it."""
    apps = {name: client_app(lambda _, p=panel: p, domain=name) for name, panel in panels.items()}
    with InProcess(apps) as carrier:
        grid = CarriedGrid(carrier, f"residual-{task.profile.value}")
        outcome = train(task, grid, plan=Plan(deadline_s=300, explain=False))
    return outcome.arrays, outcome.contributors


def pooled(panels: Mapping[str, Panel]) -> Arrays:
    """Least squares of all rows in one place."""
    made, parts = make(TASK), []
    for panel in panels.values():
        with contextlib.suppress(ContractError):  # too few to contribute
            parts.append(made.rows(panel))
    rows = Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__slots__))
    curve = solved(*sums(rows), least=LEAST_IN_BIN)
    return {"coefficients": curve.coefficients, "reach": np.array([curve.reach])}


def judged(panels: Mapping[str, Panel]) -> dict[str, object]:
    """By row and domain, percent; who was in the robust fit; the largest difference to the pooled fit."""
    robust, used = together(TASK, panels)
    plain, _ = together(replace(TASK, profile=Profile.TRUSTED), panels)
    models = {"federated_mistrustful": robust, "federated_trusted": plain, "pooled": pooled(panels)}
    rows, shares = errors(panels, models)
    apart = float(np.abs(plain["coefficients"] - models["pooled"]["coefficients"]).max())
    return {
        "error_percent": rows,
        "share_of_delivered": shares,
        "in_the_robust_fit": list(used),
        "reach": round(curve_of(robust).reach, 2),
        "trusted_to_pooled": apart if plain["coefficients"].any() else None,
    }


def judged_with_little(panels: Mapping[str, Panel], domain: str) -> dict[str, object]:
    """The same of one domain that has little, where sums are added without a round."""
    made, told = make(TASK), {}
    for name, panel in panels.items():
        with contextlib.suppress(ContractError):  # too few to contribute
            told[name] = made.sums(panel)
    robust, _ = made.summed(list(told.values()), robust=True)
    rows, shares = errors({domain: panels[domain]}, {"federated_mistrustful": robust})
    return {"error_percent": rows, "share_of_delivered": shares}


def errors(
    panels: Mapping[str, Panel], models: Mapping[str, Arrays]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Percent by row and domain, and the share of the delivered one where both are mixed."""
    made, rng = make(TASK), np.random.default_rng(0)
    delivered = models["federated_mistrustful"]
    rows: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for domain, panel in panels.items():
        try:
            alone = made.train({}, panel, rng).arrays
        except ContractError:
            alone = made.initial(rng)
        mixed = made.fitted_here(delivered, panel)
        shares[domain] = share_of(mixed)
        before = {"tables": made.initial(rng), "local": alone}
        for name, arrays in {**before, **models, "mixed": mixed}.items():
            said = made.evaluate(arrays, panel)
            rows.setdefault(name, {})[domain] = round(100 * said["loss"], 3)
    return rows, shares


def means(found: Sequence[Mapping[str, object]]) -> dict[str, dict[str, float]]:
    """Mean of the errors over worlds, by row and domain."""
    tables = [one["error_percent"] for one in found]
    return {
        name: {domain: round(float(np.mean([t[name][domain] for t in tables])), 3) for domain in row}  # type: ignore[index]
        for name, row in tables[0].items()  # type: ignore[attr-defined]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(11, 19)))
    parser.add_argument("--quick", action="store_true", help="one world")
    given = parser.parse_args()
    seeds = given.seeds[:1] if given.quick else given.seeds
    full: list[dict[str, object]] = []
    little: dict[tuple[int, str], list[dict[str, object]]] = {}
    for seed in seeds:
        panels = history(given.hours, seed)
        full.append(judged(panels))
        for steps in LITTLE:
            for domain, panel in panels.items():
                found = judged_with_little({**panels, domain: with_little(panel, steps)}, domain)
                little.setdefault((steps, domain), []).append(found)
        sys.stderr.write(f"world {seed}: {json.dumps(full[-1])}\n")
    document = {
        "hours": given.hours,
        "seeds": seeds,
        "error_percent": means(full),
        "with_little": {
            f"{domain}, first {steps} minutes": {name: row[domain] for name, row in means(worlds).items()}
            for (steps, domain), worlds in little.items()
        },
        "worlds": full,
        "worlds_with_little": {f"{domain} {steps}": worlds for (steps, domain), worlds in little.items()},
        "cpu_s": round(time.process_time()),
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
