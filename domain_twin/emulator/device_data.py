"""The YANG data of each kind of device: modules, paths and initial configuration. Pure; knows no packets."""

import re
from typing import Any

from domain_twin.emulator.topology import Cell, Device, End, Link, Topology

__all__ = [
    "COUNTERS", "cell", "configuration", "function", "interface", "is_free", "link_performance", "metric",
    "modules_of",
]  # fmt: skip

COUNTERS = (
    "in-octets", "in-unicast-pkts", "in-discards", "in-errors", "out-octets", "out-unicast-pkts",
    "out-discards", "out-errors",
)  # fmt: skip
_BASE = (
    "ietf-interfaces", "iana-if-type", "ietf-network", "ietf-network-topology", "ietf-l3-unicast-topology",
    "fedtwin-inter-domain", "fedtwin-performance", "ietf-alarms", "fedtwin-alarms",
)  # fmt: skip
_OWN = {"ran": "fedtwin-ran", "core": "fedtwin-core", "edge": "fedtwin-edge"}
_SLICES = ["1-000001", "2-000001"]
# Leaves that only describe: any change of them is taken.
_FREE = re.compile(
    r"(/description|/link-up-down-trap-enable|/site|/gNBDUName|/sNSSAIList(\[.*\])?|/dnnList(\[.*\])?)$"
)


def modules_of(device: Device) -> tuple[str, ...]:
    """YANG modules that the device runs besides those of its protocols."""
    own = _OWN.get(device.domain)
    return (*_BASE, own) if own else _BASE


def is_free(path: str) -> bool:
    """Whether a configuration leaf only describes."""
    return _FREE.search(path) is not None


def interface(end: End) -> str:
    """Path of an interface."""
    return f"/ietf-interfaces:interfaces/interface[name='{end.name}']"


def metric(topology: Topology, end: End) -> str:
    """Path of the routing metric of the link that leaves here."""
    network = f"/ietf-network:networks/network[network-id='urn:ndt:{end.device.domain}']"
    link = topology.link_of[end.tp_id]
    if link.adjacency.crossing:
        return (
            f"{network}/node[node-id='{end.device.node_id}']"
            f"/ietf-network-topology:termination-point[tp-id='{end.tp_id}']"
            "/fedtwin-inter-domain:inter-domain/metric"
        )
    return (
        f"{network}/ietf-network-topology:link[link-id='{end.link_id}']"
        "/ietf-l3-unicast-topology:l3-link-attributes/metric1"
    )


def link_performance(link: Link) -> str:
    """Path of the performance of an outgoing link."""
    return f"/fedtwin-performance:performance/link[link-id='{link.reported_id}']"


def cell(of: Cell) -> str:
    """Path of a cell."""
    return f"/fedtwin-ran:gnb/NRCellDU[cellLocalId='{of.local_id}']"


def function(device: Device) -> str:
    """Path of the network function or edge host behind a device; empty where it has none."""
    if device.domain == "core":
        return "/fedtwin-core:network-function"
    return "/fedtwin-edge:edge-host" if device.domain == "edge" else ""


def configuration(topology: Topology, device: Device) -> dict[str, Any]:
    """The initial running configuration, RFC 7951 JSON."""
    tree: dict[str, Any] = {
        "ietf-interfaces:interfaces": {
            "interface": [
                {"name": end.name, "type": "iana-if-type:ethernetCsmacd", "enabled": True}
                for end in device.ends
            ]
        },
        "ietf-network:networks": {"network": [_network(topology, device)]},
    }
    if device.kind == "gnb":
        cells = [c for c in topology.cells if c.device is device]
        tree["fedtwin-ran:gnb"] = {
            "gNBId": device.index + 1,
            "gNBDUName": device.name,
            "node-id": device.node_id,
            "NRCellDU": [_cell(c) for c in cells],
        }
    elif device.domain == "core":
        tree["fedtwin-core:network-function"] = {
            "function-id": device.node_id,
            "node-id": device.node_id,
            "type": device.kind.upper(),
            "administrativeState": "UNLOCKED",
            "workers": device.workers,
            "sNSSAIList": _SLICES,
            **({"dnnList": ["internet", "edge"]} if device.kind == "upf" else {}),
        }
    elif device.domain == "edge":
        tree["fedtwin-edge:edge-host"] = {
            "host-id": device.node_id,
            "node-id": device.node_id,
            "site": f"site-{device.name.rpartition('-')[2]}",
            "administrativeState": "UNLOCKED",
            "cpu-cores": 16,
            "workers": device.workers,
        }
    return tree


def _cell(of: Cell) -> dict[str, Any]:
    return {
        "cellLocalId": of.local_id,
        "cell-id": of.cell_id,
        "administrativeState": "UNLOCKED",
        "nRPCI": of.pci,
        "arfcnDL": of.arfcn,
        "bSChannelBwDL": of.bandwidth_mhz,
        "prb-share": "1.0",
        "sNSSAIList": _SLICES,
    }


def _network(topology: Topology, device: Device) -> dict[str, Any]:
    """The device's fragment of its domain's topology: itself, its termination points, outgoing links."""
    points, links = [], []
    for end in device.ends:
        link = topology.link_of[end.tp_id]
        point: dict[str, Any] = {
            "tp-id": end.tp_id,
            "ietf-l3-unicast-topology:l3-termination-point-attributes": {"interface-name": end.name},
        }
        if link.adjacency.crossing:
            point["fedtwin-inter-domain:inter-domain"] = {
                "inter-domain-link-id": link.adjacency.crossing,
                "peer-domain": link.target.device.domain,
                "capacity": f"{link.adjacency.capacity_mbps:.3f}",
                "metric": end.metric,
            }
        else:
            links.append(
                {
                    "link-id": end.link_id,
                    "source": {"source-node": device.node_id, "source-tp": end.tp_id},
                    "destination": {"dest-node": link.target.device.node_id, "dest-tp": link.target.tp_id},
                    "ietf-l3-unicast-topology:l3-link-attributes": {"metric1": str(end.metric)},
                }
            )
        points.append(point)
    network: dict[str, Any] = {
        "network-id": f"urn:ndt:{device.domain}",
        "network-types": {"ietf-l3-unicast-topology:l3-unicast-topology": {}},
        "node": [{"node-id": device.node_id, "ietf-network-topology:termination-point": points}],
    }
    if links:
        network["ietf-network-topology:link"] = links
    return network
