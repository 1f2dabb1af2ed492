"""From a scenario's sweep to variants, one by one. Owns which there are and how they are drawn; solves none.

Variants are made when they are asked for, so that a sweep of a hundred thousand takes no memory. Draws depend
on the seed and their own number alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from domain_twin.errors import ConfigError, NotFound, OverCapacity
from domain_twin.model import scenario as language
from domain_twin.model.scenario import MAX_VARIANTS, Scenario
from domain_twin.simulation.graph import Variant
from domain_twin.simulation.questions.changes import Elements, changed

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to solve: the scenario's changes, and (lazily) the variants of its sweep."""

    variant: Variant
    count: int = 0
    sweep: Callable[[], Iterator[Variant]] = field(default=lambda: iter(()))
    touched: tuple[str, ...] = ()  # ids of elements that changes name
    notes: tuple[str, ...] = ()  # what a change could not do, in sentences


def plan(elements: Elements, scenario: Scenario) -> Plan:
    """What to solve for a scenario. Raises NotFound, ConfigError, OverCapacity for too large a sweep."""
    variant, touched, notes = changed(elements, scenario.changes, name=scenario.name or "changed")
    sweep = scenario.sweep
    if sweep is None:
        return Plan(variant, touched=touched, notes=notes)
    if isinstance(sweep, language.FailureSweep):
        units = _failure_units(elements, sweep, variant)
        count = math.comb(len(units), sweep.simultaneous)
        if count > MAX_VARIANTS:
            raise OverCapacity(
                f"sweep: {sweep.simultaneous} of {len(units)} failing together are {count} variants,"
                f" {MAX_VARIANTS} at most; name fewer elements, or draw with monte-carlo"
            )
        if not count:
            raise NotFound(f"sweep: this network has no {sweep.of.replace('-', ' ')} that could fail")
        return Plan(variant, count, lambda: _failures(units, sweep.simultaneous, variant), touched, notes)
    if isinstance(sweep, language.GridSweep):
        options = [changed(elements, option, name="")[0] for option in sweep.options]
        count = len(sweep.demand) * 2 ** len(options)
        return Plan(variant, count, lambda: _grid(sweep.demand, options, variant), touched, notes)
    if scenario.seed is None:
        raise ConfigError(
            "sweep: monte-carlo needs the scenario's seed; a job draws one where it is left out"
        )
    seed = scenario.seed
    return Plan(variant, sweep.draws, lambda: _draws(elements, sweep, seed, variant), touched, notes)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What fails as one."""

    name: str
    edges: frozenset[int]
    nodes: frozenset[int]


def _failure_units(elements: Elements, sweep: language.FailureSweep, variant: Variant) -> list[_Unit]:
    if sweep.elements:
        return [_Unit(name, *elements.failing(name)) for name in sweep.elements]
    graph = elements.graph
    if sweep.of == "nodes":
        names = [name for name in graph.nodes if name in graph.groups]
        units = [_Unit(name, *elements.failing(name)) for name in names]
    elif sweep.of == "risk-groups":
        names = sorted(set(graph.groups) - set(graph.nodes))
        units = [_Unit(name, *elements.failing(name)) for name in names]
    else:
        units = [_Unit(name, edges, frozenset()) for name, edges in elements.links()]
    up = graph.up.copy()
    up[list(variant.restored)] = True
    up[list(variant.down)] = False
    return [unit for unit in units if up[sorted(unit.edges)].any()]


def _failures(units: Sequence[_Unit], together: int, base: Variant) -> Iterator[Variant]:
    for chosen in itertools.combinations(units, together):
        edges = frozenset().union(*(unit.edges for unit in chosen))
        nodes = frozenset().union(*(unit.nodes for unit in chosen))
        name = " + ".join(unit.name for unit in chosen) + " down"
        yield _without(base, name, edges, nodes)


def _grid(factors: Sequence[float], options: Sequence[Variant], base: Variant) -> Iterator[Variant]:
    for factor in factors:
        for made in itertools.product((False, True), repeat=len(options)):
            variant = base
            for option, taken in zip(options, made, strict=True):
                variant = _merged(variant, option) if taken else variant
            said = [f"demand x{factor:g}"]
            said += [f"options[{number}]" for number, taken in enumerate(made) if taken]
            yield replace(
                variant,
                name=", ".join(said),
                demand_scale=variant.demand_scale * factor,
                pairs=tuple((c, s, d, rate * factor) for c, s, d, rate in variant.pairs),
            )


def _draws(
    elements: Elements, sweep: language.MonteCarloSweep, seed: int, base: Variant
) -> Iterator[Variant]:
    """Each draw has its own stream of the seed, so that it does not depend on those before it."""
    links = [unit for unit in _failure_units(elements, language.FailureSweep(), base)]
    classes = len(elements.graph.classes)
    scales = np.array([base.class_scale.get(c, 1.0) for c in range(classes)]) * base.demand_scale
    rate = elements.demand.rate * scales[:, None, None]
    for c, s, d, value in base.pairs:
        rate[c, d, s] = value
    where = np.nonzero(rate)
    offered = rate[where]
    for number in range(sweep.draws):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        failed = np.flatnonzero(rng.random(len(links)) < sweep.link_failure)
        edges = frozenset().union(*(links[i].edges for i in failed)) if len(failed) else frozenset()
        variant = _without(base, f"draw {number}", edges, frozenset())
        if sweep.demand_sigma:
            sigma = sweep.demand_sigma
            factors = np.exp(sigma * rng.standard_normal(len(offered)) - sigma * sigma / 2.0)  # of mean 1
            drawn = (offered * factors).tolist()
            indices = (where[0].tolist(), where[2].tolist(), where[1].tolist())
            variant = replace(variant, pairs=tuple(zip(*indices, drawn, strict=True)))
        yield variant


def _without(base: Variant, name: str, edges: frozenset[int], nodes: frozenset[int]) -> Variant:
    return replace(
        base,
        name=name,
        down=base.down | edges,
        restored=base.restored - edges,
        nodes_down=base.nodes_down | nodes,
    )


def _merged(first: Variant, second: Variant) -> Variant:
    """Both variants' changes; where both change one thing, the second's."""
    values = {key: dict(first.values.get(key, {})) for key in {*first.values, *second.values}}
    for key, new in second.values.items():
        values[key] |= new
    pairs = {(c, s, d): rate for c, s, d, rate in first.pairs}
    pairs |= {(c, s, d): rate for c, s, d, rate in second.pairs}
    down = first.down | second.down
    return replace(
        first,
        down=down,
        restored=(first.restored | second.restored) - down,
        nodes_down=first.nodes_down | second.nodes_down,
        values=values,
        demand_scale=first.demand_scale * second.demand_scale,
        class_scale={
            c: first.class_scale.get(c, 1.0) * second.class_scale.get(c, 1.0)
            for c in {*first.class_scale, *second.class_scale}
        },
        pairs=tuple((c, s, d, rate) for (c, s, d), rate in sorted(pairs.items())),
    )
