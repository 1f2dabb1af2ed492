"""The learned correction: federated equals pooled, what it may change, and what files it accepts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import both_ways, network
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import Flows, solve_flows
from domain_twin.simulation.graph import Arrivals, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.learned.features import (
    DEGREES,
    DELAY_FEATURES,
    OF_WAIT,
    VARIANCE_FEATURES,
    features_of,
)
from domain_twin.simulation.learned.residual import (
    LARGEST_DELAY,
    LARGEST_VARIANCE,
    Evidence,
    Hull,
    Residual,
    Statistics,
    correct,
    evidence_of,
    fit,
    fit_robust,
)

DATA = (TrafficClass("data", (40.0, 200.0), (0.5, 0.5)),)
OPEN = Hull(10.0, (0.0, 1e9), (0.0, 100.0))


def case(seed: int, load: float = 0.6) -> tuple[SimGraph, Flows]:
    """Random walks over a ring with chords; the busiest link is at `load`."""
    rng = np.random.default_rng(seed)
    links = both_ways([(i, (i + 1) % 8, 1.0) for i in range(8)] + [(0, 4, 1.0), (2, 6, 1.0)])
    graph = network(8, links, classes=DATA)
    graph = replace(graph, capacity_bps=rng.choice([1e5, 2e5, 4e5], len(links)))
    leaving = [np.nonzero(graph.tail == node)[0] for node in range(8)]
    pairs, paths = [], []
    while len(paths) < 40:
        node = int(rng.integers(8))
        seen, path = [node], []
        for _ in range(int(rng.integers(1, 6))):
            onward = [edge for edge in leaving[seen[-1]] if graph.head[edge] not in seen]
            if not onward:
                break
            edge = int(rng.choice(onward))
            path.append(edge)
            seen.append(int(graph.head[edge]))
        if path:
            pairs.append((seen[0], seen[-1]))
            paths.append(path)
    flows = Flows.of(pairs, paths, rng.uniform(1.0, 5.0, len(paths)))
    busiest = solve_flows(graph, replace(flows, rate_pps=flows.rate_pps * 1e-3)).utilisation.max() * 1e3
    return graph, replace(flows, rate_pps=flows.rate_pps * load / busiest)


def evidence(seed: int, load: float = 0.6, noise: float = 0.02) -> Evidence:
    """What "measured" says: tables, off by a hidden rule and noise."""
    graph, flows = case(seed, load)
    solution = solve_flows(graph, flows)
    rng = np.random.default_rng(seed)
    features = features_of(graph, flows, solution)
    along = np.bincount(solution.hops.flow, features.delay[:, 0], flows.count)
    delay = (solution.delay_s + 0.5 * along) * (1 + noise * rng.standard_normal(flows.count))
    variance = solution.variance_s2 * (1 + noise * rng.standard_normal(flows.count))
    return evidence_of(graph, flows, solution, delay, variance)


PARTS = [evidence(seed) for seed in range(6)]


def total(parts: list[Statistics]) -> Statistics:
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found


def pooled(parts: list[Evidence]) -> Evidence:
    return Evidence(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("delay_features", "delay_miss", "variance_features", "variance_miss")
        ),
        parts[0].hull if len(parts) == 1 else sum((part.hull for part in parts[1:]), parts[0].hull),
    )


def constant(value: float) -> Residual:
    return Residual(
        np.full(len(DELAY_FEATURES), value), np.full(len(VARIANCE_FEATURES), value), OPEN, flows=1
    )


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_a_federated_fit_is_the_pooled_one(order: list[int], cut: int) -> None:
    groups = [[PARTS[i] for i in order[:cut]], [PARTS[i] for i in order[cut:]]]
    # Each domain adds up its own; what travels is JSON.
    sent = [total([part.statistics() for part in group]).to_json() for group in groups]

    federated = fit(total([Statistics.from_json(text) for text in sent]))

    together = fit(pooled([PARTS[i] for i in range(6)]).statistics())
    np.testing.assert_allclose(federated.delay, together.delay, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(federated.variance, together.variance, rtol=1e-10, atol=1e-10)
    assert federated.flows == together.flows
    assert federated.hull.utilisation == together.hull.utilisation


def test_a_federated_robust_fit_is_the_pooled_one() -> None:
    federated = fit_robust(PARTS, rounds=4)

    together = fit_robust([pooled(PARTS)], rounds=4)

    np.testing.assert_allclose(federated.delay, together.delay, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(federated.variance, together.variance, rtol=1e-10, atol=1e-10)


def test_statistics_are_sums_only() -> None:
    found = json.loads(PARTS[0].statistics().to_json())

    flat = json.dumps(found)
    assert set(found) == {"schema", "delay", "variance", "hull"}
    assert len(found["delay"]["gram"]) == len(DELAY_FEATURES) == 22
    # Nothing that grows with the number of flows.
    assert len(flat) < 40_000


def test_a_hidden_rule_is_found_and_corrects_an_unseen_network() -> None:
    residual = fit(total([evidence(seed, noise=0.0).statistics() for seed in range(6)]), ridge=1e-8)
    graph, flows = case(99, load=0.5)
    solution = solve_flows(graph, flows)
    features = features_of(graph, flows, solution)
    truth = solution.delay_s + 0.5 * np.bincount(solution.hops.flow, features.delay[:, 0], flows.count)

    found = correct(residual, graph, flows, solution)

    assert found.outside == 0
    assert np.abs(solution.delay_s / truth - 1).max() > 0.01
    np.testing.assert_allclose(found.delay_s, truth, rtol=2e-3)


def test_a_robust_fit_minds_outliers_less() -> None:
    clean = fit(total([part.statistics() for part in PARTS]))
    rng = np.random.default_rng(1)
    spoilt = []
    for part in PARTS:
        miss = part.delay_miss.copy()
        miss[rng.choice(len(miss), 4, replace=False)] -= 3.0
        spoilt.append(replace(part, delay_miss=miss))

    square = fit(total([part.statistics() for part in spoilt]))
    robust = fit_robust(spoilt)

    def away(found: Residual) -> float:
        everything = pooled(PARTS).delay_features
        return float(np.abs(everything @ (found.delay - clean.delay)).mean())

    assert away(robust) < 0.3 * away(square)


def test_flows_of_one_link_each_have_nothing_to_correct() -> None:
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=DATA, capacity_bps=1e5)
    flows = Flows.of([(0, 1), (1, 2)], [[0], [1]], [40.0, 40.0])
    solution = solve_flows(graph, flows)

    features = features_of(graph, flows, solution)

    assert (features.delay == 0).all()
    assert (features.variance == 0).all()


def test_the_correction_is_silent_outside_of_what_it_was_fitted_on() -> None:
    graph, flows = case(7, load=0.5)
    solution = solve_flows(graph, flows)
    busy = int((solution.load_pps.sum(axis=1) > 0).sum())
    free = correct(constant(0.01), graph, flows, solution)
    assert free.outside == 0
    assert not np.array_equal(free.delay_s, solution.delay_s)

    for hull in (
        Hull(1e-6, (0.0, 1e9), (0.0, 100.0)),
        Hull(10.0, (40.0, 60.0), (0.0, 100.0)),
        Hull(10.0, (0.0, 9.0), (0.0, 100.0)),
        Hull(10.0, (0.0, 1e9), (0.0, 0.1)),
        Hull(10.0, (0.0, 1e9), (2.0, 3.0)),
    ):
        found = correct(replace(constant(0.01), hull=hull), graph, flows, solution)
        assert found.outside == busy
        assert np.array_equal(found.delay_s, solution.delay_s)
        assert np.array_equal(found.variance_s2, solution.variance_s2)


def test_one_queue_beyond_the_hull_is_left_alone_and_counted() -> None:
    graph, flows = case(7, load=0.5)
    solution = solve_flows(graph, flows)
    second = np.sort(solution.utilisation)[-2]

    found = correct(
        replace(constant(0.01), hull=replace(OPEN, utilisation=float(second))), graph, flows, solution
    )

    assert found.outside == 1


def test_a_full_queue_of_what_another_sends_is_left_alone() -> None:
    # The first queue is full; all that it lets through goes to the second, spaced out.
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=DATA, capacity_bps=1e5)
    rate = 1.3 * 1e5 / 960
    flows = Flows.of([(0, 2), (1, 2)], [[0, 1], [1]], [rate, 0.02 * rate])
    solution = solve_flows(graph, flows)
    assert (solution.utilisation > 0.95).all()

    found = correct(constant(0.01), graph, flows, solution)

    assert found.outside == 1  # the first has no queue before it: nothing to be crowded by
    assert np.array_equal(found.delay_s, solution.delay_s)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: replace(g, classes=(replace(DATA[0], arrivals=Arrivals.CBR),)),
        lambda g: replace(g, scheduler=np.full(len(g.edges), Scheduler.WFQ, np.int8)),
        lambda g: replace(g, law=np.full(len(g.edges), Law.CELL, np.int8)),
    ],
)
def test_queues_that_it_knows_nothing_of_are_not_corrected(change: object) -> None:
    graph, flows = case(3)
    other = change(graph)  # type: ignore[operator]
    solution = solve_flows(other, flows)

    found = correct(constant(0.5), other, flows, solution)

    assert found.outside == (solution.load_pps.sum(axis=1) > 0).sum()
    assert np.array_equal(found.delay_s, solution.delay_s)


@pytest.mark.parametrize("value", [50.0, -50.0])
def test_a_correction_is_bounded_and_counted(value: float) -> None:
    graph, flows = case(5)
    solution = solve_flows(graph, flows)

    found = correct(constant(value), graph, flows, solution)

    slack = 1 + 1e-12
    assert found.clamped > 0
    assert (np.abs(found.delay_s - solution.delay_s) <= LARGEST_DELAY * solution.delay_s * slack).all()
    assert (
        np.abs(found.variance_s2 - solution.variance_s2) <= LARGEST_VARIANCE * solution.variance_s2 * slack
    ).all()
    assert (found.variance_s2 > 0).all()


def one_feature(index: int, value: float) -> Residual:
    delay = np.zeros(len(DELAY_FEATURES))
    delay[index] = value
    return Residual(delay, np.zeros(len(VARIANCE_FEATURES)), OPEN, flows=1)


@pytest.mark.parametrize("index", [8, 10, 12, 14, 18])
def test_more_load_never_means_less_wait(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Wide limits: it is the guard, hop by hop, that must hold.
    monkeypatch.setattr("domain_twin.simulation.learned.residual.LARGEST_DELAY", 1e9)
    residual = one_feature(index, -30.0)
    # Two queues in a row of the same rate: the second one's features are all at work.
    graph = network(3, [(0, 1, 1.0), (1, 2, 1.0)], classes=DATA, capacity_bps=1e5)
    guarded, before = 0, np.zeros(2)
    for load in np.linspace(0.02, 0.9, 45):
        rate = load * 1e5 / 960
        flows = Flows.of([(0, 2), (1, 2)], [[0, 1], [1]], [0.5 * rate, 0.5 * rate])
        found = correct(residual, graph, flows, solve_flows(graph, flows))
        assert (found.delay_s >= before - 1e-9).all(), load
        before, guarded = found.delay_s, guarded + found.guarded
    assert guarded > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_degrees_of_the_features_are_how_they_grow_with_load(seed: int) -> None:
    graph, flows = case(seed, load=0.3)
    step = 1e-4
    base, more = (
        solve_flows(graph, replace(flows, rate_pps=flows.rate_pps * scale)) for scale in (1.0, 1.0 + step)
    )
    one, other = (features_of(graph, flows, solution).delay for solution in (base, more))
    growth = base.wait_growth[base.hops.edge, base.hops.traffic_class]

    expected = one * (DEGREES + np.where(OF_WAIT, growth[:, None], 0.0))

    scale = np.abs(expected).max(axis=0)
    np.testing.assert_allclose((other - one) / step / scale, expected / scale, atol=2e-2)


def test_what_was_not_measured_is_left_out_of_a_fit() -> None:
    graph, flows = case(2)
    solution = solve_flows(graph, flows)
    delay, variance = solution.delay_s.copy(), solution.variance_s2.copy()
    delay[:3] = np.nan
    variance[:5] = 0.0

    found = evidence_of(graph, flows, solution, delay, variance)

    assert len(found.delay_miss) == flows.count - 3
    assert len(found.variance_miss) == flows.count - 5
    with pytest.raises(ConfigError, match="nothing to fit"):
        evidence_of(graph, flows, solution, np.full(flows.count, np.nan), variance)


def test_a_fit_on_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no network to fit on"):
        fit_robust([])


def test_a_saved_correction_is_the_same_when_loaded(tmp_path: Path) -> None:
    residual = fit(total([part.statistics() for part in PARTS]))
    path = tmp_path / "residual.json"

    residual.save(path)
    loaded = Residual.load(path)

    assert loaded.digest == residual.digest
    assert np.array_equal(loaded.delay, residual.delay)
    assert loaded.hull.rooms == residual.hull.rooms


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["delay"].__setitem__(0, d["delay"][0] + 1e-6), "digest does not fit"),
        (lambda d: d.__setitem__("schema", "fedtwin-residual/0"), "schema is not"),
        (lambda d: d["delay"].pop(), "wrong shape"),
        (lambda d: d["variance"].__setitem__(0, None), "wrong shape"),
        (lambda d: d.pop("hull"), "a field is missing"),
        (lambda d: d["delay_features"].reverse(), "other features"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, change: object, says: str) -> None:
    path = tmp_path / "residual.json"
    fit(PARTS[0].statistics()).save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(ConfigError, match=rf"residual.json: .*{says}"):
        Residual.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "no"])
def test_files_and_statistics_of_something_else_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"other.json"):
        Residual.load(path)
    with pytest.raises(ConfigError, match="statistics"):
        Statistics.from_json(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        Residual.load(tmp_path / "none.json")


def test_statistics_with_infinite_sums_are_refused() -> None:
    document = json.loads(PARTS[0].statistics().to_json())
    document["delay"]["gram"][0][0] = float("inf")

    with pytest.raises(ConfigError, match="finite"):
        Statistics.from_json(json.dumps(document))
