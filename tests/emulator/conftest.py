"""One emulated device with a little of everything, certificates, and helpers to run blocking clients."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from device_example import CONFIG, MODULES, STATE
from netconf_client import session

from domain_twin.emulator.device import DeviceDatastore, load_schema
from domain_twin.emulator.netconf_server import serve_netconf


@pytest.fixture
def store() -> DeviceDatastore:
    device = DeviceDatastore("warsaw", load_schema(MODULES))
    device.load(CONFIG, STATE)
    return device


@pytest.fixture
async def server(store):
    key = asyncssh.generate_private_key("ssh-ed25519")
    running = await serve_netconf(
        store,
        host="127.0.0.1",
        port=0,
        host_key=key.export_private_key(),
        users={"operator": "s3cret", "second": "other"},
        maximum_message=200_000,
    )
    running.public_key = key.export_public_key().decode().strip()
    yield running
    await running.close()


@pytest.fixture
def ssh_config(server, tmp_path):
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.public_key}\n")
    config = tmp_path / "ssh_config"
    config.write_text(f"Host 127.0.0.1\n  UserKnownHostsFile {known_hosts}\n")
    return str(config)


@pytest.fixture
async def client(server, ssh_config):
    async with session(server, ssh_config) as connected:
        yield connected


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
