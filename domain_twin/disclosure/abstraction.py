"""A domain's network as its peers may see it: native, mesh or node. Owns what a view's figures mean; no I/O.

Delay is the measured one-way delay of links, plus the air interface of a cell where a path starts or ends,
plus the processing of every user plane function that it crosses or ends at, plus that of any other function
or host where it ends. Bandwidth is free capacity: capacity less carried rate, never below 0.
`docs/disclosure.md` explains the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from domain_twin.disclosure.figures import ORIGINS, Figures, outbound_kpis
from domain_twin.disclosure.plan import (
    Entry,
    Ground,
    Plan,
    Risks,
    Trails,
    agreement_salt,
    mesh_entries,
    native_entries,
    rewired,
    search,
    topology_differs,
    undirected,
    usable,
)
from domain_twin.disclosure.precision import EXACT, FIGURES, Precision, disclose, disclose_one
from domain_twin.disclosure.terminals import Terminal, node_roles, opaque_nodes, terminals
from domain_twin.disclosure.worst_case import worst_case
from domain_twin.model import (
    Finding,
    Level,
    Network,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Severity,
    TerminationPoint,
    View,
)

__all__ = ["DEFAULT_CAP", "Abstraction", "abstract"]

DEFAULT_CAP = 8


def abstract(
    network: Network,
    *,
    level: Level,
    published: Mapping[str, str],
    agreement: str,
    precision: Precision | None,
    cap: int = DEFAULT_CAP,
    risk_salt: bytes,
    figures: frozenset[str] = FIGURES,
) -> View:
    """What a peer may see of a network; `published` maps aliases to element ids, no `precision` is exact.

    `risk_salt` is the domain's secret; each agreement gets tokens of its own out of it.
    """
    abstraction = Abstraction(
        level=level,
        published=published,
        precision=precision,
        cap=cap,
        risk_salt=agreement_salt(risk_salt, agreement),
        figures=figures,
    )
    abstraction.update(network)
    return abstraction.view(network, agreement)


class Abstraction:
    """Points and segments of one domain at one level, kept up to date as its network changes.

    Objects that did not change are the same ones after an update. Findings are for the owner alone.
    """

    def __init__(
        self,
        *,
        level: Level,
        published: Mapping[str, str],
        precision: Precision | None,
        risk_salt: bytes,
        cap: int = DEFAULT_CAP,
        figures: frozenset[str] = FIGURES,
    ) -> None:
        self.points: dict[str, Point] = {}
        self.segments: dict[tuple[str, str], Segment] = {}
        self.hidden_nodes = 0
        self.hidden_links = 0
        self.search_pending = False
        """Whether the lists of options rest on an older network, because searching was put off."""
        self.search_work = 0
        """Size of a search: usable links times nodes searched from."""
        self._level = level
        self._published = published
        self._precision = precision or EXACT
        self._disclosed = figures
        self._cap = cap
        self._risks = Risks(risk_salt)
        self._network: Network | None = None
        self._figures: Figures
        self._terminals: tuple[Terminal, ...] = ()
        self._plan = Plan(())
        self._trails: Trails = {}
        self._outbound: dict[str, tuple[TerminationPoint, PathKpis]] = {}
        self._mesh: dict[tuple[str, str], Segment] = {}
        self._topology_findings: list[Finding] = []
        self._rows: NDArray[np.float64] | None = None
        self._told: list[PathKpis | None] = []

    def update(self, network: Network, *, search_now: bool = True) -> None:
        """Take over a network. Without `search_now` the options are known paths at the figures of now.

        What devices forward, and the figures of all listed paths, are always those of `network`.
        """
        before = self._network
        self._network = network
        if before is None or topology_differs(before, network):
            self._figures = Figures(network)
            moved = before is not None and rewired(before, network)
            self._replan(network, search_now=search_now or moved)
        else:
            changed = self._figures.update(network)
            self._terminals, self._topology_findings = terminals(network, self._published)
            if search_now and (changed or self.search_pending):
                self._replan(network, search_now=True)
            else:
                self.search_pending |= changed
        self._evaluate()
        self._show(network)

    def view(self, network: Network, agreement: str) -> View:
        """The view of the network last taken over."""
        return View(
            domain=network.domain,
            agreement=agreement,
            level=self._level,
            version=network.version,
            points=self.points,
            segments=self.segments,
            hidden_nodes=self.hidden_nodes,
            hidden_links=self.hidden_links,
            kind=network.kind,
        )

    def findings(self) -> tuple[Finding, ...]:
        """What keeps parts of the network out of the view: missing measurements, wrong names and claims."""
        network = self._network
        if network is None:
            return ()
        missing = np.isinf(self._figures.sums[:, 0])
        named = {row for point in self._terminals for row in (*point.starts, *point.ends)}
        found = list(self._topology_findings)
        for identity, row in self._figures.index.items():
            link = network.links.get(identity)
            if missing[row] and (link.up if link else identity in named):
                found.append(
                    Finding(
                        "measurement.missing",
                        Severity.WARNING,
                        network.domain,
                        identity,
                        f"the one-way delay of {identity} is not measured: paths across it promise nothing",
                        "have the device report fedtwin-performance for it, or take it out of service",
                    )
                )
        return tuple(found)

    def _replan(self, network: Network, *, search_now: bool) -> None:
        self._terminals, self._topology_findings = terminals(network, self._published)
        graph = usable(network, self._figures)
        ground = Ground(network, self._figures, graph, self._terminals, self._risks)
        if self._level is Level.NATIVE:
            entries = native_entries(ground, _node_names(network, self._terminals))
        else:
            self.search_work = sum(map(len, graph.leaving.values())) * len({p.node for p in self._terminals})
            self.search_pending = not search_now
            if search_now:
                by_loss = self._level is Level.MESH and "loss_ratio" in self._disclosed
                self._trails = search(graph, self._terminals, by_loss=by_loss, label_cap=2 * self._cap)
            entries = mesh_entries(ground, self._trails)
            self.hidden_nodes = len(network.nodes)
            self.hidden_links = len({undirected(link) for link in network.links.values()})
        self._plan = Plan(tuple(entries))
        self._rows = None

    def _evaluate(self) -> None:
        """Work out the figures of all listed paths, and anew the segments whose paths changed."""
        plan = self._plan
        columns = self._figures.of_paths(plan.rows, plan.offsets)
        delay, variance, loss, squared_error = columns.sums.T
        raw = np.stack(
            (delay, variance, -np.expm1(-loss), columns.bandwidth_mbps, np.sqrt(squared_error)), axis=1
        )
        rows = np.concatenate(
            (
                disclose(raw, precision=self._precision, figures=self._disclosed),
                np.stack((np.isfinite(delay), columns.origin, columns.stale), axis=1),
            ),
            axis=1,
        )
        if self._rows is None:
            segments: dict[tuple[str, str], Segment] = {}
            changed: Iterable[int] = range(len(plan.entries))
            self._told = [None] * len(plan.candidates)
        else:
            differs = (rows != self._rows).any(axis=1)
            if not differs.any():
                return
            segments = dict(self._mesh)
            changed = np.flatnonzero(np.logical_or.reduceat(differs, plan.entry_offsets)).tolist()
            for row in np.flatnonzero(differs).tolist():
                self._told[row] = None
        self._rows = rows
        for index in changed:
            entry = plan.entries[index]
            segment = self._segment(entry, int(plan.entry_offsets[index]), rows)
            old = self._mesh.get(entry.key)
            segments[entry.key] = old if old is not None and old == segment else segment
        self._mesh = segments

    def _segment(self, entry: Entry, first: int, rows: NDArray[np.float64]) -> Segment:
        figures: list[list[float]] = rows[first : first + len(entry.candidates)].tolist()
        front = _front(figures)
        kept = _cut(front, figures, self._cap)

        def kpis(index: int) -> PathKpis:
            told = self._told[first + index]
            if told is None:
                delay, variance, loss, bandwidth, error, _, origin, _ = figures[index]
                told = self._told[first + index] = PathKpis(
                    delay_ms=delay,
                    delay_variance_ms2=variance,
                    loss=loss,
                    bandwidth_mbps=bandwidth,
                    metric=entry.candidates[index].metric,
                    delay_std_error_ms=error,
                    origin=ORIGINS[int(origin)],
                    shared_risks=entry.candidates[index].risks,
                )
            return told

        return Segment(
            *entry.key,
            current=kpis(0),
            options=tuple(map(kpis, kept)),
            truncated=entry.cut or len(kept) < len(front),
            stale=any(figures[index][7] for index in {0, *kept}),
        )

    def _show(self, network: Network) -> None:
        """Bring points and segments to the granted level."""
        points = {point.id: self._point(point, network) for point in self._terminals}
        if self._level is Level.NATIVE:
            points.update(self._node_points(network))
        segments = self._mesh
        if self._level is Level.NODE:
            points, whole = worst_case(points, segments)
            key = (whole.source, whole.target)
            segments = {key: self.segments[key] if self.segments.get(key) == whole else whole}
        old = self.points
        self.points = {name: old[name] if old.get(name) == point else point for name, point in points.items()}
        self.segments = segments

    def _point(self, terminal: Terminal, network: Network) -> Point:
        if terminal.border is None:
            return Point(
                terminal.id,
                network.domain,
                PointKind.ENDPOINT,
                role=terminal.role,
                up=terminal.up,
                stale=terminal.stale,
            )
        end = terminal.border.inter_domain
        assert end is not None
        outbound = None
        if terminal.up:
            measured, outbound = self._outbound.get(terminal.id, (None, None))
            if measured is not terminal.border:
                outbound = disclose_one(
                    outbound_kpis(terminal.border), precision=self._precision, figures=self._disclosed
                )
                self._outbound[terminal.id] = (terminal.border, outbound)
        return Point(
            terminal.id,
            network.domain,
            PointKind.BORDER,
            up=terminal.up,
            link_id=end.link_id,
            peer_domain=end.peer_domain,
            capacity_mbps=end.capacity_mbps,
            metric=end.metric,
            outbound=outbound,
            stale=terminal.stale,
        )

    def _node_points(self, network: Network) -> Iterable[tuple[str, Point]]:
        roles, opaque = node_roles(network), opaque_nodes(network)
        for identity, name in _node_names(network, self._terminals).items():
            yield (
                name,
                Point(
                    name,
                    network.domain,
                    PointKind.NODE,
                    role=roles[identity],
                    up=identity not in opaque,
                    stale=network.nodes[identity].stale,
                ),
            )


def _node_names(network: Network, points: Iterable[Terminal]) -> dict[str, str]:
    taken = {point.id for point in points}
    names: dict[str, str] = {}
    for identity in sorted(network.nodes):
        name = f"{network.domain}/{network.nodes[identity].device or identity.rpartition(':')[2]}"
        while name in taken:  # an alias or another node has it
            name += ".node"
        taken.add(name)
        names[identity] = name
    return names


def _front(figures: Sequence[Sequence[float]]) -> list[int]:
    """The measured paths that no other one beats in delay, bandwidth and loss at once, in order of delay.

    Rows are (delay, variance, loss, bandwidth, standard error, whether measured, ...).
    """
    front: list[int] = []
    best: list[tuple[float, float]] = []
    for _, width, loss, index in sorted((f[0], -f[3], f[2], i) for i, f in enumerate(figures) if f[5]):
        for other_width, other_loss in best:
            if other_width <= width and other_loss <= loss:
                break
        else:
            front.append(index)
            best.append((width, loss))
    return front


def _cut(front: Sequence[int], figures: Sequence[Sequence[float]], cap: int) -> list[int]:
    """At most `cap` of them: first those better in bandwidth, spread evenly, then those better in loss."""
    if len(front) <= cap:
        return list(front)
    wide: list[int] = []
    for place, index in enumerate(front):
        if not wide or figures[index][3] > figures[front[wide[-1]]][3]:
            wide.append(place)
    if len(wide) >= cap:
        kept = {wide[round(step * (len(wide) - 1) / max(cap - 1, 1))] for step in range(cap)}
    else:
        rest = sorted(set(range(len(front))) - set(wide), key=lambda place: figures[front[place]][2])
        kept = {*wide, *rest[: cap - len(wide)]}
    return [front[place] for place in sorted(kept)]
