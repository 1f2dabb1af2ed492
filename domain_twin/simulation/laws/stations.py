"""Many servers on one queue (functions, hosts) and one rate shared by all present (cells).

Owns M/G/k with or without room, and processor sharing. Time is counted in the mean service time of one
server; `room` is the packets that may wait beside those in service. Both stay finite at any load: without
room, or beyond LIMIT without a bound on it, what cannot be served is lost, and `laws.overloaded` marks it.
"""

from __future__ import annotations

import math
from typing import Any

from domain_twin.simulation.jit import step

__all__ = ["LIMIT", "many_servers", "shared"]

LIMIT = 0.999
"""The load beyond which an endless queue has no steady state worth the name; waits are held at its value."""


@step
def _erlang_b(servers: int, offered: float) -> Any:
    """Erlang's loss formula by its recursion (Gross & Harris 2.5)."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked


@step
def _against_exponential(servers: float, load: float, scv: float) -> Any:
    """Wait of M/G/k over that of M/M/k: Lee & Longton's two moments with Cosmetatos' (1976) M/D/k."""
    if servers <= 1.0:
        return (1.0 + scv) / 2.0
    nearer = (
        (1.0 - min(load, 1.0))
        * (servers - 1.0)
        * (math.sqrt(4.0 + 5.0 * servers) - 2.0)
        / (16.0 * servers * max(load, 1e-12))
    )
    # Light load: the limit of M/D/k over M/M/k is k / (k + 1), which the formula overshoots.
    nearer = min(nearer, (servers - 1.0) / (servers + 1.0))
    fixed = 0.5 * (1.0 + nearer)
    return max(scv + (1.0 - scv) * fixed, 1e-3)


@step
def many_servers(servers: int, room: float, scv: float, load: float) -> Any:
    """(wait, variance of the wait, loss) of M/G/k/k+room; `load` is offered work over `servers`.

    Number in system: Kimura's transform-free form (Operations Research 44, 1996), p_k+j ~ decay^j; exact for
    exponential service and for no room. The mean wait is Little's; its variance is made of the number found
    on arrival and of departures as smooth as in Whitt's QNA (1983), eq. 38.
    """
    if load <= 0.0 or servers < 1:
        return 0.0, 0.0, 0.0 if load <= 0.0 else 1.0
    endless = math.isinf(room)
    kept = min(load, LIMIT) if endless else load
    ratio = _against_exponential(float(servers), kept, scv)
    blocked = _erlang_b(servers, servers * kept)  # p_k over p_0 + .. + p_k
    gap = max(1.0 + (scv - 1.0) / math.sqrt(servers), 0.0)
    head = max(1.0 - kept + kept * ratio, 1e-12)
    decay = kept * ratio / head
    weight, first, square, full = 0.0, 0.0, 0.0, 0.0  # over j = 0.. room - 1; full: j = room
    if endless:
        weight = 1.0 / (1.0 - decay)
        first = weight * weight
        square = (1.0 + decay) * weight**3
        rest = (1.0 - blocked) / blocked * head if blocked > 0.0 else math.inf
    elif decay <= 1.0:
        term = 1.0
        for j in range(int(room)):
            weight += term
            first += (j + 1.0) * term
            square += (j + 1.0) ** 2 * term
            term *= decay
            if term < 1e-20 * weight:
                break
        full = head * decay**room
        rest = (1.0 - blocked) / blocked * head if blocked > 0.0 else math.inf
    else:  # the same over decay^room: counted from the full queue down
        term = 1.0 / decay
        for j in range(int(room) - 1, -1, -1):
            weight += term
            first += (j + 1.0) * term
            square += (j + 1.0) ** 2 * term
            term /= decay
            if term < 1e-20 * weight:
                break
        full = head
        rest = (1.0 - blocked) / blocked * head * decay ** (-room)
    if math.isinf(rest):
        return 0.0, 0.0, 0.0
    accepted = rest + weight
    total = accepted + full
    lost = max(full / total, 1.0 - 1.0 / load)  # no more than the servers can do is ever carried
    if weight <= 0.0:
        return 0.0, 0.0, lost
    queue = first - weight if endless else first - weight + full * room
    wait = queue / total / (servers * load * (1.0 - lost))
    mean = first / weight
    found = square / weight / mean**2 - 1.0
    spread = found * _stretch(kept, scv, decay, gap) + gap / mean
    return wait, wait * wait * max((spread + 1.0) * accepted / weight - 1.0, 0.0), lost


@step
def _stretch(load: float, scv: float, decay: float, gap: float) -> Any:
    """By how much the number found spreads the waits of those that wait more than it does in itself.

    So that their squared c.v. without bound is Whitt's (1993, eq. 2.23), which for one server is exact with
    the third moment that he assumes: 1 where service is exponential.
    """
    if load >= 1.0 or decay >= 1.0:
        return 1.0
    third = 3.0 * scv * (1.0 + scv) if scv >= 1.0 else (2.0 * scv + 1.0) * (scv + 1.0)
    aim = 2.0 * load - 1.0 + 4.0 * (1.0 - load) * third / (3.0 * (scv + 1.0) ** 2)
    return max((aim - gap * (1.0 - decay)) / decay, 0.0)


@step
def shared(room: float, scv: float, load: float) -> Any:
    """(sojourn, its variance, loss) of M/G/1/1+room with processor sharing, in mean service times.

    The number present is that of M/M/1/K whatever the sizes (Kelly 1979, 3.3); the sojourn is Little's and a
    packet's share of it is in proportion to its size. Variance: exact for exponential sizes without bound
    (Coffman, Muntz & Trotter 1970), joined to light and heavy traffic for other sizes: an approximation.
    """
    endless = math.isinf(room)
    kept = min(load, LIMIT) if endless else load
    if kept <= 0.0:
        return 1.0, scv, 0.0
    if endless:
        sojourn = 1.0 / (1.0 - kept)
        spread = kept
        lost = max(0.0, 1.0 - 1.0 / load)
    else:
        largest = int(room)  # found on arrival by the packets accepted: 0..largest
        up = kept <= 1.0
        ratio = kept if up else 1.0 / kept
        weight, first, square, term = 0.0, 0.0, 0.0, 1.0
        for j in range(largest + 1):
            n = j if up else largest - j
            weight += term
            first += (n + 1.0) * term
            square += (n + 1.0) ** 2 * term
            term *= ratio
            if term < 1e-20 * weight:
                break
        full = kept ** (largest + 1.0) if up else kept
        lost = full / (weight + full)
        sojourn = first / weight
        spread = square * weight / first**2 - 1.0
    bend = 1.5 + 0.5 * scv
    variance = sojourn**2 * (scv + (1.0 + scv) * max(spread, 0.0) / (bend - (bend - 1.0) * min(kept, 1.0)))
    return sojourn, variance, lost
