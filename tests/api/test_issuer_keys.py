"""Keys of issuers: followed in files and at addresses, within bounds; the last good ones stay in use."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from domain_twin.config import IssuerConfig
from domain_twin.errors import ConfigError
from twin_api import keys as module
from twin_api.issuer import TrialIssuer
from twin_api.keys import ANEW_AFTER_S, MAX_OCTETS, OLD_AFTER_S, KeyRing, KeysMissing, UnknownKey, parse_keys


def ec(kid: str, **more: Any) -> dict[str, Any]:
    return {**ECKey.generate_key("P-256", {"kid": kid}).as_dict(private=False), **more}


def text(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Address:
    """A server of key sets, one a connection; counts how often it is asked."""

    def __init__(self) -> None:
        self.answer = b""
        self.status = "200 OK"
        self.headers = ""
        self.asked = 0
        self.stalls = False
        self.url = ""
        self.idle = asyncio.Event()
        self.idle.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle.clear()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.stalls:  # a piece now and then, so that no single wait is long
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.answer)}\r\n{self.headers}"
            writer.write(f"{head}connection: close\r\n\r\n".encode() + self.answer)
            await writer.drain()
        writer.close()
        self.idle.set()


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    made = Address()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    async with server:
        yield made
        async with asyncio.timeout(20):
            await made.idle.wait()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JWKS"),
        (b'{"keys": {}}', "no JWKS"),
        (b'{"keys": [1]}', "a key is an object"),
        (text(), "no key that is taken here"),
        (text(*[{"kty": "RSA"}] * 101), "at most 100 keys"),
        (text(RSAKey.generate_key(2048).as_dict(private=False)), "no key that is taken here"),
        (text(OctKey.generate_key(256).as_dict(private=True)), "no key that is taken here"),
        (text(ECKey.generate_key("P-384").as_dict(private=False)), "no key that is taken here"),
        (text(OKPKey.generate_key("X25519").as_dict(private=False)), "no key that is taken here"),
        (text(ec("a", use="enc")), "no key that is taken here"),
        (text(ec("a", alg="ECDH-ES")), "no key that is taken here"),
        (text(ec("trial-a")), "no key that is taken here"),
        (text(ECKey.generate_key("P-256", {"kid": "a"}).as_dict(private=True)), "a private key"),
        (text(ec("a"), ec("a")), "two keys have the id 'a'"),
        (text(ec("a", x="AAAA")), "cannot be read"),
        (text({"kty": "EC", "crv": "P-256", "kid": "a"}), "cannot be read"),
        (text(ec("a") | {"kid": 7}), "a key id"),
        (b" " * (MAX_OCTETS + 1), "a key set of more than"),
    ],
    ids=itertools.count(),  # keys are made anew every time: they cannot name a test
)
def test_a_set_that_is_of_no_use_is_refused(document: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_keys(document, trial=False)


def test_keys_are_told_apart_by_id_and_family() -> None:
    ed = OKPKey.generate_key("Ed25519", {"kid": "a", "alg": "EdDSA"}).as_dict(private=False)

    found = parse_keys(text(ec("a"), ed, {"kty": "AKP", "alg": "ML-DSA-44"}), trial=False)

    assert set(found) == {("a", "ES256"), ("a", "EdDSA")}


def test_keys_for_trials_are_taken_where_that_is_said(tmp_path: Path) -> None:
    TrialIssuer.create(tmp_path)
    given = {"iss": "urn:x", "jwks": tmp_path / "jwks.json"}

    with pytest.raises(ConfigError, match="need `trial = true` under"):
        KeyRing(IssuerConfig.model_validate(given))
    KeyRing(IssuerConfig.model_validate({**given, "trial": True}))


async def test_a_file_is_followed_and_its_last_good_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(text(ec("a")))
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks=path))
    assert await ring.find("a", "ES256") is await ring.find("", "ES256")

    path.write_bytes(b"{half")
    assert await ring.find("a", "ES256")
    assert "no JSON" in ring.problem
    path.write_bytes(text(ec("b"), ec("c")))
    assert await ring.find("b", "ES256")
    assert ring.problem == ""
    for kid in ("a", ""):  # gone; and of two keys none is the only one
        with pytest.raises(UnknownKey):
            await ring.find(kid, "ES256")
    with pytest.raises(UnknownKey):
        await ring.find("b", "EdDSA")
    assert ring.generation == 2


def test_a_file_that_is_missing_at_the_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        KeyRing(IssuerConfig(iss="urn:x", jwks=tmp_path / "none.json"))
    (tmp_path / "root.pem").write_text("no root")
    with pytest.raises(ConfigError, match="no PEM file with a root"):
        KeyRing(IssuerConfig(iss="u", jwks_url="https://keys.example", jwks_root=tmp_path / "root.pem"))


async def test_an_address_is_asked_once_and_again_for_an_unknown_key_now_and_then(address: Address) -> None:
    clock = Clock()
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks_url=address.url), clock)
    address.answer = text(ec("a"))
    for _ in range(3):
        await ring.find("a", "ES256")
    assert address.asked == 1

    address.answer = text(ec("a"), ec("b"))
    for _ in range(5):  # somebody tries ids
        with pytest.raises(UnknownKey):
            await ring.find("b", "ES256")
    assert address.asked == 1
    clock.now += ANEW_AFTER_S
    assert await ring.find("b", "ES256")
    assert address.asked == 2


async def test_many_who_ask_at_once_share_one_request(address: Address) -> None:
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks_url=address.url))
    address.answer = text(ec("a"))

    await asyncio.gather(*(ring.find("a", "ES256") for _ in range(20)))

    assert address.asked == 1


async def test_a_set_is_fetched_again_in_time_though_its_keys_are_known(address: Address) -> None:
    clock = Clock()
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks_url=address.url), clock)
    address.answer = text(ec("a"))
    await ring.find("a", "ES256")

    address.answer = text(ec("b"))
    clock.now += OLD_AFTER_S
    await ring.fetch(OLD_AFTER_S)

    with pytest.raises(UnknownKey):
        await ring.find("a", "ES256")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": "302 Found", "headers": "location: http://127.0.0.1:1/\r\n"}, "status 302"),
        ({"status": "500 Oh"}, "status 500"),
        ({"answer": b" " * (MAX_OCTETS + 1)}, "more than"),
        ({"answer": b"{}"}, "no JWKS"),
        ({"stalls": True}, ""),
    ],
)
async def test_what_an_address_should_not_say_leaves_the_last_good_keys(
    address: Address, change: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks_url=address.url), clock)
    address.answer = text(ec("a"))
    await ring.find("a", "ES256")
    monkeypatch.setattr(module, "FETCH_WITHIN_S", 0.3)

    for name, value in change.items():
        setattr(address, name, value)
    clock.now += ANEW_AFTER_S
    with pytest.raises(UnknownKey):
        await ring.find("b", "ES256")

    assert sentence in ring.problem != ""
    assert await ring.find("a", "ES256")


async def test_without_any_keys_nothing_is_said_of_a_token() -> None:
    ring = KeyRing(IssuerConfig(iss="urn:x", jwks_url="http://127.0.0.1:9/jwks"))

    with pytest.raises(KeysMissing):
        await ring.find("a", "ES256")
    assert ring.age_s is None
