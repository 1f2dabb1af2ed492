"""NETCONF over SSH by ncclient, driven from asyncio: for devices whose quirks it knows. Owns threads.

ncclient brings SSH, hello, framing and its handlers for vendors' quirks. Its reader sleeps up to 100 ms
before it sends; here a socket pair wakes it, so that an idle session costs nothing. Two threads a session
(ncclient's, paramiko's); none when closed. Cannot hold a device back: what waits to be read is capped.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import paramiko
from ncclient.manager import make_device_handler
from ncclient.transport import SSHSession
from ncclient.transport.errors import (
    AuthenticationError,
    SSHUnknownHostError,
)
from ncclient.transport.session import (
    END_DELIM,
    MSG_DELIM,
    NetconfBase,
    NotificationHandler,
    SessionListener,
    parse_root,
)

from domain_twin.config import NetconfConfig, secret
from domain_twin.errors import CredentialError, TwinError, Unreachable
from domain_twin.southbound.netconf_messages import LARGEST_MESSAGE, check_hello, parse_xml
from domain_twin.southbound.netconf_transport import CONNECT_S, Transport

__all__ = ["NcclientTransport"]

_READ = 256 * 1024

# ncclient writes whole messages to its log, and paramiko tracebacks of what is raised here in one sentence.
logging.getLogger("ncclient").setLevel(logging.CRITICAL)

T = TypeVar("T")


class _PinnedKeys(paramiko.HostKeys):  # type: ignore[misc]
    """Host keys of one file; RSA keys also by the names under which they are negotiated today (RFC 8332)."""

    def lookup(self, hostname: str) -> Any:
        found = super().lookup(hostname)
        if found is None:
            return None
        keys = dict(found.items())
        if rsa := keys.get("ssh-rsa"):
            keys = {"rsa-sha2-512": rsa, "rsa-sha2-256": rsa, **keys}
        return keys


class _Session(SSHSession):  # type: ignore[misc]
    """ncclient's SSH session with pinned host keys, a reader that wakes to send, and a cap on messages."""

    def __init__(self, device_handler: Any, keys: _PinnedKeys) -> None:
        super().__init__(device_handler)
        self._host_keys = keys
        self._unparsed = 0
        self.heard = time.monotonic()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def load_known_hosts(self, filename: str | None = None) -> None:
        """Nothing: the user's own file does not count here."""

    def send(self, message: str) -> None:
        super().send(message)
        with suppress(OSError):  # full: it is awake; closed: the reader has ended
            self._waker.send(b"x")

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            self._waker.send(b"x")
        if not self.is_alive():
            self._wake.close()
            self._waker.close()

    def _dispatch_message(self, raw: str) -> Any:
        self._unparsed = 0
        if "<!DOCTYPE" in raw[:4096]:
            raise ValueError("a NETCONF message with a document type declaration (RFC 6241 3)")
        try:
            parse_root(raw)
        except Exception as error:  # ncclient drops such a message, and whoever waits for it waits on
            if not self._device_handler.handle_raw_dispatch(raw):
                raise ValueError(f"not well-formed XML: {error}") from error
        return super()._dispatch_message(raw)

    def run(self) -> None:
        """Read and write until the session ends. In place of ncclient's loop, which polls."""
        selector = selectors.DefaultSelector()
        try:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                self._write_queued()
                for key, _ in selector.select():
                    if key.fileobj is self._wake:
                        with suppress(OSError):
                            self._wake.recv(4096)
                    elif not self._read_some():
                        return
        except Exception as error:  # whatever ends the reader ends the session
            self._dispatch_error(error)
            self.close()
        finally:
            selector.close()
            self._wake.close()
            self._waker.close()

    def _write_queued(self) -> None:
        while not self._q.empty():
            data = self._q.get().encode()
            if self._base == NetconfBase.BASE_11:
                data = b"\n#%d\n%s%s" % (len(data), data, END_DELIM)
            else:
                data += MSG_DELIM
            self._channel.sendall(data)

    def _read_some(self) -> bool:
        data = self._channel.recv(_READ)
        if not data:
            if self._closing.is_set():
                return False
            raise ConnectionError("the device closed the connection")
        self.heard = time.monotonic()
        self._unparsed += len(data)
        if self._unparsed > LARGEST_MESSAGE:
            raise ValueError(f"a message of more than {LARGEST_MESSAGE} octets")
        self.parser.parse(data)
        return True


class _Listener(SessionListener):  # type: ignore[misc]
    """Runs in the session's thread: parses messages and hands them to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: NcclientTransport) -> None:
        self._loop = loop
        self._transport = transport

    def callback(self, root: tuple[str, Any], raw: str) -> None:
        self._post(self._transport._received, parse_xml(raw), len(raw))

    def errback(self, error: Exception) -> None:
        self._post(self._transport._ended, error)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)


@dataclass
class _Dial:
    """What a connecting thread has opened so far, so that it can be taken away from it."""

    sock: socket.socket | None = None
    abandoned: bool = False


class NcclientTransport(Transport):
    """A session that ncclient keeps, in its threads."""

    def __init__(self, device: str, session: Any) -> None:
        super().__init__(device, tuple(session.server_capabilities), str(session.id or ""))
        self._session = session
        session.remove_listener(session.get_listener_instance(NotificationHandler))  # a queue nobody reads
        session.add_listener(_Listener(self._loop, self))
        if not session.is_alive():
            self._ended(ConnectionError("the device closed the connection"))

    @classmethod
    async def open(cls, device: str, config: NetconfConfig) -> NcclientTransport:
        """Connect, verify the host key, log in, exchange hellos. Raises CredentialError and Unreachable."""
        dial = _Dial()
        where = f"device {device}: {config.address}"
        try:
            async with asyncio.timeout(CONNECT_S):
                session = await _in_thread("netconf-connect", lambda: _connect(device, config, dial))
        except TimeoutError as error:
            raise Unreachable(f"{where} did not complete a NETCONF session within {CONNECT_S:g} s") from error
        finally:
            dial.abandoned = True
        transport = cls(device, session)
        try:
            check_hello(where, transport.capabilities, transport.session_id)
        except TwinError:
            transport._drop()
            await transport._collect()
            raise
        return transport

    def _send(self, message: str) -> None:
        self._session.send(message)

    def _heard(self) -> float:
        return float(self._session.heard)

    def _drop(self) -> None:
        sock = getattr(self._session.transport, "sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def _collect(self) -> None:
        await _in_thread("netconf-close", lambda: _close(self._session))


async def _in_thread(name: str, function: Callable[[], T]) -> T:
    """The result of a blocking call in a thread of its own: a dead device must not use up a shared pool."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = function(), None
        except BaseException as error:  # handed over to who waits
            outcome = None, error
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


def _connect(device: str, config: NetconfConfig, dial: _Dial) -> Any:
    """Blocking: an established ncclient session."""
    where = f"device {device}: {config.address}"
    host, _, port_text = config.address.rpartition(":")
    host, port = host.strip("[]"), int(port_text)
    keys = _pinned_keys(device, config.known_hosts, host, port)
    handler = make_device_handler({"name": config.vendor})
    arguments: dict[str, Any] = {}
    handler.add_additional_ssh_connect_params(arguments)
    session = None
    try:
        dial.sock = socket.create_connection((host, port), timeout=CONNECT_S / 2)
        dial.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = _Session(handler, keys)
        session.connect(
            host=host,
            port=port,
            timeout=CONNECT_S / 2,
            username=config.username,
            password=secret(config.password).get_secret_value() if config.password else None,
            key_filename=str(config.private_key) if config.private_key else None,
            allow_agent=False,
            look_for_keys=False,
            sock=dial.sock,
            **arguments,
        )
        if dial.abandoned:
            raise Unreachable(f"{where}: given up")
    except BaseException as error:
        if session is not None and session.transport is not None:
            _close(session)
        elif dial.sock is not None:
            dial.sock.close()
        if isinstance(error, TwinError) or not isinstance(error, Exception):
            raise
        raise _explained(device, config, error) from error
    return session


def _close(session: Any) -> None:
    session.close()
    session.transport.join(10)


def _pinned_keys(device: str, file: Path, host: str, port: int) -> _PinnedKeys:
    keys = _PinnedKeys()
    try:
        keys.load(str(file))
    except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
        raise CredentialError(
            f"device {device}: netconf.known_hosts {file} cannot be read ({error}); check the path"
        ) from error
    if not (keys.lookup(host) or keys.lookup(f"[{host}]:{port}")):
        raise CredentialError(
            f"device {device}: netconf.known_hosts {file} has no host key for [{host}]:{port}; take the key"
            " from the device itself and add it as an OpenSSH known_hosts line"
        )
    return keys


def _explained(device: str, config: NetconfConfig, error: Exception) -> TwinError:
    where = f"device {device}: {config.address}"
    text = str(error)
    if isinstance(error, SSHUnknownHostError) or "no acceptable host key" in text:
        shown = f" (MD5 {error.fingerprint})" if isinstance(error, SSHUnknownHostError) else ""
        return CredentialError(
            f"{where} shows a host key{shown} that is not the one in netconf.known_hosts"
            f" {config.known_hosts}: the device was replaced, or something stands between; compare with the"
            " device and correct the file"
        )
    if isinstance(error, AuthenticationError):
        if "AuthenticationException" in text or "BadAuthenticationType" in text or "methods" in text:
            how = "private_key" if config.private_key else "password"
            return CredentialError(
                f"{where} refuses user {config.username!r}; check netconf.username and netconf.{how}"
            )
        return Unreachable(f"{where} ended the connection during log-in ({text})")
    return Unreachable(f"{where} cannot be reached ({text or type(error).__name__})")
