"""Which session mirrors a device, and which one changes it. Imports an adapter only when it is used.

gNMI mirrors where a device has it, as it is the cheaper of the two; changes go by NETCONF where a device has
that, for its confirmed commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from domain_twin.config import ControllerConfig, DeviceConfig
from domain_twin.errors import ConfigError
from domain_twin.southbound.base import ChangeSession
from domain_twin.southbound.supervise import Mirror
from domain_twin.yang.schema import SchemaSet

__all__ = ["Changer", "Choice", "change_session", "mirror_choice"]


class Changer(ChangeSession, Protocol):
    """A session that changes a device, and can be closed."""

    async def close(self) -> None:
        """End the session and free what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """How a device is mirrored; `open` makes a new session, which connects when it is used."""

    protocol: str
    address: str
    open: Callable[[], Mirror]


def mirror_choice(device: DeviceConfig | ControllerConfig, schema: SchemaSet) -> Choice:
    """The session that mirrors a device, or a controller. Raises ConfigError where it has no protocol."""
    name = device.name
    if (replay := device.replay) is not None:
        from domain_twin.southbound.replay import ReplaySession

        return Choice("replay", str(replay.file), lambda: ReplaySession(name, replay))
    if (gnmi := device.gnmi) is not None:
        from domain_twin.southbound.gnmi import GnmiSession
        from domain_twin.southbound.gnmi_decode import Decoder

        protocol = "netconf+gnmi" if device.netconf else "gnmi"
        targets = "*" if isinstance(device, ControllerConfig) else ""
        decoder = Decoder(name, name, schema)  # outlives a session: learning paths is most of a first resync

        def session() -> GnmiSession:
            return GnmiSession(name, gnmi, schema, targets=targets, decoder=decoder)

        return Choice(protocol, gnmi.address, session)
    if (netconf := device.netconf) is not None:
        from domain_twin.southbound.netconf import NetconfSession

        return Choice("netconf", netconf.address, lambda: NetconfSession(name, netconf, schema))
    raise ConfigError(f"device {name!r}: add its .gnmi, .netconf or .replay table")


def change_session(device: DeviceConfig, schema: SchemaSet) -> Changer:
    """A session that changes `device`. Raises ConfigError where it has no protocol that can."""
    if device.netconf is not None:
        from domain_twin.southbound.netconf import NetconfSession

        return NetconfSession(device.name, device.netconf, schema)
    if device.gnmi is not None:
        from domain_twin.southbound.gnmi import GnmiSession

        return GnmiSession(device.name, device.gnmi, schema)
    raise ConfigError(f"device {device.name!r} cannot be changed: add [device.netconf] or [device.gnmi]")
