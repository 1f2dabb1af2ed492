"""Records joined into the network model, piece by piece. Owns joins, and which elements a change touches.

A change of a record rebuilds the elements that rest on it: an interface its termination points, a point's
state the links that end there. The rest of the network is shared with the version before. Nothing depends on
the order in which records came: of two devices that claim one element, the first by name has the word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from domain_twin.mapping import elements
from domain_twin.mapping.derive import Derivation, Port
from domain_twin.mapping.index import Index
from domain_twin.mapping.integrity import Evidence, check
from domain_twin.mapping.records import Record, RecordKey, Records
from domain_twin.mapping.table import Kind, Table
from domain_twin.mapping.tables import TABLES
from domain_twin.model import Delta, Finding, Nanoseconds, Network, TerminationPoint, Version

UNMEASURED_AFTER: Nanoseconds = 10_000_000_000
"""A link that is up for so long without any figure is a finding."""

_COLLECTIONS: Mapping[Kind, str] = {
    Kind.NODE: "nodes",
    Kind.TERMINATION_POINT: "termination_points",
    Kind.LINK: "links",
    Kind.FUNCTION: "functions",
    Kind.CELL: "cells",
    Kind.HOST: "hosts",
}
_NAMED = (Kind.FUNCTION, Kind.CELL, Kind.HOST)  # known by their attribute `id`, not by their keys


class Mapper:
    """Keeps one domain's network model up to date with its datastore."""

    def __init__(self, domain: str, tables: Iterable[Table] = TABLES) -> None:
        self.domain = domain
        self._records = Records(tables)
        self._stale: set[str] = set()
        self._network = Network(domain, Version("", 0), {}, {}, {}, {}, {}, {})
        self._version = Version("", 0)
        self._now: Nanoseconds = 0  # of the newest change: no clock but the data's
        self._touched: set[RecordKey] = set()
        self._figures: set[RecordKey] = set()
        # Who claims which element, and what else rests on a record.
        self._claims: dict[Kind, Index[RecordKey, str]] = {kind: Index() for kind in _COLLECTIONS}
        self._interface_of: Index[RecordKey, tuple[str, str]] = Index()  # point -> (device, name)
        self._border_of: Index[RecordKey, tuple[str, str]] = Index()  # point -> (device, link-id)
        self._source_of: Index[RecordKey, str] = Index()  # link -> tp-id
        self._dest_of: Index[RecordKey, str] = Index()
        self._device_of: Index[RecordKey, str] = Index()
        self._kin: Index[RecordKey, tuple[str, Kind]] = Index()  # what is joined by device alone
        self._derived = Derivation(domain, self._records, self._stated_point)
        self._points: Mapping[str, TerminationPoint] = {}
        self._waiting: dict[str, Nanoseconds] = {}  # up without figures, since when
        self._unmeasured: frozenset[str] = frozenset()

    @property
    def unmapped(self) -> int:
        """Values that are of their YANG type and yet make no sense to the tables."""
        return len(self._records.refused)

    @property
    def restructured(self) -> bool:
        """Whether more than figures has changed since `network` was last called."""
        return bool(self._touched)

    def apply(self, delta: Delta) -> bool:
        """Fold a delta in; whether the network model changed."""
        touched, figures = self._records.apply(delta.changes)
        self._version = delta.target
        if delta.changes:
            newest = max(change.received_at for change in delta.changes)
            self._now = max(self._now, newest)
        self._touched |= touched
        self._figures |= figures
        return bool(touched or figures)

    def set_stale(self, device: str, stale: bool) -> None:
        """Mark what a device reported as stale, or fresh again."""
        if stale != (device in self._stale):
            (self._stale.add if stale else self._stale.discard)(device)
            self._touched |= self._device_of.keys(device)

    def network(self) -> Network:
        """The network at the version of the last delta. Immutable; the same object while nothing changed."""
        changed: dict[str, Any] = {}
        structural = bool(self._touched)
        if self._touched or self._figures:
            touched, figures = self._touched, self._figures - self._touched
            self._touched, self._figures = set(), set()
            changed = self._rebuild(touched, figures)
        if self._version != self._network.version:
            changed["version"] = self._version
        if changed:
            self._network = replace(self._network, **changed)
        unmeasured = self._overdue()
        if structural or unmeasured != self._unmeasured:
            self._unmeasured = unmeasured
            self._network = replace(self._network, findings=self._findings())
        return self._network

    # --- which elements

    def _rebuild(self, touched: Iterable[RecordKey], figures: Iterable[RecordKey]) -> dict[str, Any]:
        """The collections in which something changed, as copies with the change."""
        dirty: dict[Kind, set[str]] = {kind: set() for kind in _COLLECTIONS}
        for key in touched:
            self._index(key, dirty)
        for key in self._derived.update(touched):
            self._index(key, dirty)
        for key in figures:
            self._note_figures(key, dirty)
        makers: list[tuple[Kind, Callable[[RecordKey, str], Any]]] = [
            (Kind.NODE, self._node),
            (Kind.TERMINATION_POINT, self._point),
            (Kind.LINK, self._link),
            (Kind.FUNCTION, lambda key, _: elements.function(key, self._of(key), stale=self._is_stale(key))),
            (Kind.CELL, self._cell),
            (Kind.HOST, self._host),
        ]
        changed: dict[str, Any] = {}
        for kind, make in makers:
            ids = dirty[kind]
            if not ids:
                continue
            name = _COLLECTIONS[kind]
            copy: dict[str, Any] = dict(getattr(self._network, name))
            for identity in ids:
                before = copy.get(identity)
                claimants = self._claims[kind].keys(identity)
                if claimants:
                    winner = min(claimants, key=lambda key: (key.device, key.kind is not kind, key.keys))
                    copy[identity] = make(winner, identity)
                else:
                    copy.pop(identity, None)
                if kind is Kind.TERMINATION_POINT and _bearing(before) != _bearing(copy.get(identity)):
                    ends = self._source_of.keys(identity) | self._dest_of.keys(identity)
                    dirty[Kind.LINK].update(key.keys[-1] for key in ends)
                if kind in {Kind.TERMINATION_POINT, Kind.LINK}:
                    self._wait_for_figures(identity, copy.get(identity))
            changed[name] = copy
            if kind is Kind.TERMINATION_POINT:
                self._points = copy
        return changed

    def _index(self, key: RecordKey, dirty: dict[Kind, set[str]]) -> None:
        """Note what a touched record says now, and mark every element that rests on it."""
        record = self._record(key)
        said: Mapping[str, Any] = record.attributes if record else {}
        kind, device = key.kind, key.device
        if kind is Kind.INTERFACE:
            for point in self._interface_of.keys((device, key.keys[0])):
                dirty[Kind.TERMINATION_POINT].add(point.keys[-1])
            return
        if kind in {Kind.SYSTEM, Kind.NEIGHBOUR, Kind.ALARM}:
            return  # seen to by what is derived of them, or none of the network's business
        if kind in {Kind.GNB, Kind.CELL, Kind.APPLICATION, Kind.HOST, Kind.COMPONENT}:
            self._kin.put(key, (device, kind) if record else None)
        if kind in {Kind.LINK_FIGURES, Kind.COUNTERS, Kind.GNB, Kind.APPLICATION, Kind.COMPONENT}:
            self._note_figures(key, dirty)
            return
        self._device_of.put(key, device if record else None)
        identity = said.get("id") if kind in _NAMED else key.keys[-1]
        self._claim(kind, key, identity if record else None, dirty)
        if kind is Kind.TERMINATION_POINT:
            self._claim(Kind.NODE, key, key.keys[-2] if record else None, dirty)
            interface, border = said.get("interface"), said.get("inter_domain_link_id")
            self._interface_of.put(key, (device, interface) if interface else None)
            self._border_of.put(key, (device, border) if border else None)
        elif kind is Kind.LINK:
            self._source_of.put(key, said.get("source_tp"))
            self._dest_of.put(key, said.get("dest_tp"))

    def _claim(self, kind: Kind, key: RecordKey, identity: str | None, dirty: dict[Kind, set[str]]) -> None:
        before = self._claims[kind].put(key, identity)
        dirty[kind].update(name for name in (before, identity) if name is not None)

    def _note_figures(self, key: RecordKey, dirty: dict[Kind, set[str]]) -> None:
        """Mark the elements that a record adds to, of which it is not the record."""
        kind, device = key.kind, key.device
        if kind is Kind.LINK_FIGURES:
            if self._claims[Kind.LINK].keys(key.keys[0]):
                dirty[Kind.LINK].add(key.keys[0])
            for point in self._border_of.keys((device, key.keys[0])):
                dirty[Kind.TERMINATION_POINT].add(point.keys[-1])
        elif kind is Kind.COUNTERS:
            for point in self._interface_of.keys((device, key.keys[0])):
                dirty[Kind.TERMINATION_POINT].add(point.keys[-1])
        elif kind is Kind.COMPONENT:
            claims = self._claims[Kind.NODE]
            named = (claims.get(other) for other in self._device_of.keys(device))
            dirty[Kind.NODE].update(name for name in named if name is not None)
        elif kind in {Kind.GNB, Kind.APPLICATION}:
            of = Kind.CELL if kind is Kind.GNB else Kind.HOST
            named = (
                self._claims[of].get(other) for other in self._device_of.keys(device) if other.kind is of
            )
            dirty[of].update(name for name in named if name is not None)
        else:
            identity = self._claims[kind].get(key) if kind in _COLLECTIONS else None
            if identity is not None:
                dirty[kind].add(identity)

    # --- one element of each kind

    def _record(self, key: RecordKey) -> Record | None:
        return self._records.get(key) or self._derived.get(key)

    def _of(self, key: RecordKey) -> Record:
        return self._record(key) or Record()

    def _stated_point(self, port: Port) -> RecordKey | None:
        """The termination point of a port in the topology that its device states."""
        return min(self._interface_of.keys((port.device, port.name)), default=None)

    def _is_stale(self, key: RecordKey) -> bool:
        return key.device in self._stale

    def _node(self, key: RecordKey, identity: str) -> Any:
        record = self._record(key) if key.kind is Kind.NODE else None
        found = (self._records.get(part) for part in sorted(self._kin.keys((key.device, Kind.COMPONENT))))
        parts = [part for part in found if part is not None]
        return elements.node(key, record, identity, parts=parts, stale=self._is_stale(key))

    def _point(self, key: RecordKey, identity: str) -> Any:
        interface, border = self._interface_of.get(key), self._border_of.get(key)
        return elements.termination_point(
            key,
            self._of(key),
            interface=self._joined(Kind.INTERFACE, interface),
            figures=self._joined(Kind.LINK_FIGURES, border),
            counters=self._joined(Kind.COUNTERS, interface),
            stale=self._is_stale(key),
        )

    def _link(self, key: RecordKey, identity: str) -> Any:
        ends = (self._source_of.get(key) or "", self._dest_of.get(key) or "")
        return elements.link(
            key,
            self._of(key),
            ends=(self._points.get(ends[0]), self._points.get(ends[1])),
            figures=self._joined(Kind.LINK_FIGURES, (key.device, identity)),
            stale=self._is_stale(key),
        )

    def _cell(self, key: RecordKey, identity: str) -> Any:
        gnbs = self._kin.keys((key.device, Kind.GNB))
        gnb = self._records.get(min(gnbs)) if gnbs else None
        return elements.cell(key, self._of(key), gnb=gnb, stale=self._is_stale(key))

    def _host(self, key: RecordKey, identity: str) -> Any:
        names = [other.keys[-1] for other in self._kin.keys((key.device, Kind.APPLICATION))]
        return elements.host(key, self._of(key), applications=names, stale=self._is_stale(key))

    def _joined(self, kind: Kind, known_by: tuple[str, str] | None) -> Record | None:
        return self._records.get(RecordKey(kind, known_by[0], known_by[1:])) if known_by else None

    # --- what a person should see

    def _wait_for_figures(self, identity: str, element: Any) -> None:
        outside = isinstance(element, TerminationPoint) and element.inter_domain is None
        if element is None or outside or element.kpis or not element.up:
            self._waiting.pop(identity, None)
        else:
            self._waiting.setdefault(identity, self._now)

    def _overdue(self) -> frozenset[str]:
        if not self._waiting:
            return frozenset()
        return frozenset(
            identity for identity, since in self._waiting.items() if self._now - since >= UNMEASURED_AFTER
        )

    def _findings(self) -> tuple[Finding, ...]:
        claims: dict[tuple[str, str], list[str]] = {}
        for kind, index in self._claims.items():
            if kind is Kind.TERMINATION_POINT:
                continue  # its node says it already
            for identity, keys in index.shared():
                devices = {key.device for key in keys}
                if len(devices) > 1:
                    claims[kind.value, identity] = sorted(devices)
        nameless: dict[tuple[str, str], int] = {}
        for kind in _NAMED:
            for key, record in self._records.of(kind).items():
                if "id" not in record.attributes:
                    nameless[kind.value, key.device] = nameless.get((kind.value, key.device), 0) + 1
        wanted = ("inter_domain_link_id", "peer_domain", "inter_domain_capacity_mbps")
        figures = self._records.of(Kind.LINK_FIGURES)
        evidence = Evidence(
            interfaces={(key.device, key.keys[0]) for key in self._records.of(Kind.INTERFACE)},
            claims=claims,
            nameless=nameless,
            incomplete_borders=[
                key.keys[-1]
                for key, record in self._records.of(Kind.TERMINATION_POINT).items()
                if 0 < sum(name in record.attributes for name in wanted) < len(wanted)
            ],
            homeless_figures=[
                (key.device, key.keys[0])
                for key in figures
                if not self._border_of.keys((key.device, key.keys[0]))
                and all(link.device != key.device for link in self._claims[Kind.LINK].keys(key.keys[0]))
            ],
            unmeasured=self._unmeasured,
            refused=self._records.refused,
            neighbours=self._derived.findings,
        )
        return check(self._network, evidence)


def _bearing(point: TerminationPoint | None) -> tuple[object, ...] | None:
    """What a link takes from its ends."""
    return None if point is None else (point.speed_mbps, point.up, point.stale)
