"""A candidate state: a base version and edits of configuration over it. Owns what an edit does to the leaves.

An overlay of single leaves, never a copy of the tree, and never written to a device. Edits are checked by the
devices' own YANG modules. State that follows configuration by its module's own words follows here too, as
synthetic: an interface's statuses its `enabled`, and in OpenConfig's modules `state` its `config`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from domain_twin.datastore.snapshot import Leaf, Snapshot
from domain_twin.errors import ConfigError, NotFound, SchemaViolation
from domain_twin.model import Change, Delta, Origin, StateKind, Value, Version
from domain_twin.model.scenario import ConfigChange
from domain_twin.yang.paths import covers, format_path, parent, parse_path
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet

__all__ = ["Candidate", "make_candidate"]

_MOST_NAMED = 8
_FOLLOWING: Mapping[str, tuple[tuple[str, Callable[[bool], Value]], ...]] = MappingProxyType(
    {
        "/ietf-interfaces:interfaces/interface/enabled": (
            ("../admin-status", lambda on: "up" if on else "down"),
            ("../oper-status", lambda on: "up" if on else "down"),
        ),
        "/openconfig-interfaces:interfaces/interface/config/enabled": (
            ("../../state/admin-status", lambda on: "UP" if on else "DOWN"),
            ("../../state/oper-status", lambda on: "UP" if on else "DOWN"),
        ),
    }
)
"""State leaves that follow a configured one (RFC 8343 `enabled`; openconfig-interfaces)."""
_IN_PROPORTION: Mapping[str, str] = MappingProxyType(
    {
        "/fedtwin-ran:gnb/NRCellDU/prb-share": "../performance/cell-rate",
        "/fedtwin-ran:gnb/NRCellDU/bSChannelBwDL": "../performance/cell-rate",
    }
)
"""Figures that grow in proportion to a configured one: a cell's rate with its resource blocks."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`base` with some leaves changed. `overlay` is device -> path -> new leaf; None: the leaf is gone."""

    base: Snapshot
    overlay: Mapping[str, Mapping[str, Leaf | None]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()  # state that was taken to follow, in sentences
    kind: StateKind = StateKind.CANDIDATE

    @property
    def version(self) -> Version:
        """The version that was changed."""
        return self.base.version

    def get(self, device: str, path: str) -> Leaf | None:
        """A leaf as it would be; None where there would be none."""
        changed = self.overlay.get(device, {})
        return changed[path] if path in changed else self.base.devices.get(device, {}).get(path)

    def leaves(self, device: str) -> Iterator[tuple[str, Leaf]]:
        """All leaves of a device as they would be."""
        changed = self.overlay.get(device, {})
        for path, leaf in self.base.devices.get(device, {}).items():
            if path not in changed:
                yield path, leaf
        for path, new in changed.items():
            if new is not None:
                yield path, new

    def delta(self) -> Delta:
        """What leads from the base to this state; its version stays that of the base."""
        at = self.base.version.observed_at
        changes = tuple(
            Change(device, path, leaf.value, leaf.observed_at, leaf.received_at, leaf.origin)
            if leaf is not None
            else Change(device, path, None, at, at, Origin.SYNTHETIC, True)
            for device, leaves in sorted(self.overlay.items())
            for path, leaf in sorted(leaves.items())
        )
        return Delta(self.base.version, self.base.version, changes)


def make_candidate(
    base: Snapshot, edits: Iterable[tuple[str, ConfigChange]], schema_of: Callable[[str], SchemaSet]
) -> Candidate:
    """The state of `base` with `edits` made in order; each comes with its place in the scenario.

    Raises NotFound for an unknown device or entry, ConfigError for what its YANG modules forbid.
    """
    editing = _Editing(base)
    for place, edit in edits:
        if edit.device not in base.devices:
            raise NotFound(f"{place}: no device {edit.device!r}{_close(edit.device, list(base.devices))}")
        try:
            editing.make(place, edit, schema_of(edit.device))
        except SchemaViolation as error:
            raise ConfigError(f"{place}: device {edit.device!r}: {error}") from error
    return Candidate(base, editing.overlay, tuple(editing.assumed))


class _Editing:
    """An overlay as it grows."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self.overlay: dict[str, dict[str, Leaf | None]] = {}
        self.assumed: dict[str, None] = {}

    def make(self, place: str, edit: ConfigChange, schema: SchemaSet) -> None:
        """Make one edit. Raises SchemaViolation, NotFound, ConfigError."""
        path = schema.canonical(parse_path(edit.path))
        where = f"{place}: device {edit.device!r}: {path}"
        if path == "/":
            raise ConfigError(f"{where}: the whole configuration cannot be edited at once; name a node")
        node = schema.node(path)
        if node is None:
            raise ConfigError(f"{where}: no such node")
        if not node.config:
            raise ConfigError(f"{where}: this is state, which no configuration sets; edit what it follows")
        if node.kind is NodeKind.LIST and path.endswith("]") is False:
            raise ConfigError(f"{where}: a list without its keys {', '.join(node.keys)}; name one entry")
        if not edit.delete:
            schema.resolve(path)
        if _is_key(schema, path, node) and (edit.delete or self._has(edit.device, path)):
            raise ConfigError(
                f"{where}: a list's key cannot be edited; delete the entry, or make another one"
            )
        if edit.delete:
            self._delete(where, edit.device, path, node)
        else:
            self._set(where, edit, path, node, schema)

    def _set(self, where: str, edit: ConfigChange, path: str, node: SchemaNode, schema: SchemaSet) -> None:
        device, value = edit.device, edit.value
        if not node.is_leaf:
            raise ConfigError(f"{where}: a {node.kind.value} has no value; name a leaf below it")
        if node.kind is NodeKind.LEAF_LIST and not isinstance(value, tuple):
            raise ConfigError(f"{where}: a leaf-list takes all its values as a list")
        self._check_entries(where, device, path, creating=_is_key(schema, path, node))
        typed = node.codec.native(list(value) if isinstance(value, tuple) else value)
        was = self._value(device, path)
        self._put(device, path, typed)
        self._follow(device, path, typed, schema)
        self._scale(device, path, (was, typed), schema)

    def _delete(self, where: str, device: str, path: str, node: SchemaNode) -> None:
        gone = [known for known in self._paths(device) if covers(path, known)]
        if not gone:
            raise NotFound(f"{where}: the device has nothing there to delete")
        for known in gone:
            self._place(device)[known] = None
        if node.kind is NodeKind.LEAF and node.default:  # RFC 7950 7.6.1: then its default is in use
            self._put(device, path, node.codec.text(node.default))

    def _follow(self, device: str, path: str, value: Value, schema: SchemaSet) -> None:
        steps = parse_path(path)
        schema_path = schema.resolve(path).path
        for relative, word in _FOLLOWING.get(schema_path, ()):
            if isinstance(value, bool):
                self._assume(device, _relative(path, relative), word(value), path, schema)
        if len(steps) > 1 and steps[-2].name == "config" and schema_path.startswith("/openconfig-"):
            applied = format_path((*steps[:-2], steps[-2]._replace(name="state"), steps[-1]))
            if schema.node(applied) is not None:
                self._assume(device, applied, value, path, schema)

    def _scale(self, device: str, path: str, step: tuple[Value, Value], schema: SchemaSet) -> None:
        """Let a figure that is in proportion to the leaf grow or shrink with it."""
        relative = _IN_PROPORTION.get(schema.resolve(path).path)
        if relative is None:
            return
        figure = _relative(path, relative)
        known, (was, now) = self._value(device, figure), step
        numbers = [value for value in (known, was, now) if isinstance(value, int | Decimal)]
        if len(numbers) == 3 and numbers[1] > 0:
            grown = Decimal(numbers[0]) * Decimal(numbers[2]) / Decimal(numbers[1])
            self._assume(device, figure, grown.quantize(Decimal(numbers[0])), path, schema)

    def _assume(self, device: str, path: str, value: Value, because: str, schema: SchemaSet) -> None:
        if schema.node(path) is None or not self._has(device, path):
            return
        if self._value(device, path) != value:
            self._put(device, path, value)
            self.assumed[f"{device}: {path} is taken to follow {because}"] = None

    def _check_entries(self, where: str, device: str, path: str, *, creating: bool) -> None:
        """Raise NotFound where a list entry above the leaf is not there: it is rather a slip than a wish."""
        steps = parse_path(path)
        for length in range(1, len(steps)):
            if not steps[length - 1].keys or (creating and length == len(steps) - 1):
                continue
            entry = format_path(steps[:length])
            if not any(covers(entry, known) for known in self._paths(device)):
                others = self._entries(device, entry)
                raise NotFound(
                    f"{where}: the device has no {entry}; {_listed(others)}. To make one, first set its key"
                )

    def _entries(self, device: str, entry: str) -> list[str]:
        """Keys of the entries beside this one."""
        steps = parse_path(entry)
        bare = format_path((*steps[:-1], steps[-1]._replace(keys=())))
        found: dict[tuple[tuple[str, str], ...], None] = {}
        for known in self._paths(device):
            if covers(bare, known):
                found[parse_path(known)[len(steps) - 1].keys] = None
        return [", ".join(text for _, text in keys) for keys in found]

    def _paths(self, device: str) -> Iterator[str]:
        changed = self.overlay.get(device, {})
        yield from (path for path in self._base.devices[device] if path not in changed)
        yield from (path for path, leaf in changed.items() if leaf is not None)

    def _has(self, device: str, path: str) -> bool:
        changed = self.overlay.get(device, {})
        return changed[path] is not None if path in changed else path in self._base.devices[device]

    def _value(self, device: str, path: str) -> Value:
        leaf = self.overlay.get(device, {}).get(path) or self._base.devices[device].get(path)
        return leaf.value if leaf else None

    def _put(self, device: str, path: str, value: Value) -> None:
        at = self._base.version.observed_at
        self._place(device)[path] = Leaf(value, at, at, Origin.SYNTHETIC, "candidate")

    def _place(self, device: str) -> dict[str, Leaf | None]:
        return self.overlay.setdefault(device, {})


def _is_key(schema: SchemaSet, path: str, node: SchemaNode) -> bool:
    above = parent(path)
    entry = schema.node(above) if above != "/" else None
    return entry is not None and entry.kind is NodeKind.LIST and node.name in entry.keys


def _relative(path: str, relative: str) -> str:
    steps = list(parse_path(path))
    for part in relative.split("/"):
        if part == "..":
            steps.pop()
        else:
            steps.append(parse_path(f"/{part}")[0])
    return format_path(steps)


def _close(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, 3, 0.5)
    return f"; close to it: {', '.join(close)}" if close else f"; {_listed(sorted(names))}"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "there are none"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"there are {', '.join(names[:_MOST_NAMED])}{more}"
