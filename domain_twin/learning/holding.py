"""Readings that a device repeats until it measures anew. Owns how often, and repeating; no model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SHARE", "held", "shares", "unchanged"]

Floats = NDArray[np.float64]

LEAST_SHARE: Final = 0.1
"""Of repeated values: with fewer a KPI is taken to be measured at every step."""
_MOST: Final = 0.99
_TURNS: Final = 5


def unchanged(values: Floats) -> Floats:
    """[F]: of steps of [E, T, F] that are known as the one before is, the share with the same value."""
    both = np.isfinite(values[:, 1:]) & np.isfinite(values[:, :-1])
    same = (values[:, 1:] == values[:, :-1]) & both
    found: Floats = same.sum((0, 1)) / np.maximum(both.sum((0, 1)), 1)
    return found


def shares(wanted: Floats, made: Floats) -> Floats:
    """[F]: how often each KPI of `made` [T, F] is to be held, for `wanted` [F] of its steps to stay."""
    asked = wanted >= LEAST_SHARE
    found = np.zeros(len(wanted))
    for _ in range(_TURNS):
        reached = unchanged(held(made, found, np.random.default_rng(0))[None])
        found = np.clip(1 - (1 - found) * (1 - wanted) / np.maximum(1 - reached, 1e-3), 0, _MOST) * asked
    return found


def held(values: Floats, shares: NDArray[Any], rng: np.random.Generator) -> Floats:
    """`values` [T, F] of which each KPI stays as it was at a share of steps.

    The same steps for all, as far as shares go: a device measures its KPIs together.
    """
    if not np.any(shares):
        return values
    drawn = rng.random(len(values))[:, None]
    drawn[0] = 1.0
    taken = np.where(drawn < shares, 0, np.arange(len(values))[:, None])
    out: Floats = np.take_along_axis(values, np.maximum.accumulate(taken, axis=0), axis=0)
    return out
