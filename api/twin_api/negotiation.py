"""Which form an answer gets: what HTTP's Accept header asks for against what there is (RFC 9110 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["best", "parameters"]


class _Range(NamedTuple):
    kind: str
    quality: float
    exact: int  # 2: a whole media type, 1: all of a type, 0: anything


def best(accept: str, offered: Sequence[str]) -> str | None:
    """The media type of `offered` (the preferred first) that `accept` likes best; None: it likes none."""
    ranges = [_read(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offered[0] if offered else None
    chosen, liked = None, 0.0
    for media_type in offered:
        fitting = [each for each in ranges if _fits(each.kind, media_type)]
        if not fitting:
            continue
        quality = max(fitting, key=lambda each: each.exact).quality  # the most specific one decides
        if quality > liked:
            chosen, liked = media_type, quality
    return chosen


def parameters(header: str) -> tuple[str, dict[str, str]]:
    """A media type, in lower case, and its parameters: the value of a Content-Type."""
    kind, *rest = header.split(";")
    found = {}
    for part in rest:
        name, _, value = part.partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    return kind.strip().lower(), found


def _read(part: str) -> _Range:
    kind, given = parameters(part)
    try:
        quality = min(1.0, max(0.0, float(given.get("q", "1"))))
    except ValueError:
        quality = 0.0
    return _Range(kind, quality, 0 if kind == "*/*" else 1 if kind.endswith("/*") else 2)


def _fits(wanted: str, media_type: str) -> bool:
    if wanted in ("*/*", media_type):
        return True
    return wanted.endswith("/*") and media_type.startswith(wanted[:-1])
