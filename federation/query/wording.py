"""Patterns as whoever asks would write them: their prefixes, their variables, paths in one piece."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pyoxigraph import Literal, NamedNode, Variable

from domain_twin.semantic.names import AUTHORITY
from domain_twin.semantic.tokens import PREFIXES
from federation.query.filters import Filter
from federation.query.needs import Pattern, Steps, Walk

__all__ = ["Wording", "prefixes_of"]

Term: TypeAlias = NamedNode | Literal | Variable

_DECLARED: Final = re.compile(r"PREFIX\s+([^\s:<]*):\s*<([^<>\s]*)>", re.IGNORECASE)
_LOCAL: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*")
_TYPE: Final = NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_XSD: Final = "http://www.w3.org/2001/XMLSchema#"
_BARE: Final = frozenset(_XSD + kind for kind in ("integer", "decimal", "double", "boolean"))


def prefixes_of(prologue: str) -> dict[str, str]:
    """The prefixes that a query declares before it begins, with those known to all."""
    return {**PREFIXES, **dict(_DECLARED.findall(prologue))}


@dataclass(frozen=True, slots=True)
class Wording:
    """How one query's terms are shown. `stand_ins`: what a variable of our own stands for."""

    prefixes: Mapping[str, str] = field(default_factory=lambda: PREFIXES)
    stand_ins: Mapping[Variable, str] = field(default_factory=dict)

    def patterns(self, patterns: Sequence[Pattern], filters: Sequence[Filter] = ()) -> str:
        """Triple patterns, what is about one subject together; then their filters."""
        triples = _in_paths([(p.subject, self._predicate(p.predicate), p.object) for p in patterns])
        subjects: dict[Term, list[str]] = {}
        for subject, predicate, obj in triples:
            subjects.setdefault(subject, []).append(f"{predicate} {self.term(obj)}")
        text = " . ".join(f"{self.term(subject)} {' ; '.join(said)}" for subject, said in subjects.items())
        conditions = "".join(f" FILTER({each.told(self.term)})" for each in filters)
        graph = patterns[0].graph if patterns else None
        whole = f"{text}{_tight(conditions)}"
        return whole if graph is None else f"GRAPH {self.term(graph)} {{ {whole} }}"

    def walk(self, walk: Walk) -> str:
        """A property path: what it may step over, and how often."""
        repeat = "" if walk.most == 1 else "*" if walk.zero else "+"
        return f"{self.term(walk.start)} ({self.steps(walk.steps)}){repeat} {self.term(walk.end)}"

    def steps(self, steps: Steps) -> str:
        """What is stepped over, as an alternative path."""
        if steps.anything:
            return "anything"
        ways = [self.term(name) for name in sorted(steps.forward, key=str)]
        return "|".join(ways + [f"^{self.term(name)}" for name in sorted(steps.backward, key=str)])

    def term(self, term: Term) -> str:
        """One term, as short as it can be written."""
        match term:
            case Variable():
                return self.stand_ins.get(term, str(term))
            case NamedNode():
                return self._name(term.value)
            case _:
                return term.value if term.datatype.value in _BARE else str(term)

    def _predicate(self, term: Term) -> str:
        return "a" if term == _TYPE else self.term(term)

    def _name(self, iri: str) -> str:
        found = [
            (len(start), prefix, iri[len(start) :])
            for prefix, start in self.prefixes.items()
            if start and iri.startswith(start) and _LOCAL.fullmatch(iri[len(start) :])
        ]
        if found:
            _, prefix, rest = max(found)
            return f"{prefix}:{rest}"
        return f"<{iri.removeprefix(f'{AUTHORITY}/')}>"  # queries are read relative to it


def _in_paths(triples: list[tuple[Term, str, Term]]) -> list[tuple[Term, str, Term]]:
    """Joints of a path that hold two patterns together and nothing else are put back into it."""
    found = list(triples)
    index = 0
    while index < len(found):
        subject, predicate, joint = found[index]
        follows = [
            at for at, other in enumerate(found) if at != index and other[0] == joint and _is_joint(joint)
        ]
        ends = sum(other[2] == joint for other in found)
        if len(follows) == 1 and ends == 1:
            _, more, obj = found[follows[0]]
            found[index] = subject, f"{predicate}/{more}", obj
            del found[follows[0]]
            index = 0
        else:
            index += 1
    return found


def _is_joint(term: Term) -> bool:
    return isinstance(term, Variable) and term.value.startswith("_j")


def _tight(text: str) -> str:
    """A condition without the spaces that a machine puts around brackets and commas."""
    return re.sub(r"(?<=[(!]) | (?=[),(])(?<!\bIN )(?<!&& )(?<!\|\| )", "", text)
