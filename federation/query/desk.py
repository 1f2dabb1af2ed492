"""Answers SPARQL, impact and checks at the broker, for one asker at a time. Owns the order of the steps.

Every question is asked of the domains on behalf of who asks, and what the broker itself has is shown only as
far as the domains' cards for that asker reach. A domain that is missing is named in the answer, or is an
error, as the asker requires; no answer is ever less than it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pyoxigraph import NamedNode

from domain_twin.errors import NotShared, OverCapacity, TwinError, Unreachable
from domain_twin.model import Outcome, ServiceRecords, ServiceStatus, Version, View
from domain_twin.model.query import GraphCheck, Impact, QueryAnswer, QueryForm, QueryPart, Require
from domain_twin.semantic.results import convert, format_of, media_type_of
from domain_twin.semantic.workers import QueryPool
from federation.query.asking import Desk, Domains, Part
from federation.query.boundary import Boundary, SeenBoundary
from federation.query.cards import Card, CardBook
from federation.query.execute import Execution, covered
from federation.query.explain import expected_plan, plan_as_it_went
from federation.query.gathered import Gathered
from federation.query.needs import Pattern, Scope, Walk
from federation.query.notes import notes_of
from federation.query.reading import Reading, read
from federation.query.sources import Sources
from federation.query.units import units_of
from federation.wire.questions import QueryQuestion, QueryReply

__all__ = ["Federated", "FederatedQueries"]

_TIMEOUT_S = 25.0
_ASK_SHARE = 0.8
"""Of the time: for asking; the rest is for evaluating what came."""
_MAX_ROWS = 100_000
_WARM_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Federated:
    """The domains of a federation, as far as questions need to know them."""

    members: Callable[[], Sequence[str]]
    connected: Callable[[str], bool]
    view_of: Callable[[str], View | None]
    """A domain's last good view."""
    records: ServiceRecords
    statuses: Callable[[], Sequence[ServiceStatus]]
    domains: Domains
    card: Callable[[str, str], Awaitable[Card]]
    """A domain's card for an asker. Raises TwinError."""


@dataclass(slots=True)
class _Sight:
    """What one asker can ask at this moment."""

    members: tuple[str, ...]
    cards: Mapping[str, Card]
    missing: Mapping[str, TwinError]
    seen: SeenBoundary
    sources: Sources
    """By the cards, and for missing domains by what is remembered of them."""
    parts: dict[str, Part]


class FederatedQueries:
    """Questions across the domains of one federation."""

    def __init__(self, federated: Federated) -> None:
        self._federated = federated
        self._cards = CardBook(federated.card)
        self._boundary = Boundary(federated.view_of, federated.records, federated.statuses)
        self._pool = QueryPool()

    async def warm(self) -> None:
        """Make ready for a first question, a moment after the start: what reads queries, what evaluates."""
        await asyncio.sleep(_WARM_AFTER_S)
        await asyncio.to_thread(read, "ASK { }", ())
        self._pool.warm()

    def changed(self, domain: str, *, structural: bool, shown: bool = True) -> None:
        """A domain's view changed, or its session; `shown`: it has other figures than before."""
        if structural or shown:
            self._cards.changed(domain)
        if structural:
            self._boundary.changed(domain)
        if self._federated.view_of(domain) is None:
            self._cards.forget(domain)

    async def close(self) -> None:
        """End the processes that evaluate."""
        await self._pool.close()

    async def query(self, question: QueryQuestion, asker: str) -> QueryReply:
        """Answer a question in SPARQL, for `asker`. Raises TwinError."""
        if question.view:
            raise NotShared(
                "to see what an agreement's peer does (--as) is for a domain's own agent; here you see what"
                " the domains show you"
            )
        loop = asyncio.get_running_loop()
        limit_s = min(question.timeout_s or _TIMEOUT_S, _TIMEOUT_S)
        deadline = loop.time() + limit_s
        seeing = asyncio.create_task(self._sight(asker))  # cards come while the query is read
        self._pool.warm()
        try:
            reading = await asyncio.to_thread(read, question.query, self._federated.members())
            wanted = format_of(question.format, reading.guarded.form)
            sight = await seeing
        finally:
            seeing.cancel()
        relevant = _relevant(reading, sight)
        _require(question.require, sight.missing, relevant)
        if question.explain:
            parts = self._parts(reading, sight, relevant)
            plan = expected_plan(reading.needs, sight.sources, parts, reading.wording)
            notes = notes_of(reading, sight.sources, sight.members)
            return QueryReply(
                reading.guarded.form,
                media_type_of(wanted),
                b"",
                parts=parts,
                plan="\n".join((plan, *(f"Note: {note}" for note in notes))),
                notes=notes,
            )
        gathered, execution = await self._gather(reading, sight, asker, loop.time() + limit_s * _ASK_SHARE)
        failed = {domain for domain, part in sight.parts.items() if part.error is not None}
        _require(question.require, {d: e for d in failed if (e := sight.parts[d].error)}, failed)
        quads = await asyncio.to_thread(gathered.n_quads, graphs=reading.graphs)
        final = await asyncio.to_thread(reading.without, failed | (set(sight.missing) & relevant))
        answer = await self._pool.query(
            "",
            final,
            max_rows=min(question.max_rows or _MAX_ROWS, _MAX_ROWS),
            timeout_s=max(0.1, deadline - loop.time()),
            data=quads or b"\n",
        )
        parts = self._parts(reading, sight, relevant)
        if question.require is Require.ALL:
            _complete(parts)
        asked = sight.parts.values()
        return QueryReply(
            answer.form,
            media_type_of(wanted),
            await asyncio.to_thread(convert, answer.results, answer.form, wanted),
            rows=answer.rows,
            stopped_by=answer.stopped_by,
            parts=parts,
            plan=plan_as_it_went(execution, parts, reading.wording),
            notes=notes_of(
                reading, sight.sources, sight.members, rows=_found(answer), asked=relevant, gathered=gathered
            ),
            requests=sum(part.requests for part in asked),
            transferred_bytes=sum(part.transferred_bytes for part in asked),
        )

    async def _gather(
        self, reading: Reading, sight: _Sight, asker: str, deadline: float
    ) -> tuple[Gathered, Execution]:
        gathered = Gathered(frozenset(sight.members))
        desk = Desk(self._federated.domains, sight.parts, asker=asker, deadline=deadline)
        execution = Execution(reading.needs, sight.sources, desk, sight.seen, gathered)
        try:
            await execution.run()
        except* TwinError as group:
            raise _first(group) from None
        return gathered, execution

    async def _sight(self, asker: str) -> _Sight:
        """Cards of all domains for this asker, and what follows from them."""
        members = tuple(self._federated.members())
        found = await asyncio.gather(
            *(self._card(domain, asker) for domain in members), return_exceptions=True
        )
        cards: dict[str, Card] = {}
        missing: dict[str, TwinError] = {}
        for domain, card in zip(members, found, strict=True):
            if isinstance(card, TwinError):
                missing[domain] = card
            elif isinstance(card, BaseException):
                raise card
            else:
                cards[domain] = card
        for domain in missing:
            if (known := self._cards.known(domain, asker)) is not None:
                cards[domain] = known
        seen = await asyncio.to_thread(self._boundary.seen, cards, members)
        parts = {
            domain: Part(domain, missing.get(domain), version=self._version(domain)) for domain in members
        }
        return _Sight(members, cards, missing, seen, Sources(cards, seen.card, seen.covers), parts)

    async def _card(self, domain: str, asker: str) -> Card:
        if not self._federated.connected(domain):
            raise Unreachable(f"{domain}: it is not connected now")
        return await self._cards.card(domain, asker)

    def _version(self, domain: str) -> Version | None:
        view = self._federated.view_of(domain)
        return view.version if view else None

    def _parts(self, reading: Reading, sight: _Sight, relevant: Collection[str]) -> tuple[QueryPart, ...]:
        """Each concerned domain's part in the answer."""
        found = []
        for domain in sight.members:
            part = sight.parts[domain]
            if domain not in relevant and not part.requests:
                continue
            if part.error is not None and _from_copies(reading, sight, domain):
                found.append(_stale(part))
            else:
                found.append(_marked(part, reading, sight) if part.error else part.as_data())
        return tuple(found)

    async def impact(self, elements: Sequence[str], require: Require, asker: str) -> Impact:
        """What depends on any of `elements`, as far as `asker` sees. Raises TwinError."""
        from federation.query.impact import impact_of

        sight = await self._sight(asker)
        _require(require, sight.missing, sight.missing)
        return await impact_of(elements, sight.seen, _whole_parts(sight))

    async def check(self, shape: str, asker: str) -> GraphCheck:
        """What the shapes find between the domains, as far as `asker` sees. Raises NotFound."""
        from federation.query.check import EVERYTHING, findings_of

        reading = await asyncio.to_thread(read, EVERYTHING, self._federated.members())
        sight = await self._sight(asker)
        until = asyncio.get_running_loop().time() + _TIMEOUT_S * _ASK_SHARE
        gathered, _ = await self._gather(reading, sight, asker, until)
        for name, triple in sight.seen.all_triples():
            if not name or sight.parts[name].error is not None:
                gathered.add(name, (triple,))
        return await findings_of(shape, gathered, self._parts(reading, sight, sight.members))


def _whole_parts(sight: _Sight) -> tuple[QueryPart, ...]:
    """Each member's part in what is answered from the boundary alone."""
    found = []
    for domain in sight.members:
        part = sight.parts[domain]
        if domain in sight.seen.parts:
            found.append(part.as_data() if part.error is None else _stale(part))
            continue
        if part.error is None:
            part.remark = f"the broker has no view of {domain} under the agreement that holds for you"
        found.append(part.as_data())
    return tuple(found)


def _from_copies(reading: Reading, sight: _Sight, domain: str) -> bool:
    """Whether all that is needed of a domain was at hand in the view that the broker has."""
    units = [unit for scope in reading.needs.walk_scopes() for unit in units_of(scope, sight.sources)]
    return domain in sight.seen.parts and all(
        covered(unit, domain, sight.sources) for unit in units if domain in unit.domains
    )


def _stale(part: Part) -> QueryPart:
    """A part that comes from the last known view."""
    data = part.as_data()
    return replace(data, outcome=Outcome.STALE, reason=f"from its last known view: {data.reason}")


def _found(answer: QueryAnswer) -> int:
    """How many rows an answer has; none where ASK says no."""
    return 0 if answer.form is QueryForm.BOOLEAN and b"false" in answer.results else answer.rows


def _relevant(reading: Reading, sight: _Sight) -> set[str]:
    """The domains that the query is about, as far as cards tell; a missing one without a card may be."""
    units = [unit for scope in reading.needs.walk_scopes() for unit in units_of(scope, sight.sources)]
    asked = {domain for unit in units for domain in unit.domains}
    unknown = sight.missing.keys() - sight.cards.keys()
    if reading.named and all(_named_only(scope) for scope in reading.needs.walk_scopes()):
        unknown &= reading.named
    return asked | unknown


def _named_only(scope: Scope) -> bool:
    parts: tuple[Pattern | Walk, ...] = (*scope.patterns, *scope.walks)
    return all(isinstance(part.graph, NamedNode) for part in parts)


def _require(require: Require, missing: Mapping[str, TwinError], relevant: Collection[str]) -> None:
    """Raise the error of the first missing domain where all are required."""
    if require is Require.ALL:
        for domain in sorted(relevant):
            if (error := missing.get(domain)) is not None:
                raise _as_required(error, domain)


def _as_required(error: TwinError, domain: str) -> TwinError:
    kind = type(error) if isinstance(error, NotShared | OverCapacity | Unreachable) else Unreachable
    text = str(error) if domain in str(error) else f"{domain}: {error}"
    return kind(f"{text}; ask with best-effort for what the other domains say")


def _complete(parts: Sequence[QueryPart]) -> None:
    for part in parts:
        if part.outcome.value != "ok":
            raise OverCapacity(
                f"{part.domain}: {part.reason or part.outcome}; ask for less, or with best-effort"
            )


def _marked(part: Part, reading: Reading, sight: _Sight) -> QueryPart:
    """A part that is missing: where rows may be wrong without it, and not only fewer, it says so."""
    data = part.as_data()
    words = sorted(_changed_by(reading, sight, part.domain))
    if not words:
        return data
    more = f"its part of {', '.join(words)} is missing: rows may say more than they would with it"
    return replace(data, reason=f"{data.reason}; {more}" if data.reason else more)


def _changed_by(reading: Reading, sight: _Sight, domain: str) -> set[str]:
    """The parts of the query in which what is missing changes rows that are there."""
    found = set()
    known = domain in sight.cards
    counts = any(scope.aggregates for scope in reading.needs.walk_scopes())
    for scope in reading.needs.walk_scopes():
        if not (scope.patterns or scope.walks):
            continue
        if known and not any(domain in unit.domains for unit in units_of(scope, sight.sources)):
            continue
        if kinds := _chain(reading, scope) & {"OPTIONAL", "MINUS", "EXISTS"}:
            found |= kinds
        if counts:
            found.add("aggregates or LIMIT")
    return found


def _chain(reading: Reading, scope: Scope) -> set[str]:
    """Kinds of the scopes around a scope, its own included."""
    parents = {id(inner): outer for outer in reading.needs.walk_scopes() for inner in outer.inner}
    kinds = set()
    at: Scope | None = scope
    while at is not None:
        kinds.add(at.kind)
        at = parents.get(id(at))
    return kinds


def _first(group: BaseExceptionGroup[TwinError]) -> TwinError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group has exceptions")
