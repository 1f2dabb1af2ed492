"""The way out to partners' callbacks, and what it keeps them from: the networks that the broker itself is in.

Addresses are https. A name is looked up once for each delivery; one address of it that is not public refuses
all of them, and the connection goes to the very address that was looked at, so that no second answer of the
name server counts. No redirect is followed, no proxy asked, no answer read.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from domain_twin.config import EventsConfig
from domain_twin.errors import ConfigError, ContractError, OverCapacity, TwinError, Unreachable

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Callback", "Callbacks", "read_callback"]

Address = IPv4Address | IPv6Address

MAX_ADDRESS: Final = 2000
MAX_TRIED: Final = 3
LOOKUPS: Final = 64
LOOKUPS_OF_ONE: Final = 4
_LEAST_PORT: Final = 1024  # below are other protocols' servers, which make something of any octets
_HTTPS: Final = 443
_ADDRESS: Final = re.compile(r"[!-\[\]-~]+")  # visible ASCII without the backslash
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?")
_NOT_PUBLIC: Final = (
    "no events can be sent to the callback's host: it has no address, or one that is not public"
)

# What ipaddress calls global and is not for everybody, or leads on to an IPv4 address of any kind.
_REFUSED: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "100.64.0.0/10",  # shared address space, RFC 6598
        "168.63.129.16/32",  # a cloud's own services
        "192.0.0.0/24",  # RFC 6890
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64, RFC 8215
        "100::/64",  # discard, RFC 6666
        "2001::/23",  # Teredo and protocol assignments, RFC 2928
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
        "fec0::/10",  # site-local
    )
)


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback's address, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (_HTTPS if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a callback said."""

    status: int
    retry_after_s: float = 0.0


def read_callback(text: str, *, http: bool = False) -> Callback:
    """A callback's address; `http`: plain HTTP is taken as well. Raises ContractError."""
    if not text or len(text) > MAX_ADDRESS or _ADDRESS.fullmatch(text) is None:
        raise ContractError(f"callback: an address of at most {MAX_ADDRESS} visible characters of ASCII")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ContractError("callback is not an address such as https://host/path") from None
    if parts.scheme != "https" and not (http and parts.scheme == "http"):
        raise ContractError("callback: events are sent to https addresses only")
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ContractError("callback holds neither a user, a password, a query nor a fragment")
    host = parts.hostname or ""
    if not (_NAME.fullmatch(host) and len(host) < 255) and not _is_address(host):
        raise ContractError("callback: its host is neither a name nor an IP address")
    port = (_HTTPS if parts.scheme == "https" else 80) if port is None else port
    if port != _HTTPS and port < _LEAST_PORT and parts.scheme == "https":
        raise ContractError(f"callback: its port is {_HTTPS}, or {_LEAST_PORT} or higher")
    return Callback(parts.scheme, host, port, parts.path.rstrip("/"))


class Callbacks:
    """Looks up and connects; after `close` anew."""

    def __init__(self, config: EventsConfig) -> None:
        """Raises ConfigError where `roots` is no file with certificates."""
        self._config = config
        self._allowed = tuple(ip_network(text) for text in config.allow_networks)
        self._threads: ThreadPoolExecutor | None = None
        self._lookups: Counter[str] = Counter()
        self._context = ssl.create_default_context()
        if config.roots:
            try:
                self._context.load_verify_locations(cafile=str(config.roots))
            except OSError as error:
                raise ConfigError(f"{config.roots}: no PEM file with roots ({error})") from error
        self._client: httpx.AsyncClient | None = None

    def read(self, text: str) -> Callback:
        """A callback's address, as this broker takes them. Raises ContractError."""
        return read_callback(text, http=self._config.allow_http_loopback)

    async def addresses(self, callback: Callback, *, tenant: str) -> list[Address]:
        """Where a callback is now. Raises ContractError unless all of it may be sent to, OverCapacity."""
        found = await self._look_up(callback, tenant)
        if not found or not all(self._may_reach(each, callback) for each in found):
            raise ContractError(_NOT_PUBLIC)
        return found

    async def post(
        self, callback: Callback, listener: str, octets: bytes, headers: dict[str, str], *, tenant: str
    ) -> Answer:
        """Send an event to `{callback}/listener/{listener}`.

        Raises Unreachable, ContractError, OverCapacity.
        """
        try:
            async with asyncio.timeout(self._config.timeout_s):
                addresses = await self.addresses(callback, tenant=tenant)
                return await self._post(callback, addresses[:MAX_TRIED], listener, octets, headers)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._config.timeout_s:g} s") from None

    async def close(self) -> None:
        """Let go of all connections."""
        client, self._client = self._client, None
        threads, self._threads = self._threads, None
        if client:
            await client.aclose()
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _post(
        self,
        callback: Callback,
        addresses: list[Address],
        listener: str,
        octets: bytes,
        headers: dict[str, str],
    ) -> Answer:
        import httpx

        client = self._client = self._client or self._connectable()
        failed: Exception = Unreachable("no connection")
        for address in addresses:
            host = f"[{address}]" if address.version == 6 else str(address)
            request = client.build_request(
                "POST",
                f"{callback.scheme}://{host}:{callback.port}{callback.path}/listener/{listener}",
                content=octets,
                headers={**headers, "Host": callback.authority},
                # The certificate has to be that of the name, though the address is what is connected to.
                extensions={"sni_hostname": callback.host.rstrip(".")},
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
                continue
            except (httpx.HTTPError, OSError, ValueError) as error:
                raise Unreachable(_words(error)) from None
            with contextlib.suppress(Exception):  # what it says is not read
                await response.aclose()
            return Answer(response.status_code, _retry_after(response.headers.get("retry-after", "")))
        raise Unreachable(_words(failed))

    def _connectable(self) -> httpx.AsyncClient:
        import httpx

        config = self._config
        transport = httpx.AsyncHTTPTransport(
            verify=self._context,
            trust_env=False,
            http2=False,
            retries=0,
            # A connection kept for another name at the same address would skip the look at its certificate.
            limits=httpx.Limits(max_connections=config.at_once, max_keepalive_connections=0),
        )
        return httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(config.timeout_s, connect=config.timeout_s / 2),
            headers={"User-Agent": "fedtwin", "Accept-Encoding": "identity"},
        )

    async def _look_up(self, callback: Callback, tenant: str) -> list[Address]:
        """All addresses of a host. Raises OverCapacity where a tenant's names take too long."""
        if self._lookups[tenant] >= LOOKUPS_OF_ONE:
            raise OverCapacity("the names of your callbacks are looked up slowly; see to their name servers")
        self._lookups[tenant] += 1

        def done(_: Any) -> None:
            self._lookups[tenant] -= 1

        if self._threads is None:
            self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="callbacks")
        loop = asyncio.get_running_loop()
        looking = loop.run_in_executor(self._threads, _addresses, callback.host, callback.port)
        looking.add_done_callback(done)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await asyncio.shield(looking)  # a thread cannot be stopped: it counts until it ends
        except TimeoutError:
            raise Unreachable("the callback's name is looked up too slowly") from None

    def _may_reach(self, address: Address, callback: Callback) -> bool:
        if callback.scheme == "http":
            return self._config.allow_http_loopback and address.is_loopback
        if any(address.version == each.version and address in each for each in self._allowed):
            return True
        return _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (mapped := address.ipv4_mapped):
        return _is_public(mapped)
    if any(address.version == each.version and address in each for each in _REFUSED):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


def _addresses(host: str, port: int) -> list[Address]:
    """What the system's resolver says; nothing where it knows nothing."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    texts = dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found)
    return [ip_address(text) for text in texts]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0.0


def _words(error: Exception) -> str:
    """What went wrong, for the partner, whose host it is."""
    if isinstance(error, TwinError):
        return str(error)
    text = " ".join(str(error).split())[:200]
    return f"no answer ({text or type(error).__name__})"
