"""Synthetic telemetry: a federated GAN beside a block bootstrap and a Gaussian copula with AR(p).

Two data sets, each of three domains: Barcelona (LTE cells, 2 minutes; clock of the day) and UCC (5G radio
figures of a terminal, 1 s; a domain an application). The last 20 % in time of every domain are held out;
of the rest, a fifth in blocks is left out of all training, as outsiders of the membership attack. Every
generator makes as many rows. `start` is the generator without its nets: marginals and mixing of noise alone;
`real` is the training data. All settings were chosen on the training part of Barcelona, split once more.
Prints one JSON object. `--quick`: one seed, one short round, Barcelona.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain_twin.learning.fidelity import MEASURES, Fidelity, attacks, measure
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models.gan_start import own
from domain_twin.learning.panel import Panel
from domain_twin.learning.rivals import block_bootstrap, copula
from domain_twin.learning.synthetic import CLOCKS, generate
from domain_twin.learning.task import Feature, Kind, Task

AIMS = {"better_than_both_of_six": 4, "tstr_ratio": 1.10, "discriminative": 0.15, "membership_auc": 0.55}
ROWS = 20_000
BLOCK, EVERY = 72, 360
BARCELONA = {
    "rnti_count": "1", "rb_down": "1", "rb_up": "1", "down": "bit", "up": "bit", "mcs_down": "1",
    "mcs_down_var": "1", "mcs_up": "1", "mcs_up_var": "1", "rb_down_var": "1", "rb_up_var": "1",
}  # fmt: skip
UCC = {"RSRP": "dBm", "RSRQ": "dB", "SNR": "dB", "CQI": "1", "DL_bitrate": "kbit/s", "UL_bitrate": "kbit/s"}
Floats = NDArray[np.float64]


def barcelona(folder: Path) -> dict[str, Panel]:
    """The three sites; the published targets are forecast."""
    panels = {}
    for site in ("ElBorn", "LesCorts", "PobleSec"):
        table = pd.read_csv(folder / f"{site}.csv")
        values = table[list(BARCELONA)].to_numpy(float)
        start = int(pd.Timestamp(table["time"][0]).value)
        panels[site] = Panel((site,), tuple(BARCELONA), values[None], start, 120.0, int(len(values) * 0.8))
    return panels


def ucc(folder: Path) -> dict[str, Panel]:
    """Three applications; recordings one after the other in time, a gap between them."""
    parts: dict[str, list[tuple[str, Floats]]] = {}
    with zipfile.ZipFile(next(folder.glob("*.zip"))) as archive:
        for name in archive.namelist():
            if not name.endswith(".csv") or "__MACOSX" in name:
                continue
            table = pd.read_csv(io.BytesIO(archive.read(name)), na_values=["-"], low_memory=False)
            table = table.drop_duplicates("Timestamp", keep="last")
            figures = table[list(UCC)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
            gap = np.full((1, len(UCC)), np.nan)
            parts.setdefault(name.split("/")[1], []).append((Path(name).stem, np.concatenate([figures, gap])))
    panels = {}
    for application, recordings in sorted(parts.items()):
        values = np.concatenate([figures for _, figures in sorted(recordings, key=lambda pair: pair[0])])
        panels[application] = Panel((application,), tuple(UCC), values[None], 0, 1.0, int(len(values) * 0.8))
    return panels


def without_outsiders(panel: Panel) -> tuple[Panel, Floats]:
    """The panel that is trained on, and the blocks [N, BLOCK, F] that are left out of it."""
    values, blocks = panel.values.copy(), []
    for begin in range(EVERY - BLOCK, panel.holdout_from - BLOCK, EVERY):
        blocks.append(values[0, begin : begin + BLOCK].copy())
        values[:, begin : begin + BLOCK] = np.nan
    return replace(panel, values=values), np.stack(blocks)


def federated(task: Task, panels: Mapping[str, Panel], seed: int) -> Arrays:
    """Rounds of training in every domain, averaged by windows."""
    model = learner(task)
    arrays = model.initial(np.random.default_rng(seed))
    for number in range(task.rounds):
        done = [
            model.train(arrays, panel, np.random.default_rng([seed, number, place]))
            for place, panel in enumerate(panels.values())
        ]
        weights = np.array([each.samples for each in done], dtype=float)
        weights /= weights.sum()
        arrays = {
            name: np.tensordot(weights, np.stack([each.arrays[name] for each in done]), 1).astype(np.float32)
            for name in arrays
        }
        say(f"seed {seed} round {number}: {[round(each.metrics['loss'], 3) for each in done]}")
    return arrays


def trial(
    name: str, task: Task, panels: dict[str, Panel], targets: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """All generators on all domains, one seed: measures by generator and domain."""
    split = {domain: without_outsiders(panel) for domain, panel in panels.items()}
    trained_on = {domain: panel for domain, (panel, _) in split.items()}
    began = time.process_time()
    shared = federated(task, trained_on, seed)
    spent = time.process_time() - began
    found: dict[str, dict[str, Any]] = {}
    for place, (domain, (panel, outsiders)) in enumerate(split.items()):
        training, holdout = panel.training(), panel.values[:, panel.holdout_from :]
        rng = np.random.default_rng([seed, place, 99])
        mine, _ = own(shared, panel, CLOCKS[str(task.settings["clock"])], rng)
        begun = {**mine, "generator.out": np.zeros_like(mine["generator.out"])}
        start = panel.start + round(panel.holdout_from * panel.step_s * 1e9)

        series = {
            "gan": generate(mine, task, None, ROWS, rng, start=start).values,
            "start": generate(begun, task, None, ROWS, rng, start=start).values,
            "bootstrap": block_bootstrap(training, ROWS, rng)[None],
            "copula": copula(training, ROWS, rng)[None],
            "real": training,
        }
        for generator, made in series.items():
            got = measure(
                made, training, holdout, outsiders, targets=targets, seed=seed, features=panel.features
            )
            found.setdefault(generator, {})[domain] = {
                **asdict(got), "attacks": attacks(made, training, outsiders, seed=seed)[0]
            }  # fmt: skip
            say(f"{name} {seed} {domain} {generator}: { ({m: round(getattr(got, m), 4) for m in MEASURES}) }")
    return {"seed": seed, "training_cpu_s": round(spent, 1), "generators": found}


def mean_of(trials: list[dict[str, Any]], generator: str) -> Fidelity:
    """Means over seeds and domains; of the attacks, the one that is best in the mean."""
    rows = [row for each in trials for row in each["generators"][generator].values()]
    figures = {
        measured: float(np.mean([row[measured] for row in rows]))
        for measured in (*MEASURES, "neighbour_ratio")
    }
    figures["membership_auc"] = max(
        float(np.mean([row["attacks"][attack] for row in rows])) for attack in rows[0]["attacks"]
    )
    return Fidelity(**figures)


def verdict(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The table, and what is held of the aims."""
    table = {generator: mean_of(trials, generator) for generator in trials[0]["generators"]}
    gan = table["gan"]
    both = sorted(set(gan.better(table["bootstrap"])) & set(gan.better(table["copula"])))
    return {
        "table": {
            name: {m: round(v, 4) for m, v in asdict(row).items() if m != "by_feature"}
            for name, row in table.items()
        },
        "better_than_both": both,
        "met": {
            "better_than_both_of_six": len(both) >= AIMS["better_than_both_of_six"],
            **{
                name: getattr(gan, name) <= AIMS[name]
                for name in ("tstr_ratio", "discriminative", "membership_auc")
            },
        },
    }


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", choices=["barcelona", "ucc"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    asked = parser.parse_args()
    folder = os.environ.get("FEDTWIN_DATA")
    if not folder:
        sys.exit("FEDTWIN_DATA is not set: the folder that holds barcelona-lte and ucc-5g")
    seeds = [0] if asked.quick else [int(seed) for seed in asked.seeds.split(",")]
    settings: dict[str, float | str] = {"steps": 25 if asked.quick else asked.steps}
    rounds = 1 if asked.quick else asked.rounds
    out: dict[str, Any] = {"aims": AIMS, "seeds": seeds, "rows": ROWS}
    for name, read, units, step_s, clock, targets in (
        ("barcelona", barcelona, BARCELONA, 120.0, "day", (0, 1, 2, 3, 4)),
        ("ucc", ucc, UCC, 1.0, "none", (4, 5)),
    ):
        if (asked.only or name) != name or (asked.quick and name == "ucc"):
            continue
        panels = read(Path(folder) / ("barcelona-lte" if name == "barcelona" else "ucc-5g"))
        task = Task(
            f"synthetic-{name}",
            Kind.GAN,
            "cell",
            tuple(Feature(f"data:{kpi}", unit) for kpi, unit in units.items()),
            step_s=step_s,
            rounds=rounds,
            learning_rate=5e-4,
            settings={**settings, "clock": clock},
        )
        trials = [trial(name, task, panels, targets, seed) for seed in seeds]
        out[name] = {**verdict(trials), "trials": trials}
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
