"""Watchers see events in order, or are told what they missed."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from domain_twin.model import Event, EventKind
from federation.wire.event_log import EventLog, Subscription


async def read(subscription: Subscription, count: int) -> list[Event]:
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(count)]


async def test_events_arrive_in_order_with_growing_ids() -> None:
    log = EventLog()
    with log.subscribe() as subscription:
        sent = [log.publish(EventKind.VIEW, str(i), domain="ran") for i in range(5)]
        assert await read(subscription, 5) == sent
    assert [event.id for event in sent] == list(range(sent[0].id, sent[0].id + 5))


async def test_a_watcher_that_waits_is_woken() -> None:
    log = EventLog()
    subscription = log.subscribe()
    waiting = asyncio.create_task(read(subscription, 1))
    await asyncio.sleep(0)
    sent = log.publish(EventKind.DOMAIN, "ran joined", domain="ran")
    assert await waiting == [sent]


async def test_kinds_and_domain_are_filtered() -> None:
    log = EventLog()
    subscription = log.subscribe(kinds=[EventKind.DOMAIN], domain="ran")
    log.publish(EventKind.VIEW, "", domain="ran")
    log.publish(EventKind.DOMAIN, "", domain="core")
    wanted = log.publish(EventKind.DOMAIN, "", domain="ran")
    assert await read(subscription, 1) == [wanted]


async def test_a_slow_watcher_gets_one_gap_and_bounded_memory() -> None:
    log = EventLog()
    slow = log.subscribe(capacity=10)
    sent = [log.publish(EventKind.VIEW, str(i)) for i in range(1000)]
    events = await read(slow, 11)
    assert events[0].kind is EventKind.GAP
    assert "990 events" in events[0].text
    assert events[0].id == sent[989].id
    assert events[1:] == sent[990:]


async def test_a_watcher_resumes_after_the_last_event_it_saw() -> None:
    log = EventLog()
    sent = [log.publish(EventKind.VIEW, str(i)) for i in range(5)]
    assert await read(log.subscribe(after=sent[1].id), 3) == sent[2:]


async def test_resuming_from_before_the_ring_begins_with_a_gap() -> None:
    log = EventLog(capacity=3)
    sent = [log.publish(EventKind.VIEW, str(i)) for i in range(5)]
    events = await read(log.subscribe(after=sent[0].id), 4)
    assert events[0].kind is EventKind.GAP
    assert events[1:] == sent[2:]


async def test_resuming_exactly_at_the_ring_has_no_gap() -> None:
    log = EventLog(capacity=3)
    sent = [log.publish(EventKind.VIEW, str(i)) for i in range(5)]
    assert await read(log.subscribe(after=sent[1].id), 3) == sent[2:]


async def test_resuming_over_a_restart_begins_with_a_gap() -> None:
    before = EventLog(clock=lambda: 5_000_000)
    seen = before.publish(EventKind.VIEW, "old")
    after = EventLog(last_id=seen.id + 3, clock=lambda: 1)  # the clock went back over the restart
    sent = after.publish(EventKind.VIEW, "new")
    assert sent.id > seen.id
    events = await read(after.subscribe(after=seen.id), 2)
    assert (events[0].kind, events[1]) == (EventKind.GAP, sent)


async def test_closing_ends_the_iteration_after_what_is_queued() -> None:
    log = EventLog()
    subscription = log.subscribe()
    log.publish(EventKind.VIEW, "last")
    log.close()
    assert [event.text async for event in subscription] == ["last"]
    assert log.watchers == 0


@given(
    published=st.integers(0, 40),
    reads=st.lists(st.integers(0, 8), max_size=10),
    capacity=st.integers(1, 8),
)
async def test_every_event_is_either_seen_or_lies_in_a_gap(
    published: int, reads: list[int], capacity: int
) -> None:
    # Arrange: publish and read in turns
    log = EventLog()
    first = log.last_id
    subscription = log.subscribe(capacity=capacity)
    seen: list[Event] = []
    per_turn = published // max(1, len(reads))
    for count in reads:
        for _ in range(per_turn):
            log.publish(EventKind.VIEW, "")
        for _ in range(count):
            if subscription._missed or subscription._queue:
                seen.append(await anext(subscription))
    log.close()
    # Act
    seen += [event async for event in subscription]
    # Assert: without gaps the ids are dense, a gap covers exactly the ids up to its own
    at = first
    for event in seen:
        assert event.id > at
        if event.kind is not EventKind.GAP:
            assert event.id == at + 1
        at = event.id
    assert at == log.last_id
