"""api.toml: what would be unsafe is refused, with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domain_twin.config import load_api
from domain_twin.errors import ConfigError

GOOD = """\
public_address = "https://twins.exchange.example"
broker = "broker.toml"

[[issuer]]
iss = "https://login.example"
jwks_url = "https://login.example/keys"
"""
TLS = '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
SECOND = '[[issuer]]\niss = "urn:b"\njwks = "b.json"\n'


def written(folder: Path, text: str, **keys: Any) -> Path:
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for name, value in keys.items()
    ]
    path = folder / "api.toml"
    path.write_text("\n".join([*lines, text]))
    return path


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    config = load_api(written(tmp_path, GOOD))

    assert config.listen == "127.0.0.1:8080"
    assert config.expected_audience == "https://twins.exchange.example"
    assert config.broker == tmp_path / "broker.toml"
    assert config.issuer[0].algorithms == ("ES256", "EdDSA")
    assert (config.mtls_bound, config.dialects, config.behind_proxy) == (False, (), False)


@pytest.mark.parametrize("listen", ["0.0.0.0:443", "[::]:443", "192.0.2.1:443"])
def test_others_reach_it_by_tls_or_a_proxy_alone(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match=r"tokens would travel in the clear; give \[tls\]"):
        load_api(written(tmp_path, GOOD, listen=listen))
    assert load_api(written(tmp_path, GOOD, listen=listen, behind_proxy=True)).behind_proxy
    assert load_api(written(tmp_path, GOOD + TLS, listen=listen)).tls


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("https://twins", "http://twins"), "http is for loopback addresses only"),
        (GOOD.replace("https://twins", "ftp://twins"), "is not an address such as"),
        (GOOD.replace("https://twins", "https://a:b@twins"), "is not an address such as"),
        (GOOD.replace('.example"\nbroker', '.example/api"\nbroker'), "has a path of its own"),
        (GOOD.replace('.example"\nbroker', '.example:port"\nbroker'), "public_address"),
        (GOOD.replace("https://login.example/keys", "http://login.example/keys"), "http is for loopback"),
        (GOOD + 'jwks = "k.json"\n', "give its keys once: jwks, a file, or jwks_url"),
        (GOOD.replace('jwks_url = "https://login.example/keys"\n', ""), "give its keys once"),
        (GOOD + SECOND, "each lists the tenants that it may speak for"),
        (GOOD + 'tenants = ["a"]\n' + SECOND, "issuer 'urn:b': with several issuers"),
        (GOOD + SECOND.replace("urn:b", "https://login.example"), "declared twice"),
        (GOOD + 'algorithms = ["HS256"]\n', "'ES256' or 'EdDSA'"),
        (GOOD + 'algorithms = ["none"]\n', "'ES256' or 'EdDSA'"),
        (GOOD + "algorithms = []\n", "at least 1"),
        ("proxy_certificate = true\n" + GOOD, "is for a proxy in front: say behind_proxy = true"),
        (GOOD.replace("https://twins.exchange.example", "http://127.0.0.1:80") + TLS, "begin it with https"),
        (GOOD.partition("[[issuer]]")[0], "issuer: this key is missing"),
        (GOOD + "[limits]\nbody_bytes = 0\n", "greater than or equal to 1024"),
        (GOOD + "[limits]\nbody_bytes = 1048576\n", "less than or equal to 1000000"),
        (GOOD + "[limits]\nrequests_per_second = 0\n", "greater than 0"),
        ('tenant_claim = ""\n' + GOOD, "tenant_claim"),
        ("cors = true\n" + GOOD, "cors: no such key"),
    ],
)
def test_what_would_be_unsafe_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_api(written(tmp_path, text))
    assert sentence in str(refused.value)


def test_several_issuers_each_have_their_tenants(tmp_path: Path) -> None:
    config = load_api(written(tmp_path, GOOD + 'tenants = ["a"]\n' + SECOND + 'tenants = ["b"]\n'))

    assert [issuer.tenants for issuer in config.issuer] == [("a",), ("b",)]
    assert config.issuer[1].jwks == tmp_path / "b.json"


def test_an_address_of_this_machine_may_be_http(tmp_path: Path) -> None:
    for address in ("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
        assert load_api(written(tmp_path, GOOD.replace("https://twins.exchange.example", address)))
