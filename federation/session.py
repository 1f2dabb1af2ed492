"""The broker's end of a session with one agent: asks, views, liveness. Owns no state beyond its stream.

Whoever dials is judged in `federation.attach`; what the answers and views mean is the host's business. The
reader never awaits work: answers are verified in the task that asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from domain_twin.errors import (
    ContractError,
    CredentialError,
    OverCapacity,
    SessionLost,
    StaleVersion,
    TwinError,
    Unreachable,
)
from domain_twin.model import Level, Nanoseconds, Version, ViewDelta
from domain_twin.trust.identity import SpiffeId
from domain_twin.trust.sign import Signer, Verifier
from federation.ask_counts import AskCounts, counted
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import statements
from federation.wire.convert import decode_view_delta, encode_version, parse
from federation.wire.framing import (
    MAX_ANSWER_BYTES,
    MAX_HELD_BYTES,
    MAX_VIEW_BYTES,
    VIEW_TRANSFER,
    Framing,
    Limits,
)
from federation.wire.refusals import decode_refusal

__all__ = ["AgentHello", "Liveness", "Session", "SessionHost"]

log = logging.getLogger(__name__)

_ANSWERS: dict[str, Any] = {
    "evaluate": pb.EvaluateAnswer,
    "describe": pb.DescribeAnswer,
    "budget": pb.BudgetAnswer,
    "simulate": pb.SimulateAnswer,
    "query": pb.QueryAnswer,
    "card": pb.CardAnswer,
    "sandbox": pb.SandboxAnswer,
    "learn": pb.LearnAnswer,
}
_FIELDS: dict[str, str] = {
    "EvaluateAsk": "evaluate",
    "DescribeAsk": "describe",
    "BudgetAsk": "budget",
    "SimulateAsk": "simulate",
    "QueryAsk": "query",
    "CardAsk": "card",
    "SandboxAsk": "sandbox",
    "LearnAsk": "learn",
}
_OFF_LOOP = 1 << 20  # answers from this size on are verified and parsed in a thread
_OBO_LIFE_S = 60
_VIEWS_WAITING = 4  # verified beside the loop; with more of them no further message is read
_UNASKED_PER_S = 500.0  # messages that nobody asked for; who sends more is read more slowly
_UNASKED_AT_ONCE = 2000.0
_DEAF_FACTOR = 2.0  # times `dead_after_s`: as long as slow links may take over one window

_ids = count(1)
"""Ids of asks and pings, of all sessions: what belongs to one of them fits no other."""


@dataclass(frozen=True, slots=True)
class AgentHello:
    """What an agent says of itself when it attaches; identity and signing certificate are verified."""

    domain: str
    instance: str
    incarnation: int
    contract_version: int
    software: str


@dataclass(frozen=True, slots=True)
class Liveness:
    """How often both ends say something, and how long silence may last."""

    heartbeat_s: float
    dead_after_s: float


class SessionHost(Protocol):
    """Who keeps the domains: the registry."""

    def admit(self, peer: SpiffeId, domain: str, hello: AgentHello) -> None:
        """Raises a TwinError with the reason that the agent is told."""

    def attached(self, session: Session) -> None:
        """The domain is connected by `session`, in the place of an earlier one if there was one."""

    def lost(self, session: Session, reason: str) -> None:
        """The domain's session ended and no other took its place; not called for one that was replaced."""

    def view_update(self, session: Session, delta: ViewDelta, received_at: Nanoseconds) -> None:
        """Raises StaleVersion for a gap (a snapshot is asked for then), ContractError to refuse it."""


class _Ended(Exception):
    """The session is over: cleanly, or with the error that the agent is told."""

    def __init__(self, reason: str, error: TwinError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


@dataclass(slots=True)
class _Pending:
    answer: asyncio.Future[pb.Answer]
    max_bytes: int
    payload: bytes = b""


@dataclass(slots=True)
class _Allowance:
    """So many a second, and so many at once (a token bucket)."""

    per_s: float
    at_once: float
    spent: float = 0.0
    at: float = 0.0
    exceeded: bool = False

    def spend(self, now: float) -> float:
        """Take one; how long to wait before the next, in seconds."""
        self.spent = max(0.0, self.spent - (now - self.at) * self.per_s) + 1.0
        self.at = now
        return max(0.0, self.spent - self.at_once) / self.per_s


@dataclass(slots=True)
class _Watch:
    ask_id: int
    refused: Callable[[TwinError], None]
    updates: int = field(default=0)


class Session:
    """One attached agent. `last_heard` and `connected_at` are nanoseconds since the Unix epoch, UTC."""

    def __init__(
        self,
        peer: SpiffeId,
        hello: AgentHello,
        *,
        session_id: str,
        host: SessionHost,
        verifier: Verifier,
        signer: Signer,
        limits: Limits,
        liveness: Liveness,
        expires_at: datetime,
        peer_expires_at: datetime | None = None,
        asks: AskCounts | None = None,
    ) -> None:
        self.asks = asks or AskCounts()
        self.peer = peer
        self.domain = hello.domain
        self.operator = peer.operator
        self.hello = hello
        self.session_id = session_id
        self.expires_at = expires_at
        self.peer_expires_at = peer_expires_at or expires_at
        self.connected_at: Nanoseconds = time.time_ns()
        self.last_heard: Nanoseconds = self.connected_at
        self.late_messages = 0
        self.on_audit_head: Callable[[pb.AuditHead], None] = lambda _: None
        """Told how far the agent says that its audit reaches."""
        self.framing = Framing(pb.BrokerMessage, limits, self._room_for)
        self._host = host
        self._verifier = verifier
        self._signer = signer
        self._limits = limits
        self._liveness = liveness
        self._pending: dict[int, _Pending] = {}
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._watch: _Watch | None = None
        self._views: asyncio.Queue[tuple[int, bytes, str]] = asyncio.Queue()
        self._views_busy = False
        self._unasked = _Allowance(_UNASKED_PER_S, _UNASKED_AT_ONCE)
        self._ending: asyncio.Future[_Ended] = asyncio.get_running_loop().create_future()
        self._reattaching = False
        self._heard_at = self._followed_at = asyncio.get_running_loop().time()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def instance(self) -> str:
        """Which installation of the agent this is."""
        return self.hello.instance

    @property
    def open(self) -> bool:
        """Whether asks can be made."""
        return not self._ending.done()

    @property
    def in_flight(self) -> int:
        """Asks without an answer yet."""
        return len(self._pending)

    @counted
    async def ask(
        self,
        body: Any,
        *,
        timeout_s: float,
        job_id: str = "",
        round: int = 0,
        on_behalf_of: str | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> Any:
        """Ask the agent and return its answer message, verified.

        `body` is an EvaluateAsk, DescribeAsk, BudgetAsk, SimulateAsk, QueryAsk, CardAsk, SandboxAsk or
        LearnAsk.
        Raises what a refusal stands for (NotShared, NoPath, NotFound, OverCapacity, StaleVersion),
        Unreachable after `timeout_s`, SessionLost, ContractError.
        """
        kind = _FIELDS[type(body).__name__]
        self._check_open()
        if len(self._pending) >= self._limits.max_in_flight:
            raise OverCapacity(
                f"{self.domain}: {len(self._pending)} asks are in flight already, as many as an agent takes;"
                " try again later"
            )
        ask_id = next(_ids)
        pending = _Pending(asyncio.get_running_loop().create_future(), max_answer_bytes)
        self._pending[ask_id] = pending
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send_ask(
                    pb.Ask(
                        id=ask_id,
                        job_id=job_id,
                        round=round,
                        timeout_ms=max(1, int(timeout_s * 1000)),
                        max_answer_bytes=max_answer_bytes,
                        on_behalf_of=self._on_behalf_of(on_behalf_of),
                        **{kind: body},
                    ),
                    kind,
                )
                answer = await pending.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            self._post(cancel=pb.Cancel(ask_id=ask_id))
            if isinstance(error, TimeoutError) and not isinstance(error, TwinError):
                raise Unreachable(
                    f"{self.domain}: no answer to {kind} within {timeout_s:g} s; it was cancelled"
                ) from None
            raise
        finally:
            self._pending.pop(ask_id, None)
            if pending.answer.done() and not pending.answer.cancelled():
                pending.answer.exception()  # it may have failed before anybody waited for it
            self.framing.inbox.drop(ask_id)
            if not self._pending:
                self._idle.set()
        if answer.WhichOneof("result") == "refusal":
            raise decode_refusal(answer.refusal, self.domain)
        return await self._read_answer(answer, pending.payload, _ANSWERS[kind])

    def watch_view(
        self,
        level: Level,
        resume_from: Version | None,
        *,
        refused: Callable[[TwinError], None] | None = None,
    ) -> None:
        """Ask for the domain's view and its changes, which come by `SessionHost.view_update`.

        `refused` is called when the agent's policy withholds it. A second call replaces the first.
        """
        self._check_open()
        self._watch = _Watch(next(_ids), refused or self._log_refused)
        self.framing.post(
            ask=pb.Ask(
                id=self._watch.ask_id,
                view=pb.ViewAsk(
                    level=level, resume_from=None if resume_from is None else encode_version(resume_from)
                ),
            )
        )

    def end_job(self, job_id: str) -> None:
        """Tell the agent that it may forget the job's state."""
        self._post(job_end=pb.JobEnd(job_id=job_id))

    def reattach(self, reason: str) -> None:
        """Have the agent open a new session; this one ends when its asks are answered."""
        self._reattaching = True
        self._post(reattach=pb.Reattach(reason=reason))

    async def ping(self, timeout_s: float) -> None:
        """Return when the agent answers. Raises Unreachable when it does not."""
        self._check_open()
        ping_id = next(_ids)
        answered = self._pings[ping_id] = asyncio.get_running_loop().create_future()
        self._post(ping=pb.Ping(ping_id=ping_id))
        try:
            async with asyncio.timeout(timeout_s):
                await answered
        except TimeoutError:
            raise Unreachable(f"{self.domain}: no answer to a ping within {timeout_s:g} s") from None
        finally:
            self._pings.pop(ping_id, None)

    async def close(self, reason: str) -> None:
        """End the session; the agent is told why, and dials again."""
        self.end(reason, SessionLost(reason))

    def end(self, reason: str, error: TwinError | None = None) -> None:
        """End the session from the broker's side, with the error that the agent is told; not awaited."""
        if not self._ending.done():
            self._ending.set_result(_Ended(reason, error))

    def stop_view(self) -> None:
        """Take no more of the view: from now on a newer session's updates count."""
        self._watch = None

    async def give_way(self, drain_s: float, *, same_process: bool = False) -> None:
        """End because a newer session took over; when all asks are answered, if the same agent still answers.

        That is so after a Reattach, and where the agent itself opened the newer one.
        """
        if self._reattaching or same_process:
            try:
                if not self._reattaching:  # its connection may be what the newer session is there for
                    await self.ping(self._liveness.heartbeat_s)
                async with asyncio.timeout(drain_s):
                    await self._idle.wait()
            except TimeoutError:
                log.warning(
                    "asks outlived the reattach", extra={"domain": self.domain, "asks": self.in_flight}
                )
            except TwinError as error:
                log.info("session gone", extra={"domain": self.domain, "reason": str(error)})
        self.end("a newer session took over")

    async def serve(self, context: Any) -> tuple[str, TwinError | None]:
        """Run the session until it ends; returns why, and the error to tell the agent if there is one."""
        ended = _Ended("connection lost")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(context))
                tasks.create_task(self.framing.write_to(context.write))
                tasks.create_task(self._beat())
                tasks.create_task(self._take_views())
                tasks.create_task(self._wait_for_end())
        except* _Ended as group:
            ended = _first(group)
        except* (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as group:
            ended = _Ended(f"connection lost ({group.exceptions[0]})")
        finally:
            self.end(ended.reason)
            lost = SessionLost(f"{self.domain}: {ended.reason}")
            self.framing.close(lost)
            for pending in self._pending.values():
                if not pending.answer.done():
                    pending.answer.set_exception(lost)
            for ping in self._pings.values():
                if not ping.done():
                    ping.set_exception(lost)
        return ended.reason, ended.error

    async def _wait_for_end(self) -> NoReturn:
        raise await self._ending

    async def _read(self, context: Any) -> NoReturn:
        while (message := await self._next(context)) is not grpc.aio.EOF:
            self.last_heard = time.time_ns()
            self._heard_at = asyncio.get_running_loop().time()
            try:
                asked_for = self._dispatch(message)
            except (ContractError, CredentialError) as error:
                raise self._broken(error) from error
            if not asked_for and (pause_s := self._unasked.spend(self._heard_at)):
                if not self._unasked.exceeded:
                    self._unasked.exceeded = True
                    log.warning(
                        "agent sends more than it was asked for; it is read more slowly",
                        extra={
                            "peer": str(self.peer),
                            "domain": self.domain,
                            "messages_per_s": _UNASKED_PER_S,
                        },
                    )
                await asyncio.sleep(pause_s)
            if self._views.qsize() > _VIEWS_WAITING:
                await self._views.join()
        raise _Ended("connection lost")

    async def _next(self, context: Any) -> Any:
        try:
            return await context.read()
        except DecodeError as error:
            raise self._broken(
                ContractError(f"{self.domain}: bytes came that are no message of the contract")
            ) from error

    def _broken(self, error: TwinError) -> _Ended:
        log.warning(
            "contract broken", extra={"peer": str(self.peer), "domain": self.domain, "reason": str(error)}
        )
        return _Ended(str(error), error)

    def _dispatch(self, message: pb.AgentMessage) -> bool:
        """Take one message; whether it is part of what was asked for."""
        match message.WhichOneof("body"):
            case "answer":
                return self._on_answer(message.answer)
            case "chunk":
                dropped = self.framing.inbox.bytes_dropped
                if not self.framing.on_chunk(message.chunk):
                    self._too_large(message.chunk.transfer_id)
                return dropped == self.framing.inbox.bytes_dropped
            case "view_update":
                self._on_view_update(message.view_update)
                return False
            case "heartbeat":
                if message.heartbeat.HasField("audit"):
                    self.on_audit_head(message.heartbeat.audit)
                self._on_heartbeat(message.heartbeat.ping_id)
                return False
            case "credit":
                self.framing.on_credit(message.credit)
                self._followed_at = self._heard_at
                return True
            case "goodbye":
                raise _Ended(f"the agent said goodbye: {message.goodbye.reason}")
            case "hello":
                raise ContractError(f"{self.domain}: a second Hello came on one session")
            case _:
                self.late_messages += 1  # of a later version of the contract: not for us
                return False

    def _on_heartbeat(self, ping_id: int) -> None:
        if ping_id:
            self._followed_at = self._heard_at
        ping = self._pings.get(ping_id)
        if ping and not ping.done():
            ping.set_result(None)

    def _on_answer(self, answer: pb.Answer) -> bool:
        if self._watch and answer.ask_id == self._watch.ask_id:
            if answer.WhichOneof("result") == "refusal":
                watch, self._watch = self._watch, None
                watch.refused(decode_refusal(answer.refusal, self.domain))
            return True
        pending = self._pending.get(answer.ask_id)
        if pending is None or pending.answer.done():
            self.framing.inbox.drop(answer.ask_id)
            self.late_messages += 1
            return False
        match answer.WhichOneof("result"):
            case "signed":
                pending.payload = self.framing.payload(answer.signed.payload)
            case None:
                raise ContractError(f"{self.domain}: an answer without a result came")
        pending.answer.set_result(answer)
        return True

    def _too_large(self, transfer_id: int) -> None:
        if pending := self._pending.get(transfer_id):
            self._post(cancel=pb.Cancel(ask_id=transfer_id))
            if not pending.answer.done():
                pending.answer.set_exception(
                    OverCapacity(
                        f"{self.domain}: the answer is larger than the {pending.max_bytes} bytes that were"
                        f" asked for, or all that is coming in than {MAX_HELD_BYTES}; ask for less"
                    )
                )
            return
        raise ContractError(f"{self.domain}: a view of more than {MAX_VIEW_BYTES} bytes came")

    def _on_view_update(self, update: pb.ViewUpdate) -> None:
        if self._watch is None or update.ask_id != self._watch.ask_id:
            self.framing.inbox.drop(update.delta.payload.transfer.transfer_id)
            self.late_messages += 1
            return
        payload, jws = self.framing.payload(update.delta.payload), update.delta.jws
        if len(payload) >= _OFF_LOOP or self._views_busy or self._views.qsize():
            self._views.put_nowait((update.ask_id, payload, jws))
        else:
            self._accept_view(update.ask_id, *self._read_view(payload, jws))

    async def _take_views(self) -> NoReturn:
        """Take large views, and those that came after one, in their order; read beside the loop."""
        while True:
            ask_id, payload, jws = await self._views.get()
            self._views_busy = True
            try:
                self._accept_view(ask_id, *await asyncio.to_thread(self._read_view, payload, jws))
            except (ContractError, CredentialError) as error:
                raise self._broken(error) from error
            finally:
                self._views_busy = False
                self._views.task_done()

    def _read_view(self, payload: bytes, jws: str) -> tuple[pb.ViewDelta, ViewDelta | ContractError]:
        """A view as it was stated. Raises ContractError where the statement does not hold."""
        self._verifier.verify(payload, jws, kind=statements.VIEW_DELTA, now=datetime.now(UTC))
        message = pb.ViewDelta()
        try:
            message = parse(pb.ViewDelta, payload)
            delta = decode_view_delta(message)
            if delta.domain != self.domain:
                raise ContractError(
                    f"{self.domain}: sent a view of domain {delta.domain!r}, which is not its own"
                )
        except ContractError as error:
            return message, error
        return message, delta

    def _accept_view(self, ask_id: int, message: pb.ViewDelta, delta: ViewDelta | ContractError) -> None:
        if self._watch is None or self._watch.ask_id != ask_id:  # given up meanwhile
            self.late_messages += 1
            return
        try:
            if isinstance(delta, ContractError):
                raise delta
            self._host.view_update(self, delta, self.last_heard)
        except StaleVersion as error:
            self._reject(message.target, str(error), resend_snapshot=message.HasField("source"))
        except ContractError as error:
            self._reject(message.target, str(error), resend_snapshot=False)

    def _reject(self, version: pb.Version, reason: str, *, resend_snapshot: bool) -> None:
        log.warning(
            "view rejected", extra={"domain": self.domain, "reason": reason, "resend": resend_snapshot}
        )
        assert self._watch
        self._post(
            view_rejected=pb.ViewRejected(
                ask_id=self._watch.ask_id, version=version, reason=reason, resend_snapshot=resend_snapshot
            )
        )

    async def _beat(self) -> NoReturn:
        """Ping at every heartbeat; end the session when nothing came for too long, or nothing is taken."""
        loop = asyncio.get_running_loop()
        self._heard_at = self._followed_at = loop.time()
        patience_s = _DEAF_FACTOR * self._liveness.dead_after_s
        while True:
            silence = loop.time() - self._heard_at
            if silence >= self._liveness.dead_after_s:
                raise _Ended(f"nothing was heard for {self._liveness.dead_after_s:g} s")
            if loop.time() - self._followed_at >= patience_s or self.framing.stuck_s >= patience_s:
                reason = f"{self.domain}: the agent takes nothing of what is said to it for {patience_s:g} s"
                log.warning("agent does not read", extra={"peer": str(self.peer), "domain": self.domain})
                raise _Ended(reason, SessionLost(reason))
            self._post(ping=pb.Ping(ping_id=next(_ids)))
            await asyncio.sleep(min(self._liveness.heartbeat_s, self._liveness.dead_after_s - silence))

    async def _send_ask(self, ask: pb.Ask, kind: str) -> None:
        if ask.ByteSize() <= self._limits.chunk_bytes:
            await self.framing.submit(ask=ask)
            return
        body = pb.Ask(**{kind: getattr(ask, kind)}).SerializeToString()
        ask.transfer.CopyFrom(await self.framing.transfer(ask.id, body))
        await self.framing.send_after_chunks(ask=ask)

    async def _read_answer(self, answer: pb.Answer, payload: bytes, kind: Any) -> Any:
        def read() -> Any:
            self._verifier.verify(payload, answer.signed.jws, kind=statements.ANSWER, now=datetime.now(UTC))
            return parse(kind, payload)

        try:
            return await asyncio.to_thread(read) if len(payload) >= _OFF_LOOP else read()
        except (ContractError, CredentialError) as error:
            self.end(str(error), error)
            raise

    def _on_behalf_of(self, subject: str | None) -> pb.Signed | None:
        if not subject:
            return None
        now = time.time_ns()
        payload = pb.OnBehalfOf(
            subject=subject, issued_at=now, expires_at=now + _OBO_LIFE_S * 1_000_000_000
        ).SerializeToString()
        return pb.Signed(
            payload=pb.Body(inline=payload), jws=self._signer.sign(payload, kind=statements.ON_BEHALF_OF)
        )

    def _room_for(self, transfer_id: int) -> int:
        if transfer_id & VIEW_TRANSFER:
            return MAX_VIEW_BYTES if self._watch else 0
        pending = self._pending.get(transfer_id)
        return pending.max_bytes if pending else 0

    def _post(self, **body: Any) -> None:
        """Queue what the agent can do without; dropped when it does not read."""
        try:
            self.framing.post(**body)
        except (OverCapacity, SessionLost) as error:
            log.debug("message dropped", extra={"domain": self.domain, "reason": str(error)})

    def _check_open(self) -> None:
        if not self.open:
            raise SessionLost(f"{self.domain}: its session has ended; it dials again by itself")

    def _log_refused(self, error: TwinError) -> None:
        log.warning("view refused", extra={"domain": self.domain, "reason": str(error)})


def _first(group: BaseExceptionGroup[_Ended]) -> _Ended:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group has exceptions")
