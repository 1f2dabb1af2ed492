"""The running twin's graph: opened, fed, derived, checked. Owns when; what is in it is `semantic`'s.

It works in a thread of its own, from what the event loop notes. Whatever goes wrong with it is a finding and
is tried again; the mirroring of devices goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain_twin.config import SemanticConfig
from domain_twin.errors import TwinError, Unreachable
from domain_twin.model import (
    Delta,
    Finding,
    Level,
    Network,
    Outcome,
    ServiceRecords,
    Severity,
    View,
)
from domain_twin.model.query import Affected, GraphCheck, Impact, QueryPart
from domain_twin.semantic import names
from domain_twin.semantic.names import plain_name

if TYPE_CHECKING:
    from domain_twin.datastore.snapshot import Snapshot
    from domain_twin.disclosure.policy import Grant
    from domain_twin.semantic.devices import Backlog, DeviceSource
    from domain_twin.semantic.inference import Inference
    from domain_twin.semantic.live import LiveGraph, LiveStatus
    from domain_twin.semantic.shapes import Check
    from domain_twin.semantic.store import SemanticStore
    from domain_twin.semantic.workers import QueryPool
    from domain_twin.yang.schema import SchemaSet

__all__ = ["FOLDER", "Semantics"]

log = logging.getLogger(__name__)

FOLDER = "graph"
"""Below the agent's state; made anew from the live state wherever it is missing."""
_RETRY_S = 30.0
_TURN_S = 0.001


class Semantics:
    """Keeps one domain's graph."""

    def __init__(
        self,
        config: SemanticConfig,
        *,
        domain: str,
        operator: str,
        state: Path,
        network: Callable[[], Network],
        published: Mapping[str, str],
        records: ServiceRecords,
        schema_of: Callable[[str], SchemaSet],
        snapshot: Callable[[], Snapshot],
        views: Callable[[], Mapping[tuple[str, Level], tuple[Grant, View]]],
    ) -> None:
        """`published` maps aliases to element ids; `views` are those open, by agreement and level."""
        self.live: LiveGraph | None = None
        """The graph while it is open."""
        self.queries: QueryPool | None = None
        """Where it can be asked by others than the product itself, while it is open."""
        self._config = config
        self._domain = domain
        self._operator = operator
        self._folder = state / FOLDER
        self._network = network
        self._published = published
        self._records = records
        self._schema_of = schema_of
        self._snapshot = snapshot
        self._views = views
        self._devices: DeviceSource | None = None
        self._inference: Inference | None = None
        self._checks: Sequence[Check] = ()
        self._problem = ""
        self._problem_since = 0

    def note(self, delta: Delta | None, restructured: bool) -> None:
        """The twin changed; `restructured`: by more than figures."""
        if self.live is None or self._devices is None:
            return
        if delta is not None:
            self._devices.note(delta)
            self.live.note("devices")
        if restructured:
            for source in ("topology", "points", "records"):
                self.live.note(source)
        self.live.note("figures")

    def note_views(self) -> None:
        """A view was opened, has changed or is made no more."""
        if self.live is not None:
            self.live.note("views")

    def status(self) -> LiveStatus | None:
        """How well the graph follows; None while it is not open."""
        return self.live.status() if self.live else None

    async def run(self) -> None:
        """Keep the graph until cancelled, and close it then."""
        while True:
            try:
                await self._keep()
            except (TwinError, OSError) as error:
                self._fail(str(error))
            except Exception as error:  # a mistake here must not end the twin
                log.exception("the graph failed")
                self._fail(f"{type(error).__name__}: {error}")
            await asyncio.sleep(_RETRY_S)

    async def _keep(self) -> None:
        from domain_twin.disclosure.points_graph import PointsSource
        from domain_twin.disclosure.view_graph import ViewSource
        from domain_twin.semantic.derive import load_rules
        from domain_twin.semantic.devices import DeviceSource
        from domain_twin.semantic.inference import Inference
        from domain_twin.semantic.live import LiveGraph
        from domain_twin.semantic.shapes import load_shapes
        from domain_twin.semantic.sources import FigureSource, RecordSource, TopologySource
        from domain_twin.semantic.store import SemanticStore
        from domain_twin.semantic.workers import PoolLimits, QueryPool

        # The writer is a thread: while it computes, the event loop may have to wait this long for its turn.
        sys.setswitchinterval(min(sys.getswitchinterval(), _TURN_S))
        rules = await asyncio.to_thread(load_rules, self._config.rules)
        self._checks = await asyncio.to_thread(load_shapes, self._config.shapes)
        store = await _opened(SemanticStore, self._folder)
        live = LiveGraph(store)
        self._problem = ""
        self._devices = DeviceSource(
            self._domain,
            schema_of=self._schema_of,
            snapshot=self._snapshot,
            counters=self._config.kpis,
        )
        self.live = live
        pool = self.queries = QueryPool(
            store,
            PoolLimits(
                max_rows=self._config.max_rows,
                timeout_s=self._config.timeout_s,
                memory_bytes=self._config.memory_mb << 20,
            ),
        )
        inference = self._inference = Inference(live, self._domain, rules, queries=pool)
        loop = asyncio.get_running_loop()

        def renew() -> None:
            asyncio.run_coroutine_threadsafe(pool.renew(), loop)
            inference.renew()

        live.on_reopened = renew
        live.add(TopologySource(self._network, operator=self._operator))
        live.add(PointsSource(self._network, self._published))
        live.add(RecordSource(self._records, self._network, self._published))
        live.add(ViewSource(self._views))
        live.add(self._devices)
        if self._config.kpis:
            live.add(FigureSource(self._network))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(live.run())
                tasks.create_task(inference.run())
        finally:
            self.queries = None
            self.live = None
            await pool.close()
            await live.close()

    async def impact(self, elements: Sequence[str]) -> Impact:
        """What depends on any of `elements` in this domain. Raises NotFound, OverCapacity, Unreachable."""
        from domain_twin.semantic.impact import dependents, find

        if self.live is None:
            raise Unreachable(f"the graph of {self._domain} is not open now; ask again in a moment")
        store = self.live.store

        def follow() -> tuple[str, tuple[Affected, ...]]:
            graphs = self._own(store.graphs())

            def ask(text: str) -> list[Any]:
                # The engine's answer may only go in this thread, and an error would carry it out.
                return list(store.query(text, default=graphs))  # type: ignore[arg-type]  # SELECTs

            iris = [find(ask, name, domain=self._domain) for name in elements]
            return plain_name(iris[0]) or iris[0], dependents(ask, iris)

        name, affected = await asyncio.to_thread(follow)
        status = self.status()
        behind = bool(status and status.problem)
        part = QueryPart(
            self._domain,
            Outcome.STALE if behind else Outcome.OK,
            reason=status.problem if status and behind else "",
            version=self._network().version,
        )
        return Impact(name, affected, (part,))

    async def check_graph(self, shape: str = "") -> GraphCheck:
        """What the shapes (or the one called `shape`) and the rules find.

        Raises NotFound, OverCapacity, Unreachable.
        """
        from domain_twin.semantic.checks import asked_findings, chosen

        if self.live is None or self.queries is None:
            raise Unreachable(f"the graph of {self._domain} is not open now; ask again in a moment")
        some = chosen(self._checks, shape)
        graphs = () if shape else await asyncio.to_thread(self.live.store.graphs)
        inferred = [name for name in graphs if name.startswith(names.inferred_graph(""))]
        found = await asked_findings(self.queries, some, self._domain, inferred)
        count = len({item.shape for item in some})
        part = QueryPart(self._domain, Outcome.OK, version=self._network().version)
        return GraphCheck(tuple(found), count, (part,))

    def _own(self, graphs: Iterable[str]) -> list[str]:
        """The graphs of what is so here, without what peers see of it and what was only computed."""
        others = (names.view_graph(""), names.run_graph(""))
        return [graph for graph in graphs if not graph.startswith(others)]

    def backlog(self) -> Backlog | None:
        """How much of what devices said waits to be written; None while the graph is not open."""
        return self._devices.backlog() if self.live and self._devices else None

    def findings(self) -> list[Finding]:
        """That the graph is not that of now, while it is not, and rules that fail."""
        status = self.status()
        problem = self._problem or (status.problem if status else "")
        failed = self._inference.findings() if self.live and self._inference else []
        if not problem:
            return failed
        return [
            *failed,
            Finding(
                "graph.behind",
                Severity.WARNING,
                self._domain,
                "graph",
                f"the graph does not follow the twin: {problem}",
                "mend what is named; the agent tries again by itself and makes the graph anew",
                self._problem_since,
            ),
        ]

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            log.error("graph not kept", extra={"problem": problem})
            self._problem_since = time.time_ns()
        self._problem = problem


async def _opened(store: Callable[[Path], SemanticStore], folder: Path) -> SemanticStore:
    """A store opened in a thread, which ends only there: who is cancelled meanwhile closes what it opened."""
    opening = asyncio.ensure_future(asyncio.to_thread(store, folder))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with contextlib.suppress(TwinError, OSError):
            (await opening).close()
        raise
