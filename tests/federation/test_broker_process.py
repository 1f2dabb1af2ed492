"""The broker as a process: it starts from a file, refuses TLS 1.2, ends on a signal, names what is wrong."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from federation_parts import EXCHANGE, Federation

from domain_twin.config import ClientConfig
from domain_twin.trust.identity import Role
from federation.client import TwinClient

PROGRAM = """
import asyncio, logging, sys
from pathlib import Path
from domain_twin.model import Service, ServiceRecords
from federation import broker
assert "grpc" not in sys.modules

class Addresses(logging.Handler):
    def emit(self, record):
        if hasattr(record, "address"):
            print(record.address, flush=True)

logging.getLogger("federation.broker").addHandler(Addresses())
logging.getLogger("federation.broker").setLevel(logging.INFO)
records = ServiceRecords(services={"urn:s:1": Service("urn:s:1", "uplink", "ran/cell-1", "edge/app")})
path = Path(sys.argv[1])
try:
    asyncio.run(broker.run_broker(path, load_records=lambda file: records, ready=lambda: None))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation.make(tmp_path)


def write_config(federation: Federation, **more: str) -> Path:
    identity = federation.pki.identity(EXCHANGE, Role.BROKER, "main", dns=["localhost", "127.0.0.1"])
    keys = {"listen": "127.0.0.1:0", "services": "services.json", **more}
    path = federation.folder / "broker.toml"
    path.write_text(
        f'operator = "{EXCHANGE}"\nstate = "state"\n'
        + "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        + "[identity]\n"
        + "".join(f'{key} = "{value}"\n' for key, value in identity.model_dump().items())
        + "[trust]\n"
        + "".join(f'"{operator}" = "{root}"\n' for operator, root in federation.pki.roots.items())
        + '[[member]]\ndomain = "ran"\noperator = "northcell.example"\n'
        + f'[[access]]\nsubject = "spiffe://{EXCHANGE}/user/ann"\n'
    )
    return path


@asynccontextmanager
async def process(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_broker_process_serves_until_it_is_asked_to_end(
    federation: Federation, number: signal.Signals
) -> None:
    async with asyncio.timeout(60), process(write_config(federation)) as child:
        assert child.stdout
        address = (await child.stdout.readline()).decode().strip()
        issued = federation.pki.identity(EXCHANGE, Role.USER, "ann")
        profile = ClientConfig(
            address=address,
            identity=f"spiffe://{EXCHANGE}/broker/main",
            root=federation.pki.roots[EXCHANGE],
            certificate=issued.certificate,
            key=issued.key,
        )
        # Act
        async with TwinClient(profile) as twin:
            statuses = await twin.domains()
            services = await twin.services()
        refused = await handshake(address, profile, ssl.TLSVersion.TLSv1_2)
        accepted = await handshake(address, profile, ssl.TLSVersion.TLSv1_3)
        child.send_signal(number)
        _, errors = await child.communicate()
        # Assert
        assert [status.problem for status in statuses] == ["has not joined yet"]
        assert [status.service.name for status in services.statuses] == ["uplink"]
        assert (refused, accepted) == (False, True)
        assert child.returncode == 0
        assert b"Traceback" not in errors


async def test_a_wrong_configuration_ends_the_process_with_the_reason(federation: Federation) -> None:
    async with asyncio.timeout(60), process(write_config(federation, lissten="x")) as child:
        _, errors = await child.communicate()
    assert child.returncode == 1
    assert errors.startswith(b"ConfigError: ")
    assert b"did you mean 'listen'" in errors


async def test_an_address_that_is_none_is_named(federation: Federation) -> None:
    async with asyncio.timeout(60), process(write_config(federation, listen="nowhere")) as child:
        _, errors = await child.communicate()
    assert b"ConfigError: listen = 'nowhere': not host:port" in errors


async def handshake(address: str, profile: ClientConfig, version: ssl.TLSVersion) -> bool:
    """Whether the broker agrees on this version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(profile.root)
    context.load_cert_chain(profile.certificate, profile.key)
    context.minimum_version = context.maximum_version = version
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    except OSError:  # an alert, or the connection was reset
        return False
    writer.close()
    return True
