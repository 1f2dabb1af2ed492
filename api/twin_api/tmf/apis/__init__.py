"""The six APIs, each a table; nothing here does anything."""

from __future__ import annotations

from typing import Final

from twin_api.tmf.apis.alarms import ALARMS
from twin_api.tmf.apis.catalogue import SERVICE_CATALOG
from twin_api.tmf.apis.inventory import SERVICE_INVENTORY
from twin_api.tmf.apis.ordering import SERVICE_ORDERING
from twin_api.tmf.apis.resources import RESOURCE_INVENTORY
from twin_api.tmf.apis.scenarios import SERVICE_TEST
from twin_api.tmf.table import Api

__all__ = ["APIS"]

APIS: Final[tuple[Api, ...]] = (
    SERVICE_CATALOG,
    SERVICE_ORDERING,
    SERVICE_INVENTORY,
    RESOURCE_INVENTORY,
    SERVICE_TEST,
    ALARMS,
)
"""All that are served."""
