"""The domain's answers to the broker's asks: nothing is answered that no agreement grants."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from domain_twin import __version__
from domain_twin.agent.auditor import Auditor
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.sandboxes import Sandbox, Sandboxes
from domain_twin.agent.session import Asked
from domain_twin.agent.what_if_jobs import WhatIfJobs
from domain_twin.disclosure.policy import Action, Agreement, Grant, RateLimiter, Refusal, decide
from domain_twin.errors import (
    ContractError,
    CredentialError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
    TwinError,
)
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
from domain_twin.trust.identity import Role, SpiffeId
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.convert import decode_path_mode, decode_requirement, encode_path_kpis, encode_view
from federation.wire.simulate import Figures, Prepare, Prepared, decode_ask, encode_answer

if TYPE_CHECKING:
    from domain_twin.agent.learning import Learning
    from domain_twin.agent.queries import PeerQueries

_COMMITMENTS = 1000  # a peer that makes up services costs no memory
_MOST_SEGMENTS = 4096
_SEGMENTS_PER_ASK = 20  # so many cost as much as an ask: by the time they take
_VIEW_COST = 5.0  # a new view may cost a search
_AT_ONCE = 128
_BYTES_PER_STEP = 1_000_000  # of learning, whose bytes nobody parses here: so many cost as much as an ask
_BYTES_PER_ASK = 100_000  # of a what-if or query: so many cost as much as an ask
_QUERY_KEPT = 2000  # letters of a query that the audit keeps, besides its digest
_OFF_LOOP = 1 << 16  # bytes of a what-if from which on it is read beside the loop


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
        auditor: Auditor | None = None,
    ) -> None:
        self.on_withdrawn: Callable[[str, Level, TwinError], None] = lambda *_: None
        """Told of a view that may no longer be shown: agreement, level, why."""
        self.auditor = auditor or Auditor()
        self.what_ifs: WhatIfJobs | None = None
        """Who computes this domain's part in what-ifs; None: nobody does."""
        self.queries: PeerQueries | None = None
        """Who answers peers' questions in SPARQL; None: nobody does."""
        self.sandboxes: Sandboxes | None = None
        """Who keeps this domain's parts of partners' twins; None: it takes part in none."""
        self.learning: Learning | None = None
        """Who trains models together with others; None: nobody does."""
        self._domain = domain
        self._agreements = tuple(agreements)
        self._published = published
        self._publisher = publisher
        self._clock = clock
        self._rate = RateLimiter()
        self._commitments: dict[str, Commitment] = {}
        self._viewing: dict[tuple[str, Level], tuple[Asked, Grant]] = {}
        publisher.on_expired = self._expired

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        """Open a view: its first deltas. Raises NotShared, OverCapacity."""
        grant = self._granted(ask, Action.VIEW, level, cost=_VIEW_COST)
        key = grant.agreement, grant.level
        self._viewing[key] = (ask, grant)
        deltas = await self._publisher.open(grant, resume_from)
        if self._viewing.get(key, (None, None))[1] != grant:
            self._publisher.close(*key)
            raise StaleVersion(f"the agreement {grant.agreement!r} was changed; ask for the view again")
        return deltas

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        """What this peer may see and ask here."""
        grant = self._granted(ask, Action.DESCRIBE)
        actions = [
            action.value
            for action in Action
            if isinstance(decide(self._agreements, str(ask.peer), action, now=self._clock()), Grant)
        ]
        answer = pb.DescribeAnswer(
            agreement=grant.agreement,
            level=grant.level.value,
            actions=actions,
            kpis=sorted(grant.figures),
            expires_at=grant.expires_at or 0,
            published=[f"{self._domain}/{alias}" for alias in sorted(self._published)],
            software=f"fedtwin {__version__}",
        )
        await self._disclose(ask, grant, answer)
        return answer

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        """Confirm segments, as the view of this peer has them now, against requirements."""
        grant = self._granted(ask, Action.EVALUATE, cost=_cost(body.segments))
        view = self._publisher.view(self._granted(ask, Action.VIEW, counted=False).agreement)
        answer = pb.EvaluateAnswer()
        for number, segment in enumerate(body.segments, start=1):
            answer.segments.append(self._segment(view, segment))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # a long ask does not hold up the others
        await self._disclose(ask, grant, answer, segments=len(answer.segments))
        return answer

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        """Accept a share of a delay objective where this domain keeps within it now."""
        grant = self._granted(ask, Action.EVALUATE, cost=_cost(body.segments))
        view = self._publisher.view(self._granted(ask, Action.VIEW, counted=False).agreement)
        answer = self._share(view, body)
        await self._disclose(ask, grant, answer, service=body.service_id)
        return answer

    async def simulate(self, ask: Asked, body: pb.SimulateAsk) -> pb.SimulateAnswer:
        """One step of this domain's part in a what-if. Raises also StaleVersion, ContractError."""
        grant = self._granted(ask, Action.WHAT_IF, cost=body.ByteSize() / _BYTES_PER_ASK)
        if self.what_ifs is None:
            raise NotFound(f"{self._domain} computes no what-ifs")
        large = body.ByteSize() > _OFF_LOOP
        step = await asyncio.to_thread(decode_ask, body) if large else decode_ask(body)
        answer: Prepared | Figures
        if isinstance(step, Prepare):
            answer = await self.what_ifs.prepare(ask, grant, step, await self._shown(ask))
            about = {"step": "prepare", "variants": len(step.variants)}
        else:
            answer = await self.what_ifs.round(ask, grant, step)
            about = {"step": "final round" if step.final else "round", "rows": len(step.rate)}
        message = await asyncio.to_thread(encode_answer, answer) if large else encode_answer(answer)
        await self._disclose(ask, grant, message, **about)
        return message

    async def query(self, ask: Asked, body: pb.QueryAsk) -> pb.QueryAnswer:
        """Rows of what this peer sees, for a question in SPARQL. Raises also ContractError, Unreachable."""
        grant = self._granted(ask, Action.QUERY, cost=body.ByteSize() / _BYTES_PER_ASK)
        answer = await self._open_queries().answer(grant, body, deadline=ask.deadline)
        asked = hashlib.sha256(body.query.encode()).hexdigest()
        about = {"query": body.query[:_QUERY_KEPT], "query_sha256": asked, "rows": answer.rows}
        await self._disclose(ask, grant, answer, **about)
        return answer

    async def card(self, ask: Asked, body: pb.CardAsk) -> pb.CardAnswer:
        """What this peer's view holds, counted: where a question is worth asking."""
        grant = self._granted(ask, Action.QUERY)
        answer = await self._open_queries().card(grant, self._domain)
        await self._disclose(ask, grant, answer, triples=answer.triples)
        return answer

    async def sandbox(self, ask: Asked, body: pb.SandboxAsk) -> pb.SandboxAnswer:
        """Open, refresh or close this domain's part of a partner's twin. Raises also ContractError."""
        if self.sandboxes is None:
            raise NotFound(f"{self._domain} takes part in no partner's twin")
        whose = {"partner": ask.on_behalf_of, "peer": str(ask.peer)}
        if body.step == "close":
            # Needs no agreement: it may have been withdrawn since.
            if await self.sandboxes.close(body.sandbox, **whose):
                self.auditor.sandbox_ended(body.sandbox, **whose, reason="closed by its owner")
            return pb.SandboxAnswer()
        if body.step not in ("open", "refresh"):
            raise ContractError(f"SandboxAsk.step: {body.step!r} is none of open, refresh, close")
        try:
            cost = _VIEW_COST if body.step == "open" else 1.0
            grant = self._granted(ask, Action.SANDBOX, cost=cost)
        except NotShared as refusal:
            if await self.sandboxes.close(body.sandbox, **whose) or self.sandboxes.withdrawn(
                body.sandbox, **whose
            ):
                why = f"the agreement for the twin {body.sandbox} was withdrawn: {refusal}"
                self.auditor.sandbox_ended(body.sandbox, **whose, reason=why)
                raise NotShared(why) from None
            raise
        if body.step == "open":
            ends = [end for end in (body.until, grant.expires_at) if end]
            points = frozenset(body.points) if body.points or body.borders_only else None
            view = await self.sandboxes.open(
                grant, body.sandbox, **whose, points=points, until=min(ends, default=0)
            )
        else:
            view = await self.sandboxes.refresh(grant, body.sandbox, **whose)
        answer = pb.SandboxAnswer(
            view=await asyncio.to_thread(encode_view, view) if _is_large(view) else encode_view(view),
            agreement=grant.agreement,
            level=grant.level.value,
            kpis=sorted(grant.figures),
            expires_at=grant.expires_at or 0,
        )
        if self._granted(ask, Action.SANDBOX, counted=False) != grant:
            raise StaleVersion(f"the agreement {grant.agreement!r} was changed; ask again")
        about = {"sandbox": body.sandbox, "step": body.step, "points": len(view.points)}
        await self._disclose(ask, grant, answer, **about)
        return answer

    async def learn(self, ask: Asked, body: pb.LearnAsk) -> pb.LearnAnswer:
        """One step of learning together. Raises also ContractError, Unreachable."""
        from domain_twin.agent.learning import Step

        grant = self._granted(ask, Action.TRAIN, cost=body.ByteSize() / _BYTES_PER_STEP)
        if self.learning is None:
            raise NotFound(f"{self._domain} trains nothing with others")
        step = Step(body.run, body.step, body.task, body.message, body.card, body.arrays)
        learned = await self.learning.take(step, str(ask.peer))
        if self._granted(ask, Action.TRAIN, counted=False) != grant:
            raise StaleVersion(f"the agreement {grant.agreement!r} was changed; ask again")
        answer = pb.LearnAnswer(message=learned.message, facts=learned.facts_json)
        await self._disclose(ask, grant, answer, **learned.about)
        return answer

    async def _shown(self, ask: Asked) -> Version:
        """The version of what the asker sees here; a partner sees its twin. Raises NotShared."""
        if not _is_partner(ask.on_behalf_of):
            return self._publisher.view(self._granted(ask, Action.VIEW, counted=False).agreement).version
        grant = self._granted(ask, Action.SANDBOX, counted=False)
        if self.sandboxes is None or not self.sandboxes.held_by(ask.on_behalf_of, str(ask.peer)):
            raise NotShared(f"no twin of {ask.on_behalf_of} is open at {self._domain}")
        return await self.sandboxes.version(grant)

    def _open_queries(self) -> PeerQueries:
        if self.queries is None:
            raise NotFound(f"{self._domain} answers no queries")
        return self.queries

    def job_end(self, job_id: str) -> None:
        """Forget what was kept for a job between its rounds."""
        if self.what_ifs is not None:
            self.what_ifs.end(job_id)
        if self.learning is not None:
            self.learning.end(job_id)

    def session_lost(self) -> None:
        """Forget what was kept for all jobs: who asked is gone."""
        if self.what_ifs is not None:
            self.what_ifs.forget()
        if self.learning is not None:
            self.learning.session_lost()

    def findings(self) -> list[Finding]:
        """Shares that this domain does not keep, and an audit that cannot be written."""
        open_here = self.sandboxes.findings() if self.sandboxes else []
        learned = self.learning.findings() if self.learning else []
        return [*self.auditor.findings(self._domain), *open_here, *learned] + [
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

    def replace_agreements(self, agreements: Iterable[Agreement]) -> None:
        """From now on these hold: views that none of them grants any more are taken back."""
        self._agreements = tuple(agreements)
        now = self._clock()
        for held in self.sandboxes.withdraw(self._holds) if self.sandboxes else ():
            self.auditor.sandbox_ended(
                held.id, partner=held.partner, peer=held.peer, reason="its agreement was withdrawn"
            )
        for (agreement, level), (ask, grant) in list(self._viewing.items()):
            granted = decide(
                self._agreements,
                str(ask.peer),
                Action.VIEW,
                now=now,
                level=level,
                on_behalf_of=ask.on_behalf_of,
            )
            if isinstance(granted, Refusal):
                why: TwinError = NotShared(
                    f"the agreement {agreement!r} was withdrawn; delete what was shown under it"
                )
            elif granted == grant:
                continue
            else:
                why = StaleVersion(f"the agreement {agreement!r} was changed; ask for the view again")
            self._publisher.close(agreement, level)
            self._withdraw(agreement, level, why)

    def _holds(self, held: Sandbox) -> bool:
        """Whether a partner may still hold its twin here."""
        now = self._clock()
        granted = decide(self._agreements, held.peer, Action.SANDBOX, now=now, on_behalf_of=held.partner)
        return isinstance(granted, Grant)

    def _expired(self, agreement: str, level: Level) -> None:
        why = NotShared(f"the agreement {agreement!r} has expired; delete what was shown under it")
        self._withdraw(agreement, level, why)

    def _withdraw(self, agreement: str, level: Level, why: TwinError) -> None:
        asked = self._viewing.pop((agreement, level), None)
        peer = str(asked[0].peer) if asked else ""
        self.auditor.agreement_ended(agreement, peer, level.value, str(why))
        self.on_withdrawn(agreement, level, why)

    async def _disclose(self, ask: Asked, grant: Grant, answer: Any, **more: Any) -> None:
        """Record an answer, which leaves when this returns. Raises OverCapacity, NotShared."""
        await self.auditor.answered(ask, grant, answer.SerializeToString(), **more)
        if grant.expires_at is not None and self._clock() >= grant.expires_at:
            raise NotShared(f"the agreement {grant.agreement!r} has expired")

    def _share(self, view: View, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        used = 0.0
        for asked in body.segments:
            answer = self._segment(view, asked)
            if answer.HasField("refusal"):
                return pb.BudgetAnswer(accepted=False, least_ms=math.inf, reason=answer.refusal.reason)
            used += answer.kpis.delay_ms
        self._commitments.pop(body.service_id, None)
        if len(self._commitments) >= _COMMITMENTS:
            del self._commitments[next(iter(self._commitments))]
        self._commitments[body.service_id] = Commitment(body.service_id, body.share_ms, used, self._clock())
        if used <= body.share_ms:
            return pb.BudgetAnswer(accepted=True, least_ms=used)
        return pb.BudgetAnswer(
            accepted=False,
            least_ms=used,
            reason=f"{self._domain} uses {used:.2f} ms now and was offered {body.share_ms:.2f} ms",
        )

    def _granted(
        self,
        ask: Asked,
        action: Action,
        level: Level | None = None,
        *,
        counted: bool = True,
        cost: float = 1.0,
    ) -> Grant:
        now = self._clock()
        grant = decide(
            self._agreements, str(ask.peer), action, now=now, level=level, on_behalf_of=ask.on_behalf_of
        )
        if isinstance(grant, Refusal):
            raise NotShared(grant.reason)
        if counted and not self._rate.admit(grant, now, cost=cost):
            wait_s = self._rate.waiting_s(grant)
            error = OverCapacity(
                f"the agreement {grant.agreement!r} allows {grant.asks_per_second:g} asks a second;"
                f" ask again in {wait_s:.1f} s"
            )
            error.retry_after_s = wait_s
            raise error
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


def _is_partner(identity: str) -> bool:
    try:
        return SpiffeId.parse(identity).role is Role.PARTNER
    except CredentialError:
        return False


def _cost(segments: Sequence[Any]) -> float:
    """What an ask about so many segments counts. Raises OverCapacity."""
    if len(segments) > _MOST_SEGMENTS:
        raise OverCapacity(f"{len(segments)} segments were asked about; at most {_MOST_SEGMENTS} at once")
    return max(1.0, len(segments) / _SEGMENTS_PER_ASK)


def _is_large(view: View) -> bool:
    return len(view.segments) > _AT_ONCE


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
