"""How far off delays may be because it is inferred, not measured, which flows a change moves.

Devices say what crosses an element, not between which ends, so the loads before a change are known and what
of them moves where is estimated (`twin.traffic`). A domain that is one of several sees least of it: after a
change, others' traffic may enter and leave it elsewhere. Owns how much the estimate misses by and what that
means for the delay of each edge. What a scenario itself sets (demand, a new service) is no estimate.
"""

from __future__ import annotations

import numpy as np

from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.laws.arrays import Laws
from domain_twin.simulation.laws.plain import evaluate_all

__all__ = ["WITHIN_BORDERS", "WITHOUT_BORDERS", "moved_error_s"]

WITHOUT_BORDERS = 0.05
"""Relative standard error of the load that a change moves onto an edge, in a network that ends nowhere; from
cuts and metrics in the worlds 3 to 6 of benchmarks.fidelity, which its figures are not taken on."""
WITHIN_BORDERS = 0.25
"""The same in a domain of several; from what its own devices reported in the same worlds."""


def moved_error_s(
    laws: Laws, load: FloatArray, square: FloatArray, reference: FloatArray, *, borders: bool
) -> FloatArray:
    """Standard error of every edge's delay, [E, C] seconds; 0 where nothing was moved.

    `borders`: whether the network has any. `load`, `square`: packets/s (and their squares summed over flows)
    after the change; `reference`: what the same demand puts on the edges over the routes of before. All
    [E, C].
    """
    work = (load * laws.service_s).sum(axis=1)
    moved = (WITHIN_BORDERS if borders else WITHOUT_BORDERS) * np.abs(
        work - (reference * laws.service_s).sum(axis=1)
    )
    share = np.minimum(1.0, np.divide(moved, work, out=np.zeros_like(work), where=work > 0.0))[:, None]
    if not share.any():
        return np.zeros_like(load)
    more, less = (
        evaluate_all(laws, load * (1.0 + way * share), square * (1.0 + way * share) ** 2)[0]
        for way in (1.0, -1.0)
    )
    return np.asarray(np.abs(more - less) / 2.0)
