"""Predicted alarms: what a run says would go wrong, until a later run of the same question says otherwise.

One alarm stands for one metric of one flow under one scenario of one specification on one twin, with the
worst severity of the rules that are crossed. Owns nothing but these alarms.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from domain_twin.model import Nanoseconds
from domain_twin.model.job_json import canonical
from federation.partners.alarm_records import PREDICTED, alarm_id, clear_alarm, is_standing, raise_alarm
from federation.partners.characteristics import value_of
from federation.partners.measures import Judged, Violated
from federation.partners.record import Body, Kind, Repository
from federation.partners.thresholds import SEVERITIES

__all__ = ["Predicted"]


class Predicted:
    """Hears of results (`federation.partners.runner.Results`)."""

    def __init__(self, *, clock: Callable[[], Nanoseconds] = time.time_ns) -> None:
        self._clock = clock

    async def found(self, repository: Repository, test: Body, judged: Judged) -> None:
        """Raise what is violated, clear what is not any more; an overtaken run says nothing."""
        question = _question(test)
        if _overtaken(repository, test, question):
            return
        now = self._clock()
        worst: dict[tuple[str, str], Violated] = {}
        for item in judged.violated:
            key = (item.metric, item.subject)
            if key not in worst or _rank(item) < _rank(worst[key]):
                worst[key] = item
        for (metric, subject), item in worst.items():
            identity = alarm_id(repository.tenant, *question, metric, subject)
            await raise_alarm(repository, identity, _condition(test, question, item), now)
        for record in repository.list(Kind.ALARM):
            if record.body.get("@type") != PREDICTED or not is_standing(record.body):
                continue
            key = _about(record.body)
            of_this = record.id == alarm_id(repository.tenant, *question, *key)
            if of_this and key in judged.known and key not in worst:
                await clear_alarm(repository, record.id, now)


def _condition(test: Body, question: tuple[str, str, str], item: Violated) -> Body:
    twin, specification, _ = question
    name = _scenario_name(test)
    threshold: dict[str, Any] = {
        "indicatorName": item.metric,
        "indicatorUnit": item.unit,
        "observedValue": "none" if item.value is None else f"{item.value:g}",
        "thresholdCrossingDescription": item.text,
        "threshold": {"id": specification, "@referredType": "ServiceTestSpecification"},
    }
    if item.direction in ("up", "down"):
        threshold["direction"] = item.direction
    actions = [
        str(consequence["prescribeAction"])
        for consequence in item.rule.body.get("consequence", ())
        if consequence.get("prescribeAction")
    ]
    return {
        "@type": PREDICTED,
        "@baseType": "Alarm",
        "alarmType": "Quality of Service Alarm",
        "perceivedSeverity": item.rule.severity,
        "probableCause": "Threshold Crossed",
        "specificProblem": f"predicted under {name}: {item.text}",
        "sourceSystemId": twin,
        "reportingSystemId": twin,
        "externalAlarmId": str(test["id"]),
        "alarmedObject": {"id": item.subject, "@type": "AlarmedObject"},
        "alarmedObjectType": "flow" if ">" in item.subject else "link",
        "affectedService": [{"id": twin, "@type": "AffectedService"}],
        "serviceAffecting": True,
        "crossedThresholdInformation": threshold,
        "proposedRepairedActions": "; ".join(actions),
        "alarmDetails": f"test {test['id']} of specification {specification}; it is a prediction, and nothing"
        " of it was measured",
    }


def _rank(item: Violated) -> int:
    return SEVERITIES.index(item.rule.severity)


def _question(test: Body) -> tuple[str, str, str]:
    """Twin, specification and a digest of the scenario: what makes two runs the same question."""
    scenario = value_of(test, "scenario")
    asked = {key: item for key, item in scenario.items() if key != "seed"} if scenario else {}
    digest = hashlib.sha256(canonical(asked)).hexdigest()
    return str(test["relatedService"]["id"]), str(test["testSpecification"]["id"]), digest


def _about(alarm: Body) -> tuple[str, str]:
    """The metric and the flow that a predicted alarm is about."""
    crossed: Mapping[str, Any] = alarm.get("crossedThresholdInformation") or {}
    subject: Mapping[str, Any] = alarm.get("alarmedObject") or {}
    return str(crossed.get("indicatorName")), str(subject.get("id"))


def _overtaken(repository: Repository, test: Body, question: tuple[str, str, str]) -> bool:
    """Whether a run of the same question that was asked later has ended already."""
    others: Iterable[Body] = (record.body for record in repository.list(Kind.SERVICE_TEST))
    return any(
        other.get("state") == "completed"
        and str(other.get("startDateTime", "")) > str(test.get("startDateTime", ""))
        and _question(other) == question
        for other in others
    )


def _scenario_name(test: Body) -> str:
    scenario = value_of(test, "scenario")
    return str((scenario or {}).get("name") or "this scenario")
