"""SPARQL results for people: rows as a table, IRIs in short. Owns no format that programs read.

Takes SPARQL 1.1 Query Results JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from domain_twin.errors import ContractError
from domain_twin.semantic.names import AUTHORITY, plain_name
from federation.cli.sparql_text import PREFIXES

if TYPE_CHECKING:
    from rich.table import Table

    from domain_twin.model.query import QueryPart

__all__ = ["answer_of_ask", "parts_table", "remark", "rows_table", "short"]

_YANG = re.compile(re.escape(AUTHORITY) + r"/ns/yang(?:-[a-z]+)?/([^#]+)#(.+)")
_XSD = PREFIXES["xsd"]
_NUMBERS = {
    f"{_XSD}{name}" for name in ("integer", "decimal", "double", "float", "long", "int", "unsignedLong")
}
_WHOLE = {f"{_XSD}{name}" for name in ("integer", "long", "int", "unsignedLong")}


def rows_table(results: bytes, query: str = "") -> Table:
    """The rows of a SELECT; nothing is cut, long cells are folded. Raises ContractError.

    Of `SELECT *` the columns stand in the order in which `query` has its variables first.
    """
    from rich.table import Table

    from federation.cli.query_hints import in_order

    names, rows = _rows(results)
    names = in_order(query, names)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        cells = [row[name] for row in rows if name in row]
        right = bool(cells) and all(cell.get("datatype") in _NUMBERS for cell in cells)
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row[name]) if name in row else "" for name in names))
    return table


def answer_of_ask(results: bytes) -> bool:
    """What an ASK answers. Raises ContractError."""
    try:
        return bool(json.loads(results)["boolean"])
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError("the twin's answer to ASK is no SPARQL Results JSON") from error


def _rows(results: bytes) -> tuple[Sequence[str], Sequence[Mapping[str, Mapping[str, str]]]]:
    try:
        document: Any = json.loads(results)
        return document["head"]["vars"], document["results"]["bindings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError("the twin's answer to SELECT is no SPARQL Results JSON") from error


def cell(term: Mapping[str, str]) -> Any:
    """One term as people read it: numbers to six digits, names in short."""
    from rich.text import Text

    value, kind = term["value"], term.get("datatype", "")
    if term["type"] == "uri":
        return Text(short(value))
    if kind in _NUMBERS and kind not in _WHOLE:
        try:
            return Text(f"{float(value):.6g}")
        except ValueError:
            return Text(value)
    return Text(value)


def short(iri: str) -> str:
    """An IRI of this product as people name the thing; others with a known prefix; else whole.

    `transport/urn:ndt:transport:warsaw` is an element, `ran/cell-1` a point, `ndt:Link` a term.
    """
    if name := plain_name(iri):
        return name
    if term := _YANG.match(iri):
        return f"{term[1]}:{term[2]}"
    for prefix, namespace in PREFIXES.items():
        if iri.startswith(namespace) and len(iri) > len(namespace):
            return f"{prefix}:{unquote(iri[len(namespace) :])}"
    return f"<{iri}>"


def parts_table(parts: Sequence[QueryPart]) -> Table:
    """Each domain's part in an answer."""
    from rich.text import Text

    from federation.cli.tables import grid, name_of

    table = grid("domain", "answer", "requests", "rows", "remark", right=("requests", "rows"), wraps="remark")
    for part in parts:
        style = "good" if part.outcome.value == "ok" else "bad"
        table.add_row(
            name_of(part.domain),
            Text(part.outcome.value, style),
            str(part.requests) if part.requests else "",
            f"{part.rows:,}" if part.rows else "",
            part.reason,
        )
    return table


def remark(parts: Iterable[QueryPart], stopped_by: str) -> str:
    """Why an answer is not all there is; empty where it is."""
    words = [
        f"{part.domain}: {part.outcome.value}{f' ({part.reason})' if part.reason else ''}"
        for part in parts
        if part.outcome.value != "ok"
    ]
    partial = f"partial, without all of {'; '.join(words)}" if words else ""
    return "; ".join(text for text in (partial, f"cut short: {stopped_by}" if stopped_by else "") if text)
