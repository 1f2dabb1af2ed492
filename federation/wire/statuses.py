"""Statuses, elements, findings and events on the wire. Parts of `convert`, where the rules are."""

from __future__ import annotations

from collections.abc import Mapping

from domain_twin.model import (
    Connection,
    DeviceStatus,
    DomainStatus,
    Element,
    Event,
    EventKind,
    Finding,
    Kpi,
    Level,
    Origin,
    Sample,
    Severity,
)
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.alarms import decode_alarm, encode_alarm
from federation.wire.answers import decode_service_status, encode_service_status
from federation.wire.fields import at_least_zero, named, number
from federation.wire.views import ORIGINS, decode_version, encode_version

_LEVELS: Mapping[str, Level] = {str(word): word for word in Level}


def encode_domain_status(status: DomainStatus) -> pb.DomainStatus:
    """A domain as the server sees it, as a message."""
    return pb.DomainStatus(
        domain=status.domain,
        operator=status.operator,
        connected=status.connected,
        level=status.level or "",
        version=None if status.version is None else encode_version(status.version),
        received_at=status.received_at,
        points=status.points,
        segments=status.segments,
        hidden_nodes=status.hidden_nodes,
        hidden_links=status.hidden_links,
        peer=status.peer,
        problem=status.problem,
    )


def decode_domain_status(message: pb.DomainStatus) -> DomainStatus:
    """A domain as the server sees it. Raises ContractError."""
    return DomainStatus(
        domain=named(message, "domain"),
        operator=message.operator,
        connected=message.connected,
        level=_LEVELS.get(message.level),
        version=decode_version(message.version) if message.HasField("version") else None,
        received_at=message.received_at,
        points=message.points,
        segments=message.segments,
        hidden_nodes=message.hidden_nodes,
        hidden_links=message.hidden_links,
        peer=message.peer,
        problem=message.problem,
    )


def encode_device_status(status: DeviceStatus) -> pb.DeviceStatus:
    """How well a device is mirrored, as a message."""
    return pb.DeviceStatus(
        name=status.name,
        protocol=status.protocol,
        connection=status.connection,
        address=status.address,
        received_at=status.received_at,
        leaves=status.leaves,
        updates=status.updates,
        quarantined=status.quarantined,
        reconnects=status.reconnects,
        problem=status.problem,
    )


def decode_device_status(message: pb.DeviceStatus) -> DeviceStatus:
    """How well a device is mirrored. Raises ContractError."""
    connection, problem = Connection.STALE, message.problem
    try:
        connection = Connection(message.connection)
    except ValueError:
        problem = f"{message.connection or 'no connection state'}: {problem}".rstrip(": ")
    return DeviceStatus(
        name=named(message, "name"),
        protocol=message.protocol,
        connection=connection,
        address=message.address,
        received_at=message.received_at,
        leaves=message.leaves,
        updates=message.updates,
        quarantined=message.quarantined,
        reconnects=message.reconnects,
        problem=problem,
    )


def encode_finding(finding: Finding) -> pb.Finding:
    """A finding as a message."""
    return pb.Finding(
        code=finding.code,
        severity=finding.severity,
        domain=finding.domain,
        element=finding.element,
        message=finding.message,
        remedy=finding.remedy,
        since=finding.since,
    )


def decode_finding(message: pb.Finding) -> Finding:
    """A finding; one of an unknown severity is a warning."""
    try:
        severity = Severity(message.severity)
    except ValueError:
        severity = Severity.WARNING
    return Finding(
        code=message.code,
        severity=severity,
        domain=message.domain,
        element=message.element,
        message=message.message,
        remedy=message.remedy,
        since=message.since,
    )


def encode_kpi(kpi: Kpi) -> pb.Kpi:
    """A figure of merit as a message."""
    return pb.Kpi(
        name=kpi.name,
        value=kpi.value,
        unit=kpi.unit,
        std_error=kpi.std_error,
        origin=kpi.origin,
        observed_at=kpi.observed_at,
        received_at=kpi.received_at,
    )


def decode_kpi(message: pb.Kpi) -> Kpi:
    """A figure of merit. Raises ContractError."""
    return Kpi(
        name=named(message, "name"),
        value=number(message, "value"),
        unit=message.unit,
        std_error=at_least_zero(message, "std_error"),
        origin=ORIGINS.get(message.origin, Origin.SYNTHETIC),
        observed_at=message.observed_at,
        received_at=message.received_at,
    )


def encode_element(element: Element) -> pb.Element:
    """An element in general form as a message."""
    return pb.Element(
        id=element.id,
        kind=element.kind,
        domain=element.domain,
        name=element.name,
        up=element.up,
        stale=element.stale,
        attributes=dict(element.attributes),
        kpis=[encode_kpi(kpi) for kpi in element.kpis],
    )


def decode_element(message: pb.Element) -> Element:
    """An element in general form. Raises ContractError."""
    return Element(
        id=named(message, "id"),
        kind=message.kind,
        domain=message.domain,
        name=message.name,
        up=message.up,
        stale=message.stale,
        attributes=dict(message.attributes),
        kpis=tuple(decode_kpi(kpi) for kpi in message.kpis),
    )


def encode_sample(sample: Sample) -> pb.Sample:
    """One point of a series as a message."""
    return pb.Sample(at=sample.at, value=sample.value, origin=sample.origin)


def decode_sample(message: pb.Sample) -> Sample:
    """One point of a series. Raises ContractError."""
    return Sample(message.at, number(message, "value"), ORIGINS.get(message.origin, Origin.SYNTHETIC))


def encode_event(event: Event) -> pb.Event:
    """An event as a message."""
    message = pb.Event(
        id=event.id,
        at=event.at,
        kind=event.kind,
        domain=event.domain,
        text=event.text,
        observed_at=event.observed_at,
    )
    if event.domain_status is not None:
        message.domain_status.CopyFrom(encode_domain_status(event.domain_status))
    if event.service_status is not None:
        message.service_status.CopyFrom(encode_service_status(event.service_status))
    if event.finding is not None:
        message.finding.CopyFrom(encode_finding(event.finding))
    if event.device_status is not None:
        message.device_status.CopyFrom(encode_device_status(event.device_status))
    if event.alarm is not None:
        message.alarm.CopyFrom(encode_alarm(event.alarm))
    return message


def decode_event(message: pb.Event) -> Event:
    """An event; one of an unknown kind is a CHANGE whose text begins with that word. Raises ContractError."""
    kind, text = EventKind.CHANGE, message.text
    try:
        kind = EventKind(message.kind)
    except ValueError:
        text = f"{message.kind or 'event'}: {text}".rstrip(": ")
    domain_status, service_status, finding, device_status = (
        message.HasField(name) for name in ("domain_status", "service_status", "finding", "device_status")
    )
    return Event(
        id=message.id,
        at=message.at,
        kind=kind,
        domain=message.domain,
        text=text,
        domain_status=decode_domain_status(message.domain_status) if domain_status else None,
        service_status=decode_service_status(message.service_status) if service_status else None,
        finding=decode_finding(message.finding) if finding else None,
        device_status=decode_device_status(message.device_status) if device_status else None,
        observed_at=message.observed_at,
        alarm=decode_alarm(message.alarm) if message.HasField("alarm") else None,
    )
