"""Sends the audit as OCSF events over syslog (RFC 5424), as it is written and after outages from its files.

Owns the cursor: the last record that was handed to the receiver. Nothing waits for a receiver: records wait
in a bounded queue, and what does not fit is read from the files later, so that no record is left out. Syslog
has no acknowledgements: after a lost connection the last records are sent once more (same `metadata.uid`),
and over UDP and Unix sockets nobody knows what arrived.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
from collections import deque
from contextlib import closing
from itertools import islice
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from domain_twin.config import SyslogConfig
from domain_twin.errors import ConfigError
from domain_twin.trust.audit import Record, instant
from domain_twin.trust.audit_files import records
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_ocsf import event

__all__ = ["Exporter", "message"]

log = logging.getLogger(__name__)

_BATCH = 100
_AGAIN = 100  # records sent once more after a lost connection: they may not have arrived
_FIRST_S, _MOST_S = 0.2, 30.0
_WITHIN_S = 10.0
_CURSOR = "export.json"
_SEVERITIES = {1: 6, 3: 4, 4: 3}  # OCSF severity_id to syslog: informational, warning, error
_DEFAULT_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}


class _Receiver(Protocol):
    async def send(self, messages: list[bytes]) -> None:
        """Hand over messages. Raises OSError."""

    def check(self) -> None:
        """Raises OSError when the connection is known to be lost."""

    def close(self) -> None:
        """Let go of the connection."""


class Exporter:
    """Follows an audit and sends it; `run` never ends by itself."""

    def __init__(self, trail: AuditLog, config: SyslogConfig) -> None:
        """Raises ConfigError for an address that is none."""
        self.sent = 0
        self.spilled = 0
        """Records that did not fit the queue and were left to be read from the files."""
        self.outages = 0
        self._trail = trail
        self._config = config
        self._queue: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._host = socket.gethostname() or "-"
        self._scheme, self._target = _parse(config)
        self.cursor = self._read_cursor()
        trail.on_record = self._offer
        self._wake.set()  # what was written before this process, or before this line

    async def run(self) -> NoReturn:
        """Connect, send, connect again, until cancelled."""
        delay_s = _FIRST_S
        while True:
            before = self.sent
            try:
                async with asyncio.timeout(_WITHIN_S):
                    receiver = await self._connect()
                with closing(receiver):
                    await self._follow(receiver)
            except (OSError, TimeoutError) as error:
                self.outages += 1
                if self.sent > before:
                    delay_s = _FIRST_S
                log.warning(
                    "audit not exported",
                    extra={"to": self._config.address, "reason": str(error) or "timeout"},
                )
            self._queue.clear()  # the files have them; what was sent last goes once more
            self.cursor = max(0, self.cursor - min(_AGAIN, self.sent - before))
            self._wake.set()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MOST_S)

    async def _follow(self, receiver: _Receiver) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake.clear()
            receiver.check()
            while batch := await self._next():
                messages = [
                    message(record, self._trail.who, self._host, self._config.facility) for record in batch
                ]
                async with asyncio.timeout(_WITHIN_S):
                    await receiver.send(messages)
                self.cursor = batch[-1].seq
                self.sent += len(batch)
                await asyncio.to_thread(self._write_cursor)

    async def _next(self) -> list[Record]:
        """The records after the cursor: from the queue where they follow on, else from the files."""
        while self._queue and self._queue[0].seq <= self.cursor:
            self._queue.popleft()
        if self._queue and self._queue[0].seq == self.cursor + 1:
            return [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        if self.cursor >= self._trail.head.seq:
            return []
        folder, after = self._trail.folder, self.cursor
        found = await asyncio.to_thread(lambda: list(islice(records(folder, after), _BATCH)))
        if not found:  # lines that are no records any more: `fedtwin audit verify` tells of them
            self.cursor = self._queue[0].seq - 1 if self._queue else self._trail.head.seq
        return found

    def _offer(self, record: Record) -> None:
        if len(self._queue) >= self._config.queue:
            self._queue.clear()  # a gap in the queue would be read from the files in any case
            self.spilled += self._config.queue
        self._queue.append(record)
        self._wake.set()

    async def _connect(self) -> _Receiver:
        if self._scheme in {"udp", "unix"}:
            return _Datagrams(self._scheme, self._target)
        context: ssl.SSLContext | None = None
        host, port = self._target
        if self._scheme == "tls":
            context = ssl.create_default_context(cafile=self._config.root)
            context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9662 4
        name = (self._config.server_name or host) if context else None
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
        return _Stream(reader, writer, self._wake)

    def _read_cursor(self) -> int:
        try:
            kept = json.loads((self._trail.folder / _CURSOR).read_bytes())
            return int(kept["seq"]) if kept["trail"] == self._trail.trail else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # the first time, or a file that is none: all is sent, at worst once more

    def _write_cursor(self) -> None:
        temporary = self._trail.folder / f".{_CURSOR}"
        temporary.write_text(json.dumps({"trail": self._trail.trail, "seq": self.cursor}), encoding="utf-8")
        os.replace(temporary, self._trail.folder / _CURSOR)  # noqa: PTH105


class _Stream:
    """TCP or TLS, octet-counting (RFC 6587 3.4.1, RFC 5425 4.3)."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Event
    ) -> None:
        """`ended` is set when the receiver ends the connection: what was sent last may not have arrived."""
        self._writer = writer
        self._lost = False
        self._ended = ended
        self._watch = asyncio.create_task(self._wait_for_end(reader))

    async def _wait_for_end(self, reader: asyncio.StreamReader) -> None:
        try:
            while await reader.read(4096):
                pass  # a receiver has nothing to say
        except OSError as error:
            log.debug("receiver gone", extra={"reason": str(error)})
        self._lost = True
        self._ended.set()

    def check(self) -> None:
        """Raises OSError when the connection is known to be lost."""
        if self._lost or self._writer.is_closing():
            raise ConnectionResetError("the receiver closed the connection")

    async def send(self, messages: list[bytes]) -> None:
        """Hand over messages. Raises OSError."""
        self.check()
        for item in messages:
            self._writer.write(b"%d %b" % (len(item), item))
        await self._writer.drain()

    def close(self) -> None:
        """Let go of the connection."""
        self._watch.cancel()
        self._writer.close()


class _Datagrams:
    """UDP (RFC 5426) or a Unix datagram socket: one message each."""

    def __init__(self, scheme: str, target: tuple[str, int]) -> None:
        if scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address: str | tuple[str, int] = target[0]
        else:
            family, kind, _, _, address = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]  # type: ignore[assignment]
            self._socket = socket.socket(family, kind)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    async def send(self, messages: list[bytes]) -> None:
        """Hand over messages. Raises OSError."""
        loop = asyncio.get_running_loop()
        for item in messages:
            await loop.sock_sendall(self._socket, item)

    def check(self) -> None:
        """Nobody knows of a connection here."""

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def message(record: Record, who: str, host: str, facility: int) -> bytes:
    """A record as a syslog message (RFC 5424 6), its OCSF event as JSON in ASCII."""
    told = event(record, who)
    severity = _SEVERITIES.get(told["severity_id"], 6)
    at = instant(record.at)[:26] + "Z"  # RFC 5424 6.2.3: six decimals at most
    kind = record.kind[:32]
    text = json.dumps(told, separators=(",", ":"))
    return f"<{facility * 8 + severity}>1 {at} {host[:255]} fedtwin {os.getpid()} {kind} - {text}".encode(
        "ascii"
    )


def _parse(config: SyslogConfig) -> tuple[str, tuple[str, int]]:
    parts = urlsplit(config.address)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme == "unix" and parts.path:
        return "unix", (parts.path, 0)
    if parts.scheme in _DEFAULT_PORTS and parts.hostname and port != -1:
        return parts.scheme, (parts.hostname, port or _DEFAULT_PORTS[parts.scheme])
    raise ConfigError(
        f"[audit.syslog] address = {config.address!r}: accepted are udp://host:port, tcp://host:port,"
        " tls://host:port and unix:/path"
    )
