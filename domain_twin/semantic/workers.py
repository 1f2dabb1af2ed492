"""Runs guarded queries in processes of their own, over copies that follow the store. Owns limits and turns.

One keeper process holds the copies, workers are forked from it (`query_worker`). Both start at the first
question and end after a while without any. A question has limits of time, rows, octets and memory; there it
stops for good, and what was found by then is the answer, marked. A worker that ends in mid-question is
replaced, its question answered with an error. Nothing of this blocks the event loop, what waits is bounded.

Datasets: `OPERATOR` holds every graph but those of views and simulations; each of these is a dataset by its
own name, so that a question about a view has nothing else before it, and nothing simulated is read as live.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import signal
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol

from domain_twin.errors import ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.model.query import QueryAnswer, QueryForm
from domain_twin.semantic import results
from domain_twin.semantic.guard import Guarded
from domain_twin.semantic.query_processes import (
    OPERATOR,
    Changes,
    Keeper,
    Outcome,
    Worker,
    chunks,
    dataset_of,
    quads_frame,
)
from domain_twin.semantic.store import Batch

__all__ = ["OPERATOR", "PoolLimits", "QueryPool", "QuerySource", "dataset_of"]

log = logging.getLogger(__name__)

_GRACE_S: Final = 3.0
_LARGE: Final = 1 << 20


class QuerySource(Protocol):
    """What the copies are of: a `SemanticStore`."""

    def graphs(self) -> list[str]:
        """Names of the graphs that hold something."""

    def copy(self, graphs: Iterable[str] | None = None) -> tuple[int, bytes]:
        """Graphs as N-Quads, and a number."""

    def listen(self, listener: Callable[[Batch], None]) -> Callable[[], None]:
        """Have every batch from now on given to `listener`; returns what ends that."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What questions may take. One may ask for less, never for more."""

    workers: int = 2
    max_rows: int = 100_000
    max_bytes: int = 24 << 20
    timeout_s: float = 10.0
    memory_bytes: int = 512 << 20
    """That one question may add to its worker."""
    waiting: int = 64
    """Questions that wait for a worker; more are over capacity."""
    waiting_each: int = 16
    """The same for one dataset, so that nobody's questions fill the queue of all."""
    idle_s: float = 300.0
    """Without questions for so long, the processes end and give their memory back."""
    start_s: float = 120.0
    behind_bytes: int = 64 << 20
    """Changes that may wait for one process; it is made anew then."""


class QueryPool:
    """Answers guarded queries. Costs nothing until the first; `async with`, or `close` at the end."""

    def __init__(self, source: QuerySource | None = None, limits: PoolLimits | None = None) -> None:
        """Without a source the copies are empty, and questions bring their own data."""
        self.limits = limits or PoolLimits()
        self.replaced = 0
        """Workers that were ended at a limit or ended by themselves, since the start."""
        self._source = source
        self._keeper: Keeper | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._changes = Changes()
        self._handing_on = asyncio.Lock()
        self._workers: set[Worker] = set()
        self._free: list[Worker] = []
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._running = 0
        self._last_used = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> QueryPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids: the keeper's, then its workers'; empty while nothing was asked for long."""
        if self._keeper is None:
            return ()
        return (self._keeper.pid, *(worker.pid for worker in self._workers if worker.pid))

    async def query(
        self,
        dataset: str,
        guarded: Guarded,
        *,
        variables: Sequence[str] = (),
        values: Sequence[str] = (),
        max_rows: int = 0,
        timeout_s: float = 0.0,
        data: bytes = b"",
        graphs: Sequence[str] = (),
    ) -> QueryAnswer:
        """Answer `guarded` from `dataset` alone, joined with a block of bindings.

        `values` holds one term of N-Triples per variable and row, "" where it is not bound. `data` (N-Quads)
        is asked instead of the dataset, where nothing else is said in its default graph. `graphs` of the
        dataset are all that is asked where they are named. What a limit cut says so in `stopped_by`. Raises
        ContractError, OverCapacity (too many questions, or too large a one), Unreachable.
        """
        if guarded.services:
            raise ContractError("query: SERVICE is for the broker, which plans it; no engine gets it")
        limits = self.limits
        rows = min(max_rows or limits.max_rows, limits.max_rows)
        limit_s = min(timeout_s or limits.timeout_s, limits.timeout_s)
        question = {
            "dataset": dataset,
            "text": await _joined(guarded, variables, values),
            "form": guarded.form,
            "default": list(graphs) or (None if data or dataset in ("", OPERATOR) else [dataset]),
            "max_rows": rows,
            "max_bytes": limits.max_bytes,
            "timeout_s": limit_s,
            "memory_bytes": limits.memory_bytes,
        }
        header = json.dumps(question, ensure_ascii=False).encode()
        content = struct.pack("!I", len(header)) + header + data
        async with self._turn(dataset):
            raw, outcome = await self._ask(content, limit_s)
        return await self._answer(guarded, raw, outcome, rows, limit_s)

    def warm(self) -> None:
        """Have a worker ready soon, since a question is likely to come; returns at once."""
        if not self._closed and not self._workers:
            self._own(self._warm())

    async def _warm(self) -> None:
        with contextlib.suppress(TwinError):  # the question that comes says so itself
            async with self._turn(""):
                self._free.append(await self._worker())

    async def renew(self) -> None:
        """Have the copies made anew at the next question: the store was replaced as a whole.

        Questions that run raise Unreachable.
        """
        await self._stop()

    async def close(self) -> None:
        """End the processes. Questions that run or wait raise Unreachable."""
        self._closed = True
        for queue in self._waiting.values():
            for turn in queue:
                if not turn.done():
                    turn.set_exception(Unreachable("the twin is ending; ask again when it is back"))
        self._waiting.clear()
        await self._stop()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, content: bytes, limit_s: float) -> tuple[bytes, Outcome]:
        """Put a question to a worker, and see to the worker afterwards. Raises Unreachable."""
        worker = await self._worker()
        try:
            raw, outcome = await worker.ask(content, limit_s + _GRACE_S)
        except BaseException:  # whoever asked gave up: the worker is still at it
            self._own(self._end(worker))
            raise
        if outcome.kind != "died":
            if worker.keeper is self._keeper and not worker.lost:
                self._free.append(worker)
            else:
                self._own(self._end(worker))
            return raw, outcome
        if self._closed:
            raise Unreachable("the twin is ending; ask again when it is back")
        if worker.keeper is not self._keeper:
            raise Unreachable("the graph was made anew just now; ask again")
        status = await self._end(worker)
        if outcome.overdue or status == -signal.SIGALRM:
            outcome = Outcome(stopped="time")
        elif status == -signal.SIGABRT:  # the engine's allocator has no other answer
            outcome = Outcome(kind="memory")
        else:
            outcome.message = "its process is gone" if status is None else f"exit status {status}"
            log.warning("query worker died", extra={"status": status})
        return raw, outcome

    async def _answer(
        self, guarded: Guarded, raw: bytes, outcome: Outcome, rows: int, limit_s: float
    ) -> QueryAnswer:
        form, limits = guarded.form, self.limits
        match outcome.kind:
            case "syntax":
                raise ContractError(f"query: the engine does not take it ({_plain(outcome.message)})")
            case "memory":
                raise OverCapacity(
                    f"query: it needs more than {limits.memory_bytes >> 20} MB of memory; ask for less at"
                    " once: no patterns without a common variable, fewer groups, no ORDER BY over all"
                )
            case "engine" | "died":
                raise TwinError(
                    f"query: the engine failed on it ({_plain(outcome.message)}) and was started anew; ask"
                    " again, or in another way"
                )
        stopped_by = {
            "": "",
            "rows": f"the limit of {rows} rows",
            "bytes": f"the limit of {limits.max_bytes} bytes",
            "time": f"the time limit of {limit_s:g} s",
        }[outcome.stopped]
        if form is QueryForm.BOOLEAN and stopped_by:
            raise OverCapacity(f"query: {stopped_by} stopped it before ASK had an answer; ask for less")
        make = functools.partial(
            results.whole, raw, form, rows, cut=bool(stopped_by), variables=guarded.variables
        )
        data, found, more = make() if len(raw) < _LARGE else await asyncio.to_thread(make)
        if more and not stopped_by:
            stopped_by = f"the limit of {rows} rows"
        return QueryAnswer(form, data, found, stopped_by)

    @contextlib.asynccontextmanager
    async def _turn(self, dataset: str) -> AsyncIterator[None]:
        """Wait for a turn; datasets take theirs one after the other. Raises OverCapacity, Unreachable."""
        if self._closed:
            raise Unreachable("the twin is ending; ask again when it is back")
        if self._running < self.limits.workers:
            self._running += 1
        else:
            await self._queue(dataset)  # who lets us in has counted us
        try:
            yield
        finally:
            self._leave()

    async def _queue(self, dataset: str) -> None:
        queue = self._waiting.setdefault(dataset, deque())
        total = sum(map(len, self._waiting.values()))
        if total >= self.limits.waiting or len(queue) >= self.limits.waiting_each:
            raise OverCapacity(
                f"{total} questions wait for the graph already; ask again in a second, or fewer at once"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()
            raise

    def _leave(self) -> None:
        """Let in who waits longest of the next dataset."""
        self._running -= 1
        self._last_used = time.monotonic()
        for dataset in tuple(self._waiting):
            queue = self._waiting.pop(dataset)
            while queue and queue[0].done():
                queue.popleft()
            if queue:
                self._running += 1
                queue.popleft().set_result(None)
                if queue:
                    self._waiting[dataset] = queue  # behind the others
                return

    async def _worker(self) -> Worker:
        """A free worker that knows every change made until now. Raises Unreachable."""
        try:
            async with asyncio.timeout(self.limits.start_s):
                while True:
                    keeper = await self._ready()
                    await self._hand_on()
                    while self._free:
                        worker = self._free.pop()
                        if not worker.gone():
                            return worker
                        self._own(self._end(worker))
                    worker = keeper.fork()
                    self._workers.add(worker)
                    try:
                        await worker.started()
                    except BaseException as error:
                        self._own(self._end(worker))
                        if isinstance(error, OSError) and keeper.lost and not self._closed:
                            continue  # the keeper has died: a new one is started
                        raise
                    return worker
        except (TimeoutError, OSError) as error:
            if isinstance(error, TwinError):
                raise
            raise Unreachable(f"the graph cannot be asked yet ({error or 'not ready in time'})") from error

    async def _ready(self) -> Keeper:
        """The keeper, started and filled. Raises Unreachable."""
        if self._closed:
            raise Unreachable("the twin is ending; ask again when it is back")
        if self._keeper is not None and self._keeper.lost:
            log.warning("query keeper lost; the copies are made anew")
            await self._stop()
        if self._keeper is None:
            if self._beginning is None:
                self._beginning = self._own(self._begin())
            beginning = self._beginning
            await asyncio.shield(beginning)  # others wait for it, too
            if self._keeper is None:
                raise Unreachable("the graph was replaced just now; ask again")
        return self._keeper

    async def _begin(self) -> None:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        keeper = await Keeper.start(self.limits.behind_bytes)
        try:
            if self._source is not None:

                def notify() -> None:
                    loop.call_soon_threadsafe(self._hand_on_soon)

                self._changes = Changes(notify)
                self._unlisten = self._source.listen(self._changes.take)
                datasets: dict[str, list[str]] = {}
                for graph in await asyncio.to_thread(self._source.graphs):
                    datasets.setdefault(dataset_of(graph), []).append(graph)
                for dataset, graphs in datasets.items():
                    _, data = await asyncio.to_thread(self._source.copy, graphs)
                    for chunk in chunks(data):
                        await keeper.room()
                        keeper.send(b"B", quads_frame(dataset, b"", chunk))
            self._keeper = keeper
        except BaseException:
            self._forget()
            await keeper.stop()
            raise
        finally:
            self._beginning = None
        self._last_used = time.monotonic()
        self._own(self._rest())
        log.info("query processes started", extra={"took_s": round(time.monotonic() - began, 2)})

    def _hand_on_soon(self) -> None:
        if self._keeper is not None and not self._closed:
            self._own(self._hand_on())

    async def _hand_on(self) -> None:
        """Give the processes what changed since the last time."""
        async with self._handing_on:
            keeper = self._keeper
            if keeper is None or not self._changes:
                return
            for frame in await asyncio.to_thread(self._changes.frames):
                keeper.send(b"B", frame)
                for worker in self._workers:
                    if worker.keeper is keeper:
                        worker.send(b"B", frame)  # one that is too far behind is lost, and forked anew

    async def _rest(self) -> None:
        """End the processes when nothing was asked for long."""
        keeper = self._keeper
        while self._keeper is keeper and keeper is not None:
            left_s = self.limits.idle_s - (time.monotonic() - self._last_used)
            if self._running:
                left_s = self.limits.idle_s
            elif left_s <= 0:
                log.info("query processes ended: nothing was asked")
                await self._stop()
                return
            await asyncio.sleep(left_s)

    async def _stop(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
        keeper, self._keeper = self._keeper, None
        self._forget()
        self._free.clear()
        workers, self._workers = self._workers, set()
        for worker in workers:
            worker.close()
        if keeper is not None:
            await keeper.stop()

    def _forget(self) -> None:
        if self._unlisten is not None:
            self._own(asyncio.to_thread(self._unlisten))  # the store may be in the middle of a change
            self._unlisten = None
        self._changes = Changes()

    async def _end(self, worker: Worker) -> int | None:
        """See that a worker is gone; its exit status, None where nobody knows."""
        self.replaced += 1
        self._workers.discard(worker)
        worker.close()
        return await worker.keeper.kill(worker.pid) if worker.pid else None

    def _own(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _joined(guarded: Guarded, variables: Sequence[str], values: Sequence[str]) -> str:
    if not variables:
        if values:
            raise ContractError(f"bindings: {len(values)} values and no variable; name one for each column")
        return guarded.text
    if len(values) % len(variables):
        raise ContractError(f"bindings: {len(values)} values do not fill rows of {len(variables)}")
    width = len(variables)
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    if len(values) < 1000:
        return guarded.bound(variables, rows)
    return await asyncio.to_thread(guarded.bound, variables, rows)


def _plain(message: str) -> str:
    return " ".join(message.split())[:300]
