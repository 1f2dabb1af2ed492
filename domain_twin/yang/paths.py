"""Canonical instance identifiers (RFC 7951 6.11) as strings. Owns quoting; knows no schema and no protocol.

`/ietf-interfaces:interfaces/interface[name='eth0']/oper-status`: the module's name on the first node and
wherever it changes, keys in schema order. A value with both kinds of quotes, which RFC 7950 cannot write, is
an XPath `concat()` of quoted parts. Paths are interned: equal paths are the same object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from sys import intern
from typing import NamedTuple

from domain_twin.errors import SchemaViolation

__all__ = ["Step", "covers", "format_path", "parent", "parse_path", "quote", "strip_keys"]

LEAF_LIST_VALUE = "."
"""Key name of a leaf-list entry's predicate: `[.='value']`."""

POSITION = ""
"""Key name of a keyless list entry's predicate: `[3]`."""


class Step(NamedTuple):
    """One node of a path. `module` is empty where it is that of the node before; keys are (name, text)."""

    module: str
    name: str
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def qualified(self) -> str:
        """The name, with its module where the step states one."""
        return f"{self.module}:{self.name}" if self.module else self.name


_NAME = r"[A-Za-z_][\w.-]*"
_NODE = re.compile(rf"/(?:({_NAME}):)?({_NAME})")
_LITERAL = r"""'[^']*'|"[^"]*\""""
_PREDICATE = re.compile(
    rf"""\[\s*(?:(?:({_NAME}):)?({_NAME}|\.)\s*=\s*({_LITERAL}|concat\(\s*(?:{_LITERAL})"""
    rf"""(?:\s*,\s*(?:{_LITERAL}))*\s*\))|([1-9][0-9]*))\s*\]"""
)
_PARTS = re.compile(_LITERAL)
_ANY_PREDICATE = re.compile(r"""\[(?:[^'"\]]|'[^']*'|"[^"]*")*\]""")


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of an instance identifier; `/` has none.

    Key names lose their prefix: a key belongs to its list's module. Raises SchemaViolation naming the place.
    """
    if path == "/":
        return ()
    steps: list[Step] = []
    at, end = 0, len(path)
    while at < end:
        node = _NODE.match(path, at)
        if node is None:
            raise _malformed(path, at, "/name or /module:name")
        at = node.end()
        keys: list[tuple[str, str]] = []
        while at < end and path[at] == "[":
            predicate = _PREDICATE.match(path, at)
            if predicate is None:
                raise _malformed(path, at, "[key='value'], [.='value'] or [position]")
            at = predicate.end()
            _, key, literal, position = predicate.groups()
            keys.append((POSITION, position) if position else (intern(key), _unquote(literal)))
        steps.append(Step(intern(node[1] or ""), intern(node[2]), tuple(keys)))
    if not steps:
        raise _malformed(path, 0, "an absolute path")
    return tuple(steps)


def format_path(steps: Iterable[Step]) -> str:
    """The interned canonical string of `steps`, which must already name modules canonically."""
    return intern("".join(f"/{step.qualified}{predicates(step.keys)}" for step in steps) or "/")


def predicates(keys: Iterable[tuple[str, str]]) -> str:
    """Keys as they stand behind a node's name."""
    return "".join(f"[{name}={quote(text)}]" if name else f"[{text}]" for name, text in keys)


def quote(text: str) -> str:
    """`text` as an XPath literal: in single quotes where possible."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    parts = [part for part in re.split("(')", text) if part]
    return "concat(" + ",".join('"\'"' if part == "'" else f"'{part}'" for part in parts) + ")"


def strip_keys(path: str) -> str:
    """The path of the schema node: `path` without its predicates."""
    return _ANY_PREDICATE.sub("", path) if "[" in path else path


def covers(prefix: str, path: str) -> bool:
    """Whether `path` is at or below `prefix`. A list without keys at its end covers the list's entries."""
    if prefix == "/":
        return True
    if not path.startswith(prefix):
        return False
    return len(path) == len(prefix) or path[len(prefix)] in "/["


def parent(path: str) -> str:
    """The path of the node above; that of a top-level node is `/`."""
    return format_path(parse_path(path)[:-1])


def _unquote(literal: str) -> str:
    if literal[0] in "'\"":
        return literal[1:-1]
    return "".join(part[1:-1] for part in _PARTS.findall(literal))


def _malformed(path: str, at: int, expected: str) -> SchemaViolation:
    return SchemaViolation(
        f"{path!r} is not an instance identifier: at character {at + 1} expected {expected},"
        f" found {path[at : at + 20]!r}"
    )
