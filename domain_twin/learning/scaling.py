"""One scale for all domains without anybody's data: counts in fixed bins of size, added up.

Owns the sketch and what is read from it. Bins are the same everywhere (within 2 % of a value's size), so
counts add (under secure aggregation too), and no value, not even the smallest or largest, leaves a domain as
it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ContractError

__all__ = ["Sketch"]

Floats = NDArray[np.float64]

_SMALLEST: Final = 1e-12
_LARGEST: Final = 1e15
_PER_E: Final = 50
"""Bins for each factor e of size: one bin is 2 % wide."""
_SIZES: Final = int(np.ceil(np.log(_LARGEST / _SMALLEST) * _PER_E))
BINS: Final = 2 * _SIZES + 1
"""Below zero, zero, above zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """How often values of each size occur: `counts` is [F, BINS]."""

    counts: Floats

    @classmethod
    def of(cls, values: Floats) -> Self:
        """The sketch of `values` [..., F]; what is not known is not counted."""
        flat = values.reshape(-1, values.shape[-1])
        counts = np.zeros((flat.shape[1], BINS))
        for feature, column in enumerate(flat.T):
            known = column[np.isfinite(column)]
            size = np.log(np.clip(np.abs(known), _SMALLEST, _LARGEST * 0.999) / _SMALLEST) * _PER_E
            bins = _SIZES + np.sign(known).astype(int) * (1 + np.minimum(size.astype(int), _SIZES - 1))
            bins[np.abs(known) < _SMALLEST] = _SIZES
            np.add.at(counts[feature], bins, 1)
        return cls(counts)

    @classmethod
    def joined(cls, sketches: Sequence[Sketch]) -> Self:
        """The sketch of all values together. Raises ContractError where shapes differ or counts are none."""
        if not sketches:
            raise ContractError("no sketch to join")
        for sketch in sketches:
            if sketch.counts.shape != sketches[0].counts.shape or sketch.counts.shape[1:] != (BINS,):
                raise ContractError(
                    f"a sketch has counts of shape {list(sketch.counts.shape)}, another"
                    f" {list(sketches[0].counts.shape)}; [F, {BINS}] is meant"
                )
            if not np.isfinite(sketch.counts).all() or (sketch.counts < 0).any():
                raise ContractError("a sketch has counts below zero or not finite")
        return cls(np.sum([sketch.counts for sketch in sketches], axis=0))

    def quantile(self, share: float) -> Floats:
        """[F]: the value below which `share` of the values lie, within 2 %; NaN for features without any."""
        below = np.cumsum(self.counts, axis=1)
        total = below[:, -1:]
        at = np.argmax(below >= np.maximum(share * total, 1e-9), axis=1)
        found: Floats = np.where(total[:, 0] > 0, _middles()[at], np.nan)
        return found

    def mean(self, share_low: float = 0.0, share_high: float = 1.0) -> Floats:
        """[F]: mean of the values between two quantiles, within 2 % of their mean size."""
        middles, below = _middles(), np.cumsum(self.counts, axis=1)
        total = np.maximum(below[:, -1:], 1)
        shares = np.diff(np.clip(below / total, share_low, share_high), axis=1, prepend=share_low)
        found: Floats = (shares * middles).sum(axis=1) / max(share_high - share_low, 1e-12)
        return found


def _middles() -> Floats:
    """[BINS]: the value that stands for each bin."""
    sizes = _SMALLEST * np.exp((np.arange(_SIZES) + 0.5) / _PER_E)
    return np.concatenate([-sizes[::-1], [0.0], sizes])
