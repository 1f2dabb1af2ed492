"""Filling gaps in the KPIs of three LTE base stations, by a VAE that they train together.

Each site is a domain; what it learned alone is beside what they learned together. Trained on the first 80 %
of each file (of that, gates and intervals are chosen on the last fifth), judged on the last 20 %. Values are
hidden in three ways, and twice more with nothing known afterwards, as in a live gap. Errors are mean absolute
ones on each site's own scale, asinh(x / median) / deviation; `raw` says the same in units of the KPIs'
deviations. Prints one JSON object.

    FEDTWIN_DATA=... python -m benchmarks.learning_gaps [--quick] [--seeds 3] [--rounds 12]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.csv_data import panel_of
from domain_twin.learning.gaps import Filler
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.missing import from_z, linear_fill, relax, windows_of
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Kind, Profile, Task
from domain_twin.learning.windows import local_scale

AIMS = {"worse_than_linear": 0.0, "partial_gain": 0.20, "coverage": [0.85, 0.95]}
SITES = ("ElBorn", "LesCorts", "PobleSec")
_MCS = ("mcs_down", "mcs_down_var", "mcs_up", "mcs_up_var")
KPIS = ("down", "up", "rnti_count", *_MCS, "rb_down", "rb_down_var", "rb_up", "rb_up_var")
LAGS, GAP = 30, 10  # steps of two minutes
EVERY = 7

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with ElBorn.csv, LesCorts.csv, PobleSec.csv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one seed, three rounds")
    options = parser.parse_args()
    folder = options.data or Path(_data()) / "barcelona-lte"
    seeds, rounds = (1, 3) if options.quick else (options.seeds, options.rounds)
    task = Task(
        "gaps",
        kind=Kind.VAE,
        element_kind="cell",
        features=tuple(Feature(f"lte:{name}", "1") for name in KPIS),
        step_s=120.0,
        lags=LAGS,
        rounds=rounds,
        learning_rate=2e-3,
        profile=Profile.TRUSTED,
    )
    panels = {site: panel_of(task, [folder / f"{site}.csv"]) for site in SITES}
    began = time.perf_counter()
    runs = [_run(task, panels, seed) for seed in range(seeds)]
    print(json.dumps(_report(runs, rounds, time.perf_counter() - began), indent=2))


def _data() -> str:
    if folder := os.environ.get("FEDTWIN_DATA"):
        return folder
    sys.exit("FEDTWIN_DATA is not set: name the folder of public data sets, or give --data")


def _run(task: Task, panels: Mapping[str, Panel], seed: int) -> dict[str, Any]:
    """Errors by pattern, site and row, of one seed."""
    together = _trained(task, panels, seed)
    found: dict[str, Any] = {}
    for number, (site, panel) in enumerate(panels.items()):
        alone = _trained(task, {site: panel}, seed)
        for pattern, mask in _PATTERNS.items():
            rng = np.random.default_rng([seed, number])
            found.setdefault(pattern, {})[site] = _judged(task, panel, (mask, rng), (together, alone))
    return found


def _trained(task: Task, panels: Mapping[str, Panel], seed: int) -> Arrays:
    """Rounds of averaging, as the profile `trusted` does."""
    model: Any = learner(task)
    arrays: Arrays = model.initial(np.random.default_rng(seed))
    arrays = model.standardised(arrays, [model.statistics(panel) for panel in panels.values()])
    for number in range(task.rounds):
        rng = np.random.default_rng([seed, number])
        said = [model.train(arrays, panel, rng) for panel in panels.values()]
        whole = sum(one.samples for one in said)
        arrays = {
            name: sum((one.arrays[name] * (one.samples / whole) for one in said), np.zeros(())).astype(
                arrays[name].dtype
            )
            for name in arrays
        }
    return arrays


def _judged(
    task: Task,
    panel: Panel,
    hiding: tuple[Callable[[int, np.random.Generator], Bools], np.random.Generator],
    models: tuple[Arrays, Arrays],
) -> dict[str, float]:
    """Errors of hidden values of the last 20 %, by row, and how often intervals hold them."""
    (mask, rng), (together, alone) = hiding, models
    scale = local_scale(panel.training())
    raw = windows_of(panel.values[:, panel.holdout_from :], LAGS, every=EVERY)
    raw = raw[np.isfinite(raw).all((1, 2))]
    known = mask(len(raw), rng)
    z = scale.to_z(raw.reshape(1, -1, raw.shape[2])).reshape(raw.shape)
    hidden = ~known
    rows: dict[str, Floats] = {
        "linear": linear_fill(z, known),
        "window mean": np.broadcast_to(
            (np.where(known, z, 0).sum(1) / np.maximum(1, known.sum(1)))[:, None], z.shape
        ),
        "gaussian": relax(z, known, together["moments.mean"], together["moments.second"]),
    }
    cover = {}
    for name, arrays in (("together", together), ("alone", alone)):
        filler = Filler.of(task, arrays, panel)
        value, low, high = _filled(filler, panel, raw, known)
        rows[name] = scale.to_z(value.reshape(1, -1, raw.shape[2])).reshape(raw.shape)
        cover[name] = float(((raw >= low) & (raw <= high))[hidden].mean())
    deviation = np.nanstd(panel.training(), axis=1)[0]
    found = {name: float(np.abs(guess - z)[hidden].mean()) for name, guess in rows.items()}
    for name in ("linear", "together"):
        guess = rows[name]
        units = from_z(scale, guess, 0)
        found[f"raw {name}"] = float((np.abs(units - raw) / deviation)[hidden].mean())
    straight = linear_fill(raw, known)
    found["raw straight"] = float((np.abs(straight - raw) / deviation)[hidden].mean())
    return found | {"coverage": cover["together"], "coverage alone": cover["alone"]}


def _filled(filler: Filler, panel: Panel, raw: Floats, known: Bools) -> tuple[Floats, Floats, Floats]:
    """Each window filled by itself, in the KPIs' units."""
    parts = []
    for window, there in zip(raw, known, strict=True):
        seen = np.where(there, window, np.nan)[None]
        made = filler.fill(Panel(panel.elements, panel.features, seen, 0, panel.step_s, len(window)))
        parts.append((made.values[0], made.low[0], made.high[0]))
    value, low, high = (np.stack(column) for column in zip(*parts, strict=True))
    return value, low, high


def _points(count: int, rng: np.random.Generator) -> Bools:
    return rng.random((count, LAGS, len(KPIS))) > 0.2


def _block(lost: int, *, live: bool = False) -> Callable[[int, np.random.Generator], Bools]:
    """A gap of 20 minutes in so many KPIs; `live`: up to the end of the window."""

    def mask(count: int, rng: np.random.Generator) -> Bools:
        known = np.ones((count, LAGS, len(KPIS)), bool)
        for row in known:
            start = LAGS - GAP if live else int(rng.integers(5, LAGS - GAP - 5 + 1))
            row[start : start + GAP, rng.choice(len(KPIS), lost, replace=False)] = False
        return known

    return mask


_PATTERNS: dict[str, Callable[[int, np.random.Generator], Bools]] = {
    "20 % random points": _points,
    "20-min outage, all KPIs": _block(len(KPIS)),
    "20-min gap, 3 of 11 KPIs": _block(3),
    "live: all KPIs, 20 min": _block(len(KPIS), live=True),
    "live: 3 of 11 KPIs, 20 min": _block(3, live=True),
}


def _report(runs: list[dict[str, Any]], rounds: int, took_s: float) -> dict[str, Any]:
    patterns: dict[str, Any] = {}
    for pattern in _PATTERNS:
        sites = {
            site: {name: _mean([run[pattern][site][name] for run in runs]) for name in runs[0][pattern][site]}
            for site in SITES
        }
        mean = {name: _mean([row[name] for row in sites.values()]) for name in sites[SITES[0]]}
        gains = [
            1
            - _mean([run[pattern][site]["together"] for site in SITES])
            / _mean([run[pattern][site]["linear"] for site in SITES])
            for run in runs
        ]
        worst = max(row["together"] / row["linear"] - 1 for row in sites.values())
        patterns[pattern] = {
            "mean": mean,
            "gain": _mean(gains),
            "gain_spread": round(float(np.std(gains)), 4),
            "worst_site": round(worst, 4),
            "sites": sites,
        }
    asked = list(_PATTERNS)[:3]
    reached = {
        "never_worse_than_linear": all(patterns[name]["worst_site"] <= 0.0 for name in _PATTERNS),
        "partial_gain": patterns[asked[2]]["gain"] >= AIMS["partial_gain"],
        "coverage": all(0.85 <= patterns[name]["mean"]["coverage"] <= 0.95 for name in asked),
    }
    return {
        "seeds": len(runs),
        "rounds": rounds,
        "patterns": patterns,
        "aims": AIMS,
        "reached": reached,
        "took_s": round(took_s, 1),
    }


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    main()
