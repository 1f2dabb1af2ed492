"""Have each domain confirm its share of a service's delay budget. Owns who was asked what; splits nothing.

A domain is told its own segments and its own share, never those of others. It is asked again when its share
or its part of the path changed, when it attached anew, and after a while if it did not say yes: what kept it
from that may be over.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from domain_twin.errors import TwinError
from domain_twin.model import Outcome, PathMode, ServiceStatus
from federation.registry import Spawn
from federation.wire.refusals import outcome_of

if TYPE_CHECKING:
    from federation.session import Session

__all__ = ["Negotiator", "Verdict"]

log = logging.getLogger(__name__)

_ASK_WITHIN_S = 5.0
_ASK_AGAIN_S = 5.0
_ROUNDS = 5
_ROUNDS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a domain said to its share. `outcome` is OK when it keeps it, OVER_CAPACITY when it cannot."""

    share_ms: float
    outcome: Outcome
    least_ms: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    session_id: str
    share_us: int
    segments: tuple[tuple[str, str], ...]


class Negotiator:
    """Asks domains about shares. `on_verdicts` gets what they said, by service and domain."""

    def __init__(
        self,
        session_of: Callable[[str], Session | None],
        *,
        spawn: Spawn,
        on_verdicts: Callable[[str, Mapping[str, Verdict]], None],
    ) -> None:
        self._session_of = session_of
        self._spawn = spawn
        self._on_verdicts = on_verdicts
        self._asked: dict[tuple[str, str], _Question] = {}
        self._declined_at: dict[tuple[str, str], float] = {}  # monotonic seconds
        self._rounds: dict[str, list[float]] = {}
        self._running: set[str] = set()
        self._again: dict[str, ServiceStatus] = {}

    def consider(self, status: ServiceStatus) -> None:
        """Ask every domain that was not asked about this share and part yet, or that declined a while ago."""
        service = status.service.id
        if service in self._running:
            self._again[service] = status
        elif (questions := self._open_questions(status)) and self._may_ask(service):
            self._running.add(service)
            self._spawn(self._negotiate(status, questions))

    def _open_questions(self, status: ServiceStatus) -> dict[str, _Question]:
        found = {}
        for share in status.budget:
            session = self._session_of(share.domain)
            if not share.domain or session is None or not session.open or status.path is None:
                continue
            segments = tuple(
                (hop.source, hop.target) for hop in status.path.hops if hop.domain == share.domain
            )
            question = _Question(session.session_id, round(share.share_ms * 1000), segments)
            key = status.service.id, share.domain
            again = time.monotonic() - self._declined_at.get(key, math.inf) >= _ASK_AGAIN_S
            if again or self._asked.get(key) != question:
                found[share.domain] = question
        return found

    def _may_ask(self, service: str) -> bool:
        """Parties that never agree are not asked for ever."""
        now = time.monotonic()
        rounds = [at for at in self._rounds.get(service, ()) if now - at < _ROUNDS_WITHIN_S]
        if len(rounds) >= _ROUNDS:
            return False
        self._rounds[service] = [*rounds, now]
        return True

    async def _negotiate(self, status: ServiceStatus, questions: Mapping[str, _Question]) -> None:
        service = status.service.id
        try:
            for domain, question in questions.items():
                self._asked[service, domain] = question
            verdicts = await asyncio.gather(
                *(self._ask(status, domain, question) for domain, question in questions.items())
            )
            for domain, verdict in zip(questions, verdicts, strict=True):
                if verdict.outcome is Outcome.OK:
                    self._declined_at.pop((service, domain), None)
                else:
                    self._declined_at[service, domain] = time.monotonic()
            self._on_verdicts(service, dict(zip(questions, verdicts, strict=True)))
        finally:
            self._running.discard(service)
            later = self._again.pop(service, None)
        if later:
            self.consider(later)

    async def _ask(self, status: ServiceStatus, domain: str, question: _Question) -> Verdict:
        from federation.v1 import fedtwin_pb2 as pb

        share_ms = next(share.share_ms for share in status.budget if share.domain == domain)
        session = self._session_of(domain)
        if session is None:
            return Verdict(share_ms, Outcome.UNREACHABLE, reason=f"{domain} is not connected")
        ask = pb.BudgetAsk(
            service_id=status.service.id,
            segments=[
                pb.SegmentAsk(source=source, target=target, mode=PathMode.CURRENT)
                for source, target in question.segments
            ],
            share_ms=share_ms,
        )
        try:
            answer: Any = await session.ask(
                ask, timeout_s=_ASK_WITHIN_S, job_id=f"budget {status.service.id}"
            )
        except TwinError as error:
            log.info("share not confirmed", extra={"domain": domain, "reason": str(error)})
            return Verdict(share_ms, outcome_of(error), reason=str(error))
        if answer.accepted:
            return Verdict(share_ms, Outcome.OK)
        least_ms = answer.least_ms if answer.least_ms >= 0 else math.inf  # also for NaN
        return Verdict(share_ms, Outcome.OVER_CAPACITY, least_ms, answer.reason)
