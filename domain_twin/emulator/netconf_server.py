"""The NETCONF face of one emulated device: an SSH server with the `netconf` subsystem (RFC 6242).

Owns listening, authentication, sessions and their framing; what an rpc does is `netconf_operations`'. Gives
no shell, no command, no file transfer and no forwarding.
"""

import asyncio
import contextlib
import errno
import hmac
import itertools
import logging
import socket
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

import asyncssh

from domain_twin.emulator.device import Actor, DeviceDatastore
from domain_twin.emulator.netconf_datastores import Datastores
from domain_twin.emulator.netconf_events import EventStream, date_and_time
from domain_twin.emulator.netconf_framing import MAXIMUM_MESSAGE, Decoder, FramingError, MessageTooBig, encode
from domain_twin.emulator.netconf_library import BASE_1_0, BASE_1_1, capabilities
from domain_twin.emulator.netconf_operations import Operations
from domain_twin.emulator.netconf_push import Subscriptions
from domain_twin.emulator.rpc_error import NETCONF, RpcError
from domain_twin.emulator.xml_tree import local_name, parse_xml
from domain_twin.errors import ConfigError

log = logging.getLogger(__name__)

_HELLO_TIMEOUT_S = 30.0
_LOST = (asyncssh.Error, ConnectionError, EOFError)


class NetconfServer:
    """A running NETCONF server and its sessions."""

    def __init__(self, store: DeviceDatastore, users: Mapping[str, str], maximum_message: int):
        self.port = 0
        self.users = users
        self.store = store
        self.maximum_message = maximum_message
        self.datastores = Datastores(store)
        self.events = EventStream(store, self.datastores)
        self.identifiers = itertools.count(1)
        self._session_ids = itertools.count(1)
        self._sessions: dict[int, _Session] = {}
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._closing: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int, key: asyncssh.SSHKey) -> None:
        """Open the port. Raises ConfigError where the address is taken."""
        try:
            self._acceptor = await asyncssh.listen(
                host,
                port,
                server_factory=lambda: _Door(self),
                server_host_keys=[key],
                session_factory=self._serve,
                encoding=None,
                line_editor=False,
                allow_pty=False,
                agent_forwarding=False,
                gss_host=None,
                compression_algs=None,
            )
        except OSError as cause:
            if cause.errno != errno.EADDRINUSE:
                raise
            raise ConfigError(
                f"device {self.store.name}: NETCONF cannot listen on {host}:{port}, the address is in use: "
                "free the port or choose another"
            ) from cause
        self.port = self._acceptor.get_port()

    async def close(self) -> None:
        """Stop listening and end every session at once, as a device that goes down does. Again: no more."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        self.datastores.close()
        for connection in list(self._connections):
            connection.abort()
        for session in list(self._sessions.values()):
            await session.ended.wait()
        await self.events.close()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    def connected(self, connection: asyncssh.SSHServerConnection) -> None:
        """Take note of a transport."""
        self._connections.add(connection)

    def disconnected(self, connection: asyncssh.SSHServerConnection) -> None:
        """Forget a transport."""
        self._connections.discard(connection)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def describe(self) -> list[dict[str, Any]]:
        """Entries of netconf-state's list of sessions."""
        return [
            {
                "session-id": session.actor.session_id,
                "transport": "ietf-netconf-monitoring:netconf-ssh",
                "username": session.actor.user,
                "login-time": session.login_time,
            }
            for session in self._sessions.values()
        ]

    def kill(self, session_id: int, by: int) -> None:
        """End another session (RFC 6241 7.9)."""
        session = self._sessions.get(session_id)
        if session is None or session_id == by:
            why = "is the session that asks" if session_id == by else "is no session of the device"
            raise RpcError(
                "invalid-value", f"session-id {session_id} {why}", info={"bad-element": "session-id"}
            )
        session.abort("killed")

    def owner_of(self, subscription: int) -> Subscriptions | None:
        """The subscriptions of the session that holds one."""
        for session in self._sessions.values():
            if subscription in session.subscriptions:
                return session.subscriptions
        return None

    async def _serve(
        self,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
        stderr: "asyncssh.SSHWriter[bytes]",
    ) -> None:
        channel: Any = stdout.channel
        if channel.get_subsystem() != "netconf":
            stderr.write(b"only the netconf subsystem is served\n")
            channel.exit(1)
            return
        actor = Actor("netconf", str(channel.get_extra_info("username")), next(self._session_ids))
        session = _Session(self, actor, stdin, stdout)
        self._sessions[actor.session_id] = session
        try:
            await session.run()
        except _LOST as cause:
            log.debug("a NETCONF session ended", extra={"device": self.store.name, "reason": repr(cause)})
        finally:
            del self._sessions[actor.session_id]
            await session.subscriptions.close()
            self.datastores.close_session(actor.session_id)
            self.events.session_event(
                "session-end", actor, f"<termination-reason>{session.reason}</termination-reason>"
            )
            with contextlib.suppress(*_LOST):
                channel.exit(0)
            session.ended.set()


async def serve_netconf(
    store: DeviceDatastore,
    *,
    host: str,
    port: int,
    host_key: asyncssh.SSHKey | bytes | str,
    users: Mapping[str, str],
    maximum_message: int = MAXIMUM_MESSAGE,
) -> NetconfServer:
    """Serve `store` on `host`:`port` (0: any free one) to `users` (name to password).

    `host_key` is an asyncssh key or a private key in PEM or OpenSSH form. Raises ConfigError where the
    address is taken.
    """
    key = host_key if isinstance(host_key, asyncssh.SSHKey) else asyncssh.import_private_key(host_key)
    server = NetconfServer(store, users, maximum_message)
    await server.listen(host, port, key)
    return server


class _Door(asyncssh.SSHServer):
    """Authentication of one connection."""

    def __init__(self, server: NetconfServer):
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connected(conn)
        transport = conn.get_extra_info("socket")
        if transport is not None:
            with contextlib.suppress(OSError):
                transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._server.disconnected(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        expected = self._server.users.get(username)
        given = hmac.compare_digest(password.encode(), (expected or "").encode())
        return given and expected is not None


class _Session:
    """One NETCONF session: hello, then rpcs in, replies and notifications out."""

    def __init__(
        self,
        server: NetconfServer,
        actor: Actor,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
    ):
        self.actor = actor
        self.login_time = date_and_time(server.store.clock())
        self.reason = "dropped"
        self.ended = asyncio.Event()
        self.subscriptions = Subscriptions(server.store, server.events, self._send, self.abort)
        self._server = server
        self._stdin = stdin
        self._stdout = stdout
        self._decoder = Decoder(server.maximum_message)
        self._operations = Operations(
            server.store,
            datastores=server.datastores,
            subscriptions=self.subscriptions,
            sessions_=server,
            actor=actor,
            identifiers=server.identifiers,
        )

    async def run(self) -> None:
        """Serve until either side ends the session."""
        await self._send(self._hello())
        async with asyncio.timeout(_HELLO_TIMEOUT_S):
            message = await self._receive()
        if message is None or not self._accept_hello(message):
            self.reason = "bad-hello"
            return
        self._server.events.session_event("session-start", self.actor)
        try:
            while (message := await self._receive()) is not None:
                await self._send(self._answer(message))
                self._operations.after_reply()
                if self._operations.closing:
                    self.reason = "closed"
                    return
        except MessageTooBig as cause:
            error = RpcError("too-big", f"{cause}; the session ends", kind="rpc")
            await self._send(f'<rpc-reply xmlns="{NETCONF}">{error.xml()}</rpc-reply>')
            self.reason = "other"
        except FramingError as cause:
            log.info(
                "a NETCONF peer breaks the framing",
                extra={"device": self._server.store.name, "reason": str(cause)},
            )
            self.reason = "other"

    def abort(self, reason: str) -> None:
        """End the session from outside."""
        self.reason = "killed" if reason == "killed" else "other"
        log.info("a NETCONF session is ended", extra={"device": self._server.store.name, "reason": reason})
        self._stdout.channel.abort()

    def _answer(self, message: bytes) -> str:
        try:
            rpc = parse_xml(message)
        except RpcError as error:
            return f'<rpc-reply xmlns="{NETCONF}">{error.xml()}</rpc-reply>'
        return self._operations.reply(rpc)

    def _hello(self) -> str:
        held = "".join(
            f"<capability>{escape(capability)}</capability>"
            for capability in capabilities(self._server.store.schema)
        )
        return (
            f'<hello xmlns="{NETCONF}"><capabilities>{held}</capabilities>'
            f"<session-id>{self.actor.session_id}</session-id></hello>"
        )

    def _accept_hello(self, message: bytes) -> bool:
        try:
            hello = parse_xml(message)
        except RpcError:
            return False
        if hello.tag != f"{{{NETCONF}}}hello" or any(local_name(child) == "session-id" for child in hello):
            return False
        theirs = {(element.text or "").strip() for element in hello.iter(f"{{{NETCONF}}}capability")}
        self._decoder.chunked = BASE_1_1 in theirs
        return bool(theirs & {BASE_1_0, BASE_1_1})

    async def _receive(self) -> bytes | None:
        while (message := self._decoder.next_message()) is None:
            octets = await self._stdin.read(65_536)
            if not octets:
                return None
            self._decoder.feed(octets)
        return message

    async def _send(self, text: str) -> None:
        self._stdout.write(encode(text.encode(), self._decoder.chunked))
        await self._stdout.drain()
