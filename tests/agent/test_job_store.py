"""Jobs and reports on disk: what makes room, what is set aside, whose files they are."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ndt_twin import (
    CUT,
    C,
    ended,
    report_of,
    served,
)

from domain_twin.errors import NotFound
from domain_twin.model.job import Job, JobState, Report, Requirements
from domain_twin.model.job_json import report_json
from domain_twin.simulation.jobs.desk import JobDesk, Ticket
from domain_twin.simulation.jobs.store import JobStore


def job_of(number: int, **fields: Any) -> Job:
    made = Job(
        f"{number:016x}", C.RISKY_ACTIONS_PREDICTION, (), CUT, Requirements(), JobState.FINISHED, number
    )
    return replace(made, ended_at=number, **fields)


def test_the_oldest_jobs_go_first(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs", max_kept=3)
    jobs = [job_of(number) for number in range(1, 6)]
    for job in jobs:
        store.save(job)
        store.save_report(job.id, b"{}")

    gone = store.prune(jobs)

    assert gone == [jobs[1].id, jobs[0].id]
    assert [job.id for job in store.load()] == [job.id for job in jobs[2:]]
    assert len(list((tmp_path / "jobs").iterdir())) == 6


def test_large_reports_make_room(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs", max_kept_bytes=25_000)
    jobs = [job_of(number) for number in range(1, 4)]
    for job in jobs:
        store.save(job)
        store.save_report(job.id, b"x" * 10_000)
    assert store.prune(jobs) == [jobs[0].id]


def test_a_file_that_is_no_job_is_set_aside(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    store.save(job_of(1))
    (tmp_path / "jobs" / f"{'ff' * 8}.job.json").write_text("{")
    (tmp_path / "jobs" / f"{'ee' * 8}.job.json").write_bytes(
        (tmp_path / "jobs" / f"{job_of(1).id}.job.json").read_bytes()
    )

    assert [job.id for job in store.load()] == [job_of(1).id]
    assert len(list((tmp_path / "jobs").glob("*.damaged-*"))) == 2
    assert [job.id for job in store.load()] == [job_of(1).id]


def test_jobs_are_for_the_agents_own_user(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    store.save(job_of(1))
    file = next((tmp_path / "jobs").iterdir())
    assert stat.S_IMODE((tmp_path / "jobs").stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(NotFound, match="no job is called"):
        store.report("../../secret")


async def test_a_disk_that_is_full_loses_no_answer(tmp_path: Path) -> None:
    async def answer(ticket: Ticket) -> Report:
        return report_of(ticket.job)

    (tmp_path / "jobs").write_text("in the way")
    desk = JobDesk(JobStore(tmp_path / "jobs"), answer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await ended(client, await client.start_job(CUT))
        assert job.state is JobState.FINISHED
        assert report_json(await client.report(job.id))
        assert "jobs are not written to disk" in desk.problem
