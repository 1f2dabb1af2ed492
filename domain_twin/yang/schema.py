"""YANG modules as a schema tree. Owns look-up; `loading` reads modules, `codec` types leaves.

A module that does not parse, or lacks an import, fails alone (with what depends on it); the rest is loaded.
`SchemaSet.load` blocks for up to seconds: call it through `asyncio.to_thread`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.resources import data_folder, standard_yang_folders
from domain_twin.yang.catalogue import Problem, scan
from domain_twin.yang.module_set import EVERYTHING, ModuleSet
from domain_twin.yang.paths import POSITION, Step, parse_path, predicates, strip_keys

if TYPE_CHECKING:
    from domain_twin.yang.codec import LeafCodec, LeafType

__all__ = ["LoadReport", "ModuleInfo", "NodeKind", "Reference", "SchemaNode", "SchemaSet"]


class NodeKind(StrEnum):
    """Kinds of data nodes (RFC 7950 3)."""

    CONTAINER = "container"
    LIST = "list"
    LEAF = "leaf"
    LEAF_LIST = "leaf-list"
    ANYDATA = "anydata"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a leafref points: the schema path of its target, and how its XPath gets there (RFC 7950 9.9.2).

    A predicate is (steps from the top to its list, key, `..` steps, names down), for `[key=current()/../x]`.
    """

    target: str
    up: int  # `..` steps before the first name; ABSOLUTE or DEREF where there are none to count
    predicates: tuple[tuple[int, str, int, tuple[str, ...]], ...] = ()
    member: int = -1  # which member of the leaf's union it is, the only one of its kind


ABSOLUTE = -1
DEREF = -2


@dataclass(slots=True, eq=False)
class SchemaNode:
    """One data node. `path` is its schema path; `children` is keyed as canonical paths name them."""

    kind: NodeKind
    name: str
    module: str
    path: str
    keys: tuple[str, ...] = ()
    config: bool = True
    presence: bool = False
    children: dict[str, SchemaNode] = field(default_factory=dict)
    by_name: dict[str, list[SchemaNode]] = field(default_factory=dict)
    type_name: str = ""  # as the module writes it
    default: str = ""
    units: str = ""
    user_ordered: bool = False  # RFC 7950 7.7.7
    typedefs: tuple[str, ...] = ()  # `module:name` of those that the type goes through, outermost first
    reference: Reference | None = None
    leaf_type: LeafType | None = field(default=None, repr=False)
    _codec: LeafCodec | None = field(default=None, repr=False)

    @property
    def is_leaf(self) -> bool:
        """Whether the node carries a value: a leaf, a leaf-list, or anydata."""
        return self.kind not in {NodeKind.CONTAINER, NodeKind.LIST}

    def child(self, name: str, module: str = "") -> SchemaNode | None:
        """The child called `name`, of `module`; without one, of this node's module, else the only one."""
        found = self.by_name.get(name)
        if not found:
            return None
        for node in found:
            if node.module == (module or self.module):
                return node
        return found[0] if not module and len(found) == 1 else None

    def step(self, parent: SchemaNode | None) -> str:
        """The node's name below `parent` as canonical paths write it."""
        return (
            self.name if parent is not None and parent.module == self.module else f"{self.module}:{self.name}"
        )

    def add(self, child: SchemaNode, *, above: SchemaNode) -> None:
        """Take a child in; `above` is this node."""
        self.children[child.step(above)] = child
        self.by_name.setdefault(child.name, []).append(child)

    def walk(self) -> Iterator[SchemaNode]:
        """This node and all below it, depth first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    @property
    def codec(self) -> LeafCodec:
        """The leaf's codec, made at first use. Raises SchemaError where the node carries no value."""
        if self._codec is None:
            from domain_twin.yang.codec import build_codec

            self._codec = build_codec(self)
        return self._codec


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module that was loaded, and where it came from (`device` for one that a device served)."""

    name: str
    revision: str
    namespace: str
    source: str
    features: tuple[str, ...] = ()
    submodules: tuple[tuple[str, str, str], ...] = ()  # name, revision, source
    conditional: tuple[str, ...] = ()  # those features that some if-feature asks for
    deviations: tuple[str, ...] = ()  # what it deviates, as `/target: not-supported`
    identities: tuple[tuple[str, tuple[str, ...]], ...] = ()  # name, and its bases as `module:name`


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of the modules asked for. `failed` maps a name to the error that names file and line.

    `problems` are all things that a person should know, the failures among them.
    """

    loaded: Mapping[str, ModuleInfo]
    failed: Mapping[str, SchemaError]
    warnings: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class SchemaSet:
    """The data nodes of a set of modules. Immutable but for its look-up caches.

    `module_set` says which revisions, features and deviations it was made with.
    """

    def __init__(
        self,
        tops: Sequence[SchemaNode],
        report: LoadReport,
        texts: Mapping[str, str],
        module_set: ModuleSet = EVERYTHING,
    ) -> None:
        self.report = report
        self.module_set = module_set
        self.texts = dict(texts)
        self.tops: dict[str, SchemaNode] = {f"{node.module}:{node.name}": node for node in tops}
        self.tops_by_name: dict[str, list[SchemaNode]] = {}
        for node in tops:
            self.tops_by_name.setdefault(node.name, []).append(node)
        self.modules: Mapping[str, ModuleInfo] = report.loaded
        self.module_of: dict[str, str] = {info.namespace: info.name for info in report.loaded.values()}
        self._by_path: dict[str, SchemaNode] = {n.path: n for top in tops for n in top.walk()}
        self._preferred: frozenset[str] = frozenset()
        # Leaves come by the entry that holds them, so what was found out of an entry is remembered.
        self._entered: dict[tuple[tuple[Step, ...], str], tuple[str, SchemaNode | None]] = {}
        self._sound: set[str] = set()
        self.available: Mapping[str, tuple[str, ...]] = {}  # revisions at hand, by module
        self.cache: Path | None = None

    @classmethod
    def load(
        cls,
        modules: Iterable[str] | None = None,
        folders: Sequence[Path] = (),
        texts: Mapping[str, str] | None = None,
        *,
        module_set: ModuleSet = EVERYTHING,
        all_of_folders: bool = False,
        cache: Path | None = None,
    ) -> SchemaSet:
        """Load `modules` (None: all there are) from texts by name, then `folders`, ours, the standard ones.

        The first of these that has a module wins; among `folders`, the newest revision. `all_of_folders`
        adds every module of `folders`. `cache` is a folder that keeps what was made of the same texts.
        Never raises for a bad module: see `report`.
        """
        from domain_twin.yang.cache import cached
        from domain_twin.yang.loading import load_modules

        catalogue = scan([folders, [data_folder("yang")], standard_yang_folders()], texts or {})
        wanted = None if modules is None else {*modules, *(texts or ())}
        if wanted is not None and all_of_folders:
            wanted |= set(catalogue.names(0))

        def load() -> tuple[list[SchemaNode], LoadReport]:
            return load_modules(wanted, catalogue, module_set)

        tops, report = load() if cache is None else cached(cache, catalogue, wanted, module_set, load)
        schema = cls(tops, report, catalogue.texts, module_set)
        schema.cache = cache
        schema.available = {
            name: tuple(source.revision for source in sources) for name, sources in catalogue.sources.items()
        }
        return schema

    def warm(self) -> None:
        """Make all types now, which first use would: compiling patterns takes up to 0.2 s. Blocks."""
        for node in self._by_path.values():
            if node.leaf_type is not None:
                node.leaf_type.built(node.path)

    def preferring(self, modules: Iterable[str]) -> SchemaSet:
        """The same schema for a device that implements `modules`: they decide where a bare name is two's."""
        view = copy.copy(self)
        view._preferred = frozenset(modules)
        view._entered = {}
        return view

    def sources(self) -> Iterator[tuple[str, str, str]]:
        """(name, revision, text) of every loaded module and submodule, read again from where it came."""
        for info in self.modules.values():
            for name, revision, source in ((info.name, info.revision, info.source), *info.submodules):
                served = self.texts.get(name)
                yield (
                    name,
                    revision,
                    served if served is not None else Path(source).read_text(encoding="utf-8"),
                )

    def require(self, *modules: str) -> None:
        """Raise the SchemaError of the first of `modules` that is not loaded."""
        for name in modules:
            if name in self.report.failed:
                raise self.report.failed[name]
            if name not in self.modules:
                raise SchemaError(f"YANG module {name} is not loaded: add its folder to [yang] directories")

    def node(self, path: str) -> SchemaNode | None:
        """The node of a canonical path, with or without list keys; None where no module defines it."""
        return self._by_path.get(path) or self._by_path.get(strip_keys(path))

    def resolve(self, path: str) -> SchemaNode:
        """The node of an instance's canonical path, its keys checked: complete, in order, of their types.

        Raises SchemaViolation.
        """
        node = self.node(path)
        if node is None:
            raise SchemaViolation(f"{path}: no such node in the loaded YANG modules{self._nearest(path)}")
        above = "" if path.endswith("]") else path[: path.rfind("/")]  # with no key, it ends in its name
        if above and above in self._sound:
            if node.kind is NodeKind.LIST:
                self._check_keys(path)
            return node
        self._check_keys(path)
        if above:
            if len(self._sound) >= _REMEMBERED:
                self._sound.clear()
            self._sound.add(above)
        return node

    def top(self, name: str, module: str = "") -> SchemaNode | None:
        """The top-level node called `name`. `module` may also be a gNMI origin.

        An origin that is no module's name chooses by prefix (`openconfig`), or, if it names a notation
        (`rfc7951`), leaves the choice to the name, which then must be unique.
        """
        found = self.tops_by_name.get(name, [])
        for node in found:
            if node.module == module:
                return node
        if module in self.modules:
            return None
        narrowed = [n for n in found if module and n.module.startswith(f"{module}-")] or found
        if len(narrowed) > 1 and self._preferred:
            narrowed = [n for n in narrowed if n.module in self._preferred]
        return narrowed[0] if len(narrowed) == 1 else None

    def canonical(self, steps: Sequence[Step], origin: str = "") -> str:
        """The canonical path of loosely named steps: modules left out or repeated, keys in any order.

        Raises SchemaViolation naming the first unknown step.
        """
        above, last = tuple(steps[:-1]), steps[-1:]
        if not last:
            return "/"
        known = self._entered.get((above, origin))
        if known is None:
            known = ("", None)
            for step in above:
                known = self._enter(*known, step, origin)
            if len(self._entered) >= _REMEMBERED:
                self._entered.clear()
            self._entered[above, origin] = known
        return intern(self._enter(*known, last[0], origin)[0])

    def _enter(
        self, at: str, node: SchemaNode | None, step: Step, origin: str
    ) -> tuple[str, SchemaNode | None]:
        """One step down from the node at the canonical path `at`. Raises SchemaViolation."""
        found = node.child(step.name, step.module) if node else self.top(step.name, step.module or origin)
        if found is None:
            raise SchemaViolation(
                f"no node {step.qualified!r} at {at or 'the top'} in the loaded YANG modules"
            )
        keys = self._ordered(found, step) if step.keys else ()
        return f"{at}/{found.step(node)}{predicates(keys)}", found

    def _ordered(self, node: SchemaNode, step: Step) -> tuple[tuple[str, str], ...]:
        if node.kind is not NodeKind.LIST or not node.keys:
            return step.keys
        given = dict(step.keys)
        if set(given) != set(node.keys):
            raise SchemaViolation(f"{node.path} has the keys {', '.join(node.keys)}, not {', '.join(given)}")
        return tuple((key, self._key_text(node, key, given[key])) for key in node.keys)

    @staticmethod
    def _key_text(node: SchemaNode, key: str, text: str) -> str:
        leaf = node.children.get(key)
        return text if leaf is None else leaf.codec.key(text)

    def _check_keys(self, path: str) -> None:
        node: SchemaNode | None = None
        for step in parse_path(path):
            node = node.child(step.name, step.module) if node else self.top(step.name, step.module)
            assert node is not None  # `node` found the whole path
            if not step.keys:
                if node.kind is NodeKind.LIST:
                    raise SchemaViolation(f"{path}: list {node.path} without its keys {', '.join(node.keys)}")
            elif node.kind is NodeKind.LEAF_LIST or (not node.keys and step.keys[0][0] == POSITION):
                continue
            elif tuple(name for name, _ in step.keys) != node.keys:
                raise SchemaViolation(
                    f"{path}: list {node.path} has the keys {', '.join(node.keys)}, in order"
                )
            else:
                for key, text in step.keys:
                    self._key_text(node, key, text)

    def _nearest(self, path: str) -> str:
        schema_path = strip_keys(path)
        while schema_path.rfind("/") > 0:
            schema_path = schema_path[: schema_path.rfind("/")]
            if schema_path in self._by_path:
                return f"; {schema_path} is known"
        name = re.match(r"/([^:/]+):", path)
        if name and name[1] in self.report.failed:
            return f": {self.report.failed[name[1]]}"
        return f": module {name[1]} is not among them" if name and name[1] not in self.modules else ""


_REMEMBERED = 100_000
