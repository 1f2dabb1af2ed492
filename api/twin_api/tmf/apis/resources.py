"""TMF639 Resource Inventory 4.0: what a partner's twin shows of the networks, at the level it was granted."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, events_of, hub, resource

__all__ = ["RESOURCE_INVENTORY"]

_READ: Final = (Scope.TWIN_READ, Scope.OPERATOR)
_WRITE: Final = (Scope.OPERATOR,)

RESOURCE_INVENTORY: Final = Api(
    "resourceInventoryManagement",
    "TMF639",
    "Resource Inventory Management",
    "4.0.0",
    "/tmf-api/resourceInventoryManagement/v4",
    (
        resource(
            Kind.RESOURCE,
            "resource",
            "Resource",
            allowed={
                Operation.LIST: _READ,
                Operation.READ: _READ,
                Operation.CREATE: _WRITE,
                Operation.CHANGE: _WRITE,
                Operation.REMOVE: _WRITE,
            },
            mandatory=("name",),
            types=("Resource", "LogicalResource", "PhysicalResource"),
        ),
    ),
    events_of("Resource", "Create", "AttributeValueChange", "StateChange", "Delete"),
    hub(),
)
"""The API, at `/tmf-api/resourceInventoryManagement/v4`."""
