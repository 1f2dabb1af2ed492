"""Delay, variance and loss beside packet-level samples in the BNN-UPC format of 2021. Prints JSON.

The residual is fitted on the folders of --train alone; a folder of --test is only ever predicted. `pooled`
counts every flow of all test folders alike. Errors are in percent: of the measured value for delay and delay
variance (mean absolute percentage error), points of loss ratio for `loss_mae` (0.01 is one packet in 10,000).
A flow whose packets never arrive has no measured delay, one whose variance is not above the file's last digit
(1e-6) no variance: they count in the other figures. `intervals` holds the coverage of the 90 % intervals,
which are calibrated on training samples that were left out of the fit in turn.

`sampling_noise_delay_mape` is what remains of the error if the mean of the packets' distribution were known,
by the number of packets simulated: a lower bound, as delays of neighbouring packets are alike.

Rivals: M/M/1/K queues on the same loads in the same run; the figures of graph neural networks are quoted from
their authors (docs/benchmarks.md).

Without folders: those of the shared data in FEDTWIN_DATA.

    python -m benchmarks.datanet --train DIR [DIR ...] --test DIR [DIR ...] [--robust] [--quick] [--save FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domain_twin.errors import TwinError
from domain_twin.simulation.flows import FlowSolution, solve_flows
from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.laws.edges import compile_laws
from domain_twin.simulation.learned.features import Features, features_of
from domain_twin.simulation.learned.intervals import (
    Coverage,
    Intervals,
    Misses,
    Quantity,
    calibrate,
    misses_of,
)
from domain_twin.simulation.learned.residual import Evidence, Residual, correct, evidence_of, fit, fit_robust
from domain_twin.simulation.outside.bnn_upc import Sample, read_samples

AIMS = {
    "pooled delay_mape_residual": 1.2,
    "delay_mape of each folder": 2.2,
    "pooled delay_variance_mape_residual": 5.0,
}
FOLDS = 5
QUICK = 5  # samples a folder


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A sample, solved."""

    sample: Sample
    solution: FlowSolution
    features: Features

    @property
    def highest_load(self) -> FloatArray:
        """The highest utilisation on each flow's path, [F]."""
        flows = self.sample.flows
        return np.asarray(np.maximum.reduceat(self.solution.utilisation[flows.edges], flows.offsets[:-1]))


def cases(folder: Path, most: int | None) -> Iterator[Case]:
    """Read and solve a folder, sample by sample."""
    for index, sample in enumerate(read_samples(folder)):
        if most is not None and index >= most:
            return
        solution = solve_flows(sample.graph, sample.flows, compile_laws(sample.graph))
        if not solution.converged:
            print(f"{folder}: {sample.name} did not converge", file=sys.stderr)
        yield Case(sample, solution, features_of(sample.graph, sample.flows, solution))


def fitted(evidence: list[Evidence], robust: bool) -> Residual:
    """The residual of all of these samples."""
    if robust:
        return fit_robust(evidence)
    total = evidence[0].statistics()
    for part in evidence[1:]:
        total = total + part.statistics()
    return fit(total)


def corrected(case: Case, residual: Residual) -> tuple[FloatArray, FloatArray, int]:
    """Corrected delay and variance, and how many queues were outside of what was fitted."""
    found = correct(residual, case.sample.graph, case.sample.flows, case.solution, features=case.features)
    return found.delay_s, found.variance_s2, found.outside


def learn(training: list[Case], robust: bool) -> tuple[Residual, Intervals]:
    """Fit on all, and calibrate on each fold as the fit on the others predicts it."""
    evidence = [
        evidence_of(
            case.sample.graph, case.sample.flows, case.solution, case.sample.measured.delay_s,
            case.sample.measured.variance_s2, features=case.features,
        )
        for case in training
    ]  # fmt: skip
    misses = Misses({})
    folds = min(FOLDS, len(training))
    for fold in range(folds if folds > 1 else 0):
        others = [part for index, part in enumerate(evidence) if index % folds != fold]
        residual = fitted(others, robust)
        for case in training[fold::folds]:
            delay, variance, _ = corrected(case, residual)
            measured, load = case.sample.measured, case.highest_load
            misses = misses + misses_of(Quantity.DELAY, delay, measured.delay_s, load)
            misses = misses + misses_of(Quantity.VARIANCE, variance, measured.variance_s2, load)
            misses = misses + misses_of(Quantity.LOSS, case.solution.loss, measured.loss, load)
    return fitted(evidence, robust), calibrate(misses)


class Errors:
    """Sums of errors over flows; adds up over folders."""

    def __init__(self) -> None:
        self.flows = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def take(self, name: str, errors: FloatArray) -> None:
        seen = errors[np.isfinite(errors)]
        self.sums[name] = self.sums.get(name, 0.0) + float(seen.sum())
        self.counts[name] = self.counts.get(name, 0) + len(seen)

    def add(self, other: Errors) -> None:
        self.flows += other.flows
        for name, total in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def mean(self, name: str) -> float | None:
        count = self.counts.get(name, 0)
        return round(100.0 * self.sums[name] / count, 6) if count else None

    def figures(self) -> dict[str, Any]:
        names = (
            "delay_mape", "delay_mape_residual", "delay_variance_mape", "delay_variance_mape_residual",
            "loss_mae",
        )  # fmt: skip
        return {"flows": self.flows, **{name: self.mean(name) for name in names}}


def relative(found: FloatArray, measured: FloatArray) -> FloatArray:
    """Relative errors; NaN where nothing, or a plain 0, was measured."""
    known = np.where(measured > 0, measured, np.nan)
    return np.asarray(np.abs(found - known) / known)


def mm1k_delay(case: Case) -> FloatArray:
    """The rival: every link an M/M/1/K queue at the same load (Gross and Harris, 2.5), [F] seconds."""
    graph, flows = case.sample.graph, case.sample.flows
    room = graph.buffer + 1.0
    rho = np.clip(case.solution.utilisation, 1e-9, None)
    rho = np.where(np.abs(rho - 1.0) < 1e-6, 1.0 + 1e-6, rho)
    present = rho / (1.0 - rho) - (room + 1.0) * rho ** (room + 1.0) / (1.0 - rho ** (room + 1.0))
    lost = (1.0 - rho) * rho**room / (1.0 - rho ** (room + 1.0))
    service = case.solution.service_s[:, 0]
    sojourn = np.where(case.solution.utilisation > 0, present / (rho * (1.0 - lost)) * service, service)
    return np.asarray(np.add.reduceat(sojourn[flows.edges], flows.offsets[:-1]))


def judge(case: Case, residual: Residual, errors: Errors) -> tuple[FloatArray, FloatArray, int]:
    """Add a sample's errors; give the corrected figures."""
    measured, solution = case.sample.measured, case.solution
    delay, variance, outside = corrected(case, residual)
    errors.flows += case.sample.flows.count
    errors.take("delay_mape", relative(solution.delay_s, measured.delay_s))
    errors.take("delay_mape_residual", relative(delay, measured.delay_s))
    errors.take("delay_variance_mape", relative(solution.variance_s2, measured.variance_s2))
    errors.take("delay_variance_mape_residual", relative(variance, measured.variance_s2))
    errors.take("loss_mae", np.abs(solution.loss - measured.loss))
    # Mean absolute error of a mean of so many independent packets, even if it were predicted without error.
    packets = measured.packets_pps * measured.duration_s * (1.0 - measured.loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors.take("noise", np.sqrt(2 / np.pi * measured.variance_s2 / packets) / measured.delay_s)
    errors.take("mm1k", relative(mm1k_delay(case), measured.delay_s))
    return delay, variance, outside


def names_of(folders: list[Path]) -> list[str]:
    """As many trailing parts of each path as it takes to tell the folders apart."""
    resolved = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-parts:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    raise SystemExit("--test: a folder is named twice; its flows would count twice")


def refuse_overlap(training: list[Path], tests: list[Path]) -> None:
    """A test folder must not have been fitted on."""
    both = {folder.resolve() for folder in training} & {folder.resolve() for folder in tests}
    if both:
        raise SystemExit(f"--test: {sorted(both)[0]} is in --train as well; a test folder is never fitted on")


def within(parts: list[Coverage]) -> dict[str, Any]:
    """Coverage over several samples."""
    count = sum(part.count for part in parts)
    inside = sum(part.share * part.count for part in parts if part.count)
    return {"share": round(inside / count, 4) if count else None, "flows": count}


def run(
    training: list[Path], tests: list[Path], *, robust: bool, most: int | None, save: Path | None = None
) -> dict[str, Any]:
    """Fit, predict, compare."""
    names = names_of(tests)
    refuse_overlap(training, tests)
    started = time.process_time()
    learned = [case for folder in training for case in cases(folder, most)]
    residual, intervals = learn(learned, robust)
    if save is not None:
        residual.save(save)
    fitted_s = time.process_time() - started
    pooled, folders, rivals, outside = Errors(), {}, {}, 0
    covered: dict[str, list[Coverage]] = {quantity.value: [] for quantity in Quantity}
    for name, folder in zip(names, tests, strict=True):
        errors = Errors()
        for case in cases(folder, most):
            delay, variance, left = judge(case, residual, errors)
            outside += left
            measured, load = case.sample.measured, case.highest_load
            for quantity, found, truth in (
                (Quantity.DELAY, delay, measured.delay_s),
                (Quantity.VARIANCE, variance, measured.variance_s2),
                (Quantity.LOSS, case.solution.loss, measured.loss),
            ):
                covered[quantity.value].append(intervals.coverage(quantity, found, truth, load))
        folders[name] = errors.figures()
        rivals[name] = errors.mean("mm1k")
        pooled.add(errors)
    return {
        "benchmark": "datanet",
        "pooled": pooled.figures(),
        "folders": folders,
        "unit": "percent; loss_mae in percentage points of loss ratio",
        "trained_on": {"samples": len(learned), "flows": residual.flows, "residual": residual.digest[:16]},
        "queues_outside_training": outside,
        "intervals": {"level": intervals.level, **{name: within(parts) for name, parts in covered.items()}},
        "rival": {"mm1k_delay_mape": {"pooled": pooled.mean("mm1k"), "folders": rivals}},
        "sampling_noise_delay_mape": pooled.mean("noise"),
        "cpu_s": {"training": round(fitted_s, 2), "all": round(time.process_time() - started, 2)},
        "aims": AIMS,
    }


def default(name: str) -> list[Path]:
    """A folder of the shared data; none where FEDTWIN_DATA is not set."""
    place = os.environ.get("FEDTWIN_DATA")
    return [Path(place) / "bnn-upc-2021" / name] if place else []


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, nargs="+", metavar="DIR", default=default("train"))
    parser.add_argument(
        "--test", type=Path, nargs="+", metavar="DIR", default=default("validation-setting-1-50")
    )
    parser.add_argument(
        "--robust", action="store_true", help="fit least absolute misses instead of least squares"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} samples of each folder")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the fitted residual (JSON)")
    given = parser.parse_args()
    if not given.train or not given.test:
        raise SystemExit(
            "datanet: name folders with --train and --test, or set FEDTWIN_DATA to the shared data"
        )
    try:
        found = run(
            given.train, given.test, robust=given.robust, most=QUICK if given.quick else None, save=given.save
        )
    except TwinError as refused:
        raise SystemExit(f"datanet: {refused}") from None
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
