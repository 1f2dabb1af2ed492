"""`fedtwin jobs`: what was asked of a twin, how far it is, and the reports. Owns the tables of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from domain_twin.model.job import Job

SECTION = "Ask what would be"
Identity = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, or the beginning of it.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = subgroup(
        app, "jobs", section=SECTION, help_text="List what was asked; show, cancel, get reports."
    )
    for name, function, example in (
        ("list", list_jobs, ("fedtwin jobs list", "fedtwin jobs list --running")),
        ("show", show, ("fedtwin jobs show 4f1c",)),
        ("cancel", cancel, ("fedtwin jobs cancel 4f1c",)),
        ("report", report, ("fedtwin jobs report 4f1c --report cut.html",)),
    ):
        command(group, name, section=SECTION, group="jobs", example=example)(function)


def list_jobs(
    *,
    running: Annotated[bool, typer.Option("--running", help="Only those that have not ended.")] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    found = ask(at, lambda twin: twin.jobs(), "asking for the jobs")
    shown = [job for job in found if not (running and job.state.ended)]
    if as_json:
        emit({"jobs": [document(job) for job in shown]})
        return
    if not shown:
        out().print("No job is running." if running else "Nothing was asked yet: `fedtwin whatif --help`")
        return
    out().print(jobs_table(shown))


def show(*, identity: Identity, at: At = "", as_json: Json = False) -> None:
    """Show one job: what was asked, by whom, and how far it is."""
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    job = ask(at, lambda twin: twin.job(identity), "asking for the job")
    if as_json:
        emit(document(job))
        return
    out().print(job_table(job))


def cancel(*, identity: Identity, at: At = "", as_json: Json = False) -> None:
    """Have a job end without an answer."""
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    job = ask(at, lambda twin: twin.cancel_job(identity), "cancelling")
    if as_json:
        emit(document(job))
        return
    out().print(f"{job.id}: {job.state.value.lower()}", markup=False)


def report(
    *,
    identity: Identity,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Also write a page with plots.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show at most so many rows of each table.")] = 10,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show the report of a job once more; one that still runs is waited for."""
    import asyncio

    from domain_twin.model.job import Report
    from federation.cli import whatif
    from federation.cli.asking_jobs import report_of, wait_for

    async def found() -> tuple[Job, Report]:
        from federation.client import TwinClient

        async with TwinClient.connect(at) as twin:
            job = await wait_for(twin, await twin.job(identity))
            return job, await report_of(twin, job)

    job, told = asyncio.run(found())
    whatif.show(job, told, as_json=as_json, page=page, top=top)


def document(job: Job) -> dict[str, object]:
    """A job in JSON's types."""
    from dataclasses import fields

    from federation.cli.console import plain

    found = {each.name: plain(getattr(job, each.name), each.name) for each in fields(job)}
    return {**found, "scenario": job.scenario.model_dump(mode="json", exclude_none=True)}


def jobs_table(jobs: list[Job], now: int | None = None) -> Table:
    """Jobs, one a row."""
    from rich.text import Text

    from federation.cli.console import age, span
    from federation.cli.tables import grid

    table = grid("id", "state", "what", "asked", "took", right=("asked", "took"), wraps="what")
    for job in jobs:
        what = Text(job.scenario.name or what_is_asked(job))
        if job.problem or (job.step and not job.state.ended):
            what.append(f"\n{job.problem or job.step}", "warn" if job.problem else "dim")
        table.add_row(
            job.id,
            _state(job),
            what,
            age(job.created_at, now),
            span(job.ended_at - job.created_at) if job.ended_at else "",
        )
    return table


def _state(job: Job) -> Text:
    from rich.text import Text

    styles = {"FINISHED": "good", "FAILED": "bad", "PARTIALLY_FAILED": "warn", "CANCELLED": "dim"}
    share = f" {100 * job.progress:.0f} %" if job.state.value == "RUNNING" else ""
    return Text(job.state.value.lower().replace("_", " ") + share, styles.get(job.state.value, ""))


def what_is_asked(job: Job) -> str:
    """A scenario without a name, in a few words."""
    from federation.cli.forecast.reading import change_lines

    lines = change_lines(job.scenario)
    told = lines[0] if lines else ""
    if len(lines) > 1:
        told += f", and {len(lines) - 1} more"
    if job.scenario.sweep is not None:
        told = f"sweep: {job.scenario.sweep.kind}" + (f"; {told}" if told else "")
    return told


def job_table(job: Job) -> Table:
    """All about one job."""
    from federation.cli.console import clock, span
    from federation.cli.forecast.reading import change_lines
    from federation.cli.tables import attributes_table

    needs = job.requirements
    rows = {
        "job": job.id,
        "state": f"{job.state.value}, {100 * job.progress:.0f} %",
        "problem": job.problem,
        "now": job.step if not job.state.ended else "",
        "what if": job.scenario.name,
        "changes": "\n".join(change_lines(job.scenario)),
        "sweep": job.scenario.sweep.kind if job.scenario.sweep is not None else "",
        "capability": job.capability.value,
        "scope": ", ".join(job.scope) or "all domains that are concerned",
        "asked": clock(job.created_at),
        "took": span(job.ended_at - job.created_at) if job.ended_at else "",
        "deadline": f"{needs.deadline_s:g} s",
        "by": job.owner or "the local operator",
        "part of": job.parent,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items())),
    }
    return attributes_table({name: text for name, text in rows.items() if text})
