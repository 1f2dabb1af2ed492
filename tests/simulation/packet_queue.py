"""A packet queue simulated event by event, for judging the laws: written without any of their formulas.

Arrival times are drawn first (NumPy), then the queue is run over them (numba). All times in seconds.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Flow:
    """Packets/s (mean), how they come, mean on and off periods, and their sizes in seconds of service."""

    rate: float
    arrivals: str = "poisson"
    on_s: float = 0.0
    off_s: float = 0.0
    services: tuple[float, ...] = (1.0,)
    exponential: bool = False
    kind: int = 0  # class


@dataclass(frozen=True)
class Observed:
    """Means of accepted packets by class; `error` is the standard error of the mean wait (batch means)."""

    wait: np.ndarray
    variance: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    accepted: np.ndarray


def arrivals_of(flow: Flow, until: float, rng: np.random.Generator) -> np.ndarray:
    if flow.arrivals == "poisson":
        return np.sort(rng.uniform(0.0, until, rng.poisson(flow.rate * until)))
    if flow.arrivals == "cbr":
        gap = 1.0 / flow.rate
        return np.arange(rng.uniform(0.0, gap), until, gap)
    share = flow.on_s / (flow.on_s + flow.off_s)
    periods = int(until / (flow.on_s + flow.off_s) * 1.1) + 50
    on, off = rng.exponential(flow.on_s, periods), rng.exponential(flow.off_s, periods)
    if rng.random() < share:  # memoryless periods: in the middle of one is as good as at its start
        off[0] = 0.0
    start = np.cumsum(off) + np.concatenate([[0.0], np.cumsum(on)[:-1]])
    peak = flow.rate / share
    parts = []
    if flow.arrivals == "on-off":
        for a, length, n in zip(start, on, rng.poisson(peak * on), strict=True):
            parts.append(a + length * rng.random(n))
    else:
        for a, length in zip(start, on, strict=True):
            parts.append(np.arange(a + rng.uniform(0.0, 1.0 / peak), a + length, 1.0 / peak))
    times = np.sort(np.concatenate(parts))
    return times[times < until]


def packets_of(flows: list[Flow], until: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(times, services, classes) of all flows, in order of time."""
    rng = np.random.default_rng(seed)
    times, services, kinds = [], [], []
    for flow in flows:
        at = arrivals_of(flow, until, rng)
        times.append(at)
        if flow.exponential:
            services.append(rng.exponential(flow.services[0], len(at)))
        else:
            services.append(rng.choice(flow.services, len(at)))
        kinds.append(np.full(len(at), flow.kind))
    order = np.argsort(np.concatenate(times), kind="stable")
    return (
        np.concatenate(times)[order], np.concatenate(services)[order], np.concatenate(kinds)[order]
    )  # fmt: skip


@njit(cache=True)
def _serve(times, services, servers, places):  # type: ignore[no-untyped-def]
    """Waits of packets in order of arrival at `servers` servers with `places` in all; -1: turned away."""
    wait = np.empty(len(times))
    free = np.zeros(servers)
    leaving = np.full(places, -1.0)  # departure times of those in the system, unordered
    inside = 0
    for i in range(len(times)):
        j = 0
        while j < inside:
            if leaving[j] <= times[i]:
                inside -= 1
                leaving[j] = leaving[inside]
            else:
                j += 1
        if inside >= places:
            wait[i] = -1.0
            continue
        server = np.argmin(free)
        begin = max(times[i], free[server])
        wait[i] = begin - times[i]
        free[server] = begin + services[i]
        leaving[inside] = free[server]
        inside += 1
    return wait


def fifo(flows: list[Flow], *, places: int, until: float, seed: int, servers: int = 1) -> Observed:
    """Waits at a queue that serves in order of arrival."""
    times, services, kinds = packets_of(flows, until, seed)
    return _observed(times, _serve(times, services, servers, places), kinds, until)


@njit(cache=True)
def _share(times, services, places):  # type: ignore[no-untyped-def]
    """Sojourns under processor sharing; -1: turned away."""
    sojourn = np.full(len(times), -1.0)
    rest = np.empty(places)
    who = np.empty(places, np.int64)
    inside = 0
    now = 0.0
    i = 0
    while i < len(times) or inside:
        shortest = 0
        for j in range(1, inside):
            if rest[j] < rest[shortest]:
                shortest = j
        done = now + rest[shortest] * inside if inside else np.inf
        if i < len(times) and times[i] < done:
            for j in range(inside):
                rest[j] -= (times[i] - now) / inside
            now = times[i]
            if inside < places:
                rest[inside] = services[i]
                who[inside] = i
                inside += 1
            i += 1
        else:
            for j in range(inside):
                rest[j] -= (done - now) / inside
            now = done
            sojourn[who[shortest]] = now - times[who[shortest]]
            inside -= 1
            rest[shortest], who[shortest] = rest[inside], who[inside]
    return sojourn


def shared(flows: list[Flow], *, places: int, until: float, seed: int) -> Observed:
    """Sojourns (in `wait`) at a processor-sharing server."""
    times, services, kinds = packets_of(flows, until, seed)
    return _observed(times, _share(times, services, places), kinds, until)


def scheduled(
    flows: list[Flow],
    *,
    discipline: str,
    places: int,
    until: float,
    seed: int,
    priorities: tuple[int, ...] = (),
    weights: tuple[float, ...] = (),
    quantum: float = 1.0,
) -> Observed:
    """Waits at a link with a queue for each class, of `places` packets each besides the one being sent."""
    times, services, kinds = packets_of(flows, until, seed)
    classes = int(kinds.max()) + 1
    queues: list[list[int]] = [[] for _ in range(classes)]
    heads = [0] * classes
    wait = np.full(len(times), -1.0)
    tags = np.zeros(len(times))
    last_tag = [0.0] * classes
    heap: list[tuple[float, int]] = []  # WFQ: (finish tag, packet), self-clocked
    virtual = 0.0
    deficit = [0.0] * classes
    turn, fresh = 0, True
    now, free_at, i = 0.0, 0.0, 0
    length = [0] * classes

    def choose() -> int:
        nonlocal turn, fresh, virtual
        if discipline == "strict-priority":
            c = min((c for c in range(classes) if length[c]), key=lambda c: priorities[c])
        elif discipline == "wfq":
            tag, packet = heapq.heappop(heap)
            virtual = tag
            c = int(kinds[packet])
        else:
            while True:
                if not length[turn]:
                    deficit[turn] = 0.0
                    turn, fresh = (turn + 1) % classes, True
                    continue
                if fresh:
                    deficit[turn] += quantum * weights[turn]
                    fresh = False
                need = services[queues[turn][heads[turn]]]
                if need <= deficit[turn]:
                    deficit[turn] -= need
                    c = turn
                    break
                turn, fresh = (turn + 1) % classes, True
        packet = queues[c][heads[c]]
        heads[c] += 1
        length[c] -= 1
        return packet

    waiting = 0
    while i < len(times) or waiting:
        if waiting and (i >= len(times) or free_at <= times[i]):
            now = free_at
            packet = choose()
            waiting -= 1
            wait[packet] = now - times[packet]
            free_at = now + services[packet]
            continue
        now = times[i]
        c = int(kinds[i])
        if not waiting and free_at <= now:
            wait[i] = 0.0
            free_at = now + services[i]
            if discipline == "wfq":
                virtual = max(virtual, last_tag[c]) + services[i] / weights[c]
                last_tag[c] = virtual
        elif length[c] < places:
            queues[c].append(i)
            length[c] += 1
            waiting += 1
            if discipline == "wfq":
                tags[i] = max(virtual, last_tag[c]) + services[i] / weights[c]
                last_tag[c] = tags[i]
                heapq.heappush(heap, (tags[i], i))
        i += 1
    return _observed(times, wait, kinds, until)


def _observed(times: np.ndarray, wait: np.ndarray, kinds: np.ndarray, until: float) -> Observed:
    classes = int(kinds.max()) + 1
    out = np.zeros((5, classes))
    warm = times > 0.05 * until
    for c in range(classes):
        mine = warm & (kinds == c)
        kept = mine & (wait >= 0)
        values = wait[kept]
        batches = [b.mean() for b in np.array_split(values, 20) if len(b)]
        out[:, c] = (
            values.mean(), values.var(), 1 - kept.sum() / mine.sum(),
            np.std(batches, ddof=1) / math.sqrt(len(batches)), kept.sum(),
        )  # fmt: skip
    return Observed(*out)
