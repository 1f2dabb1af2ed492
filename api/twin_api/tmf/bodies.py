"""Reads JSON bodies: bounded, strict (RFC 8259, RFC 7493), never half of one. Merges patches (RFC 7396)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from twin_api.negotiation import parameters
from twin_api.tmf.errors import Refused

__all__ = ["MAX_BODY", "MAX_DEPTH", "merge", "read_object", "without_nulls"]

MAX_BODY: Final = 1 << 20
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
    return parse_object(await _octets(request, limit))


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
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"the body is not UTF-8 (octet {error.start})") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise _bad(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise _bad("the body must be a JSON object")
    _sound(value, 1)
    return value


def _bad(sentence: str) -> Refused:
    return Refused(400, sentence, code="invalidBody")


def _too_deep() -> Refused:
    return _bad(f"the body is nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _bad(f"the name {twice[:100]!r} stands twice in one object")
    return made


def _constant(name: str) -> Any:
    raise _bad(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _bad(f"the number {text[:40]} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > _BIGGEST:
        raise _bad(f"the number {text[:40]} is too large")
    return number


def _sound(value: Any, depth: int) -> None:
    """Refuse nesting without end, and text that a store or a reader would choke on."""
    if isinstance(value, str):
        _sound_text(value)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, dict):
            for name, each in value.items():
                _sound_text(name)
                _sound(each, depth + 1)
        else:
            for each in value:
                _sound(each, depth + 1)


def _sound_text(text: str) -> None:
    if "\x00" in text:
        raise _bad("a text holds the character U+0000, which cannot be kept")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad("a text holds half of a surrogate pair (RFC 8259 8.2)") from None


def merge(target: Any, patch: Any) -> Any:
    """A value with a merge patch applied (RFC 7396 2); neither argument is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose attributes that are null are left out, as a merge onto nothing would have it."""
    merged = merge({}, body)
    assert isinstance(merged, dict)
    return merged
