"""What the demo makes of an agent's report: sums, route, errors; no prediction where there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cli_samples
import forecast_samples as samples
import pytest
from twin_with_jobs import Asked, serving

from domain_twin.errors import NotFound
from domain_twin.model.job import FlowForecast
from domain_twin.model.scenario import ElementDown
from domain_twin.simulation.questions.scenario_file import load_scenario
from federation.cli.demo.account import Phase
from federation.cli.demo.prediction import borders, foresee, judge, none, predicted
from federation.client import TwinClient

LINK = "urn:ndt:transport:poznan:wroclaw"
BEFORE = Phase("before", delay_ms=7.0, metric=1, met=True, budget=[])
AFTER = replace(BEFORE, name="cut", delay_ms=10.5, packets_delay_ms=10.0)


def inner(**changes: object) -> FlowForecast:
    """Transport's part of the service: 1.9 ms, then 4.9 ms."""
    made: dict[str, object] = {
        "source": "urn:ndt:idl:4k2m",
        "target": "urn:ndt:idl:p8q1",
        "before": samples.figures(1.9),
        "after": samples.figures(4.9),
        "path_before": samples.BEFORE[2:3],
        "path_after": samples.AFTER[2:4],
    }
    return samples.flow(**(made | changes))


def test_only_the_domain_s_own_part_changes() -> None:
    said = predicted(samples.report(flows=(inner(),)), BEFORE, link=LINK, took_ms=80)

    assert said.delay_ms == pytest.approx(7.0 + 3.0)
    assert (said.low_ms, said.high_ms) == pytest.approx((10.0 - 0.147, 10.0 + 0.147))
    assert said.route == ("poznan", "lodz", "wroclaw")


def test_an_interval_holds_the_noise_of_as_many_packets_as_were_timed() -> None:
    timed = replace(BEFORE, packets=400, packets_std_error_ms=0.1)
    flow = inner()

    said = predicted(samples.report(flows=(flow,)), timed, link=LINK, took_ms=80)

    assert flow.after
    noise = flow.after.delay_variance_ms2.value / 400 + 0.1**2
    assert said.high_ms - said.delay_ms == pytest.approx(math.hypot(0.147, 1.645 * math.sqrt(noise)))
    assert said.delay_ms - said.low_ms == pytest.approx(said.high_ms - said.delay_ms)


def test_classes_count_by_what_they_carry() -> None:
    busy = inner(before=samples.figures(1.0, mbps=30), after=samples.figures(2.0, mbps=30))
    idle = inner(before=samples.figures(3.0, mbps=10), after=samples.figures(8.0, mbps=10))

    said = predicted(samples.report(flows=(busy, idle)), BEFORE, link=LINK, took_ms=80)

    assert said.delay_ms == pytest.approx(7.0 + (30 * 1.0 + 10 * 5.0) / 40)


@pytest.mark.parametrize(
    ("flows", "words"),
    [
        ((), "no figures for this service's part"),
        ((inner(after=None, path_after=()),), "there is no path from urn:ndt:idl:4k2m"),
    ],
)
def test_without_figures_there_is_no_prediction(flows: tuple[FlowForecast, ...], words: str) -> None:
    with pytest.raises(NotFound, match=words):
        predicted(samples.report(flows=flows), BEFORE, link=LINK, took_ms=80)


def test_a_prediction_is_judged_by_what_came() -> None:
    said = predicted(samples.report(flows=(inner(),)), BEFORE, link=LINK, took_ms=80)

    verdict = judge(said, AFTER, ["poznan", "lodz", "wroclaw"])

    assert verdict.of_twin_percent == pytest.approx(100 * (10.0 - 10.5) / 10.5)
    assert verdict.of_packets_percent == pytest.approx(0.0)
    assert verdict.inside is True
    assert verdict.same_route
    assert judge(said, replace(AFTER, packets_delay_ms=None), []).inside is None
    assert judge(said, replace(AFTER, packets_delay_ms=11.0), []).inside is False
    assert math.isnan(judge(none(LINK, "why"), AFTER, []).of_packets_percent)


def test_a_service_s_part_lies_between_two_inter_domain_links() -> None:
    assert borders(cli_samples.service()) == ("urn:ndt:idl:4k2m", "urn:ndt:idl:p8q1")
    with pytest.raises(NotFound, match="does not cross nowhere"):
        borders(cli_samples.service(), "nowhere")


def across(**changes: object) -> FlowForecast:
    """The service as the broker composes it: transport's part grows by 3.2 ms."""
    parts = [samples.segment("ran", 1.0), samples.BORDER, samples.segment("transport", 2.0)]
    made: dict[str, object] = {
        "source": "ran/cell-1",
        "target": "edge/host-1",
        "before": samples.figures(3.5),
        "after": samples.figures(6.7),
        "path_before": tuple(parts),
        "path_after": (*parts[:2], samples.segment("transport", 5.2)),
    }
    return samples.flow(**(made | changes))


async def test_the_broker_is_asked_for_all_and_told_nothing_of_the_link(tmp_path: Path) -> None:
    own = Asked(report=samples.report(flows=(inner(),)))
    broker = Asked(report=samples.report(flows=(across(), across(source="ran/cell-9"))))
    async with (
        serving(tmp_path / "a", own) as (socket, _),
        serving(tmp_path / "b", broker) as (other, _),
        TwinClient.connect(other) as twin,
    ):
        said = await foresee(socket, twin, cli_samples.service(), BEFORE, LINK)

    assert said.delay_ms == pytest.approx(7.0 + 3.2)
    assert said.route == ("poznan", "lodz", "wroclaw")
    assert said.changes_ms == pytest.approx({"ran": 0.0, "transport": 3.2})
    asked = own.jobs[0].scenario
    assert asked.changes == (ElementDown(element=LINK),)
    assert asked.flows == (("urn:ndt:idl:4k2m", "urn:ndt:idl:p8q1"),)
    assert LINK not in broker.jobs[0].scenario.model_dump_json()
    note = load_scenario(socket.parent / "what-if" / f"{broker.jobs[0].scenario.name}.yaml")
    assert note.changes == asked.changes


@pytest.mark.parametrize(
    ("broker", "words"),
    [
        (Asked(refusal=NotFound("no what-ifs here")), "no what-ifs here"),
        (Asked(report=samples.report(flows=())), "no figures for this service's part"),
        (
            Asked(report=replace(samples.partial(), flows=(across(after=samples.figures(math.nan)),))),
            "core: unreachable",
        ),
    ],
)
async def test_without_the_broker_the_agent_s_part_remains(tmp_path: Path, broker: Asked, words: str) -> None:
    own = Asked(report=samples.report(flows=(inner(),)))
    async with (
        serving(tmp_path / "a", own) as (socket, _),
        serving(tmp_path / "b", broker) as (other, _),
        TwinClient.connect(other) as twin,
    ):
        said = await foresee(socket, twin, cli_samples.service(), BEFORE, LINK)

    assert said.made
    assert said.delay_ms == pytest.approx(10.0)
    assert said.changes_ms == {}
    assert words in said.remark


async def test_a_refusal_or_an_absent_agent_is_no_prediction_and_no_error(tmp_path: Path) -> None:
    refusing = Asked(refusal=NotFound("no engine here"))
    async with serving(tmp_path, refusing) as (socket, _), TwinClient.connect(socket) as twin:
        refused = await foresee(socket, twin, cli_samples.service(), BEFORE, LINK)
        absent = await foresee(tmp_path / "none.sock", twin, cli_samples.service(), BEFORE, LINK)

    assert "no engine here" in refused.problem
    assert "none.sock" in absent.problem
    assert not refused.made
    assert math.isnan(refused.delay_ms)


def test_half_an_interval_is_none() -> None:
    half = samples.figures(4.9)
    half = replace(half, delay_ms=replace(half.delay_ms, high=math.nan))

    said = predicted(samples.report(flows=(inner(after=half),)), BEFORE, link=LINK, took_ms=80)

    assert judge(said, AFTER, []).inside is None
