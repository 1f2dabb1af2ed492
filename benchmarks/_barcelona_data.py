"""Three base stations' files as series on one grid of time, and the measures of the published notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.csv_data import read_csv, resample
from domain_twin.learning.panel import Panel

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SITES = ("ElBorn", "LesCorts", "PobleSec")
TARGETS = ("rnti_count", "rb_down", "rb_up", "down", "up")
COLUMNS = (
    *("down", "up", "rnti_count", "mcs_down", "mcs_down_var", "mcs_up", "mcs_up_var"),
    *("rb_down", "rb_down_var", "rb_up", "rb_up_var"),
)
PICKS = np.array([COLUMNS.index(target) for target in TARGETS])
MEASURED = (TARGETS.index("down"), TARGETS.index("up"))
LAGS = 10
STEP_S = 120.0
_STEP = round(STEP_S * 1e9)
_DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Site:
    """One base station: `values` [T, 11] on a grid, `split` its first step to be judged.

    `rows` are the steps that are judged: they have a row, and ten before them that are judged on too.
    """

    name: str
    start: int
    values: Floats
    split: int
    rows: Indices

    @property
    def truth(self) -> Floats:
        """[n, 5]: what is to be foretold."""
        return self.values[self.rows][:, PICKS]

    def panel(self, holdout_from: int) -> Panel:
        """The whole series: for forecasts, which read the past only."""
        return Panel((self.name,), COLUMNS, self.values[None], self.start, STEP_S, holdout_from)

    def training(self, holdout: float) -> Panel:
        """The part before the split, its last `holdout` share set apart; the rest is not in it."""
        return Panel(
            (self.name,), COLUMNS, self.values[None, : self.split], self.start, STEP_S, self.cut(holdout)
        )

    def cut(self, holdout: float) -> int:
        """The first step of the training part's last share."""
        return round(self.split * (1 - holdout))

    def inner(self, begin: float, end: float) -> Site:
        """A split within the training part: judged from share `begin` to `end` of it."""
        first, last = round(self.split * begin), round(self.split * end)
        rows = np.arange(first + LAGS, last)
        fine = np.isfinite(self.values[rows]).all(axis=1)
        return Site(self.name, self.start, self.values[:last], first, rows[fine])


def load(folder: Path, test: Path | None) -> list[Site]:
    """The sites; without `test`, the last 20 % of every file are judged."""
    return [_site(name, folder / f"{name}.csv", _test_file(test, name) if test else None) for name in SITES]


def measures(truth: Floats, made: Floats) -> tuple[float, float]:
    """NRMSE, mean over down and up of RMSE beside the mean; MAE, mean over the five targets."""
    errors = made - truth
    relative = np.sqrt((errors**2).mean(axis=0)) / truth.mean(axis=0)
    return float(relative[list(MEASURED)].mean()), float(np.abs(errors).mean())


def _site(name: str, train: Path, test: Path | None) -> Site:
    times, values = read_csv(train, COLUMNS)
    # Where nothing was carried, shares and coding are empty: the notebook takes them for zero.
    values = np.nan_to_num(values)
    start = int(times[0])
    if test is None:
        grid = _grid(times, values, start)
        known = np.flatnonzero(np.isfinite(grid).all(axis=1))
        first = int(len(known) * 0.8)
        return Site(name, start, grid, int(known[first]), known[first + LAGS :])
    later, more = read_csv(test, COLUMNS)
    if later[0] <= times[-1]:
        raise SystemExit(f"{test}: begins before {train} ends")
    end = int(times[-1]) + _STEP
    # After a long silence the clock goes on, and the series is not stretched by it.
    later = later - max(0, (int(later[0]) - end) // _DAY - 7) * _DAY
    grid = _grid(np.concatenate([times, later]), np.concatenate([values, np.nan_to_num(more)]), start)
    slots = (later - start) // _STEP
    return Site(name, start, grid, int((end - start) // _STEP), slots[LAGS:].astype(np.intp))


def _grid(times: NDArray[np.int64], values: Floats, start: int) -> Floats:
    return resample(times, values, start, _STEP, int((times[-1] - start) // _STEP) + 1)


def _test_file(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}_test.csv", folder / f"{name}.csv"):
        if candidate.exists():
            return candidate
    raise SystemExit(f"{folder}: neither {name}_test.csv nor {name}.csv is there")
