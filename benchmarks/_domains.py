"""Networks of several domains made at random, in parts and whole, for federated what-ifs. No measuring.

Every inner name (node, link, interface) carries INNER, so that a scan of messages finds what must not leave.
The whole network is solved by `solve_flows` over explicit paths, which are found here on their own: border
distances per domain by SciPy, the way across the domains by SciPy on the graph of border points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from domain_twin.agent.what_if_part import PartTwin, PointNodes, WhatIfPart
from domain_twin.model import Point, PointKind, Version
from domain_twin.model.scenario import DemandChange, ElementDown
from domain_twin.simulation.flows import Flows, solve_flows
from domain_twin.simulation.graph import Arrivals, Demand, Law, SimGraph, TrafficClass, Variant
from federation.v1 import fedtwin_pb2 as pb
from federation.whatif import Question
from federation.whatif_changes import Case, Sight
from federation.whatif_flows import Known
from federation.wire.fields import parse
from federation.wire.simulate import (
    Figures,
    Prepare,
    Prepared,
    Round,
    decode_answer,
    decode_ask,
    encode_answer,
    encode_ask,
)

INNER = "inner"
CLASSES = (
    TrafficClass("bulk", (300.0, 1500.0), (0.4, 0.6)),
    TrafficClass("video", (1000.0,), arrivals=Arrivals.ON_OFF, on_s=0.2, off_s=0.2),
)


@dataclass(slots=True)
class Domain:
    """One domain: its graph and private demand, and where its disclosed points lie."""

    name: str
    graph: SimGraph
    demand: Demand
    points: dict[str, PointNodes]
    variants: dict[int, Variant] = field(default_factory=dict)  # private changes by variant of the question
    assumptions: tuple[str, ...] = ()

    def part(self, ask: Prepare) -> PartTwin:
        """What its agent computes from: changes that a peer asks for, with those of its owner."""
        return PartTwin(
            Version("e", 1, 0),
            self.graph,
            self.demand,
            self.points,
            lambda graph, demand: [self.variant(number, ask) for number in range(len(ask.variants))],
            includes_known=False,
            assumptions=self.assumptions,
        )

    def variant(self, number: int, ask: Prepare) -> Variant:
        """One variant of the question as this domain makes it."""
        own = self.variants.get(number, Variant())
        down, scale = set(own.down), own.demand_scale
        for change in ask.variants[number].changes:
            match change:
                case ElementDown():
                    down |= set(
                        np.flatnonzero(self.graph.head == self.points[change.element].leaves).tolist()
                    )
                case DemandChange():
                    scale *= change.factor or 0.0
                case _:
                    raise AssertionError(change)
        return replace(own, name=ask.variants[number].name, down=frozenset(down), demand_scale=scale)


@dataclass(slots=True)
class Federation:
    """Domains, the links between them (link id: both border points), and who sends to whom."""

    domains: dict[str, Domain]
    links: dict[str, tuple[str, str]]
    pairs: list[tuple[str, str, int, float]]  # source, target, class, packets/s

    def sight(self) -> Sight:
        """What a broker sees of it."""
        points = {}
        for name, domain in self.domains.items():
            for point, nodes in domain.points.items():
                kind = PointKind.BORDER if nodes.border else PointKind.ENDPOINT
                points[point] = Point(point, name, kind)
        for link, ends in self.links.items():
            for near, far in (ends, ends[::-1]):
                peer = far.partition("/")[0]
                points[near] = replace(points[near], link_id=link, peer_domain=peer)
        return Sight(points, self.links)


def federation(
    domains: int, nodes: int, *, seed: int, published: int = 3, load: float = 0.7, buffer: float = 16.0
) -> Federation:
    """A ring of domains with some chords, each a random connected network with traffic of its own.

    `load`: about the utilisation of the busiest links, by private traffic and that between the domains.
    """
    rng = np.random.default_rng(seed)
    names = [f"dom{number}" for number in range(domains)]
    neighbours = {(k, (k + 1) % domains) for k in range(domains)} if domains > 2 else {(0, 1)}
    links: dict[str, tuple[str, str]] = {}
    borders: dict[str, list[tuple[str, int]]] = {name: [] for name in names}
    for number, (one, other) in enumerate(sorted(neighbours)):
        for parallel in range(int(rng.integers(1, 4))):
            link = f"urn:ndt:idl:{number}-{parallel}"
            ends = (f"{names[one]}/idl-{number}-{parallel}", f"{names[other]}/idl-{number}-{parallel}")
            links[link] = ends
            for end in ends:
                borders[end.partition("/")[0]].append((end, int(rng.integers(nodes))))
    built = {name: _domain(name, nodes, borders[name], published, rng=rng, buffer=buffer) for name in names}
    ends = [point for domain in built.values() for point, at in domain.points.items() if not at.border]
    pairs = []
    for source in ends:
        for target in ends:
            if source != target and rng.random() < 0.5:
                pairs.append((source, target, int(rng.integers(len(CLASSES))), float(rng.uniform(20, 200))))
    made = Federation(built, links, pairs)
    return _scaled(made, load)


def _domain(
    name: str,
    nodes: int,
    borders: Sequence[tuple[str, int]],
    published: int,
    *,
    rng: np.random.Generator,
    buffer: float,
) -> Domain:
    ids = [f"{INNER}-{name}-node-{i}" for i in range(nodes)]
    tail, head, capacity = [], [], []
    edge_ids: list[str] = []

    def add(a: int, b: int, mbps: float, identity: str) -> None:
        tail.append(a)
        head.append(b)
        capacity.append(mbps * 1e6)
        edge_ids.append(identity)

    order = rng.permutation(nodes)
    chords = {tuple(sorted(map(int, pair))) for pair in zip(order, np.roll(order, 1), strict=True)}
    while len(chords) < int(1.6 * nodes):
        a, b = sorted(map(int, rng.integers(nodes, size=2)))
        if a != b:
            chords.add((a, b))
    for a, b in sorted(chords):
        mbps = float(rng.choice([20.0, 40.0, 100.0]))
        add(a, b, mbps, f"{INNER}-{name}-link-{a}-{b}")
        add(b, a, mbps, f"{INNER}-{name}-link-{b}-{a}")
    points: dict[str, PointNodes] = {}
    for point, router in borders:
        leaves = len(ids)
        ids.append(f"{INNER}-{name}-if-{leaves}")
        add(router, leaves, float(rng.choice([40.0, 100.0])), f"{INNER}-{name}-out-{leaves}")
        points[point] = PointNodes(router, leaves, border=True)
    for number in range(published):
        router, at = int(rng.integers(nodes)), len(ids)
        ids.append(f"{INNER}-{name}-cell-{number}")
        add(at, router, 50.0, f"{INNER}-{name}-up-{number}")
        add(router, at, 50.0, f"{INNER}-{name}-dn-{number}")
        points[f"{name}/p{number}"] = PointNodes(at, at, border=False)
    count, edges = len(ids), len(edge_ids)
    graph = SimGraph(
        nodes=tuple(ids),
        edges=tuple(edge_ids),
        classes=CLASSES,
        tail=np.array(tail, np.int32),
        head=np.array(head, np.int32),
        law=np.full(edges, Law.LINK, np.int8),
        scheduler=np.zeros(edges, np.int8),
        up=np.ones(edges, bool),
        metric=rng.uniform(1.0, 10.0, edges),
        capacity_bps=np.array(capacity),
        fixed_s=rng.uniform(1e-5, 2e-3, edges),
        buffer=np.full(edges, buffer),
        servers=np.ones(edges, np.int32),
        service_s=np.zeros(edges),
        service_scv=np.zeros(edges),
        loss=np.zeros(edges),
        transit=np.arange(count) < nodes,
    )
    rate = np.zeros((len(CLASSES), count, count))
    inside = rng.uniform(0.0, 40.0, (len(CLASSES), nodes, nodes)) * (rng.random((nodes, nodes)) < 0.6)
    rate[:, :nodes, :nodes] = inside
    rate[:, np.arange(count), np.arange(count)] = 0.0
    return Domain(name, graph, Demand(rate), points)


def _scaled(made: Federation, load: float) -> Federation:
    """All demand multiplied so that the 90th percentile of the links' offered load is `load`."""
    whole = Whole(made)
    solution = whole.solve({})
    factor = load / float(np.quantile(solution.utilisation, 0.9))
    for domain in made.domains.values():
        domain.demand = Demand(domain.demand.rate * factor)
    made.pairs = [(s, t, c, rate * factor) for s, t, c, rate in made.pairs]
    return made


class Whole:
    """The network that nobody sees: all domains in one graph, with the same hierarchical routing."""

    def __init__(self, made: Federation) -> None:
        self._made = made
        self.node_at: dict[str, int] = {}
        self.edge_at: dict[str, int] = {}
        nodes: list[str] = []
        for domain in made.domains.values():
            self.node_at[domain.name] = len(nodes)
            nodes += domain.graph.nodes
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        edges: list[str] = []
        # A packet that leaves by a border point arrives at the router where the next domain has its end.
        far: dict[tuple[str, int], int] = {}
        for one, other in made.links.values():
            for near, there in ((one, other), (other, one)):
                home, away = near.partition("/")[0], there.partition("/")[0]
                router = made.domains[away].points[there].enters
                far[home, made.domains[home].points[near].leaves] = self.node_at[away] + router
        for domain in made.domains.values():
            graph, first = domain.graph, self.node_at[domain.name]
            self.edge_at[domain.name] = len(edges)
            edges += graph.edges
            for name in _COLUMNS:
                columns[name] += getattr(graph, name).tolist()
            columns["tail"][-len(graph.edges) :] = (graph.tail + first).tolist()
            columns["head"][-len(graph.edges) :] = [
                far.get((domain.name, int(node)), first + int(node)) for node in graph.head
            ]
        self.graph = SimGraph(
            nodes=tuple(nodes),
            edges=tuple(edges),
            classes=CLASSES,
            transit=np.ones(len(nodes), bool),
            **{
                name: np.array(values, getattr(next(iter(made.domains.values())).graph, name).dtype)
                for name, values in columns.items()
            },
        )

    def solve(self, variants: Mapping[str, Variant], *, factor: float = 1.0, down: Sequence[str] = ()) -> Any:
        """Everything at once: `variants` by domain, a factor of all demand, links between domains down."""
        up = self.graph.up.copy()
        changed = {name: getattr(self.graph, name).copy() for name in ("capacity_bps", "metric", "buffer")}
        for name, variant in variants.items():
            at = self.edge_at[name]
            up[[at + edge for edge in variant.down]] = False
            for column, values in variant.values.items():
                for edge, value in values.items():
                    changed[column][at + edge] = value
        for link in down:
            for end in self._made.links[link]:
                domain = self._made.domains[end.partition("/")[0]]
                out = np.flatnonzero(domain.graph.head == domain.points[end].leaves)
                up[self.edge_at[domain.name] + out] = False
        graph = replace(self.graph, up=up, **changed)
        trees = {name: _Tree(domain, graph, self) for name, domain in self._made.domains.items()}
        pairs, paths, rates, kinds = [], [], [], []
        self.asked: list[int | None] = []
        ways = _Ways(self._made, trees)
        for source, target, kind, rate in self._made.pairs:
            path = ways.path(source, target)
            self.asked.append(None if path is None else len(pairs))
            if path is not None:
                pairs.append((int(graph.tail[path[0]]), int(graph.head[path[-1]])))
                paths.append(path)
                rates.append(rate * factor)
                kinds.append(kind)
        for name, domain in self._made.domains.items():
            own = factor * (variants[name].demand_scale if name in variants else 1.0)
            for kind, d, s in np.argwhere(domain.demand.rate > 0.0).tolist():
                path = trees[name].path(s, d)
                if path is not None:
                    pairs.append((int(graph.tail[path[0]]), int(graph.head[path[-1]])))
                    paths.append(path)
                    rates.append(domain.demand.rate[kind, d, s] * own)
                    kinds.append(kind)
        flows = Flows.of(pairs, paths, rates, kinds)
        return solve_flows(graph, flows, tolerance=1e-12, max_iterations=2000)


_COLUMNS = (
    "tail", "head", "law", "scheduler", "up", "metric", "capacity_bps", "fixed_s", "buffer", "servers",
    "service_s", "service_scv", "loss",
)  # fmt: skip


class _Tree:
    """Shortest paths inside one domain by its own metrics, in edges of the whole graph (SciPy's Dijkstra)."""

    def __init__(self, domain: Domain, whole: SimGraph, places: Whole) -> None:
        graph, first = domain.graph, places.edge_at[domain.name]
        count = len(graph.nodes)
        metric, up = (
            whole.metric[first : first + len(graph.edges)],
            whole.up[first : first + len(graph.edges)],
        )
        self._edge: dict[tuple[int, int], int] = {}
        for edge in np.flatnonzero(up).tolist():
            key = (int(graph.tail[edge]), int(graph.head[edge]))
            held = self._edge.get(key)
            if held is None or metric[edge] < metric[held - first]:
                self._edge[key] = first + edge
        ends = np.array(list(self._edge), dtype=np.int64).reshape(-1, 2)
        lengths = metric[[edge - first for edge in self._edge.values()]]
        # Paths end at points outside the routers and never cross them; the points have one router each.
        matrix = csr_array((lengths, (ends[:, 0], ends[:, 1])), shape=(count, count))
        self.distance, self._before = dijkstra(matrix, return_predecessors=True)

    def path(self, source: int, target: int) -> list[int] | None:
        """Edges of the whole graph from one node of the domain to another."""
        if not np.isfinite(self.distance[source, target]) or source == target:
            return None
        found = []
        at = target
        while at != source:
            before = int(self._before[source, at])
            found.append(self._edge[before, at])
            at = before
        return found[::-1]


class _Ways:
    """The way across the domains: least sum of metrics over the points where domains are entered (SciPy)."""

    def __init__(self, made: Federation, trees: Mapping[str, _Tree]) -> None:
        self._trees = trees
        self._made = made
        self._points = [point for domain in made.domains.values() for point in domain.points]
        place = {point: index for index, point in enumerate(self._points)}
        across = {a: b for one, other in made.links.values() for a, b in ((one, other), (other, one))}
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}
        lengths = np.zeros((len(place), len(place)))
        for name, domain in made.domains.items():
            for source, here in domain.points.items():
                for target, there in domain.points.items():
                    length = trees[name].distance[here.enters, there.leaves]
                    if source == target or not np.isfinite(length) or here.enters == there.leaves:
                        continue
                    key = (place[source], place[across.get(target, target)])
                    if not lengths[key] or length < lengths[key]:
                        lengths[key] = length
                        self._cells[key] = (source, target)
        # An end point is left only where a path starts: paths do not cross it (it has one router).
        self._before = dijkstra(csr_array(lengths), return_predecessors=True)[1]
        self._place = place

    def path(self, source: str, target: str) -> list[int] | None:
        """Edges of the whole graph from one published point to another."""
        start, at = self._place[source], self._place[target]
        found: list[int] = []
        while at != start:
            before = int(self._before[start, at])
            if before < 0:
                return None
            entered, left = self._cells[before, at]
            domain = self._made.domains[entered.partition("/")[0]]
            piece = self._trees[domain.name].path(domain.points[entered].enters, domain.points[left].leaves)
            assert piece is not None
            found = piece + found
            at = before
        return found


class MemoryPart:
    """A domain's part without a session: what crosses the seam is encoded, kept for a scan, and decoded."""

    def __init__(self, domain: Domain, **policy: Any) -> None:
        self.domain = domain.name
        self.messages: list[bytes] = []
        self.ended = False
        self._domain = domain
        self._policy = policy
        self._part: WhatIfPart | None = None

    async def prepare(self, ask: Prepare) -> Prepared:
        told = self._crossed(ask)
        assert isinstance(told, Prepare)
        self._part = WhatIfPart(self._domain.part(told), **self._policy)
        answer = self._answered(self._part.prepared())
        assert isinstance(answer, Prepared)
        return answer

    async def round(self, ask: Round) -> Figures:
        told = self._crossed(ask)
        assert isinstance(told, Round)
        assert self._part
        answer = self._answered(self._part.round(told))
        assert isinstance(answer, Figures)
        return answer

    def end(self) -> None:
        self.ended = True

    def _crossed(self, ask: Prepare | Round) -> Prepare | Round:
        self.messages.append(encode_ask(ask).SerializeToString())
        return decode_ask(parse(pb.SimulateAsk, self.messages[-1]))

    def _answered(self, answer: Prepared | Figures) -> Prepared | Figures:
        self.messages.append(encode_answer(answer).SerializeToString())
        return decode_answer(parse(pb.SimulateAnswer, self.messages[-1]))


def question(made: Federation, cases: Sequence[Case]) -> Question:
    """Every pair of the federation, with the traffic that it has."""
    known = [
        Known(source, target, traffic=((CLASSES[kind], rate),)) for source, target, kind, rate in made.pairs
    ]
    return Question(cases, known, made.sight())


def leaks(messages: Iterable[bytes], names: Iterable[str]) -> set[str]:
    """Which of the names occur in a message, in any of its bytes."""
    wanted = {name: name.encode() for name in names}
    return {name for message in messages for name, text in wanted.items() if text in message}


def inner_names(made: Federation) -> set[str]:
    """All names that must stay inside: nodes, links, interfaces."""
    return {name for domain in made.domains.values() for name in (*domain.graph.nodes, *domain.graph.edges)}
