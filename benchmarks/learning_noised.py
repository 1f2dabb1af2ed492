"""What noise costs a generator of three domains under `private`, beside the one that is made without any.

What each domain of a data set (Barcelona, UCC; as in `learning_synthetic`) tells of all its history is
averaged, as secure aggregation does, and 20,000 rows are drawn. `rows` has distances to rows of the generator
without noise; `none` is another draw of that one: what remains without noise. Means of three seeds. Epsilon
is of one training at delta 1e-5. Prints one JSON object; every row as it comes on stderr.

    FEDTWIN_DATA=DIR python -m benchmarks.learning_noised [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_synthetic import BARCELONA, UCC, barcelona, ucc
from domain_twin.learning.fidelity import quick
from domain_twin.learning.learner import Arrays
from domain_twin.learning.models.gan_noised import NoisedGenerator
from domain_twin.learning.panel import Panel
from domain_twin.learning.synthetic import generate
from domain_twin.learning.task import Feature, Kind, Privacy, Profile, Task

ROWS = 20_000
NOISES = (1.3, 4.3, 20.0)
NEXT_TO_NONE = 1e-6
SEEDS = (1, 2, 3)
Floats = NDArray[np.float64]
Data = tuple[Callable[[Path], dict[str, Panel]], Mapping[str, str], float, str, str]
DATA: dict[str, Data] = {
    "barcelona": (barcelona, BARCELONA, 120.0, "day", "barcelona-lte"),
    "ucc": (ucc, UCC, 1.0, "none", "ucc-5g"),
}


def task_of(units: Mapping[str, str], step_s: float, clock: str, noise: float) -> Task:
    """A generator under `private`."""
    features = tuple(Feature(f"data:{name}", unit) for name, unit in units.items())
    return Task(
        "telemetry", Kind.GAN, "cell", features, step_s=step_s, rounds=1, profile=Profile.PRIVATE,
        privacy=Privacy(noise_multiplier=noise), settings={"clock": clock},
    )  # fmt: skip


def together(made: NoisedGenerator, panels: Mapping[str, Panel], noise: float, seed: int) -> Arrays:
    """The model that the mean of what all tell makes, with a noise that a task would not let pass as well."""
    made.noise = noise
    told = [made.told(panel, np.random.default_rng([seed, at])) for at, panel in enumerate(panels.values())]
    return made.of({name: np.mean([one[name] for one in told], axis=0) for name in told[0]})


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="Barcelona, one seed, one noise")
    given = parser.parse_args()
    if "FEDTWIN_DATA" not in os.environ:
        parser.error("set FEDTWIN_DATA to the folder that has barcelona-lte/ and ucc-5g/")
    root = Path(os.environ["FEDTWIN_DATA"])
    seeds, noises = (SEEDS[:1], NOISES[1:2]) if given.quick else (SEEDS, NOISES)
    found = {}
    for name, (read, units, step_s, clock, folder) in list(DATA.items())[: 1 if given.quick else None]:
        panels = read(root / folder)
        task = task_of(units, step_s, clock, noises[0])
        made = NoisedGenerator(task)

        def drawn(noise: float, seed: int, draw: int) -> Floats:
            arrays = together(made, panels, noise, seed)  # noqa: B023 - used before the next turn
            return generate(arrays, task, None, ROWS, np.random.default_rng(draw)).values  # noqa: B023

        plain = drawn(NEXT_TO_NONE, 0, 0)
        rows: dict[str, dict[str, float]] = {}
        for noise in (NEXT_TO_NONE, *noises):
            values = [quick(drawn(noise, seed, seed), plain) for seed in seeds]
            row = {key: round(float(np.mean([one[key] for one in values])), 4) for key in values[0]}
            if noise != NEXT_TO_NONE:
                row["epsilon"] = round(NoisedGenerator(task_of(units, step_s, clock, noise)).epsilon, 2)
            rows["none" if noise == NEXT_TO_NONE else f"{noise:g}"] = row
            sys.stderr.write(f"{name} {json.dumps(row)}\n")
        found[name] = {"steps": {domain: panel.steps for domain, panel in panels.items()}, "rows": rows}
    sys.stdout.write(json.dumps({"seeds": seeds, "data": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
