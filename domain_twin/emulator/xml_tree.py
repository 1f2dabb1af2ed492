"""The XML form of an emulated device's data (RFC 7950): parsing edits, rendering trees. No I/O.

Input is hardened: no document type, no entities, no network. Output is built as text, which is what makes a
reply or a push cheap.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from lxml import etree

from domain_twin.emulator.data_tree import OPERATIONS, Operation, Request, Tree
from domain_twin.emulator.device_schema import DeviceSchema, Module, SchemaNode, Step
from domain_twin.emulator.leaf_types import LeafType, LeafTypeError
from domain_twin.emulator.rpc_error import NETCONF, RpcError
from domain_twin.emulator.xml_paths import printable

_OPERATION = f"{{{NETCONF}}}operation"


def parse_xml(octets: bytes) -> Any:
    """The root element of a message. Raises RpcError(malformed-message)."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(octets, parser)
    except (etree.XMLSyntaxError, ValueError) as cause:
        raise RpcError(
            "malformed-message", f"the message is not well-formed XML: {cause}", kind="rpc"
        ) from None
    document: Any = root.getroottree().docinfo
    if document.doctype:
        raise RpcError("malformed-message", "a document type is not accepted in a message", kind="rpc")
    return root


def local_name(element: Any) -> str:
    """An element's name without its namespace."""
    return str(etree.QName(element).localname)


def namespace(element: Any) -> str:
    """An element's namespace, empty where it has none."""
    return etree.QName(element).namespace or ""


def module_prefixes(schema: DeviceSchema, element: Any) -> dict[str | None, str]:
    """Which module each prefix in scope at `element` stands for."""
    return {
        prefix: schema.by_namespace[uri].name
        for prefix, uri in element.nsmap.items()
        if uri in schema.by_namespace
    }


def requests_from_xml(
    schema: DeviceSchema, node: SchemaNode | None, element: Any, above: tuple[Step, ...] = ()
) -> list[Request]:
    """What the children of `element`, an instance of `node`, ask of a datastore. Raises RpcError."""
    return [_request(schema, node, child, above) for child in element]


def _request(
    schema: DeviceSchema, parent: SchemaNode | None, element: Any, above: tuple[Step, ...]
) -> Request:
    node = schema.by_tag(parent, element.tag)
    if node is None:
        raise _unknown(schema, element, above)
    here = (*above, (node, None))
    operation = _operation(element, here)
    if not node.config:
        raise RpcError("invalid-value", f"{node.name!r} is state, not configuration", steps=here)
    if node.is_leaf:
        if len(element):
            raise RpcError(
                "unknown-element", f"{node.name!r} is a {node.keyword}: it holds no elements", steps=here
            )
        if operation in ("delete", "remove") and node.keyword == "leaf":
            return Request(node, operation)
        return Request(node, operation, value=_value(schema, node, element, here))
    if node.keyword == "list":
        return _entry(schema, node, element, above, operation)
    return Request(node, operation, children=requests_from_xml(schema, node, element, here))


def _entry(
    schema: DeviceSchema, node: SchemaNode, element: Any, above: tuple[Step, ...], operation: Operation | None
) -> Request:
    here = (*above, (node, None))
    keys: list[str] = []
    values: list[Any] = []
    for child in list(node.children.values())[: len(node.keys)]:
        found = element.find(child.tag)
        if found is None:
            raise RpcError(
                "missing-element",
                f"the key {child.name!r} of {node.name!r} is missing",
                steps=here,
                info={"bad-element": child.name},
            )
        assert child.leaf_type is not None
        values.append(_value(schema, child, found, (*here, (child, None))))
        keys.append(child.leaf_type.to_text(values[-1]))
    entry = (*above, (node, tuple(keys)))
    children = [
        _request(schema, node, child, entry)
        for child in element
        if not (namespace(child) == node.module.namespace and local_name(child) in node.keys)
    ]
    return Request(node, operation, tuple(keys), tuple(values), children=children)


def _value(schema: DeviceSchema, node: SchemaNode, element: Any, here: tuple[Step, ...]) -> Any:
    assert node.leaf_type is not None
    try:
        return node.leaf_type.from_text(element.text or "", module_prefixes(schema, element))
    except LeafTypeError as cause:
        raise RpcError("invalid-value", str(cause), steps=here, info={"bad-element": node.name}) from None


def _operation(element: Any, here: tuple[Step, ...]) -> Operation | None:
    chosen: Operation | None = None
    for name, value in element.attrib.items():
        if name != _OPERATION:
            raise RpcError(
                "unknown-attribute",
                f"attribute {name!r} is not supported",
                steps=here,
                info={"bad-attribute": etree.QName(name).localname, "bad-element": local_name(element)},
            )
        if value not in OPERATIONS or value == "none":
            raise RpcError(
                "bad-attribute",
                f"operation {value!r}: {', '.join(OPERATIONS[:-1])} are accepted",
                steps=here,
                info={"bad-attribute": "operation", "bad-element": local_name(element)},
            )
        chosen = value
    return chosen


def _unknown(schema: DeviceSchema, element: Any, above: tuple[Step, ...]) -> RpcError:
    name, uri = local_name(element), namespace(element)
    if uri not in schema.by_namespace:
        return RpcError(
            "unknown-namespace",
            f"no module of the device has the namespace {uri!r} (element {name!r})",
            steps=above,
            info={"bad-element": name, "bad-namespace": uri},
        )
    return RpcError(
        "unknown-element",
        f"no module of the device defines {name!r} of {schema.by_namespace[uri].name} there",
        steps=above,
        info={"bad-element": name},
    )


def xml_tree(schema: DeviceSchema, tree: Mapping[SchemaNode, Any], node: SchemaNode | None = None) -> str:
    """The content of `node` (None: the root) as XML, each subtree with the namespaces it needs."""
    out: list[str] = []
    _write(schema, out, tree, node, node.module if node is not None else None)
    return "".join(out)


def xml_node(schema: DeviceSchema, step: Step, held: Any) -> str:
    """One leaf, leaf-list value, container or list entry as a stand-alone element."""
    node, _ = step
    out: list[str] = []
    if node.is_leaf:
        _write_leaf(schema, out, node, held, None)
    else:
        _write_inner(schema, out, node, held, None)
    return "".join(out)


def _write(
    schema: DeviceSchema,
    out: list[str],
    tree: Mapping[SchemaNode, Any],
    node: SchemaNode | None,
    outer: Module | None,
) -> None:
    order: Iterable[SchemaNode] = tree if node is None else node.children.values()
    for child in order:
        if child not in tree:
            continue
        held = tree[child]
        if child.is_leaf:
            value = getattr(held, "value", held)
            for item in value if child.keyword == "leaf-list" else (value,):
                _write_leaf(schema, out, child, item, outer)
        elif child.keyword == "list":
            for entry in held.values():
                _write_inner(schema, out, child, entry, outer)
        elif held or child.presence:
            _write_inner(schema, out, child, held, outer)


def _write_inner(
    schema: DeviceSchema, out: list[str], node: SchemaNode, held: Tree, outer: Module | None
) -> None:
    declared = "" if node.module is outer else f" xmlns={quoteattr(node.module.namespace)}"
    out.append(f"<{node.name}{declared}>")
    _write(schema, out, held, node, node.module)
    out.append(f"</{node.name}>")


def _write_leaf(
    schema: DeviceSchema, out: list[str], node: SchemaNode, value: Any, outer: Module | None
) -> None:
    assert node.leaf_type is not None
    declared = "" if node.module is outer else f" xmlns={quoteattr(node.module.namespace)}"
    text, more = _lexical(schema, node.leaf_type, value)
    out.append(f"<{node.name}{declared}{more}>{printable(text)}</{node.name}>")


def _lexical(schema: DeviceSchema, leaf_type: LeafType, value: Any) -> tuple[str, str]:
    text = leaf_type.to_text(value)
    base = leaf_type.base
    if base == "union" and isinstance(value, str):
        base = leaf_type.member_of(value).base
    if base == "identityref" and ":" in text:
        name, _, identity = text.partition(":")
        module = schema.modules[name]
        return f"{module.prefix}:{identity}", f" xmlns:{module.prefix}={quoteattr(module.namespace)}"
    return text, ""
