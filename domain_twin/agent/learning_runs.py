"""Trainings under way in a domain: the data that each is fed with, for as long as it is needed.

Owns which runs are held, and when their data is dropped: at their end, when their broker is gone, and when
nothing was heard of them for long. A run that is offered again gets the same window of data again. Trains
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from domain_twin.learning.panel import Panel
    from domain_twin.learning.task import Task

__all__ = ["HeldRun", "Runs"]

_MOST: Final = 4
_MOST_VALUES: Final = 40_000_000
"""Of all runs together, 320 MB, where there are several."""


@dataclass(slots=True)
class HeldRun:
    """One training, whose peer it is, and its data. `until` is of the monotonic clock, seconds."""

    task: Task
    peer: str
    panel: Panel
    until: float = 0.0
    busy: int = 0
    """Messages that are being answered: meanwhile it is not let go."""


class Runs:
    """A few of them: the one that was used least lately goes. For the agent's event loop."""

    def __init__(self, *, idle_s: float, lost_s: float, on_dropped: Callable[[str], None]) -> None:
        """Dropped after `idle_s` without a message, `lost_s` after the session was lost."""
        self._idle_s = idle_s
        self._lost_s = lost_s
        self._on_dropped = on_dropped
        self._held: OrderedDict[str, HeldRun] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def get(self, run: str) -> HeldRun | None:
        """A run that is held."""
        return self._held.get(run)

    def add(self, run: str, held: HeldRun) -> None:
        """Hold a run."""
        self._held[run] = held
        self._touch(run)
        while len(self._held) > _MOST or (len(self._held) > 1 and self._values() > _MOST_VALUES):
            self.drop(next(iter(self._held)))

    @contextlib.contextmanager
    def answering(self, run: str) -> Iterator[None]:
        """While a message of a held run is answered; afterwards its time begins anew."""
        held = self._held[run]
        held.busy += 1
        try:
            yield
        finally:
            held.busy -= 1
            if self._held.get(run) is held:
                self._touch(run)

    def _values(self) -> int:
        return sum(held.panel.values.size for held in self._held.values())

    def _touch(self, run: str) -> None:
        self._held[run].until = time.monotonic() + self._idle_s
        self._held.move_to_end(run)
        self._sweep()

    def session_lost(self) -> None:
        """The broker is gone, perhaps for good."""
        until = time.monotonic() + self._lost_s
        for held in self._held.values():
            held.until = min(held.until, until)
        self._sweep()

    def drop(self, run: str) -> None:
        """Forget a run's data, if it is held."""
        if self._held.pop(run, None) is not None:
            self._on_dropped(run)

    def clear(self) -> None:
        """Forget all."""
        for run in list(self._held):
            self.drop(run)
        self._sweep()

    def _sweep(self) -> None:
        """Drop what is due, and come back when more is."""
        now = time.monotonic()
        for run in [run for run, held in self._held.items() if held.until <= now and not held.busy]:
            self.drop(run)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if waiting := [held.until for held in self._held.values() if not held.busy]:
            self._timer = asyncio.get_running_loop().call_later(min(waiting) - now, self._sweep)
