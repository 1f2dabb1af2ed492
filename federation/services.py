"""What a service gets now, against what was promised, and why that changed. Pure: graph and time come in.

Availability objectives are not judged from one moment: no domain states one in its view, so they are left
out of the verdict here and belong to whoever keeps the history of verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from domain_twin.errors import NoPath, NotFound
from domain_twin.model import (
    BudgetShare,
    ComposedPath,
    DomainOutcome,
    Hop,
    Nanoseconds,
    Objective,
    Outcome,
    Service,
    ServiceStatus,
)
from domain_twin.model.algebra import claims_bandwidth, claims_delay, claims_loss
from federation.budget import marked, resplit, split, used_ms, with_use
from federation.compose import ComposedGraph
from federation.paths import find

__all__ = ["NOTABLE_CHANGE", "evaluate"]

NOTABLE_CHANGE = 0.1
"""A delay that changed by less than this part of itself, on the same path, is not worth a word."""
_HEADROOM = 1.05  # a part that missed its share gets a little more than it uses, or it would miss it again


def evaluate(
    service: Service, graph: ComposedGraph, previous: ServiceStatus | None, *, now: Nanoseconds
) -> ServiceStatus:
    """The service's path, budget and verdict now; `cause` says what changed since `previous`."""
    try:
        answer = find(graph, service.source, service.target, now=now)
    except (NoPath, NotFound) as error:
        met = False if isinstance(error, NoPath) and service.objective != Objective() else None
        new = previous is not None and (previous.path is not None or previous.met is not met)
        return ServiceStatus(
            service=service,
            path=None,
            budget=(),
            domains=_members(graph),
            met=met,
            at=now,
            cause=str(error) if new else "",
        )
    path = answer.paths[0]
    status = ServiceStatus(
        service=service,
        path=path,
        budget=marked(_budget(service, path, previous), answer.domains),
        domains=answer.domains,
        met=_verdict(service.objective, path),
        at=now,
    )
    return status if previous is None else replace(status, cause=_cause(previous, status))


def _members(graph: ComposedGraph) -> tuple[DomainOutcome, ...]:
    return tuple(
        DomainOutcome(
            name,
            Outcome.OK
            if member.view and member.connected
            else Outcome.STALE
            if member.view
            else Outcome.NO_DATA,
            member.view.version if member.view else None,
            member.reason,
        )
        for name, member in sorted(graph.members.items())
    )


def _budget(service: Service, path: ComposedPath, previous: ServiceStatus | None) -> tuple[BudgetShare, ...]:
    """The shares agreed before while they hold; re-split where one misses; split anew on other domains."""
    objective_ms = service.objective.delay_ms
    if objective_ms is None:
        return ()
    shares: tuple[BudgetShare, ...] = ()
    if previous is not None and previous.service.objective.delay_ms == objective_ms:
        agreed = previous.budget
        if {share.domain for share in agreed} == used_ms(path).keys():
            shares = with_use(agreed, path)
    if not shares:
        return split(objective_ms, path)
    missed = {share.domain: share.used_ms for share in shares if share.used_ms > share.share_ms}
    missed = {domain: use for domain, use in missed.items() if math.isfinite(use)}
    if not missed:
        return shares
    roomy = resplit(shares, {domain: use * _HEADROOM for domain, use in missed.items()})
    return roomy.shares if roomy.feasible else resplit(shares, missed).shares


def _verdict(objective: Objective, path: ComposedPath) -> bool | None:
    """True, False, or None where nothing was promised or what was promised is not known to be kept."""
    total = path.total
    verdicts: list[bool | None] = []
    if objective.delay_ms is not None:
        verdicts.append(total.delay_ms <= objective.delay_ms if claims_delay(total) else None)
    if objective.loss is not None:
        verdicts.append(total.loss <= objective.loss if claims_loss(total) else None)
    if objective.bandwidth_mbps is not None:
        enough = total.bandwidth_mbps >= objective.bandwidth_mbps
        verdicts.append(enough if claims_bandwidth(total) else None)
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def _cause(before: ServiceStatus, after: ServiceStatus) -> str:
    """What a person wants to be told; names domains and inter-domain links, never what is inside one."""
    assert after.path is not None
    parts: list[str] = []
    if before.path is None:
        parts.append(f"there is a path again, {_ms(after.path.total.delay_ms)}")
    else:
        where = _where_changed(before.path.hops, after.path.hops)
        if where:
            parts.append(f"path changed {where}")
        old, new = before.path.total.delay_ms, after.path.total.delay_ms
        if old != new and (where or not _close(old, new)):
            worst = "" if where else _who(before.path, after.path)
            parts.append(f"delay {_ms(old)} to {_ms(new)}{worst}")
    parts += _domains_changed(before.domains, after.domains)
    if before.met is not after.met:
        words = {True: "objective met", False: "objective missed", None: "verdict not known"}
        parts.append(words[after.met])
    return "; ".join(parts)


def _where_changed(before: Sequence[Hop], after: Sequence[Hop]) -> str:
    route_before = [hop.link_id for hop in before if hop.link_id]
    route_after = [hop.link_id for hop in after if hop.link_id]
    if route_before != route_after:
        left = [link for link in route_before if link not in route_after]
        joined = [link for link in route_after if link not in route_before]
        words = []
        if joined:
            words.append(f"now by {', '.join(joined)}")
        if left:
            words.append(f"no longer by {', '.join(left)}")
        return "between domains: " + ", ".join(words or ["other order"])
    inside = [
        new.domain
        for old, new in zip(before, after, strict=False)
        if new.domain
        and (
            (old.source, old.target) != (new.source, new.target)
            or old.kpis.metric != new.kpis.metric
            or old.kpis.shared_risks != new.kpis.shared_risks
        )
    ]
    return f"inside {', '.join(dict.fromkeys(inside))}" if inside or len(before) != len(after) else ""


def _who(before: ComposedPath, after: ComposedPath) -> str:
    old, new = used_ms(before), used_ms(after)
    grown = {domain: new[domain] - old.get(domain, 0.0) for domain in new}
    domain = max(grown, key=lambda name: abs(grown[name]))
    if not math.isfinite(grown[domain]):
        return f", not known at {domain or 'the inter-domain links'}"
    return f", most of it at {domain or 'the inter-domain links'} ({grown[domain]:+.3f} ms)"


def _domains_changed(before: Sequence[DomainOutcome], after: Sequence[DomainOutcome]) -> list[str]:
    old = {outcome.domain: outcome.outcome for outcome in before}
    words = []
    for outcome in after:
        was = old.get(outcome.domain, Outcome.OK)
        if was is outcome.outcome:
            continue
        if outcome.outcome is Outcome.OK:
            words.append(f"{outcome.domain} is back")
        else:
            words.append(f"{outcome.domain}: {outcome.outcome.value} ({outcome.reason})")
    return words


def _close(old: float, new: float) -> bool:
    return abs(new - old) <= NOTABLE_CHANGE * old


def _ms(value: float) -> str:
    return f"{value:.3f} ms" if math.isfinite(value) else "not known"
