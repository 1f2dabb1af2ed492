"""What every request for partners passes: its id, its token, its tenant's rate, bounds, and the log.

Plain ASGI. Nothing of the Host header, of a Forwarded one or of a trailer is believed; no other origin is let
in (no CORS). A path that needs a token gets no further without one, and none that the table of scopes omits.
An address that sends many tokens that do not hold is not read any more for a while, but for tokens that are
known already: whoever shares it goes on.
"""

from __future__ import annotations

import asyncio
import binascii
import ipaddress
import logging
import os
import re
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain_twin.config import ApiConfig
from domain_twin.model import Nanoseconds
from federation.rates import Buckets
from twin_api.access_log import AccessLog
from twin_api.api_metrics import Counts
from twin_api.caller import Caller
from twin_api.keys import KeysMissing
from twin_api.protocol import thumbprint
from twin_api.scopes import needed
from twin_api.shelf import encode
from twin_api.tmf.errors import error_body
from twin_api.tokens import TokenRefused, Tokens, Verified

__all__ = ["Front"]

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_JSON: Final = (b"content-type", b"application/json;charset=utf-8")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_STRICT: Final = b"default-src 'none'; frame-ancestors 'none'"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_YEAR: Final = b"max-age=31536000"
_OTHER: Final = "other"
_SEGMENTS: Final = 5  # of a path that name a route: "", tmf-api, serviceInventory, v4, service
_LEAST: Final = 2
_CODES: Final = {"invalid_request": "invalidRequest", "invalid_token": "invalidToken"}


class _Refusal(Exception):
    """Ends a request before its route: a status and a sentence."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes], code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class Front:
    """Wraps the routes; `labels` name them for log and metrics, by the beginning of their path."""

    def __init__(
        self,
        routes: ASGIApp,
        config: ApiConfig,
        tokens: Tokens,
        *,
        counts: Counts,
        labels: Mapping[str, str],
        access_log: AccessLog | None = None,
        serves: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._routes = routes
        self._tokens = tokens
        self._counts = counts
        self._labels = labels
        self._log = access_log
        self._serves = serves
        self._limits = config.limits
        self._buckets = Buckets(config.limits.requests_per_second, config.limits.burst)
        self._limit = str(config.limits.burst).encode()
        self._per_second = config.limits.requests_per_second
        self._failures_per_second = config.limits.failures_per_minute / 60
        self._failures = Buckets(self._failures_per_second, config.limits.failures_per_minute)
        self._behind_proxy = config.behind_proxy  # everybody has its address then: it has to do this itself
        self._from_proxy = config.proxy_certificate
        self._realm = b'Bearer realm="' + config.expected_audience.encode("ascii", "ignore") + b'"'
        secure = config.public_address.startswith("https:")
        self._always = (*_ALWAYS, (b"strict-transport-security", _YEAR)) if secure else _ALWAYS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        await _Request(self, scope, receive, send).answer(self._routes)

    def label(self, path: str) -> str:
        """A route's name: its path without ids."""
        parts = path.split("/", _SEGMENTS)
        for length in range(len(parts), 1, -1):
            if (found := self._labels.get("/".join(parts[:length]))) is not None:
                return f"{found}/{{id}}" if len(parts) > length > _LEAST else found
        return _OTHER

    async def admit(self, scope: Scope) -> tuple[Caller, float] | None:
        """Who asks, and what is left of the tenant's rate; None: the route is open. Raises _Refusal."""
        scopes = needed(scope["path"])
        if scopes is None:
            return None
        verified = await self._verified(scope)
        caller = verified.caller
        scope["state"]["token_ends"] = verified.expires
        if not self._serves(caller.tenant):  # before anything is kept under its name
            self._counts.refused["tenant"] += 1
            raise _Refusal(
                403,
                f"no partner {caller.tenant!r} is served here; have the operator add it",
                code="notShared",
            )
        now: Nanoseconds = time.monotonic_ns()
        if wait_s := self._buckets.take(caller.tenant, now):
            self._counts.refused["rate"] += 1
            after = str(max(1, round(wait_s + 0.5))).encode()
            raise _Refusal(
                429,
                f"more than {self._per_second:g} requests a second; try again in {after.decode()} s",
                (b"retry-after", after),
                (b"x-rate-limit-limit", self._limit),
                (b"x-rate-limit-remaining", b"0"),
                (b"x-rate-limit-reset", after),
            )
        if not scopes & caller.scopes:
            self._counts.refused["scope"] += 1
            wanted = " ".join(sorted(scopes)).encode()
            told = b', error="insufficient_scope"' + (b', scope="' + wanted + b'"' if wanted else b"")
            raise _Refusal(
                403,
                f"the token has none of the scopes that open anything here: {', '.join(sorted(scopes))}"
                if scopes
                else "no partner may do this",
                (b"www-authenticate", self._realm + told),
                code="insufficientScope",
            )
        return caller, self._buckets.left(caller.tenant, now)

    async def _verified(self, scope: Scope) -> Verified:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given:
            self._counts.refused["no token"] += 1
            raise _Refusal(
                401, "send an access token: `Authorization: Bearer …`", (b"www-authenticate", self._realm)
            )
        kind, _, token = given[0].partition(b" ")
        if len(given) > 1 or kind.lower() != b"bearer":
            raise self._unauthorized("send one access token, as `Authorization: Bearer …`", "invalid_request")
        text = token.strip(b" ").decode("latin-1")
        address = "" if self._behind_proxy else _address(scope)
        if address and (left := self._failures.left(address, time.monotonic_ns())) < 1.0:
            self._check_known(text, (1.0 - left) / self._failures_per_second)
        try:
            return await self._tokens.verify(text, self._certificate(scope))
        except TokenRefused as refused:
            if address:
                self._failures.take(address, time.monotonic_ns())
            raise self._unauthorized(str(refused), "invalid_token") from None
        except KeysMissing:
            self._counts.refused["keys"] += 1
            raise _Refusal(
                503, "the keys of the token's issuer cannot be read at present", (b"retry-after", b"10")
            ) from None

    def _check_known(self, token: str, wait_s: float) -> None:
        """Raises _Refusal for a token that would have to be looked at anew."""
        if self._tokens.knows(token):
            return
        self._counts.refused["failures"] += 1
        after = str(max(1, round(wait_s + 0.5)))
        raise _Refusal(
            429,
            "too many tokens from your address did not hold, and new ones are not looked at; try again in"
            f" {after} s",
            (b"retry-after", after.encode()),
        )

    def _unauthorized(self, message: str, code: str) -> _Refusal:
        """401 as RFC 6750 3.1 has it."""
        self._counts.refused["token"] += 1
        text = message.encode("ascii", "replace").replace(b'"', b"'").replace(b"\\", b"/")
        told = b', error="' + code.encode() + b'", error_description="' + text + b'"'
        return _Refusal(401, message, (b"www-authenticate", self._realm + told), code=_CODES[code])

    def _certificate(self, scope: Scope) -> str:
        """SHA-256 of the client's certificate: of this connection, or as the proxy tells it (RFC 9440)."""
        if not self._from_proxy:
            return str(scope.get("state", {}).get("certificate", ""))
        told = [value for name, value in scope["headers"] if name == b"client-cert"]
        if len(told) != 1 or not (told[0][:1] == told[0][-1:] == b":"):
            return ""
        try:
            return thumbprint(b64decode(told[0][1:-1], validate=True))
        except (binascii.Error, ValueError):
            return ""


class _Request:
    """One request on its way."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send) -> None:
        self._front = front
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status = 0
        self._taken = 0
        self._whole = False
        self._deadline = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._caller: Caller | None = None

    async def answer(self, routes: ASGIApp) -> None:
        """Have the routes answer, or refuse; then write it down."""
        began = time.perf_counter()
        front, scope = self._front, self._scope
        scope.setdefault("state", {})
        identity = self._identity()
        scope["state"]["request_id"] = identity
        self._headers = [(b"x-request-id", identity.encode()), *front._always]
        try:
            await self._routed(routes)
        except _Refusal as refusal:
            await self._refuse(refusal.status, str(refusal), refusal.headers, refusal.code)
        except HTTPException as error:
            told = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
            if self._status:
                raise
            await self._refuse(error.status_code, str(error.detail), told)
        except Exception:
            log.exception("request failed", extra={"request_id": identity})
            front._counts.failed += 1
            if self._status:  # half an answer: the connection is ended, so that nobody takes it for a whole
                raise
            await self._refuse(500, f"this should not have happened; the log has it under {identity}")
        finally:
            self._note(identity, time.perf_counter() - began)

    async def _routed(self, routes: ASGIApp) -> None:
        front, scope = self._front, self._scope
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length) > front._limits.body_bytes:
            raise self._too_large()
        if (admitted := await front.admit(scope)) is not None:
            self._caller, left = admitted
            scope["state"]["caller"] = self._caller
            self._headers += (
                (b"x-rate-limit-limit", front._limit),
                (b"x-rate-limit-remaining", str(int(left)).encode()),
            )
        self._deadline = asyncio.get_running_loop().time() + front._limits.body_s
        await routes(scope, self.receive, self.send)

    async def receive(self) -> Message:
        """The next piece of the body, within its bounds. Raises HTTPException."""
        if self._whole:  # what follows is the end of the connection, whenever it comes
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            within_s = self._front._limits.body_s
            raise HTTPException(408, f"the body is expected within {within_s:g} s") from None
        self._taken += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._taken > self._front._limits.body_bytes:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, with the headers that all have."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            given = {name.lower() for name, _ in headers}
            if b"cache-control" not in given:
                headers.append((b"cache-control", b"no-store"))
            if b"content-security-policy" not in given:
                headers.append((b"content-security-policy", _STRICT))
            message = {**message, "headers": headers + self._headers}
        await self._send(message)

    def _too_large(self) -> HTTPException:
        most = self._front._limits.body_bytes
        return HTTPException(413, f"a request has at most {most} bytes")

    async def _refuse(
        self, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = (), code: str = ""
    ) -> None:
        text = self._scope["path"] in ("/sparql", "/sparql/")  # that protocol speaks plain sentences
        body = f"{message}\n".encode() if text else encode(error_body(status, message, code))
        length = (b"content-length", str(len(body)).encode())
        closing = [] if self._whole or not _has_body(self._scope) else [(b"connection", b"close")]
        start = {"type": "http.response.start", "status": status}
        await self.send({**start, "headers": [_TEXT if text else _JSON, length, *closing, *headers]})
        await self.send({"type": "http.response.body", "body": body})

    def _identity(self) -> str:
        """The request's id: the caller's own where it is short and plain, else a new one."""
        given = [value for name, value in self._scope["headers"] if name == b"x-request-id"]
        if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
            return str(given[0].decode())
        return os.urandom(8).hex()

    def _note(self, identity: str, took_s: float) -> None:
        front, scope = self._front, self._scope
        label = front.label(scope["path"])
        front._counts.note(label, self._status, took_s)
        if front._log:
            fields: dict[str, Any] = {
                "at": time.time(),
                "method": scope["method"],
                "route": label,
                "status": self._status,
                "ms": round(took_s * 1e3, 3),
                "tenant": self._caller.tenant if self._caller else "",
                "request_id": identity,
            }
            front._log.tell(**fields)


def _address(scope: Scope) -> str:
    """Whose failures are counted together; empty: nobody knows. IPv6 by the 64 bits that one site has."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _has_body(scope: Scope) -> bool:
    """Whether a request says that a body follows; whoever is refused before it is read is not listened to."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
