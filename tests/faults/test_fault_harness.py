"""Twenty seeded faults on the demo's network: each is noticed, marked, recorded, and recovered from exactly.

The network is started once; each step is a test of its own, named as a run names it. A step that failed can
be run again: `pytest tests/faults --fault-seed=… --fault-step='kill-agent:ran+cut-devices:core/'`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
from fault_campaign import Campaign
from fault_kinds import drawn

UNHEARD_S = 90.0
"""Within this time a device has missed the peers of connections that faults swallowed, and lets them go."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(700),
    pytest.mark.asyncio(loop_scope="module"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "step" in metafunc.fixturenames:
        option = metafunc.config.getoption
        steps = option("--fault-step", []) or drawn(
            option("--fault-seed", 1), option("--faults", 20), quick=True
        )
        metafunc.parametrize("step", steps, ids=[f"{n}-{step}" for n, step in enumerate(steps, 1)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def campaign(request: pytest.FixtureRequest) -> AsyncIterator[Campaign]:
    seed = request.config.getoption("--fault-seed", 1)
    with TemporaryDirectory(prefix="ft-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        async with Campaign.on(Path(folder) / "n", seed) as campaign:
            campaign.measure()
            yield campaign


async def test_fault_is_noticed_and_recovered_from(campaign: Campaign, step: str) -> None:
    outcome = await campaign.step(step)

    campaign.measure()
    assert outcome.problems == []


async def test_fresh_processes_say_the_same(campaign: Campaign) -> None:
    await campaign.fresh_agent("transport")
    await campaign.fresh_broker()


async def test_processes_did_not_grow(campaign: Campaign) -> None:
    grown, until = campaign.grown(), time.monotonic() + UNHEARD_S
    while grown and time.monotonic() < until:
        await asyncio.sleep(2.0)
        grown = campaign.grown()

    assert grown == []
    assert campaign.observer.answers > 0
    assert campaign.churn.edits > campaign.churn.failed
