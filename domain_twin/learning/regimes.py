"""Regimes: states of an element between which the laws of all its KPIs change at once. Owns no laws.

Told by the mean of normal scores around a step: Lloyd's k-means. It begins at the centres that the model
brings, so that every domain's first regime means the same; without any, along the first principal component.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["AROUND", "found", "path", "shares", "transitions"]

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

AROUND: Final = 8
"""Steps before and after one that tell its regime, too."""
LEAST_STEPS: Final = 200
"""Of a regime; one with fewer is none, and goes to the nearest."""
BORROWED: Final = 50
"""Changes of regime that others' shares count as."""
_TURNS: Final = 50
_GOLDEN: Final = 0.6180339887498949


def found(scores: Floats, centres: NDArray[Any]) -> tuple[Labels, Floats]:
    """The regime of each step of `scores` [E, T, F], -1 where nothing is known, and their centres [K, F].

    A regime with too few steps, or too few at which some KPI is known, gets none; one may be left.
    """
    elements, steps, features = scores.shape
    mean = np.stack([_around(element) for element in scores]).reshape(-1, features)
    flat = scores.reshape(-1, features)
    known = np.isfinite(flat).any(axis=1)
    asked, there = mean[known], np.isfinite(flat[known])
    places = _begun(asked, len(centres)) if not np.any(centres) else centres.astype(np.float64)
    for _ in range(_TURNS):
        nearest = _distances(asked, places).argmin(1)
        moved = np.stack(
            [asked[nearest == k].mean(0) if (nearest == k).any() else place for k, place in enumerate(places)]
        )
        if np.abs(moved - places).max() < 1e-6:
            break
        places = moved
    distances = _distances(asked, places)
    while True:
        nearest = distances.argmin(1)
        held = np.array([there[nearest == k].sum(0).min() for k in range(len(places))])
        small = np.where((held < LEAST_STEPS) & np.isfinite(distances[0]), held, np.iinfo(np.int64).max)
        if small.min() >= LEAST_STEPS or np.isfinite(distances[0]).sum() == 1:
            break
        distances[:, small.argmin()] = np.inf
    labels = np.full(len(flat), -1, np.intp)
    labels[known] = nearest
    return labels.reshape(elements, steps), places


def transitions(labels: Labels, others: NDArray[Any]) -> Floats:
    """[K, K]: shares of steps in one regime that are followed by each; 0 for one that is not there.

    The record is taken for a ring: each regime is entered as often as it is left, so that a chain of these
    shares stays in each as long as the record did. `others` [K, K], the mean over domains, counts as much as
    `BORROWED` changes of regime: whoever saw few of them knows little of how long each lasts. Zeros: nothing.
    """
    flat = labels[labels >= 0]
    count = len(others)
    pairs = np.zeros((count, count))
    np.add.at(pairs, (flat, np.roll(flat, -1)), 1.0)
    there = np.bincount(flat, minlength=count) > 0
    flow = others * there * there[:, None] * shares(others)[:, None]
    changes = flow.sum() - np.trace(flow)
    if changes > 0:
        pairs += flow * BORROWED / changes
    found: Floats = pairs / np.maximum(pairs.sum(1, keepdims=True), 1e-12)
    return found


def shares(moves: Floats) -> Floats:
    """[K]: of all time, spent in each regime by the chain `moves` [K, K]."""
    moves, there = _stochastic(moves)
    held = there / there.sum()
    many = np.linalg.matrix_power((moves + np.eye(len(moves))) / 2, 1 << 20)  # lazy: no cycle of its own
    out: Floats = held @ many
    shared: Floats = out / out.sum()
    return shared


def path(moves: Floats, rows: int, rng: np.random.Generator) -> Labels:
    """[rows]: regimes that follow each other as `moves` [K, K] says.

    How long each stays and which is next are drawn evenly (an additive recurrence) and not independently: a
    few long stays mislead less about shares.
    """
    weights = shares(moves)
    moves, _ = _stochastic(moves)
    count = len(moves)
    stay, go = rng.random(count), rng.random(count)
    regime = int(rng.choice(count, p=weights))
    out = np.empty(rows, np.intp)
    filled = 0
    while filled < rows:
        leaves = 1 - moves[regime, regime]
        stay[regime] = (stay[regime] + _GOLDEN) % 1
        length = rows
        if leaves > 1e-9:
            length = 1 + int(min(np.log1p(-stay[regime]) / np.log1p(-min(leaves, 1 - 1e-12)), rows))
        if not filled:
            length = max(1, round(length * rng.random()))  # it begins amid a stay
        out[filled : filled + length] = regime
        filled += length
        if leaves > 1e-9:
            others = np.where(np.arange(count) == regime, 0.0, moves[regime]).cumsum()
            go[regime] = (go[regime] + _GOLDEN) % 1
            regime = min(int(np.searchsorted(others, go[regime] * others[-1], side="right")), count - 1)
    return out


def _stochastic(moves: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows that sum to 1, and which regimes are there; means over domains, or of none, may not."""
    moves = np.clip(np.asarray(moves, np.float64), 0, 1)
    there = moves.sum(1) > 0
    if not there.any():
        there = np.arange(len(moves)) == 0
    moves = np.where(there[:, None] & there, moves, 0.0)
    lost = moves.sum(1) <= 0
    moves[lost] = there / there.sum()
    return moves / moves.sum(1, keepdims=True), there


def _around(series: Floats) -> Floats:
    """[T, F]: means of what is known of [T, F] within `AROUND` steps; 0, the middle, of what is not."""
    known = np.isfinite(series)
    steps = np.arange(len(series))
    low, high = np.maximum(steps - AROUND, 0), np.minimum(steps + AROUND + 1, len(series))
    sums, counts = (
        np.concatenate([np.zeros((1, series.shape[1])), each.cumsum(0)])
        for each in (np.where(known, series, 0.0), known.astype(float))
    )
    mean: Floats = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1.0)
    return mean


def _begun(asked: Floats, count: int) -> Floats:
    """Means of equal parts along the first principal component, which points to where most KPIs grow."""
    centred = asked - asked.mean(0)
    vectors = np.linalg.eigh(centred.T @ centred)[1]
    direction = vectors[:, -1] * (1 if vectors[:, -1].sum() >= 0 else -1)
    order = np.argsort(centred @ direction, kind="stable")
    return np.stack([asked[part].mean(0) for part in np.array_split(order, count)])


def _distances(asked: Floats, places: Floats) -> Floats:
    squares: Floats = np.stack([((asked - place) ** 2).sum(1) for place in places], axis=1)
    return squares
