"""Links that follow their leaves: what a leafref points to, as its keys and those beside it change."""

from __future__ import annotations

from collections.abc import Mapping

from pyoxigraph import NamedNode, Quad

from domain_twin.errors import SchemaViolation
from domain_twin.semantic.yang_entries import LONGEST_IRI, Leaf, Link, Node, above
from domain_twin.semantic.yang_links import Above, Beside, LinkPlan, Own
from domain_twin.semantic.yang_plan import LeafPlan, Plan, segment
from domain_twin.yang.paths import parse_path

__all__ = ["Links"]


class Links:
    """The links of one device. `beside` is those that another leaf's value decides, by its path."""

    def __init__(self, plan: Plan, base: str, leaves: Mapping[str, Leaf]) -> None:
        self.beside: dict[str, list[Link]] = {}
        self._plan = plan
        self._base = base
        self._leaves = leaves

    def made(self, leaf: LeafPlan, plan: LinkPlan, node: Node, graph: NamedNode) -> Link:
        """The link of a leaf of `node`, which points nowhere yet."""
        link = Link(leaf, plan, node, graph)
        for is_value, part in plan.parts:
            match part:
                case Above(up):
                    link.pieces.append((False, above(node, up).iri))
                case Own(up, number):
                    link.pieces.append((False, segment("", (above(node, up).keys[number],))[1:]))
                case Beside(up, down):
                    path = "/".join((above(node, up).path, *down))
                    link.beside.append(path)
                    link.pieces.append((True, path))
                    self.beside.setdefault(path, []).append(link)
                case _ if is_value:
                    link.pieces.append((True, None))
                case str(text):
                    link.pieces.append((False, text))
        return link

    def forget(self, link: Link) -> None:
        """A link's leaf is gone."""
        for path in link.beside:
            links = self.beside.get(path, [])
            if link in links:
                links.remove(link)
            if not links:
                self.beside.pop(path, None)

    def decide(self, path: str, removed: list[Quad], added: list[Quad]) -> None:
        """Turn the links whose other keys a leaf says."""
        for link in self.beside.get(path, ()):
            self.point(link, link.texts, removed, added)

    def point(self, link: Link, texts: tuple[str, ...], removed: list[Quad], added: list[Quad]) -> None:
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

    def _target(self, link: Link, text: str) -> NamedNode | None:
        if not link.pieces:
            try:
                iri = self._plan.iri_path(parse_path(text)) if text.startswith("/") else None
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
