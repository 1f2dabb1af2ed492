"""What the learned correction is a linear combination of: features of a solution, hop by hop.

Pairs of packets on the same links (`followers`), and the smoothing of arrivals by the queue before. All are
relative to loads, shares and waits, so that a fit on small networks and slow links holds for others.
Owns the features and which queues have any; fits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain_twin.simulation.flows import Flows, FlowSolution
from domain_twin.simulation.graph import Arrivals, FloatArray, Law, Scheduler, SimGraph
from domain_twin.simulation.learned.followers import follow

__all__ = [
    "CONCENTRATED",
    "DEGREES",
    "DELAY_FEATURES",
    "FULL",
    "OF_WAIT",
    "VARIANCE_FEATURES",
    "Features",
    "features_of",
]

FULL = 0.95
"""Utilisation from which a queue counts as full."""
CONCENTRATED = 0.2
"""Sum of the squared shares of what comes from other queues, up to which a full queue is still corrected.

Beyond it the terms say nothing: a stream that a full queue spaced out needs no wait at the next at all.
"""

# What scales a term: nothing, the load of this queue, of the one before, of both.
_LOADS = ("", "*load", "*before", "*both")
_SMOOTHING = (
    "share*before", "share*ratio*before", "share*ratio*load", "share*load", "share*ratio*both",
    "share^2*ratio*before", "share*kept*before",
)  # fmt: skip
DELAY_FEATURES = (
    *(f"followers{scale}" for scale in _LOADS),
    *(f"queue's followers{scale}" for scale in _LOADS),
    *(f"wait*{term}" for term in _SMOOTHING),
    *(f"wait*queue's {term}" for term in _SMOOTHING),
)
"""22 features of the mean delay, seconds per hop."""
VARIANCE_FEATURES = (
    *(f"with earlier{scale}" for scale in _LOADS[:3]),
    *(f"with size{scale}" for scale in _LOADS[:3]),
    *(f"square{scale}" for scale in _LOADS[:2]),
    *(f"queue's square{scale}" for scale in _LOADS[:2]),
    *(f"variance*{term}" for term in _SMOOTHING),
    *(f"variance*queue's {term}" for term in _SMOOTHING),
)
"""24 features of the delay's variance, seconds squared per hop."""
# How often load multiplies a delay feature beside its wait: growth with all load, for the monotone guard.
DEGREES = np.array([1, 2, 2, 3, 1, 2, 2, 3, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1], dtype=np.float64)
OF_WAIT = np.array([name.startswith("wait") for name in DELAY_FEATURES])


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the correction is a linear combination of, and the queues it is about."""

    delay: FloatArray  # [H, 22] s
    variance: FloatArray  # [H, 24] s2
    eligible: np.ndarray  # [E] bool: served in order of arrival, Poisson arrivals only
    crowded: np.ndarray  # [E] bool: full, and mostly of what few other queues send
    utilisation: FloatArray  # [E]
    room: FloatArray  # [E]
    size_scv: FloatArray  # [E]


def features_of(graph: SimGraph, flows: Flows, solution: FlowSolution) -> Features:
    """Compute the features of every hop from what was solved."""
    hops = solution.hops
    edges, kind = hops.edge, hops.traffic_class
    before = np.maximum(hops.before, 0)
    load = solution.load_pps.sum(axis=1)
    service = _mean(solution.service_s, solution.load_pps)
    eligible = _eligible(graph, solution)
    # Only a queue that is one itself can have spaced out what comes from it.
    follows = (hops.before >= 0) & eligible[before] & eligible[edges]
    arriving = _turns(hops.before, edges, hops.rate_pps, follows, len(graph.edges))
    leaving = np.maximum((solution.load_pps * (1.0 - solution.edge_loss)).sum(axis=1), 1e-300)
    share = np.where(follows, arriving / np.maximum(load[edges], 1e-300), 0.0)
    kept = np.where(follows, arriving / leaving[before], 0.0)
    ratio = np.where(follows, np.minimum(service[before] / np.maximum(service[edges], 1e-300), 1.0), 0)
    here = solution.utilisation[edges]
    there = np.where(follows, solution.utilisation[before], 0.0)
    wait, spread = solution.wait_s[edges, kind], solution.wait_variance_s2[edges, kind]

    def of_queue(values: FloatArray) -> FloatArray:
        """The mean over the packets of the edge, at each of its hops."""
        sums = np.bincount(edges, values * hops.rate_pps, len(graph.edges))
        return np.asarray((sums / np.maximum(load, 1e-300))[edges], dtype=np.float64)

    concentration = np.zeros(len(graph.edges))
    concentration[edges] = of_queue(share)
    pairs = follow(graph, flows, hops)
    scales = (np.ones_like(here), here, there, here * there)
    smoothing = [
        share * there, share * ratio * there, share * ratio * here, share * here,
        share * ratio * here * there, share**2 * ratio * there, share * kept * there,
    ]  # fmt: skip
    smoothing += [of_queue(term) for term in smoothing]
    both_ways = 2.0 * pairs.with_size_bits_s * _per_bit(graph, flows)[hops.flow]
    delay = [pairs.wait_s * scale for scale in scales] + [of_queue(pairs.wait_s) * scale for scale in scales]
    variance = [
        *(pairs.with_earlier_s2 * scale for scale in scales[:3]),
        *(both_ways * scale for scale in scales[:3]),
        *(pairs.square_s2 * scale for scale in scales[:2]),
        *(of_queue(pairs.square_s2) * scale for scale in scales[:2]),
    ]
    silent = ~eligible[edges]
    delay_columns = np.stack([*delay, *(wait * term for term in smoothing)], axis=1)
    variance_columns = np.stack([*variance, *(spread * term for term in smoothing)], axis=1)
    delay_columns[silent] = 0.0
    variance_columns[silent] = 0.0
    return Features(
        delay_columns,
        variance_columns,
        eligible,
        (solution.utilisation > FULL) & (concentration > CONCENTRATED),
        solution.utilisation,
        graph.buffer,
        _mixed_scv(graph, solution),
    )


def _eligible(graph: SimGraph, solution: FlowSolution) -> np.ndarray:
    bursty = np.array([traffic.arrivals is not Arrivals.POISSON for traffic in graph.classes])
    plain = (graph.law == Law.LINK) & (graph.scheduler == Scheduler.FIFO)
    return np.asarray(plain & ~(solution.load_pps[:, bursty] > 0).any(axis=1))


def _mean(values: FloatArray, load: FloatArray) -> FloatArray:
    """The mean over the packets of each edge, [E]; plain where there are none."""
    total = load.sum(axis=1)
    weights = np.where(total[:, None] > 0, load / np.maximum(total[:, None], 1e-300), 1.0 / load.shape[1])
    return np.asarray((values * weights).sum(axis=1))


def _mixed_scv(graph: SimGraph, solution: FlowSolution) -> FloatArray:
    """Squared coefficient of variation of the sizes of all packets on an edge, [E]."""
    mean = np.array([traffic.mean_octets for traffic in graph.classes])
    square = np.array([(1.0 + traffic.size_scv) * traffic.mean_octets**2 for traffic in graph.classes])
    shape = solution.load_pps.shape
    return (
        _mean(np.broadcast_to(square, shape), solution.load_pps)
        / np.square(_mean(np.broadcast_to(mean, shape), solution.load_pps))
        - 1.0
    )


def _turns(
    before: np.ndarray, edges: np.ndarray, rate: FloatArray, counts: np.ndarray, size: int
) -> FloatArray:
    """For each hop the rate of all that comes to its edge from the same edge before, [H]."""
    key = np.where(counts, before.astype(np.int64) * size + edges, -1)
    _, place = np.unique(key, return_inverse=True)
    return np.asarray(np.where(counts, np.bincount(place, rate)[place], 0.0))


def _per_bit(graph: SimGraph, flows: Flows) -> FloatArray:
    """Seconds per bit along each path, over its links, [F]."""
    on_link = graph.law == Law.LINK
    seconds = np.where(on_link, 1.0 / np.where(on_link, graph.capacity_bps, 1.0), 0.0)
    owner = np.repeat(np.arange(flows.count), np.diff(flows.offsets))
    return np.asarray(np.bincount(owner, seconds[flows.edges], flows.count), dtype=np.float64)
