"""A SHACL document as nodes with properties: its lists and its paths (SHACL 2.3.1). Owns no constraint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyoxigraph as ox

__all__ = ["Described", "path_text", "terms_of"]

_SH = "http://www.w3.org/ns/shacl#"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_NIL = ox.NamedNode(_RDF + "nil")
_LONGEST = 10_000

Term = ox.NamedNode | ox.BlankNode | ox.Literal | ox.Triple
Node = ox.NamedNode | ox.BlankNode


class Described:
    """The statements of one document, by subject."""

    def __init__(self, quads: Iterable[ox.Quad]) -> None:
        self._about: dict[Node, dict[str, list[Term]]] = {}
        for quad in quads:
            if isinstance(quad.subject, (ox.NamedNode, ox.BlankNode)):
                said = self._about.setdefault(quad.subject, {})
                said.setdefault(quad.predicate.value, []).append(quad.object)

    def values(self, node: Node, predicate: str) -> list[Term]:
        """What a node has for a property."""
        return self._about.get(node, {}).get(predicate, [])

    def predicates(self, node: Node) -> list[str]:
        """The properties that a node has."""
        return list(self._about.get(node, {}))

    def subjects(self, predicate: str, value: str) -> set[Node]:
        """The nodes that have this IRI for a property."""
        wanted = ox.NamedNode(value)
        return {node for node, said in self._about.items() if wanted in said.get(predicate, ())}

    def having(self, predicate: str) -> set[Node]:
        """The nodes that have this property."""
        return {node for node, said in self._about.items() if predicate in said}

    def objects(self, predicate: str) -> set[Term]:
        """Everything that some node has for a property."""
        return {value for said in self._about.values() for value in said.get(predicate, ())}


def terms_of(graph: Described, node: object) -> Iterator[Term]:
    """The members of an RDF list. Raises ValueError for what is none, or never ends."""
    for _ in range(_LONGEST):
        if node == _NIL:
            return
        if not isinstance(node, (ox.NamedNode, ox.BlankNode)):
            raise ValueError(f"{node} is no list")
        first, rest = graph.values(node, _RDF + "first"), graph.values(node, _RDF + "rest")
        if len(first) != 1 or len(rest) != 1:
            raise ValueError(f"{node} is no list: it has {len(first)} members and {len(rest)} rests")
        yield first[0]
        node = rest[0]
    raise ValueError(f"the list does not end within {_LONGEST} members")


_SUFFIXES = {"zeroOrMorePath": "*", "oneOrMorePath": "+", "zeroOrOnePath": "?"}


def path_text(graph: Described, node: object, depth: int = 0) -> str:
    """A SHACL path as a SPARQL one. Raises ValueError."""
    if depth > 20:
        raise ValueError("its sh:path is nested deeper than 20")
    if isinstance(node, ox.NamedNode):
        return str(node)
    if not isinstance(node, ox.BlankNode):
        raise ValueError(f"its sh:path {node} is no path")
    if graph.values(node, _RDF + "first"):
        return "(" + " / ".join(path_text(graph, part, depth + 1) for part in terms_of(graph, node)) + ")"
    for value in graph.values(node, _SH + "alternativePath"):
        return "(" + " | ".join(path_text(graph, part, depth + 1) for part in terms_of(graph, value)) + ")"
    for value in graph.values(node, _SH + "inversePath"):
        return f"(^{path_text(graph, value, depth + 1)})"
    for name, suffix in _SUFFIXES.items():
        for value in graph.values(node, _SH + name):
            return f"({path_text(graph, value, depth + 1)}{suffix})"
    raise ValueError("its sh:path is none of SHACL's")
