"""The rival of `partner_reads`: services behind FastAPI as it is commonly written. A list, models, a scan."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twin_api.tokens import TokenRefused, Tokens

__all__ = ["create_rival"]

_OWN = frozenset(("offset", "limit", "sort"))


class _Model(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    kind: str | None = Field(None, alias="@type")


class Reference(_Model):
    """A reference."""

    id: str
    name: str | None = None
    version: str | None = None
    state: str | None = None


class Party(_Model):
    """A related party."""

    id: str
    role: str
    referred: str = Field(alias="@referredType")


class Characteristic(_Model):
    """A characteristic."""

    name: str
    valueType: str
    value: Any


class Service(_Model):
    """A service."""

    id: str
    href: str
    name: str
    description: str
    category: str
    state: str
    startDate: str
    isServiceEnabled: bool
    serviceSpecification: Reference
    serviceCharacteristic: list[Characteristic]
    supportingService: list[Reference]
    relatedParty: list[Party]


def _values(value: Any, steps: list[str]) -> list[Any]:
    if isinstance(value, list):
        return [found for each in value for found in _values(each, steps)]
    if not steps:
        return [value]
    return _values(value.get(steps[0]), steps[1:]) if isinstance(value, dict) else []


def _fits(document: dict[str, Any], name: str, text: str) -> bool:
    stem, _, operator = name.rpartition(".")
    if operator not in ("ne", "gte", "lt"):
        stem, operator = name, "eq"
    found = [str(v).lower() if isinstance(v, bool) else str(v) for v in _values(document, stem.split("."))]
    wanted = text.split(",")
    if operator == "eq":
        return any(each in wanted for each in found)
    if operator == "ne":
        return not any(each in wanted for each in found)
    return any(each >= text if operator == "gte" else each < text for each in found)


def create_rival(documents: list[dict[str, Any]], public: str, base: str, tokens: Tokens) -> FastAPI:
    """The application."""
    held = [{"href": f"{public}{base}/{each['id']}", **each} for each in reversed(documents)]
    by_id = {each["id"]: each for each in held}
    app = FastAPI()

    async def tenant(authorization: Annotated[str, Header()] = "") -> str:
        try:
            return (await tokens.verify(authorization.removeprefix("Bearer "))).caller.tenant
        except TokenRefused as refused:
            raise HTTPException(401, str(refused)) from None

    @app.get(base, response_model=list[Service], dependencies=[Depends(tenant)])
    async def listed(
        request: Request,
        response: Response,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=500)] = 50,
        sort: str = "",
    ) -> Any:
        found = held
        for name, text in request.query_params.multi_items():
            if name not in _OWN:
                found = [each for each in found if _fits(each, name, text)]
        if sort:
            name = sort.lstrip("-")
            found = sorted(found, key=lambda each: each[name], reverse=sort.startswith("-"))
        response.headers["X-Total-Count"] = str(len(found))
        return found[offset : offset + limit]

    @app.get(base + "/{identity}", response_model=Service, dependencies=[Depends(tenant)])
    async def one(identity: str) -> Any:
        if identity not in by_id:
            raise HTTPException(404)
        return by_id[identity]

    return app
