"""The texts of the questions that domains are asked. Owns their form; every term came through a parser.

Several units go into one question as the branches of a UNION, each with variables of its own, but for the one
that a block of values binds: a request per domain and wave, whatever is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyoxigraph import NamedNode, Variable

from federation.query.filters import Filter
from federation.query.gathered import Solution
from federation.query.needs import Pattern, Steps, Term, variables_of

__all__ = ["BOUND", "EDGE", "Branch", "branches_text", "edges_text"]

BOUND = Variable("b")
"""The variable of a question that its block of values binds."""
EDGE = Pattern(Variable("s"), Variable("p"), Variable("o"))
_NO_SUCH = "<urn:fedtwin:none>"
"""A predicate that nothing has: `!` of it is any other one."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One unit's part of a question: its patterns, and how its variables are called there."""

    patterns: tuple[Pattern, ...]
    names: Mapping[Variable, Variable]
    filters: tuple[Filter, ...] = ()
    mark: Variable | None = None
    """Bound in its rows where it has no variable of its own: rows of several branches come mixed."""

    @classmethod
    def of(
        cls,
        number: int,
        patterns: tuple[Pattern, ...],
        bound: Variable | None,
        filters: tuple[Filter, ...] = (),
    ) -> Branch:
        """Number `number` of a question; `bound` is what the block of values binds in it."""
        found: dict[Variable, Variable] = {}
        for pattern in patterns:
            for name in sorted(variables_of(pattern) - {pattern.graph}, key=str):
                if name not in found:
                    found[name] = BOUND if name == bound else Variable(f"v{number}_{len(found)}")
        own = any(name != BOUND for name in found.values())
        return cls(patterns, found, filters, None if own else Variable(f"k{number}"))

    @property
    def asked(self) -> frozenset[Variable]:
        """What a row of this branch binds in the answer; no other branch's rows do."""
        return frozenset(self.names.values()) | ({self.mark} if self.mark else set())

    def text(self) -> str:
        """Its triple patterns, and what they must fulfil."""
        conditions = "".join(f" FILTER ( {each.text(self.names)} )" for each in self.filters)
        mark = f" BIND(1 AS {self.mark})" if self.mark else ""
        return (
            " ".join(
                f"{self._term(p.subject)} {self._term(p.predicate)} {self._term(p.object)} ."
                for p in self.patterns
            )
            + conditions
            + mark
        )

    def rows(self, solutions: Iterable[Solution]) -> list[Solution]:
        """Those solutions that are this branch's, under the variables of the query."""
        asked = self.asked
        return [
            {name: row[called] for name, called in self.names.items()}
            for row in solutions
            if asked <= row.keys()
        ]

    def _term(self, term: Term) -> str:
        return str(self.names[term]) if isinstance(term, Variable) else str(term)


def branches_text(branches: Sequence[Branch]) -> str:
    """One question for all branches."""
    names = sorted({str(name) for branch in branches for name in branch.asked})
    body = " UNION ".join(f"{{ {branch.text()} }}" for branch in branches)
    return f"SELECT {' '.join(names)} WHERE {{ {body} }}"


def edges_text(steps: Steps, *, bound: bool, far: bool) -> str:
    """All triples that a walk may step over: from the values bound, on from what these lead to where `far`.

    Without values, all triples with such a predicate. In a row that lacks ?s or ?o, it is what was bound.
    """
    if not bound:
        if steps.anything:
            return "SELECT ?s ?p ?o WHERE { ?s ?p ?o }"
        return (
            f"SELECT ?s ?p ?o WHERE {{ VALUES ?p {{ {_listed(steps.forward | steps.backward)} }} ?s ?p ?o }}"
        )
    parts = []
    for names, end, other in ((steps.forward, "?s", "?o"), (steps.backward, "?o", "?s")):
        if not (steps.anything or names):
            continue
        among = "" if steps.anything else f"VALUES ?p {{ {_listed(names)} }} "
        lead = f"{BOUND} {_closure(steps)} {end} . " if far else ""
        here = end if far else str(BOUND)
        triple = f"{here} ?p {other}" if end == "?s" else f"{other} ?p {here}"
        parts.append(f"{{ {lead}{among}{triple} }}")
    shown = "?s ?p ?o" if far else f"{BOUND} ?s ?p ?o"
    return f"SELECT DISTINCT {shown} WHERE {{ {' UNION '.join(parts)} }}"


def _closure(steps: Steps) -> str:
    if steps.anything:
        return f"!({_NO_SUCH}|^{_NO_SUCH})*"
    names = [*sorted(map(str, steps.forward)), *(f"^{name}" for name in sorted(map(str, steps.backward)))]
    return f"({'|'.join(names)})*"


def _listed(names: Iterable[NamedNode]) -> str:
    return " ".join(sorted(str(name) for name in names))
