"""Who asks over HTTP, once a token has been verified. Owns the names of scopes; verifies nothing.

The verified caller of a request is at `request.state.caller`. Its tenant comes from a claim of the token and
from nowhere else: no path, header or body names a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Caller", "Scope"]


class Scope(StrEnum):
    """What a token may allow (RFC 6749 3.3)."""

    CATALOG_READ = "ndt.catalog.read"
    ORDER = "ndt.order"
    TWIN_READ = "ndt.twin.read"
    SCENARIO_RUN = "ndt.scenario.run"
    EVENTS = "ndt.events"
    QUERY = "ndt.query"
    OPERATOR = "ndt.operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """A client whose token was verified, and what that token allows."""

    tenant: str
    subject: str
    scopes: frozenset[str]
