"""Devices and controllers to mirror, and where their YANG modules come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from domain_twin.config.reading import Strict


class GnmiConfig(Strict):
    """How to reach a device by gNMI. TLS with a pinned root, always."""

    address: str = Field(description="host:port of the device's gNMI server")
    root: Path = Field(description="PEM file with the CA that signs the device's certificate; pinned")
    certificate: Path | None = Field(None, description="PEM file with the agent's client certificate")
    key: Path | None = Field(None, description="PEM file with the client certificate's private key")
    server_name: str = Field("", description="name in the device's certificate; default: the device's name")
    heartbeat_s: float = Field(5.0, gt=0, description="a silent session is lost after two of these, seconds")
    sample_interval_s: float = Field(1.0, gt=0, description="interval of counters and measurements, seconds")


class NetconfConfig(Strict):
    """How to reach a device by NETCONF over SSH. The host key is pinned, always."""

    address: str = Field(description="host:port of the device's NETCONF server")
    known_hosts: Path = Field(description="OpenSSH known_hosts file with the device's host key")
    username: str = Field(description="account on the device; a read-only one is enough to mirror")
    password: str = Field("", description="reference to the password: env:NAME or file:PATH, never itself")
    private_key: Path | None = Field(None, description="OpenSSH private key, instead of a password")
    client: Literal["asyncssh", "ncclient"] | None = Field(
        None, description="SSH client; default: asyncssh, without threads, but ncclient where vendor is given"
    )
    vendor: str = Field("default", description="ncclient device handler, such as junos or iosxe")
    heartbeat_s: float = Field(5.0, gt=0, description="a silent session is lost after two of these, seconds")
    poll_interval_s: float = Field(
        1.0, gt=0, description="state is read this often where the device cannot push"
    )

    @field_validator("password")
    @classmethod
    def _by_reference(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("a secret is given by reference: env:NAME or file:PATH")
        return value

    @field_validator("vendor")
    @classmethod
    def _handled(cls, value: str, info: ValidationInfo) -> str:
        if value != "default" and info.data.get("client") == "asyncssh":
            raise ValueError('vendor handlers are ncclient\'s: leave vendor or client = "asyncssh" out')
        return value

    @property
    def uses_ncclient(self) -> bool:
        """Whether ncclient, with its vendor handlers and threads, keeps the session."""
        return self.client == "ncclient" or (self.client is None and self.vendor != "default")


class ReplayConfig(Strict):
    """A recording instead of a device."""

    file: Path = Field(description="recording made by `fedtwin record`")
    speed: float = Field(1.0, gt=0, description="1 is the recorded pace")


class DeviceConfig(Strict):
    """One device to mirror, by one or two protocols."""

    name: str = Field(description="name of the device within the domain")
    gnmi: GnmiConfig | None = Field(None, description="reach it by gNMI")
    netconf: NetconfConfig | None = Field(None, description="reach it by NETCONF")
    replay: ReplayConfig | None = Field(None, description="replay a recording instead")
    paths: tuple[str, ...] = Field((), description="subtrees to mirror; default: all that the mapping reads")


class ControllerConfig(DeviceConfig):
    """A controller that speaks for many devices, over one session."""

    name: str = Field(description="name of the controller; what it says of itself is kept under it")
    devices: tuple[str, ...] = Field(
        (), description="devices it may speak for; default: any that has no session of its own"
    )


class IntakeConfig(Strict):
    """What may wait between the sessions and the twin."""

    max_mb: float = Field(
        32.0, gt=0, description="memory for what waits, of all devices, in MB; beyond, state is read anew"
    )
    max_leaves: int = Field(
        1_000_000, gt=0, description="leaves that one device may have; what it adds beyond is left out"
    )


class YangConfig(Strict):
    """Where YANG modules come from, besides those that ship and those that devices serve."""

    directories: tuple[Path, ...] = Field((), description="folders with .yang files, searched in order")
    from_devices: bool = Field(True, description="fetch missing modules from devices (get-schema)")


class Inventory(Strict):
    """A further file with devices and controllers."""

    device: tuple[DeviceConfig, ...] = ()
    controller: tuple[ControllerConfig, ...] = ()
