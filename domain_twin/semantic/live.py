"""Keeps the graph true to the twin: what changed is written in batches, what could not be is written anew.

Owns the rhythm and the faults. Sources (`sources.py`) say what changed; each round asks those that have news,
in one thread of its own, and listeners of the store hear every batch. A store that cannot be written (a full
disk, damage) or a source that fails puts what is concerned `behind`: it is tried again with patience and made
whole from the state then, so that memory never grows with the time that passes. Nothing here can stop the
mirroring of devices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pyoxigraph as ox

from domain_twin.errors import ConfigError
from domain_twin.model import Nanoseconds
from domain_twin.semantic.provenance import Provenance
from domain_twin.semantic.store import Batch, SemanticStore, StoreUnwritable

__all__ = ["LiveGraph", "LiveStatus", "Sink", "Source"]

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
_AGES = 4096


class Sink(Protocol):
    """Where a source writes: each call is one batch."""

    def apply(self, remove: Iterable[ox.Quad], add: Iterable[ox.Quad]) -> None:
        """Take quads out and put others in. Raises StoreUnwritable."""

    def replace(self, graph: str, quads: Sequence[ox.Quad]) -> None:
        """Make a graph consist of these quads. Raises StoreUnwritable."""

    def graphs(self) -> list[str]:
        """Names of the graphs that hold something."""

    def made_of(self, graph: str, origin: str, version: str) -> None:
        """What a graph is made of (an IRI), and of which version of it: for the provenance graph."""


class Source(Protocol):
    """One kind of news for the graph."""

    name: str
    interval_s: float
    """The least time between two rounds of it."""

    def take(self, *, whole: bool) -> None:
        """On the event loop: note what the next `write` is about, with the same `whole`. Quick."""

    def write(self, sink: Sink, *, whole: bool) -> None:
        """In the writer's thread: say what changed, or all there is. Raises StoreUnwritable."""


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """How well the graph follows the twin."""

    batches: int
    visible_ms_p50: float
    visible_ms_p99: float
    """From a change's arrival until queries see it, of the last few thousand changes."""
    behind: tuple[str, ...]
    """Sources whose graphs are not those of now; empty: all are."""
    problem: str
    """Why, in a sentence; empty: all is well."""


class _Feed:
    """A source with its place in the rhythm."""

    __slots__ = ("due_at", "news_at", "source", "whole")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.due_at = 0.0
        self.news_at: float | None = None  # since when there is news
        self.whole = True


class LiveGraph:
    """Feeds one store from its sources."""

    def __init__(
        self,
        store: SemanticStore,
        *,
        interval_s: float = 0.05,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self.store = store
        self.on_round: Callable[[frozenset[str]], None] = lambda _: None
        """Told, in the writer's thread, which graphs a round has changed."""
        self.on_reopened: Callable[[], None] = lambda: None
        """Told, in the writer's thread, that the store was opened again and may lack what listeners heard."""
        self._interval_s = interval_s
        self._feeds: dict[str, _Feed] = {}
        self._wake = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="graph")
        self._provenance = Provenance(store, clock)
        self._ages: deque[float] = deque(maxlen=_AGES)
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = 0.0
        self._problem = ""
        self._behind: set[str] = set()
        self._touched: set[str] = set()
        self._rounds = 0

    def add(self, source: Source, *, whole: bool = True) -> None:
        """Have a source written from now on; `whole`: all of it first, as nothing of it may be trusted."""
        feed = self._feeds[source.name] = _Feed(source)
        feed.whole = whole
        self.note(source.name)

    def note(self, name: str) -> None:
        """A source has news."""
        feed = self._feeds.get(name)
        if feed is not None and feed.news_at is None:
            feed.news_at = time.monotonic()
            self._wake.set()

    def made_of(self, graph: str, origin: str, version: str) -> None:
        """What a graph is made of (an IRI), and of which version of it: for the provenance graph."""
        self._provenance.note(graph, origin, version)

    def status(self) -> LiveStatus:
        """How well the graph follows."""
        ages = sorted(self._ages)
        return LiveStatus(
            batches=self.store.number,
            visible_ms_p50=1e3 * ages[len(ages) // 2] if ages else 0.0,
            visible_ms_p99=1e3 * ages[min(len(ages) - 1, int(len(ages) * 0.99))] if ages else 0.0,
            behind=tuple(sorted(self._behind)),
            problem=self._problem,
        )

    async def run(self) -> None:
        """Write what changes until cancelled: at once after a pause, else what gathered in an interval."""
        started = -self._interval_s
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(started + self._interval_s, self._retry_at) - time.monotonic())
            started = time.monotonic()
            await self.write()

    async def write(self, *, everything: bool = False) -> None:
        """One round: write the news of the sources that are due (`everything`: of all that have some)."""
        self._wake.clear()
        now = time.monotonic()
        due = []
        for feed in self._feeds.values():
            if feed.news_at is None:
                continue
            if everything or feed.due_at <= now:
                feed.due_at = now + feed.source.interval_s
                due.append((feed, feed.news_at))
                feed.news_at = None
                feed.source.take(whole=feed.whole)
            else:
                self._wake.set()
        if due:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._writer, self._round, due)
            if any(feed.news_at is not None for feed in self._feeds.values()):
                self._wake.set()

    async def put(self, graph: str, quads: Sequence[ox.Quad], origin: str = "") -> bool:
        """Make a graph consist of these quads, between two rounds; whether that changed it.

        Raises StoreUnwritable.
        """

        def work() -> bool:
            before = self.store.number
            if origin:
                self.made_of(graph, origin, "")
            self.replace(graph, quads)
            return self.store.number != before

        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def close(self) -> None:
        """Write what is left, note of what version the graphs are, and close the store."""
        if not self._problem:
            await self.write(everything=True)
        await asyncio.get_running_loop().run_in_executor(self._writer, self._end)
        self._writer.shutdown(wait=False)

    # --- in the writer's thread

    def _round(self, due: list[tuple[_Feed, float]]) -> None:
        """Never raises: what goes wrong puts the sources concerned behind."""
        try:
            if self._problem:
                self.store.reopen()
                self.on_reopened()
            for feed, _ in due:
                self._write_one(feed)
            self._provenance.write()
            touched, self._touched = frozenset(self._touched), set()
            if touched:
                self.on_round(touched)
        except (StoreUnwritable, ConfigError) as error:
            self._fail(str(error), [feed for feed in self._feeds.values()])
            return
        now = time.monotonic()
        self._ages.extend(now - since for feed, since in due if feed.source.name not in self._behind)
        if not self._behind:
            self._recovered()

    def _write_one(self, feed: _Feed) -> None:
        name = feed.source.name
        try:
            feed.source.write(self, whole=feed.whole)
        except (StoreUnwritable, ConfigError):
            raise
        except Exception as error:  # a mistake of ours must not cost more than this part of the graph
            log.exception("part of the graph cannot be made", extra={"source": name})
            self._fail(f"{name} cannot be written: {error}", [feed])
            return
        feed.whole = False
        self._behind.discard(name)

    def _fail(self, problem: str, feeds: Iterable[_Feed]) -> None:
        if not self._problem:
            log.error("graph is behind", extra={"problem": problem})
        self._problem = problem
        for feed in feeds:
            feed.whole = True
            self._behind.add(feed.source.name)
            feed.news_at = feed.news_at or time.monotonic()
        self._provenance.forget()
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _recovered(self) -> None:
        if self._problem:
            log.warning("graph follows again", extra={"after": self._problem})
        self._problem = ""
        self._retry_s, self._retry_at = _FIRST_RETRY_S, 0.0

    def _note_batch(self, batch: Batch | None) -> None:
        if batch is None:
            return
        for quads in (batch.remove, batch.add):
            for name in {quad.graph_name for quad in quads}:
                if isinstance(name, ox.NamedNode):
                    self._touched.add(name.value)
                    self._provenance.touch(name.value)

    def _end(self) -> None:
        try:
            self._provenance.write(everything=True)
        except StoreUnwritable as error:
            log.error("graph not completed", extra={"problem": str(error)})
        self.store.close()

    # --- what sources write to

    def apply(self, remove: Iterable[ox.Quad], add: Iterable[ox.Quad]) -> None:
        """Take quads out and put others in. Raises StoreUnwritable."""
        self._note_batch(self.store.apply(remove, add))

    def replace(self, graph: str, quads: Sequence[ox.Quad]) -> None:
        """Make a graph consist of these quads. Raises StoreUnwritable."""
        self._note_batch(self.store.replace(graph, quads))
        self._provenance.touch(graph)

    def graphs(self) -> list[str]:
        """Names of the graphs that hold something."""
        return self.store.graphs()
