"""The emulated device that southbound sessions talk to, and a CA that writes good and bad certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
TOPOLOGY = f"/ietf-network:networks/network[network-id='{NETWORK}']"
POINT = f"{TOPOLOGY}/node[node-id='{NODE}']/ietf-network-topology:termination-point[tp-id='{NODE}:eth0']"
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
ETH1 = "/ietf-interfaces:interfaces/interface[name='eth1']"
IN_OCTETS = f"{ETH0}/statistics/in-octets"
CELL = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
SUBTREES = (
    "/ietf-interfaces:interfaces",
    "/ietf-network:networks",
    "/fedtwin-performance:performance",
    "/fedtwin-ran:gnb",
    "/fedtwin-core:network-function",
)

CONFIG: dict[str, Any] = {
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
            }
        ]
    },
    "fedtwin-ran:gnb": {
        "gNBId": 7,
        "NRCellDU": [{"cellLocalId": 1, "prb-share": "0.75", "sNSSAIList": ["1", "2-00000a"]}],
    },
}
STATE: dict[str, Any] = {
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


Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True)
class Authority:
    """A CA that writes certificates into a folder."""

    pair: Pair
    folder: Path

    @property
    def root(self) -> Path:
        return self._write("root", self.pair)[0]

    def issue(self, name: str, *, days: float = 1.0) -> tuple[Path, Path]:
        """Certificate and key files for `name`; negative `days`: it expired that long ago."""
        return self._write(name, certificate(name, self.pair, days=days))

    def _write(self, name: str, pair: Pair) -> tuple[Path, Path]:
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            pair[1].private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def certificate(name: str, issuer: Pair | None, *, days: float = 1.0) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                if name != "elsewhere"
                else [x509.DNSName(name)]
            ),
            critical=False,
        )
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@asynccontextmanager
async def relay(port: int, damage: asyncio.Event | None = None) -> AsyncIterator[tuple[asyncio.Event, int]]:
    """A TCP relay that falls silent when its gate is shut: what stands between when a link dies.

    With `damage` set, the last octet of all that passes is another.
    """
    gate = asyncio.Event()
    gate.set()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await gate.wait()
                if damage and damage.is_set():
                    data = data[:-1] + bytes([data[-1] ^ 0x55])
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(join(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield gate, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports close on the next turns of the loop
