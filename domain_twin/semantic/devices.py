"""What devices say, kept in their graphs change by change. Owns what waits to be written, and its bound.

While the writer keeps up, each leaf's newest change is written. When more of them wait than the bound, the
devices concerned are made whole from the live state instead: what waits is then one name a device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyoxigraph as ox

from domain_twin.datastore.snapshot import Snapshot
from domain_twin.model import Change, Delta, Version
from domain_twin.semantic.live import Sink
from domain_twin.semantic.names import data_node, device_graph
from domain_twin.semantic.yang_plan import CONFIG, KPI, STATE, Plan, compile_plan
from domain_twin.semantic.yang_quads import DeviceQuads
from domain_twin.yang.schema import SchemaSet

__all__ = ["Backlog", "DeviceSource"]

log = logging.getLogger(__name__)

_BATCH = 100
"""Leaves in one change of the store: more at once is slower, and so is less."""
MAX_WAITING = 50_000
_KINDS = (CONFIG, STATE, KPI)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits, and how often it was too much."""

    waiting: int
    unmapped: int
    """Leaves that are not in the graph: no module knows them, or they are not of their type."""
    overflows: int


class DeviceSource:
    """The graphs of all devices of a domain."""

    name = "devices"
    interval_s = 0.0

    def __init__(
        self,
        domain: str,
        *,
        schema_of: Callable[[str], SchemaSet],
        snapshot: Callable[[], Snapshot],
        counters: bool = True,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`counters`: have the latest values of counters in the graph as well."""
        self._domain = domain
        self._schema_of = schema_of
        self._snapshot = snapshot
        self._counters = counters
        self._max_waiting = max_waiting
        self._waiting: dict[tuple[str, str], Change] = {}
        self._behind: set[str] = set()
        self._overflows = 0
        self._taken: list[Change] = []
        self._whole: tuple[frozenset[str], Snapshot] | None = None
        self._newest = self._version = Version("", 0)
        self._held: dict[str, DeviceQuads] = {}
        self._plans: dict[int, tuple[SchemaSet, Plan]] = {}

    def note(self, delta: Delta) -> None:
        """The live state changed; on the event loop."""
        waiting = self._waiting
        self._newest = delta.target
        for change in delta.changes:
            waiting[change[:2]] = change
        if len(waiting) > self._max_waiting:
            self._overflows += 1
            self._behind.update(device for device, _ in waiting)
            waiting.clear()
            log.warning("graph is behind: devices are made whole", extra={"devices": len(self._behind)})

    def backlog(self) -> Backlog:
        """How much waits."""
        unmapped = sum(held.unmapped.count for held in list(self._held.values()))
        return Backlog(len(self._waiting) + len(self._behind), unmapped, self._overflows)

    def take(self, *, whole: bool) -> None:
        """Note what waits, and the live state where devices are to be made whole."""
        waiting, self._waiting = self._waiting, {}
        self._taken = list(waiting.values())
        for device in {device for device, _ in waiting}:
            held = self._held.get(device)
            if held is not None and held.plan.schema is not self._schema_of(device):
                self._behind.add(device)  # it turned out to have other modules
        behind, self._behind = frozenset(self._behind), set()
        # Only where it is needed: a snapshot costs each device that changes after it a copy of its leaves.
        self._whole = (behind, self._snapshot()) if behind or whole else None
        self._version = self._newest

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write what changed, or all devices. Raises StoreUnwritable."""
        behind: frozenset[str] = frozenset()
        if self._whole is not None:
            behind, snapshot = self._whole
            self._whole = None
            if whole:
                behind = frozenset(snapshot.devices)
                self._drop_unknown(sink, snapshot)
            for device in sorted(behind):
                self._write_whole(sink, device, snapshot)
        if not whole:
            self._write_changes(sink, [change for change in self._taken if change.device not in behind])
        self._taken = []

    def _drop_unknown(self, sink: Sink, snapshot: Snapshot) -> None:
        """Begin anew: empty the graphs of devices that are no more."""
        self._held.clear()
        known = {device_graph(self._domain, name, kind) for name in snapshot.devices for kind in _KINDS}
        for graph in sink.graphs():
            if self._is_ours(graph) and graph not in known:
                sink.replace(graph, ())

    def _is_ours(self, graph: str) -> bool:
        prefix = device_graph(self._domain, "", "")[:-1]
        return graph.startswith(prefix) and graph.rpartition("/")[2] in _KINDS

    def _write_whole(self, sink: Sink, device: str, snapshot: Snapshot) -> None:
        held = self._held[device] = self._fresh(device)
        leaves = snapshot.devices.get(device, {})
        by_graph: dict[str, list[ox.Quad]] = {device_graph(self._domain, device, kind): [] for kind in _KINDS}
        for quad in held.reset((path, leaf.value) for path, leaf in leaves.items()):
            by_graph[str(quad.graph_name)[1:-1]].append(quad)
        if not self._counters:
            by_graph[device_graph(self._domain, device, KPI)].clear()
        for graph, quads in by_graph.items():
            self._tell(sink, device, graph)
            sink.replace(graph, quads)

    def _write_changes(self, sink: Sink, changes: Iterable[Change]) -> None:
        remove: dict[ox.Quad, None] = {}
        add: dict[ox.Quad, None] = {}
        count = 0
        told: set[str] = set()
        for change in changes:
            held = self._held.get(change.device)
            if held is None:
                held = self._held[change.device] = self._fresh(change.device)
            gone, new = held.change(change)
            # Of one batch what is taken out goes first: a quad that comes and goes in it must do neither.
            for quad in gone:
                if quad in add:
                    del add[quad]
                else:
                    remove[quad] = None
            for quad in new:
                if quad in remove:
                    del remove[quad]
                else:
                    add[quad] = None
            if change.device not in told:
                told.add(change.device)
                for kind in _KINDS:
                    self._tell(sink, change.device, device_graph(self._domain, change.device, kind))
            count += 1
            if count == _BATCH:
                self._flush(sink, remove, add)
                count = 0
        self._flush(sink, remove, add)

    def _flush(self, sink: Sink, remove: dict[ox.Quad, None], add: dict[ox.Quad, None]) -> None:
        if self._counters:
            sink.apply(list(remove), list(add))
        else:
            sink.apply(
                [quad for quad in remove if not quad.graph_name.value.endswith(f"/{KPI}")],  # type: ignore[union-attr]
                [quad for quad in add if not quad.graph_name.value.endswith(f"/{KPI}")],  # type: ignore[union-attr]
            )
        remove.clear()
        add.clear()

    def _tell(self, sink: Sink, device: str, graph: str) -> None:
        version = f"{self._version.epoch}/{self._version.sequence}"
        sink.made_of(graph, data_node(self._domain, device, ""), version)

    def _fresh(self, device: str) -> DeviceQuads:
        schema = self._schema_of(device)
        found = self._plans.get(id(schema))
        if found is None:
            found = self._plans[id(schema)] = (schema, compile_plan(schema))
        return DeviceQuads(found[1], self._domain, device)
