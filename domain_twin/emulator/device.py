"""The datastore of one emulated device: running configuration, operational state, one transaction for all.

NETCONF and gNMI are views of it; the packet network writes its state through `put`. Owns values, validity of
edits and who is told of a change; knows no protocol, and belongs to one asyncio thread.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain_twin.emulator import data_tree
from domain_twin.emulator.data_tree import ConfigRejected, DataEdit, Operation, Request, Tree
from domain_twin.emulator.device_leaf import ChangeQueue, Leaf, PathPattern, pattern_of
from domain_twin.emulator.device_schema import (
    DeviceSchema,
    SchemaNode,
    Step,
    format_path,
    load_schema,
)
from domain_twin.emulator.json_tree import json_leaf, json_tree, requests_at, requests_from_json
from domain_twin.errors import NotFound, SchemaViolation

__all__ = [
    "Actor", "Change", "ChangeQueue", "ConfigChange", "ConfigRejected", "DeviceDatastore", "Leaf",
    "LeafChange", "PathPattern", "load_schema", "pattern_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """Who edits: the protocol, and for NETCONF the user and session."""

    protocol: str
    user: str = ""
    session_id: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One wish of an edit: `value` is RFC 7951 JSON of the node at `path` (unused by delete and remove)."""

    operation: Operation
    path: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class LeafChange:
    """A configuration leaf (leaf-list: tuple; presence container: {}) before and after; None where absent."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What one transaction changed in the running configuration."""

    actor: Actor
    edits: tuple[DataEdit, ...]
    leaves: tuple[LeafChange, ...]


class DeviceDatastore:
    """One device's running configuration and operational state.

    `validate_config` sees a transaction before it is applied and may raise ConfigRejected; `on_config_change`
    runs after it was. `clock` gives the device's time in nanoseconds since the Unix epoch.
    """

    def __init__(self, name: str, schema: DeviceSchema, *, clock: Callable[[], int] = time.time_ns):
        self.name = name
        self.schema = schema
        self.clock = clock
        self.validate_config: Callable[[ConfigChange], None] | None = None
        self.on_config_change: Callable[[ConfigChange], None] | None = None
        self.guard: Callable[[Actor], None] | None = None  # NETCONF locks and pending commits; may raise
        self.version = 0  # grows whenever a leaf comes or goes
        self.running: Tree = {}
        self.operational: Tree = {}
        self._leaves: dict[str, Leaf] = {}
        self._queues: list[ChangeQueue] = []
        self._generation = 0
        self._observers: list[Callable[[ConfigChange], None]] = []

    # ---- the device's own side ---------------------------------------------

    def load(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Start from these RFC 7951 trees (qualified top-level names), whatever was held before.

        Raises ConfigRejected naming the member that the schema does not define or whose value breaks its
        type.
        """
        requests = requests_from_json(self.schema, None, config)
        running = data_tree.apply({}, requests, "merge")
        data_tree.validate(running)
        extra = data_tree.apply({}, requests_from_json(self.schema, None, state, config=False), "merge")
        for path in [format_path(((node, None),)) for node in self.operational]:
            self.delete(path)
        self.running = running
        for steps, value in data_tree.leaves(running):
            self._set_config_leaf(steps, value)
        for steps, value in data_tree.leaves(extra):
            self._put_at(format_path(steps), steps, value)

    def put(self, path: str, value: Any) -> None:
        """Set one state leaf; says nothing to anybody when the value stays the same.

        The value is trusted (Python types: int, bool, str, float for decimal64, tuple for a leaf-list); the
        path is checked when it is first seen: SchemaViolation.
        """
        leaf = self._leaves.get(path)
        if leaf is None:
            self._put_at(path, self.schema.parse(path), value)
            return
        if leaf.digits is not None and type(value) is float:
            value = round(value, leaf.digits)
        if leaf.value == value:
            return
        leaf.value = value
        if leaf.generation != self._generation:
            self._route(leaf)
        for queue in leaf.queues:
            queue.add(leaf)

    def put_many(self, values: Iterable[tuple[str, Any]]) -> None:
        """`put` each of (path, value)."""
        put = self.put
        for path, value in values:
            put(path, value)

    def delete(self, path: str) -> None:
        """Remove a state leaf, list entry or subtree; nothing happens where there is none."""
        steps = self.schema.parse(path)
        self._remove(steps)

    # ---- reading -----------------------------------------------------------

    def get(self, path: str) -> Any:
        """The Python value of one operational leaf. Raises NotFound."""
        leaf = self._leaves.get(path)
        if leaf is None:
            raise NotFound(f"{self.name} has no {path}")
        return leaf.value

    def leaf(self, path: str) -> Leaf | None:
        """The operational leaf at a canonical path, if there is one."""
        return self._leaves.get(path)

    def all_leaves(self) -> Iterable[Leaf]:
        """Every operational leaf, in order of creation."""
        return self._leaves.values()

    def get_json(self, path: str = "/") -> Any:
        """The operational data at `path` as RFC 7951 JSON. Raises NotFound."""
        return self._json(self.operational, path)

    def get_config(self, path: str = "/") -> Any:
        """The running configuration at `path` as RFC 7951 JSON. Raises NotFound."""
        return self._json(self.running, path)

    def instances(self, pattern: PathPattern) -> list[tuple[tuple[Step, ...], Any]]:
        """The operational nodes that `pattern` leads to: their steps, and a subtree or a Leaf."""
        found: list[tuple[tuple[Step, ...], Any]] = [((), self.operational)]
        for node, wanted in pattern.elements:
            reached: list[tuple[tuple[Step, ...], Any]] = []
            for steps, held in found:
                inner = held.get(node)
                if inner is None:
                    continue
                if node.keyword != "list":
                    reached.append(((*steps, (node, None)), inner))
                    continue
                for keys, entry in inner.items():
                    if wanted is None or all(w in (None, k) for w, k in zip(wanted, keys, strict=True)):
                        reached.append(((*steps, (node, keys)), entry))
            found = reached
        return found

    def select(self, pattern: PathPattern) -> list[Leaf]:
        """All operational leaves in `pattern`."""
        if not pattern.elements:
            return list(self._leaves.values())
        exact = self._leaves.get(pattern.text)
        if exact is not None and exact.node.is_leaf:
            return [exact]
        return [leaf for leaf in self._leaves.values() if pattern.matches(leaf.steps)]

    # ---- editing -----------------------------------------------------------

    def edit(self, changes: Iterable[Change], actor: Actor) -> ConfigChange:
        """Apply `changes` to the running configuration, all or none. Raises ConfigRejected."""
        tree = self.running
        for change in changes:
            tree = data_tree.apply(tree, self._requests(change), "merge")
        return self.commit(tree, actor)

    def commit(self, tree: Tree, actor: Actor, *, guarded: bool = True) -> ConfigChange:
        """Make `tree` the running configuration, or raise ConfigRejected and leave everything as it was.

        `guarded` asks `guard` (locks, pending confirmed commits) first.
        """
        if guarded and self.guard is not None:
            self.guard(actor)
        data_tree.validate(tree)
        edits = tuple(data_tree.difference(self.running, tree))
        changed = [item for edit in edits for item in data_tree.edit_leaves(edit)]
        change = ConfigChange(
            actor, edits, tuple(LeafChange(format_path(steps), old, new) for steps, old, new in changed)
        )
        if not edits:
            self.running = tree
            return change
        if self.validate_config is not None:
            self.validate_config(change)
        self.running = tree
        for edit in edits:
            if edit.operation == "delete":
                self._remove(edit.steps)
        for steps, _, new in changed:
            if new is not None:
                self._set_config_leaf(steps, new)
        if self.on_config_change is not None:
            self.on_config_change(change)
        for observer in list(self._observers):
            observer(change)
        return change

    def observe(self, observer: Callable[[ConfigChange], None]) -> Callable[[], None]:
        """Call `observer` after every transaction, until the returned function is called."""
        self._observers.append(observer)

        def leave() -> None:
            with contextlib.suppress(ValueError):
                self._observers.remove(observer)

        return leave

    # ---- watching ----------------------------------------------------------

    def watch(
        self, patterns: Sequence[PathPattern], only: Callable[[Leaf], bool] | None = None
    ) -> ChangeQueue:
        """A queue that gathers changes of the leaves in `patterns` (and `only` those) until `unwatch`."""
        queue = ChangeQueue(patterns, only)
        self._queues.append(queue)
        self._generation += 1
        return queue

    def unwatch(self, queue: ChangeQueue) -> None:
        """Stop gathering changes in `queue`."""
        if queue in self._queues:
            self._queues.remove(queue)
            self._generation += 1

    # ---- inside ------------------------------------------------------------

    def _route(self, leaf: Leaf) -> None:
        leaf.queues = tuple(queue for queue in self._queues if queue.wants(leaf))
        leaf.generation = self._generation

    def _tell(self, leaf: Leaf) -> None:
        if leaf.generation != self._generation:
            self._route(leaf)
        for queue in leaf.queues:
            queue.add(leaf)

    def _put_at(self, path: str, steps: tuple[Step, ...], value: Any) -> Leaf:
        """Set the leaf at `steps`, making the containers and entries above it."""
        canonical = format_path(steps)
        node, keys = steps[-1]
        if keys is not None or not (node.is_leaf or node.presence):
            raise SchemaViolation(f"{path}: a {node.keyword} holds no value")
        held = self._leaves.get(canonical)
        if held is not None:
            if held.value != value:
                held.value = value
                self._tell(held)
            return held
        parent = self.operational
        for depth, (above, above_keys) in enumerate(steps[:-1], start=1):
            inner = parent.setdefault(above, {})
            if above_keys is None:
                if above.presence and not inner:
                    self._index(steps[:depth], {})
                parent = inner
                continue
            if above_keys not in inner:
                inner[above_keys] = {}
                for key_node, key in zip(
                    list(above.children.values())[: len(above_keys)],
                    data_tree.key_leaves(above, above_keys),
                    strict=True,
                ):
                    inner[above_keys][key_node] = self._index((*steps[:depth], (key_node, None)), key)
            parent = inner[above_keys]
        if node in parent and node.is_leaf:
            return parent[node]  # type: ignore[no-any-return]  # a key, made with its entry
        leaf = self._index(steps, _rounded(node, value))
        if node.is_leaf:
            parent[node] = leaf
        else:
            parent.setdefault(node, {})
        return leaf

    def _index(self, steps: tuple[Step, ...], value: Any) -> Leaf:
        path = format_path(steps)
        held = self._leaves.get(path)
        if held is not None:
            return held
        leaf = self._leaves[path] = Leaf(path, steps, value)
        self.version += 1
        self._tell(leaf)
        return leaf

    def _set_config_leaf(self, steps: tuple[Step, ...], value: Any) -> None:
        leaf = self._put_at(format_path(steps), steps, {} if isinstance(value, dict) else value)
        leaf.configured = True

    def _remove(self, steps: tuple[Step, ...]) -> None:
        """Forget all leaves at and below `steps`, and the containers that this leaves empty."""
        trail: list[tuple[dict[Any, Any], Any]] = []
        held: Any = self.operational
        for node, keys in steps:
            if not isinstance(held, dict) or node not in held:
                return
            trail.append((held, node))
            held = held[node]
            if keys is not None:
                if keys not in held:
                    return
                trail.append((held, keys))
                held = held[keys]
        for leaf in [held] if isinstance(held, Leaf) else list(self._below(held, steps)):
            del self._leaves[leaf.path]
            leaf.deleted = True
            self._tell(leaf)
        self.version += 1
        for position, (parent, key) in enumerate(reversed(trail)):
            if position == 0 or (not parent[key] and not (isinstance(key, SchemaNode) and key.presence)):
                del parent[key]
            else:
                break

    def _below(self, held: Mapping[Any, Any], steps: tuple[Step, ...]) -> Iterator[Leaf]:
        """The leaves at and below the operational node at `steps`."""
        node, keys = steps[-1]
        if node.keyword == "list" and keys is None:
            for keys, entry in held.items():
                yield from self._below(entry, (*steps[:-1], (node, keys)))
            return
        if node.presence:
            yield self._leaves[format_path(steps)]
        for child, inner in held.items():
            if isinstance(inner, Leaf):
                yield inner
            else:
                yield from self._below(inner, (*steps, (child, None)))

    def _json(self, tree: Tree, path: str) -> Any:
        if path in ("", "/"):
            return json_tree(tree, None)
        steps = self.schema.parse(path)
        held = data_tree.descend(tree, steps)
        if held is None:
            raise NotFound(f"{self.name} has no {path}")
        node, keys = steps[-1]
        if node.is_leaf:
            return json_leaf(node, getattr(held, "value", held))
        if node.keyword == "list" and keys is None:
            return [json_tree(entry, node, qualify=True) for entry in held.values()]
        return json_tree(held, node, qualify=True)

    def _requests(self, change: Change) -> list[Request]:
        if change.path in ("", "/"):
            if change.operation in ("delete", "remove"):
                return [Request(node, "remove") for node in list(self.running)]
            requests = requests_from_json(self.schema, None, change.value)
            if change.operation == "replace":
                named = {request.node for request in requests}
                gone = [Request(node, "remove") for node in self.running if node not in named]
                return gone + [_with_operation(request, "replace") for request in requests]
            return requests
        try:
            steps = self.schema.parse(change.path)
        except SchemaViolation as cause:
            reason = str(cause).removeprefix(f"{change.path}: ")
            raise ConfigRejected(change.path, reason, "unknown-element") from None
        return data_tree.chain(steps[:-1], self._bottom(change, steps))

    def _bottom(self, change: Change, steps: tuple[Step, ...]) -> list[Request]:
        node, keys = steps[-1]
        if not node.config:
            raise ConfigRejected(change.path, "is state, not configuration: it cannot be set")
        typed = data_tree.key_leaves(node, keys) if keys is not None else ()
        if change.operation in ("delete", "remove"):
            if node.name in getattr(node.parent, "keys", ()):
                raise ConfigRejected(change.path, "is a key: delete its list entry instead")
            return [Request(node, change.operation, keys, typed)]
        if node.keyword == "list" and keys is not None:
            value = dict(change.value) if isinstance(change.value, Mapping) else change.value
            children = requests_from_json(self.schema, node, value, steps)
            for child in children:
                position = node.keys.index(child.node.name) if child.node.name in node.keys else None
                if position is not None and child.value != typed[position]:
                    raise ConfigRejected(
                        change.path, f"the value's key {child.node.name!r} differs from the path's"
                    )
            return [Request(node, change.operation, keys, typed, children=children)]
        requests = requests_at(self.schema, node, change.value, steps[:-1])
        return [_with_operation(request, change.operation) for request in requests]


def _with_operation(request: Request, operation: Operation) -> Request:
    request.operation = operation
    return request


def _rounded(node: SchemaNode, value: Any) -> Any:
    if type(value) is float and node.leaf_type is not None and node.leaf_type.digits is not None:
        return round(value, node.leaf_type.digits)
    return value
