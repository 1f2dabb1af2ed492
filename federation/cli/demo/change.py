"""What an operator's engineer does: log in to a device by NETCONF, edit, commit. Owns that one conversation.

The twin has no part in this: plain ncclient, the operator's own inventory, the pinned host key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from domain_twin.config import DeviceConfig, secret
from domain_twin.errors import ConfigError, NotFound, OperationRejected, Unreachable

_INTERFACES = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
_NETCONF = "urn:ietf:params:xml:ns:netconf:base:1.0"
_TIMEOUT_S = 10
_TICK_S = 0.002  # ncclient looks for a reply only this often; its own 100 ms would drown what is measured


@dataclass(frozen=True, slots=True)
class Edit:
    """A committed change: when <commit> was sent, and when the device's <ok/> had come."""

    device: str
    interface: str
    enabled: bool
    sent_at: int
    replied_at: int


def set_enabled(device: DeviceConfig, interface: str, enabled: bool) -> Edit:
    """Set `enabled` of an interface: edit the candidate, validate, commit. Blocks.

    Raises Unreachable, OperationRejected, ConfigError.
    """
    import ncclient.transport.session
    from ncclient import manager
    from ncclient.operations import RPCError
    from ncclient.transport.errors import TransportError

    if device.netconf is None:
        raise ConfigError(f"device {device.name}: has no NETCONF access in the operator's inventory")
    access = device.netconf
    host, _, port = access.address.rpartition(":")
    ncclient.transport.session.TICK = _TICK_S
    config = (
        f'<config xmlns="{_NETCONF}"><interfaces xmlns="{_INTERFACES}"><interface><name>{interface}</name>'
        f"<enabled>{str(enabled).lower()}</enabled></interface></interfaces></config>"
    )
    try:
        with (
            manager.connect(
                host=host,
                port=int(port),
                username=access.username,
                password=secret(access.password).get_secret_value(),
                hostkey_b64=pinned_key(access.known_hosts, host, port),
                allow_agent=False,
                look_for_keys=False,
                timeout=_TIMEOUT_S,
            ) as session,
            session.locked("candidate"),
        ):
            session.edit_config(target="candidate", config=config)
            session.validate(source="candidate")
            sent = time.time_ns()
            session.commit()
            replied = time.time_ns()
    except RPCError as error:
        raise OperationRejected(
            f"{device.name}: refused enabled={enabled} on {interface}: {error}"
        ) from error
    except (TransportError, OSError) as error:
        raise Unreachable(f"{device.name}: NETCONF to {access.address} failed ({error})") from error
    return Edit(device.name, interface, enabled, sent, replied)


def pinned_key(known_hosts: Path, host: str, port: str) -> str:
    """The base64 host key of a device. Raises NotFound."""
    names = {f"[{host}]:{port}", host}
    for line in known_hosts.read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) >= 3 and names & set(parts[0].split(",")):
            return parts[2]
    raise NotFound(f"{known_hosts}: has no host key for {host}:{port}; add the device's")
