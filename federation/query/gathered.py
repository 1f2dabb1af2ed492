"""The triples that were gathered for one query, and whose they are. Owns what may be taken from an answer.

A domain speaks of its own elements, and of what belongs to nobody (records, inter-domain links): what it says
of another member's elements is dropped and counted. Blank nodes and rubbish are dropped as well. What is kept
is a part of what the views hold, so the query itself, evaluated over it, says nothing that the views do not.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyoxigraph as ox

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.semantic.names import domain_node, owner
from federation.query.needs import Pattern

__all__ = ["Gathered", "Rows", "Solution", "read_rows"]

MOST_TRIPLES = 500_000
"""Of one query, from all domains; beyond, less has to be asked for."""
_LONGEST_TERM = 65_536
_TERMS = (ox.NamedNode, ox.Literal)

Value = ox.NamedNode | ox.Literal
Solution = Mapping[ox.Variable, Value]
Triple = tuple[ox.NamedNode, ox.NamedNode, Value]


@dataclass(frozen=True, slots=True)
class Rows:
    """Solutions of one answer, as they were read; `dropped`: those that held something else than terms."""

    solutions: Sequence[Solution]
    dropped: int = 0


def read_rows(domain: str, results: bytes, variables: Collection[ox.Variable], most: int) -> Rows:
    """Solutions from SPARQL 1.1 Query Results JSON. Raises ContractError for what is none.

    Rows with blank nodes, unknown variables or terms of more than 64 KiB are dropped. Blocks.
    """
    wanted = set(variables)
    kept: list[Solution] = []
    dropped = 0
    solutions: ox.QuerySolutions | ox.QueryBoolean | None = None
    try:
        solutions = ox.parse_query_results(results, ox.QueryResultsFormat.JSON)
        if isinstance(solutions, ox.QueryBoolean):
            raise ValueError("a yes or no, where rows were asked for")
        names = list(solutions.variables)
        long = len(results) > _LONGEST_TERM  # else no term of it can be
        for solution in solutions:
            if len(kept) + dropped >= most:
                dropped += 1
                break
            row: dict[ox.Variable, Value] = {}
            for name, term in zip(names, solution, strict=True):
                if term is None:
                    continue
                if not isinstance(term, _TERMS) or name not in wanted:
                    break
                if long and len(term.value) > _LONGEST_TERM:
                    break
                row[name] = term
            else:
                kept.append(row)
                continue
            dropped += 1
    except (SyntaxError, ValueError) as error:
        raise ContractError(f"{domain}: its answer is no SPARQL Query Results JSON ({error})") from None
    finally:
        solutions = None  # it may only be let go in the thread that made it, and errors travel
    return Rows(kept, dropped)


@dataclass(slots=True)
class Gathered:
    """Triples by the domain that says them; the broker's own under the empty name."""

    members: frozenset[str]
    triples: dict[str, set[Triple]] = field(default_factory=dict)
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)  # answers are read in threads

    def take(self, domain: str, patterns: Iterable[Pattern], rows: Iterable[Solution]) -> int:
        """Keep what rows say about patterns; how many rows said something that the domain may not say."""
        parts = tuple(
            (term, isinstance(term, ox.Variable))
            for pattern in patterns
            for term in (pattern.subject, pattern.predicate, pattern.object)
        )
        said: dict[Value, bool] = {}
        kept: list[Triple] = []
        refused = 0
        for row in rows:
            values: list[Any] = [row.get(term) if free else term for term, free in parts]  # type: ignore[arg-type]
            triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
            for subject, predicate, obj in triples:
                if obj is None or type(predicate) is not ox.NamedNode or type(subject) is not ox.NamedNode:
                    break
                may = said.get(subject)
                if may is None:
                    may = said[subject] = self.may_say(domain, subject)
                if not may:
                    break
            else:
                kept += triples
                continue
            refused += 1
        self._keep(domain, kept)
        return refused

    def add(self, domain: str, triples: Iterable[Triple]) -> None:
        """Keep triples of the broker's own, or of a view that it holds."""
        self._keep(domain, triples)

    def may_say(self, domain: str, subject: ox.NamedNode) -> bool:
        """Whether a domain may speak of this subject: its own, or nobody's."""
        of = owner(subject.value)
        return of == domain or of not in self.members

    def _keep(self, domain: str, triples: Iterable[Triple]) -> None:
        with self._lock:
            held = self.triples.setdefault(domain, set())
            before = len(held)
            held.update(triples)
            self.count += len(held) - before
        if self.count > MOST_TRIPLES:
            raise OverCapacity(
                f"the query needs more than {MOST_TRIPLES} triples of the domains; name what you mean more"
                " closely: a class, an element, a domain"
            )

    def n_quads(self, *, graphs: bool) -> bytes:
        """All of it: in the default graph, and with `graphs` each domain's in a graph of its name. Blocks."""
        return "".join(self._lines(graphs)).encode()

    def _lines(self, graphs: bool) -> Iterator[str]:
        told: set[Triple] = set()
        for domain, triples in self.triples.items():
            new = triples - told if told else triples
            yield from (f"{subject} {predicate} {obj} .\n" for subject, predicate, obj in new)
            told |= new
            if graphs and domain:
                end = f"<{domain_node(domain)}> .\n"
                yield from (f"{subject} {predicate} {obj} {end}" for subject, predicate, obj in triples)
