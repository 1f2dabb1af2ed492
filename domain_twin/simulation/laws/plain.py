"""The laws of all edges in plain NumPy: what the compiled `kernels` are checked against, and a fallback.

Links in order of arrival, cells and stations are computed for all edges at once; links behind a scheduler one
after the other. Written apart from the kernels; only the tables are the same.
"""
# ruff: noqa: PLR0917 - by position, as kernels are called

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from domain_twin.simulation.graph import FloatArray, Law
from domain_twin.simulation.laws.arrays import (
    ARRIVALS,
    BURST,
    FIXED,
    LAW,
    LOSS,
    MATCH,
    MATCHED,
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
    Laws,
)  # fmt: skip
from domain_twin.simulation.laws.queues import look_up_all
from domain_twin.simulation.laws.scheduling import LEAST_RATE
from domain_twin.simulation.laws.stations import LIMIT

__all__ = ["evaluate_all"]

_Rows = npt.NDArray[np.integer]


def evaluate_all(
    laws: Laws, rate: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Delay (s), variance (s^2) and loss of every edge, [E, C] each; rate, square [E, C]."""
    delay, variance, loss = np.zeros(rate.shape), np.zeros(rate.shape), np.zeros(rate.shape)
    law = laws.edge[:, LAW]
    ordered = (laws.edge[:, SCHEDULER] == 0) | (rate.shape[1] == 1)
    for rows, answer in (
        (np.flatnonzero((law == Law.LINK) & ordered), _fifo),
        (np.flatnonzero((law == Law.LINK) & ~ordered), _scheduled),
        (np.flatnonzero(law == Law.STATION), _stations),
        (np.flatnonzero(law == Law.CELL), _cells),
    ):
        if len(rows):
            delay[rows], variance[rows], loss[rows] = answer(laws, rows, rate[rows], square[rows])
    delay += laws.edge[:, FIXED][:, None]
    loss = 1.0 - (1.0 - loss) * (1.0 - laws.edge[:, LOSS][:, None])
    return delay, variance, loss


def _endless(scv: FloatArray, third: FloatArray, load: FloatArray) -> FloatArray:
    kept = np.minimum(load, LIMIT)
    wait = kept * (1 + scv) / (2 * (1 - kept))
    variance = wait**2 + kept * third / (3 * (1 - kept))
    return np.stack([wait, variance, np.maximum(0, 1 - 1 / np.maximum(load, 1e-300))], 1)


def _between(
    low: FloatArray, high: FloatArray, part: FloatArray, seconds: tuple[FloatArray, ...]
) -> FloatArray:
    scale = [np.stack([s, s**2], 1) for s in seconds]
    part = part[:, None]
    moments = scale[2] * (low[:, :2] / scale[0] * (1 - part) + high[:, :2] / scale[1] * part)
    a, b = low[:, 2:], high[:, 2:]
    positive = (a > 1e-300) & (b > 1e-300)
    logs = [np.log(np.where(positive, x, 1.0)) for x in (a, b)]
    loss = np.where(positive, np.exp(logs[0] * (1 - part) + logs[1] * part), a * (1 - part) + b * part)
    return np.concatenate([moments, loss], 1)


def _matched(
    laws: Laws, first: _Rows, room: FloatArray, scv: FloatArray, third: FloatArray, load: FloatArray
) -> FloatArray:
    level = np.clip(np.searchsorted(laws.scvs, scv, side="right") - 1, 0, len(laws.scvs) - 2)
    low, high = laws.scvs[level], laws.scvs[level + 1]
    held = np.minimum(scv, high)
    below = look_up_all(laws.tables[first + level], room, low, load)
    above = look_up_all(laws.tables[first + level + 1], room, high, load)
    found = _between(below, above, (held - low) / (high - low), (1 + low, 1 + high, 1 + held))
    skew = (third - (1 + held) * (1 + 2 * held)) / (1.5 * (1 + held))
    found[:, 1] = np.maximum(found[:, 1] + found[:, 0] * skew * (1 - np.minimum(load, 1) ** room), 0)
    return found


def _pair(laws: Laws, rows: _Rows, share: FloatArray, load: FloatArray) -> FloatArray:
    shape = laws.traffic[:, SHAPE]
    of = [int(np.flatnonzero(shape == kind)[-1]) for kind in (0, 1)]
    mean = [laws.service_s[rows, c] for c in of]
    second = [1 + laws.traffic[c, SIZE_SCV] for c in of]

    def squares(part: FloatArray) -> FloatArray:
        packets = part / mean[0] + (1 - part) / mean[1]
        return np.asarray((part * mean[0] * second[0] + (1 - part) * mean[1] * second[1]) * packets)

    level = np.minimum((share * (SHARES - 1)).astype(np.int64), SHARES - 2)
    ends = squares(level / (SHARES - 1)), squares((level + 1) / (SHARES - 1))
    table, room = laws.edge[rows, TABLE].astype(np.int64) + level, laws.edge[rows, ROOM]
    below = look_up_all(laws.tables[table], room, ends[0] - 1, load)
    above = look_up_all(laws.tables[table + 1], room, ends[1] - 1, load)
    return _between(below, above, share * (SHARES - 1) - level, (*ends, squares(share)))


def _rhythm(
    laws: Laws, service: FloatArray, rate: FloatArray, square: FloatArray, load: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of the work rate, relaxation time, local squared c.v., [n] each; inputs but load [n, C]."""
    traffic = laws.traffic
    kind = traffic[:, ARRIVALS]
    own = square * service**2 * traffic[:, OFF_OVER_ON] * np.isin(kind, (1, 2))
    variance = own.sum(1)
    relaxation = (own * traffic[:, RELAXATION]).sum(1) / np.where(variance > 0, variance, 1)
    even = np.isin(kind, (2, 3))
    spaced = (rate * service * even).sum(1)
    clumped = (square * service**2 * even).sum(1)
    active = (square * service**2 * even / traffic[:, ON_SHARE]).sum(1)
    some = (spaced > 0) & (clumped > 0)
    flows = spaced**2 / np.where(some, clumped, 1)
    local = np.ones(len(rate))
    for n in np.flatnonzero(some):
        work = (rate[n] * service[n]).sum()
        wide = min(math.sqrt(variance[n]) / work, 1)
        seen = sum(
            0.5
            * (1 + side)
            * max(1 - 1 / flows[n], 0)
            * _bridge(spaced[n] ** 2 / active[n], load[n] * (1 + side))
            for side in (wide, -wide)
        )
        local[n] = 1 - spaced[n] / work * (1 - seen)
    return variance, relaxation, local


def _bridge(active: float, load: float) -> float:
    z = (1 - load) * math.sqrt(active / 2)
    if z > 20:
        return 1 - 0.5 / z**2 + 0.75 / z**4
    return math.sqrt(math.pi) * z * math.exp(z * z) * math.erfc(z) if z > 0 else 0.0


def _with_bursts(
    laws: Laws, rows: _Rows, room: FloatArray, mean: FloatArray, scv: FloatArray, load: FloatArray,
    rhythm: tuple[FloatArray, FloatArray, FloatArray], base: FloatArray,
) -> FloatArray:  # fmt: skip
    """Wait, variance, loss, wait and loss of a steady stream: [n, 5]."""
    result = np.concatenate([base, base[:, [0, 2]]], 1)
    spread, relaxation, local = rhythm
    some = (laws.edge[rows, BURST] >= 0) & ((spread > 0) | (local < 1)) & (load > 0)
    if some.any():
        result[some] = _burst(
            laws, rows[some], room[some], load[some], spread[some], (relaxation / mean)[some],
            (local + scv)[some], (1 + scv)[some], result[some],
        )  # fmt: skip
    return result


def _burst(
    laws: Laws, rows: _Rows, room: FloatArray, load: FloatArray, spread: FloatArray, relaxation: FloatArray,
    local: FloatArray, plain: FloatArray, base: FloatArray,
) -> FloatArray:  # fmt: skip
    axes, endless = laws.axes, np.isinf(room)
    scale = np.maximum(1.0, np.where(endless, relaxation / 8, room / 513))
    least = math.exp(axes.bursts[0])
    burst, weight = np.maximum(relaxation / scale, least), np.minimum(relaxation / scale / least, 1.0)
    at_load = _around(axes.loads, load)
    own = _around(axes.variabilities, np.log(np.maximum(local, 1e-9)))
    other = _around(axes.variabilities, np.log(plain))
    none = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    size = _around(axes.bursts, np.log(burst)), _around(axes.spreads, np.sqrt(spread * weight))
    table = laws.edge[rows, BURST].astype(np.int64)
    smooth = _interpolated(laws.bursty, table, (own, none, none, at_load))
    poisson = _interpolated(laws.bursty, table, (other, none, none, at_load))
    bursty = _interpolated(laws.bursty, table, (own, *size, at_load))
    correction = np.log(np.maximum(base, 1e-39)) - poisson
    result = np.exp(bursty + correction * np.exp(-np.maximum(bursty - smooth, 0)))
    grown = scale[:, None] ** np.array([1, 2, 0, 1, 0])
    large = np.exp(correction + smooth) + grown * (np.exp(bursty) - np.exp(smooth))
    losses = np.array([False, False, True, False, True])
    result = np.where((scale > 1)[:, None] & ~losses, np.maximum(large, 0), result)
    lost = np.minimum(result[:, losses], 1)
    beyond = np.minimum(axes.loads[-1] / load, 1.0)[:, None]
    result[:, losses] = np.where(endless[:, None], base[:, [2]], 1 - (1 - lost) * beyond)
    result[:, 2] = np.maximum(result[:, 2], 1 - 1 / load)
    return np.asarray(result)


def _around(axis: FloatArray, value: FloatArray) -> tuple[_Rows, FloatArray]:
    """The point of an axis below each value, and how far it is on the way to the next; held at the ends."""
    at = np.clip(np.searchsorted(axis, value, side="right") - 1, 0, len(axis) - 2)
    return at, np.clip((value - axis[at]) / (axis[at + 1] - axis[at]), 0, 1)


def _interpolated(
    tables: npt.NDArray[np.float32], table: _Rows, places: Sequence[tuple[_Rows, FloatArray]]
) -> FloatArray:
    """Multilinear between the sixteen cells around each place, [n, 5]."""
    found = np.zeros((len(table), tables.shape[-1]))
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight = np.ones(len(table))
        for step, (_, part) in zip(corner, places, strict=True):
            weight = weight * (part if step else 1 - part)
        cell = tuple(at + step for step, (at, _) in zip(corner, places, strict=True))
        found += weight[:, None] * tables[table, *cell]
    return found


def _fifo(laws: Laws, rows: _Rows, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    service, edge, traffic = laws.service_s[rows], laws.edge[rows], laws.traffic
    total, load = rate.sum(1), (rate * service).sum(1)
    idle = total <= 0
    safe = np.where(idle, 1.0, total)
    mean = np.where(idle, service[:, 0], load / safe)
    second = (rate * service**2 * (1 + traffic[:, SIZE_SCV])).sum(1)
    scv = np.maximum(np.where(idle, 0.0, second / safe / mean**2 - 1), 0)
    third = (rate * service**3 * traffic[:, SIZE_THIRD]).sum(1) / safe / mean**3
    share = np.minimum((rate * service * (traffic[:, SHAPE] == 0)).sum(1) / np.where(idle, 1, load), 1)
    base = np.zeros((len(rows), 3))
    endless = np.isinf(edge[:, ROOM])
    first = edge[:, TABLE].astype(np.int64)
    room = edge[:, ROOM]
    base[endless] = _endless(scv, third, load)[endless]
    for mix in (ONE, PAIR, MATCHED):
        mine = ~endless & (edge[:, MIX] == mix)
        if not mine.any():
            continue
        if mix == ONE:
            base[mine] = look_up_all(laws.tables[first[mine]], room[mine], scv[mine], load[mine])
        elif mix == PAIR:
            base[mine] = _pair(laws, rows[mine], share[mine], load[mine])
        else:
            base[mine] = _matched(laws, first[mine], room[mine], scv[mine], third[mine], load[mine])
    variance, relaxation, local = _rhythm(laws, service, rate, square, load)
    spread = variance / np.where(idle, 1, load) ** 2
    found = _with_bursts(laws, rows, room, mean, scv, load, (spread, relaxation, local), base)
    clumped = np.isin(traffic[:, ARRIVALS], (1, 2))
    part = (rate * clumped).sum(1) / safe
    split = (part > 0) & (part < 1) & (variance > 0)
    wait, lost = found[:, 0], found[:, 2]
    calm_lost = np.minimum(found[:, 4], lost)
    some = np.where(split, part, 1.0)
    burst_lost = np.clip((lost - (1 - some) * calm_lost) / some, lost, 1)
    taken = wait * (1 - lost) - (1 - some) * (1 - calm_lost) * found[:, 3]
    burst_wait = np.clip(taken / np.maximum(some * (1 - burst_lost), 1e-12), 0, room)
    inside = clumped[None, :] | ~split[:, None]
    waits = np.where(inside, np.where(split, burst_wait, wait)[:, None], found[:, 3][:, None])
    losses = np.where(inside, np.where(split, burst_lost, lost)[:, None], calm_lost[:, None])
    idle = idle[:, None]
    delay = np.where(idle, 0, waits * mean[:, None]) + service
    spread_s2 = np.repeat((found[:, 1] * mean**2)[:, None], rate.shape[1], 1)
    return delay, np.where(idle, 0, spread_s2), np.where(idle, 0, losses)


def _own_queue(
    laws: Laws,
    row: int,
    slot: float,
    scv: float,
    third: float,
    load: float,
    rhythm: tuple[float, float, float],
) -> Any:
    one = [np.array([x]) for x in (laws.edge[row, ROOM], slot, scv, load, third)]
    room, slots, scvs, loads, thirds = one
    if math.isinf(room[0]):
        base = _endless(scvs, thirds, loads)
    else:
        base = _matched(laws, np.array([int(laws.edge[row, MATCH])]), room, scvs, thirds, loads)
    wandering = (np.array([rhythm[0]]), np.array([rhythm[1]]), np.array([rhythm[2]]))
    return _with_bursts(laws, np.array([row]), room, slots, scvs, loads, wandering, base)[0, :3]


def _scheduled(laws: Laws, rows: _Rows, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    out = [np.zeros(rate.shape) for _ in range(3)]
    for n, row in enumerate(rows):
        answer = _priority if laws.edge[row, SCHEDULER] == 1 else _sharing
        for array, values in zip(out, answer(laws, int(row), rate[n], square[n]), strict=True):
            array[n] = values
    return tuple(out)


def _own_rhythm(laws: Laws, row: int, rate: FloatArray, square: FloatArray, load: float) -> tuple[float, ...]:
    found = _rhythm(laws, laws.service_s[row][None], rate[None], square[None], np.array([min(load, 1.0)]))
    return tuple(float(x[0]) for x in found)


def _priority(laws: Laws, row: int, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    service, traffic = laws.service_s[row], laws.traffic
    seconds = rate * service**2 * (1 + traffic[:, SIZE_SCV])
    thirds = rate * service**3 * traffic[:, SIZE_THIRD]
    groups: list[dict[str, Any]] = []
    sigma = above = wandering = turning = 0.0
    for priority in np.unique(traffic[:, PRIORITY]):
        member = traffic[:, PRIORITY] == priority
        total, work, second = rate[member].sum(), (rate * service)[member].sum(), seconds[member].sum()
        free = max(1 - sigma, LEAST_RATE)
        wait = spread = lost = slot = 0.0
        idle = 1.0
        if total > 0:
            mean = work / total
            slot = mean / free
            scv = max((second / total / free**2 + mean * above / free**3) / slot**2 - 1, 0)
            load = total * slot
            room = laws.edge[row, ROOM]
            idle = 1.0 if math.isinf(room) else 1 - min(load, 1) ** room
            third = thirds[member].sum() / total / mean**3 if above == 0 else (1 + scv) * (1 + 2 * scv)
            own, relaxation, local = _own_rhythm(laws, row, rate * member, square * member, load)
            moving = own / work**2 + wandering / free**2
            when = own * relaxation / work**2 + turning / free**2
            rhythm = (moving, when / moving if moving > 0 else 0.0, local)
            wait, spread, lost = _own_queue(laws, row, slot, scv, third, load, rhythm)
            wandering += own
            turning += own * relaxation
        kept = min(1 - lost, max(1 - sigma, 0) / work) if work > 0 else 0.0
        groups.append(
            {"member": member, "free": free, "left": 1 - sigma - work * kept, "above": above, "lost": lost,
             "second": second * kept, "work": work * kept, "wait": wait * slot, "spread": spread * slot**2,
             "idle": idle}
        )  # fmt: skip
        sigma += work * kept
        above += second * kept
    delay, variance, loss = np.zeros(len(rate)), np.zeros(len(rate)), np.zeros(len(rate))
    for at, group in enumerate(groups):
        below = sum(other["second"] for other in groups[at + 1 :])
        below_work = sum(other["work"] for other in groups[at + 1 :])
        mean = below / below_work if below_work > 0 else 0.0
        from_below = min(0.5 * below / max(group["left"], 1e-6), 0.5 * mean) / group["free"] * group["idle"]
        from_above = 0.5 * group["above"] / group["free"] ** 2
        held = from_below + from_above
        wide = from_below * mean / group["free"] + 2 * from_above**2 / max(1 - group["free"], 1e-3)
        member = group["member"]
        delay[member] = group["wait"] + held + service[member]
        variance[member] = group["spread"] + max(wide * 0.75 - held**2, 0)
        loss[member] = group["lost"]
    return delay, variance, loss


def _sharing(laws: Laws, row: int, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    service, traffic = laws.service_s[row], laws.traffic
    work, weight = rate * service, traffic[:, WEIGHT]
    seconds = work * service * (1 + traffic[:, SIZE_SCV])
    fluid = np.array([_share(c, work, weight) for c in range(len(rate))])
    share = fluid.copy()
    for _ in range(30):
        for c in range(len(rate)):
            demand = weight * np.minimum(1, work / share)
            demand[c] = weight[c]
            share[c] = max(fluid[c], weight[c] / demand.sum())
    sent = seconds * np.minimum(1, share / np.where(work > 0, work, 1))
    held = 0.5 * (sent.sum() - sent)
    slot, scv, load = service / share, traffic[:, SIZE_SCV], work / share
    kept = np.minimum(load, LIMIT)
    alone = kept * (1 + scv) / (2 * (1 - kept)) * slot + held
    least = np.where(load < 1, 0.5 * sent.sum() / (1 - np.minimum(np.minimum(work, share), LIMIT)), 0)
    clumped = np.isin(traffic[:, ARRIVALS], (1, 2))
    moving = square * service**2 * traffic[:, OFF_OVER_ON] * clumped
    turning = moving * traffic[:, RELAXATION]
    waits, spreads, loss = np.zeros(len(rate)), np.zeros(len(rate)), np.zeros(len(rate))
    for c in (int(c) for c in np.flatnonzero(rate > 0)):
        only = np.arange(len(rate)) == c
        local = _own_rhythm(laws, row, rate * only, square * only, load[c])[2]
        others, when = moving[~only].sum(), turning[~only].sum()
        swing = min(math.sqrt(others), max(share[c] - weight[c] / weight.sum(), 0)) / share[c]
        both = moving[c] / work[c] ** 2 + swing**2
        time = turning[c] / work[c] ** 2 + (swing**2 * when / others if others > 0 else 0)
        rhythm = (both, time / both if both > 0 else 0.0, local)
        found = _own_queue(laws, row, slot[c], scv[c], traffic[c, SIZE_THIRD], load[c], rhythm)
        waits[c], spreads[c], loss[c] = found[0] * slot[c], found[1] * slot[c] ** 2, found[2]
    low, high = (work * least).sum(), (work * np.maximum(alone - least, 0)).sum()
    factor = rest = 1.0
    if low + high > 0 and work.sum() < 1:
        total = min(work.sum(), 0.99)
        aim = 0.5 * total * seconds.sum() / (1 - total)
        factor = float(np.clip((aim - low) / high, 0, 3)) if high > 0 else 1.0
        rest = max(aim / (low + factor * high), 1.0)
    room = laws.edge[row, ROOM]
    full = np.zeros(len(rate)) if math.isinf(room) else np.minimum(load, 1) ** room
    before = waits + held + np.maximum(least - alone, 0) * (1 - loss)
    over = before > least
    after = np.where(over, least + (before - least) * (1 + (factor - 1) * (1 - full)), before)
    after = after * (1 + (rest - 1) * (1 - full))
    ratio = np.where(before > 0, after / np.where(before > 0, before, 1), 1)
    return after + service, (spreads + held**2) * ratio**2, loss


def _share(c: int, work: FloatArray, weight: FloatArray) -> float:
    others = [int(j) for j in np.argsort(work / weight, kind="stable") if j != c]
    rate, weights = 1.0, float(weight.sum())
    for j in others:
        if work[j] * weights >= weight[j] * rate:
            break
        rate -= work[j]
        weights -= weight[j]
    return float(max(rate * weight[c] / weights, LEAST_RATE))


def _stations(laws: Laws, rows: _Rows, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    edge = laws.edge[rows]
    servers, service, scv = edge[:, SERVERS], edge[:, SERVICE], edge[:, SCV]
    work = (rate * service[:, None]).sum(1)
    load = work / servers
    base = np.array([_station(*args) for args in zip(servers, edge[:, ROOM], scv, load, strict=True)])
    power = np.stack([servers, servers**2, np.ones(len(rows))], 1)
    variance, relaxation, local = _rhythm(laws, laws.service_s[rows], rate, square, load)
    rhythm = (variance / np.where(work > 0, work, 1) ** 2, relaxation, local)
    room = edge[:, ROOM] + 1
    found = _with_bursts(laws, rows, room, service / servers, scv, load, rhythm, base * power)[:, :3] / power
    each = np.ones(rate.shape)
    delay, spread = (found[:, 0] + 1) * service, (found[:, 1] + scv) * service**2
    return delay[:, None] * each, spread[:, None] * each, found[:, 2][:, None] * each


def _station(servers: float, room: float, scv: float, load: float) -> tuple[float, float, float]:
    if load <= 0:
        return 0.0, 0.0, 0.0
    endless = math.isinf(room)
    kept = min(load, LIMIT) if endless else load
    ratio = (1 + scv) / 2
    if servers > 1:
        nearer = (1 - min(kept, 1)) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * servers * kept)
        ratio = scv + (1 - scv) * 0.5 * (1 + min(nearer, (servers - 1) / (servers + 1)))
        ratio = max(ratio, 1e-3)
    offered = servers * kept
    head = max(1 - kept + kept * ratio, 1e-12)
    decay = kept * ratio / head
    if endless:
        places = np.arange(math.ceil(45 / -math.log(decay)) + 1.0) if decay > 0 else np.zeros(1)
    else:
        places = np.arange(room)
    # Logarithms of the weights of k + j in the system, relative to p_k head; below k all together.
    logs = np.append(
        places * math.log(decay), -math.inf if endless else math.log(head) + room * math.log(decay)
    )
    busy = np.arange(servers)
    below = float(logsumexp((busy - servers) * math.log(offered) + gammaln(servers + 1) - gammaln(busy + 1)))
    below += math.log(head)
    top = max(float(logs.max()), below)
    weights, rest = np.exp(logs - top), math.exp(below - top)
    accepted = rest + weights[:-1].sum()
    total = accepted + weights[-1]
    lost = max(weights[-1] / total, 1 - 1 / load)
    if not len(places):
        return 0.0, 0.0, lost
    queue = (places * weights[:-1]).sum() + (0.0 if endless else room * weights[-1])
    wait = queue / total / (servers * load * (1 - lost))
    gap = max(1 + (scv - 1) / math.sqrt(servers), 0)
    first = ((places + 1) * weights[:-1]).sum()
    if first <= 0:
        return wait, 0.0, lost
    waiting = weights[:-1].sum()
    mean = first / waiting
    found = ((places + 1) ** 2 * weights[:-1]).sum() / waiting / mean**2 - 1
    stretch = 1.0
    if kept < 1 and decay < 1:
        third = 3 * scv * (1 + scv) if scv >= 1 else (2 * scv + 1) * (scv + 1)
        aim = 2 * kept - 1 + 4 * (1 - kept) * third / (3 * (scv + 1) ** 2)
        stretch = max((aim - gap * (1 - decay)) / decay, 0)
    spread = found * stretch + gap / mean
    return wait, wait**2 * max((spread + 1) * accepted / waiting - 1, 0), lost


def _cells(laws: Laws, rows: _Rows, rate: FloatArray, square: FloatArray) -> tuple[FloatArray, ...]:
    service, traffic = laws.service_s[rows], laws.traffic
    total, load = rate.sum(1), (rate * service).sum(1)
    idle = total <= 0
    safe = np.where(idle, 1, total)
    mean = np.where(idle, service[:, 0], load / safe)
    second = (rate * service**2 * (1 + traffic[:, SIZE_SCV])).sum(1)
    scv = np.where(idle, traffic[0, SIZE_SCV], np.maximum(second / safe / mean**2 - 1, 0))
    room = laws.edge[rows, ROOM]
    found = np.array([_cell(*args) for args in zip(room, scv, load, strict=True)])
    base = found - np.array([1.0, 0.0, 0.0])
    base[:, 0] = np.maximum(base[:, 0], 0)
    variance, relaxation, local = _rhythm(laws, service, rate, square, load)
    rhythm = (variance / np.where(idle, 1, load) ** 2, relaxation, local)
    found = _with_bursts(laws, rows, room + 1, mean, np.ones(len(rows)), load, rhythm, base)
    loss = np.repeat(found[:, 2][:, None], rate.shape[1], 1)
    return (found[:, 0][:, None] + 1) * service, found[:, 1][:, None] * service**2, loss


def _cell(room: float, scv: float, load: float) -> tuple[float, float, float]:
    kept = min(load, LIMIT) if math.isinf(room) else load
    if kept <= 0:
        return 1.0, scv, 0.0
    if math.isinf(room):
        sojourn, spread, lost = 1 / (1 - kept), kept, max(0.0, 1 - 1 / load)
    else:
        places = np.arange(room + 2)
        logs = places * math.log(kept)
        weights = np.exp(logs - logs.max())
        seen = weights[:-1].sum()
        sojourn = float(((places[:-1] + 1) * weights[:-1]).sum() / seen)
        spread = float(((places[:-1] + 1) ** 2 * weights[:-1]).sum() / seen / sojourn**2 - 1)
        lost = float(weights[-1] / weights.sum())
    bend = 1.5 + 0.5 * scv
    share = (1 + scv) * max(spread, 0) / (bend - (bend - 1) * min(kept, 1))
    return sojourn, sojourn**2 * (scv + share), lost
