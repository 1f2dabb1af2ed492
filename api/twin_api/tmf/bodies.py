"""Reads bodies of requests as JSON: bounded, and as strictly as the broker, which is told of them next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from domain_twin.errors import ContractError, OverCapacity
from federation.partners.documents import MAX_BYTES, merge, parse
from twin_api.negotiation import parameters
from twin_api.shelf import encode
from twin_api.tmf.errors import Refused

__all__ = ["MAX_BODY", "MAX_DEPTH", "check_size", "read_object", "without_nulls"]

MAX_BODY: Final = MAX_BYTES
"""Of one resource: what the broker takes."""
MAX_DEPTH: Final = 32
_BIGGEST: Final = (1 << 63) - 1


async def read_object(request: Request, accepted: tuple[str, ...], limit: int = MAX_BODY) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused: 400, 413, 415."""
    kind, details = parameters(request.headers.get("content-type", ""))
    if kind not in accepted:
        raise Refused(
            415,
            f"Content-Type {kind or 'is missing'}; send {' or '.join(accepted)}",
            **({"Accept_Patch": ", ".join(accepted)} if request.method == "PATCH" else {}),
        )
    if details.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refused(415, "JSON is in UTF-8 (RFC 8259 8.1); leave the charset out")
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Refused(415, "send the body without a Content-Encoding")
    return parse_object(await _octets(request, min(limit, MAX_BODY)))


async def _octets(request: Request, limit: int) -> bytes:
    said = request.headers.get("content-length", "")
    too_large = Refused(413, f"a body has at most {limit} octets", Connection="close")
    if said.isdigit() and int(said[:20]) > limit:
        raise too_large
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise too_large
    except ClientDisconnect:
        raise Refused(400, "the body ended too early") from None
    return bytes(body)


def parse_object(octets: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused (400) for anything else, and for what others would read otherwise."""
    try:
        value = parse(octets, "the body", max_depth=MAX_DEPTH)
    except ContractError as error:
        raise _bad(str(error)) from None
    except OverCapacity as error:
        raise Refused(413, str(error), Connection="close") from None
    _check(value)
    return value


def check_size(body: Mapping[str, Any]) -> None:
    """Refuse what the broker would not take: 1E15 is longer as it is kept. Raises Refused (413)."""
    if (size := len(encode(body))) > MAX_BODY:
        raise Refused(413, f"the body has {size} octets as it is kept, {MAX_BODY} at most")


def _bad(sentence: str) -> Refused:
    return Refused(400, sentence, code="invalidBody")


def _check(value: Any) -> None:
    """Refuse what filters or a database would choke on; how deep it is has been looked at."""
    if isinstance(value, str):
        if "\x00" in value:
            raise _bad("the body: a text holds the character U+0000, which cannot be kept")
    elif isinstance(value, dict):
        for name, each in value.items():
            _check(name)
            _check(each)
    elif isinstance(value, list):
        for each in value:
            _check(each)
    elif isinstance(value, int) and abs(value) > _BIGGEST:
        raise _bad(f"the body: the number {str(value)[:40]} is too large")


def without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose attributes that are null are left out, as a merge onto nothing would have it."""
    merged = merge({}, body)
    assert isinstance(merged, dict)
    return merged
