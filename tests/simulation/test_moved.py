"""The error of delays from inferred demand: where a change moved traffic, as large as the delay's slope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from whatif_network import DOMAIN, link, name, ring

from domain_twin.model import Version
from domain_twin.model.job import FlowForecast
from domain_twin.simulation.graph import Variant
from domain_twin.simulation.learned.moved import WITHIN_BORDERS, WITHOUT_BORDERS, moved_error_s
from domain_twin.simulation.questions.scenario_file import make_scenario
from domain_twin.simulation.questions.whatif import Question, answer, moved_between
from domain_twin.simulation.solve import Engine

RING = ring()


def test_an_edge_that_got_more_is_as_uncertain_as_its_delay_is_steep() -> None:
    engine = Engine(RING.graph, RING.demand)
    before = engine.solve()
    edge = RING.edges_of[link("r1", "r2")][0]
    load = before.edges.load * 2.0
    reference = load.copy()
    reference[edge] /= 2.0

    error = moved_error_s(before.state.laws, load, np.zeros_like(load), reference, borders=True)

    assert (error[np.arange(len(error)) != edge] == 0).all()
    assert error[edge, 0] > 0
    seen = moved_error_s(before.state.laws, load, np.zeros_like(load), reference, borders=False)
    assert seen[edge, 0] == pytest.approx(error[edge, 0] * WITHOUT_BORDERS / WITHIN_BORDERS, rel=0.1)


def test_all_that_left_an_edge_leaves_no_more_than_all_of_it_open() -> None:
    engine = Engine(RING.graph, RING.demand)
    laws, load = engine.solve().state.laws, engine.solve().edges.load

    error = moved_error_s(laws, load * 1e-6, np.zeros_like(load), load, borders=True)

    assert np.isfinite(error).all()
    assert (moved_error_s(laws, load * 0.0, np.zeros_like(load), load, borders=True) == 0).all()


def test_demand_that_the_scenario_sets_is_no_estimate() -> None:
    engine = Engine(RING.graph, RING.demand)
    before = engine.solve()
    busier = engine.solve(Variant("busier", demand_scale=1.5))
    cut = engine.solve(Variant("cut", down=frozenset(RING.edges_of[link("r1", "r2")])))

    assert (moved_between(before, busier, engine, borders=True) == 0).all()
    assert moved_between(before, cut, engine, borders=True).max() > 0


class Counting:
    """Intervals as wide as what is said to have been moved."""

    def around(self, figure: str, value: float, utilisation: float, **more: float) -> tuple[float, float]:
        half = more.get("moved", 0.0)
        return value - half, value + half


def flows(**document: Any) -> dict[tuple[str, str], FlowForecast]:
    question = Question(make_scenario(document), DOMAIN, Version("e", 7, 123), intervals=Counting())
    report = answer(RING, question, now=5)
    return {(flow.source, flow.target): flow for flow in report.flows}


def test_flows_are_as_uncertain_as_the_edges_on_their_new_way() -> None:
    moved = flows(changes=[{"kind": "element-down", "element": link("r1", "r2")}])[
        name("cell-1"), name("host-1")
    ]

    assert moved.before is not None
    assert moved.after is not None
    assert moved.before.delay_ms.low == moved.before.delay_ms.value
    assert moved.after.delay_ms.low < moved.after.delay_ms.value
    assert moved.after.loss.low == moved.after.loss.value
