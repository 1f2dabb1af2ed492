"""The correction of links' delays in the engine: silent where calibration is right, and bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from twin_networks import link_id, small

from domain_twin.simulation.graph import Demand, Variant
from domain_twin.simulation.learned.load_curve import Correction, LoadCurve
from domain_twin.simulation.learned.residual import LARGEST_DELAY
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic
from domain_twin.simulation.twin.compile import Compiled, compile_network

NETWORK = small()
LINKS = tuple(sorted(NETWORK.links))
GROWS = LoadCurve(np.array([0.0, 0.8, 0.0, 0.0, 0.0]), 0.9)
FALLS = LoadCurve(np.array([0.0, -40.0, 0.0, 0.0, 0.0]), 0.9)


def calibrated(load: float, fixed_s: float = 1e-4) -> Calibration:
    fits = {
        name: ElementFit(name, "link", fixed_s=fixed_s, variance_ratio=1.0, load=load, points=40)
        for name in LINKS
    }
    return Calibration("lab", traffic=Traffic(1000.0, 20.0, 1.0, octets_counted=True), elements=fits)


def compiled(load: float, fixed_s: float = 1e-4) -> Compiled:
    return compile_network(NETWORK, calibration=calibrated(load, fixed_s))


def engine(made: Compiled, curve: LoadCurve | None, load: float, fixed_s: float = 1e-4) -> Engine:
    correction = Correction.of(curve, made.graph, calibrated(load, fixed_s)) if curve else None
    return Engine(made.graph, made.demand, correction=correction)


def on_links(
    made: Compiled, *curves: LoadCurve | None, times: float, load: float, fixed_s: float = 1e-4
) -> list[NDArray[np.float64]]:
    """Delays of LINKS at `times` the demand, s, with each of `curves`."""
    edges = [made.graph.edges.index(name) for name in LINKS]
    asked = replace(made, demand=Demand(made.demand.rate * times))
    return [engine(asked, curve, load, fixed_s).solve().edges.delay[edges, 0] for curve in curves]


def test_where_calibration_is_right_nothing_is_corrected_and_more_load_waits_more() -> None:
    made = compiled(0.1)
    plain = engine(made, None, 0.1).solve()
    edge = made.graph.edges.index(link_id("r1", "upf"))
    there = float(plain.utilisation[edge])

    here = engine(made, GROWS, there).solve()
    assert here.edges.delay[edge, 0] == pytest.approx(plain.edges.delay[edge, 0], rel=1e-9)
    before, after = on_links(made, None, GROWS, times=3.0, load=there)
    assert after[LINKS.index(link_id("r1", "upf"))] > before[LINKS.index(link_id("r1", "upf"))]


def test_all_figures_of_a_pair_rest_on_the_corrected_links() -> None:
    made = compiled(0.02)
    plain, grown = (engine(made, curve, 0.02).solve() for curve in (None, GROWS))
    source, target = map(int, np.argwhere(made.demand.rate[0].T > 0)[0])
    path = grown.path(source, target)

    added = sum(grown.edges.delay[edge, 0] - plain.edges.delay[edge, 0] for edge in path)
    assert added != 0
    assert grown.delay_s[0, target, source] == pytest.approx(plain.delay_s[0, target, source] + added)
    (swept,) = engine(made, GROWS, 0.02).sweep([Variant()], pairs=[(source, target)])
    assert swept.delay_s[0, 0] == pytest.approx(grown.delay_s[0, target, source])


def test_more_load_never_waits_less_and_no_link_is_changed_by_more_than_its_limit() -> None:
    made = compiled(0.02)
    delays = [on_links(made, FALLS, times=times, load=0.02)[0] for times in np.linspace(1.0, 6.0, 12)]
    assert (np.diff(delays, axis=0) >= -1e-12).all()

    huge = LoadCurve(np.array([0.0, 500.0, 0.0, 0.0, 0.0]), 0.9)
    plain, grown = on_links(made, None, huge, times=4.0, load=0.02)
    assert (grown <= plain * (1 + LARGEST_DELAY) + 1e-12).all()
    assert (grown > plain).any()


def test_beyond_the_loads_of_the_fit_the_correction_stays_as_it_was_there() -> None:
    made = compiled(0.02)
    near = replace(GROWS, reach=0.05)
    first, second = (np.subtract(*on_links(made, near, None, times=times, load=0.02)) for times in (4.0, 5.0))
    grown = np.subtract(*on_links(made, GROWS, None, times=5.0, load=0.02))
    assert first == pytest.approx(second)
    assert grown.max() > second.max()


def test_links_that_calibration_does_not_know_are_left_alone() -> None:
    made = compiled(0.02)
    assert Correction.of(GROWS, made.graph, None).links == ()
    known = replace(calibrated(0.02), elements={LINKS[0]: calibrated(0.02).elements[LINKS[0]]})
    assert [made.graph.edges[e] for e in Correction.of(GROWS, made.graph, known).links] == [LINKS[0]]
    old = replace(known, elements={LINKS[0]: replace(known.elements[LINKS[0]], load=float("nan"))})
    assert Correction.of(GROWS, made.graph, old).links == ()


def test_a_link_faster_than_its_law_is_corrected_at_any_load() -> None:
    early = LoadCurve(np.array([0.0, 0.0, 0.0, -0.3, 0.0]), 0.9)
    made = compiled(0.02, fixed_s=0.0)
    plain, slower = on_links(made, None, early, times=2.0, load=0.02, fixed_s=0.0)
    assert (slower <= plain).all()
    assert (slower < plain).any()
    usual = on_links(compiled(0.02), None, early, times=2.0, load=0.02)
    assert usual[0] == pytest.approx(usual[1])
