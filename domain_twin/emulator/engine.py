"""The packet network as an object: arrays, commands, timeline. Owns simulated time, never the clock.

What happens is a function of the seed and of the list of (time, command): advancing in many small steps or in
one big one gives the same packets. Route computations and measurements happen at their own exact simulated
times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain_twin.emulator import packets
from domain_twin.emulator.commands import AddFlow, Command, FlowPlan, SetCell, SetLink, SetNode, StopFlow
from domain_twin.emulator.spf import next_hops
from domain_twin.emulator.state import (
    CBR,
    CONSTANT,
    ELASTIC,
    EXPONENTIAL,
    ON_OFF,
    POISSON,
    Records,
    State,
    make_state,
)  # fmt: skip

__all__ = ["CellPlan", "LinkPlan", "Measurement", "NodePlan", "PacketNetwork"]

_KINDS = {"poisson": POISSON, "probe": POISSON, "cbr": CBR, "on-off": ON_OFF, "elastic": ELASTIC}
_SPARE_FLOWS = 128
_SPARE_WATCHES = 8
DOMAINS = ("ran", "transport", "core", "edge", "inter-domain")


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """A directed link between node indexes; octets/s, seconds, octets."""

    source: int
    target: int
    rate: float
    propagation: float
    buffer: float
    metric: int
    domain: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node; `workers` 0 where it adds no processing."""

    domain: int
    workers: int = 0
    service: float = 0.0  # mean, s
    exponential: bool = False
    on_transit: bool = False
    depth: int = 2000


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A cell at a node; `rate` octets/s, `delay` the constant part in seconds."""

    node: int
    rate: float
    delay: float
    domain: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What every resource did in one interval, and its counters at the end of it.

    `resources` is a copy of the state's records; `queue` octets (links) or packets (others) waiting per
    resource; `busy` the busy share per resource.
    """

    number: int
    at: float  # s of simulated time, the end of the interval
    interval: float
    resources: Records
    queue: NDArray[np.float64]
    busy: NDArray[np.float64]
    hops: int  # since the start


class PacketNetwork:
    """A network of queues that packets move through, advanced in simulated seconds."""

    def __init__(
        self,
        *,
        nodes: Sequence[NodePlan],
        links: Sequence[LinkPlan],
        cells: Sequence[CellPlan],
        flows: Sequence[FlowPlan],
        seed: int,
        convergence: float = 0.2,
        interval: float = 1.0,
        demand: Callable[[float], float] | None = None,
    ) -> None:
        self.now = 0.0
        self.state: State = make_state(
            nodes=len(nodes), links=len(links), cells=len(cells), flows=len(flows) + _SPARE_FLOWS,
            watches=sum(f.watched for f in flows) + _SPARE_WATCHES,
        )  # fmt: skip
        self.link_count, self.node_count, self.cell_count = len(links), len(nodes), len(cells)
        self.transit = np.ones(len(nodes), np.bool_)
        self.journal: list[tuple[float, Command]] = []
        self.flows: dict[str, int] = {}
        self.watches: dict[str, int] = {}
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._convergence, self._interval = convergence, interval
        self._demand = demand or (lambda _at: 1.0)
        self._measured = 0
        self._routes_due: list[float] = []
        self._next_flow = 0
        self._fill(nodes, links, cells)
        self._route()
        for flow in flows:
            self._start(flow, stagger=True)

    def _fill(self, nodes: Sequence[NodePlan], links: Sequence[LinkPlan], cells: Sequence[CellPlan]) -> None:
        state = self.state
        for i, link in enumerate(links):
            state.links[i] = (
                link.rate, link.propagation, link.buffer, 0.0, 0.0, link.source, link.target, link.metric,
                0, True,
            )  # fmt: skip
        for i, node in enumerate(nodes):
            law = EXPONENTIAL if node.exponential else CONSTANT
            state.nodes[i] = (
                node.workers > 0, node.on_transit, True, max(1, node.workers), law, node.depth, 0, 0,
                node.service,
            )  # fmt: skip
        for i, cell in enumerate(cells):
            state.cells[i] = (cell.node, True, 0, cell.rate, cell.delay, 0.0, 0.0, np.inf)
        state.resources["domain"] = [plan.domain for kind in (links, nodes, cells) for plan in kind]

    def advance(self, until: float) -> list[Measurement]:
        """Run to `until` (s); gives the measurements that fell due on the way."""
        taken: list[Measurement] = []
        while True:
            measure_at = (self._measured + 1) * self._interval
            at = min([measure_at, *self._routes_due])
            if at > until:
                break
            packets.advance(self.state, self._rng, at)
            self.now = max(self.now, at)
            if self._routes_due and self._routes_due[0] <= at:
                self._routes_due.pop(0)
                self._route()
            if measure_at <= at:
                taken.append(self._measure(at))
        packets.advance(self.state, self._rng, until)
        self.now = max(self.now, until)
        return taken

    def apply(self, command: Command) -> None:
        """Carry out a command at the present simulated time and note it for a replay."""
        self.journal.append((self.now, command))
        match command:
            case SetLink():
                self._set_link(command)
            case SetNode():
                self._set_node(command)
            case SetCell():
                self._set_cell(command)
            case AddFlow(flow):
                self._start(flow, stagger=False)
            case StopFlow(name):
                index = self.flows.pop(name, None)
                self.watches.pop(name, None)
                if index is not None:
                    self.state.flows[index]["active"] = False

    def replay(self, journal: Sequence[tuple[float, Command]], until: float) -> list[Measurement]:
        """Run to `until` with another run's commands at their times, as fast as it goes."""
        taken: list[Measurement] = []
        for at, command in journal:
            taken += self.advance(at)
            self.apply(command)
        return taken + self.advance(until)

    def _reroute_later(self) -> None:
        due = self.now + self._convergence
        if due not in self._routes_due:
            self._routes_due.append(due)

    def _route(self) -> None:
        next_hops(self.state.links, self.transit, self.state.table)

    def _set_link(self, command: SetLink) -> None:
        link = self.state.links[command.link]
        if command.rate is not None:
            link["rate"] = command.rate
        if command.propagation is not None:
            link["propagation"] = command.propagation
        if command.loss is not None:
            link["loss"] = command.loss
        if command.metric is not None and command.metric != link["metric"]:
            link["metric"] = command.metric
            self._reroute_later()
        if command.up is not None and command.up != bool(link["up"]):
            link["up"] = command.up
            if not command.up:
                link["epoch"] += 1
                self._unbook(command.link, max(0.0, link["free_at"] - self.now))
                link["free_at"] = self.now
            self._reroute_later()

    def _unbook(self, resource: int, busy: float) -> None:
        """Take back busy time that was booked for work that will not be done."""
        self.state.resources[resource]["busy"] -= busy

    def _set_node(self, command: SetNode) -> None:
        i = command.node
        node, free_at = self.state.nodes[i], self.state.workers[i]
        if command.service is not None:
            node["service"] = command.service
        if command.workers is not None and command.workers != node["workers"]:
            # Latest first: a queue that exists already stays in front of whoever comes now.
            busy = np.sort(free_at[: node["workers"]])[::-1]
            free_at[:] = 0.0
            kept = min(len(busy), command.workers)
            free_at[:kept] = busy[:kept]
            node["workers"] = command.workers
        if command.serving is not None and command.serving != bool(node["serving"]):
            node["serving"] = command.serving
            if not command.serving:
                node["epoch"] += 1
                node["held"] = 0
                self._unbook(self.link_count + i, self._backlog(i))
                free_at[:] = self.now
        if command.transit is not None and command.transit != self.transit[i]:
            self.transit[i] = command.transit
            self._reroute_later()

    def _set_cell(self, command: SetCell) -> None:
        cell, i = self.state.cells[command.cell], command.cell
        packets.serve_cell(self.state, i, self.now)
        if command.rate is not None:
            cell["rate"] = command.rate
        if command.up is not None and command.up != bool(cell["up"]):
            cell["up"] = command.up
            if not command.up:
                packets.empty_cell(self.state, i, self.now)
        packets.await_cell(self.state, i, self.now)

    def _start(self, plan: FlowPlan, *, stagger: bool) -> None:
        flows = self.state.flows
        if plan.name in self.flows:
            raise ValueError(f"flow '{plan.name}' exists already")
        order = (k % len(flows) for k in range(self._next_flow, self._next_flow + len(flows)))
        i = next((k for k in order if not flows[k]["active"]), -1)
        if i < 0:
            raise ValueError(f"no room for flow '{plan.name}': {len(flows)} flows run already")
        self._next_flow = i + 1
        self.flows[plan.name] = i
        law = EXPONENTIAL if plan.exponential else CONSTANT
        flows[i] = (
            _KINDS[plan.kind], True, plan.node, plan.cell, plan.link, plan.target, law, plan.daily,
            self._watch(plan), 0, 0, 0, 0, 0, plan.rate, plan.size, plan.on, plan.off, self.now + plan.on,
            np.inf,
            min(2.0, plan.window), plan.window, plan.acknowledge, -1.0, 0.0,
        )  # fmt: skip
        # Sources that start together would stay in step: spread the first emissions over one mean interval.
        spread = self._rng.random() / max(plan.rate, 1.0) if stagger else 0.0
        packets.start_flow(self.state, i, self.now + spread)

    def _watch(self, plan: FlowPlan) -> int:
        if not plan.watched:
            return -1
        rows, used = len(self.state.finished), set(self.watches.values())
        row = next((k for k in range(rows) if k not in used), -1)
        if row < 0:
            raise ValueError(f"flow '{plan.name}' cannot be watched: {len(used)} are watched already")
        self.watches[plan.name] = row
        return row

    def _backlog(self, node: int) -> float:
        left = self.state.workers[node, : self.state.nodes[node]["workers"]] - self.now
        return float(np.clip(left, 0.0, None).sum())

    def _measure(self, at: float) -> Measurement:
        """Copy and clear the interval's sums; busy time beyond `at` moves into the next interval."""
        state = self.state
        self._measured += 1
        for cell in range(self.cell_count):
            packets.serve_cell(state, cell, at)
        resources = state.resources.copy()
        for name in ("count", "delay", "square", "lost", "octets", "busy"):
            state.resources[name] = 0.0
        ahead = np.zeros(len(resources))
        ahead[: self.link_count] = np.clip(state.links["free_at"] - at, 0.0, None)
        for node in np.flatnonzero(state.nodes["present"]):
            ahead[self.link_count + node] = self._backlog(int(node))
        resources["busy"] -= ahead
        state.resources["busy"] += ahead
        capacity = np.ones(len(resources))
        capacity[self.link_count : self.link_count + self.node_count] = state.nodes["workers"]
        waiting = (ahead[: self.link_count] * state.links["rate"], state.nodes["held"], state.cells["held"])
        state.head["demand"] = self._demand(at)
        return Measurement(
            number=self._measured, at=at, interval=self._interval, resources=resources,
            queue=np.concatenate(waiting),
            busy=np.clip(resources["busy"] / (capacity * self._interval), 0.0, 1.0),
            hops=int(state.head[0]["hops"]),
        )  # fmt: skip
