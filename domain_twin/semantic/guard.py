"""What may be asked in SPARQL, decided before an engine sees the text. Owns allow-list, limits and cache.

Both engines that this product uses fetch what SERVICE and LOAD name, and one reads local files through FROM.
So nothing that others wrote reaches one of them as it is. A text passes three opinions: a grammar without
the forbidden parts, which also says where an error is; an allow-list over the algebra that rdflib makes of it
and, in the worker, pyoxigraph's own parser. What runs is never the text as written but its normal form (see
`tokens`).

What a view hides is not kept here: it is not in the graph that a worker asks (see `workers`).
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyoxigraph as ox

from domain_twin.errors import ContractError, OverCapacity, TwinError
from domain_twin.model.query import QueryForm
from domain_twin.semantic.grammar import misfit
from domain_twin.semantic.guard_algebra import Meaning, meaning_of
from domain_twin.semantic.guard_shapes import shape_of, with_names
from domain_twin.semantic.guard_words import MAX_DEPTH, check_depth, check_words, joined, listed
from domain_twin.semantic.tokens import Token, place, tokens

__all__ = ["MAX_BINDINGS", "MAX_DEPTH", "MAX_LETTERS", "MAX_PATTERNS", "MAX_WORDS", "Guarded", "guarded"]

MAX_LETTERS: Final = 65_536
MAX_WORDS: Final = 6_000
MAX_PATTERNS: Final = 100
MAX_BINDINGS: Final = 10_000
"""Rows of a block of bindings."""
_KEPT: Final = 256
_SIDES: Final = 16  # of a UNION, each of which gets a copy of a block of bindings
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
    check_words(text, words, named_graphs=named_graphs, services=services)
    check_depth(text, words)
    if wrong := misfit(words):
        at = place(text, words[wrong.index].start if wrong.index < len(words) else len(text.rstrip()))
        found = f"'{words[wrong.index].text}'" if wrong.index < len(words) else "the end"
        raise ContractError(f"query, {at}: {found} cannot stand here; expected {listed(wrong.expected)}")
    normal, offsets = joined(words)
    meaning = _meaning_of_shape(words, max_patterns) if not services else None
    meaning = meaning or meaning_of(words, max_patterns, services)
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


_shapes: OrderedDict[tuple[str, int], Meaning] = OrderedDict()  # `_parsing` is held where it is used


def _meaning_of_shape(words: Sequence[Token], max_patterns: int) -> Meaning | None:
    """What was read of a query that differs in nothing but names and texts; None where there is none."""
    shape = shape_of(words)
    if shape is None:
        return None
    key = joined(shape.words)[0], max_patterns
    meaning = _shapes.pop(key, None)
    if meaning is None:
        try:
            meaning = meaning_of(shape.words, max_patterns, frozenset())
        except (ContractError, OverCapacity):  # said anew, in the query's own words
            return None
    _shapes[key] = meaning
    while len(_shapes) > _KEPT:
        _shapes.popitem(last=False)
    return replace(meaning, algebra=with_names(meaning.algebra, shape.names))


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
