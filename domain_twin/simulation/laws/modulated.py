"""Queues whose arrivals come in bursts: how much longer the wait and how much more loss than without.

Owns the tables that `tables` makes (package data) and their look-up; refuses nothing, clamps to the edges of
the tables. A class of on-off sources is seen through four figures: the load, the spread (squared c.v. of
the aggregate rate), the burst time (relaxation time of that rate, in mean service times) and the variability
(squared c.v. of arrivals within a burst plus that of service times). Interpolation is linear in the
logarithms of wait, variance and loss.
"""
# ruff: noqa: PLR0917 - by position, as kernels are called

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.jit import inlined, step

__all__ = ["LARGEST_ROOM", "NO_AXES", "Axes", "axes", "bridge", "burst", "scale_of", "table_of"]

LARGEST_ROOM = 513
"""The largest room tabulated; longer queues are seen as a fluid, which knows no scale."""

_FILE = Path(__file__).parent / "data" / "modulated.npz"
_LEAST = 1e-39  # below it, a wait or a loss is none


class Axes(NamedTuple):
    """Where the tables have their points, ascending."""

    variabilities: FloatArray  # logarithms
    bursts: FloatArray  # logarithms
    spreads: FloatArray  # square roots
    loads: FloatArray


NO_AXES = Axes(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2))
"""Where no class is bursty, no tables are read."""

_HALVINGS = 4  # of the variability, below what is tabulated
_SPREADS = 41  # of which the fewer that are tabulated are made, by monotone cubics


class _Data(NamedTuple):
    axes: Axes
    variabilities: FloatArray
    bursts: FloatArray
    spreads: FloatArray
    rooms: FloatArray
    table: npt.NDArray[np.float32]


@lru_cache(maxsize=1)
def _data() -> _Data:
    with np.load(_FILE) as data:
        variabilities, bursts = data["variabilities"], data["bursts"]
        spreads = np.sqrt(data["spreads"])
        halved = variabilities[0] / 2.0 ** np.arange(_HALVINGS, 0, -1)
        found = Axes(
            np.log(np.concatenate([halved, variabilities])),
            math.log(bursts[0]) + math.log(2.0) * np.arange(1.0 + round(math.log2(bursts[-1] / bursts[0]))),
            np.linspace(0.0, spreads[-1], _SPREADS),
            data["loads"],
        )
        return _Data(
            found, variabilities, np.log(bursts), spreads, data["rooms"].astype(float), data["table"]
        )


def axes() -> Axes:
    """The coordinates of the tables: log variability, log burst time, root of the spread, load."""
    return _data().axes


@lru_cache(maxsize=256)
def table_of(room: int) -> npt.NDArray[np.float32]:
    """Logarithms for one room, [variabilities, bursts, spreads, loads, 5]; columns: tables.solve_modulated.

    Below the variabilities that are tabulated: in the diffusion limit a queue of room, burst time, wait and
    variability has the shape of one where all four are c times as large (Whitt 2002, 5.5).
    """
    room = min(room, LARGEST_ROOM)
    own = _refined(room)
    halved = []
    for power in range(_HALVINGS, 0, -1):
        grown = min(room * 2**power, LARGEST_ROOM)
        factor = grown / room
        at = _data().axes.bursts + math.log(factor)
        wider = _along(_data().axes.bursts, _refined(grown)[0], at, axis=0)
        # A full queue is a wait of room - 1, so that is what waits are measured by.
        shrink = math.log((grown - 1) / (room - 1)) if room > 1 else 0.0
        halved.append(wider - shrink * np.array([1.0, 2.0, 0.0, 1.0, 0.0]))
    found = np.concatenate([np.array(halved), own]).astype(np.float32)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=64)
def _refined(room: int) -> FloatArray:
    """Tables of a room between those tabulated: waits as a power of the room, losses exponential in it."""
    data = _data()
    at = int(np.clip(np.searchsorted(data.rooms, room) - 1, 0, len(data.rooms) - 2))
    low, high = data.rooms[at], data.rooms[at + 1]
    power = (math.log(room) - math.log(low)) / (math.log(high) - math.log(low))
    even = (room - low) / (high - low)
    part = np.array([power, power, even, power, even])
    table = data.table[at] * (1.0 - part) + data.table[at + 1] * part
    table = _along(data.spreads, table, data.axes.spreads, axis=2)
    return _along(data.bursts, table, data.axes.bursts, axis=1)


def _along(points: FloatArray, table: FloatArray, wanted: FloatArray, axis: int) -> FloatArray:
    from scipy.interpolate import PchipInterpolator

    held = np.clip(wanted, points[0], points[-1])
    return np.asarray(PchipInterpolator(points, table, axis=axis)(held))


@inlined
def scale_of(room: float, relaxation: float) -> Any:
    """By how much a queue longer than the tables is shrunk, and its burst time with it."""
    if math.isinf(room):
        return max(1.0, relaxation / 8.0)
    return max(1.0, room / 513.0)


@inlined
def bridge(flows: float, active: float, load: float) -> Any:
    """Squared c.v. of a superposition of equally spaced flows, as a queue at this load sees it.

    Within a period they look like a Poisson process, over it they do not vary: the wait of nD/D/1 over that
    of M/D/1 in the Brownian-bridge limit (Norros, Roberts, Simonian & Virtamo 1991), where n are those
    `active` at a time. A packet waits for the other flows only: `flows`, on or not.
    """
    if flows <= 1.0 or load >= 1.0:
        return 0.0
    z = (1.0 - load) * math.sqrt(active / 2.0)
    if z > 20.0:
        tail = 1.0 - 0.5 / z**2 + 0.75 / z**4
    else:
        tail = math.sqrt(math.pi) * z * math.exp(z * z) * math.erfc(z)
    return (1.0 - 1.0 / flows) * tail


@inlined
def _between(axis: Any, value: float) -> Any:
    """(index, part) of a value on an axis, held at its ends."""
    last = axis.shape[0] - 2
    index = 0
    while index < last and axis[index + 1] <= value:
        index += 1
    part = (value - axis[index]) / (axis[index + 1] - axis[index])
    return index, min(max(part, 0.0), 1.0)


@inlined
def _at(
    table: Any, v: int, vp: float, b: int, bp: float, s: int, sp: float, load: int, lp: float, k: int
) -> Any:
    """Multilinear interpolation of one column."""
    total = 0.0
    for dv in range(2):
        weight_v = vp if dv else 1.0 - vp
        for db in range(2):
            weight_b = weight_v * (bp if db else 1.0 - bp)
            for ds in range(2):
                weight = weight_b * (sp if ds else 1.0 - sp)
                if weight != 0.0:
                    total += weight * (
                        (1.0 - lp) * table[v + dv, b + db, s + ds, load, k]
                        + lp * table[v + dv, b + db, s + ds, load + 1, k]
                    )
    return total


@step
def burst(
    axes: Any,
    table: Any,
    room: float,
    load: float,
    spread: float,
    relaxation: float,
    local: float,
    plain: float,
    base: Any,
) -> Any:
    """(wait, variance, loss, wait and loss of a steady stream) with bursts, from `base` without (Poisson).

    `local` is the variability within a burst, `plain` that of `base`. What the tables say without bursts
    against what `base` says corrects them, the less the more the bursts decide. A steady stream is one that
    shares the queue and adds no burst to it.
    """
    if load <= 0.0:
        return base[0], base[1], base[2], base[0], base[2]
    scale = scale_of(room, relaxation)
    last = axes.loads[axes.loads.shape[0] - 1]
    v, vp = _between(axes.variabilities, math.log(max(local, 1e-9)))
    p, pp = _between(axes.variabilities, math.log(plain))
    theta = relaxation / scale
    weight = 1.0
    least = math.exp(axes.bursts[0])
    if theta < least:  # ever shorter bursts matter ever less
        weight = theta / least
        theta = least
    b, bp = _between(axes.bursts, math.log(theta))
    s, sp = _between(axes.spreads, math.sqrt(spread * weight))
    at, lp = _between(axes.loads, load)
    place = (v, vp, p, pp, b, bp, s, sp, at, lp)
    wait = _column(table, place, 0, base[0], scale)
    variance = _column(table, place, 1, base[1], scale * scale)
    loss = _column(table, place, 2, base[2], 1.0)
    calm_wait = _column(table, place, 3, base[0], scale)
    calm_loss = _column(table, place, 4, base[2], 1.0)
    if math.isinf(room):
        loss, calm_loss = base[2], base[2]
    elif load > last:
        loss = 1.0 - (1.0 - min(loss, 1.0)) * last / load
        calm_loss = 1.0 - (1.0 - min(calm_loss, 1.0)) * last / load
    return wait, variance, max(min(loss, 1.0), 1.0 - 1.0 / load), calm_wait, min(calm_loss, 1.0)


@step
def _column(table: Any, place: Any, column: int, known: float, grown: float) -> float:
    """One figure with bursts, from what is `known` without; waits of longer queues have `grown`."""
    v, vp, p, pp, b, bp, s, sp, at, lp = place
    smooth = _at(table, v, vp, 0, 0.0, 0, 0.0, at, lp, column)
    poisson = _at(table, p, pp, 0, 0.0, 0, 0.0, at, lp, column)
    bursty = _at(table, v, vp, b, bp, s, sp, at, lp, column)
    correction = math.log(max(known, _LEAST)) - poisson
    if grown > 1.0:
        even = math.exp(correction + smooth)
        return max(even + grown * (math.exp(bursty) - math.exp(smooth)), 0.0)
    return math.exp(bursty + correction * math.exp(-max(bursty - smooth, 0.0)))
