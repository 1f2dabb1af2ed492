"""The first opinion of the guard: the words of a query, one by one, and its brackets. Owns the refusals."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.semantic.grammar import FUNCTIONS, WORDS
from domain_twin.semantic.tokens import Token, place

__all__ = ["MAX_DEPTH", "REFUSED", "check_depth", "check_words", "joined", "listed"]

MAX_DEPTH: Final = 16
"""Of brackets within brackets."""
REFUSED: Final = {
    "SERVICE": "a query reaches no other endpoint; ask the broker, which asks the domains that are concerned",
    "SILENT": "it belongs to SERVICE, which is refused",
    "FROM": "which graphs are asked is decided by who asks; leave FROM and FROM NAMED out",
    "NAMED": "which graphs are asked is decided by who asks; leave FROM NAMED out",
    "GRAPH": "a view is one graph; leave GRAPH and its braces out",
    "DESCRIBE": "what it answers is not defined; ask with CONSTRUCT { ?s ?p ?o } WHERE { … }",
    "RAND": "an answer must be the same when it is asked again, and in every domain",
    "UUID": "an answer must be the same when it is asked again, and in every domain",
    "STRUUID": "an answer must be the same when it is asked again, and in every domain",
    "LATERAL": "it is not of SPARQL 1.1; use a sub-select",
    "PREFIX": "declarations stand before the query",
    "BASE": "declarations stand before the query",
}
_UPDATES: Final = frozenset(
    (
        "LOAD",
        "INSERT",
        "DELETE",
        "CLEAR",
        "DROP",
        "CREATE",
        "ADD",
        "MOVE",
        "COPY",
        "WITH",
        "USING",
        "INTO",
        "DATA",
    )
)
_REFUSED_UPDATE: Final = "the twin follows its devices; nobody changes it by a query"
_BROKEN_IRI: Final = re.compile(r"<[^\s<>\"{}|^`\\]+([\s\"{}|^`\\])[^<>\n]*\Z")


def check_words(text: str, words: Sequence[Token], *, named_graphs: bool, services: frozenset[str]) -> None:
    """Refuse by name what is forbidden or unknown, before anything else is said of the text."""
    for index, word in enumerate(words):
        if word.kind != "WORD" or word.text == "a":
            continue
        name = word.text.upper()
        if name in _UPDATES:
            raise ContractError(f"query, {place(text, word.start)}: {name} is refused: {_REFUSED_UPDATE}")
        if (name == "GRAPH" and named_graphs) or (name in ("SERVICE", "SILENT") and services):
            if name == "SERVICE":
                _check_service(text, words[index + 1 : index + 3], services)
            continue
        if name in REFUSED:
            raise ContractError(f"query, {place(text, word.start)}: {name} is refused: {REFUSED[name]}")
        if name not in WORDS:
            if broken := _BROKEN_IRI.search(text, max(0, word.start - 200), word.start):
                bad = broken.group(1)
                raise ContractError(
                    f"query, {place(text, broken.start())}: an IRI cannot hold {bad!r}; write it"
                    " percent-encoded"
                )
            close = difflib.get_close_matches(name, WORDS, 1)
            hint = f"; did you mean {close[0]}?" if close else "; a name needs its prefix, a text its quotes"
            raise ContractError(f"query, {place(text, word.start)}: unknown word {word.text[:40]!r}{hint}")


def _check_service(text: str, following: Sequence[Token], services: frozenset[str]) -> None:
    name = next((word for word in following if word.text.upper() != "SILENT"), None)
    if name is not None and name.kind == "IRI" and name.text[1:-1] not in services:
        known = ", ".join(f"<{service}>" for service in sorted(services)[:8])
        raise ContractError(
            f"query, {place(text, name.start)}: SERVICE {name.text[:200]} is refused: it is no domain of this"
            f" federation; there are {known}"
        )
    if name is not None and name.kind == "VAR":
        raise ContractError(
            f"query, {place(text, name.start)}: SERVICE {name.text} is refused: name the domain by its IRI"
        )


def check_depth(text: str, words: Sequence[Token]) -> None:
    """Refuse brackets that do not match, or are too many. Raises ContractError, OverCapacity."""
    opened: list[Token] = []
    pairs = {")": "(", "]": "[", "}": "{"}
    for word in words:
        if word.kind in ("(", "[", "{"):
            opened.append(word)
            if len(opened) > MAX_DEPTH:
                raise OverCapacity(
                    f"query, {place(text, word.start)}: {len(opened)} brackets within each other,"
                    f" {MAX_DEPTH} at most"
                )
        elif word.kind in pairs:
            if not opened or opened[-1].kind != pairs[word.kind]:
                last = f"; '{opened[-1].text}' of {place(text, opened[-1].start)} is open" if opened else ""
                raise ContractError(f"query, {place(text, word.start)}: '{word.text}' closes nothing{last}")
            opened.pop()
    if opened:
        raise ContractError(f"query, {place(text, opened[-1].start)}: '{opened[-1].text}' is never closed")


def joined(words: Sequence[Token]) -> tuple[str, list[int]]:
    """The normal form, and where each word begins in it."""
    parts: list[str] = []
    offsets: list[int] = []
    at, last = 0, ""
    for word in words:
        close = word.kind in ("LANGTAG", "^^") or last == "^^"
        if word.kind in ("(", "NIL"):  # pyoxigraph knows CONCAT, COALESCE and BNODE only without a space
            close = last in FUNCTIONS
        if word.kind in ("*", "+", "?"):  # rdflib knows these signs of a path only where no space is before
            close = last in ("IRI", ")", "a")
        space = "" if close or not last else " "
        parts.append(space + word.text)
        offsets.append(at + len(space))
        at += len(space) + len(word.text)
        last = word.kind
        if last == "WORD":
            last = "a" if word.text == "a" else word.text.upper()
    return "".join(parts), offsets


def listed(expected: Sequence[str]) -> str:
    """What was expected, as a person lists it."""
    shown = list(expected[:8])
    if more := len(expected) - len(shown):
        shown.append(f"{more} others")
    return ", ".join(shown[:-1]) + (" or " if shown[1:] else "") + shown[-1]
