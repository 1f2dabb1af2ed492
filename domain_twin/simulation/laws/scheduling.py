"""Links that serve classes apart: what rate a class is left with, and how long the others hold it up.

Owns non-preemptive strict priority and weighted sharing (WFQ, DRR); each class (classes of one priority
together) has a queue of its own, as long as the link's buffer. The answer is in the terms of one M/G/1/K a
queue: its server is slower by what the others take (`Slot`), its packets wait on top of that for what stands
in the server when they come. Times in seconds, work in seconds of service per second.
"""
# ruff: noqa: PLR0917 - by position, as kernels are called

from __future__ import annotations

import math
from typing import Any

import numpy as np

from domain_twin.simulation.jit import kernel, step

__all__ = ["LEAST_RATE", "conserved", "priority_slot", "sharing_rate", "sharing_rates", "standing"]

LEAST_RATE = 1e-3
"""Of the link's rate: what a class that is starved is taken to have, lest delays be infinite."""


@step
def priority_slot(free: float, mean: float, second: float, above: float) -> Any:
    """(mean completion time, its squared c.v.) of a packet whose queue is left `free` of the server.

    A completion time is a packet's service and the packets of the others that overtake the next of its own
    (Gross & Harris 3.4.3; Jaiswal 1968). `second` is E[S^2] of its packets, `above` the sum of rate E[S^2]
    over the others.
    """
    slot = mean / free
    square = second / free**2 + mean * above / free**3
    return slot, max(square / slot**2 - 1.0, 0.0)


@step
def standing(free: float, left: float, above: float, below: float, below_mean: float, idle: float) -> Any:
    """How long a packet is held up beside the queue of its own class.

    With the M/G/1 of completion times it adds up to Cobham's (1954) W0 / ((1 - s)(1 - s')): what is below in
    priority and being sent, over free and `left` (free less the class's own work), and what is above and
    comes first even where no packet of its own class waits. `above`, `below` are sums of rate E[S^2]; `idle`
    goes to 0 as the class's own queue is always full, and lower ones get no turn.
    """
    held = 0.5 * below / max(left, 1e-6)
    # No more of the lower classes is ever sent than there is room for.
    held = min(held, 0.5 * below_mean)
    return idle * held / free + 0.5 * above / free**2


@kernel
def sharing_rate(c: int, work: Any, weight: Any) -> Any:
    """Share of the server that class c has while it has packets, the others asking for `work` (GPS).

    Water-filling of Parekh & Gallager's (1993) generalized processor sharing: no class has more than it
    asks for, what is left over goes to the others by weight.
    """
    classes = work.shape[0]
    rate = 1.0
    weights = 0.0
    for j in range(classes):
        weights += weight[j]
    # Classes in order of work per weight: those that ask for less than their share leave the rest.
    done = [False] * classes
    for _ in range(classes):
        found, least = -1, math.inf
        for j in range(classes):
            if j != c and not done[j] and work[j] / weight[j] < least:
                found, least = j, work[j] / weight[j]
        if found < 0 or work[found] * weights >= weight[found] * rate:
            break
        done[found] = True
        rate -= work[found]
        weights -= weight[found]
    return max(rate * weight[c] / weights, LEAST_RATE)


@kernel
def sharing_rates(work: Any, weight: Any, rate: Any) -> None:
    """Fill `rate` with the share of the server that each class has while it has packets.

    Between two views: others that are busy as often as they would be alone at their own rate (the residual
    rate's fixed point), and the fluid that is never less than what water-filling leaves.
    """
    classes = work.shape[0]
    least = np.empty(classes)
    for c in range(classes):
        least[c] = sharing_rate(c, work, weight)
        rate[c] = least[c]
    for _ in range(30):
        for c in range(classes):
            busy = weight[c]
            for j in range(classes):
                if j != c:
                    busy += weight[j] * min(1.0, work[j] / rate[j])
            rate[c] = max(least[c], weight[c] / busy)


@step
def conserved(least: float, above: float, work: float, second: float) -> Any:
    """By what to multiply waits above their least, then all waits, to keep Kleinrock's (1965) conservation.

    Over all classes, the sum of work times wait is that of any other order of service: `work` W0 / (1 -
    work), with W0 half of `second`, the sum of rate E[S^2]. `least` and `above` are that sum's parts as they
    stand, for endless queues. The first factor is 3 at most; nothing is conserved in overload.
    """
    if least + above <= 0.0 or work >= 1.0:
        return 1.0, 1.0
    kept = min(work, 0.99)
    aim = 0.5 * kept * second / (1.0 - kept)
    factor = min(max((aim - least) / above, 0.0), 3.0) if above > 0.0 else 1.0
    return factor, max(aim / (least + factor * above), 1.0)
