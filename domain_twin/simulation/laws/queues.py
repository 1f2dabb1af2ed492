"""One server and a finite queue, Poisson arrivals: exact tables of wait, its variance and loss over the load.

Time is counted in mean service times throughout, so that one table serves every link with the same room and
the same shape of packet sizes. `room` is the number of packets in the system: those that wait and the one
that is being sent. Bursts are the business of `modulated`, several classes that of `laws`.
"""
# ruff: noqa: PLR0917 - by position, as kernels are called

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import FloatArray, TrafficClass
from domain_twin.simulation.jit import inlined, kernel

__all__ = [
    "LARGEST_EXACT_ROOM",
    "LARGEST_LOAD",
    "LOSS",
    "POINTS",
    "VARIANCE",
    "WAIT",
    "Grid",
    "SizeMix",
    "exact",
    "gamma_sizes",
    "grid_of",
    "look_up",
    "look_up_all",
    "mixed",
    "sizes_of",
    "table_of",
]

POINTS = 1024
LARGEST_LOAD = 3.0
LARGEST_EXACT_ROOM = 4096  # beyond it the diffusion limit errs by less than 1/room
WAIT, VARIANCE, LOSS = 0, 1, 2  # columns of a table

_NEGLIGIBLE = 1e-40
_HUGE = 1e150

Grid: TypeAlias = tuple[float, float, float]
"""Where a table has its points: load = 1 + width sinh(span t - start), t uniform in 0..1."""


@dataclass(frozen=True, slots=True)
class SizeMix:
    """A distribution of service times with mean 1: gamma parts with weight, mean and squared c.v. each.

    A squared coefficient of variation of 0 is a fixed size, of 1 an exponential one.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    scvs: tuple[float, ...]

    @property
    def second(self) -> float:
        """E[S^2] / E[S]^2."""
        return sum(w * m * m * (1 + v) for w, m, v in zip(self.weights, self.means, self.scvs, strict=True))

    @property
    def third(self) -> float:
        """E[S^3] / E[S]^3; of a gamma part m^3 (1 + v)(1 + 2v)."""
        return sum(
            w * m**3 * (1 + v) * (1 + 2 * v)
            for w, m, v in zip(self.weights, self.means, self.scvs, strict=True)
        )


def sizes_of(traffic: TrafficClass) -> SizeMix:
    """The packet sizes of a class, in units of their mean."""
    mean = traffic.mean_octets
    if traffic.exponential:
        return SizeMix((1.0,), (1.0,), (1.0,))
    parts = sorted(
        (size / mean, share)
        for size, share in zip(traffic.sizes, traffic.probabilities, strict=True)
        if share > 0
    )
    return SizeMix(
        tuple(share for _, share in parts), tuple(size for size, _ in parts), tuple(0.0 for _ in parts)
    )


def gamma_sizes(scv: float) -> SizeMix:
    """Service times that are gamma distributed with mean 1 and the given squared c.v."""
    return SizeMix((1.0,), (1.0,), (scv,))


def mixed(parts: tuple[tuple[float, float, SizeMix], ...]) -> SizeMix:
    """Packets of several distributions on one link: (share of packets, mean service time, shape) each."""
    total = sum(share for share, _, _ in parts)
    mean = sum(share * size for share, size, _ in parts) / total
    weights: list[float] = []
    means: list[float] = []
    scvs: list[float] = []
    for share, size, shape in parts:
        if share <= 0:
            continue
        weights += [share / total * weight for weight in shape.weights]
        means += [size / mean * part for part in shape.means]
        scvs += shape.scvs
    return SizeMix(tuple(weights), tuple(means), tuple(scvs))


def grid_of(room: float) -> Grid:
    """The grid of a table: dense around load 1, over a width that shrinks with the room."""
    width = min(max(4.0 / room, 1e-3), 0.5)
    start = math.asinh(1.0 / width)
    return width, start + math.asinh((LARGEST_LOAD - 1.0) / width), start


@lru_cache(maxsize=4096)
def table_of(room: int, sizes: SizeMix) -> FloatArray:
    """Wait, its variance and loss over the load, [POINTS, 3], in mean service times; kept in the process.

    Raises ConfigError for a room below one packet.
    """
    if room < 1:
        message = f"a queue of room {room} holds no packet; a link needs room for at least the one it sends"
        raise ConfigError(message)
    width, span, start = grid_of(room)
    loads = 1.0 + width * np.sinh(span * np.linspace(0.0, 1.0, POINTS) - start)
    loads[0], loads[-1] = 0.0, LARGEST_LOAD
    if room > LARGEST_EXACT_ROOM:
        table = _diffusion(loads, float(room), sizes)
    else:
        table = _tabulate(loads, room, *_arrays(sizes))
    table.flags.writeable = False
    return table


def exact(load: float, room: int, sizes: SizeMix) -> tuple[float, float, float]:
    """Wait, variance of the wait and loss at one load, without a table (M/G/1/K by its embedded chain)."""
    wait, variance, loss = _tabulate(np.array([load]), room, *_arrays(sizes))[0]
    return float(wait), float(variance), float(loss)


def _arrays(sizes: SizeMix) -> tuple[FloatArray, FloatArray, FloatArray, float, float]:
    return np.array(sizes.weights), np.array(sizes.means), np.array(sizes.scvs), sizes.second, sizes.third


@kernel
def _arrivals(load: float, weights: Any, means: Any, scvs: Any, largest: int) -> Any:
    """P(j arrivals in one service), j = 0.. until negligible: Poisson or negative binomial parts."""
    probability = np.zeros(largest + 1)
    end = 0
    for part in range(weights.shape[0]):
        mean, scv = load * means[part], scvs[part]
        term = math.exp(-mean) if scv < 1e-9 else math.exp(-math.log1p(mean * scv) / scv)
        ratio = mean / (1.0 + mean * scv)
        for j in range(largest + 1):
            probability[j] += weights[part] * term
            end = max(end, j)
            term *= ratio * (1.0 + j * scv) / (j + 1.0)
            if j > mean and term < _NEGLIGIBLE:
                break
    return probability[: end + 1]


@kernel
def _chain(load: float, room: int, probability: Any, beyond: Any) -> Any:
    """What departing packets leave behind, q[room] (Gross & Harris 5.1; Takagi, Queueing Analysis 2, 5.1).

    Level crossings instead of balance equations: sums of positive terms only, hence stable at any load.
    """
    state = np.zeros(room)
    state[0] = 1.0
    reach = beyond.shape[0]
    total = 1.0
    for j in range(room - 1):
        crossing = state[0] * beyond[j] if j < reach else 0.0
        for i in range(max(1, j + 2 - reach), j + 1):
            crossing += state[i] * beyond[j - i + 1]
        state[j + 1] = crossing / probability[0]
        total += state[j + 1]
        if state[j + 1] > _HUGE:
            for i in range(j + 2):
                state[i] /= _HUGE
            total /= _HUGE
        if load < 1.0 and state[j + 1] < 1e-30 * total:
            break
    return state / state.sum()


@kernel
def _tabulate(loads: Any, room: int, weights: Any, means: Any, scvs: Any, second: float, third: float) -> Any:
    """M/G/1/K at each load: wait, its variance, loss, [loads, 3].

    The wait's moments come from the joint moments of number in system and remaining service, m_n^(j): with
    p_n+1(0) the rate of departures that leave n behind, m_n^(j) = m_n-1^(j) + (p_n+1(0) b_j - j m_n^(j-1)) /
    lambda, m_0^(j) = p_0 b_j (supplementary variable; Takagi, Queueing Analysis 2, 5.1). The loss is the mean
    number turned away in a service over the mean number that arrives: again positive terms only.
    """
    table = np.zeros((loads.shape[0], 3))
    for point in range(loads.shape[0]):
        load = loads[point]
        if load <= 0.0:
            continue
        probability = _arrivals(load, weights, means, scvs, 20 * room + 2000)
        size = probability.shape[0]
        beyond = np.zeros(size)  # P(A > m)
        excess = np.zeros(size + 1)  # E[(A - m)+]
        for m in range(size - 2, -1, -1):
            beyond[m] = beyond[m + 1] + probability[m + 1]
        for m in range(size - 1, -1, -1):
            excess[m] = excess[m + 1] + beyond[m]
        left = _chain(load, room, probability, beyond)
        lost = left[0] * excess[room - 1] if room - 1 < size else 0.0
        for i in range(max(1, room - size), room):
            lost += left[i] * excess[room - i]
        lost /= left[0] + load
        # Moments over the packets accepted: state n has probability left[n].
        first, square = 0.0, 0.0
        one, two = left[0], left[0] * second
        for n in range(1, room):
            one += left[n] - left[n] / load
            two += left[n] * second - 2.0 * one / load
            first += one + (n - 1) * left[n]
            square += two + 2.0 * (n - 1) * one + left[n] * ((n - 1) * (second - 1.0) + (n - 1.0) ** 2)
        table[point, 0] = first
        table[point, 1] = max(square - first * first, 0.0)
        table[point, 2] = lost
    return table


def _diffusion(loads: FloatArray, room: float, sizes: SizeMix) -> FloatArray:
    """The same for very long queues: Brownian motion reflected at both ends (Harrison 1985, 5.6).

    The wait is exponential, cut off at the room; where the room is never felt it is Pollaczek-Khinchine.
    """
    table = np.zeros((loads.shape[0], 3))
    for point, load in enumerate(loads):
        if load <= 0.0:
            continue
        decay = 2.0 * (1.0 - load) / (load * sizes.second)
        z = decay * room
        if abs(z) < 1e-4:
            wait, variance, overflow = room / 2, room * room / 12, 1.0 / room
        else:
            tail = math.exp(-abs(z))
            wait = 1.0 / decay - room * tail / -math.expm1(-abs(z)) if z > 0 else room + 1.0 / decay
            wait += 0.0 if z > 0 else room * tail / -math.expm1(-abs(z))
            variance = 1.0 / decay**2 - room * room * tail / math.expm1(-abs(z)) ** 2
            overflow = abs(decay) * (tail if z > 0 else 1.0) / -math.expm1(-abs(z))
        own = sizes.third / (1.5 * sizes.second) if load < 1 else sizes.second - 1.0
        table[point] = wait, variance + own * wait, overflow * sizes.second / 2.0
    return table


@inlined
def locate(room: float, load: float) -> Any:
    """(index, part) of a load in a table of this room; linear in the grid's own coordinate."""
    width = min(max(4.0 / room, 1e-3), 0.5)
    start = math.asinh(1.0 / width)
    span = start + math.asinh((LARGEST_LOAD - 1.0) / width)
    place = (math.asinh((min(load, LARGEST_LOAD) - 1.0) / width) + start) / span * (POINTS - 1)
    index = min(max(int(place), 0), POINTS - 2)
    return index, min(max(place - index, 0.0), 1.0)


@inlined
def look_up(table: Any, room: float, scv: float, load: float) -> Any:
    """(wait, variance, loss) at a load; `scv` is of the sizes.

    Beyond the table: a queue that is always full turns away 1 - 1/load and makes the rest wait room - 1
    services; both are reached as 1/load, without a step.
    """
    index, part = locate(room, load)
    wait = table[index, 0] + (table[index + 1, 0] - table[index, 0]) * part
    variance = table[index, 1] + (table[index + 1, 1] - table[index, 1]) * part
    loss = table[index, 2] + (table[index + 1, 2] - table[index, 2]) * part
    if load > LARGEST_LOAD:
        rest = LARGEST_LOAD / load
        wait = (room - 1.0) + (wait - (room - 1.0)) * rest
        variance = (room - 1.0) * scv + (variance - (room - 1.0) * scv) * rest
        loss = 1.0 - (1.0 - loss) * rest
    return wait, variance, max(loss, 1.0 - 1.0 / max(load, 1e-300))


def look_up_all(tables: FloatArray, room: FloatArray, scv: FloatArray, load: FloatArray) -> FloatArray:
    """The same for many links: tables [n, POINTS, 3], room, scv, load [n] -> [n, 3]."""
    width = np.clip(4.0 / room, 1e-3, 0.5)
    start = np.arcsinh(1.0 / width)
    span = start + np.arcsinh((LARGEST_LOAD - 1.0) / width)
    place = (np.arcsinh((np.minimum(load, LARGEST_LOAD) - 1.0) / width) + start) / span * (POINTS - 1)
    index = np.clip(place.astype(np.int64), 0, POINTS - 2)
    part = np.clip(place - index, 0.0, 1.0)[:, None]
    row = np.arange(len(load))
    inside = tables[row, index] + (tables[row, index + 1] - tables[row, index]) * part
    full = np.stack([room - 1.0, (room - 1.0) * scv, np.ones(len(load))], 1)
    rest = (LARGEST_LOAD / np.maximum(load, LARGEST_LOAD))[:, None]
    found = np.where(rest < 1.0, full + (inside - full) * rest, inside)
    found[:, LOSS] = np.maximum(found[:, LOSS], 1.0 - 1.0 / np.maximum(load, 1e-300))
    return np.asarray(found)
