"""Alarms of real devices, from their alarm lists over NETCONF and gNMI to the operator, and back in words."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from emulated_domain import ROOT, Domain, eventually

from domain_twin.emulator.control import SOCKET, EmulatorControl
from domain_twin.model import Alarm, EventKind, OperatorState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(params=["ran", "edge"], ids=["NETCONF", "gNMI"])
async def domain(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Domain]:
    domain = Domain(tmp_path, request.param)
    try:
        await domain.emulated()
        domain.start_agent()
        await domain.synchronised()
        yield domain
    finally:
        domain.end()


async def standing(domain: Domain, count: int) -> list[Alarm]:
    async def look() -> list[Alarm] | None:
        async with domain.twin() as twin:
            found = [alarm for alarm in await twin.alarms() if alarm.key.device]
        return found if len(found) == count else None

    return await eventually(look, what=f"{count} alarms standing")


async def test_an_alarm_of_a_device_lives_in_the_twin(domain: Domain) -> None:
    # Arrange
    link = "gnb-1-gnb-2" if domain.domain == "ran" else "host-1-host-2"
    assert await standing(domain, 0) == []

    async with EmulatorControl(domain.folder / "devices" / SOCKET) as emulator, domain.twin() as twin:
        # Act: a cut is seen at both ends
        watching = twin.watch(kinds=[EventKind.ALARM])
        await watching.started()
        fault = await emulator.inject("link-cut", link=link)
        raised = await standing(domain, 2)
        event = await anext(watching)
        await watching.aclose()

        # Assert
        assert {alarm.key.alarm_type for alarm in raised} == {"fedtwin-alarms:interface-down"}
        assert all(alarm.element.startswith(f"urn:ndt:{domain.domain}:") for alarm in raised)
        assert event.alarm is not None
        assert event.alarm.key in {alarm.key for alarm in raised}

        # Act: somebody looks after it, and the agent dies and comes back
        await twin.set_alarm_state(raised[0].id, OperatorState.ACK, "crew sent")
    await eventually(lambda: written(domain), what="alarms on disk")
    assert domain.agent is not None
    domain.agent.end(signal.SIGKILL)
    domain.start_agent()
    await domain.synchronised()
    after = await standing(domain, 2)

    # Assert: it is the same alarm, raised once
    assert {alarm.key for alarm in after} == {alarm.key for alarm in raised}
    (kept,) = [alarm for alarm in after if alarm.id == raised[0].id]
    assert (kept.operator_state, kept.note, kept.occurrences) == (OperatorState.ACK, "crew sent", 1)

    # Act: the link is mended
    async with EmulatorControl(domain.folder / "devices" / SOCKET) as emulator:
        await emulator.clear(fault["id"])
    await standing(domain, 0)

    # Assert: the command line tells the whole life, and the trees are valid with it
    command = [sys.executable, "-m", "federation.cli", "alarms", "--all", "--json"]
    command += ["--at", str(domain.folder / "state" / "agent.sock")]
    run = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
    told = json.loads(run.stdout)["alarms"]
    lives = [[step["severity"] for step in item["changes"]] for item in told if item["device"]]
    assert lives == [["major", None], ["major", None]]
    async with domain.twin() as twin:
        assert [item for item in await twin.findings() if item.code == "device.invalid-tree"] == []


async def written(domain: Domain) -> bool | None:
    from domain_twin.alarms.store import AlarmStore

    found = AlarmStore(domain.folder / "state" / "alarms.sqlite").load()
    return True if any(alarm.note == "crew sent" for alarm in found) else None
