"""Devices that speak OpenConfig over gNMI and nothing else become nodes, termination points and links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vendor_devices import Emulated, eventually, vendor_domain

from domain_twin.model import Connection

MODULES = (
    "openconfig-interfaces",
    "openconfig-if-ethernet",
    "openconfig-lldp",
    "openconfig-platform",
    "openconfig-platform-types",
    "openconfig-system",
)
NODE = "urn:ndt:transport"


def router(name: str, neighbours: dict[str, tuple[str, str]], speed: str = "SPEED_10GB") -> Emulated:
    """A router; `neighbours`: its port -> (system name, port) that it hears there."""
    ports = ("Ethernet1", "Ethernet2")
    state: dict[str, Any] = {
        "openconfig-interfaces:interfaces": {
            "interface": [
                {
                    "name": port,
                    "state": {
                        "name": port,
                        "enabled": True,
                        "admin-status": "UP",
                        "oper-status": "UP",
                        "counters": {"in-octets": "18446744073709551615", "out-errors": "3"},
                    },
                    "openconfig-if-ethernet:ethernet": {
                        "state": {"port-speed": f"openconfig-if-ethernet:{speed}"}
                    },
                }
                for port in ports
            ]
        },
        "openconfig-lldp:lldp": {
            "state": {"system-name": f"{name}.example.net", "chassis-id": f"00:00:00:00:00:0{name[-1]}"},
            "interfaces": {
                "interface": [
                    {
                        "name": port,
                        "neighbors": {
                            "neighbor": [
                                {
                                    "id": "1",
                                    "state": {
                                        "id": "1",
                                        "system-name": system,
                                        "port-id": far,
                                        "port-id-type": "INTERFACE_NAME",
                                    },
                                }
                            ]
                        },
                    }
                    for port, (system, far) in neighbours.items()
                ]
            },
        },
        "openconfig-platform:components": {
            "component": [
                {
                    "name": "chassis",
                    "state": {
                        "type": "openconfig-platform-types:CHASSIS",
                        "mfg-name": "Acme",
                        "part-no": "A-1",
                        "serial-no": f"S{name}",
                    },
                },
                {
                    "name": "os",
                    "state": {
                        "type": "openconfig-platform-types:OPERATING_SYSTEM",
                        "software-version": "7.1",
                    },
                },
            ]
        },
        "openconfig-system:system": {"state": {"hostname": f"{name}.example.net"}},
    }
    return Emulated(name, MODULES, state=state)


async def test_openconfig_devices_become_a_network(tmp_path: Path) -> None:
    devices = [
        router("r1", {"Ethernet1": ("r2.example.net", "Ethernet2")}),
        router("r2", {"Ethernet2": ("r1", "Ethernet1"), "Ethernet1": ("elsewhere", "x")}),
    ]
    async with vendor_domain(tmp_path, devices) as (twin, stores):

        def whole() -> bool:
            statuses = twin.device_statuses()
            return all(s.connection is Connection.SYNCHRONISED for s in statuses) and (
                len(twin.network().links) == 2
            )

        await eventually(whole, "network of two routers")
        network = twin.network()

        assert set(network.nodes) == {f"{NODE}:r1", f"{NODE}:r2"}
        node = network.nodes[f"{NODE}:r1"]
        assert (node.name, node.vendor, node.part) == ("r1.example.net", "Acme", "A-1")
        assert (node.serial, node.software) == ("Sr1", "7.1")
        assert len(network.termination_points) == 4
        point = network.termination_points[f"{NODE}:r1:Ethernet1"]
        assert (point.up, point.speed_mbps, point.interface) == (True, 10_000.0, "Ethernet1")
        assert point.counters is not None
        assert (point.counters.in_octets, point.counters.out_errors) == (2**64 - 1, 3)
        link = network.links[f"{NODE}:r1:Ethernet1:out"]
        assert (link.source_node, link.dest_tp) == (f"{NODE}:r1", f"{NODE}:r2:Ethernet2")
        assert (link.up, link.capacity_mbps) == (True, 10_000.0)
        assert network.links[f"{NODE}:r2:Ethernet2:out"].dest_tp == f"{NODE}:r1:Ethernet1"
        assert {f.code for f in network.findings} == {"neighbour.unknown"}
        assert all(s.quarantined == 0 for s in twin.device_statuses())

        at = "/openconfig-interfaces:interfaces/interface[name='Ethernet1']/state"
        stores["r1"].put(f"{at}/oper-status", "DOWN")
        stores["r1"].put(f"{at}/counters/out-errors", 4)
        await eventually(lambda: not twin.network().links[link.id].up, "link that is down")
        assert not twin.network().links[f"{NODE}:r2:Ethernet2:out"].up
        counted = await eventually(
            lambda: twin.network().termination_points[point.id].counters, "counted errors"
        )
        assert counted.out_errors == 4
