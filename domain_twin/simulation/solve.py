"""The engine: routes, loads, losses and every pair's figures under any number of variants of one network.

Owns the fixed point and what it may be asked; it changes nothing that it was given, and reads no network. An
answer that did not settle says so (`converged`), a pair without a path is NaN. Methods are safe to call from
several threads at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.errors import ConfigError, NotFound, OverCapacity
from domain_twin.simulation import oracle, passes, routing
from domain_twin.simulation.checks import check_demand, check_graph, check_variant
from domain_twin.simulation.graph import BASE, Arrivals, Demand, FloatArray, IntArray, Rung, SimGraph, Variant
from domain_twin.simulation.laws import Laws, compile_laws, with_values
from domain_twin.simulation.percentiles import LEVELS, percentiles
from domain_twin.simulation.routing import Topology, Trees
from domain_twin.simulation.yielding import yielded

__all__ = [
    "Digest",
    "EdgeFigures",
    "Engine",
    "Pair",
    "Solution",
    "State",
    "rate_under",
    "replaced",
    "up_under",
]

Pair = tuple[int, int]
"""Source and destination, node indices."""

_SUMS, _WORST = 6, 4
_MOST_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class State:
    """The network under one variant, before any traffic was put on it."""

    metric: FloatArray  # [E]
    up: npt.NDArray[np.bool_]  # [E]
    laws: Laws
    fixed_s: FloatArray  # [E]
    rate: FloatArray  # [C, destination, source] packets/s offered
    square: FloatArray  # [C, destination, source] sum over independent flows of their rate^2


@dataclass(frozen=True, slots=True, eq=False)
class EdgeFigures:
    """What edges carry and do, [E, C]. Delays and variances are of accepted packets, s and s^2."""

    offered: (
        FloatArray  # [C, destination, source] packets/s; elastic flows: what they send, not what they ask
    )
    load: FloatArray  # packets/s offered
    load_square: FloatArray  # sum over flows of rate^2; 0 for Poisson classes, whose laws do not ask
    delay: FloatArray  # waiting, service and the constant part
    variance: FloatArray  # without the part of a packet's own size on links
    loss: FloatArray  # probability
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Solution:
    """All pairs and classes of one variant: [class, destination, source]; NaN: there is no path.

    The diagonal is a delay and a loss of 0.
    """

    graph: SimGraph
    variant: Variant
    rung: Rung
    state: State
    topology: Topology
    trees: Trees
    ecmp: bool
    edges: EdgeFigures
    delay_s: FloatArray  # mean one-way delay of delivered packets
    variance_s2: FloatArray  # of the one-way delay of a flow's packets
    arrival: FloatArray  # probability that a packet is delivered
    fixed_s: FloatArray  # part of the delay that never changes (with ECMP: of the shortest path)
    size_s: FloatArray  # mean sum of service times on links: the part that goes with a packet's size

    @property
    def loss(self) -> FloatArray:
        """Probability that a packet is lost, [C, N, N]."""
        return 1.0 - self.arrival

    @property
    def throughput_pps(self) -> FloatArray:
        """Packets/s delivered, [C, N, N]."""
        return self.edges.offered * self.arrival

    @property
    def load_pps(self) -> FloatArray:
        """Packets/s offered to every edge, [C, E]."""
        return np.ascontiguousarray(self.edges.load.T)

    @cached_property
    def intensity(self) -> FloatArray:
        """Offered load of every edge in erlangs per server, [E]; more than 1: more than it can carry."""
        return _intensity(self.state, self.edges.load)

    @cached_property
    def utilisation(self) -> FloatArray:
        """Share of the time that an edge (a server of it) is busy with what it carries, [E]."""
        return _intensity(self.state, self.edges.load * (1.0 - self.edges.loss))

    @property
    def iterations(self) -> int:
        """Passes over the network until losses settled."""
        return self.edges.iterations

    @property
    def converged(self) -> bool:
        """Whether losses settled; figures that did not are not to be relied on."""
        return self.edges.converged

    def reachable(self, source: int, destination: int) -> bool:
        """Whether packets find a way."""
        return not np.isnan(self.arrival[0, destination, source])

    def percentiles(self, pairs: Sequence[Pair], levels: Sequence[float] = LEVELS) -> FloatArray:
        """High percentiles of the one-way delay of pairs, seconds, [L, C, P]."""
        for pair in pairs:
            _known(self.graph, pair)
        at = [d for _, d in pairs], [s for s, _ in pairs]
        parts = (self.delay_s, self.variance_s2, self.fixed_s, self.size_s)
        return _percentiles(self.graph, tuple(part[:, at[0], at[1]] for part in parts), levels)

    def path(self, source: int, destination: int) -> tuple[int, ...]:
        """Edges that packets take, in order (with ECMP the way that carries most); empty: there is none."""
        _known(self.graph, (source, destination))
        return routing.path(self.topology, self.trees, source, destination, ecmp=self.ecmp)


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """One variant of a sweep: the asked pairs [C, P] in full, the rest in sums. NaN: there is no path."""

    variant: Variant
    pairs: tuple[Pair, ...]
    delay_s: FloatArray  # [C, P]
    variance_s2: FloatArray  # [C, P]
    loss: FloatArray  # [C, P]
    throughput_pps: FloatArray  # [C, P]
    fixed_s: FloatArray  # [C, P] constant part of the delay
    size_s: FloatArray  # [C, P] service times on links
    intensity: FloatArray  # [E] offered, erlangs per server
    utilisation: FloatArray  # [E] share of time busy
    offered_pps: FloatArray  # [C]
    delivered_pps: FloatArray  # [C]
    mean_delay_s: FloatArray  # [C] over delivered packets; NaN: none
    worst_delay_s: FloatArray  # [C] of all pairs with demand
    worst_delay: tuple[Pair | None, ...]  # [C]
    worst_loss: FloatArray  # [C]
    worst_lossy: tuple[Pair | None, ...]  # [C]
    unreachable: IntArray  # [C] pairs with demand and without a path
    iterations: int
    converged: bool

    def percentiles(self, graph: SimGraph, levels: Sequence[float] = LEVELS) -> FloatArray:
        """High percentiles of the one-way delay of the pairs, seconds, [L, C, P]."""
        return _percentiles(graph, (self.delay_s, self.variance_s2, self.fixed_s, self.size_s), levels)


class Engine:
    """One network with its demand, ready to be asked what would be if."""

    def __init__(
        self,
        graph: SimGraph,
        demand: Demand,
        *,
        laws: Laws | None = None,
        rung: Rung = Rung.TABLES,
        ecmp: bool = False,
        plain: bool = False,
        tolerance: float = 1e-9,
        max_iterations: int = 200,
        elastic_fill: float = 0.95,
    ) -> None:
        """Route the base and compile the laws, if none are given. Raises ConfigError, OverCapacity.

        `ecmp`: equal shares to all next hops, instead of the one whose id is first. `plain`: compute without
        kernels (`oracle`). `tolerance`: largest change of a loss probability that counts as settled.
        `elastic_fill`: the share of an edge up to which elastic flows fill it.
        """
        if rung in (Rung.CAPACITY, Rung.PACKETS):
            raise ConfigError(f"rung {rung.value} is not computed by queueing; use tables or residual here")
        if tolerance <= 0.0 or max_iterations < 1:
            raise ConfigError("tolerance must be > 0 and max_iterations at least 1")
        if not 0.0 < elastic_fill <= 1.0:
            raise ConfigError(f"elastic_fill {elastic_fill} is refused; accepted is above 0, up to 1")
        check_graph(graph)
        need = 8 * 8 * len(graph.classes) * len(graph.nodes) ** 2
        if need > _MOST_BYTES:
            raise OverCapacity(
                f"{len(graph.nodes)} nodes and {len(graph.classes)} classes need {need >> 30} GiB at once;"
                " split the network into domains, or use fewer classes"
            )
        check_demand(graph, demand)
        self.graph, self.demand, self.rung, self.ecmp = graph, demand, rung, ecmp
        self.elastic_fill = elastic_fill
        self._elastic = np.array([c.arrivals == Arrivals.ELASTIC for c in graph.classes])
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.topology = routing.topology(graph)
        self._backend: Any = oracle if plain else passes
        self._routes: Any = oracle if plain else routing
        rate = np.ascontiguousarray(demand.rate, np.float64)
        self._base = State(
            np.ascontiguousarray(graph.metric, np.float64),
            np.ascontiguousarray(graph.up, np.bool_),
            compile_laws(graph) if laws is None else laws,
            np.ascontiguousarray(graph.fixed_s, np.float64),
            rate,
            rate * rate,
        )
        self._trees = self._routes.all_trees(self.topology, self._base.metric, self._base.up, ecmp=ecmp)
        self._bursty = np.array([c.arrivals != Arrivals.POISSON for c in graph.classes])
        self._size_scv = np.array([c.size_scv for c in graph.classes])

    # ------------------------------------------------------------------------------------ whole answers

    def solve(self, variant: Variant = BASE) -> Solution:
        """Answer for all pairs and classes. Raises NotFound, ConfigError for what a variant may not say."""
        state, trees, edges = self._settled(variant)
        shape = state.rate.shape
        parts = tuple(np.empty(shape) for _ in range(5))
        self.compose(state, trees, edges, parts)
        return Solution(self.graph, variant, self.rung, state, self.topology, trees, self.ecmp, edges, *parts)

    def sweep(
        self,
        variants: Iterable[Variant],
        *,
        pairs: Sequence[Pair] = (),
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        workers: int | None = None,
    ) -> Iterator[Digest]:
        """Answer for every variant, in their order, as they are ready; `progress` gets how many are done.

        Computes on `workers` threads (all cores) and holds no more than two variants a thread. Ends early
        once `cancelled` says so, or when the caller stops iterating.
        """
        chosen = tuple((int(s), int(d)) for s, d in pairs)
        for pair in chosen:
            _known(self.graph, pair)
        count = workers or os.cpu_count() or 1
        waiting: deque[Future[Digest]] = deque()
        done = 0
        with ThreadPoolExecutor(count, thread_name_prefix="what-if") as pool:
            rest = iter(variants)
            scratch: deque[tuple[FloatArray, ...]] = deque()
            try:
                while True:
                    while len(waiting) < 2 * count and (variant := next(rest, None)) is not None:
                        waiting.append(pool.submit(self._digest, variant, chosen, scratch))
                    if not waiting or (cancelled is not None and cancelled()):
                        return
                    yield waiting.popleft().result()
                    done += 1
                    if progress is not None:
                        progress(done)
            finally:
                for future in waiting:
                    future.cancel()

    # ------------------------------------------------------------------------- single steps of an answer

    def state(self, variant: Variant = BASE) -> State:
        """The network under a variant."""
        check_variant(self.graph, variant)
        base, values = self._base, variant.values
        metric = replaced(base.metric, values.get("metric", {}))
        fixed_s = replaced(base.fixed_s, values.get("fixed_s", {}))
        up = up_under(self.graph, variant)
        rate = rate_under(base.rate, variant)
        square = base.square if rate is base.rate else rate * rate
        physical = {name: new for name, new in values.items() if name != "metric"}
        laws = with_values(base.laws, self.graph, physical) if physical else base.laws
        return State(metric, up, laws, fixed_s, rate, square)

    def route(self, state: State) -> Trees:
        """The DAGs under a state; those that no change touches are the base's."""
        trees: Trees = self._routes.changed_trees(
            self.topology,
            self._trees,
            (self._base.metric, self._base.up),
            (state.metric, state.up),
            ecmp=self.ecmp,
        )
        return trees

    def settle(
        self, state: State, trees: Trees, rate: FloatArray | None = None, square: FloatArray | None = None
    ) -> EdgeFigures:
        """Loads and losses at their fixed point, for the state's traffic or the one given, [C, N, N].

        Elastic classes offer what is max-min fair of what the others leave (`elastic`), at most their rate.
        """
        rate = state.rate if rate is None else rate
        square = state.square if square is None else square
        if not rate[self._elastic].any():
            return self._fixed_point(state, trees, rate, square)
        rest = rate.copy()
        rest[self._elastic] = 0.0
        others = self._fixed_point(state, trees, rest, square)
        servers = np.where(state.laws.servers > 0.0, state.laws.servers, np.inf)
        carried = (others.load * (1.0 - others.loss) * state.laws.service_s).sum(axis=1)
        left = np.maximum(self.elastic_fill * servers - carried, 0.0)
        asked = np.where(self._elastic[:, None, None], rate, 0.0)
        offered = rest + yielded(self.topology, trees, state.laws, asked, left, ecmp=self.ecmp)
        kept = np.divide(offered, rate, out=np.zeros_like(rate), where=rate > 0.0)
        whole = self._fixed_point(state, trees, offered, square * kept * kept)
        return replace(whole, converged=whole.converged and others.converged)

    def _fixed_point(self, state: State, trees: Trees, rate: FloatArray, square: FloatArray) -> EdgeFigures:
        shape = (len(self.graph.edges), rate.shape[0])
        load, load_square, delay, variance, loss = (np.empty(shape) for _ in range(5))
        iterations, change = self._backend.settle(
            self.topology,
            trees,
            self.ecmp,
            state.laws,
            rate,
            square,
            rate.any(axis=2),
            self._bursty,
            self.tolerance,
            self.max_iterations,
            load,
            load_square,
            delay,
            variance,
            loss,
        )
        settled = bool(change <= self.tolerance)
        return EdgeFigures(rate, load, load_square, delay, variance, loss, int(iterations), settled)

    def compose(self, state: State, trees: Trees, edges: EdgeFigures, into: tuple[FloatArray, ...]) -> None:
        """Write delay, variance, arrival, fixed and size parts of all pairs, each [C, N, N]."""
        self._backend.compose(
            self.topology,
            trees,
            self.ecmp,
            edges.delay,
            edges.variance,
            edges.loss,
            state.fixed_s,
            state.laws.size_s,
            self._size_scv,
            *into,
        )

    # --------------------------------------------------------------------------------------------------

    def _settled(self, variant: Variant) -> tuple[State, Trees, EdgeFigures]:
        state = self.state(variant)
        trees = self.route(state)
        return state, trees, self.settle(state, trees)

    def _digest(
        self, variant: Variant, pairs: tuple[Pair, ...], scratch: deque[tuple[FloatArray, ...]]
    ) -> Digest:
        state, trees, edges = self._settled(variant)
        shape = state.rate.shape
        try:
            parts = scratch.pop()
        except IndexError:
            parts = tuple(np.empty(shape) for _ in range(5))
        self.compose(state, trees, edges, parts)
        sums, worst = np.empty((shape[0], _SUMS)), np.empty((shape[0], _WORST), np.int64)
        self._backend.digest(edges.offered, parts[0], parts[2], sums, worst)
        sources, destinations = [s for s, _ in pairs], [d for _, d in pairs]
        delay, variance, arrival, fixed, size = (part[:, destinations, sources] for part in parts)
        scratch.append(parts)
        with np.errstate(invalid="ignore"):
            mean = sums[:, 2] / sums[:, 1]
        return Digest(
            variant,
            pairs,
            delay,
            variance,
            1.0 - arrival,
            edges.offered[:, destinations, sources] * arrival,
            fixed,
            size,
            _intensity(state, edges.load),
            _intensity(state, edges.load * (1.0 - edges.loss)),
            sums[:, 0],
            sums[:, 1],
            mean,
            sums[:, 3],
            tuple(_pair(row[0], row[1]) for row in worst),
            sums[:, 4],
            tuple(_pair(row[2], row[3]) for row in worst),
            sums[:, 5].astype(np.int32),
            edges.iterations,
            edges.converged,
        )


def _percentiles(graph: SimGraph, parts: tuple[FloatArray, ...], levels: Sequence[float]) -> FloatArray:
    delay, variance, fixed, size = parts
    found = np.empty((len(levels), *delay.shape))
    for c, kind in enumerate(graph.classes):
        found[:, c] = percentiles(delay[c], variance[c], fixed[c], levels, size_s=size[c], traffic_class=kind)
    return found


def _pair(source: Any, destination: Any) -> Pair | None:
    return None if source < 0 else (int(source), int(destination))


def replaced(array: npt.NDArray[Any], values: Mapping[int, float]) -> npt.NDArray[Any]:
    """A field of a graph after a variant's new values for single edges."""
    if not values:
        return array
    array = array.copy()
    array[list(values)] = list(values.values())
    return array


def up_under(graph: SimGraph, variant: Variant) -> npt.NDArray[np.bool_]:
    """Which edges are up under a variant, [E]; those of nodes that are down are not."""
    up = np.ascontiguousarray(graph.up, np.bool_)
    if not (variant.down or variant.restored or variant.nodes_down):
        return up
    up = up.copy()
    up[list(variant.restored)] = True
    up[list(variant.down)] = False
    gone = list(variant.nodes_down)
    up[np.isin(graph.tail, gone) | np.isin(graph.head, gone)] = False
    return up


def rate_under(base: FloatArray, variant: Variant) -> FloatArray:
    """Offered packets/s under a variant, [C, N, N]; `base` itself where nothing changes."""
    if variant.demand_scale == 1.0 and not variant.class_scale and not variant.pairs:
        return base
    rate = base * variant.demand_scale
    for c, scale in variant.class_scale.items():
        rate[c] *= scale
    for c, s, d, value in variant.pairs:
        rate[c, d, s] = value
    return rate


def _intensity(state: State, load: FloatArray) -> FloatArray:
    laws = state.laws
    result: FloatArray = (load * laws.service_s).sum(axis=1) / np.where(laws.servers > 0.0, laws.servers, 1.0)
    return result


def _known(graph: SimGraph, pair: Pair) -> None:
    for node in pair:
        if not 0 <= node < len(graph.nodes):
            raise NotFound(f"there is no node {node}; there are {len(graph.nodes)}, numbered from 0")
