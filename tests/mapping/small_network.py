"""Two routers with a link each way, a gNB, a network function and an edge host: as leaves, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from domain_twin.model import Change, Delta, Origin, Value, Version

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
NETWORK = "/ietf-network:networks/network[network-id='urn:ndt:transport']"
Leaf = tuple[str, str, Value]


def node_id(device: str) -> str:
    return f"urn:ndt:transport:{device}"


def interface(device: str, name: str, speed: int = 10_000_000_000) -> list[Leaf]:
    at = f"/ietf-interfaces:interfaces/interface[name='{name}']"
    said: dict[str, Value] = {
        "name": name,
        "enabled": True,
        "admin-status": "up",
        "oper-status": "up",
        "speed": speed,
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def point_path(device: str, name: str) -> str:
    node, tp = node_id(device), f"{node_id(device)}:{name}"
    return f"{NETWORK}/node[node-id='{node}']/ietf-network-topology:termination-point[tp-id='{tp}']"


def point(device: str, name: str) -> list[Leaf]:
    at = point_path(device, name)
    attributes = "ietf-l3-unicast-topology:l3-termination-point-attributes"
    return [
        (device, f"{NETWORK}/node[node-id='{node_id(device)}']/node-id", node_id(device)),
        (device, f"{at}/tp-id", f"{node_id(device)}:{name}"),
        (device, f"{at}/{attributes}/interface-name", name),
    ]


def border(device: str, name: str, link_id: str, capacity: str = "1000") -> list[Leaf]:
    at = f"{point_path(device, name)}/fedtwin-inter-domain:inter-domain"
    said: dict[str, Value] = {
        "inter-domain-link-id": link_id,
        "peer-domain": "core",
        "capacity": Decimal(capacity),
        "metric": 7,
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def link_id(device: str, name: str) -> str:
    return f"{node_id(device)}:{name}:out"


def link(source: tuple[str, str], dest: tuple[str, str], metric: int = 10) -> list[Leaf]:
    device = source[0]
    at = f"{NETWORK}/ietf-network-topology:link[link-id='{link_id(*source)}']"
    said: dict[str, Value] = {
        "link-id": link_id(*source),
        "source/source-node": node_id(source[0]),
        "source/source-tp": f"{node_id(source[0])}:{source[1]}",
        "destination/dest-node": node_id(dest[0]),
        "destination/dest-tp": f"{node_id(dest[0])}:{dest[1]}",
        "ietf-l3-unicast-topology:l3-link-attributes/metric1": metric,
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def one_way(device: str, at: str, delay_us: str = "2500.000") -> list[Leaf]:
    said: dict[str, Value] = {
        "one-way-delay": Decimal(delay_us),
        "delay-variance": Decimal("40000.000"),
        "loss-ratio": Decimal("0.1"),
        "utilisation": Decimal("0.25"),
        "samples": 400,
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def figures(device: str, link: str, delay_us: str = "2500.000") -> list[Leaf]:
    at = f"/fedtwin-performance:performance/link[link-id='{link}']"
    return [(device, f"{at}/link-id", link), *one_way(device, at, delay_us)]


def function(device: str) -> list[Leaf]:
    at = "/fedtwin-core:network-function"
    said: dict[str, Value] = {
        "function-id": f"{node_id(device)}:upf",
        "node-id": node_id(device),
        "type": "UPF",
        "administrativeState": "UNLOCKED",
        "operationalState": "ENABLED",
        "workers": 4,
        "sNSSAIList": ("1", "1-00000a"),
        "performance/handled-rate": Decimal("120.5"),
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def gnb(device: str) -> list[Leaf]:
    cell = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
    said: dict[str, Value] = {
        "/fedtwin-ran:gnb/node-id": node_id(device),
        f"{cell}/cellLocalId": 1,
        f"{cell}/cell-id": f"{node_id(device)}:cell-1",
        f"{cell}/bSChannelBwDL": 100,
        f"{cell}/prb-share": Decimal("0.8"),
        f"{cell}/operationalState": "ENABLED",
        f"{cell}/performance/mcs": Decimal("17.25"),
        f"{cell}/performance/active-ues": 12,
    }
    return [(device, path, value) for path, value in said.items()]


def host(device: str) -> list[Leaf]:
    at = "/fedtwin-edge:edge-host"
    said: dict[str, Value] = {
        "host-id": f"{node_id(device)}:host",
        "node-id": node_id(device),
        "site": "harbour",
        "cpu-cores": 16,
        "workers": 8,
        "application[name='video']/name": "video",
        "application[name='game']/administrativeState": "LOCKED",
        "performance/handled-rate": Decimal("3.5"),
    }
    return [(device, f"{at}/{leaf}", value) for leaf, value in said.items()]


def whole() -> list[Leaf]:
    a, b = ("warsaw", "eth0"), ("gdansk", "eth1")
    return [
        *interface(*a),
        *interface(*b),
        *interface("warsaw", "eth9"),
        *point(*a),
        *point(*b),
        *point("warsaw", "eth9"),
        *border("warsaw", "eth9", "urn:ndt:idl:ab12"),
        *link(a, b),
        *link(b, a, metric=20),
        *figures("warsaw", link_id(*a)),
        *figures("gdansk", link_id(*b)),
        *figures("warsaw", "urn:ndt:idl:ab12", "300.000"),
        *function("warsaw"),
        *gnb("gdansk"),
        *host("gdansk"),
    ]


def delta(leaves: Iterable[Leaf], sequence: int = 1, at: int = START, *, deleted: bool = False) -> Delta:
    changes = tuple(
        Change(device, path, value, at, at + 5, Origin.MEASURED, deleted) for device, path, value in leaves
    )
    return Delta(Version("e", sequence - 1), Version("e", sequence, at), changes)
