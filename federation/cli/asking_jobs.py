"""A question that takes longer than a call: start, watch, report. Owns the progress bar.

Ctrl-C cancels the job at the twin before the command ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, OperationRejected, TwinError

if TYPE_CHECKING:
    from domain_twin.model.job import Capability, Job, Report, Requirements
    from domain_twin.model.scenario import Scenario
    from federation.client import TwinClient

__all__ = ["answer", "follow", "report_of", "wait_for"]

_PATIENCE_S = 0.3
_CANCEL_WITHIN_S = 3.0


def answer(
    at: str,
    scenario: Scenario,
    *,
    capability: Capability,
    requirements: Requirements,
    scope: tuple[str, ...] = (),
) -> tuple[Job, Report]:
    """Ask the twin at `at` and wait; the job that has ended, and its report.

    Raises OperationRejected where the job has no answer, and what the twin refuses with.
    """

    async def ask() -> tuple[Job, Report]:
        from federation.client import TwinClient

        async with TwinClient.connect(at) as twin:
            start = twin.start_job(scenario, capability=capability, requirements=requirements, scope=scope)
            job = await follow(twin, await _begun(twin, start))
            return job, await report_of(twin, job)

    return asyncio.run(ask())


async def report_of(twin: TwinClient, job: Job) -> Report:
    """The report of a job that has ended. Raises OperationRejected where it has none."""
    try:
        return await twin.report(job.id)
    except NotFound:
        if job.state.value in ("FINISHED", "PARTIALLY_FAILED"):
            raise
        raise OperationRejected(f"job {job.id}: {job.problem or f'it is {job.state.value}'}") from None


async def wait_for(twin: TwinClient, job: Job) -> Job:
    """Watch a job to its end, with a progress bar on stderr."""
    if job.state.ended:
        return job
    with _bar() as show:
        async for now in twin.watch_job(job.id):
            show(now)
            if now.state.ended:
                return now
    return await twin.job(job.id)


async def follow(twin: TwinClient, job: Job) -> Job:
    """Wait for a job; when this is cancelled, so is the job."""
    try:
        return await wait_for(twin, job)
    except asyncio.CancelledError:
        await _cancel(twin, job)
        raise


async def _begun(twin: TwinClient, start: Awaitable[Job]) -> Job:
    """The job once it has begun; when this is cancelled meanwhile, the job is."""
    starting = asyncio.ensure_future(start)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(TwinError, TimeoutError):
            async with asyncio.timeout(_CANCEL_WITHIN_S):
                await _cancel(twin, await starting)
        raise


async def _cancel(twin: TwinClient, job: Job) -> None:
    from federation.cli.console import err

    try:
        async with asyncio.timeout(_CANCEL_WITHIN_S):
            ended = await twin.cancel_job(job.id)
    except (TwinError, TimeoutError) as error:
        why = str(error) or f"no answer within {_CANCEL_WITHIN_S:g} s"
        err().print(f"job {job.id} may still run: {why}", style="warn", markup=False)
        return
    err().print(f"job {job.id}: {ended.state.value.lower()}", style="note", markup=False)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Job], None]]:
    """A progress bar that comes when it takes long, and goes at the end."""
    from rich.progress import BarColumn, Progress, TextColumn

    from federation.cli.console import err

    columns = (BarColumn(30), TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.description}"))
    progress = Progress(*columns, console=err(), transient=True)
    task = progress.add_task("waiting", total=1.0)

    def show(job: Job) -> None:
        from rich.markup import escape

        progress.update(task, completed=job.progress, description=escape(job.step or job.state.value.lower()))

    begin = progress.start if err().is_terminal else lambda: None
    later = asyncio.get_running_loop().call_later(_PATIENCE_S, begin)
    try:
        yield show
    finally:
        later.cancel()
        if progress.live.is_started:
            progress.stop()
