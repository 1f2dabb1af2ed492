"""The domains of the federation: who may join, who is here, what each showed last. Owns the composed graph.

Each domain's view is kept up to date from its session. A view that cannot be accepted is refused with a
reason and shown as a problem; the last good one stays, marked stale, as does that of a domain whose session
was lost. What an agreement no longer grants is deleted.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from domain_twin.config import BrokerConfig, MemberConfig
from domain_twin.errors import (
    ContractError,
    IdentityMismatch,
    NotShared,
    OverCapacity,
    StaleVersion,
    TwinError,
)
from domain_twin.model import (
    DomainStatus,
    EventKind,
    Finding,
    Level,
    Nanoseconds,
    PathKpis,
    Severity,
    View,
    ViewDelta,
)
from domain_twin.model.delta import apply
from domain_twin.trust.identity import SpiffeId
from federation.acceptance import check_delta, check_names
from federation.compose import ComposedGraph, Member
from federation.events import EventLog, FindingBoard
from federation.storage import Restored, Storage

if TYPE_CHECKING:
    from federation.session import AgentHello, Session

__all__ = ["Change", "Registry"]

log = logging.getLogger(__name__)

_COARSER = {Level.NATIVE: Level.MESH, Level.MESH: Level.NODE}
_FINENESS = {Level.NODE: 0, Level.MESH: 1, Level.NATIVE: 2}
_DESCRIBE_WITHIN_S = 10.0
_LONGEST_NAME = 255
_NOT_JOINED = "has not joined yet"
_ASK_AGAIN_S = 2.0
_HEADS_EVERY_NS = 30_000_000_000


Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts work that the broker owns: it ends with the broker, and an error in it ends nothing else."""


@dataclass(frozen=True, slots=True)
class Change:
    """The composed graph changed by one domain. Not `structural`: figures alone, on the paths there were."""

    domain: str
    observed_at: Nanoseconds
    structural: bool
    shown: bool = False
    """Whether there are other figures than before: one that was not known is, or the reverse."""


@dataclass(slots=True)
class _Domain:
    """One member as it stands."""

    config: MemberConfig
    session: Session | None = None
    view: View | None = None
    received_at: Nanoseconds = 0
    expires_at: Nanoseconds = 0
    described_until: Nanoseconds = 0  # what the agent said of its agreement, besides its views
    peer: str = ""
    asked: Level = Level.MESH
    current: bool = False  # the view is what the domain shows now
    problem: str = _NOT_JOINED
    refused: str = ""  # why the last view was not accepted
    withheld: str = ""  # why the domain shows none
    joined_before: bool = False
    head_noted_at: Nanoseconds = 0
    expiry: asyncio.TimerHandle | None = None
    describing: asyncio.Task[None] | None = None


class Registry:
    """The members of the federation: a SessionHost."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        events: EventLog,
        findings: FindingBoard,
        storage: Storage,
        restored: Restored,
        spawn: Spawn,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self.graph = ComposedGraph()
        self.changes = 0
        """How often the graph was brought up to date so far."""
        self.on_change: Callable[[Change], None] = lambda _: None
        """Told after every change of the graph."""
        self.audit: Callable[..., None] = lambda kind, **_: None
        """Told, for the audit: a kind of record and what it says."""
        self._events = events
        self._findings = findings
        self._storage = storage
        self._spawn = spawn
        self._closing = False
        self._clock = clock
        self._domains = {member.domain: _Domain(member) for member in config.member}
        self._restore(restored)
        for domain in self._domains.values():
            self.graph.put(_member(domain))
        self._report_graph()

    # ------------------------------------------------------------ what others ask

    def statuses(self) -> list[DomainStatus]:
        """How each member stands, by name."""
        return [self._status(self._domains[name]) for name in sorted(self._domains)]

    def status(self, domain: str) -> DomainStatus | None:
        """How one member stands; None for a domain that is not a member."""
        return self._status(self._domains[domain]) if domain in self._domains else None

    def session(self, domain: str) -> Session | None:
        """The session with a domain; None while it is not connected."""
        return self._domains[domain].session if domain in self._domains else None

    def view(self, domain: str) -> View | None:
        """A domain's last good view, with every part marked stale unless it is what the domain shows now."""
        held = self._domains.get(domain)
        if held is None or held.view is None or held.current:
            return held.view if held else None
        view = held.view
        return replace(
            view,
            points={name: replace(point, stale=True) for name, point in view.points.items()},
            segments={key: replace(segment, stale=True) for key, segment in view.segments.items()},
        )

    def close(self) -> None:
        """The broker ends: sessions that end from now on are no news of their domains."""
        self._closing = True

    # ------------------------------------------------------------ SessionHost

    def admit(self, peer: SpiffeId, domain: str, hello: AgentHello) -> None:
        """Accept members only. Raises NotShared, IdentityMismatch."""
        held = self._domains.get(domain)
        if held is None:
            raise NotShared(
                f"domain {domain!r} is no member of this federation; have it added as [[member]] to the"
                " broker's configuration"
            )
        if peer.operator != held.config.operator:
            raise IdentityMismatch(
                f"domain {domain!r} belongs to {held.config.operator}, and {peer} is not of that operator;"
                " use a certificate of that operator's CA, or correct [[member]] at the broker"
            )

    def attached(self, session: Session) -> None:
        """Ask the domain for its view, from the version on that is here."""
        held = self._domains[session.domain]
        replaced = held.session is not None
        held.session = session
        session.on_audit_head = lambda head: self._note_head(held, head)
        held.peer = str(session.peer)
        held.refused = held.withheld = ""
        self.audit("attached", peer=held.peer, domain=session.domain, session=session.session_id)
        held.current = held.current and replaced
        held.problem = ""
        self._watch(held, held.config.level)
        held.describing = self._spawn(self._describe(held, session))
        if not replaced:
            word = "is back" if held.joined_before else "joined"
            held.joined_before = True
            self._tell(held, f"{session.domain} of {session.operator} {word}")
        self._update(held)

    def lost(self, session: Session, reason: str) -> None:
        """Keep the domain's last view, marked stale."""
        held = self._domains[session.domain]
        if held.session is not session:
            return
        self.audit("detached", peer=held.peer, domain=session.domain, reason=reason)
        held.session = None
        held.current = False
        held.problem = reason
        if held.describing:
            held.describing.cancel()
        if self._closing:
            self._storage.save_domain(self._status(held))
            return
        self._update(held)
        self._tell(held, f"{session.domain} lost: {reason}; its last view is shown, marked stale")

    def view_update(self, session: Session, delta: ViewDelta, received_at: Nanoseconds) -> None:
        """Take over a step of a domain's view.

        Raises StaleVersion for a gap, ContractError for a view that is refused.
        """
        held = self._domains[session.domain]
        if held.session is not session:
            raise ContractError(f"{session.domain}: this session was replaced by a newer one")
        try:
            view = self._accept(held, delta)
        except ContractError as error:
            self._refuse(held, delta, str(error))
            raise
        before, held.view = held.view, view
        held.received_at = received_at
        held.refused = held.withheld = held.problem = ""
        held.current = True
        structural = _structural(before, delta)
        try:
            self._update(
                held,
                structural=structural,
                shown=structural or _shows_others(before, delta),
                observed_at=delta.target.observed_at,
            )
        except Exception as error:  # what no check foresaw must not cost the federation
            log.exception("view cannot be composed", extra={"domain": session.domain})
            held.view = before
            self._rebuild()
            reason = f"the view of {session.domain} cannot be composed ({error})"
            self._refuse(held, delta, reason)
            raise ContractError(reason) from error
        if delta.expires_at != (before.expires_at if before else 0):
            self._expire_at(held, _earlier(delta.expires_at, held.described_until))
        self._storage.save_view(view, received_at, held.expires_at)
        self.audit(
            "view-received",
            peer=held.peer,
            domain=session.domain,
            agreement=delta.agreement,
            level=delta.level.value,
            version=f"{delta.target.epoch}/{delta.target.sequence}",
            complete=delta.source is None,
        )
        self._events.publish(
            EventKind.VIEW,
            f"{session.domain} at {view.version.sequence}",
            domain=session.domain,
            domain_status=self._status(held),
            observed_at=delta.target.observed_at,
        )

    # ------------------------------------------------------------ inside

    def _accept(self, held: _Domain, delta: ViewDelta) -> View:
        domain = held.config.domain
        check_delta(delta, domain)
        asked, level = held.asked.value, delta.level.value
        if _FINENESS[delta.level] > _FINENESS[held.asked]:
            raise ContractError(f"{domain} sent a view of level {level!r} where {asked!r} was asked for")
        if delta.source and held.view and delta.level is not held.view.level:
            raise ContractError(f"{domain} changed the level of its view to {level!r} without a snapshot")
        if 0 < delta.expires_at <= self._clock():
            raise ContractError(
                f"{domain} sent a view under the agreement {delta.agreement!r}, which has ended; set the"
                " clocks of both sides, or renew the agreement"
            )
        view = apply(held.view, delta)
        check_names(delta, view)
        return view

    def _refuse(self, held: _Domain, delta: ViewDelta, reason: str) -> None:
        """Keep the last good view, and say why there is no newer one."""
        news = reason != held.refused
        held.refused = reason
        held.problem = f"its last view was refused: {reason}"
        held.current = False
        self._update(held)
        if news:  # a domain that goes on sending the same would fill the log
            self._tell(held, f"{held.config.domain}: {held.problem}")

    def _watch(self, held: _Domain, level: Level, *, whole: bool = False) -> None:
        """Ask for the view: the `whole` of it, or what is new since the one that is held."""
        session = held.session
        assert session
        held.asked = level
        here = held.view.version if held.view and held.view.level is level else None
        resume_from = None if whole else here
        session.watch_view(level, resume_from, refused=lambda error: self._withheld(held, session, error))

    def _withheld(self, held: _Domain, session: Session, error: TwinError) -> None:
        """Ask for less where the agreement grants no more; without any grant, keep nothing."""
        if held.session is not session:
            return
        coarser = _COARSER.get(held.asked)
        if isinstance(error, NotShared) and coarser:
            self._watch(held, coarser)
            return
        held.withheld = held.problem = str(error)
        held.current = False
        if isinstance(error, NotShared):
            self._forget_view(held)
        elif isinstance(error, OverCapacity | StaleVersion):
            self._spawn(self._watch_again(held, session, error))
        self._update(held)
        self._tell(held, f"{held.config.domain} shows no view: {error}")

    async def _watch_again(self, held: _Domain, session: Session, error: TwinError) -> None:
        """The domain shows no view for now, or another one: ask for it once more."""
        if isinstance(error, OverCapacity):
            await asyncio.sleep(max(_ASK_AGAIN_S, error.retry_after_s))
        if held.session is session and session.open:
            # The whole: were nothing new, nothing would come, and the refusal would stand.
            self._watch(held, held.config.level, whole=True)

    async def _describe(self, held: _Domain, session: Session) -> None:
        """Learn when the agreement ends. The answer comes after the first deltas of a resumed view."""
        from federation.v1 import fedtwin_pb2 as pb

        answer: Any = None
        try:
            answer = await session.ask(pb.DescribeAsk(), timeout_s=_DESCRIBE_WITHIN_S)
        except TwinError as error:
            log.info("agreement not described", extra={"domain": session.domain, "reason": str(error)})
        if held.session is not session:
            return
        if answer is not None:
            held.described_until = answer.expires_at
            until = held.view.expires_at if held.view else 0
            self._expire_at(held, _earlier(answer.expires_at, until))
        if held.view and not held.current and not held.refused and not held.withheld:
            held.current = True  # nothing changed since the version that is here
            self._update(held)

    def _expire_at(self, held: _Domain, expires_at: Nanoseconds) -> None:
        if held.expiry:
            held.expiry.cancel()
            held.expiry = None
        held.expires_at = expires_at
        if held.view:
            self._storage.save_view(held.view, held.received_at, expires_at)
        if expires_at:
            left_s = max(0.0, (expires_at - self._clock()) / 1e9)
            # A timer longer than the platform's limit is set again when it has run down.
            delay_s = min(left_s, 86_400.0)
            then = self._expired if delay_s == left_s else self._again
            held.expiry = asyncio.get_running_loop().call_later(delay_s, then, held)

    def _again(self, held: _Domain) -> None:
        self._expire_at(held, held.expires_at)

    def _expired(self, held: _Domain) -> None:
        domain = held.config.domain
        agreement = held.view.agreement if held.view else ""
        self.audit("agreement-ended", peer=held.peer, domain=domain, agreement=agreement, reason="expired")
        held.described_until = 0
        held.withheld = held.problem = f"the agreement with {domain} has expired; its views were deleted"
        held.expires_at = 0
        self._forget_view(held)
        self._update(held)
        self._tell(held, held.problem)
        if held.session and held.session.open:
            self._watch(held, held.config.level)  # a new agreement may be in force already

    def _note_head(self, held: _Domain, head: Any) -> None:
        """Remember how far the agent's audit reaches: what is cut off there later shows here."""
        if self._clock() - held.head_noted_at < _HEADS_EVERY_NS or len(head.trail) > _LONGEST_NAME:
            return
        held.head_noted_at = self._clock()
        self.audit(
            "peer-head",
            peer=held.peer,
            domain=held.config.domain,
            trail=head.trail,
            seq=head.seq,
            sha256=head.sha256[:64],
        )

    def _forget_view(self, held: _Domain) -> None:
        """Keep nothing that the domain showed: no view, no event, no figure in the services' history."""
        if held.view:
            version = held.view.version
            self.audit(
                "view-deleted",
                peer=held.peer,
                domain=held.config.domain,
                agreement=held.view.agreement,
                version=f"{version.epoch}/{version.sequence}",
                reason=held.withheld,
            )
        self._events.forget(held.config.domain)
        held.view = None
        held.received_at = 0
        held.current = False
        self._storage.forget_view(held.config.domain)

    def _restore(self, restored: Restored) -> None:
        for status in restored.domains:
            if held := self._domains.get(status.domain):
                held.peer = status.peer
                held.joined_before = True
        now = self._clock()
        for view, received_at, expires_at in restored.views:
            held = self._domains.get(view.domain)
            if held is None or (expires_at and expires_at <= now):
                self._storage.forget_view(view.domain)
                continue
            held.view, held.received_at, held.expires_at = view, received_at, expires_at
            held.problem = "not connected since the broker started; shown is its last known view"
            if expires_at:
                self._expire_at(held, expires_at)

    def _update(
        self,
        held: _Domain,
        *,
        structural: bool = True,
        shown: bool = True,
        observed_at: Nanoseconds = 0,
    ) -> None:
        """Bring graph, findings, storage and whoever evaluates up to date with a domain."""
        self.graph.put(_member(held))
        self.changes += 1
        if structural:
            self._report_graph()
            self._findings.report(f"domain {held.config.domain}", _findings(held))
            self._storage.save_domain(self._status(held))
        self.on_change(Change(held.config.domain, observed_at, structural, shown))

    def _report_graph(self) -> None:
        self._findings.report("composition", self.graph.findings())

    def _rebuild(self) -> None:
        self.graph = ComposedGraph(_member(held) for held in self._domains.values())

    def _tell(self, held: _Domain, text: str) -> None:
        self._events.publish(
            EventKind.DOMAIN, text, domain=held.config.domain, domain_status=self._status(held)
        )

    def _status(self, held: _Domain) -> DomainStatus:
        view = held.view
        return DomainStatus(
            domain=held.config.domain,
            operator=held.config.operator,
            connected=held.session is not None,
            level=view.level if view else None,
            version=view.version if view else None,
            received_at=held.received_at,
            points=len(view.points) if view else 0,
            segments=len(view.segments) if view else 0,
            hidden_nodes=view.hidden_nodes if view else 0,
            hidden_links=view.hidden_links if view else 0,
            peer=held.peer,
            problem=held.problem,
        )


def _earlier(one: Nanoseconds, other: Nanoseconds) -> Nanoseconds:
    """The earlier of two ends, of which 0 means that there is none."""
    return min(one, other) if one and other else one or other


def _member(held: _Domain) -> Member:
    return Member(held.config.domain, held.view, held.current, held.problem)


def _structural(before: View | None, delta: ViewDelta) -> bool:
    """Whether a step may change which path anything takes, and not its figures alone."""
    if before is None or delta.source is None or delta.gone_points or delta.gone_segments:
        return True
    for point in delta.points:
        was = before.points.get(point.id)
        if was is None or replace(point, outbound=was.outbound) != was:
            return True
        if (was.outbound is None) != (point.outbound is None):
            return True
    for segment in delta.segments:
        old = before.segments.get((segment.source, segment.target))
        if old is None or (old.current is None) != (segment.current is None):
            return True
        if old.current and segment.current and old.current.metric != segment.current.metric:
            return True
    return False


def _shows_others(before: View | None, delta: ViewDelta) -> bool:
    """Whether a step makes a figure known that was not, or the reverse (not known: infinite)."""
    if before is None:
        return True
    pairs = [
        (before.segments[key].current, segment.current)
        for segment in delta.segments
        if (key := (segment.source, segment.target)) in before.segments
    ]
    pairs += [
        (before.points[point.id].outbound, point.outbound)
        for point in delta.points
        if point.id in before.points
    ]
    return any(_known(old) != _known(new) for old, new in pairs)


def _known(kpis: PathKpis | None) -> tuple[bool, ...]:
    if kpis is None:
        return ()
    return tuple(
        math.isfinite(figure)
        for figure in (kpis.delay_ms, kpis.delay_variance_ms2, kpis.loss, kpis.bandwidth_mbps)
    )


def _findings(held: _Domain) -> list[Finding]:
    domain = held.config.domain
    if held.refused:
        return [
            Finding(
                "view.refused",
                Severity.ERROR,
                domain,
                domain,
                f"a view of {domain} was refused: {held.refused}",
                f"{domain} corrects what it sends; the last good view is shown until then, marked stale",
            )
        ]
    if held.withheld:
        return [
            Finding(
                "view.withheld",
                Severity.ERROR,
                domain,
                domain,
                f"{domain} shows no view: {held.withheld}",
                f"{domain} grants this broker the action 'view' in an [[agreement]]",
            )
        ]
    if held.session is None and held.joined_before:
        return [
            Finding(
                "domain.lost",
                Severity.ERROR,
                domain,
                domain,
                f"{domain} is not connected: {held.problem}",
                f"{held.config.operator} looks after its agent; what it last showed is used, marked stale",
            )
        ]
    return []
