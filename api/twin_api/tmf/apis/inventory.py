"""TMF638 Service Inventory 4.0: the partner's twins. They come and go by orders; PATCH names, pauses them."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, States, events_of, hub, resource

__all__ = ["SERVICE_INVENTORY"]

_READ: Final = (Scope.TWIN_READ, Scope.OPERATOR)

SERVICE_INVENTORY: Final = Api(
    "serviceInventory",
    "TMF638",
    "Service Inventory Management",
    "4.0.0",
    "/tmf-api/serviceInventory/v4",
    (
        resource(
            Kind.SERVICE,
            "service",
            "Service",
            allowed={
                Operation.LIST: _READ,
                Operation.READ: _READ,
                Operation.CREATE: (Scope.OPERATOR,),
                Operation.CHANGE: (Scope.ORDER, Scope.OPERATOR),
                Operation.REMOVE: (Scope.OPERATOR,),
            },
            mandatory=("state", "serviceSpecification"),
            served=("operatingStatus",),
            fixed=(
                "serviceDate",
                "serviceOrderItem",
                "serviceSpecification",
                "supportingService",
                "supportingResource",
            ),
            types=("Service", "CustomerFacingService", "ResourceFacingService"),
            states=States(
                "state",
                {
                    "feasibilityChecked": ("designed", "terminated"),
                    "designed": ("reserved", "terminated"),
                    "reserved": ("inactive", "active", "terminated"),
                    "inactive": ("active", "terminated"),
                    "active": ("inactive", "terminated"),
                },
                terminal=("terminated",),
            ),
        ),
    ),
    events_of("Service", "Create", "AttributeValueChange", "StateChange", "Delete"),
    hub(),
)
"""The API, at `/tmf-api/serviceInventory/v4`."""
