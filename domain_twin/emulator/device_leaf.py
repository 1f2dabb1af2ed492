"""Leaves of an emulated device, sets of paths that subscribers name, and queues their changes wait in."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from domain_twin.emulator.device_schema import DeviceSchema, SchemaNode, Step, key_values, split_path
from domain_twin.errors import SchemaViolation


class PathPattern:
    """A set of subtrees: schema nodes from the root, list keys optional, `None` matching any key value."""

    __slots__ = ("elements", "text")

    def __init__(self, elements: Sequence[tuple[SchemaNode, tuple[str | None, ...] | None]], text: str):
        self.elements = tuple(elements)
        self.text = text

    @property
    def is_concrete(self) -> bool:
        """Whether it is one node: every list on the way has all its keys."""
        return all(
            node.keyword != "list" or (keys is not None and None not in keys) for node, keys in self.elements
        )

    def matches(self, steps: Sequence[Step]) -> bool:
        """Whether the node at `steps` is one of the set, or below one."""
        if len(steps) < len(self.elements):
            return False
        for (node, keys), (own, own_keys) in zip(self.elements, steps, strict=False):
            if node is not own:
                return False
            if keys is not None and own_keys is not None:
                for wanted, key in zip(keys, own_keys, strict=True):
                    if wanted is not None and wanted != key:
                        return False
        return True


class Leaf:
    """One leaf, leaf-list or presence container of the operational datastore."""

    __slots__ = (
        "configured",
        "deleted",
        "digits",
        "generation",
        "node",
        "path",
        "queues",
        "steps",
        "value",
        "wire",
    )

    def __init__(self, path: str, steps: tuple[Step, ...], value: Any):
        self.path = path
        self.steps = steps
        self.node: SchemaNode = steps[-1][0]
        self.digits = self.node.leaf_type.digits if self.node.leaf_type is not None else None
        self.value = value
        self.configured = False
        self.deleted = False
        self.wire: Any = None  # a face's own cached form of the path
        self.generation = -1
        self.queues: tuple[ChangeQueue, ...] = ()


class ChangeQueue:
    """What changed since it was last drained, one entry a path: the last value wins, so memory is bounded."""

    __slots__ = ("_dirty", "_only", "_patterns", "_wake")

    def __init__(self, patterns: Sequence[PathPattern], only: Callable[[Leaf], bool] | None = None):
        self._patterns = tuple(patterns)
        self._only = only
        self._dirty: dict[str, Leaf] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._dirty)

    def wants(self, leaf: Leaf) -> bool:
        """Whether changes of `leaf` belong in the queue."""
        if self._only is not None and not self._only(leaf):
            return False
        return any(pattern.matches(leaf.steps) for pattern in self._patterns)

    def add(self, leaf: Leaf) -> None:
        """Note that `leaf` changed, came or went."""
        self._dirty[leaf.path] = leaf
        self._wake.set()

    async def wait(self) -> None:
        """Return when something is waiting."""
        await self._wake.wait()

    def drain(self, limit: int) -> list[Leaf]:
        """At most `limit` changed leaves, in order of first change; a deleted one says so itself."""
        dirty = self._dirty
        if len(dirty) <= limit:
            batch = list(dirty.values())
            dirty.clear()
            self._wake.clear()
            return batch
        return [dirty.pop(path) for path in list(dirty)[:limit]]


def pattern_of(schema: DeviceSchema, path: str) -> PathPattern:
    """The pattern of a plain absolute path; lists without keys: all entries. Raises SchemaViolation."""
    if path in ("", "/"):
        return PathPattern((), "/")
    elements: list[tuple[SchemaNode, tuple[str | None, ...] | None]] = []
    node: SchemaNode | None = None
    for name, predicates in split_path(path):
        node = schema.root(name) if node is None else node.child(name)
        if node is None:
            raise SchemaViolation(f"{path}: no module of the device defines {name!r} there")
        elements.append((node, key_values(node, predicates, path) if predicates else None))
    return PathPattern(elements, path)
