"""Which scopes of a token let a caller near a route. Owns that one table: a route that it omits is closed.

Of a TM Forum API it names all scopes that open something of it; what each operation needs, the tables of the
engine say (`twin_api.tmf`), which look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twin_api.caller import Scope

__all__ = ["NEAR", "needed"]

_OPEN: Final = frozenset(("/", "/healthz", "/readyz", "/docs", "/.well-known/jwks.json"))
_OPEN_FOLDERS: Final = ("/docs/", "/openapi/")
"""What tells of no tenant needs no token: health, the documents of the APIs, the keys of signatures."""

_NOTHING: Final[frozenset[Scope]] = frozenset()
NEAR: Final[Mapping[str, frozenset[Scope]]] = {
    "/tmf-api/serviceCatalogManagement": frozenset(
        (Scope.CATALOG_READ, Scope.ORDER, Scope.EVENTS, Scope.OPERATOR)
    ),
    "/tmf-api/serviceOrdering": frozenset((Scope.ORDER, Scope.EVENTS, Scope.OPERATOR)),
    "/tmf-api/serviceInventory": frozenset((Scope.TWIN_READ, Scope.ORDER, Scope.EVENTS, Scope.OPERATOR)),
    "/tmf-api/resourceInventoryManagement": frozenset((Scope.TWIN_READ, Scope.EVENTS, Scope.OPERATOR)),
    "/tmf-api/serviceTestManagement": frozenset(
        (Scope.SCENARIO_RUN, Scope.TWIN_READ, Scope.EVENTS, Scope.OPERATOR)
    ),
    "/tmf-api/alarmManagement": frozenset((Scope.TWIN_READ, Scope.ORDER, Scope.EVENTS, Scope.OPERATOR)),
    "/3gpp-ndt": frozenset((Scope.SCENARIO_RUN, Scope.TWIN_READ)),
    "/events": frozenset((Scope.EVENTS,)),
    "/sparql": frozenset((Scope.QUERY,)),
}
"""By the beginning of a path: scopes of which a caller needs one."""


def needed(path: str) -> frozenset[Scope] | None:
    """Scopes of which a caller needs one; empty: none opens it. None: the route is open to everybody."""
    if path in _OPEN or path.startswith(_OPEN_FOLDERS):
        return None
    parts = path.split("/", 3)
    return NEAR.get("/".join(parts[:3])) or NEAR.get("/".join(parts[:2])) or _NOTHING
