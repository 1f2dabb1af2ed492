"""One emulated device with a little of everything, certificates, and helpers to run blocking clients."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain_twin.emulator.device import DeviceDatastore, load_schema

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


@pytest.fixture
def store() -> DeviceDatastore:
    device = DeviceDatastore("warsaw", load_schema(MODULES))
    device.load(CONFIG, STATE)
    return device


@dataclass(frozen=True)
class Pki:
    """PEM of one CA with a device's and a client's certificate, and of a stranger's client certificate."""

    roots: bytes
    device: tuple[bytes, bytes]
    client: tuple[bytes, bytes]
    stranger: tuple[bytes, bytes]

    def write(self, folder: Path) -> tuple[str, str, str]:
        """Files of the client's certificate, its key and the roots."""
        paths = folder / "client.pem", folder / "client.key", folder / "roots.pem"
        for path, content in zip(paths, (*self.client, self.roots), strict=True):
            path.write_bytes(content)
        return str(paths[0]), str(paths[1]), str(paths[2])


@pytest.fixture(scope="session")
def pki() -> Pki:
    authority = _certificate("devices-ca", None)
    rogue = _certificate("rogue-ca", None)
    return Pki(
        _pem(authority)[0],
        _pem(_certificate("127.0.0.1", authority)),
        _pem(_certificate("collector", authority)),
        _pem(_certificate("stranger", rogue)),
    )


def _certificate(name, issuer):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def _pem(pair):
    certificate, key = pair
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
