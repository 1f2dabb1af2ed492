"""Subscriptions to an emulated device over gNMI: ONCE, POLL and STREAM.

A subscriber owns one conflating queue. All that waits in it goes out as one Notification, so a slow reader
costs the device one entry a path and nothing else; deletions of short-lived entries are what can pile up, and
a subscriber that lets too many wait is sent away.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode
from pygnmi.spec.v080 import gnmi_pb2

from domain_twin.emulator.device import ChangeQueue, DeviceDatastore, Leaf, PathPattern
from domain_twin.emulator.gnmi_paths import GnmiStatus, add_update, patterns

ENCODINGS = (gnmi_pb2.JSON_IETF, gnmi_pb2.PROTO, gnmi_pb2.JSON)
BATCH = 1_000
"""Most updates and deletes in one Notification."""
MINIMUM_SAMPLE_MS = 100
"""Shortest sample and heartbeat interval; what an interval of 0 means."""
BACKLOG = 200_000
"""Waiting paths at which a subscriber that does not read is sent away."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    patterns: tuple[PathPattern, ...]
    sample_s: float | None  # None: on change
    heartbeat_s: float | None
    suppress_redundant: bool


async def serve_first(requests: Any, context: Any, serve: Callable[[Any], Awaitable[None]]) -> None:
    """Have `serve` answer a Subscribe RPC by its first message; a GnmiStatus ends the RPC with its code."""
    try:
        async for first in requests:
            await serve(first)
            return
    except GnmiStatus as status:
        refusal = status
    except BaseExceptionGroup as group:
        found = group.subgroup(GnmiStatus)
        if found is None:
            raise
        refusal = next(error for error in found.exceptions if isinstance(error, GnmiStatus))
    else:
        return
    await context.abort(refusal.code, refusal.message)


class Subscriber:
    """One Subscribe RPC."""

    def __init__(self, store: DeviceDatastore, request: Any):
        if not request.HasField("subscribe"):
            raise GnmiStatus(
                StatusCode.INVALID_ARGUMENT, "the first SubscribeRequest must hold a SubscriptionList"
            )
        wanted = request.subscribe
        self._store = store
        self._target: str = wanted.prefix.target
        self._encoding = check_encoding(wanted.encoding)
        self._mode = wanted.mode
        self._updates_only: bool = wanted.updates_only
        if not wanted.subscription:
            raise GnmiStatus(StatusCode.INVALID_ARGUMENT, "the SubscriptionList names no path")
        stream = self._mode == gnmi_pb2.SubscriptionList.STREAM
        self._subscriptions = [
            _subscription(store, wanted.prefix, entry, stream) for entry in wanted.subscription
        ]

    async def run(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Serve the RPC until it ends, the client leaves, or GnmiStatus says why not."""
        if self._mode == gnmi_pb2.SubscriptionList.ONCE:
            await self._snapshot(context)
        elif self._mode == gnmi_pb2.SubscriptionList.POLL:
            await self._snapshot(context)
            async for request in requests:
                if not request.HasField("poll"):
                    raise GnmiStatus(
                        StatusCode.INVALID_ARGUMENT, "a POLL subscription takes Poll requests only"
                    )
                await self._snapshot(context)
        else:
            await self._stream(requests, context)

    async def _stream(self, requests: AsyncIterator[Any], context: Any) -> None:
        on_change = [
            pattern for entry in self._subscriptions if entry.sample_s is None for pattern in entry.patterns
        ]
        queue = self._store.watch(on_change)
        try:
            await self._snapshot(context)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_refuse_more(requests))
                for entry in self._subscriptions:
                    if entry.sample_s is not None:
                        tasks.create_task(self._sample(entry, queue))
                    elif entry.heartbeat_s is not None:
                        tasks.create_task(self._beat(entry, queue))
                while True:
                    await queue.wait()
                    if len(queue) > BACKLOG:
                        raise GnmiStatus(
                            StatusCode.RESOURCE_EXHAUSTED, f"{len(queue)} changes wait to be read"
                        )
                    await context.write(self._response(queue.drain(BATCH)))
        finally:
            self._store.unwatch(queue)

    async def _snapshot(self, context: Any) -> None:
        if not self._updates_only:
            leaves = list(self._leaves(self._subscriptions))
            for start in range(0, len(leaves), BATCH):
                await context.write(self._response(leaves[start : start + BATCH]))
        await context.write(gnmi_pb2.SubscribeResponse(sync_response=True))

    async def _sample(self, entry: _Subscription, queue: ChangeQueue) -> None:
        """Queue what `entry` selects every interval; with suppress_redundant only what changed since."""
        assert entry.sample_s is not None
        loop = asyncio.get_running_loop()
        sent = {leaf.path: (leaf, leaf.value) for leaf in self._leaves([entry])}
        due = beat = loop.time()
        while True:
            due = max(due + entry.sample_s, loop.time())
            await asyncio.sleep(due - loop.time())
            everything = not entry.suppress_redundant
            if entry.heartbeat_s is not None and loop.time() - beat >= entry.heartbeat_s:
                everything, beat = True, loop.time()
            present = list(self._leaves([entry]))
            for leaf in present:
                if everything or sent.get(leaf.path, (None, None))[1] != leaf.value:
                    queue.add(leaf)
            for leaf, _ in sent.values():
                if leaf.deleted and self._store.leaf(leaf.path) is None:
                    queue.add(leaf)
            sent = {leaf.path: (leaf, leaf.value) for leaf in present}

    async def _beat(self, entry: _Subscription, queue: ChangeQueue) -> None:
        assert entry.heartbeat_s is not None
        while True:
            await asyncio.sleep(entry.heartbeat_s)
            for leaf in self._leaves([entry]):
                queue.add(leaf)

    def _leaves(self, subscriptions: Sequence[_Subscription]) -> Iterator[Leaf]:
        seen: set[str] = set()
        for entry in subscriptions:
            for pattern in entry.patterns:
                for leaf in self._store.select(pattern):
                    if leaf.path not in seen:
                        seen.add(leaf.path)
                        yield leaf

    def _response(self, leaves: Sequence[Leaf]) -> Any:
        response = gnmi_pb2.SubscribeResponse()
        notification = response.update
        notification.timestamp = self._store.clock()
        if self._target:
            notification.prefix.target = self._target
        for leaf in leaves:
            add_update(notification, leaf, self._encoding)
        return response


def check_encoding(encoding: int) -> int:
    """The encoding as asked for, if the device has it; else GnmiStatus."""
    if encoding not in ENCODINGS:
        name = gnmi_pb2.Encoding.Name(encoding)
        raise GnmiStatus(
            StatusCode.UNIMPLEMENTED, f"encoding {name}: JSON_IETF, PROTO and JSON are supported"
        )
    return encoding


def _subscription(store: DeviceDatastore, prefix: Any, entry: Any, stream: bool) -> _Subscription:
    found = tuple(patterns(store.schema, prefix, entry.path))
    sampled = stream and entry.mode == gnmi_pb2.SAMPLE
    return _Subscription(
        patterns=found,
        sample_s=_interval_s(entry.sample_interval, "sample_interval") if sampled else None,
        heartbeat_s=_interval_s(entry.heartbeat_interval, "heartbeat_interval")
        if entry.heartbeat_interval
        else None,
        suppress_redundant=entry.suppress_redundant,
    )


def _interval_s(nanoseconds: int, field: str) -> float:
    if nanoseconds == 0:
        return MINIMUM_SAMPLE_MS / 1e3
    if nanoseconds < MINIMUM_SAMPLE_MS * 1e6:
        raise GnmiStatus(
            StatusCode.INVALID_ARGUMENT, f"{field} {nanoseconds} ns: {MINIMUM_SAMPLE_MS} ms at least, or 0"
        )
    return nanoseconds / 1e9


async def _refuse_more(requests: AsyncIterator[Any]) -> None:
    async for _ in requests:
        raise GnmiStatus(StatusCode.INVALID_ARGUMENT, "a STREAM subscription takes no further requests")
