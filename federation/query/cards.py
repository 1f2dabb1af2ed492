"""What each domain's view holds, as it says itself: where a question is worth asking (VoID).

A card is of one domain, for one asker: what an agreement with the asker narrows, its card narrows too. Cards
are kept until the domain's view changes in structure, its session ends, or they are old; so choosing whom to
ask costs no traffic. A domain that refuses its card refuses its part in every query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain_twin.errors import ContractError, TwinError
from domain_twin.semantic.names import domain_node

__all__ = ["Card", "CardBook", "Count", "decode_card", "is_of"]

KEPT_S = 60.0
"""A card is asked for anew after this time: records that a domain shares may change without its view."""
SETTLED_S = 5.0
"""So long after a change a domain's graph may still be that of before; what it says then is kept briefly."""
_UNSETTLED_KEPT_S = 1.0
_REFUSAL_KEPT_S = 2.0
_MOST_COUNTS = 20_000
_MOST_CARDS = 4096


@dataclass(frozen=True, slots=True)
class Count:
    """How often a class or property is there, and how many of its ends are not the domain's own names."""

    triples: int
    subjects: int = 0
    objects: int = 0
    foreign_subjects: int = 0
    foreign_objects: int = 0


@dataclass(frozen=True, slots=True)
class Card:
    """One domain's view, counted."""

    domain: str
    agreement: str = ""
    level: str = ""
    triples: int = 0
    classes: Mapping[str, Count] = field(default_factory=dict)
    properties: Mapping[str, Count] = field(default_factory=dict)
    max_rows: int = 0
    timeout_s: float = 0.0


def is_of(domain: str, iri: str) -> bool:
    """Whether a name is one of the domain's own: the domain itself, or anything below it."""
    node = domain_node(domain)
    return iri == node or iri.startswith(f"{node}/")


def decode_card(domain: str, message: Any) -> Card:
    """A card as it came. Raises ContractError for one that cannot be."""
    if len(message.classes) + len(message.properties) > _MOST_COUNTS:
        raise ContractError(f"{domain}: its card has more than {_MOST_COUNTS} counts")

    def counts(items: Any) -> dict[str, Count]:
        return {
            item.iri: Count(
                item.triples, item.subjects, item.objects, item.foreign_subjects, item.foreign_objects
            )
            for item in items
        }

    return Card(
        domain,
        message.agreement,
        message.level,
        message.triples,
        counts(message.classes),
        counts(message.properties),
        message.max_rows,
        message.timeout_ms / 1000,
    )


@dataclass(slots=True)
class _Kept:
    """A card or the refusal of one, being asked for or at hand."""

    answer: asyncio.Future[Card]
    until: float
    stamp: int
    last: Card | None = None  # what was known before, while the domain does not answer


class CardBook:
    """Cards by domain and asker. `ask` gets one from the domain and raises what its refusal stands for."""

    def __init__(
        self,
        ask: Callable[[str, str], Awaitable[Card]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._known: dict[tuple[str, str], Card] = {}
        self._stamps: dict[str, int] = {}
        self._changed_at: dict[str, float] = {}
        self.asked = 0
        """How many cards were asked for so far."""

    def changed(self, domain: str) -> None:
        """The domain's view is another one now: its cards are asked for anew."""
        self._stamps[domain] = self._stamps.get(domain, 0) + 1
        self._changed_at[domain] = self._clock()

    def forget(self, domain: str) -> None:
        """What the domain showed is not granted any more: keep nothing of it."""
        self.changed(domain)
        for book in (self._kept, self._known):
            for key in [key for key in book if key[0] == domain]:
                del book[key]

    def known(self, domain: str, asker: str) -> Card | None:
        """The last card of a domain for this asker, for a domain that does not answer now."""
        return self._known.get((domain, asker))

    async def card(self, domain: str, asker: str) -> Card:
        """The domain's card for this asker. Raises TwinError where it refuses, or does not answer."""
        key = domain, asker
        stamp = self._stamps.get(domain, 0)
        kept = self._kept.get(key)
        if kept is None or kept.stamp != stamp or self._clock() >= kept.until:
            kept = self._begin(key, stamp)
        try:
            return await asyncio.shield(kept.answer)
        except TwinError:
            kept.until = min(kept.until, self._clock() + _REFUSAL_KEPT_S)
            raise

    def _begin(self, key: tuple[str, str], stamp: int) -> _Kept:
        for book in (self._kept, self._known):
            while len(book) >= _MOST_CARDS:
                del book[next(iter(book))]

        async def ask() -> Card:
            self.asked += 1
            try:
                card = await self._ask(*key)
            except TwinError as error:
                from domain_twin.errors import NotShared

                if isinstance(error, NotShared):
                    self._known.pop(key, None)
                raise
            self._known[key] = card
            return card

        task = asyncio.ensure_future(ask())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        now = self._clock()
        settled = now - self._changed_at.get(key[0], -SETTLED_S) >= SETTLED_S
        kept = self._kept[key] = _Kept(task, now + (KEPT_S if settled else _UNSETTLED_KEPT_S), stamp)
        return kept
