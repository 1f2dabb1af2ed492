"""The passes over the DAGs as compiled kernels: loads backward, edges, loss fixed point, figures forward.

Arrays between kernels are C-contiguous; per edge [E, C], per pair [C, destination, source]. `oracle` is the
same in plain Python. What an edge does to packets is `laws.evaluate`.
"""
# ruff: noqa: PLR0917 - numba kernels take their arrays by position

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray, IntArray
from domain_twin.simulation.jit import kernel, step
from domain_twin.simulation.laws.edges import Laws, evaluate
from domain_twin.simulation.routing import Topology, Trees, mend

__all__ = ["answer", "compose", "digest", "load_edges", "settle"]


@kernel
def load_edges(
    topo: Topology,
    trees: Trees,
    ecmp: bool,
    rate: FloatArray,
    square: FloatArray,
    busy: npt.NDArray[np.bool_],
    bursty: npt.NDArray[np.bool_],
    loss: FloatArray,
    load: FloatArray,
    load_square: FloatArray,
) -> None:
    """Sum what `rate` and `square` [C, N, N] offer to every edge [E, C], thinned by `loss` on the way.

    One pass per class and destination from the farthest node inwards. A flow that is split over k next hops
    brings rate / k and rate^2 / k^2 to each. `busy` [C, N]: destinations that anything is sent to. `bursty`
    [C]: classes whose squares are wanted; those of the others are left 0.
    """
    room = np.empty((2, rate.shape[1]))
    _load_edges(topo, trees, ecmp, rate, square, busy, bursty, loss, room, load, load_square)


@step
def _load_edges(
    topo: Topology,
    trees: Trees,
    ecmp: bool,
    rate: FloatArray,
    square: FloatArray,
    busy: npt.NDArray[np.bool_],
    bursty: npt.NDArray[np.bool_],
    loss: FloatArray,
    room: FloatArray,
    load: FloatArray,
    load_square: FloatArray,
) -> None:
    """The same with `room` [2, N] to work in."""
    classes, nodes, _ = rate.shape
    here, here_square = room[0], room[1]
    load[:] = 0.0
    load_square[:] = 0.0
    for c in range(classes):
        for d in range(nodes):
            if not busy[c, d]:
                continue
            for v in range(nodes):
                here[v] = rate[c, d, v]
            if bursty[c]:
                for v in range(nodes):
                    here_square[v] = square[c, d, v]
            for j in range(trees.count[d] - 1, -1, -1):
                e = trees.edge[d, j]
                t, h = topo.tail[e], topo.head[e]
                flow = here[t]
                if flow == 0.0:
                    continue
                share = 1.0 / trees.ways[d, j] if ecmp else 1.0
                kept = 1.0 - loss[e, c]
                load[e, c] += flow * share
                here[h] += flow * share * kept
                if bursty[c]:
                    flow_square = here_square[t] * share * share
                    load_square[e, c] += flow_square
                    here_square[h] += flow_square * kept * kept


@kernel
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
    """Iterate loads and losses [E, C] to their fixed point; returns passes and the last change.

    Full steps, halved (damped) whenever ten of them did not make the change ten times smaller. Starts from
    the `loss` that is given; `known` [2, E, C] are the loads and their squares that delay, variance and loss
    belong to already, -1 for none.
    """
    held, room = known.copy(), np.empty((2, rate.shape[1]))
    new_loss = loss.copy()
    found: tuple[int, float] = _settle(
        topo, trees, ecmp, laws, rate, square, busy, bursty, tolerance, limit, held, new_loss, room, load,
        load_square, delay, variance, loss,
    )  # fmt: skip
    return found


@step
def _settle(
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
    held: FloatArray,
    new_loss: FloatArray,
    room: FloatArray,
    load: FloatArray,
    load_square: FloatArray,
    delay: FloatArray,
    variance: FloatArray,
    loss: FloatArray,
) -> tuple[int, float]:
    """The same; `held` is written to as well, `new_loss` begins as `loss`, `room` [2, N] is to work in."""
    edges, classes = load.shape
    old_load, old_square = held[0], held[1]
    stride, before, change = 1.0, np.inf, np.inf
    for iteration in range(1, limit + 1):
        _load_edges(topo, trees, ecmp, rate, square, busy, bursty, loss, room, load, load_square)
        change = 0.0
        for e in range(edges):
            moved = False
            for c in range(classes):
                if load[e, c] != old_load[e, c] or load_square[e, c] != old_square[e, c]:
                    moved = True
                old_load[e, c], old_square[e, c] = load[e, c], load_square[e, c]
            if moved:
                evaluate(laws, e, load[e], load_square[e], delay[e], variance[e], new_loss[e])
            for c in range(classes):
                moved_by = abs(new_loss[e, c] - loss[e, c])
                if not moved_by <= change:
                    change = moved_by if moved_by >= 0.0 else np.inf  # what is no number never settles
        if change <= tolerance:
            return iteration, change
        if iteration % 10 == 0:
            if change > 0.1 * before:
                stride *= 0.5
            before = change
        for e in range(edges):
            for c in range(classes):
                loss[e, c] += stride * (new_loss[e, c] - loss[e, c])
    return limit, change


@kernel
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
    """Add up the edges' figures along every path: [C, destination, source]; NaN where there is no path.

    delay, variance: of delivered packets, s and s^2. arrive: probability. fixed: constant part of the delay,
    s. size: mean sum of service times on links, s. A packet keeps its size on every hop, so its variance has
    c_s^2 (sum E[S])^2 beside the sum over edges. With ECMP the paths' figures are mixed by what they deliver.
    """
    size_square = np.empty(delay.shape[1])
    _compose(
        topo, trees, ecmp, edge_delay, edge_variance, edge_loss, edge_fixed, edge_size, size_scv, size_square,
        delay, variance, arrive, fixed, size,
    )  # fmt: skip


@step
def _compose(
    topo: Topology,
    trees: Trees,
    ecmp: bool,
    edge_delay: FloatArray,
    edge_variance: FloatArray,
    edge_loss: FloatArray,
    edge_fixed: FloatArray,
    edge_size: FloatArray,
    size_scv: FloatArray,
    size_square: FloatArray,
    delay: FloatArray,
    variance: FloatArray,
    arrive: FloatArray,
    fixed: FloatArray,
    size: FloatArray,
) -> None:
    """The same with `size_square` [N] to work in."""
    classes, nodes = delay.shape[0], delay.shape[1]
    for c in range(classes):
        for d in range(nodes):
            y, z, p = delay[c, d], variance[c, d], arrive[c, d]
            f, s = fixed[c, d], size[c, d]
            y[:], z[:], p[:], f[:], s[:] = np.nan, np.nan, np.nan, np.nan, np.nan
            y[d], z[d], p[d], f[d], s[d] = 0.0, 0.0, 1.0, 0.0, 0.0
            if not ecmp:
                for j in range(trees.count[d]):
                    e = trees.edge[d, j]
                    t, h = topo.tail[e], topo.head[e]
                    y[t] = y[h] + edge_delay[e, c]
                    z[t] = z[h] + edge_variance[e, c]
                    p[t] = p[h] * (1.0 - edge_loss[e, c])
                    f[t] = f[h] + edge_fixed[e]
                    s[t] = s[h] + edge_size[e, c]
                for v in range(nodes):
                    z[v] += size_scv[c] * s[v] * s[v]
                continue
            size_square[d] = 0.0
            j = 0
            while j < trees.count[d]:
                t, ways = topo.tail[trees.edge[d, j]], trees.ways[d, j]
                delivered = 0.0
                for k in range(j, j + ways):
                    e = trees.edge[d, k]
                    delivered += p[topo.head[e]] * (1.0 - edge_loss[e, c])
                mean, mean_square, sizes, sizes_square, least = 0.0, 0.0, 0.0, 0.0, np.inf
                for k in range(j, j + ways):
                    e = trees.edge[d, k]
                    h = topo.head[e]
                    part = 1.0 / ways
                    if delivered > 0.0:
                        part = p[h] * (1.0 - edge_loss[e, c]) / delivered
                    whole = y[h] + edge_delay[e, c]
                    mean += part * whole
                    mean_square += part * (z[h] + edge_variance[e, c] + whole * whole)
                    sizes += part * (s[h] + edge_size[e, c])
                    sizes_square += part * (
                        size_square[h] + 2.0 * s[h] * edge_size[e, c] + edge_size[e, c] ** 2
                    )
                    least = min(least, f[h] + edge_fixed[e])
                y[t], p[t], f[t], s[t] = mean, delivered / ways, least, sizes
                z[t] = max(mean_square - mean * mean, 0.0)
                size_square[t] = sizes_square
                j += ways
            for v in range(nodes):
                z[v] += size_scv[c] * size_square[v]


@kernel
def answer(
    topo: Topology,
    base: Trees,
    old_metric: FloatArray,
    old_up: npt.NDArray[np.bool_],
    metric: FloatArray,
    up: npt.NDArray[np.bool_],
    ecmp: bool,
    laws: Laws,
    edge_fixed: FloatArray,
    rate: FloatArray,
    square: FloatArray,
    busy: npt.NDArray[np.bool_],
    bursty: npt.NDArray[np.bool_],
    size_scv: FloatArray,
    tolerance: float,
    limit: int,
    held: FloatArray,
    routed: bool,
    trees: Trees,
    edges: FloatArray,
    parts: FloatArray,
) -> tuple[int, float]:
    """A variant in one call: `base` mended into `trees`, `settle`, `compose`; returns what `settle` does.

    `routed`: `trees` are what they should be already. `held` [2, E, C]: loads and squares that the figures in
    `edges` belong to, written to; `edges` [5, E, C]: load, square, delay, variance, loss; `parts`
    [5, C, N, N]: as `compose` writes them. Calls from Python cost as much as the work of a small net.
    """
    nodes = rate.shape[1]
    if not routed:
        mend(topo, base, old_metric, old_up, metric, up, ecmp, trees)
    room, new_loss = np.empty((2, nodes)), edges[4].copy()
    found: tuple[int, float] = _settle(
        topo, trees, ecmp, laws, rate, square, busy, bursty, tolerance, limit, held, new_loss, room, edges[0],
        edges[1], edges[2], edges[3], edges[4],
    )  # fmt: skip
    _compose(
        topo, trees, ecmp, edges[2], edges[3], edges[4], edge_fixed, laws.size_s, size_scv, room[0], parts[0],
        parts[1], parts[2], parts[3], parts[4],
    )  # fmt: skip
    return found


@kernel
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
    """Reduce all pairs to the asked ones and to figures of a class; `parts` are what `compose` writes.

    figures [6, C, P]: delay, variance, loss, throughput, fixed and size parts. busy [2, E]: offered erlangs
    per server, share of time busy. sums [C, 6], over pairs that have demand: offered, delivered (packets/s),
    their delay summed over packets, worst delay (s), worst loss, pairs without a path. worst [C, 4]: source
    and destination of the worst delay, and of the worst loss; -1.
    """
    delay, variance, arrive, fixed, size = parts[0], parts[1], parts[2], parts[3], parts[4]
    classes, nodes, _ = rate.shape
    for c in range(classes):
        for i in range(len(sources)):
            s, d = sources[i], destinations[i]
            p = arrive[c, d, s]
            figures[0, c, i], figures[1, c, i], figures[2, c, i] = delay[c, d, s], variance[c, d, s], 1.0 - p
            figures[3, c, i], figures[4, c, i], figures[5, c, i] = (
                rate[c, d, s] * p,
                fixed[c, d, s],
                size[c, d, s],
            )
    for e in range(len(servers)):
        offered, carried = 0.0, 0.0
        for c in range(classes):
            offered += load[e, c] * service[e, c]
            carried += load[e, c] * (1.0 - loss[e, c]) * service[e, c]
        each = servers[e] if servers[e] > 0.0 else 1.0
        busy[0, e], busy[1, e] = offered / each, carried / each
    sums[:] = 0.0
    worst[:] = -1
    for c in range(classes):
        for d in range(nodes):
            for s in range(nodes):
                offered = rate[c, d, s]
                if offered == 0.0 or s == d:
                    continue
                sums[c, 0] += offered
                p = arrive[c, d, s]
                if np.isnan(p):
                    sums[c, 5] += 1.0
                    continue
                sums[c, 1] += offered * p
                sums[c, 2] += offered * p * delay[c, d, s]
                if delay[c, d, s] > sums[c, 3] or worst[c, 0] < 0:
                    sums[c, 3] = delay[c, d, s]
                    worst[c, 0], worst[c, 1] = s, d
                if 1.0 - p > sums[c, 4] or worst[c, 2] < 0:
                    sums[c, 4] = 1.0 - p
                    worst[c, 2], worst[c, 3] = s, d
