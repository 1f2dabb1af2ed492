"""Keys, passwords and inventories of the emulated devices. Owns the state folder's layout; opens no socket.

    keys/<domain>/devices.pem, devices.key    the domain's device CA (the agent pins the first)
    keys/<domain>/client.pem, client.key      by which gNMI devices know the domain's agent
    keys/<domain>/password, known_hosts       of the NETCONF account; host keys of the NETCONF servers
    keys/<domain>/devices/                    each device's TLS certificate and key and SSH host key
    devices.<domain>.toml                     what the domain's agent reads: `[[device]]` tables

Kept between starts, so that an agent that pinned them goes on; secrets are 0600.
"""

import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from domain_twin.emulator.network import DOMAINS, ServerSpec
from domain_twin.errors import ConfigError
from domain_twin.trust.ca import DeviceCA, IssuedDevice

__all__ = ["OPERATORS", "DeviceKeys", "DomainKeys", "Served", "write_inventory"]

OPERATORS = dict(
    zip(
        DOMAINS,
        ("northcell.example", "longhaul.example", "corenova.example", "edgeworks.example"),
        strict=True,
    )
)
_LIFE = timedelta(days=90)
_SPARE_LIFE = timedelta(days=7)  # a certificate that ends sooner is issued anew


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """What one device's servers need: PEM certificate chain and key, SSH host key file."""

    certificate: bytes
    key: bytes
    host_key: Path


@dataclass(frozen=True, slots=True)
class Served:
    """Where a device's servers listen; 0 where it has no such server."""

    name: str
    netconf_port: int
    gnmi_port: int
    host_key: Path


class DomainKeys:
    """The key folder of one domain. Raises ConfigError where it cannot be written or read."""

    def __init__(self, state: Path, domain: str, servers: ServerSpec) -> None:
        self.state, self.domain = state, domain
        self.folder = state / "keys" / domain
        self._servers = servers
        try:
            (self.folder / "devices").mkdir(parents=True, exist_ok=True, mode=0o700)
            made = (self.folder / "devices.pem").exists() and (self.folder / "devices.key").exists()
            operator = OPERATORS[domain]  # type: ignore[index]
            self._ca = DeviceCA.load(self.folder) if made else DeviceCA.create(operator, self.folder)
            self.password = self._password()
            self._client()
        except OSError as error:
            raise ConfigError(
                f"state: cannot keep keys in {self.folder}: {error.strerror}; choose another folder"
            ) from error

    @property
    def root(self) -> bytes:
        """PEM root of the domain's device CA, which signs devices and the agent's client certificate."""
        return self._ca.root.read_bytes()

    def device(self, name: str) -> DeviceKeys:
        """The keys of one device, made where they are missing or about to expire."""
        folder = self.folder / "devices"
        certificate, key = folder / f"device-{name}.pem", folder / f"device-{name}.key"
        if not _lasts(certificate) or not key.exists():
            dns = ("localhost", self._servers.host)
            issued = self._ca.issue_device(name, folder, dns=dns, life=_LIFE)
            certificate, key = issued.certificate, issued.key
        host_key = folder / f"{name}.ssh"
        if not host_key.exists():
            import asyncssh

            _write(host_key, asyncssh.generate_private_key("ssh-ed25519", comment=name).export_private_key())
        return DeviceKeys(certificate.read_bytes(), key.read_bytes(), host_key)

    def _client(self) -> None:
        certificate, key = self.folder / "client.pem", self.folder / "client.key"
        if _lasts(certificate) and key.exists():
            return
        issued: IssuedDevice = self._ca.issue_client(self.domain, self.folder, life=_LIFE)
        shutil.move(issued.certificate, certificate)
        shutil.move(issued.key, key)

    def _password(self) -> str:
        reference = self._servers.password
        if reference.startswith("env:"):
            value = os.environ.get(reference[4:], "")
            if not value:
                raise ConfigError(f"servers.password: the environment has no {reference[4:]}")
        elif reference.startswith("file:"):
            try:
                value = Path(reference[5:]).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigError(
                    f"servers.password: cannot read {reference[5:]}: {error.strerror}"
                ) from None
        else:
            kept = self.folder / "password"
            value = kept.read_text(encoding="utf-8").strip() if kept.exists() else secrets.token_urlsafe(18)
        _write(self.folder / "password", value.encode())
        return value


def write_inventory(keys: DomainKeys, servers: ServerSpec, devices: Iterable[Served]) -> Path:
    """Write a domain's `devices.<domain>.toml` and known_hosts for these addresses; gives the former."""
    import asyncssh

    place, hosts, tables = f"keys/{keys.domain}", [], []
    for device in devices:
        lines = ["[[device]]", f'name = "{device.name}"']
        if device.gnmi_port:
            lines += [
                "[device.gnmi]",
                f'address = "{servers.host}:{device.gnmi_port}"',
                f'root = "{place}/devices.pem"',
                f'certificate = "{place}/client.pem"',
                f'key = "{place}/client.key"',
                f'server_name = "{device.name}"',
            ]
        if device.netconf_port:
            public = asyncssh.read_private_key(device.host_key).export_public_key().decode().split()
            hosts.append(f"[{servers.host}]:{device.netconf_port} {public[0]} {public[1]}\n")
            lines += [
                "[device.netconf]",
                f'address = "{servers.host}:{device.netconf_port}"',
                f'known_hosts = "{place}/known_hosts"',
                f'username = "{servers.username}"',
                f'password = "file:{place}/password"',
            ]
        tables.append("\n".join(lines) + "\n")
    _write(keys.folder / "known_hosts", "".join(hosts).encode())
    inventory = keys.state / f"devices.{keys.domain}.toml"
    _write(inventory, "\n".join(tables).encode())
    return inventory


def _lasts(certificate: Path) -> bool:
    if not certificate.exists():
        return False
    ends = x509.load_pem_x509_certificates(certificate.read_bytes())[0].not_valid_after_utc
    return ends - datetime.now(UTC) > _SPARE_LIFE


def _write(path: Path, content: bytes) -> None:
    """Replace `path` in one step, readable by its owner only from the first byte."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
