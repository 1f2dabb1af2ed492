"""Asks domains for their parts of a partner's twin, in the partner's name, and checks what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity, SessionLost, TwinError
from domain_twin.model import Nanoseconds, View
from federation.acceptance import check_delta, check_names
from federation.partners.record import partner_identity
from federation.partners.scope import Scope
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.convert import decode_view, decode_view_delta

if TYPE_CHECKING:
    from federation.session import Session

__all__ = ["Asking", "PartView", "code_of", "is_refusal"]

_MOST_BYTES = 16 << 20
_MOST_POINTS = 5000  # in one part: a partner's twin is no copy of a domain
_AT_ONCE = 8  # asks to one domain: half of what an agent takes, so that others find room


@dataclass(frozen=True, slots=True)
class PartView:
    """What a domain shows of its part, until its agreement ends (0: never)."""

    view: View
    expires_at: Nanoseconds


class Asking:
    """One broker's asks for all twins."""

    def __init__(self, operator: str, session_of: Callable[[str], Session | None]) -> None:
        """`operator` is the exchange, in whose name space partners are."""
        self._operator = operator
        self._session_of = session_of
        self._room: dict[str, asyncio.Semaphore] = {}

    def connected(self, domain: str) -> bool:
        """Whether a domain can be asked now."""
        return self._session_of(domain) is not None

    async def part(
        self, domain: str, twin: str, tenant: str, scope: Scope, *, opens: bool, timeout_s: float
    ) -> PartView:
        """Open a domain's part, or bring an open one up to date. Raises what the domain refuses with.

        Also Unreachable, SessionLost, and ContractError for what no domain can say.
        """
        ask = pb.SandboxAsk(sandbox=twin, step="open" if opens else "refresh")
        if opens:
            ask.points.extend(scope.points_of(domain))
            ask.borders_only = scope.borders_only(domain)
            ask.until = scope.until
        answer = await self._ask(domain, ask, tenant, timeout_s)
        delta = decode_view_delta(answer.view)
        check_delta(delta, domain)
        view = decode_view(answer.view)
        check_names(delta, view)
        if len(view.points) > _MOST_POINTS:
            raise ContractError(
                f"{domain}: its part has {len(view.points)} points, and a twin takes {_MOST_POINTS}; name end"
                " points"
            )
        return PartView(view, max(0, answer.expires_at))

    async def close(self, domain: str, twin: str, tenant: str, *, timeout_s: float) -> None:
        """Have a domain forget its part. Raises TwinError."""
        await self._ask(domain, pb.SandboxAsk(sandbox=twin, step="close"), tenant, timeout_s)

    async def _ask(self, domain: str, ask: pb.SandboxAsk, tenant: str, timeout_s: float) -> pb.SandboxAnswer:
        async with self._room.setdefault(domain, asyncio.Semaphore(_AT_ONCE)):
            session = self._session_of(domain)
            if session is None:
                raise SessionLost(f"{domain}: is not connected now")
            answer: pb.SandboxAnswer = await session.ask(
                ask,
                timeout_s=timeout_s,
                on_behalf_of=partner_identity(self._operator, tenant),
                max_answer_bytes=_MOST_BYTES,
            )
            return answer


def is_refusal(error: TwinError) -> bool:
    """Whether asking again soon would get the same answer."""
    return isinstance(error, NotShared | NotFound | ContractError)


def code_of(error: TwinError) -> str:
    """A word for programs."""
    for kind, code in (
        (NotShared, "notShared"),
        (NotFound, "notServed"),
        (OverCapacity, "overCapacity"),
        (ContractError, "contractBroken"),
    ):
        if isinstance(error, kind):
            return code
    return "unreachable"
