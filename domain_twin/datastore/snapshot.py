"""An immutable state: what every device's leaves were at one version. Owns look-ups in it; never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from domain_twin.datastore.encoding import state_hash
from domain_twin.datastore.patterns import PathPattern
from domain_twin.model import Change, Delta, Nanoseconds, Origin, StateKind, Value, Version


class Leaf(NamedTuple):
    """What is known of one leaf. `source` is the session (or recording) that said it last."""

    value: Value
    observed_at: Nanoseconds
    received_at: Nanoseconds
    origin: Origin = Origin.MEASURED
    source: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The leaves of all devices, device -> path -> leaf, at one version."""

    version: Version
    devices: Mapping[str, Mapping[str, Leaf]]
    kind: StateKind = StateKind.SNAPSHOT
    resolution_ns: Nanoseconds = 0  # figures are as of the last full interval of this length; 0: exact

    def get(self, pattern: str, device: str = "") -> dict[tuple[str, str], Leaf]:
        """The leaves that `pattern` names, of one device or (by default) of all. Raises NotFound."""
        wanted = PathPattern.parse(pattern)
        return {
            (name, path): leaf
            for name, leaves in sorted(self.devices.items())
            if device in {"", name}
            for path, leaf in leaves.items()
            if wanted.matches(path)
        }

    def items(self) -> Iterator[tuple[str, str, Leaf]]:
        """Every leaf as (device, path, leaf)."""
        for device, leaves in self.devices.items():
            for path, leaf in leaves.items():
                yield device, path, leaf

    def as_delta(self) -> Delta:
        """The change from nothing to this state, for whoever folds deltas (such as the mapping)."""
        changes = tuple(
            Change(device, path, leaf.value, leaf.observed_at, leaf.received_at, leaf.origin)
            for device, path, leaf in self.items()
        )
        return Delta(Version(self.version.epoch, 0), self.version, changes)

    def state_hash(self) -> str:
        """What this state has in common with every state of equal values and origins, and with no other."""
        return state_hash((device, path, leaf.value, leaf.origin) for device, path, leaf in self.items())

    def __len__(self) -> int:
        return sum(len(leaves) for leaves in self.devices.values())


def snapshot_of(version: Version, leaves: Iterable[tuple[str, str, Leaf]]) -> Snapshot:
    """A snapshot made of single leaves."""
    devices: dict[str, dict[str, Leaf]] = {}
    for device, path, leaf in leaves:
        devices.setdefault(device, {})[path] = leaf
    return Snapshot(version, devices)
