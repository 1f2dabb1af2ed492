"""From leaves to the network model: joins, units, uncertainty, staleness; and that order does not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import (
    SECOND,
    START,
    Leaf,
    border,
    delta,
    figures,
    function,
    gnb,
    host,
    interface,
    link,
    link_id,
    node_id,
    point,
    whole,
)

from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import UNMEASURED_AFTER, Mapper
from domain_twin.mapping.tables import MIRRORED, describe, mirrored_paths, modules
from domain_twin.model import (
    ACTIVE_UES,
    DELAY,
    DELAY_VARIANCE,
    HANDLED_RATE,
    LOSS,
    MCS,
    UNITS,
    Counters,
    Network,
    Update,
    UpdateBatch,
    Value,
)

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
AB = link_id("warsaw", "eth0")
BA = link_id("gdansk", "eth1")


def mapped(leaves: list[Leaf]) -> Mapper:
    mapper = Mapper("transport")
    mapper.apply(delta(leaves))
    return mapper


def codes(network: Network) -> list[tuple[str, str]]:
    return [(finding.code, finding.element) for finding in network.findings]


def test_whole_network_has_no_findings() -> None:
    network = mapped(whole()).network()
    assert codes(network) == []
    assert network.version.sequence == 1
    assert set(network.nodes) == {node_id("warsaw"), node_id("gdansk")}
    assert set(network.links) == {AB, BA}


def test_termination_point_is_joined_with_its_interface() -> None:
    tp = mapped(whole()).network().termination_points[f"{node_id('gdansk')}:eth1"]
    assert (tp.node, tp.device, tp.interface) == (node_id("gdansk"), "gdansk", "eth1")
    assert (tp.speed_mbps, tp.up, tp.inter_domain) == (10_000.0, True, None)


def test_border_point_carries_its_link_and_outbound_figures() -> None:
    tp = mapped(whole()).network().termination_points[f"{node_id('warsaw')}:eth9"]
    assert tp.inter_domain is not None
    assert tp.inter_domain.link_id == "urn:ndt:idl:ab12"
    assert (tp.inter_domain.capacity_mbps, tp.inter_domain.metric) == (1000.0, 7)
    assert tp.kpis[DELAY].value == pytest.approx(0.3)


def test_link_is_as_fast_as_its_slower_end_and_that_is_said() -> None:
    network = mapped([*whole(), *interface("gdansk", "eth1", speed=1_000_000_000)]).network()
    assert [network.links[name].capacity_mbps for name in (AB, BA)] == [1000.0, 1000.0]
    assert {code for code, _ in codes(network)} == {"link.speed-mismatch"}


def test_kpis_have_units_times_and_standard_errors() -> None:
    kpis = mapped(whole()).network().links[AB].kpis
    delay = kpis[DELAY]
    assert delay.value == pytest.approx(2.5)
    assert delay.unit == "ms"
    assert delay.std_error == pytest.approx(math.sqrt(0.04 / 400))
    assert (delay.observed_at, delay.received_at) == (START, START + 5)
    assert kpis[DELAY_VARIANCE].value == pytest.approx(0.04)
    assert kpis[LOSS].std_error == pytest.approx(math.sqrt(0.1 * 0.9 / 400))
    assert {name: kpi.unit for name, kpi in kpis.items()}.items() <= UNITS.items()


def test_function_cell_and_host_have_their_attributes_and_kpis() -> None:
    network = mapped(whole()).network()
    (upf,) = network.functions.values()
    assert (upf.type, upf.workers, upf.snssais, upf.up) == ("UPF", 4, ("1", "1-00000a"), True)
    assert upf.kpis[HANDLED_RATE].value == 120.5
    (cell,) = network.cells.values()
    assert (cell.node, cell.local_id, cell.bandwidth_mhz, cell.prb_share) == (node_id("gdansk"), 1, 100, 0.8)
    assert (cell.kpis[MCS].value, cell.kpis[ACTIVE_UES].value) == (17.25, 12.0)
    (edge,) = network.hosts.values()
    assert (edge.site, edge.cpu_cores, edge.workers) == ("harbour", 16, 8)
    assert edge.applications == ("game", "video")


@pytest.mark.parametrize(
    ("leaf", "value"), [("enabled", False), ("oper-status", "down"), ("admin-status", "down")]
)
def test_link_is_down_when_either_end_is(leaf: str, value: Value) -> None:
    mapper = mapped(whole())
    mapper.network()
    mapper.apply(delta([("warsaw", f"{ETH0}/{leaf}", value)], 2))
    network = mapper.network()
    assert [network.links[name].up for name in (AB, BA)] == [False, False]
    mapper.apply(delta([("warsaw", f"{ETH0}/{leaf}", {"enabled": True}.get(leaf, "up"))], 3))
    assert mapper.network().links[BA].up


def test_only_what_a_change_touches_is_rebuilt() -> None:
    mapper = mapped(whole())
    before = mapper.network()
    mapper.apply(delta(figures("warsaw", AB, "9000.000"), 2))
    after = mapper.network()
    assert after.links[AB].kpis[DELAY].value == pytest.approx(9.0)
    assert before.links[AB].kpis[DELAY].value == pytest.approx(2.5)
    assert after.links[BA] is before.links[BA]
    assert after.nodes is before.nodes
    assert after.termination_points is before.termination_points
    assert mapper.network() is after


def test_change_that_no_table_reads_changes_the_version_only() -> None:
    mapper = mapped(whole())
    before = mapper.network()
    assert not mapper.apply(delta([("warsaw", f"{ETH0}/statistics/in-unknown-protos", 5)], 2))
    after = mapper.network()
    assert after == replace(before, version=after.version)
    assert after.version.sequence == 2


def test_packets_are_counted_by_whom_they_are_for_and_shown_together() -> None:
    """RFC 8343 has no sum of them."""
    mapper = mapped(whole())
    counted = [("out-octets", 4500), ("out-unicast-pkts", 5), ("out-multicast-pkts", 2), ("in-octets", 7)]
    mapper.apply(delta([("warsaw", f"{ETH0}/statistics/{leaf}", value) for leaf, value in counted], 2))

    assert mapper.network().termination_points[f"{node_id('warsaw')}:eth0"].counters == Counters(
        in_octets=7, out_octets=4500, out_pkts=7
    )
    mapper.apply(delta([("warsaw", f"{ETH0}/statistics/out-unicast-pkts", 8)], 3))
    assert not mapper.restructured, "it is a figure"
    assert mapper.network().termination_points[f"{node_id('warsaw')}:eth0"].counters.out_pkts == 10


def test_stale_device_marks_its_elements_and_the_links_that_end_there() -> None:
    mapper = mapped(whole())
    mapper.network()
    mapper.set_stale("gdansk", True)
    network = mapper.network()
    assert network.nodes[node_id("gdansk")].stale
    assert not network.nodes[node_id("warsaw")].stale
    assert [network.links[name].stale for name in (AB, BA)] == [True, True]
    assert next(iter(network.cells.values())).stale
    assert not next(iter(network.functions.values())).stale
    mapper.set_stale("gdansk", False)
    assert mapper.network() == mapped(whole()).network()


def test_deleted_subtree_leaves_nothing_behind() -> None:
    mapper = mapped(whole())
    mapper.network()
    mapper.apply(delta(whole(), 2, deleted=True))
    empty = mapper.network()
    assert empty == replace(Mapper("transport").network(), version=empty.version)


def test_keys_name_elements_whose_key_leaves_were_not_sent() -> None:
    keyless = [leaf for leaf in whole() if not leaf[1].endswith(("/node-id", "/tp-id", "/link-id"))]
    network = mapped([*keyless, ("gdansk", "/fedtwin-ran:gnb/node-id", node_id("gdansk"))]).network()
    expected = mapped(whole()).network()
    assert network.nodes == expected.nodes
    assert network.links == expected.links
    assert network.termination_points == expected.termination_points


def test_dangling_link_counts_as_down() -> None:
    network = mapped(
        [
            *interface("warsaw", "eth0"),
            *point("warsaw", "eth0"),
            *link(("warsaw", "eth0"), ("gdansk", "eth1")),
        ]
    ).network()
    assert ("link.dangling", AB) in codes(network)
    assert not network.links[AB].up


def test_point_without_interface_counts_as_down() -> None:
    network = mapped(point("warsaw", "eth0")).network()
    assert codes(network) == [("termination-point.no-interface", f"{node_id('warsaw')}:eth0")]
    assert not network.termination_points[f"{node_id('warsaw')}:eth0"].up


@pytest.mark.parametrize(
    ("leaves", "code"),
    [(gnb("gdansk"), "cell"), (function("gdansk"), "network-function"), (host("gdansk"), "host")],
)
def test_element_on_an_unknown_node_is_found(leaves: list[Leaf], code: str) -> None:
    (finding,) = mapped(leaves).network().findings
    assert finding.code == f"{code}.no-node"
    assert "gdansk" in finding.remedy


@pytest.mark.parametrize("order", [("gdansk", "warsaw"), ("warsaw", "gdansk")])
def test_two_devices_that_claim_one_node_are_named(order: tuple[str, str]) -> None:
    path = "/ietf-network:networks/network[network-id='urn:ndt:transport']/node[node-id='urn:x']/node-id"
    mapper = Mapper("transport")
    for number, device in enumerate(order):
        mapper.apply(delta([(device, path, "urn:x")], number + 1))
        mapper.network()
    network = mapper.network()
    (finding,) = network.findings
    assert (finding.code, finding.element) == ("node.claimed-twice", "urn:x")
    assert "gdansk and warsaw both report" in finding.message
    assert network.nodes["urn:x"].device == "gdansk"


def test_element_without_id_is_found_and_left_out() -> None:
    network = mapped([leaf for leaf in function("warsaw") if not leaf[1].endswith("function-id")]).network()
    assert codes(network) == [("network-function.no-id", "warsaw")]
    assert not network.functions


def test_half_a_border_is_found() -> None:
    leaves = [leaf for leaf in border("warsaw", "eth0", "urn:ndt:idl:zz99") if "peer" not in leaf[1]]
    network = mapped([*interface("warsaw", "eth0"), *point("warsaw", "eth0"), *leaves]).network()
    assert codes(network) == [("termination-point.incomplete-border", f"{node_id('warsaw')}:eth0")]


def test_figures_of_no_link_are_found() -> None:
    assert codes(mapped(figures("warsaw", AB)).network()) == [("figures.no-link", AB)]


def test_end_on_another_node_than_its_point_is_found() -> None:
    topology = "/ietf-network:networks/network[network-id='urn:ndt:transport']/ietf-network-topology:"
    leaf = ("warsaw", f"{topology}link[link-id='{AB}']/source/source-node", "urn:y")
    assert codes(mapped([*whole(), leaf]).network()) == [("link.wrong-node", AB)]


def test_value_that_no_conversion_takes_counts_as_not_reported() -> None:
    mapper = mapped(whole())
    mapper.network()
    path = f"{ETH0}/speed"
    mapper.apply(delta([("warsaw", path, "fast")], 2))
    network = mapper.network()
    assert network.termination_points[f"{node_id('warsaw')}:eth0"].speed_mbps == 0.0
    (finding,) = network.findings
    assert (finding.code, finding.element) == ("leaf.not-usable", f"warsaw {path}")
    assert mapper.unmapped == 1
    mapper.apply(delta([("warsaw", path, 10_000_000_000)], 3))
    assert mapper.unmapped == 0
    assert "leaf.not-usable" not in {code for code, _ in codes(mapper.network())}


def test_link_that_nobody_measures_is_found_after_a_while() -> None:
    mapper = mapped([leaf for leaf in whole() if AB not in leaf[1] or "performance" not in leaf[1]])
    assert ("link.no-figures", AB) not in codes(mapper.network())
    later = START + UNMEASURED_AFTER + SECOND
    mapper.apply(delta(figures("gdansk", BA), 2, at=later))
    assert ("link.no-figures", AB) in codes(mapper.network())
    mapper.apply(delta(figures("warsaw", AB), 3, at=later + SECOND))
    assert ("link.no-figures", AB) not in codes(mapper.network())


def test_every_finding_says_what_to_do() -> None:
    broken = [*link(("warsaw", "eth0"), ("gdansk", "eth1")), *gnb("gdansk"), *point("oslo", "eth0")]
    for finding in mapped(broken).network().findings:
        assert finding.domain == "transport"
        assert finding.element in finding.message or finding.code.endswith("no-id")
        assert finding.remedy


def test_network_of_a_snapshot_equals_the_live_one() -> None:
    store, mapper = LiveStore(epoch="e"), Mapper("transport")
    for device in ("warsaw", "gdansk"):
        updates = tuple(Update(d, path, value, START) for d, path, value in whole() if d == device)
        change = store.apply(UpdateBatch(device, START + 5, updates))
        assert change is not None
        mapper.apply(change)
        mapper.network()
    again = Mapper("transport")
    again.apply(store.snapshot().as_delta())
    assert again.network() == mapper.network()


# --- at random: any order, any part, any rubbish

_A, _B = ("warsaw", "eth0"), ("gdansk", "eth1")
_UNIVERSE: list[Leaf] = [
    *whole(),
    *interface("gdansk", "eth1"),
    *border("gdansk", "eth1", "urn:ndt:idl:ab12"),
    *figures("gdansk", AB),  # measured by the wrong device
    *figures("gdansk", "urn:ndt:idl:ab12"),
    *[("oslo", path, value) for _, path, value in [*point(*_A), *link(_A, _B), *function("warsaw")]],
    ("warsaw", "/fedtwin-core:network-function/function-id", "urn:other"),
    ("warsaw", f"{ETH0}/oper-status", "down"),
    ("warsaw", f"{ETH0}/speed", "rubbish"),
    ("warsaw", f"{ETH0}/speed", 5),
    ("gdansk", "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']/cell-id", node_id("gdansk") + ":cell-2"),
    ("gdansk", "/fedtwin-ran:gnb/NRCellDU[cellLocalId='2']/cell-id", node_id("gdansk") + ":cell-1"),
    ("warsaw", f"/m:unknown[k='{AB}']/leaf", 1),
]
_step = st.one_of(
    st.tuples(st.lists(st.sampled_from(_UNIVERSE), min_size=1, max_size=12), st.booleans()),
    st.tuples(st.just(whole()), st.booleans()),
    st.tuples(st.sampled_from(["warsaw", "gdansk", "oslo"]), st.booleans()),
    st.just(("look", True)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_step, max_size=15))
def test_piece_by_piece_equals_all_at_once(steps: list[tuple[list[Leaf] | str, bool]]) -> None:
    mapper, leaves, stale = Mapper("transport"), dict[tuple[str, str], Value](), set[str]()
    for number, (what, flag) in enumerate(steps, 1):
        if what == "look":
            mapper.network()
        elif isinstance(what, str):
            mapper.set_stale(what, flag)
            (stale.add if flag else stale.discard)(what)
        else:
            mapper.apply(delta(what, number, deleted=flag))
            for device, path, value in what:
                if flag:
                    leaves.pop((device, path), None)
                else:
                    leaves[device, path] = value
    scratch = Mapper("transport")
    for device in stale:
        scratch.set_stale(device, True)
    scratch.apply(delta([(device, path, value) for (device, path), value in leaves.items()]))
    found, expected = mapper.network(), scratch.network()
    assert replace(found, version=expected.version) == expected


# --- the tables themselves


def test_tables_say_what_to_subscribe_to_and_which_modules_they_need() -> None:
    assert mirrored_paths() == (
        "/ietf-interfaces:interfaces",
        "/ietf-network:networks",
        "/fedtwin-performance:performance",
        "/fedtwin-ran:gnb",
        "/fedtwin-core:network-function",
        "/fedtwin-edge:edge-host",
        "/openconfig-interfaces:interfaces",
        "/openconfig-system:system",
        "/openconfig-lldp:lldp",
        "/openconfig-platform:components",
        "/ietf-alarms:alarms",
    )
    assert "fedtwin-inter-domain" in modules()


def test_every_row_of_the_tables_is_described() -> None:
    rows = describe()
    assert len(rows) == sum(map(len, MIRRORED))
    assert (
        "/fedtwin-performance:performance/link[link-id]/one-way-delay",
        "link figures",
        DELAY,
        "ms",
    ) in rows
