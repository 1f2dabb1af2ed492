"""Whose data a controller sends: its batches with each leaf at the device that it is about.

Owns attribution and the list of devices that a controller may speak for. A leaf belongs to the device that
the session names (gNMI: the target of the prefix). What a controller says under its own name of a network
(RFC 8345) belongs, below a node, to the device that the node is, and below a link to that of its source node.
A node is the device of its id, or of its id's last part (`urn:ndt:transport:warsaw` is `warsaw`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from domain_twin.errors import SchemaViolation
from domain_twin.model import Delete, Sync, Update, UpdateBatch
from domain_twin.yang.paths import parse_path

__all__ = ["Attribution"]

_NETWORKS = "/ietf-network:networks/network["
_SOURCE = "/source/source-node"
_CACHED_PATHS = 500_000
MOST_WAITING = 10_000
"""Leaves of links that wait for their source node; beyond, they stay with the controller."""
MOST_REFUSED = 1_000
"""Names that are remembered of devices it must not speak for."""


class Attribution:
    """Gives each leaf of one controller's batches its device."""

    def __init__(self, controller: str, allowed: Iterable[str], taken: Collection[str] = ()) -> None:
        """`allowed`: devices it may speak for; empty: any but `taken`, which have sessions of their own."""
        self.controller = controller
        self.allowed = frozenset(allowed)
        self.devices: dict[str, None] = dict.fromkeys([controller, *sorted(self.allowed)])
        self.heard: set[str] = set()  # since the last BEGIN
        self.refused: Counter[str] = Counter()
        self._taken = frozenset(taken) - {controller}
        self._owners: dict[str, str | tuple[str, str]] = {}  # path -> device, or the link that it is of
        self._links: dict[tuple[str, str], str] = {}
        self._waiting: dict[tuple[str, str], list[Update]] = {}
        self._waits = 0

    def attribute(self, batch: UpdateBatch) -> UpdateBatch:
        """The batch with its leaves at their devices, without those of devices that it must not speak for."""
        if batch.sync is Sync.BEGIN:
            self.heard = set()
            self._links.clear()
            self._waiting.clear()
            self._waits = 0
        deletes = [delete for item in batch.deletes for delete in self._delete(item)]
        updates: list[Update] = []
        own = self.controller
        for update in batch.updates:
            if update.device == own and update.path.startswith(_NETWORKS) and update.path.endswith(_SOURCE):
                updates += self._learn(update)
        for update in batch.updates:
            device, path = update.device, update.path
            found: str | tuple[str, str] = device
            if device == own and path.startswith(_NETWORKS):
                found = self._owner(path)
            if isinstance(found, str):
                owner = found
            elif found in self._links or self._waits >= MOST_WAITING:
                owner = self._links.get(found, own)
            else:
                self._waiting.setdefault(found, []).append(update)
                self._waits += 1
                continue
            if self._permits(owner):
                updates.append(update if owner == device else update._replace(device=owner))
        if batch.sync is Sync.END:
            for waiting in self._waiting.values():  # links without a source: they stay with the controller
                updates += [update for update in waiting if self._permits(own)]
            self._waiting.clear()
            self._waits = 0
        return replace(batch, updates=tuple(updates), deletes=tuple(deletes))

    def _permits(self, device: str) -> bool:
        if device in self.heard:
            return True
        if device != self.controller and (
            device in self._taken or (self.allowed and device not in self.allowed)
        ):
            if device in self.refused or len(self.refused) < MOST_REFUSED:
                self.refused[device] += 1
            return False
        self.heard.add(device)
        self.devices[device] = None
        return True

    def _owner(self, path: str) -> str | tuple[str, str]:
        """The device that a leaf of a network is of, or the link whose source node says so."""
        owner = self._owners.get(path)
        if owner is None:
            if len(self._owners) >= _CACHED_PATHS:
                self._owners.clear()
            owner = self._owners[path] = self._look(path)
        return owner

    def _look(self, path: str) -> str | tuple[str, str]:
        try:
            steps = parse_path(path)
        except SchemaViolation:
            return self.controller
        if len(steps) > 2 and steps[2].keys and steps[1].keys:
            if steps[2].name == "node":
                return self._device_of(steps[2].keys[0][1])
            if steps[2].name == "link":
                return steps[1].keys[0][1], steps[2].keys[0][1]
        return self.controller

    def _device_of(self, node: str) -> str:
        return node if node in self.devices else node.rpartition(":")[2]

    def _learn(self, source: Update) -> list[Update]:
        """Note whose link it is, and give what waited for that. A link stays whose it was until a resync."""
        link = self._owner(source.path)
        if not isinstance(link, tuple) or link in self._links:
            return []
        owner = self._links[link] = self._device_of(str(source.value))
        waited = self._waiting.pop(link, [])
        self._waits -= len(waited)
        return [update._replace(device=owner) for update in waited if self._permits(owner)]

    def _delete(self, delete: Delete) -> list[Delete]:
        if delete.device != self.controller:
            return [delete] if self._permits(delete.device) else []
        if delete.path.startswith(_NETWORKS):
            owner = self._look(delete.path)
            if isinstance(owner, tuple):
                owner = self._links.get(owner, self.controller)
            if owner != self.controller:
                return [delete._replace(device=owner)] if self._permits(owner) else []
        elif not _above_networks(delete.path):
            return [delete]
        return [delete._replace(device=device) for device in self.devices]


def _above_networks(path: str) -> bool:
    return path in {"/", "/ietf-network:networks", "/ietf-network:networks/network"}
