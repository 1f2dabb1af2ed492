"""The HTTP endpoint of one process: /metrics, /healthz, /readyz. Owns its bounds; knows no figure itself.

Plain HTTP/1.1 on a loopback address, GET only, one request a connection. Whoever floods it gets 503: a few
connections at once, each within seconds, and one rendering in `FRESH_S` that all of them share.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from domain_twin.errors import ConfigError
from domain_twin.operations import process as watch
from domain_twin.operations.health import Check, ready
from domain_twin.operations.instruments import Instrument, Sheet
from domain_twin.operations.process import ProcessWatch
from domain_twin.operations.settings import MetricsConfig, is_loopback, split_address

__all__ = ["ADDRESS_FILE", "Face", "serve_metrics"]

log = logging.getLogger(__name__)

ADDRESS_FILE: Final = "metrics.address"
CONNECTIONS: Final = 16
HEAD_OCTETS: Final = 8192
HEAD_WITHIN_S: Final = 3.0
ANSWER_WITHIN_S: Final = 10.0
FRESH_S: Final = 0.5
_SEND_OCTETS = 256 * 1024  # that the kernel keeps for one who does not read


@dataclass(frozen=True, slots=True)
class Face:
    """What one kind of process shows: its instruments, how they are filled, what it needs to be ready."""

    process: str
    instruments: Sequence[Instrument]
    fill: Callable[[Sheet], Awaitable[None] | None]
    checks: Callable[[], Iterable[Check]]


@contextlib.asynccontextmanager
async def serve_metrics(config: MetricsConfig, face: Face, state: Path | None) -> AsyncIterator[str]:
    """Serve `face` as long as the block lasts; gives the address, empty where it is off. Raises ConfigError.

    The address is also in `metrics.address` in the state folder.
    """
    if not config.listen:
        yield ""
        return
    host, port = split_address(config.listen)
    measured = ProcessWatch(face.process)
    exposition = _Exposition(face, measured)
    requests = _Requests(face, measured, exposition, any_name=not is_loopback(host))
    try:
        server = await asyncio.start_server(requests.serve, host, port, limit=HEAD_OCTETS)
    except OSError as error:
        raise ConfigError(
            f"[metrics] listen = {config.listen!r}: cannot listen there"
            f" ({os.strerror(error.errno) if error.errno else error}); choose another port, or 0 for any"
            " free one"
        ) from error
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_OCTETS)
    taken = server.sockets[0].getsockname()
    address = f"[{taken[0]}]:{taken[1]}" if ":" in taken[0] else f"{taken[0]}:{taken[1]}"
    note = state / ADDRESS_FILE if state else None
    if note:
        try:
            await asyncio.to_thread(note.write_text, f"{address}\n", "utf-8")
        except OSError as error:
            server.close()
            raise ConfigError(
                f"{note}: cannot be written ({error.strerror}); let the process write its state folder"
            ) from error
    if config.remote_because:
        log.warning("metrics can be read from afar", extra={"reason": config.remote_because})
    log.info("metrics served", extra={"address": address})
    try:
        with measured.running():
            yield address
    finally:
        server.close()
        requests.abort()
        await server.wait_closed()
        if note:
            await asyncio.to_thread(note.unlink, True)


class _Exposition(Collector):
    """The text of /metrics: made once for all who ask within `FRESH_S`."""

    def __init__(self, face: Face, measured: ProcessWatch) -> None:
        self._face = face
        self._measured = measured
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)
        self._families: list[Metric] = []
        self._turn = asyncio.Lock()
        self._made: dict[str, tuple[float, bytes, str]] = {}  # by kind of text

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are checked where they are declared."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The families of the present rendering."""
        return self._families

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        loop = asyncio.get_running_loop()
        async with self._turn:
            made = self._made.get(content_type)
            if made is None or loop.time() - made[0] > FRESH_S:
                sheet = Sheet((*watch.INSTRUMENTS, *self._face.instruments))
                self._measured.fill(sheet)
                for check in self._face.checks():
                    sheet.put("fedtwin_ready", check.ok, check.name)
                log_counts(sheet)
                filled = self._face.fill(sheet)
                if inspect.isawaitable(filled):
                    await filled
                self._families = list(sheet.families())
                body = await asyncio.to_thread(encode, self._registry)
                if len(self._made) > 4:  # a client may vary its Accept header at will
                    self._made.clear()
                made = self._made[content_type] = (loop.time(), body, content_type)
            return made[1], made[2]


def log_counts(sheet: Sheet) -> None:
    """Show how many log records there were, where the root logger's handler counts them."""
    for handler in logging.getLogger().handlers:
        counts = getattr(handler, "counts", None)
        if isinstance(counts, dict):
            for level, number in counts.items():
                sheet.put("fedtwin_log_records_total", number, level)
            sheet.put("fedtwin_log_suppressed_total", getattr(handler, "suppressed", 0))


class _Requests:
    """Answers connections, a bounded number at a time."""

    def __init__(
        self, face: Face, measured: ProcessWatch, exposition: _Exposition, *, any_name: bool
    ) -> None:
        self._face = face
        self._measured = measured
        self._exposition = exposition
        self._any_name = any_name
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        if len(self._writers) >= CONNECTIONS:
            writer.write(_response(503, b"too many connections; scrape less often\n"))
            writer.close()
            return
        self._writers.add(writer)
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(ANSWER_WITHIN_S):
                writer.write(await self._answer(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever sends rubbish or reads too slowly is not worth a log line each time
        except Exception:
            log.exception("metrics request failed")
            with contextlib.suppress(OSError):
                writer.write(_response(500, b"the log says what failed\n"))
                writer.close()
        finally:
            self._writers.discard(writer)
            if not writer.transport.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()

    def abort(self) -> None:
        """Drop all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        headers = {
            name.strip().lower(): value.strip()
            for name, found, value in (line.partition(":") for line in lines[1:])
            if found
        }
        if method not in ("GET", "HEAD"):
            return _response(405, b"GET and HEAD are answered here\n", extra="Allow: GET, HEAD\r\n")
        if not self._any_name and not _local_name(headers.get("host", "")):
            # A web page may point a name of its own at 127.0.0.1 and have the visitor's browser ask here.
            return _response(403, b"ask by a loopback address or localhost\n")
        body_of = method == "GET"
        match path:
            case "/metrics":
                body, kind = await self._exposition.text(headers.get("accept", ""))
                return _response(200, body, kind, body_of=body_of)
            case "/healthz":
                alive = {"status": "alive", "process": self._face.process, "pid": os.getpid()}
                document = {**alive, "up_s": round(self._measured.up_s, 1)}
                return _response(200, _json(document), "application/json", body_of=body_of)
            case "/readyz":
                checks = list(self._face.checks())
                good = ready(checks)
                document = {"ready": good, "checks": [asdict(check) for check in checks]}
                return _response(200 if good else 503, _json(document), "application/json", body_of=body_of)
        return _response(404, b"there are /metrics, /healthz and /readyz\n")


def _local_name(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.removeprefix("[").removesuffix("]")
    if name in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


_REASONS = {
    200: "OK",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _response(
    status: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    *,
    extra: str = "",
    body_of: bool = True,
) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{extra}Connection: close\r\n\r\n"
    )
    return head.encode() + (body if body_of else b"")
