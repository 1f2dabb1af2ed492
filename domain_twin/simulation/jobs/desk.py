"""Takes questions in as jobs and sees to their answers: queue, progress, cancelling, deadlines, persistence.

The same core in every agent and at the broker (3GPP TS 28.561 NDTFunction); who answers is handed in. Jobs
wait in a bounded queue; `run` works on a few at once. What an answerer knows so far is kept when its job is
stopped. A restart fails what had not ended. Not thread-safe but for `Ticket`: one event loop owns a desk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from domain_twin.errors import ConfigError, ContractError, NotFound, OverCapacity, TwinError
from domain_twin.model.job import Capability, Job, JobState, Report, Requirements
from domain_twin.model.job_json import report_json
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import Nanoseconds
from domain_twin.simulation.jobs.store import JobStore

__all__ = [
    "AT_ONCE", "INTERRUPTED", "MAX_DEADLINE_S", "MAX_WAITING", "Answer", "JobDesk", "JobStopped", "Ticket",
]  # fmt: skip

log = logging.getLogger(__name__)

AT_ONCE = 2
MAX_WAITING = 32
MAX_DEADLINE_S = 86_400.0
_TELL_EVERY_S = 0.05
_REPORTS_AT_HAND = 8
_GRACE_S = 2.0


class JobStopped(TwinError):
    """Nobody waits for this answer any more: its job was cancelled, or its deadline has passed."""


class Ticket:
    """What the one who answers a job holds. All methods may be called from any thread."""

    def __init__(self, job: Job, desk: JobDesk, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self._desk = desk
        self._loop = loop
        self._stopped = ""
        self._told_at = -math.inf
        self._monotonic = time.monotonic

    def progress(self, fraction: float, step: str = "") -> None:
        """Say how far the answer is, 0 to 1. Raises JobStopped when it should be given up."""
        if self._stopped:
            raise JobStopped(f"job {self.job.id}: {self._stopped}")
        now = self._monotonic()
        if now - self._told_at < _TELL_EVERY_S and fraction < 1.0:
            return
        self._told_at = now
        self._loop.call_soon_threadsafe(self._desk.progressed, self.job.id, fraction, step)

    def keep(self, partial: Report) -> None:
        """Leave what is known so far; it becomes the job's report should the job be stopped."""
        data = report_json(partial)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._desk.keep, self.job.id, data)

    def stop(self, why: str) -> None:
        """Have the next `progress` raise."""
        self._stopped = why


Answer = Callable[[Ticket], Awaitable[Report]]
"""Answers a job. Raises TwinError for what it cannot answer; is cancelled when nobody waits any more."""


@dataclass(slots=True)
class _Entry:
    job: Job
    ticket: Ticket | None = None
    task: asyncio.Task[Report] | None = None
    partial: bytes = b""
    cancelled: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class JobDesk:
    """The jobs of one twin.

    `check` refuses a question before it becomes a job, by raising a TwinError; `on_change` hears of every job
    that begins or ends.
    """

    def __init__(
        self,
        store: JobStore,
        answer: Answer,
        *,
        at_once: int = AT_ONCE,
        max_waiting: int = MAX_WAITING,
        check: Callable[[Job], None] = lambda _: None,
        on_change: Callable[[Job], None] = lambda _: None,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._store = store
        self._answer = answer
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._check = check
        self._on_change = on_change
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._reports: OrderedDict[str, bytes] = OrderedDict()
        self.problem = ""
        """Why jobs are not written to disk, in words; empty when they are."""
        for job in store.load():
            self._entries[job.id] = _Entry(self._recovered(job))

    # --- what a face offers

    async def submit(
        self,
        capability: Capability,
        scenario: Scenario,
        *,
        scope: tuple[str, ...] = (),
        requirements: Requirements | None = None,
        owner: str = "",
        parent: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Take a question in; it is on disk when this returns. A scenario without a seed gets one.

        Raises OverCapacity, ContractError, ConfigError, and what `check` refuses with.
        """
        required = requirements or Requirements()
        if not 0.0 < required.deadline_s <= MAX_DEADLINE_S:
            raise ContractError(
                f"deadline_s: {required.deadline_s:g} seconds; above 0 and up to {MAX_DEADLINE_S:g} is"
                " accepted"
            )
        if scenario.empty:
            raise ConfigError("the scenario changes nothing; add at least one change, a sweep, or `when`")
        if len(self._waiting) >= self._max_waiting:
            raise OverCapacity(
                f"{len(self._waiting)} jobs wait here already; try again later, or cancel some"
            )
        if scenario.seed is None:
            scenario = scenario.model_copy(update={"seed": secrets.randbits(62)})
        job = Job(
            id=secrets.token_hex(8),
            capability=capability,
            scope=scope,
            scenario=scenario,
            requirements=required,
            state=JobState.NOT_STARTED,
            created_at=self._clock(),
            step="waiting",
            owner=owner,
            parent=parent,
            labels=dict(labels or {}),
        )
        self._check(job)
        self._entries[job.id] = _Entry(job)
        self._waiting.append(job.id)
        await self._saved(job)
        self._wake.set()
        return self._entries[job.id].job

    def jobs(self) -> list[Job]:
        """All jobs that are kept, newest first."""
        found = [entry.job for entry in self._entries.values()]
        return sorted(found, key=lambda job: (job.created_at, job.id), reverse=True)

    def job(self, identity: str) -> Job:
        """One job, by its id or the beginning of it. Raises NotFound."""
        return self._entry(identity).job

    async def watch(self, identity: str) -> AsyncIterator[Job]:
        """The job now and at every change, until it has ended. Raises NotFound."""
        entry = self._entry(identity)
        while True:
            changed, job = entry.changed, entry.job
            yield job
            if job.state.ended:  # that one: it may have ended while it was being told
                return
            if changed is entry.changed:
                await changed.wait()

    async def cancel(self, identity: str) -> Job:
        """Have a job end without an answer; one that has ended stays as it is. Raises NotFound."""
        entry = self._entry(identity)
        job = entry.job
        if job.state.ended:
            return job
        entry.cancelled = True
        if entry.task is None:
            if job.id in self._waiting:
                self._waiting.remove(job.id)
            await self._end(entry, JobState.CANCELLED, "it was cancelled before it began")
        else:
            self._put(entry, state=JobState.CANCELLING)
            if entry.ticket:
                entry.ticket.stop("it was cancelled")
            asyncio.get_running_loop().call_later(_GRACE_S, entry.task.cancel)
        return entry.job

    async def report(self, identity: str) -> bytes:
        """A job's report as canonical JSON; of a stopped job, what was known. Raises NotFound."""
        entry = self._entry(identity)
        job = entry.job
        if not job.state.ended:
            raise NotFound(
                f"job {job.id} is {job.state.value} ({job.progress:.0%}) and has no report yet; watch it"
            )
        if (held := self._reports.get(job.id)) is not None:
            return held
        try:
            return await asyncio.to_thread(self._store.report, job.id)
        except NotFound:
            why = f": {job.problem}" if job.problem else ""
            raise NotFound(f"job {job.id} has no report; it is {job.state.value}{why}") from None

    # --- working

    async def run(self) -> None:
        """Answer jobs until cancelled; what is being answered then is failed as interrupted."""
        self._wake = asyncio.Event()
        for entry in list(self._entries.values()):  # jobs may come in meanwhile
            if entry.job.problem == INTERRUPTED:
                await self._saved(entry.job)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._at_once):
                    tasks.create_task(self._work())
        finally:
            for entry in list(self._entries.values()):
                if not entry.job.state.ended:
                    if entry.ticket:
                        entry.ticket.stop("the twin is being stopped")
                    entry.job = self._recovered(entry.job)
                    self._tell(entry)
                    await self._saved(entry.job)

    def progressed(self, identity: str, fraction: float, step: str) -> None:
        """Note how far a running job is; for its Ticket."""
        entry = self._entries.get(identity)
        if entry and entry.job.state is JobState.RUNNING:
            known = min(max(fraction, entry.job.progress), 1.0) if math.isfinite(fraction) else 0.0
            self._put(entry, progress=known, step=step or entry.job.step)

    def keep(self, identity: str, partial: bytes) -> None:
        """Note what is known so far of a job's answer; for its Ticket."""
        entry = self._entries.get(identity)
        if entry and not entry.job.state.ended:
            entry.partial = partial

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            entry = self._entries[self._waiting.popleft()]
            await self._answer_one(entry)

    async def _answer_one(self, entry: _Entry) -> None:
        job = entry.job
        left_s = job.requirements.deadline_s - (self._clock() - job.created_at) / 1e9
        late = f"its deadline of {job.requirements.deadline_s:g} s passed"
        if left_s <= 0.0:
            await self._end(entry, JobState.FAILED, f"{late} while it waited behind other jobs")
            return
        loop = asyncio.get_running_loop()
        self._put(entry, state=JobState.RUNNING, step="beginning")
        self._on_change(entry.job)
        entry.ticket = ticket = Ticket(entry.job, self, loop)
        entry.task = asyncio.ensure_future(self._answer(ticket))
        try:
            done, _ = await asyncio.wait([entry.task], timeout=left_s)
            if not done:
                ticket.stop(late)
                await asyncio.wait([entry.task], timeout=_GRACE_S)  # for what is known by now
                entry.task.cancel()
                await self._end(
                    entry, JobState.FAILED, f"{late} at {entry.job.progress:.0%}: {entry.job.step}"
                )
            else:
                await self._settle(entry, entry.task)
        except asyncio.CancelledError:
            ticket.stop("the twin is being stopped")
            entry.task.cancel()
            raise

    async def _settle(self, entry: _Entry, task: asyncio.Task[Report]) -> None:
        """End a job as its answer did."""
        if entry.cancelled:
            if not task.cancelled():
                task.exception()  # seen: nobody waits for it
            await self._end(entry, JobState.CANCELLED, "it was cancelled")
            return
        if task.cancelled():
            await self._end(entry, JobState.FAILED, "its answer was given up; the twin's log has the details")
            return
        error = task.exception()
        if error is None:
            report = task.result()
            state = JobState.PARTIALLY_FAILED if report.partial else JobState.FINISHED
            await self._end(entry, state, "", report=report_json(replace(report, job=entry.job.id)))
        elif isinstance(error, TwinError):
            await self._end(entry, JobState.FAILED, str(error))
        else:
            log.error("job failed", extra={"job": entry.job.id}, exc_info=error)
            await self._end(entry, JobState.FAILED, "the twin failed on this job; its log has the details")

    async def _end(self, entry: _Entry, state: JobState, problem: str, *, report: bytes = b"") -> None:
        data = report or entry.partial
        entry.partial = b""
        job = replace(
            entry.job,
            state=state,
            ended_at=self._clock(),
            problem=problem,
            progress=1.0 if report else entry.job.progress,
            step="",
        )
        if data:
            self._reports[job.id] = data
            while len(self._reports) > _REPORTS_AT_HAND:
                self._reports.popitem(last=False)
            await self._written(self._store.save_report, job.id, data)
        await self._saved(job)
        entry.ticket = entry.task = None
        entry.job = job
        self._tell(entry)
        self._on_change(job)
        await self._prune()

    async def _prune(self) -> None:
        ended = [entry.job for entry in self._entries.values() if entry.job.state.ended]
        for identity in await asyncio.to_thread(self._store.prune, ended):
            self._entries.pop(identity, None)
            self._reports.pop(identity, None)

    def _put(self, entry: _Entry, **changes: object) -> None:
        entry.job = replace(entry.job, **changes)  # type: ignore[arg-type]  # fields of Job
        self._tell(entry)

    @staticmethod
    def _tell(entry: _Entry) -> None:
        changed, entry.changed = entry.changed, asyncio.Event()
        changed.set()

    async def _saved(self, job: Job) -> None:
        await self._written(self._store.save, job)

    async def _written(self, write: Callable[..., None], *content: object) -> None:
        try:
            await asyncio.to_thread(write, *content)
            self.problem = ""
        except OSError as error:  # it is still answered; a restart would forget it
            self.problem = f"jobs are not written to disk: {error}"
            log.error("job not written", extra={"why": str(error)})

    def _recovered(self, job: Job) -> Job:
        """A job as it is after a restart."""
        if job.state.ended:
            return job
        return replace(job, state=JobState.FAILED, problem=INTERRUPTED, ended_at=self._clock(), step="")

    def _entry(self, identity: str) -> _Entry:
        if identity in self._entries:
            return self._entries[identity]
        found = [key for key in self._entries if identity and key.startswith(identity)]
        if len(found) == 1:
            return self._entries[found[0]]
        if found:
            raise NotFound(f"{len(found)} jobs begin with {identity!r}; write more of the id")
        raise NotFound(f"no job {identity!r} is kept here; `fedtwin jobs` lists those that are")


INTERRUPTED = "interrupted by a restart of the twin; ask again"
"""The problem of a job that a restart cut short."""
