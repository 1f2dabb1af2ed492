"""How the data nodes of one set of modules become triples. Owns the terms and the graph of every node.

Compiled once per SchemaSet, from its expanded tree: choices and cases have vanished, what augments has the
namespace of its own module, features and deviations are applied. Does no I/O; refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Final
from urllib.parse import quote

from pyoxigraph import NamedNode

from domain_twin.semantic import names
from domain_twin.semantic.yang_links import Leafref, Linker, LinkPlan
from domain_twin.semantic.yang_values import Writer, writer
from domain_twin.yang.codec import Form
from domain_twin.yang.paths import Step
from domain_twin.yang.schema import NodeKind, SchemaNode, SchemaSet

__all__ = ["CONFIG", "KPI", "STATE", "LeafPlan", "NodePlan", "Plan", "compile_plan", "segment"]

CONFIG: Final = "config"
STATE: Final = "state"
KPI: Final = "kpi"

_COUNTERS = {"counter32", "counter64", "zero-based-counter32", "zero-based-counter64"}
"""Typedefs of RFC 6991, and of the vendors that name theirs alike."""


@dataclass(frozen=True, slots=True, eq=False)
class LeafPlan:
    """A leaf, leaf-list or anydata: its property, its graph, and what writes its values."""

    node: SchemaNode
    predicate: NamedNode
    sent: NamedNode
    graph: str
    form: Form
    write: Writer
    is_list: bool = False
    is_bits: bool = False
    is_moment: bool = False
    is_key: bool = False
    link: LinkPlan | None = None
    scalar: bool = False  # one value is one triple and nothing else, as of most leaves


@dataclass(frozen=True, slots=True, eq=False)
class NodePlan:
    """A container or list. `type` is the class of a list's entries or of a presence container."""

    node: SchemaNode
    step: str
    predicate: NamedNode
    graph: str
    type: NamedNode | None
    keys: tuple[LeafPlan, ...]
    steps: Mapping[str, LeafPlan]  # its leaves, as canonical paths write them
    leaves: Mapping[str, LeafPlan]  # its leaves by the IRIs of `predicate` and `sent`

    @property
    def unkeyed(self) -> bool:
        """Whether the entries of this list have no keys, so that positions stand for them."""
        return self.node.kind is NodeKind.LIST and not self.node.keys


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What `compile_plan` makes. `nodes` and `leaves` are by schema path."""

    schema: SchemaSet
    nodes: Mapping[str, NodePlan]
    leaves: Mapping[str, LeafPlan]
    leafrefs: tuple[Leafref, ...]
    tops: Mapping[str, LeafPlan]  # leaves that are in no container, by `module:name`

    def iri_path(self, steps: tuple[Step, ...]) -> str | None:
        """The data-resource identifier (RFC 8040 3.5.3) of a canonical path's steps; None for no node's.

        The keys of every list must be there; only those of the last may be left out.
        """
        out: list[str] = []
        at = ""
        for number, step in enumerate(steps, 1):
            at += f"/{step.qualified}"
            plan = self.nodes.get(at)
            if plan is None:
                leaf = self.leaves.get(at)
                if leaf is None or number < len(steps):
                    return None
                values = tuple(text for _, text in step.keys)
            elif plan.node.kind is NodeKind.LIST:
                values = _entry(plan, step)
                if not values and number < len(steps):
                    return None
            else:
                values = ()
            out.append(segment(step.qualified, values))
        return "/".join(out)


def _entry(plan: NodePlan, step: Step) -> tuple[str, ...]:
    given = dict(step.keys)
    wanted = plan.node.keys or tuple(given)
    return tuple(given[key] for key in wanted) if set(given) == set(wanted) else ()


def segment(step: str, values: tuple[str, ...] = ()) -> str:
    """One step of a data-resource identifier: what is reserved in a key is percent-encoded."""
    return f"{step}={','.join([quote(value, safe='') for value in values])}" if values else step


def compile_plan(schema: SchemaSet) -> Plan:
    """The plan of a module set. 28,000 nodes take about two seconds; blocks."""
    linker = Linker(schema)
    nodes: dict[str, NodePlan] = {}
    leaves: dict[str, LeafPlan] = {}
    for node in _walk(schema):
        if node.is_leaf:
            continue
        own = {child.path: _leaf(node, child, linker, schema) for child in _leaves(node)}
        leaves |= own
        is_list = node.kind is NodeKind.LIST
        keys = tuple(own[f"{node.path}/{key}"] for key in node.keys if f"{node.path}/{key}" in own)
        nodes[node.path] = NodePlan(
            node=node,
            step=node.path[node.path.rfind("/") + 1 :],
            predicate=NamedNode(names.yang_term(node.module, node.name)),
            graph=CONFIG if node.config else STATE,
            type=NamedNode(class_of(node)) if is_list or node.presence else None,
            keys=keys,
            steps={child.step(node): own[child.path] for child in _leaves(node)},
            leaves={iri: leaf for leaf in own.values() for iri in (leaf.predicate.value, leaf.sent.value)},
        )
    tops = {name: _leaf(None, top, linker, schema) for name, top in schema.tops.items() if top.is_leaf}
    leaves |= {leaf.node.path: leaf for leaf in tops.values()}
    return Plan(schema, nodes, leaves, tuple(linker.found), tops)


def class_of(node: SchemaNode) -> str:
    """The IRI of a list's or presence container's class: its schema path, dotted, in its own namespace."""
    steps = []
    module = ""
    for step in node.path.split("/")[1:]:
        stated, colon, name = step.rpartition(":")
        module = stated if colon else module
        name = name.replace(".", "%2E")
        steps.append(name if module == node.module else f"{module}:{name}")
    return names.yang_class(node.module, ".".join(steps))


def _walk(schema: SchemaSet) -> Iterator[SchemaNode]:
    for top in schema.tops.values():
        yield from top.walk()


def _leaves(node: SchemaNode) -> list[SchemaNode]:
    return [child for child in node.children.values() if child.is_leaf]


def _leaf(above: SchemaNode | None, node: SchemaNode, linker: Linker, schema: SchemaSet) -> LeafPlan:
    assert node.leaf_type is not None  # every leaf has a type
    form = node.leaf_type.form
    typedefs = meaning(schema, node)
    is_moment = form[0] == "string" and "date-and-time" in typedefs
    counts = not node.config and not typedefs.isdisjoint(_COUNTERS)
    is_list = node.kind is NodeKind.LEAF_LIST
    is_bits = form[0] == "bits" and not is_list
    is_key = (
        above is not None
        and above.kind is NodeKind.LIST
        and node.name in above.keys
        and node.module == above.module
    )
    link = linker.link(node)
    return LeafPlan(
        node=node,
        predicate=NamedNode(names.yang_term(node.module, node.name)),
        sent=NamedNode(names.yang_sent(node.module, node.name)),
        graph=CONFIG if node.config else KPI if counts else STATE,
        form=form,
        write=writer(form, node, is_moment=is_moment),
        is_list=is_list,
        is_bits=is_bits,
        is_moment=is_moment,
        is_key=is_key,
        link=link,
        scalar=not (is_list or is_bits or is_moment or is_key or link),
    )


def meaning(schema: SchemaSet, node: SchemaNode) -> set[str]:
    """Names of the typedefs that a leaf's type goes through, those of a leafref's target included."""
    found: set[str] = set()
    seen: set[str] = set()
    at: SchemaNode | None = node
    while at is not None and at.path not in seen:
        seen.add(at.path)
        found.update(intern(name.rpartition(":")[2]) for name in at.typedefs)
        at = schema.node(at.reference.target) if at.reference and at.reference.member < 0 else None
    return found
