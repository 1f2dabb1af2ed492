"""Paths across domains: what devices forward now, and what could be provisioned. Owns the questions' meaning.

A search walks over the points where a path enters a domain: from there one segment leads to a border point
and its inter-domain link into the next domain, or to the target. Two segments of a mesh never follow each
other inside one domain, so nothing that a domain does at a border point counts twice.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from domain_twin.errors import NoPath, NotFound
from domain_twin.model import (
    ComposedPath,
    DomainOutcome,
    Hop,
    Level,
    Nanoseconds,
    Outcome,
    PathAnswer,
    PathMode,
    Requirement,
)
from domain_twin.model.algebra import claims_delay, meets, qualified, serial
from federation.compose import ComposedGraph
from federation.route import FREE, Avoid, Bounds, Route, alternatives, best_route, current_route

__all__ = ["DISJOINT_CANDIDATES", "find", "satisfied"]

DISJOINT_CANDIDATES = 16
"""First paths for which a disjoint second one is sought. The problem with shared risks is NP-hard."""


def find(
    graph: ComposedGraph,
    source: str,
    target: str,
    *,
    mode: PathMode = PathMode.CURRENT,
    requirement: Requirement = Requirement(),  # noqa: B008 (frozen)
    k: int = 1,
    disjoint: bool = False,
    now: Nanoseconds,
) -> PathAnswer:
    """Answer a path question from views alone.

    CURRENT: the one path that devices forward by, whether or not it meets the requirement; `k` and
    `disjoint` say nothing about it. BEST: at most `k` paths that meet the requirement, by delay, each
    through other points; or, `disjoint`, the pair with the least sum of delays that shares no inter-domain
    link and no risk that the domains named. Raises NotFound for an unknown end, NoPath with the reason
    where nothing meets the requirement.
    """
    for name in (source, target):
        _check_known(graph, name)
    if source == target:
        raise NoPath(f"{source} is both ends of the path; name two different ones")
    for name in (source, target):
        if not graph.points[name].up:
            raise NoPath(f"{name} is down or locked in its domain; nothing starts or ends there")
    if mode is PathMode.CURRENT:
        route = current_route(graph, source, target)
        if route is None:
            raise NoPath(
                f"devices forward nothing from {source} to {target} now: {_gap(graph, source, target)}"
            )
        routes: Sequence[Route] = (route,)
    elif disjoint:
        routes = _disjoint_pair(graph, source, target, Bounds.of(requirement))
    else:
        routes = list(islice(alternatives(graph, source, target, Bounds.of(requirement)), max(1, k)))
        if not routes:
            raise NoPath(_why_none(graph, source, target, requirement))
    paths = tuple(_composed(graph, route) for route in routes)
    return PathAnswer(
        source=source,
        target=target,
        mode=mode,
        requirement=requirement,
        paths=paths,
        domains=_outcomes(graph, paths),
        answered_at=now,
        inner_approximation=_approximate(graph, paths, mode, requirement),
    )


def _check_known(graph: ComposedGraph, name: str) -> None:
    if name in graph.points:
        return
    known = graph.end_points()
    close = difflib.get_close_matches(name, known, 3, 0.6)
    domain = name.partition("/")[0]
    member = graph.members.get(domain)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif "/" not in name:
        hint = "name it domain/alias"
    elif member is None:
        hint = f"there is no domain {domain!r}; there are {', '.join(sorted(graph.members)) or 'none yet'}"
    elif member.view is None:
        hint = f"{domain} has not said yet what it shares{': ' + member.reason if member.reason else ''}"
    else:
        own = [point for point in known if point.startswith(f"{domain}/")]
        listed = ", ".join(own[:5]) + (f" and {len(own) - 5} more" if len(own) > 5 else "")
        hint = f"{domain} publishes {listed or 'nothing'}"
    raise NotFound(f"no published end point {name!r}: {hint}")


def _disjoint_pair(graph: ComposedGraph, source: str, target: str, bounds: Bounds) -> tuple[Route, Route]:
    """First paths in order of delay, each with the fastest second one that avoids all its links and risks."""
    pair: tuple[Route, Route] | None = None
    least = fastest = math.inf
    tried = 0
    firsts = alternatives(graph, source, target, bounds, by_option=True)
    for first in islice(firsts, DISJOINT_CANDIDATES):
        tried += 1
        fastest = min(fastest, first.delay_ms)
        if first.delay_ms + fastest >= least:
            break  # no later one can make a faster pair
        second = best_route(graph, source, target, bounds, Avoid.of(first))
        if second is not None and first.delay_ms + second.delay_ms < least:
            pair, least = (first, second), first.delay_ms + second.delay_ms
    if pair is not None:
        return pair if pair[0].delay_ms <= pair[1].delay_ms else (pair[1], pair[0])
    if not tried:
        raise NoPath(f"no path from {source} to {target} meets the requirement, so no pair of them does")
    limit = f" of the {tried} {'fastest' if tried == DISJOINT_CANDIDATES else 'there are'}"
    raise NoPath(
        f"no two paths from {source} to {target} are disjoint: none{limit} leaves a second one"
        " that shares no inter-domain link and no risk with it"
    )


def _why_none(graph: ComposedGraph, source: str, target: str, requirement: Requirement) -> str:
    """Which bound alone stands in the way, with what could be had without it."""
    least = best_route(graph, source, target, FREE)
    if least is None:
        return f"nothing joins {source} and {target}: {_gap(graph, source, target)}"
    texts = {
        "delay_ms": lambda v: f"delay of {v:g} ms",
        "bandwidth_mbps": lambda v: f"bandwidth of {v:g} Mbit/s",
        "loss": lambda v: f"loss of {v:g}",
    }
    asked = {name: getattr(requirement, name) for name in texts if getattr(requirement, name) is not None}
    blocking = []
    for name, value in asked.items():
        rest = Requirement(**{other: bound for other, bound in asked.items() if other != name})
        route = best_route(graph, source, target, Bounds.of(rest))
        if route is None:
            continue
        total = _composed(graph, route).total
        had = {
            "delay_ms": f"the least delay is {total.delay_ms:.3f} ms",
            "bandwidth_mbps": f"the fastest path has {total.bandwidth_mbps:g} Mbit/s free",
            "loss": f"the fastest path loses {total.loss:.2g}",
        }
        blocking.append(f"the {texts[name](value)} alone stands in the way ({had[name]})")
    wanted = " and a ".join(texts[name](value) for name, value in asked.items())
    reason = "; ".join(blocking) or "more than one of these bounds stands in the way"
    return f"no path from {source} to {target} has a {wanted}: {reason}"


def _gap(graph: ComposedGraph, source: str, target: str) -> str:
    """What a person should look at when two ends are not joined."""
    silent = sorted(name for name, member in graph.members.items() if member.view is None)
    down = sorted(finding.element for finding in graph.findings())
    parts = []
    if silent:
        parts.append(f"{', '.join(silent)} shared nothing yet")
    if down:
        parts.append(f"{len(down)} inter-domain links have findings ({', '.join(down[:3])})")
    if not graph.leaving(source).borders and not graph.leaving(source).nodes:
        parts.append(f"{source} reaches no border of its domain")
    return "; ".join(parts) or "no chain of links that are up leads from one to the other"


def _composed(graph: ComposedGraph, route: Route) -> ComposedPath:
    hops = tuple(_hops(graph, route))
    return ComposedPath(hops, serial(qualified(hop.kpis, hop.domain) for hop in hops))


def _hops(graph: ComposedGraph, route: Route) -> Iterator[Hop]:
    for step in route.steps:
        domain = graph.points[step.source].domain
        yield Hop(
            domain=domain,
            source=step.source,
            target=step.way.target,
            kpis=step.kpis,
            stale=step.way.segment.stale or not graph.members[domain].connected,
        )
        if step.crossing is not None:
            yield Hop(
                domain="",
                source=step.crossing.source,
                target=step.crossing.target,
                kpis=step.crossing.kpis,
                link_id=step.crossing.link_id,
                stale=step.crossing.stale,
            )


def _outcomes(graph: ComposedGraph, paths: Iterable[ComposedPath]) -> tuple[DomainOutcome, ...]:
    """Each domain's part: those on a path first, in order, then the others."""
    hops = [hop for path in paths for hop in path.hops if hop.domain]
    order = list(dict.fromkeys(hop.domain for hop in hops))
    order += sorted(graph.members.keys() - set(order))
    on_path = {hop.domain for hop in hops}
    outcomes = []
    for domain in order:
        member = graph.members[domain]
        own = [hop for hop in hops if hop.domain == domain]
        outcome, reason = Outcome.OK, "" if domain in on_path else "not on the path"
        if member.view is None:
            outcome = Outcome.NO_DATA if member.connected else Outcome.UNREACHABLE
            reason = member.reason or "it has shared nothing yet"
        elif not member.connected:
            outcome, reason = Outcome.STALE, member.reason or "it is not connected now"
        elif any(not claims_delay(hop.kpis) for hop in own):
            outcome, reason = Outcome.NO_DATA, "the delay of its part is not measured, or not shared"
        elif any(hop.stale for hop in own):
            reason = "a device on its part is silent: its figures are old"
        version = member.view.version if member.view else None
        outcomes.append(DomainOutcome(domain, outcome, version, reason))
    return tuple(outcomes)


def _approximate(
    graph: ComposedGraph, paths: Iterable[ComposedPath], mode: PathMode, requirement: Requirement
) -> bool:
    """Whether a better answer, or one where there is none, may exist inside the domains."""
    crossed = {hop.domain for path in paths for hop in path.hops if hop.domain}
    views = {domain: graph.members[domain].view for domain in crossed}
    if any(view is not None and view.level is Level.NODE for view in views.values()):
        return True
    if mode is PathMode.CURRENT or requirement == Requirement():
        return False
    return any(
        graph.incomplete(domain, by_loss=requirement.loss is not None)
        for domain, member in graph.members.items()
        if member.view is not None
    )


def satisfied(path: ComposedPath, requirement: Requirement) -> bool:
    """Whether a path meets a requirement."""
    return meets(
        path.total,
        delay_ms=requirement.delay_ms,
        bandwidth_mbps=requirement.bandwidth_mbps,
        loss=requirement.loss,
    )
