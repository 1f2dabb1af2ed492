"""YANG data in XML (RFC 7950 7) to leaves by path and back; filters and configurations. Knows no session."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from lxml import etree

from domain_twin.errors import SchemaViolation
from domain_twin.model import Nanoseconds
from domain_twin.southbound.base import Edit, Operation
from domain_twin.southbound.netconf_messages import BASE
from domain_twin.yang.codec import LeafCodec
from domain_twin.yang.paths import POSITION, Step, format_path, parse_path, predicates
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet
from domain_twin.yang.types import IdentityrefType, InstanceIdentifierType, UnionType, YangType

__all__ = [
    "LONGEST_TEXT",
    "HoldsElements",
    "OccursTwice",
    "Target",
    "TooLong",
    "XmlReader",
    "config_element",
    "event_time",
    "filter_element",
]

LONGEST_TEXT = 256 * 1024
"""Characters of one leaf that are taken; what is longer is quarantined, and only its beginning kept."""

_REMEMBERED = 100_000  # names and targets
_NONE: dict[str | None, str] = {}
_RESOURCE_STEP = re.compile(r"/(?:([^:/=\[]+):)?([^:/=\[]+)(?:=([^/]*))?")


class OccursTwice(tuple[Any, ...]):
    """What a leaf holds that a device sent more than once: no leaf's type takes it."""


class HoldsElements(tuple[Any, ...]):
    """What a leaf holds whose element has elements inside: no leaf's type takes it."""


class TooLong(tuple[Any, ...]):
    """The beginning of a text longer than LONGEST_TEXT: no leaf's type takes it."""


class _Seen:
    """What all readers of one schema have learnt; a device that invents names or paths is not remembered."""

    def __init__(self) -> None:
        self.children: dict[tuple[str, str], tuple[SchemaNode | None, str, bool]] = {}
        self.targets: dict[str, Target] = {}


_seen: WeakKeyDictionary[SchemaSet, _Seen] = WeakKeyDictionary()


class Target(NamedTuple):
    """A path with what is known of it: its node, and the node above and its path."""

    path: str
    node: SchemaNode | None
    above: str
    parent: SchemaNode | None


class XmlReader:
    """Reads YANG data of one schema. Text that is not of its leaf's type stays text, to be quarantined."""

    def __init__(self, schema: SchemaSet) -> None:
        self.schema = schema
        if schema not in _seen:
            _seen[schema] = _Seen()
        self._children = _seen[schema].children
        self._targets = _seen[schema].targets

    def leaves(self, elements: Iterable[Any], above: str = "/") -> dict[str, Any]:
        """Values by path of `elements`, which are children of the node at `above`.

        Presence containers have None. Elements that no module defines keep their text. A leaf that comes
        twice, holds elements or is too long has a value that no type takes.
        """
        out: dict[str, Any] = {}
        node = None if above == "/" else self.schema.node(above)
        self._read(elements, node, "" if above == "/" else above, out)
        return out

    def leaves_below(self, elements: Iterable[Any], target: Target) -> dict[str, Any]:
        """The same where `elements` are what `target` is to hold."""
        out: dict[str, Any] = {}
        self._read(elements, target.parent, "" if target.above == "/" else target.above, out)
        return out

    def _read(self, elements: Iterable[Any], node: SchemaNode | None, path: str, out: dict[str, Any]) -> None:
        positions: dict[str, int] = {}
        for element in elements:
            if not isinstance(element.tag, str):
                continue
            child, step, prefixed = self._child(node, element.tag)
            here = f"{path}/{step}"
            if child is None:
                text = element.text if not len(element) else etree.tostring(element, encoding="unicode")
                out[here] = _bounded(text or "")
                continue
            match child.kind:
                case NodeKind.LEAF:
                    value = _decode(child.codec, element, self._prefixes(element) if prefixed else _NONE)
                    out[here] = OccursTwice((out[here], value)) if here in out else value
                case NodeKind.LEAF_LIST:
                    value = _decode(child.codec, element, self._prefixes(element) if prefixed else _NONE)
                    out[here] = (*out.get(here, ()), value)
                case NodeKind.ANYDATA:
                    out[here] = _bounded(
                        "".join(etree.tostring(part, encoding="unicode") for part in element)
                    )
                case NodeKind.CONTAINER:
                    if child.presence:
                        out[here] = None
                    self._read(element, child, here, out)
                case NodeKind.LIST:
                    positions[here] = positions.get(here, 0) + 1
                    self._read(element, child, here + self._keys(child, element, positions[here]), out)

    def _child(self, node: SchemaNode | None, tag: str) -> tuple[SchemaNode | None, str, bool]:
        key = (node.path if node else "", tag)
        found = self._children.get(key)
        if found is None:
            name = etree.QName(tag)
            module = self.schema.module_of.get(name.namespace or "", "")
            child = node.child(name.localname, module) if node else self.schema.top(name.localname, module)
            if child is None:
                found = None, f"{module or name.namespace}:{name.localname}", False
            else:
                found = child, child.step(node), _takes_prefixes(child)
            if len(self._children) < _REMEMBERED:
                self._children[key] = found
        return found

    def _prefixes(self, element: Any) -> dict[str | None, str]:
        return {prefix: self.schema.module_of.get(uri, "") for prefix, uri in element.nsmap.items()}

    def _keys(self, node: SchemaNode, element: Any, position: int) -> str:
        if not node.keys:
            return predicates([(POSITION, str(position))])
        namespace = self.schema.modules[node.module].namespace
        keys = []
        for key in node.keys:
            held = element.find(f"{{{namespace}}}{key}")
            if held is None:
                return predicates(
                    [(POSITION, str(position))]
                )  # no such entry: the stage after this refuses it
            codec = node.children[key].codec
            value = _decode(
                codec, held, self._prefixes(held) if _takes_prefixes(node.children[key]) else _NONE
            )
            try:
                keys.append((key, codec.lexical(codec.native(value))))
            except SchemaViolation:
                keys.append((key, str(value)))
        return predicates(keys)

    def target(self, element: Any) -> Target:
        """What the text of an edit's target names. Raises SchemaViolation."""
        text, nsmap = element.text or "", element.nsmap
        plain = not any(nsmap)  # but for the default namespace, which names in a path do not have
        found = self._targets.get(text) if plain else None
        if found is None:
            path = self.path(text, nsmap)
            above = format_path(parse_path(path)[:-1])
            parent = None if above == "/" else self.schema.node(above)
            found = Target(path, self.schema.node(path), above, parent)
            if plain and len(self._targets) < _REMEMBERED:
                self._targets[text] = found
        return found

    def path(self, text: str, nsmap: dict[str | None, str] | None = None) -> str:
        """The canonical path of an instance-identifier or a data resource identifier (RFC 8040 3.5.3).

        Names carry XML prefixes, or names of modules. Raises SchemaViolation.
        """
        text = text.strip()
        is_resource = "=" in text and "[" not in text
        steps = self._resource_steps(text) if is_resource else list(parse_path(text))
        known = nsmap or {}
        return self.schema.canonical(
            [
                step._replace(module=self.schema.module_of.get(known.get(step.module, ""), step.module))
                for step in steps
            ]
        )

    def _resource_steps(self, text: str) -> list[Step]:
        steps: list[Step] = []
        node: SchemaNode | None = None
        at = 0
        while at < len(text):
            match = _RESOURCE_STEP.match(text, at)
            if match is None:
                raise SchemaViolation(f"{text!r} is not a data resource identifier, from character {at + 1}")
            at = match.end()
            module, name, values = match[1] or "", match[2], match[3]
            node = node.child(name, module) if node else self.schema.top(name, module)
            if node is None:
                raise SchemaViolation(f"{text!r}: no node {name!r} in the loaded YANG modules")
            names = (".",) if node.kind is NodeKind.LEAF_LIST else node.keys
            given = [unquote(value) for value in values.split(",")] if values is not None else []
            if values is not None and len(given) != len(names):
                raise SchemaViolation(f"{text!r}: {node.path} has the keys {', '.join(names)}")
            steps.append(Step(module, name, tuple(zip(names, given, strict=False))))
        return steps


def _decode(codec: LeafCodec, element: Any, prefixes: dict[str | None, str]) -> Any:
    text = element.text or ""
    if len(element):
        return HoldsElements((etree.QName(element[0]).localname,))
    if len(text) > LONGEST_TEXT:
        return _bounded(text)
    try:
        return codec.text(text, prefixes)
    except SchemaViolation:
        pass
    try:
        return codec.text(text.strip(), prefixes)  # some devices indent values
    except SchemaViolation:
        return text


def _bounded(text: str) -> Any:
    return text if len(text) <= LONGEST_TEXT else TooLong((text[:80],))


def _takes_prefixes(node: SchemaNode) -> bool:
    """Whether the node's text may hold XML prefixes (RFC 7950 9.10.3, 9.13.2)."""
    return node.is_leaf and node.kind is not NodeKind.ANYDATA and _may_be_prefixed(node.codec.type)


def _may_be_prefixed(leaf_type: YangType) -> bool:
    if isinstance(leaf_type, UnionType):
        return any(_may_be_prefixed(member) for member in leaf_type.members)
    return isinstance(leaf_type, IdentityrefType | InstanceIdentifierType)


def event_time(text: str | None) -> Nanoseconds:
    """An eventTime (RFC 3339) in nanoseconds since the epoch; 0 where it is missing or malformed."""
    try:
        moment = dt.datetime.fromisoformat((text or "").strip())
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since // dt.timedelta(microseconds=1)) * 1000


def filter_element(schema: SchemaSet, paths: Sequence[str], tag: str = f"{{{BASE}}}filter") -> Any | None:
    """A subtree filter (RFC 6241 6) for `paths`; None when they include everything."""
    if "/" in paths:
        return None
    element = etree.Element(tag, nsmap=_default(etree.QName(tag).namespace))
    if tag.startswith(f"{{{BASE}}}"):
        element.set("type", "subtree")
    for path in paths:
        _descend(schema, element, {}, parse_path(path))
    return element


def config_element(schema: SchemaSet, edits: Sequence[Edit]) -> Any:
    """The `<config>` of an edit-config with all `edits`. Raises SchemaViolation for what no module allows."""
    config = etree.Element(f"{{{BASE}}}config", nsmap={"nc": BASE})
    made: dict[str, Any] = {}
    for edit in edits:
        node = schema.resolve(edit.path)
        steps = parse_path(edit.path)
        if not node.is_leaf:
            if edit.value is not None:
                raise SchemaViolation(f"{edit.path} is a {node.kind}: give its leaves their values")
            _mark(_descend(schema, config, made, steps), edit.operation)
            continue
        above = _descend(schema, config, made, steps[:-1])
        if len(steps) > 1 and node.name in dict(steps[-2].keys):
            continue  # a list key is there already
        for value in _values(node, edit, steps[-1]):
            _mark(_element(schema, above, node, value), edit.operation)
    return config


_NO_VALUE = object()


def _values(node: SchemaNode, edit: Edit, step: Step) -> tuple[Any, ...]:
    """The values to write, one element each."""
    if node.kind is NodeKind.LEAF_LIST:
        if step.keys:
            return (node.codec.text(step.keys[0][1]),)
        if edit.operation is not Operation.MERGE:
            raise SchemaViolation(
                f"{edit.path}: edit-config cannot {edit.operation} a leaf-list as a whole; name the entries"
                " as [.='value']"
            )
    if edit.operation is Operation.DELETE:
        return (_NO_VALUE,)
    typed = node.codec.native(edit.value)
    return typed if isinstance(typed, tuple) else (typed,)


def _mark(element: Any, operation: Operation) -> None:
    if operation is not Operation.MERGE:
        element.set(f"{{{BASE}}}operation", operation.value)


def _descend(schema: SchemaSet, root: Any, made: dict[str, Any], steps: Sequence[Step]) -> Any:
    """The element of `steps` below `root`, made with its keys as needed."""
    element = root
    for depth in range(1, len(steps) + 1):
        path = format_path(steps[:depth])
        node = schema.node(path)
        if node is None:
            raise SchemaViolation(f"{path}: no such node in the loaded YANG modules")
        below = made.get(path)
        if below is None:
            below = made[path] = _element(schema, element, node)
            for key, text in steps[depth - 1].keys:
                if leaf := node.children.get(key):
                    _element(schema, below, leaf, leaf.codec.text(text))
        element = below
    return element


def _element(schema: SchemaSet, above: Any, node: SchemaNode, value: Any = _NO_VALUE) -> Any:
    namespace = schema.modules[node.module].namespace
    nsmap, text = _default(namespace), None
    if value is not _NO_VALUE:
        text = node.codec.lexical(value)
        if isinstance(_member(node.codec.type, value), IdentityrefType):
            module, _, name = text.partition(":")
            nsmap["id"] = schema.modules[module].namespace
            text = f"id:{name}"
    element = etree.SubElement(above, f"{{{namespace}}}{node.name}", nsmap=nsmap)
    element.text = text
    return element


def _default(namespace: str | None) -> Any:
    return {None: namespace} if namespace else {}


def _member(leaf_type: YangType, value: Any) -> YangType:
    return leaf_type.member(value) if isinstance(leaf_type, UnionType) else leaf_type
