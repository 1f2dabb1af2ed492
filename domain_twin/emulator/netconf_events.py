"""The event stream of one device (RFC 5277): what happened to its configuration, its sessions and its states.

Events are those of RFC 6470, and `state-change` of fedtwin-device-events. Who gets them is the subscriptions'
business.
"""

import asyncio
import contextlib
import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

from domain_twin.emulator.device import Actor, ChangeQueue, ConfigChange, DeviceDatastore, Leaf, PathPattern
from domain_twin.emulator.netconf_datastores import Confirmation, Datastores
from domain_twin.emulator.xml_paths import path_element, printable

if TYPE_CHECKING:
    from domain_twin.emulator.device_schema import Step

NOTIFICATION = "urn:ietf:params:xml:ns:netconf:notification:1.0"
_EVENTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"
_STATES = "urn:fedtwin:yang:fedtwin-device-events"


class EventStream:
    """The NETCONF stream: hands each event, as XML, to every listener."""

    def __init__(self, store: DeviceDatastore, datastores: Datastores):
        self._store = store
        self._listeners: list[Callable[[str], None]] = []
        self._unobserve = store.observe(self._config_changed)
        self._queue: ChangeQueue | None = None
        self._task: asyncio.Task[None] | None = None
        datastores.on_confirmation = self._confirmation

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with every event until the returned function is called."""
        self._listeners.append(listener)
        if self._task is None:
            self._queue = self._store.watch([PathPattern((), "/")], only=_is_status)
            self._task = asyncio.create_task(self._states(self._queue))
        return lambda: self._leave(listener)

    async def close(self) -> None:
        """Stop making events."""
        self._unobserve()
        self._listeners.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def session_event(self, event: str, actor: Actor, extra: str = "") -> None:
        """Say that a session started or ended (`session-start`, `session-end`)."""
        self._emit(f'<netconf-{event} xmlns="{_EVENTS}">{_by(actor)}{extra}</netconf-{event}>')

    def _leave(self, listener: Callable[[str], None]) -> None:
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)
        if not self._listeners and self._queue is not None and self._task is not None:
            self._store.unwatch(self._queue)
            self._task.cancel()
            self._task = self._queue = None

    def _emit(self, event: str) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _config_changed(self, change: ConfigChange) -> None:
        if not self._listeners:
            return
        edits = "".join(
            f"<edit>{path_element('target', edit.steps)}<operation>{edit.operation}</operation></edit>"
            for edit in change.edits
        )
        by = _by(change.actor) if change.actor.session_id else "<server/>"
        self._emit(
            f'<netconf-config-change xmlns="{_EVENTS}"><changed-by>{by}</changed-by>'
            f"<datastore>running</datastore>{edits}</netconf-config-change>"
        )

    def _confirmation(self, event: Confirmation, actor: Actor, timeout_s: float) -> None:
        by = _by(actor) if event != "timeout" else ""
        timeout = f"<timeout>{round(timeout_s)}</timeout>" if event in ("start", "extend") else ""
        self._emit(
            f'<netconf-confirmed-commit xmlns="{_EVENTS}">{by}<confirm-event>{event}</confirm-event>{timeout}'
            "</netconf-confirmed-commit>"
        )

    async def _states(self, queue: ChangeQueue) -> None:
        while True:
            await queue.wait()
            changes = "".join(_change(leaf) for leaf in queue.drain(1_000))
            self._emit(f'<state-change xmlns="{_STATES}">{changes}</state-change>')


def notification(store: DeviceDatastore, content: str) -> str:
    """A notification message with the device's time."""
    return (
        f'<notification xmlns="{NOTIFICATION}"><eventTime>{date_and_time(store.clock())}</eventTime>'
        f"{content}</notification>"
    )


def date_and_time(nanoseconds: int) -> str:
    """Nanoseconds since the Unix epoch as yang:date-and-time, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(nanoseconds // 1_000 / 1e6, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_status(leaf: Leaf) -> bool:
    return not leaf.node.config and leaf.node.leaf_type is not None and leaf.node.leaf_type.is_status


def _change(leaf: Leaf) -> str:
    steps: tuple[Step, ...] = leaf.steps
    assert leaf.node.leaf_type is not None
    value = "" if leaf.deleted else f"<value>{printable(leaf.node.leaf_type.to_text(leaf.value))}</value>"
    return f"<change>{path_element('target', steps)}{value}</change>"


def _by(actor: Actor) -> str:
    return f"<username>{printable(actor.user)}</username><session-id>{actor.session_id}</session-id>"
