"""Checks of configuration files, each a row that a person can act on. Changes nothing."""

from __future__ import annotations

import socket
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from domain_twin.config import (
    AgentConfig,
    BrokerConfig,
    ClientConfig,
    DeviceConfig,
    IdentityConfig,
    load_agent,
    load_broker,
    load_client,
    secret,
)
from domain_twin.errors import ConfigError, CredentialError, TwinError
from federation.cli.checks_api import check_api

SOCKET_PATH_LIMIT = 107  # octets of sun_path, without the final zero
SOON = timedelta(hours=2)


class Verdict(StrEnum):
    """How one check ended."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    verdict: Verdict
    subject: str
    text: str
    remedy: str = ""
    """A command that mends it or shows more, to be pasted; empty where the text says all."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was looked at in one file."""

    file: Path
    kind: str
    rows: tuple[Row, ...]


class Rows:
    """Collects rows; a check that raises becomes a wrong one."""

    def __init__(self, *, live: bool = False) -> None:
        self.rows: list[Row] = []
        self.live = live

    def fine(self, subject: str, text: str) -> None:
        """Note what is as it should be."""
        self.rows.append(Row(Verdict.FINE, subject, text))

    def doubtful(self, subject: str, text: str, remedy: str = "") -> None:
        """Note what works and may not be meant, or not for long."""
        self.rows.append(Row(Verdict.DOUBTFUL, subject, text, remedy))

    def wrong(self, subject: str, text: str, remedy: str = "") -> None:
        """Note what must be mended."""
        self.rows.append(Row(Verdict.WRONG, subject, text, remedy))

    def attempt(self, subject: str, check: Callable[[], str], remedy: str = "") -> bool:
        """Note what `check` says, or the TwinError that it raises; True when it was fine."""
        try:
            self.fine(subject, check())
        except TwinError as error:
            self.wrong(subject, str(error), remedy)
            return False
        return True


def check_file(path: Path, *, live: bool = False) -> Report:
    """Look at everything a file says. Which kind it is shows in its keys.

    `live`: the process may be running now, so that its own port is not free.
    """
    rows = Rows(live=live)
    kind = "unknown"
    try:
        kind = kind_of(path)
        _CHECKS[kind](path, rows)
    except ConfigError as error:
        for line in str(error).splitlines():
            rows.wrong("keys", line.removeprefix(f"{path}: "))
    return Report(path, kind, tuple(rows.rows))


def kind_of(path: Path) -> str:
    """agent, api, broker, client, network, inventory or services. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}); check the path") from error
    if path.suffix == ".json":
        return "services"
    try:
        keys = set(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for kind, marks in _MARKS.items():
        if keys & marks:
            return kind
    raise ConfigError(
        f"{path}: no key tells what this file is; an agent's has `domain`, a broker's `listen`,"
        f" a client profile's `address`, a network's `seed` (found {', '.join(sorted(keys)) or 'no key'})"
    )


_MARKS: Mapping[str, set[str]] = {
    "api": {"public_address", "issuer"},
    "broker": {"listen", "member", "trust", "access"},
    "agent": {"domain", "publish", "agreement", "inventory"},
    "client": {"address"},
    "network": {"seed", "transport", "ran", "topology", "folder"},
    "agent inventory": {"device"},
}


def _agent(path: Path, rows: Rows) -> None:
    config = load_agent(path)
    rows.fine("keys", f"agent of domain {config.domain}, operator {config.operator}")
    _folder(rows, "state", config.state)
    _socket(rows, config.state / "agent.sock")
    if config.identity:
        _identity(rows, config.identity, config.operator, "agent", config.domain)
    if config.broker:
        _address(rows, "broker.address", config.broker.address)
        _spiffe(rows, "broker.identity", config.broker.identity, "broker")
        _roots(rows, "broker.root", config.broker.root)
    else:
        rows.doubtful("broker", "no [broker]: the agent works alone, nothing is composed")
    _devices(rows, config.device)
    _publish(rows, config)
    _agreements(rows, config)
    _services(rows, config.services)
    for folder in config.yang.directories:
        _exists(rows, "yang.directories", folder)


def _devices(rows: Rows, devices: tuple[DeviceConfig, ...]) -> None:
    if not devices:
        rows.doubtful("device", "no device is declared; add [[device]] tables or an inventory")
        return
    problems = 0
    for device in devices:
        before = len(rows.rows)
        where = f"device {device.name}"
        if not (device.gnmi or device.netconf or device.replay):
            rows.wrong(where, "has no protocol; add a gnmi, netconf or replay table")
        if device.gnmi:
            _address(rows, f"{where} gnmi", device.gnmi.address, quiet=True)
            _roots(rows, f"{where} gnmi.root", device.gnmi.root, quiet=True)
        if device.netconf:
            _address(rows, f"{where} netconf", device.netconf.address, quiet=True)
            _known_host(rows, where, device.netconf.known_hosts, device.netconf.address)
            if device.netconf.password:
                _secret(rows, where, device.netconf.password)
            elif not device.netconf.private_key:
                rows.wrong(where, "netconf has neither password nor private_key; add one of them")
        if device.replay:
            _exists(rows, f"{where} replay.file", device.replay.file, quiet=True)
        problems += len(rows.rows) > before
    if not problems:
        protocols = Counter(
            "+".join(name for name in ("netconf", "gnmi", "replay") if getattr(device, name))
            for device in devices
        )
        rows.fine("device", ", ".join(f"{number} by {name}" for name, number in protocols.items()))


def _publish(rows: Rows, config: AgentConfig) -> None:
    for field, values in (
        ("alias", [item.alias for item in config.publish]),
        ("element", [item.element for item in config.publish]),
    ):
        for value, number in Counter(values).items():
            if number > 1:
                rows.wrong("publish", f"{field} {value!r} is used {number} times; each may be used once")
    if config.publish:
        rows.fine("publish", f"{len(config.publish)} end points have an alias that peers may name")


def _agreements(rows: Rows, config: AgentConfig) -> None:
    if not config.agreement:
        rows.doubtful("agreement", "no agreement: nobody sees anything of this domain (deny by default)")
    for name, number in Counter(item.id for item in config.agreement).items():
        if number > 1:
            rows.wrong("agreement", f"id {name!r} is used {number} times; give each agreement its own")
    for item in config.agreement:
        subject = f"agreement {item.id}"
        pattern = item.peer.removesuffix("*") + ("any" if item.peer.endswith("/*") else "")
        if not _spiffe(rows, subject, pattern, None, quiet=True):
            continue
        if item.expires and item.expires.astimezone(UTC) <= datetime.now(UTC):
            rows.wrong(subject, f"expired {item.expires.isoformat()}; renew it, or remove it")
            continue
        until = f", until {item.expires.isoformat()}" if item.expires else ""
        rows.fine(subject, f"{item.peer} sees level {item.level.value}, may {', '.join(item.actions)}{until}")


def _broker(path: Path, rows: Rows) -> None:
    from domain_twin.trust.roots import TrustBundle

    config: BrokerConfig = load_broker(path)
    rows.fine("keys", f"broker {config.id} of operator {config.operator}")
    _folder(rows, "state", config.state)
    if _address(rows, "listen", config.listen, quiet=True) and not rows.live:
        rows.attempt("listen", lambda: _free(config.listen))
    _identity(rows, config.identity, config.operator, "broker", config.id)
    rows.attempt("trust", lambda: f"roots of {', '.join(TrustBundle.load(config.trust).operators)}")
    for domain, number in Counter(item.domain for item in config.member).items():
        if number > 1:
            rows.wrong("member", f"domain {domain!r} is listed {number} times; a domain has one operator")
    if config.member:
        rows.fine("member", ", ".join(f"{item.domain} of {item.operator}" for item in config.member))
    else:
        rows.doubtful("member", "no [[member]]: no domain may join")
    for item in config.access:
        pattern = item.subject.removesuffix("*") + ("any" if item.subject.endswith("/*") else "")
        if _spiffe(rows, "access", pattern, None, quiet=True):
            rows.fine("access", f"{item.subject} may read the composed twin")
    if not config.access:
        rows.doubtful("access", "no [[access]]: nobody may read the composed twin")
    _services(rows, config.services)


def _client(path: Path, rows: Rows) -> None:
    from domain_twin.trust.credentials import load_tls

    config: ClientConfig = load_client(path)
    rows.fine("keys", f"client profile for {config.identity}")
    _address(rows, "address", config.address)
    _spiffe(rows, "identity", config.identity, "broker")
    _roots(rows, "root", config.root)
    rows.attempt("certificate", lambda: _valid(load_tls(config.certificate, config.key)))


def _network(path: Path, rows: Rows) -> None:
    from federation.cli.seams import load_network

    rows.fine("keys", load_network(path))


def _inventory(path: Path, rows: Rows) -> None:
    from domain_twin.config import load
    from domain_twin.config.devices import Inventory

    devices = load(path, Inventory).device
    rows.fine("keys", f"inventory of {len(devices)} devices")
    _devices(rows, devices)


def _service_file(path: Path, rows: Rows) -> None:
    _services(rows, path)


def _services(rows: Rows, path: Path | None) -> None:
    if path is None:
        return
    from federation.cli.seams import load_services

    rows.attempt("services", lambda: load_services(path))


def _identity(rows: Rows, identity: IdentityConfig, operator: str, role: str, name: str) -> None:
    from domain_twin.trust.credentials import load_identity
    from domain_twin.trust.identity import Role

    def check() -> str:
        loaded = load_identity(identity, operator=operator, role=Role(role), name=name)
        left = loaded.not_after - datetime.now(UTC)
        if left < SOON:
            rows.doubtful("identity", f"ends in {left.total_seconds() / 60:.0f} min; renew it in time")
        return f"{loaded.id}, keys match, valid until {loaded.not_after:%Y-%m-%d %H:%M} UTC"

    rows.attempt("identity", check)


def _valid(tls: Any) -> str:
    return f"{tls.identity}, key matches, valid until {tls.not_after:%Y-%m-%d %H:%M} UTC"


def _roots(rows: Rows, subject: str, path: Path, *, quiet: bool = False) -> None:
    from cryptography import x509

    def check() -> str:
        try:
            roots = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); ask its owner for it") from error
        except ValueError as error:
            raise ConfigError(f"{path}: not a PEM file with certificates; ask its owner for it") from error
        now = datetime.now(UTC)
        for root in roots:
            if root.not_valid_after_utc <= now:
                raise CredentialError(
                    f"{path}: the root {root.subject.rfc4514_string()} expired"
                    f" {root.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; ask its owner for the new one"
                )
        return f"{', '.join(root.subject.rfc4514_string() for root in roots)}"

    _quietly(rows, subject, check, quiet)


def _known_host(rows: Rows, where: str, path: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    names = {f"[{host.strip('[]')}]:{port}", host.strip("[]")}

    def check() -> str:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"{path}: known_hosts cannot be read ({error.strerror})") from error
        listed = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        hashed = any(name.startswith("|") for name in listed)
        if not hashed and not any(names & set(name.split(",")) for name in listed):
            raise CredentialError(
                f"{path}: has no host key for {address}; add the device's key, for port 22 as {host!r},"
                f" else as '[{host}]:{port}'"
            )
        return "host key is pinned"

    _quietly(rows, where, check, True)


def _secret(rows: Rows, where: str, reference: str) -> None:
    def check() -> str:
        secret(reference)
        return "password is there"

    _quietly(rows, where, check, True)


def _exists(rows: Rows, subject: str, path: Path, *, quiet: bool = False) -> None:
    def check() -> str:
        if not path.exists():
            raise ConfigError(f"{path}: does not exist; check the path")
        return str(path)

    _quietly(rows, subject, check, quiet)


def _spiffe(rows: Rows, subject: str, text: str, role: str | None, *, quiet: bool = False) -> bool:
    from domain_twin.trust.identity import SpiffeId

    def check() -> str:
        identity = SpiffeId.parse(text)
        if role and identity.role != role:
            raise CredentialError(f"{text}: has the role {identity.role}, and the role {role} belongs here")
        return text

    return _quietly(rows, subject, check, quiet)


def _address(rows: Rows, subject: str, address: str, *, quiet: bool = False) -> bool:
    def check() -> str:
        host, separator, port = address.rpartition(":")
        if not separator or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
            raise ConfigError(f"{address!r} is not host:port, such as broker.exchange.example:7443")
        return address

    return _quietly(rows, subject, check, quiet)


def _free(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise ConfigError(
                f"{listen} cannot be listened on ({error.strerror}); a broker may be running there already,"
                " else choose another address"
            ) from error
    return f"{listen} is free"


def _folder(rows: Rows, subject: str, path: Path) -> None:
    def check() -> str:
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: is a file, and must be a folder")
        return f"{path}{'' if path.exists() else ' (will be made)'}"

    rows.attempt(subject, check)


def _socket(rows: Rows, path: Path) -> None:
    length = len(str(path).encode())
    if length > SOCKET_PATH_LIMIT:
        rows.wrong(
            "state",
            f"the socket {path} would have {length} octets, and a Unix socket's path at most"
            f" {SOCKET_PATH_LIMIT}; choose a shorter state folder",
        )


def _quietly(rows: Rows, subject: str, check: Callable[[], str], quiet: bool) -> bool:
    """Like `attempt`, but with `quiet` only a failure becomes a row."""
    if not quiet:
        return rows.attempt(subject, check)
    try:
        check()
    except TwinError as error:
        rows.wrong(subject, str(error))
        return False
    return True


_CHECKS: Mapping[str, Callable[[Path, Rows], None]] = {
    "agent": _agent,
    "api": check_api,
    "broker": _broker,
    "client": _client,
    "network": _network,
    "agent inventory": _inventory,
    "services": _service_file,
}


def worst(rows: Iterable[Row]) -> Verdict:
    """The gravest verdict among rows; fine when there are none."""
    order = list(Verdict)
    return max((row.verdict for row in rows), key=order.index, default=Verdict.FINE)
