"""A small domain with jobs, served on a socket as an agent serves it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from domain_twin.agent.corrections import InService
from domain_twin.agent.local import serve_local
from domain_twin.agent.ndt_jobs import NdtJobs
from domain_twin.datastore.snapshot import Snapshot, snapshot_of
from domain_twin.errors import NotFound
from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    UNITS,
    Cell,
    Kpi,
    Link,
    Network,
    Node,
    Objective,
    Service,
    ServiceRecords,
    StateKind,
    TerminationPoint,
    Version,
)
from domain_twin.model.job import Capability, Job, Report
from domain_twin.model.job_json import sealed
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.jobs.desk import JobDesk
from domain_twin.simulation.learned.residual import Residual
from domain_twin.simulation.questions.scenario_file import make_scenario
from domain_twin.simulation.twin.calibration import Calibration
from domain_twin.simulation.twin.traffic import Loads
from domain_twin.yang.schema import SchemaSet
from federation.client import TwinClient
from federation.wire.event_log import EventLog

D = "ran"
VERSION = Version("e", 7, 123)
C = Capability


def identity(short: str) -> str:
    return f"urn:ndt:{D}:{short}"


def link_id(source: str, target: str) -> str:
    return f"{identity(source)}:to-{target}:out"


def kpis(**values: float) -> Mapping[str, Kpi]:
    return {key: Kpi(key, value, UNITS[key]) for key, value in values.items()}


def link(source: str, target: str) -> Link:
    return Link(
        id=link_id(source, target),
        device=source,
        source_node=identity(source),
        source_tp=f"{identity(source)}:to-{target}",
        dest_node=identity(target),
        dest_tp=f"{identity(target)}:to-{source}",
        metric=10,
        capacity_mbps=1000.0,
        kpis=kpis(**{DELAY: 1.0, CARRIED_RATE: 100.0}),
    )


def network() -> Network:
    """Three routers in a triangle, a cell on the first."""
    pairs = [(a, b) for a in ("r1", "r2", "r3") for b in ("r1", "r2", "r3") if a != b]
    links = [link(*pair) for pair in pairs]
    cell = identity("cell-1")
    return Network(
        domain=D,
        version=VERSION,
        nodes={identity(name): Node(identity(name), name) for name in ("r1", "r2", "r3")},
        termination_points={
            item.source_tp: TerminationPoint(item.source_tp, item.source_node, item.device) for item in links
        },
        links={item.id: item for item in links},
        functions={},
        cells={
            cell: Cell(
                cell, identity("r1"), "r1", 1, kpis=kpis(**{DELAY: 2.0, CELL_RATE: 300.0, CARRIED_RATE: 50.0})
            )
        },
        hosts={},
    )


class Twin:
    """What jobs are answered from, and what else a face shows."""

    domain = D
    operator = "northcell.example"

    def __init__(self) -> None:
        self.events = EventLog()
        self.published = {"cell-1": identity("cell-1"), "exit": identity("r3")}
        objective = Objective(delay_ms=0.5)
        self.records = ServiceRecords(
            services={
                "urn:inside": Service("urn:inside", "inside", "ran/cell-1", "ran/exit", objective),
                "urn:outside": Service("urn:outside", "outside", "ran/cell-1", "edge/app", objective),
            }
        )
        self.now = network()
        self.correction: Residual | None = None
        self.learned: InService | None = None
        self.fitted: Calibration | None = None
        self.growth: float | None = None
        """Times what is carried now, at any time to come; None: nobody knows."""
        self.jobs = NdtJobs(self)
        self.desk: JobDesk

    def network(self) -> Network:
        return self.now

    def snapshot(self) -> Snapshot:
        return snapshot_of(VERSION, [])

    async def snapshot_at(self, at: int) -> Snapshot:
        raise NotFound("history begins later")

    def schema_of(self, device: str) -> SchemaSet:
        raise NotFound(device)

    async def expected_loads(self, at: int, loads: Loads) -> Loads:
        if self.growth is None:
            raise NotFound(f"when: {at} cannot be foretold")
        said = (f"demand is x{self.growth:g}",)
        return replace(
            loads, mbps={name: rate * self.growth for name, rate in loads.mbps.items()}, assumptions=said
        )

    def recent_loads(self, network: Network) -> None:
        return None

    def residual(self) -> Residual | None:
        return self.correction

    def learned_residual(self) -> InService | None:
        return self.learned

    def calibration(self) -> Calibration | None:
        return self.fitted


@contextlib.asynccontextmanager
async def served(desk: JobDesk, folder: Path, twin: Twin | None = None) -> AsyncIterator[TwinClient]:
    """A desk at work behind a real socket, and a client of it."""
    shown = twin or Twin()
    shown.desk = desk
    working = asyncio.create_task(desk.run())
    try:
        async with (
            serve_local(shown, folder / "s" / "agent.sock"),  # type: ignore[arg-type]  # jobs are all it shows
            TwinClient.connect(folder / "s" / "agent.sock") as client,
        ):
            yield client
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def scenario(**document: Any) -> Scenario:
    return make_scenario(document)


CUT = scenario(changes=[{"kind": "element-down", "element": link_id("r1", "r3")}])


async def ended(client: TwinClient, job: Job) -> Job:
    async with asyncio.timeout(120):
        return [seen async for seen in client.watch_job(job.id)][-1]


def report_of(job: Job, **fields: Any) -> Report:
    return sealed(Report("", job.scenario, StateKind.CANDIDATE, {D: VERSION}, "tables", **fields))
