"""TLS of the API process: 1.3 alone, renewed while it serves; and tokens that are bound to a certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from partners_http import ORDERS, Running, client, running
from token_parts import api_config, claims

from domain_twin.config import ApiTlsConfig
from domain_twin.errors import ConfigError
from domain_twin.trust.ca import DeviceCA, IssuedDevice
from twin_api.issuer import TrialIssuer
from twin_api.protocol import thumbprint
from twin_api.tls import ServerTls


@pytest.fixture
def authority(tmp_path: Path) -> DeviceCA:
    return DeviceCA.create("exchange.example", tmp_path / "ca")


def server_files(authority: DeviceCA, folder: Path) -> IssuedDevice:
    return authority.issue_device("twins.exchange.example", folder, dns=["127.0.0.1"])


def print_of(certificate: Path) -> str:
    return thumbprint(der(certificate))


def der(certificate: Path) -> bytes:
    return x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_bytes(Encoding.DER)


def trusting(authority: DeviceCA, shown: IssuedDevice | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.root))
    if shown:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


@asynccontextmanager
async def over_tls(
    authority: DeviceCA, tmp_path: Path, **given: Any
) -> AsyncIterator[tuple[Running, TrialIssuer]]:
    files = server_files(authority, tmp_path / "server")
    tls = {"certificate": files.certificate, "key": files.key, "client_roots": authority.root}
    config, issuer = api_config(tmp_path, tls=tls, **given)
    assert config.tls
    async with running(config, tls=ServerTls(config.tls).context) as at:
        yield at, issuer


async def test_only_tls_1_3_is_spoken(authority: DeviceCA, tmp_path: Path) -> None:
    async with over_tls(authority, tmp_path) as (at, _):
        async with client(at, verify=trusting(authority)) as http:
            assert (await http.get("/healthz")).status_code == 200
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with client(at, verify=old) as http:
            with pytest.raises(httpx.ConnectError):  # what it says differs between event loops
                await http.get("/healthz")
        async with client(at) as http:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate verify failed"):
                await http.get("/healthz")


async def test_a_bound_token_is_taken_from_its_client_alone(authority: DeviceCA, tmp_path: Path) -> None:
    own = authority.issue_client("own", tmp_path / "clients")
    other = authority.issue_client("other", tmp_path / "clients")
    async with over_tls(authority, tmp_path) as (at, issuer):
        token = issuer.sign(claims(time.time(), cnf={"x5t#S256": print_of(own.certificate)}))
        statuses = []
        for shown in (own, other, None, own):
            async with client(at, token, verify=trusting(authority, shown)) as http:
                told = {"client-cert": f":{b64encode(der(own.certificate)).decode()}:"}  # by nobody's proxy
                statuses.append((await http.get(ORDERS, headers=told)).status_code)

    assert statuses == [200, 401, 401, 200]


async def test_a_certificate_of_strangers_is_none(authority: DeviceCA, tmp_path: Path) -> None:
    stranger = DeviceCA.create("elsewhere.example", tmp_path / "strangers").issue_client(
        "own", tmp_path / "c"
    )
    async with over_tls(authority, tmp_path) as (at, issuer):
        token = issuer.sign(claims(time.time(), cnf={"x5t#S256": print_of(stranger.certificate)}))
        async with client(at, token, verify=trusting(authority, stranger)) as http:
            with pytest.raises(httpx.TransportError):
                await http.get(ORDERS)


@pytest.mark.parametrize(
    ("told", "status"),
    [(":{}:", 200), ("{}", 401), (":AAAA:", 401), (":***:", 401), ("", 401)],
)
async def test_a_proxy_tells_of_a_certificate(
    authority: DeviceCA, tmp_path: Path, told: str, status: int
) -> None:
    own = authority.issue_client("own", tmp_path / "clients")
    config, issuer = api_config(tmp_path, behind_proxy=True, proxy_certificate=True)
    token = issuer.sign(claims(time.time(), cnf={"x5t#S256": print_of(own.certificate)}))
    header = told.format(b64encode(der(own.certificate)).decode())
    async with running(config) as at, client(at, token) as http:
        once = await http.get(ORDERS, headers={"client-cert": header} if told else {})
        twice = await http.get(ORDERS, headers=[("client-cert", header)] * 2)

    assert (once.status_code, twice.status_code) == (status, 401)


async def test_what_a_client_says_of_its_certificate_counts_for_nothing_without_a_proxy(
    authority: DeviceCA, tmp_path: Path
) -> None:
    own = authority.issue_client("own", tmp_path / "clients")
    config, issuer = api_config(tmp_path, behind_proxy=True)
    token = issuer.sign(claims(time.time(), cnf={"x5t#S256": print_of(own.certificate)}))
    async with running(config) as at, client(at, token) as http:
        told = {"client-cert": f":{b64encode(der(own.certificate)).decode()}:"}
        assert (await http.get(ORDERS, headers=told)).status_code == 401


async def test_a_renewed_certificate_is_taken_up(
    authority: DeviceCA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twin_api.tls._LOOK_EVERY_S", 0.02)
    files = server_files(authority, tmp_path / "server")
    config, _ = api_config(tmp_path)
    tls = ServerTls(ApiTlsConfig(certificate=files.certificate, key=files.key))
    first = tls.not_after
    async with running(config, tls=tls.context) as at:
        following = asyncio.create_task(tls.follow())
        files.key.write_text("half written")
        await asyncio.sleep(0.1)
        assert tls.not_after == first
        renewed = authority.issue_device(
            "twins.exchange.example", tmp_path / "renewed", dns=["127.0.0.1"], life=timedelta(hours=99)
        )
        shutil.copy(renewed.certificate, files.certificate)
        shutil.copy(renewed.key, files.key)
        async with asyncio.timeout(20):
            while tls.not_after == first:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        shown = await _shown(at, authority)
        following.cancel()

    assert shown == der(renewed.certificate)


async def _shown(at: Running, authority: DeviceCA) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", at.port, ssl=trusting(authority))
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert isinstance(found, bytes)
    return found


def test_files_of_no_use_are_told_at_the_start(authority: DeviceCA, tmp_path: Path) -> None:
    files = server_files(authority, tmp_path / "server")
    good = {"certificate": files.certificate, "key": files.key}
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    nothing.chmod(0o600)
    old = authority.issue_device(
        "old", tmp_path, life=timedelta(hours=1), now=datetime.now(UTC) - timedelta(2)
    )

    for changed, sentence in (
        ({"certificate": nothing}, "not a PEM certificate with"),
        ({"key": nothing}, "not a PEM certificate with"),
        ({"key": tmp_path / "none"}, "not a PEM certificate with"),
        ({"client_roots": nothing}, "no PEM file with roots"),
        ({"certificate": old.certificate, "key": old.key}, "expired at"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            ServerTls(ApiTlsConfig.model_validate({**good, **changed}))
    files.key.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read this private key"):
        ServerTls(ApiTlsConfig.model_validate(good))
