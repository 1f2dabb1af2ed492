"""Joins packet network and devices' datastores: what devices report, what their configuration does.

Owns each device's initial YANG data, its counters and measurements once an interval, its states at once, and
the list of configuration leaves that have an effect; every other change of configuration is refused, so that
nothing is accepted that does nothing. Belongs to the asyncio thread.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain_twin.emulator import device_data as data
from domain_twin.emulator.alarms import AlarmList, Overload, Trouble
from domain_twin.emulator.device import ConfigChange, ConfigRejected, DeviceDatastore, load_schema
from domain_twin.emulator.engine import Measurement
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.state import LOST_ERROR, LOST_FULL, LOST_NO_LINK
from domain_twin.emulator.topology import Cell, Device, End, Link, Topology

__all__ = ["Binding"]

log = logging.getLogger(__name__)

_Values = Iterator[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class _Knob:
    """A configuration leaf with an effect: how to take a value over, and which values make sense."""

    take: Callable[[Any], None]
    default: Any = None  # what deleting the leaf means; None: it may not be deleted
    least: float | None = None


class Binding:
    """All served devices' datastores, kept true to the network."""

    def __init__(self, spec: NetworkSpec, topology: Topology, plant: Plant) -> None:
        self.stores: dict[str, DeviceDatastore] = {}
        self._spec, self._topology, self._plant = spec, topology, plant
        self._reverse = {link.index: topology.link_of[link.target.tp_id] for link in topology.links}
        self._knobs: dict[str, dict[str, _Knob]] = {}
        self._zero: dict[str, Any] = {}  # counters at the last restart
        self._last: Measurement | None = None
        self._without_delay: set[str] = set()
        self._alarms: dict[str, AlarmList] = {}
        self._overloads: dict[str, list[tuple[int, Overload]]] = {}  # by device: resource, its judge
        plant.on_change = self.report_states
        for device in topology.devices:
            if device.domain in spec.domains:
                self._add(device)

    def _add(self, device: Device) -> None:
        store = DeviceDatastore(device.name, load_schema(data.modules_of(device)))
        store.load(data.configuration(self._topology, device), {})
        self.stores[device.name] = store
        self._knobs[device.name] = dict(self._knobs_of(device))
        self._alarms[device.name] = AlarmList(store)
        self._overloads[device.name] = list(self._judges(device))
        self._boot(device)
        self._report_states(device)
        store.validate_config = lambda change: self._check(device, change)
        store.on_config_change = lambda change: self._take_over(device, change)

    # ---- configuration -------------------------------------------------------------------------------------

    def _knobs_of(self, device: Device) -> Iterator[tuple[str, _Knob]]:
        asked = self._plant.configured

        def into(table: dict[str, Any], key: str) -> Callable[[Any], None]:
            return lambda value: table.__setitem__(key, value)

        def lock(key: str) -> Callable[[Any], None]:
            return lambda value: asked.unlocked.__setitem__(key, value == "UNLOCKED")

        def share(key: str) -> Callable[[Any], None]:
            return lambda value: asked.prb_share.__setitem__(key, float(value))  # decimal64 is a Decimal

        for end in device.ends:
            yield data.interface(end) + "/enabled", _Knob(into(asked.enabled, end.tp_id), True)
            yield data.metric(self._topology, end), _Knob(into(asked.metric, end.tp_id), 1, least=1)
        for cell in self._topology.cells:
            if cell.device is device:
                at = data.cell(cell)
                yield f"{at}/administrativeState", _Knob(lock(cell.cell_id), "UNLOCKED")
                yield f"{at}/prb-share", _Knob(share(cell.cell_id), 1.0, least=0.01)
                yield f"{at}/bSChannelBwDL", _Knob(into(asked.bandwidth_mhz, cell.cell_id), least=5)
        function = data.function(device)
        if function:
            yield f"{function}/administrativeState", _Knob(lock(device.node_id), "UNLOCKED")
            yield f"{function}/workers", _Knob(into(asked.workers, device.node_id), least=1)

    def _check(self, device: Device, change: ConfigChange) -> None:
        knobs = self._knobs[device.name]
        for leaf in change.leaves:
            if data.is_free(leaf.path):
                continue
            knob = knobs.get(leaf.path)
            if knob is None:
                raise ConfigRejected(leaf.path, f"{device.name} is built that way: not configurable")
            if leaf.new is None and knob.default is None:
                raise ConfigRejected(leaf.path, f"{device.name} cannot work without it")
            if knob.least is not None and leaf.new is not None and leaf.new < knob.least:
                raise ConfigRejected(leaf.path, f"must be at least {knob.least:g}, not {leaf.new}")

    def _take_over(self, device: Device, change: ConfigChange) -> None:
        knobs = self._knobs[device.name]
        for leaf in change.leaves:
            knob = knobs.get(leaf.path)
            if knob is not None:
                knob.take(knob.default if leaf.new is None else leaf.new)
        self._plant.settle()

    # ---- states, at once -----------------------------------------------------------------------------------

    def report_states(self, devices: set[Device]) -> None:
        """Write the states of devices that have changed."""
        for device in self._topology.devices:
            if device in devices and device.name in self.stores:
                self._report_states(device)

    def _report_states(self, device: Device) -> None:
        self.stores[device.name].put_many(self._states(device))
        for trouble, wrong in self._troubles(device):
            self._alarms[device.name].note(trouble, wrong=wrong)

    def _troubles(self, device: Device) -> Iterator[tuple[Trouble, bool]]:
        """What can be wrong with the parts of a device, and whether it is."""
        for end in device.ends:
            words = f"{end.name} is enabled and down"
            wrong = (
                self._plant.configured.enabled[end.tp_id] and not self._plant.links[self._link(end).index].up
            )
            yield Trouble(data.interface(end), "interface-down", "major", words), wrong
        for cell in self._topology.cells:
            if cell.device is device:
                wrong = self._plant.configured.unlocked[cell.cell_id] and not self._plant.cells[cell.index].up
                words = f"cell {cell.local_id} is unlocked and off the air"
                yield Trouble(data.cell(cell), "cell-out-of-service", "critical", words), wrong
        if function := data.function(device):
            serving = self._plant.nodes[device.index].serving
            wrong = self._plant.configured.unlocked[device.node_id] and not serving
            kind = "host-out-of-service" if device.domain == "edge" else "function-out-of-service"
            yield Trouble(function, kind, "critical", f"{device.name} is unlocked and does not serve"), wrong

    def _judges(self, device: Device) -> Iterator[tuple[int, Overload]]:
        alarms = self._alarms[device.name]

        def judge(resource: str, words: str) -> Overload:
            trouble = Trouble(resource, "overload", "warning", words)
            return Overload(lambda wrong: alarms.note(trouble, wrong=wrong))

        for end in device.ends:
            yield self._link(end).index, judge(data.interface(end), f"{end.name} sends all the time")
        first_cell = len(self._topology.links) + len(self._topology.devices)
        for cell in self._topology.cells:
            if cell.device is device:
                words = f"cell {cell.local_id} is on the air all the time"
                yield first_cell + cell.index, judge(data.cell(cell), words)
        if function := data.function(device):
            words = f"all workers of {device.name} are busy all the time"
            yield len(self._topology.links) + device.index, judge(function, words)

    def _states(self, device: Device) -> _Values:
        for number, end in enumerate(device.ends, start=1):
            at = data.interface(end)
            yield f"{at}/if-index", number
            enabled = self._plant.configured.enabled[end.tp_id]
            up = self._plant.links[self._topology.link_of[end.tp_id].index].up
            yield f"{at}/admin-status", "up" if enabled else "down"
            yield f"{at}/oper-status", "up" if up else "down"
        for cell in self._topology.cells:
            if cell.device is device:
                state = self._plant.cells[cell.index]
                yield f"{data.cell(cell)}/operationalState", "ENABLED" if state.up else "DISABLED"
        function = data.function(device)
        if function:
            serving = self._plant.nodes[device.index].serving
            yield f"{function}/operationalState", "ENABLED" if serving else "DISABLED"

    def restarted(self, device: Device) -> None:
        """A device has come back from a restart: its counters begin again."""
        if device.name in self.stores:
            self._boot(device)

    def _boot(self, device: Device) -> None:
        if self._last is not None:
            self._zero[device.name] = self._last.resources
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        values = self.stores[device.name]
        for end in device.ends:
            values.put(f"{data.interface(end)}/speed", round(self._link(end).adjacency.capacity_mbps * 1e6))
            values.put(f"{data.interface(end)}/statistics/discontinuity-time", since)
            for name in data.COUNTERS:
                values.put(f"{data.interface(end)}/statistics/{name}", 0)

    def _link(self, end: End) -> Link:
        return self._topology.link_of[end.tp_id]

    # ---- measurements, once an interval --------------------------------------------------------------------

    def report(self, measurement: Measurement) -> None:
        """Write what every device measured in the interval that has ended."""
        self._last = measurement
        for device in self._topology.devices:
            store = self.stores.get(device.name)
            if store is None or self._plant.down(device):
                continue
            store.put("/fedtwin-performance:performance/interval", round(measurement.interval * 1e3))
            store.put_many(self._counters(device, measurement))
            self._put_performance(store, device, measurement)
            for resource, overload in self._overloads[device.name]:
                overload.measured(float(measurement.busy[resource]))

    def _counters(self, device: Device, measurement: Measurement) -> _Values:
        train = self._spec.train
        zero = self._zero.get(device.name)
        for end in device.ends:
            out, into = self._link(end).index, self._reverse[self._link(end).index].index
            at = f"{data.interface(end)}/statistics/"

            def count(index: int, name: str, cause: int | None = None) -> int:
                now, then = measurement.resources[index], None if zero is None else zero[index]
                if cause is None:
                    return int(now[name] - (0 if then is None else then[name])) * train
                return int(now[name][cause] - (0 if then is None else then[name][cause])) * train

            yield at + "out-octets", count(out, "out_octets")
            yield at + "out-unicast-pkts", count(out, "out_packets")
            yield at + "out-discards", count(out, "causes", LOST_FULL) + count(out, "causes", LOST_NO_LINK)
            yield at + "in-octets", count(into, "in_octets")
            yield at + "in-unicast-pkts", count(into, "in_packets")
            yield at + "in-errors", count(into, "causes", LOST_ERROR)

    def _put_performance(self, store: DeviceDatastore, device: Device, measurement: Measurement) -> None:
        seconds, train = measurement.interval, self._spec.train
        for end in device.ends:
            link = self._link(end)
            at = data.link_performance(link)
            self._put_one_way(store, at, link.index, measurement)
            octets = float(measurement.resources[link.index]["octets"])
            store.put(f"{at}/carried-rate", _decimal(octets * 8 * train / seconds / 1e6, 3))
            store.put(f"{at}/queue-occupancy", round(float(measurement.queue[link.index])) * train)
        for cell in self._topology.cells:
            if cell.device is device:
                self._put_cell(store, cell, measurement)
        function = data.function(device)
        if function:
            index = len(self._topology.links) + device.index
            at = f"{function}/performance"
            self._put_one_way(store, at, index, measurement)
            handled = float(measurement.resources[index]["count"])
            store.put(f"{at}/handled-rate", _decimal(handled * train / seconds, 3))

    def _put_cell(self, store: DeviceDatastore, cell: Cell, measurement: Measurement) -> None:
        index = len(self._topology.links) + len(self._topology.devices) + cell.index
        at, state = f"{data.cell(cell)}/performance", self._plant.cells[cell.index]
        self._put_one_way(store, at, index, measurement)
        octets = float(measurement.resources[index]["octets"])
        rate = octets * 8 * self._spec.train / measurement.interval / 1e6
        store.put(f"{at}/mcs", _decimal(state.mcs, 2))
        store.put(f"{at}/cell-rate", _decimal(state.rate_mbps if state.up else 0.0, 3))
        store.put(f"{at}/carried-rate", _decimal(rate, 3))
        # Every train of packets in the air is one user's burst.
        store.put(f"{at}/active-ues", int(measurement.queue[index]))

    def _put_one_way(self, store: DeviceDatastore, at: str, index: int, measurement: Measurement) -> None:
        """The grouping one-way-performance; a resource that carried nothing has no delay to report."""
        did = measurement.resources[index]
        count, lost = float(did["count"]), float(did["lost"])
        if count:
            mean = float(did["delay"]) / count
            variance = max(0.0, float(did["square"]) / count - mean * mean)
            store.put(f"{at}/one-way-delay", _decimal(mean * 1e6, 3))
            store.put(f"{at}/delay-variance", _decimal(variance * 1e12, 3))
            self._without_delay.discard(at)
        elif at not in self._without_delay:
            store.delete(f"{at}/one-way-delay")
            store.delete(f"{at}/delay-variance")
            self._without_delay.add(at)
        store.put(f"{at}/loss-ratio", _decimal(lost / (count + lost) if lost else 0.0, 9))
        store.put(f"{at}/samples", int(count))
        store.put(f"{at}/utilisation", _decimal(float(measurement.busy[index]), 9))


def _decimal(value: float, digits: int) -> float:
    return round(value, digits) if math.isfinite(value) else 0.0
