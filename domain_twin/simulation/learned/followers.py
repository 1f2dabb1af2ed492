"""What packets that share several links in a row do to each other's waits, pair by pair.

Queues taken one at a time see independent arrivals. Two packets that cross the same links one after the other
are not: a long one spaces out what follows, and a short one behind it catches up and waits at every link
again. In light traffic that is a matter of pairs and exact: this module integrates, over the time between
two Poisson arrivals at the first link they share, the second packet's wait at each link, and sets it beside
what independent queues would say. Knows nothing of loads beyond that order: `residual` scales it.

With leader of a bits and follower of b bits on links of rate c_1, c_2, ...: the gap between arrivals is g_1 =
tau, the wait (a/c_k - g_k)+, and g_k+1 = max(g_k, a/c_k) + (b - a)/c_k, so that g_k = max(tau + alpha_k,
beta_k) and each wait is a plateau with a ramp over tau. (Derived here; a light-traffic derivative as in M. I.
Reiman and B. Simon, "Open queueing systems in light traffic", Math. Oper. Res. 14 (1989).)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain_twin.simulation.flows import Flows, Hops, Indices
from domain_twin.simulation.graph import FloatArray, Law, Scheduler, SimGraph, TrafficClass

__all__ = ["LONGEST_RUN", "Followers", "follow"]

LONGEST_RUN = 16
"""Links in a row over which pairs are followed."""

_QUANTILES = 5  # an exponential size stands for so many equally likely ones


@dataclass(frozen=True, slots=True, eq=False)
class Followers:
    """What pairs add to independent queues, per hop, to first order in the load."""

    wait_s: FloatArray  # [H] to the mean wait
    square_s2: FloatArray  # [H] to the wait's second moment
    with_size_bits_s: FloatArray  # [H] covariance of the packet's size and its wait
    with_earlier_s2: FloatArray  # [H] twice the covariance of this wait with those at earlier links


def follow(graph: SimGraph, flows: Flows, hops: Hops) -> Followers:
    """Sum over all flows that share links with a flow, for each of its hops.

    Only first-come-first-served links take part (and fixed delays, which change no gap); a cell, a station
    or another scheduler ends a run, and so does the start of either flow.
    """
    offsets = flows.offsets.astype(np.int64)
    lengths = np.diff(offsets)
    count = len(flows.edges)
    position = np.arange(count) - offsets[hops.flow]
    seconds = np.where(
        graph.law == Law.LINK, 1.0 / np.where(graph.law == Law.LINK, graph.capacity_bps, 1.0), 0.0
    )
    plain = (graph.law == Law.FIXED) | ((graph.law == Law.LINK) & (graph.scheduler == Scheduler.FIFO))
    shared = _shared(graph, flows, hops, position, plain)
    sizes, chances = _sizes(graph.classes)
    mean = (sizes * chances).sum(axis=1)
    wait, square, with_size, with_earlier = (np.zeros(count) for _ in range(4))
    for lead in range(len(graph.classes)):
        used = chances[lead] > 0
        for start in range(int(lengths.max(initial=0))):
            at = np.nonzero(lengths > start)[0]
            kind = flows.traffic_class[at]
            # All pairs of a leader's and a follower's size: [flows, pairs].
            first = np.repeat(sizes[lead][used], sizes.shape[1])[None, :]
            second = np.tile(sizes[kind], (1, int(used.sum())))
            chance = np.repeat(chances[lead][used], sizes.shape[1])[None, :] * np.tile(
                chances[kind], (1, int(used.sum()))
            )
            around = second - mean[kind][:, None]
            shift = np.zeros_like(second)
            floor = np.zeros_like(second)
            earlier: list[tuple[FloatArray, FloatArray]] = []
            for link in range(start, min(start + LONGEST_RUN, int(lengths.max()))):
                stays = lengths[at] > link
                if not stays.all():
                    at, second, chance, around = at[stays], second[stays], chance[stays], around[stays]
                    shift, floor = shift[stays], floor[stays]
                    earlier = [(height[stays], flat[stays]) for height, flat in earlier]
                if not len(at):
                    break
                here = offsets[at] + link
                run = link - start
                rate = shared[run][lead][here]
                if start > 0 and run + 1 < len(shared):
                    # Those that were together before are counted from where they met.
                    rate = rate - shared[run + 1][lead][here]
                per_bit = seconds[flows.edges[here]][:, None]
                served = first * per_bit
                height, flat = np.maximum(served - floor, 0.0), floor - shift
                if run:
                    mean_wait = height * flat + height**2 / 2
                    wait[here] += rate * (chance * (mean_wait - served**2 / 2)).sum(axis=1)
                    square[here] += rate * (chance * (height**2 * flat + height**3 / 3 - served**3 / 3)).sum(
                        axis=1
                    )
                    with_size[here] += rate * (chance * around * mean_wait).sum(axis=1)
                    both = np.zeros_like(height)
                    for other_height, other_flat in earlier:
                        both += _overlap(other_height, other_flat, height, flat)
                    with_earlier[here] += 2.0 * rate * (chance * both).sum(axis=1)
                earlier.append((height, flat))
                apart = (second - first) * per_bit
                shift = shift + apart
                floor = np.maximum(floor, served) + apart
    return Followers(wait, square, with_size, with_earlier)


def _overlap(
    height: FloatArray, flat: FloatArray, later_height: FloatArray, later_flat: FloatArray
) -> FloatArray:
    """Integral of the product of two waits over tau; each is flat, then falls to zero with slope -1.

    The later one is flat for at least as long: what waited together stays together.
    """
    whole = height * later_height * flat
    part = np.clip(later_flat - flat, 0.0, height)
    ramp = later_height * (height * part - part**2 / 2)
    end, later_end = flat + height, later_flat + later_height
    upper = np.maximum(np.minimum(end, later_end), later_flat)
    both = _cubic(end, later_end, upper) - _cubic(end, later_end, later_flat)
    return whole + ramp + np.where(end > later_flat, both, 0.0)


def _cubic(end: FloatArray, later_end: FloatArray, tau: FloatArray) -> FloatArray:
    """Antiderivative of (end - tau)(later_end - tau)."""
    return end * later_end * tau - (end + later_end) * tau**2 / 2 + tau**3 / 3


def _shared(
    graph: SimGraph, flows: Flows, hops: Hops, position: Indices, plain: np.ndarray
) -> list[list[FloatArray]]:
    """Rate at each hop of the flows that came over the same last m links as well: [m][class][H].

    m = 0 is all of the link's load. Where a run would cross what is not plain, it is no run: rate 0.
    """
    edges = len(graph.edges)
    key = flows.edges.astype(np.int64)
    longest = int(np.diff(flows.offsets).max(initial=1))
    intact = plain[flows.edges]
    found = [_by_class(graph, hops, key, np.ones(len(key), dtype=np.bool_))]
    for run in range(1, min(longest, LONGEST_RUN + 1)):
        at = np.nonzero(position >= run)[0]
        _, ranks = np.unique(key[at - 1] * edges + flows.edges[at], return_inverse=True)
        whole = np.zeros(len(key), dtype=np.bool_)
        whole[at] = intact[at - 1] & plain[flows.edges[at]]
        # Ranks of hops too early in their path for the run are never read.
        key = np.zeros(len(key), dtype=np.int64)
        key[at] = ranks
        intact = whole
        found.append(_by_class(graph, hops, key, whole))
    return found


def _by_class(graph: SimGraph, hops: Hops, key: np.ndarray, counts: np.ndarray) -> list[FloatArray]:
    sums = []
    for lead in range(len(graph.classes)):
        rates = np.where(counts & (hops.traffic_class == lead), hops.rate_pps, 0.0)
        sums.append(np.where(counts, np.bincount(key, rates)[key], 0.0))
    return sums


def _sizes(classes: tuple[TrafficClass, ...]) -> tuple[FloatArray, FloatArray]:
    """Sizes in bits and their probabilities, [C, S]; unused places have probability 0."""
    listed = []
    for traffic in classes:
        if traffic.exponential:
            middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
            sizes = -np.log1p(-middles)
            listed.append(
                (sizes / sizes.mean() * traffic.mean_octets * 8.0, np.full(_QUANTILES, 1.0 / _QUANTILES))
            )
        else:
            listed.append((np.array(traffic.sizes) * 8.0, np.array(traffic.probabilities)))
    width = max((len(sizes) for sizes, _ in listed), default=1)
    sizes = np.ones((len(listed), width))
    chances = np.zeros((len(listed), width))
    for row, (values, weights) in enumerate(listed):
        sizes[row, : len(values)] = values
        chances[row, : len(values)] = weights
    return sizes, chances
