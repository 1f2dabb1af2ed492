"""What bad contributions do to a model that domains train together, by strategy.

Four domains, then eight, each with three elements of its own level, daily shape, phase, noise and bursts.
None, one of four or two of eight are bad: they send NaN, twenty times their update turned round, their update
turned round, or train honestly on data turned upside down. The loss (pinball, on each domain's own scale) is
that of the honest domains on a day that is neither trained nor judged on during training; means over seeds,
relative to the same strategy and the same honest domains where nobody is bad. The rival is Flower's FedAvg as
it comes, over the same Grid and the same ClientApps. Prints one JSON object.

    python -m benchmarks.learning_poisoning [--quick] [--seeds 3] [--rounds 8]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__":
    # Before numpy reads them: domains train side by side, and threads of threads only wait for each other.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np

from domain_twin.learning.client import client_app
from domain_twin.learning.flower import (
    ConfigRecord,
    FedAvg,
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Profile, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.rounds import Plan, train
from federation.learning.strategies import Aggregation

DAY = 288  # steps of five minutes
ELEMENTS = 3
TASK = Task(
    "load",
    features=(Feature("ndt:utilisation", "1"),),
    step_s=300.0,
    lags=12,
    learning_rate=3e-3,
    holdout=0.25,
    settings={"hidden": 16},
)
NO_GATE = math.inf
KRUM_FROM = 5
"""Contributions from which the default is MultiKrum, for one bad one."""
BARS = {"default": 0.20, "multikrum": 0.10}

Change = Callable[[Arrays, Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One row: how contributions are joined."""

    name: str
    profile: Profile
    aggregation: Aggregation | None
    tolerance: float = Plan().tolerance


def strategies(n: int) -> tuple[Strategy | None, ...]:
    """The rows for `n` domains; None: the rival. The last is what the default is not with so many."""
    other = Aggregation.MULTIKRUM if n < KRUM_FROM else Aggregation.MEDIAN
    return (
        None,
        Strategy("trusted: FedAvg behind checks and gate", Profile.TRUSTED, None),
        Strategy("default", Profile.MISTRUSTFUL, None),
        Strategy("default without its gate", Profile.MISTRUSTFUL, None, NO_GATE),
        Strategy(other.value, Profile.MISTRUSTFUL, other),
    )


RIVAL = "rival: Flower's FedAvg as it comes"


def series(seed: int, days: int) -> np.ndarray:
    """[ELEMENTS, days * DAY]: utilisation in one domain."""
    rng = np.random.default_rng(seed)
    at = np.arange(days * DAY) / DAY
    phase = rng.uniform(0, 1) + rng.normal(0, 0.03, (ELEMENTS, 1))
    day = np.sin(2 * np.pi * (at - phase)) + rng.uniform(0.2, 0.6) * np.sin(4 * np.pi * (at - phase))
    level = rng.uniform(0.2, 0.5, (ELEMENTS, 1)) * np.exp(0.4 * day)
    noise = np.zeros_like(level)
    for step in range(1, noise.shape[1]):
        noise[:, step] = 0.85 * noise[:, step - 1] + rng.normal(0, rng.uniform(0.05, 0.06), ELEMENTS)
    bursts = (rng.random(level.shape) < 0.004) * rng.exponential(0.5, level.shape)
    for step in range(1, bursts.shape[1]):
        bursts[:, step] += 0.7 * bursts[:, step - 1]
    return np.asarray(level * np.exp(noise) + bursts * level, np.float64)


def panel(values: np.ndarray, holdout_from: int) -> Panel:
    names = tuple(f"link-{index}" for index in range(len(values)))
    return Panel(names, (TASK.features[0].kpi,), values[..., None], 0, TASK.step_s, holdout_from)


@dataclass(frozen=True, slots=True)
class Domain:
    """What one domain trains on, what it is judged by at the end, and its data turned upside down."""

    known: Panel
    later: Panel
    flipped: Panel


def domain(seed: int) -> Domain:
    values = series(seed, 5)
    known = values[:, : 4 * DAY]
    upside = known.max(axis=1, keepdims=True) + known.min(axis=1, keepdims=True) - known
    return Domain(panel(known, 3 * DAY), panel(values, 4 * DAY), panel(upside, 3 * DAY))


class Poisoned:
    """The domains' processes, where bad ones send what they like."""

    def __init__(self, inner: InProcess, bad: Mapping[str, Change]) -> None:
        self._inner = inner
        self._bad = bad

    def domains(self) -> Sequence[str]:
        return self._inner.domains()

    def carry(self, name: str, message: bytes, timeout_s: float) -> Future[bytes]:
        reply = self._inner.carry(name, message, timeout_s)
        if name not in self._bad:
            return reply
        turned: Future[bytes] = Future()
        reply.add_done_callback(lambda done: turned.set_result(self._turn(name, message, done.result())))
        return turned

    def _turn(self, name: str, message: bytes, reply: bytes) -> bytes:
        asked, said = decode(message), decode(reply)
        if asked.metadata.message_type != "train" or said.has_error():
            return reply
        base = arrays_in(next(iter(asked.content.array_records.values())))
        made = arrays_in(next(iter(said.content.array_records.values())))
        metrics = MetricRecord(dict(said.content["metrics"]))
        content = RecordDict({"arrays": record_of(self._bad[name](base, made)), "metrics": metrics})
        return encode(Message(content, reply_to=asked))


def scaled(by: float) -> Change:
    return lambda base, made: {
        name: (base[name] + by * (made[name].astype(np.float64) - base[name])).astype(base[name].dtype)
        for name in base
    }


def same(_: Arrays, made: Arrays) -> Arrays:
    return made


ATTACKS: dict[str, Change] = {
    "nan": lambda base, _: {name: np.full_like(array, np.nan) for name, array in base.items()},
    "scale": scaled(-20.0),
    "sign": scaled(-1.0),
    "label": same,
}


def trained(
    strategy: Strategy | None, domains: Mapping[str, Domain], bad: Sequence[str], attack: str, task: Task
) -> tuple[Arrays, int]:
    """The model that comes of it, and how many rounds were accepted. None: the rival."""
    flipped = set(bad) if attack == "label" else set()
    apps = {
        name: client_app(_holding(one.flipped if name in flipped else one.known), domain=name)
        for name, one in domains.items()
    }
    with InProcess(apps) as inner:
        change = {name: ATTACKS[attack] for name in bad} if attack else {}
        grid = CarriedGrid(Poisoned(inner, change), f"{strategy}-{attack}-{task.seed}")
        if strategy is None:
            return plain(grid, task, len(domains)), task.rounds
        plan = Plan(
            deadline_s=300.0, aggregation=strategy.aggregation, tolerance=strategy.tolerance, explain=False
        )
        outcome = train(replace(task, profile=strategy.profile), grid, plan=plan)
        if strategy.tolerance == NO_GATE:
            return outcome.last, outcome.accepted
        return outcome.arrays, outcome.accepted


def _holding(held: Panel) -> Callable[[Task], Panel]:
    return lambda _: held


def plain(grid: CarriedGrid, task: Task, n: int) -> Arrays:
    """Flower's own loop and FedAvg, with nothing of ours behind the Grid."""
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_available_nodes=n)
    start = learner(task).initial(np.random.default_rng(task.seed))
    result = strategy.start(
        grid,
        record_of(start),
        num_rounds=task.rounds,
        timeout=300.0,
        train_config=ConfigRecord({"task": task.to_json()}),
    )
    return arrays_in(result.arrays) if result.arrays else start


def judged(arrays: Arrays, domains: Mapping[str, Domain], task: Task) -> dict[str, float]:
    """Mean over `domains` of the model's own loss, and of the best naive rival's, on the last day."""
    model = learner(task)
    with np.errstate(all="ignore"):
        said = [model.evaluate(arrays, one.later) for one in domains.values()]
    naive = {
        name: statistics.fmean(one[name] for one in said) for name in said[0] if name.startswith("naive:")
    }
    loss = statistics.fmean(one["raw"] for one in said)
    return {"loss": loss if math.isfinite(loss) else math.nan, "naive": min(naive.values())}


def measure(n: int, bad_ones: int, seeds: int, rounds: int) -> dict[str, Any]:
    """All strategies against all attacks with `n` domains."""
    losses: dict[str, dict[str, list[float]]] = {}
    accepted: dict[str, dict[str, list[int]]] = {}
    naive: list[float] = []
    for seed in range(seeds):
        task = replace(TASK, rounds=rounds, seed=seed)
        domains = {f"d{index}": domain(1000 * seed + index) for index in range(n)}
        bad = [f"d{index}" for index in range(n - bad_ones, n)]
        honest = {name: one for name, one in domains.items() if name not in bad}
        for strategy in strategies(n):
            name = strategy.name if strategy else RIVAL
            for attack in ("", *ATTACKS):
                arrays, rounds_accepted = trained(strategy, domains, bad if attack else [], attack, task)
                scores = judged(arrays, honest, task)
                losses.setdefault(name, {}).setdefault(attack or "none", []).append(scores["loss"])
                accepted.setdefault(name, {}).setdefault(attack or "none", []).append(rounds_accepted)
            naive.append(scores["naive"])
            said = {attack: round(of[-1], 4) for attack, of in losses[name].items()}
            print(f"{n} domains, seed {seed}: {name}: {said}", file=sys.stderr)
    first = statistics.fmean(
        judged(learner(TASK).initial(np.random.default_rng(seed)), domains, TASK)["loss"]
        for seed in range(seeds)
    )
    rows = {name: row(of, accepted[name]) for name, of in losses.items()}
    return {
        "domains": n,
        "bad": bad_ones,
        "untrained_loss": round(first, 4),
        "best_naive_loss": round(statistics.fmean(naive), 4),
        "strategies": rows,
    }


def row(of: Mapping[str, list[float]], accepted: Mapping[str, list[int]]) -> dict[str, Any]:
    """One strategy's losses by attack: mean, worst seed, and relative to nobody being bad, seed by seed."""
    clean = of["none"]
    cells: dict[str, Any] = {}
    for attack, losses in of.items():
        change = [loss / base - 1 for loss, base in zip(losses, clean, strict=True)]
        cells[attack] = {
            "loss": _rounded(statistics.fmean(losses)),
            "change": _rounded(statistics.fmean(change)),
            "worst_change": _rounded(max(change, key=lambda one: math.inf if math.isnan(one) else one)),
            "accepted_rounds": round(statistics.fmean(accepted[attack]), 1),
        }
    return cells


def _rounded(value: float) -> float | str:
    return round(value, 4) if math.isfinite(value) else "NaN"


def verdicts(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The worst mean change of the strategies that have a bar."""
    found: dict[str, Any] = {}
    for name, bar in BARS.items():
        changes = [
            cell["change"]
            for table in tables
            for attack, cell in table["strategies"].get(name, table["strategies"]["default"]).items()
            if attack != "none"
        ]
        worst = "NaN" if "NaN" in changes else max(changes)
        found[name] = {"worst_change": worst, "bar": bar, "met": worst != "NaN" and worst <= bar}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one seed, four rounds")
    options = parser.parse_args()
    seeds, rounds = (1, 4) if options.quick else (options.seeds, options.rounds)
    logging.basicConfig(level=logging.ERROR)  # what bad domains are refused for is what is measured here
    started = time.monotonic()
    tables = [measure(4, 1, seeds, rounds), measure(8, 2, seeds, rounds)]
    result = {
        "benchmark": "learning_poisoning",
        "quick": options.quick,
        "seeds": seeds,
        "rounds": rounds,
        "tables": tables,
        "bars": verdicts(tables),
        "took_s": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
