"""What is known of YANG terms, as triples: a graph for each set of modules, beside the devices' data.

So a question can ask which properties are state, of what type and unit values are, what a leafref leads to,
and which identities derive from one (`rdfs:subClassOf+`). Owns no names but those of the `yang:` vocabulary.
"""

from __future__ import annotations

import hashlib
from typing import Final

from pyoxigraph import Literal, NamedNode, Quad

from domain_twin.semantic import names
from domain_twin.semantic.yang_plan import LeafPlan, NodePlan, Plan, class_of
from domain_twin.semantic.yang_values import datatype
from domain_twin.yang.schema import NodeKind, SchemaNode

__all__ = ["describe", "fingerprint"]

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDFS: Final = "http://www.w3.org/2000/01/rdf-schema#"
_TYPE: Final = NamedNode(f"{_RDF}type")
_PROPERTY: Final = NamedNode(f"{_RDF}Property")
_CLASS: Final = NamedNode(f"{_RDFS}Class")
_LABEL: Final = NamedNode(f"{_RDFS}label")
_RANGE: Final = NamedNode(f"{_RDFS}range")
_SUBCLASS: Final = NamedNode(f"{_RDFS}subClassOf")
_DEFINED: Final = NamedNode(f"{_RDFS}isDefinedBy")
_MODULE: Final = NamedNode(f"{names.YANG}Module")
_IDENTITY: Final = NamedNode(f"{names.YANG}Identity")
_UNKEYED: Final = NamedNode(f"{names.YANG}Unkeyed")
_REVISION: Final = NamedNode(f"{names.YANG}revision")
_NAMESPACE: Final = NamedNode(f"{names.YANG}namespace")
_STATE: Final = NamedNode(f"{names.YANG}isState")
_PATH: Final = NamedNode(f"{names.YANG}path")
_UNITS: Final = NamedNode(f"{names.YANG}units")
_KEY: Final = NamedNode(f"{names.YANG}key")
_LINK_OF: Final = NamedNode(f"{names.YANG}linkOf")


def fingerprint(plan: Plan) -> str:
    """What equal sets of modules have in common: names, revisions, features and deviations."""
    stated = [f"{info.name}@{info.revision}" for info in plan.schema.modules.values()]
    return hashlib.sha256("\n".join([*sorted(stated), plan.schema.module_set.key]).encode()).hexdigest()[:16]


def describe(plan: Plan) -> list[Quad]:
    """All that is known of the terms of a plan, in the graph of its module set.

    A property that is configuration in one place and state in another has `yang:isState` with both values.
    """
    said = _Description(NamedNode(names.yang_graph(fingerprint(plan))))
    for info in plan.schema.modules.values():
        module = _module(info.name)
        said.add(module, _TYPE, _MODULE)
        said.add(module, _REVISION, Literal(info.revision))
        said.add(module, _NAMESPACE, Literal(info.namespace))
        for name, bases in info.identities:
            identity = NamedNode(names.yang_identity(info.name, name))
            said.term(identity, _IDENTITY, name, info.name)
            for base in bases:
                above, _, local = base.partition(":")
                said.add(identity, _SUBCLASS, NamedNode(names.yang_identity(above, local)))
    for node in plan.nodes.values():
        _describe_node(said, node)
    for leaf in plan.leaves.values():
        _describe_leaf(said, leaf)
    for row in plan.leafrefs:
        link = plan.leaves[row.leaf].link
        if link is not None:
            listed = plan.schema.node(row.target[: row.target.rfind("/")])
            assert listed is not None  # a key is in a list
            said.add(link.predicate, _RANGE, NamedNode(class_of(listed)))
    return list(said.quads)


class _Description:
    """Quads of one graph, each once."""

    def __init__(self, graph: NamedNode) -> None:
        self.graph = graph
        self.quads: dict[Quad, None] = {}

    def add(self, subject: NamedNode, predicate: NamedNode, value: NamedNode | Literal) -> None:
        self.quads[Quad(subject, predicate, value, self.graph)] = None

    def term(self, term: NamedNode, kind: NamedNode, name: str, module: str) -> None:
        self.add(term, _TYPE, kind)
        self.add(term, _LABEL, Literal(name))
        self.add(term, _DEFINED, _module(module))

    def place(self, term: NamedNode, node: SchemaNode) -> None:
        self.add(term, _PATH, Literal(node.path))
        self.add(term, _STATE, Literal(not node.config))


def _describe_node(said: _Description, plan: NodePlan) -> None:
    node = plan.node
    said.term(plan.predicate, _PROPERTY, node.name, node.module)
    said.place(plan.predicate, node)
    if plan.type is None:
        return
    said.term(plan.type, _CLASS, node.name, node.module)
    said.place(plan.type, node)
    said.add(plan.predicate, _RANGE, plan.type)
    for key in plan.keys:
        said.add(plan.type, _KEY, key.predicate)
    if node.kind is NodeKind.LIST and not node.keys:
        said.add(plan.type, _SUBCLASS, _UNKEYED)


def _describe_leaf(said: _Description, plan: LeafPlan) -> None:
    node = plan.node
    said.term(plan.predicate, _PROPERTY, node.name, node.module)
    said.place(plan.predicate, node)
    kind = datatype(plan.form, is_moment=plan.is_moment)
    if kind:
        said.add(plan.predicate, _RANGE, NamedNode(kind))
    if node.units:
        said.add(plan.predicate, _UNITS, Literal(node.units))
    if plan.link is not None:
        said.term(plan.link.predicate, _PROPERTY, node.name, node.module)
        said.add(plan.link.predicate, _LINK_OF, plan.predicate)


def _module(name: str) -> NamedNode:
    return NamedNode(names.yang_term(name, "").removesuffix("#"))
