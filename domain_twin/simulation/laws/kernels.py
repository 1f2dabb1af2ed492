"""The laws as compiled code, one edge at a time: `evaluate`, and what it is made of.

Waits are in the mean service times of the queue at hand until the last line of each law. `plain` is the
same maths in NumPy, written apart from this.
"""
# ruff: noqa: PLR0917 - numba kernels take their arrays by position

from __future__ import annotations

import math
from typing import Any

import numpy as np

from domain_twin.simulation.jit import inlined, kernel, step
from domain_twin.simulation.laws.arrays import (
    ARRIVALS,
    BURST,
    FIXED,
    LAW,
    LOSS,
    MATCH,
    MIX,
    OFF_OVER_ON,
    ON_SHARE,
    ONE,
    PAIR,
    PRIORITY,
    RELAXATION,
    ROOM,
    SCHEDULER,
    SCV,
    SERVERS,
    SERVICE,
    SHAPE,
    SHARES,
    SIZE_SCV,
    SIZE_THIRD,
    TABLE,
    WEIGHT,
)  # fmt: skip
from domain_twin.simulation.laws.modulated import bridge, burst
from domain_twin.simulation.laws.queues import look_up
from domain_twin.simulation.laws.scheduling import conserved, priority_slot, sharing_rates, standing
from domain_twin.simulation.laws.stations import LIMIT, many_servers, shared

__all__ = ["evaluate"]

EVERY = -math.inf
"""In the place of a priority: classes of all priorities."""


@inlined
def _endless(scv: float, third: float, load: float) -> Any:
    """(wait, variance, loss) of a queue without bound: Pollaczek & Khinchine (Kleinrock 1975, 5.6-5.7)."""
    kept = min(load, LIMIT)
    wait = kept * (1.0 + scv) / (2.0 * (1.0 - kept))
    return wait, wait * wait + kept * third / (3.0 * (1.0 - kept)), max(0.0, 1.0 - 1.0 / max(load, 1e-300))


@inlined
def _between(low: Any, high: Any, part: float, low_second: float, high_second: float, second: float) -> Any:
    """Between two tables: waits as E[S^2], as where the room is never felt; losses by logarithm."""
    wait = second * (low[0] / low_second * (1.0 - part) + high[0] / high_second * part)
    variance = second**2 * (low[1] / low_second**2 * (1.0 - part) + high[1] / high_second**2 * part)
    if low[2] > 1e-300 and high[2] > 1e-300:
        loss = math.exp(math.log(low[2]) * (1.0 - part) + math.log(high[2]) * part)
    else:
        loss = low[2] * (1.0 - part) + high[2] * part
    return wait, variance, loss


@step
def _matched(laws: Any, first: int, room: float, scv: float, third: float, load: float) -> Any:
    """From the tables of gamma sizes, by the squared c.v. of the sizes.

    The variance is moved by what E[S^3] differs from a gamma's, as Pollaczek & Khinchine have it.
    """
    last = laws.scvs.shape[0] - 2
    level = 0
    while level < last and laws.scvs[level + 1] <= scv:
        level += 1
    low, high = laws.scvs[level], laws.scvs[level + 1]
    held = min(scv, high)
    part = (held - low) / (high - low)
    below = look_up(laws.tables[first + level], room, low, load)
    above = look_up(laws.tables[first + level + 1], room, high, load)
    wait, variance, loss = _between(below, above, part, 1.0 + low, 1.0 + high, 1.0 + held)
    skew = (third - (1.0 + held) * (1.0 + 2.0 * held)) / (1.5 * (1.0 + held))
    variance += wait * skew * (1.0 - min(load, 1.0) ** room)
    return wait, max(variance, 0.0), loss


@inlined
def _pair(laws: Any, row: Any, edge: int, share: float, load: float) -> Any:
    """From the tables of two mixed distributions; `share` is the first one's of the load."""
    first = int(row[TABLE])
    place = share * (SHARES - 1)
    level = min(int(place), SHARES - 2)
    part = place - level
    # E[S^2] and E[S] of each distribution, for the squared c.v. of any mixture of the two.
    zero, one = 0, 0
    for c in range(laws.traffic.shape[0]):
        if laws.traffic[c, SHAPE] == 0.0:
            zero = c
        else:
            one = c
    mean_a, mean_b = laws.service_s[edge, zero], laws.service_s[edge, one]
    second_a, second_b = 1.0 + laws.traffic[zero, SIZE_SCV], 1.0 + laws.traffic[one, SIZE_SCV]
    low = level / (SHARES - 1.0)
    high = (level + 1) / (SHARES - 1.0)
    at_low = _second(low, mean_a, mean_b, second_a, second_b)
    at_high = _second(high, mean_a, mean_b, second_a, second_b)
    at = _second(share, mean_a, mean_b, second_a, second_b)
    below = look_up(laws.tables[first + level], row[ROOM], at_low - 1.0, load)
    above = look_up(laws.tables[first + level + 1], row[ROOM], at_high - 1.0, load)
    return _between(below, above, part, at_low, at_high, at)


@inlined
def _second(share: float, mean_a: float, mean_b: float, second_a: float, second_b: float) -> Any:
    """E[S^2] / E[S]^2 of a mixture, by the share of the load that is of the first."""
    packets = share / mean_a + (1.0 - share) / mean_b
    return (share * mean_a * second_a + (1.0 - share) * mean_b * second_b) * packets


@inlined
def _moments(laws: Any, edge: int, rate: Any, level: float) -> Any:
    """(packets/s, work, sum of rate E[S^2], sum of rate E[S^3]) on an edge, of a priority or of EVERY one."""
    total, work, second, third = 0.0, 0.0, 0.0, 0.0
    for c in range(rate.shape[0]):
        if level == EVERY or laws.traffic[c, PRIORITY] == level:
            service = laws.service_s[edge, c]
            total += rate[c]
            work += rate[c] * service
            second += rate[c] * service**2 * (1.0 + laws.traffic[c, SIZE_SCV])
            third += rate[c] * service**3 * laws.traffic[c, SIZE_THIRD]
    return total, work, second, third


@inlined
def _rhythm(
    laws: Any, edge: int, rate: Any, square: Any, first: int, last: int, level: float, load: float
) -> Any:
    """(variance of the work rate, relaxation time in s, squared c.v. of arrivals within bursts).

    An on-off flow of mean rate r that is on for a share a of the time has rate variance r^2 (1 - a) / a and
    the relaxation time on off / (on + off). Equally spaced packets even out what is within a burst, as seen
    by packets at loads one standard deviation above the mean and below. Of the classes from `first` to `last`
    that have the priority `level`.
    """
    variance, weighted, work, spaced, clumped, active = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for c in range(first, last):
        if level != EVERY and laws.traffic[c, PRIORITY] != level:
            continue
        service = laws.service_s[edge, c]
        kind = laws.traffic[c, ARRIVALS]
        work += rate[c] * service
        if kind in (1.0, 2.0):
            own = square[c] * service**2 * laws.traffic[c, OFF_OVER_ON]
            variance += own
            weighted += own * laws.traffic[c, RELAXATION]
        if kind in (2.0, 3.0):
            spaced += rate[c] * service
            clumped += square[c] * service**2
            active += square[c] * service**2 / laws.traffic[c, ON_SHARE]
    relaxation = weighted / variance if variance > 0.0 else 0.0
    local = 1.0
    if spaced > 0.0 and clumped > 0.0:
        share = spaced / work
        flows, together, wide = spaced**2 / clumped, spaced**2 / active, min(math.sqrt(variance) / work, 1.0)
        above = 0.5 * (1.0 + wide) * bridge(flows, together, load * (1.0 + wide))
        below = 0.5 * (1.0 - wide) * bridge(flows, together, load * (1.0 - wide))
        local = 1.0 - share + share * (above + below)
    return variance, relaxation, local


@inlined
def _with_bursts(
    laws: Any, row: Any, room: float, mean: float, scv: float, load: float, rhythm: Any, base: Any
) -> Any:
    """(wait, variance, loss, and the wait and loss of a steady stream beside the bursts)."""
    spread, relaxation, local = rhythm
    if row[BURST] < 0.0 or (spread <= 0.0 and local >= 1.0):
        return base[0], base[1], base[2], base[0], base[2]
    table = laws.bursty[int(row[BURST])]
    return burst(laws.axes, table, room, load, spread, relaxation / mean, local + scv, 1.0 + scv, base)


@inlined
def _fifo(
    laws: Any, row: Any, edge: int, rate: Any, square: Any, delay: Any, variance: Any, loss: Any
) -> None:
    """A link that serves in order of arrival: one wait for all, or two, in bursts and beside them."""
    classes = rate.shape[0]
    total, load, second, third = _moments(laws, edge, rate, EVERY)
    if total <= 0.0:
        for c in range(classes):
            delay[c], variance[c], loss[c] = laws.service_s[edge, c], 0.0, 0.0
        return
    mean = load / total
    scv = max(second / total / mean**2 - 1.0, 0.0)
    room = row[ROOM]
    if math.isinf(room):
        base = _endless(scv, third / total / mean**3, load)
    elif row[MIX] == ONE:
        base = look_up(laws.tables[int(row[TABLE])], room, scv, load)
    elif row[MIX] == PAIR:
        share = 0.0
        for c in range(classes):
            if laws.traffic[c, SHAPE] == 0.0:
                share += rate[c] * laws.service_s[edge, c] / load
        base = _pair(laws, row, edge, min(share, 1.0), load)
    else:
        base = _matched(laws, int(row[TABLE]), room, scv, third / total / mean**3, load)
    work_variance, relaxation, local = _rhythm(laws, edge, rate, square, 0, classes, EVERY, load)
    rhythm = (work_variance / load**2, relaxation, local)
    wait, spread, lost, calm_wait, calm_lost = _with_bursts(laws, row, room, mean, scv, load, rhythm, base)
    bursty = 0.0
    for c in range(classes):
        if laws.traffic[c, ARRIVALS] in (1.0, 2.0):
            bursty += rate[c] / total
    burst_wait, burst_lost = wait, lost
    if 0.0 < bursty < 1.0 and work_variance > 0.0:
        # All packets together are those in bursts and those that come steadily and see averages over time.
        calm_lost = min(calm_lost, lost)
        burst_lost = min(max((lost - (1.0 - bursty) * calm_lost) / bursty, lost), 1.0)
        taken = wait * (1.0 - lost) - (1.0 - bursty) * (1.0 - calm_lost) * calm_wait
        burst_wait = taken / max(bursty * (1.0 - burst_lost), 1e-12)
        burst_wait = min(max(burst_wait, 0.0), room)
    for c in range(classes):
        inside = laws.traffic[c, ARRIVALS] in (1.0, 2.0) or bursty == 0.0 or work_variance <= 0.0
        delay[c] = (burst_wait if inside else calm_wait) * mean + laws.service_s[edge, c]
        variance[c] = spread * mean * mean
        loss[c] = burst_lost if inside else calm_lost


@step
def _own_queue(laws: Any, row: Any, slot: float, scv: float, third: float, load: float, rhythm: Any) -> Any:
    """(wait, variance, loss) of a class's own queue behind a scheduler, in `slot`s."""
    room = row[ROOM]
    base = (
        _endless(scv, third, load)
        if math.isinf(room)
        else _matched(laws, int(row[MATCH]), room, scv, third, load)
    )
    found = _with_bursts(laws, row, room, slot, scv, load, rhythm, base)
    return found[0], found[1], found[2]


@kernel
def _priority(
    laws: Any, row: Any, edge: int, rate: Any, square: Any, delay: Any, variance: Any, loss: Any
) -> None:
    """Non-preemptive strict priority, from the first to the last; then what the later hold up the earlier."""
    classes = rate.shape[0]
    # By priority: free, left, above, E[S^2] sent, work sent, wait, variance, slot, idle.
    found = np.zeros((classes, 9))
    groups = 0
    past, sigma, above, wandering, turning = -math.inf, 0.0, 0.0, 0.0, 0.0
    level = np.zeros(classes, np.int64)
    while True:
        now = math.inf
        for c in range(classes):
            if laws.traffic[c, PRIORITY] > past:
                now = min(now, laws.traffic[c, PRIORITY])
        if math.isinf(now):
            break
        total, work, second, third = _moments(laws, edge, rate, now)
        free = max(1.0 - sigma, 1e-3)
        wait, spread, lost, slot, idle = 0.0, 0.0, 0.0, 0.0, 1.0
        if total > 0.0:
            mean = work / total
            slot, scv = priority_slot(free, mean, second / total, above)
            load = total * slot
            idle = 1.0 if math.isinf(row[ROOM]) else 1.0 - min(load, 1.0) ** row[ROOM]
            cube = third / total / mean**3 if above == 0.0 else (1.0 + scv) * (1.0 + 2.0 * scv)
            own, own_relaxation, local = _rhythm(laws, edge, rate, square, 0, classes, now, min(load, 1.0))
            moving = own / work**2 + wandering / free**2
            relaxation = own / work**2 * own_relaxation + turning / free**2
            rhythm = (moving, relaxation / moving if moving > 0.0 else 0.0, local)
            wait, spread, lost = _own_queue(laws, row, slot, scv, cube, load, rhythm)
            wandering += own
            turning += own * own_relaxation
        for c in range(classes):
            if laws.traffic[c, PRIORITY] == now:
                level[c] = groups
                loss[c] = lost
        # What a starved class is taken to have beyond what is left is never sent.
        kept = min(1.0 - lost, max(1.0 - sigma, 0.0) / work) if work > 0.0 else 0.0
        found[groups, 0], found[groups, 1], found[groups, 2] = free, 1.0 - sigma - work * kept, above
        found[groups, 3], found[groups, 4], found[groups, 5] = second * kept, work * kept, wait
        found[groups, 6], found[groups, 7], found[groups, 8] = spread, slot, idle
        sigma += work * kept
        above += second * kept
        past = now
        groups += 1
    for c in range(classes):
        at = level[c]
        below, below_work = 0.0, 0.0
        for lower in range(at + 1, groups):
            below += found[lower, 3]
            below_work += found[lower, 4]
        free, left, higher = found[at, 0], found[at, 1], found[at, 2]
        mean = below / below_work if below_work > 0.0 else 0.0
        held = standing(free, left, higher, below, mean, found[at, 8])
        delay[c] = found[at, 5] * found[at, 7] + held + laws.service_s[edge, c]
        # What is left of a packet being sent, and of a busy period of those above (taken as exponential).
        from_above = 0.5 * higher / free**2
        from_below = held - from_above
        wide = from_below * mean / free + (
            2.0 * from_above**2 / max(1.0 - free, 1e-3) if from_above > 0.0 else 0.0
        )
        variance[c] = found[at, 6] * found[at, 7] ** 2 + max(wide * 0.75 - held * held, 0.0)


@kernel
def _sharing(
    laws: Any, row: Any, edge: int, rate: Any, square: Any, delay: Any, variance: Any, loss: Any
) -> None:
    """WFQ and DRR: each class an M/G/1/K at the rate that the others leave it.

    No class waits less than it would with priority over all others (packets are not cut short); what it waits
    above that is made to keep the conservation law.
    """
    classes = rate.shape[0]
    work, weight, seconds = np.empty(classes), np.empty(classes), np.empty(classes)
    share, least, moving, turning = np.empty(classes), np.empty(classes), np.zeros(classes), np.zeros(classes)
    total_work, total_second, total_weight = 0.0, 0.0, 0.0
    for c in range(classes):
        work[c] = rate[c] * laws.service_s[edge, c]
        weight[c] = laws.traffic[c, WEIGHT]
        seconds[c] = work[c] * laws.service_s[edge, c] * (1.0 + laws.traffic[c, SIZE_SCV])
        total_work += work[c]
        total_second += seconds[c]
        total_weight += weight[c]
        if laws.traffic[c, ARRIVALS] in (1.0, 2.0):
            moving[c] = square[c] * laws.service_s[edge, c] ** 2 * laws.traffic[c, OFF_OVER_ON]
            turning[c] = moving[c] * laws.traffic[c, RELAXATION]
    sharing_rates(work, weight, share)
    sent = 0.0
    for c in range(classes):
        if work[c] > 0.0:
            sent += seconds[c] * min(1.0, share[c] / work[c])
    low, high = 0.0, 0.0
    for c in range(classes):
        service = laws.service_s[edge, c]
        slot = service / share[c]
        load = work[c] / share[c]
        scv, third = laws.traffic[c, SIZE_SCV], laws.traffic[c, SIZE_THIRD]
        own = seconds[c] * min(1.0, share[c] / work[c]) if work[c] > 0.0 else 0.0
        held = 0.5 * (sent - own)
        kept = min(load, LIMIT)
        alone = kept * (1.0 + scv) / (2.0 * (1.0 - kept)) * slot + held
        least[c] = 0.5 * sent / (1.0 - min(work[c], share[c], LIMIT)) if load < 1.0 else 0.0
        low += work[c] * least[c]
        high += work[c] * max(alone - least[c], 0.0)
        wait, spread, lost = 0.0, 0.0, 0.0
        if rate[c] > 0.0:
            local = _rhythm(laws, edge, rate, square, c, c + 1, EVERY, min(load, 1.0))[2]
            # The others' bursts take from its rate, but never what its weight guarantees.
            others, when = 0.0, 0.0
            for j in range(classes):
                if j != c:
                    others += moving[j]
                    when += turning[j]
            guaranteed = weight[c] / total_weight
            swing = min(math.sqrt(others), max(share[c] - guaranteed, 0.0)) / share[c]
            mine = moving[c] / work[c] ** 2
            both = mine + swing**2
            time = turning[c] / work[c] ** 2 + (swing**2 * when / others if others > 0.0 else 0.0)
            rhythm = (both, time / both if both > 0.0 else 0.0, local)
            wait, spread, lost = _own_queue(laws, row, slot, scv, third, load, rhythm)
        delay[c] = wait * slot + held + max(least[c] - alone, 0.0) * (1.0 - lost)
        variance[c], loss[c] = spread * slot**2 + held * held, lost
    factor, rest = conserved(low, high, total_work, total_second)
    for c in range(classes):
        load = work[c] / share[c]
        full = 0.0 if math.isinf(row[ROOM]) else min(load, 1.0) ** row[ROOM]
        scale = 1.0 + (factor - 1.0) * (1.0 - full)
        before = delay[c]
        if before > least[c]:
            delay[c] = least[c] + (before - least[c]) * scale
        delay[c] *= 1.0 + (rest - 1.0) * (1.0 - full)
        if before > 0.0:
            variance[c] *= (delay[c] / before) ** 2
        delay[c] += laws.service_s[edge, c]


@step
def _station(
    laws: Any, row: Any, edge: int, rate: Any, square: Any, delay: Any, variance: Any, loss: Any
) -> None:
    """Servers on one queue; bursts as at one server that is as fast as all of them."""
    classes = rate.shape[0]
    servers, service, scv = row[SERVERS], row[SERVICE], row[SCV]
    work = _moments(laws, edge, rate, EVERY)[1]
    load = work / servers
    base = many_servers(int(servers), row[ROOM], scv, load)
    wait, spread, lost = base
    if row[BURST] >= 0.0 and load > 0.0:
        moving, relaxation, local = _rhythm(laws, edge, rate, square, 0, classes, EVERY, load)
        rhythm = (moving / work**2, relaxation, local)
        fast = (wait * servers, spread * servers**2, lost)
        found = _with_bursts(laws, row, row[ROOM] + 1.0, service / servers, scv, load, rhythm, fast)
        wait, spread, lost = found[0] / servers, found[1] / servers**2, found[2]
    for c in range(classes):
        delay[c], variance[c], loss[c] = (wait + 1.0) * service, (spread + scv) * service**2, lost


@step
def _cell(
    laws: Any, row: Any, edge: int, rate: Any, square: Any, delay: Any, variance: Any, loss: Any
) -> None:
    """A rate shared by all packets present; bursts lengthen sojourns as they do with exponential sizes."""
    classes = rate.shape[0]
    total, load, second, _ = _moments(laws, edge, rate, EVERY)
    mean = load / total if total > 0.0 else laws.service_s[edge, 0]
    scv = max(second / total / mean**2 - 1.0, 0.0) if total > 0.0 else laws.traffic[0, SIZE_SCV]
    sojourn, spread, lost = shared(row[ROOM], scv, load)
    if row[BURST] >= 0.0 and load > 0.0:
        moving, relaxation, local = _rhythm(laws, edge, rate, square, 0, classes, EVERY, load)
        rhythm = (moving / load**2, relaxation, local)
        base = (max(sojourn - 1.0, 0.0), spread, lost)
        found = _with_bursts(laws, row, row[ROOM] + 1.0, mean, 1.0, load, rhythm, base)
        sojourn, spread, lost = found[0] + 1.0, found[1], found[2]
    for c in range(classes):
        service = laws.service_s[edge, c]
        delay[c], variance[c], loss[c] = sojourn * service, spread * service**2, lost


@inlined
def evaluate(
    laws: Any, edge: int, rate: Any, square: Any, delay_out: Any, variance_out: Any, loss_out: Any
) -> None:
    """Fill delay_out (s), variance_out (s^2), loss_out, [C] each, for one edge; rate, square [C]."""
    row = laws.edge[edge]
    law = row[LAW]
    if law == 0.0:
        scheduler = row[SCHEDULER]
        if scheduler == 0.0 or rate.shape[0] == 1:
            _fifo(laws, row, edge, rate, square, delay_out, variance_out, loss_out)
        elif scheduler == 1.0:
            _priority(laws, row, edge, rate, square, delay_out, variance_out, loss_out)
        else:
            _sharing(laws, row, edge, rate, square, delay_out, variance_out, loss_out)
    elif law == 1.0:
        _cell(laws, row, edge, rate, square, delay_out, variance_out, loss_out)
    elif law == 2.0:
        _station(laws, row, edge, rate, square, delay_out, variance_out, loss_out)
    else:
        delay_out[:] = 0.0
        variance_out[:] = 0.0
        loss_out[:] = 0.0
    for c in range(rate.shape[0]):
        delay_out[c] += row[FIXED]
        loss_out[c] = 1.0 - (1.0 - loss_out[c]) * (1.0 - row[LOSS])
