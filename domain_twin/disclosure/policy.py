"""Who may see and ask what of this domain. Pure: agreements and the time in, a grant or a refusal out.

Deny by default. It is decided in the owner's agent; a check at the broker is only a courtesy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from domain_twin.disclosure.precision import EXACT, FIGURES, Precision
from domain_twin.errors import ConfigError
from domain_twin.model import Level, Nanoseconds

__all__ = ["Action", "Agreement", "Grant", "RateLimiter", "Refusal", "decide"]

_FINENESS = {Level.NODE: 0, Level.MESH: 1, Level.NATIVE: 2}
_WILDCARDS = ("/user/*", "/partner/*")


class Action(StrEnum):
    """What a peer may ask of a domain."""

    VIEW = "view"
    DESCRIBE = "describe"
    EVALUATE = "evaluate"
    QUERY = "query"
    TRAIN = "train"
    WHAT_IF = "what-if"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one subject may see and ask; whatever no agreement grants is refused.

    `subject` is a SPIFFE identity, or `spiffe://OPERATOR/user/*` for all people of one operator, or
    `spiffe://OPERATOR/partner/*` for all partners of an exchange. Raises ConfigError for any other pattern: a
    wider one is likelier a mistake than a wish.
    """

    id: str
    subject: str
    level: Level = Level.MESH
    actions: frozenset[Action] = frozenset({Action.VIEW, Action.DESCRIBE})
    figures: frozenset[str] = FIGURES
    precision: Precision = EXACT
    asks_per_second: float = 100.0
    expires_at: Nanoseconds | None = None

    def __post_init__(self) -> None:
        wildcard = self.subject.endswith(_WILDCARDS)
        trust_domain = self.subject.removeprefix("spiffe://")
        for ending in _WILDCARDS:
            trust_domain = trust_domain.removesuffix(ending)
        if (
            not self.subject.startswith("spiffe://")
            or "*" in trust_domain
            or not trust_domain
            or (wildcard and "/" in trust_domain)
            or (not wildcard and "/" not in trust_domain.strip("/"))
        ):
            raise ConfigError(
                f"agreement {self.id!r}: subject {self.subject!r} is neither a SPIFFE identity"
                " (spiffe://OPERATOR/broker/main) nor an operator's people or partners"
                " (spiffe://OPERATOR/user/*, spiffe://OPERATOR/partner/*)"
            )
        if unknown := self.figures - FIGURES:
            raise ConfigError(
                f"agreement {self.id!r}: no such KPI: {', '.join(sorted(unknown))};"
                f" accepted are {', '.join(sorted(FIGURES))}"
            )

    def covers(self, peer: str) -> bool:
        """Whether the agreement speaks of this SPIFFE identity."""
        if not self.subject.endswith(_WILDCARDS):
            return peer == self.subject
        name = peer.removeprefix(self.subject[:-1])
        return name != peer and bool(name) and "/" not in name


@dataclass(frozen=True, slots=True)
class Grant:
    """What a peer gets: at most what its agreement says, and no more than it asked for."""

    agreement: str
    action: Action
    level: Level
    figures: frozenset[str]
    precision: Precision
    asks_per_second: float
    expires_at: Nanoseconds | None = None
    rates: tuple[tuple[str, float], ...] = ()
    """Every agreement that this counts against, with its rate: asking for others wins nobody more asks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, in one sentence that the peer may read; the answer's outcome is `not shared`."""

    reason: str


def decide(
    agreements: Iterable[Agreement],
    peer: str,
    action: Action,
    *,
    now: Nanoseconds,
    level: Level | None = None,
    on_behalf_of: str = "",
) -> Grant | Refusal:
    """What `peer` gets. Without a `level` the finest one granted; a coarser one can be asked for.

    Of several agreements that grant the action the one with the finest level decides (then the least id).
    `on_behalf_of` narrows and never widens: where agreements speak of the end partner, what is granted is the
    coarser of both in every respect; where none does, what `peer` may see is what it may pass on. Not so for
    `sandbox`: a twin of a partner needs an agreement that speaks of that partner.
    """
    own = _decide_for(agreements := tuple(agreements), peer, action, now=now)
    sandbox = action is Action.SANDBOX
    if sandbox and isinstance(own, Grant) and on_behalf_of in ("", peer):
        return Refusal("a twin is made for a partner, and none was named")
    covered = any(agreement.covers(on_behalf_of) for agreement in agreements)
    relayed = on_behalf_of != peer and (covered or sandbox)
    if isinstance(own, Grant) and relayed:
        partner = _decide_for(agreements, on_behalf_of, action, now=now)
        # The relaying peer learns no more of the partner's agreement than that it does not reach so far.
        withheld = Refusal(f"this is not shared with {on_behalf_of}")
        own = _narrower(own, partner) if isinstance(partner, Grant) else withheld
    if isinstance(own, Refusal) or action is not Action.VIEW or level is None:
        return own
    if _FINENESS[level] > _FINENESS[own.level]:
        return Refusal(
            f"{on_behalf_of or peer} may see the level {own.level.value!r} and asked for {level.value!r}"
        )
    return replace(own, level=level)


class RateLimiter:
    """Asks per second and agreement: a bucket that holds one second's worth. Time comes in as an argument.

    An ask that costs more than one is admitted like any other and paid off before the next one is. There are
    as many buckets as agreements that were used, and never more than `most`: the oldest makes room.
    """

    def __init__(self, most: int = 4096) -> None:
        self._buckets: dict[str, tuple[float, Nanoseconds]] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, grant: Grant, now: Nanoseconds, *, cost: float = 1.0) -> bool:
        """Whether this ask is within all the agreed rates; counts it in all of them when it is."""
        found = [(name, rate, self._left(name, rate, now)) for name, rate in _rates(grant)]
        admitted = all(left >= 1.0 for _, _, left in found)
        for name, _, left in found:
            self._buckets.pop(name, None)
            if len(self._buckets) >= self._most:
                del self._buckets[next(iter(self._buckets))]
            self._buckets[name] = (left - max(1.0, cost) if admitted else left, now)
        return admitted

    def waiting_s(self, grant: Grant) -> float:
        """Seconds until the next ask would be admitted, for the refusal's text."""
        waits = (
            (1.0 - self._buckets[name][0]) / rate for name, rate in _rates(grant) if name in self._buckets
        )
        return max(0.0, *waits, 0.0)

    def _left(self, name: str, rate: float, now: Nanoseconds) -> float:
        burst = max(1.0, rate)
        left, since = self._buckets.get(name, (burst, now))
        return min(burst, left + max(0, now - since) * rate / 1e9)


def _rates(grant: Grant) -> tuple[tuple[str, float], ...]:
    return grant.rates or ((grant.agreement, grant.asks_per_second),)


def _decide_for(
    agreements: Iterable[Agreement], peer: str, action: Action, *, now: Nanoseconds
) -> Grant | Refusal:
    covering = [agreement for agreement in agreements if agreement.covers(peer)]
    if not covering:
        return Refusal(f"no agreement speaks of {peer}")
    granting = [agreement for agreement in covering if action in agreement.actions]
    if not granting:
        named = ", ".join(sorted(agreement.id for agreement in covering))
        return Refusal(f"the agreement of {peer} ({named}) does not grant {action.value!r}")
    live = [a for a in granting if a.expires_at is None or now < a.expires_at]
    if not live:
        named = ", ".join(sorted(agreement.id for agreement in granting))
        return Refusal(f"the agreement of {peer} ({named}) has expired")
    best = min(live, key=lambda agreement: (-_FINENESS[agreement.level], agreement.id))
    return Grant(
        agreement=best.id,
        action=action,
        level=best.level,
        figures=best.figures,
        precision=best.precision,
        asks_per_second=best.asks_per_second,
        expires_at=best.expires_at,
        rates=((best.id, best.asks_per_second),),
    )


def _narrower(one: Grant, other: Grant) -> Grant:
    ends = [grant.expires_at for grant in (one, other) if grant.expires_at is not None]
    return Grant(
        agreement=f"{one.agreement}+{other.agreement}",
        action=one.action,
        level=min(one.level, other.level, key=_FINENESS.__getitem__),
        figures=one.figures & other.figures,
        precision=Precision(
            max(one.precision.delay_ms, other.precision.delay_ms),
            max(one.precision.bandwidth_mbps, other.precision.bandwidth_mbps),
            max(one.precision.loss, other.precision.loss),
        ),
        asks_per_second=min(one.asks_per_second, other.asks_per_second),
        expires_at=min(ends) if ends else None,
        rates=(*one.rates, *other.rates),
    )
