"""What may be asked in SPARQL, decided before an engine sees the text. Owns allow-list, limits and cache.

Both engines that this product uses fetch what SERVICE and LOAD name, and one reads local files through FROM.
So nothing that others wrote reaches one of them as it is. A text passes three opinions: a grammar without
the forbidden parts, which also says where an error is; an allow-list over the algebra that rdflib makes of it
and, in the worker, pyoxigraph's own parser. What runs is never the text as written but its normal form (see
`tokens`).

What a view hides is not kept here: it is not in the graph that a worker asks (see `workers`).
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyoxigraph as ox

from domain_twin.errors import ContractError, OverCapacity, TwinError
from domain_twin.model.query import QueryForm
from domain_twin.semantic.grammar import FUNCTIONS, WORDS, misfit
from domain_twin.semantic.guard_shapes import shape_of, with_names
from domain_twin.semantic.tokens import Token, place, tokens

__all__ = ["MAX_BINDINGS", "MAX_DEPTH", "MAX_LETTERS", "MAX_PATTERNS", "MAX_WORDS", "Guarded", "guarded"]

MAX_LETTERS: Final = 65_536
MAX_WORDS: Final = 6_000
MAX_DEPTH: Final = 16
"""Of brackets within brackets."""
MAX_PATTERNS: Final = 100
MAX_BINDINGS: Final = 10_000
"""Rows of a block of bindings."""
_KEPT: Final = 256
_RECURSION: Final = 6000
_SIDES: Final = 16  # of a UNION, each of which gets a copy of a block of bindings

_REFUSED: Final = {
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
_BROKEN_IRI: Final = re.compile(r"<[^\s<>\"{}|^`\\]+([\s\"{}|^`\\])[^<>\n]*\Z")
_VARIABLE: Final = re.compile(r"[^\W]\w*")


@dataclass(frozen=True, slots=True)
class Guarded:
    """A query that may be answered. `text` is what an engine gets; equal texts mean equal questions."""

    text: str
    form: QueryForm
    variables: tuple[str, ...]
    """What SELECT answers with, in its order, without the question mark."""
    algebra: Any = field(compare=False, repr=False)
    """The query in rdflib's algebra (`rdflib.plugins.sparql.sparql.Query.algebra`), IRIs in full."""
    patterns: int
    """Triple patterns and paths in it, sub-selects included."""
    services: tuple[str, ...] = ()
    """What SERVICE names: such a query is planned, no engine gets it."""
    named_graphs: bool = False
    """Whether it reaches into named graphs by GRAPH."""
    _where: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    """Offsets of the groups that a block of bindings joins; none: it goes to the end instead."""
    _ends_in_values: bool = field(default=False, compare=False, repr=False)

    def bound(self, variables: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """The text joined with a block of bindings: terms of N-Triples, "" where a variable is not bound.

        Terms are read and written anew, never pasted. Raises ContractError.
        """
        for name in variables:
            if not _VARIABLE.fullmatch(name):
                raise ContractError(f"bindings: {name!r} is no name of a variable; letters, digits and _ are")
        if len(set(variables)) != len(variables):
            raise ContractError(f"bindings: a variable is named twice in {', '.join(variables)}")
        lines = []
        for row in rows:
            if len(row) != len(variables):
                raise ContractError(f"bindings: a row has {len(row)} values for {len(variables)} variables")
            lines.append(f"( {' '.join(_term(value) if value else 'UNDEF' for value in row)} )")
        if len(lines) > MAX_BINDINGS:
            raise OverCapacity(f"bindings: {len(lines)} rows, {MAX_BINDINGS} at most; ask in blocks")
        if not variables:
            return self.text
        block = f"VALUES ( {' '.join('?' + name for name in variables)} ) {{ {' '.join(lines)} }}"
        if self._where:
            # Joined inside, the engine starts from it: five times faster than at the end, and equal.
            text = self.text
            for first, last in reversed(self._where):
                text = f"{text[:first]}{{ {block} {text[first:last]} }}{text[last:]}"
            return text
        if self._ends_in_values:
            raise ContractError("bindings: a query with aggregates and a VALUES at its end takes no others")
        return f"{self.text} {block}"


def guarded(
    text: str,
    *,
    max_patterns: int = MAX_PATTERNS,
    named_graphs: bool = False,
    services: Iterable[str] = (),
) -> Guarded:
    """Read a query. `services` are IRIs that SERVICE may name, `named_graphs` allows GRAPH.

    Raises ContractError with the place and what would be accepted, OverCapacity where it is too large.
    Milliseconds to tens of them for a new text, and it holds the interpreter: not on an event loop.
    """
    key = (text, max_patterns, named_graphs, tuple(sorted(services)))
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            kept = _cache[key]
        else:
            kept = None
    if kept is None:
        with _parsing:  # rdflib's grammar is shared, and two at once starve everything else
            kept = _read(text, max_patterns, named_graphs, frozenset(services))
        with _lock:
            _cache[key] = kept
            while len(_cache) > _KEPT:
                _cache.popitem(last=False)
    if isinstance(kept, Guarded):
        return kept
    kind, sentence = kept
    raise kind(sentence)


_lock = threading.Lock()
_parsing = threading.Lock()
_Refusal = tuple[type[TwinError], str]
_cache: OrderedDict[Any, Guarded | _Refusal] = OrderedDict()


def _read(text: str, max_patterns: int, named_graphs: bool, services: frozenset[str]) -> Guarded | _Refusal:
    try:
        return _guard(text, max_patterns, named_graphs, services)
    except (ContractError, OverCapacity) as error:  # kept, too: whoever repeats it costs nothing
        return type(error), str(error)


def _guard(text: str, max_patterns: int, named_graphs: bool, services: frozenset[str]) -> Guarded:
    if len(text) > MAX_LETTERS:
        raise OverCapacity(
            f"query: {len(text)} characters, {MAX_LETTERS} at most; pass long lists as bindings"
        )
    words = tokens(text)
    if len(words) > MAX_WORDS:
        raise OverCapacity(f"query: {len(words)} words, {MAX_WORDS} at most; pass long lists as bindings")
    _check_words(text, words, named_graphs=named_graphs, services=services)
    _check_depth(text, words)
    if wrong := misfit(words):
        at = place(text, words[wrong.index].start if wrong.index < len(words) else len(text.rstrip()))
        found = f"'{words[wrong.index].text}'" if wrong.index < len(words) else "the end"
        raise ContractError(f"query, {at}: {found} cannot stand here; expected {_listed(wrong.expected)}")
    normal, offsets = _joined(words)
    meaning = _meaning_of_shape(words, max_patterns) if not services else None
    meaning = meaning or _meaning(words, max_patterns, services)
    upper = [word.text.upper() if word.kind == "WORD" else "" for word in words]
    where, ends_in_values = _frame(words, upper, offsets, normal)
    return Guarded(
        text=normal,
        form=meaning.form,
        variables=meaning.variables,
        algebra=meaning.algebra,
        patterns=meaning.patterns,
        services=meaning.services,
        named_graphs="GRAPH" in upper,
        _where=where,
        _ends_in_values=ends_in_values,
    )


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What rdflib reads in a query."""

    algebra: Any
    patterns: int
    form: QueryForm
    variables: tuple[str, ...]
    services: tuple[str, ...] = ()


_shapes: OrderedDict[tuple[str, int], _Meaning] = OrderedDict()  # `_parsing` is held where it is used


def _meaning_of_shape(words: Sequence[Token], max_patterns: int) -> _Meaning | None:
    """What was read of a query that differs in nothing but names and texts; None where there is none."""
    shape = shape_of(words)
    if shape is None:
        return None
    key = _joined(shape.words)[0], max_patterns
    meaning = _shapes.pop(key, None)
    if meaning is None:
        try:
            meaning = _meaning(shape.words, max_patterns, frozenset())
        except (ContractError, OverCapacity):  # said anew, in the query's own words
            return None
    _shapes[key] = meaning
    while len(_shapes) > _KEPT:
        _shapes.popitem(last=False)
    return replace(meaning, algebra=with_names(meaning.algebra, shape.names))


def _meaning(words: Sequence[Token], max_patterns: int, services: frozenset[str]) -> _Meaning:
    readable, named = _as_graphs(words) if services else (words, [])
    from rdflib.plugins.sparql.algebra import translateQuery
    from rdflib.plugins.sparql.parser import Query

    try:
        with _deep():
            # Not parseQuery: it would decode escapes that `tokens` has written as they must stay.
            algebra = translateQuery(Query.parse_string(_joined(readable)[0], parse_all=True)).algebra
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
    return _Meaning(
        algebra=algebra,
        patterns=patterns,
        form=form,
        variables=_answered(algebra, words) if form is QueryForm.BINDINGS else (),
        services=tuple(dict.fromkeys(iri for iri, _ in named)),
    )


def _check_words(text: str, words: Sequence[Token], *, named_graphs: bool, services: frozenset[str]) -> None:
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
        if name in _REFUSED:
            raise ContractError(f"query, {place(text, word.start)}: {name} is refused: {_REFUSED[name]}")
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


def _check_depth(text: str, words: Sequence[Token]) -> None:
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
            raise ContractError(f"query: FROM is refused: {_REFUSED['FROM']}")
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


def _joined(words: Sequence[Token]) -> tuple[str, list[int]]:
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


def _frame(
    words: Sequence[Token], upper: Sequence[str], offsets: Sequence[int], normal: str
) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Where bindings may join: the outermost group, or each side of the UNION that is all there is in it.

    To a UNION as a whole the engine joins them by looking at all of it for every row. Also whether VALUES
    ends the query.
    """
    depth, groups, outside = 0, list[tuple[int, int]](), set[str]()
    sides, between = list[tuple[int, int]](), list[str]()
    for index, word in enumerate(words):
        if word.kind in ("{", "("):
            if word.kind == "{" and depth == 0:
                groups.append((offsets[index], 0))
                sides, between = [], []
            elif word.kind == "{" and depth == 1:
                sides.append((offsets[index], 0))
            elif depth == 1:
                between.append(word.kind)
            depth += 1
        elif word.kind in ("}", ")"):
            depth -= 1
            if word.kind == "}" and depth == 0:
                groups[-1] = (groups[-1][0], offsets[index] + 1)
            elif word.kind == "}" and depth == 1:
                sides[-1] = (sides[-1][0], offsets[index] + 1)
                between.append("side")
        elif depth == 0:
            outside.add(upper[index])
        elif depth == 1:
            between.append(upper[index])
        if upper[index] in _AGGREGATES and not any(first for first, last in groups if not last):
            outside.add("GROUP")
    ends_in_values = "VALUES" in outside
    if ends_in_values:
        groups.pop()
        sides = []  # what is between the last braces is data
    short = upper[0] == "CONSTRUCT" and len(groups) < 2  # its group is its template as well
    if "GROUP" in outside or short:
        return (), ends_in_values
    if 1 < len(sides) <= _SIDES and between == ["side", *["UNION", "side"] * (len(sides) - 1)]:
        return tuple(sides), ends_in_values
    return (groups[-1],), ends_in_values


_AGGREGATES: Final = frozenset(("COUNT", "SUM", "MIN", "MAX", "AVG", "SAMPLE", "GROUP_CONCAT"))


def _term(written: str) -> str:
    """A term of N-Triples, read and written anew. Raises ContractError."""
    try:
        found = list(ox.parse(f"<urn:x> <urn:x> {written} .", format=ox.RdfFormat.N_TRIPLES))
    except (SyntaxError, ValueError) as error:
        raise ContractError(f"bindings: {written[:100]!r} is no term of N-Triples ({error})") from None
    if len(found) != 1:
        raise ContractError(f"bindings: {written[:100]!r} is more than one term of N-Triples")
    term = found[0].triple.object
    if isinstance(term, ox.NamedNode):
        return f"<{term.value}>"
    if not isinstance(term, ox.Literal):
        raise ContractError(f"bindings: {written[:100]!r}; blank nodes and triples cannot be joined with")
    return str(term)


def _listed(expected: Sequence[str]) -> str:
    shown = list(expected[:8])
    if more := len(expected) - len(shown):
        shown.append(f"{more} others")
    return ", ".join(shown[:-1]) + (" or " if shown[1:] else "") + shown[-1]
