"""The network that a network.toml describes: settings, ids, capacities, traffic."""

from pathlib import Path

import networkx
import pytest

from domain_twin.emulator.assemble import assemble, check_pace, dimension
from domain_twin.emulator.network import NetworkSpec, load_network
from domain_twin.emulator.packet_log import truth_of
from domain_twin.emulator.topology import build_topology
from domain_twin.emulator.traffic import demand_of_day, plan_flows
from domain_twin.errors import ConfigError, NotFound


def built(spec):
    topology = build_topology(spec)
    flows = plan_flows(spec, topology)
    dimension(spec, topology, flows)
    return topology, flows, assemble(spec, topology, flows)


@pytest.fixture(scope="module")
def default():
    return built(NetworkSpec())


def test_default_network_is_the_documented_one(default):
    topology, _, _ = default

    assert [len(topology.of_kind(k)) for k in ("gnb", "router", "amf", "smf", "upf", "host")] == [
        6,
        12,
        1,
        1,
        2,
        4,
    ]
    assert len(topology.cells) == 18
    routers = [x for x in topology.adjacencies if x.a.device.kind == x.b.device.kind == "router"]
    assert len(routers) == 18
    warsaw_lodz = next(x for x in routers if {x.a.device.name, x.b.device.name} == {"warsaw", "lodz"})
    assert warsaw_lodz.propagation_ms == pytest.approx(123 * 0.005, rel=0.01)
    assert warsaw_lodz.a.metric == pytest.approx(1230, rel=0.01)
    crossing = [x for x in topology.adjacencies if x.crossing]
    assert len({x.crossing for x in crossing}) == len(crossing) == 10
    assert {(x.a.device.name, x.b.device.name) for x in crossing if x.b.device.kind == "host"} == {
        ("upf-1", "host-1"), ("upf-2", "host-3"),
    }  # fmt: skip


def test_ids_follow_the_convention_and_links_their_order(default):
    topology, _, _ = default
    link = topology.links[0]

    assert [x.source.link_id for x in topology.links] == sorted(x.source.link_id for x in topology.links)
    assert link.source.link_id == f"urn:ndt:core:{link.source.device.name}:{link.source.name}:out"
    assert topology.cells[0].cell_id == "urn:ndt:ran:gnb-1:cell-1"
    assert all(d.name not in x.crossing for x in topology.adjacencies for d in (x.a.device, x.b.device))


def test_forwarding_is_the_shortest_path_of_an_oracle(default):
    topology, _, network = default
    graph = networkx.DiGraph()
    for link in topology.links:
        graph.add_edge(link.source.device.index, link.target.device.index, metric=link.source.metric)
    oracle = dict(networkx.all_pairs_dijkstra_path_length(graph, weight="metric"))

    for source in graph:
        for target in graph:
            at, length = source, 0
            while at != target:
                link = topology.links[network.state.table[at, target]]
                length += link.source.metric
                at = link.target.device.index
            assert length == oracle[source][target]


def test_every_resource_of_the_default_network_is_measured_and_none_overloaded(default):
    topology, _, network = default

    last = network.advance(6.0)[-1]

    counts = last.resources["count"]
    for link in topology.links:
        assert counts[link.index] >= 8, link
        assert last.busy[link.index] < 0.7, link
    for device in topology.devices:
        if device.workers:
            assert counts[len(topology.links) + device.index] >= 5, device
    cells = counts[len(topology.links) + len(topology.devices) :]
    assert cells.min() > 150


def test_service_flow_takes_the_documented_time(default):
    _, _, network = default
    network.advance(20.0)

    truth = truth_of(network, "gnb-1.cell-1:host-1", since=5.0, until=19.9)

    assert truth.lost == 0
    assert 6.5 < truth.mean_ms < 8.5
    assert sum(truth.parts_ms.values()) == pytest.approx(truth.mean_ms)
    assert 1.5 < truth.parts_ms["ran"] < 3.5
    assert 2.0 < truth.parts_ms["transport"] < 4.0
    assert 0.3 < truth.parts_ms["core"] < 0.8
    assert 0.4 < truth.parts_ms["edge"] < 1.0
    with pytest.raises(NotFound, match=r"not watched; watched are gnb-1\.cell-1:host-1"):
        truth_of(network, "host-1:gnb-1", since=0, until=1)


@pytest.mark.parametrize(
    "change",
    [
        {"gnbs": 1, "cells_per_gnb": 1, "hosts": 1}, {"gnbs": 2, "hosts": 2}, {"topology": "sndlib/nobel-us"},
        {"gnbs": 14}, {"scale": 0.005},
    ],
)  # fmt: skip
def test_other_sizes_and_topologies_run(change):
    topology, flows, network = built(NetworkSpec(**change))

    last = network.advance(2.0)[-1]

    assert len({flow.name for flow in flows}) == len(flows)
    assert last.resources["count"].sum() > 1000
    assert network.state.head[0]["overflow"] == 0
    assert all(x.capacity_mbps for x in topology.adjacencies)


def test_demand_follows_the_hours():
    hourly = (1.0,) * 10 + (2.0,) * 14
    factor = demand_of_day(NetworkSpec.model_validate({"traffic": {"hourly": hourly, "start_hour": 9.0}}))

    assert factor(0.0) == 1.0
    assert factor(1800.0) == pytest.approx(1.5)
    assert factor(3600.0) == 2.0


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "network.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_state_folder_is_relative_to_the_file(tmp_path):
    text = 'state = "here"\nseed = 7\n[traffic]\ncell_mbps = 100.0\n[servers]\npassword = "file:secret"'

    spec = load_network(written(tmp_path, text))

    assert spec.state == tmp_path / "here"
    assert spec.servers.password == f"file:{tmp_path / 'secret'}"
    assert (spec.seed, spec.traffic.cell_mbps, spec.train) == (7, 100.0, 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sed = 1", "unknown key sed. Did you mean seed? Accepted: attachments, cells_per_gnb,"),
        ("[traffic]\ncell_mbs = 1", "unknown key traffic.cell_mbs. Did you mean cell_mbps?"),
        ("scale = 0.3", "scale: 0.3 is not one over an integer; nearest is 0.3333"),
        ("gnbs = 0", "gnbs: Input should be greater than or equal to 1 (given: 0)"),
        ('domains = ["ran", "moon"]', "'transport'"),
        ('[servers]\npassword = "geheim"', "a secret is given by reference: env:NAME or file:PATH"),
        ("seed = ", "not TOML"),
    ],
)
def test_wrong_key_is_named_with_what_is_accepted(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        load_network(written(tmp_path, text))

    assert "network.toml: " in str(error.value)
    assert said in str(error.value)


def test_literal_password_is_not_repeated(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_network(written(tmp_path, '[servers]\npassword = "geheim"'))

    assert "geheim" not in str(error.value)


def test_missing_file_and_wrong_names_are_explained(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_network(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="topohub has no 'sndlib/atlantis'; try sndlib/polska"):
        build_topology(NetworkSpec(topology="sndlib/atlantis"))
    with pytest.raises(ConfigError, match=r"attachments\.gnb-1: no router 'paris'; there are bialystok"):
        build_topology(NetworkSpec(attachments={"gnb-1": "paris"}))
    with pytest.raises(ConfigError, match=r"attachments\.gnb-9: no such gNB"):
        build_topology(NetworkSpec(attachments={"gnb-9": "warsaw"}))


def test_more_packets_than_run_in_real_time_are_refused(default):
    topology, _, _ = default
    spec = NetworkSpec(scale=1.0)

    with pytest.raises(ConfigError, match=r"scale: at 1 this network makes [\d,]+ packet-hops a second"):
        check_pace(spec, topology, plan_flows(spec, topology))
    check_pace(NetworkSpec(), topology, plan_flows(NetworkSpec(), topology))
