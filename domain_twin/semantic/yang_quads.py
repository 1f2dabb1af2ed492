"""A device's leaves as quads, whole or change by change: both give the same graphs. Owns what stands where.

Every triple stands in one graph, that of its own schema node, as the store does not tell apart what two
graphs repeat: `config`, `state`, or `kpi` for counters. A list entry is there as long as a leaf in it is.
What no module knows, or is not of its type, is left out and counted (`DeviceQuads.unmapped`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyoxigraph import Literal, NamedNode, Quad

from domain_twin.model import Change, Value
from domain_twin.semantic import names
from domain_twin.semantic.yang_entries import LONGEST_IRI, Leaf, Node
from domain_twin.semantic.yang_follow import Links
from domain_twin.semantic.yang_leaf import terms, texts
from domain_twin.semantic.yang_plan import CONFIG, KPI, STATE, LeafPlan, Plan, segment
from domain_twin.semantic.yang_values import JSON, Term, Unfit
from domain_twin.yang.paths import POSITION, Step, format_path, parse_path, strip_keys

__all__ = ["LONGEST_IRI", "POSITION_OF", "DeviceQuads", "Unmapped", "quads"]

TYPE: Final = NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
POSITION_OF: Final = NamedNode(f"{names.YANG}position")
"""Where an entry stands in a list that its user orders; only in projections of whole documents."""

_EXAMPLES = 100
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
        root = Node("", None, None, "")
        root.subject = NamedNode(self._base)
        root.steps = self.plan.tops
        self._nodes: dict[str, Node] = {"": root}
        self._leaves: dict[str, Leaf] = {}
        self._links = Links(self.plan, self._base, self._leaves)

    def reset(self, leaves: Mapping[str, Value] | Iterable[tuple[str, Value]]) -> list[Quad]:
        """Begin anew with these leaves: all their quads. What was there before is forgotten."""
        self._clear()
        added: list[Quad] = []
        held, nodes, beside, graphs = self._leaves, self._nodes, self._links.beside, self._graphs
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
                    leaf = held[path] = Leaf(path, plan, node)
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
        if leaf is not None and leaf.simple and path not in self._links.beside:
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
                leaf.link = self._links.made(
                    leaf.plan, leaf.plan.link, leaf.node, self._graphs[leaf.plan.graph]
                )
            self._links.point(leaf.link, texts(leaf.plan, value), removed, added)
        if path in self._links.beside:
            self._links.decide(path, removed, added)
        return removed, added

    def _drop(self, path: str) -> Diff:
        leaf = self._leaves.pop(path, None)
        if leaf is None:
            return [], []
        removed = self._own(leaf, leaf.value)
        added: list[Quad] = []
        if leaf.link is not None:
            self._links.point(leaf.link, (), removed, added)
            self._links.forget(leaf.link)
        if path in self._links.beside:
            self._links.decide(path, removed, added)
        self._leave(leaf.node, removed)
        return removed, added

    def _placed(self, path: str, value: Value) -> tuple[Leaf, list[Quad]]:
        """A new leaf with its quads, and the nodes above it. Raises ValueError, and then has made nothing."""
        if path.endswith("]"):  # so are entries of leaf-lists alone
            raise Unfit(self._why_not(path))
        made: dict[str, Node] = {}
        cut = path.rfind("/")  # no slash behind it is quoted
        node = self._node(path[:cut], made) if cut >= 0 else None
        plan = node.steps.get(path[cut + 1 :]) if node is not None else None
        if node is None:
            raise Unfit(self._why_not(path))
        if plan is None:
            leaf = self._present(path, made)
            own: list[Quad] = []
        else:
            said, sent = ([], None) if plan.is_key else terms(plan, value)
            leaf = Leaf(path, plan, node)
            own = self._stated(node.subject, plan, said, sent)
        leaf.value = value
        self._nodes |= made
        return leaf, own

    def _present(self, path: str, made: dict[str, Node]) -> Leaf:
        """A presence container that says that it is there. Raises Unfit."""
        plan = self.plan.nodes.get(strip_keys(path))
        if plan is None or not plan.node.presence:
            raise Unfit(self._why_not(path))
        return Leaf(path, None, self._node(path, made))

    def _why_not(self, path: str) -> str:
        at = strip_keys(path)
        if at in self.plan.leaves:
            return "one entry of a leaf-list: its values come together"
        plan = self.plan.nodes.get(at)
        return (
            "no loaded module defines it" if plan is None else f"a {plan.node.kind}, which carries no value"
        )

    def _own(self, leaf: Leaf, value: Any) -> list[Quad]:
        """The quads of a leaf's own value. Raises Unfit."""
        plan = leaf.plan
        if plan is None or plan.is_key:
            return []  # the entry's own quads say it
        return self._stated(leaf.node.subject, plan, *terms(plan, value))

    def _stated(self, subject: NamedNode, plan: LeafPlan, said: list[Term], sent: str | None) -> list[Quad]:
        graph = self._graphs[plan.graph]
        out = [Quad(subject, plan.predicate, term, graph) for term in said]
        if sent is not None:
            out.append(Quad(subject, plan.sent, Literal(sent, datatype=JSON), graph))
        return out

    # --- nodes ------------------------------------------------------------------------------------

    def _node(self, path: str, made: dict[str, Node]) -> Node:
        """The node at a canonical path; those that are not there yet go to `made`. Raises ValueError."""
        found = self._nodes.get(path) or made.get(path)
        if found is None:
            if path.endswith("]"):
                steps = parse_path(path)
                if (whole := format_path(steps)) != path:
                    return self._node(whole, made)  # quoted otherwise, but the same entry
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

    def _made(self, path: str, step: Step, above: Node) -> Node:
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
        node = Node(path, plan, above, iri)
        node.subject = NamedNode(self._base + iri)
        node.keys = keys
        for leaf, text in zip(plan.keys, keys, strict=False):
            said, sent = terms(leaf, leaf.node.codec.text(text))
            graph = self._graphs[leaf.graph]
            node.own += [(leaf.predicate, term, graph) for term in said]
            if sent is not None:
                node.own.append((leaf.sent, Literal(sent, datatype=JSON), graph))
        if self._ordered and plan.node.user_ordered:
            above.entries += 1
            node.own.append((POSITION_OF, Literal(above.entries), self._graphs[plan.graph]))
        return node

    def _enter(self, node: Node) -> list[Quad]:
        """One more is in a node: its quads where it is the first, and those of the nodes above."""
        if node.count:
            node.count += 1
            return []
        out: list[Quad] = []
        at: Node | None = node
        while at is not None and at.plan is not None:
            at.count += 1
            if at.count > 1:
                break
            out += self._structure(at)
            out += self._key_links(at)
            at = at.above
        return out

    def _leave(self, node: Node, removed: list[Quad]) -> None:
        at: Node | None = node
        while at is not None and at.plan is not None:
            at.count -= 1
            if at.count:
                break
            for link in at.links:
                self._links.point(link, (), removed, [])
                self._links.forget(link)
            at.links = []
            removed += self._structure(at)
            self._nodes.pop(at.path, None)
            at = at.above

    def _structure(self, node: Node) -> list[Quad]:
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

    def _key_links(self, node: Node) -> list[Quad]:
        assert node.plan is not None  # it is not the root
        out: list[Quad] = []
        for leaf, text in zip(node.plan.keys, node.keys, strict=False):
            if leaf.link is not None:
                link = self._links.made(leaf, leaf.link, node, self._graphs[leaf.graph])
                node.links.append(link)
                self._links.point(link, texts(leaf, leaf.node.codec.text(text)), [], out)
        return out


def _difference(before: list[Quad], after: list[Quad]) -> Diff:
    if len(before) == len(after) == 1:
        return ([], []) if before == after else (before, after)
    old, new = set(before), set(after)
    return [quad for quad in before if quad not in new], [quad for quad in after if quad not in old]
