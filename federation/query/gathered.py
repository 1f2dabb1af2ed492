"""The triples that were gathered for one query, and whose they are. Owns what may be taken from an answer.

A domain speaks of its own elements, and of what belongs to nobody (records, inter-domain links): what it says
of another member's elements is dropped and counted. Blank nodes and rubbish are dropped as well. What is kept
is a part of what the views hold, so the query itself, evaluated over it, says nothing that the views do not.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyoxigraph as ox

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.semantic.names import domain_node, owner
from federation.query.needs import Pattern, Term

__all__ = ["Gathered", "Rows", "Solution", "read_rows"]

MOST_TRIPLES = 500_000
"""Of one query, from all domains; beyond, less has to be asked for."""
_LONGEST_TERM = 65_536

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
        for solution in solutions:
            if len(kept) + dropped >= most:
                dropped += 1
                break
            row = {name: term for name, term in zip(names, solution, strict=True) if term is not None}
            if all(_fit(term) for term in row.values()) and row.keys() <= wanted:
                kept.append(row)
            else:
                dropped += 1
    except (SyntaxError, ValueError) as error:
        raise ContractError(f"{domain}: its answer is no SPARQL Query Results JSON ({error})") from None
    finally:
        solutions = None  # it may only be let go in the thread that made it, and errors travel
    return Rows(kept, dropped)


def _fit(term: object) -> bool:
    return isinstance(term, ox.NamedNode | ox.Literal) and len(term.value) <= _LONGEST_TERM


@dataclass(slots=True)
class Gathered:
    """Triples by the domain that says them; the broker's own under the empty name."""

    members: frozenset[str]
    triples: dict[str, set[Triple]] = field(default_factory=dict)
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)  # answers are read in threads

    def take(self, domain: str, patterns: Iterable[Pattern], rows: Iterable[Solution]) -> int:
        """Keep what rows say about patterns; how many rows said something that the domain may not say."""
        patterns = tuple(patterns)
        refused = 0
        for row in rows:
            found = [_instance(pattern, row) for pattern in patterns]
            triples = [triple for triple in found if triple is not None]
            if len(triples) == len(found) and all(self.may_say(domain, triple[0]) for triple in triples):
                self._keep(domain, triples)
            else:
                refused += 1
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
            node = f" <{domain_node(domain)}>" if graphs and domain else ""
            for triple in triples:
                text = f"{triple[0]} {triple[1]} {triple[2]}"
                if triple not in told:
                    told.add(triple)
                    yield f"{text} .\n"
                if node:
                    yield f"{text}{node} .\n"


def _instance(pattern: Pattern, row: Solution) -> Triple | None:
    subject = _bound(pattern.subject, row)
    predicate = _bound(pattern.predicate, row)
    obj = _bound(pattern.object, row)
    if isinstance(subject, ox.NamedNode) and isinstance(predicate, ox.NamedNode) and obj is not None:
        return subject, predicate, obj
    return None


def _bound(term: Term, row: Solution) -> Value | None:
    return row.get(term) if isinstance(term, ox.Variable) else term
