"""The gate before every gRPC handler: TLS 1.3, one SPIFFE identity, vouched for by its own operator.

A server interceptor has no access to the connection's TLS state, so the guard wraps the handlers themselves.
A servicer behind it learns who asks with `current_peer()`.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import grpc

from domain_twin.errors import CredentialError, TwinError
from domain_twin.trust.identity import SpiffeId
from domain_twin.trust.refusal import refuse
from domain_twin.trust.roots import TrustBundle, VerifiedPeer

log = logging.getLogger(__name__)

Check = Callable[[str, SpiffeId], None]
"""Called with the full method name and the caller; raises a TwinError to refuse."""

_KNOWN_PEERS = 256
_peer: ContextVar[VerifiedPeer] = ContextVar("fedtwin_peer")


def current_peer() -> VerifiedPeer:
    """Who made the call that is being handled. Raises LookupError where no guard stands before it."""
    return _peer.get()


def _anyone(_method: str, _caller: SpiffeId) -> None:
    """Accept every verified caller: the servicer decides."""


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses, with a sentence, whoever is not a verified peer; `refused` counts by the class of error."""

    def __init__(self, trust: TrustBundle, check: Check = _anyone) -> None:
        self.refused: Counter[str] = Counter()
        self._trust = trust
        self._check = check
        self._known: dict[bytes, VerifiedPeer] = {}  # by PEM chain: a call costs no second verification
        self._known_by = trust.generation

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler that `continuation` finds."""
        handler = await continuation(details)
        if handler is None:
            return None
        return self._wrap(handler, details.method)

    def verify(self, auth: dict[str, list[bytes]]) -> VerifiedPeer:
        """Who stands behind a connection's `auth_context()`. Raises CredentialError, IdentityMismatch."""
        # grpcio reports the version from 1.85 on; where it does not, nobody knows, so nobody passes.
        version = b"".join(auth.get("ssl_tls_version", ())).decode()
        if version != "TLSv1.3":
            raise CredentialError(
                f"the connection uses {version or 'an unknown version of TLS'}, and TLS 1.3 is the least"
                " accepted here; update the TLS library of the dialling side"
            )
        if not (leaf := b"".join(auth.get("x509_pem_cert", ()))):
            raise CredentialError("the caller presented no certificate; mutual TLS is needed here")
        # grpcio's chain has the leaf, or the intermediates only, depending on who sent what.
        chain = leaf + b"".join(auth.get("x509_pem_cert_chain", ()))
        if self._known_by != self._trust.generation:  # other roots count now
            self._known.clear()
            self._known_by = self._trust.generation
        known = self._known.get(chain)
        if known is None or known.not_after < datetime.now(UTC):
            known = self._trust.verify(chain)
            if len(self._known) >= _KNOWN_PEERS:
                self._known.pop(next(iter(self._known)))
            self._known[chain] = known
        return known

    async def _admit(self, method: str, context: Any) -> None:
        try:
            peer = self.verify(context.auth_context())
            _peer.set(peer)  # before the check: who audits a refusal learns whom it met
            self._check(method, peer.identity)
        except TwinError as error:
            self.refused[type(error).__name__] += 1
            log.warning(
                "call refused", extra={"method": method, "from": context.peer(), "reason": str(error)}
            )
            await refuse(context, error)

    def _wrap(self, handler: Any, method: str) -> grpc.RpcMethodHandler:
        if handler.request_streaming:
            inner = handler.stream_stream if handler.response_streaming else handler.stream_unary
        else:
            inner = handler.unary_stream if handler.response_streaming else handler.unary_unary

        async def coroutine(request: Any, context: Any) -> Any:
            await self._admit(method, context)
            return await inner(request, context)

        async def generator(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(method, context)
            async for message in inner(request, context):
                yield message

        kind = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        outer = generator if inspect.isasyncgenfunction(inner) else coroutine
        return kind(outer, handler.request_deserializer, handler.response_serializer)
