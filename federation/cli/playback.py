"""What a recording says, batch after batch: the state so far, and what each batch changed. Does no I/O."""

from __future__ import annotations

from domain_twin.model import Sync, UpdateBatch
from domain_twin.yang.paths import covers


class Playback:
    """Folds batches; `device` and `part` (letters of a path) narrow what is kept."""

    def __init__(self, device: str = "", part: str = "") -> None:
        self.state: dict[tuple[str, str], str] = {}
        self.sources: set[str] = set()
        self.batches = self.changed = self.first = self.last = 0
        self._device = device
        self._part = part
        self._repeated: dict[str, set[tuple[str, str]]] = {}  # by source, while it tells its full state

    def take(self, batch: UpdateBatch) -> list[tuple[str, str, str | None]]:
        """Fold one batch in; gives (device, path, value) of what changed, value None: gone."""
        self.first = self.first or batch.received_at
        self.last = batch.received_at
        self.batches += 1
        self.sources.add(batch.source)
        changes: list[tuple[str, str, str | None]] = []
        if batch.sync is Sync.BEGIN:
            self._repeated[batch.source] = set()
        for delete in batch.deletes:
            gone = [key for key in self.state if key[0] == delete.device and covers(delete.path, key[1])]
            changes += [(*key, None) for key in gone]
            for key in gone:
                del self.state[key]
        for update in batch.updates:
            if (self._device and update.device != self._device) or self._part not in update.path:
                continue
            key, value = (update.device, update.path), _text(update.value)
            if self.state.get(key) != value:
                changes.append((*key, value))
            self.state[key] = value
            if batch.source in self._repeated:
                self._repeated[batch.source].add(key)
        if batch.sync is Sync.END:
            changes += self._forget(batch.source)
        self.changed += len(changes)
        return changes

    def _forget(self, source: str) -> list[tuple[str, str, str | None]]:
        """After a full state: what the source's devices did not repeat is gone."""
        repeated = self._repeated.pop(source, None)
        if repeated is None:
            return []
        devices = {device for device, _ in repeated} | {source}
        gone = [key for key in self.state if key[0] in devices and key not in repeated]
        for key in gone:
            del self.state[key]
        return [(*key, None) for key in gone]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)
