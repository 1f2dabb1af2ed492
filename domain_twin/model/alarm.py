"""Alarms with their life cycle (RFC 8632): what is wrong, where, since when, who looks after it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from domain_twin.model.values import Nanoseconds


class PerceivedSeverity(StrEnum):
    """How bad an alarm is, least first (RFC 8632 4.1; ITU-T X.733 8.1.2.3)."""

    INDETERMINATE = "indeterminate"
    WARNING = "warning"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least severe."""
        return list(PerceivedSeverity).index(self)


class OperatorState(StrEnum):
    """What people have said of an alarm (RFC 8632 3.6)."""

    NONE = "none"
    ACK = "ack"
    CLOSED = "closed"
    SHELVED = "shelved"


class AlarmKey(NamedTuple):
    """What makes two alarms the same one (RFC 8632 3.2, with the domain and device that report it)."""

    domain: str
    device: str
    resource: str
    alarm_type: str
    qualifier: str = ""

    @property
    def id(self) -> str:
        """A short name of the key, the same everywhere and for ever."""
        return hashlib.blake2s("\0".join(self).encode(), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, as its source says it; the source says all of them, each time."""

    key: AlarmKey
    severity: PerceivedSeverity
    text: str
    element: str = ""  # of the network model, where it is known
    raised_at: Nanoseconds = 0  # 0: the moment it is first said
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A step in an alarm's life (RFC 8632 status-change); `severity` None: it was cleared."""

    at: Nanoseconds
    severity: PerceivedSeverity | None
    text: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm: raised and cleared any number of times, and what operators said of it."""

    key: AlarmKey
    source: str  # who reports it: a device, or a part of the twin
    severity: PerceivedSeverity  # the last one, also when cleared
    text: str
    is_cleared: bool
    created_at: Nanoseconds
    raised_at: Nanoseconds  # the last time
    changed_at: Nanoseconds
    cleared_at: Nanoseconds = 0  # 0: it stands
    element: str = ""
    remedy: str = ""
    occurrences: int = 1  # times it was raised
    stale: bool = False  # its source does not answer: it may be over
    operator_state: OperatorState = OperatorState.NONE
    operator: str = ""
    note: str = ""
    changes: tuple[StatusChange, ...] = ()  # the last ones, oldest first

    @property
    def id(self) -> str:
        """A short name for people to type."""
        return self.key.id

    @property
    def active(self) -> bool:
        """Whether a person should still see it: it stands, and nobody closed or shelved it."""
        return not self.is_cleared and self.operator_state not in (
            OperatorState.CLOSED,
            OperatorState.SHELVED,
        )
