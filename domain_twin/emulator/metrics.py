"""What an emulated network shows of itself: its clock, packets, devices and who looks at them. Owns names."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from domain_twin.emulator.engine import PacketNetwork
from domain_twin.operations.endpoint import Face
from domain_twin.operations.health import Check
from domain_twin.operations.instruments import Instrument, Kind, Sheet

if TYPE_CHECKING:
    from domain_twin.emulator.emulation import Emulation

__all__ = ["INSTRUMENTS", "EmulatorMetrics"]

_BEHIND_S = 1.0  # beyond, what devices report is not of now

_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
INSTRUMENTS = (
    Instrument("fedtwin_emulator_devices", _GAUGE, "Devices by whether their servers answer", ("up",)),
    Instrument("fedtwin_emulator_sessions", _GAUGE, "Open sessions of management protocols", ("protocol",)),
    Instrument(
        "fedtwin_emulator_lag_seconds", _GAUGE, "How far simulated time is behind the clock of the machine"
    ),
    Instrument(
        "fedtwin_emulator_skipped_seconds_total",
        _COUNTER,
        "Time left out, as the machine slept or fell behind",
    ),
    Instrument(
        "fedtwin_emulator_packets_total", _COUNTER, "Simulated packets by what became of them", ("fate",)
    ),
    Instrument("fedtwin_emulator_packet_hops_total", _COUNTER, "Hops that simulated packets made"),
    Instrument("fedtwin_emulator_packets_unborn_total", _COUNTER, "Packets not sent for want of memory"),
    Instrument("fedtwin_emulator_flows", _GAUGE, "Flows of traffic"),
    Instrument("fedtwin_emulator_faults", _GAUGE, "Faults in force"),
)


class EmulatorMetrics:
    """Reads a running emulation."""

    def __init__(self, emulation: "Emulation") -> None:
        self._emulation = emulation

    @property
    def face(self) -> Face:
        """What the endpoint serves."""
        return Face("emulator", INSTRUMENTS, self.fill, self.checks)

    def checks(self) -> Iterator[Check]:
        """What devices that report the present need."""
        lag_s = self._emulation.pacer.lag_s
        yield Check("clock", lag_s < _BEHIND_S, f"{lag_s:.3f} s behind")
        failure = self._emulation.pacer.failure
        yield Check("packets", failure is None, "moving" if failure is None else repr(failure))

    async def fill(self, sheet: Sheet) -> None:
        """Show everything as it is now; the packet network answers between two slices of its own thread."""
        emulation = self._emulation
        servers = emulation.servers.values()
        up = sum(item.up for item in servers)
        sheet.put("fedtwin_emulator_devices", up, "yes")
        sheet.put("fedtwin_emulator_devices", len(servers) - up, "no")
        for protocol in ("netconf", "gnmi"):
            sheet.put("fedtwin_emulator_sessions", sum(s.sessions(protocol) for s in servers), protocol)
        sheet.put("fedtwin_emulator_lag_seconds", emulation.pacer.lag_s)
        sheet.put("fedtwin_emulator_skipped_seconds_total", emulation.pacer.skipped_s)
        sheet.put("fedtwin_emulator_faults", len(emulation.plant.faults))
        for name, value in (await emulation.pacer.ask(_packets)).items():
            if name in ("sent", "delivered", "lost"):
                sheet.put("fedtwin_emulator_packets_total", value, name)
            else:
                sheet.put(f"fedtwin_emulator_{name}", value)


def _packets(network: PacketNetwork) -> dict[str, int]:
    head, flows = network.state.head[0], network.state.flows
    return {
        "sent": int(flows["sent"].sum()),
        "delivered": int(flows["delivered"].sum()),
        "lost": int(flows["lost"].sum()),
        "packet_hops_total": int(head["hops"]),
        "packets_unborn_total": int(head["overflow"]),
        "flows": len(network.flows),
    }
