"""What is there of one device: nodes, leaves, links. Records; `yang_quads` and `yang_follow` keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyoxigraph import NamedNode

from domain_twin.semantic.yang_links import LinkPlan
from domain_twin.semantic.yang_plan import LeafPlan, NodePlan
from domain_twin.semantic.yang_values import Term

__all__ = ["LONGEST_IRI", "Leaf", "Link", "Node", "above"]

LONGEST_IRI: Final = 8192
"""Characters of an IRI behind `/data/`; a list entry whose keys need more is left out."""


class Node:
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

    def __init__(self, path: str, plan: NodePlan | None, above: Node | None, iri: str) -> None:
        self.path = path
        self.plan = plan
        self.above = above
        self.iri = iri  # after `/data/`
        self.steps: Mapping[str, LeafPlan] = plan.steps if plan is not None else {}
        self.subject: Any = None
        self.keys: tuple[str, ...] = ()
        self.own: list[tuple[NamedNode, Term, NamedNode]] = []  # what its keys say: property, value, graph
        self.count = 0  # leaves in it, and nodes below it, that are there
        self.links: list[Link] = []  # of its keys
        self.entries = 0  # positions given to entries of ordered lists below it


class Leaf:
    """A leaf that is there."""

    __slots__ = ("link", "node", "path", "plan", "simple", "value")

    def __init__(self, path: str, plan: LeafPlan | None, node: Node) -> None:
        self.path = path
        self.plan = plan  # None: a presence container says that it is there
        self.node = node
        self.value: Any = None
        self.link: Link | None = None
        self.simple = plan is not None and plan.scalar


class Link:
    """What a leaf points to now. A piece is text, or (where True) a leaf's path, or None: its own value."""

    __slots__ = ("beside", "graph", "pieces", "plan", "predicate", "subject", "targets", "texts")

    def __init__(self, plan: LeafPlan, link: LinkPlan, node: Node, graph: NamedNode) -> None:
        self.plan = plan
        self.predicate = link.predicate
        self.subject = node.subject
        self.graph = graph
        self.texts: tuple[str, ...] = ()
        self.targets: list[NamedNode] = []
        self.beside: list[str] = []
        self.pieces: list[tuple[bool, str | None]] = []


def above(node: Node, up: int) -> Node:
    """The node `up` levels above a leaf of `node`."""
    for _ in range(up - 1):
        assert node.above is not None  # the plan counts no further than the top
        node = node.above
    return node
