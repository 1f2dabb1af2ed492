"""Property paths across domains: each domain goes as far as it can, what leaves it goes on elsewhere.

The broker hands every domain the nodes that were reached and may be its own, and gets back all triples that a
walk steps over from there; so there are as many rounds as a path crosses borders, and one more. What is taken
along may be more than the path uses (a superset); the query itself decides at the end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyoxigraph import Literal, NamedNode, Variable

from federation.query.asking import BLOCK, Desk
from federation.query.gathered import Gathered, read_rows
from federation.query.needs import Pattern, Steps, Walk
from federation.query.sources import Sources
from federation.query.texts import BOUND, EDGE, edges_text

if TYPE_CHECKING:
    from federation.query.execute import Held, Step

__all__ = ["follow"]

Value = NamedNode | Literal
_EDGE = (Variable("s"), Variable("p"), Variable("o"))
_FEW = 32
"""From so many nodes a domain follows a walk to its end; from more it would do the same work many times."""
_SMALL = 20_000
"""So many triples are rather fetched as a whole than step by step."""
_MOST_ROUNDS = 200
_MOST_ROWS = 200_000


async def follow(
    walk: Walk,
    starts: frozenset[Value] | None,
    ends: frozenset[Value] | None,
    *,
    domains: Sequence[str],
    held: Sequence[str],
    sources: Sources,
    desk: Desk,
    have: Held,
    gathered: Gathered,
    steps: list[Step],
    wave: int,
) -> tuple[bool, frozenset[Value]] | None:
    """Gather what a walk may step over; whether it was walked from its start, and what was reached.

    `starts`, `ends`: what is left for its two ends; None: anything. None is returned where it was fetched as
    a whole. `domains` are asked, of `held` the broker has all.
    """
    forwards = ends is None or (starts is not None and len(starts) <= len(ends))
    origin = starts if forwards else ends
    way = walk.steps if forwards else walk.steps.turned()
    follower = _Follower(walk, way, domains, held, sources, desk, have, gathered, steps, wave)
    reached = None
    if origin is None:
        await follower.whole(domains)
    else:
        reached = await follower.run(origin)
    follower.tell()
    return None if reached is None else (forwards, reached)


@dataclass(slots=True)
class _Follower:
    _walk: Walk
    _way: Steps
    _domains: Sequence[str]
    _held: Sequence[str]
    _sources: Sources
    _desk: Desk
    _have: Held
    _gathered: Gathered
    _steps: list[Step]
    _wave: int
    _seen: set[Value] = field(default_factory=set)
    _asked: dict[str, set[Value]] = field(default_factory=lambda: defaultdict(set))
    _own: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def tell(self) -> None:
        """Note what was followed without asking."""
        from federation.query.execute import Step

        self._steps += [
            Step(self._wave, domain, self._walk, 0.0, rows=self._own[domain], here=True)
            for domain in self._held
        ]

    async def run(self, origin: frozenset[Value]) -> frozenset[Value]:
        """Follow from `origin`; all that was reached, `origin` included."""
        fresh = set(origin)
        self._seen |= fresh
        most = self._walk.most or _MOST_ROUNDS
        for _ in range(most):
            fresh |= await asyncio.to_thread(self._here, fresh)
            async with asyncio.TaskGroup() as tasks:
                asks = [
                    tasks.create_task(self._domain(domain, todo))
                    for domain in self._domains
                    if not self._desk.failed(domain) and (todo := self._todo(domain, self._seen))
                ]
            reached = {node for ask in asks for node in ask.result()}
            fresh = reached - self._seen
            self._seen |= reached
            if not fresh:
                break
        return frozenset(self._seen)

    async def whole(self, domains: Iterable[str]) -> None:
        """All triples that any such walk may step over."""
        text = edges_text(self._way, bound=False, far=False)
        async with asyncio.TaskGroup() as tasks:
            for domain in domains:
                if not self._desk.failed(domain):
                    tasks.create_task(self._fetch(domain, text, ()))
        for domain in self._held:
            for name in self._way.forward | self._way.backward:
                pattern = Pattern(EDGE.subject, name, EDGE.object)
                rows = await asyncio.to_thread(self._have.match, domain, pattern, {})
                self._gathered.take(domain, (pattern,), rows)
                self._own[domain] += len(rows)
            if self._way.anything:
                rows = await asyncio.to_thread(self._have.match, domain, EDGE, {})
                self._gathered.take(domain, (EDGE,), rows)
                self._own[domain] += len(rows)

    def _here(self, fresh: Iterable[Value]) -> set[Value]:
        """Follow what the broker has itself, as far as it leads. Blocks."""
        todo, reached = list(fresh), set()
        while todo:
            node = todo.pop()
            if not isinstance(node, NamedNode):
                continue
            for domain in self._held:
                triples = self._have.edges(domain, node, self._way)
                self._gathered.add(domain, triples)
                for subject, _, obj in triples:
                    for other in (subject, obj):
                        if other not in self._seen:
                            self._own[domain] += 1
                            self._seen.add(other)
                            reached.add(other)
                            todo.append(other)
        return reached

    def _todo(self, domain: str, nodes: Iterable[Value]) -> tuple[Value, ...]:
        """Nodes that the domain has not been asked about, and may step on from."""
        asked = self._asked[domain]
        return tuple(node for node in nodes if node not in asked and self._may(domain, node))

    def _may(self, domain: str, node: Value) -> bool:
        start = Variable("s")
        if self._way.anything:
            return True
        ways = [Pattern(start, name, Variable("o")) for name in self._way.forward]
        ways += [Pattern(Variable("s2"), name, start) for name in self._way.backward]
        return any(
            self._sources.count(domain, pattern).triples
            and self._sources.owners_of(domain, pattern, start, node)
            and not (isinstance(node, Literal) and pattern.subject == start)
            for pattern in ways
        )

    async def _domain(self, domain: str, todo: tuple[Value, ...]) -> set[Value]:
        """What a domain steps over from some nodes; what it reaches."""
        self._asked[domain].update(todo)
        card = self._sources.cards[domain]
        names = self._way.forward | self._way.backward
        size = (
            card.triples
            if self._way.anything
            else sum(card.properties[n.value].triples for n in names if n.value in card.properties)
        )
        far = len(todo) <= _FEW and self._walk.most != 1
        reached: set[Value] = set()
        if not far and len(todo) * 10 > size and size <= _SMALL and self._walk.most != 1:
            reached |= await self._fetch(domain, edges_text(self._way, bound=False, far=False), ())
            far = True
        else:
            text = edges_text(self._way, bound=True, far=far)
            blocks = [todo[at : at + BLOCK] for at in range(0, len(todo), BLOCK)]
            async with asyncio.TaskGroup() as tasks:
                asks = [tasks.create_task(self._fetch(domain, text, block)) for block in blocks]
            for ask in asks:
                reached |= ask.result()
        if far:
            self._asked[domain] |= reached
        return reached

    async def _fetch(self, domain: str, text: str, values: tuple[Value, ...]) -> set[Value]:
        from federation.query.execute import Step

        step = Step(self._wave, domain, self._walk, 0.0, values=len(values), requests=1)
        self._steps.append(step)
        results = await self._desk.ask(domain, text, BOUND.value, values)
        if results is None:
            return set()
        part = self._desk.parts[domain]

        def take() -> tuple[set[Value], int, int]:
            asked = (BOUND, *_EDGE)
            read = read_rows(domain, results, asked, _MOST_ROWS)
            triples, dropped = [], read.dropped
            for row in read.solutions:
                triple = tuple(row.get(name) or row.get(BOUND) for name in _EDGE)
                if self._fit(domain, triple):
                    triples.append(triple)
                else:
                    dropped += 1
            self._gathered.add(domain, triples)  # type: ignore[arg-type]  # `_fit` looked
            ends = {end for triple in triples for end in (triple[0], triple[2]) if end is not None}
            return ends, len(triples), dropped

        taken = await self._desk.read(domain, take)
        if taken is None:
            return set()
        reached, rows, dropped = taken
        step.rows += rows
        part.rows += rows
        if dropped:
            part.remark = (
                f"{domain}: rows were dropped that speak of other domains' elements or hold no proper names"
            )
        return reached

    def _fit(self, domain: str, triple: tuple[object, ...]) -> bool:
        subject, predicate, obj = triple
        if not (isinstance(subject, NamedNode) and isinstance(predicate, NamedNode) and obj is not None):
            return False
        known = self._way.anything or predicate in self._way.forward | self._way.backward
        return known and self._gathered.may_say(domain, subject)
