"""The core of jobs, whoever answers: progress, cancelling, deadlines, restarts, limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ndt_twin import CUT, C, ended, report_of, served

from domain_twin.errors import NotFound, OverCapacity, TwinError
from domain_twin.model.job import Job, JobState, Report, Requirements
from domain_twin.simulation.jobs.desk import JobDesk, Ticket
from domain_twin.simulation.jobs.store import JobStore


class Answerer:
    """Answers when it is let to, from a thread that goes on as long as it may."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = asyncio.Event()
        self.stopped = threading.Event()
        self.leave_first = False

    async def __call__(self, ticket: Ticket) -> Report:
        self.begun.set()
        return await asyncio.to_thread(self._work, ticket)

    def _work(self, ticket: Ticket) -> Report:
        try:
            while not self.go.wait(0.01):
                ticket.progress(0.4, "thinking")
        except TwinError:
            if self.leave_first:
                ticket.keep(report_of(ticket.job, assumptions=("half of it",)))
            self.stopped.set()
            raise
        return report_of(ticket.job)


@pytest.fixture
async def answerer() -> AsyncIterator[Answerer]:
    made = Answerer()
    yield made
    made.go.set()


async def test_progress_is_watched_and_never_goes_back(answerer: Answerer, tmp_path: Path) -> None:
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await client.start_job(CUT)
        seen = []
        async for state in client.watch_job(job.id):
            seen.append(state)
            if state.progress:
                answerer.go.set()
        assert [one.progress for one in seen] == sorted(one.progress for one in seen)
        assert seen[-1].state is JobState.FINISHED
        assert "thinking" in {one.step for one in seen}
        assert seen[-1].ended_at >= seen[-1].created_at > 0


async def test_the_loop_answers_while_a_job_is_computed(answerer: Answerer, tmp_path: Path) -> None:
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await client.start_job(CUT)
        await answerer.begun.wait()
        for _ in range(20):
            assert (await client.job(job.id)).state is JobState.RUNNING


async def test_a_running_and_a_waiting_job_are_cancelled(answerer: Answerer, tmp_path: Path) -> None:
    answerer.leave_first = True
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer, at_once=1)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        running, waiting = [await client.start_job(CUT) for _ in range(2)]
        await answerer.begun.wait()

        cancelled = await client.cancel_job(waiting.id)
        asked = await client.cancel_job(running.id)
        last = await ended(client, running)

        assert cancelled.state is JobState.CANCELLED
        assert cancelled.problem == "it was cancelled before it began"
        assert asked.state in (JobState.CANCELLING, JobState.CANCELLED)
        assert last.state is JobState.CANCELLED
        assert answerer.stopped.is_set()  # its thread does not go on for nobody
        assert (await client.report(running.id)).assumptions == ("half of it",)
        assert (await client.cancel_job(running.id)).state is JobState.CANCELLED
        with pytest.raises(NotFound, match="no job 'nope'"):
            await client.cancel_job("nope")


async def test_an_answer_that_heeds_nothing_is_given_up_when_cancelled(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def deaf(ticket: Ticket) -> Report:
        begun.set()
        await asyncio.sleep(3600)
        raise AssertionError

    desk = JobDesk(JobStore(tmp_path / "jobs"), deaf)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await client.start_job(CUT)
        await begun.wait()
        await client.cancel_job(job.id)
        assert (await ended(client, job)).state is JobState.CANCELLED


async def test_a_job_past_its_deadline_fails_and_keeps_what_it_knows(
    answerer: Answerer, tmp_path: Path
) -> None:
    answerer.leave_first = True
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await client.start_job(CUT, requirements=Requirements(deadline_s=0.3))
        last = await ended(client, job)

        assert last.state is JobState.FAILED
        assert last.problem == "its deadline of 0.3 s passed at 40%: thinking"
        assert (await client.report(job.id)).assumptions == ("half of it",)


async def test_a_deadline_counts_from_the_question(answerer: Answerer, tmp_path: Path) -> None:
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer, at_once=1)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        await client.start_job(CUT)
        await answerer.begun.wait()
        late = await client.start_job(CUT, requirements=Requirements(deadline_s=0.05))
        await asyncio.sleep(0.1)
        answerer.go.set()
        last = await ended(client, late)

        assert last.state is JobState.FAILED
        assert last.problem == "its deadline of 0.05 s passed while it waited behind other jobs"


async def test_more_jobs_than_may_wait_are_refused(answerer: Answerer, tmp_path: Path) -> None:
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer, at_once=1, max_waiting=2)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        await client.start_job(CUT)
        await answerer.begun.wait()
        for _ in range(2):
            await client.start_job(CUT)
        with pytest.raises(OverCapacity, match="2 jobs wait here already; try again later"):
            await client.start_job(CUT)
        assert len(await client.jobs()) == 3


async def test_an_error_nobody_foresaw_fails_one_job_and_says_nothing_of_the_inside(tmp_path: Path) -> None:
    async def answer(ticket: Ticket) -> Report:
        if ticket.job.scenario.name == "bad":
            raise ZeroDivisionError("a secret of the inside")
        return report_of(ticket.job)

    desk = JobDesk(JobStore(tmp_path / "jobs"), answer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        bad = await ended(client, await client.start_job(CUT.model_copy(update={"name": "bad"})))
        good = await ended(client, await client.start_job(CUT))

        assert bad.state is JobState.FAILED
        assert bad.problem == "the twin failed on this job; its log has the details"
        assert good.state is JobState.FINISHED


async def test_a_report_is_not_there_before_its_job_has_ended(answerer: Answerer, tmp_path: Path) -> None:
    desk = JobDesk(JobStore(tmp_path / "jobs"), answerer)
    async with served(desk, tmp_path) as client, asyncio.timeout(60):
        job = await client.start_job(CUT)
        await answerer.begun.wait()
        with pytest.raises(NotFound, match=r"is RUNNING .* and has no report yet; watch it"):
            await client.report(job.id)


async def test_jobs_survive_a_restart(answerer: Answerer, tmp_path: Path) -> None:
    store = tmp_path / "jobs"
    async with served(JobDesk(JobStore(store), answerer, at_once=1), tmp_path) as client, asyncio.timeout(60):
        answerer.go.set()
        done = await ended(client, await client.start_job(CUT))
        report = await client.report(done.id)
        answerer.go.clear()
        answerer.begun.clear()
        running, waiting = [await client.start_job(CUT) for _ in range(2)]
        await answerer.begun.wait()

    async with served(JobDesk(JobStore(store), answerer), tmp_path) as client, asyncio.timeout(60):
        found = {job.id: job for job in await client.jobs()}

        assert found[done.id] == done
        assert await client.report(done.id) == report
        for job in (running, waiting):
            assert found[job.id].state is JobState.FAILED
            assert "interrupted by a restart" in found[job.id].problem
        assert [item async for item in client.watch_job(done.id)] == [done]


async def test_a_killed_twins_jobs_are_failed_at_its_next_start(answerer: Answerer, tmp_path: Path) -> None:
    store = tmp_path / "jobs"
    JobStore(store).save(
        Job("ab" * 8, C.RISKY_ACTIONS_PREDICTION, (), CUT, Requirements(), JobState.RUNNING, created_at=5)
    )
    async with served(JobDesk(JobStore(store), answerer), tmp_path) as client, asyncio.timeout(60):
        job = await client.job("abab")
        assert (job.state, job.problem) == (
            JobState.FAILED,
            "interrupted by a restart of the twin; ask again",
        )


async def test_a_list_of_jobs_holds_as_many_as_fit(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from federation.wire.twin_service import TwinService

    desk = JobDesk(JobStore(tmp_path / "jobs"), Answerer(), max_waiting=100)
    jobs = [await desk.submit(C.RISKY_ACTIONS_PREDICTION, CUT) for _ in range(20)]

    async def listed() -> list[Job]:
        return desk.jobs()

    context = SimpleNamespace(time_remaining=lambda: None)
    service = TwinService(SimpleNamespace(jobs=listed), max_answer_bytes=2000)  # type: ignore[arg-type]
    answer = await service.ListJobs(None, context)

    assert 0 < len(answer.jobs) < len(jobs)
    assert answer.jobs[0].id == desk.jobs()[0].id
