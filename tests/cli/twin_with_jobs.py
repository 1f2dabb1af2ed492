"""A twin that answers jobs: a real socket, service and desk; what it answers, the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import forecast_samples as samples

from domain_twin.agent.local import serve_local
from domain_twin.errors import TwinError
from domain_twin.model.job import Job, Report
from domain_twin.model.job_json import sealed
from domain_twin.simulation.jobs.desk import JobDesk, Ticket
from domain_twin.simulation.jobs.store import JobStore
from federation.wire.event_log import EventLog

FEDTWIN = [sys.executable, "-m", "federation.cli"]


@dataclass
class Asked:
    """How a twin answers, and what it was asked."""

    report: Report = field(default_factory=samples.report)
    refusal: TwinError | None = None
    waits: bool = False  # says how far it is and does not come to an end
    jobs: list[Job] = field(default_factory=list)

    async def answer(self, ticket: Ticket) -> Report:
        self.jobs.append(ticket.job)
        report = sealed(replace(self.report, job=ticket.job.id, scenario=ticket.job.scenario))
        if self.refusal:
            raise self.refusal
        if self.waits:
            ticket.progress(0.4, "solving")
            ticket.keep(report)
            await asyncio.Event().wait()
        return report


class JobTwin:
    """What the socket needs of a twin for jobs."""

    domain = "transport"
    operator = "longhaul.example"

    def __init__(self, desk: JobDesk) -> None:
        self.desk = desk
        self.events = EventLog()


@asynccontextmanager
async def serving(folder: Path, asked: Asked) -> AsyncIterator[tuple[Path, JobDesk]]:
    """Serve at a socket in `folder`."""
    desk = JobDesk(JobStore(folder / "jobs"), asked.answer)
    working = asyncio.create_task(desk.run())
    path = folder / "state" / "agent.sock"
    twin: Any = JobTwin(desk)
    try:
        async with serve_local(twin, path):
            yield path, desk
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def fedtwin(*words: str, cwd: Path, given: bytes = b"", interrupt: asyncio.Event | None = None) -> Ran:
    """Run a command as a process; SIGINT once `interrupt` is set."""
    process = await asyncio.create_subprocess_exec(
        *FEDTWIN,
        *words,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            if interrupt:
                await interrupt.wait()
                process.send_signal(signal.SIGINT)
            out, err = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str
