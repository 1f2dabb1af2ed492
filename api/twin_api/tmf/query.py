"""Reads the query of a list (TMF630): filters, fields, sort, offset, limit; and finds what it asks for.

Different keys are AND; values of one key, by comma, semicolon or repetition, are OR (`.ne`: none of them).
Each condition holds of a resource on its own: two conditions on one array may be met by two of its elements.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_plus

from twin_api.index import Index, Key
from twin_api.shelf import Entry, Shelf
from twin_api.tmf.errors import Refused
from twin_api.tmf.paths import Path, find, operands
from twin_api.tmf.patterns import compile_pattern
from twin_api.tmf.shapes import Basic
from twin_api.tmf.shapes_data import SHAPES
from twin_api.tmf.table import Resource

__all__ = [
    "Condition",
    "Operator",
    "Query",
    "fields_of",
    "narrowed",
    "page",
    "prepare",
    "read_query",
    "select",
]

MAX_QUERY: Final = 8192
MAX_CONDITIONS: Final = 32
MAX_VALUES: Final = 100
MAX_PATTERNS: Final = 4
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_OFFSET: Final = 10**9
_ALWAYS: Final = ("id", "href", "@type")


class Operator(StrEnum):
    """How a value is compared."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    REGEX = "regex"


_OPERATORS: Final = {str(each): each for each in Operator}
_SIGNS: Final = {
    ">=": Operator.GTE,
    "<=": Operator.LTE,
    "!=": Operator.NE,
    "*=": Operator.REGEX,
    ">": Operator.GT,
    "<": Operator.LT,
    "=": Operator.EQ,
}
_SIGN: Final = re.compile(r"[<>!*]=?|=")
_PLAIN_VALUE: Final = re.compile(r"[^,;\"'=\s][^,;=]*[^,;\"'=\s]|[^,;\"'=\s]")


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of a query: a path, an operator, and the values of which one must fit."""

    path: Path
    operator: Operator
    values: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...] = ()
    """What each value may mean at the path."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a list is asked for."""

    conditions: tuple[Condition, ...] = ()
    fields: tuple[str, ...] | None = None
    """Dotted paths; empty: identity only; None: all."""
    order: tuple[tuple[Path, bool], ...] = ()
    """Paths, each with whether it descends."""
    offset: int = 0
    limit: int = DEFAULT_LIMIT


def read_query(resource: Resource, raw: bytes) -> Query:
    """The query of a list. Raises Refused (400) for what is not understood: nothing is ignored."""
    if not raw:
        return _PLAIN
    if len(raw) > MAX_QUERY:
        raise Refused(414, f"a query has at most {MAX_QUERY} characters", code="uriTooLong")
    conditions: dict[tuple[str, Operator], Condition] = {}
    own: dict[str, str] = {}
    for part in _parts(raw):
        name, operator, text = _split(part)
        if name in _OWN and operator is Operator.EQ:
            if name in own and name != "fields":
                raise _bad(f"{name} is given twice; give it once", "invalidQuery")
            own[name] = f"{own[name]},{text}" if name in own else text
            continue
        condition = _condition(resource, name, operator, text)
        key = (".".join(condition.path.steps), condition.operator)
        if key in conditions:
            values = conditions[key].values + condition.values
            keys = conditions[key].keys + condition.keys
            condition = Condition(condition.path, condition.operator, values, keys)
        if len(condition.values) > MAX_VALUES:
            raise _bad(f"{name} is compared with more than {MAX_VALUES} values", "invalidQuery")
        conditions[key] = condition
        if len(conditions) > MAX_CONDITIONS:
            raise _bad(f"a query has at most {MAX_CONDITIONS} conditions", "invalidQuery")
        if (
            sum(len(each.values) for each in conditions.values() if each.operator is Operator.REGEX)
            > MAX_PATTERNS
        ):
            raise _bad(f"a query has at most {MAX_PATTERNS} regular expressions", "invalidQuery")
    return Query(
        tuple(conditions.values()),
        fields_of(resource, own["fields"]) if "fields" in own else None,
        _order(resource, own["sort"]) if "sort" in own else (),
        _count("offset", own.get("offset"), 0, MAX_OFFSET, 0),
        _count("limit", own.get("limit"), 0, None, DEFAULT_LIMIT),
    )


_PLAIN: Final = Query()
_OWN: Final = frozenset(("fields", "sort", "offset", "limit"))


def _bad(sentence: str, code: str) -> Refused:
    return Refused(400, sentence, code=code)


def _parts(raw: bytes) -> list[str]:
    """The parts between ampersands, decoded."""
    try:
        text = raw.decode("ascii")
        parts = [part for part in text.split("&") if part]
        if len(parts) > MAX_CONDITIONS * 4:
            raise _bad(f"a query has at most {MAX_CONDITIONS * 4} parts", "invalidQuery")
        return [unquote_plus(part, errors="strict") for part in parts]
    except UnicodeError:
        raise _bad("the query is not percent-encoded UTF-8", "invalidQuery") from None


def _split(part: str) -> tuple[str, Operator, str]:
    """Name, operator and value of a part: `a=v`, `a.gt=v`, `a>v`, `a>=v`."""
    found = _SIGN.search(part)
    operator = _SIGNS.get(found.group()) if found else None
    if found is None or operator is None:
        raise _bad(f"{part[:100]!r} is not a condition; write attribute=value", "invalidQuery")
    name, text = part[: found.start()].strip(), part[found.end() :]
    if operator is Operator.EQ:
        stem, _, last = name.rpartition(".")
        if stem and last in _OPERATORS:
            return stem, _OPERATORS[last], text
    elif operator in (Operator.GT, Operator.LT) and text.startswith("="):
        return name, Operator(f"{operator}e"), text[1:]
    return name, operator, text


def _condition(resource: Resource, name: str, operator: Operator, text: str) -> Condition:
    path = find(resource, SHAPES, name)
    if path is None:
        raise _bad(f"{name[:100]} is not an attribute of {resource.shape.name}", "unknownAttribute")
    if not path.comparable:
        raise _bad(f"{name} is an object; compare one of its attributes", "invalidQuery")
    values = (_unquoted(text),) if operator is Operator.REGEX else tuple(_values(name, operator, text))
    keys: list[tuple[Key, ...]] = []
    for value in values:
        try:
            if operator is Operator.REGEX:
                compile_pattern(value)
            else:
                keys.append(operands(path, value))
        except ValueError as error:
            raise _bad(
                f"{name}: {error}" if operator is Operator.REGEX else f"{name} {error}", "wrongValue"
            ) from None
    ordered = operator in (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
    if ordered and path.attribute.basic is Basic.BOOL:
        raise _bad(f"{name} is true or false and has no order", "invalidQuery")
    if operator is Operator.REGEX and path.attribute.basic not in (Basic.TEXT, Basic.URL, Basic.ANY):
        raise _bad(f"{name} is not text: it cannot be matched by a regular expression", "invalidQuery")
    return Condition(path, operator, values, tuple(keys))


def _values(name: str, operator: Operator, text: str) -> list[str]:
    """Values between commas and semicolons, but for those in quotes; `a=1;a=2` repeats the name."""
    if _PLAIN_VALUE.fullmatch(text):
        return [text]
    values, current, quote = [], "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
            current += letter
        elif letter in ",;":
            values.append(current)
            current = ""
        else:
            if letter in "\"'" and not current.strip():
                quote = letter
            current += letter
    values.append(current)
    repeats = tuple(f"{name}{sign}" for sign in ("=", f".{operator}="))
    return [_unquoted(_after(value, repeats)) for value in values]


def _after(value: str, prefixes: tuple[str, ...]) -> str:
    return next((value[len(each) :] for each in prefixes if value.startswith(each)), value)


def _unquoted(text: str) -> str:
    stripped = text.strip()
    if len(stripped) >= 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        return stripped[1:-1]
    return text


def fields_of(resource: Resource, text: str) -> tuple[str, ...]:
    """The paths that `fields` names; none for `none`. Raises Refused (400)."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or names == ["none"]:
        return ()
    if len(names) > MAX_VALUES:
        raise _bad(f"fields names more than {MAX_VALUES} attributes", "invalidQuery")
    for name in names:
        if find(resource, SHAPES, name) is None:
            raise _bad(
                f"fields: {name[:100]} is not an attribute of {resource.shape.name}", "unknownAttribute"
            )
    return tuple(names)


def _order(resource: Resource, text: str) -> tuple[tuple[Path, bool], ...]:
    order = []
    for word in text.split(","):
        descending = word.lstrip().startswith("-")
        name = word.strip().lstrip("+-").strip()
        path = find(resource, SHAPES, name)
        if path is None or not path.comparable:
            raise _bad(f"sort: {name[:100]!r} is not an attribute that has an order", "unknownAttribute")
        order.append((path, descending))
    if len(order) > 4:
        raise _bad("sort names at most 4 attributes", "invalidQuery")
    return tuple(order)


def _count(name: str, text: str | None, least: int, most: int | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise _bad(f"{name} must be a whole number, {least} or more", "invalidPaging")
    count = int(text)
    if most is not None and count > most:
        raise _bad(f"{name} is at most {most}", "invalidPaging")
    return min(count, MAX_LIMIT) if most is None else count


async def prepare(shelf: Shelf, query: Query) -> None:
    """Make the indices that a query needs, and let others have their turn after each."""
    for path in (*(each.path for each in query.conditions), *(path for path, _ in query.order)):
        if not shelf.has_index(path.steps):
            shelf.index(path.steps, path.read)
            await asyncio.sleep(0)


def select(shelf: Shelf, conditions: Sequence[Condition]) -> int:
    """A mask of the entries that meet all conditions."""
    mask = shelf.all
    for condition in conditions:
        mask &= _TESTS[condition.operator](shelf, condition)
        if not mask:
            break
    return mask


def page(shelf: Shelf, mask: int, query: Query) -> list[Entry]:
    """The entries that a query shows of those in a mask."""
    if not query.order:
        return shelf.page(mask, query.offset, query.limit)
    order = [(shelf.index(path.steps, path.read), descending) for path, descending in query.order]
    return shelf.sorted_page(mask, order, query.offset, query.limit)


def _index(shelf: Shelf, condition: Condition) -> Index:
    return shelf.index(condition.path.steps, condition.path.read)


def _equal(shelf: Shelf, condition: Condition) -> int:
    return _index(shelf, condition).equal(key for keys in condition.keys for key in keys)


def _unequal(shelf: Shelf, condition: Condition) -> int:
    return shelf.all & ~_equal(shelf, condition)


def _compared(*, above: bool, same: bool) -> Callable[[Shelf, Condition], int]:
    def test(shelf: Shelf, condition: Condition) -> int:
        index, mask = _index(shelf, condition), 0
        for *_, key in condition.keys:  # a number where it can be one
            mask |= index.between(key, above=above, same=same)
        return mask

    return test


def _matching(shelf: Shelf, condition: Condition) -> int:
    index, mask = _index(shelf, condition), 0
    for value in condition.values:
        mask |= index.where(compile_pattern(value))
    return mask


_TESTS: Final[Mapping[Operator, Callable[[Shelf, Condition], int]]] = {
    Operator.EQ: _equal,
    Operator.NE: _unequal,
    Operator.GT: _compared(above=True, same=False),
    Operator.GTE: _compared(above=True, same=True),
    Operator.LT: _compared(above=False, same=False),
    Operator.LTE: _compared(above=False, same=True),
    Operator.REGEX: _matching,
}


def narrowed(document: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """A document with only the named parts; identity and type always stay."""
    wanted: dict[str, Any] = {name: True for name in _ALWAYS}
    for dotted in fields:
        level = wanted
        *steps, last = dotted.split(".")
        for step in steps:
            below = level.setdefault(step, {})
            if below is True:
                break
            level = below
        else:
            level[last] = True
    narrow = _keep(document, wanted)
    assert isinstance(narrow, dict)
    return narrow


def _keep(value: Any, wanted: Any) -> Any:
    if wanted is True:
        return value
    if isinstance(value, list):
        return [_keep(each, wanted) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {name: _keep(value[name], below) for name, below in wanted.items() if name in value}
