"""What the agent answers to whom: decisions by its agreements, figures from the view of the asker."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import NotShared, OverCapacity
from domain_twin.model import (
    CARRIED_RATE,
    DELAY,
    InterDomainEnd,
    Kpi,
    Level,
    Link,
    Network,
    Node,
    TerminationPoint,
    Version,
    ViewDelta,
)
from domain_twin.trust.identity import SpiffeId
from federation.v1 import fedtwin_pb2 as pb

BROKER = SpiffeId.parse("spiffe://exchange.example/broker/main")
STRANGER = SpiffeId.parse("spiffe://stranger.example/broker/main")
EVERYTHING = frozenset({Action.VIEW, Action.DESCRIBE, Action.EVALUATE})
SECOND = 1_000_000_000


def line(delay_ms: float = 2.0) -> Network:
    """a -- b -- c, with a border at a and one at c; b is nobody's business."""
    names = ("a", "b", "c")
    nodes = {f"secret-{n}": Node(f"secret-{n}", n, n) for n in names}
    points, links = {}, {}
    for one, other in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")):
        tp = f"secret-{one}:{other}"
        points[tp] = TerminationPoint(tp, f"secret-{one}", one, other, speed_mbps=1000.0)
        links[f"{tp}:out"] = Link(
            f"{tp}:out", one, f"secret-{one}", tp, f"secret-{other}", f"secret-{other}:{one}",
            1, 1000.0, True,
            {DELAY: Kpi(DELAY, delay_ms, "ms"), CARRIED_RATE: Kpi(CARRIED_RATE, 400.0, "Mbit/s")},
        )  # fmt: skip
    for node, peer in (("a", "ran"), ("c", "core")):
        tp = f"secret-{node}:border"
        points[tp] = TerminationPoint(
            tp, f"secret-{node}", node, "border", speed_mbps=1000.0,
            inter_domain=InterDomainEnd(f"urn:ndt:idl:{peer}1", peer, 1000.0),
        )  # fmt: skip
    return Network("transport", Version("e", 1), nodes, points, links, {}, {}, {})


class Agent:
    """A publisher and jobs over one network that the test changes."""

    def __init__(self, *, figures_interval_s: float = 0.0, **terms: object) -> None:
        self.network = line()
        self.now = 100 * SECOND
        self.sent: list[ViewDelta] = []
        self.news = asyncio.Event()
        settings: dict[str, object] = {"actions": EVERYTHING, **terms}
        agreement = Agreement(id="exchange", subject=str(BROKER), **settings)  # type: ignore[arg-type]
        self.publisher = Publisher(
            network=lambda: self.network,
            published={},
            interval_s=0.0,
            figures_interval_s=figures_interval_s,
            send=self.take,
            clock=self.clock,
        )
        self.jobs = Jobs(
            domain="transport",
            agreements=[agreement],
            published={},
            publisher=self.publisher,
            clock=self.clock,
        )

    def take(self, delta: ViewDelta) -> None:
        self.sent.append(delta)
        self.news.set()

    def clock(self) -> int:
        return self.now

    def ask(self, peer: SpiffeId = BROKER, on_behalf_of: str = "") -> Asked:
        return Asked(1, "", 0, peer, on_behalf_of, self.now + SECOND)

    async def ends(self) -> tuple[str, str]:
        """The border points as the broker sees them."""
        (snapshot,) = await self.jobs.view(self.ask(), Level.MESH, None)
        by_peer = {point.peer_domain: point.id for point in snapshot.points}
        return by_peer["ran"], by_peer["core"]


@pytest.fixture
def agent() -> Agent:
    return Agent()


async def test_a_view_shows_borders_and_nothing_of_the_inside(agent: Agent) -> None:
    (snapshot,) = await agent.jobs.view(agent.ask(), Level.MESH, None)

    assert len(snapshot.points) == 2
    assert snapshot.hidden_nodes == 3
    assert "secret" not in repr(snapshot)


async def test_a_view_goes_on_from_where_the_peer_is(agent: Agent) -> None:
    (snapshot,) = await agent.jobs.view(agent.ask(), Level.MESH, None)

    assert await agent.jobs.view(agent.ask(), Level.MESH, snapshot.target) == []
    assert await agent.jobs.view(agent.ask(), Level.MESH, Version("other", 7)) == [snapshot]


@pytest.mark.parametrize("level", [Level.NATIVE])
async def test_a_finer_level_than_granted_is_refused(agent: Agent, level: Level) -> None:
    with pytest.raises(NotShared, match="native"):
        await agent.jobs.view(agent.ask(), level, None)


async def test_a_stranger_is_refused(agent: Agent) -> None:
    with pytest.raises(NotShared, match=r"stranger\.example"):
        await agent.jobs.view(agent.ask(STRANGER), Level.NODE, None)


async def test_a_peer_learns_what_it_may_ask(agent: Agent) -> None:
    answer = await agent.jobs.describe(agent.ask(), pb.DescribeAsk())

    assert (answer.agreement, answer.level) == ("exchange", "mesh")
    assert set(answer.actions) == {"view", "describe", "evaluate"}


async def test_asking_faster_than_agreed_is_refused() -> None:
    agent = Agent(asks_per_second=2.0)
    for _ in range(2):
        await agent.jobs.describe(agent.ask(), pb.DescribeAsk())

    with pytest.raises(OverCapacity, match="2 asks a second"):
        await agent.jobs.describe(agent.ask(), pb.DescribeAsk())
    agent.now += SECOND

    assert await agent.jobs.describe(agent.ask(), pb.DescribeAsk())


async def test_a_segment_is_confirmed_against_a_requirement(agent: Agent) -> None:
    source, target = await agent.ends()
    body = pb.EvaluateAsk(
        segments=[
            pb.SegmentAsk(
                source=source, target=target, mode="best", requirement=pb.Requirement(bandwidth_mbps=b)
            )
            for b in (500.0, 700.0)
        ]
    )

    fits, does_not = (await agent.jobs.evaluate(agent.ask(), body)).segments

    assert fits.kpis.delay_ms == pytest.approx(4.0)
    assert fits.kpis.bandwidth_mbps == pytest.approx(600.0)
    assert does_not.refusal.outcome == "no path"


async def test_what_is_hidden_answers_as_what_does_not_exist(agent: Agent) -> None:
    source, _ = await agent.ends()
    body = pb.EvaluateAsk(
        segments=[
            pb.SegmentAsk(source=source, target=target, mode="current")
            for target in ("transport/b", "transport/never-was")
        ]
    )

    hidden, unknown = (await agent.jobs.evaluate(agent.ask(), body)).segments

    assert hidden.refusal.outcome == unknown.refusal.outcome == "not shared"
    assert hidden.refusal.reason.replace("b", "") == unknown.refusal.reason.replace("never-was", "").replace(
        "b", ""
    )


async def test_a_share_that_is_kept_is_accepted_and_one_that_is_not_says_what_would_be(agent: Agent) -> None:
    source, target = await agent.ends()
    segments = [pb.SegmentAsk(source=source, target=target, mode="current")]

    kept = await agent.jobs.budget(agent.ask(), pb.BudgetAsk(service_id="s", segments=segments, share_ms=4.5))
    assert agent.jobs.findings() == []
    missed = await agent.jobs.budget(
        agent.ask(), pb.BudgetAsk(service_id="s", segments=segments, share_ms=3.0)
    )

    assert kept.accepted
    assert not missed.accepted
    assert missed.least_ms == pytest.approx(4.0)
    (finding,) = agent.jobs.findings()
    assert (finding.code, finding.element) == ("budget.missed", "s")


async def test_a_share_of_what_is_not_there_is_declined(agent: Agent) -> None:
    source, _ = await agent.ends()
    segments = [pb.SegmentAsk(source=source, target="transport/nowhere", mode="current")]

    answer = await agent.jobs.budget(
        agent.ask(), pb.BudgetAsk(service_id="s", segments=segments, share_ms=9.0)
    )

    assert not answer.accepted
    assert math.isinf(answer.least_ms)


async def test_a_change_is_sent_by_itself_and_no_change_is_not(agent: Agent) -> None:
    source, target = await agent.ends()
    running = asyncio.create_task(agent.publisher.run())
    agent.publisher.notify(urgent=False)
    await asyncio.sleep(0.1)
    assert agent.sent == []

    agent.network = replace(line(3.0), version=Version("e", 2))
    agent.publisher.notify(urgent=False)
    async with asyncio.timeout(10):
        await agent.news.wait()
    running.cancel()

    (delta,) = agent.sent
    changed = {(s.source, s.target): s.current for s in delta.segments}
    current = changed[(source, target)]
    assert current is not None
    assert current.delay_ms == pytest.approx(6.0)


async def test_figures_alone_gather_and_anything_else_takes_them_along() -> None:
    agent = Agent(figures_interval_s=3600.0)
    await agent.ends()
    running = asyncio.create_task(agent.publisher.run())
    for number, delay_ms in enumerate((3.0, 4.0), start=2):
        agent.network = replace(line(delay_ms), version=Version("e", number))
        agent.publisher.notify(urgent=False)
        await asyncio.sleep(0.2)
    assert len(agent.sent) == 1

    agent.news.clear()
    agent.publisher.notify(urgent=True)
    async with asyncio.timeout(10):
        await agent.news.wait()
    running.cancel()

    assert {s.current.delay_ms for s in agent.sent[1].segments if s.current} == {8.0}


async def test_nothing_is_sent_after_an_agreement_has_expired() -> None:
    agent = Agent(expires_at=101 * SECOND)
    await agent.ends()
    running = asyncio.create_task(agent.publisher.run())
    agent.now = 102 * SECOND
    agent.network = replace(line(3.0), version=Version("e", 2))
    agent.publisher.notify(urgent=False)
    await asyncio.sleep(0.1)
    running.cancel()

    assert agent.sent == []
    with pytest.raises(NotShared, match="expired"):
        await agent.jobs.view(agent.ask(), Level.MESH, None)
