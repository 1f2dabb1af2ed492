"""`fedtwin whatif` and `fedtwin sweep` as processes against a twin that serves jobs; and their options."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import forecast_samples as samples
import pytest
from twin_with_jobs import Asked, fedtwin, serving

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.job import Capability, JobState
from domain_twin.model.scenario import (
    BufferChange,
    CapacityChange,
    CellLoadChange,
    Change,
    DemandChange,
    ElementDown,
    ElementUp,
    MetricChange,
    SchedulerChange,
    WorkersChange,
)
from federation.cli.app import run
from federation.cli.shortcuts import Shortcuts, capability_of, scenario_from

CUT = """\
name: Cut
description: A digger on the way.
seed: 17
changes:
  - {kind: element-down, element: "urn:ndt:transport:poznan:eth2"}
"""


def only(**options: Sequence[str]) -> Change:
    (change,) = scenario_from("", Shortcuts(**options)).changes
    return change


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"down": ["l"]}, ElementDown(element="l")),
        ({"up": ["l"]}, ElementUp(element="l")),
        ({"capacity": ["l=100"]}, CapacityChange(element="l", mbps=100)),
        ({"capacity": ["a=b=x2"]}, CapacityChange(element="a=b", factor=2)),
        ({"metric": ["l=30"]}, MetricChange(element="l", value=30)),
        ({"buffer": ["l=64"]}, BufferChange(element="l", packets=64)),
        ({"scheduler": ["l=wfq"]}, SchedulerChange(element="l", discipline="wfq")),
        ({"demand": ["x2"]}, DemandChange(factor=2)),
        ({"demand": ["voice=x1.5"]}, DemandChange(factor=1.5, traffic_class="voice")),
        ({"demand": ["a > b=x3"]}, DemandChange(factor=3, source="a", target="b")),
        ({"demand": ["a>b=40"]}, DemandChange(mbps=40, source="a", target="b")),
        ({"cell_load": ["c=x2"]}, CellLoadChange(element="c", factor=2)),
        ({"workers": ["u=4"]}, WorkersChange(element="u", count=4)),
        ({"workers": ["u=+1"]}, WorkersChange(element="u", delta=1)),
        ({"workers": ["u=-1"]}, WorkersChange(element="u", delta=-1)),
    ],
)
def test_an_option_is_a_change(options: dict[str, list[str]], change: Change) -> None:
    assert only(**options) == change


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": ["l"]}, "'l' is not LINK=MBPS or LINK=xFACTOR"),
        ({"capacity": ["=5"]}, "'=5' is not LINK=MBPS"),
        ({"capacity": ["l=fast"]}, "'fast' is not a number"),
        ({"capacity": ["l=nan"]}, "'nan' is not a number"),
        ({"demand": ["xinf"]}, "'inf' is not a number"),
        ({"demand": ["5"]}, "'5' is not x2, CLASS=x2"),
        ({"demand": ["=x2"]}, "'=x2' is not x2, CLASS=x2"),
        ({"demand": ["a>=x2"]}, "'a>' is not 'FROM>TO'"),
        ({"workers": ["u=two"]}, "'two' is not a whole number"),
        ({"metric": ["l=1.5"]}, "'1.5' is not a whole number"),
    ],
)
def test_an_option_of_another_form_is_refused(options: dict[str, list[str]], words: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        only(**options)

    assert words in refused.value.message


def test_options_add_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cut.yaml"
    file.write_text(CUT)

    scenario = scenario_from(str(file), Shortcuts(demand=["x2"]), rung="residual", seed=None)

    assert [change.kind for change in scenario.changes] == ["element-down", "demand"]
    assert (scenario.name, scenario.seed, scenario.rung) == ("Cut", 17, "residual")
    assert scenario_from(str(file), Shortcuts()).changes == scenario.changes[:1]


def test_options_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.yaml"
    file.write_text(CUT)

    with pytest.raises(ConfigError, match=r"cut.yaml with the options: .*contradict each other"):
        scenario_from(str(file), Shortcuts(up=["urn:ndt:transport:poznan:eth2"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"down": ["l"]}, Capability.EVENTS_IMPACTS_VERIFICATION),
        ({"metric": ["l=3"]}, Capability.RISKY_ACTIONS_PREDICTION),
    ],
)
def test_what_a_question_is_for_follows_from_it(options: dict[str, list[str]], expected: Capability) -> None:
    assert capability_of(scenario_from("", Shortcuts(**options))) is expected


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["whatif"], 2, "say what changes: a scenario file, or options such as --down LINK"),
        (["whatif", "none.yaml"], 1, "none.yaml: cannot be read"),
        (["whatif", "--down", "a", "--rung", "best"], 1, "the options: rung: "),
        (["whatif", "--down", "a", "--flow", "b"], 2, "'b' is not 'FROM>TO'"),
        (["whatif", "--down", "a", "--at", "nowhere"], 1, "nowhere: no such file"),
        (["whatif", "--down", "a", "--deadline", "soon", "--at", "x"], 2, "'soon' is not a length of time"),
        (["sweep"], 2, "say what to sweep"),
        (["sweep", "--failures", "rings"], 1, "the options: sweep.of: "),
        (["sweep", "--failures", "links", "--element", "a"], 2, "leave one out"),
    ],
)
def test_one_clear_message(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == status

    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.out == ""


async def test_a_file_is_asked_and_told_in_three_forms(tmp_path: Path) -> None:
    (tmp_path / "cut.yaml").write_text(CUT)
    asked = Asked()
    async with serving(tmp_path, asked) as (socket, _):
        words = ("whatif", "cut.yaml", "--at", str(socket), "--delay", "8", "--deadline", "20s")
        text = await fedtwin(*words, "--report", "cut.html", cwd=tmp_path)
        document = await fedtwin(*words, "--json", cwd=tmp_path)

    assert (text.status, document.status) == (0, 0)
    assert "+3.000 (+52 %)" in text.out
    assert "written: cut.html" in text.err
    assert "<h1>Cut</h1>" in (tmp_path / "cut.html").read_text()
    told = json.loads(document.out)
    assert (told["partial"], told["state"], told["scenario"]["seed"]) == (False, "FINISHED", 17)
    assert told["flows"][0]["after"]["delay_ms"]["value"] == 8.82
    assert told["answered_at"].endswith("Z")
    assert asked.jobs[0].requirements.delay_ms == 8
    assert asked.jobs[0].requirements.deadline_s == 20
    assert asked.jobs[0].capability is Capability.EVENTS_IMPACTS_VERIFICATION


async def test_a_scenario_on_standard_input_and_a_partial_answer(tmp_path: Path) -> None:
    asked = Asked(report=samples.partial())
    async with serving(tmp_path, asked) as (socket, desk):
        ran = await fedtwin(
            "whatif", "-", "--name", "Dig", "--at", str(socket), cwd=tmp_path, given=CUT.encode()
        )
        (job,) = desk.jobs()

    assert ran.status == 0
    assert "PARTIAL ANSWER" in ran.out
    assert "core: unreachable (not connected for 12 s)" in ran.out
    assert job.scenario.name == "Dig"
    assert job.state is JobState.PARTIALLY_FAILED


async def test_a_time_to_come_is_asked_for_as_one_that_every_clock_understands(tmp_path: Path) -> None:
    asked = Asked()
    before = time.time()
    async with serving(tmp_path, asked) as (socket, _):
        ran = await fedtwin("whatif", "--when", "+15m", "--at", str(socket), cwd=tmp_path)

    assert ran.status == 0, ran.err
    job = asked.jobs[0]
    assert job.capability is Capability.EVENTS_IMPACTS_VERIFICATION
    assert job.scenario.when is not None
    assert before + 900 <= datetime.fromisoformat(job.scenario.when).timestamp() <= time.time() + 900


async def test_a_refusal_is_one_clear_message(tmp_path: Path) -> None:
    asked = Asked(refusal=NotFound("no element 'a' in transport; did you mean 'ab'?"))
    async with serving(tmp_path, asked) as (socket, _):
        ran = await fedtwin("whatif", "--down", "a", "--at", str(socket), cwd=tmp_path)

    assert ran.status == 1
    assert ran.out == ""
    assert ran.err.startswith("error: job ")
    assert "no element 'a' in transport; did you mean 'ab'?" in ran.err


async def test_what_was_known_at_the_deadline_is_shown_and_no_success(tmp_path: Path) -> None:
    async with serving(tmp_path, Asked(waits=True)) as (socket, _):
        ran = await fedtwin("whatif", "--down", "a", "--deadline", "500ms", "--at", str(socket), cwd=tmp_path)

    assert ran.status == 1
    assert "FAILED: its deadline of 0.5 s passed at 40%: solving" in ran.out
    assert "+3.000 (+52 %)" in ran.out


async def test_ctrl_c_cancels_the_job_at_the_twin(tmp_path: Path) -> None:
    asked, running = Asked(waits=True), asyncio.Event()
    async with serving(tmp_path, asked) as (socket, desk):

        async def watch() -> None:
            while not asked.jobs:  # noqa: ASYNC110  the desk has no list to wait for
                await asyncio.sleep(0.05)
            running.set()

        watching = asyncio.create_task(watch())
        ran = await fedtwin("whatif", "--down", "a", "--at", str(socket), cwd=tmp_path, interrupt=running)
        await watching
        (job,) = desk.jobs()
        job = [now async for now in desk.watch(job.id)][-1]

    assert ran.status == 130
    assert job.state is JobState.CANCELLED
    assert f"job {job.id}: cancel" in ran.err


async def test_a_sweep_ranks_its_variants(tmp_path: Path) -> None:
    asked = Asked(report=samples.report(rows=samples.rows(5), flows=()))
    async with serving(tmp_path, asked) as (socket, desk):
        words = ("sweep", "--failures", "nodes", "--simultaneous", "2", "--at", str(socket))
        text = await fedtwin(*words, "--top", "2", cwd=tmp_path)
        document = await fedtwin(*words, "--json", cwd=tmp_path)
        job = desk.jobs()[0]

    assert "5 variants, the worst 2" in text.out
    assert text.out.index("transport:r2-r3 fails") < text.out.index("transport:r4-r5 fails")
    assert len(json.loads(document.out)["rows"]) == 5
    assert job.scenario.sweep is not None
    assert job.scenario.sweep.model_dump() == {
        "kind": "failures", "of": "nodes", "elements": (), "simultaneous": 2,
    }  # fmt: skip
    assert job.capability is Capability.NETWORK_ISSUE_INDUCEMENT


async def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path, Asked()) as (socket, _):
        words = ("whatif", "--down", "a", "--report", "no/such/cut.html", "--at", str(socket))
        ran = await fedtwin(*words, cwd=tmp_path)

    assert ran.status == 1
    assert "error: no/such/cut.html: cannot be written" in ran.err
