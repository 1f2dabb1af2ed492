"""Domains that can be asked: over their sessions, for somebody, until a deadline. Owns limits and patience.

A refusal or a silence is that domain's part in the answer (`Part`), and nobody else's. A domain that is busy
is asked once more when it says so; a domain that failed is not asked again for the same query.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from domain_twin.errors import ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.model import Outcome, Version
from domain_twin.model.query import QueryPart
from federation.query.cards import Card, decode_card
from federation.query.gathered import Value
from federation.wire.refusals import outcome_of

if TYPE_CHECKING:
    from federation.session import Session

__all__ = ["BLOCK", "Answered", "Domains", "Part", "SessionDomains"]

log = logging.getLogger(__name__)

T = TypeVar("T")

BLOCK = 500
"""Bindings in one request."""
MOST_BYTES = 16 << 20
"""Of one answer."""
_AT_ONCE = 4  # requests of one query to one domain
_CARD_WITHIN_S = 5.0
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What a domain answered: SPARQL 1.1 Query Results JSON."""

    results: bytes
    stopped_by: str = ""


class Domains(Protocol):
    """Whoever can be asked for their part."""

    async def ask(
        self, domain: str, text: str, variable: str, values: Sequence[Value], *, asker: str, timeout_s: float
    ) -> Answered:
        """The answer of one domain to one question, for `asker`. Raises TwinError."""


@dataclass(slots=True)
class Part:
    """One domain's part in one query, as it goes."""

    domain: str
    error: TwinError | None = None
    remark: str = ""
    stopped_by: str = ""
    version: Version | None = None
    requests: int = 0
    rows: int = 0
    transferred_bytes: int = 0

    def as_data(self) -> QueryPart:
        """The part as the asker gets it."""
        reason = "; ".join(text for text in (self.remark, self.stopped_by) if text)
        outcome = Outcome.OK
        if self.error is not None:
            outcome = outcome_of(self.error)
            reason = "; ".join(text for text in (str(self.error), reason) if text)
        elif self.stopped_by:
            outcome = Outcome.OVER_CAPACITY
        elif self.remark:
            outcome = Outcome.NO_DATA
        return QueryPart(self.domain, outcome, reason, self.version, self.requests, self.rows)


class SessionDomains:
    """The agents behind their sessions."""

    def __init__(self, session_of: Callable[[str], Session | None]) -> None:
        self._session_of = session_of

    async def ask(
        self, domain: str, text: str, variable: str, values: Sequence[Value], *, asker: str, timeout_s: float
    ) -> Answered:
        """Ask over the domain's session of now. Raises TwinError."""
        from federation.v1 import fedtwin_pb2 as pb

        body = pb.QueryAsk(
            query=text,
            variables=[variable] if values else [],
            values=[str(value) for value in values],
        )
        answer: Any = await self._patiently(domain, body, asker, timeout_s)
        if answer.form != "bindings":
            raise ContractError(f"{domain}: answered with {answer.form[:40]!r} where bindings were asked for")
        return Answered(answer.results, answer.stopped_by[:200])

    async def card(self, domain: str, asker: str) -> Card:
        """The domain's card for this asker. Raises TwinError."""
        from federation.v1 import fedtwin_pb2 as pb

        return decode_card(domain, await self._patiently(domain, pb.CardAsk(), asker, _CARD_WITHIN_S))

    async def _patiently(self, domain: str, body: Any, asker: str, timeout_s: float) -> Any:
        """Ask, and once more where the domain says that it is busy and until when."""
        until = asyncio.get_running_loop().time() + timeout_s
        try:
            return await self._once(domain, body, asker, timeout_s)
        except OverCapacity as error:
            pause_s = error.retry_after_s
            left_s = until - asyncio.get_running_loop().time() - pause_s
            if not 0.0 < pause_s <= _LONGEST_PAUSE_S or left_s <= 0.0:
                raise
        await asyncio.sleep(pause_s)
        return await self._once(domain, body, asker, left_s)

    async def _once(self, domain: str, body: Any, asker: str, timeout_s: float) -> Any:
        session = self._session_of(domain)
        if session is None:
            raise Unreachable(f"{domain}: it is not connected now")
        return await session.ask(
            body,
            timeout_s=max(0.001, timeout_s),
            on_behalf_of=asker or None,
            max_answer_bytes=MOST_BYTES,
        )


class Desk:
    """All requests of one query: counted by domain, a few at once, none to a domain that failed."""

    def __init__(self, domains: Domains, parts: dict[str, Part], *, asker: str, deadline: float) -> None:
        """`deadline` is on the loop's clock."""
        self.parts = parts
        self._domains = domains
        self._asker = asker
        self._deadline = deadline
        self._doors: dict[str, asyncio.Semaphore] = {}

    def failed(self, domain: str) -> bool:
        """Whether the domain is not asked any more."""
        return self.parts[domain].error is not None

    async def read(self, domain: str, take: Callable[[], T]) -> T | None:
        """What `take` makes of an answer, in a thread; None where the answer is none (the part says why)."""
        try:
            return await asyncio.to_thread(take)
        except ContractError as error:
            log.warning("answer to a query not used", extra={"domain": domain, "reason": str(error)})
            self.parts[domain].error = error
            return None

    async def ask(self, domain: str, text: str, variable: str, values: Sequence[Value]) -> bytes | None:
        """The domain's rows, as JSON; None where there is no answer (the part says why)."""
        part = self.parts[domain]
        async with self._doors.setdefault(domain, asyncio.Semaphore(_AT_ONCE)):
            if part.error is not None:
                return None
            part.requests += 1
            left_s = self._deadline - asyncio.get_running_loop().time()
            try:
                if left_s <= 0.0:
                    raise Unreachable(f"{domain}: no time was left to ask it")
                answer = await self._domains.ask(
                    domain, text, variable, values, asker=self._asker, timeout_s=left_s
                )
            except TwinError as error:
                log.info("no part in a query", extra={"domain": domain, "reason": str(error)})
                part.error = part.error or error
                return None
        part.transferred_bytes += len(answer.results)
        if answer.stopped_by:
            part.stopped_by = f"{domain} stopped at its limit: {answer.stopped_by}"
        return answer.results
