"""From batches to the network model: type, store, remember, map. Owns the order of the stages; does no I/O.

Runs on the agent's event loop. What a batch breaks is set aside and counted; the rest goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import (
    Connection,
    Delta,
    DeviceStatus,
    Finding,
    Nanoseconds,
    Network,
    Severity,
    Update,
    UpdateBatch,
)
from domain_twin.yang.quarantine import Quarantined, Typer

log = logging.getLogger(__name__)


_FRACTION_DIGITS = (9, 6, 4, 3, 2, 1, 0)
MAX_LEAVES = 1_000_000
"""Leaves of one device; a core router with 10,000 interfaces has about half of that."""


class Memory(Protocol):
    """Where changes are remembered."""

    def append(self, delta: Delta) -> None:
        """Remember what changed; never blocks."""
        ...


class Pipeline:
    """One domain's live twin.

    `on_change` is called after every batch that changed something, with what changed (None: the state of a
    session) and whether that is more than figures.
    """

    def __init__(
        self,
        *,
        devices: Iterable[str],
        typer: Typer,
        store: LiveStore,
        mapper: Mapper,
        history: Memory | None,
        on_change: Callable[[Delta | None, bool], None],
        max_leaves: int = MAX_LEAVES,
    ) -> None:
        """`max_leaves` is how many a device may have; those that it invents beyond are left out."""
        self.store = store
        self._max_leaves = max_leaves
        self._full: set[str] = set()  # devices with that many
        self._left_out: Counter[str] = Counter()
        self._typer = typer
        self._mapper = mapper
        self._history = history
        self._on_change = on_change
        self._quarantine: dict[str, Quarantined] = {}  # the latest per device
        self._statuses: dict[str, DeviceStatus] = {
            name: DeviceStatus(name, "", Connection.CONNECTING) for name in devices
        }

    def network(self) -> Network:
        """The domain's network now."""
        return self._mapper.network()

    def device_statuses(self) -> list[DeviceStatus]:
        """How well each device is mirrored, by name."""
        return [self._statuses[name] for name in sorted(self._statuses)]

    def complete(self) -> bool:
        """Whether every device is in step, or known to be lost."""
        settled = (Connection.SYNCHRONISED, Connection.STALE)
        return all(status.connection in settled for status in self._statuses.values())

    def synchronised(self, name: str) -> bool:
        """Whether all that a device has is known."""
        status = self._statuses.get(name)
        return status is not None and status.connection is Connection.SYNCHRONISED

    def device_status(self, name: str) -> DeviceStatus | None:
        """The state of one device's session; None for one that was never started."""
        return self._statuses.get(name)

    def ingest(self, batch: UpdateBatch) -> None:
        """Fold one batch into the live state."""
        typed, quarantined = self._typer.type_batch(batch)
        for bad in quarantined:
            if bad.device not in self._quarantine:
                log.warning(
                    "leaf quarantined", extra={"device": bad.device, "path": bad.path, "why": bad.reason}
                )
            self._quarantine[bad.device] = bad
        if self._full:
            typed = self._without_new_leaves(typed)
        delta = self.store.apply(typed)
        if delta is None:
            return
        if self._history:
            self._history.append(delta)
        self._mapper.apply(delta)
        self._on_change(delta, self._mapper.restructured)

    def lost_since(self, device: str, path: str) -> Nanoseconds:
        """When a leaf was last heard whose session is lost; 0: it is fresh, or not known."""
        return self.store.lost_since(device, path)

    def impute(self, updates: Sequence[Update], now: Nanoseconds) -> int:
        """Let values stand in for leaves whose sessions are lost; how many leaves changed.

        Numbers are rounded to what the leaf's type takes; what still breaks it is left out.
        """
        kept = [typed for update in updates if (typed := self._fitting(update, now))]
        delta = self.store.impute(kept, now=now)
        if delta is None:
            return 0
        if self._history:
            self._history.append(delta)
        self._mapper.apply(delta)
        self._on_change(delta, self._mapper.restructured)
        return len(delta.changes)

    def _fitting(self, update: Update, now: Nanoseconds) -> Update | None:
        """An imputed number in its leaf's type (decimal64 has so many fraction digits and no more)."""
        if not isinstance(update.value, float):
            raise TypeError(f"{update.path}: only numbers are imputed, not {update.value!r}")
        for digits in _FRACTION_DIGITS:
            text = f"{update.value:.{digits}f}"
            batch = UpdateBatch("imputed", now, (update._replace(value=text if digits else int(text)),))
            typed, refused = self._typer.type_batch(batch)
            self._typer.counts.subtract(bad.device for bad in refused)  # no device said it
            if not refused:
                return typed.updates[0]
        return None

    def _without_new_leaves(self, batch: UpdateBatch) -> UpdateBatch:
        """A batch without what would add to a device that has more leaves than it may."""
        full, knows = self._full, self.store.knows
        kept = tuple(
            [update for update in batch.updates if update[0] not in full or knows(update[0], update[1])]
        )
        if len(kept) == len(batch.updates):
            return batch
        self._left_out.update(update[0] for update in batch.updates)
        self._left_out.subtract(update[0] for update in kept)
        return replace(batch, updates=kept)

    def limit(self) -> None:
        """Look which devices have more leaves than they may; to be called every second or so."""
        self._full = {
            status.name
            for status in self._statuses.values()
            if (freshness := self.store.freshness(status.name)) and freshness.leaves >= self._max_leaves
        }

    def set_status(self, status: DeviceStatus) -> bool:
        """Take over the state of a device's session; True when it is news."""
        if status.problem and status.connection is Connection.CONNECTING:
            status = replace(status, connection=Connection.STALE)  # one more attempt is no news
        previous = self._statuses.get(status.name)
        self._statuses[status.name] = status
        if previous and (previous.connection, previous.problem) == (status.connection, status.problem):
            return False
        stale = status.connection is not Connection.SYNCHRONISED
        joining = previous is None and status.connection is Connection.SYNCHRONISING
        if stale and not joining:  # a device that its controller names meanwhile breaks no resync
            self.store.mark_stale(status.name)
        self._mapper.set_stale(status.name, stale)
        self._on_change(None, True)
        return True

    def findings(self, now: Nanoseconds) -> list[Finding]:
        """What a person should see about devices and their data."""
        found = []
        for status in self.device_statuses():
            if status.connection is Connection.STALE:
                found.append(
                    Finding(
                        code="device.stale",
                        severity=Severity.ERROR,
                        domain=self._mapper.domain,
                        element=status.name,
                        message=f"{status.name} does not answer; its values are the last known ones."
                        f" {status.problem}",
                        remedy="check the device, its management address and the agent's credentials",
                        since=status.received_at or now,
                    )
                )
        for device in sorted(self._full):
            found.append(
                Finding(
                    code="device.too-many-leaves",
                    severity=Severity.ERROR,
                    domain=self._mapper.domain,
                    element=device,
                    message=f"{device} has {self._max_leaves:,} leaves or more; what it added beyond"
                    f" ({self._left_out[device]:,} updates) is left out",
                    remedy="name what matters under [[device]] paths, or raise [intake] max_leaves",
                )
            )
        for device, bad in sorted(self._quarantine.items()):
            count = self._typer.counts[device]
            found.append(
                Finding(
                    code="device.quarantine",
                    severity=Severity.WARNING,
                    domain=self._mapper.domain,
                    element=device,
                    message=f"{count} values of {device} break their YANG type and were set aside;"
                    f" the last: {bad.path}: {bad.reason}",
                    remedy="compare the device's software with the YANG modules it claims; add its own"
                    " modules under [yang] directories",
                )
            )
        return found

    def count(self, status: DeviceStatus) -> DeviceStatus:
        """The status with what this pipeline knows of the device: leaves, updates, values set aside."""
        freshness = self.store.freshness(status.name)
        return replace(
            status,
            leaves=freshness.leaves if freshness else 0,
            received_at=freshness.received_at if freshness else status.received_at,
            updates=(freshness.updates if freshness else 0) + self._typer.counts[status.name],
            quarantined=self._typer.counts[status.name],
        )
