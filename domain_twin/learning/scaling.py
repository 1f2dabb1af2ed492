"""An element's own scale: what makes figures of a rural cell and of a trunk alike to a model.

Computed where the data is, from the training part, and never sent: a model of all domains works on it, so
that its arrays need hold nothing of anybody's level or size. Owns no windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale", "local_scale"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """One domain's own scale, each [E, F]: z = (asinh(x / unit) - centre) / spread."""

    unit: Floats
    centre: Floats
    spread: Floats

    def to_z(self, values: Floats) -> Floats:
        """`values` [E, T, F] in units of the features as z."""
        z: Floats = np.arcsinh(values / self.unit[:, None])
        return (z - self.centre[:, None]) / self.spread[:, None]


def local_scale(values: Floats) -> Scale:
    """The scale that fits `values` [E, T, F]; of what was never known, or never changed, a neutral one."""
    known = np.isfinite(values)
    sizes = np.where(known & (values != 0), np.abs(values), np.nan)
    unit = _nan_median(sizes, fallback=1.0)
    z = np.where(known, np.arcsinh(np.where(known, values, 0) / unit[:, None]), 0.0)
    counts = known.sum(axis=1)
    centre = z.sum(axis=1) / np.maximum(counts, 1)
    squares = np.where(known, (z - centre[:, None]) ** 2, 0).sum(axis=1) / np.maximum(counts, 1)
    spread = np.sqrt(squares)
    return Scale(unit, centre, np.where(spread > 1e-6, spread, 1.0))


def _nan_median(values: Floats, fallback: float) -> Floats:
    """Median along axis 1 of what is known; `fallback` where nothing is."""
    if not values.shape[1]:
        return np.full((values.shape[0], values.shape[2]), fallback)
    ordered = np.sort(values, axis=1)
    counts = np.isfinite(ordered).sum(axis=1)
    middle = np.clip((counts - 1) // 2, 0, None)
    median = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    found: Floats = np.where(counts > 0, median, fallback)
    return found
