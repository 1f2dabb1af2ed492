"""Shortest paths to every destination by IGP metric: what each node puts into its forwarding table.

Tie-break: among the links of equal total metric a node takes the one with the lowest index, and links are
indexed in the lexical order of their link-ids.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["next_hops"]

_FAR = np.int64(1) << 60


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def next_hops(
    links: Any,
    transit: NDArray[np.bool_],
    table: NDArray[np.int64],
) -> None:
    """Fill `table` (node x destination) with the outgoing link of the shortest path, -1 where there is none.

    `transit` (per node) withdraws a node from the middle of paths; it may still start and end them.
    """
    nodes = table.shape[0]
    distance = np.empty(nodes, np.int64)
    for destination in range(nodes):
        distance[:] = _FAR
        distance[destination] = 0
        changed = True
        while changed:
            changed = False
            for k in links:
                far = k.target
                if not k.up or distance[far] >= _FAR or (far != destination and not transit[far]):
                    continue
                if distance[far] + k.metric < distance[k.source]:
                    distance[k.source] = distance[far] + k.metric
                    changed = True
        table[:, destination] = -1
        for link in range(len(links) - 1, -1, -1):
            near, far = links[link].source, links[link].target
            if not links[link].up or near == destination or distance[far] >= _FAR:
                continue
            if far != destination and not transit[far]:
                continue
            if distance[far] + links[link].metric == distance[near]:
                table[near, destination] = link
