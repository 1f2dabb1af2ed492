"""Between the sessions and the pipeline: what waits, within one budget of bytes for the whole process.

Owns fairness, conflation, what is dropped, and which sources must begin anew; reads no value and knows no
protocol. While the consumer keeps up nothing waits and nothing is copied. When it does not:

- Of counters and state the last value of a leaf wins. Configuration, events and deletes are never conflated.
- Sources take turns of at most `TURN` updates, and the event loop gets its own after every `SLICE_S`.
- At the limit, the source with most waiting loses its state first, then all that waits. What was dropped is
  counted by device, the source is out of step from then on, and it begins anew once the consumer is through
  with the rest. A source that is sending its whole state waits for room instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from sys import getsizeof
from typing import Any

from domain_twin.model import Connection, DeviceStatus, Nanoseconds, Sync, UpdateBatch
from domain_twin.southbound.conflate import conflated

log = logging.getLogger(__name__)

__all__ = ["Intake", "IntakeCounters", "Lane", "Overload"]

TURN = 1000
"""Most updates of one source before another has its turn; larger batches are cut."""
SLICE_S = 0.005
"""How long the consumer works before the event loop gets a turn."""
CONFLATE_AT = 128 * 1024
"""Bytes that wait of one source before it is worth looking for repeated leaves."""
CALM_S = 60.0
"""A source that was in step for so long begins anew at once when it has to again."""
LONGEST_WAIT_S = 30.0

_UPDATE_BYTES = 144  # the tuple, its place in the batch, a number
_BATCH_BYTES = 240


@dataclass(frozen=True, slots=True)
class IntakeCounters:
    """What became of one source's updates since the start. `offered` counts all, the others parts of it."""

    offered: int
    conflated: int  # superseded by a newer value of the same leaf while they waited
    dropped: Mapping[str, int]  # by device: counters and state left out under overload
    lost: Mapping[str, int]  # by device: events, deletes and configuration left out under overload
    failed: int  # batches that the consumer could not take in
    resyncs: int  # times that the source had to begin anew
    waiting_bytes: int
    out_of_step: bool  # something was dropped and the source has not yet begun anew


@dataclass(frozen=True, slots=True)
class Overload:
    """What a source lost between two times; `until` is when its state was complete again (0: not yet)."""

    source: str
    since: Nanoseconds
    until: Nanoseconds
    dropped: Mapping[str, int]  # by device
    lost: Mapping[str, int]  # by device: of these, events, deletes and configuration


Item = UpdateBatch | tuple[DeviceStatus, ...]


class Lane:
    """What waits of one source, in order. Made by `Intake.lane`; its session waits for `begin_anew`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.begin_anew = asyncio.Event()
        self.resyncs = 0
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._conflate_at = CONFLATE_AT
        self._syncing = False
        self._out_of_step = False
        self._recovering = False
        self._queued = False
        self._since = 0
        self._offered = self._conflated = self._failed = 0
        self._dropped: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._before: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._wait_s = 0.0
        self._began_at = -CALM_S
        self._timer: asyncio.TimerHandle | None = None

    @property
    def out_of_step(self) -> bool:
        """Whether something was dropped that the source has not yet sent anew."""
        return self._out_of_step

    def begin(self) -> None:
        """The source sends its whole state: it is in step from here on."""
        self._syncing, self._out_of_step = True, False
        self.begin_anew.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Intake:
    """Takes what sessions offer and hands it to `consume` and `on_status`, in the order of each source.

    `keep` says of a path whether each of its values matters. `on_overload` is told when a source begins to
    lose something, and again when it is complete.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        keep: Callable[[str], bool],
        consume: Callable[[UpdateBatch], None],
        on_status: Callable[[DeviceStatus], None],
        on_overload: Callable[[Overload], None],
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._max = max_bytes
        self._keep = keep
        self._consume = consume
        self._on_status = on_status
        self._on_overload = on_overload
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._ring: deque[Lane] = deque()
        self._bytes = 0
        self.most_bytes = 0
        self._ready = False
        self._credit = TURN
        self._waiting = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def waiting_bytes(self) -> int:
        """What waits of all sources."""
        return self._bytes

    def lane(self, source: str) -> Lane:
        """The lane of a source."""
        return self._lanes.setdefault(source, Lane(source))

    def counters(self) -> dict[str, IntakeCounters]:
        """The counters of every source."""
        return {
            lane.source: IntakeCounters(
                offered=lane._offered,
                conflated=lane._conflated,
                dropped=dict(lane._dropped),
                lost=dict(lane._lost),
                failed=lane._failed,
                resyncs=lane.resyncs,
                waiting_bytes=lane._bytes,
                out_of_step=lane._out_of_step or lane._recovering,
            )
            for lane in self._lanes.values()
        }

    def tell(self, lane: Lane, statuses: tuple[DeviceStatus, ...]) -> None:
        """Take over what a source's session says of its devices; it comes after what waits."""
        connections = {status.connection for status in statuses}
        if lane._out_of_step and Connection.SYNCHRONISED in connections:
            return  # the session is complete, and what was taken in of it is not
        if connections == {Connection.STALE}:
            lane._syncing = False  # an interrupted resync waits for nothing
        if not lane._items:
            self._say(statuses)
            return
        last = lane._items[-1][0]
        if isinstance(last, tuple) and [s.name for s in last] == [s.name for s in statuses]:
            lane._items.pop()  # nobody has seen it
        lane._items.append((statuses, 0))

    async def offer(self, lane: Lane, batch: UpdateBatch) -> None:
        """Take a batch over. Returns at once, but while its source sends all it has and there is no room."""
        sync = batch.sync
        if sync is Sync.BEGIN:
            lane.begin()
        size = len(batch.updates)
        lane._offered += size
        if self._ready and not self._ring and size <= self._credit:
            if self._credit == TURN:
                asyncio.get_running_loop().call_soon(self._refill)
            self._credit -= size
            self._take(lane, self._thinned(lane, batch) if lane._out_of_step else batch)
        else:
            for piece in _pieces(batch):
                self._queue(lane, self._thinned(lane, piece) if lane._out_of_step else piece)
                while lane._syncing and self._bytes > self._max // 2 and lane._items:
                    self._room.clear()
                    await self._room.wait()
        if sync is Sync.END:
            lane._syncing = False

    async def run(self) -> None:
        """Consume what waits, until cancelled."""
        try:
            while True:
                self._ready = True
                await self._waiting.wait()
                self._ready = False
                self.work(time.monotonic() + SLICE_S)
                if not self._ring:
                    self._waiting.clear()
                await asyncio.sleep(0)
        finally:
            self._ready = False

    def work(self, deadline: float) -> None:
        """Consume what waits, each source in its turn, until `deadline` of the monotonic clock."""
        ring = self._ring
        while ring and time.monotonic() < deadline:
            lane = ring.popleft()
            taken = 0
            while lane._items and taken < TURN:
                item, size = lane._items.popleft()
                lane._bytes -= size
                self._bytes -= size
                if isinstance(item, tuple):
                    self._say(item)
                    continue
                taken += max(1, len(item.updates))
                self._take(lane, item)
            if lane._items:
                ring.append(lane)
            else:
                lane._queued = False
                lane._conflate_at = CONFLATE_AT
                self._settle(lane)
        if self._bytes <= self._max // 2:
            self._room.set()

    def close(self) -> None:
        """Tell of what was lost and is not yet made good: the state is left as it is."""
        for lane in self._lanes.values():
            if lane._out_of_step or lane._recovering:
                self._recovered(lane)

    # --- one item

    def _take(self, lane: Lane, batch: UpdateBatch) -> None:
        try:
            self._consume(batch)
        except Exception:  # the twin outlives what one batch breaks, and asks for all of it again
            lane._failed += 1
            log.exception("batch not taken in", extra={"source": lane.source})
            self._step_out(lane)
            if not lane._items:
                self._settle(lane)
            return
        if lane._recovering and batch.sync is Sync.END and not lane._out_of_step:
            self._recovered(lane)

    def _refill(self) -> None:
        self._credit = TURN

    def _say(self, statuses: tuple[DeviceStatus, ...]) -> None:
        for status in statuses:
            self._on_status(status)

    # --- waiting

    def _queue(self, lane: Lane, batch: UpdateBatch) -> None:
        size = _size(batch)
        lane._items.append((batch, size))
        lane._bytes += size
        self._bytes += size
        if not lane._queued:
            lane._queued = True
            self._ring.append(lane)
        self._waiting.set()
        if lane._bytes >= lane._conflate_at:
            self._conflate(lane)
        while self._bytes > self._max:
            self._make_room()
        self.most_bytes = max(self.most_bytes, self._bytes)

    def _conflate(self, lane: Lane) -> None:
        batches, superseded = conflated([item for item, _ in lane._items], self._keep)
        lane._conflated += superseded
        self._refresh(lane, batches)
        lane._conflate_at = max(CONFLATE_AT, 2 * lane._bytes)

    def _refresh(self, lane: Lane, items: list[Item]) -> None:
        lane._items = deque((item, 0 if isinstance(item, tuple) else _size(item)) for item in items)
        self._bytes -= lane._bytes
        lane._bytes = sum(size for _, size in lane._items)
        self._bytes += lane._bytes

    # --- overload

    def _make_room(self) -> None:
        """Take from the source that has most waiting; one that sends its whole state comes last."""
        lanes = [lane for lane in self._lanes.values() if lane._bytes]
        lane = max(lanes, key=lambda lane: (not lane._syncing and lane._bytes > self._max // 8, lane._bytes))
        before = lane._bytes
        self._conflate(lane)
        if self._bytes <= self._max:
            return
        items: list[Item] = []
        for item, _ in lane._items:
            if isinstance(item, UpdateBatch):
                thin = self._thinned(lane, item)
                if thin.updates or thin.deletes:
                    items.append(thin)
            elif not any(status.connection is Connection.SYNCHRONISED for status in item):
                items.append(item)
        self._refresh(lane, items)
        if self._bytes > self._max and lane._bytes >= before // 2:  # it is not state that fills the room
            for item in items:
                if isinstance(item, UpdateBatch):
                    lane._lost.update(update.device for update in item.updates)
                    lane._lost.update(delete.device for delete in item.deletes)
            self._refresh(lane, [item for item in items if isinstance(item, tuple)])
        self._step_out(lane)

    def _thinned(self, lane: Lane, batch: UpdateBatch) -> UpdateBatch:
        """What must not be lost of a batch of a source that is out of step; the rest is counted."""
        keep = self._keep
        kept = tuple([update for update in batch.updates if keep(update[1])])
        if len(kept) < len(batch.updates):
            dropped = Counter([update[0] for update in batch.updates])
            dropped.subtract([update[0] for update in kept])
            lane._dropped.update(dropped)
        return replace(batch, updates=kept, sync=Sync.NONE)

    def _step_out(self, lane: Lane) -> None:
        lane._syncing = False
        if lane._out_of_step:
            return
        lane._out_of_step = True
        if not lane._recovering:
            lane._recovering = True
            lane._since = self._clock()
            log.warning("source overloads the twin", extra={"source": lane.source})
        self._on_overload(self._overload(lane, 0))

    def _settle(self, lane: Lane) -> None:
        """Nothing waits any more: have a source that is out of step begin anew, after a while if again."""
        if not lane._out_of_step or lane._timer is not None:
            return
        now = time.monotonic()
        if now - lane._began_at >= CALM_S:
            lane._wait_s = 0.0
        else:
            lane._wait_s = min(LONGEST_WAIT_S, max(1.0, 2 * lane._wait_s))
        lane._began_at = now + lane._wait_s
        lane.resyncs += 1
        lane._timer = asyncio.get_running_loop().call_later(lane._wait_s, lane.begin_anew.set)

    def _recovered(self, lane: Lane) -> None:
        overload = self._overload(lane, self._clock())
        lane._recovering = False
        lane._before = (Counter(lane._dropped), Counter(lane._lost))
        log.info("source is in step again", extra={"source": lane.source, "dropped": dict(overload.dropped)})
        self._on_overload(overload)

    def _overload(self, lane: Lane, until: Nanoseconds) -> Overload:
        dropped, lost = lane._before
        return Overload(
            lane.source,
            lane._since,
            until,
            dict(lane._dropped + lane._lost - dropped - lost),
            dict(lane._lost - lost),
        )


def _pieces(batch: UpdateBatch) -> Iterator[UpdateBatch]:
    """A batch in turns. One with deletes stays whole: what they take away may be put back in it."""
    updates = batch.updates
    if len(updates) <= TURN or batch.deletes:
        yield batch
        return
    last = len(updates) - TURN
    for at in range(0, len(updates), TURN):
        sync = batch.sync
        if (sync is Sync.BEGIN and at > 0) or (sync is Sync.END and at < last):
            sync = Sync.NONE
        yield replace(batch, updates=updates[at : at + TURN], sync=sync)


def _size(batch: UpdateBatch) -> int:
    """About how many bytes a waiting batch holds. Paths are not counted: whoever decodes keeps them."""
    size = _BATCH_BYTES + _UPDATE_BYTES * (len(batch.updates) + len(batch.deletes))
    for value in [update[2] for update in batch.updates if type(update[2]) is not int]:
        size += _weight(value)
    return size


def _weight(value: Any) -> int:
    size = getsizeof(value)
    if isinstance(value, tuple):
        size += sum(map(_weight, value))
    return size
