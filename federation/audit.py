"""The broker's audit: who read what of the composed twin, which agents attached, which views came and went.

Owns the outermost gate of the server: what a handler answers is recorded there before it leaves, and what is
refused with its reason, also what the guard refuses. The chain is `domain_twin.trust.audit_log`'s.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from cryptography import x509
from google.protobuf import text_format

from domain_twin.errors import OverCapacity
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.guard import current_peer
from domain_twin.trust.refusal import refuse
from federation.partners.gate import partner_of
from federation.rates import Rates

__all__ = ["AuditGate", "BrokerAuditor"]

_LONGEST_QUESTION = 500
_LONGEST_NAME = 64
_TOLD_EVERY_S = 1.0
_MOST_TOLD = 1024
_certificate: ContextVar[dict[str, str]] = ContextVar("fedtwin_certificate")


class BrokerAuditor:
    """Writes the broker's records; `trail` None: there is no audit."""

    def __init__(self, trail: AuditLog | None = None) -> None:
        self._trail = trail

    def note(self, kind: str, **data: Any) -> None:
        """Record what discloses nothing; a session with the certificate of the call that is being handled."""
        if self._trail:
            self._trail.note(kind, **data, **(_certificate.get({}) if kind == "attached" else {}))

    async def record(self, kind: str, **data: Any) -> None:
        """Record what is about to leave. Raises OverCapacity: then it must not."""
        if self._trail:
            await self._trail.record(kind, **data)


class AuditGate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before the guard: sees every call, every answer and every refusal."""

    def __init__(self, auditor: BrokerAuditor, rates: Rates) -> None:
        self._auditor = auditor
        self._rates = rates
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler that `continuation` finds."""
        handler = await continuation(details)
        if handler is None:
            return None
        service, _, rpc = details.method.rpartition("/")
        if service.endswith(".Federation"):
            return grpc.stream_stream_rpc_method_handler(
                self._session(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._pages(handler.unary_stream, rpc),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._answer(handler.unary_unary, rpc), handler.request_deserializer, handler.response_serializer
        )

    def _session(self, inner: Any) -> Any:
        async def attach(requests: Any, context: Any) -> Any:
            await self._check_address(context)
            _certificate.set(_certificate_of(context))
            try:
                return await inner(requests, context)
            finally:
                if context.code() not in (None, 0, grpc.StatusCode.OK):
                    self._refused("session-refused", "Attach", context)

        return attach

    def _answer(self, inner: Any, rpc: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            await self._check_address(context)
            try:
                message = await inner(request, context)
            except BaseException:
                self._refused("refused", rpc, context, request)
                raise
            payload = message.SerializeToString()
            await self._record(
                context, rpc, request, bytes=len(payload), answer_sha256=hashlib.sha256(payload).hexdigest()
            )
            return message

        return answer

    def _pages(self, inner: Any, rpc: str) -> Any:
        async def pages(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._check_address(context)
            count, size, digest = 0, 0, hashlib.sha256()
            messages = inner(request, context)
            try:
                async for message in messages:
                    if not count:
                        await self._record(context, rpc, request, stream=True)
                    payload = message.SerializeToString()
                    count, size = count + 1, size + len(payload)
                    digest.update(payload)
                    yield message
            finally:
                await messages.aclose()
                if count:
                    self._auditor.note(
                        "read-ended",
                        subject=_caller(),
                        rpc=rpc,
                        messages=count,
                        bytes=size,
                        answer_sha256=digest.hexdigest(),
                    )
                elif context.code() not in (None, 0, grpc.StatusCode.OK):
                    self._refused("refused", rpc, context, request)

        return pages

    async def _record(self, context: Any, rpc: str, request: Any, **more: Any) -> None:
        try:
            await self._auditor.record(
                "read",
                subject=_caller(),
                rpc=rpc,
                question=_brief(request),
                outcome="ok",
                **_for_partner(context, request),
                **more,
            )
        except OverCapacity as error:
            await refuse(context, error)

    async def _check_address(self, context: Any) -> None:
        try:
            self._rates.check_address(_address(context))
        except OverCapacity as error:
            self._refused("refused", "connect", context, reason=str(error))
            await refuse(context, error)

    def _refused(self, kind: str, rpc: str, context: Any, request: Any = None, *, reason: str = "") -> None:
        code = context.code()
        if code is grpc.StatusCode.UNAUTHENTICATED:
            self._rates.failed(_address(context))
        caller = _caller() or _address(context)
        times = 1
        if reason or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            # A flood must not become one of records: one a second for each who floods.
            told_at, unheard = self._told.get((caller, rpc), (0.0, 0))
            if time.monotonic() - told_at < _TOLD_EVERY_S:
                self._told[caller, rpc] = (told_at, unheard + 1)
                return
            times += unheard
            if len(self._told) >= _MOST_TOLD:
                del self._told[next(iter(self._told))]
            self._told[caller, rpc] = (time.monotonic(), 0)
        key = "peer" if kind == "session-refused" else "subject"
        self._auditor.note(
            kind,
            **{key: caller},
            rpc=rpc,
            question=_brief(request),
            outcome=code.name.lower() if isinstance(code, grpc.StatusCode) else "cancelled",
            reason=reason or _text(context.details()),
            times=times,
            **_for_partner(context, request),
            **({"from": context.peer()}),
            **(_certificate_of(context) if kind == "session-refused" else {}),
        )


def _caller() -> str:
    try:
        return str(current_peer().identity)
    except LookupError:
        return ""


def _for_partner(context: Any, request: Any) -> dict[str, str]:
    """The partner that a call says it is made for, in its metadata or in a request of `Partners`."""
    partner = partner_of(context) or str(getattr(request, "tenant", ""))
    return {"partner": partner[:_LONGEST_NAME]} if partner else {}


def _address(context: Any) -> str:
    """The caller's host: `ipv4:192.0.2.1:5000` without the port."""
    return str(context.peer()).rpartition(":")[0]


def _brief(request: Any) -> str:
    if request is None:
        return ""
    return str(text_format.MessageToString(request, as_one_line=True))[:_LONGEST_QUESTION]


def _text(details: Any) -> str:
    return details.decode("utf-8", "replace") if isinstance(details, bytes) else str(details or "")


def _certificate_of(context: Any) -> dict[str, str]:
    pem = b"".join(context.auth_context().get("x509_pem_cert", ()))
    try:
        leaf = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return {}
    return {"certificate": f"{leaf.serial_number:x}", "issuer": leaf.issuer.rfc4514_string()}
