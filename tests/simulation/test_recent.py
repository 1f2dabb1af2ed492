"""Mean loads of the last half a minute: each figure once, none from before a change, none made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twin_networks import host, kpis, link, link_id, network, node_id

from domain_twin.model import Kpi, Network
from domain_twin.simulation.twin.recent import RecentLoads
from domain_twin.simulation.twin.traffic import loads_of

SECOND = 1_000_000_000


def at(second: float, mbps: float, pps: float = 100.0) -> Network:
    """A link and a host that reported their rates `second` seconds after the start."""

    def told(**values: float) -> dict[str, Kpi]:
        return {
            name: replace(kpi, received_at=round((1000 + second) * SECOND))
            for name, kpi in kpis(**values).items()
        }

    links = [link("r1", "r2", kpis=told(carried_rate=mbps))]
    return network(["r1", "r2", "h"], links=links, hosts=[host("h", kpis=told(handled_rate=pps))])


def test_loads_are_means_and_a_figure_counts_once() -> None:
    recent = RecentLoads()
    for second, mbps in enumerate((10.0, 20.0)):
        recent.note(at(second, mbps, mbps))
        recent.note(at(second, mbps, mbps))

    loads = recent.loads(at(2, 60.0, 60.0))
    again = recent.loads(at(2, 60.0, 60.0))

    assert loads.mbps == {link_id("r1", "r2"): pytest.approx(30.0)}
    assert loads.handled_pps == {node_id("h"): pytest.approx(30.0)}
    assert loads.assumptions == ("demand is that of the mean loads of the last 2 s",)
    assert again == loads, "the same version, the same answer"


def test_what_is_older_than_half_a_minute_does_not_count() -> None:
    recent = RecentLoads()
    recent.note(at(0, 1000.0))

    assert recent.loads(at(30, 10.0)).mbps == {link_id("r1", "r2"): 10.0}


def test_a_change_of_the_network_begins_anew() -> None:
    recent = RecentLoads()
    recent.note(at(0, 1000.0))

    recent.clear()

    assert recent.loads(at(1, 10.0)) == loads_of(at(1, 10.0))


def test_elements_that_report_no_more_have_no_load() -> None:
    recent = RecentLoads()
    recent.note(at(0, 1000.0))
    gone = network(["r1", "r2", "h"], hosts=at(1, 0.0, 50.0).hosts.values())

    loads = recent.loads(gone)

    assert loads.mbps == {}
    assert loads.handled_pps == {node_id("h"): 75.0}
