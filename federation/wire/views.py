"""Views on the wire: versions, points, segments, steps. Parts of `convert`, where the rules are."""

from __future__ import annotations

from collections.abc import Mapping

from domain_twin.errors import ContractError
from domain_twin.model import Level, Origin, PathKpis, Point, PointKind, Segment, Version, View, ViewDelta
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import at_least_zero, named, part, ratio, word

ORIGINS: Mapping[str, Origin] = {str(word): word for word in Origin}
_POINT_KINDS: Mapping[str, PointKind] = {str(word): word for word in PointKind}


def encode_version(version: Version) -> pb.Version:
    """A version as a message."""
    return pb.Version(epoch=version.epoch, sequence=version.sequence, observed_at=version.observed_at)


def decode_version(message: pb.Version) -> Version:
    """The version that a message holds."""
    return Version(message.epoch, message.sequence, message.observed_at)


def encode_path_kpis(kpis: PathKpis) -> pb.PathKpis:
    """A path's KPIs as a message; shared risks in order, so that equal KPIs are equal bytes."""
    return pb.PathKpis(
        delay_ms=kpis.delay_ms,
        delay_variance_ms2=kpis.delay_variance_ms2,
        loss=kpis.loss,
        bandwidth_mbps=kpis.bandwidth_mbps,
        metric=kpis.metric,
        availability=kpis.availability,
        delay_std_error_ms=kpis.delay_std_error_ms,
        origin=kpis.origin,
        shared_risks=sorted(kpis.shared_risks),
    )


def decode_path_kpis(message: pb.PathKpis) -> PathKpis:
    """The path KPIs that a message holds. Raises ContractError for what no path can have."""
    return PathKpis(
        delay_ms=at_least_zero(message, "delay_ms"),
        delay_variance_ms2=at_least_zero(message, "delay_variance_ms2"),
        loss=ratio(message, "loss"),
        bandwidth_mbps=at_least_zero(message, "bandwidth_mbps"),
        metric=message.metric,
        availability=ratio(message, "availability"),
        delay_std_error_ms=at_least_zero(message, "delay_std_error_ms"),
        origin=ORIGINS.get(message.origin, Origin.SYNTHETIC),
        shared_risks=frozenset(message.shared_risks),
    )


def encode_point(point: Point) -> pb.Point:
    """A point of a view as a message."""
    return pb.Point(
        id=point.id,
        domain=point.domain,
        kind=point.kind,
        role=point.role,
        up=point.up,
        link_id=point.link_id,
        peer_domain=point.peer_domain,
        capacity_mbps=point.capacity_mbps,
        metric=point.metric,
        outbound=None if point.outbound is None else encode_path_kpis(point.outbound),
        stale=point.stale,
    )


def decode_point(message: pb.Point) -> Point:
    """The point that a message holds. Raises ContractError."""
    return Point(
        id=named(message, "id"),
        domain=message.domain,
        kind=_POINT_KINDS.get(message.kind, PointKind.NODE),
        role=message.role,
        up=message.up,
        link_id=message.link_id,
        peer_domain=message.peer_domain,
        capacity_mbps=at_least_zero(message, "capacity_mbps"),
        metric=message.metric,
        outbound=decode_path_kpis(message.outbound) if message.HasField("outbound") else None,
        stale=message.stale,
    )


def encode_segment(segment: Segment) -> pb.Segment:
    """A segment of a view as a message."""
    return pb.Segment(
        source=segment.source,
        target=segment.target,
        current=None if segment.current is None else encode_path_kpis(segment.current),
        options=[encode_path_kpis(option) for option in segment.options],
        truncated=segment.truncated,
        stale=segment.stale,
    )


def decode_segment(message: pb.Segment) -> Segment:
    """The segment that a message holds. Raises ContractError."""
    return Segment(
        source=named(message, "source"),
        target=named(message, "target"),
        current=decode_path_kpis(message.current) if message.HasField("current") else None,
        options=tuple(decode_path_kpis(option) for option in message.options),
        truncated=message.truncated,
        stale=message.stale,
    )


def encode_view_delta(delta: ViewDelta) -> pb.ViewDelta:
    """A step from one version of a view to the next, or a complete one, as a message."""
    return pb.ViewDelta(
        domain=delta.domain,
        agreement=delta.agreement,
        level=delta.level,
        source=None if delta.source is None else encode_version(delta.source),
        target=encode_version(delta.target),
        points=[encode_point(point) for point in delta.points],
        segments=[encode_segment(segment) for segment in delta.segments],
        gone_points=delta.gone_points,
        gone_segments=[pb.SegmentKey(source=source, target=target) for source, target in delta.gone_segments],
        hidden_nodes=delta.hidden_nodes,
        hidden_links=delta.hidden_links,
        expires_at=delta.expires_at,
    )


def decode_view_delta(message: pb.ViewDelta) -> ViewDelta:
    """The step that a message holds. Raises ContractError; an unknown level is refused."""
    return ViewDelta(
        domain=named(message, "domain"),
        agreement=message.agreement,
        level=word(message, "level", Level),
        source=decode_version(message.source) if message.HasField("source") else None,
        target=decode_version(part(message, "target")),
        points=tuple(decode_point(point) for point in message.points),
        segments=tuple(decode_segment(segment) for segment in message.segments),
        gone_points=tuple(message.gone_points),
        gone_segments=tuple((key.source, key.target) for key in message.gone_segments),
        hidden_nodes=message.hidden_nodes,
        hidden_links=message.hidden_links,
        expires_at=message.expires_at,
    )


def encode_view(view: View) -> pb.ViewDelta:
    """A view as a complete step. Views on the wire are always of live state."""
    return encode_view_delta(
        ViewDelta(
            domain=view.domain,
            agreement=view.agreement,
            level=view.level,
            source=None,
            target=view.version,
            points=tuple(view.points.values()),
            segments=tuple(view.segments.values()),
            hidden_nodes=view.hidden_nodes,
            hidden_links=view.hidden_links,
            expires_at=view.expires_at,
        )
    )


def decode_view(message: pb.ViewDelta) -> View:
    """The view that a complete step holds. Raises ContractError for one that builds on another version."""
    if message.HasField("source"):
        raise ContractError(
            "ViewDelta.source: this view builds on a version that is not here; ask for a whole"
        )
    delta = decode_view_delta(message)
    return View(
        domain=delta.domain,
        agreement=delta.agreement,
        level=delta.level,
        version=delta.target,
        points={point.id: point for point in delta.points},
        segments={(segment.source, segment.target): segment for segment in delta.segments},
        hidden_nodes=delta.hidden_nodes,
        hidden_links=delta.hidden_links,
        expires_at=delta.expires_at,
    )
