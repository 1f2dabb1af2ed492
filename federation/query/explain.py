"""How a query is answered, in lines that people can read: who is asked what, in which order, what came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyoxigraph import Variable

from federation.query.asking import Part
from federation.query.execute import ALIKE, CHEAP_ROWS, Step, covered, words
from federation.query.needs import Scope
from federation.query.sources import Sources
from federation.query.units import Unit, expected_rows, units_of

__all__ = ["expected_plan", "plan_as_it_went"]


def expected_plan(needs: Scope, sources: Sources, missing: Mapping[str, str]) -> str:
    """What would be asked, by the cards alone; nothing is asked for it."""
    lines = []
    bound: dict[Variable, int] = {}
    units = [unit for scope in needs.walk_scopes() for unit in units_of(scope, sources)]
    wave = 0
    while units:
        wave += 1
        costs = [(_cost(unit, sources, bound), number) for number, unit in enumerate(units)]
        chosen = [number for cost, number in costs if not cost]
        bearable = max(CHEAP_ROWS, ALIKE * min(costs)[0])
        chosen = chosen or [number for cost, number in costs if cost <= bearable]
        for number in chosen:
            lines += list(_lines(units[number], wave, sources, bound))
        for number in chosen:
            unit = units[number]
            rows = sum(expected_rows(unit, domain, sources, bound) for domain in unit.domains)
            if not unit.held:
                for name in unit.bindable:
                    bound[name] = int(min(bound.get(name, rows), rows)) + 1
        units = [unit for number, unit in enumerate(units) if number not in chosen]
    lines += [f"without {domain}: {reason}" for domain, reason in sorted(missing.items())]
    lines.append("at the end the query itself is evaluated over what was gathered")
    return "\n".join(lines)


def _cost(unit: Unit, sources: Sources, bound: Mapping[Variable, int]) -> float:
    return sum(
        expected_rows(unit, domain, sources, bound)
        for domain in unit.domains
        if not covered(unit, domain, sources)
    )


def _lines(unit: Unit, wave: int, sources: Sources, bound: Mapping[Variable, int]) -> Iterable[str]:
    what = words(unit)
    kind = f" ({unit.scope.kind})" if unit.scope.kind else ""
    if unit.held:
        yield f"{wave}. the broker itself{kind}: {what}"
    if not unit.domains and not unit.held:
        yield f"{wave}. nobody has{kind}: {what}"
    for domain in unit.domains:
        if covered(unit, domain, sources):
            yield f"{wave}. the broker's copy of {domain}'s view{kind}: {what}"
            continue
        rows = expected_rows(unit, domain, sources, bound)
        names = ", ".join(sorted(str(name) for name in unit.bindable & bound.keys()))
        by = f", bound by {names}" if names else ""
        yield f"{wave}. ask {domain}{kind}: {what}; about {_number(rows)} expected{by}"


def plan_as_it_went(steps: Sequence[Step], parts: Mapping[str, Part], missing: Mapping[str, str]) -> str:
    """What was asked, and what came of it."""
    lines = []
    for step in steps:
        if not step.domain:
            lines.append(f"{step.wave}. the broker itself: {step.what}; {_number(step.rows)}")
        elif not step.requests and not step.bound:
            lines.append(
                f"{step.wave}. the broker's copy of {step.domain}'s view: {step.what}; {_number(step.rows)}"
            )
        elif not step.requests:
            lines.append(
                f"{step.wave}. {step.domain} need not be asked: {step.what}; none of {step.bound} is its own"
            )
        else:
            many = f", bound by {step.values} of {step.bound}" if step.bound else ""
            times = f" in {step.requests} requests" if step.requests > 1 else ""
            lines.append(
                f"{step.wave}. ask {step.domain}: {step.what}{many}{times};"
                f" about {_number(step.expected)} expected, {_number(step.rows)} came"
            )
    for domain, part in sorted(parts.items()):
        if part.requests:
            lines.append(
                f"{domain}: {part.requests} requests, {_number(part.rows)}, {part.transferred_bytes} bytes"
            )
    lines += [f"without {domain}: {reason}" for domain, reason in sorted(missing.items())]
    lines.append("at the end the query itself was evaluated over what was gathered")
    return "\n".join(lines)


def _number(rows: float) -> str:
    whole = round(rows)
    return f"{whole} row{'' if whole == 1 else 's'}"
