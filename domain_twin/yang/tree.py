"""Between leaves by path and RFC 7951 JSON trees. Owns nesting and member names; checks no types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from domain_twin.errors import SchemaViolation
from domain_twin.model import Value
from domain_twin.yang.paths import POSITION, Step, format_path, parse_path, predicates
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet

__all__ = ["build_tree", "flatten"]


def flatten(schema: SchemaSet, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value at `path` (`/`: the top), by canonical path and with their values untouched.

    Presence containers yield None. Members no module defines yield their path all the same, so that whoever
    types them can count them; a value that has not its node's shape is yielded as it is.
    """
    if path == "/":
        yield from _members(schema, None, "", value)
        return
    node = schema.node(path)
    if node is None or node.is_leaf:
        yield path, value
    else:
        yield from _below(schema, node, path, value)


def _below(schema: SchemaSet, node: SchemaNode, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if node.is_leaf:
        yield path, value
    elif isinstance(value, list) and node.kind is NodeKind.LIST and not path.endswith("]"):
        for position, entry in enumerate(value, 1):
            keys = _keys(node, entry, position)
            if keys is None:
                yield path, entry
            else:
                yield from _below(schema, node, path + keys, entry)
    elif isinstance(value, dict):
        if node.presence:
            yield path, None
        yield from _members(schema, node, path, value)
    else:
        yield path, value


def _members(schema: SchemaSet, node: SchemaNode | None, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path or "/", value
        return
    for member, inner in value.items():
        if member.startswith("@"):  # RFC 7952 5.2: metadata
            continue
        module, colon, name = member.partition(":")
        if not colon:
            module, name = "", member
        child = node.child(name, module) if node else schema.top(name, module)
        if child is None:
            yield f"{path}/{member}", inner
        else:
            yield from _below(schema, child, f"{path}/{child.step(node)}", inner)


def _keys(node: SchemaNode, entry: Any, position: int) -> str | None:
    """The predicates of a list entry, or None where it lacks a key or has one of the wrong type."""
    if not isinstance(entry, dict):
        return None
    if not node.keys:
        return predicates([(POSITION, str(position))])
    keys = []
    for key in node.keys:
        value = entry.get(key, entry.get(f"{node.module}:{key}"))
        leaf = node.children.get(key)
        if value is None or leaf is None:
            return None
        try:
            keys.append((key, leaf.codec.lexical(leaf.codec.native(value))))
        except SchemaViolation:
            return None
    return predicates(keys)


def build_tree(schema: SchemaSet, leaves: Mapping[str, Value]) -> dict[str, Any]:
    """The RFC 7951 tree of typed leaves. Keys are filled in from the paths. Raises SchemaViolation."""
    root: dict[str, Any] = {}
    entries: dict[str, dict[str, Any]] = {"": root}
    for path, value in leaves.items():
        node = schema.node(path)
        if node is None:
            raise SchemaViolation(f"{path}: no such node in the loaded YANG modules")
        steps = parse_path(path)
        if node.is_leaf:
            _object(schema, entries, steps[:-1])[steps[-1].qualified] = node.codec.json(value)
        else:
            _object(schema, entries, steps)
    return root


def _object(schema: SchemaSet, entries: dict[str, dict[str, Any]], steps: tuple[Step, ...]) -> dict[str, Any]:
    path = format_path(steps) if steps else ""
    found = entries.get(path)
    if found is not None:
        return found
    above = _object(schema, entries, steps[:-1])
    step = steps[-1]
    made: dict[str, Any] = {}
    if not step.keys:
        above[step.qualified] = made
    else:
        node = schema.node(path)
        assert node is not None  # it is above a node that exists
        for key, text in step.keys:
            if key != POSITION:
                codec = node.children[key].codec
                made[key] = codec.json(codec.text(text))
        above.setdefault(step.qualified, []).append(made)
    entries[path] = made
    return made
