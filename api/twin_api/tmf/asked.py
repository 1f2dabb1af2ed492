"""One request to the engine, and what its answer is made of. Shared by reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request

from federation.partners.record import Body, Kind, Made, Record
from twin_api.caller import Caller
from twin_api.read_model import ReadModel
from twin_api.shelf import Entry, Shelf
from twin_api.tmf.dialects import Dialect
from twin_api.tmf.errors import Refused
from twin_api.tmf.present import href
from twin_api.tmf.table import Api, Resource

__all__ = ["Asked", "Commands", "Shared"]


class Commands(Protocol):
    """Where changes go: a `PartnersClient`. All raise TwinError."""

    async def create(self, tenant: str, kind: Kind, body: Body, *, key: str = "") -> Made:
        """The record that was made, and whether it was there already for that key."""

    async def change(
        self, tenant: str, kind: Kind, identity: str, patch: Body, *, if_version: int = 0
    ) -> Record:
        """The record after a merge patch."""

    async def remove(self, tenant: str, kind: Kind, identity: str, *, if_version: int = 0) -> int:
        """The sequence of the removal."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests share."""

    model: ReadModel
    commands: Commands
    public_address: str
    max_body: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: of what, by whom, at which face of the API."""

    engine: Shared
    api: Api
    base: str
    dialect: Dialect | None
    request: Request
    caller: Caller
    resource: Resource
    identity: str

    def query(self) -> bytes:
        """The query as it was sent, in our names."""
        raw: bytes = self.request.scope["query_string"]
        return raw if self.dialect is None else self.dialect.query(self.resource.shape, raw)

    def shelf(self) -> Shelf:
        """What the caller's tenant sees of this kind. Raises Unreachable."""
        return self.engine.model.shelf(self.caller.tenant, self.resource.kind)

    def entry(self) -> Entry:
        """The resource that is asked for. Raises Refused: 404, for foreign and unknown ones alike."""
        found = self.shelf().get(self.identity)
        if found is None or not self.is_mine(found):
            raise self.unknown()
        return found

    def unknown(self) -> Refused:
        """What is answered for an id that the caller has no resource of: always the same octets."""
        return Refused(404, f"there is no {self.resource.name} of this id")

    def is_mine(self, entry: Entry) -> bool:
        """Whether an entry belongs to this API: subscriptions of all APIs are of one kind."""
        return self.resource is not self.api.hub or entry.record.body.get("api") == self.api.name

    def href(self, identity: str) -> str:
        """The address of a resource of this kind, at this face."""
        return href(self.engine.public_address, self.base, self.resource.path, identity)

    def outward(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document as this face shows it."""
        if self.dialect is None:
            return dict(document)
        shown: dict[str, Any] = self.dialect.outward(self.resource.shape, document)
        shown["href"] = self.href(str(document["id"]))
        return shown

    def inward(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body in our names."""
        if self.dialect is None:
            return dict(body)
        ours: dict[str, Any] = self.dialect.inward(self.resource.shape, body)
        return ours
