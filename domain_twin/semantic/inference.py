"""Runs the rules when what they read has changed. Owns their rhythm, and what to do with one that fails.

Rules compute beside the thread that writes, from whatever the store holds then; a change in the meantime has
them run again. Those of an operator's own are asked in a process that can be killed. One that fails derives
nothing until what it reads changes again, and says so as a finding; one that takes too much rests first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyoxigraph as ox

from domain_twin.errors import OverCapacity, Unreachable
from domain_twin.model import Finding, Severity
from domain_twin.semantic.derive import MAX_S, Rule, derived, due, graphs_read, in_graph
from domain_twin.semantic.live import LiveGraph
from domain_twin.semantic.names import AUTHORITY, inferred_graph
from domain_twin.semantic.store import StoreUnwritable

if TYPE_CHECKING:
    from domain_twin.semantic.workers import QueryPool

__all__ = ["Inference"]

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_REST_S = 60.0
"""A rule that took too much is not tried again before."""
_INFERRED = inferred_graph("")


class Inference:
    """Keeps what rules derive in step with the graph."""

    def __init__(
        self,
        live: LiveGraph,
        domain: str,
        rules: Sequence[Rule],
        *,
        queries: QueryPool | None = None,
        interval_s: float = _INTERVAL_S,
        rest_s: float = _REST_S,
    ) -> None:
        """`queries` is where rules of an operator's own run; None: here, where nothing can end them."""
        self.rules = tuple(rules)
        self._live = live
        self._domain = domain
        self._queries = queries
        self._interval_s = interval_s
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._touched: set[str] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._problems: dict[str, str] = {}
        self._resting: dict[str, float] = {}
        self._owed: set[str] = set()
        self._first = True
        live.on_round = self._note

    def _note(self, graphs: frozenset[str]) -> None:
        """In the writer's thread: these graphs have changed."""
        with self._lock:
            self._touched.update(name for name in graphs if not name.startswith(_INFERRED))
        self._loop.call_soon_threadsafe(self._wake.set)

    def renew(self) -> None:
        """The store may lack what was derived: have all rules run. From any thread."""
        self._first = True
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Run rules as long as things change, until cancelled."""
        while True:
            await self._wake.wait()
            await self.once()
            await asyncio.sleep(self._interval_s)

    async def once(self) -> None:
        """Run the rules that are due, each after those that it reads."""
        self._wake.clear()
        with self._lock:
            changed, self._touched = self._touched, set()
        first, self._first = self._first, False
        try:
            if first:
                await self._drop_unknown()
            for rule in self.rules:
                if first or rule.name in self._owed or due([rule], self._domain, changed):
                    self._owed.add(rule.name)
                    if self._resting.get(rule.name, 0.0) > time.monotonic():
                        continue
                    quads = await self._derived(rule)
                    if quads is None:
                        continue
                    self._owed.discard(rule.name)
                    if await self._live.put(rule.graph, quads, f"{AUTHORITY}/rule/{rule.name}"):
                        changed.add(rule.graph)
        except StoreUnwritable:  # the live graph says so, and has everything written again
            with self._lock:
                self._touched |= changed
            self._first = True

    async def _derived(self, rule: Rule) -> list[ox.Quad] | None:
        """What a rule derives now; None: nobody can be asked at the moment."""
        try:
            if rule.own and self._queries is not None:
                quads = await self._asked(rule, self._queries)
            else:
                quads = await asyncio.to_thread(derived, rule, self._live.store, self._domain)
        except StoreUnwritable:
            raise
        except Unreachable:
            return None
        except Exception as error:  # a rule of somebody's own may do anything
            if isinstance(error, OverCapacity):
                self._resting[rule.name] = time.monotonic() + self._rest_s
            if self._problems.get(rule.name) != str(error):
                log.error("rule failed", extra={"rule": rule.name, "problem": str(error)})
            self._problems[rule.name] = str(error)
            return []
        self._problems.pop(rule.name, None)
        return quads

    async def _asked(self, rule: Rule, queries: QueryPool) -> list[ox.Quad]:
        """What a rule derives, computed in a process that is killed at its limits. Raises TwinError."""
        from domain_twin.semantic.guard import guarded
        from domain_twin.semantic.workers import OPERATOR

        read = graphs_read(rule, self._domain, await asyncio.to_thread(self._live.store.graphs))
        if not read:
            return []
        text = await asyncio.to_thread(guarded, rule.text)
        answer = await queries.query(OPERATOR, text, graphs=read, timeout_s=MAX_S)
        if answer.stopped_by:
            raise OverCapacity(f"{answer.stopped_by} stopped it; narrow it")
        triples = ox.parse(answer.results, format=ox.RdfFormat.N_TRIPLES)
        return await asyncio.to_thread(in_graph, rule, (quad.triple for quad in triples))

    async def _drop_unknown(self) -> None:
        """Empty what rules derived that are no more."""
        kept = {rule.graph for rule in self.rules}
        for name in await asyncio.to_thread(self._live.store.graphs):
            if name.startswith(_INFERRED) and name not in kept:
                await self._live.put(name, [])

    def findings(self) -> list[Finding]:
        """The rules that fail."""
        return list(_failed(self._domain, sorted(self._problems.items())))


def _failed(domain: str, problems: Iterable[tuple[str, str]]) -> Iterable[Finding]:
    for name, problem in problems:
        yield Finding(
            "rule.failed",
            Severity.WARNING,
            domain,
            name,
            f"the rule {name} derives nothing: {problem}",
            "correct the rule, or take it out of [semantic] rules",
        )
