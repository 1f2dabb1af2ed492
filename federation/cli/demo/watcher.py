"""Somebody who watches the composed twin: every event, with the moment it arrived. Owns those moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.errors import Unreachable

if TYPE_CHECKING:
    from domain_twin.model import Event
    from federation.client import TwinClient


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, and when the watcher had it."""

    event: Event
    at: int


class Watcher:
    """Follows the event stream in the background, used as `async with Watcher(twin) as watcher`."""

    def __init__(self, twin: TwinClient) -> None:
        self._twin = twin
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.arrivals: list[Arrival] = []

    async def __aenter__(self) -> Watcher:
        stream = self._twin.watch()
        await stream.started()
        self._task = asyncio.create_task(self._follow(stream))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Unreachable):
                await self._task

    async def first(
        self, wanted: Callable[[Event], bool], *, since: int, timeout_s: float, what: str
    ) -> Arrival:
        """The first arrival from `since` on that is `wanted`. Raises Unreachable naming `what`."""
        seen = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    for arrival in self.arrivals[seen:]:
                        if arrival.at >= since and wanted(arrival.event):
                            return arrival
                    seen = len(self.arrivals)
                    if self._task and self._task.done():
                        self._task.result()
                        raise Unreachable("the broker ended the stream of events; see its log")
                    await self._news.wait()
        except TimeoutError as error:
            raise Unreachable(
                f"no news of {what} within {timeout_s:.0f} s; see the logs of the demo"
            ) from error

    async def _follow(self, stream: object) -> None:
        try:
            async for event in stream:  # type: ignore[attr-defined]
                self.arrivals.append(Arrival(event, time.time_ns()))
                self._news.set()
        finally:
            self._news.set()
