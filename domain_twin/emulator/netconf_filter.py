"""What a NETCONF filter selects: subtree filters (RFC 6241 6) on a data tree, and filters as path patterns.

XPath is refused but for a plain absolute path in a subscription; the device does not announce :xpath.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from domain_twin.emulator.data_tree import Tree
from domain_twin.emulator.device import PathPattern
from domain_twin.emulator.device_schema import (
    DeviceSchema,
    SchemaNode,
    Step,
    format_path,
    key_values,
    split_path,
)
from domain_twin.emulator.leaf_types import LeafTypeError
from domain_twin.emulator.rpc_error import RpcError
from domain_twin.emulator.xml_tree import local_name, module_prefixes, namespace
from domain_twin.errors import SchemaViolation

_XPATH_HINT = "a plain absolute path is accepted, as in /m:list[m:key='value']/m:leaf"


def subtree(
    schema: DeviceSchema,
    tree: Mapping[SchemaNode, Any],
    filters: Iterable[Any],
    node: SchemaNode | None = None,
) -> Tree:
    """The part of `tree`, the content of `node`, that the filter elements select; entries keep their keys."""
    result: Tree = {}
    for element in filters:
        for child in _named(schema, node, element):
            if child in tree:
                _select(schema, result, child, tree[child], element)
    return result


def _select(schema: DeviceSchema, result: Tree, node: SchemaNode, held: Any, element: Any) -> None:
    if node.is_leaf:
        if not _text(element):
            result[node] = held
        elif _equal(schema, node, held, element):
            result[node] = _matching(schema, node, held, element)
    elif node.keyword == "list":
        chosen = dict(result.get(node, {}))
        for keys, entry in held.items():
            part = _content(schema, node, entry, element)
            if part is not None:
                chosen[keys] = _united(chosen[keys], part) if keys in chosen else part
        if chosen:
            result[node] = chosen
    else:
        part = _content(schema, node, held, element)
        if part or (part is not None and node.presence):
            result[node] = _united(result[node], part) if node in result else part


def _content(schema: DeviceSchema, node: SchemaNode, held: Tree, element: Any) -> Tree | None:
    """What `element` selects inside one container or entry; None where a content match fails."""
    children = list(element)
    if not children:
        return held
    result: Tree = {child: held[child] for child in _keys(node) if child in held}
    selections: list[Any] = []
    for child in children:
        if len(child) or not _text(child):
            selections.append(child)
            continue
        matched = [found for found in _named(schema, node, child) if found.is_leaf and found in held]
        if not any(_equal(schema, found, held[found], child) for found in matched):
            return None
        for found in matched:
            result[found] = _matching(schema, found, held[found], child)
    if not selections:
        return held
    selected = subtree(schema, held, selections, node)
    return {**result, **selected}


def _named(schema: DeviceSchema, node: SchemaNode | None, element: Any) -> Iterator[SchemaNode]:
    children = schema.roots.values() if node is None else node.children.values()
    name, uri = local_name(element), namespace(element)
    for child in children:
        if child.name == name and uri in ("", child.module.namespace):
            yield child


def _keys(node: SchemaNode) -> list[SchemaNode]:
    return list(node.children.values())[: len(node.keys)]


def _equal(schema: DeviceSchema, node: SchemaNode, held: Any, element: Any) -> bool:
    return bool(_same(schema, node, held, element))


def _same(schema: DeviceSchema, node: SchemaNode, held: Any, element: Any) -> list[Any]:
    assert node.leaf_type is not None
    value = getattr(held, "value", held)
    try:
        wanted = node.leaf_type.to_text(
            node.leaf_type.from_text(_text(element), module_prefixes(schema, element))
        )
    except LeafTypeError:
        return []
    items = value if node.keyword == "leaf-list" else (value,)
    return [item for item in items if node.leaf_type.to_text(item) == wanted]


def _matching(schema: DeviceSchema, node: SchemaNode, held: Any, element: Any) -> Any:
    return tuple(_same(schema, node, held, element)) if node.keyword == "leaf-list" else held


def _united(one: Tree, other: Tree) -> Tree:
    result = dict(one)
    for node, held in other.items():
        mine = result.get(node)
        if isinstance(mine, dict) and isinstance(held, dict):
            result[node] = _united(mine, held)
        else:
            result[node] = held
    return result


def _text(element: Any) -> str:
    return (element.text or "").strip()


def subtree_patterns(schema: DeviceSchema, filters: Sequence[Any]) -> list[PathPattern]:
    """A subtree filter as path patterns; content matches are possible on keys only. Raises RpcError."""
    found = [
        PathPattern(chain, format_path(tuple(chain)))  # type: ignore[arg-type]
        for element in filters
        for chain in _chains(schema, None, [], element)
    ]
    if not found:
        raise _unsupported("the filter selects nothing that the device's modules define")
    return found


def _chains(
    schema: DeviceSchema,
    node: SchemaNode | None,
    above: list[tuple[SchemaNode, tuple[str | None, ...] | None]],
    element: Any,
) -> Iterator[list[tuple[SchemaNode, tuple[str | None, ...] | None]]]:
    for child in _named(schema, node, element):
        matches: dict[str, str] = {}
        selections = []
        for inner in element:
            if not len(inner) and _text(inner):
                name = local_name(inner)
                if name not in child.keys:
                    raise _unsupported(f"content match on {name!r}, which is no key of {child.name!r}")
                matches[name] = _text(inner)
            else:
                selections.append(inner)
        keys = tuple(matches.get(key) for key in child.keys) if matches else None
        here = [*above, (child, keys)]
        if not selections:
            yield here
        for inner in selections:
            yield from _chains(schema, child, here, inner)


def xpath_patterns(schema: DeviceSchema, text: str, prefixes: Mapping[str | None, str]) -> list[PathPattern]:
    """A plain absolute XPath as a pattern; `prefixes` says which module each stands for. Raises RpcError."""
    path = text.strip()
    elements: list[tuple[SchemaNode, tuple[str | None, ...] | None]] = []
    node: SchemaNode | None = None
    try:
        for name, predicates in split_path(path):
            prefix, _, bare = name.rpartition(":")
            known = f"{prefixes.get(prefix, prefix)}:{bare}" if prefix else bare
            found = schema.root(known) if node is None else node.child(known)
            if found is None:
                raise _unsupported(f"{path}: no module of the device defines {name!r} there")
            elements.append((found, key_values(found, predicates, path) if predicates else None))
            node = found
    except SchemaViolation as cause:
        raise _unsupported(f"{cause}; {_XPATH_HINT}") from None
    if not elements:
        raise _unsupported(f"{text!r} selects nothing; {_XPATH_HINT}")
    return [PathPattern(elements, path)]


def gather(instances: Iterable[tuple[tuple[Step, ...], Any]]) -> Tree:
    """One tree of separate instances, each under its ancestors and their keys."""
    result: Tree = {}
    for steps, held in instances:
        if not steps:
            return dict(held)
        above: Any = result
        for node, keys in steps[:-1]:
            above = above.setdefault(node, {})
            if keys is not None:
                above = above.setdefault(keys, _key_slots(node, keys))
        node, keys = steps[-1]
        if keys is None:
            above[node] = held
        else:
            above.setdefault(node, {})[keys] = held
    return result


def _key_slots(node: SchemaNode, keys: tuple[str, ...]) -> Tree:
    return {
        child: child.leaf_type.from_text(text)
        for child, text in zip(_keys(node), keys, strict=True)
        if child.leaf_type is not None
    }


def _unsupported(message: str) -> RpcError:
    return RpcError("invalid-value", message, app_tag="ietf-subscribed-notifications:filter-unsupported")
