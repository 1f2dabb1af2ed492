"""NETCONF over SSH without threads: asyncssh on the event loop. Owns host keys, log-in and octets.

What a session costs is its connection and two buffers. Connections are made a few at a time, so that hundreds
of devices that come back together do not run each other into their time limits. Reads no file of the user's:
neither ~/.ssh nor an agent counts here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import asyncssh

from domain_twin.config import NetconfConfig, secret
from domain_twin.errors import CredentialError, TwinError, Unreachable
from domain_twin.southbound.netconf_framing import Framing, encode
from domain_twin.southbound.netconf_messages import (
    BASE_1_1,
    LARGEST_MESSAGE,
    MessageParser,
    check_hello,
    hello,
    read_hello,
)
from domain_twin.southbound.netconf_transport import CONNECT_S, Transport

__all__ = ["AsyncsshTransport"]

# asyncssh tells every connection's life at INFO; what matters of it is in our own errors.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

_AT_ONCE = 16  # handshakes under way
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"  # first: one call a packet; ChaCha20 is five here
_FRESH_S = 2.0  # a device does not wait for a log-in for long: a connection that stood in line is made anew
_CLOSE_S = 2.0
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
_files: dict[Path, tuple[tuple[int, int], asyncssh.SSHKnownHosts]] = {}
_files_lock = threading.Lock()


class AsyncsshTransport(Transport):
    """A session whose octets come through an asyncssh channel."""

    def __init__(
        self, device: str, channel: _Channel, capabilities: tuple[str, ...], session_id: str
    ) -> None:
        super().__init__(device, capabilities, session_id)
        self._channel = channel
        channel.attach(self)

    @classmethod
    async def open(cls, device: str, config: NetconfConfig) -> AsyncsshTransport:
        """Connect, verify the host key, log in, exchange hellos. Raises CredentialError and Unreachable."""
        where = f"device {device}: {config.address}"
        channel = _Channel()
        try:
            async with _connected(where, config) as sock:
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await channel.open(device, config, sock)
                        capabilities, session_id = await channel.greeted
                except BaseException:
                    channel.abort()
                    sock.close()
                    raise
        except TwinError:
            raise
        except TimeoutError as error:
            raise Unreachable(f"{where} did not complete a NETCONF session within {CONNECT_S:g} s") from error
        except (OSError, ValueError, asyncssh.Error) as error:
            raise _explained(device, config, error) from error
        try:
            check_hello(where, capabilities, session_id)
        except TwinError:
            channel.abort()
            raise
        return cls(device, channel, capabilities, session_id)

    def _send(self, message: str) -> None:
        self._channel.send(message)

    def _heard(self) -> float:
        return self._channel.heard

    def _drop(self) -> None:
        self._channel.abort()

    async def _collect(self) -> None:
        await self._channel.close()

    def _hold(self, held: bool) -> None:
        self._channel.hold(held)


class _Channel(asyncssh.SSHClientSession[bytes]):
    """The subsystem's channel: frames and parses; before it is attached, it waits for the hello."""

    def __init__(self) -> None:
        self.heard = time.monotonic()
        self.greeted: asyncio.Future[tuple[tuple[str, ...], str]] = asyncio.get_running_loop().create_future()
        self.greeted.add_done_callback(_seen)
        self._framing = Framing(LARGEST_MESSAGE)
        self._parser = MessageParser()
        self._transport: AsyncsshTransport | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._channel: Any = None
        self._early: list[tuple[Any, int]] = []
        self._error: Exception | None = None

    async def open(self, device: str, config: NetconfConfig, sock: socket.socket) -> None:
        """Log in, open the subsystem, say hello."""
        known_hosts, password = await asyncio.to_thread(_credentials, device, config)
        host, port = _address(config)
        self._connection = await asyncssh.connect(
            host,
            port,
            sock=sock,
            config=None,
            known_hosts=known_hosts,
            username=config.username,
            password=password,
            client_keys=[str(config.private_key)] if config.private_key else None,
            agent_path=None,
            gss_host=None,
            compression_algs=None,
            encryption_algs=_CIPHERS,
            login_timeout=CONNECT_S,
        )
        await self._connection.create_session(lambda: self, subsystem="netconf", encoding=None)
        self.send(hello())

    def attach(self, transport: AsyncsshTransport) -> None:
        """Hand everything that comes, and has come since the hello, to `transport`."""
        self._transport = transport
        for root, size in self._early:
            transport._received(root, size)
        self._early.clear()
        if self._error is not None:
            transport._ended(self._error)

    def send(self, message: str) -> None:
        """Write a message. Raises where the channel is gone."""
        if self._error is not None or self._channel is None:
            raise self._error or ConnectionError("not connected")
        self._channel.write(encode(message.encode(), chunked=self._framing.chunked))

    def hold(self, held: bool) -> None:
        """Stop or go on reading: the device's window fills, and it waits."""
        if self._channel is not None and self._error is None:
            if held:
                self._channel.pause_reading()
            else:
                self.heard = time.monotonic()
                self._channel.resume_reading()

    def abort(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        """End the connection, politely where the device still listens."""
        if self._connection is None:
            return
        self._connection.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()

    # ---- called by asyncssh

    def connection_made(self, chan: Any) -> None:
        """The channel is there."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Octets of the subsystem."""
        self.heard = time.monotonic()
        if datatype is not None or self._error is not None:
            return  # stderr is no protocol
        try:
            for piece in self._framing.feed(data):
                if piece is None:
                    self._message(*self._parser.end())
                else:
                    self._parser.feed(piece)
        except ValueError as error:
            self._over(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        self._over(exc or ConnectionError("the device closed the connection"))

    def _message(self, root: Any, size: int) -> None:
        if self._transport is not None:
            self._transport._received(root, size)
        elif not self.greeted.done():
            found = read_hello(root)
            self._framing.chunked = BASE_1_1 in found[0]
            self.greeted.set_result(found)
        else:
            self._early.append((root, size))

    def _over(self, error: Exception) -> None:
        if self._error is not None:
            return
        self._error = error
        if not self.greeted.done():
            self.greeted.set_exception(error)
        if self._transport is not None:
            self._transport._ended(error)


@asynccontextmanager
async def _connected(where: str, config: NetconfConfig) -> AsyncIterator[socket.socket]:
    """A TCP connection, and the right to shake hands on it. A device that is gone takes up no slot."""
    loop = asyncio.get_running_loop()
    host, port = _address(config)
    sock = await _dial(loop, host, port)
    try:
        if loop not in _slots:
            _slots[loop] = asyncio.Semaphore(_AT_ONCE)
        dialled = loop.time()
        await _slots[loop].acquire()
    except BaseException:
        sock.close()
        raise
    try:
        if loop.time() - dialled > _FRESH_S:
            sock.close()
            sock = await _dial(loop, host, port)
        yield sock
    finally:
        _slots[loop].release()


async def _dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    problem: Exception = OSError(f"no address for {host}")
    async with asyncio.timeout(CONNECT_S):
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
    raise problem


def _address(config: NetconfConfig) -> tuple[str, int]:
    host, _, port = config.address.rpartition(":")
    return host.strip("[]"), int(port)


def _credentials(device: str, config: NetconfConfig) -> tuple[asyncssh.SSHKnownHosts, str | None]:
    """Blocking: the pinned host keys, and the password where one is configured."""
    host, port = _address(config)
    try:
        hosts = _known_hosts(config.known_hosts)
        found = any(hosts.match(host, "", port)[:4])
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise CredentialError(
            f"device {device}: netconf.known_hosts {config.known_hosts} cannot be read ({error}); check the"
            " path"
        ) from error
    if not found:
        raise CredentialError(
            f"device {device}: netconf.known_hosts {config.known_hosts} has no host key for [{host}]:{port};"
            " take the key from the device itself and add it as an OpenSSH known_hosts line"
        )
    return hosts, secret(config.password).get_secret_value() if config.password else None


def _known_hosts(path: Path) -> asyncssh.SSHKnownHosts:
    """A known_hosts file, parsed once for all devices that share it, until it changes."""
    with _files_lock:
        state = path.stat()
        stamp = state.st_mtime_ns, state.st_size
        held = _files.get(path)
        if held is None or held[0] != stamp:
            held = _files[path] = stamp, asyncssh.import_known_hosts(path.read_text(encoding="utf-8"))
        return held[1]


def _explained(device: str, config: NetconfConfig, error: Exception) -> TwinError:
    where = f"device {device}: {config.address}"
    text = str(error).partition("\n")[0]
    match error:
        case asyncssh.HostKeyNotVerifiable() | asyncssh.KeyExchangeFailed() if "ost key" in text:
            return CredentialError(
                f"{where} shows a host key that is not the one in netconf.known_hosts {config.known_hosts}:"
                " the device was replaced, or something stands between; compare with the device and correct"
                " the file"
            )
        case asyncssh.PermissionDenied():
            how = "private_key" if config.private_key else "password"
            return CredentialError(
                f"{where} refuses user {config.username!r}; check netconf.username and netconf.{how}"
            )
        case asyncssh.KeyImportError() | PermissionError() if config.private_key:
            return CredentialError(
                f"device {device}: netconf.private_key {config.private_key} cannot be used ({text});"
                " give an OpenSSH private key without a passphrase"
            )
    return Unreachable(f"{where} cannot be reached ({text or type(error).__name__})")


def _seen(future: asyncio.Future[Any]) -> None:
    """A failure that nobody waits for any more needs no complaint."""
    with suppress(asyncio.CancelledError):
        future.exception()
