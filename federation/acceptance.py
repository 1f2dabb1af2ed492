"""Whether a view can be about its domain at all. One that fails is refused, and the last good one stays."""

from __future__ import annotations

import math
from collections.abc import Iterable

from domain_twin.errors import ContractError
from domain_twin.model import ANY_POINT, Level, PathKpis, Point, PointKind, Segment, View, ViewDelta

__all__ = ["check_delta", "check_names"]

_LARGEST_LIST = 64
_LONGEST_NAME = 255


def check_delta(delta: ViewDelta, domain: str) -> None:
    """Refuse what a domain cannot say: points of others, impossible figures. Raises ContractError."""
    if delta.domain != domain:
        raise ContractError(f"{domain} sent a view of {delta.domain!r}; a domain speaks for itself alone")
    prefix = f"{domain}/"
    for point in delta.points:
        if not point.id.startswith(prefix) or point.domain != domain:
            raise ContractError(f"{domain} named the point {point.id!r}; its own start with {prefix!r}")
        _check_point(point, delta.level)
    for segment in delta.segments:
        _check_segment(segment, prefix, delta.level)


def check_names(delta: ViewDelta, view: View) -> None:
    """Refuse names that cannot be, and segments of points that `view`, the state after it, lacks.

    Raises ContractError.
    """
    for point in delta.points:
        if not point.id.isprintable() or len(point.id) > _LONGEST_NAME:
            raise ContractError(
                f"{delta.domain} named a point {point.id[:40]!r}; a name has printable characters, at most"
                f" {_LONGEST_NAME} of them"
            )
    for segment in delta.segments:
        for end in (segment.source, segment.target):
            if end not in view.points and end != ANY_POINT:
                raise ContractError(f"{delta.domain} sent a segment of {end!r}, a point that its view lacks")


def _check_point(point: Point, level: Level) -> None:
    if (point.kind is PointKind.BORDER) != bool(point.link_id):
        raise ContractError(f"point {point.id}: a border point, and only one, names an inter-domain link")
    if point.kind is PointKind.NODE and level is not Level.NATIVE:
        raise ContractError(
            f"point {point.id}: inner nodes belong in native views only, not in a {level.value}"
        )
    if not 0 <= point.capacity_mbps < math.inf:
        raise ContractError(f"point {point.id}: a capacity of {point.capacity_mbps} Mbit/s cannot be")
    if point.outbound is not None:
        _check_kpis(f"point {point.id}", (point.outbound,))


def _check_segment(segment: Segment, prefix: str, level: Level) -> None:
    name = f"segment {segment.source} to {segment.target}"
    ends = (segment.source, segment.target)
    if level is Level.NODE:
        if ends != (ANY_POINT, ANY_POINT):
            raise ContractError(f"{name}: a node view has one segment, from {ANY_POINT!r} to {ANY_POINT!r}")
    elif segment.source == segment.target or not all(end.startswith(prefix) for end in ends):
        raise ContractError(
            f"{name}: both ends have to be points of {prefix.rstrip('/')}, and different ones"
        )
    if len(segment.options) > _LARGEST_LIST:
        raise ContractError(f"{name}: {len(segment.options)} options; at most {_LARGEST_LIST} are accepted")
    delays = [option.delay_ms for option in segment.options]
    if delays != sorted(delays):
        raise ContractError(f"{name}: its options are not in order of delay")
    _check_kpis(name, segment.options if segment.current is None else (segment.current, *segment.options))


def _check_kpis(place: str, listed: Iterable[PathKpis]) -> None:
    for kpis in listed:
        # Written so that NaN, for which every comparison is false, fails.
        possible = (
            kpis.delay_ms >= 0
            and kpis.delay_variance_ms2 >= 0
            and kpis.delay_std_error_ms >= 0
            and 0 <= kpis.loss <= 1
            and kpis.bandwidth_mbps >= 0
            and kpis.metric >= 0
            and 0 <= kpis.availability <= 1
        )
        if not possible:
            raise ContractError(
                f"{place}: figures that cannot be: delay {kpis.delay_ms} ms, loss {kpis.loss},"
                f" bandwidth {kpis.bandwidth_mbps} Mbit/s, metric {kpis.metric}"
            )
