"""A leaf's changes as a time series. Owns the meaning of a step; does no I/O.

A stored series holds changes only: a value is in force until the next one. So the value of a step is the mean
over the time in which it was known, not the mean of the changes in it. Where the value was not known (before
the first, after a deletion, within a gap) there is no sample; but what was imputed within a gap is one, and
says so. An interval of rolled-up history counts with
its mean, for as many seconds as its value was known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain_twin.datastore.encoding import ORIGINS
from domain_twin.model import Nanoseconds, Origin, Sample

_SECOND = 1_000_000_000
_IMPUTED = ORIGINS.index(Origin.IMPUTED)


@dataclass(frozen=True, slots=True)
class Points:
    """When which value came into force, by time; NaN: none is known from then on.

    `told` is False for the value that goes on after an interval: it is no news.
    """

    at: NDArray[np.int64]
    value: NDArray[np.float64]
    origin: NDArray[np.int64]
    told: NDArray[np.bool_]


def points_of(columns: Sequence[tuple[Nanoseconds, Mapping[str, Any]]]) -> Points:
    """The points of one leaf from rows of changes (width 0) and of intervals."""
    pieces: list[tuple[Any, Any, Any, Any, Any]] = []
    for width, rows in columns:
        n, at = rows["n"], rows["starts_at"].astype(np.int64)
        if width == 0:
            value = _filled(rows["number"])
            pieces.append((at, value, rows["origin"], n, np.ones(len(at), bool)))
            continue
        mean, last, known = _filled(rows["mean"]), _filled(rows["last"]), _filled(rows["known_s"])
        known_ns = np.round(known * _SECOND).astype(np.int64)
        pieces.append((at, mean, rows["origin"], n, np.ones(len(at), bool)))
        # Where less than the interval is known, a hole of that length stands at its end.
        short = known_ns < width
        nothing = np.full(int(short.sum()), np.nan)
        pieces.append(
            ((at + known_ns)[short], nothing, rows["origin"][short], n[short], np.zeros(len(nothing), bool))
        )
        pieces.append((at + width, last, rows["last_origin"], n, np.zeros(len(at), bool)))
    at, value, origin, n, told = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    order = np.lexsort((n, told, at))  # at one time: what goes on first, what is told after it
    return Points(at[order], value[order], origin[order].astype(np.int64), told[order])


def split(
    columns: Sequence[tuple[Nanoseconds, Mapping[str, Any]]], leaves: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], list[tuple[Nanoseconds, Mapping[str, Any]]]]]:
    """The rows of each leaf."""
    if len(leaves) == 1:
        yield leaves[0], list(columns)
        return
    number = {leaf: i for i, leaf in enumerate(leaves)}
    parts = []
    for width, rows in columns:
        own = np.array(
            [number[leaf] for leaf in zip(rows["device"], rows["path"], strict=True)], dtype=np.int64
        )
        order = np.argsort(own, kind="stable")
        ends = np.searchsorted(own[order], np.arange(len(leaves) + 1))
        parts.append((width, rows, order, ends))
    for leaf, i in number.items():
        yield (
            leaf,
            [
                (width, {name: column[order[ends[i] : ends[i + 1]]] for name, column in rows.items()})
                for width, rows, order, ends in parts
            ],
        )


def changes_between(points: Points, start: Nanoseconds, end: Nanoseconds) -> list[Sample]:
    """The value in force at `start`, then every change until `end`."""
    first = int(np.searchsorted(points.at, start, side="right"))
    last = int(np.searchsorted(points.at, end, side="right"))
    samples = []
    if first and not np.isnan(points.value[first - 1]):
        samples.append(Sample(start, float(points.value[first - 1]), ORIGINS[points.origin[first - 1]]))
    for i in range(first, last):
        if points.told[i] and not np.isnan(points.value[i]):
            samples.append(Sample(int(points.at[i]), float(points.value[i]), ORIGINS[points.origin[i]]))
    return samples


def step_means(
    points: Points,
    gaps: Sequence[tuple[Nanoseconds, Nanoseconds]],
    start: Nanoseconds,
    end: Nanoseconds,
    step_ns: Nanoseconds,
) -> list[Sample]:
    """The mean of the value in force over each step of [start, end), at the step's beginning.

    A step that rests on several origins has the least certain one (the last in the order of `Origin`).
    """
    count = -(-(end - start) // step_ns)
    inside = int(np.searchsorted(points.at, end, side="left"))
    if count <= 0 or not inside:
        return []
    # Seconds relative to `start`: doubles keep nanoseconds of a year to a tenth of a microsecond.
    starts = (points.at[:inside] - start) / 1e9
    values, origins = points.value[:inside], points.origin[:inside]
    edges = np.minimum(np.arange(count + 1) * (step_ns / 1e9), (end - start) / 1e9)
    holes = (
        np.array([[low - start, high - start] for low, high in gaps], dtype=np.float64).reshape(-1, 2) / 1e9
    )
    times = np.unique(np.clip(np.concatenate([starts, edges, holes.ravel(), np.zeros(1)]), 0.0, edges[-1]))
    which = np.searchsorted(starts, times[:-1], side="right") - 1  # the point in force in each piece
    held = np.where(which >= 0, values[np.maximum(which, 0)], np.nan)
    standing_in = (which >= 0) & (origins[np.maximum(which, 0)] == _IMPUTED)
    begun = starts[np.maximum(which, 0)]
    for low, high in holes:
        span = slice(np.searchsorted(times[:-1], low), np.searchsorted(times[:-1], high))
        held[span] = np.where(standing_in[span] & (begun[span] >= low), held[span], np.nan)
    known = np.where(np.isnan(held), 0.0, np.diff(times))
    step_of = np.clip(np.searchsorted(edges, times[:-1], side="right") - 1, 0, count - 1)
    weight = np.bincount(step_of, weights=known, minlength=count)
    total = np.bincount(step_of, weights=np.where(known > 0, held, 0.0) * known, minlength=count)
    doubt = np.zeros(count, dtype=np.int64)
    ranks = np.array([list(Origin).index(origin) for origin in ORIGINS])[origins]
    np.maximum.at(doubt, step_of, np.where(known > 0, ranks[np.maximum(which, 0)], 0))
    order = list(Origin)
    return [
        Sample(start + i * step_ns, float(total[i] / weight[i]), order[doubt[i]])
        for i in np.flatnonzero(weight > 0).tolist()
    ]


def _filled(column: Any) -> NDArray[np.float64]:
    """A column of numbers in which what is missing is NaN."""
    return np.asarray(np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan))
