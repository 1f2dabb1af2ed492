"""What shapes and rules find in all that the domains show one asker, and in what stands between them.

Shapes and rules are those of `ontology/`, and `semantic` runs them; owned here is what they are run over: the
views as the domains show them now, fetched whole, with the broker's own records and paths.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import lru_cache

import pyoxigraph as ox

from domain_twin.model import Finding
from domain_twin.model.query import GraphCheck, QueryPart
from domain_twin.semantic.checks import chosen, rule_findings, shape_findings
from domain_twin.semantic.derive import Rule, derived, shipped_rules
from domain_twin.semantic.names import topology_graph
from domain_twin.semantic.shapes import Check, load_shapes
from domain_twin.semantic.store import SemanticStore
from federation.query.gathered import Gathered

__all__ = ["EVERYTHING", "findings_of"]

EVERYTHING = "SELECT * WHERE { ?s ?p ?o }"
"""What a check needs of every domain."""
_HERE = "federation"


async def findings_of(shape: str, gathered: Gathered, parts: tuple[QueryPart, ...]) -> GraphCheck:
    """All findings, or those of one shape (then of no rule). Raises NotFound for one that there is not."""
    return await asyncio.to_thread(_check, shape, gathered, parts)


def _check(shape: str, gathered: Gathered, parts: tuple[QueryPart, ...]) -> GraphCheck:
    checks = chosen(_shapes(), shape)
    store = SemanticStore()
    try:
        graph = topology_graph(_HERE)
        store.replace(graph, _quads(gathered, graph))
        found: list[Finding] = shape_findings(store, checks, "", [graph])
        if not shape:
            for rule in _rules():
                store.replace(rule.graph, derived(rule, store, _HERE))
            found += rule_findings(store, "", store.graphs())
    finally:
        store.close()
    return GraphCheck(tuple(found), len({check.shape for check in checks}), parts)


def _quads(gathered: Gathered, graph: str) -> Iterator[ox.Quad]:
    name = ox.NamedNode(graph)
    for triples in gathered.triples.values():
        for subject, predicate, value in triples:
            yield ox.Quad(subject, predicate, value, name)


@lru_cache(maxsize=1)
def _shapes() -> tuple[Check, ...]:
    return tuple(load_shapes())


@lru_cache(maxsize=1)
def _rules() -> tuple[Rule, ...]:
    return tuple(shipped_rules())
