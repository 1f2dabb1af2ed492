"""gNMI paths and values of an emulated device: between the wire and its schema. Holds no data."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from grpc import StatusCode
from pygnmi.spec.v080 import gnmi_pb2

from domain_twin.emulator.device import Leaf, PathPattern
from domain_twin.emulator.device_schema import DeviceSchema, SchemaNode, Step, format_path
from domain_twin.emulator.json_tree import json_leaf
from domain_twin.emulator.leaf_types import LeafType, LeafTypeError
from domain_twin.errors import OperationRejected

_ANY = "*"
_ANY_DEPTH = "..."
_OPENCONFIG = "openconfig"


class GnmiStatus(OperationRejected):
    """An RPC ends with this gRPC status."""

    def __init__(self, code: StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


def patterns(schema: DeviceSchema, prefix: Any, path: Any) -> list[PathPattern]:
    """The subtrees that a request's prefix and path stand for; wildcards `*` and `...` follow the schema.

    A path's origin may be empty, `rfc7951`, `openconfig`, or the module of its first element. Raises
    GnmiStatus.
    """
    elements = [*prefix.elem, *path.elem]
    text = _text(elements)
    module = _origin_module(schema, path.origin or prefix.origin, elements[0].name if elements else "", text)
    chains: list[list[tuple[SchemaNode, tuple[str | None, ...] | None]]] = [[]]
    for position, element in enumerate(elements):
        longer: list[list[tuple[SchemaNode, tuple[str | None, ...] | None]]] = []
        if element.name == _ANY_DEPTH:
            for chain in chains:
                longer.extend([*chain, *below] for below in _descents(schema, chain))
        else:
            for chain in chains:
                for node in _nodes(schema, chain, element.name, module if position == 0 else None):
                    longer.append([*chain, (node, _keys(node, element, text))])
        if not longer:
            raise GnmiStatus(
                StatusCode.NOT_FOUND, f"{text}: no module of the device defines {element.name!r} there"
            )
        chains = longer
    return [PathPattern(chain, format_path(_steps(chain)) if _concrete(chain) else text) for chain in chains]


def concrete_path(schema: DeviceSchema, prefix: Any, path: Any) -> str:
    """The canonical path that a Set names; only its last list may lack keys. Raises GnmiStatus."""
    found = patterns(schema, prefix, path)
    if len(found) > 1 or not _concrete(found[0].elements[:-1]) or None in (_last_keys(found[0]) or ()):
        raise GnmiStatus(StatusCode.INVALID_ARGUMENT, f"{found[0].text}: a Set takes no wildcards")
    return format_path(_steps(found[0].elements))


def wire_path(steps: Sequence[Step]) -> Any:
    """The gNMI path of a node: a module name on the first element and wherever the module changes.

    Paths of OpenConfig have none, but an origin.
    """
    bare = bool(steps) and steps[0][0].module.name.startswith(f"{_OPENCONFIG}-")
    path = gnmi_pb2.Path(origin=_OPENCONFIG if bare else "")
    for node, keys in steps:
        element = path.elem.add(name=node.name if bare else node.wire_name)
        if keys is not None:
            for name, value in zip(node.keys, keys, strict=True):
                element.key[name] = value
    return path


def add_update(notification: Any, leaf: Leaf, encoding: int) -> None:
    """Append a leaf's present value, or its deletion, to a Notification."""
    path = leaf.wire
    if path is None:
        path = leaf.wire = wire_path(leaf.steps)
    if leaf.deleted:
        notification.delete.append(path)
        return
    update = notification.update.add()
    update.path.CopyFrom(path)
    set_value(update.val, leaf.node, leaf.value, encoding)


def set_value(target: Any, node: SchemaNode, value: Any, encoding: int) -> None:
    """Write a leaf's value into the TypedValue `target`."""
    leaf_type = node.leaf_type
    if encoding == gnmi_pb2.PROTO and leaf_type is not None and leaf_type.base != "empty":
        if node.keyword == "leaf-list":
            target.leaflist_val.SetInParent()
            for item in value:
                _set_scalar(target.leaflist_val.element.add(), leaf_type, item)
        else:
            _set_scalar(target, leaf_type, value)
        return
    set_json(target, json_leaf(node, value), encoding)


def set_json(target: Any, data: Any, encoding: int) -> None:
    """Write RFC 7951 JSON into the TypedValue `target`."""
    octets = json.dumps(data, separators=(",", ":")).encode()
    if encoding == gnmi_pb2.JSON:
        target.json_val = octets
    else:
        target.json_ietf_val = octets


def json_of(value: Any, path: str) -> Any:
    """What a TypedValue of a Set holds, as JSON. Raises GnmiStatus."""
    kind = value.WhichOneof("value")
    if kind in ("json_ietf_val", "json_val"):
        try:
            return json.loads(getattr(value, kind))
        except ValueError as cause:
            raise GnmiStatus(StatusCode.INVALID_ARGUMENT, f"{path}: the value is not JSON: {cause}") from None
    if kind in ("string_val", "int_val", "uint_val", "bool_val", "double_val", "float_val", "ascii_val"):
        return getattr(value, kind)
    if kind == "bytes_val":
        return base64.b64encode(value.bytes_val).decode()
    if kind == "decimal_val":
        number = value.decimal_val
        return f"{number.digits}e-{number.precision}"
    if kind == "leaflist_val":
        return [json_of(element, path) for element in value.leaflist_val.element]
    raise GnmiStatus(
        StatusCode.INVALID_ARGUMENT,
        f"{path}: a value of kind {kind or 'none'}: JSON_IETF or a scalar is accepted",
    )


def _set_scalar(target: Any, leaf_type: LeafType, value: Any) -> None:
    member = leaf_type.member_of(value) if leaf_type.members else leaf_type
    base = member.base
    if base.startswith("uint"):
        target.uint_val = value
    elif base.startswith("int"):
        target.int_val = value
    elif base == "boolean":
        target.bool_val = value
    elif base == "decimal64":
        target.double_val = float(value)
    elif base == "binary":
        target.bytes_val = base64.b64decode(value)
    else:
        target.string_val = str(value)


def _origin_module(schema: DeviceSchema, origin: str, first: str, text: str) -> str | None:
    if origin in ("", "rfc7951"):
        return None
    if origin == _OPENCONFIG:
        found = [
            root.module.name
            for root in schema.roots.values()
            if root.name == first and root.module.name.startswith(f"{_OPENCONFIG}-")
        ]
        return found[0] if found else None
    if origin not in schema.modules:
        raise GnmiStatus(
            StatusCode.NOT_FOUND,
            f"{text}: origin {origin!r} is unknown: use none, rfc7951 or the name of a module",
        )
    return origin


def _nodes(
    schema: DeviceSchema, chain: Sequence[tuple[SchemaNode, Any]], name: str, module: str | None
) -> Iterable[SchemaNode]:
    if name == _ANY:
        nodes = chain[-1][0].children.values() if chain else schema.roots.values()
        return [node for node in nodes if module is None or node.module.name == module]
    node = chain[-1][0].child(name) if chain else schema.root(name, module)
    return [] if node is None else [node]


def _descents(
    schema: DeviceSchema, chain: Sequence[tuple[SchemaNode, Any]]
) -> Iterator[list[tuple[SchemaNode, tuple[str | None, ...] | None]]]:
    yield []
    for node in _nodes(schema, chain, _ANY, None):
        for below in _descents(schema, [*chain, (node, None)]):
            yield [(node, None), *below]


def _keys(node: SchemaNode, element: Any, text: str) -> tuple[str | None, ...] | None:
    if not element.key:
        return None
    given = {name.rpartition(":")[2]: value for name, value in element.key.items()}
    if node.keyword != "list" or set(given) - set(node.keys):
        known = f"its keys are {', '.join(node.keys)}" if node.keys else "it has no keys"
        raise GnmiStatus(StatusCode.INVALID_ARGUMENT, f"{text}: {node.name!r}: {known}")
    keys: list[str | None] = []
    for child, name in zip(node.children.values(), node.keys, strict=False):
        value = given.get(name, _ANY)
        if value == _ANY or child.leaf_type is None:
            keys.append(None)
            continue
        try:
            keys.append(child.leaf_type.to_text(child.leaf_type.from_text(value)))
        except LeafTypeError as cause:
            raise GnmiStatus(StatusCode.INVALID_ARGUMENT, f"{text}: key {name!r}: {cause}") from None
    return tuple(keys)


def _concrete(chain: Sequence[tuple[SchemaNode, Any]]) -> bool:
    return PathPattern(chain, "").is_concrete


def _last_keys(pattern: PathPattern) -> tuple[str | None, ...] | None:
    return pattern.elements[-1][1] if pattern.elements else None


def _steps(chain: Sequence[tuple[SchemaNode, Any]]) -> tuple[Step, ...]:
    return tuple((node, keys) for node, keys in chain)


def _text(elements: Iterable[Any]) -> str:
    return (
        "".join(
            f"/{element.name}" + "".join(f"[{name}='{value}']" for name, value in element.key.items())
            for element in elements
        )
        or "/"
    )
