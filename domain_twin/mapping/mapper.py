"""Records joined into the network model. Owns joins, and which elements a change touches.

A change of figures rebuilds the elements it belongs to; anything else (a link goes down, a metric changes, a
device appears) joins the domain's records anew, which takes about 10 us an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from domain_twin.mapping.integrity import check
from domain_twin.mapping.records import Record, RecordKey, Records
from domain_twin.mapping.table import Kind, Table
from domain_twin.mapping.tables import TABLES
from domain_twin.model import (
    DELAY,
    DELAY_VARIANCE,
    Cell,
    Delta,
    Finding,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    NetworkFunction,
    Node,
    TerminationPoint,
    Version,
)

_NOTHING: Record = Record()


class Mapper:
    """Keeps one domain's network model up to date with its datastore."""

    def __init__(self, domain: str, tables: Iterable[Table] = TABLES) -> None:
        self.domain = domain
        self.unmapped = 0
        """Values that were of their YANG type and yet made no sense to the tables."""
        self._records = Records(tables)
        self._stale: set[str] = set()
        self._version = Version("", 0)
        self._network: Network | None = None
        self._touched: set[RecordKey] = set()
        self._owners: dict[RecordKey, tuple[str, str]] = {}  # record -> (collection, element id)

    def apply(self, delta: Delta) -> bool:
        """Fold a delta in; whether the network model changed."""
        self._version = delta.target
        touched, structural = self._records.apply(delta.changes)
        self.unmapped = self._records.unmapped
        if structural:
            self._network = None
        elif self._network is not None:
            self._touched |= touched
        return structural or bool(touched)

    def set_stale(self, device: str, stale: bool) -> None:
        """Mark what a device reported as stale, or fresh again."""
        if stale != (device in self._stale):
            (self._stale.add if stale else self._stale.discard)(device)
            self._network = None

    def network(self) -> Network:
        """The network at the version of the last delta. Immutable; the same object while nothing changed."""
        if self._network is None:
            self._network = self._join()
        elif self._touched:
            self._network = self._refresh(self._network)
        elif self._network.version != self._version:
            self._network = replace(self._network, version=self._version)
        self._touched = set()
        return self._network

    # --- all anew

    def _join(self) -> Network:
        self._owners = {}
        interfaces = {
            (key.device, key.keys[0]): record.attributes for key, record in self._of(Kind.INTERFACE).items()
        }
        nodes = self._elements(Kind.NODE, "nodes", self._node)
        points: dict[str, TerminationPoint] = {}
        for key, record in self._of(Kind.TERMINATION_POINT).items():
            if "id" in record.attributes:
                point = self._point(key, record, interfaces)
                points.setdefault(point.id, point)
        links: dict[str, Link] = {}
        for key, record in self._of(Kind.LINK).items():
            if "id" in record.attributes:
                link = self._link(key, record, points)
                links.setdefault(link.id, link)
        self._add_figures(links, points)
        network = Network(
            domain=self.domain,
            version=self._version,
            nodes=nodes,
            termination_points=points,
            links=links,
            functions=self._elements(Kind.FUNCTION, "functions", self._function),
            cells=self._elements(Kind.CELL, "cells", self._cell),
            hosts=self._elements(Kind.HOST, "hosts", self._host),
        )
        return replace(network, findings=tuple(self._check(network, interfaces)))

    def _elements(
        self, kind: Kind, collection: str, make: Callable[[RecordKey, Record], Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, record in self._of(kind).items():
            identity = record.attributes.get("id")
            if identity is not None and identity not in found:
                found[identity] = make(key, record)
                self._owners[key] = (collection, identity)
        return found

    def _add_figures(self, links: dict[str, Link], points: dict[str, TerminationPoint]) -> None:
        borders = {
            (point.device, point.inter_domain.link_id): point.id
            for point in points.values()
            if point.inter_domain
        }
        for key, record in self._of(Kind.LINK_FIGURES).items():
            link_id = key.keys[0]
            link = links.get(link_id)
            if link is not None and link.device == key.device:
                links[link_id] = replace(link, kpis=_kpis(record))
                self._owners[key] = ("links", link_id)
            elif point_id := borders.get((key.device, link_id)):
                points[point_id] = replace(points[point_id], kpis=_kpis(record))
                self._owners[key] = ("termination_points", point_id)

    def _check(self, network: Network, interfaces: Mapping[tuple[str, str], Any]) -> Iterable[Finding]:
        claims: dict[str, list[str]] = {}
        for key, record in self._of(Kind.NODE).items():
            if "id" in record.attributes:
                claims.setdefault(record.attributes["id"], []).append(key.device)
        return check(network, claims=claims, interfaces=interfaces.keys())

    # --- only figures

    def _refresh(self, network: Network) -> Network:
        """Rebuild the elements whose figures changed. No figure of one element belongs to another."""
        copies: dict[str, dict[str, Any]] = {}
        for key in self._touched:
            owner = self._owners.get(key)
            record = self._records.by_kind[key.kind].get(key)
            if owner is None or record is None:
                continue
            collection, identity = owner
            elements = copies.get(collection)
            if elements is None:
                elements = copies[collection] = dict(getattr(network, collection))
            elements[identity] = replace(elements[identity], kpis=_kpis(record))
        changed: dict[str, Any] = {"version": self._version, **copies}
        return replace(network, **changed)

    # --- one element of each kind

    def _of(self, kind: Kind) -> dict[RecordKey, Record]:
        return self._records.by_kind[kind]

    def _node(self, key: RecordKey, record: Record) -> Node:
        identity = record.attributes["id"]
        name = record.attributes.get("name") or identity.rpartition(":")[2]
        return Node(id=identity, device=key.device, name=name, stale=key.device in self._stale)

    def _point(
        self, key: RecordKey, record: Record, interfaces: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> TerminationPoint:
        said = record.attributes
        name = said.get("interface", "")
        interface = interfaces.get((key.device, name), {})
        border = None
        if "inter_domain_link_id" in said:
            border = InterDomainEnd(
                link_id=said["inter_domain_link_id"],
                peer_domain=said.get("peer_domain", ""),
                capacity_mbps=said.get("inter_domain_capacity_mbps", 0.0),
                metric=said.get("inter_domain_metric", 1),
            )
        return TerminationPoint(
            id=said["id"],
            node=key.keys[1],
            device=key.device,
            interface=name,
            enabled=interface.get("enabled", True),
            oper_up=interface.get("oper_up", False),
            speed_mbps=interface.get("speed_mbps", 0.0),
            inter_domain=border,
            stale=key.device in self._stale,
        )

    def _link(self, key: RecordKey, record: Record, points: Mapping[str, TerminationPoint]) -> Link:
        said = record.attributes
        source_tp, dest_tp = said.get("source_tp", ""), said.get("dest_tp", "")
        ends = [point for point in (points.get(source_tp), points.get(dest_tp)) if point]
        return Link(
            id=said["id"],
            device=key.device,
            source_node=said.get("source_node", ""),
            source_tp=source_tp,
            dest_node=said.get("dest_node", ""),
            dest_tp=dest_tp,
            metric=said.get("metric", 1),
            capacity_mbps=min((end.speed_mbps for end in ends if end.speed_mbps), default=0.0),
            up=len(ends) == 2 and all(end.up for end in ends),
            stale=key.device in self._stale or any(end.stale for end in ends),
        )

    def _function(self, key: RecordKey, record: Record) -> NetworkFunction:
        return NetworkFunction(
            device=key.device,
            stale=key.device in self._stale,
            kpis=_kpis(record),
            **_said(record, NetworkFunction),
        )

    def _cell(self, key: RecordKey, record: Record) -> Cell:
        gnb = self._of(Kind.GNB).get(RecordKey(Kind.GNB, key.device, ()), _NOTHING).attributes
        said = _said(record, Cell) | {"node": gnb.get("node", "")}
        return Cell(device=key.device, stale=key.device in self._stale, kpis=_kpis(record), **said)

    def _host(self, key: RecordKey, record: Record) -> Host:
        applications = sorted(
            k.keys[0] for k in self._of(Kind.APPLICATION) if k.device == key.device and k.keys
        )
        return Host(
            device=key.device,
            stale=key.device in self._stale,
            applications=tuple(applications),
            kpis=_kpis(record),
            **_said(record, Host),
        )


def _said(record: Record, element: type) -> dict[str, Any]:
    """The record's attributes that the element has; a missing node is one that nobody knows."""
    said = {name: value for name, value in record.attributes.items() if name in element.__slots__}  # type: ignore[attr-defined]
    said.setdefault("node", "")
    return said


def _kpis(record: Record) -> dict[str, Kpi]:
    """The KPIs with the standard error of the mean delay: sqrt(variance / samples)."""
    delay, variance = record.kpis.get(DELAY), record.kpis.get(DELAY_VARIANCE)
    samples = record.attributes.get("samples", 0)
    if delay is None or variance is None or samples <= 0:
        return dict(record.kpis)
    return {**record.kpis, DELAY: replace(delay, std_error=math.sqrt(max(0.0, variance.value) / samples))}
