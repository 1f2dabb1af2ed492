"""What-if jobs of a real agent, with emulated devices behind it: live, edited and past state; a kill."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from emulated_domain import Domain, eventually

from domain_twin.errors import Unreachable
from domain_twin.model.job import Capability, Job, JobState, Report, Requirements
from domain_twin.simulation.questions.scenario_file import make_scenario
from federation.client import TwinClient

pytestmark = pytest.mark.slow


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    made = Domain(tmp_path, "transport")
    yield made
    made.end()


async def ask(
    twin: TwinClient, capability: Capability = Capability.RISKY_ACTIONS_PREDICTION, **document: Any
) -> tuple[Job, Report]:
    scenario = make_scenario(document)
    async with asyncio.timeout(300):  # the first question compiles kernels where nobody has yet
        asked = Requirements(deadline_s=300.0)
        begun = await twin.start_job(scenario, capability=capability, requirements=asked)
        job = [state async for state in twin.watch_job(begun.id)][-1]
    assert job.state is JobState.FINISHED, job.problem
    return job, await twin.report(job.id)


def written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


async def test_an_agent_answers_about_its_live_edited_and_past_state(domain: Domain) -> None:
    await domain.emulated()
    domain.start_agent()
    await domain.synchronised()
    async with domain.twin() as twin:

        async def measured() -> Any:
            links = await twin.elements(kind="link")
            return links if links and all(link.kpis for link in links) else None

        links = await eventually(measured, what="figures of every link")
        begin = time.time()
        await asyncio.sleep(3)
        link = links[0]
        interface = link.attributes["source-tp"].rpartition(":")[2]
        device = link.attributes["device"]

        _, cut = await ask(twin, changes=[{"kind": "element-down", "element": link.id}], seed=1)
        edit = {
            "kind": "config",
            "device": device,
            "path": f"/ietf-interfaces:interfaces/interface[name='{interface}']/enabled",
            "value": False,
        }
        _, edited = await ask(twin, Capability.NETWORK_CONFIGURATIONS_VERIFICATION, changes=[edit], seed=1)
        end = time.time()
        past, then = await ask(
            twin,
            Capability.NETWORK_EVENTS_VERIFICATION,
            at=written(begin),
            window={"start": written(begin), "end": written(end)},
            changes=[{"kind": "element-down", "element": link.id}],
        )

        def ways(report: Report) -> dict[tuple[str, str], list[str]]:
            return {(f.source, f.target): [part.element for part in f.path_after] for f in report.flows}

        assert cut.flows
        same = ways(cut).keys() & ways(edited).keys()
        assert same
        assert all(ways(cut)[pair] == ways(edited)[pair] for pair in same)  # the edit cuts that very link
        assert not any(link.id in way for way in (*ways(cut).values(), *ways(edited).values()))
        assert any("taken to follow" in said for said in edited.assumptions)
        assert then.versions["transport"].sequence < edited.versions["transport"].sequence
        assert any("demand is that of the mean loads of" in said for said in then.assumptions)

    assert domain.agent is not None
    domain.agent.end(signal.SIGKILL)
    domain.start_agent()

    async def again() -> list[Job] | None:
        try:
            async with domain.twin() as twin:
                return await twin.jobs()
        except (Unreachable, LookupError):
            return None

    kept = await eventually(again, what="the agent after its restart")
    assert kept[0] == past
    assert len(kept) == 3
    async with domain.twin() as twin:
        assert await twin.report(past.id) == then
