"""Networks in files, for the engine without any agent: reads and writes the JSON of `network_file`.

BNN-UPC folders and MATLAB files have readers of their own (`bnn_upc`, `matlab`). Refuses what cannot be
simulated as it stands, and names the file and the place in it.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import Arrivals, Demand, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.outside.network_file import (
    CellEntry,
    ClassEntry,
    LinkEntry,
    NetworkFile,
    StationEntry,
)

__all__ = ["MAX_BYTES", "FileNetwork", "parse_network", "read_network", "write_network"]

MAX_BYTES = 256 << 20

_SCHEDULERS: dict[str, Scheduler] = {
    "fifo": Scheduler.FIFO,
    "strict-priority": Scheduler.STRICT_PRIORITY,
    "wfq": Scheduler.WFQ,
    "drr": Scheduler.DRR,
}


@dataclass(frozen=True, slots=True, eq=False)
class FileNetwork:
    """A network from a file, ready to be solved, and how its elements are found in it."""

    name: str
    graph: SimGraph
    demand: Demand
    edges_of: Mapping[str, tuple[int, ...]]
    node_of: Mapping[str, int]
    assumptions: tuple[str, ...] = ()


def read_network(path: Path) -> FileNetwork:
    """Read one JSON file. Raises ConfigError."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ConfigError(f"{path}: {size} bytes; a network has {MAX_BYTES} at most")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8, at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return parse_network(text, str(path))


def parse_network(text: str, where: str = "network") -> FileNetwork:
    """The network that JSON text holds; `where` leads every error. Raises ConfigError."""
    document = _document(text, where)
    try:
        return _Builder(NetworkFile.model_validate(document), where).network()
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(error, document, where))) from error


def write_network(network: FileNetwork) -> str:
    """The network as text of this format. Raises ConfigError for what the format has no words for."""
    return json.dumps(_Writer(network).document(), indent=1, allow_nan=False) + "\n"


def _document(text: str, where: str) -> Any:
    def constant(word: str) -> NoReturn:
        raise ConfigError(f"{where}: {word} found; only finite numbers are accepted")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{where}: the key {key!r} occurs twice in one object; keep one")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{where}: {place}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply; a network has few levels") from error


def _explained(error: ValidationError, document: Any, where: str) -> Iterator[str]:
    for item in error.errors()[:20]:
        place, at = "", document
        for part in item["loc"]:
            if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int)):
                at = at[part]  # type: ignore[index]  # a list by a number, a dict by a word
            elif item["type"] not in ("missing", "extra_forbidden"):
                continue  # a word of pydantic's for one of several types
            name = at.get("id") or at.get("name") if isinstance(at, dict) else None
            shown = f" ({name})" if isinstance(part, int) and name else ""
            place += f"[{part}]{shown}" if isinstance(part, int) else f".{part}" if place else str(part)
        said = item["msg"].removeprefix("Value error, ")
        found = f" (found {item['input']!r})" if isinstance(item["input"], bool | int | float | str) else ""
        yield f"{where}: {place or 'the network'}: {said[0].lower()}{said[1:]}{found}"


@dataclass
class _Builder:
    file: NetworkFile
    where: str
    _edges: list[dict[str, Any]] = field(default_factory=list)
    _edges_of: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _node_of: dict[str, int] = field(default_factory=dict)
    _transit: list[bool] = field(default_factory=list)

    def network(self) -> FileNetwork:
        file = self.file
        self._unique("", [*file.nodes, *file.links, *file.cells, *file.stations])
        for node in file.nodes:
            self._node(node.id, transit=node.transit)
        routers = dict(self._node_of)
        for i, link in enumerate(file.links):
            self._link(f"links[{i}] ({link.id})", link, routers)
        for i, cell in enumerate(file.cells):
            self._cell(self._known(f"cells[{i}] ({cell.id}): node", cell.node, routers), cell)
        for i, station in enumerate(file.stations):
            self._station(self._known(f"stations[{i}] ({station.id}): node", station.node, routers), station)
        classes = self._classes()
        graph = self._graph(classes)
        demand = self._demand(graph)
        return FileNetwork(file.name, graph, demand, self._edges_of, self._node_of)

    def _refuse(self, place: str, why: str) -> NoReturn:
        raise ConfigError(f"{self.where}: {place}: {why}")

    def _unique(self, kind: str, entries: Sequence[Any]) -> None:
        seen: set[str] = set()
        for entry in entries:
            word = getattr(entry, "id", None) or entry.name
            if word in seen:
                self._refuse(kind or f"id {word!r}", f"{word!r} is there twice; every id is one element's")
            seen.add(word)

    def _known(self, place: str, name: str, among: Mapping[str, int]) -> int:
        if name not in among:
            self._refuse(place, f"there is no {name!r}; known are {_some(among)}")
        return among[name]

    def _node(self, name: str, *, transit: bool) -> int:
        self._node_of[name] = len(self._node_of)
        self._transit.append(transit)
        return self._node_of[name]

    def _add(self, name: str, owner: str, tail: int, head: int, law: Law, **values: Any) -> None:
        self._edges_of[owner] = (*self._edges_of.get(owner, ()), len(self._edges))
        if name != owner:
            self._edges_of[name] = (len(self._edges),)
        self._edges.append(
            {"name": name, "made": name != owner, "tail": tail, "head": head, "law": law, **values}
        )

    def _link(self, place: str, link: LinkEntry, routers: Mapping[str, int]) -> None:
        source = self._known(f"{place}: source", link.source, routers)
        target = self._known(f"{place}: target", link.target, routers)
        if source == target:
            self._refuse(place, f"it leads from {link.source!r} to itself; name another target")
        values = {
            "scheduler": _SCHEDULERS[link.scheduler],
            "up": link.up,
            "metric": link.metric,
            "capacity_bps": link.capacity_mbps * 1e6,
            "fixed_s": link.delay_ms / 1e3,
            "buffer": _room(link.buffer_packets),
            "loss": link.loss,
        }
        self._add(link.id, link.id, source, target, Law.LINK, **values)
        if not link.directed:
            self._add(f"{link.id}#back", link.id, target, source, Law.LINK, **values)

    def _cell(self, node: int, cell: CellEntry) -> None:
        place = self._node(cell.id, transit=False)
        values = {
            "up": cell.up,
            "capacity_bps": cell.capacity_mbps * 1e6,
            "fixed_s": cell.delay_ms / 1e3,
            "buffer": _room(cell.buffer_packets),
        }
        self._add(cell.id, cell.id, place, node, Law.CELL, **values)
        self._add(f"{cell.id}#down", cell.id, node, place, Law.CELL, **values)

    def _station(self, node: int, station: StationEntry) -> None:
        place = self._node(station.id, transit=False)
        self._add(
            station.id,
            station.id,
            node,
            place,
            Law.STATION,
            up=station.up,
            servers=station.servers,
            service_s=station.service_ms / 1e3,
            service_scv=station.service_scv,
            fixed_s=station.delay_ms / 1e3,
            buffer=_room(station.buffer_packets),
        )
        self._add(f"{station.id}#return", station.id, place, node, Law.FIXED, up=station.up)

    def _classes(self) -> tuple[TrafficClass, ...]:
        self._unique("classes", self.file.classes)
        return tuple(_class_of(entry) for entry in self.file.classes or (ClassEntry(name="default"),))

    def _graph(self, classes: tuple[TrafficClass, ...]) -> SimGraph:
        def column(name: str, default: Any, kind: Any) -> Any:
            return np.array([edge.get(name, default) for edge in self._edges], kind)

        names = tuple(edge["name"] for edge in self._edges)
        given = self._node_of.keys() | {edge["name"] for edge in self._edges if not edge["made"]}
        for edge in self._edges:
            if edge["made"] and edge["name"] in given:
                self._refuse(f"id {edge['name']!r}", "this id is made from another's; choose one without '#'")
        groups = {}
        for name, members in self.file.risk_groups.items():
            place = f"risk_groups.{name}"
            if name in self._edges_of or name in self._node_of:
                self._refuse(place, "an element has this id; name the group otherwise")
            lost = [member for member in members if member not in self._edges_of]
            if lost:
                self._refuse(place, f"there is no {lost[0]!r}; known are {_some(self._edges_of)}")
            groups[name] = tuple(sorted({e for member in members for e in self._edges_of[member]}))
        return SimGraph(
            tuple(self._node_of),
            names,
            classes,
            column("tail", 0, np.int32),
            column("head", 0, np.int32),
            column("law", 0, np.int8),
            column("scheduler", 0, np.int8),
            column("up", True, np.bool_),
            column("metric", 0.0, np.float64),
            column("capacity_bps", 0.0, np.float64),
            column("fixed_s", 0.0, np.float64),
            column("buffer", math.inf, np.float64),
            column("servers", 0, np.int32),
            column("service_s", 0.0, np.float64),
            column("service_scv", 0.0, np.float64),
            column("loss", 0.0, np.float64),
            np.array(self._transit, np.bool_),
            groups,
        )

    def _demand(self, graph: SimGraph) -> Demand:
        nodes = len(graph.nodes)
        names = {each.name: c for c, each in enumerate(graph.classes)}
        rate = np.zeros((len(graph.classes), nodes, nodes))
        seen: dict[tuple[int, int, int], int] = {}
        reached: dict[int, set[int]] = {}
        for i, entry in enumerate(self.file.demands):
            place = f"demands[{i}]"
            s = self._known(f"{place}: source", entry.source, self._node_of)
            d = self._known(f"{place}: target", entry.target, self._node_of)
            if s == d:
                self._refuse(place, f"it leads from {entry.source!r} to itself; name another target")
            if not entry.traffic_class and len(names) > 1:
                self._refuse(place, f"traffic_class is missing; known are {_some(names)}")
            word = entry.traffic_class or graph.classes[0].name
            c = self._known(f"{place}: traffic_class", word, names)
            if (c, d, s) in seen:
                first = seen[c, d, s]
                self._refuse(place, f"demands[{first}] has the same source, target and class; add them up")
            seen[c, d, s] = i
            if s not in reached:
                reached[s] = _reached(graph, s)
            if d not in reached[s]:
                self._refuse(place, _cut(graph, s, d, reached[s]))
            octets = graph.classes[c].mean_octets
            rate[c, d, s] = (
                entry.packets_per_s if entry.mbps is None else entry.mbps * 1e6 / (8 * octets)
            ) or 0.0
        return Demand(rate)


def _class_of(entry: ClassEntry) -> TrafficClass:
    sizes = entry.octets if isinstance(entry.octets, tuple) else (entry.octets,)
    return TrafficClass(
        entry.name,
        sizes,
        entry.probabilities or (1.0 / len(sizes),) * len(sizes),
        entry.exponential,
        Arrivals(entry.arrivals),
        entry.on_s,
        entry.off_s,
        entry.priority,
        entry.weight,
    )


def _room(packets: float | None) -> float:
    return math.inf if packets is None else packets


def _some(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:8]) + (f" and {len(first) - 8} more" if len(first) > 8 else "")


def _reached(graph: SimGraph, source: int) -> set[int]:
    """Nodes that edges, up or down, lead to from `source`."""
    onward: dict[int, list[int]] = {}
    for tail, head in zip(graph.tail.tolist(), graph.head.tolist(), strict=True):
        onward.setdefault(tail, []).append(head)
    found, waiting = {source}, deque([source])
    while waiting:
        at = waiting.popleft()
        if at != source and not graph.transit[at]:
            continue
        for head in onward.get(at, ()):
            if head not in found:
                found.add(head)
                waiting.append(head)
    return found


def _cut(graph: SimGraph, source: int, target: int, reached: set[int]) -> str:
    names = _some(graph.nodes[n] for n in reached - {source}) or "nothing"
    return (
        f"no path from {graph.nodes[source]!r} to {graph.nodes[target]!r}: the network is disconnected, "
        f"{graph.nodes[source]!r} reaches {names}; add a link, or leave the demand out"
    )


@dataclass
class _Writer:
    network: FileNetwork

    def document(self) -> dict[str, Any]:
        graph = self.network.graph
        places = set()
        found: dict[str, Any] = {"format": "fedtwin-network", "version": 1, "name": self.network.name}
        links: list[dict[str, Any]] = []
        cells: list[dict[str, Any]] = []
        stations: list[dict[str, Any]] = []
        returns = {(int(graph.head[e]), int(graph.tail[e])) for e in np.flatnonzero(graph.law == Law.FIXED)}
        for e, name in enumerate(graph.edges):
            law = Law(int(graph.law[e]))
            tail, head = int(graph.tail[e]), int(graph.head[e])
            if law is Law.LINK:
                links.append(self._link(e))
            elif law is Law.CELL and not graph.transit[tail]:
                places.add(tail)
                cells.append({"id": graph.nodes[tail], "node": graph.nodes[head], **self._server(e)})
            elif law is Law.STATION:
                if (tail, head) not in returns:
                    self._wordless(name, "a station that packets pass")
                places.add(head)
                station = {"id": graph.nodes[head], "node": graph.nodes[tail], **self._server(e)}
                station["servers"] = int(graph.servers[e])
                station["service_ms"] = float(graph.service_s[e]) * 1e3
                station["service_scv"] = float(graph.service_scv[e])
                stations.append(station)
            elif law is Law.FIXED and graph.transit[tail]:
                self._wordless(name, "a fixed delay")
        found["nodes"] = [
            {"id": name, "transit": bool(graph.transit[n])}
            for n, name in enumerate(graph.nodes)
            if n not in places
        ]
        found |= {"links": links, "cells": cells, "stations": stations}
        found["classes"] = [_class_entry(each) for each in graph.classes]
        rate = self.network.demand.rate
        found["demands"] = [
            {
                "source": graph.nodes[s],
                "target": graph.nodes[d],
                "traffic_class": graph.classes[c].name,
                "packets_per_s": float(rate[c, d, s]),
            }
            for c, d, s in np.argwhere(rate > 0).tolist()
        ]
        edges = graph.edges
        found["risk_groups"] = {name: [edges[e] for e in group] for name, group in graph.groups.items()}
        return found

    def _wordless(self, name: str, what: str) -> NoReturn:
        raise ConfigError(f"edge {name} is {what}, which a network file has no words for; leave it out")

    def _server(self, e: int) -> dict[str, Any]:
        graph = self.network.graph
        found: dict[str, Any] = {"delay_ms": float(graph.fixed_s[e]) * 1e3, "up": bool(graph.up[e])}
        if graph.law[e] != Law.STATION:
            found["capacity_mbps"] = float(graph.capacity_bps[e]) / 1e6
        if math.isfinite(graph.buffer[e]):
            found["buffer_packets"] = float(graph.buffer[e])
        return found

    def _link(self, e: int) -> dict[str, Any]:
        graph = self.network.graph
        words = {int(value): word for word, value in _SCHEDULERS.items()}
        return {
            "id": graph.edges[e],
            "source": graph.nodes[graph.tail[e]],
            "target": graph.nodes[graph.head[e]],
            **self._server(e),
            "metric": float(graph.metric[e]),
            "scheduler": words[int(graph.scheduler[e])],
            "loss": float(graph.loss[e]),
            "directed": True,
        }


def _class_entry(each: TrafficClass) -> dict[str, Any]:
    return {
        "name": each.name,
        "octets": list(each.sizes),
        "probabilities": list(each.probabilities),
        "exponential": each.exponential,
        "arrivals": each.arrivals.value,
        "on_s": each.on_s,
        "off_s": each.off_s,
        "priority": each.priority,
        "weight": each.weight,
    }
