"""Southbound to datastore to mapping: `UpdateBatch` goes in, `Delta` comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from domain_twin.model.values import Nanoseconds, Origin, Value, Version


class Update(NamedTuple):
    """One leaf (or leaf-list) as a device reported it.

    `path` is a canonical instance identifier (RFC 7951 6.11): module names on the first node and wherever the
    module changes, list keys in schema order.
    """

    device: str
    path: str
    value: Value
    observed_at: Nanoseconds
    origin: Origin = Origin.MEASURED


class Delete(NamedTuple):
    """Everything at and below `path` ceased to exist on the device."""

    device: str
    path: str
    observed_at: Nanoseconds


class Sync(StrEnum):
    """What a batch says about completeness of its source's state."""

    NONE = "none"
    BEGIN = "begin"  # a full state follows; what is not repeated until END is gone
    END = "end"  # the state of the source is complete


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """What one source said at once. A source is a device, or a controller that speaks for many."""

    source: str
    received_at: Nanoseconds
    updates: tuple[Update, ...] = ()
    deletes: tuple[Delete, ...] = ()
    sync: Sync = Sync.NONE


class Connection(StrEnum):
    """State of the session to a device (fedtwin-twin: device/connection)."""

    CONNECTING = "connecting"
    SYNCHRONISING = "synchronising"
    SYNCHRONISED = "synchronised"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """How well a device is mirrored."""

    name: str
    protocol: str  # "netconf", "gnmi", "netconf+gnmi", "replay"
    connection: Connection
    address: str = ""
    received_at: Nanoseconds = 0  # 0: never
    leaves: int = 0
    updates: int = 0
    quarantined: int = 0
    reconnects: int = 0
    problem: str = ""  # the last error in words, empty when all is well


class Change(NamedTuple):
    """One leaf of the live state that changed; `value` is meaningless when `deleted`."""

    device: str
    path: str
    value: Value
    observed_at: Nanoseconds
    received_at: Nanoseconds
    origin: Origin
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed between two versions of the live state, in order."""

    source: Version
    target: Version
    changes: tuple[Change, ...]
