"""Where packets go: one shortest-path DAG towards every destination, and what changes of it under a variant.

A node forwards over the edges that lie on a shortest path (RFC 2328 16.1): over all of them in equal shares
(ECMP, RFC 2992), or over the one whose id comes first, as the devices do. Edges of metric 0 lie inside a
node; among nodes of equal distance the one with fewer of them to go is nearer, so that a DAG has no cycle.
N nodes, E edges; distances are sums of metrics, inf where there is no way.
"""
# ruff: noqa: PLR0917 - numba kernels take their arrays by position

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray, IntArray, SimGraph
from domain_twin.simulation.jit import inlined, kernel, step

__all__ = ["Topology", "Trees", "all_trees", "changed_trees", "like", "mend", "new_trees", "path", "topology"]

_SLACK = 1.0 + 1e-12  # sums of fractional metrics differ in their last digits by the order of summation


class Topology(NamedTuple):
    """How edges join nodes, for kernels: C-contiguous arrays."""

    tail: IntArray  # [E]
    head: IntArray  # [E]
    out_start: IntArray  # [N + 1] into out_edge
    out_edge: IntArray  # [E] edges by tail, in the order of their ids
    in_start: IntArray  # [N + 1] into in_edge
    in_edge: IntArray  # [E] edges by head
    transit: npt.NDArray[np.bool_]  # [N]


class Trees(NamedTuple):
    """A DAG for every destination, its edges nearest first: tails never stand before the heads they need."""

    count: IntArray  # type: ignore[assignment]  # [N] edges in the DAG of a destination
    edge: IntArray  # [N, M] the DAG's edges, those of one tail side by side; M = N - 1, or E with ECMP
    ways: IntArray  # [N, M] next hops that the edge's tail has; [1, 1] without ECMP, where it is always 1
    distance: FloatArray  # [destination, node] sum of metrics; inf: no way
    steps: IntArray  # [destination, node] edges to go at this very distance: of metric 0, or lost in rounding


def topology(graph: SimGraph) -> Topology:
    """The arrays of `graph` by tail and by head; ties among edges go to the id that sorts first."""
    nodes = len(graph.nodes)
    rank = np.empty(len(graph.edges), np.int64)
    rank[sorted(range(len(graph.edges)), key=graph.edges.__getitem__)] = np.arange(len(graph.edges))
    outward = np.lexsort((rank, graph.tail))
    inward = np.lexsort((rank, graph.head))
    return Topology(
        np.ascontiguousarray(graph.tail, np.int32),
        np.ascontiguousarray(graph.head, np.int32),
        np.searchsorted(graph.tail[outward], np.arange(nodes + 1)).astype(np.int32),
        outward.astype(np.int32),
        np.searchsorted(graph.head[inward], np.arange(nodes + 1)).astype(np.int32),
        inward.astype(np.int32),
        np.ascontiguousarray(graph.transit, np.bool_),
    )


def new_trees(nodes: int, edges: int, *, ecmp: bool) -> Trees:
    """Room for the DAGs of a network of this size."""
    most = max(edges if ecmp else nodes - 1, 1)
    return Trees(
        np.zeros(nodes, np.int32),
        np.zeros((nodes, most), np.int32),
        np.ones((nodes, most) if ecmp else (1, 1), np.int32),
        np.empty((nodes, nodes)),
        np.empty((nodes, nodes), np.int32),
    )


def all_trees(topo: Topology, metric: FloatArray, up: npt.NDArray[np.bool_], *, ecmp: bool) -> Trees:
    """The DAGs towards every node over the edges that are `up`, from nothing."""
    trees = new_trees(len(topo.transit), len(topo.tail), ecmp=ecmp)
    _grow(topo, metric, up, ecmp, trees)
    return trees


def changed_trees(
    topo: Topology,
    base: Trees,
    old: tuple[FloatArray, npt.NDArray[np.bool_]],
    new: tuple[FloatArray, npt.NDArray[np.bool_]],
    *,
    ecmp: bool,
) -> Trees:
    """`base`, routed by `old` metrics and states, brought to the `new` ones.

    Only destinations whose DAG a changed edge is on, or might come onto, are looked at, and of those only the
    nodes whose label changes are searched again (after Ramalingam and Reps 1996).
    """
    if not ((old[0] != new[0]) | (old[1] != new[1])).any():
        return base
    trees = like(base)
    mend(topo, base, *old, *new, ecmp, trees)
    return trees


def like(trees: Trees) -> Trees:
    """Room for DAGs of the same network."""
    return Trees(*[np.empty_like(part) for part in trees])  # type: ignore[arg-type]


def path(topo: Topology, trees: Trees, source: int, destination: int, *, ecmp: bool) -> tuple[int, ...]:
    """Edges from source to destination, the way of most traffic if there are several; empty without a way."""
    carried = {destination: 1.0}
    onward: dict[int, int] = {}
    for j in range(int(trees.count[destination])):
        edge = int(trees.edge[destination, j])
        tail = int(topo.tail[edge])
        share = carried[int(topo.head[edge])] / (int(trees.ways[destination, j]) if ecmp else 1)
        if share > carried.get(tail, 0.0):
            carried[tail], onward[tail] = share, edge
    edges: list[int] = []
    while source in onward and source != destination:
        edges.append(onward[source])
        source = int(topo.head[edges[-1]])
    return tuple(edges)


@inlined
def on_path(distance: FloatArray, steps: IntArray, t: int, h: int, metric: float) -> bool:
    """Whether an edge t -> h of this metric lies on a shortest path towards the destination of `distance`."""
    if not distance[h] + metric <= distance[t] * _SLACK:
        return False
    return bool(distance[h] < distance[t] or (distance[h] == distance[t] and steps[h] < steps[t]))


@inlined
def _choose(
    topo: Topology,
    metric: FloatArray,
    up: npt.NDArray[np.bool_],
    ecmp: bool,
    trees: Trees,
    d: int,
    t: int,
    n: int,
    distance: FloatArray,
    steps: IntArray,
) -> int:
    """Write the edges by which `t` forwards towards `d` behind the n written so far; returns the new n."""
    first = n
    for k in range(topo.out_start[t], topo.out_start[t + 1]):
        e = topo.out_edge[k]
        h = topo.head[e]
        if up[e] and (h == d or topo.transit[h]) and on_path(distance, steps, t, h, metric[e]):
            trees.edge[d, n] = e
            n += 1
            if not ecmp:
                break
    if ecmp:
        trees.ways[d, first:n] = n - first
    return n


@kernel
def _grow(topo: Topology, metric: FloatArray, up: npt.NDArray[np.bool_], ecmp: bool, trees: Trees) -> None:
    """Write the DAGs of all destinations, by Dijkstra (1959) against the edges."""
    nodes, edges = len(topo.transit), len(topo.tail)
    order = np.empty(nodes, np.int32)
    far, deep, node = np.empty(edges + 1), np.empty(edges + 1, np.int32), np.empty(edges + 1, np.int32)
    for d in range(nodes):
        distance, steps = trees.distance[d], trees.steps[d]
        distance[:] = np.inf
        steps[:] = 0
        distance[d] = 0.0
        far[0], deep[0], node[0] = 0.0, 0, d
        reached = _search(topo, metric, up, d, distance, steps, order, far, deep, node, 1)
        n = 0
        for i in range(1, reached):
            n = _choose(topo, metric, up, ecmp, trees, d, order[i], n, distance, steps)
        trees.count[d] = n


@inlined
def _touched(
    topo: Topology,
    d: int,
    distance: FloatArray,
    steps: IntArray,
    old_metric: FloatArray,
    old_up: npt.NDArray[np.bool_],
    new_metric: FloatArray,
    new_up: npt.NDArray[np.bool_],
    changed: IntArray,
) -> bool:
    """Whether the DAG of `d` may differ after the `changed` edges took their new metric and state.

    A worse edge matters where it is on the DAG. A better one matters where it makes its tail's distance
    smaller or equal: the better edge nearest to the destination on any new path is judged by an old distance.
    """
    for i in range(len(changed)):
        e = changed[i]
        t, h = topo.tail[e], topo.head[e]
        if t == d or (h != d and not topo.transit[h]) or distance[h] == np.inf:
            continue
        if old_up[e] and on_path(distance, steps, t, h, old_metric[e]):
            return True
        if new_up[e] and distance[h] + new_metric[e] <= distance[t] * _SLACK:
            return True
    return False


@kernel
def mend(
    topo: Topology,
    base: Trees,
    old_metric: FloatArray,
    old_up: npt.NDArray[np.bool_],
    metric: FloatArray,
    up: npt.NDArray[np.bool_],
    ecmp: bool,
    trees: Trees,
) -> None:
    """Write into `trees` what becomes of `base` when edges take their new metric and state."""
    for d in range(len(topo.transit)):
        trees.count[d] = base.count[d]
    trees.edge[:] = base.edge
    trees.ways[:] = base.ways
    trees.distance[:] = base.distance
    trees.steps[:] = base.steps
    changed = np.empty(len(topo.tail), np.int32)
    count = 0
    for e in range(len(topo.tail)):
        if old_metric[e] != metric[e] or old_up[e] != up[e]:
            changed[count] = e
            count += 1
    changed = changed[:count]
    if not count:
        return
    nodes, edges = len(topo.transit), len(topo.tail)
    # An edge is offered once for its tail that lost its label, once as changed and once for its settled head.
    room = 2 * edges + len(changed) + 1
    far, deep, node = np.empty(room), np.empty(room, np.int32), np.empty(room, np.int32)
    order, lost_list = np.empty(nodes, np.int32), np.empty(nodes, np.int32)
    marks = np.empty((3, nodes), np.bool_)
    for d in range(nodes):
        labels = base.distance[d], base.steps[d]
        if _touched(topo, d, *labels, old_metric, old_up, metric, up, changed):
            _mend_one(
                topo, base, old_metric, old_up, metric, up, changed, ecmp, d, far, deep, node, order,
                lost_list, marks, trees,
            )  # fmt: skip


@step
def _mend_one(
    topo: Topology,
    base: Trees,
    old_metric: FloatArray,
    old_up: npt.NDArray[np.bool_],
    metric: FloatArray,
    up: npt.NDArray[np.bool_],
    changed: IntArray,
    ecmp: bool,
    d: int,
    far: FloatArray,
    deep: IntArray,
    node: IntArray,
    order: IntArray,
    lost_list: IntArray,
    marks: npt.NDArray[np.bool_],
    trees: Trees,
) -> None:
    """The same for the DAG of one destination; from `far` to `marks` [3, N] is room to work in."""
    nodes = len(topo.transit)
    lost, moved, again = marks[0], marks[1], marks[2]
    before, before_steps = base.distance[d], base.steps[d]
    distance, steps = trees.distance[d], trees.steps[d]
    lost[:] = False
    moved[:] = False
    again[:] = False
    # Nodes that keep no edge of their old distance lose their label; nearest first, so heads are known.
    losses, j = 0, 0
    while j < base.count[d]:
        t = topo.tail[base.edge[d, j]]
        ways = base.ways[d, j] if ecmp else 1
        kept = False
        for k in range(j, j + ways):
            e = base.edge[d, k]
            kept = kept or (up[e] and metric[e] <= old_metric[e] and not lost[topo.head[e]])
        if not kept and not ecmp:
            for k in range(topo.out_start[t], topo.out_start[t + 1]):
                e = topo.out_edge[k]
                h = topo.head[e]
                if not (old_up[e] and up[e] and metric[e] <= old_metric[e]) or lost[h]:
                    continue
                if (h == d or topo.transit[h]) and on_path(before, before_steps, t, h, old_metric[e]):
                    kept = True
        if not kept:
            lost[t] = True
            lost_list[losses] = t
            losses += 1
        j += ways
    for i in range(losses):
        distance[lost_list[i]], steps[lost_list[i]] = np.inf, 0
    size = 0
    for i in range(losses):
        t = lost_list[i]
        moved[t] = True
        for k in range(topo.out_start[t], topo.out_start[t + 1]):
            e = topo.out_edge[k]
            if up[e] and not lost[topo.head[e]]:
                size = _offer(topo, metric, d, e, distance, steps, far, deep, node, size)
    for i in range(len(changed)):
        e = changed[i]
        again[topo.tail[e]] = True
        if up[e] and not lost[topo.tail[e]] and not lost[topo.head[e]]:
            size = _offer(topo, metric, d, e, distance, steps, far, deep, node, size)
    reached = _search(topo, metric, up, d, distance, steps, order, far, deep, node, size)
    for i in range(reached):
        moved[order[i]] = True
    for t in range(nodes):
        if moved[t]:
            for k in range(topo.in_start[t], topo.in_start[t + 1]):
                again[topo.tail[topo.in_edge[k]]] = True
    # Both lists are sorted by label: nodes that stay where they were, and nodes that were searched.
    n, i, j = 0, 0, 0
    while i < reached or j < base.count[d]:
        ways, t = 1, -1
        if j < base.count[d]:
            t = topo.tail[base.edge[d, j]]
            ways = base.ways[d, j] if ecmp else 1
            if moved[t]:
                j += ways
                continue
        if i < reached and (t < 0 or _nearer(distance, steps, order[i], t)):
            n = _choose(topo, metric, up, ecmp, trees, d, order[i], n, distance, steps)
            i += 1
            continue
        if again[t]:
            n = _choose(topo, metric, up, ecmp, trees, d, t, n, distance, steps)
        else:
            for k in range(j, j + ways):
                trees.edge[d, n] = base.edge[d, k]
                if ecmp:
                    trees.ways[d, n] = ways
                n += 1
        j += ways
    trees.count[d] = n


@inlined
def _nearer(distance: FloatArray, steps: IntArray, a: int, b: int) -> bool:
    return bool(distance[a] < distance[b] or (distance[a] == distance[b] and steps[a] < steps[b]))


@inlined
def _offer(
    topo: Topology,
    metric: FloatArray,
    d: int,
    e: int,
    distance: FloatArray,
    steps: IntArray,
    far: FloatArray,
    deep: IntArray,
    node: IntArray,
    size: int,
) -> int:
    """Let edge e better its tail's label, and queue the tail if it does; returns the size of the queue."""
    t, h = topo.tail[e], topo.head[e]
    if h != d and not topo.transit[h]:
        return size
    length = distance[h] + metric[e]
    # A metric so small beside the distance that the sum is the same counts as 0: labels only ever grow on the
    # way, so that no node is settled twice and what is in `order` and in the queue fits.
    step = steps[h] + 1 if length == distance[h] else 0
    if length < distance[t] or (length == distance[t] and length < np.inf and step < steps[t]):
        distance[t], steps[t] = length, step
        _sift_up(far, deep, node, size, length, step, t)
        return size + 1
    return size


@step
def _search(
    topo: Topology,
    metric: FloatArray,
    up: npt.NDArray[np.bool_],
    d: int,
    distance: FloatArray,
    steps: IntArray,
    order: IntArray,
    far: FloatArray,
    deep: IntArray,
    node: IntArray,
    size: int,
) -> int:
    """Settle the `size` queued labels and all that follow; returns how many are in `order`, nearest first."""
    reached = 0
    while size > 0:
        v, length, step = node[0], far[0], deep[0]
        size -= 1
        _sift_down(far, deep, node, size)
        if length != distance[v] or step != steps[v]:
            continue  # a better label came later
        order[reached] = v
        reached += 1
        if v != d and not topo.transit[v]:
            continue
        for k in range(topo.in_start[v], topo.in_start[v + 1]):
            e = topo.in_edge[k]
            if up[e]:
                size = _offer(topo, metric, d, e, distance, steps, far, deep, node, size)
    return reached


@inlined
def _sift_up(
    far: FloatArray, deep: IntArray, node: IntArray, size: int, length: float, step: int, value: int
) -> None:
    i = size
    while i > 0:
        above = (i - 1) // 2
        if far[above] < length or (far[above] == length and deep[above] <= step):
            break
        far[i], deep[i], node[i] = far[above], deep[above], node[above]
        i = above
    far[i], deep[i], node[i] = length, step, value


@inlined
def _sift_down(far: FloatArray, deep: IntArray, node: IntArray, size: int) -> None:
    length, step, value = far[size], deep[size], node[size]
    i = 0
    while True:
        c = 2 * i + 1
        if c >= size:
            break
        if c + 1 < size and (far[c + 1] < far[c] or (far[c + 1] == far[c] and deep[c + 1] < deep[c])):
            c += 1
        if far[c] > length or (far[c] == length and deep[c] >= step):
            break
        far[i], deep[i], node[i] = far[c], deep[c], node[c]
        i = c
    far[i], deep[i], node[i] = length, step, value
