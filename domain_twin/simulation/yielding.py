"""What elastic flows offer once they have yielded to the others and to each other, as a network's routes lie.

Owns the way from routed demand to `elastic.max_min` and back: what the others leave on every edge, and which
edges each elastic flow uses by how much. The rest of the engine knows elastic flows as any others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray, IntArray
from domain_twin.simulation.jit import kernel
from domain_twin.simulation.laws.edges import Laws
from domain_twin.simulation.laws.elastic import max_min
from domain_twin.simulation.routing import Topology, Trees

__all__ = ["yielded"]


def yielded(
    topo: Topology, trees: Trees, laws: Laws, rate: FloatArray, left: FloatArray, *, ecmp: bool
) -> FloatArray:
    """Packets/s [C, N, N] of elastic demand `rate` that fit into `left` [E], erlangs, max-min fair.

    Flows without a path keep what they ask for: it is stranded wherever they start.
    """
    wanted: list[FloatArray] = []
    places: list[tuple[npt.NDArray[np.int64], ...]] = []
    flow: list[npt.NDArray[np.int64]] = []
    edge: list[IntArray] = []
    use: list[FloatArray] = []
    count = 0
    for c in range(rate.shape[0]):
        if not rate[c].any():
            continue
        first, which, share = _uses(topo, trees, ecmp, rate[c])
        destination, source = np.nonzero(rate[c])
        crossed = np.diff(first)
        flow.append(np.repeat(np.arange(count, count + len(source)), crossed))
        edge.append(which)
        use.append(share * laws.service_s[which, c])
        wanted.append(rate[c, destination, source])
        places.append((np.full(len(source), c), destination, source))
        count += len(source)
    if not wanted:
        return rate
    found = max_min(
        wanted=np.concatenate(wanted),
        capacity=left,
        flow=np.concatenate(flow),
        edge=np.concatenate(edge),
        use=np.concatenate(use),
    )
    result = np.zeros_like(rate)
    result[tuple(np.concatenate(axis) for axis in zip(*places, strict=True))] = found
    return result


@kernel
def _uses(
    topo: Topology, trees: Trees, ecmp: bool, rate: FloatArray
) -> tuple[npt.NDArray[np.int64], IntArray, FloatArray]:
    """Edges [first[f]:first[f + 1]] of flow f, and its share on them; flows as np.nonzero(rate) has them."""
    nodes = len(topo.transit)
    flows = 0
    for d in range(nodes):
        for s in range(nodes):
            if rate[d, s] > 0.0:
                flows += 1
    first = np.zeros(flows + 1, np.int64)
    edge, share = np.empty(8 * flows + 8, np.int32), np.empty(8 * flows + 8)
    here = np.zeros(nodes)
    n = f = 0
    for d in range(nodes):
        for s in range(nodes):
            if rate[d, s] <= 0.0:
                continue
            here[:] = 0.0
            here[s] = 1.0
            for j in range(trees.count[d] - 1, -1, -1):
                e = trees.edge[d, j]
                t = topo.tail[e]
                if here[t] == 0.0:
                    continue
                if n == len(edge):
                    edge = np.concatenate((edge, np.empty(n, np.int32)))
                    share = np.concatenate((share, np.empty(n)))
                edge[n] = e
                share[n] = here[t] / trees.ways[d, j] if ecmp else here[t]
                here[topo.head[e]] += share[n]
                n += 1
            f += 1
            first[f] = n
    return first, edge[:n], share[:n]
