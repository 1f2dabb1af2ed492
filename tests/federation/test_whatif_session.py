"""What-ifs across three operators over real sessions: asked of the broker as jobs, answered by the agents."""

import math

import pytest
from federation_parts import all_connected
from what_if_parts import A1, A2, B, RECORDS, UPLINK, federation, inner

from domain_twin.errors import NotShared
from domain_twin.model import Outcome
from domain_twin.model.job import JobState
from domain_twin.model.scenario import Scenario


def scenario(*changes, **more):
    return Scenario.model_validate({"changes": changes, **more})


DOWN_A1 = {"kind": "element-down", "element": A1}


async def asked(twin, question, **more):
    """The job as it ended, and its report."""
    job = await twin.start_job(question, **more)
    async for job in twin.watch_job(job.id):  # noqa: B007 - the last one counts
        pass
    return job, await twin.report(job.id)


async def test_a_cut_between_domains_is_predicted_from_end_to_end(tmp_path):
    made = federation(tmp_path)
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)

        job, report = await asked(twin, scenario(DOWN_A1))

    assert job.state is JobState.FINISHED, job.problem
    (flow,) = report.flows
    assert (flow.source, flow.target, flow.service) == (UPLINK.source, UPLINK.target, UPLINK.id)
    assert [part.target for part in flow.path_before] == ["ran/idl-a1", "transport/idl-b", "edge/app"]
    assert [part.target for part in flow.path_after] == ["ran/idl-a2", "transport/idl-b", "edge/app"]
    assert 0 < flow.before.delay_ms.value < 50
    assert sum(part.delay_ms for part in flow.path_before) == pytest.approx(flow.before.delay_ms.value)
    assert flow.before.throughput_mbps.value > 1
    assert {item.domain: item.outcome for item in report.domains} == dict.fromkeys(
        ("ran", "transport", "edge"), Outcome.OK
    )
