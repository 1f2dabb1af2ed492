"""Everything the demo's processes read: certificates, configuration, service records. Owns what is in them.

Each operator gets a folder of its own with its own authority; what crosses from one folder to another is what
crosses between operators in life: root certificates, an address, and nothing else.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from federation.cli.demo.learning_files import APP, HONEST, LIAR, learning_table
from federation.cli.demo.partner_files import (
    API_NAME,
    GUEST,
    agreements,
    broker_tables,
    write_api,
    write_partners,
)

BROKER_OPERATOR = "exchange.example"
BROKER_NAME = "broker.exchange.example"
BROKER_IDENTITY = f"spiffe://{BROKER_OPERATOR}/broker/main"
SERVICE = "urn:service:factory-control"
SERVICE_SOURCE, SERVICE_TARGET = "ran/cell-1", "edge/host-1"
SERVICE_FLOW = "gnb-1.cell-1:host-1"
OBJECTIVE_MS = 10.0
_GNBS, _CELLS_PER_GNB, _HOSTS, _UPFS = 6, 3, 4, 2


@dataclass(frozen=True, slots=True)
class Operator:
    """One of the demo's operators and what its network speaks."""

    domain: str
    name: str
    speaks: str
    owns: str


OPERATORS = (
    Operator("ran", "northcell.example", "NETCONF", "gNBs with cells"),
    Operator("transport", "longhaul.example", "gNMI, NETCONF", "routers"),
    Operator("core", "corenova.example", "NETCONF, gNMI", "5G core functions"),
    Operator("edge", "edgeworks.example", "gNMI", "edge hosts"),
)


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where everything of one demo lies."""

    folder: Path
    broker_address: str
    api_address: str = ""

    @property
    def network(self) -> Path:
        """The emulated network's file."""
        return self.folder / "network.toml"

    @property
    def emulator(self) -> Path:
        """The emulated network's state: keys, inventories, control socket."""
        return self.folder / "emulator"

    @property
    def broker(self) -> Path:
        """The broker's configuration."""
        return self.folder / "exchange" / "broker.toml"

    @property
    def client(self) -> Path:
        """The profile by which the command line reaches the broker."""
        return self.folder / "client.toml"

    @property
    def api(self) -> Path:
        """The configuration of the service APIs."""
        return self.folder / "exchange" / "api" / "api.toml"

    def partner(self, name: str) -> Path:
        """The profile by which a partner reaches the service APIs; the guest's is the usual one."""
        return self.folder / ("partner.toml" if name == GUEST.id else f"partner-{name}.toml")

    @property
    def services(self) -> Path:
        """The broker's service records."""
        return self.folder / "exchange" / "services.json"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.folder / "logs"

    def agent(self, domain: str) -> Path:
        """An agent's configuration."""
        return self.folder / domain / "agent.toml"

    def socket(self, domain: str) -> Path:
        """The socket on which an agent serves its own operator."""
        return self.folder / domain / "state" / "agent.sock"

    def inventory(self, domain: str) -> Path:
        """The devices of a domain, as the emulated network wrote them down."""
        return self.emulator / f"devices.{domain}.toml"


def write_network(folder: Path, *, seed: int) -> DemoFiles:
    """Write the emulated network's file; choose the broker's port."""
    files = DemoFiles(folder, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    files.network.write_text(
        f"# The four emulated networks; every key that is left out has its default.\nseed = {seed}\n"
        'state = "emulator"\n\n[metrics]\nlisten = "127.0.0.1:0"\n',
        encoding="utf-8",
    )
    return files


def write_all(folder: Path, *, seed: int) -> DemoFiles:
    """Make certificates and write every file. Raises ConfigError."""
    from domain_twin.trust.ca import OperatorCA
    from domain_twin.trust.identity import Role

    files = write_network(folder, seed=seed)
    exchange = folder / "exchange"
    authority = OperatorCA.create(BROKER_OPERATOR, exchange / "ca")
    authority.issue(Role.BROKER, "main", exchange / "pki", dns=[BROKER_NAME, "127.0.0.1"])
    authority.issue(Role.API, API_NAME, files.api.parent / "pki")
    authority.issue(Role.USER, "demo", folder / "client")
    for operator in OPERATORS:
        own = folder / operator.domain
        OperatorCA.create(operator.name, own / "ca").issue(Role.AGENT, operator.domain, own / "pki")
        files.agent(operator.domain).write_text(agent_toml(operator, files.broker_address), encoding="utf-8")
        if operator.domain == LIAR:
            (files.agent(LIAR).parent / APP).write_text(HONEST, encoding="utf-8")
    files.broker.write_text(broker_toml(files.broker_address), encoding="utf-8")
    files.client.write_text(client_toml(files.broker_address), encoding="utf-8")
    write_api(files, operator=BROKER_OPERATOR, profile=_profile(files.broker_address))
    write_partners(files)
    files.services.write_text(json.dumps(service_records(), indent=2) + "\n", encoding="utf-8")
    return files


def agent_toml(operator: Operator, broker: str) -> str:
    """An agent's configuration."""
    domain = operator.domain
    published = "\n".join(
        f'[[publish]]\nelement = "{element}"\nalias = "{alias}"\n' for element, alias in published_by(domain)
    )
    return f"""\
# The twin agent of {operator.name}. It opens no port: it dials the broker.
domain = "{domain}"
operator = "{operator.name}"
state = "state"
inventory = ["../emulator/devices.{domain}.toml"]

[broker]
address = "{broker}"
server_name = "{BROKER_NAME}"
root = "../exchange/ca/root.pem"
identity = "{BROKER_IDENTITY}"

[identity]
certificate = "pki/agent-{domain}.pem"
key = "pki/agent-{domain}.key"
signing_certificate = "pki/agent-{domain}-signing.pem"
signing_key = "pki/agent-{domain}-signing.key"

# Metrics and health, for this machine alone; which port it is, state/metrics.address says.
[metrics]
listen = "127.0.0.1:0"
{learning_table(domain)}
# Who sees anything, and what: border points, published end points, and the figures between them, also as they
# would be (what-if), as a graph (query), in partners' twins (sandbox), and to learn from (train: changes of a
# model leave, never what it learned from). No device, no router, no inner link.
[[agreement]]
id = "{domain}-exchange"
peer = "{BROKER_IDENTITY}"
level = "mesh"
actions = ["view", "evaluate", "describe", "what-if", "query", "sandbox", "train"]

{agreements(domain, BROKER_OPERATOR)}
# What peers may name, under names that say nothing about the inside.
{published}"""


def published_by(domain: str) -> list[tuple[str, str]]:
    """The elements of a domain that peers may name, each with its alias."""
    if domain == "ran":
        return [
            (f"urn:ndt:ran:gnb-{gnb}:cell-{cell}", f"cell-{(gnb - 1) * _CELLS_PER_GNB + cell}")
            for gnb in range(1, _GNBS + 1)
            for cell in range(1, _CELLS_PER_GNB + 1)
        ]
    if domain == "core":
        return [(f"urn:ndt:core:upf-{number}", f"upf-{number}") for number in range(1, _UPFS + 1)]
    if domain == "edge":
        return [(f"urn:ndt:edge:host-{number}", f"host-{number}") for number in range(1, _HOSTS + 1)]
    return []


def broker_toml(listen: str) -> str:
    """The broker's configuration: who may join, whose roots count for whom, who may read."""
    trust = "\n".join(f'"{o.name}" = "../{o.domain}/ca/root.pem"' for o in OPERATORS)
    members = "\n".join(f'[[member]]\ndomain = "{o.domain}"\noperator = "{o.name}"\n' for o in OPERATORS)
    return f"""\
# The federation broker of {BROKER_OPERATOR}. The only process of the twin that opens a port.
id = "main"
operator = "{BROKER_OPERATOR}"
listen = "{listen}"
state = "state"
services = "services.json"

[identity]
certificate = "pki/broker-main.pem"
key = "pki/broker-main.key"
signing_certificate = "pki/broker-main-signing.pem"
signing_key = "pki/broker-main-signing.key"

[metrics]
listen = "127.0.0.1:0"

# Each operator's roots count for that operator's names alone.
[trust]
"{BROKER_OPERATOR}" = "ca/root.pem"
{trust}

{members}
[[access]]
subject = "spiffe://{BROKER_OPERATOR}/user/*"
operate = true
learn = true

{broker_tables(BROKER_OPERATOR)}"""


def client_toml(address: str) -> str:
    """The profile behind `--at`."""
    return f"""\
# How an engineer of {BROKER_OPERATOR} reaches the broker.
{_profile(address)}root = "exchange/ca/root.pem"
certificate = "client/user-demo.pem"
key = "client/user-demo.key"
"""


def _profile(address: str) -> str:
    """What every profile of the broker says."""
    return f'address = "{address}"\nserver_name = "{BROKER_NAME}"\nidentity = "{BROKER_IDENTITY}"\n'


def service_records() -> dict[str, object]:
    """Customers, a slice and four services, as data of fedtwin-service (RFC 7951)."""
    return {
        "fedtwin-service:service-records": {
            "customer": [
                {"customer-id": "urn:customer:northworks", "name": "Northworks, car bodies"},
                {"customer-id": "urn:customer:cityline", "name": "Cityline, trams"},
                {"customer-id": "urn:customer:quayside", "name": "Quayside, cranes"},
            ],
            "slice": [
                {
                    "slice-id": "urn:slice:low-latency",
                    "name": "low latency",
                    "sNSSAI": "1-000001",
                    "customer": "urn:customer:northworks",
                    "element": ["ran/cell-1", "core/upf-1", "edge/host-1"],
                }
            ],
            "service": [
                _service(SERVICE, "factory-control", SERVICE_SOURCE, SERVICE_TARGET, OBJECTIVE_MS)
                | {"slice": "urn:slice:low-latency", "customer": "urn:customer:northworks"},
                _service("urn:service:crane-control", "crane-control", "ran/cell-2", SERVICE_TARGET, 15.0)
                | {"slice": "urn:slice:low-latency", "customer": "urn:customer:quayside"},
                _service("urn:service:tram-video", "tram-video", "ran/cell-7", "edge/host-3", 20.0)
                | {"customer": "urn:customer:cityline"},
                _service("urn:service:metering", "metering", "ran/cell-16", "edge/host-2", 50.0),
            ],
        }
    }


def _service(identifier: str, name: str, source: str, target: str, delay_ms: float) -> dict[str, object]:
    return {
        "service-id": identifier,
        "name": name,
        "from": source,
        "to": target,
        "objective": {"one-way-delay": f"{delay_ms:.1f}", "availability": "0.9999"},
    }


def free_port() -> int:
    """A TCP port on the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
