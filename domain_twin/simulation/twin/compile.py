"""From the network model to a simulation graph: which edge each element becomes. Fits nothing.

    cell -(CELL)-> gNB -(LINK)-> router …            router -(LINK)-> UPF#in -(STATION)-> UPF -(LINK)-> …
    border -(LINK)-> outside node -(FIXED)-> border  node -(STATION)-> host -(FIXED)-> node

A user plane function works on every packet that reaches its node over a link; other functions and hosts on
those that end there. An inter-domain link is owned by the domain it leaves: its edge leads to a node named
after it, the outside, where traffic of other domains enters and leaves. What is not known becomes a sentence
in `assumptions`, never a silent guess; what refers to nothing is left out, and said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from domain_twin.model import (
    CELL_RATE,
    DELAY,
    HANDLED_RATE,
    UTILISATION,
    Cell,
    Host,
    Kpi,
    Link,
    Network,
    NetworkFunction,
    TerminationPoint,
)
from domain_twin.simulation.graph import Demand, FloatArray, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.twin.calibration import DEFAULT, Calibration
from domain_twin.simulation.twin.packet_size import packet_octets
from domain_twin.simulation.twin.packet_size import told as told_size
from domain_twin.simulation.twin.traffic import UNLIKELY, DemandFit, Ends, Loads, estimate, loads_of

__all__ = ["Compiled", "compile_network", "traffic_classes"]

BUFFER_S = 0.05  # a link's buffer where history shows no loss: what routers of this class are sold with
LONGEST_BUFFER = 4096.0  # trains; a longer queue is as good as endless below full load
_UPF = "UPF"
_Processor: TypeAlias = NetworkFunction | Host


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A network ready to be solved, and how to find its elements in it.

    `edges_of` has links, inter-domain links, termination points, cells, functions and hosts; `node_of` nodes,
    cells, functions, hosts, inter-domain links (their outside) and published points (`domain/alias`).
    """

    graph: SimGraph
    demand: Demand
    edges_of: Mapping[str, tuple[int, ...]]
    node_of: Mapping[str, int]
    assumptions: tuple[str, ...]
    fit: DemandFit

    @property
    def classes(self) -> tuple[TrafficClass, ...]:
        """The traffic classes of the demand."""
        return self.graph.classes


def compile_network(
    network: Network,
    *,
    loads: Loads | None = None,
    calibration: Calibration | None = None,
    published: Mapping[str, str] | None = None,
) -> Compiled:
    """Compile a network at one version; demand is inferred from `loads`, by default what it reports now.

    `published` maps aliases to element ids (`[[publish]]` of the agent).
    """
    known = calibration or _uncalibrated(network)
    builder = _Builder(network, known, calibrated=calibration is not None)
    builder.build()
    builder.name_published(published or {})
    graph = builder.graph()
    measured = loads_of(network) if loads is None else loads
    traffic = builder.calibration.traffic
    fit = estimate(
        graph,
        measured,
        builder.edges_of,
        builder.ends(),
        packet_octets=traffic.packet_octets,
        shares=(1.0,),
    )
    return Compiled(
        graph,
        fit.demand,
        builder.edges_of,
        builder.node_of,
        (*builder.said, *fit.assumptions),
        fit,
    )


def _uncalibrated(network: Network) -> Calibration:
    """Nothing fitted, but for the packet size where interfaces count."""
    octets = packet_octets(network)
    if not octets > 0:
        return DEFAULT
    return replace(DEFAULT, traffic=replace(DEFAULT.traffic, packet_octets=octets, octets_counted=True))


def traffic_classes(calibration: Calibration) -> tuple[TrafficClass, ...]:
    """What measured traffic is computed as: one class of trains.

    Bursts are in their length, which is fitted to delays. To split off a class of on-off sources besides made
    predictions worse: 2.6 % off instead of 1.4 % (benchmarks.fidelity, world 3, with the true periods).
    """
    traffic = calibration.traffic
    sizes, probabilities, exponential = _size_law(traffic.train_octets, traffic.size_scv)
    return (
        TrafficClass(
            "measured",
            sizes,
            probabilities,
            exponential,
            packets=traffic.packets_per_train,
            measured=True,
        ),
    )


def _size_law(mean: float, scv: float) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Sizes and probabilities of a law with this mean and scv; the flag stands for an exponential one.

    Two equally likely sizes, mean * (1 -+ sqrt(scv)), for scv < 1.
    """
    if scv >= 0.9:
        return (mean,), (1.0,), True
    if scv < 0.01:
        return (mean,), (1.0,), False
    spread = math.sqrt(scv)
    return (mean * (1 - spread), mean * (1 + spread)), (0.5, 0.5), False


@dataclass(slots=True)
class _Edge:
    name: str
    tail: str
    head: str
    law: Law
    up: bool = True
    metric: float = 0.0
    capacity_bps: float = 1.0
    fixed_s: float = 0.0
    buffer: float = math.inf
    servers: int = 1
    service_s: float = 0.0
    service_scv: float = 1.0
    loss: float = 0.0


@dataclass(slots=True)
class _Builder:
    network: Network
    calibration: Calibration
    calibrated: bool
    said: list[str] = field(default_factory=list)
    edges_of: dict[str, tuple[int, ...]] = field(default_factory=dict)
    node_of: dict[str, int] = field(default_factory=dict)
    _nodes: dict[str, bool] = field(default_factory=dict)  # transit, by graph node
    _edges: list[_Edge] = field(default_factory=list)
    _entry: dict[str, str] = field(default_factory=dict)  # graph node that links into a node lead to
    _place: dict[str, str] = field(default_factory=dict)  # graph node by element
    _members: dict[str, list[str]] = field(default_factory=dict)  # edge names by element
    _unfitted: list[str] = field(default_factory=list)
    _buffers: list[str] = field(default_factory=list)
    _stale: list[str] = field(default_factory=list)

    # ---- elements ------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make all nodes and edges."""
        network = self.network
        for node in network.nodes.values():
            self._nodes[node.id] = True
            self._place[node.id] = self._entry[node.id] = node.id
            if node.stale:
                self._stale.append(node.id)
        self._gateways()
        for point in sorted(network.termination_points.values(), key=lambda point: point.id):
            if point.inter_domain is not None:
                self._border(point, point.inter_domain.link_id)
        for link in sorted(network.links.values(), key=lambda link: link.id):
            self._link(link)
        for cell in sorted(network.cells.values(), key=lambda cell: cell.id):
            self._cell(cell)
        for processor in self._processors():
            if not _on_transit(processor):
                self._terminal(processor)
        self._summarise()
        index = {edge.name: number for number, edge in enumerate(self._edges)}
        for element, names in self._members.items():
            self.edges_of[element] = tuple(index[name] for name in names)
        numbers = {name: number for number, name in enumerate(self._nodes)}
        self.node_of.update({element: numbers[place] for element, place in self._place.items()})

    def _processors(self) -> list[_Processor]:
        found: list[_Processor] = [*self.network.functions.values(), *self.network.hosts.values()]
        return sorted(found, key=lambda item: item.id)

    def _gateways(self) -> None:
        """User plane functions: between the links into their node and the node."""
        for function in self._processors():
            if not _on_transit(function) or not self._known(function.id, function.node):
                continue
            entry = self._entry[function.node] + "#in"
            self._nodes[entry] = True
            self._station(function, entry, self._entry[function.node])
            self._entry[function.node] = entry
            self._place[function.id] = function.node
            if not function.up:
                self._nodes[function.node] = False  # routes avoid a node without its user plane

    def _terminal(self, item: _Processor) -> None:
        if not self._known(item.id, item.node):
            return
        place = item.id if item.id not in self._nodes else f"{item.id}#service"
        self._nodes[place] = False
        self._place[item.id] = place
        self._station(item, item.node, place)
        self._add(_Edge(f"{item.id}#return", place, item.node, Law.FIXED), item.id)

    def _station(self, item: _Processor, tail: str, head: str) -> None:
        edge = _Edge(item.id, tail, head, Law.STATION, up=item.up, servers=max(1, item.workers))
        if item.workers < 1:
            self.said.append(f"{item.id} reports {item.workers} workers; it counts as down")
            edge.up = False
        fit = self.calibration.elements.get(item.id)
        if fit is not None and math.isfinite(fit.service_s):
            edge.service_s, edge.service_scv = fit.service_s, max(0.0, fit.service_scv)
            edge.fixed_s = max(0.0, fit.fixed_s) if math.isfinite(fit.fixed_s) else 0.0
        else:
            self._unfitted_station(edge, item.kpis)
        self._note_stale(item.id, item.stale)
        self._add(edge, item.id)

    def _unfitted_station(self, edge: _Edge, kpis: Mapping[str, Kpi]) -> None:
        """Service time by the utilisation law (Denning & Buzen 1978): utilisation = rate * service / k."""
        delay_ms, handled = _kpi(kpis, DELAY), _kpi(kpis, HANDLED_RATE)
        busy = _kpi(kpis, UTILISATION)
        if handled > 0 and busy > 0:
            edge.service_s = busy * edge.servers / handled * self.calibration.traffic.packets_per_train
            edge.fixed_s = max(0.0, delay_ms / 1e3 - edge.service_s) if math.isfinite(delay_ms) else 0.0
            self._unfitted.append(edge.name)
        else:
            edge.law, edge.fixed_s = Law.FIXED, max(0.0, delay_ms / 1e3) if math.isfinite(delay_ms) else 0.0
            self.said.append(
                f"{edge.name} reports no load and is not calibrated: {edge.fixed_s * 1e3:g} ms at any load"
            )

    def _cell(self, cell: Cell) -> None:
        if not self._known(cell.id, cell.node):
            return
        self._nodes[cell.id] = False
        self._place[cell.id] = cell.id
        rate = _kpi(cell.kpis, CELL_RATE)
        edge = _Edge(cell.id, cell.id, cell.node, Law.CELL, up=cell.up)
        if math.isfinite(rate) and rate > 0:
            edge.capacity_bps = rate * 1e6
        else:
            edge.up = False
            self.said.append(f"cell {cell.id} reports no rate of its air interface; it counts as down")
        fit = self.calibration.elements.get(cell.id)
        if fit is not None and math.isfinite(fit.fixed_s):
            edge.fixed_s = fit.fixed_s
        else:
            self._unfitted.append(cell.id)
        self._note_stale(cell.id, cell.stale)
        self._add(edge, cell.id)

    def _link(self, link: Link) -> None:
        if not self._known(link.id, link.source_node) or not self._known(link.id, link.dest_node):
            return
        if self._entry[link.dest_node] == link.source_node:
            self.said.append(f"link {link.id} leads back to where it starts; it is left out")
            return
        edge = _Edge(link.id, link.source_node, self._entry[link.dest_node], Law.LINK, up=link.up)
        self._line(edge, link.metric, link.capacity_mbps, link.kpis)
        self._note_stale(link.id, link.stale)
        self._add(edge, link.id, link.source_tp, link.dest_tp)

    def _border(self, point: TerminationPoint, link_id: str) -> None:
        assert point.inter_domain is not None
        if not self._known(link_id, point.node):
            return
        if link_id in self._nodes:
            self.said.append(f"{point.id} claims the inter-domain link {link_id} as well; it is left out")
            return
        self._nodes[link_id] = False
        self._place[link_id] = self._place[point.id] = link_id
        capacity = point.inter_domain.capacity_mbps
        if capacity <= 0.0:
            capacity = point.speed_mbps
        edge = _Edge(link_id, point.node, link_id, Law.LINK, up=point.up)
        self._line(edge, point.inter_domain.metric, capacity, point.kpis)
        self._note_stale(link_id, point.stale)
        self._add(edge, link_id, point.id)
        inward = _Edge(f"{link_id}#in", link_id, self._entry[point.node], Law.FIXED, up=point.up)
        self._add(inward, link_id, point.id)

    def _line(self, edge: _Edge, metric: int, capacity_mbps: float, kpis: Mapping[str, Kpi]) -> None:
        """Fill in what links and inter-domain links have in common."""
        edge.metric = float(max(1, metric))
        traffic = self.calibration.traffic
        if capacity_mbps > 0.0:
            edge.capacity_bps = capacity_mbps * 1e6
        else:
            edge.up = False
            self.said.append(f"{edge.name} has no known capacity; it counts as down")
        fit = self.calibration.elements.get(edge.name)
        if fit is not None and math.isfinite(fit.fixed_s):
            edge.fixed_s, edge.loss = fit.fixed_s, fit.loss
        else:
            self._unfitted.append(edge.name)
            transmission_s = traffic.train_octets * 8 / edge.capacity_bps
            measured = _kpi(kpis, DELAY)
            if math.isfinite(measured):
                edge.fixed_s = max(0.0, measured / 1e3 - transmission_s)
            elif edge.up:
                self.said.append(f"{edge.name} reports no delay; its propagation counts as 0")
        if fit is not None and math.isfinite(fit.buffer_octets):
            octets = fit.buffer_octets
        else:
            octets = edge.capacity_bps / 8 * BUFFER_S
            self._buffers.append(edge.name)
        edge.buffer = min(LONGEST_BUFFER, max(1.0, math.floor(octets / traffic.train_octets)))

    # ---- bookkeeping ---------------------------------------------------------------------------------------

    def _add(self, edge: _Edge, *elements: str) -> None:
        self._edges.append(edge)
        for element in elements:
            self._members.setdefault(element, []).append(edge.name)

    def _known(self, element: str, node: str) -> bool:
        if node in self._entry:
            return True
        self.said.append(
            f"{element} refers to the node {node or '(none)'}, which is not there; it is left out"
        )
        return False

    def _note_stale(self, element: str, stale: bool) -> None:
        if stale:
            self._stale.append(element)

    def _summarise(self) -> None:
        if not self.calibrated:
            self.said.append(
                "this domain is not calibrated: single packets and Poisson arrivals are assumed; run fedtwin"
                " calibrate"
            )
        traffic = self.calibration.traffic
        self.said.append(told_size(traffic.packet_octets, traffic.octets_counted))
        if self._unfitted:
            self.said.append(
                "fixed delays are taken from the figures of now, not from a calibration:"
                f" {_some(self._unfitted)}"
            )
        if self._buffers:
            self.said.append(
                f"history shows no buffer sizes; {BUFFER_S * 1e3:g} ms at the link's rate are assumed:"
                f" {_some(self._buffers)}"
            )
        if self._stale:
            self.said.append(f"figures are stale, as the device is not heard: {_some(self._stale)}")

    def name_published(self, published: Mapping[str, str]) -> None:
        """Let published points and border points be found by the names that peers know."""
        for alias, element in published.items():
            name = f"{self.network.domain}/{alias}"
            if element in self.node_of:
                self.node_of[name] = self.node_of[element]
            else:
                self.said.append(f"{name} stands for {element}, which is not there; it is left out")

    def ends(self) -> Ends:
        """Where traffic may start and end, and how likely two ends talk.

        User traffic of a cell passes a UPF and goes on to a host or out of the domain; so do packets of a
        gNB, which also talks to its neighbours and to the control plane. Control functions talk among
        themselves and to UPFs, bare routers among themselves (3GPP TS 23.501 4.2, 5.8).
        """
        network = self.network
        radio = {cell.node for cell in network.cells.values()}
        users = {item.node for item in self._processors() if _on_transit(item)}
        services = {self._place[item.id] for item in network.hosts.values() if item.id in self._place}
        controls = {
            self._place[item.id]
            for item in network.functions.values()
            if item.id in self._place and not _on_transit(item)
        }
        outside = {
            point.inter_domain.link_id for point in network.termination_points.values() if point.inter_domain
        }
        hidden = {item.node for item in self._processors() if self._place.get(item.id) != item.node}

        def role(name: str) -> int:
            groups = (network.cells, radio, services, outside, controls, users)
            return next((number for number, group in enumerate(groups) if name in group), len(groups))

        rare = UNLIKELY
        talks = np.array(
            [  # cell, radio, host, outside, control, user plane, bare
                [0, rare, 1, 1, rare, rare, rare],
                [0, 1, 1, 1, 1, rare, rare],
                [0, 1, 1, 1, rare, rare, rare],
                [0, 1, 1, 1, 1, rare, rare],
                [0, 1, rare, 1, 1, 1, rare],
                [0, rare, rare, rare, 1, 1, rare],
                [0, rare, rare, rare, rare, rare, 1],
            ]
        )
        chosen = [
            (number, role(name))
            for number, name in enumerate(self._nodes)
            if not name.endswith("#in") and name not in hidden
        ]
        destinations = [(n, r) for n, r in chosen if r != 0]
        weight = np.array([[talks[a, b] * (n != m) for m, b in destinations] for n, a in chosen], np.float64)
        return Ends(tuple(n for n, _ in chosen), tuple(n for n, _ in destinations), weight)

    def graph(self) -> SimGraph:
        """The arrays."""
        numbers = {name: number for number, name in enumerate(self._nodes)}
        edges = self._edges
        groups: dict[str, tuple[int, ...]] = {}
        for node in self.network.nodes:
            own = {
                node,
                *(place for name, place in self._place.items() if self._node_of_element(name) == node),
            }
            own |= {name for name in self._nodes if name.startswith(f"{node}#")}
            groups[node] = tuple(i for i, e in enumerate(edges) if e.tail in own or e.head in own)

        def column(name: str) -> FloatArray:
            return np.array([getattr(edge, name) for edge in edges], dtype=np.float64)

        return SimGraph(
            nodes=tuple(self._nodes),
            edges=tuple(edge.name for edge in edges),
            classes=traffic_classes(self.calibration),
            tail=np.array([numbers[e.tail] for e in edges], np.int32),
            head=np.array([numbers[e.head] for e in edges], np.int32),
            law=np.array([int(e.law) for e in edges], np.int8),
            scheduler=np.full(len(edges), int(Scheduler.FIFO), np.int8),
            up=np.array([e.up for e in edges], np.bool_),
            metric=column("metric"),
            capacity_bps=column("capacity_bps"),
            fixed_s=column("fixed_s"),
            buffer=column("buffer"),
            servers=np.array([e.servers for e in edges], np.int32),
            service_s=column("service_s"),
            service_scv=column("service_scv"),
            loss=column("loss"),
            transit=np.array(list(self._nodes.values()), np.bool_),
            groups=groups,
        )

    def _node_of_element(self, name: str) -> str:
        network = self.network
        element = network.cells.get(name) or network.functions.get(name) or network.hosts.get(name)
        return element.node if element is not None else ""


def _on_transit(item: _Processor) -> bool:
    """Whether it works on packets that only cross its node (3GPP TS 23.501 6.2.3: UPF)."""
    return isinstance(item, NetworkFunction) and item.type.upper() == _UPF


def _kpi(kpis: Mapping[str, Kpi], name: str) -> float:
    kpi = kpis.get(name)
    return kpi.value if kpi is not None and math.isfinite(kpi.value) else math.nan


def _some(names: Sequence[str], shown: int = 5) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
