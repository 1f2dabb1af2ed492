"""Messages of Flower over the sessions that agents hold: what `grid` sends through as bytes.

Owns offers, and how a message becomes an ask: a domain that was away and is back is offered the run again.
Threads of trainings call `carry`; asking happens on the broker's event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from domain_twin.errors import ContractError, NotFound, OverCapacity, TwinError, Unreachable
from domain_twin.learning.task import Task
from federation.v1 import fedtwin_pb2 as pb

__all__ = ["LearningSession", "SessionCarrier", "ask_to_learn"]

log = logging.getLogger(__name__)

_SLACK_BYTES = 1 << 16
_OFFER_S = 120.0
_LONGEST_WAIT_S = 10.0
_FACTS_BYTES = 64 << 10


class LearningSession(Protocol):
    """What is needed of a `federation.session.Session`."""

    async def ask(self, body: Any, *, timeout_s: float, job_id: str, max_answer_bytes: int) -> Any:
        """The agent's answer, verified. Raises TwinError."""

    def end_job(self, job_id: str) -> None:
        """Tell the agent that it may forget the run."""


SessionOf = Callable[[str], LearningSession | None]


async def ask_to_learn(
    session: LearningSession, ask: pb.LearnAsk, *, timeout_s: float, max_bytes: int = 0
) -> tuple[bytes, Mapping[str, Any]]:
    """One step at one domain: message and facts of its answer. Raises TwinError."""
    limit = max_bytes + _SLACK_BYTES + _FACTS_BYTES
    answer = await session.ask(ask, timeout_s=timeout_s, job_id=ask.run, max_answer_bytes=limit)
    if not answer.facts:
        return bytes(answer.message), {}
    try:
        facts = json.loads(answer.facts)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"LearnAnswer.facts: no JSON ({error})") from None
    if not isinstance(facts, dict) or len(answer.facts) > _FACTS_BYTES:
        raise ContractError("LearnAnswer.facts: no JSON object, or a large one")
    return bytes(answer.message), facts


class SessionCarrier:
    """Carries the messages of one run to the domains that take part. Made on the event loop."""

    def __init__(self, session_of: SessionOf, run: str, task: Task, *, max_bytes: int) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Messages by domain and outcome: `ok`, or the class of the error."""
        self.newest = 0
        """The newest version of this model that any domain has."""
        self._session_of = session_of
        self._run = run
        self._task = task
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._taking_part: dict[str, None] = {}

    async def offer(self, domains: Sequence[str]) -> dict[str, str]:
        """Ask domains to take part; why those do not that do not, by domain."""
        answers = await asyncio.gather(*(self._offered(domain) for domain in domains))
        refused = {domain: why for domain, why in zip(domains, answers, strict=True) if why}
        self._taking_part = {domain: None for domain in domains if domain not in refused}
        return refused

    def domains(self) -> Sequence[str]:
        """Those that take part and are connected now."""
        return tuple(domain for domain in self._taking_part if self._session_of(domain) is not None)

    @property
    def taking_part(self) -> tuple[str, ...]:
        """Those that agreed to take part, connected or not."""
        return tuple(self._taking_part)

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        """The reply to be; cancelling it cancels the ask."""
        return asyncio.run_coroutine_threadsafe(self._asked(domain, message, timeout_s), self._loop)

    def end(self) -> None:
        """Have all domains forget the run."""
        for domain in self._taking_part:
            if session := self._session_of(domain):
                session.end_job(self._run)

    async def _asked(self, domain: str, message: bytes, timeout_s: float) -> bytes:
        outcome = "cancelled"
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._reply(domain, message, timeout_s)
            outcome = "ok"
            return reply
        except (TwinError, TimeoutError) as error:
            outcome = type(error).__name__
            log.warning(
                "no reply in a round",
                extra={"domain": domain, "run": self._run, "reason": str(error) or outcome},
            )
            raise
        finally:
            self.outcomes[domain, outcome] += 1

    async def _reply(self, domain: str, message: bytes, timeout_s: float) -> bytes:
        ask = pb.LearnAsk(run=self._run, step="message", message=message)
        try:
            reply, _ = await self._in_turn(domain, ask, timeout_s)
        except NotFound as error:  # it was started anew meanwhile, or forgot the run
            if why := await self._offered(domain):
                raise Unreachable(why) from error
            reply, _ = await self._in_turn(domain, ask, timeout_s)
        return reply

    async def _in_turn(
        self, domain: str, ask: pb.LearnAsk, timeout_s: float
    ) -> tuple[bytes, Mapping[str, Any]]:
        """Ask, and ask again where the domain says when; ended by the caller's deadline."""
        while True:
            try:
                return await self._ask(domain, ask, timeout_s)
            except OverCapacity as error:
                if not 0 < error.retry_after_s <= _LONGEST_WAIT_S:
                    raise
                await asyncio.sleep(error.retry_after_s)

    async def _offered(self, domain: str) -> str:
        """Offer the run to one domain; why it does not take part, empty where it does."""
        ask = pb.LearnAsk(run=self._run, step="offer", task=self._task.to_json())
        try:
            _, facts = await self._ask(domain, ask, _OFFER_S)
        except TwinError as error:
            return str(error)
        if facts.get("takes_part") is not True:
            return f"{domain}: it does not say that it takes part"
        newest = facts.get("newest")
        if isinstance(newest, int) and 0 <= newest < 1 << 31:
            self.newest = max(self.newest, newest)
        return ""

    async def _ask(self, domain: str, ask: pb.LearnAsk, timeout_s: float) -> tuple[bytes, Mapping[str, Any]]:
        session = self._session_of(domain)
        if session is None:
            raise Unreachable(f"{domain}: not connected")
        return await ask_to_learn(session, ask, timeout_s=timeout_s, max_bytes=self._max_bytes)
