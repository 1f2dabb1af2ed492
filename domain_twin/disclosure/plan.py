"""Which paths a view lists between which points: the part of an abstraction that only topology changes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from domain_twin.disclosure.figures import NOTHING, Figures
from domain_twin.disclosure.search import Arc, Graph, Trail, pareto_trails, routes_to
from domain_twin.disclosure.terminals import Terminal, opaque_nodes, upfs_by_node
from domain_twin.model import Cell, Host, Link, Network, NetworkFunction, Node, TerminationPoint

__all__ = [
    "Candidate",
    "Entry",
    "Plan",
    "Risks",
    "Trails",
    "agreement_salt",
    "mesh_entries",
    "native_entries",
    "rewired",
    "search",
    "undirected",
    "usable",
]

Trails = dict[tuple[str, str], tuple[list[Trail], bool]]
"""Known good paths by (source node, target node), and whether the search was cut."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One path between two points: rows of `Figures`, its metric, its risks."""

    rows: tuple[int, ...]
    metric: int
    risks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """All listed paths between two points; the first is the one that devices forward by."""

    key: tuple[str, str]
    candidates: tuple[Candidate, ...]
    cut: bool = False


class Plan:
    """Entries as arrays: path i is rows[offsets[i]:offsets[i+1]], entry j has paths from entry_offsets[j]."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.candidates = [candidate for entry in entries for candidate in entry.candidates]
        sizes = [len(candidate.rows) for candidate in self.candidates]
        self.rows: NDArray[np.int64] = np.fromiter(
            (row for candidate in self.candidates for row in candidate.rows), np.int64, sum(sizes)
        )
        self.offsets: NDArray[np.int64] = np.cumsum([0, *sizes[:-1]], dtype=np.int64)[: len(sizes)]
        counts = [len(entry.candidates) for entry in entries]
        self.entry_offsets: NDArray[np.int64] = np.cumsum([0, *counts[:-1]], dtype=np.int64)[: len(counts)]


def agreement_salt(secret: bytes, agreement: str) -> bytes:
    """A salt of its own for each agreement, so that two peers cannot lay their views over each other."""
    return hmac.new(secret, agreement.encode(), hashlib.sha256).digest()


class Risks:
    """Opaque names of the links that can fail, the same for both directions of a link.

    A token is the first 16 bits of HMAC-SHA256 over the link's two termination points: who lacks the salt
    learns which listed paths of one view share links and how many links they have, and nothing about which
    links. At most 65,536 tokens exist; two links that fall on the same one look shared, which errs on the
    safe side.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._tokens: dict[tuple[str, str], str] = {}

    def of(self, link: Link) -> str:
        """The token of a link."""
        ends = undirected(link)
        token = self._tokens.get(ends)
        if token is None:
            digest = hmac.new(self._salt, "\0".join(ends).encode(), hashlib.sha256)
            token = self._tokens[ends] = digest.hexdigest()[:4]
        return token


def undirected(link: Link) -> tuple[str, str]:
    """What a link and the one back have in common: their termination points."""
    return min(link.source_tp, link.dest_tp), max(link.source_tp, link.dest_tp)


def rewired(old: Network, new: Network) -> bool:
    """Whether a link has other ends than before, so that paths known by their links are paths no more."""
    return any(
        (link.source_node, link.dest_node) != (was.source_node, was.dest_node)
        for identity, link in new.links.items()
        if (was := old.links.get(identity)) is not None and was is not link
    )


class Ground(NamedTuple):
    """A network as entries are made from it."""

    network: Network
    figures: Figures
    graph: Graph
    points: tuple[Terminal, ...]
    risks: Risks


def usable(network: Network, figures: Figures) -> Graph:
    """The links that are up and whose nodes both exist, with the figures of now."""
    upf_rows = _upf_rows(network, figures)
    delay, _, loss, _ = figures.sums.T.tolist()
    bandwidth = figures.bandwidth_mbps.tolist()
    arcs = []
    for link in network.links.values():
        if not link.up or link.source_node not in network.nodes or link.dest_node not in network.nodes:
            continue
        row = figures.index[link.id]
        entered = upf_rows.get(link.dest_node, ())
        arcs.append(
            Arc(
                link.id,
                link.source_node,
                link.dest_node,
                link.metric,
                delay[row] + sum(delay[upf] for upf in entered),
                bandwidth[row],
                loss[row] + sum(loss[upf] for upf in entered),
            )
        )
    return Graph(arcs, opaque_nodes(network))


def search(graph: Graph, points: Iterable[Terminal], *, by_loss: bool, label_cap: int) -> Trails:
    """Non-dominated paths between the nodes of all points that are up."""
    nodes = sorted({point.node for point in points if point.up})
    targets = frozenset(nodes)
    trails: Trails = {}
    for source in nodes:
        found, cut = pareto_trails(graph, source, targets, by_loss=by_loss, label_cap=label_cap)
        trails.update(((source, target), (paths, cut)) for target, paths in found.items())
    return trails


def mesh_entries(ground: Ground, trails: Trails) -> Iterator[Entry]:
    """One entry per ordered pair of points that are up and joined."""
    index, graph = ground.figures.index, ground.graph
    alive = [point for point in ground.points if point.up]
    routes = {node: routes_to(graph, node) for node in {point.node for point in alive}}
    links = _Links(ground)
    between: dict[tuple[str, str], tuple[Candidate, ...]] = {}
    for source in alive:
        head = (NOTHING, *(index[row] for row in source.starts))
        for target in alive:
            nodes = (source.node, target.node)
            if nodes not in between:
                current = routes[target.node].trail(source.node)
                between[nodes] = links.candidates(current, trails.get(nodes, ([], False))[0])
            if source is target or not between[nodes]:
                continue
            tail = tuple(index[row] for row in target.ends)
            yield Entry(
                (source.id, target.id),
                tuple(Candidate(head + c.rows + tail, c.metric, c.risks) for c in between[nodes]),
                cut=trails.get(nodes, ([], False))[1],
            )


def native_entries(ground: Ground, names: Mapping[str, str]) -> Iterator[Entry]:
    """One entry per ordered pair of adjacent nodes, and per point and its node; `names` are the nodes' ids.

    Parallel links become candidates of one entry. Nodes that cannot be crossed have no entries.
    """
    graph, index, links = ground.graph, ground.figures.index, _Links(ground)
    parallel: dict[tuple[str, str], list[Arc]] = {}
    for arcs in graph.leaving.values():
        for arc in arcs:
            if arc.source not in graph.opaque and arc.target not in graph.opaque:
                parallel.setdefault((arc.source, arc.target), []).append(arc)
    for (source, target), arcs in parallel.items():
        arcs.sort(key=lambda arc: (arc.metric, arc.link))
        first, *others = [(arc.link,) for arc in arcs]
        candidates = (
            Candidate((NOTHING, *c.rows), c.metric, c.risks) for c in links.candidates(first, others)
        )
        yield Entry((names[source], names[target]), tuple(candidates))
    for point in ground.points:
        if point.up and point.node in names and point.node not in graph.opaque:
            starts = tuple(index[row] for row in point.starts)
            ends = tuple(index[row] for row in point.ends)
            yield Entry((point.id, names[point.node]), (Candidate((NOTHING, *starts), 0, frozenset()),))
            yield Entry((names[point.node], point.id), (Candidate((NOTHING, *ends), 0, frozenset()),))


class _Links:
    """Candidates from paths of links."""

    def __init__(self, ground: Ground) -> None:
        network = ground.network
        upf_rows = _upf_rows(network, ground.figures)
        self._metrics = {link.id: link.metric for link in network.links.values()}
        self._tokens = {link.id: ground.risks.of(link) for link in network.links.values()}
        graph = ground.graph
        arcs = [arc for arcs in graph.leaving.values() for arc in arcs]
        self._usable = {arc.link for arc in arcs}
        self._passable = {arc.link for arc in arcs if arc.target not in graph.opaque}
        self._rows = {
            link.id: (ground.figures.index[link.id], *upf_rows.get(link.dest_node, ()))
            for link in network.links.values()
        }

    def _is_up(self, trail: Trail) -> bool:
        """Whether a path found earlier can still be taken."""
        return trail[-1] in self._usable and self._passable.issuperset(trail[:-1])

    def candidates(self, current: Trail | None, others: Iterable[Trail]) -> tuple[Candidate, ...]:
        """The current path, then the others that are still up; none where nothing is joined now."""
        if current is None:
            return ()
        trails = [current]
        if current:  # a node is best joined to itself by no link at all
            trails += [trail for trail in others if trail != current and self._is_up(trail)]
        return tuple(
            Candidate(
                tuple(chain.from_iterable(map(self._rows.__getitem__, trail))),
                sum(map(self._metrics.__getitem__, trail)),
                frozenset(map(self._tokens.__getitem__, trail)),
            )
            for trail in trails
        )


def topology_differs(old: Network, new: Network) -> bool:
    """Whether routing, or the set of points, has to be worked out again."""
    for name, essence in _ESSENCE.items():
        before = cast("Mapping[str, object]", getattr(old, name))
        after = cast("Mapping[str, object]", getattr(new, name))
        if before is after:
            continue
        if before.keys() != after.keys():
            return True
        for identity, element in after.items():
            was = before[identity]
            if was is not element and essence(was) != essence(element):
                return True
    return False


def _node_essence(node: Node) -> object:
    return node.device


def _point_essence(point: TerminationPoint) -> object:
    return (point.node, point.up, point.inter_domain) if point.inter_domain else None


def _link_essence(link: Link) -> object:
    return link.source_node, link.dest_node, link.metric, link.up, link.source_tp, link.dest_tp


def _function_essence(function: NetworkFunction) -> object:
    return function.node, function.type, function.up


def _site_essence(element: Cell | Host) -> object:
    return element.node, element.up


_ESSENCE: Mapping[str, Callable[[Any], object]] = {
    "nodes": _node_essence,
    "termination_points": _point_essence,
    "links": _link_essence,
    "functions": _function_essence,
    "cells": _site_essence,
    "hosts": _site_essence,
}


def _upf_rows(network: Network, figures: Figures) -> dict[str, tuple[int, ...]]:
    return {
        node: tuple(figures.index[function.id] for function in functions)
        for node, functions in upfs_by_node(network).items()
    }
