"""Scenarios that partners run on their twins: asked as TMF653 tests, answered by real agents."""

import asyncio
import json

import pytest
from run_parts import (
    A1,
    A2,
    ACME,
    CUT,
    CUT_BOTH,
    FLOW,
    GLOBEX,
    NO_TWIN,
    PAIR,
    NoDomains,
    Twin,
    agreed,
    connected,
    desks,
    hold,
    inner,
    kernels,
    limit,
    made,
    twin_over,
    until,
    value,
)  # fmt: skip

from domain_twin.config import QuotaConfig
from domain_twin.errors import Conflict, ContractError, NotFound, OverCapacity, Unreachable
from domain_twin.model import Level
from federation.partners.record import Kind
from federation.partners.runner import MOST_ATTEMPTS

__all__ = ["kernels"]

pytestmark = pytest.mark.timeout(100)  # the kernels may have to be compiled

SOON = {"conformanceTargetUpper": "50", "thresholdRuleSeverity": "critical"}


async def test_a_cut_is_run_on_a_partners_twin_and_judged_by_its_thresholds(tmp_path):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification(
                testMeasureDefinition=[limit("delay", **SOON), limit("reachable", conformanceTargetExact="1")]
            )

            around = await at.ended(await at.test(specification, scenario=CUT, endPointPairs=PAIR))
            gone = await at.ended(await at.test(specification, scenario=CUT_BOTH, endPointPairs=PAIR))
            (again,) = [
                await at.ended(
                    await at.test(
                        specification,
                        scenario=value(around, "scenario"),
                        atVersions=value(around, "versions"),
                    )
                )
            ]
            with pytest.raises(Conflict, match="which is its end"):
                await at.partners.change(ACME, Kind.SERVICE_TEST, around["id"], {"state": "cancelled"})
            used = at.store.of(ACME).list(Kind.USE)

    assert around["state"] == "completed"
    assert value(around, "verdict") == "pass"
    assert {item["outcome"] for item in value(around, "domains")} == {"ok"}
    delay, reachable = around["testMeasure"]
    assert (delay["metricName"], delay["unitOfMeasure"], delay["ruleViolation"]) == ("delay", "ms", [])
    assert 0 < delay["value"]["value"] < 50
    assert value(gone, "verdict") == "fail"
    delay, reachable = gone["testMeasure"]
    assert delay["value"] == {"name": FLOW, "valueType": "number", "value": None}
    assert delay["ruleViolation"][0]["thresholdRuleSeverity"] == "critical"
    assert reachable["value"]["value"] == 0
    assert reachable["ruleViolation"][0]["name"] == "reachable limit"
    assert value(again, "digest") == value(around, "digest") != value(gone, "digest")
    assert [item["value"] for item in again["testMeasure"]] == [
        item["value"] for item in around["testMeasure"]
    ]
    assert [(record.body["runs"], record.body["runSeconds"] > 0) for record in used] == [(3, True)]


async def test_what_a_partner_does_not_have_is_refused_as_what_does_not_exist(tmp_path):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            await at.add_twin(GLOBEX, "t2", await twin_over(broker, GLOBEX, "t2", ["ran/cell-1"]))
            mine, theirs = await at.specification(), await at.specification(GLOBEX)

            async def refused(kind=ContractError, **more):
                asked = {"specification": mine, "scenario": CUT, **more}
                with pytest.raises(kind) as caught:
                    await at.test(**asked)
                return str(caught.value)

            foreign_twin, no_twin = await refused(twin="t2"), await refused(twin="t9")
            foreign_test = await refused(specification=theirs)
            hidden = {"changes": [{"kind": "element-down", "element": inner("ran", "r1")}]}
            unknown = {"changes": [{"kind": "element-down", "element": inner("ran", "r999")}]}
            hidden_said, unknown_said = await refused(scenario=hidden), await refused(scenario=unknown)
            outside = await refused(
                specification=theirs, tenant=GLOBEX, twin="t2", endPointPairs=[["ran/cell-1", "edge/app"]]
            )

    assert foreign_twin.replace("t2", "t9") == no_twin
    assert theirs in foreign_test
    assert "relatedService.id" in no_twin
    assert "testSpecification.id" in foreign_test
    assert hidden_said.replace("r1", "r999") == unknown_said
    assert "edge/app is not shared with you" in outside
    assert not any(domain.steps for domain in parts.domains.values())


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"scenario": "a1 down"}, "characteristic scenario: is no object"),
        ({"scenario": {"changes": [{"kind": "down", "element": A1}]}}, "characteristic scenario: changes"),
        ({"scenario": {**CUT, "at": "2026-01-01T00:00:00Z"}}, "characteristic scenario: at"),
        ({"scenario": CUT, "seed": 1.5}, "characteristic seed"),
        ({"scenario": {**CUT, "seed": 4}, "seed": 5}, "characteristic seed: is 5, and the scenario says 4"),
        ({"scenario": CUT, "deadline": 1e9}, "characteristic deadline"),
        ({"scenario": CUT, "endPointPairs": ["ran/cell-1"]}, r"characteristic endPointPairs\[0\]"),
        ({"scenario": CUT, "atVersions": {"ran": "7"}}, "characteristic atVersions.ran"),
        ({"scenario": CUT, "atVersions": {"ran": "e:99999999999999999999"}}, "characteristic atVersions.ran"),
        ({"scenario": CUT, "sead": 4}, r"characteristic\[1\].name: 'sead'"),
        ({"scenario": CUT, "verdict": "pass"}, r"characteristic\[1\].name: 'verdict'"),
    ],
)
async def test_a_refusal_names_the_attribute(tmp_path, asked, named):
    async with desks(tmp_path, NoDomains()) as at:
        await at.add_twin(ACME, "t1", NO_TWIN)
        specification = await at.specification()
        with pytest.raises(ContractError, match=named):
            await at.test(specification, **asked)


async def test_sweeps_are_measured_by_their_worst_variant_and_only_sweeps(tmp_path):
    parts = made(tmp_path)
    sweep = {"seed": 7, "sweep": {"kind": "failures", "elements": [A1, A2]}}
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification(
                testMeasureDefinition=[limit("worstDelay", **SOON), limit("linkUtilisation", **SOON)]
            )
            ended = await at.ended(await at.test(specification, scenario=sweep, endPointPairs=PAIR))
            with pytest.raises(ContractError, match="has no sweep"):
                await at.test(specification, scenario=CUT)

    worst, *links = ended["testMeasure"]
    assert value(ended, "verdict") == "pass"
    assert worst["value"]["value"] > 0
    assert "worstDelay of 2 variants, in" in worst["metricDescription"]
    assert {item["value"]["name"] for item in links} <= {
        "ran/idl-a1", "ran/idl-a2", "transport/idl-a1", "transport/idl-a2", "transport/idl-b", "edge/idl-b",
    }  # fmt: skip


async def test_a_domain_that_does_not_answer_makes_the_verdict_inconclusive_in_words_of_nobodys_agreement(
    tmp_path,
):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification(testMeasureDefinition=[limit("delay", **SOON)])
            edge = parts.domains["edge"]
            edge.jobs.replace_agreements(agreed(GLOBEX))  # nothing there speaks of acme any more

            ended = await at.ended(await at.test(specification, scenario=CUT, endPointPairs=PAIR))

    assert ended["state"] == "completed"
    assert value(ended, "verdict") == "inconclusive"
    outcomes = {item["domain"]: item["outcome"] for item in value(ended, "domains")}
    assert outcomes == {"edge": "not shared", "ran": "ok", "transport": "ok"}
    assert any("edge" in remark for remark in value(ended, "remarks"))
    assert ended["testMeasure"][0]["value"]["value"] is None
    assert ended["testMeasure"][0]["ruleViolation"] == []
    assert "exchange" not in json.dumps(ended)


async def test_runs_at_once_and_seconds_of_a_day_are_limited(tmp_path):
    parts = made(tmp_path)
    _, go = hold(parts)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        quota = QuotaConfig(runs=1, cpu_s_per_day=0.05)
        async with desks(tmp_path / "desks", broker, quota=quota) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification()
            first = await at.test(specification, scenario=CUT)
            with pytest.raises(OverCapacity, match="1 of your runs are open") as busy:
                await at.test(specification, scenario=CUT)
            await asyncio.sleep(0.1)
            go.set()
            await at.ended(first)
            with pytest.raises(OverCapacity, match="s a day is your quota") as used_up:
                await at.test(specification, scenario=CUT)

    assert 0 < busy.value.retry_after_s < 60
    assert 0 < used_up.value.retry_after_s <= 86_400


async def test_a_full_disk_and_a_full_quota_lose_no_result(tmp_path):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            wanted = limit("delay", conformanceTargetUpper="0.001", thresholdRuleSeverity="critical")
            specification = await at.specification(testMeasureDefinition=[{"name": "delay", **wanted}])
            begun, go = hold(parts)
            body = {
                "name": "a test",
                "description": "x" * 100_000,  # what does not fit into the pages that are there
                "relatedService": {"id": "t1"},
                "testSpecification": {"id": specification},
                "characteristic": [{"name": "scenario", "value": CUT}],
            }
            test = (await at.partners.create(ACME, Kind.SERVICE_TEST, body)).record.id
            await asyncio.wait_for(begun.wait(), 60)

            async def in_progress():
                return at.read(test)["state"] == "inProgress"

            await until(in_progress)
            at.store.limits[ACME] = 3  # what it has: no alarm more
            await at.store.execute(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1"))
            problems = []
            at.store.on_problem = problems.append
            go.set()
            ended = await at.ended(test)

    assert "disk is full" in problems[0]
    assert ended["state"] == "completed", value(ended, "problem")
    assert value(ended, "verdict") == "fail"
    (remark,) = value(ended, "remarks")
    assert "raised no alarm: 3 records are kept for you" in remark
    assert at.alarms() == []


async def test_a_cancelled_test_ends_its_job_and_stays_as_it_is(tmp_path):
    parts = made(tmp_path)
    begun, go = hold(parts)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification()
            test = await at.test(specification, scenario=CUT)
            await begun.wait()
            with pytest.raises(ContractError, match="characteristic: cannot be changed"):
                await at.partners.change(ACME, Kind.SERVICE_TEST, test, {"characteristic": []})
            with pytest.raises(Conflict, match="does not become completed"):
                await at.partners.change(ACME, Kind.SERVICE_TEST, test, {"state": "completed"})
            with pytest.raises(Conflict, match="cancel it first"):
                await at.partners.remove(ACME, Kind.SERVICE_TEST_SPECIFICATION, specification)

            await at.partners.change(ACME, Kind.SERVICE_TEST, test, {"state": "cancelled"})
            await until(lambda: nothing_kept(parts))
            go.set()
            for patch in ({"state": "acknowledged"}, {"testMeasure": [{}]}, {"characteristic": []}):
                with pytest.raises(Conflict, match="cancelled"):
                    await at.partners.change(ACME, Kind.SERVICE_TEST, test, patch)
            await at.partners.change(ACME, Kind.SERVICE_TEST, test, {"description": "was too slow"})

            ended = at.read(test)
            running = at.answers.tenants.running(ACME)

    assert ended["state"] == "cancelled"
    assert ended["endDateTime"] >= ended["startDateTime"]
    assert ended["description"] == "was too slow"
    assert ended["testMeasure"] == []
    assert running == 0


async def nothing_kept(parts):
    return all(len(domain.what_ifs) == 0 for domain in parts.domains.values())


async def test_a_removed_test_ends_its_job(tmp_path):
    parts = made(tmp_path)
    begun, go = hold(parts)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            test = await at.test(await at.specification(), scenario=CUT)
            await begun.wait()
            await at.partners.remove(ACME, Kind.SERVICE_TEST, test)

            async def over():
                return at.answers.tenants.running(ACME) == 0 and all(j.state.ended for j in at.jobs.jobs())

            await until(over)
            go.set()
            with pytest.raises(NotFound):
                at.read(test)


async def test_a_restart_in_the_middle_runs_the_test_again_and_reports_it_once(tmp_path):
    parts = made(tmp_path)
    begun, go = hold(parts)
    folder, twins = tmp_path / "desks", {}
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(folder, broker, twins=twins) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            test = await at.test(await at.specification(), scenario=CUT, endPointPairs=PAIR)
            await begun.wait()
            interrupted = at.read(test)
        await until(lambda: nothing_kept(parts))
        go.set()
        async with desks(folder, broker, twins=twins) as at:
            ended = await at.ended(test)
            events = await at.store.events(0, limit=1000)
        async with desks(folder, broker, twins=twins) as at:
            await asyncio.sleep(0.05)
            later = await at.store.events(0, limit=1000)
            untouched = at.read(test)

    assert interrupted["state"] == "inProgress"
    assert (ended["state"], value(ended, "attempt")) == ("completed", 2)
    told = [event for event in events if event.id == test and event.body["state"] == "completed"]
    assert [event.event_type for event in told] == ["ServiceTestStateChangeEvent"]
    assert untouched == ended
    assert len(later) == len(events)


async def test_a_test_that_was_kept_and_never_begun_begins_at_the_next_start(tmp_path):
    parts = made(tmp_path)
    folder, twins = tmp_path / "desks", {}
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(folder, broker, twins=twins) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            done = at.read(await at.test(await at.specification(), scenario=CUT))
            asked = {key: item for key, item in done.items() if key != "id"}
            asked["characteristic"] = [c for c in asked["characteristic"] if c["name"] not in ("job",)]
            asked["state"] = "acknowledged"
            kept = await at.store.of(ACME).create(Kind.SERVICE_TEST, asked)  # and the desk never heard of it
            lost = await at.store.of(ACME).create(
                Kind.SERVICE_TEST,
                {**asked, "characteristic": [*asked["characteristic"], {"name": "attempt", "value": 3}]},
            )
        async with desks(folder, broker, twins=twins) as at:
            ended, given_up = await at.ended(kept.id), await at.ended(lost.id)

    assert ended["state"] == "completed"
    assert given_up["state"] == "failed"
    assert f"it was begun {MOST_ATTEMPTS} times" in value(given_up, "problem")


async def test_a_twin_that_is_gone_by_then_fails_its_test_in_words(tmp_path):
    parts = made(tmp_path)
    folder = tmp_path / "desks"
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        begun, go = hold(parts)
        async with desks(folder, broker) as at:
            record = await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            specification = await at.specification()
            test = await at.test(specification, scenario=CUT)
            await begun.wait()
            await at.store.of(ACME).update(record, {**record.body, "state": "inactive"})
            with pytest.raises(Conflict, match="the twin is inactive"):
                await at.test(specification, scenario=CUT)
        go.set()
        async with desks(folder, broker, twins={}) as at:
            ended = await at.ended(test)

    assert ended["state"] == "failed"
    assert "no active twin 't1' of yours" in value(ended, "problem")


async def test_levels_that_tell_no_ways_apart_take_no_part(tmp_path):
    parts = made(tmp_path)
    for domain in parts.domains.values():
        domain.jobs.replace_agreements(agreed(ACME, level=Level.NODE))
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            ended = await at.ended(await at.test(await at.specification(), scenario=CUT, endPointPairs=PAIR))

    assert ended["state"] == "failed"
    assert value(ended, "verdict") == "inconclusive"
    assert "share" in value(ended, "problem")
    assert "exchange" not in value(ended, "problem")


async def test_a_test_takes_what_it_leaves_out_from_its_specification_and_may_name_another_seed(tmp_path):
    async with desks(tmp_path, NoDomains()) as at:
        await at.add_twin(ACME, "t1", NO_TWIN)
        as_it_is = {"name": "busy", "changes": [{"kind": "demand", "factor": 2.0}], "seed": 4}
        specified = [("scenario", as_it_is), ("deadline", 5)]
        specification = await at.specification(
            specCharacteristic=[
                {"name": name, "characteristicValueSpecification": [{"value": value}]}
                for name, value in specified
            ]
        )
        plain = at.read(await at.test(specification))
        other = at.read(await at.test(specification, seed=9, deadline=7))

    assert (value(plain, "seed"), value(plain, "deadline")) == (4, 5)
    assert value(plain, "scenario")["changes"] == [{"kind": "demand", "factor": 2.0}]
    assert (value(other, "seed"), value(other, "deadline")) == (9, 7)
    assert value(other, "scenario")["seed"] == 9


async def test_after_a_restart_a_run_waits_until_its_twin_is_whole(tmp_path):
    parts = made(tmp_path)
    folder, twins = tmp_path / "desks", {}
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        begun, go = hold(parts)
        async with desks(folder, broker, twins=twins) as at:
            whole = await twin_over(broker, ACME, "t1")
            await at.add_twin(ACME, "t1", whole)
            specification = await at.specification(testMeasureDefinition=[limit("delay", **SOON)])
            test = await at.test(specification, scenario=CUT, endPointPairs=PAIR)
            await begun.wait()
        go.set()
        partly = Twin(("ran/cell-1",))  # as it is when the broker has heard of two domains
        for domain in ("ran", "transport"):
            partly.put(domain, whole.graph.members[domain].view)
        partly.put("edge", None, connected=False)
        twins.clear()
        async with desks(folder, broker, twins=twins) as at:
            with pytest.raises(Unreachable, match="ask again"):
                await at.test(specification, scenario=CUT)
            twins[ACME, "t1"] = partly
            with pytest.raises(Unreachable, match="edge did not answer since"):
                await at.test(specification, scenario=CUT, endPointPairs=PAIR)
            waiting = at.read(test)["state"]
            twins[ACME, "t1"] = whole
            ended = await at.ended(test)

    assert waiting == "inProgress"
    assert (ended["state"], value(ended, "verdict")) == ("completed", "pass")
