"""Makes of a record the document that clients see: with `id`, an absolute `href` and `@type`, always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from federation.partners.record import Kind, Record
from twin_api.tmf.table import Api, Resource

__all__ = ["href", "presenter"]


def href(public_address: str, base: str, path: str, identity: str) -> str:
    """The address of a resource."""
    return f"{public_address}{base}/{path}/{quote(identity, safe='')}"


def presenter(public_address: str, apis: Sequence[Api]) -> Callable[[Record], dict[str, Any]]:
    """What makes documents of records. `public_address` has no slash at its end."""
    places: dict[Kind, tuple[str, Resource]] = {
        resource.kind: (api.base, resource) for api in apis for resource in api.resources
    }
    hubs = {api.name: (api.base, api.hub) for api in apis}

    def present(record: Record) -> dict[str, Any]:
        place = hubs.get(record.body.get("api", "")) if record.kind is Kind.HUB else places.get(record.kind)
        if place is None:
            return dict(record.body)  # no API shows this kind
        base, resource = place
        document: dict[str, Any] = {
            "id": record.id,
            "href": href(public_address, base, resource.path, record.id),
            "@type": resource.type,
        }
        document.update(
            (name, value)
            for name, value in record.body.items()
            if name not in ("id", "href") and name not in resource.hidden
        )
        return document

    return present
