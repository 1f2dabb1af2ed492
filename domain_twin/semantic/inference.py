"""Runs the rules when what they read has changed. Owns their rhythm, and what to do with one that fails.

Rules compute beside the thread that writes, from whatever the store holds then; a change in the meantime has
them run again. One that fails, or takes too long, derives nothing until what it reads changes again, and says
so as a finding.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Sequence

import pyoxigraph as ox

from domain_twin.model import Finding, Severity
from domain_twin.semantic.derive import Rule, derived, due
from domain_twin.semantic.live import LiveGraph
from domain_twin.semantic.names import AUTHORITY, inferred_graph
from domain_twin.semantic.store import StoreUnwritable

__all__ = ["Inference"]

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_INFERRED = inferred_graph("")


class Inference:
    """Keeps what rules derive in step with the graph."""

    def __init__(
        self, live: LiveGraph, domain: str, rules: Sequence[Rule], *, interval_s: float = _INTERVAL_S
    ) -> None:
        self.rules = tuple(rules)
        self._live = live
        self._domain = domain
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._touched: set[str] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._problems: dict[str, str] = {}
        self._first = True
        live.on_round = self._note

    def _note(self, graphs: frozenset[str]) -> None:
        """In the writer's thread: these graphs have changed."""
        with self._lock:
            self._touched.update(name for name in graphs if not name.startswith(_INFERRED))
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
        try:
            if self._first:
                await self._drop_unknown()
            for rule in self.rules:
                if self._first or due([rule], self._domain, changed):
                    quads = await self._derived(rule)
                    if await self._live.put(rule.graph, quads, f"{AUTHORITY}/rule/{rule.name}"):
                        changed.add(rule.graph)
            self._first = False
        except StoreUnwritable:  # the live graph says so, and has everything written again
            with self._lock:
                self._touched |= changed
            self._first = True

    async def _derived(self, rule: Rule) -> list[ox.Quad]:
        try:
            quads = await asyncio.to_thread(derived, rule, self._live.store, self._domain)
        except StoreUnwritable:
            raise
        except Exception as error:  # a rule of somebody's own may do anything
            if self._problems.get(rule.name) != str(error):
                log.error("rule failed", extra={"rule": rule.name, "problem": str(error)})
            self._problems[rule.name] = str(error)
            return []
        self._problems.pop(rule.name, None)
        return quads

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
