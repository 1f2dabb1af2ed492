"""Any CSV file with a column of time as a panel of one element. Owns reading and resampling; no scaling."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task

__all__ = ["panel_of", "read_csv", "resample"]

Floats = NDArray[np.float64]

_MOST_CELLS: Final = 20_000_000
"""Elements times steps times features: 160 MB of doubles."""
_LATEST_S: Final = 9e9
"""Seconds since 1970 that nanoseconds in 64 bits hold, as a whole number: the year 2255."""


def panel_of(task: Task, files: Sequence[Path], *, time: str = "time", delimiter: str = ",") -> Panel:
    """The panel of `task` that `files` make: an element a file, named by it, columns named by the KPIs.

    Columns are called by the task's terms, or by their local names. Raises ConfigError, which names file,
    line and column.
    """
    wanted = [feature.kpi for feature in task.features]
    series = [read_csv(path, wanted, time=time, delimiter=delimiter) for path in files]
    if not series:
        raise ConfigError("no CSV file is given")
    step = round(task.step_s * 1e9)
    start = min(int(times[0]) for times, _ in series) // step * step
    end = max(int(times[-1]) for times, _ in series) // step * step + step
    steps = (end - start) // step
    if len(series) * steps * len(wanted) > _MOST_CELLS:
        raise ConfigError(
            f"{files[0]} and what else is given span {steps} steps of {task.step_s:g} s, more than"
            f" {_MOST_CELLS} values: take a longer step, or files of nearer times"
        )
    values = np.stack([resample(times, rows, start, step, steps) for times, rows in series])
    holdout = values.shape[1] - round(values.shape[1] * task.holdout)
    return Panel(tuple(path.stem for path in files), tuple(wanted), values, start, task.step_s, holdout)


def read_csv(
    path: Path, columns: Sequence[str], *, time: str = "time", delimiter: str = ","
) -> tuple[NDArray[np.int64], Floats]:
    """Times (ns since 1970, rising) and values [T, F] of `columns`; empty cells are NaN."""
    times: list[int] = []
    rows: list[list[float]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, None)
            if header is None:
                raise ConfigError(f"{path}: empty")
            at, picks = _columns(path, header, time, columns)
            for line in _lines(reader):
                if len(line) != len(header):
                    raise ConfigError(
                        f"{path}, line {reader.line_num}: {len(line)} cells, the header has {len(header)}"
                    )
                times.append(_time(path, reader.line_num, line[at]))
                rows.append([_number(path, reader.line_num, name, line[i]) for name, i in picks])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not times:
        raise ConfigError(f"{path}: no row beneath the header")
    order = np.argsort(np.array(times), kind="stable")
    return np.array(times, np.int64)[order], np.array(rows, np.float64)[order]


def resample(times: NDArray[np.int64], values: Floats, start: int, step: int, steps: int) -> Floats:
    """[steps, F]: mean of what is known within each step from `start` on (ns); NaN where nothing is."""
    slots = (times - start) // step
    inside = (slots >= 0) & (slots < steps)
    sums, counts = np.zeros((steps, values.shape[1])), np.zeros((steps, values.shape[1]))
    known = np.isfinite(values)
    np.add.at(sums, slots[inside], np.where(known, values, 0)[inside])
    np.add.at(counts, slots[inside], known[inside])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _columns(
    path: Path, header: Sequence[str], time: str, columns: Sequence[str]
) -> tuple[int, list[tuple[str, int]]]:
    places = {name.strip(): i for i, name in enumerate(header)}
    if time not in places:
        raise ConfigError(f"{path}, line 1: no column {time!r} for the time; there are {', '.join(places)}")
    picks = []
    for column in columns:
        name = column if column in places else column.rpartition(":")[2]
        if name not in places:
            raise ConfigError(f"{path}, line 1: no column {column!r}; there are {', '.join(places)}")
        picks.append((name, places[name]))
    return places[time], picks


def _lines(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    for line in reader:
        if line:
            yield line


def _time(path: Path, line: int, text: str) -> int:
    """ISO 8601 (UTC where it does not say) or seconds since 1970, as ns."""
    try:
        at = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
            at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            at = math.nan
    if not abs(at) < _LATEST_S:
        raise ConfigError(f"{path}, line {line}: {text!r} is no time; ISO 8601 or seconds since 1970")
    return round(at * 1e9)


def _number(path: Path, line: int, column: str, text: str) -> float:
    if not text.strip() or text.strip().lower() in {"nan", "null", "none", "na"}:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{path}, line {line}, column {column!r}: {text!r} is no number") from None
    if math.isinf(value):
        raise ConfigError(f"{path}, line {line}, column {column!r}: {text!r} is not finite")
    return value
