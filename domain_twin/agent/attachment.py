"""One stream to the broker: prove who we are, check who it is, answer its asks, until the stream ends.

Owns the stream and nothing of what is said on it. The reader never awaits work: every ask is a task of its
own, and at most as many as the broker's Welcome allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, Protocol

import grpc

from domain_twin.agent.auditor import Auditor
from domain_twin.agent.session_counts import SessionCounts
from domain_twin.agent.view_sender import ViewSender
from domain_twin.config import AgentConfig
from domain_twin.errors import (
    ContractError,
    IdentityMismatch,
    OverCapacity,
    SessionLost,
    TwinError,
    Unreachable,
)
from domain_twin.model import Level, Nanoseconds, Version, ViewDelta
from domain_twin.trust.credentials import Identity
from domain_twin.trust.identity import SpiffeId
from domain_twin.trust.probe import explain_handshake
from domain_twin.trust.refusal import error_of
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.sign import Verifier
from domain_twin.trust.tls import channel_credentials, channel_options
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire import statements
from federation.wire.convert import decode_version, encode_version, encode_view_delta, parse
from federation.wire.fields import word
from federation.wire.framing import (
    CONTRACT_VERSIONS,
    MAX_ASK_BYTES,
    STREAM_OPTIONS,
    VIEW_TRANSFER,
    Framing,
    Limits,
)
from federation.wire.refusals import encode_refusal

log = logging.getLogger(__name__)

_WELCOME_WITHIN_S = 10.0
_DEAF_FACTOR = 2.0  # times `dead_after_s`: as long as slow links may take over one window
_OFF_LOOP = 1 << 20  # bytes from which on a signature is made in a thread


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of the broker. `peer` is the broker, `on_behalf_of` whom it says that it asks for."""

    id: int
    job_id: str
    round: int
    peer: SpiffeId
    on_behalf_of: str
    deadline: Nanoseconds


class AskHandler(Protocol):
    """Who answers. A TwinError that it raises is the refusal that the broker gets."""

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        """Confirm segments against the live twin."""

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        """Say what the agreement with the peer grants."""

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        """Take or decline a share of a service's delay objective."""

    async def simulate(self, ask: Asked, body: pb.SimulateAsk) -> pb.SimulateAnswer:
        """Take one step of this domain's part in a what-if."""

    async def query(self, ask: Asked, body: pb.QueryAsk) -> pb.QueryAnswer:
        """Answer a question in SPARQL from the peer's view."""

    async def card(self, ask: Asked, body: pb.CardAsk) -> pb.CardAnswer:
        """Say what the peer's view holds, counted."""

    async def sandbox(self, ask: Asked, body: pb.SandboxAsk) -> pb.SandboxAnswer:
        """Open, refresh or close this domain's part of a partner's twin."""

    async def learn(self, ask: Asked, body: pb.LearnAsk) -> pb.LearnAnswer:
        """Take one step of learning together."""

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        """What to send first: the deltas since `resume_from`, else a snapshot. Raises NotShared."""

    def job_end(self, job_id: str) -> None:
        """Forget the job's state."""


class Attachment:
    """One stream to the broker, from the dial to its end. `config` has a [broker] and an [identity]."""

    def __init__(
        self,
        config: AgentConfig,
        handler: AskHandler,
        *,
        identity: Callable[[], Identity],
        instance: str,
        incarnation: int,
        on_attached: Callable[[Attachment, str], None],
        on_status: Callable[[str], None],
        counts: SessionCounts | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        assert config.broker
        assert config.identity
        self.over = asyncio.Event()
        """The owner must act: the stream has ended, or the broker wants a new one."""
        self.error: TwinError | None = None
        self.reattach = False
        self.welcomed = False
        self.identity: Identity | None = None
        """What the stream was opened with."""
        self.hands_over = False
        """Whether the broker lets this stream answer its asks to the end when a newer one takes over."""
        self.unknown_messages = 0
        """Messages of a later version of the contract."""
        self._config = config
        self._broker = config.broker
        self._files = config.identity
        self._load_identity = identity
        self._peer = SpiffeId.parse(config.broker.identity)
        self._handler = handler
        self._instance = instance
        self._incarnation = incarnation
        self._on_attached = on_attached
        self._on_status = on_status
        self._counts = counts or SessionCounts()
        self._auditor = auditor or Auditor()
        self._subjects: dict[int, str] = {}  # on whose behalf an ask is made
        self._framing: Framing | None = None
        self._view: ViewSender | None = None
        self._view_ask = 0
        self._view_task: asyncio.Task[NoReturn] | None = None
        self._view_transfers = 0
        self._asks: dict[int, asyncio.Task[None]] = {}
        self._last_ask = 0

    async def run(self) -> None:
        """Dial and serve until the stream ends; `error` says why it did."""
        try:
            await self._run()
        except TwinError as error:
            self.error = error
        except Exception as error:
            log.exception("the session failed")
            self.error = SessionLost(f"{self._peer}: this agent failed ({error!r}); its log says more")
        finally:
            if self.error and (self.welcomed or not isinstance(self.error, Unreachable)):
                self._auditor.detached(str(self._peer), str(self.error), welcomed=self.welcomed)
            self.over.set()

    def publish(self, delta: ViewDelta) -> None:
        """Send a change of the view; dropped when the broker did not ask for it."""
        if self._view:
            self._view.publish(delta)

    def withdraw(self, agreement: str, level: Level, error: TwinError) -> None:
        """Take a view back: its agreement has ended, or is another one now."""
        if self._view:
            self._view.withdraw(agreement, level, error)

    def say_goodbye(self, reason: str) -> None:
        """Tell the broker that this is the end; it closes the stream."""
        self._post(goodbye=pb.Goodbye(reason=reason))

    def give_way(self, reason: str) -> None:
        """Have the owner open a new stream; this one goes on until the broker has its answers."""
        log.info("reattach", extra={"reason": reason})
        self.reattach = True
        self.over.set()

    async def _run(self) -> None:
        identity = self.identity = self._load_identity()
        options = [
            *STREAM_OPTIONS,
            *channel_options(self._broker.server_name),
            ("grpc.use_local_subchannel_pool", 1),  # each session makes its own TLS handshake
        ]
        credentials = channel_credentials(self._broker.root, identity.tls)
        async with grpc.aio.secure_channel(self._broker.address, credentials, options=options) as channel:
            call = rpc.FederationStub(channel).Attach()
            try:
                terms = await self._greet(call, identity)
                self.welcomed = True
                await self._serve(call, identity, terms)
            except grpc.aio.AioRpcError as failure:
                raise await self._explain(failure) from failure
            finally:
                call.cancel()

    async def _greet(self, call: Any, identity: Identity) -> pb.WelcomeTerms:
        """Say Hello and check the Welcome: signed by the broker we mean, and an answer to this very Hello."""
        nonce = secrets.token_bytes(32)
        hello = pb.Hello(
            domain=self._config.domain,
            instance=self._instance,
            incarnation=self._incarnation,
            contract_versions=CONTRACT_VERSIONS,
            software=_software(),
            signing_certificate=identity.signing_chain,
            nonce=nonce,
        )
        try:
            async with asyncio.timeout(_WELCOME_WITHIN_S):
                await call.write(pb.AgentMessage(hello=hello))
                first = await call.read()
        except TimeoutError:
            raise Unreachable(
                f"{self._broker.address}: no Welcome within {_WELCOME_WITHIN_S:g} s; is the broker"
                " overloaded?"
            ) from None
        except asyncio.InvalidStateError:
            first = grpc.aio.EOF
        if first is grpc.aio.EOF:
            raise await self._explain(await _failure(call))
        if first.WhichOneof("body") != "welcome":
            raise ContractError(f"{self._broker.address}: its first message is no Welcome; is it a broker?")
        return self._check_welcome(first.welcome, nonce)

    def _check_welcome(self, welcome: pb.Welcome, nonce: bytes) -> pb.WelcomeTerms:
        roots = TrustBundle({self._peer.operator: self._broker.root.read_bytes()})
        signer = roots.verify_signing(welcome.signing_certificate, expected=self._peer)
        payload = bytes(welcome.terms.payload.inline)
        self._verifier = Verifier(signer)
        self._verifier.verify(payload, welcome.terms.jws, kind=statements.WELCOME, now=datetime.now(UTC))
        terms = parse(pb.WelcomeTerms, payload)
        if terms.nonce != nonce:
            raise IdentityMismatch(
                f"{self._peer}: its Welcome answers another Hello: somebody repeats old messages in its name"
            )
        if terms.broker != str(self._peer):
            raise IdentityMismatch(
                f"{self._peer}: its Welcome is that of {terms.broker}; check [broker] identity"
            )
        if terms.contract_version not in CONTRACT_VERSIONS:
            raise ContractError(
                f"{self._peer}: chose contract version {terms.contract_version}, which this agent did not"
                " offer"
            )
        if not 0 < terms.heartbeat_ms <= terms.dead_after_ms:
            raise ContractError(f"{self._peer}: a heartbeat of {terms.heartbeat_ms} ms cannot work")
        self._auditor.attached(str(self._peer), terms.session_id, welcome.signing_certificate)
        return terms

    async def _serve(self, call: Any, identity: Identity, terms: pb.WelcomeTerms) -> None:
        limits = Limits(terms.chunk_bytes, terms.window_bytes, terms.max_in_flight, terms.max_message_bytes)
        self._limits = limits
        self._identity_now = identity
        self.hands_over = terms.hands_over
        self._framing = Framing(pb.AgentMessage, limits, self._room_for)
        self._heard_at = asyncio.get_running_loop().time()
        self._on_attached(self, f"attached to {terms.broker}, session {terms.session_id}")
        cause: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._framing.write_to(call.write))
                tasks.create_task(self._beat(terms.heartbeat_ms / 1000, terms.dead_after_ms / 1000))
                await self._read(call)
        except* (TwinError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as group:
            cause = _first_error(group)
        if isinstance(cause, asyncio.InvalidStateError):  # a write after the stream has ended
            cause = await _failure(call)
        if cause:
            raise cause

    async def _read(self, call: Any) -> NoReturn:
        while (message := await call.read()) is not grpc.aio.EOF:
            self._heard_at = asyncio.get_running_loop().time()
            if message is None:  # grpcio's word for bytes that it could not parse
                raise ContractError(f"{self._peer}: bytes came that are no message of the contract")
            self._dispatch(message)
        raise await _failure(call)

    def _dispatch(self, message: pb.BrokerMessage) -> None:
        assert self._framing
        match message.WhichOneof("body"):
            case "ask":
                self._on_ask(message.ask)
            case "chunk":
                if not self._framing.on_chunk(message.chunk):
                    raise ContractError(f"{self._peer}: an ask of more than {MAX_ASK_BYTES} bytes came")
            case "cancel":
                self._framing.inbox.drop(message.cancel.ask_id)
                if task := self._asks.get(message.cancel.ask_id):
                    task.cancel()
            case "credit":
                self._framing.on_credit(message.credit)
            case "ping":
                self._post(heartbeat=pb.Heartbeat(ping_id=message.ping.ping_id))
            case "job_end":
                self._on_job_end(message.job_end.job_id)
            case "view_rejected":
                self._on_view_rejected(message.view_rejected)
            case "reattach":
                self.give_way(message.reattach.reason)
            case "welcome":
                raise ContractError(f"{self._peer}: a second Welcome came on one session")
            case _:
                self.unknown_messages += 1  # of a later version of the contract: not for us

    def _on_ask(self, ask: pb.Ask) -> None:
        assert self._framing
        self._last_ask = max(self._last_ask, ask.id)
        if ask.WhichOneof("body") == "view":
            self._on_view_ask(ask)
            return
        if len(self._asks) >= self._limits.max_in_flight:
            self._framing.inbox.drop(ask.id)
            self._refuse(
                ask.id,
                action=ask.WhichOneof("body"),
                error=OverCapacity(
                    f"{len(self._asks)} asks are being worked on, and no more are taken at once; try again"
                    " later"
                ),
            )
            return
        if ask.WhichOneof("body") == "transfer":
            chunked = parse(pb.Ask, self._framing.inbox.take(ask.transfer))
            ask.ClearField("transfer")
            ask.MergeFrom(pb.Ask(**_only_body(chunked)))
        if ask.id in self._asks:
            raise ContractError(f"{self._peer}: ask {ask.id} came a second time before it was answered")
        task = self._asks[ask.id] = self._tasks.create_task(self._answer(ask))
        task.add_done_callback(lambda _: (self._asks.pop(ask.id, None), self._subjects.pop(ask.id, None)))

    async def _answer(self, ask: pb.Ask) -> None:
        assert self._framing
        try:
            async with asyncio.timeout(ask.timeout_ms / 1000 if ask.timeout_ms else None):
                if self._view:
                    await self._view.begun.wait()  # an answer never tells of what the view does not show yet
                payload = (await self._work(ask)).SerializeToString()
                if ask.max_answer_bytes and len(payload) > ask.max_answer_bytes:
                    raise OverCapacity(
                        f"the answer has {len(payload)} bytes, and {ask.max_answer_bytes} were asked for"
                    )
                jws = await self._sign(payload, statements.ANSWER)
                sent = self._view.sent if self._view else None
                version = encode_version(sent) if sent else None
                await self._framing.send_signed(
                    ask.id,
                    payload,
                    jws,
                    lambda signed: {"answer": pb.Answer(ask_id=ask.id, version=version, signed=signed)},
                )
                self._counts.asked(ask.WhichOneof("body"), "ok")
        except TimeoutError:
            log.info("ask took too long", extra={"ask": ask.id})
            self._counts.asked(ask.WhichOneof("body"), "timeout")
        except TwinError as error:
            self._refuse(ask.id, error, ask.WhichOneof("body"))
        except Exception:
            log.exception("ask failed", extra={"ask": ask.id, "body": ask.WhichOneof("body")})
            failed = TwinError("the agent failed to answer; its log says why")
            self._refuse(ask.id, failed, ask.WhichOneof("body"))

    def _work(self, ask: pb.Ask) -> Coroutine[Any, Any, Any]:
        asked = self._asked(ask)
        match ask.WhichOneof("body"):
            case "evaluate":
                return self._handler.evaluate(asked, ask.evaluate)
            case "describe":
                return self._handler.describe(asked, ask.describe)
            case "budget":
                return self._handler.budget(asked, ask.budget)
            case "simulate":
                return self._handler.simulate(asked, ask.simulate)
            case "query":
                return self._handler.query(asked, ask.query)
            case "card":
                return self._handler.card(asked, ask.card)
            case "sandbox":
                return self._handler.sandbox(asked, ask.sandbox)
            case "learn":
                return self._handler.learn(asked, ask.learn)
            case _:
                raise ContractError("this agent does not know such a question; update it")

    def _asked(self, ask: pb.Ask) -> Asked:
        """The question as its answerer sees it. Raises ContractError when the signature does not hold."""
        subject = ""
        if ask.HasField("on_behalf_of"):
            payload = bytes(ask.on_behalf_of.payload.inline)
            now = datetime.now(UTC)
            self._verifier.verify(payload, ask.on_behalf_of.jws, kind=statements.ON_BEHALF_OF, now=now)
            statement = parse(pb.OnBehalfOf, payload)
            if statement.expires_at < time.time_ns():
                raise ContractError(f"{self._peer}: asked for {statement.subject} with an expired statement")
            subject = statement.subject
        if subject:
            self._subjects[ask.id] = subject
        deadline = time.time_ns() + ask.timeout_ms * 1_000_000
        return Asked(ask.id, ask.job_id, ask.round, self._peer, subject, deadline)

    async def _sign(self, payload: bytes, kind: str) -> str:
        """Sign in this agent's name; what is large in a thread, or a ping would wait for it."""
        signer = self._identity_now.signer
        if len(payload) >= _OFF_LOOP:
            return await asyncio.to_thread(signer.sign, payload, kind=kind)
        return signer.sign(payload, kind=kind)

    def _refuse(self, ask_id: int, error: TwinError, action: str | None) -> None:
        refusal = encode_refusal(error)
        self._auditor.refused(
            str(self._peer),
            ask_id,
            on_behalf_of=self._subjects.pop(ask_id, ""),
            action=action,
            outcome=refusal.outcome,
            reason=refusal.reason,
        )
        self._counts.asked(action, "failed" if type(error) is TwinError else refusal.outcome)
        self._post(answer=pb.Answer(ask_id=ask_id, refusal=refusal))

    def _on_job_end(self, job_id: str) -> None:
        try:
            self._handler.job_end(job_id)
        except Exception:
            log.exception("job end failed", extra={"job": job_id})

    def _on_view_ask(self, ask: pb.Ask) -> None:
        if self._view_task:
            self._view_task.cancel()
        self._view, self._view_ask = None, ask.id
        try:
            asked, level = self._asked(ask), word(ask.view, "level", Level)
        except TwinError as error:
            self._refuse(ask.id, error, "view")
            return
        resume_from = decode_version(ask.view.resume_from) if ask.view.HasField("resume_from") else None
        self._view = ViewSender(
            level,
            resume_from,
            first=lambda since: self._handler.view(asked, level, since),
            send=lambda delta: self._send_view(asked, delta),
            refuse=lambda error: self._refuse(ask.id, error, "view"),
        )
        self._view_task = self._tasks.create_task(self._view.run())

    async def _send_view(self, asked: Asked, delta: ViewDelta) -> None:
        assert self._framing
        payload = encode_view_delta(delta).SerializeToString()
        try:
            await self._auditor.view_sent(asked, delta, payload)
        except OverCapacity as error:
            self.withdraw(delta.agreement, delta.level, error)
            return
        if 0 < delta.expires_at <= time.time_ns():
            return  # the agreement ended while this waited
        jws = await self._sign(payload, statements.VIEW_DELTA)
        self._view_transfers += 1
        await self._framing.send_signed(
            VIEW_TRANSFER | self._view_transfers,
            payload,
            jws,
            lambda signed: {"view_update": pb.ViewUpdate(ask_id=asked.id, delta=signed)},
        )
        self._counts.sent(len(payload))

    def _on_view_rejected(self, rejected: pb.ViewRejected) -> None:
        self._on_status(f"the broker refused a view: {rejected.reason}")
        if rejected.resend_snapshot and self._view and self._view_ask == rejected.ask_id:
            self._view.start_over()

    def _post(self, **body: Any) -> None:
        """Queue what the broker can do without; dropped when it does not read."""
        if self._framing:
            with contextlib.suppress(OverCapacity):
                self._framing.post(**body)

    async def _beat(self, heartbeat_s: float, dead_after_s: float) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            silence = loop.time() - self._heard_at
            if silence >= dead_after_s:
                raise SessionLost(f"{self._peer}: nothing was heard for {dead_after_s:g} s")
            if self._framing and self._framing.stuck_s >= _DEAF_FACTOR * dead_after_s:
                raise SessionLost(
                    f"{self._peer}: takes nothing of what is said to it for {_DEAF_FACTOR * dead_after_s:g} s"
                )
            self._post(heartbeat=pb.Heartbeat(audit=self._auditor.head()))
            await asyncio.sleep(min(heartbeat_s, dead_after_s - silence))

    def _room_for(self, transfer_id: int) -> int:
        return MAX_ASK_BYTES if transfer_id > self._last_ask else 0

    async def _explain(self, failure: grpc.aio.AioRpcError) -> TwinError:
        """What ended the call, in the broker's words; where it had none, by a look at the handshake."""
        if failure.code() is grpc.StatusCode.OK:
            return SessionLost(f"{self._peer}: it ended the session")
        if failure.code() is grpc.StatusCode.INTERNAL and self.welcomed:
            # What grpcio says when a write met the end of the stream: it hides what the broker said.
            return SessionLost(f"{self._peer}: the stream ended under a write; the broker's log says why")
        error = error_of(failure, str(self._peer))
        if self.welcomed and isinstance(error, Unreachable):
            return error if isinstance(error, SessionLost) else SessionLost(str(error))
        if type(error) is not Unreachable:
            return error
        reason = await explain_handshake(
            self._broker.address,
            root=self._broker.root,
            certificate=self._files.certificate,
            key=self._files.key,
            server_name=self._broker.server_name,
        )
        return reason or error


def _only_body(ask: pb.Ask) -> dict[str, Any]:
    kind = ask.WhichOneof("body")
    if kind not in {"evaluate", "describe", "budget", "simulate", "query", "card", "sandbox", "learn"}:
        raise ContractError("the chunks of an ask hold no question")
    return {kind: getattr(ask, kind)}


def _software() -> str:
    try:
        return f"fedtwin {version('fedtwin')}"
    except PackageNotFoundError:
        return "fedtwin"


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    """What ended a call that has ended."""
    return grpc.aio.AioRpcError(
        await call.code(),
        grpc.aio.Metadata(),
        await call.trailing_metadata() or grpc.aio.Metadata(),
        details=await call.details(),
    )


def _first_error(group: BaseExceptionGroup[Any]) -> BaseException:
    for error in group.exceptions:
        return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group has exceptions")
