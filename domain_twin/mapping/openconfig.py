"""OpenConfig: interfaces with their Ethernet part, LLDP neighbours, platform components, the host name.

The modules come from a folder that the operator names. A device that says nothing by RFC 8345 becomes a node
with a termination point for each interface, and its LLDP neighbours become links (`derive`).
"""

from __future__ import annotations

import re

from domain_twin.mapping.table import Kind, Table, attributes, flag, is_word, number, real, text
from domain_twin.model import Value

_SPEED = re.compile(r"(?:.*:)?SPEED_(\d+)(MB|GB|TB)")
_MEGABITS = {"MB": 1.0, "GB": 1_000.0, "TB": 1_000_000.0}


def port_speed(value: Value) -> float:
    """SPEED_10GB to Mbit/s; 0 for SPEED_UNKNOWN."""
    said = text(value)
    if said.rpartition(":")[2] == "SPEED_UNKNOWN":
        return 0.0
    match = _SPEED.fullmatch(said)
    if match is None:
        raise ValueError(f"{said!r} is not a speed such as SPEED_10GB")
    return int(match[1]) * _MEGABITS[match[2]]


def local_name(value: Value) -> str:
    """An identity without its module."""
    return text(value).rpartition(":")[2]


_INTERFACE = "/openconfig-interfaces:interfaces/interface[name]"
_ETHERNET = f"{_INTERFACE}/openconfig-if-ethernet:ethernet/state"
_LLDP = "/openconfig-lldp:lldp"
_NEIGHBOUR = f"{_LLDP}/interfaces/interface[name]/neighbors/neighbor[id]/state"
_COMPONENT = "/openconfig-platform:components/component[name]/state"

TABLE: Table = (
    *attributes(
        _INTERFACE,
        Kind.INTERFACE,
        [
            ("name", "port", text),  # what makes it a port: it stands in no other topology
            ("state/name", "port", text),
            ("state/enabled", "enabled", flag),
            ("state/admin-status", "admin_up", is_word("UP")),
            ("state/oper-status", "oper_up", is_word("UP")),
        ],
    ),
    *attributes(
        _ETHERNET,
        Kind.INTERFACE,
        [
            ("negotiated-port-speed", "speed_mbps", port_speed),
            ("port-speed", "speed_mbps", port_speed),
            ("mac-address", "mac", text),
        ],
    ),
    *attributes(
        f"{_INTERFACE}/openconfig-if-aggregate:aggregation/state",
        Kind.INTERFACE,
        [("lag-speed", "speed_mbps", real)],
    ),
    *attributes(
        f"{_INTERFACE}/state/counters",
        Kind.COUNTERS,
        [
            (leaf, leaf.replace("-", "_"), number)
            for way in ("in", "out")
            for leaf in (f"{way}-octets", f"{way}-pkts", f"{way}-errors", f"{way}-discards")
        ],
    ),
    *attributes("/openconfig-system:system/state", Kind.SYSTEM, [("hostname", "host_name", text)]),
    *attributes(
        f"{_LLDP}/state",
        Kind.SYSTEM,
        [("system-name", "system_name", text), ("chassis-id", "chassis_id", text)],
    ),
    *attributes(
        _NEIGHBOUR,
        Kind.NEIGHBOUR,
        [
            ("system-name", "system_name", text),
            ("chassis-id", "chassis_id", text),
            ("port-id", "port_id", text),
            ("port-description", "port_description", text),
        ],
    ),
    *attributes(
        _COMPONENT,
        Kind.COMPONENT,
        [
            ("type", "type", local_name),
            ("mfg-name", "vendor", text),
            ("part-no", "part", text),
            ("hardware-version", "hardware", text),
            ("software-version", "software", text),
            ("serial-no", "serial", text),
        ],
    ),
)
