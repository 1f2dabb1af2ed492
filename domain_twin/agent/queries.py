"""This domain's part in queries across domains: answered from one agreement's view, and from nothing else.

The broker is not trusted: every text is guarded here again. Peers' questions run in processes of their own,
which hold the views of agreements and never the domain's graph: what is not there cannot be found. A view is
brought up to date when a question comes, before it is answered.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from domain_twin.disclosure.policy import Action, Grant
from domain_twin.disclosure.view_graph import ViewGraph
from domain_twin.disclosure.views import ViewBuilder
from domain_twin.model import Level, Nanoseconds, Network, View
from domain_twin.semantic import names
from domain_twin.semantic.guard import guarded
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import PoolLimits, QueryPool
from federation.v1 import fedtwin_pb2 as pb

if TYPE_CHECKING:
    import pyoxigraph as ox

__all__ = ["PeerQueries", "card_of"]

_MOST_VIEWS = 64
_WARM_AFTER_S = 2.0  # an agent that just started has better things to do than to import a parser
_MOST_BYTES = 15 << 20  # less than brokers take: cut short, an answer says so, and is not refused
_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"


@dataclass(slots=True)
class _Kept:
    """The graph of one grant, and what it was made of."""

    graph: ViewGraph
    builder: ViewBuilder | None = None
    network: Network | None = None
    view: View | None = None
    card: pb.CardAnswer | None = None
    card_of: View | None = None


class PeerQueries:
    """Answers QueryAsk and CardAsk for grants of the action `query`."""

    def __init__(
        self,
        *,
        network: Callable[[], Network],
        published: Mapping[str, str],
        open_views: Callable[[], Mapping[tuple[str, Level], tuple[Grant, View]]],
        limits: PoolLimits | None = None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`open_views` are those that peers follow: a grant that shows the same is answered from the same."""
        self._network = network
        self._published = published
        self._open_views = open_views
        self._clock = clock
        self._store = SemanticStore()
        self._pool = QueryPool(self._store, replace(limits or PoolLimits(), max_bytes=_MOST_BYTES))
        self._kept: dict[str, _Kept] = {}
        self._updating = asyncio.Lock()
        self._salt = secrets.token_bytes(16)
        self._warming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PeerQueries:
        self._warming = asyncio.create_task(self._warm(_WARM_AFTER_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def answer(self, grant: Grant, body: pb.QueryAsk, *, deadline: Nanoseconds) -> pb.QueryAnswer:
        """Rows of this grant's view. Raises ContractError, OverCapacity, Unreachable."""
        asked = await asyncio.to_thread(guarded, body.query)
        kept = await self._current(grant)
        left_s = (deadline - self._clock()) / 1e9
        found = await self._pool.query(
            kept.graph.name,
            asked,
            variables=tuple(body.variables),
            values=tuple(body.values),
            max_rows=body.max_rows,
            timeout_s=max(0.05, min(left_s, self._pool.limits.timeout_s)),
        )
        return pb.QueryAnswer(
            form=found.form, results=found.results, rows=found.rows, stopped_by=found.stopped_by
        )

    async def card(self, grant: Grant, domain: str) -> pb.CardAnswer:
        """What this grant's view holds, counted. Who asks for it has a question next."""
        if self._warming is None:
            self._warming = asyncio.create_task(self._warm(0.0))
        kept = await self._current(grant)
        self._pool.warm()
        view = kept.view
        if kept.card is None or kept.card_of is not view:
            graph = kept.graph.name
            card = await asyncio.to_thread(lambda: card_of(domain, self._store.quads(graph=graph)))
            card.agreement, card.level = grant.agreement, grant.level.value
            card.max_rows = self._pool.limits.max_rows
            card.timeout_ms = round(self._pool.limits.timeout_s * 1000)
            kept.card, kept.card_of = card, view
        return kept.card

    async def close(self) -> None:
        """End the processes."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._pool.close()
        self._store.close()

    async def _warm(self, after_s: float) -> None:
        """Load what reads queries, which takes a third of a second once."""
        await asyncio.sleep(after_s)
        await asyncio.to_thread(guarded, "ASK { }")

    async def _current(self, grant: Grant) -> _Kept:
        """The graph of a grant, in step with its view of now."""
        async with self._updating:
            kept = self._kept.pop(grant.agreement, None)
            if kept is not None and kept.graph.grant != grant:
                self._kept[grant.agreement] = kept
                await self._drop(grant.agreement)
                kept = None
            if kept is None:
                while len(self._kept) >= _MOST_VIEWS:
                    await self._drop(next(iter(self._kept)))
                kept = _Kept(ViewGraph(grant))
            self._kept[grant.agreement] = kept  # the one used last is dropped last
            view = self._followed(grant) or await self._own(grant, kept)
            if view is not kept.view:
                await asyncio.to_thread(self._bring, kept, view)
                kept.view = view
            return kept

    def _bring(self, kept: _Kept, view: View) -> None:
        remove, add = kept.graph.update(view)
        self._store.apply(remove, add)

    def _followed(self, grant: Grant) -> View | None:
        """The view of now that some peer follows and that shows just this."""
        held = self._open_views().get((grant.agreement, grant.level))
        if held is None or replace(held[0], action=Action.QUERY) != replace(grant, action=Action.QUERY):
            return None
        return held[1]

    async def _own(self, grant: Grant, kept: _Kept) -> View:
        """A view that nobody follows, made for its questions."""
        if kept.builder is None:
            kept.builder = ViewBuilder(
                grant, published=self._published, risk_salt=self._salt, epoch=secrets.token_hex(8)
            )
        network = self._network()
        if kept.network is not network:
            await asyncio.to_thread(kept.builder.update, network, now=self._clock())
            kept.network = network
        assert kept.builder.view is not None
        return kept.builder.view

    async def _drop(self, name: str) -> None:
        kept = self._kept.pop(name)
        await asyncio.to_thread(self._store.drop, kept.graph.name)


def card_of(domain: str, quads: Iterable[ox.Quad]) -> pb.CardAnswer:
    """Counts of classes and properties in a graph (VoID), and of the names in it that are not `domain`'s."""
    import pyoxigraph as ox

    node = names.domain_node(domain)

    def own(term: Any) -> bool:
        return isinstance(term, ox.NamedNode) and (term.value == node or term.value.startswith(f"{node}/"))

    properties: dict[str, tuple[int, set[Any], set[Any]]] = {}
    classes: dict[str, tuple[int, set[Any], set[Any]]] = {}
    total = 0
    for quad in quads:
        total += 1
        subject, predicate, value = quad.subject, quad.predicate.value, quad.object
        places = [(properties, predicate)]
        if predicate == _TYPE and isinstance(value, ox.NamedNode):
            places.append((classes, value.value))
        for counts, name in places:
            number, subjects, objects = counts.get(name, (0, set(), set()))
            subjects.add(subject)
            objects.add(value)
            counts[name] = number + 1, subjects, objects

    def listed(counts: Mapping[str, tuple[int, set[Any], set[Any]]]) -> list[pb.CardCount]:
        return [
            pb.CardCount(
                iri=name,
                triples=number,
                subjects=len(subjects),
                objects=len(objects),
                foreign_subjects=sum(not own(term) for term in subjects),
                foreign_objects=sum(not own(term) for term in objects),
            )
            for name, (number, subjects, objects) in sorted(counts.items())
        ]

    return pb.CardAnswer(triples=total, classes=listed(classes), properties=listed(properties))
