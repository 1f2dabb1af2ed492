"""Views kept from steps, and what the registry makes of restarts and expired agreements."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federation_parts import OPERATORS, Federation, three_domains
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import ContractError, IdentityMismatch, NotShared, StaleVersion
from domain_twin.model import (
    DomainStatus,
    Level,
    PathKpis,
    Point,
    PointKind,
    Segment,
    Version,
    View,
    ViewDelta,
)
from domain_twin.model.delta import apply, snapshot
from domain_twin.trust.identity import Role, SpiffeId
from federation.events import FindingBoard, event_log
from federation.registry import Registry, _structural
from federation.session import AgentHello
from federation.storage import Restored, Storage

names = st.sampled_from(["ran/a", "ran/b", "ran/c", "ran/d"])
kpis = st.builds(PathKpis, delay_ms=st.sampled_from([1.0, 2.0]), metric=st.sampled_from([1, 2]))
points = st.builds(Point, id=names, domain=st.just("ran"), kind=st.just(PointKind.ENDPOINT), up=st.booleans())
segments = st.builds(Segment, source=names, target=names, current=st.none() | kpis)
contents = st.tuples(st.lists(points, max_size=4), st.lists(segments, max_size=4))
steps = st.builds(
    lambda new, gone, gone_pairs: (new, gone, gone_pairs),
    contents,
    st.lists(names, max_size=2),
    st.lists(st.tuples(names, names), max_size=2),
)


def delta(number: int, step: Any, *, complete: bool = False) -> ViewDelta:
    (new_points, new_segments), gone_points, gone_segments = step
    return ViewDelta(
        "ran",
        "a",
        Level.MESH,
        None if complete else Version("e", number - 1),
        Version("e", number),
        tuple(new_points),
        tuple(new_segments),
        () if complete else tuple(gone_points),
        () if complete else tuple(gone_segments),
    )


@given(contents, steps)
def test_what_a_step_does_not_name_stays_the_same_object(start: Any, step: Any) -> None:
    before = apply(None, delta(0, (start, [], []), complete=True))
    change = delta(1, step)
    after = apply(before, change)
    named = {point.id for point in change.points}
    assert all(after.points[name] is before.points[name] for name in after.points.keys() - named)


A_TO_B = Segment("ran/a", "ran/b", PathKpis(1.0, metric=5))
BORDER = Point("ran/x", "ran", PointKind.BORDER, link_id="l", metric=3, outbound=PathKpis(0.1))


@pytest.mark.parametrize(
    ("points", "segments", "structural"),
    [
        ([], [replace(A_TO_B, current=PathKpis(9.0, metric=5))], False),
        ([], [replace(A_TO_B, current=PathKpis(1.0, metric=6))], True),
        ([], [replace(A_TO_B, current=None)], True),
        ([], [replace(A_TO_B, target="ran/c")], True),
        ([replace(BORDER, outbound=PathKpis(7.0))], [], False),
        ([replace(BORDER, outbound=None)], [], True),
        ([replace(BORDER, up=False)], [], True),
        ([replace(BORDER, metric=4)], [], True),
        ([replace(BORDER, id="ran/y")], [], True),
    ],
)
def test_figures_alone_are_not_structural(
    points: list[Point], segments: list[Segment], structural: bool
) -> None:
    before = apply(None, delta(0, (([BORDER], [A_TO_B]), [], []), complete=True))
    assert _structural(before, delta(1, ((points, segments), [], []))) is structural


@pytest.mark.parametrize("source", [Version("e", 3), Version("other", 5), Version("e", 6)])
def test_a_gap_is_not_bridged(source: Version) -> None:
    view = View("ran", "a", Level.MESH, Version("e", 5), {}, {})
    step = replace(delta(6, (([], []), [], [])), source=source)
    with pytest.raises(StaleVersion, match="is at e/5"):
        apply(view, step)
    with pytest.raises(StaleVersion, match="is at nothing"):
        apply(None, step)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    store, _ = await Storage.open(tmp_path / "state")
    yield store
    await store.close()


def never(work: Coroutine[Any, Any, None]) -> Any:
    work.close()


def registry(federation: Federation, storage: Storage, restored: Restored) -> Registry:
    events = event_log(storage, restored)
    return Registry(
        federation.broker_config(),
        events=events,
        findings=FindingBoard(events, storage),
        storage=storage,
        restored=restored,
        spawn=never,
    )


async def test_what_was_stored_is_shown_stale(tmp_path: Path, storage: Storage) -> None:
    view = three_domains()["ran"].view_now
    status = DomainStatus("ran", "northcell.example", True, Level.MESH, view.version, 7, peer="spiffe://x")
    restored = Restored(domains=(status,), views=((view, 7, 0),))
    here = registry(Federation.make(tmp_path), storage, restored)
    found = here.status("ran")
    assert found
    assert (found.connected, found.received_at, found.points) == (False, 7, 2)
    assert found.version == view.version
    stale = here.view("ran")
    assert stale
    assert all(point.stale for point in stale.points.values())
    assert here.status("moon") is None
    assert here.view("moon") is None


async def test_a_stored_view_whose_agreement_ended_is_deleted(tmp_path: Path, storage: Storage) -> None:
    domains = three_domains()
    now = time.time_ns()
    restored = Restored(
        views=(
            (domains["ran"].view_now, 7, now - 1),
            (domains["edge"].view_now, 7, now + 3_600_000_000_000),
            (replace(domains["edge"].view_now, domain="left-the-federation"), 7, 0),
        )
    )
    for view, received_at, expires_at in restored.views:
        storage.save_view(view, received_at, expires_at)
    here = registry(Federation.make(tmp_path), storage, restored)
    await storage.close()
    again, kept = await Storage.open(tmp_path / "state")
    await again.close()
    assert here.view("ran") is None
    assert [view.domain for view, _, _ in kept.views] == ["edge"]


async def test_members_alone_are_admitted_and_only_with_their_own_operator(
    tmp_path: Path, storage: Storage
) -> None:
    here = registry(Federation.make(tmp_path), storage, Restored())
    hello = AgentHello("ran", "i", 1, 1, "test")
    here.admit(SpiffeId(OPERATORS["ran"], Role.AGENT, "ran"), "ran", hello)
    with pytest.raises(NotShared, match="no member"):
        here.admit(SpiffeId(OPERATORS["ran"], Role.AGENT, "moon"), "moon", hello)
    with pytest.raises(IdentityMismatch, match=r"belongs to northcell\.example"):
        here.admit(SpiffeId(OPERATORS["edge"], Role.AGENT, "ran"), "ran", hello)


async def test_a_view_whose_agreement_has_ended_is_refused(tmp_path: Path, storage: Storage) -> None:
    here = registry(Federation.make(tmp_path), storage, Restored())
    held = here._domains["ran"]
    view = three_domains()["ran"].view_now

    with pytest.raises(ContractError, match=r"agreement 'a', which has ended; set the clocks"):
        here._accept(held, replace(snapshot(view), expires_at=time.time_ns() - 1))
    assert here._accept(held, replace(snapshot(view), expires_at=time.time_ns() + 10**12)).expires_at
