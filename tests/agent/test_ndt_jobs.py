"""Jobs of a domain's twin over its socket: answers, refusals, progress, cancelling, deadlines, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain_twin.agent.local import serve_local
from domain_twin.agent.ndt_jobs import CalibrationFile, NdtJobs
from domain_twin.datastore.snapshot import Snapshot, snapshot_of
from domain_twin.errors import ConfigError, ContractError, NotFound, OverCapacity, StaleVersion, TwinError
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
from domain_twin.model.job import Capability, Job, JobState, Report, Requirements
from domain_twin.model.job_json import report_json, sealed
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.jobs.desk import JobDesk, Ticket
from domain_twin.simulation.jobs.store import JobStore
from domain_twin.simulation.questions.scenario_file import make_scenario
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

    def calibration(self) -> None:
        return None


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


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[tuple[Twin, TwinClient]]:
    made = Twin()
    desk = JobDesk(JobStore(tmp_path / "jobs"), made.jobs.answer, check=made.jobs.check)
    async with served(desk, tmp_path, made) as client:
        yield made, client


def scenario(**document: Any) -> Scenario:
    return make_scenario(document)


CUT = scenario(changes=[{"kind": "element-down", "element": link_id("r1", "r3")}])


async def ended(client: TwinClient, job: Job) -> Job:
    async with asyncio.timeout(120):
        return [seen async for seen in client.watch_job(job.id)][-1]


# --- the domain's answers


async def test_a_question_over_the_socket_is_answered_by_a_report(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin

    job = await client.start_job(CUT, labels={"ticket": "42"})
    last = await ended(client, job)
    report = await client.report(job.id[:6])

    assert last.state is JobState.FINISHED
    assert (last.progress, last.problem, last.owner) == (1.0, "", "")
    assert last.labels == {"ticket": "42"}
    assert last.scenario.seed is not None  # drawn, and said
    assert report.scenario.seed == last.scenario.seed
    assert report.job == job.id
    assert report.versions == {D: VERSION}
    assert report.kind is StateKind.CANDIDATE
    inside = next(flow for flow in report.flows if flow.service == "urn:inside")
    assert len(inside.path_after) == len(inside.path_before) + 1
    assert {finding.code for finding in report.findings} == {"what-if.objective"}
    assert (await client.jobs())[0] == last == await client.job(job.id)


async def test_the_same_question_has_the_same_digest(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    seeded = CUT.model_copy(update={"seed": 3})

    jobs = [await client.start_job(seeded) for _ in range(2)]
    for job in jobs:
        await ended(client, job)
    first, second = [await client.report(job.id) for job in jobs]

    assert first.digest == second.digest
    assert first.job != second.job


@pytest.mark.parametrize(
    ("capability", "asked", "kind", "words"),
    [
        (C.AUTOMATION_CONFIGURATION_VERIFICATION, CUT, NotFound, "is not served: no automation"),
        (C.ML_TRAINING_DATA_GENERATION, CUT, NotFound, "is not served: reports hold judged variants"),
        (C.USER_EXPERIENCE_DATA_GENERATION, CUT, NotFound, "is not served: what users experience"),
        (
            C.NETWORK_CONFIGURATIONS_VERIFICATION,
            CUT,
            ConfigError,
            "tries a configuration: add a change of kind",
        ),
        (C.NETWORK_EVENTS_VERIFICATION, CUT, ConfigError, "is about an event of the past"),
        (
            C.NETWORK_ISSUE_INDUCEMENT,
            scenario(changes=[{"kind": "demand", "factor": 2}]),
            ConfigError,
            "makes something fail: add a change of kind element-down",
        ),
        (
            C.EVENTS_IMPACTS_VERIFICATION,
            scenario(changes=[{"kind": "metric", "element": link_id("r1", "r3"), "value": 4}]),
            ConfigError,
            "asks what an event does",
        ),
    ],
)
async def test_a_capability_that_cannot_be_served_is_refused_at_once(
    twin: tuple[Twin, TwinClient], capability: Capability, asked: Scenario, kind: type[Exception], words: str
) -> None:
    _, client = twin

    with pytest.raises(kind, match=f"{capability.value} {words}"):
        await client.start_job(asked, capability=capability)

    assert await client.jobs() == []


@pytest.mark.parametrize(
    ("capability", "asked"),
    [
        (C.RISKY_ACTIONS_PREDICTION, CUT),
        (C.EVENTS_IMPACTS_VERIFICATION, CUT),
        (C.NETWORK_ISSUE_INDUCEMENT, scenario(sweep={"kind": "failures"})),
        (
            C.NETWORK_CONFIGURATIONS_VERIFICATION,
            scenario(changes=[{"kind": "metric", "element": link_id("r1", "r3"), "value": 4}]),
        ),
    ],
)
async def test_what_ifs_serve_capabilities(
    twin: tuple[Twin, TwinClient], capability: Capability, asked: Scenario
) -> None:
    _, client = twin
    job = await ended(client, await client.start_job(asked, capability=capability))
    assert (job.state, job.capability) == (JobState.FINISHED, capability)


async def test_a_stale_version_is_refused_with_both(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    old = Requirements(at_versions={D: Version("e", 6)})
    now = Requirements(at_versions={D: Version("e", 7)})

    with pytest.raises(StaleVersion, match=r"ran is at e:7, not at e:6; look again"):
        await client.start_job(CUT, requirements=old)
    fresh = await ended(client, await client.start_job(CUT, requirements=now))
    stale = await ended(client, await client.start_job(CUT.model_copy(update={"at": "e:6"})))
    same = await ended(client, await client.start_job(CUT.model_copy(update={"at": "e:7"})))

    assert fresh.state is same.state is JobState.FINISHED
    assert stale.state is JobState.FAILED
    assert "the twin is at e:7, not at e:6" in stale.problem


async def test_what_is_another_domains_is_the_brokers(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    with pytest.raises(NotFound, match="this agent is the twin of ran; ask the broker about 'core'"):
        await client.start_job(CUT, scope=["core"])
    with pytest.raises(NotFound, match="ask the broker about 'core'"):
        await client.start_job(CUT, requirements=Requirements(at_versions={"core": VERSION}))


async def test_an_element_that_is_not_there_fails_the_job_with_those_that_are_close(
    twin: tuple[Twin, TwinClient],
) -> None:
    _, client = twin

    asked = scenario(changes=[{"kind": "element-down", "element": "r9"}])
    job = await ended(client, await client.start_job(asked))

    assert job.state is JobState.FAILED
    assert "no element 'r9'" in job.problem
    assert "urn:ndt:ran:r1" in job.problem
    with pytest.raises(NotFound, match=rf"job {job.id} has no report; it is FAILED: no element 'r9'"):
        await client.report(job.id)


async def test_a_past_that_history_does_not_reach_fails_the_job(twin: tuple[Twin, TwinClient]) -> None:
    _, client = twin
    asked = CUT.model_copy(update={"at": "2026-03-01T20:00:00Z"})

    job = await ended(client, await client.start_job(asked, capability=C.NETWORK_EVENTS_VERIFICATION))

    assert (job.state, job.problem) == (JobState.FAILED, "history begins later")


async def test_a_question_that_breaks_the_contract_is_refused(twin: tuple[Twin, TwinClient]) -> None:
    from federation.v1 import fedtwin_pb2 as pb
    from federation.wire.convert import encode_job_question
    from federation.wire.questions import JobQuestion

    _, client = twin
    good = encode_job_question(JobQuestion(C.RISKY_ACTIONS_PREDICTION, CUT))
    for change, kind, words in (
        ({"capability": "FORTUNE_TELLING"}, ContractError, "StartJobRequest.capability: 'FORTUNE_TELLING'"),
        ({"scenario": b"changes: []"}, ConfigError, "the scenario: nothing is changed"),
        ({"scenario": b'{"changes": [{"kind": "demand", "factor": NaN}]}'}, ConfigError, "finite numbers"),
        (
            {"labels": {str(n): "x" for n in range(99)}},
            ContractError,
            "StartJobRequest.labels: 99, 32 at most",
        ),
        ({"requirements": pb.JobRequirements(deadline_s=1e9)}, ContractError, "deadline_s: 1e"),
        ({"requirements": pb.JobRequirements(deadline_s=-1)}, ContractError, "deadline_s: -1.0 found"),
        ({"requirements": pb.JobRequirements(loss=2.0)}, ContractError, "JobRequirements.loss"),
    ):
        request = pb.StartJobRequest.FromString(good.SerializeToString())
        for field, value in change.items():
            request.ClearField(field)
            if field == "labels":
                request.labels.update(value)
            elif field == "requirements":
                request.requirements.CopyFrom(value)
            else:
                setattr(request, field, value)
        with pytest.raises(kind, match=words):
            await client._ask("StartJob", request)
    assert await client.jobs() == []


def test_a_calibration_is_read_when_its_file_changes(tmp_path: Path) -> None:
    from domain_twin.simulation.twin.calibration import Calibration, save

    read = CalibrationFile(tmp_path)
    assert read() is None
    save(Calibration("ran", samples=3), tmp_path / "calibration.json")
    first = read()
    save(Calibration("ran", samples=4), tmp_path / "calibration.json")
    second = read()

    assert first is not None
    assert second is not None
    assert (first.samples, second.samples) == (3, 4)
    assert read() is second


# --- the core: any answerer


def report_of(job: Job, **fields: Any) -> Report:
    return sealed(Report("", job.scenario, StateKind.CANDIDATE, {D: VERSION}, "tables", **fields))


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


# --- the store


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
