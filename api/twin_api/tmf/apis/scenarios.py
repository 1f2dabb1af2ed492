"""TMF653 Service Test 4.2: what a scenario measures and demands, and its runs with their verdicts."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, States, events_of, hub, resource

__all__ = ["SERVICE_TEST"]

_READ: Final = (Scope.SCENARIO_RUN, Scope.OPERATOR)
_WRITE: Final = (Scope.SCENARIO_RUN,)
_ALLOWED: Final = {
    Operation.LIST: _READ,
    Operation.READ: _READ,
    Operation.CREATE: _WRITE,
    Operation.CHANGE: _WRITE,
    Operation.REMOVE: _WRITE,
}

SERVICE_TEST: Final = Api(
    "serviceTestManagement",
    "TMF653",
    "Service Test Management",
    "4.2.0",
    "/tmf-api/serviceTestManagement/v4",
    (
        resource(
            Kind.SERVICE_TEST,
            "serviceTest",
            "ServiceTest",
            allowed=_ALLOWED,
            mandatory=("name", "relatedService", "testSpecification"),
            ignored=("state", "startDateTime", "endDateTime", "testMeasure"),
            fixed=("relatedService", "testSpecification", "characteristic", "mode"),
            states=States(
                "state",
                {"acknowledged": ("cancelled",), "pending": ("cancelled",), "inProgress": ("cancelled",)},
                terminal=("rejected", "cancelled", "completed", "failed"),
            ),
        ),
        resource(
            Kind.SERVICE_TEST_SPECIFICATION,
            "serviceTestSpecification",
            "ServiceTestSpecification",
            allowed=_ALLOWED,
            mandatory=("name", "relatedServiceSpecification"),
            ignored=("lastUpdate",),
            fixed=("validFor",),
            stamps={"lastUpdate": "now"},
            touched="lastUpdate",
        ),
    ),
    (
        *events_of("ServiceTest", "Create", "AttributeValueChange", "StateChange", "Delete"),
        *events_of("ServiceTestSpecification", "Create", "AttributeValueChange", "Delete"),
    ),
    hub(),
)
"""The API, at `/tmf-api/serviceTestManagement/v4`."""
