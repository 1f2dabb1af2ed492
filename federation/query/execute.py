"""Gather what a query needs from the domains: wave by wave, the cheapest first, bound by what is known.

What the broker has itself comes first. Then in every wave all units go out that are expected to cost little,
else the one that costs least; what comes back narrows the values that are left for the variables, and with
them what the next wave asks for (bound joins in blocks). Values are kept per variable and scope: a superset
of what joins, found without joining anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pyoxigraph import Literal, NamedNode, Variable

from domain_twin.semantic.names import domain_node
from federation.query.asking import BLOCK, Desk
from federation.query.gathered import Gathered, Solution, Triple, read_rows
from federation.query.needs import Pattern, Scope, Steps, Walk
from federation.query.sources import Sources
from federation.query.texts import BOUND, Branch, branches_text
from federation.query.units import Unit, expected_rows, units_of
from federation.query.walks import follow

__all__ = ["Execution", "Held", "Step", "Wave", "covered"]

CHEAP_ROWS = 300
"""A unit expected to answer with so few rows is asked at once, with nothing bound."""
ALIKE = 2.0
"""What costs so many times the least goes out with it: waiting for a round costs more than the rows."""
MOST_ROWS = 200_000
"""Read of one answer."""

Value: TypeAlias = NamedNode | Literal


class Held(Protocol):
    """What the broker has of its own, and of views: asked without a request. All methods block."""

    def match(
        self, domain: str, pattern: Pattern, known: Mapping[Variable, frozenset[Value]]
    ) -> list[Solution]:
        """What matches of one domain's triples (the broker's own under the empty name), of what is left."""

    def edges(self, domain: str, node: NamedNode, steps: Steps) -> list[Triple]:
        """The triples that a walk may step over from a node."""


@dataclass(slots=True)
class Step:
    """One step that was taken: for EXPLAIN."""

    wave: int
    domain: str
    about: Unit | Walk
    expected: float
    bound: Variable | None = None
    values: int = 0
    requests: int = 0
    rows: int = 0
    here: bool = False
    """By the broker itself, of its own or of its copy of the domain's view."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What went out together, and what it took."""

    number: int
    requests: int
    transferred_bytes: int
    took_ms: float


@dataclass(slots=True)
class _Question:
    """What goes to one domain in one wave: branches that share what is bound."""

    domain: str
    values: tuple[Value, ...] | None
    units: list[tuple[Unit, Branch, Step]] = field(default_factory=list)


class Execution:
    """One query being gathered."""

    def __init__(self, needs: Scope, sources: Sources, desk: Desk, held: Held, gathered: Gathered) -> None:
        self.steps: list[Step] = []
        self.waves = 0
        self.waves_taken: list[Wave] = []
        self.left_out: list[Unit] = []
        """What nobody was asked, since nothing can come of what it belongs to."""
        self._sources = sources
        self._desk = desk
        self._held = held
        self._gathered = gathered
        self._parent: dict[int, Scope] = {}
        self._known: dict[int, dict[Variable, frozenset[Value]]] = {}
        self._empty: set[int] = set()
        self.units: list[Unit] = []
        for scope in needs.walk_scopes():
            self._known[id(scope)] = {}
            for name, values in scope.values:
                self._narrow(scope, name, values)
            self._parent |= {id(inner): scope for inner in scope.inner}
            self.units += units_of(scope, sources)

    async def run(self) -> None:
        """Gather until nothing is open. Raises TwinError where it would be too much."""
        while ready := self._ready():
            self.waves += 1
            parts, loop = self._desk.parts.values(), asyncio.get_running_loop()
            began = loop.time()
            requests = sum(part.requests for part in parts)
            transferred = sum(part.transferred_bytes for part in parts)
            await self._wave(ready)
            self.waves_taken.append(
                Wave(
                    self.waves,
                    sum(part.requests for part in parts) - requests,
                    sum(part.transferred_bytes for part in parts) - transferred,
                    (loop.time() - began) * 1e3,
                )
            )

    # ------------------------------------------------------------ what is next

    def _ready(self) -> list[Unit]:
        """The units of the next wave."""
        open_units = []
        for unit in self.units:
            if not unit.done and self._is_empty(unit.scope):
                unit.done = True  # nothing can come of its scope any more
                self.left_out.append(unit)
            if not unit.done:
                open_units.append(unit)
        if not open_units:
            return []
        local = [unit for unit in open_units if not any(self._asked(unit))]
        if at_once := [unit for unit in local if unit.walk is None] or local:
            # Costs no request, and may tell that others need none: one by one, the least first.
            return [min(at_once, key=self._rows_here)]
        costs = [(self._cost(unit), unit) for unit in open_units]
        bearable = max(CHEAP_ROWS, ALIKE * min(cost for cost, _ in costs))
        return [unit for cost, unit in costs if cost <= bearable]

    def _rows_here(self, unit: Unit) -> float:
        bound = self._counts(unit)
        own = expected_rows(unit, "", self._sources, bound) if unit.held else 0.0
        return own + sum(expected_rows(unit, domain, self._sources, bound) for domain in unit.domains)

    def _cost(self, unit: Unit) -> float:
        if unit.walk is not None:
            bound = self._counts(unit)
            return sum(
                expected_rows(unit, domain, self._sources, bound)
                for domain in unit.domains
                if not covered(unit, domain, self._sources)
            )
        return sum(self._choice(unit, domain)[1] for domain in self._asked(unit))

    def _asked(self, unit: Unit) -> list[str]:
        return [d for d in unit.domains if not covered(unit, d, self._sources) and not self._desk.failed(d)]

    def _counts(self, unit: Unit) -> dict[Variable, int]:
        found = {name: self._values(unit.scope, name) for name in unit.bindable}
        return {name: len(values) for name, values in found.items() if values is not None}

    def _choice(self, unit: Unit, domain: str) -> tuple[Variable | None, float, tuple[Value, ...]]:
        """What to bind in a question to a domain, what it costs in rows both ways, and the values."""
        best: tuple[Variable | None, float, tuple[Value, ...]] = (
            None,
            expected_rows(unit, domain, self._sources),
            (),
        )
        for name in sorted(unit.bindable, key=str):
            values = self._values(unit.scope, name)
            if values is None:
                continue
            fit = self._fitting(unit, domain, name, values)
            cost = expected_rows(unit, domain, self._sources, {name: len(fit)}) + len(fit)
            if cost < best[1] or not fit:
                best = (name, cost, fit)
        return best

    def _fitting(
        self, unit: Unit, domain: str, name: Variable, values: frozenset[Value]
    ) -> tuple[Value, ...]:
        """The values that the domain may have: only its own names where a property stays inside it."""
        about = [pattern for pattern in unit.patterns if name in (pattern.subject, pattern.object)]
        named = any(pattern.object != name for pattern in about)
        own = any(self._sources.local((domain,), pattern, name) for pattern in about)
        base = f"{domain_node(domain)}/"
        return tuple(
            value
            for value in values
            if (isinstance(value, NamedNode) or not (own or named))
            and (not own or f"{value.value}/".startswith(base))
        )

    # ------------------------------------------------------------ what is known

    def _values(self, scope: Scope, name: Variable) -> frozenset[Value] | None:
        """What is left for a variable in a scope; None: anything."""
        own = self._known[id(scope)].get(name)
        if name in scope.allowed and (parent := self._parent.get(id(scope))) is not None:
            above = self._values(parent, name)
            if above is not None:
                return above if own is None else own & above
        return own

    def _narrow(self, scope: Scope, name: Variable, values: Iterable[Value]) -> None:
        known = self._known[id(scope)]
        new = frozenset(values)
        known[name] = new if name not in known else known[name] & new
        if not known[name]:
            self._empty.add(id(scope))

    def _is_empty(self, scope: Scope) -> bool:
        """Whether no solution can come of the scope, nor of what hangs on it."""
        parent = self._parent.get(id(scope))
        return id(scope) in self._empty or (parent is not None and self._is_empty(parent))

    # ------------------------------------------------------------ one wave

    async def _wave(self, ready: Sequence[Unit]) -> None:
        rows: dict[int, list[Solution]] = {id(unit): [] for unit in ready}
        questions: dict[tuple[str, tuple[Value, ...] | None], _Question] = {}
        walks = []
        local: list[tuple[Unit, str]] = []
        for unit in ready:
            unit.done = True
            if unit.walk is not None:
                walks.append(unit)
                continue
            if unit.held:
                local.append((unit, ""))
            for domain in unit.domains:
                if covered(unit, domain, self._sources):
                    local.append((unit, domain))
                elif not self._desk.failed(domain):
                    self._put(unit, domain, questions)
        async with asyncio.TaskGroup() as tasks:
            for question in questions.values():
                tasks.create_task(self._ask(question, rows))
            for unit in walks:
                tasks.create_task(self._walk(unit))
            if local:
                tasks.create_task(self._match(local, rows))
        for unit in ready:
            if unit.walk is None:
                self._learn(unit, rows[id(unit)])

    def _put(
        self,
        unit: Unit,
        domain: str,
        questions: dict[tuple[str, tuple[Value, ...] | None], _Question],
    ) -> None:
        """Add a unit to what its domain is asked in this wave."""
        bound, cost, values = self._choice(unit, domain)
        step = Step(self.waves, domain, unit, cost)
        self.steps.append(step)
        if bound is not None:
            step.bound, step.values = bound, len(values)
            if not values:
                return  # none of what is left can be this domain's
        key = domain, tuple(sorted(values, key=str)) if bound is not None else None
        question = questions.setdefault(key, _Question(domain, key[1]))
        branch = Branch.of(len(question.units), unit.patterns, bound, unit.filters)
        question.units.append((unit, branch, step))

    async def _ask(self, question: _Question, rows: dict[int, list[Solution]]) -> None:
        branches = [branch for _, branch, _ in question.units]
        text = branches_text(branches)
        asked = frozenset().union(*(branch.asked for branch in branches))
        values = question.values or ()
        blocks = [values[at : at + BLOCK] for at in range(0, len(values), BLOCK)] or [()]
        for _, _, step in question.units:
            step.requests = len(blocks)

        async def one(block: tuple[Value, ...]) -> None:
            results = await self._desk.ask(question.domain, text, BOUND.value, block)
            if results is None:
                return

            def take() -> tuple[int, list[list[Solution]]]:
                read = read_rows(question.domain, results, asked, MOST_ROWS)
                dropped, kept = read.dropped, []
                for unit, branch, _ in question.units:
                    kept.append(branch.rows(read.solutions))
                    dropped += self._gathered.take(question.domain, unit.patterns, kept[-1])
                return dropped, kept

            taken = await self._desk.read(question.domain, take)
            if taken is None:
                return
            dropped, kept = taken
            part = self._desk.parts[question.domain]
            for (unit, _, step), own in zip(question.units, kept, strict=True):
                step.rows += len(own)
                part.rows += len(own)
                rows[id(unit)] += own
            if dropped:
                part.remark = (
                    f"{question.domain}: rows were dropped that speak of other domains' elements or hold no"
                    " proper names"
                )

        async with asyncio.TaskGroup() as tasks:
            for block in blocks:
                tasks.create_task(one(block))

    async def _match(self, local: Sequence[tuple[Unit, str]], rows: dict[int, list[Solution]]) -> None:
        """What the broker has itself."""

        def match() -> list[tuple[Unit, str, list[Solution]]]:
            found = []
            for unit, domain in local:
                known = {
                    name: values
                    for name in unit.variables
                    if (values := self._values(unit.scope, name)) is not None
                }
                for pattern in unit.patterns:
                    found.append((unit, domain, self._held.match(domain, pattern, known)))
                    self._gathered.take(domain, (pattern,), found[-1][2])
            return found

        found = await asyncio.to_thread(match)
        for unit, domain in local:
            step = Step(self.waves, domain, unit, 0.0, here=True)
            step.rows = sum(len(own) for other, place, own in found if (other, place) == (unit, domain))
            self.steps.append(step)
        for unit, _, own in found:
            rows[id(unit)] += own

    def _learn(self, unit: Unit, rows: list[Solution]) -> None:
        """Narrow what is left by what came back."""
        if not rows:
            self._empty.add(id(unit.scope))
            return
        for name in unit.bindable:
            values = [row[name] for row in rows if name in row]
            self._narrow(unit.scope, name, values)

    async def _walk(self, unit: Unit) -> None:
        walk = unit.walk
        assert walk is not None
        starts = self._ends(unit, walk.start)
        ends = self._ends(unit, walk.end)
        found = await follow(
            walk,
            starts,
            ends,
            domains=[d for d in unit.domains if not covered(unit, d, self._sources)],
            held=[
                *([""] if unit.held else []),
                *(d for d in unit.domains if covered(unit, d, self._sources)),
            ],
            sources=self._sources,
            desk=self._desk,
            have=self._held,
            gathered=self._gathered,
            steps=self.steps,
            wave=self.waves,
        )
        if found is None:
            return
        forwards, reached = found
        other = walk.end if forwards else walk.start
        if isinstance(other, Variable):
            self._narrow(unit.scope, other, reached)

    def _ends(self, unit: Unit, end: object) -> frozenset[Value] | None:
        if isinstance(end, Variable):
            return self._values(unit.scope, end)
        assert isinstance(end, NamedNode | Literal)
        return frozenset({end})


def covered(unit: Unit, domain: str, sources: Sources) -> bool:
    """Whether the broker has all that a unit would ask of a domain."""
    needed = unit.patterns if unit.walk is None else (unit.walk,)
    return all(sources.at_hand(domain, each) for each in needed)
