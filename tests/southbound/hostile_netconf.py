"""A NETCONF server that does whatever a test wants: wrong hellos, frames, ids, times and data. Real SSH."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncssh

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
PUSH = "urn:ietf:params:xml:ns:yang:ietf-yang-push"
SUBSCRIBED = "urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications"
CAPABILITIES = (
    "urn:ietf:params:netconf:base:1.0",
    "urn:ietf:params:netconf:base:1.1",
    f"{PUSH}?module=ietf-yang-push",
    "urn:ietf:params:xml:ns:yang:ietf-interfaces?module=ietf-interfaces",
    "urn:fedtwin:yang:fedtwin-ran?module=fedtwin-ran",
)


def hello(
    capabilities: tuple[str, ...] = CAPABILITIES, session_id: str = "<session-id>4</session-id>"
) -> str:
    """A hello with what is given, good or bad."""
    held = "".join(f"<capability>{uri}</capability>" for uri in capabilities)
    return f'<hello xmlns="{BASE}"><capabilities>{held}</capabilities>{session_id}</hello>'


class HostileSession:
    """One client's session, as its server sees it."""

    def __init__(self, stdin: Any, stdout: Any) -> None:
        self._stdin, self._stdout = stdin, stdout
        self.chunked = False
        self._buffer = b""
        self.sock = stdout.get_extra_info("socket")

    def raw(self, octets: bytes) -> None:
        """Octets as they are."""
        self._stdout.write(octets)

    def send(self, text: str) -> None:
        """A message in frames as they should be."""
        octets = text.encode()
        self.raw(b"\n#%d\n%b\n##\n" % (len(octets), octets) if self.chunked else octets + b"]]>]]>")

    def reply(self, message_id: str, content: str = "<data/>") -> None:
        """An rpc-reply."""
        self.send(f'<rpc-reply xmlns="{BASE}" message-id="{message_id}">{content}</rpc-reply>')

    def notify(self, event: str, event_time: str = "2026-01-01T00:00:00Z") -> None:
        """A notification."""
        self.send(
            '<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">'
            f"<eventTime>{event_time}</eventTime>{event}</notification>"
        )

    async def receive(self) -> str | None:
        """The client's next message."""
        end = b"\n##\n" if self.chunked else b"]]>]]>"
        while end not in self._buffer:
            data = await self._stdin.read(65536)
            if not data:
                return None
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(end)
        return re.sub(rb"\n#[0-9]+\n", b"", message).decode()


Answer = Callable[[HostileSession, str, str], Awaitable[None]]


async def polite(session: HostileSession, message_id: str, rpc: str) -> None:
    """What a device answers when nothing is wrong with it: nothing to report, and subscription 7."""
    if "establish-subscription" in rpc:
        session.reply(message_id, f'<id xmlns="{SUBSCRIBED}">7</id>')
    elif "<get" in rpc:
        session.reply(message_id)
    else:
        session.reply(message_id, "<ok/>")


@dataclass
class Hostile:
    """The server: what it says first, and how it answers an rpc (session, message-id, text)."""

    hello: str | bytes = field(default_factory=hello)
    answer: Answer = polite
    port: int = 0
    host_key: str = ""
    failures: list[BaseException] = field(default_factory=list)

    async def serve(self, stdin: Any, stdout: Any, stderr: Any) -> None:
        session = HostileSession(stdin, stdout)
        with suppress(asyncssh.Error, ConnectionError):
            if isinstance(self.hello, bytes):
                session.raw(self.hello)
            else:
                session.send(self.hello)
            await session.receive()
            session.chunked = "base:1.1" in str(self.hello)
            while (rpc := await session.receive()) is not None:
                message_id = re.search(r'message-id="([^"]*)"', rpc)[1]
                if "close-session" in rpc:
                    session.reply(message_id, "<ok/>")
                    break
                try:
                    await self.answer(session, message_id, rpc)
                except (asyncssh.Error, ConnectionError):
                    break
                except Exception as error:
                    self.failures.append(error)
                    raise
            await stdout.drain()
        with suppress(asyncssh.Error, ConnectionError):
            stdout.channel.exit(0)


class _Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "s3cret"


@asynccontextmanager
async def listening(hostile: Hostile) -> AsyncIterator[Hostile]:
    """The server while the block lasts."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_Door,
        server_host_keys=[key],
        session_factory=hostile.serve,
        encoding=None,
        line_editor=False,
        allow_pty=False,
    )
    hostile.port = acceptor.get_port()
    hostile.host_key = key.export_public_key().decode().strip()
    try:
        yield hostile
    finally:
        acceptor.close()
        await acceptor.wait_closed()
        await asyncio.sleep(0.05)  # transports close on the next turns of the loop
