"""The packet loop: moves every packet of the network from event to event. Owns the physics, no policy.

One event per packet and hop. A link finishes a packet when it arrives at the far end; a processor when a
worker is done with it; a cell when its equal share of the air interface has carried it. Delay is booked to a
resource when the packet leaves it, loss where it happens. The random generator is an argument:
`numpy.random.seed` is per thread and would tie results to the thread that happens to run the loop.
"""

from typing import Any

import numpy as np

from domain_twin.emulator.events import jitted, pop, push
from domain_twin.emulator.state import (
    CBR,
    CELL_DEPTH,
    DOMAIN_COUNT,
    ELASTIC,
    EXPONENTIAL,
    LOST_ERROR,
    LOST_FULL,
    LOST_NO_LINK,
    ON_OFF,
)  # fmt: skip

__all__ = ["advance", "await_cell", "empty_cell", "serve_cell", "start_flow"]

_RETRY = 0.2  # s until an elastic flow without anything in flight tries again


@jitted
def start_flow(s: Any, flow: int, at: float) -> None:
    """Schedule the next emission of a flow; whatever it had pending is stale from now on."""
    s.flows[flow].next_at = at
    push(s.queue, s.head, at, -1 - flow)


@jitted
def _acknowledge(s: Any, flow: int, now: float, lost: bool) -> None:
    """Tell an elastic flow what became of a packet: it opens its window slowly, and halves it on loss."""
    f = s.flows[flow]
    f.in_flight = max(0, f.in_flight - 1)
    if lost:
        if now - f.reduced_at > f.acknowledge:
            f.window = max(1.0, f.window / 2)
            f.reduced_at = now
        if f.in_flight == 0:
            start_flow(s, flow, now + _RETRY)
        return
    f.window = min(f.window_limit, f.window + 1 / f.window)
    if not f.next_at <= now + f.acknowledge:
        start_flow(s, flow, now + f.acknowledge)


@jitted
def _finish(s: Any, packet: int, now: float, lost: bool) -> None:
    """End a packet's life: account for it, tell its flow, free its row."""
    p = s.packets[packet]
    flow = p.flow
    f = s.flows[flow]
    if lost:
        f.lost += 1
    else:
        f.delivered += 1
        f.delay += now - p.birth
    if f.watch >= 0:
        record = s.finished[f.watch, f.written % s.finished.shape[1]]
        record.birth = p.birth
        record.end = now
        record.lost = 1 if lost else 0
        for domain in range(DOMAIN_COUNT):
            record.parts[domain] = p.parts[domain]
        f.written += 1
    if f.kind == ELASTIC and f.active:
        _acknowledge(s, flow, now, lost)
    p.following = s.head[0].unused
    s.head[0].unused = packet


@jitted
def _lose(s: Any, packet: int, resource: int, cause: int, now: float) -> None:
    """Lose a packet at a resource."""
    s.resources[resource].causes[cause] += 1
    s.resources[resource].lost += 1
    _finish(s, packet, now, True)


@jitted
def _book(s: Any, packet: int, resource: int, now: float) -> None:
    """Book the delay of a packet that leaves a resource, to the resource and to its domain."""
    p, r = s.packets[packet], s.resources[resource]
    delay = now - p.entered
    r.count += 1
    r.delay += delay
    r.square += delay * delay
    p.parts[r.domain] += delay
    s.head[0].hops += 1


@jitted
def _enter_link(s: Any, packet: int, link: int, now: float) -> None:
    """Queue a packet on a link, or drop it where the link is down or its buffer full."""
    p, k, r = s.packets[packet], s.links[link], s.resources[link]
    if not k.up:
        _lose(s, packet, link, LOST_NO_LINK, now)
        return
    start = max(now, k.free_at)
    if (start - now) * k.rate + p.size > k.buffer:
        _lose(s, packet, link, LOST_FULL, now)
        return
    busy = p.size / k.rate
    k.free_at = start + busy
    r.busy += busy
    r.octets += p.size
    r.out_packets += 1
    r.out_octets += np.int64(p.size)
    p.entered = now
    p.resource = link
    p.epoch = k.epoch
    push(s.queue, s.head, start + busy + k.propagation, packet)


@jitted
def _enter_node(s: Any, rng: np.random.Generator, packet: int, node: int, now: float) -> None:
    """Hand a packet to the worker of a node that is free first."""
    resource = s.links.shape[0] + node
    p, n, r = s.packets[packet], s.nodes[node], s.resources[resource]
    if not n.serving:
        _lose(s, packet, resource, LOST_NO_LINK, now)
        return
    if n.held >= n.depth:
        _lose(s, packet, resource, LOST_FULL, now)
        return
    worker = 0
    for other in range(1, n.workers):
        if s.workers[node, other] < s.workers[node, worker]:
            worker = other
    service = n.service
    if n.law == EXPONENTIAL:
        service *= rng.standard_exponential()
    done = max(now, s.workers[node, worker]) + service
    s.workers[node, worker] = done
    n.held += 1
    r.busy += service
    r.octets += p.size
    r.out_packets += 1
    p.entered = now
    p.resource = resource
    p.epoch = n.epoch
    push(s.queue, s.head, done, packet)


@jitted
def serve_cell(s: Any, cell: int, now: float) -> None:
    """Bring a cell's virtual time and busy time up to `now`."""
    c = s.cells[cell]
    if c.held > 0:
        elapsed = now - c.touched
        c.virtual += elapsed * c.rate / c.held
        s.resources[s.links.shape[0] + s.nodes.shape[0] + cell].busy += elapsed
    c.touched = now


@jitted
def _wake_cell(s: Any, cell: int, now: float) -> None:
    """Schedule a cell's next completion, unless an earlier wake-up is pending: that one will look again."""
    c = s.cells[cell]
    if c.held == 0:
        return
    due = now + max(0.0, s.shares[cell, 0].finish - c.virtual) * c.held / c.rate
    if due < c.next_at:
        c.next_at = due
        push(s.queue, s.head, due, -1 - s.flows.shape[0] - cell)


@jitted
def await_cell(s: Any, cell: int, now: float) -> None:
    """Reschedule a cell after its rate changed."""
    s.cells[cell].next_at = np.inf
    _wake_cell(s, cell, now)


@jitted
def _enter_cell(s: Any, packet: int, cell: int, now: float) -> None:
    """Add a packet to those that share a cell."""
    resource = s.links.shape[0] + s.nodes.shape[0] + cell
    p, c, r = s.packets[packet], s.cells[cell], s.resources[resource]
    if not c.up:
        _lose(s, packet, resource, LOST_NO_LINK, now)
        return
    if c.held >= CELL_DEPTH:
        _lose(s, packet, resource, LOST_FULL, now)
        return
    serve_cell(s, cell, now)
    if c.held == 0:
        c.virtual = 0.0
    finish = c.virtual + p.size
    at = c.held
    while at > 0:
        parent = (at - 1) >> 1
        if s.shares[cell, parent].finish <= finish:
            break
        s.shares[cell, at].finish = s.shares[cell, parent].finish
        s.shares[cell, at].packet = s.shares[cell, parent].packet
        at = parent
    s.shares[cell, at].finish = finish
    s.shares[cell, at].packet = packet
    c.held += 1
    r.octets += p.size
    r.out_packets += 1
    p.entered = now
    p.resource = resource
    _wake_cell(s, cell, now)


@jitted
def _leave_cell(s: Any, cell: int) -> int:
    """Take the packet with the least virtual finish out of a cell."""
    c = s.cells[cell]
    packet = s.shares[cell, 0].packet
    held = c.held - 1
    c.held = held
    finish, last = s.shares[cell, held].finish, s.shares[cell, held].packet
    at = 0
    while True:
        child = 2 * at + 1
        if child >= held:
            break
        if child + 1 < held and s.shares[cell, child + 1].finish < s.shares[cell, child].finish:
            child += 1
        if s.shares[cell, child].finish >= finish:
            break
        s.shares[cell, at].finish = s.shares[cell, child].finish
        s.shares[cell, at].packet = s.shares[cell, child].packet
        at = child
    s.shares[cell, at].finish = finish
    s.shares[cell, at].packet = last
    return int(packet)


@jitted
def _run_cell(s: Any, cell: int, now: float) -> None:
    """Release what a cell has carried; the packet reaches the gNB after the cell's constant delay."""
    c = s.cells[cell]
    serve_cell(s, cell, now)
    c.next_at = np.inf
    # The remaining work is the difference of two sums: below a thousandth of an octet it is rounding.
    while c.held > 0 and s.shares[cell, 0].finish - c.virtual < 1e-3:
        push(s.queue, s.head, now + c.delay, _leave_cell(s, cell))
    _wake_cell(s, cell, now)


@jitted
def empty_cell(s: Any, cell: int, now: float) -> None:
    """Lose everything a cell holds: it was taken out of service."""
    serve_cell(s, cell, now)
    while s.cells[cell].held > 0:
        _lose(s, _leave_cell(s, cell), s.links.shape[0] + s.nodes.shape[0] + cell, LOST_NO_LINK, now)
    s.cells[cell].next_at = np.inf


@jitted
def _forward(s: Any, packet: int, node: int, now: float) -> None:
    """Send a packet on from a node: delivered there, or onto the next link of its route."""
    target = s.flows[s.packets[packet].flow].target
    if node == target:
        _finish(s, packet, now, False)
        return
    link = s.table[node, target]
    if link < 0:
        _finish(s, packet, now, True)
        return
    _enter_link(s, packet, link, now)


@jitted
def _emit(s: Any, rng: np.random.Generator, flow: int, now: float) -> None:
    """Create one packet of a flow and put it where the flow enters the network."""
    f = s.flows[flow]
    f.sent += 1
    packet = s.head[0].unused
    if packet < 0:
        s.head[0].overflow += 1
        f.lost += 1
        f.in_flight = max(0, f.in_flight - 1)
        return
    p = s.packets[packet]
    s.head[0].unused = p.following
    p.birth = now
    for domain in range(DOMAIN_COUNT):
        p.parts[domain] = 0.0
    p.size = f.size
    if f.law == EXPONENTIAL:
        p.size = max(1.0, np.rint(f.size * rng.standard_exponential()))
    p.flow = flow
    if f.cell >= 0:
        _enter_cell(s, packet, f.cell, now)
    elif f.link >= 0:
        _enter_link(s, packet, f.link, now)
    else:
        _forward(s, packet, f.node, now)


@jitted
def _run_elastic(s: Any, rng: np.random.Generator, flow: int, now: float) -> None:
    """Fill an elastic flow's window."""
    f = s.flows[flow]
    f.next_at = np.inf
    while f.in_flight < int(f.window):
        f.in_flight += 1
        before = f.lost
        _emit(s, rng, flow, now)
        if f.lost != before:
            break  # dropped on the spot: acknowledgements under way, or the retry below, go on
    if f.in_flight == 0 and not f.next_at < np.inf:
        start_flow(s, flow, now + _RETRY)


@jitted
def _run_flow(s: Any, rng: np.random.Generator, flow: int, now: float) -> None:
    """Emit what is due and schedule the next emission."""
    f = s.flows[flow]
    if f.kind == ELASTIC:
        _run_elastic(s, rng, flow, now)
        return
    rate = f.rate
    if f.daily:
        rate *= s.head[0].demand
    if rate <= 0:
        start_flow(s, flow, now + 1.0)
        return
    gap = 1 / rate if f.kind == CBR else rng.standard_exponential() / rate
    following = now + gap
    if f.kind == ON_OFF and following > f.on_until:
        following = max(now, f.on_until) + rng.standard_exponential() * f.off
        f.on_until = following + rng.standard_exponential() * f.on
    start_flow(s, flow, following)
    _emit(s, rng, flow, now)


@jitted
def _end_hop(s: Any, rng: np.random.Generator, packet: int, now: float) -> None:
    """A packet reaches the end of its link, a worker is done with it, or a cell's constant delay is over."""
    p = s.packets[packet]
    resource = p.resource
    at = resource - s.links.shape[0]
    if at < 0:
        k = s.links[resource]
        if p.epoch != k.epoch:
            _lose(s, packet, resource, LOST_NO_LINK, now)
            return
        if k.loss > 0 and rng.random() < k.loss:
            _lose(s, packet, resource, LOST_ERROR, now)
            return
        _book(s, packet, resource, now)
        s.resources[resource].in_packets += 1
        s.resources[resource].in_octets += np.int64(p.size)
        f = s.flows[p.flow]
        node = k.target
        if f.link >= 0:
            _finish(s, packet, now, False)
        elif s.nodes[node].present and (node == f.target or s.nodes[node].on_transit):
            _enter_node(s, rng, packet, node, now)
        else:
            _forward(s, packet, node, now)
        return
    if at < s.nodes.shape[0]:
        if p.epoch != s.nodes[at].epoch:
            _lose(s, packet, resource, LOST_NO_LINK, now)
            return
        s.nodes[at].held -= 1
        _book(s, packet, resource, now)
        _forward(s, packet, at, now)
        return
    _book(s, packet, resource, now)
    _forward(s, packet, s.cells[at - s.nodes.shape[0]].node, now)


@jitted
def advance(s: Any, rng: np.random.Generator, until: float) -> None:
    """Work off every event up to and including `until`; one advance or several, the packets are the same."""
    flow_count = s.flows.shape[0]
    while s.head[0].events > 0 and s.queue[0].time <= until:
        now, what = s.queue[0].time, s.queue[0].what
        pop(s.queue, s.head)
        if what >= 0:
            _end_hop(s, rng, what, now)
        elif what >= -flow_count:
            flow = -1 - what
            if s.flows[flow].active and s.flows[flow].next_at == now:
                _run_flow(s, rng, flow, now)
        else:
            cell = -1 - flow_count - what
            if s.cells[cell].next_at == now:
                _run_cell(s, cell, now)
