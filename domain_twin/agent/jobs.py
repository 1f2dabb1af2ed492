"""The domain's answers to the broker's asks: nothing is answered that no agreement grants."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from domain_twin import __version__
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Action, Agreement, Grant, RateLimiter, Refusal, decide
from domain_twin.errors import NotShared, OverCapacity
from domain_twin.model import (
    Finding,
    Level,
    Nanoseconds,
    Outcome,
    PathKpis,
    PathMode,
    Requirement,
    Segment,
    Severity,
    Version,
    View,
    ViewDelta,
)
from domain_twin.model.algebra import meets
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.convert import decode_path_mode, decode_requirement, encode_path_kpis


@dataclass(frozen=True, slots=True)
class Commitment:
    """This domain's share of a service's delay objective, and what it uses of it."""

    service: str
    share_ms: float
    used_ms: float
    at: Nanoseconds


class Jobs:
    """Answers asks under the agreements of this domain."""

    def __init__(
        self,
        *,
        domain: str,
        agreements: Sequence[Agreement],
        published: Mapping[str, str],
        publisher: Publisher,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._domain = domain
        self._agreements = tuple(agreements)
        self._published = published
        self._publisher = publisher
        self._clock = clock
        self._rate = RateLimiter()
        self._commitments: dict[str, Commitment] = {}

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        """Open a view: its first deltas. Raises NotShared, OverCapacity."""
        return await self._publisher.open(self._granted(ask, Action.VIEW, level), resume_from)

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        """What this peer may see and ask here."""
        grant = self._granted(ask, Action.DESCRIBE)
        actions = [
            action.value
            for action in Action
            if isinstance(decide(self._agreements, str(ask.peer), action, now=self._clock()), Grant)
        ]
        return pb.DescribeAnswer(
            agreement=grant.agreement,
            level=grant.level.value,
            actions=actions,
            kpis=sorted(grant.figures),
            expires_at=grant.expires_at or 0,
            published=[f"{self._domain}/{alias}" for alias in sorted(self._published)],
            software=f"fedtwin {__version__}",
        )

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        """Confirm segments, as the view of this peer has them now, against requirements."""
        self._granted(ask, Action.EVALUATE)
        view = self._publisher.view(self._granted(ask, Action.VIEW, counted=False).agreement)
        return pb.EvaluateAnswer(segments=[self._segment(view, segment) for segment in body.segments])

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        """Accept a share of a delay objective where this domain keeps within it now."""
        self._granted(ask, Action.EVALUATE)
        view = self._publisher.view(self._granted(ask, Action.VIEW, counted=False).agreement)
        used = 0.0
        for asked in body.segments:
            answer = self._segment(view, asked)
            if answer.HasField("refusal"):
                return pb.BudgetAnswer(accepted=False, least_ms=math.inf, reason=answer.refusal.reason)
            used += answer.kpis.delay_ms
        self._commitments[body.service_id] = Commitment(body.service_id, body.share_ms, used, self._clock())
        if used <= body.share_ms:
            return pb.BudgetAnswer(accepted=True, least_ms=used)
        return pb.BudgetAnswer(
            accepted=False,
            least_ms=used,
            reason=f"{self._domain} uses {used:.2f} ms now and was offered {body.share_ms:.2f} ms",
        )

    def job_end(self, job_id: str) -> None:
        """Forget what was kept for a job: nothing is kept between the rounds of today's asks."""

    def findings(self) -> list[Finding]:
        """Shares that this domain does not keep."""
        return [
            Finding(
                code="budget.missed",
                severity=Severity.WARNING,
                domain=self._domain,
                element=c.service,
                message=f"{self._domain} was given {c.share_ms:.2f} ms of {c.service} and uses"
                f" {c.used_ms:.2f} ms",
                remedy="find a shorter path, or let the broker split the objective anew",
                since=c.at,
            )
            for c in self._commitments.values()
            if c.used_ms > c.share_ms
        ]

    def _granted(
        self, ask: Asked, action: Action, level: Level | None = None, *, counted: bool = True
    ) -> Grant:
        now = self._clock()
        grant = decide(
            self._agreements, str(ask.peer), action, now=now, level=level, on_behalf_of=ask.on_behalf_of
        )
        if isinstance(grant, Refusal):
            raise NotShared(grant.reason)
        if counted and not self._rate.admit(grant, now):
            raise OverCapacity(
                f"the agreement {grant.agreement!r} allows {grant.asks_per_second:g} asks a second;"
                f" ask again in {self._rate.waiting_s(grant):.1f} s"
            )
        return grant

    def _segment(self, view: View, asked: pb.SegmentAsk) -> pb.SegmentAnswer:
        answer = pb.SegmentAnswer(source=asked.source, target=asked.target)
        unknown = [point for point in (asked.source, asked.target) if point not in view.points]
        segment = view.segments.get((asked.source, asked.target))
        if unknown:
            # A point that exists and is hidden answers exactly as one that does not exist.
            answer.refusal.CopyFrom(_refusal(Outcome.NOT_SHARED, f"{unknown[0]} is not shared with you"))
        elif segment is None or segment.current is None:
            answer.refusal.CopyFrom(
                _refusal(Outcome.NO_PATH, f"nothing joins {asked.source} and {asked.target} now")
            )
        elif kpis := _meeting(segment, decode_path_mode(asked), decode_requirement(asked.requirement)):
            answer.kpis.CopyFrom(encode_path_kpis(kpis))
        else:
            answer.refusal.CopyFrom(
                _refusal(
                    Outcome.NO_PATH, f"no way from {asked.source} to {asked.target} meets what is required"
                )
            )
        return answer


def _meeting(segment: Segment, mode: PathMode, required: Requirement) -> PathKpis | None:
    candidates = (segment.current,) if mode is PathMode.CURRENT else segment.options
    fit = [
        kpis
        for kpis in candidates
        if kpis
        and meets(
            kpis,
            delay_ms=required.delay_ms,
            bandwidth_mbps=required.bandwidth_mbps,
            loss=required.loss,
        )
    ]
    return min(fit, key=lambda kpis: kpis.delay_ms, default=None)


def _refusal(outcome: Outcome, reason: str) -> pb.Refusal:
    return pb.Refusal(outcome=outcome.value, reason=reason)
