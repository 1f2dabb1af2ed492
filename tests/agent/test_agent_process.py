"""An agent as its operator runs it: real devices behind it, restarts, kills, changes made by others."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from emulated_domain import Domain, eventually

from domain_twin.agent.schema import load_schema
from domain_twin.config import YangConfig, load_agent
from domain_twin.model import Connection, Counters, Element, Origin
from domain_twin.southbound.base import Edit
from domain_twin.southbound.devices import change_session
from domain_twin.yang.schema import SchemaSet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
MODULES = ["ietf-interfaces", "iana-if-type"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A domain for tests that break nothing and put back what they change: starting one takes seconds."""
    domain = Domain(tmp_path_factory.mktemp("r"), "core")

    async def started() -> None:
        await domain.emulated()
        domain.start_agent()
        await domain.synchronised()

    try:
        asyncio.run(started())
        yield domain
    finally:
        domain.end()


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Domain]:
    domain = Domain(tmp_path, "core")
    try:
        await domain.emulated()
        domain.start_agent()
        await domain.synchronised()
        yield domain
    finally:
        domain.end()


def uncounted(element: Element) -> dict[str, str]:
    """Its attributes without what interfaces count, which changes every second."""
    counted = {name.replace("_", "-") for name in Counters.__slots__}
    return {name: value for name, value in element.attributes.items() if name not in counted}


async def element(domain: Domain, identity: str) -> Element:
    async with domain.twin() as twin:
        (found,) = await twin.elements(prefix=identity)
    return found


async def test_the_twin_holds_what_the_devices_are(running: Domain) -> None:
    async with running.twin() as twin:
        found = await twin.elements()
        findings = await twin.findings()

    kinds = {kind: [e for e in found if e.kind == kind] for kind in {e.kind for e in found}}
    assert {e.name for e in kinds["node"]} == {"amf-1", "smf-1", "upf-1", "upf-2"}
    assert {e.attributes["type"] for e in kinds["network-function"]} == {"AMF", "SMF", "UPF"}
    assert len(kinds["link"]) == 8
    assert all(e.up and not e.stale for e in found)
    assert {k.name for e in kinds["link"] for k in e.kpis} >= {"one_way_delay", "loss_ratio"}
    assert {k.origin for e in found for k in e.kpis} == {Origin.MEASURED}
    assert findings == []


async def test_a_change_on_a_device_reaches_the_twin_and_its_history(running: Domain) -> None:
    config = load_agent(running.folder / "agent.toml")
    device = next(d for d in config.device if d.name == "upf-1")
    path = "/ietf-interfaces:interfaces/interface[name='eth0']"
    link = "urn:ndt:core:upf-1:eth0:out"
    assert (await element(running, link)).up
    before = time.time_ns()
    session = change_session(device, SchemaSet.load(MODULES))

    async def seen(up: bool) -> bool | None:
        return (await element(running, link)).up is up or None

    await session.edit([Edit(f"{path}/enabled", False)])
    await eventually(lambda: seen(False), what=f"{link} down")
    async with running.twin() as twin:
        samples = await twin.series("upf-1", f"{path}/enabled", 0)
        (then,) = await twin.elements(prefix=link, at=before)
    await session.edit([Edit(f"{path}/enabled", True)])
    await session.close()
    await eventually(lambda: seen(True), what=f"{link} up")
    assert [sample.value for sample in samples][-2:] == [1.0, 0.0]
    assert then.up
    assert then.kpis


async def test_a_module_that_only_a_device_has_is_fetched_from_it(running: Domain) -> None:
    config = load_agent(running.folder / "agent.toml")
    device = config.device[0].model_copy(update={"paths": ("/ietf-netconf-monitoring:netconf-state",)})

    schema = await load_schema(config.model_copy(update={"device": (device,)}))
    without = await load_schema(
        config.model_copy(update={"device": (device,), "yang": YangConfig(from_devices=False)})
    )

    assert "ietf-netconf-monitoring" in schema.texts
    assert schema.node("/ietf-netconf-monitoring:netconf-state/capabilities/capability")
    assert not without.node("/ietf-netconf-monitoring:netconf-state/capabilities/capability")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_state_survives_the_end_of_the_agent(core: Domain, number: int) -> None:
    async with core.twin() as twin:
        (before,) = await twin.domains()
        elements = {e.id for e in await twin.elements()}
    await asyncio.sleep(1.5)  # longer than history may wait before it writes
    assert core.agent
    core.agent.end(number)
    core.emulator.end(signal.SIGKILL)  # nothing but what was kept can answer now

    core.start_agent()

    async def answered() -> tuple[set[str], str, int] | None:
        try:
            async with core.twin() as twin:
                (now,) = await twin.domains()
                found = await twin.elements()
        except (ConnectionError, LookupError):
            return None
        assert now.version
        assert all(e.stale for e in found if e.kind == "node")
        return {e.id for e in found}, now.version.epoch, now.version.sequence

    found, epoch, sequence = await eventually(answered, what="an answer of the restarted agent")
    assert before.version
    if number == signal.SIGTERM:
        assert found == elements
        assert epoch == before.version.epoch
        assert sequence >= before.version.sequence
    else:
        # A version that nobody can vouch for any more is never continued.
        assert epoch != before.version.epoch


async def test_a_lost_device_is_stale_and_comes_back_to_the_same_state(core: Domain) -> None:
    async with core.twin() as twin:
        before = {e.id: uncounted(e) for e in await twin.elements()}
    core.emulator.end(signal.SIGKILL)

    async def stale() -> bool | None:
        async with core.twin() as twin:
            statuses = await twin.devices()
        return all(s.connection is Connection.STALE and s.problem for s in statuses) or None

    await eventually(stale, what="stale devices")
    assert all(e.stale for e in [await element(core, "urn:ndt:core:upf-1:eth0:out")])
    async with core.twin() as twin:
        codes = {finding.code for finding in await twin.findings()}
        assert {e.id: uncounted(e) for e in await twin.elements()} == before
    assert codes <= {"device.stale"}


async def test_wrong_credentials_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    domain = Domain(tmp_path, "ran")
    try:
        await domain.emulated()
        inventory = tmp_path / "devices" / "devices.ran.toml"
        wrong = tmp_path / "wrong"
        wrong.write_text("not-the-password")
        wrong.chmod(0o600)
        first, second = inventory.read_text().split("[[device]]")[1:3]
        first = first.replace("file:keys/ran/password", f"file:{json.dumps(str(wrong))[1:-1]}")
        inventory.write_text(f"[[device]]{first}[[device]]{second}")
        domain.start_agent()

        async def settled() -> dict[str, str] | None:
            try:
                async with domain.twin() as twin:
                    found = {s.name: s for s in await twin.devices()}
            except (ConnectionError, LookupError):
                return None
            if found.get("gnb-1") and found["gnb-1"].problem and found["gnb-2"].leaves:
                return {name: status.problem for name, status in found.items()}
            return None

        problems = await eventually(settled, what="one device refused and one mirrored")
    finally:
        domain.end()

    assert "gnb-1" in problems["gnb-1"]
    assert "password" in problems["gnb-1"]
    assert "not-the-password" not in problems["gnb-1"]
    assert problems["gnb-2"] == ""
