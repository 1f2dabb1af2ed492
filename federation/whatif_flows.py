"""Whose packets a what-if across domains follows, and how many: services, new services, pairs that are named.

What starts at a published end point is what its domain says enters there; how it divides among services with
the same source and the same way out of it nobody can see, so it is shared equally, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.scenario import DemandChange, NewService
from domain_twin.simulation.graph import Arrivals, FloatArray, TrafficClass
from federation.whatif_changes import Case
from federation.whatif_routes import RouteFinder
from federation.wire.simulate import Prepared

__all__ = ["UNKNOWN_CLASS", "Known", "KnownFlows", "known_flows"]

UNKNOWN_CLASS = TrafficClass("any")
"""Of packets between points of which nobody says what they look like: 1000 octets, Poisson."""


@dataclass(frozen=True, slots=True)
class Known:
    """A pair of published points that is followed; without a `service` only looked at, with no traffic."""

    source: str
    target: str
    service: str = ""
    traffic: tuple[tuple[TrafficClass, float], ...] = ()  # packets/s by class, where the asker knows it


@dataclass(frozen=True, slots=True, eq=False)
class KnownFlows:
    """F flows, each of one pair and class, in V variants. Rates in packets/s."""

    pairs: tuple[tuple[str, str], ...]
    services: tuple[str, ...]
    kinds: tuple[int, ...]  # index into `classes`
    classes: tuple[TrafficClass, ...]
    rate: FloatArray  # [V, F]
    square: FloatArray  # [V, F]
    exists: np.ndarray[tuple[int, int], np.dtype[np.bool_]]  # [V, F]
    assumptions: tuple[str, ...]


@dataclass(slots=True)
class _Draft:
    known: int  # index into the known pairs; -1: a new service
    pair: tuple[str, str]
    service: str
    kind: TrafficClass
    rate: float
    added: NewService | None = None


def known_flows(
    known: Sequence[Known], cases: Sequence[Case], prepared: Mapping[str, Prepared], base: RouteFinder
) -> KnownFlows:
    """The flows of all pairs by class, at their rates in every variant.

    Raises NotFound where a demand is to be multiplied of which nothing is known.
    """
    assumptions: list[str] = []
    pairs = [*known, *_named_pairs(known, cases)]
    drafts = _of_pairs(pairs, prepared, base, assumptions)
    _check_factors(cases, drafts)
    added: dict[str, NewService] = {}
    for case in cases:
        for service in case.services:
            if added.setdefault(service.name, service) != service:
                raise ConfigError(
                    f"service {service.name!r} is added in two ways; give each a name of its own"
                )
    for service in added.values():
        kind = TrafficClass(
            service.name,
            (service.packet_octets,),
            arrivals=Arrivals(service.arrivals),
            on_s=service.on_s,
            off_s=service.off_s,
            priority=service.priority,
        )
        packets = service.mbps * 1e6 / 8.0 / kind.mean_octets
        drafts.append(_Draft(-1, (service.source, service.target), service.name, kind, packets, service))
    classes: list[TrafficClass] = []
    for draft in drafts:
        if draft.kind not in classes:
            classes.append(draft.kind)
    rate = np.zeros((len(cases), len(drafts)))
    exists = np.ones((len(cases), len(drafts)), dtype=bool)
    for variant, case in enumerate(cases):
        here = set(case.services)
        for flow, draft in enumerate(drafts):
            if draft.added is not None:
                exists[variant, flow] = draft.added in here
                scale = case.factor(*draft.pair, draft.kind.name) if exists[variant, flow] else 0.0
                rate[variant, flow] = draft.rate * scale
            else:
                rate[variant, flow] = _rate(case, draft, drafts)
    if any(case.factors for case in cases):
        assumptions.append(
            "demand was drawn for pairs between published points; what is inside the domains stayed as it is"
        )
    return KnownFlows(
        tuple(draft.pair for draft in drafts),
        tuple(draft.service for draft in drafts),
        tuple(classes.index(draft.kind) for draft in drafts),
        tuple(classes),
        rate,
        rate**2,
        exists,
        tuple(assumptions),
    )


def _named_pairs(known: Sequence[Known], cases: Sequence[Case]) -> list[Known]:
    """Pairs whose demand a variant sets, and that are not followed yet."""
    have = {(pair.source, pair.target) for pair in known}
    found: dict[tuple[str, str], Known] = {}
    for case in cases:
        for change in case.changes:
            if isinstance(change, DemandChange) and change.source and change.target:
                pair = (change.source, change.target)
                if pair not in have:
                    found.setdefault(pair, Known(*pair))
    return list(found.values())


def _of_pairs(
    pairs: Sequence[Known], prepared: Mapping[str, Prepared], base: RouteFinder, assumptions: list[str]
) -> list[_Draft]:
    """The flows of each pair as they are now."""
    entering = {domain: _entering(answer) for domain, answer in prepared.items()}
    ways_out: dict[tuple[str, str], list[int]] = {}
    drafts: list[_Draft] = []
    told: set[int] = set()
    for index, pair in enumerate(pairs):
        for kind, rate in pair.traffic:
            told.add(index)
            drafts.append(_Draft(index, (pair.source, pair.target), pair.service, kind, rate))
        if pair.traffic:
            continue
        legs = base.legs(pair.source, pair.target)
        inside = legs is not None and len(legs) == 1
        if legs and (pair.service or inside):
            ways_out.setdefault((pair.source, legs[0].target), []).append(index)
    for (source, out), sharing in ways_out.items():
        rows = entering.get(source.partition("/")[0], {}).get((source, out), ())
        if len(sharing) > 1 and rows:
            names = ", ".join(pairs[index].service or pairs[index].target for index in sharing)
            assumptions.append(f"what leaves {source} by {out} is shared equally by {names}")
        for index in sharing:
            for kind, rate in rows:
                told.add(index)
                drafts.append(
                    _Draft(
                        index,
                        (source, pairs[index].target),
                        pairs[index].service,
                        kind,
                        rate / len(sharing),
                    )
                )
    for index, pair in enumerate(pairs):
        if index not in told:
            if pair.service:
                assumptions.append(
                    f"the traffic of {pair.service} from {pair.source} is not known; none is put on its way"
                )
            drafts.append(_Draft(index, (pair.source, pair.target), pair.service, UNKNOWN_CLASS, 0.0))
    return sorted(drafts, key=lambda draft: draft.known)


def _entering(answer: Prepared) -> dict[tuple[str, str], list[tuple[TrafficClass, float]]]:
    """What enters at a published end point of a domain, by where it goes."""
    found: dict[tuple[str, str], list[tuple[TrafficClass, float]]] = {}
    offered = answer.offered
    for source, target, kind, rate in zip(
        offered.source.tolist(),
        offered.target.tolist(),
        offered.traffic_class.tolist(),
        offered.rate.tolist(),
        strict=True,
    ):
        key = (answer.points[source], answer.points[target])
        packets = answer.classes[kind]
        if packets.arrivals is Arrivals.ELASTIC:  # what is measured has yielded already
            packets = replace(packets, arrivals=Arrivals.POISSON)
        found.setdefault(key, []).append((packets, rate))
    return found


def _rate(case: Case, draft: _Draft, drafts: Sequence[_Draft]) -> float:
    """A flow's rate in one variant, packets/s."""
    drawn = case.factors[draft.known] if draft.known < len(case.factors) else 1.0
    asked = case.rate_mbps(*draft.pair)
    if asked is None:
        return draft.rate * case.factor(*draft.pair, draft.kind.name) * drawn
    mbps, wanted = asked
    same = [other for other in drafts if other.known == draft.known and wanted in (None, other.kind.name)]
    if draft not in same:
        return draft.rate * drawn
    bits = [other.rate * other.kind.mean_octets * 8.0 for other in same]
    share = draft.rate * draft.kind.mean_octets * 8.0 / sum(bits) if sum(bits) else 1.0 / len(same)
    return mbps * 1e6 * share / (8.0 * draft.kind.mean_octets)


def _check_factors(cases: Sequence[Case], drafts: Sequence[_Draft]) -> None:
    """Refuse to multiply what is not known: the answer would be no change at all."""
    carried = {draft.pair for draft in drafts if draft.rate > 0.0}
    for change in (change for case in cases for change in case.changes):
        if not isinstance(change, DemandChange) or not change.source or change.factor is None:
            continue
        if (change.source, change.target) not in carried:
            raise NotFound(
                f"no traffic from {change.source} to {change.target} is known here, so it cannot be"
                " multiplied; set it with mbps"
            )
