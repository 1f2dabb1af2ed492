"""Jobs of partners at the broker's desk: over their own twins alone, within their quotas, told no secrets."""

import asyncio
from dataclasses import replace

import pytest
from run_parts import (
    A1,
    ACME,
    CUT,
    EXCHANGE,
    GLOBEX,
    NO_TWIN,
    PAIR,
    Desks,
    NoDomains,
    agreed,
    connected,
    desks,
    hold,
    kernels,
    made,
    twin_over,
    until,
    value,
)  # fmt: skip

from domain_twin.config import QuotaConfig
from domain_twin.errors import ConfigError, NotFound, NotShared, OverCapacity
from domain_twin.model import DomainOutcome, Outcome, Point, PointKind
from domain_twin.model.job import Capability, JobState, Report
from domain_twin.model.job_json import digest_of
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import StateKind
from domain_twin.simulation.jobs.desk import INTERRUPTED, JobDesk
from domain_twin.simulation.jobs.store import JobStore
from federation.compose import ComposedGraph, Member
from federation.jobs import MOST_PAIRS, _for_partner, _Ground, tenant_of
from federation.partners.metering import Meter
from federation.partners.record import Kind
from federation.v1 import fedtwin_pb2 as pb

__all__ = ["kernels"]

pytestmark = pytest.mark.timeout(100)
MINE = f"spiffe://{EXCHANGE}/partner/{ACME}"
QUESTION = Scenario.model_validate({**CUT, "flows": PAIR})


async def ask(at: Desks, scenario=QUESTION, *, owner=MINE, labels=None, **more):
    labels = {"twin": "t1"} if labels is None else labels
    return await at.jobs.submit(
        Capability.RISKY_ACTIONS_PREDICTION, scenario, owner=owner, labels=labels, **more
    )


async def test_a_job_of_a_partner_needs_an_active_twin_of_its_own(tmp_path):
    async with desks(tmp_path, NoDomains()) as at:
        await at.add_twin(ACME, "t1", NO_TWIN)
        await at.add_twin(GLOBEX, "t2", NO_TWIN)
        said = []
        for labels in ({}, {"twin": "t2"}, {"twin": "t9"}):
            with pytest.raises(NotFound) as refused:
                await ask(at, labels=labels)
            said.append(str(refused.value))
        with pytest.raises(NotFound, match="no domain 'moon' in this twin"):
            await ask(at, scope=("moon",))

    assert "which of your twins" in said[0]
    assert said[1].replace("t2", "t9") == said[2]


def test_only_partners_of_the_exchange_are_tenants():
    assert tenant_of(MINE) == ACME
    assert tenant_of(f"spiffe://{EXCHANGE}/user/{ACME}") == ""
    assert tenant_of("") == ""


async def test_flows_run_between_the_end_points_of_the_twin(tmp_path):
    points = [Point(f"ran/c{n}", "ran", PointKind.ENDPOINT) for n in range(16)]
    border = Point("ran/b", "ran", PointKind.BORDER, link_id=A1, peer_domain="x")
    async with desks(tmp_path, NoDomains()) as at:
        twin = graph_of(*points, border)
        await at.add_twin(ACME, "t1", twin)
        half = {"changes": [{"kind": "demand", "factor": 0.5}]}

        async def asked(flows=()):
            return await ask(at, Scenario.model_validate({**half, "flows": flows}))

        with pytest.raises(NotShared, match="ran/b is not shared with you"):
            await asked([["ran/c0", "ran/b"]])
        twin.points = ("ran/c0", "ran/c1")
        with pytest.raises(NotShared, match="ran/c2 is not shared with you"):
            await asked([["ran/c0", "ran/c2"]])
        twin.points = tuple(point.id for point in points)
        with pytest.raises(ConfigError, match=f"at most {MOST_PAIRS} pairs"):
            await asked()


def graph_of(*points):
    class Small:
        pass

    from test_partner_alarms import a_view

    found = Small()
    found.graph = ComposedGraph()
    view = replace(a_view(), points={point.id: point for point in points}, segments={})
    found.graph.put(Member("ran", view, connected=True))
    found.points = tuple(point.id for point in points if point.kind is PointKind.ENDPOINT)
    return found


async def test_jobs_and_tests_share_one_quota(tmp_path):
    parts = made(tmp_path)
    begun, go = hold(parts)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker, quota=QuotaConfig(runs=1)) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            job = await ask(at)
            await begun.wait()
            with pytest.raises(OverCapacity, match="1 at once is your quota"):
                await ask(at)
            with pytest.raises(OverCapacity, match="1 at once is your quota"):
                await at.test(await at.specification(), scenario=CUT)
            at.answers.tenants.check(GLOBEX)
            go.set()

            async def over():
                return at.jobs.job(job.id).state.ended

            await until(over)
            ended = await at.ended(await at.test(await at.specification(), scenario=CUT))
            used = at.store.of(ACME).list(Kind.USE)[0].body

    assert ended["state"] == "completed"
    assert used["runs"] == 2


async def test_a_domain_that_closed_its_part_takes_no_part_in_runs(tmp_path):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            close = pb.SandboxAsk(step="close", sandbox="t1")
            await broker.sessions["edge"].ask(close, timeout_s=20.0, on_behalf_of=MINE)
            ended = await at.ended(await at.test(await at.specification(), scenario=CUT, endPointPairs=PAIR))

    outcomes = {item["domain"]: item["outcome"] for item in value(ended, "domains")}
    assert outcomes == {"edge": "not shared", "ran": "ok", "transport": "ok"}


async def test_an_agreement_that_grants_no_what_ifs_grants_no_runs(tmp_path):
    from domain_twin.disclosure.policy import Action

    parts = made(tmp_path)
    ran = parts.domains["ran"].jobs
    ran.replace_agreements(agreed(ACME, actions=frozenset({Action.SANDBOX, Action.VIEW})))
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            ended = await at.ended(await at.test(await at.specification(), scenario=CUT, endPointPairs=PAIR))

    assert {item["domain"]: item["outcome"] for item in value(ended, "domains")}["ran"] == "not shared"
    assert value(ended, "verdict") == "inconclusive"


def test_a_report_for_a_partner_names_nothing_outside_its_twin():
    graph = graph_of(Point("ran/c0", "ran", PointKind.ENDPOINT)).graph
    ground = _Ground(graph, {}, frozenset({"ran/c0"}))
    said = ("ran: ways to ran/c0 end before its air interface", "ran: ways to ran/c9, too", "tables / rates")
    away = DomainOutcome("ran", Outcome.NOT_SHARED, None, "the agreement of the exchange (gold) has expired")
    report = Report(
        "j", QUESTION, StateKind.CANDIDATE, {}, "tables", assumptions=said, domains=(away,), digest="x"
    )

    shown = _for_partner(report, ground)

    assert shown.assumptions == (said[0], said[2])
    assert "gold" not in shown.domains[0].reason
    assert shown.digest == digest_of(shown)


async def test_seconds_are_counted_by_day_however_many_runs_end_at_once(tmp_path):
    noon = 1_800_000_000 * 10**9
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        now = noon
        meter = Meter(at.store.of, lambda _: 10.0, clock=lambda: now)
        await asyncio.gather(*(meter.took(ACME, 3.0) for _ in range(4)))
        with pytest.raises(OverCapacity, match=r"12\.0 s today") as over:
            meter.check(ACME)
        meter.check(GLOBEX)
        used = meter.used_s(ACME)
        now += int(over.value.retry_after_s * 1e9) + 1
        meter.check(ACME)

    assert used == 12.0
    assert meter.used_s(ACME) == 0.0


async def test_who_watches_a_job_hears_of_the_end_of_its_desk(tmp_path):
    async def never(_):
        await asyncio.Event().wait()

    desk = JobDesk(JobStore(tmp_path / "jobs"), never)
    running = asyncio.create_task(desk.run())
    job = await desk.submit(Capability.RISKY_ACTIONS_PREDICTION, QUESTION)

    async def watch():
        return [each async for each in desk.watch(job.id)][-1]

    watching = asyncio.create_task(watch())

    async def begun():
        return desk.job(job.id).state is JobState.RUNNING

    await until(begun)
    running.cancel()
    async with asyncio.timeout(20):
        ended = await watching

    assert (ended.state, ended.problem) == (JobState.FAILED, INTERRUPTED)
