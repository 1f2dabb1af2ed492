"""A peer with a legitimate agreement that tries to learn more than it grants. Each attempt is a test."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_domains import border, both_ways, function, host, kpis, network, networks

from domain_twin.agent.jobs import Jobs
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Action, Agreement, Grant, RateLimiter, decide
from domain_twin.disclosure.precision import Precision
from domain_twin.disclosure.views import ViewBuilder
from domain_twin.errors import NotShared, OverCapacity, StaleVersion
from domain_twin.model import CARRIED_RATE, DELAY, Level, Network, Version, ViewDelta
from domain_twin.trust.identity import SpiffeId
from federation.v1 import fedtwin_pb2 as pb

SECOND = 1_000_000_000
BROKER = SpiffeId.parse("spiffe://exchange.example/broker/main")
ANN = "spiffe://longhaul.example/user/ann"
STEPS = Precision(delay_ms=0.5, bandwidth_mbps=100.0, loss=1e-3)
ASKS = frozenset({Action.VIEW, Action.DESCRIBE, Action.EVALUATE})


def agreement(**terms: Any) -> Agreement:
    return Agreement(
        **{
            "id": "exchange",
            "subject": str(BROKER),
            "actions": ASKS,
            "precision": STEPS,
            "asks_per_second": 1e6,
            **terms,
        }
    )


def domain(delay: float = 1.03, carried: float = 412.7) -> Network:
    """Two borders, three nodes between; a host that is published, and one that is not."""
    return network(
        [
            *both_ways("a", "b", figures=kpis(delay, carried=carried, loss=0.0004)),
            *both_ways("b", "c", figures=kpis(0.71)),
        ],
        borders=[border("a", "urn:ndt:idl:ran1", "ran"), border("c", "urn:ndt:idl:core", "core")],
        hosts=[host("b")],
        functions=[function("c", "AMF")],
    )


PUBLISHED = {"app": "urn:ndt:transport:b:host"}


class Prober:
    """A peer at the far end, and what the domain is at the moment."""

    def __init__(self, *agreements: Agreement, published: dict[str, str] | None = None) -> None:
        self.network = domain()
        self.now = 100 * SECOND
        self.sent: list[ViewDelta] = []
        self.publisher = Publisher(
            network=lambda: self.network,
            published=PUBLISHED if published is None else published,
            interval_s=0.0,
            figures_interval_s=0.0,
            send=self.sent.append,
            clock=lambda: self.now,
        )
        self.jobs = Jobs(
            domain="transport",
            agreements=agreements or (agreement(),),
            published=PUBLISHED if published is None else published,
            publisher=self.publisher,
            clock=lambda: self.now,
        )

    def asked(self, on_behalf_of: str = "") -> Asked:
        return Asked(1, "", 0, BROKER, on_behalf_of, self.now + SECOND)

    async def view(self, level: Level = Level.MESH, on_behalf_of: str = "") -> ViewDelta:
        (delta,) = await self.jobs.view(self.asked(on_behalf_of), level, None)
        return delta

    async def ask(
        self, source: str, target: str, mode: str = "current", **required: float
    ) -> pb.SegmentAnswer:
        body = pb.EvaluateAsk(
            segments=[
                pb.SegmentAsk(source=source, target=target, mode=mode, requirement=pb.Requirement(**required))
            ]
        )
        answer: pb.SegmentAnswer = (await self.jobs.evaluate(self.asked(), body)).segments[0]
        return answer


BORDER_A, BORDER_C = "transport/idl-ran1", "transport/idl-core"


async def test_a_finer_level_is_refused_at_every_level_below() -> None:
    for granted, finer in (
        (Level.MESH, [Level.NATIVE]),
        (Level.NODE, [Level.MESH, Level.NATIVE]),
    ):
        prober = Prober(agreement(level=granted))
        for level in finer:
            with pytest.raises(NotShared):
                await prober.view(level)
        assert (await prober.view(granted)).level is granted


async def test_guessed_names_of_every_kind_answer_like_names_that_never_were() -> None:
    prober = Prober()
    await prober.view()
    guesses = [
        "transport/a",
        "transport/b",  # nodes
        "urn:ndt:transport:b:host",
        "transport/urn:ndt:transport:b:host",  # elements by their own ids
        "transport/b.node",
        "transport/unpublished",
        "urn:ndt:transport:c:nf",
        "core/upf-1",  # another domain's alias
    ]
    for guess in guesses:
        never = "z" * len(guess)
        for pair in ((BORDER_A, guess), (guess, BORDER_A)):
            real = await prober.ask(*pair)
            other = await prober.ask(*(never if name == guess else name for name in pair))

            assert real.refusal.outcome == other.refusal.outcome == "not shared"
            assert real.refusal.reason.replace(guess, never) == other.refusal.reason
            assert real.ByteSize() == other.ByteSize()


async def test_an_alias_of_nothing_answers_like_a_name_that_never_was() -> None:
    prober = Prober(published={**PUBLISHED, "planned": "urn:ndt:transport:nowhere"})
    await prober.view()

    planned = await prober.ask(BORDER_A, "transport/planned")
    never = await prober.ask(BORDER_A, "transport/neverxx")

    assert planned.ByteSize() == never.ByteSize()
    assert planned.refusal.outcome == never.refusal.outcome


async def test_asking_often_gives_the_same_figures_every_time() -> None:
    prober = Prober()
    await prober.view()

    told = {(await prober.ask(BORDER_A, BORDER_C)).SerializeToString() for _ in range(200)}

    assert len(told) == 1


async def test_views_asked_for_anew_do_not_average_out() -> None:
    figures = set()
    for _ in range(20):
        prober = Prober()
        figures |= {
            (s.source, s.target, s.current.delay_ms) for s in (await prober.view()).segments if s.current
        }

    assert len(figures) == 6  # of six ordered pairs one figure each


async def test_searching_for_a_bound_finds_nothing_finer_than_the_steps() -> None:
    """Bisecting on what is required: the answer turns at the disclosed figure, not at the real one."""
    for real_carried in (401.0, 412.7, 499.9):
        prober = Prober()
        prober.network = domain(carried=real_carried)
        await prober.view()
        low, high = 0.0, 2000.0
        for _ in range(40):
            middle = (low + high) / 2
            answer = await prober.ask(BORDER_A, BORDER_C, "best", bandwidth_mbps=middle)
            low, high = (middle, high) if answer.HasField("kpis") else (low, middle)

        assert low == pytest.approx(500.0, abs=1e-6)  # 1000 - carried, rounded down to 100


async def test_searching_for_a_delay_or_a_loss_finds_nothing_finer_either() -> None:
    found = set()
    for delay in (1.0301, 1.11, 1.28):
        prober = Prober()
        prober.network = domain(delay=delay)
        await prober.view()
        low, high = 0.0, 64.0
        for _ in range(40):
            middle = (low + high) / 2
            answer = await prober.ask(BORDER_A, BORDER_C, "current", delay_ms=middle)
            low, high = (low, middle) if answer.HasField("kpis") else (middle, high)
        found.add(round(high, 6))

    assert found == {2.0}


async def test_a_budget_tells_no_more_than_the_view() -> None:
    told = set()
    for delay in (1.0301, 1.11, 1.28):
        prober = Prober()
        prober.network = domain(delay=delay)
        await prober.view()
        body = pb.BudgetAsk(
            service_id="s", segments=[pb.SegmentAsk(source=BORDER_A, target=BORDER_C, mode="current")]
        )
        told.add((await prober.jobs.budget(prober.asked(), body)).SerializeToString())

    assert len(told) == 1


async def test_made_up_services_cost_no_memory_and_no_findings_without_end() -> None:
    prober = Prober()
    await prober.view()
    for number in range(1200):
        segments = [pb.SegmentAsk(source=BORDER_A, target=BORDER_C, mode="current")]
        body = pb.BudgetAsk(service_id=f"made-up-{number}", segments=segments, share_ms=0.1)
        await prober.jobs.budget(prober.asked(), body)

    assert len(prober.jobs.findings()) <= 1000


def grant_of(**terms: Any) -> Grant:
    found = decide([agreement(**terms)], str(BROKER), Action.VIEW, now=0)
    assert isinstance(found, Grant)
    return found


def builder_of(found: Network, **terms: Any) -> ViewBuilder:
    published = {f"ep-{n}": item for n, item in enumerate([*found.hosts, *found.cells])}
    return ViewBuilder(
        grant_of(**terms), published=published, risk_salt=b"s" * 16, epoch=secrets.token_hex(4)
    )


def test_a_change_below_the_steps_is_neither_sent_nor_counted() -> None:
    first = domain(delay=1.03, carried=412.7)
    builder = builder_of(first)
    builder.update(first, now=0)
    assert builder.view
    before = builder.view

    for step, (delay, carried) in enumerate([(1.04, 413.0), (1.06, 444.0), (1.09, 499.0)], start=1):
        quiet = replace(domain(delay, carried), version=Version("device", 1 + step, step * SECOND))
        assert builder.update(quiet, now=step * SECOND) is None

    assert builder.view is before
    assert builder.resume(before.version) == []
    (again,) = builder.resume(None)
    assert again.target == before.version  # neither the sequence nor the time of what was not shown


def test_what_lies_inside_and_on_no_path_makes_no_delta() -> None:
    found = network(
        [*both_ways("a", "b"), *both_ways("b", "c"), *both_ways("b", "dead-end")],
        borders=[border("a", "urn:ndt:idl:ran1", "ran"), border("c", "urn:ndt:idl:core", "core")],
    )
    builder = builder_of(found)
    builder.update(found, now=0)
    (hidden,) = [key for key, item in found.links.items() if item.dest_node.endswith("dead-end")]

    changed = replace(found.links[hidden], kpis=kpis(9.0, carried=999.0))
    quiet = replace(found, links={**found.links, hidden: changed}, version=Version("device", 2))
    assert builder.update(quiet, now=SECOND) is None


@given(networks(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_rounds_to_the_same_view_makes_no_delta(found: Network, rng: Any) -> None:
    """Moving every figure within its step, so that every path still rounds alike, shows nothing to anybody.

    Steps so wide that all sums of a domain lie within one.
    """
    wide = Precision(delay_ms=1000.0, bandwidth_mbps=1e6, loss=1.0)
    builder = builder_of(found, precision=wide)
    builder.update(found, now=0)
    links = {
        key: replace(
            item,
            kpis={
                **item.kpis,
                DELAY: replace(item.kpis[DELAY], value=item.kpis[DELAY].value * rng.uniform(0.5, 2.0)),
                CARRIED_RATE: replace(
                    item.kpis[CARRIED_RATE], value=item.kpis[CARRIED_RATE].value * rng.uniform(0.5, 2.0)
                ),
            },
        )
        for key, item in found.links.items()
    }
    moved = replace(found, links=links, version=Version("device", 2, 5))

    assert builder.update(moved, now=5 * SECOND) is None


async def test_a_forged_partner_never_widens_and_tells_no_terms() -> None:
    mine = agreement(level=Level.MESH)
    anns = agreement(id="ann-secret-terms", subject=ANN, level=Level.NATIVE, precision=Precision())
    expired = agreement(id="bob-secret-terms", subject=f"{ANN[:-3]}bob", expires_at=1)
    prober = Prober(mine, anns, expired)

    with pytest.raises(NotShared):
        await prober.view(Level.NATIVE, on_behalf_of=ANN)
    own = await prober.view()
    relayed = await prober.view(on_behalf_of=ANN)
    nobody = await prober.view(on_behalf_of="spiffe://nobody.example/user/x")
    with pytest.raises(NotShared) as refused:
        await prober.view(on_behalf_of=f"{ANN[:-3]}bob")

    def figures(delta: ViewDelta) -> dict[tuple[str, str], float]:
        return {(s.source, s.target): s.current.delay_ms for s in delta.segments if s.current}

    assert figures(own) == figures(relayed) == figures(nobody)
    assert "secret-terms" not in str(refused.value)
    assert "expired" not in str(refused.value)


def test_naming_partners_does_not_win_more_asks() -> None:
    agreements = [agreement(asks_per_second=5.0)] + [
        agreement(id=f"p{n}", subject=f"{ANN[:-3]}u{n}", asks_per_second=5.0) for n in range(20)
    ]
    limiter = RateLimiter()
    admitted = 0
    for n in range(20):
        for _ in range(5):
            found = decide(agreements, str(BROKER), Action.EVALUATE, now=0, on_behalf_of=f"{ANN[:-3]}u{n}")
            assert isinstance(found, Grant)
            admitted += limiter.admit(found, 0)

    assert admitted == 5


def test_dear_asks_are_paid_off_before_the_next() -> None:
    limiter, found = RateLimiter(), grant_of(asks_per_second=10.0)

    assert limiter.admit(found, 0, cost=50.0)
    assert not limiter.admit(found, 0)
    assert limiter.waiting_s(found) == pytest.approx(4.1)
    assert not limiter.admit(found, 4 * SECOND)
    assert limiter.admit(found, int(4.2 * SECOND))


def test_a_limiter_remembers_a_bounded_number() -> None:
    limiter = RateLimiter(most=10)
    for number in range(100):
        limiter.admit(grant_of(id=f"a{number}"), number)

    assert len(limiter) <= 10


async def test_a_refusal_for_haste_says_when_to_ask_again() -> None:
    prober = Prober(agreement(asks_per_second=10.0))
    await prober.view()  # costs as much as five asks
    for _ in range(5):
        await prober.jobs.describe(prober.asked(), pb.DescribeAsk())
    with pytest.raises(OverCapacity) as refused:
        await prober.jobs.describe(prober.asked(), pb.DescribeAsk())

    assert 0 < refused.value.retry_after_s <= 1


async def test_an_ask_about_too_many_segments_is_refused_before_any_work() -> None:
    prober = Prober()
    await prober.view()
    body = pb.EvaluateAsk(segments=[pb.SegmentAsk(source="x", target="y")] * 5000)

    with pytest.raises(OverCapacity, match="at most 4096"):
        await prober.jobs.evaluate(prober.asked(), body)


async def test_nothing_of_the_inside_is_in_anything_that_leaves() -> None:
    prober = Prober()
    inside = ("urn:ndt:transport", ":to-", "device", "host-", "transport/a'", "transport/b'", "AMF", ":nf")
    answers: list[Any] = [
        await prober.view(),
        await prober.jobs.describe(prober.asked(), pb.DescribeAsk()),
        await prober.ask(BORDER_A, BORDER_C),
        await prober.ask(BORDER_A, "transport/x"),
    ]
    for answer in answers:
        for word in inside:
            assert word not in repr(answer), (word, answer)


async def test_withdrawn_agreements_take_their_views_along() -> None:
    prober = Prober()
    told: list[tuple[str, Level, Exception]] = []
    prober.jobs.on_withdrawn = lambda *what: told.append(what)
    await prober.view()

    prober.jobs.replace_agreements([agreement(asks_per_second=7.0)])
    await prober.view()
    prober.jobs.replace_agreements([])

    assert [type(error) for _, _, error in told] == [StaleVersion, NotShared]
    with pytest.raises(NotShared):
        await prober.ask(BORDER_A, BORDER_C)
    prober.jobs.replace_agreements([agreement()])
    with pytest.raises(NotShared, match="ask for one first"):  # no view of the time before is left
        await prober.ask(BORDER_A, BORDER_C)


async def test_an_agreement_that_changes_while_its_view_is_made_shows_nothing() -> None:
    prober = Prober()
    real = prober.publisher.open

    async def slow(grant: Grant, resume_from: Version | None) -> list[ViewDelta]:
        deltas = await real(grant, resume_from)
        prober.jobs.replace_agreements([])
        return deltas

    prober.publisher.open = slow  # type: ignore[method-assign]
    with pytest.raises(StaleVersion):
        await prober.view()
    with pytest.raises(NotShared):
        prober.publisher.view("exchange")
