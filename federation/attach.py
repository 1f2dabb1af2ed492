"""Who may attach as which domain, and for how long. Owns Hello, Welcome, and the one session of each domain.

Identity comes from the certificate alone: a Hello that names another domain is refused. A newer start of the
same installation replaces its session; another installation is refused as long as the first one answers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError

from domain_twin.config import BrokerConfig
from domain_twin.errors import (
    ContractError,
    IdentityMismatch,
    OverCapacity,
    SessionLost,
    TwinError,
    Unreachable,
)
from domain_twin.trust.credentials import Identity, RenewingIdentity
from domain_twin.trust.guard import current_peer
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.refusal import refuse
from domain_twin.trust.roots import TrustBundle, VerifiedPeer
from domain_twin.trust.sign import Verifier
from domain_twin.trust.tls import check_renewal
from federation.ask_counts import AskCounts
from federation.session import AgentHello, Liveness, Session, SessionHost
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire import statements
from federation.wire.framing import CONTRACT_VERSIONS, Limits

log = logging.getLogger(__name__)

_DRAIN_S = 60.0
_LEAVING_AT_ONCE = 4  # older sessions of one domain that still answer
_SILENT_OF_ONE = 4  # streams of one peer that have not said Hello
_SILENT = 256  # streams of all peers that have not
_LEAST_MARGIN_S = 1.0  # what is left of a certificate is halved until then; later a Reattach has no use
_NONCE_BYTES = range(16, 65)


class FederationService(rpc.FederationServicer):  # type: ignore[misc]
    """The `Federation` service, behind a `Guard`; `sessions` holds one session per connected domain."""

    def __init__(
        self,
        host: SessionHost,
        config: BrokerConfig,
        identity: Identity,
        trust: TrustBundle,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        reattach_margin_s: float = 600.0,
        hello_within_s: float = 10.0,
    ) -> None:
        """Reattach is sent `reattach_margin_s`, or half of what is left, before a certificate ends."""
        self._hello_within_s = hello_within_s
        self.sessions: dict[str, Session] = {}
        self._host = host
        self.identity = RenewingIdentity(
            config.identity, identity, lambda new: check_renewal(identity.tls, new.tls, trust)
        )
        self._trust = trust
        self._limits = limits
        self._liveness = Liveness(config.heartbeat_s, config.dead_after_s)
        self._reattach_margin_s = reattach_margin_s
        self._doors: dict[str, asyncio.Lock] = {}
        self._leaving: dict[asyncio.Task[None], Session] = {}
        self._silent: Counter[SpiffeId] = Counter()
        self.asks = AskCounts()
        self.welcomed = 0
        """Sessions that were opened so far."""
        self.refused: Counter[str] = Counter()
        """Hellos that were refused so far, by class of error."""

    async def Attach(self, _requests: Any, context: Any) -> None:
        """Serve one agent's stream."""
        try:
            session = await self._open(context)
        except TwinError as error:
            self.refused[type(error).__name__] += 1
            log.warning(
                "agent refused",
                extra={"peer": str(current_peer().identity), "from": context.peer(), "reason": str(error)},
            )
            await refuse(context, error)
        timer = asyncio.create_task(self._mind_expiry(session))
        reason, error_ = "connection lost", None
        try:
            reason, error_ = await session.serve(context)
        finally:
            timer.cancel()
            if self.sessions.get(session.domain) is session:
                del self.sessions[session.domain]
                log.info("session lost", extra={"domain": session.domain, "reason": reason})
                self._host.lost(session, reason)
        if error_:
            await refuse(context, error_)

    async def close(self, reason: str) -> None:
        """End all sessions, each with `reason`."""
        for session in list(self.sessions.values()):
            await session.close(reason)
        for session in tuple(self._leaving.values()):
            session.end(reason, SessionLost(reason))
        await asyncio.gather(*self._leaving)

    def reattach_all(self, reason: str) -> None:
        """Have every agent open a new session: whoever may not any more is refused then."""
        for session in self.sessions.values():
            session.reattach(reason)

    async def _open(self, context: Any) -> Session:
        peer = current_peer()
        first = await self._hello(context, peer.identity)
        identity = self.identity.current()
        hello, session = self._judge(peer, first.hello, identity)
        async with self._doors.setdefault(hello.domain, asyncio.Lock()):
            former = self.sessions.get(hello.domain)
            if former:
                await self._settle(former, hello)
            await context.write(self._welcome(session, first.hello, identity))
            self.sessions[hello.domain] = session
            if former:
                self._take_leave(former, hello)
        log.info("agent attached", extra={"domain": hello.domain, "peer": str(peer.identity)})
        self.welcomed += 1
        self._host.attached(session)
        return session

    async def _hello(self, context: Any, who: SpiffeId) -> pb.AgentMessage:
        """The first message of a stream. Raises ContractError, OverCapacity."""
        if self._silent[who] >= _SILENT_OF_ONE or self._silent.total() >= _SILENT:
            raise OverCapacity(
                f"{who}: {self._silent[who]} of its streams have not said Hello yet, and"
                f" {self._silent.total()} of all peers; at most {_SILENT_OF_ONE} and {_SILENT} are waited for"
                " at once"
            )
        self._silent[who] += 1
        try:
            async with asyncio.timeout(self._hello_within_s):
                first = await context.read()
        except TimeoutError:
            raise ContractError(f"{who}: no Hello within {self._hello_within_s:g} s") from None
        except DecodeError:
            raise ContractError(f"{who}: its first bytes are no message of the contract") from None
        finally:
            self._silent[who] -= 1
            if not self._silent[who]:
                del self._silent[who]
        if not isinstance(first, pb.AgentMessage) or first.WhichOneof("body") != "hello":
            raise ContractError(f"{who}: the first message of a session must be Hello")
        return first

    def _judge(self, peer: VerifiedPeer, message: pb.Hello, identity: Identity) -> tuple[AgentHello, Session]:
        who = peer.identity
        if who.role is not Role.AGENT:
            raise IdentityMismatch(
                f"{who}: only an agent's certificate opens a session; use the one that `fedtwin ca agent`"
                " made"
            )
        if message.domain != who.name:
            raise IdentityMismatch(
                f"{who}: its Hello is for domain {message.domain!r}, and its certificate for domain"
                f" {who.name!r}; correct `domain` in the agent's configuration, or use that domain's"
                " certificate"
            )
        version = next((v for v in CONTRACT_VERSIONS if v in message.contract_versions), 0)
        if len(message.nonce) not in _NONCE_BYTES or not message.instance:
            raise ContractError(f"{who}: its Hello lacks an instance, or a nonce of 16 to 64 bytes")
        signer = self._trust.verify_signing(message.signing_certificate, expected=who)
        hello = AgentHello(message.domain, message.instance, message.incarnation, version, message.software)
        self._host.admit(who, hello.domain, hello)
        if not version:  # last: a Hello of no version is how `fedtwin doctor` asks whether all else is right
            raise ContractError(
                f"{who}: speaks contract version {', '.join(map(str, message.contract_versions)) or 'none'},"
                f" and this broker {', '.join(map(str, CONTRACT_VERSIONS))}; update the older of the two"
            )
        session = Session(
            who,
            hello,
            session_id=str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
            host=self._host,
            verifier=Verifier(signer),
            signer=identity.signer,
            limits=self._limits,
            liveness=self._liveness,
            asks=self.asks,
            expires_at=min(peer.not_after, signer.not_after, identity.not_after),
            peer_expires_at=min(peer.not_after, signer.not_after),
        )
        return hello, session

    async def _settle(self, former: Session, hello: AgentHello) -> None:
        """Pass when `hello` may take the place of `former`. Raises OverCapacity, ContractError."""
        if former.instance == hello.instance:
            if hello.incarnation < former.hello.incarnation:
                raise ContractError(
                    f"{hello.domain}: start {hello.incarnation} of this agent is older than start"
                    f" {former.hello.incarnation}, which is connected; stop the older process"
                )
            return
        try:
            await former.ping(self._liveness.heartbeat_s)
        except (Unreachable, SessionLost):
            return
        raise OverCapacity(
            f"{hello.domain}: another agent of this domain is connected and answers (instance"
            f" {former.instance}); a domain has one agent, stop one of the two"
        )

    def _take_leave(self, former: Session, hello: AgentHello) -> None:
        """Have the former session answer what it was asked, and end."""
        former.stop_view()
        older = [session for session in self._leaving.values() if session.domain == former.domain]
        if len(older) >= _LEAVING_AT_ONCE:
            older[0].end("newer sessions took over")
        same = (former.instance, former.hello.incarnation) == (hello.instance, hello.incarnation)
        leaving = asyncio.create_task(former.give_way(_DRAIN_S, same_process=same))
        self._leaving[leaving] = former
        leaving.add_done_callback(lambda task: self._leaving.pop(task, None))

    def _welcome(self, session: Session, hello: pb.Hello, identity: Identity) -> pb.BrokerMessage:
        terms = pb.WelcomeTerms(
            session_id=session.session_id,
            broker=str(identity.id),
            contract_version=session.hello.contract_version,
            nonce=hello.nonce,
            heartbeat_ms=int(self._liveness.heartbeat_s * 1000),
            dead_after_ms=int(self._liveness.dead_after_s * 1000),
            chunk_bytes=self._limits.chunk_bytes,
            window_bytes=self._limits.window_bytes,
            max_in_flight=self._limits.max_in_flight,
            max_message_bytes=self._limits.max_message_bytes,
            hands_over=True,
        ).SerializeToString()
        jws = identity.signer.sign(terms, kind=statements.WELCOME)
        return pb.BrokerMessage(
            welcome=pb.Welcome(
                terms=pb.Signed(payload=pb.Body(inline=terms), jws=jws),
                signing_certificate=identity.signing_chain,
            )
        )

    async def _mind_expiry(self, session: Session) -> None:
        """A stream would outlive its certificates: have it opened anew in time, and end it at last."""
        left = (session.expires_at - datetime.now(UTC)).total_seconds()
        margin = min(self._reattach_margin_s, left / 2)
        if margin >= _LEAST_MARGIN_S:
            await asyncio.sleep(left - margin)
            session.reattach("a certificate of this session ends soon")
            left = margin
        await asyncio.sleep(max(0.0, left))
        reason = f"a certificate of the session with {session.domain} expired; renew it"
        session.end(reason, SessionLost(reason))
