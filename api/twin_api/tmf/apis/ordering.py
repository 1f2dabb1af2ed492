"""TMF641 Service Ordering 4.1: a partner orders, rescopes and retires its twins, and cancels orders."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, States, events_of, hub, resource

__all__ = ["SERVICE_ORDERING"]

_READ: Final = (Scope.ORDER, Scope.OPERATOR)
_WRITE: Final = (Scope.ORDER,)

SERVICE_ORDERING: Final = Api(
    "serviceOrdering",
    "TMF641",
    "Service Ordering Management",
    "4.1.0",
    "/tmf-api/serviceOrdering/v4",
    (
        resource(
            Kind.SERVICE_ORDER,
            "serviceOrder",
            "ServiceOrder",
            allowed={
                Operation.LIST: _READ,
                Operation.READ: _READ,
                Operation.CREATE: _WRITE,
                Operation.CHANGE: _WRITE,
                Operation.REMOVE: _WRITE,
            },
            mandatory=("serviceOrderItem",),
            served=(
                "state",
                "orderDate",
                "startDate",
                "completionDate",
                "expectedCompletionDate",
                "errorMessage",
                "jeopardyAlert",
                "milestone",
            ),
            fixed=("category", "cancellationDate", "cancellationReason"),
            states=States(
                "state",
                {
                    "inProgress": ("held", "pending"),
                    "held": ("inProgress",),
                    "pending": ("inProgress",),
                },
                terminal=("rejected", "cancelled", "completed", "failed", "partial"),
            ),
        ),
        resource(
            Kind.CANCEL_SERVICE_ORDER,
            "cancelServiceOrder",
            "CancelServiceOrder",
            allowed={Operation.LIST: _READ, Operation.READ: _READ, Operation.CREATE: _WRITE},
            mandatory=("serviceOrder",),
            served=("state", "effectiveCancellationDate", "errorMessage", "completionMessage"),
        ),
    ),
    (
        *events_of("ServiceOrder", "Create", "AttributeValueChange", "StateChange", "Delete"),
        *events_of("ServiceOrder", "Milestone", "Jeopardy", "InformationRequired"),
        *events_of("CancelServiceOrder", "Create", "StateChange", "InformationRequired"),
    ),
    hub(),
)
"""The API, at `/tmf-api/serviceOrdering/v4`."""
