"""Messages of training over a real session: late, cancelled, large, lost, refused for a while, odd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_parts import Agent, Domain, Pki, agent, broker, until

from domain_twin.agent.session import Asked
from domain_twin.errors import NotFound, NotShared, OverCapacity, SessionLost, TwinError, Unreachable
from domain_twin.learning.task import Task
from federation.learning.session_grid import SessionCarrier
from federation.session import Session
from federation.v1 import fedtwin_pb2 as pb

TASK = Task("demand")
MAX = 15_000_000


async def _echo(ask: pb.LearnAsk) -> pb.LearnAnswer:
    if ask.step == "offer":
        return pb.LearnAnswer(facts=b'{"takes_part": true, "newest": 7}')
    return pb.LearnAnswer(message=ask.message[::-1])


class Learner(Domain):
    """A handler that answers steps of learning as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[pb.LearnAsk], Awaitable[pb.LearnAnswer]] = _echo
        self.steps: list[str] = []

    async def learn(self, ask: Asked, body: pb.LearnAsk) -> pb.LearnAnswer:
        self.steps.append(body.step)
        try:
            return await self.answer(body)
        except asyncio.CancelledError:
            self.cancelled.append(ask.id)
            raise


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def carried(pki: Pki, folder: Path) -> AsyncIterator[tuple[SessionCarrier, Learner, Agent, Session]]:
    domain = Learner()
    async with broker(pki, folder) as b, agent(pki, b.address, folder / "a", domain=domain) as a:
        session = await b.session("ran")
        carrier = SessionCarrier(b.host.sessions.get, "run", TASK, max_bytes=MAX)
        assert await carrier.offer(["ran", "core"]) == {"core": "core: not connected"}
        yield carrier, domain, a, session


async def reply(carrier: SessionCarrier, message: bytes = b"abc", *, timeout_s: float = 20.0) -> bytes:
    """As a thread of a training asks."""
    return await asyncio.to_thread(lambda: carrier.carry("ran", message, timeout_s).result())


async def test_replies_come_back_and_late_ones_are_cancelled_in_the_domain(pki: Pki, tmp_path: Path) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, session):
        assert carrier.domains() == carrier.taking_part == ("ran",)
        assert carrier.newest == 7
        assert await reply(carrier) == b"cba"
        large = bytes(range(256)) * 40_000  # in chunks both ways
        assert await reply(carrier, large) == large[::-1]

        hold = asyncio.Event()

        async def slow(_: pb.LearnAsk) -> pb.LearnAnswer:
            await hold.wait()
            return pb.LearnAnswer()

        domain.answer = slow
        with pytest.raises((TimeoutError, Unreachable)):
            await reply(carrier, timeout_s=0.3)
        await until(lambda: len(domain.cancelled) == 1)
        pending = carrier.carry("ran", b"x", 20.0)  # a training that is stopped gives its messages up
        await until(lambda: domain.steps.count("message") == 4)
        pending.cancel()
        await until(lambda: len(domain.cancelled) == 2)
        assert session.open
        assert session.in_flight == 0
        assert {outcome for _, outcome in carrier.outcomes} == {"ok", "TimeoutError", "cancelled"}


async def test_a_session_that_ends_under_a_message_ends_it(pki: Pki, tmp_path: Path) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, session):

        async def leave(_: pb.LearnAsk) -> pb.LearnAnswer:
            session.end("the test cut it")
            await asyncio.sleep(3600)
            raise AssertionError

        domain.answer = leave
        with pytest.raises(SessionLost):
            await reply(carrier)
        domain.answer = _echo
        await until(carrier.domains)  # it has dialled again
        assert await reply(carrier) == b"cba"


async def test_a_domain_that_forgot_the_run_is_offered_it_again(pki: Pki, tmp_path: Path) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, _):
        known = False

        async def forgetful(ask: pb.LearnAsk) -> pb.LearnAnswer:
            nonlocal known
            known = known or ask.step == "offer"
            if not known:
                raise NotFound("run run was not offered here; offer it first")
            return await _echo(ask)

        domain.answer = forgetful
        assert await reply(carrier) == b"cba"
        assert domain.steps == ["offer", "message", "offer", "message"]

        async def unwilling(ask: pb.LearnAsk) -> pb.LearnAnswer:
            raise NotFound("what run?") if ask.step == "message" else NotShared("no more")

        domain.answer = unwilling
        with pytest.raises(Unreachable, match="no more"):
            await reply(carrier)


async def test_a_domain_that_says_when_is_asked_again_then(pki: Pki, tmp_path: Path) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, _):
        waits = [0.05, 0.05]

        async def busy(ask: pb.LearnAsk) -> pb.LearnAnswer:
            if waits:
                error = OverCapacity("ask again soon")
                error.retry_after_s = waits.pop()
                raise error
            return await _echo(ask)

        domain.answer = busy
        assert await reply(carrier) == b"cba"

        async def full(_: pb.LearnAsk) -> pb.LearnAnswer:
            raise OverCapacity("15000000 at most")

        domain.answer = full
        with pytest.raises(OverCapacity):
            await reply(carrier)


@pytest.mark.parametrize(
    "facts", [b"{", b"[]", json.dumps({"x": "y" * 70_000}).encode(), b'{"takes_part": "perhaps"}', b""]
)
async def test_odd_facts_are_no_consent(pki: Pki, tmp_path: Path, facts: bytes) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, _):

        async def odd(_: pb.LearnAsk) -> pb.LearnAnswer:
            return pb.LearnAnswer(facts=facts)

        domain.answer = odd
        (why,) = (await carrier.offer(["ran"])).values()
        assert "LearnAnswer.facts" in why or "does not say that it takes part" in why
        assert carrier.domains() == ()


async def test_a_reply_larger_than_a_model_costs_the_domain_its_place(pki: Pki, tmp_path: Path) -> None:
    async with carried(pki, tmp_path) as (carrier, domain, _, session):

        async def giant(_: pb.LearnAsk) -> pb.LearnAnswer:
            return pb.LearnAnswer(message=bytes(MAX + 200_000))

        domain.answer = giant
        with pytest.raises(TwinError, match="bytes"):
            await reply(carrier)
        assert session.open
