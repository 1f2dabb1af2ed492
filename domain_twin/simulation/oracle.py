"""The engine's maths once more in plain Python and NumPy: slow, obvious, and what the kernels are tested on.

The same functions with the same arguments as the kernels of `routing` and `passes`; `Engine(plain=True)` uses
these. Nothing is incremental, and laws are evaluated by `laws.evaluate_all`.
"""
# ruff: noqa: PLR0917 - as the kernels

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray, IntArray
from domain_twin.simulation.laws.edges import Laws, evaluate_all
from domain_twin.simulation.routing import Topology, Trees, new_trees

__all__ = ["all_trees", "changed_trees", "compose", "digest", "settle"]

_Label = tuple[float, int]
_NOWHERE: _Label = (math.inf, 0)


def all_trees(topo: Topology, metric: FloatArray, up: npt.NDArray[np.bool_], *, ecmp: bool) -> Trees:
    """Labels (distance, edges of metric 0 to go) by Bellman and Ford, then the edges to smaller ones."""
    nodes, edges = len(topo.transit), len(topo.tail)
    trees = new_trees(nodes, edges, ecmp=ecmp)
    for d in range(nodes):
        usable = [e for e in range(edges) if up[e] and (topo.head[e] == d or topo.transit[topo.head[e]])]
        label = _labels(topo, metric, usable, d)
        chosen: list[tuple[_Label, int, list[int]]] = []
        for t in range(nodes):
            if t == d or label[t] == _NOWHERE:
                continue
            onward = [
                e
                for e in topo.out_edge[topo.out_start[t] : topo.out_start[t + 1]]
                if e in usable
                and label[topo.head[e]] < label[t]
                and label[topo.head[e]][0] + metric[e] <= label[t][0] * (1.0 + 1e-12)
            ]
            chosen.append((label[t], t, onward if ecmp else onward[:1]))
        flat = [(e, len(onward)) for _, _, onward in sorted(chosen) for e in onward]
        trees.count[d] = len(flat)
        trees.edge[d, : len(flat)] = [e for e, _ in flat]
        if ecmp:
            trees.ways[d, : len(flat)] = [k for _, k in flat]
        trees.distance[d] = [distance for distance, _ in label]
        trees.steps[d] = [steps for _, steps in label]
    return trees


def _labels(topo: Topology, metric: FloatArray, usable: list[int], d: int) -> list[_Label]:
    label = [_NOWHERE] * len(topo.transit)
    label[d] = (0.0, 0)
    changed = True
    while changed:
        changed = False
        for e in usable:
            t, (far, steps) = topo.tail[e], label[topo.head[e]]
            length = far + float(metric[e])
            new = (length, 0 if length > far else steps + 1)
            if new[0] < math.inf and new < label[t]:
                label[t] = new
                changed = True
    return label


def changed_trees(
    topo: Topology,
    base: Trees,
    old: tuple[FloatArray, npt.NDArray[np.bool_]],
    new: tuple[FloatArray, npt.NDArray[np.bool_]],
    *,
    ecmp: bool,
) -> Trees:
    """Everything from nothing, whatever the base was."""
    return all_trees(topo, *new, ecmp=ecmp)


def _hops(topo: Topology, trees: Trees, d: int, *, ecmp: bool) -> list[tuple[int, int, int, float]]:
    """Edge, tail, head and share of every edge on the DAG of `d`, nearest first."""
    edges = [int(e) for e in trees.edge[d, : trees.count[d]]]
    ways = trees.ways[d, : trees.count[d]] if ecmp else np.ones(len(edges), np.int32)
    return [
        (e, int(topo.tail[e]), int(topo.head[e]), 1.0 / k) for e, k in zip(edges, ways.tolist(), strict=True)
    ]


def settle(
    topo: Topology,
    trees: Trees,
    ecmp: bool,
    laws: Laws,
    rate: FloatArray,
    square: FloatArray,
    busy: npt.NDArray[np.bool_],
    bursty: npt.NDArray[np.bool_],
    tolerance: float,
    limit: int,
    known: FloatArray,
    load: FloatArray,
    load_square: FloatArray,
    delay: FloatArray,
    variance: FloatArray,
    loss: FloatArray,
) -> tuple[int, float]:
    """Loads, then losses (from none at all), until those stay; returns the passes and the last change."""
    loss[:] = 0.0
    step, before, change = 1.0, math.inf, math.inf
    for iteration in range(1, limit + 1):
        load[:], load_square[:] = 0.0, 0.0
        for d in range(len(topo.transit)):
            here, here_square = rate[:, d].copy(), square[:, d].copy()
            for e, t, h, share in reversed(_hops(topo, trees, d, ecmp=ecmp)):
                kept = 1.0 - loss[e]
                load[e] += here[:, t] * share
                load_square[e] += here_square[:, t] * share**2
                here[:, h] += here[:, t] * share * kept
                here_square[:, h] += here_square[:, t] * (share * kept) ** 2
        load_square[:, ~bursty] = 0.0
        delay[:], variance[:], new = evaluate_all(laws, load, load_square)
        change = float(np.abs(new - loss).max(initial=0.0))
        if change <= tolerance:
            return iteration, change
        if iteration % 10 == 0:
            step = step / 2.0 if change > 0.1 * before else step
            before = change
        loss += step * (new - loss)
    return limit, change


def compose(
    topo: Topology,
    trees: Trees,
    ecmp: bool,
    edge_delay: FloatArray,
    edge_variance: FloatArray,
    edge_loss: FloatArray,
    edge_fixed: FloatArray,
    edge_size: FloatArray,
    size_scv: FloatArray,
    delay: FloatArray,
    variance: FloatArray,
    arrive: FloatArray,
    fixed: FloatArray,
    size: FloatArray,
) -> None:
    """First and second moments along all paths, mixed by the share that each next hop delivers."""
    for into in (delay, variance, arrive, fixed, size):
        into[:] = np.nan
    for c in range(delay.shape[0]):
        for d in range(delay.shape[1]):
            # node: probability to arrive; moments of the delay without the own size; of the size; least fixed
            found = {d: (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)}
            hops: dict[int, list[tuple[int, int, float]]] = {}
            for e, t, h, share in _hops(topo, trees, d, ecmp=ecmp):
                hops.setdefault(t, []).append((e, h, share))
            for t, onward in hops.items():
                weights = [share * found[h][0] * (1.0 - edge_loss[e, c]) for e, h, share in onward]
                whole = sum(weights)
                parts = [w / whole for w in weights] if whole > 0.0 else [share for _, _, share in onward]
                first = second = sizes = sizes_square = 0.0
                least = math.inf
                for part, (e, h, _) in zip(parts, onward, strict=True):
                    _, y, y2, s, s2, f = found[h]
                    w, v, b = edge_delay[e, c], edge_variance[e, c], edge_size[e, c]
                    first += part * (y + w)
                    second += part * (y2 + 2.0 * y * w + w * w + v)
                    sizes += part * (s + b)
                    sizes_square += part * (s2 + 2.0 * s * b + b * b)
                    least = min(least, f + edge_fixed[e])
                found[t] = (whole, first, second, sizes, sizes_square, least)
            for v, (p, y, y2, s, s2, f) in found.items():
                arrive[c, d, v], delay[c, d, v], fixed[c, d, v], size[c, d, v] = p, y, f, s
                variance[c, d, v] = max(y2 - y * y, 0.0) + size_scv[c] * s2


def digest(
    rate: FloatArray,
    parts: FloatArray,
    sources: IntArray,
    destinations: IntArray,
    load: FloatArray,
    loss: FloatArray,
    service: FloatArray,
    servers: FloatArray,
    figures: FloatArray,
    busy: FloatArray,
    sums: FloatArray,
    worst: npt.NDArray[np.int64],
) -> None:
    """The asked pairs, the edges, and by class sums and worst pairs; as the kernel of `passes` says."""
    delay, variance, arrive, fixed, size = parts
    at = (slice(None), destinations, sources)
    figures[:] = delay[at], variance[at], 1.0 - arrive[at], (rate * arrive)[at], fixed[at], size[at]
    each = np.where(servers > 0.0, servers, 1.0)
    busy[:] = (load * service).sum(axis=1) / each, (load * (1.0 - loss) * service).sum(axis=1) / each
    sums[:] = 0.0
    worst[:] = -1
    for c in range(rate.shape[0]):
        asked = [(int(d), int(s)) for d, s in np.argwhere(rate[c] > 0.0)]
        joined = [pair for pair in asked if not np.isnan(arrive[c][pair])]
        sums[c, 0] = sum(rate[c][pair] for pair in asked)
        sums[c, 1] = sum(rate[c][pair] * arrive[c][pair] for pair in joined)
        sums[c, 2] = sum(rate[c][pair] * arrive[c][pair] * delay[c][pair] for pair in joined)
        sums[c, 5] = len(asked) - len(joined)
        if joined:
            slow = max(joined, key=lambda pair: delay[c][pair])
            lossy = min(joined, key=lambda pair: arrive[c][pair])
            sums[c, 3], sums[c, 4] = delay[c][slow], 1.0 - arrive[c][lossy]
            worst[c] = slow[1], slow[0], lossy[1], lossy[0]
