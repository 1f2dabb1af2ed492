"""Demand inferred from loads: what it reproduces, what it knows for certain, what it says of doubts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_networks import both, cell, host, kpis, link, link_id, network, node_id, small

from domain_twin.model import Network
from domain_twin.simulation.graph import Law
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.compile import Compiled, compile_network
from domain_twin.simulation.twin.traffic import Loads, loads_of


def mbps(compiled: Compiled, source: str, target: str) -> float:
    rate = compiled.demand.rate[:, compiled.node_of[target], compiled.node_of[source]]
    octets = [kind.mean_octets for kind in compiled.classes]
    return float((rate * octets).sum() * 8 / 1e6)


def carried(compiled: Compiled) -> dict[str, float]:
    """Mbit/s on each edge, by the engine that will use the demand."""
    solution = Engine(compiled.graph, compiled.demand).solve()
    octets = np.array([kind.mean_octets for kind in compiled.classes])
    load = (solution.load_pps * octets[:, None]).sum(axis=0) * 8 / 1e6
    return dict(zip(compiled.graph.edges, map(float, load), strict=True))


def test_the_traffic_of_a_cell_goes_to_the_host_whose_load_it_explains() -> None:
    compiled = compile_network(small())

    assert mbps(compiled, node_id("gnb") + ":c1", node_id("edge")) == pytest.approx(40.0, rel=0.05)


def test_inferred_demand_reproduces_measured_loads() -> None:
    compiled = compile_network(small())

    loads = carried(compiled)
    for name, value in loads_of(small()).mbps.items():
        assert loads[name] == pytest.approx(value, abs=1.0), name
    assert compiled.fit.load_mape < 5


def line(loads: list[float]) -> Network:
    """Routers in a row, with loads one way."""
    names = [f"r{n}" for n in range(len(loads) + 1)]
    links = [link(a, b, load) for a, b, load in zip(names, names[1:], loads, strict=False)]
    return network(names, links=links)


def test_a_flow_that_the_loads_determine_is_told_from_one_that_is_inferred() -> None:
    one, two = compile_network(line([30.0])), compile_network(line([30.0, 20.0]))

    assert one.fit.determined == {(one.node_of[node_id("r0")], one.node_of[node_id("r1")])}
    assert (one.fit.inferred, two.fit.inferred) == (0, 3)
    assert any("1 flows are determined" in sentence for sentence in one.assumptions)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(1.0, 900.0), min_size=1, max_size=6))
def test_demand_is_never_negative_and_explains_loads_of_a_row_of_links(loads: list[float]) -> None:
    compiled = compile_network(line(loads))

    assert (compiled.demand.rate >= 0).all()
    assert np.isfinite(compiled.demand.rate).all()
    assert compiled.fit.load_mape < 1.0
    assert sum(value for value in compiled.fit.error_of.values()) < 1.0 * len(loads) + 1e-6


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0.1, 20.0))
def test_demand_scales_with_the_loads(factor: float) -> None:
    twin, base = line([30.0, 20.0]), compile_network(line([30.0, 20.0]))
    loads = loads_of(twin)
    scaled = Loads({name: value * factor for name, value in loads.mbps.items()}, {})

    compiled = compile_network(twin, loads=scaled)

    assert compiled.demand.rate == pytest.approx(base.demand.rate * factor, rel=1e-6, abs=1e-9)


def test_the_names_of_nodes_do_not_matter() -> None:
    twin = line([30.0, 20.0, 10.0])
    turned = replace(twin, nodes=dict(reversed(twin.nodes.items())), links=dict(reversed(twin.links.items())))

    one, two = compile_network(twin), compile_network(turned)

    for source in ("r0", "r1", "r2"):
        for target in ("r1", "r2", "r3"):
            if source != target:
                ends = node_id(source), node_id(target)
                assert mbps(one, *ends) == pytest.approx(mbps(two, *ends), rel=1e-9, abs=1e-12)


def test_a_load_that_no_route_explains_is_said() -> None:
    twin = network(["r1", "r2", "r3"], links=[*both("r1", "r2", 1.0), *both("r2", "r3", 1.0),
                                             link("r1", "r3", 77.0, metric=100)])  # fmt: skip

    compiled = compile_network(twin)

    assert any(link_id("r1", "r3") in said and "no route" in said for said in compiled.assumptions)


def test_loads_that_contradict_each_other_are_said_with_the_error() -> None:
    twin = network(
        ["gnb", "edge"], links=[link("gnb", "edge", 10.0)], cells=[cell("c1", "gnb", 90.0)],
        hosts=[host("edge", 11_250.0)],
    )  # fmt: skip

    compiled = compile_network(twin)

    assert compiled.fit.load_mape > 5
    assert any("misses the measured loads" in said for said in compiled.assumptions)


def test_utilisation_stands_in_for_a_rate_that_is_not_reported() -> None:
    twin = network(["r1", "r2"], links=[link("r1", "r2", kpis=kpis(utilisation=0.25, one_way_delay=1.0))])

    compiled = compile_network(twin)

    assert carried(compiled)[link_id("r1", "r2")] == pytest.approx(250.0, rel=1e-3)
    assert any("utilisation times its capacity" in said for said in compiled.assumptions)


def test_negative_and_missing_rates_are_not_demand() -> None:
    bad = kpis(carried_rate=-5.0, one_way_delay=1.0)

    assert loads_of(network(["r1", "r2"], links=[link("r1", "r2", kpis=bad)])).mbps == {}


def test_stations_count_packets_of_the_size_that_was_measured() -> None:
    compiled = compile_network(small())
    stations = [i for i, law in enumerate(compiled.graph.law) if law == Law.STATION]

    loads = carried(compiled)

    assert loads[compiled.graph.edges[stations[-1]]] == pytest.approx(40.0, rel=0.05)
