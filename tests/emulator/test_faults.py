"""Faults and configuration: what they do to packets, and what the devices say about it."""

import pytest

from domain_twin.emulator.assemble import assemble, dimension
from domain_twin.emulator.binding import Binding
from domain_twin.emulator.commands import SetLink
from domain_twin.emulator.device import Actor, Change, ConfigRejected
from domain_twin.emulator.faults import FAULTS, describe_kinds, fault_from_json, fault_to_json
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.packet_log import truth_of
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.topology import build_topology
from domain_twin.emulator.traffic import plan_flows
from domain_twin.errors import ConfigError, NotFound

SERVICE = "gnb-1.cell-1:host-1"
OPERATOR = Actor("test")


class Emulated:
    """A whole network without servers and clock."""

    def __init__(self):
        spec = NetworkSpec(gnbs=2, cells_per_gnb=2)
        self.topology = build_topology(spec)
        flows = plan_flows(spec, self.topology)
        dimension(spec, self.topology, flows)
        self.network = assemble(spec, self.topology, flows)
        self.plant = Plant(spec, self.topology, self.network.apply)
        self.binding = Binding(spec, self.topology, self.plant)

    def run(self, seconds):
        for measurement in self.network.advance(self.network.now + seconds):
            self.binding.report(measurement)

    def inject(self, kind, **fields):
        return self.plant.inject(fault_from_json({"kind": kind, **fields}))

    def truth(self, seconds):
        now = self.network.now
        return truth_of(self.network, SERVICE, since=now - seconds, until=now - 0.05)

    def interface(self, device, towards):
        """Path of a device's interface to another device."""
        link = next(
            x
            for x in self.topology.links
            if (x.source.device.name, x.target.device.name) == (device, towards)
        )
        return f"/ietf-interfaces:interfaces/interface[name='{link.source.name}']"

    def says(self, device, towards, leaf):
        return self.binding.stores[device].get(f"{self.interface(device, towards)}/{leaf}")

    def performance(self, device, towards):
        link = self.plant.link(f"{device}-{towards}")
        path = f"/fedtwin-performance:performance/link[link-id='{link.reported_id}']"
        return self.binding.stores[device].get_json(path)

    def configure(self, device, path, value, operation="merge"):
        self.binding.stores[device].edit([Change(operation, path, value)], OPERATOR)


@pytest.fixture
def emulated():
    network = Emulated()
    network.run(2.0)
    return network


def test_devices_report_what_their_packets_did(emulated):
    emulated.run(1.0)

    there, here = "wroclaw", "poznan"
    out = emulated.says(here, there, "statistics/out-octets")
    into = emulated.says(there, here, "statistics/in-octets")
    assert out % 100 == into % 100 == 0
    assert 0 <= out - into < 100 * 100_000
    assert emulated.says(here, there, "speed") >= 2_500_000_000
    figures = {k.partition(":")[2]: v for k, v in emulated.performance(here, there).items()}
    assert 700 < float(figures["one-way-delay"]) < 2000
    assert int(figures["samples"]) > 100
    assert 0 < float(figures["utilisation"]) < 0.5
    assert float(figures["loss-ratio"]) == 0
    cell = emulated.binding.stores["gnb-1"].get_json("/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']/performance")
    assert float(cell["fedtwin-ran:carried-rate"]) == pytest.approx(200, rel=0.3)
    assert 1000 < float(cell["fedtwin-ran:one-way-delay"]) < 4000


def test_disabled_interface_darkens_both_ends_and_moves_traffic(emulated):
    before = emulated.truth(1.5)

    emulated.configure("poznan", f"{emulated.interface('poznan', 'wroclaw')}/enabled", False)

    assert emulated.says("poznan", "wroclaw", "admin-status") == "down"
    assert emulated.says("wroclaw", "poznan", "admin-status") == "up"
    assert emulated.says("poznan", "wroclaw", "oper-status") == "down"
    assert emulated.says("wroclaw", "poznan", "oper-status") == "down"
    emulated.run(3.0)
    after = emulated.truth(2.5)
    assert after.lost == 0
    assert after.parts_ms["transport"] > before.parts_ms["transport"] + 2
    figures = emulated.performance("poznan", "wroclaw")
    assert "fedtwin-performance:one-way-delay" not in figures
    emulated.configure("poznan", f"{emulated.interface('poznan', 'wroclaw')}/enabled", None, "remove")
    assert emulated.says("wroclaw", "poznan", "oper-status") == "up"
    emulated.run(3.0)
    assert "fedtwin-performance:one-way-delay" in emulated.performance("poznan", "wroclaw")
    assert emulated.truth(2.0).parts_ms["transport"] == pytest.approx(before.parts_ms["transport"], abs=0.5)


def test_link_cut_leaves_admin_status_and_ends_with_repair(emulated):
    name = emulated.inject("link-cut", link="wroclaw-poznan")

    assert emulated.says("poznan", "wroclaw", "admin-status") == "up"
    assert emulated.says("poznan", "wroclaw", "oper-status") == "down"
    emulated.plant.clear(name)
    assert emulated.says("poznan", "wroclaw", "oper-status") == "up"


def test_cut_and_disabled_link_stays_down_until_both_are_undone(emulated):
    enabled = f"{emulated.interface('poznan', 'wroclaw')}/enabled"
    name = emulated.inject("link-cut", link="poznan-wroclaw")
    emulated.configure("poznan", enabled, False)

    emulated.plant.clear(name)

    assert emulated.says("wroclaw", "poznan", "oper-status") == "down"
    emulated.configure("poznan", enabled, True)
    assert emulated.says("wroclaw", "poznan", "oper-status") == "up"


@pytest.mark.parametrize(
    ("device", "towards", "metric"), [("szczecin", "poznan", 60_000), ("upf-1", "wroclaw", 50_000)]
)
def test_metric_moves_routes(emulated, device, towards, metric):
    link = emulated.plant.link(f"{device}-{towards}")
    target = next(
        d for d in emulated.topology.devices if d.name == ("host-1" if device == "szczecin" else "gnb-1")
    )
    assert emulated.network.state.table[link.source.device.index, target.index] == link.index
    paths = {leaf.path for leaf in emulated.binding.stores[device].all_leaves() if leaf.configured}
    where = link.source.link_id if device == "szczecin" else link.source.tp_id
    path = next(p for p in paths if f"'{where}'" in p and p.endswith(("metric1", "/metric")))

    emulated.configure(device, path, str(metric) if path.endswith("metric1") else metric)
    emulated.run(1.0)

    assert emulated.network.state.table[link.source.device.index, target.index] != link.index
    with pytest.raises(ConfigRejected, match="must be at least 1, not 0"):
        emulated.configure(device, path, "0" if path.endswith("metric1") else 0)


def test_what_has_no_effect_is_refused(emulated):
    interface = emulated.interface("poznan", "wroclaw")

    with pytest.raises(ConfigRejected, match="poznan is built that way: not configurable"):
        emulated.configure("poznan", f"{interface}/type", "iana-if-type:tunnel")
    with pytest.raises(ConfigRejected, match="not configurable"):
        emulated.configure("poznan", interface, None, "delete")
    emulated.configure("poznan", f"{interface}/description", "towards Wroclaw")

    assert emulated.binding.stores["poznan"].get(f"{interface}/description") == "towards Wroclaw"


def test_locked_upf_is_avoided_and_locked_host_serves_nobody(emulated):
    emulated.configure("upf-1", "/fedtwin-core:network-function/administrativeState", "LOCKED")
    emulated.run(2.0)

    detour = emulated.truth(1.5)
    assert detour.lost == 0
    assert detour.parts_ms["edge"] > 1.2
    state = "/fedtwin-core:network-function/operationalState"
    assert emulated.binding.stores["upf-1"].get(state) == "DISABLED"
    emulated.configure("host-1", "/fedtwin-edge:edge-host/administrativeState", "LOCKED")
    emulated.run(2.0)
    assert emulated.truth(1.5).count == 0


def test_cell_follows_lock_share_and_fade(emulated):
    path = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
    air = emulated.truth(1.5).parts_ms["ran"]
    store = emulated.binding.stores["gnb-1"]
    emulated.run(1.0)
    rate = store.get(f"{path}/performance/cell-rate")

    emulated.configure("gnb-1", f"{path}/prb-share", "0.6")
    emulated.run(4.0)
    assert store.get(f"{path}/performance/cell-rate") == pytest.approx(0.6 * rate, rel=1e-3)
    assert emulated.truth(3.5).parts_ms["ran"] > 1.5 * air
    emulated.configure("gnb-1", f"{path}/prb-share", "1.0")
    mcs = store.get(f"{path}/performance/mcs")
    emulated.inject("radio-fade", cell="gnb-1.cell-1", mcs_drop=5)
    emulated.run(1.0)
    assert store.get(f"{path}/performance/mcs") == pytest.approx(mcs - 5)
    emulated.configure("gnb-1", f"{path}/administrativeState", "LOCKED")
    emulated.run(2.0)
    assert store.get(f"{path}/operationalState") == "DISABLED"
    assert emulated.truth(1.5).count == 0


def test_loss_and_degradation_show_in_counters_and_delay(emulated):
    calm = emulated.truth(1.5)
    emulated.inject("link-loss", link="szczecin-poznan", ratio=0.2)
    emulated.inject("link-degradation", link="poznan-wroclaw", rate_factor=1.0, extra_ms=5.0)

    emulated.run(4.0)

    truth = emulated.truth(3.5)
    assert truth.lost / (truth.lost + truth.count) == pytest.approx(0.2, abs=0.06)
    assert truth.parts_ms["transport"] == pytest.approx(calm.parts_ms["transport"] + 5, abs=0.5)
    assert emulated.says("poznan", "szczecin", "statistics/in-errors") > 0
    assert emulated.says("szczecin", "poznan", "oper-status") == "up"


def test_overload_and_attack_load_a_host(emulated):
    path = "/fedtwin-edge:edge-host/performance/utilisation"
    emulated.run(1.0)
    calm = emulated.binding.stores["host-1"].get(path)

    overload = emulated.inject("host-overload", device="host-1", workers_taken=2, service_factor=1.2)
    emulated.run(2.0)
    assert emulated.binding.stores["host-1"].get(path) > 2 * calm
    emulated.plant.clear(overload)
    attack = emulated.inject("attack", source="warsaw", target="host-1", mbps=1500, on_s=10, off_s=0.01)
    emulated.run(2.0)
    assert emulated.binding.stores["host-1"].get(path) > 1.5 * calm
    emulated.plant.clear(attack)
    emulated.run(2.0)
    assert emulated.binding.stores["host-1"].get(path) == pytest.approx(calm, rel=0.3)


def test_reboot_darkens_links_and_resets_counters(emulated):
    name = emulated.inject("device-reboot", device="lodz")
    device = emulated.plant.device("lodz")
    assert emulated.plant.unmanaged(device)
    assert emulated.says("warsaw", "lodz", "oper-status") == "down"
    counted = emulated.says("lodz", "warsaw", "statistics/out-octets")
    emulated.run(2.0)
    assert emulated.says("lodz", "warsaw", "statistics/out-octets") == counted

    emulated.plant.clear(name)
    emulated.binding.restarted(device)
    emulated.run(1.0)

    assert 0 < emulated.says("lodz", "warsaw", "statistics/out-octets") < counted
    assert emulated.says("warsaw", "lodz", "oper-status") == "up"


def test_management_loss_leaves_packets_alone(emulated):
    before = len(emulated.network.journal)

    emulated.inject("management-loss", device="warsaw")

    assert emulated.plant.unmanaged(emulated.plant.device("warsaw"))
    assert len(emulated.network.journal) == before


def test_commands_carry_only_what_changes(emulated):
    before = len(emulated.network.journal)

    emulated.inject("link-cut", link="poznan-wroclaw")

    commands = [command for _, command in emulated.network.journal[before:]]
    assert len(commands) == 2
    assert all(isinstance(command, SetLink) and command.up is False for command in commands)


def test_every_kind_is_described_and_survives_json():
    samples = {
        "link": "a-b", "cell": "c", "device": "d", "source": "s", "target": "t",
    }  # fmt: skip
    for kind in describe_kinds():
        required = {f["name"]: samples[f["name"]] for f in kind["fields"] if "default" not in f}
        fault = fault_from_json({"kind": kind["kind"], **required})
        assert fault_from_json(fault_to_json(fault)) == fault
    assert len(FAULTS) == 8


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"kind": "flood"}, "no kind 'flood'; there are link-cut,"),
        ("link-cut", "no kind 'link-cut'"),
        ({"kind": "link-cut"}, "fault link-cut: link is missing"),
        ({"kind": "link-cut", "link": "a-b", "ratio": 1}, "unknown field ratio; accepted: link, duration_s"),
        ({"kind": "link-loss", "link": "a-b", "ratio": 2}, "ratio must be a number from 0 to 1, not 2"),
        ({"kind": "host-overload", "device": "d", "workers_taken": 1.5}, "workers_taken must be an integer"),
        ({"kind": "link-cut", "link": 3}, "link must be a name, not 3"),
    ],
)
def test_wrong_fault_is_explained(raw, said):
    with pytest.raises(ConfigError) as error:
        fault_from_json(raw)

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (
            "link-cut",
            {"link": "poznan-warsaw"},
            "links there: poznan-bydgoszcz, poznan-szczecin, poznan-wroclaw",
        ),
        ("link-cut", {"link": "nowhere"}, "a link is called like szczecin-poznan"),
        ("radio-fade", {"cell": "gnb-9.cell-1"}, "cells are called like gnb-1.cell-1"),
        ("device-reboot", {"device": "paris"}, "no device 'paris'; there are gnb-1"),
        ("host-overload", {"device": "warsaw"}, "'warsaw' has no workers; amf-1"),
    ],
)
def test_unknown_object_is_named_with_its_neighbours(emulated, kind, fields, said):
    with pytest.raises(NotFound) as error:
        emulated.inject(kind, **fields)

    assert said in str(error.value)
    assert not emulated.plant.faults
