"""Events in order, for those who watch: growing ids, a bounded ring, bounded queues. For one event loop.

A watcher that reads too slowly, or that asks for events older than the ring, gets one event of kind GAP in
the place of what it missed: memory never grows with a slow watcher, and none takes a part for the whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from domain_twin.model import (
    Alarm,
    DeviceStatus,
    DomainStatus,
    Event,
    EventKind,
    Finding,
    Nanoseconds,
    ServiceStatus,
)

RING_EVENTS = 4096
QUEUE_EVENTS = 1024


class EventLog:
    """Gives every event its id, keeps the last ones, hands them to subscribers.

    Ids start at the microseconds since the epoch (or after `last_id` where that is greater), so they keep
    growing over a restart, even of a server that lost its disk. `on_event` sees each event before the others.
    """

    def __init__(
        self,
        *,
        last_id: int = 0,
        capacity: int = RING_EVENTS,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._on_event = on_event
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._subscriptions: set[Subscription] = set()
        self._last_id = max(last_id, clock() // 1000)
        self._forgotten_id = self._last_id  # events up to here are not in the ring

    @property
    def last_id(self) -> int:
        """Id of the last event."""
        return self._last_id

    @property
    def watchers(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def publish(
        self,
        kind: EventKind,
        text: str,
        *,
        domain: str = "",
        observed_at: Nanoseconds = 0,
        domain_status: DomainStatus | None = None,
        service_status: ServiceStatus | None = None,
        finding: Finding | None = None,
        device_status: DeviceStatus | None = None,
        alarm: Alarm | None = None,
    ) -> Event:
        """Record an event that happens now and wake those who watch for it."""
        self._last_id += 1
        event = Event(
            id=self._last_id,
            at=self._clock(),
            kind=kind,
            domain=domain,
            text=text,
            domain_status=domain_status,
            service_status=service_status,
            finding=finding,
            device_status=device_status,
            alarm=alarm,
            observed_at=observed_at,
        )
        if self._ring.maxlen and len(self._ring) == self._ring.maxlen:
            self._forgotten_id = self._ring[0].id
        self._ring.append(event)
        if self._on_event:
            self._on_event(event)
        for subscription in self._subscriptions:
            subscription.offer(event)
        return event

    def last(self, count: int) -> Iterator[Event]:
        """The last `count` events that are still in the ring, oldest first."""
        return islice(self._ring, max(0, len(self._ring) - count), None)

    def subscribe(
        self,
        *,
        kinds: Collection[EventKind] = (),
        domain: str = "",
        after: int = 0,
        capacity: int = QUEUE_EVENTS,
    ) -> Subscription:
        """Events of these kinds and this domain (empty: all), with ids above `after` (0: from now on)."""
        subscription = Subscription(self, kinds=kinds, domain=domain, capacity=capacity, clock=self._clock)
        self._subscriptions.add(subscription)
        if 0 < after < self._last_id:
            if after < self._forgotten_id:
                subscription.miss(self._forgotten_id)
            for event in self._ring:
                if event.id > after:
                    subscription.offer(event)
        return subscription

    def forget(self, domain: str) -> None:
        """Keep no event of a domain any longer; what watchers have queued they still get."""
        self._ring = deque(
            (event for event in self._ring if not event.tells_of(domain)), maxlen=self._ring.maxlen
        )

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription after what it still has queued."""
        for subscription in tuple(self._subscriptions):
            subscription.close()


class Subscription:
    """One watcher's events: an async iterator, closed by `close` or at the end of a `with` block."""

    def __init__(
        self,
        log: EventLog,
        *,
        kinds: Collection[EventKind],
        domain: str,
        capacity: int,
        clock: Callable[[], Nanoseconds],
    ) -> None:
        self._log = log
        self._kinds = frozenset(kinds)
        self._domain = domain
        self._capacity = capacity
        self._clock = clock
        self._queue: deque[Event] = deque()
        self._missed = 0  # events dropped since the last one read; -1: an unknown number
        self._missed_id = 0
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, event: Event) -> None:
        """Queue an event that this watcher wants; the oldest one makes room where the queue is full."""
        if (self._kinds and event.kind not in self._kinds) or (self._domain and event.domain != self._domain):
            return
        if len(self._queue) >= self._capacity:
            self._missed_id = self._queue.popleft().id
            self._missed += 1 if self._missed >= 0 else 0
        self._queue.append(event)
        self._wake.set()

    def miss(self, up_to: int) -> None:
        """Note that events up to this id, of unknown number, are gone."""
        self._missed, self._missed_id = -1, up_to
        self._wake.set()

    def close(self) -> None:
        """End the iteration after what is queued. Closing twice does nothing."""
        self._closed = True
        self._log.drop(self)
        self._wake.set()

    async def aclose(self) -> None:
        """As `close`: what an async iterator is ended by."""
        self.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._missed and not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._missed:
            return self._gap()
        return self._queue.popleft()

    def _gap(self) -> Event:
        if self._missed > 0:
            text = f"{self._missed} events were missed: this watcher reads more slowly than they come"
        else:
            text = f"events up to {self._missed_id} are no longer kept here; the history may have them"
        self._missed = 0
        return Event(id=self._missed_id, at=self._clock(), kind=EventKind.GAP, domain=self._domain, text=text)
