"""The session between agent and broker: real gRPC over mTLS on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from session_parts import EXCHANGE, OPERATORS, Domain, Host, Pki, agent, broker, same_view, until

from domain_twin.agent.session import Retry
from domain_twin.errors import (
    ContractError,
    NoPath,
    NotFound,
    NotShared,
    OverCapacity,
    SessionLost,
    StaleVersion,
    TwinError,
    Unreachable,
)
from domain_twin.model import Level, Point, PointKind
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.framing import Limits


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def segments(count: int) -> pb.EvaluateAsk:
    return pb.EvaluateAsk(segments=[pb.SegmentAsk(source=f"s{i}", target=f"t{i}") for i in range(count)])


async def test_every_kind_of_ask_is_answered(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a") as a:
        session = await b.session("ran")

        evaluated = await session.ask(segments(3), timeout_s=5, job_id="j", round=2)
        described = await session.ask(pb.DescribeAsk(), timeout_s=5)
        budget = await session.ask(pb.BudgetAsk(share_ms=4.0), timeout_s=5)
        session.end_job("j")
        await until(lambda: a.domain.ended_jobs)

    assert [s.source for s in evaluated.segments] == ["s0", "s1", "s2"]
    assert described.level == "mesh"
    assert (budget.accepted, budget.least_ms) == (True, 2.0)
    assert (a.domain.asked[0].job_id, a.domain.asked[0].round) == ("j", 2)
    assert str(a.domain.asked[0].peer) == f"spiffe://{EXCHANGE}/broker/main"
    assert a.domain.ended_jobs == ["j"]
    assert (session.domain, session.operator) == ("ran", OPERATORS["ran"])


async def test_agent_learns_for_whom_the_broker_asks(pki: Pki, tmp_path: Path) -> None:
    subject = f"spiffe://{OPERATORS['core']}/user/ada"
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a") as a:
        session = await b.session("ran")

        await session.ask(pb.DescribeAsk(), timeout_s=5, on_behalf_of=subject)
        await session.ask(pb.DescribeAsk(), timeout_s=5)

    assert [asked.on_behalf_of for asked in a.domain.asked] == [subject, ""]


@pytest.mark.parametrize(
    "error",
    [NotShared("n"), NoPath("p"), NotFound("f"), OverCapacity("o"), StaleVersion("s"), Unreachable("u")],
)
async def test_a_refusal_comes_back_as_its_error(error: TwinError, pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.error = error
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")

        with pytest.raises(type(error), match=f"ran: {error}"):
            await session.ask(segments(1), timeout_s=5)
        assert session.open


async def test_a_failing_handler_costs_one_answer_only(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.error = ZeroDivisionError("secret")
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")

        with pytest.raises(NotFound, match="failed to answer") as refused:
            await session.ask(segments(1), timeout_s=5)
        domain.error = None

        assert "secret" not in str(refused.value)
        assert len((await session.ask(segments(1), timeout_s=5)).segments) == 1


async def test_large_asks_and_answers_travel_in_chunks(pki: Pki, tmp_path: Path) -> None:
    count = 60_000  # about 1.2 MB each way, several times over in flight at once
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a"):
        session = await b.session("ran")

        answers = await asyncio.gather(*(session.ask(segments(count), timeout_s=60) for _ in range(3)))

    assert [len(answer.segments) for answer in answers] == [count] * 3
    assert session.framing.inbox.bytes_received > 3 * (1 << 20)


async def test_a_ping_passes_a_large_answer(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.answer_bytes = 50_000_000
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")
        inbox = session.framing.inbox

        answer = asyncio.create_task(session.ask(segments(0), timeout_s=100))
        passed = []
        while not answer.done():
            before = inbox.bytes_received
            await session.ping(60)
            passed.append(inbox.bytes_received - before)
        result = await answer

    assert len(result.segments[0].source) == domain.answer_bytes
    assert inbox.bytes_received >= domain.answer_bytes
    # In message order: what was under way when the ping left, and the credit that left just before it.
    assert len(passed) > 10
    assert max(passed) <= 2 * Limits().window_bytes


async def test_no_more_than_the_limit_is_asked_at_once(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")
        asks = [asyncio.create_task(session.ask(segments(1), timeout_s=30)) for _ in range(16)]
        await until(lambda: len(domain.asked) == 16)

        with pytest.raises(OverCapacity, match="16 asks are in flight"):
            await session.ask(segments(1), timeout_s=5)
        domain.gate.set()

        assert len(await asyncio.gather(*asks)) == 16


async def test_agent_refuses_more_than_it_takes_at_once(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")
        asks = [asyncio.create_task(session.ask(segments(1), timeout_s=30)) for _ in range(16)]
        await until(lambda: len(domain.asked) == 16)
        session._limits = Limits(max_in_flight=17)  # a broker that does not keep its own limit

        with pytest.raises(OverCapacity, match="16 asks are being worked on"):
            await session.ask(segments(1), timeout_s=5)
        domain.gate.set()
        await asyncio.gather(*asks)


async def test_an_ask_that_times_out_is_cancelled_at_the_agent(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")

        with pytest.raises(Unreachable, match=r"ran: no answer to evaluate within 0\.2 s"):
            await session.ask(segments(1), timeout_s=0.2)
        await until(lambda: domain.cancelled)

        assert session.open
        assert session.in_flight == 0


async def test_an_ask_that_is_given_up_is_cancelled_at_the_agent(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")
        ask = asyncio.create_task(session.ask(segments(1), timeout_s=60))
        await until(lambda: domain.asked)

        ask.cancel()

        await until(lambda: domain.cancelled)


async def test_an_answer_above_the_asks_limit_is_refused(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.answer_bytes = 2_000_000
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")

        with pytest.raises(OverCapacity, match="the answer has 2000"):
            await session.ask(segments(1), timeout_s=10, max_answer_bytes=1_000_000)
        domain.answer_bytes = 0

        assert await session.ask(segments(1), timeout_s=10)


async def test_view_follows_the_domain(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a") as a:
        await until(lambda: "ran" in host.views)
        for _ in range(200):
            a.domain.change()
            await asyncio.sleep(0)

        await until(lambda: same_view(host.views["ran"], a.domain.view_now))

    assert a.domain.snapshots == 1
    assert len(host.deltas) <= 201


async def test_unsent_changes_are_folded(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a") as a:
        await until(lambda: "ran" in host.views)

        for _ in range(1000):
            a.domain.change()  # all before the loop has a chance to write
        await until(lambda: same_view(host.views["ran"], a.domain.view_now))

    assert len(host.deltas) == 2


async def test_a_view_that_is_not_shared_is_refused_with_its_reason(pki: Pki, tmp_path: Path) -> None:
    host, domain = Host(watch=Level.NATIVE), Domain()
    domain.not_shared = True
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        await until(lambda: host.refusals)

        assert isinstance(host.refusals[0], NotShared)
        assert "no agreement grants a view" in str(host.refusals[0])
        assert (await b.session("ran")).open


async def test_a_view_that_the_broker_refuses_is_told_and_mended(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a") as a:
        await until(lambda: "ran" in host.views)

        host.refuse_view = ContractError("two points have one id")
        a.domain.change()
        await until(lambda: any("two points have one id" in status for status in a.statuses))
        good = host.views["ran"]
        host.refuse_view = None
        a.domain.change()  # does not follow what the broker has: a snapshot comes
        await until(lambda: same_view(host.views["ran"], a.domain.view_now))

        assert good.version.sequence == 0
        assert a.domain.snapshots == 2


async def test_a_gap_brings_a_snapshot(pki: Pki, tmp_path: Path) -> None:
    host = Host(watch=Level.MESH)
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a") as a:
        await until(lambda: "ran" in host.views)

        for _ in range(a.domain.ring + 2):
            a.domain.change(publish=False)
        a.domain.change()
        await until(lambda: same_view(host.views["ran"], a.domain.view_now))

    assert a.domain.snapshots == 2


@pytest.mark.parametrize(("missed", "snapshots"), [(0, 1), (3, 1), (9, 2)])
async def test_a_short_break_resumes_and_a_long_one_starts_over(
    missed: int, snapshots: int, pki: Pki, tmp_path: Path
) -> None:
    host = Host(watch=Level.MESH)
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a") as a:
        await until(lambda: "ran" in host.views)
        first = await b.session("ran")

        await first.close("a break")
        await until(lambda: host.lost_because)
        for _ in range(missed):
            a.domain.change()
        await until(lambda: len(host.attachments) == 2)
        a.domain.change()
        await until(lambda: same_view(host.views["ran"], a.domain.view_now))

    assert a.domain.snapshots == snapshots


async def test_an_ask_fails_at_once_when_the_session_ends(pki: Pki, tmp_path: Path) -> None:
    domain = Domain()
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        session = await b.session("ran")
        ask = asyncio.create_task(session.ask(segments(1), timeout_s=60))
        await until(lambda: domain.asked)

        await session.close("going down")

        with pytest.raises(SessionLost, match="going down"):
            await ask
        with pytest.raises(SessionLost, match="has ended"):
            await session.ask(segments(1), timeout_s=60)
        await until(lambda: domain.cancelled)


async def test_goodbye_ends_the_session_cleanly(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b:
        async with agent(pki, b.address, tmp_path / "a") as a:
            await until(lambda: a.session.connected)
        await until(lambda: b.host.lost_because)

    assert b.host.lost_because == [("ran", "the agent said goodbye: the test is over")]


async def test_reattach_loses_no_ask(pki: Pki, tmp_path: Path) -> None:
    host, domain = Host(watch=Level.MESH), Domain(ring=64)
    domain.gate = asyncio.Event()
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        old = await b.session("ran")
        slow = [asyncio.create_task(old.ask(segments(n), timeout_s=60)) for n in range(5)]
        await until(lambda: len(domain.asked) == 5)

        old.reattach("a certificate ends")
        await until(lambda: host.sessions["ran"] is not old)
        new = host.sessions["ran"]
        for _ in range(20):
            domain.change()
        domain.gate.set()
        answers = await asyncio.gather(*slow, new.ask(segments(7), timeout_s=10))
        await until(lambda: not old.open)
        await until(lambda: same_view(host.views["ran"], domain.view_now))

    assert [len(answer.segments) for answer in answers] == [0, 1, 2, 3, 4, 7]
    assert [reason for _, reason in host.lost_because] == ["the agent said goodbye: the test is over"]
    assert new.session_id != old.session_id
    assert domain.snapshots == 1


async def test_a_large_view_under_way_is_dropped_when_a_newer_session_takes_over(
    pki: Pki, tmp_path: Path
) -> None:
    host, domain = Host(watch=Level.MESH), Domain()
    domain.view_now = replace(
        domain.view_now, points={f"p{n}": Point(f"p{n}", "ran", PointKind.NODE) for n in range(200_000)}
    )
    async with broker(pki, tmp_path, host=host) as b, agent(pki, b.address, tmp_path / "a", domain=domain):
        old = await b.session("ran")
        await until(lambda: old.framing.inbox.bytes_received)

        old.reattach("now")
        await until(lambda: not old.open)
        await until(lambda: "ran" in host.views and same_view(host.views["ran"], domain.view_now))

    assert [reason for _, reason in host.lost_because] == ["the agent said goodbye: the test is over"]


async def test_agent_finds_its_broker_again(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as first:
        port = int(first.address.split(":")[1])
        running = agent(pki, first.address, tmp_path / "a")
        a = await running.__aenter__()
        await first.session("ran")
    try:
        await until(lambda: any("next try in" in status for status in a.statuses))
        async with broker(pki, tmp_path, port=port) as second:
            assert await second.session("ran")
            await until(lambda: a.session.connected)
            assert a.session.error is None
            await running.__aexit__(None, None, None)
    except BaseException:
        await running.__aexit__(None, None, None)
        raise


async def test_a_newer_start_replaces_the_session(pki: Pki, tmp_path: Path) -> None:
    slow = Retry(first_s=30, most_s=30, slow_s=30)
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a", retry=slow) as older:
        first = await b.session("ran")
        async with agent(pki, b.address, tmp_path / "a"):
            await until(lambda: len(b.host.attachments) == 2)
            second = b.host.sessions["ran"]
            await until(lambda: older.session.error)

            assert second.hello.incarnation == first.hello.incarnation + 1
            assert not first.open
            assert b.host.lost_because == []
            assert await second.ask(pb.DescribeAsk(), timeout_s=5)


async def test_an_older_start_is_refused(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, agent(pki, b.address, tmp_path / "a") as older:
        await b.session("ran")
        async with agent(pki, b.address, tmp_path / "a"):
            await until(lambda: len(b.host.attachments) == 2)
            await until(lambda: any("is older than start" in status for status in older.statuses))


async def test_a_second_installation_is_refused_while_the_first_answers(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b:
        async with agent(pki, b.address, tmp_path / "one"):
            first = await b.session("ran")
            async with agent(pki, b.address, tmp_path / "two") as second:
                await until(lambda: second.session.error)

                assert isinstance(second.session.error, OverCapacity)
                assert "another agent of this domain is connected and answers" in str(second.session.error)
                assert b.host.sessions["ran"] is first
                assert first.open
        async with agent(pki, b.address, tmp_path / "two"):
            await until(lambda: b.host.sessions.get("ran") not in {None, first})


async def test_four_domains_are_independent(pki: Pki, tmp_path: Path) -> None:
    async with (
        broker(pki, tmp_path) as b,
        agent(pki, b.address, tmp_path / "r", domain=Domain("ran")),
        agent(pki, b.address, tmp_path / "t", domain=Domain("transport")) as t,
        agent(pki, b.address, tmp_path / "c", domain=Domain("core")),
    ):
        sessions = [await b.session(name) for name in OPERATORS]
        t.domain.gate = asyncio.Event()
        stuck = asyncio.create_task(sessions[1].ask(segments(1), timeout_s=60))

        answers = [await sessions[i].ask(segments(2), timeout_s=5) for i in (0, 2)]
        t.domain.gate.set()

        assert [len(a.segments) for a in answers] == [2, 2]
        assert len((await stuck).segments) == 1
