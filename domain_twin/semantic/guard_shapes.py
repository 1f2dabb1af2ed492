"""Queries that differ only in the elements and texts that they name: one shape, read once.

Reading a query takes rdflib's parser ten milliseconds, putting other names into what was read a tenth of one.
What may differ is an IRI of an element or a record, and a plain string: whichever of them stands there, the
grammar, the algebra and what is refused are the same. Vocabulary, functions, datatypes and the strings that
carry a language or a type stay a part of the shape. The engine gets the query's own words, never the shape's.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from domain_twin.semantic.names import AUTHORITY
from domain_twin.semantic.tokens import Token

__all__ = ["Shape", "shape_of", "with_names"]

_NAMES: Final = (f"<{AUTHORITY}/id/", f"<{AUTHORITY}/record/")
_NAME: Final = "urn:x-fedtwin-name:"
_TEXT: Final = "x-fedtwin-text:"
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A query's words with numbers in the place of names and texts, and what the numbers stand for."""

    words: list[Token]
    names: Mapping[str, str]
    """By what stands in the algebra: an IRI, or the value of a string."""


def shape_of(words: Sequence[Token]) -> Shape | None:
    """The shape of a query; None where nothing in it could be another."""
    if any(_NAME in word.text or _TEXT in word.text for word in words):
        return None
    numbers: dict[str, str] = {}
    names: dict[str, str] = {}
    shaped = []
    for index, word in enumerate(words):
        before = words[index - 1].kind if index else ""
        after = words[index + 1].kind if index + 1 < len(words) else ""
        if word.kind == "IRI" and word.text.startswith(_NAMES) and before != "^^":
            stands = numbers.setdefault(word.text, f"{_NAME}{len(numbers)}")
            names[stands] = word.text[1:-1]
            shaped.append(replace(word, text=f"<{stands}>"))
        elif word.kind == "STRING" and after not in ("^^", "LANGTAG") and before != "=":
            # SEPARATOR = "…" is a part of the shape, and with it all that is compared.
            stands = numbers.setdefault(word.text, f"{_TEXT}{len(numbers)}")
            names[stands] = _ESCAPE.sub(lambda m: _ESCAPED.get(m.group(1), m.group(1)), word.text[1:-1])
            shaped.append(replace(word, text=f'"{stands}"'))
        else:
            shaped.append(word)
    return Shape(shaped, names) if names else None


def with_names(node: Any, names: Mapping[str, str]) -> Any:
    """What was read of a shape, as if it had been read of a query with these names."""
    from rdflib.paths import Path
    from rdflib.plugins.sparql.parserutils import CompValue
    from rdflib.term import Literal, URIRef

    def put(node: Any) -> Any:
        if isinstance(node, URIRef):
            return URIRef(names[str(node)]) if str(node) in names else node
        if isinstance(node, Literal):
            plain = node.datatype is None and node.language is None
            return Literal(names[str(node)]) if plain and str(node) in names else node
        if isinstance(node, CompValue):
            new = CompValue(node.name, **{key: put(value) for key, value in node.items()})
            for key, value in vars(node).items():  # EXISTS keeps its pattern as an attribute
                if key not in ("name", "ctx", "_evalfn"):
                    setattr(new, key, put(value))
            return new
        if isinstance(node, Path):
            turned = copy.copy(node)
            for key, value in vars(node).items():
                setattr(turned, key, put(value))
            return turned
        if isinstance(node, dict):
            return {put(key): put(value) for key, value in node.items()}
        if isinstance(node, list | tuple | set | frozenset):
            return type(node)(put(part) for part in node)
        return node

    return put(node)
