"""A domain's answers to jobs over its socket: reports, refusals, versions, the past."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ndt_twin import CUT, VERSION, C, D, Twin, ended, link_id, scenario, served

from domain_twin.agent.corrections import InService
from domain_twin.agent.ndt_jobs import CalibrationFile
from domain_twin.config import load_agent
from domain_twin.errors import ConfigError, ContractError, NotFound, StaleVersion
from domain_twin.model import (
    StateKind,
    Version,
)
from domain_twin.model.job import Capability, JobState, Requirements
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.jobs.desk import JobDesk
from domain_twin.simulation.jobs.store import JobStore
from domain_twin.simulation.learned.load_curve import LoadCurve
from domain_twin.simulation.learned.residual import Hull, Residual
from domain_twin.simulation.twin.calibration import Calibration, ElementFit
from federation.client import TwinClient


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[tuple[Twin, TwinClient]]:
    made = Twin()
    desk = JobDesk(JobStore(tmp_path / "jobs"), made.jobs.answer, check=made.jobs.check)
    async with served(desk, tmp_path, made) as client:
        yield made, client


async def test_a_question_over_the_socket_is_answered_by_a_report(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin

    job = await client.start_job(CUT, labels={"ticket": "42"})
    last = await ended(client, job)
    report = await client.report(job.id[:6])

    assert last.state is JobState.FINISHED
    assert (last.progress, last.problem, last.owner) == (1.0, "", "")
    assert last.labels == {"ticket": "42"}
    assert last.scenario.seed is not None  # drawn, and said
    assert report.scenario.seed == last.scenario.seed
    assert report.job == job.id
    assert report.versions == {D: VERSION}
    assert report.kind is StateKind.CANDIDATE
    inside = next(flow for flow in report.flows if flow.service == "urn:inside")
    assert len(inside.path_after) == len(inside.path_before) + 1
    assert {finding.code for finding in report.findings} == {"what-if.objective"}
    assert (await client.jobs())[0] == last == await client.job(job.id)


async def test_a_time_to_come_has_the_demand_that_is_expected_then(twin: tuple[Twin, TwinClient]) -> None:
    made, client = twin
    made.growth = 1.5
    same = CUT.model_copy(update={"changes": CUT.changes, "seed": 1})

    later = await client.start_job(scenario(when="+15m"), capability=C.EVENTS_IMPACTS_VERIFICATION)
    both = await client.start_job(same.model_copy(update={"when": "+15m"}))
    now = await client.start_job(same)
    reports = [await client.report((await ended(client, job)).id) for job in (later, both, now)]
    grown, cut_then, cut_now = ({(f.source, f.target): f for f in each.flows} for each in reports)
    made.growth = None
    refused = await ended(client, await client.start_job(scenario(when="+15m")))

    assert "demand is x1.5" in reports[0].assumptions
    assert "demand is x1.5" not in reports[2].assumptions
    assert grown.keys() & cut_then.keys() & cut_now.keys()
    for pair, flow in grown.items():
        assert flow.before is not None
        assert flow.after is not None
        assert flow.after.throughput_mbps.value == pytest.approx(1.5 * flow.before.throughput_mbps.value)
        assert flow.after.delay_ms.value > flow.before.delay_ms.value
        if pair in cut_then and pair in cut_now:
            assert cut_then[pair].before == cut_now[pair].before
            ways = [[part.element for part in each[pair].path_after] for each in (cut_then, cut_now)]
            assert ways[0] == ways[1]
            then, soon = cut_then[pair].after, cut_now[pair].after
            assert then is not None
            assert soon is not None
            assert then.throughput_mbps.value == pytest.approx(1.5 * soon.throughput_mbps.value)
    assert (refused.state, "cannot be foretold" in refused.problem) == (JobState.FAILED, True)


async def test_the_rung_residual_needs_a_correction_and_is_answered_with_one(
    twin: tuple[Twin, TwinClient],
) -> None:
    made, client = twin
    question = CUT.model_copy(update={"rung": "residual"})

    refused = await ended(client, await client.start_job(question))
    made.correction = Residual(np.zeros(22), np.zeros(24), Hull(0.5, (0.0, 64.0), (0.0, 1.0)), 10)
    answered = await ended(client, await client.start_job(question))
    report = await client.report(answered.id)

    assert "name one as residual under [what_if]" in refused.problem
    assert report.rung == "residual"


async def test_what_domains_taught_each_other_is_used_told_and_can_be_left_out(
    twin: tuple[Twin, TwinClient],
) -> None:
    made, client = twin
    made.learned = InService("residual 3", 4, LoadCurve(np.array([0.0, 2.0, 0.0, 0.0, 0.0]), 0.8))
    asked = [CUT, CUT.model_copy(update={"residual": False}), CUT.model_copy(update={"rung": "capacity"})]

    idle = await client.report((await ended(client, await client.start_job(CUT))).id)
    fit = ElementFit("", "link", fixed_s=1e-4, variance_ratio=1.0, load=0.02, points=40)
    made.fitted = Calibration(D, elements={name: replace(fit, element=name) for name in made.now.links})
    reports = [await client.report((await ended(client, await client.start_job(each))).id) for each in asked]
    made.learned = None
    without = await client.report((await ended(client, await client.start_job(CUT))).id)

    assert any("residual 3 is in service and corrects nothing" in said for said in idle.assumptions)
    told = [[said for said in report.assumptions if "residual 3" in said] for report in reports]
    assert [len(said) for said in told] == [1, 0, 0]
    assert "6 links are corrected by what 4 domains taught each other" in told[0][0]
    delays = [{(f.source, f.target): f.after for f in report.flows} for report in (*reports[:2], without)]
    assert delays[1] == delays[2]
    assert any(delays[0][pair].delay_ms.value > delays[1][pair].delay_ms.value for pair in delays[1])


def test_the_agents_file_names_the_correction(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        'domain = "ran"\noperator = "a.example"\nstate = "s"\n[what_if]\nresidual = "fit/r.json"\n'
    )

    assert load_agent(config).what_if.residual == tmp_path.resolve() / "fit/r.json"


async def test_the_same_question_has_the_same_digest(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    seeded = CUT.model_copy(update={"seed": 3})

    jobs = [await client.start_job(seeded) for _ in range(2)]
    for job in jobs:
        await ended(client, job)
    first, second = [await client.report(job.id) for job in jobs]

    assert first.digest == second.digest
    assert first.job != second.job


@pytest.mark.parametrize(
    ("capability", "asked", "kind", "words"),
    [
        (C.AUTOMATION_CONFIGURATION_VERIFICATION, CUT, NotFound, "is not served: no automation"),
        (C.ML_TRAINING_DATA_GENERATION, CUT, NotFound, "is not served: reports hold judged variants"),
        (C.USER_EXPERIENCE_DATA_GENERATION, CUT, NotFound, "is not served: what users experience"),
        (
            C.NETWORK_CONFIGURATIONS_VERIFICATION,
            CUT,
            ConfigError,
            "tries a configuration: add a change of kind",
        ),
        (C.NETWORK_EVENTS_VERIFICATION, CUT, ConfigError, "is about an event of the past"),
        (
            C.NETWORK_ISSUE_INDUCEMENT,
            scenario(changes=[{"kind": "demand", "factor": 2}]),
            ConfigError,
            "makes something fail: add a change of kind element-down",
        ),
        (
            C.EVENTS_IMPACTS_VERIFICATION,
            scenario(changes=[{"kind": "metric", "element": link_id("r1", "r3"), "value": 4}]),
            ConfigError,
            "asks what an event does",
        ),
    ],
)
async def test_a_capability_that_cannot_be_served_is_refused_at_once(
    twin: tuple[Twin, TwinClient], capability: Capability, asked: Scenario, kind: type[Exception], words: str
) -> None:
    _, client = twin

    with pytest.raises(kind, match=f"{capability.value} {words}"):
        await client.start_job(asked, capability=capability)

    assert await client.jobs() == []


@pytest.mark.parametrize(
    ("capability", "asked"),
    [
        (C.RISKY_ACTIONS_PREDICTION, CUT),
        (C.EVENTS_IMPACTS_VERIFICATION, CUT),
        (C.NETWORK_ISSUE_INDUCEMENT, scenario(sweep={"kind": "failures"})),
        (
            C.NETWORK_CONFIGURATIONS_VERIFICATION,
            scenario(changes=[{"kind": "metric", "element": link_id("r1", "r3"), "value": 4}]),
        ),
    ],
)
async def test_what_ifs_serve_capabilities(
    twin: tuple[Twin, TwinClient], capability: Capability, asked: Scenario
) -> None:
    _, client = twin
    job = await ended(client, await client.start_job(asked, capability=capability))
    assert (job.state, job.capability) == (JobState.FINISHED, capability)


async def test_a_stale_version_is_refused_with_both(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    old = Requirements(at_versions={D: Version("e", 6)})
    now = Requirements(at_versions={D: Version("e", 7)})

    with pytest.raises(StaleVersion, match=r"ran is at e:7, not at e:6; look again"):
        await client.start_job(CUT, requirements=old)
    fresh = await ended(client, await client.start_job(CUT, requirements=now))
    stale = await ended(client, await client.start_job(CUT.model_copy(update={"at": "e:6"})))
    same = await ended(client, await client.start_job(CUT.model_copy(update={"at": "e:7"})))

    assert fresh.state is same.state is JobState.FINISHED
    assert stale.state is JobState.FAILED
    assert "the twin is at e:7, not at e:6" in stale.problem


async def test_what_is_another_domains_is_the_brokers(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    with pytest.raises(NotFound, match="this agent is the twin of ran; ask the broker about 'core'"):
        await client.start_job(CUT, scope=["core"])
    with pytest.raises(NotFound, match="ask the broker about 'core'"):
        await client.start_job(CUT, requirements=Requirements(at_versions={"core": VERSION}))


async def test_an_element_that_is_not_there_fails_the_job_with_those_that_are_close(
    twin: tuple[Twin, TwinClient],
) -> None:
    _, client = twin

    asked = scenario(changes=[{"kind": "element-down", "element": "r9"}])
    job = await ended(client, await client.start_job(asked))

    assert job.state is JobState.FAILED
    assert "no element 'r9'" in job.problem
    assert "urn:ndt:ran:r1" in job.problem
    with pytest.raises(NotFound, match=rf"job {job.id} has no report; it is FAILED: no element 'r9'"):
        await client.report(job.id)


async def test_a_past_that_history_does_not_reach_fails_the_job(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    asked = CUT.model_copy(update={"at": "2026-03-01T20:00:00Z"})

    job = await ended(client, await client.start_job(asked, capability=C.NETWORK_EVENTS_VERIFICATION))

    assert (job.state, job.problem) == (JobState.FAILED, "history begins later")


async def test_a_question_that_breaks_the_contract_is_refused(twin: tuple[Twin, TwinClient]) -> None:
    from federation.v1 import fedtwin_pb2 as pb
    from federation.wire.convert import encode_job_question
    from federation.wire.questions import JobQuestion

    _, client = twin
    good = encode_job_question(JobQuestion(C.RISKY_ACTIONS_PREDICTION, CUT))
    for change, kind, words in (
        ({"capability": "FORTUNE_TELLING"}, ContractError, "StartJobRequest.capability: 'FORTUNE_TELLING'"),
        ({"scenario": b"changes: []"}, ConfigError, "the scenario: nothing is changed"),
        ({"scenario": b'{"changes": [{"kind": "demand", "factor": NaN}]}'}, ConfigError, "finite numbers"),
        (
            {"labels": {str(n): "x" for n in range(99)}},
            ContractError,
            "StartJobRequest.labels: 99, 32 at most",
        ),
        ({"requirements": pb.JobRequirements(deadline_s=1e9)}, ContractError, "deadline_s: 1e"),
        ({"requirements": pb.JobRequirements(deadline_s=-1)}, ContractError, "deadline_s: -1.0 found"),
        ({"requirements": pb.JobRequirements(loss=2.0)}, ContractError, "JobRequirements.loss"),
    ):
        request = pb.StartJobRequest.FromString(good.SerializeToString())
        for field, value in change.items():
            request.ClearField(field)
            if field == "labels":
                request.labels.update(value)
            elif field == "requirements":
                request.requirements.CopyFrom(value)
            else:
                setattr(request, field, value)
        with pytest.raises(kind, match=words):
            await client._ask("StartJob", request)
    assert await client.jobs() == []


def test_a_calibration_is_read_when_its_file_changes(tmp_path: Path) -> None:
    from domain_twin.simulation.twin.calibration import Calibration, save

    read = CalibrationFile(tmp_path)
    assert read() is None
    save(Calibration("ran", samples=3), tmp_path / "calibration.json")
    first = read()
    save(Calibration("ran", samples=4), tmp_path / "calibration.json")
    second = read()

    assert first is not None
    assert second is not None
    assert (first.samples, second.samples) == (3, 4)
    assert read() is second
