"""Answers POST, PATCH and DELETE: checks the shape, sends a command, and shows the record that came back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from domain_twin.errors import NotFound, StaleVersion
from federation.partners.record import PUBLIC, Record
from twin_api.shelf import Entry, encode
from twin_api.tmf.asked import Asked
from twin_api.tmf.bodies import check_size, read_object
from twin_api.tmf.conditional import etag, named_version
from twin_api.tmf.errors import JSON, Refused, refusal_of
from twin_api.tmf.hubs import check_hub
from twin_api.tmf.rules import created, patched

__all__ = ["change", "create", "remove"]

_TRIES: Final = 3
_WAIT_S: Final = 0.5
_KEY: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
_MERGE: Final = ("application/merge-patch+json", "application/json")


async def create(asked: Asked) -> Response:
    """POST: 201, where it is, and all of it."""
    if asked.request.scope["query_string"]:
        raise Refused(400, "a POST takes no query", code="invalidQuery")
    key = _key(asked)
    given = asked.inward(await read_object(asked.request, ("application/json",), asked.engine.max_body))
    body = created(asked.resource, given, datetime.now(UTC))
    if asked.resource is asked.api.hub:
        check_hub(asked.api, body)
        body["api"] = asked.api.name
        body["apiAddress"] = f"{asked.engine.public_address}{asked.api.base}"  # events' hrefs begin with it
    check_size(body)
    if not key:  # else it may be the very one that this key made: the broker knows
        _alone(asked, body)
    made = await asked.engine.commands.create(asked.caller.tenant, asked.resource.kind, body, key=key)
    response = _shown(asked, made.record, 201)
    response.headers["location"] = asked.href(made.record.id)
    if made.repeated:
        response.headers["idempotency-replayed"] = "true"
    return response


async def change(asked: Asked) -> Response:
    """PATCH: 200 and all of it. Without If-Match a patch is tried anew when another one came between."""
    entry = _own(asked)
    given = asked.inward(await read_object(asked.request, _MERGE, asked.engine.max_body))
    named = asked.request.headers.get("if-match")
    for _ in range(_TRIES):
        entry = _own(asked)
        held = entry.record.version
        version = named_version(named, held)
        patch = patched(asked.resource, entry.record.body, given, datetime.now(UTC))
        if not patch:
            return _shown(asked, entry.record, 200)
        check_size(patch)
        try:
            record = await asked.engine.commands.change(
                asked.caller.tenant, asked.resource.kind, asked.identity, patch, if_version=version or held
            )
        except NotFound as error:
            raise _gone(asked, error) from None
        except StaleVersion as error:
            if version:
                raise refusal_of(error, named_version=True) from None
            stale = error
            await asked.engine.model.newer(
                asked.caller.tenant, asked.resource.kind, asked.identity, than=held, within_s=_WAIT_S
            )
            continue
        return _shown(asked, record, 200)
    raise refusal_of(stale)


async def remove(asked: Asked) -> Response:
    """DELETE: 204."""
    entry = _own(asked)
    named = asked.request.headers.get("if-match")
    version = named_version(named, entry.record.version)
    kind, tenant = asked.resource.kind, asked.caller.tenant
    try:
        sequence = await asked.engine.commands.remove(tenant, kind, asked.identity, if_version=version)
    except NotFound:
        raise asked.unknown() from None
    except StaleVersion as error:
        raise refusal_of(error, named_version=bool(version)) from None
    asked.engine.model.remove(tenant, kind, asked.identity, sequence)
    return Response(status_code=204)


def _own(asked: Asked) -> Entry:
    """The entry that is to be changed. Raises Refused: 404, or 403 for one that the operator publishes."""
    entry = asked.entry()
    if entry.record.tenant == PUBLIC and asked.caller.tenant != PUBLIC:
        raise Refused(
            403, f"this {asked.resource.name} is published by the operator, and only read", code="notShared"
        )
    return entry


def _gone(asked: Asked, error: NotFound) -> Refused:
    """Not there any more, or something that the patch names is not there."""
    entry = asked.engine.model.get(asked.caller.tenant, asked.resource.kind, asked.identity)
    return refusal_of(error) if entry is not None else asked.unknown()


def _shown(asked: Asked, record: Record, status: int) -> Response:
    """A record that was just written: also what the next read shows."""
    model = asked.engine.model
    model.apply(record)
    shown: Any = asked.outward(model.present(record))
    headers = {"content-type": JSON, "etag": etag(record.version), "cache-control": "no-store"}
    return Response(encode(shown), status, headers)


def _key(asked: Asked) -> str:
    """The Idempotency-Key, if one is sent. Raises Refused (400)."""
    key = asked.request.headers.get("idempotency-key")
    if key is None:
        return ""
    if _KEY.fullmatch(key) is None:
        raise Refused(400, "Idempotency-Key has 1 to 255 visible characters of ASCII", code="invalidHeader")
    return key


def _alone(asked: Asked, body: dict[str, Any]) -> None:
    """Refuse what the table says there is only one of. The broker says so too, for what is not here yet."""
    if not asked.resource.unique:
        return
    for entry in asked.shelf().entries().values():
        if asked.is_mine(entry) and all(
            entry.record.body.get(name) == body.get(name) for name in asked.resource.unique
        ):
            names = ", ".join(asked.resource.unique)
            raise Refused(409, f"there is one with this {names} already", code="duplicate")
