"""What the profile `private` costs: time and bytes of secure aggregation, error of noise, epsilon of rounds.

Rounds: four domains in process, the same model once trained plainly (`trusted`, the rival), once under
`private`; rounds that only judge are timed alone: secure aggregation itself. Accuracy: the same data, rounds
and steps with the noise that an epsilon asks for, beside no noise at all (clipping and Adam alike) and
the best naive rival; mean and spread over seeds. Epsilon: of records in DP-SGD, beside that of whole
operators, which four of them cannot have. A record is a window: `windows of one measurement` says of how many
a single measurement is part, each of which counts as a record.

    python -m benchmarks.learning_private [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before numpy reads them: domains train side by side, and threads of threads only wait for each other.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np

from domain_twin.learning.client import client_app
from domain_twin.learning.dpsgd import plan_of, private
from domain_twin.learning.learner import learner
from domain_twin.learning.ledger import Ledger, Spent, epsilon_of, noise_for
from domain_twin.learning.ledger import Plan as Steps
from domain_twin.learning.panel import Panel
from domain_twin.learning.private import private_app
from domain_twin.learning.task import Feature, Privacy, Profile, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.rounds import Plan, train
from federation.learning.sums import sum_round

DOMAINS = ("core", "edge", "ran", "transport")
PLAN = Plan(deadline_s=300.0, explain=False)
DELTA = 1e-5
FREE = 1e-9  # as good as no noise; its epsilon is not asked for


def panel_of(seed: int, *, elements: int, steps: int) -> Panel:
    """Daily waves of 96 steps with noise, of another level and phase in each element and domain."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6.3, (elements, 1))
    level = rng.uniform(2, 8, (elements, 1))
    wave = level * (1 + 0.5 * np.sin(2 * np.pi * np.arange(steps) / 96 + phase))
    values = wave + rng.normal(0, 0.3, wave.shape)
    names = tuple(f"link-{index}" for index in range(elements))
    return Panel(names, ("ndt:utilisation",), values[..., None], 0, 900.0, int(steps * 0.8))


def task_of(hidden: int, rounds: int, **more: Any) -> Task:
    return Task(
        "load",
        features=(Feature("ndt:utilisation", "1"),),
        step_s=900.0,
        lags=8,
        rounds=rounds,
        batch=128,
        learning_rate=3e-3,
        settings={"hidden": hidden},
        **more,
    )


def run(task: Task, panels: Sequence[Panel], folder: Path, name: str) -> Any:
    """The outcome of a training in process."""

    def holding(held: Panel) -> Callable[[Task], Panel]:
        return lambda _: held

    apps = {}
    for domain, held in zip(DOMAINS, panels, strict=True):
        if task.profile is Profile.PRIVATE:
            ledger = Ledger(folder / f"{name}-{domain}", epsilon=1e12)
            apps[domain] = private_app(holding(held), domain=domain, ledger=ledger)
        else:
            apps[domain] = client_app(holding(held), domain=domain)
    with InProcess(apps) as carrier:
        return train(task, CarriedGrid(carrier, name), plan=PLAN)


def rounds_cost(folder: Path, hidden: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds."""
    panels = [panel_of(seed, elements=2, steps=300) for seed in range(4)]
    loose = Privacy(epsilon=1e12, noise_multiplier=1.0)
    cpu = time.process_time()
    plain = run(task_of(hidden, rounds, profile=Profile.TRUSTED), panels, folder, "plain")
    plain_cpu, cpu = time.process_time() - cpu, time.process_time()
    masked_task = task_of(hidden, rounds, profile=Profile.PRIVATE, privacy=loose)
    masked = run(masked_task, panels, folder, f"masked-{hidden}")
    masked_cpu = time.process_time() - cpu
    model = learner(masked_task)
    base = model.initial(np.random.default_rng(0))
    apps = {
        domain: private_app(lambda _, held=held: held, domain=domain, ledger=Ledger(folder / f"j{domain}"))
        for domain, held in zip(DOMAINS, panels, strict=True)
    }
    alone = []
    cpu = time.process_time()
    with InProcess(apps) as carrier:
        grid = CarriedGrid(carrier, f"judging-{hidden}")
        for number in range(1, rounds + 1):
            started = time.perf_counter()
            sum_round(masked_task, grid, base, number=number, timeout_s=60.0, judge_only=True)
            alone.append(time.perf_counter() - started)
    return {
        "model_bytes": sum(array.nbytes for array in base.values()),
        "rival: trusted": _figures(plain.rounds[1:], plain_cpu),
        "private": _figures(masked.rounds[1:], masked_cpu),
        "secure aggregation and judging alone": {
            "round_s": round(statistics.median(alone), 3),
            "cpu_s_per_round": round((time.process_time() - cpu) / rounds, 3),
        },
    }


def _figures(reports: Sequence[Any], cpu_s: float) -> dict[str, Any]:
    return {
        "cpu_s_per_round": round(cpu_s / len(reports), 3),
        "round_s": round(statistics.median(one.took_s for one in reports), 3),
        "bytes_out_in": [reports[-1].bytes_out, reports[-1].bytes_in],
    }


def accuracy(folder: Path, seeds: Sequence[int], rounds: int) -> dict[str, Any]:
    """Mean loss over the domains' holdouts, by epsilon."""
    found: dict[str, list[float]] = {}
    windows = 0
    for seed in seeds:
        panels = [panel_of(10 * seed + index, elements=8, steps=480) for index in range(4)]
        base = task_of(24, rounds, seed=seed, profile=Profile.PRIVATE)
        steps = plan_of(base, private(base, learner(base)).records(panels[0]))
        windows = steps.records
        rows = {"no noise": FREE} | {
            f"epsilon {epsilon:g}": noise_for(steps, rounds, epsilon=epsilon, delta=DELTA)
            for epsilon in (16.0, 8.0, 4.0, 2.0, 1.0)
        }
        for name, noise in rows.items():
            told = replace(base, privacy=Privacy(epsilon=1e300, delta=DELTA, noise_multiplier=noise))
            if noise == FREE:
                told = replace(told, privacy=Privacy(epsilon=1e300, delta=DELTA, noise_multiplier=0.2))
                outcome = _without_noise(told, panels, folder, f"{seed}-{name}")
            else:
                outcome = run(told, panels, folder, f"{seed}-{name}")
            found.setdefault(name, []).append(outcome.scores["model"]["loss"])
            found.setdefault("naive: best", []).append(outcome.scores["naive:best"]["loss"])
        plain = run(replace(base, profile=Profile.TRUSTED), panels, folder, f"{seed}-plain")
        found.setdefault("trusted: no clipping, no noise", []).append(plain.scores["model"]["loss"])
    rows_out = {
        name: {"loss": round(statistics.mean(values), 4), "spread": round(float(np.std(values)), 4)}
        for name, values in found.items()
    }
    return {"windows_per_domain": windows, "rounds": rounds, "seeds": len(seeds), "rows": rows_out}


def _without_noise(task: Task, panels: Sequence[Panel], folder: Path, name: str) -> Any:
    """As `run`, with the noise taken out: no product's setting, so it is done from outside."""
    from domain_twin.learning import dpsgd

    noisy = dpsgd._noisy_mean
    dpsgd._noisy_mean = lambda total, plan, _privacy, _rng: {
        key: sums / plan.batch for key, sums in total.items()
    }
    try:
        return run(task, panels, folder, name)
    finally:
        dpsgd._noisy_mean = noisy


def epsilons() -> dict[str, Any]:
    """Epsilon at delta 1e-5."""
    table = []
    for records in (5_241, 15_928, 100_000):
        for rounds in (10, 30):
            steps = Steps(records, 128, 3 * -(-records // 128))
            row = {"records": records, "rounds": rounds, "epochs": 3, "batch": 128}
            for noise in (0.6, 1.0, 1.5, 2.0):
                spent = Spent("", "", 0, noise, steps.rate, steps.steps * rounds)
                row[f"noise {noise:g}"] = round(epsilon_of([spent], DELTA), 2)
            table.append(row)
    operators = {
        f"noise {noise:g}": round(epsilon_of([Spent("", "", 0, noise, 1.0, 30)], DELTA), 1)
        for noise in (1.0, 2.0, 5.0, 10.0)
    }
    # The mean over four operators, each cut to C, bears noise of z C / 4 an array element.
    return {
        "delta": DELTA,
        "records (DP-SGD)": table,
        "whole operators, 4 of 4 take part, 30 rounds (not offered)": operators,
        "windows of one measurement": {"lags 10, horizon 1": 11, "lags 60, horizons to 15": 75},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed, few rounds")
    options = parser.parse_args()
    rounds = 3 if options.quick else 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "benchmark": "learning_private",
            "quick": options.quick,
            "domains": len(DOMAINS),
            "cost of a round": {
                size: rounds_cost(folder, hidden, rounds) for size, hidden in (("small", 24), ("large", 240))
            },
            "accuracy": accuracy(folder, range(1 if options.quick else 2), 4 if options.quick else 6),
            "epsilon": epsilons(),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
