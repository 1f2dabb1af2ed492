"""The agent's face to its own operator: a real gRPC server on a real Unix socket, and nothing of a broker."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from domain_twin.agent.local import LocalFace, serve_local
from domain_twin.errors import ConfigError, ContractError, NoPath, NotFound, Unreachable
from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    UNITS,
    Cell,
    Connection,
    DeviceStatus,
    EventKind,
    Finding,
    Kpi,
    Level,
    Link,
    Network,
    Node,
    PathMode,
    Requirement,
    Sample,
    Service,
    ServiceRecords,
    Severity,
    TerminationPoint,
    Version,
)
from federation.client import TwinClient
from federation.wire.event_log import EventLog
from federation.wire.questions import WatchQuery

D = "ran"


def kpis(delay_ms: float, carried_mbps: float = 100.0) -> Mapping[str, Kpi]:
    values = {DELAY: delay_ms, DELAY_VARIANCE: 0.01, LOSS: 0.001, CARRIED_RATE: carried_mbps}
    return {name: Kpi(name, value, UNITS[name]) for name, value in values.items()}


def node_id(name: str) -> str:
    return f"urn:ndt:{D}:{name}"


def link(source: str, target: str, *, metric: int, delay_ms: float, carried: float = 100.0) -> Link:
    tp = f"{node_id(source)}:to-{target}"
    return Link(
        id=f"{tp}:out",
        device=source,
        source_node=node_id(source),
        source_tp=tp,
        dest_node=node_id(target),
        dest_tp=f"{node_id(target)}:to-{source}",
        metric=metric,
        capacity_mbps=1000.0,
        kpis=kpis(delay_ms, carried),
    )


def network(*links: Link, version: int = 1) -> Network:
    """Four routers in a ring, gnb-1 with a cell among them."""
    names = ("gnb-1", "r2", "r3", "r4")
    ring = links or tuple(
        link(a, b, metric=10, delay_ms=1.0 + index)
        for index, (a, b) in enumerate(zip(names, (*names[1:], names[0]), strict=True))
    ) + tuple(link(b, a, metric=10, delay_ms=1.0) for a, b in zip(names, (*names[1:], names[0]), strict=True))
    cell = f"{node_id('gnb-1')}:cell-1"
    radio = {**kpis(2.0), CELL_RATE: Kpi(CELL_RATE, 1000.0, UNITS[CELL_RATE])}
    return Network(
        domain=D,
        version=Version("e", version, 123),
        nodes={node_id(name): Node(node_id(name), name) for name in names},
        termination_points={
            item.source_tp: TerminationPoint(item.source_tp, item.source_node, item.device, "eth0")
            for item in ring
        },
        links={item.id: item for item in ring},
        functions={},
        cells={cell: Cell(cell, node_id("gnb-1"), "gnb-1", 1, snssais=("01-000001",), kpis=radio)},
        hosts={},
    )


class RunningTwin:
    """What the face shows, without devices behind it."""

    domain = D
    operator = "northcell.example"

    def __init__(self) -> None:
        self.events = EventLog()
        self.published: Mapping[str, str] = {"cell-1": f"{node_id('gnb-1')}:cell-1"}
        self.records = ServiceRecords(services={"urn:s": Service("urn:s", "s", "ran/cell-1", "edge/app")})
        self.now = network()
        self.past = {50: network(version=7)}
        self.trouble = ""

    def network(self) -> Network:
        return self.now

    async def resolution(self, at: int) -> tuple[int, int]:
        return 0, 0

    async def copy_state(self, *, history_only: bool) -> str:
        raise NotFound("nothing to copy")

    async def network_at(self, at: int) -> Network:
        if at not in self.past:
            raise NotFound("the history begins later")
        return self.past[at]

    def device_statuses(self) -> Sequence[DeviceStatus]:
        return [DeviceStatus("gnb-1", "netconf", Connection.SYNCHRONISED, received_at=99, leaves=12)]

    def findings(self) -> Sequence[Finding]:
        return [Finding("device.quarantine", Severity.WARNING, D, "gnb-1", "a leaf", "mend it", 5)]

    async def series(self, device: str, path: str, start: int, end: int, step: int) -> Sequence[Sample]:
        return [Sample(start + number, float(number)) for number in range(5000)]

    def session(self) -> tuple[str, str]:
        return "spiffe://exchange.example/broker/main", self.trouble


@pytest.fixture
def twin() -> RunningTwin:
    return RunningTwin()


@pytest.fixture
async def client(twin: RunningTwin, tmp_path: Path) -> AsyncIterator[TwinClient]:
    path = tmp_path / "state" / "agent.sock"
    async with serve_local(twin, path), TwinClient.connect(path, timeout_s=20.0) as connected:
        yield connected


async def test_the_domain_sees_itself(client: TwinClient, twin: RunningTwin) -> None:
    twin.trouble = "the broker does not answer"
    (status,) = await client.domains()
    assert (status.domain, status.level, status.version) == (D, Level.NATIVE, twin.now.version)
    assert (status.received_at, status.peer) == (99, "spiffe://exchange.example/broker/main")
    assert status.problem == "the broker does not answer"
    assert await client.devices() == twin.device_statuses()
    assert await client.findings() == twin.findings()


async def test_elements_show_every_attribute_now_and_then(client: TwinClient) -> None:
    everything = await client.elements()
    assert {element.kind for element in everything} == {"node", "termination-point", "link", "cell"}
    (cell,) = await client.elements(kind="cell")
    assert cell.name == "gnb-1:cell-1"
    assert cell.attributes == {
        "node": node_id("gnb-1"),
        "device": "gnb-1",
        "local-id": "1",
        "unlocked": "true",
        "operational": "true",
        "bandwidth-mhz": "0",
        "prb-share": "1",
        "snssais": "01-000001",
    }
    assert {kpi.name: kpi.value for kpi in cell.kpis}[DELAY] == 2.0
    assert len(await client.elements(prefix=node_id("r2"))) == 5
    assert len(await client.elements(at=50)) == len(everything)
    with pytest.raises(NotFound, match="history begins later"):
        await client.elements(at=51)
    with pytest.raises(NotFound, match="kinds are node, termination-point"):
        await client.elements(kind="portal")


async def test_the_native_view_is_the_default_and_coarser_ones_are_a_preview(client: TwinClient) -> None:
    (native,) = await client.views()
    (mesh,) = await client.views(level=Level.MESH)
    assert set(native.points) == {"ran/gnb-1", "ran/r2", "ran/r3", "ran/r4", "ran/cell-1"}
    assert set(mesh.points) == {"ran/cell-1"}
    assert mesh.hidden_nodes == 4


async def test_the_view_follows_the_network(client: TwinClient, twin: RunningTwin) -> None:
    before = (await client.views())[0].segments["ran/gnb-1", "ran/r2"].current
    changed = {
        identity: replace(item, kpis=kpis(9.0)) if item.source_node == node_id("gnb-1") else item
        for identity, item in twin.now.links.items()
    }
    twin.now = replace(twin.now, links=changed, version=Version("e", 2))
    after = (await client.views())[0].segments["ran/gnb-1", "ran/r2"].current
    assert before is not None
    assert after is not None
    assert (before.delay_ms, after.delay_ms) == (1.0, 9.0)


async def test_a_path_inside_the_domain_follows_the_metrics(client: TwinClient, twin: RunningTwin) -> None:
    # Arrange: two ways from gnb-1 to r3; by r4 costs less metric and takes longer
    twin.now = network(
        link("gnb-1", "r2", metric=10, delay_ms=1.0),
        link("r2", "r3", metric=10, delay_ms=1.0),
        link("gnb-1", "r4", metric=5, delay_ms=4.0, carried=950.0),
        link("r4", "r3", metric=5, delay_ms=4.0),
    )
    # Act
    current = await client.path("ran/cell-1", "ran/r3")
    best = await client.path("ran/cell-1", "ran/r3", mode=PathMode.BEST, alternatives=5)
    pair = await client.path("ran/gnb-1", "ran/r3", mode=PathMode.BEST, disjoint=True)
    # Assert: the cell's air interface counts once
    assert [hop.target for hop in current.paths[0].hops] == ["ran/gnb-1", "ran/r4", "ran/r3"]
    assert current.paths[0].total.delay_ms == pytest.approx(10.0)
    assert current.paths[0].total.metric == 10
    assert current.paths[0].total.bandwidth_mbps == pytest.approx(50.0)
    assert [path.total.delay_ms for path in best.paths] == pytest.approx([4.0, 10.0])
    assert [path.total.delay_ms for path in pair.paths] == pytest.approx([2.0, 8.0])
    assert current.domains[0].version == twin.now.version
    with pytest.raises(NoPath, match=r"the fastest has 4\.000 ms"):
        await client.path("ran/cell-1", "ran/r3", mode=PathMode.BEST, requirement=Requirement(delay_ms=3.0))
    with pytest.raises(NoPath, match="forward nothing"):
        await client.path("ran/r3", "ran/gnb-1")
    with pytest.raises(NotFound, match="no point 'ran/cell-9'"):
        await client.path("ran/cell-9", "ran/r3")


async def test_ties_are_broken_as_devices_do(client: TwinClient, twin: RunningTwin) -> None:
    twin.now = network(
        link("gnb-1", "r4", metric=10, delay_ms=9.0),
        link("gnb-1", "r2", metric=10, delay_ms=1.0),
        link("r2", "r3", metric=10, delay_ms=1.0),
        link("r4", "r3", metric=10, delay_ms=9.0),
    )
    answer = await client.path("ran/gnb-1", "ran/r3")
    assert answer.paths[0].hops[0].target == "ran/r2"  # the least link-id


async def test_a_series_comes_in_pages(client: TwinClient) -> None:
    samples = await client.series("gnb-1", "/a:b", 10)
    assert samples == [Sample(10 + number, float(number)) for number in range(5000)]
    with pytest.raises(NotFound, match="the broker's"):
        await client.service_history("s", 0)
    with pytest.raises(ContractError, match="device and path"):
        await client.series("", "", 0)


async def test_records_of_services_are_listed_without_a_verdict(client: TwinClient) -> None:
    found = await client.services("s")
    assert [status.service.id for status in found.statuses] == ["urn:s"]
    assert found.statuses[0].met is None
    with pytest.raises(NotFound, match="there are urn:s"):
        await client.services("t")


async def test_events_are_watched(client: TwinClient, twin: RunningTwin) -> None:
    stream = client.watch([EventKind.DEVICE])
    await stream.started()
    sent = twin.events.publish(EventKind.DEVICE, "gnb-1: stale", domain=D)
    async with asyncio.timeout(20):
        assert await anext(stream) == sent
    await stream.aclose()


async def test_what_happens_before_a_watcher_reads_is_not_missed(twin: RunningTwin) -> None:
    watching = LocalFace(twin).watch(WatchQuery())
    sent = twin.events.publish(EventKind.DEVICE, "gnb-1: stale", domain=D)
    async with asyncio.timeout(5):
        assert await anext(watching) == sent


async def test_other_domains_are_the_brokers(client: TwinClient) -> None:
    for question in (client.elements("edge"), client.views("edge"), client.findings("edge")):
        with pytest.raises(NotFound, match="ask the broker"):
            await question


async def test_only_the_agents_own_user_can_open_the_socket(client: TwinClient, tmp_path: Path) -> None:
    path = tmp_path / "state" / "agent.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_wide_open_folder_is_closed(twin: RunningTwin, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    async with serve_local(twin, folder / "agent.sock"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not (folder / "agent.sock").exists()


async def test_a_second_agent_in_one_folder_is_refused(client: TwinClient, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another agent serves there"):
        async with serve_local(RunningTwin(), tmp_path / "state" / "agent.sock"):
            pass
    assert await client.domains()


async def test_a_socket_left_by_a_killed_agent_is_replaced(twin: RunningTwin, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with TwinClient.connect(path) as nobody:
        with pytest.raises(Unreachable, match="is the agent running"):
            await nobody.domains()
    async with serve_local(twin, path), TwinClient.connect(path) as somebody:
        assert await somebody.domains()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("x" * 120, "at most 107 octets"), ("file", "no socket"), ("file/agent.sock", "cannot be made")],
)
async def test_a_place_that_cannot_hold_a_socket_is_named(
    twin: RunningTwin, tmp_path: Path, name: str, sentence: str
) -> None:
    (tmp_path / "file").write_text("something else")
    with pytest.raises(ConfigError, match=sentence):
        async with serve_local(twin, tmp_path / name):
            pass
