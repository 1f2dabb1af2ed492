"""Rung L0: is there a way, what do edges carry at best, and how far could demand grow. No queues, no delays.

Owns the linear program of routing at best; shortest paths are `routing`'s. Refuses networks for which the
program would take minutes. Losses are left out: what is said here is what would be carried if none were lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.errors import OverCapacity
from domain_twin.simulation import passes, routing
from domain_twin.simulation.applied import applied
from domain_twin.simulation.checks import check_demand, check_graph
from domain_twin.simulation.graph import BASE, Demand, FloatArray, Law, SimGraph, Variant

__all__ = ["MOST_VARIABLES", "Capacity", "assess"]

MOST_VARIABLES = 50_000
"""Flows on edges that the linear program may have: commodities times edges; about ten seconds."""
_TIME_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class Capacity:
    """What a network could carry under a variant. E edges, C classes, N nodes."""

    variant: Variant
    intensity: FloatArray  # [E] offered over what an edge can serve, on the paths that are used
    unreachable: npt.NDArray[np.bool_]  # [C, destination, source] pairs with demand and without a path
    headroom: float  # all demand could be this many times as much, on the paths that are used; inf: no demand
    best_headroom: float | None  # the same if routed at best; None: not asked for

    @property
    def busiest(self) -> int | None:
        """The edge of the highest intensity; None without edges."""
        return int(self.intensity.argmax()) if self.intensity.size else None


def assess(
    graph: SimGraph, demand: Demand, variant: Variant = BASE, *, ecmp: bool = False, best: bool = True
) -> Capacity:
    """Assess a variant; with `best` also by the linear program.

    Raises NotFound, ConfigError for what is refused everywhere, OverCapacity where the program is too large.
    """
    check_graph(graph)
    check_demand(graph, demand)
    graph, demand = applied(graph, demand, variant)
    rate = np.array(demand.rate, np.float64, order="C")  # a read-only one would be a kernel of its own
    topo = routing.topology(graph)
    trees = routing.all_trees(topo, np.ascontiguousarray(graph.metric, np.float64), graph.up, ecmp=ecmp)
    unreachable = (rate > 0.0) & np.isinf(trees.distance)[None]
    shape = (len(graph.edges), len(graph.classes))
    load, none = np.zeros(shape), np.zeros(shape)
    passes.load_edges(
        topo,
        trees,
        ecmp,
        rate,
        rate,
        rate.any(axis=2),
        np.zeros(shape[1], np.bool_),
        none,
        load,
        np.zeros(shape),
    )
    effort = _effort(graph)
    intensity = (load * effort).sum(axis=1)
    highest = float(intensity.max(initial=0.0))
    reached = np.where(unreachable, 0.0, rate)
    return Capacity(
        variant,
        intensity,
        unreachable,
        math.inf if highest == 0.0 else 1.0 / highest,
        _best(graph, reached, effort) if best else None,
    )


def _effort(graph: SimGraph) -> FloatArray:
    """Share of an edge that one packet/s of a class takes, [E, C]; 0 where nothing is served."""
    bits = np.array([8.0 * kind.mean_octets for kind in graph.classes])
    effort = np.zeros((len(graph.edges), len(bits)))
    paced = np.isin(graph.law, (Law.LINK, Law.CELL))
    effort[paced] = bits / graph.capacity_bps[paced, None]
    station = graph.law == Law.STATION
    effort[station] = (graph.service_s[station] / graph.servers[station])[:, None]
    return effort


def _best(graph: SimGraph, rate: FloatArray, effort: FloatArray) -> float:
    """The factor by which all demand can grow if it is split over any paths (maximum concurrent flow).

    Shahrokhi & Matula, J. ACM 37 (1990), with one commodity per destination (and per class, where classes are
    told apart by more than the size of their packets): flow_out - flow_in = factor * demand at every node.
    """
    from scipy import optimize
    from scipy.sparse import csr_array, eye_array, hstack, kron

    rate, effort = _merged(graph, rate, effort)
    commodities = [(int(c), int(d)) for c, d in np.argwhere(rate.any(axis=2))]
    edges = np.flatnonzero(graph.up)
    variables = len(commodities) * len(edges)
    if variables > MOST_VARIABLES:
        raise OverCapacity(
            f"the linear program has {variables} variables ({len(commodities)} commodities, {len(edges)}"
            f" edges); at most {MOST_VARIABLES} are solved: leave it out (best=False), or ask about a part"
        )
    if not commodities:
        return math.inf
    nodes = len(graph.nodes)
    ends = np.concatenate([graph.tail[edges], graph.head[edges]])
    signs = np.repeat([1.0, -1.0], len(edges))
    columns = np.tile(np.arange(len(edges)), 2)
    incidence = csr_array((signs, (ends, columns)), shape=(nodes, len(edges)))
    needs, bounds = np.zeros((len(commodities), nodes)), np.full((variables, 2), [0.0, np.inf])
    for k, (c, d) in enumerate(commodities):
        needs[k] = rate[c, d]
        needs[k, d] = -rate[c, d].sum()
        crossed = (graph.head[edges] != d) & ~graph.transit[graph.head[edges]]
        bounds[k * len(edges) : (k + 1) * len(edges)][crossed, 1] = 0.0
    balance = hstack([kron(eye_array(len(commodities)), incidence), csr_array(-needs.reshape(-1, 1))])
    spent = np.concatenate([effort[edges, c] for c, _ in commodities])
    which = np.tile(np.arange(len(edges)), len(commodities))
    room = csr_array((spent, (which, np.arange(variables))), shape=(len(edges), variables + 1))
    goal = np.zeros(variables + 1)
    goal[-1] = -1.0
    linprog: Any = optimize.linprog  # its stubs know nothing of sparse arrays
    found = linprog(
        goal,
        A_ub=room,
        b_ub=np.ones(len(edges)),
        A_eq=balance,
        b_eq=np.zeros(balance.shape[0]),
        bounds=np.vstack([bounds, [0.0, np.inf]]),
        method="highs-ipm",  # four times faster than simplex on 37,000 variables
        options={"time_limit": _TIME_LIMIT_S},
    )
    if found.status == 3:  # unbounded: nothing on any path serves at a finite rate
        return math.inf
    if found.status != 0:
        raise OverCapacity(
            f"the linear program of {variables} variables was not solved ({found.message}); leave it out"
            " (best=False), or ask about a part"
        )
    return float(found.x[-1])


def _merged(graph: SimGraph, rate: FloatArray, effort: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One class of bits in the place of all, where no station tells classes apart by packets."""
    if (graph.law == Law.STATION).any() and len(graph.classes) > 1:
        return rate, effort
    bits = np.array([8.0 * kind.mean_octets for kind in graph.classes])
    return np.tensordot(bits, rate, 1)[None], effort[:, :1] / bits[0]
