"""What depends on an element, across domains: from what domains show to services, slices and customers.

The chain inside a domain, from a link or node to the points and segments that peers know, is its own: its
agent follows it (`domain_twin.agent.semantics`); who asked goes on here with the points where it comes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyoxigraph as ox

from domain_twin.model.query import Impact, QueryPart
from domain_twin.semantic.impact import dependents, find_known
from domain_twin.semantic.names import plain_name
from federation.query.boundary import SeenBoundary

__all__ = ["impact_of"]


async def impact_of(elements: Sequence[str], seen: SeenBoundary, parts: tuple[QueryPart, ...]) -> Impact:
    """What depends on any of `elements`, nearest first. Raises NotFound where none of them is seen."""
    return await asyncio.to_thread(_impact, elements, seen, parts)


def _impact(elements: Sequence[str], seen: SeenBoundary, parts: tuple[QueryPart, ...]) -> Impact:
    store = ox.Store()
    store.bulk_extend(ox.Quad(*triple) for _, triple in seen.all_triples())

    def ask(text: str) -> Any:
        return list(store.query(text))  # type: ignore[arg-type]  # its questions are SELECTs

    iris = find_known(ask, elements)
    return Impact(plain_name(iris[0]) or iris[0], dependents(ask, iris), parts)
