"""The agent's end of a process that trains, or uses models: starts it, asks in turns, ends it when idle.

Owns the process, never what it answers. A question that takes too long, or whose asker gave up, costs the
process: a fresh one is a second away, and half a training is of no use to anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final

from domain_twin import errors
from domain_twin.agent.learner_child import ChildSettings, main
from domain_twin.errors import OverCapacity, TwinError, Unreachable

__all__ = ["LearnerProcess"]

log = logging.getLogger(__name__)

_END_S: Final = 30.0
_WAITING: Final = 16


class LearnerProcess:
    """At most one process. `await ask(...)`; costs nothing until the first question."""

    def __init__(self, settings: ChildSettings, *, step_s: float, idle_s: float) -> None:
        self.started = 0
        """Processes that were started so far."""
        self.busy_s = 0.0
        """Time that was spent on answers so far, seconds."""
        self.stay_s = 0.0
        """It stays without work for this long at least, seconds; less than the `idle_s` it has: no matter."""
        self._settings = settings
        self._what = "uses models" if settings.serves else "trains"
        self._step_s = step_s
        self._idle_s = idle_s
        self._process: Any = None
        self._generation = 0
        self._pipe: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "learner")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._forgotten: dict[str, None] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._process.pid if self._process is not None else None

    async def ask(self, operation: str, *arguments: Any, within_s: float = 0.0) -> Any:
        """The process's answer. Raises what it raises, OverCapacity; Unreachable: it ended or is late."""
        return await self.do([(operation, arguments)], within_s=within_s)

    async def do(self, steps: list[tuple[str, tuple[Any, ...]]], *, within_s: float = 0.0) -> Any:
        """Ask one question after another with nobody's in between; the last one's answer."""
        if self._closed:
            raise Unreachable("the agent is ending")
        if self._waiting >= _WAITING:
            raise OverCapacity(f"{self._waiting} steps of learning wait in this domain; try again later")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._do(steps, within_s or self._step_s)
        finally:
            self._waiting -= 1

    async def _do(self, steps: list[tuple[str, tuple[Any, ...]]], within_s: float) -> Any:
        if self._idle:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        began_s = time.monotonic()
        ok, answer = True, None
        try:
            async with asyncio.timeout(within_s):
                for step in (*self._to_forget(), *steps):
                    ok, answer = await loop.run_in_executor(
                        self._thread, self._exchange, self._generation, step
                    )
                    if not ok:
                        break
        except TimeoutError:
            self._kill()
            raise Unreachable(
                f"a step of learning was stopped after {within_s:g} s; see [learning] message_s"
            ) from None
        except asyncio.CancelledError:
            self._kill()
            raise
        except (EOFError, OSError) as error:
            self._kill()
            log.error("a process of learning ended", extra={"what": self._what, "reason": repr(error)})
            raise Unreachable(
                f"the process that {self._what} ended in mid-step; it may have needed more than [learning]"
                " memory_mb"
            ) from error
        finally:
            self.busy_s += time.monotonic() - began_s
            if self._process is not None and not self._closed:
                self._idle = loop.call_later(max(self._idle_s, self.stay_s), self._kill)
        if not ok:
            raise _error(*answer)  # type: ignore[misc]  # kind and text
        return answer

    def forget(self, what: str) -> None:
        """Have the process forget a run, or a model: before its next answer, or with its end."""
        if self._process is not None:
            self._forgotten[what] = None

    def _to_forget(self) -> list[tuple[str, tuple[Any, ...]]]:
        wanted, self._forgotten = self._forgotten, {}
        return [("forget", (what,)) for what in wanted]

    async def answer_for(self, run: str, task: bytes, panel: Any, message: bytes) -> bytes:
        """The answer to one message of a run, whose data is handed over where the process is a fresh one."""
        answer = await self.ask("message", run, message)
        if answer is None:
            answer = await self.do([("open", (run, task, panel)), ("message", (run, message))])
        reply: bytes = answer
        return reply

    async def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._idle:
            self._idle.cancel()
        self._kill()
        await asyncio.to_thread(self._thread.shutdown)

    def _exchange(self, generation: int, step: tuple[str, tuple[Any, ...]]) -> tuple[bool, Any]:
        """One question and its answer; in the thread. Raises EOFError or OSError where the process ended."""
        if self._process is None or not self._process.is_alive():
            self._start()
        if generation != self._generation:  # its asker gave up while the process was being started
            self._kill()
            raise EOFError
        assert self._pipe is not None
        self._pipe.send(step)
        answer: tuple[bool, Any] = self._pipe.recv()
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, self._settings), name="learner", daemon=True)
        process.start()
        theirs.close()
        self._process = process
        self.started += 1

    def _kill(self) -> None:
        process, self._process = self._process, None
        self._forgotten.clear()
        self._generation += 1
        if process is None:
            return
        process.kill()  # what waits in the pipe's thread then meets its end
        # The loop must not wait for it: on a busy machine even a killed process takes its time to go.
        threading.Thread(target=_reap, args=(process,), name="learner-end", daemon=True).start()


def _reap(process: Any) -> None:
    process.join(_END_S)
    with contextlib.suppress(ValueError):
        process.close()


def _error(kind: str, text: str) -> TwinError:
    known = getattr(errors, kind, None) if kind in errors.__all__ else None
    if isinstance(known, type) and issubclass(known, TwinError):
        return known(text)
    log.error("learning failed", extra={"reason": text})  # it may quote data: it stays here
    return TwinError("learning failed in the domain; its log says why")
