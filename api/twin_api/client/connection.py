"""One connection to the api: the token, retries, errors. Owns what may be sent twice; knows no resource.

Sent again, within `patience_s`: what is safe to repeat (reads, removals, creations that carry an
`Idempotency-Key`), and anything that the api did not take up (429, or nothing listened). A merge patch is not
repeated otherwise: whether it arrived, only a read can tell.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from domain_twin.errors import ConfigError, CredentialError
from twin_api.client.errors import ApiError, NoAnswer, error_of
from twin_api.client.stream import Frame, frames

if TYPE_CHECKING:
    import httpx

__all__ = ["Connection", "Reply"]

_REPEATED = frozenset({502, 503, 504})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_SILENT_S = 60.0
"""A stream that is silent for so long is gone: the api says every 15 s that it is still there."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the document, and the headers that matter to a client."""

    status: int
    body: Any
    etag: str = ""
    total: int | None = None
    repeated: bool = False
    """Whether it was sent more than once: then the first time may have had its effect."""


class Connection:
    """HTTP to one api with one partner's token."""

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        root: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 10.0,
    ) -> None:
        """`token` is called for every request; `root` is a PEM file, else the system's roots count.

        Raises ConfigError for an address that cannot be used: in the clear a token goes to this machine only.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ConfigError(f"{url!r} is no address of an api; it is spelled https://host:port")
        self._local = _is_loopback(parts.hostname)
        if parts.scheme == "http" and not self._local:
            raise ConfigError(f"{url}: a token is not sent in the clear; use https://")
        self.url = url.rstrip("/")
        self._token = token
        self._root = root
        self._certificate = certificate
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Connection:
        import httpx

        self._http = httpx.AsyncClient(
            base_url=self.url,
            verify=self._verified() if self.url.startswith("https") else False,
            timeout=self._timeout_s,
            trust_env=not self._local,
            headers={"Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Reply:
        """Send one request and read the answer. Raises ApiError; NoAnswer where none came."""
        import httpx

        if self._http is None:
            raise ConfigError("the client is not open; use it in `async with`")
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        began, wait_s, sent = time.monotonic(), _FIRST_WAIT_S, 0
        while True:
            refused: ApiError
            try:
                answer = await self._http.request(
                    method, path, params=params, content=content, headers=self._headers(content, headers)
                )
                sent += 1
                if answer.status_code < 300:
                    return _reply(answer, repeated=sent > 1)
                asked = f"{method} {path}"
                refused = error_of(
                    answer.status_code,
                    answer.content,
                    asked=asked,
                    retry_after=answer.headers.get("Retry-After", ""),
                )
                again = answer.status_code == 429 or (repeatable and answer.status_code in _REPEATED)
                if method == "DELETE" and answer.status_code == 404 and sent > 1:
                    return Reply(204, None, repeated=True)  # the first one had its effect
            except httpx.ConnectError as error:
                refused, again = self._unreachable(error), True
            except httpx.TransportError as error:
                refused, again = self._unreachable(error), repeatable
                sent += 1
            wait_s = max(wait_s, refused.retry_after_s)
            if not again or time.monotonic() - began + wait_s > self._patience_s:
                raise refused
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def listen(
        self, path: str, *, params: Mapping[str, str] | None = None, after: str = ""
    ) -> AsyncGenerator[Frame, None]:
        """Server-sent events from the one behind `after`, for good: comes back where the stream ends.

        Raises ApiError; NoAnswer where the api is away for longer than `patience_s`.
        """
        import httpx

        if self._http is None:
            raise ConfigError("the client is not open; use it in `async with`")
        heard, wait_s, pause_s = time.monotonic(), _FIRST_WAIT_S, 0.0
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
            refused: ApiError | None = None
            try:
                async with self._http.stream(
                    "GET",
                    path,
                    params=params,
                    headers=self._headers(None, headers),
                    timeout=httpx.Timeout(self._timeout_s, read=_SILENT_S),
                ) as answer:
                    await _check_stream(answer, asked=f"GET {path}")
                    async with aclosing(frames(answer.aiter_bytes())) as found:
                        async for frame in found:
                            heard, wait_s = time.monotonic(), _FIRST_WAIT_S
                            after = frame.id or after
                            pause_s = pause_s if frame.retry_s is None else frame.retry_s
                            if frame.data:
                                yield frame
                                heard = time.monotonic()  # whoever reads may have taken its time
            except ApiError as error:
                if error.status not in _REPEATED | {429}:
                    raise
                refused = error
            except httpx.TransportError as error:
                refused = self._unreachable(error)
            again_s = max(wait_s, min(pause_s, self._patience_s), refused.retry_after_s if refused else 0.0)
            if refused and time.monotonic() - heard + again_s > self._patience_s:
                raise refused
            await asyncio.sleep(again_s * random.uniform(0.8, 1.2))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _headers(self, content: bytes | None, more: Mapping[str, str] | None) -> dict[str, str]:
        token = self._token().strip()
        if not token or any(sign.isspace() for sign in token):
            raise CredentialError("the access token is empty or not on one line; get another one")
        found = {"Authorization": f"Bearer {token}", **(more or {})}
        if content is not None:
            found.setdefault("Content-Type", "application/json")
        return found

    def _unreachable(self, error: Exception) -> NoAnswer:
        why = str(error) or type(error).__name__
        return NoAnswer(f"{self.url} does not answer ({why}); is `fedtwin api` running there?")

    def _verified(self) -> Any:
        import ssl

        try:
            context = ssl.create_default_context(cafile=str(self._root) if self._root else None)
            if self._certificate:
                context.load_cert_chain(*map(str, self._certificate))
        except OSError as error:
            raise ConfigError(
                f"{self._root or 'the certificate'}: cannot be used for TLS ({error}); check the profile's"
                " root, certificate and key"
            ) from error
        return context


def _reply(answer: httpx.Response, *, repeated: bool) -> Reply:
    try:
        body = json.loads(answer.content) if answer.content else None
    except ValueError as error:
        raise ApiError(
            answer.status_code, "malformed", f"{answer.request.url.path}: the answer is not JSON ({error})"
        ) from error
    total = answer.headers.get("X-Total-Count", "")
    return Reply(
        answer.status_code,
        body,
        etag=answer.headers.get("ETag", ""),
        total=int(total) if total.isdecimal() else None,
        repeated=repeated,
    )


async def _check_stream(answer: httpx.Response, *, asked: str) -> None:
    """Raises ApiError where what comes is no stream of events."""
    if answer.status_code != 200:
        content = await answer.aread()
        retry_after = answer.headers.get("Retry-After", "")
        raise error_of(answer.status_code, content, asked=asked, retry_after=retry_after)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise ApiError(200, "malformed", f"{asked}: this is {kind or 'untyped'}, not a stream of events")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
