"""End-to-end delay budgets: who may use how much of what was promised. Pure arithmetic.

Rule: shares are proportional to what each part uses, so that each gets the same headroom relative to its
use: delays that grow with load grow in proportion to what they were. A part that uses next to nothing still
gets a hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from domain_twin.model import BudgetShare, ComposedPath, DomainOutcome, Outcome

__all__ = ["LEAST_WEIGHT", "Resplit", "marked", "resplit", "share_of", "split", "used_ms", "with_use"]

LEAST_WEIGHT = 0.01
"""Least weight of a part, relative to all others together."""


@dataclass(frozen=True, slots=True)
class Resplit:
    """A budget after somebody needed more than its share; the shares are those from before if infeasible."""

    shares: tuple[BudgetShare, ...]
    feasible: bool
    verdict: str


def used_ms(path: ComposedPath) -> dict[str, float]:
    """Delay by domain in order of the path; the inter-domain links together are the domain ''."""
    used: dict[str, float] = {}
    for hop in path.hops:
        used[hop.domain] = used.get(hop.domain, 0.0) + hop.kpis.delay_ms
    return used


def split(
    objective_ms: float, path: ComposedPath, *, history: Mapping[str, float] | None = None
) -> tuple[BudgetShare, ...]:
    """Divide an objective over the parts of a path; the shares add up to it and none is negative.

    `history` has what parts used over a longer time (such as a high quantile, in ms) and takes the place of
    what they use now as the measure of their weight.
    """
    if not objective_ms > 0:
        raise ValueError(f"a delay objective of {objective_ms} ms cannot be split; it has to be above 0")
    used = used_ms(path)
    weights = {domain: (history or {}).get(domain, use) for domain, use in used.items()}
    known = [weight for weight in weights.values() if math.isfinite(weight)]
    mean = math.fsum(known) / len(known) if known else 1.0
    # A part whose use is not known counts like the others on average.
    weights = {domain: weight if math.isfinite(weight) else mean for domain, weight in weights.items()}
    least = LEAST_WEIGHT * math.fsum(weights.values()) or 1.0
    weights = {domain: max(weight, least) for domain, weight in weights.items()}
    whole = math.fsum(weights.values())
    return tuple(
        BudgetShare(domain, objective_ms * weights[domain] / whole, use, _outcome(use))
        for domain, use in used.items()
    )


def with_use(shares: Sequence[BudgetShare], path: ComposedPath) -> tuple[BudgetShare, ...]:
    """The same shares with what is used now. The path has to cross the same domains."""
    used = used_ms(path)
    return tuple(
        replace(share, used_ms=used[share.domain], outcome=_outcome(used[share.domain])) for share in shares
    )


def resplit(shares: Sequence[BudgetShare], refusals: Mapping[str, float]) -> Resplit:
    """Give those who cannot keep their share the least they can do, out of the slack of the others.

    `refusals` maps a domain to the least delay it can do, in ms. Each other part gives in proportion to its
    slack and never falls below what it uses. The sum of the shares stays the same.
    """
    if unknown := refusals.keys() - {share.domain for share in shares}:
        raise ValueError(f"no share of {', '.join(sorted(unknown))} in this budget")
    needed = {
        share.domain: refusals[share.domain] - share.share_ms
        for share in shares
        if refusals.get(share.domain, 0.0) > share.share_ms
    }
    if not needed:
        return Resplit(tuple(shares), True, "every part keeps its share")
    slack = {
        share.domain: max(0.0, share.slack_ms)
        for share in shares
        if share.domain not in refusals and share.outcome is Outcome.OK
    }
    need, available = math.fsum(needed.values()), math.fsum(slack.values())
    who = ", ".join(f"{_name(domain)} by {extra:.3f} ms" for domain, extra in needed.items())
    if need > available:
        verdict = (
            f"not feasible: beyond their shares are {who};"
            f" the others have {available:.3f} ms to spare, {need - available:.3f} ms too little"
        )
        return Resplit(tuple(shares), False, verdict)
    moved = []
    for share in shares:
        change = needed.get(share.domain, 0.0)
        if share.domain in slack:
            change = -need * slack[share.domain] / available
        moved.append(replace(share, share_ms=max(0.0, share.share_ms + change)))
    return Resplit(tuple(moved), True, f"{who} beyond the share; the slack of the others covers it")


def share_of(shares: Sequence[BudgetShare], domain: str) -> BudgetShare | None:
    """What one domain is told: its own share and nothing of the others'."""
    return next((share for share in shares if share.domain == domain), None)


def marked(shares: Sequence[BudgetShare], outcomes: Sequence[DomainOutcome]) -> tuple[BudgetShare, ...]:
    """The shares with each domain's outcome where its figures are old or missing."""
    said = {outcome.domain: outcome.outcome for outcome in outcomes}
    return tuple(
        replace(share, outcome=said[share.domain])
        if share.outcome is Outcome.OK and said.get(share.domain, Outcome.OK) is not Outcome.OK
        else share
        for share in shares
    )


def _outcome(use: float) -> Outcome:
    return Outcome.OK if math.isfinite(use) else Outcome.NO_DATA


def _name(domain: str) -> str:
    return domain or "the inter-domain links"
