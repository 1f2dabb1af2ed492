"""NETCONF messages over SSH: ncclient's session, driven from asyncio. Owns threads, host keys and limits.

ncclient brings SSH, hello, framing and its handlers for vendors' quirks. Its reader sleeps up to 100 ms
before it sends; here a socket pair wakes it, so that an idle session costs nothing. Replies and notifications
come to the event loop as parsed elements. Two threads a session (ncclient's, paramiko's); none when closed.
"""

from __future__ import annotations

import asyncio
import itertools
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
from lxml import etree
from ncclient.manager import make_device_handler
from ncclient.transport import SSHSession
from ncclient.transport.errors import (
    AuthenticationError,
    SSHUnknownHostError,
)
from ncclient.transport.session import END_DELIM, MSG_DELIM, NetconfBase, NotificationHandler, SessionListener

from domain_twin.config import NetconfConfig, secret
from domain_twin.errors import CredentialError, OperationRejected, SessionLost, TwinError, Unreachable

log = logging.getLogger(__name__)

__all__ = ["BASE", "NOTIFICATION", "Transport", "parse_xml"]

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
NOTIFICATION = "urn:ietf:params:xml:ns:netconf:notification:1.0"

CONNECT_S = 15.0
LARGEST_MESSAGE = 64 * 1024 * 1024  # octets of one message; a device that sends more is cut off
WAITING = 64 * 1024 * 1024  # octets of notifications that wait to be read; beyond, the session starts anew
_READ = 256 * 1024
_DEFAULT: Any = {None: BASE}

# ncclient writes whole messages to its log, and paramiko tracebacks of what is raised here in one sentence.
logging.getLogger("ncclient").setLevel(logging.CRITICAL)

T = TypeVar("T")


def parse_xml(text: str) -> Any:
    """The root element of a message. Raises ValueError for what is no XML, or has a DTD (RFC 6241 3)."""
    if "<!DOCTYPE" in text[:4096] or "<!ENTITY" in text[:4096]:
        raise ValueError("a NETCONF message with a document type declaration")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not well-formed XML: {error}") from error


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
            raise ValueError("a NETCONF message with a document type declaration")
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

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport) -> None:
        self._loop = loop
        self._transport = transport

    def callback(self, root: tuple[str, Any], raw: str) -> None:
        if root[0] == f"{{{NOTIFICATION}}}notification":
            self._post(self._transport._notified, parse_xml(raw), len(raw))
        elif root[0].endswith("rpc-reply"):
            self._post(self._transport._replied, parse_xml(raw))

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


class Transport:
    """One NETCONF session: RPCs in, replies out, notifications to be taken one by one."""

    def __init__(self, device: str, session: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.device = device
        self.capabilities: tuple[str, ...] = tuple(session.server_capabilities)
        self.session_id = str(session.id)
        self._session = session
        self._loop = loop
        self._ids = itertools.count(1)
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._notifications: asyncio.Queue[tuple[Any, int]] = asyncio.Queue()
        self._waiting = 0
        self._problem: SessionLost | None = None
        self._closing = False
        session.remove_listener(session.get_listener_instance(NotificationHandler))  # a queue nobody reads
        session.add_listener(_Listener(loop, self))
        if not session.is_alive():
            self._ended(ConnectionError("the device closed the connection"))

    @classmethod
    async def open(cls, device: str, config: NetconfConfig) -> Transport:
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
        return cls(device, session, asyncio.get_running_loop())

    @property
    def silent_s(self) -> float:
        """How long no octet has come from the device, seconds."""
        return time.monotonic() - float(self._session.heard)

    async def rpc(self, operation: Any, timeout_s: float) -> Any:
        """The rpc-reply to `operation`. Raises OperationRejected for an rpc-error, Unreachable otherwise."""
        self._check()
        message_id = str(next(self._ids))
        envelope = etree.Element(f"{{{BASE}}}rpc", {"message-id": message_id}, nsmap=_DEFAULT)
        envelope.append(operation)
        name = etree.QName(operation).localname
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[message_id] = future
        try:
            self._session.send(etree.tostring(envelope, encoding="unicode"))
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError as error:
            raise Unreachable(f"device {self.device}: no reply to {name} within {timeout_s:g} s") from error
        except TwinError:
            raise
        except Exception as error:  # ncclient's TransportError: the session has ended meanwhile
            raise self._problem or SessionLost(
                f"device {self.device}: the session ended ({error})"
            ) from error
        finally:
            self._pending.pop(message_id, None)
        errors = [e for e in reply.iterfind(f"{{{BASE}}}rpc-error") if _severity(e) != "warning"]
        if errors:
            raise OperationRejected(
                f"device {self.device} refuses {name}: " + "; ".join(_spell(e) for e in errors)
            )
        return reply

    async def notification(self) -> Any:
        """The next notification element, in order of arrival. Raises SessionLost."""
        if self._notifications.empty():
            self._check()
        element, size = await self._notifications.get()
        self._waiting -= size
        if element is None:
            self._check()
        return element

    async def close(self) -> None:
        """End the session politely and wait for its threads."""
        if self._closing:
            return
        self._closing = True
        if self._problem is None:
            with suppress(TwinError):
                await self.rpc(etree.Element(f"{{{BASE}}}close-session"), 1.0)
        self._ended(ConnectionError("closed here"))
        await asyncio.shield(_in_thread("netconf-close", lambda: _close(self._session)))

    def fail(self, reason: str) -> None:
        """End the session for everybody who waits on it, and drop the connection."""
        self._ended(ConnectionError(reason))
        self.abort()

    def abort(self) -> None:
        """Drop the connection now, without waiting; `close` still collects the threads."""
        sock = getattr(self._session.transport, "sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _replied(self, reply: Any) -> None:
        future = self._pending.get(reply.get("message-id", ""))
        if future is not None and not future.done():
            future.set_result(reply)

    def _notified(self, element: Any, size: int) -> None:
        self._waiting += size
        if self._waiting > WAITING:
            self.fail(f"more than {WAITING} octets of notifications wait to be read")
        elif self._problem is None:
            self._notifications.put_nowait((element, size))

    def _ended(self, error: Exception) -> None:
        if self._problem is None:
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._problem = SessionLost(f"device {self.device}: the NETCONF session ended ({reason})")
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._problem)
        self._notifications.put_nowait((None, 0))


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


def _severity(error: Any) -> str:
    return (error.findtext(f"{{{BASE}}}error-severity") or "error").strip()


def _spell(error: Any) -> str:
    """An rpc-error in words: tag, path, message."""
    found = {etree.QName(part).localname: (part.text or "").strip() for part in error}
    words = [found.get("error-tag", "error"), found.get("error-path", ""), found.get("error-message", "")]
    return " ".join(word for word in words if word)
