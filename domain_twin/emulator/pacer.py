"""The thread that keeps the packet network in step with the clock. Owns the network object while it runs.

Everything that touches the network goes through `send` (a command) or `ask` (a question) and happens between
two slices, within a millisecond or so: the loop itself runs without the interpreter lock.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from domain_twin.emulator.commands import Command
from domain_twin.emulator.engine import Measurement, PacketNetwork

__all__ = ["Pacer"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_SLICE_S = 0.02  # longest time between two looks at the clock
_BEHIND_S = 10.0  # a machine that slept longer than this skips the time instead of catching up


class Pacer:
    """Runs a packet network at the pace of the monotonic clock, in a thread of its own."""

    def __init__(self, network: PacketNetwork, on_measurement: Callable[[Measurement], None]) -> None:
        self.network = network
        self.epoch_ns = 0  # Unix time of simulated time zero
        self.skipped_s = 0.0  # left out so far, as the machine slept
        self.failure: BaseException | None = None
        self._on_measurement = on_measurement
        self._waiting: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._origin = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="packets", daemon=True)
        self._ended: Callable[[], None] | None = None

    def start(self, ended: Callable[[], None] | None = None) -> None:
        """Begin at simulated time zero; `ended` is called on the loop if the thread fails (see `failure`)."""
        self._loop, self._ended = asyncio.get_running_loop(), ended
        self.epoch_ns, self._origin = time.time_ns(), time.monotonic()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def send(self, command: Command) -> None:
        """Carry out a command now; before `start` at once."""
        if not self._thread.is_alive():
            self.network.apply(command)
            return
        self._waiting.append(lambda: self.network.apply(command))
        self._wake.set()

    async def ask(self, question: Callable[[PacketNetwork], _T]) -> _T:
        """Put a question to the network between two slices; raises what `question` raises."""
        if not self._thread.is_alive():
            return question(self.network)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()

        def settle(value: _T | None, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            try:
                loop.call_soon_threadsafe(settle, question(self.network), None)
            except Exception as error:
                loop.call_soon_threadsafe(settle, None, error)

        self._waiting.append(work)
        self._wake.set()
        return await answer

    @property
    def lag_s(self) -> float:
        """How far simulated time is behind the clock, seconds; 0 before the start."""
        return max(0.0, time.monotonic() - self._origin - self.network.now) if self.epoch_ns else 0.0

    def unix_ns(self, at: float) -> int:
        """Unix time of a simulated time (s)."""
        return self.epoch_ns + round(at * 1e9)

    def simulated(self, unix_ns: int) -> float:
        """Simulated time (s) of a Unix time."""
        return (unix_ns - self.epoch_ns) / 1e9

    def _run(self) -> None:
        assert self._loop is not None
        try:
            while not self._stopping:
                self._step(self._loop)
                self._wake.wait(_SLICE_S)
                self._wake.clear()
        except BaseException as error:
            log.exception("the packet network stopped")
            self.failure = error
            if self._ended is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended)
        finally:
            while self._waiting:  # nobody may wait for an answer that never comes
                with contextlib.suppress(Exception):
                    self._waiting.popleft()()

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic() - self._origin
        behind = now - self.network.now
        if behind > _BEHIND_S:
            log.warning("skipping time the machine slept", extra={"seconds": round(behind, 1)})
            self._origin += behind
            self.skipped_s += behind
            self.epoch_ns += round(behind * 1e9)
            now -= behind
        for measurement in self.network.advance(now):
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_measurement, measurement)
        while self._waiting:
            self._waiting.popleft()()
