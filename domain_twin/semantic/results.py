"""What answers look like: media types, the wire's raw answers made whole, and one form turned into another.

SPARQL 1.1 Query Results JSON, XML, CSV and TSV; triples as Turtle, N-Triples and JSON-LD. pyoxigraph writes
them all; what is owned here is which is meant, and how an answer ends that a limit has cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyoxigraph as ox

from domain_twin.errors import ContractError
from domain_twin.model.query import QueryForm
from domain_twin.semantic.tokens import PREFIXES

__all__ = ["FORMATS", "Format", "convert", "format_of", "media_type_of", "whole"]


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write answers. The first media type is its own, the others are accepted for it."""

    name: str
    media_types: tuple[str, ...]
    triples: bool = False
    """For CONSTRUCT, and not for SELECT and ASK."""
    boolean: bool = True
    """Whether it has a form for ASK."""


FORMATS: Final[tuple[Format, ...]] = (
    Format("json", ("application/sparql-results+json", "application/json")),
    Format("xml", ("application/sparql-results+xml", "application/xml", "text/xml")),
    Format("csv", ("text/csv",), boolean=False),
    Format("tsv", ("text/tab-separated-values",), boolean=False),
    Format("turtle", ("text/turtle", "application/x-turtle"), triples=True),
    Format("n-triples", ("application/n-triples", "text/plain"), triples=True),
    Format("json-ld", ("application/ld+json", "application/json"), triples=True),
)
_ROWS: Final = {
    "json": ox.QueryResultsFormat.JSON,
    "xml": ox.QueryResultsFormat.XML,
    "csv": ox.QueryResultsFormat.CSV,
    "tsv": ox.QueryResultsFormat.TSV,
}
_TRIPLES: Final = {
    "turtle": ox.RdfFormat.TURTLE,
    "n-triples": ox.RdfFormat.N_TRIPLES,
    "json-ld": ox.RdfFormat.JSON_LD,
}
_ROW_END: Final = b'},{"'  # a quote in a string is escaped: these octets are between two rows, nowhere else


def format_of(name: str, form: QueryForm) -> Format:
    """The format of this name (empty: the first that fits). Raises ContractError."""
    fitting = [
        each
        for each in FORMATS
        if each.triples is (form is QueryForm.TRIPLES) and (each.boolean or form is not QueryForm.BOOLEAN)
    ]
    for each in fitting:
        if name in ("", each.name, *each.media_types):
            return each
    what = {"bindings": "SELECT", "boolean": "ASK", "triples": "CONSTRUCT"}[form]
    raise ContractError(
        f"format: {name!r} is none for {what}; there are {', '.join(each.name for each in fitting)}"
    )


def media_type_of(fitting: Format) -> str:
    """What the Content-Type says of it."""
    own = fitting.media_types[0]
    return f"{own}; charset=utf-8" if own.startswith("text/") else own


def whole(
    raw: bytes, form: QueryForm, max_rows: int, *, cut: bool, variables: Sequence[str] = ()
) -> tuple[bytes, int, bool]:
    """An answer with at most `max_rows` rows, well formed; how many it has; whether there were more.

    `raw` is what an engine has written so far: SPARQL JSON as pyoxigraph writes it, or N-Triples. `cut`: it
    may end anywhere. `variables` are named where it was cut before its head. Not for the event loop where it
    has megabytes.
    """
    if form is QueryForm.BOOLEAN:
        return raw, 1, False
    if form is QueryForm.TRIPLES:
        return _lines(raw, max_rows)
    if cut:
        raw = _closed(raw, variables)
    if b"[{}" in raw or b",{}" in raw:  # perhaps rows without a value, which look like other things
        document = json.loads(raw)
        rows = document["results"]["bindings"]
        if len(rows) <= max_rows:
            return raw, len(rows), False
        document["results"]["bindings"] = rows[:max_rows]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), max_rows, True
    if raw.endswith(b"[]}}"):
        return raw, 0, False
    rows = raw.count(_ROW_END) + 1
    if rows <= max_rows:
        return raw, rows, False
    at = 0
    for _ in range(max_rows):
        at = raw.index(_ROW_END, at + 1)
    return raw[: at + 1] + b"]}}", max_rows, True


def _closed(raw: bytes, variables: Sequence[str]) -> bytes:
    """What was cut anywhere, up to its last whole row."""
    last = raw.rfind(_ROW_END)
    if last >= 0:
        return raw[: last + 1] + b"]}}"
    start = raw.find(b'"bindings":[')
    if start < 0:
        head = json.dumps(list(variables), separators=(",", ":"), ensure_ascii=False).encode()
        return b'{"head":{"vars":%b},"results":{"bindings":[]}}' % head
    return raw[: start + len(b'"bindings":[')] + b"]}}"


def _lines(raw: bytes, max_rows: int) -> tuple[bytes, int, bool]:
    raw = raw[: raw.rfind(b"\n") + 1]
    rows = raw.count(b"\n")
    if rows <= max_rows:
        return raw, rows, False
    at = -1
    for _ in range(max_rows):
        at = raw.index(b"\n", at + 1)
    return raw[: at + 1], max_rows, True


def convert(results: bytes, form: QueryForm, wanted: Format) -> bytes:
    """Turn an answer (SPARQL JSON, N-Triples) into another form. Not for the event loop where it is large."""
    if wanted.name in ("json", "n-triples"):
        return results
    if wanted.triples:
        results = b"\n".join(sorted(results.splitlines()))  # what is of one subject stands together
        return (
            ox.serialize(
                ox.parse(results, format=ox.RdfFormat.N_TRIPLES),
                format=_TRIPLES[wanted.name],
                prefixes=dict(PREFIXES),
            )
            or b""
        )
    parsed = ox.parse_query_results(results, format=ox.QueryResultsFormat.JSON)
    return parsed.serialize(format=_ROWS[wanted.name]) or b""
