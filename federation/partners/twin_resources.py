"""What a partner finds inside its twin: points, what lies between them, inter-domain links (TMF639). Pure.

Made from what the domains show to this partner and from nothing else; what is hidden has no resource. How
old all this is, the twin says: on each resource it would be news all the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid5

from domain_twin.model import ANY_POINT, PathKpis, Point, PointKind, Segment, View
from federation.compose import ComposedGraph
from federation.partners.record import Body

__all__ = ["MOST_SEGMENTS", "resources"]

MOST_SEGMENTS = 2000
"""Segments of one domain that are shown one by one; a twin with more shows points and links alone."""
_NAMES = UUID("6f6b1c1e-2f7c-5a35-9d0b-6b1e7b0a4d11")
_CATEGORIES = {PointKind.BORDER: "borderPoint", PointKind.ENDPOINT: "endPoint", PointKind.NODE: "node"}


def resources(twin: str, graph: ComposedGraph) -> dict[str, Body]:
    """The resources of a twin by id; an id is the same as long as the twin lives."""
    found: dict[str, Body] = {}
    for member in graph.members.values():
        if member.view is None:
            continue
        for body in _of_view(twin, member.view, here=member.connected):
            found[body["id"]] = body
    for crossing in graph.crossings.values():
        body = _resource(
            twin,
            f"{crossing.source} to {crossing.target}",
            "interDomainLink",
            up=True,
            stale=crossing.stale,
            characteristics={"linkId": crossing.link_id, **_figures(crossing.kpis)},
            related=(("source", crossing.source), ("target", crossing.target)),
        )
        found[body["id"]] = body
    return found


def _of_view(twin: str, view: View, *, here: bool) -> Iterable[dict[str, Any]]:
    told = {"domain": view.domain, "level": view.level.value}
    for point in view.points.values():
        yield _resource(
            twin,
            point.id,
            _CATEGORIES[point.kind],
            up=point.up,
            stale=point.stale or not here,
            characteristics={**told, **_of_point(point)},
        )
    if len(view.segments) > MOST_SEGMENTS:
        return
    for segment in view.segments.values():
        yield _segment(twin, view.domain, segment, told, here=here)


def _segment(twin: str, domain: str, segment: Segment, told: Body, *, here: bool) -> dict[str, Any]:
    whole = segment.source == ANY_POINT
    return _resource(
        twin,
        f"{domain} between any two points" if whole else f"{segment.source} to {segment.target}",
        "segment",
        up=segment.current is not None,
        stale=segment.stale or not here,
        characteristics={
            **told,
            **(_figures(segment.current) if segment.current else {}),
            "options": [_figures(option) for option in segment.options],
            "truncated": segment.truncated,
        },
        related=() if whole else (("source", segment.source), ("target", segment.target)),
    )


def _of_point(point: Point) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if point.role:
        told["role"] = point.role
    if point.kind is PointKind.BORDER:
        told |= {
            "linkId": point.link_id,
            "peerDomain": point.peer_domain,
            "capacityMbps": point.capacity_mbps,
        }
    return told


def _figures(kpis: PathKpis) -> dict[str, Any]:
    """Figures that are known and disclosed: what is withheld is the worst case, and is left out."""
    figures = {
        "delayMs": kpis.delay_ms,
        "delayVarianceMs2": kpis.delay_variance_ms2,
        "loss": kpis.loss if kpis.loss < 1.0 else math.inf,
        "bandwidthMbps": kpis.bandwidth_mbps,
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _resource(
    twin: str,
    name: str,
    category: str,
    *,
    up: bool,
    stale: bool,
    characteristics: Mapping[str, Any],
    related: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    status = "unknown" if stale else "available" if up else "alarm"
    body: dict[str, Any] = {
        "id": _id(twin, category, name),
        "@type": "LogicalResource",
        "name": name,
        "category": category,
        "operationalState": "enable" if up else "disable",
        "administrativeState": "unlocked",
        "usageState": "active",
        "resourceStatus": status,
        "resourceCharacteristic": [
            {"name": "twin", "valueType": "string", "value": twin},
            *(
                {"name": key, "valueType": _type_of(value), "value": value}
                for key, value in characteristics.items()
            ),
        ],
    }
    if ends := [
        {
            "relationshipType": role,
            "resource": {"id": _point_id(twin, point), "name": point, "@type": "LogicalResource"},
        }
        for role, point in related
    ]:
        body["resourceRelationship"] = ends
    return body


def _id(twin: str, category: str, name: str) -> str:
    kind = category if category in ("segment", "interDomainLink") else "point"
    return str(uuid5(_NAMES, f"{twin}\0{kind}\0{name}"))


def _point_id(twin: str, name: str) -> str:
    return _id(twin, "point", name)


def _type_of(value: object) -> str:
    kinds: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
    return kinds.get(type(value), "object")
