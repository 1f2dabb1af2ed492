"""Alarms on the wire. Part of `convert`, where the rules are."""

from __future__ import annotations

from domain_twin.model import Alarm, AlarmKey, OperatorState, PerceivedSeverity, StatusChange
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import named


def encode_alarm(alarm: Alarm) -> pb.Alarm:
    """An alarm as a message."""
    return pb.Alarm(
        id=alarm.id,
        domain=alarm.key.domain,
        device=alarm.key.device,
        resource=alarm.key.resource,
        alarm_type=alarm.key.alarm_type,
        qualifier=alarm.key.qualifier,
        source=alarm.source,
        severity=alarm.severity,
        text=alarm.text,
        is_cleared=alarm.is_cleared,
        created_at=alarm.created_at,
        raised_at=alarm.raised_at,
        changed_at=alarm.changed_at,
        cleared_at=alarm.cleared_at,
        element=alarm.element,
        remedy=alarm.remedy,
        occurrences=alarm.occurrences,
        stale=alarm.stale,
        operator_state=alarm.operator_state,
        operator=alarm.operator,
        note=alarm.note,
        changes=[
            pb.AlarmStatusChange(at=step.at, severity=step.severity or "", text=step.text)
            for step in alarm.changes
        ],
    )


def decode_alarm(message: pb.Alarm) -> Alarm:
    """An alarm. Raises ContractError."""
    return Alarm(
        key=AlarmKey(
            message.domain,
            message.device,
            named(message, "resource"),
            named(message, "alarm_type"),
            message.qualifier,
        ),
        source=message.source,
        severity=_severity(message.severity),
        text=message.text,
        is_cleared=message.is_cleared,
        created_at=message.created_at,
        raised_at=message.raised_at,
        changed_at=message.changed_at,
        cleared_at=message.cleared_at,
        element=message.element,
        remedy=message.remedy,
        occurrences=message.occurrences,
        stale=message.stale,
        operator_state=_operator_state(message.operator_state),
        operator=message.operator,
        note=message.note,
        changes=tuple(
            StatusChange(step.at, _severity(step.severity) if step.severity else None, step.text)
            for step in message.changes
        ),
    )


def _severity(word: str) -> PerceivedSeverity:
    try:
        return PerceivedSeverity(word)
    except ValueError:
        return PerceivedSeverity.INDETERMINATE


def _operator_state(word: str) -> OperatorState:
    try:
        return OperatorState(word)
    except ValueError:
        return OperatorState.NONE  # shown: better seen twice than never
