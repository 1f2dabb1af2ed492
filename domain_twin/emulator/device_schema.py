"""The schema of an emulated device: which data nodes its YANG modules define. Read from the modules by pyang.

Owns schema nodes, module identities and the parsing of instance identifiers; holds no data. Deliberately not
`domain_twin.yang`: a device that judges the twin must not share the twin's reading of the modules.
Refuses `must`, `when`, `unique` and leafref existence: an emulated device does not evaluate XPath.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from domain_twin.emulator.leaf_types import LeafType, LeafTypeError
from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.resources import data_folder, standard_yang_folders

SERVER_MODULES: Mapping[str, tuple[str, ...]] = {
    "ietf-netconf": ("writable-running", "candidate", "confirmed-commit", "rollback-on-error", "validate"),
    "ietf-netconf-monitoring": (),
    "ietf-netconf-notifications": (),
    "ietf-yang-library": (),
    "ietf-datastores": (),
    "ietf-netconf-nmda": (),
    "ietf-subscribed-notifications": ("encode-xml", "subtree", "xpath"),
    "ietf-yang-push": ("on-change",),
    "fedtwin-device-events": (),
}
"""Modules that every device runs because of its protocols, with the features it supports of each."""
_FEATURES: dict[str, tuple[str, ...]] = {
    **SERVER_MODULES,
    "ietf-interfaces": ("if-mib",),
    "ietf-alarms": ("alarm-history",),
}


_REMEMBERED_PATHS = 20_000


@dataclass(frozen=True, slots=True)
class Module:
    """One YANG module a device runs, or (not `implemented`) only imports."""

    name: str
    revision: str
    namespace: str
    prefix: str
    organization: str
    features: tuple[str, ...]
    implemented: bool
    source: Path


class SchemaNode:
    """A data node: container, list, leaf or leaf-list. Choices and cases are folded into `case`."""

    __slots__ = (
        "by_name", "case", "children", "config", "keys", "keyword", "leaf_type", "mandatory", "module",
        "name", "parent", "presence", "qualified", "tag", "wire_name",
    )  # fmt: skip

    def __init__(self, statement: Any, parent: "SchemaNode | None", module: Module, case: tuple[Any, ...]):
        self.parent = parent
        self.module = module
        self.name: str = statement.arg
        self.keyword: str = statement.keyword
        # a device's own protocols are not configurable through them (no :configured subscriptions)
        self.config: bool = statement.i_config and module.name not in SERVER_MODULES
        self.case = case
        self.presence: bool = statement.search_one("presence") is not None
        self.mandatory: bool = statement.search_one("mandatory", "true") is not None
        self.keys: tuple[str, ...] = ()
        self.children: dict[str, SchemaNode] = {}  # by qualified name, in schema order, keys first
        self.by_name: dict[str, list[SchemaNode]] = {}
        self.leaf_type: LeafType | None = None
        self.qualified = f"{module.name}:{self.name}"
        self.wire_name = self.name if parent is not None and parent.module is module else self.qualified
        self.tag = f"{{{module.namespace}}}{self.name}"

    def __repr__(self) -> str:
        return f"<{self.keyword} {self.schema_path}>"

    @property
    def is_leaf(self) -> bool:
        """Whether the node holds a value (leaf or leaf-list)."""
        return self.leaf_type is not None

    @property
    def schema_path(self) -> str:
        """The node's path without keys, as in `/ietf-interfaces:interfaces/interface/name`."""
        above = self.parent.schema_path if self.parent is not None else ""
        return f"{above}/{self.wire_name}"

    def child(self, name: str) -> "SchemaNode | None":
        """The child called `name`: `module:name`, or a bare name (own module first, else the only one)."""
        if ":" in name:
            return self.children.get(name)
        candidates = self.by_name.get(name)
        if not candidates:
            return None
        for candidate in candidates:
            if candidate.module is self.module:
                return candidate
        return candidates[0] if len(candidates) == 1 else None

    def add(self, node: "SchemaNode") -> None:
        """Take `node` in as a child."""
        self.children[node.qualified] = node
        self.by_name.setdefault(node.name, []).append(node)


Step: TypeAlias = "tuple[SchemaNode, tuple[str, ...] | None]"
"""One node of an instance identifier, with a list entry's key values (canonical text) in schema order."""


class DeviceSchema:
    """All data nodes of a set of modules, shared by the devices that run them."""

    def __init__(self, modules: Sequence[Module], roots: Sequence[SchemaNode]):
        self.modules: Mapping[str, Module] = {module.name: module for module in modules}
        self.by_namespace: Mapping[str, Module] = {module.namespace: module for module in modules}
        self.roots: dict[str, SchemaNode] = {node.qualified: node for node in roots}
        self._by_name: dict[str, list[SchemaNode]] = {}
        for node in roots:
            self._by_name.setdefault(node.name, []).append(node)
        self._by_tag: dict[tuple[SchemaNode | None, str], SchemaNode] = {}
        for parent, node in self._pairs():
            self._by_tag[parent, node.tag] = node
        self._parsed: dict[str, tuple[Step, ...]] = {}
        self.shared: dict[str, Any] = {}  # what servers derive once from the schema

    def root(self, name: str, module: str | None = None) -> SchemaNode | None:
        """The top-level node called `name`: `module:name`, or bare where `module` tells or it is unique."""
        if ":" in name:
            return self.roots.get(name)
        if module is not None:
            return self.roots.get(f"{module}:{name}")
        candidates = self._by_name.get(name, ())
        return candidates[0] if len(candidates) == 1 else None

    def by_tag(self, parent: SchemaNode | None, tag: str) -> SchemaNode | None:
        """The node that an XML element called `tag` (`{namespace}name`) under `parent` is an instance of."""
        return self._by_tag.get((parent, tag))

    def parse(self, path: str) -> tuple[Step, ...]:
        """The steps of a canonical instance identifier; every list but the last node needs all its keys.

        Raises SchemaViolation naming the element that no module defines.
        """
        known = self._parsed.get(path)
        if known is not None:
            return known
        steps: list[Step] = []
        node: SchemaNode | None = None
        for name, predicates in split_path(path):
            found = self.root(name) if node is None else node.child(name)
            if found is None:
                raise SchemaViolation(f"{path}: no module of the device defines {name!r} there")
            keys: tuple[str, ...] | None = None
            if found.keyword == "list" and predicates:
                keys = key_values(found, predicates, path)
            elif predicates:
                raise SchemaViolation(f"{path}: {name!r} is a {found.keyword} and has no keys")
            steps.append((found, keys))
            node = found
        for position, (found, keys) in enumerate(steps):
            if found.keyword == "list" and keys is None and position < len(steps) - 1:
                raise SchemaViolation(f"{path}: {found.name!r} needs its keys {', '.join(found.keys)}")
        if len(self._parsed) >= _REMEMBERED_PATHS:
            self._parsed.clear()
        self._parsed[path] = tuple(steps)
        return self._parsed[path]

    def _pairs(self) -> Iterator[tuple[SchemaNode | None, SchemaNode]]:
        pending: list[tuple[SchemaNode | None, SchemaNode]] = [(None, root) for root in self.roots.values()]
        while pending:
            parent, node = pending.pop()
            yield parent, node
            pending.extend((node, child) for child in node.children.values())


def key_values(node: SchemaNode, predicates: Mapping[str, str], path: str) -> tuple[str, ...]:
    """Canonical key values of a list entry in schema order. Raises SchemaViolation."""
    given = {name.rpartition(":")[2]: value for name, value in predicates.items()}
    unknown = set(given) - set(node.keys)
    missing = [key for key in node.keys if key not in given]
    if unknown or missing:
        raise SchemaViolation(f"{path}: the keys of {node.name!r} are {', '.join(node.keys)}")
    values = []
    for key in node.keys:
        leaf_type = node.children[f"{node.module.name}:{key}"].leaf_type
        assert leaf_type is not None
        try:
            values.append(leaf_type.to_text(leaf_type.from_text(given[key])))
        except LeafTypeError as cause:
            raise SchemaViolation(f"{path}: key {key!r}: {cause}") from None
    return tuple(values)


def format_step(step: Step) -> str:
    """One step as text: `/interface[name='eth0']`."""
    node, keys = step
    if keys is None:
        return f"/{node.wire_name}"
    return f"/{node.wire_name}" + "".join(
        f"[{name}={quoted(value)}]" for name, value in zip(node.keys, keys, strict=True)
    )


def format_path(steps: Sequence[Step]) -> str:
    """The canonical instance identifier of `steps`."""
    return "".join(map(format_step, steps)) or "/"


def quoted(value: str) -> str:
    """A key value between quotes: single ones unless the value has one."""
    return f'"{value}"' if "'" in value else f"'{value}'"


_STEP = re.compile(r"/(?P<name>[^/\[\]'\"=\s]+)(?P<predicates>(?:\[[^\[\]'\"=]+=(?:'[^']*'|\"[^\"]*\")\])*)")
_PREDICATE = re.compile(
    r"\[\s*(?P<name>[^\[\]'\"=\s]+)\s*=\s*(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\]"
)


def split_path(path: str) -> list[tuple[str, dict[str, str]]]:
    """The names and predicates of an instance identifier, unresolved. Raises SchemaViolation."""
    parts: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise SchemaViolation(
                f"{path!r} is no instance identifier (at {path[position:]!r}): /module:name/list[key='value']"
            )
        parts.append((
            match["name"],
            {found["name"]: found["single"] if found["single"] is not None else found["double"]
             for found in _PREDICATE.finditer(match["predicates"])},
        ))  # fmt: skip
        position = match.end()
    return parts


def load_schema(modules: Sequence[str], folders: Sequence[Path] | None = None) -> DeviceSchema:
    """The schema of a device that implements `modules` besides `SERVER_MODULES`; cached.

    `folders` default to this project's modules and those of pyang's wheel. Raises SchemaError naming the
    module.
    """
    chosen = tuple(folders) if folders is not None else (data_folder("yang"), *standard_yang_folders())
    return _load(tuple(modules), chosen)


@functools.lru_cache(maxsize=32)
def _load(names: tuple[str, ...], folders: tuple[Path, ...]) -> DeviceSchema:
    from pyang import context, error, repository

    places = ":".join(map(str, folders))
    files = repository.FileRepository(places, use_env=False)
    parsed = context.Context(files)
    for _, _, (_, source) in files.get_modules_and_revisions(parsed):
        parsed.features.setdefault(Path(source).name.partition("@")[0].removesuffix(".yang"), [])
    parsed.features.update({name: list(features) for name, features in _FEATURES.items()})
    implemented = dict.fromkeys((*names, *SERVER_MODULES))
    for name in implemented:
        try:
            found = parsed.search_module(error.Position("device"), name)
        except IndexError:  # pyang 2.7 on a text that ends in the middle of a statement
            raise SchemaError(f"YANG module {name!r} ({name}.yang) breaks off in the middle") from None
        if found is None:
            _raise_first([problem for problem in parsed.errors if problem[1] != "MODULE_NOT_FOUND"])
            raise SchemaError(f"YANG module {name!r} is in none of {places}: name a folder that has it")
    parsed.validate()
    _raise_first(parsed.errors)
    statements = {statement.arg: statement for statement in parsed.modules.values()}
    modules = {
        name: _module(statement, name in implemented)
        for name, statement in sorted(statements.items())
        if statement.keyword == "module"
    }
    roots: list[SchemaNode] = []
    for name in implemented:
        roots.extend(_nodes(statements[name], None, modules, ()))
    return DeviceSchema(tuple(modules.values()), roots)


def _raise_first(problems: Sequence[tuple[Any, str, Any]]) -> None:
    from pyang import error

    for position, tag, arguments in problems:
        if error.is_error(error.err_level(tag)):
            raise SchemaError(f"{position}: {error.err_to_str(tag, arguments)}")


def _module(statement: Any, implemented: bool) -> Module:
    def argument(keyword: str) -> str:
        found = statement.search_one(keyword)
        return " ".join(found.arg.split()) if found is not None else ""

    return Module(
        name=statement.arg,
        revision=statement.i_latest_revision or "",
        namespace=argument("namespace"),
        prefix=argument("prefix"),
        organization=argument("organization"),
        features=_FEATURES.get(statement.arg, ()) if implemented else (),
        implemented=implemented,
        source=Path(statement.pos.ref),
    )


def _nodes(
    statement: Any, parent: SchemaNode | None, modules: Mapping[str, Module], case: tuple[Any, ...]
) -> Iterator[SchemaNode]:
    for child in getattr(statement, "i_children", ()):
        module = modules[child.i_module.arg]
        if not module.implemented:
            continue  # an augment of a module that is only imported
        if child.keyword in ("choice", "case"):
            yield from _nodes(child, parent, modules, (*case, child))
        elif child.keyword in ("container", "list", "leaf", "leaf-list"):
            yield _node(child, parent, modules, case)


def _node(
    statement: Any, parent: SchemaNode | None, modules: Mapping[str, Module], case: tuple[Any, ...]
) -> SchemaNode:
    node = SchemaNode(statement, parent, modules[statement.i_module.arg], case)
    if node.keyword in ("leaf", "leaf-list"):
        node.leaf_type = LeafType(_value_type(statement), node.module.name)
        return node
    if node.keyword == "list":
        node.keys = tuple(key.arg for key in statement.i_key or ())
    children = list(_nodes(statement, node, modules, ()))
    children.sort(
        key=lambda child: node.keys.index(child.name) if child.name in node.keys else len(node.keys)
    )
    for child in children:
        node.add(child)
    return node


def _value_type(leaf: Any) -> Any:
    """The type statement of a leaf, a leafref's being that of the leaf it points at."""
    while (target := getattr(leaf, "i_leafref_ptr", None)) is not None:
        leaf = target[0]
    return leaf.search_one("type")
