"""What a scenario asks of the federation: its variants, who is concerned by each change, what is visible.

Changes name what the asker can see: border points, inter-domain links, published end points. Whatever else is
named is refused, in the same words whether or not it exists inside a domain. Demand between published points
and new services stay at the broker; a domain is told only what concerns it, under its own points' names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np

from domain_twin.errors import ConfigError, NotFound, NotShared, OverCapacity
from domain_twin.model import Point, PointKind
from domain_twin.model.scenario import (
    CellLoadChange,
    Change,
    ConfigChange,
    DemandChange,
    ElementDown,
    ElementUp,
    FailureSweep,
    GridSweep,
    MonteCarloSweep,
    NewService,
    Scenario,
)
from federation.compose import ComposedGraph
from federation.wire.simulate import PartVariant

__all__ = ["Case", "Sight", "cases", "check", "sight"]

MOST_CASES = 20_000


@dataclass(frozen=True, slots=True)
class Sight:
    """What the asker sees: points by id, and both ends of each inter-domain link that joins two domains."""

    points: Mapping[str, Point]
    links: Mapping[str, tuple[str, str]]
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ends of links of which not both are seen: they can be changed, and lead nowhere."""

    @property
    def crossings(self) -> dict[str, str]:
        """From the border point where packets leave a domain to the one where they enter the next."""
        return {a: b for one, other in self.links.values() for a, b in ((one, other), (other, one))}

    def link_at(self, point: str) -> str:
        """The inter-domain link of a border point; empty where it joins nothing."""
        found = self.points[point].link_id
        return found if point in self.links.get(found, ()) else ""


@dataclass(frozen=True, slots=True)
class Case:
    """One variant. `factors` are drawn demand factors of the pairs that the broker knows, by their index."""

    name: str
    changes: tuple[Change, ...] = ()
    factors: tuple[float, ...] = field(default=())

    def part(self, domain: str, sight: Sight) -> PartVariant:
        """What of it a domain is told."""
        return PartVariant(
            self.name, tuple(told for change in self.changes for told in _for(domain, change, sight))
        )

    @property
    def services(self) -> tuple[NewService, ...]:
        """The services that it adds."""
        return tuple(change for change in self.changes if isinstance(change, NewService))

    def factor(self, source: str, target: str, traffic_class: str) -> float:
        """By how much a known demand between two points is multiplied."""
        total = 1.0
        for change in self.changes:
            if isinstance(change, CellLoadChange) and change.element == source:
                total *= change.factor
            if isinstance(change, DemandChange) and change.factor is not None:
                mine = (change.source in (None, source), change.target in (None, target))
                if all(mine) and change.traffic_class in (None, traffic_class):
                    total *= change.factor
        return total

    def rate_mbps(self, source: str, target: str) -> tuple[float, str | None] | None:
        """The demand that it sets between two points, and of which class; None: it sets none."""
        for change in self.changes:
            pair = isinstance(change, DemandChange) and (change.source, change.target)
            if isinstance(change, DemandChange) and change.mbps is not None and pair == (source, target):
                return change.mbps, change.traffic_class
        return None


def sight(graph: ComposedGraph) -> Sight:
    """What the composed graph shows; a link counts where exactly two domains claim it and name each other."""
    ends: dict[str, list[Point]] = {}
    for point in graph.points.values():
        if point.kind is PointKind.BORDER and point.link_id:
            ends.setdefault(point.link_id, []).append(point)
    links: dict[str, tuple[str, str]] = {}
    alone: dict[str, tuple[str, ...]] = {}
    for link_id, claims in sorted(ends.items()):
        claims.sort(key=lambda point: point.id)
        if len(claims) == 2 and _joined(*claims):
            links[link_id] = (claims[0].id, claims[1].id)
        else:
            alone[link_id] = tuple(point.id for point in claims)
    return Sight(dict(graph.points), links, alone)


def _joined(one: Point, other: Point) -> bool:
    return one.domain != other.domain and (one.peer_domain, other.peer_domain) == (other.domain, one.domain)


def check(scenario: Scenario, seen: Sight) -> None:
    """Refuse a scenario that cannot be asked across domains, before anything is computed of it.

    Raises NotShared for what is not visible, ConfigError, NotFound, OverCapacity.
    """
    for change in scenario.changes:
        _check(change, seen)
    count = 0
    match scenario.sweep:
        case FailureSweep() as sweep:
            if sweep.of != "links":
                raise NotShared(
                    f"{sweep.of} are inside the domains and not shared with you; sweep the links between"
                    " them, or name elements that you see"
                )
            for element in sweep.elements:
                _check(ElementDown(kind="element-down", element=element), seen)
            count = math.comb(len(_failing(sweep, seen)), sweep.simultaneous)
            if not count:
                raise NotFound("sweep: no links between the domains could fail")
        case GridSweep() as sweep:
            for option in sweep.options:
                for change in option:
                    _check(change, seen)
            count = len(sweep.demand) * 2 ** len(sweep.options)
        case MonteCarloSweep() as sweep:
            count = sweep.draws
        case None:
            pass
    if count > MOST_CASES:
        raise OverCapacity(f"{count} variants are asked for; at most {MOST_CASES} at once")


def cases(scenario: Scenario, seen: Sight, *, seed: int, pairs: int) -> list[Case]:
    """The variants of a scenario: the base, with the changes (if there are any), those of its sweep.

    `pairs`: how many demands the broker knows.

    Blocks for large sweeps. Raises what `check` does.
    """
    check(scenario, seen)
    found = [Case("base")]
    if scenario.changes:
        found.append(Case(scenario.name or "changed", scenario.changes))
    match scenario.sweep:
        case None:
            pass
        case FailureSweep() as sweep:
            found += _failures(scenario, sweep, seen)
        case GridSweep() as sweep:
            found += _grid(scenario, sweep)
        case MonteCarloSweep() as sweep:
            found += _draws(scenario, sweep, seen, seed, pairs)
    return found


def _failing(sweep: FailureSweep, seen: Sight) -> tuple[str, ...]:
    """What fails: what is named, or the links between domains that are up."""
    return sweep.elements or tuple(
        link for link, ends in seen.links.items() if all(seen.points[end].up for end in ends)
    )


def _failures(scenario: Scenario, sweep: FailureSweep, seen: Sight) -> Iterator[Case]:
    for failed in combinations(_failing(sweep, seen), sweep.simultaneous):
        downs = tuple(ElementDown(kind="element-down", element=element) for element in failed)
        yield Case(" + ".join(failed) + " down", (*scenario.changes, *downs))


def _grid(scenario: Scenario, sweep: GridSweep) -> Iterator[Case]:
    for factor, *made in product(sweep.demand, *((False, True) for _ in sweep.options)):
        changes = list(scenario.changes)
        if factor != 1.0:
            changes.append(DemandChange(kind="demand", factor=factor))
        chosen = [number for number, yes in enumerate(made) if yes]
        for number in chosen:
            changes += sweep.options[number]
        name = f"demand x{factor:g}" + "".join(f", options[{number}]" for number in chosen)
        yield Case(name, tuple(changes))


def _draws(scenario: Scenario, sweep: MonteCarloSweep, seen: Sight, seed: int, pairs: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    links = _failing(FailureSweep(kind="failures"), seen)
    for number in range(1, sweep.draws + 1):
        down = rng.random(len(links)) < sweep.link_failure
        sigma = sweep.demand_sigma
        factors = np.exp(rng.normal(-0.5 * sigma * sigma, sigma, pairs)) if sigma else np.ones(0)
        failed = tuple(
            ElementDown(kind="element-down", element=link)
            for link, gone in zip(links, down.tolist(), strict=True)
            if gone
        )
        yield Case(f"draw {number}", (*scenario.changes, *failed), tuple(factors.tolist()))


def _check(change: Change, seen: Sight) -> None:
    """Raises NotShared for an element that the asker does not see, whether or not it exists."""
    match change:
        case ConfigChange():
            raise NotShared(f"{change.device} is not shared with you")
        case NewService():
            named: Iterable[str | None] = (change.source, change.target)
            if change.arrivals == "elastic":
                raise ConfigError(
                    f"service {change.name!r}: elastic traffic is not composed across domains; ask with the"
                    " rate that you expect, and arrivals = poisson or on-off"
                )
        case DemandChange():
            named = (change.source, change.target)
            if (change.source is None) != (change.target is None):
                raise ConfigError(
                    "demand: across domains name both source and target, or none; for all traffic of one cell"
                    " use cell-load"
                )
        case _:
            named = (change.element,)
    for name in named:
        if name is None:
            continue
        point = seen.points.get(name)
        link = name in seen.links or name in seen.claims
        if point is None and not link:
            raise NotShared(f"{name} is not shared with you")
        if isinstance(change, NewService | DemandChange) and (
            point is None or point.kind is PointKind.BORDER
        ):
            raise NotFound(f"{name} is no end point: demand starts and ends at published end points")


def _for(domain: str, change: Change, seen: Sight) -> Iterator[Change]:
    """A change as one domain is told of it: under the names of its own points."""
    if isinstance(change, NewService | ConfigChange):
        return
    if isinstance(change, DemandChange):
        if change.source is None:
            yield change
        return
    element = change.element
    point = seen.points.get(element)
    if point is not None and isinstance(change, ElementDown | ElementUp) and seen.link_at(element):
        element = seen.link_at(element)  # one end down is both directions down
    ends: Sequence[str] = seen.links.get(element) or seen.claims.get(element) or (element,)
    for end in ends:
        if seen.points[end].domain == domain:
            yield change.model_copy(update={"element": end})
