"""Modules, configuration and state of one example device, shared by the tests of its faces."""

MODULES = (
    "ietf-interfaces",
    "iana-if-type",
    "ietf-network",
    "ietf-network-topology",
    "ietf-l3-unicast-topology",
    "fedtwin-inter-domain",
    "fedtwin-performance",
    "fedtwin-ran",
)
NETWORK = "urn:ndt:transport"
NODE = f"{NETWORK}:warsaw"

CONFIG = {
    "ietf-interfaces:interfaces": {
        "interface": [
            {"name": "eth0", "type": "iana-if-type:ethernetCsmacd", "enabled": True},
            {
                "name": "eth1",
                "type": "iana-if-type:ethernetCsmacd",
                "enabled": True,
                "description": "<to> 'b'",
            },
        ]
    },
    "ietf-network:networks": {
        "network": [
            {
                "network-id": NETWORK,
                "network-types": {"ietf-l3-unicast-topology:l3-unicast-topology": {}},
                "node": [
                    {
                        "node-id": NODE,
                        "ietf-network-topology:termination-point": [
                            {
                                "tp-id": f"{NODE}:eth0",
                                "ietf-l3-unicast-topology:l3-termination-point-attributes": {
                                    "interface-name": "eth0"
                                },
                                "fedtwin-inter-domain:inter-domain": {
                                    "inter-domain-link-id": "urn:ndt:idl:ab12",
                                    "peer-domain": "core",
                                    "capacity": "100.5",
                                    "metric": 7,
                                },
                            }
                        ],
                    }
                ],
                "ietf-network-topology:link": [
                    {
                        "link-id": f"{NODE}:eth1:out",
                        "source": {"source-node": NODE, "source-tp": f"{NODE}:eth1"},
                        "ietf-l3-unicast-topology:l3-link-attributes": {"metric1": "2500"},
                    }
                ],
            }
        ]
    },
    "fedtwin-ran:gnb": {
        "gNBId": 7,
        "NRCellDU": [{"cellLocalId": 1, "prb-share": "0.75", "sNSSAIList": ["1", "2-00000a"]}],
    },
}
STATE = {
    "ietf-interfaces:interfaces": {
        "interface": [
            {
                "name": name,
                "admin-status": "up",
                "oper-status": "up",
                "speed": "1000000000",
                "statistics": {
                    "discontinuity-time": "2026-01-01T00:00:00Z",
                    "in-octets": "18446744073709551615",
                    "out-octets": "0",
                    "in-errors": 3,
                },
            }
            for name in ("eth0", "eth1")
        ]
    },
    "fedtwin-performance:performance": {
        "interval": 1000,
        "link": [{"link-id": f"{NODE}:eth1:out", "one-way-delay": "12.5", "loss-ratio": "0.000000001"}],
    },
}

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
ETH1 = "/ietf-interfaces:interfaces/interface[name='eth1']"
