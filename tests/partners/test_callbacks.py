"""Callbacks lead out and nowhere else: what is refused, and that the address looked at is the one reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from event_parts import NAME, Pki, delivering, receiver, settings, until

from domain_twin.config import EventsConfig
from domain_twin.errors import ConfigError, ContractError, OverCapacity, Unreachable
from federation.partners.callbacks import LOOKUPS_OF_ONE, Callbacks, read_callback

PUBLIC = "93.184.216.34"
resolve = socket.getaddrinfo


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store' / 'partners.sqlite3'}"


class Names:
    """Stands where the operating system's resolver is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def say(self, name: str, *answers: list[str]) -> None:
        """One answer after the other; the last one for good."""
        self.answers[name] = list(answers)

    def __call__(self, host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in self.answers:
            return resolve(host, port, *args, **more)
        self.asked.append(host)
        left = self.answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://hook.example/cb",
        "ftp://hook.example/cb",
        "file:///etc/passwd",
        "//hook.example/cb",
        "https:///cb",
        "https://user@hook.example/cb",
        "https://user:pass@hook.example/cb",
        "https://@hook.example/cb",
        "https://hook.example/cb?x=1",
        "https://hook.example/cb?",
        "https://hook.example/cb#x",
        "https://hook.example:0/cb",
        "https://hook.example:22/cb",
        "https://hook.example:80/cb",
        "https://hook.example:70000/cb",
        "https://hook.example:x/cb",
        "https://hook.example\\@127.0.0.1/cb",
        "https://hook.example/c b",
        "https://hook.example/cb\r\nHost: inside",
        "https://hôok.example/cb",
        "https://-hook.example/cb",
        "https://hook..example/cb",
        "https://[fe80::1%25eth0]/cb",
        "https://[::1/cb",
        "https://hook.example/" + "x" * 2000,
        "https://" + "x." * 130 + "example/cb",
    ],
)
def test_what_is_no_callback_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="callback"):
        read_callback(text)


def test_a_callback_is_taken_apart() -> None:
    assert read_callback("https://Hook.Example/a/b/").authority == "hook.example"
    assert read_callback("https://hook.example:8443/a").authority == "hook.example:8443"
    assert read_callback("https://[2a00::1]:8443").authority == "[2a00::1]:8443"
    assert read_callback("https://hook.example/a/b/").path == "/a/b"
    assert read_callback("http://127.0.0.1/", http=True).port == 80


INSIDE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # metadata of clouds
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "100::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_an_address_that_is_not_public_is_refused(address: str, names: Names) -> None:
    callbacks = Callbacks(EventsConfig())
    names.say("inside.example", [address])
    names.say("both.example", [PUBLIC, address])
    names.say("both-6.example", ["2a00:1450:4001:80e::200e", address])
    host = f"[{address}]" if ":" in address else address
    told = set()
    for callback in (
        f"https://{host}/",
        "https://inside.example/",
        "https://both.example",
        "https://both-6.example",
    ):
        with pytest.raises(ContractError) as caught:
            await callbacks.addresses(callbacks.read(callback), tenant="acme")
        told.add(str(caught.value))
    names.say("none.example", [])
    with pytest.raises(ContractError) as caught:
        await callbacks.addresses(callbacks.read("https://none.example"), tenant="acme")
    assert told == {str(caught.value)}  # nobody learns what names there are inside
    await callbacks.close()


@pytest.mark.parametrize("spelled", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "0"])
async def test_another_spelling_of_an_inner_address_is_no_way_in(spelled: str) -> None:
    callbacks = Callbacks(EventsConfig())
    with pytest.raises(ContractError):
        await callbacks.addresses(callbacks.read(f"https://{spelled}/"), tenant="acme")
    await callbacks.close()


async def test_public_addresses_and_allowed_networks_are_taken(names: Names) -> None:
    callbacks = Callbacks(EventsConfig(allow_networks=("10.1.0.0/16", "fd00::/8")))
    for address in (PUBLIC, "2a00:1450:4001:80e::200e", "10.1.2.3", "fd00::1", "::ffff:93.184.216.34"):
        names.say("hook.example", [address])
        found = await callbacks.addresses(callbacks.read("https://hook.example/"), tenant="acme")
        assert [str(each) for each in found] in ([address], ["::ffff:5db8:d822"])
    for address in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3"):
        names.say("hook.example", [address])
        with pytest.raises(ContractError):
            await callbacks.addresses(callbacks.read("https://hook.example/"), tenant="acme")
    await callbacks.close()


async def test_http_is_for_this_machine_only_and_when_it_is_allowed(names: Names) -> None:
    closed, opened = Callbacks(EventsConfig()), Callbacks(EventsConfig(allow_http_loopback=True))
    with pytest.raises(ContractError):
        closed.read("http://127.0.0.1:8080/")
    assert await opened.addresses(opened.read("http://127.0.0.1:8080/"), tenant="acme")
    names.say("hook.example", [PUBLIC])
    for refused in ("http://hook.example/", "https://127.0.0.1/"):
        with pytest.raises(ContractError):
            await opened.addresses(opened.read(refused), tenant="acme")
    await closed.close()
    await opened.close()


async def test_a_subscription_is_not_made_where_its_callback_leads_inside(
    tmp_path: Path, sqlite: str, names: Names
) -> None:
    names.say("inside.example", ["10.0.0.1"])
    async with delivering(tmp_path, sqlite, EventsConfig()) as at:
        for callback in ("https://inside.example/cb", "https://127.0.0.1/cb", "http://hook.example/cb"):
            with pytest.raises(ContractError):
                await at.hub(callback)


async def test_a_name_that_leads_inside_later_is_not_followed(
    tmp_path: Path, sqlite: str, pki: Pki, names: Names
) -> None:
    names.say("rebinding.example", [PUBLIC], ["127.0.0.1"])
    async with receiver(pki) as inside:
        config = settings(pki, allow_networks=(), timeout_s=1.0)
        async with delivering(tmp_path, sqlite, config) as at:
            hub = await at.hub(f"https://rebinding.example:{inside.port}/cb")
            await at.order(1)
            await until(lambda: "not public" in at.shown(hub).get("lastError", ""))
        assert inside.connections == 0


async def test_the_very_address_that_was_looked_at_is_reached(
    tmp_path: Path, sqlite: str, pki: Pki, names: Names
) -> None:
    """A second look would find the address that is not allowed: one name, one look, for each delivery."""
    asked: list[str | None] = []
    pki.context.sni_callback = lambda _, name, __: asked.append(name)
    async with receiver(pki) as hook:
        names.say(NAME, ["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
        config = settings(pki, allow_networks=("127.0.0.1/32",), first_retry_s=60.0, longest_retry_s=60.0)
        async with delivering(tmp_path, sqlite, config) as at:
            hub = await at.hub(f"https://{NAME}:{hook.port}/cb")
            await at.order(1)
            await until(lambda: hook.got)
            assert names.asked == [NAME, NAME]
            await at.order(2)
            await until(lambda: at.shown(hub).get("lastError"))
            assert names.asked == [NAME] * 3
    pki.context.sni_callback = None
    assert hook.got[0].headers["host"] == f"{NAME}:{hook.port}"
    assert asked == [NAME]
    assert hook.connections == 1


async def test_the_certificate_has_to_be_that_of_the_name(
    tmp_path: Path, sqlite: str, pki: Pki, names: Names
) -> None:
    names.say("other.example", ["127.0.0.1"])
    stranger = Pki.make(tmp_path / "stranger", "other.example", "127.0.0.1")
    async with (
        delivering(tmp_path, sqlite, settings(pki)) as at,
        receiver(pki) as hook,
        receiver(stranger) as unknown,
    ):
        for callback in (f"https://other.example:{hook.port}/cb", f"https://other.example:{unknown.port}/cb"):
            hub = await at.hub(callback)
            await at.order(1)
            await until(lambda: "certificate verify failed" in at.shown(hub).get("lastError", ""))  # noqa: B023
        assert hook.got == unknown.got == []


async def test_no_connection_is_kept_for_another_name(
    tmp_path: Path, sqlite: str, pki: Pki, names: Names
) -> None:
    """At one address two names may be two servers: the second name's certificate is looked at, too."""
    names.say(NAME, ["127.0.0.1"])
    names.say("other.example", ["127.0.0.1"])

    async def open_answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 X\r\nConnection: keep-alive\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(5)

    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, open_answer) as hook:
        await at.hub(f"https://{NAME}:{hook.port}/cb")
        other = await at.hub(f"https://other.example:{hook.port}/cb")
        await at.order(1)
        await until(lambda: hook.got and at.shown(other).get("lastError"))
        assert "certificate verify failed" in at.shown(other)["lastError"]
        assert len(hook.got) == 1


async def test_the_next_address_is_tried_where_one_does_not_answer(
    tmp_path: Path, sqlite: str, pki: Pki, names: Names
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as hook:
        names.say(NAME, ["::1", "127.0.0.1"])
        await at.hub(f"https://{NAME}:{hook.port}/cb")
        await at.order(1)
        await until(lambda: hook.got)


async def test_no_proxy_is_asked(
    tmp_path: Path, sqlite: str, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        delivering(tmp_path, sqlite, settings(pki)) as at,
        receiver(pki) as hook,
        receiver(None) as proxy,
    ):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        await at.hub(hook.url)
        await at.order(1)
        await until(lambda: hook.got)
        assert proxy.connections == 0


async def test_names_that_are_looked_up_slowly_hold_up_their_tenant_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def slow(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if str(host).startswith("slow"):
            go_on.wait(30)
            return []
        return resolve(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    callbacks = Callbacks(EventsConfig(timeout_s=0.2, allow_networks=("127.0.0.0/8",)))
    try:
        for number in range(LOOKUPS_OF_ONE):
            with pytest.raises(Unreachable, match="slowly"):
                await callbacks.addresses(callbacks.read(f"https://slow{number}.example"), tenant="acme")
        with pytest.raises(OverCapacity):
            await callbacks.addresses(callbacks.read("https://slow.example"), tenant="acme")
        assert await callbacks.addresses(callbacks.read("https://127.0.0.1"), tenant="globex")
    finally:
        go_on.set()
    async with asyncio.timeout(20):
        while callbacks._lookups["acme"]:  # noqa: ASYNC110 - threads end by themselves
            await asyncio.sleep(0.01)
    assert await callbacks.addresses(callbacks.read("https://127.0.0.1"), tenant="acme")
    await callbacks.close()


def test_the_configuration_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a network such as"):
        EventsConfig(allow_networks=("10.0.0.1/8",))
    with pytest.raises(ConfigError, match="roots"):
        Callbacks(EventsConfig(roots=tmp_path / "nothing.pem"))


def test_certificates_are_verified_by_default() -> None:
    context = Callbacks(EventsConfig())._context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
