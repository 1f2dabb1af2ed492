"""Carries tests out as jobs of the broker, and writes down what became of them. Owns no rules about tests.

The job of a test carries the test's id as a label, so that a restart at any point finds it: what had not
begun begins, what was cut short is run again a few times, what has ended is reported. A result and the end of
its test are one write: it is reported once, and a test that was cancelled meanwhile keeps that state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from domain_twin.errors import ContractError, NotFound, OverCapacity, StaleVersion, TwinError, Unreachable
from domain_twin.model import Nanoseconds
from domain_twin.model.job import Capability, Job, JobState
from domain_twin.model.job_json import parse_report
from domain_twin.simulation.jobs.desk import INTERRUPTED, JobDesk
from federation.jobs import TWIN_LABEL
from federation.partners.admission import TEST_LABEL, Admission
from federation.partners.characteristics import (
    RunAsk,
    asked_values,
    characteristic,
    read_ask,
    value_of,
)
from federation.partners.measures import INCONCLUSIVE, Judged, judge, time_text
from federation.partners.record import Body, Kind, Record, Repository, partner_identity
from federation.partners.specifications import OPEN_STATES
from federation.partners.thresholds import definitions

__all__ = ["MOST_ATTEMPTS", "Results", "Runner"]

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""A run that restarts of the broker interrupted so often is not begun again."""
COMES_UP_S = 20.0
"""A twin of which some domain was not heard yet is waited for; after that the run does without."""
_BUSY_S = 0.5
_REMOVED_S = 0.2
_WRITE_AGAIN_S = 1.0
_WAITS_S = 900.0  # behind other tenants' jobs, before it is given up
_RESULT = ("verdict", "remarks", "digest", "versions", "domains", "problem", "job", "attempt")

_Key = tuple[str, str]


class Results(Protocol):
    """Hears of what tests found, before their results are kept; may hear it twice."""

    async def found(self, repository: Repository, test: Body, judged: Judged) -> None:
        """A test has ended with a judgement."""


class Runner:
    """Tests that are open, by tenant and id."""

    def __init__(
        self,
        operator: str,
        jobs: JobDesk,
        admission: Admission,
        *,
        results: Results | None = None,
        comes_up_s: float = COMES_UP_S,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._operator = operator
        self._jobs = jobs
        self._admission = admission
        self._results = results
        self._clock = clock
        self._comes_up_s = comes_up_s
        self._open: dict[_Key, Repository] = {}
        self._begun_at: dict[_Key, float] = {}  # in this run of the process
        self._given_up: list[str] = []  # ids of jobs
        self._running: dict[_Key, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def begin(self, repository: Repository, record: Record) -> None:
        """Carry a test out, once."""
        key = (repository.tenant, record.id)
        self._open.setdefault(key, repository)
        self._begun_at.setdefault(key, time.monotonic())
        self._wake.set()

    def give_up(self, repository: Repository, record: Record) -> None:
        """Have a test's job end; one that has ended, or never began, stays as it is."""
        self._open.pop((repository.tenant, record.id), None)
        job = value_of(record.body, "job")
        if isinstance(job, str) and record.body.get("state") in (*OPEN_STATES, "cancelled"):
            self._given_up.append(job)
            self._wake.set()

    def look_again(self, repository: Repository, record: Record) -> None:
        """Have the job of a test end once the test is gone: whether it is removed is decided after this."""

        def look() -> None:
            if self._read(repository, record.id) is None:
                self.give_up(repository, record)

        asyncio.get_running_loop().call_later(_REMOVED_S, look)

    async def run(self) -> None:
        """Carry out what is open until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._wake.clear()
                    while self._given_up:
                        await self._cancel(self._given_up.pop())
                    for key in self._open.keys() - self._running.keys():
                        task = tasks.create_task(self._carry_out(key, self._open[key]))
                        self._running[key] = task
                        task.add_done_callback(partial(self._done, key))
                    await self._wake.wait()
        finally:
            self._running.clear()

    async def _carry_out(self, key: _Key, repository: Repository) -> None:
        try:
            await self._to_the_end(repository, key[1])
        except Exception:  # a defect here must not leave a test open for ever, nor end the others
            log.exception("test not carried out", extra={"tenant": key[0], "test": key[1]})
            await self._fail(repository, key[1], "the twin failed on this test; its operator's log has why")
        if self._read(repository, key[1]) is None:
            self._open.pop(key, None)
            self._begun_at.pop(key, None)
            self._admission.over(*key)

    def _done(self, key: _Key, _: asyncio.Task[None]) -> None:
        self._running.pop(key, None)

    async def _to_the_end(self, repository: Repository, identity: str) -> None:
        while (record := self._read(repository, identity)) is not None:
            job = self._job_of(repository.tenant, record)
            if job is None:
                job = await self._ask(repository, record)
            if job is None:
                continue
            ended = await self._watch(repository, identity, job)
            if ended.state is JobState.FAILED and ended.problem == INTERRUPTED:
                continue
            await self._settle(repository, identity, ended)

    def _job_of(self, tenant: str, record: Record) -> Job | None:
        """The job that carries a test out; None: there is none yet, or a restart cut it short."""
        owner = partner_identity(self._operator, tenant)
        for job in self._jobs.jobs():  # newest first
            if job.labels.get(TEST_LABEL) == record.id and job.owner == owner:
                return None if job.problem == INTERRUPTED else job
        return None

    async def _ask(self, repository: Repository, record: Record) -> Job | None:
        """Have the job begun; None: not now, or never, and then the test says why."""
        attempt = 1 + int(value_of(record.body, "attempt") or 0)
        if attempt > MOST_ATTEMPTS:
            why = f"it was begun {MOST_ATTEMPTS} times, and each time the twin was stopped before its end"
            await self._fail(repository, record.id, why)
            return None
        if self._comes_up(repository, record):
            await asyncio.sleep(_BUSY_S)
            return None
        try:
            ask = _ask_of(record)
            job = await self._jobs.submit(
                Capability.RISKY_ACTIONS_PREDICTION,
                ask.scenario,
                requirements=ask.requirements,
                owner=partner_identity(self._operator, repository.tenant),
                labels={TWIN_LABEL: record.body["relatedService"]["id"], TEST_LABEL: record.id},
            )
        except OverCapacity as error:
            waited_s = (self._clock() - record.changed_at) / 1e9
            if waited_s < _WAITS_S:
                await asyncio.sleep(_BUSY_S)
            else:
                await self._fail(repository, record.id, f"it waited for {waited_s:.0f} s: {error}")
            return None
        except TwinError as error:
            await self._fail(repository, record.id, str(error))
            return None
        more = {"job": job.id, "attempt": attempt}
        if not await self._write(repository, record.id, lambda body: _with(body, more)):
            await self._cancel(job.id)  # the test was cancelled, or removed
        return job

    def _comes_up(self, repository: Repository, record: Record) -> bool:
        """Whether the twin is being put together again: a broker that starts hears of domains one by one."""
        waited_s = time.monotonic() - self._begun_at.get((repository.tenant, record.id), -math.inf)
        twin = str(record.body["relatedService"]["id"])
        try:
            active = repository.get(Kind.SERVICE, twin).body.get("state") == "active"
        except NotFound:
            return False
        if not active or waited_s > self._comes_up_s:
            return False
        sandbox = self._admission.sandbox(repository.tenant, twin)
        return sandbox is None or any(member.view is None for member in sandbox.graph.members.values())

    async def _watch(self, repository: Repository, identity: str, job: Job) -> Job:
        """The job as it ended; the test is in progress while it is answered."""
        begun, now = False, job
        async for now in self._jobs.watch(job.id):
            going = now.state in (JobState.NOT_STARTED, JobState.RUNNING)
            if going and self._read(repository, identity) is None:
                await self._cancel(job.id)  # the test was cancelled, or removed
            if now.state is JobState.RUNNING and not begun:
                begun = True
                await self._write(repository, identity, lambda body: {**body, "state": "inProgress"})
        return now

    async def _settle(self, repository: Repository, identity: str, job: Job) -> None:
        """Write down how a job ended."""
        if job.state is JobState.CANCELLED:
            end = {"state": "cancelled", "endDateTime": time_text(job.ended_at)}
            await self._write(repository, identity, lambda body: {**body, **end})
            return
        record = self._read(repository, identity)
        if record is None:
            return
        if job.state is JobState.FAILED:
            await self._fail(repository, identity, job.problem)
            return
        try:
            report = parse_report(await self._jobs.report(job.id))
            specification = repository.get(
                Kind.SERVICE_TEST_SPECIFICATION, record.body["testSpecification"]["id"]
            )
            wanted = definitions(specification.body.get("testMeasureDefinition"))
        except (NotFound, ContractError) as error:
            await self._fail(repository, identity, str(error))
            return
        judged = await asyncio.to_thread(judge, report, wanted, asked=_ask_of(record).pairs)
        found = {
            "verdict": judged.verdict,
            "remarks": list(judged.remarks),
            "digest": report.digest,
            "versions": {name: f"{v.epoch}:{v.sequence}" for name, v in sorted(report.versions.items())},
            "domains": [
                {"domain": item.domain, "outcome": item.outcome.value, "reason": item.reason}
                for item in report.domains
            ],
        }
        result = {
            "state": "completed",
            "endDateTime": time_text(job.ended_at),
            "testMeasure": list(judged.measures),
        }
        if problem := await self._tell_results(repository, record, judged):
            found["remarks"] = [*judged.remarks, f"what would go wrong raised no alarm: {problem}"]
        await self._write(repository, identity, lambda body: _with({**body, **result}, found))

    async def _tell_results(self, repository: Repository, record: Record, judged: Judged) -> str:
        """Have alarms raised; why that could not be: no reason to lose a result."""
        while self._results is not None and self._read(repository, record.id) is not None:
            try:
                await self._results.found(repository, record.body, judged)
            except Unreachable as error:
                log.warning("results not told yet", extra={"test": record.id, "reason": str(error)})
                await asyncio.sleep(_WRITE_AGAIN_S)
            except TwinError as error:  # as many records as the partner may have
                log.warning("results not told", extra={"test": record.id, "reason": str(error)})
                return str(error)
            else:
                break
        return ""

    async def _fail(self, repository: Repository, identity: str, problem: str) -> None:
        """End a test without a result, in words."""
        end = {"state": "failed", "endDateTime": time_text(self._clock())}
        found = {"verdict": INCONCLUSIVE, "problem": problem}
        await self._write(repository, identity, lambda body: _with({**body, **end}, found))

    def _read(self, repository: Repository, identity: str) -> Record | None:
        """A test that is still open."""
        try:
            record = repository.get(Kind.SERVICE_TEST, identity)
        except NotFound:
            return None
        return record if record.body.get("state") in OPEN_STATES else None

    async def _write(self, repository: Repository, identity: str, change: Callable[[Body], Body]) -> bool:
        """Change a test that is still open, however long the disk takes; False: it is not open any more."""
        while (record := self._read(repository, identity)) is not None:
            try:
                await repository.update(record, change(record.body))
            except (StaleVersion, NotFound):
                continue
            except (Unreachable, OverCapacity) as error:  # OverCapacity: the disk is full
                log.warning("test not written yet", extra={"test": identity, "reason": str(error)})
                await asyncio.sleep(_WRITE_AGAIN_S)
                continue
            return True
        return False

    async def _cancel(self, job: str) -> None:
        with contextlib.suppress(NotFound):  # it ended long ago
            await self._jobs.cancel(job)


def _ask_of(record: Record) -> RunAsk:
    """What a test that was taken in asks. Raises ContractError."""
    own = [item for item in record.body.get("characteristic") or () if item.get("name") not in _RESULT]
    return read_ask(asked_values(own))


def _with(body: Body, values: Body) -> Body:
    """A test with these characteristics, in the place of those of the same names."""
    kept = [item for item in body.get("characteristic") or () if item.get("name") not in values]
    return {**body, "characteristic": kept + [characteristic(*item) for item in values.items()]}
