"""From the network model to a simulation graph: what becomes of each element, and what is said of doubts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from twin_networks import border, both, cell, host, kpis, link, link_id, network, node_id, small, upf

from domain_twin.model import Counters, Network
from domain_twin.simulation.graph import Law
from domain_twin.simulation.joined import join
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic
from domain_twin.simulation.twin.compile import Compiled, compile_network
from domain_twin.simulation.twin.traffic import Loads


def path(compiled: Compiled, source: str, target: str) -> list[str]:
    solution = Engine(compiled.graph, compiled.demand).solve()
    edges = solution.path(compiled.node_of[source], compiled.node_of[target])
    return [compiled.graph.edges[edge] for edge in edges]


def edge(compiled: Compiled, name: str) -> int:
    return compiled.graph.edges.index(name)


def said(compiled: Compiled, *words: str) -> bool:
    return any(all(word in sentence for word in words) for sentence in compiled.assumptions)


def test_packets_of_a_cell_cross_links_and_the_user_plane_and_end_on_the_host() -> None:
    compiled = compile_network(small())

    way = path(compiled, node_id("gnb") + ":c1", node_id("edge"))

    assert way == [
        node_id("gnb") + ":c1", link_id("gnb", "r1"), link_id("r1", "upf"), node_id("upf"),
        link_id("upf", "edge"), node_id("edge"),
    ]  # fmt: skip
    laws = [Law(int(compiled.graph.law[edge(compiled, name)])).name for name in way]
    assert laws == ["CELL", "LINK", "LINK", "STATION", "LINK", "STATION"]


def test_elements_are_found_by_the_ids_that_the_twin_shows_and_by_published_names() -> None:
    compiled = compile_network(small(), published={"phone": node_id("gnb") + ":c1", "gone": "urn:ndt:x"})

    assert compiled.node_of["lab/phone"] == compiled.node_of[node_id("gnb") + ":c1"]
    assert compiled.edges_of[link_id("r1", "upf")] == (edge(compiled, link_id("r1", "upf")),)
    assert set(compiled.edges_of[node_id("r1") + ":upf"]) == {
        edge(compiled, link_id("r1", "upf")), edge(compiled, link_id("upf", "r1")),
    }  # fmt: skip
    assert said(compiled, "lab/gone", "urn:ndt:x", "not there")
    assert "lab/gone" not in compiled.node_of


def test_a_node_takes_all_its_edges_with_it() -> None:
    compiled = compile_network(small())

    names = {compiled.graph.edges[i] for i in compiled.graph.groups[node_id("upf")]}

    assert node_id("upf") in names
    assert {link_id("r1", "upf"), link_id("upf", "r1"), link_id("r2", "upf"), link_id("upf", "edge")} <= names


def test_an_inter_domain_link_leads_outside_and_lets_traffic_in() -> None:
    compiled = compile_network(
        network(
            ["r1", "upf"], links=both("r1", "upf"), functions=[upf("upf")], borders=[border("upf", "idl")]
        )
    )

    assert path(compiled, node_id("r1"), "idl")[-1] == "idl"
    assert path(compiled, "idl", node_id("r1")) == ["idl#in", node_id("upf"), link_id("upf", "r1")]
    outward = edge(compiled, "idl")
    assert compiled.graph.metric[outward] == 5
    assert not compiled.graph.transit[compiled.node_of["idl"]]


def test_two_domains_join_where_they_name_the_same_link() -> None:
    near = network(["r1"], borders=[border("r1", "idl", end={"metric": 3})], domain="a")
    far = network(["r2"], borders=[border("r2", "idl", end={"capacity_mbps": 400.0})], domain="b")

    compiled = compile_network(join([near, far]))

    way = path(compiled, node_id("r1"), node_id("r2"))
    assert way == [node_id("r1") + ":idl:out"]
    assert compiled.graph.capacity_bps[edge(compiled, way[0])] == 400e6
    assert compiled.graph.metric[edge(compiled, way[0])] == 3


@pytest.mark.parametrize(
    ("twin", "words", "left_out"),
    [
        (network(["r1"], links=[link("r1", "r9")]), (link_id("r1", "r9"), "r9", "not there"), True),
        (network(["r1"], links=[link("r9", "r1")]), (link_id("r9", "r1"), "r9", "not there"), True),
        (network(["r1"], cells=[cell("c1", "g9")]), ("g9:c1", "not there"), True),
        (network(["r1"], hosts=[host("h9")]), ("h9", "not there"), True),
        (network(["r1"], functions=[upf("u9")]), ("u9", "not there"), True),
        (network(["r1"], borders=[border("r9", "idl")]), ("idl", "r9", "not there"), True),
        (network(["r1"], links=[link("r1", "r1")]), (link_id("r1", "r1"), "back"), True),
        (network(["r1", "r2"], links=[link("r1", "r2", capacity_mbps=0.0)]), ("capacity", "down"), False),
        (network(["r1"], cells=[cell("c1", "r1", kpis={})]), ("c1", "no rate", "down"), False),
        (network(["r1"], hosts=[host("r1", workers=0)]), ("0 workers", "down"), False),
        (network(["r1"], functions=[upf("r1", kpis={})]), ("no load", "not calibrated"), False),
    ],
)  # fmt: skip
def test_what_refers_to_nothing_or_has_no_figures_is_said(
    twin: Network, words: tuple[str, ...], left_out: bool
) -> None:
    compiled = compile_network(twin)

    assert said(compiled, *words)
    assert (len(compiled.graph.edges) == 0) == left_out


def test_the_second_claim_to_an_inter_domain_link_is_left_out() -> None:
    compiled = compile_network(network(["r1", "r2"], borders=[border("r1", "idl"), border("r2", "idl")]))

    assert said(compiled, "r2", "claims", "idl")
    assert compiled.graph.edges == ("idl", "idl#in")


def test_what_is_down_or_locked_stays_in_the_graph_and_carries_nothing() -> None:
    twin = small()
    down = replace(twin.links[link_id("r1", "upf")], up=False)
    locked = replace(twin.functions[node_id("upf")], unlocked=False)

    cut = compile_network(replace(twin, links={**twin.links, down.id: down}))
    closed = compile_network(replace(twin, functions={locked.id: locked}))

    assert not cut.graph.up[edge(cut, down.id)]
    assert link_id("r1", "r2") in path(cut, node_id("gnb"), node_id("edge"))
    assert not closed.graph.transit[closed.node_of[node_id("upf")]]
    assert path(closed, node_id("gnb"), node_id("edge")) == []


def test_stale_figures_are_named() -> None:
    twin = small()
    stale = replace(twin.links[link_id("r1", "upf")], stale=True)

    assert said(compile_network(replace(twin, links={**twin.links, stale.id: stale})), "stale", stale.id)


def test_an_uncalibrated_domain_says_so_and_keeps_stations_at_their_utilisation() -> None:
    compiled = compile_network(small())

    station = edge(compiled, node_id("upf"))
    assert said(compiled, "not calibrated", "fedtwin calibrate")
    assert compiled.graph.service_s[station] == pytest.approx(8e-6)
    assert said(compiled, "buffer", "assumed")


def test_a_calibration_replaces_what_is_assumed() -> None:
    name = link_id("r1", "upf")
    fits = {
        name: ElementFit(name, "link", fixed_s=0.004, buffer_octets=50_000.0, loss=0.01),
        node_id("upf"): ElementFit(node_id("upf"), "function", fixed_s=1e-4, service_s=3e-4, service_scv=0.5),
    }
    calibration = Calibration("lab", traffic=Traffic(1000.0, 10.0, 1.0), elements=fits)

    compiled = compile_network(small(), calibration=calibration)

    line, station = edge(compiled, name), edge(compiled, node_id("upf"))
    graph = compiled.graph
    assert (graph.fixed_s[line], graph.loss[line], graph.buffer[line]) == (0.004, 0.01, 5.0)
    assert (graph.service_s[station], graph.service_scv[station]) == (3e-4, 0.5)
    assert graph.classes[0].mean_octets == 10_000
    assert not said(compiled, "this domain is not calibrated")


def test_a_network_without_figures_has_no_demand_and_says_so() -> None:
    bare = network(["r1", "r2"], links=both("r1", "r2", kpis={}))

    compiled = compile_network(bare)

    assert not compiled.demand.rate.any()
    assert said(compiled, "no element reports its load")
    assert math.isnan(compiled.fit.load_mape)


def test_figures_that_are_no_numbers_are_not_computed_with() -> None:
    broken = kpis(carried_rate=math.nan, utilisation=math.inf, one_way_delay=math.nan)

    twin = network(
        ["r1", "r2", "h"], links=both("r1", "r2", kpis=broken),
        hosts=[host("h", kpis=kpis(handled_rate=5.0, utilisation=math.inf))],
    )  # fmt: skip

    compiled = compile_network(twin, loads=Loads({}, {}))

    assert np.isfinite(compiled.graph.fixed_s).all()
    assert np.isfinite(compiled.graph.service_s).all()
    assert not compiled.demand.rate.any()


def test_a_report_says_where_the_packet_size_is_from() -> None:
    counted = border("r1", "urn:idl:1", counters=Counters(out_octets=60_000, out_pkts=100))

    told = compile_network(network(["r1"], borders=[counted]))
    silent = compile_network(small())

    assert "a packet has 600 octets on the mean, as interfaces have counted them" in told.assumptions
    assert told.classes[0].mean_octets == 600
    assert "no interface counts packets; a mean packet of 1,000 octets is assumed" in silent.assumptions
