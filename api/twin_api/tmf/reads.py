"""Answers GET and HEAD from the read model: one resource, or a page of a list."""

from __future__ import annotations

import math
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from twin_api.shelf import Entry, Shelf, encode
from twin_api.tmf.asked import Asked
from twin_api.tmf.conditional import etag, matches
from twin_api.tmf.errors import JSON, Refused
from twin_api.tmf.paths import Path
from twin_api.tmf.query import Condition, Operator, Query, narrowed, page, prepare, read_query, select
from twin_api.tmf.shapes import TEXT
from twin_api.tmf.table import Resource

__all__ = ["listed", "one"]

_SAFE: Final = "%=.,;:@/?~!*'()+$-_"
_TYPE: Final = Path(("@type",), TEXT)
_CACHE: Final = "private, no-cache"


async def one(asked: Asked) -> Response:
    """One resource, or a part of it (`fields`)."""
    entry = asked.entry()
    query = read_query(asked.resource, asked.query())
    if query.conditions or query.order or b"limit=" in asked.query() or b"offset=" in asked.query():
        raise Refused(400, "one resource is asked for: only fields says more", code="invalidQuery")
    tag = etag(entry.record.version)
    headers = {"content-type": JSON, "etag": tag, "cache-control": _CACHE, "age": _age(asked)}
    known = asked.request.headers.get("if-none-match")
    if known is not None and matches(known, entry.record.version):
        del headers["content-type"]
        return Response(status_code=304, headers=headers)
    return Response(_data(asked, entry, query.fields), headers=headers)


async def listed(asked: Asked) -> Response:
    """A page of a list, newest first or as `sort` says, with how many there are in all."""
    shelf = asked.shelf()
    query = read_query(asked.resource, asked.query())
    await prepare(shelf, query)
    mask = select(shelf, query.conditions) & _told_apart(asked.resource, shelf, query)
    if asked.resource is asked.api.hub:
        mask &= shelf.where(asked.is_mine)
    total = mask.bit_count()
    entries = page(shelf, mask, query)
    data = b"[" + b",".join(_data(asked, entry, query.fields) for entry in entries) + b"]"
    headers = {
        "content-type": JSON,
        "x-total-count": str(total),
        "x-result-count": str(len(entries)),
        "link": _links(asked, query, total),
        "cache-control": _CACHE,
        "age": _age(asked),
    }
    return Response(data, headers=headers)


def _data(asked: Asked, entry: Entry, fields: tuple[str, ...] | None) -> bytes:
    if fields is None and asked.dialect is None:
        return entry.data
    shown = entry.shown if fields is None else narrowed(entry.shown, fields)
    return encode(asked.outward(shown))


def _told_apart(resource: Resource, shelf: Shelf, query: Query) -> int:
    """A mask of what may stand in one list. Raises Refused (400) where a query asks for what may not."""
    if not resource.apart:
        return shelf.all
    named = next(
        (c for c in query.conditions if c.path.steps == ("@type",) and c.operator is Operator.EQ), None
    )
    apart = Condition(_TYPE, Operator.EQ, resource.apart, (resource.apart,))
    if named is None:
        return shelf.all & ~select(shelf, (apart,))
    if len({value if value in resource.apart else "" for value in named.values}) > 1:
        raise Refused(
            400,
            "alarms that were predicted and alarms that were raised are listed apart",
            code="invalidQuery",
        )
    return shelf.all


def _age(asked: Asked) -> str:
    age_s = asked.engine.model.age_s()
    return str(int(age_s)) if math.isfinite(age_s) else "0"


def _links(asked: Asked, query: Query, total: int) -> str:
    """Links to this page and the others (RFC 8288)."""
    parts = [
        part
        for part in asked.request.scope["query_string"].decode("ascii").split("&")
        if part and not part.startswith(("offset=", "limit="))
    ]
    where = f"{asked.engine.public_address}{asked.base}/{asked.resource.path}?"
    kept = "".join(f"{quote(part, safe=_SAFE)}&" for part in parts)

    def link(offset: int, relation: str) -> str:
        return f'<{where}{kept}offset={offset}&limit={query.limit}>; rel="{relation}"'

    links = [link(query.offset, "self"), link(0, "first")]
    if query.limit:
        if query.offset:
            links.append(link(max(0, min(query.offset, total) - query.limit), "prev"))
        if query.offset + query.limit < total:
            links.append(link(query.offset + query.limit, "next"))
        links.append(link(max(0, (total - 1) // query.limit * query.limit) if total else 0, "last"))
    return ", ".join(links)
