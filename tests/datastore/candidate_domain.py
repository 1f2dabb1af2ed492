"""An emulated domain's devices with their real trees, without packets: edited, and read like twins do."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from domain_twin.datastore.snapshot import Leaf, Snapshot, snapshot_of
from domain_twin.emulator.assemble import dimension
from domain_twin.emulator.binding import Binding
from domain_twin.emulator.device import Actor, Change
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.topology import Topology, build_topology
from domain_twin.emulator.traffic import plan_flows
from domain_twin.mapping.mapper import Mapper
from domain_twin.mapping.tables import modules
from domain_twin.model import Network, Update, UpdateBatch, Version
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.tree import flatten

AT = 1_800_000_000_000_000_000


@cache
def schema() -> SchemaSet:
    """The modules that twins load."""
    return SchemaSet.load([*modules(), "iana-if-type", "fedtwin-alarms"])


class Devices:
    """One domain's devices."""

    def __init__(self, domain: str) -> None:
        spec = NetworkSpec(domains=(domain,))
        self.domain = domain
        self.topology: Topology = build_topology(spec)
        dimension(spec, self.topology, plan_flows(spec, self.topology))
        self._binding = Binding(spec, self.topology, Plant(spec, self.topology, lambda command: None))

    def put(self, device: str, path: str, value: object) -> None:
        """Have a device report a value."""
        self._binding.stores[device].put(path, value)

    def edit(self, device: str, path: str, value: object) -> None:
        """Edit a device's configuration for real."""
        self._binding.stores[device].edit([Change("replace", path, value)], Actor("test"))

    def snapshot(self) -> Snapshot:
        """All that the devices say."""
        leaves: list[tuple[str, str, Leaf]] = []
        for device, store in sorted(self._binding.stores.items()):
            said = flatten(schema(), "/", store.get_json())
            updates = tuple(Update(device, path, value, AT) for path, value in said)
            typed, bad = Typer(schema()).type_batch(UpdateBatch("test", AT, updates))
            assert not bad, bad[:3]
            leaves += [(device, item.path, Leaf(item.value, AT, AT)) for item in typed.updates]
        return snapshot_of(Version("e", 1, AT), leaves)

    def names(self, kind: str) -> Iterable[str]:
        """Devices of a kind."""
        return [device.name for device in self.topology.devices if device.kind == kind]


def mapped(domain: str, snapshot: Snapshot) -> Network:
    """The network that a snapshot maps to."""
    mapper = Mapper(domain)
    mapper.apply(snapshot.as_delta())
    return mapper.network()
