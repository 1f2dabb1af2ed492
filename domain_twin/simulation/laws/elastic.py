"""Elastic demand as a fluid: the max-min fair rates that flows take of what is left to them.

Owns progressive filling over edges; it knows no packets. Rate, capacity and use are in one unit, whichever
the caller chooses (the engine: seconds of service per second, 1 = an edge's whole rate).

What the queues see of elastic flows is an approximation: the solver offers the rates found here to the laws
as Poisson packets. The laws do not know that such flows fill their bottleneck until it drops packets; so a
bottleneck is filled to a headroom (`Engine` says which), and waits there are those of that load, not TCP's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import FloatArray

__all__ = ["max_min"]


def max_min(
    *,
    wanted: FloatArray,
    capacity: FloatArray,
    flow: npt.NDArray[np.integer],
    edge: npt.NDArray[np.integer],
    use: FloatArray,
    weight: FloatArray | None = None,
) -> FloatArray:
    """Max-min fair rates [F] of F flows that want at most `wanted` [F] over edges with `capacity` [E] left.

    Routes are given as triples, one for each edge that a flow crosses: `flow`, `edge` [H] and `use` [H], what
    the edge spends on one unit of that flow's rate (its share of the paths, its packets' size). Progressive
    filling (Bertsekas & Gallager, Data Networks, 6.5.2): all rates grow together, in proportion to `weight`,
    until an edge is full or a flow has what it wants. Each round freezes at least one edge or flow.

    Raises ConfigError for negative or unknown numbers.
    """
    share = np.ones(len(wanted)) if weight is None else np.asarray(weight, float)
    for name, values in (("wanted", wanted), ("use", use), ("weight", share)):
        if np.isnan(values).any() or (values < 0).any():
            raise ConfigError(f"elastic flows: {name} must be numbers of 0 or more, of every flow and edge")
    if np.isnan(capacity).any():
        raise ConfigError("elastic flows: the capacity left on an edge is no number")
    if (share <= 0).any():
        raise ConfigError("elastic flows: a weight of 0 would never be served; give a positive one")
    rate = np.zeros(len(wanted))
    left = np.maximum(capacity, 0.0).astype(float)
    whole = np.maximum(left, 1e-300)
    growing = wanted > 0
    crosses = use > 0
    flow, edge, use = flow[crosses], edge[crosses], use[crosses]
    blocked = np.zeros(len(wanted), bool)
    blocked[flow[left[edge] <= 0]] = True
    growing &= ~blocked
    while growing.any():
        active = growing[flow]
        spent = np.bincount(edge[active], use[active] * share[flow[active]], len(left))
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(spent > 0, left / spent, np.inf)
        need = (wanted[growing] - rate[growing]) / share[growing]
        step = min(float(room.min(initial=np.inf)), float(need.min()))
        if not np.isfinite(step):  # nothing bounds what is left: each has what it wants, if that is finite
            rate[growing] = wanted[growing]
            break
        rate[growing] += step * share[growing]
        left -= step * spent
        full = (spent > 0) & (left <= 1e-12 * whole)
        satisfied = growing & (rate >= wanted * (1 - 1e-12))
        rate[satisfied] = wanted[satisfied]
        stuck = np.zeros(len(wanted), bool)
        stuck[flow[active & full[edge]]] = True
        frozen = growing & (satisfied | stuck)
        if not frozen.any():  # rounding left a hair of room: the tightest edge is full
            frozen = growing & np.isin(np.arange(len(wanted)), flow[active & (edge == int(np.argmin(room)))])
        growing &= ~frozen
    return rate
