"""A small good body for each resource of the TM Forum APIs, and a patch that may be made to it."""

from __future__ import annotations

from typing import Any

from twin_api.tmf import APIS
from twin_api.tmf.table import Api, Operation, Resource

WHEN = "2026-03-01T12:00:00.000Z"
CREATED: dict[str, dict[str, Any]] = {
    "serviceCatalog": {"name": "twins", "validFor": {"startDateTime": WHEN}},
    "serviceCategory": {"name": "sandboxes", "isRoot": True},
    "serviceCandidate": {"name": "twin", "serviceSpecification": {"id": "NdtTwin"}},
    "serviceSpecification": {
        "name": "NdtTwin",
        "lifecycleStatus": "Active",
        "specCharacteristic": [{"name": "freshness", "valueType": "integer", "maxCardinality": 1}],
    },
    "importJob": {"url": "https://files.example/catalog.json"},
    "exportJob": {"url": "https://files.example/out.json", "query": "name=twin"},
    "serviceOrder": {
        "externalId": "e1",
        "serviceOrderItem": [
            {"id": "1", "action": "add", "service": {"serviceSpecification": {"id": "NdtTwin"}}}
        ],
        "relatedParty": [{"id": "acme", "role": "customer"}],
    },
    "cancelServiceOrder": {"serviceOrder": {"id": "o1"}, "cancellationReason": "not needed"},
    "service": {
        "name": "twin",
        "state": "active",
        "serviceSpecification": {"id": "NdtTwin"},
        "serviceCharacteristic": [{"name": "domains", "value": ["ran", "core"]}],
    },
    "resource": {
        "name": "cell 1",
        "@type": "LogicalResource",
        "administrativeState": "unlocked",
        "resourceCharacteristic": [{"name": "pci", "value": 7}],
    },
    "serviceTest": {
        "name": "cut",
        "relatedService": {"id": "s1"},
        "testSpecification": {"id": "t1"},
        "characteristic": [{"name": "seed", "value": 1}],
    },
    "serviceTestSpecification": {
        "name": "delay",
        "relatedServiceSpecification": [{"id": "NdtScenario"}],
        "testMeasureDefinition": [{"name": "delay", "metricName": "delay_ms", "unitOfMeasure": "ms"}],
    },
    "alarm": {
        "alarmType": "qualityOfServiceAlarm",
        "perceivedSeverity": "major",
        "probableCause": "thresholdCrossed",
        "alarmedObject": {"id": "cell 1"},
        "sourceSystemId": "twin",
        "state": "raised",
        "alarmRaisedTime": WHEN,
    },
    "ackAlarms": {"ackSystemId": "noc", "ackUserId": "u", "alarmPattern": [{"id": "a1"}]},
    "unAckAlarms": {"ackSystemId": "noc", "ackUserId": "u", "alarmPattern": [{"id": "a1"}]},
    "clearAlarms": {
        "clearSystemId": "noc",
        "clearUserId": "u",
        "alarmClearedTime": WHEN,
        "alarmPattern": [{"alarmedObject": {"id": "cell 1"}}],
    },
    "commentAlarms": {"comment": {"comment": "seen", "userId": "u"}, "alarmPattern": [{"id": "a1"}]},
    "groupAlarms": {
        "sourceSystemId": "noc",
        "alarmChangedTime": WHEN,
        "parentAlarm": {"id": "a1"},
        "correlatedAlarm": [{"id": "a2"}],
    },
    "unGroupAlarms": {
        "sourceSystemId": "noc",
        "alarmChangedTime": WHEN,
        "parentAlarm": {"id": "a1"},
        "correlatedAlarm": [{"id": "a2"}],
    },
    "hub": {"callback": "https://partner.example/listener"},
}
PATCHED: dict[str, dict[str, Any]] = {
    "alarm": {"alarmDetails": "changed"},
    "resource": {"description": "changed", "operationalState": "enable"},
    "hub": {"state": "active"},
}
CHANGED: dict[str, Any] = {"description": "changed"}


def patch_of(resource: Resource) -> dict[str, Any]:
    """A patch that a resource takes."""
    return PATCHED.get(resource.path, CHANGED)


def every(operation: Operation) -> list[Any]:
    """All resources that have an operation, with their APIs, as parameters of a test."""
    import pytest

    return [
        pytest.param(api, resource, id=f"{api.number}-{resource.path}")
        for api in APIS
        for resource in (*api.resources, api.hub)
        if operation in resource.allowed
    ]


def path_of(api: Api, resource: Resource) -> str:
    """Where a resource's collection is."""
    return f"{api.base}/{resource.path}"
