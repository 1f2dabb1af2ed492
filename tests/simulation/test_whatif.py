"""A domain's answer: figures on both sides, findings, rows of sweeps; the same bytes in every process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whatif_network import DOMAIN, Network, link, name, ring

from domain_twin.errors import ConfigError, ContractError, NotFound, StaleVersion
from domain_twin.model import Severity, StateKind, Version
from domain_twin.model.job import Report, Requirements
from domain_twin.model.job_json import digest_of, parse_report, report_json
from domain_twin.simulation.graph import Demand
from domain_twin.simulation.questions.forecast import Promise
from domain_twin.simulation.questions.scenario_file import make_scenario
from domain_twin.simulation.questions.whatif import Question, answer

VERSION = Version("e", 7, 123)
RING = ring()


def ask(network: Network = RING, *, after: Network | None = None, **document: Any) -> Report:
    question = {
        key: document.pop(key) for key in ("promises", "requirements", "intervals") if key in document
    }
    return answer(network, Question(make_scenario(document), DOMAIN, VERSION, **question), after=after, now=5)


def down(element: str) -> dict[str, Any]:
    return {"kind": "element-down", "element": element}


def codes(report: Report) -> list[tuple[str, str]]:
    return [(finding.code, finding.element) for finding in report.findings]


def test_a_cut_is_told_by_its_flows_paths_and_elements() -> None:
    report = ask(changes=[down(link("r1", "r2"))])

    flows = {(flow.source, flow.target): flow for flow in report.flows}
    moved = flows[name("cell-1"), name("host-1")]
    assert moved.before is not None
    assert moved.after is not None
    assert [part.element for part in moved.path_before][1:3] == [link("r1", "r2"), link("r2", "r3")]
    assert [part.element for part in moved.path_after][1:3] == [link("r1", "r4"), link("r4", "r3")]
    assert sum(part.delay_ms for part in moved.path_after) == pytest.approx(moved.after.delay_ms.value)
    assert moved.after.throughput_mbps.value == pytest.approx(3.0)
    assert moved.after.delay_ms.value < moved.after.p90_ms.value < moved.after.p99_ms.value
    use = {item.element: (item.utilisation_before, item.utilisation_after) for item in report.elements}
    assert use[link("r1", "r2")] == (pytest.approx(0.308), 0.0)
    assert (report.kind, report.rung, report.versions) == (StateKind.CANDIDATE, "tables", {DOMAIN: VERSION})
    assert report.domains[0].outcome.value == "ok"
    assert any("no intervals" in said for said in report.assumptions)
    assert math.isnan(moved.after.delay_ms.low)  # nothing calibrates it: no interval is made up


def test_what_is_known_of_errors_becomes_intervals() -> None:
    class Tenth:
        def around(
            self,
            figure: str,
            value: float,
            utilisation: float,
            *,
            noise: float = 0.0,
            moved: float = 0.0,
        ) -> tuple[float, float]:
            assert 0.0 < utilisation <= 1.0
            return value * 0.9, value * 1.1

    report = ask(changes=[down(link("r1", "r2"))], intervals=Tenth())

    delay = report.flows[0].before
    assert delay is not None
    assert delay.delay_ms.low < delay.delay_ms.value < delay.delay_ms.high
    assert not any("no intervals" in said for said in report.assumptions)


def test_a_flow_that_loses_its_path_is_a_finding_and_has_no_figures() -> None:
    report = ask(changes=[down("r3")])

    cut = {flow.target: flow for flow in report.flows if flow.after is None}
    assert name("host-1") in cut
    assert cut[name("host-1")].before is not None
    assert cut[name("host-1")].path_after == ()
    assert ("what-if.unreachable", name("host-1")) in codes(report)


def test_a_disconnected_network_is_answered_with_findings() -> None:
    island = ring(links=(("r1", "r2", 1), ("r3", "r4", 1)))

    report = ask(island, changes=[{"kind": "demand", "factor": 1.1}], flows=[["cell-1", "host-1"]])

    assert (report.flows[0].before, report.flows[0].after) == (None, None)
    assert ("what-if.unreachable", name("host-1")) in codes(report)


def test_overload_far_beyond_capacity_is_marked_and_finite() -> None:
    report = ask(changes=[{"kind": "demand", "factor": 1000}], flows=[["cell-1", "host-1"]])

    found = {finding.code: finding for finding in report.findings}
    assert found["what-if.overload"].severity is Severity.ERROR
    assert "% of what it can carry" in found["what-if.overload"].message
    figures = report.flows[0].after
    assert figures is not None
    assert all(math.isfinite(getattr(figures, key).value) for key in figures.__slots__)
    assert figures.loss.value > 0.9
    assert figures.throughput_mbps.value < 50.0
    assert found["what-if.loss"].severity is Severity.WARNING


def test_hot_elements_are_warned_of() -> None:
    report = ask(changes=[{"kind": "demand", "factor": 2.7}])

    assert ("what-if.hot", link("r1", "r2")) in codes(report)
    assert "what-if.overload" not in {code for code, _ in codes(report)}


def test_missed_objectives_and_requirements_are_findings() -> None:
    promise = Promise("urn:slice-1", "cell-1", "host-1", delay_ms=6.2)
    elsewhere = Promise("urn:other", "cell-1", "edge/app", delay_ms=0.1)

    kept = ask(changes=[{"kind": "demand", "factor": 0.5}], promises=[promise])
    broken = ask(
        changes=[{"kind": "demand", "factor": 2.5}],
        promises=[promise, elsewhere],
        requirements=Requirements(delay_ms=6.3),
    )

    assert [flow.service for flow in kept.flows if flow.service] == ["urn:slice-1"]
    assert ("what-if.objective", "urn:slice-1") not in codes(kept)
    assert ("what-if.objective", "urn:slice-1") in codes(broken)
    assert {code for code, _ in codes(broken)} >= {"what-if.objective", "what-if.requirement"}
    assert not any(element == "urn:other" for _, element in codes(broken))


def test_a_new_service_is_judged_by_its_promise_and_burdens_the_others() -> None:
    change = {"kind": "service", "name": "slice-9", "source": "cell-1", "target": "r3", "mbps": 6}

    report = ask(changes=[change | {"delay_ms": 1.0}])

    new = next(flow for flow in report.flows if flow.service == "slice-9")
    assert new.before is None
    assert new.after is not None
    assert new.traffic_class == "slice-9"
    assert ("what-if.objective", "slice-9") in codes(report)
    other = next(flow for flow in report.flows if flow.traffic_class == "best-effort")
    assert other.before is not None
    assert other.after is not None
    assert other.after.delay_ms.value > other.before.delay_ms.value


def test_a_candidates_network_is_compared_by_name() -> None:
    edited = ring(links=(("r1", "r2", 1), ("r2", "r3", 1), ("r3", "r4", 1), ("r4", "r1", 1), ("r1", "r3", 1)))
    lost = ring()
    after = Network(edited.graph, Demand(edited.demand.rate * 0.0), edited.edges_of, edited.node_of)

    report = ask(lost, after=after, changes=[{"kind": "config", "device": "r1", "path": "/x", "value": 1}])

    flow = next(flow for flow in report.flows if flow.target == name("host-1"))
    assert len(flow.path_after) == len(flow.path_before) - 1
    assert flow.after is not None
    assert flow.after.throughput_mbps.value == pytest.approx(3.0)  # people send what they sent before
    made = next(item for item in report.elements if item.element == link("r1", "r3"))
    assert math.isnan(made.utilisation_before)


def test_a_change_without_effect_is_said() -> None:
    up = RING.graph.up.copy()
    up[list(RING.edges_of[name("r4:to-r1")])] = False
    broken = Network(replace(RING.graph, up=up), RING.demand, RING.edges_of, RING.node_of)

    report = ask(broken, changes=[down(link("r4", "r1"))])

    assert [finding.code for finding in report.findings] == ["what-if.no-effect"]
    assert report.flows == ()


@pytest.mark.parametrize(
    ("rung", "words"), [("residual", "it has no fitted correction"), ("packets", "ask at")]
)
def test_a_rung_that_is_not_served_is_refused(rung: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"rung: {rung} is not answered by this twin.*{words}"):
        ask(changes=[down("r1")], rung=rung)


def test_the_rung_capacity_says_what_fits_and_what_is_cut() -> None:
    report = ask(
        changes=[down("r2"), {"kind": "demand", "factor": 4}],
        rung="capacity",
        flows=[["cell-1", "host-1"]],
    )

    found = {finding.code: finding for finding in report.findings}
    use = {item.element: item.utilisation_after for item in report.elements}
    asked = report.flows[0]
    assert report.rung == "capacity"
    assert asked.after is not None
    assert math.isnan(asked.after.delay_ms.value)  # not said, and not made up
    assert [flow.target for flow in report.flows[1:]] == [name("r2")]
    assert report.flows[1].after is None
    assert use[link("r1", "r4")] == pytest.approx(4 * 0.308)  # what is offered, not what is carried
    assert ("what-if.overload", link("r1", "r4")) in codes(report)
    assert ("what-if.unreachable", name("r2")) in codes(report)
    assert "81% on its paths, routed at best 81%" in found["what-if.headroom"].message
    assert any("delays and losses are not said" in said for said in report.assumptions)
    assert parse_report(report_json(report)).flows[0].source == name("cell-1")


def test_the_rung_capacity_sweeps_and_leaves_what_it_knows_when_stopped() -> None:
    document = {"sweep": {"kind": "failures"}, "rung": "capacity"}
    by_capacity, by_queues = ask(**document), ask(sweep={"kind": "failures"})
    kept: list[Report] = []

    def progress(fraction: float, step: str) -> None:
        if step.startswith("variant 2"):
            raise StaleVersion("stop")

    with pytest.raises(StaleVersion):
        answer(RING, Question(make_scenario(document), DOMAIN, VERSION), progress=progress, keep=kept.append)

    for row, other in zip(by_capacity.rows, by_queues.rows, strict=True):
        assert (row.name, row.busiest, row.unreachable) == (other.name, other.busiest, other.unreachable)
        assert row.highest_utilisation == pytest.approx(other.highest_utilisation, rel=1e-3)
    assert len(kept[0].rows) == 2
    assert any("stopped after 2 of 4 variants" in said for said in kept[0].assumptions)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -1.0, 0.0])
def test_a_network_that_cannot_be_computed_with_is_refused(broken: float) -> None:
    capacity = RING.graph.capacity_bps.copy()
    capacity[0] = broken
    graph = replace(RING.graph, capacity_bps=capacity)

    with pytest.raises(ConfigError, match=r"urn:ndt:ran:r1:to-r2:out: capacity_bps .* is refused"):
        ask(Network(graph, RING.demand, RING.edges_of, RING.node_of), changes=[down("r3")])


def test_demand_that_is_none_is_refused() -> None:
    rate = RING.demand.rate.copy()
    rate[0, 1, 2] = np.nan
    with pytest.raises(ConfigError, match="must be finite"):
        ask(Network(RING.graph, Demand(rate), RING.edges_of, RING.node_of), changes=[down("r3")])


@pytest.mark.parametrize(
    ("flows", "kind", "words"),
    [
        ([["cell-1", "nowhere"]], NotFound, "no element 'nowhere'"),
        ([["cell-1", link("r1", "r2")]], ConfigError, "no place where traffic"),
        ([["r1", name("r1")]], ConfigError, "are one place"),
    ],
)
def test_flows_that_are_not_there_are_refused(flows: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        ask(changes=[down("r3")], flows=flows)


# --- sweeps


def test_a_sweep_has_a_row_for_each_variant_equal_to_asking_one_by_one() -> None:
    report = ask(sweep={"kind": "failures"}, flows=[["cell-1", "host-1"]])

    assert len(report.rows) == 4
    for row in report.rows:
        single = ask(changes=[down(row.name.removesuffix(" down"))], flows=[["cell-1", "host-1"]])
        figures = single.flows[0].after
        assert figures is not None
        assert row.worst_delay_ms == pytest.approx(figures.delay_ms.value, rel=1e-9)
        assert row.worst_flow == f"{name('cell-1')} > {name('host-1')} (best-effort)"
        assert row.worst_loss == pytest.approx(figures.loss.value, abs=1e-12)
        assert row.unreachable == 0


def test_rows_judge_all_flows_where_none_is_named() -> None:
    report = ask(sweep={"kind": "failures", "of": "nodes"})

    lost = {row.name: row.unreachable for row in report.rows}
    assert lost[f"{name('r1')} down"] == 2  # the cell's traffic, and what r1 sends itself
    assert report.flows == ()


def test_rows_name_the_services_that_miss_their_objective() -> None:
    promise = Promise("urn:slice-1", "cell-1", "host-1", delay_ms=6.4)
    report = ask(
        changes=[down(link("r4", "r1"))],
        sweep={"kind": "grid", "demand": [1, 2.7]},
        promises=[promise],
        requirements=Requirements(delay_ms=1.0),
    )

    assert [row.missed for row in report.rows] == [("urn:slice-1",), ("urn:slice-1",)]
    assert report.rows[1].highest_utilisation > 0.8
    assert report.rows[1].busiest == link("r1", "r2")


def test_a_sweep_that_is_stopped_leaves_what_it_knows() -> None:
    class Stop(Exception):
        pass

    kept: list[Report] = []

    def progress(fraction: float, step: str) -> None:
        if step.startswith("variant 3"):
            raise Stop

    with pytest.raises(Stop):
        answer(
            RING,
            Question(make_scenario({"sweep": {"kind": "failures"}}), DOMAIN, VERSION),
            progress=progress,
            keep=kept.append,
        )

    assert len(kept[0].rows) == 3
    assert any("stopped after 3 of 4 variants" in said for said in kept[0].assumptions)
    assert kept[0].digest == digest_of(kept[0])


# --- the same bytes

DOCUMENT: dict[str, Any] = {
    "seed": 11,
    "changes": [down(link("r1", "r2")), {"kind": "cell-load", "element": "cell-1", "factor": 1.5}],
    "sweep": {"kind": "monte-carlo", "draws": 40, "link_failure": 0.2, "demand_sigma": 0.4},
}
SCRIPT = """
import sys
from test_whatif import DOCUMENT, ask
from domain_twin.model.job_json import report_json
sys.stdout.buffer.write(report_json(ask(**DOCUMENT)))
"""


def test_equal_questions_have_equal_bytes_in_every_process() -> None:
    here = report_json(ask(**DOCUMENT))
    folder = str(Path(__file__).parent)

    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": folder}  # another order of sets
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True, timeout=300
    )
    assert found.stdout == here


def test_the_digest_is_of_all_but_the_job_and_the_time() -> None:
    report = ask(**DOCUMENT)

    assert digest_of(replace(report, job="another", answered_at=99)) == report.digest
    assert digest_of(replace(report, rung="residual")) != report.digest
    assert parse_report(report_json(report)).rows == report.rows
    with pytest.raises(ContractError, match="its digest is not that of its content"):
        parse_report(report_json(replace(report, rung="residual")))


def test_bytes_that_are_no_report_are_refused_by_place() -> None:
    with pytest.raises(ContractError, match=r"Report: .* at job: Field required"):
        parse_report(b"{}")
    with pytest.raises(ContractError, match="Report: 3 bytes"):
        parse_report(b"???")
