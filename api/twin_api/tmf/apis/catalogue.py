"""TMF633 Service Catalog 4.0: what can be ordered. The operator writes it, partners read it."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, events_of, hub, resource

__all__ = ["SERVICE_CATALOG"]

_READ: Final = (Scope.CATALOG_READ, Scope.OPERATOR)
_ENTITY: Final = {
    Operation.LIST: _READ,
    Operation.READ: _READ,
    Operation.CREATE: (Scope.OPERATOR,),
    Operation.CHANGE: (Scope.OPERATOR,),
    Operation.REMOVE: (Scope.OPERATOR,),
}
_JOB: Final = {
    Operation.LIST: (Scope.OPERATOR,),
    Operation.READ: (Scope.OPERATOR,),
    Operation.CREATE: (Scope.OPERATOR,),
    Operation.REMOVE: (Scope.OPERATOR,),
}
_JOB_WORDS: Final = {
    "allowed": _JOB,
    "mandatory": ("url",),
    "ignored": ("completionDate", "creationDate", "errorLog", "status"),
    "stamps": {"status": "Not Started", "creationDate": "now"},
}
_ENTITY_WORDS: Final = {
    "allowed": _ENTITY,
    "ignored": ("lastUpdate",),
    "stamps": {"lastUpdate": "now"},
    "touched": "lastUpdate",
}

SERVICE_CATALOG: Final = Api(
    "serviceCatalogManagement",
    "TMF633",
    "Service Catalog Management",
    "4.0.0",
    "/tmf-api/serviceCatalogManagement/v4",
    (
        resource(
            Kind.SERVICE_CATALOG, "serviceCatalog", "ServiceCatalog", mandatory=("name",), **_ENTITY_WORDS
        ),
        resource(
            Kind.SERVICE_CATEGORY, "serviceCategory", "ServiceCategory", mandatory=("name",), **_ENTITY_WORDS
        ),
        resource(
            Kind.SERVICE_CANDIDATE,
            "serviceCandidate",
            "ServiceCandidate",
            mandatory=("name", "serviceSpecification"),
            **_ENTITY_WORDS,
        ),
        resource(
            Kind.SERVICE_SPECIFICATION,
            "serviceSpecification",
            "ServiceSpecification",
            mandatory=("name",),
            types=(
                "ServiceSpecification",
                "CustomerFacingServiceSpecification",
                "ResourceFacingServiceSpecification",
            ),
            **_ENTITY_WORDS,
        ),
        resource(Kind.IMPORT_JOB, "importJob", "ImportJob", **_JOB_WORDS),
        resource(Kind.EXPORT_JOB, "exportJob", "ExportJob", **_JOB_WORDS),
    ),
    tuple(
        name
        for shape in ("ServiceCatalog", "ServiceCategory", "ServiceCandidate", "ServiceSpecification")
        for name in events_of(shape, "Create", "Change", "Delete")
    ),
    hub(),
)
"""The API, at `/tmf-api/serviceCatalogManagement/v4`."""
