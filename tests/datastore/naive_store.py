"""The live store's rules, spelled out on plain dictionaries: what the real one is compared with."""

from __future__ import annotations

from domain_twin.datastore.live import AHEAD, LATE
from domain_twin.model import Sync, UpdateBatch, Value
from domain_twin.yang.paths import covers

Key = tuple[str, str]


def typed(value: Value) -> object:
    """A value that equals another only if both have one type."""
    if isinstance(value, tuple):
        return tuple(typed(item) for item in value)
    return (type(value).__name__, value)


class NaiveStore:
    def __init__(self) -> None:
        self.leaves: dict[Key, tuple[Value, int, int, str]] = {}  # value, observed, received, source
        self.spoken: dict[str, set[str]] = {}
        self.syncs: dict[str, set[Key]] = {}
        self.graves: list[tuple[str, str, int, int]] = []
        self.stale: set[tuple[str, str]] = set()

    def state(self) -> dict[Key, object]:
        return {key: typed(leaf[0]) for key, leaf in self.leaves.items()}

    def apply(self, batch: UpdateBatch) -> None:
        now = batch.received_at
        if batch.sync is Sync.BEGIN:
            self.syncs[batch.source] = set()
        syncing = batch.source in self.syncs
        removed: dict[Key, tuple[Value, int, int, str]] = {}
        for device, top, stated in batch.deletes:
            at = stated if 0 < stated <= now + AHEAD else now
            for key, leaf in list(self.leaves.items()):
                if key[0] == device and covers(top, key[1]):
                    if not syncing and at < leaf[1] and now - leaf[2] < LATE:
                        continue
                    removed[key] = self.leaves.pop(key)
        for device, path, value, stated, _ in batch.updates:
            self.spoken.setdefault(batch.source, set()).add(device)
            at = stated if 0 < stated <= now + AHEAD else now
            key = (device, path)
            old = self.leaves.get(key) or removed.get(key)
            if syncing:
                self.syncs[batch.source].add(key)
            elif old is not None:
                if at < old[1] and now - old[2] < LATE:
                    continue
            elif any(
                d == device and covers(top, path) and at < dead and now - heard < LATE
                for d, top, dead, heard in self.graves
            ):
                continue
            self.leaves[key] = (value, at, now, batch.source)
        for device, top, at in batch.deletes:
            known = any(device in devices for devices in self.spoken.values())
            if known and 0 < at <= now + AHEAD:
                self.graves.append((device, top, at, now))
        if batch.sync is Sync.END and syncing:
            seen = self.syncs.pop(batch.source)
            for key, leaf in list(self.leaves.items()):
                if leaf[3] == batch.source and key not in seen:
                    del self.leaves[key]
            self.stale -= {(device, batch.source) for device in self.spoken.get(batch.source, ())}
