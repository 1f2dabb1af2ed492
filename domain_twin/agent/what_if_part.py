"""This domain's part of a what-if across domains: its private network solved for what crosses it.

Owns what of it may be said: ways and figures between disclosed points, rounded as the agreement says, never
an inner name. Kept between the rounds of one job, at one version of the twin; does no I/O and holds no clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.disclosure.precision import BANDWIDTH, EXACT, FIGURES, Precision, round_down, round_up
from domain_twin.errors import ContractError, OverCapacity
from domain_twin.model import Version
from domain_twin.simulation.graph import Arrivals, Demand, FloatArray, Law, SimGraph, TrafficClass, Variant
from domain_twin.simulation.grouping import as_here
from domain_twin.simulation.learned.moved import moved_error_s
from domain_twin.simulation.questions.forecast import Intervals
from domain_twin.simulation.routing import Trees
from domain_twin.simulation.routing import path as path_of
from domain_twin.simulation.solve import Correction, EdgeFigures, Engine, State
from federation.wire.simulate import Figures, Keys, Offered, Prepared, Round, WayTable

__all__ = ["MOST_CELLS", "PartTwin", "PointNodes", "WhatIfPart"]

MOST_CELLS = 50_000_000
"""Numbers that one part may keep: variants that differ here, times nodes squared, times classes."""
_MOST_ROWS = 400_000
_TOLERANCE = 1e-11  # finer than what the rounds settle to


@dataclass(frozen=True, slots=True)
class PointNodes:
    """Where a disclosed point lies: the nodes at which packets enter by it, and at which they leave by it.

    Of a border point the second is behind its inter-domain link. `border`: packets enter from another domain.
    """

    enters: int
    leaves: int
    border: bool


@dataclass(frozen=True, slots=True, eq=False)
class PartTwin:
    """What the part is computed from, pinned: the domain's network as arrays, and what a peer sees of it.

    `variants` makes the domain's variants for a graph and a demand, one for each of the question's, the
    first without changes; the owner's own changes are among them. `includes_known`: the demand is what was
    measured, with the flows that the broker asks about in it.
    """

    version: Version
    graph: SimGraph
    demand: Demand
    points: Mapping[str, PointNodes]
    variants: Callable[[SimGraph, Demand], Sequence[Variant]]
    includes_known: bool = True
    assumptions: tuple[str, ...] = ()
    intervals: Intervals | None = None
    private_changes: bool = False
    correction: Correction | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A variant as it is in this domain; many of the question's may share one."""

    state: State
    trees: Trees


@dataclass(slots=True, eq=False)
class _Rows:
    """The rows of the rounds as indices into this domain's arrays."""

    keys: Keys
    kind: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    arrivals: FloatArray
    """Of this domain's own for each that the broker counts."""
    of_variant: list[npt.NDArray[np.int64]] = field(default_factory=list)


class WhatIfPart:
    """One domain's part of one job. Methods are for one thread at a time."""

    def __init__(
        self, twin: PartTwin, *, precision: Precision = EXACT, figures: frozenset[str] = FIGURES
    ) -> None:
        """Apply the variants. Raises what `variants` does, OverCapacity where it would be too large."""
        self.version = twin.version
        self.variants = 0
        self._twin = twin
        self._precision = precision
        self._figures = figures
        self._names = tuple(sorted(twin.points))
        self._nodes = [twin.points[name] for name in self._names]
        self._engine = Engine(twin.graph, twin.demand, tolerance=_TOLERANCE, correction=twin.correction)
        self._cases: list[_Case] = []
        self._case_of: list[int] = []
        self._rows: _Rows | None = None
        self._apply()

    def prepared(self) -> Prepared:
        """The ways through this domain in every variant, and what enters it at its published end points."""
        tables: list[WayTable] = []
        table_of_case: list[int] = []
        seen: dict[bytes, int] = {}
        for case in self._cases:
            table = self._ways(case)
            mark = table.source.tobytes() + table.target.tobytes() + table.metric.tobytes()
            if mark not in seen:
                seen[mark] = len(tables)
                tables.append(table)
            table_of_case.append(seen[mark])
        offered, classes = self._offered()
        return Prepared(
            version=self.version,
            points=self._names,
            classes=classes,
            tables=tuple(tables),
            table_of=np.array([table_of_case[case] for case in self._case_of], dtype=np.uint32),
            offered=offered,
            assumptions=self._twin.assumptions,
            private_changes=self._twin.private_changes,
        )

    def round(self, ask: Round) -> Figures:
        """What the rows' packets meet when so many arrive. Raises ContractError, NotShared."""
        if ask.keys is not None:
            self._take_keys(ask.keys)
        rows = self._rows
        if rows is None:
            raise ContractError("SimulateRound.keys: missing in the first round")
        if len(ask.rate) != len(rows.keys):
            raise ContractError(
                f"SimulateRound.rate: {len(ask.rate)} rows found, {len(rows.keys)} were agreed by the keys"
            )
        given = ask
        ask = replace(ask, rate=ask.rate * rows.arrivals, square=ask.square * rows.arrivals**2)
        if given.keys is not None:
            self._without_known(ask.rate)
            self._apply()
        count = len(rows.keys)
        columns = {name: np.full(count, np.nan) for name in (_ALL if ask.final else _ALL[:1])}
        self._unsettled = False
        alike: dict[tuple[int, bytes], list[npt.NDArray[np.int64]]] = {}
        for variant, mine in enumerate(rows.of_variant):
            if mine.size:
                case = self._case_of[variant]
                asked = (rows.kind, rows.target, rows.source, ask.rate, ask.square)
                mark = b"".join(part[mine].tobytes() for part in asked)
                alike.setdefault((case, mark), []).append(mine)

        use: dict[int, FloatArray] = {}

        def solve(question: tuple[tuple[int, bytes], list[npt.NDArray[np.int64]]]) -> None:
            (case, _), places = question
            found, busy = self._solve(self._cases[case], rows, places[0], ask)
            for mine in places:
                use[int(rows.keys.variant[mine[0]])] = busy
                for name, column in columns.items():
                    column[mine] = found[name]

        with ThreadPoolExecutor(os.cpu_count(), "what-if-part") as pool:
            list(pool.map(solve, alike.items()))
        told = self._told(columns)
        return self._with_links(told, use) if ask.final else told

    # ---------------------------------------------------------------------------------------- inside

    def _apply(self) -> None:
        """Work out routes and laws of all variants, once for those that do not differ here."""
        engine = self._engine
        variants = self._twin.variants(engine.graph, engine.demand)
        self.variants = len(variants)
        cases: list[_Case] = []
        case_of: list[int] = []
        seen: dict[object, int] = {}
        size = engine.demand.rate.size
        for variant in variants:
            mark = _essence(variant)
            if mark not in seen:
                if (len(cases) + 1) * size > MOST_CELLS:
                    raise OverCapacity(
                        f"{len(variants)} variants are too many for a part of this size; at most"
                        f" {MOST_CELLS // size} that differ here are computed at once: ask in smaller pieces"
                    )
                seen[mark] = len(cases)
                state = engine.state(variant)
                cases.append(_Case(state, engine.route(state)))
            case_of.append(seen[mark])
        self._cases, self._case_of = cases, case_of

    def _ways(self, case: _Case) -> WayTable:
        source, target, metric = [], [], []
        for i, here in enumerate(self._nodes):
            for j, there in enumerate(self._nodes):
                if i == j or here.enters == there.leaves:
                    continue
                distance = case.trees.distance[there.leaves, here.enters]
                if np.isfinite(distance):
                    source.append(i)
                    target.append(j)
                    metric.append(float(distance))
        return WayTable(
            np.array(source, dtype=np.uint32), np.array(target, dtype=np.uint32), np.array(metric)
        )

    def _offered(self) -> tuple[Offered, tuple[TrafficClass, ...]]:
        """What starts at published end points; the classes that occur."""
        rate = self._twin.demand.rate
        found: list[tuple[int, int, int, float]] = []
        if BANDWIDTH in self._figures:
            for i, here in enumerate(self._nodes):
                for j, there in enumerate(self._nodes):
                    if here.border or i == j or here.enters == there.leaves:
                        continue
                    for kind in np.flatnonzero(rate[:, there.leaves, here.enters]).tolist():
                        found.append((i, j, kind, float(rate[kind, there.leaves, here.enters])))
        kinds = sorted({kind for _, _, kind, _ in found})
        place = {kind: index for index, kind in enumerate(kinds)}
        classes = tuple(self._twin.graph.classes[kind] for kind in kinds)
        mbps = np.array([self._twin.graph.classes[kind].mean_octets * 8e-6 for _, _, kind, _ in found])
        exact = np.array([value for *_, value in found])
        told = round_up(exact * mbps, self._precision.bandwidth_mbps) / mbps if found else exact
        offered = Offered(
            np.array([i for i, *_ in found], dtype=np.uint32),
            np.array([j for _, j, *_ in found], dtype=np.uint32),
            np.array([place[kind] for _, _, kind, _ in found], dtype=np.uint32),
            told,
            told**2,
        )
        return offered, classes

    def _take_keys(self, keys: Keys) -> None:
        """Check what the rows name, and make room for classes that this domain does not have."""
        if len(keys) > _MOST_ROWS:
            raise OverCapacity(f"{len(keys)} rows were asked about; at most {_MOST_ROWS} at once")
        points = len(self._names)
        for name, column, below in (
            ("variant", keys.variant, self.variants),
            ("source", keys.source, points),
            ("target", keys.target, points),
        ):
            if len(column) and int(column.max()) >= below:
                raise ContractError(
                    f"SimulateKeys.{name}: {int(column.max())} found, less than {below} is accepted"
                )
        graph = self._twin.graph
        classes = list(graph.classes)
        kinds, arrivals = [], []
        for asked in keys.classes:
            if asked.arrivals is Arrivals.ELASTIC:
                raise ContractError(
                    f"SimulateKeys.classes: {asked.name!r} is elastic; only its own domain knows what comes"
                )
            here, count = as_here(asked, graph.classes)
            arrivals.append(count)
            if here not in classes:
                taken = {kind.name for kind in classes}
                name = here.name
                while name in taken:
                    name += "'"
                classes.append(replace(here, name=name))
                kinds.append(len(classes) - 1)
            else:
                kinds.append(classes.index(here))
        more = len(classes) - len(graph.classes)
        self._graph = replace(graph, classes=tuple(classes))
        self._rate = np.pad(self._twin.demand.rate, ((0, more), (0, 0), (0, 0)))
        enters = np.array([point.enters for point in self._nodes])
        leaves = np.array([point.leaves for point in self._nodes])
        rows = _Rows(
            keys,
            np.array(kinds, dtype=np.int64)[keys.traffic_class],
            leaves[keys.target].astype(np.int64),
            enters[keys.source].astype(np.int64),
            np.array(arrivals, dtype=np.float64)[keys.traffic_class],
        )
        if (rows.target == rows.source).any():
            raise ContractError("SimulateKeys: a row enters and leaves at the same place")
        order = np.argsort(keys.variant, kind="stable")
        edges = np.searchsorted(keys.variant[order], np.arange(self.variants + 1))
        rows.of_variant = [order[edges[v] : edges[v + 1]] for v in range(self.variants)]
        self._rows = rows

    def _without_known(self, rate: FloatArray) -> None:
        """Take the flows that the broker asks about out of what was measured: they were measured with it.

        First from the same class, then from the others of the same pair, largest first; never below 0.
        """
        rows = self._rows
        assert rows
        private = self._rate
        if self._twin.includes_known:
            octets = np.array([kind.mean_octets for kind in self._graph.classes])
            for row in rows.of_variant[0].tolist():
                kind, d, s = rows.kind[row], rows.target[row], rows.source[row]
                left = rate[row] * octets[kind]
                others = np.argsort(-private[:, d, s] * octets, kind="stable").tolist()
                for other in (kind, *(o for o in others if o != kind)):
                    taken = min(left, private[other, d, s] * octets[other])
                    private[other, d, s] -= taken / octets[other]
                    left -= taken
        self._engine = Engine(
            self._graph,
            Demand(np.maximum(private, 0.0)),
            tolerance=_TOLERANCE,
            correction=self._twin.correction,
        )

    def _solve(
        self, case: _Case, rows: _Rows, mine: npt.NDArray[np.int64], ask: Round
    ) -> tuple[dict[str, FloatArray], FloatArray]:
        """The rows' figures, and how busy each edge is."""
        engine, state = self._engine, case.state
        rate, square = state.rate.copy(), state.square.copy()
        at = (rows.kind[mine], rows.target[mine], rows.source[mine])
        np.add.at(rate, at, ask.rate[mine])
        np.add.at(square, at, ask.square[mine])
        edges: EdgeFigures = engine.settle(state, case.trees, rate, square)
        self._unsettled |= not edges.converged
        parts = tuple(np.empty(rate.shape) for _ in range(5))
        engine.compose(state, case.trees, edges, parts)
        delay, variance, arrival, fixed, size = (part[at] for part in parts)
        scv = np.array([kind.size_scv for kind in self._graph.classes])[at[0]]
        busy = (edges.load * (1.0 - edges.loss) * state.laws.service_s).sum(axis=1)
        busy /= np.where(state.laws.servers > 0.0, state.laws.servers, 1.0)
        figures = {
            "loss": np.clip(1.0 - arrival, 0.0, 1.0),
            "delay_s": delay,
            "variance_s2": np.maximum(variance - scv * size**2, 0.0),
            "service_s": size,
            "fixed_s": fixed,
            "interval_s": delay,
        }
        if ask.final:
            base = self._cases[self._case_of[0]]
            before = engine.settle(base.state, base.trees, rate, square).load
            moved_s = moved_error_s(state.laws, edges.load, edges.load_square, before, borders=True)
            figures["interval_s"] = self._half_widths(case, at, delay, busy, moved_s)
        return figures, busy

    def _half_widths(
        self,
        case: _Case,
        at: tuple[npt.NDArray[np.int64], ...],
        delay_s: FloatArray,
        busy: FloatArray,
        moved_s: FloatArray,
    ) -> FloatArray:
        """Half of each row's 90 % interval, seconds; NaN where nothing was calibrated."""
        half = np.full(len(delay_s), np.nan)
        intervals = self._twin.intervals
        if intervals is None:
            return half
        engine = self._engine
        for row, (kind, target, source) in enumerate(zip(*(part.tolist() for part in at), strict=True)):
            path = list(path_of(engine.topology, case.trees, source, target, ecmp=engine.ecmp))
            busiest = float(busy[path].max(initial=0.0))
            value = float(delay_s[row]) * 1e3
            moved = float(np.linalg.norm(moved_s[path, kind])) * 1e3
            half[row] = (intervals.around("delay_ms", value, busiest, moved=moved)[1] - value) / 1e3
        return half

    def _with_links(self, told: Figures, use: Mapping[int, FloatArray]) -> Figures:
        """The figures, with how busy the inter-domain links are on the way out; a matter of bandwidth."""
        if BANDWIDTH not in self._figures:
            return told
        graph = self._graph
        found: list[tuple[int, int, float]] = []
        for number, point in enumerate(self._nodes):
            out = np.flatnonzero((graph.head == point.leaves) & (graph.law == Law.LINK))
            if not point.border or not out.size:
                continue
            step = self._precision.bandwidth_mbps / (float(graph.capacity_bps[out[0]]) / 1e6)
            shares = np.array([use[variant][out[0]] for variant in sorted(use)])
            rounded = np.minimum(1.0, round_up(shares, step))
            found += [(v, number, float(u)) for v, u in zip(sorted(use), rounded.tolist(), strict=True)]
        return replace(
            told,
            link_variant=np.array([variant for variant, *_ in found], dtype=np.uint32),
            link_point=np.array([point for _, point, _ in found], dtype=np.uint32),
            link_utilisation=np.array([share for *_, share in found]),
        )

    def _told(self, columns: Mapping[str, FloatArray]) -> Figures:
        """Round to the safe side, and withhold what the agreement does not name."""
        step_s = self._precision.delay_ms / 1e3
        told: dict[str, Any] = dict(columns)
        told["loss"] = np.minimum(1.0, round_up(columns["loss"], self._precision.loss))
        if "delay_s" in columns:
            for name, step in (("delay_s", step_s), ("variance_s2", step_s**2), ("service_s", step_s)):
                told[name] = round_up(columns[name], step)
            told["fixed_s"] = round_down(columns["fixed_s"], step_s)
            told["interval_s"] = round_up(columns["interval_s"], step_s)
        withheld = []
        if "loss_ratio" not in self._figures:
            withheld.append("loss")
        if "one_way_delay" not in self._figures:
            withheld += ["delay_s", "fixed_s", "interval_s"]
        if "delay_variance" not in self._figures:
            withheld += ["variance_s2", "service_s"]
        for name in withheld:
            if name in told:
                told[name] = np.full(len(told[name]), np.nan)
        return Figures(**told, unsettled=self._unsettled)


_ALL = ("loss", "delay_s", "variance_s2", "service_s", "fixed_s", "interval_s")


def _essence(variant: Variant) -> object:
    """What makes a variant another one, but for its name."""
    return (
        variant.down,
        variant.restored,
        variant.nodes_down,
        tuple(sorted((name, tuple(sorted(values.items()))) for name, values in variant.values.items())),
        variant.demand_scale,
        tuple(sorted(variant.class_scale.items())),
        variant.pairs,
    )
