"""Instances of any YANG modules, drawn at random: RFC 7951 trees that fit every type.

Mandatory nodes, `must`, `when` and references are not looked at: what is drawn is well typed, not valid.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable, Mapping
from decimal import Decimal
from re import _parser  # type: ignore[attr-defined]  # the regular expression's own tree
from typing import Any

from domain_twin.errors import SchemaViolation
from domain_twin.model import Value
from domain_twin.yang.patterns import compile_pattern
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet
from domain_twin.yang.tree import flatten

ODD = (
    *(
        "",
        " ",
        "a b",
        "eth1/0/3",
        "x,y",
        "100%",
        "it's",
        '"q"',
        "'\"",
        "[1]",
        "a=b",
        "Zürich",
        "日本",
        "<x>",
        "\n\t",
    ),
    *("#", "?", ".", "..", "%2F", "a\u0301", "\U0001f600", "=", ","),
)
TEXTS = (
    *(
        "eth0",
        "lo",
        "r1",
        "uplink",
        "en",
        "10.0.0.1",
        "192.0.2.0/24",
        "2001:db8::1",
        "2001:db8::/32",
        "1.0.0",
    ),
    *("00:11:22:33:44:55", "65000:100", "0:65000:100", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500Z"),
    *("2025-12-31T23:59:59-00:00", "2026-07-01T12:00:00+02:00", "2016-12-31T23:59:60Z", "2026-01-01"),
    *("12:00:00Z", "example.com", "urn:ietf:params:1", "https://example.net/a?b#c", "1.3.6.1.2.1", "/a:b/c"),
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
)
FILL = 0.7
NOTHING = object()


class Instances:
    """Draws trees of one schema. What it cannot draw (a pattern too hard) it leaves out, and counts."""

    def __init__(
        self, schema: SchemaSet, rng: random.Random, *, fill: float = FILL, entries: int = 2
    ) -> None:
        self.schema = schema
        self.rng = rng
        self.fill = fill
        self.entries = entries
        self.undrawn: set[str] = set()
        self._fitting: dict[str, tuple[list[str], Any]] = {}

    def tree(self, tops: Iterable[str] | None = None, *, deepest: int = 12) -> dict[str, Any]:
        """One tree, of these top-level nodes (`module:name`) or of all."""
        out: dict[str, Any] = {}
        for name in self.schema.tops if tops is None else tops:
            value = self._node(self.schema.tops[name], deepest)
            if value is not NOTHING:
                out[name] = value
        return out

    def _node(self, node: SchemaNode, depth: int) -> Any:
        if node.kind is NodeKind.LIST:
            entries = [self._entry(node, depth) for _ in range(self.rng.randint(1, self.entries))]
            drawn = [entry for entry in entries if entry is not NOTHING]
            unique = {_identity(node, entry, n): entry for n, entry in enumerate(drawn)}
            return list(unique.values()) or NOTHING
        if node.kind is NodeKind.CONTAINER:
            members = self._members(node, depth, skip=())
            return members if members or node.presence else NOTHING
        if node.kind is NodeKind.LEAF_LIST:
            values = [self.value(node) for _ in range(self.rng.choice((0, 1, 1, 2, 3)))]
            values = [value for value in values if value is not NOTHING]
            if node.config:
                values = list({repr(value): value for value in values}.values())
            return values if _fits(node, values) else NOTHING
        return self.value(node)

    def _entry(self, node: SchemaNode, depth: int) -> Any:
        entry = {key: self.value(node.children[key]) for key in node.keys if key in node.children}
        if NOTHING in entry.values() or len(entry) != len(node.keys):
            self.undrawn.add(node.path)
            return NOTHING
        entry |= self._members(node, depth, skip=node.keys)
        return entry or NOTHING

    def _members(self, node: SchemaNode, depth: int, skip: Iterable[str]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for step, child in node.children.items():
            if step in skip or (not child.is_leaf and depth <= 0) or self.rng.random() > self.fill:
                continue
            value = self._node(child, depth - 1)
            if value is not NOTHING:
                out[step] = value
        return out

    def value(self, node: SchemaNode) -> Any:
        """RFC 7951 JSON of one value of a leaf's type, as the product writes it, or NOTHING."""
        assert node.leaf_type is not None
        for _ in range(12):
            drawn = self._drawn(node.leaf_type.form)
            one = node.codec.type
            try:
                kept = one.json(one.native(drawn))
            except (ValueError, SchemaViolation):
                continue
            try:
                if one.json(one.native(kept)) == kept:
                    return kept
            except (ValueError, SchemaViolation):
                continue
        self.undrawn.add(node.path)
        return NOTHING

    def _drawn(self, form: Any) -> Any:
        rng, name = self.rng, form[0]
        match name:
            case "string":
                return self._text(form[1], form[2])
            case "decimal64":
                digits = form[1]
                low, high = [Decimal(bound) for bound in rng.choice(form[2])] if form[2] else (None, None)
                scaled = rng.choice((0, 1, -1, 5, 10**digits, rng.randint(-(2**63), 2**63 - 1), 2**63 - 1))
                value = Decimal(scaled).scaleb(-digits)
                if low is not None and not low <= value <= high:
                    value = rng.choice((low, high))
                return f"{value:f}"
            case "boolean":
                return rng.random() < 0.5
            case "empty":
                return [None]
            case "enumeration":
                return rng.choice(form[1]) if form[1] else NOTHING
            case "bits":
                return " ".join(name for name, _ in form[1] if rng.random() < 0.5)
            case "binary":
                return base64.b64encode(rng.randbytes(_length(rng, form[1], 6))).decode()
            case "identityref":
                return rng.choice(form[1]) if form[1] else NOTHING
            case "instance-identifier":
                return rng.choice(
                    ("/ietf-interfaces:interfaces/interface[name='eth0']", "/a:b/c[k='x/y']/d:e")
                )
            case "union":
                return self._drawn(rng.choice(form[1]))
            case "anydata":
                return {"a": [1, "x", None], "b:c": {"d": 1.5, "e": rng.choice(TEXTS)}}
            case "leafref":
                return rng.choice(TEXTS)
            case _:
                low, high = rng.choice(form[1])
                value = rng.choice((low, high, rng.randint(low, high), min(max(7, low), high)))
                return str(value) if name.endswith("64") else value

    def _text(self, lengths: Any, patterns: Any) -> str:
        rng = self.rng
        if not patterns:
            text = rng.choice((*ODD, *TEXTS))
            low, high = rng.choice(lengths) if lengths else (0, 60)
            return (text + "x" * low)[: max(low, min(high, 60))] if not low <= len(text) <= high else text
        key = repr(patterns)
        if key not in self._fitting:
            rules = [(compile_pattern(pattern), keep) for pattern, keep in patterns]
            fitting = [
                t for t in (*TEXTS, *ODD) if all((r.fullmatch(t) is not None) is keep for r, keep in rules)
            ]
            wanted = [rule.pattern for rule, keep in rules if keep]
            self._fitting[key] = fitting, _parser.parse(wanted[-1]) if wanted else None
        fitting, tree = self._fitting[key]
        if tree is None or (fitting and rng.random() < 0.5):
            return rng.choice(fitting or TEXTS)
        return "".join(_matching(tree, rng))


def _matching(tree: Any, rng: random.Random) -> Iterable[str]:
    """Text that a regular expression matches; assertions are left to chance."""
    for operator, argument in tree:
        match str(operator):
            case "LITERAL":
                yield chr(argument)
            case "NOT_LITERAL":
                yield "b" if argument == ord("a") else "a"
            case "ANY":
                yield rng.choice("ab1-_")
            case "IN":
                yield _one_of(argument, rng)
            case "BRANCH":
                yield from _matching(rng.choice(argument[1]), rng)
            case "SUBPATTERN":
                yield from _matching(argument[3], rng)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = argument
                for _ in range(rng.randint(low, min(int(high), low + 3))):
                    yield from _matching(inner, rng)
            case "ATOMIC_GROUP":
                yield from _matching(argument, rng)


def _one_of(items: Any, rng: random.Random) -> str:
    chosen: list[str] = []
    negated = False
    for operator, argument in items:
        match str(operator):
            case "NEGATE":
                negated = True
            case "LITERAL":
                chosen.append(chr(argument))
            case "RANGE":
                low, high = argument
                chosen += [chr(low), chr(high), chr(rng.randint(low, high))]
            case "CATEGORY":
                chosen += {"CATEGORY_DIGIT": ["0", "7"], "CATEGORY_SPACE": [" "]}.get(
                    str(argument), ["a", "Z", "0"]
                )
    if not negated:
        return rng.choice(chosen) if chosen else "a"
    return next((text for text in "aA0 -_.:" if text not in chosen), "~")


def _length(rng: random.Random, lengths: Any, most: int) -> int:
    low, high = rng.choice(lengths) if lengths else (0, most)
    return rng.randint(low, max(low, min(high, most)))


def _identity(node: SchemaNode, entry: Mapping[str, Any], number: int) -> Any:
    return tuple(repr(entry[key]) for key in node.keys) if node.keys else number


def _fits(node: SchemaNode, values: list[Any]) -> bool:
    try:
        return bool(node.codec.json(node.codec.native(values)) == values)
    except SchemaViolation:
        return False


def typed(schema: SchemaSet, tree: Mapping[str, Any]) -> dict[str, Value]:
    """The leaves of a tree by canonical path, typed: what the datastore would hold."""
    out: dict[str, Value] = {}
    for path, value in flatten(schema, "/", tree):
        node = schema.node(path)
        assert node is not None, path
        out[path] = node.codec.native(value) if node.is_leaf else None
    return out


def settled(schema: SchemaSet, tree: Any, *, user_order: bool = False) -> Any:
    """The tree with the entries of keyed lists in the order of their keys, so that equal ones are equal.

    `user_order` leaves those as they are whose order is their user's.
    """

    def of(node: SchemaNode | None, value: Any) -> Any:
        if node is not None and node.is_leaf:
            return value
        if isinstance(value, list):
            assert node is not None
            entries = [members(node, entry) for entry in value]
            if not node.keys or (user_order and node.user_ordered):
                return entries
            return sorted(entries, key=lambda entry: [repr(entry[key]) for key in node.keys])
        return members(node, value)

    def members(node: SchemaNode | None, value: dict[str, Any]) -> dict[str, Any]:
        children = schema.tops if node is None else node.children
        return {step: of(children[step], inner) for step, inner in value.items()}

    return of(None, tree)
