"""The live state: device -> path -> leaf, with versions and a ring of deltas. Owns order; does no I/O.

Rules, each with a test:
- A value equal to the stored one (of the same type) refreshes its times and makes no change.
- Between BEGIN and END a source repeats all it has; what it said before and did not repeat is gone at END.
- A device time older than the stored one loses, for as long as messages can be on their way (`LATE`). A
  device whose clock was set back is believed again after that, and every one at once where the agent's own
  clock was set back: then its times compare with nothing. Within a resync the newcomer always wins.
- In one batch deletes come before updates; a leaf that is deleted and put back with its value is no change.
- An imputed value stands in for a leaf whose session is lost, and for no other; what a device says next wins,
  whatever its time. It makes no device fresher, and goes with its leaf at END.
- A device time of 0, or further ahead than clocks differ (`AHEAD`), is replaced by the time of reception.
- Sequences grow by one with every delta and never go back within an epoch.

Not thread-safe: one event loop owns a store. Snapshots are immutable and may go anywhere.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from domain_twin.datastore.encoding import same, state_hash
from domain_twin.datastore.patterns import PathPattern
from domain_twin.datastore.snapshot import Leaf, Snapshot
from domain_twin.datastore.tree import PathTree
from domain_twin.model import (
    Change,
    Delete,
    Delta,
    Nanoseconds,
    Origin,
    StateKind,
    Sync,
    Update,
    UpdateBatch,
    Version,
)
from domain_twin.yang.paths import covers

SECOND: Nanoseconds = 1_000_000_000
LATE: Nanoseconds = 30 * SECOND
AHEAD: Nanoseconds = 300 * SECOND
IMPUTED = Origin.IMPUTED
RING_CHANGES = 10_000  # kept for `since`, at 200 octets each
TOMBSTONES = 256  # deletes remembered per device, against updates that they overtook

_leaf: Callable[..., Leaf] = partial(tuple.__new__, Leaf)  # half the cost of Leaf(...), in the hot loop
_change: Callable[..., Change] = partial(tuple.__new__, Change)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh the mirror of a device is. Counters count since the store was made."""

    device: str
    received_at: Nanoseconds  # when the agent last heard from it
    observed_at: Nanoseconds  # newest device time heard
    stale: bool
    leaves: int
    updates: int
    late: int  # ignored for their age
    clock_faults: int  # device times that could not be meant

    @property
    def lag_ns(self) -> Nanoseconds:
        """How far the newest device time lay behind its reception (clock offset included)."""
        return self.received_at - self.observed_at


class _Device:
    __slots__ = (
        "clock_faults",
        "late",
        "leaves",
        "observed_at",
        "received_at",
        "shared",
        "stale",
        "tombstones",
        "tree",
        "updates",
    )

    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.shared = False  # a snapshot refers to `leaves`: copy before writing
        self.tree = PathTree()
        self.stale: set[str] = set()  # sources whose leaves are not fresh
        self.tombstones: deque[tuple[str, Nanoseconds, Nanoseconds]] = deque(maxlen=TOMBSTONES)
        self.received_at = self.observed_at = 0
        self.updates = self.late = self.clock_faults = 0

    def writable(self) -> dict[str, Leaf]:
        if self.shared:
            self.leaves = self.leaves.copy()
            self.shared = False
        return self.leaves

    def buried(self, path: str, observed_at: Nanoseconds, received_at: Nanoseconds) -> bool:
        """Whether a delete that is newer than this update came before it."""
        return any(
            observed_at < observed and 0 <= received_at - received < LATE and covers(top, path)
            for top, observed, received in self.tombstones
        )


class _Fold:
    """What one batch did so far."""

    __slots__ = ("changes", "received_at", "removed", "repeated", "source")

    def __init__(
        self, source: str, received_at: Nanoseconds, repeated: dict[str, set[str]] | None = None
    ) -> None:
        self.source = source
        self.received_at = received_at
        self.repeated = repeated  # None outside BEGIN … END
        self.removed: dict[tuple[str, str], tuple[Leaf, Nanoseconds]] = {}  # with the delete's device time
        self.changes: list[Change] = []

    def drop(self, state: _Device, name: str, path: str) -> None:
        """Take one leaf out for good."""
        leaf = state.writable().pop(path)
        state.tree.discard(path)
        now = self.received_at
        self.changes.append(_change((name, path, leaf.value, now, now, leaf.origin, True)))


class LiveStore:
    """The state that devices report, folded from their batches."""

    def __init__(self, *, epoch: str = "", sequence: int = 0, ring_changes: int = RING_CHANGES) -> None:
        self._version = Version(epoch or secrets.token_hex(8), sequence)
        self._devices: dict[str, _Device] = {}
        self._sources: dict[str, set[str]] = {}  # which devices a source has spoken for
        self._syncs: dict[str, dict[str, set[str]]] = {}  # source -> device -> paths repeated so far
        self._ring: deque[Delta] = deque()
        self._ring_size = 0
        self._ring_changes = ring_changes

    @classmethod
    def restored(cls, snapshot: Snapshot, *, epoch: str = "", ring_changes: int = RING_CHANGES) -> LiveStore:
        """A store that holds `snapshot` at its version (or at the start of `epoch`), every leaf stale."""
        version = snapshot.version
        store = cls(
            epoch=epoch or version.epoch,
            sequence=0 if epoch else version.sequence,
            ring_changes=ring_changes,
        )
        store._version = Version(store._version.epoch, store._version.sequence, version.observed_at)
        for name, path, leaf in snapshot.items():
            device = store._device(name, leaf.source)
            device.leaves[path] = leaf
            device.tree.add(path)
            device.stale.add(leaf.source)
            device.received_at = max(device.received_at, leaf.received_at)
            device.observed_at = max(device.observed_at, leaf.observed_at)
        return store

    @property
    def version(self) -> Version:
        """The version of the state now."""
        return self._version

    def apply(self, batch: UpdateBatch) -> Delta | None:
        """Fold one batch in: deletes, then updates, then what END implies. None when nothing changed."""
        source, received_at = batch.source, batch.received_at
        if batch.sync is Sync.BEGIN:
            self._syncs[source] = {}
        fold = _Fold(source, received_at, self._syncs.get(source))
        if batch.deletes:
            self._remove(fold, batch.deletes)
        if batch.updates:
            self._update(fold, batch.updates)
        elif source in self._sources:  # nothing new, yet it was heard
            for name in self._sources[source]:
                self._devices[name].received_at = max(self._devices[name].received_at, received_at)
        if batch.deletes:
            self._bury(fold, batch.deletes)
        if batch.sync is Sync.END and fold.repeated is not None:
            self._complete(fold, fold.repeated)
        return self._publish(fold.changes)

    def lost_since(self, device: str, path: str) -> Nanoseconds:
        """When a leaf was last heard whose session is lost; 0: it is fresh, or not known."""
        state = self._devices.get(device)
        leaf = None if state is None else state.leaves.get(path)
        if state is None or leaf is None or leaf.source not in state.stale:
            return 0
        return leaf.received_at

    def impute(self, updates: Iterable[Update], *, now: Nanoseconds) -> Delta | None:
        """Let values stand in for leaves whose sessions are lost, marked as imputed; others stay as they are.

        Each keeps its leaf's source, so that the device's next word, or its silence at END, replaces it.
        """
        changes = []
        for name, path, value, _, _ in updates:
            if not self.lost_since(name, path):
                continue
            leaves = self._devices[name].writable()
            old = leaves[path]
            if old.origin is IMPUTED and same(old.value, value):
                continue
            leaves[path] = _leaf((value, now, now, IMPUTED, old.source))
            changes.append(_change((name, path, value, now, now, IMPUTED, False)))
        return self._publish(changes)

    def follow(self, delta: Delta) -> None:
        """Apply a recorded delta as it stands, and take its version: a replay must not judge again."""
        for change in delta.changes:
            state = self._device(change.device, "replay")
            leaves = state.writable()
            if change.deleted:
                if leaves.pop(change.path, None) is not None:
                    state.tree.discard(change.path)
                continue
            if change.path not in leaves:
                state.tree.add(change.path)
            leaves[change.path] = _leaf(
                (change.value, change.observed_at, change.received_at, change.origin, "replay")
            )
            state.received_at = max(state.received_at, change.received_at)
            state.observed_at = max(state.observed_at, change.observed_at)
        self._version = delta.target
        self._ring.append(delta)
        self._ring_size += len(delta.changes)
        self._trim()

    def forget(self, device: str, source: str = "", *, now: Nanoseconds) -> Delta | None:
        """Delete what `source` (by default: anybody) said of a device that is no longer mirrored."""
        fold = _Fold(source, now)
        state = self._devices.get(device)
        if state is None:
            return None
        for path in [p for p, leaf in state.leaves.items() if source in {"", leaf.source}]:
            fold.drop(state, device, path)
        state.stale = {s for s in state.stale if source not in {"", s}}
        for name, devices in self._sources.items():
            if source in {"", name} or not state.leaves:
                devices.discard(device)
        if not state.leaves:
            del self._devices[device]
        return self._publish(fold.changes)

    def mark_stale(self, device: str, source: str = "") -> bool:
        """The session of `source` (by default: every session) to a device was lost; True if that is news.

        A device is fresh again when each of these sources has sent BEGIN … END.
        """
        state = self._devices.get(device)
        if state is None:
            return False
        before = bool(state.stale)
        known = {name for name, devices in self._sources.items() if device in devices}
        state.stale |= {source} if source else known
        for name in [source] if source else known:
            self._syncs.pop(name, None)  # an interrupted resync proves nothing
        return not before and bool(state.stale)

    def freshness(self, device: str) -> Freshness | None:
        """How fresh the mirror of a device is; None for one never heard of."""
        state = self._devices.get(device)
        if state is None:
            return None
        return Freshness(
            device=device,
            received_at=state.received_at,
            observed_at=state.observed_at,
            stale=bool(state.stale),
            leaves=len(state.leaves),
            updates=state.updates,
            late=state.late,
            clock_faults=state.clock_faults,
        )

    def knows(self, device: str, path: str) -> bool:
        """Whether a device has that leaf."""
        state = self._devices.get(device)
        return state is not None and path in state.leaves

    def devices(self) -> tuple[str, ...]:
        """Names of all devices ever heard of."""
        return tuple(sorted(self._devices))

    def stale_devices(self) -> frozenset[str]:
        """Names of the devices that are not fresh."""
        return frozenset(name for name, state in self._devices.items() if state.stale)

    def since(self, version: Version) -> list[Delta] | None:
        """The deltas from `version` to now, in order; None when they are not all at hand: take a snapshot."""
        behind = self._version.sequence - version.sequence
        if version.epoch != self._version.epoch or not 0 <= behind <= len(self._ring):
            return None
        return [self._ring[i] for i in range(len(self._ring) - behind, len(self._ring))]

    def get(self, pattern: str, device: str = "") -> dict[tuple[str, str], Leaf]:
        """The leaves that `pattern` names, of one device or (by default) of all. Raises NotFound."""
        wanted = PathPattern.parse(pattern)
        found: dict[tuple[str, str], Leaf] = {}
        for name in [device] if device else sorted(self._devices):
            state = self._devices.get(name)
            if state is None:
                continue
            paths = list(state.tree.below(pattern)) if wanted.exact else []
            if not paths:  # also where the keys of a list in the middle are left out
                paths = list(filter(wanted.matches, state.leaves))
            for path in paths:
                found[name, path] = state.leaves[path]
        return found

    def snapshot(self) -> Snapshot:
        """The state now, immutable. Costs nothing until a device changes, then one copy of its leaves."""
        for state in self._devices.values():
            state.shared = True
        leaves = {name: state.leaves for name, state in self._devices.items() if state.leaves}
        return Snapshot(self._version, leaves, StateKind.LIVE)

    def state_hash(self) -> str:
        """What this state has in common with every state of equal values and origins, and with no other."""
        return state_hash(
            (name, path, leaf.value, leaf.origin)
            for name, state in self._devices.items()
            for path, leaf in state.leaves.items()
        )

    def __len__(self) -> int:
        return sum(len(state.leaves) for state in self._devices.values())

    def _device(self, name: str, source: str) -> _Device:
        state = self._devices.get(name)
        if state is None:
            state = self._devices[name] = _Device()
        self._sources.setdefault(source, set()).add(name)
        return state

    def _update(self, fold: _Fold, updates: Iterable[Update]) -> None:
        """The hot loop: about a microsecond an update."""
        source, received_at, repeated, removed = fold.source, fold.received_at, fold.repeated, fold.removed
        horizon = received_at + AHEAD
        current: str | None = None
        believed: int | None = None  # the last device time that could be meant: mostly that of a whole batch
        changed = fold.changes.append
        for name, path, value, stated_at, origin in updates:
            if name != current:
                current, believed = name, None
                state = self._device(name, source)
                leaves = state.writable()
                state.received_at = max(state.received_at, received_at)
                seen = None if repeated is None else repeated.setdefault(name, set())
            state.updates += 1
            observed_at = stated_at
            if stated_at is not believed:
                if 0 < stated_at <= horizon:
                    believed = stated_at
                else:
                    state.clock_faults += 1
                    observed_at = received_at
            old = leaves.get(path)
            back = False
            if old is None and removed and (name, path) in removed:
                old, _ = removed[name, path]
                back = True
            if seen is not None:
                seen.add(path)
            elif old is not None:
                if observed_at < old[1] and 0 <= received_at - old[2] < LATE and old[3] is not IMPUTED:
                    state.late += 1
                    continue
            elif state.tombstones and state.buried(path, observed_at, received_at):
                state.late += 1
                continue
            if observed_at > state.observed_at:  # noqa: PLR1730 - a call costs more
                state.observed_at = observed_at
            if back:
                del removed[name, path]
            if back or old is None:
                state.tree.add(path)
            leaves[path] = _leaf((value, observed_at, received_at, origin, source))
            if old is not None and origin is old[3]:
                before = old[0]
                if value is before or (
                    (type(value) is not int or value == before)  # most are counters, and have changed
                    and same(before, value)
                ):
                    continue
            changed(_change((name, path, value, observed_at, received_at, origin, False)))

    def _remove(self, fold: _Fold, deletes: Iterable[Delete]) -> None:
        """Take subtrees out for now: an update in the same batch may put leaves back (a gNMI replace)."""
        received_at = fold.received_at
        for name, top, stated_at in deletes:
            state = self._devices.get(name)
            if state is None:
                continue
            observed_at = stated_at if 0 < stated_at <= received_at + AHEAD else received_at
            state.received_at = max(state.received_at, received_at)
            leaves = state.writable()
            for path in state.tree.below(top):
                leaf = leaves[path]
                overtaken = observed_at < leaf.observed_at and 0 <= received_at - leaf.received_at < LATE
                if overtaken and fold.repeated is None:
                    state.late += 1
                    continue
                fold.removed[name, path] = (leaves.pop(path), observed_at)
                state.tree.discard(path)

    def _bury(self, fold: _Fold, deletes: Iterable[Delete]) -> None:
        """Make the deletes final, and remember them against updates that they overtook."""
        received_at = fold.received_at
        for (name, path), (leaf, observed_at) in fold.removed.items():
            fold.changes.append(
                _change((name, path, leaf.value, observed_at, received_at, leaf.origin, True))
            )
        for name, top, observed_at in deletes:
            state = self._devices.get(name)
            if state is not None and 0 < observed_at <= received_at + AHEAD:
                state.tombstones.append((top, observed_at, received_at))

    def _complete(self, fold: _Fold, repeated: dict[str, set[str]]) -> None:
        """END: what the source said before and did not repeat is gone, and its devices are fresh."""
        source = fold.source
        for name in sorted(self._sources.get(source, ())):
            state = self._devices[name]
            seen = repeated.get(name, set())
            for path in [p for p, leaf in state.leaves.items() if leaf.source == source and p not in seen]:
                fold.drop(state, name, path)
            state.stale.discard(source)
        del self._syncs[source]

    def _publish(self, changes: list[Change]) -> Delta | None:
        if not changes:
            return None
        source = self._version
        newest = max([change[3] for change in changes])
        target = Version(source.epoch, source.sequence + 1, max(source.observed_at, newest))
        delta = Delta(source, target, tuple(changes))
        self._version = target
        self._ring.append(delta)
        self._ring_size += len(changes)
        self._trim()
        return delta

    def _trim(self) -> None:
        while self._ring_size > self._ring_changes and len(self._ring) > 1:
            self._ring_size -= len(self._ring.popleft().changes)


def folded(deltas: Iterable[Delta]) -> Delta | None:
    """Consecutive deltas as one: the last change of each leaf, in the order in which they came last."""
    first: Version | None = None
    last: Delta | None = None
    latest: dict[tuple[str, str], Change] = {}
    for delta in deltas:
        first = first or delta.source
        last = delta
        for change in delta.changes:
            latest.pop(change[:2], None)
            latest[change[0], change[1]] = change
    if first is None or last is None:
        return None
    return Delta(first, last.target, tuple(latest.values()))
