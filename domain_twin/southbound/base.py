"""The protocols every southbound adapter offers, owned by the agent's pipeline that consumes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from domain_twin.model import UpdateBatch, Value


@dataclass(frozen=True, slots=True)
class YangModule:
    """A module that a device says it implements (RFC 8525). `revision` may be empty."""

    name: str
    revision: str = ""
    features: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do, in its own words."""

    protocol: str  # "netconf" | "gnmi"
    modules: tuple[YangModule, ...] = ()
    encodings: tuple[str, ...] = ()
    features: frozenset[str] = field(
        default_factory=frozenset
    )  # "candidate", "confirmed-commit", "yang-push" ...


class Operation(StrEnum):
    """What an edit does to its target (RFC 6241 7.2; gNMI Set)."""

    MERGE = "merge"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of configuration: a leaf by its canonical path."""

    path: str
    value: Value = None
    operation: Operation = Operation.MERGE


class SouthboundSession(Protocol):
    """One live session to a source: a device, or a controller that speaks for many.

    Every method raises Unreachable when the session cannot be made or is lost, CredentialError when a key,
    certificate, host key or password is wrong, OperationRejected when the device refuses.
    """

    async def capabilities(self) -> Capabilities:
        """What the device says it can do."""
        ...

    async def get(self, paths: Sequence[str]) -> UpdateBatch:
        """The leaves at and below `paths` now, configuration and state; `sync` is END."""
        ...

    def subscribe(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        """The state at and below `paths`: first all of it (BEGIN … END), then every change as it happens.

        Ends by raising Unreachable within a second of the transport reporting a loss, and within two
        heartbeat intervals of a silent one.
        """
        ...


class ChangeSession(Protocol):
    """Changes a device's configuration. Never used by the mirror itself: the twin proposes, people apply."""

    async def edit(self, changes: Sequence[Edit], confirm_timeout_s: float | None = None) -> None:
        """Apply all changes or none; with `confirm_timeout_s` they roll back unless confirmed in time."""
        ...

    async def confirm(self) -> None:
        """Make the last edit permanent."""
        ...

    async def cancel(self) -> None:
        """Roll the last edit back now."""
        ...
