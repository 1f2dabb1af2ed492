"""Thresholds of test specifications, and the life of a specification."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_parts import ACME, CUT, GLOBEX, NoDomains, desks, limit

from domain_twin.errors import Conflict, ContractError, NotFound
from domain_twin.model import DomainOutcome, Finding, Outcome, Severity
from domain_twin.model.job import Figure, FlowFigures, FlowForecast, Report
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import StateKind
from federation.partners.measures import judge
from federation.partners.record import Kind
from federation.partners.thresholds import definitions, shown

SPECIFICATION = Kind.SERVICE_TEST_SPECIFICATION


def report(*flows, **more):
    return Report("j", Scenario.model_validate(CUT), StateKind.CANDIDATE, {}, "tables", flows=flows, **more)


def flow(before, after, pair=("a/1", "b/1")):
    def figures(value):
        if value is None:
            return None
        return FlowFigures(*(Figure(value, math.nan, math.nan) for _ in range(7)))

    return FlowForecast(*pair, "any", figures(before), figures(after))


def verdict(found, *wanted, **more):
    judged = judge(found, definitions(list(wanted)), **more)
    return judged.verdict, [item.text for item in judged.violated]


@pytest.mark.parametrize(
    ("rule", "crossed"),
    [
        ({"conformanceTargetUpper": "5"}, [False, False, True]),
        ({"conformanceTargetUpper": "5", "conformanceComparatorUpper": ">="}, [False, True, True]),
        ({"conformanceTargetLower": "5"}, [True, False, False]),
        ({"conformanceTargetLower": 5, "conformanceComparatorLower": "lte"}, [True, True, False]),
        ({"conformanceTargetExact": "5"}, [True, False, True]),
        ({"conformanceTargetExact": "5", "conformanceComparatorExact": False}, [False, True, False]),
        ({"conformanceTargetLower": "4.5", "conformanceTargetUpper": "5.5"}, [True, False, True]),
    ],
)
def test_a_threshold_is_crossed_as_its_comparator_says(rule, crossed):
    (definition,) = definitions([limit("delay", **rule)])
    assert [bool(definition.rules[0].crossed(value)) for value in (4.0, 5.0, 6.0)] == crossed


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_what_is_judged_is_what_is_shown(value, target):
    wanted = limit("delay", conformanceTargetUpper=str(shown(target)))
    said, _ = verdict(report(flow(value, value)), wanted)
    assert said == ("fail" if shown(value) > shown(target) else "pass")


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        ({"metricName": "dealy"}, r"testMeasureDefinition\[0\].metricName: 'dealy'"),
        ({"metricName": "delay", "unitOfMeasure": "s"}, r"\[0\].unitOfMeasure: 's'"),
        (limit("delay"), r"thresholdRule\[0\]: has no target"),
        (limit("delay", conformanceTargetUpper="fast"), "conformanceTargetUpper: 'fast' is no number"),
        (limit("delay", conformanceTargetUpper="nan"), "conformanceTargetUpper"),
        (limit("delay", conformanceTargetUpper=True), "conformanceTargetUpper"),
        (limit("delay", conformanceTargetExact="1.*"), "conformanceTargetExact"),
        (limit("delay", conformanceTargetUpper="5", conformanceTargetLower="6"), "conformanceTargetLower: 6"),
        (limit("delay", conformanceTargetUpper="5", conformanceComparatorUpper="<="), "when the threshold"),
        (limit("delay", conformanceTargetUpper="5", thresholdRuleSeverity="fatal"), "thresholdRuleSeverity"),
        (limit("delay", conformanceTargetUpper="5", numberOfAllowedCrossing=2), "numberOfAllowedCrossing"),
        ({"metricName": "delay", "thresholdRule": ["no"]}, "thresholdRule: must be a list of objects"),
        ({"metricName": "delay", "thresholdRule": [{}] * 21}, "21 entries"),
    ],
)
def test_a_refused_threshold_names_its_place(measure, named):
    with pytest.raises(ContractError, match=named):
        definitions([measure])


def test_a_metric_is_defined_once():
    with pytest.raises(ContractError, match=r"\[1\].metricName: delay is defined twice"):
        definitions([limit("delay", conformanceTargetUpper="5"), {"metricName": "delay"}])


def test_a_flow_without_a_way_misses_what_is_asked_of_it():
    gone = report(flow(3.0, None))
    assert verdict(gone, limit("delay", conformanceTargetUpper="50"))[0] == "fail"
    assert verdict(gone, limit("throughput", conformanceTargetLower="1"))[0] == "fail"
    assert verdict(gone, limit("loss", conformanceTargetUpper="0.5"))[0] == "fail"
    assert verdict(gone, limit("delay", conformanceTargetLower="1"))[0] == "pass"
    _, said = verdict(gone, limit("delay", conformanceTargetUpper="50"))
    assert said == ["delay of a/1 > b/1 (any): there is none, against at most 50"]


def test_a_pair_that_never_had_a_way_counts_only_where_it_was_asked_for():
    never = report(flow(3.0, 3.0), flow(None, None, ("b/1", "a/1")))
    wanted = limit("reachable", conformanceTargetExact="1")
    assert verdict(never, wanted)[0] == "pass"
    assert verdict(never, wanted, asked=frozenset({("b/1", "a/1")}))[0] == "fail"


def test_what_is_not_known_is_neither_passed_nor_failed():
    wanted = limit("delay", conformanceTargetUpper="50")
    away = (DomainOutcome("b", Outcome.UNREACHABLE, None, "it left"),)
    unsettled = (Finding("what-if.not-settled", Severity.ERROR, "", "", "did not settle", ""),)
    assert verdict(report(flow(3.0, math.nan)), wanted)[0] == "inconclusive"
    assert verdict(report(flow(3.0, 3.0), domains=away), wanted)[0] == "inconclusive"
    assert verdict(report(flow(3.0, 60.0), domains=away), wanted)[0] == "fail"
    assert verdict(report(flow(3.0, 60.0), findings=unsettled), wanted)[0] == "inconclusive"
    assert verdict(report(), wanted)[0] == "inconclusive"
    assert verdict(report(flow(3.0, 60.0)))[0] == "pass"
    assert "no thresholds" in judge(report(flow(3.0, 60.0)), definitions(None)).remarks[0]


async def test_a_specification_is_edited_as_a_draft_and_run_when_active(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        await at.store.of(ACME).create(Kind.SERVICE, {"id": "t1", "state": "active"})
        draft = await at.specification(lifecycleStatus="draft")

        async def change(**patch):
            return (await at.partners.change(ACME, SPECIFICATION, draft, patch)).body

        with pytest.raises(Conflict, match="the specification is draft"):
            await at.test(draft)
        with pytest.raises(ContractError, match="conformanceTargetUpper"):
            await change(testMeasureDefinition=[limit("delay", conformanceTargetUpper="x")])
        await change(testMeasureDefinition=[limit("delay", conformanceTargetUpper="9")])
        active = await change(lifecycleStatus="Active")
        for patch in ({"testMeasureDefinition": []}, {"version": "2.0"}, {"specCharacteristic": [{}]}):
            with pytest.raises(Conflict, match="runs rest on it"):
                await change(**patch)
        noted = await change(description="limits of the slice")
        with pytest.raises(Conflict, match="does not become draft"):
            await change(lifecycleStatus="draft")
        await change(lifecycleStatus="retired")
        with pytest.raises(Conflict, match="the specification is retired"):
            await at.test(draft)
        with pytest.raises(Conflict, match="does not become active"):
            await change(lifecycleStatus="active")
        await at.partners.remove(ACME, SPECIFICATION, draft)
        with pytest.raises(NotFound):
            at.read(draft, kind=SPECIFICATION)

    assert (active["lifecycleStatus"], active["version"]) == ("active", "1.0")
    assert noted["description"] == "limits of the slice"


async def test_a_specification_is_checked_when_it_is_made(tmp_path):
    async with desks(tmp_path, NoDomains(), alarms=False) as at:
        wrong = {"changes": [{"kind": "down", "element": "x"}]}
        for more, named in (
            ({"lifecycleStatus": "Launched"}, "lifecycleStatus"),
            ({"lifecycleStatus": "retired"}, "lifecycleStatus"),
            ({"testMeasureDefinition": [{}]}, "metricName"),
            ({"specCharacteristic": [characteristic("scenario", wrong)]}, "characteristic scenario"),
            ({"specCharacteristic": [characteristic("colour", "red")]}, r"specCharacteristic\[0\].name"),
        ):
            with pytest.raises(ContractError, match=named):
                await at.specification(GLOBEX, **more)


def characteristic(name, value):
    return {"name": name, "characteristicValueSpecification": [{"isDefault": True, "value": value}]}
