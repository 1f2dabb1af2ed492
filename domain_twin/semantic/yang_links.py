"""Leafrefs as links between list entries. Owns where the keys of the entry that is meant come from.

A leafref's value is one key; the others are, in this order: those of the entry that holds both ends of a
relative path; what a predicate names; a leaf beside it, or a key of an entry that it is in, that points to
that key; the key of the list that both are in, where the path is absolute. Where one is in none of these
places there is no link, and the report says so: nothing is guessed from values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyoxigraph import NamedNode

from domain_twin.semantic import names
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet

__all__ = ["Above", "Beside", "Leafref", "LinkPlan", "Linker", "Own", "report"]


@dataclass(frozen=True, slots=True)
class Above:
    """The resource identifier of the node `up` levels above the leaf."""

    up: int


@dataclass(frozen=True, slots=True)
class Own:
    """Key `number` of the list entry `up` levels above the leaf."""

    up: int
    number: int


@dataclass(frozen=True, slots=True)
class Beside:
    """The value of another leaf: `up` levels above the leaf, then down these steps."""

    up: int
    down: tuple[str, ...]


SELF: Final = "self"
Part = str | Above | Own | Beside
"""A piece of an identifier: text, or where text comes from; SELF in `LinkPlan.parts` is the leaf's value."""


@dataclass(frozen=True, slots=True, eq=False)
class LinkPlan:
    """How the entry that a leaf points to is called. No parts: the value is an instance-identifier."""

    predicate: NamedNode
    parts: tuple[tuple[bool, Part], ...] = ()  # whether it is a key's value; the piece
    member: int = -1  # of a union: a link only where the value fits no other member

    @property
    def beside(self) -> tuple[Beside, ...]:
        """The other leaves that this link depends on."""
        return tuple(piece for _, piece in self.parts if isinstance(piece, Beside))


@dataclass(frozen=True, slots=True)
class Leafref:
    """What became of one leafref that points to a list's key. `why` is "" where it became a link."""

    leaf: str
    target: str
    why: str = ""


class Linker:
    """Makes the links of one schema. `found` is every leafref to a list's key, in order."""

    def __init__(self, schema: SchemaSet) -> None:
        self.found: list[Leafref] = []
        self._schema = schema
        self._chains: dict[str, list[SchemaNode]] = {}
        self._alias: dict[str, str] = {}  # leaves that keys repeat, as OpenConfig's `config/name`
        self._targets: dict[str, tuple[str, int] | None] = {}
        for top in schema.tops.values():
            self._learn([top])

    def _learn(self, chain: list[SchemaNode]) -> None:
        node = chain[-1]
        self._chains[node.path] = chain
        if node.reference is not None and _is_key(chain) and node.reference.up > 0 > node.reference.member:
            self._alias.setdefault(node.reference.target, node.path)
        for child in node.children.values():
            self._learn([*chain, child])

    def link(self, node: SchemaNode) -> LinkPlan | None:
        """The link of a leaf or leaf-list, None where it points to no list entry that it determines."""
        target = self._key(node) if node.reference is not None else None
        if target is None:
            if node.leaf_type is not None and _points_anywhere(node.leaf_type.form):
                return LinkPlan(NamedNode(names.yang_link(node.module, node.name)))
            return None
        path, shared = target
        member = node.reference.member if node.reference is not None else -1
        own, far = self._chains[node.path], self._chains[path]
        if far[:-1] == own[:-1] and _is_key(own):
            return None  # a key that points to itself through what repeats it
        parts = self._parts(node, own, far, shared)
        if member >= 0 and _takes_any_text(node, member):
            parts = "another member of its union takes any text"
        if isinstance(parts, str):
            self.found.append(Leafref(node.path, path, parts))
            return None
        self.found.append(Leafref(node.path, path))
        return LinkPlan(NamedNode(names.yang_link(node.module, node.name)), parts, member)

    def _key(self, node: SchemaNode) -> tuple[str, int] | None:
        """The key that a leafref points to at last, and how many levels from the top both surely share."""
        at, shared, seen = node, len(self._chains[node.path]), {node.path}
        while at.reference is not None:
            reference = at.reference
            if at is not node and reference.member >= 0:
                return None  # what it says may be something else
            depth = len(self._chains[at.path])
            shared = min(shared, depth - reference.up if reference.up > 0 else 0)
            following = self._schema.node(reference.target)
            if following is None or following.path in seen:
                return None
            seen.add(following.path)
            key = following.path
            if not _is_key(self._chains[key]):
                key = self._alias.get(key, key)
            if _is_key(self._chains[key]):
                return key, shared
            at = following
        return None

    def _parts(
        self, node: SchemaNode, own: list[SchemaNode], far: list[SchemaNode], shared: int
    ) -> tuple[tuple[bool, Part], ...] | str:
        """The pieces of the target's identifier, or why they are not all there."""
        out: list[tuple[bool, Part]] = []
        if shared:
            out.append((False, Above(len(own) - shared)))
        for depth, item in enumerate(far[:-1], 1):
            if depth <= shared:
                continue
            out.append((False, ("/" if depth > 1 else "") + item.path[item.path.rfind("/") + 1 :]))
            if item.kind is not NodeKind.LIST:
                continue
            if not item.keys:
                return f"list {item.path} has no keys"
            for number, key in enumerate(item.keys):
                source = self._source(node, own, far, depth, key)
                if source is None:
                    return f"nothing says which {key} of {item.path} is meant"
                out += [(False, "," if number else "="), (True, source)]
        return tuple(out)

    def _source(
        self, node: SchemaNode, own: list[SchemaNode], far: list[SchemaNode], depth: int, key: str
    ) -> Part | None:
        if depth == len(far) - 1 and key == far[-1].name:
            return SELF
        reference = node.reference
        assert reference is not None  # `link` has looked
        if self._schema.node(reference.target) is far[-1]:
            for at, name, up, down in reference.predicates:
                if at == depth and name == key:
                    return self._at(own, up, down)
        wanted = f"{far[depth - 1].path}/{key}"
        inside = True  # of the entry that the leaf is in; of those above it, only keys tell
        for level in range(len(own) - 1, 0, -1):
            above = own[level - 1]
            for child in above.children.values():
                if child is node or child.kind is not NodeKind.LEAF or child.reference is None:
                    continue
                if child.reference.member >= 0:
                    continue
                if (inside or child.name in above.keys) and wanted in self._steps(child):
                    return self._normal(own, level, (child,))
            inside = inside and above.kind is not NodeKind.LIST
        if depth < len(own) and own[depth - 1] is far[depth - 1]:
            return Own(len(own) - depth, far[depth - 1].keys.index(key))
        return None

    def _steps(self, node: SchemaNode) -> Iterator[str]:
        """Every leaf that a leafref leads to, one after the other."""
        seen = {node.path}
        at: SchemaNode | None = node
        while at is not None and at.reference is not None:
            target = at.reference.target
            if target in seen:
                return
            seen.add(target)
            yield target
            at = self._schema.node(target)

    def _at(self, own: list[SchemaNode], up: int, down: tuple[str, ...]) -> Part | None:
        """The leaf that a predicate's path leads to, if it can be but one."""
        level = len(own) - up
        if up < 1 or level < 1:
            return None
        at = own[level - 1]
        way: list[SchemaNode] = []
        for name in down:
            module, _, local = name.rpartition(":")
            found = at.child(local, module) or at.child(local)
            if found is None or found.kind in {NodeKind.LIST, NodeKind.LEAF_LIST}:
                return None
            way.append(found)
            at = found
        return self._normal(own, level, tuple(way)) if way and at.kind is NodeKind.LEAF else None

    def _normal(self, own: list[SchemaNode], level: int, way: tuple[SchemaNode, ...]) -> Part:
        """A leaf below the node at `level` of the own chain: a key of that node, or a leaf of its own."""
        above = own[level - 1]
        up = len(own) - level
        if len(way) == 1 and above.kind is NodeKind.LIST and way[0].name in above.keys:
            return Own(up, above.keys.index(way[0].name))
        steps = []
        for node in way:
            steps.append(node.step(above))
            above = node
        return Beside(up, tuple(steps))


def _is_key(chain: list[SchemaNode]) -> bool:
    """Whether the last of a chain is a key of the list that it is in."""
    return (
        len(chain) > 1
        and chain[-2].kind is NodeKind.LIST
        and chain[-1].name in chain[-2].keys
        and chain[-1].module == chain[-2].module
    )


def _takes_any_text(node: SchemaNode, member: int) -> bool:
    """Whether a member of a union other than its leafref is a string without a pattern."""
    assert node.leaf_type is not None  # it is a leaf
    others = [form for number, form in enumerate(node.leaf_type.form[1]) if number != member]
    return any(form[0] == "string" and not form[2] for form in others)


def _points_anywhere(form: Any) -> bool:
    """Whether a type is, or may be, an instance-identifier."""
    return bool(
        form[0] == "instance-identifier"
        or (form[0] == "union" and any(_points_anywhere(member) for member in form[1]))
    )


def report(leafrefs: Iterable[Leafref]) -> Mapping[str, Any]:
    """How many leafrefs to list keys became links, their share, and each of the rest with why."""
    rows = list(leafrefs)
    linked = sum(1 for row in rows if not row.why)
    return {
        "leafrefs": len(rows),
        "linked": linked,
        "share": linked / len(rows) if rows else 1.0,
        "why_not": dict(Counter(row.why for row in rows if row.why).most_common()),
        "not_linked": [{"leaf": row.leaf, "target": row.target, "why": row.why} for row in rows if row.why],
    }
