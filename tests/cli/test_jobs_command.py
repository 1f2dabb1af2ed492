"""`fedtwin jobs`: list, show, cancel, report; against a twin that serves jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import forecast_samples as samples
from twin_with_jobs import Asked, fedtwin, serving

from domain_twin.model.job import Capability, Job, JobState, Requirements
from domain_twin.simulation.jobs.desk import JobDesk

SECOND = 10**9


async def asked_once(desk: JobDesk) -> Job:
    job = await desk.submit(
        Capability.RISKY_ACTIONS_PREDICTION, samples.report().scenario, labels={"ticket": "CHG-1"}
    )
    async for now in desk.watch(job.id):
        if now.state.ended or now.progress:
            return now
    return job


async def test_jobs_are_listed_shown_and_reported(tmp_path: Path) -> None:
    async with serving(tmp_path, Asked()) as (socket, desk):
        job = await asked_once(desk)
        at = ("--at", str(socket))
        listed = await fedtwin("jobs", "list", *at, cwd=tmp_path)
        running = await fedtwin("jobs", "list", "--running", *at, cwd=tmp_path)
        shown = await fedtwin("jobs", "show", job.id[:6], *at, cwd=tmp_path)
        document = await fedtwin("jobs", "show", job.id, "--json", *at, cwd=tmp_path)
        report = await fedtwin("jobs", "report", job.id, "--report", "r.html", *at, cwd=tmp_path)

    assert job.id in listed.out
    assert "Cut poznan - wroclaw" in listed.out
    assert "finished" in listed.out
    assert running.out == "No job is running.\n"
    for words in (job.id, "FINISHED", "urn:ndt:transport:poznan:eth2:out fails", "ticket=CHG-1", "60 s"):
        assert words in shown.out
    told = json.loads(document.out)
    assert (told["id"], told["state"], told["scenario"]["name"]) == (
        job.id,
        "FINISHED",
        "Cut poznan - wroclaw",
    )
    assert told["created_at"].endswith("Z")
    assert "+3.000 (+52 %)" in report.out
    assert (tmp_path / "r.html").exists()


async def test_a_running_job_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, Asked(waits=True)) as (socket, desk):
        job = await asked_once(desk)
        listed = await fedtwin("jobs", "list", "--running", "--at", str(socket), cwd=tmp_path)
        cancelled = await fedtwin("jobs", "cancel", job.id, "--at", str(socket), cwd=tmp_path)
        job = [now async for now in desk.watch(job.id)][-1]

    assert "running 40 %" in listed.out
    assert "solving" in listed.out
    assert cancelled.out.startswith(f"{job.id}: cancel")
    assert job.state is JobState.CANCELLED


async def test_an_unknown_job_is_one_clear_message(tmp_path: Path) -> None:
    async with serving(tmp_path, Asked()) as (socket, _):
        shown = await fedtwin("jobs", "show", "beef", "--at", str(socket), cwd=tmp_path)
        empty = await fedtwin("jobs", "list", "--at", str(socket), cwd=tmp_path)

    assert shown.status == 1
    assert shown.err.startswith("error: no job 'beef'")
    assert empty.out.startswith("Nothing was asked yet")


def test_tables_fit_and_say_what_they_must() -> None:
    import io

    from rich.console import Console

    from federation.cli.console import _theme
    from federation.cli.jobs import job_table, jobs_table

    job = Job(
        "4f1c" * 4,
        Capability.NETWORK_ISSUE_INDUCEMENT,
        (),
        samples.report().scenario.model_copy(update={"name": ""}),
        Requirements(),
        JobState.FAILED,
        created_at=100 * SECOND,
        ended_at=103 * SECOND,
        problem="no element 'x' in transport",
    )
    running = replace(job, id="b" * 16, state=JobState.RUNNING, ended_at=0, problem="", progress=0.42)
    for width in (77, 97):
        stream = io.StringIO()
        console = Console(file=stream, width=width, theme=_theme(), highlight=False, color_system=None)
        console.print(jobs_table([job, running], now=200 * SECOND))
        console.print(job_table(job))
        text = stream.getvalue()
        assert "…" not in text
        for words in ("4f1c" * 4, "failed", "3.0 s", "running 42 %", "no element 'x'", "and 1 more"):
            assert words in text
