"""The engine: routes, loads, losses and every pair's figures under any number of variants of one network.

Owns the fixed point and what it may be asked; it changes nothing that it was given, and reads no network. An
answer that did not settle says so (`converged`), a pair without a path is NaN. Methods are safe to call from
several threads at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from domain_twin.errors import ConfigError, OverCapacity
from domain_twin.simulation import oracle, passes, routing
from domain_twin.simulation.applied import rate_under, replaced, up_under
from domain_twin.simulation.checks import check_demand, check_graph, check_variant
from domain_twin.simulation.graph import BASE, Arrivals, Demand, FloatArray, IntArray, Rung, SimGraph, Variant
from domain_twin.simulation.laws.edges import Laws, compile_laws, with_values
from domain_twin.simulation.routing import Trees
from domain_twin.simulation.solution import Digest, EdgeFigures, Pair, Solution, State, known
from domain_twin.simulation.yielding import yielded

__all__ = [
    "Correction",
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


class Correction(Protocol):
    """What was learned of edges beyond their laws (`learned.load_curve`)."""

    def change_s(self, laws: Laws, load: FloatArray, delay: FloatArray) -> FloatArray:
        """Seconds to add to each edge's delay, [E, C], at `load` packets/s and the computed `delay`."""


_FIGURES, _SUMS, _WORST = 6, 6, 4
_LONGEST_CHUNK = 64
_MOST_BYTES = 8 << 30


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
        correction: Correction | None = None,
    ) -> None:
        """Route the base and compile the laws, if none are given. Raises ConfigError, OverCapacity.

        `ecmp`: equal shares to all next hops, instead of the one whose id is first. `plain`: compute without
        kernels (`oracle`). `tolerance`: largest change of a loss probability that counts as settled.
        `elastic_fill`: the share of an edge up to which elastic flows fill it. `correction` is added to the
        delays that the laws say, once loads have settled.
        """
        if rung is not Rung.TABLES:  # an answer says its rung, and must not say more than was done
            raise ConfigError(f"rung {rung.value} is not what this engine computes; it computes tables")
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
        self.correction = correction
        self._elastic = np.array([c.arrivals == Arrivals.ELASTIC for c in graph.classes])
        self._any_elastic = bool(self._elastic.any())
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.topology = routing.topology(graph)
        self._plain = plain
        self._backend: Any = oracle if plain else passes
        self._routes: Any = oracle if plain else routing
        rate = np.array(demand.rate, np.float64, order="C")  # a read-only one would be a kernel of its own
        self._base = State(
            np.ascontiguousarray(graph.metric, np.float64),
            np.ascontiguousarray(graph.up, np.bool_),
            compile_laws(graph) if laws is None else laws,
            np.ascontiguousarray(graph.fixed_s, np.float64),
            rate,
            rate * rate,
        )
        self._busy = rate.any(axis=2)
        self._trees = self._routes.all_trees(self.topology, self._base.metric, self._base.up, ecmp=ecmp)
        self._bursty = np.array([c.arrivals != Arrivals.POISSON for c in graph.classes])
        self._settled_figures: FloatArray | None = None
        self._size_scv = np.array([c.size_scv for c in graph.classes])
        base = self._fixed_point(self._base, self._trees, rate, self._base.square)
        if base.converged:
            figures = (base.load, base.load_square, base.delay, base.variance, base.loss)
            self._settled_figures = np.stack(figures)

    # ------------------------------------------------------------------------------------ whole answers

    def solve(self, variant: Variant = BASE) -> Solution:
        """Answer for all pairs and classes. Raises NotFound, ConfigError for what a variant may not say."""
        state = self.state(variant)
        parts = np.empty((5, *state.rate.shape))
        trees, edges = self._answer(state, parts)
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

        Computes on `workers` threads (all cores), each a few variants at a time, and holds no more. Ends
        early once `cancelled` says so, or when the caller stops iterating.
        """
        chosen = tuple((int(s), int(d)) for s, d in pairs)
        for pair in chosen:
            known(self.graph, pair)
        sources = np.array([s for s, _ in chosen], np.int32)
        destinations = np.array([d for _, d in chosen], np.int32)
        count = workers or os.cpu_count() or 1
        most = max(1, min(_LONGEST_CHUNK, 400 // len(self.graph.nodes)))
        waiting: deque[Future[list[Digest]]] = deque()
        scratch: deque[FloatArray] = deque()
        rest = iter(variants)

        def digests(chunk: list[Variant]) -> list[Digest]:
            parts = scratch.pop() if scratch else np.empty((5, *self.demand.rate.shape))
            try:
                return [self._digest(each, chosen, sources, destinations, parts) for each in chunk]
            finally:
                scratch.append(parts)

        done = 0
        with ThreadPoolExecutor(count, thread_name_prefix="what-if") as pool:
            try:
                while True:
                    # Small steps first: a short sweep keeps all threads busy, a long one is told of soon.
                    size = min(most, 1 + done // (4 * count))
                    while len(waiting) < 2 * count and (chunk := list(islice(rest, size))):
                        waiting.append(pool.submit(digests, chunk))
                    if not waiting:
                        return
                    for digest in waiting.popleft().result():
                        if cancelled is not None and cancelled():
                            return
                        yield digest
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
        if not self._any_elastic or not rate[self._elastic].any():
            return self._corrected(state, self._fixed_point(state, trees, rate, square))
        rest = rate.copy()
        rest[self._elastic] = 0.0
        others = self._fixed_point(state, trees, rest, square)
        servers = np.where(state.laws.servers > 0.0, state.laws.servers, np.inf)
        taken = (others.load * state.laws.service_s).sum(axis=1)  # all that arrives, lost or not, is load
        left = np.maximum(self.elastic_fill * servers - taken, 0.0)
        asked = np.where(self._elastic[:, None, None], rate, 0.0)
        offered = rest + yielded(self.topology, trees, state.laws, asked, left, ecmp=self.ecmp)
        kept = np.divide(offered, rate, out=np.zeros_like(rate), where=rate > 0.0)
        whole = self._fixed_point(state, trees, offered, square * kept * kept)
        return self._corrected(state, replace(whole, converged=whole.converged and others.converged))

    def _corrected(self, state: State, edges: EdgeFigures) -> EdgeFigures:
        if self.correction is None:
            return edges
        added = self.correction.change_s(state.laws, edges.load, edges.delay)
        return replace(edges, delay=edges.delay + added)

    def _fixed_point(self, state: State, trees: Trees, rate: FloatArray, square: FloatArray) -> EdgeFigures:
        known_loads, figures = self._start(state)
        load, load_square, delay, variance, loss = figures
        iterations, change = self._backend.settle(
            self.topology,
            trees,
            self.ecmp,
            state.laws,
            rate,
            square,
            self._busy if rate is self._base.rate else rate.any(axis=2),
            self._bursty,
            self.tolerance,
            self.max_iterations,
            known_loads,
            load,
            load_square,
            delay,
            variance,
            loss,
        )
        settled = bool(change <= self.tolerance)
        return EdgeFigures(rate, load, load_square, delay, variance, loss, int(iterations), settled)

    def _start(self, state: State) -> tuple[FloatArray, FloatArray]:
        """What a fixed point starts from: loads that figures belong to, [2, E, C], and figures, [5, E, C]."""
        if state.laws is self._base.laws and self._settled_figures is not None:
            # An edge whose load is the base's has the base's figures.
            return self._settled_figures[:2].copy(), self._settled_figures.copy()
        shape = (len(self.graph.edges), len(self.graph.classes))
        figures = np.empty((5, *shape))
        figures[4] = 0.0
        return np.full((2, *shape), -1.0), figures

    def compose(self, state: State, trees: Trees, edges: EdgeFigures, into: Sequence[FloatArray]) -> None:
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

    def _answer(self, state: State, parts: FloatArray) -> tuple[Trees, EdgeFigures]:
        """Route, settle and compose into `parts` [5, C, N, N]: in one call where no flow is elastic."""
        if self._plain or (self._any_elastic and state.rate[self._elastic].any()):
            trees = self.route(state)
            edges = self.settle(state, trees)
            self.compose(state, trees, edges, tuple(parts))
            return trees, edges
        base = self._base
        routed = state.metric is base.metric and state.up is base.up
        trees = self._trees if routed else routing.like(self._trees)
        held, figures = self._start(state)
        iterations, change = passes.answer(
            self.topology,
            self._trees,
            base.metric,
            base.up,
            state.metric,
            state.up,
            self.ecmp,
            state.laws,
            state.fixed_s,
            state.rate,
            state.square,
            self._busy if state.rate is base.rate else state.rate.any(axis=2),
            self._bursty,
            self._size_scv,
            self.tolerance,
            self.max_iterations,
            held,
            routed,
            trees,
            figures,
            parts,
        )
        load, square, delay, variance, loss = figures
        settled = bool(change <= self.tolerance)
        edges = EdgeFigures(state.rate, load, square, delay, variance, loss, int(iterations), settled)
        if self.correction is not None:
            edges = self._corrected(state, edges)
            self.compose(state, trees, edges, tuple(parts))
        return trees, edges

    def _digest(
        self,
        variant: Variant,
        pairs: tuple[Pair, ...],
        sources: IntArray,
        destinations: IntArray,
        parts: FloatArray,
    ) -> Digest:
        state = self.state(variant)
        _, edges = self._answer(state, parts)
        classes = len(self.graph.classes)
        figures, busy = np.empty((_FIGURES, classes, len(pairs))), np.empty((2, len(self.graph.edges)))
        sums, worst = np.empty((classes, _SUMS)), np.empty((classes, _WORST), np.int64)
        self._backend.digest(
            edges.offered,
            parts,
            sources,
            destinations,
            edges.load,
            edges.loss,
            state.laws.service_s,
            state.laws.servers,
            figures,
            busy,
            sums,
            worst,
        )
        return Digest(variant, pairs, figures, busy, sums, worst, edges.iterations, edges.converged)
