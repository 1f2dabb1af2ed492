"""Which of the waiting updates still matter. Pure: the same state follows from what is left as from all.

Only counters and state are conflated. A configuration, an event or a delete is a fact of its own: only its
repetition (as a heartbeat makes it) is left out. A replacement (a delete with updates below it in one batch,
as gNMI's `atomic` makes it) says what there is: a later one of the same path stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from domain_twin.model import DeviceStatus, Sync, UpdateBatch, Value
from domain_twin.yang.paths import covers, strip_keys
from domain_twin.yang.schema import NodeKind, SchemaSet

__all__ = ["Facts", "conflated"]

EVENT_MODULES = frozenset({"ietf-alarms", "openconfig-alarms"})
"""Modules whose state tells of events: an alarm that came and went must not go unseen."""

_CACHED_NODES = 50_000


class Facts:
    """Says of a path whether each of its values matters: configuration, alarms, entries of keyless lists."""

    def __init__(self, schema: SchemaSet) -> None:
        self._schema = schema
        self._by_node: dict[str, bool] = {}

    def __call__(self, path: str) -> bool:
        """Whether each value of `path` matters. A path that no module knows is state."""
        node = strip_keys(path)
        found = self._by_node.get(node)
        if found is None:
            if len(self._by_node) >= _CACHED_NODES:
                self._by_node.clear()
            found = self._by_node[node] = self._look(node)
        return found

    def _look(self, path: str) -> bool:
        node = self._schema.node(path)
        if node is None:
            return False
        if node.config or node.module in EVENT_MODULES:
            return True
        while path.rfind("/") > 0:
            path = path[: path.rfind("/")]
            above = self._schema.node(path)
            if above is not None and above.kind is NodeKind.LIST and not above.keys:
                return True
        return False


def conflated(
    items: Sequence[UpdateBatch | tuple[DeviceStatus, ...]], keep: Callable[[str], bool]
) -> tuple[list[UpdateBatch | tuple[DeviceStatus, ...]], int]:
    """`items` of one source without what later ones supersede, in order, and how many updates went.

    What lies between BEGIN and END is superseded only within: END takes what was not repeated for gone.
    """
    seen: dict[str, set[str]] = {}  # by device: paths of state that a later item has
    facts: dict[tuple[str, ...], Value] = {}
    replaced: set[tuple[str, str]] = set()
    left: list[UpdateBatch | tuple[DeviceStatus, ...]] = []
    superseded = 0
    newest = True
    for whole in reversed(items):
        if isinstance(whole, tuple):
            left.append(whole)
            continue
        item = whole
        if item.sync is Sync.END:
            seen.clear()
            facts.clear()
            replaced.clear()
        deletes = item.deletes
        if deletes and item.updates:
            first = item.updates[0]
            for delete in item.deletes:
                if delete.device != first.device or not covers(delete.path, first.path):
                    continue
                key = (delete.device, delete.path)
                if key in replaced:
                    deletes = tuple(other for other in deletes if other is not delete)
                replaced.add(key)
        updates = []
        for update in reversed(item.updates):
            device, path, value = update[:3]
            if keep(path):
                leaf = update[:2]
                if leaf not in facts or not _same(facts[leaf], value):
                    updates.append(update)
                facts[leaf] = value
                continue
            paths = seen.get(device)
            if paths is None:
                paths = seen[device] = set()
            if path not in paths:
                paths.add(path)
                updates.append(update)
        if item.deletes:
            facts.clear()  # what is said again after a delete is no repetition
        went = len(item.updates) - len(updates)
        if went or len(deletes) < len(item.deletes):
            superseded += went
            updates.reverse()
            item = replace(item, updates=tuple(updates), deletes=deletes)
        if updates or deletes or newest or item.sync is not Sync.NONE:
            left.append(item)
        newest = False
    left.reverse()
    return left, superseded


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other
