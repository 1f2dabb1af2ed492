"""Where each graph comes from and of when it is, in a graph of its own (PROV-O). Owns how often that is said.

Of a graph it says when it was last written, out of what, and at which version of that. It is written once a
second at most, so it may lag behind the graph and never runs ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pyoxigraph as ox

from domain_twin.model import Nanoseconds
from domain_twin.semantic.names import provenance_graph
from domain_twin.semantic.store import Batch, SemanticStore
from domain_twin.semantic.topology import date_time, ndt

__all__ = ["Provenance", "origins"]

_PROV = "http://www.w3.org/ns/prov#"
_GENERATED = ox.NamedNode(_PROV + "generatedAtTime")
_DERIVED = ox.NamedNode(_PROV + "wasDerivedFrom")
_INTERVAL_S = 1.0


class Provenance:
    """What the provenance graph says, and what it is to say next."""

    def __init__(self, store: SemanticStore, clock: Callable[[], Nanoseconds]) -> None:
        self._store = store
        self._clock = clock
        self._graph = ox.NamedNode(provenance_graph())
        self._said: dict[str, list[ox.Quad]] | None = None  # None: not known
        self._made_of: dict[str, tuple[str, str]] = {}
        self._touched: set[str] = set()
        self._written_at = 0.0

    def note(self, graph: str, origin: str, version: str) -> None:
        """A graph is made of `origin` (an IRI), at this version of it."""
        self._made_of[graph] = (origin, version)

    def touch(self, graph: str) -> None:
        """A graph was written."""
        self._touched.add(graph)

    def forget(self) -> None:
        """What the store says is not known any more: it may have been made anew."""
        self._said = None

    def write(self, *, everything: bool = False) -> Batch | None:
        """Say what was touched, unless that was done within the second. Raises StoreUnwritable."""
        if not self._touched or not (everything or time.monotonic() - self._written_at >= _INTERVAL_S):
            return None
        if self._said is None:
            self._said = {}
            for quad in self._store.quads(graph=self._graph.value):
                self._said.setdefault(str(quad.subject)[1:-1], []).append(quad)
        now = date_time(self._clock())
        gone: list[ox.Quad] = []
        new: list[ox.Quad] = []
        for name in self._touched:
            gone += self._said.get(name, [])
            self._said[name] = said = self._statements(name, now)
            new += said
        batch = self._store.apply(gone, new)
        self._touched.clear()
        self._written_at = time.monotonic()
        return batch

    def _statements(self, name: str, now: ox.Literal) -> list[ox.Quad]:
        subject = ox.NamedNode(name)
        said = [ox.Quad(subject, _GENERATED, now, self._graph)]
        origin, version = self._made_of.get(name, ("", ""))
        if origin:
            said.append(ox.Quad(subject, _DERIVED, ox.NamedNode(origin), self._graph))
        if version:
            said.append(ox.Quad(subject, ndt("version"), ox.Literal(version), self._graph))
        return said


def origins(store: SemanticStore) -> dict[str, str]:
    """The version that each graph is said to be of. Raises StoreUnwritable."""
    return {
        str(quad.subject)[1:-1]: quad.object.value
        for quad in store.quads(predicate=ndt("version"), graph=provenance_graph())
        if isinstance(quad.object, ox.Literal)
    }
