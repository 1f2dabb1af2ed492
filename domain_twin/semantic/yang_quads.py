"""A device's leaves as quads, whole or change by change: both give the same graphs. Owns what stands where.

Every triple stands in one graph, that of its own schema node, as the store does not tell apart what two
graphs repeat: `config`, `state`, or `kpi` for counters. A list entry is there as long as a leaf in it is.
What no module knows, or is not of its type, is left out and counted (`DeviceQuads.unmapped`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyoxigraph import Literal, NamedNode, Quad

from domain_twin.errors import SchemaViolation
from domain_twin.model import Change, Value
from domain_twin.semantic import names
from domain_twin.semantic.yang_links import Above, Beside, LinkPlan, Own
from domain_twin.semantic.yang_plan import CONFIG, KPI, STATE, LeafPlan, NodePlan, Plan, segment
from domain_twin.semantic.yang_values import JSON, Term, Unfit, canonical_moment
from domain_twin.yang.paths import POSITION, Step, format_path, parse_path, strip_keys
from domain_twin.yang.types import TypeMismatch, UnionType, YangType

__all__ = ["LONGEST_IRI", "POSITION_OF", "DeviceQuads", "Unmapped", "quads"]

LONGEST_IRI: Final = 8192
"""Characters of a subject's IRI; a list entry whose keys need more is left out."""

TYPE: Final = NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
POSITION_OF: Final = NamedNode(f"{names.YANG}position")
"""Where an entry stands in a list that its user orders; only in projections of whole documents."""

_EXAMPLES = 100
_NOTHING: Final = object()

Diff = tuple[list[Quad], list[Quad]]


@dataclass(slots=True)
class Unmapped:
    """Leaves that are not in the graph. `examples` maps the first of their paths to why."""

    count: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, why: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < _EXAMPLES or path in self.examples:
            self.examples[path[:200]] = why


def quads(
    plan: Plan,
    domain: str,
    device: str,
    leaves: Mapping[str, Value],
    *,
    ordered: bool = False,
    unmapped: Unmapped | None = None,
) -> list[Quad]:
    """The quads of all leaves of a device, by canonical path.

    `ordered` adds the positions of entries in lists that their users order, from the order of `leaves`; the
    datastore does not know it, so that the live graph is without.
    """
    held = DeviceQuads(plan, domain, device, ordered=ordered)
    if unmapped is not None:
        held.unmapped = unmapped
    return held.reset(leaves)


class _Node:
    """A container or list entry that is there, or above one that is."""

    __slots__ = (
        "above",
        "count",
        "entries",
        "iri",
        "keys",
        "links",
        "own",
        "path",
        "plan",
        "steps",
        "subject",
    )

    def __init__(self, path: str, plan: NodePlan | None, above: _Node | None, iri: str) -> None:
        self.path = path
        self.plan = plan
        self.above = above
        self.iri = iri  # after `/data/`
        self.steps: Mapping[str, LeafPlan] = plan.steps if plan is not None else {}
        self.subject: Any = None
        self.keys: tuple[str, ...] = ()
        self.own: list[tuple[NamedNode, Term, NamedNode]] = []  # what its keys say: property, value, graph
        self.count = 0  # leaves in it, and nodes below it, that are there
        self.links: list[_Link] = []  # of its keys
        self.entries = 0  # positions given to entries of ordered lists below it


class _Leaf:
    """A leaf that is there."""

    __slots__ = ("link", "node", "path", "plan", "simple", "value")

    def __init__(self, path: str, plan: LeafPlan | None, node: _Node) -> None:
        self.path = path
        self.plan = plan  # None: a presence container says that it is there
        self.node = node
        self.value: Any = _NOTHING
        self.link: _Link | None = None
        self.simple = plan is not None and plan.scalar


class _Link:
    """What a leafref's leaf points to now. A piece that is True is the leaf's own value."""

    __slots__ = ("beside", "graph", "pieces", "plan", "predicate", "subject", "targets", "texts")

    def __init__(self, plan: LeafPlan, link: LinkPlan, node: _Node, graph: NamedNode) -> None:
        self.plan = plan
        self.predicate = link.predicate
        self.subject = node.subject
        self.graph = graph
        self.texts: tuple[str, ...] = ()
        self.targets: list[NamedNode] = []
        self.beside: list[str] = []
        self.pieces: list[tuple[bool, str | None]] = []


class DeviceQuads:
    """The graphs of one device, kept in step with its leaves. Not thread-safe.

    `reset` and `change` give quads to remove and to add; applied in order, they leave exactly what `quads`
    gives of all leaves.
    """

    def __init__(self, plan: Plan, domain: str, device: str, *, ordered: bool = False) -> None:
        self.plan = plan
        self.unmapped = Unmapped()
        self._base = names.data_node(domain, device, "")
        self._graphs = {
            kind: NamedNode(names.device_graph(domain, device, kind)) for kind in (CONFIG, STATE, KPI)
        }
        self._ordered = ordered
        self._clear()

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that are this device's."""
        return tuple(graph.value for graph in self._graphs.values())

    def _clear(self) -> None:
        root = _Node("", None, None, "")
        root.subject = NamedNode(self._base)
        root.steps = self.plan.tops
        self._nodes: dict[str, _Node] = {"": root}
        self._leaves: dict[str, _Leaf] = {}
        self._beside: dict[str, list[_Link]] = {}  # links that another leaf's value decides

    def reset(self, leaves: Mapping[str, Value] | Iterable[tuple[str, Value]]) -> list[Quad]:
        """Begin anew with these leaves: all their quads. What was there before is forgotten."""
        self._clear()
        added: list[Quad] = []
        held, nodes, beside, graphs = self._leaves, self._nodes, self._beside, self._graphs
        for path, value in leaves.items() if isinstance(leaves, Mapping) else leaves:
            cut = path.rfind("/")
            node = nodes.get(path[:cut])
            # Most are plain leaves of an entry that is there already: quick, and the same as `_set`.
            if node is not None and node.count and path not in held and path not in beside:
                plan = node.steps.get(path[cut + 1 :])
                if plan is not None and plan.scalar:
                    try:
                        term = plan.write(value)
                    except ValueError as why:
                        self.unmapped.add(path, str(why))
                        continue
                    leaf = held[path] = _Leaf(path, plan, node)
                    leaf.value = value
                    node.count += 1
                    added.append(Quad(node.subject, plan.predicate, term, graphs[plan.graph]))
                    continue
            removed, more = self._set(path, value)
            if removed:  # a path that comes twice
                gone = set(removed)
                added = [quad for quad in added if quad not in gone]
            added += more
        return added

    def change(self, change: Change) -> Diff:
        """The quads that one change of the live state removes, and those that it adds."""
        path = change.path
        if change.deleted:
            return self._drop(path)
        leaf = self._leaves.get(path)
        if leaf is not None and leaf.simple and path not in self._beside:
            value = change.value
            before = leaf.value
            if type(value) is type(before) and value == before:
                return [], []
            plan = leaf.plan
            assert plan is not None  # `simple` says so
            try:
                term = plan.write(value)
            except ValueError as why:
                self.unmapped.add(path, str(why))
                return self._drop(path)
            leaf.value = value
            subject, graph = leaf.node.subject, self._graphs[plan.graph]
            return (
                [Quad(subject, plan.predicate, plan.write(before), graph)],
                [Quad(subject, plan.predicate, term, graph)],
            )
        return self._set(path, change.value)

    # --- leaves -----------------------------------------------------------------------------------

    def _set(self, path: str, value: Value) -> Diff:
        leaf = self._leaves.get(path)
        removed: list[Quad] = []
        try:
            if leaf is None:
                leaf, own = self._placed(path, value)
                self._leaves[path] = leaf
                added = self._enter(leaf.node)
                added += own
            else:
                removed, added = _difference(self._own(leaf, leaf.value), self._own(leaf, value))
                leaf.value = value
        except ValueError as why:
            self.unmapped.add(path, str(why))
            return self._drop(path)
        if not leaf.simple and leaf.plan is not None and leaf.plan.link is not None and not leaf.plan.is_key:
            if leaf.link is None:
                leaf.link = self._link(leaf.plan, leaf.plan.link, leaf.node)
            self._point(leaf.link, _texts(leaf.plan, value), removed, added)
        if path in self._beside:
            self._decide(path, removed, added)
        return removed, added

    def _drop(self, path: str) -> Diff:
        leaf = self._leaves.pop(path, None)
        if leaf is None:
            return [], []
        removed = self._own(leaf, leaf.value)
        added: list[Quad] = []
        if leaf.link is not None:
            self._point(leaf.link, (), removed, added)
            self._forget(leaf.link)
        if path in self._beside:
            self._decide(path, removed, added)
        self._leave(leaf.node, removed)
        return removed, added

    def _placed(self, path: str, value: Value) -> tuple[_Leaf, list[Quad]]:
        """A new leaf with its quads, and the nodes above it. Raises ValueError, and then has made nothing."""
        if path.endswith("]"):  # so are entries of leaf-lists alone
            raise Unfit(self._why_not(path))
        made: dict[str, _Node] = {}
        cut = path.rfind("/")  # no slash behind it is quoted
        node = self._node(path[:cut], made) if cut >= 0 else None
        plan = node.steps.get(path[cut + 1 :]) if node is not None else None
        if node is None:
            raise Unfit(self._why_not(path))
        if plan is None:
            leaf = self._present(path, made)
            own: list[Quad] = []
        else:
            terms, sent = ([], None) if plan.is_key else _terms(plan, value)
            leaf = _Leaf(path, plan, node)
            own = self._stated(node.subject, plan, terms, sent)
        leaf.value = value
        self._nodes |= made
        return leaf, own

    def _present(self, path: str, made: dict[str, _Node]) -> _Leaf:
        """A presence container that says that it is there. Raises Unfit."""
        plan = self.plan.nodes.get(strip_keys(path))
        if plan is None or not plan.node.presence:
            raise Unfit(self._why_not(path))
        return _Leaf(path, None, self._node(path, made))

    def _why_not(self, path: str) -> str:
        at = strip_keys(path)
        if at in self.plan.leaves:
            return "one entry of a leaf-list: its values come together"
        plan = self.plan.nodes.get(at)
        return (
            "no loaded module defines it" if plan is None else f"a {plan.node.kind}, which carries no value"
        )

    def _own(self, leaf: _Leaf, value: Any) -> list[Quad]:
        """The quads of a leaf's own value. Raises Unfit."""
        plan = leaf.plan
        if plan is None or plan.is_key:
            return []  # the entry's own quads say it
        return self._stated(leaf.node.subject, plan, *_terms(plan, value))

    def _stated(self, subject: NamedNode, plan: LeafPlan, terms: list[Term], sent: str | None) -> list[Quad]:
        graph = self._graphs[plan.graph]
        out = [Quad(subject, plan.predicate, term, graph) for term in terms]
        if sent is not None:
            out.append(Quad(subject, plan.sent, Literal(sent, datatype=JSON), graph))
        return out

    # --- nodes ------------------------------------------------------------------------------------

    def _node(self, path: str, made: dict[str, _Node]) -> _Node:
        """The node at a canonical path; those that are not there yet go to `made`. Raises ValueError."""
        found = self._nodes.get(path) or made.get(path)
        if found is None:
            if path.endswith("]"):
                steps = parse_path(path)
                step, above = steps[-1], format_path(steps[:-1])
            else:
                cut = path.rfind("/")
                if cut < 0:
                    raise Unfit("no loaded module defines it")
                module, _, name = path[cut + 1 :].rpartition(":")
                step, above = Step(module, name), path[:cut]
            node = self._node("" if above == "/" else above, made)
            found = made[path] = self._made(path, step, node)
        return found

    def _made(self, path: str, step: Step, above: _Node) -> _Node:
        at = f"{above.plan.node.path if above.plan else ''}/{step.qualified}"
        plan = self.plan.nodes.get(at)
        if plan is None:
            raise Unfit("no loaded module defines it")
        keys = tuple([text for _, text in step.keys])
        if plan.unkeyed:
            if len(step.keys) != 1 or step.keys[0][0] != POSITION:
                raise Unfit(f"an entry of {at}, which has no keys, without its position")
        elif tuple([name for name, _ in step.keys]) != plan.node.keys:
            raise Unfit(f"not the keys of {at}, in order")
        iri = f"{above.iri}/{segment(step.qualified, keys)}" if above.iri else segment(step.qualified, keys)
        if len(iri) > LONGEST_IRI:
            raise Unfit(f"its keys need more than {LONGEST_IRI} characters of an IRI")
        node = _Node(path, plan, above, iri)
        node.subject = NamedNode(self._base + iri)
        node.keys = keys
        for leaf, text in zip(plan.keys, keys, strict=False):
            terms, sent = _terms(leaf, leaf.node.codec.text(text))
            graph = self._graphs[leaf.graph]
            node.own += [(leaf.predicate, term, graph) for term in terms]
            if sent is not None:
                node.own.append((leaf.sent, Literal(sent, datatype=JSON), graph))
        if self._ordered and plan.node.user_ordered:
            above.entries += 1
            node.own.append((POSITION_OF, Literal(above.entries), self._graphs[plan.graph]))
        return node

    def _enter(self, node: _Node) -> list[Quad]:
        """One more is in a node: its quads where it is the first, and those of the nodes above."""
        if node.count:
            node.count += 1
            return []
        out: list[Quad] = []
        at: _Node | None = node
        while at is not None and at.plan is not None:
            at.count += 1
            if at.count > 1:
                break
            out += self._structure(at)
            out += self._key_links(at)
            at = at.above
        return out

    def _leave(self, node: _Node, removed: list[Quad]) -> None:
        at: _Node | None = node
        while at is not None and at.plan is not None:
            at.count -= 1
            if at.count:
                break
            for link in at.links:
                self._point(link, (), removed, [])
                self._forget(link)
            at.links = []
            removed += self._structure(at)
            self._nodes.pop(at.path, None)
            at = at.above

    def _structure(self, node: _Node) -> list[Quad]:
        """That a node is there, of what type, and with which keys."""
        plan, above, subject = node.plan, node.above, node.subject
        assert plan is not None  # it is not the root
        assert above is not None
        graph = self._graphs[plan.graph]
        out = [Quad(above.subject, plan.predicate, subject, graph)]
        if plan.type is not None:
            out.append(Quad(subject, TYPE, plan.type, graph))
        out += [Quad(subject, predicate, term, where) for predicate, term, where in node.own]
        return out

    # --- links ------------------------------------------------------------------------------------

    def _key_links(self, node: _Node) -> list[Quad]:
        assert node.plan is not None  # it is not the root
        out: list[Quad] = []
        for leaf, text in zip(node.plan.keys, node.keys, strict=False):
            if leaf.link is not None:
                link = self._link(leaf, leaf.link, node)
                node.links.append(link)
                self._point(link, _texts(leaf, leaf.node.codec.text(text)), [], out)
        return out

    def _link(self, leaf: LeafPlan, plan: LinkPlan, node: _Node) -> _Link:
        link = _Link(leaf, plan, node, self._graphs[leaf.graph])
        for is_value, part in plan.parts:
            match part:
                case Above(up):
                    link.pieces.append((False, _above(node, up).iri))
                case Own(up, number):
                    link.pieces.append((False, segment("", (_above(node, up).keys[number],))[1:]))
                case Beside(up, down):
                    path = "/".join((_above(node, up).path, *down))
                    link.beside.append(path)
                    link.pieces.append((True, path))
                    self._beside.setdefault(path, []).append(link)
                case _ if is_value:
                    link.pieces.append((True, None))
                case str(text):
                    link.pieces.append((False, text))
        return link

    def _forget(self, link: _Link) -> None:
        for path in link.beside:
            links = self._beside.get(path, [])
            if link in links:
                links.remove(link)
            if not links:
                self._beside.pop(path, None)

    def _decide(self, path: str, removed: list[Quad], added: list[Quad]) -> None:
        """Turn the links whose other keys a leaf says."""
        for link in self._beside.get(path, ()):
            self._point(link, link.texts, removed, added)

    def _point(self, link: _Link, texts: tuple[str, ...], removed: list[Quad], added: list[Quad]) -> None:
        """Let a link lead from the leaf's values as they are now."""
        link.texts = texts
        found = [self._target(link, text) for text in dict.fromkeys(texts)]
        targets = [target for target in found if target is not None]
        if targets == link.targets:
            return
        removed += [
            Quad(link.subject, link.predicate, target, link.graph)
            for target in link.targets
            if target not in targets
        ]
        added += [
            Quad(link.subject, link.predicate, target, link.graph)
            for target in targets
            if target not in link.targets
        ]
        link.targets = targets

    def _target(self, link: _Link, text: str) -> NamedNode | None:
        if not link.pieces:
            try:
                iri = self.plan.iri_path(parse_path(text)) if text.startswith("/") else None
            except SchemaViolation:
                return None
        else:
            parts = []
            for is_value, piece in link.pieces:
                if not is_value:
                    parts.append(piece or "")
                    continue
                value = text if piece is None else self._text_at(piece)
                if value is None:
                    return None
                parts.append(segment("", (value,))[1:])
            iri = "".join(parts)
        return NamedNode(self._base + iri) if iri and len(iri) <= LONGEST_IRI else None

    def _text_at(self, path: str) -> str | None:
        leaf = self._leaves.get(path)
        if leaf is None or leaf.plan is None or leaf.plan.is_list:
            return None
        return leaf.plan.node.codec.lexical(leaf.value)


def _terms(plan: LeafPlan, value: Any) -> tuple[list[Term], str | None]:
    """The terms of a leaf's value, and its JSON where they do not tell what was sent. Raises Unfit."""
    if plan.scalar:
        return [plan.write(value)], None
    if plan.is_list:
        if not isinstance(value, tuple):
            raise Unfit(f"not a leaf-list ({type(value).__name__})")
        terms = list(dict.fromkeys([plan.write(item) for item in value]))
        whole = len(value) == 1 and not (plan.is_moment and canonical_moment(value[0]) != value[0])
        return terms, None if whole else _json(plan, value)
    if plan.is_bits:
        if type(value) is not str:
            raise Unfit(f"not a set of bits ({type(value).__name__})")
        return [plan.write(bit) for bit in value.split()], None if value.split() else '""'
    term = plan.write(value)
    if plan.is_moment and canonical_moment(value) not in {None, value}:
        return [term], _json(plan, value)
    return [term], None


def _json(plan: LeafPlan, value: Any) -> str:
    return json.dumps(plan.node.codec.json(value), ensure_ascii=False, separators=(",", ":"))


def _texts(plan: LeafPlan, value: Any) -> tuple[str, ...]:
    """What a leaf's values are as keys; of a union, those that its leafref alone takes."""
    lexical, link = plan.node.codec.lexical, plan.link
    values = value if plan.is_list else (value,)
    if link is not None and link.member >= 0:
        union = plan.node.codec.type
        members = union.members if isinstance(union, UnionType) else ()
        others = [member for number, member in enumerate(members) if number != link.member]
        values = [item for item in values if not any(_takes(member, item) for member in others)]
    return tuple(map(lexical, values))


def _takes(kind: YangType, value: Any) -> bool:
    try:
        kind.native(value)
    except TypeMismatch:
        return False
    return True


def _above(node: _Node, up: int) -> _Node:
    """The node `up` levels above a leaf of `node`."""
    for _ in range(up - 1):
        assert node.above is not None  # the plan counts no further than the top
        node = node.above
    return node


def _difference(before: list[Quad], after: list[Quad]) -> Diff:
    if len(before) == len(after) == 1:
        return ([], []) if before == after else (before, after)
    old, new = set(before), set(after)
    return [quad for quad in before if quad not in new], [quad for quad in after if quad not in old]
