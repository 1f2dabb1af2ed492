"""For whom the HTTP api speaks: the metadata `fedtwin-partner` of a call, believed from few and for little.

Stands behind the guard, which says who calls. A call with that metadata is made for the partner: the caller
is then `spiffe://<exchange operator>/partner/<tenant>`, and only questions that a partner has are answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from domain_twin.config import BrokerConfig
from domain_twin.errors import NotShared, TwinError
from domain_twin.trust.guard import current_peer
from domain_twin.trust.identity import SpiffeId
from domain_twin.trust.refusal import refuse
from federation.partners.record import partner_identity

__all__ = ["PARTNER_METADATA", "PartnerGate", "current_caller", "partner_of"]

PARTNER_METADATA = "fedtwin-partner"
_ANSWERED = frozenset(
    f"/fedtwin.v1.Twin/{rpc}"
    for rpc in ("Query", "StartJob", "GetJob", "ListJobs", "WatchJob", "CancelJob", "GetReport")
)
_partner: ContextVar[str] = ContextVar("fedtwin_partner", default="")


def current_caller() -> str:
    """The identity behind the call that is being handled: the partner's where it is made for one."""
    return _partner.get() or str(current_peer().identity)


def partner_of(context: Any) -> str:
    """The tenant that a call says it is made for, believed or not; empty: none."""
    return _text(dict(context.invocation_metadata() or ()).get(PARTNER_METADATA, ""))


class PartnerGate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses, with a sentence, whoever may not speak for a partner, or not with this question."""

    def __init__(self, config: BrokerConfig) -> None:
        self._operator = config.operator
        self._tenants = frozenset(partner.id for partner in config.partner)
        self._speakers = [access.subject for access in config.access if access.partners]

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler that `continuation` finds, where the call is made for a partner."""
        handler = await continuation(details)
        named = [_text(value) for key, value in details.invocation_metadata or () if key == PARTNER_METADATA]
        if handler is None or not named:
            return handler
        return self._wrapped(handler, details.method, named)

    def check(self, method: str, caller: SpiffeId, named: list[str]) -> str:
        """The partner's identity for a call. Raises NotShared."""
        if not any(caller.matches(subject) for subject in self._speakers):
            raise NotShared(
                f"{caller} may not speak for partners; have the broker's operator set partners = true under"
                " the [[access]] that names this subject"
            )
        if method not in _ANSWERED:
            raise NotShared(f"{method.rpartition('/')[2]} is not answered for partners")
        tenant = named[0]
        if len(named) > 1 or tenant not in self._tenants:
            raise NotShared(
                f"no partner {tenant[:64]!r} is served here; have the broker's operator add [[partner]]"
            )
        return partner_identity(self._operator, tenant)

    def _wrapped(self, handler: Any, method: str, named: list[str]) -> grpc.RpcMethodHandler:
        async def admit(context: Any) -> None:
            try:
                _partner.set(self.check(method, current_peer().identity, named))
            except TwinError as error:
                await refuse(context, error)

        async def answer(request: Any, context: Any) -> Any:
            await admit(context)
            return await inner(request, context)

        async def pages(request: Any, context: Any) -> AsyncIterator[Any]:
            await admit(context)
            async for message in inner(request, context):
                yield message

        codecs = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:
            inner = handler.stream_stream
            return grpc.stream_stream_rpc_method_handler(answer, *codecs)
        if handler.response_streaming:
            inner = handler.unary_stream
            return grpc.unary_stream_rpc_method_handler(pages, *codecs)
        inner = handler.unary_unary
        return grpc.unary_unary_rpc_method_handler(answer, *codecs)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
