"""HTTP/1.1 on one connection, with bounds that uvicorn's own lacks. Owns heads, stalls and certificates.

A head that is too long or too slow, a reader who stalls and a connection too many end the connection. What
comes after a chunked body (trailers) never counts as headers. The SHA-256 of the client's certificate is in
the state of each request as `certificate`, base64url (RFC 8705 3.1).
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from http import HTTPStatus
from typing import Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from domain_twin.config import ApiLimitsConfig
from twin_api.shelf import encode
from twin_api.tmf.errors import error_body

__all__ = ["BoundedProtocol", "protocol_for", "thumbprint"]

MAX_HEADERS: Final = 100
STALLED_AFTER_S: Final = 30.0
"""A reader who takes nothing for so long is left."""


def thumbprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), base64url without padding."""
    return urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()


class _Refused(Exception):
    """Ends a request from within the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection; `limits` are those of the class."""

    limits: ClassVar[ApiLimitsConfig] = ApiLimitsConfig()

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self._in_head = False
        self._octets = self._heads = 0
        self._status, self._why = 400, ""
        self._certificate = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._end(503, "too many connections; try again in a moment")
            return
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            shown = tls.getpeercert(binary_form=True)
            self._certificate = thumbprint(shown) if shown else ""
        self._head_timer = self.loop.call_later(self.limits.head_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        if self._stall_timer:
            self._stall_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._octets += len(data)  # a header is told of when it is whole: one without an end never is
            if self._octets > self.limits.head_bytes:
                self._end(431, self._too_long)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or beyond the bounds."""
        self._end(self._status, self._why or "this is no HTTP/1.1 request (RFC 9112)")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._octets, self._heads = True, 0, 0
        self.scope["state"]["certificate"] = self._certificate
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_s, self._head_is_late)

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what follows the body is none."""
        if self._in_head:
            self._count(len(name) + len(value))
            if len(self.headers) >= MAX_HEADERS:
                self._refuse(431, f"a request has at most {MAX_HEADERS} headers")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            self._refuse(400, "HTTP/1.1 is spoken here (RFC 9112)")
        if sum(name == b"host" for name, _ in self.headers) != 1:  # two servers could read it in two ways
            self._refuse(400, "a request names one Host (RFC 9112 3.2)")
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is sent to."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(STALLED_AFTER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._stall_timer:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def _stop_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    @property
    def _too_long(self) -> str:
        return f"the head of a request has at most {self.limits.head_bytes} bytes"

    def _count(self, octets: int) -> None:
        self._heads += octets
        if self._heads > self.limits.head_bytes:
            self._refuse(431, self._too_long)

    def _refuse(self, status: int, why: str) -> None:
        """End the request from within the parser, which turns this into `send_400_response`."""
        self._status, self._why = status, why
        raise _Refused

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._octets or self._in_head:
            self._end(408, f"the head of a request is expected within {self.limits.head_s:g} s")
        else:
            self.transport.close()

    def _end(self, status: int, why: str) -> None:
        """Say why, unless an answer is under way, and close."""
        if self.cycle is None or self.cycle.response_complete:
            body = encode(error_body(status, why))
            retry = "retry-after: 1\r\n" if status == 503 else ""
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                "content-type: application/json;charset=utf-8\r\n"
                f"content-length: {len(body)}\r\n"
                "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
                f"{retry}connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def protocol_for(limits: ApiLimitsConfig) -> type[BoundedProtocol]:
    """The protocol with these limits; uvicorn makes one a connection."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})
