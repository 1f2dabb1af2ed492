"""The second opinion of the guard: rdflib's algebra of a query, every node of it on a list. Owns that list.

rdflib's grammar is shared and not safe for threads: the caller sees to it that one is here at a time.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.model.query import QueryForm
from domain_twin.semantic.grammar import FUNCTIONS
from domain_twin.semantic.guard_words import REFUSED, joined
from domain_twin.semantic.tokens import Token

__all__ = ["Meaning", "meaning_of"]

_RECURSION: Final = 6000
_XSD: Final = "http://www.w3.org/2001/XMLSchema#"
_CAST_NAMES: Final = """
    boolean byte date dateTime dateTimeStamp dayTimeDuration decimal double duration float gDay gMonth
    gMonthDay gYear gYearMonth int integer long negativeInteger nonNegativeInteger nonPositiveInteger
    positiveInteger short string time unsignedByte unsignedInt unsignedLong unsignedShort yearMonthDuration
"""
_CASTS: Final = frozenset(_XSD + name for name in _CAST_NAMES.split())
_GEO: Final = "http://www.opengis.net/def/function/geosparql/"
_NODES: Final = """
    SelectQuery AskQuery ConstructQuery Project Distinct Reduced OrderBy OrderCondition Slice Extend Join
    LeftJoin Minus Union Filter BGP Graph ToMultiSet values Group AggregateJoin vars TrueFilter Function
    literal InversePath RelationalExpression AdditiveExpression MultiplicativeExpression
    ConditionalOrExpression ConditionalAndExpression UnaryNot UnaryMinus UnaryPlus
    Aggregate_Count Aggregate_Sum Aggregate_Avg Aggregate_Min Aggregate_Max Aggregate_Sample
    Aggregate_GroupConcat
    Builtin_NOTEXISTS Builtin_sameTerm Builtin_isIRI Builtin_isURI Builtin_isBLANK Builtin_isLITERAL
    Builtin_isNUMERIC
"""
_ALGEBRA: Final = frozenset(_NODES.split()) | {f"Builtin_{word}" for word in FUNCTIONS}
_WITH_SERVICES: Final = _ALGEBRA | {"ServiceGraphPattern"}
_NUMBERED: Final = "urn:x-service:"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What rdflib reads in a query."""

    algebra: Any
    patterns: int
    form: QueryForm
    variables: tuple[str, ...]
    services: tuple[str, ...] = ()


def meaning_of(words: Sequence[Token], max_patterns: int, services: frozenset[str]) -> Meaning:
    """What rdflib reads in the words, if all of it is allowed. Raises ContractError, OverCapacity."""
    readable, named = _as_graphs(words) if services else (words, [])
    from rdflib.plugins.sparql.algebra import translateQuery
    from rdflib.plugins.sparql.parser import Query

    try:
        with _deep():
            # Not parseQuery: it would decode escapes that `tokens` has written as they must stay.
            algebra = translateQuery(Query.parse_string(joined(readable)[0], parse_all=True)).algebra
            _translate_exists(algebra)
        _with_services(algebra, named)
    except RecursionError:
        raise OverCapacity("query: nested too deep to be read; use fewer brackets and operators") from None
    except Exception as error:  # rdflib raises its own, pyparsing's and plain ones
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ContractError(f"query: its meaning cannot be made out ({reason})") from None
    patterns = _check_algebra(algebra, _WITH_SERVICES if services else _ALGEBRA, max_patterns)
    form = {"SelectQuery": QueryForm.BINDINGS, "AskQuery": QueryForm.BOOLEAN}.get(
        algebra.name, QueryForm.TRIPLES
    )
    return Meaning(
        algebra=algebra,
        patterns=patterns,
        form=form,
        variables=_answered(algebra, words) if form is QueryForm.BINDINGS else (),
        services=tuple(dict.fromkeys(iri for iri, _ in named)),
    )


def _check_algebra(algebra: Any, allowed: frozenset[str], max_patterns: int) -> int:
    """Refuse every node that is not on the list; the number of triple patterns."""
    patterns = 0
    for name, node in _nodes(algebra):
        if name not in allowed:
            raise ContractError(f"query: {name} is refused: it is not among what may be asked")
        if name == "BGP":
            patterns += len(node["triples"])
        elif name == "Function" and not _known_function(str(node["iri"])):
            raise ContractError(
                f"query: the function <{node['iri']}> is refused; known are the types of XML Schema, such as"
                f" xsd:integer, and GeoSPARQL's <{_GEO}…>"
            )
        elif name.endswith("Query") and node.get("datasetClause"):
            raise ContractError(f"query: FROM is refused: {REFUSED['FROM']}")
    if patterns > max_patterns:
        raise OverCapacity(f"query: {patterns} triple patterns, {max_patterns} at most; ask in parts")
    return patterns


@contextlib.contextmanager
def _deep() -> Iterator[None]:
    """Let rdflib's parser recurse: it does so for every triple of a block. One thread at a time is here."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(max(usual, _RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(usual)


def _translate_exists(algebra: Any) -> None:
    """Make algebra of EXISTS where rdflib leaves it as it was parsed: in SELECT, HAVING and ORDER BY."""
    from rdflib.plugins.sparql.algebra import translateGroupGraphPattern, translatePath, traverse

    for name, node in _nodes(algebra):
        if name in ("Builtin_EXISTS", "Builtin_NOTEXISTS") and "graph" not in vars(node):
            node.graph = translateGroupGraphPattern(traverse(node["graph"], visitPost=translatePath))


def _as_graphs(words: Sequence[Token]) -> tuple[list[Token], list[tuple[str, bool]]]:
    """SERVICE written as GRAPH of a numbered name, and what the numbers stand for: domain and SILENT.

    rdflib 7.6 cannot parse SERVICE within SERVICE, and leaves what one asks unread.
    """
    written: list[Token] = []
    named: list[tuple[str, bool]] = []
    silent = False
    for word in words:
        name = word.text.upper() if word.kind == "WORD" else ""
        if name == "SERVICE":
            written.append(Token("WORD", "GRAPH", word.start))
        elif name == "SILENT":
            silent = True
        elif written and word.kind == "IRI" and written[-1].text == "GRAPH":
            written.append(Token("IRI", f"<{_NUMBERED}{len(named)}>", word.start))
            named.append((word.text[1:-1], silent))
            silent = False
        else:
            written.append(word)
    return written, named


def _with_services(algebra: Any, named: Sequence[tuple[str, bool]]) -> None:
    """Make of each numbered graph what it stands for: ServiceGraphPattern with term, silent and graph."""
    from rdflib.term import URIRef

    for name, node in _nodes(algebra):
        if name == "Graph" and str(node.term).startswith(_NUMBERED):
            iri, silent = named[int(str(node.term).removeprefix(_NUMBERED))]
            node.name = "ServiceGraphPattern"
            node["term"], node["silent"], node["graph"] = URIRef(iri), silent, node["p"]


def _nodes(root: Any) -> Iterator[tuple[str, Any]]:
    """Every named node of an algebra, wherever it hides: in lists, in expressions, in paths."""
    from rdflib.paths import Path
    from rdflib.plugins.sparql.parserutils import CompValue

    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, CompValue):
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node.name, node
            # What rdflib makes of EXISTS is an attribute; the item of that name has lost its filters.
            waiting += {**node, **vars(node)}.values()
        elif isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, (list, tuple, set, frozenset)):
            waiting += node
        elif isinstance(node, Path):
            waiting += vars(node).values()


def _answered(algebra: Any, words: Sequence[Token]) -> tuple[str, ...]:
    """What SELECT answers with. For `*` not as rdflib says: it counts those inside EXISTS and MINUS."""
    named = tuple(map(str, algebra.PV))
    if not any(word.kind == "*" for word in words[1:3]):
        return named
    node = algebra.p
    while node.name != "Project":
        node = node.p
    return tuple(sorted(_in_scope(node.p)))


def _in_scope(node: Any) -> set[str]:
    """The variables that a pattern may bind (SPARQL 1.1 18.2.1)."""
    from rdflib.term import Variable

    match node.name:
        case "BGP":
            return {str(term) for triple in node.triples for term in triple if isinstance(term, Variable)}
        case "Project":
            return set(map(str, node.PV))
        case "Extend":
            return _in_scope(node.p) | {str(node.var)}
        case "Graph" | "ServiceGraphPattern":
            term = {str(node.term)} if isinstance(node.term, Variable) else set()
            return term | _in_scope(node.p)
        case "Minus":
            return _in_scope(node.p1)
        case "values":
            return {str(name) for row in node.res for name in row}
    return {name for key in ("p", "p1", "p2") if key in node for name in _in_scope(node[key])}


def _known_function(iri: str) -> bool:
    return iri in _CASTS or iri.startswith(_GEO)
