"""Interfaces (RFC 8343), topology (RFC 8345), its layer 3 (RFC 8346), and the borders between domains."""

from domain_twin.mapping.table import (
    Kind,
    Table,
    attributes,
    bits_to_megabits,
    flag,
    is_word,
    number,
    real,
    text,
)

_INTERFACE = "/ietf-interfaces:interfaces/interface[name]"
_NETWORK = "/ietf-network:networks/network[network-id]"
_NODE = f"{_NETWORK}/node[node-id]"
_POINT = f"{_NODE}/ietf-network-topology:termination-point[tp-id]"
_LINK = f"{_NETWORK}/ietf-network-topology:link[link-id]"
_L3 = "ietf-l3-unicast-topology"
_BORDER = "fedtwin-inter-domain:inter-domain"

TABLE: Table = (
    *attributes(
        _INTERFACE,
        Kind.INTERFACE,
        [
            ("name", "name", text),
            ("enabled", "enabled", flag),
            ("admin-status", "admin_up", is_word("up")),
            ("oper-status", "oper_up", is_word("up")),
            ("speed", "speed_mbps", bits_to_megabits),
        ],
    ),
    *attributes(
        f"{_INTERFACE}/statistics",
        Kind.COUNTERS,
        [
            (f"{way}-{what}", f"{way}_{what}".replace("-", "_"), number)
            for way in ("in", "out")
            for what in ("octets", "unicast-pkts", "multicast-pkts", "broadcast-pkts", "errors", "discards")
        ],
    ),
    *attributes(
        _NODE,
        Kind.NODE,
        [("node-id", "id", text), (f"{_L3}:l3-node-attributes/name", "name", text)],
    ),
    *attributes(
        _POINT,
        Kind.TERMINATION_POINT,
        [
            ("tp-id", "id", text),
            (f"{_L3}:l3-termination-point-attributes/interface-name", "interface", text),
            (f"{_BORDER}/inter-domain-link-id", "inter_domain_link_id", text),
            (f"{_BORDER}/peer-domain", "peer_domain", text),
            (f"{_BORDER}/capacity", "inter_domain_capacity_mbps", real),
            (f"{_BORDER}/metric", "inter_domain_metric", number),
        ],
    ),
    *attributes(
        _LINK,
        Kind.LINK,
        [
            ("link-id", "id", text),
            ("source/source-node", "source_node", text),
            ("source/source-tp", "source_tp", text),
            ("destination/dest-node", "dest_node", text),
            ("destination/dest-tp", "dest_tp", text),
            (f"{_L3}:l3-link-attributes/metric1", "metric", number),
        ],
    ),
)
