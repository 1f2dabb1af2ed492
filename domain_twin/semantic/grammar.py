"""The grammar of the queries that are accepted, and a reader that says where a text leaves it.

SPARQL 1.1 Query 19.8 without updates, DESCRIBE and dataset clauses, as one table of rules; LL(1), so that one
word decides. The reader keeps its own stack: depth costs no recursion, time is linear. What no rule has
cannot pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from domain_twin.semantic.tokens import Token

__all__ = ["FUNCTIONS", "WORDS", "Misfit", "misfit"]

ONE: Final = (
    "STR LANG DATATYPE IRI URI ABS CEIL FLOOR ROUND STRLEN UCASE LCASE ENCODE_FOR_URI YEAR MONTH DAY HOURS"
    " MINUTES SECONDS TIMEZONE TZ MD5 SHA1 SHA256 SHA384 SHA512 isIRI isURI isBLANK isLITERAL isNUMERIC"
)
TWO: Final = "LANGMATCHES CONTAINS STRSTARTS STRENDS STRBEFORE STRAFTER STRLANG STRDT sameTerm"
AGGREGATES: Final = "SUM MIN MAX AVG SAMPLE"

_RULES: Final = """
query: ( select | construct | ask ) trailing END
select: head where modifiers
head: SELECT ( DISTINCT | REDUCED )? ( ( VAR | '(' expression AS VAR ')' )+ | '*' )
inner: head where modifiers trailing
construct: CONSTRUCT ( '{' template? '}' where modifiers | WHERE '{' template? '}' modifiers )
ask: ASK where modifiers
where: WHERE? group
modifiers: ( GROUP BY grouping+ )? ( HAVING constraint+ )? ( ORDER BY ordering+ )? slice?
slice: limit offset? | offset limit?
grouping: builtin | call | '(' expression ( AS VAR )? ')' | VAR
ordering: ( ASC | DESC ) '(' expression ')' | constraint | VAR
limit: LIMIT INTEGER
offset: OFFSET INTEGER
trailing: ( VALUES data )?
group: '{' ( inner | triples? ( pattern '.'? triples? )* ) '}'
pattern: group ( UNION group )* | OPTIONAL group | MINUS group | GRAPH name group | SERVICE SILENT? name group
  | FILTER constraint | BIND '(' expression AS VAR ')' | VALUES data
name: VAR | IRI
data: VAR '{' value* '}' | ( NIL | '(' VAR+ ')' ) '{' ( '(' value+ ')' | NIL )* '}'
value: IRI | literal | UNDEF
constraint: '(' expression ')' | builtin | call
call: IRI arguments
arguments: NIL | '(' DISTINCT? expression ( ',' expression )* ')'
template: subject_ ( '.' template? )?
subject_: term verbs_ | node_ verbs_?
verbs_: verb objects_ ( ';' ( verb objects_ )? )*
verb: name | A
objects_: object_ ( ',' object_ )*
object_: term | node_
node_: '(' object_+ ')' | '[' verbs_ ']'
triples: subject ( '.' triples? )?
subject: term verbs | node verbs?
verbs: ( path | VAR ) objects ( ';' ( ( path | VAR ) objects )? )*
objects: object ( ',' object )*
object: term | node
node: '(' object+ ')' | '[' verbs ']'
path: sequence ( '|' sequence )*
sequence: step ( '/' step )*
step: '^'? primary ( '?' | '*' | '+' )?
primary: IRI | A | '!' negated | '(' path ')'
negated: inverse | NIL | '(' inverse ( '|' inverse )* ')'
inverse: IRI | A | '^' ( IRI | A )
term: VAR | IRI | literal | BNODE | ANON | NIL
literal: STRING ( LANGTAG | '^^' IRI )? | number | TRUE | FALSE
number: INTEGER | NUMBER | SIGNED
expression: conjunction ( '||' conjunction )*
conjunction: relation ( '&&' relation )*
relation: sum ( ( '=' | '!=' | '<' | '>' | '<=' | '>=' ) sum | IN list | NOT IN list )?
list: NIL | '(' expression ( ',' expression )* ')'
sum: product ( ( '+' | '-' ) product | SIGNED ( ( '*' | '/' ) unary )* )*
product: unary ( ( '*' | '/' ) unary )*
unary: ( '!' | '+' | '-' )? atom
atom: '(' expression ')' | builtin | IRI arguments? | literal | VAR
builtin: ONE_ '(' expression ')' | TWO_ '(' expression ',' expression ')' | BOUND '(' VAR ')' | NOW NIL
  | BNODE ( NIL | '(' expression ')' ) | CONCAT list
  | COALESCE list | IF '(' expression ',' expression ',' expression ')' | EXISTS group | NOT EXISTS group
  | SUBSTR '(' expression ',' expression ( ',' expression )? ')'
  | REGEX '(' expression ',' expression ( ',' expression )? ')'
  | REPLACE '(' expression ',' expression ',' expression ( ',' expression )? ')'
  | COUNT '(' DISTINCT? ( '*' | expression ) ')' | AGGREGATE_ '(' DISTINCT? expression ')'
  | GROUP_CONCAT '(' DISTINCT? expression ( ';' SEPARATOR '=' STRING )? ')'
"""
_CLASSES: Final = {"ONE_": ONE, "TWO_": TWO, "AGGREGATE_": AGGREGATES}
_KINDS: Final = {
    "IRI": "an IRI",
    "VAR": "a variable",
    "STRING": "a string",
    "INTEGER": "a whole number",
    "NUMBER": "a number",
    "SIGNED": "a signed number",
    "BNODE": "a blank node",
    "ANON": "[]",
    "NIL": "()",
    "LANGTAG": "a language tag",
    "END": "the end of the query",
}


@dataclass(frozen=True, slots=True)
class _Node:
    """A piece of a rule: `word` a word, `rule` a name, else `all`, `one`, `maybe`, `any` of its parts."""

    kind: str
    text: str = ""
    parts: tuple[_Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Misfit:
    """Where a text leaves the grammar: the index of the word (the length: at the end), what was expected."""

    index: int
    expected: tuple[str, ...]


def misfit(found: Sequence[Token]) -> Misfit | None:
    """The first word that no query of this grammar has there; None: the text is one."""
    rules, firsts, nullable = _table()
    stack, index, tried = [_Node("rule", "query")], 0, set[str]()
    kinds = [_kind(token) for token in found]
    kinds.append("END")
    while stack:
        node, word = stack.pop(), kinds[index]
        match node.kind:
            case "word":
                tried.add(node.text)
                if node.text != word:
                    return Misfit(index, _in_words(tried))
                index, tried = index + 1, set()
            case "rule":
                stack.append(rules[node.text])
            case "all":
                stack.extend(reversed(node.parts))
            case "one":
                chosen = next((part for part in node.parts if word in firsts[part]), None)
                if chosen is None:
                    chosen = next((part for part in node.parts if nullable[part]), None)
                    tried |= firsts[node]
                if chosen is None:
                    return Misfit(index, _in_words(tried))
                stack.append(chosen)
            case _:  # maybe, any
                if word in firsts[node]:
                    stack += [node, node.parts[0]] if node.kind == "any" else [node.parts[0]]
                else:
                    tried |= firsts[node]
    return None


def _kind(token: Token) -> str:
    if token.kind != "WORD":
        return token.kind
    return "A" if token.text == "a" else _CLASS_OF.get(token.text.upper(), token.text.upper())


def _in_words(kinds: Iterable[str]) -> tuple[str, ...]:
    """What a person would call these, the most telling first."""
    found = set(kinds)
    telling: list[str] = []
    if {"ONE_", "STRING", "VAR", "'('".strip("'")} <= found and "A" not in found:
        telling.append("an expression")
        found -= {"(", "+", "-", "!", "EXISTS", "NOT", "IRI", "VAR", "STRING", "INTEGER", "NUMBER", "SIGNED"}
        found -= {"TRUE", "FALSE"}
        found -= FUNCTIONS | _CLASSES.keys()
    elif "ONE_" in found:
        telling.append("a function")
        found -= (FUNCTIONS | _CLASSES.keys()) - {"EXISTS"}
    if {"||", "&&", "+"} <= found:
        telling.append("an operator")
        found -= {"||", "&&", "+", "-", "*", "/", "=", "!=", "<", ">", "<=", ">=", "IN", "NOT", "SIGNED"}
    elif {"/", "|", "VAR"} <= found:
        telling.append("a sign of a path")
        found -= {"/", "|", "*", "+", "?"}
    if {"STRING", "INTEGER", "TRUE"} <= found:
        telling.append("a literal")
        found -= {"STRING", "INTEGER", "NUMBER", "SIGNED", "TRUE", "FALSE"}
    telling += [_KINDS[kind] for kind in _KINDS if kind in found]
    words = sorted(kind for kind in found - _KINDS.keys() if kind[0].isalpha())
    signs = sorted(kind for kind in found - _KINDS.keys() if not kind[0].isalpha())
    telling += [f"'{sign}'" for sign in signs] + ["'a'" if word == "A" else word for word in words]
    return tuple(telling)


def _parse(text: str) -> _Node:
    words = re.findall(r"'[^']+'|[A-Za-z_]+|[()|?*+]", text)
    position = 0

    def alternatives() -> _Node:
        nonlocal position
        found = [sequence()]
        while position < len(words) and words[position] == "|":
            position += 1
            found.append(sequence())
        return found[0] if len(found) == 1 else _Node("one", parts=tuple(found))

    def sequence() -> _Node:
        nonlocal position
        found: list[_Node] = []
        while position < len(words) and words[position] not in (")", "|"):
            word = words[position]
            position += 1
            if word == "(":
                node = alternatives()
                position += 1
            elif word[0] == "'":
                node = _Node("word", word[1:-1])
            else:
                node = _Node("rule" if word.strip("_").islower() else "word", word)
            if position < len(words) and words[position] in "?*+":
                mark = words[position]
                position += 1
                wrapped = _Node("maybe" if mark == "?" else "any", parts=(node,))
                node = _Node("all", parts=(node, wrapped)) if mark == "+" else wrapped
            found.append(node)
        return found[0] if len(found) == 1 else _Node("all", parts=tuple(found))

    return alternatives()


@cache
def _table() -> tuple[dict[str, _Node], dict[_Node, frozenset[str]], dict[_Node, bool]]:
    """The rules, which words each piece can begin with, and whether it can be nothing."""
    rules: dict[str, _Node] = {}
    for line in _RULES.strip().replace("\n  ", " ").splitlines():
        name, _, body = line.partition(": ")
        rules[name] = _parse(body)
    nodes = set(rules.values()) | {_Node("rule", name) for name in rules}
    waiting = list(nodes)
    while waiting:
        for part in waiting.pop().parts:
            if part not in nodes:
                nodes.add(part)
                waiting.append(part)
    firsts: dict[_Node, frozenset[str]] = dict.fromkeys(nodes, frozenset())
    nullable = dict.fromkeys(nodes, False)
    changed = True
    while changed:
        changed = False
        for node in nodes:
            new = _first(node, rules, firsts, nullable)
            if new != (firsts[node], nullable[node]):
                firsts[node], nullable[node] = new
                changed = True
    return rules, firsts, nullable


def _first(
    node: _Node,
    rules: dict[str, _Node],
    firsts: dict[_Node, frozenset[str]],
    nullable: dict[_Node, bool],
) -> tuple[frozenset[str], bool]:
    match node.kind:
        case "word":
            return frozenset((node.text,)), False
        case "rule":
            return firsts[rules[node.text]], nullable[rules[node.text]]
        case "one":
            return _union(firsts[part] for part in node.parts), any(nullable[part] for part in node.parts)
        case "all":
            taken: list[_Node] = []
            for part in node.parts:
                taken.append(part)
                if not nullable[part]:
                    return _union(firsts[part] for part in taken), False
            return _union(firsts[part] for part in taken), True
        case _:
            return firsts[node.parts[0]], True


def _union(sets: Iterable[Collection[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


_CLASS_OF: Final = {word.upper(): name for name, members in _CLASSES.items() for word in members.split()}
_OTHERS: Final = "BNODE BOUND NOW CONCAT COALESCE IF EXISTS NOT SUBSTR REGEX REPLACE COUNT GROUP_CONCAT"
FUNCTIONS: Final = frozenset(_CLASS_OF) | frozenset(_OTHERS.split())
WORDS: Final = FUNCTIONS | frozenset(
    word
    for word in re.findall(r"(?<!')\b[A-Z]{2,}\b(?!_)", re.sub(r"'[^']*'", " ", _RULES))
    if word not in _KINDS
)
"""Every word that a query may hold, in capitals."""
