"""FILTERs that a domain may apply itself to what it is asked, so that fewer rows come. Owns which they are.

A conjunct goes along only where it says the same there as at the end: it speaks of variables that its own
group binds in every solution, and uses nothing but comparisons, IN, functions of strings and of a term's
kind. The query as it was asked is still evaluated over what came: a filter that stays here costs rows, never
truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pyoxigraph import Literal, NamedNode, Variable

__all__ = ["Filter", "filters_of"]

Word: TypeAlias = str | NamedNode | Literal | Variable

_COMPARED: Final = frozenset(("=", "!=", "<", ">", "<=", ">=", "IN", "NOT IN"))
_OF_ONE: Final = frozenset(
    (
        "BOUND",
        "DATATYPE",
        "LANG",
        "LCASE",
        "STR",
        "STRLEN",
        "UCASE",
        "isIRI",
        "isLITERAL",
        "isNUMERIC",
        "isURI",
    )
)
_OF_TWO: Final = frozenset(("CONTAINS", "LANGMATCHES", "STRENDS", "STRSTARTS"))
_XSD: Final = "http://www.w3.org/2001/XMLSchema#"
_PLAIN_NUMBERS: Final = {
    f"{_XSD}boolean": re.compile("true|false"),
    f"{_XSD}integer": re.compile(r"[0-9]{1,18}"),
    f"{_XSD}decimal": re.compile(r"[0-9]{1,12}\.[0-9]{1,12}"),
    f"{_XSD}double": re.compile(r"[0-9]{1,15}\.[0-9]{1,12}(?:[eE][+-]?[0-9]{1,2})?"),
}
"""rdflib has written numbers anew; these forms have one value, whoever reads them."""
_MOST_LISTED: Final = 200
_LONGEST_PATTERN: Final = 200
_LONGEST: Final = 8000
_DEEPEST: Final = 8  # brackets; guards refuse more than 16 in all


@dataclass(frozen=True, slots=True)
class Filter:
    """One conjunct of a FILTER, as the words that it is written with."""

    words: tuple[Word, ...]

    @property
    def variables(self) -> frozenset[Variable]:
        """What it speaks of."""
        return frozenset(word for word in self.words if isinstance(word, Variable))

    def text(self, names: Mapping[Variable, Variable]) -> str:
        """It in SPARQL, with other names for its variables."""
        return self.told(lambda word: str(names[word]) if isinstance(word, Variable) else str(word))

    def told(self, word: Callable[[NamedNode | Literal | Variable], str]) -> str:
        """It in SPARQL, with each term as `word` writes it."""
        return " ".join(part if isinstance(part, str) else word(part) for part in self.words)


def filters_of(expression: Any, certain: frozenset[Variable]) -> Iterator[Filter]:
    """The conjuncts of an expression (rdflib's) that may go along; `certain`: bound in all its solutions."""
    for conjunct in _conjuncts(expression):
        words = _boolean(conjunct, 0)
        if words is None:
            continue
        found = Filter(tuple(words))
        if found.variables and found.variables <= certain and len(found.told(str)) <= _LONGEST:
            yield found


def _conjuncts(node: Any) -> Iterator[Any]:
    if getattr(node, "name", "") == "ConditionalAndExpression":
        for part in (node.expr, *node.other):
            yield from _conjuncts(part)
    else:
        yield node


def _boolean(node: Any, depth: int) -> list[Word] | None:
    """A condition; None where something in it stays here."""
    if depth > _DEEPEST:
        return None
    match getattr(node, "name", ""):
        case "ConditionalAndExpression" | "ConditionalOrExpression" as kind:
            parts = [_boolean(part, depth + 1) for part in (node.expr, *node.other)]
            return _joined("&&" if "And" in kind else "||", parts)
        case "UnaryNot":
            inner = _boolean(node.expr, depth + 1)
            return None if inner is None else ["!", "(", *inner, ")"]
        case "RelationalExpression":
            return _compared(node, depth)
        case _:
            return _function(node, depth)


def _joined(sign: str, parts: list[list[Word] | None]) -> list[Word] | None:
    words: list[Word] = []
    for part in parts:
        if part is None:
            return None
        words += [*([sign] if words else []), "(", *part, ")"]
    return words


def _compared(node: Any, depth: int) -> list[Word] | None:
    if node.op not in _COMPARED:
        return None
    one = _operand(node.expr, depth)
    if one is None:
        return None
    if not node.op.endswith("IN"):
        other = _operand(node.other, depth)
        return None if other is None else [*one, node.op, *other]
    if not isinstance(node.other, list) or not 0 < len(node.other) <= _MOST_LISTED:
        return None
    listed: list[Word] = []
    for each in node.other:
        words = _operand(each, depth)
        if words is None:
            return None
        listed += [*([","] if listed else []), *words]
    return [*one, node.op, "(", *listed, ")"]


def _operand(node: Any, depth: int) -> list[Word] | None:
    """One side of a comparison."""
    if getattr(node, "name", "") == "UnaryMinus" and (number := _number(node.expr)) is not None:
        return ["-", number]
    number = _number(node)
    return [number] if number is not None else _function(node, depth)


def _function(node: Any, depth: int) -> list[Word] | None:
    """A variable, an IRI, a string, or what a function makes of them."""
    if depth > _DEEPEST:
        return None
    if (term := _term(node)) is not None:
        return [term]
    name = str(getattr(node, "name", "")).removeprefix("Builtin_")
    if name in _OF_ONE:
        given = [node.arg]
    elif name in _OF_TWO:
        given = [node.arg1, node.arg2]
    elif name == "REGEX" and _short(node.pattern) and (node.flags is None or _short(node.flags)):
        given = [node.text, node.pattern, *([] if node.flags is None else [node.flags])]
    else:
        return None
    listed: list[Word] = []
    for each in given:
        words = _function(each, depth + 1)
        if words is None:
            return None
        listed += [*([","] if listed else []), *words]
    return [name, "(", *listed, ")"]


def _term(node: Any) -> Word | None:
    from rdflib.term import Literal as RdfLiteral
    from rdflib.term import URIRef
    from rdflib.term import Variable as RdfVariable

    if isinstance(node, RdfVariable):
        return Variable(str(node))
    try:
        if isinstance(node, URIRef):
            return NamedNode(str(node))
    except ValueError:  # no absolute one
        return None
    if isinstance(node, RdfLiteral) and node.datatype is None and node.language is None:
        return Literal(str(node))
    return None


def _number(node: Any) -> str | None:
    """A number or a truth value, where it was written in a way that everybody reads alike."""
    from rdflib.term import Literal as RdfLiteral

    if not isinstance(node, RdfLiteral) or node.datatype is None:
        return None
    form = _PLAIN_NUMBERS.get(str(node.datatype))
    if form is None or not form.fullmatch(str(node)):
        return None
    return str(node) if str(node.datatype) != f"{_XSD}double" else f'"{node}"^^<{node.datatype}>'


def _short(node: Any) -> bool:
    term = _term(node)
    return isinstance(term, Literal) and len(term.value) <= _LONGEST_PATTERN
