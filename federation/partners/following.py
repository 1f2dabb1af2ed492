"""Changes in their order, to those who follow: the state, then news, a heartbeat, and a bounded wait.

A follower that reads too slowly holds up nobody and costs a bounded memory: it is told to begin anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from domain_twin.model import Nanoseconds
from federation.partners.record import News, Record

__all__ = ["Changes"]

HEARTBEAT_S = 1.0
MAX_KEPT = 8192
MAX_WAITING = 8192
BATCH = 256


class _Follower:
    def __init__(self) -> None:
        self.waiting: deque[Record] = deque()
        self.lost = False
        self.wake = asyncio.Event()

    def hand(self, records: Iterable[Record]) -> None:
        self.waiting.extend(records)
        if len(self.waiting) > MAX_WAITING:
            self.waiting.clear()
            self.lost = True
        self.wake.set()


class Changes:
    """The latest changes of a store in this run of its process, and who follows them."""

    def __init__(
        self,
        epoch: str,
        sequence: int,
        snapshot: Callable[[], Sequence[Record]],
        clock: Callable[[], Nanoseconds] = time.time_ns,
        tenants: frozenset[str] | None = None,
    ) -> None:
        """`snapshot` gives all records as they are now; `tenants` are those that are served."""
        self.epoch = epoch
        self.sequence = sequence
        """Of the last change that followers were told."""
        self._from = sequence  # changes after this one may be in the log
        self._log: deque[Record] = deque()
        self._snapshot = snapshot
        self._clock = clock
        self._tenants = tenants
        self._followers: set[_Follower] = set()
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followers)

    def publish(self, records: Sequence[Record]) -> None:
        """Tell changes, in the order of their sequences."""
        if not records:
            return
        if records[0].sequence <= self.sequence:  # of a transaction whose end was not known until now
            # Whoever was told a later one and went away would never hear of these: it begins anew.
            self._log.clear()
            self._from = self.sequence + 1
        else:
            self.sequence = records[-1].sequence
            self._log.extend(records)
        while len(self._log) > MAX_KEPT:
            self._from = self._log.popleft().sequence
        for follower in self._followers:
            follower.hand(records)

    def close(self) -> None:
        """End all following."""
        self._closed = True
        for follower in self._followers:
            follower.wake.set()

    async def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        """All that happened after `after`, or all there is where that is not known any more; then news."""
        follower = _Follower()
        self._followers.add(follower)
        try:
            if epoch == self.epoch and self._from <= after <= self.sequence:
                follower.hand([record for record in self._log if record.sequence > after])
                yield News(epoch=self.epoch, sequence=after, complete=not follower.waiting, at=self._clock())
            else:
                follower.lost = True
            while not self._closed:
                if follower.lost:
                    async for news in self._state(follower):
                        yield news
                elif follower.waiting:
                    yield self._next(follower)
                else:
                    await self._pause(follower)
                    if not follower.wake.is_set():
                        yield News(epoch=self.epoch, sequence=self.sequence, complete=True, at=self._clock())
        finally:
            self._followers.discard(follower)

    async def _state(self, follower: _Follower) -> AsyncGenerator[News, None]:
        follower.waiting.clear()
        follower.lost = False
        records, sequence = self._snapshot(), self.sequence
        for start in range(0, max(1, len(records)), BATCH):
            complete = start + BATCH >= len(records)
            yield News(
                tuple(records[start : start + BATCH]),
                epoch=self.epoch,
                sequence=sequence if complete else 0,
                complete=complete,
                begins_anew=start == 0,
                at=self._clock(),
                tenants=self._tenants if start == 0 else None,
            )
            if follower.lost or self._closed:
                return

    def _next(self, follower: _Follower) -> News:
        count = min(BATCH, len(follower.waiting))
        records = tuple(follower.waiting.popleft() for _ in range(count))
        return News(
            records,
            epoch=self.epoch,
            sequence=records[-1].sequence,
            complete=True,
            at=self._clock(),
        )

    @staticmethod
    async def _pause(follower: _Follower) -> None:
        follower.wake.clear()
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await follower.wake.wait()
        except TimeoutError:
            return
