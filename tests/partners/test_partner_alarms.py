"""Alarms of partners' twins: live ones follow what the sandbox shows, predicted ones what runs found."""

import asyncio

import pytest
from run_parts import ACME, CUT, FLOW, GLOBEX, Desks, NoDomains, Twin, desks, limit

from domain_twin.errors import Conflict, ContractError
from domain_twin.model import Level, PathKpis, Point, PointKind, Segment, Version, View
from domain_twin.model.job import Figure, FlowFigures, FlowForecast, Report
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import StateKind
from federation.partners.alarm_records import PREDICTED
from federation.partners.alarms import Alarms
from federation.partners.measures import judge
from federation.partners.predicted import Predicted
from federation.partners.record import Kind
from federation.partners.thresholds import definitions

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def a_view(*, up=True, at=NOW):
    points = {
        "ran/cell-1": Point("ran/cell-1", "ran", PointKind.ENDPOINT, role="cell", up=up),
        "ran/b": Point("ran/b", "ran", PointKind.BORDER, link_id="l", peer_domain="edge", capacity_mbps=1.0),
    }
    segments = {("ran/cell-1", "ran/b"): Segment("ran/cell-1", "ran/b", PathKpis(1.0))}
    return View("ran", "a", Level.MESH, Version("e", 1, at), points, segments)


async def a_twin(at: Desks, tenant=ACME, service="t1") -> Twin:
    twin = Twin(("ran/cell-1",))
    twin.put("ran", a_view())
    record = await at.add_twin(tenant, service, twin)
    freshness = [{"name": "freshness", "valueType": "number", "value": 5}]
    await at.store.of(tenant).update(record, {**record.body, "serviceCharacteristic": freshness})
    return twin


def looking(at: Desks, clock: Clock, hold_s: float = 3.0) -> Alarms:
    return Alarms(list, lambda tenant, twin: at.twins.get((tenant, twin)), clock=clock, hold_s=hold_s)


async def test_live_alarms_come_and_go_with_what_the_twin_shows(tmp_path):
    clock = Clock()
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        twin, mine = await a_twin(at), at.store.of(ACME)
        await a_twin(at, GLOBEX, "t2")
        alarms = looking(at, clock)
        await alarms.look(mine)
        quiet = at.alarms()

        twin.put("ran", a_view(up=False), connected=False)
        await alarms.look(mine)
        held_down = at.alarms()
        clock.now += 3 * SECOND
        await alarms.look(mine)
        await alarms.look(mine)
        raised = {alarm["specificProblem"]: alarm for alarm in at.alarms()}
        twin.put("ran", a_view())
        clock.now += SECOND
        await alarms.look(mine)
        cleared = at.alarms()
        others = at.alarms(GLOBEX)

    assert quiet == held_down == []
    assert set(raised) == {"ran/cell-1 is down", "ran is away; its part of the twin is as it was last"}
    down = raised["ran/cell-1 is down"]
    assert down["alarmedObject"]["id"] == "ran/cell-1"
    assert (down["sourceSystemId"], down["reportingSystemId"]) == ("ran", "t1")
    assert (down["state"], down["ackState"], down["@type"]) == ("raised", "unacknowledged", "Alarm")
    assert down["id"].isdecimal()
    assert {alarm["state"] for alarm in cleared} == {alarm["perceivedSeverity"] for alarm in cleared}
    assert {alarm["state"] for alarm in cleared} == {"cleared"}
    assert others == []


async def test_a_part_that_is_older_than_agreed_is_an_alarm_and_the_end_of_a_twin_ends_its_alarms(tmp_path):
    clock = Clock()
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        await a_twin(at)
        mine = at.store.of(ACME)
        alarms = looking(at, clock)
        clock.now += 29 * SECOND
        await alarms.look(mine)
        young = at.alarms()
        for _ in range(2):
            clock.now += 4 * SECOND
            await alarms.look(mine)
        (stale,) = at.alarms()
        record = mine.get(Kind.SERVICE, "t1")
        await mine.update(record, {**record.body, "state": "terminated"})
        await alarms.look(mine)
        (over,) = at.alarms()

    assert young == []
    assert "older than the 5 s" in stale["specificProblem"]
    assert over["state"] == "cleared"


async def test_an_alarm_that_comes_back_is_the_same_one_and_unacknowledged(tmp_path):
    clock = Clock()
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        twin, mine = await a_twin(at), at.store.of(ACME)
        alarms = looking(at, clock)

        async def look(up):
            twin.put("ran", a_view(up=up, at=clock.now))
            for _ in range(2):
                await alarms.look(mine)
                clock.now += 3 * SECOND

        await look(False)
        (first,) = at.alarms()
        await task(at, Kind.ACK_ALARM, [{"id": first["id"]}], ackSystemId="s", ackUserId="ann")
        (acked,) = at.alarms()
        await look(True)
        await look(False)
        (again,) = at.alarms()

    assert acked["ackState"] == "acknowledged"
    assert again["id"] == first["id"]
    assert (again["state"], again["ackState"]) == ("raised", "unacknowledged")
    assert again["alarmRaisedTime"] > first["alarmRaisedTime"]
    assert "alarmClearedTime" not in again
    assert "ackUserId" not in again


async def task(at, kind, patterns, tenant=ACME, **more):
    made = await at.partners.create(tenant, kind, {"alarmPattern": patterns, **more})
    return made.record.body


def a_report(delay_ms):
    def figures(value):
        one = Figure(value, value, value)
        return FlowFigures(one, one, one, one, one, one, one)

    flow = FlowForecast("ran/cell-1", "edge/app", "any", figures(1.0), figures(delay_ms))
    return Report("j", Scenario.model_validate(CUT), StateKind.CANDIDATE, {}, "tables", flows=(flow,))


WANTED = definitions([limit("delay", conformanceTargetUpper="10", consequence=[{"prescribeAction": "move"}])])


def a_test(identity, started, scenario=None):
    return {
        "id": identity,
        "state": "completed",
        "startDateTime": started,
        "relatedService": {"id": "t1"},
        "testSpecification": {"id": "s1"},
        "characteristic": [{"name": "scenario", "value": {**(scenario or CUT), "seed": hash(identity) % 99}}],
    }


async def test_predicted_alarms_stand_until_a_later_run_of_the_same_question_passes(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        await a_twin(at)
        mine, predicted = at.store.of(ACME), Predicted()
        bad, good, unknown = (judge(a_report(ms), WANTED) for ms in (12.0, 5.0, float("nan")))

        await predicted.found(mine, a_test("a", "2026-01-01T00:00:01Z"), bad)
        (raised,) = at.alarms()
        await predicted.found(mine, a_test("b", "2026-01-01T00:00:02Z", {"name": "other"}), good)
        await predicted.found(mine, a_test("c", "2026-01-01T00:00:03Z"), unknown)
        (stands,) = at.alarms()
        later = a_test("d", "2026-01-01T00:00:05Z")
        await predicted.found(mine, later, good)
        (cleared,) = at.alarms()
        await mine.create(Kind.SERVICE_TEST, later)
        await predicted.found(mine, a_test("e", "2026-01-01T00:00:04Z"), bad)  # asked before, ended after
        (still,) = at.alarms()
        await looking(at, Clock()).look(mine)

    assert raised["@type"] == PREDICTED
    assert raised["reportingSystemId"] == "t1"
    assert raised["perceivedSeverity"] == "major"
    assert raised["probableCause"] == "Threshold Crossed"
    assert raised["alarmedObject"]["id"] == FLOW
    assert raised["crossedThresholdInformation"]["observedValue"] == "12"
    assert raised["crossedThresholdInformation"]["direction"] == "up"
    assert raised["proposedRepairedActions"] == "move"
    assert stands == raised
    assert cleared["state"] == "cleared"
    assert still == cleared


async def test_a_prediction_outlives_looks_at_its_twin_and_not_the_twin(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        await a_twin(at)
        mine, alarms = at.store.of(ACME), looking(at, Clock())
        await Predicted().found(mine, a_test("a", "2026-01-01T00:00:01Z"), judge(a_report(12.0), WANTED))
        states = []
        for state in ("active", "inactive", "terminated"):
            record = mine.get(Kind.SERVICE, "t1")
            await mine.update(record, {**record.body, "state": state})
            await alarms.look(mine)
            states.append(at.alarms()[0]["state"])

    assert states == ["raised", "raised", "cleared"]


async def test_tasks_reach_what_their_patterns_name_and_never_sweep_predictions_along(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        await a_twin(at)
        await a_twin(at, GLOBEX, "t2")
        mine = at.store.of(ACME)
        await Predicted().found(mine, a_test("a", "2026-01-01T00:00:01Z"), judge(a_report(12.0), WANTED))
        own = await report_alarm(at)
        foreign = await report_alarm(at, GLOBEX)
        (prediction,) = [alarm for alarm in at.alarms() if alarm["@type"] == PREDICTED]
        who = {"ackSystemId": "noc", "ackUserId": "ann"}

        swept = await task(at, Kind.ACK_ALARM, [{"perceivedSeverity": "major"}], **who)
        named = await task(at, Kind.ACK_ALARM, [{"id": prediction["id"]}], **who)
        theirs = await task(at, Kind.ACK_ALARM, [{"id": foreign["id"]}], **who)
        undone = await task(at, Kind.UN_ACK_ALARM, [{"id": int(own["id"])}], **who)
        said = {"comment": "known", "userId": "ann", "systemId": "noc"}
        await task(at, Kind.COMMENT_ALARM, [{"alarmedObject": {"id": "vpn-1"}}], comment=said)
        group = {
            "sourceSystemId": "noc", "alarmChangedTime": "2026-01-01T00:00:00Z",
            "parentAlarm": {"id": prediction["id"]}, "correlatedAlarm": [{"id": own["id"]}],
        }  # fmt: skip
        grouped = (await at.partners.create(ACME, Kind.GROUP_ALARM, group)).record.body
        child = at.read(own["id"], kind=Kind.ALARM)
        ungrouped = (await at.partners.create(ACME, Kind.UN_GROUP_ALARM, group)).record.body
        alone = at.read(own["id"], kind=Kind.ALARM)
        gone = await task(
            at, Kind.CLEAR_ALARM, [{"id": own["id"]}, {"id": prediction["id"]}],
            clearSystemId="noc", clearUserId="ann", alarmClearedTime="2026-01-01T00:00:00Z",
        )  # fmt: skip

    ids = lambda body, name: {ref["id"] for ref in body[name]}  # noqa: E731
    assert ids(swept, "ackedAlarm") == {own["id"]}
    assert swept["state"] == "done"
    assert ids(named, "ackedAlarm") == {prediction["id"]}
    assert theirs["ackedAlarm"] == []
    assert ids(undone, "unAckedAlarm") == {own["id"]}
    assert child["comment"][0]["comment"] == "known"
    assert [ref["id"] for ref in child["parentAlarm"]] == [prediction["id"]]
    assert ids(grouped, "groupedAlarm") == ids(ungrouped, "unGroupedAlarm") == {own["id"]}
    assert alone["parentAlarm"] == []
    assert ids(gone, "clearedAlarm") == {own["id"], prediction["id"]}


REPORTED = {
    "alarmType": "Equipment Alarm", "perceivedSeverity": "major", "probableCause": "Power Problem",
    "alarmedObject": {"id": "vpn-1"}, "sourceSystemId": "acme-noc", "state": "raised",
    "alarmRaisedTime": "2026-01-01T00:00:00Z",
}  # fmt: skip


async def report_alarm(at, tenant=ACME, **more):
    return (await at.partners.create(tenant, Kind.ALARM, {**REPORTED, **more})).record.body


async def test_what_the_twin_says_the_twin_takes_back(tmp_path):
    clock = Clock()
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        twin, mine = await a_twin(at), at.store.of(ACME)
        twin.put("ran", a_view(up=False))
        alarms = looking(at, clock, hold_s=0.0)
        await alarms.look(mine)
        (live,) = at.alarms()
        gone = await task(
            at, Kind.CLEAR_ALARM, [{"id": live["id"]}],
            clearSystemId="noc", clearUserId="ann", alarmClearedTime="2026-01-01T00:00:00Z",
        )  # fmt: skip
        with pytest.raises(ContractError, match="perceivedSeverity: the twin raised"):
            await at.partners.change(ACME, Kind.ALARM, live["id"], {"perceivedSeverity": "minor"})
        with pytest.raises(ContractError, match="reportingSystemId"):
            await at.partners.change(ACME, Kind.ALARM, live["id"], {"reportingSystemId": ACME})
        with pytest.raises(Conflict, match="still says so"):
            await at.partners.remove(ACME, Kind.ALARM, live["id"])
        changed = await at.partners.change(ACME, Kind.ALARM, live["id"], {"ackState": "acknowledged"})
        own = await report_alarm(at, reportingSystemId="t1")
        with pytest.raises(ContractError, match="reportingSystemId"):
            await at.partners.change(ACME, Kind.ALARM, own["id"], {"reportingSystemId": "t1"})
        await at.partners.remove(ACME, Kind.ALARM, own["id"])
        left = [alarm["id"] for alarm in at.alarms()]

    assert gone["clearedAlarm"] == []
    assert changed.body["ackState"] == "acknowledged"
    assert own["reportingSystemId"] == ACME
    assert left == [live["id"]]


@pytest.mark.parametrize(
    ("kind", "body", "named"),
    [
        (Kind.ACK_ALARM, {"ackSystemId": "s", "ackUserId": "u"}, "alarmPattern"),
        (Kind.ACK_ALARM, {"ackSystemId": "s", "alarmPattern": [{"id": "1"}]}, "ackUserId"),
        (Kind.ACK_ALARM, {"ackSystemId": "s", "ackUserId": "u", "alarmPattern": [{}]}, "every alarm"),
        (Kind.COMMENT_ALARM, {"comment": {"userId": "u"}, "alarmPattern": [{"id": "1"}]}, "comment.comment"),
        (Kind.ALARM, {**REPORTED, "@type": PREDICTED}, "@type"),
        (Kind.ALARM, {**REPORTED, "perceivedSeverity": "bad"}, "perceivedSeverity"),
        (Kind.ALARM, {**REPORTED, "alarmedObject": None}, "alarmedObject"),
    ],
)
async def test_a_refused_alarm_or_task_names_the_attribute(tmp_path, kind, body, named):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        with pytest.raises(ContractError, match=named):
            await at.partners.create(ACME, kind, body)


async def test_tasks_do_not_change(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        own = await report_alarm(at)
        done = await task(at, Kind.ACK_ALARM, [{"id": own["id"]}], ackSystemId="s", ackUserId="u")
        with pytest.raises(Conflict, match="the task is done"):
            await at.partners.change(ACME, Kind.ACK_ALARM, done["id"], {"ackUserId": "eve"})


async def test_many_patterns_over_many_alarms_keep_nobody_waiting(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        mine = at.store.of(ACME)
        alarm = {"alarmType": "x", "perceivedSeverity": "minor"}
        await asyncio.gather(*(mine.create(Kind.ALARM, {**alarm, "n": n}) for n in range(2000)))
        patterns = [{**alarm, "n": -number} for number in range(1, 101)]
        task = {"ackSystemId": "noc", "ackUserId": "ann", "alarmPattern": patterns}
        acking = asyncio.create_task(at.partners.create(ACME, Kind.ACK_ALARM, task))
        turns = 0
        while not mine.list(Kind.ACK_ALARM):
            await asyncio.sleep(0)
            turns += not acking.done()
            if turns > 10:  # others have theirs while it looks
                break
        held = at.store.draft().sequence  # nothing of it was written by then
        done = (await acking).record

    assert turns > 10
    assert done.sequence > held
    assert done.body["ackedAlarm"] == []
