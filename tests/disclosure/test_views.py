from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_domains import border, both_ways, kpis, link_id, network, networks, published_of, with_link
from test_abstraction import EDITS, changed

from domain_twin.disclosure import (
    EXACT,
    FIGURES,
    Action,
    Grant,
    Precision,
    ViewBuilder,
    abstract,
)
from domain_twin.errors import StaleVersion
from domain_twin.model import Level, Network, View, ViewDelta
from domain_twin.model.delta import apply, fold, snapshot


def grant(level: Level = Level.MESH, precision: Precision = EXACT) -> Grant:
    return Grant("partner", Action.VIEW, level, FIGURES, precision, 100.0)


def builder_of(level: Level = Level.MESH, published: dict[str, str] | None = None, **options) -> ViewBuilder:
    precision = options.pop("precision", EXACT)
    return ViewBuilder(
        grant(level, precision),
        published=published or {},
        risk_salt=b"s",
        epoch=options.pop("epoch", "e1"),
        **options,
    )


def row(length: int = 3) -> Network:
    names = [f"n{i}" for i in range(length)]
    links = [item for a, b in pairwise(names) for item in both_ways(a, b)]
    ends = [border(names[0], "urn:ndt:idl:aaaa", "ran"), border(names[-1], "urn:ndt:idl:bbbb", "core")]
    return network(links, borders=ends)


def test_the_first_delta_is_a_snapshot_and_the_next_only_what_changed():
    builder = builder_of()

    first = builder.update(row(), now=0)
    second = builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(2.0)), now=1)

    assert first is not None
    assert (first.source, len(first.points), len(first.segments)) == (None, 2, 2)
    assert second is not None
    assert second.source == first.target
    assert [(s.source, s.target) for s in second.segments] == [("transport/idl-aaaa", "transport/idl-bbbb")]
    assert second.points == ()


def test_what_a_peer_cannot_see_makes_no_delta_and_no_version():
    builder = builder_of(precision=Precision(delay_ms=1.0))
    builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(0.50)), now=0)

    hidden = builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(0.51)), now=1)

    assert hidden is None
    assert builder.view is not None
    assert builder.view.version.sequence == 1


def test_a_gap_is_refused():
    builder = builder_of()
    view = apply(None, builder.update(row(), now=0))
    for delay in (2.0, 3.0):
        delta = builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(delay)), now=1)

    with pytest.raises(StaleVersion, match=r"at e1/1, and its delta starts from e1/2"):
        apply(view, delta)
    with pytest.raises(StaleVersion, match="nothing"):
        apply(None, delta)


def test_another_epoch_is_a_gap_even_at_the_same_sequence():
    old, new = builder_of(epoch="e1"), builder_of(epoch="e2")
    view = apply(None, old.update(row(), now=0))
    new.update(row(), now=0)
    delta = new.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(2.0)), now=1)

    with pytest.raises(StaleVersion):
        apply(view, delta)
    assert [d.source for d in new.resume(view.version)] == [None]


def test_a_break_longer_than_the_ring_gets_a_snapshot():
    builder = builder_of(ring=2)
    view = apply(None, builder.update(row(), now=0))
    for step in range(4):
        builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(2.0 + step)), now=1)
    assert builder.view is not None

    missing = builder.resume(view.version)
    short = builder.resume(replace(view.version, sequence=3))

    assert [delta.source for delta in missing] == [None]
    assert [delta.target.sequence for delta in short] == [4, 5]
    assert builder.resume(builder.view.version) == []
    assert [delta.source for delta in builder.resume(None)] == [None]


def test_the_ring_holds_no_more_than_a_few_views_however_many_figures_change():
    names = [f"n{i}" for i in range(20)]
    links = [item for a, b in pairwise(names) for item in both_ways(a, b)]
    domain = network(links, borders=[border(name, f"urn:ndt:idl:{name}", "ran") for name in names])
    builder = builder_of()
    views = [apply(None, builder.update(domain, now=0))]
    for step in range(40):
        found = with_link(domain, link_id("n9", "n10"), kpis=kpis(2.0 + step))
        views.append(apply(views[-1], builder.update(found, now=1)))
    size = len(views[-1].points) + len(views[-1].segments)

    answers = [builder.resume(view.version) for view in views]

    held = [deltas for deltas in answers if deltas and deltas[0].source is not None]
    assert 5 < len(held) < 40
    assert 3 * size < max(sum(len(delta.segments) for delta in deltas) for deltas in held) <= 4 * size
    for view, deltas in zip(views, answers, strict=True):
        for delta in deltas:
            view = apply(view, delta)  # noqa: PLW2901
        assert view == views[-1]


def test_before_the_first_network_there_is_nothing_to_resume():
    assert builder_of().resume(None) == []


def test_folding_what_does_not_follow_is_refused():
    builder = builder_of()
    deltas = [
        builder.update(with_link(row(), link_id("n0", "n1"), kpis=kpis(2.0 + i)), now=i) for i in range(3)
    ]

    with pytest.raises(StaleVersion):
        fold([deltas[0], deltas[2]])


def test_a_large_domain_searches_at_a_bounded_rate_and_says_when():
    builder = ViewBuilder(grant(), published={}, risk_salt=b"s", epoch="e", search_interval_ns=100)
    long = row(2_100)
    builder.update(long, now=0)

    builder.update(with_link(long, link_id("n0", "n1"), kpis=kpis(2.0)), now=50)
    put_off = builder.due_at
    builder.update(with_link(long, link_id("n0", "n1"), kpis=kpis(2.0)), now=100)

    assert put_off == 100
    assert builder.due_at is None


class Following(RuleBasedStateMachine):
    """Peers that get every delta, folded deltas, or come back after a break, against views made afresh."""

    @initialize(found=networks(), level=st.sampled_from(list(Level)), exact=st.booleans())
    def start(self, found: Network, level: Level, exact: bool) -> None:
        self.network = found
        self.level = level
        self.precision = EXACT if exact else Precision(0.5, 100.0, 0.01)
        self.published = published_of(found)
        self.builder = builder_of(level, self.published, precision=self.precision, ring=4)
        self.now = 0
        self.follower: View | None = None
        self.lagging: View | None = None
        self.queue: list[ViewDelta] = []
        self._built()

    def _built(self) -> None:
        self.now += 1
        delta = self.builder.update(self.network, now=self.now)
        if delta is not None:
            self.follower = apply(self.follower, delta)
            self.queue.append(delta)

    @rule(
        which=st.integers(0, 99),
        what=st.sampled_from(EDITS),
        value=st.sampled_from([0.1, 0.9, 3.3]),
    )
    def change(self, which: int, what: str, value: float) -> None:
        self.network = changed(self.network, which, what, value)
        self._built()

    @rule(found=networks())
    def replace_everything(self, found: Network) -> None:
        self.network = found
        self._built()

    @precondition(lambda self: self.queue)
    @rule()
    def catch_up_by_folding(self) -> None:
        self.lagging = apply(self.lagging, fold(self.queue))
        self.queue = []

    @rule()
    def catch_up_by_resuming(self) -> None:
        for delta in self.builder.resume(self.lagging.version if self.lagging else None):
            self.lagging = apply(self.lagging, delta)
        self.queue = []
        assert self.lagging == self.follower

    @invariant()
    def followers_have_what_a_fresh_view_says(self) -> None:
        assert self.builder.view is not None
        assert self.follower == self.builder.view
        assert apply(None, snapshot(self.builder.view)) == self.builder.view
        fresh = abstract(
            self.network,
            level=self.level,
            published=self.published,
            agreement="partner",
            precision=self.precision,
            risk_salt=b"s",
        )
        assert replace(fresh, version=self.follower.version) == self.follower
        if not self.queue:
            assert self.lagging is None or self.lagging == self.follower


Following.TestCase.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
TestFollowing = Following.TestCase
