"""What changes mean to edges and demand: elements, factors, services, sweeps; and what they may not name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whatif_network import CLASSES, DOMAIN, Network, link, name, ring

from domain_twin.errors import ConfigError, NotFound, OverCapacity
from domain_twin.model.scenario import MAX_VARIANTS
from domain_twin.simulation.checks import check_variant
from domain_twin.simulation.graph import Variant
from domain_twin.simulation.questions.changes import Elements, same_demand, with_services
from domain_twin.simulation.questions.scenario_file import make_scenario
from domain_twin.simulation.questions.sweeps import Plan, plan
from domain_twin.simulation.solve import Engine

RING = ring()
ALIASES = {"ran/cell": name("cell-1")}


def elements(network: Network = RING) -> Elements:
    return Elements(network, domain=DOMAIN, aliases=ALIASES)


def planned(*changes: dict[str, Any], network: Network = RING, **more: Any) -> Plan:
    return plan(elements(network), make_scenario({"changes": list(changes), **more}))


def variant(*changes: dict[str, Any]) -> Variant:
    found = planned(*changes).variant
    check_variant(RING.graph, found)  # the engine takes it
    return found


def edge(source: str, target: str) -> int:
    return RING.graph.edges.index(link(source, target))


def both(source: str, target: str) -> set[int]:
    return {edge(source, target), edge(target, source)}


def node(short: str) -> int:
    return RING.node_of[name(short)]


def down(element: str) -> dict[str, Any]:
    return {"kind": "element-down", "element": element}


def test_a_link_goes_down_in_both_directions() -> None:
    assert variant(down(link("r1", "r2"))).down == both("r1", "r2")
    assert variant(down(name("r1:to-r2"))).down == both("r1", "r2")  # named by its interface


def test_an_inter_domain_link_goes_down_with_its_way_in() -> None:
    graph, border = RING.graph, "urn:ndt:idl:x1"
    law = graph.law.copy()
    law[1] = 3  # FIXED: what comes from the other domain
    odd = Network(
        graph.__class__(**{f: getattr(graph, f) for f in graph.__dataclass_fields__} | {"law": law}),
        RING.demand,
        {border: (0, 1)},
        RING.node_of,
    )
    assert plan(elements(odd), make_scenario({"changes": [down(border)]})).variant.down == {0, 1}


def test_parallel_links_fail_one_by_one() -> None:
    twice = ring(links=(("r1", "r2", 1), ("r1", "r2", 1), ("r2", "r3", 1), ("r3", "r4", 1), ("r4", "r1", 1)))
    found = Elements(Network(twice.graph, twice.demand, {}, twice.node_of))

    assert [sorted(edges) for _, edges in found.links()] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_node_takes_all_its_edges_with_it() -> None:
    found = variant(down("r1"))

    cell = RING.graph.edges.index(name("cell-1"))
    assert found.down == both("r1", "r2") | both("r4", "r1") | {cell}


def test_a_cell_a_host_and_a_risk_group_go_down() -> None:
    host = RING.edges_of[name("host-1")]

    assert variant(down("ran/cell")).down == set(RING.edges_of[name("cell-1")])
    assert variant(down("host-1")).down == set(host)
    assert variant(down("conduit")).down == both("r1", "r2") | both("r2", "r3")


def test_an_element_comes_back() -> None:
    up = RING.graph.up.copy()
    up[list(both("r1", "r2"))] = False
    graph = RING.graph.__class__(
        **{f: getattr(RING.graph, f) for f in RING.graph.__dataclass_fields__} | {"up": up}
    )
    broken = Network(graph, RING.demand, RING.edges_of, RING.node_of)

    back = planned({"kind": "element-up", "element": link("r2", "r1")}, network=broken)
    again = planned(down(link("r1", "r2")), network=broken)
    needless = planned({"kind": "element-up", "element": "r3"}, network=broken)

    assert back.variant.restored == both("r1", "r2")
    assert not back.notes
    assert "is down already" in again.notes[0]
    assert "is up already" in needless.notes[0]


def test_an_element_cannot_come_back_where_its_end_goes() -> None:
    found = planned(down("r1"), {"kind": "element-up", "element": link("r1", "r2")}).variant

    assert both("r1", "r2") <= found.down
    assert not found.restored & found.down


def test_values_of_edges() -> None:
    at = edge("r1", "r2")
    found = variant(
        {"kind": "capacity", "element": link("r1", "r2"), "factor": 0.25},
        {"kind": "metric", "element": link("r1", "r2"), "value": 9},
        {"kind": "buffer", "element": link("r1", "r2"), "packets": 7},
        {"kind": "scheduler", "element": link("r1", "r2"), "discipline": "wfq"},
        {"kind": "capacity", "element": "cell-1", "mbps": 12},
        {"kind": "workers", "element": "host-1", "delta": 3},
    )

    cell, host = RING.graph.edges.index(name("cell-1")), RING.graph.edges.index(name("host-1"))
    assert found.values == {
        "capacity_bps": {at: 2.5e6, cell: 12e6},
        "metric": {at: 9.0},
        "buffer": {at: 7.0},
        "scheduler": {at: 2.0},
        "servers": {host: 5.0},
    }


def test_no_workers_is_down_and_fewer_than_none_is_refused() -> None:
    host = RING.graph.edges.index(name("host-1"))

    assert variant({"kind": "workers", "element": "host-1", "count": 0}).down >= {host}
    assert variant({"kind": "workers", "element": "host-1", "delta": -2}).down >= {host}
    with pytest.raises(ConfigError, match="has 2 workers; delta -3 takes more away"):
        planned({"kind": "workers", "element": "host-1", "delta": -3})


def rates(*changes: dict[str, Any]) -> Any:
    """The rates that the engine puts on the network, [class, destination, source]."""
    return Engine(RING.graph, RING.demand, plain=True).state(variant(*changes)).rate


def test_factors_of_all_a_class_a_pair_and_a_cell_multiply() -> None:
    base = RING.demand.rate
    found = rates(
        {"kind": "demand", "factor": 2},
        {"kind": "demand", "factor": 3, "traffic_class": "best-effort"},
        {"kind": "demand", "factor": 5, "source": "r4", "target": "r2"},
        {"kind": "cell-load", "element": "cell-1", "factor": 7},
    )

    expected = base * np.array([6.0, 2.0])[:, None, None]
    expected[:, node("r2"), node("r4")] *= 5
    expected[:, :, node("cell-1")] *= 7
    np.testing.assert_allclose(found, expected)


def test_a_rate_in_mbps_stands_whatever_the_factors() -> None:
    found = rates(
        {"kind": "demand", "factor": 2},
        {"kind": "demand", "mbps": 4, "source": "cell-1", "target": "host-1"},
    )

    assert found[0, node("host-1"), node("cell-1")] == pytest.approx(4e6 / 8000)
    assert found[1, node("r4"), node("r1")] == pytest.approx(100.0)


def test_a_rate_where_nothing_was_measured_goes_to_the_first_class_and_says_so() -> None:
    found = planned({"kind": "demand", "mbps": 8, "source": "r1", "target": "r3"})

    assert found.variant.pairs == ((0, node("r1"), node("r3"), 1000.0),)
    assert "taken to be of class best-effort" in found.notes[0]


def test_a_rate_is_shared_as_the_classes_are_now() -> None:
    rate = RING.demand.rate.copy()
    rate[:, node("r3"), node("r1")] = (100.0, 500.0)  # 0.8 Mbit/s each
    mixed = Network(RING.graph, RING.demand.__class__(rate), RING.edges_of, RING.node_of)

    found = planned({"kind": "demand", "mbps": 3.2, "source": "r1", "target": "r3"}, network=mixed)

    assert found.variant.pairs == (
        (0, node("r1"), node("r3"), pytest.approx(200.0)),
        (1, node("r1"), node("r3"), pytest.approx(1000.0)),
    )


def test_a_service_is_a_class_of_its_own() -> None:
    scenario = make_scenario(
        {"changes": [{"kind": "service", "name": "slice-9", "source": "cell-1", "target": "r4", "mbps": 2,
                      "packet_octets": 500, "arrivals": "on-off", "priority": 3}]}
    )  # fmt: skip
    graph, demand = with_services(RING, scenario, elements())

    added = graph.classes[-1]
    assert [item.name for item in graph.classes] == [*(item.name for item in CLASSES), "slice-9"]
    assert (added.mean_octets, added.arrivals.value, added.on_s, added.priority) == (500, "on-off", 0.3, 3)
    assert demand.rate[2, node("r4"), node("cell-1")] == pytest.approx(500.0)
    assert demand.rate[2].sum() == pytest.approx(500.0)
    np.testing.assert_array_equal(demand.rate[:2], RING.demand.rate)


def service(**more: Any) -> dict[str, Any]:
    return {"kind": "service", "name": "s", "source": "r1", "target": "r3", "mbps": 1} | more


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (down("r9"), NotFound, r"no element 'r9' in this network; close to it: .*urn:ndt:ran:r"),
        (down("zzzz"), NotFound, "no element 'zzzz' in this network; `fedtwin elements`"),
        ({"kind": "capacity", "element": "r1", "factor": 2}, ConfigError, "has no capacity.*no link or cell"),
        ({"kind": "metric", "element": "cell-1", "value": 2}, ConfigError, "has no metric.*it is no link"),
        ({"kind": "workers", "element": link("r1", "r2"), "count": 2}, ConfigError, "has no workers"),
        ({"kind": "cell-load", "element": "host-1", "factor": 2}, ConfigError, "has no load.*no cell"),
        (
            {"kind": "metric", "element": "r1:to-r2", "value": 2},
            ConfigError,
            "end of several links; name one",
        ),
        (
            {"kind": "demand", "factor": 2, "source": "r1", "target": "mars"},
            NotFound,
            "no element 'mars'",
        ),
        (
            {"kind": "demand", "factor": 2, "source": "r1", "target": link("r1", "r2")},
            ConfigError,
            "no place where traffic begins or ends",
        ),
        ({"kind": "demand", "factor": 2, "traffic_class": "gold"}, NotFound, "there are best-effort, voice"),
        (
            {"kind": "demand", "factor": 2, "source": "r1", "target": name("r1")},
            ConfigError,
            "are one place; name two elements",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        planned(change)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (service(name="voice"), ConfigError, "called 'voice' already"),
        (service(target="nowhere"), NotFound, "no element 'nowhere'"),
        (service(source="urn:ndt:ran:r3"), ConfigError, "begins and ends at one place"),
    ],
)
def test_services_that_cannot_be_added_are_refused(
    change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        with_services(RING, make_scenario({"changes": [change]}), elements())


# --- sweeps


def swept(**sweep: Any) -> Plan:
    return plan(elements(), make_scenario({"sweep": sweep, "seed": 5}))


def test_every_link_node_and_risk_group_fails_once() -> None:
    links, nodes, groups = (swept(kind="failures", of=of) for of in ("links", "nodes", "risk-groups"))

    assert {v.down for v in links.sweep()} == {
        frozenset(both(*ends)) for ends in (("r1", "r2"), ("r2", "r3"), ("r3", "r4"), ("r4", "r1"))
    }
    assert [v.name for v in nodes.sweep()] == [f"{name(f'r{n}')} down" for n in (1, 2, 3, 4)]
    assert [v.name for v in groups.sweep()] == ["conduit down"]
    assert (links.count, nodes.count, groups.count) == (4, 4, 1)


def test_what_is_down_already_does_not_fail_once_more() -> None:
    found = plan(
        elements(), make_scenario({"changes": [down(link("r1", "r2"))], "sweep": {"kind": "failures"}})
    )

    assert found.count == 3
    assert all(both("r1", "r2") < v.down for v in found.sweep())


def test_several_fail_together() -> None:
    found = swept(kind="failures", simultaneous=2)
    named = swept(kind="failures", elements=["r1", link("r2", "r3"), "host-1"], simultaneous=3)

    assert found.count == len(list(found.sweep())) == 6
    assert all(len(v.down) == 4 for v in found.sweep())
    assert [v.name for v in named.sweep()] == [f"r1 + {link('r2', 'r3')} + host-1 down"]


def test_too_many_failures_together_are_refused_with_their_number() -> None:
    names = [f"n{i}" for i in range(200)]
    graph = RING.graph
    big = Network(
        graph.__class__(
            **{f: getattr(graph, f) for f in graph.__dataclass_fields__}
            | {"groups": {n: (0, 1) for n in names}}
        ),
        RING.demand,
        RING.edges_of,
        RING.node_of,
    )
    scenario = make_scenario({"sweep": {"kind": "failures", "elements": names, "simultaneous": 3}})

    with pytest.raises(OverCapacity, match=rf"3 of 200 .* are 1313400 variants, {MAX_VARIANTS} at most"):
        plan(elements(big), scenario)


def test_a_sweep_of_nothing_is_refused() -> None:
    alone = Network(RING.graph, RING.demand, {}, RING.node_of)
    no_groups = Network(
        RING.graph.__class__(
            **{f: getattr(RING.graph, f) for f in RING.graph.__dataclass_fields__} | {"groups": {}}
        ),
        alone.demand,
        {},
        alone.node_of,
    )
    with pytest.raises(NotFound, match="has no risk groups that could fail"):
        plan(elements(no_groups), make_scenario({"sweep": {"kind": "failures", "of": "risk-groups"}}))


def test_a_grid_has_every_combination() -> None:
    found = plan(
        elements(),
        make_scenario(
            {
                "changes": [{"kind": "demand", "mbps": 1, "source": "r1", "target": "r3"}],
                "sweep": {
                    "kind": "grid",
                    "demand": [1, 2],
                    "options": [
                        [down(link("r1", "r2"))],
                        [{"kind": "cell-load", "element": "cell-1", "factor": 3}],
                    ],
                },
            }
        ),
    )
    variants = list(found.sweep())

    assert found.count == len(variants) == len({v.name for v in variants}) == 8
    last = variants[-1]
    assert last.name == "demand x2, options[0], options[1]"
    assert last.down == both("r1", "r2")
    assert last.demand_scale == 2.0
    pairs = {(c, s, d): rate for c, s, d, rate in last.pairs}
    assert pairs[0, node("r1"), node("r3")] == pytest.approx(250.0)
    assert pairs[0, node("cell-1"), node("host-1")] == pytest.approx(375.0 * 3 * 2)
    for each in variants:
        check_variant(RING.graph, each)


def test_draws_are_the_same_for_a_seed_and_differ_by_seed() -> None:
    sweep = {"kind": "monte-carlo", "draws": 20, "link_failure": 0.3, "demand_sigma": 0.5}
    first, again, other = (
        list(plan(elements(), make_scenario({"sweep": sweep, "seed": seed})).sweep()) for seed in (5, 5, 6)
    )
    longer = list(plan(elements(), make_scenario({"sweep": sweep | {"draws": 40}, "seed": 5})).sweep())

    assert first == again
    assert first != other
    assert longer[:20] == first  # a draw does not depend on how many there are


def test_draws_have_the_odds_and_the_mean_that_were_asked_for() -> None:
    found = list(swept(kind="monte-carlo", draws=4000, link_failure=0.2, demand_sigma=0.4).sweep())

    share = np.mean([len(v.down) / 8 for v in found])
    factors = np.array(
        [dict(((c, s, d), r) for c, s, d, r in v.pairs)[0, node("cell-1"), node("host-1")] for v in found]
    )
    factors = factors / RING.demand.rate[0, node("host-1"), node("cell-1")]
    assert share == pytest.approx(0.2, abs=0.02)
    assert factors.mean() == pytest.approx(1.0, abs=0.03)
    assert np.log(factors).std() == pytest.approx(0.4, abs=0.03)


def test_draws_without_a_seed_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs the scenario's seed"):
        plan(elements(), make_scenario({"sweep": {"kind": "monte-carlo", "draws": 1, "link_failure": 1}}))


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_changes_does_not_matter(order: list[int]) -> None:
    changes = [
        {"kind": "demand", "factor": 2.0},
        {"kind": "demand", "mbps": 3.0, "source": "cell-1", "target": "host-1"},
        {"kind": "cell-load", "element": "cell-1", "factor": 4.0},
        down("r2"),
    ]
    assert variant(*(changes[i] for i in order)) == variant(*changes)


def test_demand_is_carried_to_another_graph_by_name() -> None:
    graph = RING.graph
    turned = list(range(len(graph.nodes)))[::-1]
    place = {old: new for new, old in enumerate(turned)}
    swap = np.array([place[n] for n in range(len(turned))], np.int32)
    other = graph.__class__(
        **{f: getattr(graph, f) for f in graph.__dataclass_fields__}
        | {
            "nodes": tuple(graph.nodes[n] for n in turned),
            "tail": swap[graph.tail],
            "head": swap[graph.head],
            "transit": graph.transit[turned],
        }
    )
    moved, notes = same_demand(RING, other)
    without = graph.__class__(
        **{f: getattr(graph, f) for f in graph.__dataclass_fields__}
        | {"nodes": tuple(n if n != name("cell-1") else "elsewhere" for n in graph.nodes)}
    )
    _, lost = same_demand(RING, without)

    assert not notes
    assert moved.rate[0, place[node("host-1")], place[node("cell-1")]] == pytest.approx(375.0)
    assert "375 packets/s begin or end where nothing is any more" in lost[0]
    assert name("cell-1") in lost[0]
