"""A leaf's changes as a time series. Owns the meaning of a step; does no I/O.

A stored series holds changes only: a value is in force until the next one. So the value of a step is the mean
over the time in which it was known, not the mean of the changes in it. Where the value was not known (before
the first, after a deletion, within a gap) there is no sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domain_twin.model import Nanoseconds, Origin, Sample

Point = tuple[Nanoseconds, float | None, Origin]
"""When a value came into force; None: the leaf ceased to exist."""


def changes_between(points: Sequence[Point], start: Nanoseconds, end: Nanoseconds) -> list[Sample]:
    """The value in force at `start`, then every change until `end`."""
    samples: list[Sample] = []
    before: Sample | None = None
    for at, value, origin in points:
        if at <= start:
            before = None if value is None else Sample(start, value, origin)
        elif at <= end and value is not None:
            samples.append(Sample(at, value, origin))
    return samples if before is None else [before, *samples]


def step_means(
    points: Sequence[Point],
    gaps: Sequence[tuple[Nanoseconds, Nanoseconds]],
    start: Nanoseconds,
    end: Nanoseconds,
    step_ns: Nanoseconds,
) -> list[Sample]:
    """The mean of the value in force over each step of [start, end), at the step's beginning.

    A step that rests on several origins has the least certain one (the last in the order of `Origin`).
    """
    count = -(-(end - start) // step_ns)
    inside = [point for point in points if point[0] < end]
    if count <= 0 or not inside:
        return []
    # Seconds relative to `start`: doubles keep nanoseconds of a year to a tenth of a microsecond.
    starts = _relative([at for at, _, _ in inside], start)
    edges = np.minimum(np.arange(count + 1) * (step_ns / 1e9), (end - start) / 1e9)
    cuts = {0.0, float(edges[-1])}
    for hole in gaps:
        cuts.update(np.clip(_relative(hole, start), 0.0, edges[-1]).tolist())
    times = np.unique(np.concatenate([np.clip(starts, 0.0, edges[-1]), edges, np.fromiter(cuts, float)]))
    which = np.searchsorted(starts, times[:-1], side="right") - 1  # the point in force in each piece
    values = np.array([np.nan if value is None else value for _, value, _ in inside])
    held = np.where(which >= 0, values[np.maximum(which, 0)], np.nan)
    for first, last in gaps:
        low, high = _relative((first, last), start)
        held[(times[:-1] >= low) & (times[:-1] < high)] = np.nan
    known = np.where(np.isnan(held), 0.0, np.diff(times))
    step_of = np.clip(np.searchsorted(edges, times[:-1], side="right") - 1, 0, count - 1)
    weight = np.bincount(step_of, weights=known, minlength=count)
    total = np.bincount(step_of, weights=np.where(known > 0, held, 0.0) * known, minlength=count)
    doubt = np.zeros(count, dtype=np.int64)
    order = list(Origin)
    ranks = np.array([order.index(origin) for _, _, origin in inside])
    np.maximum.at(doubt, step_of, np.where(known > 0, ranks[np.maximum(which, 0)], 0))
    return [
        Sample(start + int(i) * step_ns, float(total[i] / weight[i]), order[doubt[i]])
        for i in np.flatnonzero(weight > 0)
    ]


def _relative(times: Sequence[Nanoseconds], start: Nanoseconds) -> NDArray[np.float64]:
    return np.array([(at - start) / 1e9 for at in times], dtype=np.float64)
