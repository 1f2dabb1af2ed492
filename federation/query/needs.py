"""What a query needs of a graph: patterns in scopes. Owns the reading of the algebra; asks nobody.

A scope holds patterns that must all match for a solution to come of it; what hangs on it (OPTIONAL, UNION,
MINUS, EXISTS, sub-selects) is a scope of its own. `allowed` names the variables whose values may be handed
down: those that the left side binds in every solution. Restricting the inner scope to these values changes no
solution; restricting it by any other variable could (an OPTIONAL that finds nothing binds nothing, and joins
with everything). What is needed may be more than what the answer rests on, never less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

from pyoxigraph import Literal, NamedNode, Variable

from domain_twin.errors import ContractError
from federation.query.filters import Filter, filters_of

__all__ = ["Pattern", "Scope", "Steps", "Term", "Walk", "needs_of", "variables_of"]

Term: TypeAlias = NamedNode | Literal | Variable

_EXACT = frozenset({"http://www.w3.org/2001/XMLSchema#string"})


@dataclass(frozen=True, slots=True)
class Pattern:
    """A triple pattern. `graph`: whose it must be (GRAPH, SERVICE); None: anybody's."""

    subject: Term
    predicate: NamedNode | Variable
    object: Term
    graph: NamedNode | Variable | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """What a walk may step over, and which way; `anything`: any predicate, both ways."""

    forward: frozenset[NamedNode] = frozenset()
    backward: frozenset[NamedNode] = frozenset()
    anything: bool = False

    def turned(self) -> Steps:
        """The same steps, walked from the other end."""
        return Steps(self.backward, self.forward, self.anything)

    def joined(self, other: Steps) -> Steps:
        """Either."""
        return Steps(
            self.forward | other.forward, self.backward | other.backward, self.anything or other.anything
        )


@dataclass(frozen=True, slots=True)
class Walk:
    """A property path that repeats or branches: all that can be stepped over from one of its ends.

    `most`: steps at most; 0: any number. `zero`: no step at all is one way.
    """

    start: Term
    steps: Steps
    end: Term
    most: int = 0
    zero: bool = False
    graph: NamedNode | Variable | None = None


@dataclass(slots=True)
class Scope:
    """What must match together, and what hangs on it."""

    patterns: list[Pattern] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    values: list[tuple[Variable, frozenset[NamedNode | Literal]]] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    """What all of its solutions fulfil, of what domains may look at themselves."""
    inner: list[Scope] = field(default_factory=list)
    allowed: frozenset[Variable] = frozenset()
    """Variables whose values come from the scope around this one."""
    kind: str = ""
    """Why it is a scope of its own: OPTIONAL, UNION, MINUS, EXISTS, SELECT; empty: the outermost."""
    aggregates: bool = False
    """Its solutions are counted or cut: one that is missing changes others."""
    cut: int | None = None
    """So many of its solutions are wanted, and nothing says which; 0: all from some place on."""
    stand_ins: dict[Variable, str] = field(default_factory=dict)
    """The outermost scope's: what variables that nobody wrote stand for."""

    def walk_scopes(self) -> Iterator[Scope]:
        """This scope and all inside it, outermost first."""
        yield self
        for scope in self.inner:
            yield from scope.walk_scopes()


def variables_of(pattern: Pattern | Walk) -> set[Variable]:
    """The variables that every match of a pattern binds."""
    if isinstance(pattern, Pattern):
        terms: tuple[Any, ...] = (pattern.subject, pattern.predicate, pattern.object, pattern.graph)
    else:
        terms = (pattern.start, pattern.end, pattern.graph)
    return {term for term in terms if isinstance(term, Variable)}


def needs_of(algebra: Any) -> Scope:
    """What a query needs, by its algebra (rdflib's). Raises ContractError where it cannot be read."""
    scope = Scope()
    _Reader(scope.stand_ins).read(algebra.p, scope, frozenset(), None)
    for each in list(scope.walk_scopes()):
        _add_nodes(each)
    return scope


def _add_nodes(scope: Scope) -> None:
    """Where a walk may make no step and nothing else binds its ends, every node matches: need all."""
    bound = set(scope.allowed) | {name for name, _ in scope.values}
    steady: list[Pattern | Walk] = [*scope.patterns, *(walk for walk in scope.walks if not walk.zero)]
    for part in steady:
        bound |= variables_of(part)
    for walk in scope.walks:
        if walk.zero:
            for end in (walk.start, walk.end):
                if isinstance(end, NamedNode):  # it matches itself where it is in the graph at all
                    new = _new_variable(), _new_variable(), _new_variable(), _new_variable()
                    out = Pattern(end, new[0], new[1], walk.graph)
                    scope.inner.append(Scope([out], kind="UNION"))
                    scope.inner.append(Scope([Pattern(new[2], new[3], end, walk.graph)], kind="UNION"))
        ends = {end for end in (walk.start, walk.end) if isinstance(end, Variable)}
        if (
            walk.zero
            and not ends & bound
            and isinstance(walk.start, Variable)
            and isinstance(walk.end, Variable)
        ):
            scope.patterns.append(Pattern(_new_variable(), _new_variable(), _new_variable(), walk.graph))


_fresh = count(1)


def _new_variable() -> Variable:
    return Variable(f"_f{next(_fresh)}")


class _Reader:
    """Walks the algebra; fresh variables stand for blank nodes and for the joints of paths."""

    def __init__(self, stand_ins: dict[Variable, str]) -> None:
        self._blank: dict[str, Variable] = {}
        self._stand_ins = stand_ins

    def read(
        self,
        node: Any,
        scope: Scope,
        around: frozenset[Variable],
        graph: NamedNode | Variable | None,
    ) -> None:
        """Put what `node` needs into `scope`; `around`: what is bound by all that it is joined with."""
        match node.name:
            case "BGP":
                for subject, predicate, obj in node.triples:
                    self._triple((subject, predicate, obj), scope, graph)
            case "Join":
                one, other = node.p1, node.p2
                self.read(one, scope, around | self.certain(other), graph)
                self.read(other, scope, around | self.certain(one), graph)
            case "LeftJoin":
                self.read(node.p1, scope, around, graph)
                inner = self._inner(node.p2, scope, self.certain(node.p1), graph, "OPTIONAL")
                both = self.certain(node.p1) | self.certain(node.p2)
                inner.filters += filters_of(node.expr, self.certain(node.p2))
                self._exists(node.expr, inner, both, graph)
            case "Union":
                for branch in (node.p1, node.p2):
                    self._inner(branch, scope, around, graph, "UNION")
            case "Minus":
                self.read(node.p1, scope, around, graph)
                self._inner(node.p2, scope, self.certain(node.p1), graph, "MINUS")
            case "Filter":
                self.read(node.p, scope, around, graph)
                scope.filters += filters_of(node.expr, self.certain(node.p))
                self._exists(node.expr, scope, self.certain(node.p), graph)
            case "Extend":
                self.read(node.p, scope, around, graph)
                self._exists(node.expr, scope, self.certain(node.p), graph)
            case "OrderBy":
                self.read(node.p, scope, around, graph)
                self._exists(node.expr, scope, self.certain(node.p), graph)
            case "Project" | "Distinct" | "Reduced":
                self.read(node.p, scope, around, graph)
            case "Slice" | "AggregateJoin" | "Group":
                scope.aggregates = True
                if node.name == "Slice" and not _ordered(node.p):
                    scope.cut = 0 if node.start else node.length or 0
                self._exists(node.get("expr"), scope, frozenset(), graph)
                self._exists(node.get("A"), scope, frozenset(), graph)
                self.read(node.p, scope, around, graph)
            case "Graph":
                self.read(node.p, scope, around, self._term(node.term))
            case "ToMultiSet":
                self._multiset(node.p, scope, around, graph)
            case other:
                raise ContractError(f"{other} is not answered across domains; ask each domain for its part")

    def certain(self, node: Any) -> frozenset[Variable]:
        """Variables that every solution of `node` binds."""
        match node.name:
            case "BGP":
                terms = {term for triple in node.triples for term in (triple[0], triple[1], triple[2])}
                return frozenset(Variable(str(term)) for term in terms if _is_variable(term))
            case "Join":
                return self.certain(node.p1) | self.certain(node.p2)
            case "LeftJoin" | "Minus":
                return self.certain(node.p1)
            case "Union":
                return self.certain(node.p1) & self.certain(node.p2)
            case "Graph":
                own = {Variable(str(node.term))} if _is_variable(node.term) else set()
                return self.certain(node.p) | own
            case "Project":
                return self.certain(node.p) & {Variable(str(name)) for name in node.PV}
            case "Filter" | "Extend" | "OrderBy" | "Distinct" | "Reduced" | "Slice":
                return self.certain(node.p)
            case "ToMultiSet":
                if node.p.name != "values":
                    return self.certain(node.p)
                return frozenset(name for name, _ in _inline(node.p))
            case _:  # grouped: nothing is certain
                return frozenset()

    def _inner(
        self,
        node: Any,
        scope: Scope,
        allowed: frozenset[Variable],
        graph: NamedNode | Variable | None,
        kind: str,
    ) -> Scope:
        inner = Scope(allowed=allowed, kind=kind)
        scope.inner.append(inner)
        self.read(node, inner, allowed, graph)
        return inner

    def _multiset(
        self, node: Any, scope: Scope, around: frozenset[Variable], graph: NamedNode | Variable | None
    ) -> None:
        if node.name == "values":
            scope.values += _inline(node)
            return
        seen = _projected(node)
        allowed = frozenset() if seen is None else around & seen
        blank, self._blank = self._blank, {}
        inner = Scope(allowed=allowed, kind="SELECT")
        scope.inner.append(inner)
        self.read(node, inner, allowed, graph)
        self._blank = blank

    def _exists(
        self,
        expression: Any,
        scope: Scope,
        allowed: frozenset[Variable],
        graph: NamedNode | Variable | None,
    ) -> None:
        """The patterns inside (NOT) EXISTS, wherever they stand in an expression."""
        from rdflib.plugins.sparql.algebra import translateGroupGraphPattern
        from rdflib.plugins.sparql.parserutils import CompValue

        if isinstance(expression, CompValue):
            if expression.name in ("Builtin_EXISTS", "Builtin_NOTEXISTS"):
                node = expression.graph
                if node.name in ("GroupGraphPatternSub", "SubSelect"):
                    node = translateGroupGraphPattern(node)
                self._inner(node, scope, allowed, graph, "EXISTS")
                return
            for part in expression.values():
                self._exists(part, scope, allowed, graph)
        elif isinstance(expression, list | tuple):
            for part in expression:
                self._exists(part, scope, allowed, graph)

    def _triple(self, triple: tuple[Any, Any, Any], scope: Scope, graph: NamedNode | Variable | None) -> None:
        subject, predicate, obj = triple
        from rdflib.paths import Path

        start, end = self._term(subject), self._term(obj)
        if isinstance(predicate, Path):
            self._path(start, predicate, end, scope, graph)
        else:
            name = self._term(predicate)
            assert not isinstance(name, Literal)
            scope.patterns.append(Pattern(start, name, end, graph))

    def _path(
        self, start: Term, path: Any, end: Term, scope: Scope, graph: NamedNode | Variable | None
    ) -> None:
        from rdflib.paths import InvPath, SequencePath
        from rdflib.term import URIRef

        if isinstance(path, URIRef):
            scope.patterns.append(Pattern(start, NamedNode(str(path)), end, graph))
        elif isinstance(path, InvPath):
            self._path(end, path.arg, start, scope, graph)
        elif isinstance(path, SequencePath):
            joints = [start, *(self._joint(arg) for arg in path.args[:-1]), end]
            for one, step, other in zip(joints[:-1], path.args, joints[1:], strict=True):
                self._path(one, step, other, scope, graph)
        else:
            steps, most, least = _steps(path)
            scope.walks.append(Walk(start, steps, end, most or 0, least == 0, graph))

    def _joint(self, path: Any) -> Variable:
        """Where a path goes on after its part `path`."""
        joint = Variable(f"_j{next(_fresh)}")
        word = re.split(r"[#/]", str(path).rstrip(">)*+?"))[-1] or "joint"
        told = f"_:{word}"
        taken = set(self._stand_ins.values())
        self._stand_ins[joint] = told if told not in taken else f"{told}{len(self._stand_ins) + 1}"
        return joint

    def _stand_in(self, told: str) -> Variable:
        variable = _new_variable()
        self._stand_ins[variable] = told
        return variable

    def _term(self, term: Any) -> Any:
        from rdflib.term import BNode, URIRef
        from rdflib.term import Literal as RdfLiteral
        from rdflib.term import Variable as RdfVariable

        if isinstance(term, RdfVariable):
            return Variable(str(term))
        if isinstance(term, BNode):
            if str(term) not in self._blank:
                self._blank[str(term)] = self._stand_in(f"_:{len(self._stand_ins) + 1}")
            return self._blank[str(term)]
        if isinstance(term, URIRef):
            return _named(str(term))
        if isinstance(term, RdfLiteral):
            if term.language:
                return Literal(str(term), language=term.language)
            if term.datatype is None or str(term.datatype) in _EXACT:
                return Literal(str(term))
            # Numbers and times are written in many ways, and the parser has chosen one: any value is asked
            # for, and the query itself decides at the end.
            return self._stand_in(_plain(term))
        raise ContractError(f"{term!r} is no term that a pattern may hold")


def _plain(term: Any) -> str:
    """A literal with a type, as people write it."""
    kind = str(term.datatype).rpartition("#")[2]
    return str(term) if kind in ("integer", "decimal", "double", "boolean") else f'"{term}"^^xsd:{kind}'


def _named(iri: str) -> NamedNode:
    try:
        return NamedNode(iri)
    except ValueError as error:
        raise ContractError(f"<{iri[:80]}> is not an absolute IRI ({error}); write it in full") from None


def _is_variable(term: Any) -> bool:
    from rdflib.term import Variable as RdfVariable

    return isinstance(term, RdfVariable)


def _inline(node: Any) -> list[tuple[Variable, frozenset[NamedNode | Literal]]]:
    """The values of those variables that every row of a VALUES block binds to names or plain strings."""
    rows = node.res
    found = []
    for name in {name for row in rows for name in row}:
        values: set[NamedNode | Literal] = set()
        for row in rows:
            term = _value(row.get(name))
            if term is None:
                break
            values.add(term)
        else:
            found.append((Variable(str(name)), frozenset(values)))
    return found


def _value(term: Any) -> NamedNode | Literal | None:
    from rdflib.term import Literal as RdfLiteral
    from rdflib.term import URIRef

    if isinstance(term, URIRef):
        return _named(str(term))
    if isinstance(term, RdfLiteral) and not term.language and (term.datatype is None):
        return Literal(str(term))
    return None


def _projected(node: Any) -> frozenset[Variable] | None:
    """What a sub-select shows; None where its solutions are counted or cut, and must not be restricted."""
    shown = None
    while True:
        match node.name:
            case "Project":
                shown = frozenset(Variable(str(name)) for name in node.PV)
            case "Distinct" | "Reduced" | "OrderBy" | "Extend" | "Filter":
                pass
            case "Slice" | "AggregateJoin" | "Group":
                return None
            case _:
                return shown
        node = node.p


def _ordered(node: Any) -> bool:
    """Whether what a LIMIT cuts is ordered."""
    while node.name in ("Project", "Distinct", "Reduced"):
        node = node.p
    return bool(node.name == "OrderBy")


def _steps(path: Any) -> tuple[Steps, int | None, int]:
    """What a path may step over, forwards from its start; how many steps at most (None: any) and at least."""
    from rdflib.paths import AlternativePath, InvPath, MulPath, NegatedPath, SequencePath
    from rdflib.term import URIRef

    if isinstance(path, URIRef):
        return Steps(forward=frozenset({_named(str(path))})), 1, 1
    if isinstance(path, InvPath):
        steps, most, least = _steps(path.arg)
        return steps.turned(), most, least
    if isinstance(path, NegatedPath):
        return Steps(anything=True), 1, 1
    if isinstance(path, SequencePath | AlternativePath):
        parts = [_steps(part) for part in path.args]
        joined = Steps()
        for steps, _, _ in parts:
            joined = joined.joined(steps)
        bounds = [most for _, most, _ in parts]
        if isinstance(path, SequencePath):
            total = None if None in bounds else sum(bound or 0 for bound in bounds)
            return joined, total, sum(least for _, _, least in parts)
        return (
            joined,
            None if None in bounds else max(bound or 0 for bound in bounds),
            min(least for _, _, least in parts),
        )
    if isinstance(path, MulPath):
        steps, most, least = _steps(path.path)
        return steps, most if not path.more else None, 0 if path.zero else least
    raise ContractError(f"{path} is no path that is answered across domains")
