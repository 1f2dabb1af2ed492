"""The RFC 7951 JSON form of an emulated device's data: parsing edits, rendering trees. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

from domain_twin.emulator.data_tree import ConfigRejected, Request
from domain_twin.emulator.device_schema import DeviceSchema, SchemaNode, Step, format_path
from domain_twin.emulator.leaf_types import LeafTypeError


def requests_from_json(
    schema: DeviceSchema,
    node: SchemaNode | None,
    data: Any,
    above: tuple[Step, ...] = (),
    *,
    config: bool = True,
) -> list[Request]:
    """What merging the JSON object `data` into `node` (None: the root) asks for (RFC 7951).

    Raises ConfigRejected for unknown members, values outside their type, missing keys, and, where `config`,
    state.
    """
    if not isinstance(data, Mapping):
        raise ConfigRejected(format_path(above), f"a JSON object is expected, not {type(data).__name__}")
    requests: list[Request] = []
    for name, held in data.items():
        if name.startswith("@"):
            continue  # RFC 7952 metadata
        child = schema.root(name) if node is None else node.child(name)
        if child is None:
            raise ConfigRejected(
                format_path(above), f"no module of the device defines {name!r} there", "unknown-element"
            )
        requests.extend(requests_at(schema, child, held, above, config=config))
    return requests


def requests_at(
    schema: DeviceSchema, node: SchemaNode, data: Any, above: tuple[Step, ...], *, config: bool = True
) -> list[Request]:
    """What setting `node` under `above` to the JSON value `data` asks for; a list is an array of entries."""
    here = (*above, (node, None))
    if config and not node.config:
        raise ConfigRejected(format_path(here), "is state, not configuration: it cannot be set")
    if node.keyword == "leaf":
        return [Request(node, value=_typed(node, data, here))]
    if node.keyword == "leaf-list":
        if not isinstance(data, (list, tuple)):
            raise ConfigRejected(format_path(here), "a JSON array is expected for a leaf-list")
        return [Request(node, value=tuple(_typed(node, value, here) for value in data))]
    if node.keyword == "list":
        entries = data if isinstance(data, list) else [data]
        return [_entry_request(schema, node, entry, above, config=config) for entry in entries]
    return [Request(node, children=requests_from_json(schema, node, data, here, config=config))]


def _entry_request(
    schema: DeviceSchema, node: SchemaNode, entry: Any, above: tuple[Step, ...], *, config: bool
) -> Request:
    path = format_path((*above, (node, None)))
    if not isinstance(entry, Mapping):
        raise ConfigRejected(path, "a list entry is a JSON object")
    key_nodes = list(node.children.values())[: len(node.keys)]
    missing = [key.name for key in key_nodes if key.name not in entry and key.qualified not in entry]
    if missing:
        raise ConfigRejected(path, f"key missing: {', '.join(missing)}", "missing-element")
    raw = [entry[key.name] if key.name in entry else entry[key.qualified] for key in key_nodes]
    values = tuple(
        _typed(key, value, (*above, (node, None), (key, None)))
        for key, value in zip(key_nodes, raw, strict=True)
    )
    keys = tuple(_key_text(key, value) for key, value in zip(key_nodes, values, strict=True))
    here = (*above, (node, keys))
    children = requests_from_json(schema, node, entry, here, config=config)
    return Request(node, keys=keys, key_leaves=values, children=children)


def _key_text(node: SchemaNode, value: Any) -> str:
    assert node.leaf_type is not None
    return node.leaf_type.to_text(value)


def _typed(node: SchemaNode, raw: Any, here: tuple[Step, ...]) -> Any:
    assert node.leaf_type is not None
    try:
        return node.leaf_type.from_json(raw)
    except LeafTypeError as cause:
        raise ConfigRejected(format_path(here), str(cause)) from None


def json_tree(
    tree: Mapping[SchemaNode, Any],
    node: SchemaNode | None,
    *,
    state_only: bool = False,
    qualify: bool = False,
) -> dict[str, Any]:
    """The JSON object of the content of `node` (None: the root).

    `state_only` leaves configuration out, but for the keys of entries that hold state; `qualify` gives every
    member at this level its module's name, as the top of a JSON document needs (RFC 7951 4). Slots may be
    values, or objects whose `value` is theirs.
    """
    result: dict[str, Any] = {}
    for child in _in_schema_order(tree, node):
        bare = not qualify and node is not None and child.module is node.module
        name = child.name if bare else child.qualified
        held = tree[child]
        if child.is_leaf:
            if not (state_only and child.config) or (node is not None and child.name in node.keys):
                result[name] = json_leaf(child, getattr(held, "value", held))
        elif child.keyword == "list":
            entries = [json_tree(entry, child, state_only=state_only) for entry in held.values()]
            if state_only:
                entries = [entry for entry in entries if len(entry) > len(child.keys)]
            if entries:
                result[name] = entries
        else:
            inner = json_tree(held, child, state_only=state_only)
            if inner or (child.presence and not (state_only and child.config)):
                result[name] = inner
    return result


def json_leaf(node: SchemaNode, value: Any) -> Any:
    """One leaf's or leaf-list's JSON value."""
    leaf_type = node.leaf_type
    if leaf_type is None:
        return {}  # a presence container
    if node.keyword == "leaf-list":
        return [leaf_type.to_json(item) for item in value]
    return leaf_type.to_json(value)


def _in_schema_order(tree: Mapping[SchemaNode, Any], node: SchemaNode | None) -> Iterable[SchemaNode]:
    if node is None:
        return list(tree)
    return [child for child in node.children.values() if child in tree]
