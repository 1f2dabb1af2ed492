"""A query as it is typed: where it comes from, the prefixes that go without saying, where in it an error is.

Owns the known prefixes and the caret; what a query may ask is the twin's to say.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain_twin.errors import ConfigError
from domain_twin.semantic.names import AUTHORITY, NDT

__all__ = ["PREFIXES", "QueryText", "caret", "everything", "read", "tokens_of"]

STDIN = "-"
MAX_BYTES = 1 << 20
PREFIXES: Mapping[str, str] = {
    "ndt": NDT,
    "id": f"{AUTHORITY}/id/",
    "record": f"{AUTHORITY}/record/",
    "graph": f"{AUTHORITY}/g/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "owl": "http://www.w3.org/2002/07/owl#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "prov": "http://www.w3.org/ns/prov#",
    "dcterms": "http://purl.org/dc/terms/",
    "sosa": "http://www.w3.org/ns/sosa/",
}
"""Prefixes that need no declaration. So does the name of a YANG module with a hyphen: its terms."""
YANG_NAMESPACE = f"{AUTHORITY}/ns/yang/"

_TOKEN = re.compile(
    r"""(?P<skip>\#[^\n]*
      | <[^<>"{}|^`\\\x00-\x20]*>
      | \"{3}.*?\"{3} | '{3}.*?'{3}
      | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
      | [?$]\w+ | _:\w+ )
    | (?P<declared>\bPREFIX\s+(?P<own>[A-Za-z][\w.-]*)?:)
    | (?P<used>[A-Za-z](?:[\w.-]*[\w-])?):[\w.%-]*
    | \b(?P<form>SELECT|ASK|CONSTRUCT|DESCRIBE)\b""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_FORM = re.compile(r"\b(?:SELECT|ASK|CONSTRUCT|DESCRIBE|INSERT|DELETE|LOAD|CLEAR|DROP)\b", re.IGNORECASE)
_PLACE = re.compile(r"line (\d+), column (\d+)")
_CONTEXT = 2


@dataclass(frozen=True, slots=True)
class QueryText:
    """A query: what was typed, what is sent (prefixes before it, on lines of their own), and its name."""

    typed: str
    name: str
    prologue: str

    @property
    def constructs(self) -> bool:
        """Whether it answers with triples, as far as can be told without reading it properly."""
        words = (token["form"] for token in _TOKEN.finditer(self.typed))
        return next((word.upper() for word in words if word), "") in ("CONSTRUCT", "DESCRIBE")

    @property
    def sent(self) -> str:
        """What goes to the twin."""
        return self.prologue + self.typed


def read(source: str) -> QueryText:
    """A query from a file, from standard input (`-`), or the words themselves. Raises ConfigError."""
    if source == STDIN:
        return _text(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    if _FORM.search(source) and "{" in source:
        return _text(source.encode(), "the query")
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise ConfigError(
            f"{source}: cannot be read ({why}), and it is no query: that would have SELECT, ASK or"
            " CONSTRUCT, and braces"
        ) from error
    return _text(data, source)


def everything() -> QueryText:
    """The query that answers with all that may be seen."""
    return QueryText("CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }", "everything", "")


def _text(data: bytes, name: str) -> QueryText:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 20} MiB, which no query is")
    try:
        typed = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: is not text in UTF-8 (octet {error.start})") from error
    if not typed.strip():
        raise ConfigError(f"{name}: empty; write a query, such as SELECT ?s WHERE {{ ?s a ndt:Service }}")
    return QueryText(typed, name, prologue(typed))


def prologue(query: str) -> str:
    """Declarations of the known prefixes that `query` uses and does not declare; each on its own line."""
    declared, used = set(), {}
    for token in _TOKEN.finditer(query):
        if token["declared"]:
            declared.add(token["own"] or "")
        elif token["used"]:
            used[token["used"]] = _namespace(token["used"])
    return "".join(f"PREFIX {name}: <{iri}>\n" for name, iri in used.items() if iri and name not in declared)


def tokens_of(query: str) -> list[str]:
    """Variables and prefixed names of a query, as they stand in it; nothing of comments and strings."""
    return [
        token[0]
        for token in _TOKEN.finditer(query)
        if token["used"] or token[0][0] == "$" or token[0][0] == "?"
    ]


def _namespace(prefix: str) -> str:
    if prefix in PREFIXES:
        return PREFIXES[prefix]
    return f"{YANG_NAMESPACE}{prefix}#" if "-" in prefix else ""


def caret(text: QueryText, message: str) -> str:
    """`message` with its position as the typed query has it, and below it that line with a caret.

    A message without a position in the query stays as it is.
    """
    found = _PLACE.search(message)
    if not found:
        return message
    added = text.prologue.count("\n")
    line, column = int(found[1]) - added, int(found[2])
    lines = text.typed.splitlines() or [""]
    if not 1 <= line <= len(lines):
        if line < 1:
            return message
        line, column = len(lines), len(lines[-1]) + 1
    told = message[: found.start()] + f"line {line}, column {column}" + message[found.end() :]
    first = max(1, line - _CONTEXT)
    width = len(str(line))
    shown = [f"  {number:>{width}} | {_flat(lines[number - 1])}" for number in range(first, line + 1)]
    shown.append(" " * (width + 5 + column - 1) + "^")
    return "\n".join([f"{text.name}, {told.removeprefix('query, ')}", *shown])


def _flat(line: str) -> str:
    """A tab is as wide as its column says, which is one."""
    return line.replace("\t", " ").rstrip()
