"""Following all records: the state, then news, in order; what a read model holds is what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_parts import ORDER, RESOURCE, SERVICE, TENANTS, opened, state, take

from federation.partners import following as following_module
from federation.partners import wire
from federation.partners.following import Changes
from federation.partners.record import PUBLIC, News, Record
from federation.partners.store import RecordStore


def held_by(store: RecordStore) -> dict[tuple[str, str, str], Record]:
    return {
        (record.tenant, record.kind, record.id): record
        for tenant in (PUBLIC, *TENANTS)
        for kind in (ORDER, SERVICE, RESOURCE)
        for record in store.of(tenant).list(kind)
        if record.tenant == tenant
    }


async def up_to(following: Any, held: dict[Any, Record], sequence: int) -> News:
    async with asyncio.timeout(30):
        async for news in following:
            if news.begins_anew:
                held.clear()
            take(held, news)
            if news.complete and news.sequence >= sequence:
                return news
    raise AssertionError("following ended")


async def test_sends_the_state_then_news_of_all_tenants(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, globex = store.of("acme"), store.of("globex")
        order = await acme.create(ORDER, {"state": "acknowledged"})
        await store.of(PUBLIC).create(SERVICE, {"id": "public"})
        acme.show(RESOURCE, {"r": {"n": 1}})
        # Act
        following = store.follow()
        held, news = await state(following)
        assert held == held_by(store)
        assert (news.begins_anew, news.epoch, news.sequence) == (True, store.epoch, store.sequence)
        changed = await acme.update(order, {**order.body, "state": "completed"})
        acme.show(RESOURCE, {"r": {"n": 2}})
        service = await globex.create(SERVICE, {})
        await acme.remove(changed)
        # Assert
        await up_to(following, held, store.sequence)
        assert held == held_by(store)
        assert ("globex", SERVICE, service.id) in held
        assert (await anext(following)).at > 0  # nothing happens, and that is said
        await following.aclose()
        assert store.followers == 0


async def test_goes_on_after_what_was_seen(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        await acme.create(ORDER, {})
        following = store.follow()
        held, news = await state(following)
        await following.aclose()
        second = await acme.create(ORDER, {})
        # Act
        again = store.follow(news.sequence, news.epoch)
        first_news = await anext(again)
        last = await up_to(again, held, second.sequence)
        # Assert
        assert not first_news.begins_anew
        assert last.records == (second,)
        await again.aclose()
        nothing_new = store.follow(last.sequence, last.epoch)
        assert (await anext(nothing_new)).complete
        await nothing_new.aclose()


@pytest.mark.parametrize("odd", ["epoch", "ahead", "too-old"])
async def test_begins_anew_where_it_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(following_module, "MAX_KEPT", 5)
    async with opened(f"sqlite:///{tmp_path}/p.sqlite3") as store:
        before = store.sequence
        for _ in range(20):
            await store.of("acme").create(ORDER, {})
        after, epoch = {
            "epoch": (store.sequence, "another.1"),
            "ahead": (store.sequence + 1, store.epoch),
            "too-old": (before, store.epoch),
        }[odd]
        following = store.follow(after, epoch)
        news = await anext(following)
        assert news.begins_anew
        assert len(news.records) == 20
        await following.aclose()
        on = store.follow(store.of("acme").list(ORDER)[5].sequence, store.epoch)
        await anext(on)
        assert len((await anext(on)).records) == 5
        await on.aclose()


async def test_after_a_restart_all_is_sent_and_no_sequence_is_old(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.of("acme").create(ORDER, {})
        store.of("acme").show(RESOURCE, {"r": {"n": 1}, "s": {"n": 1}})
        following = store.follow()
        _, news = await state(following)
        await following.aclose()
    async with opened(database_url) as again:
        following = again.follow(news.sequence, news.epoch)
        anew = await anext(following)
        assert anew.begins_anew
        assert [record.kind for record in anew.records] == [ORDER]
        assert anew.sequence > news.sequence
        await following.aclose()


async def test_a_slow_follower_is_told_to_begin_anew_and_costs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_module, "MAX_WAITING", 50)
    async with opened(f"sqlite:///{tmp_path}/p.sqlite3") as store:
        acme = store.of("acme")
        slow = store.follow()
        held, _ = await state(slow)
        await asyncio.gather(*(acme.create(ORDER, {"n": n}) for n in range(200)))
        (follower,) = store._changes._followers
        assert len(follower.waiting) <= 50
        # Act
        news = await up_to(slow, held, store.sequence)
        # Assert
        assert held == held_by(store)
        assert news.sequence == store.sequence
        order = await acme.create(ORDER, {})
        assert (await up_to(slow, held, order.sequence)).records == (order,)
        await slow.aclose()


async def test_news_come_in_order_also_while_a_transaction_runs(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, told = store.of("acme"), list[int]()
        following = store.follow()
        held, _ = await state(following)

        async def write(worker: int) -> None:
            for number in range(10):
                order = await acme.create(ORDER, {"worker": worker, "number": number})
                await acme.update(order, {**order.body, "state": "completed"})

        async def show() -> None:
            for number in range(60):
                acme.show(RESOURCE, {"r": {"n": number}, f"x{number % 7}": {"n": number}})
                await asyncio.sleep(0.002)

        async def read() -> None:
            async for news in following:
                told.extend(record.sequence for record in news.records)
                take(held, news)
                if ended and news.sequence >= ended[0]:
                    return

        ended: list[int] = []
        reading = asyncio.create_task(read())
        await asyncio.gather(*(write(worker) for worker in range(4)), show())
        ended.append((await acme.create(ORDER, {})).sequence)
        async with asyncio.timeout(30):
            await reading
        assert told == sorted(set(told))
        assert held == held_by(store)
        await following.aclose()


CHANGES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["put", "drop"]), st.integers(0, 3)), max_size=60
)


@settings(max_examples=25)
@given(CHANGES, st.lists(st.integers(0, 60), max_size=4), st.integers(2, 10))
async def test_whatever_happens_when_a_follower_ends_with_what_there_is(
    changes: list[tuple[str, str, int]], breaks: list[int], room: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following_module, "MAX_WAITING", room)
        patch.setattr(following_module, "MAX_KEPT", room)
        patch.setattr(following_module, "BATCH", 3)
        kept: dict[str, Record] = {}
        source = Changes("e", 0, lambda: list(kept.values()))
        held: dict[tuple[str, str, str], Record] = {}
        after, epoch, following = 0, "", source.follow()
        for sequence, (name, what, number) in enumerate(changes, 1):
            if sequence in breaks:  # the connection is lost, after some of what waited was read
                after, epoch = await _some(following, held, after, epoch)
                await following.aclose()
                following = source.follow(after, epoch)
            record = Record("acme", ORDER, name, sequence, sequence, {"id": name, "n": number}, 0)
            if what == "put":
                kept[name] = record
            elif kept.pop(name, None):
                record = Record("acme", ORDER, name, sequence, sequence, {}, 0)
            else:
                continue
            source.publish([record])
        while (await _one(following, held)).sequence < source.sequence:
            pass
        assert {name[2]: record for name, record in held.items()} == kept
        await following.aclose()


async def test_what_was_found_to_be_written_only_later_is_missed_by_nobody() -> None:
    """A transaction whose end was not known: later changes were told before its own."""
    kept = {name: Record("acme", ORDER, name, 1, at, {"id": name}, 0) for name, at in (("late", 3), ("b", 5))}
    source = Changes("e", 2, lambda: list(kept.values()))
    source.publish([kept["b"]])
    source.publish([kept["late"]])
    kept["c"] = Record("acme", ORDER, "c", 1, 6, {"id": "c"}, 0)
    source.publish([kept["c"]])

    following, newest = source.follow(5, "e"), source.follow(6, "e")  # as they were told last
    held: dict[tuple[str, str, str], Record] = {}
    assert (await _one(following, held)).sequence == source.sequence == 6
    assert not (await _one(newest, {})).begins_anew
    await following.aclose()
    await newest.aclose()

    assert {name[2] for name in held} == {"late", "b", "c"}


async def _some(following: Any, held: Any, after: int, epoch: str) -> tuple[int, str]:
    news = await _one(following, held)
    return (news.sequence, news.epoch) if news.complete else (0, "")


TWO = frozenset({"acme", "globex"})


async def _one(following: Any, held: Any) -> News:
    news: News = await anext(following)
    if news.begins_anew:
        held.clear()
    take(held, news)
    return news


def test_news_travel_in_messages_of_a_bounded_size() -> None:
    records = tuple(
        Record("acme", ORDER, f"o{n}", 1, n + 1, {"id": f"o{n}", "x": "y" * 300_000}, 5) for n in range(9)
    )
    gone = Record("acme", ORDER, "o9", 2, 10, {}, 5)
    news = News((*records, gone), epoch="e", sequence=10, complete=True, begins_anew=True, at=7, tenants=TWO)
    messages = list(wire.encode_news(news))
    parts = [wire.decode_news(message) for message in messages]
    assert len(messages) == 3
    assert max(message.ByteSize() for message in messages) < wire.MESSAGE_BYTES + 400_000
    assert [part.begins_anew for part in parts] == [True, False, False]
    assert [part.tenants for part in parts] == [TWO, None, None]
    assert [part.complete for part in parts] == [False, False, True]
    assert [part.sequence for part in parts] == [0, 0, 10]
    assert tuple(record for part in parts for record in part.records) == news.records
