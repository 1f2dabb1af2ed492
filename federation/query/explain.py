"""How a query is answered, for people to read: who is asked what, in which order, what came of it.

Steps are numbered; one is all that goes out together. Below them stand what the broker had itself, what did
not need to be asked, and which domains are missing, with what that means for the rows. Patterns are in the
words of whoever asks (`wording`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from pyoxigraph import Variable

from domain_twin.model import Outcome
from domain_twin.model.query import QueryPart
from federation.query.execute import ALIKE, CHEAP_ROWS, Execution, Step, Wave, covered
from federation.query.needs import Scope, Walk
from federation.query.sources import Sources
from federation.query.units import Unit, expected_rows, units_of
from federation.query.wording import Wording

__all__ = ["expected_plan", "plan_as_it_went"]

_MEANING = {
    Outcome.STALE: "what it is known for is as it last was",
    Outcome.OVER_CAPACITY: "some of its rows are missing, perhaps",
}
_MISSING = "rows that need it are missing"
_CHANGES = "rows may say more"  # where a part's reason says this already


def expected_plan(needs: Scope, sources: Sources, parts: Iterable[QueryPart], wording: Wording) -> str:
    """What would be asked, by the cards alone; nothing is asked for it."""
    lines = ["Nothing was asked for this; numbers are by what the domains say that they have."]
    bound: dict[Variable, int] = {}
    units = [unit for scope in needs.walk_scopes() for unit in units_of(scope, sources)]
    at_hand: list[Unit] = []
    number = 0
    while units:
        costs = [(_cost(unit, sources, bound), unit) for unit in units]
        ready = [unit for cost, unit in costs if not cost]
        if not ready:
            bearable = max(CHEAP_ROWS, ALIKE * min(cost for cost, _ in costs))
            ready = [unit for cost, unit in costs if cost <= bearable]
            number += 1
            lines += _asking(number, ready, sources, bound, wording)
        at_hand += [unit for unit in ready if _at_hand(unit, sources)]
        for unit in ready:
            rows = sum(expected_rows(unit, domain, sources, bound) for domain in unit.domains)
            if not unit.held:
                for name in unit.bindable:
                    bound[name] = int(min(bound.get(name, rows), rows)) + 1
        units = [unit for unit in units if unit not in ready]
    if at_hand:
        lines.append("The broker has itself, without a request:")
        for unit in at_hand:
            lines += [f"     {_words(unit, wording)}", f"       in {_listed(_at_hand(unit, sources))}"]
    nobody = [unit for scope in needs.walk_scopes() for unit in units_of(scope, sources) if not unit.domains]
    if nobody := [unit for unit in nobody if not unit.held]:
        lines.append("Nobody has, so that nothing can match there:")
        lines += [f"     {_words(unit, wording)}" for unit in nobody]
    lines += _missing(parts)
    lines.append("At the end the query itself is evaluated over what was gathered.")
    return "\n".join(lines)


def _asking(
    number: int, units: Sequence[Unit], sources: Sources, bound: Mapping[Variable, int], wording: Wording
) -> Iterator[str]:
    """One step of what would be asked."""
    asked = {domain for unit in units for domain in unit.domains if not covered(unit, domain, sources)}
    yield f"{number}. Ask {_listed(sorted(asked))}"
    for unit in units:
        domains = [domain for domain in unit.domains if not covered(unit, domain, sources)]
        rows = {domain: expected_rows(unit, domain, sources, bound) for domain in domains}
        by = ", ".join(sorted(wording.term(name) for name in unit.bindable & bound.keys()))
        yield f"     {_words(unit, wording)}"
        yield f"       about {_rows_of(rows)}{f', bound by {by} where that is less' if by else ''}"


def _at_hand(unit: Unit, sources: Sources) -> list[str]:
    """What the broker has of a unit."""
    copies = [domain for domain in unit.domains if covered(unit, domain, sources)]
    return [
        *(["its own records"] if unit.held else []),
        *([f"its copies of the views of {_listed(copies)}"] if copies else []),
    ]


def _cost(unit: Unit, sources: Sources, bound: Mapping[Variable, int]) -> float:
    return sum(
        expected_rows(unit, domain, sources, bound)
        for domain in unit.domains
        if not covered(unit, domain, sources)
    )


def plan_as_it_went(execution: Execution, parts: Iterable[QueryPart], wording: Wording) -> str:
    """What was asked, and what came of it."""
    lines: list[str] = []
    told = [step for step in execution.steps if not step.here]
    waves = {wave.number: wave for wave in execution.waves_taken}
    number = 0
    for wave, steps in groupby(sorted(told, key=lambda step: step.wave), key=lambda step: step.wave):
        own = list(steps)
        if any(step.requests for step in own):
            number += 1
            lines += _asked(number, own, waves[wave], wording)
    lines += _not_asked([step for step in told if not step.requests], wording)
    asked = {_words(step.about, wording) for step in told}
    here = _by_words([step for step in execution.steps if step.here], wording)
    here = [(words, same) for words, same in here if words not in asked or any(step.rows for step in same)]
    if here:
        lines.append("The broker answered itself, without a request:")
        for words, same in here:
            lines += [f"     {words}", f"       {_here(same)}"]
    if execution.left_out:
        lines.append("Left out, since nothing that belongs with it matched:")
        lines += [f"     {_words(unit, wording)}" for unit in execution.left_out]
    lines += _missing(parts)
    lines.append("At the end the query itself was evaluated over what was gathered.")
    return "\n".join(lines)


def _here(steps: Sequence[Step]) -> str:
    """What came of the broker's own records and copies."""
    own = sum(step.rows for step in steps if not step.domain)
    copies: dict[str, float] = {}
    for step in steps:
        if step.domain and step.rows:
            copies[step.domain] = copies.get(step.domain, 0) + step.rows
    found = [f"{_number(own)} of its own records"] if own or not copies else []
    if copies:
        whose = "its copy of the view" if len(copies) == 1 else "its copies of the views"
        found.append(f"{_rows_of(copies)}, by {whose}")
    if not own and not copies and all(step.domain for step in steps):
        found = ["no row in its copies of the views"]
    return "; ".join(found)


def _asked(number: int, steps: Sequence[Step], wave: Wave, wording: Wording) -> Iterator[str]:
    """One step that was asked."""
    domains = sorted({step.domain for step in steps if step.requests})
    requests = f"{wave.requests} request{'' if wave.requests == 1 else 's'}"
    size = f"{wave.transferred_bytes / 1000:.1f} kB"
    yield f"{number}. Asked {_listed(domains)}: {requests}, {size}, {wave.took_ms:.0f} ms"
    for words, same in _by_words([step for step in steps if step.requests], wording):
        yield f"     {words}"
        expected = sum(step.expected for step in same)
        rows: dict[str, float] = {}
        for step in same:
            rows[step.domain] = rows.get(step.domain, 0) + step.rows
        came = f"{_rows_of(rows)} came" + (f"; about {round(expected)} expected" if expected else "")
        bound: dict[str, int] = {}
        for step in same:
            if step.bound is not None:
                name = wording.term(step.bound)
                bound[name] = bound.get(name, 0) + step.values
        starts = sum(step.values for step in same if isinstance(step.about, Walk))
        if starts:
            bound["its starts"] = starts
        by = ", ".join(f"{count} value{'' if count == 1 else 's'} of {name}" for name, count in bound.items())
        yield f"       {f'bound by {by}: ' if by else ''}{came}"


def _not_asked(steps: Sequence[Step], wording: Wording) -> Iterator[str]:
    if steps:
        yield "Not asked, since none of the values that were left is theirs:"
        for words, same in _by_words(steps, wording):
            yield f"     {_listed(sorted({step.domain for step in same}))}: {words}"


def _by_words(steps: Iterable[Step], wording: Wording) -> list[tuple[str, list[Step]]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(_words(step.about, wording), []).append(step)
    return list(found.items())


def _words(about: Unit | Walk, wording: Wording) -> str:
    """What is asked about, and in which part of the query it stands."""
    if isinstance(about, Walk):
        return wording.walk(about)
    if about.walk is not None:
        return wording.walk(about.walk)
    text = wording.patterns(about.patterns, about.filters)
    kind = about.scope.kind
    return f"{kind} {{ {text} }}" if kind in ("OPTIONAL", "MINUS", "EXISTS") else text


def _missing(parts: Iterable[QueryPart]) -> Iterator[str]:
    """Which domains are missing, and what that means."""
    absent = [part for part in parts if part.outcome is not Outcome.OK]
    if not absent:
        yield "No domain is missing."
        return
    yield "Missing:"
    for part in absent:
        reason = part.reason.removeprefix(f"{part.domain}: ")
        meaning = "" if _CHANGES in reason else f"; {_MEANING.get(part.outcome, _MISSING)}"
        yield f"     {part.domain}, {part.outcome}: {reason}{meaning}"


def _rows_of(rows: Mapping[str, float]) -> str:
    """How many rows, and of whom."""
    if len(rows) == 1:
        ((domain, count),) = rows.items()
        return f"{_number(count)} of {domain}"
    shares = ", ".join(f"{domain} {round(count)}" for domain, count in sorted(rows.items()))
    return f"{_number(sum(rows.values()))} ({shares})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def _number(rows: float) -> str:
    whole = round(rows)
    return f"{whole} row{'' if whole == 1 else 's'}"
