"""The gRPC service `Partners`: messages in and out, errors as statuses, bounds on size, time and followers.

Only identities whose [[access]] says `partners = true` come here: `federation.twin.access_check` sees to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import grpc

from domain_twin.errors import (
    ContractError,
    CredentialError,
    OverCapacity,
    TwinError,
    Unreachable,
)
from domain_twin.trust.refusal import refuse
from federation.partners import wire
from federation.partners.documents import parse
from federation.partners.reception import Reception
from federation.partners.record import Kind
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc

__all__ = ["PartnersService"]

log = logging.getLogger(__name__)

MAX_ANSWER_S = 30.0
MAX_FOLLOWERS = 16


class PartnersService(fedtwin_pb2_grpc.PartnersServicer):  # type: ignore[misc]  # generated
    """Serves partners over gRPC, while they are received."""

    def __init__(
        self,
        reception: Reception,
        *,
        ends_at: Callable[[], datetime],
        max_answer_s: float = MAX_ANSWER_S,
        max_followers: int = MAX_FOLLOWERS,
    ) -> None:
        """`ends_at` says until when the one who asks now may follow."""
        self._reception = reception
        self._ends_at = ends_at
        self._max_answer_s = max_answer_s
        self._max_followers = max_followers

    async def Create(self, request: Any, context: Any) -> Any:
        """Keep a new record; durable when it returns."""

        async def work() -> Any:
            kind = _kind(request.kind)
            body = parse(request.body, kind)
            made = await self._reception.partners.create(request.tenant, kind, body, key=request.key)
            return pb.CreateRecordResponse(record=wire.encode_record(made.record), repeated_key=made.repeated)

        return await self._answer(context, work)

    async def Change(self, request: Any, context: Any) -> Any:
        """Merge a patch into a record; durable when it returns."""

        async def work() -> Any:
            kind = _kind(request.kind)
            patch = parse(request.patch, kind)
            record = await self._reception.partners.change(
                request.tenant, kind, request.id, patch, if_version=request.if_version
            )
            return pb.ChangeRecordResponse(record=wire.encode_record(record))

        return await self._answer(context, work)

    async def Remove(self, request: Any, context: Any) -> Any:
        """Forget a record; durable when it returns."""

        async def work() -> Any:
            kind = _kind(request.kind)
            sequence = await self._reception.partners.remove(
                request.tenant, kind, request.id, if_version=request.if_version
            )
            return pb.RemoveRecordResponse(sequence=sequence)

        return await self._answer(context, work)

    async def Follow(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """All records, then every change, until the follower's certificate ends."""
        try:
            store = self._reception.partners.store
            if store.followers >= self._max_followers:
                raise OverCapacity(f"{store.followers} follow already, all that may at once; try again later")
            ends_at = self._ends_at()
            async with aclosing(store.follow(request.after, request.epoch)) as following:
                async for news in following:
                    for message in wire.encode_news(news):
                        yield message
                    if datetime.now(UTC) >= ends_at:  # there are news every second
                        raise CredentialError("your certificate ended; renew it and follow again")
            raise Unreachable("the broker is stopping; follow again when it is back")
        except Exception as error:
            await _abort(context, error)

    async def _answer(self, context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            remaining = context.time_remaining()
            limit_s = self._max_answer_s if remaining is None else min(self._max_answer_s, remaining)
            try:
                async with asyncio.timeout(limit_s):
                    return await work()
            except TimeoutError:
                raise Unreachable(
                    f"no answer within {limit_s:.0f} s; whether it was done is not known: ask again with the"
                    " same key"
                ) from None
        except Exception as error:
            await _abort(context, error)


def _kind(word: str) -> Kind:
    try:
        return Kind(word)
    except ValueError:
        raise ContractError(f"kind: {word[:64]!r}; accepted are {', '.join(Kind)}") from None


async def _abort(context: Any, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, TwinError):
        log.error("a partner's request failed", exc_info=error)
        error = TwinError("the broker failed on this; its log has the details")
    await refuse(context, error)
