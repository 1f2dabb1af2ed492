"""The alarm list of one emulated device (RFC 8632): entries come, clear and come again. Knows no packets."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain_twin.emulator.device import DeviceDatastore

__all__ = ["AlarmList", "Overload", "Trouble"]

_LIST = "/ietf-alarms:alarms/alarm-list"
_BUSY, _QUIET = 0.97, 0.85  # an overload begins above the one and ends below the other
_CHANGES = 32  # default of max-alarm-status-changes
_INTERVALS = 3  # for so many measuring intervals in a row


@dataclass(frozen=True, slots=True)
class Trouble:
    """What can be wrong with a resource: an identity of fedtwin-alarms, a severity, and words."""

    resource: str
    kind: str
    severity: str
    text: str


class AlarmList:
    """Alarms as the device reports them: cleared ones stay listed (RFC 8632 3.5.1)."""

    def __init__(self, store: DeviceDatastore) -> None:
        self._store = store
        self._standing: dict[Trouble, bool] = {}
        self._changes: dict[Trouble, deque[str]] = {}  # paths of the status changes that are listed
        store.put(f"{_LIST}/number-of-alarms", 0)

    def note(self, trouble: Trouble, *, wrong: bool) -> None:
        """Whether something is wrong now; only a change of that is told."""
        known = self._standing.get(trouble)
        if known == wrong or (known is None and not wrong):
            return
        self._standing[trouble] = wrong
        self._store.put_many(self._entry(trouble, known is None, wrong))

    def _entry(self, trouble: Trouble, new: bool, wrong: bool) -> Iterator[tuple[str, Any]]:
        now = datetime.fromtimestamp(self._store.clock() / 1e9, UTC)
        at = now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
        key = f'[resource="{trouble.resource}"][alarm-type-id="fedtwin-alarms:{trouble.kind}"]'
        entry = f'{_LIST}/alarm{key}[alarm-type-qualifier=""]'
        if new:
            yield f"{entry}/time-created", at
            yield f"{entry}/perceived-severity", trouble.severity
            yield f"{entry}/alarm-text", trouble.text
        if wrong:
            yield f"{entry}/last-raised", at
        changes = self._changes.setdefault(trouble, deque())
        changes.append(f"{entry}/status-change[time='{at}']")
        yield f"{changes[-1]}/perceived-severity", trouble.severity if wrong else "cleared"
        yield f"{changes[-1]}/alarm-text", trouble.text
        if len(changes) > _CHANGES:
            self._store.delete(changes.popleft())
        yield f"{entry}/is-cleared", not wrong
        yield f"{entry}/last-changed", at
        yield f"{_LIST}/number-of-alarms", len(self._standing)
        yield f"{_LIST}/last-changed", at


class Overload:
    """Says of a resource, from how busy it was in each interval, whether it is overloaded."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        self._wrong = False
        self._intervals = 0

    def measured(self, busy: float) -> None:
        """Take in the share of an interval in which the resource was busy."""
        turning = busy < _QUIET if self._wrong else busy > _BUSY
        self._intervals = self._intervals + 1 if turning else 0
        if self._intervals >= _INTERVALS:
            self._wrong, self._intervals = not self._wrong, 0
            self._tell(self._wrong)
