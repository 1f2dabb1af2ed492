"""One element of each kind, made of what devices said of it. Pure; owns defaults and derived figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from domain_twin.mapping.records import Record, RecordKey
from domain_twin.model import (
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Cell,
    Counters,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    NetworkFunction,
    Node,
    TerminationPoint,
    no_kpis,
)

_COUNTERS = frozenset(Counters.__slots__)
_CASTS = ("unicast", "multicast", "broadcast")
_CHASSIS = "CHASSIS"
_SYSTEM = "OPERATING_SYSTEM"


def node(
    key: RecordKey, record: Record | None, identity: str, *, parts: Iterable[Record], stale: bool
) -> Node:
    """A node; one that is known only by its termination points has no record. `parts` are its components."""
    name = record.attributes.get("name") if record else None
    by_type = {part.attributes.get("type"): part.attributes for part in parts}
    chassis, system = by_type.get(_CHASSIS, {}), by_type.get(_SYSTEM, {})
    return Node(
        id=identity,
        device=key.device,
        name=name or identity.rpartition(":")[2],
        vendor=chassis.get("vendor", ""),
        part=chassis.get("part", ""),
        hardware=chassis.get("hardware", ""),
        software=system.get("software", "") or chassis.get("software", ""),
        serial=chassis.get("serial", ""),
        stale=stale,
    )


def termination_point(
    key: RecordKey,
    record: Record,
    *,
    interface: Record | None,
    figures: Record | None,
    counters: Record | None = None,
    stale: bool,
) -> TerminationPoint:
    """A termination point with its interface; without one it counts as down."""
    said = record.attributes
    port: Mapping[str, Any] = interface.attributes if interface else {"oper_up": False}
    return TerminationPoint(
        id=key.keys[-1],
        node=key.keys[-2],
        device=key.device,
        interface=said.get("interface", ""),
        enabled=port.get("enabled", True) and port.get("admin_up", True),
        oper_up=port.get("oper_up", True),
        speed_mbps=port.get("speed_mbps", 0.0),
        inter_domain=_border(said),
        kpis=kpis(figures),
        counters=_counters(counters),
        stale=stale,
    )


def _counters(record: Record | None) -> Counters | None:
    if record is None:
        return None
    said = record.attributes
    found = {name: value for name, value in said.items() if name in _COUNTERS}
    for way in ("in", "out"):  # RFC 8343 counts packets by whom they are for, and has no sum
        casts = [said[name] for cast in _CASTS if (name := f"{way}_{cast}_pkts") in said]
        if casts:
            found.setdefault(f"{way}_pkts", sum(casts))
    return Counters(**found)


def _border(said: Mapping[str, Any]) -> InterDomainEnd | None:
    if "inter_domain_link_id" not in said:
        return None
    return InterDomainEnd(
        link_id=said["inter_domain_link_id"],
        peer_domain=said.get("peer_domain", ""),
        capacity_mbps=said.get("inter_domain_capacity_mbps", 0.0),
        metric=said.get("inter_domain_metric", 1),
    )


def link(
    key: RecordKey,
    record: Record,
    *,
    ends: tuple[TerminationPoint | None, TerminationPoint | None],
    figures: Record | None,
    stale: bool,
) -> Link:
    """A link: as fast as its slower end, up when both ends are known and up, stale when either end is."""
    said = record.attributes
    known = [end for end in ends if end is not None]
    return Link(
        id=key.keys[-1],
        device=key.device,
        source_node=said.get("source_node", ""),
        source_tp=said.get("source_tp", ""),
        dest_node=said.get("dest_node", ""),
        dest_tp=said.get("dest_tp", ""),
        metric=said.get("metric", 1),
        capacity_mbps=min((end.speed_mbps for end in known if end.speed_mbps), default=0.0),
        up=len(known) == len(ends) and all(end.up for end in known),
        kpis=kpis(figures),
        stale=stale or any(end.stale for end in known),
    )


def function(key: RecordKey, record: Record, *, stale: bool) -> NetworkFunction:
    """A network function."""
    said = _attributes_of(record, NetworkFunction)
    return NetworkFunction(device=key.device, stale=stale, kpis=kpis(record), **said)


def cell(key: RecordKey, record: Record, *, gnb: Record | None, stale: bool) -> Cell:
    """A cell; its node is its own or that of its gNB."""
    said = _attributes_of(record, Cell)
    if not said["node"] and gnb:
        said["node"] = gnb.attributes.get("node", "")
    return Cell(device=key.device, stale=stale, kpis=kpis(record), **said)


def host(key: RecordKey, record: Record, *, applications: Iterable[str], stale: bool) -> Host:
    """An edge host with the names of its applications."""
    said = _attributes_of(record, Host) | {"applications": tuple(sorted(set(applications)))}
    return Host(device=key.device, stale=stale, kpis=kpis(record), **said)


def _attributes_of(record: Record, element: type) -> dict[str, Any]:
    names: tuple[str, ...] = element.__slots__  # type: ignore[attr-defined]
    return {"node": ""} | {name: value for name, value in record.attributes.items() if name in names}


def kpis(record: Record | None) -> Mapping[str, Kpi]:
    """The record's KPIs, with the standard errors that the number of packets implies.

    Of a mean delay: sqrt(variance / samples). Of a loss ratio p: sqrt(p (1 - p) / samples). Both take packets
    as independent; queueing correlates neighbours, so the true error is larger on a loaded link.
    """
    if record is None or not record.kpis:
        return no_kpis()
    samples = record.attributes.get("samples", 0)
    found = dict(record.kpis)
    if samples <= 0:
        return found
    delay, variance, loss = found.get(DELAY), found.get(DELAY_VARIANCE), found.get(LOSS)
    if delay is not None and variance is not None:
        found[DELAY] = _with_error(delay, math.sqrt(max(0.0, variance.value) / samples))
    if loss is not None:
        found[LOSS] = _with_error(loss, math.sqrt(max(0.0, loss.value * (1.0 - loss.value)) / samples))
    return found


def _with_error(kpi: Kpi, std_error: float) -> Kpi:
    # dataclasses.replace takes three times as long, and this runs for every link every interval.
    return Kpi(kpi.name, kpi.value, kpi.unit, std_error, kpi.origin, kpi.observed_at, kpi.received_at)
