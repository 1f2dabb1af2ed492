"""A model on its way to the domains: each judges it on its own data and says whether it uses it.

Owns what is asked of one domain, and how long it is waited for. Holds no model and no training.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from domain_twin.errors import NotFound, TwinError, Unreachable
from domain_twin.learning.task import Card
from domain_twin.model import DomainOutcome, Outcome
from federation.learning.session_grid import SessionOf, ask_to_learn
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.refusals import outcome_of, words

__all__ = ["Delivery"]

_DELIVER_S: Final = 120.0


class Delivery:
    """Asks domains over their sessions; one that fails is told of and holds up no other."""

    def __init__(self, session_of: SessionOf) -> None:
        self._session_of = session_of

    async def deliver(self, domains: Sequence[str], card: Card, data: bytes) -> dict[str, dict[str, Any]]:
        """By domain, what it says of a new version: `in_service`, `reason`, and where it told, `scores`."""
        answers = await asyncio.gather(*(self._delivered(domain, card, data) for domain in domains))
        return dict(zip(domains, answers, strict=True))

    async def put_back(self, domains: Iterable[str], card: Card, data: bytes) -> list[DomainOutcome]:
        """What came of putting an earlier version back into service; who has it no more is given it."""
        return list(await asyncio.gather(*(self._put_back(domain, card, data) for domain in domains)))

    async def _delivered(self, domain: str, card: Card, data: bytes) -> dict[str, Any]:
        ask = pb.LearnAsk(run=card.run, step="deliver", card=card.to_json(), arrays=data)
        try:
            facts = await self._ask(domain, ask)
        except TwinError as error:
            return {"in_service": False, "reason": str(error)}
        return {
            "in_service": facts.get("in_service") is True,
            "reason": words(str(facts.get("reason", "")), 500),
            "scores": _numbers(facts.get("scores")),
        }

    async def _put_back(self, domain: str, card: Card, data: bytes) -> DomainOutcome:
        withdraw = pb.LearnAsk(run=card.run, step="withdraw", card=card.to_json())
        try:
            try:
                await self._ask(domain, withdraw)
            except NotFound:  # it never had it, or keeps it no more
                said = await self._ask(
                    domain, pb.LearnAsk(run=card.run, step="deliver", card=card.to_json(), arrays=data)
                )
                if said.get("in_service") is not True:
                    return DomainOutcome(
                        domain, Outcome.NO_DATA, reason=words(str(said.get("reason", "")), 500)
                    )
        except TwinError as error:
            return DomainOutcome(domain, outcome_of(error), reason=str(error))
        return DomainOutcome(domain, Outcome.OK)

    async def _ask(self, domain: str, ask: pb.LearnAsk) -> Mapping[str, Any]:
        session = self._session_of(domain)
        if session is None:
            raise Unreachable(f"{domain}: not connected")
        _, facts = await ask_to_learn(session, ask, timeout_s=_DELIVER_S)
        return facts


def _numbers(scores: Any) -> dict[str, float]:
    items: Iterable[tuple[Any, Any]] = scores.items() if isinstance(scores, dict) else ()
    kept: dict[str, float] = {}
    for name, value in list(items)[:64]:
        with contextlib.suppress(OverflowError):  # JSON has whole numbers that no double holds
            if isinstance(value, int | float) and math.isfinite(value):
                kept[str(name)[:64]] = float(value)
    return kept
