"""Subscriptions of one NETCONF session: event streams (RFC 5277, RFC 8639) and datastore push (RFC 8641).

On-change push sends what is there first, then yang-patch edits; what waits while the peer does not read is
conflated, one entry a path. Targets of edits are canonical instance identifiers with module names, as
libyang-based servers send them, not RESTCONF paths.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from domain_twin.emulator.data_tree import descend
from domain_twin.emulator.device import DeviceDatastore, Leaf, PathPattern
from domain_twin.emulator.device_schema import Step, format_path
from domain_twin.emulator.netconf_events import EventStream, notification
from domain_twin.emulator.netconf_filter import gather
from domain_twin.emulator.rpc_error import RpcError
from domain_twin.emulator.xml_paths import leaf_list_path, printable
from domain_twin.emulator.xml_tree import xml_node, xml_tree

SUBSCRIBED = "urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications"
PUSH = "urn:ietf:params:xml:ns:yang:ietf-yang-push"
_EVENT_BACKLOG = 1_000
"""Events that may wait for a peer that does not read, before its session is ended."""

Send = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a push subscription speaks: each `period_s`, or (None) on change, every `dampening_s` at most."""

    period_s: float | None = None
    dampening_s: float = 0.0
    sync_on_start: bool = True


class Subscriptions:
    """All subscriptions of one session; ids are the device's own."""

    def __init__(
        self, store: DeviceDatastore, events: EventStream, send: Send, give_up: Callable[[str], None]
    ):
        self._store = store
        self._events = events
        self._send = send
        self._give_up = give_up
        self._running: dict[int, tuple[asyncio.Task[None], _Push | None]] = {}
        self._cleanups: dict[int, Callable[[], None]] = {}
        self._farewells: set[asyncio.Task[None]] = set()

    def __contains__(self, identifier: int) -> bool:
        return identifier in self._running

    def add_stream(self, identifier: int, wanted: frozenset[str] | None) -> None:
        """Send the device's events, those whose element (`{namespace}name`) is `wanted` or (None) all."""
        backlog: asyncio.Queue[str] = asyncio.Queue(_EVENT_BACKLOG)

        def listener(event: str) -> None:
            if wanted is not None and _event_tag(event) not in wanted:
                return
            try:
                backlog.put_nowait(event)
            except asyncio.QueueFull:
                self._give_up("events pile up unread")

        self._cleanups[identifier] = self._events.listen(listener)
        self._running[identifier] = self._start(self._pump(backlog)), None

    def add_push(self, identifier: int, patterns: Sequence[PathPattern], trigger: Trigger) -> None:
        """Push the operational data in `patterns`."""
        push = _Push(self._store, identifier, patterns, trigger, self._send)
        self._running[identifier] = self._start(push.run()), push

    def resync(self, identifier: int) -> None:
        """Have a push subscription send everything anew. Raises RpcError where there is no such one."""
        _, push = self._running.get(identifier, (None, None))
        if push is None:
            raise no_such_subscription(identifier)
        push.resync()

    def modify(self, identifier: int, patterns: Sequence[PathPattern] | None, trigger: Trigger) -> None:
        """Replace what a push subscription selects (None: as before) and when it speaks."""
        _, push = self._running.get(identifier, (None, None))
        if push is None:
            raise no_such_subscription(identifier)
        self.remove(identifier)
        self.add_push(identifier, push.patterns if patterns is None else patterns, trigger)

    def remove(self, identifier: int) -> None:
        """End a subscription. Raises RpcError where there is no such one."""
        if identifier not in self._running:
            raise no_such_subscription(identifier)
        task, _ = self._running.pop(identifier)
        task.cancel()
        cleanup = self._cleanups.pop(identifier, None)
        if cleanup is not None:
            cleanup()

    def kill(self, identifier: int) -> None:
        """End a subscription by order of somebody else, and tell its receiver (RFC 8639 2.4.5, 2.7.3)."""
        self.remove(identifier)
        farewell = (
            f'<subscription-terminated xmlns="{SUBSCRIBED}"><id>{identifier}</id>'
            f'<reason xmlns:sn="{SUBSCRIBED}">sn:no-such-subscription</reason></subscription-terminated>'
        )
        task = self._start(self._say(farewell))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _say(self, event: str) -> None:
        await self._send(notification(self._store, event))

    async def close(self) -> None:
        """End all subscriptions."""
        tasks = [*(task for task, _ in self._running.values()), *self._farewells]
        for identifier in list(self._running):
            self.remove(identifier)
        await asyncio.gather(*tasks, return_exceptions=True)  # `_ended` saw what they raised

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A subscription that breaks off takes its session along: silence would look like no news."""
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._give_up(f"a subscription broke off: {failure!r}")

    async def _pump(self, backlog: asyncio.Queue[str]) -> None:
        while True:
            event = await backlog.get()
            await self._send(notification(self._store, event))


class _Push:
    def __init__(
        self,
        store: DeviceDatastore,
        identifier: int,
        patterns: Sequence[PathPattern],
        trigger: Trigger,
        send: Send,
    ):
        self.patterns = tuple(patterns)
        self._store = store
        self._id = identifier
        self._trigger = trigger
        self._send = send
        self._known: dict[str, Any] = {}  # what the peer was told: path -> value of a leaf-list, else None
        self._patch = 0
        self._resync = asyncio.Event()

    def resync(self) -> None:
        self._resync.set()

    async def run(self) -> None:
        if self._trigger.period_s is not None:
            await self._periodic(self._trigger.period_s)
        else:
            await self._on_change()

    async def _periodic(self, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._update()
            due = max(due + period_s, loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._resync.wait()
            self._resync.clear()

    async def _on_change(self) -> None:
        queue = self._store.watch(self.patterns)
        try:
            if self._trigger.sync_on_start:
                await self._update()
            else:
                self._learn()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._answer_resyncs())
                while True:
                    await queue.wait()
                    edits = self._edits(queue.drain(len(queue)))
                    if edits:
                        await self._send(notification(self._store, self._change(edits)))
                        if self._trigger.dampening_s:
                            await asyncio.sleep(self._trigger.dampening_s)
        finally:
            self._store.unwatch(queue)

    async def _answer_resyncs(self) -> None:
        while True:
            await self._resync.wait()
            self._resync.clear()
            await self._update()

    async def _update(self) -> None:
        self._learn()
        instances = [found for pattern in self.patterns for found in self._store.instances(pattern)]
        contents = xml_tree(self._store.schema, gather(instances))
        await self._send(
            notification(
                self._store,
                f'<push-update xmlns="{PUSH}"><id>{self._id}</id>'
                f"<datastore-contents>{contents}</datastore-contents></push-update>",
            )
        )

    def _learn(self) -> None:
        self._known.clear()
        for pattern in self.patterns:
            for leaf in self._store.select(pattern):
                self._note(leaf)

    def _note(self, leaf: Leaf) -> None:
        self._known[leaf.path] = leaf.value if leaf.node.keyword == "leaf-list" else None

    def _change(self, edits: Sequence[str]) -> str:
        self._patch += 1
        numbered = "".join(f"<edit><edit-id>{n}</edit-id>{edit}</edit>" for n, edit in enumerate(edits, 1))
        return (
            f'<push-change-update xmlns="{PUSH}"><id>{self._id}</id><datastore-changes><yang-patch>'
            f"<patch-id>{self._patch}</patch-id>{numbered}</yang-patch></datastore-changes></push-change-update>"
        )

    def _edits(self, leaves: Sequence[Leaf]) -> list[str]:
        """The leaves' changes as edits; entries that came or went are one edit each (RFC 8072)."""
        edits: list[str] = []
        moved = {format_path(entry) for leaf in leaves if (entry := self._moved_entry(leaf)) is not None}
        told: set[str] = set()
        for leaf in leaves:
            entry_path = next((path for path in _entries_above(leaf.steps) if path in moved), None)
            if entry_path is None:
                edits.extend(self._leaf_edits(leaf))
                continue
            if entry_path not in told:
                told.add(entry_path)
                edits.append(self._entry_edit(leaf, entry_path))
            if leaf.deleted:
                self._known.pop(leaf.path, None)
            else:
                self._note(leaf)
        return edits

    def _moved_entry(self, leaf: Leaf) -> tuple[Step, ...] | None:
        """The list entry that came or went, where `leaf` is one of its keys."""
        if leaf.node.name not in getattr(leaf.node.parent, "keys", ()):
            return None
        if leaf.deleted != (leaf.path in self._known):
            return None
        entry = leaf.steps[:-1]
        return entry if any(pattern.matches(entry) for pattern in self.patterns) else None

    def _entry_edit(self, leaf: Leaf, path: str) -> str:
        if leaf.deleted:
            return _edit("delete", path)
        steps = self._store.schema.parse(path)
        held = descend(self._store.operational, steps)
        return _edit("create", path, xml_node(self._store.schema, steps[-1], held or {}))

    def _leaf_edits(self, leaf: Leaf) -> list[str]:
        known = leaf.path in self._known
        if leaf.node.keyword == "leaf-list":
            return self._leaf_list_edits(leaf)
        if leaf.deleted:
            if not known:
                return []
            del self._known[leaf.path]
            return [_edit("delete", leaf.path)]
        self._note(leaf)
        value = xml_node(self._store.schema, leaf.steps[-1], leaf.value)
        return [_edit("replace" if known else "create", leaf.path, value)]

    def _leaf_list_edits(self, leaf: Leaf) -> list[str]:
        before: tuple[Any, ...] = self._known.get(leaf.path) or ()
        after: tuple[Any, ...] = () if leaf.deleted else leaf.value
        if leaf.deleted:
            self._known.pop(leaf.path, None)
        else:
            self._note(leaf)
        assert leaf.node.leaf_type is not None
        text = leaf.node.leaf_type.to_text
        gone = [
            _edit("delete", leaf_list_path(leaf.steps, text(item))) for item in before if item not in after
        ]
        come = [
            _edit(
                "create",
                leaf_list_path(leaf.steps, text(item)),
                xml_node(self._store.schema, leaf.steps[-1], item),
            )
            for item in after
            if item not in before
        ]
        return gone + come


def no_such_subscription(identifier: int) -> RpcError:
    """The answer to an id that is not a subscription of the session."""
    return RpcError(
        "invalid-value",
        f"this session has no subscription {identifier}",
        app_tag="ietf-subscribed-notifications:no-such-subscription",
    )


def _edit(operation: str, path: str, value: str = "") -> str:
    held = f"<value>{value}</value>" if value else ""
    return f"<operation>{operation}</operation><target>{printable(path)}</target>{held}"


def _entries_above(steps: Sequence[Step]) -> list[str]:
    """Paths of the list entries that a leaf is in, outermost first."""
    return [format_path(steps[:depth]) for depth, (_, keys) in enumerate(steps, 1) if keys is not None]


def _event_tag(event: str) -> str:
    name, _, rest = event[1:].partition(" ")
    uri = rest.split('"')[1]
    return f"{{{uri}}}{name}"
